//! The edges of a node, and, for a node with many, the short list of those that matter to it now.
//!
//! Searches and prices ask a node for its edges of least `dual of the other node - weight`. In a dense graph, looking
//! at all of them would make every repair cost the square of the nodes. So a node with many edges keeps a list of the
//! least, each with a *key* that the true value is not far below, and a *bound* for all edges that are not listed.
//!
//! Keys are taken from *references*, duals as they once were. Since then a dual may have fallen, at most by the
//! [`Drift`] of its side: that much below its key an edge may be, and the list is read that much farther. When so much
//! was read in vain that a new list would have cost no more, the present duals become the references and a new list is
//! made.

use super::NONE;

/// Nodes with fewer edges have no list. In tests next to none, so that lists are tried on what a model can solve.
pub(super) const LISTED_DEGREE_MIN: usize = if cfg!(test) { 4 } else { 64 };
/// About how many edges a new list has.
const LIST_LEN: usize = LISTED_DEGREE_MIN / 2;
/// How many it may have.
const LIST_LEN_MAX: usize = 2 * LIST_LEN;

/// How far duals of one side of a component can have fallen below their references.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Drift {
    /// Up to the present references, all told.
    pub past: i64,
    /// Below the present references, between solves.
    pub now: i64,
    /// Below the present references, in the course of a solve: most of it is made good before the end.
    pub passing: i64,
    /// How often a list was found wanting since the present references were taken.
    pub wants: u32,
}

impl Drift {
    pub fn level(&self) -> i64 {
        self.past + self.now.max(self.passing)
    }

    /// Of a component made of two: no list of either part may be trusted farther than before.
    pub fn of_both(&self, other: &Drift) -> Drift {
        Drift {
            past: self.past.max(other.past),
            now: self.now.max(other.now),
            passing: self.passing.max(other.passing),
            wants: self.wants.max(other.wants),
        }
    }
}

/// The weight of an edge, and whether it stands in the list: twice the weight, plus one if it does. So who changes a
/// weight learns of it without looking elsewhere.
#[derive(Clone, Copy, Debug)]
struct Cell(i64);

impl Cell {
    fn new(weight: i64, is_listed: bool) -> Cell {
        Cell(weight << 1 | i64::from(is_listed))
    }

    fn weight(self) -> i64 {
        self.0 >> 1
    }

    fn is_listed(self) -> bool {
        self.0 & 1 == 1
    }
}

/// The edges of a node: neighbours ascending by slot, each with its weight.
#[derive(Debug)]
pub(super) struct Edges {
    others: Vec<u32>,
    cells: Vec<Cell>,
    /// The list, ascending by key; empty if there is none.
    list: Vec<Entry>,
    /// The least key of what is not listed.
    bound: i64,
    /// The drift up to the references of which the keys are.
    at: i64,
    /// How many entries were read in vain.
    wasted: u32,
    /// The first neighbour, if the neighbours are consecutive slots, as in a dense graph: then they are found without a
    /// search. `NONE` if they are not, or none.
    run: u32,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    key: i64,
    weight: i64,
    other: u32,
}

impl Default for Edges {
    fn default() -> Edges {
        Edges { others: Vec::new(), cells: Vec::new(), list: Vec::new(), bound: 0, at: 0, wasted: 0, run: NONE }
    }
}

/// How much of a node's edges was seen.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seen {
    /// From where to go on for more.
    pub cursor: u32,
    /// What `dual - weight` is at least of all that is left; `i64::MAX` if nothing is.
    pub rest: i64,
}

impl Edges {
    pub fn len(&self) -> usize {
        self.others.len()
    }

    pub fn others(&self) -> &[u32] {
        &self.others
    }

    /// Reads a little of every piece of memory that the edges take.
    pub fn glance(&self) -> i64 {
        let (other, cell) = (self.others.first(), self.cells.first());
        let last = self.cells.last().map_or(0, |c| c.0);
        i64::from(other.copied().unwrap_or(0)) ^ cell.map_or(0, |c| c.0) ^ last
    }

    #[inline]
    fn find(&self, other: u32) -> Result<usize, usize> {
        if self.run == NONE {
            return self.others.binary_search(&other);
        }
        let at = other.wrapping_sub(self.run) as usize;
        match at < self.others.len() {
            true => Ok(at),
            false if other < self.run => Err(0),
            false => Err(self.others.len()),
        }
    }

