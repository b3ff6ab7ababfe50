//! The obvious dispatch: all events in order, every round looked at, every matching tried.
//!
//! It shares the formula of weights with the operator ([`crate::dispatch::policy`]), which tests hold to computations by
//! hand, and nothing else that computes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use engine::catalogue::{Model, Row};
use types::Value;

use super::options::{Dispatch, OrderEvent};
use super::views;
use crate::dispatch::policy::{Pair, Weight};
use crate::fleet::drivers::Report;
use crate::fleet::place::{Coding, Metric, Spot, cell_name};

/// Of a dispatch: the views after time has passed all events.
pub fn of(dispatch: &Arc<Dispatch>) -> Model {
    let dispatch = dispatch.clone();
    Arc::new(move |inputs: &[Vec<Row>]| {
        let shapes =
            [Some(&dispatch.drivers.input), Some(&dispatch.orders.input), dispatch.values.as_ref().map(|v| &v.input)];
        let mut events: BTreeMap<Row, Vec<(i64, usize, &Row)>> = BTreeMap::new();
        for (input, (rows, shape)) in inputs.iter().zip(shapes.into_iter().flatten()).enumerate() {
            for row in rows {
                let market = shape.market.iter().map(|c| row[*c].clone()).collect();
                let Value::Time(at) = row[shape.at] else { continue };
                events.entry(market).or_default().push((at, input, row));
            }
        }
        let mut out = vec![Vec::new(); 5];
        for (name, mut events) in events {
            events.sort_by_key(|e| (e.0, e.1));
            let mut market = Market::default();
            for (i, (at, input, row)) in events.iter().enumerate() {
                market.take(&dispatch, *at, *input, row);
                let next = events.get(i + 1).map_or(i64::MAX, |e| e.0);
                if next > *at {
                    market.run(&dispatch, *at, next);
                }
            }
            market.show(&name, &mut out);
        }
        out
    })
}

#[derive(Default)]
struct Market {
    /// Online drivers: the word of what they do, since when, where, and their order.
    drivers: BTreeMap<Value, (&'static str, i64, Spot, Option<Value>)>,
    orders: BTreeMap<Value, Order>,
    decisions: BTreeMap<Value, (Value, i64, f64, Weight)>,
    served: BTreeSet<Value>,
    matches: Vec<Row>,
    values: BTreeMap<String, f64>,
    has_events: bool,
    counts: [i64; 5],
    sums: [f64; 2],
}

struct Order {
    since: i64,
    until: Option<i64>,
    pickup: Spot,
    destination: Option<Spot>,
    reward: f64,
    trip_secs: f64,
}

impl Market {
    fn take(&mut self, dispatch: &Dispatch, at: i64, input: usize, row: &Row) {
        if let Some(keep) = dispatch.keep {
            let served = &self.served;
            self.decisions.retain(|order, decision| served.contains(order) || decision.1 + keep >= at);
        }
        let is_good = match input {
            0 => self.driver(dispatch, at, row),
            1 => self.order(dispatch, at, row),
            _ => self.value(dispatch, row),
        };
        self.has_events |= is_good.is_some();
    }

    fn driver(&mut self, dispatch: &Dispatch, at: i64, row: &Row) -> Option<()> {
        let d = &dispatch.drivers;
        let id = Some(row[d.driver].clone()).filter(|id| *id != Value::Null)?;
        let report = *d.words.get(text(&row[d.event])?)?;
        let spot = match report {
            Report::Online | Report::Free | Report::Position => {
                Some(spot(dispatch.metric, dispatch.coding, row, &d.place, &d.cell)?)
            }
            Report::Offline | Report::Busy => None,
        };
        let old = self.drivers.get(&id).cloned();
        match (report, old) {
            (Report::Online, None) => {
                self.drivers.insert(id, ("idle", at, spot?, None));
            }
            (Report::Offline, Some((.., order))) => {
                self.drivers.remove(&id);
                order.map(|order| self.served.remove(&order));
            }
            (Report::Position, Some((duty, since, _, order))) => {
                self.drivers.insert(id, (duty, since, spot?, order));
            }
            (Report::Free, Some(("sent" | "busy", _, _, order))) => {
                self.drivers.insert(id, ("idle", at, spot?, None));
                order.map(|order| self.served.remove(&order));
            }
            (Report::Busy, Some(("sent", _, spot, order))) => {
                self.drivers.insert(id, ("busy", at, spot, order));
            }
            _ => return None,
        }
        Some(())
    }

