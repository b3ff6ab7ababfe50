//! What is to be predicted, the direction of a price some vectors ahead, and the vectors that wait to know it.

use std::collections::VecDeque;

use super::referee::Opinions;

/// Down, flat, up.
pub const CLASSES: usize = 3;

/// A label: where the price goes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Label {
    /// How many vectors ahead.
    pub horizon: u64,
    /// Every so many vectors one is labelled.
    pub every: u64,
    /// A move up to this is flat.
    pub threshold: f64,
    /// Its unit.
    pub unit: Unit,
}

/// The unit of a threshold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// A share of the price.
    Relative,
    /// Halves of the spread.
    HalfSpreads,
}

/// A price with its spread; NaN where there is none.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Quote {
    /// The price.
    pub price: f64,
    /// Its spread.
    pub spread: f64,
}

impl Label {
    /// How many labels in a row have some of the way in common with the next.
    pub fn overlap(&self) -> u64 {
        self.horizon.div_ceil(self.every)
    }

    /// The class of a move; none if there is no price, or nothing to measure a move by.
    pub fn class(&self, then: Quote, now: Quote) -> Option<usize> {
        let unit = match self.unit {
            Unit::Relative => then.price.abs(),
            Unit::HalfSpreads => 0.5 * then.spread,
        };
        let is_known = then.price.is_finite() && now.price.is_finite() && unit.is_finite();
        // Of a spread of 0 every move is beyond; of a price of 0 no move has a share.
        let is_measured = if self.unit == Unit::Relative { unit > 0.0 } else { unit >= 0.0 };
        if !is_known || !is_measured {
            return None;
        }
        let (distance, threshold) = (now.price - then.price, self.threshold * unit);
        Some(if distance > threshold {
            2
        } else if distance < -threshold {
            0
        } else {
            1
        })
    }
}

/// A vector whose label is not known yet.
#[derive(Clone, Debug, PartialEq)]
pub struct Waiting {
    /// The number of the vector.
    pub number: u64,
    /// The price at it.
    pub quote: Quote,
    /// The cell of each feature.
    pub cells: Box<[u8]>,
    /// What was predicted of it; none before the first selection.
    pub opinions: Option<Opinions>,
}

/// The vectors that wait, the oldest first.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Queue {
    waiting: VecDeque<Waiting>,
    /// One that is done, to be used again.
    spare: Option<Box<[u8]>>,
}

impl Queue {
    /// Adds a vector.
    pub fn push(&mut self, number: u64, quote: Quote, cells: &[u8], opinions: Option<Opinions>) {
        let cells = match self.spare.take() {
            Some(mut spare) => {
                spare.copy_from_slice(cells);
                spare
            }
            None => cells.into(),
        };
        self.waiting.push_back(Waiting { number, quote, cells, opinions });
    }

    /// The oldest, if it came `horizon` vectors before.
    pub fn ripe(&mut self, number: u64, horizon: u64) -> Option<Waiting> {
        self.waiting.pop_front_if(|w| w.number + horizon <= number)
    }

    /// Takes back the room of one that is done.
    pub fn reuse(&mut self, waiting: Waiting) {
        self.spare = Some(waiting.cells);
    }

    /// All of them, the oldest first.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &Waiting> {
        self.waiting.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_move_within_the_threshold_is_flat() {
        let label = |unit, threshold| Label { horizon: 1, every: 1, threshold, unit };
        let quote = |price, spread| Quote { price, spread };
        let class = |unit, threshold, from, to| label(unit, threshold).class(from, quote(to, f64::NAN));
        let relative = |from, to| class(Unit::Relative, 0.01, quote(from, f64::NAN), to);
        assert_eq!(
            [relative(100.0, 101.0), relative(100.0, 101.1), relative(100.0, 98.9)],
            [Some(1), Some(2), Some(0)]
        );
        assert_eq!([relative(-100.0, -98.9), relative(-100.0, -101.0)], [Some(2), Some(1)]);
        assert_eq!([relative(0.0, 1.0), relative(f64::NAN, 1.0), relative(1.0, f64::INFINITY)], [None; 3]);
        let spread = |spread, to| class(Unit::HalfSpreads, 1.0, quote(10.0, spread), to);
        assert_eq!([spread(2.0, 11.0), spread(2.0, 11.5), spread(0.0, 10.5)], [Some(1), Some(2), Some(2)]);
        assert_eq!([spread(0.0, 10.0), spread(f64::NAN, 11.0), spread(-1.0, 11.0)], [Some(1), None, None]);
    }
}
