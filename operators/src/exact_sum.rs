//! The sum of any multiset of floats, exact: what was added can be taken away again, and order never shows.
//!
//! Every finite `f64` is an integer times 2^-1074, so a sum is an integer of some 2200 bits. Most data lie within a
//! few dozen powers of two of each other; their sum is kept in one `i128` **window** whose lowest bit weighs
//! `2^base`, and an addition is a shift and an add. What does not fit goes to the full-width integer, made on first
//! need (the "long accumulator" of Kulisch). NaN and the infinities are counted apart, because they too can be
//! taken back. The sum is rounded once, to nearest even, when it is read.

/// The weight of the full-width integer's lowest bit: that of the smallest subnormal.
const LOW: i32 = -1074;

/// 64-bit limbs of the full-width integer: 2304 bits reach from 2^-1074 beyond 2^1024 with room for 2^100 additions.
const LIMBS: usize = 36;

/// A value may stand this far above and below the first one and still enter the window: 53 + 2 · 32 bits of 127
/// leave room for a thousand additions before the window is emptied into the wide integer.
const REACH: i32 = 32;

/// An exact, order-independent, retractable sum of floats.
#[derive(Clone, Debug, Default)]
pub struct ExactSum {
    window: i128,
    wide: Option<Box<Wide>>,
    base: i16,
    /// Whether `base` has been chosen.
    placed: bool,
}

/// The full-width integer, two's complement, lowest limb first, and the counts of what is no number.
#[derive(Clone, Debug)]
struct Wide {
    limbs: [u64; LIMBS],
    nan: i64,
    plus: i64,
    minus: i64,
}

impl ExactSum {
    /// The empty sum.
    pub fn new() -> ExactSum {
        ExactSum::default()
    }

    /// Adds a value once.
    #[inline]
    pub fn add(&mut self, value: f64) {
        let bits = value.to_bits();
        let exponent = (bits >> 52 & 0x7ff) as i32;
        let mantissa = ((bits & ((1 << 52) - 1)) | (1 << 52)) as i64;
        // Normal numbers within the window's reach: nearly all there are.
        let shift = exponent - 1075 - i32::from(self.base);
        if self.placed && exponent != 0 && exponent != 0x7ff && (0..=2 * REACH).contains(&shift) {
            let signed = if bits >> 63 == 0 { mantissa } else { -mantissa };
            if let Some(sum) = self.window.checked_add(i128::from(signed) << shift) {
                self.window = sum;
                return;
            }
        }
        self.add_times(value, 1);
    }

    /// Adds a value `times` times; takes it away if `times` is negative.
    pub fn add_times(&mut self, value: f64, times: i64) {
        if !value.is_finite() {
            let wide = self.wide();
            let count = if value.is_nan() {
                &mut wide.nan
            } else if value > 0.0 {
                &mut wide.plus
            } else {
                &mut wide.minus
            };
            *count += times;
            return;
        }
        let (mantissa, exponent) = parts(value);
        if mantissa == 0 {
            return;
        }
        let mut rest = i128::from(mantissa) * i128::from(times);
        let mut exponent = exponent;
        // In pieces of 53 bits, so that each is like one value.
        while rest != 0 {
            let piece = (rest % (1 << 53)) as i64;
            self.add_piece(piece, exponent);
            rest /= 1 << 53;
            exponent += 53;
        }
    }

    fn add_piece(&mut self, piece: i64, exponent: i32) {
        if piece == 0 {
            return;
        }
        if !self.placed {
            self.base = (exponent - REACH).max(LOW) as i16;
            self.placed = true;
        }
        let shift = exponent - i32::from(self.base);
        if !(0..=2 * REACH).contains(&shift) {
            self.wide().add(i128::from(piece), exponent);
            return;
        }
        let term = i128::from(piece) << shift;
        self.window = match self.window.checked_add(term) {
            Some(sum) => sum,
            None => {
                let (full, base) = (self.window, i32::from(self.base));
                self.wide().add(full, base);
                term
            }
        };
    }

