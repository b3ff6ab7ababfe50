//! The assignment once more, by the plainest means: re-solving from nothing, for models and tests.
//!
//! Optima come from the textbook Hungarian algorithm on a dense matrix with one row a unit of capacity. Prices are
//! differences of optima, and ties are decided by trying: neither shares a thought with the solver.

use std::sync::Arc;

use engine::catalogue::{Model, Row};
use types::{Column, RowCodec, Schema, Value};

use super::solver::{CAPACITY_MAX, LEFT, RIGHT, TERM_MAX};
use super::{Assignment, Rule, SIDES, Side, key_text, node_schema, pair_schema};
use crate::expression::evaluate_row;
use crate::grid::Place;

/// The rows of all three views from the rows of tasks, workers and edges.
pub(super) fn of(assignment: Arc<Assignment>) -> Model {
    Arc::new(move |inputs: &[Vec<Row>]| views(&assignment, inputs))
}

fn views(a: &Assignment, inputs: &[Vec<Row>]) -> Vec<Vec<Row>> {
    let [tasks, workers] = [LEFT, RIGHT].map(|side| {
        let mut rows = inputs[side].clone();
        rows.sort_by_key(|row| key(&a.sides[side], row));
        rows
    });
    let capacities = |side: &Side, rows: &[Row]| -> Vec<i64> {
        let of_row = |row: &Row| match side.capacity.map(|c| &row[c]) {
            None => 1,
            Some(Value::Int(c)) => (*c).clamp(0, CAPACITY_MAX),
            Some(_) => 0,
        };
        rows.iter().map(of_row).collect()
    };
    let mut problem = Problem {
        left: capacities(&a.sides[LEFT], &tasks),
        right: capacities(&a.sides[RIGHT], &workers),
        weight: vec![vec![None; workers.len()]; tasks.len()],
    };
    let worth = Worth::new(a);
    // A node whose term cannot be used takes no part.
    let mut terms = [vec![Some(0); tasks.len()], vec![Some(0); workers.len()]];
    for (side, rows, capacities) in [(LEFT, &tasks, &mut problem.left), (RIGHT, &workers, &mut problem.right)] {
        for ((row, term), capacity) in rows.iter().zip(&mut terms[side]).zip(capacities) {
            *term = worth.term(side, row);
            if term.is_none() {
                *capacity = 0;
            }
        }
    }
    for (i, task) in tasks.iter().enumerate().filter(|(i, _)| problem.left[*i] > 0) {
        let mut met: Vec<(usize, Row, f64)> = Vec::new();
        for (j, worker) in workers.iter().enumerate().filter(|(j, _)| problem.right[*j] > 0) {
            for (pair, distance_m) in pairs(a, task, worker, inputs.get(2)) {
                if worth.is_met(&pair) {
                    met.push((j, pair, distance_m));
                }
            }
        }
        if let Rule::Spatial { nearest: Some(nearest), .. } = a.rule {
            // Workers are in key order, and the sort is stable.
            met.sort_by(|x, y| x.2.total_cmp(&y.2));
            met.truncate(nearest);
        }
        for (j, pair, _) in met {
            let own = worth.weight(&pair).filter(|w| a.has_terms() || *w > 0);
            let terms = terms[LEFT][i].zip(terms[RIGHT][j]).map(|(task, worker)| task + worker);
            problem.weight[i][j] = problem.weight[i][j].max(own.zip(terms).map(|(own, terms)| own + terms));
        }
    }

    let parts = solve(&problem);
    let mut out = vec![Vec::new(), Vec::new(), Vec::new()];
    let float = |fixed: i128| Value::Float(a.scale.float(fixed));
    let name = |side: usize, row: &Row| Value::Str(key_text(&key(&a.sides[side], row)));
    for part in parts {
        for (i, j, count) in &part.flow {
            let mut row = key(&a.sides[LEFT], &tasks[*i]);
            row.extend(key(&a.sides[RIGHT], &workers[*j]));
            row.push(float(problem.weight[*i][*j].expect("matches are edges").into()));
            if a.sides.iter().any(|s| s.capacity.is_some()) {
                row.push(Value::Int(*count));
            }
            if let Rule::Spatial { columns, .. } = &a.rule {
                let [task, worker] = [place(&tasks[*i], columns[LEFT]), place(&workers[*j], columns[RIGHT])];
                row.push(Value::Float(task.unwrap().distance_m(&worker.unwrap())));
            }
            out[0].push(row);
        }
        let mut dual = 0;
        for (side, rows, capacity, nodes) in
            [(LEFT, &tasks, &problem.left, &part.left), (RIGHT, &workers, &problem.right, &part.right)]
        {
            for (at, price) in nodes {
                dual += i128::from(capacity[*at]) * i128::from(*price);
                out[1].push(vec![Value::Str(SIDES[side].to_owned()), name(side, &rows[*at]), float((*price).into())]);
            }
        }
        out[2].push(vec![
            name(LEFT, &tasks[part.left[0].0]),
            float(part.primal),
            float(dual),
            float(dual - part.primal),
            Value::Int((part.left.len() + part.right.len()) as i64),
            Value::Int(part.edges as i64),
        ]);
    }
    out
}

