//! A pipeline that has been checked and cannot be wrong any more: what the engine runs.

use std::path::PathBuf;
use std::sync::Arc;

use serde_json::json;
use storage::RelationKind;
use types::{Column, Micros, Schema};
use xxhash_rust::xxh3::xxh3_128;

use crate::catalogue::{Model, Row};
use crate::connector::ConnectorFactory;
use crate::operator::StepKind;
use crate::pipeline::{Concealed, explain};
use crate::sink::SinkFactory;

/// A pipeline ready to run.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The pipeline's name.
    pub name: String,
    /// The folder of the pipeline file.
    pub base_dir: PathBuf,
    /// How epochs are cut, what is retained.
    pub settings: Settings,
    /// The sources, in file order: this order breaks ties of event time.
    pub sources: Vec<PlannedSource>,
    /// The steps, each after what it reads.
    pub steps: Vec<PlannedStep>,
    /// Where views are delivered, in file order.
    pub sinks: Vec<PlannedSink>,
    /// The tests in the file.
    pub tests: Vec<PlanTest>,
    /// What must not be shown of the sources' and steps' own words.
    pub concealed: Concealed,
}

impl Plan {
    /// A hash, in hexadecimal, of everything that changes results: two plans of one fingerprint may go on from one
    /// store. How epochs are cut, what is retained and where it is delivered is not in it, nor the order in which steps stand in the file,
    /// nor what of a source comes from the environment: a password or a folder may change.
    pub fn fingerprint(&self) -> String {
        let sources: Vec<serde_json::Value> = self
            .sources
            .iter()
            .map(|s| {
                json!([
                    s.name,
                    s.connector_name,
                    self.concealed.hide(&s.connector.describe()),
                    s.delivered,
                    s.tombstone,
                    s.schema,
                    s.out_of_orderness,
                    s.idle_after_ms,
                ])
            })
            .collect();
        let mut steps: Vec<&PlannedStep> = self.steps.iter().collect();
        steps.sort_by(|a, b| a.name.cmp(&b.name));
        let steps: Vec<serde_json::Value> = steps
            .into_iter()
            .map(|s| {
                let inputs: Vec<&str> = s.plan.inputs.iter().map(|i| i.relation.as_str()).collect();
                let relations = s.relations().collect::<Vec<_>>();
                match s.keeps_streams {
                    true => json!([s.name, s.operator, s.plan.detail, inputs, relations]),
                    false => json!([s.name, s.operator, s.plan.detail, inputs, relations, "streams pass by"]),
                }
            })
            .collect();
        format!("{:032x}", xxh3_128(json!(["plan 1", sources, steps]).to_string().as_bytes()))
    }

    /// Every relation readers can see: the stored sources, then what the steps maintain. The faults are not among
    /// them.
    pub fn relations(&self) -> Vec<PlannedRelation<'_>> {
        let tables = self.sources.iter().filter(|s| s.stored).map(|s| PlannedRelation {
            name: s.name.clone(),
            kind: RelationKind::Table,
            schema: &s.schema,
        });
        let views = self.steps.iter().flat_map(PlannedStep::stored_relations);
        tables.chain(views.map(|(name, schema)| PlannedRelation { name, kind: RelationKind::View, schema })).collect()
    }

    /// The schema of a source or of a step's output, stored or not.
    pub fn schema(&self, relation: &str) -> Option<&Schema> {
        let source = self.sources.iter().find(|s| s.name == relation).map(|s| &s.schema);
        source
            .or_else(|| self.steps.iter().flat_map(PlannedStep::relations).find(|(n, _)| n == relation).map(|(_, s)| s))
    }

    /// The plan as text: see [`explain::text`].
    pub fn explain(&self) -> String {
        explain::text(self)
    }

    /// The plan as a Mermaid flowchart: see [`explain::mermaid`].
    pub fn mermaid(&self) -> String {
        explain::mermaid(self)
    }
}

/// A relation that readers can see.
#[derive(Clone, Debug)]
pub struct PlannedRelation<'a> {
    /// Its name.
    pub name: String,
    /// [`RelationKind::Table`] for a source, [`RelationKind::View`] for a step's output.
    pub kind: RelationKind,
    /// Its schema.
    pub schema: &'a Schema,
}

