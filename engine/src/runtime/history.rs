//! Feeds a function of history: holds events until the watermark has passed them, and hands them over in the order of
//! (event time, input, key).

use std::collections::BTreeMap;

use arrow::array::AsArray;
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
        for (index, deltas) in deltas.iter().enumerate() {
            let input = &self.inputs[index];
            for delta in deltas {
                debug_assert!(delta.is_insert_only(), "history is append-only");
                let times = delta.column(input.event_time).as_primitive::<TimestampMicrosecondType>();
                let (keys, values) = (input.codec.keys(&delta.rows), input.codec.values(&delta.rows));
                let shards = input.sharder.shards(&delta.rows);
                for i in 0..delta.len() {
                    let place = (times.value(i), index as u8, keys.row(i).data().to_vec());
                    let held = Held { value: values.row(i).data().to_vec(), shard: shards.at(i), stored: false };
                    self.held.insert(place, held);
                }
            }
        }
        let waiting =
            if watermark == WATERMARK_END { BTreeMap::new() } else { self.held.split_off(&(watermark, 0, Vec::new())) };
        let released = std::mem::replace(&mut self.held, waiting);

        let mut context = Context::new(epoch, watermark, self.outputs);
        let events: Vec<(&Place, &Held)> = released.iter().collect();
        for run in events.chunk_by(|a, b| a.0.1 == b.0.1) {
            let index = run[0].0.1 as usize;
            for piece in run.chunks(8192) {
                let rows = piece.iter().map(|(place, held)| (place.2.as_slice(), held.value.as_slice()));
                let rows = self.inputs[index].codec.decode(rows).expect("bytes of our own");
                self.operator.apply(index, &rows, &mut context);
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
