//! Draws of the kernels of dispatch: functions of a seed and two counters, in no order.

use types::random::{STEP, mix, unit};

/// A well-mixed number of a seed and two counters: the finaliser once a word.
pub fn draw(seed: u64, a: u64, b: u64) -> u64 {
    let mut z = mix(seed.wrapping_add(STEP).wrapping_add(STEP));
    z = mix((z ^ a.wrapping_mul(0xd6e8_feb8_6659_fd93)).wrapping_add(STEP));
    mix((z ^ b.wrapping_mul(0xa076_1d64_78bd_642f)).wrapping_add(STEP))
}

/// As [`draw`], uniform in [0, 1): 53 bits.
pub fn uniform(seed: u64, a: u64, b: u64) -> f64 {
    unit(draw(seed, a, b))
}
