//! The newest vectors of an instrument, standardised, with their quotes and what was predicted at each.
//!
//! All features are kept, not only those that stand in a slot: when the active set changes, a newcomer's past is there.

use super::design::{CHUNK, Design};
use super::labels::Quote;
use super::slots::EMPTY;

/// What was predicted at a vector for one horizon.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Told {
    /// The network's probabilities.
    pub network: [f32; 3],
    /// The control's.
    pub logistic: [f32; 3],
    /// The class of the last label that had matured, if one had.
    pub persistence: Option<u8>,
    /// The class of most labels that had matured.
    pub majority: Option<u8>,
}

/// A ring of the newest vectors.
#[derive(Clone, Debug)]
pub struct Past {
    features: usize,
    horizons: usize,
    kept: usize,
    /// How many vectors came.
    pub count: u64,
    z: Vec<f32>,
    quotes: Vec<Quote>,
    /// By vector whether a prediction was made, and by vector and horizon what.
    is_told: Vec<bool>,
    told: Vec<Told>,
}

impl Past {
    /// Before the first.
    pub fn new(design: &Design) -> Past {
        let kept = design.kept();
        Past {
            features: design.features,
            horizons: design.horizons.len(),
            kept,
            count: 0,
            z: vec![0.0; kept * design.features],
            quotes: vec![Quote::default(); kept],
            is_told: vec![false; kept],
            told: vec![Told::default(); kept * design.horizons.len()],
        }
    }

    fn place(&self, n: u64) -> usize {
        debug_assert!(n < self.count && n + self.kept as u64 >= self.count, "vector {n} of {} is gone", self.count);
        (n % self.kept as u64) as usize
    }

    /// Takes the next vector; its standardised values are to be written where this points.
    pub fn push(&mut self, quote: Quote) -> &mut [f32] {
        let place = (self.count % self.kept as u64) as usize;
        self.count += 1;
        self.quotes[place] = quote;
        self.is_told[place] = false;
        &mut self.z[place * self.features..][..self.features]
    }

    /// The quote at vector n.
    pub fn quote(&self, n: u64) -> Quote {
        self.quotes[self.place(n)]
    }

    /// Writes the input column at vector n: all slots, as often as they have filters.
    #[inline]
    pub fn gather(&self, n: u64, slots: &[u32], out: &mut [f32]) {
        let z = &self.z[self.place(n) * self.features..][..self.features];
        for out in out.chunks_exact_mut(slots.len()) {
            for (out, feature) in out.iter_mut().zip(slots) {
                *out = if *feature == EMPTY { 0.0 } else { z[*feature as usize] };
            }
        }
    }

    /// Where the predictions at the newest vector are to be written.
    pub fn tell(&mut self) -> &mut [Told] {
        let place = self.place(self.count - 1);
        self.is_told[place] = true;
        &mut self.told[place * self.horizons..][..self.horizons]
    }

    /// What was predicted at vector n, if anything.
    pub fn told(&self, n: u64) -> Option<&[Told]> {
        let place = self.place(n);
        self.is_told[place].then(|| &self.told[place * self.horizons..][..self.horizons])
    }

    /// How many chunks there are.
    pub fn chunks(&self) -> usize {
        self.kept / CHUNK
    }

    /// The chunks that vectors from `from` on stand in.
    pub fn chunks_since(&self, from: u64) -> Vec<usize> {
        let chunk = CHUNK as u64;
        let from = from.max(self.count.saturating_sub(self.kept as u64));
        let mut chunks: Vec<usize> =
            (from / chunk..self.count.div_ceil(chunk)).map(|c| (c % self.chunks() as u64) as usize).collect();
        chunks.sort_unstable();
        chunks.dedup();
        chunks
    }

    /// The bytes of a chunk.
    pub fn chunk(&self, chunk: usize, out: &mut Vec<u8>) {
        let rows = chunk * CHUNK..(chunk + 1) * CHUNK;
        let mut floats = |values: &[f32]| values.iter().for_each(|v| out.extend_from_slice(&v.to_bits().to_le_bytes()));
        floats(&self.z[rows.start * self.features..rows.end * self.features]);
        let told = &self.told[rows.start * self.horizons..rows.end * self.horizons];
        told.iter().for_each(|t| {
            floats(&t.network);
            floats(&t.logistic);
        });
        for quote in &self.quotes[rows.clone()] {
            out.extend_from_slice(&quote.price.to_bits().to_le_bytes());
            out.extend_from_slice(&quote.spread.to_bits().to_le_bytes());
        }
        out.extend(told.iter().flat_map(|t| [t.persistence.unwrap_or(3), t.majority.unwrap_or(3)]));
        out.extend(self.is_told[rows].iter().map(|t| u8::from(*t)));
    }

    /// Puts the bytes of a chunk back.
    pub fn restore(&mut self, chunk: usize, bytes: &[u8]) {
        let rows = chunk * CHUNK..(chunk + 1) * CHUNK;
        let mut rest = bytes;
        let mut four = || -> f32 {
            let (four, after) = rest.split_at(4);
            rest = after;
            f32::from_bits(u32::from_le_bytes(four.try_into().expect("four bytes")))
        };
        self.z[rows.start * self.features..rows.end * self.features].iter_mut().for_each(|z| *z = four());
        let told = &mut self.told[rows.start * self.horizons..rows.end * self.horizons];
        for told in told.iter_mut() {
            told.network = std::array::from_fn(|_| four());
            told.logistic = std::array::from_fn(|_| four());
        }
        let mut eight = || -> f64 {
            let (eight, after) = rest.split_at(8);
            rest = after;
            f64::from_bits(u64::from_le_bytes(eight.try_into().expect("eight bytes")))
        };
        for quote in &mut self.quotes[rows.clone()] {
            *quote = Quote { price: eight(), spread: eight() };
        }
        let class = |byte: u8| (byte < 3).then_some(byte);
        let (classes, is_told) = rest.split_at(2 * told.len());
        for (told, two) in told.iter_mut().zip(classes.chunks_exact(2)) {
            (told.persistence, told.majority) = (class(two[0]), class(two[1]));
        }
        self.is_told[rows].iter_mut().zip(is_told).for_each(|(is, byte)| *is = *byte == 1);
    }
}
