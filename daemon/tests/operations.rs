//! What operating the daemon rests on: that SIGTERM drains it, that Prometheus takes what it says of itself, and that what is
//! in `deploy/` speaks of metrics there are.

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use prometheus::core::Collector;
use serde_json::Value as Json;
use support::{Daemon, THALWEG, dump, free_port, get, post};

const PIPELINE: &str = r#"
name = "operated"

[epoch]
interval_ms = 2

[sources.events]
type = "http"
[sources.events.columns]
id = "int64"

[steps.list]
operator = "select"
input = "events"
"#;

fn pipeline(dir: &Path) -> PathBuf {
    let file = dir.join("pipeline.toml");
    std::fs::write(&file, PIPELINE).unwrap();
    file
}

#[test]
fn sigterm_drains_and_loses_nothing_that_was_acknowledged() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("store");
    let mut daemon = Daemon::start(&pipeline(dir.path()), &data, 2, &[]);
    daemon.ready();
    let records = format!("{}/v1/sources/events/records", daemon.url);
    let address = daemon.url.strip_prefix("http://").unwrap().to_owned();

    let mut subscriber = TcpStream::connect(&address).unwrap();
    write!(subscriber, "GET /v1/views/list/changes?from=snapshot HTTP/1.1\r\nHost: {address}\r\n\r\n").unwrap();
    // A push of which half has come when the signal does.
    let body = r#"{"id": -1}"#;
    let (first, second) = body.split_at(4);
    let head =
        format!("POST /v1/sources/events/records HTTP/1.1\r\nHost: {address}\r\nContent-Type: application/json\r\n");
    let mut half = TcpStream::connect(&address).unwrap();
    write!(half, "{head}Content-Length: {}\r\n\r\n{first}", body.len()).unwrap();

    // And others, one after another, until they are refused.
    let acknowledged = AtomicU64::new(0);
    let refusals = std::thread::scope(|scope| {
        let producer = scope.spawn(|| {
            for id in 0.. {
                match post(&records, "application/json", None, format!("{{\"id\": {id}}}").as_bytes()) {
                    Ok((200, _)) => acknowledged.store(id + 1, Ordering::SeqCst),
                    other => return other,
                }
            }
            unreachable!("the numbers do not end")
        });
        while acknowledged.load(Ordering::SeqCst) < 50 {
            std::thread::sleep(Duration::from_millis(1));
        }
        let sent = Command::new("kill").args(["-TERM", &daemon.child.id().to_string()]).status().unwrap();
        assert!(sent.success());
        producer.join().unwrap()
    });
    // An answer that says so, or no connection at all.
    if let Ok((status, body)) = &refusals {
        assert_eq!(*status, 503, "{body}");
    }
    let _ = half.write_all(second.as_bytes());
    let mut answer = String::new();
    let _ = half.read_to_string(&mut answer);
    assert!(["", "HTTP/1.1 200", "HTTP/1.1 503"].contains(&answer.get(..12).unwrap_or("")), "{answer}");
    // The stream comes to its end as streams do, and is not cut.
    let mut events = String::new();
    subscriber.read_to_string(&mut events).unwrap();
    assert!(events.ends_with("0\r\n\r\n"), "…{}", &events[events.len().saturating_sub(200)..]);
    assert_eq!(daemon.child.wait().unwrap().code(), Some(0));
    assert!(TcpStream::connect(&address).is_err());

    let acknowledged = acknowledged.into_inner();
    let lines = dump(&data, "list");
    let ids: BTreeSet<i64> =
        lines.lines().map(|l| serde_json::from_str::<Json>(l).unwrap()["id"].as_i64().unwrap()).collect();
    assert!((0..acknowledged as i64).all(|id| ids.contains(&id)), "{acknowledged} acknowledged, {} there", ids.len());
    assert!(!answer.starts_with("HTTP/1.1 200") || ids.contains(&-1));
    let verified = Command::new(THALWEG).args(["verify", "--data"]).arg(&data).output().unwrap();
    assert!(verified.status.success(), "{}", String::from_utf8_lossy(&verified.stderr));
}

