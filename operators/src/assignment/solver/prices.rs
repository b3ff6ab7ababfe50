//! Prices made canonical: every right price the least, every left price the greatest that proves the flow optimal.
//!
//! Which prices are least is told by supports: from every positive right price tight arcs lead back to a right price of
//! zero or a left node with room. Each node keeps a pointer to its support; where chains of pointers broke, the nodes
//! behind fall. How far are shortest distances from what still stands: `δ_j ≤ v_j`, `δ_j ≤ δ_i + slack_ij` on edges,
//! `δ_i = δ_j` along flow, `δ = 0` where supported (Ramalingam and Reps, dynamic single-source shortest paths).

use std::cmp::Reverse;

use super::{Edge, LEFT, NONE, OUT, RIGHT, Solver, code, node, two};

/// Nodes that fall, by side.
type Fallen = [Vec<u32>; 2];

/// The falls of one component, as they are measured.
#[derive(Debug, Default)]
struct Falls {
    /// Edges are looked at as far as this. Grows until every node has landed.
    window: i64,
    /// Right nodes that have not landed, and from where on edges were left out.
    open: Vec<(u32, i64)>,
    /// Left nodes that have landed, and from where on edges were left out.
    landed: Vec<(u32, i64)>,
    /// Right nodes that land now.
    ready: Vec<u32>,
    /// How many have landed, how many are most, and how far the farthest of those fell.
    count: usize,
    most: usize,
    reach: i64,
    /// Of the drift of either side.
    levels: [i64; 2],
}

impl Solver {
    /// Whether a left price cannot rise, as far as its own pointer says.
    pub(super) fn left_is_supported(&self, left: u32) -> bool {
        let node = &self.sides[LEFT][left];
        node.has_room() || (node.support != NONE && node.flow_to(node.support) > 0)
    }

    /// Whether a right price cannot fall, as far as its own pointer says.
    pub(super) fn right_is_supported(&self, right: u32) -> bool {
        let node = &self.sides[RIGHT][right];
        self.sides[RIGHT].price(right) == 0
            || (node.support != NONE && self.slack(node.support, right, node.support_weight) == 0)
    }

    /// Lowers right prices (and raises left ones) to the least, where supports broke.
    pub(super) fn lower_prices(&mut self) {
        let fallen = self.find_fallen();
        let mut all: Vec<(u32, u32)> = Vec::with_capacity(fallen[LEFT].len() + fallen[RIGHT].len());
        for side in [LEFT, RIGHT] {
            let nodes = &self.sides[side];
            all.extend(fallen[side].iter().map(|slot| (nodes[*slot].component, code(side, *slot))));
        }
        // Each component has a drift of its own.
        if !all.is_sorted_by_key(|(component, _)| *component) {
            all.sort_unstable();
        }
        for group in all.chunk_by(|a, b| a.0 == b.0) {
            self.measure_falls(group);
        }
        self.land(&fallen);
    }

    /// All nodes whose chain of supports broke, marked.
    fn find_fallen(&mut self) -> Fallen {
        let mut fallen = Fallen::default();
        for at in 0..self.sides[RIGHT].touched.len() {
            let j = self.sides[RIGHT].touched[at];
            // A pointer that is not needed now must not be trusted later: chains grown meanwhile could close a cycle.
            if self.sides[RIGHT].price(j) == 0 {
                self.set_support(RIGHT, j, NONE);
            }
            if self.sides[RIGHT][j].is_active() && !self.right_is_supported(j) {
                self.fall(RIGHT, j, &mut fallen);
            }
        }
        for at in 0..self.sides[LEFT].touched.len() {
            let i = self.sides[LEFT].touched[at];
            if self.sides[LEFT][i].has_room() {
                self.set_support(LEFT, i, NONE);
            }
            if self.sides[LEFT][i].is_active() && !self.left_is_supported(i) {
                self.fall(LEFT, i, &mut fallen);
            }
            for at in 0..self.sides[LEFT][i].supports.len() {
                let j = self.sides[LEFT][i].supports[at];
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
                for at in 0..self.sides[LEFT][i].supports.len() {
                    let j = self.sides[LEFT][i].supports[at];
                    self.fall(RIGHT, j, &mut fallen);
                }
            }
            while let Some(j) = fallen[RIGHT].get(done[RIGHT]).copied() {
                done[RIGHT] += 1;
                for at in 0..self.sides[RIGHT][j].flow.len() {
                    let (i, _) = self.sides[RIGHT][j].flow[at];
                    if self.sides[LEFT][i].support == j && !self.sides[LEFT][i].has_room() {
                        self.fall(LEFT, i, &mut fallen);
                    }
                }
            }
        }
        fallen
    }

