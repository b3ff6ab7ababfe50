//! The monotone greedy: pairs in the order of their scores, each taken if its request is still free and its resource has
//! room. Maintained under changes, and equal to doing it all again.
//!
//! **Why it can be maintained.** Whether a pair is taken depends on pairs before it alone: its request must not have
//! been served before, and the requests its resource took before must leave room. So the result is the only solution
//! of these conditions, and a change matters only to pairs behind it that share its request or its resource. Those are
//! looked at in order, the first first; everything before the pair in hand is final.
//!
//! **What is looked at.** A request that has no resource looks for the first pair behind the one it lost that has room
//! now. A resource that was given room back at some position looks for the first request behind it that fits and would
//! come earlier than with what it has. Both go into one heap by position. A pair that is taken may push later holders
//! of its resource out, and gives its request's former resource room back: both are changes behind it. No list of all
//! pairs is kept: a node is scored against the other side when it looks.

use super::book::{BLOCK, Book, NONE, Position, Stage};

/// The state of the greedy in one market.
#[derive(Debug)]
pub struct Greedy {
    /// A resource serves one request at a time, whatever its capacity.
    exclusive: bool,
    /// Pairs of different clusters are not feasible.
    clustered: bool,
    /// What a pair's score gains by being kept from the last clearing, and with which resource, by request.
    kept_bonus: i64,
    kept: Vec<u32>,
    /// The price of a unit, by resource.
    prices: Vec<f64>,
    /// By request, its resource and the score of the pair, bonus and all; [`NONE`] and the least score without one.
    at: Vec<u32>,
    score: Vec<i64>,
    /// By resource, the requests that take some of it, in the order of their pairs, and how much they take.
    held: Vec<Vec<u32>>,
    used: Vec<i64>,
    /// By resource, the candidate in the heap from which its search goes on.
    search: Vec<Option<Position>>,
    heap: Heap,
    /// Requests that look for a resource, and resources with room given back: from where on, `None` from the top.
    looking: Vec<u32>,
    opened: Vec<(u32, Option<Position>)>,
    touched: [Vec<u32>; 2],
    is_touched: [Vec<bool>; 2],
    /// While set, what changes is noted, to be taken back.
    undo: Option<Vec<Undo>>,
    /// While set, nothing counts as touched.
    is_trial: bool,
}

/// What was, before a change that may be taken back.
#[derive(Debug)]
struct Undo {
    request: u32,
    at: u32,
    score: i64,
}

/// Who may be in the heap, and for whom the search goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Seeker {
    Request,
    Resource,
}

impl Greedy {
    /// The greedy over an empty market.
    pub fn new(exclusive: bool, clustered: bool, kept_bonus: i64) -> Greedy {
        Greedy {
            exclusive,
            clustered,
            kept_bonus,
            kept: Vec::new(),
            prices: Vec::new(),
            at: Vec::new(),
            score: Vec::new(),
            held: Vec::new(),
            used: Vec::new(),
            search: Vec::new(),
            heap: Heap::default(),
            looking: Vec::new(),
            opened: Vec::new(),
            touched: [Vec::new(), Vec::new()],
            is_touched: [Vec::new(), Vec::new()],
            undo: None,
            is_trial: false,
        }
    }

    /// The resource of a request, [`NONE`] if it has none.
    pub fn at(&self, request: u32) -> u32 {
        self.at.get(request as usize).copied().unwrap_or(NONE)
    }

    /// The requests that take some of a resource, in the order of their pairs.
    pub fn held(&self, resource: u32) -> &[u32] {
        &self.held[resource as usize]
    }

    /// How much of a resource is taken: capacity in fixed point, or requests if they are served one at a time.
    pub fn used(&self, resource: u32) -> i64 {
        self.used[resource as usize]
    }

    /// The price of a unit of a resource.
    pub fn price(&self, resource: u32) -> f64 {
        self.prices[resource as usize]
    }

    /// Lets a request in that is new, or takes part again. [`Greedy::settle`] finds its place.
    pub fn insert(&mut self, request: u32) {
        let i = request as usize;
        if i >= self.at.len() {
            self.at.resize(i + 1, NONE);
            self.score.resize(i + 1, i64::MIN);
            self.kept.resize(i + 1, NONE);
            self.is_touched[0].resize(i + 1, false);
        }
        self.looking.push(request);
    }

    /// Takes a request out: it holds nothing and looks for nothing.
    pub fn remove(&mut self, book: &Book, request: u32) {
        self.kept[request as usize] = NONE;
        self.vacate(book, request);
    }

