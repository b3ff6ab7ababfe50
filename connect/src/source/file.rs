//! The `file` connector: CSV, NDJSON, Parquet and Arrow IPC files, packed or not, read to the end or followed.
//!
//! Files are read one after the other in name order, and records are numbered through all of them, so that the same
//! records in one file or in many have the same numbers.
//!
//! **Anchors.** In a plain text file an anchor is a byte offset with a hash of the bytes before it, by which a file
//! that was replaced or cut short is noticed. In a packed file it is the file's start, in Parquet a row group's;
//! records between the anchor and the position are read again and skipped. A batch is of one file, and starts at an
//! anchor in it: so a file that is gone or shorter when reading goes on in it is noticed, and the records of the next
//! are not taken for its own.
//!
//! **Following.** A text file that is read to its end is looked at again; an unfinished last line waits. A file that
//! was renamed and replaced (as `logrotate` does) is read to its end before the new one; one that was cut to nothing is
//! read from its start. In a folder or a glob only the last file in name order may still grow: once there is a later
//! one, the earlier is complete. Packed and columnar files must appear whole (write elsewhere, then rename).
//! What is appended to an earlier file, or appears with an earlier name, is not read.
//!
//! **Files that do not fit.** A file without a declared column, or with columns of types that cannot be read as
//! declared: if it is the only one the path names, and nothing has been read, the pipeline is wrong, and the source says
//! so and stops. One among many does not stop the others: its records are faults.

use std::collections::VecDeque;
use std::fs::{self, File, Metadata};
use std::io::{self, ErrorKind, Read as _};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use engine::connector::{Connector, ConnectorError, ConnectorFactory, Next, SourceEnv, SourceRows};
use engine::pipeline::Section;
use engine::plan::{PlannedSource, SourceShape};
use engine::{ConnectorDef, OptionDef};
use types::Position;

use super::bytes::Packing;
use super::cells::{Bad, RowSpec, Rows};
use super::columnar::{self, ColumnarReader};
use super::text::{Anchor, Read, Refused, Text};
use super::{
    RECORD_BYTES_MAX, RECORD_BYTES_OPTION, TIMESTAMP_FORMAT_OPTION, TIMESTAMP_UNIT_OPTION, TimeFormat, row_spec,
};

pub(crate) const DEF: ConnectorDef = ConnectorDef {
    name: "file",
    summary: "Reads CSV, NDJSON, Parquet and Arrow IPC files, plain, gzip or zstd, to the end or for ever.",
    options: &[
        OptionDef {
            name: "path",
            shape: "string",
            default: None,
            doc: "A file, a glob, or a folder, whose files are read in name order (hidden files and unknown extensions excepted). Relative to the pipeline file.",
        },
        OptionDef {
            name: "format",
            shape: "one of csv, ndjson, parquet, arrow",
            default: Some("by extension"),
            doc: "The format, if the file's extension (before .gz or .zst) does not say it. Packing is recognised by the file's first bytes.",
        },
        OptionDef {
            name: "delimiter",
            shape: "string",
            default: Some("\",\""),
            doc: "CSV: the one byte between fields. In a .tsv file a tab.",
        },
        OptionDef {
            name: "header",
            shape: "bool",
            default: Some("true"),
            doc: "CSV: whether the first line names the columns, which are then found by name, others ignored. Without, the fields are the declared columns in order.",
        },
        OptionDef {
            name: "null",
            shape: "string",
            default: Some("none"),
            doc: "CSV: an unquoted field of this text is null, beside an empty unquoted field, which always is. A quoted empty field is an empty string.",
        },
        TIMESTAMP_FORMAT_OPTION,
        TIMESTAMP_UNIT_OPTION,
        OptionDef {
            name: "follow",
            shape: "bool",
            default: Some("false"),
            doc: "Go on reading: what is appended, the file that takes the place of a rotated one, later files of the folder or glob.",
        },
        RECORD_BYTES_OPTION,
    ],
    plan,
};

/// Records of a batch, at most.
const BATCH_RECORDS: usize = 32_768;
/// How often a followed source is looked at whole: whether its file was replaced or cut short, whether there is a later one.
const LOOK: Duration = Duration::from_millis(20);
/// How often a followed file is asked for more: after a tenth of the time it has been silent, within these. So a busy
/// file is read almost at once, a silent one costs nothing, and no gap between two records becomes much longer.
const POLL_MIN: Duration = Duration::from_micros(500);
const POLL_MAX: Duration = LOOK;

