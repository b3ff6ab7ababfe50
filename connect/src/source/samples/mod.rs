//! Messages that other people's libraries encoded (`samples.py`), and rows as text, for the decoders' tests.

use std::sync::Arc;

use types::time::TimeFormat;
use types::{Column, Type, Value};

use super::cells::{Bad, RowSpec, Rows};
use super::paths::Paths;

/// The bytes of a sample.
pub(super) fn sample(name: &str) -> Vec<u8> {
    let mut lines = include_str!("samples.txt").lines().filter_map(|line| line.split_once(' '));
    let (_, hex) = lines.find(|(n, _)| *n == name).unwrap_or_else(|| panic!("there is no sample `{name}`"));
    bytes(hex)
}

/// Bytes from hexadecimal digits.
pub(super) fn bytes(hex: &str) -> Vec<u8> {
    (0..hex.len() / 2).map(|i| u8::from_str_radix(&hex[2 * i..2 * i + 2], 16).unwrap()).collect()
}

/// Columns (name, type, path) as a source declares them.
pub(super) fn columns(of: &[(&str, Type, &str)], time: TimeFormat) -> (Arc<RowSpec>, Paths) {
    let paths = Paths::new(of.iter().enumerate().map(|(i, (_, _, path))| (i, path.split('.').collect())));
    let columns = of.iter().map(|(n, t, _)| Column { name: (*n).into(), ty: *t, nullable: true }).collect();
    (Arc::new(RowSpec::new(columns, &[], None, time, 1 << 20)), paths)
}

/// What a decoder makes of messages: rows as JSON, faults as their reasons.
pub(super) fn rows(
    spec: &Arc<RowSpec>,
    messages: &[Vec<u8>],
    mut decode: impl FnMut(&[u8], &mut Rows) -> Result<(), Bad>,
) -> Vec<String> {
    let mut rows = Rows::new("s", spec.clone(), 0);
    for message in messages {
        if let Err(bad) = decode(message, &mut rows).and_then(|()| rows.commit()) {
            rows.reject(bad, String::new(), message);
        }
    }
    let got = rows.take(serde_json::Value::Null, serde_json::Value::Null);
    assert_eq!(got.rows.num_rows() + got.faults.len(), messages.len());
    let seqs = got.seqs.unwrap_or_else(|| (got.first_seq..got.next_seq).collect());
    let mut lines: Vec<(u64, String)> =
        got.faults.iter().map(|f| (f.seq, format!("{}: {}", f.reason, f.detail))).collect();
    for (row, seq) in seqs.iter().enumerate() {
        let cells: Vec<Value> = got.rows.columns().iter().map(|c| Value::at(c, row)).collect();
        lines.push((*seq, serde_json::Value::from_iter(cells.iter().map(types::json::to_json)).to_string()));
    }
    lines.sort();
    lines.into_iter().map(|(_, line)| line).collect()
}
