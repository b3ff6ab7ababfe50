//! The features again, plainly: each from its definition over all ticks since the last break, nothing kept from one to the
//! next.

use std::collections::BTreeMap;
use std::sync::Arc;

use engine::catalogue::{Model, Row};
use types::{SEQ, Value};

use super::clock::Clock;
use super::feature::{Feature, Side, What};
use super::kinds::Kind;
use super::model_past::Past;
use super::options::Features;
use super::rows::{GREATEST, LEAST};

/// The model of a step.
pub fn of(features: &Arc<Features>) -> Model {
    let features = features.clone();
    Arc::new(move |inputs: &[Vec<Row>]| outputs(&features, &inputs[0]))
}

/// A tick: levels of price and size, the trade's price, size and sign, what was added and removed by side.
#[derive(Clone, Debug)]
pub(super) struct Tick {
    pub at: i64,
    pub bids: Vec<(f64, f64)>,
    pub asks: Vec<(f64, f64)>,
    pub trade: Option<(f64, f64, f64)>,
    pub added: [f64; 2],
    pub removed: [f64; 2],
}

/// Ticks without a break between them, with their places among all events.
#[derive(Clone, Debug, Default)]
pub(super) struct Run {
    pub ticks: Vec<Tick>,
    places: Vec<usize>,
}

fn outputs(features: &Features, events: &[Row]) -> Vec<Vec<Row>> {
    let name = |event: &Row| -> Row { features.instrument.iter().map(|i| event[*i].clone()).collect() };
    let mut runs: BTreeMap<Row, Vec<Run>> = BTreeMap::new();
    for (place, event) in events.iter().enumerate() {
        let runs = runs.entry(name(event)).or_insert_with(|| vec![Run::default()]);
        match tick(features, event) {
            Some(tick) => {
                let run = runs.last_mut().expect("there is one");
                run.ticks.push(tick);
                run.places.push(place);
            }
            None => runs.push(Run::default()),
        }
    }
    // What the leader's features are after each of its events.
    let mut leading: BTreeMap<usize, Option<Vec<f64>>> = BTreeMap::new();
    if let Some(leader) = &features.leader {
        for (place, event) in events.iter().enumerate().filter(|(_, event)| name(event) == leader.cells) {
            let run = runs[&name(event)].iter().find_map(|r| Some((r, r.places.iter().position(|p| *p == place)?)));
            let values = run.map(|(run, at)| {
                let asked = features.graph.leader.iter().map(|f| series(f, run, &BTreeMap::new(), &[])[at]);
                [mid(&run.ticks[at])].into_iter().chain(asked).collect()
            });
            leading.insert(place, values);
        }
    }
    let (mut latest, mut vectors) = (Vec::new(), Vec::new());
    for (name, runs) in runs {
        let mut shown: Option<Row> = None;
        for run in runs {
            shown = None;
            let numbers: Vec<Vec<f64>> =
                features.features.iter().map(|(_, f)| series(f, &run, &leading, &features.graph.leader)).collect();
            for (at, tick) in run.ticks.iter().enumerate().filter(|(at, _)| is_due(features.clock, &run.ticks[..=*at]))
            {
                let spread = best(&tick.asks) - best(&tick.bids);
                let mut row = name.clone();
                row.push(Value::Time(tick.at));
                row.extend([mid(tick), clean(spread)].into_iter().map(cell));
                row.extend(numbers.iter().map(|numbers| cell(numbers[at])));
                shown = Some(row.clone());
                row.push(events[run.places[at]][features.input.index_of(SEQ).expect("a stream")].clone());
                vectors.push(row);
            }
        }
        latest.extend(shown);
    }
    vec![latest, vectors]
}

fn cell(value: f64) -> Value {
    if value.is_nan() { Value::Null } else { Value::Float(value) }
}

pub(super) fn clean(value: f64) -> f64 {
    if value.is_finite() { value + 0.0 } else { f64::NAN }
}

