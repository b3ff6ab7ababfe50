//! `aggregate`: counts, exact sums, extremes and means of the rows of each group.
//!
//! Groups are found by hash and numbered; everything kept of a group stands under its number in plain columns. What an
//! epoch did not touch costs nothing. What it did touch is taken out of the columns, worked on in tight loops where it
//! lies close together, and put back: with many groups, most of the time is spent fetching them.
//!
//! What the output shows of a group is not kept: it follows from what is. It is taken down before an epoch's rows are
//! added and after, and the difference emitted: in key order, each old row before its new one, as the store wants them.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Decimal128Array, Float64Array, Int64Array, RecordBatch, StringArray,
    TimestampMicrosecondArray,
};
use arrow::buffer::{NullBuffer, ScalarBuffer};
use arrow::datatypes::{Decimal128Type, Float64Type, Int64Type, SchemaRef, TimestampMicrosecondType};
use engine::catalogue::{Model, OperatorDef, OptionDef, Relations, Row};
use engine::operator::{Context, StepKind, TableOperator};
use engine::pipeline::Section;
use engine::plan::{Route, StepInput, StepOutput, StepPlan};
use types::{Column, Delta, RowCodec, Schema, Type, Value, shard_of};

use crate::exact_sum::{ExactSum, naive_sum};
use crate::expression::{Expression, evaluate_row};
use crate::groups::Groups;
use crate::multiset::Multiset;
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

fn take<'a>(bytes: &mut &'a [u8], n: usize) -> &'a [u8] {
    let (front, rest) = bytes.split_at(n);
    *bytes = rest;
    front
}

/// Everything kept of groups, in columns: of all of them, or of those an epoch touches.
struct State {
    /// How many rows each has.
    rows: Vec<i64>,
    /// By argument.
    kept: Vec<Kept>,
}

impl State {
    fn new(shape: &Shape) -> State {
        let kept = shape.arguments.iter().map(|a| Kept::new(a, shape.input.append_only)).collect();
        State { rows: Vec::new(), kept }
    }

    fn resize(&mut self, len: usize) {
        self.rows.resize(len, 0);
        self.kept.iter_mut().for_each(|k| k.resize(len));
    }

    /// Takes some groups out, in this order. Nothing of them is left until they are put back.
    fn take(&mut self, groups: &[u32]) -> State {
        let kept = self.kept.iter_mut().map(|k| k.take(groups)).collect();
        State { rows: take_at(&mut self.rows, groups), kept }
    }

    /// Puts back what was taken out.
    fn put(&mut self, groups: &[u32], taken: State) {
        put_at(&mut self.rows, groups, taken.rows);
        self.kept.iter_mut().zip(taken.kept).for_each(|(k, taken)| k.put(groups, taken));
    }

    /// Adds an epoch's rows.
    fn add(&mut self, batches: &[Batch]) {
        for Batch { delta, places, values } in batches {
            if delta.is_insert_only() {
                places.iter().for_each(|p| self.rows[*p as usize] += 1);
            } else {
                places.iter().enumerate().for_each(|(row, p)| self.rows[*p as usize] += delta.diff(row));
            }
            self.kept.iter_mut().zip(values).for_each(|(kept, array)| kept.add(places, array, delta));
        }
        // Within an epoch a row may go before it comes; extremes want it the other way round.
        for Batch { delta, places, values } in batches.iter().filter(|b| !b.delta.is_insert_only()) {
            self.kept.iter_mut().zip(values).for_each(|(kept, array)| kept.extremes.take_away(places, array, delta));
        }
    }

