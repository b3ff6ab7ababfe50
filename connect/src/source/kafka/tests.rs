//! What needs no broker: sections and their mistakes, messages and their rows. The rest is in `daemon/tests/kafka.rs`.

use std::path::Path;
use std::sync::Arc;

use testkit::random::Random;
use types::time::TimeFormat;
use types::{Column, Type, Value};

use super::super::cells::{RowSpec, Rows};
use super::super::fuzz::broken;
use super::super::tests::ipc_stream;
use super::log::Part;
use super::record::{Decoder, Format, KeyFormat, Layout, Message};

/// Plans a source of this section behind what every one needs; gives what it reads, or every mistake.
fn plan(section: &str) -> Result<String, String> {
    let catalogue = engine::Catalogue { connectors: vec![super::DEF], ..Default::default() };
    let text = format!("name = \"p\"\n[sources.s]\ntype = \"kafka\"\n{section}");
    let env = |name: &str| (name == "SECRET").then(|| "hunter2hunter2".to_owned());
    match engine::pipeline::load(Path::new("p.toml"), &text, &env, &catalogue) {
        Ok(plan) => {
            assert!(!format!("{plan:?}").contains("hunter2"), "a secret is shown");
            Ok(plan.sources[0].connector.describe())
        }
        Err(problems) => Err(problems.iter().map(|p| p.to_string() + "\n").collect()),
    }
}

#[test]
fn sections_are_planned() {
    let least = "brokers = 'b:1'\ntopics = 't'\ncolumns = { k = 'int64' }";
    assert_eq!(plan(least), Ok("kafka t, JSON".into()));
    let most = "brokers = ['b:1', 'c:1']\ntopics = ['u', 't']\npartitions = [0, 2]\nstart = 'offsets'
        start_offsets = { 't/0' = '5', 'u/2' = '0' }\nformat = 'csv'\ndelimiter = ';'\nnull = 'NA'
        key_format = 'json'\nkey_columns = ['k', 'l']\ntimestamp_column = 'at'\noffset_column = 'o'
        header_columns = { h = 'x-kind' }\nlost = 'skip'\ndiscover_secs = 1\nmerge_wait_secs = 0
        librdkafka = { 'sasl.password' = '${SECRET}', 'sasl.mechanism' = 'SCRAM-SHA-256', 'security.protocol' = 'SASL_SSL' }
        key = ['k', 'l']\ntombstone = 'gone'
        columns = { k = 'int64', l = 'string', at = 'timestamp', o = 'int64', h = 'bool', v = 'float64', gone = 'bool' }";
    let described = "kafka t, u, partitions 0, 2, from t/0@5, u/2@0 on, CSV, delimiter ';', null \"NA\", keys as JSON in \
                     k, l, times in at, offsets in o, header \"x-kind\" in h";
    assert_eq!(plan(most), Ok(described.into()));
    let timed = "start = 'timestamp'\nstart_timestamp = '2026-01-01'\nformat = 'raw'\n";
    assert_eq!(plan(&format!("{timed}{least}")), Ok("kafka t, from 1767225600000 ms on, values whole in k".into()));
}

#[test]
fn typed_formats_are_planned() {
    let least = "brokers = 'b:1'\ntopics = ['t', 'orders-*']\n";
    let registry = "format = 'avro'\nschema_registry = 'http://ada:${SECRET}@r:8081'\npaths = { v = 'a.b' }\n";
    let columns = "columns = { k = 'int64', v = 'string' }";
    assert_eq!(
        plan(&format!("{least}{registry}{columns}")),
        Ok("kafka t, orders-*, Avro by schema ids, v from a.b".into())
    );
    let framed = "wire = 'confluent'\n";
    assert_eq!(plan(&format!("{least}{framed}{columns}")), Ok("kafka t, orders-*, JSON behind a schema's id".into()));
    assert_eq!(plan(&format!("{least}format = 'arrow'\n{columns}")), Ok("kafka t, orders-*, Arrow IPC".into()));
    let samples = concat!(env!("CARGO_MANIFEST_DIR"), "/src/source/samples");
    let avro = format!("format = 'avro'\nschema = '{samples}/trip.avsc'\ntombstone = 'gone'\nkey = 'id'\n");
    let columns = "columns = { id = 'int64', fare = 'float64', gone = 'bool' }";
    let described = plan(&format!("{least}{avro}{columns}")).unwrap();
    assert!(described.starts_with("kafka t, orders-*, Avro of the schema "), "{described}");
    let message = "message = 'city.v1.Trip'\n";
    let proto = avro.replace("avro", "protobuf").replace("avsc", "proto") + message;
    let described = plan(&format!("{least}{proto}{framed}{columns}")).unwrap();
    assert!(described.contains(", Protobuf city.v1.Trip of the schema ") && described.ends_with("a schema's id"));
    // What a schema lacks is found when the pipeline is read.
    for (text, part) in [
        (format!("{avro}columns = {{ id = 'int64', fair = 'float64', gone = 'bool' }}"), "no field `fair` in"),
        (format!("{avro}columns = {{ id = 'int64', fare = 'int64', gone = 'bool' }}"), "`fare` is a double"),
        (format!("{proto}columns = {{ id = 'int64', fair = 'float64', gone = 'bool' }}"), "no field `fair` in"),
        (format!("{proto}columns = {{ id = 'string', fare = 'float64', gone = 'bool' }}"), "`id` is an integer"),
    ] {
        let said = plan(&format!("{least}{text}")).unwrap_err();
        assert!(said.contains(part), "{part} in {said}");
    }
}

