//! Every operator equals its model at every epoch: on 1, 2 and 4 workers, in other epochs, across restarts.

mod harness;

#[path = "cases/fleet.rs"]
mod fleet;
#[path = "cases/value.rs"]
mod value;

use harness::{Case, InputShape, Random, any_cell, check};
use operators::expression::Expression;
use operators::{aggregate, assignment, join, select, top};
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
    let plan = engine::pipeline::load(std::path::Path::new("p.toml"), &text, &|_| None, &catalogue::all());
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

/// A venue's records: two instruments, few prices and numbers, so that books come, cross, break and are made whole.
fn booking(name: &'static str, is_l3: bool, options: &str) -> Case {
    thread_local! {
        // A side and a price must fit each other, and so must the numbers of a message, or no book would ever live.
        static SIDE: std::cell::Cell<bool> = const { std::cell::Cell::new(false) };
        static NEXT: std::cell::Cell<i64> = const { std::cell::Cell::new(3) };
    }
    fn cell(random: &mut Random, schema: &Schema, column: usize) -> Value {
        let text = |text: &str| Value::Str(text.to_owned());
        let odd = random.below(40) == 0;
        match schema.columns[column].name.as_str() {
            "symbol" if odd => Value::Null,
            "symbol" => text(random.of(&["x", "x", "y"])),
            "kind" if odd => random.of(&[Value::Null, text("?")]),
            "kind" => text(random.of(&["s", "d", "d", "d", "d", "q", "q", "t", "h", "r", "r", "r", "r", "i"])),
            "action" if odd => random.of(&[Value::Null, text("?"), text("h")]),
            "action" => text(random.of(&["s", "a", "a", "a", "-", "x", "e", "v", "=", "=", "t", "r"])),
            "message" => random.of(&[Value::Null, Value::Int(1), Value::Int(2)]),
            "side" if odd => random.of(&[Value::Null, text("?")]),
            "side" => {
                SIDE.set(random.below(2) == 0);
                text(if SIDE.get() { "b" } else { "a" })
            }
            "price" if odd => Value::Float(random.of(&[f64::NAN, -1.0, 0.0, f64::INFINITY, 0.125])),
            "price" => Value::Float(random.below(9) as f64 * 0.25 + if SIDE.get() { 1.0 } else { 2.75 }),
            "size" if odd => random.of(&[Value::Null, Value::Float(-2.0), Value::Float(f64::NAN), Value::Float(1e-9)]),
            "size" => Value::Float(random.of(&[0.0, 0.1, 0.3, 1.0, 2.5])),
            "first" if odd => Value::Null,
            "first" => Value::Int(NEXT.get() + i64::from(random.below(4) == 0)),
            "last" if odd => random.of(&[Value::Null, Value::Int(-7)]),
            "last" => {
                NEXT.set(NEXT.get() + random.of(&[1, 1, 1, 2, -1, 0]));
                Value::Int(NEXT.get() - 1 + i64::from(random.below(5) == 0))
            }
            "previous" => Value::Int(NEXT.get() - 1 - i64::from(random.below(4) == 0)),
            "id" if odd => Value::Null,
            "id" => Value::Int(random.below(7) as i64),
            "maker" => random.of(&[Value::Null, Value::Bool(true), Value::Bool(false)]),
            column if column.starts_with("bid") => Value::Float(random.of(&[1.0, 1.25, 1.5])),
            column if column.starts_with("ask") => Value::Float(random.of(&[3.0, 3.25, 3.5])),
            column if column.starts_with("size") => Value::Float(random.of(&[0.0, 0.1, 0.3, 1.0])),
            _ => any_cell(random, schema, column),
        }
    }
    let kind = if is_l3 { "action" } else { "kind" };
    let shape = schema(
        &[
            ("at", Type::Timestamp),
            ("symbol", Type::String),
            (kind, Type::String),
            ("message", Type::Int64),
            ("side", Type::String),
            ("price", Type::Float64),
            ("size", Type::Float64),
            ("first", Type::Int64),
            ("last", Type::Int64),
            ("previous", Type::Int64),
            ("id", Type::Int64),
            ("maker", Type::Bool),
            ("bid", Type::Float64),
            ("size_b", Type::Float64),
            ("ask", Type::Float64),
            ("size_a", Type::Float64),
        ],
        &[],
        true,
    );
    let common = r#"
        input = "a"
        side = "side"
        sides = { bid = "b", ask = "a" }
        price = "price"
        size = "size"
        message = "message"
        first_update = "first"
        last_update = "last"
        previous_update = "previous"
        trade_id = "id"
        buyer_is_maker = "maker"
        levels = 3
    "#;
    let levels = r#"
        format = "l2"
        kind = "kind"
        kinds = { snapshot = "s", depth = "d", quote = "q", trade = "t", halt = "h", resume = "r", ignore = "i" }
    "#;
    let form = if is_l3 { "format = \"l3\"\nkind = \"action\"\n" } else { levels };
    let step = planned("order_book", &format!("{common}{form}{options}"), &[&shape]);
    Case { name, step, inputs: vec![InputShape { schema: shape, cell }] }
}

