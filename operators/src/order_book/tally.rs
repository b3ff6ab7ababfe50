//! What is counted of a book's course: the columns of `health`.

/// The counts, in the order in which they are shown and stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(usize)]
pub enum Count {
    /// Messages that were complete.
    Messages = 0,
    /// Messages, or records of orders, that changed the book.
    Applied,
    /// Snapshots that became the book.
    Snapshots,
    /// Snapshots that made a broken book whole.
    Resyncs,
    /// Messages that a snapshot already said.
    Covered,
    /// Messages that came while no book could take them, and were not kept.
    Dropped,
    /// Times that messages were missing.
    Gaps,
    /// Messages and levels that came before.
    Duplicates,
    /// Messages that were older than what was known.
    Stale,
    /// Times that the book became crossed.
    Crossed,
    /// Records refused.
    Refused,
    /// Orders told of that the book did not know.
    UnknownOrders,
    /// Trades.
    Trades,
    /// Times that trades were missing.
    TradeGaps,
    /// Quotes.
    Quotes,
    /// Books that said what the quote of their number said.
    QuotesAgree,
    /// Books that did not.
    QuotesDisagree,
    /// Books that said what the last quote before their number said, a later one being known.
    QuotesHeldAgree,
    /// Books that did not.
    QuotesHeldDisagree,
    /// Records whose levels were all as the book had them.
    RecordedEqual,
    /// Records whose levels were, but for some that came from beyond what the book can know.
    RecordedBeyond,
    /// Records with a level that the book should have known.
    RecordedDifferent,
}

/// How many counts there are.
pub const COUNTS: usize = 22;

/// Their names.
pub const NAMES: [&str; COUNTS] = [
    "messages",
    "applied",
    "snapshots",
    "resyncs",
    "covered",
    "dropped",
    "gaps",
    "duplicates",
    "stale",
    "crossed",
    "refused",
    "unknown_orders",
    "trades",
    "trade_gaps",
    "quotes",
    "quotes_agree",
    "quotes_disagree",
    "quotes_held_agree",
    "quotes_held_disagree",
    "recorded_equal",
    "recorded_beyond",
    "recorded_different",
];

/// What was counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally(pub [i64; COUNTS]);

impl Tally {
    /// One more.
    #[inline]
    pub fn add(&mut self, count: Count) {
        self.0[count as usize] += 1;
    }

    /// How many there were.
    pub fn get(&self, count: Count) -> i64 {
        self.0[count as usize]
    }
}
