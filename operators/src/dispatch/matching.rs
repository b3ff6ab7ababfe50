//! Who serves whom this round: the matching of the greatest total weight, no negative pair ever forced.
//!
//! The graph of a round falls into small pieces, most of them one order and its candidates. A piece that is one order is
//! read off; the others go to the assignment's [`Solver`], whose answer is a function of the instance: of several best
//! matchings the lexicographically greatest, orders before drivers, least number first. Weights count in millionths.

use std::cmp::Reverse;

use crate::assignment::solver::{LEFT, RIGHT, Solver, WEIGHT_MAX};

/// Weights are rounded to this many parts of one.
const PARTS: f64 = 1e6;

/// A driver who may serve an order. Orders and drivers are numbers whose order is that of their ids.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Edge {
    /// The order.
    pub order: u32,
    /// The driver.
    pub driver: u32,
    /// What the pair is worth. Pairs worth nothing (after rounding) or less, or NaN, are never matched.
    pub weight: f64,
}

/// The best matching of a round: positions in `edges`, in the order of the orders. No pair may be listed twice.
///
/// `edges` must be grouped by order, orders ascending.
pub fn best(edges: &[Edge]) -> Vec<u32> {
    let weights: Vec<i64> = edges.iter().map(|e| whole(e.weight)).collect();
    let mut drivers: Vec<u32> = used(edges, &weights).map(|e| e.driver).collect();
    drivers.sort_unstable();
    let mut chosen = Vec::new();
    let mut shared: Vec<u32> = Vec::new();
    let mut start = 0;
    for of_order in edges.chunk_by(|a, b| a.order == b.order) {
        let end = start + of_order.len();
        let is_alone = used(of_order, &weights[start..end]).all(|e| {
            let first = drivers.partition_point(|driver| *driver < e.driver);
            drivers.get(first + 1) != Some(&e.driver)
        });
        let positions = (start..end).filter(|at| weights[*at] > 0);
        if is_alone {
            let best = positions.max_by_key(|at| (weights[*at], Reverse(edges[*at].driver)));
            chosen.extend(best.map(|at| at as u32));
        } else {
            shared.extend(positions.map(|at| at as u32));
        }
        start = end;
    }
    if !shared.is_empty() {
        solve(edges, &weights, &shared, &mut chosen);
        chosen.sort_unstable();
    }
    chosen
}

/// The pairs that may be matched.
fn used<'a>(edges: &'a [Edge], weights: &'a [i64]) -> impl Iterator<Item = &'a Edge> {
    edges.iter().zip(weights).filter(|(_, weight)| **weight > 0).map(|(edge, _)| edge)
}

/// Matches orders that compete for drivers. The solver finds the pieces itself.
fn solve(edges: &[Edge], weights: &[i64], shared: &[u32], chosen: &mut Vec<u32>) {
    let mut solver = Solver::new();
    let ids = |of: fn(&Edge) -> u32| {
        let mut ids: Vec<u32> = shared.iter().map(|at| of(&edges[*at as usize])).collect();
        ids.sort_unstable();
        ids.dedup();
        ids
    };
    let sides = [ids(|e| e.order), ids(|e| e.driver)];
    for (side, ids) in [LEFT, RIGHT].into_iter().zip(&sides) {
        for (slot, id) in ids.iter().enumerate() {
            solver.set_node(side, slot as u32, &id.to_be_bytes(), 1);
        }
    }
    let slot = |side: usize, id: u32| sides[side].binary_search(&id).expect("it was listed") as u32;
    for at in shared {
        let edge = &edges[*at as usize];
        solver.set_edge(slot(LEFT, edge.order), slot(RIGHT, edge.driver), Some(weights[*at as usize]));
    }
    solver.solve();
    chosen.extend(shared.iter().filter(|at| {
        let edge = &edges[**at as usize];
        let right = slot(RIGHT, edge.driver);
        solver.flow(LEFT, slot(LEFT, edge.order)).iter().any(|(other, count)| *other == right && *count > 0)
    }));
}

fn whole(weight: f64) -> i64 {
    let parts = libm::round(weight * PARTS);
    if parts.is_nan() { 0 } else { parts.clamp(-(WEIGHT_MAX as f64), WEIGHT_MAX as f64) as i64 }
}