#[test]
fn the_manual_has_every_option() {
    let manual = include_str!("../../../../docs/pipeline.md");
    let table = engine::manual::options(super::DEF.options);
    for row in table.lines() {
        assert!(manual.contains(row), "docs/pipeline.md lacks: {row}");
    }
}

#[test]
fn every_mistake_in_a_section_is_named() {
    let wrong = [
        ("topics = 't'\ncolumns = { k = 'int64' }", "`brokers`"),
        ("brokers = 'b'\ntopics = 'a topic'\ncolumns = { k = 'int64' }", "`a topic` cannot be the name of a topic"),
        ("brokers = 'b'\ntopics = 't'\nstart = 'later'\ncolumns = { k = 'int64' }", "`later`"),
        ("brokers = 'b'\ntopics = 't'\nstart = 'timestamp'\ncolumns = { k = 'int64' }", "needs `start_timestamp`"),
        (
            "brokers = 'b'\ntopics = 't'\nstart_timestamp = '2026'\ncolumns = { k = 'int64' }",
            "alone has `start_timestamp`",
        ),
        (
            "brokers = 'b'\ntopics = 't'\nstart = 'offsets'\nstart_offsets = { t = '1' }\ncolumns = { k = 'int64' }",
            "expected `topic/partition`",
        ),
        (
            "brokers = 'b'\ntopics = 't'\nstart = 'offsets'\nstart_offsets = { 't/1' = '-1' }\ncolumns = { k = 'int64' }",
            "must be a whole number",
        ),
        ("brokers = 'b'\ntopics = 't'\nkey_columns = 'kk'\ncolumns = { k = 'int64' }", "there is no column `kk`"),
        ("brokers = 'b'\ntopics = 't'\nkey_columns = ['k', 'l']\ncolumns = { k = 'int64', l = 'int64' }", "key_format"),
        (
            "brokers = 'b'\ntopics = 't'\ntimestamp_column = 'k'\ncolumns = { k = 'int64' }",
            "must be a timestamp column",
        ),
        (
            "brokers = 'b'\ntopics = 't'\nkey_columns = 'k'\noffset_column = 'k'\ncolumns = { k = 'int64' }",
            "`k` is filled twice",
        ),
        ("brokers = 'b'\ntopics = 't'\ndelimiter = ';'\ncolumns = { k = 'int64' }", "is for `format = \"csv\"`"),
        ("brokers = 'b'\ntopics = 't'\nformat = 'raw'\ncolumns = { k = 'int64', l = 'int64' }", "exactly one column"),
        ("brokers = 'b'\ntopics = 't'\ndiscover_secs = 0\ncolumns = { k = 'int64' }", "between 0.1 and 3600"),
        (
            "brokers = 'b'\ntopics = 't'\nlibrdkafka = { 'group.id' = 'g' }\ncolumns = { k = 'int64' }",
            "`group.id` is set by the connector itself",
        ),
        (
            "brokers = 'b'\ntopics = 't'\nlibrdkafka = { 'sasl.pass' = 'hunter2' }\ncolumns = { k = 'int64' }",
            "there is no `sasl.pass`",
        ),
        ("brokers = 'b'\ntopics = 't'\nlost = 'ignore'\nfollow = true\ncolumns = { k = 'int64' }", "`follow`"),
        ("brokers = 'b'\ntopics = 't'", "columns"),
        ("brokers = 'b'\ntopics = 'a*/b'\ncolumns = { k = 'int64' }", "`a*/b` can match no topic"),
        ("brokers = 'b'\ntopics = '[a'\ncolumns = { k = 'int64' }", "`[a` is no pattern"),
        ("brokers = 'b'\ntopics = 't'\nformat = 'avr'\ncolumns = { k = 'int64' }", "did you mean `avro`?"),
        (
            "brokers = 'b'\ntopics = 't'\nformat = 'avro'\ncolumns = { k = 'int64' }",
            "either `schema_registry` or `schema`",
        ),
        (
            "brokers = 'b'\ntopics = 't'\nformat = 'avro'\nschema_registry = 'https://u:hunter2@r'\ncolumns = { k = 'int64' }",
            "put a proxy beside the daemon",
        ),
        (
            "brokers = 'b'\ntopics = 't'\nformat = 'avro'\nschema_registry = 'u:hunter2@r'\ncolumns = { k = 'int64' }",
            "expected `http://host:port`",
        ),
        (
            "brokers = 'b'\ntopics = 't'\nformat = 'avro'\nschema = 'no.avsc'\ncolumns = { k = 'int64' }",
            "the schema `no.avsc` cannot be read: No such file",
        ),
        ("brokers = 'b'\ntopics = 't'\nschema = 'x'\ncolumns = { k = 'int64' }", "`schema` has no effect"),
        ("brokers = 'b'\ntopics = 't'\nwire = 'confluence'\ncolumns = { k = 'int64' }", "did you mean `confluent`?"),
        ("brokers = 'b'\ntopics = 't'\nformat = 'protobuf'\ncolumns = { k = 'int64' }", "`schema` is missing"),
        (
            "brokers = 'b'\ntopics = 't'\nformat = 'protobuf'\nschema = 'no.proto'\nmessage = 'M'\ncolumns = { k = 'int64' }",
            "the schema `no.proto` cannot be read: No such file",
        ),
        (
            "brokers = 'b'\ntopics = 't'\nformat = 'avro'\nschema_registry = 'http://r'\npaths = { l = 'a' }\ncolumns = { k = 'int64' }",
            "there is no column `l`",
        ),
        (
            "brokers = 'b'\ntopics = 't'\nformat = 'avro'\nschema_registry = 'http://r'\npaths = { k = 'a..b' }\ncolumns = { k = 'int64' }",
            "`a..b` is no path",
        ),
        (
            "brokers = 'b'\ntopics = 't'\nformat = 'avro'\nschema_registry = 'http://r'\nkey_columns = 'k'\npaths = { k = 'a' }\ncolumns = { k = 'int64', l = 'int64' }",
            "`k` is filled twice",
        ),
    ];
    for (section, part) in wrong {
        let said = plan(section).expect_err(section);
        assert!(said.contains(part), "{part} in {said}");
        assert!(!said.contains("hunter2"), "{said}");
    }
}