#[test]
fn order_book_of_levels() {
    let by = "instrument = \"symbol\"\n";
    let check = |name, options: &str, seeds| check(&booking(name, false, options), seeds);
    check("levels without numbers", by, 0..60);
    check("one book from nothing", "start = \"empty\"\ntick = 0.25\n", 0..60);
    check("levels that heal", "crossed = \"heal\"\nstart = \"empty\"\ntrade_ids = \"increasing\"\n", 0..40);
    check("levels of a spot market", "sequence = \"binance_spot\"\nbuffer = 3\ntrade_ids = \"contiguous\"\n", 0..150);
    check("spot by symbol", &format!("{by}sequence = \"binance_spot\"\ncrossed = \"heal\"\n"), 0..100);
    check("levels of futures", "sequence = \"binance_futures\"\nbuffer = 5\n", 0..150);
    check("one after the other", "sequence = \"contiguous\"\nbuffer = 0\ncrossed = \"heal\"\n", 0..60);
}

#[test]
fn order_book_of_orders() {
    let words = r#"
        kinds = { snapshot = "s", add = "a", reduce = "-", delete = "x", execute = "e", execute_hidden = "v", set_remaining = "=", trade = "t", halt = "h", resume = "r" }
        order = "id"
    "#;
    let check = |name, options: &str, seeds| check(&booking(name, true, options), seeds);
    check("orders", words, 0..100);
    check("orders in tenths", &format!("{words}lot = 0.1\ncrossed = \"heal\"\n"), 0..60);
    let loose = "instrument = \"symbol\"\nstrict = false\ncrossed = \"heal\"\n";
    check("orders by symbol", &format!("{words}{loose}"), 0..100);
    check("orders in loose order", &format!("{words}strict = false\nstart = \"snapshot\"\n"), 0..60);
    check("orders with numbers", &format!("{words}sequence = \"contiguous\"\ncrossed = \"heal\"\n"), 0..100);
    let words = r#"
        kinds = { add = "a", reduce = "-", delete = "x", execute = "e", execute_hidden = "v", trade = "t", halt = "h", resume = "r|s", ignore = "=" }
    "#;
    check("orders at their levels", words, 0..60);
    let recorded = r#"
        recorded = { bid_price = ["bid"], bid_size = ["size_b"], ask_price = ["ask"], ask_size = ["size_a"] }
    "#;
    check("levels recorded", &format!("{words}{recorded}"), 0..100);
}

