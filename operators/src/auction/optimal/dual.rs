//! Prices for the bound: a subgradient descent on one price a resource, from a start that is the same for all.
//!
//! In place of one price a request the search has one a resource, which are fewer: `λ_j` for the whole of resource `j`, of
//! which a request pays the share `1 / ⌊C_j / d_i⌋`, what it would take if the resource held nothing but its like. The
//! prices of requests follow, `u_i = max(0, max_j U_ij − λ_j · share_ij)`, and with them the knapsacks say what the bound
//! really is. Every `u` gives a bound, so nothing here has to be exact.

use super::knapsack::{self, Best, Item};
use super::{Edge, Instance};

/// Rounds between two looks at all pairs; in between a request looks at its best ones only.
const REFRESH_ROUNDS: usize = 20;
/// How many pairs a request looks at in between.
const CLOSE_EDGES: usize = 48;
/// How often the first price is halved.
const BISECTIONS: usize = 14;

/// What the descent found.
#[derive(Clone, Debug)]
pub struct Dual {
    /// By request, the price of being served.
    pub prices: Vec<i64>,
    /// By resource, the price of the whole of it.
    pub lambda: Vec<f64>,
    /// By request, its pairs that come nearest to being chosen, the best first.
    pub close: Vec<Vec<Close>>,
}

/// A pair as the descent sees it.
#[derive(Clone, Copy, Debug)]
pub struct Close {
    /// The resource.
    pub resource: u32,
    /// The share of the resource's price the request pays.
    share: f64,
    score: f64,
}

/// Finds prices in that many rounds.
pub fn descend(instance: &Instance, rounds: usize) -> Dual {
    let resources = instance.rooms.len();
    let requests = instance.takes.len();
    let mut descent = Descent { instance, lambda: vec![first_price(instance); resources], close: Vec::new() };
    let mut usage = vec![0.0; resources];
    let mut step = 1.0;
    let (mut best, mut best_lambda, mut since) = (f64::INFINITY, descent.lambda.clone(), 0);
    let mut direction = vec![0.0; resources];
    for round in 0..rounds {
        if round % REFRESH_ROUNDS == 0 {
            descent.refresh();
        }
        usage.fill(0.0);
        let mut bound: f64 = descent.lambda.iter().sum();
        for request in 0..requests {
            if let Some((edge, left)) = descent.choose(request) {
                bound += left;
                usage[edge.resource as usize] += edge.share;
            }
        }
        if bound < best * (1.0 - 1e-6) {
            (best, since) = (bound, 0);
            best_lambda.clone_from(&descent.lambda);
        } else {
            since += 1;
            if since == 4 {
                (step, since) = (step * 0.7, 0);
            }
        }
        let mut norm = 0.0;
        for (j, direction) in direction.iter_mut().enumerate() {
            let over = usage[j] - 1.0;
            let over = if over < 0.0 && descent.lambda[j] <= 0.0 { 0.0 } else { over };
            // A part of the last direction damps the to and fro (Camerini, Fratta and Maffioli 1975).
            *direction = over + 0.5 * *direction;
            norm += *direction * *direction;
        }
        if norm == 0.0 {
            break;
        }
        // Polyak's step towards a value a little below the best.
        let length = step * (bound - 0.98 * best) / norm;
        for (lambda, direction) in descent.lambda.iter_mut().zip(&direction) {
            *lambda = (*lambda + length * direction).max(0.0);
        }
    }
    descent.lambda = best_lambda;
    descent.refresh();
    let prices = (0..requests).map(|i| descent.choose(i).map_or(0, |(_, left)| left as i64)).collect();
    Dual { prices, lambda: descent.lambda, close: descent.close }
}

/// Prices of requests with what they prove.
#[derive(Clone, Debug)]
pub struct Proof {
    /// By request, the price of being served.
    pub prices: Vec<i64>,
    /// By resource, what no set of requests adds beyond their prices.
    pub knapsacks: Vec<i128>,
}

