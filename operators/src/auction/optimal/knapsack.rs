//! The best set of requests for one resource: an exact knapsack over the sets that are best for what they take.
//!
//! Items that enough better and smaller ones displace are dropped first; the rest are added in the order of profit per
//! take to a list of undominated sets (Nemhauser and Ullmann 1969), without those whose fractional completion does not
//! exceed the best set known. Should the list still grow beyond its limit, the answer is the best set found, and the
//! bound that of the completions: still a bound, and for ordinary numbers of demands never needed.

use std::collections::BinaryHeap;

/// How many undominated sets are kept at most.
const SETS_MAX: usize = 4096;

/// A request a resource may choose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Item {
    /// What it adds, above 0.
    pub profit: i64,
    /// What it takes, above 0.
    pub take: i64,
    /// Whose it is.
    pub request: u32,
}

/// The best set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Best {
    /// The requests in it, ascending.
    pub requests: Vec<u32>,
    /// What no set exceeds: the set's own profit, unless the list ran full.
    pub bound: i128,
    /// How many sets were looked at.
    pub steps: usize,
}

/// A set of items: what it takes and adds, and the set it extends.
#[derive(Clone, Copy, Debug)]
struct Set {
    take: i64,
    profit: i128,
    item: u32,
    parent: u32,
}

const NOTHING: u32 = u32::MAX;

/// The best set of items that fits into `room`.
pub fn solve(items: Vec<Item>, room: i64) -> Best {
    let items = undominated(items, room);
    // Every set ever made, so that the best can be traced back.
    let mut sets = vec![Set { take: 0, profit: 0, item: NOTHING, parent: NOTHING }];
    let mut list: Vec<u32> = vec![0];
    let mut best = 0u32;
    let mut lost: i128 = 0;
    for (at, item) in items.iter().enumerate() {
        let mut extended: Vec<u32> = Vec::new();
        for set in &list {
            let Set { take, profit, .. } = sets[*set as usize];
            if take + item.take <= room {
                extended.push(sets.len() as u32);
                let profit = profit + i128::from(item.profit);
                sets.push(Set { take: take + item.take, profit, item: at as u32, parent: *set });
            }
        }
        for set in &extended {
            if sets[*set as usize].profit > sets[best as usize].profit {
                best = *set;
            }
        }
        // Merge by take, keep what is worth more than all before it, and can still become the best.
        let completion = |set: &Set| match items.get(at + 1) {
            None => set.profit,
            Some(next) => set.profit + i128::from(room - set.take) * i128::from(next.profit) / i128::from(next.take),
        };
        let mut merged: Vec<u32> = Vec::with_capacity(list.len() + extended.len());
        let (mut a, mut b) = (list.iter().peekable(), extended.iter().peekable());
        let mut most = -1;
        loop {
            let next = match (a.peek(), b.peek()) {
                (Some(x), Some(y)) => {
                    let (p, q) = (&sets[**x as usize], &sets[**y as usize]);
                    if (p.take, std::cmp::Reverse(p.profit)) <= (q.take, std::cmp::Reverse(q.profit)) {
                        a.next()
                    } else {
                        b.next()
                    }
                }
                (Some(_), None) => a.next(),
                (None, _) => b.next(),
            };
            let Some(next) = next else { break };
            let set = &sets[*next as usize];
            if set.profit > most && completion(set) > sets[best as usize].profit {
                merged.push(*next);
                most = set.profit;
            }
        }
        if merged.len() > SETS_MAX {
            lost = merged.iter().map(|set| completion(&sets[*set as usize])).max().expect("there are some");
            break;
        }
        list = merged;
        if list.is_empty() {
            break;
        }
    }
    let profit = sets[best as usize].profit;
    let mut requests = Vec::new();
    while sets[best as usize].item != NOTHING {
        requests.push(items[sets[best as usize].item as usize].request);
        best = sets[best as usize].parent;
    }
    requests.sort_unstable();
    Best { requests, bound: profit.max(lost), steps: sets.len() }
}

/// The items that some best set may need, in the order of profit per take.
///
/// An item can be done without if those that take no more and add no less do not all fit beside it: one of them is then
/// not in the set, and can stand in its place.
fn undominated(items: Vec<Item>, room: i64) -> Vec<Item> {
    let smallest = items.iter().map(|item| item.take).min().unwrap_or(0);
    let key = |item: &Item| (item.profit, std::cmp::Reverse(item.take), std::cmp::Reverse(item.request));
    let mut heap: BinaryHeap<_> = items.iter().filter(|i| i.take <= room).map(|item| (key(item), item.take)).collect();
    let mut kept: Vec<Item> = Vec::new();
    while let Some(((profit, _, request), take)) = heap.pop() {
        let taken = |most: i64| kept.iter().filter(|k| k.take <= most).map(|k| i128::from(k.take)).sum::<i128>();
        if taken(take) + i128::from(take) <= i128::from(room) {
            kept.push(Item { profit, take, request: request.0 });
        } else if taken(smallest) + i128::from(smallest) > i128::from(room) {
            // From here on everybody is displaced by the smallest alone.
            break;
        }
    }
    kept.sort_by(|a, b| {
        let (left, right) = (i128::from(a.profit) * i128::from(b.take), i128::from(b.profit) * i128::from(a.take));
        right.cmp(&left).then(a.request.cmp(&b.request))
    });
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_set_is_the_best_of_all() {
        let mut state = 5u64;
        let mut below = |n: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % n
        };
        for round in 0..4_000 {
            let room = below(40) as i64;
            let most = if round % 2 == 0 { 4 } else { 20 };
            let items: Vec<Item> = (0..below(11) as u32)
                .map(|request| Item { profit: 1 + below(30) as i64, take: 1 + below(most) as i64, request })
                .collect();
            let mut most = 0;
            for mask in 0u32..1 << items.len() {
                let chosen = || items.iter().enumerate().filter(move |(i, _)| mask >> i & 1 == 1).map(|(_, item)| item);
                if chosen().map(|i| i.take).sum::<i64>() <= room {
                    most = most.max(chosen().map(|i| i.profit).sum::<i64>());
                }
            }
            let best = solve(items.clone(), room);
            let of = |request: &u32| items[*request as usize];
            assert_eq!(best.bound, i128::from(most), "round {round}: {items:?} in {room}");
            assert_eq!(best.requests.iter().map(|r| of(r).profit).sum::<i64>(), most);
            assert!(best.requests.iter().map(|r| of(r).take).sum::<i64>() <= room);
        }
    }

    #[test]
    fn a_hard_knapsack_still_has_a_bound() {
        // Profits equal takes: nothing dominates anything, and the sums are all different.
        let items: Vec<Item> = (0..60u32)
            .map(|request| {
                let take = 1_000_003 + i64::from(request) * i64::from(request) * 7919;
                Item { profit: take, take, request }
            })
            .collect();
        let room = 200_000_001;
        let best = solve(items.clone(), room);
        let taken: i64 = best.requests.iter().map(|r| items[*r as usize].take).sum();
        assert!(taken <= room && best.bound >= i128::from(taken) && best.bound <= i128::from(room));
    }
}
