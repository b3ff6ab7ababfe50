//! What is told of a book: a tick for every message, and who hears of it.

use super::book::{Book, Flow};
use super::rules::Reason;

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
