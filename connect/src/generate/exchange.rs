//! The exchange as a source: the messages of a [`Market`] as rows.

use types::{Micros, Type};

use super::market::{Kind, Record};
use crate::source::{Cells, Rows};

/// The columns of the one table there is, `messages`.
pub(crate) const COLUMNS: &[(&str, Type)] = &[
    ("at", Type::Timestamp),
    ("instrument", Type::String),
    ("kind", Type::String),
    ("message", Type::Int64),
    ("first_update", Type::Int64),
    ("last_update", Type::Int64),
    ("side", Type::String),
    ("price", Type::Float64),
    ("size", Type::Float64),
    ("trade_id", Type::Int64),
    ("buyer_is_maker", Type::Bool),
];

/// Its event time.
pub(crate) const EVENT_TIME: &str = "at";

impl Record {
    pub fn time(&self) -> Micros {
        self.at
    }

    /// Appends the row; `columns` are the positions in the table of the columns wanted.
    pub fn append(&self, rows: &mut Rows, columns: &[usize]) {
        for (to, from) in columns.iter().enumerate() {
            let builder = &mut rows.columns[to];
            match (from, &mut builder.cells) {
                (0, Cells::Time(out)) => out.push(self.at),
                (1, Cells::Str { .. }) => builder.push_str(&name(self.instrument)),
                (2, Cells::Str { .. }) => builder.push_str(match self.kind {
                    Kind::Snapshot => b"snapshot",
                    Kind::Depth => b"depth",
                    Kind::Trade => b"trade",
                }),
                (3, Cells::Int(out)) => out.push(self.message),
                (4, Cells::Int(out)) => out.push(self.first),
                (5, Cells::Int(out)) => out.push(self.last),
                (6, Cells::Str { .. }) => builder.push_str(if self.is_bid { b"bid" } else { b"ask" }),
                // A tick is a hundredth.
                (7, Cells::Float(out)) => out.push(self.ticks as f64 / 100.0),
                (8, Cells::Float(out)) => out.push(self.lots as f64),
                (9, Cells::Int(out)) => out.push(self.trade),
                (10, Cells::Bool(out)) => out.push(self.kind == Kind::Trade && self.is_bid),
                _ => unreachable!("columns were checked when planned"),
            }
        }
        rows.commit().expect("no cell is null");
    }
}

/// `S01`, `S02`, …
fn name(instrument: u32) -> [u8; 3] {
    let number = instrument + 1;
    [b'S', b'0' + (number / 10) as u8, b'0' + (number % 10) as u8]
}
