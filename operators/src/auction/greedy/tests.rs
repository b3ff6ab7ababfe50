//! The maintained greedy against the sorted run after every change, in markets of some size.

use std::collections::BTreeMap;

use super::*;
use crate::auction::score::{Form, Metric, Request, Resource, SCORE_ONE, Scale, Weights};

/// SplitMix64: small, seeded, good enough to draw markets.
struct Draw(u64);

impl Draw {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }

    fn share(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }

    fn of(&mut self, values: &[f64]) -> f64 {
        values[self.below(values.len())]
    }
}

/// A market with its greedy, and what the sorted run needs to know of it.
struct World {
    book: Book,
    greedy: Greedy,
    exclusive: bool,
    bonus: i64,
    /// By slot: who takes part and the pair it is kept with; the price of a unit.
    requests: BTreeMap<u32, u32>,
    resources: BTreeMap<u32, f64>,
}

impl World {
    fn new(as_published: bool, exclusive: bool, bonus: i64) -> World {
        let form = Form {
            weights: Weights::default(),
            as_published,
            metric: Metric::Plane,
            distance_scale: 200.0,
            latency_per_distance: 1.0,
            priority_max: 10.0,
        };
        World {
            book: Book::new(form),
            greedy: Greedy::new(exclusive, false, bonus),
            exclusive,
            bonus,
            requests: BTreeMap::new(),
            resources: BTreeMap::new(),
        }
    }

    fn set_request(&mut self, key: usize, draw: &mut Draw) {
        let key = (key as u32).to_be_bytes();
        if let Some(slot) = self.book.requests.find(&key) {
            self.greedy.remove(&self.book, slot);
        }
        let any = draw.share();
        let demand = draw.of(&[0.0, 1.0 / 3.0, 2.0 / 3.0, 1.0, 0.25, any]);
        let request = Request {
            demand,
            take: Scale::default().fixed(demand).expect("a quantity"),
            budget: draw.of(&[0.0, 0.3, 1.0, 2.0, 5.0, 3.0 * any]),
            fair: self.book.form.fair(draw.of(&[0.0, 5.0, 10.0]), 0.0),
            place: [draw.of(&[0.0, 50.0, 100.0]), 0.0, 0.0],
            reliability_min: draw.of(&[0.0, 0.0, 0.0, 0.95]),
            availability_min: 0.0,
            latency_max: draw.of(&[f64::INFINITY, f64::INFINITY, 60.0]),
            requester: Box::default(),
        };
        let slot = self.book.set_request(&key, request);
        self.greedy.insert(slot);
        self.requests.entry(slot).or_insert(NONE);
    }

    fn remove_request(&mut self, key: usize) {
        let key = (key as u32).to_be_bytes();
        if let Some(slot) = self.book.requests.find(&key) {
            self.greedy.remove(&self.book, slot);
            self.greedy.set_kept(slot, NONE);
            self.requests.remove(&slot);
            self.book.remove_request(&key);
        }
    }

    fn set_resource(&mut self, key: usize, draw: &mut Draw) {
        self.close(key);
        let capacity = draw.of(&[0.0, 0.5, 0.7, 1.0, 1.4, 3.0]);
        let resource = Resource {
            capacity,
            room: Scale::default().fixed(capacity).expect("a quantity"),
            cost: draw.of(&[0.0, 0.3, 0.5, 0.9]),
            reliability: draw.of(&[0.9, 1.0]),
            availability: draw.of(&[0.9, 1.0]),
            energy: draw.of(&[0.5, 0.9]),
            place: [draw.of(&[0.0, 50.0, 100.0]), 0.0, 0.0],
        };
        let price = resource.cost;
        let slot = self.book.set_resource(&(key as u32).to_be_bytes(), resource);
        self.greedy.open(slot, price);
        self.resources.insert(slot, price);
    }

    fn close(&mut self, key: usize) {
        if let Some(slot) = self.book.resources.find(&(key as u32).to_be_bytes()) {
            self.greedy.close(slot);
            self.resources.remove(&slot);
        }
    }

