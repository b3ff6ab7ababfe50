//! Exactly once at the HTTP edge, with the daemon killed again and again: a producer that repeats its unacknowledged
//! posts loses and doubles nothing; a subscriber that reconnects sees every change once.

mod support;

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use serde_json::Value;
use support::{Daemon, Seeded, dump, get, post};

const PIPELINE: &str = r#"
name = "pushed"

[epoch]
interval_ms = 2

[store]
stage_rows = 40
apply_rows = 500

[sources.events]
type = "http"
[sources.events.columns]
id = "int64"
bucket = "string"
v = "float64"

[sources.prices]
type = "http"
key = "bucket"
tombstone = "gone"
[sources.prices.columns]
bucket = "string"
price = "float64"
gone = "bool"

[steps.list]
operator = "select"
input = "events"

[steps.totals]
operator = "aggregate"
input = "events"
by = "bucket"
[steps.totals.compute]
events = "count"
sum = "sum(v)"

[steps.priced]
operator = "join"
left = "totals"
right = "prices"
on = "bucket"
"#;

const POSTS: u64 = 400;
const RECORDS: u64 = 5;
const KILLS: u64 = 24;

fn pipeline(dir: &Path) -> PathBuf {
    let file = dir.join("pipeline.toml");
    std::fs::write(&file, PIPELINE).unwrap();
    file
}

