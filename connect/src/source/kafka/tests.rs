//! What needs no broker: sections and their mistakes, messages and their rows. The rest is in `daemon/tests/kafka.rs`.

use std::path::Path;
use std::sync::Arc;

use testkit::random::Random;
use types::time::TimeFormat;
use types::{Column, Type, Value};

use super::super::cells::{RowSpec, Rows};
use super::super::fuzz::broken;
use super::super::paths::Paths;
use super::super::samples::{bytes, sample};
use super::super::tests::ipc_stream;
use super::super::{avro, protobuf};
use super::key::{KeyFormat, avro_reader};
use super::log::Part;
use super::record::{Decoder, Format, Layout, Message, Messages, Schemas};
use super::registry::Address;
use super::registry::tests::{StandIn, ok};

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
    // Keys, by the same registry or by files of their own.
    let key = "key_columns = 'id'\nkey_format = 'avro'\n";
    let key_file = format!("key_schema = '{samples}/trip.avsc'\n");
    let json = "columns = { id = 'int64', v = 'string' }";
    let tls = "schema_registry = 'https://r/base'\n";
    assert_eq!(
        plan(&format!("{least}{tls}{key}{json}")),
        Ok("kafka t, orders-*, JSON, keys as Avro by schema ids in id".into())
    );
    let both = format!("{least}{avro}{tls}{key}columns = {{ id = 'int64', fare = 'float64', gone = 'bool' }}");
    assert!(plan(&both).unwrap().ends_with(", keys as Avro by schema ids in id"));
    let described = plan(&format!("{least}{key}{key_file}{json}")).unwrap();
    assert!(described.starts_with("kafka t, orders-*, JSON, keys as Avro of the schema "), "{described}");
    let key_proto = format!(
        "key_columns = 'id'\nkey_format = 'protobuf'\nkey_schema = '{samples}/trip.proto'\nkey_message = 'city.v1.Other'\n"
    );
    let described = plan(&format!("{least}{framed}{key_proto}{json}")).unwrap();
    let part = "JSON behind a schema's id, keys as Protobuf city.v1.Other of the schema ";
    assert!(described.contains(part) && described.ends_with(" behind a schema's id in id"), "{described}");
    // What a schema lacks is found when the pipeline is read.
    for (text, part) in [
        (format!("{avro}columns = {{ id = 'int64', fair = 'float64', gone = 'bool' }}"), "no field `fair` in"),
        (format!("{avro}columns = {{ id = 'int64', fare = 'int64', gone = 'bool' }}"), "`fare` is a double"),
        (format!("{proto}columns = {{ id = 'int64', fair = 'float64', gone = 'bool' }}"), "no field `fair` in"),
        (format!("{proto}columns = {{ id = 'string', fare = 'float64', gone = 'bool' }}"), "`id` is an integer"),
        (format!("{key}{key_file}columns = {{ id = 'string', v = 'string' }}"), "`id` is a long"),
        (
            format!("key_columns = 'idd'\nkey_format = 'avro'\n{key_file}columns = {{ idd = 'int64', v = 'string' }}"),
            "no field `idd` in",
        ),
        (
            format!("{key_proto}columns = {{ id = 'string', v = 'string' }}"),
            "column `id`: the field `id` is an integer",
        ),
        (key_proto.replace("Other", "Otter") + json, "no message `city.v1.Otter`"),
        (format!("{key}{json}"), "needs either `schema_registry` or `key_schema`"),
        (format!("{key}{key_file}{tls}{json}"), "`schema_registry` has no effect"),
        (format!("{key_file}{json}"), "`key_schema` has no effect"),
        (key.replace("key_columns = 'id'", tls) + json, "needs `key_columns`"),
        (format!("{key}{tls}schema_registry_ca = 'no.pem'\n{json}"), "`no.pem` cannot be read: No such file"),
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
            "brokers = 'b'\ntopics = 't'\nformat = 'avro'\nschema_registry = 'https://u:hunter2@r:x'\ncolumns = { k = 'int64' }",
            "its port is no number",
        ),
        (
            "brokers = 'b'\ntopics = 't'\nformat = 'avro'\nschema_registry = 'u:hunter2@r'\ncolumns = { k = 'int64' }",
            "expected `http[s]://host:port`",
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
        registry: None,
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
        registry: None,
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

/// Columns of which two come from the key, one from the value, and one says that it is a tombstone.
fn keyed_layout(format: Format, key_format: impl Fn(&RowSpec) -> KeyFormat, registry: Option<Address>) -> Layout {
    let columns = [("id", Type::Int64), ("zone", Type::String), ("v", Type::String), ("gone", Type::Bool)];
    let columns = columns.iter().map(|(n, t)| Column { name: (*n).into(), ty: *t, nullable: true }).collect();
    let spec = Arc::new(RowSpec::new(columns, &["id".into()], None, TimeFormat::Auto, 1 << 20));
    Layout {
        key_format: key_format(&spec),
        spec,
        format,
        registry,
        key: vec![0, 1],
        timestamp: None,
        topic: None,
        partition: None,
        offset: None,
        headers: Vec::new(),
        tombstone: Some(3),
    }
}

/// A message's key and value.
type Keyed<'a> = (Option<Vec<u8>>, Option<&'a [u8]>);

