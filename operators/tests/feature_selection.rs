//! The promises of `feature_selection`: information as theory has it, labels only when they are known, a set that
//! follows what tells and lets chance alone, drift as others find it, state that costs what came.

#[allow(dead_code, reason = "only the random numbers are wanted of it")]
mod harness;

use std::collections::BTreeMap;
use std::path::Path;

use arrow::array::{ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use engine::catalogue::Row;
use engine::operator::{Context, HistoryOperator, StepKind};
use engine::pipeline::load;
use engine::plan::StepPlan;
use harness::Random;
use operators::feature_selection::kernel::{
    CHOSEN, Detector, FIRST, Label, NONE, Quote, Rules, Score, Selector, Unit, Vector, Watch,
};
use std::sync::Arc;
use types::{Value, shard_of};

const FEATURES: usize = 12;

fn rules() -> Rules {
    Rules {
        features: FEATURES,
        half_life: 4000,
        clusters: 8,
        warmup: 1000,
        bins: 10,
        size: 3,
        hysteresis: 2,
        reselect_every: 500,
        correlation_max: 0.95,
        variance_min: 1e-18,
        label: Label { horizon: 1, every: 1, threshold: 3e-5, unit: Unit::Relative },
        score: Score::Product,
        significance: 0.0,
        watch: Watch::Adwin { delta: 0.002 },
        drift_ages: 3,
        seed: 1,
    }
}

fn uniform(random: &mut Random) -> f64 {
    (random.next() >> 11) as f64 / (1_u64 << 53) as f64
}

fn normal(random: &mut Random) -> f64 {
    let (u, v) = (1.0 - uniform(random), uniform(random));
    (-2.0 * libm::log(u)).sqrt() * libm::cos(2.0 * std::f64::consts::PI * v)
}

/// Vectors of independent normal features and a price of which the one that `teller` names tells half the next move.
struct World {
    random: Random,
    price: f64,
    at: i64,
}

impl World {
    fn new(seed: u64) -> World {
        World { random: Random::new(seed), price: 100.0, at: 0 }
    }

    fn step(&mut self, teller: Option<usize>) -> ([f64; FEATURES], Quote, i64) {
        let x: [f64; FEATURES] = std::array::from_fn(|_| normal(&mut self.random));
        let quote = Quote { price: self.price, spread: 0.01 };
        let told = teller.map_or(0.0, |j| 0.5 * x[j]);
        self.price *= 1.0 + 1e-4 * (told + 0.87 * normal(&mut self.random));
        self.at += 1;
        (x, quote, self.at)
    }
}

fn is_active(selector: &Selector, feature: usize) -> bool {
    selector.standings()[feature].verdict.is_active
}

/// One feature tells, then falls silent, and another tells instead.
#[test]
fn the_set_follows_what_tells() {
    const TURN: i64 = 20_000;
    let mut loss = [0.0; 4];
    for seed in 0..20 {
        let mut world = World::new(seed);
        let mut selector = Selector::new(&Rules { seed, significance: 3.0, ..rules() });
        let (mut drift, mut left) = (None, None);
        for t in 1..=40_000 {
            let (x, quote, at) = world.step(Some(if t <= TURN { 3 } else { 7 }));
            let changes = selector.push(Vector { x: &x, quote, at });
            if t > TURN && changes.iter().any(|c| c.feature == 3 && !c.entered) {
                left = left.or(Some(t - TURN));
            }
            if t == TURN {
                assert!(is_active(&selector, 3), "seed {seed}: what tells is in the set");
                assert_eq!(selector.watch().1.count, 0, "seed {seed}: a false alarm");
            }
            if t == TURN + 1000 {
                assert!(is_active(&selector, 7), "seed {seed}: what tells now is in the set after 1,000 vectors");
                drift = Some(selector.watch().1.last_at - TURN);
            }
        }
        assert!(is_active(&selector, 7), "seed {seed}: what tells stays");
        assert!(
            left.is_some_and(|left| left <= 10_000),
            "seed {seed}: what tells no more is out after {left:?} vectors"
        );
        assert!((1..=1000).contains(&drift.unwrap()), "seed {seed}: drift found after {drift:?} vectors");
        let referee = selector.referee();
        (0..4).for_each(|set| loss[set] += referee.losses[set] / referee.judged as f64 / 20.0);
    }
    // Dynamic beats static, and static beats nothing.
    assert!(loss[CHOSEN] < loss[FIRST] - 0.005 && loss[CHOSEN] < loss[NONE] - 0.01, "{loss:?}");
}

/// Features that tell nothing have a relevance of 0 on average, and stay out if it has to be more than chance.
#[test]
fn chance_tells_nothing() {
    let (mut deviations, mut changes) = (Vec::new(), [0, 0]);
    for seed in 0..20 {
        for (kind, significance) in [0.0, 3.0].into_iter().enumerate() {
            let mut world = World::new(100 + seed);
            let mut selector = Selector::new(&Rules { significance, ..rules() });
            for _ in 0..20_000 {
                let (x, quote, at) = world.step(None);
                changes[kind] += selector.push(Vector { x: &x, quote, at }).len();
            }
            if kind == 0 {
                deviations.extend(selector.standings().iter().map(|s| s.relevance.deviations()));
                assert!(selector.standings().iter().all(|s| s.relevance.plug_in > 0.0 && s.relevance.bins == 10));
            }
        }
    }
    let n = deviations.len() as f64;
    let mean = deviations.iter().sum::<f64>() / n;
    let variance = deviations.iter().map(|d| (d - mean) * (d - mean)).sum::<f64>() / n;
    assert!(mean.abs() < 0.2, "the mean is {mean} deviations from chance");
    assert!((0.8..1.2).contains(&variance.sqrt()), "the deviation is {} of what it should be", variance.sqrt());
    // 4 of 240 would be beyond 3 deviations of χ² with 18 degrees of freedom in one of a hundred runs.
    assert!(deviations.iter().filter(|d| **d > 3.0).count() <= 5);
    assert!(changes[1] * 20 < changes[0], "changes without and with significance: {changes:?}");
}

/// Features that last and labels that overlap have much in common by chance: as much as is said, and no more.
#[test]
fn what_lasts_tells_nothing_by_lasting() {
    const LASTS: [f64; 4] = [0.0, 0.9, 0.99, 0.999];
    let mut deviations = [0.0; LASTS.len()];
    let mut uncorrected = [0.0; LASTS.len()];
    const SEEDS: u64 = 20;
    for seed in 0..SEEDS {
        let mut world = World::new(300 + seed);
        let label = Label { horizon: 20, every: 1, threshold: 1e-4, unit: Unit::Relative };
        let mut selector = Selector::new(&Rules { label, watch: Watch::Never, half_life: 10_000, ..rules() });
        let mut x = [0.0; FEATURES];
        for _ in 0..30_000 {
            let (noise, quote, at) = world.step(None);
            for (j, (x, noise)) in x.iter_mut().zip(noise).enumerate() {
                let lasts = LASTS[j % LASTS.len()];
                *x = lasts * *x + (1.0 - lasts * lasts).sqrt() * noise;
            }
            selector.push(Vector { x: &x, quote, at });
        }
        for (j, standing) in selector.standings().iter().enumerate() {
            let times = (SEEDS as usize * FEATURES / LASTS.len()) as f64;
            deviations[j % LASTS.len()] += standing.relevance.deviations() / times;
            // Of as many labels that do not overlap the bias would be that of the feature that does not last.
            uncorrected[j % LASTS.len()] += standing.relevance.plug_in / selector.standings()[0].relevance.bias / times;
        }
    }
    assert!(uncorrected[0] < 1.1 && uncorrected[2] > 4.0, "{uncorrected:?} times the bias of independent labels");
    assert!(deviations.iter().all(|d| d.abs() < 1.0), "{deviations:?} deviations from chance");
}

/// Slow features and labels that overlap: losses go up and down together, and that is no drift.
#[test]
fn labels_that_overlap_are_no_drift() {
    let mut drifts = 0;
    for seed in 0..10 {
        let mut world = World::new(200 + seed);
        let label = Label { horizon: 20, every: 1, threshold: 1e-4, unit: Unit::Relative };
        let mut selector = Selector::new(&Rules { label, ..rules() });
        for _ in 0..40_000 {
            let (x, quote, at) = world.step(Some(2));
            selector.push(Vector { x: &x, quote, at });
        }
        drifts += selector.watch().1.count;
    }
    assert!(drifts <= 2, "{drifts} false alarms in 400,000 vectors");
}

/// Information that is known: of a feature with five values, and of a normal one over ten quantiles.
#[test]
fn information_is_that_of_theory() {
    let up = [0.1, 0.3, 0.5, 0.7, 0.9];
    let of_two = |p: f64| if p > 0.0 && p < 1.0 { -p * p.ln() - (1.0 - p) * (1.0 - p).ln() } else { 0.0 };
    // A normal feature whose correlation with what is behind the label is 0.5.
    let slope = 0.5 / (1.0_f64 - 0.25).sqrt();
    let phi = |x: f64| 0.5 * libm::erfc(-x / std::f64::consts::SQRT_2);
    let (mut bins, mut weights) = ([0.0; 10], [0.0; 10]);
    for i in -60_000..60_000 {
        let x = (f64::from(i) + 0.5) * 1e-4;
        let bin = ((phi(x) * 10.0) as usize).min(9);
        let density = (-0.5 * x * x).exp();
        bins[bin] += density * phi(slope * x);
        weights[bin] += density;
    }

    let mut random = Random::new(9);
    let mut selector = Selector::new(&Rules { features: 3, half_life: 40_000, ..rules() });
    let mut price = 100.0;
    for at in 0..80_000 {
        let five = random.below(5);
        let x = [five as f64, normal(&mut random), normal(&mut random)];
        selector.push(Vector { x: &x, quote: Quote { price, spread: 1.0 }, at });
        // The first tells in one half of the vectors, the second in the other.
        let rises =
            if at % 2 == 0 { uniform(&mut random) < up[five] } else { slope * x[1] + normal(&mut random) > 0.0 };
        price *= if rises { 1.001 } else { 1.0 / 1.001 };
    }
    // A mixture with a fair coin moves probabilities half the way to ½.
    let halved = |p: f64| 0.5 * p + 0.25;
    let five = of_two(0.5) - up.iter().map(|p| 0.2 * of_two(halved(*p))).sum::<f64>();
    let normal = of_two(0.5) - (0..10).map(|b| 0.1 * of_two(halved(bins[b] / weights[b]))).sum::<f64>();
    let told: Vec<f64> = selector.standings().iter().map(|s| s.relevance.corrected()).collect();
    assert!((told[0] - five).abs() < 0.05 * five + 0.0005, "{} of {five}", told[0]);
    assert!((told[1] - normal).abs() < 0.1 * normal + 0.0005, "{} of {normal}", told[1]);
    assert!(told[2].abs() < 0.0005, "{}", told[2]);
}

/// Vectors whose labels are not known yet do not count; the first that is known does.
#[test]
fn a_label_counts_when_it_is_known_and_not_before() {
    const END: usize = 3000;
    const HORIZON: usize = 25;
    let label = Label { horizon: HORIZON as u64, ..rules().label };
    let run = |wild_from: usize| {
        let mut world = World::new(5);
        let mut selector = Selector::new(&Rules { label, ..rules() });
        for t in 1..=END {
            let (mut x, quote, at) = world.step(Some(1));
            if t >= wild_from {
                x.iter_mut().for_each(|x| *x = -*x);
            }
            selector.push(Vector { x: &x, quote, at });
        }
        assert_eq!(selector.selections(), 5);
        let plug_in: Vec<u64> = selector.standings().iter().map(|s| s.relevance.plug_in.to_bits()).collect();
        (plug_in, selector.referee().losses)
    };
    let plain = run(usize::MAX);
    assert_eq!(run(END - HORIZON + 1), plain, "labels of the last {HORIZON} vectors are not known");
    assert_ne!(run(END - HORIZON), plain, "that of the one before is");
}

/// A prefix of history says what it says whatever comes after: changes already told are never told otherwise.
#[test]
fn what_comes_after_changes_nothing() {
    let changes = |until: usize, turn: usize| {
        let mut world = World::new(6);
        let mut selector = Selector::new(&rules());
        let mut told = Vec::new();
        for t in 0..until {
            let (x, quote, at) = world.step(Some(if t < turn { 1 } else { 2 }));
            told.extend(selector.push(Vector { x: &x, quote, at }).iter().map(|c| (at, *c)));
        }
        told
    };
    let (short, long) = (changes(6000, usize::MAX), changes(9000, 6000));
    assert!(short.len() > 3);
    assert_eq!(long[..short.len()], short);
}

/// The draws of the sequences both were run on.
fn draws(seed: u64) -> impl FnMut() -> f64 {
    let mut state = seed;
    move || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
    }
}

