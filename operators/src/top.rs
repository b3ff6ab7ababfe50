//! `top`: the first k rows of each group in a stated order, with their ranks.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch};
use arrow::compute::SortOptions;
use arrow::datatypes::SchemaRef;
use arrow::row::{RowConverter, SortField};
use engine::catalogue::{Model, OperatorDef, OptionDef, Relations, Row};
use engine::operator::{Context, StepKind, TableOperator};
use engine::pipeline::Section;
use engine::plan::{Route, StepInput, StepOutput, StepPlan};
use types::{Column, Delta, RowCodec, Schema, Type, Value};

/// The catalogue's entry.
pub(crate) const DEF: OperatorDef = OperatorDef {
    name: "top",
    summary: "Keeps the first k rows of each group in a stated order, with their ranks.",
    doc: "\
The first `k` rows of each group by `order`, each with its place in the column `rank`, from 1. Without `by` all rows
are one group. The key is that of the input.

Values are ordered as they are stored (strings by bytes, NaN above all numbers); nulls come last in either direction.
**Ties** are broken by the key, ascending, so the order is total and the same everywhere.

Every row of the input is held in memory, in order: a change costs the logarithm of its group and at most k places of
the output.",
    options: &[
        OptionDef { name: "input", shape: "relation", default: None, doc: "The source or step to read." },
        OptionDef { name: "by", shape: "list of column names", default: Some("one group"), doc: "What makes a group." },
        OptionDef {
            name: "order",
            shape: "list of `column`, `column asc` or `column desc`",
            default: None,
            doc: "What comes first: by the first column, among equals by the second, and so on.",
        },
        OptionDef { name: "k", shape: "int64", default: None, doc: "How many rows of each group, at least 1." },
        OptionDef {
            name: "rank",
            shape: "string",
            default: Some("rank"),
            doc: "The name of the column with the places.",
        },
    ],
    example: "\
name = \"leaders\"

[sources.players]
type = \"file\"
path = \"players.csv\"
format = \"csv\"
columns = { id = \"int64\", team = \"string\", score = \"float64\" }
key = [\"id\"]

[steps.leaders]
operator = \"top\"
input = \"players\"
by = [\"team\"]
order = [\"score desc\", \"id\"]
k = 3
",
    plan,
};

fn plan(section: &mut Section<'_>, relations: &Relations<'_>) -> Option<StepPlan> {
    let (relation, schema) = relations.input(section, "input")?;
    let by = if section.has("by") { section.columns("by", schema) } else { Some(Vec::new()) };
    let texts = section.required_strings("order");
    let k = section.int_in("k", 1..=i64::MAX);
    if !section.has("k") {
        section.problem("k", "`k` is missing: expected how many rows of each group are kept");
    }
    let rank = section.string("rank").unwrap_or_else(|| "rank".to_owned());
    let mut order = Vec::new();
    let mut good = true;
    for text in texts? {
        let (name, descending) = direction(&text);
        match schema.index_of(name) {
            Some(column) => order.push((column, descending)),
            None => {
                section.unknown_name("order", "column", name, schema.columns.iter().map(|c| c.name.as_str()));
                good = false;
            }
        }
    }
    let (by, k, true) = (by?, k?, good) else { return None };
    match Top::new(&relation, schema, by, order, k as usize, &rank) {
        Ok(top) => Some(top.plan()),
        Err(message) => {
            section.problem("rank", message);
            None
        }
    }
}

/// `score desc` as a column's name and whether the greatest comes first.
fn direction(text: &str) -> (&str, bool) {
    match text.trim().rsplit_once(char::is_whitespace) {
        Some((name, word)) if word.eq_ignore_ascii_case("desc") => (name.trim_end(), true),
        Some((name, word)) if word.eq_ignore_ascii_case("asc") => (name.trim_end(), false),
        _ => (text.trim(), false),
    }
}

/// A ranking that has been checked.
#[derive(Clone, Debug)]
pub struct Top {
    relation: String,
    input: Schema,
    by: Vec<usize>,
    /// Columns, each with whether the greatest comes first.
    order: Vec<(usize, bool)>,
    k: usize,
    schema: Schema,
}

impl Top {
    /// A ranking of a relation's rows. The error says why there can be none.
    pub fn new(
        relation: &str,
        input: &Schema,
        by: Vec<usize>,
        order: Vec<(usize, bool)>,
        k: usize,
        rank: &str,
    ) -> Result<Top, String> {
        if input.index_of(rank).is_some() {
            return Err(format!(
                "`{relation}` has a column `{rank}` already: name the column of places otherwise, `rank = \"…\"`"
            ));
        }
        let mut schema = Schema { append_only: false, ..input.clone() };
        schema.columns.push(Column { name: rank.to_owned(), ty: Type::Int64, nullable: false });
        Ok(Top { relation: relation.to_owned(), input: input.clone(), by, order, k, schema })
    }

    /// The step's plan.
    pub fn plan(self) -> StepPlan {
        let top = Arc::new(self);
        let made = top.clone();
        let route = if top.by.is_empty() { Route::One } else { Route::Columns(top.by.clone()) };
        StepPlan {
            inputs: vec![StepInput { relation: top.relation.clone(), route }],
            outputs: vec![StepOutput { suffix: None, schema: top.schema.clone() }],
            kind: StepKind::Table(Arc::new(move || Box::new(Ranking::new(made.clone())) as Box<dyn TableOperator>)),
            persistent: false,
            detail: top.detail(),
            model: top.model(),
        }
    }

    fn detail(&self) -> String {
        let name = |i: &usize| self.input.columns[*i].name.as_str();
        let order: Vec<String> =
            self.order.iter().map(|(i, desc)| format!("{}{}", name(i), if *desc { " desc" } else { "" })).collect();
        let by: Vec<&str> = self.by.iter().map(name).collect();
        let by = if by.is_empty() { String::new() } else { format!(" by {}", by.join(", ")) };
        format!("first {} of {}{by} in order of {}", self.k, self.relation, order.join(", "))
    }

    fn model(&self) -> Model {
        use std::cmp::Ordering;
        let top = self.clone();
        Arc::new(move |inputs: &[Vec<Row>]| {
            let compare = |a: &Row, b: &Row| {
                for (i, descending) in &top.order {
                    let ordering = match (&a[*i], &b[*i]) {
                        (Value::Null, Value::Null) => Ordering::Equal,
                        (Value::Null, _) => Ordering::Greater,
                        (_, Value::Null) => Ordering::Less,
                        (a, b) if *descending => b.cmp(a),
                        (a, b) => a.cmp(b),
                    };
                    if ordering != Ordering::Equal {
                        return ordering;
                    }
                }
                let key = |row: &Row| top.input.key.iter().map(|i| row[*i].clone()).collect::<Row>();
                key(a).cmp(&key(b))
            };
            let mut groups: BTreeMap<Row, Vec<Row>> = BTreeMap::new();
            for row in &inputs[0] {
                groups.entry(top.by.iter().map(|i| row[*i].clone()).collect()).or_default().push(row.clone());
            }
            let mut out = Vec::new();
            for mut rows in groups.into_values() {
                rows.sort_by(compare);
                for (i, mut row) in rows.into_iter().take(top.k).enumerate() {
                    row.push(Value::Int(i as i64 + 1));
                    out.push(row);
                }
            }
            vec![out]
        })
    }
}

/// One change on its way in: group, place in the order (the order's bytes, then the key's), row, difference.
type Change = (Box<[u8]>, Box<[u8]>, Box<[u8]>, i64);

/// The rows of a group in order: from place to row.
type Group = BTreeMap<Box<[u8]>, Box<[u8]>>;

/// The ranking at work.
struct Ranking {
    top: Arc<Top>,
    schema: SchemaRef,
    by: Option<RowConverter>,
    order: Option<RowConverter>,
    keys: RowCodec,
    rows: RowConverter,
    groups: BTreeMap<Box<[u8]>, Group>,
}

impl Ranking {
    fn new(top: Arc<Top>) -> Ranking {
        let field = |i: &usize| SortField::new(top.input.columns[*i].ty.arrow());
        let converter = |fields: Vec<SortField>| RowConverter::new(fields).expect("every type is supported");
        let order: Vec<SortField> = top
            .order
            .iter()
            .map(|(i, descending)| {
                let options = SortOptions { descending: *descending, nulls_first: false };
                SortField::new_with_options(top.input.columns[*i].ty.arrow(), options)
            })
            .collect();
        Ranking {
            schema: top.schema.arrow(),
            by: (!top.by.is_empty()).then(|| converter(top.by.iter().map(field).collect())),
            order: (!order.is_empty()).then(|| converter(order)),
            keys: RowCodec::new(&top.input),
            rows: converter((0..top.input.columns.len()).collect::<Vec<_>>().iter().map(field).collect()),
            groups: BTreeMap::new(),
            top,
        }
    }

    fn changes(&self, delta: &Delta, out: &mut Vec<Change>) {
        let convert = |converter: &RowConverter, columns: Vec<ArrayRef>| {
            converter.convert_columns(&columns).expect("columns of the planned types")
        };
        let columns = |which: &[usize]| which.iter().map(|i| delta.column(*i).clone()).collect();
        let order: Vec<usize> = self.top.order.iter().map(|(i, _)| *i).collect();
        let by = self.by.as_ref().map(|c| convert(c, columns(&self.top.by)));
        let order = self.order.as_ref().map(|c| convert(c, columns(&order)));
        let keys = self.keys.keys(&delta.rows);
        let rows = convert(&self.rows, delta.rows.columns().to_vec());
        for i in 0..delta.len() {
            let group = by.as_ref().map_or(Box::default(), |r| r.row(i).data().into());
            let order = order.as_ref().map_or(&[][..], |r| r.row(i).data());
            let place = [order, keys.row(i).data()].concat().into();
            out.push((group, place, rows.row(i).data().into(), delta.diff(i)));
        }
    }

    fn batch(&self, rows: &[(Box<[u8]>, i64)]) -> RecordBatch {
        if rows.is_empty() {
            return RecordBatch::new_empty(self.schema.clone());
        }
        let parser = self.rows.parser();
        let parsed = rows.iter().map(|(row, _)| parser.parse(row));
        let mut columns = self.rows.convert_rows(parsed).expect("bytes of the input's columns");
        columns.push(Arc::new(Int64Array::from_iter_values(rows.iter().map(|(_, rank)| *rank))));
        RecordBatch::try_new(self.schema.clone(), columns).expect("the planned columns")
    }
}

impl TableOperator for Ranking {
    fn step(&mut self, inputs: Vec<Vec<Delta>>, context: &mut Context) {
        let mut changes = Vec::new();
        for delta in inputs.iter().flatten() {
            self.changes(delta, &mut changes);
        }
        changes.sort_unstable();
        let (mut gone, mut come) = (Vec::new(), Vec::new());
        for of_group in changes.chunk_by(|a, b| a.0 == b.0) {
            let group = self.groups.entry(of_group[0].0.clone()).or_default();
            let first =
                |group: &Group| group.iter().take(self.top.k).map(|(p, r)| (p.clone(), r.clone())).collect::<Vec<_>>();
            let before = first(group);
            let net: Vec<(&Change, i64)> = of_group
                .chunk_by(|a, b| (&a.1, &a.2) == (&b.1, &b.2))
                .map(|same| (&same[0], same.iter().map(|c| c.3).sum()))
                .collect();
            // A row replaced in its place goes before it comes.
            for ((_, place, _, _), _) in net.iter().filter(|(_, diff)| *diff < 0) {
                group.remove(place);
            }
            for ((_, place, row, _), _) in net.iter().filter(|(_, diff)| *diff > 0) {
                group.insert(place.clone(), row.clone());
            }
            let after = first(group);
            for i in 0..before.len().max(after.len()) {
                let (was, is) = (before.get(i), after.get(i));
                if was == is {
                    continue;
                }
                let rank = i as i64 + 1;
                gone.extend(was.map(|(_, row)| (row.clone(), rank)));
                come.extend(is.map(|(_, row)| (row.clone(), rank)));
            }
            if group.is_empty() {
                self.groups.remove(&of_group[0].0);
            }
        }
        context.emit(0, Delta::delete(self.batch(&gone)));
        context.emit(0, Delta::insert(self.batch(&come)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_direction_is_the_last_word() {
        assert_eq!(direction("score desc"), ("score", true));
        assert_eq!(direction(" score  ASC "), ("score", false));
        assert_eq!(direction("desc"), ("desc", false));
        assert_eq!(direction("two words"), ("two words", false));
    }
}
