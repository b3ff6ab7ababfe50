//! The `http` connector: records that are pushed, journalled before the pusher is answered, and read from the journal.
//!
//! A payload is brought into one form before it is journalled ([`count_records`]), so that the number of its records
//! is known: a JSON array becomes lines. A record that is bad singly is journalled with the others and becomes a
//! fault when it is read; provenance is `push@N:M`, the M-th line or row of the push whose first record is number N.

use std::collections::VecDeque;
use std::io::Cursor;
use std::sync::Arc;
use std::time::Duration;

use engine::connector::{Connector, ConnectorError, ConnectorFactory, Next, SourceEnv, SourceRows};
use engine::pipeline::Section;
use engine::plan::SourceShape;
use engine::{ConnectorDef, PushFormat};
use types::Position;

use super::cells::{Bad, RowSpec, Rows};
use super::columnar::{self, ColumnarReader, count_ipc_rows};
use super::ndjson::NdjsonDecoder;
use super::{RECORD_BYTES_OPTION, TIMESTAMP_FORMAT_OPTION, TIMESTAMP_UNIT_OPTION, row_spec};

pub(crate) const DEF: ConnectorDef = ConnectorDef {
    name: "http",
    summary: "Takes records posted to `/v1/sources/NAME/records` as JSON, NDJSON or Arrow IPC; durable before the answer.",
    options: &[TIMESTAMP_FORMAT_OPTION, TIMESTAMP_UNIT_OPTION, RECORD_BYTES_OPTION],
    plan,
};

/// Records of a batch, about.
const BATCH_RECORDS: usize = 32_768;
/// Bytes taken from the journal at once.
const READ_BYTES: usize = 4 << 20;
/// How long the journal is waited for before the engine is asked whether to go on.
const PATIENCE: Duration = Duration::from_millis(50);

#[derive(Debug)]
pub(super) struct HttpOptions {
    pub(super) spec: Arc<RowSpec>,
}

fn plan(section: &mut Section<'_>, shape: &mut SourceShape) -> Option<Arc<dyn ConnectorFactory>> {
    Some(Arc::new(HttpOptions { spec: row_spec(section, shape)? }))
}

impl ConnectorFactory for HttpOptions {
    fn open(&self, position: &Position, env: &SourceEnv) -> Result<Box<dyn Connector>, ConnectorError> {
        Ok(Box::new(HttpConnector {
            rows: Rows::new(&env.source, self.spec.clone(), position.seq),
            env: env.clone(),
            next_seq: position.seq,
            fresh: true,
            entries: VecDeque::new(),
            batches: VecDeque::new(),
        }))
    }

    fn describe(&self) -> String {
        format!("http push, journalled{}", self.spec.describe())
    }

    fn is_push(&self) -> bool {
        true
    }

    fn prepare_push(&self, format: PushFormat, payload: Vec<u8>) -> Result<(Vec<u8>, u64), String> {
        if format == PushFormat::Arrow {
            let reader = ColumnarReader::ipc(Box::new(Cursor::new(payload.clone())), &self.spec)
                .map_err(|why| format!("no Arrow IPC stream: {why}"))?;
            if let Some(misfit) = reader.misfit() {
                return Err(misfit.detail.clone());
            }
        }
        count_records(format, payload)
    }
}

struct HttpConnector {
    env: SourceEnv,
    rows: Rows,
    /// The record to ask the journal for next.
    next_seq: u64,
    /// Nothing has been read yet: the first entry may begin before the position.
    fresh: bool,
    entries: VecDeque<Entry>,
    batches: VecDeque<SourceRows>,
}

/// A journalled push.
struct Entry {
    first_seq: u64,
    records: u64,
    format: String,
    payload: Vec<u8>,
}

