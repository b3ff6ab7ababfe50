//! `load`: half an hour of everything at once: events come in, a hundred clients subscribe, two thousand rows a second are
//! looked up, and one subscriber never reads.
//!
//! Lookups are open-loop: each is due at its time, and its latency counts from then, so a daemon that is slow cannot slow
//! its load down. Memory is what the daemon has resident, looked at every second; its growth is the median of the last
//! tenth over that of the second tenth.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::feed::{Feed, Lines, appending};
use crate::http::{self, Steady};
use crate::machine::{Scratch, resident_bytes};
use crate::measure::{Samples, quantile};
use crate::report::Report;
use crate::subject::Daemon;
use crate::{Options, subject};

pub const PIPELINE: &str = r#"
name = "bench_load"

[sources.events]
type = "file"
path = "events.csv"
follow = true
columns = { key = "int64", value = "float64" }

[steps.by_key]
operator = "aggregate"
input = "events"
by = ["key"]
compute = { events = "count", total = "sum(value)" }

[steps.lots]
operator = "select"
input = "by_key"
[steps.lots.columns]
key = "key"
lot = "key % 16"
total = "total"

[steps.by_lot]
operator = "aggregate"
input = "lots"
by = ["lot"]
compute = { keys = "count", total = "sum(total)" }
"#;

const KEYS: u64 = 100_000;
const EVENTS_PER_S: u64 = 50_000;
const LOOKUPS_PER_S: u64 = 2_000;
const SUBSCRIBERS: usize = 100;
const CONNECTIONS: usize = 16;
const PATIENCE: Duration = Duration::from_secs(120);

pub fn run(options: &Options, scratch: &Scratch, report: &mut Report) -> Result<(), String> {
    let time = Duration::from_secs(options.pick(1_800, 20));
    let pipeline = scratch.path().join("pipeline.toml");
    std::fs::write(&pipeline, PIPELINE).map_err(|e| format!("{}: {e}", pipeline.display()))?;
    subject::plan(scratch.path(), PIPELINE)?;
    let file = scratch.path().join("events.csv");
    Feed::create(&file, Lines::Plain, KEYS)?;
    let mut daemon = Daemon::start(&options.thalweg, &pipeline, &scratch.fresh("store")?)?;
    daemon.wait_for("/healthz/ready", Duration::from_millis(5), PATIENCE)?;
    daemon.wait_for_records("events", KEYS, PATIENCE)?;
    let (address, process) = (daemon.address, daemon.process());
    report.progress(&format!(
        "{EVENTS_PER_S} events/s, {LOOKUPS_PER_S} lookups/s, {SUBSCRIBERS} subscribers and one that never reads, for {time:?}"
    ));

    let (over, told) = (AtomicBool::new(false), AtomicU64::new(0));
    let _silent = subscribe(address)?;
    let (lookups, resident, appended) = std::thread::scope(|scope| {
        let readers: Vec<_> = (0..SUBSCRIBERS).map(|_| scope.spawn(|| follow(address, &over, &told))).collect();
        let path = file.as_path();
        let feeding = scope.spawn(move || {
            let feed = Feed { lines: Lines::Plain, keys: KEYS, rate: EVENTS_PER_S, first: KEYS };
            feed.run(Instant::now(), time, appending(path)?)
        });
        let over = &over;
        let watching = scope.spawn(move || {
            let mut resident = Vec::new();
            while !over.load(Ordering::Relaxed) {
                resident.push(resident_bytes(process)?);
                std::thread::sleep(Duration::from_secs(1));
            }
            Ok::<_, String>(resident)
        });
        let steady = Steady { connections: CONNECTIONS, rate: LOOKUPS_PER_S, time };
        let lookups = http::steady(address, steady, "/v1/views/by_key/", KEYS);
        over.store(true, Ordering::Relaxed);
        for reader in readers {
            reader.join().map_err(|_| "a subscriber broke")??;
        }
        let appended = feeding.join().map_err(|_| "the feed broke")??;
        Ok::<_, String>((lookups?, watching.join().map_err(|_| "the watch broke")??, appended))
    })?;
    daemon.wait_for_records("events", appended, PATIENCE)?;
    daemon.kill()?;

    let seconds = time.as_secs_f64();
    let mut figure = |metric: &str, unit: &str, value: f64| {
        let mut one = Samples::default();
        one.push(value);
        report.figure(metric, unit, &one);
    };
    let tenth = resident.len() / 10;
    let median = |part: &[u64]| {
        let mut sorted = part.to_vec();
        sorted.sort_unstable();
        quantile(&sorted, 0.5) as f64
    };
    figure("lookups_per_s", "1/s", lookups.len() as f64 / seconds);
    for (name, share) in [("p50_ms", 0.5), ("p99_ms", 0.99), ("p999_ms", 0.999)] {
        figure(name, "ms", f64::from(quantile(&lookups, share)) / 1e6);
    }
    figure("events_per_s", "events/s", (appended - KEYS) as f64 / seconds);
    figure("changes_per_s_to_subscribers", "1/s", told.into_inner() as f64 / seconds);
    figure("resident_mb", "MB", median(&resident[resident.len() - tenth.max(1)..]) / 1e6);
    if tenth > 0 {
        figure("resident_growth", "ratio", median(&resident[9 * tenth..]) / median(&resident[tenth..2 * tenth]));
    }
    Ok(())
}

/// Opens a stream of changes and reads nothing.
fn subscribe(address: SocketAddr) -> Result<TcpStream, String> {
    let failed = |e: std::io::Error| format!("subscribing: {e}");
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(5)).map_err(failed)?;
    stream.write_all(b"GET /v1/views/by_lot/changes HTTP/1.1\r\nhost: bench\r\n\r\n").map_err(failed)?;
    Ok(stream)
}

/// Reads a stream of changes until the time is over. Every epoch's end must come once and in order.
fn follow(address: SocketAddr, over: &AtomicBool, told: &AtomicU64) -> Result<(), String> {
    let stream = subscribe(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(30))).map_err(|e| e.to_string())?;
    let mut reader = BufReader::new(stream);
    let (mut line, mut last) = (String::new(), 0);
    while !over.load(Ordering::Relaxed) {
        line.clear();
        match reader.read_line(&mut line) {
            Ok(0) => return Err("a subscription ended".to_owned()),
            Ok(_) => {}
            Err(e) => return Err(format!("a subscription: {e}")),
        }
        if line.starts_with("event: change") {
            told.fetch_add(1, Ordering::Relaxed);
        } else if let Some(epoch) = line.trim_end().strip_prefix("id: ").and_then(|id| id.strip_suffix(":end")) {
            let epoch: u64 = epoch.parse().map_err(|_| format!("an id is {epoch}"))?;
            if epoch < last {
                return Err(format!("epoch {epoch} comes after {last}"));
            }
            last = epoch;
        }
    }
    Ok(())
}