/// A file format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    Csv,
    Ndjson,
    Parquet,
    Arrow,
}

impl Format {
    const NAMES: [(&'static str, Format); 4] =
        [("csv", Format::Csv), ("ndjson", Format::Ndjson), ("parquet", Format::Parquet), ("arrow", Format::Arrow)];

    /// The format a file's name tells, looking through the extension of its packing.
    pub fn of_name(name: &str) -> Option<Format> {
        let name = name.to_ascii_lowercase();
        match unpacked_name(&name).rsplit_once('.')?.1 {
            "csv" | "tsv" => Some(Format::Csv),
            "ndjson" | "jsonl" | "json" => Some(Format::Ndjson),
            "parquet" | "pq" => Some(Format::Parquet),
            "arrow" | "arrows" | "ipc" | "feather" => Some(Format::Arrow),
            _ => None,
        }
    }
}

/// The name without the extension of a packing.
fn unpacked_name(name: &str) -> &str {
    [".gz", ".zst", ".zstd"].iter().find_map(|e| name.strip_suffix(e)).unwrap_or(name)
}

/// Whether a name belongs to a tab-separated file.
pub(crate) fn is_tsv(name: &str) -> bool {
    unpacked_name(&name.to_ascii_lowercase()).ends_with(".tsv")
}

/// What a `file` source's section says.
#[derive(Clone, Debug)]
pub(crate) struct FileOptions {
    pub path: String,
    pub format: Option<Format>,
    pub delimiter: Option<u8>,
    pub header: bool,
    pub null: Option<String>,
    pub follow: bool,
    pub spec: Arc<RowSpec>,
}

fn plan(section: &mut Section<'_>, shape: &mut SourceShape) -> Option<Arc<dyn ConnectorFactory>> {
    let path = section.required_string("path");
    let format = if section.has("format") { Some(section.choice("format", &Format::NAMES)) } else { None };
    let delimiter = section.string("delimiter").map(|text| match text.as_bytes() {
        [b] if !b.is_ascii_alphanumeric() && !matches!(b, b'"' | b'\n' | b'\r' | b'.' | b'+' | b'-') => Some(*b),
        _ => {
            section.problem(
                "delimiter",
                format!("expected one byte that is no letter, digit, quote, sign or point, found `{text}`"),
            );
            None
        }
    });
    let header = section.boolean("header").unwrap_or(true);
    let null = section.string("null");
    let follow = section.boolean("follow").unwrap_or(false);
    let spec = row_spec(section, shape);
    let path = path?;
    if format.is_none()
        && !is_glob(&path)
        && Path::new(&path).extension().is_some()
        && Format::of_name(&path).is_none()
        && !shape.base_dir.join(&path).is_dir()
    {
        section.problem(
            "path",
            format!("the extension of `{path}` tells no format: add `format`, one of csv, ndjson, parquet, arrow"),
        );
        return None;
    }
    let (format, delimiter) =
        (format.map_or(Some(None), |f| f.map(Some))?, delimiter.map_or(Some(None), |d| d.map(Some))?);
    Some(Arc::new(FileOptions { path, format, delimiter, header, null, follow, spec: spec? }))
}

/// A file in the place of a source: what the source brought, as its records, read to the end by the defaults.
///
/// # Errors
/// The file's name tells no format.
pub fn recorded(source: &PlannedSource, path: &Path) -> Result<Arc<dyn ConnectorFactory>, String> {
    let path = std::path::absolute(path).map_err(|e| format!("{}: {e}", path.display()))?;
    let path = path.to_str().ok_or_else(|| format!("{}: the name is no text", path.display()))?.to_owned();
    if Format::of_name(&path).is_none() {
        return Err(format!("the extension of `{path}` tells no format: expected .csv, .ndjson, .parquet or .arrow"));
    }
    let name = |column: &usize| source.schema.columns[*column].name.clone();
    let key: Vec<String> = if source.is_keyed() { source.schema.key.iter().map(name).collect() } else { Vec::new() };
    let time = source.schema.event_time.as_ref().map(name);
    let spec = RowSpec::new(source.delivered.clone(), &key, time.as_deref(), TimeFormat::Auto, RECORD_BYTES_MAX);
    let (header, spec) = (true, Arc::new(spec));
    let options = FileOptions { path, format: None, delimiter: None, header, null: None, follow: false, spec };
    Ok(Arc::new(options))
}

impl ConnectorFactory for FileOptions {
    fn open(&self, position: &Position, env: &SourceEnv) -> Result<Box<dyn Connector>, ConnectorError> {
        Ok(Box::new(FileConnector::open(self.clone(), &env.source, &env.base_dir, position)?))
    }

    fn describe(&self) -> String {
        let mut out = format!("file {}", self.path);
        if let Some((name, _)) = self.format.and_then(|f| Format::NAMES.iter().find(|n| n.1 == f)) {
            out.push_str(&format!(" as {name}"));
        }
        out.push_str(if self.follow { ", followed" } else { ", to its end" });
        if let Some(delimiter) = self.delimiter {
            out.push_str(&format!(", delimiter {:?}", char::from(delimiter)));
        }
        if !self.header {
            out.push_str(", no header");
        }
        if let Some(null) = &self.null {
            out.push_str(&format!(", null {null:?}"));
        }
        out + &self.spec.describe()
    }
}

/// What a path means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Target {
    One,
    Many,
}

/// An open `file` source.
pub(crate) struct FileConnector {
    options: FileOptions,
    /// Records of a batch, at most; tests make it small.
    pub batch_records: usize,
    base_dir: PathBuf,
    target: Target,
    rows: Rows,
    /// Where the next batch starts.
    anchor: serde_json::Value,
    /// The record up to which the file was read before in which reading goes on.
    read_before: u64,
    current: Option<Open>,
    /// Bounded sources: the files to come.
    queue: VecDeque<(String, PathBuf)>,
    /// The last file begun: followed sources go on behind it.
    last: Option<String>,
    /// Followed sources: a file to be read again from its start, because it was cut short.
    again: Option<(String, PathBuf)>,
    /// Followed single file: the one that was read to its end. Held open so that its inode is not given to another.
    left: Option<File>,
    /// Followed file: how long it was waited for since it last gave something, and since it was looked at whole.
    silent: Duration,
    unseen: Duration,
}

#[allow(clippy::large_enum_variant, reason = "a connector has one")]
enum Open {
    Text(Box<Text>),
    Columns(Columns),
}

impl FileConnector {
    pub fn open(
        options: FileOptions,
        source: &str,
        base_dir: &Path,
        position: &Position,
    ) -> Result<FileConnector, ConnectorError> {
        let anchor: Option<Anchor> = if position.anchor.is_null() {
            None
        } else {
            Some(
                serde_json::from_value(position.anchor.clone())
                    .map_err(|e| ConnectorError::new(format!("a position that is not of a file source: {e}")))?,
            )
        };
        let target =
            if is_glob(&options.path) || base_dir.join(&options.path).is_dir() { Target::Many } else { Target::One };
        let mut connector = FileConnector {
            rows: Rows::new(source, options.spec.clone(), anchor.as_ref().map_or(0, |a| a.seq)),
            batch_records: BATCH_RECORDS,
            base_dir: base_dir.to_owned(),
            target,
            anchor: position.anchor.clone(),
            read_before: 0,
            current: None,
            queue: VecDeque::new(),
            last: None,
            again: None,
            left: None,
            silent: Duration::ZERO,
            unseen: LOOK,
            options,
        };
        if !connector.options.follow {
            let files = connector.list()?;
            if files.is_empty() && anchor.is_none() {
                return Err(ConnectorError::new(format!("there is no data file at `{}`", connector.options.path)));
            }
            let from = anchor.as_ref().map_or("", |a| a.file.as_str());
            connector.queue = files.into_iter().filter(|(name, _)| name.as_str() > from).collect();
        }
        if let Some(anchor) = anchor {
            connector.resume(&anchor, position.seq)?;
        }
        Ok(connector)
    }

