//! The background thread: merges runs, moves them into `rows`, and forgets what nobody can ask for.
//!
//! Each thing it does may be cut off by a crash anywhere and done again: a file that nothing names is removed at the
//! next open, rows that are taken in twice are the same rows, and what was applied is noted after it was.

use std::fmt::Debug;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use rocksdb::{ReadOptions, WriteBatch};
use types::Epoch;

use crate::format::{self, Class};
use crate::run::{self, Run};
use crate::store::Shared;
use crate::{CrashPoint, Error, Options, RelationId, lock, open, past};

/// Runs below this are merged by the commits that add them, others here.
const SMALL_RUN_BYTES: usize = 64 << 10;
/// So many runs of about one size are merged to one, of the next size. With each size they were merged at, rows have
/// been copied once; a lookup asks the filters of all runs. Sixteen is few copies and still few runs.
const MERGED_TOGETHER: usize = 16;
/// With this much in all runs together, the largest relation is moved.
const RUNS_BYTES_SOFT: usize = 256 << 20;
/// With this much, commits wait.
const RUNS_BYTES_HARD: usize = 768 << 20;
/// Runs that reach back further than what is retained, but within these, are moved however small they are: they hold
/// back trimming, and the next open must look for them.
const PENDING_EPOCHS_MIN: u64 = 64;
const PENDING_EPOCHS_MAX: u64 = 4_096;
/// Fewer rows than this go through the memtable rather than a file of their own.
const FILE_ROWS_MIN: usize = 8_192;
/// Old changes are forgotten so many epochs at a time: a quarter of what is retained, within these.
const TRIM_EPOCHS_MIN: u64 = 16;
const TRIM_EPOCHS_MAX: u64 = 256;
/// Deleted rows of a relation are swept once there are this many, or a quarter of its rows if that is more.
const SWEEP_TOMBSTONES_MIN: u64 = 50_000;
/// How many versions a sweep looks at before other work gets its turn.
const SWEEP_SLICE: usize = 100_000;
/// How many deletions a sweep gathers in one batch.
const SWEEP_BATCH: usize = 4_096;
/// Work that failed is tried again after this.
const RETRY: Duration = Duration::from_secs(1);

/// What the thread waits for, and what waits for the thread.
///
/// Nobody polls, so each of these must ring, after the fact, for all that it may have made due: a commit (new runs, a
/// new horizon), a publication and the end of a reader (a horizon moves without a commit). What the thread itself makes
/// due it sees in its next turn. A ring while it works is kept in `wanted`. Whoever changes what another waits for
/// does so before taking the lock, or under it, and rings under it: then no ring falls between a look and a wait.
#[derive(Debug, Default)]
pub(crate) struct Bell {
    state: Mutex<State>,
    wake: Condvar,
    eased: Condvar,
}

#[derive(Debug, Default)]
struct State {
    wanted: bool,
    closed: bool,
    error: Option<String>,
}

impl Bell {
    /// Wakes the thread.
    pub(crate) fn ring(&self) {
        lock(&self.state).wanted = true;
        self.wake.notify_one();
    }

    /// Ends the thread, and lets everybody go who waits for it.
    pub(crate) fn close(&self) {
        lock(&self.state).closed = true;
        self.wake.notify_all();
        self.eased.notify_all();
    }

    pub(crate) fn is_closed(&self) -> bool {
        lock(&self.state).closed
    }

    /// Has the commits that wait for the thread look again.
    pub(crate) fn ease(&self) {
        let _state = lock(&self.state);
        self.eased.notify_all();
    }
}

/// So much was logged of a relation: more than its runs hold, when versions are left out of them.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Logged {
    pub rows: u64,
    pub bytes: u64,
}

/// How far the background thread is, and what is left for it.
#[derive(Debug, Default)]
pub(crate) struct Work {
    applied: AtomicU64,
    /// Deletions in `rows` that were not swept, by relation number.
    tombstones: Mutex<Vec<u64>>,
    /// What was logged and is not in `rows`, by relation number.
    logged: Mutex<Vec<Logged>>,
    /// Up to which epoch old changes have been forgotten, by class.
    trimmed: [AtomicU64; 2],
    /// Below which epoch commit records and remaps have been forgotten. Not the same: they are needed for as long as
    /// a relation of either class is to be redone.
    log_trimmed: AtomicU64,
}

