//! Every operator equals its model at every epoch: on 1, 2 and 4 workers, in other epochs, across restarts.

mod harness;

use harness::{Case, InputShape, Random, any_cell, check};
use operators::expression::Expression;
use operators::{aggregate, assignment, join, select, td_value, top};
use types::{Column, SEQ, Schema, Type, Value};

fn schema(columns: &[(&str, Type)], key: &[usize], stream: bool) -> Schema {
    let mut columns: Vec<Column> = columns
        .iter()
        .enumerate()
        .map(|(i, (name, ty))| Column { name: (*name).to_owned(), ty: *ty, nullable: !key.contains(&i) })
        .collect();
    let event_time = columns.iter().position(|c| c.name == "at");
    let mut key = key.to_vec();
    if stream {
        columns.push(Column { name: SEQ.to_owned(), ty: Type::Int64, nullable: false });
        key = vec![columns.len() - 1];
    }
    Schema { columns, key, event_time, append_only: stream }
}

const COLUMNS: [(&str, Type); 7] = [
    ("id", Type::Int64),
    ("zone", Type::Int64),
    ("name", Type::String),
    ("x", Type::Float64),
    ("n", Type::Int64),
    ("at", Type::Timestamp),
    ("ok", Type::Bool),
];

/// Ids from few, so that keys meet; everything else as it comes.
fn cell(random: &mut Random, schema: &Schema, column: usize) -> Value {
    match schema.columns[column].name.as_str() {
        "id" => Value::Int(random.below(12) as i64),
        _ => any_cell(random, schema, column),
    }
}

fn table() -> InputShape {
    InputShape { schema: schema(&COLUMNS, &[0], false), cell }
}

fn stream() -> InputShape {
    InputShape { schema: schema(&COLUMNS, &[], true), cell }
}

fn selecting(name: &'static str, input: InputShape, columns: &[(&str, &str)], filter: Option<&str>) -> Case {
    let columns =
        columns.iter().map(|(n, e)| ((*n).to_owned(), Expression::parse(e, &input.schema).unwrap())).collect();
    let filter = filter.map(|f| select::filter(f, &input.schema).unwrap());
    let step = select::Select::new("rows", &input.schema, columns, filter).unwrap().plan();
    Case { name, step, inputs: vec![input] }
}

fn aggregating(name: &'static str, input: InputShape, by: &[&str], compute: &[&str]) -> Case {
    let by = by.iter().map(|b| input.schema.index_of(b).unwrap()).collect();
    let mut shape = aggregate::Shape::new("rows", &input.schema, by).unwrap();
    for (i, text) in compute.iter().enumerate() {
        shape.compute(&format!("c{i}"), text).unwrap();
    }
    Case { name, step: shape.plan(), inputs: vec![input] }
}

#[test]
fn select() {
    let columns = [("key", "id"), ("name", "upper(name)"), ("y", "x * 2 + n"), ("q", "n * 3"), ("at", "at")];
    check(&selecting("select from a table", table(), &columns, Some("10 / n < 7 OR ok")), 0..30);
    check(&selecting("select from a stream", stream(), &columns, Some("x > 0")), 0..30);
    check(&selecting("select without a filter", table(), &[("id", "id"), ("c", "CAST(name AS BIGINT)")], None), 0..20);
    check(&selecting("select nothing but the key", table(), &[("id", "id")], Some("name <> 'a'")), 0..20);
}

const EVERYTHING: [&str; 15] = [
    "count",
    "count(x)",
    "sum(x)",
    "avg(x)",
    "min(x)",
    "max(x)",
    "sum(n)",
    "avg(n)",
    "min(n)",
    "max(name)",
    "min(name)",
    "max(ok)",
    "min(at)",
    "sum(n / 2)",
    "sum(id * 10)",
];

