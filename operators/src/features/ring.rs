//! The last values of a number that changes with every tick, and what is told of a window over them.
//!
//! Ticks are numbered; a value is found by its number. The sum over a window is kept exactly ([`ExactSum`]): what went in
//! comes out again without a trace, so a sum is that of the values in the window, rounded once, however long ago the window
//! began to move.

use std::collections::VecDeque;

use crate::exact_sum::ExactSum;

/// The last values of one series.
#[derive(Clone, Debug)]
pub struct Ring {
    values: Vec<f64>,
    /// How many ticks back, the newest counted, windows of ticks look.
    reach: u64,
    /// Windows of time that look at it, by number.
    pub windows: Vec<usize>,
}

/// No ring is shorter: a piece of state holds so many ticks.
const LEAST: u64 = 64;

impl Ring {
    /// For windows that reach so far back.
    pub fn new(reach: u64, windows: Vec<usize>) -> Ring {
        Ring { values: vec![0.0; reach.max(LEAST).next_power_of_two() as usize], reach, windows }
    }

    /// How many values it can hold.
    pub fn capacity(&self) -> u64 {
        self.values.len() as u64
    }

    /// The first tick it needs when `tick` is the newest and windows begin where they do.
    pub fn needs(&self, tick: u64, windows: &[Window]) -> u64 {
        let ticks = (tick + 1).saturating_sub(self.reach);
        // One before the first, for what was before a window.
        let times = self.windows.iter().map(|w| windows[*w].start.saturating_sub(1));
        times.fold(ticks, u64::min)
    }

    /// Puts a tick's value in, where `needs` is the first tick that is still needed.
    pub fn put(&mut self, tick: u64, value: f64, needs: u64) {
        if tick - needs.min(tick) >= self.capacity() {
            let old = std::mem::take(&mut self.values);
            let wanted = (tick - needs + 1).next_power_of_two();
            self.values = vec![0.0; wanted as usize];
            for tick in needs..tick {
                *self.slot(tick) = old[(tick & (old.len() as u64 - 1)) as usize];
            }
        }
        *self.slot(tick) = value;
    }

    fn slot(&mut self, tick: u64) -> &mut f64 {
        let mask = self.values.len() as u64 - 1;
        &mut self.values[(tick & mask) as usize]
    }

    /// The value of a tick that it still holds.
    #[inline]
    pub fn at(&self, tick: u64) -> f64 {
        let mask = self.values.len() as u64 - 1;
        self.values[(tick & mask) as usize]
    }
}

/// Where a window stands.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Window {
    /// Its first tick; it ends with the newest.
    pub start: u64,
    /// Whether the past is as long as it: else nothing is told of it.
    pub is_full: bool,
    /// The tick as far back as the window is long, where there is one.
    pub before: Option<u64>,
}

/// The sum over a window.
#[derive(Clone, Debug, Default)]
pub struct Sum {
    sum: ExactSum,
    /// The first tick that is in the sum.
    from: u64,
    /// One more than the number of the last tick without a value.
    undefined: u64,
    /// The sum rounded, as long as nothing changed.
    rounded: Option<f64>,
}

impl Sum {
    /// Takes the newest tick's value in and puts out what the window has left behind. Gives the sum; NaN if the window is
    /// not full or a value in it is not defined.
    #[inline]
    pub fn take(&mut self, ring: &Ring, tick: u64, window: Window) -> f64 {
        self.add(ring.at(tick), tick);
        while self.from < window.start {
            let old = ring.at(self.from);
            if !old.is_nan() && old != 0.0 {
                self.sum.add(-old);
                self.rounded = None;
            }
            self.from += 1;
        }
        if !window.is_full || self.undefined > window.start {
            return f64::NAN;
        }
        match self.rounded {
            Some(rounded) => rounded,
            None => *self.rounded.insert(self.sum.value()),
        }
    }

