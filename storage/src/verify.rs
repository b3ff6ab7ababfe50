//! Reading every byte of a store and recomputing every checksum and digest.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::path::Path;

use rocksdb::ReadOptions;
use types::{Digest, Epoch};

use crate::format::{self, CHUNK_HEADER, CommitRecord};
use crate::open::Damage;
use crate::store::Shared;
use crate::{Consequence, Error, RelationId, RelationInfo, RelationKind, Store, journal, run, store};

/// More problems than this are counted, not listed.
const PROBLEMS_MAX: usize = 1_000;

/// What is wrong with one thing.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Problem {
    /// What is damaged: a file, an epoch's changes, a relation.
    pub subject: String,
    /// How that was seen.
    pub detail: String,
}

/// A relation as it was found.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct VerifiedRelation {
    /// Its name.
    pub name: String,
    /// The digest of the rows that were found; nothing for state, whose rows are only counted.
    pub digest: Digest,
    /// Whether it is the one that was committed. `None` if there is nothing to compare: for state, or if the rows
    /// could not all be read.
    pub matches: Option<bool>,
}

/// What `verify` found.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct VerifyReport {
    /// The last committed epoch.
    pub committed: Epoch,
    /// The oldest epoch that can be read.
    pub since: Epoch,
    /// Every relation.
    pub relations: Vec<VerifiedRelation>,
    /// How many records of all families were read.
    pub records: u64,
    /// How many bytes they are.
    pub bytes: u64,
    /// Everything that is wrong; nothing if the store is whole.
    pub problems: Vec<Problem>,
    /// How many further problems were found beyond those listed.
    pub problems_unlisted: u64,
}

impl VerifyReport {
    /// Whether the store is whole.
    pub fn is_ok(&self) -> bool {
        self.problems.is_empty()
    }

    fn problem(&mut self, subject: impl Into<String>, detail: impl Into<String>) {
        let problem = Problem { subject: subject.into(), detail: detail.into() };
        // What was seen on opening is seen again on reading everything.
        if self.problems.contains(&problem) {
            return;
        }
        if self.problems.len() < PROBLEMS_MAX {
            self.problems.push(problem);
        } else {
            self.problems_unlisted += 1;
        }
    }

    fn note(&mut self, error: Error) {
        match error {
            Error::Damaged { subject, reason } | Error::Failed { subject, reason, .. } => self.problem(subject, reason),
            other => self.problem("the store", other.to_string()),
        }
    }
}

pub(crate) fn verify(path: &Path) -> Result<VerifyReport, Error> {
    let mut report = VerifyReport::default();
    let mut damage = Damage { tolerated: true, ..Damage::default() };
    let store = match Store::open_tolerant(path, &mut damage) {
        Ok(store) => store,
        Err(e) if e.consequence() == Consequence::Damaged => {
            report.note(e);
            return Ok(report);
        }
        Err(e @ Error::Failed { .. }) => {
            report.note(e);
            return Ok(report);
        }
        Err(e) => return Err(e),
    };
    for e in damage.found {
        report.note(e);
    }
    let shared = store.shared();
    report.committed = store.committed();
    report.since = store.since();

    walk(shared, format::META, &mut report, |_, key, value| {
        format::open(key, value, || format!("the record `{}` of `meta`", String::from_utf8_lossy(key))).map(drop)
    });
    walk(shared, format::REMAP, &mut report, |_, key, value| {
        let epoch = format::epoch_of(key)?;
        let subject = || format!("the remap of epoch {epoch}");
        let json = format::open(key, value, subject)?;
        let remap: types::Remap = serde_json::from_slice(json).map_err(|e| Error::damaged(subject(), e.to_string()))?;
        if remap.epoch == epoch {
            Ok(())
        } else {
            Err(Error::damaged(subject(), format!("it is of epoch {}", remap.epoch)))
        }
    });
    walk(shared, format::JOURNAL, &mut report, |_, key, value| journal::check(key, value));
    let commits = commits(shared, &mut report);
    changes(shared, &commits, &mut report);
    let rows_whole = walk(shared, format::ROWS, &mut report, |_, key, value| {
        let broken = || Error::damaged("`rows`", "a row cannot be read");
        let (same, epoch) = format::split_row_key(key).ok_or_else(broken)?;
        format::read_row(value).ok_or_else(broken)?;
        let relation = u32::from_be_bytes(same[..4].try_into().expect("split at 12 or more"));
        if relation as usize >= shared.relations.len() {
            return Err(Error::damaged(
                "`rows`",
                format!("a row is of relation number {relation}, which there is not"),
            ));
        }
        if epoch == 0 || epoch > shared.committed() {
            return Err(Error::damaged("`rows`", format!("a row is of epoch {epoch}, which is not committed")));
        }
        Ok(())
    });
    digests(&store, rows_whole, &damage.incomplete, &mut report);
    Ok(report)
}

