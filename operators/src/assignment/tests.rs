//! The step against its model: random rows come, change and go under every rule, and after each epoch all three views
//! must be what the model makes of the rows from nothing.

use std::collections::BTreeMap;
use std::sync::Arc;

use engine::catalogue::Row;
use engine::connector::{Connector, ConnectorError, ConnectorFactory, SourceEnv};
use engine::operator::Gauge;
use types::Position;

use super::*;

/// SplitMix64.
struct Draw(u64);

impl Draw {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }

    fn pick<T: Clone>(&mut self, from: &[T]) -> T {
        from[self.below(from.len() as u64) as usize].clone()
    }
}

fn schema(columns: &[(&str, Type)], key: &[usize]) -> Schema {
    let columns = columns.iter().map(|(name, ty)| Column { name: (*name).into(), ty: *ty, nullable: true });
    Schema { columns: columns.collect(), key: key.to_vec(), event_time: None, append_only: false }
}

fn tasks() -> Schema {
    schema(
        &[
            ("zone", Type::String),
            ("id", Type::Int64),
            ("lat", Type::Float64),
            ("lon", Type::Float64),
            ("pay", Type::Float64),
            ("seats", Type::Int64),
            ("remark", Type::String),
        ],
        &[1],
    )
}

fn workers() -> Schema {
    schema(
        &[
            ("name", Type::String),
            ("shift", Type::Int64),
            ("zone", Type::String),
            ("lat", Type::Float64),
            ("lon", Type::Float64),
            ("skill", Type::Int64),
            ("slots", Type::Int64),
        ],
        &[0, 1],
    )
}

fn edges() -> Schema {
    schema(
        &[
            ("n", Type::Int64),
            ("task", Type::Int64),
            ("who", Type::String),
            ("shift", Type::Int64),
            ("score", Type::Float64),
        ],
        &[0],
    )
}

fn float(draw: &mut Draw) -> Value {
    match draw.below(12) {
        0 => Value::Null,
        1 => Value::Float(f64::NAN),
        2 => Value::Float(f64::INFINITY),
        3 => Value::Float(-1.5),
        4 => Value::Float(1e300),
        5 => Value::Float(0.0),
        _ => Value::Float(draw.below(6) as f64 / 2.0),
    }
}

/// Crowds at the pole, across the date line, in one city; and rows that are nowhere.
fn place(draw: &mut Draw) -> [Value; 2] {
    let jitter = |draw: &mut Draw| (draw.unit() - 0.5) * 0.05;
    let (lat, lon) = match draw.below(10) {
        0 => return [Value::Null, Value::Float(1.0)],
        1 => return [Value::Float(f64::NAN), Value::Float(1.0)],
        2 => return [Value::Float(90.5), Value::Float(1.0)],
        3 => (90.0 - draw.unit() * 0.01, draw.unit() * 360.0 - 180.0),
        4 => (
            10.0 + jitter(draw),
            if draw.below(2) == 0 { 180.0 - draw.unit() * 0.02 } else { -180.0 + draw.unit() * 0.02 },
        ),
        // Corners of a square: distances tie.
        5 | 6 => (40.0 + draw.below(2) as f64 * 0.01, -74.0 + draw.below(2) as f64 * 0.01),
        _ => (40.0 + jitter(draw), -74.0 + jitter(draw)),
    };
    [Value::Float(lat), Value::Float(lon)]
}

fn text(draw: &mut Draw, from: &[&str]) -> Value {
    match draw.below(8) {
        0 => Value::Null,
        _ => Value::Str(draw.pick(from).to_owned()),
    }
}

fn capacity(draw: &mut Draw) -> Value {
    draw.pick(&[Value::Null, Value::Int(-1), Value::Int(0), Value::Int(1), Value::Int(1), Value::Int(2), Value::Int(3)])
}

fn draw_row(input: usize, nodes: u64, draw: &mut Draw) -> Row {
    let id = |draw: &mut Draw| Value::Int(draw.below(nodes) as i64);
    let name = |draw: &mut Draw| Value::Str(draw.pick(&["ann", "bob", "cy", "d\"e"]).to_owned());
    let shift = |draw: &mut Draw| Value::Int(draw.below(nodes.div_ceil(4)) as i64);
    match input {
        0 => {
            let [lat, lon] = place(draw);
            vec![text(draw, &["n", "s"]), id(draw), lat, lon, float(draw), capacity(draw), text(draw, &["x", "y", "z"])]
        }
        1 => {
            let [lat, lon] = place(draw);
            let skill = Value::Int(draw.below(3) as i64);
            vec![name(draw), shift(draw), text(draw, &["n", "s"]), lat, lon, skill, capacity(draw)]
        }
        _ => vec![Value::Int(draw.below(nodes * nodes) as i64), id(draw), name(draw), shift(draw), float(draw)],
    }
}

