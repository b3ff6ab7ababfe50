//! The door: a store and what can be done with it.

use std::collections::BTreeMap;
use std::fs::File;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, OnceLock, RwLock};
use std::thread::JoinHandle;
use std::time::Duration;

use rocksdb::{ColumnFamily, DB, WriteBatch, WriteOptions};
use types::{ChangeSet, Digest, Epoch, Remap};

use crate::applier::{Logged, Work};
use crate::format::{self, CHUNK_BYTES, CHUNK_HEADER, Class, CommitRecord, RelationCommit};
use crate::journal::Journal;
use crate::open::{Damage, HighWater};
use crate::past::Past;
use crate::retention::Retention;
use crate::run::{self, RUN_BYTES_MAX, Run};
use crate::segments::Segments;
use crate::{
    Changes, CrashPoint, Error, Options, RelationId, RelationInfo, RelationKind, Snapshot, VerifyReport, applier, lock,
    open, verify,
};

/// An open store. Cheap to clone; the last clone (and the last [`Snapshot`]) to go closes it.
#[derive(Clone)]
pub struct Store {
    handle: Arc<Handle>,
}

/// What every clone of a store shares: the store, and the thread that works for it.
struct Handle {
    shared: Arc<Shared>,
    applier: Mutex<Option<JoinHandle<()>>>,
}

/// Everything an epoch changed.
#[derive(Clone, Debug, Default)]
pub struct EpochCommit {
    /// The epoch: the one after the last committed.
    pub epoch: Epoch,
    /// The relations it changed, each at most once, each with a change set that is sorted and netted
    /// ([`ChangeSet::net`]). Sets of [`RelationKind::State`] carry no `before`.
    pub relations: Vec<(RelationId, ChangeSet)>,
}

/// What a commit wrote.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CommitStats {
    /// Changed rows.
    pub rows: u64,
    /// Bytes of change chunks.
    pub bytes: u64,
    /// Change chunks.
    pub chunks: u64,
    /// Whether they went to a segment.
    pub staged: bool,
}

/// A store in numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// The last committed epoch.
    pub committed: Epoch,
    /// The last published epoch.
    pub published: Epoch,
    /// The oldest epoch that can be read.
    pub since: Epoch,
    /// Sorted runs in memory.
    pub runs: u64,
    /// Row versions in them.
    pub run_rows: u64,
    /// The memory they take.
    pub run_bytes: u64,
    /// Readers that hold an epoch.
    pub readers: u64,
    /// Files of RocksDB.
    pub files: u64,
    /// The bytes in them.
    pub file_bytes: u64,
    /// The memory RocksDB's memtables take.
    pub memtable_bytes: u64,
    /// The memory its block cache takes.
    pub cache_bytes: u64,
    /// How often a relation's runs were moved into `rows`.
    pub applied: u64,
    /// Why the background work does not go on, if it does not.
    pub applier_error: Option<String>,
}

/// The runs of every relation, by number. A published list never changes: commits and the applier make new ones.
pub(crate) type Memory = Vec<Arc<Vec<Arc<Run>>>>;

type Listener = Box<dyn Fn(Epoch) + Send + Sync>;

/// The store itself.
pub(crate) struct Shared {
    pub db: DB,
    pub rows_file_options: rocksdb::Options,
    pub cache: rocksdb::Cache,
    pub path: PathBuf,
    pub options: Options,
    pub read_only: bool,
    pub relations: Vec<RelationInfo>,
    pub by_name: BTreeMap<String, RelationId>,
    pub memory: RwLock<Arc<Memory>>,
    pub writer: Mutex<Writer>,
    /// The last commit's record, for those who must not wait for the next.
    pub newest: Mutex<Arc<CommitRecord>>,
    /// The last epoch whose remap is logged.
    pub sealed: Mutex<Epoch>,
    pub committed: AtomicU64,
    /// The horizon of the newest durable commit record.
    pub horizon: AtomicU64,
    pub published: Mutex<Epoch>,
    pub publish_wake: Condvar,
    pub listeners: RwLock<Vec<Listener>>,
    pub retention: Arc<Retention>,
    pub poison: OnceLock<String>,
    pub work: Work,
    pub segments: Segments,
    pub past: Past,
    pub journal: Journal,
    pub high_water: Mutex<HighWater>,
    /// Held as long as the store is open. Last, so that it goes last.
    pub _lock: File,
}

