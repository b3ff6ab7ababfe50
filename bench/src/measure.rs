//! Times, medians and quantiles, and the seeded numbers that inputs are made of.

use std::time::Instant;

/// One figure's repetitions.
#[derive(Clone, Debug, Default)]
pub struct Samples(Vec<f64>);

impl Samples {
    /// Adds a repetition.
    pub fn push(&mut self, value: f64) {
        self.0.push(value);
    }

    /// The middle one; the mean of the two middle ones of an even number. NaN of none.
    pub fn median(&self) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_unstable_by(f64::total_cmp);
        let n = sorted.len();
        match n {
            0 => f64::NAN,
            n if n % 2 == 1 => sorted[n / 2],
            n => (sorted[n / 2 - 1] + sorted[n / 2]) / 2.0,
        }
    }

    /// The least and the greatest.
    pub fn spread(&self) -> (f64, f64) {
        let least = self.0.iter().copied().fold(f64::INFINITY, f64::min);
        (least, self.0.iter().copied().fold(f64::NEG_INFINITY, f64::max))
    }

    /// Every repetition by a function of it.
    pub fn map(&self, f: impl Fn(f64) -> f64) -> Samples {
        Samples(self.0.iter().copied().map(f).collect())
    }
}

/// What a function gives, and the seconds it took.
pub fn timed<R>(f: impl FnOnce() -> R) -> (R, f64) {
    let start = Instant::now();
    let result = f();
    (result, start.elapsed().as_secs_f64())
}

/// The value at a share of a sorted list: the least value that is at least as great as that share of them.
pub fn quantile<T: Copy>(sorted: &[T], share: f64) -> T {
    let at = (share * sorted.len() as f64).ceil() as usize;
    sorted[at.clamp(1, sorted.len()) - 1]
}

/// Seeded numbers: splitmix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", 2014).
#[derive(Clone, Debug)]
pub struct Rng(u64);

impl Rng {
    /// A sequence of its own for every seed.
    pub fn new(seed: u64) -> Rng {
        Rng(seed)
    }

    /// The next 64 bits.
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `bound`, near enough to uniform for bounds far below 2⁶⁴.
    pub fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(bound)) >> 64) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_and_quantiles() {
        let mut samples = Samples::default();
        for v in [5.0, 1.0, 4.0] {
            samples.push(v);
        }
        assert_eq!(samples.median(), 4.0);
        samples.push(2.0);
        assert_eq!(samples.median(), 3.0);
        assert_eq!(samples.spread(), (1.0, 5.0));
        let sorted: Vec<u32> = (1..=100).collect();
        assert_eq!([quantile(&sorted, 0.5), quantile(&sorted, 0.99), quantile(&sorted, 1.0)], [50, 99, 100]);
        assert_eq!(quantile(&[7], 0.0), 7);
    }
}
