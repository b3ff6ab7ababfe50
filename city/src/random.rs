//! Sequences of random numbers, each named by a seed and what it is for.

use operators::dispatch::random;

/// A sequence: the same seed and purpose give the same numbers.
#[derive(Clone, Debug)]
pub struct Draws {
    seed: u64,
    purpose: u64,
    next: u64,
}

impl Draws {
    /// The sequence for a purpose.
    pub fn new(seed: u64, purpose: u64) -> Draws {
        Draws { seed, purpose, next: 0 }
    }

    /// Uniform in [0, 1).
    pub fn uniform(&mut self) -> f64 {
        self.next += 1;
        random::uniform(self.seed, self.purpose, self.next)
    }

    /// A whole number below `end`, which is above 0.
    pub fn below(&mut self, end: usize) -> usize {
        ((self.uniform() * end as f64) as usize).min(end - 1)
    }

    /// Standard normal (Box and Muller 1958).
    pub fn normal(&mut self) -> f64 {
        let radius = (-2.0 * libm::log(1.0 - self.uniform())).sqrt();
        radius * libm::cos(std::f64::consts::TAU * self.uniform())
    }

    /// Normal, drawn again until it is in range.
    pub fn truncated_normal(&mut self, mean: f64, sd: f64, low: f64, high: f64) -> f64 {
        loop {
            let value = mean + sd * self.normal();
            if (low..=high).contains(&value) {
                return value;
            }
        }
    }

    /// Exponential with a mean.
    pub fn exponential(&mut self, mean: f64) -> f64 {
        -mean * libm::log(1.0 - self.uniform())
    }

    /// A position, with probability proportional to its weight. The last if the weights sum to nothing.
    pub fn weighted(&mut self, weights: impl Iterator<Item = f64> + Clone) -> usize {
        let mut left = self.uniform() * weights.clone().sum::<f64>();
        let mut last = 0;
        for (at, weight) in weights.enumerate() {
            left -= weight;
            if left < 0.0 {
                return at;
            }
            last = at;
        }
        last
    }
}
