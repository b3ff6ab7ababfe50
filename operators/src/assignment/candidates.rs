//! From rows to edges: which tasks and workers may be matched, and what each pair is worth, kept current per changed row.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Float64Array, RecordBatch, RecordBatchOptions, UInt32Array};
use arrow::compute::take;
use arrow::datatypes::{Decimal128Type, Float64Type, Int64Type, SchemaRef};
use arrow::row::{RowConverter, SortField};
use hashbrown::HashMap;
use rustc_hash::FxBuildHasher;
use smallvec::SmallVec;
use types::{Column, Delta, RowCodec, Schema, Type};

use super::solver::{CAPACITY_MAX, LEFT, RIGHT, Solver, TERM_MAX, WEIGHT_MAX};
use super::{Assignment, Rule, SIDES};
use crate::expression::Expression;
use crate::grid::{Grid, Place};

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

/// The rows of an input, by slot: their keys and what the rule or an expression reads of them.
struct Table {
    codec: RowCodec,
    /// The positions kept, in the relation.
    kept: Vec<usize>,
    slots: ByBytes<u32>,
    keys: Vec<Box<[u8]>>,
    values: Vec<Option<Box<[u8]>>>,
    free: Vec<u32>,
    gone: Vec<u32>,
}

impl Table {
    fn new(schema: &Schema, columns: &[usize]) -> Table {
        let mut kept: Vec<usize> = schema.key.iter().chain(columns).copied().collect();
        kept.sort_unstable();
        kept.dedup();
        let place = |c: &usize| kept.binary_search(c).expect("keys are kept");
        let projected = Schema {
            columns: kept.iter().map(|c| schema.columns[*c].clone()).collect(),
            key: schema.key.iter().map(place).collect(),
            event_time: None,
            append_only: false,
        };
        Table {
            codec: RowCodec::new(&projected),
            kept,
            slots: ByBytes::default(),
            keys: Vec::new(),
            values: Vec::new(),
            free: Vec::new(),
            gone: Vec::new(),
        }
    }

    /// Where a column of the relation stands in [`Table::rows`].
    fn place_of(&self, column: usize) -> usize {
        self.kept.binary_search(&column).expect("the column is kept")
    }

    fn has(&self, slot: u32) -> bool {
        self.values.get(slot as usize).is_some_and(Option::is_some)
    }

    fn find(&self, key: &[u8]) -> Option<u32> {
        self.slots.get(key).copied().filter(|slot| self.has(*slot))
    }

    /// The kept columns of these rows.
    fn rows(&self, slots: &[u32]) -> RecordBatch {
        let row = |slot: &u32| {
            let value = self.values[*slot as usize].as_deref().expect("the row is there");
            (&*self.keys[*slot as usize], value)
        };
        self.codec.decode(slots.iter().map(row)).expect("bytes of our own codec")
    }

    /// Nets an epoch's changes key by key. Returns the slots whose kept columns changed.
    fn apply(&mut self, deltas: &[Delta]) -> Vec<u32> {
        let encoded: Vec<_> = deltas
            .iter()
            .map(|delta| {
                let rows = delta.rows.project(&self.kept).expect("the planned columns");
                (self.codec.keys(&rows), self.codec.values(&rows), delta)
            })
            .collect();
        let mut all: Vec<(&[u8], &[u8], i64)> = Vec::new();
        for (keys, values, delta) in &encoded {
            all.extend((0..delta.len()).map(|row| (keys.row(row).data(), values.row(row).data(), delta.diff(row))));
        }
        all.sort_unstable_by(|a, b| (a.0, a.1).cmp(&(b.0, b.1)));
        let mut changed = Vec::new();
        for of_key in all.chunk_by(|a, b| a.0 == b.0) {
            let key = of_key[0].0;
            let known = self.slots.get(key).copied();
            let before = known.and_then(|slot| self.values[slot as usize].as_deref());
            let mut after = None;
            let mut before_met = false;
            for of_row in of_key.chunk_by(|a, b| a.1 == b.1) {
                let mut sum: i64 = of_row.iter().map(|r| r.2).sum();
                if before == Some(of_row[0].1) {
                    sum += 1;
                    before_met = true;
                }
                if sum > 0 {
                    after = Some(of_row[0].1);
                }
            }
            if !before_met && after.is_none() {
                after = before;
            }
            if before == after {
                continue;
            }
            let after: Option<Box<[u8]>> = after.map(Into::into);
            let slot = known.unwrap_or_else(|| self.take_slot(key));
            if after.is_none() {
                self.gone.push(slot);
            }
            self.values[slot as usize] = after;
            changed.push(slot);
        }
        changed
    }

