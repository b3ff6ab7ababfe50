//! The obvious function: every sum from all of its terms, at the weights they have at the time, whenever it is asked
//! for.
//!
//! What is shared with the kernel is formulas without a memory (a cell of a z-score, the information of a table of
//! counts, a class of a move, a loss), the moments, and the test of the loss, which is given all losses so far; these
//! are held to theory by tests of their own.

use std::collections::BTreeMap;
use std::sync::Arc;

use engine::catalogue::{Model, Row};
use types::Value;

use super::drift::{Detector, Watch};
use super::forget::step;
use super::labels::Quote;
use super::options::Selection;
use super::persistence::Overlap;
use super::random::unit;
use super::referee::{ALL, CHOSEN, FIRST, NONE, Opinion, Opinions, SETS, SLOPES, STEP, loss, softmax};
use super::relevance::{Relevance, relevance};
use super::rules::{Rules, Score};
use super::scale::{CELLS, FARTHEST, MISSING, RESCALE_EVERY, cell_of, varies};
use super::views::regret_row;
use crate::moments::{GREATEST, Moments};

/// The model of a selection.
pub fn of(selection: &Arc<Selection>) -> Model {
    let selection = selection.clone();
    Arc::new(move |inputs: &[Vec<Row>]| {
        let mut instruments: BTreeMap<Row, Vec<&Row>> = BTreeMap::new();
        for event in &inputs[0] {
            let instrument = selection.instrument.iter().map(|i| event[*i].clone()).collect();
            instruments.entry(instrument).or_default().push(event);
        }
        let mut outputs = vec![Vec::new(); 5];
        for (instrument, events) in instruments {
            for (rows, of_one) in outputs.iter_mut().zip(rows(&selection, &events)) {
                rows.extend(of_one.into_iter().map(|row: Row| [instrument.clone(), row].concat()));
            }
        }
        outputs
    })
}

/// All that happened to an instrument, in lists.
#[derive(Default)]
struct Past {
    /// Of each vector: z-scores (none where missing), cells, its cluster, its price, and what was predicted of it.
    vectors: Vec<Seen>,
    /// The first centres.
    seeds: Vec<Vec<f64>>,
    /// Of each label: the vector it came with, the vector it is of, its class.
    labels: Vec<(usize, usize, usize)>,
    /// The vectors at which there was drift, so that labels aged.
    drifts: Vec<usize>,
    losses: Vec<[f64; SETS]>,
    /// How far each set is trusted, and the mean square of slopes.
    trust: [(f64, f64); SETS],
    active: Vec<bool>,
    since: Vec<Value>,
    selections: Vec<Selected>,
}

struct Seen {
    z: Vec<Option<f64>>,
    cells: Vec<u8>,
    cluster: usize,
    quote: Quote,
    opinions: Option<Opinions>,
}

/// What a selection left behind.
struct Selected {
    scores: Vec<Row>,
    sets: [Vec<usize>; SETS],
    shares: [f64; 3],
    /// Of each feature: the bin of each cell, and the logarithms of each bin.
    tables: Vec<(Vec<usize>, Vec<[f64; 3]>)>,
}

