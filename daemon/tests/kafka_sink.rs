//! The `kafka` sink against a real broker: what a stranger reads of committed messages is each change once, whatever was
//! killed when.

#![allow(clippy::disallowed_methods, reason = "tests are switched by the environment")]

#[path = "support/broker.rs"]
mod broker;
mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::Duration;

use broker::{Broker, Received};
use serde_json::Value as Json;
use support::{Daemon, Seeded, THALWEG, dump, input, pipeline, run_command, run_to_end, text, write_input};

/// The pipeline of every operator with these sinks: name, view, and what else stands in the section.
fn with_sinks(dir: &Path, rows_max: usize, broker: &Broker, sinks: &[(&str, &str, &str)]) -> PathBuf {
    let file = pipeline(dir, rows_max, "[retain]\nepochs = 3");
    let mut text = std::fs::read_to_string(&file).unwrap();
    for (name, view, further) in sinks {
        let to = match further.contains("path =") {
            true => "type = \"file\"".to_owned(),
            false => format!("type = \"kafka\"\nbrokers = \"{}\"\ntopic = \"{name}\"", broker.address),
        };
        text.push_str(&format!("\n[sinks.{name}]\n{to}\nview = \"{view}\"\n{further}\n"));
    }
    std::fs::write(&file, text).unwrap();
    file
}

fn epoch(message: &Received) -> u64 {
    message.header("thalweg-epoch").expect("every message says its epoch").parse().unwrap()
}

/// Folds messages by key: none twice in an epoch, each key in one partition and in the order of epochs.
fn folded(messages: &[Received], what: &str) -> BTreeMap<String, String> {
    let mut state = BTreeMap::new();
    let mut last: BTreeMap<&str, (i32, u64)> = BTreeMap::new();
    for message in messages {
        let key = message.key.as_deref().expect("a changelog has keys");
        let now = (message.partition, epoch(message));
        if let Some(before) = last.insert(key, now) {
            assert!(before.0 == now.0 && before.1 < now.1, "{what}: `{key}` after {before:?} at {now:?}");
        }
        match &message.value {
            Some(value) => drop(state.insert(key.to_owned(), value.clone())),
            None => assert!(state.remove(key).is_some(), "{what}: `{key}` is deleted and was not there"),
        }
    }
    state
}

fn assert_is_view(state: &BTreeMap<String, String>, data: &Path, view: &str, what: &str) {
    let there = dump(data, view);
    let there: BTreeSet<&str> = there.lines().collect();
    let delivered: BTreeSet<&str> = state.values().map(String::as_str).collect();
    assert!(!there.is_empty(), "{what}: `{view}` is empty");
    assert_eq!(delivered, there, "{what}: `{view}`");
}

/// The changes of a file sink's files as (epoch, row or key).
fn of_files(dir: &Path, sink: &str) -> Vec<String> {
    let mut changes = Vec::new();
    for entry in std::fs::read_dir(dir.join("out")).unwrap() {
        let path = entry.unwrap().path();
        if !path.file_name().unwrap().to_str().unwrap().starts_with(&format!("{sink}.")) {
            continue;
        }
        for line in std::fs::read_to_string(path).unwrap().lines() {
            let mut row: serde_json::Map<String, Json> = serde_json::from_str(line).unwrap();
            let epoch = row.shift_remove("_epoch").unwrap();
            let op = row.shift_remove("_op");
            let own = Json::Object(row.clone()).to_string();
            match op.as_ref().and_then(Json::as_str) {
                Some("delete") => changes.push(format!("{epoch} deleted {own}")),
                _ => changes.push(format!("{epoch} {own}")),
            }
        }
    }
    changes.sort();
    changes
}

