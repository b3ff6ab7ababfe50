//! One market as its time passes: who waits where, which orders are open, and the rounds in which they meet.
//!
//! A round is due at every multiple of the period. It sees every event of its own time and before, so it is held when
//! time is known to have passed it. Between two events a round that matches nobody is like the one before, so after one
//! nothing is weighed until something happens.

use std::collections::{BTreeMap, BTreeSet};
use std::mem::replace;

use super::options::{Dispatch, OrderEvent};
use crate::dispatch::candidates::{Idle, Point};
use crate::dispatch::matching::{Edge, best};
use crate::dispatch::policy::{Pair, Weight};
use crate::fleet::Wrong;
use crate::fleet::drivers::{Duty, Report, next};
use crate::fleet::ids::Id;
use crate::fleet::place::Spot;
use crate::fleet::values::Values;

/// A driver who is online.
#[derive(Clone, Debug, PartialEq)]
pub struct Driver {
    /// What it does.
    pub duty: Duty,
    /// Since when, in event time.
    pub since: i64,
    /// Where it was last.
    pub spot: Spot,
    /// The order it was sent to and has not ended.
    pub order: Option<Id>,
}

/// An order that waits.
#[derive(Clone, Debug, PartialEq)]
pub struct Order {
    /// Since when.
    pub since: i64,
    /// The last moment at which it may be matched.
    pub until: i64,
    /// Where it begins.
    pub pickup: Spot,
    /// Where it ends, if values count.
    pub destination: Option<Spot>,
    /// What it earns.
    pub reward: f64,
    /// How long it takes.
    pub trip_secs: f64,
}

/// The last decision on an order.
#[derive(Clone, Debug, PartialEq)]
pub struct Decision {
    /// Who was sent.
    pub driver: Id,
    /// In which round.
    pub at: i64,
    /// How far it was.
    pub distance_m: f64,
    /// What it was worth, with its parts.
    pub weight: Weight,
    /// Whether the driver has ended it, or the passenger.
    pub is_over: bool,
}

/// What has happened in a market.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Totals {
    /// Rounds that matched somebody.
    pub rounds: i64,
    /// Orders that came.
    pub orders: i64,
    /// Orders that were matched.
    pub matched: i64,
    /// Orders that waited too long.
    pub expired: i64,
    /// Orders that were cancelled.
    pub cancelled: i64,
    /// The sum of pickup distances.
    pub distance_m: f64,
    /// The sum of weights.
    pub weight: f64,
}

/// What of a market has changed since it was last told: each thing as it was.
#[derive(Default)]
pub struct Touched {
    /// Drivers.
    pub drivers: BTreeMap<Id, Option<Driver>>,
    /// Open orders.
    pub orders: BTreeMap<Id, Option<Order>>,
    /// Decisions.
    pub decisions: BTreeMap<Id, Option<Decision>>,
    /// Cells.
    pub cells: BTreeSet<String>,
    /// Totals, if anything at all has happened.
    pub totals: Option<Option<Totals>>,
    /// All matches, in order: the order and the decision.
    pub matches: Vec<(Id, Decision)>,
}

/// A driver in the pool.
struct Waiting {
    driver: Id,
    point: Point,
    cells: Vec<u32>,
}

/// What is worked out once of an open order.
struct Asked {
    point: Point,
    destination: Vec<u32>,
}

/// A market.
pub struct Course {
    /// All drivers that are online.
    pub drivers: BTreeMap<Id, Driver>,
    /// All orders that wait.
    pub orders: BTreeMap<Id, Order>,
    /// The last decision on every order that was ever matched, as long as it is kept.
    pub decisions: BTreeMap<Id, Decision>,
    /// What has happened; none before the first event.
    pub totals: Option<Totals>,
    /// Every time before this has passed, at least.
    pub passed: i64,
    /// What is to be told.
    pub touched: Touched,
    values: Values,
    /// Whether a round could differ from the one before.
    is_due: bool,
    expiries: BTreeSet<(i64, Id)>,
    /// Decisions that are over, by their time; empty if they are kept for ever.
    over: BTreeSet<(i64, Id)>,
    keep: Option<i64>,
    asked: BTreeMap<Id, Asked>,
    idle: Idle,
    seats: Vec<Option<Waiting>>,
    free: Vec<u32>,
    seat_of: BTreeMap<Id, u32>,
}

