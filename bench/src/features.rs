//! `features`: the standard features of a recorded book and the moments of their vectors, a tick at a time, against the
//! bare rank-1 update of a matrix that such moments need at least.
//!
//! The book is that of AMZN on 2012-06-21 with five levels, in `market` of the folder that `THALWEG_DATA` names: 155,935
//! messages. The limit forgets and adds in one pass over the whole matrix, with means, as one would write it by hand.

use std::path::PathBuf;
use std::sync::Arc;

use engine::catalogue::Row;
use engine::operator::{Context, StepKind};
use engine::plan::StepPlan;
use operators::features::graph::Graph;
use operators::features::market::{Level, Tick, Trade};
use operators::features::set::FeatureSet;
use operators::features::standard::standard;
use operators::moments::Moments;
use types::{RowCodec, Schema, Value};

use crate::Options;
use crate::machine::Scratch;
use crate::measure::{Samples, timed};
use crate::report::Report;
use crate::subject;

/// The levels of the book.
const LEVELS: usize = 5;
/// As long as vectors count.
const HALF_LIFE: f64 = 20_000.0;
/// Ticks of one epoch of the step.
const EPOCH: usize = 1_000;

const BARE: &str = "bare rank-1 update";

/// A step with the standard features over ticks of five levels.
pub fn pipeline() -> String {
    let mut text = "name = \"features\"\n\n[sources.ticks]\ntype = \"file\"\npath = \"ticks.csv\"\nformat = \"csv\"\n\
         event_time = \"at\"\n\n[sources.ticks.columns]\nsymbol = \"string\"\nat = \"timestamp\"\nhealthy = \"bool\"\n\
         trade_price = \"float64\"\ntrade_size = \"float64\"\ntrade_side = \"int64\"\n"
        .to_owned();
    for name in ["bid_added", "bid_removed", "ask_added", "ask_removed"] {
        text += &format!("{name} = \"float64\"\n");
    }
    for level in 1..=LEVELS {
        for name in ["bid_price", "bid_size", "ask_price", "ask_size"] {
            text += &format!("{name}_{level} = \"float64\"\n");
        }
    }
    text + "\n[steps.features]\noperator = \"features\"\ninput = \"ticks\"\ninstrument = \"symbol\"\n"
}

pub fn run(options: &Options, _: &Scratch, report: &mut Report) -> Result<(), String> {
    let ticks = recorded(options.pick(usize::MAX, 20_000))?;
    let graph = Arc::new(Graph::new(&standard(LEVELS)));
    let vectors = vectors(&graph, &ticks);
    let n = graph.outputs.len();
    let (mut kernel, mut comoments, mut bare, mut step) =
        (Samples::default(), Samples::default(), Samples::default(), Samples::default());
    let per_tick = |seconds: f64| seconds / ticks.len() as f64 * 1e9;
    for repetition in 0..options.repetitions() {
        report.progress(&format!("repetition {}", repetition + 1));
        let (sum, seconds) = timed(|| {
            let mut set = FeatureSet::new(graph.clone());
            ticks.iter().map(|tick| set.update(tick, &[])[0]).sum::<f64>()
        });
        if !sum.is_finite() {
            return Err("the book of the recorded day has a spread at every tick".to_owned());
        }
        kernel.push(per_tick(seconds));
        let (moments, seconds) = timed(|| {
            let mut moments = Moments::new(n, HALF_LIFE);
            vectors.chunks_exact(n).for_each(|vector| moments.update(vector));
            moments
        });
        comoments.push(per_tick(seconds));
        let (rank_one, seconds) = timed(|| rank_one(&vectors, n));
        bare.push(per_tick(seconds));
        let variance = rank_one[0] / moments.weight(0);
        if (moments.variance(0) - variance).abs() > 1e-6 * variance {
            return Err(format!("the variance of the first feature is {}, by hand {variance}", moments.variance(0)));
        }
        step.push(per_tick(through_the_step(&ticks)?));
    }
    report.against("ns_per_tick_comoments", "ns", &comoments, BARE, &bare);
    report.against("ns_per_tick_features", "ns", &kernel, BARE, &bare);
    report.against("ns_per_tick_step", "ns", &step, BARE, &bare);
    Ok(())
}

/// The vectors of all ticks, one after the other; a feature that is not defined is 0, so that every matrix is whole.
fn vectors(graph: &Arc<Graph>, ticks: &[Tick]) -> Vec<f64> {
    let mut set = FeatureSet::new(graph.clone());
    let mut vectors = Vec::with_capacity(ticks.len() * graph.outputs.len());
    for tick in ticks {
        vectors.extend(set.update(tick, &[]).iter().map(|v| if v.is_nan() { 0.0 } else { *v }));
    }
    vectors
}

/// The limit: forgotten means, and products about them, over the whole matrix.
fn rank_one(vectors: &[f64], n: usize) -> Vec<f64> {
    let lambda = 2f64.powf(-1.0 / HALF_LIFE);
    let (mut weight, mut means, mut deviations, mut products) = (0.0, vec![0.0; n], vec![0.0; n], vec![0.0; n * n]);
    for vector in vectors.chunks_exact(n) {
        weight = weight * lambda + 1.0;
        let share = 1.0 / weight;
        for i in 0..n {
            deviations[i] = vector[i] - means[i];
            means[i] += share * deviations[i];
        }
        for (i, row) in products.chunks_exact_mut(n).enumerate() {
            let factor = deviations[i] * (1.0 - share);
            for (product, deviation) in row.iter_mut().zip(&deviations) {
                *product = *product * lambda + factor * deviation;
            }
        }
    }
    products
}

