//! The repair itself: duals made feasible, then a shortest augmenting path from each node that is left with spare
//! capacity.

use std::cmp::Reverse;

use smallvec::SmallVec;

use super::nodes::Nodes;
use super::{Edge, LEFT, RIGHT, Solver, two};

/// A search under way.
struct Search {
    start: u32,
    /// How far the cheapest end known is, and where: (whether on the far side, slot).
    best: i64,
    end: (bool, u32),
    /// Edges are looked at as far as this. Grows, where some were left out and the end is beyond.
    window: i64,
    near_reached: Vec<u32>,
    far_reached: Vec<u32>,
    /// Near nodes reached and not scanned.
    pending: Vec<u32>,
    /// Near nodes of which edges were left out, and at what distance those begin.
    partial: Vec<(i64, u32)>,
    /// Far nodes that are as near as the last.
    ready: Vec<(i64, u32)>,
    /// Whether nodes are scanned as they are reached, nearest first, and not once more.
    is_first: bool,
    /// Of the drift of the far side.
    level: i64,
}

impl Solver {
    /// Makes the duals feasible again: of a raised edge's nodes the one with more raised edges gives way.
    pub(super) fn lift(&mut self) {
        let violation = |solver: &Solver, left: u32, right: u32, weight: i64| -solver.slack(left, right, weight);
        let mut violated: Vec<(u32, u32, i64)> = Vec::new();
        for edit in self.edits.iter().filter(|e| e.is_raised) {
            let Some(weight) = edit.weight else { continue };
            if violation(self, edit.left, edit.right, weight) > 0 {
                violated.push((edit.left, edit.right, weight));
                self.sides[LEFT][edit.left].churn += 1;
                self.sides[RIGHT][edit.right].churn += 1;
            }
        }
        for (left, right, weight) in &violated {
            let by = violation(self, *left, *right, *weight);
            if by <= 0 {
                continue;
            }
            let is_left = self.sides[LEFT][*left].churn >= self.sides[RIGHT][*right].churn;
            let (side, slot) = if is_left { (LEFT, *left) } else { (RIGHT, *right) };
            self.sides[side].dual[slot as usize] += by;
            self.sides[side].moved(slot);
            while let Some((other, x)) = self.sides[side][slot].flow.last().copied() {
                self.add_flow(side, slot, other, -x);
            }
        }
        for (left, right, _) in violated {
            self.sides[LEFT][left].churn = 0;
            self.sides[RIGHT][right].churn = 0;
        }
    }

    /// One shortest augmenting path from a node with room and a positive price (Dijkstra in reduced costs).
    ///
    /// It ends at the cheapest of: a node of the other side with room, or a node of this side, the start included,
    /// whose price falls to zero. After it the start has less room or a price of zero.
    pub(super) fn search(&mut self, side: usize, start: u32) {
        let price = self.sides[side].price(start);
        let window = self.first_window(side, start, 0);
        let level = self.drift(side, start).level();
        let mut search = Search {
            start,
            best: price,
            end: (false, start),
            window,
            near_reached: vec![start],
            far_reached: Vec::new(),
            pending: vec![start],
            partial: Vec::new(),
            ready: Vec::new(),
            is_first: true,
            level,
        };
        let at = &mut self.sides[side][start];
        (at.dist, at.cursor) = (0, 0);
        self.heap.clear();
        loop {
            self.explore(side, &mut search);
            // Beyond the end itself: what is as near becomes tight.
            if search.window > search.best || search.window == i64::MAX {
                break;
            }
            search.window = if search.partial.is_empty() { i64::MAX } else { search.window.saturating_mul(2) };
            let window = search.window;
            let again: Vec<(i64, u32)> = search.partial.extract_if(.., |(dist, _)| *dist < window).collect();
            search.is_first = false;
            again.iter().for_each(|(_, i)| self.scan(side, *i, &mut search));
            search.is_first = true;
        }
        self.reached(side, start, 0, search.best);
        self.shift_duals(side, &search);
        let (near, far) = two(&mut self.sides, side);
        augment(near, far, &search);
    }

