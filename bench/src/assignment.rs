//! `assignment`: what it costs to be optimal again after a change, against solving anew with the fastest solver there is.
//!
//! *Dense*: n × n pairs; a change draws one whole row of weights anew, and apart from that one edge, or one node's term.
//! The limit is the `lapjv` crate (Jonker and Volgenant) on the same matrix as floats, run every few changes between ours.
//! *City*: 11 edges a task within blocks of 32 nodes, from a thousand nodes to a million; a change draws all weights of a
//! task anew. *Tied*: rings of tasks, each with up to 11 workers near it and weights of three values only, so that nearly
//! all of one large component is tied; a change draws all weights of a task anew. *Step*: the whole operator with a million live nodes found by their places, what it holds in memory, and what
//! a changed row costs from row to views.
//!
//! Where the limit is run values are compared, every certificate's gap is taken, and in the end matches and prices are
//! checked by the stand-alone checker: all outside what is timed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{Float64Array, Int64Array, RecordBatch};
use engine::operator::{Context, StepKind, TableOperator};
use operators::assignment::solver::{Instance, LEFT, RIGHT, Repair, Solver, verify};
use operators::assignment::{Assignment, Rule, Scale, Side};
use types::{Column, Delta, Schema, Type};

use crate::Options;
use crate::machine::{Scratch, resident_bytes};
use crate::measure::{Rng, Samples, quantile, timed};
use crate::report::Report;

/// Weights are of thirty bits, as prices in millionths of a unit are.
const WEIGHT_MAX: u64 = 1 << 30;
const ANEW: &str = "lapjv, solving anew";
/// Changes of a dense graph before any is timed: what is kept for quick repair is made in the course of the first.
const WARM_UP: usize = 50;
/// Of a city: the tasks and the workers of a block, and the workers a task may have.
const BLOCK: u32 = 16;
const DEGREE: u32 = 11;
/// Of a ring: how far a task's workers are, and how many values weights have.
const REACH: u64 = 40;
const TIED_VALUES: u64 = 3;
/// Rows changed at once, of the whole step.
const ROWS: usize = 1_000;
/// How long freed memory may take to go back to the system before what is resident is read.
const SETTLE: Duration = Duration::from_secs(3);

pub fn run(options: &Options, _: &Scratch, report: &mut Report) -> Result<(), String> {
    let mut gaps = Samples::default();
    let sizes: &[(u32, usize)] =
        options.pick(&[(200, 400), (500, 300), (1_000, 200), (2_000, 120)], &[(200, 60), (500, 60)]);
    for (size, changes) in sizes {
        let mut of_size = Dense::default();
        for repetition in 0..options.repetitions() {
            report.progress(&format!("dense {size} × {size}, repetition {}", repetition + 1));
            of_size.run(repetition as u64, *size, *changes)?;
        }
        report.against(&format!("us_per_change_n{size}"), "us", &of_size.row, ANEW, &of_size.anew);
        report.against(&format!("us_per_edge_change_n{size}"), "us", &of_size.edge, ANEW, &of_size.anew);
        report.against(&format!("us_per_term_change_n{size}"), "us", &of_size.term, ANEW, &of_size.anew);
        gaps.push(of_size.gap_max as f64);
    }
    let sizes: &[(u32, &str)] = options.pick(&[(1_000, "1e3"), (32_000, "3e4"), (1_000_000, "1e6")], &[(1_000, "1e3")]);
    for (nodes, name) in sizes {
        let mut of_size = City::default();
        for repetition in 0..options.repetitions() {
            report.progress(&format!("city of {nodes} nodes, repetition {}", repetition + 1));
            of_size.run(repetition as u64, *nodes, options.pick(20_000, 2_000))?;
        }
        report.figure(&format!("us_per_change_city_{name}"), "us", &of_size.middle);
        report.figure(&format!("us_per_change_city_{name}_p99"), "us", &of_size.late);
        gaps.push(of_size.gap_max as f64);
    }
    let sizes: &[(u32, usize, &str)] = options.pick(&[(1_000, 100, "1e3"), (10_000, 20, "1e4")], &[(1_000, 20, "1e3")]);
    for (tasks, changes, name) in sizes {
        let mut of_size = Tied::default();
        for repetition in 0..options.repetitions() {
            report.progress(&format!("ring of {tasks} tied tasks, repetition {}", repetition + 1));
            of_size.run(repetition as u64, *tasks, *changes)?;
        }
        report.figure(&format!("us_per_change_tied_{name}"), "us", &of_size.middle);
        gaps.push(of_size.gap_max as f64);
    }
    // The worst of all, not the middle.
    let mut gap_max = Samples::default();
    gap_max.push(gaps.spread().1);
    report.figure("gap_max", "weight", &gap_max);

    let mut of_step = WholeStep::default();
    let nodes = options.pick(1_000_000, 32_000);
    for repetition in 0..options.repetitions() {
        report.progress(&format!("step with {nodes} nodes, repetition {}", repetition + 1));
        of_step.run(repetition as u64, nodes, options.pick(50, 5), SETTLE)?;
    }
    let name = options.pick("1m", "quick");
    report.figure(&format!("bytes_per_node_{name}"), "bytes", &of_step.bytes_per_node);
    report.figure(&format!("us_per_row_{name}"), "us", &of_step.per_row);
    Ok(())
}

