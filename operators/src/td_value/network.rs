//! A small network for values: what the tiles of a place and of a time say, added up, through two hidden layers.
//!
//! After CVNet (Tang et al., "A Deep Value-network Based Approach for Multi-Driver Order Dispatching", KDD 2019, arXiv
//! 2106.04493): a "cerebellar" embedding, in which every tile of several resolutions has a vector that is learned and a
//! state's is the sum of those of its tiles; a perceptron over it; and a penalty on a bound of the Lipschitz constant.
//! READING, ours, where the account at hand says no more: the bound is the product of the Euclidean (Frobenius) norms of
//! the four matrices (the vectors of all tiles are the first). Each is at least its matrix's operator norm and rectifiers
//! do not stretch, so neither does the network stretch more than the product, as a function of which tiles are on.
//!
//! Floats are added in one order on one thread: the same numbers give the same bits.

use types::random::{STEP, mix, unit};

/// The length of a tile's vector.
const EMBEDDING: usize = 16;
/// The width of the hidden layers.
const HIDDEN: usize = 32;
/// Numbers beside the vectors of tiles: two hidden layers and the last.
const LAYERS: usize = HIDDEN * EMBEDDING + HIDDEN + HIDDEN * HIDDEN + HIDDEN + HIDDEN + 1;

/// All numbers of a network, and where its parts are among them.
///
/// The numbers are the vectors of the tiles, one after the other, then W1, b1, W2, b2, w3, b3; matrices by rows.
#[derive(Clone, Debug, PartialEq)]
pub struct Network {
    /// The numbers.
    pub numbers: Vec<f64>,
    tiles: usize,
}

/// What a forward pass leaves for the backward one.
#[derive(Debug)]
pub struct Pass {
    sum: [f64; EMBEDDING],
    first: [f64; HIDDEN],
    second: [f64; HIDDEN],
}

impl Default for Pass {
    fn default() -> Pass {
        Pass { sum: [0.0; EMBEDDING], first: [0.0; HIDDEN], second: [0.0; HIDDEN] }
    }
}

/// Where a part of the numbers begins, after the tiles.
const W1: usize = 0;
const B1: usize = W1 + HIDDEN * EMBEDDING;
const W2: usize = B1 + HIDDEN;
const B2: usize = W2 + HIDDEN * HIDDEN;
const W3: usize = B2 + HIDDEN;
const B3: usize = W3 + HIDDEN;

impl Network {
    /// How many numbers a network of so many tiles has.
    pub fn len(tiles: usize) -> usize {
        tiles * EMBEDDING + LAYERS
    }

    /// Before learning. The vectors of tiles are 0, so that a tile in which nothing was ever learned says nothing and the
    /// coarser ones decide; the layers are uniform in ±√(6 / inputs) (He et al. 2015), the first offsets in ±1/2.
    pub fn new(tiles: usize, seed: u64) -> Network {
        let mut numbers = vec![0.0; Network::len(tiles)];
        let layers = &mut numbers[tiles * EMBEDDING..];
        let draw = |at: usize| 2.0 * unit(mix(mix(seed.wrapping_add(STEP)) ^ (at as u64).wrapping_mul(STEP))) - 1.0;
        let mut fill = |from: usize, to: usize, most: f64| {
            (from..to).for_each(|at| layers[at] = most * draw(at));
        };
        fill(W1, B1, (6.0 / EMBEDDING as f64).sqrt());
        fill(B1, W2, 0.5);
        fill(W2, B2, (6.0 / HIDDEN as f64).sqrt());
        fill(W3, B3, (6.0 / HIDDEN as f64).sqrt());
        Network { numbers, tiles }
    }

    /// The value of what is on these tiles.
    pub fn value(&self, on: &[u32]) -> f64 {
        self.forward(on, &mut Pass::default())
    }

    /// As above; leaves what [`Network::backward`] needs.
    pub fn forward(&self, on: &[u32], pass: &mut Pass) -> f64 {
        pass.sum = [0.0; EMBEDDING];
        for tile in on {
            let vector = &self.numbers[*tile as usize * EMBEDDING..][..EMBEDDING];
            pass.sum.iter_mut().zip(vector).for_each(|(sum, v)| *sum += v);
        }
        let layers = &self.numbers[self.tiles * EMBEDDING..];
        let (w1, b1, w2, b2) = (&layers[W1..B1], &layers[B1..W2], &layers[W2..B2], &layers[B2..W3]);
        for (i, (out, offset)) in pass.first.iter_mut().zip(b1).enumerate() {
            *out = (offset + dot(&w1[i * EMBEDDING..][..EMBEDDING], &pass.sum)).max(0.0);
        }
        for (i, (out, offset)) in pass.second.iter_mut().zip(b2).enumerate() {
            *out = (offset + dot(&w2[i * HIDDEN..][..HIDDEN], &pass.first)).max(0.0);
        }
        layers[B3] + dot(&layers[W3..B3], &pass.second)
    }