    /// Appends what the output shows of the groups now to its columns.
    fn show(&self, shape: &Shape, cells: &mut [Cells]) {
        let counts = |a: usize| self.kept[a].counts.as_ref().unwrap_or(&self.rows);
        let ty = |a: usize| shape.arguments[a].expression.ty;
        for (output, cells) in shape.outputs.iter().zip(cells) {
            match *output {
                Output::Rows => cells.ints(&self.rows),
                Output::Count(a) => cells.ints(counts(a)),
                Output::Sum(a) => self.kept[a].sum.show(counts(a), cells),
                Output::Avg(a) => self.kept[a].sum.show_mean(counts(a), cells),
                Output::Min(a) => self.kept[a].extremes.show(true, ty(a), cells),
                Output::Max(a) => self.kept[a].extremes.show(false, ty(a), cells),
            }
        }
    }

    fn clear(&mut self, group: usize) {
        self.rows[group] = 0;
        self.kept.iter_mut().for_each(|k| k.clear(group));
    }

    fn encode(&self, group: usize, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.rows[group].to_le_bytes());
        self.kept.iter().for_each(|k| k.encode(group, out));
    }

    fn decode(&mut self, group: usize, mut bytes: &[u8]) {
        self.rows[group] = i64::from_le_bytes(take(&mut bytes, 8).try_into().expect("eight bytes"));
        self.kept.iter_mut().for_each(|k| k.decode(group, &mut bytes));
    }
}

/// Takes values out of a column.
fn take_at<T: Default>(column: &mut [T], groups: &[u32]) -> Vec<T> {
    groups.iter().map(|g| std::mem::take(&mut column[*g as usize])).collect()
}

/// Puts values back into a column.
fn put_at<T>(column: &mut [T], groups: &[u32], values: Vec<T>) {
    groups.iter().zip(values).for_each(|(g, value)| column[*g as usize] = value);
}

/// What is kept of one argument's values, for every group.
struct Kept {
    /// How many are not null; `None` if all are, which the group's row count says.
    counts: Option<Vec<i64>>,
    sum: Sums,
    extremes: Extremes,
}

impl Kept {
    fn new(argument: &Argument, append_only: bool) -> Kept {
        let ty = argument.expression.ty;
        Kept {
            counts: argument.expression.nullable.then(Vec::new),
            sum: if argument.sum { Sums::new(ty) } else { Sums::None },
            extremes: if argument.extremes { Extremes::new(ty, append_only) } else { Extremes::None },
        }
    }

    fn resize(&mut self, len: usize) {
        if let Some(counts) = &mut self.counts {
            counts.resize(len, 0);
        }
        match &mut self.sum {
            Sums::None => {}
            Sums::Int(s) => s.resize(len, 0),
            Sums::Decimal(s) => s.resize(len, (0, 0)),
            Sums::Float(s) => s.resize_with(len, ExactSum::new),
        }
        match &mut self.extremes {
            Extremes::None => {}
            Extremes::Small(e) => e.resize(len),
            Extremes::Large(e) => e.resize(len),
            Extremes::Text(e) => e.resize(len),
        }
    }

    fn take(&mut self, groups: &[u32]) -> Kept {
        Kept {
            counts: self.counts.as_mut().map(|c| take_at(c, groups)),
            sum: match &mut self.sum {
                Sums::None => Sums::None,
                Sums::Int(s) => Sums::Int(take_at(s, groups)),
                Sums::Decimal(s) => Sums::Decimal(take_at(s, groups)),
                Sums::Float(s) => Sums::Float(take_at(s, groups)),
            },
            extremes: match &mut self.extremes {
                Extremes::None => Extremes::None,
                Extremes::Small(e) => Extremes::Small(e.take(groups)),
                Extremes::Large(e) => Extremes::Large(e.take(groups)),
                Extremes::Text(e) => Extremes::Text(e.take(groups)),
            },
        }
    }

