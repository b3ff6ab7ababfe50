//! The commands that read a stopped daemon's store: `views`, `get`, `dump`, `sql`, `faults` with `--data DIR`.
//!
//! What is printed for a view is the same, byte for byte, as [`crate::online`] prints from a running daemon.

use std::io::{self, Write};
use std::ops::Bound;
use std::path::Path;

use arrow::array::RecordBatch;
use storage::{RelationId, RelationKind, Snapshot, Store};
use types::{Epoch, RowCodec, Schema, Value};

use crate::online::{ViewLine, print_views};

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The store cannot be opened or read.
    #[error(transparent)]
    Store(#[from] storage::Error),
    /// Its bytes are no rows.
    #[error(transparent)]
    Codec(#[from] types::CodecError),
    /// It has no such relation.
    #[error("the store has no view `{name}` (it has {known})")]
    NoSuchView {
        /// What was asked for.
        name: String,
        /// What there is.
        known: String,
    },
    /// The schema it keeps cannot be read.
    #[error("the schema of `{name}` cannot be read: {reason}")]
    Schema {
        /// The relation.
        name: String,
        /// Why.
        reason: String,
    },
    /// The key is not one of the view's.
    #[error("{0}")]
    Key(String),
    /// The query is refused.
    #[error("{message} ({code})")]
    Query {
        /// The stable code.
        code: &'static str,
        /// What it says.
        message: String,
    },
    /// There is no such row.
    #[error("`{view}` has no row of that key")]
    NoRow {
        /// The view.
        view: String,
    },
    /// The output cannot be written.
    #[error("the output cannot be written: {0}")]
    Output(#[from] io::Error),
}

/// `thalweg views --data DIR`
pub fn views(data: &Path, out: &mut dyn Write) -> Result<(), Error> {
    let store = Store::open_read_only(data)?;
    let snapshot = store.snapshot(None)?;
    let mut lines = Vec::new();
    for relation in store.relations() {
        if relation.kind == RelationKind::State {
            continue;
        }
        let schema = schema(&relation.name, &relation.schema)?;
        let digest = snapshot.digest(relation.id)?;
        lines.push(ViewLine {
            name: relation.name,
            kind: relation.kind.name().to_owned(),
            rows: digest.rows,
            digest: format!("{:032x}", digest.sum),
            key: schema.key_names().into_iter().map(str::to_owned).collect(),
        });
    }
    lines.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(print_views(snapshot.epoch(), &lines, out)?)
}

/// `thalweg get VIEW KEY… --data DIR`
pub fn get(data: &Path, view: &str, key: &[String], as_of: Option<Epoch>, out: &mut dyn Write) -> Result<(), Error> {
    let store = Store::open_read_only(data)?;
    let (relation, codec) = find(&store, view)?;
    let cells = api::parse_key(codec.schema(), key).map_err(Error::Key)?;
    let key = codec.key_of(&cells);
    let value = store.snapshot(as_of)?.get(relation, &key)?.ok_or_else(|| Error::NoRow { view: view.to_owned() })?;
    let mut text = Vec::new();
    codec.write_json(&mut text, &key, &value)?;
    text.push(b'\n');
    Ok(out.write_all(&text)?)
}

/// `thalweg dump --view V --data DIR`: every row of a view at one epoch, in key order. Gives the epoch.
pub fn dump(data: &Path, view: &str, as_of: Option<Epoch>, out: &mut dyn Write) -> Result<Epoch, Error> {
    let store = Store::open_read_only(data)?;
    let (relation, codec) = find(&store, view)?;
    let snapshot = store.snapshot(as_of)?;
    print_scan(&snapshot, relation, &codec, &[], out)?;
    Ok(snapshot.epoch())
}

/// `thalweg sql QUERY --data DIR`: the answer of an SQL query, in a format by its media type.
pub fn sql(data: &Path, query: &str, as_of: Option<Epoch>, accept: &str, out: &mut dyn Write) -> Result<(), Error> {
    let store = Store::open_read_only(data)?;
    let snapshot = store.snapshot(as_of)?;
    let answer = api::run_query(sql::run, snapshot, query, Some(accept), &api::Options::default());
    let body = answer.map_err(|(code, message)| Error::Query { code: code.name, message })?;
    Ok(out.write_all(&body)?)
}

/// `thalweg faults --data DIR`: every fault, of a source or with a reason. Gives the epoch.
pub fn faults(data: &Path, source: Option<&str>, reason: Option<&str>, out: &mut dyn Write) -> Result<Epoch, Error> {
    let store = Store::open_read_only(data)?;
    let name = store.relations().into_iter().find(|r| r.kind == RelationKind::Faults).map(|r| r.name);
    let (relation, codec) = find(&store, name.as_deref().unwrap_or("faults"))?;
    let column = |name: &str| codec.schema().index_of(name);
    let wanted: Vec<(usize, Value)> = [(column("source"), source), (column("reason"), reason)]
        .into_iter()
        .filter_map(|(column, value)| Some((column?, Value::Str(value?.to_owned()))))
        .collect();
    let snapshot = store.snapshot(None)?;
    print_scan(&snapshot, relation, &codec, &wanted, out)?;
    Ok(snapshot.epoch())
}

fn find(store: &Store, name: &str) -> Result<(RelationId, RowCodec), Error> {
    let readable: Vec<_> = store.relations().into_iter().filter(|r| r.kind != RelationKind::State).collect();
    let Some(relation) = readable.iter().find(|r| r.name == name) else {
        let known = readable.iter().map(|r| r.name.as_str()).collect::<Vec<_>>().join(", ");
        return Err(Error::NoSuchView { name: name.to_owned(), known });
    };
    Ok((relation.id, RowCodec::new(&schema(name, &relation.schema)?)))
}

fn schema(name: &str, json: &str) -> Result<Schema, Error> {
    serde_json::from_str(json).map_err(|e| Error::Schema { name: name.to_owned(), reason: e.to_string() })
}

/// Rows printed at a time.
const CHUNK_ROWS: usize = 1024;

/// Prints the rows that have these cells.
fn print_scan(
    snapshot: &Snapshot,
    relation: RelationId,
    codec: &RowCodec,
    wanted: &[(usize, Value)],
    out: &mut dyn Write,
) -> Result<(), Error> {
    let mut rows = snapshot.scan(relation, Bound::Unbounded, Bound::Unbounded);
    let mut text = Vec::new();
    loop {
        let chunk: Vec<(Vec<u8>, Vec<u8>)> = rows.by_ref().take(CHUNK_ROWS).collect::<Result<_, _>>()?;
        if chunk.is_empty() {
            return Ok(());
        }
        let cells = match wanted {
            [] => None,
            _ => Some(codec.decode(chunk.iter().map(|(k, v)| (k.as_slice(), v.as_slice())))?),
        };
        text.clear();
        for (i, (key, value)) in chunk.iter().enumerate() {
            let passes = |rows: &RecordBatch| wanted.iter().all(|(column, v)| Value::at(rows.column(*column), i) == *v);
            if cells.as_ref().is_none_or(passes) {
                codec.write_json(&mut text, key, value)?;
                text.push(b'\n');
            }
        }
        out.write_all(&text)?;
    }
}