/// What certificates prove, by component.
#[derive(Debug, Default)]
struct Proven {
    by_component: BTreeMap<Box<[u8]>, i128>,
    gap_max: i128,
}

impl Proven {
    fn take(&mut self, repair: &Repair) {
        for certificate in &repair.retired {
            self.by_component.remove(&certificate.key);
        }
        for certificate in &repair.issued {
            self.by_component.insert(certificate.key.clone(), certificate.primal);
            self.gap_max = self.gap_max.max(certificate.dual - certificate.primal);
        }
    }

    fn value(&self) -> i128 {
        self.by_component.values().sum()
    }
}

/// Checks matches and prices of a solver against the weights it was given; all capacities are 1.
fn check(solver: &Solver, nodes: u32, edges: impl Iterator<Item = (u32, u32, i64)>) -> Result<(), String> {
    let prices = [LEFT, RIGHT]
        .map(|side| -> Vec<i64> { (0..nodes).map(|slot| solver.price(side, slot).unwrap_or(0)).collect() });
    let instance = Instance {
        left: vec![1; nodes as usize],
        right: vec![1; nodes as usize],
        edges: edges.map(|(i, j, w)| (i as usize, j as usize, w)).collect(),
    };
    let matches: Vec<(usize, usize, i64)> =
        (0..nodes).flat_map(|i| solver.flow(LEFT, i).iter().map(move |(j, x)| (i as usize, *j as usize, *x))).collect();
    verify(&instance, &matches, (&prices[LEFT], &prices[RIGHT]))
}

/// A solver with as many nodes on either side, each of capacity 1.
fn solver_of(nodes: u32) -> Solver {
    let mut solver = Solver::new();
    for side in [LEFT, RIGHT] {
        (0..nodes).for_each(|slot| solver.set_node(side, slot, &slot.to_be_bytes(), 1));
    }
    solver
}

fn weight(rng: &mut Rng) -> i64 {
    1 + rng.below(WEIGHT_MAX) as i64
}

/// Dense graphs of one size: microseconds a change.
#[derive(Debug, Default)]
struct Dense {
    /// A whole row drawn anew.
    row: Samples,
    /// One edge drawn anew: mostly nothing is to be repaired.
    edge: Samples,
    /// One node's term drawn anew, which shifts a whole row.
    term: Samples,
    /// Solving anew.
    anew: Samples,
    gap_max: i128,
}

