//! The features as a function of history: ticks in, vectors out, the latest of each instrument in a view.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, Int64Array, RecordBatch, TimestampMicrosecondArray};
use arrow::buffer::NullBuffer;
use arrow::datatypes::SchemaRef;
use engine::operator::{Context, HistoryOperator};
use types::{Delta, SEQ, Type};

use super::clock::Pace;
use super::market::Tick;
use super::options::Features;
use super::rows::{Said, TickRows, Wrong};
use super::save::{Reader, Writer};
use super::set::FeatureSet;
use crate::groups::Groups;
use crate::refusal::Refusal;

/// The output of the latest vectors, and that of all.
const LATEST: usize = 0;
/// As above.
const VECTORS: usize = 1;

/// The features of one worker's instruments.
pub struct Watcher {
    features: Arc<Features>,
    refusal: Refusal,
    seq: usize,
    groups: Groups,
    instruments: Vec<Instrument>,
    /// What the leader is asked, and the number of its group.
    leader: Option<Followed>,
    /// Instruments that had ticks since the last epoch.
    touched: Vec<u32>,
    tick: Tick,
    latest_schema: SchemaRef,
    vectors_schema: SchemaRef,
    restored: BTreeMap<Vec<u8>, Stored>,
}

/// One instrument.
struct Instrument {
    set: FeatureSet,
    pace: Pace,
    /// The row that is shown.
    shown: Option<Vector>,
    /// While it is touched, the row that was shown before.
    before: Option<Option<Vector>>,
}

struct Followed {
    group: u32,
    set: FeatureSet,
    /// Its mid and its features.
    values: Vec<f64>,
}

/// A vector as it is shown.
#[derive(Clone, Debug, PartialEq)]
struct Vector {
    at: i64,
    mid_and_spread: [f64; 2],
    features: Vec<f64>,
}

/// Vectors on their way into a batch.
#[derive(Default)]
struct Told {
    groups: Vec<u32>,
    at: Vec<i64>,
    /// Row after row.
    numbers: Vec<f64>,
    seqs: Vec<i64>,
}

/// What was stored of an instrument.
#[derive(Default)]
struct Stored {
    own: Vec<u8>,
    pieces: BTreeMap<u64, Vec<u8>>,
    leader: Vec<u8>,
    leader_pieces: BTreeMap<u64, Vec<u8>>,
}

/// What an entry is of; the key is the instrument's bytes, one of these, and the number of a piece.
const OWN: u8 = b's';
const OWN_PIECE: u8 = b'p';
const LEADER: u8 = b'l';
const LEADER_PIECE: u8 = b'q';

impl Watcher {
    /// Before the first tick.
    pub fn new(features: Arc<Features>) -> Watcher {
        let types: Vec<Type> = features.instrument.iter().map(|i| features.input.columns[*i].ty).collect();
        let mut groups = Groups::new(&types);
        let leader = features.leader.as_ref().map(|leader| Followed {
            group: groups.number_of_key(&leader.key),
            set: FeatureSet::new(leader.graph.clone()),
            values: Vec::new(),
        });
        let mut watcher = Watcher {
            refusal: Refusal::new(&features.relation, &features.input),
            seq: features.input.index_of(SEQ).expect("a stream has one"),
            groups,
            instruments: Vec::new(),
            leader,
            touched: Vec::new(),
            tick: Tick { at: 0, bids: Vec::new(), asks: Vec::new(), trade: None, added: [0.0; 2], removed: [0.0; 2] },
            latest_schema: features.latest.arrow(),
            vectors_schema: features.vectors.arrow(),
            restored: BTreeMap::new(),
            features,
        };
        watcher.grow();
        watcher
    }

    fn grow(&mut self) {
        let graph = &self.features.graph;
        self.instruments.resize_with(self.groups.len(), || Instrument {
            set: FeatureSet::new(graph.clone()),
            pace: Pace::default(),
            shown: None,
            before: None,
        });
    }

    fn put_back(&mut self) {
        for (key, stored) in std::mem::take(&mut self.restored) {
            let group = self.groups.number_of_key(&key);
            self.grow();
            let pieces = |pieces: &BTreeMap<u64, Vec<u8>>| -> Vec<(u64, Vec<u8>)> {
                pieces.iter().map(|(number, piece)| (*number, piece.clone())).collect()
            };
            let mut bytes = Reader(&stored.own);
            let instrument = &mut self.instruments[group as usize];
            instrument.shown = Vector::restore(&mut bytes, self.features.features.len());
            instrument.pace = Pace::restore(&mut bytes);
            let graph = self.features.graph.clone();
            instrument.set = FeatureSet::restore(graph, &mut bytes, &pieces(&stored.pieces));
            if let (Some(leader), Some(asked)) = (&mut self.leader, &self.features.leader)
                && !stored.leader.is_empty()
            {
                let mut bytes = Reader(&stored.leader);
                let pieces = pieces(&stored.leader_pieces);
                leader.set = FeatureSet::restore(asked.graph.clone(), &mut bytes, &pieces);
                leader.values = (0..=asked.graph.outputs.len()).map(|_| bytes.float()).collect();
            }
        }
    }

