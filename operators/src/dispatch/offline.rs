//! Offline value functions: what a place is worth at a time of day, by dynamic programming over recorded history.
//!
//! Xu et al., "Large-Scale Order Dispatch in On-Demand Ride-Hailing Platforms: A Learning and Planning Approach",
//! KDD 2018, section 3: time is cut into slots; from the last slot backwards, each state is worth the mean over its
//! recorded transitions of R_γ + γ^Δt · V(s′, t′), where the fee R is spread over the trip,
//! R_γ = Σ_{t<T} γ^t · R/T with T the slots it took. At the end of the history's day every value is 0.
//!
//! READING, ours, where their slots were too coarse: Δt may be a fraction of a slot, and a transition may end in the slot
//! in which it began. The means of a slot are then a fixed point, found by sweeps. With tiles each cell holds the mean of
//! the targets of its transitions and V is the mean of cells: an averager in the sense of Gordon (1995), so it converges.

use super::tiles::{Coding, Place, TILED_CELLS};

/// How often the transitions of a slot are gone through.
pub const SWEEPS: usize = 4;

/// A recorded transition.
#[derive(Clone, Copy, Debug)]
pub struct Recorded {
    /// Where it began.
    pub from: Place,
    /// In which slot of the day.
    pub slot: u32,
    /// What it was worth, discounted as the caller wants it: see [`spread`].
    pub reward: f64,
    /// γ^Δt.
    pub discount: f64,
    /// Where and in which slot it ended; `None`: with the day, and nothing comes after.
    pub to: Option<(Place, u32)>,
}

/// A value function of cell and slot.
#[derive(Clone, Debug, PartialEq)]
pub struct Offline {
    width: usize,
    cells: usize,
    /// By slot and cell. NaN where nothing was recorded.
    values: Vec<f64>,
}

/// A fee spread over the units of time it took, discounted: γ^0·R/T + … + γ^(T−1)·R/T (Xu 2018). A T of 0 counts as 1.
pub fn spread(reward: f64, gamma: f64, units: u32) -> f64 {
    let units = units.max(1);
    let mut sum = 0.0;
    let mut discount = 1.0;
    for _ in 0..units {
        sum += discount;
        discount *= gamma;
    }
    sum * reward / f64::from(units)
}

impl Offline {
    /// What history says of cells numbered below `cells` in slots below `slots`. Transitions of one slot may come in any
    /// order but the order is part of the result (sums of floats): it must be canonical.
    pub fn learn(coding: Coding, cells: usize, slots: u32, history: &[Recorded]) -> Offline {
        let width = if coding == Coding::Tabular { 1 } else { TILED_CELLS };
        Offline::learn_in(SWEEPS, width, cells, slots, history)
    }

    /// As [`Offline::learn`], in so many sweeps, of places that are the means of that many cells.
    pub fn learn_in(sweeps: usize, width: usize, cells: usize, slots: u32, history: &[Recorded]) -> Offline {
        let mut offline = Offline { width, cells, values: vec![f64::NAN; cells * slots as usize] };
        let mut by_slot: Vec<Vec<u32>> = vec![Vec::new(); slots as usize];
        for (at, recorded) in history.iter().enumerate() {
            by_slot[recorded.slot as usize].push(at as u32);
        }
        let mut sums = vec![(0.0f64, 0u32); cells];
        for slot in (0..slots).rev() {
            let of_slot = &by_slot[slot as usize];
            let is_within = |r: &Recorded| r.to.is_some_and(|(_, to)| to <= slot);
            let sweeps = if of_slot.iter().any(|at| is_within(&history[*at as usize])) { sweeps } else { 1 };
            for _ in 0..sweeps {
                sums.fill((0.0, 0));
                for at in of_slot {
                    let recorded = &history[*at as usize];
                    // A slot that was left is not come back to: what ends before it ends in it.
                    let next = recorded.to.map_or(0.0, |(place, to)| offline.of(to.max(slot), &place));
                    let target = recorded.reward + recorded.discount * next;
                    for cell in &recorded.from.cells[..width] {
                        let (sum, n) = &mut sums[*cell as usize];
                        *sum += target;
                        *n += 1;
                    }
                }
                let values = &mut offline.values[slot as usize * cells..][..cells];
                for (value, (sum, n)) in values.iter_mut().zip(&sums) {
                    if *n > 0 {
                        *value = sum / f64::from(*n);
                    }
                }
            }
        }
        offline
    }

    /// V of a place in a slot: the mean of those of its cells that are known, 0 if none is.
    pub fn of(&self, slot: u32, place: &Place) -> f64 {
        if self.width == 1 {
            return self.cell(slot, place.cells[0]).unwrap_or(0.0);
        }
        let known = place.cells[..self.width].iter().filter_map(|cell| self.cell(slot, *cell));
        let (sum, count) = known.fold((0.0, 0u32), |(sum, n), value| (sum + value, n + 1));
        if count == 0 { 0.0 } else { sum / f64::from(count) }
    }

    /// The value of a cell in a slot, if anything was recorded there. Slots beyond the last are the last.
    pub fn cell(&self, slot: u32, cell: u32) -> Option<f64> {
        let slot = (slot as usize).min(self.slots().saturating_sub(1));
        let at = slot * self.cells + cell as usize;
        let value = *self.values.get(at).filter(|_| (cell as usize) < self.cells)?;
        (!value.is_nan()).then_some(value)
    }

    /// How many slots a day has.
    pub fn slots(&self) -> usize {
        self.values.len().checked_div(self.cells).unwrap_or(0)
    }
}
