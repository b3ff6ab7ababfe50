//! What `td_value` learns: the solution of small processes; lazily what it would eagerly; and what it refuses to load.

use std::path::Path;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Float64Array, Int64Array, RecordBatch, TimestampMicrosecondArray};
use arrow::datatypes::Float64Type;
use engine::operator::{Context, StepKind};
use operators::dispatch::offline::{Offline, Recorded};
use operators::dispatch::tiles::{Cells, Coding};
use operators::dispatch::value::{Anchor, Change, StepSize, Transition, Value};
use operators::td_value::Grid;
use operators::td_value::artefact::Artefact;
use operators::td_value::train::{Record, Trainer, Training};

const PIPELINE: &str = "name = \"p\"\n[sources.a]\ntype = \"file\"\npath = \"x.csv\"\nformat = \"csv\"\n\
     columns = { at = \"timestamp\", s = \"int64\", next = \"int64\", r = \"float64\", secs = \"float64\" }\n\
     event_time = \"at\"\n[steps.v]\noperator = \"td_value\"\ninput = \"a\"\nstate = \"s\"\nnext_state = \"next\"\n\
     reward = \"r\"\nduration = \"secs\"\ngamma = 0.9\n";

fn load(options: &str) -> Result<engine::Plan, String> {
    load_from(PIPELINE, options)
}

fn load_from(head: &str, options: &str) -> Result<engine::Plan, String> {
    let text = format!("{head}{options}");
    engine::pipeline::load(Path::new("p.toml"), &text, &|_| None, &catalogue::all()).map_err(|e| e.to_string())
}

struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % n
    }
}

/// A ring of five states: on to the next in a second, or to the one after in two, with equal chance; leaving state s pays
/// s. From state 4 one time in four it ends instead.
#[test]
fn td_converges_to_the_solution_of_dynamic_programming() {
    let gamma = 0.9f64;
    let mut solution = [0.0f64; 5];
    for _ in 0..2_000 {
        for s in 0..5 {
            let on = 0.5 * gamma * solution[(s + 1) % 5] + 0.5 * gamma * gamma * solution[(s + 2) % 5];
            solution[s] = s as f64 + if s == 4 { 0.75 * on } else { on };
        }
    }
    let plan = load("alpha = 1\nalpha_power = 0.7\n").unwrap();
    let StepKind::History(new) = &plan.steps[0].plan.kind else { panic!("a function of history") };
    let mut step = new();
    let mut random = Random(7);
    let mut s = 0;
    let mut values = [f64::NAN; 5];
    for epoch in 0..400i64 {
        let mut rows: Vec<(i64, Option<i64>, f64)> = Vec::new();
        for _ in 0..1_000 {
            let ends = s == 4 && random.below(4) == 0;
            let hop = 1 + random.below(2) as i64;
            let next = (s + hop) % 5;
            rows.push((s, (!ends).then_some(next), hop as f64));
            s = if ends { 0 } else { next };
        }
        let n = rows.len() as i64;
        let seqs: ArrayRef = Arc::new(Int64Array::from_iter_values(epoch * n..(epoch + 1) * n));
        let times = TimestampMicrosecondArray::from_iter_values(epoch * n..(epoch + 1) * n).with_timezone("UTC");
        let columns: [(&str, ArrayRef); 6] = [
            ("at", Arc::new(times)),
            ("s", Arc::new(Int64Array::from_iter_values(rows.iter().map(|r| r.0)))),
            ("next", Arc::new(rows.iter().map(|r| r.1).collect::<Int64Array>())),
            ("r", Arc::new(Float64Array::from_iter_values(rows.iter().map(|r| r.0 as f64)))),
            ("secs", Arc::new(Float64Array::from_iter_values(rows.iter().map(|r| r.2)))),
            (types::SEQ, seqs),
        ];
        let mut context = Context::new(epoch as u64 + 1, 0, 1);
        step.apply(0, &RecordBatch::try_from_iter(columns).unwrap(), &mut context);
        let (outputs, _, faults, _) = context.into_parts();
        assert!(faults.is_empty());
        let now = &outputs[0].last().unwrap().rows;
        let states = now.column(0).as_primitive::<arrow::datatypes::Int64Type>();
        for row in 0..now.num_rows() {
            values[states.value(row) as usize] = now.column(1).as_primitive::<Float64Type>().value(row);
        }
    }
    for (value, solution) in values.iter().zip(solution) {
        assert!((value - solution).abs() < 0.01 * solution, "{values:?} is not {solution:?}");
    }
}

