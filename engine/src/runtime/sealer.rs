//! Cuts epochs: decides which records belong to epoch e, judges lateness, logs `remap[e]`, and hands e to the workers.
//!
//! Everything the clock decides (where an epoch ends, which source is idle) is in `remap[e]`; after a crash the
//! epochs that were logged and not committed are cut again exactly as they were.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use arrow::array::{ArrayRef, AsArray, BooleanArray, Int64Array, RecordBatch};
use arrow::compute::filter_record_batch;
use arrow::datatypes::{DataType, Field, TimestampMicrosecondType};
use crossbeam_channel::{Receiver, RecvTimeoutError, Select, Sender};
use types::{Epoch, Fault, Micros, Remap, SEQ, SourceProgress, WATERMARK_END, WATERMARK_START};

use super::committer::ToCommitter;
use super::ingest::{Chunk, FromSource};
use super::worker::EpochInput;
use crate::clock::Clock;
use crate::metrics::Metrics;
use crate::plan::{Plan, PlannedSource};

/// Where pushes wait until their records' epoch is known.
#[derive(Debug, Default)]
pub(super) struct SealLog {
    state: Mutex<SealLogState>,
    sealed: Condvar,
}

#[derive(Debug, Default)]
struct SealLogState {
    /// For each source the last seals: (number of the record after the last sealed one, epoch), ascending.
    seals: BTreeMap<String, VecDeque<(u64, Epoch)>>,
    closed: Option<String>,
}

impl SealLog {
    const KEPT: usize = 4096;

    fn record(&self, source: &str, next_seq: u64, epoch: Epoch) {
        let mut state = self.state.lock().expect("no holder panics");
        let seals = state.seals.entry(source.to_owned()).or_default();
        if seals.back().is_none_or(|(seq, _)| *seq < next_seq) {
            seals.push_back((next_seq, epoch));
            if seals.len() > Self::KEPT {
                seals.pop_front();
            }
        }
        drop(state);
        self.sealed.notify_all();
    }

    pub(super) fn close(&self, reason: &str) {
        self.state.lock().expect("no holder panics").closed.get_or_insert_with(|| reason.to_owned());
        self.sealed.notify_all();
    }

    /// The epoch that holds the record before `next_seq`. Blocks until it is sealed; the error says why it never will be.
    pub(super) fn wait(&self, source: &str, next_seq: u64) -> Result<Epoch, String> {
        let mut state = self.state.lock().expect("no holder panics");
        loop {
            if let Some(seals) = state.seals.get(source) {
                let at = seals.partition_point(|(seq, _)| *seq < next_seq);
                if let Some((_, epoch)) = seals.get(at) {
                    return Ok(*epoch);
                }
            }
            if let Some(reason) = &state.closed {
                return Err(reason.clone());
            }
            state = self.sealed.wait(state).expect("no holder panics");
        }
    }

    pub(super) fn closed(&self) -> Option<String> {
        self.state.lock().expect("no holder panics").closed.clone()
    }
}

/// The sealer and what it works with.
pub(super) struct Sealer {
    pub plan: Arc<Plan>,
    pub spans: super::Spans,
    pub store: storage::Store,
    pub clock: Clock,
    pub metrics: Metrics,
    pub hook: super::Hook,
    pub stop: Arc<AtomicBool>,
    pub log: Arc<SealLog>,
    pub progress: Arc<Mutex<Remap>>,
    pub workers: Vec<Sender<EpochInput>>,
    pub committer: Sender<ToCommitter>,
    /// The last epoch that is published, as the committer announces it.
    pub published: Receiver<Epoch>,
}

/// One source as the sealer sees it.
struct Input<'a> {
    plan: &'a PlannedSource,
    receiver: Receiver<FromSource>,
    /// Received and not yet sealed whole.
    chunk: Option<Pending>,
    progress: SourceProgress,
    ended: bool,
    /// Clock time of the last record, for idleness.
    heard: Duration,
}

struct Pending {
    chunk: Chunk,
    /// How many good rows and how many faults of it are sealed.
    row: usize,
    fault: usize,
}

impl Pending {
    /// The number of the next unsealed record.
    fn next_seq(&self) -> u64 {
        let row = self.chunk.seqs.get(self.row).copied().unwrap_or(u64::MAX);
        let fault = self.chunk.faults.get(self.fault).map_or(u64::MAX, |f| f.seq);
        row.min(fault).min(self.chunk.next_seq)
    }

