//! `assignment`: who serves which task, optimal at every epoch, with the prices that prove it.
//!
//! Rows become candidate pairs and pairs become weighted edges ([`candidates`]); the [`solver`] keeps the optimal
//! matching, its prices and its certificates; here the three become views. [`model`] says it all again, plainly.

mod candidates;
pub mod model;
pub mod solver;

use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray};
use engine::catalogue::{OperatorDef, OptionDef, Relations};
use engine::operator::{Context, StepKind, TableOperator};
use engine::pipeline::Section;
use engine::plan::{Route, StepInput, StepOutput, StepPlan};
use smallvec::SmallVec;
use types::{Column, Delta, RowCodec, Schema, Type, Value};

use crate::expression::Expression;
use crate::key_text::key_text;
use candidates::Candidates;
use solver::{Certificate, LEFT, RIGHT, Solver, TERM_MAX, WEIGHT_MAX};

/// The prefixes of the columns of a pair: of the task, of the worker, of the edge row.
const SIDES: [&str; 3] = ["task", "worker", "edge"];
/// The options that hold the terms of tasks and of workers.
const TERMS: [&str; 2] = ["task_term", "worker_term"];
/// The name of the distance of a pair.
const DISTANCE: &str = "distance_m";

/// The catalogue's entry.
pub(crate) const DEF: OperatorDef = OperatorDef {
    name: "assignment",
    summary: "Maintains an optimal assignment of workers to tasks, with prices that prove it.",
    doc: "\
Among all ways to match tasks with workers, pair by candidate pair and no node beyond its capacity, one of the greatest
total weight: exact at every epoch. A pair of weight 0 or less is never matched, and a node may stay unmatched. With
capacities above 1 a pair may be matched more than once (a transportation problem); `count` says how often.

**Candidates.** `edges`: the pairs a relation lists; of several rows for one pair the heaviest counts; a row whose task
or worker is not there waits. `group`: all pairs whose group columns are equal (null equals nothing). `spatial`: all
pairs within `radius_m` on the globe (haversine, sphere of 6,371,008.8 m), and with `nearest` only each task's nearest
workers among those that take part and meet `where`, ties by the worker's key. A row whose coordinates are null, NaN or
beyond ±90 and ±180 degrees has no candidates; nor has one whose capacity is null or below 1. Capacities above 2^40
count as 2^40.

**Expressions** see a pair as one row: `task_…` and `worker_…` columns, for `edges` also `edge_…`, for `spatial`
`distance_m`. A pair is a candidate where `where` is true (null or an error is not). Weights are rounded to multiples of
`scale`, half to even. A null weight makes no candidate; one that cannot be computed, is NaN, infinite or beyond 2^53
multiples of `scale` is refused; `thalweg_step_value` under the name `pairs_refused` says how many there are, and under
`pairs_weighed` how many pairs the last epoch weighed: those of which a column changed that an expression reads.

**Terms.** What belongs to one node alone, such as the value of the place a worker would leave, may stand apart in
`task_term` and `worker_term`: the weight of a pair is `weight` and the terms of its two nodes, each rounded by itself. A
term that changes costs no look at the node's pairs. A row whose term is null, cannot be computed or is beyond 2^51
multiples of `scale` takes no part, and with terms the bound of `weight` is 2^52.

**Views.** The step itself: one row a matched pair, keyed by both keys, with `weight` (of one match), `count` if a
capacity column is given, `distance_m` for `spatial`. `prices`: one row a node with at least one edge; `node` is its key
as text (a JSON list if the key has several columns). `certificate`: one row a connected component, named by the least
task key in it. A candidate pair is an edge if it has a positive weight; with terms, whatever its weight.

**Certificate.** For every candidate pair price(task) + price(worker) ≥ weight, prices are at least 0, and the sum of
capacity × price over a component equals the weight of its matches: no assignment can be better (duality of the
transportation problem). So `gap` is 0, always. All of these are multiples of `scale` shown as floats: who checks them
divides by `scale` and rounds to whole numbers first, and then every comparison is exact.

**Ties.** Among optimal assignments the one that is lexicographically greatest in the order of (task key, worker key):
the first task gets as much as any optimum allows of its first worker, and so on. Among optimal prices those with every
worker price least, which is what one more unit of that worker would add. Neither depends on history.

Solved by successive shortest augmenting paths on warm duals (Kuhn 1955; Munkres 1957; Edmonds and Karp 1972), only in
the components a change touches. Where many optima are equal, a change costs what all nodes that can be on a cycle of
equal pairs with it do, not the nodes it touches alone: coarse weights in a large component make that many.",
    options: &[
        OptionDef { name: "tasks", shape: "relation", default: None, doc: "The tasks: one row each." },
        OptionDef { name: "workers", shape: "relation", default: None, doc: "The workers: one row each." },
        OptionDef {
            name: "candidates",
            shape: "`edges`, `group` or `spatial`",
            default: None,
            doc: "Which pairs may be matched.",
        },
        OptionDef {
            name: "weight",
            shape: "expression of a numeric type",
            default: None,
            doc: "What a pair is worth, over `task_…`, `worker_…`, `edge_…` and `distance_m`.",
        },
        OptionDef {
            name: "task_term",
            shape: "expression of a numeric type",
            default: Some("none"),
            doc: "What every pair of a task is worth beyond `weight`, over `task_…`.",
        },
        OptionDef {
            name: "worker_term",
            shape: "expression of a numeric type",
            default: Some("none"),
            doc: "What every pair of a worker is worth beyond `weight`, over `worker_…`.",
        },
        OptionDef {
            name: "where",
            shape: "expression of type bool",
            default: Some("every pair"),
            doc: "A condition a pair must meet, over the same columns.",
        },
        OptionDef {
            name: "edges",
            shape: "relation",
            default: Some("none"),
            doc: "For `edges`: the relation that lists the pairs.",
        },
        OptionDef {
            name: "edge_task",
            shape: "list of column names",
            default: Some("none"),
            doc: "For `edges`: its columns that hold the task's key, in key order.",
        },
        OptionDef {
            name: "edge_worker",
            shape: "list of column names",
            default: Some("none"),
            doc: "For `edges`: its columns that hold the worker's key, in key order.",
        },
        OptionDef {
            name: "task_group",
            shape: "list of column names",
            default: Some("none"),
            doc: "For `group`: the columns of tasks that must equal those of workers.",
        },
        OptionDef {
            name: "worker_group",
            shape: "list of column names",
            default: Some("as `task_group`"),
            doc: "For `group`: the columns of workers, in the same order and of the same types.",
        },
        OptionDef {
            name: "task_lat",
            shape: "column",
            default: Some("none"),
            doc: "For `spatial`: latitude in degrees.",
        },
        OptionDef {
            name: "task_lon",
            shape: "column",
            default: Some("none"),
            doc: "For `spatial`: longitude in degrees.",
        },
        OptionDef {
            name: "worker_lat",
            shape: "column",
            default: Some("none"),
            doc: "For `spatial`: latitude in degrees.",
        },
        OptionDef {
            name: "worker_lon",
            shape: "column",
            default: Some("none"),
            doc: "For `spatial`: longitude in degrees.",
        },
        OptionDef {
            name: "radius_m",
            shape: "float64",
            default: Some("none"),
            doc: "For `spatial`: the greatest distance of a pair, in metres; above 0.",
        },
        OptionDef {
            name: "nearest",
            shape: "int64",
            default: Some("no limit"),
            doc: "For `spatial`: how many of the nearest workers each task may have.",
        },
        OptionDef {
            name: "task_capacity",
            shape: "column of type int64",
            default: Some("1 each"),
            doc: "How many matches a task takes.",
        },
        OptionDef {
            name: "worker_capacity",
            shape: "column of type int64",
            default: Some("1 each"),
            doc: "How many matches a worker takes.",
        },
        OptionDef {
            name: "scale",
            shape: "float64",
            default: Some("0.000001"),
            doc: "The unit of fixed point: a whole number, or one over a whole number.",
        },
    ],
    example: "\
name = \"dispatch\"

[sources.orders]
type = \"file\"
path = \"orders.csv\"
format = \"csv\"
columns = { order = \"int64\", lat = \"float64\", lon = \"float64\", fare = \"float64\" }
key = [\"order\"]

[sources.drivers]
type = \"file\"
path = \"drivers.csv\"
format = \"csv\"
columns = { driver = \"int64\", lat = \"float64\", lon = \"float64\" }
key = [\"driver\"]

[steps.match]
operator = \"assignment\"
tasks = \"orders\"
workers = \"drivers\"
candidates = \"spatial\"
task_lat = \"lat\"
task_lon = \"lon\"
worker_lat = \"lat\"
worker_lon = \"lon\"
radius_m = 2000.0
nearest = 11
weight = \"task_fare - 0.001 * distance_m\"
",
    plan,
};

fn plan(section: &mut Section<'_>, relations: &Relations<'_>) -> Option<StepPlan> {
    let tasks = relations.input(section, "tasks");
    let workers = relations.input(section, "workers");
    let kind = section.choice("candidates", &[("edges", 0), ("group", 1), ("spatial", 2)]);
    let weight = section.required_string("weight");
    let filter = section.string("where");
    let terms = TERMS.map(|key| section.string(key));
    let scale = match section.float("scale").map(Scale::new) {
        None => Some(Scale::default()),
        Some(Ok(scale)) => Some(scale),
        Some(Err(message)) => {
            section.problem("scale", message);
            None
        }
    };
    let (tasks, workers) = (tasks?, workers?);
    let capacities = [capacity(section, "task_capacity", tasks.1), capacity(section, "worker_capacity", workers.1)];
    let rule = match kind? {
        0 => edges_rule(section, relations, tasks.1, workers.1),
        1 => group_rule(section, tasks.1, workers.1),
        _ => spatial_rule(section, tasks.1, workers.1),
    };
    let [task_capacity, worker_capacity] = capacities;
    let sides = [
        Side { relation: tasks.0, schema: tasks.1.clone(), capacity: task_capacity? },
        Side { relation: workers.0, schema: workers.1.clone(), capacity: worker_capacity? },
    ];
    let assignment = Assignment::new(sides, rule?, &weight?, filter.as_deref(), scale?);
    match assignment.and_then(|a| a.with_terms(terms.each_ref().map(Option::as_deref))) {
        Ok(assignment) => Some(assignment.plan()),
        Err((key, message)) => {
            section.problem(key, message);
            None
        }
    }
}

/// `Some(None)` if no column is given.
fn capacity(section: &mut Section<'_>, key: &'static str, schema: &Schema) -> Option<Option<usize>> {
    if !section.has(key) {
        return Some(None);
    }
    let column = section.column(key, schema)?;
    if schema.columns[column].ty != Type::Int64 {
        section.problem(key, format!("a capacity must have the type int64, not {}", schema.columns[column].ty));
        return None;
    }
    Some(Some(column))
}

fn edges_rule(section: &mut Section<'_>, relations: &Relations<'_>, tasks: &Schema, workers: &Schema) -> Option<Rule> {
    let (relation, schema) = relations.input(section, "edges")?;
    let mut named = |key: &'static str, node: &Schema| {
        let columns = section.columns(key, schema);
        if columns.is_none() && !section.has(key) {
            section.problem(key, format!("`{key}` is missing: the columns of `{relation}` that hold the key"));
        }
        let columns = columns?;
        let types = |schema: &Schema, columns: &[usize]| -> Vec<Type> {
            columns.iter().map(|c| schema.columns[*c].ty).collect()
        };
        if types(schema, &columns) != types(node, &node.key) {
            let key_names = node.key_names().join("`, `");
            section
                .problem(key, format!("these must be as many columns as the key `{key_names}`, and of the same types"));
            return None;
        }
        Some(columns)
    };
    let (task, worker) = (named("edge_task", tasks), named("edge_worker", workers));
    Some(Rule::Edges { relation, schema: schema.clone(), columns: [task?, worker?] })
}

fn group_rule(section: &mut Section<'_>, tasks: &Schema, workers: &Schema) -> Option<Rule> {
    let task = section.columns("task_group", tasks);
    if task.is_none() && !section.has("task_group") {
        section.problem("task_group", "`task_group` is missing: the columns that must be equal");
    }
    let task = task?;
    let worker = if section.has("worker_group") {
        section.columns("worker_group", workers)?
    } else {
        let same = |c: &usize| workers.index_of(&tasks.columns[*c].name);
        match task.iter().map(same).collect::<Option<Vec<usize>>>() {
            Some(columns) => columns,
            None => {
                section.problem("task_group", "workers have no columns of these names: name theirs in `worker_group`");
                return None;
            }
        }
    };
    let types =
        |schema: &Schema, columns: &[usize]| -> Vec<Type> { columns.iter().map(|c| schema.columns[*c].ty).collect() };
    if task.is_empty() || types(tasks, &task) != types(workers, &worker) {
        section.problem("worker_group", "the group columns of tasks and workers must be as many and of the same types");
        return None;
    }
    Some(Rule::Group { columns: [task, worker] })
}

fn spatial_rule(section: &mut Section<'_>, tasks: &Schema, workers: &Schema) -> Option<Rule> {
    let mut coordinate = |key: &'static str, schema: &Schema| {
        let column = section.column(key, schema)?;
        if !matches!(schema.columns[column].ty, Type::Float64 | Type::Int64) {
            section
                .problem(key, format!("a coordinate must be a number of degrees, not {}", schema.columns[column].ty));
            return None;
        }
        Some(column)
    };
    let columns = [
        (coordinate("task_lat", tasks), coordinate("task_lon", tasks)),
        (coordinate("worker_lat", workers), coordinate("worker_lon", workers)),
    ];
    let radius_m = section.float("radius_m");
    if !section.has("radius_m") {
        section.problem("radius_m", "`radius_m` is missing: the greatest distance of a pair, in metres");
    }
    if radius_m.is_some_and(|radius| radius <= 0.0) {
        section.problem("radius_m", "a radius must be a number of metres above 0");
        return None;
    }
    let nearest = section.int_in("nearest", 1..=i64::MAX);
    if nearest.is_none() && section.has("nearest") {
        return None;
    }
    let [task, worker] = columns;
    let columns = [[task.0?, task.1?], [worker.0?, worker.1?]];
    Some(Rule::Spatial { columns, radius_m: radius_m?, nearest: nearest.map(|n| n as usize) })
}

/// The tasks or the workers.
#[derive(Clone, Debug)]
pub struct Side {
    /// The relation read.
    pub relation: String,
    /// Its schema.
    pub schema: Schema,
    /// The int64 column that holds a node's capacity; without one it is 1.
    pub capacity: Option<usize>,
}

/// Which pairs are candidates. Columns are given for tasks and for workers.
#[derive(Clone, Debug)]
pub enum Rule {
    /// Those a relation lists.
    Edges {
        /// The relation.
        relation: String,
        /// Its schema.
        schema: Schema,
        /// Its columns that hold the task's and the worker's key.
        columns: [Vec<usize>; 2],
    },
    /// All whose columns are equal.
    Group {
        /// The columns.
        columns: [Vec<usize>; 2],
    },
    /// All that are near each other.
    Spatial {
        /// Latitude and longitude.
        columns: [[usize; 2]; 2],
        /// How far apart at most.
        radius_m: f64,
        /// How many of the nearest workers a task may have.
        nearest: Option<usize>,
    },
}

/// The fixed point of weights.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Scale {
    /// Of these two one is 1: a unit of fixed point is `units / parts`.
    units: f64,
    parts: f64,
}

impl Default for Scale {
    fn default() -> Scale {
        Scale { units: 1.0, parts: 1e6 }
    }
}

impl Scale {
    /// A scale; the error says what it may be.
    pub fn new(scale: f64) -> Result<Scale, String> {
        let whole = |v: f64| (1.0..=1e15).contains(&v) && (v - v.round()).abs() <= v * 1e-9;
        if whole(scale) {
            Ok(Scale { units: scale.round(), parts: 1.0 })
        } else if scale > 0.0 && whole(1.0 / scale) {
            Ok(Scale { units: 1.0, parts: (1.0 / scale).round() })
        } else {
            Err(format!("a scale must be a whole number or one over a whole number, such as 0.000001, not {scale}"))
        }
    }

    /// A number in fixed point, half to even; `None` if it is none, or beyond the most.
    fn fixed(self, number: f64, most: i64) -> Option<i64> {
        let fixed = (number * self.parts / self.units).round_ties_even();
        (fixed.abs() <= most as f64).then_some(fixed as i64)
    }

    /// What a number in fixed point stands for.
    fn float(self, fixed: i128) -> f64 {
        fixed as f64 * self.units / self.parts
    }
}

/// An assignment that has been checked.
#[derive(Clone, Debug)]
pub struct Assignment {
    sides: [Side; 2],
    rule: Rule,
    weight: Expression,
    filter: Option<Expression>,
    scale: Scale,
    /// The columns of tasks, workers and edge rows that weight and condition read.
    reads: [Vec<usize>; 3],
    /// The terms of tasks and of workers, each over the columns of its side.
    terms: [Option<Expression>; 2],
}

impl Assignment {
    /// An assignment. The error names the option that is wrong and says why.
    pub fn new(
        sides: [Side; 2],
        rule: Rule,
        weight: &str,
        filter: Option<&str>,
        scale: Scale,
    ) -> Result<Assignment, (&'static str, String)> {
        let pair = pair_schema(&sides, &rule);
        let weight = number("weight", weight, &pair)?;
        let filter = filter.map(|text| Expression::parse(text, &pair)).transpose().map_err(|e| ("where", e))?;
        if let Some(filter) = &filter
            && filter.ty != Type::Bool
        {
            return Err((
                "where",
                format!("`{}` has the type {}, and a condition must have the type bool", filter.text, filter.ty),
            ));
        }
        let mut reads = [Vec::new(), Vec::new(), Vec::new()];
        for column in weight.columns.iter().chain(filter.iter().flat_map(|f| &f.columns)) {
            let mut place = *column;
            let mut widths = sides.iter().map(|s| s.schema.columns.len()).collect::<Vec<_>>();
            if let Rule::Edges { schema, .. } = &rule {
                widths.push(schema.columns.len());
            }
            for (side, width) in widths.into_iter().enumerate() {
                if place < width {
                    reads[side].push(place);
                    break;
                }
                place -= width;
            }
        }
        for reads in &mut reads {
            reads.sort_unstable();
            reads.dedup();
        }
        Ok(Assignment { sides, rule, weight, filter, scale, reads, terms: [None, None] })
    }

    /// The same with terms for tasks and for workers. The error names the option that is wrong and says why.
    pub fn with_terms(mut self, terms: [Option<&str>; 2]) -> Result<Assignment, (&'static str, String)> {
        for (side, text) in terms.into_iter().enumerate() {
            let schema = node_schema(&self.sides, side);
            self.terms[side] = text.map(|text| number(TERMS[side], text, &schema)).transpose()?;
        }
        Ok(self)
    }

    fn has_terms(&self) -> bool {
        self.terms.iter().any(Option::is_some)
    }

    /// The greatest weight a pair may have of its own.
    fn weight_max(&self) -> i64 {
        if self.has_terms() { WEIGHT_MAX - 2 * TERM_MAX } else { WEIGHT_MAX }
    }

    /// The step's plan.
    pub fn plan(self) -> StepPlan {
        let assignment = Arc::new(self);
        let made = assignment.clone();
        let route = |side: usize| match &assignment.rule {
            Rule::Group { columns } => Route::Columns(columns[side].clone()),
            _ => Route::One,
        };
        let mut inputs: Vec<StepInput> = [LEFT, RIGHT]
            .map(|side| StepInput { relation: assignment.sides[side].relation.clone(), route: route(side) })
            .into();
        if let Rule::Edges { relation, .. } = &assignment.rule {
            inputs.push(StepInput { relation: relation.clone(), route: Route::One });
        }
        StepPlan {
            inputs,
            outputs: vec![
                StepOutput { suffix: None, schema: assignment.matches_schema() },
                StepOutput { suffix: Some("prices"), schema: prices_schema() },
                StepOutput { suffix: Some("certificate"), schema: certificate_schema() },
            ],
            kind: StepKind::Table(Arc::new(move || Box::new(Matcher::new(made.clone())) as Box<dyn TableOperator>)),
            persistent: false,
            detail: assignment.detail(),
            model: model::of(assignment),
        }
    }

    fn detail(&self) -> String {
        let names = |schema: &Schema, columns: &[usize]| -> String {
            columns.iter().map(|c| schema.columns[*c].name.as_str()).collect::<Vec<_>>().join(", ")
        };
        let [tasks, workers] = &self.sides;
        let rule = match &self.rule {
            Rule::Edges { relation, schema, columns } => {
                format!("edges {relation} ({} – {})", names(schema, &columns[LEFT]), names(schema, &columns[RIGHT]))
            }
            Rule::Group { columns } => {
                format!(
                    "equal ({}) and ({})",
                    names(&tasks.schema, &columns[LEFT]),
                    names(&workers.schema, &columns[RIGHT])
                )
            }
            Rule::Spatial { columns, radius_m, nearest } => format!(
                "({}) within {radius_m} m of ({}){}",
                names(&workers.schema, &columns[RIGHT]),
                names(&tasks.schema, &columns[LEFT]),
                nearest.map_or(String::new(), |n| format!(", nearest {n}"))
            ),
        };
        let filter = self.filter.as_ref().map_or(String::new(), |f| format!(" where {}", f.text));
        let capacity = |side: &Side| {
            side.capacity.map_or(String::new(), |c| format!(" (capacity {})", side.schema.columns[c].name))
        };
        let terms: String = self.terms.iter().flatten().map(|term| format!(" + ({})", term.text)).collect();
        format!(
            "{}{} to {}{}: greatest sum of {}{terms} in steps of {}/{} over {rule}{filter}",
            workers.relation,
            capacity(workers),
            tasks.relation,
            capacity(tasks),
            self.weight.text,
            self.scale.units,
            self.scale.parts,
        )
    }

    /// Whether matches may be made more than once.
    fn has_count(&self) -> bool {
        self.sides.iter().any(|s| s.capacity.is_some())
    }

    fn is_spatial(&self) -> bool {
        matches!(self.rule, Rule::Spatial { .. })
    }

    fn matches_schema(&self) -> Schema {
        let mut columns = Vec::new();
        for (side, prefix) in self.sides.iter().zip(SIDES) {
            for k in &side.schema.key {
                let known = &side.schema.columns[*k];
                columns.push(Column { name: format!("{prefix}_{}", known.name), ..known.clone() });
            }
        }
        let key = (0..columns.len()).collect();
        columns.push(column("weight", Type::Float64));
        if self.has_count() {
            columns.push(column("count", Type::Int64));
        }
        if self.is_spatial() {
            columns.push(column(DISTANCE, Type::Float64));
        }
        Schema { columns, key, event_time: None, append_only: false }
    }
}

fn column(name: &str, ty: Type) -> Column {
    Column { name: name.to_owned(), ty, nullable: false }
}

fn prices_schema() -> Schema {
    let columns = vec![column("side", Type::String), column("node", Type::String), column("price", Type::Float64)];
    Schema { columns, key: vec![0, 1], event_time: None, append_only: false }
}

fn certificate_schema() -> Schema {
    let columns = vec![
        column("component", Type::String),
        column("primal", Type::Float64),
        column("dual", Type::Float64),
        column("gap", Type::Float64),
        column("nodes", Type::Int64),
        column("edges", Type::Int64),
    ];
    Schema { columns, key: vec![0], event_time: None, append_only: false }
}

/// An expression that gives a number. The error names the option.
fn number(option: &'static str, text: &str, schema: &Schema) -> Result<Expression, (&'static str, String)> {
    let expression = Expression::parse(text, schema).map_err(|e| (option, e))?;
    if !matches!(expression.ty, Type::Int64 | Type::Float64 | Type::Decimal) {
        let (text, ty) = (&expression.text, expression.ty);
        return Err((
            option,
            format!("a {} must be a number, and `{text}` has the type {ty}", option.replace('_', " ")),
        ));
    }
    Ok(expression)
}

/// The columns a term sees: a task or a worker.
fn node_schema(sides: &[Side; 2], side: usize) -> Schema {
    let prefixed = |c: &Column| Column { name: format!("{}_{}", SIDES[side], c.name), ..c.clone() };
    let columns = sides[side].schema.columns.iter().map(prefixed).collect();
    Schema { columns, key: Vec::new(), event_time: None, append_only: false }
}

/// The columns weight and condition see: a pair as one row.
fn pair_schema(sides: &[Side; 2], rule: &Rule) -> Schema {
    let mut columns = Vec::new();
    let mut add = |schema: &Schema, prefix: &str| {
        let named = schema.columns.iter().map(|c| Column { name: format!("{prefix}_{}", c.name), ..c.clone() });
        columns.extend(named);
    };
    for (side, prefix) in sides.iter().zip(SIDES) {
        add(&side.schema, prefix);
    }
    if let Rule::Edges { schema, .. } = rule {
        add(schema, SIDES[2]);
    }
    if let Rule::Spatial { .. } = rule {
        columns.push(column(DISTANCE, Type::Float64));
    }
    Schema { columns, key: Vec::new(), event_time: None, append_only: false }
}

/// The assignment at work.
struct Matcher {
    assignment: Arc<Assignment>,
    candidates: Candidates,
    solver: Solver,
    /// Decoders of the keys of tasks and workers.
    keys: [RowCodec; 2],
    /// By task slot, the matches as they were last emitted, by worker slot.
    matches: Vec<SmallVec<[Match; 1]>>,
    /// By side and slot, the price as it was last emitted.
    prices: [Vec<Option<i64>>; 2],
}

/// A row of the matches.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Match {
    worker: u32,
    weight: i64,
    count: i64,
    distance_m: f64,
}

