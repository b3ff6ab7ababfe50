//! Features are their definitions: on hand-computed markets, on a recorded book against a computation of another language,
//! and whatever restarts lie between.

#![allow(clippy::disallowed_methods, reason = "tests are switched by the environment")]

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::Path;
use std::process::Command;

use engine::catalogue::Row;
use engine::operator::{Context, HistoryOperator, StepKind};
use engine::pipeline::load;
use engine::plan::StepPlan;
use testkit::recorded_data;
use types::{RowCodec, SEQ, Schema, Value};

/// A stream of ticks of so many levels with a step over it.
fn pipeline(levels: usize, step: &str) -> String {
    let mut text = "name = \"p\"\n[sources.ticks]\ntype = \"file\"\npath = \"x.csv\"\nformat = \"csv\"\nevent_time = \"at\"\n\
         [sources.ticks.columns]\nsymbol = \"string\"\nat = \"timestamp\"\nhealthy = \"bool\"\ntrade_price = \"float64\"\n\
         trade_size = \"float64\"\ntrade_side = \"int64\"\n"
        .to_owned();
    for name in ["bid_added", "bid_removed", "ask_added", "ask_removed"] {
        text += &format!("{name} = \"float64\"\n");
    }
    for level in 1..=levels {
        for name in ["bid_price", "bid_size", "ask_price", "ask_size"] {
            text += &format!("{name}_{level} = \"float64\"\n");
        }
    }
    text + "[steps.it]\noperator = \"features\"\ninput = \"ticks\"\ninstrument = \"symbol\"\n" + step
}

fn problems(levels: usize, step: &str) -> Vec<String> {
    match load(Path::new("p.toml"), &pipeline(levels, step), &|_| None, &catalogue::all()) {
        Ok(_) => Vec::new(),
        Err(problems) => problems.iter().map(ToString::to_string).collect(),
    }
}

/// A step at work.
struct Step {
    plan: StepPlan,
    input: Schema,
    operator: Box<dyn HistoryOperator>,
    state: BTreeMap<Vec<u8>, Vec<u8>>,
    /// Bytes of state written so far.
    written: usize,
    epoch: u64,
    latest: BTreeMap<Row, i64>,
    vectors: Vec<Row>,
    faults: Vec<String>,
}

impl Step {
    fn new(levels: usize, step: &str) -> Step {
        let text = pipeline(levels, step);
        let plan = load(Path::new("p.toml"), &text, &|_| None, &catalogue::all());
        let plan = plan.unwrap_or_else(|problems| panic!("{problems}"));
        let input = plan.sources[0].schema.clone();
        let plan = plan.steps[0].plan.clone();
        let mut step = Step {
            operator: start(&plan),
            plan,
            input,
            state: BTreeMap::new(),
            written: 0,
            epoch: 0,
            latest: BTreeMap::new(),
            vectors: Vec::new(),
            faults: Vec::new(),
        };
        step.restart();
        step
    }

    /// Begins anew with what is stored.
    fn restart(&mut self) {
        self.operator = start(&self.plan);
        for (key, value) in &self.state {
            self.operator.restore(key, value);
        }
    }

    /// One epoch.
    fn apply(&mut self, rows: &[Row]) {
        self.epoch += 1;
        let mut context = Context::new(self.epoch, i64::MAX, 2);
        self.operator.apply(0, &RowCodec::new(&self.input).batch(rows), &mut context);
        self.operator.advance(&mut context);
        let (outputs, writes, faults, _) = context.into_parts();
        for (output, deltas) in outputs.iter().enumerate() {
            for delta in deltas {
                for row in 0..delta.len() {
                    let cells: Row = delta.rows.columns().iter().map(|c| Value::at(c, row)).collect();
                    if output == 1 {
                        self.vectors.push(cells);
                    } else {
                        let count = self.latest.entry(cells).or_insert(0);
                        *count += delta.diff(row);
                    }
                }
            }
        }
        self.latest.retain(|_, count| *count != 0);
        self.faults.extend(faults.into_iter().map(|(fault, _)| fault.reason));
        for write in writes.iter() {
            let key = write.key[2..].to_vec();
            self.written += write.after.map_or(0, <[u8]>::len);
            match write.after {
                Some(value) => _ = self.state.insert(key, value.to_vec()),
                None => _ = self.state.remove(&key),
            }
        }
    }

    fn row(&self, cells: &BTreeMap<&str, Value>) -> Row {
        self.input.columns.iter().map(|c| cells.get(c.name.as_str()).cloned().unwrap_or(Value::Null)).collect()
    }
}

