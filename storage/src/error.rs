//! What can go wrong, by consequence: it did not happen, it may have happened, the data is damaged.

use std::path::PathBuf;

use types::Epoch;

use crate::RelationId;
use crate::format::FORMAT;

/// What a failed operation left behind: all a caller needs to decide what to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Consequence {
    /// Nothing was changed. The same call may be made again once the reason is gone.
    NotDone,
    /// It may or may not be on disk. Only opening the store again can tell.
    Unknown,
    /// What is on disk is not what was written. No call will mend it.
    Damaged,
}

/// Why the store did not do what it was asked. Cheap to clone; the texts are for the operator of the daemon.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Another process (or another `Store` of this one) has it open.
    #[error("the store {path} is in use{holder}: one process at a time can open it", path = .path.display())]
    Locked {
        /// The store's folder.
        path: PathBuf,
        /// Who holds it, if it left its number: ` by process 4711`.
        holder: String,
    },
    /// The folder holds something else.
    #[error("{path} is not a store: {reason}", path = .path.display())]
    NotAStore {
        /// The folder.
        path: PathBuf,
        /// What was found instead.
        reason: String,
    },
    /// The store was written by a program with another format.
    #[error("the store {path} has format {found}, and this program reads format {FORMAT}: open it with the program that wrote it, or start with an empty folder", path = .path.display())]
    Format {
        /// The store's folder.
        path: PathBuf,
        /// The format found.
        found: String,
    },
    /// The store belongs to another pipeline.
    #[error("the store {path} was made by another pipeline: {reason}", path = .path.display())]
    ForeignPlan {
        /// The store's folder.
        path: PathBuf,
        /// What differs.
        reason: String,
    },
    /// The epoch asked for is no longer kept.
    #[error("epoch {epoch} is no longer kept: the oldest that can be read is {since}")]
    Compacted {
        /// The epoch asked for.
        epoch: Epoch,
        /// The oldest that can be read.
        since: Epoch,
    },
    /// The epoch asked for is not there yet.
    #[error("epoch {epoch} is not there yet: the newest that can be read is {newest}")]
    NotYet {
        /// The epoch asked for.
        epoch: Epoch,
        /// The newest that can be read.
        newest: Epoch,
    },
    /// No relation has this id.
    #[error("the store has no relation number {}", relation.0)]
    UnknownRelation {
        /// The id.
        relation: RelationId,
    },
    /// The call itself is wrong: a bug of the caller, or a misuse. Nothing happened.
    #[error("cannot {operation}: {reason}")]
    Refused {
        /// What was asked.
        operation: &'static str,
        /// Why it is refused.
        reason: String,
    },
    /// A push under a key that was used for another payload. Nothing happened.
    #[error("source `{name}` has already been sent other records under the idempotency key `{key}`")]
    IdempotencyConflict {
        /// The source's name.
        name: String,
        /// The key.
        key: String,
    },
    /// The machine would not do it (no space, no permission, a device error). Nothing happened.
    #[error("cannot {operation} {subject}: {reason}")]
    Failed {
        /// What was tried.
        operation: &'static str,
        /// On what.
        subject: String,
        /// What the machine said.
        reason: String,
    },
    /// A write failed half-way: it may have happened. The store takes no more writes.
    #[error("{operation} failed and may or may not be on disk: {reason}; open the store again to find out")]
    Unknown {
        /// What was tried.
        operation: &'static str,
        /// What the machine said.
        reason: String,
    },
    /// What is on disk is not what was written.
    #[error("the store is damaged: {subject}: {reason}")]
    Damaged {
        /// What is damaged: a file, an epoch, a relation.
        subject: String,
        /// How that was seen.
        reason: String,
    },
    /// An earlier write failed, and no other is taken until the store is opened again.
    #[error("the store takes no more writes since one failed: {reason}")]
    Poisoned {
        /// The first failure.
        reason: String,
    },
    /// The store was opened for reading.
    #[error("the store was opened for reading only")]
    ReadOnly,
}

impl Error {
    /// What the failure left behind.
    pub fn consequence(&self) -> Consequence {
        match self {
            Error::Unknown { .. } => Consequence::Unknown,
            Error::Damaged { .. } => Consequence::Damaged,
            _ => Consequence::NotDone,
        }
    }

    /// A failed read: damaged if RocksDB says so, else the machine's.
    pub(crate) fn read(subject: impl Into<String>, error: &rocksdb::Error) -> Error {
        match error.kind() {
            rocksdb::ErrorKind::Corruption => Error::Damaged { subject: subject.into(), reason: error.to_string() },
            _ => Error::Failed { operation: "read", subject: subject.into(), reason: error.to_string() },
        }
    }

    pub(crate) fn damaged(subject: impl Into<String>, reason: impl Into<String>) -> Error {
        Error::Damaged { subject: subject.into(), reason: reason.into() }
    }

    pub(crate) fn failed(operation: &'static str, subject: impl Into<String>, reason: impl std::fmt::Display) -> Error {
        Error::Failed { operation, subject: subject.into(), reason: reason.to_string() }
    }

    pub(crate) fn refused(operation: &'static str, reason: impl Into<String>) -> Error {
        Error::Refused { operation, reason: reason.into() }
    }
}