/// The tick of an event; none if its book is not healthy or it is refused.
fn tick(features: &Features, event: &Row) -> Option<Tick> {
    let columns = &features.columns;
    if columns.healthy.is_some_and(|i| event[i] != Value::Bool(true)) {
        return None;
    }
    let number = |i: usize| match &event[i] {
        Value::Float(f) => Some(*f),
        Value::Int(int) => Some(*int as f64),
        _ => None,
    };
    let is_price = |p: f64| (LEAST..=GREATEST).contains(&p);
    let is_size = |s: f64| (0.0..=GREATEST).contains(&s);
    let side = |levels: &[[usize; 2]]| -> Option<Vec<(f64, f64)>> {
        let cells: Vec<_> = levels.iter().map(|[p, s]| (number(*p), number(*s))).collect();
        let there = cells.iter().take_while(|c| **c != (None, None)).count();
        if cells[there..].iter().any(|c| *c != (None, None)) {
            return None;
        }
        let levels: Option<Vec<(f64, f64)>> = cells[..there].iter().map(|(p, s)| Some(((*p)?, (*s)?))).collect();
        levels.filter(|levels| levels.iter().all(|(p, s)| is_price(*p) && is_size(*s)))
    };
    let (bids, asks) = (side(&columns.bids)?, side(&columns.asks)?);
    let bid_falls = bids.windows(2).all(|pair| pair[0].0 > pair[1].0);
    let ask_rises = asks.windows(2).all(|pair| pair[0].0 < pair[1].0);
    if !bid_falls || !ask_rises || best(&bids) > best(&asks) {
        return None;
    }
    let mut trade = None;
    if let Some([price, size, sign]) = columns.trade {
        trade = match (number(price), number(size), number(sign).unwrap_or(0.0)) {
            (None, None, _) => None,
            (Some(p), Some(s), sign) if is_price(p) && is_size(s) && [-1.0, 0.0, 1.0].contains(&sign) => {
                Some((p, s, sign))
            }
            _ => return None,
        };
    }
    let [bid_added, bid_removed, ask_added, ask_removed] = match columns.flows {
        Some(flows) => flows.map(|i| number(i).unwrap_or(0.0)),
        None => [0.0; 4],
    };
    let flows = [bid_added, bid_removed, ask_added, ask_removed];
    let Value::Time(at) = event[columns.at] else { return None };
    let tick = Tick { at, bids, asks, trade, added: [bid_added, ask_added], removed: [bid_removed, ask_removed] };
    flows.into_iter().all(is_size).then_some(tick)
}

fn is_due(clock: Clock, ticks: &[Tick]) -> bool {
    let (now, past) = ticks.split_last().expect("the tick at hand");
    match clock {
        Clock::Event(every) => ticks.len() as u64 % every == 0,
        Clock::Trade(every) => {
            now.trade.is_some() && ticks.iter().filter(|t| t.trade.is_some()).count() as u64 % every == 0
        }
        Clock::Volume(volume) => {
            let (mut traded, mut is_due) = (0.0, false);
            for tick in ticks {
                traded += tick.trade.map_or(0.0, |t| t.1);
                is_due = traded >= volume;
                traded = if is_due { 0.0 } else { traded };
            }
            is_due
        }
        Clock::Time(micros) => {
            past.last().is_some_and(|before| before.at.div_euclid(micros) < now.at.div_euclid(micros))
        }
    }
}

fn best(levels: &[(f64, f64)]) -> f64 {
    levels.first().map_or(f64::NAN, |l| l.0)
}

pub(super) fn mid(tick: &Tick) -> f64 {
    clean((best(&tick.bids) + best(&tick.asks)) / 2.0)
}

fn depth(levels: &[(f64, f64)], upto: usize) -> f64 {
    levels.iter().take(upto).fold(0.0, |sum, l| sum + l.1)
}

fn log_return(from: f64, to: f64) -> f64 {
    if from == to { 0.0 } else { 1e4 * libm::log1p((to - from) / from) }
}