impl Work {
    /// Wakes the thread if there is something for it.
    pub(crate) fn look(&self, shared: &Shared) {
        if wants(shared) {
            shared.retention.bell.ring();
        }
    }

    /// Holds a commit back while too much is in memory.
    pub(crate) fn wait_for_room(&self, shared: &Shared) -> Result<(), Error> {
        if runs_bytes(shared) < RUNS_BYTES_HARD {
            return Ok(());
        }
        let bell = &shared.retention.bell;
        let mut state = lock(&bell.state);
        while runs_bytes(shared) >= RUNS_BYTES_HARD && !state.closed && shared.poison.get().is_none() {
            if let Some(error) = &state.error {
                return Err(Error::failed("commit to", shared.path.display().to_string(), error));
            }
            state.wanted = true;
            bell.wake.notify_one();
            state = bell.eased.wait(state).unwrap_or_else(std::sync::PoisonError::into_inner);
        }
        Ok(())
    }

    pub(crate) fn add_tombstones(&self, relation: RelationId, count: u64) {
        let mut all = lock(&self.tombstones);
        let index = relation.0 as usize;
        if all.len() <= index {
            all.resize(index + 1, 0);
        }
        all[index] += count;
    }

    /// Counts what a commit logged.
    pub(crate) fn add_logged(&self, relation: RelationId, more: Logged) {
        let mut all = lock(&self.logged);
        let index = relation.0 as usize;
        if all.len() <= index {
            all.resize(index + 1, Logged::default());
        }
        all[index].rows += more.rows;
        all[index].bytes += more.bytes;
    }

    fn logged(&self, index: usize) -> Logged {
        lock(&self.logged).get(index).copied().unwrap_or_default()
    }

    fn take_logged(&self, relation: RelationId, less: Logged) {
        if let Some(one) = lock(&self.logged).get_mut(relation.0 as usize) {
            one.rows -= less.rows;
            one.bytes -= less.bytes;
        }
    }

    /// Commit records below this are forgotten.
    pub(crate) fn log_trimmed(&self) -> Epoch {
        self.log_trimmed.load(Ordering::Acquire)
    }

    pub(crate) fn set_log_trimmed(&self, epoch: Epoch) {
        self.log_trimmed.store(epoch, Ordering::Release);
    }

    fn tombstones(&self, relation: RelationId) -> u64 {
        lock(&self.tombstones).get(relation.0 as usize).copied().unwrap_or(0)
    }

    pub(crate) fn stats(&self, bell: &Bell) -> (u64, Option<String>) {
        (self.applied.load(Ordering::Relaxed), lock(&bell.state).error.clone())
    }
}

/// What is noted of a relation whose rows were moved.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Applied {
    /// Deletions in `rows` that have not been swept.
    pub tombstones: u64,
    /// As of which epochs the relation is whole in `rows` (see [`Past`](crate::past::Past)), ascending.
    pub epochs: Vec<Epoch>,
}

impl Applied {
    /// All changes up to this epoch are in `rows`.
    pub(crate) fn epoch(&self) -> Epoch {
        self.epochs.last().copied().unwrap_or_default()
    }
}

const REDO_FROM: &[u8] = b"redo-from";
const LOG_FROM: &[u8] = b"log-from";

fn applied_key(relation: RelationId) -> Vec<u8> {
    [b"applied/".as_slice(), &relation.0.to_be_bytes()].concat()
}

/// What was noted of a relation.
pub(crate) fn read_applied(shared: &Shared, relation: RelationId) -> Result<Applied, Error> {
    let numbers = read_numbers(shared, &applied_key(relation), "what was applied")?;
    Ok(numbers.split_first().map_or_else(Applied::default, |(tombstones, epochs)| Applied {
        tombstones: *tombstones,
        epochs: epochs.to_vec(),
    }))
}

