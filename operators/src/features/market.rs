//! What is true of a market at a tick: facts of the book, of the trade, and of what changed since the tick before.

use super::feature::{Side, What};
use super::save::{Reader, Writer};

/// A level of the book.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Level {
    /// The price, above 0 and finite.
    pub price: f64,
    /// The size, at least 0 and finite.
    pub size: f64,
}

/// A trade.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Trade {
    /// The price, above 0 and finite.
    pub price: f64,
    /// The size, at least 0 and finite.
    pub size: f64,
    /// 1 if a buyer took, −1 if a seller did, 0 if it is not known.
    pub sign: f64,
}

/// A tick of a healthy book.
#[derive(Clone, Debug, PartialEq)]
pub struct Tick {
    /// When, in microseconds.
    pub at: i64,
    /// The bids, the highest first.
    pub bids: Vec<Level>,
    /// The asks, the lowest first.
    pub asks: Vec<Level>,
    /// The trade, if it is one.
    pub trade: Option<Trade>,
    /// Size that came, of bids and of asks.
    pub added: [f64; 2],
    /// Size that went, of bids and of asks.
    pub removed: [f64; 2],
}

/// Basis points of one.
pub const BP: f64 = 10_000.0;

/// The log return between two prices in basis points.
pub fn log_return(from: f64, to: f64) -> f64 {
    // Where nothing moved nothing is to be computed; a price that is none gives none.
    if from == to { 0.0 } else { BP * libm::log1p((to - from) / from) }
}

/// The facts of the last tick, with what of the past they need.
#[derive(Clone, Debug)]
pub struct Market {
    /// How many levels are looked at.
    levels: usize,
    bids: Book,
    asks: Book,
    /// For each level the order flow imbalance up to it, and at it.
    ofi: Vec<f64>,
    level_ofi: Vec<f64>,
    /// Facts by name; NaN where they are not defined.
    pub mid: f64,
    /// The mid of the tick before.
    pub mid_before: f64,
    /// The return since the tick before, in basis points, and that of the tick before.
    pub returned: f64,
    /// As above.
    pub returned_before: f64,
    /// The trade of the tick, if it has one.
    trade: Option<Trade>,
    added: [f64; 2],
    removed: [f64; 2],
    /// Which of [`What`] happened, and when each happened last.
    happened: [bool; 8],
    last: [i64; 8],
    at: i64,
    price_run: f64,
    trade_run: f64,
    /// Of the trades: the last price, the last change of it, the last known side.
    trade_price: f64,
    trade_change: f64,
    trade_sign: f64,
    /// The product of this trade's change of price, or sign, with that before it.
    change_product: f64,
    sign_product: f64,
    effective_spread: f64,
}

/// A side of the book with what of it changed.
#[derive(Clone, Debug)]
struct Book {
    /// Prices and sizes of the levels; where there is none, an infinitely bad price and no size.
    prices: Vec<f64>,
    sizes: Vec<f64>,
    /// Sizes up to each level.
    depths: Vec<f64>,
    /// How many levels there are.
    len: usize,
    nowhere: f64,
    /// The greatest size at the best price since it is what it is.
    best_max: f64,
}

/// Never.
const NEVER: i64 = i64::MIN;

impl Book {
    fn new(levels: usize, nowhere: f64) -> Book {
        Book {
            prices: vec![nowhere; levels],
            sizes: vec![0.0; levels],
            depths: vec![0.0; levels],
            len: 0,
            nowhere,
            best_max: 0.0,
        }
    }

    /// Takes the next levels. Gives whether the best changed.
    fn take(&mut self, levels: &[Level]) -> bool {
        let (best, size) = (self.prices[0], self.sizes[0]);
        self.len = levels.len().min(self.prices.len());
        let mut depth = 0.0;
        for (i, level) in levels[..self.len].iter().enumerate() {
            (self.prices[i], self.sizes[i]) = (level.price, level.size);
            depth += level.size;
            self.depths[i] = depth;
        }
        for i in self.len..self.prices.len() {
            (self.prices[i], self.sizes[i], self.depths[i]) = (self.nowhere, 0.0, depth);
        }
        self.best_max = if self.prices[0] == best { self.best_max.max(self.sizes[0]) } else { self.sizes[0] };
        self.prices[0] != best || self.sizes[0] != size
    }

