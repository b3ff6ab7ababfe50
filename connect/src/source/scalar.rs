//! One value of a typed format (Avro, Protobuf) on its way into a column: what may go where, and what is then wrong.

use std::borrow::Cow;

use types::time::{TimeError, TimeFormat};
use types::{Column, Micros, Type};

use super::cells::{Bad, Builder, Cells, Rows};

/// A value that is no structure.
#[derive(Clone, Debug)]
pub(crate) enum Scalar<'a> {
    Bool(bool),
    Int(i128),
    Float(f64),
    /// Text, or bytes that may be text.
    Text(Cow<'a, [u8]>),
    /// A time that knows its unit; `None` if it lies outside the years 0000 to 9999. With its own number.
    Time(Option<Micros>, i64),
    /// An exact number, `unscaled / 10^scale`; `None` if it has more than 38 digits.
    Decimal(Option<i128>, u32),
}

/// What of a [`Scalar`] its schema says: enough to tell which columns it can go into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    Bool,
    Int,
    Float,
    Text,
    /// A number as well, in its own unit.
    Time,
    /// With its scale.
    Decimal(u32),
    /// A record, list or map; as text it is JSON.
    Structure,
}

impl Shape {
    /// Whether any value of this shape can go into a column of this type.
    pub fn fits(self, ty: Type, time: &TimeFormat) -> bool {
        match (ty, self) {
            (Type::Bool, Shape::Bool)
            | (Type::Int64, Shape::Int | Shape::Time | Shape::Decimal(0))
            | (Type::Decimal, Shape::Int | Shape::Decimal(_))
            | (Type::Float64, Shape::Int | Shape::Float | Shape::Decimal(_))
            | (Type::String, Shape::Text | Shape::Decimal(_) | Shape::Structure)
            | (Type::Timestamp, Shape::Time | Shape::Text) => true,
            // A bare number is a time only if its unit is known.
            (Type::Timestamp, Shape::Int) => matches!(time, TimeFormat::Epoch(_)),
            _ => false,
        }
    }
}

impl Builder {
    /// Appends a cell, which must be of a shape that fits.
    pub fn push_scalar(&mut self, scalar: &Scalar<'_>, column: &Column, time: &TimeFormat) -> Result<(), Bad> {
        match (&mut self.cells, scalar) {
            (Cells::Bool(v), Scalar::Bool(value)) => v.push(*value),
            (Cells::Int(v), Scalar::Int(value) | Scalar::Decimal(Some(value), 0)) => {
                v.push(i64::try_from(*value).map_err(|_| Bad::range(column, &value.to_string()))?);
            }
            (Cells::Int(v), Scalar::Time(_, number)) => v.push(*number),
            (Cells::Decimal(v), Scalar::Int(value)) => v.push(*value),
            (Cells::Decimal(v), Scalar::Decimal(Some(unscaled), scale)) => {
                v.push(whole(*unscaled, *scale).ok_or_else(|| Bad::value(column, &scalar.shown()))?);
            }
            (Cells::Float(v), Scalar::Int(value)) => v.push(*value as f64),
            (Cells::Float(v), Scalar::Float(value)) => v.push(*value),
            // By way of its text, which is read to the nearest float.
            (Cells::Float(v), Scalar::Decimal(Some(unscaled), scale)) => {
                v.push(decimal_text(*unscaled, *scale).parse().expect("a decimal number"));
            }
            (Cells::Time(v), Scalar::Time(micros, number)) => {
                v.push(micros.ok_or_else(|| Bad::range(column, &number.to_string()))?);
            }
            (Cells::Time(v), Scalar::Int(value)) => {
                let micros = i64::try_from(*value).map_err(|_| TimeError::Range).and_then(|n| time.number(n));
                v.push(micros.map_err(|e| match e {
                    TimeError::Range => Bad::range(column, &value.to_string()),
                    TimeError::Form => Bad::value(column, &value.to_string()),
                })?);
            }
            (Cells::Str { .. }, Scalar::Decimal(Some(unscaled), scale)) => {
                self.push_str(decimal_text(*unscaled, *scale).as_bytes());
            }
            (Cells::Str { .. } | Cells::Time(_), Scalar::Text(text)) => self.push_text(text, column, time)?,
            (_, Scalar::Decimal(None, _)) => return Err(Bad::range(column, "a number of more than 38 digits")),
            (_, other) => return Err(Bad::value(column, &other.shown())),
        }
        Ok(())
    }
}