fn start(plan: &StepPlan) -> Box<dyn HistoryOperator> {
    let StepKind::History(new) = &plan.kind else { panic!("not a function of history") };
    new()
}

/// A tick as text: `10 99x5 98x1 | 101x3 102x2 trade 101x2 buy +bid 5 -ask 2`: microseconds, bids, asks, and what happened.
/// A name before the time is the instrument's; `sick` is a book that is not healthy.
fn tick(step: &Step, text: &str, seq: i64) -> Row {
    let mut words = text.split_whitespace().peekable();
    let mut cells: BTreeMap<String, Value> = BTreeMap::new();
    let symbol = words.next_if(|w| w.chars().all(char::is_alphabetic)).unwrap_or("x");
    cells.insert("symbol".into(), Value::Str(symbol.into()));
    cells.insert("at".into(), Value::Time(words.next().unwrap().parse().unwrap()));
    cells.insert("healthy".into(), Value::Bool(true));
    cells.insert(SEQ.into(), Value::Int(seq));
    let (mut side, mut level) = ("bid", 0);
    let pair = |word: &str| {
        let (price, size) = word.split_once('x').unwrap();
        [price, size].map(|n| Value::Float(n.parse().unwrap()))
    };
    while let Some(word) = words.next() {
        match word {
            "sick" => _ = cells.insert("healthy".into(), Value::Bool(false)),
            "|" => (side, level) = ("ask", 0),
            "trade" => {
                let [price, size] = pair(words.next().unwrap());
                cells.insert("trade_price".into(), price);
                cells.insert("trade_size".into(), size);
                let side = words.next_if(|w| ["buy", "sell"].contains(w)).map(|w| if w == "buy" { 1 } else { -1 });
                cells.insert("trade_side".into(), side.map_or(Value::Null, Value::Int));
            }
            "+bid" | "-bid" | "+ask" | "-ask" => {
                let name = format!("{}_{}", &word[1..], if word.starts_with('+') { "added" } else { "removed" });
                cells.insert(name, Value::Float(words.next().unwrap().parse().unwrap()));
            }
            word => {
                level += 1;
                let [price, size] = pair(word);
                cells.insert(format!("{side}_price_{level}"), price);
                cells.insert(format!("{side}_size_{level}"), size);
            }
        }
    }
    step.row(&cells.iter().map(|(name, value)| (name.as_str(), value.clone())).collect())
}

/// After each of the ticks, one a line, the feature is what is expected; NaN stands for null.
fn check(feature: &str, ticks: &str, expected: &[f64]) {
    let mut step = Step::new(3, &format!("features = [\"{feature}\"]"));
    let lines: Vec<&str> = ticks.lines().map(str::trim).filter(|l| !l.is_empty()).collect();
    let rows: Vec<Row> = lines.iter().enumerate().map(|(i, line)| tick(&step, line, i as i64)).collect();
    step.apply(&rows);
    assert_eq!(step.faults, Vec::<String>::new(), "{feature}");
    let got: Vec<f64> = step
        .vectors
        .iter()
        .map(|row| match row[4] {
            Value::Float(f) => f,
            _ => f64::NAN,
        })
        .collect();
    let same = |a: f64, b: f64| (a - b).abs() <= 1e-12 * a.abs().max(b.abs()).max(1e-3) || (a.is_nan() && b.is_nan());
    let all = got.len() == expected.len() && got.iter().zip(expected).all(|(a, b)| same(*a, *b));
    assert!(all, "{feature}\ngot      {got:?}\nexpected {expected:?}");
}

const NULL: f64 = f64::NAN;

