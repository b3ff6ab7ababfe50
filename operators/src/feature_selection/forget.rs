//! How the past is forgotten: sums whose newest entry weighs more and more, halved after each half-life.
//!
//! With a half-life of `h` vectors the one numbered t weighs `2^((t mod h) / h)` in its turn, and every `h` vectors all
//! sums are halved. A factor of two is exact, so each sum is, to the bit, the sum of all its terms at the weights they
//! have now, added in their order: forgetting costs nothing a vector and rounds nothing.

/// The weight of the vector at hand.
#[derive(Clone, Debug, PartialEq)]
pub struct Forgetting {
    half_life: u64,
    step: f64,
    phase: u64,
    weight: f64,
    is_begun: bool,
}

impl Forgetting {
    /// Before the first vector.
    pub fn new(half_life: u64) -> Forgetting {
        Forgetting { half_life, step: step(half_life), phase: 0, weight: 1.0, is_begun: false }
    }

    /// Goes on to the next vector. True if everything summed so far is to be halved first.
    pub fn next(&mut self) -> bool {
        if !std::mem::replace(&mut self.is_begun, true) {
            return false;
        }
        self.phase += 1;
        if self.phase == self.half_life {
            (self.phase, self.weight) = (0, 1.0);
            return true;
        }
        self.weight *= self.step;
        false
    }

    /// What the vector at hand weighs.
    pub fn weight(&self) -> f64 {
        self.weight
    }

    /// What is to be kept, beside the half-life.
    pub fn state(&self) -> (u64, f64, bool) {
        (self.phase, self.weight, self.is_begun)
    }

    /// Goes on from what was kept.
    pub fn restore(&mut self, (phase, weight, is_begun): (u64, f64, bool)) {
        (self.phase, self.weight, self.is_begun) = (phase, weight, is_begun);
    }
}

/// By how much a vector weighs more than the one before.
pub fn step(half_life: u64) -> f64 {
    libm::exp2(1.0 / half_life as f64)
}

/// Halves sums.
pub fn halve(sums: &mut [f64]) {
    sums.iter_mut().for_each(|s| *s *= 0.5);
}

/// Ages sums by so many half-lives: exact, as a power of two.
pub fn age(sums: &mut [f64], half_lives: u32) {
    (0..half_lives).for_each(|_| halve(sums));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sum_is_the_sum_of_its_terms_at_their_weights_now() {
        for half_life in [1_u64, 3, 20] {
            let (mut forgetting, mut sum) = (Forgetting::new(half_life), 0.0);
            for t in 0..200_u64 {
                if forgetting.next() {
                    sum *= 0.5;
                }
                sum += forgetting.weight() * (t as f64 * 0.37 + 0.1);
                let mut plain = 0.0;
                for s in 0..=t {
                    let mut weight = 1.0;
                    (0..s % half_life).for_each(|_| weight *= step(half_life));
                    (0..t / half_life - s / half_life).for_each(|_| weight *= 0.5);
                    plain += weight * (s as f64 * 0.37 + 0.1);
                    let power = libm::exp2(-((t - s) as f64) / half_life as f64);
                    assert!((weight / forgetting.weight() - power).abs() < 1e-12);
                }
                assert_eq!(sum, plain);
            }
        }
    }
}
