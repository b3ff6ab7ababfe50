//! The connected components, kept under change, and their certificates.
//!
//! A new edge may join two components: the smaller moves into the larger. Where an edge went, its two ends look for each
//! other in lockstep, each over a few edges in turn: either they meet, or one has seen its whole part and stops. So
//! finding out costs what the smaller part is, not what the component is.

use super::edges::Drift;
use super::nodes::{Counted, Nodes};
use super::{LEFT, NONE, RIGHT, Repair, Solver, code, node};

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

#[derive(Debug, Default)]
pub(super) struct Component {
    /// The slots of either side; the left ones as a binary heap by key, for the least names the component.
    pub members: [Vec<u32>; 2],
    sums: Counted,
    /// The certificate last issued for it.
    issued: Option<Certificate>,
    is_touched: bool,
    /// How far the duals of each side can have fallen.
    pub drift: [Drift; 2],
    /// Whether a node ever had a list of edges.
    pub has_lists: bool,
    /// How far the last search and most of the last falls went.
    pub reach: [i64; 2],
    /// How many of its left nodes are suspected of ties.
    pub suspects: u32,
}

impl Component {
    fn len(&self) -> usize {
        self.members[LEFT].len() + self.members[RIGHT].len()
    }
}

/// How many edges an end looks at in its turn.
const STRIDE: usize = 8;

/// An end of a removed edge in search of the others.
#[derive(Debug, Default)]
struct Seeker {
    found: Vec<u32>,
    /// Found, and not all edges seen: the node, and how many were.
    pending: Vec<(u32, usize)>,
}

/// How a turn ended.
enum Turn {
    Over,
    /// Two go on as one.
    Met,
    /// Nobody else is where it can get.
    SeenAll,
}

impl Solver {
    /// Makes the components those of the edges there are.
    pub(super) fn regroup(&mut self) {
        for at in 0..self.edits.len() {
            let edit = self.edits[at];
            if !edit.is_new {
                continue;
            }
            let (left, right) = (edit.left, edit.right);
            let is_edge = self.sides[LEFT][left].is_active()
                && self.sides[RIGHT][right].is_active()
                && self.own_weight(left, right).is_some();
            if !is_edge {
                continue;
            }
            match (self.sides[LEFT][left].component, self.sides[RIGHT][right].component) {
                (NONE, NONE) => {
                    let component = self.new_component(Component::default());
                    self.enter(LEFT, left, component);
                    self.enter(RIGHT, right, component);
                }
                (component, NONE) => self.enter(RIGHT, right, component),
                (NONE, component) => self.enter(LEFT, left, component),
                (a, b) if a != b => self.merge(a, b),
                _ => {}
            }
        }
        let mut ends: Vec<(u32, u32)> = Vec::new();
        for end in std::mem::take(&mut self.loose) {
            let (side, slot) = node(end);
            let of = &self.sides[side][slot];
            if of.component == NONE {
                continue;
            }
            if of.degree == 0 {
                self.leave(side, slot);
            } else {
                ends.push((of.component, end));
            }
        }
        ends.sort_unstable();
        ends.dedup();
        for of_one in ends.chunk_by(|a, b| a.0 == b.0) {
            if of_one.len() > 1 {
                self.part(of_one[0].0, of_one);
            }
        }
    }

    fn new_component(&mut self, component: Component) -> u32 {
        match self.components_free.pop() {
            Some(free) => {
                self.components[free as usize] = component;
                free
            }
            None => {
                self.components.push(component);
                self.components.len() as u32 - 1
            }
        }
    }

    fn touch_component(&mut self, component: u32) {
        let of = &mut self.components[component as usize];
        if !of.is_touched {
            of.is_touched = true;
            self.components_touched.push(component);
        }
    }

    /// Adds a node that was in none.
    fn enter(&mut self, side: usize, slot: u32, component: u32) {
        // Its edges count as new, so all lists it may stand in learn of this.
        let nodes = &mut self.sides[side];
        nodes.reference[slot as usize] = nodes.dual(slot);
        self.join(side, slot, component);
    }

    /// Adds a node that has no component, with what it counts.
    fn join(&mut self, side: usize, slot: u32, component: u32) {
        self.touch_component(component);
        let of = &mut self.components[component as usize];
        let nodes = &mut self.sides[side];
        of.sums.add(&nodes.counted[slot as usize]);
        of.suspects += u32::from(nodes[slot].is_suspect);
        let members = &mut of.members[side];
        nodes[slot].component = component;
        nodes[slot].place = members.len() as u32;
        members.push(slot);
        if side == LEFT {
            let last = members.len() - 1;
            sift_up(members, nodes, last);
        }
    }

