//! The value function: one table of cells, moved by every transition of the fleet, re-anchored at change points.
//!
//! **Value.** V(s) is the mean of the cells of the place s ([`super::tiles`]).
//!
//! **Update** (semi-gradient TD(0) of a semi-Markov process). A transition from s to s′ in time Δt with reward r has the
//! error δ = r + γ^Δt · V(s′) − V(s), and every cell of s moves by α·δ, hence V(s) by α·δ as well (as Polar Bear's does).
//! V1D3 takes one gradient step a round on the sum of δ² over the whole population, dispatched and idle drivers alike
//! (its section 4.2). READING, ours: the steps of a round are taken one driver after the other, in the order of their
//! ids, each seeing the values the one before left: with hundreds of idle drivers in a cell a joint step would be as
//! many times too long, and step sizes would have to depend on the size of the fleet.
//!
//! **Change points.** At given times the whole table moves: V ← keep · V + (1 − keep) · anchor. With the anchor an offline
//! value function at that time of day and keep = ω = 0.2 that is V1D3's periodic ensemble; with a constant anchor it
//! clears a table (keep = 0) or carries a part over to the next day or slot. READING: with tiles, each cell is blended
//! with the offline function's own cell, which is the blend of the functions because both are means of their cells.
//! It is lazy: a change point costs nothing, and a cell catches up when it is read, with the same arithmetic in the same
//! order, so that a lazy table equals an eager one to the last bit.

use std::sync::Arc;

use super::offline::Offline;
use super::tiles::{Coding, Place, TILED_CELLS};

/// How long a step is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum StepSize {
    /// Always α.
    Constant(f64),
    /// first / (1 + visits)^power, at least `least`; the visits are those of the place's own cell. Power 1 and first 1 is
    /// the mean of all targets; above 1/2 and at most 1 the steps meet the conditions of Robbins and Monro (1951).
    Falling {
        /// The step of the first visit.
        first: f64,
        /// How fast it falls.
        power: f64,
        /// It falls no further.
        least: f64,
    },
}

/// What the table is drawn to at a change point.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Anchor {
    /// This value, everywhere.
    Constant(f64),
    /// The offline value function in this slot of the day.
    Offline(u32),
}

/// V ← keep · V + (1 − keep) · anchor.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Change {
    /// The weight of the table as it was.
    pub keep: f64,
    /// What the rest comes from.
    pub anchor: Anchor,
}

/// What a driver went through.
#[derive(Clone, Copy, Debug)]
pub struct Transition {
    /// Where it began.
    pub from: Place,
    /// Where it ended; `None` ends the episode, whose value is 0.
    pub to: Option<Place>,
    /// What was earned.
    pub reward: f64,
    /// γ^Δt.
    pub discount: f64,
}

/// TD errors since they were last taken.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Errors {
    /// How many.
    pub count: u64,
    /// The sum of δ.
    pub sum: f64,
    /// The sum of |δ|.
    pub sum_absolute: f64,
    /// The greatest |δ|.
    pub max_absolute: f64,
}

/// A cell of the table.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Cell {
    /// Its value, as of its version.
    pub value: f64,
    /// How many transitions moved it.
    pub visits: u32,
    /// How many change points it has been through.
    pub version: u32,
}

/// The value function.
#[derive(Clone, Debug)]
pub struct Value {
    is_tiled: bool,
    step: StepSize,
    initial: f64,
    offline: Option<Arc<Offline>>,
    cells: Vec<Cell>,
    changes: Vec<Change>,
    errors: Errors,
}

/// In a column of cells that are reached: none, the episode ends.
pub const ENDS: u32 = u32::MAX;

/// A value would not have been finite; nothing was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotFinite;

impl Value {
    /// A table whose cells begin with the value `initial`.
    pub fn new(coding: Coding, step: StepSize, initial: f64) -> Value {
        let is_tiled = coding != Coding::Tabular;
        let errors = Errors::default();
        Value { is_tiled, step, initial, offline: None, cells: Vec::new(), changes: Vec::new(), errors }
    }

    /// Gives the table an offline value function to be drawn to. Change points that were before must not name one.
    pub fn set_offline(&mut self, offline: Arc<Offline>) {
        self.offline = Some(offline);
    }

    /// Makes room for cells numbered below `cells`. They have been through all change points so far in no time.
    pub fn grow(&mut self, cells: usize) {
        if cells > self.cells.len() {
            self.cells.resize(cells, Cell { value: self.initial, visits: 0, version: 0 });
        }
    }

    /// A change point.
    pub fn change(&mut self, change: Change) {
        self.changes.push(change);
    }

    /// V of a place.
    #[inline]
    pub fn of(&self, place: &Place) -> f64 {
        if !self.is_tiled {
            return self.current(place.cells[0]);
        }
        let sum = place.cells.iter().fold(0.0, |sum, cell| sum + self.current(*cell));
        sum / TILED_CELLS as f64
    }

    /// Learns from a transition. The error, or why there is none.
    #[inline]
    pub fn learn(&mut self, t: &Transition) -> Result<f64, NotFinite> {
        if !self.is_tiled {
            let mut errors = self.errors;
            let to = t.to.map(|place| place.cells[0]);
            let delta = self.learn_cell(&mut errors, t.from.cells[0], to, t.reward, t.discount);
            self.errors = errors;
            return delta;
        }
        let next = t.to.as_ref().map_or(0.0, |place| self.of(place));
        let delta = t.reward + t.discount * next - self.of(&t.from);
        self.shift(&t.from, delta)
    }

