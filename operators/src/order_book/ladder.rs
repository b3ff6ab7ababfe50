//! One side of a book: its price levels in order, the best of them at hand at once.
//!
//! A sorted vector with the best price last. Most changes fall near the best, so the place of a price is looked for from
//! there, and what has to move to make room for it is little.

use super::rules::Side;

/// A price level.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Level {
    /// The price as a number whose order is that of being better.
    pub key: u64,
    /// How much there is.
    pub size: f64,
    /// How many orders, where they are known.
    pub orders: u32,
}

/// The levels of one side.
#[derive(Clone, Debug, Default)]
pub struct Ladder {
    levels: Vec<Level>,
}

/// How many levels from the best are looked at one by one before the rest is halved.
const NEAR: usize = 8;

impl Ladder {
    /// The best level.
    #[inline]
    pub fn best(&self) -> Option<&Level> {
        self.levels.last()
    }

    /// The worst level.
    pub fn worst(&self) -> Option<&Level> {
        self.levels.first()
    }

    /// The levels, the best first.
    #[inline]
    pub fn best_first(&self) -> impl ExactSizeIterator<Item = &Level> {
        self.levels.iter().rev()
    }

    /// How many levels there are.
    pub fn len(&self) -> usize {
        self.levels.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.levels.is_empty()
    }

    /// The level of a price.
    #[inline]
    pub fn get(&self, key: u64) -> Option<&Level> {
        self.find(key).ok().map(|at| &self.levels[at])
    }

    /// Puts a level in the place of what there is at its price; a size of 0 takes it away. Gives what there was.
    #[inline]
    pub fn set(&mut self, level: Level) -> Option<Level> {
        match self.find(level.key) {
            Ok(at) if level.size == 0.0 => Some(self.levels.remove(at)),
            Ok(at) => Some(std::mem::replace(&mut self.levels[at], level)),
            Err(_) if level.size == 0.0 => None,
            Err(at) => {
                self.levels.insert(at, level);
                None
            }
        }
    }

    /// Takes everything away.
    pub fn drain(&mut self) -> impl Iterator<Item = Level> + '_ {
        self.levels.drain(..)
    }

    /// The place of a price, or where it would stand.
    #[inline]
    fn find(&self, key: u64) -> Result<usize, usize> {
        let mut at = self.levels.len();
        for level in self.levels.iter().rev().take(NEAR) {
            if level.key <= key {
                return if level.key == key { Ok(at - 1) } else { Err(at) };
            }
            at -= 1;
        }
        self.levels[..at].binary_search_by(|level| level.key.cmp(&key))
    }
}

/// A price as a number whose order is that of being better on this side. Equal prices have equal numbers, for there is
/// one zero and no NaN among them.
#[inline]
pub fn key_of(side: Side, price: f64) -> u64 {
    let bits = (price + 0.0).to_bits();
    let rank = if bits >> 63 == 1 { !bits } else { bits | 1 << 63 };
    match side {
        Side::Bid => rank,
        Side::Ask => !rank,
    }
}

/// The price of a level.
#[inline]
pub fn price_of(side: Side, key: u64) -> f64 {
    let rank = match side {
        Side::Bid => key,
        Side::Ask => !key,
    };
    f64::from_bits(if rank >> 63 == 1 { rank & !(1 << 63) } else { !rank })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn a_key_is_its_price_and_better_prices_are_greater() {
        let prices = [-1e300, -2.5, -f64::MIN_POSITIVE, 0.0, 1e-9, 0.1, 0.30000000000000004, 7.0, f64::MAX];
        for side in [Side::Bid, Side::Ask] {
            let keys: Vec<u64> = prices.iter().map(|p| key_of(side, *p)).collect();
            assert!(keys.iter().zip(prices).all(|(k, p)| price_of(side, *k) == p));
            assert!(keys.windows(2).all(|w| (w[0] < w[1]) == (side == Side::Bid)));
            assert_eq!(key_of(side, -0.0), key_of(side, 0.0));
        }
    }

    #[test]
    fn a_ladder_is_an_ordered_map() {
        let (mut ladder, mut map) = (Ladder::default(), BTreeMap::new());
        let mut x: u64 = 7;
        for _ in 0..20_000 {
            x = x.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
            let (key, size) = (x >> 58 | 1 << 20, f64::from((x >> 40) as u32 % 3));
            let before = ladder.set(Level { key, size, orders: 0 }).map(|l| l.size);
            let expected = if size == 0.0 { map.remove(&key) } else { map.insert(key, size) };
            assert_eq!(before, expected);
            assert_eq!(ladder.best().map(|l| (l.key, l.size)), map.last_key_value().map(|(k, s)| (*k, *s)));
            assert_eq!(ladder.get(key).map(|l| l.size), map.get(&key).copied());
        }
        let all: Vec<(u64, f64)> = ladder.best_first().map(|l| (l.key, l.size)).collect();
        assert_eq!(all, map.iter().rev().map(|(k, s)| (*k, *s)).collect::<Vec<_>>());
    }
}
