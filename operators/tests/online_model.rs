//! The promises of the `online_model` step: nothing is lost or poisoned by bad rows, a restart changes no byte, state
//! costs what changes, a warm start goes on where training ended.

#[allow(dead_code, reason = "only the random numbers are wanted of it")]
mod harness;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use engine::catalogue::Row;
use engine::operator::{Context, HistoryOperator, StepKind};
use engine::plan::StepPlan;
use harness::Random;
use operators::online_model::design::{Design, Pruning};
use operators::online_model::labels::{Quote, Rule, Unit};
use operators::online_model::learner::{Learner, MODELS};
use operators::online_model::warm::{Recorded, train};
use types::{Column, Delta, RowCodec, SEQ, Schema, Type, Value};

const VECTORS: [(&str, Type); 7] = [
    ("at", Type::Timestamp),
    ("symbol", Type::String),
    ("mid", Type::Float64),
    ("spread", Type::Float64),
    ("f", Type::Float64),
    ("g", Type::Float64),
    ("h", Type::Float64),
];
const CHANGES: [(&str, Type); 5] = [
    ("at", Type::Timestamp),
    ("symbol", Type::String),
    ("feature", Type::String),
    ("entered", Type::Bool),
    ("selection", Type::Int64),
];

fn schema(columns: &[(&str, Type)]) -> Schema {
    let mut columns: Vec<Column> =
        columns.iter().map(|(name, ty)| Column { name: (*name).to_owned(), ty: *ty, nullable: true }).collect();
    columns.push(Column { name: SEQ.to_owned(), ty: Type::Int64, nullable: false });
    Schema { key: vec![columns.len() - 1], columns, event_time: Some(0), append_only: true }
}

/// The plan of a step over `vectors`, and `changes` if the options name them; or what is wrong with it.
fn planned(options: &str) -> Result<StepPlan, String> {
    let source = |name: &str, columns: &[(&str, Type)]| {
        let listed: Vec<String> = columns.iter().map(|(name, ty)| format!("{name} = \"{ty}\"")).collect();
        format!(
            "[sources.{name}]\ntype = \"file\"\npath = \"x.csv\"\nformat = \"csv\"\nevent_time = \"at\"\ncolumns = {{ {} }}\n",
            listed.join(", ")
        )
    };
    let text = format!(
        "name = \"p\"\n{}{}[steps.it]\noperator = \"online_model\"\ninput = \"vectors\"\n{options}",
        source("vectors", &VECTORS),
        source("changes", &CHANGES)
    );
    match engine::pipeline::load(Path::new("p.toml"), &text, &|_| None, &catalogue::all()) {
        Ok(mut plan) => Ok(plan.steps.remove(0).plan),
        Err(problems) => Err(problems.to_string()),
    }
}

/// A step at work, with the sums of its views and its stored state.
struct Step {
    plan: StepPlan,
    operator: Box<dyn HistoryOperator>,
    views: Vec<BTreeMap<Row, i64>>,
    state: BTreeMap<Vec<u8>, Vec<u8>>,
    /// The keys and lengths written in the last epoch.
    written: Vec<(Vec<u8>, usize)>,
    epoch: u64,
}

impl Step {
    fn new(options: &str) -> Step {
        let plan = planned(options).unwrap_or_else(|problems| panic!("{problems}\n{options}"));
        let StepKind::History(new) = &plan.kind else { panic!("a function of history") };
        let (operator, views) = (new(), vec![BTreeMap::new(); plan.outputs.len()]);
        Step { plan, operator, views, state: BTreeMap::new(), written: Vec::new(), epoch: 0 }
    }

    /// An epoch: events by input, in order. Gives the reasons of faults.
    fn epoch(&mut self, events: &[(usize, Vec<Row>)]) -> Vec<String> {
        self.epoch += 1;
        let mut context = Context::new(self.epoch, 0, self.views.len());
        let shapes: &[&[(&str, Type)]] = if self.plan.inputs.len() == 2 { &[&CHANGES, &VECTORS] } else { &[&VECTORS] };
        for (input, rows) in events {
            let batch = RowCodec::new(&schema(shapes[*input])).batch(rows);
            self.operator.apply(*input, &batch, &mut context);
        }
        self.operator.advance(&mut context);
        let (outputs, state, faults, _) = context.into_parts();
        for (view, deltas) in self.views.iter_mut().zip(outputs) {
            for delta in deltas {
                add(view, &delta);
            }
        }
        self.written.clear();
        for change in state.iter() {
            let value = change.after.expect("nothing is deleted");
            self.written.push((change.key.to_vec(), value.len()));
            self.state.insert(change.key.to_vec(), value.to_vec());
        }
        faults
            .into_iter()
            .map(|(fault, diff)| {
                assert_eq!(diff, 1);
                fault.reason
            })
            .collect()
    }