/// A test in the pipeline file: with these rows in, the views have those.
#[derive(Clone, Debug, PartialEq)]
pub struct PlanTest {
    /// Its name, unique in the file.
    pub name: String,
    /// The line on which it begins.
    pub line: usize,
    /// For each source, in file order, the rows it delivers in order: a cell for each of
    /// [`PlannedSource::delivered`]. A source that is not named delivers nothing.
    pub given: Vec<(String, Vec<Row>)>,
    /// What is expected, in file order.
    pub expect: Vec<ExpectedRows>,
}

/// What a test expects of a relation once everything is delivered: exactly these rows, each as often as it is listed,
/// in any order.
#[derive(Clone, Debug, PartialEq)]
pub struct ExpectedRows {
    /// The relation: one that is stored, or the faults.
    pub relation: String,
    /// The line on which its rows are expected.
    pub line: usize,
    /// The columns that are compared, ascending: those that some row names. None if no rows are expected.
    pub columns: Vec<usize>,
    /// The rows: a cell for each of these columns.
    pub rows: Vec<Row>,
}

/// How epochs are cut and what is kept. All have defaults.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// An epoch is closed when it has this many rows. `[epoch] rows_max`, default 10,000.
    pub epoch_rows_max: usize,
    /// An epoch with rows is closed after this long at most. `[epoch] interval_ms`, default 20.
    pub epoch_interval_ms: u64,
    /// Epochs sealed and not yet published, at most. `[epoch] in_flight_max`, default 4.
    pub epochs_in_flight_max: usize,
    /// Epochs that can be read with `as_of` and whose changes can be subscribed to. `[retain] epochs`, default 1,000.
    pub retain_epochs: u64,
    /// An epoch that changes at least this many rows is appended to a file beside RocksDB instead of going through its
    /// log, as is any of 256 KiB. `[store] stage_rows`, default 50,000.
    pub stage_rows: usize,
    /// So many changed rows of a relation that are not in sorted files are moved there. `[store] apply_rows`, default
    /// 2,000,000.
    pub apply_rows: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            epoch_rows_max: 10_000,
            epoch_interval_ms: 20,
            epochs_in_flight_max: 4,
            retain_epochs: 1_000,
            stage_rows: 50_000,
            apply_rows: 2_000_000,
        }
    }
}

/// What a source's section says of its rows, before and after its connector has looked at it.
#[derive(Clone, Debug)]
pub struct SourceShape {
    /// The source's name.
    pub name: String,
    /// The folder of the pipeline file.
    pub base_dir: PathBuf,
    /// Every declared column, in file order, the tombstone column included. Empty if none were declared: the
    /// connector then fills them in (a generator knows its own) or reports that they are missing.
    pub columns: Vec<Column>,
    /// The names of the key columns; empty for an append-only source.
    pub key: Vec<String>,
    /// The name of the event-time column.
    pub event_time: Option<String>,
    /// The name of the bool column that says that the key's row is deleted.
    pub tombstone: Option<String>,
}

/// A source of a plan.
#[derive(Clone, Debug)]
pub struct PlannedSource {
    /// Its name: the name of the relation steps read.
    pub name: String,
    /// The type in the pipeline file.
    pub connector_name: String,
    /// How to open it.
    pub connector: Arc<dyn ConnectorFactory>,
    /// The columns the connector delivers, in order.
    pub delivered: Vec<Column>,
    /// The position, among the delivered columns, of the tombstone.
    pub tombstone: Option<usize>,
    /// The relation: for a keyed source its table (delivered columns without the tombstone); for an append-only
    /// source the delivered columns and last [`types::SEQ`], which is the key.
    pub schema: Schema,
    /// By how much rows may lag behind the greatest event time seen; more is late. Zero if not given.
    pub out_of_orderness: Micros,
    /// After this much silence of the source, watermarks go on without it. `None`: never.
    pub idle_after_ms: Option<u64>,
    /// Whether its rows are stored as a relation: always for a keyed source; for an append-only one when a step
    /// needs its rows whole after a restart.
    pub stored: bool,
}

