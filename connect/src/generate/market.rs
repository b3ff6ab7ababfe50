//! The exchange's simulation: books of several instruments, and what drives their prices, which changes.
//!
//! Each instrument has a book of ten levels a side, one tick apart, and a best bid and ask one tick apart. Two things move
//! around zero, with a half-life of about twenty steps: which side of the book makers favour (`flow`), and which side
//! takers come from (`trades`). Neither moves the price by itself. At every step the price may move by a tick, up or down
//! with a chance that leans to the **driver** of the present regime:
//!
//! | regime | the driver |
//! |---|---|
//! | flow | `flow`, seen in the sizes added to and removed from both sides |
//! | trades | `trades`, seen in the sides of trades |
//! | lead | the last moves of the first instrument; its own `flow` for the first itself |
//!
//! Regimes follow each other in this order, each for `regime_s`, for all instruments at once, so that at a known time a
//! feature stops telling anything and another begins to. Trades are from orders refilled at once, so that they leave no
//! mark in the sizes. In busy times, a quarter of all, prices move twice as often.
//!
//! Time moves in steps, a message of depth for each instrument in each. Randomness is a hash of (seed, what for, who,
//! which step); all arithmetic is on integers.

use types::random::{STEP, mix};

/// Levels of a side.
pub(crate) const LEVELS: usize = 10;
/// The best bid of the first instrument at the start, in ticks; each further one begins this much higher.
const PRICE_START: i64 = 10_000;
/// How far `flow`, `trades` and `lead` reach.
const FULL: i64 = 100;
/// In a thousand steps, how often a price moves when it is calm.
const MOVES: u64 = 250;
/// In a hundred steps, how often there is a trade.
const TRADES: u64 = 40;
const SIZE_MAX: i64 = 300;

/// What makes an exchange.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct MarketOptions {
    pub seed: u64,
    pub instruments: u32,
    /// Of depth, a second and an instrument.
    pub messages_per_sec: u32,
    pub regime_s: i64,
    /// By how much of a hundred the driver decides the direction of a move.
    pub signal: i64,
    /// Microseconds since 1970.
    pub start: i64,
    pub duration_s: Option<i64>,
}

/// What a record says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Snapshot,
    Depth,
    Trade,
}

/// What the venue sends: a level of a message, or a trade.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Record {
    pub at: i64,
    pub instrument: u32,
    pub kind: Kind,
    pub message: i64,
    /// The numbers of the message's first and last change; 0 for a trade.
    pub first: i64,
    pub last: i64,
    /// Of a trade: the side of the order that stood in the book.
    pub is_bid: bool,
    pub ticks: i64,
    pub lots: i64,
    /// 0 for what is no trade.
    pub trade: i64,
}

/// What drives prices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Regime {
    Flow,
    Trades,
    Lead,
}

#[derive(Clone, Debug)]
struct Instrument {
    /// The best bid, in ticks.
    bid: i64,
    /// Sizes by distance from the best: bids, then asks.
    sizes: [[i64; LEVELS]; 2],
    flow: i64,
    trades: i64,
    /// The last moves, the older the less.
    lead: i64,
    message: i64,
    change: i64,
    trade: i64,
}

/// What randomness is for.
#[derive(Clone, Copy)]
enum For {
    Size,
    Time,
    Busy,
    Move,
    Turn,
    Flow,
    Trades,
    Trade,
    Taker,
    Level,
    Maker,
}

/// An exchange.
pub(crate) struct Market {
    options: MarketOptions,
    step: i64,
    instruments: Vec<Instrument>,
}

impl Market {
    pub fn new(options: &MarketOptions) -> Market {
        let mut market = Market { options: options.clone(), step: 0, instruments: Vec::new() };
        for who in 0..options.instruments {
            let size = |level: usize, side: usize| market.size(who, (level + side * LEVELS) as u64);
            let sizes = [0, 1].map(|side| std::array::from_fn(|level| size(level, side)));
            let bid = PRICE_START * (i64::from(who) + 1);
            let instrument = Instrument { bid, sizes, flow: 0, trades: 0, lead: 0, message: 0, change: 0, trade: 0 };
            market.instruments.push(instrument);
        }
        market
    }