    /// Lets a resource in that is new, or has changed, after [`Greedy::close`].
    pub fn open(&mut self, resource: u32, price: f64) {
        let j = resource as usize;
        if j >= self.held.len() {
            self.held.resize_with(j + 1, Vec::new);
            self.used.resize(j + 1, 0);
            self.search.resize(j + 1, None);
            self.prices.resize(j + 1, 0.0);
            self.is_touched[1].resize(j + 1, false);
        }
        self.prices[j] = price;
        self.touch(1, resource);
        self.opened.push((resource, None));
    }

    /// Takes everything from a resource; its requests look for another. Returns them.
    pub fn close(&mut self, resource: u32) -> Vec<u32> {
        let j = resource as usize;
        self.touch(1, resource);
        let left: Vec<u32> = (0..self.at.len() as u32).filter(|i| self.at[*i as usize] == resource).collect();
        for request in &left {
            self.set(*request, NONE, i64::MIN);
            self.looking.push(*request);
        }
        self.held[j].clear();
        self.used[j] = 0;
        left
    }

    /// Sets the price of a unit: who cannot pay it any more looks for another, who can now may come.
    pub fn reprice(&mut self, book: &Book, resource: u32, price: f64) {
        let before = std::mem::replace(&mut self.prices[resource as usize], price);
        self.touch(1, resource);
        if price < before {
            self.opened.push((resource, None));
        } else if price > before {
            for request in self.held[resource as usize].clone() {
                if book.stage(request, resource, price) != Stage::Feasible {
                    self.vacate(book, request);
                    self.looking.push(request);
                }
            }
        }
    }

    /// Says which pairs are kept from now on: those there are. It changes nothing by itself: every pair that is taken
    /// moves up, and every other stays or moves down.
    pub fn keep(&mut self, book: &Book, requests: &[u32]) {
        for request in requests {
            let i = *request as usize;
            self.kept[i] = self.at[i];
            if self.at[i] != NONE {
                self.score[i] = self.score_of(book, *request, self.at[i]);
            }
        }
        // The holders of a resource stand in the order of their pairs, which has changed.
        let mut resources: Vec<u32> = requests.iter().map(|i| self.at[*i as usize]).filter(|j| *j != NONE).collect();
        resources.sort_unstable();
        resources.dedup();
        for resource in resources {
            let mut held = std::mem::take(&mut self.held[resource as usize]);
            held.sort_unstable_by(|a, b| book.order(&self.position(*a, resource), &self.position(*b, resource)));
            self.held[resource as usize] = held;
        }
    }

    /// Says that a pair is kept which [`Greedy::settle`] has not found yet: for what comes back after a restart.
    pub fn restore_kept(&mut self, request: u32, resource: u32) {
        self.kept[request as usize] = resource;
    }

    /// Finds everybody's place again. Returns the requests and the resources whose part has changed.
    pub fn settle(&mut self, book: &Book) -> [Vec<u32>; 2] {
        self.run(book);
        for side in [0, 1] {
            for slot in &self.touched[side] {
                self.is_touched[side][*slot as usize] = false;
            }
        }
        std::mem::take(&mut self.touched)
    }

    /// Whether clusters allow a pair.
    pub fn admits(&self, book: &Book, request: u32, resource: u32) -> bool {
        !self.clustered || book.is_of_one_cluster(request, resource)
    }

    /// Whether a request that is out would find room at this position.
    pub fn would_take(&self, book: &Book, position: &Position) -> bool {
        self.fits(book, position)
    }

    /// Runs `look` on the market without a request, and puts everything back as it was.
    pub fn without<T>(&mut self, book: &Book, request: u32, look: impl FnOnce(&Greedy) -> T) -> T {
        self.is_trial = true;
        self.undo = Some(Vec::new());
        self.vacate(book, request);
        self.run(book);
        let found = look(self);
        let undo = self.undo.take().expect("it was set");
        self.take_back(book, undo);
        self.is_trial = false;
        found
    }

    /// Undoes changes, the last first.
    fn take_back(&mut self, book: &Book, undo: Vec<Undo>) {
        for Undo { request, at, score } in undo.into_iter().rev() {
            let i = request as usize;
            self.leave(book, request);
            (self.at[i], self.score[i]) = (at, score);
            if at != NONE {
                self.enter(book, request);
            }
        }
        debug_assert!(self.heap.is_empty() && self.looking.is_empty() && self.opened.is_empty());
    }

    fn run(&mut self, book: &Book) {
        for (resource, limit) in std::mem::take(&mut self.opened) {
            self.give_back(book, resource, limit);
        }
        let mut looking = std::mem::take(&mut self.looking);
        looking.sort_unstable();
        looking.dedup();
        for request in looking {
            if self.at[request as usize] == NONE && book.request(request).is_some() {
                self.seek_resource(book, request, None);
            }
        }
        while let Some((position, seeker)) = self.heap.pop(book) {
            self.consider(book, position, seeker);
            if seeker == Seeker::Resource && self.search[position.resource as usize] == Some(position) {
                self.search[position.resource as usize] = None;
                self.seek_request(book, position.resource, Some(position));
            }
        }
        debug_assert!(self.opened.is_empty() && self.looking.is_empty());
    }

