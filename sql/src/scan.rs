//! A relation as a table: its rows in key order, from the snapshot, a batch at a time.

use std::fmt;
use std::future::Future;
use std::ops::Bound;
use std::pin::Pin;
use std::sync::Arc;

use arrow::array::{RecordBatch, RecordBatchOptions};
use arrow::compute::SortOptions;
use arrow::datatypes::SchemaRef;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::stats::Precision;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{Constraint, Constraints, Result, Statistics};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown, TableType};
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::{EquivalenceProperties, LexOrdering, PhysicalExpr, PhysicalSortExpr};
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType, SchedulingType};
use datafusion::physical_plan::statistics::StatisticsArgs;
use datafusion::physical_plan::stream::RecordBatchReceiverStream;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, Partitioning, PlanProperties};
use engine::query::Error;
use storage::Snapshot;

use super::BATCH_ROWS;
use super::cancel::Cancelled;
use super::catalog::Relation;
use super::failure::Carried;
use super::keys::{self, Keys};

/// Batches that are read ahead.
const AHEAD: usize = 2;

/// A relation at the snapshot's epoch.
#[derive(Debug)]
pub(super) struct Table {
    relation: Arc<Relation>,
    snapshot: Snapshot,
    cancelled: Cancelled,
    schema: SchemaRef,
    constraints: Constraints,
}

impl Table {
    pub(super) fn new(relation: Arc<Relation>, snapshot: Snapshot, cancelled: Cancelled) -> Table {
        // A key has one row; with the key a query that groups by it has the other columns too.
        let key = relation.schema.key.clone();
        let nullable = key.iter().any(|i| relation.schema.columns[*i].nullable);
        let constraint = if nullable { Constraint::Unique(key) } else { Constraint::PrimaryKey(key) };
        let constraints = if relation.schema.key.is_empty() { Vec::new() } else { vec![constraint] };
        let constraints = Constraints::new_unverified(constraints);
        Table { schema: relation.schema.arrow(), constraints, relation, snapshot, cancelled }
    }

    fn plan(&self, projection: Option<&Vec<usize>>, filters: &[Expr], limit: Option<usize>) -> Result<Scan> {
        let columns: Vec<usize> = match projection {
            Some(columns) => columns.clone(),
            None => (0..self.schema.fields().len()).collect(),
        };
        let schema: SchemaRef = Arc::new(self.schema.project(&columns)?);
        let keys = keys::ranges(&self.relation.codec, filters);
        let digest = self.snapshot.digest(self.relation.id).map_err(|e| Carried::new(Error::Store(e)))?;
        let count = usize::try_from(digest.rows).unwrap_or(usize::MAX).min(limit.unwrap_or(usize::MAX));
        let rows = match &keys {
            None => Precision::Exact(count),
            Some(ranges) if ranges.iter().all(|r| matches!(r, Keys::One(_))) => {
                Precision::Inexact(ranges.len().min(count))
            }
            Some(_) => Precision::Inexact(count),
        };
        let order = LexOrdering::new(self.relation.schema.key.iter().map_while(|key| {
            let at = columns.iter().position(|c| c == key)?;
            let column: Arc<dyn PhysicalExpr> = Arc::new(Column::new(schema.field(at).name(), at));
            Some(PhysicalSortExpr::new(column, SortOptions { descending: false, nulls_first: true }))
        }));
        let properties = PlanProperties::new(
            EquivalenceProperties::new_with_orderings(Arc::clone(&schema), order),
            Partitioning::UnknownPartitioning(1),
            EmissionType::Incremental,
            Boundedness::Bounded,
        )
        .with_scheduling_type(SchedulingType::Cooperative);
        let statistics = Statistics {
            num_rows: rows,
            total_byte_size: Precision::Absent,
            column_statistics: Statistics::unknown_column(&schema),
        };
        Ok(Scan {
            relation: Arc::clone(&self.relation),
            snapshot: self.snapshot.clone(),
            cancelled: self.cancelled.clone(),
            columns,
            schema,
            keys,
            limit,
            properties: Arc::new(properties),
            statistics: Arc::new(statistics),
        })
    }
}

