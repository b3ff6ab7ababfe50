//! File sources from outside: bad input, splits, resuming, following, real data.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::RecordBatch;
use engine::connector::{Connector, ConnectorError, Next, SourceRows};
use types::time::{TimeFormat, Unit};
use types::{Column, Position, Type, Value};

use super::RowSpec;
use super::file::{FileConnector, FileOptions};

pub(super) fn options(path: &str, columns: &[(&str, Type)]) -> FileOptions {
    let columns = columns.iter().map(|(n, t)| Column { name: (*n).into(), ty: *t, nullable: true }).collect();
    FileOptions {
        path: path.into(),
        format: None,
        delimiter: None,
        header: true,
        null: None,
        follow: false,
        spec: Arc::new(RowSpec::new(columns, &[], None, TimeFormat::Auto, 1 << 20)),
    }
}

pub(super) const KV: [(&str, Type); 2] = [("k", Type::Int64), ("v", Type::String)];

fn open(options: &FileOptions, base: &Path, position: &Position) -> Result<FileConnector, ConnectorError> {
    FileConnector::open(options.clone(), "s", base, position)
}

/// Everything a bounded source delivers.
pub(super) fn batches(
    options: &FileOptions,
    base: &Path,
    position: &Position,
    batch_records: usize,
) -> Result<Vec<SourceRows>, ConnectorError> {
    let mut connector = open(options, base, position)?;
    connector.batch_records = batch_records;
    let mut out = Vec::new();
    loop {
        match connector.next()? {
            Next::End => return Ok(out),
            Next::Waiting => {}
            Next::Rows(rows) => {
                assert_eq!(
                    rows.rows.num_rows() + rows.faults.len(),
                    (rows.next_seq - rows.first_seq) as usize,
                    "counts reconcile"
                );
                if let Some(last) = out.last() {
                    let last: &SourceRows = last;
                    assert_eq!(last.next_seq, rows.first_seq, "batches follow each other");
                    // Or begin with another file.
                    let same = last.end == rows.start || last.end["file"] != rows.start["file"];
                    assert!(same, "{} {}", last.end, rows.start);
                }
                out.push(rows);
            }
        }
    }
}

/// What is seen of a record: its number and its cells, or the fault's reason and text.
pub(super) fn records(batches: &[SourceRows]) -> Vec<(u64, String)> {
    let mut out = Vec::new();
    for batch in batches {
        let seqs = batch.seqs.clone().unwrap_or_else(|| (batch.first_seq..batch.next_seq).collect());
        for (row, seq) in seqs.iter().enumerate() {
            let cells: Vec<Value> = batch.rows.columns().iter().map(|c| Value::at(c, row)).collect();
            let mut text = Vec::new();
            for cell in &cells {
                types::json::write_value(&mut text, cell);
                text.push(b' ');
            }
            out.push((*seq, String::from_utf8(text).unwrap().trim_end().to_owned()));
        }
        out.extend(batch.faults.iter().map(|f| (f.seq, format!("{}: {}", f.reason, f.raw))));
    }
    out.sort();
    out
}

fn all(options: &FileOptions, base: &Path) -> Vec<(u64, String)> {
    records(&batches(options, base, &Position::default(), 32_768).unwrap())
}

fn faults(options: &FileOptions, base: &Path) -> Vec<String> {
    let got = batches(options, base, &Position::default(), 32_768).unwrap();
    got.iter().flat_map(|b| &b.faults).map(|f| format!("{} {} {}", f.seq, f.reason, f.provenance)).collect()
}

fn error(options: &FileOptions, base: &Path) -> String {
    batches(options, base, &Position::default(), 32_768).unwrap_err().message
}

pub(super) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    out.write_all(bytes).unwrap();
    out.finish().unwrap()
}

pub(super) fn zst(bytes: &[u8]) -> Vec<u8> {
    zstd::encode_all(bytes, 1).unwrap()
}

pub(super) fn batch(from: i64, count: i64) -> RecordBatch {
    use arrow::array::{Int32Array, StringArray};
    let k = Int32Array::from_iter_values((from..from + count).map(|i| i as i32));
    let v = StringArray::from_iter((from..from + count).map(|i| (i % 5 != 4).then(|| format!("v{i}"))));
    RecordBatch::try_from_iter_with_nullable([
        ("extra", Arc::new(v.clone()) as _, true),
        ("v", Arc::new(v) as _, true),
        ("k", Arc::new(k) as _, false),
    ])
    .unwrap()
}

