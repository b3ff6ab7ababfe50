//! Messages that Google's library wrote, read as rows; schemas and bytes that are none.

use std::path::PathBuf;

use types::Type;
use types::time::{TimeFormat, Unit};

use super::super::samples::{bytes, columns, rows, sample};
use super::*;

fn folder() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/src/source/samples"))
}

fn trip() -> MessageDescriptor {
    message(&folder(), "trip.proto", "city.v1.Trip").unwrap()
}

fn read(of: &[(&str, Type, &str)], messages: &[Vec<u8>]) -> Vec<String> {
    let (spec, paths) = columns(of, TimeFormat::Auto);
    let reader = Reader::new(trip(), &paths, &spec).unwrap();
    rows(&spec, messages, |message, rows| reader.row(message, rows))
}

#[test]
fn every_type_is_read() {
    let of = [
        ("done", Type::Bool, "done"),
        ("riders", Type::Int64, "riders"),
        ("id", Type::Int64, "id"),
        ("big", Type::Float64, "big"),
        ("delta", Type::Int64, "delta"),
        ("fixed", Type::Int64, "fixed"),
        ("weight", Type::Float64, "weight"),
        ("fare", Type::Float64, "fare"),
        ("blob", Type::String, "blob"),
        ("zone", Type::String, "zone"),
        ("kind", Type::String, "kind"),
        ("note", Type::String, "note"),
        ("at", Type::Timestamp, "at"),
        ("seats", Type::Int64, "seats"),
        ("cash", Type::Float64, "cash"),
        ("card", Type::String, "card"),
    ];
    let expected = [
        "[true,-3,1099511627776,5.0,-6,7,1.5,12.75,\"raw é\",\"Zür\\\"ich\",\"BOOKED\",\"late\",\
         \"2026-01-31T12:00:00.25Z\",0,null,\"visa\"]",
        "[false,0,-9223372036854775808,1.8446744073709552e+19,0,0,\"-Infinity\",0.0,\"\",\"\",\"77\",null,\
         \"1969-12-31T23:59:59.999999Z\",null,0.0,null]",
        // Nothing at all is a message too.
        "[false,0,0,0.0,0,0,0.0,0.0,\"\",\"\",\"STREET\",null,null,null,null,null]",
    ];
    assert_eq!(read(&of, &["proto_full", "proto_edge", "proto_empty"].map(sample)), expected);
}

#[test]
fn nested_values_are_read_by_paths_or_as_json() {
    let of = [
        ("lat", Type::Float64, "from.lat"),
        ("floor", Type::Int64, "from.floor"),
        ("from", Type::String, "from"),
        ("stops", Type::String, "stops"),
        ("tags", Type::String, "tags"),
        ("back", Type::Int64, "back.id"),
        ("back_lat", Type::Float64, "back.from.lat"),
    ];
    let expected = [
        "[47.25,0,\"{\\\"lat\\\":47.25,\\\"floor\\\":0}\",\"[1,-2,300000]\",\"{\\\"a\\\":1,\\\"b\\\":2}\",9,null]",
        "[-0.5,null,\"{\\\"lat\\\":-0.5}\",\"[]\",\"{}\",null,null]",
    ];
    assert_eq!(read(&of, &["proto_full", "proto_edge"].map(sample)), expected);
    // A whole message as JSON: times as text, bytes in base64, a wrapped number bare, what is not there left out.
    let (spec, paths) = columns(&[("back", Type::String, "back")], TimeFormat::Auto);
    let reader = Reader::new(trip(), &paths, &spec).unwrap();
    let mut outer = bytes("a201");
    let full = sample("proto_full");
    outer.extend([(full.len() % 128) as u8 | 0x80, (full.len() / 128) as u8]);
    outer.extend(&full);
    let got = rows(&spec, &[outer], |message, rows| reader.row(message, rows));
    let cell: Vec<String> = serde_json::from_str(&got[0]).unwrap();
    let expected = "{\"done\":true,\"riders\":-3,\"id\":1099511627776,\"big\":5,\"delta\":-6,\"fixed\":7,\"weight\":1.5,\
                    \"fare\":12.75,\"blob\":\"cmF3IMOp\",\"zone\":\"Zür\\\"ich\",\"kind\":\"BOOKED\",\"note\":\"late\",\
                    \"at\":\"2026-01-31T12:00:00.25Z\",\"seats\":0,\"from\":{\"lat\":47.25,\"floor\":0},\
                    \"stops\":[1,-2,300000],\"tags\":{\"a\":1,\"b\":2},\"card\":\"visa\",\"back\":{\"id\":9}}";
    assert_eq!(cell, [expected]);
}

