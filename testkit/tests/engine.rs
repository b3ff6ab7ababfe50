//! The engine by itself: tables fold, history is ordered, restarts go on where they were, at any width and epoch size,
//! and an operator that is not so is found out by the tests of its pipeline.

use std::path::PathBuf;
use std::sync::Arc;

use arrow::array::RecordBatch;
use engine::operator::{Context, HistoryOperator, StepKind, TableOperator};
use engine::plan::{
    ExpectedRows, Origin, PlanTest, PlannedSource, PlannedStep, Route, Settings, StepInput, StepOutput, StepPlan,
};
use engine::script::Script;
use engine::{Engine, Options, Plan, relation_specs};
use storage::Store;
use types::{Column, Delta, RowCodec, Schema, Type, Value};

fn column(name: &str, ty: Type) -> Column {
    Column { name: name.into(), ty, nullable: true }
}

/// Passes its input on.
struct Pass;

impl TableOperator for Pass {
    fn step(&mut self, inputs: Vec<Vec<Delta>>, context: &mut Context) {
        inputs.into_iter().flatten().for_each(|d| context.emit(0, d));
    }
}

/// Counts its events and keeps the order-dependent hash of their numbers.
struct Chain {
    codec: RowCodec,
    state: Option<(i64, i64)>,
}

impl HistoryOperator for Chain {
    fn restore(&mut self, _key: &[u8], value: &[u8]) {
        let at = |i: usize| i64::from_be_bytes(value[i..i + 8].try_into().unwrap());
        self.state = Some((at(0), at(8)));
    }

    fn apply(&mut self, _input: usize, events: &RecordBatch, context: &mut Context) {
        let before = self.state;
        let (mut count, mut hash) = before.unwrap_or((0, 17));
        for row in 0..events.num_rows() {
            let Value::Int(v) = Value::at(events.column(1), row) else { panic!() };
            count += 1;
            hash = hash.wrapping_mul(31).wrapping_add(v);
        }
        self.state = Some((count, hash));
        let row = |(c, h): (i64, i64)| self.codec.batch(&[vec![Value::Int(0), Value::Int(c), Value::Int(h)]]);
        if let Some(before) = before {
            context.emit(0, Delta::delete(row(before)));
        }
        context.emit(0, Delta::insert(row((count, hash))));
        let bytes = [count.to_be_bytes(), hash.to_be_bytes()].concat();
        context.put_state(&[], b"chain", Some(&bytes));
    }
}

