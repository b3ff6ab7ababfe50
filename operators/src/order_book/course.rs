//! The course of one instrument: its book, whether it is to be trusted, and what each record makes of both.
//!
//! A book is `waiting` for a snapshot, `live`, or `broken` until the next snapshot. Nothing is told of the levels of a
//! book that is not live, is crossed, or whose trading is halted. What makes a book broken also empties it.

use std::collections::VecDeque;

use super::book::{Book, Change, Flow};
use super::ladder::{Level, price_of};
use super::orders::{Order, Orders, TOO_MUCH};
use super::quotes::{Quote, Quotes};
use super::record::{Message, Record, Twice, twice};
use super::rules::{Kind, Reason, Rules, Sequence, Side, TradeIds};
use super::sequence::{Follows, Span};
use super::tally::{Count, Tally};

/// Whether a book is there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum Phase {
    /// No snapshot has come yet.
    #[default]
    Waiting = 0,
    /// It is the venue's.
    Live,
    /// It is not, until a snapshot comes.
    Broken,
}

/// All of a course but levels, orders, quotes and messages kept.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Head {
    /// Whether the book is there.
    pub phase: Phase,
    /// Why it is broken.
    pub reason: Option<Reason>,
    /// Whether trading is halted.
    pub is_halted: bool,
    /// Whether the book is crossed, where that may heal.
    pub is_crossed: bool,
    /// Whether no message was applied since the snapshot.
    pub is_bridging: bool,
    /// The number the book is at.
    pub last: Option<i64>,
    /// The number of the last message of depth that came, applied or not.
    pub chain: Option<i64>,
    /// The number of the last trade.
    pub last_trade: Option<i64>,
    /// The event time and the number of the last record of the last message.
    pub at: Option<i64>,
    /// As above.
    pub seq: i64,
    /// What was counted.
    pub tally: Tally,
}

/// A message of depth that waits for a snapshot.
#[derive(Clone, Debug, PartialEq)]
pub struct Kept {
    /// What it covers.
    pub span: Span,
    /// Its levels.
    pub changes: Vec<Change>,
}

/// The course of one instrument.
#[derive(Clone, Debug, Default)]
pub struct Course {
    /// The book.
    pub book: Book,
    /// Its orders, where they are known.
    pub orders: Orders,
    /// The rest.
    pub head: Head,
    /// Messages that wait for a snapshot, in order.
    pub kept: VecDeque<Kept>,
    /// How many have left it: the number of its first.
    pub kept_from: u64,
    /// Quotes that wait for the book.
    pub quotes: Quotes,
    pub(super) pending: Option<Message>,
    spare: Vec<Change>,
}

/// What a tick is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TickKind {
    /// Levels or orders changed.
    Depth,
    /// A snapshot came.
    Snapshot,
    /// A quote came.
    Quote,
    /// A trade.
    Trade,
    /// Trading stopped or went on.
    Status,
}

impl TickKind {
    /// Its name in the stream.
    pub fn name(self) -> &'static str {
        match self {
            TickKind::Depth => "depth",
            TickKind::Snapshot => "snapshot",
            TickKind::Quote => "quote",
            TickKind::Trade => "trade",
            TickKind::Status => "status",
        }
    }
}

/// A trade.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Trade {
    /// Its price.
    pub price: f64,
    /// Its size.
    pub size: f64,
    /// Who took: 1 a buyer, −1 a seller.
    pub taker: Option<i64>,
}

/// What is told of a message.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tick {
    /// What it is of.
    pub kind: TickKind,
    /// Whether the book is to be trusted.
    pub is_healthy: bool,
    /// The event time of its last record.
    pub at: i64,
    /// The number of its last record.
    pub seq: i64,
    /// The trade, if it is of one.
    pub trade: Option<Trade>,
    /// What came and went.
    pub flow: Flow,
}

/// Who is told.
pub trait Listener {
    /// Something happened, and the book is this now.
    fn tick(&mut self, tick: &Tick, book: &Book);
    /// The record at this place is refused, or its message is.
    fn fault(&mut self, place: u32, reason: Reason, detail: String);
}

/// Where a fault is told, and whether it still may be: a record has one fault at most.
#[derive(Clone, Copy)]
pub(super) struct Spot {
    pub place: u32,
    pub is_told: bool,
}

impl Spot {
    fn of(message: &Message) -> Spot {
        Spot { place: message.place, is_told: message.is_told }
    }

    pub fn fault(&mut self, reason: Reason, detail: String, out: &mut impl Listener) {
        if !std::mem::replace(&mut self.is_told, true) {
            out.fault(self.place, reason, detail);
        }
    }
}

