//! The gradient of one minibatch, computed a little at every event.
//!
//! The examples of a minibatch follow each other, so their windows overlap: the segment of columns under them is taken
//! through the network once, forward and back, instead of once an example. Work is counted in units, one column of one
//! block forward or back or one example's heads, and may stop after any of them; the result is the same. Every sum has
//! one order: over examples and columns that of time, over outputs ascending.

use super::design::{Design, lanes};
use super::labels::Rule;
use super::layer::{backward, transpose};
use super::logistic::Logistic;
use super::network::{Network, passes, softmax};
use super::past::Past;

/// A minibatch under way.
#[derive(Clone, Debug)]
pub struct Job {
    horizons: Vec<usize>,
    rule: Rule,
    inputs: usize,
    batch: usize,
    window: usize,
    /// Columns of the input, then of each block's output.
    columns: Vec<usize>,
    /// By block the lanes of its input, then those of the last output.
    lanes: Vec<usize>,
    /// The inputs of each block, and last the outputs of the last.
    values: Vec<Vec<f32>>,
    /// By block its tapped inputs, and the gradient with respect to them.
    tapped: Vec<Vec<f32>>,
    tapped_gradient: Vec<Vec<f32>>,
    transposed: Vec<Vec<f32>>,
    head_transposed: Vec<f32>,
    /// By example the gradient of what its heads read; of the average, of one column's share.
    heads: Vec<f32>,
    /// The running sum of the last block's outputs under an example's window.
    sum: Vec<f64>,
    g: Vec<f32>,
    z: Vec<f32>,
    /// Units done.
    done: usize,
    /// Whether pruned blocks have a gradient too.
    is_whole: bool,
    /// The gradient of the network's parameters.
    pub gradient: Vec<f32>,
    /// The gradient of the control's parameters.
    pub logistic_gradient: Vec<f32>,
    /// The mean cross-entropy over examples and horizons, of the network and of the control.
    pub losses: [f64; 2],
}

impl Job {
    /// For a design; to be begun before use.
    pub fn new(design: &Design, network: &Network, logistic: &Logistic) -> Job {
        let mut columns = vec![design.batch + design.span() - 1];
        let mut widths = vec![];
        for b in 0..design.blocks {
            columns.push(columns[b] - design.reach(b));
            widths.push(design.input_lanes(b));
        }
        widths.push(design.channels);
        let tapped: Vec<Vec<f32>> = (0..design.blocks).map(|b| vec![0.0; columns[b + 1] * widths[b]]).collect();
        Job {
            horizons: design.horizons.clone(),
            rule: design.rule,
            inputs: design.inputs(0),
            batch: design.batch,
            window: design.window,
            values: columns.iter().zip(&widths).map(|(c, l)| vec![0.0; c * l]).collect(),
            tapped_gradient: tapped.clone(),
            tapped,
            transposed: vec![Vec::new(); design.blocks],
            head_transposed: Vec::new(),
            heads: vec![0.0; design.batch * lanes(design.head_inputs())],
            sum: vec![0.0; design.channels],
            g: vec![0.0; design.channels.max(4 * design.horizons.len())],
            z: vec![0.0; design.head_inputs()],
            done: 0,
            is_whole: true,
            gradient: vec![0.0; network.parameters.len()],
            logistic_gradient: vec![0.0; logistic.parameters.len()],
            losses: [0.0; 2],
            columns,
            lanes: widths,
        }
    }

    /// Begins anew. What is pruned has a gradient only if it is asked for: where blocks may grow again.
    pub fn begin(&mut self, is_whole: bool) {
        (self.done, self.is_whole) = (0, is_whole);
    }

    /// All there is to do.
    pub fn units(&self) -> usize {
        2 * self.columns[1..].iter().sum::<usize>() + self.batch
    }