impl Matcher {
    fn new(assignment: Arc<Assignment>) -> Matcher {
        let keys = [LEFT, RIGHT].map(|side| {
            let schema = &assignment.sides[side].schema;
            let columns: Vec<Column> = schema.key.iter().map(|k| schema.columns[*k].clone()).collect();
            let key = (0..columns.len()).collect();
            RowCodec::new(&Schema { columns, key, event_time: None, append_only: false })
        });
        Matcher {
            candidates: Candidates::new(assignment.clone()),
            solver: Solver::new(),
            keys,
            matches: Vec::new(),
            prices: [Vec::new(), Vec::new()],
            assignment,
        }
    }

    /// The changed matches among those of tasks a change may have reached.
    fn emit_matches(&mut self, mut tasks: Vec<u32>, context: &mut Context) {
        tasks.sort_unstable();
        tasks.dedup();
        self.matches.resize_with(self.candidates.keys(LEFT).len(), SmallVec::new);
        let mut rows: Vec<(u32, Match, i64)> = Vec::new();
        for task in tasks {
            let flow = self.solver.flow(LEFT, task);
            let mut now: SmallVec<[Match; 1]> = flow
                .iter()
                .map(|(worker, count)| Match {
                    worker: *worker,
                    weight: self.solver.weight(task, *worker).expect("flow is on edges"),
                    count: *count,
                    distance_m: self.candidates.distance_m(task, *worker).unwrap_or(0.0),
                })
                .collect();
            now.sort_unstable_by_key(|m| m.worker);
            let before = &mut self.matches[task as usize];
            if *before == now {
                continue;
            }
            rows.extend(before.iter().filter(|m| !now.contains(m)).map(|m| (task, *m, -1)));
            rows.extend(now.iter().filter(|m| !before.contains(m)).map(|m| (task, *m, 1)));
            *before = now;
        }
        if rows.is_empty() {
            return;
        }
        let keys = |side: usize, slots: Vec<u32>| {
            self.decode(side, slots.iter().map(|s| &*self.candidates.keys(side)[*s as usize]))
        };
        let mut columns: Vec<ArrayRef> = Vec::new();
        columns.extend_from_slice(keys(LEFT, rows.iter().map(|r| r.0).collect()).columns());
        columns.extend_from_slice(keys(RIGHT, rows.iter().map(|r| r.1.worker).collect()).columns());
        let scale = self.assignment.scale;
        columns.push(Arc::new(Float64Array::from_iter_values(rows.iter().map(|r| scale.float(r.1.weight.into())))));
        if self.assignment.has_count() {
            columns.push(Arc::new(Int64Array::from_iter_values(rows.iter().map(|r| r.1.count))));
        }
        if self.assignment.is_spatial() {
            columns.push(Arc::new(Float64Array::from_iter_values(rows.iter().map(|r| r.1.distance_m))));
        }
        let schema = self.assignment.matches_schema().arrow();
        emit(context, 0, schema, columns, rows.iter().map(|r| r.2).collect());
    }

