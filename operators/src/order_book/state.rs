//! The bytes of what is kept of a course: one entry a level, an order, a message that waits; the rest in one.

use std::collections::{BTreeMap, VecDeque};

use super::book::Change;
use super::course::{Course, Head, Kept, Phase};
use super::ladder::Level;
use super::orders::Order;
use super::quotes::Quote;
use super::rules::{Reason, Side};
use super::sequence::Span;
use super::tally::{COUNTS, Tally};

const HEAD: u8 = b'h';
const LEVEL: u8 = b'l';
const ORDER: u8 = b'o';
const ENDED: u8 = b'e';
const KEPT: u8 = b'k';
const QUOTES: u8 = b'q';

/// What of a course is in the store beside what can be seen in the course itself.
#[derive(Clone, Debug, Default)]
pub struct Stored {
    /// The numbers of the messages that are stored: from, and up to but not with.
    kept: (u64, u64),
    /// The numbers of the ended orders that are.
    ended: (u64, u64),
    /// Messages and ended orders that came back and are not in their place yet.
    returning: (BTreeMap<u64, Kept>, BTreeMap<u64, i64>),
}

/// Writes what has changed of a course. `put` is given the suffix of an entry's key and its value, or none.
pub fn store(course: &mut Course, stored: &mut Stored, put: &mut dyn FnMut(&[u8], Option<&[u8]>)) {
    let mut touched = std::mem::take(&mut course.book.touched);
    touched.sort_unstable();
    touched.dedup();
    for (side, key) in touched.drain(..) {
        let entry = level_key(side, key);
        match course.book.side(side).get(key) {
            Some(level) => {
                let mut out = Writer::default();
                out.float(level.size);
                out.int(level.orders.into());
                put(&entry, Some(&out.0));
            }
            None => put(&entry, None),
        }
    }
    course.book.touched = touched;
    let mut touched = std::mem::take(&mut course.orders.touched);
    touched.sort_unstable();
    touched.dedup();
    for id in touched.drain(..) {
        let entry = numbered(ORDER, id as u64);
        match course.orders.get(id) {
            Some(order) => {
                let mut out = Writer::default();
                out.int(order.side as i64);
                out.int(order.key as i64);
                out.float(order.size);
                put(&entry, Some(&out.0));
            }
            None => put(&entry, None),
        }
    }
    course.orders.touched = touched;

    let now = (course.kept_from, course.kept_from + course.kept.len() as u64);
    move_window(KEPT, &mut stored.kept, now, put, |at| {
        let mut out = Writer::default();
        out.kept(&course.kept[at]);
        out.0
    });
    let ended = &course.orders.ended;
    let now = (course.orders.ended_from, course.orders.ended_from + ended.len() as u64);
    move_window(ENDED, &mut stored.ended, now, put, |at| ended[at].to_le_bytes().to_vec());
    if std::mem::take(&mut course.quotes.is_dirty) {
        let mut out = Writer::default();
        course.quotes.held.iter().for_each(|quote| out.quote(quote));
        put(&[QUOTES], Some(&out.0));
    }
    let mut out = Writer::default();
    out.head(course);
    put(&[HEAD], Some(&out.0));
}

/// Takes entries out that have left a queue, and puts those in that have come.
fn move_window(
    tag: u8,
    stored: &mut (u64, u64),
    now: (u64, u64),
    put: &mut dyn FnMut(&[u8], Option<&[u8]>),
    value: impl Fn(usize) -> Vec<u8>,
) {
    for number in stored.0..stored.1.min(now.0) {
        put(&numbered(tag, number), None);
    }
    for number in stored.1.max(now.0)..now.1 {
        put(&numbered(tag, number), Some(&value((number - now.0) as usize)));
    }
    *stored = now;
}

fn level_key(side: Side, key: u64) -> [u8; 10] {
    let mut out = [LEVEL, side as u8, 0, 0, 0, 0, 0, 0, 0, 0];
    out[2..].copy_from_slice(&key.to_be_bytes());
    out
}

fn numbered(tag: u8, number: u64) -> [u8; 9] {
    let mut out = [tag, 0, 0, 0, 0, 0, 0, 0, 0];
    out[1..].copy_from_slice(&number.to_be_bytes());
    out
}