fn side(relation: &str, schema: Schema, capacity: Option<&str>) -> Side {
    let capacity = capacity.map(|c| schema.index_of(c).unwrap());
    Side { relation: relation.into(), schema, capacity }
}

fn sides(capacities: bool) -> [Side; 2] {
    let named = |name| capacities.then_some(name);
    [side("tasks", tasks(), named("seats")), side("workers", workers(), named("slots"))]
}

fn spatial(nearest: Option<usize>) -> Rule {
    Rule::Spatial { columns: [[2, 3], [3, 4]], radius_m: 1_800.0, nearest }
}

fn all() -> Vec<Assignment> {
    let edge_rule = Rule::Edges { relation: "edges".into(), schema: edges(), columns: [vec![1], vec![2, 3]] };
    let group = Rule::Group { columns: [vec![0], vec![2]] };
    let new = |capacities, rule, weight, filter| {
        Assignment::new(sides(capacities), rule, weight, filter, Scale::new(0.001).unwrap()).unwrap()
    };
    let with_terms = |a: Assignment, task, worker| a.with_terms([task, worker]).unwrap();
    vec![
        new(false, edge_rule.clone(), "edge_score", None),
        new(true, edge_rule.clone(), "edge_score + task_pay", Some("worker_skill > 0 OR task_zone = 'n'")),
        new(false, group.clone(), "1", None),
        new(true, group.clone(), "task_pay * worker_skill", Some("worker_skill <= task_seats")),
        new(false, spatial(None), "2000 - distance_m", None),
        new(true, spatial(None), "task_pay / (worker_skill - 1)", Some("10 / worker_skill > 0")),
        new(false, spatial(Some(1)), "1.0", None),
        new(true, spatial(Some(2)), "task_pay - 0.0001 * distance_m", Some("worker_skill < 2")),
        new(false, spatial(Some(3)), "CASE WHEN task_zone = worker_zone THEN 3 ELSE 1 END", None),
        with_terms(new(false, edge_rule, "edge_score", None), Some("task_pay"), Some("-worker_skill")),
        with_terms(new(true, group, "task_pay - 1", None), Some("10 / task_seats - 5"), None),
        with_terms(new(false, spatial(None), "-0.001 * distance_m", None), Some("task_pay"), Some("worker_skill - 1")),
        with_terms(new(true, spatial(Some(2)), "task_pay - 1", None), None, Some("worker_skill - 1")),
    ]
}

/// Runs a plan's operator over epochs of changes and keeps what it said.
struct Run {
    operator: Box<dyn TableOperator>,
    schemas: Vec<Schema>,
    inputs: Vec<Schema>,
    views: Vec<BTreeMap<Row, Row>>,
    epoch: u64,
}

impl Run {
    fn new(plan: &StepPlan, inputs: Vec<Schema>) -> Run {
        let StepKind::Table(new) = &plan.kind else { panic!("a function of tables") };
        Run {
            operator: new(),
            schemas: plan.outputs.iter().map(|o| o.schema.clone()).collect(),
            views: vec![BTreeMap::new(); plan.outputs.len()],
            inputs,
            epoch: 0,
        }
    }

