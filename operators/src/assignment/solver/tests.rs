//! The solver against itself from nothing, against brute means and against other people's solvers.

use std::collections::BTreeMap;

use super::*;
use crate::assignment::model::{self, Problem};

/// SplitMix64: small, seeded, good enough to draw instances.
struct Draw(u64);

impl Draw {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    fn range(&mut self, from: i64, to: i64) -> i64 {
        from + self.below((to - from + 1) as u64) as i64
    }
}

/// The instance as it should be: nodes by name with capacities, edges with weights of any sign.
#[derive(Clone, Debug, Default)]
struct World {
    nodes: [BTreeMap<u32, i64>; 2],
    edges: BTreeMap<(u32, u32), i64>,
    terms: [BTreeMap<u32, i64>; 2],
}

#[derive(Clone, Copy, Debug)]
enum Op {
    Node(usize, u32, i64),
    Gone(usize, u32),
    /// Of its own weight; `None` removes it.
    Edge(u32, u32, Option<i64>),
    Term(usize, u32, i64),
}

impl World {
    fn apply(&mut self, op: Op) {
        match op {
            Op::Node(side, name, capacity) => {
                self.nodes[side].insert(name, capacity);
            }
            Op::Gone(side, name) => {
                self.nodes[side].remove(&name);
                self.terms[side].remove(&name);
                self.edges.retain(|(l, r), _| [*l, *r][side] != name);
            }
            Op::Edge(l, r, Some(w)) => {
                self.edges.insert((l, r), w);
            }
            Op::Edge(l, r, None) => {
                self.edges.remove(&(l, r));
            }
            Op::Term(side, name, term) => {
                self.terms[side].insert(name, term);
            }
        }
    }

    /// The weight of an edge, terms included.
    fn weight(&self, left: u32, right: u32) -> Option<i64> {
        let term = |side: usize, name: u32| self.terms[side].get(&name).copied().unwrap_or(0);
        Some(self.edges.get(&(left, right))? + term(LEFT, left) + term(RIGHT, right))
    }

    fn problem(&self) -> (Problem, Vec<u32>, Vec<u32>) {
        let names = |side: usize| self.nodes[side].keys().copied().collect::<Vec<u32>>();
        let (left, right) = (names(LEFT), names(RIGHT));
        let weight = left.iter().map(|l| right.iter().map(|r| self.weight(*l, *r)).collect());
        let problem = Problem {
            weight: weight.collect(),
            left: self.nodes[LEFT].values().copied().collect(),
            right: self.nodes[RIGHT].values().copied().collect(),
        };
        (problem, left, right)
    }

    /// Ops that make it from nothing, in a drawn order that is possible.
    fn ops(&self, draw: &mut Draw) -> Vec<Op> {
        let mut nodes = Vec::new();
        for side in [LEFT, RIGHT] {
            nodes.extend(self.nodes[side].iter().map(|(name, capacity)| Op::Node(side, *name, *capacity)));
        }
        let mut edges: Vec<Op> = self.edges.iter().map(|((l, r), w)| Op::Edge(*l, *r, Some(*w))).collect();
        for side in [LEFT, RIGHT] {
            edges.extend(self.terms[side].iter().map(|(name, term)| Op::Term(side, *name, *term)));
        }
        shuffle(&mut nodes, draw);
        shuffle(&mut edges, draw);
        nodes.extend(edges);
        nodes
    }
}

fn shuffle<T>(items: &mut [T], draw: &mut Draw) {
    for i in (1..items.len()).rev() {
        items.swap(i, draw.below(i as u64 + 1) as usize);
    }
}

/// A solver fed by name: slots are given out so that they say nothing of the order of keys.
#[derive(Default)]
struct Fed {
    solver: Solver,
    slots: [BTreeMap<u32, u32>; 2],
    free: [Vec<u32>; 2],
    gone: [Vec<u32>; 2],
    next: [u32; 2],
    certificates: BTreeMap<Vec<u8>, Certificate>,
}

