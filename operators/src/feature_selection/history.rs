//! The operator: instruments side by side, their vectors as they come, what is stored of them.
//!
//! Of an instrument is stored what was kept at some time, and the vectors since: they are taken again after a restart,
//! so an epoch writes what it brought and no more. When the vectors outweigh what is kept, that is written anew. The
//! warm-up is stored as its vectors alone.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Float64Array, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type, Int64Type, TimestampMicrosecondType};
use engine::catalogue::Row;
use engine::operator::{Context, HistoryOperator};
use engine::plan::StepOutput;
use types::{Delta, Type};

use super::labels::Quote;
use super::options::Selection;
use super::selector::{Selector, Vector};
use super::state::entry_len;
use super::views::{self, CHANGES, Rows};
use crate::groups::Groups;

/// Selections of all instruments of a worker.
pub struct Chronicle {
    selection: Arc<Selection>,
    outputs: Vec<StepOutput>,
    /// Instruments by their columns; without columns there is one, number 0.
    groups: Option<Groups>,
    instruments: Vec<Instrument>,
    /// What was stored, by the bytes of the instrument and then of the entry, until the first event comes.
    restored: BTreeMap<Box<[u8]>, BTreeMap<Box<[u8]>, Box<[u8]>>>,
}

/// One instrument.
struct Instrument {
    selector: Selector,
    /// What readers have been told.
    shown: Rows,
    /// The vectors of this call, as they are stored.
    fresh: Vec<u8>,
    /// The number of the first of them.
    fresh_from: u64,
    /// The numbers by which pieces of the log are stored, and their bytes in all.
    log: Vec<u64>,
    log_bytes: usize,
    /// The bytes of what was last kept.
    kept_bytes: usize,
}

/// An entry's suffix: one of these and a number.
const KEPT: u8 = b'k';
const LOG: u8 = b'l';
const SUFFIX_LEN: usize = 9;

fn suffix(tag: u8, number: u64) -> [u8; SUFFIX_LEN] {
    let mut out = [tag; SUFFIX_LEN];
    out[1..].copy_from_slice(&number.to_be_bytes());
    out
}

/// Changes of an output: for each row its instrument, and the difference.
#[derive(Default)]
struct Told {
    instruments: Vec<u32>,
    rows: Vec<Row>,
    diffs: Vec<i64>,
}

impl Chronicle {
    /// No instruments yet.
    pub fn new(selection: Arc<Selection>) -> Chronicle {
        let types: Vec<Type> = selection.instrument.iter().map(|i| selection.schema.columns[*i].ty).collect();
        Chronicle {
            outputs: views::outputs(&selection),
            groups: (!types.is_empty()).then(|| Groups::new(&types)),
            instruments: Vec::new(),
            restored: BTreeMap::new(),
            selection,
        }
    }

    /// Makes instruments of what was stored.
    fn put_back(&mut self) {
        for (key, entries) in std::mem::take(&mut self.restored) {
            let number = self.groups.as_mut().map_or(0, |g| g.number_of_key(&key)) as usize;
            self.grow(number + 1);
            let rules = &self.selection.rules;
            let instrument = &mut self.instruments[number];
            if let Some(kept) = entries.get(&suffix(KEPT, 0)[..]) {
                instrument.selector = Selector::restore(rules, kept).expect("bytes of our own");
                instrument.kept_bytes = kept.len();
            }
            for (name, bytes) in entries.iter().filter(|(name, _)| name[0] == LOG) {
                instrument.log.push(u64::from_be_bytes(name[1..].try_into().expect("eight bytes")));
                instrument.log_bytes += bytes.len();
                for entry in bytes.chunks_exact(entry_len(rules.features)) {
                    let words: Vec<u64> = entry.as_chunks::<8>().0.iter().map(|w| u64::from_le_bytes(*w)).collect();
                    let (x, rest) = words.split_at(rules.features);
                    let x: Vec<f64> = x.iter().map(|w| f64::from_bits(*w)).collect();
                    let quote = Quote { price: f64::from_bits(rest[0]), spread: f64::from_bits(rest[1]) };
                    instrument.selector.push(Vector { x: &x, quote, at: rest[2] as i64 });
                }
            }
            instrument.shown = views::rows(&self.selection, &instrument.selector);
        }
    }

    fn grow(&mut self, count: usize) {
        let rules = &self.selection.rules;
        let new = || Instrument {
            selector: Selector::new(rules),
            shown: Rows::default(),
            fresh: Vec::new(),
            fresh_from: 0,
            log: Vec::new(),
            log_bytes: 0,
            kept_bytes: 0,
        };
        if count > self.instruments.len() {
            self.instruments.resize_with(count, new);
        }
    }

    fn emit(&self, told: [Told; 5], context: &mut Context) {
        for (output, told) in told.into_iter().enumerate() {
            if told.rows.is_empty() {
                continue;
            }
            let instruments = self.groups.as_ref().map_or_else(Vec::new, |g| g.columns(&told.instruments));
            let rows = views::batch(&self.outputs[output], instruments, &told.rows);
            let delta = if output == CHANGES { Delta::insert(rows) } else { Delta::new(rows, told.diffs) };
            context.emit(output, delta);
        }
    }
}

