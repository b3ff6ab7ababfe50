//! The requests and resources of one market, by slot: small integers under which everything else is kept.
//!
//! Attributes stand in columns, because what the mechanisms do most is to score one node against all of the other side.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use super::score::{Form, Metric, Request, Resource};

/// No slot.
pub const NONE: u32 = u32::MAX;
/// How many pairs are scored in one go.
pub const BLOCK: usize = 64;

/// How far a pair comes before it is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// The resource does not meet the request's needs.
    Qos,
    /// It does, but the request is larger than the resource.
    Capacity,
    /// It does and is large enough, but its price is beyond the budget.
    Budget,
    /// The pair is feasible.
    Feasible,
}

/// A place in the order in which pairs are taken: the greater score first, then the lesser request key, then the
/// lesser resource key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// The score of the pair.
    pub score: i64,
    /// Its request.
    pub request: u32,
    /// Its resource.
    pub resource: u32,
}

/// Keys and slots of one side.
#[derive(Debug, Default)]
pub struct Slots {
    slots: BTreeMap<Box<[u8]>, u32>,
    keys: Vec<Box<[u8]>>,
    free: Vec<u32>,
    leaving: Vec<u32>,
}

impl Slots {
    /// The slot of a key that is there.
    pub fn find(&self, key: &[u8]) -> Option<u32> {
        self.slots.get(key).copied()
    }

    /// The slot of a key, given if it has none.
    fn give(&mut self, key: &[u8]) -> u32 {
        if let Some(slot) = self.slots.get(key) {
            return *slot;
        }
        let slot = self.free.pop().unwrap_or_else(|| {
            self.keys.push(Box::default());
            u32::try_from(self.keys.len() - 1).expect("fewer than four thousand million nodes")
        });
        self.keys[slot as usize] = key.into();
        self.slots.insert(key.into(), slot);
        slot
    }

    /// Takes the key out. Its slot keeps it until [`Slots::release`].
    fn take(&mut self, key: &[u8]) {
        if let Some(slot) = self.slots.remove(key) {
            self.leaving.push(slot);
        }
    }

    fn release(&mut self) {
        for slot in self.leaving.drain(..) {
            self.keys[slot as usize] = Box::default();
            self.free.push(slot);
        }
    }

    /// The key of a slot.
    pub fn key(&self, slot: u32) -> &[u8] {
        &self.keys[slot as usize]
    }

    /// One more than the greatest slot given.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// How many keys there are.
    pub fn count(&self) -> usize {
        self.slots.len()
    }

    /// The slots in the order of their keys.
    pub fn in_order(&self) -> impl Iterator<Item = u32> + '_ {
        self.slots.values().copied()
    }
}

/// The requests and resources of one market.
#[derive(Debug)]
pub struct Book {
    /// The form of scores.
    pub form: Form,
    /// A budget bounds what is paid, not who is served: the published form.
    pub budget_caps: bool,
    /// The keys of requests.
    pub requests: Slots,
    /// The keys of resources.
    pub resources: Slots,
    request: Vec<Option<Request>>,
    resource: Vec<Option<Resource>>,
    asks: Asks,
    offers: Offers,
}

/// Requests in columns. A slot nobody has takes more than there is.
#[derive(Debug, Default)]
struct Asks {
    demand: Vec<f64>,
    budget: Vec<f64>,
    fair: Vec<f64>,
    place: [Vec<f64>; 3],
    take: Vec<i64>,
    cluster: Vec<u32>,
}

/// Resources in columns. A slot nobody has holds less than nothing.
#[derive(Debug, Default)]
struct Offers {
    cost: Vec<f64>,
    quality: Vec<f64>,
    energy: Vec<f64>,
    place: [Vec<f64>; 3],
    room: Vec<i64>,
    cluster: Vec<u32>,
}

impl Book {
    /// An empty market.
    pub fn new(form: Form) -> Book {
        Book {
            form,
            budget_caps: form.as_published,
            requests: Slots::default(),
            resources: Slots::default(),
            request: Vec::new(),
            resource: Vec::new(),
            asks: Asks::default(),
            offers: Offers::default(),
        }
    }

    /// Puts a request in, or another in its place, and gives its slot.
    pub fn set_request(&mut self, key: &[u8], request: Request) -> u32 {
        let slot = self.requests.give(key);
        let (at, asks) = (slot as usize, &mut self.asks);
        if at == self.request.len() {
            self.request.push(None);
            [&mut asks.demand, &mut asks.budget, &mut asks.fair].into_iter().for_each(|column| column.push(0.0));
            asks.place.iter_mut().for_each(|column| column.push(0.0));
            asks.take.push(i64::MAX);
            asks.cluster.push(NONE);
        }
        asks.demand[at] = request.demand;
        asks.budget[at] = request.budget;
        asks.fair[at] = request.fair;
        for (column, coordinate) in asks.place.iter_mut().zip(request.place) {
            column[at] = coordinate;
        }
        asks.take[at] = request.take;
        self.request[at] = Some(request);
        slot
    }