#[test]
fn fields_that_are_not_known_are_passed_over_and_numbers_that_do_not_fit_are_faults() {
    let of = [("id", Type::Int64, "id"), ("big", Type::Decimal, "big")];
    assert_eq!(read(&of, &[sample("proto_edge")]), ["[-9223372036854775808,18446744073709551615]"]);
    let of = [("id", Type::Int64, "id"), ("big", Type::Int64, "big")];
    let got = read(&of, &["proto_unknown", "proto_too_big", "proto_edge"].map(sample));
    assert_eq!(got[0], "[4,0]");
    assert_eq!(got[1], "out_of_range: column `big`: expected int64, found `9223372036854775808`");
    assert!(got[2].starts_with("out_of_range"), "{}", got[2]);
}

#[test]
fn what_is_no_message_is_one_fault() {
    let full = sample("proto_full");
    let deep = (0..200).fold(Vec::new(), |inner: Vec<u8>, _| {
        let mut outer = bytes("a201");
        let mut length = inner.len();
        while length >= 0x80 {
            outer.push(length as u8 | 0x80);
            length >>= 7;
        }
        outer.push(length as u8);
        outer.extend(inner);
        outer
    });
    let messages = [
        full[..full.len() - 1].to_vec(),
        // A length of what is not there, and one that is more than there can be.
        bytes("52ff01"),
        bytes("52ffffffffffffffffff01"),
        // A number where there is to be text; a group that never ends; the field 0; a packed list cut off.
        bytes("5001"),
        bytes("53"),
        bytes("0001"),
        bytes("820102ffff"),
        deep,
        full,
    ];
    let got = read(&[("id", Type::Int64, "id")], &messages);
    for (got, message) in got.iter().zip(&messages[..8]) {
        assert!(got.starts_with("bad_protobuf: "), "{message:x?}: {got}");
    }
    assert_eq!(got[8], "[1099511627776]");
    // The year of -292 thousand million.
    let long_ago = bytes(&format!("6a0b08{}01", "80".repeat(9)));
    let got = read(&[("at", Type::Timestamp, "at")], &[long_ago]);
    assert!(got[0].starts_with("out_of_range"), "{got:?}");
}

#[test]
fn text_that_is_no_utf8_is_a_fault_only_where_it_is_asked_for() {
    let id = "1807";
    let (zone, tags, card, back) = ("5201ff", "8a01050a01ff1005", "9a0101ff", "a201035201ff");
    let messages = [zone, tags, card, back].map(|broken| bytes(&format!("{id}{broken}")));
    assert_eq!(read(&[("id", Type::Int64, "id")], &messages), ["[7]"; 4]);
    let check = |of: Type, path: &str, is_fault: [bool; 4]| {
        let got = read(&[("c", of, path)], &messages);
        assert_eq!(got.iter().map(|row| row.starts_with("bad_protobuf: ")).collect::<Vec<_>>(), is_fault, "{path}");
    };
    // A message's fields are asked for wherever it stands.
    check(Type::String, "zone", [true, false, false, true]);
    check(Type::String, "tags", [false, true, false, false]);
    check(Type::String, "card", [false, false, true, false]);
    check(Type::String, "back", [true, true, true, true]);
    check(Type::Int64, "back.id", [false, false, false, false]);
    // A member of a `oneof` takes the place of another, broken or not.
    let cash = "9101000000000000e03f";
    let messages = [bytes(cash), bytes(&format!("{cash}{card}"))];
    assert_eq!(read(&[("cash", Type::Float64, "cash")], &messages), ["[0.5]", "[null]"]);
}