fn parquet_of(batches: &[RecordBatch]) -> Vec<u8> {
    let properties =
        parquet::file::properties::WriterProperties::builder().set_max_row_group_row_count(Some(7)).build();
    let mut writer = parquet::arrow::ArrowWriter::try_new(Vec::new(), batches[0].schema(), Some(properties)).unwrap();
    batches.iter().for_each(|b| writer.write(b).unwrap());
    writer.into_inner().unwrap()
}

fn ipc_file(batches: &[RecordBatch]) -> Vec<u8> {
    let mut writer = arrow::ipc::writer::FileWriter::try_new(Vec::new(), &batches[0].schema()).unwrap();
    batches.iter().for_each(|b| writer.write(b).unwrap());
    writer.into_inner().unwrap()
}

pub(super) fn ipc_stream(batches: &[RecordBatch]) -> Vec<u8> {
    let mut writer = arrow::ipc::writer::StreamWriter::try_new(Vec::new(), &batches[0].schema()).unwrap();
    batches.iter().for_each(|b| writer.write(b).unwrap());
    writer.into_inner().unwrap()
}

/// The same twenty rows in every format.
pub(super) fn in_every_format() -> Vec<(&'static str, Vec<u8>)> {
    let null = |i: i64| i % 5 == 4;
    let csv: String = std::iter::once("extra,v,k\r\n".to_owned())
        .chain((0..20).map(|i| {
            if null(i) {
                format!("x,,{i}\n")
            } else if i == 7 {
                "\"x\ny\",\"v7\",7\r\n".into()
            } else {
                format!("x,v{i},{i}\n")
            }
        }))
        .collect();
    let ndjson: String = (0..20)
        .map(|i| if null(i) { format!("{{\"k\":{i}}}\n") } else { format!("{{\"v\":\"v{i}\",\"z\":[1],\"k\":{i}}}\n") })
        .collect();
    let rows = [batch(0, 3), batch(3, 10), batch(13, 7)];
    vec![
        ("a.csv", csv.clone().into_bytes()),
        ("a.tsv", csv.replace(',', "\t").into_bytes()),
        ("bom.csv", format!("\u{feff}{}", csv.trim_end()).into_bytes()),
        ("a.ndjson", ndjson.into_bytes()),
        ("a.parquet", parquet_of(&rows)),
        ("file.arrow", ipc_file(&rows)),
        ("stream.arrow", ipc_stream(&rows)),
    ]
}

#[test]
fn every_format_in_every_packing_reads_alike_and_resumes_at_every_record() {
    let folder = tempfile::tempdir().unwrap();
    let expected: Vec<(u64, String)> =
        (0..20).map(|i| (i, if i % 5 == 4 { format!("{i} null") } else { format!("{i} \"v{i}\"") })).collect();
    for (name, bytes) in in_every_format() {
        for (extension, packed) in [("", bytes.clone()), (".gz", gzip(&bytes)), (".zst", zst(&bytes))] {
            let name = format!("{name}{extension}");
            fs::write(folder.path().join(&name), packed).unwrap();
            let options = options(&name, &KV);
            assert_eq!(all(&options, folder.path()), expected, "{name}");
            let pieces = batches(&options, folder.path(), &Position::default(), 3).unwrap();
            assert_eq!(records(&pieces), expected, "{name}");
            for piece in &pieces {
                for (anchor, seqs) in
                    [(&piece.start, piece.first_seq..piece.next_seq), (&piece.end, piece.next_seq..piece.next_seq + 1)]
                {
                    for seq in seqs {
                        let position = Position { anchor: anchor.clone(), seq };
                        let mut rest = records(&batches(&options, folder.path(), &position, 4).unwrap());
                        rest.retain(|(s, _)| *s >= seq);
                        assert_eq!(rest, expected[seq as usize..], "{name} from {anchor} at {seq}");
                    }
                }
            }
        }
    }
}

#[test]
fn rows_split_over_files_keep_their_numbers() {
    let folder = tempfile::tempdir().unwrap();
    let lines: Vec<String> =
        (0..100).map(|i| if i % 9 == 3 { format!("bad{i},x\n") } else { format!("{i},x\n") }).collect();
    let write = |name: &str, lines: &[String]| {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let text = format!("k,v\n{}", lines.concat());
        let bytes = if name.ends_with(".gz") { gzip(text.as_bytes()) } else { text.trim_end().as_bytes().to_vec() };
        fs::write(path, bytes).unwrap();
    };
    write("one.csv", &lines);
    write("two/a.csv", &lines[..40]);
    write("two/b.csv", &lines[40..]);
    write("many/0.csv", &[]);
    for (i, part) in lines.chunks(7).enumerate() {
        write(&format!("many/{i:02}.csv{}", if i % 2 == 0 { ".gz" } else { "" }), part);
    }
    fs::write(folder.path().join("many/README.md"), "not data").unwrap();
    fs::write(folder.path().join("many/empty.csv"), "").unwrap();
    let expected = all(&options("one.csv", &KV), folder.path());
    assert_eq!(expected.len(), 100);
    assert_eq!(all(&options("two", &KV), folder.path()), expected);
    assert_eq!(all(&options("two/*.csv", &KV), folder.path()), expected);
    let many = options("many", &KV);
    assert_eq!(all(&many, folder.path()), expected);
    for piece in batches(&many, folder.path(), &Position::default(), 10).unwrap() {
        let rest = batches(&many, folder.path(), &Position { anchor: piece.end, seq: piece.next_seq }, 10).unwrap();
        let mut rest = records(&rest);
        rest.retain(|(seq, _)| *seq >= piece.next_seq);
        assert_eq!(rest, expected[piece.next_seq as usize..]);
    }
}

