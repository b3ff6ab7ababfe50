//! `aggregate`: counts, exact sums, extremes and means of the rows of each group.
//!
//! Groups are found by hash and numbered; everything kept of a group stands under its number in plain columns. What an
//! epoch did not touch costs nothing. What it did touch is taken out of the columns, worked on in tight loops where it
//! lies close together, and put back: with many groups, most of the time is spent fetching them.
//!
//! What the output shows of a group is not kept: it follows from what is. It is taken down before an epoch's rows are
//! added and after, and the difference emitted: in key order, each old row before its new one, as the store wants them.

mod cells;
mod kept;

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch};
use arrow::datatypes::SchemaRef;
use engine::catalogue::{Model, OperatorDef, OptionDef, Relations, Row};
use engine::operator::{Context, StepKind, TableOperator};
use engine::pipeline::Section;
use engine::plan::{Route, StepInput, StepOutput, StepPlan};
use types::{Column, Delta, RowCodec, Schema, Type, Value, shard_of};

use self::cells::Cells;
use self::kept::State;
use crate::exact_sum::naive_sum;
use crate::expression::{Expression, evaluate_row};
use crate::groups::Groups;
use crate::refusal::{EXPRESSION, Refusal};

/// The catalogue's entry.
pub(crate) const DEF: OperatorDef = OperatorDef {
    name: "aggregate",
    summary: "Counts, sums, extremes and means of the rows of each group, exact under retraction.",
    doc: "\
One row for each combination of the `by` columns that occurs; it goes when its last row goes. Nulls form a group of
their own, and so do NaNs.

| `compute` | value | type |
|---|---|---|
| `count` | rows | int64 |
| `count(x)` | rows where x is not null | int64 |
| `sum(x)` | x is int64 or decimal: the exact sum (null beyond 38 digits) | decimal |
| | x is float64: the exact sum, rounded once to nearest even | float64 |
| `min(x)`, `max(x)` | by the order of stored values: strings by bytes, NaN above all numbers, false below true | as x |
| `avg(x)` | the sum as a float64 divided by the count | float64 |

`x` is a column or any expression (see `select`). Nulls are skipped; of none, `sum`, `min`, `max` and `avg` are null.

Sums of floats are exact, so they do not depend on the order of rows, and a row taken back leaves no trace: the sum is
kept as a long integer (Kulisch's accumulator) and rounded when it is shown. A NaN, or infinities of both signs, make
the sum NaN for as long as they are there.

Over a stream, whose rows never go, the state of each group is stored and the stream need not be read again after a
restart.

**Faults.** A row for which an expression of `compute` has no value counts nowhere and is reported with reason
`expression`.",
    options: &[
        OptionDef { name: "input", shape: "relation", default: None, doc: "The source or step to read." },
        OptionDef {
            name: "by",
            shape: "list of column names",
            default: None,
            doc: "What makes a group; the key of the output.",
        },
        OptionDef {
            name: "compute",
            shape: "table of name = aggregate",
            default: None,
            doc: "The further columns of the output, in this order.",
        },
    ],
    example: "\
name = \"revenue\"

[sources.trips]
type = \"file\"
path = \"trips.csv\"
format = \"csv\"
columns = { id = \"int64\", zone = \"int64\", fare = \"float64\" }
key = [\"id\"]

[steps.by_zone]
operator = \"aggregate\"
input = \"trips\"
by = [\"zone\"]
compute = { trips = \"count\", revenue = \"sum(fare)\", dearest = \"max(fare)\", tips = \"avg(fare * 0.1)\" }
",
    plan,
};

fn plan(section: &mut Section<'_>, relations: &Relations<'_>) -> Option<StepPlan> {
    let (relation, schema) = relations.input(section, "input")?;
    let by = section.columns("by", schema);
    if !section.has("by") {
        section.problem("by", "`by` is missing: expected the columns that make a group");
    }
    let compute = section.string_map("compute");
    if !section.has("compute") {
        section.problem("compute", "`compute` is missing: expected a table such as `{ rows = \"count\" }`");
    }
    let mut shape = Shape::new(&relation, schema, by?).map_err(|m| section.problem("by", m)).ok()?;
    let mut good = true;
    for (name, text) in compute? {
        if let Err(message) = shape.compute(&name, &text) {
            section.problem(&format!("compute.{name}"), message);
            good = false;
        }
    }
    good.then(|| shape.plan())
}

/// What an aggregation is: checked, and the same on every worker.
#[derive(Clone, Debug)]
pub struct Shape {
    relation: String,
    input: Schema,
    by: Vec<usize>,
    arguments: Vec<Argument>,
    outputs: Vec<Output>,
    texts: Vec<String>,
    schema: Schema,
}

/// An expression that is aggregated, and what has to be kept of its values.
#[derive(Clone, Debug)]
struct Argument {
    expression: Expression,
    sum: bool,
    extremes: bool,
}

/// What an output column shows; the number is that of its argument.
#[derive(Clone, Copy, Debug)]
enum Output {
    Rows,
    Count(usize),
    Sum(usize),
    Avg(usize),
    Min(usize),
    Max(usize),
}

impl Shape {
    /// An aggregation that computes nothing yet.
    pub fn new(relation: &str, input: &Schema, by: Vec<usize>) -> Result<Shape, String> {
        if by.is_empty() {
            return Err("name at least one column: the groups are the rows of the output".to_owned());
        }
        for (i, column) in by.iter().enumerate() {
            if by[..i].contains(column) {
                return Err(format!("the column `{}` is named twice", input.columns[*column].name));
            }
        }
        let schema = Schema {
            columns: by.iter().map(|i| input.columns[*i].clone()).collect(),
            key: (0..by.len()).collect(),
            event_time: None,
            append_only: false,
        };
        Ok(Shape {
            relation: relation.to_owned(),
            input: input.clone(),
            by,
            arguments: Vec::new(),
            outputs: Vec::new(),
            texts: Vec::new(),
            schema,
        })
    }

    /// Adds an output column, e.g. `sum(fare)`.
    pub fn compute(&mut self, name: &str, text: &str) -> Result<(), String> {
        if self.schema.index_of(name).is_some() {
            return Err(format!("the output has a column `{name}` already"));
        }
        let text = text.trim();
        let (function, inner) = match text.split_once('(') {
            Some((function, rest)) => {
                let inner = rest.strip_suffix(')').ok_or_else(|| format!("`{text}` does not end with `)`"))?;
                (function.trim().to_lowercase(), inner.trim())
            }
            None => (text.to_lowercase(), ""),
        };
        let (output, ty, nullable) = match (function.as_str(), inner) {
            ("count", "" | "*") => (Output::Rows, Type::Int64, false),
            ("sum" | "min" | "max" | "avg", "") => {
                return Err(format!("`{function}` of what? Write `{function}(column)`"));
            }
            ("count", inner) => (Output::Count(self.argument(inner)?), Type::Int64, false),
            ("sum" | "avg", inner) => {
                let a = self.argument(inner)?;
                let argument = &mut self.arguments[a];
                argument.sum = true;
                let ty = match argument.expression.ty {
                    Type::Int64 | Type::Decimal => Type::Decimal,
                    Type::Float64 => Type::Float64,
                    other => return Err(format!("`{inner}` has the type {other}, of which there is no `{function}`")),
                };
                if function == "sum" {
                    // A sum of decimals can outgrow 38 digits, and is null then.
                    let nullable = argument.expression.nullable || argument.expression.ty == Type::Decimal;
                    (Output::Sum(a), ty, nullable)
                } else {
                    (Output::Avg(a), Type::Float64, argument.expression.nullable)
                }
            }
            ("min" | "max", inner) => {
                let a = self.argument(inner)?;
                let argument = &mut self.arguments[a];
                argument.extremes = true;
                let output = if function == "min" { Output::Min(a) } else { Output::Max(a) };
                (output, argument.expression.ty, argument.expression.nullable)
            }
            _ => {
                let near = ["count", "sum", "min", "max", "avg"]
                    .into_iter()
                    .min_by_key(|n| strsim::damerau_levenshtein(n, &function))
                    .filter(|n| strsim::damerau_levenshtein(n, &function) < 3);
                let hint =
                    near.map_or("there are count, sum, min, max, avg".to_owned(), |n| format!("did you mean `{n}`?"));
                return Err(format!("there is no aggregate `{function}`; {hint}"));
            }
        };
        self.outputs.push(output);
        self.texts.push(text.to_owned());
        self.schema.columns.push(Column { name: name.to_owned(), ty, nullable });
        Ok(())
    }

    fn argument(&mut self, text: &str) -> Result<usize, String> {
        if let Some(known) = self.arguments.iter().position(|a| a.expression.text == text) {
            return Ok(known);
        }
        let expression = Expression::parse(text, &self.input)?;
        self.arguments.push(Argument { expression, sum: false, extremes: false });
        Ok(self.arguments.len() - 1)
    }

    /// The step's plan.
    pub fn plan(self) -> StepPlan {
        let shape = Arc::new(self);
        let made = shape.clone();
        StepPlan {
            inputs: vec![StepInput { relation: shape.relation.clone(), route: Route::Columns(shape.by.clone()) }],
            outputs: vec![StepOutput { suffix: None, schema: shape.schema.clone() }],
            kind: StepKind::Table(Arc::new(move || Box::new(Aggregate::new(made.clone())) as Box<dyn TableOperator>)),
            // Over a stream, which is not read again, the groups themselves are stored.
            persistent: shape.input.append_only,
            detail: shape.detail(),
            model: shape.model(),
        }
    }

    fn detail(&self) -> String {
        let by: Vec<&str> = self.by.iter().map(|i| self.input.columns[*i].name.as_str()).collect();
        let names = self.schema.columns.iter().skip(self.by.len());
        let compute: Vec<String> = names.zip(&self.texts).map(|(c, t)| format!("{t} as {}", c.name)).collect();
        format!("{} of {} by {}", compute.join(", "), self.relation, by.join(", "))
    }

    fn model(&self) -> Model {
        let (shape, codec) = (self.clone(), RowCodec::new(&self.input));
        Arc::new(move |inputs: &[Vec<Row>]| {
            let mut groups: std::collections::BTreeMap<Row, Vec<Row>> = std::collections::BTreeMap::new();
            for row in &inputs[0] {
                let cells = shape.arguments.iter().map(|a| evaluate_row(&a.expression, &codec, row));
                let Ok(cells) = cells.collect::<Result<Row, _>>() else { continue };
                let key = shape.by.iter().map(|i| row[*i].clone()).collect();
                groups.entry(key).or_default().push(cells);
            }
            let rows = groups.into_iter().map(|(key, rows)| {
                let shown = shape.outputs.iter().map(|o| model_cell(*o, &rows));
                key.into_iter().chain(shown.collect::<Row>()).collect()
            });
            vec![rows.collect()]
        })
    }
}

/// An output of one group from the arguments' values of all its rows.
fn model_cell(output: Output, rows: &[Row]) -> Value {
    let cells = |a: usize| -> Vec<&Value> { rows.iter().map(|r| &r[a]).filter(|v| **v != Value::Null).collect() };
    match output {
        Output::Rows => Value::Int(rows.len() as i64),
        Output::Count(a) => Value::Int(cells(a).len() as i64),
        Output::Sum(a) => model_sum(&cells(a)),
        Output::Avg(a) => match model_sum(&cells(a)) {
            Value::Decimal(sum) => Value::Float(sum as f64 / cells(a).len() as f64 + 0.0),
            Value::Float(sum) => Value::Float(sum / cells(a).len() as f64 + 0.0),
            _ => Value::Null,
        },
        Output::Min(a) => cells(a).into_iter().min().cloned().unwrap_or(Value::Null),
        Output::Max(a) => cells(a).into_iter().max().cloned().unwrap_or(Value::Null),
    }
}

fn model_sum(cells: &[&Value]) -> Value {
    if let Some(Value::Float(_)) = cells.first() {
        let floats: Vec<f64> = cells.iter().map(|v| if let Value::Float(f) = v { *f } else { 0.0 }).collect();
        return Value::Float(naive_sum(&floats) + 0.0);
    }
    let whole = |v: &Value| match v {
        Value::Int(i) => i128::from(*i),
        Value::Decimal(d) => *d,
        _ => 0,
    };
    // Large and small halves apart: each sum stays far from overflow.
    let (high, low) =
        cells.iter().fold((0i128, 0i128), |(h, l), v| (h + (whole(v) >> 64), l + (whole(v) & 0xffff_ffff_ffff_ffff)));
    let high = high + (low >> 64);
    let sum = high.checked_mul(1 << 64).and_then(|h| h.checked_add(low & 0xffff_ffff_ffff_ffff));
    match sum {
        Some(sum) if !cells.is_empty() && sum.unsigned_abs() < 10u128.pow(38) => Value::Decimal(sum),
        _ => Value::Null,
    }
}

/// The aggregation at work.
struct Aggregate {
    shape: Arc<Shape>,
    refusal: Refusal,
    schema: SchemaRef,
    groups: Groups,
    /// Everything kept, by the groups' numbers.
    all: State,
    /// The last step that touched each group, and which of the groups it touched it was.
    touched_at: Vec<(u32, u32)>,
    step: u32,
    /// The shard that owns each group, if groups are stored.
    shards: Vec<u16>,
}

/// A batch of an epoch: its rows, the place of each one's group among the groups touched, the values of all arguments.
struct Batch {
    delta: Delta,
    places: Vec<u32>,
    values: Vec<ArrayRef>,
}

impl Aggregate {
    fn new(shape: Arc<Shape>) -> Aggregate {
        let by: Vec<Type> = shape.by.iter().map(|i| shape.input.columns[*i].ty).collect();
        Aggregate {
            refusal: Refusal::new(&shape.relation, &shape.input),
            schema: shape.schema.arrow(),
            groups: Groups::new(&by),
            all: State::new(&shape),
            touched_at: Vec::new(),
            step: 0,
            shards: Vec::new(),
            shape,
        }
    }

    /// The values of all arguments; rows that have none are refused and left out.
    fn arguments(&self, delta: Delta, context: &mut Context) -> (Delta, Vec<ArrayRef>) {
        let mut failed: Vec<(usize, String)> = Vec::new();
        let mut values = Vec::with_capacity(self.shape.arguments.len());
        for argument in &self.shape.arguments {
            let (array, errors) = argument.expression.evaluate(&delta.rows);
            values.push(array);
            for (row, error) in errors {
                if !failed.iter().any(|(r, _)| *r == row) {
                    failed.push((row, format!("`{}`: {error}", argument.expression.text)));
                }
            }
        }
        if failed.is_empty() {
            return (delta, values);
        }
        let mut good = vec![true; delta.len()];
        for (row, detail) in failed {
            self.refusal.refuse(context, &delta.rows, row, delta.diff(row), EXPRESSION, detail);
            good[row] = false;
        }
        let good: Vec<u32> = (0..delta.len()).filter(|i| good[*i]).map(|i| i as u32).collect();
        self.arguments(delta.take(&good), context)
    }

    /// Finds the group of every row: its place in `touched`, to which new ones are added.
    fn places(&mut self, delta: &Delta, touched: &mut Vec<u32>) -> Vec<u32> {
        let by: Vec<ArrayRef> = self.shape.by.iter().map(|i| delta.column(*i).clone()).collect();
        let mut numbers = Vec::with_capacity(delta.len());
        self.groups.number(&by, &mut numbers);
        self.grow();
        for group in &mut numbers {
            let (step, place) = &mut self.touched_at[*group as usize];
            if *step != self.step {
                (*step, *place) = (self.step, touched.len() as u32);
                touched.push(*group);
            }
            *group = *place;
        }
        numbers
    }

    fn grow(&mut self) {
        let len = self.groups.len();
        self.touched_at.resize(len, (0, 0));
        self.all.resize(len);
        if self.shape.input.append_only {
            let mut key = Vec::new();
            for group in self.shards.len()..len {
                key.clear();
                self.groups.key(group as u32, &mut key);
                self.shards.push(shard_of(&key));
            }
        }
    }

    /// Emits what changed of the touched groups. `was` are their rows before the epoch; `cells` show them before it and
    /// then, behind that, after it.
    fn emit(&self, touched: &[u32], was: &[i64], is: &[i64], cells: &[Cells], context: &mut Context) {
        let mut groups = Vec::with_capacity(2 * touched.len());
        let mut places = Vec::with_capacity(2 * touched.len());
        let mut diffs = Vec::with_capacity(2 * touched.len());
        for (old, group) in touched.iter().enumerate() {
            let new = touched.len() + old;
            let (was, is) = (was[old] > 0, is[old] > 0);
            if was && is && cells.iter().all(|c| c.same(old, new)) {
                continue;
            }
            for (there, place, diff) in [(was, old, -1), (is, new, 1)] {
                if there {
                    groups.push(*group);
                    places.push(place as u32);
                    diffs.push(diff);
                }
            }
        }
        if groups.is_empty() {
            return;
        }
        let mut columns = self.groups.columns(&groups);
        let shown = self.shape.schema.columns.iter().skip(self.shape.by.len());
        columns.extend(cells.iter().zip(shown).map(|(c, column)| c.array(&places, column.ty)));
        let rows = RecordBatch::try_new(self.schema.clone(), columns).expect("the planned columns");
        context.emit(0, Delta::new(rows, diffs));
    }

    /// Writes what is kept of the touched groups, in the order of the keys it is stored under: shard first.
    fn store(&self, touched: &[u32], state: &State, context: &mut Context) {
        // Numbers sort faster than pairs: the shard, and behind it the place.
        let shard = |group: &u32| u64::from(self.shards[*group as usize]);
        let mut order: Vec<u64> = touched.iter().zip(0..).map(|(g, place)| shard(g) << 32 | place).collect();
        order.sort_unstable();
        let (mut key, mut value) = (Vec::new(), Vec::new());
        for place in order.into_iter().map(|o| o as u32 as usize) {
            key.clear();
            self.groups.key(touched[place], &mut key);
            value.clear();
            state.encode(place, &mut value);
            context.put_state(&key, &[], Some(&value));
        }
    }
}

impl TableOperator for Aggregate {
    fn restore(&mut self, key: &[u8], value: &[u8]) {
        let group = self.groups.number_of_key(key);
        self.grow();
        self.all.decode(group as usize, value);
    }

    fn step(&mut self, inputs: Vec<Vec<Delta>>, context: &mut Context) {
        self.step += 1;
        let mut touched = Vec::new();
        let mut batches = Vec::new();
        for delta in inputs.into_iter().flatten() {
            let (delta, values) = self.arguments(delta, context);
            let places = self.places(&delta, &mut touched);
            batches.push(Batch { delta, places, values });
        }
        let order = self.groups.order(&touched);
        let touched: Vec<u32> = order.iter().map(|place| touched[*place as usize]).collect();
        let mut ranks = vec![0; order.len()];
        order.iter().zip(0..).for_each(|(place, rank)| ranks[*place as usize] = rank);
        for batch in &mut batches {
            batch.places.iter_mut().for_each(|place| *place = ranks[*place as usize]);
        }

        let mut state = self.all.take(&touched);
        let was = state.rows.clone();
        let shown = self.shape.schema.columns.iter().skip(self.shape.by.len());
        let mut cells: Vec<Cells> = shown.map(|c| Cells::new(c.ty, 2 * touched.len())).collect();
        state.show(&self.shape, &mut cells);
        state.add(&batches);
        state.show(&self.shape, &mut cells);
        self.emit(&touched, &was, &state.rows, &cells, context);
        if self.shape.input.append_only {
            // Every touched group: what is kept may change where what is shown does not (a term below the sum's last bit).
            self.store(&touched, &state, context);
        }
        let empty: Vec<u32> = touched.iter().zip(&state.rows).filter(|(_, r)| **r == 0).map(|(g, _)| *g).collect();
        self.all.put(&touched, state);
        for group in empty {
            self.all.clear(group as usize);
            self.groups.remove(group);
        }
    }
}