impl Dense {
    fn run(&mut self, seed: u64, size: u32, changes: usize) -> Result<(), String> {
        let n = size as usize;
        let (mut rng, mut rows) = (Rng::new(1_000 + seed), Rng::new(2_000 + seed));
        let mut weights: Vec<i64> = (0..n * n).map(|_| weight(&mut rng)).collect();
        let mut solver = solver_of(size);
        for (left, row) in weights.chunks(n).enumerate() {
            solver.set_edges(left as u32, (0..size).zip(row.iter().copied().map(Some)));
        }
        let mut proven = Proven::default();
        proven.take(&solver.solve());

        let (mut seconds, mut seconds_anew, mut solved_anew) = (0.0, 0.0, 0);
        for change in 0..WARM_UP + changes {
            let left = rows.below(u64::from(size)) as u32;
            let row: Vec<i64> = (0..n).map(|_| weight(&mut rng)).collect();
            weights[left as usize * n..][..n].copy_from_slice(&row);
            let (repair, taken) = timed(|| {
                solver.set_edges(left, (0..size).zip(row.iter().copied().map(Some)));
                solver.solve()
            });
            proven.take(&repair);
            if change < WARM_UP {
                continue;
            }
            seconds += taken;
            if change % 20 == 0 {
                let (value, taken) = solve_anew(&weights, n)?;
                seconds_anew += taken;
                solved_anew += 1;
                if proven.value() != value {
                    return Err(format!("{size} × {size}: ours is worth {}, lapjv's {value}", proven.value()));
                }
            }
        }
        let edge = |e: usize| ((e / n) as u32, (e % n) as u32);
        check(&solver, size, (0..n * n).map(|e| (edge(e).0, edge(e).1, weights[e])))?;
        self.row.push(seconds / changes as f64 * 1e6);
        self.anew.push(seconds_anew / f64::from(solved_anew) * 1e6);

        let mut seconds = 0.0;
        for _ in 0..changes {
            let (left, right) = (rows.below(u64::from(size)) as u32, rows.below(u64::from(size)) as u32);
            let weight = weight(&mut rng);
            weights[left as usize * n + right as usize] = weight;
            let (repair, taken) = timed(|| {
                solver.set_edge(left, right, Some(weight));
                solver.solve()
            });
            proven.take(&repair);
            seconds += taken;
        }
        self.edge.push(seconds / changes as f64 * 1e6);

        let (mut seconds, mut terms) = (0.0, vec![0; n]);
        for _ in 0..changes {
            let (left, term) = (rows.below(u64::from(size)) as u32, weight(&mut rng) / 8);
            terms[left as usize] = term;
            let (repair, taken) = timed(|| {
                solver.set_term(LEFT, left, term);
                solver.solve()
            });
            proven.take(&repair);
            seconds += taken;
        }
        check(&solver, size, (0..n * n).map(|e| (edge(e).0, edge(e).1, weights[e] + terms[e / n])))?;
        self.term.push(seconds / changes as f64 * 1e6);
        self.gap_max = self.gap_max.max(proven.gap_max);
        Ok(())
    }
}

/// The greatest value, by another's solver, and the seconds it took.
fn solve_anew(weights: &[i64], n: usize) -> Result<(i128, f64), String> {
    let costs = weights.iter().map(|w| -(*w as f64)).collect();
    let costs = lapjv::Matrix::from_shape_vec((n, n), costs).map_err(|e| e.to_string())?;
    let (solved, taken) = timed(|| lapjv::lapjv(&costs));
    let (columns, _) = solved.map_err(|e| format!("lapjv: {e:?}"))?;
    Ok((columns.iter().enumerate().map(|(i, j)| i128::from(weights[i * n + j])).sum(), taken))
}

/// Cities of one size: microseconds a change, of a repetition the middle one and one of the latest.
#[derive(Debug, Default)]
struct City {
    middle: Samples,
    late: Samples,
    gap_max: i128,
}

impl City {
    fn run(&mut self, seed: u64, nodes: u32, changes: usize) -> Result<(), String> {
        let mut rng = Rng::new(3_000 + seed);
        let tasks = (nodes / 2).next_multiple_of(BLOCK);
        let mut edges: Vec<(u32, i64)> = Vec::with_capacity((tasks * DEGREE) as usize);
        let mut solver = solver_of(tasks);
        for task in 0..tasks {
            let first = rng.below(u64::from(BLOCK)) as u32;
            let worker = |n: u32| task / BLOCK * BLOCK + (first + n) % BLOCK;
            edges.extend((0..DEGREE).map(|n| (worker(n), weight(&mut rng))));
            let of_task = &edges[(task * DEGREE) as usize..];
            solver.set_edges(task, of_task.iter().map(|(worker, w)| (*worker, Some(*w))));
        }
        let mut proven = Proven::default();
        proven.take(&solver.solve());

        let mut micros = Vec::with_capacity(changes);
        for _ in 0..changes {
            let task = rng.below(u64::from(tasks)) as u32;
            let of_task = &mut edges[(task * DEGREE) as usize..][..DEGREE as usize];
            of_task.iter_mut().for_each(|(_, w)| *w = weight(&mut rng));
            let (repair, taken) = timed(|| {
                solver.set_edges(task, of_task.iter().map(|(worker, w)| (*worker, Some(*w))));
                solver.solve()
            });
            proven.take(&repair);
            micros.push(taken * 1e6);
        }
        let all = edges.iter().enumerate().map(|(e, (worker, w))| (e as u32 / DEGREE, *worker, *w));
        check(&solver, tasks, all)?;
        micros.sort_unstable_by(f64::total_cmp);
        self.middle.push(quantile(&micros, 0.5));
        self.late.push(quantile(&micros, 0.99));
        self.gap_max = self.gap_max.max(proven.gap_max);
        Ok(())
    }
}

