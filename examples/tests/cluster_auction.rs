//! The cluster's auction over the real trace: at every epoch no constraint is broken and the greedy is its model, and
//! in the end the views are the same bytes on any number of workers.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound::Unbounded;
use std::path::Path;

use engine::catalogue::Row;
use engine::{Plan, testing};
use storage::Temporary;
use testkit::recorded_data;
use types::{Epoch, RowCodec, Schema, Value};

/// (workers, rows of an epoch at most)
const RUNS: [(usize, usize); 3] = [(1, 5_000), (2, 9_000), (4, 30_000)];

/// Demands and capacities are rounded to multiples of this.
const SCALE: f64 = 1e-9;

fn trace(data: &Path) -> Plan {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("cluster_auction/google_trace.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    let env = |_: &str| Some(data.display().to_string());
    engine::pipeline::load(&file, &text, &env, &operators::catalogue()).unwrap_or_else(|problems| panic!("{problems}"))
}

/// A relation at an epoch.
struct Relation {
    schema: Schema,
    rows: Vec<Row>,
}

impl Relation {
    fn cell<'a>(&self, row: &'a Row, name: &str) -> &'a Value {
        &row[self.schema.index_of(name).unwrap_or_else(|| panic!("no column {name}"))]
    }

    fn int(&self, row: &Row, name: &str) -> i64 {
        match self.cell(row, name) {
            Value::Int(v) => *v,
            other => panic!("{name} is {other:?}"),
        }
    }

    fn float(&self, row: &Row, name: &str) -> f64 {
        match self.cell(row, name) {
            Value::Float(v) => *v,
            Value::Int(v) => *v as f64,
            other => panic!("{name} is {other:?}"),
        }
    }

    fn keys(&self, name: &str) -> BTreeSet<i64> {
        let keys: BTreeSet<i64> = self.rows.iter().map(|row| self.int(row, name)).collect();
        assert_eq!(keys.len(), self.rows.len(), "a row each");
        keys
    }
}

/// Reads a relation of a plan at an epoch.
fn read(plan: &Plan, store: &Temporary, epoch: Epoch, name: &str) -> Relation {
    let schema = plan.relations().into_iter().find(|r| r.name == name).expect("a relation of the plan").schema.clone();
    let store = store.store();
    let snapshot = store.snapshot(Some(epoch)).unwrap();
    let stored: Vec<_> =
        snapshot.scan(store.relation(name).unwrap(), Unbounded, Unbounded).collect::<Result<_, _>>().unwrap();
    let batch = RowCodec::new(&schema).decode(stored.iter().map(|(key, value)| (&**key, &**value))).unwrap();
    let rows = (0..batch.num_rows()).map(|row| batch.columns().iter().map(|c| Value::at(c, row)).collect()).collect();
    Relation { schema, rows }
}

/// What an auction is held over, and what came of it: nobody is lost, nothing is overfull, nobody pays too much.
struct Check<'a> {
    at: String,
    /// By job: class and budget; without them who asks is not compared.
    requests: Option<BTreeMap<i64, (i64, f64)>>,
    allocations: &'a Relation,
    rejections: &'a Relation,
    prices: &'a Relation,
    payments: &'a Relation,
}

impl Check<'_> {
    fn hold(&self, machines: &BTreeMap<i64, (i64, f64)>) {
        let at = &self.at;
        let (served, rejected) = (self.allocations.keys("request_job"), self.rejections.keys("request_job"));
        assert!(served.is_disjoint(&rejected), "{at}: served and rejected");
        assert_eq!(self.payments.keys("request_job"), served, "{at}: a payment for each that is served");
        if let Some(requests) = &self.requests {
            let asked: BTreeSet<i64> = requests.keys().copied().collect();
            assert_eq!(&served | &rejected, asked, "{at}: everybody is served or rejected");
        }
        let mut used: BTreeMap<i64, (f64, i64)> = BTreeMap::new();
        let price = self.prices.rows.iter();
        let price: BTreeMap<i64, f64> =
            price.map(|r| (self.prices.int(r, "resource_machine"), self.prices.float(r, "price"))).collect();
        let budget = self.payments.rows.iter();
        let budget: BTreeMap<i64, (f64, f64)> = budget
            .map(|r| {
                let of = |name| self.payments.float(r, name);
                (self.payments.int(r, "request_job"), (of("budget"), of("payment")))
            })
            .collect();
        for row in &self.allocations.rows {
            let int = |name| self.allocations.int(row, name);
            let (job, machine, demand) =
                (int("request_job"), int("resource_machine"), self.allocations.float(row, "demand"));
            let sum = used.entry(machine).or_default();
            *sum = (sum.0 + demand, sum.1 + 1);
            let (budget, payment) = budget[&job];
            assert!(price[&machine] * demand <= budget, "{at}: {job} cannot pay {machine}");
            assert!((0.0..=budget).contains(&payment), "{at}: {job} pays {payment} of {budget}");
            if let Some(requests) = &self.requests {
                assert_eq!(requests[&job], (machines[&machine].0, budget), "{at}: {job} on {machine}");
            }
        }
        for (machine, (demand, jobs)) in used {
            let capacity = machines[&machine].1;
            assert!(demand <= capacity + SCALE * (jobs + 1) as f64, "{at}: {machine} has {demand} of {capacity}");
        }
    }
}

