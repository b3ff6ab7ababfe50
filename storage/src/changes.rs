//! What each epoch changed in a relation, read back from the change log: for subscribers who come back.

use types::{ChangeSet, Epoch};

use crate::retention::Pin;
use crate::{Error, RelationId, RelationKind, Store, store};

/// The change sets of a relation over a range of epochs, in epoch order. See [`Store::changes`].
pub struct Changes {
    store: Store,
    relation: RelationId,
    next: Epoch,
    up_to: Epoch,
    _pin: Pin,
}

impl Changes {
    pub(crate) fn new(store: Store, relation: RelationId, after: Epoch, up_to: Epoch) -> Result<Changes, Error> {
        let shared = store.shared();
        if shared.info(relation)?.kind == RelationKind::State {
            return Err(Error::refused("read changes", "an operator's state has no history"));
        }
        let newest = shared.committed();
        if up_to > newest {
            return Err(Error::NotYet { epoch: up_to, newest });
        }
        let pin = shared.retention.pin(after).map_err(|since| Error::Compacted { epoch: after, since })?;
        Ok(Changes { relation, next: after.saturating_add(1), up_to, _pin: pin, store })
    }

    fn read(&self, epoch: Epoch) -> Result<Option<ChangeSet>, Error> {
        let shared = self.store.shared();
        let record = shared.commit_record(epoch)?;
        let commit = record.relations[self.relation.0 as usize];
        if commit.chunks == 0 {
            return Ok(None);
        }
        let mut set = ChangeSet::new();
        store::read_changes(shared, epoch, &record, self.relation, |key, row| set.push(key, None, row))?;
        if set.len() as u64 != commit.changes {
            return Err(Error::damaged(
                format!("the changes of `{}` in epoch {epoch}", shared.relations[self.relation.0 as usize].name),
                format!("there are {}, and {} were committed", set.len(), commit.changes),
            ));
        }
        Ok(Some(set))
    }
}

impl Iterator for Changes {
    type Item = Result<(Epoch, ChangeSet), Error>;

    fn next(&mut self) -> Option<Self::Item> {
        while self.next <= self.up_to {
            let epoch = self.next;
            self.next += 1;
            match self.read(epoch) {
                Ok(None) => {}
                Ok(Some(set)) => return Some(Ok((epoch, set))),
                Err(e) => {
                    self.next = Epoch::MAX;
                    return Some(Err(e));
                }
            }
        }
        None
    }
}

impl std::fmt::Debug for Changes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Changes").field("relation", &self.relation).field("next", &self.next).finish_non_exhaustive()
    }
}
