//! Randomness that is a function of what it is for: SplitMix64 (G. Steele, D. Lea and C. Flood, "Fast splittable
//! pseudorandom number generators", 2014), of which every draw mixes its own seed, purpose and counters.

/// What a counter goes on by: the odd number nearest 2⁶⁴ over the golden ratio.
pub const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

/// The finaliser: every bit of the result depends on every bit of `z`.
pub fn mix(z: u64) -> u64 {
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// A number in [0, 1) of the upper 53 bits.
pub fn unit(z: u64) -> f64 {
    (z >> 11) as f64 / (1u64 << 53) as f64
}
