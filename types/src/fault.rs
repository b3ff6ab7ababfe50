//! A record that could not be processed: what it was, where it came from, and why.

use crate::{Column, Schema, Type, Value};

/// A record that could not be processed. A view like any other; never dropped silently, never fatal.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Fault {
    /// The source whose record it is.
    pub source: String,
    /// The number of the record within the source, from 0, bad records counted.
    pub seq: u64,
    /// Where the fault was found: the source's own name, or the step that refused the row.
    pub at: String,
    /// A stable code, `snake_case`: `bad_value`, `ragged_row`, `late`, `null_key`, …
    pub reason: String,
    /// A sentence for a person: what was expected, what was there.
    pub detail: String,
    /// Where the record stands outside: file and line, request, topic partition and offset.
    pub provenance: String,
    /// The record's raw bytes, lossily as text, cut to 4 KiB.
    pub raw: String,
}

impl Fault {
    /// The longest raw text kept.
    pub const RAW_BYTES_MAX: usize = 4096;

    /// The row of [`fault_schema`].
    pub fn row(&self) -> Vec<Value> {
        let text = |s: &str| Value::Str(s.to_owned());
        vec![
            text(&self.source),
            Value::Int(self.seq as i64),
            text(&self.at),
            text(&self.reason),
            text(&self.detail),
            text(&self.provenance),
            text(&self.raw),
        ]
    }

    /// Raw bytes as they are kept: lossily as text, cut at a character's end.
    pub fn raw_text(raw: &[u8]) -> String {
        let cut = &raw[..raw.len().min(Self::RAW_BYTES_MAX)];
        String::from_utf8_lossy(cut).into_owned()
    }
}

/// The schema of the `faults` view: keyed by (source, seq, at).
pub fn fault_schema() -> Schema {
    let column = |name: &str, ty| Column { name: name.to_owned(), ty, nullable: false };
    Schema {
        columns: vec![
            column("source", Type::String),
            column("seq", Type::Int64),
            column("at", Type::String),
            column("reason", Type::String),
            column("detail", Type::String),
            column("provenance", Type::String),
            column("raw", Type::String),
        ],
        key: vec![0, 1, 2],
        event_time: None,
        append_only: false,
    }
}

/// The number by which a fault names a row of a keyed relation: 63 bits of its key's hash.
pub fn fault_seq(key: &[u8]) -> u64 {
    xxhash_rust::xxh3::xxh3_64(key) >> 1
}