fn rows(selection: &Selection, events: &[&Row]) -> Vec<Vec<Row>> {
    let rules = &selection.rules;
    let number = |event: &Row, i: usize| match &event[i] {
        Value::Float(f) => *f,
        Value::Int(i) => *i as f64,
        _ => f64::NAN,
    };
    let n = rules.features;
    let name = |j: usize| Value::Str(selection.schema.columns[selection.features[j]].name.clone());
    let mut past = Past { active: vec![false; n], since: vec![Value::Null; n], ..Past::default() };
    let mut changes = Vec::new();
    let mut moments = Moments::new(n, rules.half_life as f64);
    let mut scale: Vec<Option<(f64, f64)>> = vec![None; n];
    let mut early: Vec<Vec<f64>> = Vec::new();
    let quote = |event: &Row| Quote {
        price: number(event, selection.price),
        spread: selection.spread.map_or(f64::NAN, |i| number(event, i)),
    };
    let warmup = rules.warmup as usize;
    for (t, event) in events.iter().enumerate() {
        let x: Vec<f64> = (0..n).map(|j| tame(number(event, selection.features[j]), scale[j])).collect();
        moments.update(&x);
        early.push(x);
        if t + 1 < warmup {
            continue;
        }
        if t + 1 == warmup || (t + 1).is_multiple_of(RESCALE_EVERY as usize) {
            for (j, scale) in scale.iter_mut().enumerate() {
                let (mean, variance) = (moments.mean(j), moments.variance(j));
                *scale = varies(mean, variance, rules.variance_min).then(|| (mean, variance.sqrt()));
            }
        }
        let scaled = |x: &[f64]| -> Vec<Option<f64>> { x.iter().zip(&scale).map(|(x, s)| z_of(*x, *s)).collect() };
        // At the end of the warm-up all vectors so far, else the one that came.
        let first = if t + 1 == warmup { 0 } else { t };
        if first == 0 {
            let all: Vec<Vec<f64>> = early.iter().map(|x| plain(&scaled(x))).collect();
            past.seeds = seeds(&all, rules);
        }
        for s in first..=t {
            let drift = mature(&mut past, rules, s, quote(events[s]));
            let z = scaled(&early[s]);
            let cells = z.iter().map(|z| z.map_or(MISSING, cell_of)).collect();
            let cluster = nearest(&past, rules, s, &plain(&z));
            past.vectors.push(Seen { z, cells, cluster, quote: quote(events[s]), opinions: None });
            if drift {
                past.drifts.push(s);
            }
            let is_due = s == t && (drift || (t as u64 + 1).is_multiple_of(rules.reselect_every));
            if is_due && !past.labels.is_empty() {
                let before = past.active.clone();
                select(&mut past, rules, &moments, t, &name);
                let selected = past.selections.last().expect("just made");
                for j in (0..n).filter(|j| before[*j] != past.active[*j]) {
                    past.since[j] = event[selection.at].clone();
                    let score = &selected.scores[j];
                    let reason = if past.selections.len() == 1 {
                        "first"
                    } else if score[10] != Value::Null {
                        "redundant"
                    } else if drift {
                        "drift"
                    } else {
                        "score"
                    };
                    let mut row = vec![event[selection.at].clone(), name(j), Value::Bool(past.active[j])];
                    row.extend([score[1].clone(), score[4].clone(), score[2].clone(), Value::Str(reason.to_owned())]);
                    row.extend([Value::Int(past.selections.len() as i64), event[selection.seq].clone()]);
                    changes.push(row);
                }
            }
            past.vectors[s].opinions =
                past.selections.last().map(|made| opinions(made, &past.trust, &past.vectors[s].cells));
        }
    }
    let Some(last) = past.selections.last() else { return vec![Vec::new(); 5] };
    let set = |j: usize| vec![name(j), last.scores[j][11].clone(), last.scores[j][1].clone(), past.since[j].clone()];
    let set = (0..n).filter(|j| past.active[*j]).map(set).collect();
    let mut sums = [0.0; SETS];
    past.losses.iter().for_each(|losses| (0..SETS).for_each(|s| sums[s] += losses[s]));
    let regret = (0..SETS).map(|s| regret_row(s, last.sets[s].len(), &sums, past.losses.len() as u64)).collect();
    let times: Vec<Value> = events.iter().map(|e| e[selection.at].clone()).collect();
    vec![set, last.scores.clone(), changes, regret, drift_rows(&past, rules, &times)]
}

fn drift_rows(past: &Past, rules: &Rules, times: &[Value]) -> Vec<Row> {
    let test = match rules.watch {
        Watch::Never => return Vec::new(),
        Watch::Adwin { .. } => "adwin",
        Watch::PageHinkley { .. } => "page_hinkley",
    };
    let (detector, _) = watched(past, rules);
    vec![vec![
        Value::Str(test.to_owned()),
        Value::Int(past.drifts.len() as i64),
        past.drifts.last().map_or(Value::Null, |t| times[*t].clone()),
        Value::Float(detector.statistic() + 0.0),
        Value::Int(detector.window() as i64),
        detector.mean().map_or(Value::Null, |m| Value::Float(m + 0.0)),
    ]]
}

