//! Feeds a function of history: holds events until the watermark has passed them, and hands them over in the order of
//! (event time, input, key).

use std::collections::BTreeMap;

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::TimestampMicrosecondType;
use types::{ChangeSet, Delta, Epoch, Micros, RowCodec, Schema, WATERMARK_END};

use super::route::Sharder;
use super::step::Made;
use crate::operator::{Context, HistoryOperator};
use crate::plan::Route;

/// A state key is shard ‖ one of these ‖ the rest: the wrapper's own entries (held events) and the operator's.
const HELD: u8 = 0;
const OWN: u8 = 1;

/// One worker's history operator with the events it waits with.
pub(super) struct Ordered {
    operator: Box<dyn HistoryOperator>,
    inputs: Vec<Input>,
    outputs: usize,
    held: BTreeMap<Place, Held>,
}

struct Input {
    codec: RowCodec,
    event_time: usize,
    sharder: Sharder,
}

/// Where an event stands in history: (event time, input, key bytes).
type Place = (Micros, u8, Vec<u8>);

struct Held {
    value: Vec<u8>,
    /// The shard that owns the event's partition, and whether the event is in the store.
    shard: u16,
    stored: bool,
}

impl Ordered {
    pub fn new(operator: Box<dyn HistoryOperator>, inputs: &[(&Schema, &Route)], outputs: usize) -> Ordered {
        let inputs = inputs
            .iter()
            .map(|(schema, route)| Input {
                codec: RowCodec::new(schema),
                event_time: schema.event_time.expect("checked by the plan"),
                sharder: Sharder::new(schema, route),
            })
            .collect();
        Ordered { operator, inputs, outputs, held: BTreeMap::new() }
    }

    /// One entry of the step's stored state, shard and all.
    pub fn restore(&mut self, key: &[u8], value: &[u8]) {
        let (shard, rest) = key.split_at(2);
        match rest.split_first() {
            Some((&HELD, place)) => {
                let time = i64::from_be_bytes(place[..8].try_into().expect("eight bytes")) ^ i64::MIN;
                let shard = u16::from_be_bytes([shard[0], shard[1]]);
                let held = Held { value: value.to_vec(), shard, stored: true };
                self.held.insert((time, place[8], place[9..].to_vec()), held);
            }
            Some((&OWN, own)) => self.operator.restore(own, value),
            _ => {}
        }
    }

    /// Takes an epoch's events and hands on those the watermark has passed. Gives what the operator made, its state
    /// writes with those of the wrapper.
    pub fn step(&mut self, deltas: Vec<Vec<Delta>>, epoch: Epoch, watermark: Micros) -> Made {
        let waiting =
            if watermark == WATERMARK_END { BTreeMap::new() } else { self.held.split_off(&(watermark, 0, Vec::new())) };
        let released = std::mem::replace(&mut self.held, waiting);
        let due: Vec<Due> = (0..self.inputs.len())
            .map(|index| self.due(index, deltas.get(index).map_or(&[], Vec::as_slice), &released, watermark))
            .collect();

        let mut context = Context::new(epoch, watermark, self.outputs);
        let mut next = vec![0; due.len()];
        while let Some(index) = first(&due, &next, None) {
            // A run: what comes before the next event of any other input.
            let end = match first(&due, &next, Some(index)) {
                Some(other) => {
                    let (time, is_before) = (due[other].times[next[other]], index < other);
                    due[index].times.partition_point(|t| *t < time || (*t == time && is_before))
                }
                None => due[index].times.len(),
            };
            while next[index] < end {
                let rows = (end - next[index]).min(ROWS_AT_ONCE);
                self.operator.apply(index, &due[index].rows.slice(next[index], rows), &mut context);
                next[index] += rows;
            }
        }
        self.operator.advance(&mut context);
        let (outputs, own, faults, gauges) = context.into_parts();
        let mut state = ChangeSet::new();
        for change in own.iter() {
            let (shard, rest) = change.key.split_at(2);
            state.push_joined([shard, &[OWN], rest], None, change.after);
        }
        for (place, held) in released.iter().filter(|(_, h)| h.stored) {
            state.push(&held_key(place, held.shard), None, None);
        }
        for (place, held) in self.held.iter_mut().filter(|(_, h)| !h.stored) {
            held.stored = true;
            state.push(&held_key(place, held.shard), None, Some(&held.value));
        }
        (outputs, state, faults, gauges)
    }

