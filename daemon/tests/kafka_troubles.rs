//! What a `kafka` source does when its cluster is odd: topics that come and go under a pattern, somebody else in its
//! consumer group, a broker that stands still.

#![allow(clippy::disallowed_methods, reason = "tests wait by the clock")]

#[path = "support/broker.rs"]
mod broker;
mod support;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use broker::{Broker, Message};
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use support::{Daemon, dump, get};

/// A pipeline that counts what comes, by topic.
fn pipeline(dir: &Path, broker: &Broker, topics: &str) -> PathBuf {
    let text = format!(
        "name = \"p\"\n[epoch]\ninterval_ms = 5\n[sources.s]\ntype = \"kafka\"\nbrokers = \"{}\"\ntopics = {topics}\n\
         topic_column = \"topic\"\ndiscover_secs = 0.2\n[sources.s.columns]\nid = \"int64\"\ntopic = \
         \"string\"\n[steps.count]\noperator = \"aggregate\"\ninput = \"s\"\nby = \"topic\"\ncompute = {{ n = \"count\", ids = \
         \"sum(id)\" }}\n",
        broker.address
    );
    let file = dir.join("pipeline.toml");
    std::fs::write(&file, text).unwrap();
    file
}

fn messages(ids: std::ops::Range<i64>, partitions: i64) -> Vec<Message> {
    ids.map(|id| Message {
        partition: (id % partitions) as i32,
        at_ms: 1_480_000_000_000 + id,
        key: id.to_string(),
        value: Some(format!("{{\"id\":{id}}}")),
        kind: None,
    })
    .collect()
}

fn json(url: &str) -> serde_json::Value {
    get(url).ok().and_then(|(_, body)| serde_json::from_str(&body).ok()).unwrap_or_default()
}

fn records(daemon: &Daemon) -> u64 {
    json(&format!("{}/v1/sources/s", daemon.url))["records"].as_u64().unwrap_or(0)
}

fn is_connected(daemon: &Daemon, is: bool) -> bool {
    let line = format!("thalweg_source_connected{{source=\"s\"}} {}", u8::from(is));
    get(&format!("{}/metrics", daemon.url)).is_ok_and(|(_, metrics)| metrics.contains(&line))
}