impl Fed {
    fn apply(&mut self, op: Op) {
        match op {
            Op::Node(side, name, capacity) => {
                let slot = match self.slots[side].get(&name) {
                    Some(slot) => *slot,
                    None => {
                        let slot = self.free[side].pop().unwrap_or_else(|| {
                            self.next[side] += 1;
                            self.next[side] - 1
                        });
                        self.slots[side].insert(name, slot);
                        slot
                    }
                };
                self.solver.set_node(side, slot, &name.to_be_bytes(), capacity);
            }
            Op::Gone(side, name) => {
                if let Some(slot) = self.slots[side].remove(&name) {
                    self.solver.remove_node(side, slot);
                    self.gone[side].push(slot);
                }
            }
            Op::Edge(l, r, w) => self.solver.set_edge(self.slots[LEFT][&l], self.slots[RIGHT][&r], w),
            Op::Term(side, name, term) => self.solver.set_term(side, self.slots[side][&name], term),
        }
    }

    fn solve(&mut self) -> Repair {
        let repair = self.solver.solve();
        self.solver.check_supports();
        self.solver.check_lists();
        for certificate in &repair.retired {
            let known = self.certificates.remove(&certificate.key.to_vec());
            assert_eq!(known.as_ref(), Some(certificate), "only what was issued is retired");
        }
        for certificate in &repair.issued {
            let known = self.certificates.insert(certificate.key.to_vec(), certificate.clone());
            assert_eq!(known, None, "one certificate a component");
        }
        for side in [LEFT, RIGHT] {
            let gone = std::mem::take(&mut self.gone[side]);
            self.free[side].extend(gone);
        }
        repair
    }

