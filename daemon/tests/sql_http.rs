//! SQL over HTTP, as a running daemon answers it: at one epoch with other reads, within limits, cancelled when its client
//! goes away, and never in the way of those who look up a row.

mod support;

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value as Json, json};
use support::{Daemon, Seeded, THALWEG, get, post, until};

const PIPELINE: &str = r#"
name = "asked"

[epoch]
interval_ms = 2

[sources.events]
type = "http"
[sources.events.columns]
id = "int64"
bucket = "string"
v = "int64"

[sources.prices]
type = "http"
key = "bucket"
[sources.prices.columns]
bucket = "string"
price = "float64"

[steps.events_kept]
operator = "select"
input = "events"

[steps.totals]
operator = "aggregate"
input = "events"
by = "bucket"
[steps.totals.compute]
events = "count"
v = "sum(v)"
"#;

/// Longer than anyone waits, without much memory.
const LONG: &str =
    "SELECT count(*) FROM events_kept a, events_kept b, events_kept c, events_kept d WHERE a.v + b.v + c.v + d.v < 0";

fn start(dir: &Path) -> Daemon {
    let file = dir.join("pipeline.toml");
    std::fs::write(&file, PIPELINE).unwrap();
    let daemon = Daemon::start(&file, &dir.join("store"), 1, &[]);
    daemon.ready();
    daemon
}

/// Pushes seeded rows; gives the epoch that has all of them.
fn push(daemon: &Daemon, rows: u64) -> u64 {
    let mut seeded = Seeded::new(rows);
    let events: String = (0..rows)
        .map(|id| format!("{{\"id\":{id},\"bucket\":\"b{}\",\"v\":{}}}\n", seeded.below(17), seeded.below(1_000)))
        .collect();
    let prices: String = (0..15).map(|b| format!("{{\"bucket\":\"b{b}\",\"price\":{b}.25}}\n")).collect();
    let mut epoch = 0;
    for (source, lines) in [("events", events), ("prices", prices)] {
        let url = format!("{}/v1/sources/{source}/records", daemon.url);
        let (status, body) = post(&url, "application/x-ndjson", None, lines.as_bytes()).unwrap();
        assert_eq!(status, 200, "{body}");
        epoch = epoch.max(serde_json::from_str::<Json>(&body).unwrap()["epoch"].as_u64().unwrap());
    }
    epoch
}

fn ask(daemon: &Daemon, parameters: &str, content_type: &str, body: &str) -> (u16, Json) {
    let (status, body) =
        post(&format!("{}/v1/query{parameters}", daemon.url), content_type, None, body.as_bytes()).unwrap();
    (status, serde_json::from_str(&body).unwrap_or_else(|e| panic!("{e}: {body}")))
}

fn sql(daemon: &Daemon, query: &str) -> Json {
    let (status, answer) = ask(daemon, "", "application/sql", query);
    assert_eq!(status, 200, "{query}: {answer}");
    answer
}

#[test]
fn a_query_and_a_read_at_one_epoch_agree() {
    let dir = tempfile::tempdir().unwrap();
    let daemon = start(dir.path());
    let pushed = push(&daemon, 2_000);
    let joined = "SELECT t.bucket, t.events, t.v * t.events AS weighted, p.price
                  FROM totals t LEFT JOIN prices p ON p.bucket = t.bucket ORDER BY t.bucket";
    let (status, answer) = ask(&daemon, &format!("?min_epoch={pushed}"), "text/plain; charset=utf-8", joined);
    assert_eq!(status, 200, "{answer}");
    let epoch = answer["epoch"].as_u64().unwrap();
    assert!(epoch >= pushed);
    // What comes after does not change what was.
    push(&daemon, 1_000);
    let (_, read) = get(&format!("{}/v1/read?views=totals,prices&as_of={epoch}", daemon.url)).unwrap();
    let read: Json = serde_json::from_str(&read).unwrap();
    let rows = |view: &str| read["views"][view]["rows"].as_array().unwrap().clone();
    let prices: BTreeMap<String, Json> =
        rows("prices").iter().map(|r| (r["bucket"].as_str().unwrap().to_owned(), r["price"].clone())).collect();
    let want: Vec<Json> = rows("totals")
        .iter()
        .map(|r| {
            let weighted = r["v"].as_i64().unwrap() * r["events"].as_i64().unwrap();
            let price = prices.get(r["bucket"].as_str().unwrap()).cloned().unwrap_or_default();
            json!({"bucket": r["bucket"], "events": r["events"], "weighted": weighted, "price": price})
        })
        .collect();
    assert_eq!(want.len(), 17);
    let bare = |rows: &[Json]| rows.iter().map(|r| r.to_string().replace(".0", "")).collect::<Vec<_>>();
    assert_eq!(bare(answer["rows"].as_array().unwrap()), bare(&want));
    let (_, again) = ask(&daemon, &format!("?as_of={epoch}"), "application/sql", joined);
    assert_eq!(again, answer);
    assert_eq!(sql(&daemon, "SELECT count(*) AS n FROM events_kept")["rows"], json!([{"n": 3_000}]));
}