impl Connector for HttpConnector {
    fn next(&mut self) -> Result<Next, ConnectorError> {
        loop {
            if let Some(rows) = self.batches.pop_front() {
                return Ok(Next::Rows(rows));
            }
            let full = self.rows.records() >= BATCH_RECORDS;
            // Arrow batches stand alone: what was gathered before them goes first.
            let arrow = self.entries.front().is_some_and(|e| e.format == PushFormat::Arrow.name());
            if self.rows.records() > 0 && (full || arrow || self.entries.is_empty()) {
                let (start, end) = (place(self.next_seq - self.rows.records() as u64), place(self.next_seq));
                return Ok(Next::Rows(self.rows.take(start, end)));
            }
            if let Some(entry) = self.entries.pop_front() {
                self.decode(&entry)?;
                continue;
            }
            let read = self.env.store.journal_read(&self.env.source, self.next_seq, READ_BYTES);
            let read = read.map_err(|e| {
                ConnectorError::new(format!("the journal of `{}` cannot be read: {e}", self.env.source))
            })?;
            self.entries = read
                .into_iter()
                .map(|j| Entry {
                    first_seq: j.first_seq,
                    records: j.entry.records,
                    format: j.entry.format,
                    payload: j.entry.payload,
                })
                .collect();
            let Some(first) = self.entries.front() else {
                self.env.store.journal_wait(&self.env.source, self.next_seq, PATIENCE);
                return Ok(Next::Waiting);
            };
            if first.first_seq > self.next_seq || (first.first_seq < self.next_seq && !self.fresh) {
                return Err(ConnectorError::new(format!(
                    "the journal of `{}` goes on with record {} where {} was expected",
                    self.env.source, first.first_seq, self.next_seq
                )));
            }
            if self.fresh {
                self.fresh = false;
                self.next_seq = first.first_seq;
                self.rows = Rows::new(&self.env.source, self.rows.spec.clone(), first.first_seq);
            }
        }
    }
}

impl HttpConnector {
    fn decode(&mut self, entry: &Entry) -> Result<(), ConnectorError> {
        let name = format!("push@{}", entry.first_seq);
        let expected = entry.first_seq + entry.records;
        if entry.format == PushFormat::Ndjson.name() {
            let got = NdjsonDecoder::new(&name).decode(&entry.payload, true, &mut self.rows, usize::MAX);
            debug_assert_eq!(got.consumed, entry.payload.len());
        } else if entry.format == PushFormat::Arrow.name() {
            self.decode_arrow(entry, &name)?;
        } else {
            return Err(ConnectorError::new(format!(
                "the journal of `{}` holds a payload of unknown format `{}`",
                self.env.source, entry.format
            )));
        }
        if self.rows.next_seq() != expected {
            return Err(ConnectorError::new(format!(
                "the journal of `{}` says that record {expected} follows a payload after which it is {}",
                self.env.source,
                self.rows.next_seq()
            )));
        }
        self.next_seq = expected;
        Ok(())
    }

    fn decode_arrow(&mut self, entry: &Entry, name: &str) -> Result<(), ConnectorError> {
        let spec = self.rows.spec.clone();
        let mut row = 0;
        let mut lost = None;
        match ColumnarReader::ipc(Box::new(Cursor::new(entry.payload.clone())), &spec) {
            Err(why) => lost = Some(why),
            Ok(mut reader) => {
                while let Some(batch) = reader.next(&spec) {
                    let converted = match batch {
                        Ok(converted) => converted,
                        Err(why) => {
                            lost = Some(why);
                            break;
                        }
                    };
                    let first = self.rows.next_seq();
                    let count = converted.batch.num_rows() as u64;
                    let rows =
                        columnar::gather(converted, &mut self.rows, name, row, place(first), place(first + count));
                    row += count;
                    if count > 0 {
                        self.batches.push_back(rows);
                    }
                }
            }
        }
        if let Some(why) = lost {
            for row in row..entry.records {
                self.rows.reject(Bad::new("unreadable_payload", why.clone()), format!("{name}:{}", row + 1), b"");
            }
        }
        Ok(())
    }
}

