//! `lookup`: rows of a view by key over HTTP while events come in, against a bare axum server with a hash map.
//!
//! Both servers run in this process on as many threads as the daemon gives its API; the load generator has one thread
//! beside them. The bare server has the machine to itself; ours is measured at rest and while it ingests.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::routing::get;
use axum::{Json, Router};
use engine::{Handle, Phase};
use hashbrown::HashMap;
use rustc_hash::FxBuildHasher;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;

use crate::feed::{Feed, Lines, appending};
use crate::http::{self, Load};
use crate::machine::Scratch;
use crate::measure::{Rng, Samples};
use crate::report::Report;
use crate::{Options, subject};

pub const PIPELINE: &str = r#"
name = "bench_lookup"

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
"#;

const CONNECTIONS: usize = 16;
const EVENTS_PER_S: u64 = 50_000;
const BARE: &str = "bare axum, a hash map, nothing else running";

pub fn run(options: &Options, scratch: &Scratch, report: &mut Report) -> Result<(), String> {
    let keys: u64 = options.pick(100_000, 10_000);
    let time = options.pick(Duration::from_secs(3), Duration::from_secs(1));
    let file = scratch.path().join("events.csv");
    Feed::create(&file, Lines::Plain, keys)?;
    let plan = subject::plan(scratch.path(), PIPELINE)?;
    let store = subject::open(&plan, &scratch.fresh("store")?)?;
    let engine = subject::start(&plan, &store, 1);
    let handle = engine.handle().clone();
    wait_for_records(&handle, keys)?;

    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|e| format!("starting the servers' threads: {e}"))?;
    let bare_address = serve_bare(&runtime, keys)?;
    let (close, closed) = tokio::sync::oneshot::channel::<()>();
    let address = serve_ours(&runtime, handle.clone(), closed)?;

    let mut bare = Loads::default();
    let mut idle = Loads::default();
    let mut busy = Loads::default();
    let mut ingested = Samples::default();
    for _ in 0..options.repetitions() {
        bare.push(http::load(bare_address, CONNECTIONS, time, "/rows/", keys)?);
        idle.push(http::load(address, CONNECTIONS, time, "/v1/views/by_key/", keys)?);
        let first = handle.status().sources[0].records;
        let feed = Feed { lines: Lines::Plain, keys, rate: EVENTS_PER_S, first };
        let path = file.as_path();
        let (load, last, rate) = std::thread::scope(|scope| {
            let start = Instant::now();
            // The feed goes before and after the load, so that ingestion is in full flow all the while.
            let lead = Duration::from_millis(300);
            let feeding = scope.spawn(move || feed.run(start, time + 2 * lead, appending(path)?));
            std::thread::sleep(lead);
            let before = (handle.status().sources[0].records, Instant::now());
            let load = http::load(address, CONNECTIONS, time, "/v1/views/by_key/", keys);
            let rate = (handle.status().sources[0].records - before.0) as f64 / before.1.elapsed().as_secs_f64();
            (load, feeding.join().expect("the feed does not panic"), rate)
        });
        busy.push(load?);
        ingested.push(rate);
        wait_for_records(&handle, last?)?;
    }
    let _ = close.send(());
    handle.stop();
    engine.wait()?;
    runtime.shutdown_timeout(Duration::from_secs(5));
    store.close();

    report.against("requests_per_s", "1/s", &busy.requests_per_s, BARE, &bare.requests_per_s);
    report.against("p99_ms", "ms", &busy.p99_ms, BARE, &bare.p99_ms);
    report.against("p50_ms", "ms", &busy.p50_ms, BARE, &bare.p50_ms);
    report.figure("events_per_s_meanwhile", "events/s", &ingested);
    report.against("requests_per_s_at_rest", "1/s", &idle.requests_per_s, BARE, &bare.requests_per_s);
    report.against("p99_ms_at_rest", "ms", &idle.p99_ms, BARE, &bare.p99_ms);
    Ok(())
}

#[derive(Default)]
struct Loads {
    requests_per_s: Samples,
    p50_ms: Samples,
    p99_ms: Samples,
}

impl Loads {
    fn push(&mut self, load: Load) {
        self.requests_per_s.push(load.requests_per_s);
        self.p50_ms.push(load.p50_ms);
        self.p99_ms.push(load.p99_ms);
    }
}

/// Waits until so many records of the first source are in published epochs.
pub fn wait_for_records(handle: &Handle, records: u64) -> Result<(), String> {
    const AT_MOST: Duration = Duration::from_secs(60);
    let start = Instant::now();
    loop {
        let status = handle.status();
        if let Phase::Failed(reason) = &status.phase {
            return Err(reason.clone());
        }
        if status.sources[0].records >= records && status.published >= status.sealed {
            return Ok(());
        }
        if start.elapsed() > AT_MOST {
            return Err(format!("after {AT_MOST:?} only {} of {records} records are in", status.sources[0].records));
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn serve_ours(
    runtime: &Runtime,
    handle: Handle,
    closed: tokio::sync::oneshot::Receiver<()>,
) -> Result<SocketAddr, String> {
    let (listener, address) = listen(runtime)?;
    runtime.spawn(async move {
        let shutdown = async {
            let _ = closed.await;
        };
        if let Err(e) = api::serve(handle, listener, shutdown, api::Options::default()).await {
            eprintln!("the API ended: {e}");
        }
    });
    Ok(address)
}

/// A row as our API shows it.
#[derive(Clone, Copy, serde::Serialize)]
struct Row {
    key: u64,
    events: u64,
    total: f64,
}

type Rows = Arc<HashMap<u64, Row, FxBuildHasher>>;

/// The limit: the least an axum server can do for the same answer.
fn serve_bare(runtime: &Runtime, keys: u64) -> Result<SocketAddr, String> {
    let mut rng = Rng::new(4);
    let rows: Rows = Arc::new(
        (0..keys).map(|key| (key, Row { key, events: 1, total: rng.below(100_000) as f64 / 100.0 })).collect(),
    );
    let row = |State(rows): State<Rows>, Path(key): Path<u64>| async move {
        rows.get(&key).map(|row| Json(*row)).ok_or(StatusCode::NOT_FOUND)
    };
    let router = Router::new().route("/rows/{key}", get(row)).with_state(rows);
    let (listener, address) = listen(runtime)?;
    runtime.spawn(async move {
        if let Err(e) = axum::serve(listener, router).await {
            eprintln!("the bare server ended: {e}");
        }
    });
    Ok(address)
}

fn listen(runtime: &Runtime) -> Result<(TcpListener, SocketAddr), String> {
    let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).map_err(|e| format!("cannot listen: {e}"))?;
    let address = listener.local_addr().map_err(|e| format!("cannot listen: {e}"))?;
    Ok((listener, address))
}
