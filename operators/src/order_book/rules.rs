//! The words of the kernel: what a record can be, what may be wrong with it, and by which rules a book is kept.

/// A side of the book.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Side {
    /// What is asked for.
    Bid = 0,
    /// What is offered.
    Ask = 1,
}

impl Side {
    /// Bids first.
    pub const BOTH: [Side; 2] = [Side::Bid, Side::Ask];

    /// Its name in views.
    pub fn name(self) -> &'static str {
        match self {
            Side::Bid => "bid",
            Side::Ask => "ask",
        }
    }

    /// The other side.
    pub fn other(self) -> Side {
        match self {
            Side::Bid => Side::Ask,
            Side::Ask => Side::Bid,
        }
    }
}

/// What a record says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The whole book: its levels or orders.
    Snapshot,
    /// Levels as they are from now on.
    Depth,
    /// The venue's own best bid and ask.
    Quote,
    /// A trade.
    Trade,
    /// Trading stops.
    Halt,
    /// Trading goes on.
    Resume,
    /// An order comes.
    Add,
    /// A part of an order goes.
    Reduce,
    /// An order goes.
    Delete,
    /// A part of an order is traded.
    Execute,
    /// An order nobody saw is traded.
    ExecuteHidden,
    /// An order has this much left, at this price.
    SetRemaining,
    /// Nothing of interest here.
    Ignore,
    /// What it says is not known.
    Unknown,
}

impl Kind {
    /// Whether several records can make one message of it.
    pub fn is_gathered(self) -> bool {
        matches!(self, Kind::Snapshot | Kind::Depth | Kind::Quote)
    }

    /// Whether it leaves the book as it is, whatever it says.
    pub fn spares_book(self) -> bool {
        matches!(self, Kind::Quote | Kind::Trade | Kind::Ignore)
    }
}

/// How the numbers of messages follow each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sequence {
    /// They are not looked at.
    None,
    /// One after the other: a message begins one after the last.
    Contiguous,
    /// As Binance's spot market has it: U = previous u + 1.
    BinanceSpot,
    /// As Binance's futures have it: pu = previous u.
    BinanceFutures,
}

/// How the numbers of trades follow each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TradeIds {
    /// They are not looked at.
    None,
    /// They grow.
    Increasing,
    /// One after the other.
    Contiguous,
}

/// By which rules a book is kept.
#[derive(Clone, Debug)]
pub struct Rules {
    /// The numbers of messages.
    pub sequence: Sequence,
    /// The numbers of trades.
    pub trade_ids: TradeIds,
    /// Whether a crossed book is well again once it is crossed no more; else it waits for a snapshot.
    pub crossed_heals: bool,
    /// Whether the book is known to be empty before the first record; else it waits for a snapshot.
    pub starts_empty: bool,
    /// Whether records are of orders that are known by their number.
    pub by_order: bool,
    /// Whether an order the book does not know breaks it; else such orders are counted.
    pub strict: bool,
    /// Whether every record carries the venue's own first levels after it, and how many; then the book knows no more.
    pub recorded: Option<usize>,
    /// How many levels are told.
    pub levels: usize,
    /// How many messages are kept for a snapshot that is still to come.
    pub buffer_max: usize,
}

/// Why something is refused, or a book no longer trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Reason {
    /// A column that says whose book it is is null.
    NullInstrument = 1,
    /// The kind is none of the words.
    UnknownKind,
    /// The side is none of the words.
    BadSide,
    /// The price is null, NaN, infinite, not above 0 or no multiple of the tick.
    BadPrice,
    /// The size is null, NaN, infinite, negative or no multiple of the lot.
    BadSize,
    /// A number the rule needs is null, negative or greater than the one it must not pass.
    BadNumber,
    /// The number of the order is null.
    BadOrder,
    /// The event time goes back.
    TimeBackwards,
    /// A message or level came before.
    Duplicate,
    /// A message is older than what is known.
    Stale,
    /// Messages are missing before this one.
    Gap,
    /// Trades are missing before this one.
    TradeGap,
    /// The best bid is as high as the best ask.
    Crossed,
    /// A message says two things of one level.
    Conflict,
    /// A record of the message was refused.
    Damaged,
    /// An order that the book does not know.
    UnknownOrder,
    /// An order comes that is there.
    KnownOrder,
    /// More of an order goes than there is.
    Overfill,
    /// An order is told of after its end.
    Late,
    /// The book is not what the record says it is.
    Differs,
    /// The book is not what the quote of the same number says it is.
    QuoteDisagrees,
    /// A trade while trading is halted.
    Halted,
}

impl Reason {
    /// Every reason.
    pub const ALL: [Reason; 22] = [
        Reason::NullInstrument,
        Reason::UnknownKind,
        Reason::BadSide,
        Reason::BadPrice,
        Reason::BadSize,
        Reason::BadNumber,
        Reason::BadOrder,
        Reason::TimeBackwards,
        Reason::Duplicate,
        Reason::Stale,
        Reason::Gap,
        Reason::TradeGap,
        Reason::Crossed,
        Reason::Conflict,
        Reason::Damaged,
        Reason::UnknownOrder,
        Reason::KnownOrder,
        Reason::Overfill,
        Reason::Late,
        Reason::Differs,
        Reason::QuoteDisagrees,
        Reason::Halted,
    ];

    /// Its name in faults and views.
    pub fn name(self) -> &'static str {
        match self {
            Reason::NullInstrument => "null_instrument",
            Reason::UnknownKind => "unknown_kind",
            Reason::BadSide => "bad_side",
            Reason::BadPrice => "bad_price",
            Reason::BadSize => "bad_size",
            Reason::BadNumber => "bad_number",
            Reason::BadOrder => "bad_order",
            Reason::TimeBackwards => "time_backwards",
            Reason::Duplicate => "duplicate",
            Reason::Stale => "stale",
            Reason::Gap => "gap",
            Reason::TradeGap => "trade_gap",
            Reason::Crossed => "crossed",
            Reason::Conflict => "conflict",
            Reason::Damaged => "damaged",
            Reason::UnknownOrder => "unknown_order",
            Reason::KnownOrder => "known_order",
            Reason::Overfill => "overfill",
            Reason::Late => "late_order",
            Reason::Differs => "differs",
            Reason::QuoteDisagrees => "quote_disagrees",
            Reason::Halted => "halted",
        }
    }
}