#[test]
fn killed_with_its_broker_each_change_is_read_once() {
    let Some(broker) = Broker::start() else { return };
    let seed = std::env::var("THALWEG_SEED").ok().and_then(|s| s.parse().ok()).unwrap_or(5);
    eprintln!("seed {seed} (set THALWEG_SEED to give it back)");
    let mut rng = Seeded::new(seed);
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    write_input(dir.path(), &input(seed, 3000), 3);
    for topic in ["pairs", "zones", "letters"] {
        broker.create(topic, 3);
    }
    let file = with_sinks(
        dir.path(),
        40,
        &broker,
        &[
            ("pairs", "order_drivers", "key_format = \"json\""),
            ("zones", "by_zone", ""),
            ("letters", "faults", "format = \"dead_letter\"\nof_source = \"trips\""),
            ("same", "order_drivers", "path = \"out\"\nroll_secs = 0.05"),
        ],
    );
    let points = ["deliver", "delivered", "commit", "publish", "deliver", "prepare", "delivered", "seal"];
    let mut kills = 0;
    for n in 0..16 {
        let crash = format!("{}:{}", points[n % points.len()], 1 + rng.below(9));
        let mut child = run_command(&file, &data, 1 + n % 2).env("THALWEG_CRASH", &crash).spawn().unwrap();
        if n % 5 == 4 {
            // The broker goes while it delivers.
            std::thread::sleep(Duration::from_millis(rng.below(400)));
            broker.kill();
            assert_eq!(broker.again(), broker.address);
        }
        let status = wait(&mut child);
        if status.success() {
            break;
        }
        assert!(status.code().is_none(), "{crash}: {status}");
        kills += 1;
    }
    assert!(kills >= 8, "only {kills} lives ended early");
    run_to_end(&file, &data, 2);
    let what = format!("seed {seed}, {kills} kills");

    let pairs = broker.read("pairs");
    assert_is_view(&folded(&pairs, &what), &data, "order_drivers", &what);
    assert_is_view(&folded(&broker.read("zones"), &what), &data, "by_zone", &what);
    // Change by change the same as what another sink delivered another way.
    let change = |m: &Received| match &m.value {
        Some(value) => format!("{} {value}", epoch(m)),
        None => format!("{} deleted {}", epoch(m), m.key.as_deref().unwrap()),
    };
    let mut changes: Vec<String> = pairs.iter().map(change).collect();
    changes.sort();
    let files = of_files(dir.path(), "same");
    assert!(changes.len() > 1000, "{what}: only {} changes", changes.len());
    let differ = changes.iter().zip(&files).find(|(a, b)| a != b);
    assert!(changes == files, "{what}: {} messages, {} rows in files, first {differ:?}", changes.len(), files.len());

    let faults = dump(&data, "faults");
    let faults: Vec<Json> = faults.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    let expected: BTreeSet<(String, String)> = faults
        .iter()
        .filter(|f| f["source"] == "trips")
        .map(|f| (f["provenance"].as_str().unwrap().to_owned(), f["raw"].as_str().unwrap().to_owned()))
        .collect();
    let letters = broker.read("letters");
    let got: BTreeSet<(String, String)> =
        letters.iter().map(|m| (m.key.clone().unwrap(), m.value.clone().unwrap())).collect();
    assert!(!expected.is_empty() && letters.len() == faults.iter().filter(|f| f["source"] == "trips").count());
    assert_eq!(got, expected, "{what}");
    assert!(
        letters.iter().all(|m| m.header("thalweg-source") == Some("trips") && m.header("thalweg-reason").is_some())
    );
}