    fn fall(&mut self, side: usize, slot: u32, fallen: &mut Fallen) {
        let mark = &mut self.sides[side][slot].mark;
        if !*mark {
            *mark = true;
            fallen[side].push(slot);
        }
    }

    /// How far the marked nodes of a component fall (`dist`) and what holds them then (`via`).
    fn measure_falls(&mut self, fallen: &[(u32, u32)]) {
        let mut falls = Falls::default();
        for (side, slot) in fallen.iter().map(|(_, code)| node(*code)) {
            let price = self.sides[side].price(slot);
            let (left, right) = two(&mut self.sides, LEFT);
            if side == RIGHT {
                let of = &mut right[slot];
                (of.dist, of.via, of.cursor) = (price, NONE, 0);
                falls.open.push((slot, 0));
            } else if let Some((j, _)) = left[slot].flow.iter().find(|(j, _)| !right[*j].mark).copied() {
                let of = &mut left[slot];
                (of.dist, of.via, of.cursor) = (0, j, 0);
                falls.landed.push((slot, 0));
            }
        }
        let Some((first, _)) = falls.open.first().copied() else { return };
        falls.window = self.first_window(RIGHT, first, 1);
        falls.most = falls.open.len() / 16 * 15 + 1;
        let component = self.sides[RIGHT][first].component;
        falls.levels = self.components[component as usize].drift.map(|drift| drift.level());

        self.heap.clear();
        let mut window_before = 0;
        loop {
            for at in 0..falls.open.len() {
                let (j, rest) = falls.open[at];
                let node = &self.sides[RIGHT][j];
                if node.via == NONE && (window_before..falls.window).contains(&node.dist) {
                    // Within the window it falls to zero.
                    self.heap.push(Reverse((node.dist, j)));
                }
                if rest < falls.window {
                    falls.open[at].1 = self.pull(j, &mut falls);
                }
            }
            for at in 0..falls.landed.len() {
                let (i, rest) = falls.landed[at];
                if rest < falls.window {
                    falls.landed[at].1 = self.push(i, false, &mut falls);
                }
            }
            self.settle(&mut falls);
            let right = &self.sides[RIGHT];
            falls.open.retain(|(j, _)| right[*j].dist >= falls.window);
            if falls.open.is_empty() {
                break;
            }
            window_before = falls.window;
            falls.window = falls.window.saturating_mul(4);
        }
        self.reached(RIGHT, first, 1, falls.reach);
    }

    /// Holds a right node by the standing left nodes as near as the window. Returns how near the rest are at least.
    fn pull(&mut self, j: u32, falls: &mut Falls) -> i64 {
        let v = self.sides[RIGHT].dual(j);
        let at = &self.sides[RIGHT][j];
        let (mut cursor, mut best, mut via) = (at.cursor, at.dist, (at.via, at.via_weight));
        let limit = best.saturating_add(1).min(falls.window);
        let (need, mut was_tried, mut wasted) = (limit - v, false, 0);
        let seen = loop {
            let tight = &mut self.tight;
            let (left, right) = two(&mut self.sides, LEFT);
            let seen = right.edges(j).visit(cursor, need, falls.levels[LEFT], was_tried, |i, weight| {
                let slack = left.dual(i) + v - weight;
                wasted += u32::from(slack >= limit);
                if slack <= best && !left[i].mark {
                    if slack < best {
                        (best, via) = (slack, (i, weight));
                    } else {
                        tight.push(Edge { left: i, right: j, weight });
                    }
                }
            });
            if let Some(seen) = seen {
                break seen;
            }
            self.prepare(RIGHT, j);
            (was_tried, cursor) = (true, 0);
        };
        let cursor = self.wasted(RIGHT, j, wasted).map_or(seen.cursor, |()| 0);
        let at = &mut self.sides[RIGHT][j];
        at.cursor = cursor;
        if best < at.dist {
            (at.dist, at.via, at.via_weight) = (best, via.0, via.1);
            self.heap.push(Reverse((best, j)));
        }
        seen.rest.saturating_add(v)
    }