impl PlannedSource {
    /// Whether the source folds into a table.
    pub fn is_keyed(&self) -> bool {
        !self.schema.append_only
    }
}

/// What a sink's section says of what it delivers.
#[derive(Clone, Debug)]
pub struct SinkShape {
    /// The sink's name.
    pub name: String,
    /// The relation delivered.
    pub relation: String,
    /// Its schema.
    pub schema: Schema,
}

/// A sink of a plan.
#[derive(Clone, Debug)]
pub struct PlannedSink {
    /// Its name.
    pub name: String,
    /// The type in the pipeline file.
    pub type_name: String,
    /// The relation delivered.
    pub relation: String,
    /// Its schema.
    pub schema: Schema,
    /// Whether a new sink first delivers the rows there are.
    pub with_rows: bool,
    /// How to open it.
    pub sink: Arc<dyn SinkFactory>,
}

/// What an operator made of a step's section.
#[derive(Clone)]
pub struct StepPlan {
    /// What the step reads, in the operator's order.
    pub inputs: Vec<StepInput>,
    /// What it maintains; the first has the step's name, the others `step.suffix`.
    pub outputs: Vec<StepOutput>,
    /// How it is computed.
    pub kind: StepKind,
    /// True if the operator keeps its state itself (`put_state`, `restore`) and is not fed its inputs again after a
    /// restart. Functions of history always are. Its inputs need not be stored.
    pub persistent: bool,
    /// What the step does in one line, for `explain`. Every option that changes the result is in it: it is part of
    /// the plan's fingerprint.
    pub detail: String,
    /// The obvious function it maintains.
    pub model: Model,
}

impl std::fmt::Debug for StepPlan {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StepPlan")
            .field("inputs", &self.inputs)
            .field("outputs", &self.outputs)
            .field("kind", &self.kind)
            .field("persistent", &self.persistent)
            .field("detail", &self.detail)
            .finish_non_exhaustive()
    }
}

/// One input of a step.
#[derive(Clone, Debug)]
pub struct StepInput {
    /// The relation read.
    pub relation: String,
    /// Which worker gets a row.
    pub route: Route,
}

/// Which worker gets a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Route {
    /// The one that has it: for steps that look at rows singly.
    Stay,
    /// The one that owns the shard of these columns' bytes (arrow-row, in this order; [`types::shard_of`]).
    Columns(Vec<usize>),
    /// The one that owns the shard of the empty key.
    One,
}

/// One output of a step.
#[derive(Clone, Debug)]
pub struct StepOutput {
    /// `None` for the first; the further ones are the relations `step.suffix`.
    pub suffix: Option<&'static str>,
    /// Its schema.
    pub schema: Schema,
}

/// A step of a plan.
#[derive(Clone, Debug)]
pub struct PlannedStep {
    /// Its name.
    pub name: String,
    /// The operator's name.
    pub operator: String,
    /// What the operator made of it.
    pub plan: StepPlan,
    /// Whether after a restart its outputs come from the store (persistent steps), from its inputs anew
    /// (`Recomputed`), or not at all (rows passing by).
    pub origin: Origin,
    /// Whether the streams among its outputs are stored: always unless the file says `keep_streams = false`; even then
    /// when a step needs them whole after a restart.
    pub keeps_streams: bool,
}

impl PlannedStep {
    /// The names of its output relations.
    pub fn relations(&self) -> impl Iterator<Item = (String, &Schema)> {
        self.plan.outputs.iter().map(|o| {
            let name = o.suffix.map_or_else(|| self.name.clone(), |s| format!("{}.{s}", self.name));
            (name, &o.schema)
        })
    }

    /// Those of them that are stored.
    pub fn stored_relations(&self) -> impl Iterator<Item = (String, &Schema)> {
        self.relations().filter(|(_, schema)| self.keeps_streams || !schema.append_only)
    }
}

/// Where a relation's rows come from after a restart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// From the store.
    Stored,
    /// Computed again from the inputs, and compared with the store.
    Recomputed,
    /// Nowhere: rows of a stream that pass by once.
    Passing,
}
