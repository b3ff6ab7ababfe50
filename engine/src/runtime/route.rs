//! Brings rows to the worker that owns their shard.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch};
use arrow::row::{RowConverter, Rows, SortField};
use timely::dataflow::channels::pact::{Exchange, Pipeline};
use timely::dataflow::operators::generic::Operator;
use types::{Delta, Schema, shard_of};

use crate::operator::DeltaStream;
use crate::plan::Route;

/// The stream with every row on the worker its route names. `schema` is that of the stream's batches; batches with
/// more columns are welcome.
pub(super) fn route<'scope>(stream: DeltaStream<'scope>, route: &Route, schema: &Schema) -> DeltaStream<'scope> {
    let peers = stream.scope().peers();
    if peers == 1 || *route == Route::Stay {
        return stream;
    }
    let splitter = Splitter { sharder: Sharder::new(schema, route), peers };
    stream
        .unary::<timely::container::CapacityContainerBuilder<Vec<(u64, Delta)>>, _, _, _>(Pipeline, "Split", |_, _| {
            move |input, output| {
                input.for_each_stamp(|cap, data| {
                    let mut session = output.session(&cap);
                    for delta in data.flat_map(|d| d.drain(..)) {
                        session.give_iterator(splitter.split(&delta).into_iter());
                    }
                });
            }
        })
        .unary(Exchange::new(|x: &(u64, Delta)| x.0), "Route", |_, _| {
            move |input, output| {
                input.for_each_stamp(|cap, data| {
                    output.session(&cap).give_iterator(data.flat_map(|d| d.drain(..)).map(|(_, delta)| delta));
                });
            }
        })
}

/// Finds the shard of rows: that of their routing columns' bytes.
pub(super) struct Sharder {
    columns: Vec<usize>,
    converter: Option<RowConverter>,
}

/// The shards of a batch's rows.
pub(super) enum Shards {
    One(u16),
    Each(Rows),
}

impl Shards {
    pub fn at(&self, row: usize) -> u16 {
        match self {
            Shards::One(shard) => *shard,
            Shards::Each(rows) => shard_of(rows.row(row).data()),
        }
    }
}

impl Sharder {
    pub fn new(schema: &Schema, route: &Route) -> Sharder {
        let columns = match route {
            Route::Columns(columns) => columns.clone(),
            Route::One | Route::Stay => Vec::new(),
        };
        let fields: Vec<SortField> = columns.iter().map(|i| SortField::new(schema.columns[*i].ty.arrow())).collect();
        let converter = (!fields.is_empty()).then(|| RowConverter::new(fields).expect("every type is supported"));
        Sharder { columns, converter }
    }

    pub fn shards(&self, rows: &RecordBatch) -> Shards {
        let Some(converter) = &self.converter else { return Shards::One(shard_of(&[])) };
        let arrays: Vec<ArrayRef> = self.columns.iter().map(|i| Arc::clone(rows.column(*i))).collect();
        Shards::Each(converter.convert_columns(&arrays).expect("a batch of the stream's schema"))
    }
}

struct Splitter {
    sharder: Sharder,
    peers: usize,
}

impl Splitter {
    fn split(&self, delta: &Delta) -> Vec<(u64, Delta)> {
        let shards = match self.sharder.shards(&delta.rows) {
            Shards::One(shard) => return vec![(owner(shard, self.peers) as u64, delta.clone())],
            shards => shards,
        };
        let mut rows = vec![Vec::new(); self.peers];
        for i in 0..delta.len() {
            rows[owner(shards.at(i), self.peers)].push(i as u32);
        }
        rows.into_iter()
            .enumerate()
            .filter(|(_, rows)| !rows.is_empty())
            .map(|(worker, rows)| (worker as u64, delta.take(&rows)))
            .collect()
    }
}

/// The worker that owns a shard.
pub(super) fn owner(shard: u16, peers: usize) -> usize {
    usize::from(shard) % peers
}