fn place(seq: u64) -> serde_json::Value {
    serde_json::json!({ "seq": seq })
}

/// Brings a pushed payload into the form in which it is journalled, and counts its records.
///
/// NDJSON stays as it is; a JSON array, or JSON objects over several lines, become one line each. An Arrow IPC stream
/// stays as it is and is read through once. The error says that the payload as a whole is nothing of the kind; records
/// that are bad singly are no error.
fn count_records(format: PushFormat, mut payload: Vec<u8>) -> Result<(Vec<u8>, u64), String> {
    if format == PushFormat::Arrow {
        let rows = count_ipc_rows(&payload).map_err(|e| format!("no Arrow IPC stream: {e}"))?;
        return Ok((payload, rows));
    }
    if payload.starts_with(b"\xef\xbb\xbf") {
        payload.drain(..3);
    }
    let text = payload.trim_ascii();
    match text.first() {
        None => return Ok((Vec::new(), 0)),
        Some(b'[') => return array_lines(text),
        Some(b'{') => {
            let first_line = text.split(|b| *b == b'\n').next().unwrap_or_default();
            if value_end(first_line, 0).is_err()
                && let Some(lines) = object_lines(text)
            {
                return Ok(lines);
            }
        }
        Some(_) => {}
    }
    let lines = || text.split(|b| *b == b'\n').map(|line| (line, line.trim_ascii()));
    if !lines().any(|(_, l)| l.starts_with(b"{")) {
        return Err("no records: expected a JSON array, or one JSON object a line".into());
    }
    let count = lines().filter(|(_, l)| !l.is_empty()).count() as u64;
    // A blank line is no record, but one that is too long to be looked at would be.
    if lines().any(|(line, l)| l.is_empty() && line.len() > BLANK_BYTES_MAX) {
        let shorter: Vec<&[u8]> = lines().map(|(line, l)| if l.is_empty() { l } else { line }).collect();
        payload = shorter.join(&b'\n');
    }
    Ok((payload, count))
}

/// Not above the least `record_bytes_max`.
const BLANK_BYTES_MAX: usize = 64;

/// The elements of a JSON array, each on a line of its own.
fn array_lines(text: &[u8]) -> Result<(Vec<u8>, u64), String> {
    let blank = |mut p: usize| {
        while text.get(p).is_some_and(u8::is_ascii_whitespace) {
            p += 1;
        }
        p
    };
    let (mut out, mut count) = (Vec::with_capacity(text.len()), 0);
    let mut p = blank(1);
    if text.get(p) == Some(&b']') && p + 1 == text.len() {
        return Ok((out, 0));
    }
    loop {
        let end = value_end(text, p)?;
        line(&mut out, &text[p..end]);
        count += 1;
        p = blank(end);
        match text.get(p) {
            Some(b',') => p = blank(p + 1),
            Some(b']') if p + 1 == text.len() => return Ok((out, count)),
            Some(b']') => return Err(format!("the JSON array ends at byte {p}, and something follows")),
            Some(_) => return Err(format!("expected `,` or `]` in the JSON array at byte {p}")),
            None => return Err("the JSON array has no end".into()),
        }
    }
}

/// JSON objects one after the other, whatever their line ends; `None` if it is anything else: then a broken object
/// costs its line, and not those after it whose brackets happen to close it.
fn object_lines(text: &[u8]) -> Option<(Vec<u8>, u64)> {
    let (mut out, mut count, mut p) = (Vec::with_capacity(text.len()), 0, 0);
    while p < text.len() {
        if text[p].is_ascii_whitespace() {
            p += 1;
            continue;
        }
        if text[p] != b'{' {
            return None;
        }
        let end = value_end(text, p).ok()?;
        serde_json::from_slice::<serde::de::IgnoredAny>(&text[p..end]).ok()?;
        line(&mut out, &text[p..end]);
        count += 1;
        p = end;
    }
    Some((out, count))
}

