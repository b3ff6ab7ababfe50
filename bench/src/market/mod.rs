//! `market_latency` and `market_quality`: what a message costs on its way from the venue to a prediction, and how good
//! predictions are with all features, a set chosen once, and one that is chosen anew.
//!
//! They run the kernels of the four market operators one after the other in one thread, as the steps of a pipeline do,
//! over recorded markets in the folder that `THALWEG_DATA` names; and the example's whole pipeline over its exchange.

mod chain;
mod feed;
mod synthetic;

use std::time::Instant;

use operators::online_model::design::Pruning;
use operators::online_model::learner::{Learner, MODELS};
use operators::online_model::window::Window;

use self::chain::{Chain, Chosen};
use self::feed::Venue;
use crate::Options;
use crate::machine::Scratch;
use crate::measure::{Rng, Samples, quantile};
use crate::report::Report;

/// From a message's records to the prediction it brings, for each message of a recorded market.
pub fn latency(options: &Options, _: &Scratch, report: &mut Report) -> Result<(), String> {
    let messages = feed::read(Venue::FuturesBtc)?;
    let messages = &messages[..options.pick(messages.len(), messages.len() / 5)];
    let shares = [("p50_us", 0.5), ("p99_us", 0.99), ("p999_us", 0.999)];
    let mut samples: [Samples; 3] = Default::default();
    let (mut rate, mut books) = (Samples::default(), Samples::default());
    for repetition in 0..options.repetitions() {
        report.progress(&format!("{} messages, repetition {}", messages.len(), repetition + 1));
        let mut nanos: Vec<u64> = Vec::with_capacity(messages.len());
        let mut chain = Chain::new(Venue::FuturesBtc, Chosen::Anew);
        for message in messages {
            let begin = Instant::now();
            chain.take(message);
            nanos.push(begin.elapsed().as_nanos() as u64);
        }
        if chain.predictions() == 0 {
            return Err("nothing was predicted".to_owned());
        }
        let begin = Instant::now();
        let mut chain = Chain::new(Venue::FuturesBtc, Chosen::Anew);
        messages.iter().for_each(|message| chain.take(message));
        rate.push(messages.len() as f64 / begin.elapsed().as_secs_f64());
        let begin = Instant::now();
        let mut book = chain::BookOnly::new(Venue::FuturesBtc);
        messages.iter().for_each(|message| book.take(message));
        books.push(messages.len() as f64 / begin.elapsed().as_secs_f64());
        nanos.sort_unstable();
        for (samples, (_, share)) in samples.iter_mut().zip(shares) {
            samples.push(quantile(&nanos, share) as f64 / 1e3);
        }
    }
    for (samples, (metric, _)) in samples.iter().zip(shares) {
        report.figure(metric, "us", samples);
    }
    report.figure("messages_per_s_1w", "messages/s", &rate);
    report.figure("book_messages_per_s", "messages/s", &books);
    Ok(())
}

/// Every model at every horizon over the synthetic exchange and recorded markets, judged before it learns.
pub fn quality(options: &Options, scratch: &Scratch, report: &mut Report) -> Result<(), String> {
    synthetic::run(options, scratch, report)?;
    pruned(options, report)?;
    for venue in Venue::ALL {
        let messages = feed::read(venue)?;
        let messages = &messages[..options.pick(messages.len(), messages.len() / 10)];
        for chosen in [Chosen::All, Chosen::Once, Chosen::Anew] {
            report.progress(&format!("{}, {} messages, {}", venue.name(), messages.len(), chosen.name()));
            let mut chain = Chain::new(venue, chosen);
            messages.iter().for_each(|message| chain.take(message));
            for (horizon, scores) in chain.scores() {
                for (model, score) in MODELS.iter().zip(scores) {
                    let is_baseline = *model == "persistence" || *model == "majority";
                    if is_baseline && chosen != Chosen::All {
                        continue;
                    }
                    let who = if is_baseline { (*model).to_owned() } else { format!("{}_{model}", chosen.name()) };
                    let mut figure = |metric: &str, value: f64| {
                        let mut samples = Samples::default();
                        samples.push(value);
                        report.figure(&format!("{metric}_{}_{who}_{horizon}", venue.name()), "", &samples);
                    };
                    figure("f1_macro", score.f1_macro());
                    figure("accuracy", score.accuracy());
                    figure("mcc", score.mcc());
                    if !is_baseline {
                        figure("logloss", score.log_loss());
                        figure("ece", score.ece());
                        figure("trades", score.trades as f64);
                        figure("pnl_per_trade_bp", 1e4 * score.earned / score.trades as f64);
                    }
                }
            }
        }
    }
    Ok(())
}

/// The network dense, and with seven tenths of its blocks pruned between its 200th and 1,400th step.
fn pruned(options: &Options, report: &mut Report) -> Result<(), String> {
    let rules = |sparsity| Pruning { sparsity, after: 200, until: 1_400, every: 5, regrow: 0.02 };
    let ways = [("dense", rules(0.0)), ("pruned", rules(0.7))];
    let (mut f1, mut nanos): ([Samples; 2], [Samples; 2]) = Default::default();
    let mut costs = [(0, 0); 2];
    for venue in Venue::ALL {
        let messages = feed::read(venue)?;
        let messages = &messages[..options.pick(messages.len(), messages.len() / 10)];
        for (way, (name, pruning)) in ways.iter().enumerate() {
            report.progress(&format!("{}, {} messages, {name}", venue.name(), messages.len()));
            let mut chain = Chain::with(venue, Chosen::All, *pruning);
            messages.iter().for_each(|message| chain.take(message));
            let horizons: Vec<f64> = chain.scores().map(|(_, scores)| scores[0].f1_macro()).collect();
            f1[way].push(horizons.iter().sum::<f64>() / horizons.len() as f64);
            costs[way] = chain.learner().network.cost();
            for _ in 0..options.repetitions() {
                nanos[way].push(inference(chain.learner()));
            }
        }
    }
    for (way, (name, _)) in ways.iter().enumerate() {
        report.figure(&format!("macro_f1_{name}"), "", &f1[way]);
        report.figure(&format!("ns_per_prediction_{name}"), "ns", &nanos[way]);
        let mut once = |metric: &str, unit: &str, value: usize| {
            let mut samples = Samples::default();
            samples.push(value as f64);
            report.figure(&format!("{metric}_{name}"), unit, &samples);
        };
        once("multiply_adds", "", costs[way].0);
        once("bytes", "bytes", costs[way].1);
    }
    Ok(())
}

/// Nanoseconds for a new column and what it predicts, learning and everything before it left out.
fn inference(learner: &Learner) -> f64 {
    const COLUMNS: usize = 20_000;
    let mut window = Window::new(&learner.design);
    let mut logits = vec![0.0; 4 * learner.design.horizons.len()];
    let mut random = Rng::new(1);
    let inputs: Vec<f32> = (0..4_096).map(|_| (random.next() >> 40) as f32 / 8e6 - 1.0).collect();
    let begin = Instant::now();
    for column in 0..COLUMNS {
        let next = window.next();
        let from = column * 7 % (inputs.len() - next.len());
        next.copy_from_slice(&inputs[from..from + next.len()]);
        window.advance(&learner.network);
        window.logits(&learner.network, &mut logits);
    }
    std::hint::black_box(&logits);
    begin.elapsed().as_nanos() as f64 / COLUMNS as f64
}