    fn is_done(&self) -> bool {
        self.row == self.chunk.seqs.len() && self.fault == self.chunk.faults.len()
    }

    fn records(&self) -> usize {
        self.chunk.seqs.len() - self.row + self.chunk.faults.len() - self.fault
    }
}

/// What an epoch is made of, while it is being cut.
#[derive(Default)]
struct Cut {
    pieces: Vec<(usize, RecordBatch)>,
    faults: Vec<Fault>,
    records: usize,
    /// A source says anew where it stands, without records.
    moved: bool,
}

impl Sealer {
    /// Cuts epochs until every source has ended or the engine stops. `script` are the epochs to be cut as logged.
    pub(super) fn run(
        &self,
        receivers: Vec<Receiver<FromSource>>,
        start: Remap,
        script: Vec<Remap>,
    ) -> Result<(), String> {
        let mut inputs: Vec<Input<'_>> = self
            .plan
            .sources
            .iter()
            .zip(receivers)
            .map(|(plan, receiver)| {
                let progress = start.sources.get(&plan.name).cloned().unwrap_or_default();
                Input { plan, receiver, chunk: None, progress, ended: false, heard: self.clock.elapsed() }
            })
            .collect();
        let mut sealed = start.epoch;
        let mut published = start.epoch;
        for remap in script {
            self.permit(sealed, &mut published)?;
            if self.stop.load(Ordering::Relaxed) {
                return Ok(());
            }
            sealed = remap.epoch;
            let Some(cut) = self.cut_as_logged(&mut inputs, &remap)? else { return Ok(()) };
            self.seal(remap, cut)?;
        }
        while !self.stop.load(Ordering::Relaxed) {
            self.permit(sealed, &mut published)?;
            let Some(cut) = self.cut(&mut inputs)? else { break };
            let remap = self.decide(&mut inputs, sealed + 1);
            let quiet = cut.records == 0 && {
                let last = self.progress.lock().expect("no holder panics");
                last.sources == remap.sources
            };
            if !quiet {
                sealed += 1;
                self.seal(remap, cut)?;
            }
            if inputs.iter().all(|i| i.ended) {
                break;
            }
        }
        Ok(())
    }

    /// Waits until fewer than the allowed number of epochs are in flight.
    fn permit(&self, sealed: Epoch, published: &mut Epoch) -> Result<(), String> {
        let allowed = self.plan.settings.epochs_in_flight_max as u64;
        while let Ok(epoch) = self.published.try_recv() {
            *published = epoch;
        }
        while sealed - *published >= allowed && !self.stop.load(Ordering::Relaxed) {
            match self.published.recv_timeout(Duration::from_millis(50)) {
                Ok(epoch) => *published = epoch,
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Err("the committer has ended".to_owned()),
            }
        }
        Ok(())
    }