    /// What is due of an input: of the events that have just come, and of those that were held and are released. The
    /// others are held. Most streams come in order, so that nothing is held, sorted or turned into bytes.
    fn due(&mut self, index: usize, come: &[Delta], released: &BTreeMap<Place, Held>, watermark: Micros) -> Due {
        debug_assert!(come.iter().all(Delta::is_insert_only), "history is append-only");
        let input = &self.inputs[index];
        let times_of = |rows: &RecordBatch| {
            rows.column(input.event_time).as_primitive::<TimestampMicrosecondType>().values().to_vec()
        };
        let mut batches = Vec::with_capacity(come.len() + 1);
        let held = released.iter().filter(|(place, _)| place.1 as usize == index);
        let mut held = held.map(|(place, held)| (place.2.as_slice(), held.value.as_slice())).peekable();
        if held.peek().is_some() {
            batches.push(Delta::insert(input.codec.decode(held).expect("bytes of our own")));
        }
        for delta in come {
            let times = times_of(&delta.rows);
            let is_due = |t: Micros| t < watermark || watermark == WATERMARK_END;
            if times.iter().all(|t| is_due(*t)) {
                batches.push(delta.clone());
                continue;
            }
            let (due, early): (Vec<u32>, Vec<u32>) = (0..times.len() as u32).partition(|i| is_due(times[*i as usize]));
            batches.push(delta.take(&due));
            let early = delta.take(&early).rows;
            let (times, shards) = (times_of(&early), input.sharder.shards(&early));
            let (keys, values) = (input.codec.keys(&early), input.codec.values(&early));
            for (i, time) in times.into_iter().enumerate() {
                let place = (time, index as u8, keys.row(i).data().to_vec());
                let held = Held { value: values.row(i).data().to_vec(), shard: shards.at(i), stored: false };
                self.held.insert(place, held);
            }
        }
        let Some(all) = Delta::concat(&batches) else {
            return Due { times: Vec::new(), rows: RecordBatch::new_empty(input.codec.schema().arrow()) };
        };
        let times = times_of(&all.rows);
        if times.is_sorted_by(|a, b| a < b) {
            return Due { times, rows: all.rows };
        }
        let keys = input.codec.keys(&all.rows);
        let place = |i: &u32| (times[*i as usize], keys.row(*i as usize));
        let mut order: Vec<u32> = (0..times.len() as u32).collect();
        if order.is_sorted_by_key(place) {
            return Due { times, rows: all.rows };
        }
        order.sort_unstable_by(|a, b| place(a).cmp(&place(b)));
        let rows = all.take(&order).rows;
        Due { times: times_of(&rows), rows }
    }
}

/// The events of an input that the watermark has passed, in order.
struct Due {
    times: Vec<Micros>,
    rows: RecordBatch,
}

/// The operator is given no more rows than these in one call.
const ROWS_AT_ONCE: usize = 8192;

/// The input whose next event comes first, one input left out.
fn first(due: &[Due], next: &[usize], without: Option<usize>) -> Option<usize> {
    let left = (0..due.len()).filter(|i| Some(*i) != without && next[*i] < due[*i].times.len());
    left.min_by_key(|i| (due[*i].times[next[*i]], *i))
}

/// The state key of a held event, in the order of history within its shard.
fn held_key((time, input, key): &Place, shard: u16) -> Vec<u8> {
    let mut out = shard.to_be_bytes().to_vec();
    out.push(HELD);
    out.extend_from_slice(&(time ^ i64::MIN).to_be_bytes());
    out.push(*input);
    out.extend_from_slice(key);
    out
}