/// Reads a whole family, skipping what cannot be read; true if all could.
fn walk(
    shared: &Shared,
    family: &'static str,
    report: &mut VerifyReport,
    mut check: impl FnMut(&mut VerifyReport, &[u8], &[u8]) -> Result<(), Error>,
) -> bool {
    let mut options = ReadOptions::default();
    options.set_total_order_seek(true);
    options.set_verify_checksums(true);
    options.fill_cache(false);
    options.set_readahead_size(1 << 20);
    let mut iter = shared.db.raw_iterator_cf_opt(shared.family(family), options);
    let mut starts: Option<Vec<Vec<u8>>> = None;
    let mut last: Option<Vec<u8>> = None;
    let mut whole = true;
    iter.seek_to_first();
    loop {
        while let Some((key, value)) = iter.item() {
            report.records += 1;
            report.bytes += (key.len() + value.len()) as u64;
            if let Err(e) = check(report, key, value) {
                report.note(e);
            }
            match &mut last {
                Some(l) => {
                    l.clear();
                    l.extend_from_slice(key);
                }
                None => last = Some(key.to_vec()),
            }
            iter.next();
        }
        let Err(e) = iter.status() else { return whole };
        whole = false;
        report.problem(format!("`{family}`"), e.to_string());
        // Go on with the next file that begins behind what was read: each is reported once.
        let starts = starts.get_or_insert_with(|| file_starts(shared, family));
        let next = starts.iter().position(|s| last.as_ref().is_none_or(|l| s > l));
        let Some(next) = next else { return whole };
        let start = starts[next].clone();
        starts.drain(..=next);
        iter.seek(&start);
        last = Some(start);
    }
}

fn file_starts(shared: &Shared, family: &str) -> Vec<Vec<u8>> {
    let files = shared.db.live_files().unwrap_or_default();
    let mut starts: Vec<Vec<u8>> =
        files.into_iter().filter(|f| f.column_family_name == family).filter_map(|f| f.start_key).collect();
    starts.sort();
    starts.dedup();
    starts
}

/// Checks the commit records and their chain, and gives them.
fn commits(shared: &Shared, report: &mut VerifyReport) -> BTreeMap<Epoch, CommitRecord> {
    let mut commits = BTreeMap::new();
    let mut previous: Option<(Epoch, u32)> = None;
    let count = shared.relations.len();
    walk(shared, format::COMMIT, report, |report, key, value| {
        let epoch = format::epoch_of(key)?;
        let subject = format!("the commit record of epoch {epoch}");
        let decoded = CommitRecord::decode(epoch, value, count);
        if let Some((before, crc)) = previous {
            if before + 1 != epoch {
                report.problem(format!("the commit record of epoch {}", before + 1), "it is missing");
            } else if let Ok((record, _)) = &decoded
                && record.previous != crc
            {
                report.problem(subject, format!("it does not follow that of epoch {before}"));
            }
        }
        let stored = value.first_chunk::<4>().map_or(0, |c| u32::from_le_bytes(*c));
        previous = Some((epoch, stored));
        commits.insert(epoch, decoded?.0);
        Ok(())
    });
    // Older ones than can be read are kept too, for reading those that can.
    let kept = shared.work.log_trimmed().max(1)..=shared.committed();
    for epoch in kept.clone() {
        match commits.first_key_value() {
            Some((first, _)) if *first <= epoch => break,
            _ => report.problem(format!("the commit record of epoch {epoch}"), "it is missing"),
        }
    }
    for epoch in kept {
        match shared.db.get_pinned_cf(shared.family(format::REMAP), format::epoch_key(epoch)) {
            Ok(Some(_)) => {}
            Ok(None) => report.problem(format!("the remap of epoch {epoch}"), "it is missing"),
            Err(_) => break, // reported by the walk
        }
    }
    commits
}

