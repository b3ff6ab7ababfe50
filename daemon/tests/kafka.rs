//! The `kafka` source against a real broker: exactly once through kills of the daemon and of the broker, and what is
//! done with messages that are no rows.

#![allow(clippy::disallowed_methods, reason = "tests are switched by the environment")]

#[path = "support/broker.rs"]
mod broker;
mod support;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use broker::{Broker, Message};
use support::{Daemon, Seeded, THALWEG, dump, get, run_to_end};

/// The views of [`PIPELINE`] that do not speak of record numbers, which differ between files and topics.
const VIEWS: &[&str] = &["items", "by_zone", "best", "trip_stats"];

const PIPELINE: &str = r#"
name = "kafka"

[epoch]
rows_max = 500
interval_ms = 5

[sources.items]
ITEMS
key = "id"
tombstone = "gone"
[sources.items.columns]
id = "int64"
zone = "string"
price = "float64"
gone = "bool"

[sources.trips]
TRIPS
event_time = "at"
out_of_orderness_secs = 100000
timestamp_unit = "ms"
[sources.trips.columns]
at = "timestamp"
cell = "string"
reward = "float64"

[steps.by_zone]
operator = "aggregate"
input = "items"
by = "zone"
compute = { items = "count", total = "sum(price)", most = "max(price)" }

[steps.best]
operator = "top"
input = "items"
by = "zone"
order = ["price desc"]
k = 3

[steps.trip_stats]
operator = "aggregate"
input = "trips"
by = "cell"
compute = { trips = "count", reward = "sum(reward)" }
"#;

/// The pipeline over topics of a broker.
fn over_topics(dir: &Path, broker: &Broker) -> PathBuf {
    let source = |topic: &str, further: &str| {
        format!(
            "type = \"kafka\"\nbrokers = \"{}\"\ntopics = \"{topic}\"\ndiscover_secs = 0.3\n{further}",
            broker.address
        )
    };
    let text =
        PIPELINE.replace("ITEMS", &source("items", "key_columns = \"id\"")).replace("TRIPS", &source("trips", ""));
    let file = dir.join("topics.toml");
    std::fs::write(&file, text).unwrap();
    file
}

/// The same over files of the same records, one after the other.
fn over_files(dir: &Path, items: &[Message], trips: &[Message]) -> PathBuf {
    let lines = |messages: &[Message]| {
        let line =
            |m: &Message| m.value.clone().unwrap_or_else(|| format!("{{\"id\":{},\"gone\":true}}", m.key)) + "\n";
        messages.iter().map(line).collect::<String>()
    };
    std::fs::write(dir.join("items.ndjson"), lines(items)).unwrap();
    std::fs::write(dir.join("trips.ndjson"), lines(trips)).unwrap();
    let source = |name: &str| format!("type = \"file\"\npath = \"{name}.ndjson\"");
    let file = dir.join("files.toml");
    std::fs::write(&file, PIPELINE.replace("ITEMS", &source("items")).replace("TRIPS", &source("trips"))).unwrap();
    file
}

/// Seeded messages: upserts and tombstones of items, a key always in one partition, with some that are no rows; and
/// trips, anywhere.
fn messages(rng: &mut Seeded, from: u64, count: u64, partitions: u64) -> (Vec<Message>, Vec<Message>) {
    let (mut items, mut trips) = (Vec::new(), Vec::new());
    for i in from..from + count {
        let id = rng.below(400);
        let at_ms = 1_480_000_000_000 + i as i64 * 10;
        let value = match rng.below(40) {
            0..4 => None,
            4 => Some("{\"id\": no json".to_owned()),
            _ => Some(format!("{{\"id\":{id},\"zone\":\"z{}\",\"price\":{}.25}}", rng.below(7), rng.below(1000))),
        };
        items.push(Message { partition: (id % partitions) as i32, at_ms, key: id.to_string(), value, kind: None });
        let value = format!("{{\"at\":{at_ms},\"cell\":\"c{}\",\"reward\":{}.5}}", rng.below(9), rng.below(100));
        trips.push(Message {
            partition: rng.below(3) as i32,
            at_ms,
            key: i.to_string(),
            value: Some(value),
            kind: None,
        });
    }
    (items, trips)
}

fn json(url: &str) -> serde_json::Value {
    get(url).ok().and_then(|(_, body)| serde_json::from_str(&body).ok()).unwrap_or_default()
}

