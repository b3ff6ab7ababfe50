//! `td`: TD(0) over 10,000 states, from Arrow batches to changed values.
//!
//! The limit is a bare loop over arrays: the same update on the same transitions, states already numbered, no checks. The
//! kernel is [`operators::dispatch::value`]'s over columns; the operator takes batches of 8,192 in the order of event time,
//! numbers states, checks rows, and gives the changed rows and its state writes.

use std::path::Path;
use std::sync::Arc;

use arrow::array::{Float64Array, Int64Array, RecordBatch, TimestampMicrosecondArray};
use engine::operator::{Context, HistoryOperator, StepKind};
use operators::dispatch::tiles::Coding;
use operators::dispatch::value::{StepSize, Value};
use types::Delta;

use crate::machine::Scratch;
use crate::measure::{Rng, Samples, timed};
use crate::report::Report;
use crate::{Options, subject};

pub const PIPELINE: &str = r#"
name = "bench_td"

[sources.moves]
type = "file"
path = "moves.csv"
columns = { at = "timestamp", state = "int64", next = "int64", reward = "float64" }
event_time = "at"

[steps.values]
operator = "td_value"
input = "moves"
state = "state"
next_state = "next"
reward = "reward"
alpha = 0.05
gamma = 0.9
"#;

const STATES: u64 = 10_000;
const ROWS: usize = 8_192;
const BARE: &str = "bare loop";

pub fn run(options: &Options, scratch: &Scratch, report: &mut Report) -> Result<(), String> {
    let rows = options.pick(8_000_000, 800_000) / ROWS * ROWS;
    report.progress(&format!("{rows} transitions over {STATES} states"));
    let mut rng = Rng::new(4);
    let mut states = || (0..rows).map(|_| rng.below(STATES) as u32).collect::<Vec<u32>>();
    let (from, to) = (states(), states());
    let rewards: Vec<f64> = (0..rows).map(|_| rng.below(1_000) as f64 / 100.0).collect();
    let discounts = vec![0.9; rows];
    let mut new = new_step(scratch.path())?;
    let (mut bare, mut kernel, mut operator) = (Samples::default(), Samples::default(), Samples::default());
    for _ in 0..options.repetitions() {
        let (expected, seconds) = timed(|| bare_loop(&from, &to, &rewards));
        bare.push(seconds);

        let mut value = Value::new(Coding::Tabular, StepSize::Constant(0.05), 0.0);
        value.grow(STATES as usize);
        let (refused, seconds) = timed(|| value.learn_columns(&from, &to, &rewards, &discounts));
        kernel.push(seconds);
        let is_same = |(cell, expected): (usize, &f64)| value.current(cell as u32).to_bits() == expected.to_bits();
        if refused > 0 || !expected.iter().enumerate().all(is_same) {
            return Err("the kernel and the bare loop differ".to_owned());
        }

        let batches: Vec<RecordBatch> = (0..rows).step_by(ROWS).map(|at| batch(at, &from, &to, &rewards)).collect();
        let mut step = new();
        let (changed, seconds) = timed(|| {
            let mut changed = 0;
            for (epoch, rows) in batches.iter().enumerate() {
                let mut context = Context::new(epoch as u64 + 1, 0, 1);
                step.apply(0, rows, &mut context);
                step.advance(&mut context);
                let (outputs, ..) = context.into_parts();
                changed += outputs[0].iter().map(Delta::len).sum::<usize>();
            }
            changed
        });
        operator.push(seconds);
        if changed < STATES as usize {
            return Err("hardly a value changed".to_owned());
        }
    }
    let ns = |seconds: &Samples| seconds.map(|s| s * 1e9 / rows as f64);
    let rate = |seconds: &Samples| seconds.map(|s| rows as f64 / s);
    report.against("ns_per_update", "ns", &ns(&kernel), BARE, &ns(&bare));
    report.against("transitions_per_s_1w", "rows/s", &rate(&operator), BARE, &rate(&bare));
    Ok(())
}

fn bare_loop(from: &[u32], to: &[u32], rewards: &[f64]) -> Vec<f64> {
    let mut values = vec![0.0; STATES as usize];
    for ((from, to), reward) in from.iter().zip(to).zip(rewards) {
        let next: f64 = values[*to as usize];
        let value = &mut values[*from as usize];
        *value += 0.05 * (reward + 0.9 * next - *value);
    }
    values
}

fn batch(at: usize, from: &[u32], to: &[u32], rewards: &[f64]) -> RecordBatch {
    let rows = at..at + ROWS;
    let ints = |of: &[u32]| Arc::new(Int64Array::from_iter_values(of[rows.clone()].iter().map(|s| i64::from(*s))));
    let times = TimestampMicrosecondArray::from_iter_values(rows.clone().map(|at| at as i64)).with_timezone("UTC");
    let seqs = Int64Array::from_iter_values(rows.clone().map(|at| at as i64));
    let rewards = Float64Array::from(rewards[rows.clone()].to_vec());
    let columns =
        vec![Arc::new(times) as _, ints(from) as _, ints(to) as _, Arc::new(rewards) as _, Arc::new(seqs) as _];
    let names = ["at", "state", "next", "reward", types::SEQ];
    RecordBatch::try_from_iter(names.into_iter().zip(columns)).expect("columns of one length")
}

fn new_step(dir: &Path) -> Result<impl FnMut() -> Box<dyn HistoryOperator> + use<>, String> {
    let plan = subject::plan(dir, PIPELINE)?;
    match &plan.steps[0].plan.kind {
        StepKind::History(new) => {
            let new = new.clone();
            Ok(move || new())
        }
        other => Err(format!("the step is a {other:?}, not a function of history")),
    }
}