impl TableProvider for Table {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn constraints(&self) -> Option<&Constraints> {
        Some(&self.constraints)
    }

    fn table_type(&self) -> TableType {
        if self.relation.is_view { TableType::View } else { TableType::Base }
    }

    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> Result<Vec<TableProviderFilterPushDown>> {
        let of = |filter: &&Expr| match keys::is_useful(&self.relation.schema, filter) {
            true => TableProviderFilterPushDown::Inexact,
            false => TableProviderFilterPushDown::Unsupported,
        };
        Ok(filters.iter().map(of).collect())
    }

    // What `async fn` in this trait stands for, written out.
    fn scan<'a, 'b, 'c, 'd, 'async_trait>(
        &'a self,
        _session: &'b dyn Session,
        projection: Option<&'c Vec<usize>>,
        filters: &'d [Expr],
        limit: Option<usize>,
    ) -> Pin<Box<dyn Future<Output = Result<Arc<dyn ExecutionPlan>>> + Send + 'async_trait>>
    where
        'a: 'async_trait,
        'b: 'async_trait,
        'c: 'async_trait,
        'd: 'async_trait,
        Self: 'async_trait,
    {
        let plan = self.plan(projection, filters, limit);
        Box::pin(async move { plan.map(|scan| Arc::new(scan) as Arc<dyn ExecutionPlan>) })
    }
}

/// Reads some columns of a part of a relation.
#[derive(Debug)]
struct Scan {
    relation: Arc<Relation>,
    snapshot: Snapshot,
    cancelled: Cancelled,
    /// The columns it gives.
    columns: Vec<usize>,
    schema: SchemaRef,
    /// Where it reads; `None`: everywhere.
    keys: Option<Vec<Keys>>,
    limit: Option<usize>,
    properties: Arc<PlanProperties>,
    statistics: Arc<Statistics>,
}

impl DisplayAs for Scan {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.schema.fields().iter().map(|f| f.name().as_str()).collect();
        write!(f, "KeyScan: {}, columns=[{}]", self.relation.name, names.join(", "))?;
        match &self.keys {
            None => write!(f, ", whole")?,
            Some(keys) => {
                let looked_up = keys.iter().filter(|k| matches!(k, Keys::One(_))).count();
                write!(f, ", keys={looked_up}, ranges={}", keys.len() - looked_up)?;
            }
        }
        match self.limit {
            Some(limit) => write!(f, ", limit={limit}"),
            None => Ok(()),
        }
    }
}

impl ExecutionPlan for Scan {
    fn name(&self) -> &'static str {
        "KeyScan"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        Vec::new()
    }

    fn apply_expressions(
        &self,
        _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn with_new_children(self: Arc<Self>, _: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(self)
    }

    fn statistics_from_inputs(&self, _: &[Arc<Statistics>], _: &StatisticsArgs) -> Result<Arc<Statistics>> {
        Ok(Arc::clone(&self.statistics))
    }

    fn fetch(&self) -> Option<usize> {
        self.limit
    }

    fn execute(&self, _: usize, _: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let mut builder = RecordBatchReceiverStream::builder(Arc::clone(&self.schema), AHEAD);
        let batches = builder.tx();
        let reader = Reader {
            relation: Arc::clone(&self.relation),
            snapshot: self.snapshot.clone(),
            cancelled: self.cancelled.clone(),
            columns: self.columns.clone(),
            schema: Arc::clone(&self.schema),
            chunk: Chunk::default(),
        };
        let (keys, limit) = (self.keys.clone(), self.limit.unwrap_or(usize::MAX));
        // The store is read on a thread that may block; whoever reads no further ends it.
        builder.spawn_blocking(move || {
            let give = |batch| batches.blocking_send(Ok(batch)).is_ok();
            reader.read(keys.as_deref(), limit, give).map_err(Carried::new)
        });
        Ok(builder.build())
    }
}

/// Reads rows into batches.
struct Reader {
    relation: Arc<Relation>,
    snapshot: Snapshot,
    cancelled: Cancelled,
    columns: Vec<usize>,
    schema: SchemaRef,
    chunk: Chunk,
}