/// What the next commit builds on.
#[derive(Debug)]
pub(crate) struct Writer {
    pub last: Arc<CommitRecord>,
    pub crc: u32,
}

impl Store {
    /// Opens a store, makes it if there is none, and finishes what a crash interrupted.
    ///
    /// # Errors
    /// [`Error::Locked`], [`Error::NotAStore`], [`Error::Format`], [`Error::ForeignPlan`]: it is not ours to open.
    /// [`Error::Damaged`]: something that was acknowledged is missing or wrong. [`Error::Failed`]: the machine.
    pub fn open(options: Options) -> Result<Store, Error> {
        let shared = Arc::new(open::open(options, false, &mut Damage::default())?);
        let applier = applier::start(shared.clone())?;
        Ok(Store { handle: Arc::new(Handle { shared, applier: Mutex::new(Some(applier)) }) })
    }

    /// Opens a store, whosever it is, to look at it while its daemon is stopped. It takes the same lock, and finishes
    /// what a crash interrupted; beyond that it writes nothing.
    pub fn open_read_only(path: impl AsRef<Path>) -> Result<Store, Error> {
        Store::open_tolerant(path.as_ref(), &mut Damage::default())
    }

    pub(crate) fn open_tolerant(path: &Path, damage: &mut Damage) -> Result<Store, Error> {
        let shared = Arc::new(open::open(Options::new(path), true, damage)?);
        Ok(Store { handle: Arc::new(Handle { shared, applier: Mutex::new(None) }) })
    }

    /// Stops the background work and waits for it. Reads go on; writes are refused. Dropping the last clone does
    /// the same.
    pub fn close(&self) {
        self.handle.close();
    }

    /// Why no more writes are taken, if one has failed half-way: [`Error::Poisoned`]. Reads go on.
    pub fn poisoned(&self) -> Option<Error> {
        self.shared().poison.get().map(|reason| Error::Poisoned { reason: reason.clone() })
    }

    /// The store's folder.
    pub fn path(&self) -> &Path {
        &self.shared().path
    }

    /// The number of the relation of that name.
    pub fn relation(&self, name: &str) -> Option<RelationId> {
        self.shared().by_name.get(name).copied()
    }

    /// Every relation, by number.
    pub fn relations(&self) -> Vec<RelationInfo> {
        self.shared().relations.clone()
    }

    /// The last committed epoch; 0 for an empty store.
    pub fn committed(&self) -> Epoch {
        self.shared().committed()
    }

    /// Logs how an epoch was cut, before it is computed. Not synced: the commit of the epoch, or any later synced
    /// write, makes it durable. Logging the same again does nothing.
    ///
    /// # Errors
    /// [`Error::Refused`] if the epoch is not the next to be sealed, or was sealed otherwise.
    pub fn log_remap(&self, remap: &Remap) -> Result<(), Error> {
        const LOG: &str = "log the remap";
        let shared = self.shared();
        shared.check_writable()?;
        let mut sealed = lock(&shared.sealed);
        let epoch = remap.epoch;
        if epoch == 0 || epoch > *sealed + 1 {
            return Err(Error::refused(LOG, format!("epoch {epoch} does not follow epoch {}", *sealed)));
        }
        let key = format::epoch_key(epoch);
        if epoch <= *sealed {
            return match shared.remap(epoch)? {
                Some(logged) if logged == *remap => Ok(()),
                _ => Err(Error::refused(LOG, format!("epoch {epoch} was sealed otherwise"))),
            };
        }
        let mut value = vec![0; 4];
        serde_json::to_writer(&mut value, remap).map_err(|e| Error::refused(LOG, e.to_string()))?;
        format::seal(&key, &mut value);
        let mut batch = WriteBatch::default();
        batch.put_cf(shared.family(format::REMAP), key, value);
        shared.write(batch, false, "the remap's log")?;
        *sealed = epoch;
        shared.at(CrashPoint::Remap);
        Ok(())
    }