/// The best bound among the prices given, prices of nothing, and those on the way down from the better of the two: a
/// subgradient descent on the prices of requests themselves, of whom too many or no resource wants, towards what a packing
/// is worth, in that many rounds at most and until so many pairs and sets were looked at.
pub fn polish(instance: &Instance, prices: &[i64], value: i128, rounds: usize, steps: usize) -> Proof {
    let bound = |prices: &[i64], sets: &[Best]| -> i128 {
        prices.iter().map(|u| i128::from(*u)).sum::<i128>() + sets.iter().map(|set| set.bound).sum::<i128>()
    };
    let (mut now, free) = (prices.to_vec(), vec![0; prices.len()]);
    let mut sets = knapsacks(instance, &now);
    let of_free = knapsacks(instance, &free);
    if bound(&free, &of_free) < bound(&now, &sets) {
        (now, sets) = (free, of_free);
    }
    let mut least = bound(&now, &sets);
    let proof = |prices: &[i64], sets: &[Best]| Proof {
        prices: prices.to_vec(),
        knapsacks: sets.iter().map(|set| set.bound).collect(),
    };
    let mut best = proof(&now, &sets);
    let (mut step, mut since, mut done) = (1.0, 0, 0);
    for _ in 0..rounds {
        done += instance.edges.len() + sets.iter().map(|set| set.steps).sum::<usize>();
        if done > steps {
            break;
        }
        let mut wanted = vec![-1i64; now.len()];
        sets.iter().flat_map(|set| &set.requests).for_each(|i| wanted[*i as usize] += 1);
        // Nobody's price falls below nothing.
        let over = |(wanted, price): (&i64, &i64)| if *wanted < 0 && *price == 0 { 0 } else { *wanted };
        let norm: i64 = wanted.iter().zip(&now).map(over).map(|over| over * over).sum();
        if norm == 0 || least <= value {
            break;
        }
        let length = step * (bound(&now, &sets) - value) as f64 / norm as f64;
        for (price, wanted) in now.iter_mut().zip(&wanted) {
            *price = (*price + (length * *wanted as f64) as i64).max(0);
        }
        sets = knapsacks(instance, &now);
        let reached = bound(&now, &sets);
        if reached < least {
            (least, since) = (reached, 0);
            best = proof(&now, &sets);
        } else {
            since += 1;
            if since == 4 {
                (step, since) = (step * 0.6, 0);
            }
        }
    }
    best
}

/// By resource, the best set of requests at these prices.
fn knapsacks(instance: &Instance, prices: &[i64]) -> Vec<Best> {
    let mut items: Vec<Vec<Item>> = vec![Vec::new(); instance.rooms.len()];
    for (request, price) in prices.iter().enumerate() {
        for edge in instance.edges(request).iter().filter(|e| e.score > *price) {
            let item = Item { profit: edge.score - price, take: instance.takes[request], request: request as u32 };
            items[edge.resource as usize].push(item);
        }
    }
    items.into_iter().zip(&instance.rooms).map(|(items, room)| knapsack::solve(items, *room)).collect()
}

struct Descent<'a> {
    instance: &'a Instance,
    lambda: Vec<f64>,
    close: Vec<Vec<Close>>,
}

impl Descent<'_> {
    /// The pair of a request that leaves it most above 0, among its close ones; the first of equals.
    fn choose(&self, request: usize) -> Option<(&Close, f64)> {
        let mut best: Option<(&Close, f64)> = None;
        for edge in &self.close[request] {
            let left = edge.score - self.lambda[edge.resource as usize] * edge.share;
            if left > best.map_or(0.0, |(_, most)| most) {
                best = Some((edge, left));
            }
        }
        best
    }

    /// Finds every request's close pairs anew.
    fn refresh(&mut self) {
        let mut all: Vec<(f64, Close)> = Vec::new();
        self.close.clear();
        for request in 0..self.instance.takes.len() {
            all.clear();
            let take = self.instance.takes[request];
            all.extend(self.instance.edges(request).iter().map(|edge| {
                let close = close(edge, take, self.instance.rooms[edge.resource as usize]);
                (close.score - self.lambda[edge.resource as usize] * close.share, close)
            }));
            let order = |a: &(f64, Close), b: &(f64, Close)| b.0.total_cmp(&a.0).then(a.1.resource.cmp(&b.1.resource));
            if all.len() > CLOSE_EDGES {
                all.select_nth_unstable_by(CLOSE_EDGES - 1, order);
                all.truncate(CLOSE_EDGES);
            }
            all.sort_unstable_by(order);
            self.close.push(all.iter().map(|(_, close)| *close).collect());
        }
    }
}

fn close(edge: &Edge, take: i64, room: i64) -> Close {
    Close { resource: edge.resource, share: 1.0 / (room / take) as f64, score: edge.score as f64 }
}

/// One price for every resource at which about as many shares are asked for as there are.
fn first_price(instance: &Instance) -> f64 {
    let resources = instance.rooms.len() as f64;
    let most = instance.edges.iter().map(|e| e.score).max().unwrap_or(0) as f64;
    // Between 0 and a price at which nobody pays even the least share.
    let shares = |price: f64| -> f64 {
        let mut sum = 0.0;
        for request in 0..instance.takes.len() {
            let mut best: Option<(f64, f64)> = None;
            for edge in instance.edges(request) {
                let edge = close(edge, instance.takes[request], instance.rooms[edge.resource as usize]);
                let left = edge.score - price * edge.share;
                if left > best.map_or(0.0, |(most, _)| most) {
                    best = Some((left, edge.share));
                }
            }
            sum += best.map_or(0.0, |(_, share)| share);
        }
        sum
    };
    let (mut low, mut high) = (0.0, 4.0 * most);
    for _ in 0..BISECTIONS {
        let middle = 0.5 * (low + high);
        if shares(middle) > resources {
            low = middle;
        } else {
            high = middle;
        }
    }
    if shares(0.0) > resources { high } else { 0.0 }
}
