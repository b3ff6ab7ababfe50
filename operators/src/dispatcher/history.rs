//! The dispatch as a function of history: from rows to a market's course, and from what happened there to views.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow::array::{Array, AsArray, Float64Array, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type, TimestampMicrosecondType};
use engine::operator::{Context, HistoryOperator};
use types::Value;

use super::course::{Course, Order, Totals, Touched};
use super::options::{Dispatch, OrderEvent};
use super::state::{DECISION, DRIVER, Entry, ORDER, key_of};
use super::views::Views;
use crate::fleet::Wrong;
use crate::fleet::drivers::{Report, meaning};
use crate::fleet::ids::{Id, Ids, id_at};
use crate::fleet::options::Input;
use crate::fleet::place::{Coding, Spot, cell_name};
use crate::fleet::values;
use crate::refusal::Refusal;

/// The input of drivers; at one time they come first, then orders, then values.
pub const DRIVERS: usize = 0;
/// As above.
pub const ORDERS: usize = 1;

/// Rewards and times beyond this are refused.
pub const AMOUNT_MAX: f64 = 1e9;

/// The dispatch at work on one worker's markets.
pub struct Dispatcher {
    dispatch: Arc<Dispatch>,
    inputs: Vec<Reading>,
    driver: Ids,
    order: Ids,
    views: Views,
    markets: BTreeMap<Id, Course>,
    touched: BTreeSet<Id>,
    /// What gauges are of, if nothing has changed since.
    figures: Option<Figures>,
}

/// Over all markets: open orders, drivers in the pool, and of the totals what gauges are of.
#[derive(Clone, Copy, Default)]
struct Figures {
    open: usize,
    idle: usize,
    totals: Totals,
}

/// How an input is read.
struct Reading {
    at: usize,
    market: Ids,
    refusal: Refusal,
}

impl Reading {
    fn new(input: &Input) -> Reading {
        Reading {
            at: input.at,
            market: Ids::new(&input.schema, &input.market),
            refusal: Refusal::new(&input.relation, &input.schema),
        }
    }
}

impl Dispatcher {
    /// Before the first event.
    pub fn new(dispatch: Arc<Dispatch>) -> Dispatcher {
        let (d, o) = (&dispatch.drivers, &dispatch.orders);
        let inputs = [Some(&d.input), Some(&o.input), dispatch.values.as_ref().map(|v| &v.input)];
        Dispatcher {
            inputs: inputs.into_iter().flatten().map(Reading::new).collect(),
            driver: Ids::new(&d.input.schema, &[d.driver]),
            order: Ids::new(&o.input.schema, &[o.order]),
            views: Views::new(&dispatch),
            markets: BTreeMap::new(),
            touched: BTreeSet::new(),
            figures: None,
            dispatch,
        }
    }

    /// Tells and stores what has changed.
    fn finish(&mut self, context: &mut Context) {
        for market in std::mem::take(&mut self.touched) {
            let course = self.markets.get_mut(&market).expect("it was touched");
            let touched = course.take_touched();
            self.views.tell(&market, course, &touched, context);
            store(&market, course, &touched, context);
            self.figures = None;
        }
    }

    /// Says how the markets fare.
    fn measure(&mut self, context: &mut Context) {
        let markets = &self.markets;
        let figures = self.figures.get_or_insert_with(|| markets.values().fold(Figures::default(), Figures::and));
        let Figures { open, idle, totals } = figures;
        context.gauge_sum("open_orders", *open as f64);
        context.gauge_sum("idle_drivers", *idle as f64);
        context.gauge_sum("matches", totals.matched as f64);
        context.gauge_mean("answer_ratio", totals.matched as f64, totals.orders as f64);
        context.gauge_mean("mean_pickup_m", totals.distance_m, totals.matched as f64);
    }
}

impl Figures {
    fn and(self, course: &Course) -> Figures {
        let (mut totals, more) = (self.totals, course.totals.unwrap_or_default());
        totals.matched += more.matched;
        totals.orders += more.orders;
        totals.distance_m += more.distance_m;
        Figures { open: self.open + course.orders.len(), idle: self.idle + course.idle(), totals }
    }
}