    /// How an epoch was cut; `None` if it is not sealed or no longer kept.
    pub fn remap(&self, epoch: Epoch) -> Result<Option<Remap>, Error> {
        self.shared().remap(epoch)
    }

    /// The epochs after this one that were sealed, in order. After the last committed epoch: those to be redone as
    /// they were.
    pub fn sealed_after(&self, epoch: Epoch) -> Result<Vec<Remap>, Error> {
        let shared = self.shared();
        let sealed = *lock(&shared.sealed);
        (epoch + 1..=sealed)
            .map(|e| shared.remap(e)?.ok_or_else(|| Error::damaged(format!("the remap of epoch {e}"), "it is missing")))
            .collect()
    }

    /// Makes an epoch durable, whole. Blocks until it is on disk (and, when the background work is far behind, until
    /// it has caught up).
    ///
    /// # Errors
    /// [`Error::Unknown`]: it may have happened; the store takes no more writes. Any other: it did not.
    ///
    /// # Panics
    /// If a change set is not sorted and netted, or has a key that is a prefix of the next (except in state).
    pub fn commit(&self, commit: EpochCommit) -> Result<CommitStats, Error> {
        self.shared().commit(commit)
    }

    /// Makes an epoch the newest that readers see, and wakes who waits for it. An older one than the present is
    /// ignored.
    ///
    /// # Panics
    /// If the epoch is not committed.
    pub fn publish(&self, epoch: Epoch) {
        let shared = self.shared();
        assert!(epoch <= shared.committed(), "epoch {epoch} is published before it is committed");
        {
            let mut published = lock(&shared.published);
            if epoch <= *published {
                return;
            }
            *published = epoch;
            shared.publish_wake.notify_all();
        }
        if shared.advance_horizons() {
            shared.work.look(shared);
        }
        for listener in shared.listeners.read().unwrap_or_else(std::sync::PoisonError::into_inner).iter() {
            listener(epoch);
        }
    }

    /// The newest epoch that readers see. When a store is opened: the last committed.
    pub fn published(&self) -> Epoch {
        *lock(&self.shared().published)
    }

    /// Waits until an epoch is published; false if that took longer than the timeout.
    pub fn wait_published(&self, epoch: Epoch, timeout: Duration) -> bool {
        let shared = self.shared();
        let published = lock(&shared.published);
        let waited = shared.publish_wake.wait_timeout_while(published, timeout, |p| *p < epoch);
        *waited.unwrap_or_else(std::sync::PoisonError::into_inner).0 >= epoch
    }

    /// Has a function called after every publication, on the publishing thread: it should be quick. Epochs may be
    /// skipped, and none is told twice.
    pub fn on_publish(&self, f: Box<dyn Fn(Epoch) + Send + Sync>) {
        self.shared().listeners.write().unwrap_or_else(std::sync::PoisonError::into_inner).push(f);
    }

    /// All relations as they were at an epoch: the newest published if none is named.
    ///
    /// # Errors
    /// [`Error::Compacted`], [`Error::NotYet`].
    pub fn snapshot(&self, epoch: Option<Epoch>) -> Result<Snapshot, Error> {
        Snapshot::new(self.clone(), epoch)
    }

    /// The oldest epoch that can be read.
    pub fn since(&self) -> Epoch {
        self.shared().retention.since()
    }

    /// A relation's digest as of the last committed epoch. Nothing for state and for unknown relations.
    pub fn digest(&self, relation: RelationId) -> Digest {
        let newest = lock(&self.shared().newest).clone();
        newest.relations.get(relation.0 as usize).map(|r| r.digest).unwrap_or_default()
    }

