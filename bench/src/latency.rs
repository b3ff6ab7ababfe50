//! `latency`: from an event's being due at a source to a reader's seeing it in a durable view.
//!
//! Events come at a fixed rate ([`crate::feed`]): appended to a file that is followed, or pushed to an `http` source by
//! clients of which one is always free to push what has become due. Beside a running aggregate by key, a view keeps the
//! greatest event number; a reader waits for every published epoch and looks it up there. An event counts as readable
//! when the reader has the row of its epoch in hand; that epoch was synced before. The limit reads the same file as it
//! grows, folds it into a hash map and syncs a log of it, as often as it can.

use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

use arrow::array::AsArray as _;
use arrow::datatypes::Int64Type;
use engine::{Handle, Phase, Plan, Push, PushFormat, Pushed};
use storage::Store;
use types::{RowCodec, Value};

use crate::feed::{Feed, Lines, appending};
use crate::lookup::wait_for_records;
use crate::machine::Scratch;
use crate::measure::{Samples, quantile};
use crate::report::Report;
use crate::{Options, subject};

const PIPELINE: &str = r#"
name = "bench_latency"

[epoch]
interval_ms = INTERVAL

[sources.events]
SOURCE
columns = { id = "int64", lane = "int64", key = "int64", value = "float64" }

[steps.by_key]
operator = "aggregate"
input = "events"
by = ["key"]
compute = { events = "count", total = "sum(value)", least = "min(value)", greatest = "max(value)" }

[steps.newest]
operator = "aggregate"
input = "events"
by = ["lane"]
compute = { newest = "max(id)" }
"#;

const KEYS: u64 = 10_000;
/// Left out at the start of a run: caches fill, threads wake.
const WARM_UP: Duration = Duration::from_millis(500);
const BARE: &str = "bare loop: read, hash map, append, fsync";

pub fn run(options: &Options, scratch: &Scratch, report: &mut Report) -> Result<(), String> {
    let time = options.pick(Duration::from_secs(4), Duration::from_secs(2));
    let default_ms = engine::plan::Settings::default().epoch_interval_ms;
    let cases = [
        (10_000, default_ms, "10k"),
        (100_000, default_ms, "100k"),
        (10_000, 1, "10k_epoch_1ms"),
        (100_000, 1, "100k_epoch_1ms"),
    ];
    let ways = [(Way::Appended, ""), (Way::Posted, "_posted")];
    for (way, way_name, rate, interval_ms, name) in
        ways.into_iter().flat_map(|(way, name)| cases.map(|case| (way, name, case.0, case.1, case.2)))
    {
        report.progress(&format!("{rate} events/s, {way:?}, epochs of {interval_ms} ms"));
        let mut ours = Quantiles::default();
        let mut bare = Quantiles::default();
        for _ in 0..options.repetitions() {
            bare.push(bare_run(scratch, rate, time)?);
            ours.push(engine_run(scratch, way, rate, interval_ms, time)?);
        }
        for (quantile, ours, bare) in
            [("p50_ms", &ours.p50, &bare.p50), ("p99_ms", &ours.p99, &bare.p99), ("max_ms", &ours.max, &bare.max)]
        {
            report.against(&format!("{quantile}_{name}{way_name}"), "ms", ours, BARE, bare);
        }
    }
    Ok(())
}

/// How events get in.
#[derive(Clone, Copy, Debug)]
pub enum Way {
    /// Appended to a file that is followed.
    Appended,
    /// Pushed.
    Posted,
}

/// The pipeline, with epochs of so many milliseconds.
pub fn pipeline(way: Way, interval_ms: u64) -> String {
    let source = match way {
        Way::Appended => "type = \"file\"\npath = \"events.csv\"\nfollow = true",
        Way::Posted => "type = \"http\"",
    };
    PIPELINE.replace("INTERVAL", &interval_ms.to_string()).replace("SOURCE", source)
}

#[derive(Default)]
struct Quantiles {
    p50: Samples,
    p99: Samples,
    max: Samples,
}

impl Quantiles {
    fn push(&mut self, mut latencies: Vec<f64>) {
        latencies.sort_unstable_by(f64::total_cmp);
        self.p50.push(quantile(&latencies, 0.5) * 1e3);
        self.p99.push(quantile(&latencies, 0.99) * 1e3);
        self.max.push(quantile(&latencies, 1.0) * 1e3);
    }
}

/// Up to which mark (exclusive) everything was readable, and when. An appended event's mark is its number, a pushed one's
/// the epoch it was answered with.
type Seen = Vec<(u64, Instant)>;