#[test]
fn what_is_wrong_with_a_file_as_a_whole_is_said_and_what_can_be_read_is() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, bytes: &[u8]| fs::write(folder.path().join(name), bytes).unwrap();
    let base = folder.path();
    let text: String = std::iter::once("k,v\n".into())
        .chain((0..50_000).map(|i| format!("{i},value{}\n", i * 7919 % 10_007)))
        .collect();

    let packed = gzip(text.as_bytes());
    write("0.csv.gz", &packed[..packed.len() / 2]);
    let got = all(&options("0.csv.gz", &KV), base);
    assert!(got.len() > 1_000 && got.len() < 50_000);
    assert!(got.last().unwrap().1.starts_with("truncated_file: "), "{:?}", got.last());
    assert_eq!(got[got.len() - 2].0, got.len() as u64 - 2);

    let packed = zst(text.as_bytes());
    write("0.csv.zst", &packed[..packed.len() / 2]);
    let got = all(&options("0.csv.zst", &KV), base);
    assert!(got.last().unwrap().1.starts_with("truncated_file: "), "{:?}", got.last());

    let mut broken = gzip(text.as_bytes());
    let middle = broken.len() / 2;
    broken[middle..middle + 50].fill(0xff);
    write("1.csv.gz", &broken);
    assert!(all(&options("1.csv.gz", &KV), base).last().unwrap().1.starts_with("corrupt_file: "));

    let parquet = parquet_of(&[batch(0, 20)]);
    write("p1.parquet", &parquet[..parquet.len() - 30]);
    write("p2.parquet", b"");
    write("p3.parquet", &parquet);
    write("p4.parquet", b"PAR1 and nothing else PAR1");
    assert_eq!(
        faults(&options("p*.parquet", &KV), base),
        ["0 unreadable_file p1.parquet", "21 unreadable_file p4.parquet"]
    );
    assert_eq!(all(&options("p*.parquet", &KV), base).len(), 22);
    let stream = ipc_stream(&[batch(0, 20), batch(20, 20)]);
    write("a.arrow", &stream[..stream.len() - 300]);
    assert_eq!(faults(&options("a.arrow", &KV), base), ["20 corrupt_file a.arrow"]);
    write("fake.csv.gz", b"k,v\n1,2\n");
    assert_eq!(faults(&options("fake.csv.gz", &KV), base), ["0 unreadable_file fake.csv.gz"]);

    write("h.csv", b"key,v\n1,2\n");
    assert!(
        error(&options("h.csv", &KV), base).contains("no column `k`; the nearest there is `key`"),
        "{}",
        error(&options("h.csv", &KV), base)
    );
    write("hh.csv", b"k,v,k\n1,2,3\n");
    assert!(error(&options("hh.csv", &KV), base).contains("more than once"));
    assert!(error(&options("gone.csv", &KV), base).contains("no data file at `gone.csv`"));
    assert!(error(&options("gone/*.csv", &KV), base).contains("no data file"));
    assert!(
        error(&options("p3.parquet", &[("kk", Type::Int64)]), base)
            .contains("no column `kk`; the nearest there is `k`")
    );
    assert!(
        error(
            &options(
                "p3.parquet",
                &[("v", Type::Bool), ("k", Type::String), ("extra", Type::Timestamp), ("x", Type::Bool)]
            ),
            base
        )
        .contains("`x`")
    );
    assert_eq!(
        all(&options("p3.parquet", &[("v", Type::Int64)]), base)
            .iter()
            .filter(|(_, r)| r.starts_with("bad_value: "))
            .count(),
        16
    );
    write("empty.csv", b"");
    write("head.csv", b"k,v");
    write("blank.ndjson", b"\n\n  \n");
    for name in ["empty.csv", "head.csv", "blank.ndjson", "p2.parquet"] {
        assert_eq!(all(&options(name, &KV), base), [], "{name}");
    }
}