    /// A relation's digest as of an epoch.
    ///
    /// # Errors
    /// [`Error::Compacted`], [`Error::NotYet`], [`Error::UnknownRelation`].
    pub fn digest_at(&self, relation: RelationId, epoch: Epoch) -> Result<Digest, Error> {
        let shared = self.shared();
        shared.info(relation)?;
        let newest = shared.committed();
        if epoch > newest {
            return Err(Error::NotYet { epoch, newest });
        }
        let _pin = shared.retention.pin(epoch).map_err(|since| Error::Compacted { epoch, since })?;
        if epoch == 0 {
            return Ok(Digest::default());
        }
        let record = shared.commit_record(epoch)?;
        Ok(record.relations[relation.0 as usize].digest)
    }

    /// What each epoch after `after` and up to `up_to` changed in a relation, in epoch order; epochs that changed
    /// nothing are left out. The sets are in key order and carry `after` only. Holds `after` until it is dropped.
    ///
    /// # Errors
    /// [`Error::Compacted`] if not all of them are kept, [`Error::NotYet`] if `up_to` is not committed,
    /// [`Error::Refused`] for state, which has no history.
    pub fn changes(&self, relation: RelationId, after: Epoch, up_to: Epoch) -> Result<Changes, Error> {
        Changes::new(self.clone(), relation, after, up_to)
    }

    /// Opens a store, reads every byte of it, recomputes every checksum and digest, and says what is wrong.
    ///
    /// # Errors
    /// Only if it is not ours to open or cannot be found; damage is reported, not an error.
    pub fn verify(path: impl AsRef<Path>) -> Result<VerifyReport, Error> {
        verify::verify(path.as_ref())
    }

    /// Compacts all files now, so that everything forgotten is gone from them. Slow, blocks, and never needed: for
    /// tests and for those who want to see the least a store takes.
    pub fn compact(&self) {
        let shared = self.shared();
        for family in format::FAMILIES {
            shared.db.compact_range_cf(shared.family(family), None::<&[u8]>, None::<&[u8]>);
        }
    }

    /// The store in numbers.
    pub fn stats(&self) -> Stats {
        self.shared().stats()
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.handle.shared
    }
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store").field("path", &self.shared().path).field("committed", &self.committed()).finish()
    }
}

impl Handle {
    fn close(&self) {
        self.shared.retention.bell.close();
        if let Some(applier) = lock(&self.applier).take() {
            // A panic in it has been printed; there is nothing more to do about it here.
            let _ = applier.join();
        }
        if !self.shared.read_only {
            // Nothing that was acknowledged depends on this; it spares the next open a surprise after a power cut.
            let _ = self.shared.db.flush_wal(true);
        }
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.close();
    }
}

/// One relation's changes of an epoch as they go to disk and into memory.
struct Encoded {
    relation: RelationId,
    class: Class,
    runs: Vec<Run>,
    /// The run and the range of its bytes of every chunk.
    chunks: Vec<(usize, Range<usize>)>,
    commit: RelationCommit,
}

impl Shared {
    pub(crate) fn family(&self, name: &str) -> &ColumnFamily {
        self.db.cf_handle(name).expect("every family was opened")
    }

    pub(crate) fn at(&self, point: CrashPoint) {
        (self.options.hook)(point);
    }

    pub(crate) fn committed(&self) -> Epoch {
        self.committed.load(Ordering::Acquire)
    }

    pub(crate) fn info(&self, relation: RelationId) -> Result<&RelationInfo, Error> {
        self.relations.get(relation.0 as usize).ok_or(Error::UnknownRelation { relation })
    }

    pub(crate) fn is_state(&self, relation: RelationId) -> bool {
        self.relations[relation.0 as usize].kind == RelationKind::State
    }

    pub(crate) fn memory(&self) -> Arc<Memory> {
        self.memory.read().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }

    /// Replaces the runs of a relation by what `f` makes of them.
    pub(crate) fn update_runs(&self, relation: RelationId, f: impl FnOnce(&[Arc<Run>]) -> Vec<Arc<Run>>) {
        let mut memory = self.memory.write().unwrap_or_else(std::sync::PoisonError::into_inner);
        let mut next = Memory::clone(&memory);
        let runs = &mut next[relation.0 as usize];
        *runs = Arc::new(f(runs));
        *memory = Arc::new(next);
    }

