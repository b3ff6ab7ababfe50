//! A change as the key and the value of a message.

use engine::sink::SinkError;
use types::{Change, RowCodec, Schema, Value, json};

/// What a message's key is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Key {
    /// None.
    None,
    /// The text of one column.
    Text(usize),
    /// A JSON object of these columns.
    Json(Vec<usize>),
}

/// What becomes of rows and of deletions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    /// Key to row; a deletion is a tombstone.
    Changelog,
    /// Each row that is new or changed, and nothing else.
    Append,
}

/// Turns changes of a relation into keys and values.
#[derive(Debug)]
pub(super) struct Encoder {
    codec: RowCodec,
    schema: Schema,
    key: Key,
    time: Option<usize>,
}

/// What a change becomes, in buffers that are used again.
#[derive(Debug, Default)]
pub(super) struct Encoded {
    pub key: Vec<u8>,
    pub value: Vec<u8>,
    /// False for a tombstone.
    pub has_value: bool,
    /// The time of the row, milliseconds since 1970 UTC.
    pub time_ms: Option<i64>,
}

impl Encoder {
    pub fn new(schema: &Schema, key: Key, time: Option<usize>) -> Encoder {
        Encoder { codec: RowCodec::new(schema), schema: schema.clone(), key, time }
    }

    /// Encodes a change: its row, or that there is none any more.
    pub fn encode(&self, change: &Change<'_>, out: &mut Encoded) -> Result<(), SinkError> {
        out.key.clear();
        out.value.clear();
        out.has_value = change.after.is_some();
        out.time_ms = None;
        let damaged = |e: types::CodecError| SinkError::broken(e.to_string());
        let of_key = |column: &usize| self.schema.key.contains(column);
        let whole = self.time.is_some()
            || match &self.key {
                Key::None => false,
                Key::Text(column) => !of_key(column),
                Key::Json(columns) => !columns.iter().all(of_key),
            };
        let cells = match change.after {
            Some(row) if whole => self.codec.cells(change.key, row).map_err(damaged)?,
            _ if self.key == Key::None => Vec::new(),
            _ => {
                let mut cells = vec![Value::Null; self.schema.columns.len()];
                for (i, cell) in self.schema.key.iter().zip(self.codec.key_cells(change.key).map_err(damaged)?) {
                    cells[*i] = cell;
                }
                cells
            }
        };
        match &self.key {
            Key::None => {}
            Key::Text(column) => write_text(&mut out.key, &cells[*column]),
            Key::Json(columns) => {
                for (n, column) in columns.iter().enumerate() {
                    out.key.push(if n == 0 { b'{' } else { b',' });
                    json::write_value(&mut out.key, &Value::Str(self.schema.columns[*column].name.clone()));
                    out.key.push(b':');
                    json::write_value(&mut out.key, &cells[*column]);
                }
                out.key.push(b'}');
            }
        }
        if let Some(row) = change.after {
            self.codec.write_json(&mut out.value, change.key, row).map_err(damaged)?;
            if let Some(Value::Time(micros)) = self.time.map(|column| &cells[column]) {
                out.time_ms = Some(micros.div_euclid(1000));
            }
        }
        Ok(())
    }

    /// The cells of a row, in column order.
    pub fn cells(&self, key: &[u8], row: &[u8]) -> Result<Vec<Value>, SinkError> {
        self.codec.cells(key, row).map_err(|e| SinkError::broken(e.to_string()))
    }
}

/// Appends a cell as a source reads it from text; nothing for null.
pub(super) fn write_text(out: &mut Vec<u8>, cell: &Value) {
    match cell {
        Value::Null => {}
        Value::Str(text) => out.extend_from_slice(text.as_bytes()),
        Value::Time(micros) => out.extend_from_slice(json::rfc3339(*micros).as_bytes()),
        other => {
            let start = out.len();
            json::write_value(out, other);
            // NaN and the infinities are strings in JSON.
            if out[start..].first() == Some(&b'"') {
                out.remove(start);
                out.pop();
            }
        }
    }
}
