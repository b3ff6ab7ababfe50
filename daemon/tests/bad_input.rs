//! Bad input, whole: whatever stands in a file, the program runs to the end, every good row is applied, every bad record
//! is a fault with its source, number, place, reason and text, and rows in = rows applied + faults.

mod support;

use std::collections::BTreeMap;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray, TimestampSecondArray};
use serde_json::Value;
use support::{Daemon, bound_by_permissions, dump, get, run_command, run_to_end, text};

const HEADER: &str = "id,x,t,s,ok,d\n";

/// The sources' columns, and views of them. EXTRA is more of the source.
const PIPELINE: &str = r#"
name = "bad"

[epoch]
interval_ms = 5

[sources.input]
type = "file"
path = "data"
EXTRA
[sources.input.columns]
id = "int64"
x = "float64"
t = "timestamp"
s = "string"
ok = "bool"
d = "int64"

[steps.rows]
operator = "select"
input = "input"

[steps.squares]
operator = "select"
input = "rows"
columns = { id = "id", square = "id * id" }

[steps.totals]
operator = "aggregate"
input = "rows"
by = "ok"
[steps.totals.compute]
rows = "count"
ids = "sum(id)"
x = "sum(x)"
"#;

fn pipeline(dir: &Path, extra: &str) -> PathBuf {
    let file = dir.join("pipeline.toml");
    std::fs::write(&file, PIPELINE.replace("EXTRA", extra)).unwrap();
    file
}