    fn remove_resource(&mut self, key: usize) {
        self.close(key);
        self.book.remove_resource(&(key as u32).to_be_bytes());
    }

    fn reprice(&mut self, draw: &mut Draw) {
        let open: Vec<u32> = self.resources.keys().copied().collect();
        if !open.is_empty() {
            let resource = open[draw.below(open.len())];
            let price = draw.of(&[0.0, 0.2, 0.5, 1.0, 3.0]);
            self.greedy.reprice(&self.book, resource, price);
            self.resources.insert(resource, price);
        }
    }

    /// Every pair sorted, and taken in turn.
    fn sorted_run(&self) -> BTreeMap<u32, u32> {
        let mut pairs: Vec<Position> = Vec::new();
        for (request, kept) in &self.requests {
            for (resource, price) in &self.resources {
                let (request, resource) = (*request, *resource);
                if self.book.stage(request, resource, *price) == Stage::Feasible {
                    let bonus = if *kept == resource { self.bonus } else { 0 };
                    pairs.push(Position { score: self.book.score(request, resource) + bonus, request, resource });
                }
            }
        }
        pairs.sort_by(|a, b| self.book.order(a, b));
        let room = |resource: &u32| if self.exclusive { 1 } else { self.book.room(*resource) };
        let mut left: BTreeMap<u32, i64> = self.resources.keys().map(|j| (*j, room(j))).collect();
        let mut at = BTreeMap::new();
        for Position { request, resource, .. } in pairs {
            let take = if self.exclusive { 1 } else { self.book.take(request) };
            let left = left.get_mut(&resource).expect("it is open");
            if *left >= take && !at.contains_key(&request) {
                *left -= take;
                at.insert(request, resource);
            }
        }
        at
    }

    /// Settles, compares, and keeps the pairs there are.
    fn settle(&mut self, at: &str) {
        let [touched, _] = self.greedy.settle(&self.book);
        let expected = self.sorted_run();
        for slot in 0..self.book.requests.len() as u32 {
            let expected = expected.get(&slot).copied().unwrap_or(NONE);
            assert_eq!(self.greedy.at(slot), expected, "{at}: request {:?}", self.book.requests.key(slot));
        }
        if self.bonus > 0 {
            self.greedy.keep(&self.book, &touched);
            for (request, kept) in &mut self.requests {
                *kept = expected.get(request).copied().unwrap_or(NONE);
            }
        }
        self.book.release();
    }
}

#[test]
fn after_every_change_of_a_large_market_it_is_the_sorted_run() {
    const REQUESTS: usize = 60;
    const RESOURCES: usize = 15;
    for seed in 0..24u64 {
        let bonus = [0.0, 0.01, 0.05, 1.0][(seed / 2 % 4) as usize];
        let mut world = World::new(seed % 5 == 0, seed % 2 == 1, (bonus * SCORE_ONE) as i64);
        let draw = &mut Draw(seed);
        for key in 0..REQUESTS {
            world.set_request(key, draw);
        }
        for key in 0..RESOURCES {
            world.set_resource(key, draw);
        }
        for step in 0..400 {
            world.settle(&format!("seed {seed}, step {step}"));
            // One change, or a few at once.
            for _ in 0..=draw.below(3) {
                let (request, resource) = (draw.below(REQUESTS), draw.below(RESOURCES));
                match draw.below(10) {
                    0..=3 => world.set_request(request, draw),
                    4 => world.remove_request(request),
                    5 | 6 => world.set_resource(resource, draw),
                    7 => world.remove_resource(resource),
                    _ => world.reprice(draw),
                }
            }
        }
        // To nothing and back: what all leave, and what all come to.
        (0..RESOURCES).for_each(|key| world.remove_resource(key));
        world.settle(&format!("seed {seed}, no resources"));
        (0..RESOURCES).for_each(|key| world.set_resource(key, draw));
        world.settle(&format!("seed {seed}, resources again"));
        (0..REQUESTS).for_each(|key| world.remove_request(key));
        world.settle(&format!("seed {seed}, no requests"));
        (0..REQUESTS).for_each(|key| world.set_request(key, draw));
        world.settle(&format!("seed {seed}, requests again"));
    }
}