    fn step(&mut self, changes: &[Vec<(Row, i64)>], batches: u64, draw: &mut Draw) {
        self.epoch += 1;
        let mut deltas = Vec::new();
        for (schema, changes) in self.inputs.iter().zip(changes) {
            let mut changes = changes.clone();
            for i in (1..changes.len()).rev() {
                changes.swap(i, draw.below(i as u64 + 1) as usize);
            }
            let codec = RowCodec::new(schema);
            let size = changes.len().div_ceil(batches as usize).max(1);
            let delta = |part: &[(Row, i64)]| {
                let rows: Vec<Row> = part.iter().map(|(r, _)| r.clone()).collect();
                Delta::new(codec.batch(&rows), part.iter().map(|(_, d)| *d).collect())
            };
            deltas.push(changes.chunks(size).map(delta).collect::<Vec<Delta>>());
        }
        let mut context = Context::new(self.epoch, 0, self.schemas.len());
        self.operator.step(deltas, &mut context);
        let (outputs, ..) = context.into_parts();
        for ((schema, view), deltas) in self.schemas.iter().zip(&mut self.views).zip(outputs) {
            let mut rows = Vec::new();
            for delta in deltas {
                for i in 0..delta.len() {
                    let row: Row = delta.rows.columns().iter().map(|c| Value::at(c, i)).collect();
                    rows.push((delta.diff(i), row));
                }
            }
            rows.sort_by_key(|(diff, _)| *diff);
            for (diff, row) in rows {
                let key: Row = schema.key.iter().map(|k| row[*k].clone()).collect();
                match diff {
                    -1 => assert_eq!(view.remove(&key), Some(row), "what is taken back was there"),
                    1 => assert_eq!(view.insert(key, row), None, "one row a key"),
                    other => panic!("a difference of {other}"),
                }
            }
        }
    }

    fn rows(&self) -> Vec<Vec<Row>> {
        self.views.iter().map(|view| view.values().cloned().collect()).collect()
    }
}

/// Tables as they should be, by key.
type Tables = Vec<BTreeMap<Row, Row>>;

fn key_of(schema: &Schema, row: &Row) -> Row {
    schema.key.iter().map(|k| row[*k].clone()).collect()
}

/// Draws changes of the tables: rows set, changed and deleted, some more than once in the epoch.
fn draw_changes(tables: &mut Tables, inputs: &[Schema], nodes: u64, draw: &mut Draw) -> Vec<Vec<(Row, i64)>> {
    let mut changes = vec![Vec::new(); inputs.len()];
    for _ in 0..=draw.below(6) {
        let input = draw.below(inputs.len() as u64) as usize;
        let row = draw_row(input, nodes, draw);
        let key = key_of(&inputs[input], &row);
        let table = &mut tables[input];
        if let Some(old) = table.remove(&key) {
            changes[input].push((old, -1));
        }
        if draw.below(4) > 0 {
            changes[input].push((row.clone(), 1));
            table.insert(key, row);
        }
    }
    changes
}

fn inputs_of(plan: &StepPlan) -> Vec<Schema> {
    [tasks(), workers(), edges()].into_iter().take(plan.inputs.len()).collect()
}

fn expected(plan: &StepPlan, tables: &Tables) -> Vec<Vec<Row>> {
    let rows: Vec<Vec<Row>> = tables.iter().map(|t| t.values().cloned().collect()).collect();
    let mut views = (plan.model)(&rows);
    for view in &mut views {
        view.sort();
    }
    views
}

#[test]
fn every_rule_equals_its_model_at_every_epoch() {
    for (number, assignment) in all().into_iter().enumerate() {
        let plan = assignment.plan();
        let mut seen = [0; 3];
        for run in 0..40 {
            let mut draw = Draw(number as u64 * 1_000 + run);
            let nodes = 3 + draw.below(7);
            let inputs = inputs_of(&plan);
            let mut tables: Tables = vec![BTreeMap::new(); inputs.len()];
            let mut at_work = Run::new(&plan, inputs.clone());
            for epoch in 0..40 {
                let changes = draw_changes(&mut tables, &inputs, nodes, &mut draw);
                let batches = 1 + draw.below(3);
                at_work.step(&changes, batches, &mut draw);
                let rows = at_work.rows();
                assert_eq!(rows, expected(&plan, &tables), "rule {number}, run {run}, epoch {epoch}");
                for (seen, rows) in seen.iter_mut().zip(rows) {
                    *seen += rows.len();
                }
            }
            // A new operator given everything at once, as after a restart.
            let whole: Vec<Vec<(Row, i64)>> =
                tables.iter().map(|t| t.values().map(|r| (r.clone(), 1)).collect()).collect();
            let mut again = Run::new(&plan, inputs);
            again.step(&whole, 2, &mut draw);
            assert_eq!(again.rows(), at_work.rows(), "rule {number}, run {run}: after a restart");
        }
        assert!(seen.iter().all(|n| *n > 100), "rule {number} is tested on nothing: {seen:?}");
    }
}

