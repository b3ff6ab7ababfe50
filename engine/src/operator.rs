//! The operator seam: what a step computes with, in its two kinds.
//!
//! A **function of tables** ([`TableOperator`]) gives, at every epoch, a pure function of its inputs as of that epoch.
//! A **function of history** ([`HistoryOperator`]) is fed single events in the order of (event time, input, key)
//! behind the watermark. A step may also be built as a piece of dataflow ([`Build`]), which is how the differential
//! operators come in.
//!
//! One instance runs on each worker and sees the rows of its shards only: those whose routing columns
//! ([`crate::plan::Route`]) hash there.

use std::sync::Arc;

use arrow::array::RecordBatch;
use timely::dataflow::{Scope, Stream};
use types::{ChangeSet, Delta, Epoch, Fault, Micros, shard_of};

/// A stream of changes between steps.
pub type DeltaStream<'scope> = Stream<'scope, Epoch, Vec<Delta>>;

/// A step as a piece of dataflow: from its inputs (already routed) to its one output.
pub type Build =
    Arc<dyn for<'scope> Fn(Scope<'scope, Epoch>, Vec<DeltaStream<'scope>>) -> DeltaStream<'scope> + Send + Sync>;

/// A function of tables.
///
/// # Contract
/// `step` is called once for every epoch in which an input changed, in epoch order, with all changes of that epoch
/// on this worker; one input may have several batches, and a row may come and go within them. After it, the sum of
/// all outputs equals the function of the sum of all inputs. The order of rows and batches must not matter.
///
/// After a restart the operator is new. If its step is not persistent, its first call carries the whole inputs.
/// If it is, it gets its stored state by `restore` first, and then only what is new.
pub trait TableOperator {
    /// One entry of the operator's stored state, as [`Context::put_state`] wrote it, before the first step.
    fn restore(&mut self, key: &[u8], value: &[u8]) {
        let _ = (key, value);
    }

    /// All changes of one epoch: `inputs[i]` are the batches of the i-th input.
    fn step(&mut self, inputs: Vec<Vec<Delta>>, context: &mut Context);
}

/// A function of history.
///
/// # Contract
/// `apply` is given events in order, each once, and must treat them one after the other: how they are cut into
/// batches and epochs must not matter. All state the function needs after a restart is written with
/// [`Context::put_state`] and comes back by `restore`.
///
/// What it emits into an append-only output with an event time must not lie before the watermark of the epoch before,
/// else what reads it sees it late: the event time of the event at hand, or in `advance` any time below the watermark
/// that the operator has not yet told of, will do.
pub trait HistoryOperator {
    /// One entry of the operator's stored state, before the first event.
    fn restore(&mut self, key: &[u8], value: &[u8]);

    /// The next events of input `input`, in order. Calls alternate between inputs as the order demands.
    fn apply(&mut self, input: usize, events: &RecordBatch, context: &mut Context);

    /// Every event before `context.watermark` has been given. Called at each epoch, with events or without. What the
    /// operator does here it must also do, and in the same way, when a later event shows it that time has passed: how
    /// often it is called must not matter.
    fn advance(&mut self, context: &mut Context) {
        let _ = context;
    }
}

/// Makes a table operator for a worker.
pub type NewTable = Arc<dyn Fn() -> Box<dyn TableOperator> + Send + Sync>;
/// Makes a history operator for a worker.
pub type NewHistory = Arc<dyn Fn() -> Box<dyn HistoryOperator> + Send + Sync>;

/// How a step is computed.
#[derive(Clone)]
pub enum StepKind {
    /// A function of tables.
    Table(NewTable),
    /// A function of history.
    History(NewHistory),
    /// A piece of dataflow; a function of tables.
    Dataflow(Build),
}

impl std::fmt::Debug for StepKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            StepKind::Table(_) => "Table",
            StepKind::History(_) => "History",
            StepKind::Dataflow(_) => "Dataflow",
        })
    }
}

/// What an operator sees of its surroundings, and where it puts what it makes.
#[derive(Debug)]
pub struct Context {
    /// The epoch being computed.
    pub epoch: Epoch,
    /// The watermark of the step's inputs at this epoch.
    pub watermark: Micros,
    outputs: Vec<Vec<Delta>>,
    state: ChangeSet,
    faults: Vec<(Fault, i64)>,
    gauges: Vec<(&'static str, Gauge)>,
}

/// What a worker's share of a step says of itself at an epoch. Shares of one name are put together over the workers that
/// say something at that epoch, so a sum is to be said at every one: in [`HistoryOperator::advance`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Gauge {
    /// The figure itself; of several one counts.
    One(f64),
    /// A part of a sum.
    Sum(f64),
    /// A part of a mean: the sum and the count of what was summed.
    Mean(f64, f64),
}

