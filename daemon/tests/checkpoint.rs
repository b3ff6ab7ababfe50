//! A running daemon's store is copied while records come, and a daemon that runs on the copy goes on from there.

mod support;

use std::process::{Command, Output};
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::Value;
use support::{Daemon, THALWEG, get, post, text};

const PIPELINE: &str = r#"
name = "counted"

[epoch]
interval_ms = 2

[sources.events]
type = "http"
columns = { bucket = "int64", v = "int64" }

[steps.totals]
operator = "aggregate"
input = "events"
by = "bucket"
[steps.totals.compute]
events = "count"
sum = "sum(v)"
"#;

fn thalweg(arguments: &[&str]) -> Output {
    Command::new(THALWEG).args(arguments).output().unwrap()
}

fn push(daemon: &Daemon, n: u64) {
    let body = format!("{{\"bucket\":{},\"v\":{n}}}\n", n % 7);
    let path = format!("{}/v1/sources/events/records", daemon.url);
    let key = format!("n-{n}");
    let (status, answer) = post(&path, "application/x-ndjson", Some(&key), body.as_bytes()).unwrap();
    assert_eq!(status, 200, "{answer}");
}

fn events(daemon: &Daemon) -> u64 {
    let (status, body) = get(&format!("{}/v1/views/totals", daemon.url)).unwrap();
    assert_eq!(status, 200, "{body}");
    let body: Value = serde_json::from_str(&body).unwrap();
    body["rows"].as_array().unwrap().iter().map(|row| row["events"].as_u64().unwrap()).sum()
}

#[test]
fn a_checkpoint_of_a_busy_daemon_is_a_store_to_go_on_from() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("pipeline.toml");
    std::fs::write(&file, PIPELINE).unwrap();
    let (data, restored) = (dir.path().join("store"), dir.path().join("restored"));
    let daemon = Daemon::start(&file, &data, 2, &[]);
    daemon.ready();
    (0..100).for_each(|n| push(&daemon, n));
    let over = AtomicBool::new(false);
    let pushed = std::thread::scope(|scope| {
        let producer = scope.spawn(|| {
            let mut n = 100;
            while !over.load(Ordering::SeqCst) {
                push(&daemon, n);
                n += 1;
            }
            n
        });
        for name in ["first", "second.v2"] {
            let made = thalweg(&["checkpoint", name, "--url", &daemon.url]);
            assert!(made.status.success(), "{}", text(&made));
        }
        over.store(true, Ordering::SeqCst);
        producer.join().unwrap()
    });

    // A name twice, and names that are none.
    let again = thalweg(&["checkpoint", "first", "--url", &daemon.url]);
    assert!(!again.status.success() && text(&again).contains("checkpoint_exists"), "{}", text(&again));
    for name in ["..", ".hidden", "a/b", "", &"x".repeat(101)] {
        let refused = thalweg(&["checkpoint", name, "--url", &daemon.url]);
        assert!(!refused.status.success(), "{name}: {}", text(&refused));
    }
    let (status, answer) = get(&format!("{}/v1/checkpoints/first", daemon.url)).unwrap();
    assert_eq!(status, 405, "{answer}");

    // The first goes on; what becomes of it is nothing to the copy.
    (pushed..pushed + 50).for_each(|n| push(&daemon, n));
    drop(daemon);
    let copy = data.join("checkpoints/second.v2");
    let (from, to) = (copy.to_str().unwrap(), restored.to_str().unwrap());
    let made = thalweg(&["restore", from, "--data", to]);
    assert!(made.status.success(), "{}", text(&made));
    let twice = thalweg(&["restore", from, "--data", to]);
    assert!(!twice.status.success() && text(&twice).contains("there is something"), "{}", text(&twice));
    let nothing = thalweg(&["restore", "nowhere", "--data", "elsewhere"]);
    assert!(!nothing.status.success(), "{}", text(&nothing));

    let daemon = Daemon::start(&file, &restored, 1, &[]);
    daemon.ready();
    let had = events(&daemon);
    assert!((100..=pushed).contains(&had), "{had} of {pushed}");
    // A producer that repeats itself from the beginning loses and doubles nothing.
    (0..pushed + 50).for_each(|n| push(&daemon, n));
    for _ in 0..500 {
        if events(&daemon) == pushed + 50 {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    panic!("{} of {}", events(&daemon), pushed + 50);
}
