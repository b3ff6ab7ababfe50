//! The model as a function of history: events of many instruments in, changes of views and one stream out.
//!
//! Views and state are written when the epoch's events have all been given, once for every instrument that had some.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Float64Array, Int64Array, RecordBatch, StringArray,
    TimestampMicrosecondArray,
};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type, Int64Type, TimestampMicrosecondType};
use engine::catalogue::Row;
use engine::operator::{Context, HistoryOperator};
use types::{Delta, RowCodec, Type, Value};

use super::labels::Quote;
use super::learner::Learner;
use super::moments::MAGNITUDE_MAX;
use super::options::{Changes, OnlineModel};
use super::state::{Last, Tag, core, restore_core, restore_weights, weights};
use super::views::{OUTPUTS, PREDICTIONS, outputs, probabilities, rows};
use crate::groups::Groups;
use crate::refusal::Refusal;

/// The gauge of the mean loss of the last minibatches of the instruments that had events.
const LOSS: &str = "loss";

/// The model at work on the instruments of one worker.
pub struct Predictor {
    model: Arc<OnlineModel>,
    vectors: Refusal,
    changes: Option<Refusal>,
    names: Vec<String>,
    codecs: Vec<RowCodec>,
    /// From the columns of an instrument to its number; none if there is but one.
    groups: Option<Groups>,
    instruments: Vec<Instrument>,
    /// Those with events since the last epoch's end, in the order of their first.
    touched: Vec<u32>,
    told: Told,
    features: Vec<f64>,
}

struct Instrument {
    cells: Row,
    learner: Learner,
    last: Option<Last>,
    is_touched: bool,
    /// Put back, and not yet made ready.
    is_restored: bool,
    /// Vectors that are stored.
    stored: u64,
    shown: [Vec<Row>; OUTPUTS],
}

/// The rows of the stream of predictions since the last epoch's end.
#[derive(Default)]
struct Told {
    instruments: Vec<u32>,
    horizons: Vec<i64>,
    at: Vec<i64>,
    probabilities: [Vec<f64>; 6],
    seqs: Vec<i64>,
}

/// A column of vectors as numbers.
struct Numbers(Float64Array);

impl Numbers {
    fn new(column: &ArrayRef) -> Numbers {
        let column = cast(column, &DataType::Float64).expect("int64 and float64 are floats");
        Numbers(column.as_primitive::<Float64Type>().clone())
    }

    fn at(&self, row: usize) -> Option<f64> {
        self.0.is_valid(row).then(|| self.0.value(row))
    }
}

impl Predictor {
    /// Before the first event.
    pub fn new(model: Arc<OnlineModel>) -> Predictor {
        let v = &model.vectors;
        let types: Vec<Type> = v.instrument.iter().map(|c| v.schema.columns[*c].ty).collect();
        Predictor {
            vectors: Refusal::new(&v.relation, &v.schema),
            changes: model.changes.as_ref().map(|c| Refusal::new(&c.relation, &c.schema)),
            names: v.names(),
            codecs: outputs(&model).iter().map(|o| RowCodec::new(&o.schema)).collect(),
            groups: (!types.is_empty()).then(|| Groups::new(&types)),
            instruments: Vec::new(),
            touched: Vec::new(),
            told: Told::default(),
            features: vec![f64::NAN; model.design.features],
            model,
        }
    }

    /// The instruments of a batch's rows, new ones made.
    fn numbers(&mut self, events: &RecordBatch, instrument: &[usize]) -> Vec<u32> {
        let mut numbers = vec![0; events.num_rows()];
        if let Some(groups) = &mut self.groups {
            let columns: Vec<ArrayRef> = instrument.iter().map(|c| events.column(*c).clone()).collect();
            groups.number(&columns, &mut numbers);
        }
        self.grow();
        for number in &numbers {
            let instrument = &mut self.instruments[*number as usize];
            if !std::mem::replace(&mut instrument.is_touched, true) {
                self.touched.push(*number);
            }
            instrument.make_ready(&self.names);
        }
        numbers
    }

    fn grow(&mut self) {
        let len = self.groups.as_ref().map_or(1, Groups::len);
        for number in self.instruments.len()..len {
            let columns = self.groups.as_ref().map_or(Vec::new(), |g| g.columns(&[number as u32]));
            let mut learner = Learner::new(&self.model.design);
            if let Some(warm) = &self.model.warm {
                warm.give(&mut learner);
            }
            self.instruments.push(Instrument {
                cells: columns.iter().map(|c| Value::at(c, 0)).collect(),
                learner,
                last: None,
                is_touched: false,
                is_restored: false,
                stored: 0,
                shown: Default::default(),
            });
        }
    }