fn plan(rows: i64, epoch_rows_max: usize) -> Plan {
    let table_columns = vec![column("id", Type::Int64), column("v", Type::String), column("gone", Type::Bool)];
    let table = Schema { columns: table_columns[..2].to_vec(), key: vec![0], event_time: None, append_only: false };
    let table_rows = (0..rows)
        .map(|i| vec![Value::Int(i * 7 % 101), Value::Str(format!("v{i}")), Value::Bool(i % 11 == 0)])
        .collect();
    let event_columns = vec![column("t", Type::Timestamp), column("n", Type::Int64)];
    let mut events = Schema { columns: event_columns.clone(), key: vec![2], event_time: Some(0), append_only: true };
    events.columns.push(column(types::SEQ, Type::Int64));
    let event_rows = (0..rows)
        .map(|i| vec![Value::Time(i * 10 - (i * 13) % 50 - i64::from(i % 97 == 5) * 90), Value::Int(i)])
        .collect();
    let source = |name: &str, script: Script, delivered: Vec<Column>, schema: &Schema| PlannedSource {
        name: name.into(),
        connector_name: "script".into(),
        connector: Arc::new(script),
        delivered,
        tombstone: None,
        schema: schema.clone(),
        out_of_orderness: 30,
        idle_after_ms: None,
        stored: !schema.append_only,
    };
    let mut orders = source("orders", Script::new(table_columns.clone(), table_rows, 64), table_columns, &table);
    orders.tombstone = Some(2);
    let history = Schema {
        columns: vec![column("k", Type::Int64), column("count", Type::Int64), column("hash", Type::Int64)],
        key: vec![0],
        event_time: None,
        append_only: false,
    };
    let step = |name: &str, input: &str, schema: &Schema, kind: StepKind, origin: Origin| PlannedStep {
        name: name.into(),
        operator: name.into(),
        origin,
        keeps_streams: true,
        plan: StepPlan {
            inputs: vec![StepInput { relation: input.into(), route: Route::One }],
            outputs: vec![StepOutput { suffix: None, schema: schema.clone() }],
            kind,
            persistent: origin == Origin::Stored,
            detail: String::new(),
            model: Arc::new(|_| Vec::new()),
        },
    };
    let history_schema = history.clone();
    Plan {
        name: "test".into(),
        base_dir: PathBuf::from("."),
        tests: Vec::new(),
        sinks: Vec::new(),
        concealed: engine::pipeline::Concealed::NOTHING,
        settings: Settings { epoch_rows_max, epoch_interval_ms: 1, ..Settings::default() },
        sources: vec![
            orders,
            source("events", Script::new(event_columns.clone(), event_rows, 37), event_columns, &events),
        ],
        steps: vec![
            step("copy", "orders", &table, StepKind::Table(Arc::new(|| Box::new(Pass))), Origin::Recomputed),
            step(
                "chain",
                "events",
                &history,
                StepKind::History(Arc::new(move || {
                    Box::new(Chain { codec: RowCodec::new(&history_schema), state: None })
                })),
                Origin::Stored,
            ),
        ],
    }
}

fn open(plan: &Plan, dir: &tempfile::TempDir) -> Store {
    let mut options = storage::Options::new(dir.path());
    options.relations = relation_specs(plan);
    Store::open(options).unwrap()
}

fn dump(store: &Store, names: &[&str]) -> Vec<Vec<(Vec<u8>, Vec<u8>)>> {
    use std::ops::Bound::Unbounded;
    names
        .iter()
        .map(|name| {
            let id = store.relation(name).unwrap();
            store.snapshot(None).unwrap().scan(id, Unbounded, Unbounded).map(Result::unwrap).collect()
        })
        .collect()
}

const VIEWS: [&str; 4] = ["orders", "copy", "chain", "faults"];

fn run_whole(rows: i64, epoch_rows_max: usize, workers: usize) -> Vec<Vec<(Vec<u8>, Vec<u8>)>> {
    let plan = plan(rows, epoch_rows_max);
    let dir = tempfile::tempdir().unwrap();
    let store = open(&plan, &dir);
    let engine = Engine::start(Arc::new(plan), store.clone(), Options { workers, ..Options::default() });
    engine.wait().unwrap();
    dump(&store, &VIEWS)
}

#[test]
fn results_do_not_depend_on_epochs_or_width() {
    let base = run_whole(2_000, 10_000, 1);
    assert!(!base[0].is_empty() && base[0].len() < 101, "some keys are deleted");
    assert!(!base[3].is_empty(), "some events are late");
    assert_eq!(base[0], base[1]);
    assert_eq!(base[2].len(), 1);
    for (epoch, workers) in [(1, 1), (7, 2), (100, 4), (1_000, 3)] {
        assert_eq!(run_whole(2_000, epoch, workers), base, "epochs of {epoch} rows on {workers} workers");
    }
}

