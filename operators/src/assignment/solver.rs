//! An exact maximum-weight b-matching that is repaired, not recomputed, when nodes and edges change.
//!
//! **Problem.** Left and right nodes have integer capacities, edges integer weights. A flow `x ≥ 0` in integers on the
//! edges, no node above its capacity, shall have the greatest total weight. An edge may be used more than once if both
//! its nodes allow it. Edges of weight ≤ 0 are never used; a node of capacity 0 takes no part.
//!
//! **Terms.** A node may have a term, which the weights of all its edges have on top of their own. It is not added to
//! them: with `u_i` replaced by `u_i - term_i`, the conditions `u_i + v_j ≥ w_ij` do not know of terms, and `u_i ≥ 0`
//! becomes `u_i ≥ -term_i`. So a dual in here is a price less the node's term, and each node has a *floor*, its term with
//! the sign turned, instead of zero. A term that changes moves one floor, and no edge is looked at for it.
//!
//! **Proof.** Duals `u ≥ 0`, `v ≥ 0` with `u_i + v_j ≥ w_ij` on every edge bound every flow by `Σ cap·u + Σ cap·v`
//! (weak duality of the transportation problem); ours meet the bound. [`verify`] checks that in one pass.
//!
//! **Repair** (Hungarian method, kept warm). Between two solves the duals stay feasible but for edges that were raised;
//! a node whose dual is too low for such an edge is lifted, and flow that is no longer tight is dropped. Every node left
//! with spare capacity and a positive dual then starts a search for a shortest augmenting path in reduced costs, from
//! whichever side it is on, which ends at spare capacity, or where giving up a node costs nothing any more.
//!
//! **One answer.** Both the duals and the flow must be functions of the instance, not of the way to it:
//!
//! * *prices*: among all optimal duals, those with every right price least (they form a lattice, so there is one), and
//!   hence every left price greatest. A right price is then what one more unit of that node would be worth. Least means
//!   supported: from every positive right price tight arcs lead back to a right price of zero or a left node with spare
//!   capacity. Each node keeps a pointer to its support; only nodes whose chain of pointers broke are lowered.
//! * *flow*: among all optimal flows the lexicographically greatest, edges in the order of (left key, right key): the
//!   first left node gets as much as any optimum allows of its first right node, and so on. Optimal flows differ by
//!   cycles of tight residual arcs (through a ground node where duals are zero), so only strongly connected pieces
//!   of that graph that a change reached are looked at, and without real ties there are none.
//!
//! Nodes are named by slots, small integers the caller chooses; their order is that of their keys, never of the slots.

mod components;
pub mod edges;
mod nodes;
mod prices;
mod search;
mod ties;
mod verify;

use std::cmp::Reverse;
use std::collections::BinaryHeap;

pub use components::Certificate;
use components::Component;
use edges::{Drift, LISTED_DEGREE_MIN};
use nodes::Nodes;
pub use verify::{Instance, verify};

/// The index of the left side.
pub const LEFT: usize = 0;
/// The index of the right side.
pub const RIGHT: usize = 1;
/// The greatest weight of an edge, terms included: prices and weights are then exact as float64, and no sum can overflow.
pub const WEIGHT_MAX: i64 = 1 << 53;
/// The greatest term of a node, by amount. If there are terms, an edge's own weight may be half of [`WEIGHT_MAX`].
pub const TERM_MAX: i64 = 1 << 51;
/// The greatest capacity of a node.
pub const CAPACITY_MAX: i64 = 1 << 40;

const NONE: u32 = u32::MAX;
/// The dual of a slot that takes no part: so great that its edges are never tight and never violated.
const OUT: i64 = 1 << 60;
/// The code of the ground node.
const GROUND: u32 = u32::MAX - 1;

/// A node of either side as one number.
fn code(side: usize, slot: u32) -> u32 {
    slot << 1 | side as u32
}

/// The side and slot a code stands for.
fn node(code: u32) -> (usize, u32) {
    ((code & 1) as usize, code >> 1)
}

/// What a solve may have changed: a superset, each slot once, in no particular order.
#[derive(Clone, Debug, Default)]
pub struct Repair {
    /// By side, the slots whose price or flow may differ from before.
    pub touched: [Vec<u32>; 2],
    /// The certificates that hold no more.
    pub retired: Vec<Certificate>,
    /// The certificates that are new.
    pub issued: Vec<Certificate>,
}