fn key(side: &Side, row: &Row) -> Vec<Value> {
    side.schema.key.iter().map(|k| row[*k].clone()).collect()
}

/// The rows a pair gives to the expressions, each with the distance: none if it is no candidate, several if several
/// edge rows list it.
fn pairs(a: &Assignment, task: &Row, worker: &Row, edges: Option<&Vec<Row>>) -> Vec<(Row, f64)> {
    let both: Row = task.iter().chain(worker).cloned().collect();
    let cells = |row: &Row, columns: &[usize]| -> Vec<Value> { columns.iter().map(|c| row[*c].clone()).collect() };
    match &a.rule {
        Rule::Edges { columns, .. } => {
            let lists = |edge: &&Row| {
                cells(edge, &columns[LEFT]) == key(&a.sides[LEFT], task)
                    && cells(edge, &columns[RIGHT]) == key(&a.sides[RIGHT], worker)
            };
            let edges = edges.into_iter().flatten().filter(lists);
            edges.map(|edge| (both.iter().chain(edge).cloned().collect(), 0.0)).collect()
        }
        Rule::Group { columns } => {
            let (left, right) = (cells(task, &columns[LEFT]), cells(worker, &columns[RIGHT]));
            if left == right && !left.contains(&Value::Null) { vec![(both, 0.0)] } else { Vec::new() }
        }
        Rule::Spatial { columns, radius_m, .. } => {
            let (Some(here), Some(there)) = (place(task, columns[LEFT]), place(worker, columns[RIGHT])) else {
                return Vec::new();
            };
            let distance = here.distance_m(&there);
            if distance > *radius_m {
                return Vec::new();
            }
            let mut row = both;
            row.push(Value::Float(distance));
            vec![(row, distance)]
        }
    }
}

fn place(row: &Row, columns: [usize; 2]) -> Option<Place> {
    let degrees = |c: usize| match row[c] {
        Value::Float(v) => Some(v),
        Value::Int(v) => Some(v as f64),
        _ => None,
    };
    Place::new(degrees(columns[0])?, degrees(columns[1])?)
}

/// Condition and weight, pair by pair.
struct Worth<'a> {
    assignment: &'a Assignment,
    codec: RowCodec,
    node_codecs: [RowCodec; 2],
}

