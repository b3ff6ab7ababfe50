//! Shared capacity as well as it can be shown: a packing of requests into resources, and a bound no packing exceeds.
//!
//! The problem is generalised assignment, and hard. **Bound** ([`dual`]): give every request a price `u_i ≥ 0` for being
//! served and let every resource choose the best set of requests at these prices, `k_j(u) = max Σ (U_ij − u_i)` over sets
//! that fit, a knapsack solved exactly ([`knapsack`]). For every `u`, `Σ u_i + Σ k_j(u)` bounds every packing (Lagrangian
//! relaxation; Geoffrion 1974), and since a knapsack knows that a resource cannot be filled to the last fraction, the
//! bound is much tighter than the fractional one. **Packing** ([`chains`]): the resources choose in turn among who is
//! left, then ejection chains improve what came out (Glover 1996; Yagiura, Ibaraki and Glover 2004 for this problem). The
//! greedy is another start, of which the same chains may make more.
//!
//! The answer is a function of the instance: nodes stand in the order of their keys, everything starts from the same
//! place, floating point is added in that order, and work is bounded by rounds, never by time. What it is not: an
//! optimum; how far it may be from one is `bound − value`. Nor is it ever worth less than the greedy.

mod chains;
mod dual;
mod knapsack;

/// An instance: nodes by position, in the order of their keys.
#[derive(Clone, Debug, Default)]
pub struct Instance {
    /// What each request takes, above 0.
    pub takes: Vec<i64>,
    /// What each resource holds.
    pub rooms: Vec<i64>,
    /// The feasible pairs, request by request, in the order of resources.
    pub edges: Vec<Edge>,
    /// Where the pairs of each request begin, and the end of the last.
    pub starts: Vec<usize>,
}

/// A feasible pair of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Edge {
    /// The resource.
    pub resource: u32,
    /// What the pair is worth, not negative.
    pub score: i64,
}

/// The answer to an instance.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Packing {
    /// By request, its resource.
    pub at: Vec<Option<u32>>,
    /// By request, the price of being served.
    pub prices: Vec<i64>,
    /// By resource, a bound on what its best set is worth at these prices.
    pub knapsacks: Vec<i128>,
}

impl Instance {
    /// The pairs of a request.
    fn edges(&self, request: usize) -> &[Edge] {
        &self.edges[self.starts[request]..self.starts[request + 1]]
    }

    /// What a pair is worth, if it is feasible.
    fn score(&self, request: usize, resource: u32) -> Option<i64> {
        let edges = self.edges(request);
        edges.binary_search_by_key(&resource, |e| e.resource).ok().map(|at| edges[at].score)
    }
}

/// How many pairs and sets of requests are looked at for a better bound than the descent's, about.
const POLISH_STEPS: usize = 4_000_000;
/// Up to how many pairs every start of a packing is improved; beyond, the first alone.
const EVERY_START_PAIRS: usize = 4_000;

/// Packs an instance, in that many rounds of the dual.
///
/// Of several packings the best: one at the descent's prices, and, so that it is never worth less than that, the greedy;
/// of a small instance also those at the prices of the best bound.
pub fn solve(instance: &Instance, rounds: usize) -> Packing {
    let dual = dual::descend(instance, rounds);
    let mut at = chains::pack(instance, &dual, chains::Start::InTurn(&dual.prices));
    let mut value = instance.value(&at);
    let mut consider = |other: Vec<Option<u32>>| {
        let worth = instance.value(&other);
        if worth > value {
            (at, value) = (other, worth);
        }
        value
    };
    let is_small = instance.edges.len() <= EVERY_START_PAIRS;
    let greedy = instance.greedy();
    let mut value = consider(Vec::new());
    if is_small || instance.value(&greedy) > value {
        value = consider(chains::pack(instance, &dual, chains::Start::From(&greedy)));
    }
    let proof = dual::polish(instance, &dual.prices, value, rounds, POLISH_STEPS);
    if is_small {
        consider(chains::pack(instance, &dual, chains::Start::InTurn(&proof.prices)));
    }
    Packing { at, prices: proof.prices, knapsacks: proof.knapsacks }
}

