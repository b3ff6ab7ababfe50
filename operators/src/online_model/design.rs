//! The shape of the network and the rules of its learning, as plain numbers that have been checked.

use types::random::{STEP, mix, unit};

use super::labels::Rule;

/// What a model is, and how it learns. The same for every instrument.
#[derive(Clone, Debug, PartialEq)]
pub struct Design {
    /// How many features a vector has.
    pub features: usize,
    /// How many of them the network sees at once.
    pub slots: usize,
    /// How many filters over time each slot has (the depth multiplier): so often it stands in an input column.
    pub filters: usize,
    /// Whether changes say which; else feature i stands in slot i.
    pub is_selected: bool,
    /// After how many vectors a label matures, ascending.
    pub horizons: Vec<usize>,
    /// What a label is.
    pub rule: Rule,
    /// Over how many of the newest columns the last block's output is averaged (L).
    pub window: usize,
    /// Taps of a convolution (k).
    pub kernel: usize,
    /// Block i looks back in strides of `dilation` to the power i.
    pub dilation: usize,
    /// Outputs of a block; a multiple of four.
    pub channels: usize,
    /// How many blocks stand one upon the other.
    pub blocks: usize,
    /// The events after which an observation counts half in means and variances.
    pub half_life: f64,
    /// Examples of a minibatch (B).
    pub batch: usize,
    /// Vectors from one step of learning to the next (E).
    pub train_every: usize,
    /// The step size.
    pub learning_rate: f32,
    /// The greatest norm of a gradient.
    pub clip: f32,
    /// How weights are pruned.
    pub pruning: Pruning,
    /// A trade is entered where the probability of up or down is above this.
    pub trade_probability: f64,
    /// The seed of the initial weights.
    pub seed: u64,
}

/// When and how far weights are pruned; counted in steps of learning.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pruning {
    /// The share of the blocks that are pruned in the end.
    pub sparsity: f64,
    /// The first step with pruning.
    pub after: u64,
    /// The step at which the sparsity is reached.
    pub until: u64,
    /// Steps from one pruning to the next.
    pub every: u64,
    /// The share of the kept blocks that gives way to others at each pruning.
    pub regrow: f64,
}

impl Pruning {
    /// Whether weights are pruned after this step (they are counted from 1), and to what sparsity: it rises as a cubic
    /// (Zhu and Gupta 2017, equation 1).
    pub fn at(&self, step: u64) -> Option<f64> {
        if self.sparsity == 0.0 || step < self.after || (step - self.after) % self.every != 0 {
            return None;
        }
        if step >= self.until {
            return Some(self.sparsity);
        }
        let left = 1.0 - (step - self.after) as f64 / (self.until - self.after) as f64;
        Some(self.sparsity * (1.0 - left * left * left))
    }
}

/// The next multiple of four: columns are padded to whole vector registers.
pub fn lanes(n: usize) -> usize {
    n.div_ceil(4) * 4
}

impl Design {
    /// The stride of a block.
    pub fn stride(&self, block: usize) -> usize {
        self.dilation.pow(block as u32)
    }

    /// How far a block looks back, in columns.
    pub fn reach(&self, block: usize) -> usize {
        (self.kernel - 1) * self.stride(block)
    }

    /// The input columns a prediction depends on: the window and what its oldest column looks back at.
    pub fn span(&self) -> usize {
        self.window + (0..self.blocks).map(|b| self.reach(b)).sum::<usize>()
    }

    /// The longest horizon: an example is learned from when its last label has matured.
    pub fn horizon_max(&self) -> usize {
        *self.horizons.last().expect("at least one")
    }

    /// How many of the newest vectors are kept: all that predictions, labels and the step under way depend on. Whole
    /// chunks of [`CHUNK`].
    pub fn kept(&self) -> usize {
        (self.span() + self.batch + self.horizon_max() + 2 * self.train_every + 1).next_multiple_of(CHUNK)
    }

    /// The lanes of a block's input.
    pub fn input_lanes(&self, block: usize) -> usize {
        lanes(self.inputs(block))
    }

    /// The inputs of a head: the last block's average and newest column, and the slots.
    pub fn head_inputs(&self) -> usize {
        2 * self.channels + self.slots
    }

    /// The real inputs of a block.
    pub fn inputs(&self, block: usize) -> usize {
        if block == 0 { self.slots * self.filters } else { self.channels }
    }
}

/// The vectors that are stored together.
pub const CHUNK: usize = 32;

/// A number in [0, 1) that is a function of the three: splitmix64 over them.
pub fn uniform(seed: u64, stream: u64, index: u64) -> f64 {
    let z = seed ^ stream.wrapping_mul(0xd1b5_4a32_d192_ed03) ^ index.wrapping_mul(STEP);
    unit(mix(mix(z.wrapping_add(STEP)).wrapping_add(STEP)))
}
