//! Reading: all relations as they were at one epoch.
//!
//! A row's versions lie in two places: in runs, and in `rows`. The runs are taken first, and `rows` is looked at
//! after: what the applier moves meanwhile is then seen in both, never in neither.

use std::ops::Bound;
use std::sync::Arc;

use rocksdb::{DB, DBRawIteratorWithThreadMode, ReadOptions};
use types::{Digest, Epoch};

use crate::format::{self, RowKeys};
use crate::retention::Pin;
use crate::run::{self, Merge, Run};
use crate::store::Memory;
use crate::{Error, RelationId, RelationKind, Store, lock, open};

/// After this many steps over versions of one key, a scan seeks past them.
const STEPS_MAX: u32 = 6;

/// All relations as they were at one epoch, for as long as it lives: it holds the epoch against retention. Cheap to
/// make and to clone, and read by any number of threads at once.
#[derive(Clone)]
pub struct Snapshot {
    store: Store,
    memory: Arc<Memory>,
    /// State is kept only as of the newest epochs.
    has_state: bool,
    pin: Pin,
}

/// A row, and the epoch that wrote it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row<'a> {
    /// Its key's bytes.
    pub key: &'a [u8],
    /// Its other columns' bytes.
    pub value: &'a [u8],
    /// The epoch that wrote it.
    pub epoch: Epoch,
}

impl Snapshot {
    pub(crate) fn new(store: Store, epoch: Option<Epoch>) -> Result<Snapshot, Error> {
        let shared = store.shared();
        let newest = *lock(&shared.published);
        let epoch = epoch.unwrap_or(newest);
        if epoch > newest {
            return Err(Error::NotYet { epoch, newest });
        }
        let pin = shared.retention.pin(epoch).map_err(|since| Error::Compacted { epoch, since })?;
        // In this order: once the epoch is held, the horizon of state cannot pass it.
        let has_state = epoch >= shared.retention.state_since();
        let memory = shared.memory();
        Ok(Snapshot { memory, has_state, pin, store })
    }

    /// The epoch.
    pub fn epoch(&self) -> Epoch {
        self.pin.epoch
    }

    /// The store it reads.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// A relation's digest at the epoch, and with it the number of its rows. Nothing for state.
    pub fn digest(&self, relation: RelationId) -> Result<Digest, Error> {
        self.store.digest_at(relation, self.epoch())
    }

    /// A key's row.
    pub fn get(&self, relation: RelationId, key: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        self.find(relation, key, |_, row| row.map(<[u8]>::to_vec))
    }

    /// The epoch that wrote a key's row; `None` if there is no row.
    pub fn version(&self, relation: RelationId, key: &[u8]) -> Result<Option<Epoch>, Error> {
        self.find(relation, key, |epoch, row| row.map(|_| epoch))
    }

    /// A key's row and the epoch that wrote it.
    pub fn row(&self, relation: RelationId, key: &[u8]) -> Result<Option<(Vec<u8>, Epoch)>, Error> {
        self.find(relation, key, |epoch, row| row.map(|r| (r.to_vec(), epoch)))
    }

