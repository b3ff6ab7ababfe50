//! Durable history of collections: one RocksDB behind one door. Knows no dataflow.
//!
//! A [`Store`] holds **relations**: sets of rows (key bytes → value bytes, one row a key) that change epoch by epoch.
//! [`Store::commit`] makes everything an epoch changed durable at once; [`Store::snapshot`] reads all relations as
//! they were at one epoch; [`Store::changes`] tells what each epoch changed. How it is done, and what was given up
//! for it, stands in `docs/design/0001-store.md` and `0006-segments.md`.
//!
//! # Contract
//!
//! *Operations.* `log_remap(e)`, `commit(e)`, `publish(e)`, in that order, for e = 1, 2, 3, …; reads at any time, from
//! any thread; the journal beside them.
//!
//! *Guarantees.* When `commit` returns `Ok`, the epoch survives `kill -9` and loss of power, whole. When the process
//! dies before that, the epoch is either whole or absent at the next open, and its `remap` is there if any of it is.
//! When `journal_append` returns `Ok`, so does its entry. A read gives what was committed or an error, never
//! something else: every byte is under a checksum, and [`Store::verify`] recomputes every relation's digest.
//!
//! *Non-guarantees.* `log_remap` alone need not survive a loss of power; nor need `journal_set_epoch`,
//! `journal_trim`. Rows are not checked against `before` when they are committed. A snapshot that is never dropped
//! keeps old versions for ever.
//!
//! *Failure.* An [`Error`] tells by [`Error::consequence`] whether it did not happen, may have happened, or the data
//! is damaged. After a write that may have happened the store takes no more of them, and reads go on.

mod applier;
mod changes;
mod checkpoint;
mod error;
mod format;
mod holds;
mod journal;
mod open;
mod options;
mod past;
mod retention;
mod run;
mod segments;
mod snapshot;
mod store;
mod temporary;
mod verify;

pub use changes::Changes;
pub use error::{Consequence, Error};
pub use journal::{Appended, JournalEntry, Journaled};
pub use options::{CrashHook, CrashPoint, Options, RelationId, RelationInfo, RelationKind, RelationSpec};
pub use snapshot::{Row, Scan, Snapshot};
pub use store::{CommitStats, EpochCommit, Stats, Store};
pub use temporary::Temporary;
pub use verify::{Problem, VerifiedRelation, VerifyReport};

/// Takes a lock even after a panic elsewhere: what is behind our locks is whole at every moment, or the store has
/// been poisoned.
pub(crate) fn lock<T>(mutex: &std::sync::Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
