//! One message, decoded into a row: its value by the source's format, and what stands beside the value.

use std::sync::Arc;

use super::super::cells::{Bad, Cells, RowSpec, Rows};
use super::super::csv::{CsvDecoder, too_large};
use super::super::ndjson::NdjsonDecoder;
use super::log::Part;

/// A message, out of the client's hands.
#[derive(Clone, Debug)]
pub(super) struct Message {
    pub offset: i64,
    /// Milliseconds since 1970 UTC, if the topic has times.
    pub timestamp_ms: Option<i64>,
    pub key: Option<Vec<u8>>,
    /// `None`: a tombstone.
    pub value: Option<Vec<u8>>,
    /// Only those the source asks for, in its order.
    pub headers: Vec<Option<Vec<u8>>>,
}

impl Message {
    /// About how many bytes of memory it takes.
    pub fn bytes(&self) -> usize {
        128 + self.key.as_ref().map_or(0, Vec::len) + self.value.as_ref().map_or(0, Vec::len)
    }
}

/// How a value is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Format {
    Json,
    Csv {
        delimiter: u8,
        null: Option<String>,
    },
    /// The whole value is the text of this column.
    Raw(usize),
}

/// How a message's key is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum KeyFormat {
    Text,
    Json,
}

/// Which column comes from where.
#[derive(Clone, Debug)]
pub(super) struct Layout {
    pub spec: Arc<RowSpec>,
    pub format: Format,
    pub key_format: KeyFormat,
    pub key: Vec<usize>,
    pub timestamp: Option<usize>,
    pub topic: Option<usize>,
    pub partition: Option<usize>,
    pub offset: Option<usize>,
    /// Columns with the headers that fill them.
    pub headers: Vec<(usize, String)>,
    pub tombstone: Option<usize>,
}

impl Layout {
    /// What of it changes rows, as text: part of the plan's fingerprint.
    pub fn describe(&self) -> String {
        let name = |c: usize| self.spec.columns[c].name.as_str();
        let mut out = match &self.format {
            Format::Json => ", JSON".to_owned(),
            Format::Csv { delimiter, null } => {
                let null = null.as_ref().map_or(String::new(), |n| format!(", null {n:?}"));
                format!(", CSV, delimiter {:?}{null}", char::from(*delimiter))
            }
            Format::Raw(column) => format!(", values whole in {}", name(*column)),
        };
        if !self.key.is_empty() {
            let columns: Vec<&str> = self.key.iter().map(|c| name(*c)).collect();
            let form = if self.key_format == KeyFormat::Json { "JSON" } else { "text" };
            out.push_str(&format!(", keys as {form} in {}", columns.join(", ")));
        }
        let beside = [
            ("times", self.timestamp),
            ("topics", self.topic),
            ("partitions", self.partition),
            ("offsets", self.offset),
        ];
        for (what, column) in beside {
            if let Some(column) = column {
                out.push_str(&format!(", {what} in {}", name(column)));
            }
        }
        for (column, header) in &self.headers {
            out.push_str(&format!(", header {header:?} in {}", name(*column)));
        }
        out + &self.spec.describe()
    }

    /// Columns that are not filled from the value.
    pub fn beside(&self) -> Vec<bool> {
        let mut beside = vec![false; self.spec.columns.len()];
        let single = [self.timestamp, self.topic, self.partition, self.offset];
        let all = self.key.iter().copied().chain(single.into_iter().flatten()).chain(self.headers.iter().map(|h| h.0));
        all.for_each(|c| beside[c] = true);
        beside
    }
}

/// Decodes messages one after the other. Keeps nothing from one to the next.
#[derive(Debug)]
pub(super) struct Decoder {
    layout: Layout,
    value: ValueDecoder,
    key: NdjsonDecoder,
    /// Columns the message's key fills, of a key that is JSON.
    not_key: Vec<bool>,
    beside: Vec<bool>,
}

#[derive(Debug)]
enum ValueDecoder {
    Json(NdjsonDecoder),
    Csv(CsvDecoder),
    Raw(usize),
}

