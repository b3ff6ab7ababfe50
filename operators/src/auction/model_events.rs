//! A life of events as the obvious function: one event after the other, and after each every pair sorted anew.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use engine::catalogue::{Model, Row};
use types::{RowCodec, Value};

use super::book::{Book, NONE, Position, Stage};
use super::mechanism::base_price;
use super::model::{reason, tell};
use super::options::{Auction, Events, Life, Mechanism, OnConflict, Side};
use super::rows::{Node, RequestRows, ResourceRows, Wrong};
use super::score::{Request, Resource};
use super::tables::MarketNames;
use super::views::{Allocation, Outcome, Reason, Shown, utilisation};
use crate::expression::{Expression, evaluate_row};

type Key = Box<[u8]>;

/// What is known of a market.
#[derive(Default)]
struct World {
    requests: BTreeMap<Key, Asking>,
    resources: BTreeMap<Key, (Resource, f64)>,
    served: BTreeMap<Key, i64>,
    last: Option<i64>,
}

struct Asking {
    request: Request,
    served: f64,
    was_served: bool,
    at: Option<Key>,
    paid: f64,
    barred: Option<(Reason, Key)>,
}

enum Event {
    Request(Result<Node<Request>, Wrong>),
    Resource(Result<Node<Resource>, Wrong>),
}

/// The model of an auction over events.
pub fn of(auction: &Arc<Auction>) -> Model {
    let auction = auction.clone();
    Arc::new(move |inputs: &[Vec<Row>]| {
        let Life::Events(events) = &auction.life else { unreachable!("a life of events") };
        let batch = |side: &Side, rows: &[Row]| RowCodec::new(&side.schema).batch(rows);
        let (q, r) = (&auction.requests.side, &auction.resources.side);
        let resources = batch(r, &inputs[0]);
        let requests = batch(q, &inputs[1]);
        let (resource_rows, request_rows) = (ResourceRows::new(&auction), RequestRows::new(&auction));
        let mut all: Vec<(Value, usize, Row, Result<(Key, Key), Wrong>, Event)> = Vec::new();
        for (row, event) in resource_rows.parse(&resources).into_iter().enumerate() {
            let cells = inputs[0][row].clone();
            let time = cells[r.schema.event_time.expect("events have times")].clone();
            all.push((time, 0, cells, resource_rows.names(&resources).at(row), Event::Resource(event)));
        }
        for (row, event) in request_rows.parse(&requests).into_iter().enumerate() {
            let cells = inputs[1][row].clone();
            let time = cells[q.schema.event_time.expect("events have times")].clone();
            all.push((time, 1, cells, request_rows.names(&requests).at(row), Event::Request(event)));
        }
        // Within an input they come in order.
        all.sort_by(|a, b| (&a.0, a.1).cmp(&(&b.0, b.1)));
        let mut worlds: BTreeMap<Key, World> = BTreeMap::new();
        for (time, input, cells, name, event) in all {
            let (Ok((key, market)), Value::Time(time)) = (name, time) else { continue };
            let world = worlds.entry(market).or_default();
            world.pass(&auction, events, time);
            let (side, condition) = if input == 0 { (r, &events.resource_ends) } else { (q, &events.request_ends) };
            let Some(ends) = ends(condition.as_ref(), side, &cells) else { continue };
            match event {
                Event::Request(_) if ends => world.end_request(&auction, events, &key),
                Event::Resource(_) if ends => world.end_resource(&auction, events, &key),
                Event::Request(Ok(node)) => world.set_request(&auction, events, node),
                Event::Resource(Ok(node)) => world.set_resource(&auction, events, node),
                _ => {}
            }
        }
        let names = MarketNames::new(q);
        let mut out = vec![Vec::new(); super::views::outputs(&auction).len()];
        for (bytes, world) in &worlds {
            if !world.requests.is_empty() || !world.resources.is_empty() {
                world.tell(&auction, &names.text(bytes), &mut out);
            }
        }
        out
    })
}

fn ends(condition: Option<&Expression>, side: &Side, cells: &Row) -> Option<bool> {
    let Some(condition) = condition else { return Some(false) };
    Some(evaluate_row(condition, &RowCodec::new(&side.schema), cells).ok()? == Value::Bool(true))
}

impl World {
    /// Prices move once for every whole period between two events.
    fn pass(&mut self, auction: &Auction, events: &Events, time: i64) {
        let before = self.last.replace(time);
        let (Some(every), Some(before)) = (auction.prices.every, before) else { return };
        let ticks = time.div_euclid(every) - before.div_euclid(every);
        if ticks <= 0 {
            return;
        }
        for (key, (resource, price)) in &mut self.resources {
            let holders = self.requests.values().filter(|a| a.at.as_ref() == Some(key));
            let used: i64 = holders.map(|a| a.request.take).sum();
            *price = auction.prices.moved(*price, utilisation(used, resource.room), ticks as f64);
        }
        self.hold(auction, events, &BTreeSet::new(), &BTreeSet::new());
    }

    fn set_request(&mut self, auction: &Auction, events: &Events, node: Node<Request>) {
        let Node { key, node: mut request, priority, .. } = node;
        let now = self.served.get(&request.requester).copied().unwrap_or(0) as f64;
        let counts = auction.requests.served.is_none() && !auction.form.as_published;
        let old = self.requests.remove(&key);
        let served = old.as_ref().map_or(now, |a| a.served);
        if counts {
            request.fair = auction.form.fair(priority, served);
        }
        let (was_served, at) = old.map_or((false, None), |a| (a.was_served, a.at));
        self.requests.insert(key.clone(), Asking { request, served, was_served, at, paid: 0.0, barred: None });
        self.hold(auction, events, &[key].into(), &BTreeSet::new());
    }

