//! Numbers that look random and are a function of a seed and a counter.

use types::random::{self, STEP, mix};

/// The number at a counter, from 0 up to and without 1.
pub fn unit(seed: u64, counter: u64) -> f64 {
    random::unit(mix(seed.wrapping_add(counter.wrapping_add(1).wrapping_mul(STEP))))
}