/// Waits until the log says that the engine has failed; gives why.
fn failure(log: &Path) -> String {
    for _ in 0..6000 {
        let text = std::fs::read_to_string(log).unwrap();
        if let Some(line) = text.lines().find(|l| l.contains("the engine has failed")) {
            return line.to_owned();
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("the engine goes on");
}

fn wait(child: &mut Child) -> std::process::ExitStatus {
    for _ in 0..12_000 {
        if let Some(status) = child.try_wait().unwrap() {
            return status;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    let _ = child.kill();
    panic!("a run does not end");
}

#[test]
fn of_two_under_one_name_one_goes_on() {
    let Some(broker) = Broker::start() else { return };
    let dir = tempfile::tempdir().unwrap();
    broker.create("zones", 1);
    // A pipeline each, over a source that is pushed: both have a store of their own and one name at the broker.
    let toml = format!(
        "name = \"two\"\n[sources.items]\ntype = \"http\"\nkey = \"id\"\n[sources.items.columns]\nid = \"int64\"\n\
         [sinks.zones]\ntype = \"kafka\"\nbrokers = \"{}\"\ntopic = \"zones\"\nview = \"items\"\n",
        broker.address
    );
    let file = dir.path().join("two.toml");
    std::fs::write(&file, toml).unwrap();
    let push = |daemon: &Daemon, id: u64| {
        let url = format!("{}/v1/sources/items/records", daemon.url);
        support::post(&url, "application/json", None, format!("{{\"id\":{id}}}").as_bytes())
    };
    let delivered = |daemon: &Daemon, epoch: u64| {
        (0..3000).any(|_| {
            std::thread::sleep(Duration::from_millis(10));
            let body = support::get(&format!("{}/v1/sinks", daemon.url)).unwrap().1;
            let sinks: Json = serde_json::from_str(&body).unwrap();
            sinks["sinks"][0]["delivered"].as_u64() >= Some(epoch)
        })
    };
    let first = Daemon::start(&file, &dir.path().join("first"), 1, &[]);
    first.ready();
    assert_eq!(push(&first, 1).unwrap().0, 200);
    assert!(delivered(&first, 1));
    // The second is told at once: it has not what was delivered.
    let output = Command::new(THALWEG)
        .args(["run", file.to_str().unwrap(), "--data", dir.path().join("second").to_str().unwrap()])
        .args(["--listen", "none", "--exit-at-end"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    assert!(text(&output).contains("Either another store delivers to the same place"), "{}", text(&output));
    // It shut the first one out before it looked; the first looks too, and goes on.
    assert_eq!(push(&first, 2).unwrap().0, 200);
    assert!(delivered(&first, 2), "{:?}", support::get(&format!("{}/v1/epochs", first.url)));
    let values: Vec<_> = broker.read("zones").into_iter().map(|m| m.value.unwrap()).collect();
    assert_eq!(values, ["{\"id\":1}", "{\"id\":2}"]);

    // A copy of the store is one that has what was delivered: then whoever moves on first shuts the other out.
    let (mut first, copied) = (first, dir.path().join("copy"));
    first.kill();
    let status = Command::new("cp").arg("-a").arg(dir.path().join("first")).arg(&copied).status().unwrap();
    assert!(status.success());
    let log = dir.path().join("log");
    let mut first = Daemon::start_logged(&file, &dir.path().join("first"), 1, &[], &log);
    first.ready();
    assert!(delivered(&first, 2));
    let copy = Daemon::start(&file, &copied, 1, &[]);
    copy.ready();
    assert!(delivered(&copy, 2));
    assert_eq!(push(&copy, 3).unwrap().0, 200);
    assert!(delivered(&copy, 3));
    assert_eq!(push(&first, 4).unwrap().0, 200);
    let failure = failure(&log);
    assert!(failure.contains("another process delivers under the name"), "{failure}");
    first.kill();
    let values: Vec<_> = broker.read("zones").into_iter().map(|m| m.value.unwrap()).collect();
    assert_eq!(values, ["{\"id\":1}", "{\"id\":2}", "{\"id\":3}"]);
}

#[test]
fn what_a_topic_refuses_stops_the_run_and_what_is_away_is_waited_for() {
    let Some(broker) = Broker::start() else { return };
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("p.toml");
    let write = |further: &str| {
        let text = format!(
            "name = \"p\"\n[sources.items]\ntype = \"http\"\nkey = \"id\"\n[sources.items.columns]\nid = \"int64\"\ntext = \
             \"string\"\nat = \"timestamp\"\n[sinks.out]\ntype = \"kafka\"\nbrokers = \"{}\"\nview = \"items\"\n{further}\n",
            broker.address
        );
        std::fs::write(&file, text).unwrap();
    };
    let push = |daemon: &Daemon, body: &str| {
        let url = format!("{}/v1/sources/items/records", daemon.url);
        let (status, answer) = support::post(&url, "application/json", None, body.as_bytes()).unwrap();
        assert_eq!(status, 200, "{answer}");
    };
    let metric = |daemon: &Daemon, line: &str| {
        (0..3000).any(|_| {
            std::thread::sleep(Duration::from_millis(10));
            support::get(&format!("{}/metrics", daemon.url)).is_ok_and(|(_, body)| body.contains(line))
        })
    };
    // A topic that is not there yet, then a broker that goes and comes back.
    write(
        "topic = \"later\"\nmode = \"append\"\nkey_columns = \"text\"\ntimestamp_column = \"at\"\ndelivery = \"at_least_once\"",
    );
    let mut daemon = Daemon::start(&file, &dir.path().join("data"), 1, &[]);
    daemon.ready();
    push(&daemon, r#"[{"id":1,"text":"a","at":"1970-01-01T00:00:02Z"},{"id":2,"text":"b","at":null}]"#);
    broker.create("later", 2);
    assert!(metric(&daemon, "thalweg_sink_lag_epochs{sink=\"out\"} 0"));
    broker.kill();
    push(&daemon, r#"{"id":3,"text":null,"at":null}"#);
    assert!(metric(&daemon, "thalweg_sink_connected{sink=\"out\"} 0"));
    assert!(daemon.is_alive());
    broker.again();
    assert!(metric(&daemon, "thalweg_sink_connected{sink=\"out\"} 1"));
    assert!(metric(&daemon, "thalweg_sink_epoch{sink=\"out\"} 2"));
    daemon.kill();
    let mut got: Vec<(Option<String>, i64)> =
        broker.read("later").into_iter().map(|m| (m.key, if m.at_ms < 10_000 { m.at_ms } else { 0 })).collect();
    got.sort();
    got.dedup();
    assert_eq!(got, [(None, 0), (Some("a".into()), 2000), (Some("b".into()), 0)]);

    // A message longer than the topic takes.
    broker.topics(&["--create", "--topic", "short", "--partitions", "1", "--config", "max.message.bytes=2000"]);
    write("topic = \"short\"");
    let data = dir.path().join("short");
    let log = dir.path().join("log");
    let mut daemon = Daemon::start_logged(&file, &data, 1, &[], &log);
    daemon.ready();
    push(&daemon, r#"{"id":1,"text":"short"}"#);
    push(&daemon, &format!("{{\"id\":2,\"text\":\"{}\"}}", "x".repeat(5000)));
    let failed = failure(&log);
    assert!(failed.contains("refuses a message") && failed.contains("max.message.bytes"), "{failed}");
    daemon.kill();
    // Raised, it goes on with that message.
    broker.configure("short", "max.message.bytes=100000");
    let daemon = Daemon::start(&file, &data, 1, &[]);
    daemon.ready();
    assert!(metric(&daemon, "thalweg_sink_epoch{sink=\"out\"} 2"));
    let keys: Vec<_> = broker.read("short").into_iter().map(|m| m.key.unwrap()).collect();
    assert_eq!(keys, ["1", "2"]);
}
