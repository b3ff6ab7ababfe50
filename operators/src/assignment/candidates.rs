//! From rows to edges: which tasks and workers may be matched, and what each pair is worth, kept current per changed row.

mod listed;
mod table;
mod worth;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Float64Array};
use arrow::datatypes::{Decimal128Type, Float64Type, Int64Type};
use arrow::row::{RowConverter, SortField};
use hashbrown::HashMap;
use rustc_hash::FxBuildHasher;
use types::{Delta, Schema, Type};

use super::solver::{CAPACITY_MAX, LEFT, RIGHT, Solver};
use super::{Assignment, Rule};
use crate::grid::{Grid, Place};
use listed::EdgeIndex;
use table::Table;
use worth::{Term, Weight, Worth};

/// Pairs evaluated at once: enough to amortise a batch, little enough to stay small.
const PAIRS_MAX: usize = 32_768;

type ByBytes<T> = HashMap<Box<[u8]>, T, FxBuildHasher>;

/// The candidate pairs of one worker's rows, as edges of a solver.
pub(crate) struct Candidates {
    assignment: Arc<Assignment>,
    tables: [Table; 2],
    nodes: [Vec<Node>; 2],
    index: Index,
    worth: Worth,
    terms: [Option<Term>; 2],
    /// By side and slot: the partners with whom a pair has no usable weight.
    refused: [BTreeMap<u32, BTreeSet<u32>>; 2],
    refused_count: usize,
    /// How many pairs were weighed by the last [`Candidates::apply`].
    weighed: usize,
}

/// What the rule needs of a row.
#[derive(Clone, Debug, Default)]
struct Node {
    capacity: i64,
    /// The bytes of the group columns; `None` if one is null.
    group: Option<Box<[u8]>>,
    place: Option<Place>,
    /// Of a task with as many workers as `nearest` allows: distance and slot of the last.
    last: Option<(f64, u32)>,
}

enum Index {
    Edges(Box<EdgeIndex>),
    Group { converters: [RowConverter; 2], members: ByBytes<[Vec<u32>; 2]> },
    Spatial([Grid; 2]),
}

/// A pair to be evaluated.
#[derive(Clone, Copy, Debug)]
struct Pair {
    left: u32,
    right: u32,
    edge: u32,
    distance_m: f64,
}

impl Candidates {
    pub fn new(assignment: Arc<Assignment>) -> Candidates {
        let a = &assignment;
        let mut kept: [Vec<usize>; 2] = [Vec::new(), Vec::new()];
        for side in [LEFT, RIGHT] {
            kept[side].extend(a.sides[side].capacity);
            kept[side].extend(a.reads[side].iter().copied());
            match &a.rule {
                Rule::Group { columns } => kept[side].extend(&columns[side]),
                Rule::Spatial { columns, .. } => kept[side].extend(columns[side]),
                Rule::Edges { .. } => {}
            }
        }
        let tables = [LEFT, RIGHT].map(|side| Table::new(&a.sides[side].schema, &kept[side]));
        let index = match &a.rule {
            Rule::Edges { schema, columns, .. } => Index::Edges(Box::new(EdgeIndex::new(a, schema, columns))),
            Rule::Group { columns } => {
                let converters = [LEFT, RIGHT].map(|side| converter(&a.sides[side].schema, &columns[side]));
                Index::Group { converters, members: ByBytes::default() }
            }
            Rule::Spatial { radius_m, .. } => Index::Spatial([Grid::new(*radius_m), Grid::new(*radius_m)]),
        };
        Candidates {
            worth: Worth::new(a, &tables, &index),
            terms: [LEFT, RIGHT].map(|side| Term::new(a, side)),
            tables,
            nodes: [Vec::new(), Vec::new()],
            index,
            refused: [BTreeMap::new(), BTreeMap::new()],
            refused_count: 0,
            weighed: 0,
            assignment,
        }
    }