/// Rings of one size in which nearly everything is tied: the middle of microseconds a change.
#[derive(Debug, Default)]
struct Tied {
    middle: Samples,
    gap_max: i128,
}

impl Tied {
    fn run(&mut self, seed: u64, tasks: u32, changes: usize) -> Result<(), String> {
        let mut rng = Rng::new(5_000 + seed);
        let mut solver = solver_of(tasks);
        let mut edges: Vec<Vec<(u32, i64)>> = Vec::with_capacity(tasks as usize);
        for task in 0..tasks {
            let near = (0..DEGREE).map(|_| (task + rng.below(REACH) as u32) % tasks);
            let workers: BTreeSet<u32> = near.collect();
            edges.push(workers.into_iter().map(|worker| (worker, 1 + rng.below(TIED_VALUES) as i64)).collect());
            solver.set_edges(task, edges[task as usize].iter().map(|(worker, w)| (*worker, Some(*w))));
        }
        let mut proven = Proven::default();
        proven.take(&solver.solve());
        let mut micros = Vec::with_capacity(changes);
        for _ in 0..changes {
            let task = rng.below(u64::from(tasks)) as u32;
            let of_task = &mut edges[task as usize];
            of_task.iter_mut().for_each(|(_, w)| *w = 1 + rng.below(TIED_VALUES) as i64);
            let (repair, taken) = timed(|| {
                solver.set_edges(task, of_task.iter().map(|(worker, w)| (*worker, Some(*w))));
                solver.solve()
            });
            proven.take(&repair);
            micros.push(taken * 1e6);
        }
        let all = (0..).zip(&edges).flat_map(|(task, of_task)| of_task.iter().map(move |(j, w)| (task, *j, *w)));
        check(&solver, tasks, all)?;
        micros.sort_unstable_by(f64::total_cmp);
        self.middle.push(quantile(&micros, 0.5));
        self.gap_max = self.gap_max.max(proven.gap_max);
        Ok(())
    }
}

/// The whole operator over a city of places: blocks as before, 11 km apart, each task with its nearest workers.
#[derive(Debug, Default)]
struct WholeStep {
    bytes_per_node: Samples,
    per_row: Samples,
}