    fn restart(&mut self) {
        let StepKind::History(new) = &self.plan.kind else { panic!("a function of history") };
        self.operator = new();
        for (key, value) in self.state.iter().rev() {
            self.operator.restore(&key[2..], value);
        }
    }

    fn view(&self, suffix: &str) -> Vec<BTreeMap<String, Value>> {
        let at = self.plan.outputs.iter().position(|o| o.suffix.unwrap_or("") == suffix).expect("a view of that name");
        assert!(self.views[at].values().all(|count| *count == 1));
        let columns = &self.plan.outputs[at].schema.columns;
        let named = |row: &Row| columns.iter().map(|c| c.name.clone()).zip(row.iter().cloned()).collect();
        self.views[at].keys().map(named).collect()
    }
}

fn add(view: &mut BTreeMap<Row, i64>, delta: &Delta) {
    for row in 0..delta.len() {
        let cells: Row = delta.rows.columns().iter().map(|c| Value::at(c, row)).collect();
        *view.entry(cells).or_insert(0) += delta.diff(row);
    }
    view.retain(|_, sum| *sum != 0);
}

fn number(value: &Value) -> f64 {
    match value {
        Value::Float(f) => *f,
        Value::Int(i) => *i as f64,
        other => panic!("{other:?} is no number"),
    }
}

/// Vectors of two symbols whose price follows the product of the signs of `f` two vectors apart.
fn market(vectors: usize, seed: u64) -> Vec<Row> {
    let mut random = Random::new(seed);
    let sign = |random: &mut Random| random.of(&[-1.0, 1.0]);
    let mut past: BTreeMap<&str, (Vec<f64>, f64)> = BTreeMap::new();
    (0..vectors)
        .map(|n| {
            let symbol = random.of(&["a", "a", "b"]);
            let (signs, price) = past.entry(symbol).or_insert((Vec::new(), 100.0));
            let mid = *price;
            signs.push(sign(&mut random));
            let k = signs.len();
            *price += if k < 3 { 0.0 } else { 0.01 * signs[k - 1] * signs[k - 3] };
            let float = |f: f64| Value::Float(f);
            let (g, h) = (sign(&mut random), random.below(1000) as f64);
            vec![
                Value::Time(n as i64 * 1000),
                Value::Str(symbol.to_owned()),
                float(mid),
                float(0.01),
                float(signs[k - 1]),
                float(g),
                if k % 7 == 0 { Value::Null } else { float(h) },
                Value::Int(n as i64),
            ]
        })
        .collect()
}

const BY_SYMBOL: &str = "instrument = \"symbol\"\nhorizons = [1, 4]\nwindow = 8\nbatch = 16\ntrain_every = 16\n\
     prune_after = 20\nprune_until = 60\nprune_every = 4\nlearning_rate = 0.01\n";

fn change(n: i64, symbol: &str, feature: &str, entered: bool, selection: i64) -> Row {
    vec![
        Value::Time(n * 1000),
        Value::Str(symbol.to_owned()),
        Value::Str(feature.to_owned()),
        Value::Bool(entered),
        Value::Int(selection),
        Value::Int(selection * 10 + feature.len() as i64 + i64::from(feature.as_bytes()[0])),
    ]
}

/// A market in epochs, with selections that come and go.
fn epochs(vectors: usize, every: usize) -> Vec<Vec<(usize, Vec<Row>)>> {
    let market = market(vectors, 4);
    market
        .chunks(every)
        .enumerate()
        .map(|(e, rows)| {
            let n = (e * every) as i64;
            let select = |feature, entered| (0, vec![change(n, "a", feature, entered, e as i64 + 1)]);
            let mut events = match e % 10 {
                0 if e == 0 => vec![select("f", true), select("g", true)],
                3 => vec![select("g", false), select("h", true)],
                7 => vec![select("h", false), select("g", true)],
                _ => Vec::new(),
            };
            events.push((1, rows.to_vec()));
            events
        })
        .collect()
}