#[test]
fn a_file_that_does_not_fit_stops_no_other_and_none_of_its_records_is_lost() {
    let folder = tempfile::tempdir().unwrap();
    let base = folder.path();
    fs::create_dir(base.join("all")).unwrap();
    let write = |name: &str, bytes: &[u8]| fs::write(base.join("all").join(name), bytes).unwrap();
    let other = |names: [&str; 2]| {
        let columns: Vec<_> = batch(0, 3).columns()[..2].to_vec();
        RecordBatch::try_from_iter(names.into_iter().zip(columns)).unwrap()
    };
    write("a.csv", b"key,v\n1,\"two\nlines\"\n\n2,y\n");
    write("b.csv", b"k,v\n3,good\n");
    write("c.csv", b"k,v,k\n1,2,3\n");
    write("d.csv", b"\x89PNG\r\n\x1a\n\0\0\0\n");
    write("e.csv", b"\"k,v\n1,2\n");
    write("f.csv", format!("k,v,{}\n1,2,\n", "x".repeat(2 << 20)).as_bytes());
    write("g.csv", &parquet_of(&[batch(0, 20)]));
    write("h.parquet", &parquet_of(&[other(["key", "v"])]));
    write("i.arrow", &ipc_stream(&[other(["v", "kk"])]));
    write("j.parquet", b"k,v\n1,2\n");
    write("k.ndjson", b"{\"k\":4}\n");
    let options = options("all", &KV);
    let all = |batch_records| batches(&options, base, &Position::default(), batch_records).unwrap();
    let whole = records(&all(100));
    let short: Vec<String> = all(100)
        .iter()
        .flat_map(|b| &b.faults)
        .map(|f| format!("{} {} {} {}", f.seq, f.reason, f.provenance, f.raw.chars().take(20).collect::<String>()))
        .collect();
    let expected = [
        "0 missing_column all/a.csv:2 1,\"two\nlines\"",
        "1 missing_column all/a.csv:5 2,y",
        "3 duplicate_column all/c.csv:2 1,2,3",
        "4 unreadable_file all/d.csv:1 \u{fffd}PNG\r\n\u{1a}\n\0\0\0\n",
        "5 unreadable_file all/e.csv:1 \"k,v\n1,2\n",
        "6 unreadable_file all/f.csv:1 k,v,xxxxxxxxxxxxxxxx",
        "7 unreadable_file all/g.csv:1 PAR1",
        "8 missing_column all/h.parquet:1 key=v0, v=v0",
        "9 missing_column all/h.parquet:2 key=v1, v=v1",
        "10 missing_column all/h.parquet:3 key=v2, v=v2",
        "11 missing_column all/i.arrow:1 v=v0, kk=v0",
        "12 missing_column all/i.arrow:2 v=v1, kk=v1",
        "13 missing_column all/i.arrow:3 v=v2, kk=v2",
        "14 unreadable_file all/j.parquet ",
    ];
    for (short, expected) in short.iter().zip(expected) {
        assert!(short.starts_with(expected), "{short:?}\n{expected:?}");
    }
    assert_eq!(short.len(), expected.len());
    assert_eq!((whole.len(), &whole[2].1, &whole[15].1), (16, &"3 \"good\"".to_owned(), &"4 null".to_owned()));
    for piece in all(1) {
        let rest = batches(&options, base, &Position { anchor: piece.end, seq: piece.next_seq }, 2).unwrap();
        let mut rest = records(&rest);
        rest.retain(|(seq, _)| *seq >= piece.next_seq);
        assert_eq!(rest, whole[piece.next_seq as usize..]);
    }
    // A header that changed while the file was being read is no misfit.
    let first = &all(1)[0];
    let position = Position { anchor: first.end.clone(), seq: first.next_seq };
    write("a.csv", b"k,v, \n1,\"two\nlines\"\n\n2,y\n");
    assert!(batches(&options, base, &position, 9).unwrap_err().message.contains("another header"));
}