    /// Goes on until that many units are done: the example that ends at vector `first` and those after it, whose labels
    /// are all known. Neither parameters nor slots may have changed since the job began.
    pub fn advance(
        &mut self,
        units: usize,
        first: u64,
        past: &Past,
        slots: &[u32],
        network: &Network,
        control: &Logistic,
    ) {
        if self.done == 0 && units > 0 {
            self.clear(network);
        }
        let blocks = network.layout.blocks.len();
        while self.done < units.min(self.units()) {
            let mut unit = self.done;
            self.done += 1;
            let forward = (0..blocks).find(|b| {
                let is_here = unit < self.columns[b + 1];
                unit -= if is_here { 0 } else { self.columns[b + 1] };
                is_here
            });
            if let Some(b) = forward {
                if b == 0 {
                    self.gather(unit, first, past, slots);
                }
                self.forward(b, unit, network);
                continue;
            }
            if unit < self.batch {
                self.head(unit, first, past, network, control);
                continue;
            }
            unit -= self.batch;
            let back = (0..blocks).rev().find(|b| {
                let is_here = unit < self.columns[b + 1];
                unit -= if is_here { 0 } else { self.columns[b + 1] };
                is_here
            });
            self.back(back.expect("a unit of the job"), unit, network);
        }
    }

    fn clear(&mut self, network: &Network) {
        self.gradient.fill(0.0);
        self.logistic_gradient.fill(0.0);
        self.sum.fill(0.0);
        self.losses = [0.0; 2];
        for (b, block) in network.layout.blocks.iter().enumerate() {
            transpose(&block.matrix, &network.parameters, self.lanes[b], &mut self.transposed[b]);
        }
        let head = &network.layout.head;
        transpose(head, &network.parameters, lanes(head.inputs), &mut self.head_transposed);
    }

    /// Copies the input columns that the first block's output column i is the first to need.
    fn gather(&mut self, i: usize, first: u64, past: &Past, slots: &[u32]) {
        let reach = self.columns[0] - self.columns[1];
        // The segment's first column stands so far before the first example's last.
        let start = first + self.batch as u64 - self.columns[0] as u64;
        let l = self.lanes[0];
        for c in if i == 0 { 0..reach + 1 } else { i + reach..i + reach + 1 } {
            past.gather(start + c as u64, slots, &mut self.values[0][c * l..c * l + self.inputs]);
        }
    }

    fn forward(&mut self, b: usize, i: usize, network: &Network) {
        let (l, out) = (self.lanes[b], self.lanes[b + 1]);
        let reach = network.layout.blocks[b].reach();
        let (before, after) = self.values.split_at_mut(b + 1);
        let tapped = &mut self.tapped[b][i * l..(i + 1) * l];
        network.taps(b, |back| &before[b][(i + reach - back) * l..][..l], tapped);
        network.mix(b, tapped, &mut after[0][i * out..(i + 1) * out]);
    }

    fn head(&mut self, e: usize, first: u64, past: &Past, network: &Network, control: &Logistic) {
        let n = first + e as u64;
        let (horizons, channels) = (self.horizons.len(), self.sum.len());
        let pooled = &self.values[self.values.len() - 1];
        let column = |i: usize| &pooled[i * channels..(i + 1) * channels];
        for i in if e == 0 { 0..self.window } else { e + self.window - 1..e + self.window } {
            self.sum.iter_mut().zip(column(i)).for_each(|(sum, new)| *sum += f64::from(*new));
        }
        if e > 0 {
            self.sum.iter_mut().zip(column(e - 1)).for_each(|(sum, old)| *sum -= f64::from(*old));
        }
        let share = 1.0 / self.window as f64;
        let (average, newest) = self.z.split_at_mut(channels);
        average.iter_mut().zip(&self.sum).for_each(|(z, sum)| *z = (sum * share) as f32);
        let (newest, inputs) = newest.split_at_mut(channels);
        newest.copy_from_slice(column(e + self.window - 1));
        let l = self.lanes[0];
        let x = &self.values[0][(self.columns[0] - self.batch + e) * l..][..l];
        inputs.copy_from_slice(&x[..inputs.len()]);

        let from = past.quote(n);
        let classes: Vec<usize> =
            self.horizons.iter().map(|h| self.rule.class(from, past.quote(n + *h as u64))).collect();
        let weight = 1.0 / (self.batch * horizons) as f32;
        let g = &mut self.g[..4 * horizons];
        network.logits(&self.z, g);
        self.losses[0] += loss_gradient(g, &classes, weight);
        let width = lanes(self.z.len());
        let gz = &mut self.heads[e * width..(e + 1) * width];
        let kept = (!self.is_whole).then_some(&network.head);
        backward(&network.layout.head, kept, &self.head_transposed, g, &self.z, &mut self.gradient, gz);
        // Every column of the window has its share of the average.
        gz[..channels].iter_mut().for_each(|g| *g *= share as f32);

        control.logits(x, g);
        self.losses[1] += loss_gradient(g, &classes, weight);
        control.backward(g, x, &mut self.logistic_gradient);
    }

