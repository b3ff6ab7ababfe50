//! The mechanisms behind one door: who comes and goes, then who gets what.

use super::book::Book;
use super::components::Components;
use super::exact::Exact;
use super::greedy::Greedy;
use super::options::{self, Auction};
use super::score::Resource;
use super::views::utilisation;

/// Who gets what in one market.
pub enum Mechanism {
    /// The greedy, once for each round of prices; the last counts.
    Greedy(Vec<Greedy>),
    /// Packings with a bound.
    Components(Components),
    /// The optimum.
    Exact(Box<Exact>),
}

impl Mechanism {
    /// For an empty market; `clustered` if pairs of different clusters are not feasible.
    pub fn new(auction: &Auction, clustered: bool, kept_bonus: i64) -> Mechanism {
        let exclusive = auction.mechanism.is_exclusive();
        match auction.mechanism {
            options::Mechanism::Greedy | options::Mechanism::OneToOne => {
                let rounds = 0..=auction.prices.rounds;
                Mechanism::Greedy(rounds.map(|_| Greedy::new(exclusive, clustered, kept_bonus)).collect())
            }
            options::Mechanism::Optimal => Mechanism::Components(Components::new(clustered, auction.dual_rounds)),
            options::Mechanism::OptimalExclusive | options::Mechanism::OptimalUnits => {
                let unit = auction.scale.fixed(1.0).unwrap_or(1);
                Mechanism::Exact(Box::new(Exact::new(exclusive, clustered, unit)))
            }
        }
    }

    /// A request leaves or is about to change. The book must still have it as it was.
    pub fn retire_request(&mut self, book: &Book, request: u32) {
        match self {
            Mechanism::Greedy(rounds) => rounds.iter_mut().for_each(|g| g.remove(book, request)),
            Mechanism::Components(components) => components.remove(book, request),
            Mechanism::Exact(exact) => exact.remove(request),
        }
    }

    /// A resource leaves or is about to change.
    pub fn retire_resource(&mut self, resource: u32) {
        match self {
            Mechanism::Greedy(rounds) => rounds.iter_mut().for_each(|g| {
                g.close(resource);
            }),
            Mechanism::Components(components) => components.close(resource),
            Mechanism::Exact(exact) => exact.close(resource),
        }
    }

    /// A resource comes, at this price of a unit. Resources come before requests.
    pub fn admit_resource(&mut self, book: &Book, resource: u32, price: f64) {
        match self {
            Mechanism::Greedy(rounds) => rounds.iter_mut().for_each(|g| g.open(resource, price)),
            Mechanism::Components(components) => components.open(book, resource, price),
            Mechanism::Exact(exact) => exact.open(book, resource, price),
        }
    }

    /// A request comes.
    pub fn admit_request(&mut self, book: &Book, request: u32) {
        match self {
            Mechanism::Greedy(rounds) => rounds.iter_mut().for_each(|g| g.insert(request)),
            Mechanism::Components(components) => components.insert(book, request),
            Mechanism::Exact(exact) => exact.insert(book, request),
        }
    }

    /// Finds who gets what. Returns the requests and the resources whose part may have changed.
    pub fn settle(&mut self, book: &Book, prices: &options::Prices) -> [Vec<u32>; 2] {
        match self {
            Mechanism::Components(components) => components.settle(book),
            Mechanism::Exact(exact) => exact.settle(),
            Mechanism::Greedy(rounds) => {
                let mut touched = rounds[0].settle(book);
                for round in 1..rounds.len() {
                    let (before, after) = rounds.split_at_mut(round);
                    let (before, after) = (&before[round - 1], &mut after[0]);
                    for resource in touched[1].iter().copied().filter(|j| book.resource(*j).is_some()) {
                        let used: i64 = before.held(resource).iter().map(|i| book.take(*i)).sum();
                        let share = utilisation(used, book.room(resource));
                        let price = prices.moved(before.price(resource), share, 1.0);
                        if price != after.price(resource) {
                            after.reprice(book, resource, price);
                        }
                    }
                    touched = after.settle(book);
                }
                touched
            }
        }
    }

    /// The resource of a request, [`super::book::NONE`] if it has none.
    pub fn at(&self, request: u32) -> u32 {
        match self {
            Mechanism::Greedy(rounds) => self::last(rounds).at(request),
            Mechanism::Components(components) => components.at(request),
            Mechanism::Exact(exact) => exact.at(request),
        }
    }

    /// The price of being served, in units of score, where there is a proof.
    pub fn request_price(&self, request: u32) -> Option<i64> {
        match self {
            Mechanism::Greedy(_) => None,
            Mechanism::Components(components) => Some(components.request_price(request)),
            Mechanism::Exact(exact) => Some(exact.request_price(request)),
        }
    }

    /// A resource's part of the bound, where there is a proof.
    pub fn resource_bound(&self, book: &Book, resource: u32) -> Option<i128> {
        match self {
            Mechanism::Greedy(_) => None,
            Mechanism::Components(components) => Some(components.knapsack(resource)),
            Mechanism::Exact(exact) => Some(exact.resource_price(book, resource)),
        }
    }

    /// The greedy whose allocation counts.
    pub fn greedy(&mut self) -> Option<&mut Greedy> {
        match self {
            Mechanism::Greedy(rounds) => rounds.last_mut(),
            _ => None,
        }
    }

    /// The price of a unit of a resource; `base` where prices do not move.
    pub fn price(&self, resource: u32, base: f64) -> f64 {
        match self {
            Mechanism::Greedy(rounds) => self::last(rounds).price(resource),
            _ => base,
        }
    }
}

fn last(rounds: &[Greedy]) -> &Greedy {
    rounds.last().expect("there is always one")
}

/// The price of a unit before any update: what it costs; as published, after one update of an idle resource.
pub fn base_price(auction: &Auction, resource: &Resource) -> f64 {
    let prices = &auction.prices;
    if auction.form.as_published {
        // The code's own form, with a utilisation that is always 0 (it reads a list nobody writes).
        let price = resource.cost * (1.0 + prices.step * (0.0 - prices.target));
        return price.clamp(prices.min, prices.max) + 0.0;
    }
    resource.cost.clamp(prices.min, prices.max)
}
