//! A book told order by order: what each record makes of the orders, and of the levels they add up to.
//!
//! Sizes are whole numbers of lots, so that a level is exactly the sum of its orders in whatever order they came and
//! went. Without numbers of orders the records are applied to levels alone, which is the same as far as levels go.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::book::{Book, Change, Flow};
use super::course::{Course, Phase, Spot};
use super::ladder::{Level, key_of, price_of};
use super::record::Record;
use super::rules::{Kind, Reason, Rules, Side};
use super::tally::Count;
use super::tick::{Listener, TickKind, Trade};

/// An order that stands in the book.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Order {
    /// Its side.
    pub side: Side,
    /// Its price, as in [`Level`].
    pub key: u64,
    /// How many lots it has left.
    pub size: f64,
}

impl Order {
    /// The order of a snapshot's record.
    pub fn of(change: &Change) -> Order {
        Order { side: change.side, key: change.key, size: change.size }
    }
}

/// The orders of a book by their numbers, and those that ended not long ago.
#[derive(Clone, Debug, Default)]
pub struct Orders {
    live: BTreeMap<i64, Order>,
    /// The last orders that ended, where what is told late is to be known as late.
    pub ended: VecDeque<i64>,
    /// How many have left that queue.
    pub ended_from: u64,
    ended_set: BTreeSet<i64>,
    /// The orders that are to be stored again, some more than once.
    pub touched: Vec<i64>,
}

/// The greatest number of lots of a level: up to it floats add exactly.
pub const LOTS_MAX: f64 = 9_007_199_254_740_992.0;

/// What is said of more.
pub const TOO_MUCH: &str = "a level of more than 2^53 lots";

/// How many ended orders are remembered.
const ENDED_MAX: usize = 1000;

/// What is wrong with a record, and what is to be said of it.
type Wrong = (Reason, String);

/// What a record did.
#[derive(Default)]
struct Effect {
    flow: Flow,
    trade: Option<Trade>,
    /// The order was not known, and that is no fault.
    is_unknown: bool,
}

impl Orders {
    /// An order that is in the book.
    pub fn get(&self, id: i64) -> Option<&Order> {
        self.live.get(&id)
    }

    /// Puts an order into the book, in the place of what it was. False if its level would be too much.
    pub fn place(&mut self, book: &mut Book, id: i64, order: Order) -> bool {
        if let Some(before) = self.live.get(&id) {
            self.take(book, id, before.size);
        }
        let level =
            book.side(order.side).get(order.key).copied().unwrap_or(Level { key: order.key, size: 0.0, orders: 0 });
        if level.size + order.size > LOTS_MAX {
            return false;
        }
        book.set(order.side, Level { size: level.size + order.size, orders: level.orders + 1, ..level });
        self.live.insert(id, order);
        self.touched.push(id);
        true
    }

    /// Takes lots from an order, and the order from the book when nothing is left.
    fn take(&mut self, book: &mut Book, id: i64, lots: f64) {
        let Some(order) = self.live.get_mut(&id) else { return };
        let level = *book.side(order.side).get(order.key).expect("an order has its level");
        let is_done = order.size == lots;
        order.size -= lots;
        let orders = level.orders - u32::from(is_done);
        book.set(order.side, Level { size: level.size - lots, orders, ..level });
        self.touched.push(id);
        if is_done {
            self.live.remove(&id);
        }
    }

    /// Remembers that an order ended.
    fn end(&mut self, id: i64) {
        if !self.ended_set.insert(id) {
            return;
        }
        self.ended.push_back(id);
        if self.ended.len() > ENDED_MAX {
            let first = self.ended.pop_front().expect("it is full");
            self.ended_from += 1;
            self.ended_set.remove(&first);
        }
    }

    /// Puts back an order that was stored.
    pub fn restore(&mut self, id: i64, order: Order) {
        self.live.insert(id, order);
    }

    /// Puts back an order that ended.
    pub fn restore_ended(&mut self, id: i64) {
        self.ended.push_back(id);
        self.ended_set.insert(id);
    }

    /// Forgets the orders of the book.
    pub fn clear(&mut self) {
        self.touched.extend(self.live.keys());
        self.live.clear();
    }
}

