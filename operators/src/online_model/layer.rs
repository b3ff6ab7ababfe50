//! A matrix in blocks of four outputs: what a vector register holds, and what is pruned as one.
//!
//! A block is the four weights from one input to four outputs that stand side by side. An output is its bias plus its
//! inputs' terms in ascending order, whichever way it is computed: a block that is pruned has weights of zero, and adding
//! a zero changes no bit. So a pruned matrix may be kept as the list of its blocks, and gives the same bytes.

/// Four lanes.
pub type Four = [f32; 4];

/// Where a matrix stands among the parameters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Matrix {
    /// The first of its weights: of outputs 4 g to 4 g + 3 and input c they stand at `weights + 4 (g inputs + c)`.
    pub weights: usize,
    /// The first of its biases.
    pub bias: usize,
    /// How many inputs it has.
    pub inputs: usize,
    /// How many times four outputs.
    pub groups: usize,
    /// Its first block among all blocks.
    pub first: usize,
}

impl Matrix {
    /// How many blocks it has.
    pub fn blocks(&self) -> usize {
        self.inputs * self.groups
    }

    /// The parameters of block b of this matrix.
    pub fn block(&self, b: usize) -> std::ops::Range<usize> {
        self.weights + 4 * b..self.weights + 4 * b + 4
    }
}

/// A matrix made ready to be applied.
#[derive(Clone, Debug, Default)]
pub struct Affine {
    inputs: usize,
    bias: Vec<Four>,
    /// All blocks, or if few are kept only those.
    blocks: Vec<Four>,
    /// Of blocks that are listed: the input of each, and where each group's end.
    columns: Vec<u16>,
    ends: Vec<u32>,
}

/// With more than this share of its blocks a matrix is applied whole.
const LISTED_SHARE_MAX: f64 = 0.75;

impl Affine {
    /// From parameters and which blocks are kept.
    pub fn make(&mut self, matrix: &Matrix, parameters: &[f32], kept: &[bool]) {
        let kept = &kept[matrix.first..matrix.first + matrix.blocks()];
        self.inputs = matrix.inputs;
        let four = |at: usize| -> Four { parameters[at..at + 4].try_into().expect("four") };
        self.bias.clear();
        self.bias.extend((0..matrix.groups).map(|g| four(matrix.bias + 4 * g)));
        self.blocks.clear();
        self.columns.clear();
        self.ends.clear();
        let count = kept.iter().filter(|k| **k).count();
        if count as f64 > LISTED_SHARE_MAX * kept.len() as f64 {
            self.blocks.extend((0..matrix.blocks()).map(|b| four(matrix.weights + 4 * b)));
            return;
        }
        for g in 0..matrix.groups {
            for c in (0..matrix.inputs).filter(|c| kept[g * matrix.inputs + c]) {
                self.blocks.push(four(matrix.weights + 4 * (g * matrix.inputs + c)));
                self.columns.push(c as u16);
            }
            self.ends.push(self.blocks.len() as u32);
        }
    }

    /// Whether only the kept blocks are listed.
    pub fn is_listed(&self) -> bool {
        !self.ends.is_empty()
    }

    /// The inputs of the blocks listed of a group.
    fn listed(&self, group: usize) -> &[u16] {
        let from = if group == 0 { 0 } else { self.ends[group - 1] as usize };
        &self.columns[from..self.ends[group] as usize]
    }

    /// How many blocks are multiplied, and the bytes that are read.
    pub fn size(&self) -> (usize, usize) {
        (self.blocks.len(), 16 * (self.blocks.len() + self.bias.len()) + 2 * self.columns.len() + 4 * self.ends.len())
    }

    /// The outputs.
    #[inline]
    pub fn apply(&self, x: &[f32], out: &mut [f32]) {
        let (out, _) = out.as_chunks_mut::<4>();
        if !self.is_listed() {
            let rows = self.blocks.chunks_exact(self.inputs);
            for ((out, bias), row) in out.iter_mut().zip(&self.bias).zip(rows) {
                let mut sum = *bias;
                for (weights, x) in row.iter().zip(x) {
                    for l in 0..4 {
                        sum[l] += weights[l] * x;
                    }
                }
                *out = sum;
            }
            return;
        }
        let mut from = 0;
        for ((out, bias), end) in out.iter_mut().zip(&self.bias).zip(&self.ends) {
            let mut sum = *bias;
            let end = *end as usize;
            for (weights, c) in self.blocks[from..end].iter().zip(&self.columns[from..end]) {
                let x = x[*c as usize];
                for l in 0..4 {
                    sum[l] += weights[l] * x;
                }
            }
            *out = sum;
            from = end;
        }
    }
}

/// One pass back through a matrix: adds the gradient of weights and biases for outputs' gradient `g` at inputs `x`, and
/// gives the inputs' gradient (unless there is no room for it), each the sum over outputs in ascending order. `transposed`
/// has the weights by output: see [`transpose`]. With `kept` only its blocks have a gradient.
pub fn backward(
    matrix: &Matrix,
    kept: Option<&Affine>,
    transposed: &[f32],
    g: &[f32],
    x: &[f32],
    gradient: &mut [f32],
    gx: &mut [f32],
) {
    let kept = kept.filter(|affine| affine.is_listed());
    let (fours, _) = g.as_chunks::<4>();
    for (group, four) in fours.iter().enumerate() {
        // What the rectifier stopped adds nothing.
        if *four == [0.0; 4] {
            continue;
        }
        let bias = &mut gradient[matrix.bias + 4 * group..][..4];
        for l in 0..4 {
            bias[l] += four[l];
        }
        let row = &mut gradient[matrix.weights + 4 * group * matrix.inputs..][..4 * matrix.inputs];
        let (row, _) = row.as_chunks_mut::<4>();
        match kept {
            None => {
                for (cell, x) in row.iter_mut().zip(x) {
                    for l in 0..4 {
                        cell[l] += four[l] * x;
                    }
                }
            }
            Some(affine) => {
                for c in affine.listed(group) {
                    let (cell, x) = (&mut row[*c as usize], x[*c as usize]);
                    for l in 0..4 {
                        cell[l] += four[l] * x;
                    }
                }
            }
        }
    }
    if gx.is_empty() {
        return;
    }
    gx.fill(0.0);
    for (g, row) in g.iter().zip(transposed.chunks_exact(gx.len())) {
        if *g != 0.0 {
            for (gx, weight) in gx.iter_mut().zip(row) {
                *gx += weight * g;
            }
        }
    }
}

/// A matrix's weights by output, each output's padded to `lanes`.
pub fn transpose(matrix: &Matrix, parameters: &[f32], lanes: usize, out: &mut Vec<f32>) {
    out.clear();
    out.resize(4 * matrix.groups * lanes, 0.0);
    for g in 0..matrix.groups {
        for c in 0..matrix.inputs {
            let block = &parameters[matrix.block(g * matrix.inputs + c)];
            for (l, weight) in block.iter().enumerate() {
                out[(4 * g + l) * lanes + c] = *weight;
            }
        }
    }
}
