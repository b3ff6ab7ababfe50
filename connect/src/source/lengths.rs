//! Columnar bytes looked through before their readers are trusted with them: no length in them says more than there is.
//!
//! The readers of Arrow IPC and Parquet make room for as much as a length says before they read it. A wrong length is
//! then no error but an allocation that fails, which ends the process; a panic could be caught. So lengths are compared
//! with the bytes there are first. What is here reads only what it needs for that, and leaves every other mistake to
//! the readers, who name them better.

use std::io::{self, Read, Seek, SeekFrom};

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::compute::kernels::length::length;
use arrow::compute::{cast, sum, take};
use arrow::datatypes::{DataType, Int64Type};
use arrow::ipc::{Block, RecordBatch, root_as_footer, root_as_message};

/// Rows a batch may have though no byte stands for them: columns of nulls take none.
const FREE_ROWS: u64 = 1 << 20;
/// The most that one buffer, or one column of text, may be unpacked to: what the types can address.
const UNPACKED_BYTES_MAX: i64 = i32::MAX as i64;
/// The deepest nesting in a Parquet footer.
const DEPTH_MAX: u32 = 64;

/// An Arrow IPC stream of which every message is handed on whole, or not at all.
pub(crate) struct Messages<R> {
    input: R,
    /// The message being handed on, and how much of it has been.
    message: Vec<u8>,
    at: usize,
    ended: bool,
}

impl<R: Read> Messages<R> {
    pub fn new(input: R) -> Messages<R> {
        Messages { input, message: Vec::new(), at: 0, ended: false }
    }

    /// Reads so many bytes to the end of the message; false if there are not so many.
    fn more(&mut self, count: u64) -> io::Result<bool> {
        Ok((&mut self.input).take(count).read_to_end(&mut self.message)? as u64 == count)
    }

    /// Reads the next message whole.
    fn fill(&mut self) -> io::Result<()> {
        let cut = || Err(wrong("a message is cut short"));
        self.message.clear();
        self.at = 0;
        if !self.more(4)? {
            self.ended = true;
            return if self.message.is_empty() { Ok(()) } else { cut() };
        }
        if self.message == [0xff; 4] && !self.more(4)? {
            return cut();
        }
        let head = self.message.len();
        let length = i32::from_le_bytes(self.message[head - 4..].try_into().expect("four bytes"));
        let Ok(length) = u64::try_from(length) else { return Err(wrong("a message of negative length")) };
        if length == 0 {
            self.ended = true;
            return Ok(());
        }
        if !self.more(length)? {
            return cut();
        }
        let body = {
            let message = root_as_message(&self.message[head..]).map_err(|e| wrong(&format!("no message: {e}")))?;
            u64::try_from(message.bodyLength()).map_err(|_| wrong("a body of negative length"))?
        };
        let body_start = self.message.len();
        if !self.more(body)? {
            return cut();
        }
        check_message(&self.message[head..body_start], &self.message[body_start..]).map_err(|e| wrong(&e))
    }
}

impl<R: Read> Read for Messages<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if self.at == self.message.len() && !self.ended {
            let filled = self.fill();
            if filled.is_err() {
                (self.ended, self.at) = (true, self.message.len());
            }
            filled?;
        }
        let count = (&self.message[self.at..]).read(buf)?;
        self.at += count;
        Ok(count)
    }
}

