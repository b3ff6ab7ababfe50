//! What candidate pairs and nodes are worth: condition, weight and terms, evaluated over many at once.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Float64Array, RecordBatch, RecordBatchOptions, UInt32Array};
use arrow::compute::take;
use arrow::datatypes::SchemaRef;
use types::{Column, Delta, Schema, Type};

use super::super::solver::{LEFT, RIGHT, TERM_MAX, WEIGHT_MAX};
use super::super::{Assignment, DISTANCE, Rule, SIDES, Scale, node_schema};
use super::table::Table;
use super::{Index, PAIRS_MAX, Pair, floats};
use crate::expression::Expression;

/// What a candidate pair is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Weight {
    /// In fixed point.
    Fixed(i64),
    /// It is no candidate: the condition is not met (or cannot be computed), or the weight is null.
    None,
    /// It would be a candidate, but its weight cannot be computed or is no number in range.
    Refused,
}

/// The terms of one side, by slot of its rows: a table of the columns the term reads, so that a row of which nothing else
/// changed is not looked at for its pairs.
pub(super) struct Term {
    pub table: Table,
    schema: SchemaRef,
    expression: Expression,
    /// The position of each column the expression reads in the table's rows.
    places: Vec<usize>,
    scale: Scale,
    /// `None` of a row that has no usable term.
    pub by_slot: Vec<Option<i64>>,
}

impl Term {
    pub fn new(assignment: &Assignment, side: usize) -> Option<Term> {
        let term = assignment.terms[side].as_ref()?;
        let table = Table::new(&assignment.sides[side].schema, &term.columns);
        let known = node_schema(&assignment.sides, side);
        let columns = term.columns.iter().map(|c| known.columns[*c].clone()).collect();
        let schema = Schema { columns, key: Vec::new(), event_time: None, append_only: false };
        Some(Term {
            expression: Expression::parse(&term.text, &schema).expect("it was parsed when the step was planned"),
            schema: schema.arrow(),
            places: term.columns.iter().map(|c| table.place_of(*c)).collect(),
            table,
            scale: assignment.scale,
            by_slot: Vec::new(),
        })
    }

    /// Takes in changed rows. Returns the terms that may differ, by slot of this table; rows that went are left out.
    pub fn apply(&mut self, deltas: &[Delta]) -> Vec<(u32, Option<i64>)> {
        let mut changed = self.table.apply(deltas);
        changed.retain(|slot| self.table.has(*slot));
        let mut out = Vec::with_capacity(changed.len());
        for slots in changed.chunks(PAIRS_MAX) {
            let rows = self.table.rows(slots);
            let columns = self.places.iter().map(|place| rows.column(*place).clone()).collect();
            let options = RecordBatchOptions::new().with_row_count(Some(slots.len()));
            let rows = RecordBatch::try_new_with_options(self.schema.clone(), columns, &options);
            let (terms, errors) = self.expression.evaluate(&rows.expect("the planned columns"));
            let terms = floats(&terms);
            let first = out.len();
            out.extend(slots.iter().enumerate().map(|(row, slot)| {
                let term = terms.is_valid(row).then(|| self.scale.fixed(terms.value(row), TERM_MAX)).flatten();
                (*slot, term)
            }));
            errors.into_iter().for_each(|(row, _)| out[first + row].1 = None);
        }
        out
    }
}

/// Evaluates condition and weight over pairs.
pub(super) struct Worth {
    schema: SchemaRef,
    /// The columns the expressions read: an input, or the distance; and the column's place in its table.
    sources: Vec<(Source, usize)>,
    filter: Option<Expression>,
    weight: Expression,
    scale: Scale,
    weight_max: i64,
    /// Whether a pair that is worth nothing is an edge all the same: terms may make it worth something.
    keeps_all: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    Side(usize),
    Edge,
    Distance,
}

impl Worth {
    pub fn new(assignment: &Assignment, tables: &[Table; 2], index: &Index) -> Worth {
        let mut columns: Vec<Column> = Vec::new();
        let mut sources = Vec::new();
        for (side, reads) in assignment.reads.iter().enumerate() {
            let (schema, table, source) = match (side, index, &assignment.rule) {
                (LEFT | RIGHT, ..) => (&assignment.sides[side].schema, &tables[side], Source::Side(side)),
                (_, Index::Edges(edges), Rule::Edges { schema, .. }) => (schema, &edges.table, Source::Edge),
                _ => continue,
            };
            for column in reads {
                let known = &schema.columns[*column];
                columns.push(Column { name: format!("{}_{}", SIDES[side], known.name), ..known.clone() });
                sources.push((source, table.place_of(*column)));
            }
        }
        if matches!(assignment.rule, Rule::Spatial { .. }) {
            columns.push(Column { name: DISTANCE.to_owned(), ty: Type::Float64, nullable: false });
            sources.push((Source::Distance, 0));
        }
        let schema = Schema { columns, key: Vec::new(), event_time: None, append_only: false };
        // Parsed once more over nothing but the columns that are read.
        let parse =
            |e: &Expression| Expression::parse(&e.text, &schema).expect("it was parsed when the step was planned");
        Worth {
            schema: schema.arrow(),
            sources,
            filter: assignment.filter.as_ref().map(parse),
            weight: parse(&assignment.weight),
            scale: assignment.scale,
            weight_max: assignment.weight_max(),
            keeps_all: assignment.has_terms(),
        }
    }

