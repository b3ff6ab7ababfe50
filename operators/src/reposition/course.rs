//! One market as its time passes: who has been idle since when, and where they are sent.
//!
//! A driver is asked once for every report: after it was sent it must have been heard of, and have been idle for as long
//! again, before it is sent on. So there are no more moves than reports, and a record that ends has no moves without end.

use std::collections::{BTreeMap, BTreeSet};

use h3o::CellIndex;

use super::options::{Around, Reposition};
use crate::dispatch::candidates::{Candidate, Idle};
use crate::dispatch::reposition::Choice;
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
    /// Since when.
    pub since: i64,
    /// Where it was last.
    pub spot: Spot,
    /// When it is to be sent.
    pub due: Option<i64>,
    /// Whether it is where it was sent to, or on its way there.
    pub is_sent: bool,
    /// Where it was sent last.
    pub decision: Option<Decision>,
}

/// Where a driver was sent.
#[derive(Clone, Debug, PartialEq)]
pub struct Decision {
    /// When.
    pub at: i64,
    /// Where to.
    pub cell: String,
    /// Where from.
    pub from_cell: String,
    /// How likely that was.
    pub probability: f64,
    /// What the place was worth.
    pub value: f64,
    /// γ^Δt.
    pub discount: f64,
    /// How far it is.
    pub distance_m: f64,
}

/// A cell drivers may be sent to.
#[derive(Clone, Debug, PartialEq)]
pub struct Cell {
    /// Its middle, with its name.
    pub spot: Spot,
    /// How many orders are expected there.
    pub demand: f64,
}

/// What has changed since it was last told.
#[derive(Default)]
pub struct Touched {
    /// Drivers, each as it was.
    pub drivers: BTreeMap<Id, Option<Driver>>,
    /// Cells.
    pub cells: BTreeSet<String>,
    /// Cells that are worth something else.
    pub values: BTreeSet<String>,
    /// All moves, in order.
    pub moves: Vec<(Id, Decision)>,
}

/// A market.
pub struct Course {
    /// All drivers that are online.
    pub drivers: BTreeMap<Id, Driver>,
    /// All cells.
    pub cells: BTreeMap<String, Cell>,
    /// What is to be told.
    pub touched: Touched,
    values: Values,
    due: BTreeSet<(i64, Id)>,
    /// How many idle drivers are in a cell or on their way there.
    supply: BTreeMap<String, u32>,
    /// How many drivers were sent last, and how many of them to where they were.
    pub sent: [u64; 2],
    near: Idle,
    names: Vec<String>,
    numbers: BTreeMap<String, u32>,
}

impl Course {
    /// Before the first event.
    pub fn new(shape: &Reposition) -> Course {
        Course {
            drivers: BTreeMap::new(),
            cells: BTreeMap::new(),
            touched: Touched::default(),
            values: Values::new(shape.values_initial),
            due: BTreeSet::new(),
            supply: BTreeMap::new(),
            sent: [0; 2],
            near: Idle::new(if let Around::Nearest { reach_m, .. } = shape.around { reach_m } else { 1.0 }),
            names: Vec::new(),
            numbers: BTreeMap::new(),
        }
    }

    /// All events before this time have been given: sends who is due before it.
    pub fn pass(&mut self, shape: &Reposition, market: &[u8], until: i64) {
        while let Some((at, id)) = self.due.first().filter(|(at, _)| *at < until).cloned() {
            self.send(shape, market, at, &id);
        }
    }

    /// An event of a driver.
    pub fn driver(
        &mut self,
        shape: &Reposition,
        at: i64,
        id: &Id,
        report: Report,
        spot: Option<Spot>,
    ) -> Result<(), Wrong> {
        let now = next(self.drivers.get(id).map(|d| d.duty), report, false)?;
        let before = self.remove(id);
        self.touched.drivers.entry(id.clone()).or_insert_with(|| before.clone());
        let Some(duty) = now else { return Ok(()) };
        let mut driver = match before {
            Some(driver) => driver,
            None => {
                let spot = spot.clone().expect("who comes online says where");
                Driver { duty: Duty::Busy, since: at, spot, due: None, is_sent: false, decision: None }
            }
        };
        if duty != driver.duty {
            (driver.duty, driver.since, driver.due, driver.is_sent) = (duty, at, None, false);
        }
        if let Some(spot) = spot {
            driver.spot = spot;
        }
        if duty == Duty::Idle && driver.due.is_none() {
            let asked = driver.decision.as_ref().map_or(i64::MIN, |d| d.at);
            let from = driver.since.max(asked).saturating_add(shape.idle).max(at);
            driver.due = tick_from(from, shape.every);
        }
        self.insert(id.clone(), driver);
        Ok(())
    }

    /// A cell is there, or elsewhere, or expects other demand.
    pub fn cell(&mut self, shape: &Reposition, cell: Cell) {
        let name = cell.spot.cell.clone();
        let number = match self.numbers.get(&name) {
            Some(number) => *number,
            None => {
                let number = self.names.len() as u32;
                self.numbers.insert(name.clone(), number);
                self.names.push(name.clone());
                number
            }
        };
        let point = shape.metric.point(cell.spot.told);
        if let Some(old) = self.cells.insert(name.clone(), cell) {
            self.near.remove(number, shape.metric.point(old.spot.told));
        }
        self.near.insert(number, point);
        self.touched.cells.insert(name);
    }