#[test]
fn a_stopped_run_goes_on_at_another_width() {
    let base = run_whole(3_000, 50, 1);
    let dir = tempfile::tempdir().unwrap();
    let mut seen = 0;
    for workers in [2, 1, 4, 3, 1, 2].into_iter().cycle().take(200) {
        let plan = Arc::new(plan(3_000, 50));
        let store = open(&plan, &dir);
        assert_eq!(store.committed(), seen);
        let engine = Engine::start(plan, store.clone(), Options { workers, ..Options::default() });
        let goal = seen + 9;
        while store.published() < goal
            && engine.handle().wait(|p| *p != engine::Phase::Rehydrating) == engine::Phase::Live
        {
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        engine.handle().stop();
        engine.wait().unwrap();
        seen = store.committed();
        if dump(&store, &VIEWS) == base {
            return;
        }
    }
    let now = dump_store(&dir);
    for (i, name) in VIEWS.iter().enumerate() {
        eprintln!("{name}: {} vs {} rows, equal {}", now[i].len(), base[i].len(), now[i] == base[i]);
    }
    panic!("the run never came to its end, epoch {seen}");
}

fn dump_store(dir: &tempfile::TempDir) -> Vec<Vec<(Vec<u8>, Vec<u8>)>> {
    dump(&open(&plan(3_000, 50), dir), &VIEWS)
}

/// Breaks the law: counts how often it is called, which is how many epochs there were.
#[derive(Default)]
struct Calls(i64);

impl TableOperator for Calls {
    fn step(&mut self, _: Vec<Vec<Delta>>, context: &mut Context) {
        let codec = RowCodec::new(&calls());
        let row = |n: i64| codec.batch(&[vec![Value::Int(0), Value::Int(n)]]);
        if self.0 > 0 {
            context.emit(0, Delta::delete(row(self.0)));
        }
        self.0 += 1;
        context.emit(0, Delta::insert(row(self.0)));
    }
}

fn calls() -> Schema {
    let columns = vec![column("k", Type::Int64), column("calls", Type::Int64)];
    Schema { columns, key: vec![0], event_time: None, append_only: false }
}

/// Has a bug.
struct Panics;

impl TableOperator for Panics {
    fn step(&mut self, _: Vec<Vec<Delta>>, _: &mut Context) {
        panic!("there is no such case");
    }
}

/// What is said of a test that gives two orders and expects none of the faults, with another operator for `copy`.
fn tested(schema: Schema, kind: StepKind) -> String {
    let mut plan = plan(0, 1);
    plan.steps[0].plan.outputs[0].schema = schema;
    plan.steps[0].plan.kind = kind;
    let order = |id| vec![Value::Int(id), Value::Str("x".into()), Value::Null];
    plan.tests = vec![PlanTest {
        name: "t".into(),
        line: 7,
        given: vec![("orders".into(), vec![order(1), order(2)])],
        expect: vec![ExpectedRows { relation: "faults".into(), line: 9, columns: Vec::new(), rows: Vec::new() }],
    }];
    let folder = tempfile::tempdir().unwrap();
    let outcomes = engine::testing::run(&plan, folder.path());
    assert_eq!(outcomes.len(), 1);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "nothing is left behind");
    outcomes[0].text("p")
}

#[test]
fn a_test_finds_an_operator_that_breaks_the_law() {
    let pass = tested(plan(0, 1).sources[0].schema.clone(), StepKind::Table(Arc::new(|| Box::new(Pass))));
    assert_eq!(pass, "");
    let said = tested(calls(), StepKind::Table(Arc::new(|| Box::<Calls>::default())));
    let told = |workers: &str| {
        format!(
            "p:7: `copy` is not the same on {workers} in epochs of 1 row as on 1 worker in epochs of 10000 rows: \
             this is a bug of Thalweg\n  missing    {{\"k\":0,\"calls\":1}}\n  unexpected {{\"k\":0,\"calls\":2}}\n"
        )
    };
    assert_eq!(said, format!("p:7: the test `t` failed\n{}{}", told("1 worker"), told("2 workers")));
}

#[test]
fn a_test_of_an_operator_that_panics_fails() {
    let said = tested(calls(), StepKind::Table(Arc::new(|| Box::new(Panics))));
    let expected = "p:7: the test `t` failed\n\
                    p:7: the run on 1 worker in epochs of 10000 rows broke: a bug: there is no such case\n";
    assert_eq!(said, expected);
}