    /// Takes a tick of an instrument. Tells its vector, if one is due.
    fn take(&mut self, group: u32, seq: i64, told: &mut Told) -> Result<(), Wrong> {
        let instrument = &mut self.instruments[group as usize];
        let tick = &self.tick;
        if let Some(last) = instrument.set.last_at().filter(|last| *last > tick.at) {
            return Err(("time_backwards", format!("the tick before was {} microseconds later", last - tick.at)));
        }
        let mut leading: &[f64] = &[];
        if let Some(leader) = &mut self.leader {
            if leader.group == group {
                leader.set.update(tick, &[]);
                leader.values.clear();
                leader.values.push(leader.set.mid_and_spread()[0]);
                leader.values.extend_from_slice(leader.set.features());
            }
            leading = &leader.values;
        }
        instrument.set.update(tick, leading);
        if instrument.pace.take(self.features.clock, tick) {
            let mid_and_spread = instrument.set.mid_and_spread();
            told.groups.push(group);
            told.at.push(tick.at);
            told.numbers.extend_from_slice(&mid_and_spread);
            told.numbers.extend_from_slice(instrument.set.features());
            told.seqs.push(seq);
            match &mut instrument.shown {
                Some(shown) => {
                    (shown.at, shown.mid_and_spread) = (tick.at, mid_and_spread);
                    shown.features.copy_from_slice(instrument.set.features());
                }
                None => {
                    let features = instrument.set.features().to_vec();
                    instrument.shown = Some(Vector { at: tick.at, mid_and_spread, features });
                }
            }
        }
        Ok(())
    }

    /// Ends an instrument's history: nothing is known of it until there are ticks again.
    fn break_off(&mut self, group: u32) {
        let instrument = &mut self.instruments[group as usize];
        instrument.set.break_off();
        instrument.pace = Pace::default();
        instrument.shown = None;
        if let Some(leader) = self.leader.as_mut().filter(|leader| leader.group == group) {
            leader.set.break_off();
            leader.values.clear();
        }
    }

    fn batch(&self, schema: &SchemaRef, told: &Told) -> RecordBatch {
        if told.groups.is_empty() {
            return RecordBatch::new_empty(schema.clone());
        }
        let mut columns = self.groups.columns(&told.groups);
        columns.push(Arc::new(TimestampMicrosecondArray::from(told.at.clone()).with_timezone("UTC")));
        let wide = self.features.features.len() + 2;
        for column in 0..wide {
            let mut numbers: Vec<f64> = told.numbers[column..].iter().step_by(wide).copied().collect();
            let has_nulls = numbers.iter().any(|v| v.is_nan());
            let valid = has_nulls.then(|| numbers.iter().map(|v| !v.is_nan()).collect::<NullBuffer>());
            // What a null hides is the same everywhere.
            numbers.iter_mut().filter(|v| v.is_nan()).for_each(|v| *v = 0.0);
            columns.push(Arc::new(Float64Array::new(numbers.into(), valid)) as ArrayRef);
        }
        if !told.seqs.is_empty() {
            columns.push(Arc::new(Int64Array::from(told.seqs.clone())));
        }
        RecordBatch::try_new(schema.clone(), columns).expect("the planned columns")
    }

    /// The change of what is shown of the touched instruments.
    fn show(&mut self, context: &mut Context) {
        let (mut gone, mut come) = (Told::default(), Told::default());
        for group in &self.touched {
            let instrument = &mut self.instruments[*group as usize];
            let before = instrument.before.take().expect("it is touched");
            if before == instrument.shown {
                continue;
            }
            for (told, vector) in [(&mut gone, &before), (&mut come, &instrument.shown)] {
                if let Some(vector) = vector {
                    told.groups.push(*group);
                    told.at.push(vector.at);
                    told.numbers.extend_from_slice(&vector.mid_and_spread);
                    told.numbers.extend_from_slice(&vector.features);
                }
            }
        }
        context.emit(LATEST, Delta::delete(self.batch(&self.latest_schema, &gone)));
        context.emit(LATEST, Delta::insert(self.batch(&self.latest_schema, &come)));
    }