    /// A cell is worth something else.
    pub fn value(&mut self, cell: &str, value: f64) {
        self.values.set(cell, value);
        self.touched.values.insert(cell.to_owned());
    }

    /// What a cell is worth, to be stored.
    pub fn value_of(&mut self, cell: &str) -> f64 {
        let number = self.values.number(cell);
        self.values.of(&[number])
    }

    /// Puts a driver in; also as it was stored.
    pub fn insert(&mut self, id: Id, driver: Driver) {
        if let Some(due) = driver.due {
            self.due.insert((due, id.clone()));
        }
        if let Some(cell) = supplied(&driver) {
            *self.supply.entry(cell.to_owned()).or_default() += 1;
        }
        for (count, one) in self.sent.iter_mut().zip(sent(&driver)) {
            *count += one;
        }
        self.drivers.insert(id, driver);
    }

    fn remove(&mut self, id: &Id) -> Option<Driver> {
        let driver = self.drivers.remove(id)?;
        if let Some(due) = driver.due {
            self.due.remove(&(due, id.clone()));
        }
        if let Some(count) = supplied(&driver).and_then(|cell| self.supply.get_mut(cell)) {
            *count -= 1;
        }
        for (count, one) in self.sent.iter_mut().zip(sent(&driver)) {
            *count -= one;
        }
        Some(driver)
    }

    fn choice(&mut self, shape: &Reposition, spot: &Spot, discount: f64) -> Choice {
        let cells: Vec<u32> =
            spot.cells(shape.metric, shape.coding).iter().map(|cell| self.values.number(cell)).collect();
        let supply = self.supply.get(&spot.cell).copied().unwrap_or(0).into();
        let demand = self.cells.get(&spot.cell).map_or(0.0, |cell| cell.demand);
        Choice { value: self.values.of(&cells), discount, supply, demand }
    }

    /// The cells a driver may be sent to, nearest first.
    fn near(&self, shape: &Reposition, spot: &Spot) -> Vec<Candidate> {
        let (mut near, at) = (Vec::new(), shape.metric.point(spot.told));
        let most = match shape.around {
            Around::Nearest { count, .. } => {
                self.near.each_within(&at, |c| near.push(c));
                count
            }
            Around::Rings(rings) => {
                let own: CellIndex = spot.cell.parse().expect("it is the name of a hexagon");
                let disk: Vec<CellIndex> = own.grid_disk(rings);
                // Only cells that were told of are there.
                let known = disk.iter().filter_map(|cell| self.numbers.get(&cell.to_string()));
                near.extend(known.map(|number| {
                    let there = &self.cells[&self.names[*number as usize]].spot;
                    Candidate { distance_m: at.distance_m(&shape.metric.point(there.told)), driver: *number }
                }));
                near.len()
            }
        };
        near.retain(|c| self.names[c.driver as usize] != spot.cell);
        let name = |c: &Candidate| &self.names[c.driver as usize];
        near.sort_unstable_by(|a, b| a.distance_m.total_cmp(&b.distance_m).then_with(|| name(a).cmp(name(b))));
        near.truncate(most);
        near
    }

    fn send(&mut self, shape: &Reposition, market: &[u8], at: i64, id: &Id) {
        // While it is asked it is no supply of its own.
        let mut driver = self.remove(id).expect("it is due");
        self.touched.drivers.entry(id.clone()).or_insert_with(|| Some(driver.clone()));
        let from = driver.spot.cell.clone();
        let near = self.near(shape, &driver.spot);
        let mut places = vec![(from.clone(), 0.0)];
        let mut choices = vec![self.choice(shape, &driver.spot, 1.0)];
        for candidate in near {
            let name = self.names[candidate.driver as usize].clone();
            let spot = self.cells[&name].spot.clone();
            choices.push(self.choice(shape, &spot, shape.discount(candidate.distance_m)));
            places.push((name, candidate.distance_m));
        }
        let who = [market, id].concat();
        let chosen = shape.rule.choose(&choices, shape.seed, number_of(&who), at as u64).expect("it may stay");
        let mut probabilities = Vec::new();
        shape.rule.probabilities(&choices, &mut probabilities);
        let (cell, distance_m) = places.swap_remove(chosen);
        let Choice { value, discount, .. } = choices[chosen];
        let probability = probabilities[chosen];
        let decision = Decision { at, cell, from_cell: from, probability, value, discount, distance_m };
        self.touched.moves.push((id.clone(), decision.clone()));
        (driver.due, driver.is_sent, driver.decision) = (None, true, Some(decision));
        self.insert(id.clone(), driver);
    }
}

/// Where a driver will be found idle.
fn supplied(driver: &Driver) -> Option<&str> {
    let sent_to = driver.decision.as_ref().filter(|_| driver.is_sent).map(|d| d.cell.as_str());
    (driver.duty == Duty::Idle).then(|| sent_to.unwrap_or(&driver.spot.cell))
}

/// Whether a driver was ever sent, and whether to where it was: as counts.
fn sent(driver: &Driver) -> [u64; 2] {
    let decision = driver.decision.as_ref();
    [decision.is_some(), decision.is_some_and(|d| d.cell == d.from_cell)].map(u64::from)
}

/// The first round at this time or later, if there is one.
fn tick_from(at: i64, period: i64) -> Option<i64> {
    let past = at.rem_euclid(period);
    if past == 0 { Some(at) } else { at.checked_add(period - past) }
}

/// A number of a driver's bytes (FNV-1a, 64 bits).
pub fn number_of(id: &[u8]) -> u64 {
    id.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}