#[test]
fn epochs_do_not_matter() {
    for (number, assignment) in all().into_iter().enumerate() {
        let plan = assignment.plan();
        let mut draw = Draw(31_337 + number as u64);
        let inputs = inputs_of(&plan);
        let mut tables: Tables = vec![BTreeMap::new(); inputs.len()];
        let (mut fine, mut coarse) = (Run::new(&plan, inputs.clone()), Run::new(&plan, inputs.clone()));
        let mut pending = vec![Vec::new(); inputs.len()];
        for epoch in 0..300 {
            let changes = draw_changes(&mut tables, &inputs, 40, &mut draw);
            for (all, some) in pending.iter_mut().zip(&changes) {
                all.extend(some.iter().cloned());
            }
            fine.step(&changes, 1, &mut draw);
            if epoch % 23 == 22 {
                let all = std::mem::replace(&mut pending, vec![Vec::new(); inputs.len()]);
                coarse.step(&all, 3, &mut draw);
                assert_eq!(fine.rows(), coarse.rows(), "rule {number}, epoch {epoch}");
            }
        }
    }
}

#[test]
fn only_pairs_whose_weight_may_differ_are_weighed() {
    let (width, names) = (5, ["ann", "bob", "cy"]);
    let task = |id: i64, pay: f64, seats: i64, remark: &str| -> Row {
        let (zone, remark) = (Value::Str("n".into()), Value::Str(remark.into()));
        vec![zone, Value::Int(id), Value::Null, Value::Null, Value::Float(pay), Value::Int(seats), remark]
    };
    let worker = |name: &str, skill: i64| -> Row {
        let (zone, skill) = (Value::Str("n".into()), Value::Int(skill));
        vec![Value::Str(name.into()), Value::Int(0), zone, Value::Null, Value::Null, skill, Value::Null]
    };
    let rule = Rule::Group { columns: [vec![0], vec![2]] };
    let assignment = Assignment::new(sides(false), rule, "task_pay", None, Scale::default()).unwrap();
    let assignment = assignment.with_terms([Some("task_seats"), Some("worker_skill")]).unwrap();
    let StepKind::Table(new) = assignment.plan().kind else { panic!("a function of tables") };
    let mut operator = new();
    let mut epoch = 0;
    let mut step = |tasks_now: Vec<(Row, i64)>, workers_now: Vec<(Row, i64)>| -> (f64, usize) {
        let delta = |schema: &Schema, changes: Vec<(Row, i64)>| -> Vec<Delta> {
            let (rows, diffs): (Vec<Row>, Vec<i64>) = changes.into_iter().unzip();
            vec![Delta::new(RowCodec::new(schema).batch(&rows), diffs)]
        };
        epoch += 1;
        let mut context = Context::new(epoch, 0, 3);
        operator.step(vec![delta(&tasks(), tasks_now), delta(&workers(), workers_now)], &mut context);
        let (outputs, _, _, gauges) = context.into_parts();
        let weighed = gauges.iter().find(|(name, _)| *name == "pairs_weighed").unwrap().1;
        (weighed.figure().unwrap(), outputs[1].iter().map(Delta::len).sum())
    };
    let all = (0..width).map(|id| (task(id, 1.0, 1, "x"), 1)).collect();
    assert_eq!(step(all, names.map(|name| (worker(name, 1), 1)).into()), (15.0, 8));
    // What nobody reads, then the term of a task, then that of a worker: prices follow, and no pair is weighed.
    assert_eq!(step(vec![(task(2, 1.0, 1, "x"), -1), (task(2, 1.0, 1, "y"), 1)], Vec::new()), (0.0, 0));
    let (weighed, prices) = step(vec![(task(2, 1.0, 1, "y"), -1), (task(2, 1.0, 9, "y"), 1)], Vec::new());
    assert!(weighed == 0.0 && prices > 0, "{weighed}, {prices}");
    let (weighed, prices) = step(Vec::new(), vec![(worker("bob", 1), -1), (worker("bob", 4), 1)]);
    assert!(weighed == 0.0 && prices > 0, "{weighed}, {prices}");
    // What the weight itself reads: the pairs of this task.
    assert_eq!(step(vec![(task(2, 1.0, 9, "y"), -1), (task(2, 3.0, 9, "y"), 1)], Vec::new()).0, 3.0);
}