impl Worth<'_> {
    fn new(assignment: &Assignment) -> Worth<'_> {
        // A relation has a key; a pair does not need one.
        let codec = |schema: Schema| {
            let columns = schema.columns.into_iter().map(|c| Column { nullable: true, ..c }).collect();
            RowCodec::new(&Schema { columns, key: vec![0], event_time: None, append_only: false })
        };
        Worth {
            assignment,
            codec: codec(pair_schema(&assignment.sides, &assignment.rule)),
            node_codecs: [LEFT, RIGHT].map(|side| codec(node_schema(&assignment.sides, side))),
        }
    }

    /// The term of a node in fixed point: 0 if nodes of its side have none, `None` if it cannot be used.
    fn term(&self, side: usize, node: &Row) -> Option<i64> {
        let Some(term) = &self.assignment.terms[side] else { return Some(0) };
        self.fixed(evaluate_row(term, &self.node_codecs[side], node), TERM_MAX)
    }

    fn is_met(&self, pair: &Row) -> bool {
        let Some(filter) = &self.assignment.filter else { return true };
        evaluate_row(filter, &self.codec, pair) == Ok(Value::Bool(true))
    }

    /// The pair's own weight in fixed point; `None` if there is none that can be used.
    fn weight(&self, pair: &Row) -> Option<i64> {
        self.fixed(evaluate_row(&self.assignment.weight, &self.codec, pair), self.assignment.weight_max())
    }

    fn fixed<E>(&self, value: Result<Value, E>, most: i64) -> Option<i64> {
        let value = match value {
            Ok(Value::Float(w)) => w,
            Ok(Value::Int(w)) => w as f64,
            Ok(Value::Decimal(w)) => w as f64,
            _ => return None,
        };
        self.assignment.scale.fixed(value, most)
    }
}

/// An instance: nodes by position, in the order of their keys.
#[derive(Clone, Debug, Default)]
pub struct Problem {
    /// The capacity of every left node.
    pub left: Vec<i64>,
    /// The capacity of every right node.
    pub right: Vec<i64>,
    /// `weight[i][j]`; `None` where there is no edge.
    pub weight: Vec<Vec<Option<i64>>>,
}

/// One component's answer. Nodes by their position in the problem.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// The left nodes with their prices, ascending.
    pub left: Vec<(usize, i64)>,
    /// The right nodes with their prices, ascending.
    pub right: Vec<(usize, i64)>,
    /// Matches: left, right, count; ascending.
    pub flow: Vec<(usize, usize, i64)>,
    /// The weight of the matches.
    pub primal: i128,
    /// How many edges there are.
    pub edges: u64,
}

/// The answer for every component, by the component's least left node.
pub fn solve(problem: &Problem) -> Vec<Part> {
    let has_edge = |i: usize, j: usize| problem.weight[i][j].is_some() && problem.left[i] > 0 && problem.right[j] > 0;
    let (n, m) = (problem.left.len(), problem.right.len());
    let mut of_left: Vec<usize> = (0..n).collect();
    let mut of_right: Vec<usize> = vec![usize::MAX; m];
    // Labels sink to the least left position until nothing changes.
    loop {
        let mut changed = false;
        for (i, left) in of_left.iter_mut().enumerate() {
            for j in (0..m).filter(|j| has_edge(i, *j)) {
                let least = (*left).min(of_right[j]);
                changed |= *left != least || of_right[j] != least;
                (*left, of_right[j]) = (least, least);
            }
        }
        if !changed {
            break;
        }
    }
    let mut parts = Vec::new();
    for label in 0..n {
        let lefts: Vec<usize> = (0..n).filter(|i| of_left[*i] == label).collect();
        let rights: Vec<usize> = (0..m).filter(|j| of_right[*j] == label).collect();
        if rights.is_empty() {
            continue;
        }
        let part = Problem {
            left: lefts.iter().map(|i| problem.left[*i]).collect(),
            right: rights.iter().map(|j| problem.right[*j]).collect(),
            weight: lefts.iter().map(|i| rights.iter().map(|j| problem.weight[*i][*j]).collect()).collect(),
        };
        let (u, v) = prices(&part);
        parts.push(Part {
            edges: part.weight.iter().flatten().flatten().count() as u64,
            primal: value(&part),
            flow: flow(&part).into_iter().map(|(i, j, x)| (lefts[i], rights[j], x)).collect(),
            left: lefts.into_iter().zip(u).collect(),
            right: rights.into_iter().zip(v).collect(),
        });
    }
    parts
}