/// A change of an edge since the last solve.
#[derive(Clone, Copy, Debug)]
struct Edit {
    left: u32,
    right: u32,
    /// What its own weight was changed to; `None` if it was removed.
    weight: Option<i64>,
    is_new: bool,
    is_raised: bool,
}

/// An edge with its own weight, as it was when it was noted.
#[derive(Clone, Copy, Debug)]
struct Edge {
    left: u32,
    right: u32,
    weight: i64,
}

/// The maintained matching. See the module's text.
///
/// # Contract
/// Changes may come in any order and number; [`Solver::solve`] makes prices, flow and certificates those of the
/// instance as it then is. Between a change and the next solve what can be read is neither old nor new.
#[derive(Debug, Default)]
pub struct Solver {
    sides: [Nodes; 2],
    edits: Vec<Edit>,
    /// Nodes that lost an edge to another that takes part: there a component may have come apart.
    loose: Vec<u32>,
    /// Edges that became tight since the last solve, or are tight and support nothing any more; and some that are not.
    tight: Vec<Edge>,
    components: Vec<Component>,
    components_free: Vec<u32>,
    components_touched: Vec<u32>,
    retired: Vec<Certificate>,
    heap: BinaryHeap<Reverse<(i64, u32)>>,
}

impl Solver {
    /// An empty instance.
    pub fn new() -> Solver {
        Solver::default()
    }

    /// Adds a node, or changes its capacity. Its key must stay the same while it exists.
    pub fn set_node(&mut self, side: usize, slot: u32, key: &[u8], capacity: i64) {
        assert!((0..=CAPACITY_MAX).contains(&capacity), "a capacity of {capacity}");
        let nodes = &mut self.sides[side];
        nodes.grow(slot);
        if *nodes.key(slot) != *key {
            let is_free = nodes[slot].capacity == 0 && nodes.edges(slot).len() == 0;
            assert!(is_free, "a slot in use has another key");
            nodes.key[slot as usize] = key.into();
        }
        let before = nodes[slot].capacity;
        if before == capacity {
            return;
        }
        nodes.moved(slot);
        match (before, capacity) {
            (0, _) => self.activate(side, slot, capacity),
            (_, 0) => self.deactivate(side, slot),
            _ => {
                nodes[slot].capacity = capacity;
                let mut excess = nodes[slot].used - capacity;
                while excess > 0 {
                    let (other, x) = *self.sides[side][slot].flow.last().expect("used is the sum of the flow");
                    let drop = x.min(excess);
                    self.add_flow(side, slot, other, -drop);
                    excess -= drop;
                }
            }
        }
    }

    /// Removes a node and its edges. The slot is free for another key after the next solve.
    pub fn remove_node(&mut self, side: usize, slot: u32) {
        if slot as usize >= self.sides[side].len() {
            return;
        }
        if self.sides[side][slot].is_active() {
            self.sides[side].moved(slot);
            self.deactivate(side, slot);
        }
        let edges = std::mem::take(&mut self.sides[side].edges[slot as usize]);
        self.sides[side][slot].degree = 0;
        for other in edges.others() {
            self.sides[1 - side].edges[*other as usize].set(slot, None);
        }
        self.sides[side].key[slot as usize] = Box::default();
        self.sides[side].floor[slot as usize] = 0;
    }

    /// Sets what the weight of every edge of a node is beyond its own. The node must exist; a new one's term is 0.
    pub fn set_term(&mut self, side: usize, slot: u32, term: i64) {
        assert!(term.abs() <= TERM_MAX, "a term of {term}");
        let nodes = &mut self.sides[side];
        if nodes.floor[slot as usize] == -term {
            return;
        }
        nodes.floor[slot as usize] = -term;
        if !nodes[slot].is_active() {
            return;
        }
        nodes.moved(slot);
        // Its matches are worth something else.
        nodes[slot].is_rematched = true;
        let (near, far) = two(&mut self.sides, side);
        for (other, _) in &near[slot].flow {
            far[*other].is_rematched = true;
            far.touch(*other);
        }
        // Below its floor it is lifted, and nothing it has is tight any more. At its floor it may have what is worth
        // nothing any more. Above nothing changes, but that it may now pay to search, or to lower its price.
        let is_lifted = near.price(slot) < 0;
        near.dual[slot as usize] += (-near.price(slot)).max(0);
        if near.price(slot) == 0 {
            let mut void = near[slot].flow.clone();
            void.retain(|(other, _)| is_lifted || far.price(*other) == 0);
            for (other, x) in void {
                self.add_flow(side, slot, other, -x);
            }
        }
        if side == LEFT {
            // Edges that were worth nothing are no ties; now they may be.
            self.set_suspect(slot, true);
        }
    }

