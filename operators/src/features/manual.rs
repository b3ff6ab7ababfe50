//! The manual's page: what the features are, the step's options, and a pipeline with it.

use engine::catalogue::OptionDef;

use super::kinds::TABLE;

use crate::options::option;

const BEFORE: &str = "\
A function of history over a stream of ticks, as `order_book` makes it: for each tick of a healthy book a vector of numbers.
Each number is defined by a formula over the ticks before it, and is computed from what the tick changed, so its cost does
not grow with the windows. Instruments have nothing to do with each other, but for a leader.

```text
features = [\"relative_spread\", \"imbalance(1)\", \"ofi(5, 20)\", \"ew_ofi(1, 2s)\", \"zscore(depth(bid, 5), 1000)\"]
```

A feature's column has its name and its arguments: `ofi_5_20`. In a table instead of a list, features have names of their own:
`features = { pressure = \"ofi(5, 20)\" }`. `span` and `half_life` are a number of ticks (`20`) or a time (`250us`, `500ms`, `2s`,
`5m`, `1h`); `levels` counts from the best; `side` is `bid` or `ask`; `what` is `tick`, `quote` (a best price or size changed),
`trade`, `buy`, `sell` (whoever took), `arrival`, `cancel` (size came to or went from the book) or `move` (of the mid).

";

const AFTER: &str = "
With b_n, q_n the price and size of the bid at a level at tick n, and a_n, r_n those of the ask,

    e_n = q_n·[b_n ≥ b_n−1] − q_n−1·[b_n ≤ b_n−1] − r_n·[a_n ≤ a_n−1] + r_n−1·[a_n ≥ a_n−1]

A level that is not there has an infinitely bad price and no size. bp is a basis point, 1/10,000.

**Windows.** A window of n ticks is the last n, the newest counted; a window of time is (t − span, t]. What was so far back is
what it was n ticks ago, or at the last tick at or before t − span. A feature over a window is null until the past is as long
as it, and while a number in it is not defined. Sums over windows are exact: rounded once, at the end, with no trace of what left
the window.

**Forgetting.** With a half-life h, what was there h ago weighs half. A forgotten mean is Σ w·x / Σ w over the ticks (or trades)
at which x is defined; a rate is ln 2 / h · Σ w·x per second, h a time. Both are null until the past is as long as h; a mean is
null, too, once what it saw last weighs less than 2⁻²⁰.

**Null** is also what has no value at the tick: the mid of a book with one side, a share of nothing, a deviation of what does
not vary.

**Gaps.** At a tick with `healthy` false or null, or one that is refused, history ends: no vector is told, the instrument's row
leaves the view, and the next healthy tick is the first. Windows and means begin anew, so no feature ever spans a gap.

**Clocks.** By `clock` a vector is told at every `clock_every`-th tick (`event`) or trade (`trade`), at the tick at which as much
was traded since the last vector (`volume`; M. López de Prado, *Advances in Financial Machine Learning*, 2018, section 2.3), or at
the first tick of every interval of that many seconds (`time`). Features see every tick, whatever the clock.

**Leader.** With `leader` one instrument leads, and the features of the others (and its own) may be of it: `leader(return(100ms))`
is that feature of the leader as its last tick left it, in the order of event time; null while the leader's book is not healthy.
All instruments are then computed on one worker.

The step's own relation has the latest vector of each instrument: its columns, `at`, `mid`, `spread` and the features. The
stream `vectors` has all of them, with the number of the tick (`_seq`) as key and `at` as event time.

**Faults**, which end the history as an unhealthy tick does: `bad_price`, `bad_size` (null with the other given, NaN, below 0 or
beyond 10³⁰; a price must be above 0), `bad_level` (a level after a missing one, or no worse than the one before it),
`crossed_book`, `bad_trade`, `bad_flow`, `time_backwards`.

Sources: T. Andersen and T. Bollerslev, *Int. Economic Review* 39, 1998. O. Barndorff-Nielsen and N. Shephard, *J. Financial
Econometrics* 2, 2004. C. Cao, O. Hansch and X. Wang, *J. Futures Markets* 29, 2009. R. Cont, A. Kukanov and S. Stoikov, \"The
price impact of order book events\", *J. Financial Econometrics* 12, 2014. R. Cont, M. Cucuringu and C. Zhang, \"Cross-impact of
order flow imbalance in equity markets\", *Quantitative Finance* 23, 2023. J. Gatheral and R. Oomen, *Finance and Stochastics* 14,
2010. J. Hasbrouck and T. Ho, *J. Finance* 42, 1987. A. Hawkes, *Biometrika* 58, 1971. T. Hayashi and N. Yoshida, *Bernoulli* 11,
2005. R. Huang and H. Stoll, *J. Financial Economics* 41, 1996. A. Kyle, *Econometrica* 53, 1985. R. Næs and J. Skjeltorp, *J.
Financial Markets* 9, 2006. M. Parkinson, *J. Business* 53, 1980. R. Roll, *J. Finance* 39, 1984. S. Stoikov, \"The micro-price\",
*Quantitative Finance* 18, 2018. K. Xu, M. Gould and S. Howison, \"Multi-level order-flow imbalance\", *Market Microstructure and
Liquidity* 4, 2018.";

