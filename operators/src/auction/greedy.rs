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
use super::seats::Seats;

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
    /// By request, whether it takes part.
    is_in: Vec<bool>,
    /// By request, its resource and the score of the pair, bonus and all; [`NONE`] and the least score without one.
    at: Vec<u32>,
    score: Vec<i64>,
    /// By resource, the requests that take some of it.
    seats: Vec<Seats>,
    wishes: Wishes,
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

/// Who put a pair into the heap, and goes on if it is not taken.
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
            is_in: Vec::new(),
            at: Vec::new(),
            score: Vec::new(),
            seats: Vec::new(),
            wishes: Wishes::default(),
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
        self.seats[resource as usize].holders()
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
            self.is_in.resize(i + 1, false);
            self.is_touched[0].resize(i + 1, false);
        }
        self.is_in[i] = true;
        self.looking.push(request);
    }

    /// Takes a request out: it holds nothing and looks for nothing. The book must still have it as it was.
    pub fn remove(&mut self, book: &Book, request: u32) {
        if self.is_in.get_mut(request as usize).is_some_and(std::mem::take) {
            self.vacate(book, request);
            self.wishes.set(request, false);
        }
    }

    /// Lets a resource in that is new, or has changed, after [`Greedy::close`].
    pub fn open(&mut self, resource: u32, price: f64) {
        let j = resource as usize;
        if j >= self.seats.len() {
            self.seats.resize_with(j + 1, Seats::default);
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
        self.touch(1, resource);
        let left: Vec<u32> = (0..self.at.len() as u32).filter(|i| self.at[*i as usize] == resource).collect();
        for request in &left {
            self.set(*request, NONE, i64::MIN);
            self.looking.push(*request);
        }
        self.seats[resource as usize].clear();
        left
    }

    /// Sets the price of a unit: who cannot pay it any more looks for another, who can now may come.
    pub fn reprice(&mut self, book: &Book, resource: u32, price: f64) {
        let before = std::mem::replace(&mut self.prices[resource as usize], price);
        self.touch(1, resource);
        if price < before {
            self.opened.push((resource, None));
        } else if price > before {
            for request in self.held(resource).to_vec() {
                if book.stage(request, resource, price) != Stage::Feasible {
                    self.vacate(book, request);
                    self.looking.push(request);
                }
            }
        }
    }

    /// Says which pairs of these requests are kept from now on: those there are. It changes nothing by itself: every pair
    /// that is taken moves up, and every other stays or moves down.
    pub fn keep(&mut self, book: &Book, requests: &[u32]) {
        let changed: Vec<u32> =
            requests.iter().copied().filter(|i| self.kept[*i as usize] != self.at[*i as usize]).collect();
        for request in changed {
            let i = request as usize;
            self.leave(book, request);
            self.kept[i] = self.at[i];
            if self.at[i] != NONE {
                self.score[i] = self.score_of(book, request, self.at[i]);
                self.enter(book, request);
            }
        }
    }

    /// Says that a pair is kept which [`Greedy::settle`] has not found yet: for what comes back.
    pub fn set_kept(&mut self, request: u32, resource: u32) {
        if let Some(kept) = self.kept.get_mut(request as usize) {
            *kept = resource;
        }
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
        self.is_in[request as usize] = false;
        self.vacate(book, request);
        self.run(book);
        let found = look(self);
        self.is_in[request as usize] = true;
        let undo = self.undo.take().expect("it was set");
        for Undo { request, at, score } in undo.into_iter().rev() {
            self.leave(book, request);
            (self.at[request as usize], self.score[request as usize]) = (at, score);
            if at != NONE {
                self.enter(book, request);
            }
        }
        self.is_trial = false;
        found
    }

    fn run(&mut self, book: &Book) {
        for (resource, limit) in std::mem::take(&mut self.opened) {
            self.give_back(book, resource, limit);
        }
        let mut looking = std::mem::take(&mut self.looking);
        looking.sort_unstable();
        looking.dedup();
        for request in looking {
            if self.at[request as usize] == NONE && self.is_in[request as usize] {
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
        if self.seats[resource as usize].load() > self.room(book, resource) {
            self.push_out(book, &position);
        }
    }

    /// Pushes out the holders behind a position that do not fit any more.
    fn push_out(&mut self, book: &Book, position: &Position) {
        let resource = position.resource;
        let room = self.room(book, resource);
        let place = self.place(book, position);
        let seats = std::mem::take(&mut self.seats[resource as usize]);
        let (kept, out) = seats.squeeze(place, room, |holder| self.take(book, holder));
        self.seats[resource as usize] = kept;
        let out: Vec<Position> = out.into_iter().map(|holder| self.position(holder, resource)).collect();
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
        let mut is_refused = limit.is_some();
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
                {
                    if self.fits(book, &position) {
                        best = Some(position);
                    } else {
                        is_refused = true;
                    }
                }
            }
            start += len;
        }
        if is_refused {
            self.wishes.set(request, true);
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
        let mut best: Option<Position> = None;
        match limit {
            Some(limit) => {
                // Who takes nothing is nowhere refused for want of room.
                let before = self.seats[resource as usize].load_before(self.place(book, &limit));
                if before >= self.room(book, resource) {
                    return;
                }
                if self.wishes.len() * 4 > book.requests.len() {
                    self.seek_among_all(book, resource, Some(limit), &mut best);
                } else {
                    for at in 0..self.wishes.len() {
                        let request = self.wishes.at(at);
                        let score = book.score(request, resource);
                        self.seek_one(book, score, request, resource, Some(limit), &mut best);
                    }
                }
            }
            None => self.seek_among_all(book, resource, None, &mut best),
        }
        if let Some(best) = best {
            self.search[resource as usize] = Some(best);
            self.heap.push(book, best, Seeker::Resource);
        }
    }

    fn seek_among_all(&mut self, book: &Book, resource: u32, limit: Option<Position>, best: &mut Option<Position>) {
        let mut scores = [0; BLOCK];
        let mut start = 0;
        while start < self.at.len() {
            let len = book.score_requests(resource, start, &mut scores).min(self.at.len() - start);
            for (k, score) in scores[..len].iter().enumerate() {
                self.seek_one(book, *score, (start + k) as u32, resource, limit, best);
            }
            start += len;
        }
    }

    /// Puts a pair in the place of the best if it is better.
    #[inline]
    fn seek_one(
        &mut self,
        book: &Book,
        score: i64,
        request: u32,
        resource: u32,
        limit: Option<Position>,
        best: &mut Option<Position>,
    ) {
        let i = request as usize;
        let score = if self.kept[i] == resource { score + self.kept_bonus } else { score };
        // A request that holds a better pair is passed by with one comparison.
        if score < self.score[i] || !self.is_in[i] || limit.is_some() && best.is_some_and(|best| score < best.score) {
            return;
        }
        let position = Position { score, request, resource };
        let now = self.at[i];
        let is_wished = limit.is_none_or(|limit| book.is_before(&limit, &position))
            && (now == NONE || book.is_before(&position, &self.position(request, now)))
            && self.is_feasible(book, request, resource);
        if !is_wished {
            return;
        }
        // A resource that has come or become cheaper may be wished for by whoever had none to wish for before.
        if limit.is_none() {
            self.wishes.set(request, true);
            // The search ends where the resource is full. Who takes nothing comes behind that too.
            if self.take(book, request) == 0 {
                self.heap.push(book, position, Seeker::Request);
                return;
            }
        }
        if best.is_none_or(|best| book.is_before(&position, &best)) && self.fits(book, &position) {
            *best = Some(position);
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

    /// Takes a request off its resource's seats. What it takes must be as it was when it was put there.
    fn leave(&mut self, book: &Book, request: u32) {
        let resource = self.at[request as usize];
        if resource == NONE {
            return;
        }
        self.touch(1, resource);
        let take = self.take(book, request);
        if take > 0 {
            let place = self.place(book, &self.position(request, resource));
            self.seats[resource as usize].remove(place, request, take);
        }
    }

    /// Gives a request a seat at its resource, at its place in order.
    fn enter(&mut self, book: &Book, request: u32) {
        let resource = self.at[request as usize];
        self.touch(1, resource);
        let take = self.take(book, request);
        if take > 0 {
            let place = self.place(book, &self.position(request, resource));
            self.seats[resource as usize].insert(place, request, take);
        }
    }

    /// How many holders of a position's resource come before it.
    fn place(&self, book: &Book, position: &Position) -> usize {
        let resource = position.resource;
        self.held(resource).partition_point(|holder| book.is_before(&self.position(*holder, resource), position))
    }

    /// Whether the holders before a position leave room for its request.
    fn fits(&self, book: &Book, position: &Position) -> bool {
        let room = self.room(book, position.resource) - self.take(book, position.request);
        let seats = &self.seats[position.resource as usize];
        seats.load() <= room || room >= 0 && seats.load_before(self.place(book, position)) <= room
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

/// The requests that may wish for another resource than they have: all that were refused by one for want of room since
/// they came, and perhaps some more. The others have the best there is for them, and no search needs to ask them.
#[derive(Debug, Default)]
struct Wishes {
    list: Vec<u32>,
    /// By request, its place in the list, [`NONE`] if it is not there.
    place: Vec<u32>,
}

impl Wishes {
    fn len(&self) -> usize {
        self.list.len()
    }

    fn at(&self, at: usize) -> u32 {
        self.list[at]
    }

    fn set(&mut self, request: u32, wishes: bool) {
        let i = request as usize;
        if i >= self.place.len() {
            self.place.resize(i + 1, NONE);
        }
        match (self.place[i], wishes) {
            (NONE, true) => {
                self.place[i] = self.list.len() as u32;
                self.list.push(request);
            }
            (at, false) if at != NONE => {
                self.list.swap_remove(at as usize);
                if let Some(moved) = self.list.get(at as usize) {
                    self.place[*moved as usize] = at;
                }
                self.place[i] = NONE;
            }
            _ => {}
        }
    }
}

/// A binary heap whose order needs the keys, which the book has: the first position on top.
#[derive(Debug, Default)]
struct Heap {
    items: Vec<(Position, Seeker)>,
}

impl Heap {
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