/// Decodes messages one by one: a row, or the reason of a fault and its detail.
fn decoded(decoder: &mut Decoder, layout: &Layout, messages: &[Keyed<'_>]) -> Vec<String> {
    let line = |(key, value): &Keyed<'_>| {
        let mut rows = Rows::new("s", layout.spec.clone(), 0);
        let value = value.map(<[u8]>::to_vec);
        let message = Message { offset: 0, timestamp_ms: None, key: key.clone(), value, headers: Vec::new() };
        decoder.decode(&Part { topic: "t".into(), id: 0 }, &message, &mut rows);
        let got = rows.take(serde_json::Value::Null, serde_json::Value::Null);
        match got.faults.first() {
            Some(fault) => format!("{}: {}", fault.reason, fault.detail),
            None => {
                let cells = got.rows.columns().iter().map(|c| types::json::to_json(&Value::at(c, 0)));
                serde_json::Value::from_iter(cells).to_string()
            }
        }
    };
    messages.iter().map(line).collect()
}

#[test]
fn keys_are_avro_or_protobuf() {
    let key = Arc::new(
        avro::Schema::parse(
            r#"{"type":"record","name":"K","fields":[{"name":"id","type":"long"},
            {"name":"more","type":"int"},{"name":"zone","type":["null","string"]}]}"#,
        )
        .unwrap(),
    );
    let json = Format::Json { framed: false };
    let by_avro =
        |spec: &RowSpec| KeyFormat::Avro(Schemas::One(key.clone(), avro_reader(key.clone(), &[0, 1], spec).unwrap()));
    let layout = keyed_layout(json.clone(), by_avro, None);
    // 3, 1, "ab"; 3, 1, null; cut off; more than is there.
    let keys = ["060202046162", "060200", "0602", "06020000"].map(|hex| Some(bytes(hex)));
    let value = &b"{\"id\":9,\"v\":\"x\"}"[..];
    let mut messages: Vec<Keyed<'_>> = keys.clone().map(|key| (key, Some(value))).to_vec();
    messages.extend([(keys[0].clone(), None), (None, None), (None, Some(value))]);
    let got = decoded(&mut Decoder::new(&layout), &layout, &messages);
    assert_eq!(got[..2], ["[3,\"ab\",\"x\",null]", "[3,null,\"x\",null]"]);
    assert!(got[2].starts_with("bad_avro: in the message's key: at byte 2 "), "{}", got[2]);
    assert!(got[3].starts_with("bad_avro: in the message's key: 1 bytes follow"), "{}", got[3]);
    assert_eq!(got[4], "[3,\"ab\",null,true]");
    assert!(got[5].starts_with("null_key: ") && got[6].starts_with("null_key: "), "{got:?}");

    // What is no record fills one column, and cannot fill several.
    let plain = |text: &str, columns: &[usize]| {
        avro_reader(Arc::new(avro::Schema::parse(text).unwrap()), columns, &layout.spec)
    };
    let mut rows = Rows::new("s", layout.spec.clone(), 0);
    plain("\"string\"", &[1]).unwrap().cells(&bytes("047a7a"), &mut rows).unwrap();
    plain("{\"type\":\"long\"}", &[0]).unwrap().cells(&bytes("01"), &mut rows).unwrap();
    rows.fill();
    rows.commit().unwrap();
    let got = rows.take(serde_json::Value::Null, serde_json::Value::Null).rows;
    assert_eq!((Value::at(got.column(0), 0), Value::at(got.column(1), 0)), (Value::Int(-1), Value::Str("zz".into())));
    assert!(plain("\"string\"", &[0, 1]).unwrap_err().detail.contains("several"));
    assert_eq!(
        plain("\"string\"", &[0]).unwrap_err().detail,
        "column `id`: it is a string and cannot be read as int64"
    );

    // Of a trip's fields the key has two.
    let samples = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/src/source/samples"));
    let trip = protobuf::message(samples, "trip.proto", "city.v1.Trip").unwrap();
    for framed in [false, true] {
        let by_protobuf = |spec: &RowSpec| {
            let paths = Paths::new([(0, vec!["id"]), (1, vec!["zone"])]);
            KeyFormat::Protobuf(Messages { reader: protobuf::Reader::new(trip.clone(), &paths, spec).unwrap(), framed })
        };
        let layout = keyed_layout(json.clone(), by_protobuf, None);
        // The second message of its file.
        let before = if framed { bytes("00000000070202") } else { Vec::new() };
        let key = |bytes: Vec<u8>| Some([before.clone(), bytes].concat());
        let messages = [
            (key(sample("proto_full")), Some(value)),
            (key(sample("proto_full")), None),
            (key(bytes("18")), Some(value)),
            (Some(bytes("000000000700")), Some(value)),
        ];
        let got = decoded(&mut Decoder::new(&layout), &layout, &messages);
        let zone = "Zür\\\"ich";
        assert_eq!(got[0], format!("[1099511627776,\"{zone}\",\"x\",null]"));
        assert_eq!(got[1], format!("[1099511627776,\"{zone}\",null,true]"));
        assert!(got[2].starts_with("bad_protobuf: in the message's key: "), "{}", got[2]);
        let reason = if framed { "wrong_type" } else { "bad_protobuf" };
        assert!(got[3].starts_with(&format!("{reason}: in the message's key: ")), "{}", got[3]);
    }
}