#[test]
fn features_of_the_book_are_what_a_hand_computes() {
    // Mid 100, spread 2; sizes 3, 1, 4 against 1, 2, 5.
    let book = "0 99x3 98x1 96x4 | 101x1 102x2 104x5";
    for (feature, expected) in [
        ("mid_price", 100.0),
        ("quoted_spread", 2.0),
        ("relative_spread", 200.0),
        ("weighted_mid(1)", 0.75 * 101.0 + 0.25 * 99.0),
        ("weighted_mid(2)", 4.0 / 7.0 * 101.0 + 3.0 / 7.0 * 99.0),
        ("weighted_mid_deviation(1)", 50.0),
        ("imbalance(1)", 0.5),
        ("imbalance(3)", 0.0),
        ("level_imbalance(2)", -1.0 / 3.0),
        ("pressure(2)", (3.5 - 2.0) / 5.5),
        ("depth(bid, 2)", 4.0),
        ("depth(ask, 3)", 8.0),
        ("slope(bid, 3)", (1.0 * 3.0 + 2.0 * 4.0 + 4.0 * 8.0) / (1.0 + 4.0 + 16.0)),
        ("slope(ask, 1)", 1.0),
        ("slope_imbalance(1)", 0.5),
        ("gap(bid, 1)", 100.0),
        ("gap(ask, 2)", 200.0),
        ("depletion(bid)", 0.0),
        ("since(move)", NULL),
        ("price_run", 0.0),
        ("return(1)", NULL),
        ("ofi(1, 1)", NULL),
        ("basis", NULL),
    ] {
        if feature != "basis" {
            check(feature, book, &[expected]);
        }
    }
    // One side alone has no mid, and all the imbalance there can be; no side has neither.
    check("mid_price", "0 99x3 |\n1 | 101x1\n2 |", &[NULL; 3]);
    check("imbalance(1)", "0 99x3 |\n1 | 101x1\n2 |", &[1.0, -1.0, NULL]);
    check("gap(bid, 2)", "0 99x3 98x1 | 101x1", &[NULL]);
    check("depletion(bid)", "0 99x2 |\n1 99x4 |\n2 99x1 |\n3 98x1 |\n4 99x1 |", &[0.0, 0.0, 0.75, 0.0, 0.0]);
}

#[test]
fn order_flow_is_what_a_hand_computes() {
    // The bid gains 2, rises with 5, falls back to 3 (losing 5); the ask loses 1, falls with 4, rises to 2 (losing 4).
    let bids = "0 99x3 | 105x9\n1 99x5 | 105x9\n2 100x5 | 105x9\n3 99x3 | 105x9";
    check("ofi(1, 1)", bids, &[NULL, 2.0, 5.0, -5.0]);
    check("ofi(1, 2)", bids, &[NULL, NULL, 7.0, 0.0]);
    check("ofi(1, 2us)", bids, &[NULL, NULL, 7.0, 0.0]);
    let asks = "0 90x3 | 101x3\n1 90x3 | 101x2\n2 90x3 | 100x4\n3 90x3 | 101x2";
    check("ofi(1, 1)", asks, &[NULL, 1.0, -4.0, 4.0]);
    check("ew_ofi(1, 1)", asks, &[NULL, 1.0, (-4.0 + 0.5) / 1.5, (4.0 - 2.0 + 0.25) / 1.75]);
    // A level that comes adds its size, one that goes takes it away; the second alone, and both.
    let levels = "0 99x3 | 101x1\n1 99x3 98x7 | 101x1\n2 99x4 | 101x1";
    check("level_ofi(2, 1)", levels, &[NULL, 7.0, -7.0]);
    check("ofi(2, 1)", levels, &[NULL, 7.0, -6.0]);
    check("normalised_ofi(1, 2)", levels, &[NULL, NULL, 1.0 / ((4.0 + 5.0) / 4.0)]);
    let second = std::f64::consts::LN_2;
    check("ew_ofi(1, 1s)", "0 99x3 |\n1000000 99x5 |\n2000000 99x9 |", &[NULL, 2.0 * second, (4.0 + 1.0) * second]);
}

