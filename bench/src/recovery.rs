//! `recovery`: a daemon with many live rows is killed with -9; how soon does it serve reads, how soon take records.
//!
//! A table of orders (from a file) is aggregated by zone and joined with a table of zones (pushed over HTTP), so the
//! dataflow has to be rebuilt through a join and an aggregate. Times count from starting the process again. The limit
//! keeps the orders in raw RocksDB: open it and get a row; scan all of it into a hash map and group sums.

use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::Path;
use std::time::{Duration, Instant};

use hashbrown::HashMap;
use rocksdb::{DB, IteratorMode, WriteBatch, WriteOptions};
use rustc_hash::FxBuildHasher;

use crate::machine::{Scratch, folder_bytes, resident_bytes};
use crate::measure::{Rng, Samples, timed};
use crate::report::Report;
use crate::subject::Daemon;
use crate::{Options, http};

pub const PIPELINE: &str = r#"
name = "bench_recovery"

[sources.orders]
type = "file"
path = "orders.csv"
columns = { id = "int64", zone = "int64", amount = "float64" }
key = ["id"]

[sources.zones]
type = "http"
columns = { zone = "int64", name = "string" }
key = ["zone"]

[steps.by_zone]
operator = "aggregate"
input = "orders"
by = ["zone"]
compute = { orders = "count", amount = "sum(amount)" }

[steps.named]
operator = "join"
left = "orders"
right = "zones"
on = { zone = "zone" }
"#;

const ZONES: u64 = 1_000;
const BARE: &str = "raw RocksDB of the orders: open, get";
const BARE_SCAN: &str = "raw RocksDB of the orders: open, scan into hash maps";
/// For what is not measured: filling a store.
const PATIENCE: Duration = Duration::from_secs(1_800);

pub fn run(options: &Options, scratch: &Scratch, report: &mut Report) -> Result<(), String> {
    let sizes: &[(u64, &str)] = options.pick(&[(1_000_000, "1m"), (10_000_000, "10m")], &[(1_000_000, "1m")]);
    for (rows, name) in sizes {
        one_size(options, scratch, report, *rows, name)?;
    }
    Ok(())
}

fn one_size(options: &Options, scratch: &Scratch, report: &mut Report, rows: u64, name: &str) -> Result<(), String> {
    report.progress(&format!("{rows} orders: filling the stores"));
    write_orders(&scratch.path().join("orders.csv"), rows)?;
    let pipeline = scratch.path().join("pipeline.toml");
    std::fs::write(&pipeline, PIPELINE).map_err(|e| format!("{}: {e}", pipeline.display()))?;
    let raw = scratch.fresh("raw")?;
    fill_raw(&raw, rows)?;

    let data = scratch.fresh("store")?;
    let (filled, seconds) = timed(|| fill(options, &pipeline, &data, rows));
    let mut daemon = filled?;
    let mut fill_rate = Samples::default();
    fill_rate.push(rows as f64 / seconds);
    let mut resident = Samples::default();
    resident.push(resident_bytes(daemon.process())? as f64 / rows as f64);

    let (mut first_read, mut live, mut get, mut scan) = <(Samples, Samples, Samples, Samples)>::default();
    for repetition in 0..options.repetitions() {
        daemon.kill()?;
        let (got, seconds) = timed(|| raw_get(&raw));
        got?;
        get.push(seconds);
        let (groups, seconds) = timed(|| raw_scan(&raw));
        if groups? != (rows as usize, ZONES as usize) {
            return Err("the raw store does not hold what was put there".to_owned());
        }
        scan.push(seconds);

        let start = Instant::now();
        daemon = Daemon::start(&options.thalweg, &pipeline, &data)?;
        daemon.wait_for("/v1/views/by_zone/7", Duration::from_millis(1), PATIENCE)?;
        first_read.push(start.elapsed().as_secs_f64());
        daemon.wait_for("/healthz/ready", Duration::from_millis(5), PATIENCE)?;
        live.push(start.elapsed().as_secs_f64());
        // Live means that records are taken, and their effects are seen.
        let zone = format!("{{\"zone\":{ZONES},\"name\":\"new {repetition}\"}}\n");
        push_zones(&daemon, &zone)?;
    }
    let disk = folder_bytes(&data) as f64 / rows as f64;
    daemon.kill()?;
    for left in ["store", "raw", "orders.csv"] {
        scratch.remove(left)?;
    }
    report.against(&format!("first_read_s_{name}"), "s", &first_read, BARE, &get);
    report.against(&format!("live_s_{name}"), "s", &live, BARE_SCAN, &scan);
    report.figure(&format!("fill_rows_per_s_{name}"), "rows/s", &fill_rate);
    report.figure(&format!("resident_bytes_per_row_{name}"), "bytes", &resident);
    let mut on_disk = Samples::default();
    on_disk.push(disk);
    report.figure(&format!("disk_bytes_per_row_{name}"), "bytes", &on_disk);
    Ok(())
}

