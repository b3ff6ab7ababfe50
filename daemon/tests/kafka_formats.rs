//! What a `kafka` source makes of messages that are no text, against a real broker: Avro by a schema registry that comes
//! late and whose schemas change and refer to others, keys that are Avro, Protobuf, Arrow IPC of many rows a message,
//! through kills; and messages of 20 MB.

#[path = "support/broker.rs"]
mod broker;
mod support;

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use arrow::ipc::writer::StreamWriter;
use broker::Broker;
use rdkafka::ClientConfig;
use rdkafka::producer::{BaseRecord, Producer, ThreadedProducer};
use support::{Daemon, Seeded, dump, free_port, get};

/// A stand-in for a schema registry, for those who know its password.
struct Registry {
    /// What it answers at which path.
    answers: Arc<Mutex<BTreeMap<String, serde_json::Value>>>,
    /// The paths it was asked for.
    asked: Arc<Mutex<Vec<String>>>,
}

impl Registry {
    /// Answers at a port from now on until the test ends.
    fn start(port: u16) -> Registry {
        let registry = Registry { answers: Arc::default(), asked: Arc::default() };
        let listener = TcpListener::bind(("127.0.0.1", port)).unwrap();
        let (answers, asked) = (registry.answers.clone(), registry.asked.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let mut request = Vec::new();
                let mut part = [0; 512];
                while !request.ends_with(b"\r\n\r\n") {
                    match stream.read(&mut part) {
                        Ok(read @ 1..) => request.extend_from_slice(&part[..read]),
                        _ => break,
                    }
                }
                let request = String::from_utf8(request).unwrap();
                let path = request.split(' ').nth(1).unwrap_or_default();
                let known = path.strip_prefix("/base").and_then(|path| answers.lock().unwrap().get(path).cloned());
                // `ada:sesam@8`, in base64; the name of a header may be written in capitals or not.
                let is_let_in = request.contains("uthorization: Basic YWRhOnNlc2FtQDg=\r\n");
                asked.lock().unwrap().push(path.to_owned());
                let (status, body) = match known {
                    _ if !is_let_in => ("401 Unauthorized", "{\"error_code\":401}".to_owned()),
                    Some(answer) => ("200 OK", answer.to_string()),
                    None => ("404 Not Found", "{\"error_code\":40403,\"message\":\"Schema not found\"}".to_owned()),
                };
                // In both of the ways in which a length may be told.
                let answer = if path.ends_with(['0', '2', '4', '6', '8']) {
                    let (first, rest) = body.split_at(body.len() / 2);
                    format!(
                        "HTTP/1.1 {status}\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n{first}\r\n{:x}\r\n{rest}\r\n0\r\n\r\n",
                        first.len(),
                        rest.len()
                    )
                } else {
                    format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n{body}", body.len())
                };
                let _ = stream.write_all(answer.as_bytes());
            }
        });
        registry
    }

    fn add(&self, id: u32, fields: &[(&str, &str)]) {
        let fields: Vec<String> =
            fields.iter().map(|(name, ty)| format!("{{\"name\":\"{name}\",\"type\":{ty}}}")).collect();
        self.set(id, &format!("{{\"type\":\"record\",\"name\":\"R\",\"fields\":[{}]}}", fields.join(",")));
    }

    fn set(&self, id: u32, schema: &str) {
        self.answer(&format!("/schemas/ids/{id}"), serde_json::json!({ "schema": schema }));
    }

    fn answer(&self, path: &str, answer: serde_json::Value) {
        self.answers.lock().unwrap().insert(path.to_owned(), answer);
    }
}

/// A number in Avro (specification, "Binary Encoding"): zigzag, seven bits a byte.
fn long(value: i64) -> Vec<u8> {
    let mut bits = ((value << 1) ^ (value >> 63)) as u64;
    let mut bytes = Vec::new();
    while bits >= 0x80 {
        bytes.push(bits as u8 | 0x80);
        bits >>= 7;
    }
    bytes.push(bits as u8);
    bytes
}

fn text(value: &str) -> Vec<u8> {
    [long(value.len() as i64), value.as_bytes().to_vec()].concat()
}

/// What serializers of schema registries put before a value.
fn framed(id: u32, value: &[Vec<u8>]) -> Vec<u8> {
    [vec![0], id.to_be_bytes().to_vec(), value.concat()].concat()
}

fn json(url: &str) -> serde_json::Value {
    get(url).ok().and_then(|(_, body)| serde_json::from_str(&body).ok()).unwrap_or_default()
}

