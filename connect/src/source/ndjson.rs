//! NDJSON, one object a line, decoded straight into columns.
//!
//! Unknown keys are passed over, missing ones are null. A record is a fault if its line is no JSON object, nests
//! deeper than [`DEPTH_MAX`], says a declared key twice, or has a value of the wrong type. Blank lines are no records.
//!
//! What fits which type: `int64` and `decimal` take integers (a float without fraction is one), `float64` any number
//! and the strings `"NaN"`, `"Infinity"`, `"-Infinity"`, `bool` only `true` and `false`, `string` strings, `timestamp`
//! strings of the source's format, or numbers if it has a unit.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use types::time::{TimeError, TimeFormat};
use types::{Column, Type};

use super::cells::{Bad, Builder, Cells, RowSpec, Rows};
use super::csv::{Decoded, bad_line, too_large};

/// The deepest nesting of arrays and objects a record may have.
pub(crate) const DEPTH_MAX: usize = 64;

/// Decodes NDJSON records. Holds no bytes: what is not consumed is given again, with more behind it.
#[derive(Clone, Debug)]
pub(crate) struct NdjsonDecoder {
    file: String,
    /// The line on which the next record begins, from 1.
    pub line: u64,
    /// True after the beginning of a bad record whose line has not ended yet: all up to its end is passed over.
    pub skipping: bool,
    seen: Vec<bool>,
}

impl NdjsonDecoder {
    /// A decoder; `file` is what faults call the input.
    pub fn new(file: &str) -> NdjsonDecoder {
        NdjsonDecoder { file: file.to_owned(), line: 1, skipping: false, seen: Vec::new() }
    }

    /// Decodes the records of a block into `rows` until it has `records_max`. `last`: the input ends with this block.
    pub fn decode(&mut self, block: &[u8], last: bool, rows: &mut Rows, records_max: usize) -> Decoded {
        let max = rows.spec.record_bytes_max;
        let mut p = 0;
        loop {
            let newline = memchr::memchr(b'\n', &block[p..]);
            if self.skipping {
                match newline {
                    Some(i) => (p, self.line, self.skipping) = (p + i + 1, self.line + 1, false),
                    None => return Decoded { consumed: block.len(), starved: true },
                }
                continue;
            }
            if p == block.len() || (newline.is_none() && !last && block.len() - p <= max) {
                return Decoded { consumed: p, starved: true };
            }
            let end = newline.map_or(block.len(), |i| p + i);
            let next = newline.map_or(block.len(), |i| p + i + 1);
            let line = &block[p..end];
            if line.len() <= max && line.trim_ascii().is_empty() {
                p = next;
                self.line += 1;
                continue;
            }
            if rows.records() >= records_max {
                return Decoded { consumed: p, starved: false };
            }
            if line.len() > max {
                bad_line(&block[p..], last, rows, too_large(max), &self.file, self.line);
                self.skipping = newline.is_none() && !last;
            } else if let Err(bad) = self.row(line, &[], true, rows).and_then(|()| rows.commit()) {
                rows.reject(bad, format!("{}:{}", self.file, self.line), line.strip_suffix(b"\r").unwrap_or(line));
            }
            p = next;
            self.line += u64::from(newline.is_some());
        }
    }

    /// Appends the cells of one object that stands alone, over several lines or not. Columns that are `taken` are
    /// filled by someone else: keys of their names are passed over. `fill`: what does not come is null.
    pub fn message(&mut self, text: &[u8], taken: &[bool], fill: bool, rows: &mut Rows) -> Result<(), Bad> {
        self.row(text, taken, fill, rows)
    }