    /// Goes back to where reading stopped: at that record, behind the anchor.
    fn resume(&mut self, anchor: &Anchor, seq: u64) -> Result<(), ConnectorError> {
        self.last = Some(anchor.file.clone());
        let path = self.path_of(&anchor.file);
        let one = self.options.follow && self.target == Target::One;
        if anchor.done {
            // The same file still in its place has been read; another one has not.
            if one
                && let Ok(file) = File::open(&path)
                && file.metadata().is_ok_and(|m| Some(m.ino()) == anchor.inode)
            {
                self.left = Some(file);
            }
            return Ok(());
        }
        let path = if one { self.find_rotated(anchor, &path) } else { path };
        if !path.exists() {
            return Err(ConnectorError::new(format!("`{}`, in which reading stopped, is gone", anchor.file)));
        }
        self.read_before = seq;
        match self.open_file(&anchor.file, &path, Some(anchor)) {
            Err(e) if self.options.follow && e.changed => {
                tracing::warn!(file = anchor.file, "{}: reading it from its start", e.error);
                self.read_before = 0;
                self.open_file(&anchor.file, &path, None).map_err(|e| e.error)?;
            }
            other => other.map_err(|e| e.error)?,
        }
        Ok(())
    }

    fn path_of(&self, name: &str) -> PathBuf {
        let path = self.base_dir.join(name);
        if path.exists() {
            return path;
        }
        // A name that is not UTF-8 is written otherwise than it is.
        let files = self.list().unwrap_or_default();
        files.into_iter().find(|(n, _)| n == name).map_or(path, |(_, path)| path)
    }

