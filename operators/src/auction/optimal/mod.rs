//! Shared capacity as well as it can be shown: a packing of requests into resources, and a bound no packing exceeds.
//!
//! The problem is generalised assignment, and hard. **Bound** ([`dual`]): give every request a price `u_i ≥ 0` for being
//! served and let every resource choose the best set of requests at these prices, `k_j(u) = max Σ (U_ij − u_i)` over sets
//! that fit, a knapsack solved exactly ([`knapsack`]). For every `u`, `Σ u_i + Σ k_j(u)` bounds every packing (Lagrangian
//! relaxation; Geoffrion 1974), and since a knapsack knows that a resource cannot be filled to the last fraction, the
//! bound is much tighter than the fractional one. **Packing** ([`chains`]): the resources choose in turn among who is
//! left, then ejection chains improve what came out (Glover 1996; Yagiura, Ibaraki and Glover 2004 for this problem).
//!
//! The answer is a function of the instance: nodes stand in the order of their keys, everything starts from the same
//! place, floating point is added in that order, and work is bounded by rounds, never by time. What it is not: an
//! optimum; how far it may be from one is `bound − value`.

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

/// Packs an instance, in that many rounds of the dual.
pub fn solve(instance: &Instance, rounds: usize) -> Packing {
    let dual = dual::descend(instance, rounds);
    let knapsacks = dual::knapsacks(instance, &dual);
    let at = chains::pack(instance, &dual);
    Packing { at, prices: dual.prices, knapsacks }
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
            let bound: i128 = packing.prices.iter().map(|u| i128::from(*u)).sum::<i128>()
                + packing.knapsacks.iter().sum::<i128>();
            assert!(packing.prices.iter().all(|u| *u >= 0));
            assert!(value <= optimum && i128::from(optimum) <= bound, "seed {seed}: {value} {optimum} {bound}");
            sum += i128::from(value);
            optimum_sum += i128::from(optimum);
        }
        assert!(sum * 1000 >= optimum_sum * 995, "far from the optimum on small instances: {sum} of {optimum_sum}");
    }
}
