//! Valid input broken at random: whatever the bytes, no decoder panics, loses a record, or reads otherwise in pieces.
//!
//! The seed is printed; `THALWEG_SEED` gives it back.

use std::fs;
use std::path::Path;

use arrow::array::RecordBatch;
use engine::PushFormat;
use engine::connector::{ConnectorFactory, Next, SourceEnv};
use storage::{JournalEntry, Options, Store};
use testkit::random::Random;
use types::time::TimeFormat;
use types::{Position, Type};

use super::avro;
use super::cells::{Bad, Rows};
use super::file::FileOptions;
use super::http::HttpOptions;
use super::protobuf;
use super::samples::{columns, rows, sample};
use super::tests::{KV, batch, batches, gzip, in_every_format, ipc_stream, options, records, zst};

/// Breaks bytes in a few places; `other` is what pieces are spliced in from.
pub(super) fn broken(bytes: &[u8], other: &[u8], random: &mut Random) -> Vec<u8> {
    const SPECIAL: &[u8] = b"\0\x01\x7f\x80\xff\"'\\,;\t\r\n {}[]:-+.eEN0919\xef\xbb\xbf\x1f\x8b(";
    const NUMBERS: &[i64] =
        &[0, 1, -1, 127, 1 << 31, i32::MAX as i64, i64::MAX, i64::MIN, 1 << 40, (1 << 62) - 8, 0x7fff_fff8, -8];
    let mut out = bytes.to_vec();
    for _ in 0..1 + random.below(4) {
        let at = random.below(out.len() + 1);
        let end = (at + 1 + random.below(40)).min(out.len());
        match random.below(9) {
            0 => out.truncate(at),
            1 if at < out.len() => out[at] ^= 1 << random.below(8),
            2 if at < out.len() => out[at] = random.pick(SPECIAL),
            3 => out.insert(at, random.pick(SPECIAL)),
            4 => drop(out.drain(at..end)),
            5 => {
                let piece = out[at..end].to_vec();
                let to = random.below(out.len() + 1);
                out.splice(to..to, piece);
            }
            6 => {
                let from = random.below(other.len());
                let piece = other[from..(from + random.below(200)).min(other.len())].to_vec();
                out.splice(at..end, piece);
            }
            // A length or an offset that says more than there is.
            7 => {
                let number = random.pick(NUMBERS).to_le_bytes();
                let aligned = at / 4 * 4;
                let width = random.pick(&[4, 8]).min(out.len().saturating_sub(aligned));
                out[aligned..aligned + width].copy_from_slice(&number[..width]);
            }
            _ => {
                let count = random.below(30);
                let noise: Vec<u8> = (0..count).map(|_| random.next() as u8).collect();
                out.splice(at..at, noise);
            }
        }
    }
    out
}

/// What a file source makes of a file: its records, or the error that stops it.
fn read(options: &FileOptions, base: &Path, position: &Position, size: usize) -> Result<Vec<(u64, String)>, String> {
    batches(options, base, position, size).map(|b| records(&b)).map_err(|e| e.message)
}

#[test]
fn broken_files_are_rows_and_faults_however_they_are_read() {
    let mut random = Random::seeded();
    let folder = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
    let base = folder.path();
    let samples = in_every_format();
    let (mut stopped, mut faults, mut rows) = (0, 0, 0);
    for turn in 0..1_500 {
        let (name, bytes) = &samples[turn % samples.len()];
        let other = &samples[random.below(samples.len())].1;
        let bytes = match random.below(5) {
            0 => broken(&gzip(bytes), &gzip(other), &mut random),
            1 => broken(&zst(bytes), &zst(other), &mut random),
            2 => gzip(&broken(bytes, other, &mut random)),
            _ => broken(bytes, other, &mut random),
        };
        fs::write(base.join(name), &bytes).unwrap();
        // What is found is written down if the process ends instead of the test.
        let mut options = options(name, &KV);
        options.header = random.below(8) > 0;
        let what = format!("turn {turn} {name}");
        let whole = match read(&options, base, &Position::default(), 32_768) {
            Ok(whole) => whole,
            Err(why) => {
                // The only file there is, and not as declared: nothing of it was taken.
                assert!(why.contains("column") || why.contains("header"), "{what}: {why}");
                stopped += 1;
                continue;
            }
        };
        assert!(whole.iter().enumerate().all(|(n, (seq, _))| *seq == n as u64), "{what}: a number is missing");
        faults += whole.iter().filter(|(_, text)| text.contains(": ")).count();
        rows += whole.len();
        let pieces = batches(&options, base, &Position::default(), 3).unwrap();
        assert_eq!(records(&pieces), whole, "{what}: in pieces");
        if let Some(piece) = pieces.get(random.below(pieces.len())) {
            let position = Position { anchor: piece.end.clone(), seq: piece.next_seq };
            let mut rest = read(&options, base, &position, 4).unwrap_or_else(|e| panic!("{what}: {e}"));
            rest.retain(|(seq, _)| *seq >= piece.next_seq);
            assert_eq!(rest, whole[piece.next_seq as usize..], "{what}: from {position:?}");
        }
        fs::remove_file(base.join(name)).unwrap();
    }
    assert!(stopped > 10 && faults > 500 && rows > 2 * faults, "{stopped} stopped, {faults} faults of {rows}");
}