    /// The rows whose keys are within bounds, in key order. Bounds are bytes and need not be keys: every key that
    /// begins with `p` lies between `Included(p)` and `Excluded(p′)`, p′ being p with its last byte raised by one.
    pub fn scan(&self, relation: RelationId, from: Bound<&[u8]>, to: Bound<&[u8]>) -> Scan<'_> {
        match self.check(relation).and_then(|keys| Ok((keys, self.runs(relation)?))) {
            Ok((keys, runs)) => self.start(keys, &runs, from, to),
            Err(e) => Scan { state: ScanState::Failed(Some(e)) },
        }
    }

    /// The rows whose keys begin with these bytes, in key order.
    pub fn scan_prefix(&self, relation: RelationId, prefix: &[u8]) -> Scan<'_> {
        let mut end = prefix.to_vec();
        while end.last() == Some(&0xff) {
            end.pop();
        }
        let to = match end.last_mut() {
            None => Bound::Unbounded,
            Some(last) => {
                *last += 1;
                Bound::Excluded(end.as_slice())
            }
        };
        self.scan(relation, Bound::Included(prefix), to)
    }

    fn check(&self, relation: RelationId) -> Result<RowKeys, Error> {
        let shared = self.store.shared();
        let info = shared.info(relation)?;
        if info.kind == RelationKind::State && !self.has_state {
            return Err(Error::Compacted { epoch: self.epoch(), since: shared.retention.state_since() });
        }
        Ok(open::row_keys(shared, relation))
    }

    fn find<T>(
        &self,
        relation: RelationId,
        key: &[u8],
        found: impl FnOnce(Epoch, Option<&[u8]>) -> Option<T>,
    ) -> Result<Option<T>, Error> {
        let keys = self.check(relation)?;
        let epoch = self.epoch();
        let hash = run::hash_of(key);
        for run in self.runs(relation)?.iter().rev() {
            if let Some(e) = run.find(key, hash, epoch) {
                return Ok(found(e.epoch, e.row));
            }
        }
        let shared = self.store.shared();
        let mut stored = Vec::with_capacity(key.len() + 16);
        keys.write(&mut stored, key, epoch);
        let mut options = ReadOptions::default();
        options.set_prefix_same_as_start(true);
        let mut iter = shared.db.raw_iterator_cf_opt(shared.family(format::ROWS), options);
        iter.seek(&stored);
        let Some((at, value)) = iter.item() else {
            iter.status().map_err(|e| self.error(relation, &e))?;
            return Ok(None);
        };
        let (same, version) = format::split_row_key(at).ok_or_else(|| self.unreadable(relation))?;
        if same != &stored[..stored.len() - 8] {
            return Ok(None);
        }
        let row = format::read_row(value).ok_or_else(|| self.unreadable(relation))?;
        Ok(found(version, row))
    }

    /// The changes that are to be seen over `rows`.
    fn runs(&self, relation: RelationId) -> Result<Arc<Vec<Arc<Run>>>, Error> {
        let shared = self.store.shared();
        if shared.is_state(relation) || shared.past.is_apart(relation, self.epoch()) {
            return Ok(self.memory[relation.0 as usize].clone());
        }
        shared.runs_of_the_past(relation, self.epoch())
    }

    fn start(&self, keys: RowKeys, runs: &[Arc<Run>], from: Bound<&[u8]>, to: Bound<&[u8]>) -> Scan<'_> {
        let shared = self.store.shared();
        let own = |b: Bound<&[u8]>| b.map(<[u8]>::to_vec);
        let runs = Merge::new(runs, from, to);
        let mut options = ReadOptions::default();
        options.set_total_order_seek(true);
        options.set_iterate_upper_bound(keys.end());
        if let (Bound::Unbounded, Bound::Unbounded) = (from, to) {
            // A whole relation would push everything else out of the cache.
            options.fill_cache(false);
            options.set_readahead_size(1 << 20);
        }
        let mut iter = shared.db.raw_iterator_cf_opt(shared.family(format::ROWS), options);
        let mut seek = Vec::new();
        let start: &[u8] = match from {
            Bound::Unbounded => &[],
            Bound::Included(k) | Bound::Excluded(k) => k,
        };
        keys.write_prefix(&mut seek, start);
        iter.seek(&seek);
        let rows =
            Rows { iter, keys, from: own(from), to: own(to), stored: seek, key: Vec::new(), version: 0, ended: false };
        Scan {
            state: ScanState::Open(Box::new(Open {
                snapshot: self,
                runs,
                rows,
                pending: Pending::Both,
                started: false,
            })),
        }
    }

    fn error(&self, relation: RelationId, error: &rocksdb::Error) -> Error {
        Error::read(self.subject(relation), error)
    }

    fn unreadable(&self, relation: RelationId) -> Error {
        Error::damaged(self.subject(relation), "a row cannot be read")
    }

    fn subject(&self, relation: RelationId) -> String {
        format!("the rows of `{}`", self.store.shared().relations[relation.0 as usize].name)
    }
}

impl std::fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Snapshot").field("store", &self.store).field("epoch", &self.epoch()).finish_non_exhaustive()
    }
}

/// Rows in key order. An iterator of owned rows; [`Scan::next_row`] lends them instead, which is faster. After an
/// error it ends.
pub struct Scan<'a> {
    state: ScanState<'a>,
}

enum ScanState<'a> {
    Open(Box<Open<'a>>),
    Failed(Option<Error>),
    Ended,
}

struct Open<'a> {
    snapshot: &'a Snapshot,
    runs: Merge,
    rows: Rows<'a>,
    pending: Pending,
    started: bool,
}

/// Which sides stand at a row that has been given out (or at nothing yet) and must move on first.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Pending {
    Runs,
    Rows,
    Both,
}

/// The side of `rows`.
struct Rows<'a> {
    iter: DBRawIteratorWithThreadMode<'a, DB>,
    keys: RowKeys,
    from: Bound<Vec<u8>>,
    to: Bound<Vec<u8>>,
    /// relation ‖ key as it is stored, of the row it stands at.
    stored: Vec<u8>,
    /// The key as it was given.
    key: Vec<u8>,
    version: Epoch,
    ended: bool,
}

impl Scan<'_> {
    /// The next row, lent until the call after.
    pub fn next_row(&mut self) -> Option<Result<Row<'_>, Error>> {
        match &mut self.state {
            ScanState::Ended => return None,
            ScanState::Failed(_) => {}
            ScanState::Open(open) => match open.advance() {
                Ok(true) => {}
                Ok(false) => {
                    self.state = ScanState::Ended;
                    return None;
                }
                Err(e) => self.state = ScanState::Failed(Some(e)),
            },
        }
        match &mut self.state {
            ScanState::Open(open) => Some(open.row()),
            ScanState::Failed(e) => e.take().map(Err),
            ScanState::Ended => None,
        }
    }
}

