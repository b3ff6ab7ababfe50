//! The step along a gradient: Adam (Kingma and Ba 2015, algorithm 1), after the gradient's norm has been clipped.

/// β₁.
pub const BETA_1: f32 = 0.9;
/// β₂.
pub const BETA_2: f32 = 0.999;
/// ε.
pub const EPSILON: f32 = 1e-8;

/// The moments of gradients.
#[derive(Clone, Debug, PartialEq)]
pub struct Adam {
    /// By parameter, the mean gradient.
    pub means: Vec<f32>,
    /// By parameter, the mean square.
    pub squares: Vec<f32>,
    /// β₁ and β₂ to the power of the steps made.
    pub powers: [f32; 2],
}

impl Adam {
    /// Before the first step.
    pub fn new(parameters: usize) -> Adam {
        Adam { means: vec![0.0; parameters], squares: vec![0.0; parameters], powers: [1.0; 2] }
    }

    /// One step. False, and nothing done, if the gradient is not finite.
    pub fn step(&mut self, parameters: &mut [f32], gradient: &[f32], rate: f32, clip: f32) -> bool {
        let square: f64 = gradient.iter().map(|g| f64::from(*g) * f64::from(*g)).sum();
        let norm = square.sqrt();
        if !norm.is_finite() {
            return false;
        }
        let scale = if norm > f64::from(clip) { (f64::from(clip) / norm) as f32 } else { 1.0 };
        self.powers = [self.powers[0] * BETA_1, self.powers[1] * BETA_2];
        let rate = rate * (1.0 - self.powers[1]).sqrt() / (1.0 - self.powers[0]);
        let moments = self.means.iter_mut().zip(&mut self.squares);
        for ((parameter, gradient), (mean, square)) in parameters.iter_mut().zip(gradient).zip(moments) {
            let gradient = gradient * scale;
            *mean = BETA_1 * *mean + (1.0 - BETA_1) * gradient;
            *square = BETA_2 * *square + (1.0 - BETA_2) * gradient * gradient;
            *parameter -= rate * *mean / (square.sqrt() + EPSILON);
        }
        true
    }

    /// Forgets what is known of a parameter.
    pub fn forget(&mut self, at: usize) {
        (self.means[at], self.squares[at]) = (0.0, 0.0);
    }
}
