//! `optimal` over a market: every connected component of feasible pairs is packed for itself, and packed anew when
//! something in it has changed.
//!
//! A packing depends on its component alone, so a component nothing touched keeps the one it has, and the whole is a
//! function of the tables (design 0007 says why no warmer start is taken). Requests that take nothing bind nobody: each
//! has its best resource.

use super::book::{Book, NONE, Stage};
use super::optimal::{self, Edge, Instance};

/// The packings of one market.
#[derive(Debug)]
pub struct Components {
    clustered: bool,
    rounds: usize,
    prices: Vec<f64>,
    /// By request, its feasible pairs in the order of resource slots.
    pairs: Vec<Vec<Edge>>,
    /// What is to be packed anew: requests and resources.
    dirty: [Vec<bool>; 2],
    /// By request, its resource, [`NONE`] without one, and the price of being served.
    at: Vec<u32>,
    price: Vec<i64>,
    /// By resource, the bound on its best set.
    knapsack: Vec<i128>,
}

impl Components {
    /// The packings of an empty market.
    pub fn new(clustered: bool, rounds: usize) -> Components {
        Components {
            clustered,
            rounds,
            prices: Vec::new(),
            pairs: Vec::new(),
            dirty: [Vec::new(), Vec::new()],
            at: Vec::new(),
            price: Vec::new(),
            knapsack: Vec::new(),
        }
    }

    /// Lets a request in, with its pairs.
    pub fn insert(&mut self, book: &Book, request: u32) {
        let i = request as usize;
        if i >= self.pairs.len() {
            self.pairs.resize_with(i + 1, Vec::new);
            self.at.resize(i + 1, NONE);
            self.price.resize(i + 1, 0);
            self.dirty[0].resize(i + 1, false);
        }
        self.pairs[i] = (0..self.knapsack.len() as u32).filter_map(|j| self.pair(book, request, j)).collect();
        self.dirty[0][i] = true;
    }

    /// Takes a request out. The book must still have it.
    pub fn remove(&mut self, book: &Book, request: u32) {
        let i = request as usize;
        for edge in std::mem::take(&mut self.pairs[i]) {
            self.dirty[1][edge.resource as usize] |= book.take(request) > 0;
        }
        self.dirty[0][i] = true;
        (self.at[i], self.price[i]) = (NONE, 0);
    }

    /// Lets a resource in, with its pairs.
    pub fn open(&mut self, book: &Book, resource: u32, price: f64) {
        let j = resource as usize;
        if j >= self.knapsack.len() {
            self.prices.resize(j + 1, 0.0);
            self.knapsack.resize(j + 1, 0);
            self.dirty[1].resize(j + 1, false);
        }
        self.prices[j] = price;
        self.dirty[1][j] = true;
        for request in 0..self.pairs.len() as u32 {
            if book.request(request).is_none() {
                continue;
            }
            if let Some(edge) = self.pair(book, request, resource) {
                let pairs = &mut self.pairs[request as usize];
                // One that is new in this epoch knows all its pairs already.
                if let Err(at) = pairs.binary_search_by_key(&resource, |e| e.resource) {
                    pairs.insert(at, edge);
                }
                self.dirty[0][request as usize] = true;
            }
        }
    }

    /// Takes a resource out.
    pub fn close(&mut self, resource: u32) {
        let j = resource as usize;
        for (request, pairs) in self.pairs.iter_mut().enumerate() {
            if let Ok(at) = pairs.binary_search_by_key(&resource, |e| e.resource) {
                pairs.remove(at);
                self.dirty[0][request] = true;
            }
        }
        self.dirty[1][j] = true;
        self.knapsack[j] = 0;
    }

    /// Packs what is dirty. Returns the requests and the resources whose part may have changed.
    pub fn settle(&mut self, book: &Book) -> [Vec<u32>; 2] {
        let components = self.labels(book);
        let is_dirty = |dirty: &[bool], slot: usize| dirty.get(slot).copied().unwrap_or(false);
        let mut stale = vec![false; self.knapsack.len()];
        for (j, component) in components.iter().enumerate() {
            stale[*component as usize] |= is_dirty(&self.dirty[1], j);
        }
        let mut touched = [Vec::new(), Vec::new()];
        for request in 0..self.pairs.len() {
            if !self.dirty[0][request] {
                continue;
            }
            touched[0].push(request as u32);
            match self.pairs[request].first() {
                Some(edge) if book.take(request as u32) > 0 => {
                    stale[components[edge.resource as usize] as usize] = true
                }
                _ => self.seat(book, request as u32),
            }
        }
        // Members of stale components, in the order of their keys.
        let mut members: Vec<[Vec<u32>; 2]> = Vec::new();
        let mut number = vec![NONE; self.knapsack.len()];
        for resource in book.resources.in_order().filter(|j| (*j as usize) < self.knapsack.len()) {
            let component = components[resource as usize] as usize;
            if !stale[component] {
                continue;
            }
            if number[component] == NONE {
                number[component] = members.len() as u32;
                members.push([Vec::new(), Vec::new()]);
            }
            members[number[component] as usize][1].push(resource);
        }
        for request in book.requests.in_order() {
            let Some(edge) = self.pairs.get(request as usize).and_then(|pairs| pairs.first()) else { continue };
            let component = components[edge.resource as usize] as usize;
            if stale[component] && book.take(request) > 0 {
                members[number[component] as usize][0].push(request);
            }
        }
        for [requests, resources] in members {
            self.pack(book, &requests, &resources);
            touched[0].extend(requests);
            touched[1].extend(resources);
        }
        for (side, touched) in touched.iter_mut().enumerate() {
            touched.extend((0..self.dirty[side].len() as u32).filter(|slot| self.dirty[side][*slot as usize]));
            touched.sort_unstable();
            touched.dedup();
            self.dirty[side].fill(false);
        }
        touched
    }

