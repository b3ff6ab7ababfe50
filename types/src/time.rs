//! Event times as text or as numbers, to microseconds since 1970 UTC.

use crate::Micros;

/// How a timestamp column is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TimeFormat {
    /// RFC 3339, `YYYY-MM-DD HH:MM[:SS[.fraction]]` or `YYYY-MM-DD`; without an offset it is UTC.
    Auto,
    /// A number of these since 1970: so many microseconds each, or so many of them a microsecond.
    Epoch(Unit),
    /// A `strftime` pattern; without an offset it is UTC.
    Pattern(String),
}

/// The unit of an epoch number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Of a second.
    Second,
    /// Of a thousandth of a second.
    Milli,
    /// Of a millionth of a second.
    Micro,
    /// Of a billionth of a second.
    Nano,
}

impl Unit {
    /// What a pipeline file calls them.
    pub const NAMES: [(&'static str, Unit); 4] =
        [("s", Unit::Second), ("ms", Unit::Milli), ("us", Unit::Micro), ("ns", Unit::Nano)];

    /// The name a pipeline file uses.
    pub fn name(self) -> &'static str {
        Self::NAMES.iter().find(|n| n.1 == self).expect("every unit is named").0
    }

    /// Microseconds, those before a fraction of one.
    pub fn micros(self, count: i64) -> Option<Micros> {
        match self {
            Unit::Second => count.checked_mul(1_000_000),
            Unit::Milli => count.checked_mul(1_000),
            Unit::Micro => Some(count),
            Unit::Nano => Some(count.div_euclid(1_000)),
        }
        .filter(|m| in_range(*m))
    }
}

/// Why text is no event time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimeError {
    /// It is not of the form.
    Form,
    /// It is of the form, but there is no such time, or none between the years 0000 and 9999.
    Range,
}

/// Whether a time lies in the years 0000 to 9999: those RFC 3339 can say. The ends of `i64` mean other things.
pub fn in_range(micros: Micros) -> bool {
    (-62_167_219_200_000_000..253_402_300_800_000_000).contains(&micros)
}

impl TimeFormat {
    /// Reads a time from text.
    pub fn parse(&self, text: &[u8]) -> Result<Micros, TimeError> {
        match self {
            TimeFormat::Auto => auto(text),
            TimeFormat::Epoch(unit) => epoch(text, *unit),
            TimeFormat::Pattern(pattern) => by_pattern(pattern, text),
        }
    }

    /// Reads a time from a number, which only means something if the unit is known.
    pub fn number(&self, count: i64) -> Result<Micros, TimeError> {
        match self {
            TimeFormat::Epoch(unit) => unit.micros(count).ok_or(TimeError::Range),
            _ => Err(TimeError::Form),
        }
    }

    /// What is wrong with a pattern, found by writing a time with it.
    pub fn check_pattern(pattern: &str) -> Result<(), String> {
        jiff::fmt::strtime::format(pattern, &jiff::Timestamp::UNIX_EPOCH.to_zoned(jiff::tz::TimeZone::UTC))
            .map(drop)
            .map_err(|e| e.to_string())
    }
}

/// A whole or decimal number of units.
fn epoch(text: &[u8], unit: Unit) -> Result<Micros, TimeError> {
    let word = std::str::from_utf8(text).map_err(|_| TimeError::Form)?;
    let (whole, fraction) = word.split_once('.').unwrap_or((word, ""));
    let count: i64 = whole.parse().map_err(|e: std::num::ParseIntError| match e.kind() {
        std::num::IntErrorKind::PosOverflow | std::num::IntErrorKind::NegOverflow => TimeError::Range,
        _ => TimeError::Form,
    })?;
    if !fraction.bytes().all(|b| b.is_ascii_digit()) {
        return Err(TimeError::Form);
    }
    let digits = match unit {
        Unit::Second => 6,
        Unit::Milli => 3,
        Unit::Micro | Unit::Nano => 0,
    };
    let mut part: i64 = 0;
    for i in 0..digits {
        part = part * 10 + i64::from(fraction.as_bytes().get(i).map_or(0, |b| b - b'0'));
    }
    let whole_micros = unit.micros(count).ok_or(TimeError::Range)?;
    let micros = if word.starts_with('-') { whole_micros - part } else { whole_micros + part };
    if in_range(micros) { Ok(micros) } else { Err(TimeError::Range) }
}

