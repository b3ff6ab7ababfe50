//! What readers see: the rows of every view, and their changes as batches.

use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray};
use engine::operator::Context;
use engine::plan::StepOutput;
use types::{Column, Delta, RowCodec, Schema, Type, Value};

use super::options::{Auction, Mechanism, Side};
use super::score::float_score;
use super::totals;

/// The views, in the order of the step's outputs.
pub const ALLOCATIONS: usize = 0;
/// As above.
pub const REJECTIONS: usize = 1;
/// As above.
pub const PRICES: usize = 2;
/// As above.
pub const PAYMENTS: usize = 3;
/// As above.
pub const FAIRNESS: usize = 4;

/// What a request has, as it is shown.
#[derive(Clone, Debug, PartialEq)]
pub struct Shown {
    /// Who asks.
    pub requester: Box<[u8]>,
    /// What came of it.
    pub outcome: Outcome,
}

/// What came of a request.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// It is served.
    Allocated(Allocation),
    /// It is not.
    Rejected(Reason),
}

/// A request with its resource.
#[derive(Clone, Debug, PartialEq)]
pub struct Allocation {
    /// The resource's slot.
    pub resource: u32,
    /// The score of the pair.
    pub score: i64,
    /// What the request takes, as it is written and in fixed point.
    pub demand: f64,
    /// As above.
    pub take: i64,
    /// Its bid.
    pub budget: f64,
    /// What it is asked by the resource's price.
    pub asked: f64,
    /// What it pays.
    pub payment: f64,
    /// What the others lose by it, where payments say that.
    pub externality: Option<i64>,
    /// The resource's.
    pub energy: f64,
}

/// Why a request is not served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// There is no resource of its type.
    NoResource,
    /// None meets its needs.
    Qos,
    /// None that does is large enough.
    Capacity,
    /// None that does and is costs as little as it bids.
    Budget,
    /// There is one, but not in its cluster.
    Cluster,
    /// There is, and others have it.
    Outbid,
    /// Its resource left, and it was not to compete again.
    ResourceLeft,
    /// Its resource left, and it waits for it.
    Waiting,
}

impl Reason {
    /// Its name in the view.
    pub fn name(self) -> &'static str {
        match self {
            Reason::NoResource => "no_resource",
            Reason::Qos => "qos",
            Reason::Capacity => "capacity",
            Reason::Budget => "budget",
            Reason::Cluster => "cluster",
            Reason::Outbid => "outbid",
            Reason::ResourceLeft => "resource_left",
            Reason::Waiting => "waiting",
        }
    }
}

/// What a resource's row says.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PriceRow {
    /// What a unit of demand costs.
    pub price: f64,
    /// How many requests it serves.
    pub requests: u32,
    /// How much of it is taken, and how much it holds, in fixed point.
    pub used: i64,
    /// As above.
    pub room: i64,
    /// Its cluster.
    pub cluster: Option<u32>,
    /// Its part of the bound.
    pub bound: Option<i128>,
}

/// Changes of all views, as they come up.
#[derive(Debug, Default)]
pub struct Changes {
    /// Keys of request and resource.
    pub allocations: Vec<(Box<[u8]>, Box<[u8]>, Allocation, i64)>,
    /// Keys of requests.
    pub rejections: Vec<(Box<[u8]>, Reason, i64)>,
    /// Keys of resources.
    pub prices: Vec<(Box<[u8]>, PriceRow, i64)>,
    /// Keys of requests.
    pub duals: Vec<(Box<[u8]>, i64, i64)>,
    /// Rows of clusters.
    pub clusters: Vec<(Vec<Value>, i64)>,
    /// Rows of fairness.
    pub fairness: Vec<(Vec<Value>, i64)>,
}

/// The views of an auction.
pub struct Views {
    auction: Arc<Auction>,
    outputs: Vec<StepOutput>,
    keys: [RowCodec; 2],
}

impl Views {
    /// For an auction.
    pub fn new(auction: &Arc<Auction>) -> Views {
        Views {
            auction: auction.clone(),
            outputs: outputs(auction),
            keys: [key_codec(&auction.requests.side), key_codec(&auction.resources.side)],
        }
    }

