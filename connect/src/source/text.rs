//! Text files as blocks of bytes: the byte order mark, the header, the decoder, the place where reading stands.

use std::fs::File;
use std::io::{self, ErrorKind, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use engine::connector::ConnectorError;

use super::bytes::{Packing, damage};
use super::cells::{Bad, RowSpec, Rows};
use super::csv::{CsvDecoder, Decoded, Split, split};
use super::file::{FileOptions, Format, is_tsv};
use super::ndjson::NdjsonDecoder;
use super::nearest;

/// Bytes read at once.
const BLOCK_BYTES: usize = 256 << 10;
/// Bytes read before the engine is answered, whatever came of them.
const PAUSE_BYTES: usize = 4 << 20;
/// Bytes before an anchor that must be the same when reading goes on there.
const TAIL_BYTES: usize = 64;

/// A place in the files.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct Anchor {
    /// The file's name as the source names it.
    pub file: String,
    /// The number of the record here.
    pub seq: u64,
    /// Plain text: the offset of the record, its line, a hash of the bytes before it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<TextAnchor>,
    /// Parquet: the row group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub row_group: Option<usize>,
    /// Packed and columnar files: the file's size, by which a change is noticed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    /// Followed files: which file it was, whatever it is called by now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inode: Option<u64>,
    /// The file has been read to its end for good.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub done: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct TextAnchor {
    pub offset: u64,
    pub line: u64,
    pub tail: u64,
    /// The header was not as declared.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub misfit: bool,
}

/// Why a file was not opened.
pub(crate) struct Refused {
    pub error: ConnectorError,
    /// It is another file than the one the anchor was made in.
    pub changed: bool,
}

impl Refused {
    pub fn changed(message: String) -> Refused {
        Refused { error: ConnectorError::new(message), changed: true }
    }
}

impl From<ConnectorError> for Refused {
    fn from(error: ConnectorError) -> Refused {
        Refused { error, changed: false }
    }
}

/// What came of reading text.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Read {
    /// The batch is full.
    Full,
    /// Enough for now; there is more.
    Pause,
    /// There is no more now, and perhaps later.
    Dry,
    /// There is no more.
    End,
}

enum Decoder {
    Csv(CsvDecoder),
    Ndjson(NdjsonDecoder),
}

impl Decoder {
    fn decode(&mut self, block: &[u8], last: bool, rows: &mut Rows, limit: usize) -> Decoded {
        match self {
            Decoder::Csv(d) => d.decode(block, last, rows, limit),
            Decoder::Ndjson(d) => d.decode(block, last, rows, limit),
        }
    }

    fn line(&mut self) -> &mut u64 {
        match self {
            Decoder::Csv(d) => &mut d.line,
            Decoder::Ndjson(d) => &mut d.line,
        }
    }
}

/// What became of the start of a file.
enum Begun {
    /// It is behind.
    Yes,
    /// There are not enough bytes for it.
    Starved,
    /// It is no text of the format.
    Never(Bad),
}

/// An open text file: bytes read and not yet decoded, and some before them.
pub(crate) struct Text {
    pub name: String,
    pub path: PathBuf,
    pub packing: Packing,
    /// The same open file as `input`, for asking about it.
    pub handle: File,
    input: Box<dyn io::Read + Send>,
    /// `None` until the header is read.
    decoder: Option<Decoder>,
    begun: bool,
    line: u64,
    buffer: Vec<u8>,
    start: usize,
    pub(super) end: usize,
    /// The offset in the file of the buffer's first byte.
    pub(super) base: u64,
    /// The last read found nothing.
    dry: bool,
    failed: Option<io::Error>,
    /// Followed: it is to be left at the next look.
    pub leaving: bool,
    /// Followed: what is there now is all there will be.
    pub ending: bool,
    first_seq: u64,
    size: u64,
    /// A header that is not as declared is the source's error.
    must_fit: bool,
}

