//! What may be forgotten: the horizon, the readers that hold it back, and the compaction filter that acts on it.

use std::collections::BTreeMap;
use std::ffi::CStr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

use rocksdb::compaction_filter::{CompactionFilter, Decision};
use rocksdb::compaction_filter_factory::{CompactionFilterContext, CompactionFilterFactory};
use types::Epoch;

use crate::applier::Bell;
use crate::format::split_row_key;
use crate::lock;

/// So many epochs back, versions are kept apart for readers who come a little late: who were told an epoch and then ask
/// for it.
const APART_EPOCHS: u64 = 8;

/// The horizons, and the readers below which they do not move.
///
/// All only grow. A reader is admitted at or above them and then holds them; whoever forgets something reads
/// them first. So nothing a reader may ask for is ever forgotten, without either waiting for the other.
#[derive(Debug, Default)]
pub(crate) struct Retention {
    since: AtomicU64,
    state_since: AtomicU64,
    apart_since: AtomicU64,
    held: Mutex<Held>,
    /// Rung when a reader that held them back is gone: then there may be something to forget, and no commit to say so.
    pub bell: Bell,
    /// By relation number: whether it is state. Empty until the store knows; until then nothing is forgotten.
    pub is_state: OnceLock<Vec<bool>>,
}

impl Retention {
    /// The oldest epoch that can be read of tables and views.
    pub(crate) fn since(&self) -> Epoch {
        self.since.load(Ordering::Acquire)
    }

    /// The oldest epoch that can be read of operators' state.
    pub(crate) fn state_since(&self) -> Epoch {
        self.state_since.load(Ordering::Acquire)
    }

    pub(crate) fn since_of(&self, state: bool) -> Epoch {
        if state { self.state_since() } else { self.since() }
    }

    /// From which epoch on the versions of a row are kept apart in runs and in what is moved into `rows`. Older epochs
    /// are read from the log, if they can be read.
    pub(crate) fn apart_since_of(&self, state: bool) -> Epoch {
        if state { self.state_since() } else { self.apart_since.load(Ordering::Acquire).max(self.since()) }
    }

    /// Moves them up, as far as readers let it, and the rest of the way when these are gone: history to `since`, the
    /// rest to where a store that shows readers `published` has them. True if any moved.
    pub(crate) fn advance(&self, since: Epoch, published: Epoch) -> bool {
        let mut held = lock(&self.held);
        let wanted = [since, published, published.saturating_sub(APART_EPOCHS)];
        held.wanted = std::array::from_fn(|i| held.wanted[i].max(wanted[i]));
        self.settle(&held)
    }

    fn settle(&self, held: &Held) -> bool {
        let oldest = held.pins.keys().next().copied().unwrap_or(Epoch::MAX);
        let history = oldest.min(held.holds.values().min().copied().unwrap_or(Epoch::MAX));
        let bounds = [(&self.since, history), (&self.state_since, oldest), (&self.apart_since, oldest)];
        let mut moved = false;
        for ((now, bound), wanted) in bounds.into_iter().zip(held.wanted) {
            moved |= now.fetch_max(wanted.min(bound), Ordering::AcqRel) < wanted.min(bound);
        }
        moved
    }

    /// Makes or moves a hold by name; the error is the oldest epoch that can still be had. True if a horizon moved.
    pub(crate) fn hold(&self, name: &str, epoch: Epoch) -> Result<bool, Epoch> {
        let mut held = lock(&self.held);
        let since = self.since();
        if epoch < since {
            return Err(since);
        }
        held.holds.insert(name.to_owned(), epoch);
        Ok(self.settle(&held))
    }

    /// Lets go of a hold. True if a horizon moved.
    pub(crate) fn release(&self, name: &str) -> bool {
        let mut held = lock(&self.held);
        held.holds.remove(name).is_some() && self.settle(&held)
    }

    /// The holds by name.
    pub(crate) fn holds(&self) -> BTreeMap<String, Epoch> {
        lock(&self.held).holds.clone()
    }