    /// A file's name as the source names it.
    fn name_of(&self, path: &Path) -> String {
        let name = path.strip_prefix(&self.base_dir).unwrap_or(path).as_os_str().as_encoded_bytes();
        let mut out = String::new();
        for chunk in name.utf8_chunks() {
            out.push_str(chunk.valid());
            // Written out, so that two names remain two.
            chunk.invalid().iter().for_each(|b| out.push_str(&format!("\\x{b:02x}")));
        }
        out
    }

    /// The files there are, in name order.
    fn list(&self) -> Result<Vec<(String, PathBuf)>, ConnectorError> {
        let path = &self.options.path;
        let full = self.base_dir.join(path);
        let name = |p: &Path| self.name_of(p);
        if self.target == Target::One {
            return Ok(if full.exists() { vec![(name(&full), full)] } else { Vec::new() });
        }
        let failed = |e: &dyn std::fmt::Display| ConnectorError::new(format!("`{path}` cannot be listed: {e}"));
        let mut files = Vec::new();
        if full.is_dir() {
            for entry in fs::read_dir(&full).map_err(|e| failed(&e))? {
                files.push(entry.map_err(|e| failed(&e))?.path());
            }
            files.retain(|f| self.options.format.is_some() || Format::of_name(&f.to_string_lossy()).is_some());
        } else {
            let pattern = Path::new(&glob::Pattern::escape(&self.base_dir.to_string_lossy())).join(path);
            for entry in glob::glob(&pattern.to_string_lossy()).map_err(|e| failed(&e))? {
                files.push(entry.map_err(|e| failed(&e))?);
            }
        }
        let hidden = |f: &Path| f.file_name().is_none_or(|n| n.to_string_lossy().starts_with('.'));
        // What cannot be looked at (a link to nowhere) is not passed over: opening it says what is wrong. A followed
        // one may be in the middle of being rotated.
        let is_there = |f: &Path| fs::metadata(f).map_or(!self.options.follow, |m| m.is_file());
        let mut files: Vec<_> =
            files.into_iter().filter(|f| !hidden(f) && is_there(f)).map(|f| (name(&f), f)).collect();
        files.sort();
        Ok(files)
    }

    /// Opens the next file, if there is one. It may turn out unreadable, which makes a fault and no open file.
    fn open_next(&mut self) -> Result<bool, ConnectorError> {
        let next = if !self.options.follow {
            self.queue.pop_front()
        } else if let Some(again) = self.again.take() {
            Some(again)
        } else if self.target == Target::One {
            self.next_rotated()
        } else {
            self.list()?.into_iter().find(|(name, _)| self.last.as_ref().is_none_or(|last| name > last))
        };
        let Some((name, path)) = next else { return Ok(false) };
        if self.options.follow && !path.exists() {
            // It vanished between two looks; the next one will show what there is.
            return Ok(false);
        }
        self.left = None;
        self.last = Some(name.clone());
        let start = Anchor { file: name.clone(), seq: self.rows.next_seq(), ..Anchor::default() };
        self.open_file(&name, &path, None).map_err(|e| e.error)?;
        self.anchor = match self.current {
            Some(_) => self.place(),
            None => serde_json::to_value(start).expect("an anchor is JSON"),
        };
        Ok(true)
    }

