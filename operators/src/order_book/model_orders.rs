//! The obvious book of orders, and of levels recorded after each record.

use types::Value;

use super::book::Change;
use super::ladder::price_of;
use super::model::{Pair, Plain, Taken, moved};
use super::record::Record;
use super::rules::{Kind, Reason, Side};

impl Plain<'_> {
    pub fn order(&mut self, record: &Record, recorded: &[Change]) {
        let Ok(span) = self.follow(record) else { return };
        let taker = |side: Side| if side == Side::Bid { -1 } else { 1 };
        let is_trade = matches!(record.kind, Kind::Execute | Kind::ExecuteHidden) && record.price.is_finite();
        let trade = is_trade.then(|| (record.price, record.size, record.side.map(taker)));
        let mut flow = [0.0; 4];
        if self.rules.recorded.is_some() {
            return self.recorded(record, recorded, trade);
        }
        if self.phase == "live" && self.bridging && span.is_some_and(|(_, last)| self.covers(last)) {
            return self.count("covered");
        }
        if self.phase == "live" && self.bridging && span.is_some_and(|(after, _)| Some(after) > self.last) {
            self.count("gaps");
            self.fail(Reason::Gap);
        }
        if self.phase != "live" {
            self.count("dropped");
            return self.traded(trade, flow);
        }
        let done = match self.rules.by_order {
            true => self.on_order(record, trade, &mut flow),
            false => self.on_level(record, &mut flow).map(|()| trade),
        };
        match done {
            Ok(trade) => {
                self.count("applied");
                self.put_at(span.map(|s| s.1));
                self.check();
                self.traded(trade, flow);
            }
            Err(reason) => {
                self.count("refused");
                if self.rules.strict {
                    self.fail(reason);
                }
                self.traded(trade, [0.0; 4]);
            }
        }
    }

    fn on_order(
        &mut self,
        record: &Record,
        trade: Option<Taken>,
        flow: &mut [f64; 4],
    ) -> Result<Option<Taken>, Reason> {
        if record.kind == Kind::ExecuteHidden {
            return Ok(trade);
        }
        let (id, strict) = (record.id.expect("it has one"), self.rules.strict);
        let known = self.orders.get(&id).copied();
        let named = record.side.map(|side| (side, record.price, record.size));
        let recent = &self.ended[self.ended.len().saturating_sub(1000)..];
        if matches!(record.kind, Kind::Add | Kind::SetRemaining) && known.is_none() && recent.contains(&id) {
            return Err(Reason::Late);
        }
        let Some((side, price, lots)) = known else {
            let is_new = record.kind == Kind::Add;
            if !is_new && strict {
                return Err(Reason::UnknownOrder);
            }
            if !is_new {
                self.count("unknown_orders");
            }
            let ends = record.kind == Kind::Delete || record.size == 0.0;
            if matches!(record.kind, Kind::Add | Kind::SetRemaining) && record.size > 0.0 {
                self.orders.insert(id, named.expect("it has a side"));
            } else if ends {
                self.end(id);
            }
            if is_new {
                moved(record.side.expect("it has one"), 0.0, record.size, flow);
            }
            return Ok(trade);
        };
        match record.kind {
            Kind::Add => return Err(Reason::KnownOrder),
            Kind::SetRemaining => {
                let (new_side, new_price, left) = named.expect("it has a side");
                if (new_side, Value::Float(new_price)) == (side, Value::Float(price)) {
                    moved(side, lots, left, flow);
                } else {
                    moved(side, lots, 0.0, flow);
                    moved(new_side, 0.0, left, flow);
                }
                self.orders.insert(id, (new_side, new_price, left));
            }
            _ => {
                let gone = if record.kind == Kind::Delete { lots } else { record.size };
                if gone > lots {
                    return Err(Reason::Overfill);
                }
                self.orders.insert(id, (side, price, lots - gone));
                if record.kind == Kind::Execute {
                    let price = if record.price.is_finite() { record.price } else { price };
                    let taker = if side == Side::Bid { -1 } else { 1 };
                    self.drop_empty(id);
                    return Ok(Some((price, gone, Some(taker))));
                }
                moved(side, gone, 0.0, flow);
            }
        }
        self.drop_empty(id);
        Ok(None)
    }

    fn drop_empty(&mut self, id: i64) {
        if self.orders.get(&id).is_some_and(|(.., lots)| *lots == 0.0) {
            self.orders.remove(&id);
            self.end(id);
        }
    }

    fn end(&mut self, id: i64) {
        if !self.rules.strict && !self.ended[self.ended.len().saturating_sub(1000)..].contains(&id) {
            self.ended.push(id);
        }
    }

    fn on_level(&mut self, record: &Record, flow: &mut [f64; 4]) -> Result<(), Reason> {
        if record.kind == Kind::ExecuteHidden {
            return Ok(());
        }
        let (side, price) = (record.side.expect("it has one"), record.price);
        let before = self.levels[side as usize].get(&Value::Float(price)).copied().unwrap_or(0.0);
        let after = if record.kind == Kind::Add { before + record.size } else { before - record.size };
        if after < 0.0 {
            return Err(Reason::UnknownOrder);
        }
        let mut all = [0.0; 4];
        self.set(side, price, after, &mut all);
        if record.kind != Kind::Execute {
            *flow = all;
        }
        Ok(())
    }

    /// A record with the venue's own levels: one step is made from the last recorded, and compared with these.
    fn recorded(&mut self, record: &Record, recorded: &[Change], trade: Option<Taken>) {
        let depth = self.rules.recorded.expect("they are recorded");
        let theirs = Side::BOTH.map(|side| {
            let own = recorded.iter().filter(|c| c.side == side);
            own.map(|c| (price_of(side, c.key), c.size)).collect::<Vec<Pair>>()
        });
        let mut flow = [0.0; 4];
        if self.phase == "live" {
            let worst = Side::BOTH.map(|side| self.side(side).get(depth - 1).map(|level| level.0));
            let is_known = |side: Side, price: f64| match (worst[side as usize], side) {
                (None, _) => true,
                (Some(worst), Side::Bid) => price >= worst,
                (Some(worst), Side::Ask) => price <= worst,
            };
            let seen =
                record.kind == Kind::ExecuteHidden || record.side.is_some_and(|side| !is_known(side, record.price));
            let mut wrong = if seen { None } else { self.on_level(record, &mut flow).err() };
            let mut beyond = false;
            for side in Side::BOTH {
                if wrong.is_some() {
                    break;
                }
                let ours: Vec<Pair> = self.side(side).into_iter().take(depth).map(|(p, s, _)| (p, s)).collect();
                let theirs = &theirs[side as usize];
                let both = ours.len().min(theirs.len());
                let (entered, more) = (&theirs[both..], &ours[both..]);
                beyond |= !entered.is_empty();
                if ours[..both] != theirs[..both] || !more.is_empty() || entered.iter().any(|l| is_known(side, l.0)) {
                    wrong = Some(Reason::Differs);
                }
            }
            if let Some(reason) = wrong {
                self.count("recorded_different");
                self.count("refused");
                self.fail(reason);
                return self.traded(trade, [0.0; 4]);
            }
            self.count(if beyond { "recorded_beyond" } else { "recorded_equal" });
            self.count("applied");
        } else {
            self.count("snapshots");
            if self.phase == "broken" {
                self.count("resyncs");
            }
            (self.phase, self.reason) = ("live", None);
        }
        self.levels = theirs.map(|levels| levels.into_iter().map(|(p, s)| (Value::Float(p), s)).collect());
        self.check();
        self.traded(trade, flow);
    }
}