    fn emit_prices(&mut self, touched: &[Vec<u32>; 2], context: &mut Context) {
        let mut rows: Vec<(&'static str, String, i64, i64)> = Vec::new();
        for side in [LEFT, RIGHT] {
            self.prices[side].resize(self.candidates.keys(side).len(), None);
            let mut changed: Vec<(u32, Option<i64>, Option<i64>)> = Vec::new();
            for slot in &touched[side] {
                let now = self.solver.price(side, *slot);
                let before = std::mem::replace(&mut self.prices[side][*slot as usize], now);
                if before != now {
                    changed.push((*slot, before, now));
                }
            }
            let names = self.names(side, changed.iter().map(|(slot, ..)| &*self.candidates.keys(side)[*slot as usize]));
            for ((_, before, now), name) in changed.into_iter().zip(names) {
                rows.extend(before.map(|price| (SIDES[side], name.clone(), price, -1)));
                rows.extend(now.map(|price| (SIDES[side], name, price, 1)));
            }
        }
        let scale = self.assignment.scale;
        let columns: Vec<ArrayRef> = vec![
            Arc::new(StringArray::from_iter_values(rows.iter().map(|r| r.0))),
            Arc::new(StringArray::from_iter_values(rows.iter().map(|r| &r.1))),
            Arc::new(Float64Array::from_iter_values(rows.iter().map(|r| scale.float(r.2.into())))),
        ];
        emit(context, 1, prices_schema().arrow(), columns, rows.iter().map(|r| r.3).collect());
    }

    fn emit_certificates(&self, retired: Vec<Certificate>, issued: Vec<Certificate>, context: &mut Context) {
        let all: Vec<(&Certificate, i64)> =
            retired.iter().map(|c| (c, -1)).chain(issued.iter().map(|c| (c, 1))).collect();
        let scale = self.assignment.scale;
        let floats = |of: fn(&Certificate) -> i128| -> ArrayRef {
            Arc::new(Float64Array::from_iter_values(all.iter().map(|(c, _)| scale.float(of(c)))))
        };
        let columns: Vec<ArrayRef> = vec![
            Arc::new(StringArray::from_iter_values(self.names(LEFT, all.iter().map(|(c, _)| &*c.key)))),
            floats(|c| c.primal),
            floats(|c| c.dual),
            floats(|c| c.dual - c.primal),
            Arc::new(Int64Array::from_iter_values(all.iter().map(|(c, _)| c.nodes as i64))),
            Arc::new(Int64Array::from_iter_values(all.iter().map(|(c, _)| c.edges as i64))),
        ];
        emit(context, 2, certificate_schema().arrow(), columns, all.iter().map(|(_, d)| *d).collect());
    }

    fn decode<'a>(&self, side: usize, keys: impl Iterator<Item = &'a [u8]>) -> RecordBatch {
        let nothing: &[u8] = &[];
        self.keys[side].decode(keys.map(|key| (key, nothing))).expect("bytes of our own codec")
    }