    /// The sum, rounded once to nearest, ties to even. NaN if there is a NaN or infinities of both signs.
    pub fn value(&self) -> f64 {
        if let Some(wide) = &self.wide {
            if wide.nan != 0 || (wide.plus != 0 && wide.minus != 0) {
                return f64::NAN;
            }
            if wide.plus != 0 || wide.minus != 0 {
                return if wide.plus != 0 { f64::INFINITY } else { f64::NEG_INFINITY };
            }
            if wide.limbs.iter().any(|l| *l != 0) {
                return self.total().value();
            }
        }
        // The top 64 bits, the lowest of them set if anything below is: `as` then rounds to nearest even as the whole
        // would. The scaling is exact: a sum is a multiple of 2^-1074, so one that is subnormal had few enough bits to
        // need no rounding.
        let magnitude = self.window.unsigned_abs();
        let below = 64 - ((magnitude >> 64) as u64).leading_zeros();
        let head = (magnitude >> below) as u64 | u64::from(magnitude & ((1 << below) - 1) != 0);
        let value = head as f64 * power_of_two(i32::from(self.base) + below as i32);
        if self.window < 0 { -value } else { value }
    }

    /// One form for one sum: however it was reached, equal sums give equal bytes.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let counts = self.wide.as_ref().map_or([0; 3], |w| [w.nan, w.plus, w.minus]);
        let special = counts != [0; 3];
        let wide = self.wide.as_ref().is_some_and(|w| w.limbs.iter().any(|l| *l != 0));
        let (narrow_bytes, wide_bytes);
        let (bytes, exponent, negative): (&[u8], i32, bool) = if wide {
            let (bytes, exponent, negative) = self.total().odd_magnitude();
            wide_bytes = bytes;
            (&wide_bytes, exponent, negative)
        } else {
            let zeros = if self.window == 0 { 0 } else { self.window.trailing_zeros() };
            narrow_bytes = (self.window >> zeros).unsigned_abs().to_le_bytes();
            (&narrow_bytes, i32::from(self.base) + zeros as i32, self.window < 0)
        };
        let len = bytes.iter().rposition(|b| *b != 0).map_or(0, |p| p + 1);
        let exponent = if len == 0 { 0 } else { exponent as i16 };
        out.push(u8::from(negative) | u8::from(special) << 1);
        out.extend_from_slice(&(len as u16).to_le_bytes());
        out.extend_from_slice(&exponent.to_le_bytes());
        out.extend_from_slice(&bytes[..len]);
        if special {
            for count in counts {
                out.extend_from_slice(&count.to_le_bytes());
            }
        }
    }

    /// The sum whose bytes stand at the front of the slice, which is moved behind them. Panics on other bytes:
    /// the store's checksums make damage an error found earlier.
    pub fn decode(bytes: &mut &[u8]) -> ExactSum {
        let mut take = |n: usize| {
            let (front, rest) = bytes.split_at(n);
            *bytes = rest;
            front
        };
        let flags = take(1)[0];
        let len = usize::from(u16::from_le_bytes(take(2).try_into().expect("two bytes")));
        let exponent = i32::from(i16::from_le_bytes(take(2).try_into().expect("two bytes")));
        let mut sum = ExactSum::new();
        for (i, chunk) in take(len).chunks(4).enumerate() {
            let mut digit = [0; 8];
            digit[..chunk.len()].copy_from_slice(chunk);
            let digit = i64::from_le_bytes(digit);
            sum.add_piece(if flags & 1 == 0 { digit } else { -digit }, exponent + 32 * i as i32);
        }
        if flags & 2 != 0 {
            let mut count = || i64::from_le_bytes(take(8).try_into().expect("eight bytes"));
            let (nan, plus, minus) = (count(), count(), count());
            let wide = sum.wide();
            (wide.nan, wide.plus, wide.minus) = (nan, plus, minus);
        }
        sum
    }

    /// Window and wide integer together.
    fn total(&self) -> Wide {
        let mut total = self.wide.as_deref().cloned().unwrap_or_else(Wide::zero);
        total.add(self.window, i32::from(self.base));
        total
    }

    fn wide(&mut self) -> &mut Wide {
        self.wide.get_or_insert_with(|| Box::new(Wide::zero()))
    }
}