impl Text {
    #[allow(clippy::too_many_arguments)]
    pub fn open(
        name: &str,
        path: &Path,
        file: File,
        packing: Packing,
        format: Format,
        options: &FileOptions,
        seq: u64,
        must_fit: bool,
        at: Option<&Anchor>,
    ) -> Result<Text, Refused> {
        let failed = |e: io::Error| ConnectorError::new(format!("`{name}` cannot be read: {e}"));
        let handle = file.try_clone().map_err(failed)?;
        let size = handle.metadata().map_err(failed)?.len();
        let decoder = match format {
            Format::Ndjson => Some(Decoder::Ndjson(NdjsonDecoder::new(name))),
            _ if !options.header => {
                let fields: Vec<_> = (0..options.spec.columns.len()).map(Some).collect();
                Some(Decoder::Csv(CsvDecoder::new(
                    name,
                    options.delimiter_of(name),
                    options.null.as_deref(),
                    &fields,
                    &options.spec,
                )))
            }
            _ => None,
        };
        let mut text = Text {
            name: name.to_owned(),
            path: path.to_owned(),
            packing,
            handle,
            input: packing.unpack(file).map_err(failed)?,
            decoder,
            begun: false,
            line: 1,
            buffer: Vec::new(),
            start: 0,
            end: 0,
            base: 0,
            dry: false,
            failed: None,
            leaving: false,
            ending: false,
            first_seq: seq,
            size,
            must_fit,
        };
        if let Some(TextAnchor { offset, line, tail, misfit }) = at.and_then(|a| a.text)
            && offset > 0
        {
            if size < offset {
                return Err(Refused::changed(format!(
                    "`{name}` has {size} bytes and was read up to byte {offset} before"
                )));
            }
            while matches!(text.begin(false, options)?, Begun::Starved) && !text.dry {
                text.fill().map_err(failed)?;
            }
            if text.decoder.is_none() {
                return Err(Refused::changed(format!("`{name}` has no header any more")));
            }
            if text.misfit().is_some() != misfit {
                return Err(Refused::changed(format!("`{name}` has another header than when it was being read")));
            }
            text.seek(offset, tail).map_err(failed)?.then_some(()).ok_or_else(|| {
                Refused::changed(format!(
                    "`{name}` is not what it was: the bytes before byte {offset}, where reading stopped, have changed"
                ))
            })?;
            *text.decoder.as_mut().expect("just looked").line() = line;
        }
        Ok(text)
    }

    /// Goes to an offset; false if the bytes before it are not those they were.
    fn seek(&mut self, offset: u64, tail: u64) -> io::Result<bool> {
        let keep = offset.min(TAIL_BYTES as u64) as usize;
        self.base = offset - keep as u64;
        self.handle.seek(SeekFrom::Start(self.base))?;
        self.buffer.resize(keep.max(self.buffer.len()), 0);
        self.input.read_exact(&mut self.buffer[..keep])?;
        (self.start, self.end, self.dry, self.begun) = (keep, keep, false, true);
        Ok(self.tail() == tail)
    }

    fn tail(&self) -> u64 {
        fnv(&self.buffer[self.start.saturating_sub(TAIL_BYTES)..self.start])
    }

    fn misfit(&self) -> Option<&Bad> {
        match &self.decoder {
            Some(Decoder::Csv(d)) => d.misfit.as_ref(),
            _ => None,
        }
    }

    pub fn skipping(&self) -> bool {
        match &self.decoder {
            Some(Decoder::Csv(d)) => d.skipping,
            Some(Decoder::Ndjson(d)) => d.skipping,
            None => false,
        }
    }