    /// Puts a resource in, or another in its place, and gives its slot.
    pub fn set_resource(&mut self, key: &[u8], resource: Resource) -> u32 {
        let slot = self.resources.give(key);
        let (at, offers) = (slot as usize, &mut self.offers);
        if at == self.resource.len() {
            self.resource.push(None);
            [&mut offers.cost, &mut offers.quality, &mut offers.energy].into_iter().for_each(|column| column.push(0.0));
            offers.place.iter_mut().for_each(|column| column.push(0.0));
            offers.room.push(-1);
            offers.cluster.push(NONE);
        }
        offers.cost[at] = resource.cost;
        offers.quality[at] = self.form.quality(&resource);
        offers.energy[at] = resource.energy;
        for (column, coordinate) in offers.place.iter_mut().zip(resource.place) {
            column[at] = coordinate;
        }
        offers.room[at] = resource.room;
        self.resource[at] = Some(resource);
        slot
    }

    /// Takes a request out. Its slot keeps its key until [`Book::release`].
    pub fn remove_request(&mut self, key: &[u8]) {
        let Some(slot) = self.requests.find(key) else { return };
        self.requests.take(key);
        self.request[slot as usize] = None;
        self.asks.take[slot as usize] = i64::MAX;
    }

    /// Takes a resource out. Its slot keeps its key until [`Book::release`].
    pub fn remove_resource(&mut self, key: &[u8]) {
        let Some(slot) = self.resources.find(key) else { return };
        self.resources.take(key);
        self.resource[slot as usize] = None;
        self.offers.room[slot as usize] = -1;
    }

    /// Frees the slots of what was taken out. Call when nothing needs their keys any more.
    pub fn release(&mut self) {
        self.requests.release();
        self.resources.release();
    }

    /// A request.
    pub fn request(&self, slot: u32) -> Option<&Request> {
        self.request.get(slot as usize)?.as_ref()
    }

    /// A resource.
    pub fn resource(&self, slot: u32) -> Option<&Resource> {
        self.resource.get(slot as usize)?.as_ref()
    }

    /// What a request takes: more than there is if nobody has the slot.
    pub fn take(&self, request: u32) -> i64 {
        self.asks.take[request as usize]
    }

    /// What a resource holds: less than nothing if nobody has the slot.
    pub fn room(&self, resource: u32) -> i64 {
        self.offers.room[resource as usize]
    }

    /// The cluster of a resource, [`NONE`] without clusters.
    pub fn cluster_of_resource(&self, resource: u32) -> u32 {
        self.offers.cluster[resource as usize]
    }

    /// The cluster of a request, [`NONE`] without clusters.
    pub fn cluster_of_request(&self, request: u32) -> u32 {
        self.asks.cluster[request as usize]
    }

    /// Puts a resource into a cluster.
    pub fn set_cluster_of_resource(&mut self, resource: u32, cluster: u32) {
        self.offers.cluster[resource as usize] = cluster;
    }

    /// Puts a request into a cluster.
    pub fn set_cluster_of_request(&mut self, request: u32, cluster: u32) {
        self.asks.cluster[request as usize] = cluster;
    }

    /// The score of a pair.
    pub fn score(&self, request: u32, resource: u32) -> i64 {
        self.score_at_bid(request, resource, self.asks.budget[request as usize])
    }

    /// The score the pair would have if the request's budget were this.
    pub fn score_at_bid(&self, request: u32, resource: u32, bid: f64) -> i64 {
        let (i, j) = (request as usize, resource as usize);
        let (asks, offers) = (&self.asks, &self.offers);
        self.form.score(
            [asks.demand[i], bid, asks.fair[i]],
            [offers.cost[j], offers.quality[j], offers.energy[j]],
            self.distance(request, resource),
        )
    }

    /// The score of a request with a resource that is not in the book.
    pub fn score_with(&self, request: u32, resource: &Resource) -> i64 {
        let (i, asks) = (request as usize, &self.asks);
        let here = [0, 1, 2].map(|d| asks.place[d][i]);
        self.form.score(
            [asks.demand[i], asks.budget[i], asks.fair[i]],
            [resource.cost, self.form.quality(resource), resource.energy],
            self.form.distance(&here, &resource.place),
        )
    }

    fn distance(&self, request: u32, resource: u32) -> f64 {
        let here = [0, 1, 2].map(|d| self.asks.place[d][request as usize]);
        let there = [0, 1, 2].map(|d| self.offers.place[d][resource as usize]);
        self.form.distance(&here, &there)
    }