#[test]
fn broken_files_among_others_stop_nothing() {
    let mut random = Random::seeded();
    let folder = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
    let base = folder.path();
    fs::create_dir(base.join("all")).unwrap();
    let samples = in_every_format();
    let mut options = options("all", &KV);
    options.format = None;
    for turn in 0..60 {
        let mut sound = 0;
        for (n, (name, bytes)) in samples.iter().enumerate() {
            // Every other one is sound, in another order each turn.
            let breaks = (n + turn) % 2 == 0;
            let bytes = if breaks { broken(bytes, bytes, &mut random) } else { bytes.clone() };
            sound += usize::from(!breaks);
            let name = name.replace("stream.", &format!("{}.", ["a", "s", "z"][turn % 3]));
            fs::write(base.join("all").join(name), bytes).unwrap();
        }
        let all = read(&options, base, &Position::default(), 7).unwrap_or_else(|e| panic!("turn {turn}: {e}"));
        assert!(all.iter().enumerate().all(|(n, (seq, _))| *seq == n as u64), "turn {turn}");
        let rows = all.iter().filter(|(_, text)| !text.contains(": ")).count();
        assert!(rows >= 20 * sound, "turn {turn}: {rows} rows of {sound} sound files of twenty");
        fs::remove_dir_all(base.join("all")).unwrap();
        fs::create_dir(base.join("all")).unwrap();
    }
}

#[test]
fn broken_pushes_are_refused_or_have_as_many_records_as_was_said() {
    let mut random = Random::seeded();
    let folder = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
    let store = Store::open(Options { sync: false, ..Options::new(folder.path().join("store")) }).unwrap();
    let source = HttpOptions { spec: options("", &KV).spec };
    let env = SourceEnv {
        source: "s".into(),
        base_dir: folder.path().into(),
        store: store.clone(),
        metrics: engine::metrics::Metrics::new(),
    };
    let lines: String = (0..12).map(|i| format!("{{\"k\":{i},\"v\":\"a\\u0041{i}\"}}\n")).collect();
    let array = format!("[{}]", lines.trim().replace('\n', ", "));
    let spread = lines.replace(':', ":\n  ");
    let nulls = RecordBatch::try_from_iter_with_nullable([
        ("k", arrow::array::new_null_array(&arrow::datatypes::DataType::Null, 9), true),
        ("v", arrow::array::new_null_array(&arrow::datatypes::DataType::Null, 9), true),
    ]);
    let samples = [
        (PushFormat::Ndjson, lines.into_bytes()),
        (PushFormat::Ndjson, array.into_bytes()),
        (PushFormat::Ndjson, spread.into_bytes()),
        (PushFormat::Arrow, ipc_stream(&[batch(0, 5), batch(5, 4)])),
        (PushFormat::Arrow, ipc_stream(&[nulls.unwrap()])),
    ];
    let mut connector = source.open(&Position::default(), &env).unwrap();
    let (mut next, mut refused) = (0, 0);
    for turn in 0..2_000 {
        let (format, bytes) = &samples[turn % samples.len()];
        let payload = broken(bytes, &samples[random.below(samples.len())].1, &mut random);
        let Ok((payload, records)) = source.prepare_push(*format, payload) else {
            refused += 1;
            continue;
        };
        let entry = JournalEntry { format: format.name().into(), payload, records };
        store.journal_append("s", entry, None).unwrap();
        let until = next + records;
        while next < until {
            match connector.next().unwrap_or_else(|e| panic!("turn {turn}: {e}")) {
                Next::Rows(rows) => {
                    assert_eq!(rows.first_seq, next, "turn {turn}");
                    assert_eq!(rows.rows.num_rows() + rows.faults.len(), (rows.next_seq - rows.first_seq) as usize);
                    next = rows.next_seq;
                }
                Next::Waiting => {}
                Next::End => panic!("a pushed source does not end"),
            }
        }
        assert_eq!(next, until, "turn {turn}: more records than were said");
    }
    assert!(refused > 100 && next > 4_000, "{refused} refused, {next} records");
}