    /// Appends the cells of one line.
    fn row(&mut self, line: &[u8], taken: &[bool], fill: bool, rows: &mut Rows) -> Result<(), Bad> {
        let text = std::str::from_utf8(line)
            .map_err(|e| Bad::new("invalid_utf8", format!("not UTF-8 at byte {}", e.valid_up_to())))?;
        self.seen.clear();
        self.seen.resize(rows.spec.columns.len(), false);
        let mut bad = None;
        let mut json = serde_json::Deserializer::from_str(text);
        let good = rows.good();
        let record =
            Record { spec: &rows.spec, columns: &mut rows.columns, seen: &mut self.seen, taken, bad: &mut bad };
        let result = record.deserialize(&mut json).and_then(|()| json.end());
        if let Some(bad) = bad {
            return Err(bad);
        }
        if let Err(error) = result {
            let reason = if error.to_string().starts_with("number out of range") { "out_of_range" } else { "bad_json" };
            return Err(Bad::new(reason, error.to_string()));
        }
        if fill {
            for column in &mut rows.columns {
                if column.len() == good {
                    column.push_null();
                }
            }
        }
        Ok(())
    }
}

/// A record being read into the columns. What is wrong goes to `bad`; the error serde sees only ends the reading.
struct Record<'a> {
    spec: &'a RowSpec,
    columns: &'a mut [Builder],
    seen: &'a mut [bool],
    taken: &'a [bool],
    bad: &'a mut Option<Bad>,
}

impl<'de> DeserializeSeed<'de> for Record<'_> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<(), D::Error> {
        json.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Record<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let columns = &self.spec.columns;
        // Records mostly have their keys in one order: the next key is likely the next column's.
        let mut guess = 0;
        while let Some(index) = map.next_key_seed(Key { columns, guess })? {
            let Some(index) = index.filter(|i| self.taken.get(*i) != Some(&true)) else {
                map.next_value_seed(Ignored { depth: 2, bad: &mut *self.bad })?;
                continue;
            };
            if std::mem::replace(&mut self.seen[index], true) {
                *self.bad =
                    Some(Bad::new("duplicate_key", format!("the key `{}` is there twice", columns[index].name)));
                return Err(A::Error::custom("duplicate key"));
            }
            guess = index + 1;
            map.next_value_seed(Cell {
                column: &columns[index],
                time: &self.spec.time,
                builder: &mut self.columns[index],
                bad: &mut *self.bad,
            })?;
        }
        Ok(())
    }
}

/// A key: the column of that name, if there is one.
struct Key<'a> {
    columns: &'a [Column],
    guess: usize,
}

impl<'de> DeserializeSeed<'de> for Key<'_> {
    type Value = Option<usize>;
    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<Option<usize>, D::Error> {
        json.deserialize_str(self)
    }
}

impl Visitor<'_> for Key<'_> {
    type Value = Option<usize>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E: Error>(self, key: &str) -> Result<Option<usize>, E> {
        if self.columns.get(self.guess).is_some_and(|c| c.name == key) {
            return Ok(Some(self.guess));
        }
        Ok(self.columns.iter().position(|c| c.name == key))
    }
}

/// A declared key's value.
struct Cell<'a> {
    column: &'a Column,
    time: &'a TimeFormat,
    builder: &'a mut Builder,
    bad: &'a mut Option<Bad>,
}

impl Cell<'_> {
    fn refuse<E: Error>(self, bad: Bad) -> Result<(), E> {
        *self.bad = Some(bad);
        Err(E::custom("bad value"))
    }

    fn wrong<E: Error>(self, found: &str) -> Result<(), E> {
        let bad = Bad::value(self.column, found);
        self.refuse(bad)
    }

    fn integer<E: Error>(self, value: i128) -> Result<(), E> {
        let column = self.column;
        match &mut self.builder.cells {
            Cells::Int(v) => match i64::try_from(value) {
                Ok(value) => v.push(value),
                Err(_) => return self.refuse(Bad::range(column, &value.to_string())),
            },
            Cells::Decimal(v) => v.push(value),
            Cells::Float(v) => v.push(value as f64),
            Cells::Time(v) => {
                match i64::try_from(value).map_err(|_| TimeError::Range).and_then(|n| self.time.number(n)) {
                    Ok(time) => v.push(time),
                    Err(TimeError::Range) => return self.refuse(Bad::range(column, &value.to_string())),
                    Err(TimeError::Form) => {
                        let why = format!(
                            "column `{}`: the number {value} is a time only if the source has a `timestamp_unit`",
                            column.name
                        );
                        return self.refuse(Bad::new("bad_value", why));
                    }
                }
            }
            Cells::Bool(_) | Cells::Str { .. } => return self.wrong(&value.to_string()),
        }
        Ok(())
    }
}