    /// Takes a node out of its component, if it has one, with what it counts.
    fn take_out(&mut self, side: usize, slot: u32) {
        let nodes = &mut self.sides[side];
        let component = std::mem::replace(&mut nodes[slot].component, NONE);
        if component == NONE {
            return;
        }
        self.touch_component(component);
        let of = &mut self.components[component as usize];
        let nodes = &mut self.sides[side];
        of.sums.subtract(&nodes.counted[slot as usize]);
        of.suspects -= u32::from(nodes[slot].is_suspect);
        let members = &mut of.members[side];
        let place = nodes[slot].place as usize;
        members.swap_remove(place);
        if let Some(moved) = members.get(place).copied() {
            nodes[moved].place = place as u32;
            if side == LEFT {
                sift_down(members, nodes, place);
                sift_up(members, nodes, place);
            }
        }
        if of.len() == 0 {
            self.retire(component);
        }
    }

    /// A node takes part no more, or has no edge any more.
    pub(super) fn leave(&mut self, side: usize, slot: u32) {
        self.take_out(side, slot);
        let nodes = &mut self.sides[side];
        nodes.counted[slot as usize] = Counted::default();
        nodes[slot].is_suspect = false;
        // The next component may have fallen farther than the list knows.
        nodes.edges[slot as usize].drop_list();
    }

    fn merge(&mut self, a: u32, b: u32) {
        let size = |c: u32| self.components[c as usize].len();
        let (from, into) = if size(a) < size(b) { (a, b) } else { (b, a) };
        let gone = self.retire(from);
        self.touch_component(into);
        let of = &mut self.components[into as usize];
        of.sums.add(&gone.sums);
        of.suspects += gone.suspects;
        of.has_lists |= gone.has_lists;
        of.reach = [0, 1].map(|kind| of.reach[kind].max(gone.reach[kind]));
        for side in [LEFT, RIGHT] {
            of.drift[side] = of.drift[side].of_both(&gone.drift[side]);
            for slot in &gone.members[side] {
                let members = &mut of.members[side];
                let nodes = &mut self.sides[side];
                nodes[*slot].component = into;
                nodes[*slot].place = members.len() as u32;
                members.push(*slot);
                if side == LEFT {
                    let last = members.len() - 1;
                    sift_up(members, nodes, last);
                }
            }
        }
    }

    /// Ends a component and returns what it was.
    fn retire(&mut self, component: u32) -> Component {
        let mut gone = std::mem::take(&mut self.components[component as usize]);
        self.retired.extend(gone.issued.take());
        self.components_free.push(component);
        gone
    }

    /// Finds the parts into which a component has fallen. Each of them has one of the ends.
    fn part(&mut self, component: u32, ends: &[(u32, u32)]) {
        let mut seekers: Vec<Seeker> = Vec::new();
        for (number, (_, end)) in ends.iter().enumerate() {
            let (side, slot) = node(*end);
            self.sides[side][slot].order = number as u32;
            seekers.push(Seeker { found: vec![*end], pending: vec![(*end, 0)] });
        }
        // Who has met goes on as one: the root of a tree of numbers.
        let mut joined: Vec<u32> = (0..ends.len() as u32).collect();
        let mut seeking: Vec<u32> = joined.clone();
        let mut apart: Vec<u32> = Vec::new();
        let (mut left_over, mut turn) = (ends.len(), 0);
        while left_over > 1 {
            if turn >= seeking.len() {
                turn = 0;
            }
            let number = seeking[turn];
            if joined[number as usize] != number {
                seeking.swap_remove(turn);
                continue;
            }
            match self.seek(number, &mut seekers, &mut joined) {
                Turn::Over => turn += 1,
                Turn::Met => left_over -= 1,
                Turn::SeenAll => {
                    left_over -= 1;
                    apart.push(number);
                    seeking.swap_remove(turn);
                }
            }
        }
        for seeker in &seekers {
            for found in &seeker.found {
                let (side, slot) = node(*found);
                self.sides[side][slot].order = NONE;
            }
        }
        for number in apart {
            let Component { drift, has_lists, reach, .. } = self.components[component as usize];
            let part = self.new_component(Component { drift, has_lists, reach, ..Component::default() });
            for found in std::mem::take(&mut seekers[number as usize].found) {
                let (side, slot) = node(found);
                self.take_out(side, slot);
                self.join(side, slot, part);
            }
        }
    }

    /// One turn of a seeker.
    fn seek(&mut self, number: u32, seekers: &mut [Seeker], joined: &mut [u32]) -> Turn {
        let mut steps = STRIDE;
        while let Some((from, seen)) = seekers[number as usize].pending.pop() {
            let (side, slot) = node(from);
            let (near, far) = super::two(&mut self.sides, side);
            let others = near.edges(slot).others();
            let mut at = seen;
            while at < others.len() && steps > 0 {
                let other = others[at];
                at += 1;
                steps -= 1;
                if !far[other].is_active() {
                    continue;
                }
                let end = code(1 - side, other);
                let met = far[other].order;
                if met == NONE {
                    far[other].order = number;
                    let seeker = &mut seekers[number as usize];
                    seeker.found.push(end);
                    seeker.pending.push((end, 0));
                    continue;
                }
                let met = root(joined, met);
                if met != number {
                    seekers[number as usize].pending.push((from, at));
                    unite(number, met, seekers, joined);
                    return Turn::Met;
                }
            }
            if at < others.len() {
                seekers[number as usize].pending.push((from, at));
            }
            if steps == 0 {
                return Turn::Over;
            }
        }
        Turn::SeenAll
    }

