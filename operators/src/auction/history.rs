//! The auction as a function of history: held after every event, in the order of event time.
//!
//! An allocation is kept unless another beats it by the switching cost, so what there is depends on what there was. The
//! rule is the greedy with one change: a pair that holds counts for that much more. With it an allocation stands by
//! itself, and holding the auction again without an event changes nothing (design 0007), which is also why after a
//! restart the state can be found again from requests, resources and the pairs that held.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::TimestampMicrosecondType;
use engine::operator::{Context, HistoryOperator};

use super::market::Market;
use super::options::{Auction, Events, Life};
use super::rows::{Net, Node, RequestRows, ResourceRows, Wrong};
use super::score::{Request, Resource};
use super::state::{Entry, Past, Tag, decode, encode, key_of};
use super::tables::MarketNames;
use super::views::{Changes, Views};
use crate::expression::{Expression, RowErrors};
use crate::refusal::EXPRESSION;

/// The auction at work on the events of one worker's markets.
pub struct Chronicle {
    auction: Arc<Auction>,
    requests: RequestRows,
    resources: ResourceRows,
    views: Views,
    names: MarketNames,
    markets: BTreeMap<Box<[u8]>, Course>,
    /// What was restored and is not put back yet.
    restored: BTreeMap<Box<[u8]>, Vec<Entry>>,
}

/// The course of one market.
struct Course {
    market: Market,
    /// By key of a request: its past.
    past: BTreeMap<Box<[u8]>, Past>,
    /// By requester, how often it has been served.
    served: BTreeMap<Box<[u8]>, i64>,
    /// The event time of the last event.
    last: Option<i64>,
    dirty: Dirty,
}

/// What is to be stored again.
#[derive(Default)]
struct Dirty {
    requests: BTreeSet<Box<[u8]>>,
    resources: BTreeSet<Box<[u8]>>,
    requesters: BTreeSet<Box<[u8]>>,
    time: bool,
}

/// The input of requests; the other is that of resources.
pub const REQUESTS: usize = 1;

impl Chronicle {
    /// Before the first event.
    pub fn new(auction: Arc<Auction>) -> Chronicle {
        Chronicle {
            requests: RequestRows::new(&auction),
            resources: ResourceRows::new(&auction),
            views: Views::new(&auction),
            names: MarketNames::new(&auction.requests.side),
            markets: BTreeMap::new(),
            restored: BTreeMap::new(),
            auction,
        }
    }

    fn events(&self) -> &Events {
        match &self.auction.life {
            Life::Events(events) => events,
            Life::Tables => unreachable!("a chronicle is of events"),
        }
    }

    fn course(&mut self, market: &[u8]) -> &mut Course {
        if !self.markets.contains_key(market) {
            let course = Course::new(Market::new(&self.auction, self.names.text(market)));
            self.markets.insert(market.into(), course);
        }
        self.markets.get_mut(market).expect("it was put in")
    }

    fn put_back(&mut self) {
        for (bytes, entries) in std::mem::take(&mut self.restored) {
            let course = self.course(&bytes);
            let (mut requests, mut resources) = (Vec::new(), Vec::new());
            for entry in entries {
                match entry {
                    Entry::Request(node, standing, past) => {
                        course.past.insert(node.key.clone(), past);
                        requests.push((*node, standing));
                    }
                    Entry::Resource(node, price) => resources.push((*node, price)),
                    Entry::Requester(requester, count) => {
                        course.served.insert(requester, count);
                    }
                    Entry::Time(at) => course.last = Some(at),
                }
            }
            course.market.restore(resources, requests);
        }
    }

    /// One event of a request: it comes, changes or is gone.
    fn apply_request(
        &mut self,
        (key, market): (Box<[u8]>, Box<[u8]>),
        node: Option<Node<Request>>,
        changes: &mut Changes,
    ) -> Result<(), Wrong> {
        let counts_served = self.auction.requests.served.is_none() && !self.auction.form.as_published;
        let form = self.auction.form;
        let course = self.course(&market);
        let is_known = course.past.contains_key(&key);
        if node.is_none() && !is_known {
            return Err(("unknown_request", "a request ends that is not there".to_owned()));
        }
        let gone = if is_known { vec![(market, key.clone())] } else { Vec::new() };
        let come = node.map(|mut node| {
            if counts_served {
                let now = course.served.get(&node.node.requester).copied().unwrap_or(0) as f64;
                let past = course.past.entry(key.clone()).or_insert(Past { served: now, was_served: false });
                node.node.fair = form.fair(node.priority, past.served);
            } else {
                course.past.entry(key.clone()).or_default();
            }
            node
        });
        if come.is_none() {
            course.past.remove(&key);
        }
        course.dirty.requests.insert(key);
        course.market.apply(Net { gone, come: come.into_iter().collect() }, Net::default(), changes);
        course.note();
        Ok(())
    }

    /// One event of a resource: it comes, changes or is gone.
    fn apply_resource(
        &mut self,
        (key, market): (Box<[u8]>, Box<[u8]>),
        node: Option<Node<Resource>>,
        changes: &mut Changes,
    ) -> Result<(), Wrong> {
        let course = self.course(&market);
        let is_known = course.market.offer(&key).is_some();
        if node.is_none() && !is_known {
            return Err(("unknown_resource", "a resource ends that is not there".to_owned()));
        }
        let gone = if is_known { vec![(market, key.clone())] } else { Vec::new() };
        course.dirty.resources.insert(key);
        course.market.apply(Net::default(), Net { gone, come: node.into_iter().collect() }, changes);
        course.note();
        Ok(())
    }