fn put_applied(shared: &Shared, batch: &mut WriteBatch, relation: RelationId, applied: &Applied) {
    let numbers: Vec<u64> = std::iter::once(applied.tombstones).chain(applied.epochs.iter().copied()).collect();
    put_numbers(shared, batch, &applied_key(relation), &numbers);
}

/// The epoch from which commit records may name changes that are not in `rows`.
pub(crate) fn read_redo_from(shared: &Shared) -> Result<Epoch, Error> {
    let numbers = read_numbers(shared, REDO_FROM, "the start of what is to be redone")?;
    Ok(numbers.first().copied().unwrap_or_default())
}

/// The epoch below which commit records were forgotten.
pub(crate) fn read_log_from(shared: &Shared) -> Result<Epoch, Error> {
    let numbers = read_numbers(shared, LOG_FROM, "the start of the log")?;
    Ok(numbers.first().copied().unwrap_or_default())
}

/// None, if there is no such record.
fn read_numbers(shared: &Shared, key: &[u8], subject: &str) -> Result<Vec<u64>, Error> {
    let Some(value) = shared.db.get_cf(shared.family(format::META), key).map_err(|e| Error::read(subject, &e))? else {
        return Ok(Vec::new());
    };
    let (numbers, rest) = format::open(key, &value, || subject.to_owned())?.as_chunks::<8>();
    if numbers.is_empty() || !rest.is_empty() {
        return Err(Error::damaged(subject, "it cannot be read"));
    }
    Ok(numbers.iter().map(|n| u64::from_le_bytes(*n)).collect())
}

fn put_numbers(shared: &Shared, batch: &mut WriteBatch, key: &[u8], numbers: &[u64]) {
    batch.put_cf(shared.family(format::META), key, format::numbers(key, numbers));
}

/// Adds an epoch's runs at the end of a list: how many of the last runs are taken away, and what comes instead. Small
/// runs are merged here, so there are only ever a few; what has grown large is left to the background. `asked` as for
/// [`Run::new`].
pub(crate) fn grow(list: &[Arc<Run>], new: Vec<Run>, horizon: Epoch, asked: bool) -> (usize, Vec<Arc<Run>>) {
    let new: Vec<Arc<Run>> = new.into_iter().map(Arc::new).collect();
    let small = list.iter().rev().take_while(|r| r.bytes() < SMALL_RUN_BYTES).count();
    let together: Vec<_> = list[list.len() - small..].iter().chain(&new).cloned().collect();
    let ours = new.iter().all(|r| r.bytes() < SMALL_RUN_BYTES);
    match mergeable(&together).filter(|at| ours && *at < small) {
        Some(at) => (small - at, vec![Arc::new(run::merge(&together[at..], horizon, asked))]),
        None => (0, new),
    }
}

/// Where the last runs of a list begin that should become one: the fewest of which there are enough of one size. Sizes
/// are told apart by powers of sixteen; smaller runs between them are taken along.
fn mergeable(list: &[Arc<Run>]) -> Option<usize> {
    let size = |at: usize| list[at].bytes().max(1).ilog2() / MERGED_TOGETHER.ilog2();
    let (mut at, mut largest) = (list.len(), 0);
    while at > 0 {
        largest = largest.max(size(at - 1));
        while at > 0 && size(at - 1) <= largest {
            at -= 1;
        }
        if list.len() - at >= MERGED_TOGETHER {
            return Some(at);
        }
    }
    None
}

/// The large runs that should become one: a range of the list, if there is one. Never reaches into the small ones at
/// the end, which belong to the commits.
fn mergeable_large(list: &[Arc<Run>]) -> Option<Range<usize>> {
    let end = list.iter().rposition(|r| r.bytes() >= SMALL_RUN_BYTES)? + 1;
    let from = mergeable(&list[..end])?;
    // What would be moved into `rows` next is not worth merging, nor is what cannot be one run.
    (bytes_of(&list[from..end]) < Options::APPLY_BYTES).then_some(from..end)
}

fn runs_bytes(shared: &Shared) -> usize {
    shared.memory().iter().flat_map(|runs| runs.iter()).map(|r| r.bytes()).sum()
}