/// Starts a daemon on an empty store and waits until everything is in it.
fn fill(options: &Options, pipeline: &Path, data: &Path, rows: u64) -> Result<Daemon, String> {
    let mut daemon = Daemon::start(&options.thalweg, pipeline, data)?;
    daemon.wait_for("/healthz/ready", Duration::from_millis(5), PATIENCE)?;
    let zones: String = (0..ZONES).map(|z| format!("{{\"zone\":{z},\"name\":\"zone {z}\"}}\n")).collect();
    push_zones(&daemon, &zones)?;
    daemon.wait_for_records("orders", rows, PATIENCE)?;
    Ok(daemon)
}

fn push_zones(daemon: &Daemon, lines: &str) -> Result<(), String> {
    match http::post_ndjson(daemon.address, "/v1/sources/zones/records", lines) {
        Ok((200..=299, _)) => Ok(()),
        Ok((status, body)) => Err(format!("pushing zones: {status} {}", String::from_utf8_lossy(&body))),
        Err(e) => Err(format!("pushing zones: {e}")),
    }
}

/// The orders, one after the other: id, zone, amount in hundredths.
fn orders(rows: u64) -> impl Iterator<Item = (u64, u64, u64)> {
    let mut rng = Rng::new(5);
    (0..rows).map(move |id| (id, rng.below(ZONES), rng.below(10_000)))
}

fn write_orders(path: &Path, rows: u64) -> Result<(), String> {
    let write = || {
        let mut out = BufWriter::with_capacity(1 << 20, File::create(path)?);
        out.write_all(b"id,zone,amount\n")?;
        for (id, zone, amount) in orders(rows) {
            writeln!(out, "{id},{zone},{}.{:02}", amount / 100, amount % 100)?;
        }
        out.flush()
    };
    write().map_err(|e: std::io::Error| format!("{}: {e}", path.display()))
}

fn fill_raw(path: &Path, rows: u64) -> Result<(), String> {
    let mut options = rocksdb::Options::default();
    options.create_if_missing(true);
    let db = DB::open(&options, path).map_err(|e| e.to_string())?;
    let mut batch = WriteBatch::default();
    let mut unlogged = WriteOptions::default();
    unlogged.disable_wal(true);
    for (id, zone, amount) in orders(rows) {
        let mut value = zone.to_be_bytes().to_vec();
        value.extend_from_slice(&(amount as f64 / 100.0).to_be_bytes());
        batch.put(id.to_be_bytes(), value);
        if batch.len() == 10_000 {
            db.write_opt(std::mem::take(&mut batch), &unlogged).map_err(|e| e.to_string())?;
        }
    }
    db.write_opt(batch, &unlogged).and_then(|()| db.flush()).map_err(|e| e.to_string())
}

fn raw_get(path: &Path) -> Result<(), String> {
    let db = DB::open_default(path).map_err(|e| e.to_string())?;
    let row = db.get(7_u64.to_be_bytes()).map_err(|e| e.to_string())?;
    row.map(|_| ()).ok_or_else(|| "the raw store has no order 7".to_owned())
}

/// Every order under its id, and the sum of every zone. Gives how many there are of each.
fn raw_scan(path: &Path) -> Result<(usize, usize), String> {
    let db = DB::open_default(path).map_err(|e| e.to_string())?;
    let mut orders: HashMap<u64, (u64, f64), FxBuildHasher> = HashMap::default();
    let mut zones: HashMap<u64, (u64, f64), FxBuildHasher> = HashMap::default();
    for row in db.iterator(IteratorMode::Start) {
        let (key, value) = row.map_err(|e| e.to_string())?;
        let number = |bytes: &[u8]| Some(u64::from_be_bytes(bytes.try_into().ok()?));
        let cells = || Some((number(&key)?, number(value.get(..8)?)?, f64::from_bits(number(value.get(8..)?)?)));
        let (id, zone, amount) = cells().ok_or("the raw store holds something else")?;
        orders.insert(id, (zone, amount));
        let sum = zones.entry(zone).or_default();
        *sum = (sum.0 + 1, sum.1 + amount);
    }
    Ok((orders.len(), zones.len()))
}
