//! Puts the workers' parts of an epoch together, commits them as one, and publishes the epoch.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender};
use storage::EpochCommit;
use types::{Change, ChangeSet, Digest, Epoch, Fault, Remap, RowCodec, fault_schema};

use super::Start;
use super::outbox::Part;
use super::relations::Relations;
use crate::clock::Clock;
use crate::metrics::Metrics;
use crate::operator::Gauge;

/// What reaches the committer.
pub(super) enum ToCommitter {
    /// An epoch was sealed, with the faults its records are.
    Sealed { remap: Remap, faults: Vec<Fault>, sealed_at: Duration },
    /// A worker has computed its part of an epoch.
    Part { epoch: Epoch, part: Box<Part> },
    /// A worker or the sealer has failed.
    Failed(String),
}

/// Why rehydration does not go live: rebuilding the relation at this position gives other rows than the store has.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Divergent(pub usize);

/// The committer and what it works with.
pub(super) struct Committer {
    pub start: Arc<Start>,
    pub relations: Arc<Relations>,
    pub metrics: Metrics,
    pub clock: Clock,
    pub workers: usize,
    /// Announces published epochs to the sealer.
    pub published: Sender<Epoch>,
    pub input: Receiver<ToCommitter>,
    /// The last committed remap.
    pub committed: Arc<Mutex<Remap>>,
}

#[derive(Default)]
struct Assembly {
    sealed: Option<(Remap, Vec<Fault>, Duration)>,
    parts: Vec<Part>,
}

impl Committer {
    /// Waits for the rebuilt relations and compares them with the store. The outer error is a failure; the inner
    /// one names a relation that diverges (with its rows, if they were kept).
    pub fn rehydrate(&self) -> Result<Result<(), (Divergent, Option<String>)>, String> {
        let epoch = self.start.epoch();
        let mut parts = Vec::new();
        while parts.len() < self.workers {
            match self.input.recv() {
                Ok(ToCommitter::Part { part, .. }) => parts.push(*part),
                Ok(ToCommitter::Failed(reason)) => return Err(reason),
                Ok(ToCommitter::Sealed { .. }) => unreachable!("nothing is sealed before the engine is live"),
                Err(_) => return Err("the workers have gone".to_owned()),
            }
        }
        for (position, relation) in self.relations.readable.iter().enumerate().filter(|(_, r)| r.compared) {
            let stored = self.start.store.digest(relation.id);
            let mut rebuilt = Digest::default();
            for part in &mut parts {
                if let Some(digest) = part.digests.get(&position) {
                    rebuilt.sum = rebuilt.sum.wrapping_add(digest.sum);
                    rebuilt.rows = rebuilt.rows.wrapping_add(digest.rows);
                }
            }
            let kept: Vec<ChangeSet> = parts.iter_mut().filter_map(|p| p.relations.remove(&position)).collect();
            if !kept.is_empty() {
                let where_ = self.first_difference(position, kept, epoch)?;
                return Ok(Err((Divergent(position), Some(where_))));
            }
            if stored != rebuilt && self.start.keep != Some(position) {
                return Ok(Err((Divergent(position), None)));
            }
        }
        Ok(Ok(()))
    }

    /// The first key at which rebuilt rows differ from stored ones, in words.
    fn first_difference(&self, position: usize, kept: Vec<ChangeSet>, epoch: Epoch) -> Result<String, String> {
        use std::ops::Bound::Unbounded;
        let relation = &self.relations.readable[position];
        let rebuilt = match ChangeSet::net(kept) {
            Ok(set) => set,
            Err(key) => return Ok(format!("two rebuilt rows claim the key {}", self.key_text(position, &key))),
        };
        let snapshot = self.start.store.snapshot(Some(epoch)).map_err(|e| e.to_string())?;
        let mut stored = snapshot.scan(relation.id, Unbounded, Unbounded);
        let mut rows = rebuilt.iter();
        loop {
            let stored = stored.next().transpose().map_err(|e| e.to_string())?;
            let row = rows.next();
            let said = match (&stored, row) {
                (None, None) => return Ok("the rows are equal, but their digest is not".to_owned()),
                (Some((key, value)), Some(Change { key: k, after: Some(v), .. })) if key == k && value == v => continue,
                (Some((key, _)), Some(c)) if key == c.key => {
                    (key.clone(), "the stored row differs from the rebuilt one")
                }
                (Some((key, _)), Some(c)) if key.as_slice() > c.key => {
                    (c.key.to_vec(), "the store lacks the rebuilt row")
                }
                (None, Some(c)) => (c.key.to_vec(), "the store lacks the rebuilt row"),
                (Some((key, _)), _) => (key.clone(), "the stored row is not rebuilt"),
            };
            return Ok(format!("key {}: {}", self.key_text(position, &said.0), said.1));
        }
    }

