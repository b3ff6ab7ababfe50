//! From topic to topic through kills of the daemon and of the broker: whoever reads the committed messages that come out
//! sees what stands in the topic that went in, each once and a key's in order, and the views are those of a run over files.
//!
//! `THALWEG_MESSAGES`, `THALWEG_KILLS` and `THALWEG_BROKER_KILLS` make it as large as one likes.

#![allow(clippy::disallowed_methods, reason = "tests are switched by the environment")]

#[path = "support/broker.rs"]
mod broker;
mod support;

use std::io::Write as _;
use std::process::Command;
use std::time::Duration;

use broker::{Broker, Message};
use serde_json::Value as Json;
use support::{Daemon, Seeded, THALWEG, dump, get, run_to_end};

const PARTITIONS: usize = 8;
const KEYS: u64 = 5_000;

const PIPELINE: &str = r#"
name = "both"

[epoch]
rows_max = ROWS_MAX
interval_ms = 10

[retain]
epochs = 5

[sources.events]
FROM
[sources.events.columns]
id = "int64"
key = "int64"
value = "float64"

[steps.copies]
operator = "select"
input = "events"

[steps.by_key]
operator = "aggregate"
input = "events"
by = "key"
compute = { events = "count", total = "sum(value)", last = "max(id)" }
"#;

fn number(name: &str, usual: u64) -> u64 {
    std::env::var(name).ok().map_or(usual, |n| n.parse().expect("a number"))
}

/// The message of a number.
fn message(id: u64, rng: &mut Seeded) -> Message {
    let key = rng.below(KEYS);
    Message {
        partition: (key % PARTITIONS as u64) as i32,
        at_ms: 1_480_000_000_000 + id as i64,
        key: key.to_string(),
        value: Some(format!("{{\"id\":{id},\"key\":{key},\"value\":{}.25}}", rng.below(1_000_000))),
        kind: None,
    }
}

/// The ids of a topic's committed messages by key, each key's in their order.
fn ids(broker: &Broker, topic: &str) -> Vec<Vec<u32>> {
    let mut ids = vec![Vec::new(); KEYS as usize];
    broker.each(topic, |message| {
        let row: Json = serde_json::from_str(message.value.as_ref().expect("a stream has no deletions")).unwrap();
        assert_eq!(message.key, Some(row["key"].to_string()));
        ids[row["key"].as_u64().unwrap() as usize].push(row["id"].as_u64().unwrap() as u32);
    });
    ids
}