/// Takes an entry back. Panics on bytes that are not of [`store`]: the store's checksums make damage an error found
/// earlier.
pub fn restore(course: &mut Course, stored: &mut Stored, entry: &[u8], value: &[u8]) {
    let mut bytes = Reader(value);
    let number = || u64::from_be_bytes(entry[1..9].try_into().expect("eight bytes"));
    match entry[0] {
        LEVEL => {
            let side = side_of(entry[1].into());
            let key = u64::from_be_bytes(entry[2..10].try_into().expect("eight bytes"));
            let level = Level { key, size: bytes.float(), orders: bytes.int() as u32 };
            course.book.restore(side, level);
        }
        ORDER => {
            let order = Order { side: side_of(bytes.int()), key: bytes.int() as u64, size: bytes.float() };
            course.orders.restore(number() as i64, order);
        }
        ENDED => {
            stored.returning.1.insert(number(), bytes.int());
        }
        KEPT => {
            stored.returning.0.insert(number(), bytes.kept());
        }
        QUOTES => {
            let mut held = VecDeque::new();
            while !bytes.0.is_empty() {
                held.push_back(bytes.quote());
            }
            course.quotes.held = held;
        }
        _ => bytes.head(course),
    }
}

/// Every entry of a course has been taken back.
pub fn restored(course: &mut Course, stored: &mut Stored) {
    let (kept, ended) = std::mem::take(&mut stored.returning);
    course.kept.extend(kept.into_values());
    stored.kept = (course.kept_from, course.kept_from + course.kept.len() as u64);
    ended.into_values().for_each(|id| course.orders.restore_ended(id));
    stored.ended = (course.orders.ended_from, course.orders.ended_from + course.orders.ended.len() as u64);
}

fn side_of(number: i64) -> Side {
    if number == 0 { Side::Bid } else { Side::Ask }
}

#[derive(Default)]
struct Writer(Vec<u8>);

impl Writer {
    fn int(&mut self, value: i64) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    fn float(&mut self, value: f64) {
        self.int(value.to_bits() as i64);
    }

    fn optional(&mut self, value: Option<i64>) {
        self.int(value.is_some().into());
        self.int(value.unwrap_or(0));
    }

    fn quote(&mut self, quote: &Quote) {
        self.int(quote.number);
        for best in quote.best {
            self.int(best.is_some().into());
            let (key, size) = best.unwrap_or_default();
            self.int(key as i64);
            self.float(size);
        }
    }

    fn kept(&mut self, kept: &Kept) {
        self.int(kept.span.after);
        self.int(kept.span.last);
        for change in &kept.changes {
            self.int(change.side as i64);
            self.int(change.key as i64);
            self.float(change.size);
        }
    }

    fn head(&mut self, course: &Course) {
        let head = &course.head;
        self.int(head.phase as i64);
        self.int(head.reason.map_or(0, |reason| reason as i64));
        let flags = [head.is_halted, head.is_crossed, head.is_bridging, course.quotes.is_open];
        flags.into_iter().for_each(|flag| self.int(flag.into()));
        [head.last, head.chain, head.last_trade, head.at].into_iter().for_each(|value| self.optional(value));
        self.int(head.seq);
        self.int(course.kept_from as i64);
        self.int(course.orders.ended_from as i64);
        head.tally.0.into_iter().for_each(|count| self.int(count));
    }
}

struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn int(&mut self) -> i64 {
        let (value, rest) = self.0.split_at(8);
        self.0 = rest;
        i64::from_le_bytes(value.try_into().expect("eight bytes"))
    }

    fn float(&mut self) -> f64 {
        f64::from_bits(self.int() as u64)
    }

    fn optional(&mut self) -> Option<i64> {
        let is_some = self.int() == 1;
        let value = self.int();
        is_some.then_some(value)
    }

    fn quote(&mut self) -> Quote {
        let number = self.int();
        let best = [(); 2].map(|()| {
            let is_some = self.int() == 1;
            let best = (self.int() as u64, self.float());
            is_some.then_some(best)
        });
        Quote { number, best }
    }

    fn kept(&mut self) -> Kept {
        let span = Span { after: self.int(), last: self.int() };
        let mut changes = Vec::new();
        while !self.0.is_empty() {
            changes.push(Change { side: side_of(self.int()), key: self.int() as u64, size: self.float(), id: 0 });
        }
        Kept { span, changes }
    }

    fn head(&mut self, course: &mut Course) {
        let phase = [Phase::Waiting, Phase::Live, Phase::Broken][self.int() as usize];
        let reason = self.int();
        let reason = Reason::ALL.into_iter().find(|r| *r as i64 == reason);
        let [is_halted, is_crossed, is_bridging, is_open] = [(); 4].map(|()| self.int() == 1);
        let [last, chain, last_trade, at] = [(); 4].map(|()| self.optional());
        let seq = self.int();
        course.kept_from = self.int() as u64;
        course.orders.ended_from = self.int() as u64;
        let mut tally = [0; COUNTS];
        tally.iter_mut().for_each(|count| *count = self.int());
        course.quotes.is_open = is_open;
        course.head = Head {
            phase,
            reason,
            is_halted,
            is_crossed,
            is_bridging,
            last,
            chain,
            last_trade,
            at,
            seq,
            tally: Tally(tally),
        };
    }
}
