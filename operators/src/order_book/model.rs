//! The obvious book: maps of prices, every message looked at again from the first, nothing remembered for speed.

use std::collections::BTreeMap;
use std::sync::Arc;

use engine::catalogue::{Model, Row};
use types::{RowCodec, Value};

use super::book::Change;
use super::ladder::price_of;
use super::options::Shape;
use super::record::Record;
use super::rows::Rows;
use super::rules::{Kind, Reason, Rules, Sequence, Side, TradeIds};
use super::tally::NAMES;
use super::views::{ALL, mid, spread};

/// Price, size.
pub type Pair = (f64, f64);
/// A trade: price, size, who took.
pub type Taken = (f64, f64, Option<i64>);

/// The model of a step.
pub fn of(shape: &Arc<Shape>) -> Model {
    let shape = shape.clone();
    Arc::new(move |inputs: &[Vec<Row>]| {
        let batch = RowCodec::new(&shape.schema).batch(&inputs[0]);
        let rows = Rows::new(&shape, &batch);
        let mut books: BTreeMap<Row, Vec<(Record, Vec<Change>)>> = BTreeMap::new();
        for (at, row) in inputs[0].iter().enumerate() {
            if !rows.is_nameless(at) {
                let name = shape.instrument.iter().map(|c| row[*c].clone()).collect();
                let mut recorded = Vec::new();
                rows.recorded(at, &mut recorded);
                books.entry(name).or_default().push((rows.record(at), recorded));
            }
        }
        let mut out = vec![Vec::new(); 4];
        for (name, records) in books {
            let mut plain = Plain::new(&shape, name);
            for message in messages(&records) {
                plain.message(message);
            }
            plain.show(&mut out);
        }
        out
    })
}

/// Records that make one message each time.
fn messages(records: &[(Record, Vec<Change>)]) -> impl Iterator<Item = &[(Record, Vec<Change>)]> {
    records.chunk_by(|(a, _), (b, _)| {
        let of = |r: &Record| (r.at, r.kind, r.message, r.numbers);
        a.kind.is_gathered() && a.message.is_some() && of(a) == of(b)
    })
}

/// One book.
pub struct Plain<'a> {
    shape: &'a Shape,
    pub rules: &'a Rules,
    name: Row,
    pub levels: [BTreeMap<Value, f64>; 2],
    pub orders: BTreeMap<i64, (Side, f64, f64)>,
    pub ended: Vec<i64>,
    pub phase: &'static str,
    pub reason: Option<Reason>,
    halted: bool,
    crossed: bool,
    pub bridging: bool,
    pub last: Option<i64>,
    chain: Option<i64>,
    last_trade: Option<i64>,
    at: Option<i64>,
    seq: i64,
    counts: BTreeMap<&'static str, i64>,
    kept: Vec<(i64, i64, Vec<Change>)>,
    quotes: Vec<(i64, [Option<Pair>; 2])>,
    quote_open: bool,
    ticks: Vec<Row>,
}