    /// Stores the touched instruments.
    fn store(&mut self, context: &mut Context) {
        for group in std::mem::take(&mut self.touched) {
            let mut key = Vec::new();
            self.groups.key(group, &mut key);
            let instrument = &mut self.instruments[group as usize];
            let mut out = Writer::default();
            out.int(key.len() as i64);
            Vector::save(instrument.shown.as_ref(), &mut out);
            instrument.pace.save(&mut out);
            instrument.set.save(&mut out);
            let is_one = self.leader.is_some();
            put(context, is_one, &key, OWN, &[], Some(&out.0));
            put_pieces(context, is_one, &key, OWN_PIECE, &mut instrument.set);
            if let Some(leader) = self.leader.as_mut().filter(|leader| leader.group == group) {
                let mut out = Writer::default();
                out.int(key.len() as i64);
                leader.set.save(&mut out);
                let wide = leader.set.features().len() + 1;
                (0..wide).for_each(|i| out.float(leader.values.get(i).copied().unwrap_or(f64::NAN)));
                put(context, true, &key, LEADER, &[], Some(&out.0));
                put_pieces(context, true, &key, LEADER_PIECE, &mut leader.set);
            }
        }
    }
}

/// Writes an entry of an instrument's state. With a leader all stands in one place, without it by instrument.
fn put(context: &mut Context, is_one: bool, key: &[u8], tag: u8, number: &[u8], value: Option<&[u8]>) {
    let own = [&[tag], number].concat();
    if is_one {
        context.put_state(&[], &[key, &own].concat(), value);
    } else {
        context.put_state(key, &own, value);
    }
}

fn put_pieces(context: &mut Context, is_one: bool, key: &[u8], tag: u8, set: &mut FeatureSet) {
    for (number, piece) in set.pieces() {
        let value = piece.map(|piece| {
            let mut out = Writer::default();
            out.int(key.len() as i64);
            out.0.extend_from_slice(&piece);
            out.0
        });
        put(context, is_one, key, tag, &number.to_be_bytes(), value.as_deref());
    }
}

impl Vector {
    fn save(vector: Option<&Vector>, out: &mut Writer) {
        out.int(vector.is_some().into());
        if let Some(vector) = vector {
            out.int(vector.at);
            out.floats(&vector.mid_and_spread);
            out.floats(&vector.features);
        }
    }

    fn restore(bytes: &mut Reader<'_>, features: usize) -> Option<Vector> {
        if bytes.int() == 0 {
            return None;
        }
        let at = bytes.int();
        let mid_and_spread = [bytes.float(), bytes.float()];
        Some(Vector { at, mid_and_spread, features: (0..features).map(|_| bytes.float()).collect() })
    }
}

impl HistoryOperator for Watcher {
    fn restore(&mut self, key: &[u8], value: &[u8]) {
        let mut bytes = Reader(value);
        let (instrument, entry) = key.split_at(bytes.int() as usize);
        let stored = self.restored.entry(instrument.to_vec()).or_default();
        let value = bytes.0.to_vec();
        let number = || u64::from_be_bytes(entry[1..].try_into().expect("the number of a piece"));
        match entry[0] {
            OWN => stored.own = value,
            LEADER => stored.leader = value,
            OWN_PIECE => _ = stored.pieces.insert(number(), value),
            _ => _ = stored.leader_pieces.insert(number(), value),
        }
    }

    fn apply(&mut self, _input: usize, events: &RecordBatch, context: &mut Context) {
        self.put_back();
        let by: Vec<ArrayRef> = self.features.instrument.iter().map(|i| events.column(*i).clone()).collect();
        let mut groups = Vec::with_capacity(events.num_rows());
        self.groups.number(&by, &mut groups);
        self.grow();
        let rows = TickRows::new(&self.features.columns, events);
        let seqs =
            events.column(self.seq).as_any().downcast_ref::<Int64Array>().expect("the numbers of records").clone();
        let mut told = Told::default();
        for (row, group) in groups.into_iter().enumerate() {
            let instrument = &mut self.instruments[group as usize];
            if instrument.before.is_none() {
                instrument.before = Some(instrument.shown.clone());
                self.touched.push(group);
            }
            let taken = match rows.read(row, &mut self.tick) {
                Ok(Said::Tick) => self.take(group, seqs.value(row), &mut told),
                Ok(Said::Unhealthy) => {
                    self.break_off(group);
                    Ok(())
                }
                Err(wrong) => Err(wrong),
            };
            if let Err((reason, detail)) = taken {
                self.refusal.refuse(context, events, row, 1, reason, detail);
                self.break_off(group);
            }
        }
        context.emit(VECTORS, Delta::insert(self.batch(&self.vectors_schema, &told)));
    }

    fn advance(&mut self, context: &mut Context) {
        self.put_back();
        self.show(context);
        self.store(context);
    }
}