/// Decodes messages (key, value, header) into rows, or what is wrong with them.
#[track_caller]
fn check(
    format: Format,
    key_format: KeyFormat,
    messages: &[(Option<&str>, Option<&str>, Option<&str>)],
    expected: &[&str],
) {
    let columns = [
        ("k", Type::Int64),
        ("at", Type::Timestamp),
        ("v", Type::String),
        ("w", Type::Float64),
        ("off", Type::Int64),
        ("h", Type::Bool),
        ("gone", Type::Bool),
    ];
    let columns = columns.iter().map(|(n, t)| Column { name: (*n).into(), ty: *t, nullable: true }).collect();
    let spec = Arc::new(RowSpec::new(columns, &["k".into()], None, TimeFormat::Auto, 64));
    let layout = Layout {
        spec: spec.clone(),
        format,
        key_format,
        key: vec![0],
        timestamp: Some(1),
        topic: None,
        partition: None,
        offset: Some(4),
        headers: vec![(5, "h".into())],
        tombstone: Some(6),
    };
    let (mut decoder, mut rows) = (Decoder::new(&layout), Rows::new("s", spec, 0));
    let bytes = |text: Option<&str>| text.map(|t| t.as_bytes().to_vec());
    for (i, (key, value, header)) in messages.iter().enumerate() {
        let message = Message {
            offset: 10 + i as i64,
            timestamp_ms: (i != 1).then_some(1_000),
            key: bytes(*key),
            value: bytes(*value),
            headers: vec![bytes(*header)],
        };
        decoder.decode(&Part { topic: "t".into(), id: 3 }, &message, &mut rows);
    }
    let got = rows.take(serde_json::Value::Null, serde_json::Value::Null);
    let mut lines: Vec<(u64, String)> =
        got.faults.iter().map(|f| (f.seq, format!("{} {} {}", f.reason, f.provenance, f.raw))).collect();
    let seqs = got.seqs.unwrap_or_else(|| (got.first_seq..got.next_seq).collect());
    for (row, seq) in seqs.iter().enumerate() {
        let cells: Vec<Value> = got.rows.columns().iter().map(|c| Value::at(c, row)).collect();
        let text = serde_json::Value::from_iter(cells.iter().map(types::json::to_json)).to_string();
        lines.push((*seq, text.replace("1970-01-01T00:00:01Z", "T")));
    }
    lines.sort();
    assert_eq!(lines.into_iter().map(|(_, l)| l).collect::<Vec<_>>(), expected);
}