/// Every metric there is, by name, with its labels.
fn metrics() -> BTreeMap<String, BTreeSet<String>> {
    // Taken apart, so that a new one cannot be forgotten here.
    let engine::metrics::Metrics {
        registry: _,
        received,
        sent,
        errors,
        discarded,
        source_lag,
        source_connected,
        sink_connected,
        sink_epoch,
        sink_lag,
        sink_records,
        source_watermark,
        freshness,
        sealed,
        computed,
        durable,
        published,
        epoch_latency,
        epoch_rows,
        faults,
        late,
        rehydration,
        pipeline_refused,
        view_rows,
        view_changes,
        optimality_gap,
        td_error,
        step_value,
    } = engine::metrics::Metrics::new();
    let collectors: [&dyn Collector; 27] = [
        &received,
        &sent,
        &errors,
        &discarded,
        &source_lag,
        &source_connected,
        &sink_connected,
        &sink_epoch,
        &sink_lag,
        &sink_records,
        &source_watermark,
        &freshness,
        &sealed,
        &computed,
        &durable,
        &published,
        &epoch_latency,
        &epoch_rows,
        &faults,
        &late,
        &rehydration,
        &pipeline_refused,
        &view_rows,
        &view_changes,
        &optimality_gap,
        &td_error,
        &step_value,
    ];
    let of_engine = collectors
        .iter()
        .flat_map(|c| c.desc())
        .map(|d| (d.fq_name.clone(), d.variable_labels.iter().cloned().collect()));
    let of_api = api::METRICS.iter().map(|m| (m.name.to_owned(), m.labels.iter().map(|l| (*l).to_owned()).collect()));
    of_engine.chain(of_api).collect()
}

fn deploy() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("deploy")
}

#[test]
fn what_is_deployed_speaks_of_metrics_and_labels_there_are() {
    let metrics = metrics();
    let labels: BTreeSet<&str> =
        metrics.values().flatten().map(String::as_str).chain(["instance", "job", "le"]).collect();
    let mut named = 0;
    for file in
        ["prometheus/prometheus.yml", "prometheus/alerts.yml", "prometheus/alerts_test.yml", "grafana/thalweg.json"]
    {
        let text = std::fs::read_to_string(deploy().join(file)).unwrap();
        for word in text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').filter(|w| w.starts_with("thalweg_")) {
            let parts = ["_bucket", "_sum", "_count"].iter().filter_map(|part| word.strip_suffix(part));
            assert!([word].into_iter().chain(parts).any(|n| metrics.contains_key(n)), "{file} names `{word}`");
            named += 1;
        }
        for (opening, closing) in [("by (", ')'), ("$labels.", ' '), ("{{", '}')] {
            for part in text.split(opening).skip(1) {
                let names = part.split(closing).next().unwrap();
                if names.trim_start().starts_with('$') {
                    continue;
                }
                for label in names.split(',').map(str::trim) {
                    assert!(labels.contains(label), "{file} names the label `{label}`");
                }
            }
        }
    }
    assert!(named > 50, "only {named} names were found");
    let board: Json =
        serde_json::from_str(&std::fs::read_to_string(deploy().join("grafana/thalweg.json")).unwrap()).unwrap();
    let panels = board["panels"].as_array().unwrap();
    let ids: BTreeSet<u64> = panels.iter().map(|p| p["id"].as_u64().unwrap()).collect();
    assert_eq!(ids.len(), panels.len());
}

/// Whether a program of Prometheus is there. Under CI it has to be: `scripts/setup` installs it.
fn there(program: &str) -> bool {
    let found = Command::new(program).arg("--version").output().is_ok();
    assert!(found || std::env::var_os("CI").is_none(), "{program} is missing: scripts/setup installs it");
    if !found {
        eprintln!("skipped: there is no {program} here (Debian's package `prometheus`)");
    }
    found
}