#[test]
fn aggregate() {
    check(&aggregating("aggregate by an int", table(), &["zone"], &EVERYTHING), 0..60);
    check(&aggregating("aggregate by several", table(), &["name", "ok"], &EVERYTHING), 0..40);
    check(&aggregating("aggregate by a float", table(), &["x"], &["count", "max(n)"]), 0..20);
    check(&aggregating("aggregate a stream", stream(), &["zone"], &EVERYTHING), 0..60);
    check(&aggregating("aggregate a stream by text", stream(), &["name"], &EVERYTHING), 0..30);
    check(&aggregating("aggregate with faults", table(), &["zone"], &["sum(10 / n)", "max(x)", "min(n + 1)"]), 0..40);
    let decimals = InputShape { schema: schema(&[("id", Type::Int64), ("d", Type::Decimal)], &[0], false), cell };
    check(&aggregating("aggregate decimals", decimals, &["id"], &["sum(d)", "avg(d)", "min(d)"]), 0..20);
    let pairs = [("id", Type::Int64), ("g", Type::Bool), ("d", Type::Decimal), ("x", Type::Float64)];
    let shape = InputShape { schema: schema(&pairs, &[0], false), cell };
    check(
        &aggregating("aggregate large groups", shape.clone(), &["g"], &["sum(d)", "avg(d)", "max(d)", "sum(x)"]),
        0..40,
    );
    let shape = InputShape { schema: schema(&pairs, &[], true), cell };
    check(
        &aggregating("aggregate decimals of a stream", shape, &["g"], &["sum(d)", "avg(d)", "max(d)", "sum(x)"]),
        0..40,
    );
}

fn joining(name: &'static str, left: InputShape, right: InputShape, on: &[(&str, &str)], outer: bool) -> Case {
    let on = on.iter().map(|(l, r)| (left.schema.index_of(l).unwrap(), right.schema.index_of(r).unwrap())).collect();
    let step = join::Join::new(("l", &left.schema), ("r", &right.schema), on, outer, "right_").unwrap().plan();
    Case { name, step, inputs: vec![left, right] }
}

#[test]
fn join() {
    let right = || InputShape {
        schema: schema(&[("name", Type::String), ("id", Type::Int64), ("v", Type::Float64)], &[1], false),
        cell,
    };
    for outer in [false, true] {
        check(&joining("join by key", table(), right(), &[("id", "id")], outer), 0..12);
        check(&joining("join by another", table(), right(), &[("n", "id")], outer), 0..12);
        check(&joining("join by two", table(), right(), &[("id", "id"), ("name", "name")], outer), 0..12);
        check(&joining("join by floats", table(), right(), &[("x", "v")], outer), 0..12);
        check(&joining("join a stream", stream(), right(), &[("zone", "id")], outer), 0..12);
        let key_only = InputShape { schema: schema(&[("id", Type::Int64)], &[0], false), cell };
        check(&joining("join with keys alone", table(), key_only, &[("id", "id")], outer), 0..12);
    }
}

fn ranking(name: &'static str, input: InputShape, by: &[&str], order: &[(&str, bool)], k: usize) -> Case {
    let column = |c: &str| input.schema.index_of(c).unwrap();
    let by = by.iter().map(|b| column(b)).collect();
    let order = order.iter().map(|(c, desc)| (column(c), *desc)).collect();
    let step = top::Top::new("rows", &input.schema, by, order, k, "rank").unwrap().plan();
    Case { name, step, inputs: vec![input] }
}

#[test]
fn top() {
    check(&ranking("top of groups", table(), &["ok"], &[("x", true), ("name", false)], 3), 0..40);
    check(&ranking("top of all", table(), &[], &[("n", false)], 2), 0..40);
    check(&ranking("top with ties", table(), &["name"], &[("ok", true)], 1), 0..40);
    check(&ranking("top of a stream", stream(), &["ok"], &[("at", true)], 4), 0..20);
}