    /// Takes in an epoch's changes and makes the solver's nodes and edges those of the rows. Returns, by side, the
    /// slots whose rows changed. Slots of rows that went stay theirs until [`Candidates::release`].
    pub fn apply(&mut self, inputs: &[Vec<Delta>], solver: &mut Solver) -> [Vec<u32>; 2] {
        self.weighed = 0;
        let mut changed = [LEFT, RIGHT].map(|side| self.tables[side].apply(&inputs[side]));
        let terms = [LEFT, RIGHT].map(|side| self.read_terms(side, &inputs[side], &mut changed[side]));
        let before = [LEFT, RIGHT].map(|side| self.read_nodes(side, &changed[side]));
        for side in [LEFT, RIGHT] {
            for slot in &changed[side] {
                let key = &self.tables[side].keys[*slot as usize];
                if self.tables[side].has(*slot) {
                    solver.set_node(side, *slot, key, self.nodes[side][*slot as usize].capacity);
                } else {
                    solver.remove_node(side, *slot);
                }
            }
            for (slot, term) in &terms[side] {
                solver.set_term(side, *slot, *term);
            }
        }
        match &mut self.index {
            Index::Edges(edges) => {
                let touched = edges.apply(&inputs[2], &self.tables, &self.nodes, &changed, &self.worth);
                self.weighed += touched.len();
                for (left, right, weight, refused) in touched {
                    set_refused(&mut self.refused, &mut self.refused_count, left, right, refused);
                    if self.tables[LEFT].has(left) && self.tables[RIGHT].has(right) {
                        solver.set_edge(left, right, weight);
                    }
                }
            }
            Index::Group { members, .. } => {
                for side in [LEFT, RIGHT] {
                    for (slot, before) in changed[side].iter().zip(&before[side]) {
                        regroup(members, side, *slot, before, &self.nodes[side][*slot as usize]);
                    }
                }
                let mut pairs: Vec<Pair> = Vec::new();
                for side in [LEFT, RIGHT] {
                    for slot in &changed[side] {
                        let Some(group) = takes_part(&self.nodes[side][*slot as usize]) else { continue };
                        for other in &members[&group][1 - side] {
                            let (left, right) = if side == LEFT { (*slot, *other) } else { (*other, *slot) };
                            pairs.push(Pair { left, right, edge: 0, distance_m: 0.0 });
                        }
                    }
                }
                self.refresh(&changed, pairs, solver);
            }
            Index::Spatial(grids) => {
                for side in [LEFT, RIGHT] {
                    for (slot, before) in changed[side].iter().zip(&before[side]) {
                        let after = &self.nodes[side][*slot as usize];
                        if let Some(place) = stands(before) {
                            grids[side].remove(*slot, &place);
                        }
                        if let Some(place) = stands(after) {
                            grids[side].insert(*slot, &place);
                        }
                    }
                }
                match self.assignment.rule {
                    Rule::Spatial { nearest: Some(nearest), .. } => {
                        let tasks = self.tasks_in_reach(&changed, &before[RIGHT]);
                        let pairs = self.nearest(&tasks, nearest);
                        self.refresh(&[tasks, Vec::new()], pairs, solver);
                    }
                    _ => {
                        let mut pairs = Vec::new();
                        for side in [LEFT, RIGHT] {
                            for slot in &changed[side] {
                                self.pairs_around(side, *slot, &mut pairs);
                            }
                        }
                        self.refresh(&changed, pairs, solver);
                    }
                }
            }
        }
        changed
    }

    /// Frees the slots of rows that went. Call when nothing needs their keys any more.
    pub fn release(&mut self) {
        let of_terms = self.terms.iter_mut().flatten().map(|term| &mut term.table);
        for table in self.tables.iter_mut().chain(of_terms) {
            table.release();
        }
    }

    /// The keys of a side, by slot.
    pub fn keys(&self, side: usize) -> &[Box<[u8]>] {
        &self.tables[side].keys
    }

    /// The distance of a pair, for a spatial rule.
    pub fn distance_m(&self, left: u32, right: u32) -> Option<f64> {
        let place = |side: usize, slot: u32| self.nodes[side].get(slot as usize)?.place;
        Some(place(LEFT, left)?.distance_m(&place(RIGHT, right)?))
    }

    /// How many pairs were weighed in the last epoch.
    pub fn weighed(&self) -> usize {
        self.weighed
    }

    /// How many candidate pairs have no usable weight.
    pub fn refused(&self) -> usize {
        self.refused_count
    }

    /// Reads the terms that changed. Returns them by slot, and adds the slots that now take part, or do no more.
    fn read_terms(&mut self, side: usize, deltas: &[Delta], changed: &mut Vec<u32>) -> Vec<(u32, i64)> {
        let Some(term) = &mut self.terms[side] else { return Vec::new() };
        term.by_slot.resize(self.tables[side].keys.len(), None);
        let mut out = Vec::new();
        for (slot, now) in term.apply(deltas) {
            let Some(slot) = self.tables[side].find(&term.table.keys[slot as usize]) else { continue };
            let before = std::mem::replace(&mut term.by_slot[slot as usize], now);
            if before.is_some() != now.is_some() {
                changed.push(slot);
            }
            out.extend(now.map(|term| (slot, term)));
        }
        changed.sort_unstable();
        changed.dedup();
        out
    }

