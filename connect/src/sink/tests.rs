//! What needs no other side: sections and their mistakes, and what changes become. Delivery itself is in
//! `daemon/tests/sinks.rs` and `daemon/tests/kafka_sink.rs`.

use std::path::Path;

use types::{Change, Column, RowCodec, Schema, Type, Value};

use super::encode::{Encoded, Encoder, Key};

/// Plans a sink of this section; gives what it says of itself, or every mistake.
fn plan(section: &str) -> Result<String, String> {
    let text = format!(
        "name = \"p\"\n[sources.orders]\ntype = \"http\"\nkey = [\"id\", \"zone\"]\n[sources.orders.columns]\nid = \
         \"int64\"\nzone = \"string\"\nat = \"timestamp\"\n[sources.ticks]\ntype = \"http\"\n[sources.ticks.columns]\nx = \
         \"int64\"\n[steps.n]\noperator = \"aggregate\"\ninput = \"orders\"\nby = \"zone\"\ncompute = {{ n = \"count\" \
         }}\n[sinks.out]\n{section}"
    );
    let env = |name: &str| (name == "SECRET").then(|| "hunter2hunter2".to_owned());
    match engine::pipeline::load(Path::new("p.toml"), &text, &env, &catalogue()) {
        Ok(plan) => {
            assert!(!format!("{plan:?}").contains("hunter2"), "a secret is shown");
            assert!(plan.explain().contains("sink out:"), "{}", plan.explain());
            Ok(format!("{}: {}", plan.sinks[0].relation, plan.sinks[0].sink.describe()))
        }
        Err(problems) => Err(problems.iter().map(|p| p.to_string() + "\n").collect()),
    }
}

#[test]
fn sections_are_planned() {
    let kafka = "type = 'kafka'\nbrokers = 'b:1'\ntopic = 't'\n";
    for (section, told) in [
        (format!("{kafka}view = 'n'"), "n: topic t, changelog, exactly once"),
        (
            format!(
                "{kafka}view = 'orders'\nkey_format = 'json'\ntimestamp_column = 'at'\ntransactional_id = 'x'\n\
                 librdkafka = {{ 'sasl.password' = '${{SECRET}}' }}"
            ),
            "orders: topic t, changelog, exactly once",
        ),
        (
            format!(
                "{kafka}view = 'orders'\nmode = 'append'\nkey_columns = 'zone'\ndelivery = 'at_least_once'\nstart = 'now'"
            ),
            "orders: topic t, append, at least once",
        ),
        (
            format!("{kafka}view = 'faults'\nformat = 'dead_letter'\nof_source = 'orders'"),
            "faults: topic t, dead letters of orders, exactly once",
        ),
        ("type = 'file'\nview = 'n'\npath = 'out'".into(), "n: ndjson files in out, one every 64 MB or 60 s"),
        (
            "type = 'file'\nview = 'faults'\npath = 'out'\nformat = 'parquet'\nroll_mb = 0.5\nroll_secs = 1".into(),
            "faults: parquet files in out, one every 0.5 MB or 1 s",
        ),
    ] {
        assert_eq!(plan(&section), Ok(told.to_owned()), "{section}");
    }
}

