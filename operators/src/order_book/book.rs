//! A book: two ladders, and which of their levels changed since they were stored.

use super::ladder::{Ladder, Level, key_of, price_of};
use super::rules::Side;

/// The two sides of a book.
#[derive(Clone, Debug, Default)]
pub struct Book {
    sides: [Ladder; 2],
    /// The levels that are to be stored again, in the order in which they changed, some more than once.
    pub touched: Vec<(Side, u64)>,
}

/// How much came and went: at bids and at asks.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Flow {
    /// What came, by side.
    pub added: [f64; 2],
    /// What went, by side.
    pub removed: [f64; 2],
}

impl Flow {
    /// Counts a level that held `before` and holds `after`.
    #[inline]
    pub fn count(&mut self, side: Side, before: f64, after: f64) {
        if after > before {
            self.added[side as usize] += after - before;
        } else {
            self.removed[side as usize] += before - after;
        }
    }
}

impl Book {
    /// One side.
    #[inline]
    pub fn side(&self, side: Side) -> &Ladder {
        &self.sides[side as usize]
    }

    /// The best level of a side, as price and size.
    #[inline]
    pub fn best(&self, side: Side) -> Option<(f64, f64)> {
        self.side(side).best().map(|level| (price_of(side, level.key), level.size))
    }

    /// Whether the best bid is as high as the best ask.
    #[inline]
    pub fn is_crossed(&self) -> bool {
        match (self.best(Side::Bid), self.best(Side::Ask)) {
            (Some((bid, _)), Some((ask, _))) => bid >= ask,
            _ => false,
        }
    }

    /// Puts a level in the place of what there is at its price. Gives what there was.
    #[inline]
    pub fn set(&mut self, side: Side, level: Level) -> Option<Level> {
        let before = self.sides[side as usize].set(level);
        if before.is_some() || level.size != 0.0 {
            self.touched.push((side, level.key));
        }
        before
    }

    /// Takes everything away.
    pub fn clear(&mut self) {
        for side in Side::BOTH {
            self.touched.extend(self.sides[side as usize].drain().map(|level| (side, level.key)));
        }
    }

    /// Puts a level back that was stored.
    pub fn restore(&mut self, side: Side, level: Level) {
        self.sides[side as usize].set(level);
    }

    /// The first levels of a side as (price, size, orders).
    pub fn top(&self, side: Side, levels: usize) -> impl Iterator<Item = (f64, f64, u32)> + '_ {
        self.side(side).best_first().take(levels).map(move |l| (price_of(side, l.key), l.size, l.orders))
    }
}

/// A level of a message.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Change {
    /// The side.
    pub side: Side,
    /// The price, as in [`Level`].
    pub key: u64,
    /// How much there is from now on.
    pub size: f64,
    /// The order, in a snapshot of orders.
    pub id: i64,
}

impl Change {
    /// A level at a price.
    pub fn new(side: Side, price: f64, size: f64) -> Change {
        Change { side, key: key_of(side, price), size, id: 0 }
    }
}