    fn key_text(&self, position: usize, key: &[u8]) -> String {
        let mut schema = self.relations.readable[position].schema.clone();
        let columns: Vec<_> = schema.key.iter().map(|i| schema.columns[*i].clone()).collect();
        schema.key = (0..columns.len()).collect();
        schema.columns = columns;
        let mut out = Vec::new();
        match RowCodec::new(&schema).decode([(key, &[][..])]) {
            Ok(rows) => types::json::write_row(&mut out, &schema, &rows, 0),
            Err(e) => return e.to_string(),
        }
        String::from_utf8(out).expect("JSON is UTF-8")
    }

    /// Commits epochs as they become complete, until everyone who could send is gone.
    pub fn run(&self) -> Result<(), String> {
        let mut waiting: BTreeMap<Epoch, Assembly> = BTreeMap::new();
        let mut next = self.start.epoch() + 1;
        for message in &self.input {
            match message {
                ToCommitter::Failed(reason) => return Err(reason),
                ToCommitter::Sealed { remap, faults, sealed_at } => {
                    let epoch = remap.epoch;
                    waiting.entry(epoch).or_default().sealed = Some((remap, faults, sealed_at));
                }
                ToCommitter::Part { epoch, part } => waiting.entry(epoch).or_default().parts.push(*part),
            }
            while let Some(entry) = waiting.first_entry() {
                let complete = entry.get().sealed.is_some() && entry.get().parts.len() == self.workers;
                if *entry.key() != next || !complete {
                    break;
                }
                self.metrics.computed.set(next as i64);
                self.commit(next, entry.remove())?;
                next += 1;
            }
        }
        Ok(())
    }

    fn commit(&self, epoch: Epoch, assembly: Assembly) -> Result<(), String> {
        let (remap, faults, sealed_at) = assembly.sealed.expect("the caller has seen it");
        let computed_at = self.clock.elapsed();
        (self.start.hook)("prepare");
        let mut parts = assembly.parts;
        let mut relations = Vec::new();
        let mut changed = Vec::new();
        for (position, relation) in self.relations.readable.iter().enumerate() {
            let sets: Vec<ChangeSet> = parts.iter_mut().filter_map(|p| p.relations.remove(&position)).collect();
            if sets.is_empty() {
                continue;
            }
            let net = ChangeSet::net(sets).map_err(|key| {
                let key = self.key_text(position, &key);
                format!("`{}` has two rows for the key {key} at epoch {epoch}: an operator is wrong", relation.name)
            })?;
            if !net.is_empty() {
                changed.push((position, net.len()));
                relations.push((relation.id, net));
            }
        }
        for step in 0..self.start.plan.steps.len() {
            let Some(id) = self.relations.state(step) else { continue };
            let sets: Vec<ChangeSet> = parts.iter_mut().filter_map(|p| p.state.remove(&step)).flatten().collect();
            let last = last_write_wins(sets);
            if !last.is_empty() {
                relations.push((id, last));
            }
        }
        let step_faults: Vec<(Fault, i64)> = parts.iter_mut().flat_map(|p| std::mem::take(&mut p.faults)).collect();
        let faults = self.faults(faults, step_faults);
        if !faults.is_empty() {
            relations.push((self.relations.faults, faults));
        }
        self.start
            .store
            .commit(EpochCommit { epoch, relations })
            .map_err(|e| format!("committing epoch {epoch}: {e}"))?;
        let durable_at = self.clock.elapsed();
        self.metrics.durable.set(epoch as i64);
        (self.start.hook)("publish");
        *self.committed.lock().expect("no holder panics") = remap;
        self.start.store.publish(epoch);
        self.metrics.published.set(epoch as i64);
        // The sealer may have ended already; nobody then waits for the permit.
        let _ = self.published.send(epoch);

        let latency = |stage: &str, time: Duration| {
            self.metrics.epoch_latency.with_label_values(&[stage]).observe(time.as_secs_f64());
        };
        latency("compute", computed_at.saturating_sub(sealed_at));
        latency("commit", durable_at.saturating_sub(computed_at));
        latency("total", self.clock.elapsed().saturating_sub(sealed_at));
        for (position, count) in changed {
            let relation = &self.relations.readable[position];
            let name = relation.name.as_str();
            self.metrics.view_changes.with_label_values(&[name]).inc_by(count as u64);
            self.metrics.view_rows.with_label_values(&[name]).set(self.start.store.digest(relation.id).rows as i64);
            let fresh = self.clock.elapsed().saturating_sub(sealed_at).as_secs_f64();
            self.metrics.freshness.with_label_values(&[name]).set(fresh);
        }
        let mut gauges: BTreeMap<(usize, &str), Gauge> = BTreeMap::new();
        for part in &parts {
            for (step, name, gauge) in &part.gauges {
                gauges.entry((*step, *name)).and_modify(|all| *all = all.and(*gauge)).or_insert(*gauge);
            }
            for (step, (taken, given)) in &part.traffic {
                let name = self.start.plan.steps[*step].name.as_str();
                self.metrics.received.with_label_values(&[name]).inc_by(*taken);
                self.metrics.sent.with_label_values(&[name]).inc_by(*given);
            }
        }
        for ((step, name), gauge) in gauges {
            if let Some(figure) = gauge.figure() {
                self.metrics.set_step_gauge(&self.start.plan.steps[step].name, name, figure);
            }
        }
        if epoch.is_multiple_of(64) {
            self.trim_journals()?;
        }
        Ok(())
    }