impl Instance {
    /// What a packing is worth.
    fn value(&self, at: &[Option<u32>]) -> i128 {
        let score = |(request, at): (usize, &Option<u32>)| at.and_then(|j| self.score(request, j));
        at.iter().enumerate().filter_map(score).map(i128::from).sum()
    }

    /// Pairs in the order of their scores, each taken if its request is free and its resource has room.
    fn greedy(&self) -> Vec<Option<u32>> {
        let mut order: Vec<(i64, u32, u32)> = Vec::with_capacity(self.edges.len());
        for request in 0..self.takes.len() {
            order.extend(self.edges(request).iter().map(|e| (-e.score, request as u32, e.resource)));
        }
        order.sort_unstable();
        let mut at = vec![None; self.takes.len()];
        let mut free = self.rooms.clone();
        for (_, request, resource) in order {
            let take = self.takes[request as usize];
            if at[request as usize].is_none() && free[resource as usize] >= take {
                at[request as usize] = Some(resource);
                free[resource as usize] -= take;
            }
        }
        at
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn random(seed: u64) -> Instance {
        let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let mut below = |n: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % n
        };
        let (requests, resources) = (1 + below(7) as usize, 1 + below(4) as usize);
        let rooms: Vec<i64> = (0..resources).map(|_| below(12) as i64).collect();
        let takes: Vec<i64> = (0..requests).map(|_| 1 + below(6) as i64).collect();
        let mut instance = Instance { takes, rooms, edges: Vec::new(), starts: vec![0] };
        for i in 0..requests {
            for j in 0..resources {
                if instance.takes[i] <= instance.rooms[j] && below(4) > 0 {
                    instance.edges.push(Edge { resource: j as u32, score: below(1000) as i64 * 1_000_000_000 });
                }
            }
            instance.starts.push(instance.edges.len());
        }
        instance
    }

    /// The best there is, by trying everything.
    fn best(instance: &Instance, request: usize, rooms: &mut Vec<i64>) -> i64 {
        if request == instance.takes.len() {
            return 0;
        }
        let mut most = best(instance, request + 1, rooms);
        for edge in instance.edges(request) {
            let take = instance.takes[request];
            if rooms[edge.resource as usize] >= take {
                rooms[edge.resource as usize] -= take;
                most = most.max(edge.score + best(instance, request + 1, rooms));
                rooms[edge.resource as usize] += take;
            }
        }
        most
    }

    #[test]
    fn a_packing_fits_and_no_packing_exceeds_the_bound() {
        let (mut sum, mut optimum_sum) = (0i128, 0i128);
        for seed in 0..3_000 {
            let instance = random(seed);
            let packing = solve(&instance, 40);
            assert_eq!(packing, solve(&instance, 40), "seed {seed}: the same instance");
            let mut rooms = instance.rooms.clone();
            let mut value = 0;
            for (i, at) in packing.at.iter().enumerate() {
                if let Some(j) = at {
                    rooms[*j as usize] -= instance.takes[i];
                    value += instance.score(i, *j).expect("only feasible pairs");
                }
            }
            assert!(rooms.iter().all(|room| *room >= 0), "seed {seed}: above capacity");
            let optimum = best(&instance, 0, &mut instance.rooms.clone());
            let bound: i128 =
                packing.prices.iter().map(|u| i128::from(*u)).sum::<i128>() + packing.knapsacks.iter().sum::<i128>();
            assert!(packing.prices.iter().all(|u| *u >= 0));
            assert!(value <= optimum && i128::from(optimum) <= bound, "seed {seed}: {value} {optimum} {bound}");
            assert!(i128::from(value) >= instance.value(&instance.greedy()), "seed {seed}: the greedy has more");
            if instance.rooms.len() == 1 {
                assert_eq!(i128::from(value), bound, "seed {seed}: one resource is one knapsack");
            }
            sum += i128::from(value);
            optimum_sum += i128::from(optimum);
        }
        assert!(sum * 1000 >= optimum_sum * 999, "far from the optimum on small instances: {sum} of {optimum_sum}");
    }
}