fn learning(name: &'static str, state: (&str, &str), duration: bool, partition: &[&str], ty: Type) -> Case {
    fn cell(random: &mut Random, schema: &Schema, column: usize) -> Value {
        match (schema.columns[column].name.as_str(), random.below(12)) {
            ("secs" | "reward", 1..) => Value::Float(random.below(100) as f64 / 8.0),
            ("secs", 0) => Value::Float(random.of(&[f64::NAN, -1.0, 1e9, f64::INFINITY, 0.0])),
            ("reward", 0) => Value::Float(random.of(&[f64::NAN, f64::MAX, f64::MIN, f64::NEG_INFINITY])),
            _ => any_cell(random, schema, column),
        }
    }
    let columns = [
        ("from", ty),
        ("to", ty),
        ("reward", Type::Float64),
        ("secs", Type::Float64),
        ("at", Type::Timestamp),
        ("name", Type::String),
        ("ok", Type::Bool),
    ];
    let mut schema = schema(&columns, &[], true);
    schema.columns[4].nullable = false;
    let column = |c: &str| schema.index_of(c).unwrap();
    let transition = td_value::Transition {
        state: column(state.0),
        next_state: column(state.1),
        reward: column("reward"),
        duration: duration.then(|| column("secs")),
        partition: partition.iter().map(|p| column(p)).collect(),
    };
    let rates = td_value::Rates { alpha: 0.3, gamma: 0.9, initial: 1.0, duration_unit_secs: 2.0 };
    let step = td_value::TdValue::new("rows", &schema, transition, rates).unwrap().plan();
    Case { name, step, inputs: vec![InputShape { schema, cell }] }
}

#[test]
fn td_value() {
    check(&learning("td by int", ("from", "to"), true, &[], Type::Int64), 0..60);
    check(&learning("td by string", ("from", "to"), false, &[], Type::String), 0..40);
    check(&learning("td by partition", ("from", "to"), true, &["name", "ok"], Type::Int64), 0..40);
}

fn assigning(name: &'static str, rule: &str, capacity: bool) -> Case {
    fn cell(random: &mut Random, schema: &Schema, column: usize) -> Value {
        match schema.columns[column].name.as_str() {
            "task" | "worker" => Value::Int(random.below(5) as i64),
            "n" => Value::Int(random.below(25) as i64),
            "zone" => random.of(&[Value::Null, Value::Int(1), Value::Int(2)]),
            "seats" => random.of(&[Value::Null, Value::Int(-1), Value::Int(0), Value::Int(1), Value::Int(2)]),
            "lat" => Value::Float(40.0 + random.below(4) as f64 * 0.005),
            "lon" => random.of(&[Value::Float(-74.0), Value::Float(-74.005), Value::Float(f64::NAN), Value::Null]),
            _ => random.of(&[
                Value::Null,
                Value::Float(1.5),
                Value::Float(2.0),
                Value::Float(-1.0),
                Value::Float(f64::INFINITY),
                Value::Float(7.25),
            ]),
        }
    }
    let node = |id| {
        [
            (id, Type::Int64),
            ("zone", Type::Int64),
            ("seats", Type::Int64),
            ("lat", Type::Float64),
            ("lon", Type::Float64),
            ("pay", Type::Float64),
        ]
    };
    let tasks = schema(&node("task"), &[0], false);
    let workers = schema(&node("worker"), &[0], false);
    let edges = schema(
        &[("n", Type::Int64), ("task", Type::Int64), ("worker", Type::Int64), ("score", Type::Float64)],
        &[0],
        false,
    );
    let mut schemas = vec![tasks.clone(), workers.clone()];
    let terms = if rule == "terms" { [Some("task_pay"), Some("-worker_pay")] } else { [None; 2] };
    let (rule, weight) = match rule {
        "edges" => {
            schemas.push(edges.clone());
            (assignment::Rule::Edges { relation: "e".into(), schema: edges, columns: [vec![1], vec![2]] }, "edge_score")
        }
        "group" => (assignment::Rule::Group { columns: [vec![1], vec![1]] }, "task_pay + worker_pay"),
        "terms" => (assignment::Rule::Group { columns: [vec![1], vec![1]] }, "task_seats - worker_seats"),
        _ => (assignment::Rule::Spatial { columns: [[3, 4], [3, 4]], radius_m: 600.0, nearest: Some(2) }, "task_pay"),
    };
    let side = |relation: &str, schema: &Schema| assignment::Side {
        relation: relation.to_owned(),
        schema: schema.clone(),
        capacity: capacity.then_some(2),
    };
    let sides = [side("t", &tasks), side("w", &workers)];
    let scale = assignment::Scale::default();
    let step = assignment::Assignment::new(sides, rule, weight, None, scale).unwrap();
    let step = step.with_terms(terms).unwrap().plan();
    Case { name, step, inputs: schemas.into_iter().map(|schema| InputShape { schema, cell }).collect() }
}

