//! A history of the city, written down as a daemon would be told it: days before the first day, for values learned offline.
//!
//! Nobody outside decides in it: as long as nothing is learned the nearest driver is sent, and whoever is idle stays where
//! it is, asked every five minutes. A function of the settings alone.

use std::collections::BTreeMap;

use operators::dispatch::candidates::{Candidate, Idle, Point};
use operators::dispatch::matching::{Edge, best};

use crate::calibration as numbers;
use crate::driver::{Moment, Settings, Teller, live};
use crate::outside::{Decisions, Dispatcher, News, What};
use crate::world::Scenario;

/// To how many drivers an order is offered.
const NEAREST: usize = 11;

/// Lives through days, and hands on the lines of each time that decisions are wanted for.
pub fn record(settings: &Settings, write: &mut dyn FnMut(&str)) -> Result<(), String> {
    let mut recorder = Recorder {
        write,
        teller: Teller::new(settings),
        waiting: BTreeMap::new(),
        idle: Idle::new(numbers::RADIUS_M),
        open: BTreeMap::new(),
    };
    live(settings, &mut recorder, &mut |recorder, moment| {
        if let Moment::Begins(number, _) = moment {
            recorder.teller.begin(number);
            recorder.waiting.clear();
            recorder.idle = Idle::new(numbers::RADIUS_M);
            recorder.open.clear();
        }
    })
}

/// Who writes down what it is told, and sends the nearest driver.
struct Recorder<'w> {
    write: &'w mut dyn FnMut(&str),
    teller: Teller,
    /// Idle drivers: where they are, and since when they have not been asked.
    waiting: BTreeMap<u32, (Point, f64)>,
    idle: Idle,
    /// Open orders, with their last moment.
    open: BTreeMap<u32, f64>,
}

impl Recorder<'_> {
    fn hear(&mut self, news: &News) {
        match news.what {
            What::Order(order) => {
                self.open.insert(order, news.at + f64::from(self.teller.patience_secs));
            }
            What::Driver { driver, event: "online" | "free", place } => self.seat(driver, place, news.at),
            What::Driver { driver, event: "position", place } => {
                if let Some((_, since)) = self.unseat(driver) {
                    self.seat(driver, place, since);
                }
            }
            What::Driver { driver, .. } => {
                self.unseat(driver);
            }
            What::Transition { .. } => {}
        }
    }

    fn seat(&mut self, driver: u32, place: Point, since: f64) {
        self.waiting.insert(driver, (place, since));
        self.idle.insert(driver, place);
    }

    fn unseat(&mut self, driver: u32) -> Option<(Point, f64)> {
        let (place, since) = self.waiting.remove(&driver)?;
        self.idle.remove(driver, place);
        Some((place, since))
    }
}

impl Dispatcher for Recorder<'_> {
    fn every_secs(&self) -> u32 {
        self.teller.every_secs
    }

    fn ask(&mut self, scenario: &Scenario<'_>, at: u32, news: &[News]) -> Result<Decisions, String> {
        (self.write)(&self.teller.lines(scenario, at, news));
        news.iter().for_each(|news| self.hear(news));
        let now = f64::from(at);
        self.open.retain(|_, until| *until >= now);
        let mut edges = Vec::new();
        let mut near: Vec<Candidate> = Vec::new();
        for order in self.open.keys() {
            self.idle.nearest(&scenario.orders[*order as usize].from, NEAREST, &mut near);
            // As many as can be, of all ways the one with the least distance: as the policy `nearest`.
            let edge = |c: &Candidate| Edge { order: *order, driver: c.driver, weight: 1e6 - c.distance_m };
            edges.extend(near.iter().map(edge));
        }
        let mut matches = Vec::new();
        for chosen in best(&edges) {
            let Edge { order, driver, .. } = edges[chosen as usize];
            self.open.remove(&order);
            self.unseat(driver);
            matches.push((order, driver));
        }
        let mut moves = Vec::new();
        for (driver, (place, since)) in &mut self.waiting {
            if now - *since >= f64::from(numbers::IDLE_SECS) {
                *since = now;
                moves.push((*driver, scenario.city.hexagons.at(place)));
            }
        }
        Ok(Decisions { matches, moves })
    }
}