#[test]
fn json_messages_are_rows_or_faults() {
    let messages = [
        (Some("1"), Some("{\"v\":\"a\",\n \"k\": 7, \"off\": \"x\", \"w\": 2}"), Some("true")),
        (Some("2"), Some("{}"), None),
        (Some("3"), None, None),
        (None, None, None),
        (Some("x"), Some("{}"), None),
        (Some("4"), Some("{\"v\":1}"), None),
        (Some("4"), Some("{} {}"), None),
        (Some("4"), Some("{}"), Some("maybe")),
        (Some("4"), Some("                                                                 "), None),
        (Some("5"), Some("{\"gone\":true,\"v\":\"b\"}"), None),
    ];
    check(
        Format::Json { framed: false },
        KeyFormat::Text,
        &messages,
        &[
            "[1,\"T\",\"a\",2.0,10,true,null]",
            "[2,null,null,null,11,null,null]",
            "[3,\"T\",null,null,12,null,true]",
            "null_key t/3@13 ",
            "bad_value t/3@14 {}",
            "bad_value t/3@15 {\"v\":1}",
            "bad_json t/3@16 {} {}",
            "bad_value t/3@17 {}",
            "record_too_large t/3@18                                                                  ",
            "[5,\"T\",\"b\",null,19,null,true]",
        ],
    );
}

#[test]
fn csv_and_raw_messages_and_keys_that_are_json() {
    let messages = [
        (Some("{\"k\":1,\"v\":\"not from here\"}"), Some("a,2,"), None),
        (Some("{\"k\":2}"), Some("\"b\nc\",,false\n"), None),
        (Some("{}"), Some("a,2,"), None),
        (Some("no"), Some("a,2,"), None),
        (Some("{\"k\":3}"), Some("a,2"), None),
        (Some("{\"k\":3}"), Some("a,2,\nb,3,"), None),
        (Some("{\"k\":3}"), Some(""), None),
        (Some("{\"k\":3}"), Some("\"a,2,"), None),
    ];
    check(
        Format::Csv { delimiter: b',', null: None },
        KeyFormat::Json,
        &messages,
        &[
            "[1,\"T\",\"a\",2.0,10,null,null]",
            "[2,null,\"b\\nc\",null,11,null,false]",
            "null_key t/3@12 a,2,",
            "bad_json t/3@13 a,2,",
            "ragged_row t/3@14 a,2",
            "several_records t/3@15 a,2,\nb,3,",
            "ragged_row t/3@16 ",
            "broken_quotes t/3@17 \"a,2,",
        ],
    );
    check(
        Format::Raw(2),
        KeyFormat::Text,
        &[(Some("1"), Some("{} as it is"), None), (Some("2"), Some(""), None)],
        &["[1,\"T\",\"{} as it is\",null,10,null,null]", "[2,null,\"\",null,11,null,null]"],
    );
}

/// A layout whose values are Arrow IPC streams.
fn arrow_layout() -> Layout {
    let columns = [("k", Type::Int64), ("v", Type::String), ("off", Type::Int64), ("gone", Type::Bool)];
    let columns = columns.iter().map(|(n, t)| Column { name: (*n).into(), ty: *t, nullable: true }).collect();
    let spec = Arc::new(RowSpec::new(columns, &["k".into()], None, TimeFormat::Auto, 1 << 20));
    Layout {
        spec,
        format: Format::Arrow,
        key_format: KeyFormat::Text,
        key: Vec::new(),
        timestamp: None,
        topic: None,
        partition: None,
        offset: Some(2),
        headers: Vec::new(),
        tombstone: Some(3),
    }
}