#[test]
fn assignment() {
    for capacity in [false, true] {
        check(&assigning("assignment by edges", "edges", capacity), 0..30);
        check(&assigning("assignment by group", "group", capacity), 0..30);
        check(&assigning("assignment with terms", "terms", capacity), 0..30);
        check(&assigning("assignment by distance", "spatial", capacity), 0..30);
    }
}

/// An auction as a pipeline file says it: few nodes, few values, so that ties, refusals and full resources are common.
/// Over events the inputs are streams, that of resources first.
fn auctioning(name: &'static str, events: bool, options: &str) -> Case {
    fn cell(random: &mut Random, schema: &Schema, column: usize) -> Value {
        let odd = random.below(14);
        let number = match (schema.columns[column].name.as_str(), odd) {
            ("request" | "resource", _) => return Value::Int(random.below(6) as i64),
            ("at", _) => return any_cell(random, schema, column),
            ("gone", _) => return random.of(&[Value::Null, Value::Bool(true), Value::Bool(false), Value::Bool(false)]),
            ("kind", 0) => return Value::Null,
            ("kind", _) => return Value::Str(random.of(&["a", "a", "a", "b"]).to_owned()),
            ("user", _) => return random.of(&[Value::Null, Value::Str("u".into()), Value::Str("v".into())]),
            ("reliability_min" | "latency_max", 1..8) => return Value::Null,
            (_, 0) => {
                return random.of(&[Value::Null, Value::Float(f64::NAN), Value::Float(-0.5), Value::Float(1e300)]);
            }
            ("demand", _) => random.of(&[0.0, 1.0 / 3.0, 2.0 / 3.0, 1.0, 0.25]),
            ("budget", _) => random.of(&[0.0, 0.2, 0.5, 1.0, 40.0, 60.0]),
            ("priority", _) => random.of(&[0.0, 3.0, 8.0, 12.0]),
            ("capacity", _) => random.of(&[0.0, 0.5, 0.7, 1.0, 1.4, 2.0]),
            ("cost", _) => random.of(&[0.0, 0.3, 0.5, 0.8]),
            ("x" | "y", _) => random.of(&[-50.0, 0.0, 0.0, 30.0, 170.0]),
            ("latency_max", _) => random.of(&[0.0, 60.0, 100.0]),
            (_, _) => random.of(&[0.5, 0.9, 0.95, 1.0]),
        };
        Value::Float(number)
    }
    let key: &[usize] = if events { &[] } else { &[0] };
    let requests = schema(
        &[
            ("request", Type::Int64),
            ("at", Type::Timestamp),
            ("gone", Type::Bool),
            ("kind", Type::String),
            ("user", Type::String),
            ("demand", Type::Float64),
            ("budget", Type::Float64),
            ("priority", Type::Float64),
            ("reliability_min", Type::Float64),
            ("latency_max", Type::Float64),
            ("x", Type::Float64),
            ("y", Type::Float64),
        ],
        key,
        events,
    );
    let resources = schema(
        &[
            ("resource", Type::Int64),
            ("at", Type::Timestamp),
            ("gone", Type::Bool),
            ("kind", Type::String),
            ("capacity", Type::Float64),
            ("cost", Type::Float64),
            ("reliability", Type::Float64),
            ("energy", Type::Float64),
            ("x", Type::Float64),
            ("y", Type::Float64),
        ],
        key,
        events,
    );
    let step = planned("auction", &format!("requests = \"a\"\nresources = \"b\"\n{options}"), &[&requests, &resources]);
    let shapes = if events { [resources, requests] } else { [requests, resources] };
    Case { name, step, inputs: shapes.map(|schema| InputShape { schema, cell }).into() }
}

