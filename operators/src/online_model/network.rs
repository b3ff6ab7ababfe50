//! The network's parameters: where each stands, what it begins with, and how one column goes through a block.
//!
//! A block is a causal depthwise-separable convolution (Chollet 2017): every input has its own taps over time, then a
//! matrix mixes them, and a rectifier follows. The heads read the average of the last block's columns over the window, the
//! newest of them, and the newest column of the inputs as it is (so that what is linear need not go through the blocks:
//! "wide and deep", Cheng et al. 2016), and give the logits of three classes for each horizon.

use super::design::{Design, uniform};
use super::layer::{Affine, Matrix};

/// An activation is at least 0 and at most this, so that sums of them are exact.
pub const ACTIVATION_MAX: f32 = 1024.0;

/// Where everything stands among the parameters.
#[derive(Clone, Debug, PartialEq)]
pub struct Layout {
    /// The blocks, the first reads the inputs.
    pub blocks: Vec<Block>,
    /// The heads: four outputs a horizon, of which the last is unused.
    pub head: Matrix,
    /// How many parameters there are.
    pub len: usize,
    /// How many blocks of four can be pruned.
    pub prunable: usize,
}

/// Where a block stands.
#[derive(Clone, Debug, PartialEq)]
pub struct Block {
    /// The first tap: of tap j (j strides back) and input c at `taps + j lanes + c`.
    pub taps: usize,
    /// The lanes of its input.
    pub lanes: usize,
    /// The columns between two taps.
    pub stride: usize,
    /// How many taps.
    pub kernel: usize,
    /// What mixes the inputs.
    pub matrix: Matrix,
}

impl Block {
    /// How far it looks back.
    pub fn reach(&self) -> usize {
        (self.kernel - 1) * self.stride
    }
}

impl Layout {
    /// The layout of a design.
    pub fn new(design: &Design) -> Layout {
        let (mut len, mut prunable) = (0, 0);
        let mut take = |n: usize| {
            len += n;
            len - n
        };
        let mut blocks = Vec::new();
        for b in 0..design.blocks {
            let (lanes, inputs, groups) = (design.input_lanes(b), design.inputs(b), design.channels / 4);
            let taps = take(design.kernel * lanes);
            let matrix =
                Matrix { weights: take(4 * groups * inputs), bias: take(4 * groups), inputs, groups, first: prunable };
            prunable += matrix.blocks();
            blocks.push(Block { taps, lanes, stride: design.stride(b), kernel: design.kernel, matrix });
        }
        let (inputs, groups) = (design.head_inputs(), design.horizons.len());
        let head =
            Matrix { weights: take(4 * groups * inputs), bias: take(4 * groups), inputs, groups, first: prunable };
        prunable += head.blocks();
        Layout { blocks, head, len, prunable }
    }

    /// The matrices, whose blocks can be pruned.
    pub fn matrices(&self) -> impl Iterator<Item = &Matrix> {
        self.blocks.iter().map(|b| &b.matrix).chain([&self.head])
    }

    /// The value a parameter begins with: uniform, with the variance that keeps a column's (He et al. 2015); biases,
    /// heads and lanes without an input begin at 0.
    pub fn initial(&self, design: &Design, at: usize) -> f32 {
        let draw = |variance: f64| {
            let bound = (3.0 * variance).sqrt();
            ((2.0 * uniform(design.seed, 1, at as u64) - 1.0) * bound) as f32
        };
        for block in &self.blocks {
            if (block.taps..block.taps + block.kernel * block.lanes).contains(&at) {
                let is_real = (at - block.taps) % block.lanes < block.matrix.inputs;
                return if is_real { draw(1.0 / block.kernel as f64) } else { 0.0 };
            }
            if (block.matrix.weights..block.matrix.bias).contains(&at) {
                return draw(2.0 / block.matrix.inputs as f64);
            }
        }
        0.0
    }

    /// What belongs to a slot: the taps of its filters, and the blocks it feeds, each with its matrix.
    pub fn of_slot(&self, design: &Design, slot: usize) -> (Vec<usize>, Vec<(Matrix, usize)>) {
        let (block, head) = (&self.blocks[0], self.head);
        let (mut taps, mut fed) = (Vec::new(), Vec::new());
        for input in (0..design.filters).map(|filter| filter * design.slots + slot) {
            taps.extend((0..block.kernel).map(|j| block.taps + j * block.lanes + input));
            fed.extend((0..block.matrix.groups).map(|g| (block.matrix, g * block.matrix.inputs + input)));
        }
        let input = 2 * design.channels + slot;
        fed.extend((0..head.groups).map(|g| (head, g * head.inputs + input)));
        (taps, fed)
    }
}

