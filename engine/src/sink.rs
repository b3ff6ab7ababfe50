//! The seam to the outside on the way out: a sink delivers what a relation's epochs changed, each once.
//!
//! The runtime reads committed epochs from the change log and hands them to the sink in order; what the sink commits
//! carries a [`Mark`], which the sink must keep on the other side together with what it delivered, all or nothing. After
//! a crash the mark is read back from there, and delivery goes on behind it. So nothing is delivered twice, and what
//! is not delivered yet is held in the store.

use std::fmt::Debug;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use types::{Change, Digest, Epoch, Schema};

use crate::metrics::Metrics;

/// What a plan keeps of a sink: how to open it.
pub trait SinkFactory: Debug + Send + Sync {
    /// Opens the other side. Nothing is sent yet.
    ///
    /// # Errors
    /// See [`SinkError`].
    fn open(&self, env: SinkEnv) -> Result<Box<dyn Sink>, SinkError>;

    /// One line for `explain`: where to, and how.
    fn describe(&self) -> String;
}

/// What a sink may need of the process.
#[derive(Clone, Debug)]
pub struct SinkEnv {
    /// The pipeline's name.
    pub pipeline: String,
    /// The sink's name.
    pub sink: String,
    /// The folder of the pipeline file, against which relative paths are taken.
    pub base_dir: PathBuf,
    /// The relation that is delivered.
    pub relation: String,
    /// Its schema.
    pub schema: Schema,
    /// Where a sink says how it fares.
    pub metrics: Metrics,
    /// Whether to go on waiting for the other side.
    pub patience: Patience,
}

/// Whether to go on waiting for the other side. It ends some time after the engine was stopped.
#[derive(Clone, Debug, Default)]
pub struct Patience(Arc<AtomicBool>);

impl Patience {
    /// True once waiting should end.
    pub fn is_over(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// An error once waiting should end.
    ///
    /// # Errors
    /// [`SinkError::Stopped`].
    pub fn check(&self) -> Result<(), SinkError> {
        if self.is_over() { Err(SinkError::Stopped) } else { Ok(()) }
    }

    pub(crate) fn end(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// How far the other side has a relation: every change up to an epoch, and what the relation was then.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Mark {
    /// The last epoch whose changes were delivered.
    pub epoch: Epoch,
    /// The relation's digest as of that epoch: by it another store, or one that was restored and went another way, is
    /// told from the one that delivered.
    pub digest: Digest,
}

/// Where the other side is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resume {
    /// Nothing was ever delivered.
    Nothing,
    /// Up to the mark.
    At(Mark),
}

/// What became of a commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Committed {
    /// It is on the other side, whatever crashes.
    Safe,
    /// It is taken, and not safe yet: [`Sink::idle`] or [`Sink::finish`] tell when it is.
    Pending,
    /// Nothing of it is there, for a reason that has passed: write it again.
    Again,
}

/// An open sink. Used by one thread of its own; it may block while the other side is away, as long as
/// [`SinkEnv::patience`] lasts.
pub trait Sink: Send {
    /// Reads back how far the other side is. Called once, before anything is written.
    ///
    /// # Errors
    /// See [`SinkError`].
    fn resume(&mut self) -> Result<Resume, SinkError>;

    /// Takes one change. In one commit all changes of an epoch come together, by key; epochs ascend.
    ///
    /// # Errors
    /// See [`SinkError`].
    fn write(&mut self, epoch: Epoch, change: Change<'_>) -> Result<(), SinkError>;

    /// Makes what was written since the last commit visible, and the mark with it: both or neither.
    ///
    /// # Errors
    /// See [`SinkError`].
    fn commit(&mut self, mark: &Mark) -> Result<Committed, SinkError>;

    /// Called between commits, and now and then while there is nothing to deliver. Gives the epoch of the last mark that
    /// became safe, if one did.
    ///
    /// # Errors
    /// See [`SinkError`].
    fn idle(&mut self) -> Result<Option<Epoch>, SinkError> {
        Ok(None)
    }

    /// Called at the end, after the last commit: makes everything safe.
    ///
    /// # Errors
    /// See [`SinkError`].
    fn finish(&mut self) -> Result<Option<Epoch>, SinkError> {
        Ok(None)
    }
}

/// Why a sink does not go on.
#[derive(Debug, thiserror::Error)]
pub enum SinkError {
    /// The engine was stopped while the other side was away. What is not delivered is delivered in the next run.
    #[error("stopped")]
    Stopped,
    /// It cannot deliver, and waiting would not help.
    #[error("{0}")]
    Broken(String),
}

impl SinkError {
    /// It cannot deliver, for this reason.
    pub fn broken(reason: impl Into<String>) -> SinkError {
        SinkError::Broken(reason.into())
    }
}
