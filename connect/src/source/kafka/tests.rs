//! What needs no broker: sections and their mistakes, messages and their rows. The rest is in `daemon/tests/kafka.rs`.

use std::path::Path;
use std::sync::Arc;

use types::{Column, Type, Value};

use super::super::cells::{RowSpec, Rows};
use types::time::TimeFormat;
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
        Format::Json,
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
