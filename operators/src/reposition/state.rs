//! The bytes of what a market keeps: drivers, cells, values.

use super::course::{Cell, Decision, Driver};
use crate::fleet::bytes::{Reader, Writer};
use crate::fleet::drivers::Duty;
use crate::fleet::ids::Id;
use crate::fleet::place::Spot;

/// One entry.
#[derive(Clone, Debug, PartialEq)]
pub enum Entry {
    /// A driver who is online.
    Driver(Id, Driver),
    /// A cell.
    Cell(Cell),
    /// A cell's value.
    Value(String, f64),
}

/// What an entry is of: the first byte of its key within the market.
pub const DRIVER: u8 = b'd';
const CELL: u8 = b'c';
const VALUE: u8 = b'v';

/// The key of an entry within its market.
pub fn key_of(tag: u8, id: &[u8]) -> Vec<u8> {
    let mut out = vec![tag];
    out.extend_from_slice(id);
    out
}

impl Entry {
    /// Its key within the market.
    pub fn key(&self) -> Vec<u8> {
        match self {
            Entry::Driver(id, _) => key_of(DRIVER, id),
            Entry::Cell(cell) => key_of(CELL, cell.spot.cell.as_bytes()),
            Entry::Value(cell, _) => key_of(VALUE, cell.as_bytes()),
        }
    }

    /// Its bytes. They begin with the length of the market's, by which a stored key is parted.
    pub fn value(&self, market: &[u8]) -> Vec<u8> {
        let mut out = Writer::default();
        out.int(market.len() as i64);
        match self {
            Entry::Driver(_, driver) => {
                out.int(driver.duty as i64);
                out.int(driver.since);
                driver.spot.write(&mut out);
                out.int(driver.due.is_some().into());
                out.int(driver.due.unwrap_or(0));
                out.int(driver.is_sent.into());
                if let Some(d) = &driver.decision {
                    out.int(d.at);
                    out.bytes(d.cell.as_bytes());
                    out.bytes(d.from_cell.as_bytes());
                    out.floats(&[d.probability, d.value, d.discount, d.distance_m]);
                }
            }
            Entry::Cell(cell) => {
                cell.spot.write(&mut out);
                out.floats(&[cell.demand]);
            }
            Entry::Value(_, value) => out.floats(&[*value]),
        }
        out.0
    }

    /// An entry from its stored key and bytes, with its market.
    pub fn of(key: &[u8], value: &[u8]) -> (Id, Entry) {
        let mut bytes = Reader(value);
        let (market, rest) = key.split_at(bytes.int() as usize);
        let (tag, id) = rest.split_first().expect("a tag");
        let entry = match *tag {
            DRIVER => {
                let (duty, since) = (Duty::of(bytes.int()), bytes.int());
                let spot = Spot::read(&mut bytes);
                let (has_due, due, is_sent) = (bytes.int() == 1, bytes.int(), bytes.int() == 1);
                let decision = (!bytes.0.is_empty()).then(|| {
                    let (at, cell, from_cell) = (bytes.int(), bytes.text(), bytes.text());
                    let [probability, value, discount, distance_m] = bytes.floats();
                    Decision { at, cell, from_cell, probability, value, discount, distance_m }
                });
                let due = Some(due).filter(|_| has_due);
                Entry::Driver(id.into(), Driver { duty, since, spot, due, is_sent, decision })
            }
            CELL => {
                let spot = Spot::read(&mut bytes);
                let [demand] = bytes.floats();
                Entry::Cell(Cell { spot, demand })
            }
            _ => {
                let [value] = bytes.floats();
                Entry::Value(String::from_utf8(id.to_vec()).expect("a text was written"), value)
            }
        };
        (market.into(), entry)
    }
}