    /// Reads the changed rows of a side anew. Returns what was known of them.
    fn read_nodes(&mut self, side: usize, changed: &[u32]) -> Vec<Node> {
        let table = &self.tables[side];
        self.nodes[side].resize_with(table.keys.len(), Node::default);
        let before = changed.iter().map(|slot| std::mem::take(&mut self.nodes[side][*slot as usize])).collect();
        let present: Vec<u32> = changed.iter().copied().filter(|slot| table.has(*slot)).collect();
        if present.is_empty() {
            return before;
        }
        let rows = table.rows(&present);
        let capacity = self.assignment.sides[side].capacity.map(|c| rows.column(table.place_of(c)).clone());
        let groups = match (&self.index, &self.assignment.rule) {
            (Index::Group { converters, .. }, Rule::Group { columns }) => {
                let arrays: Vec<ArrayRef> =
                    columns[side].iter().map(|c| rows.column(table.place_of(*c)).clone()).collect();
                let bytes = converters[side].convert_columns(&arrays).expect("the planned types");
                Some((arrays, bytes))
            }
            _ => None,
        };
        let places = match &self.assignment.rule {
            Rule::Spatial { columns, .. } => Some(columns[side].map(|c| floats(rows.column(table.place_of(c))))),
            _ => None,
        };
        for (row, slot) in present.iter().enumerate() {
            let node = &mut self.nodes[side][*slot as usize];
            node.capacity = match &capacity {
                None => 1,
                Some(array) if array.is_null(row) => 0,
                Some(array) => array.as_primitive::<Int64Type>().value(row).clamp(0, CAPACITY_MAX),
            };
            if self.terms[side].as_ref().is_some_and(|term| term.by_slot[*slot as usize].is_none()) {
                node.capacity = 0;
            }
            if let Some((arrays, bytes)) = &groups
                && arrays.iter().all(|a| a.is_valid(row))
            {
                node.group = Some(bytes.row(row).data().into());
            }
            if let Some([latitude, longitude]) = &places
                && latitude.is_valid(row)
                && longitude.is_valid(row)
            {
                node.place = Place::new(latitude.value(row), longitude.value(row));
            }
        }
        before
    }

    /// The tasks whose list of nearest workers may differ: those that changed, and those with a changed worker, where
    /// it was or where it is, no farther than their last.
    fn tasks_in_reach(&self, changed: &[Vec<u32>; 2], workers_before: &[Node]) -> Vec<u32> {
        let mut tasks = changed[LEFT].clone();
        let mut near = Vec::new();
        for (worker, before) in changed[RIGHT].iter().zip(workers_before) {
            let after = &self.nodes[RIGHT][*worker as usize];
            for place in [stands(before), stands(after)].into_iter().flatten() {
                near.clear();
                self.grid(LEFT).near(&place, &mut near);
                let in_reach = near.iter().filter(|task| {
                    let node = &self.nodes[LEFT][**task as usize];
                    let there = node.place.expect("it is in the grid");
                    match node.last {
                        None => true,
                        Some((last, slot)) => {
                            let distance = there.distance_m(&place);
                            let keys = &self.tables[RIGHT].keys;
                            distance
                                .total_cmp(&last)
                                .then_with(|| keys[*worker as usize].cmp(&keys[slot as usize]))
                                .is_le()
                        }
                    }
                });
                tasks.extend(in_reach);
            }
        }
        tasks.sort_unstable();
        tasks.dedup();
        tasks
    }

    /// The pairs of tasks with their nearest workers among those in the radius that meet the condition.
    fn nearest(&mut self, tasks: &[u32], nearest: usize) -> Vec<Pair> {
        let mut out = Vec::new();
        let mut rest = tasks;
        while !rest.is_empty() {
            let mut pairs: Vec<Pair> = Vec::new();
            let mut taken = 0;
            while taken < rest.len() && pairs.len() < PAIRS_MAX {
                self.pairs_around(LEFT, rest[taken], &mut pairs);
                taken += 1;
            }
            let met = self.worth.meets(&self.tables, &pairs);
            let mut met = met.into_iter();
            pairs.retain(|_| met.next() == Some(true));
            let keys = &self.tables[RIGHT].keys;
            pairs.sort_unstable_by(|a, b| {
                let keys = || keys[a.right as usize].cmp(&keys[b.right as usize]);
                a.left.cmp(&b.left).then_with(|| a.distance_m.total_cmp(&b.distance_m)).then_with(keys)
            });
            for task in &rest[..taken] {
                self.nodes[LEFT][*task as usize].last = None;
            }
            for list in pairs.chunk_by(|a, b| a.left == b.left) {
                out.extend(&list[..list.len().min(nearest)]);
                if let Some(last) = list.get(nearest - 1) {
                    self.nodes[LEFT][last.left as usize].last = Some((last.distance_m, last.right));
                }
            }
            rest = &rest[taken..];
        }
        out
    }

