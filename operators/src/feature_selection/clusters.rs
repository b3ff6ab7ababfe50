//! Clusters of scaled vectors: k-means++ for the first centres, then one step of k-means a vector, the past forgotten.

use super::forget::halve;
use super::random::unit;

/// Centres are compared in blocks of so many.
const LANES: usize = 8;

/// The clusters. A centre is the forgotten mean of the vectors that went to it.
#[derive(Clone, Debug, PartialEq)]
pub struct Clusters {
    stride: usize,
    count: usize,
    /// Of each cluster and feature: the weight of the vectors that have it, their mean, and the sum of squares about
    /// it.
    weights: Vec<f64>,
    means: Vec<f64>,
    squares: Vec<f64>,
    /// The means again, block by block, for each feature those of the block's clusters side by side.
    centres: Vec<[f64; LANES]>,
    /// Half the square of each mean's length; infinite where there is no cluster.
    half_norms: Vec<[f64; LANES]>,
}

impl Clusters {
    /// None yet, for vectors padded to `stride`, a multiple of four.
    pub fn new(stride: usize) -> Clusters {
        Clusters {
            stride,
            count: 0,
            weights: Vec::new(),
            means: Vec::new(),
            squares: Vec::new(),
            centres: Vec::new(),
            half_norms: Vec::new(),
        }
    }

    /// Makes up to `most` clusters about vectors drawn by k-means++ (D. Arthur and S. Vassilvitskii 2007): the first at
    /// random, each further one with a probability that goes with the square of its distance to the nearest so far.
    /// Each counts as a vector of weight 1. There are fewer if there are not as many different vectors.
    pub fn seed(&mut self, vectors: &[f64], most: usize, seed: u64) {
        let vectors: Vec<&[f64]> = vectors.chunks_exact(self.stride).collect();
        let mut nearest = vec![f64::INFINITY; vectors.len()];
        let mut next = (unit(seed, 0) * vectors.len() as f64) as usize;
        while self.count < most {
            let centre = vectors[next];
            self.place(centre);
            let mut total = 0.0;
            for (vector, nearest) in vectors.iter().zip(&mut nearest) {
                let mut square = 0.0;
                vector.iter().zip(centre).for_each(|(a, b)| square += (a - b) * (a - b));
                *nearest = nearest.min(square);
                total += *nearest;
            }
            let mut rest = unit(seed, self.count as u64) * total;
            // The last one at a distance, should rounding leave something over.
            let Some(last) = nearest.iter().rposition(|n| *n > 0.0) else { break };
            next = last;
            for (i, nearest) in nearest.iter().enumerate() {
                if *nearest > rest {
                    next = i;
                    break;
                }
                rest -= nearest;
            }
        }
    }

    fn place(&mut self, centre: &[f64]) {
        let cluster = self.count;
        self.count += 1;
        self.weights.resize(self.count * self.stride, 1.0);
        self.squares.resize(self.count * self.stride, 0.0);
        self.means.extend_from_slice(centre);
        self.grow();
        self.show(cluster);
    }

    fn grow(&mut self) {
        let blocks = self.count.div_ceil(LANES);
        self.half_norms.resize(blocks, [f64::INFINITY; LANES]);
        self.centres.resize(blocks * self.stride, [0.0; LANES]);
    }

    /// Copies a mean to where it is compared.
    fn show(&mut self, cluster: usize) {
        let (block, lane) = (cluster / LANES, cluster % LANES);
        let means = &self.means[cluster * self.stride..][..self.stride];
        let centres = &mut self.centres[block * self.stride..][..self.stride];
        centres.iter_mut().zip(means).for_each(|(c, m)| c[lane] = *m);
        self.half_norms[block][lane] = 0.5 * square_of(means);
    }

    /// The nearest centre, the first of several. What is missing has z = 0: it counts as its mean.
    pub fn nearest(&self, z: &[f64]) -> usize {
        let (mut best, mut least) = (0, f64::INFINITY);
        for (block, half_norms) in self.half_norms.iter().enumerate() {
            let mut products = [0.0; LANES];
            for (z, centres) in z.iter().zip(&self.centres[block * self.stride..][..self.stride]) {
                products.iter_mut().zip(centres).for_each(|(product, centre)| *product += z * centre);
            }
            for (lane, (half_norm, product)) in half_norms.iter().zip(&products).enumerate() {
                // Half the square of the distance, less half that of the vector's length.
                let far = half_norm - product;
                if far < least {
                    (best, least) = (block * LANES + lane, far);
                }
            }
        }
        best
    }

    /// Counts a vector in its nearest cluster.
    pub fn take(&mut self, z: &[f64], there: &[f64], weight: f64) {
        if self.count == 0 {
            return;
        }
        let cluster = self.nearest(z);
        let from = cluster * self.stride;
        let weights = &mut self.weights[from..from + self.stride];
        let means = &mut self.means[from..from + self.stride];
        let squares = &mut self.squares[from..from + self.stride];
        for ((((z, there), total), mean), square) in z.iter().zip(there).zip(weights).zip(means).zip(squares) {
            let weight = weight * there;
            *total += weight;
            let deviation = z - *mean;
            *mean += weight / total.max(f64::MIN_POSITIVE) * deviation;
            *square += weight * deviation * (z - *mean);
        }
        self.show(cluster);
    }

    /// Forgets half.
    pub fn halve(&mut self) {
        halve(&mut self.weights);
        halve(&mut self.squares);
    }

    /// The share of a feature's variance that is within clusters; none if it does not vary.
    pub fn within(&self, feature: usize) -> Option<f64> {
        let places = (0..self.count).map(|c| c * self.stride + feature);
        let (mut weight, mut sum, mut within) = (0.0, 0.0, 0.0);
        for at in places.clone() {
            weight += self.weights[at];
            sum += self.weights[at] * self.means[at];
            within += self.squares[at];
        }
        if weight <= 0.0 {
            return None;
        }
        let mean = sum / weight;
        let mut between = 0.0;
        for at in places {
            let deviation = self.means[at] - mean;
            between += self.weights[at] * deviation * deviation;
        }
        let total = within + between;
        (total > 0.0).then(|| within / total + 0.0)
    }

    /// Writes everything down.
    pub fn save(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&(self.count as u64).to_le_bytes());
        for floats in [&self.weights, &self.means, &self.squares] {
            floats.iter().for_each(|f| out.extend_from_slice(&f.to_bits().to_le_bytes()));
        }
    }

    /// What [`Clusters::save`] wrote.
    pub fn restore(&mut self, bytes: &mut &[u8]) -> Option<()> {
        let mut word = || {
            let (first, rest) = bytes.split_first_chunk::<8>()?;
            *bytes = rest;
            Some(u64::from_le_bytes(*first))
        };
        self.count = word()? as usize;
        for floats in [&mut self.weights, &mut self.means, &mut self.squares] {
            floats.clear();
            for _ in 0..self.count * self.stride {
                floats.push(f64::from_bits(word()?));
            }
        }
        self.grow();
        (0..self.count).for_each(|cluster| self.show(cluster));
        Some(())
    }
}

/// The square of a vector's length, summed in four lanes.
fn square_of(vector: &[f64]) -> f64 {
    let mut lanes = [0.0; 4];
    for piece in vector.as_chunks::<4>().0 {
        lanes.iter_mut().zip(piece).for_each(|(lane, x)| *lane += x * x);
    }
    (lanes[0] + lanes[1]) + (lanes[2] + lanes[3])
}