    /// Adds an edge, changes its own weight or (`None`) removes it. Both nodes must exist.
    pub fn set_edge(&mut self, left: u32, right: u32, weight: Option<i64>) {
        assert!(weight.is_none_or(|w| w.abs() <= WEIGHT_MAX), "a weight of {weight:?}");
        let [lefts, rights] = &mut self.sides;
        let before = lefts.edges[left as usize].set(right, weight);
        if before == weight {
            return;
        }
        rights.edges[right as usize].set(left, weight);
        self.sides[LEFT].touch(left);
        if before.is_none() || weight.is_none() {
            self.count_edge(left, right, weight.is_some());
        }
        let node = &self.sides[LEFT][left];
        if before.is_some() && (node.flow_to(right) > 0 || node.supports.contains(&right)) {
            self.unhand(left, right);
        }
        self.edits.push(Edit { left, right, weight, is_new: before.is_none(), is_raised: weight > before });
    }

    /// Sets edges of one left node: quicker than one by one.
    pub fn set_edges(&mut self, left: u32, edges: impl IntoIterator<Item = (u32, Option<i64>)>) {
        self.fetch_neighbours(left);
        for (right, weight) in edges {
            self.set_edge(left, right, weight);
        }
    }

    /// Looks at what a repair will need of the neighbours, all at once: among a million nodes each lies in memory no cache
    /// holds, and waiting for one after the other would take longer than the repair.
    fn fetch_neighbours(&self, left: u32) {
        let others = self.sides[LEFT].edges(left).others();
        if others.len() >= LISTED_DEGREE_MIN {
            return;
        }
        let [lefts, rights] = &self.sides;
        let seen = others.iter().fold(0, |seen, right| seen ^ rights.glance(*right));
        // A search goes on to whom they are matched with.
        let partners = others.iter().flat_map(|right| &rights[*right].flow);
        let seen = partners.fold(seen, |seen, (left, _)| seen ^ lefts.glance(*left));
        std::hint::black_box(seen);
    }

    /// An edge between two nodes came or went.
    fn count_edge(&mut self, left: u32, right: u32, came: bool) {
        for (side, slot, other) in [(LEFT, left, right), (RIGHT, right, left)] {
            self.sides[side].touch(slot);
            if self.sides[1 - side][other].is_active() {
                let degree = &mut self.sides[side][slot].degree;
                *degree = if came { *degree + 1 } else { *degree - 1 };
            }
            if !came {
                self.loose.push(code(side, slot));
            }
        }
    }

    /// An edge changed that was in use: it bears no flow and supports nothing any more.
    fn unhand(&mut self, left: u32, right: u32) {
        let flow = self.sides[LEFT][left].flow_to(right);
        if flow > 0 {
            self.add_flow(LEFT, left, right, -flow);
        }
        if self.sides[RIGHT][right].support == left {
            self.set_support(RIGHT, right, NONE);
            self.sides[RIGHT].touch(right);
        }
    }

    /// Removes an edge, if there is one.
    pub fn remove_edge(&mut self, left: u32, right: u32) {
        let known = |side: usize, slot: u32| (slot as usize) < self.sides[side].len();
        if known(LEFT, left) && known(RIGHT, right) {
            self.set_edge(left, right, None);
        }
    }

    /// The weight of an edge, terms included.
    pub fn weight(&self, left: u32, right: u32) -> Option<i64> {
        Some(self.own_weight(left, right)? - self.floors(left, right))
    }

    fn own_weight(&self, left: u32, right: u32) -> Option<i64> {
        self.sides[LEFT].edges.get(left as usize)?.weight(right)
    }

    /// What an edge's own weight must exceed for the edge to be worth anything.
    fn floors(&self, left: u32, right: u32) -> i64 {
        self.sides[LEFT].floor[left as usize] + self.sides[RIGHT].floor[right as usize]
    }

    /// The slots a node has edges to, ascending.
    pub fn neighbours(&self, side: usize, slot: u32) -> &[u32] {
        self.sides[side].edges.get(slot as usize).map_or(&[], |e| e.others())
    }

    /// The nodes a node is matched with and how often, in no particular order.
    pub fn flow(&self, side: usize, slot: u32) -> &[(u32, i64)] {
        self.sides[side].get(slot).map_or(&[], |node| node.flow.as_slice())
    }

