//! Delivery: a thread a sink reads what committed epochs changed, and hands it on behind what the other side has.
//!
//! What a sink has not made safe is held in the store, so that it is still there after a restart, however long the
//! other side is away. The store learns how far a sink is only after the other side has it ([`Mark`]): of the two, the
//! mark is never behind by more than epochs that changed nothing.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use storage::{RelationId, Store};
use types::{ChangeSet, Epoch};

use super::{Hook, Options, SealLog, Shared, text_of};
use crate::metrics::Metrics;
use crate::plan::PlannedSink;
use crate::sink::{Committed, Mark, Patience, Resume, Sink, SinkEnv, SinkError};

/// A commit takes whole epochs until it has this many changes.
const CHANGES_MAX: u64 = 50_000;
/// How long a stopped engine waits for sinks that have something to deliver.
const GRACE: Duration = Duration::from_secs(5);
/// How often the store is told of epochs that changed nothing.
const HOLD_EVERY: Duration = Duration::from_secs(1);
/// Rows of a first delivery read at once.
const ROWS_AT_ONCE: usize = 4_096;

/// How far a sink is, for whoever asks.
#[derive(Debug, Default)]
pub(super) struct Progress(Arc<AtomicU64>);

impl Progress {
    /// The last epoch that is delivered, whatever crashes.
    pub fn get(&self) -> Option<Epoch> {
        self.0.load(Ordering::Relaxed).checked_sub(1)
    }

    fn set(&self, epoch: Epoch) {
        self.0.store(epoch + 1, Ordering::Relaxed);
    }
}

/// The sinks of an engine at work.
pub(super) struct Deliveries {
    threads: Vec<JoinHandle<Result<(), String>>>,
    /// True once nothing more will be published.
    ending: Arc<AtomicBool>,
    patience: Patience,
}

impl Deliveries {
    /// Starts every sink of the plan. One that breaks stops the engine.
    pub fn start(shared: &Shared, options: &Options) -> Result<Deliveries, String> {
        let (ending, patience) = (Arc::new(AtomicBool::new(false)), Patience::default());
        let is_ours = |hold: &str| shared.plan.sinks.iter().any(|s| hold == s.name || hold == rows_hold(&s.name));
        for gone in shared.store.holds().into_keys().filter(|hold| !is_ours(hold)) {
            tracing::info!(sink = gone, "no longer in the pipeline: what it has not delivered is let go");
            shared.store.release_hold(&gone).map_err(|e| e.to_string())?;
        }
        let (published, holds) = (shared.store.published(), shared.store.holds());
        let mut threads = Vec::new();
        for (planned, progress) in shared.plan.sinks.iter().zip(&shared.delivered) {
            // From here on nothing is missed, however long the other side takes to answer.
            let rows = rows_hold(&planned.name);
            let begun = holds.get(&rows).copied().unwrap_or(published);
            if !holds.contains_key(&planned.name) {
                shared.store.hold(&rows, begun).map_err(|e| e.to_string())?;
            }
            let delivery = Delivery {
                begun,
                relation: shared.store.relation(&planned.relation).expect("a stored relation of the plan"),
                store: shared.store.clone(),
                metrics: options.metrics.clone(),
                hook: options.hook.clone(),
                progress: Progress(progress.0.clone()),
                ending: ending.clone(),
                planned: planned.clone(),
                marked: 0,
                held: Instant::now(),
            };
            let env = SinkEnv {
                pipeline: shared.plan.name.clone(),
                sink: planned.name.clone(),
                base_dir: shared.plan.base_dir.clone(),
                relation: planned.relation.clone(),
                schema: planned.schema.clone(),
                metrics: options.metrics.clone(),
                patience: patience.clone(),
            };
            let broken = Broken { stop: shared.stop.clone(), seals: shared.seals.clone() };
            let thread = std::thread::Builder::new()
                .name(format!("sink {}", planned.name))
                .spawn(move || delivery.thread(env, &broken))
                .map_err(|e| format!("starting a sink's thread: {e}"))?;
            threads.push(thread);
        }
        Ok(Deliveries { threads, ending, patience })
    }

