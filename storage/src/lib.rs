//! TEMPORARY stub (never committed).
#![allow(missing_docs, clippy::all)]
mod error; mod options;
use std::collections::BTreeMap; use std::ops::Bound; use std::sync::*; use std::time::Duration;
pub use error::*; pub use options::*;
use types::*;
mod format { pub const FORMAT: u32 = 1; }
#[derive(Clone, Debug, Default)]
pub struct Store(Arc<Mutex<Inner>>);
#[derive(Debug, Default)]
struct Inner { specs: Vec<RelationSpec>, rows: BTreeMap<u32, BTreeMap<Vec<u8>, Vec<u8>>>, committed: Epoch, remaps: BTreeMap<Epoch, Remap>, digests: BTreeMap<u32, Digest> }
pub struct EpochCommit { pub epoch: Epoch, pub relations: Vec<(RelationId, ChangeSet)> }
pub struct JournalEntry { pub format: String, pub payload: Vec<u8>, pub records: u64 }
pub struct Appended { pub first_seq: u64, pub records: u64, pub repeated: bool, pub epoch: Option<Epoch> }
pub struct Snapshot(Store, Epoch);
impl Snapshot {
    pub fn scan(&self, r: RelationId, from: Bound<&[u8]>, to: Bound<&[u8]>) -> impl Iterator<Item = Result<(Vec<u8>, Vec<u8>), Error>> {
        let i = self.0.0.lock().unwrap();
        i.rows.get(&r.0).map(|m| m.range::<[u8], _>((from, to)).map(|(k, v)| Ok((k.clone(), v.clone()))).collect::<Vec<_>>()).unwrap_or_default().into_iter()
    }
}
impl Store {
    pub fn open(o: Options) -> Result<Store, Error> { static ALL: Mutex<BTreeMap<std::path::PathBuf, Store>> = Mutex::new(BTreeMap::new()); let s = ALL.lock().unwrap().entry(o.path.clone()).or_default().clone(); s.0.lock().unwrap().specs = o.relations; Ok(s) }
    pub fn relation(&self, n: &str) -> Option<RelationId> { self.0.lock().unwrap().specs.iter().position(|s| s.name == n).map(|i| RelationId(i as u32)) }
    pub fn committed(&self) -> Epoch { self.0.lock().unwrap().committed }
    pub fn published(&self) -> Epoch { self.committed() }
    pub fn log_remap(&self, r: &Remap) -> Result<(), Error> { self.0.lock().unwrap().remaps.insert(r.epoch, r.clone()); Ok(()) }
    pub fn remap(&self, e: Epoch) -> Result<Option<Remap>, Error> { Ok(self.0.lock().unwrap().remaps.get(&e).cloned()) }
    pub fn sealed_after(&self, e: Epoch) -> Result<Vec<Remap>, Error> { Ok(self.0.lock().unwrap().remaps.range(e+1..).map(|x| x.1.clone()).collect()) }
    pub fn commit(&self, c: EpochCommit) -> Result<(), Error> {
        let mut i = self.0.lock().unwrap(); assert_eq!(c.epoch, i.committed + 1); i.committed += 1;
        for (r, s) in c.relations { assert!(s.is_sorted()); i.digests.entry(r.0).or_default().apply(&s); let m = i.rows.entry(r.0).or_default();
            for c in s.iter() { match c.after { Some(v) => { m.insert(c.key.to_vec(), v.to_vec()); } None => { m.remove(c.key); } } } }
        Ok(())
    }
    pub fn publish(&self, _e: Epoch) {}
    pub fn wait_published(&self, _e: Epoch, _d: Duration) -> bool { true }
    pub fn snapshot(&self, _e: Option<Epoch>) -> Result<Snapshot, Error> { Ok(Snapshot(self.clone(), self.committed())) }
    pub fn digest(&self, r: RelationId) -> Digest { self.0.lock().unwrap().digests.get(&r.0).copied().unwrap_or_default() }
    pub fn journal_append(&self, _s: &str, _e: JournalEntry, _k: Option<&str>) -> Result<Appended, Error> { unreachable!() }
    pub fn journal_set_epoch(&self, _s: &str, _k: &str, _e: Epoch) -> Result<(), Error> { Ok(()) }
    pub fn journal_trim(&self, _s: &str, _b: u64) -> Result<(), Error> { Ok(()) }
}
