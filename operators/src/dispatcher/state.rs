//! The bytes of what a market keeps: drivers, orders, decisions, values, totals.

use super::course::{Decision, Driver, Order, Totals};
use crate::dispatch::policy::Weight;
use crate::fleet::bytes::{Reader, Writer};
use crate::fleet::drivers::Duty;
use crate::fleet::ids::Id;
use crate::fleet::place::Spot;

/// One entry.
#[derive(Clone, Debug, PartialEq)]
pub enum Entry {
    /// A driver who is online.
    Driver(Id, Driver),
    /// An order that waits.
    Order(Id, Order),
    /// The last decision on an order.
    Decision(Id, Decision),
    /// A cell's value.
    Value(String, f64),
    /// Totals, and until when time has passed.
    Totals(Totals, i64),
}

/// What an entry is of: the first byte of its key within the market.
pub const DRIVER: u8 = b'd';
/// As above.
pub const ORDER: u8 = b'o';
/// As above.
pub const DECISION: u8 = b'm';
/// As above.
pub const VALUE: u8 = b'v';
/// As above.
pub const TOTALS: u8 = b't';

impl Entry {
    /// Its key within the market.
    pub fn key(&self) -> Vec<u8> {
        match self {
            Entry::Driver(id, _) => key_of(DRIVER, id),
            Entry::Order(id, _) => key_of(ORDER, id),
            Entry::Decision(id, _) => key_of(DECISION, id),
            Entry::Value(cell, _) => key_of(VALUE, cell.as_bytes()),
            Entry::Totals(..) => key_of(TOTALS, &[]),
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
                out.int(driver.order.is_some().into());
                out.bytes(driver.order.as_deref().unwrap_or_default());
            }
            Entry::Order(_, order) => {
                out.int(order.since);
                out.int(order.until);
                out.floats(&[order.reward, order.trip_secs]);
                order.pickup.write(&mut out);
                if let Some(destination) = &order.destination {
                    destination.write(&mut out);
                }
            }
            Entry::Decision(_, decision) => {
                let w = &decision.weight;
                out.bytes(&decision.driver);
                out.int(decision.at);
                out.int(decision.is_over.into());
                out.floats(&[decision.distance_m, w.completion, w.reward, w.discount]);
                out.floats(&[w.value_destination, w.value_origin, w.total]);
            }
            Entry::Value(_, value) => out.floats(&[*value]),
            Entry::Totals(t, passed) => {
                [t.rounds, t.orders, t.matched, t.expired, t.cancelled, *passed].into_iter().for_each(|n| out.int(n));
                out.floats(&[t.distance_m, t.weight]);
            }
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
                let has_order = bytes.int() == 1;
                let order = Some(bytes.bytes()).filter(|_| has_order);
                Entry::Driver(id.into(), Driver { duty, since, spot, order })
            }
            ORDER => {
                let (since, until) = (bytes.int(), bytes.int());
                let [reward, trip_secs] = bytes.floats();
                let pickup = Spot::read(&mut bytes);
                let destination = (!bytes.0.is_empty()).then(|| Spot::read(&mut bytes));
                Entry::Order(id.into(), Order { since, until, pickup, destination, reward, trip_secs })
            }
            DECISION => {
                let (driver, at, is_over) = (bytes.bytes(), bytes.int(), bytes.int() == 1);
                let [distance_m, completion, reward, discount] = bytes.floats();
                let [value_destination, value_origin, total] = bytes.floats();
                let weight = Weight { completion, reward, discount, value_destination, value_origin, total };
                Entry::Decision(id.into(), Decision { driver, at, distance_m, weight, is_over })
            }
            VALUE => {
                let [value] = bytes.floats();
                Entry::Value(String::from_utf8(id.to_vec()).expect("a text was written"), value)
            }
            _ => {
                let [rounds, orders, matched, expired, cancelled, passed] = std::array::from_fn(|_| bytes.int());
                let [distance_m, weight] = bytes.floats();
                Entry::Totals(Totals { rounds, orders, matched, expired, cancelled, distance_m, weight }, passed)
            }
        };
        (market.into(), entry)
    }
}

/// The key of an entry within its market.
pub fn key_of(tag: u8, id: &[u8]) -> Vec<u8> {
    let mut out = vec![tag];
    out.extend_from_slice(id);
    out
}