#[test]
fn a_restart_changes_no_byte() {
    let options = format!("{BY_SYMBOL}changes_input = \"changes\"\nslots = 2\n");
    let epochs = epochs(4000, 61);
    let (mut steady, mut crashed) = (Step::new(&options), Step::new(&options));
    for (n, epoch) in epochs.iter().enumerate() {
        assert!(steady.epoch(epoch).is_empty());
        if n % 3 == 2 {
            crashed.restart();
        }
        assert!(crashed.epoch(epoch).is_empty());
        assert!(steady.views == crashed.views && steady.state == crashed.state, "epoch {n}");
    }
    // All of it in one epoch, too: how events are cut does not matter.
    let mut whole = Step::new(&options);
    whole.epoch(&epochs.into_iter().flatten().collect::<Vec<_>>());
    assert!(whole.views == steady.views, "another cut gives other views");
    let network = steady.view("network");
    assert_eq!(network.len(), 2);
    for row in &network {
        assert!(number(&row["steps"]) > 60.0 && number(&row["refused_steps"]) == 0.0, "{row:?}");
        assert!(number(&row["nonzero"]) < 0.7 * number(&row["parameters"]), "{row:?}");
    }
    let stability = steady.view("stability");
    assert!(number(&stability[0]["selections"]) > 10.0, "{stability:?}");
    // f stays, one of the other two goes and the other comes: one of three.
    assert_eq!(number(&stability[0]["jaccard_last"]), 1.0 / 3.0);
    assert_eq!(stability[1]["jaccard_mean"], Value::Null);
}

#[test]
fn what_is_learned_shows_in_the_evaluation() {
    let mut step = Step::new(BY_SYMBOL);
    for rows in market(40_000, 5).chunks(500) {
        step.epoch(&[(0, rows.to_vec())]);
    }
    for row in step.view("evaluation") {
        let (model, horizon) = (format!("{:?}", row["model"]), number(&row["horizon"]));
        let accuracy = number(&row["accuracy"]);
        println!("{model} {horizon}: accuracy {accuracy}, f1 {:?}, mcc {:?}", row["f1_macro"], row["mcc"]);
        if horizon == 1.0 {
            let is_network = model.contains("network");
            assert!(if is_network { accuracy > 0.85 } else { (accuracy - 0.5).abs() < 0.02 }, "{row:?}");
        }
        let cells = row.iter().filter(|(name, _)| name.contains("_as_")).map(|(_, n)| number(n)).sum::<f64>();
        assert_eq!(cells, number(&row["n"]));
        assert_eq!(row["log_loss"] == Value::Null, !model.contains("network") && !model.contains("logistic"));
    }
    assert_eq!(step.view("evaluation").len(), 2 * 2 * 4);
    for row in step.view("") {
        let sum = number(&row["p_up"]) + number(&row["p_flat"]) + number(&row["p_down"]);
        assert!((sum - 1.0).abs() < 1e-6);
    }
    // A row of the stream for every vector but the first of each symbol, and horizon: 8 + 2 · (1 + 2) − 1 of them.
    assert_eq!(step.view("predictions").len(), 2 * (40_000 - 2 * 13));
}

