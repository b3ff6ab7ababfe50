//! Committed changes in memory: sorted runs, the scan that sees several as one, and merging them.
//!
//! A run is one block of bytes and one list of offsets. The block of a single epoch is exactly the chunks that went
//! to disk, so committing copies a row once. Entries are sorted by key, and for one key newest first.

use std::cmp::Ordering;
use std::ops::{Bound, Range};
use std::sync::Arc;

use types::Epoch;
use xxhash_rust::xxh3::xxh3_64;

use crate::Error;
use crate::format::{put_varint, take_varint};

/// A run is not grown beyond this by merging, and offsets stay within 32 bits.
pub(crate) const RUN_BYTES_MAX: usize = 1 << 30;
/// Runs below this are searched without fences and filter.
const FILTER_ROWS_MIN: usize = 64;
const FILTER_KEYS_PER_LINE: usize = 50;
/// Of so many entries one has a fence.
const FENCE_ENTRIES: usize = 8;

/// Committed changes of one relation, sorted by (key, epoch descending).
#[derive(Debug, Default)]
pub(crate) struct Run {
    bytes: Vec<u8>,
    offsets: Vec<u32>,
    /// Says of most keys that are not in it that they are not. Empty for small runs, and where keys are not asked for.
    filter: Vec<[u64; 8]>,
    /// While it is being filled: the hash of every key, if it is to have a filter.
    hashes: Option<Vec<u64>>,
    /// Of every [`FENCE_ENTRIES`]th entry the [`Run::fence_of`] its key. They lie together, and entries do not: a search
    /// that begins with them touches little memory.
    fences: Vec<u64>,
    /// How many bytes all keys begin with in common.
    common_bytes: usize,
    /// Epochs are stored as differences to this.
    base: Epoch,
    /// The newest epoch in it.
    pub max_epoch: Epoch,
    /// The oldest epoch in it.
    pub min_epoch: Epoch,
}

/// One version of one row.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Entry<'a> {
    pub key: &'a [u8],
    pub epoch: Epoch,
    /// `None`: deleted.
    pub row: Option<&'a [u8]>,
    /// Key and row, as they stand together.
    joined: &'a [u8],
}

impl Run {
    /// An empty run of entries from that epoch on. `asked`: single keys will be looked for in it, as they are in tables
    /// and views, and not in an operator's state.
    pub(crate) fn new(base: Epoch, asked: bool) -> Run {
        Run { base, max_epoch: base, min_epoch: Epoch::MAX, hashes: asked.then(Vec::new), ..Run::default() }
    }

    pub(crate) fn reserve(&mut self, entries: usize, bytes: usize) {
        self.offsets.reserve(entries);
        self.bytes.reserve(bytes);
        if let Some(hashes) = &mut self.hashes {
            hashes.reserve(entries);
        }
    }

    /// Adds an entry at the end.
    #[inline]
    pub(crate) fn push(&mut self, key: &[u8], epoch: Epoch, row: Option<&[u8]>) {
        self.begin(key, epoch, row.map(<[u8]>::len));
        self.bytes.extend_from_slice(key);
        self.bytes.extend_from_slice(row.unwrap_or_default());
    }

    /// Adds an entry of a run at the end: key and row stand together in it, and are copied together.
    #[inline]
    fn copy(&mut self, entry: &Entry<'_>) {
        self.begin(entry.key, entry.epoch, entry.row.map(<[u8]>::len));
        self.bytes.extend_from_slice(entry.joined);
    }

    #[inline]
    fn begin(&mut self, key: &[u8], epoch: Epoch, row: Option<usize>) {
        self.offsets.push(u32::try_from(self.bytes.len()).expect("a run under 4 GiB"));
        put_varint(&mut self.bytes, key.len() as u64);
        put_varint(&mut self.bytes, row.map_or(0, |length| length as u64 + 1));
        put_varint(&mut self.bytes, epoch - self.base);
        if let Some(hashes) = &mut self.hashes {
            hashes.push(xxh3_64(key));
        }
        self.max_epoch = self.max_epoch.max(epoch);
        self.min_epoch = self.min_epoch.min(epoch);
    }

