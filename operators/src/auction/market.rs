//! One market: its requests and resources, the mechanism over them, and the rows that say what came of it.

use std::collections::BTreeSet;
use std::sync::Arc;

use types::Value;

use super::book::{Book, NONE, Stage};
use super::clusters;
use super::mechanism::{Mechanism, base_price};
use super::options::{Auction, Payments};
use super::payment::critical_bid;
use super::rows::{Net, Node};
use super::score::{Request, Resource};
use super::totals::{Beside, Totals};
use super::views::{Allocation, Changes, Outcome, PriceRow, Reason, Shown};

/// Requests and resources of one type.
pub struct Market {
    auction: Arc<Auction>,
    name: String,
    book: Book,
    mechanism: Mechanism,
    /// The same without clusters, by which their loss is measured, and its scores by request with their sum.
    unclustered: Option<(Mechanism, Vec<i64>, i128)>,
    /// By request: how many resources reach each stage beyond the first, each including the next.
    reach: Vec<[u32; 3]>,
    feasible_pairs: u64,
    /// By resource, the price by which `reach` was counted.
    counted_price: Vec<f64>,
    totals: Totals,
    bound: i128,
    /// By resource: how many requests it serves, and what they take.
    load: Vec<(u32, i64)>,
    shown: Vec<Option<Shown>>,
    shown_prices: Vec<Option<PriceRow>>,
    shown_duals: Vec<Option<i64>>,
    shown_clusters: Vec<Vec<Value>>,
    shown_fairness: Option<Vec<Value>>,
}

impl Market {
    /// An empty market.
    pub fn new(auction: &Arc<Auction>, name: String) -> Market {
        let clustered = auction.clusters.is_some();
        Market {
            book: Book::new(auction.form),
            mechanism: Mechanism::new(auction, clustered, 0),
            unclustered: clustered.then(|| (Mechanism::new(auction, false, 0), Vec::new(), 0)),
            reach: Vec::new(),
            feasible_pairs: 0,
            counted_price: Vec::new(),
            totals: Totals::default(),
            bound: 0,
            load: Vec::new(),
            shown: Vec::new(),
            shown_prices: Vec::new(),
            shown_duals: Vec::new(),
            shown_clusters: Vec::new(),
            shown_fairness: None,
            name,
            auction: auction.clone(),
        }
    }

    /// Whether nobody is in it.
    pub fn is_empty(&self) -> bool {
        self.totals.is_empty()
    }

    /// The value of the allocation and what none exceeds, where there is a proof.
    pub fn quality(&self) -> (i128, i128) {
        (self.totals.value(), self.bound)
    }

    /// Takes in an epoch's changes and adds what they change in the views.
    pub fn apply(&mut self, requests: Net<Request>, resources: Net<Resource>, changes: &mut Changes) {
        let slots = |gone: &[(Box<[u8]>, Box<[u8]>)], find: &dyn Fn(&[u8]) -> Option<u32>| -> BTreeSet<u32> {
            gone.iter().filter_map(|(_, key)| find(key)).collect()
        };
        let mut changed = slots(&requests.gone, &|key| self.book.requests.find(key));
        let mut opened = slots(&resources.gone, &|key| self.book.resources.find(key));
        for resource in &opened {
            self.count_reach(*resource, &changed, -1);
        }
        self.retire(&changed, &opened);
        self.write_book(requests, resources, &mut changed, &mut opened);
        self.recluster(&mut changed, &mut opened);
        self.admit(&changed, &opened);
        let touched = self.mechanism.settle(&self.book, &self.auction.prices);
        self.settle_unclustered();
        self.show(touched, changed, opened, changes);
        self.book.release();
    }

    fn retire(&mut self, requests: &BTreeSet<u32>, resources: &BTreeSet<u32>) {
        for mechanism in self.unclustered.iter_mut().map(|(m, ..)| m).chain([&mut self.mechanism]) {
            requests.iter().for_each(|i| mechanism.retire_request(&self.book, *i));
            resources.iter().for_each(|j| mechanism.retire_resource(*j));
        }
    }