#[test]
fn bad_rows_are_faults_and_leave_no_trace() {
    let options = format!("{BY_SYMBOL}changes_input = \"changes\"\nslots = 3\n");
    let (mut clean, mut dirty) = (Step::new(&options), Step::new(&options));
    let enter = || (0, ["f", "g", "h"].map(|f| change(0, "a", f, true, 1)).to_vec());
    let bad_change = |cells: &[(usize, Value)]| {
        let mut row = change(0, "a", "f", false, 2);
        cells.iter().for_each(|(at, value)| row[*at] = value.clone());
        row
    };
    let changes = vec![
        bad_change(&[(2, Value::Str("mid".into()))]),
        bad_change(&[(2, Value::Null)]),
        bad_change(&[(3, Value::Null)]),
        bad_change(&[(4, Value::Null)]),
    ];
    clean.epoch(&[enter()]);
    let reasons = dirty.epoch(&[enter(), (0, changes)]);
    assert_eq!(reasons, ["unknown_feature", "null_change", "null_change", "null_change"]);
    let bad: Vec<(&str, usize, Value)> = vec![
        ("bad_price", 2, Value::Null),
        ("bad_price", 2, Value::Float(0.0)),
        ("bad_price", 2, Value::Float(-3.0)),
        ("bad_price", 2, Value::Float(f64::NAN)),
        ("bad_price", 2, Value::Float(f64::INFINITY)),
        ("bad_spread", 3, Value::Null),
        ("bad_spread", 3, Value::Float(-0.01)),
        ("bad_spread", 3, Value::Float(1e300)),
        ("bad_feature", 4, Value::Float(f64::NAN)),
        ("bad_feature", 5, Value::Float(f64::NEG_INFINITY)),
        ("bad_feature", 6, Value::Float(-1e300)),
        ("time_backwards", 0, Value::Time(-5)),
    ];
    for (n, rows) in market(1500, 6).chunks(50).enumerate() {
        let (reason, column, value) = bad[n % bad.len()].clone();
        let mut wrong = rows[10].clone();
        wrong[column] = value;
        if column == 0 && n == 0 {
            continue;
        }
        let with: Vec<Row> = [&rows[..11], &[wrong], &rows[11..]].concat();
        assert!(clean.epoch(&[(1, rows.to_vec())]).is_empty());
        assert_eq!(dirty.epoch(&[(1, with)]), [reason]);
        assert!(clean.views == dirty.views, "a row that was refused left a trace: {reason}");
    }
    assert!(clean.state == dirty.state);
}

#[test]
fn extremes_leave_weights_finite() {
    let mut step = Step::new("horizons = [1, 2]\nwindow = 4\nbatch = 4\ntrain_every = 2\nlearning_rate = 1.0\n");
    let mut random = Random::new(9);
    let rows: Vec<Row> = (0..3000)
        .map(|n| {
            let mut cell = || random.of(&[1e15, -1e15, 1e-300, 0.0, f64::MIN_POSITIVE, 1.0, -1e8]);
            let features = [cell(), cell(), cell()].map(Value::Float);
            let (price, spread) = (random.of(&[1e15, 1e-15, 1.0]), random.of(&[0.0, 1e15, 1e-300]));
            let mut row = vec![Value::Time(n), Value::Null, Value::Float(price), Value::Float(spread)];
            row.extend(features);
            row.push(Value::Int(n));
            row
        })
        .collect();
    assert!(step.epoch(&[(0, rows)]).is_empty());
    let network = &step.view("network")[0];
    assert!(number(&network["steps"]) > 1400.0, "{network:?}");
    for row in step.view("predictions") {
        for p in ["p_up", "p_flat", "p_down", "logistic_p_up", "logistic_p_flat", "logistic_p_down"] {
            assert!((0.0..=1.0).contains(&number(&row[p])), "{row:?}");
        }
    }
    for row in step.view("evaluation") {
        assert!(row.values().all(|v| !matches!(v, Value::Float(f) if !f.is_finite())), "{row:?}");
    }
}

#[test]
fn state_is_written_as_far_as_it_changed() {
    let mut step = Step::new("horizons = [10, 20, 50, 100]\n");
    let mut rows = market(2000, 7);
    rows.iter_mut().for_each(|row| row[1] = Value::Null);
    let mut trained = 0;
    for (n, rows) in rows.chunks(10).enumerate() {
        step.epoch(&[(0, rows.to_vec())]);
        let of = |tag: u8| -> Vec<usize> { step.written.iter().filter(|(k, _)| k[2] == tag).map(|w| w.1).collect() };
        let (core, weights, past) = (of(b'c'), of(b'w'), of(b'p'));
        assert_eq!(core.len(), 1);
        assert!(core[0] < 6_000 && past.iter().all(|len| *len < 9_000), "core {core:?}, past {past:?}");
        // Ten vectors stand in a chunk of 32 or in two.
        assert!(past.len() == if (n * 10) / 32 == (n * 10 + 9) / 32 { 1 } else { 2 }, "{past:?}");
        trained += weights.len();
    }
    // Parameters are written when they are new, then with every step: one in 64 vectors.
    let steps = number(&step.view("network")[0]["steps"]);
    assert_eq!(trained as f64, steps + 1.0);
}