fn tame(x: f64, scale: Option<(f64, f64)>) -> f64 {
    if x.is_nan() || x.abs() > GREATEST {
        return f64::NAN;
    }
    match scale {
        Some((mean, deviation)) => {
            let (low, high) = (mean - FARTHEST * deviation, mean + FARTHEST * deviation);
            if x > high {
                high
            } else if x < low {
                low
            } else {
                x
            }
        }
        None => x,
    }
}

fn z_of(x: f64, scale: Option<(f64, f64)>) -> Option<f64> {
    (!x.is_nan()).then(|| scale.map_or(0.0, |(mean, deviation)| (x - mean) * (1.0 / deviation)))
}

/// What is missing counts as its mean.
fn plain(z: &[Option<f64>]) -> Vec<f64> {
    z.iter().map(|z| z.unwrap_or(0.0)).collect()
}

/// What the vector `s` weighs at the vector `t`, where that weighs its own.
fn weight(rules: &Rules, s: usize, t: usize) -> f64 {
    let half_life = rules.half_life as usize;
    let mut weight = 1.0;
    (0..s % half_life).for_each(|_| weight *= step(rules.half_life));
    (0..t / half_life - s / half_life).for_each(|_| weight *= 0.5);
    weight
}

fn seeds(vectors: &[Vec<f64>], rules: &Rules) -> Vec<Vec<f64>> {
    let mut next = (unit(rules.seed, 0) * vectors.len() as f64) as usize;
    let mut seeds = vec![vectors[next].clone()];
    while seeds.len() < rules.clusters {
        let square = |a: &[f64], b: &[f64]| a.iter().zip(b).fold(0.0, |sum, (a, b)| sum + (a - b) * (a - b));
        let nearest: Vec<f64> =
            vectors.iter().map(|v| seeds.iter().fold(f64::INFINITY, |least, c| least.min(square(v, c)))).collect();
        let mut rest = unit(rules.seed, seeds.len() as u64) * nearest.iter().fold(0.0, |sum, n| sum + n);
        let Some(last) = nearest.iter().rposition(|n| *n > 0.0) else { break };
        next = last;
        for (i, nearest) in nearest.iter().enumerate() {
            if *nearest > rest {
                next = i;
                break;
            }
            rest -= nearest;
        }
        seeds.push(vectors[next].clone());
    }
    seeds
}

/// Weight, mean and squares of a cluster's feature over the vectors before `end`, at the weights of the vector `t`.
fn cluster(past: &Past, rules: &Rules, cluster: usize, feature: usize, end: usize, t: usize) -> (f64, f64, f64) {
    let (mut total, mut mean, mut squares) = (weight(rules, 0, t), past.seeds[cluster][feature], 0.0);
    for (s, seen) in past.vectors[..end].iter().enumerate().filter(|(_, v)| v.cluster == cluster) {
        if let Some(z) = seen.z[feature] {
            let weight = weight(rules, s, t);
            total += weight;
            let deviation = z - mean;
            mean += weight / total * deviation;
            squares += weight * deviation * (z - mean);
        }
    }
    (total, mean, squares)
}

/// The nearest centre by half the square of the distance, less half that of the vector's length, which all have in
/// common.
fn nearest(past: &Past, rules: &Rules, t: usize, z: &[f64]) -> usize {
    let (mut best, mut least) = (0, f64::INFINITY);
    for c in 0..past.seeds.len() {
        let mean: Vec<f64> = (0..z.len()).map(|j| cluster(past, rules, c, j, t, t).1).collect();
        let product = z.iter().zip(&mean).fold(0.0, |sum, (z, m)| sum + z * m);
        let lane = |lane: usize| mean.iter().skip(lane).step_by(4).fold(0.0, |sum, m| sum + m * m);
        let far = 0.5 * ((lane(0) + lane(1)) + (lane(2) + lane(3))) - product;
        if far < least {
            (best, least) = (c, far);
        }
    }
    best
}

