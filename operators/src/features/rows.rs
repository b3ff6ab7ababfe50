//! From rows to ticks, and what no tick can be made of.

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Float64Array, RecordBatch, TimestampMicrosecondArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type, TimestampMicrosecondType};

use super::market::{Level, Tick, Trade};
use super::options::TickColumns;

/// Prices and sizes beyond these magnitudes are mistakes, and their products would not be finite.
pub const GREATEST: f64 = 1e30;
/// A price must not be below this.
pub const LEAST: f64 = 1e-30;

/// A reason and a sentence.
pub type Wrong = (&'static str, String);

/// What a row says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Said {
    /// The book is healthy, and this is its tick.
    Tick,
    /// The book is not to be trusted.
    Unhealthy,
}

/// The columns of a batch.
pub struct TickRows {
    at: TimestampMicrosecondArray,
    healthy: Option<BooleanArray>,
    bids: Vec<[Float64Array; 2]>,
    asks: Vec<[Float64Array; 2]>,
    trade: Option<[Float64Array; 3]>,
    flows: Option<[Float64Array; 4]>,
}

impl TickRows {
    /// Of a batch.
    pub fn new(columns: &TickColumns, rows: &RecordBatch) -> TickRows {
        let number = |i: usize| floats(rows.column(i));
        let levels = |levels: &[[usize; 2]]| levels.iter().map(|level| level.map(number)).collect();
        TickRows {
            at: rows.column(columns.at).as_primitive::<TimestampMicrosecondType>().clone(),
            healthy: columns.healthy.map(|i| rows.column(i).as_boolean().clone()),
            bids: levels(&columns.bids),
            asks: levels(&columns.asks),
            trade: columns.trade.map(|trade| trade.map(number)),
            flows: columns.flows.map(|flows| flows.map(number)),
        }
    }

    /// Reads a row into the tick.
    pub fn read(&self, row: usize, tick: &mut Tick) -> Result<Said, Wrong> {
        tick.at = self.at.value(row);
        if let Some(healthy) = &self.healthy
            && !(healthy.is_valid(row) && healthy.value(row))
        {
            return Ok(Said::Unhealthy);
        }
        read_levels(&self.bids, row, &mut tick.bids, "bid", |better, worse| better > worse)?;
        read_levels(&self.asks, row, &mut tick.asks, "ask", |better, worse| better < worse)?;
        if let (Some(bid), Some(ask)) = (tick.bids.first(), tick.asks.first())
            && bid.price > ask.price
        {
            return Err(("crossed_book", format!("the best bid, {}, is above the best ask, {}", bid.price, ask.price)));
        }
        tick.trade = match &self.trade {
            Some(trade) => read_trade(trade, row)?,
            None => None,
        };
        let flow = |column: &Float64Array| match cell(column, row) {
            None => Ok(0.0),
            Some(size) if (0.0..=GREATEST).contains(&size) => Ok(size),
            Some(size) => Err(("bad_flow", format!("what came or went is {size}, and must be a size"))),
        };
        if let Some([bid_added, bid_removed, ask_added, ask_removed]) = &self.flows {
            tick.added = [flow(bid_added)?, flow(ask_added)?];
            tick.removed = [flow(bid_removed)?, flow(ask_removed)?];
        }
        Ok(Said::Tick)
    }
}

fn read_levels(
    columns: &[[Float64Array; 2]],
    row: usize,
    levels: &mut Vec<Level>,
    side: &str,
    is_better: fn(f64, f64) -> bool,
) -> Result<(), Wrong> {
    levels.clear();
    let mut is_over = false;
    for (i, [prices, sizes]) in columns.iter().enumerate() {
        let at = i + 1;
        let (price, size) = match (cell(prices, row), cell(sizes, row)) {
            (None, None) => {
                is_over = true;
                continue;
            }
            (Some(price), Some(size)) => (price, size),
            _ => return Err(("bad_level", format!("level {at} of the {side}s has a price or a size, and not both"))),
        };
        if is_over {
            return Err(("bad_level", format!("there is a {side} at level {at} and none before it")));
        }
        if !(LEAST..=GREATEST).contains(&price) {
            return Err(("bad_price", format!("the price of {side} {at} is {price}, and must be above 0 and finite")));
        }
        if !(0.0..=GREATEST).contains(&size) {
            return Err(("bad_size", format!("the size of {side} {at} is {size}, and must be at least 0 and finite")));
        }
        if levels.last().is_some_and(|better| !is_better(better.price, price)) {
            return Err(("bad_level", format!("the {side} at level {at} is no worse than the one before it")));
        }
        levels.push(Level { price, size: size + 0.0 });
    }
    Ok(())
}

fn read_trade([prices, sizes, sides]: &[Float64Array; 3], row: usize) -> Result<Option<Trade>, Wrong> {
    let (price, size) = match (cell(prices, row), cell(sizes, row)) {
        (None, None) => return Ok(None),
        (Some(price), Some(size)) => (price, size),
        _ => return Err(("bad_trade", "the trade has a price or a size, and not both".to_owned())),
    };
    let sign = cell(sides, row).unwrap_or(0.0);
    if !(LEAST..=GREATEST).contains(&price) || !(0.0..=GREATEST).contains(&size) {
        return Err(("bad_trade", format!("the trade's price is {price} and its size {size}")));
    }
    if ![-1.0, 0.0, 1.0].contains(&sign) {
        return Err(("bad_trade", format!("the trade's side is {sign}, and must be 1, -1 or null")));
    }
    Ok(Some(Trade { price, size: size + 0.0, sign: sign + 0.0 }))
}

fn cell(column: &Float64Array, row: usize) -> Option<f64> {
    column.is_valid(row).then(|| column.value(row))
}

/// A column of numbers as floats.
fn floats(column: &ArrayRef) -> Float64Array {
    let column = cast(column, &DataType::Float64).expect("int64 and float64 are floats");
    column.as_primitive::<Float64Type>().clone()
}