/// Ticks of a few instruments as an `order_book` tells them: few prices, so that levels come, go and stand still; a few that
/// must be refused; books that are not healthy.
fn featuring(name: &'static str, options: &str) -> Case {
    fn cell(random: &mut Random, schema: &Schema, column: usize) -> Value {
        let name = schema.columns[column].name.as_str();
        // Seldom a cell that makes the row a fault.
        if random.below(400) == 0 && name.starts_with(['b', 'a', 't']) && name != "at" && name != "trade_side" {
            return random.of(&[
                Value::Null,
                Value::Float(f64::NAN),
                Value::Float(-1.0),
                Value::Float(f64::INFINITY),
                Value::Float(1e300),
                Value::Float(0.0),
            ]);
        }
        let size = |random: &mut Random| Value::Float(random.of(&[0.1, 0.2, 0.3, 1.0, 2.5, 1e-7, 100.0, 0.0]));
        match name {
            "name" => random.of(&[Value::Str("x".into()), Value::Str("y".into()), Value::Str("y".into()), Value::Null]),
            "healthy" => {
                if random.below(25) == 0 {
                    random.of(&[Value::Bool(false), Value::Null])
                } else {
                    Value::Bool(true)
                }
            }
            "bid_price_1" => Value::Float(random.of(&[99.9, 99.95, 99.97])),
            "bid_price_2" => Value::Float(random.of(&[99.7, 99.8, 99.8])),
            "ask_price_1" => Value::Float(random.of(&[100.05, 100.1, 100.15])),
            "ask_price_2" => Value::Float(random.of(&[100.3, 100.3, 101.0])),
            "trade_side" => random.of(&[Value::Int(1), Value::Int(-1), Value::Null]),
            "trade_price" => Value::Float(random.of(&[99.95, 100.0, 100.05, 100.1])),
            "at" => any_cell(random, schema, column),
            _ => size(random),
        }
    }
    thread_local! {
        // Price and size of a trade, and of a level, are there together: the price, which comes first, says whether.
        static IS_TRADE: std::cell::Cell<bool> = const { std::cell::Cell::new(false) };
        static LEVELS: std::cell::Cell<[usize; 2]> = const { std::cell::Cell::new([2; 2]) };
    }
    fn sparse(random: &mut Random, schema: &Schema, column: usize) -> Value {
        let name = schema.columns[column].name.as_str();
        let side = usize::from(name.starts_with("ask"));
        match name {
            "trade_price" => IS_TRADE.set(random.below(2) == 0),
            "bid_price_1" | "ask_price_1" => {
                let mut levels = LEVELS.get();
                levels[side] = random.of(&[0, 1, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2]);
                LEVELS.set(levels);
            }
            "bid_added" | "ask_removed" if random.below(2) == 0 => return Value::Null,
            _ => {}
        }
        let is_level = name.contains("_price_") || name.contains("_size_");
        match name {
            "trade_price" | "trade_size" | "trade_side" if !IS_TRADE.get() => Value::Null,
            _ if is_level && name.ends_with(|c| c as usize > LEVELS.get()[side] + '0' as usize) => Value::Null,
            _ => cell(random, schema, column),
        }
    }
    let number = |name| (name, Type::Float64);
    let mut columns = vec![("name", Type::String), ("at", Type::Timestamp), ("healthy", Type::Bool)];
    columns.extend(["bid_price_1", "bid_size_1", "ask_price_1", "ask_size_1"].map(number));
    columns.extend(["bid_price_2", "bid_size_2", "ask_price_2", "ask_size_2"].map(number));
    columns.extend(["trade_price", "trade_size"].map(number));
    columns.push(("trade_side", Type::Int64));
    columns.extend(["bid_added", "bid_removed", "ask_added", "ask_removed"].map(number));
    let ticks = schema(&columns, &[], true);
    let step = planned("features", &format!("input = \"a\"\ninstrument = \"name\"\n{options}"), &[&ticks]);
    Case { name, step, inputs: vec![InputShape { schema: ticks, cell: sparse }] }
}