impl WholeStep {
    fn run(&mut self, seed: u64, nodes: u32, epochs: usize, settle: Duration) -> Result<(), String> {
        let mut rng = Rng::new(4_000 + seed);
        let per_side = (nodes / 2).next_multiple_of(BLOCK);
        let across = (per_side / BLOCK).isqrt() + 1;
        let mut place = |node: u32| -> (f64, f64) {
            let block = node / BLOCK;
            // About 1,100 m by 900 m.
            let mut jitter = || rng.below(10_000) as f64 * 1e-6;
            (f64::from(block / across) * 0.1 + jitter(), f64::from(block % across) * 0.1 + jitter())
        };
        let mut tasks: Vec<Node> = Vec::with_capacity(per_side as usize);
        let mut workers = tasks.clone();
        for id in 0..per_side {
            for side in [&mut tasks, &mut workers] {
                let (lat, lon) = place(id);
                side.push(Node { id: id.into(), lat, lon, fare: 3.0 });
            }
        }
        tasks.iter_mut().for_each(|task| task.fare += rng.below(10_000) as f64 / 1_000.0);

        std::thread::sleep(settle);
        let before = resident_bytes(std::process::id())?;
        let mut step = new_step()?;
        let whole = [batch(&tasks), batch(&workers)].map(|rows| vec![Delta::insert(rows)]);
        let mut context = Context::new(1, 0, 3);
        step.step(whole.into(), &mut context);
        drop(context);
        std::thread::sleep(settle);
        let bytes = resident_bytes(std::process::id())?.saturating_sub(before);
        self.bytes_per_node.push(bytes as f64 / f64::from(2 * per_side));

        let (mut seconds, mut matched) = (0.0, 0);
        for epoch in 0..epochs {
            let mut changed: Vec<usize> = (0..ROWS).map(|_| rng.below(u64::from(per_side)) as usize).collect();
            changed.sort_unstable();
            changed.dedup();
            let rows = |tasks: &[Node]| batch(&changed.iter().map(|at| tasks[*at].clone()).collect::<Vec<_>>());
            let old = rows(&tasks);
            changed.iter().for_each(|at| tasks[*at].fare = 3.0 + rng.below(10_000) as f64 / 1_000.0);
            let new = rows(&tasks);
            let inputs = vec![vec![Delta::delete(old), Delta::insert(new)], Vec::new()];
            let mut context = Context::new(epoch as u64 + 2, 0, 3);
            let ((), taken) = timed(|| step.step(inputs, &mut context));
            let (outputs, ..) = context.into_parts();
            matched += outputs[0].iter().map(Delta::len).sum::<usize>();
            seconds += taken / changed.len() as f64;
        }
        self.per_row.push(seconds / epochs as f64 * 1e6);
        if matched == 0 { Err("nothing was matched anew".to_owned()) } else { Ok(()) }
    }
}

/// A task or a worker; a worker's fare says nothing.
#[derive(Clone, Debug)]
struct Node {
    id: i64,
    lat: f64,
    lon: f64,
    fare: f64,
}

fn schema() -> Schema {
    let column = |(name, ty): (&str, Type)| Column { name: name.to_owned(), ty, nullable: false };
    let columns = [("id", Type::Int64), ("lat", Type::Float64), ("lon", Type::Float64), ("fare", Type::Float64)];
    Schema { columns: columns.map(column).into(), key: vec![0], event_time: None, append_only: false }
}

fn batch(nodes: &[Node]) -> RecordBatch {
    let floats = |of: fn(&Node) -> f64| Arc::new(Float64Array::from_iter_values(nodes.iter().map(of)));
    let ids = Arc::new(Int64Array::from_iter_values(nodes.iter().map(|n| n.id)));
    let columns = vec![ids as _, floats(|n| n.lat) as _, floats(|n| n.lon) as _, floats(|n| n.fare) as _];
    RecordBatch::try_new(schema().arrow(), columns).expect("columns of the schema")
}

fn new_step() -> Result<Box<dyn TableOperator>, String> {
    let side = |relation: &str| Side { relation: relation.to_owned(), schema: schema(), capacity: None };
    let rule = Rule::Spatial { columns: [[1, 2], [1, 2]], radius_m: 2_000.0, nearest: Some(DEGREE as usize) };
    let sides = [side("tasks"), side("workers")];
    let assignment = Assignment::new(sides, rule, "task_fare - 0.001 * distance_m", None, Scale::default());
    let plan = assignment.map_err(|(option, message)| format!("{option}: {message}"))?.plan();
    match plan.kind {
        StepKind::Table(new) => Ok(new()),
        other => Err(format!("the step is a {other:?}, not a function of tables")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_graphs_are_solved_as_the_limit_solves_them() {
        let (mut dense, mut city, mut step) = (Dense::default(), City::default(), WholeStep::default());
        dense.run(1, 20, 100).unwrap();
        city.run(1, 100, 200).unwrap();
        step.run(1, 200, 3, Duration::ZERO).unwrap();
        let mut tied = Tied::default();
        tied.run(1, 100, 50).unwrap();
        assert_eq!((dense.gap_max, city.gap_max, tied.gap_max), (0, 0, 0));
        assert!(dense.row.median() > 0.0 && city.middle.median() > 0.0 && step.per_row.median() > 0.0);
    }
}