/// A feature at every tick of a run.
fn series(feature: &Feature, run: &Run, leading: &BTreeMap<usize, Option<Vec<f64>>>, asked: &[Feature]) -> Vec<f64> {
    let all: Vec<usize> = (0..run.ticks.len()).collect();
    let past = Past { run };
    let each = |f: &dyn Fn(usize) -> f64| -> Vec<f64> { all.iter().map(|k| clean(f(*k))).collect() };
    let inner = || series(feature.inner().expect("it has one"), run, leading, asked);
    let (levels, span) = (feature.levels(), |at| feature.span(at));
    let side = |tick: &Tick| if feature.side() == Side::Bid { tick.bids.clone() } else { tick.asks.clone() };
    let ticks = &run.ticks;
    let share = |b: f64, a: f64| (b - a) / (b + a);
    let mids = each(&|k| mid(&ticks[k]));
    let returns = each(&|k| if k == 0 { f64::NAN } else { log_return(mids[k - 1], mids[k]) });
    let squares = each(&|k| returns[k] * returns[k]);
    let products = each(&|k| if k == 0 { f64::NAN } else { returns[k].abs() * returns[k - 1].abs() });
    let ofi = |at: &dyn Fn(usize) -> bool| {
        each(&|k| {
            if k == 0 { f64::NAN } else { (0..levels).filter(|i| at(*i)).fold(0.0, |s, i| s + flow(ticks, k, i)) }
        })
    };
    let signed = each(&|k| ticks[k].trade.map_or(0.0, |(_, size, sign)| sign * size));
    let volume = each(&|k| ticks[k].trade.map_or(0.0, |(_, size, _)| size));
    let slope = |levels: &[(f64, f64)], upto: usize, mid: f64| {
        let (mut across, mut square) = (0.0, 0.0);
        for (i, (price, _)) in levels.iter().take(upto).enumerate() {
            let distance = (price - mid).abs();
            across += distance * depth(levels, i + 1);
            square += distance * distance;
        }
        clean(across / square)
    };
    let half_pi = std::f64::consts::FRAC_PI_2;
    match feature.kind {
        Kind::MidPrice => mids,
        Kind::QuotedSpread => each(&|k| best(&ticks[k].asks) - best(&ticks[k].bids)),
        Kind::RelativeSpread => each(&|k| (best(&ticks[k].asks) - best(&ticks[k].bids)) / mids[k] * 1e4),
        Kind::WeightedMid => each(&|k| {
            let (bid, ask) = (depth(&ticks[k].bids, levels), depth(&ticks[k].asks, levels));
            let share = bid / (bid + ask);
            share * best(&ticks[k].asks) + (1.0 - share) * best(&ticks[k].bids)
        }),
        Kind::WeightedMidDeviation => each(&|k| {
            let half = (best(&ticks[k].asks) - best(&ticks[k].bids)) / 2.0;
            share(depth(&ticks[k].bids, levels), depth(&ticks[k].asks, levels)) * half / mids[k] * 1e4
        }),
        Kind::Imbalance => each(&|k| share(depth(&ticks[k].bids, levels), depth(&ticks[k].asks, levels))),
        Kind::LevelImbalance => each(&|k| {
            let size = |levels: &[(f64, f64)]| levels.get(feature.levels() - 1).map_or(0.0, |l| l.1);
            share(size(&ticks[k].bids), size(&ticks[k].asks))
        }),
        Kind::Pressure => each(&|k| {
            let weighted = |side: &[(f64, f64)]| {
                side.iter().take(levels).enumerate().fold(0.0, |sum, (i, l)| sum + l.1 / (i + 1) as f64)
            };
            share(weighted(&ticks[k].bids), weighted(&ticks[k].asks))
        }),
        Kind::Depth => each(&|k| depth(&side(&ticks[k]), levels)),
        Kind::Slope => each(&|k| slope(&side(&ticks[k]), levels, mids[k])),
        Kind::SlopeImbalance => {
            each(&|k| share(slope(&ticks[k].bids, levels, mids[k]), slope(&ticks[k].asks, levels, mids[k])))
        }
        Kind::Gap => each(&|k| match side(&ticks[k]).get(levels - 1..=levels) {
            Some(two) => (two[0].0 - two[1].0).abs() / mids[k] * 1e4,
            None => f64::NAN,
        }),
        Kind::Depletion => each(&|k| {
            let sides: Vec<_> = ticks[..=k].iter().map(side).collect();
            let same = sides.iter().rev().take_while(|s| s.first().map(|l| l.0) == sides[k].first().map(|l| l.0));
            let greatest = same.map(|s| s.first().map_or(0.0, |l| l.1)).fold(0.0, f64::max);
            1.0 - sides[k].first().map_or(0.0, |l| l.1) / greatest
        }),
        Kind::Ofi => past.sums(&ofi(&|_| true), span(0)),
        Kind::LevelOfi => past.sums(&ofi(&|i| i == levels - 1), span(0)),
        Kind::NormalisedOfi => {
            let sizes = each(&|k| depth(&ticks[k].bids, levels) + depth(&ticks[k].asks, levels));
            let (flows, sizes) = (past.sums(&ofi(&|_| true), span(0)), past.sums(&sizes, span(0)));
            let counts = past.counts(span(0));
            each(&|k| flows[k] / (sizes[k] / (counts[k] * (2 * levels) as f64)))
        }
        Kind::EwOfi => past.forgotten(&ofi(&|_| true), span(0)),
        Kind::TradeFlow => past.sums(&signed, span(0)),
        Kind::TradeVolume => past.sums(&volume, span(0)),
        Kind::TradeImbalance => {
            let (signed, volume) = (past.sums(&signed, span(0)), past.sums(&volume, span(0)));
            each(&|k| signed[k] / volume[k])
        }
        Kind::EwTradeFlow => past.forgotten(&signed, span(0)),
        Kind::VwapDeviation => {
            let notional = each(&|k| ticks[k].trade.map_or(0.0, |(price, size, _)| price * size));
            let (notional, volume) = (past.sums(&notional, span(0)), past.sums(&volume, span(0)));
            each(&|k| (mids[k] - notional[k] / volume[k]) / mids[k] * 1e4)
        }
        Kind::Added => past.sums(&each(&|k| ticks[k].added[feature.side() as usize]), span(0)),
        Kind::Removed => past.sums(&each(&|k| ticks[k].removed[feature.side() as usize]), span(0)),
        Kind::FlowImbalance => {
            let net = |t: &Tick| (t.added[0] - t.removed[0]) - (t.added[1] - t.removed[1]);
            let gross = |t: &Tick| (t.added[0] + t.removed[0]) + (t.added[1] + t.removed[1]);
            let net = past.sums(&each(&|k| net(&ticks[k])), span(0));
            let gross = past.sums(&each(&|k| gross(&ticks[k])), span(0));
            each(&|k| net[k] / gross[k])
        }
        Kind::Count => past.sums(&past.happened(feature.what()), span(0)),
        Kind::Intensity => past.forgotten(&past.happened(feature.what()), span(0)),
        Kind::Since => each(&|k| {
            let happened = past.happened(feature.what());
            let last = match feature.what() {
                What::Tick => k.checked_sub(1),
                _ => (0..=k).rev().find(|i| happened[*i] > 0.0),
            };
            last.map_or(f64::NAN, |last| (ticks[k].at - ticks[last].at) as f64 / 1e6)
        }),
        Kind::PriceRun => each(&|k| {
            let signs = (1..=k).rev().map(|i| sign(mids[i] - mids[i - 1])).filter(|s| *s != 0.0);
            run_of(&signs.collect::<Vec<f64>>())
        }),
        Kind::TradeRun => each(&|k| {
            let signs = ticks[..=k].iter().rev().filter_map(|t| t.trade).map(|t| t.2).filter(|s| *s != 0.0);
            run_of(&signs.collect::<Vec<f64>>())
        }),
        Kind::Return => {
            let before = past.before(&mids, span(0));
            each(&|k| log_return(before[k], mids[k]))
        }
        Kind::Volatility => past.sums(&squares, span(0)).into_iter().map(f64::sqrt).collect(),
        Kind::EwVolatility => past.forgotten(&squares, span(0)).into_iter().map(f64::sqrt).collect(),
        Kind::Bipower => past.sums(&products, span(0)).into_iter().map(|sum| clean((half_pi * sum).sqrt())).collect(),
        Kind::JumpShare => {
            let (products, squares) = (past.sums(&products, span(0)), past.sums(&squares, span(0)));
            let share = each(&|k| 1.0 - half_pi * products[k] / squares[k]);
            each(&|k| if share[k] < 0.0 { 0.0 } else { share[k] })
        }
        Kind::Range | Kind::Position => {
            let most = past.windows(&mids, span(0), &|w| w.iter().copied().fold(f64::NEG_INFINITY, f64::max));
            let least = past.windows(&mids, span(0), &|w| w.iter().copied().fold(f64::INFINITY, f64::min));
            match feature.kind {
                Kind::Range => each(&|k| (most[k] - least[k]) / mids[k] * 1e4),
                _ => each(&|k| (mids[k] - least[k]) / (most[k] - least[k])),
            }
        }
        Kind::KyleLambda | Kind::OfiLambda => {
            let before = past.before(&mids, span(0));
            let y = each(&|k| log_return(before[k], mids[k]));
            let x = if feature.kind == Kind::KyleLambda { signed } else { ofi(&|_| true) };
            past.slopes(&y, &past.sums(&x, span(0)), span(1))
        }
        Kind::RollSpread => {
            let trades = |k: usize| ticks[..=k].iter().filter_map(|t| t.trade).map(|t| t.0).collect::<Vec<f64>>();
            let product = each(&|k| match (ticks[k].trade, trades(k).as_slice()) {
                (Some(_), [.., a, b, c]) => (c - b) * (b - a),
                _ => f64::NAN,
            });
            let mean = past.means(&product, span(0));
            each(&|k| if mean[k].is_nan() { f64::NAN } else { 2.0 * (-mean[k]).max(0.0).sqrt() / mids[k] * 1e4 })
        }
        Kind::EffectiveSpread => {
            let paid = each(&|k| match ticks[k].trade {
                Some((price, _, sign)) if sign != 0.0 && k > 0 => {
                    2.0 * sign * (price - mids[k - 1]) / mids[k - 1] * 1e4
                }
                _ => f64::NAN,
            });
            past.means(&paid, span(0))
        }
        Kind::Autocorrelation => {
            let before = past.before(&returns, span(0));
            let product = each(&|k| returns[k] * before[k]);
            let (product, square) = (past.means(&product, span(1)), past.means(&squares, span(1)));
            each(&|k| product[k] / square[k])
        }
        Kind::SignAutocorrelation => {
            let signs = |k: usize| {
                let trades = ticks[..=k].iter().filter_map(|t| t.trade);
                trades.map(|t| t.2).filter(|s| *s != 0.0).collect::<Vec<f64>>()
            };
            let product = each(&|k| match (ticks[k].trade, signs(k).as_slice()) {
                (Some((_, _, sign)), [.., a, b]) if sign != 0.0 => a * b,
                _ => f64::NAN,
            });
            past.means(&product, span(0))
        }
        Kind::Mean => {
            let (sums, counts) = (past.sums(&inner(), span(0)), past.counts(span(0)));
            each(&|k| sums[k] / counts[k])
        }
        Kind::Ew => past.means(&inner(), span(0)),
        Kind::Zscore => past.zscores(&inner(), span(0)),
        Kind::Change => {
            let now = inner();
            let before = past.before(&now, span(0));
            each(&|k| now[k] - before[k])
        }
        Kind::Leader | Kind::Basis => {
            let at = feature.inner().map_or(0, |f| 1 + asked.iter().position(|a| a == f).expect("it is asked"));
            let leader = each(&|k| match leading.range(..=run.places[k]).next_back() {
                Some((_, Some(values))) => values[at],
                _ => f64::NAN,
            });
            if feature.kind == Kind::Leader { leader } else { each(&|k| log_return(leader[k], mids[k])) }
        }
    }
}

/// The order flow imbalance of one level.
fn flow(ticks: &[Tick], k: usize, level: usize) -> f64 {
    let bid = |t: &Tick| t.bids.get(level).copied().unwrap_or((f64::NEG_INFINITY, 0.0));
    let ask = |t: &Tick| t.asks.get(level).copied().unwrap_or((f64::INFINITY, 0.0));
    let ((b, q), (b0, q0)) = (bid(&ticks[k]), bid(&ticks[k - 1]));
    let ((a, r), (a0, r0)) = (ask(&ticks[k]), ask(&ticks[k - 1]));
    let if_so = |so: bool, size: f64| if so { size } else { 0.0 };
    (if_so(b >= b0, q) - if_so(b <= b0, q0)) - (if_so(a <= a0, r) - if_so(a >= a0, r0))
}

fn sign(value: f64) -> f64 {
    f64::from(i8::from(value > 0.0) - i8::from(value < 0.0))
}

/// How many of the first are alike, with their sign.
fn run_of(signs: &[f64]) -> f64 {
    signs.first().map_or(0.0, |first| first * signs.iter().take_while(|s| *s == first).count() as f64)
}