fn found(watch: Watch, seed: u64, count: usize, mean: impl Fn(usize) -> f64) -> Vec<usize> {
    let (mut detector, mut draw) = (Detector::new(watch, 1), draws(seed));
    (0..count).filter(|t| detector.push(if draw() < mean(*t) { 1.0 } else { 0.0 })).collect()
}

const ADWIN: Watch = Watch::Adwin { delta: 0.002 };
const PAGE_HINKLEY: Watch = Watch::PageHinkley { tolerance: 0.005, threshold: 50.0 };

/// Errors at a rate of 0.3 that becomes 0.5 after 5,000: where River 0.26.1 (`drift.ADWIN(delta=0.002)`,
/// `drift.PageHinkley(delta=0.005, threshold=50, mode="up")`) finds drift in the same 20 sequences.
#[test]
fn drift_is_found_where_river_finds_it() {
    let adwin = [
        5183, 5215, 5183, 5151, 5183, 5183, 5215, 5247, 5151, 5183, 5215, 5151, 5183, 5279, 5311, 5183, 5215, 5183,
        5183, 5247,
    ];
    let page_hinkley: [&[usize]; 20] = [
        &[5227],
        &[5102, 8273],
        &[5132],
        &[5209],
        &[5134],
        &[5184],
        &[5214],
        &[5226],
        &[3804, 5336],
        &[5284],
        &[5101],
        &[5196, 7269],
        &[3374, 5246],
        &[5345],
        &[5288],
        &[4017, 5251, 7179],
        &[4624, 5364],
        &[5209],
        &[5186],
        &[5299],
    ];
    for seed in 0..20 {
        let rise = |t: usize| if t < 5000 { 0.3 } else { 0.5 };
        assert_eq!(found(ADWIN, seed * 1000 + 1, 10_000, rise), [adwin[seed as usize]], "seed {seed}");
        assert_eq!(found(PAGE_HINKLEY, seed * 1000 + 1, 10_000, rise), page_hinkley[seed as usize], "seed {seed}");
    }
}