impl Course {
    /// Before the first event.
    pub fn new(dispatch: &Dispatch) -> Course {
        Course {
            drivers: BTreeMap::new(),
            orders: BTreeMap::new(),
            decisions: BTreeMap::new(),
            totals: None,
            passed: i64::MIN,
            touched: Touched::default(),
            values: Values::new(dispatch.values_initial),
            is_due: true,
            expiries: BTreeSet::new(),
            over: BTreeSet::new(),
            keep: dispatch.keep,
            asked: BTreeMap::new(),
            idle: Idle::new(dispatch.radius_m),
            seats: Vec::new(),
            free: Vec::new(),
            seat_of: BTreeMap::new(),
        }
    }

    /// All events before this time have been given: holds the rounds and lets go the orders that are due before it.
    pub fn pass(&mut self, dispatch: &Dispatch, until: i64) {
        // Whose last moment was that of a round may go after it, though no time is left.
        let is_over = |expiries: &BTreeSet<(i64, Id)>| expiries.first().is_some_and(|(at, _)| *at < until);
        while self.passed < until || is_over(&self.expiries) {
            let expiry = self.expiries.first().map(|(at, _)| *at).filter(|at| *at < until);
            let can_match = self.is_due && !self.orders.is_empty() && !self.seat_of.is_empty();
            let round = if can_match { round_from(self.passed, dispatch.round) } else { None };
            match (round.filter(|at| *at < until), expiry) {
                // An order may be matched at its last moment.
                (Some(round), expiry) if expiry.is_none_or(|at| round <= at) => {
                    self.is_due = self.hold(dispatch, round);
                    self.passed = round + 1;
                }
                (_, Some(at)) => {
                    self.expire(at);
                    self.passed = self.passed.max(at);
                }
                _ => self.passed = until,
            }
        }
    }

    /// An event of this time comes next: lets go the decisions that are over and older than they are kept. The watermark does
    /// not, or a market where nothing happens any more would show nothing of how it ended.
    pub fn forget(&mut self, at: i64) {
        let Some(keep) = self.keep else { return };
        while let Some((_, id)) = self.over.first().filter(|(decided, _)| decided.saturating_add(keep) < at).cloned() {
            self.over.pop_first();
            let decision = self.decisions.remove(&id);
            self.touched.decisions.entry(id).or_insert(decision);
        }
    }

    /// An event of a driver.
    pub fn driver(
        &mut self,
        dispatch: &Dispatch,
        at: i64,
        id: &Id,
        report: Report,
        spot: Option<Spot>,
    ) -> Result<(), Wrong> {
        let before = self.drivers.get(id);
        let now = next(before.map(|d| d.duty), report, true)?;
        self.touched.drivers.entry(id.clone()).or_insert_with(|| before.cloned());
        let before = before.cloned();
        self.unseat(id);
        self.note();
        let Some(duty) = now else {
            self.drivers.remove(id);
            self.end(before.and_then(|d| d.order));
            return Ok(());
        };
        let is_new_duty = before.as_ref().is_none_or(|d| d.duty != duty);
        let (since, mut order, old) = match before {
            Some(driver) => (driver.since, driver.order, Some(driver.spot)),
            None => (at, None, None),
        };
        if duty == Duty::Idle {
            self.end(order.take());
        }
        let since = if is_new_duty { at } else { since };
        let spot = spot.or(old).expect("who comes online says where");
        self.drivers.insert(id.clone(), Driver { duty, since, spot, order });
        self.seat(dispatch, id);
        Ok(())
    }

    /// An order comes.
    pub fn create(&mut self, dispatch: &Dispatch, id: &Id, order: Order) -> Result<(), Wrong> {
        if self.orders.contains_key(id) {
            return Err(("duplicate_event", "the order waits already".to_owned()));
        }
        if self.decisions.get(id).is_some_and(|d| !d.is_over) {
            return Err(("duplicate_event", "the order is served already".to_owned()));
        }
        self.note().orders += 1;
        self.touched.orders.entry(id.clone()).or_insert(None);
        self.open(dispatch, id.clone(), order);
        Ok(())
    }

