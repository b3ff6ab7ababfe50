//! Ties decided: among all optimal flows the lexicographically greatest.

use super::nodes::Nodes;
use super::{Edge, GROUND, LEFT, NONE, RIGHT, Solver, code, node};

impl Solver {
    /// Makes the flow the lexicographically greatest wherever a change could have made room for a greater one.
    ///
    /// A greater flow differs by a cycle with an arc that is new; every new arc has at one end a node that moved, or
    /// the left node of a changed edge. Returns whether there was a piece to look at.
    pub(super) fn settle_ties(&mut self) -> bool {
        let mut starts: Vec<(u32, u32)> = Vec::new();
        let is_suspect = |of: u32| of != NONE && self.components[of as usize].suspects > 0;
        for side in [LEFT, RIGHT] {
            let nodes = &self.sides[side];
            let moved =
                nodes.touched.iter().filter(|slot| nodes[**slot].is_moved && is_suspect(nodes[**slot].component));
            starts.extend(moved.map(|slot| (nodes[*slot].component, code(side, *slot))));
        }
        for edit in self.edits.iter().filter(|e| is_suspect(self.sides[LEFT][e.left].component)) {
            if edit.weight.is_some_and(|w| self.is_arc(edit.left, edit.right, w)) {
                starts.push((self.sides[LEFT][edit.left].component, code(LEFT, edit.left)));
            }
        }
        if starts.windows(2).any(|pair| pair[0].0 != pair[1].0) {
            starts.sort_unstable();
        }
        let mut any = false;
        for group in starts.chunk_by(|a, b| a.0 == b.0) {
            for piece in Pieces::reached_from(self, group) {
                self.maximise(&piece);
                any = true;
            }
        }
        any
    }

    /// Finds which left nodes are suspects, as far as a change could make them so.
    ///
    /// Supports span each component: every node hangs by a tight edge on its support, or, if it needs none, on the
    /// ground. A cycle takes one tight edge more, or a node that hangs on both. Mostly there is none, and then there is
    /// no tie in the whole component.
    pub(super) fn suspect_ties(&mut self) {
        for at in 0..self.sides[LEFT].touched.len() {
            let i = self.sides[LEFT].touched[at];
            if self.hangs_twice(i) {
                self.set_suspect(i, true);
            }
        }
        let edited = self.edits.iter().filter_map(|e| Some(Edge { left: e.left, right: e.right, weight: e.weight? }));
        let mut suspects: Vec<u32> = Vec::new();
        for edge in edited.chain(self.tight.iter().copied()) {
            if self.is_arc(edge.left, edge.right, edge.weight)
                && self.sides[RIGHT][edge.right].support != edge.left
                && self.sides[LEFT][edge.left].support != edge.right
            {
                suspects.push(edge.left);
            }
        }
        for i in suspects {
            self.set_suspect(i, true);
        }
    }

    /// Whether an edge of this own weight could bear flow: it is tight and worth something.
    fn is_arc(&self, left: u32, right: u32, weight: i64) -> bool {
        self.slack(left, right, weight) == 0 && weight > self.floors(left, right)
    }

    /// Whether a left node is matched, to the last, for nothing.
    fn hangs_twice(&self, left: u32) -> bool {
        self.drains(code(LEFT, left)) && !self.sides[LEFT][left].has_room()
    }

    pub(super) fn set_suspect(&mut self, left: u32, is_suspect: bool) {
        let node = &mut self.sides[LEFT][left];
        if node.component != NONE && node.is_suspect != is_suspect {
            node.is_suspect = is_suspect;
            let suspects = &mut self.components[node.component as usize].suspects;
            *suspects = if is_suspect { *suspects + 1 } else { *suspects - 1 };
        }
    }