fn by_pattern(pattern: &str, text: &[u8]) -> Result<Micros, TimeError> {
    let parsed = jiff::fmt::strtime::parse(pattern, text).map_err(|_| TimeError::Form)?;
    let micros = if parsed.offset().is_some() || parsed.timestamp().is_some() {
        parsed.to_timestamp().map_err(|_| TimeError::Range)?.as_microsecond()
    } else {
        let date = parsed.to_date().map_err(|_| TimeError::Range)?;
        let time = if parsed.hour().is_some() {
            parsed.to_time().map_err(|_| TimeError::Range)?
        } else {
            jiff::civil::Time::midnight()
        };
        let zoned = date.to_datetime(time).to_zoned(jiff::tz::TimeZone::UTC).map_err(|_| TimeError::Range)?;
        zoned.timestamp().as_microsecond()
    };
    if in_range(micros) { Ok(micros) } else { Err(TimeError::Range) }
}

/// Two or four decimal digits at a position.
fn digits(text: &[u8], at: usize, count: usize) -> Result<i64, TimeError> {
    let part = text.get(at..at + count).ok_or(TimeError::Form)?;
    part.iter()
        .try_fold(0, |n, b| if b.is_ascii_digit() { Ok(n * 10 + i64::from(b - b'0')) } else { Err(TimeError::Form) })
}

fn auto(text: &[u8]) -> Result<Micros, TimeError> {
    let expect = |at: usize, among: &[u8]| match text.get(at) {
        Some(b) if among.contains(b) => Ok(()),
        _ => Err(TimeError::Form),
    };
    let (year, month, day) = (digits(text, 0, 4)?, digits(text, 5, 2)?, digits(text, 8, 2)?);
    expect(4, b"-")?;
    expect(7, b"-")?;
    if !(1..=12).contains(&month) || day < 1 || day > days_in_month(year, month) {
        return Err(TimeError::Range);
    }
    let day_start = days(year, month, day) * 86_400_000_000;
    if text.len() == 10 {
        return Ok(day_start);
    }
    expect(10, b"T t")?;
    let (hour, minute) = (digits(text, 11, 2)?, digits(text, 14, 2)?);
    expect(13, b":")?;
    let mut at = 16;
    let mut second = 0;
    let mut fraction = 0;
    if text.get(at) == Some(&b':') {
        second = digits(text, 17, 2)?;
        at = 19;
        if text.get(at) == Some(&b'.') {
            let part = text[20..].iter().take_while(|b| b.is_ascii_digit()).count();
            if part == 0 {
                return Err(TimeError::Form);
            }
            for i in 0..6 {
                fraction = fraction * 10 + if i < part { i64::from(text[20 + i] - b'0') } else { 0 };
            }
            at = 20 + part;
        }
    }
    if hour > 23 || minute > 59 || second > 59 {
        return Err(TimeError::Range);
    }
    let offset_minutes = match &text[at..] {
        b"" | b"Z" | b"z" | b" UTC" => 0,
        [sign @ (b'+' | b'-'), rest @ ..] => {
            let hours = digits(rest, 0, 2)?;
            let minutes = match &rest[2..] {
                b"" => 0,
                [b':', m @ ..] if m.len() == 2 => digits(m, 0, 2)?,
                m if m.len() == 2 => digits(m, 0, 2)?,
                _ => return Err(TimeError::Form),
            };
            if hours > 23 || minutes > 59 {
                return Err(TimeError::Range);
            }
            if *sign == b'-' { -(hours * 60 + minutes) } else { hours * 60 + minutes }
        }
        _ => return Err(TimeError::Form),
    };
    let micros = day_start + ((hour * 60 + minute - offset_minutes) * 60 + second) * 1_000_000 + fraction;
    if in_range(micros) { Ok(micros) } else { Err(TimeError::Range) }
}