/// Seconds of the step itself: columns of ticks in, columns of vectors and state out, an epoch every thousand ticks.
fn through_the_step(ticks: &[Tick]) -> Result<f64, String> {
    let plan = subject::plan(&PathBuf::new(), &pipeline())?;
    let input = plan.schema("ticks").expect("a source of the pipeline").clone();
    let plan: StepPlan = plan.steps[0].plan.clone();
    let StepKind::History(new) = &plan.kind else { return Err("not a function of history".to_owned()) };
    let (mut operator, codec) = (new(), RowCodec::new(&input));
    let (mut seconds, mut told) = (0.0, 0);
    for (epoch, some) in ticks.chunks(EPOCH).enumerate() {
        let rows: Vec<Row> =
            some.iter().enumerate().map(|(i, tick)| row(&input, tick, (epoch * EPOCH + i) as i64)).collect();
        let batch = codec.batch(&rows);
        let mut context = Context::new(epoch as u64 + 1, i64::MAX, plan.outputs.len());
        let ((), took) = timed(|| {
            operator.apply(0, &batch, &mut context);
            operator.advance(&mut context);
        });
        seconds += took;
        let (outputs, ..) = context.into_parts();
        told += outputs[1].iter().map(types::Delta::len).sum::<usize>();
    }
    if told != ticks.len() { Err(format!("{told} vectors of {} ticks", ticks.len())) } else { Ok(seconds) }
}

fn row(schema: &Schema, tick: &Tick, seq: i64) -> Row {
    let level = |levels: &[Level], name: &str, at: &str| -> Value {
        let level = at.parse().ok().and_then(|at: usize| levels.get(at - 1));
        level.map_or(Value::Null, |l| Value::Float(if name.ends_with("price") { l.price } else { l.size }))
    };
    let cell = |name: &str| match name {
        "symbol" => Value::Str("AMZN".to_owned()),
        "at" => Value::Time(tick.at),
        "healthy" => Value::Bool(true),
        "trade_price" => tick.trade.map_or(Value::Null, |t| Value::Float(t.price)),
        "trade_size" => tick.trade.map_or(Value::Null, |t| Value::Float(t.size)),
        "trade_side" => tick.trade.map_or(Value::Null, |t| Value::Int(t.sign as i64)),
        "bid_added" => Value::Float(tick.added[0]),
        "bid_removed" => Value::Float(tick.removed[0]),
        "ask_added" => Value::Float(tick.added[1]),
        "ask_removed" => Value::Float(tick.removed[1]),
        name => match name.rsplit_once('_') {
            Some((name, at)) if name.starts_with("bid") => level(&tick.bids, name, at),
            Some((name, at)) if name.starts_with("ask") => level(&tick.asks, name, at),
            _ => Value::Int(seq),
        },
    };
    schema.columns.iter().map(|column| cell(&column.name)).collect()
}

/// The recorded ticks, `at_most` of them.
fn recorded(at_most: usize) -> Result<Vec<Tick>, String> {
    let data = std::env::var_os("THALWEG_DATA").map(PathBuf::from);
    let data = data.ok_or("the book is recorded data: set THALWEG_DATA to its folder")?;
    let file = data.join("market/lobster_amzn_2012-06-21_L5.csv.zst");
    let failed = |e: std::io::Error| format!("{}: {e}", file.display());
    let packed = std::fs::File::open(&file).map_err(failed)?;
    let text = zstd::stream::Decoder::new(packed).and_then(std::io::read_to_string).map_err(failed)?;
    let ticks = text.lines().skip(1).take(at_most).map(tick).collect::<Option<Vec<Tick>>>();
    ticks.ok_or(format!("{}: not the rows that were expected", file.display()))
}

/// A message of the recorded file with the book after it. Its direction is that of the order that rested.
fn tick(line: &str) -> Option<Tick> {
    let cells = line.split(',').map(|cell| cell.parse().ok()).collect::<Option<Vec<i64>>>()?;
    let (message, levels) = cells.split_at_checked(6)?;
    let [at, kind, _, size, price, direction]: [i64; 6] = message.try_into().ok()?;
    let level = |price: i64, size: i64| Level { price: price as f64 / 1e4, size: size as f64 };
    let (levels, _) = levels.as_chunks::<4>();
    let side = usize::from(direction < 0);
    let flow = |is_it: bool| if is_it { [[size as f64, 0.0], [0.0, size as f64]][side] } else { [0.0; 2] };
    Some(Tick {
        at: at / 1_000,
        bids: levels.iter().map(|[_, _, price, size]| level(*price, *size)).collect(),
        asks: levels.iter().map(|[price, size, ..]| level(*price, *size)).collect(),
        trade: matches!(kind, 4 | 5).then(|| Trade {
            price: price as f64 / 1e4,
            size: size as f64,
            sign: -direction as f64,
        }),
        added: flow(kind == 1),
        removed: flow(matches!(kind, 2 | 3)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_step_tells_the_vectors_of_the_kernel() {
        let line = |at: i64, kind: i64, size: i64| {
            let book: Vec<String> =
                (1..=5).map(|i| format!("{},{},{},9", 1_000_000 + i, size, 1_000_000 - i)).collect();
            format!("{at},{kind},7,3,1000000,-1,{}", book.join(","))
        };
        let ticks: Vec<Tick> = (0..50).map(|i| tick(&line(i * 1_000_000, 1 + i % 4, 1 + i % 3)).unwrap()).collect();
        assert_eq!(ticks[3].trade.map(|t| t.sign), Some(1.0));
        assert!(through_the_step(&ticks).unwrap() > 0.0);
        let graph = Arc::new(Graph::new(&standard(LEVELS)));
        assert_eq!(vectors(&graph, &ticks).len(), 50 * 40);
    }
}