    /// Goes on with a search as far as its window.
    fn explore(&mut self, side: usize, search: &mut Search) {
        loop {
            while let Some(from) = search.pending.pop() {
                self.scan(side, from, search);
            }
            let (near, far) = two(&mut self.sides, side);
            let (dist, j) = match (search.ready.pop(), self.heap.peek()) {
                (Some(ready), _) => ready,
                (None, Some(Reverse((dist, _)))) if *dist < search.best.min(search.window) => {
                    self.heap.pop().expect("it was seen").0
                }
                _ => return,
            };
            if dist > far[j].dist || dist >= search.best {
                continue;
            }
            for (i, _) in &far[j].flow {
                let reached = &mut near[*i];
                if reached.dist == i64::MAX {
                    (reached.dist, reached.via, reached.cursor) = (dist, j, 0);
                    search.near_reached.push(*i);
                    search.pending.push(*i);
                    let give_up = dist + near.price(*i);
                    if give_up < search.best {
                        (search.best, search.end) = (give_up, (false, *i));
                    }
                }
            }
        }
    }

    /// Looks at the edges of a near node that the window lets matter.
    fn scan(&mut self, side: usize, from: u32, search: &mut Search) {
        let at = &self.sides[side][from];
        let (here, mut cursor) = (at.dist, at.cursor);
        let base = here + self.sides[side].dual(from);
        let need = search.best.saturating_add(1).min(search.window).saturating_sub(base);
        let (limit, mut was_tried, mut wasted) = (need.saturating_add(base), false, 0);
        let seen = loop {
            let (heap, tight) = (&mut self.heap, &mut self.tight);
            let (near, far) = two(&mut self.sides, side);
            let seen = near.edges(from).visit(cursor, need, search.level, was_tried, |other, weight| {
                let dist = base + far.dual(other) - weight;
                wasted += u32::from(dist >= limit);
                if dist > search.best {
                    return;
                }
                let to = &mut far[other];
                if dist >= to.dist || dist == search.best {
                    if dist == to.dist || dist == search.best {
                        tight.push(edge(side, from, other, weight));
                    }
                    return;
                }
                if to.dist == i64::MAX {
                    search.far_reached.push(other);
                }
                (to.dist, to.via, to.via_weight) = (dist, from, weight);
                if to.has_room() {
                    (search.best, search.end) = (dist, (true, other));
                } else if dist == here && search.is_first {
                    // Nothing nearer can come: what tight edges lead to needs no queue.
                    search.ready.push((dist, other));
                } else {
                    heap.push(Reverse((dist, other)));
                }
            });
            if let Some(seen) = seen {
                break seen;
            }
            self.prepare(side, from);
            (was_tried, cursor) = (true, 0);
        };
        if seen.rest < i64::MAX {
            self.sides[side][from].cursor = self.wasted(side, from, wasted).map_or(seen.cursor, |()| 0);
            search.partial.push((base + seen.rest, from));
        }
    }

    /// Moves the duals of what a search reached before its end, so that the path to the end is tight.
    fn shift_duals(&mut self, side: usize, search: &Search) {
        let (near, far) = two(&mut self.sides, side);
        let mut fallen = 0;
        for i in &search.near_reached {
            let shift = search.best - near[*i].dist;
            near[*i].dist = i64::MAX;
            if shift > 0 {
                near.dual[*i as usize] -= shift;
                fallen = fallen.max(near.below(*i));
                near.moved(*i);
            }
        }
        for j in &search.far_reached {
            let shift = search.best - far[*j].dist;
            far[*j].dist = i64::MAX;
            if shift >= 0 {
                self.tight.push(edge(side, far[*j].via, *j, far[*j].via_weight));
            }
            if shift > 0 {
                far.dual[*j as usize] += shift;
                far.moved(*j);
            }
        }
        self.fell(side, search.start, fallen);
    }

