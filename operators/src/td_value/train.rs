//! Learns an offline value function from a recorded history, by dynamic programming over (time slot, cell) or by a network.
//!
//! The programming is [`crate::dispatch::offline`]'s (Xu et al., KDD 2018, section 3), the network [`super::fit`]'s (after
//! CVNet). Slots are those of the local day; what a day of the history ends with is worth 0. Either way the result is a table:
//! of the network, its value in every slot at every cell the history names, at the mean of the places that were told of a
//! key's cell, and in the middle of a tile's (the five shifts of the grids that share its name add up to 0).

use std::collections::BTreeMap;

use super::artefact::{Artefact, fits};
use super::calendar::DAY;
use super::fit::{Examples, Fit, Fitting, State};
use super::options::Grid;
use crate::dispatch::offline::{Offline, Recorded, spread};
use crate::dispatch::tiles::{Place, TILED_CELLS, tile_name, tiles};
use crate::h3;

/// How it is learned.
#[derive(Clone, Copy, Debug)]
pub struct Training {
    /// What cells places have, if that of their key is not the only one.
    pub grid: Option<Grid>,
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
    /// How often the programming goes through the transitions of a slot, if some of them end in it.
    pub sweeps: usize,
}

/// A recorded transition.
#[derive(Clone, Debug)]
pub struct Record {
    /// When it began.
    pub at: i64,
    /// The name of the cell it began in; with hexagons it does not count.
    pub from: String,
    /// The name of the cell it ended in; with hexagons anything. `None` ends the episode.
    pub to: Option<String>,
    /// Where it began and ended: wanted with tiles, and with hexagons, in degrees, latitude first.
    pub places: [(f64, f64); 2],
    /// What was earned.
    pub reward: f64,
    /// How long it took, in seconds.
    pub secs: f64,
    /// As how long that is discounted, in seconds.
    pub counted_secs: f64,
}

/// The history as far as it has been read.
#[derive(Debug)]
pub struct Trainer {
    training: Training,
    numbers: BTreeMap<String, u32>,
    /// Of each cell the sum of the places it stands for, and how many.
    points: Vec<[f64; 3]>,
    history: Vec<Recorded>,
    /// What a network learns from, if one is to.
    network: Option<(Fitting, Examples)>,
}

impl Trainer {
    /// Nothing yet.
    pub fn new(training: Training) -> Trainer {
        Trainer { training, numbers: BTreeMap::new(), points: Vec::new(), history: Vec::new(), network: None }
    }

    /// Nothing yet, and later a network ([`Trainer::fit`]). With sizes of tiles every record must have its places.
    pub fn of_network(training: Training, fitting: Fitting) -> Trainer {
        let examples = Examples::new(fitting.sizes.clone());
        Trainer { network: Some((fitting, examples)), ..Trainer::new(training) }
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
        let is_duration = |secs: f64| (0.0..1e12).contains(&secs);
        if !is_duration(record.secs) || !is_duration(record.counted_secs) {
            return Err("bad_duration");
        }
        let finest = self.network.iter().flat_map(|(fitting, _)| &fitting.sizes).copied().reduce(f64::min);
        let has_tiles = |size: f64, (x, y): (f64, f64)| tiles(size, x, y).is_some();
        let is_place = |i: usize| {
            let place = record.places[i];
            let is_on_grid = match self.training.grid {
                Some(Grid::Tiles(size)) => has_tiles(size, place),
                Some(Grid::H3(levels)) => levels.cell(place.0, place.1).is_some(),
                None => true,
            };
            is_on_grid && finest.is_none_or(|size| has_tiles(size, place))
        };
        if !is_place(0) || (record.to.is_some() && !is_place(1)) {
            return Err("bad_place");
        }
        let slot_micros = i64::from(slot_secs) * 1_000_000;
        let begins = record.at.saturating_add(offset).rem_euclid(DAY);
        let ends = begins + (record.secs * 1e6) as i64;
        let units = record.counted_secs / unit_secs;
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
        let discount = libm::pow(gamma, units);
        if let Some((_, examples)) = &mut self.network {
            let state = |cell: u32, place, slot| State { cell, place, slot };
            // As in the programming, a slot that was left is not come back to.
            let next = to.map(|(to, ends)| state(to.cells[0], record.places[1], ends.max(slot)));
            examples.push(state(from.cells[0], record.places[0], slot), reward, discount, next);
        }
        self.history.push(Recorded { from, slot, reward, discount, to });
        Ok(())
    }

