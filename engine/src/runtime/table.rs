//! Folds the rows of a keyed source into its table: within an epoch the last row of a key wins, by its number in the
//! source.

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::compute::concat_batches;
use arrow::datatypes::Int64Type;
use hashbrown::HashTable;
use types::{ChangeSet, Delta, RowCodec};
use xxhash_rust::xxh3::xxh3_64;

use crate::plan::PlannedSource;

/// One worker's share of a table.
pub(super) struct TableFold {
    codec: RowCodec,
    /// For each table column its position among the delivered ones.
    columns: Vec<usize>,
    tombstone: Option<usize>,
    rows: RowMap,
}

impl TableFold {
    /// A fold of a source, with room for so many rows.
    pub fn new(source: &PlannedSource, rows_expected: usize) -> TableFold {
        let columns = source
            .schema
            .columns
            .iter()
            .map(|c| source.delivered.iter().position(|d| d.name == c.name).expect("table columns are delivered"))
            .collect();
        TableFold {
            codec: RowCodec::new(&source.schema),
            columns,
            tombstone: source.tombstone,
            rows: RowMap { table: HashTable::with_capacity(rows_expected), ..RowMap::default() },
        }
    }

    /// Takes rows of the stored table as they are, none of which it has yet.
    pub fn restore(&mut self, deltas: &[Delta], mut seen: impl FnMut(&[u8], &[u8])) {
        for delta in deltas {
            let (keys, values) = (self.codec.keys(&delta.rows), self.codec.values(&delta.rows));
            for i in 0..delta.len() {
                let (key, value) = (keys.row(i).data(), values.row(i).data());
                seen(key, value);
                self.rows.insert_new(key, value);
            }
        }
    }

    /// The changes an epoch's rows (delivered columns, then the number) make: as bytes for the store and as rows for
    /// the steps.
    pub fn fold(&mut self, deltas: &[Delta]) -> (ChangeSet, Vec<Delta>) {
        let schema = deltas[0].rows.schema();
        let all = concat_batches(&schema, deltas.iter().map(|d| &d.rows)).expect("one schema");
        let seqs = all.column(all.num_columns() - 1).as_primitive::<Int64Type>().values();
        let columns: Vec<ArrayRef> = self.columns.iter().map(|i| all.column(*i).clone()).collect();
        let table = RecordBatch::try_new(self.codec.schema().arrow(), columns).expect("columns of the table's types");
        let (keys, values) = (self.codec.keys(&table), self.codec.values(&table));
        let tombstones = self.tombstone.map(|i| all.column(i).as_boolean());
        let mut order: Vec<u32> = (0..all.num_rows() as u32).collect();
        order.sort_unstable_by(|a, b| {
            let (a, b) = (*a as usize, *b as usize);
            keys.row(a).data().cmp(keys.row(b).data()).then(seqs[a].cmp(&seqs[b]))
        });

        let mut changes = ChangeSet::with_capacity(order.len(), 0);
        let mut inserted = Vec::new();
        for group in order.chunk_by(|a, b| keys.row(*a as usize) == keys.row(*b as usize)) {
            let last = *group.last().expect("a group has rows") as usize;
            let key = keys.row(last).data();
            let deleted = tombstones.is_some_and(|t| t.is_valid(last) && t.value(last));
            let before = self.rows.get(key);
            if deleted {
                if let Some(before) = before {
                    changes.push(key, Some(before), None);
                    self.rows.remove(key);
                }
                continue;
            }
            let after = values.row(last).data();
            if before != Some(after) {
                changes.push(key, before, Some(after));
                self.rows.insert(key, after);
                inserted.push(last as u32);
            }
        }
        let mut out = Vec::new();
        let removed: Vec<(&[u8], &[u8])> = changes.iter().filter_map(|c| c.before.map(|b| (c.key, b))).collect();
        if !removed.is_empty() {
            out.push(Delta::delete(self.codec.decode(removed).expect("bytes of our own")));
        }
        if !inserted.is_empty() {
            out.push(Delta::insert(table).take(&inserted));
        }
        (changes, out)
    }
}

/// Key bytes → value bytes, packed: a row costs its bytes, two lengths and about nine bytes of table.
#[derive(Default)]
struct RowMap {
    table: HashTable<usize>,
    bytes: Vec<u8>,
    /// Bytes of rows that were replaced or removed.
    dead: usize,
}

impl RowMap {
    const HEADER: usize = 8;

    fn get(&self, key: &[u8]) -> Option<&[u8]> {
        let at = *self.table.find(xxh3_64(key), |at| self.key(*at) == key)?;
        Some(self.value(at))
    }

    fn insert(&mut self, key: &[u8], value: &[u8]) {
        self.remove(key);
        self.insert_new(key, value);
    }

    /// Adds a key that is not in it.
    fn insert_new(&mut self, key: &[u8], value: &[u8]) {
        let at = self.bytes.len();
        let length = |l: usize| u32::try_from(l).expect("a row under 4 GiB").to_le_bytes();
        self.bytes.extend_from_slice(&length(key.len()));
        self.bytes.extend_from_slice(&length(value.len()));
        self.bytes.extend_from_slice(key);
        self.bytes.extend_from_slice(value);
        let bytes = &self.bytes;
        self.table.insert_unique(xxh3_64(key), at, |at| xxh3_64(key_at(bytes, *at)));
    }

    fn remove(&mut self, key: &[u8]) {
        let bytes = &self.bytes;
        let Ok(entry) = self.table.find_entry(xxh3_64(key), |at| key_at(bytes, *at) == key) else { return };
        let (at, _) = entry.remove();
        self.dead += Self::HEADER + self.key(at).len() + self.value(at).len();
        if self.dead > self.bytes.len() / 2 && self.dead > 1 << 20 {
            self.compact();
        }
    }

    fn compact(&mut self) {
        let mut bytes = Vec::with_capacity(self.bytes.len() - self.dead);
        for at in &mut self.table {
            let end = *at + Self::HEADER + key_at(&self.bytes, *at).len() + value_at(&self.bytes, *at).len();
            let moved = bytes.len();
            bytes.extend_from_slice(&self.bytes[*at..end]);
            *at = moved;
        }
        self.bytes = bytes;
        self.dead = 0;
    }

    fn key(&self, at: usize) -> &[u8] {
        key_at(&self.bytes, at)
    }

    fn value(&self, at: usize) -> &[u8] {
        value_at(&self.bytes, at)
    }
}

fn length_at(bytes: &[u8], at: usize) -> usize {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes")) as usize
}

fn key_at(bytes: &[u8], at: usize) -> &[u8] {
    let start = at + RowMap::HEADER;
    &bytes[start..start + length_at(bytes, at)]
}

fn value_at(bytes: &[u8], at: usize) -> &[u8] {
    let start = at + RowMap::HEADER + length_at(bytes, at);
    &bytes[start..start + length_at(bytes, at + 4)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_map_is_a_map() {
        let mut map = RowMap::default();
        let mut model = std::collections::BTreeMap::new();
        let mut x = 1u64;
        for i in 0..200_000u64 {
            x = x.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let key = format!("key{}", (x >> 33) % 5_000).into_bytes();
            if x >> 62 == 0 {
                map.remove(&key);
                model.remove(&key);
            } else {
                let value = i.to_string().into_bytes();
                map.insert(&key, &value);
                model.insert(key, value);
            }
        }
        assert_eq!(map.table.len(), model.len());
        for (key, value) in &model {
            assert_eq!(map.get(key), Some(value.as_slice()));
        }
    }
}