#[test]
fn a_body_is_the_query_alone_or_json_with_parameters() {
    let dir = tempfile::tempdir().unwrap();
    let daemon = start(dir.path());
    let pushed = push(&daemon, 50);
    let at = format!("?min_epoch={pushed}");
    let json_type = "application/json";
    let body = json!({
        "sql": "SELECT bucket, price, $2 AS two, $3 AS three, $4 AS four, $5 AS five FROM prices WHERE bucket = $1 AND price > $6",
        "params": ["b3", 7, null, true, 0.5, 1],
    });
    let (status, answer) = ask(&daemon, &at, json_type, &body.to_string());
    let want = json!([{"bucket": "b3", "price": 3.25, "two": 7, "three": null, "four": true, "five": 0.5}]);
    assert_eq!((status, &answer["rows"]), (200, &want), "{answer}");
    // A parameter is a value, whatever it looks like.
    let body = json!({"sql": "SELECT count(*) AS n FROM prices WHERE bucket = $1", "params": ["' OR true --"]});
    assert_eq!(ask(&daemon, &at, json_type, &body.to_string()).1["rows"], json!([{"n": 0}]));
    for (content_type, parameters, body, status, code, said) in [
        (json_type, "", "{\"sql\": \"SELECT 1\", \"parms\": []}", 400, "bad_payload", "parms"),
        (json_type, "", "{\"sql\": 1}", 400, "bad_payload", "`sql` is a string"),
        (json_type, "", "{}", 400, "bad_payload", "`sql` is missing"),
        (json_type, "", "[]", 400, "bad_payload", "object"),
        (json_type, "", "SELECT 1", 400, "bad_payload", "not JSON"),
        (json_type, "", "{\"sql\": \"SELECT $1\", \"params\": [[1]]}", 400, "bad_payload", "a parameter is"),
        (json_type, "", "{\"sql\": \"SELECT $1\", \"params\": [99999999999999999999]}", 200, "", ""),
        (json_type, "", "{\"sql\": \"SELECT $1\", \"params\": [18446744073709551615]}", 400, "bad_payload", "64 bits"),
        (json_type, "", "{\"sql\": \"SELECT $2\", \"params\": [1]}", 400, "bad_sql", "$2"),
        ("application/xml", "", "SELECT 1", 415, "unsupported_media_type", "application/sql"),
        ("application/sql", "?limit=3", "SELECT 1", 400, "unknown_parameter", "limit"),
        ("application/sql", "?as_of=999999999", "SELECT 1", 503, "epoch_not_published", "newest"),
        ("application/sql", "", "", 400, "bad_sql", "no query"),
        ("application/sql", "", "DROP TABLE prices", 400, "bad_sql", "only SELECT"),
        ("application/sql", "", "SELECT 1 / 0", 422, "query_failed", "division by zero"),
    ] {
        let answer = ask(&daemon, parameters, content_type, body);
        assert_eq!(answer.0, status, "{body}: {}", answer.1);
        if status != 200 {
            assert_eq!(answer.1["code"], code, "{body}");
            assert!(answer.1["message"].as_str().unwrap().contains(said), "{body}: {}", answer.1);
        }
    }
    let large = format!("SELECT '{}'", "x".repeat(2 << 20));
    // Refused before it is read: who still sends it then may find the connection closed.
    if let Ok((status, body)) = post(&format!("{}/v1/query", daemon.url), "application/sql", None, large.as_bytes()) {
        assert_eq!((status, body.contains("body_too_large")), (413, true), "{body}");
    }
    let (status, _) = get(&format!("{}/v1/query", daemon.url)).unwrap();
    assert_eq!(status, 405);
}

/// The value of a metric without labels.
fn metric(daemon: &Daemon, name: &str) -> f64 {
    let (_, text) = get(&format!("{}/metrics", daemon.url)).unwrap();
    let line = text.lines().find(|l| l.starts_with(&format!("{name} "))).unwrap_or_else(|| panic!("no {name}"));
    line.rsplit(' ').next().unwrap().parse().unwrap()
}