/// Change points cost nothing until a cell is read, and come out as if every cell had moved at each, to the last bit.
#[test]
fn a_lazy_ensemble_equals_an_eager_one() {
    let coding = Coding::Tiles { size: 1.0 };
    let mut random = Random(3);
    let mut cells = Cells::new(coding);
    let mut place = |random: &mut Random| {
        let (x, y) = (random.below(60) as f64 / 10.0, random.below(60) as f64 / 10.0);
        cells.place((x as u64) * 10 + y as u64, x, y).unwrap()
    };
    let mut history = Vec::new();
    for _ in 0..3_000 {
        let (from, to) = (place(&mut random), place(&mut random));
        let slot = random.below(6) as u32;
        let reward = random.below(100) as f64 / 7.0;
        history.push(Recorded { from, slot, reward, discount: 0.9, to: Some((to, slot + random.below(2) as u32)) });
    }
    let moves: Vec<_> = history.iter().map(|r| (r.from, r.to.unwrap().0, r.reward)).collect();
    history.iter_mut().for_each(|r| r.to = r.to.filter(|(_, slot)| *slot < 6));
    let count = cells.len();
    let offline = Arc::new(Offline::learn(coding, count, 6, &history));
    let new = || {
        let mut value = Value::new(coding, StepSize::Constant(0.025), 2.0);
        value.set_offline(offline.clone());
        value.grow(count);
        value
    };
    let (mut lazy, mut eager) = (new(), new());
    for (i, (from, to, reward)) in moves.into_iter().enumerate() {
        if i % 37 == 5 {
            let anchor = if i % 3 == 0 { Anchor::Constant(2.0) } else { Anchor::Offline((i % 6) as u32) };
            let change = Change { keep: 0.2, anchor };
            lazy.change(change);
            eager.change(change);
            // Every cell is read, and written back as one that has been through all change points.
            let now = (0..count).map(|cell| {
                let visits = eager.cells()[cell].visits;
                let version = eager.changes().len() as u32;
                operators::dispatch::value::Cell { value: eager.current(cell as u32), visits, version }
            });
            let now: Vec<_> = now.collect();
            let changes = eager.changes().to_vec();
            eager.restore(now, changes);
        }
        let t = Transition { from, to: Some(to), reward, discount: 0.95 };
        assert_eq!(lazy.learn(&t), eager.learn(&t));
    }
    for cell in 0..count as u32 {
        assert_eq!(lazy.current(cell).to_bits(), eager.current(cell).to_bits());
    }
}

fn trained(training: Training) -> Artefact {
    let mut trainer = Trainer::new(training);
    let mut record = |at: i64, from: &str, to: Option<&str>, reward, secs| {
        let record = Record {
            at,
            from: from.to_owned(),
            to: to.map(str::to_owned),
            places: [(0.0, 0.0), (1.0, 1.0)],
            reward,
            secs,
            counted_secs: secs,
        };
        trainer.record(&record)
    };
    let hour = 3_600_000_000;
    record(23 * hour, "b", None, 10.0, 60.0).unwrap();
    record(22 * hour, "a", Some("b"), 3.0, 3_600.0).unwrap();
    record(22 * hour, "a", Some("b"), 5.0, 3_600.0).unwrap();
    assert_eq!(record(0, "a", None, f64::NAN, 1.0), Err("bad_reward"));
    assert_eq!(record(0, "a", None, 1.0, -1.0), Err("bad_duration"));
    trainer.learn()
}

