//! An integral packing from the dual: the resources choose in turn, then ejection chains improve what came out.
//!
//! A chain takes a request in hand and puts it into a resource, whose holders give way to it: one of them, which is then
//! in hand; or two, of which the second goes where there is room, or nowhere. If a place is left over after one gave
//! way, somebody who has none may join. A chain ends where the request in hand finds room, or goes without. The chain
//! that gains most is carried out, if it gains at all, and so on until no request starts one that does.

use super::Instance;
use super::dual::Dual;
use super::knapsack::{self, Item};

/// Requests in hand one after the other in a chain.
const DEPTH_MAX: usize = 6;
/// Times all requests are tried as starts.
const SWEEPS_MAX: usize = 32;
/// Resources a request in hand is tried at, beside those with room.
const TRIES: usize = 24;
/// Requests without a resource that may join, those with the highest prices.
const JOINERS_MAX: usize = 64;

const NONE: u32 = u32::MAX;

/// What is improved.
#[derive(Clone, Copy, Debug)]
pub enum Start<'a> {
    /// The resources choose in turn, at these prices of requests.
    InTurn(&'a [i64]),
    /// A packing.
    From(&'a [Option<u32>]),
}

/// Packs the requests of an instance. Gives each one's resource.
pub fn pack(instance: &Instance, dual: &Dual, start: Start<'_>) -> Vec<Option<u32>> {
    let mut packer = Packer::new(instance, dual);
    match start {
        Start::InTurn(prices) => packer.choose_in_turn(prices),
        Start::From(at) => (0..).zip(at).for_each(|(i, at)| at.iter().for_each(|j| packer.put(i, *j))),
    }
    for _ in 0..SWEEPS_MAX {
        let mut gained = false;
        for request in 0..instance.takes.len() as u32 {
            if let Some(chain) = packer.search(request) {
                packer.carry_out(&chain);
                gained = true;
            }
        }
        if !gained {
            break;
        }
    }
    packer.at.iter().map(|at| (*at != NONE).then_some(*at)).collect()
}

struct Packer<'a> {
    instance: &'a Instance,
    dual: &'a Dual,
    /// By request, its resource; by resource, its requests and what is free.
    at: Vec<u32>,
    held: Vec<Vec<u32>>,
    free: Vec<i64>,
    /// Resources with room for the smallest request, and requests without a resource that may join; ascending, and by
    /// descending price. Made anew after a change.
    roomy: Vec<u32>,
    joiners: Vec<u32>,
    is_stale: bool,
    smallest: i64,
    /// How far below what a request's price promises a chain may fall.
    patience: i64,
    /// By request, the best gain with which it was in hand in the search of this number.
    seen: Vec<(u32, i64)>,
    number: u32,
    labels: Vec<Label>,
}

/// A request in hand.
#[derive(Clone, Copy, Debug)]
struct Label {
    request: u32,
    gain: i64,
    /// The label before it, and where its request went.
    parent: u32,
    to: u32,
    /// Who else moved then, and where to.
    aside: u32,
    aside_to: u32,
}

/// Moves that gain: requests with the resource they go to, [`NONE`] for nowhere.
type Chain = Vec<(u32, u32)>;

