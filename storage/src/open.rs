//! Opening a store: whose it is, what a crash left undone, and whether all that was acknowledged is there.
//!
//! # The log after a crash
//!
//! RocksDB's log may end in a torn record: one that was being written, unsynced, when the power went. That is no
//! damage, and `AbsoluteConsistency` would refuse it. But a log cut short by a broken disk looks the same, and then
//! acknowledged epochs are missing. `TolerateCorruptedTailRecords` accepts the first, reports everything wrong
//! before the end, and accepts the second too. So the store keeps a witness of its own, the file `high-water`: after
//! every synced write, the epoch and RocksDB's sequence number that are on disk. It is written without a sync,
//! after the fact, so it may lag behind after a power cut; it is never ahead. A log that ends below it has lost
//! something that was acknowledged, and the store says so instead of opening.

use std::collections::BTreeMap;
use std::fs::{self, File, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Condvar, Mutex, OnceLock, RwLock};

use rocksdb::{
    BlockBasedOptions, Cache, ColumnFamilyDescriptor, DB, DBCompressionType, DBRecoveryMode, IteratorMode, LogLevel,
    SliceTransform, WriteBatch,
};
use types::{Digest, Epoch};

use crate::applier::{self, Applied, Logged, Work};
use crate::format::{self, CHUNK_HEADER, CommitRecord, FORMAT, RelationCommit, RowKeys};
use crate::holds;
use crate::journal::Journal;
use crate::past::Past;
use crate::retention::{DropSuperseded, Retention};
use crate::run::Run;
use crate::segments::Segments;
use crate::store::{self, Memory, Shared, Writer};
use crate::{Consequence, Error, Options, RelationId, RelationInfo, RelationKind, RelationSpec};

const MEMTABLE_BYTES: usize = 16 << 20;
const WAL_BYTES_MAX: u64 = 256 << 20;

pub(crate) const FORMAT_FILE: &str = "format";
const FORMAT_WORD: &str = "thalweg store ";
const LOCK_FILE: &str = "lock";
pub(crate) const HIGH_WATER_FILE: &str = "high-water";
/// The record of the store's identity in `meta`.
const IDENTITY: &str = "identity";

/// Where RocksDB lives.
pub(crate) fn database(path: &Path) -> PathBuf {
    path.join("db")
}

/// Where sorted files wait to become part of it.
pub(crate) fn staging(path: &Path) -> PathBuf {
    path.join("staging")
}

/// Where the changes of large epochs are.
pub(crate) fn segments(path: &Path) -> PathBuf {
    path.join("changes")
}