impl Wide {
    fn zero() -> Wide {
        Wide { limbs: [0; LIMBS], nan: 0, plus: 0, minus: 0 }
    }

    /// Adds `value · 2^exponent`.
    fn add(&mut self, value: i128, exponent: i32) {
        let bit = (exponent - LOW) as usize;
        let (limb, shift) = (bit / 64, bit % 64);
        let (low, high) = (value as u64, (value >> 64) as u64);
        let sign = (value >> 127) as u64;
        // The value shifted left, as three limbs and then its sign for ever.
        let spread = |left: u64, right: u64| if shift == 0 { left } else { left << shift | right >> (64 - shift) };
        let digits = [spread(low, 0), spread(high, low), spread(sign, high)];
        let mut carry = false;
        for i in limb..LIMBS {
            let digit = digits.get(i - limb).copied().unwrap_or(sign);
            let (a, c1) = self.limbs[i].overflowing_add(digit);
            let (b, c2) = a.overflowing_add(u64::from(carry));
            self.limbs[i] = b;
            carry = c1 || c2;
            if i - limb >= 3 && carry == (sign != 0) {
                // Adding zero without a carry, or all ones with one, changes nothing further up.
                break;
            }
        }
    }

    fn is_negative(&self) -> bool {
        self.limbs[LIMBS - 1] >> 63 == 1
    }

    fn magnitude(&self) -> [u64; LIMBS] {
        let mut limbs = self.limbs;
        if self.is_negative() {
            let mut carry = true;
            for limb in &mut limbs {
                let (v, c) = (!*limb).overflowing_add(u64::from(carry));
                (*limb, carry) = (v, c);
            }
        }
        limbs
    }

    fn value(&self) -> f64 {
        let limbs = self.magnitude();
        let Some(top) = limbs.iter().rposition(|l| *l != 0) else { return 0.0 };
        let bits = 64 * top + 64 - limbs[top].leading_zeros() as usize;
        let sign = if self.is_negative() { -1.0 } else { 1.0 };
        if bits <= 64 {
            return sign * (limbs[0] as f64 * power_of_two(LOW));
        }
        // The top 64 bits, the lowest of them set if anything below is: `as` then rounds as the whole would.
        let from = bits - 64;
        let (limb, shift) = (from / 64, from % 64);
        let mut head = limbs[limb] >> shift;
        if shift > 0 {
            head |= limbs[limb + 1] << (64 - shift);
        }
        let below = limbs[..limb].iter().any(|l| *l != 0) || (shift > 0 && limbs[limb] << (64 - shift) != 0);
        sign * ((head | u64::from(below)) as f64 * power_of_two(from as i32 + LOW))
    }

    fn odd_magnitude(&self) -> (Vec<u8>, i32, bool) {
        let limbs = self.magnitude();
        let Some(first) = limbs.iter().position(|l| *l != 0) else { return (Vec::new(), 0, false) };
        let shift = limbs[first].trailing_zeros();
        let mut bytes = Vec::with_capacity(8 * LIMBS);
        for i in first..LIMBS {
            let next = if shift > 0 && i + 1 < LIMBS { limbs[i + 1] << (64 - shift) } else { 0 };
            bytes.extend_from_slice(&(limbs[i] >> shift | next).to_le_bytes());
        }
        (bytes, LOW + 64 * first as i32 + shift as i32, self.is_negative())
    }
}