#[test]
fn drift_is_a_rise_and_seldom_a_false_alarm() {
    let (mut alarms, mut others) = (0, 0);
    for seed in 0..20 {
        alarms += found(ADWIN, seed * 1000, 20_000, |_| 0.3).len();
        others += found(PAGE_HINKLEY, seed * 1000, 20_000, |_| 0.3).len();
        assert!(found(ADWIN, seed * 1000 + 2, 10_000, |t| if t < 5000 { 0.5 } else { 0.3 }).is_empty(), "a fall");
    }
    // River's alarms in the same sequences: none, and 22.
    assert_eq!((alarms, others), (0, 22), "false alarms of ADWIN and of Page and Hinkley's test in 400,000");
}

/// The operator at work on one worker, with all it stores.
struct Step {
    plan: StepPlan,
    operator: Box<dyn HistoryOperator>,
    state: BTreeMap<Vec<u8>, Vec<u8>>,
    views: Vec<BTreeMap<Row, i64>>,
    written: usize,
    epoch: u64,
}

const WIDE: usize = 40;

fn pipeline(options: &str) -> String {
    let columns: String = (0..WIDE).map(|j| format!(", f{j} = \"float64\"")).collect();
    format!(
        "name = \"p\"\n[sources.a]\ntype = \"file\"\npath = \"x.csv\"\nformat = \"csv\"\nevent_time = \"at\"\n\
         columns = {{ at = \"timestamp\", instrument = \"string\", mid = \"float64\", spread = \"float64\"{columns} }}\n\
         [steps.it]\noperator = \"feature_selection\"\ninput = \"a\"\ninstrument = [\"instrument\"]\n{options}"
    )
}

