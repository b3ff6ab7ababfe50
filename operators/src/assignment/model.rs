//! The assignment once more, by the plainest means: re-solving from nothing, for models and tests.
//!
//! Optima come from the textbook Hungarian algorithm on a dense matrix with one row a unit of capacity. Prices are
//! differences of optima, and ties are decided by trying: neither shares a thought with the solver.

/// An instance: nodes by position, in the order of their keys.
#[derive(Clone, Debug, Default)]
pub struct Problem {
    /// The capacity of every left node.
    pub left: Vec<i64>,
    /// The capacity of every right node.
    pub right: Vec<i64>,
    /// `weight[i][j]`; 0 or less where there is no edge worth having.
    pub weight: Vec<Vec<i64>>,
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
    let has_edge = |i: usize, j: usize| problem.weight[i][j] > 0 && problem.left[i] > 0 && problem.right[j] > 0;
    let (n, m) = (problem.left.len(), problem.right.len());
    let mut of_left: Vec<usize> = (0..n).collect();
    let mut of_right: Vec<usize> = vec![usize::MAX; m];
    // Labels sink to the least left position until nothing changes.
    loop {
        let mut changed = false;
        for i in 0..n {
            for j in (0..m).filter(|j| has_edge(i, *j)) {
                let least = of_left[i].min(of_right[j]);
                changed |= of_left[i] != least || of_right[j] != least;
                (of_left[i], of_right[j]) = (least, least);
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
            weight: lefts.iter().map(|i| rights.iter().map(|j| problem.weight[*i][*j].max(0)).collect()).collect(),
        };
        let (u, v) = prices(&part);
        parts.push(Part {
            edges: part.weight.iter().flatten().filter(|w| **w > 0).count() as u64,
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
    let left = problem.weight.iter().map(|row| row.iter().zip(&right).map(|(w, v)| w - v).max().unwrap_or(0).max(0));
    (left.collect(), right)
}

/// Edge by edge in order, as much as leaves the optimum within reach.
fn flow(problem: &Problem) -> Vec<(usize, usize, i64)> {
    let mut rest = problem.clone();
    let mut goal = value(problem);
    let mut flow = Vec::new();
    for i in 0..rest.left.len() {
        for j in 0..rest.right.len() {
            let weight = std::mem::take(&mut rest.weight[i][j]);
            if weight <= 0 {
                continue;
            }
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
        Some(column) => -i128::from(problem.weight[rows[i]][*column].max(0)),
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
