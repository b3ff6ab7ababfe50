//! The `file` sink: files that are complete or absent, whose names say which epochs they hold.
//!
//! A file is written under a hidden name, synced, and then given its own by one rename: that is the commit. The name
//! holds the mark, so how far the sink is stands in the folder itself:
//! `SINK.FIRST-LAST.DIGEST-ROWS.EXTENSION`, with the epochs of the first and last change, and the digest and the number of
//! rows of the view as of the last. Rows have the columns `_epoch` and, of a view that is no stream, `_op` (`upsert` or
//! `delete`) before their own; of a deleted row only the key is there.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use arrow::array::RecordBatch;
use arrow::datatypes::{Field, Schema as ArrowSchema, SchemaRef};
use engine::sink::{Committed, Mark, Resume, Sink, SinkEnv, SinkError};
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;
use types::{Change, Digest, Epoch, RowCodec, Schema, Type, Value, json};

use super::encode::write_text;
use super::file_options::{FileSinkOptions, Format};

/// Rows of a Parquet file encoded at once.
const ROWS_AT_ONCE: usize = 8_192;

/// An open sink.
pub(super) struct FileSink {
    options: FileSinkOptions,
    name: String,
    folder: PathBuf,
    schema: Schema,
    codec: RowCodec,
    /// The file that is being written.
    part: Option<Part>,
}

/// A file that has no name of its own yet.
struct Part {
    writer: Writer,
    /// The epoch of its first change.
    first: Epoch,
    /// Its last mark; what comes after it is not committed.
    mark: Option<Mark>,
    begun: Instant,
    bytes: u64,
    line: Vec<u8>,
}

enum Writer {
    Text(BufWriter<File>),
    Parquet { writer: Box<ArrowWriter<File>>, arrow: SchemaRef, types: Vec<Type>, rows: Vec<Vec<Value>> },
}

impl FileSink {
    pub fn open(options: FileSinkOptions, env: &SinkEnv) -> Result<FileSink, SinkError> {
        let folder = env.base_dir.join(&options.path);
        fs::create_dir_all(&folder).map_err(|e| broken("make the folder", &folder, &e))?;
        Ok(FileSink {
            codec: RowCodec::new(&env.schema),
            schema: env.schema.clone(),
            name: env.sink.clone(),
            folder,
            options,
            part: None,
        })
    }

    /// Where a file is while it is written.
    fn hidden(&self) -> PathBuf {
        self.folder.join(format!(".{}.unfinished", self.name))
    }

    /// The columns before the row's own.
    fn has_op(&self) -> bool {
        !self.schema.append_only
    }

    fn begin(&self, first: Epoch) -> Result<Part, SinkError> {
        let path = self.hidden();
        let file = File::create(&path).map_err(|e| broken("make", &path, &e))?;
        let writer = match self.options.format {
            Format::Ndjson => Writer::Text(BufWriter::new(file)),
            Format::Csv => {
                let mut text = BufWriter::new(file);
                let own = self.schema.columns.iter().map(|c| c.name.as_str());
                let op = self.has_op().then_some("_op");
                let mut line = Vec::new();
                for (i, name) in ["_epoch"].into_iter().chain(op).chain(own).enumerate() {
                    if i > 0 {
                        line.push(b',');
                    }
                    write_field(&mut line, name.as_bytes(), false);
                }
                line.extend_from_slice(b"\r\n");
                text.write_all(&line).map_err(|e| broken("write", &path, &e))?;
                Writer::Text(text)
            }
            Format::Parquet => {
                let mut fields = vec![Field::new("_epoch", Type::Int64.arrow(), false)];
                let mut types = vec![Type::Int64];
                if self.has_op() {
                    fields.push(Field::new("_op", Type::String.arrow(), false));
                    types.push(Type::String);
                }
                for (i, column) in self.schema.columns.iter().enumerate() {
                    // Of a deleted row only the key is there.
                    let nullable = column.nullable || (self.has_op() && !self.schema.key.contains(&i));
                    fields.push(Field::new(&column.name, column.ty.arrow(), nullable));
                    types.push(column.ty);
                }
                let arrow = Arc::new(ArrowSchema::new(fields));
                let level = ZstdLevel::try_new(3).expect("a level there is");
                let properties = WriterProperties::builder().set_compression(Compression::ZSTD(level)).build();
                let writer = ArrowWriter::try_new(file, arrow.clone(), Some(properties))
                    .map_err(|e| broken("write", &path, &e))?;
                Writer::Parquet { writer: Box::new(writer), arrow, types, rows: Vec::new() }
            }
        };
        Ok(Part { writer, first, mark: None, begun: Instant::now(), bytes: 0, line: Vec::new() })
    }