#[test]
fn each_message_that_goes_in_comes_out_once() {
    let Some(broker) = Broker::start() else { return };
    let messages = number("THALWEG_MESSAGES", 80_000);
    let kills = number("THALWEG_KILLS", 8);
    let broker_kills = number("THALWEG_BROKER_KILLS", 2);
    let seed = number("THALWEG_SEED", 21);
    eprintln!("{messages} messages, {kills} kills, {broker_kills} of the broker, seed {seed}");
    for topic in ["in", "copies", "keys"] {
        broker.create(topic, PARTITIONS);
    }
    let dir = tempfile::tempdir().unwrap();
    let (file, data) = (dir.path().join("both.toml"), dir.path().join("data"));
    let to = |topic: &str, view: &str, further: &str| {
        format!(
            "[sinks.{topic}]\ntype = \"kafka\"\nbrokers = \"{}\"\ntopic = \"{topic}\"\nview = \"{view}\"\n{further}\n",
            broker.address
        )
    };
    let source = format!("type = \"kafka\"\nbrokers = \"{}\"\ntopics = \"in\"", broker.address);
    let rows_max = (messages / 400).clamp(200, 10_000).to_string();
    let text = PIPELINE.replace("FROM", &source).replace("ROWS_MAX", &rows_max)
        + &to("copies", "copies", "key_columns = \"key\"")
        + &to("keys", "by_key", "");
    std::fs::write(&file, text).unwrap();

    let mut rng = Seeded::new(seed);
    let mut values = Seeded::new(seed + 1);
    let (mut sent, mut broken) = (0u64, 0);
    for round in 0..kills {
        let upto = messages * (round + 1) / kills;
        let batch: Vec<Message> = (sent..upto).map(|id| message(id, &mut values)).collect();
        sent = upto;
        std::thread::scope(|scope| {
            let sending = scope.spawn(|| batch.chunks(20_000).for_each(|chunk| broker.send("in", chunk)));
            let mut daemon = Daemon::spawn(&file, &data, 1 << rng.below(3), &[]);
            std::thread::sleep(Duration::from_millis(300 + rng.below(2_000)));
            if (round + 1) * broker_kills / kills > broken {
                broken += 1;
                broker.kill();
                std::thread::sleep(Duration::from_millis(rng.below(500)));
                assert_eq!(broker.again(), broker.address);
                std::thread::sleep(Duration::from_millis(300 + rng.below(2_000)));
            }
            assert!(daemon.is_alive(), "it died of itself in round {round}");
            daemon.kill();
            sending.join().unwrap();
        });
    }
    // What went in is what the topic holds: a producer whose broker is killed may send a batch again as a new one.
    let went_in = ids(&broker, "in");
    let stand = went_in.iter().map(|ids| ids.len() as u64).sum::<u64>();
    let mut distinct: Vec<u32> = went_in.iter().flatten().copied().collect();
    distinct.sort_unstable();
    distinct.dedup();
    assert_eq!(distinct.len() as u64, sent, "the producer lost messages");
    eprintln!("{sent} messages sent, {} of them twice", stand - sent);

    let mut daemon = Daemon::spawn(&file, &data, 2, &[]);
    let json = |path: &str| -> Json {
        let answer = get(&format!("{}{path}", daemon.url)).ok();
        answer.and_then(|(_, body)| serde_json::from_str(&body).ok()).unwrap_or_default()
    };
    let done = |_| {
        std::thread::sleep(Duration::from_millis(100));
        let read = json("/v1/sources/events")["records"].as_u64();
        assert!(read.is_none_or(|read| read <= stand), "{read:?} of {stand}");
        let (epochs, sinks) = (json("/v1/epochs"), json("/v1/sinks"));
        read == Some(stand)
            && epochs["sealed"] == epochs["published"]
            && sinks["sinks"].as_array().is_some_and(|s| s.iter().all(|s| s["lag_epochs"] == 0))
    };
    assert!((0..18_000).any(done), "{} {}", json("/v1/sources"), json("/v1/sinks"));
    daemon.kill();

    // Each once; a key's in order.
    let came_out = ids(&broker, "copies");
    for (key, (went_in, came_out)) in went_in.iter().zip(&came_out).enumerate() {
        let differ = went_in.iter().zip(came_out).position(|(a, b)| a != b);
        let lengths = (went_in.len(), came_out.len());
        assert!(went_in == came_out, "of key {key}, {lengths:?} messages; the first that differs is {differ:?}");
    }
    // The changelog's last row of each key is the view's, and its counts only grow.
    let mut rows = vec![(0, String::new()); KEYS as usize];
    broker.each("keys", |message| {
        let value = message.value.expect("no key is ever gone");
        let row: Json = serde_json::from_str(&value).unwrap();
        let (key, events) = (row["key"].as_u64().unwrap() as usize, row["events"].as_u64().unwrap());
        assert!(rows[key].0 < events, "of key {key}, {events} events come after {}", rows[key].0);
        rows[key] = (events, value);
    });
    rows.retain(|(events, _)| *events > 0);
    let view = dump(&data, "by_key");
    assert!(view.lines().eq(rows.iter().map(|(_, row)| row.as_str())), "the changelog does not end in the view");

    // A run over files gives the same bytes.
    let mut base = std::io::BufWriter::new(std::fs::File::create(dir.path().join("events.ndjson")).unwrap());
    broker.each("in", |message| writeln!(base, "{}", message.value.unwrap()).unwrap());
    base.into_inner().unwrap().sync_all().unwrap();
    let text = PIPELINE.replace("FROM", "type = \"file\"\npath = \"events.ndjson\"").replace("ROWS_MAX", "10000");
    std::fs::write(dir.path().join("files.toml"), text).unwrap();
    let files = dir.path().join("files");
    run_to_end(&dir.path().join("files.toml"), &files, 1);
    assert!(dump(&files, "by_key") == view, "the views differ from those of a run over files");
    let verified = Command::new(THALWEG).args(["verify", "--data"]).arg(&data).output().unwrap();
    assert!(verified.status.success(), "{}", support::text(&verified));
    assert_eq!(dump(&data, "faults"), "");
}