/// Checks every chunk of changes, and that none is missing of those that are needed.
fn changes(shared: &Shared, commits: &BTreeMap<Epoch, CommitRecord>, report: &mut VerifyReport) {
    let mut found: BTreeMap<(Epoch, u32), (u32, u64)> = BTreeMap::new();
    walk(shared, format::CHANGES, report, |_, key, value| {
        let Some((head, chunk)) = key.split_last_chunk::<4>().filter(|_| key.len() == 17) else {
            return Err(Error::damaged("`changes`", "a key is not a chunk's"));
        };
        let epoch = Epoch::from_be_bytes(head[1..9].try_into().expect("eight bytes"));
        let relation = u32::from_be_bytes(head[9..13].try_into().expect("four bytes"));
        let subject = || store::chunk_subject(shared, epoch, RelationId(relation), u32::from_be_bytes(*chunk));
        format::open(key, value, subject)?;
        let (chunks, rows) = found.entry((epoch, relation)).or_default();
        *chunks += 1;
        run::read_chunk(value, CHUNK_HEADER, |_, _| *rows += 1, subject)
    });
    let needed_after: Vec<Epoch> =
        shared.relations.iter().map(|r| shared.past.needed_after(r.id, report.since)).collect();
    for (epoch, record) in commits {
        for ((info, r), needed_after) in shared.relations.iter().zip(&record.relations).zip(&needed_after) {
            let state = info.kind == RelationKind::State;
            if record.staged.is_some() {
                // A segment that is there is read whole, whatever of it is still needed.
                if shared.segments.has(*epoch) || (!state && epoch > needed_after) {
                    staged_changes(shared, *epoch, record, info, report);
                }
                continue;
            }
            let (chunks, rows) = found.get(&(*epoch, info.id.0)).copied().unwrap_or_default();
            if !state && epoch > needed_after && (chunks, rows) != (r.chunks, r.changes) {
                report.problem(
                    format!("the changes of `{}` in epoch {epoch}", info.name),
                    format!("{rows} in {chunks} chunks were found, and {} in {} were committed", r.changes, r.chunks),
                );
            }
        }
    }
}

/// Checks what an epoch changed in a relation, where it went to a segment.
fn staged_changes(
    shared: &Shared,
    epoch: Epoch,
    record: &CommitRecord,
    info: &RelationInfo,
    report: &mut VerifyReport,
) {
    let (mut bytes, mut rows) = (0, 0);
    let read = store::for_each_chunk(shared, epoch, record, info.id, |chunk, value| {
        bytes += value.len() as u64;
        run::read_chunk(value, CHUNK_HEADER, |_, _| rows += 1, || store::chunk_subject(shared, epoch, info.id, chunk))
    });
    let committed = record.relations[info.id.0 as usize];
    report.records += u64::from(committed.chunks);
    report.bytes += bytes;
    match read {
        Err(e) => report.note(e),
        Ok(()) if rows != committed.changes => report.problem(
            format!("the changes of `{}` in epoch {epoch}", info.name),
            format!("{rows} were found, and {} were committed", committed.changes),
        ),
        Ok(()) => {}
    }
}

/// Recomputes every relation's digest from its rows.
fn digests(store: &Store, rows_whole: bool, incomplete: &[RelationId], report: &mut VerifyReport) {
    let shared = store.shared();
    let snapshot = match store.snapshot(Some(store.committed())) {
        Ok(s) => s,
        Err(e) => return report.note(e),
    };
    for info in &shared.relations {
        let mut digest = Digest::default();
        let mut scan = snapshot.scan(info.id, Bound::Unbounded, Bound::Unbounded);
        let mut whole = rows_whole && !incomplete.contains(&info.id);
        while let Some(row) = scan.next_row() {
            match row {
                Ok(row) if info.kind == RelationKind::State => {
                    let _ = row;
                    digest.rows += 1;
                }
                Ok(row) => digest.add(row.key, row.value),
                Err(e) => {
                    whole = false;
                    if rows_whole {
                        report.note(e);
                    }
                }
            }
        }
        let committed = store.digest(info.id);
        let matches = (whole && info.kind != RelationKind::State).then(|| digest == committed);
        if matches == Some(false) {
            report.problem(
                format!("`{}`", info.name),
                format!(
                    "its {} rows have the digest {:032x}, and {} rows with {:032x} were committed",
                    digest.rows, digest.sum, committed.rows, committed.sum
                ),
            );
        }
        report.relations.push(VerifiedRelation { name: info.name.clone(), digest, matches });
    }
}