/// The plan of a step over relations `a`, `b`, ….
fn planned(operator: &str, options: &str, inputs: &[&Schema]) -> engine::plan::StepPlan {
    let mut text = "name = \"p\"\n".to_owned();
    for (name, schema) in ["a", "b", "c"].iter().zip(inputs) {
        let columns: Vec<String> =
            schema.columns.iter().filter(|c| c.name != SEQ).map(|c| format!("{} = \"{}\"", c.name, c.ty)).collect();
        let keyed = if schema.append_only {
            "event_time = \"at\"".to_owned()
        } else {
            format!("key = \"{}\"", schema.columns[schema.key[0]].name)
        };
        text += &format!(
            "[sources.{name}]\ntype = \"file\"\npath = \"x.csv\"\nformat = \"csv\"\ncolumns = {{ {} }}\n{keyed}\n",
            columns.join(", ")
        );
    }
    text += &format!("[steps.it]\noperator = \"{operator}\"\n{options}");
    let plan = engine::pipeline::load(std::path::Path::new("p.toml"), &text, &|_| None, &operators::catalogue());
    plan.unwrap_or_else(|problems| panic!("{problems}\n{text}")).steps.remove(0).plan
}

const WHOLE_AUCTION: &str = "demand = \"demand\"\nbudget = \"budget\"\npriority = \"priority\"\nrequester = \"user\"\n\
     request_reliability_min = \"reliability_min\"\nrequest_latency_max = \"latency_max\"\nrequest_type = \"kind\"\n\
     capacity = \"capacity\"\ncost = \"cost\"\nreliability = \"reliability\"\nenergy = \"energy\"\n\
     request_x = \"x\"\nrequest_y = \"y\"\nresource_x = \"x\"\nresource_y = \"y\"\n";

const UNIT_AUCTION: &str = "budget = \"budget\"\npriority = \"priority\"\ncapacity = \"capacity\"\ncost = \"cost\"\n\
     reliability = \"reliability\"\n";

const EVENT_AUCTION: &str = "clear = \"events\"\nrequest_key = [\"request\", \"kind\"]\nresource_key = [\"resource\", \"kind\"]\n\
     request_ends = \"gone\"\nresource_ends = \"gone\"\n";

#[test]
fn auction() {
    let table =
        |name, options: &str, seeds| check(&auctioning(name, false, &format!("{WHOLE_AUCTION}{options}")), seeds);
    let units =
        |name, options: &str, seeds| check(&auctioning(name, false, &format!("{UNIT_AUCTION}{options}")), seeds);
    table("greedy auction", "", 0..60);
    table("greedy auction as published", "as_published = true", 0..30);
    units("greedy auction of units", "scale = 0.001", 0..30);
    table("auction one to one", "mechanism = \"one_to_one\"", 0..40);
    table("auction with prices", "price_rounds = 4\nprice_step = 0.7\nprice_max = 3", 0..40);
    table("exclusive with prices", "mechanism = \"one_to_one\"\nprice_rounds = 2\nprice_step = 2", 0..20);
    table("clustered auction", "clusters = 2", 0..40);
    table("optimal auction", "mechanism = \"optimal\"\ndual_rounds = 30", 0..40);
    table("optimal clustered auction", "mechanism = \"optimal\"\nclusters = 3", 0..20);
    table("optimal exclusive auction", "mechanism = \"optimal\"\nexclusive = true", 0..30);
    units("optimal auction of units", "mechanism = \"optimal\"", 0..30);
}

#[test]
fn auction_payments() {
    let table = |name, options: &str| check(&auctioning(name, false, &format!("{WHOLE_AUCTION}{options}")), 0..12);
    let units = |name, options: &str| check(&auctioning(name, false, &format!("{UNIT_AUCTION}{options}")), 0..12);
    table("critical payments", "payments = \"critical_value\"");
    table("exclusive critical payments", "mechanism = \"one_to_one\"\npayments = \"critical_value\"");
    table("vickrey auction", "mechanism = \"optimal\"\nexclusive = true\npayments = \"vcg\"");
    units("vickrey auction of units", "mechanism = \"optimal\"\npayments = \"vcg\"");
}

