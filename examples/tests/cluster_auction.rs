//! The cluster's auction over the real trace: at every epoch no constraint is broken and the greedy is its model, and
//! in the end the views are the same bytes on any number of workers.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{BufRead as _, BufReader, Write as _};
use std::ops::Bound::Unbounded;
use std::path::Path;

use engine::catalogue::Row;
use engine::{Plan, testing};
use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use storage::Temporary;
use testkit::recorded_data;
use types::{Epoch, RowCodec, Schema, Value};

/// (workers, rows of an epoch at most)
const RUNS: [(usize, usize); 3] = [(1, 20_000), (2, 30_000), (4, 50_000)];
/// The models of the auctions of tasks sort millions of pairs: they are asked at every so many epochs, and the last.
const TASKS_MODEL_EVERY: u64 = 8;
/// The auctions held event by event: the step, who asks, and how its views name whose request it is.
const BY_EVENTS: [(&str, &str, &[&str]); 2] =
    [("running", "asking", &["request_job"]), ("tasks_running", "tasks_asking", &["request_job", "request_task"])];

/// Demands and capacities are rounded to multiples of this.
const SCALE: f64 = 1e-9;

fn trace(data: &Path) -> Plan {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("cluster_auction/google_trace.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    let env = |_: &str| Some(data.display().to_string());
    engine::pipeline::load(&file, &text, &env, &catalogue::all()).unwrap_or_else(|problems| panic!("{problems}"))
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

    fn key(&self, row: &Row, names: &[&str]) -> Vec<i64> {
        names.iter().map(|name| self.int(row, name)).collect()
    }

    fn keys(&self, names: &[&str]) -> BTreeSet<Vec<i64>> {
        let keys: BTreeSet<Vec<i64>> = self.rows.iter().map(|row| self.key(row, names)).collect();
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
    /// The columns of the views that say whose request it is.
    key: &'a [&'a str],
    /// By request: class and budget; without them who asks is not compared.
    requests: Option<BTreeMap<Vec<i64>, (i64, f64)>>,
    /// By machine: class and capacity.
    machines: BTreeMap<i64, (i64, f64)>,
    /// Allocations, rejections, prices, payments.
    views: [Relation; 4],
}

impl Check<'_> {
    fn hold(&self) {
        let at = &self.at;
        let [allocations, rejections, prices, payments] = &self.views;
        let (served, rejected) = (allocations.keys(self.key), rejections.keys(self.key));
        assert!(served.is_disjoint(&rejected), "{at}: served and rejected");
        assert_eq!(payments.keys(self.key), served, "{at}: a payment for each that is served");
        if let Some(requests) = &self.requests {
            let asked: BTreeSet<Vec<i64>> = requests.keys().cloned().collect();
            assert_eq!(&served | &rejected, asked, "{at}: everybody is served or rejected");
        }
        let mut used: BTreeMap<i64, (f64, i64)> = BTreeMap::new();
        let price = prices.rows.iter().map(|r| (prices.int(r, "resource_machine"), prices.float(r, "price")));
        let price: BTreeMap<i64, f64> = price.collect();
        let paid = payments.rows.iter().map(|r| {
            let of = |name| payments.float(r, name);
            (payments.key(r, self.key), (of("budget"), of("payment")))
        });
        let paid: BTreeMap<Vec<i64>, (f64, f64)> = paid.collect();
        for row in &allocations.rows {
            let request = allocations.key(row, self.key);
            let (machine, demand) = (allocations.int(row, "resource_machine"), allocations.float(row, "demand"));
            let sum = used.entry(machine).or_default();
            *sum = (sum.0 + demand, sum.1 + 1);
            let (budget, payment) = paid[&request];
            assert!(price[&machine] * demand <= budget, "{at}: {request:?} cannot pay {machine}");
            assert!((0.0..=budget).contains(&payment), "{at}: {request:?} pays {payment} of {budget}");
            if let Some(requests) = &self.requests {
                assert_eq!(requests[&request], (self.machines[&machine].0, budget), "{at}: {request:?} on {machine}");
            }
        }
        for (machine, (demand, holders)) in used {
            let capacity = self.machines[&machine].1;
            assert!(demand <= capacity + SCALE * (holders + 1) as f64, "{at}: {machine} has {demand} of {capacity}");
        }
    }

    /// Whether some were served and some were not.
    fn is_contested(&self) -> bool {
        self.views[..2].iter().all(|view| !view.rows.is_empty())
    }
}

const VIEWS: [&str; 4] = ["", ".rejections", ".prices", ".payments"];