    /// The price of a node; `None` if it takes no part: it has no capacity, or no edge to a node that has.
    pub fn price(&self, side: usize, slot: u32) -> Option<i64> {
        let node = self.sides[side].get(slot)?;
        (node.component != NONE).then(|| self.sides[side].price(slot))
    }

    /// Makes everything that can be read current.
    pub fn solve(&mut self) -> Repair {
        self.regroup();
        self.lift();
        self.relist();
        for side in [LEFT, RIGHT] {
            // Searching touches more nodes, but leaves none of them exposed.
            for at in 0..self.sides[side].touched.len() {
                let slot = self.sides[side].touched[at];
                while self.sides[side][slot].is_active()
                    && self.sides[side][slot].has_room()
                    && self.sides[side].price(slot) > 0
                {
                    self.search(side, slot);
                }
            }
        }
        self.lower_prices();
        self.settle_drift();
        self.suspect_ties();
        if self.settle_ties() {
            // Prices stay, but what supported them may have been matched elsewhere.
            self.lower_prices();
            self.suspect_ties();
        }
        self.edits.clear();
        self.tight.clear();
        self.report()
    }

    fn activate(&mut self, side: usize, slot: u32, capacity: i64) {
        let nodes = &mut self.sides[side];
        nodes[slot].capacity = capacity;
        let floor = nodes.floor[slot as usize];
        nodes.reference[slot as usize] = floor;
        nodes.dual[slot as usize] = floor;
        for at in 0..self.sides[side].edges(slot).len() {
            let other = self.sides[side].edges(slot).others()[at];
            self.sides[1 - side].touch(other);
            self.sides[1 - side][other].degree += 1;
            let (left, right) = if side == LEFT { (slot, other) } else { (other, slot) };
            let weight = self.own_weight(left, right);
            self.edits.push(Edit { left, right, weight, is_new: true, is_raised: true });
        }
    }

    fn deactivate(&mut self, side: usize, slot: u32) {
        while let Some((other, x)) = self.sides[side][slot].flow.last().copied() {
            self.add_flow(side, slot, other, -x);
        }
        self.leave(side, slot);
        let nodes = &mut self.sides[side];
        nodes[slot].capacity = 0;
        nodes.reference[slot as usize] = OUT;
        nodes.dual[slot as usize] = OUT;
        self.set_support(side, slot, NONE);
        if side == LEFT {
            for other in std::mem::take(&mut self.sides[LEFT][slot].supports) {
                self.sides[RIGHT][other].support = NONE;
            }
        }
        for at in 0..self.sides[side].edges(slot).len() {
            let other = self.sides[side].edges(slot).others()[at];
            self.sides[1 - side].touch(other);
            self.sides[1 - side][other].degree -= 1;
            self.loose.push(code(1 - side, other));
        }
    }

    /// Sets what supports a node. Only of right nodes a list is kept: whom a right node supports its flow says.
    fn set_support(&mut self, side: usize, slot: u32, support: u32) {
        let before = std::mem::replace(&mut self.sides[side][slot].support, support);
        if before == support {
            return;
        }
        if side == LEFT {
            if let Some(weight) = (before != NONE).then(|| self.own_weight(slot, before)).flatten() {
                self.tight.push(Edge { left: slot, right: before, weight });
            }
            return;
        }
        if before != NONE {
            let list = &mut self.sides[LEFT][before].supports;
            let at = list.iter().position(|j| *j == slot).expect("it is listed");
            list.swap_remove(at);
            self.tight.push(Edge { left: before, right: slot, weight: self.sides[RIGHT][slot].support_weight });
        }
        if support != NONE {
            self.sides[LEFT][support].supports.push(slot);
        }
    }

    /// Changes the flow between a node of `side` and one of the other.
    fn add_flow(&mut self, side: usize, slot: u32, other: u32, amount: i64) {
        self.sides[side].add_flow(slot, other, amount);
        self.sides[1 - side].add_flow(other, slot, amount);
    }

    /// How far the duals of an edge's nodes exceed its own weight: 0 if it is tight.
    fn slack(&self, left: u32, right: u32, weight: i64) -> i64 {
        self.sides[LEFT].dual(left) + self.sides[RIGHT].dual(right) - weight
    }

    /// How far the duals of the other side can have fallen below what the list of a node knows.
    fn drift(&self, side: usize, slot: u32) -> Drift {
        match self.sides[side][slot].component {
            NONE => Drift::default(),
            component => self.components[component as usize].drift[1 - side],
        }
    }