    pub(crate) fn check_writable(&self) -> Result<(), Error> {
        if self.read_only {
            return Err(Error::ReadOnly);
        }
        if let Some(reason) = self.poison.get() {
            return Err(Error::Poisoned { reason: reason.clone() });
        }
        if self.retention.bell.is_closed() {
            return Err(Error::refused("write", "the store is closed"));
        }
        Ok(())
    }

    pub(crate) fn poison(&self, reason: String) {
        tracing::error!(path = %self.path.display(), reason, "the store takes no more writes");
        let _ = self.poison.set(reason);
        self.retention.bell.ease();
    }

    /// Writes a batch. A failure poisons the store: whether the batch is in the log cannot be known.
    pub(crate) fn write(&self, batch: WriteBatch, sync: bool, operation: &'static str) -> Result<(), Error> {
        let mut options = WriteOptions::default();
        let sync = sync && self.options.sync;
        options.set_sync(sync);
        let before = self.db.latest_sequence_number();
        self.db.write_opt(batch, &options).map_err(|e| {
            let reason = e.to_string();
            self.poison(format!("{operation}: {reason}"));
            Error::Unknown { operation, reason }
        })?;
        if sync {
            // What was in the log before a synced write, and at least one entry of it, are on disk now.
            lock(&self.high_water).raise_sequence(before + 1);
        }
        Ok(())
    }

    fn remap(&self, epoch: Epoch) -> Result<Option<Remap>, Error> {
        let subject = || format!("the remap of epoch {epoch}");
        let key = format::epoch_key(epoch);
        let Some(value) =
            self.db.get_pinned_cf(self.family(format::REMAP), key).map_err(|e| Error::read(subject(), &e))?
        else {
            return Ok(None);
        };
        let json = format::open(&key, &value, subject)?;
        serde_json::from_slice(json).map(Some).map_err(|e| Error::damaged(subject(), e.to_string()))
    }

    pub(crate) fn commit_record(&self, epoch: Epoch) -> Result<CommitRecord, Error> {
        let subject = || format!("the commit record of epoch {epoch}");
        let value = self
            .db
            .get_pinned_cf(self.family(format::COMMIT), format::epoch_key(epoch))
            .map_err(|e| Error::read(subject(), &e))?
            .ok_or_else(|| Error::damaged(subject(), "it is missing"))?;
        Ok(CommitRecord::decode(epoch, &value, self.relations.len())?.0)
    }