impl Course {
    /// A record of an order.
    pub(super) fn act(
        &mut self,
        rules: &Rules,
        record: &Record,
        recorded: &[Change],
        mut spot: Spot,
        out: &mut impl Listener,
    ) {
        let Some(span) = self.follow(rules, record, &mut spot, out) else { return };
        if let Some(levels) = rules.recorded {
            self.act_recorded(rules, record, recorded, levels, spot, out);
            return;
        }
        let is_bridging = self.head.phase == Phase::Live && self.head.is_bridging;
        if is_bridging && span.is_some_and(|s| self.is_covered(rules, s)) {
            self.head.tally.add(Count::Covered);
            return;
        }
        if is_bridging && span.is_some_and(|s| self.head.last < Some(s.after)) {
            self.head.tally.add(Count::Gaps);
            spot.fault(Reason::Gap, "records are missing between the snapshot and this one".to_owned(), out);
            self.break_up(Reason::Gap);
        }
        if self.head.phase != Phase::Live {
            self.head.tally.add(Count::Dropped);
            self.tell_effect(&Effect { trade: trade_of(record), ..Effect::default() }, &mut spot, out);
            return;
        }
        let made = if rules.by_order { self.act_on_order(rules, record) } else { self.act_on_level(record, [0; 2]) };
        match made {
            Ok(effect) => {
                if effect.is_unknown {
                    self.head.tally.add(Count::UnknownOrders);
                }
                self.head.tally.add(Count::Applied);
                self.put_at(span.map(|s| s.last));
                self.check(rules, &mut spot, out);
                self.tell_effect(&effect, &mut spot, out);
            }
            Err((reason, detail)) => {
                self.refuse(reason, detail, &mut spot, out);
                // Where a level would be too much, the order was left out.
                if rules.strict || reason == Reason::BadSize {
                    self.break_up(reason);
                }
                self.tell_effect(&Effect { trade: trade_of(record), ..Effect::default() }, &mut spot, out);
            }
        }
    }

    /// A record that carries the venue's own first levels after it: the book must come to the same, as far as it can
    /// know, and is put there.
    fn act_recorded(
        &mut self,
        rules: &Rules,
        record: &Record,
        recorded: &[Change],
        levels: usize,
        mut spot: Spot,
        out: &mut impl Listener,
    ) {
        let mut effect = Effect { trade: trade_of(record), ..Effect::default() };
        if self.head.phase == Phase::Live {
            // Of what is worse than the last level recorded nothing is known.
            let floors = Side::BOTH.map(|side| {
                let ladder = self.book.side(side);
                if ladder.len() < levels { 0 } else { ladder.worst().map_or(0, |level| level.key) }
            });
            let compared = self.act_on_level(record, floors).and_then(|made| {
                effect = made;
                let [bids, asks] = Side::BOTH.map(|side| self.compare(side, recorded, floors[side as usize], levels));
                Ok(bids? | asks?)
            });
            match compared {
                Ok(beyond) => {
                    self.head.tally.add(if beyond { Count::RecordedBeyond } else { Count::RecordedEqual });
                    self.head.tally.add(Count::Applied);
                }
                Err((reason, detail)) => {
                    self.head.tally.add(Count::RecordedDifferent);
                    self.refuse(reason, detail, &mut spot, out);
                    self.break_up(reason);
                    self.tell_effect(&Effect { trade: trade_of(record), ..Effect::default() }, &mut spot, out);
                    return;
                }
            }
        } else {
            self.head.tally.add(Count::Snapshots);
            if self.head.phase == Phase::Broken {
                self.head.tally.add(Count::Resyncs);
            }
            self.head.phase = Phase::Live;
            self.head.reason = None;
        }
        self.put_to(recorded);
        self.check(rules, &mut spot, out);
        self.tell_effect(&effect, &mut spot, out);
    }

    /// Whether levels came from beyond what the book can know of a side; what else differs is wrong.
    fn compare(&self, side: Side, recorded: &[Change], floor: u64, levels: usize) -> Result<bool, Wrong> {
        let mut ours = self.book.side(side).best_first().take(levels);
        let mut is_beyond = false;
        for theirs in recorded.iter().filter(|c| c.side == side) {
            let is_same = match ours.next() {
                Some(ours) => (ours.key, ours.size) == (theirs.key, theirs.size),
                None => {
                    is_beyond = true;
                    theirs.key < floor
                }
            };
            if !is_same {
                let price = price_of(side, theirs.key);
                return Err((Reason::Differs, format!("the book has another {} level than {price}", side.name())));
            }
        }
        match ours.next() {
            None => Ok(is_beyond),
            Some(more) => {
                let price = price_of(side, more.key);
                Err((Reason::Differs, format!("the book has a {} level at {price} that is not recorded", side.name())))
            }
        }
    }

    /// Makes the book what is recorded, touching what differs.
    fn put_to(&mut self, recorded: &[Change]) {
        for side in Side::BOTH {
            let is_recorded = |key: u64| recorded.iter().any(|c| c.side == side && c.key == key);
            let gone: Vec<u64> =
                self.book.side(side).best_first().map(|l| l.key).filter(|key| !is_recorded(*key)).collect();
            for key in gone {
                self.book.set(side, Level { key, size: 0.0, orders: 0 });
            }
        }
        for change in recorded {
            if self.book.side(change.side).get(change.key).map(|l| l.size) != Some(change.size) {
                self.book.set(change.side, Level { key: change.key, size: change.size, orders: 0 });
            }
        }
    }

