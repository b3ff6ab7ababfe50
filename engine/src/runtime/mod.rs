//! A plan at work: sources read, epochs sealed, the dataflow run, commits made, and all of it brought back after a
//! crash.
//!
//! ```text
//! ingest (a thread a source) ─► sealer ─► workers (timely) ─► committer ─► store
//! ```
//! Threads meet at bounded queues; the cap on epochs in flight is the back-pressure.

mod committer;
mod dataflow;
mod deliver;
mod history;
mod ingest;
mod outbox;
mod recorder;
mod relations;
mod route;
mod sealer;
mod step;
mod table;
mod worker;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;

use arrow::array::RecordBatch;
use crossbeam_channel::{Receiver, bounded, unbounded};
use storage::Store;
use types::{Epoch, Fault, Micros, Remap};

use self::committer::{Committer, ToCommitter};
use self::deliver::{Deliveries, Progress};
use self::ingest::FromSource;
use self::recorder::AtRestore;
use self::relations::Relations;
pub use self::relations::{FAULTS, relation_specs, store_options};
use self::sealer::{SealLog, Sealer};
use crate::clock::Clock;
use crate::connector::SourceEnv;
use crate::handle::{Control, Handle, Phase, Push, PushError, Pushed, SinkStatus, SourceStatus, Status};
use crate::metrics::Metrics;
use crate::plan::{Plan, PlannedSource};

