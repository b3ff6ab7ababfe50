//! The obvious repositioning: all events in order, every driver looked at in every round.
//!
//! It shares the rule of the draw with the operator ([`crate::dispatch::reposition`]), which tests hold to computations by
//! hand.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use engine::catalogue::{Model, Row};
use types::{Type, Value};

use super::course::{Decision, number_of};
use super::options::{Around, Reposition};
use super::views;
use crate::dispatch::reposition::Choice;
use crate::fleet::drivers::Report;
use crate::fleet::ids::Ids;
use crate::fleet::place::{Coding, Spot, cell_name};

/// Of a repositioning: the views after time has passed all events.
pub fn of(shape: &Arc<Reposition>) -> Model {
    let shape = shape.clone();
    Arc::new(move |inputs: &[Vec<Row>]| {
        let shapes = [&shape.cells.input, &shape.drivers.input, &shape.values.input];
        let mut events: BTreeMap<Row, Vec<(i64, usize, &Row)>> = BTreeMap::new();
        for (input, rows) in inputs.iter().enumerate() {
            for row in rows {
                let market = shapes[input].market.iter().map(|c| row[*c].clone()).collect();
                let Value::Time(at) = row[shapes[input].at] else { continue };
                events.entry(market).or_default().push((at, input, row));
            }
        }
        let mut out = vec![Vec::new(); 2];
        for (name, mut events) in events {
            events.sort_by_key(|e| (e.0, e.1));
            let d = &shape.drivers;
            let whose: Vec<usize> = d.input.market.iter().chain([&d.driver]).copied().collect();
            let mut market = Market { ids: Ids::new(&d.input.schema, &whose), ..Market::new(&shape, name.clone()) };
            for (i, (at, input, row)) in events.iter().enumerate() {
                market.take(&shape, *at, *input, row);
                let next = events.get(i + 1).map_or(i64::MAX, |e| e.0);
                market.run(&shape, *at, next);
            }
            for (id, driver) in market.drivers {
                if let Some(decision) = driver.decision {
                    let row = name.iter().cloned().chain([id]).chain(views::cells(&decision)).collect();
                    out[views::DESTINATIONS].push(row);
                }
            }
            out[views::MOVES].extend(market.moves);
        }
        out
    })
}

struct Market {
    name: Row,
    ids: Ids,
    cells: BTreeMap<String, (Spot, f64)>,
    values: BTreeMap<String, f64>,
    drivers: BTreeMap<Value, Driver>,
    moves: Vec<Row>,
}

#[derive(Clone)]
struct Driver {
    is_idle: bool,
    since: i64,
    spot: Spot,
    /// When it was last heard of, and last asked.
    heard: i64,
    asked: Option<i64>,
    heads_for: Option<String>,
    decision: Option<Decision>,
}

impl Market {
    fn new(shape: &Reposition, name: Row) -> Market {
        let schema = &shape.drivers.input.schema;
        debug_assert!(schema.columns.iter().any(|c| c.ty == Type::Timestamp));
        let ids = Ids::new(schema, &[]);
        let (cells, values, drivers) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        Market { name, ids, cells, values, drivers, moves: Vec::new() }
    }

    fn take(&mut self, shape: &Reposition, at: i64, input: usize, row: &Row) -> Option<()> {
        let number = |c: usize| match &row[c] {
            Value::Float(f) => Some(*f).filter(|f| !f.is_nan()),
            Value::Int(i) => Some(*i as f64),
            _ => None,
        };
        let text = |c: usize| if let Value::Str(text) = &row[c] { Some(text.as_str()) } else { None };
        let spot = |place: &[usize; 2], cell: &[usize]| {
            let told = shape.metric.check(place.map(number)).ok()?;
            let cell = match shape.coding {
                Coding::H3(levels) => h3o::LatLng::new(told[0], told[1]).ok()?.to_cell(levels.finest()).to_string(),
                _ => cell_name(cell.iter().map(|c| &row[*c]))?,
            };
            Some(Spot { told, cell })
        };
        match input {
            0 => {
                let spot = spot(&shape.cells.place, &shape.cells.cell)?;
                let demand = match shape.cells.demand {
                    None => 0.0,
                    Some(c) => number(c).filter(|d| *d >= 0.0 && *d <= 1e9)?,
                };
                self.cells.insert(spot.cell.clone(), (spot, demand));
            }
            1 => {
                let d = &shape.drivers;
                let id = Some(row[d.driver].clone()).filter(|id| *id != Value::Null)?;
                let report = *d.words.get(text(d.event)?)?;
                let place = if report.has_place() { Some(spot(&d.place, &d.cell)?) } else { None };
                let old = self.drivers.get(&id).cloned();
                let was_idle = old.as_ref().map(|d| d.is_idle);
                let changed = |is_idle: bool, old: Option<Driver>, place: Option<Spot>| {
                    let decision = old.as_ref().and_then(|d| d.decision.clone());
                    let asked = old.as_ref().and_then(|d| d.asked);
                    let spot = place.or(old.map(|d| d.spot)).expect("it has been somewhere");
                    Driver { is_idle, since: at, spot, heard: at, asked, heads_for: None, decision }
                };
                match (report, was_idle) {
                    (Report::Online, None) => self.drivers.insert(id, changed(true, None, place)),
                    (Report::Offline, Some(_)) => self.drivers.remove(&id),
                    (Report::Free, Some(false)) => self.drivers.insert(id, changed(true, old, place)),
                    (Report::Busy, Some(true)) => self.drivers.insert(id, changed(false, old, None)),
                    (Report::Position, Some(_)) => {
                        let old = old.expect("it is online");
                        self.drivers.insert(id, Driver { spot: place?, heard: at, ..old })
                    }
                    _ => return None,
                };
            }
            _ => {
                let value = number(shape.values.value).filter(|v| v.abs() <= 1e9)?;
                self.values.insert(text(shape.values.cell)?.to_owned(), value);
            }
        }
        Some(())
    }

