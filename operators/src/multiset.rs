//! The least and the greatest value of a multiset from which values are also taken.
//!
//! Values are mostly added, and a value taken away is mostly not an extreme one. So they are only noted down, and
//! the extremes kept at hand; when an extreme value goes, the notes are put in order, once, as a tree.

use std::collections::BTreeMap;

/// A multiset that knows its extremes.
#[derive(Clone, Debug)]
pub(crate) struct Multiset<K> {
    added: Vec<K>,
    taken: Vec<K>,
    extremes: Option<(K, K)>,
    /// Boxed: most groups never need it, and there may be millions of them.
    #[allow(clippy::box_collection)]
    tree: Option<Box<BTreeMap<K, i64>>>,
}

impl<K> Default for Multiset<K> {
    fn default() -> Self {
        Multiset { added: Vec::new(), taken: Vec::new(), extremes: None, tree: None }
    }
}

/// More of one value than this at once, and it is counted rather than noted.
const NOTED_MAX: i64 = 8;

impl<K: Ord + Clone> Multiset<K> {
    /// Adds a value `times` (at least 1) times.
    #[inline]
    pub fn add(&mut self, value: K, times: i64) {
        if self.tree.is_none() && times > NOTED_MAX {
            self.grow();
        }
        if let Some(tree) = &mut self.tree {
            count(tree, value, times);
            return;
        }
        match &mut self.extremes {
            None => self.extremes = Some((value.clone(), value.clone())),
            Some((least, greatest)) => {
                if value < *least {
                    *least = value.clone();
                } else if value > *greatest {
                    *greatest = value.clone();
                }
            }
        }
        for _ in 1..times {
            self.added.push(value.clone());
        }
        self.added.push(value);
    }

    /// Takes a value away `times` (at least 1) times. It must be there: of one epoch's changes, additions go first.
    pub fn take(&mut self, value: K, times: i64) {
        if self.tree.is_none() {
            let extreme = self.extremes.as_ref().is_none_or(|(least, greatest)| value == *least || value == *greatest);
            if extreme || times > NOTED_MAX {
                self.grow();
            }
        }
        if let Some(tree) = &mut self.tree {
            count(tree, value, -times);
            return;
        }
        for _ in 0..times {
            self.taken.push(value.clone());
        }
        if 2 * self.taken.len() > self.added.len() + 32 {
            self.cancel();
        }
    }

    /// The least and the greatest value; `None` if there is none.
    pub fn extremes(&self) -> Option<(&K, &K)> {
        match &self.tree {
            Some(tree) => Some((tree.first_key_value()?.0, tree.last_key_value()?.0)),
            None => self.extremes.as_ref().map(|(least, greatest)| (least, greatest)),
        }
    }

    /// From notes to a tree.
    fn grow(&mut self) {
        let mut tree = BTreeMap::new();
        self.added.sort_unstable();
        self.taken.sort_unstable();
        for run in self.added.chunk_by(|a, b| a == b) {
            tree.insert(run[0].clone(), run.len() as i64);
        }
        for run in self.taken.chunk_by(|a, b| a == b) {
            count(&mut tree, run[0].clone(), -(run.len() as i64));
        }
        *self = Multiset { tree: Some(Box::new(tree)), ..Multiset::default() };
    }

    /// Strikes out of the notes what was added and taken again.
    fn cancel(&mut self) {
        self.added.sort_unstable();
        self.taken.sort_unstable();
        let mut taken = std::mem::take(&mut self.taken).into_iter().peekable();
        self.added.retain(|value| taken.next_if(|t| t == value).is_none());
        assert!(taken.next().is_none(), "what is taken away was there");
    }
}

fn count<K: Ord>(tree: &mut BTreeMap<K, i64>, value: K, times: i64) {
    match tree.entry(value) {
        std::collections::btree_map::Entry::Vacant(e) => {
            e.insert(times);
        }
        std::collections::btree_map::Entry::Occupied(mut e) => {
            *e.get_mut() += times;
            if *e.get() == 0 {
                e.remove();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn extremes_are_those_of_a_sorted_list() {
        let mut state = 7u64;
        let mut next = move || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            state >> 33
        };
        for round in 0..200 {
            let mut set = Multiset::default();
            let mut list: Vec<u64> = Vec::new();
            for _ in 0..150 {
                let value = next() % 50;
                if next() % 3 > 0 || list.is_empty() {
                    let times = if next() % 30 == 0 { 12 } else { 1 };
                    set.add(value, times);
                    list.extend((0..times).map(|_| value));
                } else {
                    let middle = round % 2 == 0;
                    list.sort_unstable();
                    let at = if middle { list.len() / 2 } else { next() as usize % list.len() };
                    set.take(list.remove(at), 1);
                }
                let expected = list.iter().min().zip(list.iter().max());
                assert_eq!(set.extremes(), expected);
            }
        }
    }
}