    /// The changes as batches of the step's outputs.
    pub fn emit(&self, changes: Changes, context: &mut Context) {
        self.emit_allocations(&changes, context);
        let rejections = &changes.rejections;
        let mut columns = self.decode(0, rejections.iter().map(|r| &*r.0));
        columns.push(Arc::new(StringArray::from_iter_values(rejections.iter().map(|r| r.1.name()))));
        self.send(REJECTIONS, columns, rejections.iter().map(|r| r.2).collect(), context);
        self.emit_prices(&changes, context);
        self.emit_rows(FAIRNESS, &changes.fairness, context);
        let mut next = FAIRNESS + 1;
        if self.auction.clusters.is_some() {
            self.emit_rows(next, &changes.clusters, context);
            next += 1;
        }
        if has_duals(&self.auction) {
            let duals = &changes.duals;
            let mut columns = self.decode(0, duals.iter().map(|d| &*d.0));
            columns.push(Arc::new(Float64Array::from_iter_values(duals.iter().map(|d| float_score(d.1.into())))));
            self.send(next, columns, duals.iter().map(|d| d.2).collect(), context);
        }
    }

    fn emit_allocations(&self, changes: &Changes, context: &mut Context) {
        let rows = &changes.allocations;
        let requests = self.decode(0, rows.iter().map(|r| &*r.0));
        let floats = |of: fn(&Allocation) -> f64| -> ArrayRef {
            Arc::new(Float64Array::from_iter_values(rows.iter().map(|r| of(&r.2))))
        };
        let diffs: Vec<i64> = rows.iter().map(|r| r.3).collect();
        let mut columns = requests.clone();
        columns.extend(self.decode(1, rows.iter().map(|r| &*r.1)));
        columns.extend([floats(|a| float_score(a.score.into())), floats(|a| a.demand), floats(|a| a.payment)]);
        self.send(ALLOCATIONS, columns, diffs.clone(), context);
        let mut columns = requests;
        columns.extend([
            floats(|a| a.budget),
            floats(|a| a.asked),
            floats(|a| a.payment),
            floats(|a| a.budget - a.payment),
            Arc::new(Float64Array::from_iter(rows.iter().map(|r| r.2.externality.map(|e| float_score(e.into()))))),
        ]);
        self.send(PAYMENTS, columns, diffs, context);
    }

    fn emit_prices(&self, changes: &Changes, context: &mut Context) {
        let rows = &changes.prices;
        let scale = self.auction.scale;
        let floats = |of: &dyn Fn(&PriceRow) -> f64| -> ArrayRef {
            Arc::new(Float64Array::from_iter_values(rows.iter().map(|r| of(&r.1))))
        };
        let mut columns = self.decode(1, rows.iter().map(|r| &*r.0));
        columns.extend([
            floats(&|r| r.price),
            Arc::new(Int64Array::from_iter_values(rows.iter().map(|r| i64::from(r.1.requests)))) as ArrayRef,
            floats(&|r| scale.float(r.used.into())),
            floats(&|r| scale.float(r.room.into())),
            floats(&|r| utilisation(r.used, r.room)),
            Arc::new(Int64Array::from_iter(rows.iter().map(|r| r.1.cluster.map(i64::from)))),
            Arc::new(Float64Array::from_iter(rows.iter().map(|r| r.1.bound.map(float_score)))),
        ]);
        self.send(PRICES, columns, rows.iter().map(|r| r.2).collect(), context);
    }

    fn emit_rows(&self, output: usize, rows: &[(Vec<Value>, i64)], context: &mut Context) {
        if rows.is_empty() {
            return;
        }
        let schema = &self.outputs[output].schema;
        let columns =
            schema.columns.iter().enumerate().map(|(i, c)| Value::array(c.ty, rows.iter().map(|r| &r.0[i]))).collect();
        self.send(output, columns, rows.iter().map(|r| r.1).collect(), context);
    }