/// Waits until a source has so many records and all of them are published; false if the daemon is dead before.
fn reaches(daemon: &mut Daemon, source: &str, records: u64) -> bool {
    for _ in 0..6000 {
        let read = json(&format!("{}/v1/sources/{source}", daemon.url))["records"].as_u64();
        let epochs = json(&format!("{}/v1/epochs", daemon.url));
        assert!(read.is_none_or(|read| read <= records), "{read:?} records of {records}");
        if read == Some(records) && epochs["sealed"] == epochs["published"] {
            return true;
        }
        if !daemon.is_alive() {
            return false;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("`{source}` does not reach {records} records: {}", json(&format!("{}/v1/sources", daemon.url)));
}

fn assert_same_views(got: &Path, expected: &Path, what: &str) {
    for view in VIEWS {
        let (got, expected) = (dump(got, view), dump(expected, view));
        let pair = got.lines().zip(expected.lines()).find(|(g, e)| g != e);
        assert!(got == expected, "{what}: `{view}` differs, first in {pair:?}");
        assert!(!got.is_empty(), "{what}: `{view}` is empty");
    }
}

#[test]
fn killed_with_its_broker_it_has_every_message_once() {
    let Some(broker) = Broker::start() else { return };
    let seed = std::env::var("THALWEG_SEED").ok().and_then(|s| s.parse().ok()).unwrap_or(7);
    eprintln!("seed {seed} (set THALWEG_SEED to give it back)");
    let mut rng = Seeded::new(seed);
    broker.create("items", 3);
    broker.create("trips", 3);
    let dir = tempfile::tempdir().unwrap();
    let (file, data) = (over_topics(dir.path(), &broker), dir.path().join("data"));
    let points = ["seal", "compute", "prepare", "commit", "publish", "remap"];
    let (mut items, mut trips) = (Vec::new(), Vec::new());
    let mut kills = 0;
    for round in 0..8 {
        let (more_items, more_trips) = messages(&mut rng, items.len() as u64, 2_000, 3);
        broker.send("items", &more_items);
        broker.send("trips", &more_trips);
        items.extend(more_items);
        trips.extend(more_trips);
        if round == 3 {
            broker.kill();
            assert_eq!(broker.again(), broker.address);
        }
        // Lives that end somewhere in the round, and one that takes all of it.
        for _ in 0..3 {
            let crash = format!("{}:{}", points[rng.below(points.len() as u64) as usize], 1 + rng.below(6));
            let envs = [("THALWEG_CRASH", crash.as_str())];
            let mut daemon = Daemon::spawn(&file, &data, 1 << rng.below(2), &envs);
            if round == 5 {
                // The broker goes while it reads.
                broker.kill();
                broker.again();
            }
            let read = items.len() as u64;
            if !reaches(&mut daemon, "items", read) {
                kills += 1;
            }
        }
        let mut daemon = Daemon::spawn(&file, &data, 2, &[]);
        assert!(reaches(&mut daemon, "items", items.len() as u64), "it died of itself");
        assert!(reaches(&mut daemon, "trips", trips.len() as u64), "it died of itself");
        daemon.kill();
    }
    // The first life of a round has more epochs before it than any of these moments needs.
    assert!(kills >= 8, "only {kills} lives ended early");
    let base = dir.path().join("base");
    run_to_end(&over_files(dir.path(), &items, &trips), &base, 1);
    assert_same_views(&data, &base, &format!("seed {seed}, after {kills} kills"));
    // The same bad messages, told of with where they are.
    let bad = items.iter().filter(|m| m.value.as_ref().is_some_and(|v| v.contains("no json"))).count();
    let faults = dump(&data, "faults");
    assert_eq!(faults.lines().count(), bad);
    assert!(faults.lines().all(|f| f.contains("\"bad_json\"") && f.contains("items/")), "{faults}");
    let verified = Command::new(THALWEG).args(["verify", "--data"]).arg(&data).output().unwrap();
    assert!(verified.status.success(), "{}", support::text(&verified));
}

#[test]
fn what_is_beside_the_value_is_in_columns_and_what_is_no_row_is_a_fault() {
    let Some(broker) = Broker::start() else { return };
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("pipeline.toml");
    let text = r#"
name = "beside"
[sources.words]
type = "kafka"
brokers = "BROKERS"
topics = ["later", "words"]
discover_secs = 0.2
format = "csv"
key_columns = "id"
timestamp_column = "at"
topic_column = "topic"
partition_column = "part"
offset_column = "off"
header_columns = { kind = "kind" }
key = "id"
event_time = "at"
out_of_orderness_secs = 100000
tombstone = "gone"
record_bytes_max = 64
librdkafka = { "client.id" = "${SECRET}" }
[sources.words.columns]
id = "string"
word = "string"
at = "timestamp"
topic = "string"
part = "int64"
off = "int64"
kind = "string"
n = "int64"
gone = "bool"
[steps.copy]
operator = "select"
input = "words"
"#;
    let text = text.replace("BROKERS", &broker.address);
    std::fs::write(&file, text).unwrap();
    let message = |partition, key: &str, value: Option<&str>| Message {
        partition,
        at_ms: 1_000,
        key: key.to_owned(),
        value: value.map(str::to_owned),
        kind: (key == "a").then_some("new"),
    };
    broker.create("words", 1);
    broker.send(
        "words",
        &[
            message(0, "a", Some("one,1,")),
            message(0, "b", Some("two,2,")),
            message(0, "c", Some("two,three,")),
            message(0, "c", Some("too,many,,fields")),
            message(0, "c", Some(&"x".repeat(65))),
            message(0, "b", None),
            message(0, "d", Some("\"quo\"\"ted\",,")),
        ],
    );
    let data = dir.path().join("data");
    let secret = [("SECRET", "hunter2hunter2")];
    let mut daemon = Daemon::start(&file, &data, 1, &secret);
    assert!(reaches(&mut daemon, "words", 7));
    // A partition that is added, and a topic that comes into being, are read from their beginning.
    broker.topics(&["--alter", "--topic", "words", "--partitions", "2"]);
    broker.send("words", &[message(1, "e", Some("five,5,"))]);
    assert!(reaches(&mut daemon, "words", 8));
    broker.create("later", 1);
    broker.send("later", &[message(0, "f", Some("six,6,"))]);
    assert!(reaches(&mut daemon, "words", 9));
    let metrics = get(&format!("{}/metrics", daemon.url)).unwrap().1;
    assert!(metrics.contains("thalweg_source_connected{source=\"words\"} 1"), "{metrics}");
    let pipelines = get(&format!("{}/v1/pipelines", daemon.url)).unwrap().1;
    assert!(!pipelines.contains("hunter2"), "{pipelines}");
    daemon.kill();

    let rows: Vec<String> = dump(&data, "copy").lines().map(|l| l.replace("1970-01-01T00:00:01Z", "T")).collect();
    let expected = [
        r#"{"id":"a","word":"one","at":"T","topic":"words","part":0,"off":0,"kind":"new","n":1}"#,
        r#"{"id":"d","word":"quo\"ted","at":"T","topic":"words","part":0,"off":6,"kind":null,"n":null}"#,
        r#"{"id":"e","word":"five","at":"T","topic":"words","part":1,"off":0,"kind":null,"n":5}"#,
        r#"{"id":"f","word":"six","at":"T","topic":"later","part":0,"off":0,"kind":null,"n":6}"#,
    ];
    assert_eq!(rows, expected);
    let faults: Vec<serde_json::Value> =
        dump(&data, "faults").lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    let told: Vec<String> =
        faults.iter().map(|f| format!("{} {}", f["reason"], f["provenance"]).replace('"', "")).collect();
    assert_eq!(told, ["bad_value words/0@2", "ragged_row words/0@3", "record_too_large words/0@4"]);
}

#[test]
fn a_cluster_that_is_away_is_waited_for_and_said_so() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("pipeline.toml");
    let nobody = format!("127.0.0.1:{}", support::free_port());
    let text = format!(
        "name = \"p\"\n[sources.s]\ntype = \"kafka\"\nbrokers = \"{nobody}\"\ntopics = \"t\"\n[sources.s.columns]\nid = \
         \"int64\"\n[sources.pushed]\ntype = \"http\"\nkey = \"id\"\n[sources.pushed.columns]\nid = \"int64\"\n"
    );
    std::fs::write(&file, text).unwrap();
    let mut daemon = Daemon::start(&file, &dir.path().join("data"), 1, &[]);
    daemon.ready();
    let url = format!("{}/v1/sources/pushed/records", daemon.url);
    let (status, body) = support::post(&url, "application/json", None, b"{\"id\":1}").unwrap();
    assert!(status < 300, "{body}");
    let connected = "thalweg_source_connected{source=\"s\"} 0";
    let told = |_| {
        std::thread::sleep(Duration::from_millis(10));
        get(&format!("{}/metrics", daemon.url)).unwrap().1.contains(connected)
    };
    assert!((0..1000).any(told), "no metric says that the cluster is away");
    assert!(daemon.is_alive());
}

/// What a run said that ended, and was no success; `None` if it goes on, as one does that reads.
fn refusal(file: &Path, data: &Path, patience: Duration) -> Option<String> {
    let mut child = Command::new(THALWEG)
        .arg("run")
        .arg(file)
        .arg("--data")
        .arg(data)
        .args(["--exit-at-end", "--listen", "none"])
        .env("THALWEG_LOG", "warn")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let step = Duration::from_millis(10);
    for _ in 0..patience.as_millis() / step.as_millis() {
        if child.try_wait().unwrap().is_some() {
            let output = child.wait_with_output().unwrap();
            assert_eq!(output.status.code(), Some(1), "{}", support::text(&output));
            return Some(support::text(&output));
        }
        std::thread::sleep(step);
    }
    child.kill().unwrap();
    child.wait().unwrap();
    None
}

#[test]
fn offsets_that_are_gone_stop_the_source_or_are_a_fault() {
    let Some(broker) = Broker::start() else { return };
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("pipeline.toml");
    let write = |topic: &str, further: &str| {
        let text = format!(
            "name = \"p\"\n[sources.s]\ntype = \"kafka\"\nbrokers = \"{}\"\ntopics = \"{topic}\"\n{further}\n\
             [sources.s.columns]\nid = \"int64\"\n[steps.all]\noperator = \"aggregate\"\ninput = \"s\"\nby = \"id\"\n\
             compute = {{ n = \"count\" }}\n",
            broker.address
        );
        std::fs::write(&file, text).unwrap();
    };
    let message = |id: usize| Message {
        at_ms: 1_480_000_000_000 + id as i64,
        value: Some(format!("{{\"id\":{id}}}")),
        ..Message::default()
    };
    // Every message closes a segment, and all but the last expire.
    let short =
        ["--config", "retention.ms=1", "--config", "segment.ms=1", "--config", "message.timestamp.type=CreateTime"];
    broker.topics(&[&["--create", "--topic", "t", "--partitions", "1"][..], &short].concat());
    for id in 0..3 {
        broker.send("t", &[message(id)]);
        std::thread::sleep(Duration::from_millis(20));
    }
    write("t", "start = \"offsets\"\nstart_offsets = { \"t/0\" = \"0\" }");
    let said = (0..60).find_map(|n| {
        broker.send("t", &[message(9)]);
        refusal(&file, &dir.path().join(format!("stopped-{n}")), Duration::from_secs(2))
    });
    let said = said.expect("nothing expires");
    assert!(said.contains("have expired before they were read") && said.contains("t/0@0"), "{said}");
    write("t", "lost = \"skip\"\nstart = \"offsets\"\nstart_offsets = { \"t/0\" = \"0\" }");
    let skipped = dir.path().join("skipped");
    let mut daemon = Daemon::spawn(&file, &skipped, 1, &[]);
    daemon.ready();
    let is_fault = |_| {
        std::thread::sleep(Duration::from_millis(10));
        json(&format!("{}/v1/faults/summary", daemon.url)).to_string().contains("offsets_expired")
    };
    assert!((0..3000).any(is_fault), "no fault says what is lost");
    daemon.kill();

    // A topic that was deleted and made anew is another topic.
    broker.create("u", 1);
    broker.send("u", &[message(1), message(2), message(3)]);
    write("u", "");
    let data = dir.path().join("data");
    let mut daemon = Daemon::start(&file, &data, 1, &[]);
    assert!(reaches(&mut daemon, "s", 3));
    daemon.kill();
    broker.topics(&["--delete", "--topic", "u"]);
    broker.create("u", 1);
    let said = refusal(&file, &data, Duration::from_secs(60)).expect("it reads on in another topic");
    assert!(said.contains("was the topic deleted and made anew?"), "{said}");
}