    fn add(&mut self, value: f64, tick: u64) {
        if value.is_nan() {
            self.undefined = tick + 1;
        } else if value != 0.0 {
            self.sum.add(value);
            self.rounded = None;
        }
    }

    /// Before the tick of that number.
    pub fn empty(from: u64) -> Sum {
        Sum { from, ..Sum::default() }
    }

    /// As it was after `tick`: the sum over a window that the ring holds.
    pub fn restore(ring: &Ring, tick: u64, window: Window) -> Sum {
        let mut sum = Sum::empty(window.start);
        for tick in window.start..=tick {
            sum.add(ring.at(tick), tick);
        }
        sum
    }
}

/// The greatest value in a window (or with −1 as its sign, the least): values that a later one beats can never be it.
#[derive(Clone, Debug)]
pub struct Extreme {
    sign: f64,
    /// Candidates with their ticks: values fall.
    kept: VecDeque<(u64, f64)>,
    undefined: u64,
}

impl Extreme {
    /// Of no values.
    pub fn new(sign: f64) -> Extreme {
        Extreme { sign, kept: VecDeque::new(), undefined: 0 }
    }

    /// Takes the newest tick's value in. Gives the extreme; NaN as for a sum.
    pub fn take(&mut self, value: f64, tick: u64, window: Window) -> f64 {
        self.add(value, tick);
        while self.kept.front().is_some_and(|(at, _)| *at < window.start) {
            self.kept.pop_front();
        }
        match self.kept.front() {
            Some((_, value)) if window.is_full && self.undefined <= window.start => value * self.sign,
            _ => f64::NAN,
        }
    }

    fn add(&mut self, value: f64, tick: u64) {
        if value.is_nan() {
            self.undefined = tick + 1;
            return;
        }
        let value = value * self.sign;
        while self.kept.back().is_some_and(|(_, kept)| *kept <= value) {
            self.kept.pop_back();
        }
        self.kept.push_back((tick, value));
    }

    /// As it was after `tick`.
    pub fn restore(sign: f64, ring: &Ring, tick: u64, window: Window) -> Extreme {
        let mut extreme = Extreme::new(sign);
        for tick in window.start..=tick {
            extreme.add(ring.at(tick), tick);
        }
        extreme
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sum_that_moved_for_long_is_that_of_its_window() {
        let mut ring = Ring::new(5, Vec::new());
        let (mut sum, mut greatest) = (Sum::empty(0), Extreme::new(1.0));
        let value = |tick: u64| if tick == 400 { f64::NAN } else { ((tick * 7919) % 101) as f64 * 0.1 - 3.0 };
        for tick in 0..1000u64 {
            let window = Window { start: (tick + 1).saturating_sub(5), is_full: tick >= 4, before: None };
            ring.put(tick, value(tick), window.start);
            let (got, most) = (sum.take(&ring, tick, window), greatest.take(value(tick), tick, window));
            let values: Vec<f64> = (window.start..=tick).map(value).collect();
            if tick < 4 || values.iter().any(|v| v.is_nan()) {
                assert!(got.is_nan() && most.is_nan(), "{tick}");
                continue;
            }
            assert_eq!(got, crate::exact_sum::naive_sum(&values));
            assert_eq!(most, values.iter().copied().fold(f64::MIN, f64::max));
            let again = Sum::restore(&ring, tick, window).take(&ring, tick, Window::default());
            assert!(again.is_nan(), "no full window");
        }
    }

    #[test]
    fn a_ring_grows_with_a_window_of_time() {
        let mut ring = Ring::new(1, vec![0]);
        for tick in 0..500u64 {
            let needs = ring.needs(tick, &[Window { start: tick.saturating_sub(300), ..Window::default() }]);
            ring.put(tick, tick as f64, needs);
            assert!((needs..=tick).all(|t| ring.at(t) == t as f64));
        }
        assert_eq!(ring.capacity(), 512);
    }
}