    fn decode<'a>(&self, side: usize, keys: impl Iterator<Item = &'a [u8]>) -> Vec<ArrayRef> {
        let nothing: &[u8] = &[];
        let rows = self.keys[side].decode(keys.map(|key| (key, nothing))).expect("bytes of our own codec");
        rows.columns().to_vec()
    }

    fn send(&self, output: usize, columns: Vec<ArrayRef>, diffs: Vec<i64>, context: &mut Context) {
        if !diffs.is_empty() {
            let rows = RecordBatch::try_new(self.outputs[output].schema.arrow(), columns).expect("the planned columns");
            context.emit(output, Delta::new(rows, diffs));
        }
    }
}

/// How much of a resource is taken, as a share; 0 of one that holds nothing.
pub fn utilisation(used: i64, room: i64) -> f64 {
    if room > 0 { used as f64 / room as f64 } else { 0.0 }
}

/// Whether the mechanism proves a bound.
pub fn has_duals(auction: &Auction) -> bool {
    matches!(auction.mechanism, Mechanism::Optimal | Mechanism::OptimalExclusive | Mechanism::OptimalUnits)
}

/// A codec of keys alone.
pub fn key_codec(side: &Side) -> RowCodec {
    let columns: Vec<Column> = side.key.iter().map(|k| side.schema.columns[*k].clone()).collect();
    let key = (0..columns.len()).collect();
    RowCodec::new(&Schema { columns, key, event_time: None, append_only: false })
}

/// The step's outputs.
pub fn outputs(auction: &Auction) -> Vec<StepOutput> {
    let key = |side: &Side, prefix: &str| -> Vec<Column> {
        let named = |k: &usize| {
            let column = &side.schema.columns[*k];
            Column { name: format!("{prefix}_{}", column.name), ty: column.ty, nullable: false }
        };
        side.key.iter().map(named).collect()
    };
    let column = |name: &str, ty, nullable| Column { name: name.to_owned(), ty, nullable };
    let float = |name: &str| column(name, Type::Float64, false);
    let view = |suffix, key: Vec<Column>, others: Vec<Column>| {
        let keys = (0..key.len()).collect();
        let columns = key.into_iter().chain(others).collect();
        StepOutput { suffix, schema: Schema { columns, key: keys, event_time: None, append_only: false } }
    };
    let requests = || key(&auction.requests.side, "request");
    let resources = || key(&auction.resources.side, "resource");
    let mut allocated = resources();
    allocated.extend([float("score"), float("demand"), float("payment")]);
    let listed = |of: &[(&str, Type, bool)]| -> Vec<Column> { of.iter().map(|(n, t, null)| column(n, *t, *null)).collect() };
    let mut outputs = vec![
        view(None, requests(), allocated),
        view(Some("rejections"), requests(), vec![column("reason", Type::String, false)]),
        view(
            Some("prices"),
            resources(),
            listed(&[
                ("price", Type::Float64, false),
                ("requests", Type::Int64, false),
                ("used", Type::Float64, false),
                ("capacity", Type::Float64, false),
                ("utilisation", Type::Float64, false),
                ("cluster", Type::Int64, true),
                ("bound", Type::Float64, true),
            ]),
        ),
        view(
            Some("payments"),
            requests(),
            listed(&[
                ("budget", Type::Float64, false),
                ("asked", Type::Float64, false),
                ("payment", Type::Float64, false),
                ("surplus", Type::Float64, false),
                ("externality", Type::Float64, true),
            ]),
        ),
        view(Some("fairness"), listed(&totals::COLUMNS[..1]), listed(&totals::COLUMNS[1..])),
    ];
    if auction.clusters.is_some() {
        outputs.push(view(Some("clusters"), listed(&CLUSTER_COLUMNS[..2]), listed(&CLUSTER_COLUMNS[2..])));
    }
    if has_duals(auction) {
        outputs.push(view(Some("duals"), requests(), vec![float("dual")]));
    }
    outputs
}

/// The columns of the view `clusters`, the key first.
pub const CLUSTER_COLUMNS: [(&str, Type, bool); 8] = [
    ("market", Type::String, false),
    ("cluster", Type::Int64, false),
    ("resources", Type::Int64, false),
    ("requests", Type::Int64, false),
    ("allocated", Type::Int64, false),
    ("capacity", Type::Float64, false),
    ("used", Type::Float64, false),
    ("value", Type::Float64, false),
];