    /// Moves prices for the time that has passed in a market.
    fn pass_time(&mut self, market: &[u8], at: i64, changes: &mut Changes) {
        let every = self.auction.prices.every;
        let course = self.course(market);
        let before = course.last.replace(at);
        course.dirty.time = true;
        let (Some(every), Some(before)) = (every, before) else { return };
        let ticks = at.div_euclid(every) - before.div_euclid(every);
        if ticks > 0 {
            course.market.tick(ticks as f64, changes);
            course.dirty.resources.extend(course.market.resource_keys());
            course.note();
        }
    }
}

impl Course {
    fn new(market: Market) -> Course {
        Course { market, past: BTreeMap::new(), served: BTreeMap::new(), last: None, dirty: Dirty::default() }
    }

    /// Counts who was served for the first time, and notes what is to be stored.
    fn note(&mut self) {
        let Some(life) = &mut self.market.life else { return };
        let mut moved = std::mem::take(&mut life.moved);
        for (key, is_seated) in moved.drain(..) {
            if let Some(past) = self.past.get_mut(&key)
                && is_seated
                && !std::mem::replace(&mut past.was_served, true)
                && let Some((request, _)) = self.market.standing(&key)
            {
                *self.served.entry(request.requester.clone()).or_insert(0) += 1;
                self.dirty.requesters.insert(request.requester.clone());
            }
            self.dirty.requests.insert(key);
        }
        if let Some(life) = &mut self.market.life {
            life.moved = moved;
        }
    }

    /// Stores what has changed.
    fn store(&mut self, market: &[u8], context: &mut Context) {
        let dirty = std::mem::take(&mut self.dirty);
        let mut put = |tag: Tag, key: &[u8], entry: Option<Entry>| {
            let value = entry.map(|entry| encode(market, &entry));
            context.put_state(market, &key_of(tag, key), value.as_deref());
        };
        for key in &dirty.requests {
            let entry = self.market.standing(key).map(|(request, standing)| {
                let past = self.past.get(key).copied().unwrap_or_default();
                let node = Node { key: key.clone(), market: market.into(), node: request.clone(), priority: 0.0 };
                Entry::Request(Box::new(node), standing, past)
            });
            put(Tag::Request, key, entry);
        }
        for key in &dirty.resources {
            let entry = self.market.offer(key).map(|(resource, price)| {
                let node = Node { key: key.clone(), market: market.into(), node: resource.clone(), priority: 0.0 };
                Entry::Resource(Box::new(node), price)
            });
            put(Tag::Resource, key, entry);
        }
        for requester in &dirty.requesters {
            let count = self.served.get(requester).copied().unwrap_or(0);
            put(Tag::Requester, requester, Some(Entry::Requester(requester.clone(), count)));
        }
        if let (true, Some(at)) = (dirty.time, self.last) {
            put(Tag::Time, &[], Some(Entry::Time(at)));
        }
    }
}

impl HistoryOperator for Chronicle {
    fn restore(&mut self, key: &[u8], value: &[u8]) {
        let (market, entry) = decode(key, value);
        self.restored.entry(market).or_default().push(entry);
    }

    fn apply(&mut self, input: usize, events: &RecordBatch, context: &mut Context) {
        self.put_back();
        let is_request = input == REQUESTS;
        let side = if is_request { &self.auction.requests.side } else { &self.auction.resources.side };
        let at = side.schema.event_time.expect("history has event times");
        let times = events.column(at).as_primitive::<TimestampMicrosecondType>().clone();
        let condition = if is_request { &self.events().request_ends } else { &self.events().resource_ends };
        let (ends, errors) = ends(condition.as_ref(), events);
        let names = if is_request { self.requests.names(events) } else { self.resources.names(events) };
        let mut requests = if is_request { self.requests.parse(events) } else { Vec::new() }.into_iter();
        let mut resources = if is_request { Vec::new() } else { self.resources.parse(events) }.into_iter();
        let mut changes = Changes::default();
        let mut touched: BTreeSet<Box<[u8]>> = BTreeSet::new();
        let mut errors = errors.into_iter().peekable();
        for row in 0..events.num_rows() {
            let (request, resource) = (requests.next(), resources.next());
            let error = errors.next_if(|(at, _)| *at == row);
            let told = names.at(row).and_then(|name| {
                touched.insert(name.1.clone());
                self.pass_time(&name.1, times.value(row), &mut changes);
                if let Some((_, error)) = error {
                    return Err((EXPRESSION, error));
                }
                match (request, resource) {
                    (Some(request), _) => {
                        let node = if ends[row] { None } else { Some(request?) };
                        self.apply_request(name, node, &mut changes)
                    }
                    (None, resource) => {
                        let node = if ends[row] { None } else { Some(resource.expect("one of the two")?) };
                        self.apply_resource(name, node, &mut changes)
                    }
                }
            });
            match told {
                Ok(()) => {}
                Err(wrong) if is_request => self.requests.refuse(context, events, row, wrong),
                Err(wrong) => self.resources.refuse(context, events, row, wrong),
            }
        }
        for market in touched {
            let course = self.markets.get_mut(&market).expect("it was touched");
            course.market.finish(&mut changes);
            course.store(&market, context);
        }
        self.views.emit(changes, context);
    }
}

/// For every event whether it is the end of its request or resource, and where that cannot be said.
fn ends(condition: Option<&Expression>, events: &RecordBatch) -> (Vec<bool>, RowErrors) {
    let Some(condition) = condition else { return (vec![false; events.num_rows()], Vec::new()) };
    let (values, errors) = condition.evaluate(events);
    let values = values.as_boolean();
    ((0..events.num_rows()).map(|row| values.is_valid(row) && values.value(row)).collect(), errors)
}
