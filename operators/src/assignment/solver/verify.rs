//! The check of a proof: that matches are a flow and that prices prove no other is worth more, in one pass.

use std::collections::BTreeMap;

/// An instance as plain data, for [`verify`]. Nodes go by position.
#[derive(Clone, Debug, Default)]
pub struct Instance {
    /// The capacity of every left node.
    pub left: Vec<i64>,
    /// The capacity of every right node.
    pub right: Vec<i64>,
    /// Edges: left, right, weight.
    pub edges: Vec<(usize, usize, i64)>,
}

/// Checks in one pass that matches (left, right, count) are a flow and that prices (left, right) prove it optimal.
/// Nodes of capacity 0 take no part: their prices do not matter. Of parallel edges the heaviest counts.
pub fn verify(instance: &Instance, matches: &[(usize, usize, i64)], prices: (&[i64], &[i64])) -> Result<(), String> {
    let (u, v) = prices;
    if u.len() != instance.left.len() || v.len() != instance.right.len() {
        return Err("there must be one price a node".to_owned());
    }
    if let Some(price) = u.iter().chain(v).find(|p| **p < 0) {
        return Err(format!("a price is negative: {price}"));
    }
    let mut weights = BTreeMap::new();
    for (i, j, x) in matches {
        if *x <= 0 {
            return Err(format!("{i} and {j} are matched {x} times"));
        }
        weights.insert((*i, *j), 0);
    }
    for (i, j, w) in &instance.edges {
        if instance.left[*i] == 0 || instance.right[*j] == 0 {
            continue;
        }
        if i128::from(u[*i]) + i128::from(v[*j]) < i128::from(*w) {
            return Err(format!("prices {} + {} do not cover edge {i}-{j} of weight {w}", u[*i], v[*j]));
        }
        if let Some(known) = weights.get_mut(&(*i, *j)) {
            *known = (*known).max(*w);
        }
    }
    let (mut left, mut right) = (instance.left.clone(), instance.right.clone());
    let mut primal = 0;
    for (i, j, x) in matches {
        let w = weights[&(*i, *j)];
        if w <= 0 {
            return Err(format!("{i} and {j} are matched without an edge worth it"));
        }
        left[*i] -= x;
        right[*j] -= x;
        if left[*i] < 0 || right[*j] < 0 {
            return Err(format!("the match of {i} and {j} is beyond a capacity"));
        }
        primal += i128::from(*x) * i128::from(w);
    }
    let bound = |capacity: &[i64], price: &[i64]| -> i128 {
        capacity.iter().zip(price).map(|(c, p)| i128::from(*c) * i128::from(*p)).sum()
    };
    let dual = bound(&instance.left, u) + bound(&instance.right, v);
    if primal != dual {
        return Err(format!("the matches are worth {primal}, the prices prove no more than a bound of {dual}"));
    }
    Ok(())
}