#[test]
fn trades_and_flows_are_what_a_hand_computes() {
    let trades =
        "0 99x1 | 101x1 trade 101x2 buy\n1 99x1 | 101x1\n2 99x1 | 101x1 trade 99x6 sell\n3 99x1 | 101x1 trade 100x1";
    check("trade_flow(2)", trades, &[NULL, 2.0, -6.0, -6.0]);
    check("trade_volume(2)", trades, &[NULL, 2.0, 6.0, 7.0]);
    check("trade_imbalance(3)", trades, &[NULL, NULL, -0.5, -6.0 / 7.0]);
    check("trade_imbalance(1)", trades, &[1.0, NULL, -1.0, 0.0]);
    check(
        "vwap_deviation(3)",
        trades,
        &[NULL, NULL, (100.0 - 99.5) / 100.0 * 1e4, (100.0 - 694.0 / 7.0) / 100.0 * 1e4],
    );
    check("ew_trade_flow(1)", trades, &[2.0, 1.0 / 1.5, (-6.0 + 0.5) / 1.75, (-3.0 + 0.25) / 1.875]);
    check("trade_run", trades, &[1.0, 1.0, -1.0, -1.0]);
    check("since(trade)", trades, &[0.0, 1e-6, 0.0, 0.0]);
    check("since(buy)", trades, &[0.0, 1e-6, 2e-6, 3e-6]);
    check("count(trade, 2)", trades, &[NULL, 1.0, 1.0, 2.0]);
    check("sign_autocorrelation(1)", trades, &[NULL, NULL, -1.0, -1.0]);
    // Bought 1 above the mid before, then sold 1 below it: twice that each time.
    check("effective_spread(1)", trades, &[NULL, NULL, 200.0, 200.0]);
    let bounce = "0 99x1 | 101x1 trade 101x1 buy\n1 99x1 | 101x1 trade 99x1 sell\n2 99x1 | 101x1 trade 101x1 buy";
    check("roll_spread(1)", bounce, &[NULL, NULL, 2.0 * 2.0 / 100.0 * 1e4]);
    let flows = "0 99x1 | 101x1 +bid 3\n1 99x1 | 101x1 -bid 1 +ask 2\n2 99x1 | 101x1 -ask 4";
    check("added(bid, 2)", flows, &[NULL, 3.0, 0.0]);
    check("removed(ask, 2)", flows, &[NULL, 0.0, 4.0]);
    check("flow_imbalance(2)", flows, &[NULL, 0.0, (4.0 - 1.0 - 2.0) / 7.0]);
    check("flow_imbalance(1)", "0 99x1 | 101x1", &[NULL]);
    check("count(arrival, 1)", flows, &[1.0, 1.0, 0.0]);
    check("count(cancel, 1)", flows, &[0.0, 1.0, 1.0]);
    let rate = std::f64::consts::LN_2 / 2.0;
    let timed = "0 99x1 | 101x1 +bid 3\n2000000 99x1 | 101x1 +bid 1\n4000000 99x1 | 101x1";
    check("intensity(arrival, 2s)", timed, &[NULL, 1.5 * rate, 0.75 * rate]);
    check("intensity(tick, 2s)", timed, &[NULL, 1.5 * rate, 1.75 * rate]);
}

#[test]
fn prices_are_what_a_hand_computes() {
    let moves = "0 99x1 | 101x1\n1 100x1 | 102x1\n2 101x1 | 103x1\n3 101x2 | 103x1\n4 100x1 | 102x1";
    let ln = |a: f64, b: f64| 1e4 * (b / a).ln();
    let (up, on, down) = (ln(100.0, 101.0), ln(101.0, 102.0), ln(102.0, 101.0));
    check("return(1)", moves, &[NULL, up, on, 0.0, down]);
    check("return(2)", moves, &[NULL, NULL, up + on, on, down]);
    check("return(2us)", moves, &[NULL, NULL, up + on, on, down]);
    check("volatility(2)", moves, &[NULL, NULL, up.hypot(on), on.abs(), down.abs()]);
    check(
        "ew_volatility(1)",
        moves,
        &[
            NULL,
            up,
            ((on * on + up * up / 2.0) / 1.5).sqrt(),
            (on * on / 2.0 + up * up / 4.0).sqrt() / 1.75f64.sqrt(),
            ((down * down + on * on / 4.0 + up * up / 8.0) / 1.875).sqrt(),
        ],
    );
    let half_pi = std::f64::consts::FRAC_PI_2;
    check("bipower(1)", moves, &[NULL, NULL, (half_pi * up * on).sqrt(), 0.0, 0.0]);
    check(
        "jump_share(2)",
        moves,
        &[NULL, NULL, NULL, 1.0 - half_pi * up * on / (on * on), 1.0]
            .map(|share: f64| if share.is_nan() { share } else { share.max(0.0) }),
    );
    check("range(3)", moves, &[NULL, NULL, 2.0 / 102.0 * 1e4, 1.0 / 102.0 * 1e4, 1.0 / 101.0 * 1e4]);
    check("position(3)", moves, &[NULL, NULL, 1.0, 1.0, 0.0]);
    check("price_run", moves, &[0.0, 1.0, 2.0, 2.0, -1.0]);
    check("since(move)", moves, &[NULL, 0.0, 0.0, 1e-6, 0.0]);
    check("since(quote)", moves, &[NULL, 0.0, 0.0, 0.0, 0.0]);
    check("since(tick)", moves, &[NULL, 1e-6, 1e-6, 1e-6, 1e-6]);
    check(
        "autocorrelation(1, 1)",
        moves,
        &[
            NULL,
            NULL,
            up * on / (on * on + up * up / 2.0) * 1.5,
            up * on / 2.0 / (on * on / 2.0 + up * up / 4.0) * 1.75 / 1.5,
            (up * on / 4.0) / (down * down + on * on / 4.0 + up * up / 8.0) * 1.875 / 1.75,
        ],
    );
    // A return of 2 for each lot bought, and of 0 for none: a line of slope 2, less for logarithms.
    let impact = "0 99x1 | 101x1\n1 101x1 | 103x1 trade 101x1 buy\n2 101x1 | 103x1";
    let rise = ln(100.0, 102.0);
    check("kyle_lambda(1, 1)", impact, &[NULL, NULL, rise]);
    // The bid rises with 1 (e = 1), the ask leaves 1 (e = 1); then nothing.
    check("ofi_lambda(1, 1, 1)", impact, &[NULL, NULL, rise / 2.0]);
}

