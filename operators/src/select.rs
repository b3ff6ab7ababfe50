//! `select`: filters rows and computes columns, each row for itself.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, RecordBatchOptions};
use arrow::datatypes::SchemaRef;
use engine::catalogue::{Model, OperatorDef, OptionDef, Relations, Row};
use engine::operator::{Context, StepKind, TableOperator};
use engine::pipeline::Section;
use engine::plan::{Route, StepInput, StepOutput, StepPlan};
use types::{Column, Delta, RowCodec, SEQ, Schema, Type, Value};

use crate::expression::{Expression, evaluate_row};
use crate::refusal::{EXPRESSION, Refusal};

/// The catalogue's entry.
pub(crate) const DEF: OperatorDef = OperatorDef {
    name: "select",
    summary: "Filters the rows of a relation and computes columns from each of them.",
    doc: "\
Each row for itself: rows for which `filter` is true are kept (null counts as false), and `columns` says what they
become. Columns are computed for kept rows only, so a filter may guard them.

Expressions are SQL scalar expressions with DataFusion's functions. Column names are case-sensitive. Integers are
exact: overflow and division by zero are errors, not wrapped values. What is not a function of the row alone (`now()`,
`random()`, subqueries, aggregates) is refused.

The key columns of the input must be among the columns, unchanged; they may be renamed. The output has the same key.
A stream stays a stream: the hidden number of its rows is carried along, and so is its event time if that column is
kept unchanged.

**Faults.** A row for which an expression has no value (division by zero, overflow, a cast of bad text) is left out
and reported with reason `expression`. When the row goes from the input, so does the fault.",
    options: &[
        OptionDef { name: "input", shape: "relation", default: None, doc: "The source or step to read." },
        OptionDef {
            name: "columns",
            shape: "table of name = expression, or list of column names",
            default: Some("all columns"),
            doc: "The columns of the output, in this order.",
        },
        OptionDef {
            name: "filter",
            shape: "expression of type bool",
            default: Some("every row"),
            doc: "Which rows are kept.",
        },
    ],
    example: "\
name = \"fares\"

[sources.trips]
type = \"file\"
path = \"trips.csv\"
format = \"csv\"
columns = { id = \"int64\", distance_km = \"float64\", fare = \"float64\" }
key = [\"id\"]

[steps.paid]
operator = \"select\"
input = \"trips\"
filter = \"fare > 0 AND distance_km > 0\"
columns = { id = \"id\", fare = \"fare\", fare_per_km = \"fare / distance_km\" }
",
    plan,
};

fn plan(section: &mut Section<'_>, relations: &Relations<'_>) -> Option<StepPlan> {
    let (relation, schema) = relations.input(section, "input")?;
    let listed = columns(section, schema);
    let filter = match section.string("filter") {
        Some(text) => match filter(&text, schema) {
            Ok(filter) => Some(filter),
            Err(message) => {
                section.problem("filter", message);
                return None;
            }
        },
        None => None,
    };
    match Select::new(&relation, schema, listed?, filter) {
        Ok(select) => Some(select.plan()),
        Err(message) => {
            section.problem("columns", message);
            None
        }
    }
}

fn columns(section: &mut Section<'_>, schema: &Schema) -> Option<Vec<(String, Expression)>> {
    if !section.has("columns") {
        return Some(every_column(schema));
    }
    if !section.is_table("columns") {
        let listed = section.columns("columns", schema)?;
        return Some(
            listed.iter().map(|i| (schema.columns[*i].name.clone(), Expression::column(schema, *i))).collect(),
        );
    }
    let mut good = true;
    let mut listed = Vec::new();
    for (name, text) in section.string_map("columns")? {
        match Expression::parse(&text, schema) {
            Ok(expression) => listed.push((name, expression)),
            Err(message) => {
                section.problem(&format!("columns.{name}"), message);
                good = false;
            }
        }
    }
    good.then_some(listed)
}

/// Every column but the hidden one, as it is.
fn every_column(schema: &Schema) -> Vec<(String, Expression)> {
    let shown = (0..schema.columns.len()).filter(|i| schema.columns[*i].name != SEQ);
    shown.map(|i| (schema.columns[i].name.clone(), Expression::column(schema, i))).collect()
}

/// Reads an expression that says which rows are kept.
pub fn filter(text: &str, schema: &Schema) -> Result<Expression, String> {
    let filter = Expression::parse(text, schema)?;
    if filter.ty != Type::Bool {
        return Err(format!("`{text}` has the type {}, and a filter must have the type bool", filter.ty));
    }
    Ok(filter)
}

/// A selection that has been checked.
#[derive(Clone, Debug)]
pub struct Select {
    relation: String,
    input: Schema,
    columns: Vec<Expression>,
    filter: Option<Expression>,
    output: Schema,
}

impl Select {
    /// A selection from a relation. The error says why there can be none.
    pub fn new(
        relation: &str,
        input: &Schema,
        mut columns: Vec<(String, Expression)>,
        filter: Option<Expression>,
    ) -> Result<Select, String> {
        if input.append_only
            && let Some(seq) = input.index_of(SEQ)
            && !columns.iter().any(|(_, e)| e.as_column() == Some(seq))
        {
            columns.push((SEQ.to_owned(), Expression::column(input, seq)));
        }
        for (i, (name, _)) in columns.iter().enumerate() {
            if columns[..i].iter().any(|(other, _)| other == name) {
                return Err(format!("the column `{name}` is given twice"));
            }
        }
        let place = |column: usize| columns.iter().position(|(_, e)| e.as_column() == Some(column));
        let mut key = Vec::new();
        for k in &input.key {
            let name = &input.columns[*k].name;
            match place(*k) {
                Some(p) => key.push(p),
                None => {
                    return Err(format!(
                        "the column `{name}` is in the key of `{relation}` and must be kept as it is: add `{name} = \"{name}\"`"
                    ));
                }
            }
        }
        let event_time = input.event_time.and_then(place);
        let output = Schema {
            columns: columns
                .iter()
                .map(|(name, e)| Column { name: name.clone(), ty: e.ty, nullable: e.nullable })
                .collect(),
            key,
            event_time,
            append_only: input.append_only,
        };
        let columns = columns.into_iter().map(|(_, e)| e).collect();
        Ok(Select { relation: relation.to_owned(), input: input.clone(), columns, filter, output })
    }

    /// The step's plan.
    pub fn plan(self) -> StepPlan {
        let select = Arc::new(self);
        let made = select.clone();
        StepPlan {
            inputs: vec![StepInput { relation: select.relation.clone(), route: Route::Stay }],
            outputs: vec![StepOutput { suffix: None, schema: select.output.clone() }],
            kind: StepKind::Table(Arc::new(move || Box::new(Selector::new(made.clone())) as Box<dyn TableOperator>)),
            persistent: false,
            detail: select.detail(),
            model: select.model(),
        }
    }

    fn detail(&self) -> String {
        let columns: Vec<String> = self
            .output
            .columns
            .iter()
            .zip(&self.columns)
            .map(|(c, e)| if c.name == e.text { c.name.clone() } else { format!("{} as {}", e.text, c.name) })
            .collect();
        let filter = self.filter.as_ref().map_or(String::new(), |f| format!(" where {}", f.text));
        format!("{} from {}{filter}", columns.join(", "), self.relation)
    }

    fn model(&self) -> Model {
        let (select, codec) = (self.clone(), RowCodec::new(&self.input));
        Arc::new(move |inputs: &[Vec<Row>]| {
            let kept = inputs[0].iter().filter_map(|row| {
                let keep = select.filter.as_ref().map_or(Ok(Value::Bool(true)), |f| evaluate_row(f, &codec, row));
                if keep != Ok(Value::Bool(true)) {
                    return None;
                }
                select.columns.iter().map(|e| evaluate_row(e, &codec, row).ok()).collect()
            });
            vec![kept.collect()]
        })
    }
}

/// The selection at work.
struct Selector {
    select: Arc<Select>,
    schema: SchemaRef,
    refusal: Refusal,
}

impl Selector {
    fn new(select: Arc<Select>) -> Selector {
        Selector { schema: select.output.arrow(), refusal: Refusal::new(&select.relation, &select.input), select }
    }

    fn filtered(&self, delta: Delta, filter: &Expression, context: &mut Context) -> Delta {
        let (keep, errors) = filter.evaluate(&delta.rows);
        for (row, error) in errors {
            self.refuse(&delta, row, filter, error, context);
        }
        let keep = keep.as_boolean();
        let kept: Vec<u32> =
            (0..delta.len()).filter(|i| keep.is_valid(*i) && keep.value(*i)).map(|i| i as u32).collect();
        if kept.len() == delta.len() { delta } else { delta.take(&kept) }
    }

    fn computed(&self, delta: Delta, context: &mut Context) -> Delta {
        let mut failed = vec![false; delta.len()];
        let mut columns: Vec<ArrayRef> = Vec::with_capacity(self.select.columns.len());
        for expression in &self.select.columns {
            let (values, errors) = expression.evaluate(&delta.rows);
            for (row, error) in errors {
                if !std::mem::replace(&mut failed[row], true) {
                    self.refuse(&delta, row, expression, error, context);
                }
            }
            columns.push(values);
        }
        let options = RecordBatchOptions::new().with_row_count(Some(delta.len()));
        let rows =
            RecordBatch::try_new_with_options(self.schema.clone(), columns, &options).expect("the planned columns");
        let out = delta.with_rows(rows);
        if !failed.contains(&true) {
            return out;
        }
        let good: Vec<u32> = (0..out.len()).filter(|i| !failed[*i]).map(|i| i as u32).collect();
        out.take(&good)
    }

    fn refuse(&self, delta: &Delta, row: usize, expression: &Expression, error: String, context: &mut Context) {
        let detail = format!("`{}`: {error}", expression.text);
        self.refusal.refuse(context, &delta.rows, row, delta.diff(row), EXPRESSION, detail);
    }
}

impl TableOperator for Selector {
    fn step(&mut self, inputs: Vec<Vec<Delta>>, context: &mut Context) {
        for delta in inputs.into_iter().flatten() {
            let delta = match &self.select.filter {
                Some(filter) => self.filtered(delta, filter, context),
                None => delta,
            };
            let out = self.computed(delta, context);
            context.emit(0, out);
        }
    }
}