#[test]
fn weights_beyond_the_bound_are_refused_and_counted() {
    let rule = Rule::Edges { relation: "edges".into(), schema: edges(), columns: [vec![1], vec![2, 3]] };
    let assignment = Assignment::new(sides(false), rule, "edge_score", None, Scale::default()).unwrap();
    let plan = assignment.plan();
    let StepKind::Table(new) = &plan.kind else { panic!() };
    let mut operator = new();
    let row = |n: i64, score: f64| {
        vec![Value::Int(n), Value::Int(n), Value::Str("ann".into()), Value::Int(0), Value::Float(score)]
    };
    let insert = |schema: &Schema, rows: Vec<Row>| vec![Delta::insert(RowCodec::new(schema).batch(&rows))];
    let task =
        |n: i64| vec![Value::Null, Value::Int(n), Value::Null, Value::Null, Value::Null, Value::Null, Value::Null];
    let ann =
        vec![Value::Str("ann".into()), Value::Int(0), Value::Null, Value::Null, Value::Null, Value::Null, Value::Null];
    let scores = [f64::NAN, f64::NEG_INFINITY, 1e10, -1e10, 9_007_199_254.740_992, 0.000_000_5, 0.000_001_5];
    let mut context = Context::new(1, 0, 3);
    let inputs = vec![
        insert(&tasks(), (0..scores.len() as i64).map(task).collect()),
        insert(&workers(), vec![ann]),
        insert(&edges(), scores.iter().enumerate().map(|(n, s)| row(n as i64, *s)).collect()),
    ];
    operator.step(inputs, &mut context);
    let (outputs, _, _, gauges) = context.into_parts();
    assert!(gauges.contains(&("pairs_refused", Gauge::One(4.0))), "{gauges:?}");
    // 2^53 steps is the bound itself; half a step rounds to none; one and a half to two.
    assert_eq!(Value::at(outputs[2][0].column(5), 0), Value::Int(2));
    assert_eq!(Value::at(outputs[0][0].column(3), 0), Value::Float(9_007_199_254.740_992));
}

#[test]
fn wrong_expressions_and_scales_are_refused_when_planned() {
    let refused = |weight: &str, filter: Option<&str>| {
        Assignment::new(sides(false), spatial(None), weight, filter, Scale::default()).unwrap_err()
    };
    assert_eq!(refused("task_zone", None).0, "weight");
    assert!(refused("task_pai", None).1.contains("did you mean `task_pay`"));
    assert_eq!(refused("1", Some("task_pay")).0, "where");
    let terms = |task, worker| {
        let plain = Assignment::new(sides(false), spatial(None), "1", None, Scale::default()).unwrap();
        plain.with_terms([task, worker]).unwrap_err().0
    };
    assert_eq!(terms(Some("worker_skill"), None), "task_term");
    assert_eq!(terms(Some("task_zone"), None), "task_term");
    assert_eq!(terms(None, Some("distance_m")), "worker_term");
    for bad in [0.0, -1.0, 0.3, 2.5, f64::NAN, f64::INFINITY] {
        Scale::new(bad).unwrap_err();
    }
    assert_eq!(Scale::new(0.000_001), Ok(Scale::default()));
    assert_eq!(Scale::new(0.01).unwrap().float(110), 1.1);
}

/// A pipeline with the test's tables and one assignment step.
fn planned(step: &str) -> Result<String, Vec<String>> {
    let columns = |schema: &Schema| -> String {
        let column = |c: &Column| format!("{} = '{}'", c.name, c.ty);
        schema.columns.iter().map(column).collect::<Vec<_>>().join(", ")
    };
    let source = |name: &str, schema: &Schema| {
        let key = schema.key_names().join("', '");
        format!(
            "[sources.{name}]\ntype = 'file'\npath = '{name}.csv'\nformat = 'csv'\ncolumns = {{ {} }}\nkey = ['{key}']\n",
            columns(schema)
        )
    };
    let sources = [source("tasks", &tasks()), source("workers", &workers()), source("edges", &edges())].concat();
    let text = format!("name = 'test'\n{sources}[steps.match]\noperator = 'assignment'\n{step}");
    match engine::pipeline::load(std::path::Path::new("test.toml"), &text, &|_| None, &catalogue()) {
        Ok(plan) => Ok(plan.steps[0].plan.detail.clone()),
        Err(problems) => Err(problems.iter().map(|p| p.to_string()).collect()),
    }
}