/// Waits until the names in a folder are on disk.
pub(crate) fn sync_dir(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// Whose store it is, in `meta`.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
struct Identity {
    plan: String,
    /// By number.
    relations: Vec<RelationSpec>,
}

/// What to do about damage found while opening.
#[derive(Debug, Default)]
pub(crate) struct Damage {
    /// Whether to note it and go on as well as can be, rather than to give up.
    pub tolerated: bool,
    /// What was noted.
    pub found: Vec<Error>,
    /// The relations whose changes could not all be read.
    pub incomplete: Vec<RelationId>,
}

impl Damage {
    /// Notes an error if it is damage and tolerated.
    fn note(&mut self, result: Result<(), Error>) -> Result<(), Error> {
        match result {
            Err(e) if self.tolerated && e.consequence() == Consequence::Damaged => {
                self.found.push(e);
                Ok(())
            }
            other => other,
        }
    }
}

/// Opens a store. For reading only, nothing is compared with the options but the path.
pub(crate) fn open(options: Options, read_only: bool, damage: &mut Damage) -> Result<Shared, Error> {
    let path = options.path.clone();
    let lock = enter(&path, read_only)?;
    if let Some(twice) = repeated(&options.relations) {
        return Err(Error::refused("open the store", format!("two relations are named `{twice}`")));
    }

    let retention = Arc::new(Retention::default());
    let cache = Cache::new_lru_cache(options.cache_bytes);
    let db = open_database(&path, &cache, &rows_options(&cache, &retention))?;

    let identity = identity(&db, &path, &options, read_only)?;
    let relations: Vec<RelationInfo> = identity
        .relations
        .into_iter()
        .enumerate()
        .map(|(i, r)| RelationInfo { id: RelationId(i as u32), name: r.name, kind: r.kind, schema: r.schema })
        .collect();
    let is_state = relations.iter().map(|r| r.kind == RelationKind::State).collect();

    let (committed, last, crc) = last_commit(&db, relations.len())?;
    let last = Arc::new(last);
    let high_water = HighWater::open(&path)?;
    damage.note(high_water.check(committed, db.latest_sequence_number()))?;
    let sealed = last_key(&db, format::REMAP)?.unwrap_or(0);
    if sealed < committed {
        damage.note(Err(Error::damaged(format!("the remap of epoch {committed}"), "it is missing")))?;
    }

    holds::load(&db, &retention)?;
    retention.advance(last.horizon, committed);
    retention.is_state.set(is_state).expect("set once, here");
    let empty: Arc<Vec<Arc<Run>>> = Arc::default();
    let relation_count = relations.len();
    let shared = Shared {
        db,
        rows_file_options: rows_file_options(&cache, &retention),
        cache,
        by_name: relations.iter().map(|r| (r.name.clone(), r.id)).collect::<BTreeMap<_, _>>(),
        memory: RwLock::new(Arc::new(vec![empty; relations.len()])),
        relations,
        path: path.clone(),
        options,
        read_only,
        horizon: AtomicU64::new(last.horizon),
        newest: Mutex::new(last.clone()),
        writer: Mutex::new(Writer { last, crc }),
        sealed: Mutex::new(sealed),
        committed: AtomicU64::new(committed),
        published: Mutex::new(committed),
        publish_wake: Condvar::new(),
        listeners: RwLock::default(),
        retention,
        poison: OnceLock::new(),
        past: Past::new(relation_count),
        work: Work::default(),
        segments: Segments::open(segments(&path), committed, read_only)?,
        journal: Journal::default(),
        high_water: Mutex::new(high_water),
        _lock: lock,
    };
    clear_staging(&shared.path)?;
    let memory = rebuild_runs(&shared, damage)?;
    *shared.memory.write().expect("nobody else has it yet") = Arc::new(memory);
    damage.note(shared.journal.load(&shared))?;
    Ok(shared)
}

/// Makes or finds the folder, takes its lock, and reads the format.
fn enter(path: &Path, existing: bool) -> Result<File, Error> {
    const OPEN: &str = "open the store";
    let failed = |e: io::Error| Error::failed(OPEN, path.display().to_string(), e);
    let not_a_store = |reason: &str| Error::NotAStore { path: path.to_owned(), reason: reason.to_owned() };
    if existing && !path.join(FORMAT_FILE).is_file() {
        return Err(not_a_store(if path.exists() { "it has no file `format`" } else { "it does not exist" }));
    }
    if path.exists() && !path.is_dir() {
        return Err(not_a_store("it is a file"));
    }
    fs::create_dir_all(path).map_err(failed)?;
    let ours = [FORMAT_FILE, LOCK_FILE];
    if !path.join(FORMAT_FILE).exists() {
        let stranger = fs::read_dir(path)
            .map_err(failed)?
            .filter_map(Result::ok)
            .map(|e| e.file_name().to_string_lossy().into_owned())
            .find(|n| !ours.contains(&n.trim_end_matches(".new")));
        if let Some(stranger) = stranger {
            return Err(not_a_store(&format!("it has no file `format`, but it holds `{stranger}`")));
        }
    }
    let mut lock = File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(path.join(LOCK_FILE))
        .map_err(|e| Error::failed(OPEN, path.join(LOCK_FILE).display().to_string(), e))?;
    match lock.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut pid = String::new();
            let _ = lock.read_to_string(&mut pid);
            let holder = if pid.trim().is_empty() { String::new() } else { format!(" by process {}", pid.trim()) };
            return Err(Error::Locked { path: path.to_owned(), holder });
        }
        Err(TryLockError::Error(e)) => return Err(failed(e)),
    }
    // The number only helps a person; that it cannot be written is no reason not to open.
    let _ = lock.set_len(0).and_then(|()| lock.rewind()).and_then(|()| write!(lock, "{}", std::process::id()));

    let file = path.join(FORMAT_FILE);
    if file.exists() {
        let text = fs::read_to_string(&file).map_err(failed)?;
        let found = text
            .strip_prefix(FORMAT_WORD)
            .map(str::trim)
            .ok_or_else(|| not_a_store("its file `format` is another's"))?;
        if found != FORMAT.to_string() {
            return Err(Error::Format { path: path.to_owned(), found: found.to_owned() });
        }
    } else {
        let new = path.join("format.new");
        let mut f = File::create(&new).map_err(failed)?;
        writeln!(f, "{FORMAT_WORD}{FORMAT}").and_then(|()| f.sync_all()).map_err(failed)?;
        fs::rename(&new, &file).and_then(|()| sync_dir(path)).map_err(failed)?;
        if let Some(parent) = path.parent().filter(|p| !p.as_os_str().is_empty()) {
            sync_dir(parent).map_err(failed)?;
        }
    }
    fs::create_dir_all(staging(path)).and_then(|()| fs::create_dir_all(segments(path))).map_err(failed)?;
    Ok(lock)
}