fn days_in_month(year: i64, month: i64) -> i64 {
    match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// The day number since 1970-01-01 of a civil date (Howard Hinnant, "chrono-compatible low-level date algorithms").
fn days(year: i64, month: i64, day: i64) -> i64 {
    let y = year - i64::from(month <= 2);
    let era = y.div_euclid(400);
    let yoe = y.rem_euclid(400);
    let doy = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + yoe * 365 + yoe / 4 - yoe / 100 + doy - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: Result<&str, TimeError>) {
        let got = TimeFormat::Auto.parse(text.as_bytes()).map(crate::json::rfc3339);
        assert_eq!(got.as_deref().map_err(|e| *e), expected, "{text}");
    }

    #[test]
    fn the_usual_forms_are_understood_without_being_told() {
        check("2013-01-01 00:02:00", Ok("2013-01-01T00:02:00Z"));
        check("2013-01-01", Ok("2013-01-01T00:00:00Z"));
        check("2023-11-16 18:17:03.9799600", Ok("2023-11-16T18:17:03.97996Z"));
        check("2023-11-16T18:17+08:00", Ok("2023-11-16T10:17:00Z"));
        check("2023-11-16T18:17:00-0330", Ok("2023-11-16T21:47:00Z"));
        check("0000-01-01T00:00:00Z", Ok("0000-01-01T00:00:00Z"));
        check("2024-02-29", Ok("2024-02-29T00:00:00Z"));
    }

    #[test]
    fn times_that_do_not_exist_are_out_of_range_and_other_text_is_not_a_time() {
        check("2023-02-29", Err(TimeError::Range));
        check("2023-13-01", Err(TimeError::Range));
        check("2023-11-16 24:00:00", Err(TimeError::Range));
        check("0000-01-01T00:00:00+01:00", Err(TimeError::Range));
        check("9999-12-31T23:59:59-01:00", Err(TimeError::Range));
        for text in [
            "",
            "2023",
            "1480000000",
            "2023-11-16x",
            "2023-11-16 1:00",
            "2023-11-16T18:17:03.",
            "2023-11-16T18:17:03 Europe",
            "2023-11-16T18:17:03+1",
            "2023-1é-16",
        ] {
            check(text, Err(TimeError::Form));
        }
    }

    #[test]
    fn numbers_need_a_unit() {
        let second = TimeFormat::Epoch(Unit::Second);
        assert_eq!(second.parse(b"1480000000.25"), Ok(1_480_000_000_250_000));
        assert_eq!(second.parse(b"-0.5"), Ok(-500_000));
        assert_eq!(second.parse(b"9223372036854775807"), Err(TimeError::Range));
        assert_eq!(second.parse(b"99999999999999999999"), Err(TimeError::Range));
        assert_eq!(second.parse(b"12a"), Err(TimeError::Form));
        assert_eq!(TimeFormat::Epoch(Unit::Nano).parse(b"-1"), Ok(-1));
        assert_eq!(TimeFormat::Epoch(Unit::Milli).number(5), Ok(5_000));
        assert_eq!(TimeFormat::Auto.number(5), Err(TimeError::Form));
    }

    #[test]
    fn patterns_are_strftime() {
        let format = TimeFormat::Pattern("%d/%m/%Y %H:%M".into());
        assert_eq!(format.parse(b"16/11/2023 18:17").map(crate::json::rfc3339).as_deref(), Ok("2023-11-16T18:17:00Z"));
        assert_eq!(format.parse(b"2023-11-16"), Err(TimeError::Form));
        let day = TimeFormat::Pattern("%Y%m%d".into());
        assert_eq!(day.parse(b"20231116").map(crate::json::rfc3339).as_deref(), Ok("2023-11-16T00:00:00Z"));
        assert!(TimeFormat::check_pattern("%Y %J").is_err());
        assert!(TimeFormat::check_pattern("%Y-%m-%dT%H:%M:%S%.f%:z").is_ok());
    }
}