/// Rows as bytes: keys and values one after another, with where each ends.
#[derive(Default)]
struct Chunk {
    keys: Vec<u8>,
    values: Vec<u8>,
    ends: Vec<(usize, usize)>,
}

/// Whether more rows are wanted.
type More = bool;
/// What was read, or why it was not.
type Read<T> = std::result::Result<T, Error>;

impl Reader {
    /// Reads the rows of keys in order until there are as many as wanted, or nobody takes them.
    fn read(mut self, keys: Option<&[Keys]>, limit: usize, mut give: impl FnMut(RecordBatch) -> bool) -> Read<()> {
        let mut left = limit;
        let whole = [Keys::Span(Vec::new(), None)];
        let snapshot = self.snapshot.clone();
        for part in keys.unwrap_or(&whole) {
            let more = match part {
                Keys::One(key) => match snapshot.get(self.relation.id, key)? {
                    Some(value) => self.take(key, &value, &mut left, &mut give)?,
                    None => true,
                },
                Keys::Span(from, to) => {
                    let from = if from.is_empty() { Bound::Unbounded } else { Bound::Included(from.as_slice()) };
                    let to = to.as_ref().map_or(Bound::Unbounded, |to| Bound::Excluded(to.as_slice()));
                    let mut rows = snapshot.scan(self.relation.id, from, to);
                    let mut more = left > 0;
                    while more && let Some(row) = rows.next_row() {
                        let row = row?;
                        more = self.take(row.key, row.value, &mut left, &mut give)?;
                    }
                    more
                }
            };
            if !more {
                break;
            }
        }
        self.send(&mut give).map(drop)
    }

    fn take(
        &mut self,
        key: &[u8],
        value: &[u8],
        left: &mut usize,
        give: &mut impl FnMut(RecordBatch) -> bool,
    ) -> Read<More> {
        if *left == 0 {
            return Ok(false);
        }
        self.chunk.keys.extend_from_slice(key);
        self.chunk.values.extend_from_slice(value);
        self.chunk.ends.push((self.chunk.keys.len(), self.chunk.values.len()));
        *left -= 1;
        if self.chunk.ends.len() == BATCH_ROWS && !self.send(give)? {
            *left = 0;
        }
        Ok(*left > 0)
    }

    /// Gives what has been gathered.
    fn send(&mut self, give: &mut impl FnMut(RecordBatch) -> bool) -> Read<More> {
        if self.chunk.ends.is_empty() {
            return Ok(true);
        }
        self.cancelled.check()?;
        let batch = self.batch()?;
        self.chunk.keys.clear();
        self.chunk.values.clear();
        self.chunk.ends.clear();
        Ok(give(batch))
    }

    /// The wanted columns of what has been gathered. Values are not looked at where keys are all that is wanted.
    fn batch(&self) -> Read<RecordBatch> {
        let broken = |e: &dyn fmt::Display| Error::Broken(format!("`{}`: {e}", self.relation.name));
        let count = self.chunk.ends.len();
        let options = RecordBatchOptions::new().with_row_count(Some(count));
        if self.columns.is_empty() {
            return RecordBatch::try_new_with_options(Arc::clone(&self.schema), Vec::new(), &options)
                .map_err(|e| broken(&e));
        }
        let key = &self.relation.schema.key;
        let keys_alone = self.columns.iter().all(|c| key.contains(c));
        let starts = std::iter::once((0, 0)).chain(self.chunk.ends.iter().copied());
        let rows = starts.zip(&self.chunk.ends).map(|((k, v), (k_end, v_end))| {
            let value: &[u8] = if keys_alone { &[] } else { &self.chunk.values[v..*v_end] };
            (&self.chunk.keys[k..*k_end], value)
        });
        let codec = if keys_alone { &self.relation.keys } else { &self.relation.codec };
        let rows = codec.decode(rows).map_err(|e| broken(&e))?;
        let at = |column: &usize| match keys_alone {
            true => key.iter().position(|k| k == column).expect("a column of the key"),
            false => *column,
        };
        let columns = self.columns.iter().map(|c| Arc::clone(rows.column(at(c)))).collect();
        RecordBatch::try_new_with_options(Arc::clone(&self.schema), columns, &options).map_err(|e| broken(&e))
    }
}