impl Step {
    fn new(options: &str) -> Step {
        let text = pipeline(options);
        let plan = load(Path::new("p.toml"), &text, &|_| None, &catalogue::all());
        let plan = plan.unwrap_or_else(|problems| panic!("{problems}")).steps.remove(0).plan;
        let views = vec![BTreeMap::new(); plan.outputs.len()];
        Step { operator: Step::start(&plan), plan, state: BTreeMap::new(), views, written: 0, epoch: 0 }
    }

    fn start(plan: &StepPlan) -> Box<dyn HistoryOperator> {
        let StepKind::History(new) = &plan.kind else { panic!("a function of history") };
        new()
    }

    fn restart(&mut self) {
        self.operator = Step::start(&self.plan);
        for (key, value) in &self.state {
            self.operator.restore(&key[2..], value);
        }
    }

    fn epoch(&mut self, events: &RecordBatch) {
        self.epoch += 1;
        let mut context = Context::new(self.epoch, i64::MAX, self.plan.outputs.len());
        if events.num_rows() > 0 {
            self.operator.apply(0, events, &mut context);
        }
        self.operator.advance(&mut context);
        let (outputs, state, faults, _) = context.into_parts();
        assert!(faults.is_empty());
        for (view, deltas) in self.views.iter_mut().zip(outputs) {
            for delta in deltas {
                for i in 0..delta.len() {
                    let row: Row = delta.rows.columns().iter().map(|c| Value::at(c, i)).collect();
                    let count = view.entry(row.clone()).or_insert(0);
                    *count += delta.diff(i);
                    if *count == 0 {
                        view.remove(&row);
                    }
                }
            }
        }
        for write in state.iter() {
            self.written += write.key.len() + write.after.map_or(0, <[u8]>::len);
            match write.after {
                Some(value) => self.state.insert(write.key.to_vec(), value.to_vec()),
                None => self.state.remove(write.key),
            };
        }
    }
}