    fn commit(&self, commit: EpochCommit) -> Result<CommitStats, Error> {
        const COMMIT: &str = "commit";
        self.check_writable()?;
        self.work.wait_for_room(self)?;
        let mut writer = lock(&self.writer);
        self.check_writable()?;
        let epoch = commit.epoch;
        let committed = self.committed();
        if epoch != committed + 1 {
            return Err(Error::refused(COMMIT, format!("epoch {epoch} does not follow epoch {committed}")));
        }
        if epoch > *lock(&self.sealed) {
            return Err(Error::refused(COMMIT, format!("epoch {epoch} is not sealed: its remap was not logged")));
        }
        let mut sets = commit.relations;
        sets.sort_by_key(|(r, _)| *r);
        if let Some(twice) = sets.windows(2).find(|w| w[0].0 == w[1].0) {
            return Err(Error::refused(COMMIT, format!("relation number {} is there twice", twice[0].0.0)));
        }
        for (relation, _) in &sets {
            self.info(*relation)?;
        }
        self.at(CrashPoint::Prepare);

        let mut record = CommitRecord {
            previous: writer.crc,
            horizon: writer.last.horizon.max(self.retention.within_holds(epoch, self.options.retain_epochs)),
            staged: None,
            relations: writer.last.relations.clone(),
        };
        for r in &mut record.relations {
            (r.changes, r.chunks) = (0, 0);
        }
        let mut encoded = Vec::with_capacity(sets.len());
        for (relation, set) in &sets {
            if !set.is_empty() {
                let last = record.relations[relation.0 as usize].digest;
                let one = encode(epoch, &self.relations[relation.0 as usize], last, set);
                record.relations[relation.0 as usize] = one.commit;
                encoded.push(one);
            }
        }
        drop(sets);
        let mut stats = CommitStats::default();
        for one in &encoded {
            stats.rows += one.commit.changes;
            stats.chunks += u64::from(one.commit.chunks);
            stats.bytes += one.chunks.iter().map(|(_, r)| r.len() as u64).sum::<u64>();
        }
        stats.staged = stats.rows >= self.options.stage_rows as u64 || stats.bytes >= Options::STAGE_BYTES as u64;
        stats.staged &= stats.rows > 0;

        // Until here nothing is written but, for a large epoch, bytes that nothing names.
        if stats.staged {
            let blocks = encoded.iter().flat_map(|one| one.runs.iter().map(Run::block));
            record.staged = Some(self.segments.append(epoch, blocks)?);
            self.at(CrashPoint::StageWritten);
        }
        let (record_bytes, crc) = record.encode(epoch);
        let mut bomb = Bomb { shared: self, armed: true };
        let mut batch = WriteBatch::default();
        if !stats.staged {
            let changes = self.family(format::CHANGES);
            for one in &encoded {
                for (i, (run, range)) in one.chunks.iter().enumerate() {
                    let key = format::change_key(one.class, epoch, one.relation, i as u32);
                    batch.put_cf(changes, key, &one.runs[*run].block()[range.clone()]);
                }
            }
        }
        batch.put_cf(self.family(format::COMMIT), format::epoch_key(epoch), record_bytes);
        self.at(CrashPoint::Commit);
        let written = self.write(batch, true, "the commit");
        if let Err(e) = written {
            bomb.armed = false;
            return Err(e);
        }
        if self.options.sync {
            lock(&self.high_water).raise_epoch(epoch);
        }
        self.at(CrashPoint::Committed);

        self.add_runs(encoded);
        self.horizon.store(record.horizon, Ordering::Release);
        (writer.last, writer.crc) = (Arc::new(record), crc);
        *lock(&self.newest) = writer.last.clone();
        self.committed.store(epoch, Ordering::Release);
        bomb.armed = false;
        drop(writer);
        self.advance_horizons();
        self.work.look(self);
        Ok(stats)
    }