    fn apply_changes(&mut self, changes: &Changes, events: &RecordBatch, context: &mut Context) {
        let numbers = self.numbers(events, &changes.instrument);
        let features: &StringArray = events.column(changes.feature).as_string();
        let entered: &BooleanArray = events.column(changes.entered).as_boolean();
        let selections = events.column(changes.selection).as_primitive::<Int64Type>();
        let refusal = self.changes.as_ref().expect("there is an input of changes");
        for (row, number) in numbers.into_iter().enumerate() {
            let mut refuse = |reason: &str, detail: String| refusal.refuse(context, events, row, 1, reason, detail);
            if features.is_null(row) || entered.is_null(row) || selections.is_null(row) {
                refuse("null_change", "`feature`, `entered` or `selection` is null".to_owned());
                continue;
            }
            let Some(feature) = self.names.iter().position(|name| name == features.value(row)) else {
                refuse("unknown_feature", format!("there is no feature `{}`", features.value(row)));
                continue;
            };
            let learner = &mut self.instruments[number as usize].learner;
            learner.change(selections.value(row), feature, entered.value(row));
        }
    }

    fn apply_vectors(&mut self, events: &RecordBatch, context: &mut Context) {
        let model = self.model.clone();
        let v = &model.vectors;
        let numbers = self.numbers(events, &v.instrument);
        let times = events.column(v.at).as_primitive::<TimestampMicrosecondType>();
        let seqs = events.column(v.seq).as_primitive::<Int64Type>();
        let (prices, spreads) = (Numbers::new(events.column(v.price)), Numbers::new(events.column(v.spread)));
        let columns: Vec<Numbers> = v.features.iter().map(|c| Numbers::new(events.column(*c))).collect();
        for (row, number) in numbers.into_iter().enumerate() {
            let instrument = &mut self.instruments[number as usize];
            let last = Last { at: times.value(row), seq: seqs.value(row) };
            let mut refuse =
                |reason: &str, detail: String| self.vectors.refuse(context, events, row, 1, reason, detail);
            if instrument.last.is_some_and(|before| before.at > last.at) {
                refuse("time_backwards", "its time is before that of the vector before it".to_owned());
                continue;
            }
            let Some(price) = prices.at(row).filter(|p| *p > 0.0 && *p <= MAGNITUDE_MAX) else {
                refuse("bad_price", "the price is null, NaN, not above 0, or beyond 1e15".to_owned());
                continue;
            };
            let Some(spread) = spreads.at(row).filter(|s| (0.0..=MAGNITUDE_MAX).contains(s)) else {
                refuse("bad_spread", "the spread is null, NaN, negative, or beyond 1e15".to_owned());
                continue;
            };
            let mut bad = None;
            for (i, (feature, column)) in self.features.iter_mut().zip(&columns).enumerate() {
                *feature = match column.at(row) {
                    None => f64::NAN,
                    Some(value) if value.abs() <= MAGNITUDE_MAX => value,
                    Some(_) => {
                        bad = bad.or(Some(i));
                        f64::NAN
                    }
                };
            }
            if let Some(i) = bad {
                refuse("bad_feature", format!("`{}` is NaN, infinite, or beyond 1e15", self.names[i]));
                continue;
            }
            instrument.last = Some(last);
            let Some(told) = instrument.learner.vector(&self.features, Quote { price, spread }) else { continue };
            for (horizon, told) in model.design.horizons.iter().zip(told) {
                self.told.instruments.push(number);
                self.told.horizons.push(*horizon as i64);
                self.told.at.push(last.at);
                self.told.seqs.push(last.seq);
                for (column, p) in self.told.probabilities.iter_mut().zip(probabilities(told)) {
                    column.push(p);
                }
            }
        }
    }

    /// The stream of predictions as one batch.
    fn emit_told(&mut self, context: &mut Context) {
        let told = std::mem::take(&mut self.told);
        if told.seqs.is_empty() {
            return;
        }
        let mut columns = self.groups.as_ref().map_or(Vec::new(), |g| g.columns(&told.instruments));
        columns.push(Arc::new(Int64Array::from(told.horizons)));
        columns.push(Arc::new(TimestampMicrosecondArray::from(told.at).with_timezone("UTC")));
        columns.extend(told.probabilities.into_iter().map(|p| Arc::new(Float64Array::from(p)) as ArrayRef));
        columns.push(Arc::new(Int64Array::from(told.seqs)));
        let schema = outputs(&self.model)[PREDICTIONS].schema.arrow();
        let batch = RecordBatch::try_new(schema, columns).expect("the planned columns");
        context.emit(PREDICTIONS, Delta::insert(batch));
    }
}