#[test]
fn features_of_features_are_what_a_hand_computes() {
    let sizes = "0 99x1 | 101x1\n1 99x3 | 101x1\n2 99x5 | 101x1";
    check("mean(depth(bid, 1), 2)", sizes, &[NULL, 2.0, 4.0]);
    check("ew(depth(bid, 1), 1)", sizes, &[1.0, 3.5 / 1.5, (5.0 + 1.5 + 0.25) / 1.75]);
    check("change(depth(bid, 1), 2)", sizes, &[NULL, NULL, 4.0]);
    let mean = (3.0 + 0.5) / 1.5;
    let deviation = (((3.0 - mean) * (3.0 - mean) + 0.5 * (1.0 - mean) * (1.0 - mean)) / 1.5f64).sqrt();
    let (mean_2, all) = (6.75 / 1.75, [(5.0, 1.0), (3.0, 0.5), (1.0, 0.25)]);
    let square: f64 = all.iter().map(|(x, w): &(f64, f64)| w * (x - mean_2) * (x - mean_2)).sum();
    check(
        "zscore(depth(bid, 1), 1)",
        sizes,
        &[NULL, (3.0 - mean) / deviation, (5.0 - mean_2) / (square / 1.75).sqrt()],
    );
    check("zscore(depth(ask, 1), 1)", sizes, &[NULL, NULL, NULL]);
}

#[test]
fn a_gap_ends_what_was_known() {
    let mut step = Step::new(3, "features = [\"ofi(1, 1)\", \"return(1)\", \"depth(bid, 1)\"]");
    let lines = [
        "0 99x1 | 101x1",
        "1 99x2 | 101x1",
        "2 sick",
        "3 99x7 | 101x1",
        "4 99x9 | 101x1",
        "5 99x-1 | 101x1",
        "6 99x1 | 101x1",
        "y 6 102x1 | 101x1",
        "y 7 99x1 98x1 98x2 | 101x1",
        "y 8 99x1 | 101x1 trade 0x1",
        "y 9 99x1 | 101x1 +bid -3",
    ];
    let rows: Vec<Row> = lines.iter().enumerate().map(|(i, line)| tick(&step, line, i as i64)).collect();
    step.apply(&rows[..2]);
    assert_eq!(step.latest.len(), 1);
    step.apply(&rows[2..3]);
    assert!(step.latest.is_empty(), "a book that is not healthy shows nothing");
    step.apply(&rows[3..]);
    let told: Vec<(Value, Value, Value)> =
        step.vectors.iter().map(|row| (row[1].clone(), row[4].clone(), row[6].clone())).collect();
    let expected: [(i64, Option<f64>, f64); 5] =
        [(0, None, 1.0), (1, Some(1.0), 2.0), (3, None, 7.0), (4, Some(2.0), 9.0), (6, None, 1.0)];
    let expected =
        expected.map(|(at, ofi, depth)| (Value::Time(at), ofi.map_or(Value::Null, Value::Float), Value::Float(depth)));
    assert_eq!(told, expected);
    assert_eq!(step.faults, ["bad_size", "crossed_book", "bad_level", "bad_trade", "bad_flow"]);
    assert_eq!(step.latest.len(), 1);
}

