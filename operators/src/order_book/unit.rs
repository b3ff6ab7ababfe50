//! A unit that prices or sizes are whole numbers of, exactly as decimals write them.

/// A unit.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Unit {
    /// So many make 1.
    Part(f64),
    /// So much is one.
    Whole(f64),
}

impl Unit {
    /// A unit of this size, above 0. One that is a whole part of 1 up to rounding, as 0.01 is, is taken as that part.
    pub fn new(size: f64) -> Unit {
        let parts = (1.0 / size).round_ties_even();
        if size < 1.0 && (size * parts - 1.0).abs() < 1e-9 { Unit::Part(parts) } else { Unit::Whole(size) }
    }

    /// So many units. For a decimal of up to 15 digits this is the very float its text is read as.
    pub fn value(self, count: f64) -> f64 {
        match self {
            Unit::Part(parts) => count / parts,
            Unit::Whole(size) => count * size,
        }
    }

    /// How many units a value is, if it is a whole number of them below 2^53.
    pub fn count(self, value: f64) -> Option<f64> {
        let count = match self {
            Unit::Part(parts) => value * parts,
            Unit::Whole(size) => value / size,
        }
        .round_ties_even();
        (self.value(count) == value && count.abs() < 9_007_199_254_740_992.0).then_some(count + 0.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals_are_whole_numbers_of_their_unit() {
        let lot = Unit::new(1e-8);
        for text in ["0.00000001", "1.78855669", "6.71355612", "84467.12345678", "0.1", "0.3", "21000000"] {
            let value: f64 = text.parse().unwrap();
            let count = lot.count(value).unwrap();
            assert_eq!(count, (value * 1e8).round());
            assert_eq!(lot.value(count), value);
        }
        assert_eq!(lot.count(1e-9), None);
        assert_eq!(lot.count(1e9), None, "beyond 2^53 lots");
        assert_eq!(Unit::new(0.25).count(0.3), None);
        assert_eq!(Unit::new(5.0).count(35.0), Some(7.0));
        assert_eq!(Unit::new(1.0).count(-3.0), Some(-3.0));
    }
}