/// Not `UnexpectedEof`: the reader takes that for a stream's end, which it may be between two messages alone.
fn wrong(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

/// Looks through an Arrow IPC file.
pub(crate) fn check_ipc_file(bytes: &[u8]) -> Result<(), String> {
    let footer = bytes.split_last_chunk::<6>().and_then(|(rest, _)| rest.split_last_chunk::<4>());
    let (rest, length) = footer.ok_or("it has no footer")?;
    let length = usize::try_from(i32::from_le_bytes(*length)).map_err(|_| "a footer of negative length")?;
    let start = rest.len().checked_sub(length).ok_or("its footer is longer than the file")?;
    let footer = root_as_footer(&rest[start..]).map_err(|e| format!("no footer: {e}"))?;
    for blocks in [footer.dictionaries(), footer.recordBatches()].into_iter().flatten() {
        blocks.iter().try_for_each(|block| check_block(bytes, block))?;
    }
    Ok(())
}

fn check_block(bytes: &[u8], block: &Block) -> Result<(), String> {
    let number = |n: i64| usize::try_from(n).map_err(|_| "a block of negative length".to_owned());
    let (at, head, body) =
        (number(block.offset())?, number(block.metaDataLength().into())?, number(block.bodyLength())?);
    let part = |from: usize, length: usize| {
        let to = from.checked_add(length).filter(|to| *to <= bytes.len());
        Ok::<_, String>(&bytes[from.min(bytes.len())..to.ok_or("a block beyond the file's end")?])
    };
    let meta = part(at, head)?;
    let body = part(at.saturating_add(head), body)?;
    let meta = meta.strip_prefix(&[0xff; 4]).unwrap_or(meta);
    check_message(meta.get(4..).ok_or("a block without a message")?, body)
}

fn check_message(meta: &[u8], body: &[u8]) -> Result<(), String> {
    let message = root_as_message(meta).map_err(|e| format!("no message: {e}"))?;
    let dictionary = message.header_as_dictionary_batch().and_then(|d| d.data());
    match message.header_as_record_batch().or(dictionary) {
        Some(batch) => check_batch(&batch, body),
        None => Ok(()),
    }
}

fn check_batch(batch: &RecordBatch<'_>, body: &[u8]) -> Result<(), String> {
    let mut bytes = body.len() as u64;
    if batch.compression().is_some() {
        for buffer in batch.buffers().into_iter().flatten() {
            let (offset, length) = (buffer.offset(), buffer.length());
            let start = usize::try_from(offset).ok().filter(|_| length >= 8);
            let Some(size) = start.and_then(|at| body.get(at..)?.first_chunk::<8>()) else { continue };
            let unpacked = i64::from_le_bytes(*size);
            if unpacked > UNPACKED_BYTES_MAX {
                return Err(format!("a buffer of {length} bytes says it is {unpacked} bytes unpacked"));
            }
            bytes = bytes.saturating_add(u64::try_from(unpacked).unwrap_or(0));
        }
    }
    let rows = batch.nodes().into_iter().flatten().map(|n| n.length()).chain([batch.length()]);
    for rows in rows {
        if u64::try_from(rows).is_ok_and(|rows| rows > FREE_ROWS.saturating_add(bytes.saturating_mul(8))) {
            return Err(format!("a batch of {bytes} bytes says it has {rows} rows"));
        }
    }
    Ok(())
}

/// Refuses a column whose texts, written out, are more than a column can hold: a few bytes that many rows point to.
pub(crate) fn check_expansion(column: &ArrayRef) -> Result<(), String> {
    let lengths = |texts: &ArrayRef| {
        let lengths = length(texts).and_then(|l| cast(&l, &DataType::Int64));
        lengths.map_err(|e| e.to_string())
    };
    let is_text = |t: &DataType| {
        matches!(
            t,
            DataType::Utf8
                | DataType::LargeUtf8
                | DataType::Utf8View
                | DataType::Binary
                | DataType::LargeBinary
                | DataType::BinaryView
        )
    };
    let each = match column.data_type() {
        DataType::Utf8View | DataType::BinaryView => lengths(column)?,
        DataType::Dictionary(_, values) if is_text(values) => {
            let dictionary = column.as_any_dictionary();
            take(&lengths(dictionary.values())?, dictionary.keys(), None).map_err(|e| e.to_string())?
        }
        _ => return Ok(()),
    };
    match sum(each.as_primitive::<Int64Type>()) {
        Some(bytes) if bytes > UNPACKED_BYTES_MAX => Err(format!("a column is {bytes} bytes of text written out")),
        _ => Ok(()),
    }
}

/// Looks through the footer of a Parquet file.
pub(crate) fn check_parquet(file: &mut (impl Read + Seek)) -> Result<(), String> {
    let read = |e: io::Error| e.to_string();
    let size = file.seek(SeekFrom::End(0)).map_err(read)?;
    let mut tail = [0; 8];
    if size < 12 {
        return Ok(());
    }
    file.seek(SeekFrom::Start(size - 8)).and_then(|_| file.read_exact(&mut tail)).map_err(read)?;
    let length = u64::from(u32::from_le_bytes(tail[..4].try_into().expect("four bytes")));
    if &tail[4..] != b"PAR1" || length > size - 8 {
        return Ok(());
    }
    let mut footer = Vec::new();
    file.seek(SeekFrom::Start(size - 8 - length)).map_err(read)?;
    file.take(length).read_to_end(&mut footer).map_err(read)?;
    let mut thrift = Thrift { rest: &footer };
    thrift.fields(0).ok_or_else(|| "a list or a text in its footer is longer than the footer".into())
}

/// Thrift's compact protocol (<https://github.com/apache/thrift/blob/master/doc/specs/thrift-compact-protocol.md>),
/// passed over.
struct Thrift<'a> {
    rest: &'a [u8],
}