#[test]
fn a_leader_is_seen_as_its_last_tick_left_it() {
    let mut step = Step::new(
        1,
        "leader = \"lead\"\nfeatures = { now = \"leader(mid_price)\", moved = \"leader(return(1))\", basis = \"basis\" }",
    );
    let lines = [
        "a 0 99x1 | 101x1",
        "lead 1 199x1 | 201x1",
        "a 2 99x1 | 101x1",
        "lead 3 200x1 | 202x1",
        "lead 4 200x1 | 202x1",
        "a 5 99x1 | 101x1",
        "lead 6 sick",
        "a 7 99x1 | 101x1",
    ];
    let rows: Vec<Row> = lines.iter().enumerate().map(|(i, line)| tick(&step, line, i as i64)).collect();
    for row in rows.chunks(1) {
        step.apply(row);
        step.restart();
    }
    let number = |v: &Value| if let Value::Float(f) = v { *f } else { NULL };
    let of_a = step.vectors.iter().filter(|row| row[0] == Value::Str("a".into()));
    let got: Vec<[f64; 3]> = of_a.map(|row| [number(&row[4]), number(&row[5]), number(&row[6])]).collect();
    let expected = [
        [NULL, NULL, NULL],
        [200.0, NULL, 1e4 * 0.5f64.ln()],
        [201.0, 0.0, 1e4 * (100.0f64 / 201.0).ln()],
        [NULL, NULL, NULL],
    ];
    assert_eq!(got.len(), expected.len());
    for (got, expected) in got.iter().flatten().zip(expected.iter().flatten()) {
        assert!((got - expected).abs() < 1e-9 || (got.is_nan() && expected.is_nan()), "{got} {expected}");
    }
}

#[test]
fn mistakes_are_told_at_once() {
    for (step, parts) in [
        ("features = [\"imbalanc(1)\"]", &["did you mean `imbalance`?"][..]),
        ("features = [\"spred\", \"ofi(1)\"]", &["`span` is missing", "there is no feature `spred`"]),
        ("features = [\"imbalance(4)\"]", &["needs 4 levels, and the ticks have 3"]),
        ("features = [\"gap(bid, 3)\"]", &["needs 4 levels"]),
        ("features = [\"leader(return(1))\"]", &["needs a `leader`"]),
        ("features = [\"leader(basis)\"]\nleader = \"x\"", &["leader's leader"]),
        ("features = [\"imbalance(1)\"]\nleader = \"x\"", &["no feature is of the leader"]),
        ("features = [\"ofi(1, 20)\", \"ofi(1, 20)\"]", &["two features are called `ofi_1_20`"]),
        ("features = { symbol = \"price_run\" }", &["has a column `symbol` already"]),
        ("features = []", &["must name one feature at least"]),
        ("clock = \"volume\"", &["`clock_every` is missing"]),
        ("clock = \"time\"\nclock_every = -1", &["clock_every"]),
        ("bid_price = [\"bid_price_1\"]", &["`bid_size` names 3 columns and `bid_price` 1"]),
        ("healthy = \"symbol\"", &["has no type bool"]),
    ] {
        let found = problems(3, step);
        let told = found.len() == parts.len() && found.iter().zip(parts).all(|(f, part)| f.contains(part));
        assert!(told, "{step}\ntold: {found:#?}\nexpected: {parts:#?}");
    }
    assert_eq!(problems(3, ""), Vec::<String>::new());
    assert_eq!(Step::new(5, "").plan.outputs[1].schema.columns.len(), 4 + 40 + 1);
}