    /// An order goes.
    pub fn close(&mut self, id: &Id, event: OrderEvent) -> Result<(), Wrong> {
        let is_served = self.decisions.get(id).is_some_and(|d| !d.is_over);
        if self.orders.contains_key(id) {
            self.take_order(id);
        } else if is_served {
            self.end(Some(id.clone()));
        } else {
            return Err(("unknown_order", "no such order waits or is served".to_owned()));
        }
        let totals = self.note();
        match event {
            OrderEvent::Expired => totals.expired += 1,
            _ => totals.cancelled += 1,
        }
        Ok(())
    }

    /// A cell is worth something else.
    pub fn value(&mut self, cell: &str, value: f64) {
        self.values.set(cell, value);
        self.note();
        self.touched.cells.insert(cell.to_owned());
    }

    /// What a cell is worth, to be stored.
    pub fn value_of(&mut self, cell: &str) -> f64 {
        let number = self.values.number(cell);
        self.values.of(&[number])
    }

    /// Puts back what was stored.
    pub fn restore_driver(&mut self, dispatch: &Dispatch, id: Id, driver: Driver) {
        self.drivers.insert(id.clone(), driver);
        self.seat(dispatch, &id);
    }

    /// As above.
    pub fn restore_value(&mut self, cell: &str, value: f64) {
        self.values.set(cell, value);
    }

    /// As above; also how an order comes to wait.
    pub fn open(&mut self, dispatch: &Dispatch, id: Id, order: Order) {
        let destination = order.destination.as_ref().map_or(Vec::new(), |spot| self.cells(dispatch, spot));
        let point = dispatch.metric.point(order.pickup.told);
        self.asked.insert(id.clone(), Asked { point, destination });
        if order.until < i64::MAX {
            self.expiries.insert((order.until, id.clone()));
        }
        self.orders.insert(id, order);
    }

    fn cells(&mut self, dispatch: &Dispatch, spot: &Spot) -> Vec<u32> {
        spot.cells(dispatch.metric, dispatch.coding).iter().map(|cell| self.values.number(cell)).collect()
    }

    /// Something happens: the next round may differ.
    fn note(&mut self) -> &mut Totals {
        self.is_due = true;
        self.touched.totals.get_or_insert(self.totals);
        self.totals.get_or_insert_default()
    }

    /// Puts back what was stored.
    pub fn restore_decision(&mut self, id: Id, decision: Decision) {
        if self.keep.is_some() && decision.is_over {
            self.over.insert((decision.at, id.clone()));
        }
        self.decisions.insert(id, decision);
    }

    fn end(&mut self, order: Option<Id>) {
        let Some(order) = order else { return };
        if let Some(decision) = self.decisions.get_mut(&order) {
            if self.keep.is_some() {
                self.over.insert((decision.at, order.clone()));
            }
            self.touched.decisions.entry(order).or_insert_with(|| Some(decision.clone()));
            decision.is_over = true;
        }
    }

    fn seat(&mut self, dispatch: &Dispatch, id: &Id) {
        let driver = &self.drivers[id];
        if driver.duty != Duty::Idle {
            return;
        }
        let (point, spot) = (dispatch.metric.point(driver.spot.told), driver.spot.clone());
        let waiting = Some(Waiting { driver: id.clone(), point, cells: self.cells(dispatch, &spot) });
        let seat = match self.free.pop() {
            Some(seat) => {
                self.seats[seat as usize] = waiting;
                seat
            }
            None => {
                self.seats.push(waiting);
                (self.seats.len() - 1) as u32
            }
        };
        self.seat_of.insert(id.clone(), seat);
        self.idle.insert(seat, point);
    }

    fn unseat(&mut self, id: &Id) {
        if let Some(seat) = self.seat_of.remove(id) {
            let waiting = self.seats[seat as usize].take().expect("it is taken");
            self.idle.remove(seat, waiting.point);
            self.free.push(seat);
        }
    }

    fn take_order(&mut self, id: &Id) {
        let order = self.orders.remove(id).expect("it waits");
        self.asked.remove(id);
        self.expiries.remove(&(order.until, id.clone()));
        self.touched.orders.entry(id.clone()).or_insert(Some(order));
    }

