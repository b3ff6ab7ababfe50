//! An exact maximum-weight b-matching that is repaired, not recomputed, when nodes and edges change.
//!
//! **Problem.** Left and right nodes have integer capacities, edges integer weights. A flow `x ≥ 0` in integers on the
//! edges, no node above its capacity, shall have the greatest total weight. An edge may be used more than once if both
//! its nodes allow it. Edges of weight ≤ 0 are never used and need not be stored; a node of capacity 0 takes no part.
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

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use smallvec::SmallVec;

/// The index of the left side.
pub const LEFT: usize = 0;
/// The index of the right side.
pub const RIGHT: usize = 1;
/// The greatest weight of an edge: prices and weights are then exact as float64, and no sum can overflow.
pub const WEIGHT_MAX: i64 = 1 << 53;
/// The greatest capacity of a node.
pub const CAPACITY_MAX: i64 = 1 << 40;

const NONE: u32 = u32::MAX;
/// The dual of a slot that takes no part: so great that its edges are never tight and never violated.
const OUT: i64 = 1 << 60;
/// The code of the ground node.
const GROUND: u32 = u32::MAX - 1;

/// The proof for one connected component, as [`Solver::solve`] issues it. The gap is `dual - primal`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    /// The least key among the component's left nodes.
    pub key: Box<[u8]>,
    /// The weight of the flow.
    pub primal: i128,
    /// The bound no flow can exceed.
    pub dual: i128,
    /// How many nodes there are, of both sides.
    pub nodes: u64,
    /// How many edges there are.
    pub edges: u64,
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

/// The edges of a node: neighbours ascending by slot, each with its weight.
#[derive(Debug, Default)]
struct Edges {
    others: Vec<u32>,
    weights: Vec<i64>,
}

impl Edges {
    fn find(&self, other: u32) -> Result<usize, usize> {
        // In a dense graph a neighbour stands at its offset from the first: worth one look before the search.
        if let Some(first) = self.others.first()
            && let Some(guess) = other.checked_sub(*first)
            && self.others.get(guess as usize) == Some(&other)
        {
            return Ok(guess as usize);
        }
        self.others.binary_search(&other)
    }

    fn weight(&self, other: u32) -> Option<i64> {
        self.find(other).ok().map(|at| self.weights[at])
    }

    /// Sets or (`None`) removes an edge.
    fn set(&mut self, other: u32, weight: Option<i64>) {
        match (self.find(other), weight) {
            (Ok(at), Some(w)) => self.weights[at] = w,
            (Ok(at), None) => {
                self.others.remove(at);
                self.weights.remove(at);
            }
            (Err(at), Some(w)) => {
                self.others.insert(at, other);
                self.weights.insert(at, w);
            }
            (Err(_), None) => {}
        }
    }

    fn iter(&self) -> impl Iterator<Item = (u32, i64)> + '_ {
        self.others.iter().copied().zip(self.weights.iter().copied())
    }
}

type Flow = SmallVec<[(u32, i64); 1]>;

/// One side: everything by slot.
#[derive(Debug, Default)]
struct Nodes {
    key: Vec<Box<[u8]>>,
    /// 0 for a slot that takes no part.
    capacity: Vec<i64>,
    used: Vec<i64>,
    dual: Vec<i64>,
    /// The dual at the end of the last solve.
    settled: Vec<i64>,
    edges: Vec<Edges>,
    /// How many of its edges lead to nodes that take part.
    degree: Vec<u32>,
    /// The nodes it is matched with, and how often.
    flow: Vec<Flow>,
    /// What keeps a right price from being lower (a left node), or a left price from being higher (a right node).
    support: Vec<u32>,
    /// The right nodes a left node supports.
    supports: Vec<SmallVec<[u32; 2]>>,
    component: Vec<u32>,
    counted: Vec<Counted>,
    /// Whether the slot is in `touched`.
    is_touched: Vec<bool>,
    touched: Vec<u32>,
    // Scratch, at rest between uses.
    dist: Vec<i64>,
    via: Vec<u32>,
    mark: Vec<bool>,
    order: Vec<u32>,
    churn: Vec<u32>,
}

/// What a node adds to the sums of its component.
#[derive(Clone, Copy, Debug, Default)]
struct Counted {
    primal: i128,
    dual: i128,
    edges: u64,
}

impl Nodes {
    fn grow(&mut self, slot: u32) {
        let n = slot as usize + 1;
        if self.key.len() >= n {
            return;
        }
        self.key.resize_with(n, Box::default);
        self.capacity.resize(n, 0);
        self.used.resize(n, 0);
        self.dual.resize(n, OUT);
        self.settled.resize(n, OUT);
        self.edges.resize_with(n, Edges::default);
        self.flow.resize_with(n, Flow::default);
        self.degree.resize(n, 0);
        self.support.resize(n, NONE);
        self.supports.resize_with(n, SmallVec::new);
        self.component.resize(n, NONE);
        self.counted.resize(n, Counted::default());
        self.is_touched.resize(n, false);
        self.dist.resize(n, i64::MAX);
        self.via.resize(n, NONE);
        self.mark.resize(n, false);
        self.order.resize(n, NONE);
        self.churn.resize(n, 0);
    }

    fn touch(&mut self, slot: u32) {
        let flag = &mut self.is_touched[slot as usize];
        if !*flag {
            *flag = true;
            self.touched.push(slot);
        }
    }

    fn is_active(&self, slot: u32) -> bool {
        self.capacity[slot as usize] > 0
    }

    fn has_room(&self, slot: u32) -> bool {
        self.used[slot as usize] < self.capacity[slot as usize]
    }

    fn flow_to(&self, slot: u32, other: u32) -> i64 {
        self.flow[slot as usize].iter().find(|(o, _)| *o == other).map_or(0, |(_, x)| *x)
    }

    fn add_flow(&mut self, slot: u32, other: u32, amount: i64) {
        self.used[slot as usize] += amount;
        let flow = &mut self.flow[slot as usize];
        match flow.iter().position(|(o, _)| *o == other) {
            Some(at) => {
                flow[at].1 += amount;
                if flow[at].1 == 0 {
                    flow.swap_remove(at);
                }
            }
            None => flow.push((other, amount)),
        }
        self.touch(slot);
    }
}

#[derive(Debug, Default)]
struct Component {
    members: Vec<u32>,
    sums: Counted,
    /// The left slot of the least key.
    first: u32,
    /// The certificate last issued for it.
    issued: Option<Certificate>,
    /// Whether it may have fallen apart.
    split: bool,
    is_touched: bool,
}