    /// Gathers records until the epoch is full or its time is up. `None`: nothing is left and nothing will come.
    fn cut(&self, inputs: &mut [Input<'_>]) -> Result<Option<Cut>, String> {
        let settings = &self.plan.settings;
        let interval = Duration::from_millis(settings.epoch_interval_ms);
        let mut cut = Cut::default();
        let mut deadline: Option<Duration> = None;
        loop {
            if self.stop.load(Ordering::Relaxed) {
                return Ok(None);
            }
            // A journal that cannot be written, say: nothing more would come, and nobody would hear why.
            if let Some(error) = self.store.poisoned() {
                return Err(error.to_string());
            }
            // Every source gets its share first, so that a fast one cannot keep the others out.
            let live = inputs.iter().filter(|i| !i.ended || i.chunk.is_some()).count().max(1);
            let share = (settings.epoch_rows_max / live).max(1);
            for round in 0..2 {
                for (index, input) in inputs.iter_mut().enumerate() {
                    let room = settings.epoch_rows_max - cut.records;
                    let room = if round == 0 { room.min(share) } else { room };
                    self.take(index, input, room, u64::MAX, &mut cut)?;
                }
            }
            if cut.records >= settings.epoch_rows_max || (cut.moved && cut.records == 0) {
                return Ok(Some(cut));
            }
            if inputs.iter().all(|i| i.ended && i.chunk.is_none()) {
                return Ok(Some(cut));
            }
            let now = self.clock.elapsed();
            if cut.records > 0 && deadline.is_none() {
                deadline = Some(now + interval);
            }
            let wait = match deadline {
                Some(deadline) if now >= deadline => return Ok(Some(cut)),
                Some(deadline) => deadline - now,
                None if self.idleness_changes(inputs) => return Ok(Some(cut)),
                None => Duration::from_millis(20),
            };
            self.wait(inputs, wait)?;
            // A source that just ended changes the watermark even without rows.
            if cut.records == 0 && inputs.iter().any(|i| i.ended && !i.progress.ended && i.chunk.is_none()) {
                return Ok(Some(cut));
            }
        }
    }

    /// Waits for a message of any source, at most that long.
    fn wait(&self, inputs: &mut [Input<'_>], at_most: Duration) -> Result<(), String> {
        let open: Vec<usize> =
            inputs.iter().enumerate().filter(|(_, i)| !i.ended && i.chunk.is_none()).map(|(n, _)| n).collect();
        if open.is_empty() {
            std::thread::sleep(at_most.min(Duration::from_millis(20)));
            return Ok(());
        }
        let mut select = Select::new();
        for index in &open {
            select.recv(&inputs[*index].receiver);
        }
        let Ok(operation) = select.select_timeout(at_most) else { return Ok(()) };
        let index = open[operation.index()];
        let message = operation.recv(&inputs[index].receiver);
        drop(select);
        self.receive(&mut inputs[index], message.ok())
    }

    fn receive(&self, input: &mut Input<'_>, message: Option<FromSource>) -> Result<(), String> {
        match message {
            Some(FromSource::Chunk(chunk)) => {
                input.heard = self.clock.elapsed();
                input.chunk = Some(Pending { chunk: *chunk, row: 0, fault: 0 });
                Ok(())
            }
            Some(FromSource::End) => {
                input.ended = true;
                Ok(())
            }
            Some(FromSource::Failed(reason)) => Err(reason),
            // Readers leave when the engine stops; that is no end of their source.
            None if self.stop.load(Ordering::Relaxed) => Ok(()),
            None => Err(format!("the reader of source `{}` has gone", input.plan.name)),
        }
    }

    /// Takes up to `room` records below `below` from what a source has ready.
    fn take(&self, index: usize, input: &mut Input<'_>, room: usize, below: u64, cut: &mut Cut) -> Result<(), String> {
        let mut room = room;
        while room > 0 {
            if input.chunk.is_none() {
                match input.receiver.try_recv() {
                    Ok(message) => self.receive(input, Some(message))?,
                    Err(_) => return Ok(()),
                }
            }
            let Some(pending) = &mut input.chunk else { return Ok(()) };
            let (mut row, mut fault) = (pending.row, pending.fault);
            let seqs = &pending.chunk.seqs;
            let faults = &pending.chunk.faults;
            if pending.records() <= room && pending.chunk.next_seq <= below {
                (row, fault) = (seqs.len(), faults.len());
            } else {
                // Records in the order of their numbers, until the room or the bound is reached.
                for _ in 0..room {
                    let r = seqs.get(row).copied().unwrap_or(u64::MAX);
                    let f = faults.get(fault).map_or(u64::MAX, |f| f.seq);
                    if r.min(f) >= below {
                        break;
                    }
                    if r < f { row += 1 } else { fault += 1 }
                }
            }
            let taken = row - pending.row + fault - pending.fault;
            if taken == 0 && !pending.is_done() {
                return Ok(());
            }
            self.accept(index, input, row, fault, cut);
            cut.moved |= taken == 0;
            room -= taken.min(room);
            cut.records += taken;
        }
        Ok(())
    }

    /// Moves the next rows and faults of a source's chunk into the epoch, up to positions `row` and `fault`.
    fn accept(&self, index: usize, input: &mut Input<'_>, row: usize, fault: usize, cut: &mut Cut) {
        let pending = input.chunk.as_mut().expect("the caller has seen it");
        let range = pending.row..row;
        cut.faults.extend_from_slice(&pending.chunk.faults[pending.fault..fault]);
        if !range.is_empty() {
            let mut rows = pending.chunk.rows.slice(range.start, range.len());
            let mut seqs = pending.chunk.seqs[range.clone()].to_vec();
            if let Some(max) = pending.chunk.event_time_max.get(range.clone()) {
                let progress = &mut input.progress;
                refuse_late(input.plan, progress, max, &mut rows, &mut seqs, &mut cut.faults);
                progress.event_time_max = progress.event_time_max.max(*max.last().expect("the range is not empty"));
            }
            if rows.num_rows() > 0 {
                cut.pieces.push((index, with_seq(&rows, seqs)));
            }
        }
        pending.row = row;
        pending.fault = fault;
        input.progress.position.seq = pending.next_seq();
        if pending.is_done() {
            input.progress.position.anchor = pending.chunk.end.clone();
            input.progress.position.seq = pending.chunk.next_seq;
            input.chunk = None;
        } else {
            input.progress.position.anchor = pending.chunk.start.clone();
        }
    }

    /// Whether a source has become silent, or is no longer, since the last epoch.
    fn idleness_changes(&self, inputs: &[Input<'_>]) -> bool {
        inputs.iter().any(|i| self.is_idle(i) != i.progress.idle && !i.progress.ended)
    }

    fn is_idle(&self, input: &Input<'_>) -> bool {
        let silent = self.clock.elapsed().saturating_sub(input.heard);
        !input.ended
            && input.chunk.is_none()
            && input.plan.idle_after_ms.is_some_and(|after| silent >= Duration::from_millis(after))
    }

    /// The epoch's record, with every watermark and every decision of the clock.
    fn decide(&self, inputs: &mut [Input<'_>], epoch: Epoch) -> Remap {
        let idle: Vec<bool> = inputs.iter().map(|i| self.is_idle(i)).collect();
        for (input, idle) in inputs.iter_mut().zip(idle) {
            let bound = input.plan.out_of_orderness;
            let progress = &mut input.progress;
            progress.idle = idle;
            progress.ended = input.ended && input.chunk.is_none();
            progress.watermark = if progress.ended {
                WATERMARK_END
            } else {
                progress.event_time_max.saturating_sub(bound).max(progress.floor).max(progress.watermark)
            };
        }
        // While a source is idle the others go on without it; what it brings later must not be older than that.
        let timed = |i: &&Input<'_>| i.plan.schema.event_time.is_some();
        let active = inputs.iter().filter(timed).filter(|i| !i.progress.idle).map(|i| i.progress.watermark).min();
        if let Some(least) = active.filter(|w| *w != WATERMARK_END) {
            for input in inputs.iter_mut().filter(|i| i.progress.idle) {
                input.progress.floor = input.progress.floor.max(least);
            }
        }
        let sources = inputs.iter().map(|i| (i.plan.name.clone(), i.progress.clone())).collect();
        Remap { epoch, clock_ms: self.clock.wall_ms(), sources }
    }

    /// Gathers exactly the records a logged epoch names. `None`: the engine stops first.
    fn cut_as_logged(&self, inputs: &mut [Input<'_>], remap: &Remap) -> Result<Option<Cut>, String> {
        let mut cut = Cut::default();
        for (index, input) in inputs.iter_mut().enumerate() {
            let name = input.plan.name.clone();
            let Some(logged) = remap.sources.get(&name) else { continue };
            while input.progress.position.seq < logged.position.seq {
                if self.stop.load(Ordering::Relaxed) {
                    return Ok(None);
                }
                let before = input.progress.position.seq;
                self.take(index, input, usize::MAX, logged.position.seq, &mut cut)?;
                if input.progress.position.seq == before {
                    if input.ended {
                        return Err(format!(
                            "source `{name}` ends at record {before}, but epoch {} was sealed with records up to {}: \
                             its input is no longer what it was",
                            remap.epoch, logged.position.seq
                        ));
                    }
                    if let Ok(message) = input.receiver.recv_timeout(Duration::from_millis(50)) {
                        self.receive(input, Some(message))?;
                    }
                }
            }
            let anchor = input.progress.position.anchor.clone();
            input.progress = logged.clone();
            input.progress.position.anchor = anchor;
        }
        Ok(Some(cut))
    }

    /// Logs the epoch and hands it on.
    fn seal(&self, remap: Remap, cut: Cut) -> Result<(), String> {
        (self.hook)("seal");
        let epoch = remap.epoch;
        self.store.log_remap(&remap).map_err(|e| format!("logging epoch {epoch}: {e}"))?;
        let watermarks = Arc::new(self.spans.watermarks(&remap));
        let sealed_at = self.clock.elapsed();
        for (name, progress) in &remap.sources {
            if progress.watermark != WATERMARK_END && progress.watermark != WATERMARK_START {
                self.metrics.source_watermark.with_label_values(&[name]).set(progress.watermark as f64 / 1e6);
            }
        }
        for (index, rows) in &cut.pieces {
            let name = self.plan.sources[*index].name.as_str();
            self.metrics.received.with_label_values(&[name]).inc_by(rows.num_rows() as u64);
        }
        for fault in &cut.faults {
            self.metrics.received.with_label_values(&[&fault.source]).inc();
            self.metrics.discarded.with_label_values(&[&fault.source]).inc();
            if fault.reason == "late" {
                self.metrics.late.with_label_values(&[&fault.source]).inc();
            }
        }
        self.metrics.sealed.set(epoch as i64);
        self.metrics.epoch_rows.observe(cut.records as f64);
        let gone = |_| "a worker has gone".to_owned();
        let message = ToCommitter::Sealed { remap: remap.clone(), faults: cut.faults, sealed_at };
        self.committer.send(message).map_err(|_| "the committer has ended".to_owned())?;
        for (worker, pieces) in self.deal(epoch, cut.pieces).into_iter().enumerate() {
            let input = EpochInput { epoch, pieces, watermarks: watermarks.clone() };
            self.workers[worker].send(input).map_err(gone)?;
        }
        for (name, progress) in &remap.sources {
            self.log.record(name, progress.position.seq, epoch);
        }
        *self.progress.lock().expect("no holder panics") = remap;
        Ok(())
    }

    /// Deals an epoch's rows to the workers: large pieces in equal slices, small ones in turn. What a worker is
    /// dealt has no influence on results; routing is by key.
    fn deal(&self, epoch: Epoch, pieces: Vec<(usize, RecordBatch)>) -> Vec<Vec<(usize, RecordBatch)>> {
        const SLICE_ROWS_MIN: usize = 256;
        let width = self.workers.len();
        let mut dealt = vec![Vec::new(); width];
        for (n, (source, rows)) in pieces.into_iter().enumerate() {
            let slice = rows.num_rows().div_ceil(width).max(SLICE_ROWS_MIN);
            let mut worker = (epoch as usize + n) % width;
            let mut from = 0;
            while from < rows.num_rows() {
                let len = slice.min(rows.num_rows() - from);
                dealt[worker].push((source, rows.slice(from, len)));
                worker = (worker + 1) % width;
                from += len;
            }
        }
        dealt
    }
}

/// Turns rows that come after their watermark into faults. Whether a row is late depends only on the rows of its
/// source before it, and on the source's logged floor.
fn refuse_late(
    source: &PlannedSource,
    progress: &SourceProgress,
    event_time_max: &[Micros],
    rows: &mut RecordBatch,
    seqs: &mut Vec<u64>,
    faults: &mut Vec<Fault>,
) {
    let column = source.schema.event_time.expect("the source has event times");
    let name = &source.schema.columns[column].name;
    let index = source.delivered.iter().position(|c| c.name == *name).expect("the event time is delivered");
    let times = rows.column(index).as_primitive::<TimestampMicrosecondType>().values();
    let mut keep = Vec::with_capacity(times.len());
    let mut any = false;
    for (i, time) in times.iter().enumerate() {
        let seen = progress.event_time_max.max(event_time_max[i]);
        let mark = seen.saturating_sub(source.out_of_orderness).max(progress.floor);
        keep.push(*time >= mark);
        any |= *time < mark;
    }
    if !any {
        return;
    }
    for (i, keep) in keep.iter().enumerate() {
        if *keep {
            continue;
        }
        let detail = format!(
            "`{name}` is {}, but the source had already reached {}",
            types::json::rfc3339(times[i]),
            types::json::rfc3339(progress.event_time_max.max(event_time_max[i]))
        );
        faults.push(super::row_fault(source, rows, i, seqs[i], "late", detail));
    }
    let mut kept = keep.iter();
    seqs.retain(|_| *kept.next().expect("one flag a row"));
    *rows = filter_record_batch(rows, &BooleanArray::from(keep.clone())).expect("one flag a row");
}

/// The rows with their numbers as the last column.
fn with_seq(rows: &RecordBatch, seqs: Vec<u64>) -> RecordBatch {
    let mut fields: Vec<_> = rows.schema().fields().iter().cloned().collect();
    fields.push(Arc::new(Field::new(SEQ, DataType::Int64, true)));
    let mut columns = rows.columns().to_vec();
    columns.push(Arc::new(Int64Array::from_iter_values(seqs.into_iter().map(|s| s as i64))) as ArrayRef);
    RecordBatch::try_new(Arc::new(arrow::datatypes::Schema::new(fields)), columns).expect("one number a row")
}