impl Course {
    /// Before the first record.
    pub fn new(rules: &Rules) -> Course {
        let mut course = Course::default();
        if rules.starts_empty {
            course.head.phase = Phase::Live;
        }
        course
    }

    /// Whether the levels are to be trusted.
    pub fn is_healthy(&self) -> bool {
        self.head.phase == Phase::Live && !self.head.is_halted && !self.head.is_crossed
    }

    /// The next record; `place` is where it stands, for faults. `recorded` are the levels it says the venue has after it.
    pub fn feed(&mut self, rules: &Rules, record: &Record, recorded: &[Change], place: u32, out: &mut impl Listener) {
        if self.pending.as_ref().is_some_and(|message| !message.takes(record)) {
            self.complete(rules, out);
        }
        let mut spot = Spot { place, is_told: false };
        if self.head.at.is_some_and(|at| record.at < at) {
            self.refuse(Reason::TimeBackwards, "its event time is before that of the last".to_owned(), &mut spot, out);
            if !record.kind.spares_book() {
                self.break_up(Reason::TimeBackwards);
            }
            return;
        }
        if let Some(wrong) = record.wrong {
            self.refuse(wrong, detail_of(wrong, record), &mut spot, out);
        }
        match record.kind {
            Kind::Ignore => {}
            kind if kind.is_gathered() => {
                self.gather(record, spot);
                if record.message.is_none() {
                    self.complete(rules, out);
                }
            }
            kind => {
                self.head.at = Some(record.at);
                self.head.seq = record.seq;
                self.head.tally.add(Count::Messages);
                match kind {
                    _ if record.wrong.is_some() => {
                        if !kind.spares_book() {
                            self.break_up(record.wrong.expect("it is"));
                            self.tell(TickKind::Depth, None, Flow::default(), out);
                        }
                    }
                    Kind::Trade => self.trade(rules, record, spot, out),
                    Kind::Halt | Kind::Resume => {
                        self.head.is_halted = kind == Kind::Halt;
                        self.tell(TickKind::Status, None, Flow::default(), out);
                    }
                    _ => self.act(rules, record, recorded, spot, out),
                }
            }
        }
    }

    /// Whether a message waits to be complete.
    pub fn is_pending(&self) -> bool {
        self.pending.is_some()
    }

    /// The message that was being gathered is complete.
    pub fn complete(&mut self, rules: &Rules, out: &mut impl Listener) {
        let Some(mut message) = self.pending.take() else { return };
        self.head.at = Some(message.head.at);
        self.head.seq = message.seq;
        self.head.tally.add(Count::Messages);
        match message.head.kind {
            Kind::Depth => self.depth(rules, &mut message, out),
            Kind::Snapshot => self.snapshot(rules, &message, out),
            _ => self.quote(rules, &message, out),
        }
        message.changes.clear();
        self.spare = message.changes;
    }

    fn gather(&mut self, record: &Record, spot: Spot) {
        let spare = &mut self.spare;
        let message = self.pending.get_or_insert_with(|| Message {
            head: *record,
            seq: record.seq,
            place: spot.place,
            changes: std::mem::take(spare),
            is_damaged: false,
            is_told: false,
        });
        message.seq = record.seq;
        message.place = spot.place;
        message.is_told = spot.is_told;
        match (record.wrong, record.side) {
            (None, Some(side)) => {
                let id = record.id.unwrap_or(0);
                message.changes.push(Change { id, ..Change::new(side, record.price, record.size) });
            }
            _ => message.is_damaged = true,
        }
    }

    /// Levels as they are from now on.
    fn depth(&mut self, rules: &Rules, message: &mut Message, out: &mut impl Listener) {
        let mut spot = Spot::of(message);
        let Some(span) = self.follow(rules, &message.head, &mut spot, out) else { return };
        let repeats = twice(&message.changes, false);
        if repeats == Twice::Same {
            self.head.tally.add(Count::Duplicates);
            spot.fault(Reason::Duplicate, "a level comes twice in one message".to_owned(), out);
        }
        if message.is_damaged || repeats == Twice::Other {
            let (reason, detail) = match message.is_damaged {
                true => (Reason::Damaged, "a record of the message was refused, and so is it"),
                false => (Reason::Conflict, "the message says two things of one level"),
            };
            spot.fault(reason, detail.to_owned(), out);
            self.break_up(reason);
        } else if self.head.phase != Phase::Live {
            self.keep(rules, span, &mut message.changes);
        } else if self.head.is_bridging && span.is_some_and(|s| self.is_covered(rules, s)) {
            self.head.tally.add(Count::Covered);
            return;
        } else if let Some(span) = span.filter(|s| self.head.is_bridging && self.head.last < Some(s.after)) {
            let last = self.head.last.unwrap_or(0);
            let detail =
                format!("the snapshot is at {last}, and the first message after it begins after {}", span.after);
            self.head.tally.add(Count::Gaps);
            spot.fault(Reason::Gap, detail, out);
            self.break_up(Reason::Gap);
            self.keep(rules, Some(span), &mut message.changes);
        } else {
            let flow = self.apply(&message.changes);
            self.put_at(span.map(|s| s.last));
            self.check(rules, &mut spot, out);
            self.tell(TickKind::Depth, None, flow, out);
            return;
        }
        self.tell(TickKind::Depth, None, Flow::default(), out);
    }