    fn best(&self) -> f64 {
        if self.len > 0 { self.prices[0] } else { f64::NAN }
    }

    fn slope(&self, levels: usize, mid: f64) -> f64 {
        let (mut across, mut square) = (0.0, 0.0);
        for i in 0..levels.min(self.len) {
            let distance = (self.prices[i] - mid).abs();
            across += distance * self.depths[i];
            square += distance * distance;
        }
        across / square
    }

    fn save(&self, out: &mut Writer) {
        out.int(self.len as i64);
        out.floats(&self.prices[..self.len]);
        out.floats(&self.sizes[..self.len]);
        out.float(self.best_max);
    }

    fn restore(&mut self, bytes: &mut Reader<'_>) {
        let len = bytes.int() as usize;
        let prices: Vec<f64> = (0..len).map(|_| bytes.float()).collect();
        let levels: Vec<Level> = prices.into_iter().map(|price| Level { price, size: bytes.float() }).collect();
        self.take(&levels);
        self.best_max = bytes.float();
    }
}

impl Market {
    /// Before the first tick; of so many levels.
    pub fn new(levels: usize) -> Market {
        Market {
            levels,
            bids: Book::new(levels, f64::NEG_INFINITY),
            asks: Book::new(levels, f64::INFINITY),
            ofi: vec![f64::NAN; levels],
            level_ofi: vec![f64::NAN; levels],
            mid: f64::NAN,
            mid_before: f64::NAN,
            returned: f64::NAN,
            returned_before: f64::NAN,
            trade: None,
            added: [0.0; 2],
            removed: [0.0; 2],
            happened: [false; 8],
            last: [NEVER; 8],
            at: NEVER,
            price_run: 0.0,
            trade_run: 0.0,
            trade_price: f64::NAN,
            trade_change: f64::NAN,
            trade_sign: f64::NAN,
            change_product: f64::NAN,
            sign_product: f64::NAN,
            effective_spread: f64::NAN,
        }
    }

    /// Takes the next tick.
    pub fn take(&mut self, tick: &Tick) {
        let is_first = self.at == NEVER;
        for (flows, is_bid) in [(&tick.bids, true), (&tick.asks, false)] {
            self.flow(flows, is_bid, is_first);
        }
        let mut up_to = 0.0;
        for (ofi, level) in self.ofi.iter_mut().zip(&self.level_ofi) {
            up_to += level;
            *ofi = up_to;
        }
        let quote = self.bids.take(&tick.bids) | self.asks.take(&tick.asks);
        self.mid_before = self.mid;
        self.mid = (self.bids.best() + self.asks.best()) / 2.0;
        self.returned_before = self.returned;
        self.returned = log_return(self.mid_before, self.mid);
        let moved = if self.mid > self.mid_before {
            1.0
        } else if self.mid < self.mid_before {
            -1.0
        } else {
            0.0
        };
        if moved != 0.0 {
            self.price_run = if self.price_run * moved > 0.0 { self.price_run + moved } else { moved };
        }
        (self.added, self.removed) = (tick.added, tick.removed);
        self.take_trade(tick.trade);
        let sign = tick.trade.map_or(0.0, |t| t.sign);
        self.happened = [
            true,
            quote && !is_first,
            tick.trade.is_some(),
            sign > 0.0,
            sign < 0.0,
            tick.added[0] + tick.added[1] > 0.0,
            tick.removed[0] + tick.removed[1] > 0.0,
            moved != 0.0,
        ];
        // Since the tick before, where all else is since what happened, be it now.
        self.last[What::Tick as usize] = self.at;
        self.at = tick.at;
        for (last, _) in self.last.iter_mut().zip(self.happened).skip(1).filter(|(_, happened)| *happened) {
            *last = tick.at;
        }
    }