/// A file, the ids of its good rows, and its faults: place behind the file's name, reason, start of the text.
struct Case {
    name: String,
    bytes: Vec<u8>,
    ids: Vec<i64>,
    faults: Vec<(String, &'static str, String)>,
}

/// Cases under construction.
#[derive(Default)]
struct Cases {
    all: Vec<Case>,
}

impl Cases {
    /// A file of lines. A line of two words, `REASON TEXT`, is a bad one; an empty reason is a good row.
    fn csv(&mut self, name: &str, lines: &[(&'static str, Vec<u8>)]) {
        let mut case = self.case(name);
        case.bytes = HEADER.as_bytes().to_vec();
        let mut number = 2;
        for (reason, line) in lines {
            case.line(reason, line, number);
            case.bytes.push(b'\n');
            number += 1;
        }
        self.all.push(case);
    }

    fn ndjson(&mut self, name: &str, lines: &[(&'static str, Vec<u8>)]) {
        let mut case = self.case(name);
        for (number, (reason, line)) in (1..).zip(lines) {
            case.line(reason, line, number);
            case.bytes.push(b'\n');
        }
        self.all.push(case);
    }

    /// A file of which the good ids and the one fault are given.
    fn file(&mut self, name: &str, bytes: Vec<u8>, ids: Vec<i64>, fault: Option<(&str, &'static str)>) {
        let faults = fault.into_iter().map(|(place, reason)| (place.to_owned(), reason, String::new())).collect();
        self.all.push(Case { bytes, ids, faults, ..self.case(name) });
    }

    /// An empty case; names are numbered, so that files are read in the order of this list.
    fn case(&self, name: &str) -> Case {
        let name = format!("{:02}-{name}", self.all.len());
        Case { name, bytes: Vec::new(), ids: Vec::new(), faults: Vec::new() }
    }
}

impl Case {
    fn line(&mut self, reason: &'static str, line: &[u8], number: usize) {
        self.bytes.extend_from_slice(line);
        if reason.is_empty() {
            let text = String::from_utf8_lossy(line);
            let digits = text.trim_start_matches(|c: char| c != '-' && !c.is_ascii_digit());
            let end = digits.find(|c: char| c != '-' && !c.is_ascii_digit()).unwrap_or(digits.len());
            self.ids.push(digits[..end].parse().unwrap());
        } else {
            let start = String::from_utf8_lossy(&line[..line.len().min(60)]).into_owned();
            self.faults.push((format!(":{number}"), reason, start));
        }
    }
}

fn good(id: i64) -> Vec<u8> {
    format!("{id},1.5,2020-01-01T00:00:00Z,s{id},true,7").into_bytes()
}

fn json(id: i64) -> Vec<u8> {
    format!("{{\"id\":{id},\"x\":1.5,\"t\":\"2020-01-01T00:00:00Z\",\"s\":\"s\",\"ok\":true,\"d\":7}}").into_bytes()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    out.write_all(bytes).unwrap();
    out.finish().unwrap()
}

fn batch(ids: std::ops::Range<i64>) -> RecordBatch {
    let count = (ids.end - ids.start) as usize;
    RecordBatch::try_from_iter([
        ("id", Arc::new(Int64Array::from_iter_values(ids)) as ArrayRef),
        ("x", Arc::new(Float64Array::from(vec![1.5; count]))),
        ("t", Arc::new(TimestampSecondArray::from(vec![1_577_836_800; count]))),
        ("s", Arc::new(StringArray::from(vec!["s"; count]))),
        ("ok", Arc::new(StringArray::from(vec!["true"; count]))),
        ("d", Arc::new(Int64Array::from(vec![7; count]))),
    ])
    .unwrap()
}

fn parquet(batch: &RecordBatch) -> Vec<u8> {
    let mut writer = parquet::arrow::ArrowWriter::try_new(Vec::new(), batch.schema(), None).unwrap();
    writer.write(batch).unwrap();
    writer.into_inner().unwrap()
}

fn arrow_file(batches: &[RecordBatch], stream: bool) -> Vec<u8> {
    use arrow::ipc::writer::{FileWriter, StreamWriter};
    if stream {
        let mut writer = StreamWriter::try_new(Vec::new(), &batches[0].schema()).unwrap();
        batches.iter().for_each(|b| writer.write(b).unwrap());
        return writer.into_inner().unwrap();
    }
    let mut writer = FileWriter::try_new(Vec::new(), &batches[0].schema()).unwrap();
    batches.iter().for_each(|b| writer.write(b).unwrap());
    writer.into_inner().unwrap()
}

/// Many rows as a text that packs badly, and their ids.
fn many(from: i64, line: impl Fn(i64, u64) -> String) -> (Vec<u8>, Vec<i64>) {
    let mut rng = support::Seeded::new(from as u64);
    let text: String = (from..from + 12_000).map(|id| line(id, rng.next()) + "\n").collect();
    (text.into_bytes(), (from..from + 12_000).collect())
}

fn cases() -> Vec<Case> {
    let b = |text: &str| text.as_bytes().to_vec();
    let mut all = Cases::default();
    all.csv(
        "quotes.csv",
        &[
            ("", good(1)),
            ("broken_quotes", b("2,1.5,2020-01-01,\"a\"b,true,7")),
            ("", good(3)),
            ("broken_quotes", b("4,1.5,2020-01-01,\"never closed,true,7")),
            ("", good(5)),
            ("", b("6,1.5,2020-01-01,\"a \"\"quoted\"\", field\",true,7")),
            ("broken_quotes", b("\"7,1.5,2020-01-01,s,true,7")),
        ],
    );
    all.csv(
        "ragged.csv",
        &[
            ("ragged_row", b("11,1.5")),
            ("", good(12)),
            ("ragged_row", b("13,1.5,2020-01-01,s,true,7,8")),
            ("ragged_row", b(",,,,,,,,")),
            ("ragged_row", b("x")),
            ("", b("14,,,,,")),
        ],
    );
    all.csv(
        "types.csv",
        &[
            ("bad_value", b("one,1.5,2020-01-01,s,true,7")),
            ("bad_value", b("21,one,2020-01-01,s,true,7")),
            ("bad_value", b("21,1.5,yesterday,s,true,7")),
            ("bad_value", b("21,1.5,2020-01-01,s,maybe,7")),
            ("bad_value", b("21,1.5,2020-01-01,s,true,7.5")),
            ("bad_value", b("21.0,1.5,2020-01-01,s,true,7")),
            ("bad_value", b("NaN,1.5,2020-01-01,s,true,7")),
            ("bad_value", b("inf,1.5,2020-01-01,s,true,7")),
            ("bad_value", b("0x15,1.5,2020-01-01,s,true,7")),
            ("", good(22)),
        ],
    );
    all.csv(
        "range.csv",
        &[
            ("out_of_range", b("9223372036854775808,1.5,2020-01-01,s,true,7")),
            ("out_of_range", b("-9223372036854775809,1.5,2020-01-01,s,true,7")),
            ("out_of_range", b("31,1e400,2020-01-01,s,true,7")),
            ("out_of_range", b("31,-1e400,2020-01-01,s,true,7")),
            ("out_of_range", b("31,1.5,2023-02-29,s,true,7")),
            ("out_of_range", b("31,1.5,2020-13-01,s,true,7")),
            ("out_of_range", b("31,1.5,2020-01-01T25:00:00Z,s,true,7")),
            ("out_of_range", b("31,1.5,0000-01-01T00:00:00+23:00,s,true,7")),
            ("bad_value", b("31,1.5,99999-01-01,s,true,7")),
            ("out_of_range", b("31,1.5,2020-01-01,s,true,100000000000000000000000000000000000000")),
            ("", b("9223372036854775807,1.5,9999-12-31T23:59:59.999999Z,s,true,7")),
            ("", b("-9223372036854775808,1e-400,0000-01-01,s,true,-1")),
            ("", b("32,NaN,2020-01-01,s,true,7")),
            ("", b("33,inf,2020-01-01,s,true,7")),
            ("", b("34,-Infinity,2020-01-01,s,true,7")),
        ],
    );
    let bytes = |before: &str, middle: &[u8], after: &str| [before.as_bytes(), middle, after.as_bytes()].concat();
    all.csv(
        "bytes.csv",
        &[
            ("invalid_utf8", bytes("41,1.5,2020-01-01,", b"\xff\xfe", ",true,7")),
            ("invalid_utf8", bytes("41,1.5,2020-01-01,", b"\xed\xa0\x80", ",true,7")),
            ("nul_byte", bytes("41,1.5,2020-01-01,", b"a\0b", ",true,7")),
            ("bad_value", bytes("4", b"\0", ",1.5,2020-01-01,s,true,7")),
            ("invalid_utf8", bytes("4", b"\xff", ",1.5,2020-01-01,s,true,7")),
            ("", b("42,1.5,2020-01-01,\u{1f30a} \u{feff},true,7")),
        ],
    );
    let text = [
        b"\xef\xbb\xbf".as_slice(),
        HEADER.trim_end().as_bytes(),
        b"\r\n\r\n",
        &good(51),
        b"\r\n",
        &good(52),
        b"\n\n\n",
    ];
    let text = [text.concat().as_slice(), &good(53), b"\r\n", &good(54)].concat();
    all.file("ends.csv", text, vec![51, 52, 53, 54], None);
    all.file("empty.csv", Vec::new(), Vec::new(), None);
    all.file("head.csv", b(HEADER.trim_end()), Vec::new(), None);
    all.file("blank.csv", b("\n\r\n\n"), Vec::new(), None);
    let extra = b("more,d,ok,s,t,x,id,\n,7,true,s,2020-01-01,1.5,61,\n");
    all.file("extra.csv", extra, vec![61], None);
    let mut missing = all.case("missing.csv");
    missing.bytes = b("id,x,t,s,ok\n71,1.5,2020-01-01,s,true\n72,\"1.5\",2020-01-01,\"a\nb\",true\n");
    missing.faults = vec![
        (":2".into(), "missing_column", "71,1.5,2020-01-01".into()),
        (":3".into(), "missing_column", "72,\"1.5\",2020-01-01,\"a\nb\",true".into()),
    ];
    all.all.push(missing);
    let huge = "x".repeat(30 << 20);
    all.csv(
        "huge.csv",
        &[
            ("", good(81)),
            ("record_too_large", b(&format!("82,1.5,2020-01-01,{huge},true,7"))),
            ("", good(83)),
            ("record_too_large", b(&huge)),
            ("record_too_large", b(&format!("84,1.5,2020-01-01,\"{huge}\",true,7"))),
            ("", good(85)),
        ],
    );
    all.file("image.csv", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0".to_vec(), Vec::new(), Some((":1", "unreadable_file")));
    all.file("table.csv", parquet(&batch(0..9)), Vec::new(), Some((":1", "unreadable_file")));
    all.file("plain.csv.gz", [HEADER.as_bytes(), &good(91)].concat(), Vec::new(), Some(("", "unreadable_file")));
    all.file("packed.csv", gzip(&[HEADER.as_bytes(), &good(92)].concat()), vec![92], None);
    all.file("text.parquet", [HEADER.as_bytes(), &good(93)].concat(), Vec::new(), Some(("", "unreadable_file")));
    all.file("text.arrow", [HEADER.as_bytes(), &good(93)].concat(), Vec::new(), Some(("", "unreadable_file")));
    let whole = parquet(&batch(1_000..1_500));
    all.file("cut.parquet", whole[..whole.len() - 100].to_vec(), Vec::new(), Some(("", "unreadable_file")));
    all.file("whole.parquet", whole, (1_000..1_500).collect(), None);
    let batches = [batch(2_000..2_100), batch(2_100..2_200), batch(2_200..2_300)];
    let stream = arrow_file(&batches, true);
    all.file("cut.arrow", stream[..stream.len() - 500].to_vec(), (2_000..2_200).collect(), Some(("", "corrupt_file")));
    let file = arrow_file(&batches, false);
    all.file("cut-file.arrow", file[..file.len() - 500].to_vec(), Vec::new(), Some(("", "unreadable_file")));
    // Where the body's length stands, one that no machine could make room for.
    let mut lying = arrow_file(&[batch(2_300..2_400)], true);
    let at = lying.windows(8).rposition(|w| u64::from_le_bytes(w.try_into().unwrap()) == 100).unwrap();
    lying[at..at + 8].copy_from_slice(&(1_i64 << 45).to_le_bytes());
    all.file("lying.arrow", lying, Vec::new(), Some(("", "corrupt_file")));
    let deep = |open: &str, close: &str, n: usize| {
        let mut line = json(101);
        line.pop();
        line.extend_from_slice(format!(",\"zz\":{}1{}}}", open.repeat(n), close.repeat(n)).as_bytes());
        line
    };
    all.ndjson(
        "deep.ndjson",
        &[
            ("", json(101)),
            ("too_deep", deep("[", "]", 100_000)),
            ("too_deep", deep("{\"a\":", "}", 100_000)),
            ("too_deep", b(&format!("{{\"zz\":{}", "[".repeat(100_000)))),
            ("bad_json", b(&"[".repeat(100_000))),
            ("bad_value", b(&format!("{{\"id\":{}", "[".repeat(100_000)))),
            ("", json(102)),
        ],
    );
    all.ndjson(
        "keys.ndjson",
        &[
            ("duplicate_key", b("{\"id\":111,\"x\":1,\"id\":112}")),
            ("duplicate_key", b("{\"id\":111,\"i\\u0064\":112}")),
            ("", b("{\"id\":113,\"zz\":1,\"zz\":2}")),
            ("", b("{\"id\":114}\r")),
        ],
    );
    all.ndjson(
        "json.ndjson",
        &[
            ("bad_json", b("[{\"id\":121}]")),
            ("bad_json", b("121")),
            ("bad_json", b("{\"id\":121,}")),
            ("bad_json", b("{\"id\":121} {\"id\":122}")),
            ("bad_json", b("{\"id\":NaN}")),
            ("bad_json", b("{'id':121}")),
            ("bad_json", b("{\"id\":121,\"s\":\"\\ud800\"}")),
            ("bad_json", bytes("{\"id\":121,\"s\":\"", b"\0", "\"}")),
            ("invalid_utf8", bytes("{\"id\":121,\"s\":\"", b"\xff", "\"}")),
            ("bad_json", bytes("", b"\xef\xbb\xbf", "{\"id\":121}")),
            ("out_of_range", b("{\"id\":9223372036854775808}")),
            ("out_of_range", b("{\"id\":121,\"x\":1e400}")),
            ("bad_value", b("{\"id\":121.5}")),
            ("bad_value", b("{\"id\":\"121\"}")),
            ("bad_value", b("{\"id\":121,\"ok\":1}")),
            ("bad_value", b("{\"id\":121,\"t\":1577836800}")),
            ("", b("{\"id\":122.0,\"x\":\"NaN\",\"s\":\"\\u0000\",\"d\":5}")),
        ],
    );
    let mut last = json(131);
    last.extend_from_slice(b"\n\n  \n");
    last.extend_from_slice(&json(132));
    all.file("last.ndjson", last, vec![131, 132], None);
    all.all
}

/// The rows of a view.
fn rows(data: &Path, view: &str) -> Vec<Value> {
    dump(data, view).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Every dump that could differ between two runs.
fn dumps(data: &Path) -> BTreeMap<&'static str, String> {
    ["rows", "squares", "totals", "faults"].into_iter().map(|view| (view, dump(data, view))).collect()
}

/// How many records the finished store says were read of the source.
fn records(file: &Path, data: &Path) -> u64 {
    let daemon = Daemon::start(file, data, 1, &[]);
    daemon.ready();
    let (status, body) = get(&format!("{}/v1/sources/input", daemon.url)).unwrap();
    assert_eq!(status, 200, "{body}");
    serde_json::from_str::<Value>(&body).unwrap()["records"].as_u64().unwrap()
}

#[test]
fn every_bad_record_of_every_kind_of_file_is_a_fault_and_every_good_one_a_row() {
    let dir = tempfile::tempdir().unwrap();
    let file = pipeline(dir.path(), "");
    let folder = dir.path().join("data");
    std::fs::create_dir(&folder).unwrap();
    let cases = cases();
    for case in &cases {
        std::fs::write(folder.join(&case.name), &case.bytes).unwrap();
    }
    // Not data, and not looked at.
    std::fs::write(folder.join("README.md"), "not data").unwrap();
    std::fs::write(folder.join(".hidden.csv"), "not,data").unwrap();
    let stores = [1, 2].map(|workers| {
        let data = dir.path().join(format!("store-{workers}"));
        run_to_end(&file, &data, workers);
        data
    });
    let (data, expected) = (&stores[0], dumps(&stores[0]));
    support::assert_same(&dumps(&stores[1]), &expected, "two workers");

    let ids: Vec<i64> = rows(data, "rows").iter().map(|row| row["id"].as_i64().unwrap()).collect();
    let wanted: Vec<i64> = cases.iter().flat_map(|c| c.ids.clone()).collect();
    assert_eq!(ids, wanted, "the good rows, in the order of the files");
    let total: u64 = rows(data, "totals").iter().map(|row| row["rows"].as_u64().unwrap()).sum();
    assert_eq!(total, ids.len() as u64, "a view over them has them all");

    let faults = rows(data, "faults");
    let (of_input, of_steps): (Vec<&Value>, Vec<&Value>) = faults.iter().partition(|f| f["at"] == "input");
    let wanted: Vec<_> = cases.iter().flat_map(|c| c.faults.iter().map(move |fault| (&c.name, fault))).collect();
    for (fault, (name, (place, reason, start))) in of_input.iter().zip(&wanted) {
        assert_eq!(fault["provenance"], format!("data/{name}{place}"), "{reason}: {fault}");
        assert_eq!((fault["source"].as_str(), fault["reason"].as_str()), (Some("input"), Some(*reason)), "{fault}");
        let raw = fault["raw"].as_str().unwrap();
        assert!(raw.starts_with(start.as_str()) && raw.len() <= 3 * 4096, "{name}{place}: {start:?} in {fault}");
        assert!(!fault["detail"].as_str().unwrap().is_empty(), "{fault}");
    }
    assert_eq!(of_input.len(), wanted.len());
    assert_eq!(records(&file, data), (ids.len() + of_input.len()) as u64, "records in = rows + faults");
    let mut numbers: Vec<u64> = of_input.iter().map(|f| f["seq"].as_u64().unwrap()).collect();
    numbers.dedup();
    assert_eq!(numbers.len(), of_input.len(), "each has a number of its own");

    // A step that cannot compute a row says so, row by row, and has the others.
    let squares = rows(data, "squares");
    assert_eq!(squares.len() + of_steps.len(), ids.len());
    assert!(of_steps.iter().all(|f| f["at"] == "squares" && f["reason"] == "expression"), "{of_steps:?}");
    assert_eq!(of_steps.len(), 2, "the least and the greatest integer, squared");
}

#[test]
fn what_was_packed_is_read_up_to_where_it_is_cut() {
    let dir = tempfile::tempdir().unwrap();
    let file = pipeline(dir.path(), "");
    let folder = dir.path().join("data");
    std::fs::create_dir(&folder).unwrap();
    let (csv, csv_ids) = many(0, |id, x| format!("{id},1.5,2020-01-01,{x},true,7"));
    let csv = [HEADER.as_bytes(), &csv].concat();
    let (ndjson, ndjson_ids) = many(20_000, |id, x| format!("{{\"id\":{id},\"s\":\"{x}\"}}"));
    let (packed, zst) = (gzip(&csv), zstd::encode_all(ndjson.as_slice(), 1).unwrap());
    let mut broken = gzip(&csv);
    // The checksum at its end: until then nobody can know.
    let checksum = broken.len() - 8;
    broken[checksum] ^= 1;
    std::fs::write(folder.join("0-cut.csv.gz"), &packed[..packed.len() / 2]).unwrap();
    std::fs::write(folder.join("1-cut.ndjson.zst"), &zst[..zst.len() / 2]).unwrap();
    std::fs::write(folder.join("2-broken.csv.gz"), broken).unwrap();
    std::fs::write(folder.join("3-good.csv"), [HEADER.as_bytes(), &good(-1)].concat()).unwrap();
    let stores = [1, 2].map(|workers| {
        let data = dir.path().join(format!("store-{workers}"));
        run_to_end(&file, &data, workers);
        data
    });
    support::assert_same(&dumps(&stores[1]), &dumps(&stores[0]), "two workers");
    let ids: Vec<i64> = rows(&stores[0], "rows").iter().map(|row| row["id"].as_i64().unwrap()).collect();
    let faults = rows(&stores[0], "faults");
    let reasons: Vec<&str> = faults.iter().map(|f| f["reason"].as_str().unwrap()).collect();
    assert_eq!(reasons, ["truncated_file", "truncated_file", "corrupt_file"], "{faults:?}");
    // Each file gives its rows up to the fault, whose number is the next.
    let mut seq = 0;
    let mut rest = ids.as_slice();
    for (fault, all) in faults.iter().zip([&csv_ids, &ndjson_ids, &csv_ids]) {
        let count = (fault["seq"].as_u64().unwrap() - seq) as usize;
        assert!(count > 500 && count <= all.len(), "{fault}");
        assert_eq!(rest[..count], all[..count], "{fault}");
        rest = &rest[count..];
        seq += count as u64 + 1;
    }
    assert_eq!(rest, [-1], "the file after them");
    assert_eq!(records(&file, &stores[0]), (ids.len() + faults.len()) as u64);
}

#[test]
fn a_field_of_tens_of_megabytes_is_a_row_where_the_source_allows_it() {
    let dir = tempfile::tempdir().unwrap();
    let file = pipeline(dir.path(), "record_bytes_max = 100000000");
    let folder = dir.path().join("data");
    std::fs::create_dir(&folder).unwrap();
    let huge = "\u{e9}".repeat(12 << 20);
    let csv = format!("{HEADER}1,1.5,2020-01-01,{huge},true,7\n2,1.5,2020-01-01,\"{huge}\"\"\",true,7\n");
    std::fs::write(folder.join("a.csv"), csv).unwrap();
    std::fs::write(folder.join("b.ndjson"), format!("{{\"id\":3,\"s\":\"{huge}\"}}\n{{\"id\":4}}")).unwrap();
    let data = dir.path().join("store");
    run_to_end(&file, &data, 2);
    let lengths: Vec<Option<usize>> =
        rows(&data, "rows").iter().map(|row| row["s"].as_str().map(|s| s.len())).collect();
    assert_eq!(lengths, [Some(huge.len()), Some(huge.len() + 1), Some(huge.len()), None]);
    assert_eq!(rows(&data, "faults").len(), 0);
    let verified = std::process::Command::new(support::THALWEG).args(["verify", "--data"]).arg(&data).output().unwrap();
    assert!(verified.status.success(), "{}", text(&verified));
}

#[test]
fn event_times_at_the_ends_of_the_calendar_make_rows_late_and_nothing_lost() {
    let dir = tempfile::tempdir().unwrap();
    let file = pipeline(dir.path(), "event_time = \"t\"\nout_of_orderness_secs = 3600.0");
    let folder = dir.path().join("data");
    std::fs::create_dir(&folder).unwrap();
    let line = |id: i64, t: &str| format!("{id},1.5,{t},s,true,7\n");
    let csv = [
        HEADER.to_owned(),
        line(1, "0000-01-01T00:00:00Z"),
        line(2, "2020-01-01T00:00:00Z"),
        line(3, "2019-12-31T23:00:00Z"),
        line(4, "2019-12-31T22:59:59.999999Z"),
        line(5, ""),
        line(6, "9999-12-31T23:59:59.999999Z"),
        line(7, "2020-01-01T00:00:00Z"),
        line(8, "+292277026596-12-04"),
        line(9, "9999-12-31T23:00:00Z"),
    ];
    std::fs::write(folder.join("a.csv"), csv.concat()).unwrap();
    let stores = [1, 2].map(|workers| {
        let data = dir.path().join(format!("store-{workers}"));
        run_to_end(&file, &data, workers);
        data
    });
    support::assert_same(&dumps(&stores[1]), &dumps(&stores[0]), "two workers");
    let ids: Vec<i64> = rows(&stores[0], "rows").iter().map(|row| row["id"].as_i64().unwrap()).collect();
    let faults: Vec<(u64, String)> = rows(&stores[0], "faults")
        .iter()
        .map(|f| (f["seq"].as_u64().unwrap(), f["reason"].as_str().unwrap().to_owned()))
        .collect();
    assert_eq!(ids, [1, 2, 3, 6, 9]);
    let expected = [(3, "late"), (4, "null_event_time"), (6, "late"), (7, "bad_value")];
    assert_eq!(faults, expected.map(|(seq, reason)| (seq, reason.to_owned())));
    assert_eq!(records(&file, &stores[0]), 9);
}

/// Runs a pipeline that must stop, and says with what.
#[track_caller]
fn stops(mut command: std::process::Command) -> String {
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    text(&output)
}

#[test]
fn the_only_file_of_a_pipeline_that_does_not_fit_is_told_before_anything_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("pipeline.toml");
    std::fs::write(&file, PIPELINE.replace("EXTRA", "format = \"csv\"")).unwrap();
    std::fs::write(dir.path().join("data"), "identity,x,t,s,ok,d\n1,1.5,2020-01-01,s,true,7\n").unwrap();
    let data = dir.path().join("store");
    let said = stops(run_command(&file, &data, 1));
    assert!(
        said.contains("source `input`: `data`: the header has no column `id`; the nearest there is `identity`"),
        "{said}"
    );
    // The file is mended, and the same store goes on.
    std::fs::write(dir.path().join("data"), [HEADER.as_bytes(), &good(1)].concat()).unwrap();
    run_to_end(&file, &data, 2);
    assert_eq!((rows(&data, "rows").len(), rows(&data, "faults").len()), (1, 0));
}

#[test]
fn a_file_that_may_not_be_read_stops_the_run_by_name_and_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let Some(way) = bound_by_permissions(dir.path()) else { return };
    let file = pipeline(dir.path(), "");
    let folder = dir.path().join("data");
    std::fs::create_dir(&folder).unwrap();
    for (n, name) in (1..).zip(["a.csv", "b.csv", "c.csv"]) {
        std::fs::write(folder.join(name), [HEADER.as_bytes(), &good(n), b"\nx\n"].concat()).unwrap();
    }
    let closed = folder.join("b.csv");
    std::fs::set_permissions(&closed, std::fs::Permissions::from_mode(0)).unwrap();
    let data = dir.path().join("store");
    let run = run_command(&file, &data, 1);
    let mut command = std::process::Command::new(way[0]);
    command.args(&way[1..]).arg(run.get_program()).args(run.get_args()).env("THALWEG_LOG", "warn");
    let said = stops(command);
    assert!(said.contains("source `input`: `data/b.csv` cannot be read: Permission denied"), "{said}");
    std::fs::set_permissions(&closed, std::fs::Permissions::from_mode(0o644)).unwrap();
    run_to_end(&file, &data, 2);
    let ids: Vec<i64> = rows(&data, "rows").iter().map(|row| row["id"].as_i64().unwrap()).collect();
    assert_eq!((ids, rows(&data, "faults").len()), (vec![1, 2, 3], 3));
}

#[test]
fn a_file_that_is_gone_when_reading_goes_on_stops_the_run_until_it_is_back() {
    let dir = tempfile::tempdir().unwrap();
    let file = pipeline(dir.path(), "");
    let folder = dir.path().join("data");
    std::fs::create_dir(&folder).unwrap();
    let (csv, _) = many(0, |id, x| format!("{id},1.5,2020-01-01,{x},true,7"));
    std::fs::write(folder.join("a.csv"), [HEADER.as_bytes(), &csv, b"x\n"].concat()).unwrap();
    std::fs::write(folder.join("b.csv"), [HEADER.as_bytes(), &good(-1)].concat()).unwrap();
    let whole = dir.path().join("whole");
    run_to_end(&file, &whole, 1);
    let small = PIPELINE.replace("EXTRA", "").replace("interval_ms = 5", "rows_max = 100");
    std::fs::write(&file, small).unwrap();
    let data = dir.path().join("store");
    let killed = run_command(&file, &data, 1).env("THALWEG_CRASH", "publish:5").output().unwrap();
    assert!(!killed.status.success());
    let aside = dir.path().join("aside");
    std::fs::rename(folder.join("a.csv"), &aside).unwrap();
    let said = stops(run_command(&file, &data, 2));
    assert!(said.contains("source `input`: `data/a.csv`, in which reading stopped, is gone"), "{said}");
    // A shorter one in its place is noticed, too.
    std::fs::write(folder.join("a.csv"), [HEADER.as_bytes(), &good(0)].concat()).unwrap();
    let said = stops(run_command(&file, &data, 2));
    assert!(said.contains("`data/a.csv` ends before record 1, and was read up to record"), "{said}");
    std::fs::rename(&aside, folder.join("a.csv")).unwrap();
    run_to_end(&file, &data, 2);
    support::assert_same(&dumps(&data), &dumps(&whole), "after it was gone");
}