/// Writes what has changed.
fn store(market: &[u8], course: &mut Course, touched: &Touched, context: &mut Context) {
    let mut put = |key: Vec<u8>, entry: Option<Entry>| {
        context.put_state(market, &key, entry.map(|entry| entry.value(market)).as_deref());
    };
    for id in touched.drivers.keys() {
        put(key_of(DRIVER, id), course.drivers.get(id).map(|d| Entry::Driver(id.clone(), d.clone())));
    }
    for id in touched.orders.keys() {
        put(key_of(ORDER, id), course.orders.get(id).map(|o| Entry::Order(id.clone(), o.clone())));
    }
    for id in touched.decisions.keys() {
        put(key_of(DECISION, id), course.decisions.get(id).map(|d| Entry::Decision(id.clone(), d.clone())));
    }
    for cell in &touched.cells {
        let entry = Entry::Value(cell.clone(), course.value_of(cell));
        put(entry.key(), Some(entry));
    }
    if touched.totals.is_some() {
        // Where nothing happens no time is stored: the rounds held since matched nobody, and would again.
        let entry = Entry::Totals(course.totals.unwrap_or_default(), course.passed);
        put(entry.key(), Some(entry));
    }
}

impl HistoryOperator for Dispatcher {
    fn restore(&mut self, key: &[u8], value: &[u8]) {
        let (market, entry) = Entry::of(key, value);
        let dispatch = &self.dispatch;
        let course = self.markets.entry(market).or_insert_with(|| Course::new(dispatch));
        match entry {
            Entry::Driver(id, driver) => course.restore_driver(dispatch, id, driver),
            Entry::Order(id, order) => course.open(dispatch, id, order),
            Entry::Decision(id, decision) => course.restore_decision(id, decision),
            Entry::Value(cell, value) => course.restore_value(&cell, value),
            Entry::Totals(totals, passed) => (course.totals, course.passed) = (Some(totals), passed),
        }
    }

    fn apply(&mut self, input: usize, events: &RecordBatch, context: &mut Context) {
        let dispatch = self.dispatch.clone();
        let rows = match input {
            DRIVERS => Rows::Drivers(DriverRows::new(&dispatch, events, &self.driver)),
            ORDERS => Rows::Orders(Box::new(OrderRows::new(&dispatch, events, &self.order))),
            _ => Rows::Values,
        };
        let times = events.column(self.inputs[input].at).as_primitive::<TimestampMicrosecondType>().clone();
        let markets = self.inputs[input].market.of(events);
        for row in 0..events.num_rows() {
            let (market, at) = (id_at(&markets, row), times.value(row));
            if !self.markets.contains_key(&market) {
                self.markets.insert(market.clone(), Course::new(&dispatch));
            }
            let course = self.markets.get_mut(&market).expect("it is there");
            course.pass(&dispatch, at);
            course.forget(at);
            let told = match &rows {
                Rows::Drivers(rows) => rows.tell(&dispatch, events, row, at, course),
                Rows::Orders(rows) => rows.tell(&dispatch, events, row, at, course),
                Rows::Values => tell_value(&dispatch, events, row, course),
            };
            if let Err((reason, detail)) = told {
                self.inputs[input].refusal.refuse(context, events, row, 1, reason, detail);
            }
            self.touched.insert(market);
        }
        self.finish(context);
    }

    fn advance(&mut self, context: &mut Context) {
        let until = context.watermark;
        for (market, course) in &mut self.markets {
            if course.passed < until {
                course.pass(&self.dispatch, until);
                if course.touched.totals.is_some() {
                    self.touched.insert(market.clone());
                }
            }
        }
        self.finish(context);
        self.measure(context);
    }
}

/// The rows of one call.
enum Rows<'a> {
    Drivers(DriverRows<'a>),
    Orders(Box<OrderRows<'a>>),
    Values,
}

struct DriverRows<'a> {
    names: &'a Ids,
    ids: Option<arrow::row::Rows>,
    place: [Float64Array; 2],
}

impl<'a> DriverRows<'a> {
    fn new(dispatch: &Dispatch, events: &RecordBatch, names: &'a Ids) -> DriverRows<'a> {
        let place = dispatch.drivers.place.map(|c| floats(events, c));
        DriverRows { names, ids: names.of(events), place }
    }

    fn tell(
        &self,
        dispatch: &Dispatch,
        events: &RecordBatch,
        row: usize,
        at: i64,
        course: &mut Course,
    ) -> Result<(), Wrong> {
        if self.names.is_null(events, row) {
            return Err(("null_driver", "the driver is null".to_owned()));
        }
        let d = &dispatch.drivers;
        let report: Report = meaning(&d.words, text(events, d.event, row))?;
        let coding = dispatch.coding;
        let at_place = || spot(dispatch, events, row, &self.place, coding, &d.cell);
        let spot = if report.has_place() { Some(at_place()?) } else { None };
        course.driver(dispatch, at, &id_at(&self.ids, row), report, spot)
    }
}

struct OrderRows<'a> {
    names: &'a Ids,
    ids: Option<arrow::row::Rows>,
    pickup: [Float64Array; 2],
    destination: Option<[Float64Array; 2]>,
    reward: Option<Float64Array>,
    trip_secs: Option<Float64Array>,
    patience_secs: Option<Float64Array>,
}

