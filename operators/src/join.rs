//! `join`: the rows of two relations whose join columns are equal, kept current by differential dataflow.
//!
//! Rows enter as arrow-row bytes. Those of several columns are the columns' bytes one after the other, so a joined
//! row is a left row's bytes and a right row's bytes put together, and only what comes out is decoded.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, RecordBatch};
use arrow::datatypes::SchemaRef;
use arrow::row::{RowConverter, SortField};
use differential_dataflow::AsCollection;
use differential_dataflow::VecCollection;
use differential_dataflow::operators::arrange::TraceAgent;
use differential_dataflow::operators::arrange::arrangement::{Arranged, arrange_core};
use differential_dataflow::trace::implementations::{KeyBuilder, KeySpine, ValBatcher, ValSpine};
use engine::catalogue::{Model, OperatorDef, OptionDef, Relations, Row};
use engine::operator::{DeltaStream, StepKind};
use engine::pipeline::Section;
use engine::plan::{Route, StepInput, StepOutput, StepPlan};
use timely::container::CapacityContainerBuilder;
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::generic::Operator;
use types::{Column, Delta, Epoch, Schema, Value};

/// The catalogue's entry.
pub(crate) const DEF: OperatorDef = OperatorDef {
    name: "join",
    summary: "Joins the rows of two relations whose join columns are equal.",
    doc: "\
Every pair of a `left` and a `right` row that agree in all `on` columns; with `kind = \"left\"` also every left row that
has no partner, its right columns null. A null equals nothing, not even a null; a NaN equals a NaN.

The output has the left columns and then the right ones. A right join column of the same name as its left partner is
left out, for it says the same; any other right column whose name is taken gets the `prefix`. The key is the left key
and the right key together.

Both inputs are held whole in memory, as bytes.",
    options: &[
        OptionDef {
            name: "left",
            shape: "relation",
            default: None,
            doc: "The source or step whose columns come first.",
        },
        OptionDef { name: "right", shape: "relation", default: None, doc: "The source or step that is joined to it." },
        OptionDef {
            name: "on",
            shape: "list of column names, or table of left column = right column",
            default: None,
            doc: "What must be equal. The types must be the same.",
        },
        OptionDef {
            name: "kind",
            shape: "`inner` or `left`",
            default: Some("inner"),
            doc: "Whether left rows without a partner are kept.",
        },
        OptionDef {
            name: "prefix",
            shape: "string",
            default: Some("right_"),
            doc: "What the name of a right column begins with if the left has a column of that name.",
        },
    ],
    example: "\
name = \"orders\"

[sources.orders]
type = \"file\"
path = \"orders.csv\"
format = \"csv\"
columns = { id = \"int64\", customer = \"int64\", amount = \"float64\" }
key = [\"id\"]

[sources.customers]
type = \"file\"
path = \"customers.csv\"
format = \"csv\"
columns = { id = \"int64\", name = \"string\" }
key = [\"id\"]

[steps.named]
operator = \"join\"
left = \"orders\"
right = \"customers\"
on = { customer = \"id\" }
kind = \"left\"
",
    plan,
};

fn plan(section: &mut Section<'_>, relations: &Relations<'_>) -> Option<StepPlan> {
    let left = relations.input(section, "left");
    let right = relations.input(section, "right");
    let names: Option<Vec<(String, String)>> = if section.is_table("on") {
        section.string_map("on")
    } else {
        section.strings("on").map(|names| names.into_iter().map(|n| (n.clone(), n)).collect())
    };
    if !section.has("on") {
        section.problem("on", "`on` is missing: expected the columns that must be equal");
    }
    let outer = section.choice_or("kind", &[("inner", false), ("left", true)], false);
    let prefix = section.string("prefix").unwrap_or_else(|| "right_".to_owned());
    let ((left, left_schema), (right, right_schema), names) = (left?, right?, names?);
    let mut on = Vec::new();
    let mut good = true;
    for (l, r) in &names {
        let mut find = |schema: &Schema, name: &str| {
            let found = schema.index_of(name);
            if found.is_none() {
                good = false;
                section.unknown_name("on", "column", name, schema.columns.iter().map(|c| c.name.as_str()));
            }
            found
        };
        let (l, r) = (find(left_schema, l), find(right_schema, r));
        on.extend(l.zip(r));
    }
    let outer = outer?;
    if !good {
        return None;
    }
    match Join::new((&left, left_schema), (&right, right_schema), on, outer, &prefix) {
        Ok(join) => Some(join.plan()),
        Err(message) => {
            section.problem("on", message);
            None
        }
    }
}

/// A join that has been checked.
#[derive(Clone, Debug)]
pub struct Join {
    left: Side,
    right: Side,
    /// Whether left rows without a partner are kept.
    outer: bool,
    /// The right columns that are shown.
    shown: Vec<usize>,
    schema: Schema,
}

#[derive(Clone, Debug)]
struct Side {
    relation: String,
    schema: Schema,
    on: Vec<usize>,
}

impl Join {
    /// A join of two relations on pairs of columns. The error says why there can be none.
    pub fn new(
        (left, left_schema): (&str, &Schema),
        (right, right_schema): (&str, &Schema),
        on: Vec<(usize, usize)>,
        outer: bool,
        prefix: &str,
    ) -> Result<Join, String> {
        if on.is_empty() {
            return Err("name at least one column that must be equal".to_owned());
        }
        for (l, r) in &on {
            let (l, r) = (&left_schema.columns[*l], &right_schema.columns[*r]);
            if l.ty != r.ty {
                return Err(format!(
                    "`{left}.{}` has the type {} and `{right}.{}` the type {}: cast one of them in a `select` step",
                    l.name, l.ty, r.name, r.ty
                ));
            }
        }
        let mut columns = left_schema.columns.clone();
        let mut shown = Vec::new();
        // Where each right column stands in the output.
        let mut places = Vec::new();
        for (i, column) in right_schema.columns.iter().enumerate() {
            let same = on.iter().find(|(l, r)| *r == i && left_schema.columns[*l].name == column.name);
            if let Some((l, _)) = same {
                places.push(*l);
                continue;
            }
            let taken = |name: &str| columns.iter().any(|c| c.name == name);
            let name = if taken(&column.name) { format!("{prefix}{}", column.name) } else { column.name.clone() };
            if taken(&name) {
                return Err(format!("the output would have two columns `{name}`: give another `prefix`"));
            }
            places.push(columns.len());
            shown.push(i);
            columns.push(Column { name, ty: column.ty, nullable: column.nullable || outer });
        }
        let mut key = left_schema.key.clone();
        for k in &right_schema.key {
            if !key.contains(&places[*k]) {
                key.push(places[*k]);
            }
        }
        let schema = Schema { columns, key, event_time: left_schema.event_time, append_only: false };
        let side = |relation: &str, schema: &Schema, on: Vec<usize>| Side {
            relation: relation.to_owned(),
            schema: schema.clone(),
            on,
        };
        let (left_on, right_on) = on.into_iter().unzip();
        Ok(Join {
            left: side(left, left_schema, left_on),
            right: side(right, right_schema, right_on),
            outer,
            shown,
            schema,
        })
    }

    /// The step's plan.
    pub fn plan(self) -> StepPlan {
        let join = Arc::new(self);
        let built = join.clone();
        let input = |side: &Side| StepInput { relation: side.relation.clone(), route: Route::Columns(side.on.clone()) };
        StepPlan {
            inputs: vec![input(&join.left), input(&join.right)],
            outputs: vec![StepOutput { suffix: None, schema: join.schema.clone() }],
            kind: StepKind::Dataflow(Arc::new(move |_, inputs| {
                let [left, right] =
                    <[DeltaStream<'_>; 2]>::try_from(inputs).unwrap_or_else(|_| unreachable!("two inputs"));
                built.build(left, right)
            })),
            persistent: false,
            detail: join.detail(),
            model: join.model(),
        }
    }

    fn detail(&self) -> String {
        let name = |side: &Side, i: usize| side.schema.columns[i].name.clone();
        let on: Vec<String> = (self.left.on.iter().zip(&self.right.on))
            .map(|(l, r)| format!("{} = {}", name(&self.left, *l), name(&self.right, *r)))
            .collect();
        let kind = if self.outer { "left" } else { "inner" };
        format!("{kind} join of {} and {} on {}", self.left.relation, self.right.relation, on.join(", "))
    }

    fn model(&self) -> Model {
        let join = self.clone();
        Arc::new(move |inputs: &[Vec<Row>]| {
            let mut out = Vec::new();
            for left in &inputs[0] {
                let equal = |right: &&Row| {
                    join.left
                        .on
                        .iter()
                        .zip(&join.right.on)
                        .all(|(l, r)| left[*l] != Value::Null && left[*l] == right[*r])
                };
                let mut alone = true;
                for right in inputs[1].iter().filter(equal) {
                    alone = false;
                    out.push(left.iter().cloned().chain(join.shown.iter().map(|i| right[*i].clone())).collect());
                }
                if alone && join.outer {
                    out.push(left.iter().cloned().chain(join.shown.iter().map(|_| Value::Null)).collect());
                }
            }
            vec![out]
        })
    }

    fn build<'scope>(&self, left: DeltaStream<'scope>, right: DeltaStream<'scope>) -> DeltaStream<'scope> {
        let every: Vec<usize> = (0..self.left.schema.columns.len()).collect();
        let left = encode(left, "JoinLeft", Encoder::new(&self.left, &every, self.outer));
        let right = encode(right, "JoinRight", Encoder::new(&self.right, &self.shown, false));
        let left_rows = arrange(left.clone(), "ArrangeLeft");
        let right_rows = arrange(right, "ArrangeRight");
        let both = |left: &Bytes, right: &Bytes| [left.as_slice(), right.as_slice()].concat();
        let pairs = left_rows.clone().join_core(right_rows.clone(), move |_, left, right| Some(both(left, right)));
        if !self.outer {
            return decode(pairs, &self.schema);
        }
        let keys = right_rows
            .reduce_abelian::<_, KeyBuilder<Bytes, Epoch, isize>, KeySpine<Bytes, Epoch, isize>, _, _>(
                "RightKeys",
                |_, _, out| out.push(((), 1)),
                |out, key, updates| {
                    out.clear();
                    out.extend(updates.drain(..).map(|(v, t, r)| ((key.clone(), v), t, r)));
                },
            );
        let nulls = null_row(&self.right.schema, &self.shown);
        let padded = nulls.clone();
        let partnered = left_rows.join_core(keys, move |_, left, ()| Some(both(left, &padded)));
        let alone = left.map(move |(_, row)| both(&row, &nulls)).concat(partnered.negate());
        decode(pairs.concat(alone), &self.schema)
    }
}

/// A key or a row, as arrow-row bytes. Short ones, and most are short, lie where they are kept: to sort and merge them
/// is then to read memory in order. Ordered as their bytes are.
#[derive(Clone)]
enum Bytes {
    Short { length: u8, bytes: [u8; Bytes::SHORT] },
    Long(Box<[u8]>),
}

impl Bytes {
    /// With this the whole takes four words.
    const SHORT: usize = 30;

    fn new(bytes: &[u8]) -> Bytes {
        if bytes.len() > Bytes::SHORT {
            return Bytes::Long(bytes.into());
        }
        let mut short = [0; Bytes::SHORT];
        short[..bytes.len()].copy_from_slice(bytes);
        Bytes::Short { length: bytes.len() as u8, bytes: short }
    }

    fn as_slice(&self) -> &[u8] {
        match self {
            Bytes::Short { length, bytes } => &bytes[..usize::from(*length)],
            Bytes::Long(bytes) => bytes,
        }
    }
}

impl Ord for Bytes {
    fn cmp(&self, other: &Bytes) -> Ordering {
        self.as_slice().cmp(other.as_slice())
    }
}

impl PartialOrd for Bytes {
    fn partial_cmp(&self, other: &Bytes) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Bytes {
    fn eq(&self, other: &Bytes) -> bool {
        self.as_slice() == other.as_slice()
    }
}

impl Eq for Bytes {}

/// Rows with their join keys.
type Keyed<'scope> = VecCollection<'scope, Epoch, (Bytes, Bytes), isize>;

/// Indexes rows by key. They are on their workers already, so nothing is exchanged.
fn arrange<'scope>(
    rows: Keyed<'scope>,
    name: &str,
) -> Arranged<'scope, TraceAgent<ValSpine<Bytes, Bytes, Epoch, isize>>> {
    arrange_core(rows.inner, Pipeline, name, ValBatcher::new)
}

/// Turns the rows of one side into bytes.
struct Encoder {
    on: Vec<usize>,
    shown: Vec<usize>,
    keys: RowConverter,
    rows: RowConverter,
    /// Whether rows with a null in the join columns are kept, under the empty key, which nothing else has.
    nulls: bool,
}

fn converter(schema: &Schema, columns: &[usize]) -> RowConverter {
    let fields = columns.iter().map(|i| SortField::new(schema.columns[*i].ty.arrow())).collect();
    RowConverter::new(fields).expect("every type is supported")
}

impl Encoder {
    fn new(side: &Side, shown: &[usize], nulls: bool) -> Encoder {
        Encoder {
            on: side.on.clone(),
            shown: shown.to_vec(),
            keys: converter(&side.schema, &side.on),
            rows: converter(&side.schema, shown),
            nulls,
        }
    }

    fn encode(&self, delta: &Delta) -> Vec<(Bytes, Bytes, isize)> {
        let columns = |which: &[usize]| which.iter().map(|i| delta.column(*i).clone()).collect::<Vec<ArrayRef>>();
        let on = columns(&self.on);
        let keys = self.keys.convert_columns(&on).expect("columns of the planned types");
        let rows = (!self.shown.is_empty())
            .then(|| self.rows.convert_columns(&columns(&self.shown)).expect("columns of the planned types"));
        let mut out = Vec::with_capacity(delta.len());
        for i in 0..delta.len() {
            let null = on.iter().any(|c| c.is_null(i));
            if null && !self.nulls {
                continue;
            }
            let key = if null { &[][..] } else { keys.row(i).data() };
            let row = rows.as_ref().map_or(&[][..], |r| r.row(i).data());
            out.push((Bytes::new(key), Bytes::new(row), delta.diff(i) as isize));
        }
        out
    }
}

fn encode<'scope>(stream: DeltaStream<'scope>, name: &str, encoder: Encoder) -> Keyed<'scope> {
    stream
        .unary::<CapacityContainerBuilder<Vec<((Bytes, Bytes), Epoch, isize)>>, _, _, _>(Pipeline, name, move |_, _| {
            move |input, output| {
                input.for_each(|capability, deltas| {
                    let epoch = *capability.least().expect("a message has a time");
                    let mut session = output.session(&capability);
                    for delta in deltas.iter() {
                        let rows = encoder.encode(delta).into_iter();
                        session.give_iterator(rows.map(|(key, row, diff)| ((key, row), epoch, diff)));
                    }
                });
            }
        })
        .as_collection()
}

/// The bytes of a row of nulls.
fn null_row(schema: &Schema, shown: &[usize]) -> Bytes {
    let nulls: Vec<ArrayRef> =
        shown.iter().map(|i| arrow::array::new_null_array(&schema.columns[*i].ty.arrow(), 1)).collect();
    if nulls.is_empty() {
        return Bytes::new(&[]);
    }
    Bytes::new(converter(schema, shown).convert_columns(&nulls).expect("columns of the planned types").row(0).data())
}

/// Back to batches, once an epoch is complete, changes that cancel left out. What a large epoch brings (after a restart,
/// a whole relation) is passed on in pieces, so that it need not be held twice.
fn decode<'scope>(rows: VecCollection<'scope, Epoch, Vec<u8>, isize>, schema: &Schema) -> DeltaStream<'scope> {
    const PIECE_ROWS: usize = 65_536;
    let every: Vec<usize> = (0..schema.columns.len()).collect();
    let converter = converter(schema, &every);
    let arrow = schema.arrow();
    rows.inner.unary_frontier::<CapacityContainerBuilder<Vec<Delta>>, _, _, _>(
        Pipeline,
        "JoinDecode",
        move |capability, _| {
            let mut capability = Some(capability);
            let mut waiting: BTreeMap<Epoch, Vec<(Vec<u8>, i64)>> = BTreeMap::new();
            move |(input, frontier), output| {
                let mut large = None;
                input.for_each(|_, updates| {
                    for (row, epoch, diff) in updates.drain(..) {
                        let waiting = waiting.entry(epoch).or_default();
                        waiting.push((row, diff as i64));
                        if waiting.len() >= PIECE_ROWS {
                            large = Some(epoch);
                        }
                    }
                });
                let frontier = frontier.frontier().first().copied();
                let complete = |epoch: Epoch| frontier.is_none_or(|f| f > epoch);
                while let Some(epoch) = large.take().or(waiting.keys().next().copied().filter(|e| complete(*e))) {
                    let updates = waiting.remove(&epoch).expect("it was just seen");
                    let at = capability.as_ref().expect("held while input may come").delayed(&epoch);
                    output.session(&at).give_iterator(batch(&converter, &arrow, updates).into_iter());
                }
                match (frontier, &mut capability) {
                    (Some(frontier), Some(capability)) => capability.downgrade(&frontier),
                    _ => capability = None,
                }
            }
        },
    )
}

fn batch(converter: &RowConverter, schema: &SchemaRef, mut updates: Vec<(Vec<u8>, i64)>) -> Option<Delta> {
    updates.sort_unstable();
    let mut rows: Vec<&[u8]> = Vec::with_capacity(updates.len());
    let mut diffs = Vec::with_capacity(updates.len());
    for same in updates.chunk_by(|a, b| a.0 == b.0) {
        let diff: i64 = same.iter().map(|(_, d)| d).sum();
        if diff != 0 {
            rows.push(&same[0].0);
            diffs.push(diff);
        }
    }
    if rows.is_empty() {
        return None;
    }
    let parser = converter.parser();
    let columns =
        converter.convert_rows(rows.into_iter().map(|r| parser.parse(r))).expect("bytes of the output's columns");
    let rows = RecordBatch::try_new(schema.clone(), columns).expect("the planned columns");
    Some(Delta::new(rows, diffs))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_ordered_as_slices_are() {
        let all: Vec<Vec<u8>> = [0, 1, 8, 29, 30, 31, 90]
            .into_iter()
            .flat_map(|length| [0, 1, 255].map(|byte| vec![byte; length]))
            .flat_map(|bytes| [bytes.clone(), [bytes.as_slice(), &[0]].concat()])
            .collect();
        for a in &all {
            for b in &all {
                let (x, y) = (Bytes::new(a), Bytes::new(b));
                assert_eq!(x.as_slice(), a);
                assert_eq!((x.cmp(&y), x == y), (a.cmp(b), a == b), "{a:?} {b:?}");
            }
        }
        assert_eq!(size_of::<Bytes>(), 32);
    }
}