fn repeated(relations: &[RelationSpec]) -> Option<&str> {
    let mut names: Vec<&str> = relations.iter().map(|r| r.name.as_str()).collect();
    names.sort_unstable();
    names.windows(2).find(|w| w[0] == w[1]).map(|w| w[0])
}

fn table(cache: &Cache) -> BlockBasedOptions {
    let mut table = BlockBasedOptions::default();
    table.set_block_cache(cache);
    table.set_block_size(8 << 10);
    table.set_format_version(6);
    table
}

fn family_options(table: &BlockBasedOptions) -> rocksdb::Options {
    let mut o = rocksdb::Options::default();
    o.set_block_based_table_factory(table);
    o.set_compression_type(DBCompressionType::None);
    o.set_write_buffer_size(MEMTABLE_BYTES);
    o.set_target_file_size_base(64 << 20);
    // RocksDB would slow all writers, commits too, when one family's compaction lags. What may lag here is bounded
    // by the applier and by `Work::wait_for_room`; commits are never throttled by a family they do not write.
    o.set_level_zero_slowdown_writes_trigger(1 << 20);
    o.set_level_zero_stop_writes_trigger(1 << 20);
    o.set_soft_pending_compaction_bytes_limit(0);
    o.set_hard_pending_compaction_bytes_limit(0);
    o
}

/// The options of sorted files made for `rows`: RocksDB would take those of the lowest level for them.
fn rows_file_options(cache: &Cache, retention: &Arc<Retention>) -> rocksdb::Options {
    let mut o = rows_options(cache, retention);
    o.set_compression_per_level(&[]);
    o.set_compression_type(DBCompressionType::None);
    o
}

fn rows_options(cache: &Cache, retention: &Arc<Retention>) -> rocksdb::Options {
    let mut table = table(cache);
    // A lookup seeks within one key's versions: the filter is over the key without its epoch.
    table.set_bloom_filter(10.0, false);
    table.set_whole_key_filtering(false);
    table.set_optimize_filters_for_memory(true);
    let mut o = family_options(&table);
    // What has just come is soon written again, further down: it is compressed then.
    let [none, lz4] = [DBCompressionType::None, DBCompressionType::Lz4];
    o.set_compression_per_level(&[none, lz4, lz4, lz4, lz4, lz4, lz4]);
    fn shared_by_versions(key: &[u8]) -> &[u8] {
        &key[..key.len() - 8]
    }
    fn has_versions(key: &[u8]) -> bool {
        key.len() >= 12
    }
    o.set_prefix_extractor(SliceTransform::create("thalweg.key.1", shared_by_versions, Some(has_versions)));
    o.set_compaction_filter_factory(DropSuperseded(retention.clone()));
    o.set_max_bytes_for_level_base(256 << 20);
    o
}