    /// Adds every pair of a node with one of the other side within the radius.
    fn pairs_around(&self, side: usize, slot: u32, pairs: &mut Vec<Pair>) {
        let Rule::Spatial { radius_m, .. } = self.assignment.rule else { return };
        let Some(place) = stands(&self.nodes[side][slot as usize]) else { return };
        let mut near = Vec::new();
        self.grid(1 - side).near(&place, &mut near);
        for other in near {
            let there = self.nodes[1 - side][other as usize].place.expect("it is in the grid");
            let distance_m = place.distance_m(&there);
            if distance_m <= radius_m {
                let (left, right) = if side == LEFT { (slot, other) } else { (other, slot) };
                pairs.push(Pair { left, right, edge: 0, distance_m });
            }
        }
    }

    fn grid(&self, side: usize) -> &Grid {
        match &self.index {
            Index::Spatial(grids) => &grids[side],
            _ => unreachable!("only a spatial rule asks for a grid"),
        }
    }

    /// Makes the edges of these nodes exactly what these pairs are worth.
    fn refresh(&mut self, nodes: &[Vec<u32>; 2], mut pairs: Vec<Pair>, solver: &mut Solver) {
        pairs.sort_unstable_by_key(|p| (p.left, p.right));
        pairs.dedup_by_key(|p| (p.left, p.right));
        let mut stale: Vec<(u32, u32)> = Vec::new();
        for side in [LEFT, RIGHT] {
            for slot in &nodes[side] {
                let pair = |other: &u32| if side == LEFT { (*slot, *other) } else { (*other, *slot) };
                let refused = self.refused[side].get(slot).into_iter().flatten();
                stale.extend(solver.neighbours(side, *slot).iter().chain(refused).map(pair));
            }
        }
        for (left, right) in stale {
            if pairs.binary_search_by_key(&(left, right), |p| (p.left, p.right)).is_err() {
                set_refused(&mut self.refused, &mut self.refused_count, left, right, false);
                solver.remove_edge(left, right);
            }
        }
        for pairs in pairs.chunks(PAIRS_MAX) {
            let weights = self.worth.weights(&self.tables, None, pairs);
            self.weighed += pairs.len();
            for (pair, weight) in pairs.iter().zip(&weights) {
                let is_refused = *weight == Weight::Refused;
                set_refused(&mut self.refused, &mut self.refused_count, pair.left, pair.right, is_refused);
            }
            let mut weights = weights.iter();
            for of_task in pairs.chunk_by(|a, b| a.left == b.left) {
                let edges =
                    of_task.iter().zip(weights.by_ref()).map(|(pair, weight)| (pair.right, self.worth.edge(*weight)));
                solver.set_edges(of_task[0].left, edges);
            }
        }
    }
}

fn set_refused(refused: &mut [BTreeMap<u32, BTreeSet<u32>>; 2], count: &mut usize, left: u32, right: u32, on: bool) {
    for (side, slot, other) in [(LEFT, left, right), (RIGHT, right, left)] {
        let changed = if on {
            refused[side].entry(slot).or_default().insert(other)
        } else if let Some(others) = refused[side].get_mut(&slot) {
            let had = others.remove(&other);
            if others.is_empty() {
                refused[side].remove(&slot);
            }
            had
        } else {
            false
        };
        if side == LEFT && changed {
            *count = if on { *count + 1 } else { *count - 1 };
        }
    }
}

/// The group a node stands in as a candidate.
fn takes_part(node: &Node) -> Option<Box<[u8]>> {
    node.group.clone().filter(|_| node.capacity > 0)
}

/// The place at which a node stands as a candidate.
fn stands(node: &Node) -> Option<Place> {
    node.place.filter(|_| node.capacity > 0)
}

fn regroup(members: &mut ByBytes<[Vec<u32>; 2]>, side: usize, slot: u32, before: &Node, after: &Node) {
    let (before, after) = (takes_part(before), takes_part(after));
    if before == after {
        return;
    }
    if let Some(group) = before {
        let there = members.get_mut(&group).expect("it was put there");
        let at = there[side].iter().position(|s| *s == slot).expect("it was put there");
        there[side].swap_remove(at);
        if there.iter().all(Vec::is_empty) {
            members.remove(&group);
        }
    }
    if let Some(group) = after {
        members.entry(group).or_default()[side].push(slot);
    }
}

fn converter(schema: &Schema, columns: &[usize]) -> RowConverter {
    RowConverter::new(columns.iter().map(|c| SortField::new(schema.columns[*c].ty.arrow())).collect())
        .expect("every type is supported")
}

/// A numeric column as floats.
fn floats(array: &ArrayRef) -> Float64Array {
    match Type::from_arrow(array.data_type()) {
        Some(Type::Float64) => array.as_primitive::<Float64Type>().clone(),
        Some(Type::Int64) => array.as_primitive::<Int64Type>().unary(|v| v as f64),
        Some(Type::Decimal) => array.as_primitive::<Decimal128Type>().unary(|v| v as f64),
        other => unreachable!("the plan checked that this column is a number, not {other:?}"),
    }
}