#[test]
fn what_the_schema_can_never_give_a_column_is_a_mistake() {
    let of = [
        ("a", Type::Int64, "zone"),
        ("b", Type::Int64, "riderz"),
        ("c", Type::Timestamp, "id"),
        ("d", Type::Int64, "at"),
        ("e", Type::Int64, "from.lot"),
        ("f", Type::Int64, "zone.x"),
        ("g", Type::Int64, "stops"),
        ("h", Type::Float64, "from"),
    ];
    let (spec, paths) = columns(&of, TimeFormat::Auto);
    let mut wrong = Reader::new(trip(), &paths, &spec).unwrap_err();
    wrong.sort();
    let expected = [
        (0, "`zone` is a string and cannot be read as int64"),
        (1, "no field `riderz` in `city.v1.Trip`; the nearest there is `riders`"),
        (2, "numbers are times only with a `timestamp_unit`"),
        (3, "`at` is a timestamp"),
        (4, "no field `from.lot` in `city.v1.Place`; the nearest there is `from.lat`"),
        (5, "`zone` is a string and has no fields of its own"),
        (6, "`stops` is repeated"),
        (7, "`from` is the message `city.v1.Place`"),
    ];
    assert_eq!(wrong.len(), expected.len(), "{wrong:?}");
    for ((column, said), (expected, part)) in wrong.iter().zip(expected) {
        assert!(*column == expected && said.contains(part), "{column} {said}");
    }
    let (spec, paths) = columns(&[("c", Type::Timestamp, "id")], TimeFormat::Epoch(Unit::Milli));
    assert!(Reader::new(trip(), &paths, &spec).is_ok());
}

#[test]
fn files_that_are_no_schemas_are_told_with_their_place() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    write("broken.proto", "syntax = \"proto3\";\nmessage M {\n  int32 a = ;\n}\n");
    write("unknown.proto", "syntax = \"proto3\";\nmessage M {\n  Other a = 1;\n}\n");
    write("lacks.proto", "syntax = \"proto3\";\nimport \"not/there.proto\";\nmessage M {}\n");
    std::fs::create_dir(folder.path().join("below")).unwrap();
    write("below/beside.proto", "syntax = \"proto3\";\npackage p;\nmessage N { int64 a = 1; }\n");
    write("below/good.proto", "syntax = \"proto3\";\npackage p;\nimport \"beside.proto\";\nmessage M { N n = 1; }\n");
    let said = |file: &str, name: &str| message(folder.path(), file, name).map(|m| m.full_name().to_owned());
    assert_eq!(said("below/good.proto", "p.M"), Ok("p.M".to_owned()));
    for (file, name, key, part) in [
        ("broken.proto", "M", "schema", "broken.proto:3:"),
        ("unknown.proto", "M", "schema", "unknown.proto:3:"),
        ("lacks.proto", "M", "schema", "not/there.proto"),
        ("gone.proto", "M", "schema", "No such file"),
        ("below/good.proto", "p.m", "message", "no message `p.m` in `below/good.proto`; the nearest there is `p.M`"),
    ] {
        let (wrong, why) = said(file, name).unwrap_err();
        assert!(wrong == key && why.contains(part), "{wrong}: {why}");
    }
}

#[test]
fn a_fingerprint_is_of_what_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let of = |text: &str| {
        std::fs::write(folder.path().join("m.proto"), format!("syntax = \"proto3\";\n{text}")).unwrap();
        let (spec, paths) = columns(&[("a", Type::Int64, "a"), ("k", Type::String, "k")], TimeFormat::Auto);
        Reader::new(message(folder.path(), "m.proto", "M").unwrap(), &paths, &spec).unwrap().fingerprint()
    };
    let first = of("enum K { X = 0; } message M { int64 a = 1; K k = 2; }");
    assert_eq!(of("enum K { X = 0; } // A remark.\nmessage M { int64 a = 1; K k = 2; string more = 3; }"), first);
    for other in [
        "enum K { X = 0; } message M { sint64 a = 1; K k = 2; }",
        "enum K { X = 0; } message M { int64 a = 3; K k = 2; }",
        "enum K { X = 0; } message M { optional int64 a = 1; K k = 2; }",
        "enum K { X = 0; Y = 1; } message M { int64 a = 1; K k = 2; }",
    ] {
        assert_ne!(of(other), first, "{other}");
    }
}
