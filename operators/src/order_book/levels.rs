//! A book told by its levels: what each message of depth, snapshot and quote makes of it.

use super::book::{Book, Change, Flow};
use super::course::{Course, Head, Kept, Phase, Spot};
use super::ladder::{Level, price_of};
use super::orders::{Order, TOO_MUCH};
use super::quotes::Quote;
use super::record::{Message, Record, Twice, twice};
use super::rules::{Reason, Rules, Sequence, Side};
use super::sequence::{Follows, Span};
use super::tally::Count;
use super::tick::{Listener, TickKind};

impl Course {
    /// Levels as they are from now on.
    pub(super) fn depth(&mut self, rules: &Rules, message: &mut Message, out: &mut impl Listener) {
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
                // A snapshot since may say what is missing.
                let Head { phase, is_bridging, last, .. } = self.head;
                if phase != Phase::Live || !is_bridging || last < Some(span.after) {
                    self.break_up(Reason::Gap);
                }
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
            }
            if !rules.crossed_heals {
                spot.fault(Reason::Crossed, crossed_detail(&self.book), out);
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
    pub(super) fn snapshot(&mut self, rules: &Rules, message: &Message, out: &mut impl Listener) {
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
    pub(super) fn quote(&mut self, rules: &Rules, message: &Message, out: &mut impl Listener) {
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