    fn write_book(
        &mut self,
        requests: Net<Request>,
        resources: Net<Resource>,
        changed: &mut BTreeSet<u32>,
        opened: &mut BTreeSet<u32>,
    ) {
        let come: BTreeSet<Box<[u8]>> = requests.come.iter().map(|node| node.key.clone()).collect();
        requests.gone.iter().filter(|(_, key)| !come.contains(key)).for_each(|(_, key)| self.book.remove_request(key));
        let come: BTreeSet<Box<[u8]>> = resources.come.iter().map(|node| node.key.clone()).collect();
        resources.gone.iter().filter(|(_, key)| !come.contains(key)).for_each(|(_, key)| self.book.remove_resource(key));
        for Node { key, node, .. } in requests.come {
            changed.insert(self.book.set_request(&key, node));
        }
        for Node { key, node, .. } in resources.come {
            opened.insert(self.book.set_resource(&key, node));
        }
        let (requests, resources) = (self.book.requests.len(), self.book.resources.len());
        self.reach.resize(requests, [0; 3]);
        self.shown.resize(requests, None);
        self.shown_duals.resize(requests, None);
        self.counted_price.resize(resources, 0.0);
        self.load.resize(resources, (0, 0));
        self.shown_prices.resize(resources, None);
    }

    /// Puts resources into clusters anew if one has changed, and requests to theirs. Who moves counts as changed.
    fn recluster(&mut self, changed: &mut BTreeSet<u32>, opened: &mut BTreeSet<u32>) {
        let Some(clusters) = self.auction.clusters else { return };
        let (mut moved, mut resettled) = (BTreeSet::new(), BTreeSet::new());
        let all = !opened.is_empty();
        if all {
            for (resource, cluster) in clusters::of_resources(&self.book, clusters) {
                if self.book.cluster_of_resource(resource) != cluster {
                    resettled.insert(resource);
                    self.book.set_cluster_of_resource(resource, cluster);
                }
            }
        }
        let auction = self.auction.clone();
        let homes = clusters::Homes::new(&self.book, &|resource| base_price(&auction, resource));
        let whom: Vec<u32> = if all { self.book.requests.in_order().collect() } else { changed.iter().copied().collect() };
        for request in whom {
            if self.book.request(request).is_none() {
                continue;
            }
            let cluster = homes.of(&self.book, request);
            if self.book.cluster_of_request(request) != cluster {
                moved.insert(request);
                self.book.set_cluster_of_request(request, cluster);
            }
        }
        moved.retain(|i| !changed.contains(i));
        resettled.retain(|j| !opened.contains(j));
        self.retire(&moved, &resettled);
        for resource in &resettled {
            self.count_reach(*resource, changed, -1);
        }
        changed.append(&mut moved);
        opened.append(&mut resettled);
    }

    fn admit(&mut self, requests: &BTreeSet<u32>, resources: &BTreeSet<u32>) {
        for resource in resources {
            let Some(known) = self.book.resource(*resource) else { continue };
            let price = base_price(&self.auction, known);
            for mechanism in self.unclustered.iter_mut().map(|(m, ..)| m).chain([&mut self.mechanism]) {
                mechanism.admit_resource(&self.book, *resource, price);
            }
            self.counted_price[*resource as usize] = price;
            self.count_reach(*resource, requests, 1);
        }
        for request in requests {
            self.feasible_pairs -= u64::from(std::mem::take(&mut self.reach[*request as usize])[2]);
            if self.book.request(*request).is_none() {
                continue;
            }
            for mechanism in self.unclustered.iter_mut().map(|(m, ..)| m).chain([&mut self.mechanism]) {
                mechanism.admit_request(&self.book, *request);
            }
            let mut reach = [0; 3];
            for resource in 0..self.book.resources.len() as u32 {
                add_stage(&mut reach, self.stage(*request, resource), 1);
            }
            self.reach[*request as usize] = reach;
            self.feasible_pairs += u64::from(reach[2]);
        }
    }

    /// Counts a resource into (1) or out of (−1) how far requests come, but for those that are counted anew.
    fn count_reach(&mut self, resource: u32, except: &BTreeSet<u32>, sign: i32) {
        for request in 0..self.reach.len() as u32 {
            if self.book.request(request).is_none() || except.contains(&request) {
                continue;
            }
            let stage = self.stage(request, resource);
            add_stage(&mut self.reach[request as usize], stage, sign);
            if stage == Stage::Feasible {
                self.feasible_pairs = self.feasible_pairs.wrapping_add_signed(sign.into());
            }
        }
    }

