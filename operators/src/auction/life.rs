//! What a life of events adds to a market: who takes no part for now, and who has moved since the last look.

use std::collections::{BTreeMap, BTreeSet};

use super::options::{self, Auction, OnConflict};
use super::views::Reason;

/// What a life of events adds to a market.
#[derive(Debug)]
pub struct Life {
    /// How much a pair gains by being kept.
    pub switching_cost: i64,
    on_conflict: OnConflict,
    /// Requests that take no part, and why.
    pub barred: BTreeMap<u32, Reason>,
    /// By the key of a resource that left, the requests that wait for it.
    pub waiting: BTreeMap<Box<[u8]>, BTreeSet<u32>>,
    /// Requests barred since they were last asked for.
    pub newly_barred: Vec<u32>,
    /// Keys of requests whose part has changed since they were last asked for, and whether they have a resource then.
    pub moved: Vec<(Box<[u8]>, bool)>,
}

impl Life {
    /// For an auction, if it is held event by event.
    pub fn of(auction: &Auction) -> Option<Life> {
        let options::Life::Events(events) = &auction.life else { return None };
        Some(Life {
            switching_cost: events.switching_cost,
            on_conflict: events.on_conflict,
            barred: BTreeMap::new(),
            waiting: BTreeMap::new(),
            newly_barred: Vec::new(),
            moved: Vec::new(),
        })
    }

    /// A request whose resource leaves. If it competes again at once, nothing is to be noted.
    pub fn bar(&mut self, request: u32, resource: &[u8]) {
        let reason = match self.on_conflict {
            OnConflict::Requeue => return,
            OnConflict::Reject => Reason::ResourceLeft,
            OnConflict::Wait => Reason::Waiting,
        };
        self.restore(request, reason, Some(resource));
        self.newly_barred.push(request);
    }

    /// Puts a request back among those that take no part.
    pub fn restore(&mut self, request: u32, reason: Reason, resource: Option<&[u8]>) {
        self.barred.insert(request, reason);
        if let (Reason::Waiting, Some(resource)) = (reason, resource) {
            self.waiting.entry(resource.into()).or_default().insert(request);
        }
    }

    /// A request that takes part again, or is gone.
    pub fn release(&mut self, request: u32) {
        if self.barred.remove(&request) != Some(Reason::Waiting) {
            return;
        }
        if let Some(key) = self.waited_for(request).map(Box::from) {
            let waiting = self.waiting.get_mut(&key).expect("it waits for it");
            waiting.remove(&request);
            if waiting.is_empty() {
                self.waiting.remove(&key);
            }
        }
    }

    /// The key of the resource a request waits for.
    pub fn waited_for(&self, request: u32) -> Option<&[u8]> {
        self.waiting.iter().find(|(_, requests)| requests.contains(&request)).map(|(key, _)| &**key)
    }
}