#[test]
fn every_mistake_in_a_section_is_named() {
    let kafka = "type = 'kafka'\nbrokers = 'b:1'\ntopic = 't'\n";
    for (section, part) in [
        ("view = 'n'".to_owned(), "`type`"),
        ("type = 'kafak'\nview = 'n'".into(), "did you mean `kafka`"),
        ("type = 'kafka'\nview = 'n'\ntopic = 't'".into(), "`brokers`"),
        (format!("{kafka}view = 'm'"), "`m`"),
        (format!("{kafka}view = 'ticks'"), "pass by and are not stored"),
        (kafka.into(), "`view` is missing"),
        ("type = 'kafka'\nbrokers = 'b:1'\nview = 'n'\ntopic = 'a topic'".into(), "cannot be the name of a topic"),
        (format!("{kafka}view = 'n'\nmode = 'both'"), "`both`"),
        (format!("{kafka}view = 'n'\nkey_columns = 'zone'"), "`mode = \"append\"`"),
        (format!("{kafka}view = 'n'\nmode = 'append'\nkey_columns = 'zoen'"), "did you mean `zone`"),
        (format!("{kafka}view = 'orders'\nkey_format = 'text'"), "several need"),
        (format!("{kafka}view = 'orders'\ntimestamp_column = 'zone'"), "must be a timestamp column"),
        (format!("{kafka}view = 'n'\nformat = 'dead_letter'"), "is for `view = \"faults\"`"),
        (format!("{kafka}view = 'n'\nof_source = 'orders'"), "is for `format"),
        (format!("{kafka}view = 'n'\ntransactional_id = ''"), "must not be empty"),
        (
            format!("{kafka}view = 'n'\nlibrdkafka = {{ 'enable.idempotence' = 'false' }}"),
            "is set by the connector itself",
        ),
        (format!("{kafka}view = 'n'\nlibrdkafka = {{ 'sasl.pass' = 'hunter2' }}"), "there is no `sasl.pass`"),
        (format!("{kafka}view = 'n'\nroll_mb = 3"), "unknown key `roll_mb`"),
        ("type = 'file'\nview = 'n'".into(), "`path`"),
        ("type = 'file'\nview = 'n'\npath = ''".into(), "must name a folder"),
        ("type = 'file'\nview = 'n'\npath = 'o'\nformat = 'xml'".into(), "`xml`"),
        ("type = 'file'\nview = 'n'\npath = 'o'\nroll_secs = 0".into(), "between 0.01 and 86400"),
    ] {
        let said = plan(&section).expect_err(&section);
        assert!(said.contains(part), "{part} in {said}");
        assert!(!said.contains("hunter2"), "{said}");
    }
}

#[test]
fn the_manual_has_every_option() {
    let manual = include_str!("../../../docs/pipeline.md");
    for options in
        [&engine::pipeline::SINK_OPTIONS[..], super::kafka_options::DEF.options, super::file_options::DEF.options]
    {
        for row in engine::manual::options(options).lines() {
            assert!(manual.contains(row), "docs/pipeline.md lacks: {row}");
        }
    }
}

#[test]
fn changes_become_keys_and_values() {
    let column = |name: &str, ty| Column { name: name.into(), ty, nullable: true };
    let schema = Schema {
        columns: vec![
            column("zone", Type::String),
            column("x", Type::Float64),
            column("at", Type::Timestamp),
            column("id", Type::Int64),
        ],
        key: vec![3, 0],
        event_time: None,
        append_only: false,
    };
    let codec = RowCodec::new(&schema);
    let row = [Value::Str("a\"b".into()), Value::Float(f64::NAN), Value::Time(1_500_000), Value::Int(7)];
    let batch = codec.batch(&[row.to_vec()]);
    let (keys, values) = (codec.keys(&batch), codec.values(&batch));
    let (key, value) = (keys.row(0).as_ref().to_vec(), values.row(0).as_ref().to_vec());
    let is = |key_of: Key, time: Option<usize>, after: bool| {
        let encoder = Encoder::new(&schema, key_of, time);
        let mut out = Encoded::default();
        let change = Change { key: &key, before: None, after: after.then_some(value.as_slice()) };
        encoder.encode(&change, &mut out).unwrap();
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        (text(&out.key), out.has_value.then(|| text(&out.value)), out.time_ms)
    };
    let json = r#"{"zone":"a\"b","x":"NaN","at":"1970-01-01T00:00:01.5Z","id":7}"#;
    assert_eq!(is(Key::None, None, true), (String::new(), Some(json.into()), None));
    assert_eq!(is(Key::Text(0), None, true), ("a\"b".into(), Some(json.into()), None));
    assert_eq!(is(Key::Text(1), Some(2), true), ("NaN".into(), Some(json.into()), Some(1500)));
    assert_eq!(is(Key::Text(2), None, true), ("1970-01-01T00:00:01.5Z".into(), Some(json.into()), None));
    assert_eq!(is(Key::Json(vec![3, 0]), Some(2), false), (r#"{"id":7,"zone":"a\"b"}"#.into(), None, None));
}

/// What the pipelines of these tests can name.
fn catalogue() -> engine::Catalogue {
    engine::Catalogue { connectors: crate::connectors(), sinks: crate::sinks(), operators: operators::operators() }
}