/// Runs promtool on a text; its own words are the failure's.
fn promtool(arguments: &[&str], input: &str) {
    let mut command = Command::new("promtool");
    command.args(arguments).current_dir(deploy().join("prometheus"));
    let pipes = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = pipes.spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    assert!(output.status.success(), "promtool {arguments:?}: {}", String::from_utf8_lossy(&said));
}

#[test]
fn every_alert_is_raised_when_it_should_be_and_not_before() {
    let rules = std::fs::read_to_string(deploy().join("prometheus/alerts.yml")).unwrap();
    let tests = std::fs::read_to_string(deploy().join("prometheus/alerts_test.yml")).unwrap();
    for alert in rules.lines().filter_map(|l| l.trim().strip_prefix("- alert: ")) {
        let raised = tests.contains(&format!("alertname: {alert}\n        exp_alerts:\n"));
        assert!(raised && tests.contains(&format!("{{ eval_time: 1h, alertname: {alert} }}")), "{alert} is not tested");
    }
    if there("promtool") {
        promtool(&["check", "rules", "alerts.yml"], "");
        promtool(&["test", "rules", "alerts_test.yml"], "");
    }
}

/// A Prometheus, killed when dropped.
struct Prometheus(Child);

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn prometheus_scrapes_the_daemon_with_a_token_and_finds_nothing_to_lint() {
    let dir = tempfile::tempdir().unwrap();
    let (file, data) = (pipeline(dir.path()), dir.path().join("store"));
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let drawn = Command::new(THALWEG).args(["token", "--name", "prometheus", "--role", "read"]).output().unwrap();
    let drawn = String::from_utf8(drawn.stdout).unwrap();
    let (token, line) = drawn.split_once('\n').unwrap();
    std::fs::write(path("thalweg.token"), token).unwrap();
    std::fs::write(path("tokens"), line).unwrap();
    let listen = format!("127.0.0.1:{}", free_port());
    let mut command = Command::new(THALWEG);
    command.arg("run").arg(&file).arg("--data").arg(&data).args(["--listen", &listen, "--tokens", &path("tokens")]);
    let daemon = Daemon { child: command.stdin(Stdio::null()).spawn().unwrap(), url: format!("http://{listen}") };
    daemon.ready_for(Some(token));
    let (status, text) = support::get_with(&format!("{}/metrics", daemon.url), Some(token)).unwrap();
    assert_eq!(status, 200);
    assert!(text.contains("thalweg_ready 1\n"), "{text}");
    if !there("promtool") || !there("prometheus") {
        return;
    }
    promtool(&["check", "metrics"], &text);

    // The configuration as it ships, with this machine's places in it.
    let config = std::fs::read_to_string(deploy().join("prometheus/prometheus.yml")).unwrap();
    let config = config.replace("/etc/prometheus/thalweg.token", &path("thalweg.token"));
    let config = config.replace("127.0.0.1:8080", &listen).replace("15s", "1s");
    std::fs::write(path("prometheus.yml"), config).unwrap();
    std::fs::copy(deploy().join("prometheus/alerts.yml"), path("alerts.yml")).unwrap();
    promtool(&["check", "config", &path("prometheus.yml")], "");
    let server = format!("127.0.0.1:{}", free_port());
    let log = std::fs::File::create(path("prometheus.log")).unwrap();
    let mut command = Command::new("prometheus");
    command.arg(format!("--config.file={}", path("prometheus.yml")));
    command.arg(format!("--storage.tsdb.path={}", path("tsdb"))).arg(format!("--web.listen-address={server}"));
    let _prometheus = Prometheus(command.stdout(Stdio::null()).stderr(log).spawn().unwrap());
    let mut answer = Err(String::new());
    for _ in 0..600 {
        answer = get(&format!("http://{server}/api/v1/query?query=thalweg_ready"));
        if answer.as_ref().is_ok_and(|(_, body)| body.contains(",\"1\"]")) {
            return;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    panic!("{answer:?}: {}", std::fs::read_to_string(path("prometheus.log")).unwrap());
}
