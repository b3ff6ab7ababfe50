//! The repositioning as a function of history: from rows to a market's course, and from there to views.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{Float64Type, TimestampMicrosecondType};
use engine::operator::{Context, HistoryOperator};

use super::course::{Cell, Course};
use super::options::Reposition;
use super::state::{DRIVER, Entry, key_of};
use super::views::Views;
use crate::dispatcher::{cell, floats, text};
use crate::fleet::Wrong;
use crate::fleet::drivers::{Report, meaning};
use crate::fleet::ids::{Id, Ids, id_at};
use crate::fleet::place::Spot;
use crate::fleet::values;
use crate::refusal::Refusal;

/// The input of cells; at one time they come first, then drivers, then values.
pub const CELLS: usize = 0;
/// As above.
pub const DRIVERS: usize = 1;

/// The greatest demand.
pub const DEMAND_MAX: f64 = 1e9;

/// The repositioning at work on one worker's markets.
pub struct Repositioner {
    shape: Arc<Reposition>,
    inputs: Vec<(usize, Ids, Refusal)>,
    driver: Ids,
    views: Views,
    markets: BTreeMap<Id, Course>,
    touched: BTreeSet<Id>,
    /// Since the process began.
    moves: u64,
}

impl Repositioner {
    /// Before the first event.
    pub fn new(shape: Arc<Reposition>) -> Repositioner {
        let inputs = [&shape.cells.input, &shape.drivers.input, &shape.values.input];
        let reading = |input: &crate::fleet::options::Input| {
            (input.at, Ids::new(&input.schema, &input.market), Refusal::new(&input.relation, &input.schema))
        };
        Repositioner {
            inputs: inputs.into_iter().map(reading).collect(),
            driver: Ids::new(&shape.drivers.input.schema, &[shape.drivers.driver]),
            views: Views::new(&shape),
            markets: BTreeMap::new(),
            touched: BTreeSet::new(),
            moves: 0,
            shape,
        }
    }

    /// Tells and stores what has changed.
    fn finish(&mut self, context: &mut Context) {
        for market in std::mem::take(&mut self.touched) {
            let course = self.markets.get_mut(&market).expect("it was touched");
            let touched = std::mem::take(&mut course.touched);
            self.moves += touched.moves.len() as u64;
            self.views.tell(&market, course, &touched, context);
            let mut put = |key: Vec<u8>, entry: Option<Entry>| {
                context.put_state(&market, &key, entry.map(|entry| entry.value(&market)).as_deref());
            };
            for id in touched.drivers.keys() {
                let driver = course.drivers.get(id).map(|d| Entry::Driver(id.clone(), d.clone()));
                put(key_of(DRIVER, id), driver);
            }
            for name in &touched.cells {
                let entry = Entry::Cell(course.cells[name].clone());
                put(entry.key(), Some(entry));
            }
            for name in &touched.values {
                let entry = Entry::Value(name.clone(), course.value_of(name));
                put(entry.key(), Some(entry));
            }
        }
    }
}

impl HistoryOperator for Repositioner {
    fn restore(&mut self, key: &[u8], value: &[u8]) {
        let (market, entry) = Entry::of(key, value);
        let shape = &self.shape;
        let course = self.markets.entry(market).or_insert_with(|| Course::new(shape));
        match entry {
            Entry::Driver(id, driver) => course.insert(id, driver),
            Entry::Cell(cell) => course.cell(shape, cell),
            Entry::Value(cell, value) => course.value(&cell, value),
        }
        course.touched = super::course::Touched::default();
    }

    fn apply(&mut self, input: usize, events: &RecordBatch, context: &mut Context) {
        let shape = self.shape.clone();
        let (time, names, _) = &self.inputs[input];
        let times = events.column(*time).as_primitive::<TimestampMicrosecondType>().clone();
        let markets = names.of(events);
        let place = match input {
            CELLS => shape.cells.place.map(|c| floats(events, c)),
            DRIVERS => shape.drivers.place.map(|c| floats(events, c)),
            _ => [(); 2].map(|()| arrow::array::Float64Array::new_null(0)),
        };
        let demands = shape.cells.demand.filter(|_| input == CELLS).map(|c| floats(events, c));
        let ids = if input == DRIVERS { self.driver.of(events) } else { None };
        for row in 0..events.num_rows() {
            let (market, at) = (id_at(&markets, row), times.value(row));
            if !self.markets.contains_key(&market) {
                self.markets.insert(market.clone(), Course::new(&shape));
            }
            let course = self.markets.get_mut(&market).expect("it is there");
            course.pass(&shape, &market, at);
            let spot = |key: &[usize]| -> Result<Spot, Wrong> {
                let told = [0, 1].map(|i| place[i].is_valid(row).then(|| place[i].value(row)));
                let told = shape.metric.check(told)?;
                Ok(Spot { told, cell: shape.coding.cell(told, || cell(events, row, key))? })
            };
            let driver = &self.driver;
            let mut tell = || -> Result<(), Wrong> {
                match input {
                    CELLS => {
                        let spot = spot(&shape.cells.cell)?;
                        let demand = match &demands {
                            None => 0.0,
                            Some(d) if d.is_valid(row) && (0.0..=DEMAND_MAX).contains(&d.value(row)) => d.value(row),
                            Some(_) => {
                                return Err((
                                    "bad_demand",
                                    "the demand is null, NaN, negative or too great".to_owned(),
                                ));
                            }
                        };
                        course.cell(&shape, Cell { spot, demand: demand + 0.0 });
                    }
                    DRIVERS => {
                        if driver.is_null(events, row) {
                            return Err(("null_driver", "the driver is null".to_owned()));
                        }
                        let d = &shape.drivers;
                        let report: Report = meaning(&d.words, text(events, d.event, row))?;
                        let spot = if report.has_place() { Some(spot(&d.cell)?) } else { None };
                        course.driver(&shape, at, &id_at(&ids, row), report, spot)?;
                    }
                    _ => {
                        let value = events.column(shape.values.value).as_primitive::<Float64Type>();
                        let value = value.is_valid(row).then(|| value.value(row));
                        let (cell, value) = values::check(text(events, shape.values.cell, row), value)?;
                        course.value(cell, value);
                    }
                }
                Ok(())
            };
            if let Err((reason, detail)) = tell() {
                self.inputs[input].2.refuse(context, events, row, 1, reason, detail);
            }
            self.touched.insert(market);
        }
        self.finish(context);
    }

    fn advance(&mut self, context: &mut Context) {
        for (market, course) in &mut self.markets {
            course.pass(&self.shape, market, context.watermark);
            if !course.touched.moves.is_empty() {
                self.touched.insert(market.clone());
            }
        }
        self.finish(context);
        let sent = self.markets.values().fold([0; 2], |sum, course| [0, 1].map(|i| sum[i] + course.sent[i]));
        let [sent, staying] = sent.map(|count| count as f64);
        context.gauge_sum("moves", self.moves as f64);
        context.gauge_mean("stay_ratio", staying, sent);
    }
}