#[test]
fn auction_of_events() {
    let events = |name, options: &str, seeds| {
        check(&auctioning(name, true, &format!("{WHOLE_AUCTION}{EVENT_AUCTION}{options}")), seeds);
    };
    events("events", "", 0..40);
    events("events with inertia", "switching_cost = 0.05", 0..40);
    events("events and rejection", "switching_cost = 0.5\non_conflict = \"reject\"", 0..40);
    events("events and waiting", "switching_cost = 0.02\non_conflict = \"wait\"", 0..60);
    events("events and prices", "switching_cost = 0.02\nprice_every_secs = 0.000004\nprice_step = 0.3", 0..40);
    events("exclusive events", "mechanism = \"one_to_one\"\nswitching_cost = 0.02\non_conflict = \"wait\"", 0..30);
    events("events as published", "as_published = true\nswitching_cost = 0.1", 0..20);
}

/// The events of a small fleet: few drivers, orders, places and cells, so that everything meets.
fn fleet_cell(random: &mut Random, schema: &Schema, column: usize) -> Value {
    let odd = random.below(16);
    match (schema.columns[column].name.as_str(), odd) {
        ("at", _) => any_cell(random, schema, column),
        ("city", _) => Value::Int(random.below(2) as i64),
        ("driver" | "order" | "event" | "cell" | "zone" | "x", 0) => Value::Null,
        ("driver" | "order", _) => Value::Int(random.below(4) as i64),
        ("event", 1) => Value::Str("?".to_owned()),
        ("event", _) if schema.index_of("order").is_some() => {
            Value::Str(random.of(&["created", "created", "created", "created", "cancelled", "expired"]).to_owned())
        }
        ("event", _) => Value::Str(random.of(&["online", "online", "free", "busy", "offline", "position"]).to_owned()),
        ("zone", _) => Value::Int(random.below(4) as i64),
        ("cell", _) => Value::Str(random.of(&["0", "1", "2", "3", "~0,0", "~1,0", "~0,1"]).to_owned()),
        ("x" | "y", _) => Value::Float(random.of(&[0.0, 0.0, 50.0, 100.0, 350.0])),
        ("reward" | "value" | "demand", 0) => Value::Float(random.of(&[f64::NAN, f64::INFINITY, 1e308, -1e9, -1e308])),
        ("reward" | "value", _) => Value::Float(random.of(&[0.0, 1.0, 1.0, 2.5, 4.0, -1.0])),
        ("demand", _) => Value::Float(random.of(&[0.0, 1.0, 3.0])),
        (_, 0) => Value::Float(random.of(&[f64::NAN, -1.0, f64::INFINITY, 1e10])),
        ("patience", _) => Value::Float(random.of(&[0.0, 0.000_003, 0.000_01, 0.000_2])),
        (_, _) => Value::Float(random.of(&[0.0, 100.0, 700.0])),
    }
}

/// A step over the streams of a fleet; which of them it reads it says itself.
fn fleet(name: &'static str, operator: &str, options: &str, streams: &[&[(&str, Type)]]) -> Case {
    let mut schemas: Vec<Schema> = streams.iter().map(|columns| schema(columns, &[], true)).collect();
    for schema in &mut schemas {
        let time = schema.event_time.expect("a stream");
        schema.columns[time].nullable = false;
    }
    let step = planned(operator, options, &schemas.iter().collect::<Vec<_>>());
    Case { name, step, inputs: schemas.into_iter().map(|schema| InputShape { schema, cell: fleet_cell }).collect() }
}