/// The label that the vector `t` makes known, and what it costs. True on drift.
fn mature(past: &mut Past, rules: &Rules, t: usize, now: Quote) -> bool {
    let horizon = rules.label.horizon as usize;
    let Some(s) = t.checked_sub(horizon).filter(|s| (*s as u64 + 1).is_multiple_of(rules.label.every)) else {
        return false;
    };
    let Some(class) = rules.label.class(past.vectors[s].quote, now) else { return false };
    past.labels.push((t, s, class));
    let Some(opinions) = past.vectors[s].opinions else { return false };
    past.losses.push(opinions.map(|opinion| loss(&opinion.shares, class)));
    for (Opinion { evidence, shares }, (factor, square)) in opinions.iter().zip(&mut past.trust) {
        let target = |c: usize| if c == class { 1.0 } else { 0.0 };
        let slope = (0..3).fold(0.0, |sum, c| sum + (shares[c] - target(c)) * evidence[c]);
        *square += (slope * slope - *square) / past.losses.len().min(SLOPES as usize) as f64;
        if *square > 0.0 {
            *factor = (*factor - STEP * slope / square.sqrt()).clamp(0.0, 1.0);
        }
    }
    past.losses.len().is_multiple_of(rules.label.overlap() as usize) && watched(past, rules).1
}

/// The test after all losses so far, and whether the last made it drift.
fn watched(past: &Past, rules: &Rules) -> (Detector, bool) {
    let overlap = rules.label.overlap() as usize;
    let mut detector = Detector::new(rules.watch, overlap as u64);
    let mean = |losses: &[[f64; SETS]]| losses.iter().fold(0.0, |sum, l| sum + l[CHOSEN]) / overlap as f64;
    let is_drift = past.losses.chunks_exact(overlap).fold(false, |_, losses| detector.push(mean(losses)));
    (detector, is_drift)
}

fn opinions(made: &Selected, trust: &[(f64, f64); SETS], cells: &[u8]) -> Opinions {
    let mut opinions = [Opinion { evidence: [0.0; 3], shares: made.shares }; SETS];
    for set in [ALL, FIRST, CHOSEN] {
        let Opinion { evidence, shares } = &mut opinions[set];
        for j in made.sets[set].iter().filter(|j| cells[**j] != MISSING) {
            let (bins, table) = &made.tables[*j];
            // Where nothing was ever counted there are no bins.
            let row = table.get(bins[usize::from(cells[*j])]).copied().unwrap_or_default();
            (0..3).for_each(|c| evidence[c] += row[c]);
        }
        *shares = softmax(std::array::from_fn(|c| libm::log(made.shares[c]) + trust[set].0 * evidence[c]));
    }
    opinions
}

/// The correlation of a feature with itself one labelled vector before, over those before the vector `t`.
fn lasts(past: &Past, rules: &Rules, feature: usize, t: usize) -> f64 {
    let (mut products, mut squares, mut before) = (0.0, 0.0, 0.0);
    for s in (0..t).filter(|s| (*s as u64 + 1).is_multiple_of(rules.label.every)) {
        let (weight, z) = (weight(rules, s, t), past.vectors[s].z[feature].unwrap_or(0.0));
        products += weight * z * before;
        squares += weight * z * z;
        before = z;
    }
    if squares > 0.0 { (products / squares).clamp(0.0, 1.0) } else { 0.0 }
}