    /// The oldest epoch to keep once this one is committed, by how many are kept and by the holds.
    pub(crate) fn within_holds(&self, committed: Epoch, retain_epochs: u64) -> Epoch {
        let oldest = lock(&self.held).holds.values().min().copied().unwrap_or(Epoch::MAX);
        committed.saturating_sub(retain_epochs).min(oldest)
    }

    /// Holds an epoch; the error is the oldest that can still be had.
    pub(crate) fn pin(self: &Arc<Self>, epoch: Epoch) -> Result<Pin, Epoch> {
        let mut held = lock(&self.held);
        let since = self.since();
        if epoch < since {
            return Err(since);
        }
        *held.pins.entry(epoch).or_default() += 1;
        Ok(Pin { retention: self.clone(), epoch })
    }

    /// How many readers there are.
    pub(crate) fn readers(&self) -> usize {
        lock(&self.held).pins.values().sum()
    }
}

/// Who holds what back.
#[derive(Debug, Default)]
struct Held {
    /// The epochs that are read, each with how many readers.
    pins: BTreeMap<Epoch, usize>,
    /// Whoever needs the history after an epoch, restarts included, by name. They hold back history alone.
    holds: BTreeMap<String, Epoch>,
    /// How far the horizons would be without readers: of history, of state, of versions kept apart.
    wanted: [Epoch; 3],
}

/// A reader's hold on an epoch.
#[derive(Debug)]
pub(crate) struct Pin {
    retention: Arc<Retention>,
    pub epoch: Epoch,
}

impl Clone for Pin {
    fn clone(&self) -> Pin {
        *lock(&self.retention.held).pins.entry(self.epoch).or_default() += 1;
        Pin { retention: self.retention.clone(), epoch: self.epoch }
    }
}

impl Drop for Pin {
    fn drop(&mut self) {
        let mut held = lock(&self.retention.held);
        let Some(n) = held.pins.get_mut(&self.epoch) else { return };
        *n -= 1;
        if *n == 0 {
            held.pins.remove(&self.epoch);
            let moved = self.retention.settle(&held);
            drop(held);
            if moved {
                self.retention.bell.ring();
            }
        }
    }
}

/// Makes the filters of `rows`.
pub(crate) struct DropSuperseded(pub Arc<Retention>);

/// Drops, within one compaction, the versions of a key that a newer one at or below the horizon has replaced.
///
/// It only ever looks at what it has seen itself: where the newer version lies in files that do not take part, the
/// older one stays for another time. Deletions stay too, since older versions may lie deeper: the sweep takes them.
pub(crate) struct Filter {
    retention: Arc<Retention>,
    since: Epoch,
    state_since: Epoch,
    last: Vec<u8>,
    /// The oldest version of `last` seen so far.
    last_epoch: Epoch,
}

const NAME: &CStr = c"thalweg.superseded.1";

impl CompactionFilterFactory for DropSuperseded {
    type Filter = Filter;

    fn create(&mut self, _context: CompactionFilterContext) -> Filter {
        let (since, state_since) = (self.0.since(), self.0.state_since());
        Filter { retention: self.0.clone(), since, state_since, last: Vec::new(), last_epoch: 0 }
    }

    fn name(&self) -> &CStr {
        NAME
    }
}

impl CompactionFilter for Filter {
    fn filter(&mut self, _level: u32, key: &[u8], _value: &[u8]) -> Decision {
        let Some((shared, epoch)) = split_row_key(key) else { return Decision::Keep };
        if shared != self.last.as_slice() {
            self.last.clear();
            self.last.extend_from_slice(shared);
            self.last_epoch = epoch;
            return Decision::Keep;
        }
        let relation = u32::from_be_bytes(shared[..4].try_into().expect("split at 12 or more")) as usize;
        let horizon = match self.retention.is_state.get().and_then(|s| s.get(relation)) {
            Some(true) => self.state_since,
            Some(false) => self.since,
            None => 0,
        };
        let newer = std::mem::replace(&mut self.last_epoch, epoch);
        // The same version may come twice after a crash between applying and noting it.
        if newer <= horizon && newer > epoch { Decision::Remove } else { Decision::Keep }
    }

    fn name(&self) -> &CStr {
        NAME
    }
}