    /// Leaves room for a chunk's header between entries.
    pub(crate) fn pad(&mut self, bytes: usize) {
        self.bytes.resize(self.bytes.len() + bytes, 0);
    }

    /// Adds the entries of a chunk of one epoch, `header` bytes in. `None` if the chunk is not one.
    pub(crate) fn push_chunk(&mut self, chunk: &[u8], header: usize) -> Option<()> {
        let start = self.bytes.len();
        let mut at = header;
        while at < chunk.len() {
            let offset = u32::try_from(start + at).ok()?;
            let entry = parse(chunk, &mut at, self.base)?;
            if entry.epoch != self.base {
                return None;
            }
            self.offsets.push(offset);
            if let Some(hashes) = &mut self.hashes {
                hashes.push(xxh3_64(entry.key));
            }
        }
        self.bytes.extend_from_slice(chunk);
        self.min_epoch = self.base;
        Some(())
    }

    pub(crate) fn len(&self) -> usize {
        self.offsets.len()
    }

    /// The memory it takes.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes.len()
            + self.offsets.len() * size_of::<u32>()
            + self.filter.len() * size_of::<[u64; 8]>()
            + self.fences.len() * size_of::<u64>()
    }

    /// The block of bytes, in which chunks are ranges.
    pub(crate) fn block(&self) -> &[u8] {
        &self.bytes
    }

    /// The same, for putting the chunks' heads into it.
    pub(crate) fn block_mut(&mut self) -> &mut [u8] {
        &mut self.bytes
    }

    /// Ends the filling: makes fences and filter, and gives back memory that was reserved and not needed.
    pub(crate) fn finish(&mut self) {
        self.fence();
        if self.bytes.capacity() > self.bytes.len() + self.bytes.len() / 4 {
            self.bytes.shrink_to_fit();
        }
        self.offsets.shrink_to_fit();
        let hashes = self.hashes.take().unwrap_or_default();
        if hashes.len() < FILTER_ROWS_MIN {
            return;
        }
        // A blocked Bloom filter (Putze, Sanders, Singler 2007): about ten bits a key, all within one cache line.
        let mut filter = vec![[0; 8]; hashes.len() / FILTER_KEYS_PER_LINE + 1];
        for hash in hashes {
            let (line, bits) = filter_bits(hash, filter.len());
            for (bit, word) in bits {
                filter[line][word] |= bit;
            }
        }
        self.filter = filter;
    }

    fn fence(&mut self) {
        if self.len() < FILTER_ROWS_MIN {
            return;
        }
        let (first, last) = (self.key(0), self.key(self.len() - 1));
        self.common_bytes = first.iter().zip(last).take_while(|(a, b)| a == b).count();
        let fences = (0..self.len()).step_by(FENCE_ENTRIES).map(|index| self.fence_of(self.key(index))).collect();
        self.fences = fences;
    }

    /// The eight bytes of a key behind those all keys share, zeros behind a shorter one, as a number: of two such keys,
    /// the one with the lesser number is the lesser.
    fn fence_of(&self, key: &[u8]) -> u64 {
        let rest = &key[self.common_bytes..];
        let mut head = [0; 8];
        let length = rest.len().min(head.len());
        head[..length].copy_from_slice(&rest[..length]);
        u64::from_be_bytes(head)
    }

    /// A range in which, or right behind which, the first entry stands that is not before those of a key.
    fn near(&self, key: &[u8]) -> Range<usize> {
        let shares = self.common_bytes == 0
            || key.get(..self.common_bytes).is_some_and(|head| head == &self.key(0)[..self.common_bytes]);
        if self.fences.is_empty() || !shares {
            return 0..self.len();
        }
        let fence = self.fence_of(key);
        let from = self.fences.partition_point(|f| *f < fence);
        let to = from + self.fences[from..].partition_point(|f| *f == fence);
        from.saturating_sub(1) * FENCE_ENTRIES..(to * FENCE_ENTRIES).min(self.len())
    }

    fn may_have(&self, hash: u64) -> bool {
        if self.filter.is_empty() {
            return true;
        }
        let (line, bits) = filter_bits(hash, self.filter.len());
        let line = &self.filter[line];
        bits.into_iter().all(|(bit, word)| line[word] & bit != 0)
    }

    pub(crate) fn entry(&self, index: usize) -> Entry<'_> {
        let mut at = self.offsets[index] as usize;
        parse(&self.bytes, &mut at, self.base).expect("a run was checked when it was made")
    }

    fn key(&self, index: usize) -> &[u8] {
        self.entry(index).key
    }

    /// The newest version of a key at or before an epoch. `hash` is the key's, by [`hash_of`].
    pub(crate) fn find(&self, key: &[u8], hash: u64, epoch: Epoch) -> Option<Entry<'_>> {
        if !self.may_have(hash) {
            return None;
        }
        let Range { start, end } = self.near(key);
        let index = self.seek(start, end, |e| e.key.cmp(key).then_with(|| epoch.cmp(&e.epoch)) == Ordering::Less);
        (index < self.len()).then(|| self.entry(index)).filter(|e| e.key == key)
    }

    /// The first entry of a range for which `before` is false.
    fn seek(&self, from: usize, to: usize, before: impl Fn(&Entry<'_>) -> bool) -> usize {
        let (mut low, mut high) = (from, to);
        while low < high {
            let middle = low.midpoint(high);
            if before(&self.entry(middle)) {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        low
    }

    /// The same, when the answer is likely near: a few steps, then doubling ones.
    fn gallop(&self, from: usize, to: usize, before: impl Fn(&Entry<'_>) -> bool) -> usize {
        let (mut low, mut step) = (from, 1);
        while low < to && before(&self.entry(low)) {
            let next = low + step;
            if next >= to || !before(&self.entry(next)) {
                return self.seek(low + 1, next.min(to), before);
            }
            low = next;
            step *= 2;
        }
        low
    }
}

/// The hash by which runs are asked for a key.
pub(crate) fn hash_of(key: &[u8]) -> u64 {
    xxh3_64(key)
}

/// The line of a filter a key falls into, and its bits there with their words.
fn filter_bits(hash: u64, lines: usize) -> (usize, [(u64, usize); 6]) {
    let line = ((hash >> 32) * lines as u64) >> 32;
    let mut rest = hash.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let bits = std::array::from_fn(|_| {
        rest = rest.rotate_left(9);
        (1 << (rest & 63), (rest >> 6) as usize & 7)
    });
    (line as usize, bits)
}

/// Where the parts of an entry stand in its run's bytes.
#[derive(Clone, Debug, Default)]
struct Parts {
    key: Range<usize>,
    row: Range<usize>,
    there: bool,
    epoch: Epoch,
}

impl Parts {
    #[inline]
    fn entry<'a>(&self, bytes: &'a [u8]) -> Entry<'a> {
        let joined = &bytes[self.key.start..self.row.end];
        let (key, row) = joined.split_at(self.key.len());
        Entry { key, epoch: self.epoch, row: self.there.then_some(row), joined }
    }
}

/// Finds the parts of one entry and moves past it.
fn parse_parts(bytes: &[u8], at: &mut usize, base: Epoch) -> Option<Parts> {
    let key_len = usize::try_from(take_varint(bytes, at)?).ok()?;
    let row_len = usize::try_from(take_varint(bytes, at)?).ok()?;
    let epoch = base.checked_add(take_varint(bytes, at)?)?;
    let key_end = at.checked_add(key_len)?;
    let row_end = key_end.checked_add(row_len.saturating_sub(1))?;
    if row_end > bytes.len() {
        return None;
    }
    let parts = Parts { key: *at..key_end, row: key_end..row_end, there: row_len > 0, epoch };
    *at = row_end;
    Some(parts)
}

/// Reads one entry and moves past it.
fn parse<'a>(bytes: &'a [u8], at: &mut usize, base: Epoch) -> Option<Entry<'a>> {
    parse_parts(bytes, at, base).map(|parts| parts.entry(bytes))
}