    /// The scores of a request with the resources from `start` on, as many as the block holds or there are.
    pub fn score_resources(&self, request: u32, start: usize, scores: &mut [i64; BLOCK]) -> usize {
        let i = request as usize;
        let len = (self.resource.len() - start).min(BLOCK);
        let (asks, offers) = (&self.asks, &self.offers);
        let ask = [asks.demand[i], asks.budget[i], asks.fair[i]];
        let here = [0, 1, 2].map(|d| asks.place[d][i]);
        let range = start..start + len;
        let [x, y, z] = [0, 1, 2].map(|d| &offers.place[d][range.clone()]);
        let (cost, quality, energy) =
            (&offers.cost[range.clone()], &offers.quality[range.clone()], &offers.energy[range.clone()]);
        // One loop a metric: each is then without a branch.
        macro_rules! fill {
            ($metric:expr) => {{
                let form = Form { metric: $metric, ..self.form };
                for (k, score) in scores[..len].iter_mut().enumerate() {
                    let distance = form.distance(&here, &[x[k], y[k], z[k]]);
                    *score = form.score(ask, [cost[k], quality[k], energy[k]], distance);
                }
            }};
        }
        match self.form.metric {
            Metric::Nowhere => fill!(Metric::Nowhere),
            Metric::Plane => fill!(Metric::Plane),
            Metric::Globe => fill!(Metric::Globe),
        }
        len
    }

    /// The scores of a resource with the requests from `start` on, as many as the block holds or there are.
    pub fn score_requests(&self, resource: u32, start: usize, scores: &mut [i64; BLOCK]) -> usize {
        let j = resource as usize;
        let len = (self.request.len() - start).min(BLOCK);
        let (asks, offers) = (&self.asks, &self.offers);
        let offer = [offers.cost[j], offers.quality[j], offers.energy[j]];
        let there = [0, 1, 2].map(|d| offers.place[d][j]);
        let range = start..start + len;
        let [x, y, z] = [0, 1, 2].map(|d| &asks.place[d][range.clone()]);
        let (demand, budget, fair) =
            (&asks.demand[range.clone()], &asks.budget[range.clone()], &asks.fair[range.clone()]);
        macro_rules! fill {
            ($metric:expr) => {{
                let form = Form { metric: $metric, ..self.form };
                for (k, score) in scores[..len].iter_mut().enumerate() {
                    let distance = form.distance(&[x[k], y[k], z[k]], &there);
                    *score = form.score([demand[k], budget[k], fair[k]], offer, distance);
                }
            }};
        }
        match self.form.metric {
            Metric::Nowhere => fill!(Metric::Nowhere),
            Metric::Plane => fill!(Metric::Plane),
            Metric::Globe => fill!(Metric::Globe),
        }
        len
    }

    /// How far a pair comes at this price of a unit. Both must be there.
    pub fn stage(&self, request: u32, resource: u32, price: f64) -> Stage {
        self.stage_at_bid(request, resource, price, self.asks.budget[request as usize])
    }

    /// How far the pair would come if the request's budget were this.
    pub fn stage_at_bid(&self, request: u32, resource: u32, price: f64, bid: f64) -> Stage {
        let (Some(ask), Some(offer)) = (self.request(request), self.resource(resource)) else { return Stage::Qos };
        let meets = offer.reliability >= ask.reliability_min
            && offer.availability >= ask.availability_min
            && (ask.latency_max == f64::INFINITY
                || self.distance(request, resource) * self.form.latency_per_distance <= ask.latency_max);
        if !meets {
            Stage::Qos
        } else if ask.take > offer.room {
            Stage::Capacity
        } else if !self.budget_caps && price * ask.demand > bid {
            Stage::Budget
        } else {
            Stage::Feasible
        }
    }

    /// Whether a pair is of one cluster.
    pub fn is_of_one_cluster(&self, request: u32, resource: u32) -> bool {
        self.asks.cluster[request as usize] == self.offers.cluster[resource as usize]
    }

    /// What the winner of a pair is asked for: `min(ρ_j · d_i · (0.8 + 0.4 · U_ij), B_i)`.
    pub fn asked(&self, request: u32, score: i64, price: f64) -> f64 {
        let i = request as usize;
        let factor = 0.8 + 0.4 * super::score::float_score(score.into());
        (price * self.asks.demand[i] * factor).min(self.asks.budget[i])
    }

    /// Whether `a` comes before `b`.
    pub fn is_before(&self, a: &Position, b: &Position) -> bool {
        self.order(a, b) == Ordering::Less
    }

    /// The order of two positions.
    pub fn order(&self, a: &Position, b: &Position) -> Ordering {
        let requests = || self.requests.key(a.request).cmp(self.requests.key(b.request));
        let resources = || self.resources.key(a.resource).cmp(self.resources.key(b.resource));
        b.score.cmp(&a.score).then_with(requests).then_with(resources)
    }
}
