//! What came of a prediction: the class of a move, and what trading on it would have earned.

/// Down.
pub const DOWN: usize = 0;
/// Neither.
pub const FLAT: usize = 1;
/// Up.
pub const UP: usize = 2;
/// The names of the classes.
pub const NAMES: [&str; 3] = ["down", "flat", "up"];
/// Of equal probabilities or counts the first of these wins.
pub const ORDER: [usize; 3] = [FLAT, UP, DOWN];

/// What counts as a move.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rule {
    /// The move must be greater than this.
    pub threshold: f64,
    /// In which unit.
    pub unit: Unit,
}

/// The unit of a threshold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Half the spread at the time of the prediction.
    HalfSpreads,
    /// The price at the time of the prediction.
    Relative,
}

/// Price and spread at one vector.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Quote {
    /// The price.
    pub price: f64,
    /// The spread.
    pub spread: f64,
}

impl Rule {
    /// The class of the move from one quote to another.
    pub fn class(&self, from: Quote, to: Quote) -> usize {
        let unit = match self.unit {
            Unit::HalfSpreads => 0.5 * from.spread,
            Unit::Relative => from.price,
        };
        let (moved, least) = (to.price - from.price, self.threshold * unit);
        if moved > least {
            UP
        } else if moved < -least {
            DOWN
        } else {
            FLAT
        }
    }
}

/// What one unit bought (or for `DOWN` sold) at the touch of `from` and given back at the touch of `to` earns, as a share
/// of the price it began with: half the spread is paid both times.
pub fn earned(class: usize, from: Quote, to: Quote) -> f64 {
    let moved = if class == UP { to.price - from.price } else { from.price - to.price };
    (moved - 0.5 * (from.spread + to.spread)) / from.price
}

/// The class with the greatest value.
pub fn greatest<T: PartialOrd + Copy>(values: [T; 3]) -> usize {
    let mut best = ORDER[0];
    for class in ORDER {
        if values[class] > values[best] {
            best = class;
        }
    }
    best
}