/// Two hexagons of one parent: what is learned in one counts for the other as far as the parent is known.
#[test]
fn an_offline_function_of_hexagons_is_what_the_history_says() {
    let mut trainer = Trainer::new(Training { grid: Grid::h3(&[7, 5]), ..TRAINING });
    let hour = 3_600_000_000;
    let (here, there, nowhere) = ((37.3615593, -122.0553238), (37.345, -121.976), (91.0, 0.0));
    let record = |at: i64, from, to: Option<&str>, reward| Record {
        at: at * hour,
        from: String::new(),
        to: to.map(str::to_owned),
        places: [from, there],
        reward,
        secs: 60.0,
        counted_secs: 0.0,
    };
    trainer.record(&record(20, here, None, 10.0)).unwrap();
    trainer.record(&record(20, there, None, 20.0)).unwrap();
    trainer.record(&record(19, here, Some(""), 1.0)).unwrap();
    assert_eq!(trainer.record(&record(19, nowhere, None, 1.0)), Err("bad_place"));
    let artefact = trainer.learn();
    assert!(artefact.fits.starts_with("h3 cells of 7, 5"), "{}", artefact.fits);
    let value = |at: i64, name: &str| artefact.value(at * hour, artefact.cell(name).unwrap());
    assert_eq!((value(20, "87283472bffffff"), value(20, "85283473fffffff")), (Some(10.0), Some(15.0)));
    // It ends in the same hour, where nothing else is known: four sweeps of 1 + V of the parent alone.
    assert_eq!(value(19, "85283473fffffff"), Some(4.0));
}

/// Waiting that ends in the slot in which it began: more sweeps come nearer to the fixed point, 10 / (1 − 0.8).
#[test]
fn sweeps_come_near_the_fixed_point_of_a_slot() {
    let learned = |sweeps| {
        let mut trainer = Trainer::new(Training { gamma: 0.8, sweeps, ..TRAINING });
        let (from, to, places) = ("a".to_owned(), Some("a".to_owned()), [(0.0, 0.0); 2]);
        // No time passes, but it counts as an hour.
        trainer.record(&Record { at: 0, from, to, places, reward: 10.0, secs: 0.0, counted_secs: 3_600.0 }).unwrap();
        trainer.learn().values[0]
    };
    assert!((learned(1) - 10.0).abs() < 1e-9);
    assert!((learned(4) - 50.0 * (1.0 - 0.8f64.powi(4))).abs() < 1e-9);
    assert!((learned(100) - 50.0).abs() < 1e-6);
}

const TRAINING: Training =
    Training { grid: None, gamma: 0.9, unit_secs: 3_600.0, slot_secs: 3_600, offset: 0, spread: false, sweeps: 4 };

#[test]
fn an_offline_function_is_what_the_history_says() {
    let artefact = trained(TRAINING);
    let value = |hour: i64, name: &str| artefact.value(hour * 3_600_000_000, artefact.cell(name).unwrap());
    assert_eq!((value(23, "b"), value(22, "a"), value(22, "b")), (Some(10.0), Some(13.0), None));
    assert_eq!(Artefact::parse(&artefact.bytes()).unwrap().bytes(), artefact.bytes());
    let tiled = trained(Training { grid: Some(Grid::Tiles(0.5)), ..TRAINING });
    assert!(tiled.names.iter().any(|n| n == "~0,0") && tiled.names.len() > 4);
}

