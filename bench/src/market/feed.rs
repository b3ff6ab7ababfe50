//! Recorded markets as messages: the records of each, as the kernel of `order_book` reads them.

use std::path::PathBuf;

use operators::order_book::book::Change;
use operators::order_book::record::Record;
use operators::order_book::rules::{Kind, Rules, Sequence, Side, TradeIds};
use operators::order_book::sequence::Numbers;

/// A recorded market.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Venue {
    /// BTC/USDT perpetual futures at Binance, five minutes.
    FuturesBtc,
    /// ETH/USDT there.
    FuturesEth,
    /// BTC/USDT at Binance's spot market.
    SpotBtc,
    /// AMZN at NASDAQ, one day, as LOBSTER has it: five levels.
    Amzn,
}

/// The records of one message, and the venue's own levels after it where they are recorded.
pub struct Message {
    pub records: Vec<Record>,
    pub recorded: Vec<Change>,
}

impl Venue {
    pub const ALL: [Venue; 4] = [Venue::FuturesBtc, Venue::FuturesEth, Venue::SpotBtc, Venue::Amzn];

    /// As figures name it.
    pub fn name(self) -> &'static str {
        match self {
            Venue::FuturesBtc => "usdm_btcusdt",
            Venue::FuturesEth => "usdm_ethusdt",
            Venue::SpotBtc => "spot_btcusdt",
            Venue::Amzn => "amzn",
        }
    }

    fn files(self) -> &'static [&'static str] {
        match self {
            Venue::FuturesBtc => &["binance_usdm_btcusdt_2024-08-08"],
            Venue::FuturesEth => &["binance_usdm_ethusdt_2024-08-08"],
            Venue::SpotBtc => &["binance_spot_btcusdt_2024-08-08", "binance_spot_btcusdt_2024-08-09"],
            Venue::Amzn => &["lobster_amzn_2012-06-21_L5"],
        }
    }

    /// By which rules its book is kept.
    pub fn rules(self) -> Rules {
        let sequence = match self {
            Venue::FuturesBtc | Venue::FuturesEth => Sequence::BinanceFutures,
            Venue::SpotBtc => Sequence::BinanceSpot,
            Venue::Amzn => Sequence::None,
        };
        let is_recorded = self == Venue::Amzn;
        Rules {
            sequence,
            trade_ids: if is_recorded { TradeIds::None } else { TradeIds::Contiguous },
            crossed_heals: false,
            starts_empty: false,
            by_order: false,
            strict: true,
            recorded: is_recorded.then_some(5),
            levels: 5,
            buffer_max: 1000,
        }
    }
}

/// Every message of a recorded market, in order.
pub fn read(venue: Venue) -> Result<Vec<Message>, String> {
    let data = std::env::var_os("THALWEG_DATA").map(PathBuf::from);
    let data = data.ok_or("the markets are recorded data: set THALWEG_DATA to its folder")?;
    let mut messages = Vec::new();
    let mut seq = 0;
    for file in venue.files() {
        let file = data.join("market").join(format!("{file}.csv.zst"));
        let told = |e: std::io::Error| format!("{}: {e}", file.display());
        let bytes = std::fs::read(&file).map_err(told)?;
        let text = String::from_utf8(zstd::decode_all(bytes.as_slice()).map_err(told)?).map_err(|e| e.to_string())?;
        for line in text.lines().skip(1) {
            let cells: Vec<&str> = line.split(',').collect();
            let read = if venue == Venue::Amzn { lobster(&cells, seq) } else { binance(&cells, seq) };
            let (record, recorded) = read.ok_or_else(|| format!("{}: cannot read `{line}`", file.display()))?;
            seq += 1;
            match messages.last_mut() {
                Some(Message { records, .. }) if is_one(records.last(), &record) => records.push(record),
                _ => messages.push(Message { records: vec![record], recorded }),
            }
        }
    }
    Ok(messages)
}

fn is_one(last: Option<&Record>, record: &Record) -> bool {
    last.is_some_and(|last| record.message.is_some() && last.message == record.message && last.kind == record.kind)
}

/// msg_no, local_ts_ns, event, event ms, transaction ms, U, u, pu, side, price, qty, trade_id, buyer_is_maker, …
fn binance(cells: &[&str], seq: i64) -> Option<(Record, Vec<Change>)> {
    let int = |at: usize| cells.get(at)?.parse::<i64>().ok();
    let record = Record {
        at: int(1)?.div_euclid(1000),
        seq,
        kind: match *cells.get(2)? {
            "snapshot" => Kind::Snapshot,
            "depthUpdate" => Kind::Depth,
            "bookTicker" => Kind::Quote,
            "trade" => Kind::Trade,
            _ => return None,
        },
        message: int(0),
        numbers: Numbers { first: int(5), last: int(6), previous: int(7) },
        side: match *cells.get(8)? {
            "bid" => Some(Side::Bid),
            "ask" => Some(Side::Ask),
            _ => None,
        },
        price: cells.get(9)?.parse().ok()?,
        size: cells.get(10)?.parse().ok()?,
        id: int(11),
        taker: int(12).map(|is_maker| 1 - 2 * is_maker),
        wrong: None,
    };
    Some((record, Vec::new()))
}

/// ts_ns, type, order_id, size, price, direction, then ask price and size, bid price and size a level.
fn lobster(cells: &[&str], seq: i64) -> Option<(Record, Vec<Change>)> {
    let int = |at: usize| cells.get(at)?.parse::<i64>().ok();
    let side = if int(5)? == 1 { Side::Bid } else { Side::Ask };
    let kind = match int(1)? {
        1 => Kind::Add,
        2 => Kind::Reduce,
        3 => Kind::Delete,
        4 => Kind::Execute,
        5 => Kind::ExecuteHidden,
        _ => Kind::Ignore,
    };
    let record = Record {
        at: int(0)?.div_euclid(1000),
        seq,
        kind,
        message: None,
        numbers: Numbers::default(),
        side: Some(side),
        price: int(4)? as f64,
        size: int(3)? as f64,
        id: None,
        taker: matches!(kind, Kind::Execute | Kind::ExecuteHidden).then_some(if side == Side::Bid { -1 } else { 1 }),
        wrong: None,
    };
    // The best first, bids before asks.
    let levels = [(Side::Bid, 2), (Side::Ask, 0)].into_iter().flat_map(|(side, at)| {
        (0..5).filter_map(move |i| {
            let of = |at: usize| cells.get(6 + 4 * i + at)?.parse::<f64>().ok();
            Some(Change::new(side, of(at)?, of(at + 1)?))
        })
    });
    let recorded = levels.filter(|change| change.size > 0.0).collect();
    Some((record, recorded))
}
