//! Which cluster a resource and a request belong to, and what came of each.

use std::collections::BTreeMap;

use types::Value;

use super::book::{Book, Stage};
use super::cluster::ward;
use super::score::{Resource, Scale, float_score};
use super::views::{Outcome, Shown};

/// The resources of a market with their clusters.
///
/// Features are where a resource is, what it costs and how good it is, each brought to [0, 1] over the market; the
/// coordinates by one factor, so that distances keep their proportions.
pub fn of_resources(book: &Book, clusters: usize) -> Vec<(u32, u32)> {
    let slots: Vec<u32> = book.resources.in_order().collect();
    let known: Vec<&Resource> = slots.iter().map(|j| book.resource(*j).expect("it is there")).collect();
    let range = |of: &dyn Fn(&Resource) -> f64| {
        let (low, high) = known
            .iter()
            .map(|r| of(r))
            .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), v| (low.min(v), high.max(v)));
        (low, high - low)
    };
    let part = |value: f64, (low, width): (f64, f64)| if width > 0.0 { (value - low) / width } else { 0.0 };
    let places = [0, 1, 2].map(|d| range(&|r| r.place[d]));
    let extent = places.iter().fold(0.0f64, |most, (_, width)| most.max(*width));
    let cost = range(&|r| r.cost);
    let reliability = range(&|r| r.reliability);
    let availability = range(&|r| r.availability);
    let energy = range(&|r| r.energy);
    let points: Vec<Vec<f64>> = known
        .iter()
        .map(|r| {
            let mut features: Vec<f64> = (0..3).map(|d| part(r.place[d], (places[d].0, extent))).collect();
            features.push(part(r.cost, cost));
            features.push(part(r.reliability, reliability));
            features.push(part(r.availability, availability));
            features.push(part(r.energy, energy));
            features
        })
        .collect();
    slots.into_iter().zip(ward(&points, clusters)).collect()
}

/// Finds the cluster of a request.
pub struct Homes {
    clusters: Vec<Home>,
}

/// A cluster: its number, its mean and its members with their prices, in the order of their keys.
struct Home {
    number: u32,
    mean: Resource,
    members: Vec<(u32, f64)>,
}

impl Homes {
    /// For the clusters of a market as they are.
    pub fn new(book: &Book, price: &dyn Fn(&Resource) -> f64) -> Homes {
        let mut members: BTreeMap<u32, Vec<(u32, f64)>> = BTreeMap::new();
        for resource in book.resources.in_order() {
            let known = book.resource(resource).expect("it is there");
            members.entry(book.cluster_of_resource(resource)).or_default().push((resource, price(known)));
        }
        let home = |(number, members): (u32, Vec<(u32, f64)>)| {
            let mean = |of: &dyn Fn(&Resource) -> f64| {
                let sum: f64 = members.iter().map(|(j, _)| of(book.resource(*j).expect("it is there"))).sum();
                sum / members.len() as f64
            };
            let mean = Resource {
                capacity: 0.0,
                room: 0,
                cost: mean(&|r| r.cost),
                reliability: mean(&|r| r.reliability),
                availability: mean(&|r| r.availability),
                energy: mean(&|r| r.energy),
                place: [0, 1, 2].map(|d| mean(&|r| r.place[d])),
            };
            Home { number, mean, members }
        };
        Homes { clusters: members.into_iter().map(home).collect() }
    }

    /// The cluster whose mean scores best with a request, among those with a resource that is feasible for it; if none
    /// has one, among all. The lesser number of equals.
    pub fn of(&self, book: &Book, request: u32) -> u32 {
        let mut order: Vec<(i64, usize)> =
            (0..self.clusters.len()).map(|at| (book.score_with(request, &self.clusters[at].mean), at)).collect();
        order.sort_unstable_by_key(|(score, at)| (std::cmp::Reverse(*score), *at));
        let is_home = |at: &usize| {
            let members = &self.clusters[*at].members;
            members.iter().any(|(resource, price)| book.stage(request, *resource, *price) == Stage::Feasible)
        };
        let home = order.iter().map(|(_, at)| *at).find(is_home).or(order.first().map(|(_, at)| *at));
        home.map_or(super::book::NONE, |at| self.clusters[at].number)
    }
}

/// The rows of the view `clusters`.
pub fn rows(book: &Book, shown: &[Option<Shown>], market: &str, scale: Scale) -> Vec<Vec<Value>> {
    #[derive(Default)]
    struct Sum {
        resources: i64,
        requests: i64,
        allocated: i64,
        capacity: i128,
        used: i128,
        value: i128,
    }
    let mut sums: BTreeMap<u32, Sum> = BTreeMap::new();
    for resource in book.resources.in_order() {
        let sum = sums.entry(book.cluster_of_resource(resource)).or_default();
        sum.resources += 1;
        sum.capacity += i128::from(book.room(resource));
    }
    for request in book.requests.in_order() {
        let Some(sum) = sums.get_mut(&book.cluster_of_request(request)) else { continue };
        sum.requests += 1;
        if let Some(Shown { outcome: Outcome::Allocated(a), .. }) = &shown[request as usize] {
            sum.allocated += 1;
            sum.used += i128::from(a.take);
            sum.value += i128::from(a.score);
        }
    }
    let row = |(cluster, sum): (u32, Sum)| {
        vec![
            Value::Str(market.to_owned()),
            Value::Int(cluster.into()),
            Value::Int(sum.resources),
            Value::Int(sum.requests),
            Value::Int(sum.allocated),
            Value::Float(scale.float(sum.capacity)),
            Value::Float(scale.float(sum.used)),
            Value::Float(float_score(sum.value)),
        ]
    };
    sums.into_iter().map(row).collect()
}