#[test]
fn a_file_that_cannot_be_looked_at_is_not_passed_over() {
    use std::os::unix::ffi::OsStrExt as _;
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    fs::create_dir(&data).unwrap();
    fs::write(data.join("a.csv"), "k,v\n1,a\n").unwrap();
    std::os::unix::fs::symlink("nowhere", data.join("b.csv")).unwrap();
    fs::create_dir(data.join("c.csv")).unwrap();
    for path in ["data", "data/*.csv"] {
        let why = error(&options(path, &KV), folder.path());
        assert!(why.contains("`data/b.csv` cannot be read: No such file"), "{path}: {why}");
    }
    fs::remove_file(data.join("b.csv")).unwrap();
    // Names that are not UTF-8 are two names, and found again.
    for name in [b"x\xff.csv", b"x\xfe.csv"] {
        fs::write(data.join(std::ffi::OsStr::from_bytes(name)), "k,v\n2,b\n3,c\n").unwrap();
    }
    let options = options("data", &KV);
    let whole = all(&options, folder.path());
    assert_eq!(whole.len(), 5);
    for piece in batches(&options, folder.path(), &Position::default(), 1).unwrap() {
        let position = Position { anchor: piece.end, seq: piece.next_seq };
        let rest = records(&batches(&options, folder.path(), &position, 9).unwrap());
        assert_eq!(rest, whole[piece.next_seq as usize..], "{position:?}");
    }
}

#[test]
fn columnar_rows_that_do_not_fit_are_faults_each_in_its_place() {
    use arrow::array::{Float64Array, Int64Array, TimestampSecondArray};
    let folder = tempfile::tempdir().unwrap();
    let rows = RecordBatch::try_from_iter([
        ("k", Arc::new(Float64Array::from(vec![Some(1.0), Some(2.5), None, Some(4.0)])) as _),
        ("t", Arc::new(TimestampSecondArray::from(vec![1, 2, 3, i64::MAX])) as _),
        ("v", Arc::new(Int64Array::from(vec![1, 2, 3, 4])) as _),
    ])
    .unwrap();
    fs::write(folder.path().join("a.parquet"), parquet_of(std::slice::from_ref(&rows))).unwrap();
    let mut options = options("a.parquet", &[("k", Type::Int64), ("t", Type::Timestamp), ("v", Type::String)]);
    options.spec =
        Arc::new(RowSpec::new(options.spec.columns.clone(), &["k".to_owned()], None, TimeFormat::Auto, 1 << 20));
    assert_eq!(
        all(&options, folder.path()),
        [
            (0, "1 \"1970-01-01T00:00:01Z\" \"1\"".to_owned()),
            (1, "bad_value: k=2.5, t=1970-01-01T00:00:02, v=2".to_owned()),
            (2, "null_key: k=null, t=1970-01-01T00:00:03, v=3".to_owned()),
            (3, all(&options, folder.path())[3].1.clone()),
        ]
    );
    assert_eq!(
        faults(&options, folder.path()),
        ["1 bad_value a.parquet:2", "2 null_key a.parquet:3", "3 out_of_range a.parquet:4"]
    );
}

#[test]
fn a_file_that_is_not_what_it_was_is_noticed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.csv");
    let text = "k,v\n1,a\n2,b\n3,c\n4,d\n";
    fs::write(&path, text).unwrap();
    let options = options("a.csv", &KV);
    let first = &batches(&options, folder.path(), &Position::default(), 2).unwrap()[0];
    let position = Position { anchor: first.end.clone(), seq: first.next_seq };
    let rest = || batches(&options, folder.path(), &position, 9);
    assert_eq!(records(&rest().unwrap()).len(), 2);
    fs::write(&path, &text[..10]).unwrap();
    assert!(rest().unwrap_err().message.contains("has 10 bytes and was read up to byte 12"), "{:?}", rest());
    fs::write(&path, text.replace("2,b", "2,x")).unwrap();
    assert!(rest().unwrap_err().message.contains("have changed"));
    fs::write(&path, format!("{text}5,e\n")).unwrap();
    assert_eq!(records(&rest().unwrap()).len(), 3, "growth is no change of what was read");
    fs::remove_file(&path).unwrap();
    assert!(rest().unwrap_err().message.contains("is gone"));
    assert!(open(&options, folder.path(), &Position { anchor: serde_json::json!({"topic": 1}), seq: 0 }).is_err());
}