/// One run of the feed: `give` brings in what is due and says each event's mark, `watch` sees what becomes readable until
/// it is told the last mark. Gives seconds an event.
fn latencies(
    feed: Feed,
    give: impl FnOnce(Instant) -> Result<Vec<u64>, String>,
    watch: impl FnOnce(&Watch) -> Result<Seen, String> + Send,
) -> Result<Vec<f64>, String> {
    let over = Watch { over: AtomicBool::new(false), last: AtomicU64::new(u64::MAX) };
    let start = Instant::now();
    let (marks, seen) = std::thread::scope(|scope| {
        let watching = scope.spawn(|| watch(&over));
        let marks = give(start);
        let last = marks.as_ref().ok().and_then(|marks| marks.iter().max());
        over.last.store(last.map_or(0, |m| m + 1), Ordering::Relaxed);
        over.over.store(true, Ordering::Relaxed);
        (marks, watching.join().expect("the reader does not panic"))
    });
    let (marks, seen) = (marks?, seen?);
    let mut latencies = Vec::with_capacity(marks.len());
    for (number, mark) in (feed.first..).zip(marks) {
        let at = seen.partition_point(|(upto, _)| *upto <= mark);
        let (_, readable) = seen.get(at).ok_or_else(|| format!("event {number} was never readable"))?;
        let due = feed.due(number);
        if due >= WARM_UP {
            latencies.push(readable.duration_since(start).saturating_sub(due).as_secs_f64());
        }
    }
    Ok(latencies)
}

/// Appends to a file what becomes due.
fn append_all(file: &Path, feed: Feed, time: Duration, start: Instant) -> Result<Vec<u64>, String> {
    feed.run(start, time, appending(file)?).map(|last| (feed.first..last).collect())
}

/// Pushes what becomes due, a push for every beat of the feed.
fn push_all(handle: &Handle, feed: Feed, time: Duration, start: Instant) -> Result<Vec<u64>, String> {
    /// More than pushes are under way at a time.
    const CLIENTS: usize = 64;
    let (due, next) = mpsc::channel::<(u64, Vec<u8>)>();
    let next = Mutex::new(next);
    std::thread::scope(|scope| {
        let client = || {
            let mut pushed = Vec::new();
            loop {
                let received = next.lock().expect("no holder panics").recv();
                let Ok((first, text)) = received else { return Ok::<_, String>(pushed) };
                let answer = push(handle, text)?;
                pushed.push((first, answer.records, answer.epoch));
            }
        };
        let clients: Vec<_> = (0..CLIENTS).map(|_| scope.spawn(client)).collect();
        let mut number = feed.first;
        let last = feed.run(start, time, |text| {
            let first = number;
            number += text.iter().filter(|b| **b == b'\n').count() as u64;
            due.send((first, text.to_vec())).map_err(|_| "every client has failed".to_owned())
        });
        drop(due);
        let mut marks = vec![0; (number - feed.first) as usize];
        for client in clients {
            for (first, records, epoch) in client.join().expect("no client panics")? {
                let at = (first - feed.first) as usize;
                marks[at..at + records as usize].fill(epoch);
            }
        }
        last.map(|_| marks)
    })
}

fn push(handle: &Handle, payload: Vec<u8>) -> Result<Pushed, String> {
    let push = Push { format: PushFormat::Ndjson, payload, idempotency_key: None };
    handle.push("events", push).map_err(|e| e.to_string())
}

/// What the reader is told of the feed.
struct Watch {
    over: AtomicBool,
    last: AtomicU64,
}

impl Watch {
    /// Whether the reader may go home: the feed is over and everything was seen, or it has waited long enough.
    fn is_done(&self, seen: u64, since_progress: Duration) -> bool {
        const PATIENCE: Duration = Duration::from_secs(20);
        self.over.load(Ordering::Relaxed) && (seen >= self.last.load(Ordering::Relaxed) || since_progress > PATIENCE)
    }
}

fn engine_run(scratch: &Scratch, way: Way, rate: u64, interval_ms: u64, time: Duration) -> Result<Vec<f64>, String> {
    let file = scratch.fresh("events.csv")?;
    Feed::create(&file, Lines::Numbered, KEYS)?;
    let plan = subject::plan(scratch.path(), &pipeline(way, interval_ms))?;
    let store = subject::open(&plan, &scratch.fresh("store")?)?;
    let engine = subject::start(&plan, &store, 1);
    let handle = engine.handle().clone();
    let watch = |watch: &Watch| read_newest(&plan, &store, way, watch);
    let result = match way {
        Way::Appended => {
            wait_for_records(&handle, KEYS)?;
            let feed = Feed { lines: Lines::Numbered, keys: KEYS, rate, first: KEYS };
            latencies(feed, |start| append_all(&file, feed, time, start), watch)
        }
        Way::Posted => {
            handle.wait(|p| !matches!(p, Phase::Rehydrating));
            push(&handle, Feed::first_lines(Lines::Json, KEYS))?;
            wait_for_records(&handle, KEYS)?;
            let feed = Feed { lines: Lines::Json, keys: KEYS, rate, first: KEYS };
            latencies(feed, |start| push_all(&handle, feed, time, start), watch)
        }
    };
    handle.stop();
    let ended = engine.wait();
    store.close();
    drop(store);
    scratch.remove("store")?;
    ended.and(result)
}

