//! Which feature stands where: the active set mapped to the network's slots.
//!
//! A feature keeps its slot while it is active; a newcomer takes the lowest free one, and waits while there is none.

use std::collections::BTreeMap;

/// No feature.
pub const EMPTY: u32 = u32::MAX;

/// The active set and its slots.
#[derive(Clone, Debug, PartialEq)]
pub struct Slots {
    /// By slot its feature, or [`EMPTY`].
    pub features: Vec<u32>,
    /// Active features without a slot, in the order in which they came.
    pub waiting: Vec<u32>,
    /// Changes of the selection that is being told, by feature; the last word counts.
    pub pending: BTreeMap<u32, bool>,
    /// The number of that selection.
    pub selection: i64,
    /// Whether what stands here was given beforehand and no selection has been told.
    pub is_given: bool,
    /// Selections so far.
    pub selections: u64,
    /// The sum of the overlaps of each selection with the one before, and the last of them.
    pub overlaps: f64,
    /// As above.
    pub overlap_last: f64,
}

/// The share of the united sets that is in both (Jaccard 1901); two empty sets are alike.
pub fn jaccard(both: usize, either: usize) -> f64 {
    if either == 0 { 1.0 } else { both as f64 / either as f64 }
}

impl Slots {
    /// Feature i in slot i; or none anywhere, for changes to say.
    pub fn new(slots: usize, is_selected: bool) -> Slots {
        Slots {
            features: (0..slots).map(|s| if is_selected { EMPTY } else { s as u32 }).collect(),
            waiting: Vec::new(),
            pending: BTreeMap::new(),
            selection: 0,
            is_given: false,
            selections: 0,
            overlaps: 0.0,
            overlap_last: 0.0,
        }
    }

    /// The active features, ascending.
    pub fn active(&self) -> Vec<u32> {
        let mut active: Vec<u32> = self.features.iter().copied().filter(|f| *f != EMPTY).collect();
        active.extend(&self.waiting);
        active.sort_unstable();
        active
    }

    /// A change of a selection. Gives the slots that got another feature by a selection before it that is now whole.
    pub fn tell(&mut self, selection: i64, feature: u32, entered: bool) -> Option<Settled> {
        let settled = if selection == self.selection { None } else { self.settle() };
        self.selection = selection;
        self.pending.insert(feature, entered);
        settled
    }

    /// Makes the changes told so far count.
    pub fn settle(&mut self) -> Option<Settled> {
        if self.pending.is_empty() {
            return None;
        }
        let pending = std::mem::take(&mut self.pending);
        let before = self.active();
        let mut settled = Settled::default();
        let stays = |feature: u32, is_given: bool| match pending.get(&feature) {
            Some(entered) => *entered,
            None => !is_given,
        };
        for (slot, feature) in self.features.iter_mut().enumerate() {
            if *feature != EMPTY && !stays(*feature, self.is_given) {
                *feature = EMPTY;
                settled.left.push(slot);
            }
        }
        self.waiting.retain(|f| stays(*f, self.is_given));
        self.is_given = false;
        for (feature, entered) in &pending {
            if *entered && !self.features.contains(feature) && !self.waiting.contains(feature) {
                self.waiting.push(*feature);
            }
        }
        while let (Some(slot), false) = (self.features.iter().position(|f| *f == EMPTY), self.waiting.is_empty()) {
            self.features[slot] = self.waiting.remove(0);
            settled.came.push(slot);
        }
        let now = self.active();
        let both = now.iter().filter(|f| before.binary_search(f).is_ok()).count();
        if self.selections > 0 {
            self.overlap_last = jaccard(both, now.len() + before.len() - both);
            self.overlaps += self.overlap_last;
        }
        self.selections += 1;
        Some(settled)
    }
}

/// The slots that a selection changed.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Settled {
    /// Slots whose feature left; some have another by now.
    pub left: Vec<usize>,
    /// Slots with a newcomer.
    pub came: Vec<usize>,
}