impl Scalar<'_> {
    fn shown(&self) -> String {
        match self {
            Scalar::Bool(v) => v.to_string(),
            Scalar::Int(v) => v.to_string(),
            Scalar::Float(v) => v.to_string(),
            Scalar::Text(v) => String::from_utf8_lossy(v).into_owned(),
            Scalar::Time(_, number) => number.to_string(),
            Scalar::Decimal(v, scale) => v.map_or_else(|| "?".into(), |v| decimal_text(v, *scale)),
        }
    }

    /// The value in JSON text: times as RFC 3339, decimals as text, so that nothing is lost.
    pub fn to_json(&self) -> serde_json::Value {
        match self {
            Scalar::Bool(v) => (*v).into(),
            Scalar::Int(v) => i64::try_from(*v)
                .map(Into::into)
                .or_else(|_| u64::try_from(*v).map(Into::into))
                .unwrap_or(serde_json::Value::Null),
            Scalar::Float(v) => types::json::to_json(&types::Value::Float(*v)),
            Scalar::Text(v) => String::from_utf8_lossy(v).into_owned().into(),
            Scalar::Time(Some(micros), _) => types::json::rfc3339(*micros).into(),
            Scalar::Time(None, number) => (*number).into(),
            Scalar::Decimal(..) => self.shown().into(),
        }
    }
}

/// A structure as text. Names stand in the schema and not in the value, so the text may be many times as long: not so
/// many times that a batch of it would not fit.
pub(crate) fn json_text(json: &serde_json::Value, rows: &Rows) -> Result<Scalar<'static>, Bad> {
    let text = json.to_string();
    let most = rows.spec.record_bytes_max.saturating_mul(8).min(256 << 20);
    if text.len() > most {
        return Err(Bad::new("record_too_large", format!("a structure becomes more than {most} bytes of JSON")));
    }
    Ok(Scalar::Text(Cow::Owned(text.into_bytes())))
}

/// `unscaled / 10^scale`, if it is whole.
fn whole(unscaled: i128, scale: u32) -> Option<i128> {
    match 10i128.checked_pow(scale) {
        Some(one) => (unscaled % one == 0).then_some(unscaled / one),
        None => (unscaled == 0).then_some(0),
    }
}

/// `unscaled / 10^scale`, exactly.
pub(crate) fn decimal_text(unscaled: i128, scale: u32) -> String {
    let (sign, digits) = (if unscaled < 0 { "-" } else { "" }, unscaled.unsigned_abs().to_string());
    let scale = scale as usize;
    if scale == 0 {
        return format!("{sign}{digits}");
    }
    let digits = format!("{digits:0>width$}", width = scale + 1);
    let (whole, fraction) = digits.split_at(digits.len() - scale);
    format!("{sign}{whole}.{fraction}")
}

#[cfg(test)]
mod tests {
    use super::{decimal_text, whole};

    #[test]
    fn decimals_are_written_exactly() {
        for (unscaled, scale, text) in [
            (0, 0, "0"),
            (-5, 0, "-5"),
            (12345, 2, "123.45"),
            (-5, 2, "-0.05"),
            (5, 1, "0.5"),
            (i128::MIN, 3, "-170141183460469231731687303715884105.728"),
        ] {
            assert_eq!(decimal_text(unscaled, scale), text);
        }
    }

    #[test]
    fn a_decimal_is_whole_or_not() {
        for (unscaled, scale, is) in [
            (-5, 0, Some(-5)),
            (-12300, 2, Some(-123)),
            (12345, 2, None),
            (5, 1, None),
            (i128::MAX, 0, Some(i128::MAX)),
            (10i128.pow(38) - 1, 38, None),
            (10, 39, None),
            (0, 1000, Some(0)),
        ] {
            assert_eq!(whole(unscaled, scale), is, "{unscaled} {scale}");
        }
    }
}