#[test]
fn a_section_becomes_a_plan() {
    let both = "tasks = 'tasks'\nworkers = 'workers'\n";
    assert_eq!(
        planned(&format!(
            "{both}candidates = 'edges'\nedges = 'edges'\nedge_task = 'task'\nedge_worker = ['who', 'shift']\n\
             weight = 'edge_score'\ntask_capacity = 'seats'"
        ))
        .unwrap(),
        "workers to tasks (capacity seats): greatest sum of edge_score in steps of 1/1000000 over edges edges (task – who, shift)"
    );
    assert_eq!(
        planned(&format!("{both}candidates = 'group'\ntask_group = 'zone'\nweight = '1'\nscale = 1")).unwrap(),
        "workers to tasks: greatest sum of 1 in steps of 1/1 over equal (zone) and (zone)"
    );
    assert_eq!(
        planned(&format!(
            "{both}candidates = 'spatial'\ntask_lat = 'lat'\ntask_lon = 'lon'\nworker_lat = 'lat'\nworker_lon = 'lon'\n\
             radius_m = 2000\nnearest = 11\nweight = 'task_pay - distance_m'\nwhere = 'worker_skill > 1'"
        ))
        .unwrap(),
        "workers to tasks: greatest sum of task_pay - distance_m in steps of 1/1000000 over (lat, lon) within 2000 m of \
         (lat, lon), nearest 11 where worker_skill > 1"
    );
    assert_eq!(
        planned(&format!(
            "{both}candidates = 'group'\ntask_group = 'zone'\nweight = '1'\nscale = 1\ntask_term = 'task_pay'\n\
             worker_term = '-worker_skill'"
        ))
        .unwrap(),
        "workers to tasks: greatest sum of 1 + (task_pay) + (-worker_skill) in steps of 1/1 over equal (zone) and (zone)"
    );
    let path = std::path::Path::new("example.toml");
    engine::pipeline::load(path, DEF.example, &|_| None, &catalogue()).unwrap();
}

#[test]
fn every_mistake_in_a_section_is_told() {
    let both = "tasks = 'tasks'\nworkers = 'workers'\n";
    let told = |step: &str, parts: &[&str]| {
        let problems = planned(step).unwrap_err();
        assert_eq!(problems.len(), parts.len(), "{problems:#?}");
        for (problem, part) in problems.iter().zip(parts) {
            assert!(problem.contains(part), "{problem} should speak of {part}");
        }
    };
    told("tasks = 'taks'\nworkers = 'workers'\ncandidates = 'group'\nweight = '1'\ntask_group = 'zone'", &["`tasks`"]);
    told(
        &format!(
            "{both}candidates = 'spatial'\ntask_lat = 'zone'\ntask_lon = 'lo'\nworker_lat = 'lat'\nworker_lon = 'lon'\nradius_m = -1\nweight = '1'"
        ),
        &["degrees", "`lon`", "above 0"],
    );
    told(
        &format!("{both}candidates = 'group'\ntask_group = 'id'\nworker_group = 'name'\nweight = '1'"),
        &["same types"],
    );
    told(&format!("{both}candidates = 'group'\ntask_group = 'zone'\nweight = 'task_pai'"), &["`task_pay`"]);
    told(&format!("{both}candidates = 'group'\ntask_group = 'zone'\nweight = '1'\nradius_m = 3"), &["no effect"]);
    told(
        &format!(
            "{both}candidates = 'edges'\nedges = 'edges'\nedge_task = 'who'\nedge_worker = 'who'\nweight = '1'\ntask_capacity = 'pay'"
        ),
        &["same types", "same types", "int64"],
    );
}

/// A source that is planned and never opened.
#[derive(Debug)]
struct Unopened;

impl ConnectorFactory for Unopened {
    fn open(&self, _: &Position, _: &SourceEnv) -> Result<Box<dyn Connector>, ConnectorError> {
        Err(ConnectorError::new("it is only planned"))
    }

    fn describe(&self) -> String {
        "a file".to_owned()
    }
}

/// Every operator, and files that are never opened.
fn catalogue() -> engine::Catalogue {
    let file = engine::ConnectorDef {
        name: "file",
        summary: "Planned, and never opened.",
        options: &[],
        plan: |section, _| {
            section.required_string("path")?;
            section.string("format");
            Some(Arc::new(Unopened))
        },
    };
    engine::Catalogue { connectors: vec![file], sinks: Vec::new(), operators: crate::operators() }
}
