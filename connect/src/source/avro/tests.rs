//! Values that fastavro wrote, read as rows; schemas that change; bytes that are no values.

use std::sync::Arc;

use types::Type;
use types::time::{TimeFormat, Unit};

use super::super::samples::{bytes, columns, rows, sample};
use super::*;

const TRIP: &str = include_str!("../samples/trip.avsc");

fn schema(text: &str) -> Arc<Schema> {
    Arc::new(Schema::parse(text).unwrap())
}

/// Reads values of a schema; a column's name is its field's, unless it has a path.
fn read(text: &str, of: &[(&str, Type, &str)], messages: &[Vec<u8>]) -> Vec<String> {
    let (spec, paths) = columns(of, TimeFormat::Auto);
    let reader = Reader::new(schema(text), &paths, &spec).unwrap();
    rows(&spec, messages, |message, rows| reader.row(message, rows))
}

/// Why values of a schema can never fill columns.
fn refused(text: &str, of: &[(&str, Type, &str)], time: TimeFormat) -> String {
    let (spec, paths) = columns(of, time);
    let bad = Reader::new(schema(text), &paths, &spec).unwrap_err();
    assert_eq!(bad.reason, "wrong_type");
    bad.detail
}

#[test]
fn every_type_is_read() {
    let of = [
        ("done", Type::Bool, "done"),
        ("riders", Type::Int64, "riders"),
        ("id", Type::Int64, "id"),
        ("weight", Type::Float64, "weight"),
        ("fare", Type::Float64, "fare"),
        ("blob", Type::String, "blob"),
        ("zone", Type::String, "zone"),
        ("kind", Type::String, "kind"),
        ("code", Type::String, "code"),
        ("note", Type::String, "note"),
        ("at", Type::Timestamp, "at"),
        ("at_us", Type::Timestamp, "at_us"),
        ("day", Type::Timestamp, "day"),
        ("price", Type::Float64, "price"),
        ("uuid", Type::String, "uuid"),
    ];
    let expected = [
        "[true,3,1099511627776,1.5,12.75,\"raw é\",\"Zür\\\"ich\",\"BOOKED\",\"ABCD\",\"late\",\"2026-01-31T12:00:00.25Z\",\
         \"1969-12-31T23:59:59.999999Z\",\"2026-02-28T00:00:00Z\",-123.45,\"01234567-89ab-cdef-0123-456789abcdef\"]",
        "[false,-2147483648,9223372036854775807,\"Infinity\",\"NaN\",\"\",\"\",\"STREET\",\"ABCD\",null,\
         \"1970-01-01T00:00:00Z\",null,\"0001-01-01T00:00:00Z\",0.0,\"01234567-89ab-cdef-0123-456789abcdef\"]",
    ];
    assert_eq!(read(TRIP, &of, &[sample("avro_full"), sample("avro_edge")]), expected);
}

#[test]
fn numbers_widen_and_times_and_decimals_are_also_numbers_and_text() {
    let of = [
        ("riders", Type::Float64, "riders"),
        ("at", Type::Int64, "at"),
        ("day", Type::Int64, "day"),
        ("price", Type::String, "price"),
        ("at2", Type::Timestamp, "at"),
    ];
    let expected = ["[3.0,1769860800250,20512,\"-123.45\",\"2026-01-31T12:00:00.25Z\"]"];
    assert_eq!(read(TRIP, &of, &[sample("avro_full")]), expected);
}

#[test]
fn decimals_are_whole_numbers_or_faults() {
    let of = [("n", Type::Decimal, "n"), ("d", Type::Decimal, "d")];
    let text = r#"{"type":"record","name":"r","fields":[{"name":"n","type":"long"},
        {"name":"d","type":{"type":"bytes","logicalType":"decimal","precision":38,"scale":2}}]}"#;
    let value = |unscaled: i128| {
        let written = unscaled.to_be_bytes();
        [&[0x01, 2 * written.len() as u8][..], &written].concat()
    };
    let most = i128::from(u64::MAX);
    let got = read(text, &of, &[value(-12_300), value(12_345), value(most * 100), value(10i128.pow(38))]);
    assert_eq!(got[0], "[-1,-123]");
    assert_eq!(got[1], "bad_value: column `d`: expected decimal, found `123.45`");
    assert_eq!(got[2], format!("[-1,{most}]"));
    assert!(got[3].starts_with("out_of_range: column `d`"), "{}", got[3]);
}