fn design() -> Design {
    Design {
        features: 3,
        slots: 3,
        filters: 2,
        is_selected: false,
        horizons: vec![1, 4],
        rule: Rule { threshold: 1.0, unit: Unit::HalfSpreads },
        window: 8,
        kernel: 3,
        dilation: 2,
        channels: 16,
        blocks: 2,
        half_life: 20_000.0,
        batch: 16,
        train_every: 16,
        learning_rate: 0.01,
        clip: 1.0,
        pruning: Pruning { sparsity: 0.7, after: 20, until: 60, every: 4, regrow: 0.05 },
        trade_probability: 0.5,
        seed: 0,
    }
}

#[test]
fn a_warm_start_goes_on_where_training_ended() {
    let rows: Vec<Row> = market(60_000, 8).into_iter().filter(|r| r[1] == Value::Str("a".into())).collect();
    let (history, live) = rows.split_at(rows.len() * 3 / 4);
    let recorded = history.iter().map(|row| Recorded {
        features: row[4..7].iter().map(|v| if *v == Value::Null { f64::NAN } else { number(v) }).collect(),
        quote: Quote { price: number(&row[2]), spread: number(&row[3]) },
        changes: Vec::new(),
    });
    let names = ["f", "g", "h"].map(str::to_owned);
    let bytes = train(&design(), &names, recorded);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.bin");
    std::fs::write(&path, &bytes).unwrap();
    let option = format!("{BY_SYMBOL}warm_start = \"{}\"\n", path.display());
    let run = |options: &str, crashes: bool| {
        let mut step = Step::new(options);
        for (n, rows) in live[..2000].chunks(100).enumerate() {
            step.epoch(&[(0, rows.to_vec())]);
            if crashes && n % 4 == 1 {
                step.restart();
            }
        }
        step
    };
    let accuracy = |step: &Step| {
        let row = |row: &BTreeMap<String, Value>| {
            row["model"] == Value::Str("network".into()) && row["horizon"] == Value::Int(1)
        };
        number(&step.view("evaluation").iter().find(|r| row(r)).expect("a row")["accuracy"])
    };
    let (warm, cold) = (run(&option, false), run(BY_SYMBOL, false));
    println!("2000 vectors: accuracy {} warm, {} cold", accuracy(&warm), accuracy(&cold));
    assert!(accuracy(&warm) > 0.98 && accuracy(&cold) < 0.9);
    assert!(run(&option, true).views == warm.views, "a crash after a warm start");
    let details = [&warm, &cold].map(|step| step.plan.detail.clone());
    assert!(details[0].starts_with(&details[1]) && details[0].contains("warm start"), "{details:?}");

    let told = |bytes: &[u8], options: &str, expected: &str| {
        std::fs::write(&path, bytes).unwrap();
        let told = planned(&options.replace(BY_SYMBOL, &format!("{BY_SYMBOL}\n"))).map(|_| ()).unwrap_err();
        assert!(told.contains(expected), "{told}");
    };
    told(b"", &option, "no artefact");
    told(&bytes[..bytes.len() / 2], &option, "damaged");
    for at in [20, 300, bytes.len() / 2, bytes.len() - 1] {
        let mut broken = bytes.clone();
        broken[at] ^= 4;
        told(&broken, &option, "damaged");
    }
    let mut newer = bytes.clone();
    newer[8] = 2;
    told(&newer, &option, "has version 2");
    told(&bytes, &format!("{option}channels = 8\n"), "of another model");
    told(&bytes, &format!("{option}features = [\"f\", \"h\", \"g\"]\n"), "of another model");
    std::fs::remove_file(&path).unwrap();
    assert!(planned(&option).unwrap_err().contains("cannot be read"));
}

