//! Rows as JSON: one object a row, columns in schema order, the same bytes every time.
//!
//! Floats print shortest-round-trip; those JSON cannot say (NaN, ±infinity) are the strings `"NaN"`,
//! `"Infinity"`, `"-Infinity"`. Timestamps are RFC 3339 in UTC with as many of six fraction digits as needed.
//! Decimals print as bare integers.

use arrow::array::RecordBatch;

use crate::{Schema, Value};

/// Appends a row as a JSON object.
pub fn write_row(out: &mut Vec<u8>, schema: &Schema, rows: &RecordBatch, row: usize) {
    out.push(b'{');
    for (i, column) in schema.columns.iter().enumerate() {
        if i > 0 {
            out.push(b',');
        }
        write_string(out, &column.name);
        out.push(b':');
        write_value(out, &Value::at(rows.column(i), row));
    }
    out.push(b'}');
}

/// Appends a cell.
pub fn write_value(out: &mut Vec<u8>, value: &Value) {
    match value {
        Value::Null => out.extend_from_slice(b"null"),
        Value::Bool(v) => out.extend_from_slice(if *v { b"true" } else { b"false" }),
        Value::Int(v) => serde_json::to_writer(out, v).expect("memory does not fail"),
        Value::Decimal(v) => out.extend_from_slice(v.to_string().as_bytes()),
        Value::Float(v) if v.is_nan() => out.extend_from_slice(b"\"NaN\""),
        Value::Float(v) if v.is_infinite() => {
            out.extend_from_slice(if *v > 0.0 { b"\"Infinity\"" } else { b"\"-Infinity\"" });
        }
        Value::Float(v) => serde_json::to_writer(out, v).expect("memory does not fail"),
        Value::Str(v) => write_string(out, v),
        Value::Time(v) => write_string(out, &rfc3339(*v)),
    }
}

/// A cell as a JSON value.
pub fn to_json(value: &Value) -> serde_json::Value {
    let mut out = Vec::new();
    write_value(&mut out, value);
    serde_json::from_slice(&out).expect("what we write is JSON")
}

fn write_string(out: &mut Vec<u8>, text: &str) {
    serde_json::to_writer(out, text).expect("memory does not fail");
}

/// An event time as RFC 3339 in UTC; beyond the years 0000 to 9999, as the bare number of microseconds.
pub fn rfc3339(micros: i64) -> String {
    let (seconds, fraction) = (micros.div_euclid(1_000_000), micros.rem_euclid(1_000_000));
    let (days, second) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    let (year, month, day) = civil(days);
    if !(0..=9999).contains(&year) {
        return micros.to_string();
    }
    let mut text =
        format!("{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}", second / 3600, second / 60 % 60, second % 60);
    if fraction != 0 {
        let digits = format!("{fraction:06}");
        text.push('.');
        text.push_str(digits.trim_end_matches('0'));
    }
    text.push('Z');
    text
}

/// The civil date of a day number since 1970-01-01 (Howard Hinnant, "chrono-compatible low-level date algorithms").
fn civil(days: i64) -> (i64, i64, i64) {
    let z = days + 719_468;
    let era = z.div_euclid(146_097);
    let doe = z.rem_euclid(146_097);
    let yoe = (doe - doe / 1460 + doe / 36_524 - doe / 146_096) / 365;
    let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    let mp = (5 * doy + 2) / 153;
    let day = doy - (153 * mp + 2) / 5 + 1;
    let month = if mp < 10 { mp + 3 } else { mp - 9 };
    (yoe + era * 400 + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_print_as_rfc_3339() {
        assert_eq!(rfc3339(0), "1970-01-01T00:00:00Z");
        assert_eq!(rfc3339(-1), "1969-12-31T23:59:59.999999Z");
        assert_eq!(rfc3339(1_480_000_000_123_000), "2016-11-24T15:06:40.123Z");
        assert_eq!(rfc3339(i64::MAX), i64::MAX.to_string());
    }

    #[test]
    fn cells_print_the_same_bytes_every_time() {
        let text = |v: Value| {
            let mut out = Vec::new();
            write_value(&mut out, &v);
            String::from_utf8(out).unwrap()
        };
        assert_eq!(text(Value::Float(0.1 + 0.2)), "0.30000000000000004");
        assert_eq!(text(Value::Float(1e300)), "1e+300");
        assert_eq!(text(Value::Float(5.0)), "5.0");
        assert_eq!(text(Value::Float(f64::NEG_INFINITY)), "\"-Infinity\"");
        assert_eq!(text(Value::Str("a\"\n".into())), "\"a\\\"\\n\"");
        assert_eq!(text(Value::Decimal(i128::MAX / 2)), (i128::MAX / 2).to_string());
    }
}