    fn put(&mut self, groups: &[u32], taken: Kept) {
        if let (Some(counts), Some(taken)) = (&mut self.counts, taken.counts) {
            put_at(counts, groups, taken);
        }
        match (&mut self.sum, taken.sum) {
            (Sums::Int(s), Sums::Int(taken)) => put_at(s, groups, taken),
            (Sums::Decimal(s), Sums::Decimal(taken)) => put_at(s, groups, taken),
            (Sums::Float(s), Sums::Float(taken)) => put_at(s, groups, taken),
            _ => {}
        }
        match (&mut self.extremes, taken.extremes) {
            (Extremes::Small(e), Extremes::Small(taken)) => e.put(groups, taken),
            (Extremes::Large(e), Extremes::Large(taken)) => e.put(groups, taken),
            (Extremes::Text(e), Extremes::Text(taken)) => e.put(groups, taken),
            _ => {}
        }
    }

    /// Adds a batch: sums and counts take both signs, extremes only what comes.
    fn add(&mut self, places: &[u32], array: &ArrayRef, delta: &Delta) {
        if let Some(counts) = &mut self.counts {
            for (row, place) in places.iter().enumerate() {
                counts[*place as usize] += if array.is_null(row) { 0 } else { delta.diff(row) };
            }
        }
        self.sum.add(places, array, delta);
        self.extremes.add(places, array, delta);
    }

    fn clear(&mut self, group: usize) {
        if let Some(counts) = &mut self.counts {
            counts[group] = 0;
        }
        match &mut self.sum {
            Sums::None => {}
            Sums::Int(s) => s[group] = 0,
            Sums::Decimal(s) => s[group] = (0, 0),
            Sums::Float(s) => s[group] = ExactSum::new(),
        }
        match &mut self.extremes {
            Extremes::None => {}
            Extremes::Small(e) => e.clear(group),
            Extremes::Large(e) => e.clear(group),
            Extremes::Text(e) => e.clear(group),
        }
    }

    fn encode(&self, group: usize, out: &mut Vec<u8>) {
        if let Some(counts) = &self.counts {
            out.extend_from_slice(&counts[group].to_le_bytes());
        }
        match &self.sum {
            Sums::None => {}
            Sums::Int(s) => out.extend_from_slice(&s[group].to_le_bytes()),
            Sums::Decimal(s) => {
                out.extend_from_slice(&s[group].0.to_le_bytes());
                out.extend_from_slice(&s[group].1.to_le_bytes());
            }
            Sums::Float(s) => s[group].encode(out),
        }
        match &self.extremes {
            Extremes::None => {}
            Extremes::Small(e) => e.encode(group, out, |k, out| out.extend_from_slice(&k.to_le_bytes())),
            Extremes::Large(e) => e.encode(group, out, |k, out| out.extend_from_slice(&k.to_le_bytes())),
            Extremes::Text(e) => e.encode(group, out, |k, out| {
                out.extend_from_slice(&(k.len() as u32).to_le_bytes());
                out.extend_from_slice(k);
            }),
        }
    }

    fn decode(&mut self, group: usize, bytes: &mut &[u8]) {
        let int = |bytes: &mut &[u8]| i64::from_le_bytes(take(bytes, 8).try_into().expect("eight bytes"));
        let large = |bytes: &mut &[u8]| i128::from_le_bytes(take(bytes, 16).try_into().expect("sixteen bytes"));
        if let Some(counts) = &mut self.counts {
            counts[group] = int(bytes);
        }
        match &mut self.sum {
            Sums::None => {}
            Sums::Int(s) => s[group] = large(bytes),
            Sums::Decimal(s) => s[group] = (large(bytes), large(bytes)),
            Sums::Float(s) => s[group] = ExactSum::decode(bytes),
        }
        match &mut self.extremes {
            Extremes::None => {}
            Extremes::Small(e) => e.decode(group, bytes, |b| int(b) as u64),
            Extremes::Large(e) => e.decode(group, bytes, large),
            Extremes::Text(e) => e.decode(group, bytes, |b| {
                let len = u32::from_le_bytes(take(b, 4).try_into().expect("four bytes"));
                take(b, len as usize).into()
            }),
        }
    }
}

/// The sums of one argument.
enum Sums {
    None,
    Int(Vec<i128>),
    /// The high and the low 64 bits summed apart, so that neither overflows.
    Decimal(Vec<(i128, i128)>),
    Float(Vec<ExactSum>),
}