/// Looks the greatest event number up after every published epoch.
fn read_newest(plan: &Arc<Plan>, store: &Store, way: Way, watch: &Watch) -> Result<Seen, String> {
    let codec = RowCodec::new(subject::schema_of(plan, "newest"));
    let key = codec.key_of(&[Value::Int(0)]);
    let view = store.relation("newest").ok_or("the store has no `newest`")?;
    let mut seen: Seen = Vec::new();
    let mut epoch = store.published();
    let mut progress = Instant::now();
    loop {
        if !store.wait_published(epoch + 1, Duration::from_millis(50)) {
            if watch.is_done(seen.last().map_or(0, |s| s.0), progress.elapsed()) {
                return Ok(seen);
            }
            continue;
        }
        let snapshot = store.snapshot(None).map_err(|e| e.to_string())?;
        epoch = snapshot.epoch();
        let row = snapshot.get(view, &key).map_err(|e| e.to_string())?.ok_or("`newest` is empty")?;
        let batch = codec.decode([(key.as_slice(), row.as_slice())]).map_err(|e| e.to_string())?;
        let newest = batch.column_by_name("newest").ok_or("no column `newest`")?.as_primitive::<Int64Type>();
        assert_eq!(newest.len(), 1, "one key, one row");
        progress = Instant::now();
        let mark = match way {
            Way::Appended => newest.value(0) as u64,
            Way::Posted => epoch,
        };
        seen.push((mark + 1, progress));
    }
}

fn bare_run(scratch: &Scratch, rate: u64, time: Duration) -> Result<Vec<f64>, String> {
    let file = scratch.fresh("events.csv")?;
    Feed::create(&file, Lines::Numbered, KEYS)?;
    let log = scratch.fresh("log")?;
    let failed = |e: std::io::Error| format!("{}: {e}", file.display());
    let mut input = File::open(&file).map_err(failed)?;
    input.seek(SeekFrom::End(0)).map_err(failed)?;
    let feed = Feed { lines: Lines::Numbered, keys: KEYS, rate, first: KEYS };
    let result = latencies(feed, |start| append_all(&file, feed, time, start), |watch| bare_loop(input, &log, watch));
    scratch.remove("log")?;
    result
}

/// The limit: everything that is new is read, folded, logged and synced, again and again.
fn bare_loop(mut input: File, log: &Path, watch: &Watch) -> Result<Seen, String> {
    const PAUSE: Duration = Duration::from_micros(200);
    let failed = |e: std::io::Error| format!("the bare loop: {e}");
    let mut log = File::create(log).map_err(failed)?;
    let mut sums: hashbrown::HashMap<u64, f64, rustc_hash::FxBuildHasher> = hashbrown::HashMap::default();
    let mut seen: Seen = Vec::new();
    let mut text = Vec::new();
    let mut progress = Instant::now();
    loop {
        input.read_to_end(&mut text).map_err(failed)?;
        let Some(end) = text.iter().rposition(|b| *b == b'\n').map(|i| i + 1) else {
            if watch.is_done(seen.last().map_or(0, |s| s.0), progress.elapsed()) {
                return Ok(seen);
            }
            std::thread::sleep(PAUSE);
            continue;
        };
        let mut next = 0;
        for line in text[..end].split(|b| *b == b'\n').filter(|l| !l.is_empty()) {
            let line = std::str::from_utf8(line).map_err(|e| e.to_string())?;
            let mut cells = line.split(',');
            let mut cell = || cells.next().ok_or_else(|| format!("`{line}` is no event"));
            next = cell()?.parse::<u64>().map_err(|e| e.to_string())? + 1;
            cell()?;
            let key = cell()?.parse().map_err(|e: std::num::ParseIntError| e.to_string())?;
            *sums.entry(key).or_default() += cell()?.parse::<f64>().map_err(|e| e.to_string())?;
        }
        log.write_all(&text[..end]).and_then(|()| log.sync_data()).map_err(failed)?;
        text.drain(..end);
        progress = Instant::now();
        seen.push((next, progress));
    }
}