const FLEET_DRIVERS: &[(&str, Type)] = &[
    ("at", Type::Timestamp),
    ("city", Type::Int64),
    ("driver", Type::Int64),
    ("event", Type::String),
    ("x", Type::Float64),
    ("y", Type::Float64),
    ("zone", Type::Int64),
];
const FLEET_ORDERS: &[(&str, Type)] = &[
    ("at", Type::Timestamp),
    ("city", Type::Int64),
    ("order", Type::Int64),
    ("event", Type::String),
    ("x", Type::Float64),
    ("y", Type::Float64),
    ("zone", Type::Int64),
    ("reward", Type::Float64),
    ("secs", Type::Float64),
    ("patience", Type::Float64),
];
const FLEET_VALUES: &[(&str, Type)] =
    &[("at", Type::Timestamp), ("city", Type::Int64), ("cell", Type::String), ("value", Type::Float64)];
const FLEET_CELLS: &[(&str, Type)] = &[
    ("at", Type::Timestamp),
    ("city", Type::Int64),
    ("zone", Type::Int64),
    ("x", Type::Float64),
    ("y", Type::Float64),
    ("demand", Type::Float64),
];

#[test]
fn dispatch() {
    let all = "drivers = \"a\"\norders = \"b\"\ndriver = \"driver\"\ndriver_event = \"event\"\ndriver_x = \"x\"\n\
         driver_y = \"y\"\norder = \"order\"\norder_event = \"event\"\npickup_x = \"x\"\npickup_y = \"y\"\n\
         round_secs = 0.000004\nradius_m = 300.0\npatience_secs = \"patience\"\n";
    let valued = "values_input = \"c\"\ndriver_cell = \"zone\"\ndestination_cell = [\"zone\"]\n\
         reward = \"reward\"\ntrip_secs = \"secs\"\n";
    let near_sighted = |name, options: &str| {
        let options = format!("{all}{options}");
        check(&fleet(name, "dispatch", &options, &[FLEET_DRIVERS, FLEET_ORDERS]), 0..25);
    };
    let far_sighted = |name, options: &str| {
        let options = format!("{all}{valued}{options}");
        check(&fleet(name, "dispatch", &options, &[FLEET_DRIVERS, FLEET_ORDERS, FLEET_VALUES]), 0..25);
    };
    near_sighted("dispatch to the nearest", "policy = \"nearest\"");
    near_sighted("dispatch by fees", "policy = \"myopic\"\nreward = \"reward\"\nnearest = 2");
    far_sighted("dispatch by v1d3", "");
    far_sighted("dispatch by xu", "policy = \"xu\"\nnearest = 1");
    far_sighted(
        "dispatch by tiles",
        "policy = \"polar_bear\"\ntile_size = 100.0\ndestination_x = \"x\"\ndestination_y = \"y\"\nvalues_initial = 0.5",
    );
    far_sighted("dispatch by cities", "market = \"city\"");
}

#[test]
fn reposition() {
    let all = "cells = \"a\"\ndrivers = \"b\"\nvalues_input = \"c\"\ncell = \"zone\"\ncell_x = \"x\"\ncell_y = \"y\"\n\
         cell_demand = \"demand\"\ndriver = \"driver\"\ndriver_event = \"event\"\ndriver_x = \"x\"\ndriver_y = \"y\"\n\
         driver_cell = \"zone\"\nevery_secs = 0.000004\nidle_secs = 0.00001\nreach_m = 300.0\n";
    let moving = |name, options: &str| {
        let options = format!("{all}{options}");
        check(&fleet(name, "reposition", &options, &[FLEET_CELLS, FLEET_DRIVERS, FLEET_VALUES]), 0..25);
    };
    moving("reposition", "");
    moving("reposition of an aware fleet", "fleet_aware = true\ntemperature = 0.3\nseed = 7\nnearest = 2");
    moving("reposition by tiles", "tile_size = 100.0\nvalues_initial = 0.5");
    moving("reposition by cities", "market = [\"city\"]");
}

#[test]
fn no_operator_is_forgotten() {
    let held = ["select", "aggregate", "join", "top", "assignment", "auction", "td_value", "dispatch", "reposition"];
    for operator in operators::catalogue().operators {
        assert!(held.contains(&operator.name), "`{}` is held to no model: add its cases here", operator.name);
    }
}