impl Sums {
    fn new(ty: Type) -> Sums {
        match ty {
            Type::Float64 => Sums::Float(Vec::new()),
            Type::Decimal => Sums::Decimal(Vec::new()),
            _ => Sums::Int(Vec::new()),
        }
    }

    fn add(&mut self, places: &[u32], array: &ArrayRef, delta: &Delta) {
        let plain = delta.is_insert_only() && array.null_count() == 0;
        match self {
            Sums::None => {}
            Sums::Int(sums) => {
                let values = array.as_primitive::<Int64Type>().values();
                if plain {
                    places.iter().zip(values).for_each(|(g, v)| sums[*g as usize] += i128::from(*v));
                } else {
                    for (row, group) in places.iter().enumerate().filter(|(row, _)| array.is_valid(*row)) {
                        sums[*group as usize] += i128::from(values[row]) * i128::from(delta.diff(row));
                    }
                }
            }
            Sums::Decimal(sums) => {
                let values = array.as_primitive::<Decimal128Type>().values();
                for (row, group) in places.iter().enumerate().filter(|(row, _)| array.is_valid(*row)) {
                    let (high, low) = &mut sums[*group as usize];
                    let times = i128::from(delta.diff(row));
                    *high += (values[row] >> 64) * times;
                    *low += i128::from(values[row] as u64) * times;
                }
            }
            Sums::Float(sums) => {
                let values = array.as_primitive::<Float64Type>().values();
                if plain {
                    places.iter().zip(values).for_each(|(g, v)| sums[*g as usize].add(*v));
                } else {
                    for (row, group) in places.iter().enumerate().filter(|(row, _)| array.is_valid(*row)) {
                        match delta.diff(row) {
                            1 => sums[*group as usize].add(values[row]),
                            -1 if values[row].is_finite() => sums[*group as usize].add(-values[row]),
                            times => sums[*group as usize].add_times(values[row], times),
                        }
                    }
                }
            }
        }
    }

    fn show(&self, counts: &[i64], cells: &mut Cells) {
        match self {
            Sums::Float(sums) => {
                cells.floats(sums.iter().zip(counts).map(|(sum, count)| (*count > 0).then(|| sum.value())));
            }
            _ => cells.decimals(counts.iter().enumerate().map(|(i, count)| self.whole(i).filter(|_| *count > 0))),
        }
    }

    /// The sum of whole places, if it has at most 38 digits.
    fn whole(&self, group: usize) -> Option<i128> {
        let sum = match self {
            Sums::Int(sums) => sums[group],
            Sums::Decimal(sums) => {
                let (high, low) = sums[group];
                let high = i64::try_from(high + (low >> 64)).ok()?;
                i128::from(high) << 64 | i128::from(low as u64)
            }
            _ => return None,
        };
        (sum.unsigned_abs() < 10u128.pow(38)).then_some(sum)
    }

    fn show_mean(&self, counts: &[i64], cells: &mut Cells) {
        let sum = |group: usize| match self {
            Sums::Float(sums) => Some(sums[group].value()),
            _ => self.whole(group).map(|s| s as f64),
        };
        let mean =
            |(group, count): (usize, &i64)| sum(group).filter(|_| *count > 0).map(|s| one_form(s / *count as f64));
        cells.floats(counts.iter().enumerate().map(mean));
    }
}

fn one_form(v: f64) -> f64 {
    if v.is_nan() { f64::NAN } else { v + 0.0 }
}

/// The extremes of one argument, its values as keys of one of three sorts.
enum Extremes {
    None,
    /// Everything of eight bytes, as an unsigned number of the same order.
    Small(Ends<u64>),
    Large(Ends<i128>),
    Text(Ends<Box<[u8]>>),
}