#[test]
fn types_of_other_schemas_are_known_by_their_names() {
    let kind = r#"{"type":"enum","name":"Kind","symbols":["NEW","OLD"]}"#;
    let place = r#"{"type":"record","name":"Place","namespace":"p","fields":[{"name":"x","type":"long"},
        {"name":"kind","type":"Kind"}]}"#;
    let trip = r#"{"type":"record","name":"p.Trip","fields":[{"name":"at","type":"Place"},
        {"name":"kind","type":["null","Kind"]}]}"#;
    let schema = Schema::parse_last(&[kind, place, trip]).unwrap();
    let of = [("x", Type::Int64, "at.x"), ("there", Type::String, "at.kind"), ("kind", Type::String, "kind")];
    let (spec, paths) = columns(&of, TimeFormat::Auto);
    let reader = Reader::new(Arc::new(schema), &paths, &spec).unwrap();
    let got = rows(&spec, &[bytes("06020200")], |message, rows| reader.row(message, rows));
    assert_eq!(got, ["[3,\"OLD\",\"NEW\"]"]);
    let said = Schema::parse_last(&[kind, trip]).unwrap_err();
    assert!(said.contains("no type `p.Place` in it, or in what it refers to"), "{said}");
    assert!(Schema::parse_last(&[kind, kind]).unwrap_err().contains("`Kind` is defined twice"));
}

#[test]
fn nested_values_are_read_by_paths_or_as_json() {
    let of = [
        ("lat", Type::Float64, "from.lat"),
        ("floor", Type::Int64, "from.more.floor"),
        ("from", Type::String, "from"),
        ("stops", Type::String, "stops"),
        ("tags", Type::String, "tags"),
        ("came_from", Type::Float64, "back.from.lat"),
        ("back", Type::String, "back"),
    ];
    let back = "{\"done\":true,\"riders\":3,\"id\":1099511627776,\"weight\":1.5,\"fare\":12.75,\"blob\":\"raw Ã©\",\
                \"zone\":\"Zür\\\"ich\",\"kind\":\"BOOKED\",\"code\":\"ABCD\",\"note\":\"late\",\
                \"at\":\"2026-01-31T12:00:00.25Z\",\"at_us\":\"1969-12-31T23:59:59.999999Z\",\
                \"day\":\"2026-02-28T00:00:00Z\",\"price\":\"-123.45\",\"uuid\":\"01234567-89ab-cdef-0123-456789abcdef\",\
                \"from\":{\"lat\":47.25,\"more\":{\"floor\":-7}},\"stops\":[1,-2,300000],\"tags\":{\"a\":1,\"b\":null},\
                \"back\":null}";
    let text = |json: &str| serde_json::Value::from(json).to_string();
    let expected = [
        format!(
            "[47.25,-7,{},\"[1,-2,300000]\",{},null,null]",
            text("{\"lat\":47.25,\"more\":{\"floor\":-7}}"),
            text("{\"a\":1,\"b\":null}")
        ),
        format!("[-0.5,null,{},\"[]\",\"{{}}\",47.25,{}]", text("{\"lat\":-0.5,\"more\":null}"), text(back)),
    ];
    assert_eq!(read(TRIP, &of, &[sample("avro_full"), sample("avro_edge")]), expected);
}