    /// Learns from transitions given as columns, in their order: quicker than one by one, and the same to the last bit.
    /// For tables without tiles. A `to` of [`ENDS`] ends the episode. How many were refused.
    pub fn learn_columns(&mut self, from: &[u32], to: &[u32], rewards: &[f64], discounts: &[f64]) -> u64 {
        assert!(!self.is_tiled, "places of several cells are learned by `learn_all`");
        let mut refused = 0;
        // Errors are summed in registers, not in memory.
        let mut errors = self.errors;
        for (((from, to), reward), discount) in from.iter().zip(to).zip(rewards).zip(discounts) {
            let to = (*to != ENDS).then_some(*to);
            refused += u64::from(self.learn_cell(&mut errors, *from, to, *reward, *discount).is_err());
        }
        self.errors = errors;
        refused
    }

    #[inline(always)]
    fn learn_cell(
        &mut self,
        errors: &mut Errors,
        from: u32,
        to: Option<u32>,
        reward: f64,
        discount: f64,
    ) -> Result<f64, NotFinite> {
        let next = to.map_or(0.0, |cell| self.current(cell));
        let value = self.current(from);
        let delta = reward + discount * next - value;
        let step = match self.step {
            StepSize::Constant(step) => step,
            StepSize::Falling { .. } => self.falling_step(self.cells[from as usize].visits),
        };
        let moved = value + step * delta;
        if !moved.is_finite() {
            return Err(NotFinite);
        }
        let version = self.changes.len() as u32;
        let cell = &mut self.cells[from as usize];
        *cell = Cell { value: moved + 0.0, visits: cell.visits.saturating_add(1), version };
        errors.add(delta);
        Ok(delta)
    }

    /// Learns that a driver stayed where it is, in vain, for a time with the discount γ^Δt.
    #[inline]
    pub fn learn_idle(&mut self, place: &Place, discount: f64) -> Result<f64, NotFinite> {
        let value = self.of(place);
        self.shift(place, discount * value - value)
    }

    /// Learns from all transitions of a round, in the order given, which must be canonical (by the id of the driver). How
    /// many were refused because a value would not have been finite.
    pub fn learn_all<'a>(&mut self, transitions: impl IntoIterator<Item = &'a Transition>) -> u64 {
        let mut refused = 0;
        for transition in transitions {
            refused += u64::from(self.learn(transition).is_err());
        }
        refused
    }

    /// Moves a place by α times an error that was found elsewhere: Polar Bear's matched drivers move by the weight of
    /// their edge.
    #[inline]
    pub fn shift(&mut self, place: &Place, delta: f64) -> Result<f64, NotFinite> {
        let step = self.step(place) * delta;
        let count = if self.is_tiled { TILED_CELLS } else { 1 };
        let now = self.changes.len() as u32;
        let mut moved = [0.0; TILED_CELLS];
        let mut is_finite = true;
        for (moved, cell) in moved[..count].iter_mut().zip(&place.cells) {
            *moved = self.current(*cell) + step;
            is_finite &= moved.is_finite();
        }
        if !is_finite {
            return Err(NotFinite);
        }
        for (moved, cell) in moved[..count].iter().zip(&place.cells) {
            let cell = &mut self.cells[*cell as usize];
            *cell = Cell { value: moved + 0.0, visits: cell.visits.saturating_add(1), version: now };
        }
        self.errors.add(delta);
        Ok(delta)
    }

    /// How many transitions moved a place's own cell.
    pub fn visits(&self, place: &Place) -> u32 {
        self.cells[place.cells[0] as usize].visits
    }

    /// The TD errors since the last call.
    pub fn take_errors(&mut self) -> Errors {
        std::mem::take(&mut self.errors)
    }

    /// All cells with what has been asked of them so far: what a snapshot holds.
    pub fn cells(&self) -> &[Cell] {
        &self.cells
    }

    /// All change points so far.
    pub fn changes(&self) -> &[Change] {
        &self.changes
    }

    /// Puts a table back as [`Value::cells`] and [`Value::changes`] gave it.
    pub fn restore(&mut self, cells: Vec<Cell>, changes: Vec<Change>) {
        self.cells = cells;
        self.changes = changes;
    }

    /// A cell's value after all change points.
    #[inline]
    pub fn current(&self, cell: u32) -> f64 {
        let at = &self.cells[cell as usize];
        if at.version as usize == self.changes.len() { at.value } else { self.caught_up(cell) }
    }

    #[cold]
    fn caught_up(&self, cell: u32) -> f64 {
        let at = &self.cells[cell as usize];
        self.changes[at.version as usize..].iter().fold(at.value, |value, change| {
            let anchor = match change.anchor {
                Anchor::Constant(anchor) => anchor,
                // What the offline function does not know it says nothing of.
                Anchor::Offline(slot) => match self.offline.as_ref().and_then(|o| o.cell(slot, cell)) {
                    Some(anchor) => anchor,
                    None => return value,
                },
            };
            change.keep * value + (1.0 - change.keep) * anchor
        })
    }

    #[inline]
    fn step(&self, place: &Place) -> f64 {
        match self.step {
            StepSize::Constant(step) => step,
            StepSize::Falling { .. } => self.falling_step(self.visits(place)),
        }
    }

    fn falling_step(&self, visits: u32) -> f64 {
        match self.step {
            StepSize::Constant(step) => step,
            StepSize::Falling { first, power, least } => (first / libm::pow(1.0 + f64::from(visits), power)).max(least),
        }
    }
}

impl Errors {
    #[inline(always)]
    fn add(&mut self, delta: f64) {
        let size = delta.abs();
        self.count += 1;
        self.sum += delta;
        self.sum_absolute += size;
        if size > self.max_absolute {
            self.max_absolute = size;
        }
    }
}