/// Waits until something is so; false if the daemon is dead before.
fn until(daemon: &mut Daemon, what: &str, is: impl Fn(&str) -> bool) -> bool {
    for _ in 0..6000 {
        if is(&daemon.url) {
            return true;
        }
        if !daemon.is_alive() {
            return false;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("it never is so that {what}: {}", json(&format!("{}/v1/sources", daemon.url)));
}

/// Waits until a source has so many records and all of them are published; false if the daemon is dead before.
fn reaches(daemon: &mut Daemon, source: &str, records: u64) -> bool {
    until(daemon, &format!("`{source}` has {records} records"), |url| {
        let read = json(&format!("{url}/v1/sources/{source}"))["records"].as_u64();
        assert!(read.is_none_or(|read| read <= records), "{read:?} records of {records}");
        let epochs = json(&format!("{url}/v1/epochs"));
        read == Some(records) && epochs["sealed"] == epochs["published"]
    })
}

/// Lives that end at seeded moments, and one that goes on until the source has all.
fn lives(file: &Path, data: &Path, source: &str, records: u64, rng: &mut Seeded, envs: &[(&str, &str)]) -> usize {
    let points = ["seal", "compute", "prepare", "commit", "publish", "remap"];
    let mut kills = 0;
    for _ in 0..4 {
        let crash = format!("{}:{}", points[rng.below(6) as usize], 1 + rng.below(6));
        let envs = [envs, &[("THALWEG_CRASH", crash.as_str())]].concat();
        let mut daemon = Daemon::spawn(file, data, 1 + rng.below(2) as usize, &envs);
        kills += usize::from(!reaches(&mut daemon, source, records));
        daemon.kill();
    }
    let mut daemon = Daemon::spawn(file, data, 2, envs);
    assert!(reaches(&mut daemon, source, records), "it died of itself");
    daemon.kill();
    kills
}

fn faults(data: &Path) -> Vec<String> {
    let faults = dump(data, "faults");
    let faults = faults.lines().map(|l| serde_json::from_str::<serde_json::Value>(l).unwrap());
    let mut told: Vec<String> =
        faults.map(|f| format!("{} {}", f["provenance"], f["reason"]).replace('"', "")).collect();
    told.sort();
    told
}

#[test]
fn avro_schemas_change_and_their_registry_is_waited_for() {
    let Some(broker) = Broker::start() else { return };
    broker.create("trips", 1);
    let (dir, port) = (tempfile::tempdir().unwrap(), free_port());
    let file = dir.path().join("pipeline.toml");
    let pipeline = format!(
        "name = \"avro\"\n[epoch]\nrows_max = 100\ninterval_ms = 5\n[sources.trips]\ntype = \"kafka\"\nbrokers = \
         \"{}\"\ntopics = \"trips\"\nformat = \"avro\"\nschema_registry = \
         \"http://ada:${{PASSWORD}}@127.0.0.1:{port}/base\"\npaths = {{ city = \"at.city\" }}\nkey = \"id\"\n\
         [sources.trips.columns]\nid = \"int64\"\nfare = \"float64\"\ncity = \"string\"\n[steps.copy]\noperator = \
         \"select\"\ninput = \"trips\"\n",
        broker.address
    );
    std::fs::write(&file, pipeline).unwrap();
    let envs = [("PASSWORD", "sesam%408")];
    let first = |id: i64| framed(1, &[long(id), long(id * 2)]);
    broker.send_bytes("trips", &[(0, "a", first(1)), (0, "b", first(2))]);
    let data = dir.path().join("data");

    // The cluster is there, and the registry is not: nothing is read, nothing is lost, and it is told.
    let mut daemon = Daemon::start(&file, &data, 1, &envs);
    let connected = |is: u8| format!("thalweg_source_connected{{source=\"trips\"}} {is}");
    let metric = |url: &str, is: u8| get(&format!("{url}/metrics")).is_ok_and(|(_, m)| m.contains(&connected(is)));
    std::thread::sleep(Duration::from_secs(2));
    assert!(daemon.is_alive() && metric(&daemon.url, 0), "nothing says that the registry is missed");
    assert_eq!(json(&format!("{}/v1/sources/trips", daemon.url))["records"].as_u64().unwrap_or(0), 0);
    let registry = Registry::start(port);
    registry.add(1, &[("id", "\"long\""), ("fare", "\"int\"")]);
    assert!(reaches(&mut daemon, "trips", 2));
    until(&mut daemon, "all is reached", |url| metric(url, 1));
    assert!(!get(&format!("{}/v1/pipelines", daemon.url)).unwrap().1.contains("sesam"));

    // Columns widen, come, and go, while it runs. What has no schema, or none that will do, is a fault of its own.
    let place = "[\"null\",{\"type\":\"record\",\"name\":\"At\",\"fields\":[{\"name\":\"city\",\"type\":\"string\"}]}]";
    registry.add(2, &[("fare", "[\"null\",\"double\"]"), ("at", place), ("id", "\"int\"")]);
    registry.add(3, &[("id", "\"string\"")]);
    registry.set(4, "\"long\"");
    registry.set(5, "no schema");
    let second =
        |id: i64, fare: f64| framed(2, &[long(1), fare.to_le_bytes().to_vec(), long(1), text("Zürich"), long(id)]);
    let messages = vec![
        second(3, 0.5),
        first(4),
        framed(2, &[long(0), long(0), long(2)]),
        framed(3, &[text("x")]),
        framed(4, &[long(1)]),
        framed(5, &[long(1)]),
        framed(6, &[long(1)]),
        b"{\"id\":1}".to_vec(),
        framed(1, &[long(1)]),
        second(5, -1.0),
    ];
    let messages: Vec<(i32, &str, Vec<u8>)> = messages.into_iter().map(|m| (0, "k", m)).collect();
    broker.send_bytes("trips", &messages);
    assert!(reaches(&mut daemon, "trips", 12));
    daemon.kill();
    let rows: Vec<String> = dump(&data, "copy").lines().map(str::to_owned).collect();
    let expected = [
        r#"{"id":1,"fare":2.0,"city":null}"#,
        r#"{"id":2,"fare":null,"city":null}"#,
        r#"{"id":3,"fare":0.5,"city":"Zürich"}"#,
        r#"{"id":4,"fare":8.0,"city":null}"#,
        r#"{"id":5,"fare":-1.0,"city":"Zürich"}"#,
    ];
    assert_eq!(rows, expected);
    let told = [
        "trips/0@10 bad_avro",
        "trips/0@5 wrong_type",
        "trips/0@6 bad_schema",
        "trips/0@7 bad_schema",
        "trips/0@8 unknown_schema",
        "trips/0@9 bad_wire_format",
    ];
    assert_eq!(faults(&data), told);

    // Many more, of both schemas, through kills: as if it had been read in one go.
    let mut rng = Seeded::new(3);
    let more: Vec<Vec<u8>> =
        (0..3_000).map(|i| if rng.below(2) == 0 { first(10 + i) } else { second(10 + i, i as f64 / 4.0) }).collect();
    let more: Vec<(i32, &str, Vec<u8>)> = more.into_iter().map(|m| (0, "k", m)).collect();
    broker.send_bytes("trips", &more);
    let kills = lives(&file, &data, "trips", 3_012, &mut rng, &envs);
    assert!(kills >= 2, "only {kills} lives ended early");
    let whole = dir.path().join("whole");
    let mut daemon = Daemon::spawn(&file, &whole, 1, &envs);
    assert!(reaches(&mut daemon, "trips", 3_012));
    daemon.kill();
    assert!(dump(&data, "copy") == dump(&whole, "copy"), "it differs from a run without kills");
    assert_eq!(faults(&whole), told);
    let asked = registry.asked.lock().unwrap().clone();
    assert!(asked.len() < 100, "it was asked {} times", asked.len());
}

/// Sends messages whose keys are no text; without a value they are tombstones.
fn send_keyed(broker: &Broker, topic: &str, messages: &[(Vec<u8>, Option<Vec<u8>>)]) {
    let producer: ThreadedProducer<_> = ClientConfig::new()
        .set("bootstrap.servers", &broker.address)
        .set("enable.idempotence", "true")
        .create()
        .unwrap();
    for (key, value) in messages {
        let mut record = BaseRecord::<[u8], [u8]>::to(topic).partition(0).key(key);
        if let Some(value) = value {
            record = record.payload(value);
        }
        producer.send(record).map_err(|(e, _)| e).unwrap();
    }
    producer.flush(Duration::from_secs(60)).unwrap();
}

#[test]
fn avro_keys_delete_their_rows_and_schemas_refer_to_others_through_kills() {
    let Some(broker) = Broker::start() else { return };
    broker.create("orders", 1);
    let (dir, port) = (tempfile::tempdir().unwrap(), free_port());
    let file = dir.path().join("pipeline.toml");
    let pipeline = format!(
        "name = \"orders\"\n[epoch]\nrows_max = 100\ninterval_ms = 5\n[sources.orders]\ntype = \"kafka\"\nbrokers = \
         \"{}\"\ntopics = \"orders\"\nformat = \"avro\"\nkey_format = \"avro\"\nkey_columns = \"id\"\nschema_registry = \
         \"http://ada:${{PASSWORD}}@127.0.0.1:{port}/base\"\npaths = {{ city = \"at.city\" }}\nkey = \"id\"\ntombstone = \
         \"gone\"\n[sources.orders.columns]\nid = \"int64\"\ncity = \"string\"\ngone = \"bool\"\n[steps.copy]\noperator = \
         \"select\"\ninput = \"orders\"\n",
        broker.address
    );
    std::fs::write(&file, pipeline).unwrap();
    let envs = [("PASSWORD", "sesam%408")];
    let registry = Registry::start(port);
    // The key is a plain number; the value's place stands in a schema of its own, and that one's kind in another.
    registry.set(1, "\"long\"");
    let reference = |name: &str, version: u32| serde_json::json!({"name": name, "subject": name, "version": version});
    let order = "{\"type\":\"record\",\"name\":\"shop.Order\",\"fields\":[{\"name\":\"at\",\"type\":\"Place\"}]}";
    registry.answer("/schemas/ids/2", serde_json::json!({"schema": order, "references": [reference("shop.Place", 3)]}));
    let place = "{\"type\":\"record\",\"name\":\"shop.Place\",\"fields\":[{\"name\":\"kind\",\"type\":\"Kind\"},\
                 {\"name\":\"city\",\"type\":\"string\"}]}";
    registry.answer(
        "/subjects/shop.Place/versions/3?deleted=true",
        serde_json::json!({"schema": place, "references": [reference("shop.Kind", 4)]}),
    );
    let kind = "{\"type\":\"enum\",\"name\":\"shop.Kind\",\"symbols\":[\"OLD\",\"NEW\"]}";
    registry.answer("/subjects/shop.Kind/versions/4?deleted=true", serde_json::json!({ "schema": kind }));

    let mut rng = Seeded::new(5);
    let (mut messages, mut rows) = (Vec::new(), BTreeMap::new());
    for i in 0..3_000_i64 {
        let id = rng.below(60) as i64;
        let value = (rng.below(3) > 0).then(|| framed(2, &[long(i % 2), text(&format!("c{i}"))]));
        match &value {
            Some(_) => rows.insert(id, i),
            None => rows.remove(&id),
        };
        messages.push((framed(1, &[long(id)]), value));
    }
    messages.insert(1_000, (b"no Avro".to_vec(), None));
    // Of an id that the registry does not know; and cut off.
    messages.insert(2_000, (framed(9, &[long(1)]), None));
    messages.push((framed(1, &[]), None));
    send_keyed(&broker, "orders", &messages);
    let data = dir.path().join("data");
    let kills = lives(&file, &data, "orders", messages.len() as u64, &mut rng, &envs);
    assert!(kills >= 2, "only {kills} lives ended early");
    let expected: Vec<String> = rows.iter().map(|(id, i)| format!("{{\"id\":{id},\"city\":\"c{i}\"}}")).collect();
    assert_eq!(dump(&data, "copy").lines().collect::<Vec<_>>(), expected);
    let told = ["orders/0@1000 bad_wire_format", "orders/0@2000 unknown_schema", "orders/0@3002 bad_avro"];
    assert_eq!(faults(&data), told);
}

fn arrow_message(first: i64, rows: i64) -> Vec<u8> {
    let ids: Int64Array = (first..first + rows).map(|i| (i % 17 != 0).then_some(i)).collect();
    let names: StringArray = (first..first + rows).map(|i| Some(format!("n{}", i % 5))).collect();
    let columns: [(&str, ArrayRef); 2] = [("id", Arc::new(ids)), ("name", Arc::new(names))];
    let batch = RecordBatch::try_from_iter_with_nullable(columns.map(|(n, c)| (n, c, true))).unwrap();
    let mut writer = StreamWriter::try_new(Vec::new(), &batch.schema()).unwrap();
    let cut = rows as usize / 3;
    writer.write(&batch.slice(0, cut)).unwrap();
    writer.write(&batch.slice(cut, rows as usize - cut)).unwrap();
    writer.finish().unwrap();
    writer.into_inner().unwrap()
}

#[test]
fn arrow_messages_of_many_rows_are_taken_once_through_kills() {
    let Some(broker) = Broker::start() else { return };
    broker.create("rows", 2);
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("pipeline.toml");
    let pipeline = format!(
        "name = \"arrow\"\n[epoch]\nrows_max = 70\ninterval_ms = 5\n[sources.rows]\ntype = \"kafka\"\nbrokers = \
         \"{}\"\ntopics = \"rows\"\nformat = \"arrow\"\npartition_column = \"part\"\nkey = \"id\"\n\
         [sources.rows.columns]\nid = \"int64\"\nname = \"string\"\npart = \"int64\"\n[steps.by_name]\noperator = \
         \"aggregate\"\ninput = \"rows\"\nby = \"name\"\ncompute = {{ n = \"count\", ids = \"sum(id)\" }}\n",
        broker.address
    );
    std::fs::write(&file, pipeline).unwrap();
    let mut rng = Seeded::new(11);
    let (mut messages, mut next, mut records) = (Vec::new(), 1, 0);
    for i in 0..200 {
        let rows = 1 + rng.below(60) as i64;
        if rng.below(20) == 0 {
            messages.push((i % 2, "k", b"no arrow".to_vec()));
            records += 1;
        }
        messages.push((i % 2, "k", arrow_message(next, rows)));
        next += rows;
        records += rows as u64;
    }
    broker.send_bytes("rows", &messages);
    let data = dir.path().join("data");
    let kills = lives(&file, &data, "rows", records, &mut rng, &[]);
    assert!(kills >= 2, "only {kills} lives ended early");
    let (mut names, mut nulls) = (BTreeMap::<String, (i64, i64)>::new(), 0);
    for id in 1..next {
        if id % 17 == 0 {
            nulls += 1;
        } else {
            let name = names.entry(format!("n{}", id % 5)).or_default();
            *name = (name.0 + 1, name.1 + id);
        }
    }
    let expected: Vec<String> =
        names.iter().map(|(name, (n, ids))| format!("{{\"name\":\"{name}\",\"n\":{n},\"ids\":{ids}}}")).collect();
    assert_eq!(dump(&data, "by_name").lines().collect::<Vec<_>>(), expected);
    let told = faults(&data);
    assert_eq!(told.iter().filter(|f| f.ends_with("null_key")).count(), nulls);
    let broken = messages.iter().filter(|m| m.2 == b"no arrow").count();
    assert!(broken > 2 && told.iter().filter(|f| f.ends_with("unreadable_payload")).count() == broken);
    assert_eq!(told.len(), nulls + broken);
}

const PROTO: &str = "syntax = \"proto3\";\npackage shop;\nmessage Place { string city = 1; }\nmessage Ignored { int64 x = 1; }\n\
                     message Order { int64 id = 1; optional double sum = 2; Place at = 3; enum Kind { NEW = 0; OLD = 1; } \
                     Kind kind = 4; }\n";

#[test]
fn protobuf_messages_are_rows_and_what_is_none_is_a_fault() {
    let Some(broker) = Broker::start() else { return };
    broker.create("plain", 1);
    broker.create("framed", 1);
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("pipeline.toml");
    std::fs::write(dir.path().join("order.proto"), PROTO).unwrap();
    let source = |topic: &str, further: &str| {
        format!(
            "[sources.{topic}]\ntype = \"kafka\"\nbrokers = \"{}\"\ntopics = \"{topic}\"\nformat = \
             \"protobuf\"\nschema = \"order.proto\"\nmessage = \"shop.Order\"\n{further}paths = {{ city = \"at.city\" \
             }}\nkey = \"id\"\n[sources.{topic}.columns]\nid = \"int64\"\nsum = \"float64\"\ncity = \"string\"\nkind = \
             \"string\"\n[steps.{topic}_copy]\noperator = \"select\"\ninput = \"{topic}\"\n",
            broker.address
        )
    };
    let text = format!("name = \"p\"\n{}{}", source("plain", ""), source("framed", "wire = \"confluent\"\n"));
    std::fs::write(&file, text).unwrap();
    // By hand, of the encoding's description: a number, a double, a message with a text, a number, one unknown.
    let order = |id: u8| {
        let sum = (f64::from(id) / 4.0).to_le_bytes();
        [&[0x08, id, 0x11][..], &sum, &[0x1a, 0x04, 0x0a, 0x02, b'Z', id + b'a', 0x20, 0x01, 0x78, 0x05]].concat()
    };
    // The third message of its schema, which is told as one number, 2.
    let behind = |value: Vec<u8>| [&[0, 0, 0, 0, 7, 2, 4][..], &value].concat();
    let values = [order(1), order(2), vec![0x08, 3], vec![0x08], vec![0x12, 0x01, 0x01]];
    broker.send_bytes("plain", &values.clone().map(|v| (0, "k", v)));
    broker.send_bytes("framed", &values.map(|v| (0, "k", behind(v))));
    broker.send_bytes("framed", &[(0, "k", order(9)), (0, "k", vec![0, 0, 0, 0, 7, 3])]);
    let data = dir.path().join("data");
    let mut daemon = Daemon::start(&file, &data, 1, &[]);
    assert!(reaches(&mut daemon, "plain", 5) && reaches(&mut daemon, "framed", 7));
    daemon.kill();
    let expected = [
        r#"{"id":1,"sum":0.25,"city":"Zb","kind":"OLD"}"#,
        r#"{"id":2,"sum":0.5,"city":"Zc","kind":"OLD"}"#,
        r#"{"id":3,"sum":null,"city":null,"kind":"NEW"}"#,
    ];
    for view in ["plain_copy", "framed_copy"] {
        assert_eq!(dump(&data, view).lines().collect::<Vec<_>>(), expected, "{view}");
    }
    let told = [
        "framed/0@3 bad_protobuf",
        "framed/0@4 bad_protobuf",
        "framed/0@5 bad_wire_format",
        "framed/0@6 bad_wire_format",
        "plain/0@3 bad_protobuf",
        "plain/0@4 bad_protobuf",
    ];
    assert_eq!(faults(&data), told);
    // Another schema is another plan: the store says so instead of reading on with it.
    std::fs::write(dir.path().join("order.proto"), PROTO.replace("int64 id", "sint64 id")).unwrap();
    let output = support::run_command(&file, &data, 1).output().unwrap();
    assert!(
        !output.status.success() && support::text(&output).contains("made by another pipeline"),
        "{}",
        support::text(&output)
    );
}

#[test]
fn messages_of_20_mb_are_rows_and_longer_ones_faults() {
    let Some(broker) = Broker::start() else { return };
    let config = ["--config", "max.message.bytes=60000000", "--config", "retention.ms=-1"];
    broker.topics(&[&["--create", "--topic", "docs", "--partitions", "1"][..], &config].concat());
    let dir = tempfile::tempdir().unwrap();
    let file: PathBuf = dir.path().join("pipeline.toml");
    let write = |record_bytes_max: usize| {
        let text = format!(
            "name = \"large\"\n[sources.docs]\ntype = \"kafka\"\nbrokers = \"{}\"\ntopics = \"docs\"\nformat = \
             \"raw\"\noffset_column = \"off\"\nkey = \"off\"\nrecord_bytes_max = {record_bytes_max}\n\
             [sources.docs.columns]\noff = \"int64\"\nbody = \"string\"\n[steps.copy]\noperator = \"select\"\ninput = \
             \"docs\"\n",
            broker.address
        );
        std::fs::write(&file, text).unwrap();
    };
    let body = |letter: u8, length: usize| vec![letter; length];
    let values = [body(b'a', 10), body(b'b', 20_000_000), body(b'c', 20), body(b'd', 40_000_000), body(b'e', 30)];
    broker.send_bytes("docs", &values.clone().map(|v| (0, "k", v)));
    for (max, lengths) in [(25_000_000, &[10, 20_000_000, 20, 30][..]), (1_048_576, &[10, 20, 30][..])] {
        write(max);
        let data = dir.path().join(format!("data-{max}"));
        let mut daemon = Daemon::start(&file, &data, 1, &[]);
        assert!(reaches(&mut daemon, "docs", 5));
        // What is not committed when it is killed comes again.
        daemon.kill();
        let mut daemon = Daemon::start(&file, &data, 2, &[]);
        assert!(reaches(&mut daemon, "docs", 5));
        daemon.kill();
        let rows = dump(&data, "copy");
        let bodies: Vec<usize> = rows
            .lines()
            .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()["body"].as_str().unwrap().len())
            .collect();
        assert_eq!(bodies, lengths, "at most {max} bytes");
        let told = faults(&data);
        assert_eq!(told.len(), 5 - lengths.len());
        assert!(
            told.iter().all(|f| f.ends_with("record_too_large")) && told.contains(&"docs/0@3 record_too_large".into())
        );
    }
}