fn changes_options(cache: &Cache) -> rocksdb::Options {
    let mut table = table(cache);
    table.set_block_size(64 << 10);
    let mut o = family_options(&table);
    // Read once by subscribers, if at all, and soon dropped: neither worth compressing nor worth moving about.
    o.set_level_zero_file_num_compaction_trigger(8);
    o.set_max_bytes_for_level_base(1 << 30);
    o
}

fn open_database(path: &Path, cache: &Cache, rows: &rocksdb::Options) -> Result<DB, Error> {
    let mut o = rocksdb::Options::default();
    o.create_if_missing(true);
    o.create_missing_column_families(true);
    o.set_paranoid_checks(true);
    o.set_wal_recovery_mode(DBRecoveryMode::TolerateCorruptedTailRecords);
    o.set_max_background_jobs(2);
    o.set_max_total_wal_size(WAL_BYTES_MAX);
    o.set_bytes_per_sync(1 << 20);
    o.set_keep_log_file_num(2);
    o.set_max_log_file_size(4 << 20);
    o.set_log_level(LogLevel::Warn);
    o.set_stats_dump_period_sec(0);
    o.set_stats_persist_period_sec(0);
    let plain = table(cache);
    let families = format::FAMILIES.iter().map(|name| {
        let options = match *name {
            format::ROWS => rows.clone(),
            format::CHANGES => changes_options(cache),
            _ => family_options(&plain),
        };
        ColumnFamilyDescriptor::new(*name, options)
    });
    let subject = database(path);
    DB::open_cf_descriptors(&o, &subject, families).map_err(|e| match e.kind() {
        rocksdb::ErrorKind::Corruption => Error::damaged(subject.display().to_string(), e.to_string()),
        _ => Error::failed("open the store", subject.display().to_string(), e),
    })
}

/// Reads, or at the first open writes, whose store it is.
fn identity(db: &DB, path: &Path, options: &Options, read_only: bool) -> Result<Identity, Error> {
    let subject = "the store's identity";
    let meta = db.cf_handle(format::META).expect("opened");
    let wanted = Identity { plan: options.plan.clone(), relations: options.relations.clone() };
    let Some(value) = db.get_cf(meta, IDENTITY).map_err(|e| Error::read(subject, &e))? else {
        if last_key(db, format::COMMIT)?.is_some() {
            return Err(Error::damaged(subject, "it is missing"));
        }
        if read_only {
            return Ok(Identity { plan: String::new(), relations: Vec::new() });
        }
        let mut value = vec![0; 4];
        serde_json::to_writer(&mut value, &wanted).expect("memory does not fail");
        format::seal(IDENTITY.as_bytes(), &mut value);
        let mut batch = WriteBatch::default();
        batch.put_cf(meta, IDENTITY, value);
        let mut write = rocksdb::WriteOptions::default();
        write.set_sync(true);
        db.write_opt(batch, &write).map_err(|e| Error::failed("make the store", path.display().to_string(), e))?;
        return Ok(wanted);
    };
    let json = format::open(IDENTITY.as_bytes(), &value, || subject.to_owned())?;
    let found: Identity = serde_json::from_slice(json).map_err(|e| Error::damaged(subject, e.to_string()))?;
    if !read_only {
        compare(&found, &wanted).map_err(|reason| Error::ForeignPlan { path: path.to_owned(), reason })?;
    }
    Ok(found)
}