    /// Judges a message's numbers. `None` if it goes no further; what it covers is `None` where numbers do not count.
    pub(super) fn follow(
        &mut self,
        rules: &Rules,
        head: &Record,
        spot: &mut Spot,
        out: &mut impl Listener,
    ) -> Option<Option<Span>> {
        if rules.sequence == Sequence::None {
            return Some(None);
        }
        let span = match rules.sequence.span(head.numbers) {
            Ok(span) => span,
            Err(detail) => {
                self.refuse(Reason::BadNumber, detail, spot, out);
                self.break_up(Reason::BadNumber);
                self.tell(TickKind::Depth, None, Flow::default(), out);
                return None;
            }
        };
        let before = self.head.chain;
        let was = before.unwrap_or(0);
        match rules.sequence.follows(before, span) {
            Follows::Next => {}
            Follows::Duplicate => {
                self.head.tally.add(Count::Duplicates);
                spot.fault(Reason::Duplicate, format!("the message up to {} came before", span.last), out);
                return None;
            }
            Follows::Stale => {
                self.head.tally.add(Count::Stale);
                let detail = format!("the message up to {} comes after the one up to {was}", span.last);
                spot.fault(Reason::Stale, detail, out);
                return None;
            }
            Follows::Gap => {
                self.head.tally.add(Count::Gaps);
                let detail = format!("the last message went up to {was}, and this one begins after {}", span.after);
                spot.fault(Reason::Gap, detail, out);
                self.break_up(Reason::Gap);
            }
        }
        self.head.chain = Some(span.last);
        Some(Some(span))
    }

    /// Whether the snapshot said it already.
    pub(super) fn is_covered(&self, rules: &Rules, span: Span) -> bool {
        self.head.last.is_some_and(|last| rules.sequence.is_covered(span, last))
    }

    /// Keeps a message for a snapshot that is still to come.
    fn keep(&mut self, rules: &Rules, span: Option<Span>, changes: &mut Vec<Change>) {
        let Some(span) = span.filter(|_| rules.buffer_max > 0) else {
            self.head.tally.add(Count::Dropped);
            return;
        };
        if self.kept.len() == rules.buffer_max {
            self.kept.pop_front();
            self.kept_from += 1;
            self.head.tally.add(Count::Dropped);
        }
        self.kept.push_back(Kept { span, changes: std::mem::take(changes) });
    }

    fn apply(&mut self, changes: &[Change]) -> Flow {
        let mut flow = Flow::default();
        for change in changes {
            let before = self.book.set(change.side, Level { key: change.key, size: change.size, orders: 0 });
            flow.count(change.side, before.map_or(0.0, |l| l.size), change.size);
        }
        self.head.tally.add(Count::Applied);
        flow
    }

    /// A message was applied that ends with this number.
    pub(super) fn put_at(&mut self, number: Option<i64>) {
        if number.is_some() {
            self.head.last = number;
            self.head.is_bridging = false;
            self.quotes.is_open = true;
        }
    }

    /// Looks whether the book can be what it is: not crossed, and as the venue's quotes have it.
    pub(super) fn check(&mut self, rules: &Rules, spot: &mut Spot, out: &mut impl Listener) {
        let was_crossed = std::mem::replace(&mut self.head.is_crossed, self.book.is_crossed());
        if self.head.is_crossed {
            if !was_crossed {
                self.head.tally.add(Count::Crossed);
                spot.fault(Reason::Crossed, crossed_detail(&self.book), out);
            }
            if !rules.crossed_heals {
                self.break_up(Reason::Crossed);
            }
        }
        self.settle(spot, out);
    }