    /// What the history says by dynamic programming.
    pub fn learn(&self) -> Artefact {
        let slots = self.slots();
        let (sweeps, width) = (self.training.sweeps, self.training.grid.map_or(1, |grid| grid.width()));
        let offline = Offline::learn_in(sweeps, width, self.numbers.len(), slots, &self.history);
        let made = format!("dynamic programming, {sweeps} sweeps; {}", self.how());
        self.artefact(made, |slot, cell| offline.cell(slot, cell).unwrap_or(f64::NAN))
    }

    /// A network that learns what the history says; `None` if this is not [`Trainer::of_network`].
    pub fn fit(&self) -> Option<Fit<'_>> {
        let (fitting, examples) = self.network.as_ref()?;
        Some(Fit::new(fitting, examples, &self.how()))
    }

    /// What a network has learned.
    pub fn learned(&self, fit: &Fit<'_>) -> Artefact {
        let made = format!("network after {} of {}", fit.step(), fit.how());
        self.artefact(made, |slot, cell| {
            let [x, y, count] = self.points[cell as usize];
            fit.value(State { cell, place: (x / count, y / count), slot })
        })
    }

    fn artefact(&self, made: String, value: impl Fn(u32, u32) -> f64) -> Artefact {
        let Training { grid, gamma, unit_secs, slot_secs, .. } = self.training;
        let finite = |slot: u32, cell: u32| Some(value(slot, cell)).filter(|v| v.is_finite()).unwrap_or(f64::NAN);
        let values = (0..self.slots())
            .flat_map(|slot| self.numbers.values().map(move |cell| (slot, *cell)))
            .map(|(s, c)| finite(s, c));
        Artefact {
            fits: fits(grid, gamma, unit_secs),
            made,
            slot: i64::from(slot_secs) * 1_000_000,
            slots: self.slots() as usize,
            values: values.collect(),
            names: self.numbers.keys().cloned().collect(),
        }
    }

    fn slots(&self) -> u32 {
        let slot = i64::from(self.training.slot_secs) * 1_000_000;
        (DAY.div_euclid(slot) + i64::from(DAY % slot != 0)) as u32
    }

    /// Everything beside the history that changes the result.
    fn how(&self) -> String {
        let Training { grid, gamma, unit_secs, slot_secs, offset, spread, .. } = self.training;
        let rewards = if spread { "spread" } else { "whole" };
        format!(
            "{}; slots of {slot_secs} s, local time UTC {:+} s, rewards {rewards}",
            fits(grid, gamma, unit_secs),
            offset as f64 / 1e6
        )
    }

    fn place(&mut self, key: &str, (x, y): (f64, f64)) -> Place {
        if let Some(Grid::H3(levels)) = self.training.grid {
            let mut cells = [0; TILED_CELLS];
            let finest = levels.cell(x, y).expect("it was looked at");
            for (number, cell) in cells.iter_mut().zip(levels.with_parents(finest)) {
                let (latitude, longitude) = h3::middle(cell);
                *number = self.number(&cell.to_string());
                self.points[*number as usize] = [latitude, longitude, 1.0];
            }
            return Place { cells };
        }
        let mut cells = [self.number(key); TILED_CELLS];
        let [sum_x, sum_y, count] = &mut self.points[cells[0] as usize];
        (*sum_x, *sum_y, *count) = (*sum_x + x, *sum_y + y, *count + 1.0);
        if let Some(Grid::Tiles(size)) = self.training.grid {
            for (cell, (x, y)) in cells[1..].iter_mut().zip(tiles(size, x, y).into_iter().flatten()) {
                *cell = self.number(&tile_name(x, y));
                self.points[*cell as usize] = [x as f64 * size, y as f64 * size, 1.0];
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
        self.points.push([0.0; 3]);
        number
    }
}