/// What differs between the pipeline a store was made by and the one that wants it.
fn compare(found: &Identity, wanted: &Identity) -> Result<(), String> {
    for r in &wanted.relations {
        match found.relations.iter().find(|f| f.name == r.name) {
            None => return Err(format!("it has no {} `{}`", r.kind.name(), r.name)),
            Some(f) if f.kind != r.kind => {
                return Err(format!("`{}` is a {} there and a {} here", r.name, f.kind.name(), r.kind.name()));
            }
            Some(f) if f.schema != r.schema => {
                return Err(format!("`{}` has other columns or another key there", r.name));
            }
            Some(_) => {}
        }
    }
    if let Some(f) = found.relations.iter().find(|f| !wanted.relations.iter().any(|r| r.name == f.name)) {
        return Err(format!("it has a {} `{}`, which is not in this one", f.kind.name(), f.name));
    }
    if found.plan != wanted.plan {
        return Err(format!("its fingerprint is {}, and this one's is {}", found.plan, wanted.plan));
    }
    Ok(())
}

fn last_key(db: &DB, family: &'static str) -> Result<Option<Epoch>, Error> {
    let family_handle = db.cf_handle(family).expect("opened");
    match db.iterator_cf(family_handle, IteratorMode::End).next() {
        None => Ok(None),
        Some(item) => {
            let (key, _) = item.map_err(|e| Error::read(format!("the end of `{family}`"), &e))?;
            epoch_of(family, &key).map(Some)
        }
    }
}

fn epoch_of(family: &str, key: &[u8]) -> Result<Epoch, Error> {
    format::epoch_of(key).map_err(|_| Error::damaged(format!("`{family}`"), "a key is not an epoch"))
}

/// The last committed epoch, its record and that record's crc. Epoch 0 if there is none.
fn last_commit(db: &DB, relations: usize) -> Result<(Epoch, CommitRecord, u32), Error> {
    let nothing = RelationCommit { digest: Digest::default(), changes: 0, chunks: 0 };
    let Some(epoch) = last_key(db, format::COMMIT)? else {
        let empty = CommitRecord { previous: 0, horizon: 0, staged: None, relations: vec![nothing; relations] };
        return Ok((0, empty, 0));
    };
    let subject = || format!("the commit record of epoch {epoch}");
    let value = db
        .get_cf(db.cf_handle(format::COMMIT).expect("opened"), format::epoch_key(epoch))
        .map_err(|e| Error::read(subject(), &e))?
        .ok_or_else(|| Error::damaged(subject(), "it is missing"))?;
    let (record, crc) = CommitRecord::decode(epoch, &value, relations)?;
    Ok((epoch, record, crc))
}

/// Removes the sorted files that a crash left behind. What was to become of them is done again from the changes.
fn clear_staging(path: &Path) -> Result<(), Error> {
    let folder = staging(path);
    let failed = |e: io::Error| Error::failed("clear", folder.display().to_string(), e);
    for entry in fs::read_dir(&folder).map_err(failed)? {
        fs::remove_file(entry.map_err(failed)?.path()).map_err(failed)?;
    }
    Ok(())
}