/// Reads the entries of a chunk of an epoch, as (key, row).
pub(crate) fn read_chunk(
    chunk: &[u8],
    header: usize,
    mut each: impl FnMut(&[u8], Option<&[u8]>),
    subject: impl FnOnce() -> String,
) -> Result<(), Error> {
    let mut at = header;
    while at < chunk.len() {
        match parse(chunk, &mut at, 0) {
            Some(e) => each(e.key, e.row),
            None => return Err(Error::damaged(subject(), "it cannot be read")),
        }
    }
    Ok(())
}

/// One pass over several runs as if they were one: by key, and for one key newest first.
///
/// A tournament: the cursors play each other up a tree in which every match keeps its loser. When the winner moves on,
/// only the matches on its way up are played again (Knuth, "Sorting and Searching", 5.4.1).
#[derive(Debug)]
pub(crate) struct Merge {
    cursors: Vec<Cursor>,
    /// The loser of every match, as a position in `cursors`, from place 1 on: that of place `i` is between the winners
    /// of places `2i` and `2i + 1`, and the place of cursor `c` itself is the number of cursors plus `c`.
    losers: Vec<u32>,
    /// The cursor that stands at the least entry.
    winner: u32,
}

/// A place in a run, with what is asked of the entry there again and again. At its end it loses every match.
#[derive(Debug)]
struct Cursor {
    run: Arc<Run>,
    at: usize,
    end: usize,
    parts: Parts,
    /// The first 16 bytes of the key, zeros behind a shorter one, as a number: most comparisons end with it.
    head: u128,
}