/// Sends a query and does not wait for its answer.
fn send(daemon: &Daemon, query: &str) -> TcpStream {
    let address = daemon.url.strip_prefix("http://").unwrap();
    let mut stream = TcpStream::connect(address).unwrap();
    let length = query.len();
    let request = format!(
        "POST /v1/query HTTP/1.1\r\nHost: {address}\r\nContent-Type: application/sql\r\nContent-Length: {length}\r\n\r\n{query}"
    );
    stream.write_all(request.as_bytes()).unwrap();
    stream
}

#[test]
fn long_queries_wait_for_each_other_and_nobody_waits_for_them() {
    let dir = tempfile::tempdir().unwrap();
    let daemon = start(dir.path());
    push(&daemon, 2_000);
    until("the rows are there", || sql(&daemon, "SELECT count(*) AS n FROM events_kept")["rows"][0]["n"] == 2_000);
    let streams: Vec<TcpStream> = (0..6).map(|_| send(&daemon, LONG)).collect();
    until("four queries run at once", || metric(&daemon, "thalweg_queries") == 4.0);
    let mut slowest = Duration::ZERO;
    for _ in 0..200 {
        let began = Instant::now();
        let (status, _) = get(&format!("{}/v1/views/totals/b1", daemon.url)).unwrap();
        assert_eq!(status, 200);
        slowest = slowest.max(began.elapsed());
    }
    println!("slowest lookup beside four long queries: {slowest:?}");
    assert!(slowest < Duration::from_secs(2), "a lookup took {slowest:?} beside long queries");
    // Their clients go: all of them end, long before their time is up, those that waited too.
    drop(streams);
    until("all queries have ended", || metric(&daemon, "thalweg_queries") == 0.0);
    assert_eq!(sql(&daemon, "SELECT 1 AS x")["rows"], json!([{"x": 1}]));
}

#[test]
fn a_daemon_that_ends_does_not_wait_for_a_query() {
    let dir = tempfile::tempdir().unwrap();
    let mut daemon = start(dir.path());
    push(&daemon, 2_000);
    let mut stream = send(&daemon, LONG);
    until("the query runs", || metric(&daemon, "thalweg_queries") == 1.0);
    let began = Instant::now();
    assert!(Command::new("kill").arg(daemon.child.id().to_string()).status().unwrap().success());
    let status = daemon.child.wait().unwrap();
    assert!(status.success(), "{status}");
    assert!(began.elapsed() < Duration::from_secs(10), "it took {:?}", began.elapsed());
    let mut answer = String::new();
    let _ = stream.read_to_string(&mut answer);
    assert!(answer.is_empty() || answer.contains("busy"), "{answer}");
}

#[test]
fn the_command_prints_the_same_whether_the_daemon_runs_or_not() {
    let dir = tempfile::tempdir().unwrap();
    let mut daemon = start(dir.path());
    let pushed = push(&daemon, 200);
    let epoch = ask(&daemon, &format!("?min_epoch={pushed}"), "application/sql", "SELECT 1").1["epoch"].clone();
    let thalweg = |from: [&str; 2], arguments: &[&str]| {
        let output = Command::new(THALWEG).arg("sql").args(from).args(arguments).stdin(Stdio::null()).output().unwrap();
        (output.status.code(), String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap())
    };
    let query = "SELECT bucket, events FROM totals WHERE bucket < 'b2' ORDER BY bucket";
    let (url, store) = (daemon.url.clone(), dir.path().join("store"));
    let (running, stopped) = (["--url", &url], ["--data", store.to_str().unwrap()]);
    let epoch = epoch.to_string();
    let asked: [&[&str]; 5] = [
        &[query],
        &["--format", "csv", query],
        &["--format", "json", "--as-of", &epoch, query],
        &["SELECT * FROM totls"],
        &["DROP TABLE totals"],
    ];
    let first: Vec<_> = asked.iter().map(|a| thalweg(running, a)).collect();
    assert_eq!(first[0].0, Some(0), "{:?}", first[0]);
    assert!(first[0].1.starts_with("{\"bucket\":\"b0\",\"events\":"), "{:?}", first[0]);
    assert!(first[1].1.starts_with("bucket,events\r\nb0,"), "{:?}", first[1]);
    assert_eq!(first[3].0, Some(1));
    assert!(first[3].2.contains("did you mean `totals`? (bad_sql)"), "{:?}", first[3]);
    assert!(Command::new("kill").arg(daemon.child.id().to_string()).status().unwrap().success());
    daemon.child.wait().unwrap();
    let second: Vec<_> = asked.iter().map(|a| thalweg(stopped, a)).collect();
    assert_eq!(first, second);
}