    fn stage(&self, request: u32, resource: u32) -> Stage {
        self.book.stage(request, resource, self.counted_price[resource as usize])
    }

    fn settle_unclustered(&mut self) {
        let Some((mechanism, scores, sum)) = &mut self.unclustered else { return };
        let [touched, _] = mechanism.settle(&self.book, &self.auction.prices);
        scores.resize(self.book.requests.len(), 0);
        for request in touched {
            let at = mechanism.at(request);
            let score = if at == NONE { 0 } else { self.book.score(request, at) };
            *sum += i128::from(score) - i128::from(std::mem::replace(&mut scores[request as usize], score));
        }
    }

    /// Adds what has changed in the views.
    fn show(
        &mut self,
        [mut requests, mut resources]: [Vec<u32>; 2],
        changed: BTreeSet<u32>,
        opened: BTreeSet<u32>,
        changes: &mut Changes,
    ) {
        let mut is_repriced = false;
        for resource in &resources {
            is_repriced |= self.reprice(*resource);
        }
        requests.extend(&changed);
        // Reasons depend on all resources, prices on all that hold some, and computed payments on everybody.
        if !opened.is_empty() || is_repriced || self.auction.payments != Payments::FirstPrice {
            requests.extend(self.book.requests.in_order());
        }
        requests.sort_unstable();
        requests.dedup();
        resources.extend(opened);
        // What is retracted leaves its old resource first: a resource may be gone.
        for request in requests {
            let now = self.outcome(request);
            if self.shown[request as usize] == now {
                continue;
            }
            let key = self.book.requests.key(request);
            let before = std::mem::replace(&mut self.shown[request as usize], now.clone());
            for (shown, sign) in [(before, -1), (now, 1)] {
                let Some(shown) = shown else { continue };
                self.totals.count(&shown, sign);
                match shown.outcome {
                    Outcome::Rejected(reason) => changes.rejections.push((key.into(), reason, sign)),
                    Outcome::Allocated(a) => {
                        resources.push(a.resource);
                        let load = &mut self.load[a.resource as usize];
                        load.0 = load.0.wrapping_add_signed(sign as i32);
                        load.1 += sign * a.take;
                        changes.allocations.push((key.into(), self.book.resources.key(a.resource).into(), a, sign));
                    }
                }
            }
        }
        resources.sort_unstable();
        resources.dedup();
        self.show_prices(&resources, changes);
        self.show_duals(changes);
        self.show_clusters(changes);
        self.show_fairness(changes);
    }

    /// Counts a resource at its price anew, if that has moved.
    fn reprice(&mut self, resource: u32) -> bool {
        let Some(known) = self.book.resource(resource) else { return false };
        let price = self.mechanism.price(resource, base_price(&self.auction, known));
        if price == self.counted_price[resource as usize] {
            return false;
        }
        self.count_reach(resource, &BTreeSet::new(), -1);
        self.counted_price[resource as usize] = price;
        self.count_reach(resource, &BTreeSet::new(), 1);
        true
    }

    fn outcome(&mut self, request: u32) -> Option<Shown> {
        let known = self.book.request(request)?;
        let requester = known.requester.clone();
        let at = self.mechanism.at(request);
        if at == NONE {
            return Some(Shown { requester, outcome: Outcome::Rejected(self.reason(request)) });
        }
        let (demand, take, budget) = (known.demand, known.take, known.budget);
        let score = self.book.score(request, at);
        let asked = self.book.asked(request, score, self.counted_price[at as usize]);
        let (payment, externality) = match (&self.auction.payments, &mut self.mechanism) {
            (Payments::CriticalValue, Mechanism::Greedy(rounds)) => {
                (critical_bid(&self.book, rounds.last_mut().expect("there is always one"), request), None)
            }
            (Payments::Vcg, Mechanism::Exact(exact)) => {
                let (externality, bid) = exact.externality(&self.book, request);
                (bid, Some(externality))
            }
            _ => (asked, None),
        };
        let energy = self.book.resource(at).expect("it serves").energy;
        let allocation =
            Allocation { resource: at, score, demand, take, budget, asked, payment, externality, energy };
        Some(Shown { requester, outcome: Outcome::Allocated(allocation) })
    }