impl Merge {
    /// The entries of runs whose keys are within bounds.
    pub(crate) fn new(runs: &[Arc<Run>], from: Bound<&[u8]>, to: Bound<&[u8]>) -> Merge {
        let mut cursors = Vec::with_capacity(runs.len());
        for run in runs {
            let at = match from {
                Bound::Unbounded => 0,
                Bound::Included(k) => run.seek(0, run.len(), |e| e.key < k),
                Bound::Excluded(k) => run.seek(0, run.len(), |e| e.key <= k),
            };
            let end = match to {
                Bound::Unbounded => run.len(),
                Bound::Included(k) => run.seek(at, run.len(), |e| e.key <= k),
                Bound::Excluded(k) => run.seek(at, run.len(), |e| e.key < k),
            };
            if at < end {
                let mut cursor = Cursor { run: run.clone(), at, end, parts: Parts::default(), head: 0 };
                cursor.load();
                cursors.push(cursor);
            }
        }
        let count = cursors.len();
        let mut merge = Merge { cursors, losers: vec![0; count], winner: 0 };
        let mut winners: Vec<u32> = (0..2 * count as u32).map(|place| place.saturating_sub(count as u32)).collect();
        for place in (1..count).rev() {
            let (a, b) = (winners[2 * place], winners[2 * place + 1]);
            (winners[place], merge.losers[place]) = if merge.less(b, a) { (b, a) } else { (a, b) };
        }
        merge.winner = winners.get(1).copied().unwrap_or_default();
        merge
    }