    fn end_request(&mut self, auction: &Auction, events: &Events, key: &Key) {
        if self.requests.remove(key).is_some() {
            self.hold(auction, events, &BTreeSet::new(), &BTreeSet::new());
        }
    }

    fn set_resource(&mut self, auction: &Auction, events: &Events, node: Node<Resource>) {
        let price = base_price(auction, &node.node);
        self.resources.insert(node.key.clone(), (node.node, price));
        let mut changed = BTreeSet::new();
        for (key, asking) in &mut self.requests {
            if asking.barred.as_ref().is_some_and(|(reason, at)| *reason == Reason::Waiting && *at == node.key) {
                asking.barred = None;
                asking.at = Some(node.key.clone());
                changed.insert(key.clone());
            }
        }
        self.hold(auction, events, &changed, &[node.key].into());
    }

    fn end_resource(&mut self, auction: &Auction, events: &Events, resource: &Key) {
        if self.resources.remove(resource).is_none() {
            return;
        }
        for asking in self.requests.values_mut().filter(|a| a.at.as_ref() == Some(resource)) {
            asking.at = None;
            asking.barred = match events.on_conflict {
                OnConflict::Requeue => None,
                OnConflict::Reject => Some((Reason::ResourceLeft, resource.clone())),
                OnConflict::Wait => Some((Reason::Waiting, resource.clone())),
            };
        }
        self.hold(auction, events, &BTreeSet::new(), &BTreeSet::new());
    }

    /// The book of what there is, with the prices; slots are in the order of keys.
    fn book(&self, auction: &Auction) -> (Book, Vec<f64>) {
        let mut book = Book::new(auction.form);
        self.requests.iter().for_each(|(key, asking)| {
            book.set_request(key, asking.request.clone());
        });
        self.resources.iter().for_each(|(key, (resource, _))| {
            book.set_resource(key, resource.clone());
        });
        (book, self.resources.values().map(|(_, price)| *price).collect())
    }

    /// Holds the auction: the greedy, where a pair that holds counts for more.
    fn hold(&mut self, auction: &Auction, events: &Events, changed: &BTreeSet<Key>, opened: &BTreeSet<Key>) {
        let exclusive = auction.mechanism == Mechanism::OneToOne;
        let (book, prices) = self.book(auction);
        let keys: Vec<Key> = self.resources.keys().cloned().collect();
        let mut pairs: Vec<Position> = Vec::new();
        for (i, asking) in self.requests.values().enumerate().filter(|(_, a)| a.barred.is_none()) {
            for (j, key) in keys.iter().enumerate() {
                let (request, resource) = (i as u32, j as u32);
                if book.stage(request, resource, prices[j]) == Stage::Feasible {
                    let bonus = if asking.at.as_ref() == Some(key) { events.switching_cost } else { 0 };
                    pairs.push(Position { score: book.score(request, resource) + bonus, request, resource });
                }
            }
        }
        pairs.sort_by(|a, b| book.order(a, b));
        let mut at = vec![NONE; self.requests.len()];
        let mut left: Vec<i64> = self.resources.values().map(|(r, _)| if exclusive { 1 } else { r.room }).collect();
        for Position { request, resource, .. } in pairs {
            let take = if exclusive { 1 } else { book.take(request) };
            if at[request as usize] == NONE && left[resource as usize] >= take {
                at[request as usize] = resource;
                left[resource as usize] -= take;
            }
        }
        for (i, (key, asking)) in self.requests.iter_mut().enumerate() {
            let before = asking.at.take();
            if at[i] == NONE {
                continue;
            }
            let now = &keys[at[i] as usize];
            if before.as_ref() != Some(now) || changed.contains(key) || opened.contains(now) {
                asking.paid = book.asked(i as u32, book.score(i as u32, at[i]), prices[at[i] as usize]);
            }
            asking.at = Some(now.clone());
            if !std::mem::replace(&mut asking.was_served, true) {
                *self.served.entry(asking.request.requester.clone()).or_insert(0) += 1;
            }
        }
    }

    fn tell(&self, auction: &Auction, name: &str, out: &mut [Vec<Row>]) {
        let (book, prices) = self.book(auction);
        let shown: Vec<Option<Shown>> = self
            .requests
            .values()
            .enumerate()
            .map(|(i, asking)| {
                let i = i as u32;
                let outcome = match (&asking.at, &asking.barred) {
                    (Some(key), _) => {
                        let resource = book.resources.find(key).expect("it is there");
                        Outcome::Allocated(Allocation {
                            resource,
                            score: book.score(i, resource),
                            demand: asking.request.demand,
                            take: asking.request.take,
                            budget: asking.request.budget,
                            asked: asking.paid,
                            payment: asking.paid,
                            externality: None,
                            energy: self.resources[key].0.energy,
                        })
                    }
                    (None, Some((reason, _))) => Outcome::Rejected(*reason),
                    (None, None) => Outcome::Rejected(reason(auction, &book, &prices, i)),
                };
                Some(Shown { requester: asking.request.requester.clone(), outcome })
            })
            .collect();
        tell(auction, &book, name, &shown, &prices, None, None, out);
    }
}