    /// A record of an order that is known by its number.
    fn act_on_order(&mut self, rules: &Rules, record: &Record) -> Result<Effect, Wrong> {
        if record.kind == Kind::ExecuteHidden {
            return Ok(Effect { trade: trade_of(record), ..Effect::default() });
        }
        let id = record.id.expect("checked where it was read");
        let known = self.orders.get(id).copied();
        let mut effect = Effect::default();
        let unknown = |kind: &str| (Reason::UnknownOrder, format!("the order {id} to {kind} is not in the book"));
        let named = || {
            let side = record.side.expect("checked where it was read");
            Order { side, key: key_of(side, record.price), size: record.size }
        };
        match record.kind {
            Kind::Add | Kind::SetRemaining if known.is_none() && self.orders.ended_set.contains(&id) => {
                return Err((Reason::Late, format!("the order {id} has ended")));
            }
            Kind::Add => {
                if known.is_some() {
                    return Err((Reason::KnownOrder, format!("the order {id} is in the book already")));
                }
                let order = named();
                if !self.orders.place(&mut self.book, id, order) {
                    return Err((Reason::BadSize, TOO_MUCH.to_owned()));
                }
                effect.flow.count(order.side, 0.0, order.size);
            }
            Kind::SetRemaining => {
                let order = named();
                match known {
                    None if rules.strict => return Err(unknown("change")),
                    None => effect.is_unknown = true,
                    Some(before) => {
                        self.orders.take(&mut self.book, id, before.size);
                        if (before.side, before.key) == (order.side, order.key) {
                            effect.flow.count(order.side, before.size, order.size);
                        } else {
                            effect.flow.count(before.side, before.size, 0.0);
                            effect.flow.count(order.side, 0.0, order.size);
                        }
                    }
                }
                if order.size == 0.0 {
                    self.note_end(rules, id);
                } else if !self.orders.place(&mut self.book, id, order) {
                    return Err((Reason::BadSize, TOO_MUCH.to_owned()));
                }
            }
            Kind::Reduce | Kind::Execute | Kind::Delete => {
                let is_delete = record.kind == Kind::Delete;
                let Some(order) = known else {
                    if rules.strict {
                        return Err(unknown(if is_delete { "delete" } else { "reduce" }));
                    }
                    if is_delete {
                        self.note_end(rules, id);
                    }
                    return Ok(Effect { trade: trade_of(record), is_unknown: true, ..Effect::default() });
                };
                let lots = if is_delete { order.size } else { record.size };
                if lots > order.size {
                    let detail = format!("{lots} lots of the order {id} go, and it has {}", order.size);
                    return Err((Reason::Overfill, detail));
                }
                self.orders.take(&mut self.book, id, lots);
                if lots == order.size {
                    self.note_end(rules, id);
                }
                if record.kind == Kind::Execute {
                    let given = Some(record.price).filter(|p| p.is_finite());
                    let price = given.unwrap_or(price_of(order.side, order.key));
                    effect.trade = Some(Trade { price, size: lots, taker: Some(taker_from(order.side)) });
                } else {
                    effect.flow.count(order.side, lots, 0.0);
                }
            }
            other => unreachable!("{other:?} is no record of an order"),
        }
        Ok(effect)
    }

    fn note_end(&mut self, rules: &Rules, id: i64) {
        if !rules.strict {
            self.orders.end(id);
        }
    }

    /// A record applied to its level; below the floor of its side nothing is known, and nothing done.
    fn act_on_level(&mut self, record: &Record, floors: [u64; 2]) -> Result<Effect, Wrong> {
        let mut effect = Effect { trade: trade_of(record), ..Effect::default() };
        if record.kind == Kind::ExecuteHidden {
            return Ok(effect);
        }
        let side = record.side.expect("checked where it was read");
        let key = key_of(side, record.price);
        if key < floors[side as usize] {
            return Ok(effect);
        }
        let before = self.book.side(side).get(key).map_or(0.0, |level| level.size);
        let after = if record.kind == Kind::Add { before + record.size } else { before - record.size };
        if after < 0.0 {
            let detail = format!("{} lots go at {}, where there are {before}", record.size, record.price);
            return Err((Reason::UnknownOrder, detail));
        }
        if after > LOTS_MAX {
            return Err((Reason::BadSize, TOO_MUCH.to_owned()));
        }
        self.book.set(side, Level { key, size: after, orders: 0 });
        if record.kind != Kind::Execute {
            effect.flow.count(side, before, after);
        }
        Ok(effect)
    }

    fn tell_effect(&mut self, effect: &Effect, spot: &mut Spot, out: &mut impl Listener) {
        match effect.trade {
            Some(trade) => self.tell_trade(trade, effect.flow, spot, out),
            None => self.tell(TickKind::Depth, None, effect.flow, out),
        }
    }
}

/// Who took, where an order of this side stood.
fn taker_from(side: Side) -> i64 {
    match side {
        Side::Bid => -1,
        Side::Ask => 1,
    }
}

/// The trade a record tells of by itself.
fn trade_of(record: &Record) -> Option<Trade> {
    let is_trade = matches!(record.kind, Kind::Execute | Kind::ExecuteHidden) && record.price.is_finite();
    is_trade.then(|| Trade { price: record.price, size: record.size, taker: record.side.map(taker_from) })
}