/// The recorded book of AMZN as rows of ticks, and as the lines the reference reads.
fn recorded(step: &Step, range: std::ops::Range<usize>) -> Option<(Vec<Row>, String)> {
    let data = recorded_data()?;
    let file = std::fs::File::open(data.join("market/lobster_amzn_2012-06-21_L5.csv.zst")).expect("the recorded book");
    let text = std::io::read_to_string(zstd::stream::Decoder::new(file).unwrap()).unwrap();
    let (mut rows, mut lines) = (Vec::new(), String::new());
    for (n, line) in text.lines().skip(1 + range.start).take(range.len()).enumerate() {
        let v: Vec<i64> = line.split(',').map(|cell| cell.parse().unwrap()).collect();
        let price = |price: i64| price as f64 / 1e4;
        // Direction is that of the resting order: a buyer took what a seller had left.
        let (side, size) = (if v[5] > 0 { "bid" } else { "ask" }, v[3] as f64);
        let is_healthy = n != 1100;
        let mut cells: BTreeMap<String, Value> = BTreeMap::new();
        cells.insert("symbol".into(), Value::Str("AMZN".into()));
        cells.insert("at".into(), Value::Time(v[0] / 1000));
        cells.insert("healthy".into(), Value::Bool(is_healthy));
        cells.insert(SEQ.into(), Value::Int(n as i64));
        for name in ["bid_added", "bid_removed", "ask_added", "ask_removed"] {
            cells.insert(name.into(), Value::Float(0.0));
        }
        match v[1] {
            1 => _ = cells.insert(format!("{side}_added"), Value::Float(size)),
            2 | 3 => _ = cells.insert(format!("{side}_removed"), Value::Float(size)),
            _ => {
                cells.insert("trade_price".into(), Value::Float(price(v[4])));
                cells.insert("trade_size".into(), Value::Float(size));
                cells.insert("trade_side".into(), Value::Int(-v[5]));
            }
        }
        for level in 1..=5 {
            let at = 6 + 4 * (level - 1);
            let names = ["ask_price", "ask_size", "bid_price", "bid_size"];
            let numbers = [price(v[at]), v[at + 1] as f64, price(v[at + 2]), v[at + 3] as f64];
            for (name, number) in names.iter().zip(numbers) {
                cells.insert(format!("{name}_{level}"), Value::Float(number));
            }
        }
        let text = |name: &str| match cells.get(name) {
            Some(Value::Float(f)) => f.to_string(),
            Some(Value::Int(i)) => i.to_string(),
            Some(Value::Time(t)) => t.to_string(),
            Some(Value::Bool(b)) => u8::from(*b).to_string(),
            _ => String::new(),
        };
        let mut names: Vec<String> =
            ["at", "healthy", "trade_price", "trade_size", "trade_side"].map(String::from).into();
        names.extend(["bid_added", "bid_removed", "ask_added", "ask_removed"].map(String::from));
        for level in 1..=5 {
            names.extend(["bid_price", "bid_size", "ask_price", "ask_size"].map(|name| format!("{name}_{level}")));
        }
        lines += &(names.iter().map(|name| text(name)).collect::<Vec<_>>().join(",") + "\n");
        rows.push(step.row(&cells.iter().map(|(name, value)| (name.as_str(), value.clone())).collect()));
    }
    Some((rows, lines))
}

/// Every kind but those of a leader, with the windows one would take.
const OF_A_BOOK: &[&str] = &[
    "mid_price",
    "quoted_spread",
    "relative_spread",
    "weighted_mid(2)",
    "weighted_mid_deviation(1)",
    "imbalance(1)",
    "imbalance(5)",
    "level_imbalance(3)",
    "pressure(4)",
    "depth(bid, 5)",
    "depth(ask, 1)",
    "slope(bid, 5)",
    "slope(ask, 3)",
    "slope_imbalance(4)",
    "gap(bid, 1)",
    "gap(ask, 4)",
    "depletion(bid)",
    "depletion(ask)",
    "ofi(1, 20)",
    "ofi(5, 300)",
    "ofi(3, 500ms)",
    "level_ofi(2, 50)",
    "normalised_ofi(5, 100)",
    "normalised_ofi(2, 2s)",
    "ew_ofi(1, 1s)",
    "ew_ofi(5, 50)",
    "trade_flow(100)",
    "trade_flow(3s)",
    "trade_volume(100)",
    "trade_imbalance(200)",
    "ew_trade_flow(10s)",
    "ew_trade_flow(100)",
    "vwap_deviation(500)",
    "added(bid, 40)",
    "added(ask, 1s)",
    "removed(ask, 40)",
    "removed(bid, 5s)",
    "flow_imbalance(50)",
    "count(quote, 100)",
    "count(buy, 10s)",
    "intensity(quote, 1s)",
    "intensity(trade, 10s)",
    "intensity(cancel, 300ms)",
    "since(tick)",
    "since(trade)",
    "since(sell)",
    "since(move)",
    "price_run",
    "trade_run",
    "return(1)",
    "return(100)",
    "return(5s)",
    "volatility(100)",
    "volatility(10s)",
    "ew_volatility(200)",
    "ew_volatility(5s)",
    "bipower(300)",
    "jump_share(500)",
    "range(200)",
    "range(4s)",
    "position(200)",
    "kyle_lambda(20, 300)",
    "kyle_lambda(500ms, 10s)",
    "ofi_lambda(3, 10, 200)",
    "roll_spread(200)",
    "effective_spread(200)",
    "effective_spread(20s)",
    "autocorrelation(1, 300)",
    "autocorrelation(20ms, 300)",
    "sign_autocorrelation(400)",
    "mean(imbalance(3), 50)",
    "ew(relative_spread, 2s)",
    "zscore(relative_spread, 200)",
    "zscore(ofi(1, 20), 5s)",
    "change(imbalance(5), 10)",
    "change(depth(bid, 5), 700ms)",
];