    /// The file at the path, or one that was there since the last one was and has been renamed already.
    fn next_rotated(&self) -> Option<(String, PathBuf)> {
        let path = self.base_dir.join(&self.options.path);
        let name = self.name_of(&path);
        let left = self.left.as_ref().and_then(|f| f.metadata().ok());
        if let Some(left) = &left
            && let Some(between) = rotated_after(&path, left).into_iter().next()
        {
            return Some((name, between));
        }
        let there = fs::metadata(&path).ok()?;
        let read = left.is_some_and(|l| (l.dev(), l.ino()) == (there.dev(), there.ino()));
        (!read).then_some((name, path))
    }

    /// The file an anchor means: it may have another name by now.
    fn find_rotated(&self, anchor: &Anchor, path: &Path) -> PathBuf {
        let is_it = |p: &Path| fs::metadata(p).is_ok_and(|m| Some(m.ino()) == anchor.inode);
        if is_it(path) {
            return path.to_owned();
        }
        // Not found by inode: perhaps everything was copied elsewhere; the hash in the anchor will tell.
        siblings(path).into_iter().find(|s| is_it(s)).unwrap_or_else(|| path.to_owned())
    }

    fn open_file(&mut self, name: &str, path: &Path, at: Option<&Anchor>) -> Result<(), Refused> {
        let failed = |e: io::Error| Refused::from(ConnectorError::new(format!("`{name}` cannot be read: {e}")));
        let Some(format) = self.options.format.or_else(|| Format::of_name(name)) else {
            return Err(ConnectorError::new(format!("the extension of `{name}` tells no format: add `format`")).into());
        };
        let mut file = File::open(path).map_err(failed)?;
        let packing = Packing::of(&mut file).map_err(failed)?;
        let meta = file.metadata().map_err(failed)?;
        if packing == Packing::Plain && unpacked_name(name) != name && meta.len() > 0 {
            self.unreadable(name, "unreadable_file", "its first bytes are neither gzip's nor zstd's");
            self.leave(file);
            return Ok(());
        }
        if let Some(at) = at
            && let Some(size) = at.size
            && size != meta.len()
        {
            return Err(Refused::changed(format!(
                "`{name}` had {size} bytes when it was being read and has {} now",
                meta.len()
            )));
        }
        if matches!(format, Format::Csv | Format::Ndjson) {
            let (seq, must_fit) = (self.rows.next_seq(), self.must_fit());
            let text = Text::open(name, path, file, packing, format, &self.options, seq, must_fit, at)?;
            self.current = Some(Open::Text(Box::new(text)));
            return Ok(());
        }
        let spec = &self.options.spec;
        let group = at.and_then(|a| a.row_group).unwrap_or(0);
        let opened = match (format, packing) {
            (Format::Parquet, Packing::Plain) => {
                ColumnarReader::parquet(file.try_clone().map_err(failed)?, spec, group)
            }
            (Format::Parquet, _) => {
                let mut bytes = Vec::new();
                match packing.unpack(file.try_clone().map_err(failed)?).and_then(|mut r| r.read_to_end(&mut bytes)) {
                    Ok(_) => ColumnarReader::parquet_bytes(bytes, spec, group),
                    Err(e) => Err(e.to_string()),
                }
            }
            _ => ColumnarReader::ipc(packing.unpack(file.try_clone().map_err(failed)?).map_err(failed)?, spec),
        };
        match opened {
            Ok(reader) => {
                if let Some(misfit) = reader.misfit().filter(|_| self.must_fit()) {
                    return Err(ConnectorError::new(format!("`{name}`: {}", misfit.detail)).into());
                }
                let row = reader.rows_before(reader.group());
                let first_seq = self.rows.next_seq() - row.min(self.rows.next_seq());
                self.current = Some(Open::Columns(Columns {
                    name: name.to_owned(),
                    file,
                    reader,
                    row,
                    first_seq,
                    size: meta.len(),
                }));
                Ok(())
            }
            // Nothing in it, not even a footer: as empty as an empty text file.
            Err(_) if meta.len() == 0 => {
                self.leave(file);
                Ok(())
            }
            Err(why) => {
                self.unreadable(name, "unreadable_file", &why);
                self.leave(file);
                Ok(())
            }
        }
    }