    /// The resource of a request, [`NONE`] if it has none.
    pub fn at(&self, request: u32) -> u32 {
        self.at.get(request as usize).copied().unwrap_or(NONE)
    }

    /// The price of being served, in units of score.
    pub fn request_price(&self, request: u32) -> i64 {
        self.price[request as usize]
    }

    /// What no set of requests adds to a resource beyond their prices.
    pub fn knapsack(&self, resource: u32) -> i128 {
        self.knapsack[resource as usize]
    }

    /// Gives a request that takes nothing, or has no pair, the best there is for it alone.
    fn seat(&mut self, book: &Book, request: u32) {
        let order = |a: &&Edge, b: &&Edge| {
            let key = |e: &Edge| book.resources.key(e.resource);
            a.score.cmp(&b.score).then_with(|| key(b).cmp(key(a)))
        };
        let best = self.pairs[request as usize].iter().max_by(order);
        (self.at[request as usize], self.price[request as usize]) = best.map_or((NONE, 0), |e| (e.resource, e.score));
    }

    fn pack(&mut self, book: &Book, requests: &[u32], resources: &[u32]) {
        let mut place = vec![NONE; self.knapsack.len()];
        for (at, resource) in resources.iter().enumerate() {
            place[*resource as usize] = at as u32;
        }
        let mut instance = Instance {
            takes: requests.iter().map(|i| book.take(*i)).collect(),
            rooms: resources.iter().map(|j| book.room(*j)).collect(),
            edges: Vec::new(),
            starts: vec![0],
        };
        for request in requests {
            let pairs = self.pairs[*request as usize].iter();
            let start = instance.edges.len();
            instance.edges.extend(pairs.map(|e| Edge { resource: place[e.resource as usize], score: e.score }));
            instance.edges[start..].sort_unstable_by_key(|e| e.resource);
            instance.starts.push(instance.edges.len());
        }
        let packing = optimal::solve(&instance, self.rounds);
        for (resource, bound) in resources.iter().zip(&packing.knapsacks) {
            self.knapsack[*resource as usize] = *bound;
        }
        for (at, request) in requests.iter().enumerate() {
            self.at[*request as usize] = packing.at[at].map_or(NONE, |j| resources[j as usize]);
            self.price[*request as usize] = packing.prices[at];
        }
    }

    /// By resource, the least slot of its component. Requests that take nothing bind nobody.
    fn labels(&self, book: &Book) -> Vec<u32> {
        let mut parent: Vec<u32> = (0..self.knapsack.len() as u32).collect();
        fn root(parent: &mut [u32], mut at: u32) -> u32 {
            while parent[at as usize] != at {
                parent[at as usize] = parent[parent[at as usize] as usize];
                at = parent[at as usize];
            }
            at
        }
        for (request, pairs) in self.pairs.iter().enumerate() {
            let Some((first, rest)) = pairs.split_first() else { continue };
            if book.take(request as u32) == 0 {
                continue;
            }
            let mut low = root(&mut parent, first.resource);
            for edge in rest {
                let other = root(&mut parent, edge.resource);
                let (least, most) = (low.min(other), low.max(other));
                parent[most as usize] = least;
                low = least;
            }
        }
        (0..parent.len() as u32).map(|at| root(&mut parent, at)).collect()
    }

    fn pair(&self, book: &Book, request: u32, resource: u32) -> Option<Edge> {
        let price = self.prices[resource as usize];
        let is_pair = book.resource(resource).is_some()
            && book.stage(request, resource, price) == Stage::Feasible
            && (!self.clustered || book.is_of_one_cluster(request, resource));
        is_pair.then(|| Edge { resource, score: book.score(request, resource) })
    }
}