/// Vectors of two instruments in turn.
fn events(random: &mut Random, from: usize, count: usize) -> RecordBatch {
    let seqs: Vec<i64> = (from..from + count).map(|t| t as i64).collect();
    let floats = |of: &mut dyn FnMut(usize) -> f64| -> ArrayRef {
        Arc::new(Float64Array::from_iter_values((from..from + count).map(of)))
    };
    let mut columns: Vec<ArrayRef> = vec![
        Arc::new(TimestampMicrosecondArray::from_iter_values(seqs.iter().copied()).with_timezone("UTC")),
        Arc::new(StringArray::from_iter_values(seqs.iter().map(|t| if t % 2 == 0 { "x" } else { "y" }))),
        floats(&mut |t| 100.0 + (t / 7 % 5) as f64),
        floats(&mut |_| 1.0),
    ];
    for j in 0..WIDE {
        columns.push(floats(&mut |t| (t / 7 % (j + 2)) as f64 + uniform(random)));
    }
    columns.push(Arc::new(Int64Array::from(seqs)));
    let plan = load(Path::new("p.toml"), &pipeline(""), &|_| None, &catalogue::all());
    let plan = plan.unwrap_or_else(|problems| panic!("{problems}"));
    RecordBatch::try_new(plan.schema("a").expect("it is there").arrow(), columns).expect("columns of the schema")
}

/// Epochs of ten vectors: what is stored is about what came, restarts at any time change nothing, nor do epochs.
#[test]
fn state_costs_what_came_and_restores_exactly() {
    const EPOCH: usize = 10;
    const EPOCHS: usize = 1200;
    const OPTIONS: &str = "warmup_events = 500\nreselect_every_events = 200\nhalf_life_events = 1000\n";
    let mut random = Random::new(3);
    let all = events(&mut random, 0, EPOCH * EPOCHS);
    let (mut plain, mut broken, mut whole) = (Step::new(OPTIONS), Step::new(OPTIONS), Step::new(OPTIONS));
    let mut restart = Random::new(4);
    for epoch in 0..EPOCHS {
        let events = all.slice(epoch * EPOCH, EPOCH);
        plain.epoch(&events);
        if restart.below(40) == 0 {
            broken.restart();
        }
        broken.epoch(&events);
    }
    whole.epoch(&all);
    assert_eq!(plain.views, broken.views);
    assert_eq!(plain.views, whole.views);
    assert_eq!(plain.views[1].len(), 2 * WIDE);
    assert!(!plain.views[0].is_empty() && plain.views[2].len() >= plain.views[0].len());
    let came = EPOCH * EPOCHS * 8 * (WIDE + 3);
    assert!(plain.written < 5 * came / 2, "{} bytes were stored of {came} that came", plain.written);
    let kept: usize = plain.state.values().map(Vec::len).sum();
    assert!(kept < 2 * 2 * 200_000, "{kept} bytes are kept of two instruments");
    // Every entry is under the shard of its instrument.
    for key in plain.state.keys() {
        assert_eq!(key[..2], shard_of(&key[2..key.len() - 9]).to_be_bytes());
    }
}

#[test]
fn mistakes_are_told_all_at_once() {
    let problems = |options: &str| {
        let plan = load(Path::new("p.toml"), &pipeline(options), &|_| None, &catalogue::all());
        plan.err().map_or_else(String::new, |problems| problems.to_string())
    };
    let told = problems(
        "bins = 1\nhorizon_events = 0\nadwin_delta = 0.0\nthreshold = -1.0\nscore = \"sum\"\nprice = \"instrument\"\n",
    );
    for what in ["bins", "horizon_events", "adwin_delta", "threshold", "score", "must have float64"] {
        assert!(told.contains(what), "{what} is not in\n{told}");
    }
    // What says nothing is refused too.
    assert!(problems("page_hinkley_threshold = 3.0\n").contains("page_hinkley_threshold"));
    assert!(problems("features = [\"instrument\"]").contains("is no feature"));
    assert!(problems("spread = \"nothing\"").contains("nothing"));
    assert_eq!(problems("drift = \"none\"\nfeatures = [\"f1\", \"mid\"]"), "");
}