impl Instrument {
    /// After a restart, before the first event.
    fn make_ready(&mut self, names: &[String]) {
        if std::mem::take(&mut self.is_restored) {
            self.learner.restored();
            self.learner.is_changed = false;
            self.stored = self.learner.past.count;
            self.shown = rows(&self.learner, &self.cells, names, self.last);
        }
    }

    /// Writes what changed since it was last written.
    fn store(&mut self, partition: &[u8], context: &mut Context) {
        let mut put = |tag: Tag, value: &dyn Fn(&mut Vec<u8>)| {
            let mut bytes = (partition.len() as u32).to_le_bytes().to_vec();
            value(&mut bytes);
            context.put_state(partition, &tag.key(), Some(&bytes));
        };
        let learner = &self.learner;
        put(Tag::Core, &|out| out.extend(core(learner, self.last)));
        if learner.is_changed {
            put(Tag::Weights, &|out| out.extend(weights(learner)));
        }
        if learner.past.count > self.stored {
            for chunk in learner.past.chunks_since(self.stored) {
                put(Tag::Past(chunk as u16), &|out| learner.past.chunk(chunk, out));
            }
        }
        self.stored = learner.past.count;
        self.learner.is_changed = false;
    }

    /// Gives the rows that went and those that came, by view.
    fn show(&mut self, names: &[String], gone: &mut [Vec<Row>; OUTPUTS], come: &mut [Vec<Row>; OUTPUTS]) {
        let now = rows(&self.learner, &self.cells, names, self.last);
        let before = std::mem::replace(&mut self.shown, now);
        for (view, (before, now)) in before.into_iter().zip(&self.shown).enumerate() {
            gone[view].extend(before.iter().filter(|row| !now.contains(row)).cloned());
            come[view].extend(now.iter().filter(|row| !before.contains(row)).cloned());
        }
    }
}

impl HistoryOperator for Predictor {
    fn restore(&mut self, key: &[u8], value: &[u8]) {
        let (len, value) = value.split_at(4);
        let len = u32::from_le_bytes(len.try_into().expect("four bytes")) as usize;
        let (partition, suffix) = key.split_at(len);
        let number = self.groups.as_mut().map_or(0, |g| g.number_of_key(partition));
        self.grow();
        let instrument = &mut self.instruments[number as usize];
        instrument.is_restored = true;
        match Tag::of(suffix) {
            Tag::Core => instrument.last = restore_core(&mut instrument.learner, value),
            Tag::Weights => {
                let is_whole = restore_weights(&mut instrument.learner, value);
                assert!(is_whole, "the stored parameters are of another network");
            }
            Tag::Past(chunk) => instrument.learner.past.restore(chunk as usize, value),
        }
    }

    fn apply(&mut self, input: usize, events: &RecordBatch, context: &mut Context) {
        let model = self.model.clone();
        match &model.changes {
            Some(changes) if input == 0 => self.apply_changes(changes, events, context),
            _ => self.apply_vectors(events, context),
        }
    }

    fn advance(&mut self, context: &mut Context) {
        self.emit_told(context);
        let (mut gone, mut come): ([Vec<Row>; OUTPUTS], [Vec<Row>; OUTPUTS]) = Default::default();
        let mut key = Vec::new();
        let (mut losses, mut learned) = (0.0, 0);
        for number in std::mem::take(&mut self.touched) {
            let instrument = &mut self.instruments[number as usize];
            if instrument.learner.steps > 0 {
                (losses, learned) = (losses + instrument.learner.losses[0], learned + 1);
            }
            instrument.is_touched = false;
            instrument.show(&self.names, &mut gone, &mut come);
            key.clear();
            if let Some(groups) = &self.groups {
                groups.key(number, &mut key);
            }
            instrument.store(&key, context);
        }
        if learned > 0 {
            context.gauge(LOSS, losses / f64::from(learned));
        }
        for (view, (gone, come)) in gone.iter().zip(&come).enumerate() {
            if !gone.is_empty() {
                context.emit(view, Delta::delete(self.codecs[view].batch(gone)));
            }
            if !come.is_empty() {
                context.emit(view, Delta::insert(self.codecs[view].batch(come)));
            }
        }
    }
}