/// A right price is what one more unit would be worth; a left price is the best that is left over.
fn prices(problem: &Problem) -> (Vec<i64>, Vec<i64>) {
    let now = value(problem);
    let worth = |j: usize| {
        let mut more = problem.clone();
        more.right[j] += 1;
        (value(&more) - now) as i64
    };
    let right: Vec<i64> = (0..problem.right.len()).map(worth).collect();
    let rest = |row: &Vec<Option<i64>>| row.iter().zip(&right).filter_map(|(w, v)| Some((*w)? - v)).max();
    let left = problem.weight.iter().map(|row| rest(row).unwrap_or(0).max(0));
    (left.collect(), right)
}

/// Edge by edge in order, as much as leaves the optimum within reach.
fn flow(problem: &Problem) -> Vec<(usize, usize, i64)> {
    let mut rest = problem.clone();
    let mut goal = value(problem);
    let mut flow = Vec::new();
    for i in 0..rest.left.len() {
        for j in 0..rest.right.len() {
            let Some(weight) = rest.weight[i][j].take().filter(|w| *w > 0) else { continue };
            for x in (0..=rest.left[i].min(rest.right[j])).rev() {
                rest.left[i] -= x;
                rest.right[j] -= x;
                let gain = i128::from(weight) * i128::from(x);
                if gain + value(&rest) == goal {
                    goal -= gain;
                    if x > 0 {
                        flow.push((i, j, x));
                    }
                    break;
                }
                assert!(x > 0, "an optimum stays within reach");
                rest.left[i] += x;
                rest.right[j] += x;
            }
        }
    }
    flow
}

/// The greatest weight there is (Kuhn 1955, Munkres 1957; the O(n²m) form with row-by-row insertion).
pub fn value(problem: &Problem) -> i128 {
    let copies = |own: &[i64], other: &[i64]| -> Vec<usize> {
        let most: i64 = other.iter().sum();
        (0..own.len()).flat_map(|i| std::iter::repeat_n(i, own[i].min(most) as usize)).collect()
    };
    let rows = copies(&problem.left, &problem.right);
    let columns = copies(&problem.right, &problem.left);
    let n = rows.len();
    // Every row can also take a column of its own that is worth nothing: staying unmatched.
    let m = columns.len() + n;
    let cost = |i: usize, j: usize| match columns.get(j) {
        Some(column) => -i128::from(problem.weight[rows[i]][*column].unwrap_or(0).max(0)),
        None => 0,
    };
    let (mut u, mut v) = (vec![0i128; n + 1], vec![0i128; m + 1]);
    let mut row_of = vec![n; m + 1]; // n: none
    for i in 0..n {
        row_of[m] = i;
        let mut j0 = m;
        let mut least = vec![i128::MAX; m + 1];
        let mut way = vec![m; m + 1];
        let mut used = vec![false; m + 1];
        while row_of[j0] != n {
            used[j0] = true;
            let i0 = row_of[j0];
            let (mut delta, mut j1) = (i128::MAX, m);
            for j in (0..m).filter(|j| !used[*j]) {
                let reduced = cost(i0, j) - u[i0] - v[j];
                if reduced < least[j] {
                    (least[j], way[j]) = (reduced, j0);
                }
                if least[j] < delta {
                    (delta, j1) = (least[j], j);
                }
            }
            for j in 0..=m {
                if used[j] {
                    u[row_of[j]] += delta;
                    v[j] -= delta;
                } else if least[j] < i128::MAX {
                    least[j] -= delta;
                }
            }
            j0 = j1;
        }
        while j0 != m {
            row_of[j0] = row_of[way[j0]];
            j0 = way[j0];
        }
        row_of[m] = n;
    }
    (0..m).filter(|j| row_of[*j] != n).map(|j| -cost(row_of[j], j)).sum()
}
