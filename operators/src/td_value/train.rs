//! Learns an offline value function from a recorded history by dynamic programming over (time slot, cell).
//!
//! The method is [`crate::dispatch::offline`]'s (Xu et al., KDD 2018, section 3). Slots are those of the local day; what a
//! day of the history ends with is worth 0.

use std::collections::BTreeMap;

use super::artefact::{Artefact, fits};
use super::calendar::DAY;
use crate::dispatch::offline::{Offline, Recorded, spread};
use crate::dispatch::tiles::{Coding, Place, TILED_CELLS, tile_name, tiles};

/// How it is learned.
#[derive(Clone, Copy, Debug)]
pub struct Training {
    /// The side of a tile, if there are tiles.
    pub tile: Option<f64>,
    /// The discount of a unit of time.
    pub gamma: f64,
    /// The unit, in seconds.
    pub unit_secs: f64,
    /// How long a slot is, in seconds.
    pub slot_secs: u32,
    /// Local time less UTC, in microseconds.
    pub offset: i64,
    /// Whether a reward is spread over its duration and discounted there, as Xu's is.
    pub spread: bool,
}

/// A recorded transition.
#[derive(Clone, Debug)]
pub struct Record {
    /// When it began.
    pub at: i64,
    /// The name of the cell it began in.
    pub from: String,
    /// The name of the cell it ended in; `None` ends the episode.
    pub to: Option<String>,
    /// Where it began and ended: wanted with tiles.
    pub places: [(f64, f64); 2],
    /// What was earned.
    pub reward: f64,
    /// How long it took, in seconds.
    pub secs: f64,
}

/// The history as far as it has been read.
#[derive(Debug)]
pub struct Trainer {
    training: Training,
    numbers: BTreeMap<String, u32>,
    history: Vec<Recorded>,
}

impl Trainer {
    /// Nothing yet.
    pub fn new(training: Training) -> Trainer {
        Trainer { training, numbers: BTreeMap::new(), history: Vec::new() }
    }

    /// How many transitions were taken.
    pub fn len(&self) -> usize {
        self.history.len()
    }

    /// Whether none was.
    pub fn is_empty(&self) -> bool {
        self.history.is_empty()
    }

    /// One more transition. The error says why it is refused.
    pub fn record(&mut self, record: &Record) -> Result<(), &'static str> {
        let Training { gamma, unit_secs, slot_secs, offset, .. } = self.training;
        if !record.reward.is_finite() {
            return Err("bad_reward");
        }
        if !(record.secs >= 0.0 && record.secs < 1e12) {
            return Err("bad_duration");
        }
        let is_place =
            |i: usize| self.training.tile.is_none_or(|s| tiles(s, record.places[i].0, record.places[i].1).is_some());
        if !is_place(0) || (record.to.is_some() && !is_place(1)) {
            return Err("bad_place");
        }
        let slot_micros = i64::from(slot_secs) * 1_000_000;
        let begins = record.at.saturating_add(offset).rem_euclid(DAY);
        let ends = begins + (record.secs * 1e6) as i64;
        let units = record.secs / unit_secs;
        let reward = if self.training.spread {
            spread(record.reward, gamma, libm::ceil(units).min(1e6) as u32)
        } else {
            record.reward
        };
        let to = match &record.to {
            Some(to) if ends < DAY => Some((self.place(to, record.places[1]), (ends / slot_micros) as u32)),
            _ => None,
        };
        let from = self.place(&record.from, record.places[0]);
        let slot = (begins / slot_micros) as u32;
        self.history.push(Recorded { from, slot, reward, discount: libm::pow(gamma, units), to });
        Ok(())
    }

    /// What the history says.
    pub fn learn(&self) -> Artefact {
        let Training { tile, gamma, unit_secs, slot_secs, .. } = self.training;
        let slot = i64::from(slot_secs) * 1_000_000;
        let slots = DAY.div_euclid(slot) + i64::from(DAY % slot != 0);
        let coding = tile.map_or(Coding::Tabular, |size| Coding::Tiles { size });
        let offline = Offline::learn(coding, self.numbers.len(), slots as u32, &self.history);
        let value = |slot: u32, cell: u32| offline.cell(slot, cell).filter(|v| v.is_finite()).unwrap_or(f64::NAN);
        let values = (0..slots as u32).flat_map(|slot| self.numbers.values().map(move |cell| value(slot, *cell)));
        Artefact {
            fits: fits(tile, gamma, unit_secs),
            slot,
            slots: slots as usize,
            values: values.collect(),
            names: self.numbers.keys().cloned().collect(),
        }
    }

    fn place(&mut self, key: &str, (x, y): (f64, f64)) -> Place {
        let mut cells = [self.number(key); TILED_CELLS];
        if let Some(tiles) = self.training.tile.and_then(|size| tiles(size, x, y)) {
            for (cell, (x, y)) in cells[1..].iter_mut().zip(tiles) {
                *cell = self.number(&tile_name(x, y));
            }
        }
        Place { cells }
    }

    fn number(&mut self, name: &str) -> u32 {
        if let Some(number) = self.numbers.get(name) {
            return *number;
        }
        let number = self.numbers.len() as u32;
        self.numbers.insert(name.to_owned(), number);
        number
    }
}