fn select(past: &mut Past, rules: &Rules, moments: &Moments, t: usize, name: &dyn Fn(usize) -> Value) {
    let n = rules.features;
    // Labels at their weights now.
    let aged = |came: usize| {
        let drifts = past.drifts.iter().filter(|d| came <= **d).count() as u32 * rules.drift_ages;
        (0..drifts).fold(weight(rules, came, t), |weight, _| weight * 0.5)
    };
    let labels: Vec<(f64, usize, usize)> =
        past.labels.iter().map(|(came, s, class)| (aged(*came), *s, *class)).collect();
    let sum = |of: [f64; 3]| of[0] + of[1] + of[2];
    let (mut classes, mut squares) = ([0.0; 3], 0.0);
    for (weight, _, class) in &labels {
        classes[*class] += weight;
        squares += weight * weight;
    }
    let total = sum(classes);
    let (worth, newest) = (total * total / squares, weight(rules, t, t));
    let shares = classes.map(|c| (c / newest + 1.0) / (total / newest + 3.0));

    let of_classes = classes.iter().filter(|c| **c > 0.0).count();
    let overlap = Overlap::new(rules.label.overlap(), of_classes);
    let mut tables = Vec::new();
    let mut told: Vec<Relevance> = Vec::new();
    for j in 0..n {
        let mut cells = vec![[0.0; 3]; CELLS];
        for (weight, s, class) in labels.iter().filter(|(_, s, _)| past.vectors[*s].cells[j] != MISSING) {
            cells[usize::from(past.vectors[*s].cells[j])][*class] += weight;
        }
        let (bins, weights) = quantiles(&cells, rules.bins);
        told.push(relevance(&weights, total, worth, lasts(past, rules, j, t), &overlap));
        let of_class = |class: usize| weights.iter().fold(0.0, |sum, w| sum + w[class]);
        let room = 0.5 * weights.len() as f64;
        let logs =
            |w: &[f64; 3]| std::array::from_fn(|c| libm::log((w[c] / newest + 0.5) / (of_class(c) / newest + room)));
        tables.push((bins, weights.iter().map(logs).collect::<Vec<[f64; 3]>>()));
    }

    let is_one = |j: &usize| varies(moments.mean(*j), moments.variance(*j), rules.variance_min);
    let within: Vec<Option<f64>> =
        (0..n).map(|j| if is_one(&j) { share_within(past, rules, j, t) } else { None }).collect();
    let inverse = |v: f64| 1.0 / (v + 1e-6);
    let all = within.iter().flatten().fold(0.0, |sum, v| sum + inverse(*v));
    let weights: Vec<Option<f64>> = within.iter().map(|v| v.map(|v| inverse(v) / all)).collect();
    let varying: Vec<usize> = (0..n).filter(|j| within[*j].is_some()).collect();
    let of = |j: usize| (weights[j].unwrap_or(0.0), told[j].corrected());
    let score = |j: usize| match rules.score {
        Score::Product => {
            let greatest = varying.iter().fold((0.0_f64, 0.0_f64), |g, k| (g.0.max(of(*k).0), g.1.max(of(*k).1)));
            let share = |a: f64, b: f64| if a > 0.0 { a / b } else { 0.0 };
            share(of(j).0, greatest.0) * share(of(j).1, greatest.1)
        }
        Score::RankAverage if varying.len() == 1 => 1.0,
        Score::RankAverage => {
            let beaten = |what: &dyn Fn(usize) -> f64| {
                let less = varying.iter().filter(|k| what(**k) < what(j)).count();
                let equal = varying.iter().filter(|k| what(**k) == what(j)).count() - 1;
                (less as f64 + 0.5 * equal as f64) / (varying.len() - 1) as f64
            };
            0.5 * (beaten(&|k| of(k).0) + beaten(&|k| of(k).1))
        }
    };
    let scores: Vec<Option<f64>> = (0..n).map(|j| within[j].map(|_| score(j))).collect();

    // From the best on, one after the other; those of the set stand higher while it is asked what is redundant.
    let better = |a: &usize, b: &usize| scores[*b].partial_cmp(&scores[*a]).expect("scores are numbers").then(a.cmp(b));
    let mut order = varying.clone();
    order.sort_by(better);
    let place = |j: &usize| {
        let place = order.iter().position(|k| k == j).expect("it varies") as i64;
        (if past.active[*j] { place - rules.hysteresis as i64 } else { place }, !past.active[*j], *j)
    };
    let mut by_place = varying.clone();
    by_place.sort_by_key(place);
    let mut partner: Vec<Option<usize>> = vec![None; n];
    for (at, j) in by_place.iter().enumerate() {
        let says_the_same = |k: &&usize| moments.correlation(*j, **k).abs() > rules.correlation_max;
        partner[*j] = by_place[..at].iter().filter(|k| partner[**k].is_none()).find(says_the_same).copied();
    }
    let unlike: Vec<usize> = order.into_iter().filter(|j| partner[*j].is_none()).collect();
    let rank: Vec<Option<usize>> = (0..n).map(|j| unlike.iter().position(|k| *k == j).map(|place| place + 1)).collect();
    let stays = |j: usize| {
        let Some(rank) = rank[j] else { return false };
        let deviations = told[j].deviations();
        let by_rank = rank <= rules.size || past.active[j] && rank <= rules.size + rules.hysteresis;
        let by_chance = deviations <= if past.active[j] { 0.5 * rules.significance } else { rules.significance };
        by_rank && (rules.significance == 0.0 || !by_chance)
    };
    let active: Vec<bool> = (0..n).map(stays).collect();

    let float = |v: Option<f64>| v.map_or(Value::Null, |v| Value::Float(v + 0.0));
    let count = |v: Option<usize>| v.map_or(Value::Null, |v| Value::Int(v as i64));
    let row = |j: usize| {
        vec![
            name(j),
            float(scores[j]),
            float(weights[j]),
            float(within[j].map(|v| 1.0 - v)),
            Value::Float(told[j].corrected()),
            Value::Float(told[j].plug_in),
            Value::Float(told[j].bias + 0.0),
            Value::Float(told[j].deviations() + 0.0),
            Value::Int(told[j].bins as i64),
            float(Some(moments.variance(j)).filter(|v| !v.is_nan())),
            partner[j].map_or(Value::Null, name),
            count(rank[j]),
            Value::Bool(active[j]),
            Value::Int(past.selections.len() as i64 + 1),
        ]
    };
    let chosen: Vec<usize> = (0..n).filter(|j| active[*j]).collect();
    let mut sets: [Vec<usize>; SETS] = Default::default();
    debug_assert!(sets[NONE].is_empty());
    sets[ALL] = varying.clone();
    sets[FIRST] = past.selections.first().map_or_else(|| chosen.clone(), |first| first.sets[FIRST].clone());
    sets[CHOSEN] = chosen;
    let made = Selected { scores: (0..n).map(row).collect(), sets, shares, tables };
    past.active = active;
    past.selections.push(made);
}