    pub fn place(&self, seq: u64, follow: bool) -> Anchor {
        let file = self.name.clone();
        if self.packing != Packing::Plain {
            return Anchor { file, seq: self.first_seq, size: Some(self.size), ..Anchor::default() };
        }
        let line = match &self.decoder {
            Some(Decoder::Csv(d)) => d.line,
            Some(Decoder::Ndjson(d)) => d.line,
            None => self.line,
        };
        let inode = follow.then(|| self.handle.metadata().ok()).flatten().map(|m| m.ino());
        // Before the header is read there is no place but the start.
        let offset = if self.decoder.is_some() { self.base + self.start as u64 } else { 0 };
        let text = TextAnchor { offset, line, tail: self.tail(), misfit: self.misfit().is_some() };
        Anchor { file, seq, text: Some(text), inode, ..Anchor::default() }
    }

    /// Decodes until the batch is full or there is no more. `ends`: the file's end is the end.
    pub fn read(
        &mut self,
        rows: &mut Rows,
        records_max: usize,
        ends: bool,
        options: &FileOptions,
    ) -> Result<Read, ConnectorError> {
        let mut budget = PAUSE_BYTES;
        self.dry = false;
        loop {
            let last = self.dry && ends;
            match self.begin(last, options)? {
                Begun::Yes => {
                    let decoder = self.decoder.as_mut().expect("begun");
                    let got = decoder.decode(&self.buffer[self.start..self.end], last, rows, records_max);
                    self.start += got.consumed;
                    if !got.starved {
                        return Ok(Read::Full);
                    }
                }
                Begun::Starved => {}
                Begun::Never(bad) => {
                    let provenance = format!("{}:{}", self.name, self.line);
                    rows.reject(bad, provenance, &self.buffer[self.start..self.end]);
                    self.start = self.end;
                    return Ok(Read::End);
                }
            }
            if last {
                return Ok(Read::End);
            }
            if self.dry {
                return Ok(Read::Dry);
            }
            if budget == 0 {
                return Ok(Read::Pause);
            }
            match self.fill() {
                Ok(count) => budget = budget.saturating_sub(count),
                Err(e) => {
                    let Some(reason) = damage(self.packing, &e) else {
                        return Err(ConnectorError::new(format!("`{}` cannot be read on: {e}", self.name)));
                    };
                    self.give_up(rows, reason, &e);
                    return Ok(Read::End);
                }
            }
        }
    }

    /// The rest of the file is lost: decodes the whole lines there are, and makes one fault of what is left.
    fn give_up(&mut self, rows: &mut Rows, reason: &'static str, error: &io::Error) {
        let rest = &self.buffer[self.start..self.end];
        let whole = memchr::memrchr(b'\n', rest).map_or(0, |i| i + 1);
        let mut provenance = self.name.clone();
        let mut done = 0;
        if let Some(decoder) = &mut self.decoder {
            done = decoder.decode(&rest[..whole], true, rows, usize::MAX).consumed;
            provenance = format!("{provenance}:{}", decoder.line());
        }
        let detail = format!("the file cannot be read on: {error}");
        rows.reject(Bad::new(reason, detail), provenance, &rest[done..]);
        self.start = self.end;
    }

    /// Reads a block more. What was decoded is dropped, but for the tail an anchor needs.
    fn fill(&mut self) -> io::Result<usize> {
        if let Some(e) = self.failed.take() {
            return Err(e);
        }
        let drop = self.start - self.start.min(TAIL_BYTES);
        self.buffer.copy_within(drop..self.end, 0);
        self.base += drop as u64;
        (self.start, self.end) = (self.start - drop, self.end - drop);
        let room = self.end + BLOCK_BYTES;
        if self.buffer.len() < room {
            self.buffer.resize(room, 0);
        }
        let before = self.end;
        while self.end < room {
            match self.input.read(&mut self.buffer[self.end..room]) {
                Ok(0) => {
                    self.dry = true;
                    break;
                }
                Ok(count) => self.end += count,
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                // What came before the error is decoded first.
                Err(e) if self.end > before => {
                    self.failed = Some(e);
                    break;
                }
                Err(e) => return Err(e),
            }
        }
        Ok(self.end - before)
    }