#[test]
fn a_file_that_is_gone_or_shorter_is_not_mistaken_for_the_next() {
    let folder = tempfile::tempdir().unwrap();
    let base = folder.path();
    fs::create_dir(base.join("all")).unwrap();
    let text = |from: usize, count: usize| -> String {
        std::iter::once("k,v\n".into()).chain((from..from + count).map(|i| format!("{i},x\n"))).collect()
    };
    let write = |name: &str, bytes: &[u8]| fs::write(base.join("all").join(name), bytes).unwrap();
    let parquet = parquet_of(&[batch(20, 10)]);
    for (n, other) in ["b.csv", "b.csv.gz", "b.parquet", "b.parquet.gz"].into_iter().enumerate() {
        fs::remove_dir_all(base.join("all")).unwrap();
        fs::create_dir(base.join("all")).unwrap();
        let whole = [text(20, 10).into_bytes(), gzip(text(20, 10).as_bytes()), parquet.clone(), gzip(&parquet)];
        write("a.csv", text(0, 10).as_bytes());
        write(other, &whole[n]);
        write("c.csv", text(100, 50).as_bytes());
        let options = options("all", &KV);
        for piece in batches(&options, base, &Position::default(), 100).unwrap() {
            for seq in piece.first_seq..piece.next_seq {
                let position = Position { anchor: piece.start.clone(), seq };
                let read = || batches(&options, base, &position, 100).map(drop).map_err(|e| e.message);
                assert_eq!(read(), Ok(()));
                let file = base.join(piece.start["file"].as_str().unwrap());
                let bytes = fs::read(&file).unwrap();
                fs::remove_file(&file).unwrap();
                assert!(read().unwrap_err().contains("is gone"), "{position:?}");
                if file.ends_with("a.csv") && seq > 4 {
                    fs::write(&file, text(0, 4)).unwrap();
                    assert!(read().unwrap_err().contains("ends before record 4"), "{position:?} {:?}", read());
                }
                fs::write(&file, bytes).unwrap();
            }
        }
    }
}

/// A followed source and what it has delivered.
struct Followed {
    connector: FileConnector,
    seen: Vec<SourceRows>,
}

impl Followed {
    fn open(options: &FileOptions, base: &Path, position: &Position) -> Followed {
        Followed { connector: open(options, base, position).unwrap(), seen: Vec::new() }
    }

    /// Reads until so many records were delivered in all, then a few looks more to see that there are no others.
    #[track_caller]
    fn expect(&mut self, expected: &[&str]) {
        let mut idle = 0;
        while idle < if records(&self.seen).len() < expected.len() { 500 } else { 4 } {
            match self.connector.next().unwrap() {
                Next::Rows(rows) => self.seen.push(rows),
                Next::Waiting => idle += 1,
                Next::End => panic!("a followed source does not end"),
            }
        }
        let got: Vec<String> = records(&self.seen).into_iter().map(|(_, r)| r.replace('"', "")).collect();
        assert_eq!(got, expected);
    }

    fn position(&self) -> Position {
        self.seen.last().map_or_else(Position::default, |b| Position { anchor: b.end.clone(), seq: b.next_seq })
    }
}

fn append(path: &PathBuf, text: &str) {
    OpenOptions::new().create(true).append(true).open(path).unwrap().write_all(text.as_bytes()).unwrap();
}

fn following(path: &str) -> FileOptions {
    FileOptions { follow: true, ..options(path, &KV) }
}

#[test]
fn a_growing_file_is_followed_and_half_a_line_waits() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.csv");
    let mut source = Followed::open(&following("a.csv"), folder.path(), &Position::default());
    source.expect(&[]);
    append(&path, "k,");
    source.expect(&[]);
    append(&path, "v\n1,a\n2,");
    source.expect(&["1 a"]);
    let position = source.position();
    append(&path, "b\n3,\"c");
    source.expect(&["1 a", "2 b"]);
    append(&path, "\nd\"\n");
    source.expect(&["1 a", "2 b", "3 c\\nd"]);
    let mut again = Followed::open(&following("a.csv"), folder.path(), &position);
    again.expect(&["2 b", "3 c\\nd"]);
    assert_eq!(again.seen[0].first_seq, 1);
}

#[test]
fn a_rotated_file_is_read_to_its_end_before_the_new_one_even_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.ndjson");
    let row = |k: i64| format!("{{\"k\":{k},\"v\":\"x\"}}\n");
    append(&path, &row(1));
    let options = following("a.ndjson");
    let mut source = Followed::open(&options, folder.path(), &Position::default());
    source.expect(&["1 x"]);
    let position = source.position();
    append(&path, &row(2));
    fs::rename(&path, folder.path().join("a.ndjson.1")).unwrap();
    append(&path, &row(3));
    source.expect(&["1 x", "2 x", "3 x"]);
    let later = source.position();
    append(&path, &row(4));
    let mut again = Followed::open(&options, folder.path(), &position);
    again.expect(&["2 x", "3 x", "4 x"]);
    // Twice while nobody looked.
    std::thread::sleep(std::time::Duration::from_millis(20));
    fs::rename(folder.path().join("a.ndjson.1"), folder.path().join("a.ndjson.2")).unwrap();
    fs::rename(&path, folder.path().join("a.ndjson.1")).unwrap();
    append(&path, &row(5));
    let mut again = Followed::open(&options, folder.path(), &position);
    again.expect(&["2 x", "3 x", "4 x", "5 x"]);
    let mut again = Followed::open(&options, folder.path(), &later);
    again.expect(&["4 x", "5 x"]);
}