/// Checks every epoch of a run.
fn check_epochs(plan: &Plan, ended: &Temporary, is_held_to_model: bool) {
    let (first, last) = (ended.store().since().max(1), ended.store().published());
    assert!(first <= 1 && last > 10, "epochs {first} to {last}: all of them, and not few");
    let mut contested = [0; 4];
    for epoch in first..=last {
        let read = |name: &str| read(plan, ended, epoch, name);
        let machines = read("machines");
        let by_machine =
            |row: &Row| (machines.int(row, "machine"), (machines.int(row, "class"), machines.float(row, "capacity")));
        let known: BTreeMap<i64, (i64, f64)> = machines.rows.iter().map(by_machine).collect();
        let over_tables = [
            ("placement", "requests", &["job"][..], &["request_job"][..], 1),
            (
                "task_placement",
                "live_tasks_asking",
                &["job", "task"],
                &["request_job", "request_task"],
                TASKS_MODEL_EVERY,
            ),
        ];
        for (place, (step, asking, own_key, key, model_every)) in over_tables.into_iter().enumerate() {
            let requests = read(asking);
            let by_key =
                |row: &Row| (requests.key(row, own_key), (requests.int(row, "class"), requests.float(row, "budget")));
            let check = Check {
                at: format!("{step} at epoch {epoch}"),
                key,
                requests: Some(requests.rows.iter().map(by_key).collect()),
                machines: known.clone(),
                views: VIEWS.map(|suffix| read(&format!("{step}{suffix}"))),
            };
            check.hold();
            contested[place] += usize::from(check.is_contested());
            if is_held_to_model && (epoch % model_every == 0 || epoch == last) {
                is_its_model(plan, step, &[requests.rows, machines.rows.clone()], epoch, &read);
            }
        }
        // Their machines come and go by event time: what each holds is the same.
        for (place, (step, _, key)) in BY_EVENTS.into_iter().enumerate() {
            let views = VIEWS.map(|suffix| read(&format!("{step}{suffix}")));
            let prices = &views[2];
            let row = |row: &Row| {
                let machine = prices.int(row, "resource_machine");
                (machine, (prices.int(row, "resource_class"), prices.float(row, "capacity")))
            };
            let machines = prices.rows.iter().map(row).collect();
            let check = Check { at: format!("{step} at epoch {epoch}"), key, requests: None, machines, views };
            check.hold();
            contested[2 + place] += usize::from(check.is_contested());
        }
    }
    assert!(contested.iter().all(|n| *n > 10), "too few epochs in which some were served and some not: {contested:?}");
}

/// Every view of a step is what its model says of these inputs.
fn is_its_model(plan: &Plan, step: &str, inputs: &[Vec<Row>], epoch: Epoch, read: &dyn Fn(&str) -> Relation) {
    let planned = &plan.steps.iter().find(|s| s.name == step).expect("it is in the file").plan;
    for (output, mut told) in planned.outputs.iter().zip((planned.model)(inputs)) {
        let name = output.suffix.map_or(step.to_owned(), |suffix| format!("{step}.{suffix}"));
        let mut got = read(&name).rows;
        got.sort();
        told.sort();
        assert_eq!(got.len(), told.len(), "`{name}` at epoch {epoch}: rows");
        for (got, told) in got.iter().zip(&told) {
            assert_eq!(got, told, "`{name}` at epoch {epoch}");
        }
    }
}

/// The events of the trace's first minutes, few enough for a model that sorts every pair after each: at every epoch it
/// says what the views say.
#[test]
fn event_by_event_the_trace_is_its_model_at_every_epoch() {
    let Some(data) = recorded_data() else { return };
    let folder = tempfile::tempdir().unwrap();
    let jobs = folder.path().join("cluster/google_2011_job_events");
    let tasks = folder.path().join("cluster/google_2011_task_events");
    std::fs::create_dir_all(&jobs).unwrap();
    std::fs::create_dir_all(&tasks).unwrap();
    // Some that run at the start, and then what comes and finishes.
    for (part, of_jobs, of_tasks) in
        [("part-00000-of-00500.csv.gz", 400, 500), ("part-00001-of-00500.csv.gz", 1_100, 700)]
    {
        head(&data.join("cluster/google_2011_job_events").join(part), &jobs.join(part), of_jobs);
        head(&data.join("cluster/google_2011_task_events").join(part), &tasks.join(part), of_tasks);
    }
    for workers in [1, 2] {
        let mut plan = trace(folder.path());
        // To be read by the model.
        plan.sources.iter_mut().find(|s| s.name == "machine_events").expect("it is in the file").stored = true;
        plan.settings.epoch_rows_max = 100;
        plan.settings.epoch_interval_ms = 60_000;
        plan.settings.retain_epochs = 100_000;
        let stores = folder.path().join(format!("{workers}"));
        std::fs::create_dir_all(&stores).unwrap();
        let ended = testing::to_end(plan.clone(), workers, &stores).unwrap();
        let last = ended.store().published();
        let mut held = [0; 2];
        for epoch in ended.store().since().max(1)..=last {
            let read = |name: &str| read(&plan, &ended, epoch, name);
            // What the watermark has not passed, the step has not seen.
            let remap = ended.store().remap(epoch).unwrap().expect("an epoch has its remap");
            for (place, (step, asking, _)) in BY_EVENTS.into_iter().enumerate() {
                let passed = remap.watermark([["job_events", "task_events"][place], "machine_events"]);
                let seen = |name: &str| {
                    let relation = read(name);
                    let at = relation.schema.event_time.expect("events have times");
                    let mut rows = relation.rows;
                    rows.retain(|row| matches!(&row[at], Value::Time(t) if *t < passed));
                    rows.sort_by_key(|row| (row[at].clone(), row[row.len() - 1].clone()));
                    rows
                };
                if place == 0 || epoch % TASKS_MODEL_EVERY == 0 || epoch == last {
                    is_its_model(&plan, step, &[seen("machine_events"), seen(asking)], epoch, &read);
                }
                let both = ["", ".rejections"].map(|suffix| !read(&format!("{step}{suffix}")).rows.is_empty());
                held[place] += usize::from(both == [true; 2]);
            }
        }
        assert!(held.iter().all(|n| *n > 5), "{held:?} of {last} epochs have some served and some not");
    }
}

/// The first rows of a compressed file as a file of their own.
fn head(from: &Path, to: &Path, rows: usize) {
    let lines = BufReader::new(GzDecoder::new(File::open(from).unwrap())).lines().take(rows);
    let mut out = GzEncoder::new(File::create(to).unwrap(), Compression::fast());
    for line in lines {
        writeln!(out, "{}", line.unwrap()).unwrap();
    }
    out.finish().unwrap();
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