#[test]
fn older_and_newer_schemas_lie_in_one_table() {
    let of = [("id", Type::Int64, "id"), ("n", Type::Float64, "n"), ("w", Type::String, "w")];
    let record = |fields: &str| format!("{{\"type\":\"record\",\"name\":\"R\",\"fields\":[{fields}]}}");
    let field = |name: &str, ty: &str| format!("{{\"name\":\"{name}\",\"type\":{ty}}}");
    let one = record(&[field("id", "\"long\""), field("n", "\"int\""), field("old", "\"string\"")].join(","));
    let two = record(&[field("n", "[\"null\",\"long\"]"), field("id", "\"int\""), field("w", "\"string\"")].join(","));
    let three = record(
        &[field("w", "[\"null\",\"string\"]"), field("n", "[\"double\",\"null\"]"), field("id", "\"long\"")].join(","),
    );
    assert_eq!(read(&one, &of, &[sample("avro_age_1")]), ["[1,7.0,null]"]);
    assert_eq!(read(&two, &of, &[sample("avro_age_2")]), ["[2,8589934592.0,\"new\"]"]);
    assert_eq!(read(&three, &of, &[sample("avro_age_3")]), ["[3,0.5,null]"]);
}

#[test]
fn the_examples_of_the_specification() {
    let text = r#"{"type":"record","name":"test","fields":[{"name":"a","type":"long"},{"name":"b","type":"string"}]}"#;
    let of = [("a", Type::Int64, "a"), ("b", Type::String, "b")];
    assert_eq!(read(text, &of, &[bytes("3606666f6f")]), ["[27,\"foo\"]"]);
    let number = r#"{"type":"record","name":"test","fields":[{"name":"a","type":"long"}]}"#;
    let written = ["00", "01", "02", "03", "7f", "8001"].map(bytes);
    assert_eq!(read(number, &of[..1], &written), ["[0]", "[-1]", "[1]", "[-2]", "[-64]", "[64]"]);
    let array = r#"{"type":"record","name":"test","fields":[{"name":"a","type":{"type":"array","items":"long"}}]}"#;
    let of = [("a", Type::String, "a")];
    // In one block, and in one that says its size.
    assert_eq!(
        read(array, &of, &["04063600", "0304063600"].map(bytes)),
        ["\"[3,27]\"", "\"[3,27]\""].map(|t| format!("[{t}]"))
    );
    let union = r#"{"type":"record","name":"test","fields":[{"name":"a","type":["null","string"]}]}"#;
    assert_eq!(read(union, &of, &["00", "020261"].map(bytes)), ["[null]", "[\"a\"]"]);
}

#[test]
fn what_is_no_value_of_its_schema_is_one_fault() {
    let of = [("id", Type::Int64, "id"), ("stops", Type::String, "stops")];
    let full = sample("avro_full");
    let mut longer = full.clone();
    longer.push(0);
    let messages = [&full[..full.len() - 1], &full[..1], &[], &longer, &full].map(<[u8]>::to_vec);
    let got = read(TRIP, &of, &messages);
    assert_eq!(got[4], "[1099511627776,\"[1,-2,300000]\"]");
    for (got, part) in got.iter().zip(["has 0 left", "has 0 left", "has 0 left", "1 bytes follow the value"]) {
        assert!(got.starts_with("bad_avro: ") && got.contains(part), "{got}");
    }
    let check = |ty: &str, of: Type, hex: &str, reason: &str| {
        let text = format!("{{\"type\":\"record\",\"name\":\"r\",\"fields\":[{{\"name\":\"a\",\"type\":{ty}}}]}}");
        let got = read(&text, &[("a", of, "a")], &[bytes(hex)]);
        assert!(got[0].starts_with(reason), "{ty} {hex}: {got:?}");
    };
    check("\"boolean\"", Type::Bool, "02", "bad_avro: a boolean is");
    check("\"int\"", Type::Int64, "8080808010", "bad_avro: at byte 0 is an int of more");
    check("\"long\"", Type::Int64, "ffffffffffffffffff02", "bad_avro: at byte 0 is a number of more");
    check("\"long\"", Type::Int64, "80808080808080808080808000", "bad_avro");
    check("\"string\"", Type::String, "01", "bad_avro: at byte 0 is a length of -1");
    check("\"string\"", Type::String, "feffffffffffffffff01", "bad_avro");
    check("\"string\"", Type::String, "02ff", "invalid_utf8");
    check("\"string\"", Type::String, "0200", "nul_byte");
    check("\"bytes\"", Type::String, "02ff", "invalid_utf8");
    check("[\"null\",\"long\"]", Type::Int64, "04", "bad_avro: a union of 2 types has one numbered 2");
    check("{\"type\":\"enum\",\"name\":\"e\",\"symbols\":[\"A\"]}", Type::String, "02", "bad_avro: an enum");
    check(
        "{\"type\":\"long\",\"logicalType\":\"timestamp-millis\"}",
        Type::Timestamp,
        "feffffffffffffffff01",
        "out_of_range",
    );
    // Items without bytes, counted up; a record that holds nothing but itself.
    let nulls = "{\"type\":\"array\",\"items\":\"null\"}";
    check(nulls, Type::String, "feffffffffffffffff0100", "bad_avro: it has more items than its bytes can mean");
    check(nulls, Type::String, "ffffffffffffffffff010000", "bad_avro: it has more items");
    let itself = "{\"type\":\"record\",\"name\":\"x\",\"fields\":[{\"name\":\"x\",\"type\":\"x\"}]}";
    check(itself, Type::String, "", "too_deep");
}