    /// Calls for the right nodes at those edges of a left node that could bear flow.
    fn each_tight(&mut self, left: u32, mut each: impl FnMut(&Nodes, u32)) {
        let u = self.sides[LEFT].dual(left);
        let floor = self.sides[LEFT].floor[left as usize];
        let level = self.drift(LEFT, left).level();
        let mut was_tried = false;
        loop {
            let [lefts, rights] = &mut self.sides;
            let seen = lefts.edges(left).visit(0, 1 - u, level, was_tried, |j, weight| {
                if u + rights.dual(j) == weight && weight > floor + rights.floor[j as usize] {
                    each(rights, j);
                }
            });
            if seen.is_some() {
                return;
            }
            self.prepare(LEFT, left);
            was_tried = true;
        }
    }

    /// Whether any left node at an edge of a right node that could bear flow is such.
    fn any_tight(&mut self, right: u32, mut is_such: impl FnMut(&Nodes, u32) -> bool) -> bool {
        let v = self.sides[RIGHT].dual(right);
        let floor = self.sides[RIGHT].floor[right as usize];
        let level = self.drift(RIGHT, right).level();
        let (mut was_tried, mut any) = (false, false);
        loop {
            let [lefts, rights] = &mut self.sides;
            let seen = rights.edges(right).visit(0, 1 - v, level, was_tried, |i, weight| {
                let is_arc = lefts.dual(i) + v == weight && weight > floor + lefts.floor[i as usize];
                any |= is_arc && is_such(lefts, i);
            });
            if seen.is_some() {
                return any;
            }
            self.prepare(RIGHT, right);
            was_tried = true;
        }
    }

    /// The residual arcs out of a node: more flow on a tight edge, less on a used one, and to the ground.
    fn successors(&mut self, of: u32, out: &mut Vec<u32>) {
        let (side, slot) = node(of);
        if side == LEFT {
            let (support, mut is_suspect) = (self.sides[LEFT][slot].support, self.hangs_twice(slot));
            self.each_tight(slot, |rights, j| {
                is_suspect |= j != support && rights[j].support != slot;
                out.push(code(RIGHT, j));
            });
            self.set_suspect(slot, is_suspect);
        } else {
            out.extend(self.sides[RIGHT][slot].flow.iter().map(|(i, _)| code(LEFT, *i)));
        }
        if self.drains(of) && self.is_way_to_ground(of) {
            out.push(GROUND);
        }
    }

    /// Whether a cycle could go through a node that drains to the ground, other than to and fro: whether something
    /// else leads to it. Without real ties nothing does, and the ground, which has arcs to half a city, is left alone.
    fn is_way_to_ground(&mut self, of: u32) -> bool {
        let (side, slot) = node(of);
        if side == RIGHT {
            return self.any_tight(slot, |lefts, i| lefts[i].flow.iter().any(|(j, _)| *j != slot));
        }
        (0..self.sides[LEFT][slot].flow.len()).any(|at| {
            let (j, _) = self.sides[LEFT][slot].flow[at];
            self.any_tight(j, |_, i| i != slot)
        })
    }

    /// Whether there is an arc from a node to the ground: a right node could take more, a left one do with less.
    fn drains(&self, of: u32) -> bool {
        let (side, slot) = node(of);
        let nodes = &self.sides[side];
        match side {
            LEFT => nodes.price(slot) == 0 && nodes[slot].used > 0,
            _ => nodes[slot].has_room(),
        }
    }

    /// Whether there is an arc from the ground to a node: a left node could give more, a right one do with less.
    fn is_fed(&self, of: u32) -> bool {
        let (side, slot) = node(of);
        let nodes = &self.sides[side];
        match side {
            LEFT => nodes[slot].has_room(),
            _ => nodes.price(slot) == 0 && nodes[slot].used > 0,
        }
    }

