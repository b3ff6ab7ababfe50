//! Cells from text: the parts of a path, the values of a query, the literals of a filter.

use types::{Schema, Type, Value};

use crate::problem::{BAD_KEY, Problem};

/// A cell of a type from its text, as [`types::json`] would print it without quotes. `Err` is a sentence.
///
/// Timestamps are RFC 3339 or bare microseconds. A text is never null.
pub(crate) fn cell(ty: Type, text: &str) -> Result<Value, String> {
    let bad = || format!("`{text}` is not of type {ty}");
    Ok(match ty {
        Type::String => Value::Str(text.to_owned()),
        Type::Bool => Value::Bool(text.parse().map_err(|_| bad())?),
        Type::Int64 => Value::Int(text.parse().map_err(|_| bad())?),
        Type::Decimal => match text.parse::<i128>() {
            Ok(v) if v.unsigned_abs() < 10u128.pow(38) => Value::Decimal(v),
            _ => return Err(bad()),
        },
        Type::Float64 => {
            let v: f64 = text.parse().map_err(|_| bad())?;
            // The stored form: one NaN, no negative zero.
            Value::Float(if v.is_nan() {
                f64::NAN
            } else if v == 0.0 {
                0.0
            } else {
                v
            })
        }
        Type::Timestamp => match text.parse::<i64>() {
            Ok(micros) => Value::Time(micros),
            Err(_) => Value::Time(text.parse::<jiff::Timestamp>().map_err(|_| bad())?.as_microsecond()),
        },
    })
}

/// A cell from JSON: null, or the cell's text with or without quotes.
fn json_cell(ty: Type, json: &serde_json::Value) -> Result<Value, String> {
    match json {
        serde_json::Value::Null => Ok(Value::Null),
        serde_json::Value::String(text) => cell(ty, text),
        serde_json::Value::Number(_) | serde_json::Value::Bool(_) if ty == Type::String => {
            Err(format!("`{json}` is not of type {ty}"))
        }
        serde_json::Value::Number(_) | serde_json::Value::Bool(_) => cell(ty, &json.to_string()),
        _ => Err(format!("`{json}` is no cell")),
    }
}

/// The first cells of a key, from the values of `key` or `prefix`: one value a column, or one JSON array of all.
pub(crate) fn key_cells(schema: &Schema, values: &[&str]) -> Result<Vec<Value>, Problem> {
    let array;
    if let [one] = values
        && one.starts_with('[')
    {
        array = serde_json::from_str::<Vec<serde_json::Value>>(one).map_err(|e| {
            Problem::new(BAD_KEY, format!("a value that begins with `[` is a JSON array of cells: {e}"))
        })?;
        check_count(schema, array.len())?;
        return columns(schema).zip(&array).map(|(c, json)| json_cell(c.ty, json).map_err(|e| bad(c, &e))).collect();
    }
    text_cells(schema, values)
}

/// A whole key from one text a column, as the path of a single row has it. `Err` is a sentence.
pub fn parse_key(schema: &Schema, texts: &[impl AsRef<str>]) -> Result<Vec<Value>, String> {
    let cells = text_cells(schema, texts).map_err(|p| p.message)?;
    check_whole(schema, &cells).map_err(|p| p.message)?;
    Ok(cells)
}

/// The first cells of a key from one text a column.
pub(crate) fn text_cells(schema: &Schema, texts: &[impl AsRef<str>]) -> Result<Vec<Value>, Problem> {
    check_count(schema, texts.len())?;
    columns(schema).zip(texts).map(|(c, text)| cell(c.ty, text.as_ref()).map_err(|e| bad(c, &e))).collect()
}

/// Refuses a key that does not name every key column.
pub(crate) fn check_whole(schema: &Schema, cells: &[Value]) -> Result<(), Problem> {
    if cells.len() == schema.key.len() {
        return Ok(());
    }
    Err(Problem::new(
        BAD_KEY,
        format!("the key has {} columns ({}), {} given", schema.key.len(), schema.key_names().join(", "), cells.len()),
    ))
}

fn columns(schema: &Schema) -> impl Iterator<Item = &types::Column> {
    schema.key.iter().map(|i| &schema.columns[*i])
}

fn check_count(schema: &Schema, count: usize) -> Result<(), Problem> {
    if count <= schema.key.len() {
        return Ok(());
    }
    let names = schema.key_names().join(", ");
    Err(Problem::new(BAD_KEY, format!("the key has {} columns ({names}), {count} given", schema.key.len())))
}

fn bad(column: &types::Column, message: &str) -> Problem {
    Problem::new(BAD_KEY, format!("key column `{}`: {message}", column.name))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use types::Column;

    /// A schema with a column of each type, keyed by the first two given.
    pub(crate) fn schema() -> Schema {
        let column = |name: &str, ty| Column { name: name.into(), ty, nullable: true };
        Schema {
            columns: vec![
                column("s", Type::String),
                column("i", Type::Int64),
                column("f", Type::Float64),
                column("b", Type::Bool),
                column("t", Type::Timestamp),
                column("d", Type::Decimal),
            ],
            key: vec![1, 0],
            event_time: None,
            append_only: false,
        }
    }

    #[test]
    fn every_type_reads_what_it_prints() {
        for (ty, value) in [
            (Type::String, Value::Str("a b".into())),
            (Type::Int64, Value::Int(i64::MIN)),
            (Type::Float64, Value::Float(f64::NAN)),
            (Type::Float64, Value::Float(f64::NEG_INFINITY)),
            (Type::Float64, Value::Float(0.1 + 0.2)),
            (Type::Bool, Value::Bool(true)),
            (Type::Timestamp, Value::Time(1_480_000_000_123_456)),
            (Type::Timestamp, Value::Time(i64::MAX)),
            (Type::Decimal, Value::Decimal(-(10i128.pow(38) - 1))),
        ] {
            let json = types::json::to_json(&value);
            let mut printed = Vec::new();
            types::json::write_value(&mut printed, &value);
            let printed = String::from_utf8(printed).unwrap();
            assert_eq!(cell(ty, printed.trim_matches('"')).unwrap(), value, "{printed}");
            if ty != Type::Decimal {
                assert_eq!(json_cell(ty, &json).unwrap(), value, "{json}");
            }
        }
        assert_eq!(cell(Type::Float64, "-0").unwrap().cmp(&Value::Float(0.0)), std::cmp::Ordering::Equal);
    }

    #[test]
    fn keys_are_one_value_a_column_or_one_array() {
        let schema = schema();
        let want = vec![Value::Int(7), Value::Str("x".into())];
        assert_eq!(key_cells(&schema, &["7", "x"]).unwrap(), want);
        assert_eq!(key_cells(&schema, &["[7, \"x\"]"]).unwrap(), want);
        assert_eq!(key_cells(&schema, &["[null]"]).unwrap(), [Value::Null]);
        for bad in [vec!["x"], vec!["1", "2", "3"], vec!["[1"], vec!["[1,2]"], vec!["[[1]]"]] {
            assert_eq!(key_cells(&schema, &bad).unwrap_err().code, BAD_KEY, "{bad:?}");
        }
        assert_eq!(check_whole(&schema, &want[..1]).unwrap_err().code, BAD_KEY);
    }
}
