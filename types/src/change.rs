//! The changes of one relation in one epoch, as bytes in key order: what the store commits.

use std::cmp::Ordering;

const ABSENT: u32 = u32::MAX;

/// One key's change: what it was before the epoch and what it is after.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change<'a> {
    /// The key's bytes (see [`crate::RowCodec`]).
    pub key: &'a [u8],
    /// The row's other columns before the epoch; `None` if there was no row (or it is not known: see [`ChangeSet`]).
    pub before: Option<&'a [u8]>,
    /// The row's other columns after it; `None` if there is no row any more.
    pub after: Option<&'a [u8]>,
}

/// The changes of one relation in one epoch, in one block of memory.
///
/// Rows of views and tables carry `before`; operator state does not need it and leaves it `None`.
/// A store is given sets that are [sorted and netted](ChangeSet::net): keys ascending, each once.
#[derive(Clone, Debug, Default)]
pub struct ChangeSet {
    bytes: Vec<u8>,
    entries: Vec<Entry>,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    start: usize,
    key: u32,
    before: u32,
    after: u32,
}

impl ChangeSet {
    /// An empty set.
    pub fn new() -> ChangeSet {
        ChangeSet::default()
    }

    /// An empty set with room for that many changes and bytes.
    pub fn with_capacity(changes: usize, bytes: usize) -> ChangeSet {
        ChangeSet { bytes: Vec::with_capacity(bytes), entries: Vec::with_capacity(changes) }
    }

    /// Adds a change at the end.
    #[inline]
    pub fn push(&mut self, key: &[u8], before: Option<&[u8]>, after: Option<&[u8]>) {
        self.push_joined([key], before, after);
    }

    /// Adds a change at the end, its key given in parts.
    #[inline]
    pub fn push_joined<const N: usize>(&mut self, key: [&[u8]; N], before: Option<&[u8]>, after: Option<&[u8]>) {
        let start = self.bytes.len();
        key.iter().for_each(|part| self.bytes.extend_from_slice(part));
        let key = length(self.bytes.len() - start);
        self.bytes.extend_from_slice(before.unwrap_or_default());
        self.bytes.extend_from_slice(after.unwrap_or_default());
        let len = |part: Option<&[u8]>| part.map_or(ABSENT, |p| length(p.len()));
        self.entries.push(Entry { start, key, before: len(before), after: len(after) });
    }

    /// Adds an addition at the end. If the last change is a removal under the same key, the two become one.
    #[inline]
    pub fn push_after(&mut self, key: &[u8], after: &[u8]) {
        if let Some(last) = self.entries.last_mut()
            && last.before != ABSENT
            && last.after == ABSENT
            && self.bytes[last.start..last.start + last.key as usize] == *key
        {
            self.bytes.extend_from_slice(after);
            last.after = length(after.len());
            return;
        }
        self.push(key, None, Some(after));
    }

    /// How many changes there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The bytes of all keys and rows together.
    pub fn bytes(&self) -> usize {
        self.bytes.len()
    }