    fn back(&mut self, b: usize, i: usize, network: &Network) {
        let channels = self.lanes[b + 1];
        let g = &mut self.g[..channels];
        g.fill(0.0);
        if b + 1 == self.tapped.len() {
            let width = lanes(self.z.len());
            for e in (i + 1).saturating_sub(self.window)..self.batch.min(i + 1) {
                g.iter_mut().zip(&self.heads[e * width..e * width + channels]).for_each(|(g, head)| *g += head);
            }
            if i + 1 >= self.window {
                let e = i + 1 - self.window;
                g.iter_mut()
                    .zip(&self.heads[e * width + channels..e * width + 2 * channels])
                    .for_each(|(g, head)| *g += head);
            }
        } else {
            let next = &network.layout.blocks[b + 1];
            let gradient = &self.tapped_gradient[b + 1];
            for j in 0..next.kernel {
                let taps = &network.parameters[next.taps + j * next.lanes..][..next.lanes];
                // Output column o looks at column o + reach − j strides.
                let at = (i + j * next.stride).checked_sub(next.reach()).filter(|o| *o < self.columns[b + 2]);
                let Some(o) = at else { continue };
                let row = &gradient[o * next.lanes..(o + 1) * next.lanes];
                g.iter_mut().zip(taps).zip(row).for_each(|((g, tap), row)| *g += tap * row);
            }
        }
        let values = &self.values[b + 1][i * channels..(i + 1) * channels];
        g.iter_mut().zip(values).for_each(|(g, value)| *g = if passes(*value) { *g } else { 0.0 });

        let block = &network.layout.blocks[b];
        let l = self.lanes[b];
        let tapped = &self.tapped[b][i * l..(i + 1) * l];
        let gx = &mut self.tapped_gradient[b][i * l..(i + 1) * l];
        let kept = (!self.is_whole).then_some(&network.mixes[b]);
        backward(&block.matrix, kept, &self.transposed[b], g, tapped, &mut self.gradient, gx);
        for j in 0..block.kernel {
            let x = &self.values[b][(i + block.reach() - j * block.stride) * l..][..l];
            let taps = &mut self.gradient[block.taps + j * l..][..l];
            taps.iter_mut().zip(gx.iter()).zip(x).for_each(|((tap, g), x)| *tap += g * x);
        }
    }
}

/// Turns logits, four a horizon, into the loss's gradient with respect to them, times `weight`; gives the loss times
/// `weight`.
fn loss_gradient(logits: &mut [f32], classes: &[usize], weight: f32) -> f64 {
    let mut loss = 0.0;
    let (fours, _) = logits.as_chunks_mut::<4>();
    for (four, class) in fours.iter_mut().zip(classes) {
        let p = softmax([four[0], four[1], four[2]]);
        loss -= libm::log(f64::from(p[*class]).max(LIKELIHOOD_MIN)) * f64::from(weight);
        for (k, four) in four.iter_mut().enumerate() {
            *four = if k < 3 { (p[k] - if k == *class { 1.0 } else { 0.0 }) * weight } else { 0.0 };
        }
    }
    loss
}

/// A probability in a logarithm counts as at least this.
pub const LIKELIHOOD_MIN: f64 = 1e-15;
