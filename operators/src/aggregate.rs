//! `aggregate`: counts, exact sums, extremes and means of the rows of each group.
//!
//! Groups are found by hash and numbered; everything kept of a group stands under its number in plain columns, so that
//! an epoch is a few tight loops over its rows. What an epoch did not touch costs nothing.

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
use types::{Column, Delta, RowCodec, Schema, Type, Value};

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
    /// How many rows each group has.
    rows: Vec<i64>,
    /// The last step that touched each group.
    touched_at: Vec<u32>,
    /// Whether each group is in the output.
    shown: Vec<bool>,
    /// What the output shows of each group, a column each.
    cells: Vec<Cells>,
    kept: Vec<Kept>,
    /// The groups this step touched, in no order that matters.
    touched: Vec<u32>,
    step: u32,
    /// Scratch: the group of each row of a batch.
    numbers: Vec<u32>,
}

impl Aggregate {
    fn new(shape: Arc<Shape>) -> Aggregate {
        let by: Vec<Type> = shape.by.iter().map(|i| shape.input.columns[*i].ty).collect();
        let outputs = shape.schema.columns.iter().skip(shape.by.len());
        Aggregate {
            refusal: Refusal::new(&shape.relation, &shape.input),
            schema: shape.schema.arrow(),
            groups: Groups::new(&by),
            rows: Vec::new(),
            touched_at: Vec::new(),
            shown: Vec::new(),
            cells: outputs.map(|c| Cells::new(c.ty)).collect(),
            kept: shape.arguments.iter().map(|a| Kept::new(a, shape.input.append_only)).collect(),
            touched: Vec::new(),
            step: 0,
            numbers: Vec::new(),
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

    /// Finds the group of every row, and counts the rows.
    fn number(&mut self, delta: &Delta) {
        let by: Vec<ArrayRef> = self.shape.by.iter().map(|i| delta.column(*i).clone()).collect();
        self.groups.number(&by, &mut self.numbers);
        self.grow();
        for (row, group) in self.numbers.iter().enumerate() {
            let g = *group as usize;
            self.rows[g] += delta.diff(row);
            if self.touched_at[g] != self.step {
                self.touched_at[g] = self.step;
                self.touched.push(*group);
            }
        }
    }

    fn grow(&mut self) {
        let len = self.groups.len();
        self.rows.resize(len, 0);
        self.touched_at.resize(len, 0);
        self.shown.resize(len, false);
        self.cells.iter_mut().for_each(|c| c.resize(len));
        self.kept.iter_mut().for_each(|k| k.resize(len));
    }

    /// What an output shows for some groups now.
    fn compute(&self, output: Output, groups: &[u32]) -> Cells {
        let counts = |a: usize| self.kept[a].counts.as_ref().unwrap_or(&self.rows);
        match output {
            Output::Rows => Cells::ints(groups.iter().map(|g| self.rows[*g as usize])),
            Output::Count(a) => Cells::ints(groups.iter().map(|g| counts(a)[*g as usize])),
            Output::Sum(a) => self.kept[a].sum.show(groups, counts(a)),
            Output::Avg(a) => self.kept[a].sum.show_mean(groups, counts(a)),
            Output::Min(a) => self.kept[a].extremes.show(groups, true, self.shape.arguments[a].expression.ty),
            Output::Max(a) => self.kept[a].extremes.show(groups, false, self.shape.arguments[a].expression.ty),
        }
    }

    /// Emits what changed, stores it, and lets go of empty groups.
    fn finish(&mut self, context: &mut Context) {
        let touched = std::mem::take(&mut self.touched);
        let new: Vec<Cells> = self.shape.outputs.iter().map(|o| self.compute(*o, &touched)).collect();
        let mut before = Vec::with_capacity(touched.len());
        let mut after = Vec::with_capacity(touched.len());
        let mut after_groups = Vec::with_capacity(touched.len());
        for (i, group) in touched.iter().enumerate() {
            let g = *group as usize;
            let (was, is) = (self.shown[g], self.rows[g] > 0);
            if was && is && self.cells.iter().zip(&new).all(|(old, new)| old.same(g, new, i)) {
                continue;
            }
            if was {
                before.push(*group);
            }
            if is {
                after.push(i as u32);
                after_groups.push(*group);
            }
        }
        context.emit(0, Delta::delete(self.batch(&before, &self.cells, &before)));
        context.emit(0, Delta::insert(self.batch(&after_groups, &new, &after)));
        for (old, new) in self.cells.iter_mut().zip(&new) {
            old.set(&after_groups, new, &after);
        }
        if self.shape.input.append_only {
            // Every touched group: what is kept may change where what is shown does not (a term below the sum's last bit).
            self.store(&touched, context);
        }
        for group in &touched {
            let g = *group as usize;
            self.shown[g] = self.rows[g] > 0;
            if self.rows[g] == 0 {
                self.kept.iter_mut().for_each(|k| k.clear(g));
                self.groups.remove(*group);
            }
        }
        self.touched = touched;
        self.touched.clear();
    }

    fn batch(&self, groups: &[u32], cells: &[Cells], places: &[u32]) -> RecordBatch {
        if groups.is_empty() {
            return RecordBatch::new_empty(self.schema.clone());
        }
        let mut columns = self.groups.columns(groups);
        columns.extend(
            cells
                .iter()
                .zip(self.shape.schema.columns.iter().skip(self.shape.by.len()))
                .map(|(c, column)| c.array(places, column.ty)),
        );
        RecordBatch::try_new(self.schema.clone(), columns).expect("the planned columns")
    }

    fn store(&self, groups: &[u32], context: &mut Context) {
        let mut key = Vec::new();
        let mut value = Vec::new();
        for group in groups {
            let g = *group as usize;
            key.clear();
            self.groups.key(*group, &mut key);
            value.clear();
            value.extend_from_slice(&self.rows[g].to_le_bytes());
            self.kept.iter().for_each(|k| k.encode(g, &mut value));
            context.put_state(&key, &[], Some(&value));
        }
    }
}

impl TableOperator for Aggregate {
    fn restore(&mut self, key: &[u8], value: &[u8]) {
        let group = self.groups.number_of_key(key);
        self.grow();
        let mut rest = value;
        self.rows[group as usize] = i64::from_le_bytes(take(&mut rest, 8).try_into().expect("eight bytes"));
        self.kept.iter_mut().for_each(|k| k.decode(group as usize, &mut rest));
        self.touched.push(group);
    }

    fn step(&mut self, inputs: Vec<Vec<Delta>>, context: &mut Context) {
        if self.step == 0 && !self.touched.is_empty() {
            // What was restored is what the output shows.
            let restored = std::mem::take(&mut self.touched);
            let cells: Vec<Cells> = self.shape.outputs.iter().map(|o| self.compute(*o, &restored)).collect();
            let places: Vec<u32> = (0..restored.len() as u32).collect();
            for (all, restored_cells) in self.cells.iter_mut().zip(&cells) {
                all.set(&restored, restored_cells, &places);
            }
            restored.iter().for_each(|g| self.shown[*g as usize] = true);
        }
        self.step += 1;
        let mut taken: Vec<(Delta, Vec<u32>, Vec<ArrayRef>)> = Vec::new();
        for delta in inputs.into_iter().flatten() {
            let (delta, values) = self.arguments(delta, context);
            self.number(&delta);
            for (kept, array) in self.kept.iter_mut().zip(&values) {
                kept.add(&self.numbers, array, &delta);
            }
            if !delta.is_insert_only() {
                taken.push((delta, self.numbers.clone(), values));
            }
        }
        // Within an epoch a row may go before it comes; extremes want it the other way round.
        for (delta, numbers, values) in taken {
            for (kept, array) in self.kept.iter_mut().zip(&values) {
                kept.extremes.take(&numbers, array, &delta);
            }
        }
        self.finish(context);
    }
}

fn take<'a>(bytes: &mut &'a [u8], n: usize) -> &'a [u8] {
    let (front, rest) = bytes.split_at(n);
    *bytes = rest;
    front
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