    fn reason(&self, request: u32) -> Reason {
        let [qos, capacity, feasible] = self.reach[request as usize];
        let is_elsewhere = || {
            let mut near = self.book.resources.in_order().filter(|j| self.book.is_of_one_cluster(request, *j));
            self.auction.clusters.is_some() && !near.any(|j| self.stage(request, j) == Stage::Feasible)
        };
        if self.book.resources.count() == 0 {
            Reason::NoResource
        } else if qos == 0 {
            Reason::Qos
        } else if capacity == 0 {
            Reason::Capacity
        } else if feasible == 0 {
            Reason::Budget
        } else if is_elsewhere() {
            Reason::Cluster
        } else {
            Reason::Outbid
        }
    }

    fn show_prices(&mut self, resources: &[u32], changes: &mut Changes) {
        for resource in resources {
            let at = *resource as usize;
            let now = self.book.resource(*resource).map(|known| PriceRow {
                price: self.counted_price[at],
                requests: self.load[at].0,
                used: self.load[at].1,
                room: known.room,
                cluster: self.auction.clusters.map(|_| self.book.cluster_of_resource(*resource)),
                bound: self.proof().resource_bound(&self.book, *resource),
            });
            if now == self.shown_prices[at] {
                continue;
            }
            let key = self.book.resources.key(*resource);
            let before = std::mem::replace(&mut self.shown_prices[at], now);
            for (row, sign) in [(before, -1), (now, 1)] {
                let Some(row) = row else { continue };
                self.totals.count_resource(row.room, row.requests > 0, sign);
                self.bound += i128::from(sign) * row.bound.unwrap_or(0);
                changes.prices.push((key.into(), row, sign));
            }
        }
    }

    /// The mechanism that proves a bound: with clusters the one without, because its bound is that of all pairs.
    fn proof(&self) -> &Mechanism {
        self.unclustered.as_ref().map_or(&self.mechanism, |(mechanism, ..)| mechanism)
    }

    fn show_duals(&mut self, changes: &mut Changes) {
        if !super::views::has_duals(&self.auction) {
            return;
        }
        for request in 0..self.shown.len() as u32 {
            let now = self.book.request(request).and_then(|_| self.proof().request_price(request));
            let before = std::mem::replace(&mut self.shown_duals[request as usize], now);
            if before == now {
                continue;
            }
            let key = self.book.requests.key(request);
            for (dual, sign) in [(before, -1), (now, 1)] {
                let Some(dual) = dual else { continue };
                self.bound += i128::from(sign) * i128::from(dual);
                changes.duals.push((key.into(), dual, sign));
            }
        }
    }

    fn show_clusters(&mut self, changes: &mut Changes) {
        if self.auction.clusters.is_none() {
            return;
        }
        let now = clusters::rows(&self.book, &self.shown, &self.name, self.auction.scale);
        let before = std::mem::replace(&mut self.shown_clusters, now);
        let now = &self.shown_clusters;
        changes.clusters.extend(before.iter().filter(|row| !now.contains(row)).map(|row| (row.clone(), -1)));
        changes.clusters.extend(now.iter().filter(|row| !before.contains(row)).map(|row| (row.clone(), 1)));
    }

    fn show_fairness(&mut self, changes: &mut Changes) {
        let now = (!self.totals.is_empty()).then(|| {
            let beside = Beside {
                feasible_pairs: self.feasible_pairs,
                bound: super::views::has_duals(&self.auction).then_some(self.bound),
                value_unclustered: self.unclustered.as_ref().map(|(_, _, sum)| *sum),
            };
            self.totals.row(&self.name, self.auction.scale, &beside)
        });
        if now == self.shown_fairness {
            return;
        }
        let before = std::mem::replace(&mut self.shown_fairness, now.clone());
        changes.fairness.extend(before.map(|row| (row, -1)));
        changes.fairness.extend(now.map(|row| (row, 1)));
    }
}

/// Counts a stage that was reached into every stage it includes.
fn add_stage(reach: &mut [u32; 3], stage: Stage, sign: i32) {
    let reached = match stage {
        Stage::Qos => 0,
        Stage::Capacity => 1,
        Stage::Budget => 2,
        Stage::Feasible => 3,
    };
    for count in &mut reach[..reached] {
        *count = count.wrapping_add_signed(sign);
    }
}