impl Extremes {
    fn new(ty: Type, append_only: bool) -> Extremes {
        match ty {
            Type::Decimal => Extremes::Large(Ends::new(append_only)),
            Type::String => Extremes::Text(Ends::new(append_only)),
            _ => Extremes::Small(Ends::new(append_only)),
        }
    }

    fn add(&mut self, places: &[u32], array: &ArrayRef, delta: &Delta) {
        self.apply(places, array, delta, true);
    }

    fn take_away(&mut self, places: &[u32], array: &ArrayRef, delta: &Delta) {
        self.apply(places, array, delta, false);
    }

    fn apply(&mut self, places: &[u32], array: &ArrayRef, delta: &Delta, coming: bool) {
        match self {
            Extremes::None => {}
            Extremes::Small(ends) => match Type::from_arrow(array.data_type()) {
                Some(Type::Float64) => {
                    let values = array.as_primitive::<Float64Type>().values();
                    ends.apply(places, array, delta, coming, |i| float_order(values[i]));
                }
                Some(Type::Int64) => {
                    let values = array.as_primitive::<Int64Type>().values();
                    ends.apply(places, array, delta, coming, |i| int_order(values[i]));
                }
                Some(Type::Timestamp) => {
                    let values = array.as_primitive::<TimestampMicrosecondType>().values();
                    ends.apply(places, array, delta, coming, |i| int_order(values[i]));
                }
                _ => {
                    let values = array.as_boolean();
                    ends.apply(places, array, delta, coming, |i| u64::from(values.value(i)));
                }
            },
            Extremes::Large(ends) => {
                let values = array.as_primitive::<Decimal128Type>().values();
                ends.apply(places, array, delta, coming, |i| values[i]);
            }
            Extremes::Text(ends) => {
                let values = array.as_string::<i32>();
                ends.apply(places, array, delta, coming, |i| values.value(i).as_bytes().into());
            }
        }
    }

    fn show(&self, least: bool, ty: Type, cells: &mut Cells) {
        match self {
            Extremes::None => unreachable!("planned with extremes"),
            Extremes::Small(ends) => {
                let keys = ends.iter(least).map(|k| k.copied());
                match ty {
                    Type::Float64 => cells.floats(keys.map(|k| k.map(float_of_order))),
                    Type::Bool => cells.nullable_ints(keys.map(|k| k.map(|k| k as i64))),
                    _ => cells.nullable_ints(keys.map(|k| k.map(|k| (k ^ 1 << 63) as i64))),
                }
            }
            Extremes::Large(ends) => cells.decimals(ends.iter(least).map(|k| k.copied())),
            Extremes::Text(ends) => {
                let text = |k: &Box<[u8]>| String::from_utf8_lossy(k).as_ref().into();
                cells.texts(ends.iter(least).map(|k| k.map(text)));
            }
        }
    }
}

fn int_order(v: i64) -> u64 {
    v as u64 ^ 1 << 63
}

fn float_order(v: f64) -> u64 {
    let bits = v.to_bits();
    if bits >> 63 == 1 { !bits } else { bits | 1 << 63 }
}

fn float_of_order(key: u64) -> f64 {
    f64::from_bits(if key >> 63 == 1 { key ^ 1 << 63 } else { !key })
}

/// The least and the greatest key of every group.
enum Ends<K> {
    /// Of streams, from which nothing goes: the ends alone.
    Growing(Vec<Option<(K, K)>>),
    /// Of tables: everything.
    Changing(Vec<Multiset<K>>),
}

impl<K: Ord + Clone> Ends<K> {
    fn new(append_only: bool) -> Ends<K> {
        if append_only { Ends::Growing(Vec::new()) } else { Ends::Changing(Vec::new()) }
    }

    fn resize(&mut self, len: usize) {
        match self {
            Ends::Growing(ends) => ends.resize(len, None),
            Ends::Changing(sets) => sets.resize_with(len, Multiset::default),
        }
    }