    fn order(&mut self, dispatch: &Dispatch, at: i64, row: &Row) -> Option<()> {
        let o = &dispatch.orders;
        let id = Some(row[o.order].clone()).filter(|id| *id != Value::Null)?;
        let event = *o.words.get(text(&row[o.event])?)?;
        let (waits, is_served) = (self.orders.contains_key(&id), self.served.contains(&id));
        if event != OrderEvent::Created {
            if !waits && !is_served {
                return None;
            }
            self.orders.remove(&id);
            if !waits {
                self.served.remove(&id);
            }
            self.counts[if event == OrderEvent::Expired { 3 } else { 4 }] += 1;
            return Some(());
        }
        let amount = |column: Option<usize>, least: f64| match column {
            None => Some(None),
            Some(c) => number(&row[c]).filter(|v| *v >= least && *v <= 1e9).map(|v| Some(v + 0.0)),
        };
        let (reward, trip_secs) = (amount(o.reward, -1e9)?, amount(o.trip_secs, 0.0)?);
        let patience = amount(o.patience_secs, 0.0)?;
        let pickup = spot(dispatch.metric, Coding::Nothing, row, &o.pickup, &[])?;
        let destination = match (dispatch.coding, &o.destination) {
            (Coding::Nothing, _) => None,
            (coding, Some(place)) => Some(spot(dispatch.metric, coding, row, place, &o.cell)?),
            (_, None) => Some(Spot { told: [0.0; 2], cell: cell_name(o.cell.iter().map(|c| &row[*c]))? }),
        };
        if waits || is_served {
            return None;
        }
        self.counts[1] += 1;
        let until = patience.map(|secs| at + libm::round(secs * 1e6) as i64);
        let (reward, trip_secs) = (reward.unwrap_or(0.0), trip_secs.unwrap_or(0.0));
        self.orders.insert(id, Order { since: at, until, pickup, destination, reward, trip_secs });
        Some(())
    }

    fn value(&mut self, dispatch: &Dispatch, row: &Row) -> Option<()> {
        let input = dispatch.values.as_ref()?;
        let cell = text(&row[input.cell])?.to_owned();
        let value = number(&row[input.value]).filter(|v| v.abs() <= 1e9)?;
        self.values.insert(cell, value + 0.0);
        Some(())
    }

    /// Every round from `from` to before `until`, with the orders that expire in between. Nothing happens in between, so
    /// that once a round matches nobody none will.
    fn run(&mut self, dispatch: &Dispatch, from: i64, until: i64) {
        let mut at = (from as f64 / dispatch.round as f64) as i64 * dispatch.round - 2 * dispatch.round;
        while at < from {
            at += dispatch.round;
        }
        while at < until {
            self.expire(at);
            if !self.round(dispatch, at) {
                break;
            }
            at += dispatch.round;
        }
        self.expire(until);
    }

    fn expire(&mut self, now: i64) {
        let count = self.orders.len();
        self.orders.retain(|_, order| order.until.is_none_or(|until| until >= now));
        self.counts[3] += (count - self.orders.len()) as i64;
    }

    fn value_of(&self, dispatch: &Dispatch, spot: &Spot) -> f64 {
        let cells = spot.cells(dispatch.metric, dispatch.coding);
        let value = |cell: &String| self.values.get(cell).copied().unwrap_or(dispatch.values_initial);
        match dispatch.coding {
            Coding::Nothing => 0.0,
            _ => cells.iter().map(value).sum::<f64>() / cells.len() as f64,
        }
    }