    /// The entry the merge stands at.
    pub(crate) fn entry(&self) -> Option<Entry<'_>> {
        self.top().map(Cursor::entry)
    }

    fn top(&self) -> Option<&Cursor> {
        self.cursors.get(self.winner as usize).filter(|c| c.at < c.end)
    }

    /// Moves to the next entry.
    pub(crate) fn step(&mut self) {
        self.advance(|_, at, _| at + 1);
    }

    /// Moves to the first version at or before an epoch of the key it stands at or of a later one.
    pub(crate) fn skip_to_visible(&mut self, epoch: Epoch) {
        while self.entry().is_some_and(|e| e.epoch > epoch) {
            self.advance(|run, at, end| {
                let key = run.key(at);
                run.gallop(at + 1, end, |e| e.key == key && e.epoch > epoch)
            });
        }
    }

    /// Moves past every version of the key it stands at.
    pub(crate) fn skip_key(&mut self) {
        let Some(key) = self.entry().map(|e| e.key.to_vec()) else { return };
        while self.entry().is_some_and(|e| e.key == key) {
            self.advance(|run, at, end| run.gallop(at + 1, end, |e| e.key == key));
        }
    }

    fn advance(&mut self, next: impl Fn(&Run, usize, usize) -> usize) {
        let mut winner = self.winner;
        let Some(cursor) = self.cursors.get_mut(winner as usize).filter(|c| c.at < c.end) else { return };
        cursor.at = next(&cursor.run, cursor.at, cursor.end);
        cursor.load();
        let mut place = (self.cursors.len() + winner as usize) / 2;
        while place > 0 {
            if self.less(self.losers[place], winner) {
                std::mem::swap(&mut self.losers[place], &mut winner);
            }
            place /= 2;
        }
        self.winner = winner;
    }

    #[inline]
    fn less(&self, a: u32, b: u32) -> bool {
        let (x, y) = (&self.cursors[a as usize], &self.cursors[b as usize]);
        match x.head.cmp(&y.head) {
            Ordering::Less => true,
            Ordering::Greater => false,
            Ordering::Equal if x.at == x.end || y.at == y.end => x.at < x.end,
            Ordering::Equal => {
                let keys = x.key_beyond_head(y);
                keys.then_with(|| y.parts.epoch.cmp(&x.parts.epoch)).then_with(|| a.cmp(&b)) == Ordering::Less
            }
        }
    }
}

impl Cursor {
    const HEAD_BYTES: usize = size_of::<u128>();

    /// Takes in the entry it stands at.
    fn load(&mut self) {
        if self.at == self.end {
            self.head = u128::MAX;
            return;
        }
        let mut at = self.run.offsets[self.at] as usize;
        self.parts = parse_parts(&self.run.bytes, &mut at, self.run.base).expect("a run was checked when it was made");
        let bytes = &self.run.bytes[self.parts.key.start..];
        let length = self.parts.key.len();
        self.head = match bytes.first_chunk() {
            // What stands behind a short key is shifted out again.
            Some(head) if length > 0 => {
                let behind = 8 * Self::HEAD_BYTES.saturating_sub(length);
                u128::from_be_bytes(*head) >> behind << behind
            }
            _ => {
                let mut head = [0; Self::HEAD_BYTES];
                head[..length].copy_from_slice(&bytes[..length]);
                u128::from_be_bytes(head)
            }
        };
    }

    fn entry(&self) -> Entry<'_> {
        self.parts.entry(&self.run.bytes)
    }

    /// Compares two keys with the same head.
    fn key_beyond_head(&self, other: &Cursor) -> Ordering {
        let (a, b) = (self.parts.key.len(), other.parts.key.len());
        if a == b && a <= Self::HEAD_BYTES {
            return Ordering::Equal;
        }
        self.entry().key.cmp(other.entry().key)
    }
}

