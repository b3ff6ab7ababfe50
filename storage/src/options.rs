//! What a store is opened with: where, whose, which relations, how much is kept, and where crash tests may step in.

use std::path::PathBuf;
use std::sync::Arc;

/// A relation's number in one store. Assigned at the first open, never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RelationId(pub u32);

/// What kind of relation: decides whether old versions and a digest are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RelationKind {
    /// Rows folded from a source.
    Table,
    /// Rows a step maintains.
    View,
    /// An operator's own state. Its change sets carry no `before`; it has no digest; only its newest version is
    /// kept, and its changes only until they are applied.
    State,
    /// The records that could not be processed.
    Faults,
}

impl RelationKind {
    /// The word for it in messages and in the store.
    pub fn name(self) -> &'static str {
        match self {
            RelationKind::Table => "table",
            RelationKind::View => "view",
            RelationKind::State => "state",
            RelationKind::Faults => "faults",
        }
    }
}

/// A relation as the pipeline declares it.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct RelationSpec {
    /// Its name, unique in the store.
    pub name: String,
    /// Its kind.
    pub kind: RelationKind,
    /// Its schema as JSON. The store keeps and compares it, and does not look inside.
    pub schema: String,
}

/// A relation as the store knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RelationInfo {
    /// Its number.
    pub id: RelationId,
    /// Its name.
    pub name: String,
    /// Its kind.
    pub kind: RelationKind,
    /// Its schema as JSON.
    pub schema: String,
}

/// Called at every [`CrashPoint`]: for tests that kill the process there. It must not call the store.
pub type CrashHook = Arc<dyn Fn(CrashPoint) + Send + Sync>;

/// How a store is opened.
#[derive(Clone)]
pub struct Options {
    /// The store's folder; made if it is missing.
    pub path: PathBuf,
    /// The pipeline's fingerprint. A store made under another one is refused.
    pub plan: String,
    /// Every relation of the pipeline.
    pub relations: Vec<RelationSpec>,
    /// How many epochs back from the newest can be read with `as_of` and subscribed to.
    pub retain_epochs: u64,
    /// An epoch with at least this many changed rows (or [`Options::STAGE_BYTES`]) is appended to a file beside RocksDB
    /// instead of going through its log.
    pub stage_rows: usize,
    /// When this many changed rows of a relation (or [`Options::APPLY_BYTES`]) are logged and not in `rows`, they are moved
    /// there.
    pub apply_rows: usize,
    /// Whether a commit waits for the disk. Turned off only by benches and for a [`Temporary`](crate::Temporary) store:
    /// without it an acknowledged epoch may be lost.
    pub sync: bool,
    /// The size of the cache for blocks read from disk.
    pub cache_bytes: usize,
    /// Called at every crash point.
    pub hook: CrashHook,
}

impl Options {
    /// An epoch's changes of this size are appended to a file beside RocksDB, however few rows they are. That costs a
    /// second sync, and spares RocksDB's log, memtable and compaction the bytes.
    pub const STAGE_BYTES: usize = 256 << 10;
    /// A relation's changes of this size are moved into `rows`, however few rows they are.
    pub const APPLY_BYTES: usize = 64 << 20;

    /// The defaults, for a store in this folder.
    pub fn new(path: impl Into<PathBuf>) -> Options {
        Options {
            path: path.into(),
            plan: String::new(),
            relations: Vec::new(),
            retain_epochs: 1_000,
            stage_rows: 50_000,
            apply_rows: 2_000_000,
            sync: true,
            cache_bytes: 64 << 20,
            hook: Arc::new(|_| ()),
        }
    }
}

impl std::fmt::Debug for Options {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Options")
            .field("path", &self.path)
            .field("plan", &self.plan)
            .field("relations", &self.relations)
            .field("retain_epochs", &self.retain_epochs)
            .field("stage_rows", &self.stage_rows)
            .field("apply_rows", &self.apply_rows)
            .field("sync", &self.sync)
            .field("cache_bytes", &self.cache_bytes)
            .finish_non_exhaustive()
    }
}

/// The moments at which a process may die and must be none the worse for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CrashPoint {
    /// An epoch's `remap` has been logged.
    Remap,
    /// A commit begins; nothing of it is written.
    Prepare,
    /// A large epoch's changes are on disk; nothing names them yet.
    StageWritten,
    /// Just before the synced write that makes an epoch committed.
    Commit,
    /// Just after it.
    Committed,
    /// A relation's changes are in a file for `rows`; nothing names it yet.
    ApplyWritten,
    /// The file is part of `rows`; that it was applied is not noted.
    ApplyIngested,
    /// Journal entries are on disk; nobody has been told.
    Journal,
    /// Old changes are about to be forgotten.
    Trim,
}

impl CrashPoint {
    /// Every point.
    pub const ALL: [CrashPoint; 9] = [
        CrashPoint::Remap,
        CrashPoint::Prepare,
        CrashPoint::StageWritten,
        CrashPoint::Commit,
        CrashPoint::Committed,
        CrashPoint::ApplyWritten,
        CrashPoint::ApplyIngested,
        CrashPoint::Journal,
        CrashPoint::Trim,
    ];

    /// Its name, `snake_case`.
    pub fn name(self) -> &'static str {
        match self {
            CrashPoint::Remap => "remap",
            CrashPoint::Prepare => "prepare",
            CrashPoint::StageWritten => "stage_written",
            CrashPoint::Commit => "commit",
            CrashPoint::Committed => "committed",
            CrashPoint::ApplyWritten => "apply_written",
            CrashPoint::ApplyIngested => "apply_ingested",
            CrashPoint::Journal => "journal",
            CrashPoint::Trim => "trim",
        }
    }

    /// The point of that name.
    pub fn parse(name: &str) -> Option<CrashPoint> {
        CrashPoint::ALL.into_iter().find(|p| p.name() == name)
    }
}