    fn round(&mut self, dispatch: &Dispatch, at: i64) -> bool {
        let mut edges: Vec<Vec<(Value, f64, Weight)>> = Vec::new();
        let orders: Vec<Value> = self.orders.keys().cloned().collect();
        for order in self.orders.values() {
            let from = dispatch.metric.point(order.pickup.told);
            let mut near: Vec<(f64, &Value, &Spot)> = self
                .drivers
                .iter()
                .filter(|(_, driver)| driver.0 == "idle")
                .map(|(id, driver)| (from.distance_m(&dispatch.metric.point(driver.2.told)), id, &driver.2))
                .filter(|(distance, ..)| *distance <= dispatch.radius_m)
                .collect();
            near.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(b.1)));
            near.truncate(dispatch.nearest);
            let value_destination = order.destination.as_ref().map_or(0.0, |spot| self.value_of(dispatch, spot));
            let weigh = |(distance_m, id, spot): (f64, &Value, &Spot)| {
                let weight = dispatch.policy.weigh(&Pair {
                    distance_m,
                    pickup_secs: distance_m / dispatch.speed_m_per_sec,
                    trip_secs: order.trip_secs,
                    reward: order.reward,
                    value_destination,
                    value_origin: self.value_of(dispatch, spot),
                });
                (id.clone(), distance_m, weight)
            };
            let mut of_order: Vec<_> = near.into_iter().map(weigh).filter(|e| millionths(&e.2) > 0).collect();
            of_order.sort_by(|a, b| a.0.cmp(&b.0));
            edges.push(of_order);
        }
        let mut best = (0, vec![None; edges.len()]);
        search(&edges, &mut Vec::new(), 0, &mut best);
        let mut is_any = false;
        for (number, chosen) in best.1.iter().enumerate() {
            let Some(chosen) = chosen else { continue };
            is_any = true;
            let (driver, distance_m, weight) = edges[number][*chosen].clone();
            let order = orders[number].clone();
            self.orders.remove(&order);
            let place = self.drivers[&driver].2.clone();
            self.drivers.insert(driver.clone(), ("sent", at, place, Some(order.clone())));
            self.counts[2] += 1;
            self.sums[0] += distance_m;
            self.sums[1] += weight.total;
            self.served.insert(order.clone());
            let decision = (driver, at, distance_m, weight);
            self.matches.push(decided(&order, &decision));
            self.decisions.insert(order, decision);
        }
        self.counts[0] += i64::from(is_any);
        is_any
    }

    fn show(self, name: &Row, out: &mut [Vec<Row>]) {
        let named = |row: Row| -> Row { name.iter().cloned().chain(row).collect() };
        out[views::DECISIONS].extend(self.decisions.iter().map(|(order, decision)| named(decided(order, decision))));
        out[views::MATCHES].extend(self.matches.into_iter().map(named));
        out[views::WAITING].extend(self.orders.into_iter().map(|(id, order)| {
            let until = order.until.map_or(Value::Null, Value::Time);
            let [a, b] = order.pickup.told;
            let numbers = [order.reward, order.trip_secs, a, b].map(Value::Float);
            named([id, Value::Time(order.since), until].into_iter().chain(numbers).collect())
        }));
        out[views::IDLE].extend(self.drivers.into_iter().filter(|(_, d)| d.0 == "idle").map(
            |(id, (_, since, spot, _))| {
                named(vec![id, Value::Time(since), Value::Float(spot.told[0]), Value::Float(spot.told[1])])
            },
        ));
        if self.has_events {
            let [rounds, orders, matched, expired, cancelled] = self.counts;
            let [distance_m, weight] = self.sums;
            let totals = super::course::Totals { rounds, orders, matched, expired, cancelled, distance_m, weight };
            out[views::ROUNDS].push(named(views::totals_cells(&totals)));
        }
    }
}

fn decided(order: &Value, (driver, at, distance_m, weight): &(Value, i64, f64, Weight)) -> Row {
    let parts = [weight.total, weight.completion, weight.reward, weight.discount];
    let more = [weight.value_destination, weight.value_origin, *distance_m];
    let floats = parts.into_iter().chain(more).map(|v| Value::Float(v + 0.0));
    [order.clone(), driver.clone(), Value::Time(*at)].into_iter().chain(floats).collect()
}

fn millionths(weight: &Weight) -> i64 {
    let parts = libm::round(weight.total * 1e6);
    if parts.is_nan() { 0 } else { parts.min((1u64 << 53) as f64) as i64 }
}

type Edges = [Vec<(Value, f64, Weight)>];

/// Tries every matching; of equally good ones the first counts, where the first order has its first driver.
fn search(edges: &Edges, chosen: &mut Vec<Option<usize>>, total: i64, best: &mut (i64, Vec<Option<usize>>)) {
    let Some(of_order) = edges.get(chosen.len()) else {
        if total > best.0 {
            *best = (total, chosen.clone());
        }
        return;
    };
    for (number, (driver, _, weight)) in of_order.iter().enumerate() {
        let is_taken = chosen.iter().enumerate().any(|(order, c)| c.is_some_and(|c| edges[order][c].0 == *driver));
        if !is_taken {
            chosen.push(Some(number));
            search(edges, chosen, total + millionths(weight), best);
            chosen.pop();
        }
    }
    chosen.push(None);
    search(edges, chosen, total, best);
    chosen.pop();
}

fn text(value: &Value) -> Option<&str> {
    if let Value::Str(text) = value { Some(text) } else { None }
}

fn number(value: &Value) -> Option<f64> {
    match value {
        Value::Float(f) => Some(*f).filter(|f| !f.is_nan()),
        Value::Int(i) => Some(*i as f64),
        _ => None,
    }
}

fn spot(metric: Metric, coding: Coding, row: &Row, place: &[usize; 2], cell: &[usize]) -> Option<Spot> {
    let [a, b] = place.map(|c| number(&row[c]));
    let (a, b) = (a?, b?);
    let limits = if metric == Metric::Plane { [1e9, 1e9] } else { [90.0, 180.0] };
    if a.abs() > limits[0] || b.abs() > limits[1] {
        return None;
    }
    let cell = match coding {
        Coding::H3(levels) => h3o::LatLng::new(a, b).ok()?.to_cell(levels.finest()).to_string(),
        _ => cell_name(cell.iter().map(|c| &row[*c]))?,
    };
    Some(Spot { told: [a + 0.0, b + 0.0], cell })
}
