//! The optimum where it can be had: resources that serve a whole number of requests, whatever these take.
//!
//! Then the problem is a transportation problem, and [`crate::assignment::solver`] keeps it solved: an optimum with the
//! prices that prove it, repaired where a change touches it, and a function of the instance alone. Resources stand on
//! the left, so that theirs are the greatest of all optimal prices: what the others would lose by one place fewer. That
//! is what an externality is made of.

use super::book::{Book, NONE, Stage};
use crate::assignment::solver::{CAPACITY_MAX, LEFT, RIGHT, Solver};

/// The optimum of one market.
pub struct Exact {
    /// A resource serves one request at a time, whatever its capacity.
    exclusive: bool,
    clustered: bool,
    /// What every request takes, if they are not exclusive.
    unit: i64,
    solver: Solver,
    prices: Vec<f64>,
    /// Whether a slot takes part, by side.
    present: [Vec<bool>; 2],
}

impl Exact {
    /// The optimum of an empty market. `unit` is what a request takes where capacity is shared.
    pub fn new(exclusive: bool, clustered: bool, unit: i64) -> Exact {
        Exact {
            exclusive,
            clustered,
            unit: unit.max(1),
            solver: Solver::new(),
            prices: Vec::new(),
            present: [Vec::new(), Vec::new()],
        }
    }

    /// Lets a request in, with its pairs.
    pub fn insert(&mut self, book: &Book, request: u32) {
        self.solver.set_node(RIGHT, request, book.requests.key(request), 1);
        put(&mut self.present[RIGHT], request, true);
        self.set_edges(book, request, None);
    }

    /// Takes a request out.
    pub fn remove(&mut self, request: u32) {
        if std::mem::take(&mut self.present[RIGHT][request as usize]) {
            self.solver.remove_node(RIGHT, request);
        }
    }

    /// Lets a resource in, with its pairs.
    pub fn open(&mut self, book: &Book, resource: u32, price: f64) {
        if self.prices.len() <= resource as usize {
            self.prices.resize(resource as usize + 1, 0.0);
        }
        self.prices[resource as usize] = price;
        self.solver.set_node(LEFT, resource, book.resources.key(resource), self.places(book, resource));
        put(&mut self.present[LEFT], resource, true);
        for request in 0..self.present[RIGHT].len() as u32 {
            if self.present[RIGHT][request as usize] {
                self.set_edge(book, request, resource, book.score(request, resource));
            }
        }
    }

    /// Takes a resource out.
    pub fn close(&mut self, resource: u32) {
        if std::mem::take(&mut self.present[LEFT][resource as usize]) {
            self.solver.remove_node(LEFT, resource);
        }
    }

    /// Finds the optimum again. Returns the requests and the resources whose part may have changed.
    pub fn settle(&mut self) -> [Vec<u32>; 2] {
        let repair = self.solver.solve();
        let [resources, requests] = repair.touched;
        [requests, resources]
    }

    /// The resource of a request, [`NONE`] if it has none.
    pub fn at(&self, request: u32) -> u32 {
        if !self.present[RIGHT].get(request as usize).copied().unwrap_or(false) {
            return NONE;
        }
        self.solver.flow(RIGHT, request).first().map_or(NONE, |(resource, _)| *resource)
    }

    /// The price of being served, in units of score.
    pub fn request_price(&self, request: u32) -> i64 {
        self.solver.price(RIGHT, request).unwrap_or(0)
    }

    /// What all places of a resource are worth at its price.
    pub fn resource_price(&self, book: &Book, resource: u32) -> i128 {
        i128::from(self.places(book, resource)) * i128::from(self.solver.price(LEFT, resource).unwrap_or(0))
    }

    /// How many requests a resource serves. More than the solver takes are more than there are requests.
    fn places(&self, book: &Book, resource: u32) -> i64 {
        if self.exclusive { 1 } else { (book.room(resource) / self.unit).min(CAPACITY_MAX) }
    }

    /// What the other requests lose by a winner (Clarke 1971), in units of score, and the smallest bid with which it
    /// would still win.
    ///
    /// It wins with the bids with which its score with some resource exceeds the price that the others give a place
    /// there. Where the two are equal the rule of ties decides, and is asked.
    pub fn externality(&mut self, book: &Book, request: u32) -> (i64, f64) {
        let now = self.at(request);
        let budget = book.request(request).expect("a winner").budget;
        self.solver.remove_node(RIGHT, request);
        self.solver.solve();
        let prices: Vec<i64> =
            (0..self.present[LEFT].len() as u32).map(|j| self.solver.price(LEFT, j).unwrap_or(0)).collect();
        let externality = prices[now as usize];
        // The smallest bids with which it wins for sure, and with which a tie may make it win.
        let (mut sure, mut perhaps) = (budget, budget);
        for resource in 0..prices.len() as u32 {
            let price = prices[resource as usize];
            let wins = |bid: f64, least: i64| {
                let score = book.score_at_bid(request, resource, bid);
                self.is_possible(book, request, resource, bid) && score > 0 && score >= least
            };
            if wins(sure, price + 1) {
                sure = super::payment::smallest_bid(sure, |bid| wins(bid, price + 1));
            }
            if wins(perhaps, price) {
                perhaps = super::payment::smallest_bid(perhaps, |bid| wins(bid, price));
            }
        }
        let bid = if perhaps < sure {
            let mut is_served = |bid: f64| {
                self.solver.set_node(RIGHT, request, book.requests.key(request), 1);
                self.set_edges(book, request, Some(bid));
                self.solver.solve();
                let served = !self.solver.flow(RIGHT, request).is_empty();
                self.solver.remove_node(RIGHT, request);
                self.solver.solve();
                served
            };
            // What ties with what grows with the bid, so being served stays so (design 0007).
            super::payment::smallest_bid_above(perhaps, sure, &mut is_served)
        } else {
            sure
        };
        self.solver.set_node(RIGHT, request, book.requests.key(request), 1);
        self.set_edges(book, request, None);
        self.solver.solve();
        debug_assert_eq!(self.at(request), now);
        (externality, bid)
    }

    fn set_edges(&mut self, book: &Book, request: u32, bid: Option<f64>) {
        let bid = bid.unwrap_or_else(|| book.request(request).expect("it is there").budget);
        for resource in 0..self.present[LEFT].len() as u32 {
            if self.present[LEFT][resource as usize] && self.is_possible(book, request, resource, bid) {
                self.solver.set_edge(resource, request, worth(book.score_at_bid(request, resource, bid)));
            }
        }
    }

    fn set_edge(&mut self, book: &Book, request: u32, resource: u32, score: i64) {
        let bid = book.request(request).expect("it is there").budget;
        if self.is_possible(book, request, resource, bid) {
            self.solver.set_edge(resource, request, worth(score));
        }
    }

    fn is_possible(&self, book: &Book, request: u32, resource: u32, bid: f64) -> bool {
        let price = self.prices[resource as usize];
        book.stage_at_bid(request, resource, price, bid) == Stage::Feasible
            && (!self.clustered || book.is_of_one_cluster(request, resource))
    }
}

/// A score as a weight: a pair that is worth nothing is no pair.
fn worth(score: i64) -> Option<i64> {
    (score > 0).then_some(score)
}

fn put(flags: &mut Vec<bool>, slot: u32, value: bool) {
    if flags.len() <= slot as usize {
        flags.resize(slot as usize + 1, false);
    }
    flags[slot as usize] = value;
}