    /// Makes the flow lexicographically greatest within one strongly connected piece of the residual graph.
    fn maximise(&mut self, piece: &[u32]) {
        let of_side = |side: usize| -> Vec<u32> {
            let members = piece.iter().filter(|c| **c != GROUND && node(**c).0 == side);
            let mut slots: Vec<u32> = members.map(|c| node(*c).1).collect();
            slots.sort_unstable_by(|a, b| self.sides[side].key(*a).cmp(self.sides[side].key(*b)));
            slots
        };
        let (lefts, rights) = (of_side(LEFT), of_side(RIGHT));
        // From here on nodes go by their rank in the piece.
        for (side, slots) in [(LEFT, &lefts), (RIGHT, &rights)] {
            for (rank, slot) in slots.iter().enumerate() {
                self.sides[side][*slot].order = rank as u32;
            }
        }
        let mut tie = Tie {
            has_ground: piece.contains(&GROUND),
            tight_of_right: vec![Vec::new(); rights.len()],
            fixed_of_right: vec![0; rights.len()],
            next: vec![NONE; lefts.len() + rights.len() + 1],
            lefts,
            rights,
        };
        let mut tight: Vec<Vec<u32>> = Vec::with_capacity(tie.lefts.len());
        for slot in &tie.lefts {
            let mut ranks = Vec::new();
            self.each_tight(*slot, |rights, j| ranks.extend(Some(rights[j].order).filter(|rank| *rank != NONE)));
            tight.push(ranks);
        }
        for (i, row) in tight.iter().enumerate() {
            for j in row {
                tie.tight_of_right[*j as usize].push(i as u32);
            }
        }
        for (i, row) in tight.iter().enumerate() {
            self.maximise_left(&mut tie, i, row);
        }
        for (side, slots) in [(LEFT, &tie.lefts), (RIGHT, &tie.rights)] {
            for slot in slots {
                self.sides[side][*slot].order = NONE;
            }
        }
    }

    /// Fixes the flow of one left node, whose forerunners' flow is fixed: its right nodes in turn, each as far as it goes.
    fn maximise_left(&mut self, tie: &mut Tie, i: usize, row: &[u32]) {
        let mut room = self.sides[LEFT][tie.lefts[i]].capacity;
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
        self.sides[LEFT][tie.lefts[i]].flow_to(tie.rights[j as usize])
    }

    /// What of a right node's capacity is not used by fixed flow.
    fn unfixed(&self, tie: &Tie, j: u32) -> i64 {
        self.sides[RIGHT][tie.rights[j as usize]].capacity - tie.fixed_of_right[j as usize]
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
                    if self.drains(code(RIGHT, *slot)) {
                        reach(lefts + rank, &mut queue);
                    }
                }
                for (rank, slot) in tie.lefts.iter().enumerate().skip(i + 1) {
                    if self.drains(code(LEFT, *slot)) {
                        reach(rank, &mut queue);
                    }
                }
            } else if node < lefts {
                let slot = tie.lefts[node];
                for (j, _) in &self.sides[LEFT][slot].flow {
                    let rank = self.sides[RIGHT][*j].order;
                    if node != i || (rank >= from && Some(rank) != except) {
                        reach(lefts + rank as usize, &mut queue);
                    }
                }
                if tie.has_ground && self.is_fed(code(LEFT, slot)) {
                    reach(ground, &mut queue);
                }
            } else {
                for rank in &tie.tight_of_right[node - lefts] {
                    if *rank as usize > i {
                        reach(*rank as usize, &mut queue);
                    }
                }
                if tie.has_ground && self.is_fed(code(RIGHT, tie.rights[node - lefts])) {
                    reach(ground, &mut queue);
                }
            }
        }
    }

    /// Pushes as much as goes around: left node `i`, right node `chosen`, and back along `next`.
    fn push_cycle(&mut self, tie: &Tie, i: usize, chosen: u32) {
        let (lefts, ground) = (tie.lefts.len(), tie.lefts.len() + tie.rights.len());
        let room = |nodes: &Nodes, slot: u32| nodes[slot].capacity - nodes[slot].used;
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
                    self.sides[LEFT][tie.lefts[next]].flow_to(tie.rights[node - lefts])
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
    ground: Option<u32>,
    /// By number, in the order of discovery; a node has its number in `order`.
    found: Vec<Found>,
    stack: Vec<u32>,
    pieces: u32,
    cyclic: Vec<Vec<u32>>,
    /// Of the depth-first search: a node's number, and where in `ahead` its unvisited successors begin.
    frames: Vec<(u32, usize)>,
    ahead: Vec<u32>,
}