fn bytes_of(runs: &[Arc<Run>]) -> usize {
    runs.iter().map(|r| r.bytes()).sum()
}

fn rows_of(runs: &[Arc<Run>]) -> usize {
    runs.iter().map(|r| r.len()).sum()
}

/// The relation that should be moved into `rows` now.
fn due(shared: &Shared) -> Option<RelationId> {
    let memory = shared.memory();
    let committed = shared.committed();
    let pending_max = shared.options.retain_epochs.clamp(PENDING_EPOCHS_MIN, PENDING_EPOCHS_MAX);
    let is_due = |index: usize, runs: &[Arc<Run>]| {
        let logged = shared.work.logged(index);
        (logged.rows >= shared.options.apply_rows.max(1) as u64 && !runs.is_empty())
            || (logged.bytes >= Options::APPLY_BYTES as u64 && !runs.is_empty())
            || runs.first().is_some_and(|r| r.min_epoch + pending_max < committed)
    };
    // The one that reaches back furthest: so each gets its turn, and the log to be redone is shortened soonest.
    let oldest = |runs: &[Arc<Run>]| runs.first().map_or(Epoch::MAX, |r| r.min_epoch);
    let all = || memory.iter().enumerate();
    let found = all().filter(|(index, runs)| is_due(*index, runs)).min_by_key(|(_, runs)| oldest(runs)).or_else(|| {
        let full = runs_bytes(shared) >= RUNS_BYTES_SOFT;
        all().max_by_key(|(_, runs)| bytes_of(runs)).filter(|_| full)
    });
    found.map(|(index, _)| RelationId(index as u32))
}

fn wants(shared: &Shared) -> bool {
    due(shared).is_some()
        || shared.memory().iter().any(|runs| mergeable_large(runs).is_some())
        || Class::ALL.into_iter().any(|class| trim_bound(shared, class).is_some())
        || log_bound(shared).is_some()
}

fn trim_step(shared: &Shared) -> u64 {
    (shared.options.retain_epochs / 4).clamp(TRIM_EPOCHS_MIN, TRIM_EPOCHS_MAX)
}

/// Up to which epoch the changes of a class should be forgotten now: they are in `rows`, and not asked for.
fn trim_bound(shared: &Shared, class: Class) -> Option<Epoch> {
    let state = class == Class::State;
    let memory = shared.memory();
    let runs =
        shared.relations.iter().filter(|r| shared.is_state(r.id) == state).flat_map(|r| memory[r.id.0 as usize].iter());
    let pending = runs.map(|r| r.min_epoch).min();
    let mut bound = shared.retention.since_of(state).min(pending.map_or(Epoch::MAX, |p| p - 1));
    if !state {
        bound = bound.min(shared.past_needs_after());
    }
    let trimmed = shared.work.trimmed[class as usize].load(Ordering::Relaxed);
    (bound >= trimmed.saturating_add(trim_step(shared))).then_some(bound)
}

/// Below which epoch commit records and remaps should be forgotten now. Those of the horizon are kept, since it can be
/// read, those of epochs that are to be redone, whichever class they are of, and those whose changes are needed to read
/// an old epoch.
fn log_bound(shared: &Shared) -> Option<Epoch> {
    let bound = shared.past_needs_after().min(redo_from(shared, None).saturating_sub(1));
    let trimmed = shared.work.log_trimmed();
    (bound >= trimmed.saturating_add(trim_step(shared))).then_some(bound)
}

/// The oldest epoch whose changes are not all in `rows`, once those of the relation named are, up to the epoch named.
fn redo_from(shared: &Shared, applied: Option<(RelationId, Epoch)>) -> Epoch {
    // In this order: the changes of an epoch are in memory before it counts as committed.
    let committed = shared.committed();
    let memory = shared.memory();
    let pending = memory.iter().enumerate().flat_map(|(i, runs)| {
        let upto = applied.filter(|(r, _)| r.0 as usize == i).map_or(0, |(_, epoch)| epoch);
        runs.iter().filter(move |r| r.max_epoch > upto).map(|r| r.min_epoch)
    });
    pending.min().unwrap_or(Epoch::MAX).min(committed + 1)
}