#[test]
fn every_feature_of_a_recorded_book_is_its_definition_computed_elsewhere() {
    let list: Vec<String> = OF_A_BOOK.iter().map(|f| format!("\"{f}\"")).collect();
    let mut step = Step::new(5, &format!("features = [{}]", list.join(", ")));
    let Some((rows, lines)) = recorded(&step, 3000..5400) else { return };
    for kind in operators::features::kinds::KINDS.iter().map(|k| k.name).filter(|k| !["leader", "basis"].contains(k)) {
        let is_it = |f: &&str| f.split('(').next() == Some(kind);
        assert!(OF_A_BOOK.iter().any(|f| is_it(f)), "`{kind}` is not compared");
    }
    for epoch in rows.chunks(331) {
        step.apply(epoch);
    }
    assert_eq!((step.vectors.len(), step.faults.len()), (rows.len() - 1, 0));

    let dir = tempfile::tempdir().unwrap();
    let (ticks, features) = (dir.path().join("ticks.csv"), dir.path().join("features.txt"));
    std::fs::write(&ticks, lines).unwrap();
    let mut file = std::fs::File::create(&features).unwrap();
    OF_A_BOOK.iter().for_each(|feature| writeln!(file, "{feature}").unwrap());
    let python = std::env::var_os("THALWEG_PYTHON").unwrap_or("python3".into());
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/features_reference.py");
    let output = Command::new(python).arg(script).arg(&ticks).arg(&features).arg("13").output().expect("python3");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));

    let got: BTreeMap<i64, &Row> = step
        .vectors
        .iter()
        .map(|row| (if let Some(Value::Int(seq)) = row.last() { *seq } else { panic!("no number") }, row))
        .collect();
    let mut defined = vec![0; OF_A_BOOK.len()];
    let text = String::from_utf8(output.stdout).unwrap();
    for line in text.lines() {
        let cells: Vec<&str> = line.split(',').collect();
        let row = got[&cells[0].parse::<i64>().unwrap()];
        for (i, (feature, expected)) in OF_A_BOOK.iter().zip(&cells[1..]).enumerate() {
            let at = format!("{feature} at tick {}: {:?}, expected {expected}", cells[0], row[4 + i]);
            match (&row[4 + i], expected.parse::<f64>()) {
                (Value::Null, Err(_)) => {}
                // What is left when sums cancel is compared with what they are made of: sizes, basis points, shares of 1.
                (Value::Float(a), Ok(b)) => {
                    assert!((a - b).abs() <= 1e-9 * a.abs().max(b.abs()).max(1e-3), "{at}");
                    defined[i] += 1;
                }
                _ => panic!("{at}"),
            }
        }
    }
    let lines = text.lines().count();
    assert_eq!(lines, rows.len().div_ceil(13));
    for (feature, defined) in OF_A_BOOK.iter().zip(defined) {
        assert!(defined > lines / 4, "{feature} was defined at {defined} of {lines} ticks");
    }
}

#[test]
fn restarts_do_not_show_and_state_costs_what_changed() {
    let features = "features = [\"ofi(2, 3000)\", \"volatility(60s)\", \"range(30s)\", \"position(700)\", \"return(90s)\", \
         \"zscore(trade_flow(10s), 1000)\", \"kyle_lambda(100, 5s)\", \"ew_ofi(1, 3s)\", \"change(imbalance(5), 2s)\", \
         \"depletion(bid)\", \"since(trade)\", \"trade_run\", \"roll_spread(300)\", \"jump_share(900)\"]";
    let mut whole = Step::new(5, features);
    let Some((rows, _)) = recorded(&whole, 0..12_000) else { return };
    whole.apply(&rows);
    let mut cut = Step::new(5, features);
    let (mut from, mut random) = (0, 7u64);
    while from < rows.len() {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let to = rows.len().min(from + 1 + (random >> 33) as usize % 97);
        cut.apply(&rows[from..to]);
        if random >> 60 < 5 {
            cut.restart();
        }
        from = to;
    }
    assert_eq!(whole.vectors, cut.vectors);
    assert_eq!((&whole.latest, whole.faults.len()), (&cut.latest, cut.faults.len()));
    // Windows of thousands of ticks are stored piece by piece: an epoch writes its own ticks, the last piece and a blob.
    let epochs = cut.epoch as usize;
    let wide = 8 * 12;
    assert!(cut.written < rows.len() * wide + epochs * (32 * wide + 2000), "{} bytes in {epochs} epochs", cut.written);
    let held: usize = cut.state.values().map(Vec::len).sum();
    assert!(held < 8000 * wide, "{held} bytes are held");
}