impl Gauge {
    /// This and that of another worker.
    pub fn and(self, other: Gauge) -> Gauge {
        match (self, other) {
            (Gauge::Sum(a), Gauge::Sum(b)) => Gauge::Sum(a + b),
            (Gauge::Mean(a, m), Gauge::Mean(b, n)) => Gauge::Mean(a + b, m + n),
            (_, other) => other,
        }
    }

    /// The figure; none is a mean of nothing.
    pub fn figure(self) -> Option<f64> {
        match self {
            Gauge::One(figure) | Gauge::Sum(figure) => Some(figure),
            Gauge::Mean(sum, count) => (count > 0.0).then(|| sum / count),
        }
    }
}

impl Context {
    /// A context for an operator with that many outputs. Public for the tests of operators.
    pub fn new(epoch: Epoch, watermark: Micros, outputs: usize) -> Context {
        Context {
            epoch,
            watermark,
            outputs: vec![Vec::new(); outputs],
            state: ChangeSet::new(),
            faults: Vec::new(),
            gauges: Vec::new(),
        }
    }

    /// Emits changes of an output.
    pub fn emit(&mut self, output: usize, delta: Delta) {
        if !delta.is_empty() {
            self.outputs[output].push(delta);
        }
    }

    /// Writes (or with `None` deletes) an entry of the operator's stored state. `partition` are the bytes of the
    /// routing columns (empty for [`crate::plan::Route::One`]): they say which shard owns the entry. The entry is
    /// found again under `partition ‖ suffix`. The last write of an epoch wins.
    pub fn put_state(&mut self, partition: &[u8], suffix: &[u8], value: Option<&[u8]>) {
        self.state.push_joined([&shard_of(partition).to_be_bytes(), partition, suffix], None, value);
    }

    /// Reports a row the operator refuses (+1), or takes such a report back (−1) when a table's row goes.
    /// `fault.source` is the input relation, `fault.seq` the row's [`types::SEQ`] in a stream or
    /// [`types::fault_seq`] of its key bytes in a table; the engine fills in `fault.at`.
    pub fn fault(&mut self, fault: Fault, diff: i64) {
        self.faults.push((fault, diff));
    }

    /// Sets a metric of this step: the quality of its decisions, by a name of [`crate::metrics`].
    pub fn gauge(&mut self, name: &'static str, value: f64) {
        self.gauges.push((name, Gauge::One(value)));
    }

    /// As [`Context::gauge`], for a figure that is added up over the workers: at most once an epoch.
    pub fn gauge_sum(&mut self, name: &'static str, part: f64) {
        self.gauges.push((name, Gauge::Sum(part)));
    }

    /// As [`Context::gauge`], for the mean of something whose parts the workers have: at most once an epoch.
    pub fn gauge_mean(&mut self, name: &'static str, sum: f64, count: f64) {
        self.gauges.push((name, Gauge::Mean(sum, count)));
    }

    /// Everything the operator made: outputs, state writes in order, faults, gauges.
    #[allow(clippy::type_complexity, reason = "taken apart at once, by the engine and by tests")]
    pub fn into_parts(self) -> (Vec<Vec<Delta>>, ChangeSet, Vec<(Fault, i64)>, Vec<(&'static str, Gauge)>) {
        (self.outputs, self.state, self.faults, self.gauges)
    }
}

#[cfg(test)]
mod tests {
    use super::Gauge;

    #[test]
    fn gauges_of_workers_are_one_figure() {
        let all = |gauges: &[Gauge]| gauges.iter().copied().reduce(Gauge::and).unwrap().figure();
        assert_eq!(all(&[Gauge::Sum(3.0), Gauge::Sum(0.0), Gauge::Sum(4.0)]), Some(7.0));
        assert_eq!(all(&[Gauge::Mean(0.0, 0.0), Gauge::Mean(3.0, 1.0), Gauge::Mean(1.0, 3.0)]), Some(1.0));
        assert_eq!(all(&[Gauge::Mean(0.0, 0.0), Gauge::Mean(0.0, 0.0)]), None);
        assert_eq!(all(&[Gauge::One(1.0), Gauge::One(2.0)]), Some(2.0));
    }
}