/// Starts the thread.
pub(crate) fn start(shared: Arc<Shared>) -> Result<JoinHandle<()>, Error> {
    std::thread::Builder::new()
        .name("store-applier".to_owned())
        .spawn(move || Applier::new(shared).run())
        .map_err(|e| Error::failed("start", "the store's background thread", e))
}

struct Applier {
    shared: Arc<Shared>,
    /// Whether the memtable of `rows` holds anything: taking in a file would have to flush it while writers wait.
    rows_in_memtable: bool,
    sweep: Option<Sweep>,
    /// By relation number, what the last sweep left.
    swept: Vec<Swept>,
}

/// A sweep under way.
struct Sweep {
    relation: RelationId,
    /// The stored key to go on from.
    from: Vec<u8>,
    /// Deletions there were when it began.
    tombstones: u64,
    left: Swept,
}

/// What a sweep leaves.
#[derive(Clone, Copy, Debug, Default)]
struct Swept {
    rows: u64,
    /// Deletions that a reader may still look behind, and the newest epoch of one: at that horizon all of them can go.
    tombstones: u64,
    epoch: Epoch,
}

impl Applier {
    fn new(shared: Arc<Shared>) -> Applier {
        let swept = vec![Swept::default(); shared.relations.len()];
        Applier { shared, rows_in_memtable: true, sweep: None, swept }
    }

    fn run(mut self) {
        let shared = self.shared.clone();
        let bell = &shared.retention.bell;
        loop {
            let result = self.turn();
            let mut state = lock(&bell.state);
            let more = *result.as_ref().unwrap_or(&false);
            let error = result.err().map(|e| e.to_string());
            if let (Some(error), None) = (&error, &state.error) {
                tracing::error!(error, "the store's background work failed; it will be tried again");
            }
            state.error = error;
            bell.eased.notify_all();
            while !state.closed && !state.wanted && !more {
                if state.error.is_some() {
                    // Nobody rings when the machine can do again what it could not.
                    state = bell.wake.wait_timeout(state, RETRY).map_or_else(|e| e.into_inner().0, |w| w.0);
                    break;
                }
                state = bell.wake.wait(state).unwrap_or_else(std::sync::PoisonError::into_inner);
            }
            if state.closed {
                return;
            }
            state.wanted = false;
        }
    }

    /// Does one piece of each kind of work; true if there is more.
    fn turn(&mut self) -> Result<bool, Error> {
        let merged = self.merge();
        if self.shared.poison.get().is_some() {
            return Ok(merged);
        }
        let due = due(&self.shared);
        if let Some(relation) = due {
            self.apply(relation)?;
        }
        self.trim()?;
        let sweeping = self.sweep()?;
        Ok(merged || due.is_some() || sweeping)
    }

    fn merge(&self) -> bool {
        let shared = &self.shared;
        let mut any = false;
        for info in &shared.relations {
            let list = shared.memory()[info.id.0 as usize].clone();
            let Some(range) = mergeable_large(&list) else { continue };
            let state = shared.is_state(info.id);
            let horizon = shared.retention.apart_since_of(state);
            shared.past.leave_out(info.id, horizon);
            let merged = Arc::new(run::merge(&list[range.clone()], horizon, !state));
            shared.update_runs(info.id, |now| {
                // The runs taken stand in the list together: commits only touch what comes after them.
                let at = now
                    .iter()
                    .position(|r| Arc::ptr_eq(r, &list[range.start]))
                    .expect("only this thread takes large runs away");
                let mut next = now[..at].to_vec();
                next.push(merged);
                next.extend_from_slice(&now[at + range.len()..]);
                next
            });
            any = true;
        }
        any
    }