/// The maintained matching. See the module's text.
///
/// # Contract
/// Changes may come in any order and number; [`Solver::solve`] makes prices, flow and certificates those of the
/// instance as it then is. Between a change and the next solve what can be read is neither old nor new.
#[derive(Debug, Default)]
pub struct Solver {
    sides: [Nodes; 2],
    /// By left slot, its tight neighbours.
    tight: Vec<Vec<u32>>,
    /// Edges added or raised since the last solve.
    raised: Vec<(u32, u32)>,
    /// Edges changed in any way since the last solve.
    edited: Vec<(u32, u32)>,
    components: Vec<Component>,
    components_free: Vec<u32>,
    components_split: Vec<u32>,
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
        if side == LEFT && self.tight.len() <= slot as usize {
            self.tight.resize_with(slot as usize + 1, Vec::new);
        }
        let nodes = &mut self.sides[side];
        let at = slot as usize;
        if *nodes.key[at] != *key {
            assert!(nodes.capacity[at] == 0 && nodes.edges[at].others.is_empty(), "a slot in use has another key");
            nodes.key[at] = key.into();
        }
        let before = nodes.capacity[at];
        if before == capacity {
            return;
        }
        nodes.touch(slot);
        match (before, capacity) {
            (0, _) => self.activate(side, slot, capacity),
            (_, 0) => self.deactivate(side, slot),
            _ => {
                nodes.capacity[at] = capacity;
                let mut excess = nodes.used[at] - capacity;
                while excess > 0 {
                    let (other, x) = *self.sides[side].flow[at].last().expect("used is the sum of the flow");
                    let drop = x.min(excess);
                    self.add_flow(side, slot, other, -drop);
                    excess -= drop;
                }
            }
        }
    }

    /// Removes a node and its edges. The slot is free for another key after the next solve.
    pub fn remove_node(&mut self, side: usize, slot: u32) {
        if slot as usize >= self.sides[side].key.len() {
            return;
        }
        if self.sides[side].is_active(slot) {
            self.sides[side].touch(slot);
            self.deactivate(side, slot);
        }
        let edges = std::mem::take(&mut self.sides[side].edges[slot as usize]);
        self.sides[side].degree[slot as usize] = 0;
        for other in edges.others {
            self.sides[1 - side].edges[other as usize].set(slot, None);
            self.sides[1 - side].touch(other);
            self.edited.push(if side == LEFT { (slot, other) } else { (other, slot) });
        }
        self.sides[side].key[slot as usize] = Box::default();
    }

    /// Adds an edge or changes its weight; a weight ≤ 0 removes it. Both nodes must exist.
    pub fn set_edge(&mut self, left: u32, right: u32, weight: i64) {
        assert!(weight <= WEIGHT_MAX, "a weight of {weight}");
        let after = (weight > 0).then_some(weight);
        let before = self.sides[LEFT].edges[left as usize].weight(right);
        if before == after {
            return;
        }
        if before.is_some() {
            let flow = self.sides[LEFT].flow_to(left, right);
            if flow > 0 {
                self.add_flow(LEFT, left, right, -flow);
            }
        }
        self.sides[LEFT].edges[left as usize].set(right, after);
        self.sides[RIGHT].edges[right as usize].set(left, after);
        self.sides[LEFT].touch(left);
        if before.is_none() || after.is_none() || self.sides[RIGHT].support[right as usize] == left {
            self.sides[RIGHT].touch(right);
        }
        if before.is_some() != after.is_some() {
            for (side, slot, other) in [(LEFT, left, right), (RIGHT, right, left)] {
                if self.sides[1 - side].is_active(other) {
                    let degree = &mut self.sides[side].degree[slot as usize];
                    *degree = if after.is_some() { *degree + 1 } else { *degree - 1 };
                }
            }
        }
        if after > before {
            self.raised.push((left, right));
        }
        self.edited.push((left, right));
        if after.is_none() {
            self.note_split(self.sides[LEFT].component[left as usize]);
        }
    }

    /// Removes an edge, if there is one.
    pub fn remove_edge(&mut self, left: u32, right: u32) {
        let known = |side: usize, slot: u32| (slot as usize) < self.sides[side].key.len();
        if known(LEFT, left) && known(RIGHT, right) {
            self.set_edge(left, right, 0);
        }
    }

    /// The weight of an edge.
    pub fn weight(&self, left: u32, right: u32) -> Option<i64> {
        self.sides[LEFT].edges.get(left as usize)?.weight(right)
    }

    /// The slots a node has edges to, ascending.
    pub fn neighbours(&self, side: usize, slot: u32) -> &[u32] {
        self.sides[side].edges.get(slot as usize).map_or(&[], |e| &e.others)
    }

    /// The nodes a node is matched with and how often, in no particular order.
    pub fn flow(&self, side: usize, slot: u32) -> &[(u32, i64)] {
        self.sides[side].flow.get(slot as usize).map_or(&[], |f| f.as_slice())
    }

    /// The price of a node; `None` if it takes no part: it has no capacity, or no edge to a node that has.
    pub fn price(&self, side: usize, slot: u32) -> Option<i64> {
        let nodes = &self.sides[side];
        let component = *nodes.component.get(slot as usize)?;
        (component != NONE).then(|| nodes.dual[slot as usize])
    }

    /// Makes everything that can be read current.
    pub fn solve(&mut self) -> Repair {
        self.lift();
        for side in [LEFT, RIGHT] {
            // Searching touches more nodes, but leaves none of them exposed.
            for at in 0..self.sides[side].touched.len() {
                let slot = self.sides[side].touched[at];
                while self.sides[side].is_active(slot)
                    && self.sides[side].has_room(slot)
                    && self.sides[side].dual[slot as usize] > 0
                {
                    self.search(side, slot);
                }
            }
        }
        self.lower_prices();
        let gained = self.find_tight();
        self.regroup();
        if self.settle_ties(gained) {
            // Prices stay, but what supported them may have been matched elsewhere.
            self.lower_prices();
        }
        self.report()
    }

    fn activate(&mut self, side: usize, slot: u32, capacity: i64) {
        let nodes = &mut self.sides[side];
        nodes.capacity[slot as usize] = capacity;
        nodes.dual[slot as usize] = 0;
        for at in 0..self.sides[side].edges[slot as usize].others.len() {
            let other = self.sides[side].edges[slot as usize].others[at];
            self.sides[1 - side].touch(other);
            self.sides[1 - side].degree[other as usize] += 1;
            let edge = if side == LEFT { (slot, other) } else { (other, slot) };
            self.raised.push(edge);
            self.edited.push(edge);
        }
    }

    fn deactivate(&mut self, side: usize, slot: u32) {
        while let Some((other, x)) = self.sides[side].flow[slot as usize].last().copied() {
            self.add_flow(side, slot, other, -x);
        }
        let nodes = &mut self.sides[side];
        nodes.capacity[slot as usize] = 0;
        nodes.dual[slot as usize] = OUT;
        let component = nodes.component[slot as usize];
        self.set_support(side, slot, NONE);
        if side == LEFT {
            for other in std::mem::take(&mut self.sides[LEFT].supports[slot as usize]) {
                self.sides[RIGHT].support[other as usize] = NONE;
            }
        }
        self.note_split(component);
        for at in 0..self.sides[side].edges[slot as usize].others.len() {
            let other = self.sides[side].edges[slot as usize].others[at];
            self.sides[1 - side].touch(other);
            self.sides[1 - side].degree[other as usize] -= 1;
            self.edited.push(if side == LEFT { (slot, other) } else { (other, slot) });
        }
    }

    /// Sets what supports a node. Only of right nodes a list is kept: whom a right node supports its flow says.
    fn set_support(&mut self, side: usize, slot: u32, support: u32) {
        let before = std::mem::replace(&mut self.sides[side].support[slot as usize], support);
        if side == RIGHT && before != support {
            if before != NONE {
                let list = &mut self.sides[LEFT].supports[before as usize];
                let at = list.iter().position(|j| *j == slot).expect("it is listed");
                list.swap_remove(at);
            }
            if support != NONE {
                self.sides[LEFT].supports[support as usize].push(slot);
            }
        }
    }

    fn note_split(&mut self, component: u32) {
        if component != NONE && !self.components[component as usize].split {
            self.components[component as usize].split = true;
            self.components_split.push(component);
        }
    }

    /// Changes the flow between a node of `side` and one of the other.
    fn add_flow(&mut self, side: usize, slot: u32, other: u32, amount: i64) {
        self.sides[side].add_flow(slot, other, amount);
        self.sides[1 - side].add_flow(other, slot, amount);
    }

    fn slack(&self, left: u32, right: u32, weight: i64) -> i64 {
        self.sides[LEFT].dual[left as usize] + self.sides[RIGHT].dual[right as usize] - weight
    }

    /// Makes the duals feasible again: of a raised edge's nodes the one with more raised edges gives way.
    fn lift(&mut self) {
        let raised = std::mem::take(&mut self.raised);
        for (l, r) in &raised {
            self.sides[LEFT].churn[*l as usize] += 1;
            self.sides[RIGHT].churn[*r as usize] += 1;
        }
        for (l, r) in &raised {
            let Some(weight) = self.weight(*l, *r) else { continue };
            let violation = -self.slack(*l, *r, weight);
            if violation <= 0 {
                continue;
            }
            let left = self.sides[LEFT].churn[*l as usize] >= self.sides[RIGHT].churn[*r as usize];
            let (side, slot) = if left { (LEFT, *l) } else { (RIGHT, *r) };
            self.sides[side].dual[slot as usize] += violation;
            self.sides[side].touch(slot);
            while let Some((other, x)) = self.sides[side].flow[slot as usize].last().copied() {
                self.add_flow(side, slot, other, -x);
            }
        }
        for (l, r) in &raised {
            self.sides[LEFT].churn[*l as usize] = 0;
            self.sides[RIGHT].churn[*r as usize] = 0;
        }
        self.raised = raised;
    }

    /// One shortest augmenting path from a node with room and a positive dual (Dijkstra in reduced costs).
    ///
    /// It ends at the cheapest of: a node of the other side with room, or a node of this side, the start included,
    /// whose dual falls to zero. After it the start has less room or a dual of zero.
    fn search(&mut self, side: usize, start: u32) {
        let (left, right) = self.sides.split_at_mut(1);
        let (near, far) = if side == LEFT { (&mut left[0], &mut right[0]) } else { (&mut right[0], &mut left[0]) };
        let mut best = near.dual[start as usize];
        let mut end = (false, start); // (on the far side, slot)
        let (mut near_reached, mut far_reached) = (vec![start], Vec::new());
        near.dist[start as usize] = 0;
        self.heap.clear();
        let mut scan = start;
        let mut queue: SmallVec<[u32; 4]> = SmallVec::new();
        loop {
            let from = scan as usize;
            let base = near.dist[from] + near.dual[from];
            let edges = &near.edges[from];
            for (other, weight) in edges.others.iter().zip(&edges.weights) {
                let to = *other as usize;
                let dist = base + far.dual[to] - weight;
                if dist >= best || dist >= far.dist[to] {
                    continue;
                }
                if far.dist[to] == i64::MAX {
                    far_reached.push(*other);
                }
                far.dist[to] = dist;
                far.via[to] = scan;
                if far.has_room(*other) {
                    (best, end) = (dist, (true, *other));
                } else {
                    self.heap.push(Reverse((dist, *other)));
                }
            }
            while queue.is_empty() {
                let Some(Reverse((dist, j))) = self.heap.pop() else { break };
                if dist >= best {
                    break;
                }
                if dist > far.dist[j as usize] {
                    continue;
                }
                for (i, _) in &far.flow[j as usize] {
                    if near.dist[*i as usize] == i64::MAX {
                        near.dist[*i as usize] = dist;
                        near.via[*i as usize] = j;
                        near_reached.push(*i);
                        queue.push(*i);
                        let give_up = dist + near.dual[*i as usize];
                        if give_up < best {
                            (best, end) = (give_up, (false, *i));
                        }
                    }
                }
            }
            match queue.pop() {
                Some(next) => scan = next,
                None => break,
            }
        }

        for i in &near_reached {
            let shift = best - near.dist[*i as usize];
            if shift > 0 {
                near.dual[*i as usize] -= shift;
                near.touch(*i);
            }
            near.dist[*i as usize] = i64::MAX;
        }
        for j in &far_reached {
            let shift = best - far.dist[*j as usize];
            if shift > 0 {
                far.dual[*j as usize] += shift;
                far.touch(*j);
            }
            far.dist[*j as usize] = i64::MAX;
        }

        // The path backwards as (near, far) edges on which flow comes, each followed by the one on which it goes.
        let mut path: SmallVec<[(u32, u32, i64); 8]> = SmallVec::new();
        let mut amount = near.capacity[start as usize] - near.used[start as usize];
        let mut j = match end {
            (true, j) => {
                amount = amount.min(far.capacity[j as usize] - far.used[j as usize]);
                j
            }
            (false, i) if i == start => return,
            (false, i) => {
                let j = near.via[i as usize];
                amount = amount.min(near.flow_to(i, j));
                path.push((i, j, -1));
                j
            }
        };
        loop {
            let i = far.via[j as usize];
            path.push((i, j, 1));
            if i == start {
                break;
            }
            j = near.via[i as usize];
            amount = amount.min(near.flow_to(i, j));
            path.push((i, j, -1));
        }
        for (i, j, sign) in path {
            near.add_flow(i, j, sign * amount);
            far.add_flow(j, i, sign * amount);
        }
    }

    /// Whether a left price cannot rise, as far as its own pointer says.
    fn left_is_supported(&self, left: u32) -> bool {
        let nodes = &self.sides[LEFT];
        let support = nodes.support[left as usize];
        nodes.has_room(left) || (support != NONE && nodes.flow_to(left, support) > 0)
    }

    /// Whether a right price cannot fall, as far as its own pointer says.
    fn right_is_supported(&self, right: u32) -> bool {
        let nodes = &self.sides[RIGHT];
        let support = nodes.support[right as usize];
        nodes.dual[right as usize] == 0
            || (support != NONE && self.weight(support, right).is_some_and(|w| self.slack(support, right, w) == 0))
    }

    /// Lowers right prices (and raises left ones) to the least, where supports broke.
    ///
    /// The amounts are shortest distances from what still stands: `δ_j ≤ v_j`, `δ_j ≤ δ_i + slack_ij` on edges,
    /// `δ_i = δ_j` along flow, `δ = 0` where supported (Ramalingam and Reps, dynamic single-source shortest paths).
    fn lower_prices(&mut self) {
        let mut fallen: [Vec<u32>; 2] = [Vec::new(), Vec::new()];
        for at in 0..self.sides[RIGHT].touched.len() {
            let j = self.sides[RIGHT].touched[at];
            // A pointer that is not needed now must not be trusted later: chains grown meanwhile could close a cycle.
            if self.sides[RIGHT].dual[j as usize] == 0 {
                self.set_support(RIGHT, j, NONE);
            }
            if self.sides[RIGHT].is_active(j) && !self.right_is_supported(j) {
                self.fall(RIGHT, j, &mut fallen);
            }
        }
        for at in 0..self.sides[LEFT].touched.len() {
            let i = self.sides[LEFT].touched[at];
            if self.sides[LEFT].has_room(i) {
                self.set_support(LEFT, i, NONE);
            }
            if self.sides[LEFT].is_active(i) && !self.left_is_supported(i) {
                self.fall(LEFT, i, &mut fallen);
            }
            for at in 0..self.sides[LEFT].supports[i as usize].len() {
                let j = self.sides[LEFT].supports[i as usize][at];
                if !self.right_is_supported(j) {
                    self.fall(RIGHT, j, &mut fallen);
                }
            }
        }
        // Whatever stood on a fallen node has fallen too.
        let mut done = [0, 0];
        while done[LEFT] < fallen[LEFT].len() || done[RIGHT] < fallen[RIGHT].len() {
            while let Some(i) = fallen[LEFT].get(done[LEFT]).copied() {
                done[LEFT] += 1;
                for at in 0..self.sides[LEFT].supports[i as usize].len() {
                    let j = self.sides[LEFT].supports[i as usize][at];
                    self.fall(RIGHT, j, &mut fallen);
                }
            }
            while let Some(j) = fallen[RIGHT].get(done[RIGHT]).copied() {
                done[RIGHT] += 1;
                for at in 0..self.sides[RIGHT].flow[j as usize].len() {
                    let (i, _) = self.sides[RIGHT].flow[j as usize][at];
                    if self.sides[LEFT].support[i as usize] == j && !self.sides[LEFT].has_room(i) {
                        self.fall(LEFT, i, &mut fallen);
                    }
                }
            }
        }
        if fallen.iter().all(Vec::is_empty) {
            return;
        }

        self.measure_falls(&fallen);
        for (side, sign) in [(LEFT, 1), (RIGHT, -1)] {
            for slot in &fallen[side] {
                self.set_support(side, *slot, self.sides[side].via[*slot as usize]);
                let nodes = &mut self.sides[side];
                let at = *slot as usize;
                debug_assert!(nodes.dist[at] < OUT, "every fallen node lands");
                nodes.dual[at] += sign * nodes.dist[at];
                nodes.dist[at] = i64::MAX;
                nodes.mark[at] = false;
                nodes.touch(*slot);
            }
        }
    }

    /// How far marked nodes fall (`dist`) and what holds them then (`via`).
    fn measure_falls(&mut self, fallen: &[Vec<u32>; 2]) {
        let (left, right) = self.sides.split_at_mut(1);
        let (left, right) = (&mut left[0], &mut right[0]);
        for j in &fallen[RIGHT] {
            let v = right.dual[*j as usize];
            let (mut best, mut support) = (v, NONE);
            for (i, weight) in right.edges[*j as usize].iter() {
                let slack = left.dual[i as usize] + v - weight;
                if slack < best && !left.mark[i as usize] {
                    (best, support) = (slack, i);
                }
            }
            right.dist[*j as usize] = best;
            right.via[*j as usize] = support;
        }
        self.heap.clear();
        for j in &fallen[RIGHT] {
            self.heap.push(Reverse((right.dist[*j as usize], *j << 1 | RIGHT as u32)));
        }
        for i in &fallen[LEFT] {
            if let Some((j, _)) = left.flow[*i as usize].iter().find(|(j, _)| !right.mark[*j as usize]) {
                left.dist[*i as usize] = 0;
                left.via[*i as usize] = *j;
                self.heap.push(Reverse((0, *i << 1)));
            }
        }
        while let Some(Reverse((dist, code))) = self.heap.pop() {
            let slot = code >> 1;
            if code & 1 == RIGHT as u32 {
                if dist > right.dist[slot as usize] {
                    continue;
                }
                for (i, _) in &right.flow[slot as usize] {
                    if left.mark[*i as usize] && dist < left.dist[*i as usize] {
                        left.dist[*i as usize] = dist;
                        left.via[*i as usize] = slot;
                        self.heap.push(Reverse((dist, *i << 1)));
                    }
                }
            } else {
                if dist > left.dist[slot as usize] {
                    continue;
                }
                let base = dist + left.dual[slot as usize];
                let edges = &left.edges[slot as usize];
                for (j, weight) in edges.others.iter().zip(&edges.weights) {
                    let at = *j as usize;
                    let there = base + right.dual[at] - weight;
                    // A node that stands is at distance `i64::MAX` as any other at rest: hence the mark.
                    if there < right.dist[at] && right.mark[at] {
                        right.dist[at] = there;
                        right.via[at] = slot;
                        self.heap.push(Reverse((there, *j << 1 | RIGHT as u32)));
                    }
                }
            }
        }
    }

    /// Every chain of supports leads to a right price of zero or a left node with room.
    #[cfg(test)]
    fn check_supports(&self) {
        for start in 0..self.sides[RIGHT].key.len() as u32 {
            if !self.sides[RIGHT].is_active(start) {
                continue;
            }
            let (mut j, mut chain) = (start, Vec::new());
            while self.sides[RIGHT].dual[j as usize] > 0 {
                assert!(self.right_is_supported(j), "right {j} has no support");
                let i = self.sides[RIGHT].support[j as usize];
                assert!(self.left_is_supported(i), "left {i} has no support");
                if self.sides[LEFT].has_room(i) {
                    break;
                }
                assert!(!chain.contains(&i), "supports go around: {chain:?}");
                chain.push(i);
                j = self.sides[LEFT].support[i as usize];
            }
        }
    }

    fn fall(&mut self, side: usize, slot: u32, fallen: &mut [Vec<u32>; 2]) {
        let mark = &mut self.sides[side].mark[slot as usize];
        if !*mark {
            *mark = true;
            fallen[side].push(slot);
        }
    }

    /// Brings the lists of tight edges up to date. Returns the left nodes that got one.
    fn find_tight(&mut self) -> Vec<u32> {
        let mut gained = Vec::new();
        let (left, right) = self.sides.split_at_mut(1);
        let (left, right) = (&mut left[0], &mut right[0]);
        for i in &left.touched {
            let at = *i as usize;
            if left.dual[at] == left.settled[at] {
                continue;
            }
            left.mark[at] = true;
            let tight = &mut self.tight[at];
            tight.clear();
            let u = left.dual[at];
            let edges = &left.edges[at];
            for (other, weight) in edges.others.iter().zip(&edges.weights) {
                if u + right.dual[*other as usize] == *weight {
                    tight.push(*other);
                }
            }
            gained.push(*i);
        }
        let mut fix = |i: u32, j: u32, is_tight: bool| {
            let tight = &mut self.tight[i as usize];
            match (tight.iter().position(|o| *o == j), is_tight) {
                (None, true) => {
                    tight.push(j);
                    gained.push(i);
                }
                (Some(at), false) => {
                    tight.swap_remove(at);
                }
                _ => {}
            }
        };
        for j in &right.touched {
            let at = *j as usize;
            if right.dual[at] == right.settled[at] {
                continue;
            }
            let (before, after) = (right.settled[at], right.dual[at]);
            for (i, weight) in right.edges[at].iter() {
                let u = left.dual[i as usize];
                // Only an edge that is tight now or was so before is worth the walk through the list.
                if (u + after == weight || u + before == weight) && !left.mark[i as usize] {
                    fix(i, *j, u + after == weight);
                }
            }
        }
        for (i, j) in self.edited.drain(..) {
            if !left.mark[i as usize] {
                let tight = left.edges[i as usize]
                    .weight(j)
                    .is_some_and(|w| left.dual[i as usize] + right.dual[j as usize] == w);
                fix(i, j, tight);
            }
        }
        for i in &left.touched {
            left.mark[*i as usize] = false;
        }
        gained
    }

    /// Makes the flow the lexicographically greatest wherever a change could have made room for a greater one.
    ///
    /// A greater flow differs by a cycle with an arc that is new; every new arc has a touched node at one end.
    /// Returns whether there was a piece to look at.
    fn settle_ties(&mut self, gained: Vec<u32>) -> bool {
        let mut starts: Vec<(u32, u32)> = Vec::new();
        let codes = gained.into_iter().map(|i| i << 1);
        let codes = codes.chain(self.sides[LEFT].touched.iter().map(|i| i << 1));
        for code in codes.chain(self.sides[RIGHT].touched.iter().map(|j| j << 1 | RIGHT as u32)) {
            let component = self.sides[(code & 1) as usize].component[(code >> 1) as usize];
            if component != NONE {
                starts.push((component, code));
            }
        }
        starts.sort_unstable();
        starts.dedup();
        let mut any = false;
        for group in starts.chunk_by(|a, b| a.0 == b.0) {
            // The walk numbers nodes in `order`, which is at rest again when it returns.
            let order = [LEFT, RIGHT].map(|side| std::mem::take(&mut self.sides[side].order));
            let (pieces, order) = Pieces::reached_from(self, group, order);
            for (nodes, order) in self.sides.iter_mut().zip(order) {
                nodes.order = order;
            }
            for piece in pieces {
                self.maximise(&piece);
                any = true;
            }
        }
        any
    }

    /// The residual arcs out of a node: more flow on a tight edge, less on a used one, and to the ground.
    fn successors(&self, code: u32, out: &mut Vec<u32>) {
        let (side, slot) = ((code & 1) as usize, code >> 1);
        if side == LEFT {
            out.extend(self.tight[slot as usize].iter().map(|j| j << 1 | RIGHT as u32));
        } else {
            out.extend(self.sides[RIGHT].flow[slot as usize].iter().map(|(i, _)| i << 1));
        }
        if self.drains(code) {
            out.push(GROUND);
        }
    }

    /// Whether there is an arc from a node to the ground: a right node could take more, a left one do with less.
    fn drains(&self, code: u32) -> bool {
        let (side, slot) = ((code & 1) as usize, code >> 1);
        let nodes = &self.sides[side];
        match side {
            LEFT => nodes.dual[slot as usize] == 0 && nodes.used[slot as usize] > 0,
            _ => nodes.has_room(slot),
        }
    }

    /// Whether there is an arc from the ground to a node: a left node could give more, a right one do with less.
    fn is_fed(&self, code: u32) -> bool {
        let (side, slot) = ((code & 1) as usize, code >> 1);
        let nodes = &self.sides[side];
        match side {
            LEFT => nodes.has_room(slot),
            _ => nodes.dual[slot as usize] == 0 && nodes.used[slot as usize] > 0,
        }
    }

    /// Makes the flow lexicographically greatest within one strongly connected piece of the residual graph.
    fn maximise(&mut self, piece: &[u32]) {
        let mut lefts: Vec<u32> = piece.iter().filter(|c| **c != GROUND && **c & 1 == 0).map(|c| c >> 1).collect();
        let mut rights: Vec<u32> = piece.iter().filter(|c| **c != GROUND && **c & 1 == 1).map(|c| c >> 1).collect();
        lefts.sort_unstable_by(|a, b| self.sides[LEFT].key[*a as usize].cmp(&self.sides[LEFT].key[*b as usize]));
        rights.sort_unstable_by(|a, b| self.sides[RIGHT].key[*a as usize].cmp(&self.sides[RIGHT].key[*b as usize]));
        // From here on nodes go by their rank in the piece.
        for (rank, slot) in lefts.iter().enumerate() {
            self.sides[LEFT].order[*slot as usize] = rank as u32;
        }
        for (rank, slot) in rights.iter().enumerate() {
            self.sides[RIGHT].order[*slot as usize] = rank as u32;
        }
        let mut tie = Tie {
            has_ground: piece.contains(&GROUND),
            tight_of_right: vec![Vec::new(); rights.len()],
            fixed_of_right: vec![0; rights.len()],
            next: vec![NONE; lefts.len() + rights.len() + 1],
            lefts,
            rights,
        };
        let tight: Vec<Vec<u32>> = tie
            .lefts
            .iter()
            .map(|i| {
                let rank = |j: &u32| self.sides[RIGHT].order[*j as usize];
                self.tight[*i as usize].iter().map(rank).filter(|r| *r != NONE).collect()
            })
            .collect();
        for (i, row) in tight.iter().enumerate() {
            for j in row {
                tie.tight_of_right[*j as usize].push(i as u32);
            }
        }
        for (i, row) in tight.iter().enumerate() {
            self.maximise_left(&mut tie, i, row);
        }
        for slot in &tie.lefts {
            self.sides[LEFT].order[*slot as usize] = NONE;
        }
        for slot in &tie.rights {
            self.sides[RIGHT].order[*slot as usize] = NONE;
        }
    }

    /// Fixes the flow of one left node, whose forerunners' flow is fixed: its right nodes in turn, each as far as it goes.
    fn maximise_left(&mut self, tie: &mut Tie, i: usize, row: &[u32]) {
        let mut room = self.sides[LEFT].capacity[tie.lefts[i] as usize];
        let mut from = 0; // ranks below are fixed
        while room > 0 {
            // The first right node whose capacity is not all fixed: if it has all it can, nothing need be searched.
            let open = row.iter().copied().filter(|j| *j >= from && self.unfixed(tie, *j) > 0);
            let Some(mut chosen) = open.min() else { return };
            if self.tie_flow(tie, i, chosen) < room.min(self.unfixed(tie, chosen)) {
                self.reach_back(tie, i, from, None);
                // The first that can be raised or has flow. Those passed over stay at zero for good.
                let may_have = |j: &u32| *j >= from && (tie.reaches(*j) || self.tie_flow(tie, i, *j) > 0);
                let Some(first) = row.iter().copied().filter(may_have).min() else { return };
                chosen = first;
                if self.tie_flow(tie, i, chosen) > 0 {
                    self.reach_back(tie, i, from, Some(chosen));
                }
                if tie.reaches(chosen) {
                    self.push_cycle(tie, i, chosen);
                    from = chosen;
                    continue;
                }
            }
            let fixed = self.tie_flow(tie, i, chosen);
            tie.fixed_of_right[chosen as usize] += fixed;
            room -= fixed;
            from = chosen + 1;
        }
    }

    fn tie_flow(&self, tie: &Tie, i: usize, j: u32) -> i64 {
        self.sides[LEFT].flow_to(tie.lefts[i], tie.rights[j as usize])
    }

    /// What of a right node's capacity is not used by fixed flow.
    fn unfixed(&self, tie: &Tie, j: u32) -> i64 {
        self.sides[RIGHT].capacity[tie.rights[j as usize] as usize] - tie.fixed_of_right[j as usize]
    }

    /// Breadth first, backwards: which nodes reach left node `i` over arcs that are not fixed; `next` leads there.
    /// Of `i` itself only arcs from ranks ≥ `from` count, and not the one from `except`.
    fn reach_back(&self, tie: &mut Tie, i: usize, from: u32, except: Option<u32>) {
        let (lefts, ground) = (tie.lefts.len(), tie.lefts.len() + tie.rights.len());
        tie.next.fill(NONE);
        let mut queue: Vec<usize> = vec![i];
        let mut at = 0;
        while at < queue.len() {
            let node = queue[at];
            at += 1;
            let mut reach = |pred: usize, queue: &mut Vec<usize>| {
                if tie.next[pred] == NONE && pred != i {
                    tie.next[pred] = node as u32;
                    queue.push(pred);
                }
            };
            if node == ground {
                for (rank, slot) in tie.rights.iter().enumerate() {
                    if self.drains(slot << 1 | RIGHT as u32) {
                        reach(lefts + rank, &mut queue);
                    }
                }
                for (rank, slot) in tie.lefts.iter().enumerate().skip(i + 1) {
                    if self.drains(slot << 1) {
                        reach(rank, &mut queue);
                    }
                }
            } else if node < lefts {
                let slot = tie.lefts[node];
                for (j, _) in &self.sides[LEFT].flow[slot as usize] {
                    let rank = self.sides[RIGHT].order[*j as usize];
                    if node != i || (rank >= from && Some(rank) != except) {
                        reach(lefts + rank as usize, &mut queue);
                    }
                }
                if tie.has_ground && self.is_fed(slot << 1) {
                    reach(ground, &mut queue);
                }
            } else {
                for rank in &tie.tight_of_right[node - lefts] {
                    if *rank as usize > i {
                        reach(*rank as usize, &mut queue);
                    }
                }
                if tie.has_ground && self.is_fed(tie.rights[node - lefts] << 1 | RIGHT as u32) {
                    reach(ground, &mut queue);
                }
            }
        }
    }

    /// Pushes as much as goes around: left node `i`, right node `chosen`, and back along `next`.
    fn push_cycle(&mut self, tie: &Tie, i: usize, chosen: u32) {
        let (lefts, ground) = (tie.lefts.len(), tie.lefts.len() + tie.rights.len());
        let room = |nodes: &Nodes, slot: u32| nodes.capacity[slot as usize] - nodes.used[slot as usize];
        let mut amount = i64::MAX;
        let mut node = lefts + chosen as usize;
        while node != i {
            let next = tie.next[node] as usize;
            if next == ground {
                if node >= lefts {
                    amount = amount.min(room(&self.sides[RIGHT], tie.rights[node - lefts]));
                }
            } else if next < lefts {
                amount = amount.min(if node == ground {
                    room(&self.sides[LEFT], tie.lefts[next])
                } else {
                    self.sides[LEFT].flow_to(tie.lefts[next], tie.rights[node - lefts])
                });
            }
            node = next;
        }
        let mut node = lefts + chosen as usize;
        while node != i {
            let next = tie.next[node] as usize;
            if node != ground && next != ground {
                if next < lefts {
                    self.add_flow(LEFT, tie.lefts[next], tie.rights[node - lefts], -amount);
                } else {
                    self.add_flow(LEFT, tie.lefts[node], tie.rights[next - lefts], amount);
                }
            }
            node = next;
        }
        self.add_flow(LEFT, tie.lefts[i], tie.rights[chosen as usize], amount);
    }

    /// Brings the components up to date: those that lost an edge are traced anew, those that a new edge joins are merged.
    fn regroup(&mut self) {
        let mut loose: Vec<u32> = Vec::new();
        for component in std::mem::take(&mut self.components_split) {
            for code in self.retire(component) {
                let (side, slot) = ((code & 1) as usize, code >> 1);
                self.sides[side].component[slot as usize] = NONE;
                self.sides[side].counted[slot as usize] = Counted::default();
                loose.push(code);
            }
        }
        let raised = std::mem::take(&mut self.raised);
        for (l, r) in &raised {
            for code in [l << 1, r << 1 | RIGHT as u32] {
                if self.sides[(code & 1) as usize].component[(code >> 1) as usize] == NONE {
                    loose.push(code);
                }
            }
        }
        loose.sort_unstable();
        loose.dedup();
        loose.retain(|code| {
            let (side, slot) = ((code & 1) as usize, code >> 1);
            self.sides[side].is_active(slot) && self.sides[side].degree[slot as usize] > 0
        });
        let mut left_over = loose.len();
        for code in loose {
            if self.sides[(code & 1) as usize].component[(code >> 1) as usize] == NONE {
                self.trace(code, &mut left_over);
            }
        }
        for (l, r) in raised {
            let (a, b) = (self.sides[LEFT].component[l as usize], self.sides[RIGHT].component[r as usize]);
            if a != b && self.weight(l, r).is_some() && a != NONE && b != NONE {
                self.merge(a, b);
            }
        }
    }

    /// Makes the component of a node that has none yet. Stops early when no node is left without one.
    fn trace(&mut self, start: u32, left_over: &mut usize) {
        let component = match self.components_free.pop() {
            Some(c) => c,
            None => {
                self.components.push(Component::default());
                self.components.len() as u32 - 1
            }
        };
        self.sides[(start & 1) as usize].component[(start >> 1) as usize] = component;
        *left_over -= 1;
        let mut members = vec![start];
        let mut at = 0;
        while at < members.len() && *left_over > 0 {
            let (side, slot) = ((members[at] & 1) as usize, members[at] >> 1);
            at += 1;
            for k in 0..self.sides[side].edges[slot as usize].others.len() {
                let other = self.sides[side].edges[slot as usize].others[k];
                let there = &mut self.sides[1 - side];
                if there.component[other as usize] == NONE && there.is_active(other) {
                    there.component[other as usize] = component;
                    *left_over -= 1;
                    members.push(other << 1 | (1 - side) as u32);
                }
            }
        }
        // A right node whose edges all lead to components that stand gets one of its own here, and is merged next.
        let keys = &self.sides[LEFT].key;
        let first = members.iter().filter(|c| **c & 1 == 0).map(|c| c >> 1).min_by_key(|i| &keys[*i as usize]);
        let first = first.unwrap_or(NONE);
        for code in &members {
            self.sides[(code & 1) as usize].touch(code >> 1);
        }
        self.components[component as usize] = Component { members, first, ..Component::default() };
    }

    fn merge(&mut self, a: u32, b: u32) {
        let size = |c: u32| self.components[c as usize].members.len();
        let (from, into) = if size(a) < size(b) { (a, b) } else { (b, a) };
        let (sums, first) = (self.components[from as usize].sums, self.components[from as usize].first);
        let members = self.retire(from);
        for code in &members {
            self.sides[(code & 1) as usize].component[(code >> 1) as usize] = into;
        }
        let keys = &self.sides[LEFT].key;
        let into = &mut self.components[into as usize];
        into.members.extend(members);
        into.sums.primal += sums.primal;
        into.sums.dual += sums.dual;
        into.sums.edges += sums.edges;
        if into.first == NONE || (first != NONE && keys[first as usize] < keys[into.first as usize]) {
            into.first = first;
        }
    }

    /// Ends a component and returns its members.
    fn retire(&mut self, component: u32) -> Vec<u32> {
        let gone = std::mem::take(&mut self.components[component as usize]);
        self.retired.extend(gone.issued);
        self.components_free.push(component);
        gone.members
    }

    /// Counts what changed, issues certificates, and says which nodes to look at.
    fn report(&mut self) -> Repair {
        let mut repair = Repair { retired: std::mem::take(&mut self.retired), ..Repair::default() };
        let mut touched: Vec<u32> = Vec::new();
        for side in [LEFT, RIGHT] {
            repair.touched[side] = std::mem::take(&mut self.sides[side].touched);
            for slot in &repair.touched[side] {
                let at = *slot as usize;
                let component = self.sides[side].component[at];
                if component != NONE {
                    let now = self.count(side, *slot);
                    let before = std::mem::replace(&mut self.sides[side].counted[at], now);
                    let c = &mut self.components[component as usize];
                    c.sums.primal += now.primal - before.primal;
                    c.sums.dual += now.dual - before.dual;
                    c.sums.edges = c.sums.edges + now.edges - before.edges;
                    if !c.is_touched {
                        c.is_touched = true;
                        touched.push(component);
                    }
                }
                self.sides[side].is_touched[at] = false;
                self.sides[side].settled[at] = self.sides[side].dual[at];
            }
        }
        for component in touched {
            let c = &mut self.components[component as usize];
            c.is_touched = false;
            let certificate = Certificate {
                key: self.sides[LEFT].key[c.first as usize].clone(),
                primal: c.sums.primal,
                dual: c.sums.dual,
                nodes: c.members.len() as u64,
                edges: c.sums.edges,
            };
            assert_eq!(certificate.primal, certificate.dual, "an optimal flow meets its bound");
            if c.issued.as_ref() != Some(&certificate) {
                repair.retired.extend(c.issued.replace(certificate.clone()));
                repair.issued.push(certificate);
            }
        }
        repair
    }

    fn count(&self, side: usize, slot: u32) -> Counted {
        let nodes = &self.sides[side];
        let at = slot as usize;
        let dual = i128::from(nodes.capacity[at]) * i128::from(nodes.dual[at]);
        if side == RIGHT {
            return Counted { dual, ..Counted::default() };
        }
        let weight = |j: u32| nodes.edges[at].weight(j).expect("flow is on edges");
        let primal = nodes.flow[at].iter().map(|(j, x)| i128::from(*x) * i128::from(weight(*j))).sum();
        Counted { primal, dual, edges: nodes.degree[at].into() }
    }
}