impl Instrument {
    /// Stores what this call brought.
    fn store(&mut self, partition: &[u8], context: &mut Context) {
        let fresh = std::mem::take(&mut self.fresh);
        if self.selector.is_warm() && self.log_bytes + fresh.len() > self.kept_bytes {
            let kept = self.selector.save();
            context.put_state(partition, &suffix(KEPT, 0), Some(&kept));
            self.log.drain(..).for_each(|number| context.put_state(partition, &suffix(LOG, number), None));
            (self.log_bytes, self.kept_bytes) = (0, kept.len());
        } else {
            context.put_state(partition, &suffix(LOG, self.fresh_from), Some(&fresh));
            self.log.push(self.fresh_from);
            self.log_bytes += fresh.len();
        }
        self.fresh = fresh;
        self.fresh.clear();
    }

    /// Tells how the rows differ from those told before.
    fn tell(&mut self, number: u32, rows: Rows, told: &mut [Told; 5]) {
        for ((old, new), told) in self.shown.iter().zip(&rows).zip(told) {
            let mut tell = |row: &Option<Row>, diff| {
                if let Some(row) = row {
                    told.instruments.push(number);
                    told.rows.push(row.clone());
                    told.diffs.push(diff);
                }
            };
            for place in 0..old.len().max(new.len()) {
                let (old, new) = (old.get(place).unwrap_or(&None), new.get(place).unwrap_or(&None));
                if old != new {
                    tell(old, -1);
                    tell(new, 1);
                }
            }
        }
        self.shown = rows;
    }
}

impl HistoryOperator for Chronicle {
    fn restore(&mut self, key: &[u8], value: &[u8]) {
        let (partition, suffix) = key.split_at(key.len() - SUFFIX_LEN);
        self.restored.entry(partition.into()).or_default().insert(suffix.into(), value.into());
    }

    fn apply(&mut self, _input: usize, events: &RecordBatch, context: &mut Context) {
        self.put_back();
        let selection = self.selection.clone();
        let mut numbers = vec![0; events.num_rows()];
        if let Some(groups) = &mut self.groups {
            let columns: Vec<ArrayRef> = selection.instrument.iter().map(|i| events.column(*i).clone()).collect();
            groups.number(&columns, &mut numbers);
        }
        let Some(greatest) = numbers.iter().max() else { return };
        self.grow(*greatest as usize + 1);

        let features: Vec<Numbers> = selection.features.iter().map(|i| Numbers::of(events.column(*i))).collect();
        let price = Numbers::of(events.column(selection.price));
        let spread = selection.spread.map(|i| Numbers::of(events.column(i)));
        let times = events.column(selection.at).as_primitive::<TimestampMicrosecondType>();
        let seqs = events.column(selection.seq).as_primitive::<Int64Type>();
        let mut told: [Told; 5] = Default::default();
        let mut x = vec![0.0; features.len()];
        for row in 0..events.num_rows() {
            x.iter_mut().zip(&features).for_each(|(x, f)| *x = f.at(row));
            let quote = Quote { price: price.at(row), spread: spread.as_ref().map_or(f64::NAN, |s| s.at(row)) };
            let at = times.value(row);
            let instrument = &mut self.instruments[numbers[row] as usize];
            if instrument.fresh.is_empty() {
                instrument.fresh_from = instrument.selector.count() + 1;
            }
            for value in x.iter().chain([&quote.price, &quote.spread]) {
                instrument.fresh.extend_from_slice(&value.to_bits().to_le_bytes());
            }
            instrument.fresh.extend_from_slice(&at.to_le_bytes());
            let changes = instrument.selector.push(Vector { x: &x, quote, at }).to_vec();
            for change in changes {
                told[CHANGES].instruments.push(numbers[row]);
                let row = views::change_row(&selection, &instrument.selector, &change, at, seqs.value(row));
                told[CHANGES].rows.push(row);
            }
        }
        numbers.sort_unstable();
        numbers.dedup();
        let mut partition = Vec::new();
        for number in numbers {
            partition.clear();
            if let Some(groups) = &self.groups {
                groups.key(number, &mut partition);
            }
            let instrument = &mut self.instruments[number as usize];
            let rows = views::rows(&selection, &instrument.selector);
            instrument.tell(number, rows, &mut told);
            instrument.store(&partition, context);
        }
        self.emit(told, context);
    }
}

/// A column of numbers.
struct Numbers(Float64Array);

impl Numbers {
    fn of(column: &ArrayRef) -> Numbers {
        let column = cast(column, &DataType::Float64).expect("int64 and float64 are floats");
        Numbers(column.as_primitive::<Float64Type>().clone())
    }

    /// The number of a row; NaN, the one there is, where there is none.
    fn at(&self, row: usize) -> f64 {
        let value = self.0.value(row);
        if self.0.is_null(row) || value.is_nan() { f64::NAN } else { value + 0.0 }
    }
}