    /// Waits until everything published is delivered; if the engine was stopped, not for long.
    pub fn end(self, is_stopped: impl Fn() -> bool) -> Result<(), String> {
        self.ending.store(true, Ordering::Release);
        let mut deadline = None;
        while self.threads.iter().any(|t| !t.is_finished()) {
            if deadline.is_none() && is_stopped() {
                deadline = Some(Instant::now() + GRACE);
            }
            if deadline.is_some_and(|d| Instant::now() > d) {
                self.patience.end();
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        let mut result = Ok(());
        for thread in self.threads {
            result = result.and(thread.join().unwrap_or_else(|panic| Err(text_of(&panic))));
        }
        result
    }
}

/// How a sink that breaks stops the engine.
struct Broken {
    stop: Arc<AtomicBool>,
    seals: Arc<SealLog>,
}

/// The hold of the rows with which a sink begins. It is its own because the mark may be on the other side before the
/// store knows.
fn rows_hold(sink: &str) -> String {
    format!("{sink}/rows")
}

/// One sink's work.
struct Delivery {
    planned: PlannedSink,
    /// The epoch with which a sink that is new begins.
    begun: Epoch,
    relation: RelationId,
    store: Store,
    metrics: Metrics,
    hook: Hook,
    progress: Progress,
    ending: Arc<AtomicBool>,
    /// The epoch of the last mark.
    marked: Epoch,
    /// When the store was last told.
    held: Instant,
}

impl Delivery {
    fn thread(mut self, env: SinkEnv, broken: &Broken) -> Result<(), String> {
        let run = AssertUnwindSafe(|| self.run(env));
        let reason = match catch_unwind(run) {
            Ok(Ok(()) | Err(SinkError::Stopped)) => return Ok(()),
            Ok(Err(SinkError::Broken(reason))) => reason,
            Err(panic) => text_of(&panic),
        };
        let reason = format!("sink `{}`: {reason}", self.planned.name);
        broken.stop.store(true, Ordering::Relaxed);
        broken.seals.close(&reason);
        Err(reason)
    }

    fn run(&mut self, env: SinkEnv) -> Result<(), SinkError> {
        let mut sink = self.planned.sink.open(env)?;
        let mut at = self.begin(sink.as_mut())?;
        loop {
            // In this order: what is published before the end is delivered.
            let ending = self.ending.load(Ordering::Acquire);
            let published = self.store.published();
            self.lag(published.saturating_sub(at));
            if published > at {
                at = self.deliver(sink.as_mut(), at, published)?;
            }
            if let Some(safe) = sink.idle()? {
                self.hold(safe)?;
            }
            if self.held.elapsed() >= HOLD_EVERY {
                self.hold_nothing_more(at)?;
            }
            if published > at {
                continue;
            }
            if ending {
                break;
            }
            self.store.wait_published(at + 1, Duration::from_millis(100));
        }
        if let Some(safe) = sink.finish()? {
            self.hold(safe)?;
        }
        self.hold_nothing_more(at)?;
        self.lag(0);
        Ok(())
    }

    /// Finds out behind which epoch to go on, and delivers the rows there are to another side that has nothing.
    fn begin(&mut self, sink: &mut dyn Sink) -> Result<Epoch, SinkError> {
        let name = self.planned.name.clone();
        let held = self.store.holds().get(&name).copied();
        let at = match (sink.resume()?, held) {
            (Resume::At(mark), held) => self.behind(&mark, held)?,
            (Resume::Nothing, Some(held)) => held,
            (Resume::Nothing, None) if self.planned.with_rows => self.rows(sink)?,
            (Resume::Nothing, None) => self.begun,
        };
        self.hold(at)?;
        self.store.release_hold(&rows_hold(&name)).map_err(storage_error)?;
        tracing::info!(sink = name, epoch = at, "delivering what comes after the epoch");
        Ok(at)
    }

    /// The epoch behind which to go on, if what was delivered is what this store had.
    fn behind(&self, mark: &Mark, held: Option<Epoch>) -> Result<Epoch, SinkError> {
        let (view, committed) = (&self.planned.relation, self.store.committed());
        let other = |what: String| {
            SinkError::broken(format!(
                "`{view}` was delivered up to epoch {}, and {what}. Either another store delivers to the same place, or this \
                 one was restored from an earlier time and went another way. Deliver to a new place, or go back to the \
                 store that delivered",
                mark.epoch
            ))
        };
        if mark.epoch > committed {
            return Err(other(format!("this store has only {committed} epochs")));
        }
        // Epochs after the mark that changed nothing need not be read again.
        let at = held.map_or(mark.epoch, |held| held.max(mark.epoch));
        match self.store.digest_at(self.relation, at) {
            Ok(here) if here == mark.digest => Ok(at),
            Ok(_) => Err(other("it then had other rows than here".to_owned())),
            Err(storage::Error::Compacted { since, .. }) => Err(SinkError::broken(format!(
                "`{view}` was delivered up to epoch {at}, and what changed since then is not kept: the oldest epoch there \
                 is is {since}. Deliver to a new place"
            ))),
            Err(e) => Err(storage_error(e)),
        }
    }

    /// Delivers the rows with which the sink begins, all in one commit.
    fn rows(&mut self, sink: &mut dyn Sink) -> Result<Epoch, SinkError> {
        let epoch = self.begun;
        if epoch == 0 {
            return Ok(0);
        }
        let snapshot = self.store.snapshot(Some(epoch)).map_err(storage_error)?;
        let mark = Mark { epoch, digest: snapshot.digest(self.relation).map_err(storage_error)? };
        loop {
            let mut scan = snapshot.scan(self.relation, std::ops::Bound::Unbounded, std::ops::Bound::Unbounded);
            let mut records = 0;
            loop {
                let mut set = ChangeSet::new();
                for row in scan.by_ref().take(ROWS_AT_ONCE) {
                    let (key, value) = row.map_err(storage_error)?;
                    set.push(&key, None, Some(&value));
                }
                if set.is_empty() {
                    break;
                }
                set.iter().try_for_each(|change| sink.write(epoch, change))?;
                records += set.len() as u64;
            }
            (self.hook)("deliver");
            if sink.commit(&mark)? != Committed::Again {
                sink.finish()?;
                (self.hook)("delivered");
                self.count(records);
                return Ok(epoch);
            }
        }
    }

    /// Delivers some of the epochs after `at`, up to `published`; gives the last of them.
    fn deliver(&mut self, sink: &mut dyn Sink, at: Epoch, published: Epoch) -> Result<Epoch, SinkError> {
        loop {
            let (mut records, mut reached) = (0, published);
            for item in self.store.changes(self.relation, at, published).map_err(storage_error)? {
                let (epoch, set) = item.map_err(storage_error)?;
                set.iter().try_for_each(|change| sink.write(epoch, change))?;
                records += set.len() as u64;
                if records >= CHANGES_MAX {
                    reached = epoch;
                    break;
                }
            }
            if records == 0 {
                return Ok(reached);
            }
            let digest = self.store.digest_at(self.relation, reached).map_err(storage_error)?;
            (self.hook)("deliver");
            let committed = sink.commit(&Mark { epoch: reached, digest })?;
            if committed == Committed::Again {
                continue;
            }
            (self.hook)("delivered");
            self.marked = reached;
            self.count(records);
            if committed == Committed::Safe {
                self.hold(reached)?;
            }
            return Ok(reached);
        }
    }

    /// If all that was written is safe, nothing keeps the epochs after it, up to `at`, which changed nothing.
    fn hold_nothing_more(&mut self, at: Epoch) -> Result<(), SinkError> {
        let safe = self.progress.get().unwrap_or_default();
        if safe >= self.marked && safe < at { self.hold(at) } else { Ok(()) }
    }

    fn lag(&self, epochs: Epoch) {
        self.metrics.sink_lag.with_label_values(&[&self.planned.name]).set(epochs as i64);
    }

    fn count(&self, records: u64) {
        self.metrics.sink_records.with_label_values(&[&self.planned.name]).inc_by(records);
    }

    /// Tells the store that everything up to an epoch is delivered, whatever crashes.
    fn hold(&mut self, safe: Epoch) -> Result<(), SinkError> {
        self.store.hold(&self.planned.name, safe).map_err(storage_error)?;
        self.held = Instant::now();
        self.progress.set(safe);
        self.metrics.sink_epoch.with_label_values(&[&self.planned.name]).set(safe as i64);
        Ok(())
    }
}

fn storage_error(e: storage::Error) -> SinkError {
    SinkError::Broken(e.to_string())
}
