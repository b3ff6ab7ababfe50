//! Candidate pairs that a relation lists.

use arrow::row::RowConverter;
use hashbrown::HashMap;
use rustc_hash::FxBuildHasher;
use smallvec::SmallVec;
use types::{Delta, Schema};

use super::super::Assignment;
use super::super::solver::{LEFT, RIGHT};
use super::table::Table;
use super::worth::{Weight, Worth};
use super::{ByBytes, Node, PAIRS_MAX, Pair, converter};

/// The rows of an edge relation, found by the keys of the nodes they name, whether those are there or not.
pub(super) struct EdgeIndex {
    pub table: Table,
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
    pub fn new(assignment: &Assignment, schema: &Schema, columns: &[Vec<usize>; 2]) -> EdgeIndex {
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
    pub fn apply(
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
