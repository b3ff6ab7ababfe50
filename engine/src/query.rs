//! What an ad-hoc query over the views is, and what whoever can run one offers to whoever asks.
//!
//! The engine runs none itself and the API knows no query language's library: a [`Runner`] reaches the API as a value,
//! as the catalogue does.
//!
//! **Guarantees.** A query reads one snapshot and nothing else: no file, no other epoch. It changes nothing. Its answer
//! has columns of the types of [`types::Type`] alone, of different names. Bytes beyond `memory_bytes_max` are refused,
//! as far as the operators that gather rows (sorts, joins, groups) account for them.
//!
//! **Non-guarantees.** What an expression makes of one batch of rows is not accounted for. The rows of a query without
//! `ORDER BY` come in any order.
//!
//! **On failure** nothing has happened, and what the sink was given is to be thrown away.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use arrow::array::RecordBatch;
use storage::Snapshot;
use types::Column;

/// What is asked.
#[derive(Clone, Debug)]
pub struct Query {
    /// The text: one SQL query.
    pub sql: String,
    /// What stands for `$1`, `$2`, ….
    pub params: Vec<Param>,
    /// What the rows that are gathered meanwhile may take at most.
    pub memory_bytes_max: usize,
    /// Set once nobody waits for the answer any more: what cannot be cancelled by dropping it looks here.
    pub cancelled: Arc<AtomicBool>,
}

/// What stands for a `$n` of the text.
#[derive(Clone, Debug, PartialEq)]
pub enum Param {
    /// Absent.
    Null,
    /// A truth value.
    Bool(bool),
    /// An integer.
    Int(i64),
    /// A float.
    Float(f64),
    /// A string; where a timestamp is compared with it, a timestamp.
    Str(String),
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The text is no query that could be answered. Says why to whoever wrote it.
    #[error("{0}")]
    Bad(String),
    /// The query met values it cannot compute with. Says which to whoever wrote it.
    #[error("{0}")]
    Failed(String),
    /// Gathered rows would take more memory than they may, or the sink took no more.
    #[error("{0}")]
    TooLarge(String),
    /// The store could not be read.
    #[error(transparent)]
    Store(#[from] storage::Error),
    /// The query engine broke an invariant of its own. For the log alone.
    #[error("{0}")]
    Broken(String),
}

/// What an answer goes to: first its columns, once, then its rows in order. An error ends the query with that error.
pub trait Sink: Send {
    /// The columns of the answer.
    fn columns(&mut self, columns: &[Column]) -> Result<(), Error>;
    /// Further rows. There may be no such call.
    fn rows(&mut self, rows: &RecordBatch) -> Result<(), Error>;
}

/// A query under way. Dropping it cancels it; while it computes, [`Query::cancelled`] does.
pub type Running<'a> = Pin<Box<dyn Future<Output = Result<(), Error>> + Send + 'a>>;

/// Runs a query over a snapshot into a sink.
///
/// Planning and computing happen while the future is polled, and take long: it is to be awaited on a thread of its own,
/// with a stack of [`STACK_BYTES`], within a tokio runtime of that thread's own.
pub type Runner = for<'a> fn(Snapshot, Query, &'a mut dyn Sink) -> Running<'a>;

/// How much stack the thread of a query needs: text as deep as is taken is planned by recursion. It is address space,
/// most of which is never touched.
pub const STACK_BYTES: usize = 256 << 20;