/// A piece of the tight residual graph while its flow is being made the lexicographically greatest.
/// Nodes go by number: left nodes by rank, then right nodes by rank, then the ground.
struct Tie {
    lefts: Vec<u32>,
    rights: Vec<u32>,
    has_ground: bool,
    tight_of_right: Vec<Vec<u32>>,
    /// By right rank, how much of its capacity fixed flow uses.
    fixed_of_right: Vec<i64>,
    next: Vec<u32>,
}

impl Tie {
    /// Whether a right node reaches the left node of the last [`Solver::reach_back`].
    fn reaches(&self, right: u32) -> bool {
        self.next[self.lefts.len() + right as usize] != NONE
    }
}

/// Tarjan's strongly connected pieces of one component's residual graph, as far as some nodes reach.
#[derive(Default)]
struct Pieces {
    component: u32,
    /// The number of a node in the order of discovery, by side and slot; `NONE` if it is not discovered.
    index: [Vec<u32>; 2],
    ground: Option<u32>,
    /// By number: the node, the least number it reaches, and its piece, `NONE` while it is on the stack.
    found: Vec<Found>,
    stack: Vec<u32>,
    pieces: u32,
    cyclic: Vec<Vec<u32>>,
}

#[derive(Clone, Copy, Debug)]
struct Found {
    code: u32,
    low: u32,
    piece: u32,
}