    fn expire(&mut self, at: i64) {
        while let Some((_, id)) = self.expiries.first().filter(|(until, _)| *until == at).cloned() {
            self.take_order(&id);
            self.note().expired += 1;
        }
    }

    /// Holds a round. Whether it matched anybody.
    fn hold(&mut self, dispatch: &Dispatch, at: i64) -> bool {
        // A driver's number this round is its rank among the candidates, by id: seats are given as drivers come.
        let mut edges: Vec<(Edge, f64, Weight)> = Vec::new();
        let mut near: Vec<(f64, u32)> = Vec::new();
        for (number, (id, order)) in self.orders.iter().enumerate() {
            let asked = &self.asked[id];
            near.clear();
            self.idle.each_within(&asked.point, |c| near.push((c.distance_m, c.driver)));
            near.sort_unstable_by(|a, b| a.0.total_cmp(&b.0).then_with(|| self.name(a.1).cmp(self.name(b.1))));
            near.truncate(dispatch.nearest);
            if near.is_empty() {
                continue;
            }
            let value_destination = self.values.of(&asked.destination);
            for (distance_m, seat) in &near {
                let waiting = self.seats[*seat as usize].as_ref().expect("it is taken");
                let weight = dispatch.policy.weigh(&Pair {
                    distance_m: *distance_m,
                    pickup_secs: distance_m / dispatch.speed_m_per_sec,
                    trip_secs: order.trip_secs,
                    reward: order.reward,
                    value_destination,
                    value_origin: self.values.of(&waiting.cells),
                });
                let edge = Edge { order: number as u32, driver: *seat, weight: weight.total };
                edges.push((edge, *distance_m, weight));
            }
        }
        let mut seats: Vec<u32> = edges.iter().map(|(edge, ..)| edge.driver).collect();
        seats.sort_unstable();
        seats.dedup();
        seats.sort_by(|a, b| self.name(*a).cmp(self.name(*b)));
        let ranks: BTreeMap<u32, u32> = seats.iter().copied().zip(0..).collect();
        let ranked: Vec<Edge> = edges.iter().map(|(e, ..)| Edge { driver: ranks[&e.driver], ..*e }).collect();
        let chosen = best(&ranked);
        let ids: Vec<Id> = match chosen.is_empty() {
            true => return false,
            false => self.orders.keys().cloned().collect(),
        };
        self.note().rounds += 1;
        for position in chosen {
            let (edge, distance_m, weight) = edges[position as usize];
            let driver = self.name(edge.driver).clone();
            let decision = Decision { driver, at, distance_m, weight, is_over: false };
            self.send(ids[edge.order as usize].clone(), decision);
        }
        true
    }

    fn name(&self, seat: u32) -> &Id {
        &self.seats[seat as usize].as_ref().expect("it is taken").driver
    }

    fn send(&mut self, order: Id, decision: Decision) {
        let totals = self.note();
        totals.matched += 1;
        totals.distance_m += decision.distance_m;
        totals.weight += decision.weight.total;
        self.take_order(&order);
        self.unseat(&decision.driver);
        let driver = self.drivers.get_mut(&decision.driver).expect("it waited");
        self.touched.drivers.entry(decision.driver.clone()).or_insert_with(|| Some(driver.clone()));
        (driver.duty, driver.since, driver.order) = (Duty::Sent, decision.at, Some(order.clone()));
        self.touched.matches.push((order.clone(), decision.clone()));
        let old = self.decisions.insert(order.clone(), decision);
        if let Some(old) = &old {
            self.over.remove(&(old.at, order.clone()));
        }
        self.touched.decisions.entry(order).or_insert(old);
    }

    /// How many drivers are in the pool.
    pub fn idle(&self) -> usize {
        self.seat_of.len()
    }

    /// What has changed since the last call.
    pub fn take_touched(&mut self) -> Touched {
        replace(&mut self.touched, Touched::default())
    }
}

/// The first round at this time or later, if there is one.
fn round_from(at: i64, period: i64) -> Option<i64> {
    let past = at.rem_euclid(period);
    if past == 0 { Some(at) } else { at.checked_add(period - past) }
}