    /// Passes over a byte order mark and reads the header, once.
    fn begin(&mut self, last: bool, options: &FileOptions) -> Result<Begun, ConnectorError> {
        if !self.begun {
            let head = &self.buffer[self.start..self.end];
            if head.len() < 3 && !last {
                return Ok(Begun::Starved);
            }
            self.start += if head.starts_with(b"\xef\xbb\xbf") { 3 } else { 0 };
            self.begun = true;
        }
        if self.decoder.is_some() {
            return Ok(Begun::Yes);
        }
        let mut rest = &self.buffer[self.start..self.end];
        while let [b'\n', tail @ ..] | [b'\r', b'\n', tail @ ..] = rest {
            self.start += rest.len() - tail.len();
            self.line += 1;
            rest = tail;
        }
        if rest.is_empty() {
            return Ok(Begun::Starved);
        }
        let (delimiter, max) = (options.delimiter_of(&self.name), options.spec.record_bytes_max);
        let (mut fields, mut scratch) = (Vec::new(), Vec::new());
        let never = |what: &str| {
            let what = format!("it has no header that can be read: {what}");
            if self.must_fit {
                return Err(ConnectorError::new(format!("`{}`: {what}", self.name)));
            }
            Ok(Begun::Never(Bad::new("unreadable_file", what)))
        };
        let (next, lines) = match split(rest, delimiter, last, &mut fields, &mut scratch) {
            Split::More if rest.len() > max => return never(&format!("it is longer than {max} bytes")),
            Split::Record { end, .. } if end > max => return never(&format!("it is longer than {max} bytes")),
            Split::More => return Ok(Begun::Starved),
            Split::Broken(what) => return never(what),
            Split::Record { next, lines, .. } => (next, lines),
        };
        let names: Vec<String> =
            fields.iter().map(|f| String::from_utf8_lossy(f.text(rest, &scratch)).trim().to_owned()).collect();
        let columns = &options.spec.columns;
        let (layout, misfit) = match layout(&names, &options.spec) {
            Ok(layout) => (layout, None),
            Err(misfit) if self.must_fit => {
                return Err(ConnectorError::new(format!("`{}`: {}", self.name, misfit.detail)));
            }
            Err(misfit) if !columns.iter().any(|c| names.contains(&c.name)) => return never(&misfit.detail),
            Err(misfit) => (vec![None; names.len()], Some(misfit)),
        };
        let mut decoder = CsvDecoder::new(&self.name, delimiter, options.null.as_deref(), &layout, &options.spec);
        decoder.line = self.line + lines;
        decoder.misfit = misfit;
        self.decoder = Some(Decoder::Csv(decoder));
        self.start += next;
        Ok(Begun::Yes)
    }
}

impl FileOptions {
    fn delimiter_of(&self, name: &str) -> u8 {
        self.delimiter.unwrap_or(if is_tsv(name) { b'\t' } else { b',' })
    }
}

/// For each field of the file the declared column it holds.
fn layout(header: &[String], spec: &RowSpec) -> Result<Vec<Option<usize>>, Bad> {
    for column in &spec.columns {
        match header.iter().filter(|h| **h == column.name).count() {
            1 => {}
            0 => {
                let near = nearest(&column.name, header.iter().map(String::as_str));
                return Err(Bad::new("missing_column", format!("the header has no column `{}`{near}", column.name)));
            }
            _ => {
                let twice = format!("the header has the column `{}` more than once", column.name);
                return Err(Bad::new("duplicate_column", twice));
            }
        }
    }
    Ok(header.iter().map(|h| spec.columns.iter().position(|c| c.name == *h)).collect())
}

/// FNV-1a: the hash in an anchor is part of the store's contents and must not depend on a library's version.
fn fnv(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |h, b| (h ^ u64::from(*b)).wrapping_mul(0x100_0000_01b3))
}