impl Pieces {
    /// The pieces in which flow could go around: those that are more than a tree of used edges. The starts are nodes
    /// with their component, the same for all. `index` is scratch, at rest, and given back so.
    fn reached_from(solver: &Solver, starts: &[(u32, u32)], index: [Vec<u32>; 2]) -> (Vec<Vec<u32>>, [Vec<u32>; 2]) {
        let mut pieces = Pieces { component: starts[0].0, index, ..Pieces::default() };
        let (mut frames, mut pending) = (Vec::new(), Vec::new());
        for (_, start) in starts {
            if pieces.number(*start).is_none() {
                pieces.walk(solver, *start, &mut frames, &mut pending);
            }
        }
        for found in &pieces.found {
            if found.code != GROUND {
                pieces.index[(found.code & 1) as usize][(found.code >> 1) as usize] = NONE;
            }
        }
        (pieces.cyclic, pieces.index)
    }

    fn number(&self, code: u32) -> Option<u32> {
        if code == GROUND {
            return self.ground;
        }
        let number = self.index[(code & 1) as usize][(code >> 1) as usize];
        (number != NONE).then_some(number)
    }

    /// Frames are of the depth-first search: a node's number, and where in `pending` its unvisited successors begin.
    fn walk(&mut self, solver: &Solver, start: u32, frames: &mut Vec<(u32, usize)>, pending: &mut Vec<u32>) {
        self.enter(solver, start, frames, pending);
        while let Some((at, floor)) = frames.last().copied() {
            if pending.len() > floor {
                let next = pending.pop().expect("above the floor");
                match self.number(next) {
                    None => self.enter(solver, next, frames, pending),
                    Some(there) if self.found[there as usize].piece == NONE => {
                        self.found[at as usize].low = self.found[at as usize].low.min(there);
                    }
                    Some(_) => {}
                }
                continue;
            }
            frames.pop();
            let low = self.found[at as usize].low;
            if let Some((parent, _)) = frames.last() {
                self.found[*parent as usize].low = self.found[*parent as usize].low.min(low);
            }
            if low == at {
                let from = self.stack.iter().rposition(|n| *n == at).expect("a node is above its root");
                let piece = self.pieces;
                self.pieces += 1;
                for member in &self.stack[from..] {
                    self.found[*member as usize].piece = piece;
                }
                if self.is_cyclic(solver, from) {
                    self.cyclic.push(self.stack[from..].iter().map(|n| self.found[*n as usize].code).collect());
                }
                self.stack.truncate(from);
            }
        }
    }