    fn value(&self, shape: &Reposition, spot: &Spot) -> f64 {
        let cells = spot.cells(shape.metric, shape.coding);
        let value = |cell: &String| self.values.get(cell).copied().unwrap_or(shape.values_initial) + 0.0;
        cells.iter().fold(0.0, |sum, cell| sum + value(cell)) / cells.len() as f64
    }

    /// Every round from `from` to before `until`, as long as somebody is to be sent.
    fn run(&mut self, shape: &Reposition, from: i64, until: i64) {
        let mut at = from.div_euclid(shape.every) * shape.every;
        at += if at < from { shape.every } else { 0 };
        // Who was heard of after it was last asked, and is idle, is sent one day.
        let is_to_be_sent = |d: &Driver| d.is_idle && d.asked.is_none_or(|asked| d.heard > asked);
        while at < until && self.drivers.values().any(is_to_be_sent) {
            let ids: Vec<Value> = self.drivers.keys().cloned().collect();
            for id in ids {
                let driver = &self.drivers[&id];
                let since = driver.since.max(driver.asked.unwrap_or(i64::MIN));
                if is_to_be_sent(driver) && at - since >= shape.idle {
                    self.send(shape, at, &id);
                }
            }
            at += shape.every;
        }
    }

    fn send(&mut self, shape: &Reposition, at: i64, id: &Value) {
        let driver = self.drivers[id].clone();
        let point = shape.metric.point(driver.spot.told);
        let mut places: Vec<(f64, String, Spot)> = self
            .cells
            .values()
            .map(|(spot, _)| (point.distance_m(&shape.metric.point(spot.told)), spot.cell.clone(), spot.clone()))
            .filter(|(_, cell, _)| *cell != driver.spot.cell)
            .collect();
        places.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
        match shape.around {
            Around::Nearest { reach_m, count } => {
                places.retain(|(distance, ..)| *distance <= reach_m);
                places.truncate(count);
            }
            Around::Rings(rings) => {
                // From cell to neighbour, ring by ring.
                let mut reached = BTreeSet::from([driver.spot.cell.clone()]);
                for _ in 0..rings {
                    let cells = reached.iter().map(|cell| cell.parse::<h3o::CellIndex>().expect("a hexagon"));
                    let around: Vec<h3o::CellIndex> = cells.flat_map(|cell| cell.grid_disk::<Vec<_>>(1)).collect();
                    reached.extend(around.iter().map(h3o::CellIndex::to_string));
                }
                places.retain(|(_, cell, _)| reached.contains(cell));
            }
        }
        places.insert(0, (0.0, driver.spot.cell.clone(), driver.spot.clone()));
        let choices: Vec<Choice> = places
            .iter()
            .enumerate()
            .map(|(i, (distance, cell, spot))| {
                let heads_for = |d: &Driver| d.heads_for.clone().unwrap_or(d.spot.cell.clone());
                let others = self.drivers.iter().filter(|(other, d)| *other != id && d.is_idle);
                let supply = others.filter(|(_, d)| heads_for(d) == *cell).count() as f64;
                let demand = self.cells.get(cell).map_or(0.0, |c| c.1);
                let discount = if i == 0 { 1.0 } else { shape.discount(*distance) };
                Choice { value: self.value(shape, spot), discount, supply, demand }
            })
            .collect();
        let whose: Row = self.name.iter().cloned().chain([id.clone()]).collect();
        let number = number_of(&self.ids.id(&whose));
        let chosen = shape.rule.choose(&choices, shape.seed, number, at as u64).expect("it may stay");
        let mut probabilities = Vec::new();
        shape.rule.probabilities(&choices, &mut probabilities);
        let decision = Decision {
            at,
            cell: places[chosen].1.clone(),
            from_cell: driver.spot.cell.clone(),
            probability: probabilities[chosen],
            value: choices[chosen].value,
            discount: choices[chosen].discount,
            distance_m: places[chosen].0,
        };
        self.moves.push(whose.into_iter().chain(views::cells(&decision)).collect());
        let heads_for = Some(decision.cell.clone());
        self.drivers.insert(id.clone(), Driver { asked: Some(at), heads_for, decision: Some(decision), ..driver });
    }
}
