//! The way in: one thread a source, which reads its connector, refuses rows without key or event time, and hands
//! chunks to the sealer.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arrow::array::{Array, AsArray, BooleanArray, RecordBatch};
use arrow::compute::filter_record_batch;
use arrow::datatypes::TimestampMicrosecondType;
use crossbeam_channel::Sender;
use types::{Fault, Micros, Position, WATERMARK_START};

use crate::connector::{Next, SourceEnv, SourceRows};
use crate::plan::PlannedSource;

/// Consecutive records of a source, checked.
#[derive(Debug)]
pub(super) struct Chunk {
    /// The anchor that delivers these records first, and the one after them.
    pub start: serde_json::Value,
    pub end: serde_json::Value,
    pub next_seq: u64,
    /// The good rows, their numbers, and for each the greatest event time of the chunk up to and including it.
    pub rows: RecordBatch,
    pub seqs: Vec<u64>,
    pub event_time_max: Vec<Micros>,
    /// The bad records, ascending.
    pub faults: Vec<Fault>,
}

/// What a source's thread tells the sealer.
#[derive(Debug)]
pub(super) enum FromSource {
    Chunk(Box<Chunk>),
    End,
    Failed(String),
}

/// Reads a source until it ends, fails, or the engine stops.
pub(super) fn run(
    source: &PlannedSource,
    position: &Position,
    env: &SourceEnv,
    stop: &Arc<AtomicBool>,
    out: &Sender<FromSource>,
) {
    let mut connector = match source.connector.open(position, env) {
        Ok(connector) => connector,
        Err(e) => {
            let _ = out.send(FromSource::Failed(format!("source `{}`: {e}", source.name)));
            return;
        }
    };
    while !stop.load(Ordering::Relaxed) {
        let message = match connector.next() {
            Ok(Next::Waiting) => continue,
            Ok(Next::End) => FromSource::End,
            Ok(Next::Rows(rows)) => match check(source, rows, position.seq) {
                Some(chunk) => FromSource::Chunk(Box::new(chunk)),
                None => continue,
            },
            Err(e) => FromSource::Failed(format!("source `{}`: {e}", source.name)),
        };
        let last = !matches!(message, FromSource::Chunk(_));
        if out.send(message).is_err() || last {
            return;
        }
    }
}

/// A chunk of the records from `from_seq` on; `None` if all are before.
fn check(source: &PlannedSource, mut from: SourceRows, from_seq: u64) -> Option<Chunk> {
    let is_place = from.first_seq == from_seq && from.next_seq == from_seq && from.start != from.end;
    if from.next_seq <= from_seq && !is_place {
        return None;
    }
    let mut seqs =
        from.seqs.take().unwrap_or_else(|| (from.first_seq..from.first_seq + from.rows.num_rows() as u64).collect());
    let skip = seqs.partition_point(|s| *s < from_seq);
    if skip > 0 {
        seqs.drain(..skip);
        from.rows = from.rows.slice(skip, from.rows.num_rows() - skip);
    }
    from.faults.retain(|f| f.seq >= from_seq);

    let width = source.delivered.len();
    let column = |name: &str| (0..width).find(|i| source.delivered[*i].name == name);
    let required: Vec<(usize, &str)> = if source.is_keyed() {
        source.schema.key_names().into_iter().filter_map(column).map(|i| (i, "null_key")).collect()
    } else {
        Vec::new()
    };
    let event_time = source.schema.event_time.and_then(|i| column(&source.schema.columns[i].name));
    let required: Vec<(usize, &str)> = required.into_iter().chain(event_time.map(|i| (i, "null_event_time"))).collect();
    if required.iter().any(|(i, _)| from.rows.column(*i).null_count() > 0) {
        refuse_nulls(source, &required, &mut from.rows, &mut seqs, &mut from.faults);
    }
    let event_time_max = event_time.map_or_else(Vec::new, |i| {
        let times = from.rows.column(i).as_primitive::<TimestampMicrosecondType>();
        let mut max = WATERMARK_START;
        times
            .values()
            .iter()
            .map(|t| {
                max = max.max(*t);
                max
            })
            .collect()
    });
    Some(Chunk {
        start: from.start,
        end: from.end,
        next_seq: from.next_seq,
        rows: from.rows,
        seqs,
        event_time_max,
        faults: from.faults,
    })
}

/// Turns rows with a null in a required column into faults.
fn refuse_nulls(
    source: &PlannedSource,
    required: &[(usize, &str)],
    rows: &mut RecordBatch,
    seqs: &mut Vec<u64>,
    faults: &mut Vec<Fault>,
) {
    let mut keep = vec![true; rows.num_rows()];
    for (i, keep) in keep.iter_mut().enumerate() {
        let Some((column, reason)) = required.iter().find(|(c, _)| rows.column(*c).is_null(i)) else { continue };
        *keep = false;
        let name = &source.delivered[*column].name;
        let detail = format!("column `{name}` must not be null");
        faults.push(super::row_fault(source, rows, i, seqs[i], reason, detail));
    }
    let mut kept = keep.iter();
    seqs.retain(|_| *kept.next().expect("one flag a row"));
    *rows = filter_record_batch(rows, &BooleanArray::from(keep)).expect("one flag a row");
    faults.sort_by_key(|f| f.seq);
}
