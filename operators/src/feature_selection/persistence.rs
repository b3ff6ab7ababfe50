//! How long features last, by which labels that overlap are worth less than as many that do not.
//!
//! Labels whose ways overlap are alike, and so are the bins of a feature that lasts: what chance has put together once
//! it puts together again and again, and looks like information. If classes agree with those k labels before by κ(k),
//! and bins by β(k), where 1 is always and 0 as chance has it, then of n labels those are worth n / f with
//!
//! ```text
//! f = 1 + 2 Σ β(k) κ(k),   k = 1 … overlap − 1
//! ```
//!
//! (M. Bartlett 1935, of the correlation of two series). Of a Gaussian value cut into m equal quantiles, whose
//! correlation with the one before is r, agreement is about `exp(−c √(1 − r)) − exp(−c) (1 − r)` with `c = m² / (π (m −
//! 1))`: near r = 1 that is how often a quantile's border is crossed, and it is 0 at r = 0. A move has r = 1 − k /
//! overlap with that k labels before, and a feature ρ^k, with ρ its correlation from one labelled vector to the next.

use super::forget::halve;

/// Forgotten correlations of each feature's z-score with that of the labelled vector before.
#[derive(Clone, Debug, PartialEq)]
pub struct Persistence {
    before: Vec<f64>,
    products: Vec<f64>,
    squares: Vec<f64>,
}

impl Persistence {
    /// No vectors yet, padded to `stride`.
    pub fn new(stride: usize) -> Persistence {
        Persistence { before: vec![0.0; stride], products: vec![0.0; stride], squares: vec![0.0; stride] }
    }

    /// Takes the z-scores of the next labelled vector.
    pub fn take(&mut self, z: &[f64], weight: f64) {
        let sums = self.products.iter_mut().zip(&mut self.squares);
        for ((z, before), (product, square)) in z.iter().zip(&mut self.before).zip(sums) {
            let weighted = weight * z;
            *product += weighted * *before;
            *square += weighted * z;
            *before = *z;
        }
    }

    /// Forgets half.
    pub fn halve(&mut self) {
        halve(&mut self.products);
        halve(&mut self.squares);
    }

    /// The correlation of a feature with itself one labelled vector before, from 0 to 1.
    pub fn of(&self, feature: usize) -> f64 {
        if self.squares[feature] > 0.0 { (self.products[feature] / self.squares[feature]).clamp(0.0, 1.0) } else { 0.0 }
    }

    /// Writes everything down.
    pub fn save(&self, out: &mut Vec<u8>) {
        let floats = self.before.iter().chain(&self.products).chain(&self.squares);
        floats.for_each(|f| out.extend_from_slice(&f.to_bits().to_le_bytes()));
    }

    /// What [`Persistence::save`] wrote.
    pub fn restore(&mut self, bytes: &mut &[u8]) -> Option<()> {
        for float in self.before.iter_mut().chain(&mut self.products).chain(&mut self.squares) {
            let (first, rest) = bytes.split_first_chunk::<8>()?;
            *float = f64::from_bits(u64::from_le_bytes(*first));
            *bytes = rest;
        }
        Some(())
    }
}

/// The labels before with which a label overlaps, taken together where they are many.
#[derive(Clone, Debug)]
pub struct Overlap {
    /// How far before, and how often that counts: for how many labels it stands, and how much their classes agree.
    lags: Vec<(f64, f64)>,
}

/// So many labels before are taken one by one; where there are more, so many groups of them, each wider than the last.
const GROUPS: u64 = 16;

impl Overlap {
    /// Of labels of so many classes.
    pub fn new(overlap: u64, classes: usize) -> Overlap {
        let before = overlap - 1;
        let agree = |lag: f64| agreement(1.0 - lag / overlap as f64, classes);
        let lags = if before <= GROUPS {
            (1..overlap).map(|lag| (lag as f64, agree(lag as f64))).collect()
        } else {
            // Lag k is from k − ½ to k + ½.
            let growth = libm::log((2 * before + 1) as f64) / GROUPS as f64;
            let edge = |i: f64| 0.5 * libm::exp(growth * i);
            let group = |i: u64| {
                let (lag, width) = (edge(i as f64 + 0.5), edge(i as f64 + 1.0) - edge(i as f64));
                (lag, width * agree(lag))
            };
            (0..GROUPS).map(group).collect()
        };
        Overlap { lags }
    }

    /// f: by how much labels are worth less with a feature that lasts so, in so many bins.
    pub fn inflation(&self, lasts: f64, bins: usize) -> f64 {
        let mut sum = 0.0;
        for (lag, times) in &self.lags {
            sum += times * agreement(libm::pow(lasts, *lag), bins);
        }
        (1.0 + 2.0 * sum).max(1.0)
    }
}

/// How much more than by chance two values of this correlation agree on their quantile of so many.
fn agreement(correlation: f64, quantiles: usize) -> f64 {
    if quantiles < 2 {
        return 0.0;
    }
    let m = quantiles as f64;
    let border = m * m / (std::f64::consts::PI * (m - 1.0));
    let apart = 1.0 - correlation;
    libm::exp(-border * apart.sqrt()) - libm::exp(-border) * apart
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agreement_is_about_that_of_quantiles() {
        assert_eq!([agreement(1.0, 10), agreement(0.0, 10)], [1.0, 0.0]);
        // Of halves it is 2/π asin r.
        for r in [0.2, 0.5, 0.8, 0.95, 0.99] {
            let exact = 2.0 / std::f64::consts::PI * f64::asin(r);
            assert!((agreement(r, 2) - exact).abs() < 0.1, "{r}: {} is not {exact}", agreement(r, 2));
        }
    }

    #[test]
    fn groups_are_as_good_as_one_by_one() {
        for overlap in [1_u64, 2, 10, 20, 100, 2000] {
            let whole = |lasts: f64| {
                let of =
                    |k: u64| agreement(1.0 - k as f64 / overlap as f64, 3) * agreement(libm::pow(lasts, k as f64), 10);
                1.0 + 2.0 * (1..overlap).map(of).sum::<f64>()
            };
            for lasts in [0.0, 0.5, 0.9, 0.99, 0.9999, 1.0] {
                let (grouped, exact) = (Overlap::new(overlap, 3).inflation(lasts, 10), whole(lasts));
                assert!((grouped - exact).abs() < 0.05 * exact, "{overlap}, {lasts}: {grouped} is not {exact}");
            }
        }
    }
}