#[test]
fn a_file_cut_to_nothing_is_read_from_its_start() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.csv");
    append(&path, "k,v\n1,a\n2,b\n");
    let mut source = Followed::open(&following("a.csv"), folder.path(), &Position::default());
    source.expect(&["1 a", "2 b"]);
    fs::write(&path, "k,v\n3,c\n").unwrap();
    source.expect(&["1 a", "2 b", "3 c"]);
    let position = source.position();
    append(&path, "4,d\n");
    source.expect(&["1 a", "2 b", "3 c", "4 d"]);
    Followed::open(&following("a.csv"), folder.path(), &position).expect(&["4 d"]);
}

#[test]
fn new_files_of_a_folder_are_read_when_they_come() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    fs::create_dir(&data).unwrap();
    let options = following("data");
    let mut source = Followed::open(&options, folder.path(), &Position::default());
    source.expect(&[]);
    append(&data.join("1.csv"), "k,v\n1,a\n");
    source.expect(&["1 a"]);
    append(&data.join("1.csv"), "2,b");
    source.expect(&["1 a"]);
    let position = source.position();
    fs::write(data.join("2.csv.gz"), gzip(b"k,v\n3,c\n")).unwrap();
    source.expect(&["1 a", "2 b", "3 c"]);
    fs::write(data.join("3.parquet"), parquet_of(&[batch(4, 1)])).unwrap();
    append(&data.join("4.csv"), "k,v\n5,e\n");
    source.expect(&["1 a", "2 b", "3 c", "4 null", "5 e"]);
    let mut again = Followed::open(&options, folder.path(), &position);
    again.expect(&["2 b", "3 c", "4 null", "5 e"]);
}

#[test]
fn a_followed_file_that_cannot_be_read_is_one_fault_until_another_takes_its_place() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.parquet");
    fs::write(&path, "no parquet").unwrap();
    let mut source = Followed::open(&following("a.parquet"), folder.path(), &Position::default());
    source.expect(&["unreadable_file: "]);
    fs::write(folder.path().join("new"), parquet_of(&[batch(1, 1)])).unwrap();
    fs::rename(folder.path().join("new"), &path).unwrap();
    source.expect(&["unreadable_file: ", "1 v1"]);
    fs::write(folder.path().join("new"), "").unwrap();
    fs::rename(folder.path().join("new"), &path).unwrap();
    source.expect(&["unreadable_file: ", "1 v1"]);
}

/// Plans a pipeline of these sources; gives what each reads, or every mistake.
fn plan(base: &Path, sources: &str) -> Result<Vec<String>, Vec<String>> {
    let catalogue = engine::Catalogue { connectors: super::connectors(), ..Default::default() };
    let text = format!("name = \"p\"\n{sources}");
    match engine::pipeline::load(&base.join("p.toml"), &text, &|_| None, &catalogue) {
        Ok(plan) => Ok(plan.sources.iter().map(|s| s.connector.describe()).collect()),
        Err(problems) => {
            Err(problems.iter().map(|p| p.to_string().split_once(".toml:").unwrap().1.to_owned()).collect())
        }
    }
}

#[test]
fn sections_are_planned_or_every_mistake_in_them_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let base = folder.path();
    assert_eq!(
        plan(
            base,
            "[sources.a]\ntype = 'file'\npath = 'x.csv'\ndelimiter = ';'\nnull = 'NA'\nfollow = true\ntimestamp_unit = 'ms'
             key = 'k'\nevent_time = 't'\ncolumns = { k = 'int64', t = 'timestamp' }
             [sources.b]\ntype = 'http'\ncolumns = { k = 'int64' }
             [sources.c]\ntype = 'generate'\ntable = 'orders'\nhours = 2\nspeed = 60
             [sources.d]\ntype = 'generate'\ntable = 'trips'\ncolumns = { reward = 'float64' }",
        ),
        Ok(vec![
            "file x.csv, followed, delimiter ';', null \"NA\", times in ms".into(),
            "http push, journalled".into(),
            "generate city orders seed 1, 1000 drivers, 20000 orders a day, from 2016-11-01T00:00:00Z, for 7200 s".into(),
            "generate city trips seed 1, 1000 drivers, 20000 orders a day, from 2016-11-01T00:00:00Z, endless".into(),
        ])
    );
    let wrong = plan(
        base,
        "[sources.a]\ntype = 'file'\npath = 'x.xls'\ncolumns = { k = 'int64' }
         [sources.b]\ntype = 'file'\npath = 'x.csv'\ndelimiter = ';;'\nrecord_bytes_max = 5\nfollows = true\ncolumns = { k = 'int64' }
         [sources.c]\ntype = 'file'\npath = 'x.csv'\ntimestamp_format = '%J'\nformat = 'xml'\ncolumns = { k = 'int64' }
         [sources.d]\ntype = 'http'
         [sources.e]\ntype = 'generate'\ntable = 'order'\ndrivers = 0\nhours = 1\ndays = 1
         [sources.f]\ntype = 'generate'\ntable = 'trips'\nspeed = -1\n
         [sources.g]\ntype = 'generate'\ntable = 'trips'\ncolumns = { rewards = 'float64', to_cell = 'int64' }",
    )
    .unwrap_err();
    let expected = [
        "`x.xls` tells no format",
        "`;;`",
        "`record_bytes_max` must be between 64 and 268435456, found 5",
        "`follow`",
        "strftime",
        "`xml`",
        "columns",
        "`orders`",
        "`drivers`",
        "not both",
        "`speed` must be above 0",
        "`reward`",
        "`to_cell` of this table is string",
    ];
    for part in expected {
        assert!(wrong.iter().any(|w| w.contains(part)), "{part} in {wrong:#?}");
    }
}

