//! What an auction comes to: sums over its requests that cancel exactly, and the figures made of them.

use std::collections::BTreeMap;

use types::{Type, Value};

use super::score::{Scale, float_score};
use super::views::{Outcome, Shown};
use crate::exact_sum::ExactSum;

/// The columns of the view `fairness`, the key first; whether each may be null.
pub const COLUMNS: [(&str, Type, bool); 25] = [
    ("market", Type::String, false),
    ("requests", Type::Int64, false),
    ("resources", Type::Int64, false),
    ("feasible_pairs", Type::Int64, false),
    ("allocated", Type::Int64, false),
    ("rejected", Type::Int64, false),
    ("value", Type::Float64, false),
    ("efficiency", Type::Float64, true),
    ("satisfaction", Type::Float64, true),
    ("utilisation", Type::Float64, true),
    ("capacity", Type::Float64, false),
    ("used", Type::Float64, false),
    ("capacity_utilisation", Type::Float64, true),
    ("energy_mean", Type::Float64, true),
    ("revenue", Type::Float64, false),
    ("revenue_published", Type::Float64, false),
    ("jain_requests", Type::Float64, true),
    ("jain_winners", Type::Float64, true),
    ("requesters", Type::Int64, false),
    ("jain_requesters", Type::Float64, true),
    ("bound", Type::Float64, true),
    ("gap", Type::Float64, true),
    ("efficiency_bound", Type::Float64, true),
    ("value_unclustered", Type::Float64, true),
    ("cluster_loss", Type::Float64, true),
];

/// What a mechanism knows beside its allocations.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Beside {
    /// Pairs whose needs, capacity and budget allow it.
    pub feasible_pairs: u64,
    /// What no allocation exceeds.
    pub bound: Option<i128>,
    /// The value the same mechanism reaches without clusters.
    pub value_unclustered: Option<i128>,
}

/// Sums over the requests and resources of one market.
#[derive(Debug, Default)]
pub struct Totals {
    requests: i64,
    allocated: i64,
    resources: i64,
    resources_used: i64,
    value: i128,
    squares: i128,
    capacity: i128,
    used: i128,
    energy: Sum,
    revenue: Sum,
    revenue_published: Sum,
    /// By requester, how many requests it has and what they are worth, in the unit of fairness.
    requesters: BTreeMap<Box<[u8]>, (i64, i128)>,
    requester_squares: i128,
}

/// An exact sum of floats.
#[derive(Debug)]
struct Sum(ExactSum);

impl Default for Sum {
    fn default() -> Sum {
        Sum(ExactSum::new())
    }
}

/// Units of score in the unit of fairness, 10⁻⁶: its squares can be added without end.
const FAIRNESS_UNIT: i64 = 1_000_000;

impl Totals {
    /// Adds (1) or takes away (−1) a request with what it got.
    pub fn count(&mut self, shown: &Shown, sign: i64) {
        self.requests += sign;
        let mut worth = 0;
        if let Outcome::Allocated(a) = &shown.outcome {
            let wide = i128::from(sign);
            self.allocated += sign;
            self.value += wide * i128::from(a.score);
            self.used += wide * i128::from(a.take);
            worth = i128::from(a.score / FAIRNESS_UNIT);
            self.squares += wide * worth * worth;
            self.energy.0.add_times(a.energy, sign);
            self.revenue.0.add_times(a.payment, sign);
            self.revenue_published.0.add_times(a.payment * a.demand, sign);
        }
        let mut entry = self.requesters.remove(&shown.requester).unwrap_or_default();
        self.requester_squares -= entry.1 * entry.1;
        entry.0 += sign;
        entry.1 += i128::from(sign) * worth;
        self.requester_squares += entry.1 * entry.1;
        if entry.0 > 0 {
            self.requesters.insert(shown.requester.clone(), entry);
        }
    }

    /// Adds (1) or takes away (−1) a resource.
    pub fn count_resource(&mut self, room: i64, is_used: bool, sign: i64) {
        self.resources += sign;
        self.capacity += i128::from(sign) * i128::from(room);
        self.resources_used += if is_used { sign } else { 0 };
    }

    /// The sum of the scores.
    pub fn value(&self) -> i128 {
        self.value
    }

    /// Whether there is nothing.
    pub fn is_empty(&self) -> bool {
        self.requests == 0 && self.resources == 0
    }

    /// The row of `fairness`.
    pub fn row(&self, market: &str, scale: Scale, beside: &Beside) -> Vec<Value> {
        let share = |part: f64, whole: f64| if whole > 0.0 { Value::Float(part / whole) } else { Value::Null };
        let jain = |sum: i128, squares: i128, count: i64| {
            let (sum, squares) = (sum as f64, squares as f64);
            share(sum * sum, count as f64 * squares)
        };
        let value = float_score(self.value);
        let worth = self.requesters.values().map(|(_, worth)| worth).sum();
        let bound = beside.bound.map(float_score);
        let unclustered = beside.value_unclustered.map(float_score);
        let or_null = |value: Option<f64>| value.map_or(Value::Null, Value::Float);
        vec![
            Value::Str(market.to_owned()),
            Value::Int(self.requests),
            Value::Int(self.resources),
            Value::Int(beside.feasible_pairs as i64),
            Value::Int(self.allocated),
            Value::Int(self.requests - self.allocated),
            Value::Float(value),
            share(value, self.requests as f64),
            share(self.allocated as f64, self.requests as f64),
            share(self.resources_used as f64, self.resources as f64),
            Value::Float(scale.float(self.capacity)),
            Value::Float(scale.float(self.used)),
            share(scale.float(self.used), scale.float(self.capacity)),
            share(self.energy.0.value(), self.allocated as f64),
            Value::Float(self.revenue.0.value() + 0.0),
            Value::Float(self.revenue_published.0.value() + 0.0),
            jain(worth, self.squares, self.requests),
            jain(worth, self.squares, self.allocated),
            Value::Int(self.requesters.len() as i64),
            jain(worth, self.requester_squares, self.requesters.len() as i64),
            or_null(bound),
            bound.map_or(Value::Null, |bound| if bound > 0.0 { share(bound - value, bound) } else { Value::Float(0.0) }),
            bound.map_or(Value::Null, |bound| share(bound, self.requests as f64)),
            or_null(unclustered),
            unclustered.map_or(Value::Null, |other| if other > 0.0 { share(other - value, other) } else { Value::Float(0.0) }),
        ]
    }
}
