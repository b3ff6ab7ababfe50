//! The seam to the outside: a connector delivers a source's rows in an order it can repeat.

use std::fmt::Debug;

use arrow::array::RecordBatch;
use types::{Fault, Position};

use crate::handle::PushFormat;
use crate::metrics::Metrics;

/// What a plan keeps of a source: how to open it.
pub trait ConnectorFactory: Debug + Send + Sync {
    /// Opens the source at a position (the default position is its beginning). The connector may deliver rows
    /// before `position.seq` again; the engine skips them. Opening twice at one position gives the same rows.
    fn open(&self, position: &Position, env: &SourceEnv) -> Result<Box<dyn Connector>, ConnectorError>;

    /// One line for `explain`: what is read, how.
    fn describe(&self) -> String;

    /// True if records are pushed to it ([`crate::Handle::push`]) rather than fetched.
    fn is_push(&self) -> bool {
        false
    }

    /// True if the source keeps a journal in the store; entries whose records are committed are then forgotten.
    fn is_journalled(&self) -> bool {
        self.is_push()
    }

    /// For a pushed payload: the form in which it is journalled, and how many records it has. The error is for the
    /// client: the payload as a whole cannot be read. Records that are bad singly are no error.
    fn prepare_push(&self, format: PushFormat, payload: Vec<u8>) -> Result<(Vec<u8>, u64), String> {
        let _ = (format, payload);
        Err("this source takes no pushed records".to_owned())
    }
}

/// What a connector may need of the process.
#[derive(Clone, Debug)]
pub struct SourceEnv {
    /// The source's name.
    pub source: String,
    /// The folder of the pipeline file, against which relative paths are taken.
    pub base_dir: std::path::PathBuf,
    /// The store, for connectors that keep a journal in it.
    pub store: storage::Store,
    /// Where a connector says how it fares.
    pub metrics: Metrics,
}

/// An open source. Used by one thread of its own; it may block, but not for much more than 100 ms at a time.
pub trait Connector: Send {
    /// What comes next.
    ///
    /// # Errors
    /// An error ends the run: the outside cannot be read on (a file vanished, a device fails). A record that
    /// cannot be decoded is no error but a [`Fault`].
    fn next(&mut self) -> Result<Next, ConnectorError>;
}

/// What came.
#[derive(Debug)]
#[allow(clippy::large_enum_variant, reason = "it lives for one call, and is nearly always rows")]
pub enum Next {
    /// Rows, faults, or both.
    Rows(SourceRows),
    /// Nothing now; ask again at once (the connector has waited a little itself).
    Waiting,
    /// Nothing ever again.
    End,
}

/// Some consecutive records of a source. None, with another `end` than `start`: where the source stands is to be kept,
/// though nothing came; it is once an epoch is committed, which is soon.
#[derive(Clone, Debug)]
pub struct SourceRows {
    /// The anchor from which opening delivers these records first (see [`Position::anchor`]).
    pub start: serde_json::Value,
    /// The anchor from which opening delivers the record after these first.
    pub end: serde_json::Value,
    /// The number of the first record.
    pub first_seq: u64,
    /// The number of the record after the last one.
    pub next_seq: u64,
    /// The good rows: the source's declared columns in order, each of its declared type.
    pub rows: RecordBatch,
    /// The number of each good row, ascending. `None`: they are `first_seq, first_seq + 1, …` without a gap.
    pub seqs: Option<Vec<u64>>,
    /// The bad records, ascending by seq. Good rows and faults together number `next_seq - first_seq`.
    pub faults: Vec<Fault>,
}

/// Why a source cannot be opened or read on. The text is for the operator of the daemon.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct ConnectorError {
    /// What failed, with its subject.
    pub message: String,
}

impl ConnectorError {
    /// An error with this text.
    pub fn new(message: impl Into<String>) -> ConnectorError {
        ConnectorError { message: message.into() }
    }
}
