//! From a vector of features to z-scores and cells: every feature in the same units, robust against a wild value.

use super::rules::Rules;
use crate::moments::{GREATEST, Moments};

/// A value so many standard deviations from the mean counts as one that far away.
pub const FARTHEST: f64 = 10.0;
/// Means and deviations are looked up again after so many vectors.
pub const RESCALE_EVERY: u64 = 64;
/// The cells of a feature.
pub const CELLS: usize = 64;
/// The cell of a value that is missing.
pub const MISSING: u8 = CELLS as u8;
/// Half as wide as the inner half of the cells, in standard deviations.
pub const KNEE: f64 = 0.5;
/// A deviation of this share of the mean is rounding.
const ROUNDING: f64 = 1e-12;

/// The means and deviations by which features are scaled, and the forgotten moments they are looked up in.
#[derive(Clone, Debug, PartialEq)]
pub struct Scale {
    moments: Moments,
    /// The least and greatest value that counts as it is.
    low: Vec<f64>,
    high: Vec<f64>,
    means: Vec<f64>,
    /// One over the standard deviation; 0 of a feature that does not vary.
    inverses: Vec<f64>,
}

/// A vector, scaled.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Scaled {
    /// z-scores; 0 for what is missing, and beyond the last feature.
    pub z: Vec<f64>,
    /// 1 for what is there and 0 for what is missing.
    pub there: Vec<f64>,
    /// The cell each is in, [`MISSING`] for what is missing.
    pub cells: Vec<u8>,
}

impl Scale {
    /// No vectors yet.
    pub fn new(rules: &Rules) -> Scale {
        let n = rules.features;
        Scale {
            moments: Moments::new(n, rules.half_life as f64),
            low: vec![f64::NEG_INFINITY; n],
            high: vec![f64::INFINITY; n],
            means: vec![0.0; n],
            inverses: vec![0.0; n],
        }
    }

    /// The forgotten moments.
    pub fn moments(&self) -> &Moments {
        &self.moments
    }

    /// Pulls wild values in, and calls what is no number missing (NaN).
    pub fn tame(&self, x: &[f64], out: &mut Vec<f64>) {
        out.clear();
        out.extend(x.iter().zip(&self.low).zip(&self.high).map(|((x, low), high)| {
            let tamed = if x > high { *high } else { *x };
            let tamed = if tamed < *low { *low } else { tamed };
            if x.abs() <= GREATEST { tamed } else { f64::NAN }
        }));
    }

    /// Counts a vector that has been tamed.
    pub fn count(&mut self, x: &[f64]) {
        self.moments.update(x);
    }

    /// Looks means and deviations up.
    pub fn look_up(&mut self, variance_min: f64) {
        for j in 0..self.means.len() {
            let (mean, variance) = (self.moments.mean(j), self.moments.variance(j));
            if varies(mean, variance, variance_min) {
                let deviation = variance.sqrt();
                (self.low[j], self.high[j]) = (mean - FARTHEST * deviation, mean + FARTHEST * deviation);
                (self.means[j], self.inverses[j]) = (mean, 1.0 / deviation);
            } else {
                (self.low[j], self.high[j]) = (f64::NEG_INFINITY, f64::INFINITY);
                (self.means[j], self.inverses[j]) = (0.0, 0.0);
            }
        }
    }

    /// Scales a vector that has been tamed. `out` has room for it.
    pub fn scale(&self, x: &[f64], out: &mut Scaled) {
        for ((((x, mean), inverse), z), there) in
            x.iter().zip(&self.means).zip(&self.inverses).zip(&mut out.z).zip(&mut out.there)
        {
            let scaled = (x - mean) * inverse;
            (*z, *there) = if x.is_nan() { (0.0, 0.0) } else { (scaled, 1.0) };
        }
        for ((z, there), cell) in out.z.iter().zip(&out.there).zip(&mut out.cells) {
            let cell_of_it = cell_of(*z);
            *cell = if *there > 0.0 { cell_of_it } else { MISSING };
        }
    }

    /// Writes down what is looked up, and the moments.
    pub fn save(&self, out: &mut Vec<u8>) {
        self.moments.save(out);
        for floats in [&self.low, &self.high, &self.means, &self.inverses] {
            floats.iter().for_each(|f| out.extend_from_slice(&f.to_bits().to_le_bytes()));
        }
    }

    /// What [`Scale::save`] wrote.
    pub fn restore(&mut self, bytes: &mut &[u8]) -> Option<()> {
        self.moments = Moments::restore(bytes)?;
        for floats in [&mut self.low, &mut self.high, &mut self.means, &mut self.inverses] {
            for float in floats {
                let (first, rest) = bytes.split_first_chunk::<8>()?;
                *float = f64::from_bits(u64::from_le_bytes(*first));
                *bytes = rest;
            }
        }
        Some(())
    }
}

impl Scaled {
    /// Room for `n` features, padded to `stride`.
    pub fn new(n: usize, stride: usize) -> Scaled {
        Scaled { z: vec![0.0; stride], there: vec![0.0; stride], cells: vec![MISSING; n] }
    }
}

/// Whether a feature varies by more than the least that counts and by more than rounding.
pub fn varies(mean: f64, variance: f64, variance_min: f64) -> bool {
    let rounding = ROUNDING * mean;
    variance > variance_min && variance > rounding * rounding
}

/// The cell of a z-score: narrow about the mean, wide in the tails; `z / (|z| + knee)` is cut evenly.
pub fn cell_of(z: f64) -> u8 {
    const HALF: f64 = (CELLS - 1) as f64 / 2.0;
    const SPREAD: f64 = HALF * (FARTHEST + KNEE) / FARTHEST;
    /// Added to a small number, leaves it rounded in the last bits.
    const ROUND: f64 = 4_503_599_627_370_496.0;
    let place = z / (z.abs() + KNEE) * SPREAD + HALF;
    let place = if place > (CELLS - 1) as f64 { (CELLS - 1) as f64 } else { place };
    let place = if place < 0.0 { 0.0 } else { place };
    (place + ROUND).to_bits() as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_grow_with_the_score_and_all_are_used() {
        let mut seen = [false; CELLS];
        let mut last = 0;
        for i in -100_000..=100_000 {
            let cell = cell_of(f64::from(i) * 1e-4);
            assert!(cell >= last && usize::from(cell) < CELLS);
            (last, seen[usize::from(cell)]) = (cell, true);
        }
        assert!(seen.iter().all(|s| *s));
        assert_eq!((cell_of(-10.001), cell_of(10.001)), (0, 63));
    }
}