    /// Notes how far below its reference a dual of this side is in the component of a node.
    pub(super) fn fell(&mut self, side: usize, slot: u32, by: i64) {
        let component = self.sides[side][slot].component;
        if let Some(of) = self.components.get_mut(component as usize) {
            of.drift[side].passing = of.drift[side].passing.max(by);
        }
    }

    /// Takes the drift as it is, now that duals which fell in passing are up again. Of those that fell farther than any
    /// before, the farthest get new references: a few must not make all lists be read farther.
    pub(super) fn settle_drift(&mut self) {
        const FEW: usize = 3;
        for side in [LEFT, RIGHT] {
            let nodes = &self.sides[side];
            let mut below: Vec<(u32, i64, u32)> = Vec::new();
            for slot in &nodes.touched {
                let node = &nodes[*slot];
                let Some(of) = self.components.get_mut(node.component as usize) else { continue };
                let drift = &mut of.drift[side];
                drift.passing = 0;
                let by = nodes.below(*slot);
                if by > drift.now && of.has_lists {
                    below.push((node.component, by, *slot));
                } else {
                    drift.now = drift.now.max(by);
                }
            }
            below.sort_unstable_by(|a, b| (a.0, b.1).cmp(&(b.0, a.1)));
            for of_one in below.chunk_by(|a, b| a.0 == b.0) {
                let (far, rest) = of_one.split_at(FEW.min(of_one.len()));
                let drift = &mut self.components[of_one[0].0 as usize].drift[side];
                drift.now = rest.first().map_or(drift.now, |(_, by, _)| *by);
                for (_, _, slot) in far {
                    self.refer(side, *slot, self.sides[side].dual(*slot));
                }
            }
        }
    }

    /// How far to look at first: twice as far as one went last time, or, of a node with a list, a few edges.
    pub(super) fn first_window(&mut self, side: usize, slot: u32, kind: usize) -> i64 {
        let dual = self.sides[side].dual(slot);
        let level = self.drift(side, slot).level();
        if self.sides[side].edges(slot).visit(0, -dual, level, false, |_, _| {}).is_none() {
            self.prepare(side, slot);
        }
        let level = self.drift(side, slot).level();
        let Some(near) = self.sides[side].edges(slot).near(level) else { return i64::MAX };
        let component = self.sides[side][slot].component;
        match self.components[component as usize].reach[kind] {
            0 => (near + dual).max(1),
            reach => reach,
        }
    }

    /// Notes how far one went, without jumping to conclusions.
    pub(super) fn reached(&mut self, side: usize, slot: u32, kind: usize, reach: i64) {
        let component = self.sides[side][slot].component;
        if let Some(of) = self.components.get_mut(component as usize) {
            let before = &mut of.reach[kind];
            *before = if *before == 0 { reach } else { reach.clamp(*before / 2, *before * 2) };
        }
    }
}

fn edge(side: usize, near: u32, far: u32, weight: i64) -> Edge {
    let (left, right) = if side == LEFT { (near, far) } else { (far, near) };
    Edge { left, right, weight }
}

/// Sends what fits along the path to the end of a search.
fn augment(near: &mut Nodes, far: &mut Nodes, search: &Search) {
    let start = search.start;
    // The path backwards as (near, far) edges on which flow comes, each followed by the one on which it goes.
    let mut path: SmallVec<[(u32, u32, i64); 8]> = SmallVec::new();
    let mut amount = near[start].capacity - near[start].used;
    let mut j = match search.end {
        (true, j) => {
            amount = amount.min(far[j].capacity - far[j].used);
            j
        }
        (false, i) if i == start => return,
        (false, i) => {
            let j = near[i].via;
            amount = amount.min(near[i].flow_to(j));
            path.push((i, j, -1));
            j
        }
    };
    loop {
        let i = far[j].via;
        path.push((i, j, 1));
        if i == start {
            break;
        }
        j = near[i].via;
        amount = amount.min(near[i].flow_to(j));
        path.push((i, j, -1));
    }
    for (i, j, sign) in path {
        near.add_flow(i, j, sign * amount);
        far.add_flow(j, i, sign * amount);
    }
}