    fn enter(&mut self, solver: &Solver, code: u32, frames: &mut Vec<(u32, usize)>, pending: &mut Vec<u32>) {
        let number = self.found.len() as u32;
        self.found.push(Found { code, low: number, piece: NONE });
        self.stack.push(number);
        frames.push((number, pending.len()));
        if code == GROUND {
            self.ground = Some(number);
            let members = &solver.components[self.component as usize].members;
            pending.extend(members.iter().filter(|code| solver.is_fed(**code)));
        } else {
            self.index[(code & 1) as usize][(code >> 1) as usize] = number;
            solver.successors(code, pending);
        }
    }

    /// Whether the piece on the stack has a cycle beyond the to and fro on one used edge: whether it is no tree.
    fn is_cyclic(&self, solver: &Solver, from: usize) -> bool {
        let members = &self.stack[from..];
        if members.len() < 3 {
            return false;
        }
        let piece = self.found[members[0] as usize].piece;
        let is_member = |code: u32| self.number(code).is_some_and(|n| self.found[n as usize].piece == piece);
        let has_ground = is_member(GROUND);
        let mut links = 0;
        for code in members.iter().map(|n| self.found[*n as usize].code).filter(|code| *code != GROUND) {
            if code & 1 == LEFT as u32 {
                let tight = &solver.tight[(code >> 1) as usize];
                links += tight.iter().filter(|j| is_member(*j << 1 | RIGHT as u32)).count();
            }
            links += usize::from(has_ground && (solver.drains(code) || solver.is_fed(code)));
        }
        links >= members.len()
    }
}