#[track_caller]
fn wait(what: &str, mut is: impl FnMut() -> bool) {
    let started = Instant::now();
    while !is() {
        assert!(started.elapsed() < Duration::from_secs(60), "it never is so that {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Waits until that many records are read and published, and no more.
fn reaches(daemon: &Daemon, count: u64) {
    wait(&format!("there are {count} records"), || {
        let read = records(daemon);
        assert!(read <= count, "{read} records of {count}");
        // Asked after it: what was read then is published by now.
        let epochs = json(&format!("{}/v1/epochs", daemon.url));
        read == count && epochs["sealed"] == epochs["published"]
    });
}

#[test]
fn topics_that_match_a_pattern_are_read_as_they_come() {
    let Some(broker) = Broker::start() else { return };
    let dir = tempfile::tempdir().unwrap();
    let file = pipeline(dir.path(), &broker, "[\"orders-*\", \"other\"]");
    let data = dir.path().join("data");
    // Nothing matches: it waits.
    let mut daemon = Daemon::start(&file, &data, 1, &[]);
    wait("the cluster is reached", || is_connected(&daemon, true));
    assert_eq!(records(&daemon), 0);
    broker.create("orders", 1);
    broker.send("orders", &messages(0..5, 1));
    broker.create("orders-eu", 2);
    broker.send("orders-eu", &messages(0..10, 2));
    reaches(&daemon, 10);
    broker.create("orders-us", 1);
    broker.send("orders-us", &messages(0..7, 1));
    reaches(&daemon, 17);
    daemon.kill();
    // One that comes while it is away, and a named one.
    broker.create("orders-asia", 1);
    broker.send("orders-asia", &messages(0..3, 1));
    broker.create("other", 1);
    broker.send("other", &messages(0..1, 1));
    broker.send("orders-eu", &messages(10..12, 2));
    let mut daemon = Daemon::start(&file, &data, 2, &[]);
    reaches(&daemon, 23);
    daemon.kill();
    let expected = [
        r#"{"topic":"orders-asia","n":3,"ids":3}"#,
        r#"{"topic":"orders-eu","n":12,"ids":66}"#,
        r#"{"topic":"orders-us","n":7,"ids":21}"#,
        r#"{"topic":"other","n":1,"ids":0}"#,
    ];
    assert_eq!(dump(&data, "count").lines().collect::<Vec<_>>(), expected);
}

#[test]
fn where_latest_was_is_kept_before_anything_comes() {
    let Some(broker) = Broker::start() else { return };
    broker.create("t", 2);
    broker.send("t", &messages(0..100, 2));
    let dir = tempfile::tempdir().unwrap();
    let file = pipeline(dir.path(), &broker, "\"t\"\nstart = \"latest\"\ngroup = \"told\"");
    let data = dir.path().join("data");
    let mut daemon = Daemon::start(&file, &data, 1, &[]);
    wait("an epoch says where it begins", || {
        json(&format!("{}/v1/epochs", daemon.url))["published"].as_u64() >= Some(1)
    });
    daemon.kill();
    // These came after it had begun.
    broker.send("t", &messages(100..107, 2));
    let mut daemon = Daemon::start(&file, &data, 2, &[]);
    reaches(&daemon, 7);
    broker.send("t", &messages(107..110, 2));
    reaches(&daemon, 10);
    // Kafka's tools see how far it is.
    let group: BaseConsumer =
        ClientConfig::new().set("bootstrap.servers", &broker.address).set("group.id", "told").create().unwrap();
    wait("the group is told", || {
        let mut list = TopicPartitionList::new();
        list.add_partition("t", 0);
        list.add_partition("t", 1);
        let told = group.committed_offsets(list, Duration::from_secs(5));
        told.is_ok_and(|told| told.elements().iter().all(|p| p.offset() == Offset::Offset(55)))
    });
    daemon.kill();
    assert_eq!(dump(&data, "count"), "{\"topic\":\"t\",\"n\":10,\"ids\":1045}\n");
}

#[test]
fn whoever_else_is_in_its_group_changes_nothing() {
    let Some(broker) = Broker::start() else { return };
    broker.create("t", 4);
    let dir = tempfile::tempdir().unwrap();
    let file = pipeline(dir.path(), &broker, "\"t\"\ngroup = \"shared\"");
    let data = dir.path().join("data");
    broker.send("t", &messages(0..1_000, 4));
    // It takes what the source would take, in the group the source tells, and says so to the cluster.
    let stop = Arc::new(AtomicBool::new(false));
    let thief: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", &broker.address)
        .set("group.id", "shared")
        .set("auto.offset.reset", "earliest")
        .set("enable.auto.commit", "false")
        .create()
        .unwrap();
    thief.subscribe(&["t"]).unwrap();
    let stopped = stop.clone();
    let stealing = std::thread::spawn(move || {
        let mut stolen = 0;
        while !stopped.load(Ordering::Relaxed) {
            if let Some(Ok(message)) = thief.poll(Duration::from_millis(50)) {
                // One that comes while the group is dealt out anew is refused.
                stolen += u64::from(thief.commit_message(&message, CommitMode::Sync).is_ok());
            }
        }
        stolen
    });
    let mut daemon = Daemon::start(&file, &data, 1, &[]);
    reaches(&daemon, 1_000);
    for round in 1..4 {
        // Killed and begun again, with all offsets of the group beyond what it has read.
        daemon.kill();
        broker.send("t", &messages(round * 1_000..(round + 1) * 1_000, 4));
        std::thread::sleep(Duration::from_millis(500));
        daemon = Daemon::start(&file, &data, 1 + round as usize % 2, &[]);
        reaches(&daemon, (round as u64 + 1) * 1_000);
    }
    daemon.kill();
    stop.store(true, Ordering::Relaxed);
    let stolen: u64 = stealing.join().unwrap();
    assert!(stolen > 100, "the thief took {stolen} messages only");
    assert_eq!(dump(&data, "count"), "{\"topic\":\"t\",\"n\":4000,\"ids\":7998000}\n");
}

#[test]
fn a_broker_that_stands_still_is_told_of_and_nothing_is_lost() {
    let Some(broker) = Broker::start() else { return };
    broker.create("t", 3);
    let dir = tempfile::tempdir().unwrap();
    let file = pipeline(dir.path(), &broker, "\"t\"");
    let data = dir.path().join("data");
    broker.send("t", &messages(0..500, 3));
    let mut daemon = Daemon::start(&file, &data, 1, &[]);
    reaches(&daemon, 500);
    wait("the cluster is reached", || is_connected(&daemon, true));
    for round in 1..3 {
        broker.pause();
        // Its connections are open, and it answers nothing.
        wait("the standstill is told of", || is_connected(&daemon, false));
        assert!(
            daemon.is_alive() && get(&format!("{}/healthz/live", daemon.url)).is_ok_and(|(status, _)| status == 200)
        );
        std::thread::sleep(Duration::from_secs(3));
        broker.resume();
        broker.send("t", &messages(round * 500..(round + 1) * 500, 3));
        reaches(&daemon, (round as u64 + 1) * 500);
        wait("it is reached again", || is_connected(&daemon, true));
    }
    // It stands still while the daemon begins.
    daemon.kill();
    broker.send("t", &messages(1_500..2_000, 3));
    broker.pause();
    let mut daemon = Daemon::start(&file, &data, 2, &[]);
    std::thread::sleep(Duration::from_secs(2));
    assert!(daemon.is_alive() && is_connected(&daemon, false));
    broker.resume();
    reaches(&daemon, 2_000);
    daemon.kill();
    assert_eq!(dump(&data, "count"), "{\"topic\":\"t\",\"n\":2000,\"ids\":1999000}\n");
}