/// Calls `each` with every version worth keeping, in order: all above the horizon, and of those at or below it the
/// newest of each key. Deletions are kept too: an older version may lie elsewhere.
pub(crate) fn for_each_kept<E>(
    runs: &[Arc<Run>],
    horizon: Epoch,
    mut each: impl FnMut(&Entry<'_>) -> Result<(), E>,
) -> Result<(), E> {
    let mut merge = Merge::new(runs, Bound::Unbounded, Bound::Unbounded);
    let mut last = KeyMark::default();
    let mut last_epoch = None;
    while let Some(cursor) = merge.top() {
        let e = cursor.entry();
        // Versions come newest first, so below the horizon only the first of a key is needed. A version may also
        // stand in two runs: they are equal.
        let kept = match last_epoch.filter(|_| last.is_of(cursor)) {
            None => {
                last.set(cursor);
                true
            }
            Some(newer) => newer > horizon && newer != e.epoch,
        };
        if kept {
            each(&e)?;
            last_epoch = Some(e.epoch);
        }
        merge.step();
    }
    Ok(())
}

/// A key that a cursor stood at, to know it again.
#[derive(Default)]
struct KeyMark {
    head: u128,
    length: usize,
    /// The whole key, if it is longer than its head.
    long: Vec<u8>,
}

impl KeyMark {
    fn set(&mut self, cursor: &Cursor) {
        (self.head, self.length) = (cursor.head, cursor.parts.key.len());
        if self.length > Cursor::HEAD_BYTES {
            self.long.clear();
            self.long.extend_from_slice(cursor.entry().key);
        }
    }

    fn is_of(&self, cursor: &Cursor) -> bool {
        let same = self.head == cursor.head && self.length == cursor.parts.key.len();
        same && (self.length <= Cursor::HEAD_BYTES || cursor.entry().key == self.long)
    }
}

/// Several runs as one, without the versions nobody can ask for any more. `asked` as for [`Run::new`].
pub(crate) fn merge(runs: &[Arc<Run>], horizon: Epoch, asked: bool) -> Run {
    let base = runs.iter().map(|r| r.min_epoch.min(r.base)).min().unwrap_or_default();
    let mut out = Run::new(base, asked);
    out.reserve(runs.iter().map(|r| r.len()).sum(), runs.iter().map(|r| r.bytes.len() + r.len()).sum());
    let Ok(()) = for_each_kept(runs, horizon, |e| {
        out.copy(e);
        Ok::<(), std::convert::Infallible>(())
    });
    // What was merged covers these epochs even where nothing of one is left.
    out.max_epoch = runs.iter().map(|r| r.max_epoch).max().unwrap_or(base);
    out.min_epoch = runs.iter().map(|r| r.min_epoch).min().unwrap_or(base);
    out.finish();
    out
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn random(seed: &mut u64) -> u64 {
        *seed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = *seed;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// (key, !epoch) → row
    type Model = BTreeMap<(Vec<u8>, u64), Option<Vec<u8>>>;

    fn sample(seed: u64) -> (Vec<Arc<Run>>, Model) {
        let mut seed = seed;
        let mut model = Model::new();
        let mut runs = Vec::new();
        for epoch in 1..=20 {
            let mut changes = BTreeMap::new();
            for _ in 0..random(&mut seed) % 12 {
                let key = format!("k{}", random(&mut seed) % 15).into_bytes();
                let row = (random(&mut seed) % 3 > 0).then(|| vec![b'v'; random(&mut seed) as usize % 200]);
                changes.insert(key, row);
            }
            let mut run = Run::new(epoch, true);
            for (k, v) in changes {
                run.push(&k, epoch, v.as_deref());
                model.insert((k, !epoch), v);
            }
            if run.len() > 0 {
                runs.push(Arc::new(run));
            }
        }
        (runs, model)
    }

    fn model_get(model: &Model, key: &[u8], epoch: Epoch) -> Option<(Epoch, Option<Vec<u8>>)> {
        model.range((key.to_vec(), !epoch)..=(key.to_vec(), u64::MAX)).next().map(|((_, e), v)| (!e, v.clone()))
    }

    #[test]
    fn merged_runs_answer_as_the_single_ones() {
        for seed in 0..50 {
            let (runs, model) = sample(seed);
            let horizon = seed % 20;
            let merged = [
                Arc::new(merge(&runs[..runs.len() / 2], horizon, true)),
                Arc::new(merge(&runs[runs.len() / 2..], horizon, true)),
            ];
            for epoch in horizon..=20 {
                for k in 0..15 {
                    let key = format!("k{k}").into_bytes();
                    let found = merged.iter().rev().find_map(|r| r.find(&key, hash_of(&key), epoch));
                    let found = found.map(|e| (e.epoch, e.row.map(<[u8]>::to_vec)));
                    assert_eq!(found, model_get(&model, &key, epoch), "seed {seed} epoch {epoch} key k{k}");
                }
                let mut scan = Merge::new(&merged, Bound::Included(b"k1"), Bound::Excluded(b"k9"));
                let mut seen = Vec::new();
                loop {
                    scan.skip_to_visible(epoch);
                    let Some(e) = scan.entry() else { break };
                    seen.push((e.key.to_vec(), e.epoch));
                    scan.skip_key();
                }
                let mut keys: Vec<_> = model.keys().map(|(k, _)| k.clone()).collect();
                keys.dedup();
                let expected: Vec<_> = keys
                    .into_iter()
                    .filter(|k| k.as_slice() >= b"k1".as_slice() && k.as_slice() < b"k9".as_slice())
                    .filter_map(|k| model_get(&model, &k, epoch).map(|(e, _)| (k, e)))
                    .collect();
                assert_eq!(seen, expected, "seed {seed} epoch {epoch}");
            }
        }
    }

    #[test]
    fn merging_forgets_what_nobody_can_ask_for() {
        let (runs, model) = sample(1);
        let all = merge(&runs, 20, true);
        let mut keys: Vec<_> = model.keys().map(|(k, _)| k.clone()).collect();
        keys.dedup();
        assert_eq!(all.len(), keys.len());
        assert_eq!(merge(&runs, 0, true).len(), model.len());
        let twice = [runs.clone(), runs.clone()].concat();
        assert_eq!(merge(&twice, 0, true).len(), model.len(), "a version that stands in two runs is kept once");
    }

    #[test]
    fn the_filter_knows_its_keys_and_few_others() {
        let key = |n: u64| format!("key-{n}").into_bytes();
        let mut keys: Vec<_> = (0..20_000).map(key).collect();
        keys.sort();
        let mut run = Run::new(1, true);
        for k in &keys {
            run.push(k, 1, Some(b""));
        }
        run.finish();
        assert!(keys.iter().all(|k| run.find(k, hash_of(k), 1).is_some()));
        let wrong = (20_000..40_000).filter(|n| run.may_have(hash_of(&key(*n)))).count();
        assert!(wrong < 600, "{wrong} of 20,000");
    }

    #[test]
    fn a_large_run_finds_every_version_of_every_key_and_no_other() {
        let tail = |n: u64| [b"a\0".repeat(n as usize % 9), n.to_be_bytes()[5..].to_vec()].concat();
        for common in [b"".as_slice(), b"the same head"] {
            let key = |n: u64| [common, &tail(n)].concat();
            let mut keys: Vec<_> = (0..3_000).filter(|n| n % 3 > 0).map(key).collect();
            keys.sort();
            let mut run = Run::new(1, true);
            for k in &keys {
                for epoch in [9, 4] {
                    run.push(k, epoch, Some(b""));
                }
            }
            run.finish();
            let found = |k: &[u8], epoch| run.find(k, hash_of(k), epoch).map(|e| e.epoch);
            for k in &keys {
                assert_eq!([3, 4, 8, 9, 10].map(|e| found(k, e)), [None, Some(4), Some(4), Some(9), Some(9)]);
            }
            assert!((0..3_000).filter(|n| n % 3 == 0).all(|n| found(&key(n), 10).is_none()));
            assert!([b"".as_slice(), b"the", b"\xff"].into_iter().all(|k| found(k, 10).is_none()));
        }
    }

    #[test]
    fn a_torn_chunk_is_seen() {
        let mut run = Run::new(3, true);
        run.push(b"key", 3, Some(b"row"));
        run.push(b"kez", 3, None);
        let block = run.block().to_vec();
        let mut back = Run::new(3, true);
        back.push_chunk(&block, 0).unwrap();
        assert_eq!(back.len(), 2);
        assert!((1..block.len()).filter(|n| Run::new(3, true).push_chunk(&block[..*n], 0).is_some()).count() <= 1);
    }
}
