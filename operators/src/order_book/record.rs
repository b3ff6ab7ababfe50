//! A record of a venue as the kernel reads it, and the message that several of them make.

use super::book::Change;
use super::rules::{Kind, Reason, Side};
use super::sequence::Numbers;

/// A record.
#[derive(Clone, Copy, Debug)]
pub struct Record {
    /// Its event time, in microseconds.
    pub at: i64,
    /// Its number in the stream.
    pub seq: i64,
    /// What it says.
    pub kind: Kind,
    /// The number of the message it belongs to; without one it is a message of its own.
    pub message: Option<i64>,
    /// The numbers of its updates.
    pub numbers: Numbers,
    /// The side, where it has one.
    pub side: Option<Side>,
    /// The price, where it has one.
    pub price: f64,
    /// The size, where it has one.
    pub size: f64,
    /// The order or the trade it is of.
    pub id: Option<i64>,
    /// Who took: 1 a buyer, −1 a seller.
    pub taker: Option<i64>,
    /// What is wrong with it.
    pub wrong: Option<Reason>,
}

/// The message that is being gathered.
#[derive(Clone, Debug)]
pub struct Message {
    /// Its first record: the others must be like it.
    pub head: Record,
    /// The number of its last record.
    pub seq: i64,
    /// Where its last record stands.
    pub place: u32,
    /// Its levels.
    pub changes: Vec<Change>,
    /// Whether a record of it was refused.
    pub is_damaged: bool,
    /// Whether its last record has been told as a fault.
    pub is_told: bool,
}

impl Message {
    /// Whether a record belongs to it.
    pub fn takes(&self, record: &Record) -> bool {
        let head = &self.head;
        head.message.is_some()
            && head.message == record.message
            && head.at == record.at
            && head.kind == record.kind
            && head.numbers == record.numbers
    }
}

/// Whether a message speaks of one level twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Twice {
    /// It does not.
    No,
    /// It says the same again.
    Same,
    /// It says something else.
    Other,
}

/// Looks for levels (or, `by_order`, orders) that come twice.
pub fn twice(changes: &[Change], by_order: bool) -> Twice {
    let key = |c: &Change| if by_order { (Side::Bid, c.id as u64) } else { (c.side, c.key) };
    // A venue sends its levels in order, up or down, one side after the other: then there is nothing to look for.
    let (mut ups, mut downs) = ([0_u32; 2], [0_u32; 2]);
    let (mut turns, mut is_plain) = (0_u32, true);
    for pair in changes.windows(2) {
        if pair[0].side != pair[1].side {
            turns += 1;
            continue;
        }
        match key(&pair[0]).1.cmp(&key(&pair[1]).1) {
            std::cmp::Ordering::Less => ups[pair[0].side as usize] += 1,
            std::cmp::Ordering::Greater => downs[pair[0].side as usize] += 1,
            std::cmp::Ordering::Equal => is_plain = false,
        }
    }
    if !by_order && is_plain && turns <= 1 && (0..2).all(|side| ups[side] == 0 || downs[side] == 0) {
        return Twice::No;
    }
    let mut sorted: Vec<&Change> = changes.iter().collect();
    sorted.sort_by_key(|c| key(c));
    let mut found = Twice::No;
    for pair in sorted.windows(2).filter(|pair| key(pair[0]) == key(pair[1])) {
        let of = |c: &Change| (c.side, c.key, c.size);
        if of(pair[0]) != of(pair[1]) {
            return Twice::Other;
        }
        found = Twice::Same;
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_that_comes_twice_is_found() {
        let change = |side, price, size| Change::new(side, price, size);
        let (bid, ask) = (Side::Bid, Side::Ask);
        assert_eq!(twice(&[], false), Twice::No);
        assert_eq!(twice(&[change(bid, 1.0, 1.0), change(bid, 2.0, 1.0), change(ask, 1.0, 1.0)], false), Twice::No);
        assert_eq!(twice(&[change(bid, 1.0, 1.0), change(bid, 1.0, 1.0)], false), Twice::Same);
        assert_eq!(twice(&[change(bid, 1.0, 1.0), change(bid, 2.0, 1.0), change(bid, 1.0, 0.0)], false), Twice::Other);
        assert_eq!(
            twice(&[change(bid, 1.0, 1.0), change(ask, 3.0, 1.0), change(bid, 2.0, 1.0), change(bid, 1.0, 1.0)], false),
            Twice::Same
        );
        assert_eq!(twice(&[change(bid, 1.0, 1.0), change(ask, 3.0, 1.0), change(bid, 1.0, 1.0)], false), Twice::Same);
    }
}