    /// Whether a file that does not fit is the pipeline's mistake.
    fn must_fit(&self) -> bool {
        self.target == Target::One && self.rows.next_seq() == 0
    }

    /// A fault for a file, counted as one record.
    fn unreadable(&mut self, name: &str, reason: &'static str, why: &str) {
        self.rows.reject(Bad::new(reason, format!("the file cannot be read on: {why}")), name.to_owned(), b"");
    }

    /// Closes the current file: what follows comes from another.
    fn finish_file(&mut self) -> Result<(), ConnectorError> {
        let before = std::mem::take(&mut self.read_before);
        if self.rows.next_seq() < before {
            return Err(ConnectorError::new(format!(
                "`{}` ends before record {}, and was read up to record {before} before",
                self.last.as_deref().unwrap_or_default(),
                self.rows.next_seq()
            )));
        }
        match self.current.take() {
            Some(Open::Text(text)) => self.leave(text.handle),
            Some(Open::Columns(columns)) => self.leave(columns.file),
            None => {}
        }
        Ok(())
    }

    /// Notes a file that has been read, or cannot be, so that it is not taken for a new one.
    fn leave(&mut self, file: File) {
        if self.target == Target::One {
            self.left = Some(file);
        }
    }

    /// Where reading stands.
    fn place(&self) -> serde_json::Value {
        let seq = self.rows.next_seq();
        let anchor = match &self.current {
            Some(Open::Text(text)) => text.place(seq, self.options.follow),
            Some(Open::Columns(columns)) => columns.place(),
            None => Anchor {
                file: self.last.clone().unwrap_or_default(),
                seq,
                done: true,
                inode: self
                    .left
                    .as_ref()
                    .filter(|_| self.options.follow)
                    .and_then(|f| f.metadata().ok())
                    .map(|m| m.ino()),
                ..Anchor::default()
            },
        };
        serde_json::to_value(anchor).expect("an anchor is JSON")
    }

    fn emit(&mut self) -> Next {
        self.silent = Duration::ZERO;
        let end = self.place();
        let start = std::mem::replace(&mut self.anchor, end.clone());
        Next::Rows(self.rows.take(start, end))
    }

    fn next_columns(&mut self) -> Result<Option<SourceRows>, ConnectorError> {
        let Some(Open::Columns(columns)) = &mut self.current else { unreachable!("the caller looked") };
        match columns.reader.next(&self.options.spec) {
            None => {
                self.finish_file()?;
                Ok(None)
            }
            Some(Err(why)) => {
                let name = columns.name.clone();
                self.unreadable(&name, "corrupt_file", &why);
                self.finish_file()?;
                Ok(None)
            }
            Some(Ok(converted)) => {
                let before = columns.row;
                columns.row += converted.batch.num_rows() as u64;
                let end = serde_json::to_value(columns.place()).expect("an anchor is JSON");
                let start = std::mem::replace(&mut self.anchor, end.clone());
                Ok(Some(columnar::gather(converted, &mut self.rows, &columns.name, before, start, end)))
            }
        }
    }

    /// Waits a little for a followed file to grow.
    fn pause(&mut self) {
        let pause = (self.silent / 10).clamp(POLL_MIN, POLL_MAX);
        std::thread::sleep(pause);
        self.silent += pause;
        self.unseen += pause;
    }