    /// Adds to `gradient` what the loss changes by with each number, where `slope` is what it changes by with the value of
    /// the pass.
    pub fn backward(&self, on: &[u32], pass: &Pass, slope: f64, gradient: &mut [f64]) {
        let layers = &self.numbers[self.tiles * EMBEDDING..];
        let (vectors, g) = gradient.split_at_mut(self.tiles * EMBEDDING);
        let mut second = [0.0; HIDDEN];
        let mut first = [0.0; HIDDEN];
        let mut sum = [0.0; EMBEDDING];
        g[B3] += slope;
        for i in 0..HIDDEN {
            g[W3 + i] += slope * pass.second[i];
            second[i] = if pass.second[i] > 0.0 { slope * layers[W3 + i] } else { 0.0 };
        }
        for (i, slope) in second.iter().enumerate().filter(|(_, slope)| **slope != 0.0) {
            g[B2 + i] += slope;
            let row = W2 + i * HIDDEN;
            add(&mut g[row..row + HIDDEN], *slope, &pass.first);
            add(&mut first, *slope, &layers[row..row + HIDDEN]);
        }
        for (i, slope) in first.iter().enumerate().filter(|(i, slope)| pass.first[*i] > 0.0 && **slope != 0.0) {
            g[B1 + i] += slope;
            let row = W1 + i * EMBEDDING;
            add(&mut g[row..row + EMBEDDING], *slope, &pass.sum);
            add(&mut sum, *slope, &layers[row..row + EMBEDDING]);
        }
        for tile in on {
            add(&mut vectors[*tile as usize * EMBEDDING..][..EMBEDDING], 1.0, &sum);
        }
    }

    /// The bound of the Lipschitz constant.
    pub fn bound(&self) -> f64 {
        self.norms().iter().product()
    }

    /// Adds to `gradient` that of `weight` times the bound.
    pub fn penalize(&self, weight: f64, gradient: &mut [f64]) {
        let norms = self.norms();
        let bound: f64 = norms.iter().product();
        if bound == 0.0 {
            return;
        }
        for ((from, to), norm) in self.matrices().into_iter().zip(norms) {
            // The other norms' product, times the gradient of this one: the matrix over its norm.
            let factor = weight * (bound / norm) / norm;
            add(&mut gradient[from..to], factor, &self.numbers[from..to]);
        }
    }

    fn norms(&self) -> [f64; 4] {
        self.matrices().map(|(from, to)| dot(&self.numbers[from..to], &self.numbers[from..to]).sqrt())
    }

    fn matrices(&self) -> [(usize, usize); 4] {
        let at = self.tiles * EMBEDDING;
        [(0, at), (at + W1, at + B1), (at + W2, at + B2), (at + W3, at + B3)]
    }
}

/// The sum of products, in four interleaved parts: one order, and no chain of additions waits for the one before.
fn dot(a: &[f64], b: &[f64]) -> f64 {
    let mut parts = [0.0; 4];
    let (a, b) = (a.chunks_exact(4), b.chunks_exact(4));
    let rest: f64 = a.remainder().iter().zip(b.remainder()).map(|(a, b)| a * b).sum();
    for (a, b) in a.zip(b) {
        for i in 0..4 {
            parts[i] += a[i] * b[i];
        }
    }
    (parts[0] + parts[1]) + (parts[2] + parts[3]) + rest
}

fn add(to: &mut [f64], factor: f64, of: &[f64]) {
    to.iter_mut().zip(of).for_each(|(to, of)| *to += factor * of);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Loss: the squared error of two states and a penalty.
    #[test]
    fn gradients_are_those_of_finite_differences() {
        let mut network = Network::new(5, 3);
        // No vector is 0, or the product of norms would have no gradient.
        for at in 0..5 * EMBEDDING {
            network.numbers[at] = 0.3 * unit(mix(at as u64 + 1)) - 0.1;
        }
        let states: [(&[u32], f64); 2] = [(&[0, 2, 2, 4], 1.5), (&[1, 2], -0.5)];
        let loss = |network: &Network| {
            let errors = states.iter().map(|(on, target)| network.value(on) - target);
            errors.map(|e| e * e).sum::<f64>() + 1e-3 * network.bound()
        };
        let mut gradient = vec![0.0; network.numbers.len()];
        for (on, target) in states {
            let mut pass = Pass::default();
            let error = network.forward(on, &mut pass) - target;
            network.backward(on, &pass, 2.0 * error, &mut gradient);
        }
        network.penalize(1e-3, &mut gradient);
        let step = 1e-6;
        let mut moved = 0;
        for (at, gradient) in gradient.iter().enumerate() {
            let mut shifted = [network.clone(), network.clone()];
            shifted[0].numbers[at] -= step;
            shifted[1].numbers[at] += step;
            let slope = (loss(&shifted[1]) - loss(&shifted[0])) / (2.0 * step);
            assert!((slope - gradient).abs() < 1e-6 * (1.0 + slope.abs()), "number {at}: {gradient} is not {slope}");
            moved += usize::from(slope.abs() > 1e-3);
        }
        assert!(moved > 500, "only {moved} numbers have a slope to speak of");
    }

    #[test]
    fn the_bound_holds() {
        let mut network = Network::new(40, 9);
        for at in 0..40 * EMBEDDING {
            network.numbers[at] = unit(mix(at as u64)) - 0.5;
        }
        // Two tiles that differ: √2 apart.
        let values: Vec<f64> = (0..40).map(|tile| network.value(&[tile])).collect();
        for (i, j) in (0..40).flat_map(|i| (0..i).map(move |j| (i, j))) {
            assert!((values[i] - values[j]).abs() <= 2f64.sqrt() * network.bound());
        }
    }
}
