//! `aggregate`: from a CSV file to a durable view of count, sum, min and max by key.
//!
//! Thalweg reads the file, maintains the view with its changes in epochs of 10,000 rows, and syncs every epoch, on one
//! worker and on two. The limit parses the same file into a hash map on one thread and keeps nothing.

use std::path::Path;

use arrow::array::AsArray as _;
use arrow::datatypes::{Float64Type, Int64Type};
use engine::{Phase, Plan};
use storage::Store;

use crate::csv::{Groups, bare_aggregate, write_events};
use crate::machine::Scratch;
use crate::measure::{Samples, timed};
use crate::report::Report;
use crate::{Options, subject};

pub const PIPELINE: &str = r#"
name = "bench_aggregate"

[epoch]
rows_max = 10_000

[sources.events]
type = "file"
path = "events.csv"
columns = { key = "int64", value = "float64" }

[steps.by_key]
operator = "aggregate"
input = "events"
by = ["key"]
compute = { events = "count", total = "sum(value)", least = "min(value)", greatest = "max(value)" }
"#;

const BARE: &str = "bare loop";

pub fn run(options: &Options, scratch: &Scratch, report: &mut Report) -> Result<(), String> {
    let plan = subject::plan(scratch.path(), PIPELINE)?;
    let file = scratch.path().join("events.csv");

    let events = options.pick(5_000_000, 500_000);
    report.progress(&format!("{events} events over 10,000 keys"));
    write_events(&file, events, 10_000, 1)?;
    let (mut bare, mut one, mut two) = (Samples::default(), Samples::default(), Samples::default());
    for _ in 0..options.repetitions() {
        let (groups, seconds) = timed(|| bare_aggregate(&file));
        let groups = groups?;
        bare.push(seconds);
        one.push(engine_run(&plan, scratch, 1, events, &groups)?);
        two.push(engine_run(&plan, scratch, 2, events, &groups)?);
    }
    let rate = |seconds: &Samples| seconds.map(|s| events as f64 / s);
    let ns = |seconds: &Samples, events: u64| seconds.map(|s| s * 1e9 / events as f64);
    report.against("rows_per_s_1w", "rows/s", &rate(&one), BARE, &rate(&bare));
    report.against("rows_per_s_2w", "rows/s", &rate(&two), BARE, &rate(&bare));
    report.against("ns_per_event_1e4_keys", "ns", &ns(&one, events), BARE, &ns(&bare, events));

    let events = options.pick(10_000_000, 1_000_000);
    report.progress(&format!("{events} events over 10,000,000 keys"));
    write_events(&file, events, 10_000_000, 2)?;
    let (mut bare, mut one) = (Samples::default(), Samples::default());
    for _ in 0..options.repetitions() {
        let (groups, seconds) = timed(|| bare_aggregate(&file));
        let groups = groups?;
        bare.push(seconds);
        one.push(engine_run(&plan, scratch, 1, events, &groups)?);
    }
    report.against("ns_per_event_1e7_keys", "ns", &ns(&one, events), BARE, &ns(&bare, events));
    Ok(())
}

/// One run on an empty store; gives the seconds from opening it until the last epoch is published.
fn engine_run(
    plan: &std::sync::Arc<Plan>,
    scratch: &Scratch,
    workers: usize,
    events: u64,
    expected: &Groups,
) -> Result<f64, String> {
    let data = scratch.fresh("store")?;
    let (run, seconds) = timed(|| to_the_end(plan, &data, workers));
    let (store, phase) = run?;
    if phase != Phase::Ended {
        return Err(format!("the engine did not end well: {phase:?}"));
    }
    check(plan, &store, events, expected)?;
    store.close();
    drop(store);
    scratch.remove("store")?;
    Ok(seconds)
}

fn to_the_end(plan: &std::sync::Arc<Plan>, data: &Path, workers: usize) -> Result<(Store, Phase), String> {
    let store = subject::open(plan, data)?;
    let engine = subject::start(plan, &store, workers);
    let phase = engine.handle().wait(|p| matches!(p, Phase::Ended | Phase::Failed(_)));
    engine.wait()?;
    Ok((store, phase))
}

/// The view holds what the bare loop found.
fn check(plan: &Plan, store: &Store, events: u64, expected: &Groups) -> Result<(), String> {
    /// More than this need not be decoded to see that a run was right: the rest is counted.
    const DECODED_MAX: usize = 1_000_000;
    let id = store.relation("by_key").ok_or("the store has no `by_key`")?;
    let rows = store.digest(id).rows;
    if rows != expected.len() as u64 {
        return Err(format!("{rows} rows, and the bare loop found {} keys", expected.len()));
    }
    if expected.len() > DECODED_MAX {
        return Ok(());
    }
    let view = subject::rows_of(plan, store, "by_key")?;
    let column = |name: &str| view.column_by_name(name).ok_or_else(|| format!("no column `{name}`"));
    let (keys, counts) = (column("key")?, column("events")?);
    let (keys, counts) = (keys.as_primitive::<Int64Type>(), counts.as_primitive::<Int64Type>());
    let floats = |name: &str| column(name).map(|c| c.as_primitive::<Float64Type>().clone());
    let (sums, least, greatest) = (floats("total")?, floats("least")?, floats("greatest")?);
    let mut seen = 0;
    for row in 0..keys.len() {
        let key = keys.value(row);
        let group = expected.get(&key).ok_or_else(|| format!("key {key} does not occur"))?;
        // Thalweg's sum is exact and rounded once; the loop's is rounded at every addition.
        let close = (sums.value(row) - group.sum).abs() <= 1e-9 * group.sum.abs();
        let same = counts.value(row) as u64 == group.count
            && least.value(row) == group.min
            && greatest.value(row) == group.max;
        if !(close && same) {
            return Err(format!("key {key}: the bare loop found {group:?}"));
        }
        seen += group.count;
    }
    if seen == events { Ok(()) } else { Err(format!("{seen} of {events} events are in the view")) }
}