impl Iterator for Scan<'_> {
    type Item = Result<(Vec<u8>, Vec<u8>), Error>;

    fn next(&mut self) -> Option<Self::Item> {
        self.next_row().map(|r| r.map(|row| (row.key.to_vec(), row.value.to_vec())))
    }
}

impl std::fmt::Debug for Scan<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Scan").finish_non_exhaustive()
    }
}

impl Open<'_> {
    /// Moves to the next row that is there at the epoch; false at the end. Afterwards `pending` names the side that
    /// holds it (or both, if both stand at its key: then `runs` holds it, being at least as new).
    fn advance(&mut self) -> Result<bool, Error> {
        let epoch = self.snapshot.epoch();
        loop {
            let first = !std::mem::replace(&mut self.started, true);
            if !first {
                if self.pending != Pending::Rows {
                    self.runs.skip_key();
                }
                if self.pending != Pending::Runs {
                    self.rows.skip_key();
                }
            }
            if first || self.pending != Pending::Rows {
                self.runs.skip_to_visible(epoch);
            }
            if first || self.pending != Pending::Runs {
                self.rows.skip_to_visible(self.snapshot, epoch)?;
            }
            let live = match (self.runs.entry(), self.rows.ended) {
                (None, true) => return Ok(false),
                (None, false) => {
                    self.pending = Pending::Rows;
                    self.rows.is_live(self.snapshot)?
                }
                (Some(e), true) => {
                    self.pending = Pending::Runs;
                    e.row.is_some()
                }
                (Some(e), false) => match e.key.cmp(&self.rows.key) {
                    std::cmp::Ordering::Less => {
                        self.pending = Pending::Runs;
                        e.row.is_some()
                    }
                    std::cmp::Ordering::Greater => {
                        self.pending = Pending::Rows;
                        self.rows.is_live(self.snapshot)?
                    }
                    std::cmp::Ordering::Equal => {
                        self.pending = Pending::Both;
                        e.row.is_some()
                    }
                },
            };
            if live {
                return Ok(true);
            }
        }
    }

    fn row(&self) -> Result<Row<'_>, Error> {
        if self.pending == Pending::Rows {
            let value = self.rows.value(self.snapshot)?.unwrap_or_default();
            return Ok(Row { key: &self.rows.key, value, epoch: self.rows.version });
        }
        let e = self.runs.entry().expect("it stands at a row");
        Ok(Row { key: e.key, value: e.row.unwrap_or_default(), epoch: e.epoch })
    }
}

impl Rows<'_> {
    /// Moves past every version of the key it stands at.
    fn skip_key(&mut self) {
        for _ in 0..STEPS_MAX {
            if !self.stands_at_stored() {
                return;
            }
            self.iter.next();
        }
        if self.stands_at_stored() {
            let length = self.stored.len();
            self.stored.extend_from_slice(&[0xff; 8]);
            self.iter.seek(&self.stored);
            self.stored.truncate(length);
        }
    }

    fn stands_at_stored(&self) -> bool {
        self.iter.key().and_then(format::split_row_key).is_some_and(|(same, _)| same == self.stored.as_slice())
    }

    /// Moves to the first version at or before an epoch of the key it stands at or of a later one.
    fn skip_to_visible(&mut self, snapshot: &Snapshot, epoch: Epoch) -> Result<(), Error> {
        let relation = self.keys.relation;
        let mut steps = 0;
        loop {
            let Some(key) = self.iter.key() else {
                self.iter.status().map_err(|e| snapshot.error(relation, &e))?;
                self.ended = true;
                return Ok(());
            };
            let (same, version) = format::split_row_key(key).ok_or_else(|| snapshot.unreadable(relation))?;
            if version > epoch {
                steps += 1;
                if steps > STEPS_MAX {
                    steps = 0;
                    let mut seek = same.to_vec();
                    seek.extend_from_slice(&(!epoch).to_be_bytes());
                    self.iter.seek(seek);
                } else {
                    self.iter.next();
                }
                continue;
            }
            self.stored.clear();
            self.stored.extend_from_slice(same);
            self.version = version;
            self.keys.read(&self.stored[4..], &mut self.key)?;
            let before = match &self.from {
                Bound::Excluded(k) => self.key == *k,
                Bound::Included(k) => self.key < *k,
                Bound::Unbounded => false,
            };
            if before {
                self.skip_key();
                continue;
            }
            self.ended = match &self.to {
                Bound::Unbounded => false,
                Bound::Included(k) => self.key > *k,
                Bound::Excluded(k) => self.key >= *k,
            };
            return Ok(());
        }
    }

    fn value(&self, snapshot: &Snapshot) -> Result<Option<&[u8]>, Error> {
        self.iter.value().and_then(format::read_row).ok_or_else(|| snapshot.unreadable(self.keys.relation))
    }

    fn is_live(&self, snapshot: &Snapshot) -> Result<bool, Error> {
        Ok(self.value(snapshot)?.is_some())
    }
}
