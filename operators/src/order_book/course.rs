//! The course of one instrument: its book, whether it is to be trusted, and what each record makes of both.
//!
//! A book is `waiting` for a snapshot, `live`, or `broken` until the next snapshot. Nothing is told of the levels of a
//! book that is not live, is crossed, or whose trading is halted. What makes a book broken also empties it.

use std::collections::VecDeque;

use super::book::{Book, Change, Flow};
use super::orders::Orders;
use super::quotes::Quotes;
use super::record::{Message, Record};
use super::rules::{Kind, Reason, Rules, TradeIds};
use super::sequence::Span;
use super::tally::{Count, Tally};
use super::tick::{Listener, Tick, TickKind, Trade};

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

/// Where a fault is told, and whether it still may be: a record has one fault at most.
#[derive(Clone, Copy)]
pub(super) struct Spot {
    pub place: u32,
    pub is_told: bool,
}

impl Spot {
    pub fn of(message: &Message) -> Spot {
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
