//! From rows to requests and resources: reads the columns, refuses what makes no sense, nets the changes of an epoch.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Float64Array, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type};
use arrow::row::{RowConverter, Rows, SortField};
use engine::operator::Context;
use types::{Delta, RowCodec, Value};

use super::options::{Auction, Side};
use super::score::{Metric, Request, Resource, on_globe};
use crate::key_text::key_text;
use crate::refusal::Refusal;

/// A request or a resource with whose it is and where it belongs.
#[derive(Clone, Debug, PartialEq)]
pub struct Node<T> {
    /// The bytes of its key.
    pub key: Box<[u8]>,
    /// The bytes of its type: its market.
    pub market: Box<[u8]>,
    /// What is known of it.
    pub node: T,
    /// A request's priority, for a score made later.
    pub priority: f64,
}

/// Why a row is refused: a reason that is a name, and a sentence.
pub type Wrong = (&'static str, String);

/// What became of the rows of one side in an epoch: those that went and those that came, in the order of their bytes.
#[derive(Debug)]
pub struct Net<T> {
    /// Market and key of those that are no more as they were.
    pub gone: Vec<(Box<[u8]>, Box<[u8]>)>,
    /// Those that are now.
    pub come: Vec<Node<T>>,
}

impl<T> Default for Net<T> {
    fn default() -> Net<T> {
        Net { gone: Vec::new(), come: Vec::new() }
    }
}

/// Reads the rows of requests.
pub struct RequestRows {
    auction: Arc<Auction>,
    rows: SideRows,
    requester: Option<RowConverter>,
}

/// Reads the rows of resources.
pub struct ResourceRows {
    auction: Arc<Auction>,
    rows: SideRows,
}

/// What both sides need.
struct SideRows {
    side: Side,
    codec: RowCodec,
    key: RowConverter,
    types: Option<RowConverter>,
    refusal: Refusal,
}

impl RequestRows {
    /// For an auction.
    pub fn new(auction: &Arc<Auction>) -> RequestRows {
        let side = &auction.requests.side;
        RequestRows {
            rows: SideRows::new(side),
            requester: auction.requests.requester.map(|c| converter(side, &[c])),
            auction: auction.clone(),
        }
    }

    /// Every row as a request, or what is wrong with it.
    pub fn parse(&self, batch: &RecordBatch) -> Vec<Result<Node<Request>, Wrong>> {
        let columns = &self.auction.requests;
        let form = &self.auction.form;
        let names = self.rows.names(batch);
        let number = |column: Option<usize>| column.map(|c| floats(batch.column(c)));
        let demand = number(columns.demand);
        let budget = floats(batch.column(columns.budget));
        let (priority, served) = (number(columns.priority), number(columns.served));
        let reliability = number(columns.reliability_min);
        let availability = number(columns.availability_min);
        let latency = number(columns.latency_max);
        let place = columns.place.map(|place| place.map(|c| floats(batch.column(c))));
        let requesters = self.requester.as_ref().zip(columns.requester).map(|(converter, column)| {
            converter.convert_columns(&[batch.column(column).clone()]).expect("the planned types")
        });
        let one = |row: usize| -> Result<Node<Request>, Wrong> {
            let (key, market) = names.at(row)?;
            let demand = demand.as_ref().map_or(Ok(1.0), |c| amount(c, row, "demand", "bad_demand"))?;
            let take =
                self.auction.scale.fixed(demand).ok_or_else(|| {
                    ("bad_demand", format!("a demand of {demand} is beyond 2^60 multiples of the scale"))
                })?;
            let budget = amount(&budget, row, "budget", "bad_budget")?;
            let priority = priority.as_ref().map_or(Ok(0.0), |c| amount(c, row, "priority", "bad_priority"))?;
            let served = served.as_ref().map_or(Ok(0.0), |c| amount(c, row, "number served", "bad_served"))?;
            let requester = match &requesters {
                Some(rows) => rows.row(row).data().into(),
                None => key.clone(),
            };
            let request = Request {
                demand,
                take,
                budget,
                fair: form.fair(priority, served),
                place: spot(place.as_ref(), row, form.metric)?,
                reliability_min: need(reliability.as_ref(), row, 0.0)?,
                availability_min: need(availability.as_ref(), row, 0.0)?,
                latency_max: need(latency.as_ref(), row, f64::INFINITY)?,
                requester,
            };
            Ok(Node { key, market, node: request, priority })
        };
        (0..batch.num_rows()).map(one).collect()
    }

    /// What became of the rows in an epoch; refused ones become faults.
    pub fn net(&self, deltas: &[Delta], context: &mut Context) -> Net<Request> {
        self.rows.net(deltas, |batch| self.parse(batch), context)
    }

    /// Reports a row as a fault.
    pub fn refuse(&self, context: &mut Context, batch: &RecordBatch, row: usize, wrong: Wrong) {
        self.rows.refusal.refuse(context, batch, row, 1, wrong.0, wrong.1);
    }

    /// The key and the market of every row, or what is wrong with it.
    pub fn names(&self, batch: &RecordBatch) -> Names {
        self.rows.names(batch)
    }
}

impl ResourceRows {
    /// For an auction.
    pub fn new(auction: &Arc<Auction>) -> ResourceRows {
        ResourceRows { rows: SideRows::new(&auction.resources.side), auction: auction.clone() }
    }

    /// Every row as a resource, or what is wrong with it.
    pub fn parse(&self, batch: &RecordBatch) -> Vec<Result<Node<Resource>, Wrong>> {
        let columns = &self.auction.resources;
        let names = self.rows.names(batch);
        let number = |column: Option<usize>| column.map(|c| floats(batch.column(c)));
        let capacity = floats(batch.column(columns.capacity));
        let cost = floats(batch.column(columns.cost));
        let (reliability, availability) = (number(columns.reliability), number(columns.availability));
        let energy = number(columns.energy);
        let place = columns.place.map(|place| place.map(|c| floats(batch.column(c))));
        let one = |row: usize| -> Result<Node<Resource>, Wrong> {
            let (key, market) = names.at(row)?;
            let capacity = amount(&capacity, row, "capacity", "bad_capacity")?;
            let room = self.auction.scale.fixed(capacity).ok_or_else(|| {
                ("bad_capacity", format!("a capacity of {capacity} is beyond 2^60 multiples of the scale"))
            })?;
            let resource = Resource {
                capacity,
                room,
                cost: amount(&cost, row, "cost", "bad_cost")?,
                reliability: share(reliability.as_ref(), row, "reliability")?,
                availability: share(availability.as_ref(), row, "availability")?,
                energy: share(energy.as_ref(), row, "energy")?,
                place: spot(place.as_ref(), row, self.auction.form.metric)?,
            };
            Ok(Node { key, market, node: resource, priority: 0.0 })
        };
        (0..batch.num_rows()).map(one).collect()
    }

    /// What became of the rows in an epoch; refused ones become faults.
    pub fn net(&self, deltas: &[Delta], context: &mut Context) -> Net<Resource> {
        self.rows.net(deltas, |batch| self.parse(batch), context)
    }

    /// Reports a row as a fault.
    pub fn refuse(&self, context: &mut Context, batch: &RecordBatch, row: usize, wrong: Wrong) {
        self.rows.refusal.refuse(context, batch, row, 1, wrong.0, wrong.1);
    }

    /// The key and the market of every row, or what is wrong with it.
    pub fn names(&self, batch: &RecordBatch) -> Names {
        self.rows.names(batch)
    }
}

/// Keys and markets of a batch.
pub struct Names {
    keys: Rows,
    markets: Option<Rows>,
    key_columns: Vec<ArrayRef>,
    type_columns: Vec<ArrayRef>,
}

impl Names {
    /// The key and the market of a row.
    pub fn at(&self, row: usize) -> Result<(Box<[u8]>, Box<[u8]>), Wrong> {
        if self.key_columns.iter().any(|c| c.is_null(row)) {
            return Err(("null_key", "a column of the key is null".to_owned()));
        }
        if self.type_columns.iter().any(|c| c.is_null(row)) {
            return Err(("null_type", "a column of the type is null, and null equals nothing".to_owned()));
        }
        let market = self.markets.as_ref().map_or_else(Box::default, |m| m.row(row).data().into());
        Ok((self.keys.row(row).data().into(), market))
    }
}

impl SideRows {
    fn new(side: &Side) -> SideRows {
        SideRows {
            codec: RowCodec::new(&side.schema),
            key: converter(side, &side.key),
            types: (!side.types.is_empty()).then(|| converter(side, &side.types)),
            refusal: Refusal::new(&side.relation, &side.schema),
            side: side.clone(),
        }
    }

    fn names(&self, batch: &RecordBatch) -> Names {
        let columns = |of: &[usize]| -> Vec<ArrayRef> { of.iter().map(|c| batch.column(*c).clone()).collect() };
        let (key_columns, type_columns) = (columns(&self.side.key), columns(&self.side.types));
        Names {
            keys: self.key.convert_columns(&key_columns).expect("the planned types"),
            markets: self.types.as_ref().map(|t| t.convert_columns(&type_columns).expect("the planned types")),
            key_columns,
            type_columns,
        }
    }

    /// Within an epoch a row may come and go: only the sum of its differences counts.
    fn net<T: Clone>(
        &self,
        deltas: &[Delta],
        parse: impl Fn(&RecordBatch) -> Vec<Result<Node<T>, Wrong>>,
        context: &mut Context,
    ) -> Net<T> {
        let bytes: Vec<(Rows, Rows)> =
            deltas.iter().map(|d| (self.codec.keys(&d.rows), self.codec.values(&d.rows))).collect();
        let mut sums: BTreeMap<(&[u8], &[u8]), (i64, usize, usize)> = BTreeMap::new();
        for (at, delta) in deltas.iter().enumerate() {
            for row in 0..delta.len() {
                let name = (bytes[at].0.row(row).data(), bytes[at].1.row(row).data());
                sums.entry(name).or_insert((0, at, row)).0 += delta.diff(row);
            }
        }
        let parsed: Vec<Vec<Result<Node<T>, Wrong>>> = deltas.iter().map(|d| parse(&d.rows)).collect();
        let mut net = Net { gone: Vec::new(), come: Vec::new() };
        for (sum, at, row) in sums.into_values().filter(|(sum, ..)| *sum != 0) {
            match &parsed[at][row] {
                Ok(node) if sum > 0 => net.come.push(node.clone()),
                Ok(node) => net.gone.push((node.market.clone(), node.key.clone())),
                Err((reason, detail)) => {
                    self.refusal.refuse(context, &deltas[at].rows, row, sum, reason, detail.clone());
                }
            }
        }
        net
    }
}

fn converter(side: &Side, columns: &[usize]) -> RowConverter {
    let fields = columns.iter().map(|c| SortField::new(side.schema.columns[*c].ty.arrow())).collect();
    RowConverter::new(fields).expect("every type is supported")
}

/// A column of numbers as floats.
fn floats(column: &ArrayRef) -> Float64Array {
    let column = cast(column, &DataType::Float64).expect("int64 and float64 are floats");
    column.as_primitive::<Float64Type>().clone()
}

/// A finite number that is not negative.
fn amount(column: &Float64Array, row: usize, what: &str, reason: &'static str) -> Result<f64, Wrong> {
    let value = column.value(row);
    if column.is_null(row) {
        Err((reason, format!("the {what} is null")))
    } else if !value.is_finite() || value < 0.0 {
        Err((reason, format!("the {what} is {value}, and must be a finite number that is not negative")))
    } else {
        // One zero.
        Ok(value + 0.0)
    }
}

/// A number from 0 to 1; 1 without a column.
fn share(column: Option<&Float64Array>, row: usize, what: &str) -> Result<f64, Wrong> {
    let Some(column) = column else { return Ok(1.0) };
    let value = amount(column, row, what, "bad_quality")?;
    if value > 1.0 {
        return Err(("bad_quality", format!("the {what} is {value}, and must be a share of 1")));
    }
    Ok(value)
}

/// A number that is not negative; null is no need.
fn need(column: Option<&Float64Array>, row: usize, without: f64) -> Result<f64, Wrong> {
    let Some(column) = column.filter(|c| c.is_valid(row)) else { return Ok(without) };
    let value = column.value(row);
    if value >= 0.0 {
        return Ok(value + 0.0);
    }
    Err(("bad_need", format!("a need is {value}, and must be a number that is not negative, or null")))
}

/// Where a node is.
fn spot(place: Option<&[Float64Array; 2]>, row: usize, metric: Metric) -> Result<[f64; 3], Wrong> {
    let Some(place) = place else { return Ok([0.0; 3]) };
    let wrong = || {
        let range = if metric == Metric::Globe { ", degrees within ±90 and ±180" } else { "" };
        ("bad_place", format!("the place is null or no two finite numbers{range}"))
    };
    let [a, b] = [&place[0], &place[1]].map(|c| if c.is_valid(row) { c.value(row) } else { f64::NAN });
    match metric {
        Metric::Nowhere => Ok([0.0; 3]),
        // Beyond this a square is not finite.
        Metric::Plane if a.abs() <= 1e150 && b.abs() <= 1e150 => Ok([a + 0.0, b + 0.0, 0.0]),
        Metric::Globe => on_globe(a, b).ok_or_else(wrong),
        Metric::Plane => Err(wrong()),
    }
}

/// The cells of a type as text: its one cell, or a JSON list of them; `all` for none.
pub fn market_text(cells: &[Value]) -> String {
    if cells.is_empty() { "all".to_owned() } else { key_text(cells) }
}