    fn clear(&mut self, group: usize) {
        match self {
            Ends::Growing(ends) => ends[group] = None,
            Ends::Changing(sets) => sets[group] = Multiset::default(),
        }
    }

    fn take(&mut self, groups: &[u32]) -> Ends<K> {
        match self {
            Ends::Growing(ends) => Ends::Growing(take_at(ends, groups)),
            Ends::Changing(sets) => Ends::Changing(take_at(sets, groups)),
        }
    }

    fn put(&mut self, groups: &[u32], taken: Ends<K>) {
        match (self, taken) {
            (Ends::Growing(ends), Ends::Growing(taken)) => put_at(ends, groups, taken),
            (Ends::Changing(sets), Ends::Changing(taken)) => put_at(sets, groups, taken),
            _ => unreachable!("taken from these"),
        }
    }

    /// The least or the greatest key of each group.
    fn iter(&self, least: bool) -> impl Iterator<Item = Option<&K>> {
        let len = match self {
            Ends::Growing(ends) => ends.len(),
            Ends::Changing(sets) => sets.len(),
        };
        (0..len).map(move |group| {
            let (l, h) = match self {
                Ends::Growing(ends) => ends[group].as_ref().map(|(l, h)| (l, h)),
                Ends::Changing(sets) => sets[group].extremes(),
            }?;
            Some(if least { l } else { h })
        })
    }

    #[inline]
    fn apply(&mut self, places: &[u32], array: &ArrayRef, delta: &Delta, coming: bool, key: impl Fn(usize) -> K) {
        let nulls = array.nulls().filter(|n| n.null_count() > 0);
        let rows = || places.iter().enumerate().filter(|(row, _)| nulls.is_none_or(|n| n.is_valid(*row)));
        match self {
            Ends::Growing(ends) => {
                assert!(delta.is_insert_only() || delta.diffs().iter().all(|d| *d > 0), "nothing goes from a stream");
                rows().for_each(|(row, group)| widen(&mut ends[*group as usize], key(row)));
            }
            Ends::Changing(sets) => {
                for (row, group) in rows() {
                    match delta.diff(row) {
                        diff if coming && diff > 0 => sets[*group as usize].add(key(row), diff),
                        diff if !coming && diff < 0 => sets[*group as usize].take(key(row), -diff),
                        _ => {}
                    }
                }
            }
        }
    }

    fn encode(&self, group: usize, out: &mut Vec<u8>, write: impl Fn(&K, &mut Vec<u8>)) {
        let Ends::Growing(ends) = self else { unreachable!("only streams are stored") };
        out.push(u8::from(ends[group].is_some()));
        if let Some((least, greatest)) = &ends[group] {
            write(least, out);
            write(greatest, out);
        }
    }

    fn decode(&mut self, group: usize, bytes: &mut &[u8], read: impl Fn(&mut &[u8]) -> K) {
        let Ends::Growing(ends) = self else { unreachable!("only streams are stored") };
        ends[group] = (take(bytes, 1)[0] == 1).then(|| (read(bytes), read(bytes)));
    }
}

/// Makes room between two ends for a key.
#[inline]
fn widen<K: Ord + Clone>(ends: &mut Option<(K, K)>, key: K) {
    match ends {
        None => *ends = Some((key.clone(), key)),
        Some((least, greatest)) => {
            if key < *least {
                *least = key;
            } else if key > *greatest {
                *greatest = key;
            }
        }
    }
}

/// A column of an output, before it is an array.
struct Cells {
    data: Data,
    valid: Vec<bool>,
}

enum Data {
    /// int64, timestamp, and bool as 0 and 1.
    Int(Vec<i64>),
    Float(Vec<f64>),
    Decimal(Vec<i128>),
    Text(Vec<Box<str>>),
}

impl Cells {
    fn new(ty: Type, capacity: usize) -> Cells {
        let data = match ty {
            Type::Float64 => Data::Float(Vec::with_capacity(capacity)),
            Type::Decimal => Data::Decimal(Vec::with_capacity(capacity)),
            Type::String => Data::Text(Vec::with_capacity(capacity)),
            _ => Data::Int(Vec::with_capacity(capacity)),
        };
        Cells { data, valid: Vec::with_capacity(capacity) }
    }

