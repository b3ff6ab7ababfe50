//! What the tests of the store share: small stores, seeded numbers, and the obvious model of a store.
#![allow(dead_code)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use storage::{EpochCommit, Options, RelationId, RelationKind, RelationSpec, Snapshot, Store};
use types::{ChangeSet, Digest, Epoch, Remap};

/// A seeded sequence of numbers (splitmix64).
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }
}

/// The relations of every store here: two of history, one of state.
pub const TABLE: RelationId = RelationId(0);
pub const VIEW: RelationId = RelationId(1);
pub const STATE: RelationId = RelationId(2);
pub const ALL: [RelationId; 3] = [TABLE, VIEW, STATE];

pub fn options(path: impl Into<PathBuf>) -> Options {
    let spec =
        |name: &str, kind| RelationSpec { name: name.to_owned(), kind, schema: format!("{{\"of\":\"{name}\"}}") };
    Options {
        plan: "cafe".to_owned(),
        relations: vec![
            spec("orders", RelationKind::Table),
            spec("match", RelationKind::View),
            spec("match.state", RelationKind::State),
        ],
        retain_epochs: 50,
        cache_bytes: 8 << 20,
        ..Options::new(path)
    }
}

pub fn remap(epoch: Epoch) -> Remap {
    Remap { epoch, clock_ms: epoch as i64 * 20, ..Remap::default() }
}

/// Seals, commits and publishes.
pub fn commit(store: &Store, epoch: Epoch, relations: Vec<(RelationId, ChangeSet)>) -> storage::CommitStats {
    store.log_remap(&remap(epoch)).unwrap();
    let stats = store.commit(EpochCommit { epoch, relations }).unwrap();
    store.publish(epoch);
    stats
}

/// One insertion or replacement in the table.
pub fn put(key: &str, before: Option<&str>, after: Option<&str>) -> Vec<(RelationId, ChangeSet)> {
    let mut set = ChangeSet::new();
    set.push(key.as_bytes(), before.map(str::as_bytes), after.map(str::as_bytes));
    vec![(TABLE, set)]
}

pub type Rows = BTreeMap<Vec<u8>, Vec<u8>>;

/// What a store should hold: every relation at every epoch, made from a seed alone.
#[derive(Clone, Debug)]
pub struct Model {
    pub seed: u64,
    /// By epoch, then by relation.
    pub at: Vec<[Rows; 3]>,
    pub keys: u64,
    pub rows_max: u64,
}

impl Model {
    pub fn new(seed: u64, keys: u64, rows_max: u64) -> Model {
        Model { seed, at: vec![Default::default()], keys, rows_max }
    }

    pub fn newest(&self) -> Epoch {
        self.at.len() as Epoch - 1
    }

    /// The change sets of an epoch, which is the next or an earlier one.
    pub fn changes(&mut self, epoch: Epoch) -> Vec<(RelationId, ChangeSet)> {
        assert!(epoch <= self.newest() + 1);
        let mut random = Random(self.seed ^ epoch.wrapping_mul(0x1234_5678_9abc_def1));
        let before = self.at[epoch as usize - 1].clone();
        let mut after = before.clone();
        let mut out = Vec::new();
        for relation in ALL {
            let index = relation.0 as usize;
            let count = match random.below(4) {
                0 => 0,
                1 => random.below(self.rows_max) / 8,
                _ => random.below(self.rows_max),
            };
            let mut touched: BTreeMap<Vec<u8>, Option<Vec<u8>>> = BTreeMap::new();
            for _ in 0..count {
                // Few keys are hot, so some have many versions.
                let n = if random.below(4) == 0 { random.below(3) } else { random.below(self.keys) };
                let key = if relation == STATE { state_key(n) } else { format!("key-{n:06}").into_bytes() };
                let length = random.below(60) as usize;
                let row = (random.below(4) > 0).then(|| (0..length).map(|_| random.next() as u8).collect());
                touched.insert(key, row);
            }
            let mut set = ChangeSet::new();
            for (key, row) in touched {
                let old = before[index].get(&key);
                if relation == STATE {
                    set.push(&key, None, row.as_deref());
                } else if old != row.as_ref() {
                    set.push(&key, old.map(Vec::as_slice), row.as_deref());
                }
                match row {
                    Some(row) => after[index].insert(key, row),
                    None => after[index].remove(&key),
                };
            }
            out.push((relation, set));
        }
        if epoch > self.newest() {
            self.at.push(after);
        }
        out
    }