    /// Makes the list of a node fit for looking at its edges, where that is worth it.
    fn prepare(&mut self, side: usize, slot: u32) {
        let component = self.sides[side][slot].component;
        if component == NONE {
            return;
        }
        let component = &mut self.components[component as usize];
        component.has_lists = true;
        let drift = &mut component.drift[1 - side];
        let (near, far) = two(&mut self.sides, side);
        let edges = &mut near.edges[slot as usize];
        drift.wants += 1;
        // Taking new references goes through all members: only after as much work was done for want of them.
        let members = &component.members[1 - side];
        if edges.wants_reference(drift) && drift.wants as usize * LISTED_DEGREE_MIN > members.len() {
            for other in members {
                far.reference[*other as usize] = far.dual(*other);
            }
            // Nobody is below a reference any more, but what passes may have been.
            *drift = Drift { past: drift.level(), ..Drift::default() };
        }
        edges.make_list(drift, &far.reference);
    }

    /// Notes how many entries of a node's list were read in vain. Something, if it has another list now.
    fn wasted(&mut self, side: usize, slot: u32, entries: u32) -> Option<()> {
        let is_wasteful = entries > 0 && self.sides[side].edges[slot as usize].wasted(entries);
        is_wasteful.then(|| self.prepare(side, slot))
    }

    /// Brings the lists of the nodes at changed edges up to date.
    fn relist(&mut self) {
        let mut rest: Vec<Edit> = Vec::new();
        let edits = std::mem::take(&mut self.edits);
        for of_left in edits.chunk_by(|a, b| a.left == b.left) {
            if !self.refer_anew(LEFT, of_left[0].left, of_left.len()) {
                rest.extend(of_left);
            }
        }
        self.edits = edits;
        rest.sort_by_key(|e| e.right);
        for of_right in rest.chunk_by(|a, b| a.right == b.right) {
            if self.refer_anew(RIGHT, of_right[0].right, of_right.len()) {
                continue;
            }
            for edit in of_right {
                // It may have been changed again since.
                let Some(weight) = self.own_weight(edit.left, edit.right) else { continue };
                let drifts = [self.drift(LEFT, edit.left), self.drift(RIGHT, edit.right)];
                let [left, right] = &mut self.sides;
                let references = [left.reference[edit.left as usize], right.reference[edit.right as usize]];
                left.edges[edit.left as usize].list(edit.right, weight, references[RIGHT], &drifts[LEFT]);
                right.edges[edit.right as usize].list(edit.left, weight, references[LEFT], &drifts[RIGHT]);
            }
        }
    }

    /// If most edges of a node changed: forgets its list and gives it a new reference.
    fn refer_anew(&mut self, side: usize, slot: u32, changed: usize) -> bool {
        let component = self.sides[side][slot].component;
        if component == NONE || 2 * changed < self.sides[side].edges(slot).len() {
            return false;
        }
        let of = &self.components[component as usize];
        if of.has_lists {
            // The search to come lowers it, about as far as the last one went.
            let nodes = &self.sides[side];
            let reference = (nodes.dual(slot) - 2 * of.reach[0]).max(nodes.floor[slot as usize]);
            self.sides[side].edges[slot as usize].drop_list();
            self.refer(side, slot, reference);
        }
        true
    }

    /// Gives a node a new reference, and enters it into its neighbours' lists by that.
    fn refer(&mut self, side: usize, slot: u32, reference: i64) {
        let (near, far) = two(&mut self.sides, side);
        let drift = &self.components[near[slot].component as usize].drift[side];
        near.reference[slot as usize] = reference;
        for (other, weight) in near.edges(slot).iter() {
            far.edges[other as usize].list(slot, weight, reference, drift);
        }
    }
}

#[cfg(test)]
impl Solver {
    fn check_lists(&self) {
        for side in [LEFT, RIGHT] {
            for slot in 0..self.sides[side].len() as u32 {
                if self.sides[side][slot].component != NONE {
                    let other = &self.sides[1 - side];
                    self.sides[side].edges(slot).check_list(&self.drift(side, slot), &other.dual, &other.reference);
                }
            }
        }
    }
}

/// A side and the other.
fn two(sides: &mut [Nodes; 2], side: usize) -> (&mut Nodes, &mut Nodes) {
    let [left, right] = sides;
    if side == LEFT { (left, right) } else { (right, left) }
}

#[cfg(test)]
mod tests;
