//! The benches behind `thalweg bench`: each measures its own limit in the same run, interleaved with Thalweg.
//!
//! A figure is the median of several repetitions, printed with the least and the greatest of them and, where there is
//! a limit to compare with, the ratio of the two medians. Ratios hold from one machine to the next better than times.
#![allow(clippy::disallowed_methods, reason = "a bench reads the clock")]

mod aggregate;
mod assignment;
mod auction;
mod commit;
mod csv;
mod dispatch;
mod features;
mod feed;
mod http;
mod kafka;
mod latency;
mod load;
mod lookup;
mod machine;
mod market;
mod measure;
mod memory;
mod recovery;
mod report;
mod selection;
mod subject;
mod td;

use std::path::PathBuf;

use crate::machine::Scratch;
use crate::report::Report;

/// How to run a bench.
#[derive(Clone, Debug)]
pub struct Options {
    /// One JSON object a line instead of a table.
    pub json: bool,
    /// Fewer and smaller runs: to see that a bench works, not to quote it.
    pub quick: bool,
    /// Where to put what the bench writes: a disk like the one the daemon would use. Removed afterwards.
    pub dir: PathBuf,
    /// The addresses of a Kafka cluster, for the bench that needs one.
    pub brokers: Option<String>,
    /// The daemon's binary, for the benches that need a process of their own.
    pub thalweg: PathBuf,
}

impl Options {
    fn repetitions(&self) -> usize {
        if self.quick { 2 } else { 5 }
    }

    fn pick<T>(&self, full: T, quick: T) -> T {
        if self.quick { quick } else { full }
    }
}

/// What every bench looks like from here.
type Bench = fn(&Options, &Scratch, &mut Report) -> Result<(), String>;

/// Every bench: its name, and in one sentence what it measures against what.
pub const BENCHES: &[(&str, &str)] = &[
    (
        "aggregate",
        "From a CSV file to a durable view of count, sum, min and max by key, against a bare loop with a hash map.",
    ),
    (
        "commit",
        "Durable epochs of 1,000 to 100,000 rows, against raw RocksDB and a file that is appended to and synced.",
    ),
    ("lookup", "Point lookups over HTTP while 50,000 events a second come in, against a bare axum server."),
    (
        "load",
        "Half an hour of events, lookups and subscribers together, one of whom never reads: latencies, and what grows.",
    ),
    (
        "latency",
        "From an event's being written to its being durable and readable, against a bare loop that syncs a log.",
    ),
    (
        "recovery",
        "From kill -9 to the first read served and to taking records again, against a bare scan of the same rows.",
    ),
    ("memory", "Resident bytes for each row of a table and a view of it, against the bytes of the row."),
    (
        "assignment",
        "Being optimal again after a change, in dense graphs and in a city of up to a million nodes, against solving anew.",
    ),
    (
        "auction",
        "MOHAF's published run and what its problem allows, on recorded data; a request's coming, against sorting anew.",
    ),
    (
        "market_latency",
        "From a venue's message to book, features, selection and prediction, for each of a recorded market.",
    ),
    (
        "market_quality",
        "How well recorded markets are predicted with all features, a set chosen once, and one chosen anew.",
    ),
    (
        "features",
        "The standard features of a recorded book, their moments, and the selection among 40, against a bare rank-1 update.",
    ),
    (
        "td",
        "TD(0) over 10,000 states: the kernel, and the operator from Arrow batches to changed values, against a bare loop.",
    ),
    (
        "dispatch_day",
        "Days of a simulated city by policy of dispatch: income, its gains with intervals, time and memory.",
    ),
    (
        "kafka",
        "A million messages from a topic to a view and from a view to a topic, exactly once, against bare librdkafka.",
    ),
    ("toy_market", "Orders served in the toy market of Xu et al. 2018 by policy, with intervals."),
];

/// Runs a bench and prints its figures on standard output.
///
/// # Errors
/// There is no bench of that name, something of the machine fails, or a result is wrong: a bench checks what it ran.
pub fn run(name: &str, options: &Options) -> Result<(), String> {
    let bench: Bench = match name {
        "aggregate" => aggregate::run,
        "commit" => commit::run,
        "lookup" => lookup::run,
        "load" => load::run,
        "latency" => latency::run,
        "recovery" => recovery::run,
        "memory" => memory::run,
        "assignment" => assignment::run,
        "auction" => auction::run,
        "market_latency" => market::latency,
        "market_quality" => market::quality,
        "features" => |options, scratch, report| {
            features::run(options, scratch, report)?;
            selection::run(options, scratch, report)
        },
        "td" => td::run,
        "dispatch_day" => dispatch::day,
        "kafka" => kafka::run,
        "toy_market" => dispatch::toy,
        _ => {
            let names: Vec<&str> = BENCHES.iter().map(|(n, _)| *n).collect();
            return Err(format!("there is no bench `{name}`; there are {}", names.join(", ")));
        }
    };
    let scratch = Scratch::new(&options.dir.join(name))?;
    let mut report = Report::new(name, options);
    bench(options, &scratch, &mut report)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pipeline_is_planned() {
        let pipelines = [
            aggregate::PIPELINE.to_owned(),
            lookup::PIPELINE.to_owned(),
            latency::pipeline(latency::Way::Appended, 1),
            latency::pipeline(latency::Way::Posted, 1),
            recovery::PIPELINE.to_owned(),
            memory::PIPELINE.to_owned(),
            auction::PIPELINE.to_owned(),
            features::pipeline(),
            td::PIPELINE.to_owned(),
        ];
        for text in pipelines {
            subject::plan(&PathBuf::new(), &text).unwrap();
        }
    }

    #[test]
    fn a_bench_of_another_name_is_refused_with_the_names_there_are() {
        let options = Options { json: true, quick: true, dir: PathBuf::new(), thalweg: PathBuf::new() };
        let message = run("nothing", &options).unwrap_err();
        assert!(BENCHES.iter().all(|(name, _)| message.contains(name)), "{message}");
    }
}