#[test]
fn a_branch_of_a_union_that_does_not_fit_is_a_fault_of_its_values_alone() {
    let text = r#"{"type":"record","name":"r","fields":[{"name":"a","type":["null","long","string"]}]}"#;
    let got = read(text, &[("a", Type::Int64, "a")], &["0206", "00", "040278"].map(bytes));
    assert_eq!(got[..2], ["[3]", "[null]"]);
    assert_eq!(got[2], "wrong_type: column `a`: the field `a` is a string and cannot be read as int64");
}

#[test]
fn what_a_schema_can_never_give_a_column_is_found_before_any_value() {
    let check = |ty: Type, path: &str, part: &str| {
        let said = refused(TRIP, &[("c", ty, path)], TimeFormat::Auto);
        assert!(said.starts_with("column `c`: ") && said.contains(part), "{part} in {said}");
    };
    check(Type::Int64, "zone", "`zone` is a string and cannot be read as int64");
    check(Type::Int64, "fare", "`fare` is a double");
    check(Type::Int64, "price", "`price` is a decimal");
    check(Type::String, "id", "`id` is a long");
    check(Type::Bool, "riders", "`riders` is an int");
    check(Type::Timestamp, "id", "only with a `timestamp_unit`");
    check(Type::Int64, "note", "`note` is a string");
    check(Type::Int64, "from", "`from` is a record");
    check(Type::Int64, "zone.x", "`zone` is a string and has no fields of its own");
    let (spec, paths) = columns(&[("c", Type::Timestamp, "id")], TimeFormat::Epoch(Unit::Second));
    assert!(Reader::new(schema(TRIP), &paths, &spec).is_ok());
    let (_, paths) = columns(&[("a", Type::Int64, "idd"), ("b", Type::Int64, "from.more.flor")], TimeFormat::Auto);
    let missing: Vec<String> = missing(&schema(TRIP), &paths)
        .into_iter()
        .map(|(path, there, c)| format!("{path} {c} {}", there.len()))
        .collect();
    assert_eq!(missing, ["idd 0 19", "from.more.flor 1 1"]);
}

#[test]
fn schemas_that_are_none_are_refused() {
    let record = |fields: &str| format!("{{\"type\":\"record\",\"name\":\"r\",\"fields\":{fields}}}");
    for (text, part) in [
        ("{", "no JSON"),
        ("5", "`5` is no type"),
        ("{\"name\":\"r\"}", "no `type`"),
        ("{\"type\":\"record\",\"fields\":[]}", "no `name`"),
        ("{\"type\":\"record\",\"name\":\"r\"}", "no list of `fields`"),
        (&record("[{\"type\":\"long\"}]"), "no `name`"),
        (&record("[{\"name\":\"a\"}]"), "`r.a` has no `type`"),
        (&record("[{\"name\":\"a\",\"type\":\"lon\"}]"), "no type `lon`"),
        (&record("[{\"name\":\"a\",\"type\":\"int\"},{\"name\":\"a\",\"type\":\"int\"}]"), "field `a` twice"),
        (&record("[{\"name\":\"a\",\"type\":[\"int\",[\"long\"]]}]"), "a union holds a union"),
        (&record("[{\"name\":\"a\",\"type\":{\"type\":\"array\"}}]"), "no `items`"),
        (&record("[{\"name\":\"a\",\"type\":{\"type\":\"fixed\",\"name\":\"r\",\"size\":1}}]"), "`r` is defined twice"),
        (&record("[{\"name\":\"a\",\"type\":{\"type\":\"fixed\",\"name\":\"f\",\"size\":-1}}]"), "no `size`"),
        (&record("[{\"name\":\"a\",\"type\":{\"type\":\"enum\",\"name\":\"e\"}}]"), "no list of `symbols`"),
    ] {
        let said = Schema::parse(text).unwrap_err();
        assert!(said.contains(part), "{part} in {said}");
    }
    let nested = |n: usize| {
        let ty = format!("{}\"int\"{}", "{\"type\":\"array\",\"items\":".repeat(n), "}".repeat(n));
        record(&format!("[{{\"name\":\"a\",\"type\":{ty}}}]"))
    };
    assert!(Schema::parse(&nested(60)).is_ok());
    assert!(Schema::parse(&nested(70)).unwrap_err().contains("deeper"));
}