    /// The event time up to which the exchange has been simulated.
    pub fn now(&self) -> i64 {
        self.options.start + self.micros(self.step)
    }

    /// What drives prices at a time since the start.
    pub fn regime(&self, micros: i64) -> Regime {
        match micros / (self.options.regime_s * 1_000_000) % 3 {
            0 => Regime::Flow,
            1 => Regime::Trades,
            _ => Regime::Lead,
        }
    }

    /// Simulates a step more and appends its records, in event-time order. False: the exchange has closed.
    pub fn step(&mut self, out: &mut impl Extend<Record>) -> bool {
        let from = self.micros(self.step);
        if self.options.duration_s.is_some_and(|d| from >= d * 1_000_000) {
            return false;
        }
        let length = self.micros(self.step + 1) - from;
        let mut records: Vec<Record> = Vec::new();
        if self.step == 0 {
            (0..self.options.instruments).for_each(|who| self.snapshot(who, &mut records));
        }
        // What led until now: the first instrument's move of this step is not to be seen by the others.
        let lead = self.instruments[0].lead;
        let regime = self.regime(from);
        for who in 0..self.options.instruments {
            let offset = 1 + (self.draw(For::Time, who) % (length - 2).max(1) as u64) as i64;
            let at = self.options.start + from + offset;
            let moved = self.turn(who, regime, lead);
            self.drift(who);
            if self.draw(For::Trade, who) % 100 < TRADES {
                self.trade(who, at, &mut records);
            }
            self.depth(who, at, moved, &mut records);
        }
        records.sort_by_key(|r| r.at);
        out.extend(records);
        self.step += 1;
        true
    }

    fn micros(&self, step: i64) -> i64 {
        step * 1_000_000 / i64::from(self.options.messages_per_sec)
    }

    /// A random number for one purpose of one instrument at this step (SplitMix64's finaliser over the four).
    fn draw(&self, purpose: For, who: u32) -> u64 {
        self.draw_at(purpose, who, self.step as u64)
    }

    fn draw_at(&self, purpose: For, who: u32, which: u64) -> u64 {
        let z = mix(self.options.seed.wrapping_add(STEP).wrapping_add((purpose as u64) << 56));
        let z = mix(z.wrapping_add(u64::from(who).wrapping_mul(STEP)));
        mix(z.wrapping_add(which.wrapping_mul(STEP)).wrapping_add(STEP))
    }

    /// The size of a level that is new.
    fn size(&self, who: u32, which: u64) -> i64 {
        60 + (self.draw_at(For::Size, who, which << 40 | self.step as u64) % 60) as i64
    }

    /// Whether the price moves at this step, and which way.
    fn turn(&self, who: u32, regime: Regime, lead: i64) -> i64 {
        let own = &self.instruments[who as usize];
        let driver = match regime {
            Regime::Trades => own.trades,
            Regime::Lead if who > 0 => lead,
            _ => own.flow,
        };
        let busy = self.draw_at(For::Busy, 0, (self.micros(self.step) / 5_000_000) as u64).is_multiple_of(4);
        if self.draw(For::Move, who) % 1000 >= MOVES * if busy { 2 } else { 1 } {
            return 0;
        }
        let up = 5_000 + driver * self.options.signal / 2;
        if ((self.draw(For::Turn, who) % 10_000) as i64) < up { 1 } else { -1 }
    }

    /// Moves what is behind flow and trades.
    fn drift(&mut self, who: u32) {
        let shock = |draw: u64| (draw % 61) as i64 - 30;
        let (flow, trades) = (shock(self.draw(For::Flow, who)), shock(self.draw(For::Trades, who)));
        let own = &mut self.instruments[who as usize];
        own.flow = (own.flow * 31 / 32 + flow).clamp(-FULL, FULL);
        own.trades = (own.trades * 31 / 32 + trades).clamp(-FULL, FULL);
    }