    /// Drops what is journalled of records that are committed.
    fn trim_journals(&self) -> Result<(), String> {
        let committed = self.committed.lock().expect("no holder panics").clone();
        for source in self.start.plan.sources.iter().filter(|s| s.connector.is_journalled()) {
            if let Some(progress) = committed.sources.get(&source.name) {
                self.start
                    .store
                    .journal_trim(&source.name, progress.position.seq)
                    .map_err(|e| format!("trimming the journal of `{}`: {e}", source.name))?;
            }
        }
        Ok(())
    }

    /// The change set of an epoch's faults. Of several faults at one record the one with the least row is kept.
    fn faults(&self, sealed: Vec<Fault>, from_steps: Vec<(Fault, i64)>) -> ChangeSet {
        if sealed.is_empty() && from_steps.is_empty() {
            return ChangeSet::new();
        }
        let all: Vec<(Fault, i64)> = sealed.into_iter().map(|f| (f, 1)).chain(from_steps).collect();
        let codec = RowCodec::new(&fault_schema());
        let rows: Vec<_> = all.iter().map(|(f, _)| f.row()).collect();
        let batch = codec.batch(&rows);
        let (keys, values) = (codec.keys(&batch), codec.values(&batch));
        let mut sums: BTreeMap<&[u8], BTreeMap<&[u8], i64>> = BTreeMap::new();
        for (i, (fault, diff)) in all.iter().enumerate() {
            *sums.entry(keys.row(i).data()).or_default().entry(values.row(i).data()).or_default() += diff;
            if *diff > 0 {
                self.metrics.faults.with_label_values(&[&fault.source, &fault.reason]).inc();
            }
        }
        let mut out = ChangeSet::new();
        for (key, rows) in sums {
            let before = rows.iter().find(|(_, n)| **n < 0).map(|(v, _)| *v);
            let after = rows.iter().find(|(_, n)| **n > 0).map(|(v, _)| *v);
            if before != after {
                out.push(key, before, after);
            }
        }
        out
    }
}

/// State writes with one entry a key, the last: sets are in order, and no key is written by two workers.
fn last_write_wins(mut sets: Vec<ChangeSet>) -> ChangeSet {
    if let [one] = sets.as_slice()
        && one.is_sorted()
    {
        return sets.remove(0);
    }
    let mut all: Vec<Change<'_>> = sets.iter().flat_map(ChangeSet::iter).collect();
    all.sort_by(|a, b| a.key.cmp(b.key));
    let mut out = ChangeSet::with_capacity(all.len(), sets.iter().map(ChangeSet::bytes).sum());
    for group in all.chunk_by(|a, b| a.key == b.key) {
        let last = group.last().expect("a group has entries");
        out.push(last.key, None, last.after);
    }
    out
}