impl<'a> Packer<'a> {
    fn new(instance: &'a Instance, dual: &'a Dual) -> Packer<'a> {
        let most = instance.edges.iter().map(|e| e.score).max().unwrap_or(0);
        Packer {
            instance,
            dual,
            at: vec![NONE; instance.takes.len()],
            held: vec![Vec::new(); instance.rooms.len()],
            free: instance.rooms.clone(),
            roomy: Vec::new(),
            joiners: Vec::new(),
            is_stale: true,
            smallest: instance.takes.iter().copied().min().unwrap_or(0),
            patience: most / 32,
            seen: vec![(0, 0); instance.takes.len()],
            number: 0,
            labels: Vec::new(),
        }
    }

    /// The dearest resource first, each takes its best set among the requests that are left, at these prices.
    fn choose_in_turn(&mut self, prices: &[i64]) {
        let mut items: Vec<Vec<Item>> = vec![Vec::new(); self.instance.rooms.len()];
        for (request, price) in prices.iter().enumerate() {
            for edge in self.instance.edges(request).iter().filter(|e| e.score > *price) {
                let take = self.instance.takes[request];
                items[edge.resource as usize].push(Item { profit: edge.score - price, take, request: request as u32 });
            }
        }
        let mut order: Vec<usize> = (0..items.len()).collect();
        order.sort_by(|a, b| self.dual.lambda[*b].total_cmp(&self.dual.lambda[*a]).then(a.cmp(b)));
        for resource in order {
            let mut left = std::mem::take(&mut items[resource]);
            left.retain(|item| self.at[item.request as usize] == NONE);
            for request in knapsack::solve(left, self.instance.rooms[resource]).requests {
                self.put(request, resource as u32);
            }
        }
    }

    /// The chain from a request that gains most, if one gains at all.
    fn search(&mut self, start: u32) -> Option<Chain> {
        if self.instance.edges(start as usize).is_empty() {
            return None;
        }
        self.freshen();
        let home = self.at[start as usize];
        let gain = if home == NONE { 0 } else { -self.score(start, home) };
        self.number += 1;
        self.seen[start as usize] = (self.number, gain);
        self.labels.clear();
        self.labels.push(Label { request: start, gain, parent: NONE, to: NONE, aside: NONE, aside_to: NONE });
        let mut best: (i64, u32, u32) = (0, NONE, NONE);
        let mut from = 0;
        for _ in 0..DEPTH_MAX {
            let until = self.labels.len();
            for label in from..until {
                self.extend(label as u32, home, &mut best);
            }
            if until == self.labels.len() {
                break;
            }
            from = until;
        }
        // The last in hand may also go without.
        for (at, label) in self.labels.iter().enumerate().skip(1) {
            if label.gain > best.0 {
                best = (label.gain, at as u32, NONE);
            }
        }
        (best.0 > 0).then(|| self.trace(best.1, best.2))
    }

    /// Tries the request in hand everywhere: notes the best end, and who may be in hand next.
    fn extend(&mut self, at: u32, home: u32, best: &mut (i64, u32, u32)) {
        let Label { request, gain, .. } = self.labels[at as usize];
        if self.seen[request as usize] != (self.number, gain) {
            return;
        }
        let take = self.instance.takes[request as usize];
        let tries = self.dual.close[request as usize].iter().take(TRIES).map(|c| c.resource);
        let roomy = self.roomy.iter().copied().filter(|j| self.free[*j as usize] >= take);
        let resources: Vec<u32> = tries.chain(roomy).collect();
        for resource in resources {
            let stays = at == 0 && resource == home;
            if stays || self.is_used(at, resource) {
                continue;
            }
            let Some(score) = self.instance.score(request as usize, resource) else { continue };
            let start = self.labels[0].request;
            let own = if resource == home { self.instance.takes[start as usize] } else { 0 };
            let free = self.free[resource as usize] + own;
            let gain = gain + score;
            if free >= take {
                if gain > best.0 {
                    *best = (gain, at, resource);
                }
                continue;
            }
            for place in 0..self.held[resource as usize].len() {
                let holder = self.held[resource as usize][place];
                let left = free + self.instance.takes[holder as usize] - take;
                if holder == start || left < 0 {
                    continue;
                }
                let (joiner, joined) = self.joiner(at, holder, resource, left);
                let gain = gain - self.score(holder, resource) + joined;
                let aside_to = if joiner == NONE { NONE } else { resource };
                self.take_in_hand(holder, gain, (at, resource), (joiner, aside_to));
            }
            self.push_two(at, home, resource, free, gain);
        }
    }

    /// Two holders of a resource give way together, where neither alone would do.
    fn push_two(&mut self, at: u32, home: u32, resource: u32, free: i64, gain: i64) {
        let start = self.labels[0].request;
        let take = self.instance.takes[self.labels[at as usize].request as usize];
        // Only those of which neither alone would do.
        let mut held = self.held[resource as usize].clone();
        held.retain(|i| *i != start && free + self.instance.takes[*i as usize] < take);
        let most = held.iter().map(|i| self.instance.takes[*i as usize]).max().unwrap_or(0);
        // The second with what it takes and where it goes best, which does not depend on the first.
        let mut seconds: Vec<(u32, i64, i64, u32)> = Vec::new();
        for second in &held {
            let b = self.instance.takes[*second as usize];
            if free + most + b < take {
                continue;
            }
            let mut moved = (0, NONE);
            for to in self.roomy.iter().copied() {
                let fits = self.free[to as usize] >= b && to != resource && to != home && !self.is_used(at, to);
                let score = if fits { self.instance.score(*second as usize, to) } else { None };
                if score.is_some_and(|score| score > moved.0) {
                    moved = (score.expect("it is greater"), to);
                }
            }
            seconds.push((*second, b, moved.0 - self.score(*second, resource), moved.1));
        }
        for first in &held {
            let short = take - free - self.instance.takes[*first as usize];
            let mut best: Option<(i64, u32, u32)> = None;
            for (second, b, gain, to) in &seconds {
                if second != first && *b >= short && best.is_none_or(|(most, ..)| *gain > most) {
                    best = Some((*gain, *second, *to));
                }
            }
            if let Some((more, second, to)) = best {
                let gain = gain - self.score(*first, resource) + more;
                self.take_in_hand(*first, gain, (at, resource), (second, to));
            }
        }
    }

    /// Notes a request as in hand, if that is promising and better than how it was in hand before.
    fn take_in_hand(&mut self, request: u32, gain: i64, (parent, to): (u32, u32), (aside, aside_to): (u32, u32)) {
        let (number, before) = self.seen[request as usize];
        let is_better = number != self.number || gain > before;
        if is_better && gain + self.dual.prices[request as usize] + self.patience >= 0 {
            self.seen[request as usize] = (self.number, gain);
            self.labels.push(Label { request, gain, parent, to, aside, aside_to });
        }
    }

    /// Who of those without a resource gains most in what is left of one.
    fn joiner(&self, at: u32, holder: u32, resource: u32, left: i64) -> (u32, i64) {
        let mut best = (NONE, 0);
        if left < self.smallest {
            return best;
        }
        for joiner in &self.joiners {
            if self.instance.takes[*joiner as usize] > left || *joiner == holder || self.is_moved(at, *joiner) {
                continue;
            }
            if let Some(score) = self.instance.score(*joiner as usize, resource)
                && score > best.1
            {
                best = (*joiner, score);
            }
        }
        best
    }

    /// Whether somebody goes to that resource in the chain up to a label.
    fn is_used(&self, at: u32, resource: u32) -> bool {
        self.chain(at).any(|label| label.to == resource || label.aside_to == resource)
    }

    /// Whether a request moves in the chain up to a label.
    fn is_moved(&self, at: u32, request: u32) -> bool {
        self.chain(at).any(|label| label.request == request || label.aside == request)
    }

    fn chain(&self, at: u32) -> impl Iterator<Item = &Label> {
        let label = |at: u32| self.labels.get(at as usize);
        std::iter::successors(label(at), move |last| label(last.parent))
    }

    fn trace(&self, at: u32, end: u32) -> Chain {
        let mut chain = Chain::new();
        let mut to = end;
        for label in self.chain(at) {
            chain.push((label.request, to));
            if label.aside != NONE {
                chain.push((label.aside, label.aside_to));
            }
            to = label.to;
        }
        chain
    }

    fn carry_out(&mut self, chain: &Chain) {
        for (request, _) in chain {
            let at = std::mem::replace(&mut self.at[*request as usize], NONE);
            if at != NONE {
                self.held[at as usize].retain(|holder| holder != request);
                self.free[at as usize] += self.instance.takes[*request as usize];
            }
        }
        for (request, to) in chain {
            if *to != NONE {
                self.put(*request, *to);
            }
        }
        self.is_stale = true;
    }

    fn put(&mut self, request: u32, resource: u32) {
        self.at[request as usize] = resource;
        self.held[resource as usize].push(request);
        self.free[resource as usize] -= self.instance.takes[request as usize];
        assert!(self.free[resource as usize] >= 0, "a resource is filled beyond its capacity");
    }

    fn freshen(&mut self) {
        if !std::mem::take(&mut self.is_stale) {
            return;
        }
        self.roomy.clear();
        self.roomy.extend((0..self.free.len() as u32).filter(|j| self.free[*j as usize] >= self.smallest));
        self.joiners.clear();
        let without = |i: &u32| self.at[*i as usize] == NONE && self.dual.prices[*i as usize] > 0;
        self.joiners.extend((0..self.at.len() as u32).filter(without));
        self.joiners.sort_by_key(|i| (std::cmp::Reverse(self.dual.prices[*i as usize]), *i));
        self.joiners.truncate(JOINERS_MAX);
    }

    fn score(&self, request: u32, resource: u32) -> i64 {
        self.instance.score(request as usize, resource).expect("holders are feasible")
    }
}