    /// Counts what changed, issues certificates, and says which nodes to look at.
    pub(super) fn report(&mut self) -> Repair {
        let mut repair = Repair::default();
        for side in [LEFT, RIGHT] {
            repair.touched[side] = std::mem::take(&mut self.sides[side].touched);
            for slot in &repair.touched[side] {
                let (nodes, others) = super::two(&mut self.sides, side);
                let node = &mut nodes[*slot];
                let is_rematched = std::mem::take(&mut node.is_rematched);
                (node.is_touched, node.is_moved) = (false, false);
                let (component, degree, capacity) = (node.component, node.degree, node.capacity);
                let Some(of) = self.components.get_mut(component as usize) else { continue };
                let dual = i128::from(capacity) * i128::from(nodes.price(*slot));
                let before = &mut nodes.counted[*slot as usize];
                of.sums.dual += dual - std::mem::replace(&mut before.dual, dual);
                if side == LEFT {
                    of.sums.edges += u64::from(degree);
                    of.sums.edges -= std::mem::replace(&mut before.edges, degree.into());
                }
                if side == LEFT && is_rematched {
                    let primal = primal(nodes, others, *slot);
                    of.sums.primal += primal - std::mem::replace(&mut nodes.counted[*slot as usize].primal, primal);
                }
                if !of.is_touched {
                    self.touch_component(component);
                }
            }
        }
        repair.retired = std::mem::take(&mut self.retired);
        for component in std::mem::take(&mut self.components_touched) {
            let of = &mut self.components[component as usize];
            if !std::mem::take(&mut of.is_touched) {
                continue;
            }
            let certificate = Certificate {
                key: self.sides[LEFT].key(of.members[LEFT][0]).into(),
                primal: of.sums.primal,
                dual: of.sums.dual,
                nodes: of.len() as u64,
                edges: of.sums.edges,
            };
            assert_eq!(certificate.primal, certificate.dual, "an optimal flow meets its bound");
            if of.issued.as_ref() != Some(&certificate) {
                repair.retired.extend(of.issued.replace(certificate.clone()));
                repair.issued.push(certificate);
            }
        }
        repair
    }
}

/// What the flow of a left node is worth.
fn primal(lefts: &Nodes, rights: &Nodes, left: u32) -> i128 {
    let own = |j: u32| lefts.edges(left).weight(j).expect("flow is on edges");
    let weight = |j: u32| own(j) - lefts.floor[left as usize] - rights.floor[j as usize];
    lefts[left].flow.iter().map(|(j, x)| i128::from(*x) * i128::from(weight(*j))).sum()
}

fn root(joined: &[u32], mut number: u32) -> u32 {
    while joined[number as usize] != number {
        number = joined[number as usize];
    }
    number
}

/// Two seekers go on as the one that has found more; what is left of the other is nothing.
fn unite(a: u32, b: u32, seekers: &mut [Seeker], joined: &mut [u32]) {
    let size = |n: u32| seekers[n as usize].found.len();
    let (from, into) = if size(a) < size(b) { (a, b) } else { (b, a) };
    joined[from as usize] = into;
    let gone = std::mem::take(&mut seekers[from as usize]);
    seekers[into as usize].found.extend(gone.found);
    seekers[into as usize].pending.extend(gone.pending);
}

fn sift_up(heap: &mut [u32], nodes: &mut Nodes, mut at: usize) {
    while at > 0 {
        let above = (at - 1) / 2;
        if nodes.key(heap[above]) <= nodes.key(heap[at]) {
            break;
        }
        swap(heap, nodes, at, above);
        at = above;
    }
}

fn sift_down(heap: &mut [u32], nodes: &mut Nodes, mut at: usize) {
    loop {
        let mut least = at;
        for below in [2 * at + 1, 2 * at + 2] {
            if below < heap.len() && nodes.key(heap[below]) < nodes.key(heap[least]) {
                least = below;
            }
        }
        if least == at {
            break;
        }
        swap(heap, nodes, at, least);
        at = least;
    }
}

fn swap(heap: &mut [u32], nodes: &mut Nodes, a: usize, b: usize) {
    heap.swap(a, b);
    nodes[heap[a]].place = a as u32;
    nodes[heap[b]].place = b as u32;
}