/// The columns that take all of a trip, some of it twice.
const TRIP: [(&str, Type, &str); 11] = [
    ("id", Type::Int64, "id"),
    ("fare", Type::Float64, "fare"),
    ("zone", Type::String, "zone"),
    ("kind", Type::String, "kind"),
    ("note", Type::String, "note"),
    ("at", Type::Timestamp, "at"),
    ("lat", Type::Float64, "from.lat"),
    ("from", Type::String, "from"),
    ("stops", Type::String, "stops"),
    ("tags", Type::String, "tags"),
    ("back", Type::String, "back"),
];

/// Broken messages, and bytes that never were one, are each a row or a fault; what is made of them is no larger than
/// their bytes can mean. Gives how many were rows.
fn messages_are_rows_or_faults(
    samples: &[Vec<u8>],
    random: &mut Random,
    spec: &std::sync::Arc<super::RowSpec>,
    mut decode: impl FnMut(&[u8], &mut Rows) -> Result<(), Bad>,
) -> usize {
    let mut good = 0;
    for turn in 0..20_000 {
        let (bytes, other) = (&samples[turn % samples.len()], &samples[random.below(samples.len())]);
        let message = if random.below(8) == 0 {
            (0..random.below(60)).map(|_| random.next() as u8).collect()
        } else {
            broken(bytes, other, random)
        };
        let length = message.len();
        let got = rows(spec, &[message], &mut decode);
        assert_eq!(got.len(), 1, "turn {turn}");
        assert!(got[0].len() < 2_000_000 + 200 * length, "turn {turn}: {} of {length} bytes", got[0].len());
        good += usize::from(got[0].starts_with('['));
    }
    good
}

#[test]
fn broken_avro_and_protobuf_messages_are_rows_or_faults() {
    let mut random = Random::seeded();
    let (spec, paths) = columns(&TRIP, TimeFormat::Auto);
    let schema = avro::Schema::parse(include_str!("samples/trip.avsc")).unwrap();
    let reader = avro::Reader::new(schema.into(), &paths, &spec).unwrap();
    let samples = ["avro_full", "avro_edge"].map(sample);
    let good = messages_are_rows_or_faults(&samples, &mut random, &spec, |bytes, rows| reader.row(bytes, rows));
    assert!((500..19_500).contains(&good), "{good} Avro rows");

    let folder = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/src/source/samples"));
    let message = protobuf::message(folder, "trip.proto", "city.v1.Trip").unwrap();
    let reader = protobuf::Reader::new(message, &paths, &spec).unwrap();
    let samples = ["proto_full", "proto_edge", "proto_unknown"].map(sample);
    let good = messages_are_rows_or_faults(&samples, &mut random, &spec, |bytes, rows| reader.row(bytes, rows));
    assert!((500..19_500).contains(&good), "{good} Protobuf rows");
}

#[test]
fn broken_avro_schemas_are_read_or_refused() {
    let mut random = Random::seeded();
    let (spec, paths) = columns(&TRIP, TimeFormat::Auto);
    let text = include_bytes!("samples/trip.avsc");
    let samples = ["avro_full", "avro_edge"].map(sample);
    let (mut refused, mut misfit, mut read) = (0, 0, 0);
    for turn in 0..5_000 {
        // A text that is no JSON any more says little: names and numbers are exchanged as well.
        let mut broken_text = String::from_utf8_lossy(&broken(text, text, &mut random)).into_owned();
        if turn % 2 == 0 {
            const WORDS: &[&str] = &[
                "int", "long", "null", "bytes", "record", "Trip", "Place", "Kind", "array", "map", "fixed", "-1", "9",
            ];
            let (from, to) = (random.pick(WORDS), random.pick(WORDS));
            broken_text = String::from_utf8_lossy(text).replacen(from, to, 1 + random.below(9));
        }
        let Ok(schema) = avro::Schema::parse(&broken_text) else {
            refused += 1;
            continue;
        };
        let Ok(reader) = avro::Reader::new(schema.into(), &paths, &spec) else {
            misfit += 1;
            continue;
        };
        let got = rows(&spec, &[samples[turn % 2].clone()], |bytes, rows| reader.row(bytes, rows));
        read += usize::from(got[0].starts_with('['));
    }
    assert!(refused > 100 && misfit > 10 && read > 100, "{refused} refused, {misfit} do not fit, {read} read");
}
