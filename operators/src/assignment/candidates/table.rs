//! The rows of an input as the rules see them: netted by key, each with a slot of its own.

use arrow::array::RecordBatch;
use types::{Delta, RowCodec, Schema};

use super::ByBytes;

/// The rows of an input, by slot: their keys and what the rule or an expression reads of them.
pub(super) struct Table {
    codec: RowCodec,
    /// The positions kept, in the relation.
    kept: Vec<usize>,
    slots: ByBytes<u32>,
    pub keys: Vec<Box<[u8]>>,
    values: Vec<Option<Box<[u8]>>>,
    free: Vec<u32>,
    gone: Vec<u32>,
}

impl Table {
    pub fn new(schema: &Schema, columns: &[usize]) -> Table {
        let mut kept: Vec<usize> = schema.key.iter().chain(columns).copied().collect();
        kept.sort_unstable();
        kept.dedup();
        let place = |c: &usize| kept.binary_search(c).expect("keys are kept");
        let projected = Schema {
            columns: kept.iter().map(|c| schema.columns[*c].clone()).collect(),
            key: schema.key.iter().map(place).collect(),
            event_time: None,
            append_only: false,
        };
        Table {
            codec: RowCodec::new(&projected),
            kept,
            slots: ByBytes::default(),
            keys: Vec::new(),
            values: Vec::new(),
            free: Vec::new(),
            gone: Vec::new(),
        }
    }

    /// Where a column of the relation stands in [`Table::rows`].
    pub fn place_of(&self, column: usize) -> usize {
        self.kept.binary_search(&column).expect("the column is kept")
    }

    pub fn has(&self, slot: u32) -> bool {
        self.values.get(slot as usize).is_some_and(Option::is_some)
    }

    pub fn find(&self, key: &[u8]) -> Option<u32> {
        self.slots.get(key).copied().filter(|slot| self.has(*slot))
    }

    /// The kept columns of these rows.
    pub fn rows(&self, slots: &[u32]) -> RecordBatch {
        let row = |slot: &u32| {
            let value = self.values[*slot as usize].as_deref().expect("the row is there");
            (&*self.keys[*slot as usize], value)
        };
        self.codec.decode(slots.iter().map(row)).expect("bytes of our own codec")
    }

    /// Nets an epoch's changes key by key. Returns the slots whose kept columns changed.
    pub fn apply(&mut self, deltas: &[Delta]) -> Vec<u32> {
        let encoded: Vec<_> = deltas
            .iter()
            .map(|delta| {
                let rows = delta.rows.project(&self.kept).expect("the planned columns");
                (self.codec.keys(&rows), self.codec.values(&rows), delta)
            })
            .collect();
        let mut all: Vec<(&[u8], &[u8], i64)> = Vec::new();
        for (keys, values, delta) in &encoded {
            all.extend((0..delta.len()).map(|row| (keys.row(row).data(), values.row(row).data(), delta.diff(row))));
        }
        all.sort_unstable_by(|a, b| (a.0, a.1).cmp(&(b.0, b.1)));
        let mut changed = Vec::new();
        for of_key in all.chunk_by(|a, b| a.0 == b.0) {
            let key = of_key[0].0;
            let known = self.slots.get(key).copied();
            let before = known.and_then(|slot| self.values[slot as usize].as_deref());
            let mut after = None;
            let mut before_met = false;
            for of_row in of_key.chunk_by(|a, b| a.1 == b.1) {
                let mut sum: i64 = of_row.iter().map(|r| r.2).sum();
                if before == Some(of_row[0].1) {
                    sum += 1;
                    before_met = true;
                }
                if sum > 0 {
                    after = Some(of_row[0].1);
                }
            }
            if !before_met && after.is_none() {
                after = before;
            }
            if before == after {
                continue;
            }
            let after: Option<Box<[u8]>> = after.map(Into::into);
            let slot = known.unwrap_or_else(|| self.take_slot(key));
            if after.is_none() {
                self.gone.push(slot);
            }
            self.values[slot as usize] = after;
            changed.push(slot);
        }
        changed
    }

    fn take_slot(&mut self, key: &[u8]) -> u32 {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.keys.push(Box::default());
            self.values.push(None);
            self.keys.len() as u32 - 1
        });
        self.keys[slot as usize] = key.into();
        self.slots.insert(key.into(), slot);
        slot
    }

    pub fn release(&mut self) {
        for slot in std::mem::take(&mut self.gone) {
            let key = std::mem::take(&mut self.keys[slot as usize]);
            self.slots.remove(&key);
            self.free.push(slot);
        }
    }
}