#[test]
fn an_offline_function_that_does_not_fit_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("values");
    let options = format!(
        "alpha = 0.1\nduration_unit_secs = 3600\noffline = {:?}\nchange_points = [{{ times = \"00:00\", keep = 0.2, to = \
         \"offline\" }}]\n",
        path.display().to_string()
    );
    assert!(load(&options).unwrap_err().contains("cannot be read"));
    let whole = trained(TRAINING).bytes();
    std::fs::write(&path, &whole).unwrap();
    let first = load(&options).unwrap();
    assert_ne!(first.fingerprint(), load("alpha = 0.1\nduration_unit_secs = 3600\n").unwrap().fingerprint());
    std::fs::write(&path, &whole[..whole.len() - 3]).unwrap();
    assert!(load(&options).unwrap_err().contains("damaged"));
    std::fs::write(&path, trained(Training { gamma: 0.8, ..TRAINING }).bytes()).unwrap();
    assert!(load(&options).unwrap_err().contains("this step has cells by key, gamma 0.9 a 3600 s"));
    let mut other = trained(TRAINING);
    other.values[0] = 77.0;
    std::fs::write(&path, other.bytes()).unwrap();
    assert_ne!(first.fingerprint(), load(&options).unwrap().fingerprint());
}

#[test]
fn every_mistake_is_told() {
    let told = load(
        "alpha = 2\nalpha_power = -1\nutc_offset = \"8\"\ntile_size = 0\nplace = \"secs\"\nnext_place = [\"r\", \"secs\"]\n\
         change_points = [{ times = [\"25:00\"], keep = 2, typo = 1 }, { times = \"12:00\", keep = 0, days = \"x\" }]\n",
    )
    .unwrap_err();
    let expected = [
        "`alpha` is 2",
        "`alpha_power`",
        "`8` is no offset",
        "`tile_size`",
        "`place` must",
        "`keep` is 2",
        "`x`",
        "unknown key `typo`",
    ];
    for part in expected {
        assert!(told.contains(part), "{part} is not in\n{told}");
    }
    let hexagonal = PIPELINE.replace("state = \"s\"\nnext_state = \"next\"\n", "");
    assert_ne!(hexagonal, PIPELINE);
    let refused = |head: &str, options: &str, parts: &[&str]| {
        let told = load_from(head, options).unwrap_err();
        for part in parts {
            assert!(told.contains(part), "{part} is not in\n{told}");
        }
    };
    let places = "place = [\"r\", \"secs\"]\nnext_place = [\"r\", \"secs\"]\n";
    let coarser = "each coarser than the one before";
    refused(&hexagonal, &format!("alpha = 1\n{places}h3 = 16\n"), &["between 0 and 15, found 16"]);
    refused(&hexagonal, &format!("alpha = 1\n{places}h3 = [7, 8]\n"), &[coarser]);
    refused(&hexagonal, &format!("alpha = 1\n{places}h3 = []\n"), &[coarser]);
    refused(&hexagonal, &format!("alpha = 1\n{places}h3 = 7\ntile_size = 1.0\n"), &["not both"]);
    refused(&hexagonal, "alpha = 1\nh3 = 7\nplace = \"at\"\n", &["`place` must name two", "`next_place`"]);
    refused(PIPELINE, &format!("alpha = 1\n{places}h3 = 7\n"), &["there is no `state`", "there is no `next_state`"]);
    refused(PIPELINE, &format!("alpha = 1\n{places}"), &["there is no `tile_size` and no `h3`"]);
    load_from(&hexagonal, &format!("alpha = 1\n{places}h3 = [15, 0]\n")).unwrap();
    let told = load("alpha = 1\nchange_points = [{ times = \"12:00\", keep = 0.5, typo = 1 }]\n").unwrap_err();
    assert!(told.contains("typo"), "{told}");
    let told = load("alpha = 1\nchange_points = [{ times = \"25:00\", keep = 2, dyas = \"mon\" }]\n").unwrap_err();
    for part in ["`25:00` is no time", "`keep` is 2", "unknown key `dyas`"] {
        assert!(told.contains(part), "{part} is not in\n{told}");
    }
    assert!(load("alpha = 1\nchange_points = [{ times = \"12:00\", keep = 0, to = \"offline\" }]\n").is_err());
}