/// A node, the least number it reaches, and its piece, `NONE` while it is on the stack.
#[derive(Clone, Copy, Debug)]
struct Found {
    code: u32,
    low: u32,
    piece: u32,
}

impl Pieces {
    /// The pieces in which flow could go around: those that are more than a tree of used edges. The starts are nodes
    /// with their component, the same for all.
    fn reached_from(solver: &mut Solver, starts: &[(u32, u32)]) -> Vec<Vec<u32>> {
        let mut pieces = Pieces { component: starts[0].0, ..Pieces::default() };
        for (_, start) in starts {
            if pieces.number(solver, *start).is_none() {
                pieces.walk(solver, *start);
            }
        }
        for found in pieces.found.iter().filter(|f| f.code != GROUND) {
            let (side, slot) = node(found.code);
            solver.sides[side][slot].order = NONE;
        }
        pieces.cyclic
    }

    fn number(&self, solver: &Solver, of: u32) -> Option<u32> {
        if of == GROUND {
            return self.ground;
        }
        let (side, slot) = node(of);
        Some(solver.sides[side][slot].order).filter(|number| *number != NONE)
    }

    fn walk(&mut self, solver: &mut Solver, start: u32) {
        self.enter(solver, start);
        while let Some((at, floor)) = self.frames.last().copied() {
            if self.ahead.len() > floor {
                let next = self.ahead.pop().expect("above the floor");
                match self.number(solver, next) {
                    None => self.enter(solver, next),
                    Some(there) if self.found[there as usize].piece == NONE => {
                        self.found[at as usize].low = self.found[at as usize].low.min(there);
                    }
                    Some(_) => {}
                }
                continue;
            }
            self.frames.pop();
            let low = self.found[at as usize].low;
            if let Some((parent, _)) = self.frames.last() {
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

    fn enter(&mut self, solver: &mut Solver, of: u32) {
        let number = self.found.len() as u32;
        self.found.push(Found { code: of, low: number, piece: NONE });
        self.stack.push(number);
        self.frames.push((number, self.ahead.len()));
        if of == GROUND {
            self.ground = Some(number);
            let members = &solver.components[self.component as usize].members;
            for side in [LEFT, RIGHT] {
                let codes = members[side].iter().map(|slot| code(side, *slot));
                self.ahead.extend(codes.filter(|of| solver.is_fed(*of)));
            }
        } else {
            let (side, slot) = node(of);
            solver.sides[side][slot].order = number;
            solver.successors(of, &mut self.ahead);
        }
    }

    /// Whether the piece on the stack has a cycle beyond the to and fro on one used edge: whether it is no tree.
    fn is_cyclic(&self, solver: &mut Solver, from: usize) -> bool {
        let members = &self.stack[from..];
        if members.len() < 3 {
            return false;
        }
        let piece = self.found[members[0] as usize].piece;
        let is_member = |number: u32| number != NONE && self.found[number as usize].piece == piece;
        let has_ground = self.ground.is_some_and(is_member);
        let mut links = 0;
        for of in members.iter().map(|n| self.found[*n as usize].code).filter(|of| *of != GROUND) {
            if node(of).0 == LEFT {
                solver.each_tight(node(of).1, |rights, j| links += usize::from(is_member(rights[j].order)));
            }
            links += usize::from(has_ground && (solver.drains(of) || solver.is_fed(of)));
        }
        links >= members.len()
    }
}