/// Appends a value as a line: outside strings a line end is a blank, and inside them it is not allowed.
fn line(out: &mut Vec<u8>, value: &[u8]) {
    out.extend(value.iter().map(|b| if matches!(b, b'\n' | b'\r') { b' ' } else { *b }));
    out.push(b'\n');
}

/// Where the value at `p` ends, by its brackets and strings alone.
fn value_end(text: &[u8], p: usize) -> Result<usize, String> {
    let mut open: Vec<u8> = Vec::new();
    let mut at = p;
    while let Some(b) = text.get(at) {
        match b {
            b'"' => {
                at += 1;
                loop {
                    match text.get(at) {
                        Some(b'"') => break,
                        Some(b'\\') => at += 2,
                        Some(b'\n' | b'\r') => return Err(format!("a JSON string has a bare line end at byte {at}")),
                        Some(_) => at += 1,
                        None => return Err("a JSON string has no end".into()),
                    }
                }
                if open.is_empty() {
                    return Ok(at + 1);
                }
            }
            b'{' => open.push(b'}'),
            b'[' => open.push(b']'),
            b'}' | b']' if open.is_empty() => {
                return if at > p { Ok(at) } else { Err(format!("expected a JSON value at byte {at}")) };
            }
            b'}' | b']' => {
                if open.pop() != Some(*b) {
                    return Err(format!("an unexpected `{}` in the JSON at byte {at}", char::from(*b)));
                }
                if open.is_empty() {
                    return Ok(at + 1);
                }
            }
            b',' if open.is_empty() => {
                return if at > p { Ok(at) } else { Err(format!("expected a JSON value at byte {at}")) };
            }
            b if b.is_ascii_whitespace() && open.is_empty() => return Ok(at),
            _ => {}
        }
        at += 1;
    }
    if open.is_empty() && at > p { Ok(at) } else { Err("the JSON has no end".into()) }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use arrow::array::{Int64Array, RecordBatch};
    use storage::{JournalEntry, Options, Store};
    use types::{Column, Type};

    use super::*;
    use types::time::TimeFormat;

    /// The records from a position on: their numbers and what they are.
    fn read(store: &Store, seq: u64) -> Vec<String> {
        let columns = vec![Column { name: "k".into(), ty: Type::Int64, nullable: true }];
        let options = HttpOptions { spec: Arc::new(RowSpec::new(columns, &[], None, TimeFormat::Auto, 64)) };
        let env = SourceEnv {
            source: "s".into(),
            base_dir: PathBuf::new(),
            store: store.clone(),
            metrics: engine::metrics::Metrics::new(),
        };
        let position = Position { anchor: serde_json::Value::Null, seq };
        let mut connector = options.open(&position, &env).unwrap();
        let mut out = Vec::new();
        while let Next::Rows(rows) = connector.next().unwrap() {
            let seqs = rows.seqs.unwrap_or_else(|| (rows.first_seq..rows.next_seq).collect());
            let keys = rows.rows.column(0).as_any().downcast_ref::<Int64Array>().unwrap();
            out.extend(seqs.iter().zip(keys.values()).map(|(seq, key)| (*seq, format!("{seq} {key}"))));
            out.extend(rows.faults.iter().map(|f| (f.seq, format!("{} {} {}", f.seq, f.reason, f.provenance))));
        }
        out.sort();
        out.into_iter().filter(|(s, _)| *s >= seq).map(|(_, text)| text).collect()
    }

    #[test]
    fn pushed_records_are_read_from_the_journal_from_any_of_them_on() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(Options::new(folder.path())).unwrap();
        let push = |format: PushFormat, payload: &[u8]| {
            let (payload, records) = count_records(format, payload.to_vec()).unwrap();
            store.journal_append("s", JournalEntry { format: format.name().into(), payload, records }, None).unwrap();
        };
        let keys: Int64Array = (10..13).collect();
        let batch = RecordBatch::try_from_iter([("k", Arc::new(keys) as _)]).unwrap();
        let mut arrow = arrow::ipc::writer::StreamWriter::try_new(Vec::new(), &batch.schema()).unwrap();
        arrow.write(&batch).unwrap();
        assert!(read(&store, 0).is_empty());
        push(PushFormat::Ndjson, b"{\"k\":1}\nrubbish\n{\"k\":3}\n");
        push(PushFormat::Arrow, &arrow.into_inner().unwrap());
        push(PushFormat::Ndjson, format!("{{\"k\":5}}\n{}\n{{\"k\":6}}", " ".repeat(100)).as_bytes());
        push(PushFormat::Ndjson, format!("[{{\"k\":4}}, {{\"k\":\"{}\"}}]", "x".repeat(100)).as_bytes());
        let all = read(&store, 0);
        let expected = [
            "0 1",
            "1 bad_json push@0:2",
            "2 3",
            "3 10",
            "4 11",
            "5 12",
            "6 5",
            "7 6",
            "8 4",
            "9 record_too_large push@8:2",
        ];
        assert_eq!(all, expected);
        for seq in 0..=all.len() {
            assert_eq!(read(&store, seq as u64), all[seq..], "from {seq}");
        }
    }

    #[track_caller]
    fn check(payload: &str, expected: Result<(&str, u64), &str>) {
        let got = count_records(PushFormat::Ndjson, payload.as_bytes().to_vec());
        match expected {
            Ok((text, count)) => {
                assert_eq!(got.map(|(p, n)| (String::from_utf8(p).unwrap(), n)), Ok((text.to_owned(), count)))
            }
            Err(part) => assert!(got.as_ref().is_err_and(|e| e.contains(part)), "{got:?}"),
        }
    }

    #[test]
    fn a_payload_is_brought_into_lines_and_counted() {
        check("{\"a\":1}\n\n{\"a\":2}", Ok(("{\"a\":1}\n\n{\"a\":2}", 2)));
        check("{\"a\":1}\nrubbish\n{\"a\":2}\n", Ok(("{\"a\":1}\nrubbish\n{\"a\":2}\n", 3)));
        check(" [ {\"a\":\"]\\\"\"},\n {\"b\":\n[1,2]} , 5 ] ", Ok(("{\"a\":\"]\\\"\"}\n{\"b\": [1,2]}\n5\n", 3)));
        check("{\n \"a\": 1\n}\n{\"a\":\n2}", Ok(("{  \"a\": 1 }\n{\"a\": 2}\n", 2)));
        check("[]", Ok(("", 0)));
        check("  \n", Ok(("", 0)));
        check("{\"a\":1\n{\"a\":2}\n}\n", Ok(("{\"a\":1\n{\"a\":2}\n}\n", 3)));
        let blank = " ".repeat(1 << 20);
        check(&format!("{{\"a\":1}}\n{blank}\n{{\"a\":2}}"), Ok(("{\"a\":1}\n\n{\"a\":2}", 2)));
        check("{\"a\":\n{\"a\":2}\n", Ok(("{\"a\":\n{\"a\":2}\n", 2)));
    }

    #[test]
    fn a_payload_that_is_nothing_of_the_kind_is_refused_whole() {
        check("hello", Err("no records"));
        check("[{\"a\":1}", Err("no end"));
        check("[{\"a\":1},]", Err("expected a JSON value"));
        check("[{\"a\":1}] x", Err("something follows"));
        check("[{\"a\":1} {\"a\":2}]", Err("expected `,`"));
        check("[{\"a\":\"x\ny\"}]", Err("bare line end"));
        check("[{]", Err("unexpected `]`"));
        assert!(count_records(PushFormat::Arrow, b"hello".to_vec()).unwrap_err().contains("no Arrow IPC stream"));
    }
}
