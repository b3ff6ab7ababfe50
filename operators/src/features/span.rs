//! How far back a feature looks: a number of ticks, or a time.

use std::fmt;

/// A stretch of the past, or a half-life: of ticks or of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Span {
    /// So many ticks.
    Ticks(u64),
    /// So many microseconds.
    Micros(i64),
}

/// The longest span of ticks.
pub const TICKS_MAX: u64 = 1_000_000;
/// The longest span of time: a day.
pub const MICROS_MAX: i64 = 86_400_000_000;

/// The units of time with their microseconds, the largest first.
const UNITS: [(&str, i64); 5] = [("h", 3_600_000_000), ("m", 60_000_000), ("s", 1_000_000), ("ms", 1000), ("us", 1)];

impl Span {
    /// Reads `20` (ticks), `250us`, `100ms`, `2s`, `5m` or `1h`.
    pub fn parse(text: &str) -> Option<Span> {
        let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let (number, unit) = text.split_at(digits);
        let number: i64 = number.parse().ok()?;
        if unit.is_empty() {
            return u64::try_from(number).ok().filter(|n| (1..=TICKS_MAX).contains(n)).map(Span::Ticks);
        }
        let (_, micros) = UNITS.iter().find(|(name, _)| *name == unit)?;
        number.checked_mul(*micros).filter(|m| (1..=MICROS_MAX).contains(m)).map(Span::Micros)
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Span::Ticks(ticks) => write!(f, "{ticks}"),
            Span::Micros(micros) => {
                let (name, unit) = UNITS.iter().find(|(_, unit)| micros % unit == 0).expect("one microsecond divides");
                write!(f, "{}{name}", micros / unit)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_read_and_written() {
        for (text, written) in
            [("20", "20"), ("1000ms", "1s"), ("90s", "90s"), ("60s", "1m"), ("24h", "24h"), ("7us", "7us")]
        {
            assert_eq!(Span::parse(text).unwrap().to_string(), written);
        }
        for text in ["", "0", "s", "1.5s", "-1", "2 s", "25h", "1000001", "0ms", "3d"] {
            assert_eq!(Span::parse(text), None, "{text}");
        }
    }
}