    fn take_slot(&mut self, key: &[u8]) -> u32 {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.keys.push(Box::default());
            self.values.push(None);
            self.keys.len() as u32 - 1
        });
        self.keys[slot as usize] = key.into();
        self.slots.insert(key.into(), slot);
        slot
    }

    fn release(&mut self) {
        for slot in std::mem::take(&mut self.gone) {
            let key = std::mem::take(&mut self.keys[slot as usize]);
            self.slots.remove(&key);
            self.free.push(slot);
        }
    }
}

/// The rows of an edge relation, found by the keys of the nodes they name, whether those are there or not.
struct EdgeIndex {
    table: Table,
    /// Which columns of the relation name a node, by side.
    columns: [Vec<usize>; 2],
    converters: [RowConverter; 2],
    by_key: [ByBytes<Vec<u32>>; 2],
    edges: Vec<Edge>,
    /// The edge rows between two nodes that are there, each with its worth. The heaviest counts.
    pairs: Pairs,
}

/// The edge rows of each pair of nodes, each with its worth. Looked into, never iterated.
type Pairs = HashMap<(u32, u32), SmallVec<[(u32, Weight); 1]>, FxBuildHasher>;

#[derive(Clone, Debug, Default)]
struct Edge {
    keys: [Box<[u8]>; 2],
    /// The pair in whose list it is.
    pair: Option<(u32, u32)>,
}

impl EdgeIndex {
    fn new(assignment: &Assignment, schema: &Schema, columns: &[Vec<usize>; 2]) -> EdgeIndex {
        let kept: Vec<usize> = columns.iter().flatten().chain(&assignment.reads[2]).copied().collect();
        EdgeIndex {
            table: Table::new(schema, &kept),
            columns: columns.clone(),
            converters: [LEFT, RIGHT].map(|side| converter(schema, &columns[side])),
            by_key: [ByBytes::default(), ByBytes::default()],
            edges: Vec::new(),
            pairs: HashMap::default(),
        }
    }

    /// Takes in changes of the edge rows and of nodes. Returns every pair that may differ with what it is worth now
    /// and whether that is because its weight is refused.
    fn apply(
        &mut self,
        deltas: &[Delta],
        tables: &[Table; 2],
        nodes: &[Vec<Node>; 2],
        changed: &[Vec<u32>; 2],
        worth: &Worth,
    ) -> Vec<(u32, u32, Option<i64>, bool)> {
        let mut dirty = self.table.apply(deltas);
        self.reread(&dirty);
        for side in [LEFT, RIGHT] {
            for slot in &changed[side] {
                dirty.extend(self.by_key[side].get(&tables[side].keys[*slot as usize]).into_iter().flatten());
            }
        }
        dirty.sort_unstable();
        dirty.dedup();

        let mut touched: Vec<(u32, u32)> = Vec::new();
        let mut fresh: Vec<Pair> = Vec::new();
        for slot in &dirty {
            let edge = &mut self.edges[*slot as usize];
            if let Some(pair) = edge.pair.take() {
                let list = self.pairs.get_mut(&pair).expect("it is listed");
                list.retain(|(e, _)| e != slot);
                touched.push(pair);
            }
            if !self.table.has(*slot) {
                continue;
            }
            if let (Some(left), Some(right)) =
                (tables[LEFT].find(&edge.keys[LEFT]), tables[RIGHT].find(&edge.keys[RIGHT]))
                && nodes[LEFT][left as usize].capacity > 0
                && nodes[RIGHT][right as usize].capacity > 0
            {
                edge.pair = Some((left, right));
                fresh.push(Pair { left, right, edge: *slot, distance_m: 0.0 });
            }
        }
        for pairs in fresh.chunks(PAIRS_MAX) {
            for (pair, weight) in pairs.iter().zip(worth.weights(tables, Some(&self.table), pairs)) {
                self.pairs.entry((pair.left, pair.right)).or_default().push((pair.edge, weight));
                touched.push((pair.left, pair.right));
            }
        }
        self.table.release();
        touched.sort_unstable();
        touched.dedup();
        let mut out = Vec::with_capacity(touched.len());
        for (left, right) in touched {
            let list = &self.pairs[&(left, right)];
            let weight = list.iter().filter_map(|(_, weight)| worth.edge(*weight)).max();
            out.push((left, right, weight, list.iter().any(|(_, w)| *w == Weight::Refused)));
            if list.is_empty() {
                self.pairs.remove(&(left, right));
            }
        }
        out
    }