    /// Whether a followed text file that has no more now may have more later. Notes if it was replaced or cut short.
    fn grows(&mut self) -> Result<bool, ConnectorError> {
        let later = self.target == Target::Many && {
            let files = self.list()?;
            files.into_iter().any(|(name, _)| self.last.as_ref().is_some_and(|last| name > *last))
        };
        let one = (self.target == Target::One).then(|| self.base_dir.join(&self.options.path));
        let Some(Open::Text(text)) = &mut self.current else { unreachable!("the caller looked") };
        let Ok(held) = text.handle.metadata() else { return Ok(true) };
        if held.len() < text.base + text.end as u64 {
            self.again = Some((text.name.clone(), text.path.clone()));
            return Ok(false);
        }
        // The file at hand may be one that was renamed already.
        let replaced = match fs::metadata(one.as_ref().unwrap_or(&text.path)) {
            Ok(there) => (there.dev(), there.ino()) != (held.dev(), held.ino()),
            Err(e) => e.kind() == ErrorKind::NotFound,
        };
        // A writer may hold a file it has just rotated a little longer: look once more before leaving it.
        let leave = (replaced || later) && std::mem::replace(&mut text.leaving, true);
        Ok(!leave)
    }
}

impl Connector for FileConnector {
    fn next(&mut self) -> Result<Next, ConnectorError> {
        loop {
            if self.current.is_none() && self.rows.records() > 0 {
                return Ok(self.emit());
            }
            if self.current.is_none() && !self.open_next()? {
                if !self.options.follow {
                    return Ok(Next::End);
                }
                std::thread::sleep(LOOK);
                return Ok(Next::Waiting);
            }
            match &mut self.current {
                None => {}
                Some(Open::Columns(_)) => {
                    if self.rows.records() > 0 {
                        return Ok(self.emit());
                    }
                    if let Some(rows) = self.next_columns()? {
                        return Ok(Next::Rows(rows));
                    }
                }
                Some(Open::Text(text)) => {
                    let ends = !self.options.follow || text.packing != Packing::Plain || text.ending;
                    let read = text.read(&mut self.rows, self.batch_records, ends, &self.options)?;
                    let can_emit = self.rows.records() > 0 && !text.skipping();
                    match read {
                        Read::Full => return Ok(self.emit()),
                        Read::End => self.finish_file()?,
                        Read::Pause if can_emit => return Ok(self.emit()),
                        Read::Pause => return Ok(Next::Waiting),
                        Read::Dry if can_emit => return Ok(self.emit()),
                        Read::Dry => {
                            let look = self.unseen >= LOOK;
                            if look {
                                self.unseen = Duration::ZERO;
                            }
                            if !look || self.grows()? {
                                self.pause();
                                return Ok(Next::Waiting);
                            }
                            let Some(Open::Text(text)) = &mut self.current else { unreachable!("still the same") };
                            text.ending = true;
                        }
                    }
                }
            }
        }
    }
}

/// An open columnar file.
struct Columns {
    name: String,
    file: File,
    reader: ColumnarReader,
    /// The next row within the file.
    row: u64,
    /// The number of the file's first row.
    first_seq: u64,
    size: u64,
}

impl Columns {
    fn place(&self) -> Anchor {
        let group = self.reader.group();
        Anchor {
            file: self.name.clone(),
            seq: self.first_seq + self.reader.rows_before(group),
            row_group: Some(group),
            size: Some(self.size),
            ..Anchor::default()
        }
    }
}

fn is_glob(path: &str) -> bool {
    path.contains(['*', '?', '['])
}

/// The files beside a path whose names begin with its name: where a rotated file may be.
fn siblings(path: &Path) -> Vec<PathBuf> {
    let (Some(folder), Some(name)) = (path.parent(), path.file_name().map(|n| n.to_string_lossy().into_owned())) else {
        return Vec::new();
    };
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let mut found: Vec<PathBuf> = entries
        .filter_map(|e| Some(e.ok()?.path()))
        .filter(|p| {
            let other = p.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
            other.strip_prefix(&name).is_some_and(|rest| rest.starts_with(['.', '-']))
                && unpacked_name(&other) == other
                && p.is_file()
        })
        .collect();
    found.sort();
    found
}

/// The rotated files (a number or a date behind the name) written after the one that was left, the first of them first.
fn rotated_after(path: &Path, left: &Metadata) -> Vec<PathBuf> {
    let written = |m: &Metadata| (m.mtime(), m.mtime_nsec());
    let name_bytes = path.file_name().map_or(0, |n| n.len());
    let numbered = |p: &Path| {
        p.file_name().is_some_and(|n| n.as_encoded_bytes().get(name_bytes + 1).is_some_and(u8::is_ascii_digit))
    };
    let mut after: Vec<_> = siblings(path)
        .into_iter()
        .filter(|p| numbered(p))
        .filter_map(|p| fs::metadata(&p).ok().map(|m| (written(&m), p, m.ino())))
        .filter(|(at, _, inode)| *at > written(left) && *inode != left.ino())
        .collect();
    after.sort();
    after.into_iter().map(|(_, path, _)| path).collect()
}