    /// Gives the file its name: from here on it is there.
    fn roll(&mut self) -> Result<Option<Epoch>, SinkError> {
        let Some(part) = self.part.take() else { return Ok(None) };
        let Some(mark) = part.mark else {
            self.part = Some(part);
            return Ok(None);
        };
        let path = self.hidden();
        let file = part.writer.finish().map_err(|e| broken("write", &path, &e))?;
        file.sync_all().map_err(|e| broken("sync", &path, &e))?;
        let named = self.folder.join(name_of(&self.name, part.first, &mark, self.options.format));
        fs::rename(&path, &named).map_err(|e| broken("name", &named, &e))?;
        File::open(&self.folder).and_then(|d| d.sync_all()).map_err(|e| broken("sync", &self.folder, &e))?;
        Ok(Some(mark.epoch))
    }
}

impl Sink for FileSink {
    fn resume(&mut self) -> Result<Resume, SinkError> {
        match fs::remove_file(self.hidden()) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(broken("remove", &self.hidden(), &e)),
            _ => {}
        }
        let mut last: Option<Mark> = None;
        for entry in fs::read_dir(&self.folder).map_err(|e| broken("list", &self.folder, &e))? {
            let entry = entry.map_err(|e| broken("list", &self.folder, &e))?;
            let name = entry.file_name();
            let Some(mark) = name.to_str().and_then(|name| mark_of(&self.name, name)) else { continue };
            if last.is_none_or(|last| mark.epoch > last.epoch) {
                last = Some(mark);
            }
        }
        Ok(last.map_or(Resume::Nothing, Resume::At))
    }

    fn write(&mut self, epoch: Epoch, change: Change<'_>) -> Result<(), SinkError> {
        if self.part.is_none() {
            self.part = Some(self.begin(epoch)?);
        }
        let (has_op, path) = (self.has_op(), self.hidden());
        let part = self.part.as_mut().expect("just begun");
        let op = if change.after.is_some() { "upsert" } else { "delete" };
        let row = Row { schema: &self.schema, codec: &self.codec, epoch, op: has_op.then_some(op), change };
        part.line.clear();
        let written = match (&mut part.writer, self.options.format) {
            (Writer::Text(text), format) => {
                match format {
                    Format::Csv => row.csv(&mut part.line),
                    _ => row.ndjson(&mut part.line),
                }
                .map_err(|e| SinkError::broken(e.to_string()))?;
                part.bytes += part.line.len() as u64;
                text.write_all(&part.line)
            }
            (Writer::Parquet { writer, arrow, types, rows }, _) => {
                let cells = row.cells().map_err(|e| SinkError::broken(e.to_string()))?;
                part.bytes += (change.key.len() + change.after.map_or(0, <[u8]>::len)) as u64;
                rows.push(cells);
                if rows.len() < ROWS_AT_ONCE { Ok(()) } else { write_batch(writer, arrow, types, rows) }
            }
        };
        written.map_err(|e| broken("write", &path, &e))
    }

    fn commit(&mut self, mark: &Mark) -> Result<Committed, SinkError> {
        let Some(part) = &mut self.part else { return Ok(Committed::Pending) };
        part.mark = Some(*mark);
        if part.bytes >= self.options.roll_bytes || part.begun.elapsed() >= self.options.roll_after {
            self.roll()?;
            return Ok(Committed::Safe);
        }
        Ok(Committed::Pending)
    }

    fn idle(&mut self) -> Result<Option<Epoch>, SinkError> {
        match &self.part {
            Some(part) if part.begun.elapsed() >= self.options.roll_after => self.roll(),
            _ => Ok(None),
        }
    }

    fn finish(&mut self) -> Result<Option<Epoch>, SinkError> {
        self.roll()
    }
}

impl Writer {
    fn finish(self) -> io::Result<File> {
        match self {
            Writer::Text(text) => text.into_inner().map_err(io::IntoInnerError::into_error),
            Writer::Parquet { mut writer, arrow, types, mut rows } => {
                write_batch(&mut writer, &arrow, &types, &mut rows)?;
                writer.into_inner().map_err(io::Error::other)
            }
        }
    }
}

fn write_batch(
    writer: &mut ArrowWriter<File>,
    arrow: &SchemaRef,
    types: &[Type],
    rows: &mut Vec<Vec<Value>>,
) -> io::Result<()> {
    if rows.is_empty() {
        return Ok(());
    }
    let columns = types.iter().enumerate().map(|(i, ty)| Value::array(*ty, rows.iter().map(|row| &row[i]))).collect();
    let batch = RecordBatch::try_new(arrow.clone(), columns).map_err(io::Error::other)?;
    rows.clear();
    writer.write(&batch).map_err(io::Error::other)
}