    pub fn weight(&self, other: u32) -> Option<i64> {
        self.find(other).ok().map(|at| self.cells[at].weight())
    }

    pub fn iter(&self) -> impl Iterator<Item = (u32, i64)> + '_ {
        self.others.iter().copied().zip(self.cells.iter().map(|c| c.weight()))
    }

    /// Sets or (`None`) removes an edge, and takes it off the list. Returns its weight before.
    #[inline]
    pub fn set(&mut self, other: u32, weight: Option<i64>) -> Option<i64> {
        match (self.find(other), weight) {
            (Ok(at), Some(after)) => {
                let before = self.cells[at];
                if before.weight() != after {
                    self.cells[at] = Cell::new(after, false);
                    if before.is_listed() {
                        self.unlist(other);
                    }
                }
                Some(before.weight())
            }
            (Ok(at), None) => Some(self.remove(at)),
            (Err(at), Some(weight)) => {
                self.insert(at, other, weight);
                None
            }
            (Err(_), None) => None,
        }
    }

    fn insert(&mut self, at: usize, other: u32, weight: i64) {
        self.others.insert(at, other);
        self.cells.insert(at, Cell::new(weight, false));
        self.find_run();
    }

    fn remove(&mut self, at: usize) -> i64 {
        let other = self.others.remove(at);
        let before = self.cells.remove(at);
        if before.is_listed() {
            self.unlist(other);
        }
        self.find_run();
        before.weight()
    }

    fn find_run(&mut self) {
        self.run = match (self.others.first(), self.others.last()) {
            (Some(first), Some(last)) if (last - first) as usize + 1 == self.others.len() => *first,
            _ => NONE,
        };
    }

    fn unlist(&mut self, other: u32) {
        let place = self.list.iter().position(|e| e.other == other).expect("its cell says so");
        self.list.remove(place);
    }

    /// Calls for all edges with `dual - weight < need`, and for others, from a cursor on, which begins at 0. `level` is
    /// that of the drift of the other side. `None` if a list should be made first, unless that was tried.
    #[inline]
    pub fn visit(
        &self,
        from: u32,
        need: i64,
        level: i64,
        was_tried: bool,
        mut each: impl FnMut(u32, i64),
    ) -> Option<Seen> {
        if !self.list.is_empty() {
            let slip = level - self.at;
            let need = need.saturating_add(slip);
            if need <= self.bound {
                let mut cursor = from;
                for entry in self.list.get(from as usize..).unwrap_or_default() {
                    if entry.key >= need {
                        return Some(Seen { cursor, rest: entry.key - slip });
                    }
                    each(entry.other, entry.weight);
                    cursor += 1;
                }
                return Some(Seen { cursor, rest: self.bound - slip });
            }
        }
        if self.others.len() >= LISTED_DEGREE_MIN && !was_tried {
            return None;
        }
        for (other, cell) in self.others.iter().zip(&self.cells) {
            each(*other, cell.weight());
        }
        Some(Seen { cursor: 0, rest: i64::MAX })
    }

    /// A `need` that a few edges meet, for a node with a list.
    pub fn near(&self, level: i64) -> Option<i64> {
        const FEW: usize = LIST_LEN / 3;
        Some(self.list.get(FEW)?.key - (level - self.at) + 1)
    }

    /// Notes how many entries were read in vain. Whether so many by now that there should be a new list.
    pub fn wasted(&mut self, entries: u32) -> bool {
        if self.list.is_empty() {
            return false;
        }
        self.wasted = self.wasted.saturating_add(entries);
        self.is_wasteful()
    }

    fn is_wasteful(&self) -> bool {
        self.wasted as usize > self.others.len()
    }

    /// Whether a list that is wanting could be no better by the present references.
    pub fn wants_reference(&self, drift: &Drift) -> bool {
        let Some(first) = self.list.first() else { return false };
        self.at == drift.past && (self.is_wasteful() || drift.now > (self.bound - first.key) / 4)
    }

    /// Makes the list from the references of the neighbours, unless it is as good as that.
    pub fn make_list(&mut self, drift: &Drift, references: &[i64]) {
        if self.others.len() < LISTED_DEGREE_MIN {
            return;
        }
        if self.at == drift.past && !self.list.is_empty() {
            // All edges will be looked at for want of a better one: that is a waste, too.
            self.wasted = self.wasted.saturating_add(LIST_LEN as u32);
            return;
        }
        // Where the last list ended, about as many edges are likely to lie below again.
        let guess = self.bound;
        self.drop_list();
        let mut list = self.below(guess, references);
        self.bound = guess;
        if list.len() < LIST_LEN / 2 || list.len() > LIST_LEN_MAX {
            list = self.below(i64::MAX, references);
            list.select_nth_unstable_by_key(LIST_LEN, |e| e.key);
            self.bound = list[LIST_LEN].key;
            list.truncate(LIST_LEN);
        }
        list.sort_unstable_by_key(|e| e.key);
        for entry in &list {
            self.mark(entry.other, true);
        }
        (self.list, self.at, self.wasted) = (list, drift.past, 0);
    }

    /// All edges with a key below a bound, in no order.
    fn below(&mut self, bound: i64, references: &[i64]) -> Vec<Entry> {
        let mut entries = std::mem::take(&mut self.list);
        entries.clear();
        let mut look = |other: u32, cell: Cell, reference: i64| {
            let weight = cell.weight();
            let key = reference - weight;
            if key < bound {
                entries.push(Entry { key, weight, other });
            }
        };
        if self.run != NONE {
            // The references lie side by side.
            let first = self.run as usize;
            let references = &references[first..first + self.others.len()];
            for ((other, cell), reference) in self.others.iter().zip(&self.cells).zip(references) {
                look(*other, *cell, *reference);
            }
        } else {
            for (other, cell) in self.others.iter().zip(&self.cells) {
                look(*other, *cell, references[*other as usize]);
            }
        }
        entries
    }

    /// Forgets the list, but for the room it takes and where it ended.
    pub fn drop_list(&mut self) {
        for at in 0..self.list.len() {
            self.mark(self.list[at].other, false);
        }
        self.list.clear();
    }

    /// Puts an edge that was set, or whose other node has a new reference, where it belongs.
    #[inline]
    pub fn list(&mut self, other: u32, weight: i64, reference: i64, drift: &Drift) {
        let key = reference - weight + (drift.past - self.at);
        // An entry that has risen may stay where it is: it is not below its key.
        if key < self.bound && !self.list.is_empty() {
            self.enlist(Entry { key, weight, other });
        }
    }

    fn enlist(&mut self, entry: Entry) {
        let at = self.find(entry.other).expect("it was set");
        if self.cells[at].is_listed() {
            self.unlist(entry.other);
        }
        self.cells[at] = Cell::new(entry.weight, true);
        let place = self.list.partition_point(|e| e.key < entry.key);
        self.list.insert(place, entry);
        if self.list.len() > LIST_LEN_MAX {
            self.bound = self.list[LIST_LEN].key;
            for at in LIST_LEN..self.list.len() {
                self.mark(self.list[at].other, false);
            }
            self.list.truncate(LIST_LEN);
        }
    }

    /// What the list says of every edge is so.
    #[cfg(test)]
    pub fn check_list(&self, drift: &Drift, duals: &[i64], references: &[i64]) {
        assert!(self.list.is_sorted_by_key(|e| e.key));
        for (other, cell) in self.others.iter().zip(&self.cells) {
            let entry = self.list.iter().find(|e| e.other == *other);
            assert_eq!(cell.is_listed(), entry.is_some(), "the edge to {other}");
            let key = entry.map_or(self.bound, |e| e.key);
            let (dual, reference) = (duals[*other as usize], references[*other as usize]);
            let is_safe = key <= reference - cell.weight() + drift.past - self.at;
            assert!(self.list.is_empty() || is_safe, "the edge to {other}: {self:?}");
            assert!(reference - dual <= drift.now.max(drift.passing), "{other} fell farther than is known");
            assert!(entry.is_none_or(|e| e.weight == cell.weight()), "the edge to {other}");
        }
        assert!(self.list.iter().all(|e| self.find(e.other).is_ok()));
    }

    fn mark(&mut self, other: u32, is_listed: bool) {
        let at = self.find(other).expect("what is listed is an edge");
        self.cells[at] = Cell::new(self.cells[at].weight(), is_listed);
    }
}