/// Every kind, with windows and half-lives of ticks and of the few microseconds that such a history lasts.
const EVERY_FEATURE: &str = r#"features = [
    "mid_price", "quoted_spread", "relative_spread", "weighted_mid(1)", "weighted_mid_deviation(2)", "imbalance(1)",
    "imbalance(2)", "level_imbalance(2)", "pressure(2)", "depth(bid, 1)", "depth(ask, 2)", "slope(bid, 2)",
    "slope(ask, 1)", "slope_imbalance(2)", "gap(bid, 1)", "gap(ask, 1)", "depletion(bid)", "depletion(ask)",
    "ofi(1, 3)", "ofi(2, 9us)", "level_ofi(2, 4)", "normalised_ofi(2, 3)", "normalised_ofi(1, 12us)", "ew_ofi(1, 3)",
    "ew_ofi(2, 7us)", "trade_flow(4)", "trade_flow(11us)", "trade_volume(3)", "trade_imbalance(5)", "ew_trade_flow(2)",
    "ew_trade_flow(5us)", "vwap_deviation(4)", "vwap_deviation(900us)", "added(bid, 3)", "added(ask, 8us)",
    "removed(bid, 6us)", "removed(ask, 2)", "flow_imbalance(3)", "count(quote, 4)", "count(move, 10us)",
    "count(arrival, 2)", "intensity(tick, 6us)", "intensity(buy, 1ms)", "intensity(cancel, 6us)", "since(tick)",
    "since(trade)", "since(sell)", "since(quote)", "since(move)", "price_run", "trade_run", "return(1)", "return(3)",
    "return(10us)", "return(1ms)", "volatility(4)", "volatility(15us)", "ew_volatility(3)", "ew_volatility(9us)",
    "bipower(3)", "jump_share(5)", "jump_share(1ms)", "range(4)", "range(12us)", "position(3)", "position(8us)",
    "kyle_lambda(2, 4)", "kyle_lambda(7us, 9us)", "ofi_lambda(2, 2, 3)", "roll_spread(3)", "effective_spread(4)",
    "effective_spread(1ms)", "autocorrelation(1, 3)", "autocorrelation(5us, 9us)", "sign_autocorrelation(3)",
    "mean(imbalance(1), 4)", "mean(since(trade), 9us)", "ew(depletion(bid), 3)", "zscore(relative_spread, 3)",
    "zscore(ofi(1, 2), 9us)", "change(imbalance(2), 2)", "change(zscore(depth(bid, 1), 2), 8us)",
]
"#;

#[test]
fn features() {
    check(&featuring("every feature", EVERY_FEATURE), 0..25);
    check(&featuring("the standard features", ""), 0..10);
    let few = "features = { a = \"ofi(2, 3)\", b = \"return(7us)\" }\n";
    check(&featuring("features by trades", &format!("{few}clock = \"trade\"\nclock_every = 3")), 0..10);
    check(&featuring("features by ticks", &format!("{few}clock_every = 4")), 0..10);
    check(&featuring("features by volume", &format!("{few}clock = \"volume\"\nclock_every = 2.5")), 0..10);
    check(&featuring("features by time", &format!("{few}clock = \"time\"\nclock_every = 0.000005")), 0..10);
    let behind = "leader = \"x\"\nfeatures = [\"imbalance(1)\", \"leader(imbalance(1))\", \"leader(return(3))\", \"basis\", \
        \"zscore(basis, 4)\", \"leader(ofi(2, 9us))\", \"ew(leader(ew_ofi(1, 2)), 3)\", \"change(leader(mid_price), 6us)\"]";
    check(&featuring("features behind a leader", behind), 0..25);
}