/// AMZN of 2012-06-21, level 1, as vectors of twelve features (LOBSTER's sample; order flow imbalance of Cont, Kukanov
/// and Stoikov 2014).
fn amzn(text: &str) -> Vec<([f64; 12], Quote)> {
    let rows = text.lines().skip(1).map(|line| -> Vec<f64> { line.split(',').map(|c| c.parse().unwrap()).collect() });
    let (mut before, mut mids): (Option<[f64; 4]>, Vec<f64>) = (None, Vec::new());
    let (mut fast, mut slow, mut sign, mut last) = (0.0, 0.0, 0.0, f64::NAN);
    rows.map(|r| {
        let (ask, ask_size, bid, bid_size) = (r[6] / 1e4, r[7], r[8] / 1e4, r[9]);
        let mid = 0.5 * (ask + bid);
        let flow = before.map_or(0.0, |[a, a_size, b, b_size]| {
            let bought = if bid >= b { bid_size } else { 0.0 } - if bid <= b { b_size } else { 0.0 };
            let sold = if ask <= a { ask_size } else { 0.0 } - if ask >= a { a_size } else { 0.0 };
            bought - sold
        });
        (fast, slow) = (0.8 * fast + flow, 0.97 * slow + flow);
        sign = if r[1] == 4.0 || r[1] == 5.0 { 0.9 * sign - r[5] } else { 0.98 * sign };
        let past = |k: usize| if mids.len() >= k { mid / mids[mids.len() - k] - 1.0 } else { f64::NAN };
        let micro = (ask * bid_size + bid * ask_size) / (ask_size + bid_size);
        let kind = if r[1] == 1.0 {
            r[5]
        } else if r[1] == 3.0 {
            -r[5]
        } else {
            0.0
        };
        let waited = if last.is_nan() { 0.0 } else { libm::log1p(r[0] - last) };
        let features = [
            (bid_size - ask_size) / (bid_size + ask_size),
            micro - mid,
            flow,
            fast,
            slow,
            sign,
            ask - bid,
            past(1),
            past(5),
            past(20),
            waited,
            kind,
        ];
        (before, last) = (Some([ask, ask_size, bid, bid_size]), r[0]);
        mids.push(mid);
        (features, Quote { price: mid, spread: ask - bid })
    })
    .collect()
}

#[test]
fn on_a_recorded_day_the_network_keeps_up_with_its_control() {
    let Some(data) = testkit::recorded_data() else { return };
    let file = std::fs::File::open(data.join("market/lobster_amzn_2012-06-21_L1.csv.zst")).unwrap();
    let text = String::from_utf8(zstd::decode_all(file).unwrap()).unwrap();
    let pruning = Pruning { sparsity: 0.7, after: 2000, until: 3000, every: 50, regrow: 0.05 };
    let design = Design {
        features: 12,
        slots: 12,
        horizons: vec![10, 20, 50, 100],
        window: 64,
        batch: 64,
        train_every: 16,
        learning_rate: 0.003,
        pruning,
        seed: 1,
        ..design()
    };
    let mut learner = Learner::new(&Arc::new(design));
    for (features, quote) in amzn(&text) {
        learner.vector(&features, quote);
    }
    assert!(learner.steps > 3500 && learner.refused == 0);
    for (horizon, scores) in learner.design.horizons.iter().zip(&learner.scores) {
        for (model, score) in MODELS.iter().zip(scores) {
            println!(
                "{horizon:4} {model:11} accuracy {:.4} macro-F1 {:.4} MCC {:.4} log-loss {:.4} ECE {:.4} trades {} earning {:.2e}",
                score.accuracy(),
                score.f1_macro(),
                score.mcc(),
                score.log_loss(),
                score.ece(),
                score.trades,
                score.earned / score.trades as f64
            );
        }
        let [network, logistic, ..] = scores;
        assert!(network.count() > 57_000);
        assert!(network.f1_macro() > logistic.f1_macro() - 0.005 && network.mcc() > 0.1, "horizon {horizon}");
    }
}

#[test]
fn mistakes_are_told_at_once() {
    let check = |options: &str, expected: &[&str]| {
        let told = planned(options).map(|_| ()).unwrap_err();
        for part in expected {
            assert!(told.contains(part), "{part} is not told: {told}");
        }
    };
    check(
        "horizons = [5, 5]\nchannels = 6\nprune_after = 9\nprune_until = 8\nprice = \"md\"\nsparsity = 1.5\nkernal = 3",
        &["ascending", "multiple of 4", "the other way", "did you mean `mid`?", "`sparsity` must be", "kernal"],
    );
    check("horizons = [0, \"x\"]", &["between 1 and", "a list of integers"]);
    check("horizons = []", &["from 1 to 16"]);
    check("slots = 2", &["without `changes_input`"]);
    check("changes_input = \"changes\"\nslots = 4", &["there are 3 features"]);
    check("changes_input = \"vectors\"\nslots = 2", &["no column `feature`", "`entered`", "`selection`"]);
    check("features = [\"symbol\"]", &["must have float64 or int64"]);
    check("dilation = 64\nblocks = 4", &["too large"]);
    check("threshold_unit = \"ticks\"", &["`threshold_unit` cannot be `ticks`"]);
    assert!(planned("changes_input = \"changes\"\nslots = 2\ninstrument = \"symbol\"").is_ok());
}