    /// Everything that can be read, by name.
    fn state(&self) -> State {
        let mut state = State::default();
        let names = |side: usize| -> BTreeMap<u32, u32> { self.slots[side].iter().map(|(n, s)| (*s, *n)).collect() };
        let right_names = names(RIGHT);
        for side in [LEFT, RIGHT] {
            for (name, slot) in &self.slots[side] {
                if let Some(price) = self.solver.price(side, *slot) {
                    state.prices[side].insert(*name, price);
                }
            }
        }
        for (name, slot) in &self.slots[LEFT] {
            for (r, x) in self.solver.flow(LEFT, *slot) {
                state.flow.insert((*name, right_names[r]), *x);
            }
        }
        state.certificates = self.certificates.values().cloned().collect();
        state
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct State {
    flow: BTreeMap<(u32, u32), i64>,
    prices: [BTreeMap<u32, i64>; 2],
    certificates: Vec<Certificate>,
}

/// The state the model gives.
fn expected(world: &World) -> State {
    let (problem, left, right) = world.problem();
    let mut state = State::default();
    for part in model::solve(&problem) {
        let dual = part.left.iter().map(|(i, p)| i128::from(problem.left[*i]) * i128::from(*p)).sum::<i128>()
            + part.right.iter().map(|(j, p)| i128::from(problem.right[*j]) * i128::from(*p)).sum::<i128>();
        state.certificates.push(Certificate {
            key: left[part.left[0].0].to_be_bytes().into(),
            primal: part.primal,
            dual,
            nodes: (part.left.len() + part.right.len()) as u64,
            edges: part.edges,
        });
        state.flow.extend(part.flow.iter().map(|(i, j, x)| ((left[*i], right[*j]), *x)));
        state.prices[LEFT].extend(part.left.iter().map(|(i, p)| (left[*i], *p)));
        state.prices[RIGHT].extend(part.right.iter().map(|(j, p)| (right[*j], *p)));
    }
    state
}

/// Checks the proof by the stand-alone checker.
fn check_proof(world: &World, state: &State) {
    let (problem, left, right) = world.problem();
    let edges = world
        .edges
        .keys()
        .map(|(l, r)| (left.binary_search(l).unwrap(), right.binary_search(r).unwrap(), world.weight(*l, *r).unwrap()));
    let instance = Instance { left: problem.left, right: problem.right, edges: edges.collect() };
    let matches: Vec<_> = state
        .flow
        .iter()
        .map(|((l, r), x)| (left.binary_search(l).unwrap(), right.binary_search(r).unwrap(), *x))
        .collect();
    let prices = |side: usize, names: &[u32]| -> Vec<i64> {
        names.iter().map(|n| *state.prices[side].get(n).unwrap_or(&0)).collect()
    };
    verify(&instance, &matches, (&prices(LEFT, &left), &prices(RIGHT, &right))).unwrap();
    assert!(state.certificates.iter().all(|c| c.primal == c.dual), "a gap");
    let total: i128 =
        state.flow.iter().map(|((l, r), x)| i128::from(world.weight(*l, *r).unwrap()) * i128::from(*x)).sum();
    assert_eq!(total, state.certificates.iter().map(|c| c.primal).sum::<i128>());
}

/// How instances of one kind are drawn.
#[derive(Clone, Copy, Debug)]
struct Kind {
    names: u32,
    capacity_max: i64,
    weight: (i64, i64),
    /// Edges a row redraw sets, in percent of the other side.
    density: u64,
    /// The greatest term of a node; without terms an edge worth nothing is no edge.
    term_max: i64,
}

impl Kind {
    fn edge(&self, left: u32, right: u32, draw: &mut Draw) -> Op {
        let weight = Some(draw.range(self.weight.0, self.weight.1));
        Op::Edge(left, right, weight.filter(|w| *w > 0 || self.term_max > 0))
    }
}

fn draw_ops(world: &World, kind: Kind, draw: &mut Draw) -> Vec<Op> {
    let mut ops = Vec::new();
    let side = draw.below(2) as usize;
    let name = draw.below(u64::from(kind.names)) as u32;
    let pick = |side: usize, draw: &mut Draw| {
        let at = draw.below(world.nodes[side].len().max(1) as u64) as usize;
        world.nodes[side].keys().nth(at).copied()
    };
    match draw.below(10) {
        0 => ops.push(Op::Gone(side, name)),
        1 => {
            // Taken away and put back in one breath.
            ops.push(Op::Gone(side, name));
            ops.push(Op::Node(side, name, draw.range(1, kind.capacity_max)));
        }
        2 | 3 => {
            let least = i64::from(kind.capacity_max == 1);
            ops.push(Op::Node(side, name, draw.range(least, kind.capacity_max)));
        }
        4..=6 => {
            if let (Some(l), Some(r)) = (pick(LEFT, draw), pick(RIGHT, draw)) {
                ops.push(kind.edge(l, r, draw));
            }
        }
        7 if kind.term_max > 0 => {
            if let Some(name) = pick(side, draw) {
                ops.push(Op::Term(side, name, draw.range(-kind.term_max, kind.term_max)));
            }
        }
        _ => {
            ops.push(Op::Node(side, name, draw.range(1, kind.capacity_max)));
            for other in world.nodes[1 - side].keys() {
                if draw.below(100) < kind.density {
                    let (l, r) = if side == LEFT { (name, *other) } else { (*other, name) };
                    ops.push(kind.edge(l, r, draw));
                }
            }
        }
    }
    ops
}

const KINDS: [Kind; 13] = [
    Kind { names: 4, capacity_max: 1, weight: (-1, 2), density: 70, term_max: 0 },
    Kind { names: 5, capacity_max: 1, weight: (0, 3), density: 100, term_max: 0 },
    Kind { names: 5, capacity_max: 3, weight: (-1, 3), density: 70, term_max: 0 },
    Kind { names: 7, capacity_max: 1, weight: (1, 1), density: 60, term_max: 0 },
    Kind { names: 6, capacity_max: 4, weight: (1, 2), density: 50, term_max: 0 },
    Kind { names: 8, capacity_max: 2, weight: (-2, 9), density: 30, term_max: 0 },
    Kind { names: 9, capacity_max: 1, weight: (-WEIGHT_MAX, WEIGHT_MAX), density: 80, term_max: 0 },
    Kind { names: 12, capacity_max: 1, weight: (-50, 1000), density: 25, term_max: 0 },
    Kind { names: 4, capacity_max: 1, weight: (-1, 2), density: 80, term_max: 1 },
    Kind { names: 5, capacity_max: 3, weight: (-1, 2), density: 70, term_max: 2 },
    Kind { names: 7, capacity_max: 1, weight: (-3, 6), density: 50, term_max: 3 },
    Kind { names: 8, capacity_max: 2, weight: (-300, 900), density: 60, term_max: 400 },
    Kind { names: 6, capacity_max: 1, weight: (-WEIGHT_MAX / 2, WEIGHT_MAX / 2), density: 80, term_max: TERM_MAX },
];

#[test]
fn every_step_equals_the_model() {
    let mut instances = 0;
    for (number, kind) in KINDS.into_iter().enumerate() {
        for run in 0..80 {
            let mut draw = Draw(number as u64 * 1_000 + run);
            let (mut world, mut fed) = (World::default(), Fed::default());
            for step in 0..40 {
                for _ in 0..=draw.below(3) {
                    for op in draw_ops(&world, kind, &mut draw) {
                        world.apply(op);
                        fed.apply(op);
                    }
                }
                fed.solve();
                let state = fed.state();
                check_proof(&world, &state);
                assert_eq!(state, expected(&world), "kind {number}, run {run}, step {step}: {world:?}");
                instances += 1;
            }
        }
    }
    assert!(instances >= 10_000, "{instances}");
}

#[test]
fn order_batching_and_slots_do_not_matter() {
    for (number, kind) in KINDS.into_iter().enumerate() {
        for run in 0..60 {
            let mut draw = Draw(77_000 + number as u64 * 1_000 + run);
            let kind = Kind { names: kind.names * 3, ..kind };
            let (mut world, mut fed) = (World::default(), Fed::default());
            for _ in 0..60 {
                for op in draw_ops(&world, kind, &mut draw) {
                    world.apply(op);
                    fed.apply(op);
                }
                if draw.below(3) == 0 {
                    fed.solve();
                }
            }
            fed.solve();
            let state = fed.state();
            check_proof(&world, &state);
            for size in [1, 5, usize::MAX] {
                let mut again = Fed::default();
                for (n, op) in world.ops(&mut draw).into_iter().enumerate() {
                    again.apply(op);
                    if (n + 1) % size == 0 {
                        again.solve();
                    }
                }
                again.solve();
                assert_eq!(again.state(), state, "kind {number}, run {run}, batches of {size}");
            }
        }
    }
}

#[test]
fn the_tie_rule_is_the_greatest_flow_in_edge_order() {
    // Every optimal flow of tiny instances, by enumeration.
    fn all(
        problem: &Problem,
        at: usize,
        left: &mut [i64],
        right: &mut [i64],
        flow: &mut Vec<i64>,
        out: &mut Vec<(i128, Vec<i64>)>,
    ) {
        let m = right.len();
        if at == left.len() * m {
            let worth = flow
                .iter()
                .enumerate()
                .map(|(e, x)| i128::from(problem.weight[e / m][e % m].unwrap_or(0).max(0)) * i128::from(*x));
            out.push((worth.sum(), flow.clone()));
            return;
        }
        let (i, j) = (at / m, at % m);
        let most = if problem.weight[i][j] > Some(0) { left[i].min(right[j]) } else { 0 };
        for x in 0..=most {
            left[i] -= x;
            right[j] -= x;
            flow.push(x);
            all(problem, at + 1, left, right, flow, out);
            flow.pop();
            left[i] += x;
            right[j] += x;
        }
    }
    for run in 0..2_000 {
        let mut draw = Draw(5_000_000 + run);
        let kind = Kind {
            names: 3,
            capacity_max: 1 + (run % 2) as i64,
            weight: (0, 2),
            density: 90,
            term_max: (run % 3) as i64,
        };
        let (mut world, mut fed) = (World::default(), Fed::default());
        for _ in 0..15 {
            for op in draw_ops(&world, kind, &mut draw) {
                world.apply(op);
                fed.apply(op);
            }
            fed.solve();
        }
        let (problem, left, right) = world.problem();
        let mut flows = Vec::new();
        all(&problem, 0, &mut problem.left.clone(), &mut problem.right.clone(), &mut Vec::new(), &mut flows);
        let (_, best) = flows.into_iter().max().unwrap();
        let m = right.len();
        let best = best.into_iter().enumerate().filter(|(_, x)| *x > 0).map(|(e, x)| ((left[e / m], right[e % m]), x));
        assert_eq!(fed.state().flow, best.collect(), "{world:?}");
    }
}

#[test]
fn values_equal_those_of_other_solvers() {
    let mut instances = 0;
    for run in 0..400 {
        let mut draw = Draw(9_000_000 + run);
        let names = 5 + draw.below(30) as u32;
        let (capacity_max, density) = ([1, 1, 3][run as usize % 3], [20, 60, 100][run as usize / 3 % 3]);
        let names = if capacity_max > 1 { names / 2 } else { names };
        let kind = Kind { names, capacity_max, weight: (-300, 1_000), density, term_max: (run % 2 * 200) as i64 };
        let (mut world, mut fed) = (World::default(), Fed::default());
        for step in 0..60 {
            for op in draw_ops(&world, kind, &mut draw) {
                world.apply(op);
                fed.apply(op);
            }
            fed.solve();
            let state = fed.state();
            check_proof(&world, &state);
            if step % 2 == 0 {
                continue;
            }
            instances += 1;
            let total: i128 = state.certificates.iter().map(|c| c.primal).sum();
            let (problem, ..) = world.problem();
            // To the others a unit of capacity is a node.
            let units = |capacities: &[i64]| -> Vec<usize> {
                capacities.iter().enumerate().flat_map(|(i, c)| std::iter::repeat_n(i, *c as usize)).collect()
            };
            let (rows, columns) = (units(&problem.left), units(&problem.right));
            let size = rows.len().max(columns.len());
            if size == 0 {
                continue;
            }
            let weight = |i: usize, j: usize| match (rows.get(i), columns.get(j)) {
                (Some(i), Some(j)) => problem.weight[*i][*j].unwrap_or(0).max(0),
                _ => 0,
            };
            let matrix = (0..size).map(|i| (0..size).map(|j| weight(i, j)).collect::<Vec<i64>>());
            let matrix = pathfinding::matrix::Matrix::from_rows(matrix).unwrap();
            let (other, _) = pathfinding::kuhn_munkres::kuhn_munkres(&matrix);
            assert_eq!(total, i128::from(other), "pathfinding, run {run}");
            let costs: Vec<f64> = (0..size * size).map(|e| -weight(e / size, e % size) as f64).collect();
            let costs = lapjv::Matrix::from_shape_vec((size, size), costs).unwrap();
            let (columns, _) = lapjv::lapjv(&costs).unwrap();
            let other: i64 = columns.iter().enumerate().map(|(i, j)| weight(i, *j)).sum();
            assert_eq!(total, i128::from(other), "lapjv, run {run}");
        }
    }
    assert!(instances >= 10_000, "{instances}");
}

#[test]
fn capacities_can_be_huge() {
    let mut fed = Fed::default();
    for op in [
        Op::Node(LEFT, 1, CAPACITY_MAX),
        Op::Node(LEFT, 2, CAPACITY_MAX),
        Op::Node(RIGHT, 1, CAPACITY_MAX),
        Op::Node(RIGHT, 2, 7),
        Op::Edge(1, 1, Some(WEIGHT_MAX)),
        Op::Edge(1, 2, Some(WEIGHT_MAX)),
        Op::Edge(2, 1, Some(WEIGHT_MAX - 1)),
        Op::Edge(2, 2, Some(5)),
    ] {
        fed.apply(op);
    }
    fed.solve();
    let flow = fed.state().flow;
    assert_eq!(flow[&(1, 1)], CAPACITY_MAX - 7);
    assert_eq!(flow[&(1, 2)], 7);
    assert_eq!(flow[&(2, 1)], 7);
}

#[test]
fn a_false_proof_is_refused() {
    let instance = Instance { left: vec![1, 1], right: vec![1], edges: vec![(0, 0, 5), (1, 0, 7)] };
    verify(&instance, &[(1, 0, 1)], (&[0, 2], &[5])).unwrap();
    verify(&instance, &[(0, 0, 1)], (&[0, 2], &[5])).unwrap_err();
    verify(&instance, &[(1, 0, 1)], (&[0, 0], &[5])).unwrap_err();
    verify(&instance, &[(1, 0, 1)], (&[0, 8], &[-1])).unwrap_err();
    verify(&instance, &[(1, 0, 2)], (&[0, 9], &[5])).unwrap_err();
    verify(&instance, &[(0, 0, 1), (1, 0, 1)], (&[5, 7], &[0])).unwrap_err();
}