/// Vectors of few features: some that move together, one that never varies, wild values, gaps, prices that are missing.
fn choosing(name: &'static str, options: &str) -> Case {
    fn cell(random: &mut Random, schema: &Schema, column: usize) -> Value {
        let odd = random.below(16);
        let name = schema.columns[column].name.as_str();
        match (name, odd) {
            ("at", _) => any_cell(random, schema, column),
            ("instrument", _) => random.of(&[Value::Null, Value::Str("x".into()), Value::Str("x".into())]),
            ("mid", 0) => random.of(&[Value::Null, Value::Float(f64::NAN), Value::Float(0.0), Value::Float(1e300)]),
            ("mid", _) => Value::Float(100.0 + random.below(5) as f64),
            ("spread", 0) => random.of(&[Value::Null, Value::Float(-1.0), Value::Float(f64::INFINITY)]),
            ("spread", _) => Value::Float(random.of(&[0.0, 1.0, 2.0])),
            ("n", 0) => random.of(&[Value::Null, Value::Int(i64::MAX)]),
            ("n", _) => Value::Int(random.below(4) as i64),
            (_, 0) => random.of(&[
                Value::Null,
                Value::Float(f64::NAN),
                Value::Float(f64::NEG_INFINITY),
                Value::Float(f64::MAX),
                Value::Float(1e110),
                Value::Float(-0.0),
            ]),
            ("still", _) => Value::Float(0.1),
            ("rare", 1..12) => Value::Null,
            ("coarse" | "rare", _) => Value::Float(random.below(3) as f64 - 1.0),
            _ => Value::Float(random.below(1000) as f64 * 1e-3),
        }
    }
    let columns = [
        ("at", Type::Timestamp),
        ("instrument", Type::String),
        ("mid", Type::Float64),
        ("spread", Type::Float64),
        ("fine", Type::Float64),
        ("coarse", Type::Float64),
        ("still", Type::Float64),
        ("rare", Type::Float64),
        ("other", Type::Float64),
        ("n", Type::Int64),
    ];
    let mut schema = schema(&columns, &[], true);
    schema.columns[0].nullable = false;
    let step = planned("feature_selection", &format!("input = \"a\"\n{options}"), &[&schema]);
    Case { name, step, inputs: vec![InputShape { schema, cell }] }
}

#[test]
fn feature_selection() {
    let small = "reselect_every_events = 7\nfeatures_max = 2\nhysteresis = 1\nclusters = 3\nbins = 4\n";
    let check = |name, options: &str, seeds| check(&choosing(name, &format!("{small}{options}")), seeds);
    check(
        "selection",
        "instrument = [\"instrument\"]\nhalf_life_events = 20\nwarmup_events = 10\nhorizon_events = 3\n",
        0..30,
    );
    check(
        "selection of one",
        "half_life_events = 9\nwarmup_events = 1\nhorizon_events = 1\nthreshold_unit = \"relative\"\nthreshold = 0.01",
        0..20,
    );
    check(
        "selection by rank average",
        "half_life_events = 50\nwarmup_events = 30\nhorizon_events = 2\nscore = \"rank_average\"\n\
         threshold = 0.5\nfeatures = [\"fine\", \"coarse\", \"mid\", \"spread\", \"n\"]",
        0..20,
    );
    check(
        "selection with drift",
        "half_life_events = 30\nwarmup_events = 14\nhorizon_events = 4\nlabel_every_events = 3\nseed = -5\n\
         correlation_max = 0.1\ndrift = \"page_hinkley\"\npage_hinkley_threshold = 0.3\ndrift_half_lives = 1",
        0..30,
    );
    check(
        "selection that drifts",
        "half_life_events = 30\nwarmup_events = 10\nhorizon_events = 1\nthreshold_unit = \"relative\"\n\
         drift = \"page_hinkley\"\npage_hinkley_tolerance = 0\npage_hinkley_threshold = 0.1",
        0..30,
    );
    check(
        "selection of what is significant",
        "half_life_events = 1\nwarmup_events = 7\nhorizon_events = 1\nsignificance = 0.5\ncorrelation_max = 0.3\n\
         adwin_delta = 1\ninstrument = [\"coarse\"]\nfeatures = [\"fine\", \"other\", \"n\"]",
        0..20,
    );
    check(
        "selection that is not watched",
        "half_life_events = 5\nwarmup_events = 20\nhorizon_events = 8\nlabel_every_events = 4\ndrift = \"none\"",
        0..10,
    );
}

const SMALL_NETWORK: &str = "horizons = [1, 3]\nwindow = 2\nkernel = 2\nchannels = 4\n\
     prune_after = 1\nprune_until = 4\nprune_every = 1\nregrow = 0.2\nhalf_life_events = 5\n";