    /// Adds a batch: sums and counts take both signs, extremes only what comes.
    fn add(&mut self, numbers: &[u32], array: &ArrayRef, delta: &Delta) {
        if let Some(counts) = &mut self.counts {
            for (row, group) in numbers.iter().enumerate() {
                counts[*group as usize] += if array.is_null(row) { 0 } else { delta.diff(row) };
            }
        }
        self.sum.add(numbers, array, delta);
        self.extremes.add(numbers, array, delta);
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

    fn add(&mut self, numbers: &[u32], array: &ArrayRef, delta: &Delta) {
        let plain = delta.is_insert_only() && array.null_count() == 0;
        match self {
            Sums::None => {}
            Sums::Int(sums) => {
                let values = array.as_primitive::<Int64Type>().values();
                if plain {
                    numbers.iter().zip(values).for_each(|(g, v)| sums[*g as usize] += i128::from(*v));
                } else {
                    for (row, group) in numbers.iter().enumerate().filter(|(row, _)| array.is_valid(*row)) {
                        sums[*group as usize] += i128::from(values[row]) * i128::from(delta.diff(row));
                    }
                }
            }
            Sums::Decimal(sums) => {
                let values = array.as_primitive::<Decimal128Type>().values();
                for (row, group) in numbers.iter().enumerate().filter(|(row, _)| array.is_valid(*row)) {
                    let (high, low) = &mut sums[*group as usize];
                    let times = i128::from(delta.diff(row));
                    *high += (values[row] >> 64) * times;
                    *low += i128::from(values[row] as u64) * times;
                }
            }
            Sums::Float(sums) => {
                let values = array.as_primitive::<Float64Type>().values();
                if plain {
                    numbers.iter().zip(values).for_each(|(g, v)| sums[*g as usize].add(*v));
                } else {
                    for (row, group) in numbers.iter().enumerate().filter(|(row, _)| array.is_valid(*row)) {
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

    fn show(&self, groups: &[u32], counts: &[i64]) -> Cells {
        let valid = |g: &u32| counts[*g as usize] > 0;
        match self {
            Sums::Float(sums) => {
                let values = groups.iter().map(|g| sums[*g as usize].value()).collect();
                Cells { data: Data::Float(values), valid: groups.iter().map(valid).collect() }
            }
            _ => {
                let totals: Vec<Option<i128>> = groups.iter().map(|g| self.whole(*g).filter(|_| valid(g))).collect();
                Cells {
                    valid: totals.iter().map(Option::is_some).collect(),
                    data: Data::Decimal(totals.into_iter().map(Option::unwrap_or_default).collect()),
                }
            }
        }
    }

    /// The sum of whole numbers, if it has at most 38 digits.
    fn whole(&self, group: u32) -> Option<i128> {
        let sum = match self {
            Sums::Int(sums) => sums[group as usize],
            Sums::Decimal(sums) => {
                let (high, low) = sums[group as usize];
                let high = i64::try_from(high + (low >> 64)).ok()?;
                i128::from(high) << 64 | i128::from(low as u64)
            }
            _ => return None,
        };
        (sum.unsigned_abs() < 10u128.pow(38)).then_some(sum)
    }

    fn show_mean(&self, groups: &[u32], counts: &[i64]) -> Cells {
        let mut cells = self.show(groups, counts);
        let count = |i: usize| counts[groups[i] as usize] as f64;
        let means = match &cells.data {
            Data::Float(sums) => sums.iter().enumerate().map(|(i, s)| one_form(s / count(i))).collect(),
            Data::Decimal(sums) => sums.iter().enumerate().map(|(i, s)| one_form(*s as f64 / count(i))).collect(),
            _ => unreachable!("sums are floats or decimals"),
        };
        cells.data = Data::Float(means);
        cells
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

    fn add(&mut self, numbers: &[u32], array: &ArrayRef, delta: &Delta) {
        self.apply(numbers, array, delta, true);
    }

    fn take(&mut self, numbers: &[u32], array: &ArrayRef, delta: &Delta) {
        self.apply(numbers, array, delta, false);
    }

    fn apply(&mut self, numbers: &[u32], array: &ArrayRef, delta: &Delta, coming: bool) {
        match self {
            Extremes::None => {}
            Extremes::Small(ends) => match Type::from_arrow(array.data_type()) {
                Some(Type::Float64) => {
                    let values = array.as_primitive::<Float64Type>().values();
                    ends.apply(numbers, array, delta, coming, |i| float_order(values[i]));
                }
                Some(Type::Int64) => {
                    let values = array.as_primitive::<Int64Type>().values();
                    ends.apply(numbers, array, delta, coming, |i| int_order(values[i]));
                }
                Some(Type::Timestamp) => {
                    let values = array.as_primitive::<TimestampMicrosecondType>().values();
                    ends.apply(numbers, array, delta, coming, |i| int_order(values[i]));
                }
                _ => {
                    let values = array.as_boolean();
                    ends.apply(numbers, array, delta, coming, |i| u64::from(values.value(i)));
                }
            },
            Extremes::Large(ends) => {
                let values = array.as_primitive::<Decimal128Type>().values();
                ends.apply(numbers, array, delta, coming, |i| values[i]);
            }
            Extremes::Text(ends) => {
                let values = array.as_string::<i32>();
                ends.apply(numbers, array, delta, coming, |i| values.value(i).as_bytes().into());
            }
        }
    }

    fn show(&self, groups: &[u32], least: bool, ty: Type) -> Cells {
        match self {
            Extremes::None => unreachable!("planned with extremes"),
            Extremes::Small(ends) => {
                let found = ends.show(groups, least);
                let valid = found.iter().map(Option::is_some).collect();
                let keys = found.into_iter().map(|k| k.copied().unwrap_or_default());
                let data = match ty {
                    Type::Float64 => Data::Float(keys.map(float_of_order).collect()),
                    Type::Bool => Data::Int(keys.map(|k| k as i64).collect()),
                    _ => Data::Int(keys.map(|k| (k ^ 1 << 63) as i64).collect()),
                };
                Cells { data, valid }
            }
            Extremes::Large(ends) => {
                let found = ends.show(groups, least);
                let valid = found.iter().map(Option::is_some).collect();
                Cells {
                    data: Data::Decimal(found.into_iter().map(|k| k.copied().unwrap_or_default()).collect()),
                    valid,
                }
            }
            Extremes::Text(ends) => {
                let found = ends.show(groups, least);
                let valid = found.iter().map(Option::is_some).collect();
                let text = |k: Option<&Box<[u8]>>| String::from_utf8_lossy(k.map_or(&[], |k| k)).as_ref().into();
                Cells { data: Data::Text(found.into_iter().map(text).collect()), valid }
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

    #[inline]
    fn apply(&mut self, numbers: &[u32], array: &ArrayRef, delta: &Delta, coming: bool, key: impl Fn(usize) -> K) {
        let nulls = array.nulls();
        for (row, group) in numbers.iter().enumerate() {
            if nulls.is_some_and(|n| n.is_null(row)) {
                continue;
            }
            let diff = delta.diff(row);
            match self {
                Ends::Growing(ends) => {
                    assert!(diff > 0, "nothing goes from a stream");
                    let key = key(row);
                    match &mut ends[*group as usize] {
                        None => ends[*group as usize] = Some((key.clone(), key)),
                        Some((least, greatest)) => {
                            if key < *least {
                                *least = key;
                            } else if key > *greatest {
                                *greatest = key;
                            }
                        }
                    }
                }
                Ends::Changing(sets) if coming && diff > 0 => sets[*group as usize].add(key(row), diff),
                Ends::Changing(sets) if !coming && diff < 0 => sets[*group as usize].take(key(row), -diff),
                Ends::Changing(_) => {}
            }
        }
    }

    fn show(&self, groups: &[u32], least: bool) -> Vec<Option<&K>> {
        let of = |g: &u32| {
            let ends = match self {
                Ends::Growing(ends) => ends[*g as usize].as_ref().map(|(l, h)| (l, h)),
                Ends::Changing(sets) => sets[*g as usize].extremes(),
            };
            ends.map(|(l, h)| if least { l } else { h })
        };
        groups.iter().map(of).collect()
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
    fn new(ty: Type) -> Cells {
        let data = match ty {
            Type::Float64 => Data::Float(Vec::new()),
            Type::Decimal => Data::Decimal(Vec::new()),
            Type::String => Data::Text(Vec::new()),
            _ => Data::Int(Vec::new()),
        };
        Cells { data, valid: Vec::new() }
    }

    fn ints(values: impl Iterator<Item = i64>) -> Cells {
        let values: Vec<i64> = values.collect();
        Cells { valid: vec![true; values.len()], data: Data::Int(values) }
    }

    fn resize(&mut self, len: usize) {
        self.valid.resize(len, false);
        match &mut self.data {
            Data::Int(v) => v.resize(len, 0),
            Data::Float(v) => v.resize(len, 0.0),
            Data::Decimal(v) => v.resize(len, 0),
            Data::Text(v) => v.resize(len, Box::default()),
        }
    }

    /// Whether the cell at one place is that of another column at its place.
    fn same(&self, place: usize, other: &Cells, other_place: usize) -> bool {
        if self.valid[place] != other.valid[other_place] {
            return false;
        }
        !self.valid[place]
            || match (&self.data, &other.data) {
                (Data::Int(a), Data::Int(b)) => a[place] == b[other_place],
                (Data::Float(a), Data::Float(b)) => a[place].to_bits() == b[other_place].to_bits(),
                (Data::Decimal(a), Data::Decimal(b)) => a[place] == b[other_place],
                (Data::Text(a), Data::Text(b)) => a[place] == b[other_place],
                _ => false,
            }
    }

    /// Copies cells: `self[places[i]] = other[others[i]]`.
    fn set(&mut self, places: &[u32], other: &Cells, others: &[u32]) {
        let pairs = || places.iter().zip(others).map(|(p, o)| (*p as usize, *o as usize));
        pairs().for_each(|(p, o)| self.valid[p] = other.valid[o]);
        match (&mut self.data, &other.data) {
            (Data::Int(a), Data::Int(b)) => pairs().for_each(|(p, o)| a[p] = b[o]),
            (Data::Float(a), Data::Float(b)) => pairs().for_each(|(p, o)| a[p] = b[o]),
            (Data::Decimal(a), Data::Decimal(b)) => pairs().for_each(|(p, o)| a[p] = b[o]),
            (Data::Text(a), Data::Text(b)) => pairs().for_each(|(p, o)| a[p].clone_from(&b[o])),
            _ => unreachable!("one column, one type"),
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