    fn names<'a>(&self, side: usize, keys: impl Iterator<Item = &'a [u8]>) -> Vec<String> {
        let rows = self.decode(side, keys);
        let name = |row: usize| {
            let cells: Vec<Value> = rows.columns().iter().map(|c| Value::at(c, row)).collect();
            key_text(&cells)
        };
        (0..rows.num_rows()).map(name).collect()
    }
}

fn emit(
    context: &mut Context,
    output: usize,
    schema: arrow::datatypes::SchemaRef,
    columns: Vec<ArrayRef>,
    diffs: Vec<i64>,
) {
    if diffs.is_empty() {
        return;
    }
    let rows = RecordBatch::try_new(schema, columns).expect("the planned columns");
    context.emit(output, Delta::new(rows, diffs));
}

impl TableOperator for Matcher {
    fn step(&mut self, inputs: Vec<Vec<Delta>>, context: &mut Context) {
        let changed = self.candidates.apply(&inputs, &mut self.solver);
        let repair = self.solver.solve();
        let mut tasks = repair.touched[LEFT].clone();
        if self.assignment.is_spatial() {
            // Who moved is at another distance, even where nothing else changed.
            for worker in &changed[RIGHT] {
                tasks.extend(self.solver.flow(RIGHT, *worker).iter().map(|(task, _)| *task));
            }
            tasks.extend(&changed[LEFT]);
        }
        self.emit_matches(tasks, context);
        self.emit_prices(&repair.touched, context);
        self.emit_certificates(repair.retired, repair.issued, context);
        self.candidates.release();
        // The solver meets its bound or panics: this is a promise kept, not a measurement.
        context.gauge(engine::metrics::OPTIMALITY_GAP, 0.0);
        context.gauge("pairs_refused", self.candidates.refused() as f64);
        context.gauge("pairs_weighed", self.candidates.weighed() as f64);
    }
}

#[cfg(test)]
mod tests;