    /// Takes the pair at this position if it is to be taken. Everything before it is final.
    fn consider(&mut self, book: &Book, position: Position, seeker: Seeker) {
        let Position { request, resource, .. } = position;
        let now = self.at[request as usize];
        if now != NONE && !book.is_before(&position, &self.position(request, now)) {
            return;
        }
        if !self.fits(book, &position) {
            if now == NONE && seeker == Seeker::Request {
                self.seek_resource(book, request, Some(position));
            }
            return;
        }
        if now != NONE {
            let before = self.position(request, now);
            self.leave(book, request);
            self.set(request, NONE, i64::MIN);
            self.give_back(book, now, Some(before));
        }
        self.set(request, resource, position.score);
        self.enter(book, request);
        if self.used[resource as usize] > self.room(book, resource) {
            self.push_out(book, &position);
        }
    }

    /// Pushes out the holders behind a position that do not fit any more.
    fn push_out(&mut self, book: &Book, position: &Position) {
        let resource = position.resource;
        let room = self.room(book, resource);
        let mut load = 0;
        let mut out: Vec<Position> = Vec::new();
        self.touch(1, resource);
        let mut held = std::mem::take(&mut self.held[resource as usize]);
        held.retain(|holder| {
            let take = self.take(book, *holder);
            let stays = load + take <= room;
            if stays {
                load += take;
            } else {
                out.push(self.position(*holder, resource));
            }
            stays
        });
        self.held[resource as usize] = held;
        self.used[resource as usize] = load;
        for position in &out {
            self.set(position.request, NONE, i64::MIN);
            self.seek_resource(book, position.request, Some(*position));
        }
        // What was pushed out may leave more than was needed.
        if let Some(first) = out.first() {
            self.give_back(book, resource, Some(*first));
        }
    }

    /// A resource has room again for pairs behind a limit, or for all.
    fn give_back(&mut self, book: &Book, resource: u32, limit: Option<Position>) {
        // A search that stands before the limit will come to what is behind it.
        let goes_on = self.search[resource as usize]
            .is_some_and(|pending| limit.is_some_and(|limit| !book.is_before(&limit, &pending)));
        if !goes_on {
            self.seek_request(book, resource, limit);
        }
    }

    /// Puts the first pair of a request behind a limit that has room into the heap.
    fn seek_resource(&mut self, book: &Book, request: u32, limit: Option<Position>) {
        let kept = self.kept[request as usize];
        let mut best: Option<Position> = None;
        let mut scores = [0; BLOCK];
        let mut start = 0;
        while start < book.resources.len() {
            let len = book.score_resources(request, start, &mut scores);
            if (start..start + len).contains(&(kept as usize)) {
                scores[kept as usize - start] += self.kept_bonus;
            }
            for (k, score) in scores[..len].iter().enumerate() {
                if best.is_some_and(|best| *score < best.score) {
                    continue;
                }
                let position = Position { score: *score, request, resource: (start + k) as u32 };
                if best.is_none_or(|best| book.is_before(&position, &best))
                    && limit.is_none_or(|limit| book.is_before(&limit, &position))
                    && self.is_feasible(book, request, position.resource)
                    && self.fits(book, &position)
                {
                    best = Some(position);
                }
            }
            start += len;
        }
        if let Some(best) = best {
            self.heap.push(book, best, Seeker::Request);
        }
    }

    /// Puts the first pair of a resource behind a limit that fits, and is better for its request than what it has,
    /// into the heap.
    fn seek_request(&mut self, book: &Book, resource: u32, limit: Option<Position>) {
        self.search[resource as usize] = None;
        if book.room(resource) < 0 {
            return;
        }
        if let Some(limit) = &limit {
            // Who takes nothing is nowhere refused for want of room.
            let before: i64 = self.before(book, limit).map(|holder| self.take(book, holder)).sum();
            if before >= self.room(book, resource) {
                return;
            }
        }
        let mut best: Option<Position> = None;
        let mut scores = [0; BLOCK];
        let mut start = 0;
        while start < book.requests.len() {
            let len = book.score_requests(resource, start, &mut scores);
            for (k, score) in scores[..len].iter().enumerate() {
                let i = start + k;
                let bonus = if self.kept.get(i) == Some(&resource) { self.kept_bonus } else { 0 };
                let score = score + bonus;
                // A request that holds a better pair is passed by with one comparison.
                if best.is_some_and(|best| score < best.score) || self.score.get(i).is_none_or(|now| score < *now) {
                    continue;
                }
                let position = Position { score, request: i as u32, resource };
                let now = self.at[i];
                if best.is_none_or(|best| book.is_before(&position, &best))
                    && limit.is_none_or(|limit| book.is_before(&limit, &position))
                    && (now == NONE || book.is_before(&position, &self.position(i as u32, now)))
                    && self.is_feasible(book, i as u32, resource)
                    && self.fits(book, &position)
                {
                    best = Some(position);
                }
            }
            start += len;
        }
        if let Some(best) = best {
            self.search[resource as usize] = Some(best);
            self.heap.push(book, best, Seeker::Resource);
        }
    }