    /// Makes the model long enough to know an epoch.
    pub fn reach(&mut self, epoch: Epoch) {
        while self.newest() < epoch {
            self.changes(self.newest() + 1);
        }
    }

    pub fn rows(&self, relation: RelationId, epoch: Epoch) -> &Rows {
        &self.at[epoch as usize][relation.0 as usize]
    }

    /// Compares everything a snapshot says of the relations with the model.
    pub fn check(&self, snapshot: &Snapshot) {
        let epoch = snapshot.epoch();
        let state_is_kept = snapshot.get(STATE, b"x").is_ok();
        for relation in ALL {
            if relation == STATE && !state_is_kept {
                continue;
            }
            let expected = self.rows(relation, epoch);
            let found: Rows = snapshot
                .scan_prefix(relation, b"")
                .map(|r| r.unwrap_or_else(|e| panic!("epoch {epoch}: {e}")))
                .collect();
            assert!(
                found == *expected,
                "seed {} relation {relation:?} epoch {epoch}: {} rows, {} expected",
                self.seed,
                found.len(),
                expected.len()
            );
            if relation != STATE {
                assert_eq!(snapshot.digest(relation).unwrap(), digest(expected), "seed {} epoch {epoch}", self.seed);
            }
        }
    }
}

/// Keys of state, of which one may be a prefix of another.
pub fn state_key(n: u64) -> Vec<u8> {
    let mut key = vec![(n % 5) as u8; (n % 7) as usize];
    key.extend_from_slice(if n % 2 == 0 { b"\0" } else { b"\xff\xff\xff\xff\xff\xff\xff\xff\xfe" });
    key.extend_from_slice(&n.to_be_bytes()[..(n % 9) as usize]);
    key.extend_from_slice(n.to_string().as_bytes());
    key
}

pub fn digest(rows: &Rows) -> Digest {
    let mut d = Digest::default();
    for (k, v) in rows {
        d.add(k, v);
    }
    d
}

/// Waits for the background work, which must come to it by itself.
#[track_caller]
pub fn wait_until(done: impl Fn() -> bool) {
    for _ in 0..60_000 {
        if done() {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    panic!("the background work never got there");
}

/// The entries of a family, as they lie on disk. The store must be closed.
pub fn entries(path: &Path, family: &str) -> Vec<(Vec<u8>, Vec<u8>)> {
    let o = rocksdb::Options::default();
    let families = rocksdb::DB::list_cf(&o, path.join("db")).unwrap();
    let db = rocksdb::DB::open_cf_for_read_only(&o, path.join("db"), families, false).unwrap();
    let cf = db.cf_handle(family).unwrap();
    db.iterator_cf(cf, rocksdb::IteratorMode::Start).map(|e| e.unwrap()).map(|(k, v)| (k.into(), v.into())).collect()
}

/// A folder for a test's store: in memory where the system has that, so that tests do not wait for the disk.
pub fn tempdir() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

/// A file below a folder whose path ends so.
pub fn files(path: &Path, suffix: &str) -> Vec<PathBuf> {
    let mut out: Vec<PathBuf> = std::fs::read_dir(path)
        .unwrap()
        .map(|e| e.unwrap().path())
        .filter(|p| p.to_string_lossy().ends_with(suffix))
        .collect();
    out.sort();
    out
}

pub fn copy_dir(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_dir(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}