impl Plain<'_> {
    fn new(shape: &Shape, name: Row) -> Plain<'_> {
        Plain {
            shape,
            rules: &shape.rules,
            name,
            levels: Default::default(),
            orders: BTreeMap::new(),
            ended: Vec::new(),
            phase: if shape.rules.starts_empty { "live" } else { "waiting" },
            reason: None,
            halted: false,
            crossed: false,
            bridging: false,
            last: None,
            chain: None,
            last_trade: None,
            at: None,
            seq: 0,
            counts: NAMES.iter().map(|name| (*name, 0)).collect(),
            kept: Vec::new(),
            quotes: Vec::new(),
            quote_open: false,
            ticks: Vec::new(),
        }
    }

    pub fn count(&mut self, name: &'static str) {
        *self.counts.get_mut(name).expect("a count") += 1;
    }

    fn message(&mut self, records: &[(Record, Vec<Change>)]) {
        let (last, recorded) = records.last().expect("a message has a record");
        if last.kind == Kind::Ignore {
            return;
        }
        if self.at.is_some_and(|at| last.at < at) {
            unreachable!("history is in order");
        }
        for _ in records.iter().filter(|(r, _)| r.wrong.is_some()) {
            self.count("refused");
        }
        (self.at, self.seq) = (Some(last.at), last.seq);
        self.count("messages");
        let damaged = records.iter().any(|(r, _)| r.wrong.is_some());
        let good = records.iter().filter(|(r, _)| r.wrong.is_none());
        let change = |r: &Record| Some(Change { id: r.id.unwrap_or(0), ..Change::new(r.side?, r.price, r.size) });
        match last.kind {
            Kind::Depth => self.depth(last, &good.filter_map(|(r, _)| change(r)).collect::<Vec<_>>(), damaged),
            Kind::Snapshot => self.snapshot(last, &good.filter_map(|(r, _)| change(r)).collect::<Vec<_>>(), damaged),
            Kind::Quote => self.quote(last, &good.filter_map(|(r, _)| change(r)).collect::<Vec<_>>(), damaged),
            Kind::Trade if damaged => {}
            Kind::Trade => self.trade(last),
            Kind::Halt | Kind::Resume => {
                self.halted = last.kind == Kind::Halt;
                self.tick("status", None, [0.0; 4]);
            }
            _ if damaged => {
                self.fail(last.wrong.expect("it is damaged"));
                self.tick("depth", None, [0.0; 4]);
            }
            _ => self.order(last, recorded),
        }
    }

    pub fn fail(&mut self, reason: Reason) {
        self.phase = "broken";
        self.reason = Some(reason);
        self.crossed = false;
        self.bridging = false;
        self.last = None;
        self.levels = Default::default();
        self.orders.clear();
        self.kept.clear();
        self.quote_open = false;
    }

    fn is_healthy(&self) -> bool {
        self.phase == "live" && !self.halted && !self.crossed
    }

    /// What the message covers: `Err` if it goes no further.
    pub fn follow(&mut self, record: &Record) -> Result<Option<(i64, i64)>, ()> {
        let n = record.numbers;
        let last = n.last.filter(|n| *n >= 0);
        let after = match self.rules.sequence {
            Sequence::None => return Ok(None),
            Sequence::Contiguous => n.first.or(last).map(|n| n - 1),
            Sequence::BinanceSpot => n.first.filter(|n| *n >= 0).map(|n| n - 1),
            Sequence::BinanceFutures => n.previous.filter(|n| *n >= 0),
        };
        let (Some(after), Some(last)) = (after, last) else { return self.unnumbered() };
        if after >= last {
            return self.unnumbered();
        }
        if let Some(chain) = self.chain {
            if last == chain {
                self.count("duplicates");
                return Err(());
            }
            if last < chain {
                self.count("stale");
                return Err(());
            }
            if after != chain {
                self.count("gaps");
                if self.phase != "live" || !self.bridging || self.last < Some(after) {
                    self.fail(Reason::Gap);
                }
            }
        }
        self.chain = Some(last);
        Ok(Some((after, last)))
    }

    fn unnumbered(&mut self) -> Result<Option<(i64, i64)>, ()> {
        self.count("refused");
        self.fail(Reason::BadNumber);
        self.tick("depth", None, [0.0; 4]);
        Err(())
    }

    pub fn covers(&self, number: i64) -> bool {
        self.last.is_some_and(|last| match self.rules.sequence {
            Sequence::BinanceFutures => number < last,
            _ => number <= last,
        })
    }

    fn depth(&mut self, record: &Record, changes: &[Change], damaged: bool) {
        let Ok(span) = self.follow(record) else { return };
        let (same, other) = twice(changes, false);
        if same && !other {
            self.count("duplicates");
        }
        if damaged || other {
            self.fail(if damaged { Reason::Damaged } else { Reason::Conflict });
        } else if self.phase != "live" {
            self.keep(span, changes);
        } else if self.bridging && span.is_some_and(|(_, last)| self.covers(last)) {
            self.count("covered");
            return;
        } else if self.bridging && span.is_some_and(|(after, _)| Some(after) > self.last) {
            self.count("gaps");
            self.fail(Reason::Gap);
            self.keep(span, changes);
        } else {
            let flow = self.apply(changes);
            self.put_at(span.map(|s| s.1));
            self.check();
            self.tick("depth", None, flow);
            return;
        }
        self.tick("depth", None, [0.0; 4]);
    }

    fn keep(&mut self, span: Option<(i64, i64)>, changes: &[Change]) {
        let Some((after, last)) = span.filter(|_| self.rules.buffer_max > 0) else { return self.count("dropped") };
        if self.kept.len() == self.rules.buffer_max {
            self.kept.remove(0);
            self.count("dropped");
        }
        self.kept.push((after, last, changes.to_vec()));
    }

    /// Bids added, bids removed, asks added, asks removed.
    fn apply(&mut self, changes: &[Change]) -> [f64; 4] {
        let mut flow = [0.0; 4];
        for change in changes {
            self.set(change.side, price_of(change.side, change.key), change.size, &mut flow);
        }
        self.count("applied");
        flow
    }

    pub fn set(&mut self, side: Side, price: f64, size: f64, flow: &mut [f64; 4]) {
        let levels = &mut self.levels[side as usize];
        let before = levels.remove(&Value::Float(price)).unwrap_or(0.0);
        if size != 0.0 {
            levels.insert(Value::Float(price), size);
        }
        moved(side, before, size, flow);
    }

    pub fn put_at(&mut self, number: Option<i64>) {
        if number.is_some() {
            self.last = number;
            self.bridging = false;
            self.quote_open = true;
        }
    }

    /// The levels of a side, the best first.
    pub fn side(&self, side: Side) -> Vec<(f64, f64, i64)> {
        let mut levels: BTreeMap<Value, (f64, i64)> = BTreeMap::new();
        if self.rules.by_order {
            for (_, price, lots) in self.orders.values().filter(|(s, ..)| *s == side) {
                let level = levels.entry(Value::Float(*price)).or_default();
                *level = (level.0 + lots, level.1 + 1);
            }
        } else {
            levels.extend(self.levels[side as usize].iter().map(|(price, size)| (price.clone(), (*size, 0))));
        }
        let float = |v: Value| if let Value::Float(f) = v { f } else { f64::NAN };
        let all = levels.into_iter().map(|(price, (size, orders))| (float(price), size, orders));
        if side == Side::Bid { all.rev().collect() } else { all.collect() }
    }

    fn best(&self) -> [Option<Pair>; 2] {
        Side::BOTH.map(|side| self.side(side).first().map(|(price, size, _)| (*price, *size)))
    }

    pub fn check(&mut self) {
        let now = matches!(self.best(), [Some((bid, _)), Some((ask, _))] if bid >= ask);
        if now && !self.crossed {
            self.count("crossed");
        }
        self.crossed = now;
        if now && !self.rules.crossed_heals {
            self.fail(Reason::Crossed);
        }
        self.settle();
    }

    fn settle(&mut self) {
        let Some(last) = self.last.filter(|_| self.phase == "live" && !self.crossed) else { return };
        while self.quotes.get(1).is_some_and(|q| q.0 <= last) {
            self.quotes.remove(0);
        }
        let Some((number, best)) = self.quotes.first().copied().filter(|_| self.quote_open) else { return };
        if number > last || (number < last && self.quotes.len() < 2) {
            return;
        }
        self.quote_open = false;
        let agrees = best == self.best();
        self.count(match (number == last, agrees) {
            (true, true) => "quotes_agree",
            (true, false) => "quotes_disagree",
            (false, true) => "quotes_held_agree",
            (false, false) => "quotes_held_disagree",
        });
        if number == last && !agrees {
            self.fail(Reason::QuoteDisagrees);
        }
    }

    fn snapshot(&mut self, record: &Record, changes: &[Change], damaged: bool) {
        if self.accept(record, changes, damaged) {
            self.check();
        }
        self.tick("snapshot", None, [0.0; 4]);
    }

    fn accept(&mut self, record: &Record, changes: &[Change], damaged: bool) -> bool {
        if damaged {
            return false;
        }
        let numbered = self.rules.sequence != Sequence::None;
        let number = record.numbers.last.filter(|n| *n >= 0);
        if numbered && number.is_none() {
            self.count("refused");
            return false;
        }
        let (same, other) = twice(changes, self.rules.by_order);
        if other {
            return false;
        }
        if same {
            self.count("duplicates");
        }
        let known = match self.phase {
            "live" => self.last,
            _ => self.kept.first().map(|k| k.0).or(self.chain),
        };
        if numbered && known.is_some() && number < known {
            self.count("stale");
            return false;
        }
        let price = |c: &Change| price_of(c.side, c.key);
        let of = |side| changes.iter().filter(move |c| c.side == side && c.size != 0.0).map(price);
        let bid = of(Side::Bid).fold(f64::NEG_INFINITY, f64::max);
        let ask = of(Side::Ask).fold(f64::INFINITY, f64::min);
        if bid >= ask && !self.rules.crossed_heals {
            self.count("crossed");
            self.fail(Reason::Crossed);
            return false;
        }
        self.levels = Default::default();
        self.orders.clear();
        for change in changes {
            if self.rules.by_order {
                self.orders.insert(change.id, (change.side, price(change), change.size));
            } else {
                self.set(change.side, price(change), change.size, &mut [0.0; 4]);
            }
        }
        self.count("snapshots");
        if self.phase == "broken" {
            self.count("resyncs");
        }
        (self.phase, self.reason, self.crossed) = ("live", None, false);
        if numbered {
            self.put_at(number);
            self.bridging = true;
        }
        for (_, last, changes) in std::mem::take(&mut self.kept) {
            if self.covers(last) {
                self.count("covered");
            } else {
                self.apply(&changes);
                self.put_at(Some(last));
            }
        }
        true
    }

    fn quote(&mut self, record: &Record, changes: &[Change], damaged: bool) {
        self.count("quotes");
        if damaged {
            return;
        }
        let mut best = [None; 2];
        for change in changes.iter().filter(|c| c.size != 0.0) {
            best[change.side as usize] = Some((price_of(change.side, change.key), change.size));
        }
        if matches!(best, [Some((bid, _)), Some((ask, _))] if bid >= ask) {
            return self.count("refused");
        }
        if let Some(number) = record.numbers.last.filter(|_| self.rules.sequence != Sequence::None) {
            match self.quotes.last() {
                Some((last, _)) if number == *last => return self.count("duplicates"),
                Some((last, _)) if number < *last => return self.count("stale"),
                _ => {}
            }
            self.quotes.push((number, best));
            self.settle();
        }
        self.tick("quote", None, [0.0; 4]);
    }

    fn trade(&mut self, record: &Record) {
        if let (Some(id), Some(last), true) = (record.id, self.last_trade, self.rules.trade_ids != TradeIds::None) {
            if id == last {
                return self.count("duplicates");
            }
            if id < last {
                return self.count("stale");
            }
            if self.rules.trade_ids == TradeIds::Contiguous && id - 1 != last {
                self.count("trade_gaps");
            }
        }
        self.last_trade = record.id.or(self.last_trade);
        self.traded(Some((record.price, record.size, record.taker)), [0.0; 4]);
    }

    pub fn traded(&mut self, trade: Option<Taken>, flow: [f64; 4]) {
        if trade.is_some() {
            self.count("trades");
        }
        self.tick(if trade.is_some() { "trade" } else { "depth" }, trade, flow);
    }

    fn tick(&mut self, kind: &str, trade: Option<Taken>, flow: [f64; 4]) {
        let healthy = self.is_healthy();
        let number = |value: Option<f64>| value.map_or(Value::Null, Value::Float);
        let mut row = self.name.clone();
        row.extend([
            Value::Time(self.at.expect("a message has come")),
            Value::Str(kind.to_owned()),
            Value::Bool(healthy),
        ]);
        let sides = Side::BOTH.map(|side| if healthy { self.side(side) } else { Vec::new() });
        for level in 0..self.rules.levels {
            for side in &sides {
                row.push(number(side.get(level).map(|l| l.0)));
                row.push(number(side.get(level).map(|l| self.shape.told(l.1))));
            }
        }
        row.push(number(trade.map(|t| t.0)));
        row.push(number(trade.map(|t| self.shape.told(t.1))));
        row.push(trade.and_then(|t| t.2).map_or(Value::Null, Value::Int));
        row.extend(flow.map(|f| Value::Float(if healthy { self.shape.told(f) } else { 0.0 })));
        row.push(Value::Int(self.seq));
        self.ticks.push(row);
    }

    fn show(self, out: &mut [Vec<Row>]) {
        out[3].extend(self.ticks.iter().cloned());
        let Some(at) = self.at else { return };
        let healthy = self.is_healthy();
        let name = if self.name.is_empty() { vec![Value::Str(ALL.to_owned())] } else { self.name.clone() };
        let sides = Side::BOTH.map(|side| if healthy { self.side(side) } else { Vec::new() });
        let [bid, ask] = sides.each_ref().map(|levels| levels.first().map(|(p, s, _)| (*p, self.shape.told(*s))));
        let number = |value: Option<f64>| value.map_or(Value::Null, Value::Float);
        let both = bid.zip(ask).map(|(bid, ask)| (bid.0, ask.0));
        let mut top = name.clone();
        top.extend([Value::Time(at), Value::Bool(healthy)]);
        top.extend([bid.map(|b| b.0), bid.map(|b| b.1), ask.map(|a| a.0), ask.map(|a| a.1)].map(number));
        top.extend([both.map(|(b, a)| mid(b, a)), both.map(|(b, a)| spread(b, a))].map(number));
        top.push(Value::Int(self.seq));
        out[0].push(top);
        for (side, levels) in Side::BOTH.into_iter().zip(&sides) {
            for (at, (price, size, orders)) in levels.iter().take(self.rules.levels).enumerate() {
                let mut row = name.clone();
                row.extend([Value::Str(side.name().to_owned()), Value::Int(at as i64 + 1)]);
                row.extend([Value::Float(*price), Value::Float(self.shape.told(*size))]);
                if self.rules.by_order {
                    row.push(Value::Int(*orders));
                }
                out[1].push(row);
            }
        }
        let state = match (self.phase, self.halted, self.crossed) {
            ("live", true, _) => "halted",
            ("live", false, true) => "crossed",
            (phase, ..) => phase,
        };
        let mut health = name;
        health.extend([
            Value::Time(at),
            Value::Str(state.to_owned()),
            self.reason.map_or(Value::Null, |r| Value::Str(r.name().to_owned())),
            Value::Bool(self.halted),
            self.last.map_or(Value::Null, Value::Int),
        ]);
        health.extend(NAMES.iter().map(|name| Value::Int(self.counts[name])));
        out[2].push(health);
    }
}

/// Counts what came to a level or went from it.
pub fn moved(side: Side, before: f64, after: f64, flow: &mut [f64; 4]) {
    let at = 2 * side as usize;
    if after > before {
        flow[at] += after - before;
    } else {
        flow[at + 1] += before - after;
    }
}

/// Whether a level (or an order) comes twice with the same, and whether one comes with something else.
fn twice(changes: &[Change], by_order: bool) -> (bool, bool) {
    let (mut same, mut other) = (false, false);
    for (i, a) in changes.iter().enumerate() {
        for b in &changes[..i] {
            let meet = if by_order { a.id == b.id } else { (a.side, a.key) == (b.side, b.key) };
            let equal = (a.side, a.size, a.key) == (b.side, b.size, b.key);
            same |= meet && equal;
            other |= meet && !equal;
        }
    }
    (same, other)
}