/// An instance as plain data, for [`verify`]. Nodes go by position.
#[derive(Clone, Debug, Default)]
pub struct Instance {
    /// The capacity of every left node.
    pub left: Vec<i64>,
    /// The capacity of every right node.
    pub right: Vec<i64>,
    /// Edges: left, right, weight.
    pub edges: Vec<(usize, usize, i64)>,
}

/// Checks in one pass that matches (left, right, count) are a flow and that prices (left, right) prove it optimal.
/// Nodes of capacity 0 take no part: their prices do not matter. Of parallel edges the heaviest counts.
pub fn verify(instance: &Instance, matches: &[(usize, usize, i64)], prices: (&[i64], &[i64])) -> Result<(), String> {
    let (u, v) = prices;
    if u.len() != instance.left.len() || v.len() != instance.right.len() {
        return Err("there must be one price a node".to_owned());
    }
    if let Some(price) = u.iter().chain(v).find(|p| **p < 0) {
        return Err(format!("a price is negative: {price}"));
    }
    let mut weights = std::collections::BTreeMap::new();
    for (i, j, w) in &instance.edges {
        if instance.left[*i] == 0 || instance.right[*j] == 0 {
            continue;
        }
        if i128::from(u[*i]) + i128::from(v[*j]) < i128::from(*w) {
            return Err(format!("prices {} + {} do not cover edge {i}-{j} of weight {w}", u[*i], v[*j]));
        }
        let known = weights.entry((*i, *j)).or_insert(*w);
        *known = (*known).max(*w);
    }
    let (mut left, mut right) = (instance.left.clone(), instance.right.clone());
    let mut primal = 0;
    for (i, j, x) in matches {
        let Some(w) = weights.get(&(*i, *j)).filter(|w| **w > 0) else {
            return Err(format!("{i} and {j} are matched without an edge worth it"));
        };
        if *x <= 0 {
            return Err(format!("{i} and {j} are matched {x} times"));
        }
        left[*i] -= x;
        right[*j] -= x;
        if left[*i] < 0 || right[*j] < 0 {
            return Err(format!("the match of {i} and {j} is beyond a capacity"));
        }
        primal += i128::from(*x) * i128::from(*w);
    }
    let bound = |capacity: &[i64], price: &[i64]| -> i128 {
        capacity.iter().zip(price).map(|(c, p)| i128::from(*c) * i128::from(*p)).sum()
    };
    let dual = bound(&instance.left, u) + bound(&instance.right, v);
    if primal != dual {
        return Err(format!("the matches are worth {primal}, the prices prove no more than a bound of {dual}"));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