    /// Brings `by_key` up to date for changed edge rows.
    fn reread(&mut self, changed: &[u32]) {
        self.edges.resize_with(self.table.keys.len(), Edge::default);
        let present: Vec<u32> = changed.iter().copied().filter(|slot| self.table.has(*slot)).collect();
        let rows = self.table.rows(&present);
        let named = [LEFT, RIGHT].map(|side| {
            let columns = self.columns[side].iter().map(|c| rows.column(self.table.place_of(*c)).clone());
            self.converters[side].convert_columns(&columns.collect::<Vec<_>>()).expect("the planned types")
        });
        let mut row = 0;
        for slot in changed {
            let edge = &mut self.edges[*slot as usize];
            let there = self.table.has(*slot);
            for side in [LEFT, RIGHT] {
                let after: Box<[u8]> = if there { named[side].row(row).data().into() } else { Box::default() };
                let before = std::mem::replace(&mut edge.keys[side], after);
                if before == edge.keys[side] {
                    continue;
                }
                if let Some(list) = self.by_key[side].get_mut(&before) {
                    list.retain(|e| e != slot);
                    if list.is_empty() {
                        self.by_key[side].remove(&before);
                    }
                }
                if there {
                    self.by_key[side].entry(edge.keys[side].clone()).or_default().push(*slot);
                }
            }
            row += usize::from(there);
        }
    }
}

/// What a candidate pair is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Weight {
    /// In fixed point.
    Fixed(i64),
    /// It is no candidate: the condition is not met (or cannot be computed), or the weight is null.
    None,
    /// It would be a candidate, but its weight cannot be computed or is no number in range.
    Refused,
}

/// The terms of one side, by slot of its rows: a table of the columns the term reads, so that a row of which nothing else
/// changed is not looked at for its pairs.
struct Term {
    table: Table,
    schema: SchemaRef,
    expression: Expression,
    /// The position of each column the expression reads in the table's rows.
    places: Vec<usize>,
    scale: super::Scale,
    /// `None` of a row that has no usable term.
    by_slot: Vec<Option<i64>>,
}

impl Term {
    fn new(assignment: &Assignment, side: usize) -> Option<Term> {
        let term = assignment.terms[side].as_ref()?;
        let table = Table::new(&assignment.sides[side].schema, &term.columns);
        let known = super::node_schema(&assignment.sides, side);
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
    fn apply(&mut self, deltas: &[Delta]) -> Vec<(u32, Option<i64>)> {
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
struct Worth {
    schema: SchemaRef,
    /// The columns the expressions read: an input, or the distance; and the column's place in its table.
    sources: Vec<(Source, usize)>,
    filter: Option<Expression>,
    weight: Expression,
    scale: super::Scale,
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
    fn new(assignment: &Assignment, tables: &[Table; 2], index: &Index) -> Worth {
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
            columns.push(Column { name: super::DISTANCE.to_owned(), ty: Type::Float64, nullable: false });
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
    fn edge(&self, weight: Weight) -> Option<i64> {
        match weight {
            Weight::Fixed(w) if w > 0 || self.keeps_all => Some(w),
            _ => None,
        }
    }

    /// Whether pairs meet the condition.
    fn meets(&self, tables: &[Table; 2], pairs: &[Pair]) -> Vec<bool> {
        let Some(filter) = &self.filter else { return vec![true; pairs.len()] };
        let (met, _) = filter.evaluate(&self.batch(tables, None, pairs));
        let met = met.as_boolean();
        (0..pairs.len()).map(|i| met.is_valid(i) && met.value(i)).collect()
    }

    fn weights(&self, tables: &[Table; 2], edges: Option<&Table>, pairs: &[Pair]) -> Vec<Weight> {
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