/// A finite float as `mantissa · 2^exponent`.
fn parts(value: f64) -> (i64, i32) {
    let bits = value.to_bits();
    let exponent = (bits >> 52 & 0x7ff) as i32;
    let fraction = (bits & ((1 << 52) - 1)) as i64;
    let (mantissa, exponent) = if exponent == 0 { (fraction, LOW) } else { (fraction | 1 << 52, exponent - 1075) };
    (if bits >> 63 == 0 { mantissa } else { -mantissa }, exponent)
}

/// `2^exponent`, exact from −1074 to 1023 and infinite above.
fn power_of_two(exponent: i32) -> f64 {
    match exponent {
        ..-1022 => f64::from_bits(1 << (exponent - LOW)),
        -1022..=1023 => f64::from_bits(((exponent + 1023) as u64) << 52),
        _ => f64::INFINITY,
    }
}

/// The same, obviously: sums of bits, one at a time. For models and tests.
pub fn naive_sum(values: &[f64]) -> f64 {
    let count = |wanted: fn(f64) -> bool| values.iter().filter(|v| wanted(**v)).count();
    let (nan, plus, minus) = (count(|v| v.is_nan()), count(|v| v == f64::INFINITY), count(|v| v == f64::NEG_INFINITY));
    if nan > 0 || (plus > 0 && minus > 0) {
        return f64::NAN;
    }
    if plus + minus > 0 {
        return if plus > 0 { f64::INFINITY } else { f64::NEG_INFINITY };
    }
    // Two unsigned numbers in binary, digit i weighing 2^(i - 1074): the positive and the negative part.
    let mut sums = [vec![false; 2300], vec![false; 2300]];
    for value in values.iter().filter(|v| **v != 0.0) {
        let exponent = (value.to_bits() >> 52 & 0x7ff) as usize;
        let fraction = value.to_bits() & ((1 << 52) - 1);
        let (digits, at) = if exponent == 0 { (fraction, 0) } else { (fraction | 1 << 52, exponent - 1) };
        let sum = &mut sums[usize::from(*value < 0.0)];
        let mut carry = false;
        for (i, bit) in sum[at..].iter_mut().enumerate() {
            let digit = i < 53 && digits >> i & 1 == 1;
            let ones = u8::from(*bit) + u8::from(digit) + u8::from(carry);
            *bit = ones & 1 == 1;
            carry = ones > 1;
        }
    }
    let [plus, minus] = sums;
    let negative = plus.iter().rev().lt(minus.iter().rev());
    let (large, small) = if negative { (minus, plus) } else { (plus, minus) };
    let mut rest = vec![false; 2300];
    let mut borrow = false;
    for i in 0..rest.len() {
        let ones = i8::from(large[i]) - i8::from(small[i]) - i8::from(borrow);
        rest[i] = ones & 1 != 0;
        borrow = ones < 0;
    }
    let Some(top) = rest.iter().rposition(|d| *d) else { return 0.0 };
    let first = top.saturating_sub(52);
    let mut mantissa = (first..=top).rev().fold(0u64, |m, i| m << 1 | u64::from(rest[i]));
    let half = first > 0 && rest[first - 1];
    let more = first > 1 && rest[..first - 1].contains(&true);
    if half && (more || mantissa & 1 == 1) {
        mantissa += 1;
    }
    // A mantissa that was rounded up to 2^53 carries into the exponent by itself.
    let bits = if top < 52 { mantissa } else { ((first as u64) << 52) + mantissa };
    let magnitude = if bits >= 0x7ff << 52 { f64::INFINITY } else { f64::from_bits(bits) };
    if negative { -magnitude } else { magnitude }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A counter-based generator: enough for tests.
    fn random(seed: u64) -> impl FnMut() -> u64 {
        let mut state = seed;
        move || {
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut z = state;
            z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
            z ^ z >> 31
        }
    }

    fn sum(values: &[f64]) -> ExactSum {
        let mut s = ExactSum::new();
        values.iter().for_each(|v| s.add(*v));
        s
    }

    fn bytes(s: &ExactSum) -> Vec<u8> {
        let mut out = Vec::new();
        s.encode(&mut out);
        out
    }

    #[test]
    fn known_sums() {
        for (values, expected) in [
            (vec![], 0.0),
            (vec![-0.0], 0.0),
            (vec![0.1; 10], 1.0),
            (vec![1e308, 1e308, -1e308], 1e308),
            (vec![1e308, 1e308], f64::INFINITY),
            (vec![1e100, 1.0, -1e100], 1.0),
            (vec![f64::from_bits(1), f64::from_bits(1)], f64::from_bits(2)),
            (vec![f64::MAX, f64::from_bits(1)], f64::MAX),
            (vec![f64::MAX, -f64::MAX, f64::from_bits(1)], f64::from_bits(1)),
            (vec![1.0, f64::EPSILON / 2.0], 1.0),
            (vec![1.0, f64::EPSILON / 2.0, f64::from_bits(1)], 1.0 + f64::EPSILON),
            (vec![f64::INFINITY, -1.0], f64::INFINITY),
            (vec![f64::NEG_INFINITY, 1.0], f64::NEG_INFINITY),
        ] {
            assert_eq!(sum(&values).value().to_bits(), expected.to_bits(), "{values:?}");
            assert_eq!(naive_sum(&values).to_bits(), expected.to_bits(), "naive {values:?}");
        }
        assert!(sum(&[f64::INFINITY, f64::NEG_INFINITY]).value().is_nan());
        assert!(sum(&[f64::NAN, 1.0]).value().is_nan());
    }

    #[test]
    fn random_sums_equal_the_naive_sum_in_every_order_and_after_retraction() {
        let mut next = random(1);
        for round in 0..400 {
            let spread = [3, 40, 70, 300, 2047][round % 5];
            let center = next() % 2048;
            let mut values: Vec<f64> = (0..1 + next() % 40)
                .map(|_| {
                    let exponent = (center + next() % spread).min(2046);
                    f64::from_bits((next() & (1 << 63 | ((1 << 52) - 1))) | exponent << 52)
                })
                .collect();
            let s = sum(&values);
            let expected = naive_sum(&values);
            assert_eq!(s.value().to_bits(), (expected + 0.0).to_bits(), "round {round}: {values:?}");

            values.sort_by_key(|v| v.to_bits().wrapping_mul(0x9e37_79b9));
            let mut other = sum(&[f64::NAN, 1e-300, 12.5, f64::INFINITY]);
            values.iter().for_each(|v| other.add_times(*v, 3));
            values.iter().for_each(|v| other.add_times(*v, -2));
            [f64::NAN, 1e-300, 12.5, f64::INFINITY].iter().for_each(|v| other.add_times(*v, -1));
            assert_eq!(bytes(&other), bytes(&s), "one form, round {round}");
            assert_eq!(other.value().to_bits(), s.value().to_bits());

            let stored = bytes(&s);
            let mut slice = stored.as_slice();
            let back = ExactSum::decode(&mut slice);
            assert!(slice.is_empty());
            assert_eq!((bytes(&back), back.value().to_bits()), (stored, s.value().to_bits()));
        }
    }

    #[test]
    fn large_multiplicities_are_exact() {
        let mut s = ExactSum::new();
        s.add_times(0.1, i64::MAX);
        s.add_times(f64::MAX, 1 << 40);
        s.add_times(f64::MAX, -(1 << 40));
        s.add_times(0.1, 2 - i64::MAX);
        assert_eq!(s.value(), 0.2);
    }

    #[test]
    fn specials_come_back_from_bytes() {
        let s = sum(&[f64::NAN, 2.0, f64::INFINITY]);
        let stored = bytes(&s);
        let mut back = ExactSum::decode(&mut stored.as_slice());
        assert!(back.value().is_nan());
        back.add_times(f64::NAN, -1);
        assert_eq!(back.value(), f64::INFINITY);
        back.add_times(f64::INFINITY, -1);
        assert_eq!(back.value(), 2.0);
        assert_eq!(bytes(&back), bytes(&sum(&[2.0])));
    }
}
