//! The one door through which control enters a running engine.

use types::Epoch;

/// Records pushed to a source.
#[derive(Clone, Debug)]
pub struct Push {
    /// How the payload is encoded: `ndjson` (one JSON object a line; a JSON array is turned into this first) or
    /// `arrow` (an IPC stream).
    pub format: PushFormat,
    /// The bytes.
    pub payload: Vec<u8>,
    /// Makes retries safe: a second push of one source under one key is answered as the first was, and not applied.
    pub idempotency_key: Option<String>,
}

/// How a payload is encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PushFormat {
    /// One JSON object a line.
    Ndjson,
    /// An Arrow IPC stream.
    Arrow,
}

impl PushFormat {
    /// The name in the journal.
    pub fn name(self) -> &'static str {
        match self {
            PushFormat::Ndjson => "ndjson",
            PushFormat::Arrow => "arrow",
        }
    }
}

/// A push that is durable.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Pushed {
    /// The epoch in which the records take effect: read with `min_epoch` to see them.
    pub epoch: Epoch,
    /// How many records.
    pub records: u64,
    /// True if this was a repetition of an earlier push.
    pub repeated: bool,
}

/// Why a push was not taken. Except after `Unknown`, nothing of it happened.
#[derive(Debug, thiserror::Error)]
pub enum PushError {
    /// There is no such source.
    #[error("there is no source `{0}`")]
    NoSuchSource(String),
    /// The source fetches its records itself.
    #[error("source `{0}` takes no pushed records: its type is not `http`")]
    NotPushed(String),
    /// The payload as a whole cannot be read.
    #[error("{0}")]
    BadPayload(String),
    /// The key was used for another payload.
    #[error("the idempotency key `{0}` was used for other records")]
    IdempotencyConflict(String),
    /// The engine is ending or has failed.
    #[error("the engine is not taking records: {0}")]
    Closed(String),
    /// The records are durable, but the engine ended before it could say in which epoch: repeat with the same key.
    #[error("the records may have been taken: {0}")]
    Unknown(String),
}

/// Where an engine is in its life.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case", tag = "phase", content = "reason")]
pub enum Phase {
    /// Rebuilding the dataflow from the store; committed views are served.
    Rehydrating,
    /// Taking records.
    Live,
    /// Every source has ended and every epoch is published.
    Ended,
    /// Something broke; nothing more is written. Committed views are served.
    Failed(String),
}

/// A source as it stands.
#[derive(Clone, Debug, serde::Serialize)]
pub struct SourceStatus {
    /// Its name.
    pub name: String,
    /// The connector.
    #[serde(rename = "type")]
    pub connector: String,
    /// Records read, good and bad, as of the last sealed epoch.
    pub records: u64,
    /// Faults since the start of the process.
    pub faults: u64,
    /// Its progress in the last sealed epoch.
    pub progress: types::SourceProgress,
}

/// A sink as it stands.
#[derive(Clone, Debug, serde::Serialize)]
pub struct SinkStatus {
    /// Its name.
    pub name: String,
    /// Where to.
    #[serde(rename = "type")]
    pub type_name: String,
    /// The relation delivered.
    pub view: String,
    /// The last epoch whose changes are delivered, whatever crashes; `None` until the other side has said how far it is.
    pub delivered: Option<Epoch>,
    /// Records sent since the start of the process.
    pub records: u64,
}

/// An engine as it stands.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Status {
    /// Where it is in its life.
    #[serde(flatten)]
    pub phase: Phase,
    /// The last epoch whose membership is fixed.
    pub sealed: Epoch,
    /// The last epoch every worker has computed.
    pub computed: Epoch,
    /// The last epoch on disk.
    pub durable: Epoch,
    /// The last epoch readers see.
    pub published: Epoch,
    /// The share of rehydration done, 0 to 1.
    pub rehydrated: f64,
    /// The sources, in pipeline order.
    pub sources: Vec<SourceStatus>,
    /// The sinks, in pipeline order.
    pub sinks: Vec<SinkStatus>,
}

/// A running engine. Cheap to clone.
#[derive(Clone)]
pub struct Handle {
    inner: std::sync::Arc<dyn Control>,
}

/// What a running engine can be asked; its one implementation is the runtime's.
pub(crate) trait Control: Send + Sync {
    fn plan(&self) -> &crate::Plan;
    fn store(&self) -> &storage::Store;
    fn push(&self, source: &str, push: Push) -> Result<Pushed, PushError>;
    fn status(&self) -> Status;
    fn metrics(&self) -> &crate::metrics::Metrics;
    fn wait(&self, until: &dyn Fn(&Phase) -> bool) -> Phase;
    fn stop(&self);
    fn is_stopping(&self) -> bool;
}

impl std::fmt::Debug for Handle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Handle").finish_non_exhaustive()
    }
}

impl Handle {
    pub(crate) fn new(inner: std::sync::Arc<dyn Control>) -> Handle {
        Handle { inner }
    }

    /// The plan that runs.
    pub fn plan(&self) -> &crate::Plan {
        self.inner.plan()
    }

    /// The store it runs on: all reads go there.
    pub fn store(&self) -> &storage::Store {
        self.inner.store()
    }

    /// Pushes records to a source. Blocks until they are on disk and their epoch is known.
    pub fn push(&self, source: &str, push: Push) -> Result<Pushed, PushError> {
        self.inner.push(source, push)
    }

    /// How it stands.
    pub fn status(&self) -> Status {
        self.inner.status()
    }

    /// Its metrics: one registry for the process.
    pub fn metrics(&self) -> &crate::metrics::Metrics {
        self.inner.metrics()
    }

    /// Blocks until the phase is one the function accepts, and gives it.
    pub fn wait(&self, until: impl Fn(&Phase) -> bool) -> Phase {
        self.inner.wait(&until)
    }

    /// Whether it was asked to end.
    pub fn is_stopping(&self) -> bool {
        self.inner.is_stopping()
    }

    /// Asks it to end: sources stop, what is sealed is committed. Returns at once.
    pub fn stop(&self) {
        self.inner.stop();
    }
}