    /// Takes a request from its resource, which has room again behind it.
    fn vacate(&mut self, book: &Book, request: u32) {
        let now = self.at[request as usize];
        if now == NONE {
            return;
        }
        let position = self.position(request, now);
        self.leave(book, request);
        self.set(request, NONE, i64::MIN);
        self.opened.push((now, Some(position)));
    }

    /// Takes a request off its resource's list. What it takes must be as it was when it was put there.
    fn leave(&mut self, book: &Book, request: u32) {
        let resource = self.at[request as usize];
        if resource == NONE {
            return;
        }
        self.touch(1, resource);
        let take = self.take(book, request);
        let held = &mut self.held[resource as usize];
        if let Some(at) = held.iter().position(|holder| *holder == request) {
            held.remove(at);
            self.used[resource as usize] -= take;
        }
    }

    /// Puts a request on its resource's list, at its place in order.
    fn enter(&mut self, book: &Book, request: u32) {
        let resource = self.at[request as usize];
        self.touch(1, resource);
        let take = self.take(book, request);
        if take == 0 {
            return;
        }
        let position = self.position(request, resource);
        let place = self.before(book, &position).count();
        self.held[resource as usize].insert(place, request);
        self.used[resource as usize] += take;
    }

    /// The holders of a position's resource whose pairs come before it.
    fn before(&self, book: &Book, position: &Position) -> impl Iterator<Item = u32> {
        let held = &self.held[position.resource as usize];
        held.iter().copied().take_while(|holder| book.is_before(&self.position(*holder, position.resource), position))
    }

    /// Whether the holders before a position leave room for its request.
    fn fits(&self, book: &Book, position: &Position) -> bool {
        let room = self.room(book, position.resource) - self.take(book, position.request);
        if self.used[position.resource as usize] <= room {
            return true;
        }
        self.before(book, position).map(|holder| self.take(book, holder)).sum::<i64>() <= room
    }

    fn is_feasible(&self, book: &Book, request: u32, resource: u32) -> bool {
        book.stage(request, resource, self.prices[resource as usize]) == Stage::Feasible
            && self.admits(book, request, resource)
    }

    fn take(&self, book: &Book, request: u32) -> i64 {
        if self.exclusive { 1 } else { book.take(request) }
    }

    fn room(&self, book: &Book, resource: u32) -> i64 {
        if self.exclusive { 1 } else { book.room(resource) }
    }

    fn score_of(&self, book: &Book, request: u32, resource: u32) -> i64 {
        let bonus = if self.kept[request as usize] == resource { self.kept_bonus } else { 0 };
        book.score(request, resource) + bonus
    }

    fn position(&self, request: u32, resource: u32) -> Position {
        Position { score: self.score[request as usize], request, resource }
    }

    fn set(&mut self, request: u32, at: u32, score: i64) {
        let i = request as usize;
        if let Some(undo) = &mut self.undo {
            undo.push(Undo { request, at: self.at[i], score: self.score[i] });
        }
        self.touch(0, request);
        (self.at[i], self.score[i]) = (at, score);
    }

    fn touch(&mut self, side: usize, slot: u32) {
        if !self.is_trial && !std::mem::replace(&mut self.is_touched[side][slot as usize], true) {
            self.touched[side].push(slot);
        }
    }
}

/// A binary heap whose order needs the keys, which the book has: the first position on top.
#[derive(Debug, Default)]
struct Heap {
    items: Vec<(Position, Seeker)>,
}

impl Heap {
    fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    fn push(&mut self, book: &Book, position: Position, seeker: Seeker) {
        self.items.push((position, seeker));
        let mut at = self.items.len() - 1;
        while at > 0 && book.is_before(&self.items[at].0, &self.items[(at - 1) / 2].0) {
            self.items.swap(at, (at - 1) / 2);
            at = (at - 1) / 2;
        }
    }

    fn pop(&mut self, book: &Book) -> Option<(Position, Seeker)> {
        if self.items.is_empty() {
            return None;
        }
        let top = self.items.swap_remove(0);
        let mut at = 0;
        loop {
            let mut first = at;
            for child in [2 * at + 1, 2 * at + 2] {
                if child < self.items.len() && book.is_before(&self.items[child].0, &self.items[first].0) {
                    first = child;
                }
            }
            if first == at {
                return Some(top);
            }
            self.items.swap(at, first);
            at = first;
        }
    }
}