fn arrow_message(offset: i64, value: Option<Vec<u8>>) -> Message {
    Message { offset, timestamp_ms: None, key: None, value, headers: Vec::new() }
}

fn keys(keys: &[Option<i64>], values: &[&str]) -> arrow::array::RecordBatch {
    let k = arrow::array::Int64Array::from(keys.to_vec());
    let v = arrow::array::StringArray::from(values.to_vec());
    let columns: [(&str, arrow::array::ArrayRef); 2] = [("v", Arc::new(v)), ("k", Arc::new(k))];
    arrow::array::RecordBatch::try_from_iter(columns).unwrap()
}

#[test]
fn every_row_of_an_arrow_message_is_a_record() {
    let layout = arrow_layout();
    let (mut decoder, mut rows) = (Decoder::new(&layout), Rows::new("s", layout.spec.clone(), 0));
    let two = ipc_stream(&[keys(&[Some(1), None], &["a", "b"]), keys(&[Some(3)], &["c"])]);
    let other: arrow::array::ArrayRef = Arc::new(arrow::array::Int64Array::from(vec![1]));
    let text: arrow::array::ArrayRef = Arc::new(arrow::array::BooleanArray::from(vec![true]));
    let stranger = arrow::array::RecordBatch::try_from_iter([("x", other.clone())]).unwrap();
    let misfit = arrow::array::RecordBatch::try_from_iter([("k", text)]).unwrap();
    let keys_alone = arrow::array::RecordBatch::try_from_iter([("k", other)]).unwrap();
    let empty = keys(&[], &[]);
    let values = [
        Some(two.clone()),
        Some(two[..two.len() - 20].to_vec()),
        Some(b"no arrow".to_vec()),
        Some(ipc_stream(&[stranger])),
        Some(ipc_stream(&[misfit])),
        Some(ipc_stream(&[keys_alone])),
        Some(ipc_stream(&[empty])),
        None,
    ];
    let counts: Vec<u64> = values
        .into_iter()
        .enumerate()
        .map(|(i, value)| {
            let part = Part { topic: "t".into(), id: 0 };
            decoder.decode(&part, &arrow_message(i as i64, value), &mut rows)
        })
        .collect();
    let got = rows.take(serde_json::Value::Null, serde_json::Value::Null);
    let mut lines: Vec<(u64, String)> =
        got.faults.iter().map(|f| (f.seq, format!("{} {} {}", f.reason, f.provenance, f.raw.len() < 40))).collect();
    for (row, seq) in got.seqs.unwrap().iter().enumerate() {
        let cells: Vec<Value> = got.rows.columns().iter().map(|c| Value::at(c, row)).collect();
        lines.push((*seq, serde_json::Value::from_iter(cells.iter().map(types::json::to_json)).to_string()));
    }
    lines.sort();
    let expected = [
        "[1,\"a\",0,null]",
        "null_key t/0@0:2 true",
        "[3,\"c\",0,null]",
        "unreadable_payload t/0@1 false",
        "unreadable_payload t/0@2 true",
        "missing_column t/0@3 false",
        "wrong_type t/0@4 false",
        "[1,null,5,null]",
        "no_value t/0@6 false",
        "null_key t/0@7 true",
    ];
    assert_eq!(lines.into_iter().map(|(_, l)| l).collect::<Vec<_>>(), expected);
    assert_eq!(counts, [3, 1, 1, 1, 1, 1, 1, 1]);
}

#[test]
fn broken_arrow_messages_are_as_many_records_as_is_said() {
    let mut random = Random::seeded();
    let layout = arrow_layout();
    let (mut decoder, mut rows) = (Decoder::new(&layout), Rows::new("s", layout.spec.clone(), 0));
    let samples = [
        ipc_stream(&[keys(&[Some(1), None, Some(7)], &["a", "b", "é"]), keys(&[Some(3)], &["c"])]),
        ipc_stream(&[keys(&[Some(9); 40], &["x"; 40])]),
    ];
    let (mut next, mut good) = (0, 0);
    for turn in 0..3_000 {
        let bytes = broken(&samples[turn % 2], &samples[random.below(2)], &mut random);
        let part = Part { topic: "t".into(), id: 0 };
        next += decoder.decode(&part, &arrow_message(turn as i64, Some(bytes)), &mut rows);
        assert_eq!(rows.next_seq(), next, "turn {turn}");
        if turn % 100 == 0 {
            good += rows.take(serde_json::Value::Null, serde_json::Value::Null).rows.num_rows();
        }
    }
    assert!(good > 3_000, "{good} rows");
}