#[test]
fn what_infer_writes_is_a_source_that_reads_the_file() {
    let folder = tempfile::tempdir().unwrap();
    for (name, bytes) in in_every_format() {
        let path = folder.path().join(name);
        fs::write(&path, bytes).unwrap();
        let section = super::infer(&path).unwrap();
        let planned = plan(folder.path(), &section);
        assert!(planned.as_ref().is_ok_and(|p| p.len() == 1), "{section}\n{planned:?}");
    }
}

/// A file of recorded data; `None` if there is none here, which on CI is a failure.
fn real(name: &str) -> Option<PathBuf> {
    Some(testkit::recorded_data()?.join(name))
}

#[test]
fn a_real_hour_of_taxi_trips_is_read_whole() {
    use Type::{Float64, Int64, String, Timestamp};
    let Some(path) = real("dispatch/nyc_taxi_debs2015_2013-01-01_00h.csv.zst") else { return };
    let columns = [
        ("medallion", String),
        ("pickup_datetime", Timestamp),
        ("dropoff_datetime", Timestamp),
        ("trip_time_in_secs", Int64),
        ("fare_amount", Float64),
        ("pickup_longitude", Float64),
    ];
    let got = batches(&options(&path.to_string_lossy(), &columns), Path::new(""), &Position::default(), 1_000).unwrap();
    let rows: usize = got.iter().map(|b| b.rows.num_rows()).sum();
    assert_eq!((rows, got.iter().map(|b| b.faults.len()).sum::<usize>()), (10_004, 0));
    assert_eq!(
        records(&got)[0].1,
        "\"07290D3599E7A0D62097A346EFCC1FB5\" \"2013-01-01T00:00:00Z\" \"2013-01-01T00:02:00Z\" 120 3.5 -73.956528"
    );
    let section = super::infer(&path).unwrap();
    assert!(
        section.contains("\n# event_time = \"pickup_datetime\"\n")
            && section.contains("\ntrip_distance = \"float64\"\n"),
        "{section}"
    );
}

#[test]
fn real_job_events_without_header_are_read_whole() {
    use Type::{Int64, String, Timestamp};
    let Some(path) = real("cluster/google_2011_job_events") else { return };
    let columns = [
        ("time", Timestamp),
        ("missing", String),
        ("job", Int64),
        ("event", Int64),
        ("user", String),
        ("class", Int64),
        ("name", String),
        ("logical", String),
    ];
    let mut options = options(&path.to_string_lossy(), &columns);
    options.header = false;
    options.spec =
        Arc::new(RowSpec::new(options.spec.columns.clone(), &[], None, TimeFormat::Epoch(Unit::Micro), 1 << 20));
    let got = batches(&options, Path::new(""), &Position::default(), 32_768).unwrap();
    // Counted independently: lines of the unpacked parts.
    let mut lines = 0;
    for file in fs::read_dir(&path).unwrap() {
        let mut text = Vec::new();
        std::io::Read::read_to_end(
            &mut flate2::read::MultiGzDecoder::new(fs::File::open(file.unwrap().path()).unwrap()),
            &mut text,
        )
        .unwrap();
        lines += text.iter().filter(|b| **b == b'\n').count();
    }
    let (rows, faults) =
        (got.iter().map(|b| b.rows.num_rows()).sum::<usize>(), got.iter().map(|b| b.faults.len()).sum::<usize>());
    assert_eq!((rows, faults), (lines, 0));
    assert!(rows > 30_000);
    assert_eq!(got.last().unwrap().next_seq, lines as u64);
}