/// A change as a row of a file.
struct Row<'a> {
    schema: &'a Schema,
    codec: &'a RowCodec,
    epoch: Epoch,
    op: Option<&'static str>,
    change: Change<'a>,
}

impl Row<'_> {
    fn ndjson(&self, out: &mut Vec<u8>) -> Result<(), types::CodecError> {
        out.extend_from_slice(format!("{{\"_epoch\":{}", self.epoch).as_bytes());
        if let Some(op) = self.op {
            out.extend_from_slice(format!(",\"_op\":\"{op}\"").as_bytes());
        }
        match self.change.after {
            Some(row) => {
                let start = out.len();
                self.codec.write_json(out, self.change.key, row)?;
                // The row's own brace becomes a comma, unless it has no columns.
                if out[start + 1] == b'}' {
                    out.remove(start);
                } else {
                    out[start] = b',';
                }
            }
            None => {
                for (i, cell) in self.schema.key.iter().zip(self.codec.key_cells(self.change.key)?) {
                    out.push(b',');
                    json::write_value(out, &Value::Str(self.schema.columns[*i].name.clone()));
                    out.push(b':');
                    json::write_value(out, &cell);
                }
                out.push(b'}');
            }
        }
        out.push(b'\n');
        Ok(())
    }

    fn csv(&self, out: &mut Vec<u8>) -> Result<(), types::CodecError> {
        let mut text = Vec::new();
        for (i, cell) in self.cells()?.iter().enumerate() {
            if i > 0 {
                out.push(b',');
            }
            text.clear();
            write_text(&mut text, cell);
            write_field(out, &text, matches!(cell, Value::Str(_)));
        }
        out.extend_from_slice(b"\r\n");
        Ok(())
    }

    fn cells(&self) -> Result<Vec<Value>, types::CodecError> {
        let mut cells = vec![Value::Int(self.epoch as i64)];
        cells.extend(self.op.map(|op| Value::Str(op.to_owned())));
        match self.change.after {
            Some(row) => cells.extend(self.codec.cells(self.change.key, row)?),
            None => {
                let before = cells.len();
                cells.resize(before + self.schema.columns.len(), Value::Null);
                for (i, cell) in self.schema.key.iter().zip(self.codec.key_cells(self.change.key)?) {
                    cells[before + i] = cell;
                }
            }
        }
        Ok(cells)
    }
}

/// Appends a CSV field. An absent cell is empty, an empty string is `""`.
fn write_field(out: &mut Vec<u8>, text: &[u8], is_string: bool) {
    let plain = !text.iter().any(|b| b",\"\r\n".contains(b)) && !(text.is_empty() && is_string);
    if plain {
        out.extend_from_slice(text);
        return;
    }
    out.push(b'"');
    for byte in text {
        if *byte == b'"' {
            out.push(b'"');
        }
        out.push(*byte);
    }
    out.push(b'"');
}

fn name_of(sink: &str, first: Epoch, mark: &Mark, format: Format) -> String {
    let Mark { epoch, digest: Digest { sum, rows } } = mark;
    format!("{sink}.{first:012}-{epoch:012}.{sum:032x}-{rows}.{}", format.extension())
}

/// The mark in a file's name, if it is a name this sink gives.
fn mark_of(sink: &str, name: &str) -> Option<Mark> {
    let mut parts = name.strip_prefix(sink)?.strip_prefix('.')?.split('.');
    let (epochs, digest, extension) = (parts.next()?, parts.next()?, parts.next()?);
    if parts.next().is_some() || !["ndjson", "csv", "parquet"].contains(&extension) {
        return None;
    }
    let (_, last) = epochs.split_once('-')?;
    let (sum, rows) = digest.split_once('-')?;
    Some(Mark {
        epoch: last.parse().ok()?,
        digest: Digest { sum: u128::from_str_radix(sum, 16).ok()?, rows: rows.parse().ok()? },
    })
}

fn broken(doing: &str, path: &Path, e: &dyn std::fmt::Display) -> SinkError {
    SinkError::broken(format!("cannot {doing} {}: {e}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_says_how_far_the_sink_is() {
        let mark = Mark { epoch: 57, digest: Digest { sum: 0xabc, rows: 3 } };
        let name = name_of("out", 12, &mark, Format::Csv);
        assert_eq!(name, "out.000000000012-000000000057.00000000000000000000000000000abc-3.csv");
        assert_eq!(mark_of("out", &name), Some(mark));
        for other in ["ou", "out2", "other"] {
            assert_eq!(mark_of(other, &name), None);
        }
        for wrong in [".out.unfinished", "out.1-2.csv", "out.1-2.zz-3.csv", "out.1-2.a-3.txt", "out.1-2.a-3.csv.gz"] {
            assert_eq!(mark_of("out", wrong), None, "{wrong}");
        }
    }
}
