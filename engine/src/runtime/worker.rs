//! One timely worker: feeds epochs into its dataflow, and hands each epoch to the committer once it is complete.

use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use arrow::array::RecordBatch;
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TryRecvError};
use timely::worker::Worker;
use types::{ChangeSet, Delta, Epoch, Micros, RowCodec};

use super::Start;
use super::committer::ToCommitter;
use super::dataflow::{self, Dataflow, DeltaInput};
use super::outbox::Outbox;
use super::relations::Relations;

/// A worker's share of an epoch's input.
#[derive(Debug)]
pub(super) struct EpochInput {
    pub epoch: Epoch,
    /// (source, delivered rows with their numbers).
    pub pieces: Vec<(usize, RecordBatch)>,
    /// The watermark of each step.
    pub watermarks: Arc<Vec<Micros>>,
}

/// Runs a worker until its input ends.
pub(super) fn run(
    worker: &mut Worker,
    start: &Start,
    relations: &Relations,
    input: &Receiver<EpochInput>,
    out: &Sender<ToCommitter>,
) -> Result<(), String> {
    let outbox = Outbox::default();
    let restored_at = start.epoch();
    let Dataflow { mut sources, restores, probe } =
        worker.dataflow(|scope| dataflow::build(scope, start, relations, &outbox))?;
    let mut next = restored_at + 1;
    let mut fed = restored_at;
    let emit = |epoch: Epoch| {
        let part = outbox.take(epoch);
        out.send(ToCommitter::Part { epoch, part: Box::new(part) }).map_err(|_| "the committer has ended".to_owned())
    };

    sources.iter_mut().for_each(|i| i.advance_to(restored_at));
    if restored_at > 0 {
        restore(worker, start, relations, restores)?;
        sources.iter_mut().for_each(|i| i.advance_to(next));
        while probe.less_equal(&restored_at) {
            worker.step_or_park(Some(Duration::from_millis(10)));
        }
        emit(restored_at)?;
    } else {
        drop(restores);
        sources.iter_mut().for_each(|i| i.advance_to(next));
    }

    loop {
        let received = if next > fed {
            // Nothing is in flight: sleep until there is input, but look after background work now and then.
            match input.recv_timeout(Duration::from_millis(100)) {
                Ok(epoch) => Some(epoch),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => break,
            }
        } else {
            match input.try_recv() {
                Ok(epoch) => Some(epoch),
                Err(TryRecvError::Empty) => None,
                Err(TryRecvError::Disconnected) => None,
            }
        };
        let got = received.is_some();
        if let Some(EpochInput { epoch, pieces, watermarks }) = received {
            outbox.set_watermarks(epoch, watermarks);
            for (source, rows) in pieces {
                sources[source].send(Delta::insert(rows));
            }
            sources.iter_mut().for_each(|i| i.advance_to(epoch + 1));
            fed = epoch;
        }
        if got || next > fed {
            worker.step();
        } else {
            worker.step_or_park(Some(Duration::from_micros(200)));
        }
        while next <= fed && !probe.less_equal(&next) {
            (start.hook)("compute");
            emit(next)?;
            next += 1;
        }
    }
    Ok(())
}

/// Feeds the stored relations into the dataflow as of the committed epoch: every worker a share of each.
fn restore(
    worker: &mut Worker,
    start: &Start,
    relations: &Relations,
    restores: Vec<(usize, DeltaInput)>,
) -> Result<(), String> {
    const CHUNK_ROWS: usize = 8192;
    let epoch = start.epoch();
    let (index, peers) = (worker.index(), worker.peers());
    let snapshot = start.store.snapshot(Some(epoch)).map_err(|e| e.to_string())?;
    for (relation, mut input) in restores {
        let relation = &relations.readable[relation];
        let failed = |e: String| format!("reading `{}` as of epoch {epoch}: {e}", relation.name);
        let codec = RowCodec::new(&relation.schema);
        input.advance_to(epoch);
        let mut rows = ChangeSet::new();
        let send = |rows: &mut ChangeSet, input: &mut DeltaInput| {
            let rows = std::mem::take(rows);
            if !rows.is_empty() {
                let pairs = rows.iter().map(|c| (c.key, c.after.unwrap_or_default()));
                input.send(Delta::insert(codec.decode(pairs).map_err(|e| e.to_string())?));
                start.restored_rows.fetch_add(rows.len() as u64, Ordering::Relaxed);
            }
            Ok(())
        };
        let mut scan = snapshot.scan(relation.id, Bound::Unbounded, Bound::Unbounded);
        let mut n = 0;
        while let Some(row) = scan.next_row() {
            let row = row.map_err(|e| failed(e.to_string()))?;
            if n / CHUNK_ROWS % peers == index {
                rows.push(row.key, None, Some(row.value));
            }
            n += 1;
            if rows.len() == CHUNK_ROWS {
                send(&mut rows, &mut input).map_err(failed)?;
                worker.step();
            }
        }
        send(&mut rows, &mut input).map_err(failed)?;
    }
    Ok(())
}