#[test]
fn producers_and_subscribers_see_everything_once_through_kills() {
    let dir = tempfile::tempdir().unwrap();
    let file = pipeline(dir.path());
    let data = dir.path().join("store");
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let url = format!("http://127.0.0.1:{port}");
    let acknowledged = Arc::new(AtomicU64::new(0));
    let over = Arc::new(AtomicBool::new(false));

    let producer = {
        let (url, acknowledged) = (url.clone(), acknowledged.clone());
        std::thread::spawn(move || {
            let (mut refused, mut epoch) = (0, 0);
            for n in 0..POSTS {
                let body: String = (0..RECORDS)
                    .map(|i| format!("{{\"id\":{},\"bucket\":\"b{}\",\"v\":{}.5}}\n", n * RECORDS + i, (n + i) % 7, i))
                    .collect();
                loop {
                    let key = format!("post-{n}");
                    match post(
                        &format!("{url}/v1/sources/events/records"),
                        "application/x-ndjson",
                        Some(&key),
                        body.as_bytes(),
                    ) {
                        Ok((200, answer)) => {
                            let answer: Value = serde_json::from_str(&answer).unwrap();
                            assert_eq!(answer["records"], RECORDS);
                            epoch = answer["epoch"].as_u64().unwrap();
                            break;
                        }
                        Ok((status, answer)) => assert!(status >= 500, "{status}: {answer}"),
                        Err(_) => {}
                    }
                    refused += 1;
                    std::thread::sleep(Duration::from_millis(15));
                }
                acknowledged.store(n + 1, Ordering::SeqCst);
            }
            (refused, epoch)
        })
    };
    let subscribers: Vec<_> = ["totals", "list"]
        .into_iter()
        .map(|view| {
            let (url, over) = (url.clone(), over.clone());
            std::thread::spawn(move || subscribe(&url, view, &over))
        })
        .collect();

    let mut rng = Seeded::new(5);
    let points = ["journal", "seal", "prepare", "commit", "committed", "publish", "apply_written", "compute"];
    for kill in 0..KILLS {
        let point = points[kill as usize % points.len()];
        let at = format!("{point}:{}", 1 + rng.below(20));
        let mut daemon = Daemon::start_at(&file, &data, 1 << rng.below(3), &[("THALWEG_CRASH", &at)], port);
        let before = acknowledged.load(Ordering::SeqCst);
        for _ in 0..400 {
            if !daemon.is_alive() || acknowledged.load(Ordering::SeqCst) >= before + POSTS / KILLS {
                break;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        daemon.kill();
    }
    let mut daemon = Daemon::start_at(&file, &data, 2, &[], port);
    let (refused, epoch) = producer.join().unwrap();
    assert!(refused > 0, "no post was ever refused: the test shows nothing");
    daemon.ready();
    let (status, totals) = get(&format!("{url}/v1/views/totals?limit=100&min_epoch={epoch}")).unwrap();
    assert_eq!(status, 200, "{totals}");
    let totals: Value = serde_json::from_str(&totals).unwrap();
    let events: i64 = totals["rows"].as_array().unwrap().iter().map(|r| r["events"].as_i64().unwrap()).sum();
    assert_eq!(events as u64, POSTS * RECORDS);

    // Subscribers have seen everything once they have seen the published epoch.
    std::thread::sleep(Duration::from_millis(500));
    over.store(true, Ordering::SeqCst);
    // One more change wakes them.
    post(
        &format!("{url}/v1/sources/events/records"),
        "application/x-ndjson",
        None,
        b"{\"id\":-1,\"bucket\":\"end\",\"v\":0}\n",
    )
    .unwrap();
    let seen: Vec<BTreeMap<String, Value>> = subscribers.into_iter().map(|s| s.join().unwrap()).collect();
    daemon.kill();
    for (view, seen) in ["totals", "list"].into_iter().zip(seen) {
        let rows: Vec<Value> = dump(&data, view).lines().map(|l| serde_json::from_str(l).unwrap()).collect();
        assert_eq!(seen.len(), rows.len(), "rows of `{view}`");
        for row in &rows {
            assert!(seen.values().any(|s| s == row), "`{view}`: {row} was never seen");
        }
    }
    let ids: Vec<i64> = dump(&data, "list")
        .lines()
        .map(|l| serde_json::from_str::<Value>(l).unwrap()["id"].as_i64().unwrap())
        .collect();
    let mut expected: Vec<i64> = (0..(POSTS * RECORDS) as i64).collect();
    expected.push(-1);
    assert_eq!(ids, expected, "every record once, in the order of the posts");
}

/// Follows a view from the beginning until told to stop, reconnecting; gives the rows by key. Every id must come
/// once and in order.
fn subscribe(url: &str, view: &str, over: &AtomicBool) -> BTreeMap<String, Value> {
    let mut rows = BTreeMap::new();
    let mut last = "0:end".to_owned();
    let mut seen = (0u64, 0u64);
    loop {
        let request = ureq::get(format!("{url}/v1/views/{view}/changes"))
            .header("Last-Event-ID", &last)
            .config()
            .timeout_connect(Some(Duration::from_secs(2)))
            .build();
        let Ok(response) = request.call() else {
            std::thread::sleep(Duration::from_millis(10));
            continue;
        };
        let mut lines = BufReader::new(response.into_body().into_reader()).lines();
        let (mut id, mut event, mut data) = (String::new(), String::new(), String::new());
        while let Some(Ok(line)) = lines.next() {
            if let Some(rest) = line.strip_prefix("id:") {
                id = rest.trim().to_owned();
            } else if let Some(rest) = line.strip_prefix("event:") {
                event = rest.trim().to_owned();
            } else if let Some(rest) = line.strip_prefix("data:") {
                data = rest.trim().to_owned();
            } else if line.is_empty() && !data.is_empty() {
                let value: Value = serde_json::from_str(&std::mem::take(&mut data)).unwrap();
                if event == "change" {
                    let (epoch, seq) = (value["epoch"].as_u64().unwrap(), value["seq"].as_u64().unwrap());
                    assert!((epoch, seq + 1) > seen, "{view}: {id} after {seen:?}");
                    assert!(
                        epoch > seen.0 && seq == 0 || epoch == seen.0 && seq == seen.1,
                        "{view}: a gap before {id}"
                    );
                    seen = (epoch, seq + 1);
                    let key = value["key"].to_string();
                    match value["op"].as_str().unwrap() {
                        "upsert" => rows.insert(key, value["row"].clone()),
                        _ => rows.remove(&key),
                    };
                }
                last.clone_from(&id);
                if event == "epoch" && over.load(Ordering::SeqCst) {
                    let end = if view == "totals" { "\"end\"" } else { "-1" };
                    if rows.values().any(|r| r.to_string().contains(end)) {
                        return rows;
                    }
                }
            }
        }
    }
}