#[test]
fn a_fingerprint_is_of_what_is_read() {
    let of = |text: &str| Schema::parse(text).unwrap().fingerprint();
    let said = TRIP.replace("with every type there is", "in other words").replace(", \"default\": null", "");
    assert_eq!(of(TRIP), of(&said));
    assert_ne!(of(TRIP), of(&TRIP.replace("timestamp-millis", "timestamp-micros")));
}

/// Arrow's own writer of Avro, as a second opinion on the wire format of registries and on every nullable column.
#[test]
fn what_arrow_writes_is_read() {
    use arrow::array::{BooleanArray, Float64Array, Int64Array, RecordBatch, StringArray, TimestampMillisecondArray};
    use arrow::datatypes::{DataType, Field, Schema as ArrowSchema, TimeUnit};
    use arrow_avro::schema::{AvroSchema, FingerprintStrategy};
    use arrow_avro::writer::WriterBuilder;
    use arrow_avro::writer::format::AvroSoeFormat;

    let time = DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into()));
    let fields = [
        ("i", DataType::Int64),
        ("f", DataType::Float64),
        ("s", DataType::Utf8),
        ("b", DataType::Boolean),
        ("t", time.clone()),
    ];
    let fields: Vec<Field> = fields.into_iter().map(|(n, t)| Field::new(n, t, true)).collect();
    let arrow_schema = ArrowSchema::new(fields);
    let batch = RecordBatch::try_new(
        Arc::new(arrow_schema.clone()),
        vec![
            Arc::new(Int64Array::from(vec![Some(i64::MIN), None])),
            Arc::new(Float64Array::from(vec![Some(0.1), None])),
            Arc::new(StringArray::from(vec![Some("é"), None])),
            Arc::new(BooleanArray::from(vec![Some(true), None])),
            Arc::new(TimestampMillisecondArray::from(vec![Some(1_500), None]).with_data_type(time)),
        ],
    )
    .unwrap();
    let text = AvroSchema::try_from(&arrow_schema).unwrap().json_string;
    let mut encoder = WriterBuilder::new(arrow_schema)
        .with_fingerprint_strategy(FingerprintStrategy::Id(42))
        .build_encoder::<AvroSoeFormat>()
        .unwrap();
    encoder.encode(&batch).unwrap();
    let written = encoder.flush();
    let messages: Vec<Vec<u8>> = (0..2)
        .map(|row| {
            let message = written.row(row).unwrap();
            assert_eq!(&message[..5], [0, 0, 0, 0, 42]);
            message[5..].to_vec()
        })
        .collect();
    let of = [
        ("i", Type::Int64, "i"),
        ("f", Type::Float64, "f"),
        ("s", Type::String, "s"),
        ("b", Type::Bool, "b"),
        ("t", Type::Timestamp, "t"),
    ];
    let expected = ["[-9223372036854775808,0.1,\"é\",true,\"1970-01-01T00:00:01.5Z\"]", "[null,null,null,null,null]"];
    assert_eq!(read(&text, &of, &messages), expected);
}