    fn snapshot(&mut self, who: u32, out: &mut Vec<Record>) {
        let own = &mut self.instruments[who as usize];
        own.message += 1;
        own.change += 1;
        for (side, is_bid) in [true, false].into_iter().enumerate() {
            for level in 0..LEVELS {
                out.push(Record {
                    at: self.options.start,
                    instrument: who,
                    kind: Kind::Snapshot,
                    message: own.message,
                    first: own.change,
                    last: own.change,
                    is_bid,
                    ticks: own.price(is_bid, level),
                    lots: own.sizes[side][level],
                    trade: 0,
                });
            }
        }
    }

    fn trade(&mut self, who: u32, at: i64, out: &mut Vec<Record>) {
        let draw = self.draw(For::Taker, who);
        let own = &mut self.instruments[who as usize];
        own.message += 1;
        own.trade += 1;
        // A buyer takes from the ask.
        let is_bid = (draw % 1000) as i64 >= 500 + own.trades * 9 / 2;
        out.push(Record {
            at: at - 1,
            instrument: who,
            kind: Kind::Trade,
            message: own.message,
            first: 0,
            last: 0,
            is_bid,
            ticks: own.price(is_bid, 0),
            lots: 1 + (draw >> 32) as i64 % 20,
            trade: own.trade,
        });
    }

    /// The step's message: the levels a move changes, and a level of each side to which makers add or from which they
    /// take.
    fn depth(&mut self, who: u32, at: i64, moved: i64, out: &mut Vec<Record>) {
        let new_sizes = [100, 101].map(|which| self.size(who, which));
        let (level, maker) = (self.draw(For::Level, who), self.draw(For::Maker, who));
        let own = &mut self.instruments[who as usize];
        // Side and price of what changes; its size is looked up when all is done.
        let mut touched: Vec<(bool, i64)> = Vec::new();
        if moved != 0 {
            // The side the price moves to loses its best, the other has a new best, and the far ends follow.
            let gains_bid = moved > 0;
            touched.push((!gains_bid, own.price(!gains_bid, 0)));
            touched.push((gains_bid, own.price(gains_bid, LEVELS - 1)));
            own.bid += moved;
            let (gains, loses) = (usize::from(!gains_bid), usize::from(gains_bid));
            own.sizes[gains].rotate_right(1);
            own.sizes[gains][0] = new_sizes[0];
            own.sizes[loses].rotate_left(1);
            own.sizes[loses][LEVELS - 1] = new_sizes[1];
            touched.push((gains_bid, own.price(gains_bid, 0)));
            touched.push((!gains_bid, own.price(!gains_bid, LEVELS - 1)));
        }
        for (side, is_bid) in [true, false].into_iter().enumerate() {
            let draw = maker >> (32 * side) & 0xffff_ffff;
            let deep = (level >> (32 * side) & 0xffff) as u32 | 1 << 9;
            let level = deep.trailing_zeros() as usize;
            let lean = if is_bid { own.flow } else { -own.flow };
            let is_more = (draw % 1000) as i64 * 2 < 1000 + lean * 9;
            let lots = 1 + (draw >> 16) as i64 % 20;
            let size = &mut own.sizes[side][level];
            *size = (*size + if is_more { lots } else { -lots }).clamp(5, SIZE_MAX);
            touched.push((is_bid, own.price(is_bid, level)));
        }
        touched.sort_unstable();
        touched.dedup();
        own.message += 1;
        let first = own.change + 1;
        own.change += touched.len() as i64;
        own.lead = (own.lead * 7 / 8 + moved * 60).clamp(-FULL, FULL);
        for (is_bid, ticks) in touched {
            out.push(Record {
                at,
                instrument: who,
                kind: Kind::Depth,
                message: own.message,
                first,
                last: own.change,
                is_bid,
                ticks,
                lots: own.size_at(is_bid, ticks),
                trade: 0,
            });
        }
    }
}

impl Instrument {
    fn price(&self, is_bid: bool, level: usize) -> i64 {
        if is_bid { self.bid - level as i64 } else { self.bid + 1 + level as i64 }
    }

    fn size_at(&self, is_bid: bool, ticks: i64) -> i64 {
        let level = if is_bid { self.bid - ticks } else { ticks - self.bid - 1 };
        let side = usize::from(!is_bid);
        usize::try_from(level).ok().and_then(|l| self.sizes[side].get(l)).copied().unwrap_or(0)
    }
}