    /// Writes a sorted file and waits until it, and its name, are on disk.
    pub(crate) fn write_sst(
        &self,
        options: &rocksdb::Options,
        path: &Path,
        fill: impl FnOnce(&mut rocksdb::SstFileWriter<'_>) -> Result<(), rocksdb::Error>,
    ) -> Result<(), Error> {
        let failed = |e: &dyn std::fmt::Display| Error::failed("write", path.display().to_string(), e);
        {
            let mut sst = rocksdb::SstFileWriter::create(options);
            sst.open(path).map_err(|e| failed(&e))?;
            fill(&mut sst).and_then(|()| sst.finish()).map_err(|e| failed(&e))?;
        }
        File::open(path).and_then(|f| f.sync_all()).map_err(|e| failed(&e))?;
        open::sync_dir(&open::staging(&self.path)).map_err(|e| failed(&e))
    }

    /// Makes sorted files part of a family.
    pub(crate) fn ingest(&self, family: &str, files: Vec<PathBuf>) -> Result<(), rocksdb::Error> {
        let mut options = rocksdb::IngestExternalFileOptions::default();
        options.set_move_files(true);
        self.db.ingest_external_file_cf_opts(self.family(family), &options, files)
    }

    fn add_runs(&self, encoded: Vec<Encoded>) {
        // Only commits add runs and touch the small ones at the end, and commits come one at a time: merging
        // outside the lock is safe against everything but the applier, which leaves those alone.
        let seen = self.memory();
        let mut logged = Vec::new();
        let merged: Vec<(RelationId, usize, Vec<Arc<Run>>)> = encoded
            .into_iter()
            .map(|one| {
                let state = one.class == Class::State;
                let horizon = self.retention.apart_since_of(state);
                let (rows, bytes) = (one.commit.changes, one.runs.iter().map(|r| r.bytes() as u64).sum());
                logged.push((one.relation, Logged { rows, bytes }));
                let (taken, tail) = applier::grow(&seen[one.relation.0 as usize], one.runs, horizon, !state);
                if taken > 0 {
                    self.past.leave_out(one.relation, horizon);
                }
                (one.relation, taken, tail)
            })
            .collect();
        let mut memory = self.memory.write().unwrap_or_else(std::sync::PoisonError::into_inner);
        let mut next = Memory::clone(&memory);
        for (relation, taken, tail) in merged {
            let runs = &mut next[relation.0 as usize];
            // The applier may have dropped some of those that were taken: what was dropped is in `rows`, and stands
            // in the merged run a second time, which does no harm.
            let before = &seen[relation.0 as usize];
            let gone = &before[before.len() - taken..];
            let mut list: Vec<_> = runs.iter().filter(|r| !gone.iter().any(|g| Arc::ptr_eq(g, r))).cloned().collect();
            list.extend(tail);
            *runs = Arc::new(list);
        }
        *memory = Arc::new(next);
        drop(memory);
        logged.into_iter().for_each(|(relation, one)| self.work.add_logged(relation, one));
    }

    /// Moves the horizons up to what the newest durable commit and the readers allow. True if they moved.
    pub(crate) fn advance_horizons(&self) -> bool {
        let published = *lock(&self.published);
        self.retention.advance(self.horizon.load(Ordering::Acquire).min(published), published)
    }

    fn stats(&self) -> Stats {
        let memory = self.memory();
        let runs = || memory.iter().flat_map(|r| r.iter());
        let files = self.db.live_files().unwrap_or_default();
        let memtable = |name: &str| {
            let family = self.family(name);
            self.db.property_int_value_cf(family, "rocksdb.cur-size-all-mem-tables").ok().flatten().unwrap_or(0)
        };
        let (applied, applier_error) = self.work.stats(&self.retention.bell);
        Stats {
            committed: self.committed(),
            published: *lock(&self.published),
            since: self.retention.since(),
            runs: runs().count() as u64,
            run_rows: runs().map(|r| r.len() as u64).sum(),
            run_bytes: runs().map(|r| r.bytes() as u64).sum(),
            readers: self.retention.readers() as u64,
            files: files.len() as u64,
            file_bytes: files.iter().map(|f| f.size as u64).sum(),
            memtable_bytes: format::FAMILIES.iter().map(|f| memtable(f)).sum(),
            cache_bytes: self.cache.get_usage() as u64,
            applied,
            applier_error,
        }
    }
}

/// Poisons the store if a commit is left by a panic when it is already half done.
struct Bomb<'a> {
    shared: &'a Shared,
    armed: bool,
}

impl Drop for Bomb<'_> {
    fn drop(&mut self) {
        if self.armed {
            self.shared.poison("a commit panicked half-way".to_owned());
        }
    }
}

