//! `features`, the selection: what a vector of 40 features costs from moments to the active set, against a bare
//! rank-one update of 40 × 40 numbers.
//!
//! Two features tell in turn, so that selections change and drift is found; the loss of the selection must be below
//! that of no features. Vectors are made before, prices in front of what is timed.

use operators::feature_selection::kernel::{CHOSEN, Label, NONE, Quote, Rules, Score, Selector, Unit, Vector, Watch};

use crate::Options;
use crate::machine::Scratch;
use crate::measure::{Rng, Samples, quantile, timed};
use crate::report::Report;

/// Features of a vector.
const FEATURES: usize = 40;
/// Vectors until another feature tells.
const TURN: usize = 50_000;

pub fn run(options: &Options, _: &Scratch, report: &mut Report) -> Result<(), String> {
    let count = options.pick(400_000, 60_000);
    let (mut ours, mut bare) = (Samples::default(), Samples::default());
    let (mut reselection, mut late) = (Samples::default(), Samples::default());
    for repetition in 0..options.repetitions() {
        report.progress(&format!("selection among {FEATURES} features, repetition {}", repetition + 1));
        let (vectors, prices) = vectors(repetition as u64, count);
        let (sum, secs) = timed(|| rank_one(&vectors));
        std::hint::black_box(sum);
        bare.push(secs / count as f64 * 1e9);

        let mut selector = Selector::new(&rules());
        let ((), secs) = timed(|| {
            for (t, x) in vectors.chunks_exact(FEATURES).enumerate() {
                selector.push(Vector { x, quote: Quote { price: prices[t], spread: 0.01 }, at: t as i64 });
            }
        });
        ours.push(secs / count as f64 * 1e9);
        let losses = selector.referee().losses;
        if losses[CHOSEN] >= losses[NONE] {
            return Err(format!("the selection's loss is {}, that of no features {}", losses[CHOSEN], losses[NONE]));
        }

        // Once more, each vector by itself.
        let mut selector = Selector::new(&rules());
        let (mut singly, mut at_selection) = (Vec::with_capacity(count), Vec::new());
        for (t, x) in vectors.chunks_exact(FEATURES).enumerate() {
            let before = selector.selections();
            let vector = Vector { x, quote: Quote { price: prices[t], spread: 0.01 }, at: t as i64 };
            let (_, secs) = timed(|| selector.push(vector).len());
            singly.push((secs * 1e9) as u64);
            if selector.selections() > before {
                at_selection.push((secs * 1e9) as u64);
            }
        }
        singly.sort_unstable();
        at_selection.sort_unstable();
        reselection.push(quantile(&at_selection, 0.5) as f64 / 1e3);
        late.push(quantile(&singly, 0.999) as f64 / 1e3);
    }
    report.against("ns_per_tick_selection", "ns", &ours, "bare rank-one update", &bare);
    report.figure("us_per_reselection", "us", &reselection);
    report.figure("us_selection_p999", "us", &late);
    Ok(())
}

fn rules() -> Rules {
    Rules {
        features: FEATURES,
        half_life: 20_000,
        clusters: 8,
        warmup: 2000,
        bins: 10,
        size: 16,
        hysteresis: 4,
        reselect_every: 1000,
        correlation_max: 0.95,
        variance_min: 1e-18,
        label: Label { horizon: 10, every: 1, threshold: 1e-4, unit: Unit::Relative },
        score: Score::Product,
        significance: 0.0,
        watch: Watch::Adwin { delta: 0.002 },
        drift_ages: 3,
        seed: 1,
    }
}

/// Vectors of independent features, near enough to normal, and the price at each.
fn vectors(seed: u64, count: usize) -> (Vec<f64>, Vec<f64>) {
    let mut rng = Rng::new(seed);
    let mut normal = move || {
        // The sum of four uniform numbers has a variance of a third.
        let bits = rng.next();
        let sum: u64 = (0..4).map(|i| bits >> (16 * i) & 0xffff).sum();
        (sum as f64 / 65_535.0 - 2.0) * 3.0_f64.sqrt()
    };
    let (mut vectors, mut prices, mut price) = (Vec::with_capacity(count * FEATURES), Vec::with_capacity(count), 100.0);
    for t in 0..count {
        let from = vectors.len();
        vectors.extend((0..FEATURES).map(|j| normal() * (j + 1) as f64));
        prices.push(price);
        let teller = if t / TURN % 2 == 0 { 3 } else { 7 };
        let told = vectors[from + teller] / (teller + 1) as f64;
        price *= 1.0 + 1e-4 * (0.3 * told + 0.95 * normal());
    }
    (vectors, prices)
}

/// The limit: a weighted rank-one update of the whole matrix for each vector, and nothing else.
#[inline(never)]
fn rank_one(vectors: &[f64]) -> f64 {
    let mut matrix = vec![[0.0; FEATURES]; FEATURES];
    let (mut weight, growth) = (1.0, 1.000_03);
    for x in vectors.as_chunks::<FEATURES>().0 {
        weight *= growth;
        if weight > 1e9 {
            weight = 1.0;
        }
        for (row, a) in matrix.iter_mut().zip(x) {
            let a = weight * a;
            for (cell, b) in row.iter_mut().zip(x) {
                *cell += a * b;
            }
        }
    }
    matrix.iter().flatten().sum()
}