    /// The change at a position.
    pub fn get(&self, index: usize) -> Change<'_> {
        self.read(&self.entries[index])
    }

    /// The changes in order.
    #[inline]
    pub fn iter(&self) -> impl ExactSizeIterator<Item = Change<'_>> + '_ {
        self.entries.iter().map(|e| self.read(e))
    }

    /// Whether keys ascend strictly: what a store demands.
    pub fn is_sorted(&self) -> bool {
        self.entries.windows(2).all(|w| self.read(&w[0]).key < self.read(&w[1]).key)
    }

    /// All of them as one netted set: sorted by key, one change a key, changes that cancel left out.
    ///
    /// Each input may hold, for one key, any number of removals (`before`) and additions (`after`), alone or both in
    /// one change. Equal rows cancel. What is left must be at most one of each: more means that two rows claim
    /// one key, and the error names that key's bytes.
    pub fn net(mut sets: Vec<ChangeSet>) -> Result<ChangeSet, Vec<u8>> {
        if let [one] = sets.as_slice()
            && one.is_sorted()
            && one.iter().all(|c| c.before != c.after)
        {
            return Ok(sets.remove(0));
        }
        let mut all: Vec<Change<'_>> = sets.iter().flat_map(ChangeSet::iter).collect();
        // Most inputs are a few sorted stretches, which this sort finds and merges.
        all.sort_by(|a, b| a.key.cmp(b.key));
        let mut out = ChangeSet::with_capacity(all.len(), sets.iter().map(ChangeSet::bytes).sum());
        for group in all.chunk_by(|a, b| a.key == b.key) {
            if let [one] = group {
                if one.before != one.after {
                    out.push(one.key, one.before, one.after);
                }
                continue;
            }
            let mut before: Vec<&[u8]> = group.iter().filter_map(|c| c.before).collect();
            let mut after: Vec<&[u8]> = group.iter().filter_map(|c| c.after).collect();
            cancel(&mut before, &mut after);
            match (before.as_slice(), after.as_slice()) {
                ([], []) => {}
                (b, a) if b.len() <= 1 && a.len() <= 1 => {
                    out.push(group[0].key, b.first().copied(), a.first().copied())
                }
                _ => return Err(group[0].key.to_vec()),
            }
        }
        Ok(out)
    }

    #[inline]
    fn read(&self, e: &Entry) -> Change<'_> {
        let length = |l: u32| if l == ABSENT { 0 } else { l as usize };
        let key_end = e.start + e.key as usize;
        let before_end = key_end + length(e.before);
        let after_end = before_end + length(e.after);
        Change {
            key: &self.bytes[e.start..key_end],
            before: (e.before != ABSENT).then(|| &self.bytes[key_end..before_end]),
            after: (e.after != ABSENT).then(|| &self.bytes[before_end..after_end]),
        }
    }
}

#[inline]
fn length(bytes: usize) -> u32 {
    u32::try_from(bytes).expect("a row under 4 GiB")
}

/// Takes equal rows out of both lists, pair by pair.
fn cancel(before: &mut Vec<&[u8]>, after: &mut Vec<&[u8]>) {
    before.sort_unstable();
    after.sort_unstable();
    let (b, a) = (std::mem::take(before), std::mem::take(after));
    let (mut i, mut j) = (0, 0);
    while i < b.len() || j < a.len() {
        let order = match (b.get(i), a.get(j)) {
            (Some(x), Some(y)) => x.cmp(y),
            (Some(_), None) => Ordering::Less,
            _ => Ordering::Greater,
        };
        match order {
            Ordering::Equal => (i, j) = (i + 1, j + 1),
            Ordering::Less => {
                before.push(b[i]);
                i += 1;
            }
            Ordering::Greater => {
                after.push(a[j]);
                j += 1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn net_cancels_equal_rows_and_pairs_the_rest() {
        let mut a = ChangeSet::new();
        a.push(b"k2", None, Some(b"new"));
        a.push(b"k1", Some(b"same"), None);
        let mut b = ChangeSet::new();
        b.push(b"k1", None, Some(b"same"));
        b.push(b"k2", Some(b"old"), None);
        b.push_after(b"k3", b"");
        let net = ChangeSet::net(vec![a, b]).unwrap();
        let seen: Vec<_> = net.iter().collect();
        assert_eq!(
            seen,
            [
                Change { key: b"k2", before: Some(b"old"), after: Some(b"new") },
                Change { key: b"k3", before: None, after: Some(b"") },
            ]
        );
    }

    #[test]
    fn a_removal_and_the_addition_behind_it_are_one_change() {
        let mut set = ChangeSet::new();
        set.push(b"k", Some(b"old"), None);
        set.push_after(b"k", b"new");
        set.push_after(b"k", b"newer");
        set.push_joined([b"k", b"2"], None, None);
        set.push_after(b"k2", b"x");
        let seen: Vec<_> = set.iter().map(|c| (c.key, c.before, c.after)).collect();
        let bytes = |b: &'static [u8]| Some(b);
        assert_eq!(
            seen,
            [
                (b"k".as_slice(), bytes(b"old"), bytes(b"new")),
                (b"k", None, bytes(b"newer")),
                (b"k2", None, None),
                (b"k2", None, bytes(b"x")),
            ]
        );
    }

    #[test]
    fn net_refuses_two_rows_of_one_key() {
        let mut a = ChangeSet::new();
        a.push(b"k", None, Some(b"1"));
        a.push(b"k", None, Some(b"2"));
        assert_eq!(ChangeSet::net(vec![a]).unwrap_err(), b"k");
    }
}