    fn settle(&mut self, spot: &mut Spot, out: &mut impl Listener) {
        let Some(last) = self.head.last.filter(|_| self.head.phase == Phase::Live) else { return };
        if self.head.is_crossed {
            return;
        }
        let Some(compared) = self.quotes.settle(&self.book, last) else { return };
        self.head.tally.add(match (compared.is_exact, compared.agrees) {
            (true, true) => Count::QuotesAgree,
            (true, false) => Count::QuotesDisagree,
            (false, true) => Count::QuotesHeldAgree,
            (false, false) => Count::QuotesHeldDisagree,
        });
        if compared.is_exact && !compared.agrees {
            let detail = format!("the quote of update {last} has another best than the book");
            spot.fault(Reason::QuoteDisagrees, detail, out);
            self.break_up(Reason::QuoteDisagrees);
        }
    }

    /// The whole book.
    fn snapshot(&mut self, rules: &Rules, message: &Message, out: &mut impl Listener) {
        let mut spot = Spot::of(message);
        if self.accept(rules, message, &mut spot, out) {
            self.check(rules, &mut spot, out);
        }
        self.tell(TickKind::Snapshot, None, Flow::default(), out);
    }

    /// Puts a snapshot in the place of the book, unless it is none or too old.
    fn accept(&mut self, rules: &Rules, message: &Message, spot: &mut Spot, out: &mut impl Listener) -> bool {
        if message.is_damaged {
            spot.fault(Reason::Damaged, "a record of the snapshot was refused, and so is it".to_owned(), out);
            return false;
        }
        let number = message.head.numbers.last.filter(|n| *n >= 0);
        let numbered = rules.sequence != Sequence::None;
        if numbered && number.is_none() {
            self.refuse(Reason::BadNumber, "the number of the snapshot is null or negative".to_owned(), spot, out);
            return false;
        }
        match twice(&message.changes, rules.by_order) {
            Twice::No => {}
            Twice::Same => {
                self.head.tally.add(Count::Duplicates);
                spot.fault(Reason::Duplicate, "a level comes twice in one message".to_owned(), out);
            }
            Twice::Other => {
                spot.fault(Reason::Conflict, "the snapshot says two things of one level".to_owned(), out);
                return false;
            }
        }
        if let Some(number) = number.filter(|_| numbered) {
            let known = match self.head.phase {
                Phase::Live => self.head.last,
                _ => self.kept.front().map(|kept| kept.span.after).or(self.head.chain),
            };
            if known.is_some_and(|known| number < known) {
                self.head.tally.add(Count::Stale);
                let detail = format!("the snapshot is at {number}, and what came since does not reach back to it");
                spot.fault(Reason::Stale, detail, out);
                return false;
            }
        }
        if !rules.crossed_heals && is_crossed(&message.changes) {
            self.head.tally.add(Count::Crossed);
            spot.fault(Reason::Crossed, "the snapshot's best bid is as high as its best ask".to_owned(), out);
            self.break_up(Reason::Crossed);
            return false;
        }
        self.book.clear();
        self.orders.clear();
        for change in &message.changes {
            if !rules.by_order {
                self.book.set(change.side, Level { key: change.key, size: change.size, orders: 0 });
            } else if !self.orders.place(&mut self.book, change.id, Order::of(change)) {
                self.refuse(Reason::BadSize, TOO_MUCH.to_owned(), spot, out);
                self.break_up(Reason::BadSize);
                return false;
            }
        }
        self.head.tally.add(Count::Snapshots);
        if self.head.phase == Phase::Broken {
            self.head.tally.add(Count::Resyncs);
        }
        self.head = Head { phase: Phase::Live, reason: None, is_crossed: false, ..self.head };
        if numbered {
            self.put_at(number);
            self.head.is_bridging = true;
        }
        while let Some(kept) = self.kept.pop_front() {
            self.kept_from += 1;
            if self.is_covered(rules, kept.span) {
                self.head.tally.add(Count::Covered);
            } else {
                self.apply(&kept.changes);
                self.put_at(Some(kept.span.last));
            }
        }
        true
    }