/// A network made ready to be applied.
#[derive(Clone, Debug)]
pub struct Network {
    /// Where everything stands.
    pub layout: Layout,
    /// The parameters; those of pruned blocks are 0.
    pub parameters: Vec<f32>,
    /// By block of four whether it is kept.
    pub kept: Vec<bool>,
    /// By block what mixes its inputs.
    pub mixes: Vec<Affine>,
    /// The heads.
    pub head: Affine,
}

impl Network {
    /// With initial parameters.
    pub fn new(design: &Design) -> Network {
        let layout = Layout::new(design);
        let parameters = (0..layout.len).map(|at| layout.initial(design, at)).collect();
        let mut network = Network {
            parameters,
            kept: vec![true; layout.prunable],
            mixes: vec![Affine::default(); layout.blocks.len()],
            head: Affine::default(),
            layout,
        };
        network.make();
        network
    }

    /// Makes what is applied anew: after every change of parameters.
    pub fn make(&mut self) {
        for (mix, block) in self.mixes.iter_mut().zip(&self.layout.blocks) {
            mix.make(&block.matrix, &self.parameters, &self.kept);
        }
        self.head.make(&self.layout.head, &self.parameters, &self.kept);
    }

    /// A block's taps over the columns at the tap's distance back.
    #[inline]
    pub fn taps<'a>(&self, b: usize, column: impl Fn(usize) -> &'a [f32], out: &mut [f32]) {
        let block = &self.layout.blocks[b];
        let taps = &self.parameters[block.taps..block.taps + block.kernel * block.lanes];
        for (j, taps) in taps.chunks_exact(block.lanes).enumerate() {
            let x = column(j * block.stride);
            if j == 0 {
                for ((out, tap), x) in out.iter_mut().zip(taps).zip(x) {
                    *out = tap * x;
                }
            } else {
                for ((out, tap), x) in out.iter_mut().zip(taps).zip(x) {
                    *out += tap * x;
                }
            }
        }
    }

    /// Mixes a block's tapped inputs and rectifies. The last block's outputs are rounded to multiples of 2⁻²⁰: their
    /// sums over a window are then exact, so that a running sum never drifts from one made anew.
    #[inline]
    pub fn mix(&self, b: usize, tapped: &[f32], out: &mut [f32]) {
        self.mixes[b].apply(tapped, out);
        if b + 1 < self.mixes.len() {
            out.iter_mut().for_each(|a| *a = rectified(*a));
        } else {
            out.iter_mut().for_each(|a| *a = rounded(rectified(*a)));
        }
    }

    /// The logits of average and newest columns: four a horizon.
    #[inline]
    pub fn logits(&self, z: &[f32], out: &mut [f32]) {
        self.head.apply(z, out);
    }

    /// Multiply-adds of one event, and the bytes of parameters it reads.
    pub fn cost(&self) -> (usize, usize) {
        let (mut multiply_adds, mut bytes) = (0, 0);
        for (block, mix) in self.layout.blocks.iter().zip(&self.mixes) {
            let (blocks, read) = mix.size();
            multiply_adds += block.kernel * block.matrix.inputs + 4 * blocks;
            bytes += 4 * block.kernel * block.lanes + read;
        }
        let (blocks, read) = self.head.size();
        (multiply_adds + 3 * blocks, bytes + read)
    }

    /// Parameters that are in use, and those of them that are not pruned.
    pub fn counts(&self) -> (usize, usize) {
        let blocks = |m: &Matrix| self.kept[m.first..m.first + m.blocks()].iter().filter(|k| **k).count();
        let (mut all, mut kept) = (0, 0);
        for block in &self.layout.blocks {
            let fixed = block.kernel * block.matrix.inputs + 4 * block.matrix.groups;
            all += fixed + 4 * block.matrix.blocks();
            kept += fixed + 4 * blocks(&block.matrix);
        }
        let head = &self.layout.head;
        (all + 3 * (head.groups + head.blocks()), kept + 3 * (head.groups + blocks(head)))
    }
}

#[inline]
fn rectified(a: f32) -> f32 {
    if a > 0.0 { if a < ACTIVATION_MAX { a } else { ACTIVATION_MAX } } else { 0.0 }
}

/// To the next multiple of 2⁻²⁰, ties to even: above 2³² a float64 has no finer ones. What comes out is still a float32.
#[inline]
fn rounded(a: f32) -> f32 {
    const TURN: f64 = 6_442_450_944.0; // 1.5 · 2³²
    ((f64::from(a) + TURN) - TURN) as f32
}

/// Whether a gradient passes an activation.
#[inline]
pub fn passes(activation: f32) -> bool {
    activation > 0.0 && activation < ACTIVATION_MAX
}

/// The probabilities of three logits; libm's exponential, the same on every machine.
pub fn softmax(logits: [f32; 3]) -> [f32; 3] {
    let most = logits.iter().fold(f32::NEG_INFINITY, |a, b| if *b > a { *b } else { a });
    let powers = logits.map(|l| libm::expf(l - most));
    let sum = powers[0] + powers[1] + powers[2];
    powers.map(|p| p / sum)
}
