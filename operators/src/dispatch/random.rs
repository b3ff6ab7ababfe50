//! Randomness that is a function of what it is for: no state, no order of drawing.

/// A well-mixed number of a seed and two counters (the finaliser of splitmix64, Steele et al. 2014, once a word).
pub fn draw(seed: u64, a: u64, b: u64) -> u64 {
    let mut z = mix(seed.wrapping_add(0x9e37_79b9_7f4a_7c15));
    z = mix(z ^ a.wrapping_mul(0xd6e8_feb8_6659_fd93));
    mix(z ^ b.wrapping_mul(0xa076_1d64_78bd_642f))
}

/// As [`draw`], uniform in [0, 1): 53 bits.
pub fn uniform(seed: u64, a: u64, b: u64) -> f64 {
    (draw(seed, a, b) >> 11) as f64 * (1.0 / (1u64 << 53) as f64)
}

fn mix(mut z: u64) -> u64 {
    z = z.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