impl<'de> DeserializeSeed<'de> for Cell<'_> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<(), D::Error> {
        json.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Cell<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a value of type {}", self.column.ty)
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        self.builder.push_null();
        Ok(())
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<(), E> {
        match &mut self.builder.cells {
            Cells::Bool(v) => v.push(value),
            _ => return self.wrong(&value.to_string()),
        }
        Ok(())
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<(), E> {
        self.integer(value.into())
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<(), E> {
        self.integer(value.into())
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<(), E> {
        match &mut self.builder.cells {
            Cells::Float(v) => {
                v.push(value);
                Ok(())
            }
            // Up to 2⁵³ a float without fraction is one integer and no other.
            Cells::Int(_) | Cells::Decimal(_) | Cells::Time(_)
                if value.fract() == 0.0 && value.abs() <= 9_007_199_254_740_992.0 =>
            {
                self.integer(value as i128)
            }
            Cells::Int(_) | Cells::Decimal(_) | Cells::Time(_) if value.fract() == 0.0 => {
                let bad = Bad::range(self.column, &value.to_string());
                self.refuse(bad)
            }
            _ => self.wrong(&value.to_string()),
        }
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<(), E> {
        match self.column.ty {
            Type::String => self.builder.push_str(text.as_bytes()),
            Type::Timestamp | Type::Decimal => {
                if let Err(bad) = self.builder.push_text(text.as_bytes(), self.column, self.time) {
                    return self.refuse(bad);
                }
            }
            Type::Float64 if matches!(text, "NaN" | "Infinity" | "-Infinity") => {
                self.builder
                    .push_text(text.as_bytes(), self.column, self.time)
                    .expect("the standard library reads these");
            }
            _ => return self.wrong(&format!("\"{text}\"")),
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, _: A) -> Result<(), A::Error> {
        self.wrong("an array")
    }

    fn visit_map<A: MapAccess<'de>>(self, _: A) -> Result<(), A::Error> {
        self.wrong("an object")
    }
}

/// An unknown key's value: read only to know where it ends, and that it is not too deep.
struct Ignored<'a> {
    depth: usize,
    bad: &'a mut Option<Bad>,
}

impl Ignored<'_> {
    fn deeper<E: Error>(self) -> Result<Self, E> {
        if self.depth > DEPTH_MAX {
            *self.bad = Some(Bad::new("too_deep", format!("nested deeper than {DEPTH_MAX}")));
            return Err(E::custom("too deep"));
        }
        Ok(Ignored { depth: self.depth + 1, bad: self.bad })
    }
}

impl<'de> DeserializeSeed<'de> for Ignored<'_> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<(), D::Error> {
        json.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Ignored<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any JSON value")
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E: Error>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        let inner = self.deeper()?;
        while seq.next_element_seed(Ignored { depth: inner.depth, bad: &mut *inner.bad })?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let inner = self.deeper()?;
        while map.next_key::<IgnoredAny>()?.is_some() {
            map.next_value_seed(Ignored { depth: inner.depth, bad: &mut *inner.bad })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use types::Value;

    #[track_caller]
    fn check(text: &[u8], expected: &[&str]) {
        let columns =
            [("i", Type::Int64), ("f", Type::Float64), ("s", Type::String), ("t", Type::Timestamp), ("b", Type::Bool)];
        let columns = columns.iter().map(|(n, t)| Column { name: (*n).into(), ty: *t, nullable: true }).collect();
        let spec = Arc::new(RowSpec::new(columns, &[], None, TimeFormat::Auto, 600));
        for block in (1..=text.len()).step_by(1 + text.len() / 50).chain([text.len()]) {
            let mut decoder = NdjsonDecoder::new("f");
            let mut rows = Rows::new("s", spec.clone(), 0);
            let (mut start, mut end) = (0, 0);
            while start < text.len() || end < text.len() {
                end = (end + block).min(text.len());
                start += decoder.decode(&text[start..end], end == text.len(), &mut rows, usize::MAX).consumed;
            }
            let got = rows.take(serde_json::Value::Null, serde_json::Value::Null);
            let mut lines: Vec<(u64, String)> =
                got.faults.iter().map(|f| (f.seq, format!("{} {}", f.reason, f.provenance))).collect();
            let seqs = got.seqs.unwrap_or_else(|| (got.first_seq..got.next_seq).collect());
            for (row, seq) in seqs.iter().enumerate() {
                let cells: Vec<Value> = got.rows.columns().iter().map(|c| Value::at(c, row)).collect();
                lines.push((*seq, serde_json::Value::from_iter(cells.iter().map(types::json::to_json)).to_string()));
            }
            lines.sort();
            assert_eq!(lines.into_iter().map(|(_, l)| l).collect::<Vec<_>>(), expected, "block {block}");
        }
    }

    #[test]
    fn objects_become_rows_whatever_else_they_hold() {
        check(
            b"{\"i\":1,\"f\":2,\"s\":\"\\u00e9\\ud83d\\ude00\",\"t\":\"2020-01-01T00:00:00Z\",\"b\":true}\r\n\n {\"b\":null,\"x\":[{\"y\":[1,2.5,\"z\"]}],\"i\":5.0} \n{\"f\":\"NaN\"}\n{}",
            &[
                "[1,2.0,\"\u{e9}\u{1f600}\",\"2020-01-01T00:00:00Z\",true]",
                "[5,null,null,null,null]",
                "[null,\"NaN\",null,null,null]",
                "[null,null,null,null,null]",
            ],
        );
    }

    #[test]
    fn every_bad_record_is_one_fault() {
        let deep = |n: usize| format!("{{\"x\":{}{}}}\n", "[".repeat(n), "]".repeat(n));
        let long = format!("{{\"s\":\"{}\"}}\n", "x".repeat(700));
        let mut text = b"{\"i\":1.5}\n{\"i\":1e30}\n{\"i\":\"1\"}\n{\"i\":1,\"i\":2}\n{\"s\":\"\\ud800\"}\n{\"i\":1}x\n[1]\n{\"i\":\n{\"s\":\"\xff\"}\n{\"f\":1e999}\n{\"b\":1}\n{\"t\":5}\n{\"t\":\"2020-13-01\"}\n{\"i\":9223372036854775808}\n".to_vec();
        text.extend_from_slice(deep(63).as_bytes());
        text.extend_from_slice(deep(64).as_bytes());
        text.extend_from_slice(deep(200).as_bytes());
        text.extend_from_slice(long.as_bytes());
        text.extend_from_slice(b"{\"s\":{\"a\":1}}\n{\"i\":7}");
        check(
            &text,
            &[
                "bad_value f:1",
                "out_of_range f:2",
                "bad_value f:3",
                "duplicate_key f:4",
                "bad_json f:5",
                "bad_json f:6",
                "bad_json f:7",
                "bad_json f:8",
                "invalid_utf8 f:9",
                "out_of_range f:10",
                "bad_value f:11",
                "bad_value f:12",
                "out_of_range f:13",
                "out_of_range f:14",
                "[null,null,null,null,null]",
                "too_deep f:16",
                "too_deep f:17",
                "record_too_large f:18",
                "bad_value f:19",
                "[7,null,null,null,null]",
            ],
        );
    }
}
