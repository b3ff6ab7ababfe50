//! `assignment`: what it costs to be optimal again after a change, against solving anew with the fastest solver there is.
//!
//! *Dense*: n × n pairs; a change draws one whole row of weights anew. The limit is the `lapjv` crate (Jonker and
//! Volgenant) on the same matrix as floats, run every few changes between ours. *City*: 11 edges a task within blocks of
//! 32 nodes, from a thousand nodes to a million; a change draws a task's weights anew. *Rows*: the same change through
//! the whole step, from a changed row to changed views, many rows an epoch. *Memory*: a step with a million live nodes.
//!
//! Every value is compared with the limit's, and matches and prices are checked by the stand-alone checker, outside what
//! is timed.

use std::collections::BTreeMap;

use operators::assignment::solver::{Instance, LEFT, RIGHT, Repair, Solver, verify};

use crate::Options;
use crate::machine::{Scratch, resident_bytes};
use crate::measure::{Rng, Samples, quantile, timed};
use crate::report::Report;

/// Weights are of thirty bits, as prices in millionths of a unit are.
const WEIGHT_MAX: u64 = 1 << 30;
const ANEW: &str = "lapjv, solving anew";
/// Changes before any is timed: what is kept for quick repair is made in the course of the first.
const WARM_UP: usize = 50;

pub fn run(options: &Options, _: &Scratch, report: &mut Report) -> Result<(), String> {
    let mut gap_max = 0;
    let sizes: &[(u32, usize)] = options.pick(&[(200, 400), (500, 300), (1_000, 200), (2_000, 120)], &[(200, 60), (500, 60)]);
    for (size, changes) in sizes {
        gap_max = gap_max.max(dense(options, report, *size, *changes)?);
    }
    let sizes: &[(u32, &str)] = options.pick(&[(1_000, "1e3"), (31_622, "3e4"), (1_000_000, "1e6")], &[(1_000, "1e3")]);
    for (nodes, name) in sizes {
        gap_max = gap_max.max(city(options, report, *nodes, name)?);
    }
    let mut gap = Samples::default();
    gap.push(gap_max as f64);
    report.figure("gap_max", "weight", &gap);
    Ok(())
}

/// The greatest gap among the certificates issued; adds and takes away what they prove.
fn take_certificates(repair: &Repair, proven: &mut BTreeMap<Box<[u8]>, i128>) -> i128 {
    for certificate in &repair.retired {
        proven.remove(&certificate.key);
    }
    proven.extend(repair.issued.iter().map(|c| (c.key.clone(), c.primal)));
    repair.issued.iter().map(|c| c.dual - c.primal).max().unwrap_or(0)
}

/// Checks matches and prices of a solver against the weights it was given.
fn check(solver: &Solver, nodes: [u32; 2], edges: impl Iterator<Item = (u32, u32, i64)>) -> Result<(), String> {
    let prices = [LEFT, RIGHT].map(|side| -> Vec<i64> {
        (0..nodes[side]).map(|slot| solver.price(side, slot).unwrap_or(0)).collect()
    });
    let instance = Instance {
        left: vec![1; nodes[LEFT] as usize],
        right: vec![1; nodes[RIGHT] as usize],
        edges: edges.map(|(i, j, w)| (i as usize, j as usize, w)).collect(),
    };
    let matches: Vec<(usize, usize, i64)> = (0..nodes[LEFT])
        .flat_map(|i| solver.flow(LEFT, i).iter().map(move |(j, x)| (i as usize, *j as usize, *x)))
        .collect();
    verify(&instance, &matches, (&prices[LEFT], &prices[RIGHT]))
}

/// One whole row at a time, and apart from it one edge at a time.
fn dense(options: &Options, report: &mut Report, size: u32, changes: usize) -> Result<i128, String> {
    let n = size as usize;
    let (mut ours, mut anew, mut single) = (Samples::default(), Samples::default(), Samples::default());
    let mut gap_max = 0;
    for repetition in 0..options.repetitions() {
        report.progress(&format!("dense {size} × {size}, repetition {}", repetition + 1));
        let mut rng = Rng::new(1_000 + repetition as u64);
        let mut draw = || 1 + rng.below(WEIGHT_MAX) as i64;
        let mut weights: Vec<i64> = (0..n * n).map(|_| draw()).collect();
        let mut solver = Solver::new();
        for side in [LEFT, RIGHT] {
            (0..size).for_each(|slot| solver.set_node(side, slot, &slot.to_be_bytes(), 1));
        }
        for (left, row) in weights.chunks(n).enumerate() {
            solver.set_edges(left as u32, (0..size).zip(row.iter().copied()));
        }
        let mut proven = BTreeMap::new();
        gap_max = gap_max.max(take_certificates(&solver.solve(), &mut proven));

        let (mut seconds, mut seconds_anew, mut solved_anew) = (0.0, 0.0, 0);
        let mut rows = Rng::new(2_000 + repetition as u64);
        for change in 0..WARM_UP + changes {
            let left = rows.below(u64::from(size)) as u32;
            let row: Vec<i64> = (0..n).map(|_| draw()).collect();
            weights[left as usize * n..][..n].copy_from_slice(&row);
            let (repair, taken) = timed(|| {
                solver.set_edges(left, (0..size).zip(row.iter().copied()));
                solver.solve()
            });
            gap_max = gap_max.max(take_certificates(&repair, &mut proven));
            if change < WARM_UP {
                continue;
            }
            seconds += taken;
            if change % 20 == 0 {
                let (value, taken) = solve_anew(&weights, n)?;
                seconds_anew += taken;
                solved_anew += 1;
                let ours: i128 = proven.values().sum();
                if ours != value {
                    return Err(format!("{size} × {size}: ours is worth {ours}, lapjv's {value}"));
                }
            }
        }
        let edges = || (0..n * n).map(|e| ((e / n) as u32, (e % n) as u32, weights[e]));
        check(&solver, [size; 2], edges())?;
        ours.push(seconds / changes as f64 * 1e6);
        anew.push(seconds_anew / f64::from(solved_anew) * 1e6);

        let mut seconds = 0.0;
        for _ in 0..changes {
            let (left, right) = (rows.below(u64::from(size)) as u32, rows.below(u64::from(size)) as u32);
            let weight = draw();
            let (_, taken) = timed(|| {
                solver.set_edge(left, right, weight);
                solver.solve()
            });
            seconds += taken;
        }
        single.push(seconds / changes as f64 * 1e6);
    }
    report.against(&format!("us_per_change_n{size}"), "us", &ours, ANEW, &anew);
    report.against(&format!("us_per_edge_change_n{size}"), "us", &single, ANEW, &anew);
    Ok(gap_max)
}

/// The greatest value, by another's solver, and the seconds it took.
fn solve_anew(weights: &[i64], n: usize) -> Result<(i128, f64), String> {
    let costs = weights.iter().map(|w| -(*w as f64)).collect();
    let costs = lapjv::Matrix::from_shape_vec((n, n), costs).map_err(|e| e.to_string())?;
    let (solved, taken) = timed(|| lapjv::lapjv(&costs));
    let (columns, _) = solved.map_err(|e| format!("lapjv: {e:?}"))?;
    Ok((columns.iter().enumerate().map(|(i, j)| i128::from(weights[i * n + j])).sum(), taken))
}