/// The bin of each cell, and what is in each bin: quantile q has the cells whose middle is in it.
fn quantiles(cells: &[[f64; 3]], most: usize) -> (Vec<usize>, Vec<[f64; 3]>) {
    let weight = |cell: &[f64; 3]| cell[0] + cell[1] + cell[2];
    let total = cells.iter().fold(0.0, |sum, cell| sum + weight(cell));
    let mut quantile_of = vec![None; cells.len()];
    let mut below = 0.0;
    for (cell, quantile) in cells.iter().zip(&mut quantile_of).filter(|(cell, _)| weight(cell) > 0.0) {
        let middle = (below + 0.5 * weight(cell)) / total;
        *quantile = Some(((middle * most as f64) as usize).min(most - 1));
        below += weight(cell);
    }
    let mut used: Vec<usize> = quantile_of.iter().flatten().copied().collect();
    used.dedup();
    let mut weights = vec![[0.0; 3]; used.len()];
    let mut bin = 0;
    let mut bins = Vec::new();
    for (cell, quantile) in cells.iter().zip(quantile_of) {
        if let Some(quantile) = quantile {
            bin = used.iter().position(|q| *q == quantile).expect("it is used");
            (0..3).for_each(|c| weights[bin][c] += cell[c]);
        }
        bins.push(bin);
    }
    (bins, weights)
}

fn share_within(past: &Past, rules: &Rules, feature: usize, t: usize) -> Option<f64> {
    let clusters: Vec<(f64, f64, f64)> =
        (0..past.seeds.len()).map(|c| cluster(past, rules, c, feature, t + 1, t)).collect();
    let weight = clusters.iter().fold(0.0, |sum, c| sum + c.0);
    let mean = clusters.iter().fold(0.0, |sum, c| sum + c.0 * c.1) / weight;
    let within = clusters.iter().fold(0.0, |sum, c| sum + c.2);
    let between = clusters.iter().fold(0.0, |sum, c| sum + c.0 * (c.1 - mean) * (c.1 - mean));
    (within + between > 0.0).then(|| within / (within + between) + 0.0)
}