impl<'a> OrderRows<'a> {
    fn new(dispatch: &Dispatch, events: &RecordBatch, names: &'a Ids) -> OrderRows<'a> {
        let o = &dispatch.orders;
        let column = |c: Option<usize>| c.map(|c| floats(events, c));
        OrderRows {
            names,
            ids: names.of(events),
            pickup: o.pickup.map(|c| floats(events, c)),
            destination: o.destination.map(|columns| columns.map(|c| floats(events, c))),
            reward: column(o.reward),
            trip_secs: column(o.trip_secs),
            patience_secs: column(o.patience_secs),
        }
    }

    fn tell(
        &self,
        dispatch: &Dispatch,
        events: &RecordBatch,
        row: usize,
        at: i64,
        course: &mut Course,
    ) -> Result<(), Wrong> {
        if self.names.is_null(events, row) {
            return Err(("null_order", "the order is null".to_owned()));
        }
        let o = &dispatch.orders;
        let id = id_at(&self.ids, row);
        let event = meaning(&o.words, text(events, o.event, row))?;
        if event != OrderEvent::Created {
            return course.close(&id, event);
        }
        let reward = amount(&self.reward, row, "bad_reward", -AMOUNT_MAX)?.unwrap_or(0.0);
        let trip_secs = amount(&self.trip_secs, row, "bad_duration", 0.0)?.unwrap_or(0.0);
        let patience = amount(&self.patience_secs, row, "bad_patience", 0.0)?;
        let until = patience.map_or(i64::MAX, |secs| at.saturating_add(libm::round(secs * 1e6) as i64));
        let pickup = spot(dispatch, events, row, &self.pickup, Coding::Nothing, &[])?;
        let destination = match (&self.destination, dispatch.coding) {
            (_, Coding::Nothing) => None,
            (Some(place), coding) => Some(spot(dispatch, events, row, place, coding, &o.cell)?),
            (None, _) => Some(Spot { told: [0.0; 2], cell: cell(events, row, &o.cell)? }),
        };
        course.create(dispatch, &id, Order { since: at, until, pickup, destination, reward, trip_secs })
    }
}

fn tell_value(dispatch: &Dispatch, events: &RecordBatch, row: usize, course: &mut Course) -> Result<(), Wrong> {
    let input = dispatch.values.as_ref().expect("there is no third input without");
    let value = events.column(input.value).as_primitive::<Float64Type>();
    let value = value.is_valid(row).then(|| value.value(row));
    let (cell, value) = values::check(text(events, input.cell, row), value)?;
    course.value(cell, value);
    Ok(())
}

/// A place with the cell by which it is known, if there is one.
fn spot(
    dispatch: &Dispatch,
    events: &RecordBatch,
    row: usize,
    place: &[Float64Array; 2],
    coding: Coding,
    key: &[usize],
) -> Result<Spot, Wrong> {
    let told = [0, 1].map(|i| place[i].is_valid(row).then(|| place[i].value(row)));
    let told = dispatch.metric.check(told)?;
    Ok(Spot { told, cell: coding.cell(told, || cell(events, row, key))? })
}

/// The name of a row's cell.
pub fn cell(events: &RecordBatch, row: usize, key: &[usize]) -> Result<String, Wrong> {
    let cells: Vec<Value> = key.iter().map(|c| Value::at(events.column(*c), row)).collect();
    cell_name(cells.iter()).ok_or_else(|| ("bad_cell", "a part of the cell is null".to_owned()))
}

/// A number from `least` on, if there is a column for it.
fn amount(column: &Option<Float64Array>, row: usize, reason: &'static str, least: f64) -> Result<Option<f64>, Wrong> {
    let Some(column) = column else { return Ok(None) };
    let amount = column.value(row);
    if column.is_valid(row) && (least..=AMOUNT_MAX).contains(&amount) {
        return Ok(Some(amount + 0.0));
    }
    Err((reason, format!("it is null, NaN, below {least} or above {AMOUNT_MAX}")))
}

/// A column of numbers as floats.
pub fn floats(events: &RecordBatch, column: usize) -> Float64Array {
    let column = cast(events.column(column), &DataType::Float64).expect("int64 and float64 are floats");
    column.as_primitive::<Float64Type>().clone()
}

/// A text, if there is one.
pub fn text(events: &RecordBatch, column: usize, row: usize) -> Option<&str> {
    let column = events.column(column).as_string::<i32>();
    column.is_valid(row).then(|| column.value(row))
}