/// Reads the changes that are committed and not yet in `rows`, checking that none is missing.
fn rebuild_runs(shared: &Shared, damage: &mut Damage) -> Result<Memory, Error> {
    let committed = shared.committed();
    let mut applied = Vec::with_capacity(shared.relations.len());
    for info in &shared.relations {
        let note = applier::read_applied(shared, info.id).and_then(|note: Applied| {
            if note.epoch() <= committed {
                return Ok(note);
            }
            let reason = format!("its rows are of epoch {}, and the last commit is of epoch {committed}", note.epoch());
            Err(Error::damaged(format!("`{}`", info.name), reason))
        });
        match note {
            Ok(note) => {
                shared.work.add_tombstones(info.id, note.tombstones);
                applied.push(note.epoch());
                shared.past.leave_out(info.id, note.epoch());
                shared.past.set_applied(info.id, note.epochs);
            }
            Err(e) => {
                damage.note(Err(e))?;
                damage.incomplete.push(info.id);
                applied.push(committed);
            }
        }
    }
    let redo_from = match applier::read_redo_from(shared) {
        Ok(epoch) => epoch,
        Err(e) => {
            damage.note(Err(e))?;
            damage.incomplete.extend(shared.relations.iter().map(|r| r.id));
            committed
        }
    };
    damage.note(applier::read_log_from(shared).map(|from| shared.work.set_log_trimmed(from)))?;
    let mut memory: Vec<Vec<Arc<Run>>> = vec![Vec::new(); shared.relations.len()];
    let from = applied.iter().copied().min().unwrap_or(0).max(redo_from).max(1);
    // Every record from here to the last commit must be there, and each must follow the one before.
    let mut expected = from;
    let mut previous: Option<u32> = None;
    let start = format::epoch_key(from);
    let start = IteratorMode::From(&start, rocksdb::Direction::Forward);
    for item in shared.db.iterator_cf(shared.family(format::COMMIT), start) {
        let (key, value) = match item {
            Ok(item) => item,
            Err(e) => {
                damage.note(Err(Error::read("the commit records", &e)))?;
                damage.incomplete.extend(shared.relations.iter().map(|r| r.id));
                break;
            }
        };
        let epoch = epoch_of(format::COMMIT, &key)?;
        let subject = |e: Epoch| format!("the commit record of epoch {e}");
        if epoch != expected {
            damage.note(Err(Error::damaged(subject(expected), "it is missing")))?;
            damage.incomplete.extend(shared.relations.iter().map(|r| r.id));
            previous = None;
        }
        expected = epoch + 1;
        let record = match CommitRecord::decode(epoch, &value, shared.relations.len()) {
            Ok((record, crc)) => {
                if previous.is_some_and(|p| p != record.previous) {
                    let reason = format!("it does not follow that of epoch {}", epoch - 1);
                    damage.note(Err(Error::damaged(subject(epoch), reason)))?;
                }
                previous = Some(crc);
                record
            }
            Err(e) => {
                damage.note(Err(e))?;
                damage.incomplete.extend(shared.relations.iter().map(|r| r.id));
                previous = None;
                continue;
            }
        };
        for (info, r) in shared.relations.iter().zip(&record.relations) {
            let index = info.id.0 as usize;
            if r.chunks == 0 || epoch <= applied[index] {
                continue;
            }
            match read_runs(shared, info.id, epoch, &record) {
                Ok(runs) => {
                    let state = info.kind == RelationKind::State;
                    let horizon = shared.retention.apart_since_of(state);
                    let bytes = runs.iter().map(|r| r.bytes() as u64).sum();
                    shared.work.add_logged(info.id, Logged { rows: r.changes, bytes });
                    shared.past.leave_out(info.id, horizon);
                    let (taken, tail) = applier::grow(&memory[index], runs, horizon, !state);
                    let kept = memory[index].len() - taken;
                    memory[index].truncate(kept);
                    memory[index].extend(tail);
                }
                Err(e) => {
                    damage.note(Err(e))?;
                    damage.incomplete.push(info.id);
                }
            }
        }
    }
    Ok(memory.into_iter().map(Arc::new).collect())
}

/// Reads what an epoch changed in a relation as runs.
pub(crate) fn read_runs(
    shared: &Shared,
    relation: RelationId,
    epoch: Epoch,
    record: &CommitRecord,
) -> Result<Vec<Run>, Error> {
    let asked = !shared.is_state(relation);
    let mut runs = vec![Run::new(epoch, asked)];
    store::for_each_chunk(shared, epoch, record, relation, |chunk, bytes| {
        if runs.last().is_some_and(|r| r.bytes() >= crate::run::RUN_BYTES_MAX) {
            runs.push(Run::new(epoch, asked));
        }
        let run = runs.last_mut().expect("one at least");
        run.push_chunk(bytes, CHUNK_HEADER)
            .ok_or_else(|| Error::damaged(store::chunk_subject(shared, epoch, relation, chunk), "it cannot be read"))
    })?;
    runs.iter_mut().for_each(Run::finish);
    let rows: u64 = runs.iter().map(|r| r.len() as u64).sum();
    let committed = record.relations[relation.0 as usize].changes;
    if rows != committed {
        return Err(Error::damaged(
            format!("the changes of `{}` in epoch {epoch}", shared.relations[relation.0 as usize].name),
            format!("there are {rows}, and {committed} were committed"),
        ));
    }
    Ok(runs)
}