impl Decoder {
    pub fn new(layout: &Layout) -> Decoder {
        let beside = layout.beside();
        let value = match &layout.format {
            Format::Json => ValueDecoder::Json(NdjsonDecoder::new("")),
            Format::Csv { delimiter, null } => {
                let fields: Vec<Option<usize>> = (0..beside.len()).filter(|c| !beside[*c]).map(Some).collect();
                ValueDecoder::Csv(CsvDecoder::new("", *delimiter, null.as_deref(), &fields, &layout.spec))
            }
            Format::Raw(column) => ValueDecoder::Raw(*column),
        };
        let not_key = (0..beside.len()).map(|c| !layout.key.contains(&c)).collect();
        Decoder { layout: layout.clone(), value, key: NdjsonDecoder::new(""), not_key, beside }
    }

    /// Appends the message's row, or a fault. One record in either case.
    pub fn decode(&mut self, part: &Part, message: &Message, rows: &mut Rows) {
        if let Err(bad) = self.row(part, message, rows).and_then(|()| rows.commit()) {
            let raw = message.value.as_deref().or(message.key.as_deref()).unwrap_or_default();
            rows.reject(bad, format!("{part}@{}", message.offset), raw);
        }
    }

    fn row(&mut self, part: &Part, message: &Message, rows: &mut Rows) -> Result<(), Bad> {
        let max = rows.spec.record_bytes_max;
        let too_long = |bytes: &Option<Vec<u8>>| bytes.as_ref().is_some_and(|b| b.len() > max);
        if too_long(&message.value) || too_long(&message.key) {
            return Err(too_large(max));
        }
        self.key(message, rows)?;
        let layout = &self.layout;
        let numbers = [
            (layout.timestamp, message.timestamp_ms.and_then(|ms| ms.checked_mul(1000))),
            (layout.partition, Some(i64::from(part.id))),
            (layout.offset, Some(message.offset)),
        ];
        for (column, number) in numbers {
            let Some(column) = column else { continue };
            let builder = &mut rows.columns[column];
            match (&mut builder.cells, number) {
                (Cells::Int(v) | Cells::Time(v), Some(number)) => v.push(number),
                _ => builder.push_null(),
            }
        }
        if let Some(column) = layout.topic {
            rows.columns[column].push_str(part.topic.as_bytes());
        }
        for ((column, _), text) in layout.headers.iter().zip(&message.headers) {
            let (builder, spec) = (&mut rows.columns[*column], &rows.spec);
            match text {
                Some(text) => builder.push_text(text, &spec.columns[*column], &spec.time)?,
                None => builder.push_null(),
            }
        }
        let Some(value) = &message.value else { return self.tombstone(rows) };
        match &mut self.value {
            ValueDecoder::Json(json) => json.message(value, &self.beside, true, rows),
            ValueDecoder::Csv(csv) => csv.message(value, rows),
            ValueDecoder::Raw(column) => {
                let column = *column;
                let (builder, spec) = (&mut rows.columns[column], &rows.spec);
                builder.push_text(value, &spec.columns[column], &spec.time)?;
                fill(rows);
                Ok(())
            }
        }
    }

    /// Appends the cells that come from the message's key.
    fn key(&mut self, message: &Message, rows: &mut Rows) -> Result<(), Bad> {
        let in_key = |bad: Bad| Bad { detail: format!("in the message's key: {}", bad.detail), ..bad };
        match (&message.key, self.layout.key_format) {
            _ if self.layout.key.is_empty() => Ok(()),
            (None, _) => {
                self.layout.key.iter().for_each(|c| rows.columns[*c].push_null());
                Ok(())
            }
            (Some(key), KeyFormat::Json) => {
                let good = rows.good();
                self.key.message(key, &self.not_key, false, rows).map_err(in_key)?;
                for column in &self.layout.key {
                    if rows.columns[*column].len() == good {
                        rows.columns[*column].push_null();
                    }
                }
                Ok(())
            }
            (Some(key), KeyFormat::Text) => {
                let (column, spec) = (self.layout.key[0], &rows.spec);
                rows.columns[column].push_text(key, &spec.columns[column], &spec.time).map_err(in_key)
            }
        }
    }

    /// A message without a value: the row that deletes its key's row.
    fn tombstone(&self, rows: &mut Rows) -> Result<(), Bad> {
        let Some(tombstone) = self.layout.tombstone else {
            return Err(Bad::new("no_value", "the message has no value, and the source has no `tombstone` column"));
        };
        if let Cells::Bool(v) = &mut rows.columns[tombstone].cells {
            v.push(true);
        }
        fill(rows);
        Ok(())
    }
}

/// Ends a row: what has not come is null.
fn fill(rows: &mut Rows) {
    let good = rows.good();
    for column in &mut rows.columns {
        if column.len() == good {
            column.push_null();
        }
    }
}