/// Checks a change set, and makes its chunks, its runs and its line in the commit record of it, in one pass.
fn encode(epoch: Epoch, info: &RelationInfo, last: Digest, set: &ChangeSet) -> Encoded {
    let state = info.kind == RelationKind::State;
    let class = if state { Class::State } else { Class::History };
    let mut digest = last;
    let (mut runs, mut chunks) = (Vec::new(), Vec::<(usize, Range<usize>)>::new());
    let bytes: usize = set.iter().map(|c| c.key.len() + c.after.map_or(0, <[u8]>::len) + 8).sum();
    let new_run = || {
        let mut run = Run::new(epoch, !state);
        run.reserve(set.len(), bytes.min(RUN_BYTES_MAX + CHUNK_BYTES));
        run.pad(CHUNK_HEADER);
        run
    };
    let mut run = new_run();
    let mut start = 0;
    let mut close = |run: &mut Run, start: usize, at: usize| {
        let end = run.block().len();
        let key = format::change_key(class, epoch, info.id, chunks.len() as u32);
        format::seal_chunk(&key, &mut run.block_mut()[start..end]);
        chunks.push((at, start..end));
        end
    };
    let mut previous: Option<&[u8]> = None;
    for change in set.iter() {
        let name = &info.name;
        if let Some(p) = previous {
            assert!(p < change.key, "the changes of `{name}` in epoch {epoch} are not sorted, or a key is there twice");
            let prefix = !state && p.len() < change.key.len() && change.key.starts_with(p);
            assert!(!prefix, "a key of `{name}` is a prefix of another");
        }
        previous = Some(change.key);
        if state {
            assert!(change.before.is_none(), "a change of state `{name}` carries the row before");
        } else {
            assert!(change.before != change.after, "a change of `{name}` in epoch {epoch} changes nothing");
            digest.change(&change);
        }
        let length = run.block().len();
        if length - start >= CHUNK_BYTES {
            start = close(&mut run, start, runs.len());
            if length >= RUN_BYTES_MAX {
                runs.push(std::mem::replace(&mut run, new_run()));
                start = 0;
            } else {
                run.pad(CHUNK_HEADER);
            }
        }
        run.push(change.key, epoch, change.after);
    }
    close(&mut run, start, runs.len());
    runs.push(run);
    for run in &mut runs {
        run.finish();
    }
    let commit = RelationCommit { digest, changes: set.len() as u64, chunks: chunks.len() as u32 };
    Encoded { relation: info.id, class, runs, chunks, commit }
}

/// Reads what an epoch changed in a relation, chunk by chunk: each is checked, and given to `each` with its number.
pub(crate) fn for_each_chunk(
    shared: &Shared,
    epoch: Epoch,
    record: &CommitRecord,
    relation: RelationId,
    mut each: impl FnMut(u32, &[u8]) -> Result<(), Error>,
) -> Result<(), Error> {
    let index = relation.0 as usize;
    let count = record.relations[index].chunks;
    if count == 0 {
        return Ok(());
    }
    let class = if shared.is_state(relation) { Class::State } else { Class::History };
    let key = |chunk: u32| format::change_key(class, epoch, relation, chunk);
    let subject = |chunk: u32| chunk_subject(shared, epoch, relation, chunk);
    if let Some(offset) = record.staged {
        let before = record.relations[..index].iter().map(|r| r.chunks).sum();
        for (chunk, bytes) in (0..).zip(shared.segments.read(epoch, offset, before, count)?) {
            format::open(&key(chunk), &bytes, || subject(chunk))?;
            each(chunk, &bytes)?;
        }
        return Ok(());
    }
    for chunk in 0..count {
        let bytes = shared
            .db
            .get_pinned_cf(shared.family(format::CHANGES), key(chunk))
            .map_err(|e| Error::read(subject(chunk), &e))?
            .ok_or_else(|| Error::damaged(subject(chunk), "it is missing"))?;
        format::open(&key(chunk), &bytes, || subject(chunk))?;
        each(chunk, &bytes)?;
    }
    Ok(())
}

/// What a chunk is called.
pub(crate) fn chunk_subject(shared: &Shared, epoch: Epoch, relation: RelationId, chunk: u32) -> String {
    let name = shared.relations.get(relation.0 as usize).map_or("?", |r| r.name.as_str());
    format!("chunk {chunk} of the changes of `{name}` in epoch {epoch}")
}

/// Reads what an epoch changed in a relation, each entry given to `each`.
pub(crate) fn read_changes(
    shared: &Shared,
    epoch: Epoch,
    record: &CommitRecord,
    relation: RelationId,
    mut each: impl FnMut(&[u8], Option<&[u8]>),
) -> Result<(), Error> {
    for_each_chunk(shared, epoch, record, relation, |chunk, bytes| {
        run::read_chunk(bytes, CHUNK_HEADER, &mut each, || chunk_subject(shared, epoch, relation, chunk))
    })
}