    fn ints(&mut self, values: &[i64]) {
        let Data::Int(data) = &mut self.data else { unreachable!("one column, one type") };
        self.valid.resize(self.valid.len() + values.len(), true);
        data.extend_from_slice(values);
    }

    fn nullable_ints(&mut self, values: impl Iterator<Item = Option<i64>>) {
        let Data::Int(data) = &mut self.data else { unreachable!("one column, one type") };
        extend(data, &mut self.valid, values);
    }

    fn floats(&mut self, values: impl Iterator<Item = Option<f64>>) {
        let Data::Float(data) = &mut self.data else { unreachable!("one column, one type") };
        extend(data, &mut self.valid, values);
    }

    fn decimals(&mut self, values: impl Iterator<Item = Option<i128>>) {
        let Data::Decimal(data) = &mut self.data else { unreachable!("one column, one type") };
        extend(data, &mut self.valid, values);
    }

    fn texts(&mut self, values: impl Iterator<Item = Option<Box<str>>>) {
        let Data::Text(data) = &mut self.data else { unreachable!("one column, one type") };
        extend(data, &mut self.valid, values);
    }

    /// Whether two cells are the same.
    #[inline]
    fn same(&self, a: usize, b: usize) -> bool {
        if self.valid[a] != self.valid[b] {
            return false;
        }
        !self.valid[a]
            || match &self.data {
                Data::Int(v) => v[a] == v[b],
                Data::Float(v) => v[a].to_bits() == v[b].to_bits(),
                Data::Decimal(v) => v[a] == v[b],
                Data::Text(v) => v[a] == v[b],
            }
    }

    /// The cells at some places as an array.
    fn array(&self, places: &[u32], ty: Type) -> ArrayRef {
        let valid: Vec<bool> = places.iter().map(|p| self.valid[*p as usize]).collect();
        let nulls = valid.contains(&false).then(|| NullBuffer::from(valid));
        match &self.data {
            Data::Int(v) => {
                let values = places.iter().map(|p| v[*p as usize]);
                match ty {
                    Type::Bool => Arc::new(BooleanArray::new(values.map(|v| v != 0).collect(), nulls)),
                    Type::Timestamp => {
                        let values: ScalarBuffer<i64> = values.collect();
                        Arc::new(TimestampMicrosecondArray::new(values, nulls).with_timezone("UTC"))
                    }
                    _ => Arc::new(Int64Array::new(values.collect(), nulls)),
                }
            }
            Data::Float(v) => Arc::new(Float64Array::new(places.iter().map(|p| v[*p as usize]).collect(), nulls)),
            Data::Decimal(v) => {
                let values: ScalarBuffer<i128> = places.iter().map(|p| v[*p as usize]).collect();
                Arc::new(Decimal128Array::new(values, nulls).with_data_type(ty.arrow()))
            }
            Data::Text(v) => Arc::new(StringArray::from_iter(
                places.iter().map(|p| self.valid[*p as usize].then(|| &*v[*p as usize])),
            )),
        }
    }
}

#[inline]
fn extend<T: Default>(data: &mut Vec<T>, valid: &mut Vec<bool>, values: impl Iterator<Item = Option<T>>) {
    for value in values {
        valid.push(value.is_some());
        data.push(value.unwrap_or_default());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_of_floats_go_and_come_back() {
        let floats = [f64::NEG_INFINITY, -1.5, -0.0, 0.0, f64::MIN_POSITIVE, 2.0, f64::INFINITY, f64::NAN];
        assert!(floats.windows(2).all(|w| float_order(w[0]) < float_order(w[1])));
        assert!(floats.iter().all(|f| float_of_order(float_order(*f)).to_bits() == f.to_bits()));
    }
}