const BYTES: [u8; BEFORE.len() + TABLE.len() + AFTER.len()] = {
    let mut bytes = [0; BEFORE.len() + TABLE.len() + AFTER.len()];
    let (parts, mut to, mut part) = ([BEFORE.as_bytes(), TABLE.as_bytes(), AFTER.as_bytes()], 0, 0);
    while part < parts.len() {
        let mut from = 0;
        while from < parts[part].len() {
            bytes[to] = parts[part][from];
            (to, from) = (to + 1, from + 1);
        }
        part += 1;
    }
    bytes
};

/// The page.
pub const DOC: &str = match str::from_utf8(&BYTES) {
    Ok(text) => text,
    Err(_) => panic!("pieces of text are text"),
};

/// The options.
pub const OPTIONS: &[OptionDef] = &[
    option("input", "relation", None, "A stream of ticks with an event time."),
    option("instrument", "list of column names", None, "The columns that say whose tick it is."),
    option(
        "features",
        "list of features, or a table of them by name",
        Some("a standard set of 40"),
        "What is computed. The standard set is cut to the levels and columns there are.",
    ),
    option("clock", "`event`, `trade`, `volume` or `time`", Some("event"), "When a vector is told."),
    option(
        "clock_every",
        "int64 or float64",
        Some("1"),
        "How many ticks or trades, how much volume, or how many seconds. Required for `volume` and `time`.",
    ),
    option("leader", "string, or a list of them", Some("none"), "The values of `instrument` of the one that leads."),
    option("healthy", "column name", Some("`healthy`, if it is there"), "Whether the book is to be trusted (bool)."),
    option(
        "bid_price",
        "list of column names",
        Some("`bid_price_1`, `bid_price_2`, …"),
        "The prices of the bids, from the best; null where there is none.",
    ),
    option("bid_size", "list of column names", Some("`bid_size_1`, …"), "Their sizes."),
    option("ask_price", "list of column names", Some("`ask_price_1`, …"), "The prices of the asks."),
    option("ask_size", "list of column names", Some("`ask_size_1`, …"), "Their sizes."),
    option("trade_price", "column name", Some("`trade_price`, if it is there"), "The trade's price; null without one."),
    option("trade_size", "column name", Some("`trade_size`, if it is there"), "Its size."),
    option(
        "trade_side",
        "column name",
        Some("`trade_side`, if it is there"),
        "1 if a buyer took, -1 if a seller did, else null.",
    ),
    option(
        "bid_added",
        "column name",
        Some("`bid_added`, if it is there"),
        "Size that came to the bids; null is none.",
    ),
    option("bid_removed", "column name", Some("`bid_removed`, if it is there"), "Size that went from them."),
    option("ask_added", "column name", Some("`ask_added`, if it is there"), "Size that came to the asks."),
    option("ask_removed", "column name", Some("`ask_removed`, if it is there"), "Size that went from them."),
];

/// A pipeline with it.
pub const EXAMPLE: &str = "\
name = \"watch\"

[sources.ticks]
type = \"file\"
path = \"ticks.csv\"
format = \"csv\"
event_time = \"at\"

[sources.ticks.columns]
symbol = \"string\"
at = \"timestamp\"
healthy = \"bool\"
bid_price_1 = \"float64\"
bid_size_1 = \"float64\"
ask_price_1 = \"float64\"
ask_size_1 = \"float64\"
trade_price = \"float64\"
trade_size = \"float64\"
trade_side = \"int64\"

[steps.watch]
operator = \"features\"
input = \"ticks\"
instrument = \"symbol\"
leader = \"BTCUSDT\"
features = [
  \"relative_spread\", \"imbalance(1)\", \"ofi(1, 20)\", \"ew_ofi(1, 2s)\", \"trade_imbalance(30s)\",
  \"volatility(500)\", \"zscore(relative_spread, 1000)\", \"leader(return(100ms))\", \"basis\",
]
";