impl Thrift<'_> {
    fn byte(&mut self) -> Option<u8> {
        let (byte, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(*byte)
    }

    fn skip(&mut self, count: u64) -> Option<()> {
        self.rest = self.rest.get(usize::try_from(count).ok()?..)?;
        Some(())
    }

    fn number(&mut self) -> Option<u64> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Some(value);
            }
        }
        None
    }

    fn fields(&mut self, depth: u32) -> Option<()> {
        loop {
            let head = self.byte()?;
            if head == 0 {
                return Some(());
            }
            if head >> 4 == 0 {
                self.number()?;
            }
            // A field's truth stands in its head.
            if !matches!(head & 15, 1 | 2) {
                self.value(head & 15, depth)?;
            }
        }
    }

    fn value(&mut self, kind: u8, depth: u32) -> Option<()> {
        match kind {
            1..=3 => self.skip(1),
            4..=6 => self.number().map(drop),
            7 => self.skip(8),
            8 => {
                let length = self.number()?;
                self.skip(length)
            }
            9 | 10 => {
                let head = self.byte()?;
                let count = if head >> 4 == 15 { self.number()? } else { u64::from(head >> 4) };
                self.values(count, &[head & 15], depth)
            }
            11 => {
                let count = self.number()?;
                if count == 0 {
                    return Some(());
                }
                let kinds = self.byte()?;
                self.values(count, &[kinds >> 4, kinds & 15], depth)
            }
            12 if depth < DEPTH_MAX => self.fields(depth + 1),
            _ => None,
        }
    }

    /// Each value takes a byte at least.
    fn values(&mut self, count: u64, kinds: &[u8], depth: u32) -> Option<()> {
        if count > self.rest.len() as u64 || depth >= DEPTH_MAX {
            return None;
        }
        (0..count).try_for_each(|_| kinds.iter().try_for_each(|kind| self.value(*kind, depth + 1)))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{DictionaryArray, Int8Array, LargeStringArray, StringArray};

    use super::*;

    #[test]
    fn a_thrift_list_longer_than_its_bytes_is_refused() {
        let check = |bytes: &[u8]| Thrift { rest: bytes }.fields(0).is_some();
        // Field 1, a list of three i32; then the end.
        assert!(check(&[0x19, 0x35, 2, 4, 6, 0]));
        assert!(!check(&[0x19, 0xf5, 0xff, 0xff, 0xff, 0xff, 0x07, 2, 4, 0]));
        // Field 1, a text of 100 bytes.
        assert!(!check(&[0x18, 100, b'a', b'b', 0]));
        // Structs without end.
        assert!(!check(&[0x1c; 500]));
        assert!(!check(&[]));
    }

    #[test]
    fn few_bytes_that_many_rows_point_to_are_counted_by_row() {
        let texts: ArrayRef = Arc::new(LargeStringArray::from(vec!["x".repeat(1 << 20)]));
        let keys = |n: usize| Int8Array::from(vec![0; n]);
        let column = |n: usize| -> ArrayRef { Arc::new(DictionaryArray::new(keys(n), texts.clone())) };
        assert_eq!(check_expansion(&column(2_000)), Ok(()));
        assert!(check_expansion(&column(3_000)).unwrap_err().contains("written out"));
        assert_eq!(check_expansion(&(Arc::new(StringArray::from(vec!["a"])) as ArrayRef)), Ok(()));
    }

    #[test]
    fn a_message_is_handed_on_whole_or_not_at_all() {
        let batch =
            arrow::array::RecordBatch::try_from_iter([("k", Arc::new(Int8Array::from(vec![1, 2])) as _)]).unwrap();
        let mut writer = arrow::ipc::writer::StreamWriter::try_new(Vec::new(), &batch.schema()).unwrap();
        writer.write(&batch).unwrap();
        let bytes = writer.into_inner().unwrap();
        let mut all = Vec::new();
        Messages::new(bytes.as_slice()).read_to_end(&mut all).unwrap();
        assert_eq!(all, bytes);
        for cut in 0..bytes.len() {
            let mut part = Vec::new();
            let read = Messages::new(&bytes[..cut]).read_to_end(&mut part);
            assert!(bytes.starts_with(&part), "cut at {cut}");
            assert!(read.map_or_else(|e| e.kind() == io::ErrorKind::InvalidData, |n| n == cut), "cut at {cut}");
        }
    }
}