/// A model over vectors, and changes if features are selected: few instruments, few prices, some rows that are refused.
fn predicting(name: &'static str, is_selected: bool, options: &str) -> Case {
    fn cell(random: &mut Random, schema: &Schema, column: usize) -> Value {
        match (schema.columns[column].name.as_str(), random.below(20)) {
            ("at" | "entered", _) => any_cell(random, schema, column),
            ("symbol", 0) => Value::Null,
            ("symbol", _) => Value::Str(random.of(&["a", "a", "a", "b"]).to_owned()),
            ("feature", 0) => Value::Null,
            ("feature", _) => Value::Str(random.of(&["f", "g", "h", "f", "g", "h", "mid"]).to_owned()),
            ("selection", 0) => Value::Null,
            ("selection", _) => Value::Int(random.below(3) as i64),
            ("mid", 0) => random.of(&[Value::Null, Value::Float(0.0), Value::Float(-1.0), Value::Float(f64::NAN)]),
            ("mid", _) => Value::Float(100.0 + random.below(5) as f64 * 0.01),
            ("spread", 0) => random.of(&[Value::Null, Value::Float(-0.5), Value::Float(f64::INFINITY)]),
            ("spread", _) => Value::Float(random.of(&[0.0, 0.01, 0.02])),
            (_, 0) => any_cell(random, schema, column),
            (_, 1) => Value::Null,
            ("h", _) => Value::Int(random.below(7) as i64 - 2),
            _ => Value::Float(random.of(&[0.0, -0.0, 1.5, -2.25, 0.1, 0.2, 1e14, -1e-12])),
        }
    }
    let changes = schema(
        &[
            ("at", Type::Timestamp),
            ("symbol", Type::String),
            ("feature", Type::String),
            ("entered", Type::Bool),
            ("selection", Type::Int64),
        ],
        &[],
        true,
    );
    let vectors = schema(
        &[
            ("at", Type::Timestamp),
            ("symbol", Type::String),
            ("mid", Type::Float64),
            ("spread", Type::Float64),
            ("f", Type::Float64),
            ("g", Type::Float64),
            ("h", Type::Int64),
        ],
        &[],
        true,
    );
    let options = format!("features = [\"f\", \"g\", \"h\"]\n{SMALL_NETWORK}{options}");
    let (step, schemas) = if is_selected {
        let options = format!("changes_input = \"a\"\ninput = \"b\"\nslots = 2\n{options}");
        (planned("online_model", &options, &[&changes, &vectors]), vec![changes, vectors])
    } else {
        (planned("online_model", &format!("input = \"a\"\n{options}"), &[&vectors]), vec![vectors])
    };
    Case { name, step, inputs: schemas.into_iter().map(|schema| InputShape { schema, cell }).collect() }
}

#[test]
fn online_model() {
    let quick = "batch = 3\ntrain_every = 2\n";
    let by = format!("{quick}instrument = \"symbol\"\n");
    let one = format!("{quick}dilation = 1\nfilters = 1\nblocks = 1");
    check(&predicting("online model", false, &by), 0..30);
    check(&predicting("online model of one instrument", false, &one), 0..20);
    check(&predicting("online model of a selection", true, &format!("{by}filters = 3")), 0..40);
    let slow = "batch = 2\ntrain_every = 7\nthreshold_unit = \"relative\"\nthreshold = 0.0001";
    check(&predicting("online model learning slowly", true, slow), 0..20);
}

#[test]
fn no_operator_is_forgotten() {
    let held = [
        "select",
        "aggregate",
        "join",
        "top",
        "assignment",
        "auction",
        "td_value",
        "order_book",
        "features",
        "feature_selection",
        "online_model",
        "dispatch",
        "reposition",
    ];
    for operator in catalogue::all().operators {
        assert!(held.contains(&operator.name), "`{}` is held to no model: add its cases here", operator.name);
    }
}