#[test]
fn a_schema_that_was_unknown_stays_so_when_its_batch_is_made_again() {
    let registry = StandIn::start(None);
    let address = Address::parse(&registry.url(), None).unwrap();
    let paths = Paths::new([(2, vec!["v"])]);
    let format = Format::Avro { schemas: Schemas::ById, paths, routes: String::new() };
    let layout = keyed_layout(format, |_| KeyFormat::Avro(Schemas::ById), Some(address));
    let schema = |fields: &str| {
        let schema = format!("{{\"type\":\"record\",\"name\":\"R\",\"fields\":[{fields}]}}");
        ok(&serde_json::json!({ "schema": schema }).to_string())
    };
    let key_schema = schema("{\"name\":\"id\",\"type\":\"long\"}");
    let value_schema = schema("{\"name\":\"v\",\"type\":\"string\"}");
    let (key, value) = (bytes("000000000106"), bytes("00000000020278"));
    let message = || Message {
        offset: 0,
        timestamp_ms: None,
        key: Some(key.clone()),
        value: Some(value.clone()),
        headers: Vec::new(),
    };
    let (mut now, mut decoder) = (std::time::Duration::ZERO, Decoder::new(&layout));
    // A second goes by, of the source's clock, until it is ready.
    let mut until_ready = |decoder: &mut Decoder| {
        while !decoder.is_ready(&message(), now) {
            assert_eq!(decoder.trouble(), None);
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        now += std::time::Duration::from_secs(11);
    };
    let row = |decoder: &mut Decoder| decoded(decoder, &layout, &[(Some(key.clone()), Some(&value))]).remove(0);

    // Neither is known: the key is looked at first, and both are written down.
    decoder.begin(None);
    until_ready(&mut decoder);
    assert_eq!(row(&mut decoder), "unknown_schema: in the message's key: the registry has no schema with the id 1");
    assert_eq!(decoder.unknown(), [1, 2]);
    // One is known by now.
    registry.set("/schemas/ids/1", key_schema);
    decoder.begin(None);
    until_ready(&mut decoder);
    assert_eq!(row(&mut decoder), "unknown_schema: the registry has no schema with the id 2");
    assert_eq!(decoder.unknown(), [2]);
    // Both are.
    registry.set("/schemas/ids/2", value_schema);
    decoder.begin(None);
    until_ready(&mut decoder);
    assert_eq!(row(&mut decoder), "[3,null,\"x\",null]");
    assert_eq!(decoder.unknown(), [0u32; 0]);
    // Another life makes the three batches again, and asks for what was known.
    let mut decoder = Decoder::new(&layout);
    for (unknown, part) in [(&[1, 2][..], "in the message's key: "), (&[2][..], "with the id 2"), (&[][..], "[3,null,")]
    {
        decoder.begin(Some(unknown));
        until_ready(&mut decoder);
        assert!(row(&mut decoder).contains(part), "{unknown:?}");
        assert_eq!(decoder.unknown(), [0u32; 0]);
    }
}

#[test]
fn values_of_schemas_that_refer_to_others_are_rows() {
    let registry = StandIn::start(None);
    let place = r#"{"type":"record","name":"p.Place","fields":[{"name":"city","type":"string"}]}"#;
    let trip = r#"{"type":"record","name":"p.Trip","fields":[{"name":"at","type":"Place"}]}"#;
    let references = serde_json::json!([{"name": "p.Place", "subject": "p.Place", "version": 1}]);
    let trip = serde_json::json!({"schema": trip, "references": references});
    registry.set("/schemas/ids/2", ok(&trip.to_string()));
    let address = Address::parse(&registry.url(), None).unwrap();
    let paths = Paths::new([(2, vec!["at", "city"])]);
    let format = Format::Avro { schemas: Schemas::ById, paths, routes: String::new() };
    let layout = keyed_layout(format, |_| KeyFormat::Json, Some(address));
    let mut decoder = Decoder::new(&layout);
    let key = Some(b"{\"id\":1}".to_vec());
    let value = bytes("00000000020278");
    let message =
        Message { offset: 0, timestamp_ms: None, key: key.clone(), value: Some(value.clone()), headers: Vec::new() };
    let mut now = std::time::Duration::ZERO;
    decoder.begin(None);
    // What it refers to is waited for, as the registry is.
    registry.set("/subjects/p.Place/versions/1?deleted=true", "HTTP/1.1 404 Not Found\r\n\r\n{\"error_code\":40402}");
    while decoder.trouble().is_none() {
        assert!(!decoder.is_ready(&message, now));
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    assert!(decoder.trouble().unwrap().contains("it lacks `/subjects/p.Place/versions/1"));
    let place = ok(&serde_json::json!({ "schema": place }).to_string());
    registry.set("/subjects/p.Place/versions/1?deleted=true", place);
    now += std::time::Duration::from_secs(2);
    while !decoder.is_ready(&message, now) {
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    assert_eq!(decoded(&mut decoder, &layout, &[(key, Some(&value))]), ["[1,null,\"x\",null]"]);
}