/// How a relation's rows are keyed.
pub(crate) fn row_keys(shared: &Shared, relation: RelationId) -> RowKeys {
    RowKeys { relation, escaped: shared.is_state(relation) }
}

/// What is known to be on disk, kept outside RocksDB. See the head of this file.
#[derive(Debug)]
pub(crate) struct HighWater {
    file: File,
    epoch: Epoch,
    sequence: u64,
    slot: u64,
}

impl HighWater {
    const SLOT_BYTES: u64 = 512;
    const RECORD_BYTES: usize = 20;

    fn open(path: &Path) -> Result<HighWater, Error> {
        let path = path.join(HIGH_WATER_FILE);
        let failed = |e: io::Error| Error::failed("open", path.display().to_string(), e);
        let file = File::options().read(true).write(true).create(true).truncate(false).open(&path).map_err(failed)?;
        let mut water = HighWater { file, epoch: 0, sequence: 0, slot: 0 };
        if water.file.metadata().map_err(failed)?.len() < 2 * Self::SLOT_BYTES {
            water.file.set_len(2 * Self::SLOT_BYTES).and_then(|()| water.file.sync_all()).map_err(failed)?;
        }
        let (mut found, mut broken) = (false, 0);
        for slot in 0..2 {
            let mut record = [0; Self::RECORD_BYTES];
            water.file.read_exact_at(&mut record, slot * Self::SLOT_BYTES).map_err(failed)?;
            if record == [0; Self::RECORD_BYTES] {
                continue;
            }
            let Ok(body) = format::open(b"high-water", &record, String::new) else {
                broken += 1;
                continue;
            };
            let number = |b: &[u8]| u64::from_le_bytes(b.try_into().expect("eight bytes"));
            water.epoch = water.epoch.max(number(&body[..8]));
            water.sequence = water.sequence.max(number(&body[8..]));
            (found, water.slot) = (true, slot + 1);
        }
        // One slot may be torn by a power cut: they are written in turn.
        if broken == 2 || (broken == 1 && !found) {
            return Err(Error::damaged(path.display().to_string(), "it cannot be read"));
        }
        Ok(water)
    }

    /// Whether a store that ends here has all that was acknowledged.
    fn check(&self, epoch: Epoch, sequence: u64) -> Result<(), Error> {
        if self.epoch > epoch {
            return Err(Error::damaged(
                format!("epoch {}", self.epoch),
                format!("it was committed, and the log ends with epoch {epoch}"),
            ));
        }
        if self.sequence > sequence {
            return Err(Error::damaged(
                "the log",
                format!("it ends at {sequence}, and {} was acknowledged", self.sequence),
            ));
        }
        Ok(())
    }

    pub(crate) fn raise_epoch(&mut self, epoch: Epoch) {
        if epoch > self.epoch {
            self.epoch = epoch;
            self.write();
        }
    }

    pub(crate) fn raise_sequence(&mut self, sequence: u64) {
        if sequence > self.sequence {
            self.sequence = sequence;
            self.write();
        }
    }

    fn write(&mut self) {
        let mut record = [0; Self::RECORD_BYTES];
        record[4..12].copy_from_slice(&self.epoch.to_le_bytes());
        record[12..].copy_from_slice(&self.sequence.to_le_bytes());
        format::seal(b"high-water", &mut record);
        // A witness that cannot be written testifies to less; the store itself is none the worse.
        if let Err(e) = self.file.write_all_at(&record, (self.slot % 2) * Self::SLOT_BYTES) {
            tracing::warn!(error = %e, "cannot write the file high-water");
        }
        self.slot += 1;
    }
}
