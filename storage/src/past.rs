//! Epochs whose rows are no longer kept apart: read from the last state before them that is whole in `rows`, and the
//! changes since, taken from the log.
//!
//! Of a key that changes all the time every version would otherwise be merged, sorted and compacted, for readers that
//! hardly ever come. So runs and `rows` keep only the newest versions apart. Each time a relation's runs are moved into
//! `rows`, that is a state to begin from; the log is kept back to the last such state before the oldest epoch that can
//! be read.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use types::Epoch;

use crate::run::{self, Run};
use crate::store::Shared;
use crate::{Error, RelationId, lock, open};

/// So many epochs' runs are merged to one while the log is read.
const MERGED_TOGETHER: usize = 64;
/// What was read is kept for the next reader of the same or a later epoch, as long as it is not more than this.
const KEPT_BYTES_MAX: usize = 64 << 20;
const KEPT_MAX: usize = 8;

/// What is known of the past of every relation.
#[derive(Debug, Default)]
pub(crate) struct Past {
    /// By relation number.
    relations: Vec<Known>,
    read: Mutex<VecDeque<Read>>,
}

#[derive(Debug, Default)]
struct Known {
    /// From this epoch on all versions are in runs and `rows`.
    apart_from: AtomicU64,
    /// The epochs as of which the relation is whole in `rows`, ascending: the newest, and those back to the last one at
    /// or before the oldest epoch that can be read.
    applied: Mutex<Vec<Epoch>>,
}

/// A relation's changes from one of its applied epochs on, up to another epoch.
#[derive(Debug)]
struct Read {
    relation: RelationId,
    base: Epoch,
    epoch: Epoch,
    runs: Arc<Vec<Arc<Run>>>,
}

impl Past {
    pub(crate) fn new(relations: usize) -> Past {
        Past { relations: (0..relations).map(|_| Known::default()).collect(), read: Mutex::default() }
    }

    fn known(&self, relation: RelationId) -> &Known {
        &self.relations[relation.0 as usize]
    }

    /// Notes, before it happens, that versions which a newer one at or below `horizon` has replaced are left out.
    pub(crate) fn leave_out(&self, relation: RelationId, horizon: Epoch) {
        self.known(relation).apart_from.fetch_max(horizon, Ordering::AcqRel);
    }

    /// Whether runs and `rows` tell what a relation was at an epoch. Asked after the runs were taken.
    pub(crate) fn is_apart(&self, relation: RelationId, epoch: Epoch) -> bool {
        epoch >= self.known(relation).apart_from.load(Ordering::Acquire)
    }

    /// The last epoch as of which a relation is whole in `rows`; 0 if it never was.
    pub(crate) fn applied(&self, relation: RelationId) -> Epoch {
        lock(&self.known(relation).applied).last().copied().unwrap_or_default()
    }

    /// Every epoch as of which a relation is whole in `rows` and that may still be begun from.
    pub(crate) fn all_applied(&self, relation: RelationId) -> Vec<Epoch> {
        lock(&self.known(relation).applied).clone()
    }

    /// Notes what [`Past::all_applied`] is from now on.
    pub(crate) fn set_applied(&self, relation: RelationId, epochs: Vec<Epoch>) {
        *lock(&self.known(relation).applied) = epochs;
    }

    /// After which epoch every change of a table or view is needed, if epochs from `since` on are to be read.
    pub(crate) fn needed_after(&self, relation: RelationId, since: Epoch) -> Epoch {
        self.base(relation, since)
    }

    /// The last epoch at or before another as of which a relation is whole in `rows`.
    fn base(&self, relation: RelationId, epoch: Epoch) -> Epoch {
        let applied = lock(&self.known(relation).applied);
        applied[..applied.partition_point(|a| *a <= epoch)].last().copied().unwrap_or_default()
    }
}

/// The epochs of `applied` and one more, without those that nobody will begin from.
pub(crate) fn with_applied(mut applied: Vec<Epoch>, epoch: Epoch, since: Epoch) -> Vec<Epoch> {
    let first = applied.partition_point(|a| *a <= since).saturating_sub(1);
    applied.drain(..first);
    if applied.last() != Some(&epoch) {
        applied.push(epoch);
    }
    applied
}

impl Shared {
    /// Up to which epoch the changes of tables and views are no longer needed to read any epoch that can be read.
    pub(crate) fn past_needs_after(&self) -> Epoch {
        let since = self.retention.since();
        let memory = self.memory();
        let of_one = |relation: RelationId| {
            if since < self.past.applied(relation) {
                return self.past.base(relation, since);
            }
            // What follows the last applied epoch is in the runs.
            let pending = memory[relation.0 as usize].iter().map(|r| r.min_epoch).min();
            pending.map_or(Epoch::MAX, |p| p - 1)
        };
        let history = self.relations.iter().filter(|r| !self.is_state(r.id));
        history.map(|r| of_one(r.id)).min().unwrap_or(Epoch::MAX).min(since)
    }

    /// A relation's runs as they would be at an epoch, had every version been kept apart since the last applied epoch
    /// before it. The epoch is held by the caller.
    pub(crate) fn runs_of_the_past(&self, relation: RelationId, epoch: Epoch) -> Result<Arc<Vec<Arc<Run>>>, Error> {
        let base = self.past.base(relation, epoch);
        let (mut runs, mut from) = (Vec::new(), base);
        {
            let read = lock(&self.past.read);
            let fits = |r: &&Read| r.relation == relation && r.base == base && r.epoch <= epoch;
            if let Some(r) = read.iter().filter(fits).max_by_key(|r| r.epoch) {
                if r.epoch == epoch {
                    return Ok(r.runs.clone());
                }
                (runs, from) = (r.runs.as_ref().clone(), r.epoch);
            }
        }
        let merge = |runs: Vec<Arc<Run>>| vec![Arc::new(run::merge(&runs, epoch, true))];
        // Records further back were forgotten, since they name nothing that is needed.
        for e in (from + 1).max(self.work.log_trimmed())..=epoch {
            let record = self.commit_record(e)?;
            if record.relations[relation.0 as usize].chunks == 0 {
                continue;
            }
            runs.extend(open::read_runs(self, relation, e, &record)?.into_iter().map(Arc::new));
            if runs.len() >= MERGED_TOGETHER {
                runs = merge(runs);
            }
        }
        if runs.len() > 1 {
            runs = merge(runs);
        }
        let runs = Arc::new(runs);
        self.keep(Read { relation, base, epoch, runs: runs.clone() });
        Ok(runs)
    }

    fn keep(&self, new: Read) {
        let bytes = |read: &VecDeque<Read>| read.iter().flat_map(|r| r.runs.iter()).map(|r| r.bytes()).sum::<usize>();
        let mut read = lock(&self.past.read);
        read.push_back(new);
        while read.len() > KEPT_MAX || (bytes(&read) > KEPT_BYTES_MAX && !read.is_empty()) {
            read.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_applied_epoch_is_known_for_as_long_as_one_may_begin_from_it() {
        let mut applied = Vec::new();
        for (epoch, since, left) in
            [(3, 0, vec![3]), (5, 2, vec![3, 5]), (9, 4, vec![3, 5, 9]), (9, 5, vec![5, 9]), (12, 20, vec![9, 12])]
        {
            applied = with_applied(applied, epoch, since);
            assert_eq!(applied, left);
        }
        let past = Past::new(1);
        past.set_applied(RelationId(0), vec![5, 9]);
        assert_eq!([4, 5, 8, 9, 10].map(|e| past.base(RelationId(0), e)), [0, 5, 5, 9, 9]);
    }
}
