//! The control: a multinomial logistic regression on the newest column alone, by horizon.

use super::adam::Adam;
use super::design::Design;
use super::layer::{Affine, Matrix, backward};

/// The control with what is known of its gradients.
#[derive(Clone, Debug)]
pub struct Logistic {
    matrix: Matrix,
    kept: Vec<bool>,
    affine: Affine,
    /// Its parameters, at first 0.
    pub parameters: Vec<f32>,
    /// The moments of its gradients.
    pub adam: Adam,
}

impl Logistic {
    /// Before the first step.
    pub fn new(design: &Design) -> Logistic {
        let (inputs, groups) = (design.slots, design.horizons.len());
        let matrix = Matrix { weights: 0, bias: 4 * inputs * groups, inputs, groups, first: 0 };
        let len = matrix.bias + 4 * groups;
        let mut logistic = Logistic {
            kept: vec![true; matrix.blocks()],
            affine: Affine::default(),
            parameters: vec![0.0; len],
            adam: Adam::new(len),
            matrix,
        };
        logistic.make();
        logistic
    }

    /// Makes what is applied anew: after every change of parameters.
    pub fn make(&mut self) {
        self.affine.make(&self.matrix, &self.parameters, &self.kept);
    }

    /// The logits of a column: four a horizon.
    #[inline]
    pub fn logits(&self, x: &[f32], out: &mut [f32]) {
        self.affine.apply(x, out);
    }

    /// Adds the gradient of one example, of whose logits it is `g`.
    pub fn backward(&self, g: &[f32], x: &[f32], gradient: &mut [f32]) {
        backward(&self.matrix, None, &[], g, &x[..self.matrix.inputs], gradient, &mut []);
    }

    /// A slot has another feature: what was learned of it is forgotten.
    pub fn forget(&mut self, slot: usize) {
        for g in 0..self.matrix.groups {
            for at in self.matrix.block(g * self.matrix.inputs + slot) {
                self.parameters[at] = 0.0;
                self.adam.forget(at);
            }
        }
    }
}