fn check_epochs(plan: &Plan, ended: &Temporary, is_held_to_model: bool) {
    let step = &plan.steps.iter().find(|s| s.name == "placement").expect("it is in the file").plan;
    let (first, last) = (ended.store().since().max(1), ended.store().published());
    assert!(first <= 1 && last > 10, "epochs {first} to {last}: all of them, and not few");
    let mut contested = 0;
    for epoch in first..=last {
        let read = |name: &str| read(plan, ended, epoch, name);
        let (requests, machines) = (read("requests"), read("machines"));
        let views = ["placement", "placement.rejections", "placement.prices", "placement.payments"].map(read);
        let by_job =
            |row: &Row| (requests.int(row, "job"), (requests.int(row, "class"), requests.float(row, "budget")));
        let by_machine =
            |row: &Row| (machines.int(row, "machine"), (machines.int(row, "class"), machines.float(row, "capacity")));
        let known: BTreeMap<i64, (i64, f64)> = machines.rows.iter().map(by_machine).collect();
        let [allocations, rejections, prices, payments] = &views;
        let at = format!("placement at epoch {epoch}");
        let asked = Some(requests.rows.iter().map(by_job).collect());
        Check { at, requests: asked, allocations, rejections, prices, payments }.hold(&known);
        contested += usize::from(!rejections.rows.is_empty() && !allocations.rows.is_empty());
        let running = ["running", "running.rejections", "running.prices", "running.payments"].map(read);
        let [allocations, rejections, prices, payments] = &running;
        let at = format!("running at epoch {epoch}");
        // Its machines come and go by event time: what each holds is the same.
        let row = |row: &Row| {
            let machine = prices.int(row, "resource_machine");
            (machine, (prices.int(row, "resource_class"), prices.float(row, "capacity")))
        };
        let known: BTreeMap<i64, (i64, f64)> = prices.rows.iter().map(row).collect();
        Check { at, requests: None, allocations, rejections, prices, payments }.hold(&known);
        if is_held_to_model {
            let told = (step.model)(&[requests.rows, machines.rows]);
            for (output, mut told) in step.outputs.iter().zip(told) {
                let name = output.suffix.map_or("placement".to_owned(), |suffix| format!("placement.{suffix}"));
                let mut got = read(&name).rows;
                got.sort();
                told.sort();
                assert_eq!(got.len(), told.len(), "`{name}` at epoch {epoch}: rows");
                for (got, told) in got.iter().zip(&told) {
                    assert_eq!(got, told, "`{name}` at epoch {epoch}");
                }
            }
        }
    }
    assert!(contested > 10, "there were too few epochs in which some were served and some were not");
}

#[test]
fn the_trace_breaks_no_constraint_and_is_its_model_at_every_epoch_on_any_width() {
    let Some(data) = recorded_data() else { return };
    let folder = tempfile::tempdir().unwrap();
    let mut first: Option<BTreeMap<String, Vec<u8>>> = None;
    for (workers, epoch_rows_max) in RUNS {
        let mut plan = trace(&data);
        plan.settings.epoch_rows_max = epoch_rows_max;
        plan.settings.epoch_interval_ms = 60_000;
        plan.settings.retain_epochs = 100_000;
        let ended = testing::to_end(plan.clone(), workers, folder.path()).unwrap();
        check_epochs(&plan, &ended, workers == 1);
        let dump = dump(&plan, &ended);
        match &first {
            None => first = Some(dump),
            Some(first) => {
                for (name, bytes) in first {
                    assert!(&dump[name] == bytes, "`{name}` differs on {workers} workers");
                }
            }
        }
    }
}

/// Every relation in the end, as bytes.
fn dump(plan: &Plan, ended: &Temporary) -> BTreeMap<String, Vec<u8>> {
    let store = ended.store();
    let snapshot = store.snapshot(None).unwrap();
    assert_eq!(store.digest(store.relation(engine::FAULTS).unwrap()).rows, 0, "the trace has no bad rows");
    let mut all = BTreeMap::new();
    for relation in plan.relations() {
        let mut bytes = Vec::new();
        for row in snapshot.scan(store.relation(&relation.name).unwrap(), Unbounded, Unbounded) {
            let (key, value) = row.unwrap();
            bytes.extend_from_slice(&key);
            bytes.extend_from_slice(&value);
        }
        all.insert(relation.name, bytes);
    }
    all
}