    /// Holds right nodes as near as the window by a left node that has landed. Returns how near the rest are at least.
    fn push(&mut self, i: u32, is_now: bool, falls: &mut Falls) -> i64 {
        let at = &self.sides[LEFT][i];
        let (dist, mut cursor) = (at.dist, at.cursor);
        let base = dist + self.sides[LEFT].dual(i);
        let need = falls.window.saturating_sub(base);
        let (mut was_tried, mut wasted) = (false, 0);
        let seen = loop {
            let (heap, tight) = (&mut self.heap, &mut self.tight);
            let (left, right) = two(&mut self.sides, LEFT);
            let seen = left.edges(i).visit(cursor, need, falls.levels[RIGHT], was_tried, |j, weight| {
                let there = base + right.dual(j) - weight;
                wasted += u32::from(there >= falls.window);
                let at = &mut right[j];
                // A node that stands is at distance `i64::MAX` as any other at rest: hence the mark.
                if there > at.dist || !at.mark {
                    return;
                }
                if there == at.dist {
                    tight.push(Edge { left: i, right: j, weight });
                } else {
                    (at.dist, at.via, at.via_weight) = (there, i, weight);
                    // Nothing nearer can come: along tight edges all land at once.
                    if there == dist && is_now { falls.ready.push(j) } else { heap.push(Reverse((there, j))) }
                }
            });
            if let Some(seen) = seen {
                break seen;
            }
            self.prepare(LEFT, i);
            (was_tried, cursor) = (true, 0);
        };
        self.sides[LEFT][i].cursor = self.wasted(LEFT, i, wasted).map_or(seen.cursor, |()| 0);
        seen.rest.saturating_add(base)
    }

    /// Lands all whose distance is within the window.
    fn settle(&mut self, falls: &mut Falls) {
        while let Some(Reverse((dist, j))) = self.heap.peek().copied()
            && dist < falls.window
        {
            self.heap.pop();
            if dist > self.sides[RIGHT][j].dist {
                continue;
            }
            falls.ready.push(j);
            while let Some(j) = falls.ready.pop() {
                falls.count += 1;
                if falls.count <= falls.most {
                    falls.reach = dist;
                }
                for at in 0..self.sides[RIGHT][j].flow.len() {
                    let (i, _) = self.sides[RIGHT][j].flow[at];
                    let of = &mut self.sides[LEFT][i];
                    if of.mark && of.dist == i64::MAX {
                        (of.dist, of.via, of.cursor) = (dist, j, 0);
                        let rest = self.push(i, true, falls);
                        falls.landed.push((i, rest));
                    }
                }
            }
        }
    }

    /// Moves the duals of all that fell, and leaves nothing marked.
    fn land(&mut self, fallen: &Fallen) {
        for (side, sign) in [(LEFT, 1), (RIGHT, -1)] {
            for slot in &fallen[side] {
                self.set_support(side, *slot, self.sides[side][*slot].via);
                let nodes = &mut self.sides[side];
                let node = &mut nodes[*slot];
                let dist = std::mem::replace(&mut node.dist, i64::MAX);
                node.support_weight = node.via_weight;
                debug_assert!(dist < OUT, "every fallen node lands");
                node.mark = false;
                nodes.dual[*slot as usize] += sign * dist;
                nodes.moved(*slot);
                if side == RIGHT && dist > 0 {
                    let by = self.sides[RIGHT].below(*slot);
                    self.fell(RIGHT, *slot, by);
                }
            }
        }
    }

    /// Every chain of supports leads to a right price of zero or a left node with room.
    #[cfg(test)]
    pub(super) fn check_supports(&self) {
        for start in 0..self.sides[RIGHT].len() as u32 {
            if !self.sides[RIGHT][start].is_active() {
                continue;
            }
            let (mut j, mut chain) = (start, Vec::new());
            while self.sides[RIGHT].price(j) > 0 {
                assert!(self.right_is_supported(j), "right {j} has no support");
                let i = self.sides[RIGHT][j].support;
                assert_eq!(self.own_weight(i, j), Some(self.sides[RIGHT][j].support_weight));
                assert!(self.left_is_supported(i), "left {i} has no support");
                if self.sides[LEFT][i].has_room() {
                    break;
                }
                assert!(!chain.contains(&i), "supports go around: {chain:?}");
                chain.push(i);
                j = self.sides[LEFT][i].support;
            }
        }
    }
}