    /// The edge's own weight, if the pair is an edge.
    pub fn edge(&self, weight: Weight) -> Option<i64> {
        match weight {
            Weight::Fixed(w) if w > 0 || self.keeps_all => Some(w),
            _ => None,
        }
    }

    /// Whether pairs meet the condition.
    pub fn meets(&self, tables: &[Table; 2], pairs: &[Pair]) -> Vec<bool> {
        let Some(filter) = &self.filter else { return vec![true; pairs.len()] };
        let (met, _) = filter.evaluate(&self.batch(tables, None, pairs));
        let met = met.as_boolean();
        (0..pairs.len()).map(|i| met.is_valid(i) && met.value(i)).collect()
    }

    pub fn weights(&self, tables: &[Table; 2], edges: Option<&Table>, pairs: &[Pair]) -> Vec<Weight> {
        if pairs.is_empty() {
            return Vec::new();
        }
        let mut batch = self.batch(tables, edges, pairs);
        let mut out = vec![Weight::None; pairs.len()];
        let mut asked: Vec<u32> = (0..pairs.len() as u32).collect();
        if let Some(filter) = &self.filter {
            let (met, _) = filter.evaluate(&batch);
            let met = met.as_boolean();
            asked.retain(|row| met.is_valid(*row as usize) && met.value(*row as usize));
            if asked.len() < pairs.len() {
                batch = arrow::compute::take_record_batch(&batch, &UInt32Array::from(asked.clone())).expect("in range");
            }
        }
        let (weights, errors) = self.weight.evaluate(&batch);
        let weights = floats(&weights);
        for (row, pair) in asked.iter().enumerate() {
            if weights.is_valid(row) {
                out[*pair as usize] = self.fixed(weights.value(row));
            }
        }
        for (row, _) in errors {
            out[asked[row] as usize] = Weight::Refused;
        }
        out
    }

    fn fixed(&self, weight: f64) -> Weight {
        self.scale.fixed(weight, self.weight_max).map_or(Weight::Refused, Weight::Fixed)
    }

    /// The columns the expressions read, one row a pair.
    fn batch(&self, tables: &[Table; 2], edges: Option<&Table>, pairs: &[Pair]) -> RecordBatch {
        let gather = |source: Source| -> Option<(RecordBatch, UInt32Array)> {
            if !self.sources.iter().any(|(s, _)| *s == source) {
                return None;
            }
            let (table, slots): (&Table, Vec<u32>) = match source {
                Source::Side(LEFT) => (&tables[LEFT], pairs.iter().map(|p| p.left).collect()),
                Source::Side(_) => (&tables[RIGHT], pairs.iter().map(|p| p.right).collect()),
                Source::Edge => (edges.expect("there are edge rows"), pairs.iter().map(|p| p.edge).collect()),
                Source::Distance => return None,
            };
            // A row in many pairs is decoded once.
            let mut distinct = slots.clone();
            distinct.sort_unstable();
            distinct.dedup();
            let at = |slot: &u32| distinct.binary_search(slot).expect("it is among them") as u32;
            let at = UInt32Array::from_iter_values(slots.iter().map(at));
            Some((table.rows(&distinct), at))
        };
        let all = [Source::Side(LEFT), Source::Side(RIGHT), Source::Edge].map(|source| (source, gather(source)));
        let columns = self
            .sources
            .iter()
            .map(|(source, place)| {
                if *source == Source::Distance {
                    return Arc::new(Float64Array::from_iter_values(pairs.iter().map(|p| p.distance_m))) as ArrayRef;
                }
                let gathered = all.iter().find(|(s, _)| s == source).and_then(|(_, g)| g.as_ref());
                let (rows, at) = gathered.expect("its rows were gathered");
                take(rows.column(*place), at, None).expect("in range")
            })
            .collect();
        let options = RecordBatchOptions::new().with_row_count(Some(pairs.len()));
        RecordBatch::try_new_with_options(self.schema.clone(), columns, &options).expect("the planned columns")
    }
}

const _: () = assert!(WEIGHT_MAX == 1 << 53, "weights are exact as float64");