    /// Moves a relation's runs into `rows`.
    fn apply(&mut self, relation: RelationId) -> Result<(), Error> {
        let shared = self.shared.clone();
        let logged = shared.work.logged(relation.0 as usize);
        let runs = shared.memory()[relation.0 as usize].clone();
        let Some(epoch) = runs.iter().map(|r| r.max_epoch).max() else { return Ok(()) };
        let horizon = shared.retention.apart_since_of(shared.is_state(relation));
        shared.past.leave_out(relation, horizon);
        let keys = open::row_keys(&shared, relation);
        let (mut key, mut value) = (Vec::new(), Vec::new());
        let mut tombstones = 0;
        let mut batch = WriteBatch::default();
        if rows_of(&runs) < FILE_ROWS_MIN.min(shared.options.apply_rows) && bytes_of(&runs) < SMALL_RUN_BYTES * 4 {
            let family = shared.family(format::ROWS);
            let Ok(()) = run::for_each_kept(&runs, horizon, |e| {
                keys.write(&mut key, e.key, e.epoch);
                format::write_row(&mut value, e.row);
                tombstones += u64::from(e.row.is_none());
                batch.put_cf(family, &key, &value);
                Ok::<(), std::convert::Infallible>(())
            });
            self.rows_in_memtable = true;
        } else {
            if self.rows_in_memtable {
                let failed = |e| Error::failed("flush", "the family `rows`", e);
                shared.db.flush_cf(shared.family(format::ROWS)).map_err(failed)?;
                self.rows_in_memtable = false;
            }
            let path = open::staging(&shared.path).join(format!("rows-{}-{epoch}.sst", relation.0));
            let written = shared.write_sst(&shared.rows_file_options, &path, |sst| {
                run::for_each_kept(&runs, horizon, |e| {
                    keys.write(&mut key, e.key, e.epoch);
                    format::write_row(&mut value, e.row);
                    tombstones += u64::from(e.row.is_none());
                    sst.put(&key, &value)
                })
            });
            if let Err(e) = written {
                let _ = std::fs::remove_file(&path);
                return Err(e);
            }
            shared.at(CrashPoint::ApplyWritten);
            if let Err(e) = shared.ingest(format::ROWS, vec![path.clone()]) {
                let _ = std::fs::remove_file(&path);
                return Err(Error::failed("take in", path.display().to_string(), e));
            }
            shared.at(CrashPoint::ApplyIngested);
        }
        shared.work.add_tombstones(relation, tombstones);
        let since = if shared.is_state(relation) { epoch } else { shared.retention.since() };
        let epochs = past::with_applied(shared.past.all_applied(relation), epoch, since);
        let applied = Applied { tombstones: shared.work.tombstones(relation), epochs };
        put_applied(&shared, &mut batch, relation, &applied);
        let redo_from = redo_from(&shared, Some((relation, epoch)));
        put_numbers(&shared, &mut batch, REDO_FROM, &[redo_from]);
        shared.write(batch, false, "the applier's note")?;
        shared.past.set_applied(relation, applied.epochs);
        shared.work.take_logged(relation, logged);
        shared.update_runs(relation, |now| now.iter().filter(|r| r.max_epoch > epoch).cloned().collect());
        shared.work.applied.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    /// Forgets changes, commit records and remaps that nobody can ask for.
    fn trim(&mut self) -> Result<(), Error> {
        let shared = self.shared.clone();
        for class in Class::ALL {
            let Some(bound) = trim_bound(&shared, class) else { continue };
            shared.at(CrashPoint::Trim);
            // Whole files are dropped at once and for good; what says that they are not needed must be on disk first.
            shared.db.flush_wal(true).map_err(|e| Error::failed("sync", "the log", e))?;
            let mut batch = WriteBatch::default();
            let (first, end) = (format::change_prefix(class, 0), format::change_prefix(class, bound + 1));
            batch.delete_range_cf(shared.family(format::CHANGES), first, end);
            shared.write(batch, false, "trimming")?;
            shared
                .db
                .delete_file_in_range_cf(shared.family(format::CHANGES), first, end)
                .map_err(|e| Error::failed("remove", "files of old changes", e))?;
            shared.work.trimmed[class as usize].store(bound, Ordering::Relaxed);
            // A segment holds both classes.
            let both = Class::ALL.map(|class| shared.work.trimmed[class as usize].load(Ordering::Relaxed));
            shared.segments.trim(both[0].min(both[1]))?;
        }
        if let Some(bound) = log_bound(&shared) {
            shared.at(CrashPoint::Trim);
            let mut batch = WriteBatch::default();
            let below = format::epoch_key(bound);
            batch.delete_range_cf(shared.family(format::COMMIT), format::epoch_key(0), below);
            batch.delete_range_cf(shared.family(format::REMAP), format::epoch_key(0), below);
            put_numbers(&shared, &mut batch, REDO_FROM, &[redo_from(&shared, None)]);
            put_numbers(&shared, &mut batch, LOG_FROM, &[bound]);
            // Before they are gone: who reads an old epoch begins behind them.
            shared.work.set_log_trimmed(bound);
            shared.write(batch, false, "trimming")?;
        }
        Ok(())
    }

    /// Goes on removing rows whose newest readable version is a deletion; true if there is more to do.
    ///
    /// A deletion may go only together with all older versions of its key, wherever they lie. A compaction cannot
    /// know that it sees them all; a scan does.
    fn sweep(&mut self) -> Result<bool, Error> {
        let shared = self.shared.clone();
        if self.sweep.is_none() {
            let due = shared.relations.iter().find(|r| {
                let last = self.swept[r.id.0 as usize];
                shared.work.tombstones(r.id) >= SWEEP_TOMBSTONES_MIN.max(last.rows / 4)
                    && shared.retention.since_of(shared.is_state(r.id)) >= last.epoch
            });
            let Some(info) = due else { return Ok(false) };
            let mut from = Vec::new();
            open::row_keys(&shared, info.id).write_prefix(&mut from, &[]);
            let tombstones = shared.work.tombstones(info.id);
            self.sweep = Some(Sweep { relation: info.id, from, tombstones, left: Swept::default() });
        }
        let sweep = self.sweep.as_mut().expect("begun above");
        let relation = sweep.relation;
        let horizon = shared.retention.since_of(shared.is_state(relation));
        let family = shared.family(format::ROWS);
        let mut options = ReadOptions::default();
        options.set_total_order_seek(true);
        options.fill_cache(false);
        options.set_iterate_upper_bound(open::row_keys(&shared, relation).end());
        let mut iter = shared.db.raw_iterator_cf_opt(family, options);
        iter.seek(&sweep.from);
        let (mut last, mut dead, mut decided) = (Vec::new(), false, false);
        let (mut batch, mut seen, mut done) = (WriteBatch::default(), 0, true);
        while let Some((key, value)) = iter.item() {
            let Some((same, epoch)) = format::split_row_key(key) else {
                return Err(Error::damaged("`rows`", "a key is too short"));
            };
            if same != last.as_slice() {
                // Between two keys is the only place to stop: a key's versions are judged together.
                if seen >= SWEEP_SLICE {
                    sweep.from = key.to_vec();
                    done = false;
                    break;
                }
                if batch.len() >= SWEEP_BATCH {
                    shared.write(std::mem::take(&mut batch), false, "the sweep")?;
                }
                last.clear();
                last.extend_from_slice(same);
                (dead, decided) = (false, false);
            }
            seen += 1;
            let deletion = !decided && format::read_row(value) == Some(None);
            if epoch <= horizon && !decided {
                (decided, dead) = (true, deletion);
            } else if deletion {
                sweep.left.tombstones += 1;
                sweep.left.epoch = sweep.left.epoch.max(epoch);
            }
            if dead {
                batch.delete_cf(family, key);
                self.rows_in_memtable = true;
            } else {
                sweep.left.rows += 1;
            }
            iter.next();
        }
        iter.status().map_err(|e| Error::read("`rows`", &e))?;
        drop(iter);
        if done {
            let (tombstones, left) = (sweep.tombstones, sweep.left);
            self.sweep = None;
            self.swept[relation.0 as usize] = left;
            let left = {
                let mut all = lock(&shared.work.tombstones);
                let now = &mut all[relation.0 as usize];
                *now = now.saturating_sub(tombstones) + left.tombstones;
                *now
            };
            let applied = read_applied(&shared, relation)?;
            put_applied(&shared, &mut batch, relation, &Applied { tombstones: left, ..applied });
        }
        if !batch.is_empty() {
            shared.write(batch, false, "the sweep")?;
        }
        Ok(!done)
    }
}