/// Called at named moments of an epoch's life (`seal`, `compute`, `prepare`, `publish`; `deliver` and `delivered` around
/// a sink's commit); crash tests kill the process there.
pub type Hook = Arc<dyn Fn(&'static str) + Send + Sync>;

/// How to run a plan.
#[derive(Clone)]
pub struct Options {
    /// Timely workers, at least 1. No result depends on it.
    pub workers: usize,
    /// The clock.
    pub clock: Clock,
    /// See [`Hook`].
    pub hook: Hook,
    /// Metrics to count in.
    pub metrics: Metrics,
}

impl Default for Options {
    fn default() -> Self {
        Options { workers: 1, clock: Clock::system(), hook: Arc::new(|_| ()), metrics: Metrics::new() }
    }
}

/// From where and how a dataflow is built.
struct Start {
    plan: Arc<Plan>,
    store: Store,
    /// The committed epoch's record; epoch 0 for an empty store.
    remap: Remap,
    /// The relation whose rebuilt rows are to be kept whole, to find where they differ.
    keep: Option<usize>,
    hook: Hook,
    restored_rows: AtomicU64,
}

impl Start {
    fn epoch(&self) -> Epoch {
        self.remap.epoch
    }

    fn at_restore(&self, relation: usize, usual: AtRestore) -> AtRestore {
        if self.keep == Some(relation) { AtRestore::Keep } else { usual }
    }
}

/// For each step the sources whose watermarks bound its events.
struct Spans(Vec<Vec<String>>);

impl Spans {
    fn new(plan: &Plan) -> Spans {
        let mut steps: Vec<Vec<String>> = Vec::new();
        for step in &plan.steps {
            let mut sources = Vec::new();
            for input in &step.plan.inputs {
                if plan.sources.iter().any(|s| s.name == input.relation) {
                    sources.push(input.relation.clone());
                } else if let Some(at) = plan.steps.iter().position(|s| s.relations().any(|(n, _)| n == input.relation))
                {
                    sources.extend(steps[at].iter().cloned());
                }
            }
            sources.sort();
            sources.dedup();
            steps.push(sources);
        }
        Spans(steps)
    }

    fn watermarks(&self, remap: &Remap) -> Vec<Micros> {
        self.0.iter().map(|sources| remap.watermark(sources.iter().map(String::as_str))).collect()
    }
}

/// A running engine: its handle, and the thread that keeps it.
#[derive(Debug)]
pub struct Engine {
    handle: Handle,
    keeper: Option<JoinHandle<Result<(), String>>>,
}

impl Engine {
    /// Starts a plan over a store that was opened with [`store_options`] of it. Returns at once: committed views
    /// can be read from the store, and [`Status::phase`](crate::Status) says when records are taken.
    pub fn start(plan: Arc<Plan>, store: Store, options: Options) -> Engine {
        let shared = Arc::new(Shared {
            delivered: plan.sinks.iter().map(|_| Progress::default()).collect(),
            plan,
            store,
            metrics: options.metrics.clone(),
            phase: Mutex::new(Phase::Rehydrating),
            phase_changed: Condvar::new(),
            stop: Arc::new(AtomicBool::new(false)),
            asked: AtomicBool::new(false),
            seals: Arc::new(SealLog::default()),
            progress: Arc::new(Mutex::new(Remap::default())),
            restored: Mutex::new(None),
        });
        let handle = Handle::new(shared.clone());
        let keeper = std::thread::Builder::new()
            .name("engine".to_owned())
            .spawn(move || {
                let result =
                    catch_unwind(AssertUnwindSafe(|| shared.run(&options))).unwrap_or_else(|p| Err(text_of(&p)));
                let phase = match &result {
                    Ok(()) => Phase::Ended,
                    Err(reason) => Phase::Failed(reason.clone()),
                };
                shared.seals.close(result.as_ref().err().map_or("the engine has ended", String::as_str));
                shared.set_phase(phase);
                result
            })
            .expect("a thread can be started");
        Engine { handle, keeper: Some(keeper) }
    }

    /// The way to the running engine.
    pub fn handle(&self) -> &Handle {
        &self.handle
    }

    /// Waits until it has ended: every source is at its end, or it was stopped. The error says what broke.
    pub fn wait(mut self) -> Result<(), String> {
        let keeper = self.keeper.take().expect("waited for once");
        keeper.join().unwrap_or_else(|panic| Err(text_of(&panic)))
    }
}

/// What the threads of one engine share.
struct Shared {
    plan: Arc<Plan>,
    store: Store,
    metrics: Metrics,
    phase: Mutex<Phase>,
    phase_changed: Condvar,
    /// Set when the engine ends, whatever the reason; `asked` only by [`Handle::stop`].
    stop: Arc<AtomicBool>,
    asked: AtomicBool,
    seals: Arc<SealLog>,
    progress: Arc<Mutex<Remap>>,
    restored: Mutex<Option<(Arc<Start>, u64)>>,
    /// How far each sink is.
    delivered: Vec<Progress>,
}

impl Shared {
    fn set_phase(&self, phase: Phase) {
        tracing::info!(phase = ?phase, "engine");
        *self.phase.lock().expect("no holder panics") = phase;
        self.phase_changed.notify_all();
    }

    /// Runs the plan to its end, and delivers what it makes.
    fn run(&self, options: &Options) -> Result<(), String> {
        let deliveries = Deliveries::start(self, options)?;
        let result = self.maintain(options);
        let delivered = deliveries.end(|| result.is_err() || self.asked.load(Ordering::Relaxed));
        result.and(delivered)
    }

    /// Maintains the views until every source has ended or the engine is stopped.
    fn maintain(&self, options: &Options) -> Result<(), String> {
        let committed = self.store.committed();
        let remap = match committed {
            0 => Remap::default(),
            epoch => self.store.remap(epoch).map_err(|e| e.to_string())?.ok_or_else(|| {
                format!("epoch {epoch} is committed, but its record is missing: the store is damaged")
            })?,
        };
        *self.progress.lock().expect("no holder panics") = remap.clone();
        for gauge in [&self.metrics.sealed, &self.metrics.computed, &self.metrics.durable, &self.metrics.published] {
            gauge.set(committed as i64);
        }
        let relations = Arc::new(Relations::new(&self.plan, &self.store));
        for relation in &relations.readable {
            let rows = self.store.digest(relation.id).rows;
            self.metrics.view_rows.with_label_values(&[&relation.name]).set(rows as i64);
        }
        let mut keep = None;
        loop {
            let start = Arc::new(Start {
                plan: self.plan.clone(),
                store: self.store.clone(),
                remap: remap.clone(),
                keep,
                hook: options.hook.clone(),
                restored_rows: AtomicU64::new(0),
            });
            match self.attempt(start, &relations, options)? {
                None => return Ok(()),
                Some((position, None)) if keep.is_none() => {
                    tracing::error!(view = relations.readable[position].name, "a rebuilt view differs from the store");
                    keep = Some(position);
                }
                Some((position, place)) => {
                    let name = &relations.readable[position].name;
                    let place = place.unwrap_or_else(|| "the rows differ".to_owned());
                    return Err(format!(
                        "`{name}` as rebuilt differs from the store as of epoch {committed}: {place}. \
                         Not going live; committed views can still be read"
                    ));
                }
            }
        }
    }

    /// Builds the dataflow, compares it with the store, and runs it to its end. Gives the relation that diverged,
    /// if one did, with words on where.
    fn attempt(
        &self,
        start: Arc<Start>,
        relations: &Arc<Relations>,
        options: &Options,
    ) -> Result<Option<(usize, Option<String>)>, String> {
        let width = options.workers.max(1);
        let total: u64 = relations.readable.iter().map(|r| self.store.digest(r.id).rows).sum();
        *self.restored.lock().expect("no holder panics") = Some((start.clone(), total));
        let (to_committer, from_all) = unbounded::<ToCommitter>();
        let (published, from_committer) = unbounded();
        let mut to_workers = Vec::new();
        let mut worker_inputs = Vec::new();
        for _ in 0..width {
            let (sender, receiver) = bounded(start.plan.settings.epochs_in_flight_max + 1);
            to_workers.push(sender);
            worker_inputs.push(Mutex::new(Some(receiver)));
        }
        let guards = {
            let (start, relations, out) = (start.clone(), relations.clone(), to_committer.clone());
            // The receivers are handed out once each; dropping the workers' closure drops what is left.
            let inputs = Arc::new(worker_inputs);
            let config = match width {
                1 => timely::Config::thread(),
                n => timely::Config::process(n),
            };
            timely::execute(config, move |worker| {
                let input = inputs[worker.index()].lock().expect("taken once").take().expect("taken once");
                let run = AssertUnwindSafe(|| worker::run(worker, &start, &relations, &input, &out));
                let result = catch_unwind(run).unwrap_or_else(|panic| Err(text_of(&panic)));
                if let Err(reason) = &result {
                    // The committer may be gone; then the failure is known already.
                    let _ = out.send(ToCommitter::Failed(reason.clone()));
                }
                result
            })
            .map_err(|e| format!("starting the workers: {e}"))?
        };
        let committer = Committer {
            start: start.clone(),
            relations: relations.clone(),
            metrics: self.metrics.clone(),
            clock: options.clock.clone(),
            workers: width,
            published,
            input: from_all,
            committed: Arc::new(Mutex::new(start.remap.clone())),
        };
        if start.epoch() > 0
            && let Err((divergent, place)) = committer.rehydrate()?
        {
            drop(to_workers);
            drop(committer);
            drop(guards);
            return Ok(Some((divergent.0, place)));
        }
        self.metrics.rehydration.set(1.0);
        self.set_phase(Phase::Live);

        let script = self.store.sealed_after(start.epoch()).map_err(|e| e.to_string())?;
        let sealer = Sealer {
            plan: self.plan.clone(),
            spans: Spans::new(&self.plan),
            store: self.store.clone(),
            clock: options.clock.clone(),
            metrics: self.metrics.clone(),
            hook: options.hook.clone(),
            stop: self.stop.clone(),
            log: self.seals.clone(),
            progress: self.progress.clone(),
            workers: to_workers,
            committer: to_committer,
            published: from_committer,
        };
        let readers = self.read_sources(&start.remap);
        let (receivers, threads): (Vec<_>, Vec<_>) = readers.into_iter().unzip();
        let result = std::thread::scope(|scope| {
            let remap = start.remap.clone();
            let sealing = std::thread::Builder::new()
                .name("sealer".to_owned())
                .spawn_scoped(scope, move || {
                    let run = AssertUnwindSafe(|| sealer.run(receivers, remap, script));
                    let result = catch_unwind(run).unwrap_or_else(|panic| Err(text_of(&panic)));
                    if let Err(reason) = &result {
                        let _ = sealer.committer.send(ToCommitter::Failed(reason.clone()));
                    }
                    // The workers' inputs end here, and with them the workers, and with them the committer.
                    drop(sealer);
                    result
                })
                .expect("a thread can be started");
            let committed = committer.run();
            self.stop.store(true, Ordering::Relaxed);
            drop(committer);
            let sealed = sealing.join().unwrap_or_else(|panic| Err(text_of(&panic)));
            committed.and(sealed)
        });
        let mut ended = Ok(());
        for worker in guards.join() {
            ended = ended.and(worker.unwrap_or_else(Err));
        }
        for thread in threads.into_iter().flatten() {
            let _ = thread.join();
        }
        result.and(ended).map(|()| None)
    }

    /// Starts a reader for every source that has not ended.
    fn read_sources(&self, remap: &Remap) -> Vec<(Receiver<FromSource>, Option<JoinHandle<()>>)> {
        /// Chunks a source may be ahead of the sealer.
        const CHUNKS_AHEAD: usize = 2;
        let mut readers = Vec::new();
        for source in &self.plan.sources {
            let (sender, receiver) = bounded(CHUNKS_AHEAD);
            let progress = remap.sources.get(&source.name).cloned().unwrap_or_default();
            if progress.ended {
                sender.send(FromSource::End).expect("the queue has room");
                readers.push((receiver, None));
                continue;
            }
            let (source, stop) = (source.clone(), self.stop.clone());
            let env = SourceEnv {
                source: source.name.clone(),
                base_dir: self.plan.base_dir.clone(),
                store: self.store.clone(),
                metrics: self.metrics.clone(),
            };
            let thread = std::thread::Builder::new()
                .name(format!("source {}", source.name))
                .spawn(move || {
                    let run = AssertUnwindSafe(|| ingest::run(&source, &progress.position, &env, &stop, &sender));
                    if let Err(panic) = catch_unwind(run) {
                        let reason = format!("source `{}`: {}", source.name, text_of(&panic));
                        let _ = sender.send(FromSource::Failed(reason));
                    }
                })
                .expect("a thread can be started");
            readers.push((receiver, Some(thread)));
        }
        readers
    }
}

impl Control for Shared {
    fn plan(&self) -> &Plan {
        &self.plan
    }

    fn store(&self) -> &Store {
        &self.store
    }

    fn push(&self, source: &str, push: Push) -> Result<Pushed, PushError> {
        let planned = self
            .plan
            .sources
            .iter()
            .find(|s| s.name == source)
            .ok_or_else(|| PushError::NoSuchSource(source.to_owned()))?;
        if !planned.connector.is_push() {
            return Err(PushError::NotPushed(source.to_owned()));
        }
        if let Some(reason) = self.seals.closed() {
            return Err(PushError::Closed(reason));
        }
        let (payload, records) =
            planned.connector.prepare_push(push.format, push.payload).map_err(PushError::BadPayload)?;
        if records == 0 {
            return Ok(Pushed { epoch: self.store.published(), records: 0, repeated: false });
        }
        let entry = storage::JournalEntry { format: push.format.name().to_owned(), payload, records };
        let key = push.idempotency_key.as_deref();
        let appended = self.store.journal_append(source, entry, key).map_err(|e| match e {
            storage::Error::IdempotencyConflict { key, .. } => PushError::IdempotencyConflict(key),
            unknown if unknown.consequence() == storage::Consequence::Unknown => {
                PushError::Unknown(unknown.to_string())
            }
            other => PushError::Closed(other.to_string()),
        })?;
        if let (true, Some(epoch)) = (appended.repeated, appended.epoch) {
            return Ok(Pushed { epoch, records: appended.records, repeated: true });
        }
        let next_seq = appended.first_seq + appended.records;
        let before = self.progress.lock().expect("no holder panics").sources.get(source).map_or(0, |p| p.position.seq);
        let epoch = if appended.repeated && next_seq <= before {
            self.progress.lock().expect("no holder panics").epoch
        } else {
            self.seals.wait(source, next_seq).map_err(PushError::Unknown)?
        };
        if let Some(key) = key {
            // Only a courtesy to later repetitions: without it they are answered with a later epoch.
            let _ = self.store.journal_set_epoch(source, key, epoch);
        }
        Ok(Pushed { epoch, records: appended.records, repeated: appended.repeated })
    }

    fn status(&self) -> Status {
        let phase = self.phase.lock().expect("no holder panics").clone();
        let remap = self.progress.lock().expect("no holder panics").clone();
        let rehydrated = match (&phase, &*self.restored.lock().expect("no holder panics")) {
            (Phase::Rehydrating, Some((start, total))) if *total > 0 => {
                (start.restored_rows.load(Ordering::Relaxed) as f64 / *total as f64).min(1.0)
            }
            (Phase::Rehydrating, _) => 0.0,
            _ => 1.0,
        };
        if phase == Phase::Rehydrating {
            self.metrics.rehydration.set(rehydrated);
        }
        let sources = self
            .plan
            .sources
            .iter()
            .map(|source| {
                let progress = remap.sources.get(&source.name).cloned().unwrap_or_default();
                SourceStatus {
                    name: source.name.clone(),
                    connector: source.connector_name.clone(),
                    records: progress.position.seq,
                    faults: self.metrics.discarded.with_label_values(&[&source.name]).get(),
                    progress,
                }
            })
            .collect();
        let sinks = self.plan.sinks.iter().zip(&self.delivered).map(|(sink, progress)| SinkStatus {
            name: sink.name.clone(),
            type_name: sink.type_name.clone(),
            view: sink.relation.clone(),
            delivered: progress.get(),
            records: self.metrics.sink_records.with_label_values(&[&sink.name]).get(),
        });
        Status {
            sinks: sinks.collect(),
            phase,
            sealed: remap.epoch,
            computed: self.metrics.computed.get() as Epoch,
            durable: self.store.committed(),
            published: self.store.published(),
            rehydrated,
            sources,
        }
    }

    fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    fn wait(&self, until: &dyn Fn(&Phase) -> bool) -> Phase {
        let mut phase = self.phase.lock().expect("no holder panics");
        while !until(&phase) {
            phase = self.phase_changed.wait(phase).expect("no holder panics");
        }
        phase.clone()
    }

    fn is_stopping(&self) -> bool {
        self.asked.load(Ordering::Relaxed)
    }

    fn stop(&self) {
        self.asked.store(true, Ordering::Relaxed);
        self.stop.store(true, Ordering::Relaxed);
        self.seals.close("the engine is stopping");
    }
}

/// The fault of a row whose cells were read.
fn row_fault(source: &PlannedSource, rows: &RecordBatch, row: usize, seq: u64, reason: &str, detail: String) -> Fault {
    let mut raw = Vec::new();
    let schema =
        types::Schema { columns: source.delivered.clone(), key: Vec::new(), event_time: None, append_only: true };
    types::json::write_row(&mut raw, &schema, rows, row);
    Fault {
        source: source.name.clone(),
        seq,
        at: source.name.clone(),
        reason: reason.to_owned(),
        detail,
        provenance: format!("record {seq}"),
        raw: Fault::raw_text(&raw),
    }
}

fn text_of(panic: &Box<dyn std::any::Any + Send>) -> String {
    let text =
        panic.downcast_ref::<&str>().map(|s| (*s).to_owned()).or_else(|| panic.downcast_ref::<String>().cloned());
    format!("a bug: {}", text.unwrap_or_else(|| "panicked".to_owned()))
}