    /// The venue's own best.
    fn quote(&mut self, rules: &Rules, message: &Message, out: &mut impl Listener) {
        let mut spot = Spot::of(message);
        self.head.tally.add(Count::Quotes);
        if message.is_damaged {
            return;
        }
        let mut best = [None; 2];
        for change in message.changes.iter().filter(|c| c.size != 0.0) {
            best[change.side as usize] = Some((change.key, change.size));
        }
        if let [Some((bid, _)), Some((ask, _))] = best
            && price_of(Side::Bid, bid) >= price_of(Side::Ask, ask)
        {
            self.refuse(Reason::Crossed, "the quote's bid is as high as its ask".to_owned(), &mut spot, out);
            return;
        }
        if let Some(number) = message.head.numbers.last.filter(|_| rules.sequence != Sequence::None) {
            match self.quotes.last() {
                Some(last) if number <= last => {
                    let (count, reason) = if number == last {
                        (Count::Duplicates, Reason::Duplicate)
                    } else {
                        (Count::Stale, Reason::Stale)
                    };
                    self.head.tally.add(count);
                    spot.fault(reason, format!("the quote of {number} comes after that of {last}"), out);
                    return;
                }
                _ => {}
            }
            self.quotes.push(Quote { number, best });
            self.settle(&mut spot, out);
        }
        self.tell(TickKind::Quote, None, Flow::default(), out);
    }

    fn trade(&mut self, rules: &Rules, record: &Record, mut spot: Spot, out: &mut impl Listener) {
        if let (Some(id), Some(last)) = (record.id, self.head.last_trade)
            && rules.trade_ids != TradeIds::None
        {
            if id <= last {
                let (count, reason) =
                    if id == last { (Count::Duplicates, Reason::Duplicate) } else { (Count::Stale, Reason::Stale) };
                self.head.tally.add(count);
                spot.fault(reason, format!("the trade {id} comes after the trade {last}"), out);
                return;
            }
            if rules.trade_ids == TradeIds::Contiguous && id - 1 != last {
                self.head.tally.add(Count::TradeGaps);
                spot.fault(Reason::TradeGap, format!("the trades between {last} and {id} are missing"), out);
            }
        }
        self.head.last_trade = record.id.or(self.head.last_trade);
        let trade = Trade { price: record.price, size: record.size, taker: record.taker };
        self.tell_trade(trade, Flow::default(), &mut spot, out);
    }

    /// Tells of a trade.
    pub(super) fn tell_trade(&mut self, trade: Trade, flow: Flow, spot: &mut Spot, out: &mut impl Listener) {
        self.head.tally.add(Count::Trades);
        if self.head.is_halted {
            spot.fault(Reason::Halted, "a trade while trading is halted".to_owned(), out);
        }
        self.tell(TickKind::Trade, Some(trade), flow, out);
    }

    pub(super) fn tell(&self, kind: TickKind, trade: Option<Trade>, flow: Flow, out: &mut impl Listener) {
        let at = self.head.at.expect("a message has come");
        let is_healthy = self.is_healthy();
        let flow = if is_healthy { flow } else { Flow::default() };
        out.tick(&Tick { kind, is_healthy, at, seq: self.head.seq, trade, flow }, &self.book);
    }

    /// Counts a refusal, and tells it.
    pub(super) fn refuse(&mut self, reason: Reason, detail: String, spot: &mut Spot, out: &mut impl Listener) {
        self.head.tally.add(Count::Refused);
        spot.fault(reason, detail, out);
    }

    /// The book is trusted no more.
    pub(super) fn break_up(&mut self, reason: Reason) {
        self.head = Head {
            phase: Phase::Broken,
            reason: Some(reason),
            is_crossed: false,
            is_bridging: false,
            last: None,
            ..self.head
        };
        self.book.clear();
        self.orders.clear();
        self.kept_from += self.kept.len() as u64;
        self.kept.clear();
        self.quotes.is_open = false;
    }
}

/// Whether the best bid among these levels is as high as the best ask.
fn is_crossed(changes: &[Change]) -> bool {
    let best = |side| changes.iter().filter(|c| c.side == side && c.size != 0.0).map(|c| c.key).max();
    match (best(Side::Bid), best(Side::Ask)) {
        (Some(bid), Some(ask)) => price_of(Side::Bid, bid) >= price_of(Side::Ask, ask),
        _ => false,
    }
}

fn crossed_detail(book: &Book) -> String {
    let price = |side| book.best(side).map_or(f64::NAN, |(price, _)| price);
    format!("the best bid, {}, is as high as the best ask, {}", price(Side::Bid), price(Side::Ask))
}

/// What a refused record's fault says.
fn detail_of(reason: Reason, record: &Record) -> String {
    match reason {
        Reason::BadPrice => format!("the price is {}", record.price),
        Reason::BadSize => format!("the size is {}", record.size),
        Reason::BadSide => "the side is null or none of the words of `sides`".to_owned(),
        Reason::UnknownKind => "the kind is null or none of the words of `kinds`".to_owned(),
        Reason::BadOrder => "the number of the order is null".to_owned(),
        _ => reason.name().to_owned(),
    }
}