    /// The order flow of one side at each level, added to the other's.
    fn flow(&mut self, levels: &[Level], is_bid: bool, is_first: bool) {
        let book = if is_bid { &self.bids } else { &self.asks };
        for i in 0..self.levels {
            let (price, size) = levels.get(i).map_or((book.nowhere, 0.0), |l| (l.price, l.size));
            let (before, size_before) = (book.prices[i], book.sizes[i]);
            let (better, worse) =
                if is_bid { (price >= before, price <= before) } else { (price <= before, price >= before) };
            let flow = if better { size } else { 0.0 } - if worse { size_before } else { 0.0 };
            if is_bid {
                self.level_ofi[i] = if is_first { f64::NAN } else { flow };
            } else {
                self.level_ofi[i] -= flow;
            }
        }
    }

    fn take_trade(&mut self, trade: Option<Trade>) {
        self.trade = trade;
        (self.change_product, self.sign_product, self.effective_spread) = (f64::NAN, f64::NAN, f64::NAN);
        let Some(trade) = trade else { return };
        let change = trade.price - self.trade_price;
        self.change_product = change * self.trade_change;
        (self.trade_price, self.trade_change) = (trade.price, change);
        if trade.sign != 0.0 {
            self.sign_product = trade.sign * self.trade_sign;
            self.trade_sign = trade.sign;
            let goes_on = self.trade_run * trade.sign > 0.0;
            self.trade_run = if goes_on { self.trade_run + trade.sign } else { trade.sign };
            self.effective_spread = 2.0 * trade.sign * (trade.price - self.mid_before) / self.mid_before * BP;
        }
    }

    /// The value of a fact; NaN (or infinite) where it is not defined.
    pub fn fact(&self, fact: Fact) -> f64 {
        let (bids, asks) = (&self.bids, &self.asks);
        let book = |side| if side == Side::Bid { bids } else { asks };
        let share = |bid: f64, ask: f64| (bid - ask) / (bid + ask);
        match fact {
            Fact::Mid => self.mid,
            Fact::Spread => asks.best() - bids.best(),
            Fact::RelativeSpread => (asks.best() - bids.best()) / self.mid * BP,
            Fact::WeightedMid(k) => self.weighted_mid(k),
            // (weighted mid − mid) without the difference of two prices: the imbalance of half the spread.
            Fact::WeightedMidDeviation(k) => {
                let half = (asks.best() - bids.best()) / 2.0;
                share(bids.depths[k - 1], asks.depths[k - 1]) * half / self.mid * BP
            }
            Fact::Imbalance(k) => share(bids.depths[k - 1], asks.depths[k - 1]),
            Fact::LevelImbalance(i) => share(bids.sizes[i - 1], asks.sizes[i - 1]),
            Fact::Pressure(k) => {
                let weighted = |book: &Book| -> f64 {
                    let mut sum = 0.0;
                    for (i, size) in book.sizes[..k].iter().enumerate() {
                        sum += size / (i + 1) as f64;
                    }
                    sum
                };
                share(weighted(bids), weighted(asks))
            }
            Fact::Depth(side, k) => book(side).depths[k - 1],
            Fact::BothDepths(k) => bids.depths[k - 1] + asks.depths[k - 1],
            Fact::Slope(side, k) => book(side).slope(k, self.mid),
            Fact::Gap(side, i) => match book(side) {
                book if i < book.len => (book.prices[i - 1] - book.prices[i]).abs() / self.mid * BP,
                _ => f64::NAN,
            },
            Fact::Depletion(side) => 1.0 - book(side).sizes[0] / book(side).best_max,
            Fact::Ofi(k) => self.ofi[k - 1],
            Fact::LevelOfi(i) => self.level_ofi[i - 1],
            Fact::Return => self.returned,
            Fact::SquaredReturn => self.returned * self.returned,
            Fact::ReturnProduct => self.returned.abs() * self.returned_before.abs(),
            Fact::SignedVolume => self.trade.map_or(0.0, |t| t.sign * t.size),
            Fact::Volume => self.trade.map_or(0.0, |t| t.size),
            Fact::Notional => self.trade.map_or(0.0, |t| t.price * t.size),
            Fact::Added(side) => self.added[side as usize],
            Fact::Removed(side) => self.removed[side as usize],
            Fact::NetFlow => (self.added[0] - self.removed[0]) - (self.added[1] - self.removed[1]),
            Fact::GrossFlow => (self.added[0] + self.removed[0]) + (self.added[1] + self.removed[1]),
            Fact::Happened(what) => f64::from(u8::from(self.happened[what as usize])),
            Fact::Since(what) => match self.last[what as usize] {
                NEVER => f64::NAN,
                last => self.at.saturating_sub(last) as f64 / 1e6,
            },
            Fact::PriceRun => self.price_run,
            Fact::TradeRun => self.trade_run,
            Fact::ChangeProduct => self.change_product,
            Fact::SignProduct => self.sign_product,
            Fact::EffectiveSpread => self.effective_spread,
        }
    }

    fn weighted_mid(&self, levels: usize) -> f64 {
        let (bid, ask) = (self.bids.depths[levels - 1], self.asks.depths[levels - 1]);
        let share = bid / (bid + ask);
        share * self.asks.best() + (1.0 - share) * self.bids.best()
    }

    /// What the next tick needs of the past.
    pub fn save(&self, out: &mut Writer) {
        self.bids.save(out);
        self.asks.save(out);
        out.int(self.at);
        self.last.iter().for_each(|last| out.int(*last));
        out.floats(&[
            self.mid,
            self.mid_before,
            self.returned,
            self.returned_before,
            self.price_run,
            self.trade_run,
            self.trade_price,
            self.trade_change,
            self.trade_sign,
        ]);
    }

    /// What [`Market::save`] wrote.
    pub fn restore(levels: usize, bytes: &mut Reader<'_>) -> Market {
        let mut market = Market::new(levels);
        market.bids.restore(bytes);
        market.asks.restore(bytes);
        market.at = bytes.int();
        market.last.iter_mut().for_each(|last| *last = bytes.int());
        for value in [
            &mut market.mid,
            &mut market.mid_before,
            &mut market.returned,
            &mut market.returned_before,
            &mut market.price_run,
            &mut market.trade_run,
            &mut market.trade_price,
            &mut market.trade_change,
            &mut market.trade_sign,
        ] {
            *value = bytes.float();
        }
        market
    }
}

/// What can be said of a tick.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fact {
    /// The mid.
    Mid,
    /// The spread.
    Spread,
    /// The spread by the mid, in basis points.
    RelativeSpread,
    /// The mid weighted by the sizes of so many levels.
    WeightedMid(usize),
    /// Its distance from the mid, in basis points.
    WeightedMidDeviation(usize),
    /// Of so many levels.
    Imbalance(usize),
    /// Of one level.
    LevelImbalance(usize),
    /// Weighted by 1/i.
    Pressure(usize),
    /// Sizes up to a level.
    Depth(Side, usize),
    /// Of both sides.
    BothDepths(usize),
    /// Of size by distance.
    Slope(Side, usize),
    /// To the next level, in basis points.
    Gap(Side, usize),
    /// Of the best level.
    Depletion(Side),
    /// Order flow imbalance of so many levels.
    Ofi(usize),
    /// Of one level.
    LevelOfi(usize),
    /// Since the tick before, in basis points.
    Return,
    /// Its square.
    SquaredReturn,
    /// Its magnitude by that of the one before.
    ReturnProduct,
    /// Size of the trade with the sign of who took.
    SignedVolume,
    /// Size of the trade.
    Volume,
    /// Price by size of the trade.
    Notional,
    /// Size that came.
    Added(Side),
    /// Size that went.
    Removed(Side),
    /// Came less went, bids less asks.
    NetFlow,
    /// All that came and went.
    GrossFlow,
    /// 1 or 0.
    Happened(What),
    /// Seconds.
    Since(What),
    /// Moves in a row.
    PriceRun,
    /// Trades in a row.
    TradeRun,
    /// Of two trades' changes of price.
    ChangeProduct,
    /// Of two trades' signs.
    SignProduct,
    /// Twice the distance of a trade from the mid before it, in basis points.
    EffectiveSpread,
}
