//! The journal: records of sources that cannot be read again, durable before their sender is told so.
//!
//! Keys: a tag, the source's name, a zero byte, then for entries (1) the number of their first record; for
//! idempotency keys (2) the key; for their order of age (3) the first record's number; for the next number (4)
//! nothing. Callers who come while another's write is under way are written together, by one of them, in order: an
//! entry is never on disk without those before it.

use std::collections::BTreeMap;
use std::sync::{Condvar, Mutex, MutexGuard};
use std::time::Duration;

use rocksdb::{Direction, IteratorMode, ReadOptions, WriteBatch};
use types::Epoch;
use xxhash_rust::xxh3::xxh3_128;

use crate::format;
use crate::store::Shared;
use crate::{CrashPoint, Error, Store, lock};

/// How many idempotency keys of a source are remembered: the newest.
const KEYS_MAX: u64 = 100_000;

/// With this many entries to forget at once, they are deleted as a range.
const TRIM_SINGLY_MAX: usize = 1_024;

const ENTRY: u8 = 1;
const KEY: u8 = 2;
const AGE: u8 = 3;
const NEXT: u8 = 4;

/// Records as they were pushed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JournalEntry {
    /// How the payload is encoded: the pusher's and the reader's business.
    pub format: String,
    /// The bytes.
    pub payload: Vec<u8>,
    /// How many records they are.
    pub records: u64,
}

/// An entry with its place in the source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Journaled {
    /// The number of its first record.
    pub first_seq: u64,
    /// The entry.
    pub entry: JournalEntry,
}

/// An entry that is durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Appended {
    /// The number of its first record: records of a source are numbered from 0 without a gap.
    pub first_seq: u64,
    /// How many records it has.
    pub records: u64,
    /// True if it had been appended before under the same idempotency key; the rest is then as it was.
    pub repeated: bool,
    /// For a repetition: the epoch in which the records take effect, if that was noted.
    pub epoch: Option<Epoch>,
}

/// The journal's part of a store.
#[derive(Debug, Default)]
pub(crate) struct Journal {
    state: Mutex<State>,
    written: Condvar,
}

#[derive(Debug, Default)]
struct State {
    sources: BTreeMap<String, Source>,
    /// What waits to be written, in order.
    queue: Vec<(Vec<u8>, Option<Vec<u8>>)>,
    /// Someone is writing what was in the queue.
    writing: bool,
    /// Tickets are given to appends in order; those below this are written.
    next_ticket: u64,
    written_ticket: u64,
    failed: Option<Error>,
}

#[derive(Debug, Default)]
struct Source {
    next_seq: u64,
    /// The same as of the last write that was begun, and of the last that is on disk.
    writing_seq: u64,
    written_seq: u64,
    keys: u64,
    /// No remembered key is of an entry before this.
    oldest_key: u64,
    /// Keys of appends that are not written yet.
    pending: BTreeMap<String, (u64, Known)>,
}

/// What is remembered under an idempotency key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Known {
    first_seq: u64,
    records: u64,
    hash: u128,
    /// 0: not noted.
    epoch: Epoch,
}

impl Store {
    /// Appends an entry to a source's journal and waits until it is on disk. Concurrent callers share a sync.
    ///
    /// An entry appended before under the same idempotency key is not appended again: the answer is the first one's.
    /// The newest 100,000 keys of a source are remembered, over restarts too. An entry of no records is not stored.
    ///
    /// # Errors
    /// [`Error::IdempotencyConflict`] if the key came with another entry; [`Error::Unknown`]: it may be on disk, and
    /// the store takes no more writes.
    pub fn journal_append(
        &self,
        source: &str,
        entry: JournalEntry,
        idempotency_key: Option<&str>,
    ) -> Result<Appended, Error> {
        self.shared().append(source, entry, idempotency_key)
    }

    /// Notes the epoch in which an entry's records take effect, for the answer to a repetition. Not synced; a key
    /// that is no longer remembered is ignored.
    pub fn journal_set_epoch(&self, source: &str, idempotency_key: &str, epoch: Epoch) -> Result<(), Error> {
        let shared = self.shared();
        shared.check_writable()?;
        // Under the lock, so that a key that is being forgotten is not written again.
        let _state = lock(&shared.journal.state);
        let key = keyed(source, idempotency_key);
        if let Some(known) = shared.known(source, idempotency_key)? {
            let mut batch = WriteBatch::default();
            batch.put_cf(shared.family(format::JOURNAL), &key, encode_known(&key, Known { epoch, ..known }));
            shared.write(batch, false, "noting an epoch in the journal")?;
        }
        Ok(())
    }

    /// The entry that holds record `from_seq`, and those that follow, until their payloads exceed `bytes_max`; one at
    /// least if there is one. If the record has been trimmed, from the first that is left.
    pub fn journal_read(&self, source: &str, from_seq: u64, bytes_max: usize) -> Result<Vec<Journaled>, Error> {
        let shared = self.shared();
        let mut options = ReadOptions::default();
        options.set_iterate_upper_bound(after(ENTRY, source));
        options.set_iterate_lower_bound(head(ENTRY, source));
        let mut iter = shared.db.raw_iterator_cf_opt(shared.family(format::JOURNAL), options);
        iter.seek_for_prev(numbered(ENTRY, source, from_seq));
        if !iter.valid() {
            iter.status().map_err(|e| Error::read(subject(source), &e))?;
            iter.seek(numbered(ENTRY, source, 0));
        }
        let (mut out, mut bytes) = (Vec::new(), 0);
        while let Some((key, value)) = iter.item() {
            let one = decode_entry(source, key, value)?;
            if one.first_seq + one.entry.records > from_seq {
                bytes += one.entry.payload.len();
                if bytes > bytes_max && !out.is_empty() {
                    return Ok(out);
                }
                out.push(one);
            }
            iter.next();
        }
        iter.status().map_err(|e| Error::read(subject(source), &e))?;
        Ok(out)
    }

    /// Forgets the entries whose records are all below `below_seq`. Not synced: after a loss of power they may be
    /// there again.
    pub fn journal_trim(&self, source: &str, below_seq: u64) -> Result<(), Error> {
        let shared = self.shared();
        shared.check_writable()?;
        let family = shared.family(format::JOURNAL);
        let mut end = numbered(ENTRY, source, below_seq);
        if let Some(first) = self.journal_read(source, below_seq, 0)?.first()
            && first.first_seq < below_seq
        {
            end = numbered(ENTRY, source, first.first_seq);
        }
        // One by one, since this is called often and for few: many deletions of ranges make every read slower.
        let mut options = ReadOptions::default();
        options.set_iterate_upper_bound(end.clone());
        let mut iter = shared.db.raw_iterator_cf_opt(family, options);
        let mut batch = WriteBatch::default();
        iter.seek(head(ENTRY, source));
        while let Some(key) = iter.key() {
            batch.delete_cf(family, key);
            if batch.len() >= TRIM_SINGLY_MAX {
                batch.clear();
                batch.delete_range_cf(family, head(ENTRY, source), end);
                break;
            }
            iter.next();
        }
        iter.status().map_err(|e| Error::read(subject(source), &e))?;
        drop(iter);
        if batch.is_empty() {
            return Ok(());
        }
        shared.write(batch, false, "trimming the journal")?;
        shared.at(CrashPoint::Trim);
        Ok(())
    }

    /// Waits until record `seq` of a source is on disk; false if that took longer than the timeout.
    pub fn journal_wait(&self, source: &str, seq: u64, timeout: Duration) -> bool {
        let journal = &self.shared().journal;
        let is_written = |state: &State| state.sources.get(source).is_some_and(|s| s.written_seq > seq);
        let waited = journal.written.wait_timeout_while(lock(&journal.state), timeout, |state| !is_written(state));
        is_written(&waited.unwrap_or_else(std::sync::PoisonError::into_inner).0)
    }

    /// The number the next record of a source will get: how many were ever journalled.
    pub fn journal_next_seq(&self, source: &str) -> u64 {
        let state = lock(&self.shared().journal.state);
        state.sources.get(source).map_or(0, |s| s.next_seq)
    }
}

impl Journal {
    /// Reads what is remembered of every source.
    pub(crate) fn load(&self, shared: &Shared) -> Result<(), Error> {
        let mut state = lock(&self.state);
        let family = shared.family(format::JOURNAL);
        for item in shared.db.iterator_cf(family, IteratorMode::From(&[NEXT], Direction::Forward)) {
            let (key, value) = item.map_err(|e| Error::read("the journal", &e))?;
            let source = source_of(&key)?;
            let body = format::open(&key, &value, || subject(&source))?;
            let next_seq = body
                .try_into()
                .map(u64::from_le_bytes)
                .map_err(|_| Error::damaged(subject(&source), "its next number cannot be read"))?;
            state.sources.insert(source, Source { next_seq, written_seq: next_seq, ..Source::default() });
        }
        let mut options = ReadOptions::default();
        options.set_iterate_upper_bound([NEXT]);
        for item in shared.db.iterator_cf_opt(family, options, IteratorMode::From(&[AGE], Direction::Forward)) {
            let (key, _) = item.map_err(|e| Error::read("the journal", &e))?;
            let source = source_of(&key)?;
            if let Some(s) = state.sources.get_mut(&source) {
                s.keys += 1;
            }
        }
        for (name, source) in &state.sources {
            let mut options = ReadOptions::default();
            options.set_iterate_lower_bound(head(ENTRY, name));
            let mut iter = shared.db.raw_iterator_cf_opt(family, options);
            iter.seek_for_prev(after(ENTRY, name));
            if let Some((key, value)) = iter.item() {
                let last = decode_entry(name, key, value)?;
                if last.first_seq + last.entry.records != source.next_seq {
                    return Err(Error::damaged(
                        subject(name),
                        format!(
                            "its last entry ends at {}, and its next number is {}",
                            last.first_seq + last.entry.records,
                            source.next_seq
                        ),
                    ));
                }
            }
            iter.status().map_err(|e| Error::read(subject(name), &e))?;
        }
        Ok(())
    }
}

impl Shared {
    fn append(&self, source: &str, entry: JournalEntry, key: Option<&str>) -> Result<Appended, Error> {
        const APPEND: &str = "append to the journal";
        self.check_writable()?;
        if source.contains('\0') {
            return Err(Error::refused(APPEND, "a source's name holds a zero byte"));
        }
        let hash = hash(&entry);
        let mut state = lock(&self.journal.state);
        if let Some(key) = key {
            let pending = state.sources.get(source).and_then(|s| s.pending.get(key)).copied();
            let known = match pending {
                Some((ticket, known)) => {
                    state = self.wait_written(state, ticket)?;
                    Some(self.known(source, key)?.unwrap_or(known))
                }
                None => self.known(source, key)?,
            };
            if let Some(known) = known {
                if known.hash != hash {
                    return Err(Error::IdempotencyConflict { name: source.to_owned(), key: key.to_owned() });
                }
                return Ok(Appended {
                    first_seq: known.first_seq,
                    records: known.records,
                    repeated: true,
                    epoch: (known.epoch > 0).then_some(known.epoch),
                });
            }
        }
        if let Some(e) = &state.failed {
            return Err(Error::Poisoned { reason: e.to_string() });
        }
        let ticket = state.next_ticket;
        let s = state.sources.entry(source.to_owned()).or_default();
        let (first_seq, records) = (s.next_seq, entry.records);
        if records == 0 {
            return Ok(Appended { first_seq, records, repeated: false, epoch: None });
        }
        let next_seq = first_seq.checked_add(records).ok_or_else(|| Error::refused(APPEND, "the source is full"))?;

        // Each pair is a put, or without a value a deletion; the leader writes them in order.
        let mut writes: Vec<(Vec<u8>, Option<Vec<u8>>)> = Vec::with_capacity(5);
        if let Some(key) = key {
            if s.keys >= KEYS_MAX
                && let Some((seq, oldest)) = self.oldest_key(source, s.oldest_key)?
            {
                writes.push((keyed(source, &oldest), None));
                writes.push((numbered(AGE, source, seq), None));
                s.oldest_key = seq + 1;
                s.keys -= 1;
            }
            let known = Known { first_seq, records, hash, epoch: 0 };
            let at = keyed(source, key);
            let value = encode_known(&at, known);
            writes.push((at, Some(value)));
            let at = numbered(AGE, source, first_seq);
            let mut value = vec![0; 4];
            value.extend_from_slice(key.as_bytes());
            format::seal(&at, &mut value);
            writes.push((at, Some(value)));
            s.keys += 1;
            s.pending.insert(key.to_owned(), (ticket, known));
        }
        let at = numbered(ENTRY, source, first_seq);
        let value = encode_entry(&at, &entry);
        writes.push((at, Some(value)));
        let at = head(NEXT, source);
        let mut value = vec![0; 4];
        value.extend_from_slice(&next_seq.to_le_bytes());
        format::seal(&at, &mut value);
        writes.push((at, Some(value)));
        s.next_seq = next_seq;
        state.queue.extend(writes);
        state.next_ticket += 1;

        drop(self.wait_written(state, ticket)?);
        Ok(Appended { first_seq, records, repeated: false, epoch: None })
    }

    /// Waits until an append is on disk; writes it, and all that wait with it, if nobody else is writing.
    fn wait_written<'a>(
        &'a self,
        mut state: MutexGuard<'a, State>,
        ticket: u64,
    ) -> Result<MutexGuard<'a, State>, Error> {
        loop {
            if state.written_ticket > ticket {
                return Ok(state);
            }
            if let Some(e) = &state.failed {
                return Err(e.clone());
            }
            state = if state.writing {
                self.journal.written.wait(state).unwrap_or_else(std::sync::PoisonError::into_inner)
            } else {
                self.write_queue(state)
            };
        }
    }

    /// Writes the queue. What joins meanwhile is left to one of those who wait.
    fn write_queue<'a>(&'a self, mut state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        state.writing = true;
        let writes = std::mem::take(&mut state.queue);
        let upto = state.next_ticket;
        for s in state.sources.values_mut() {
            s.writing_seq = s.next_seq;
        }
        drop(state);
        let family = self.family(format::JOURNAL);
        let mut batch = WriteBatch::default();
        for (key, value) in &writes {
            match value {
                Some(v) => batch.put_cf(family, key, v),
                None => batch.delete_cf(family, key),
            }
        }
        let written = self.write(batch, true, "appending to the journal");
        if written.is_ok() {
            self.at(CrashPoint::Journal);
        }
        let mut state = lock(&self.journal.state);
        state.writing = false;
        match written {
            Ok(()) => {
                state.written_ticket = upto;
                for s in state.sources.values_mut() {
                    s.written_seq = s.written_seq.max(s.writing_seq);
                    s.pending.retain(|_, (ticket, _)| *ticket >= upto);
                }
            }
            Err(e) => state.failed = Some(e),
        }
        self.journal.written.notify_all();
        state
    }

    fn known(&self, source: &str, key: &str) -> Result<Option<Known>, Error> {
        let at = keyed(source, key);
        let family = self.family(format::JOURNAL);
        let Some(value) = self.db.get_pinned_cf(family, &at).map_err(|e| Error::read(subject(source), &e))? else {
            return Ok(None);
        };
        decode_known(source, &at, &value).map(Some)
    }

    fn oldest_key(&self, source: &str, from: u64) -> Result<Option<(u64, String)>, Error> {
        let mut options = ReadOptions::default();
        options.set_iterate_upper_bound(after(AGE, source));
        let mut iter = self.db.raw_iterator_cf_opt(self.family(format::JOURNAL), options);
        iter.seek(numbered(AGE, source, from));
        let Some((at, value)) = iter.item() else {
            return iter.status().map(|()| None).map_err(|e| Error::read(subject(source), &e));
        };
        let (seq, key) = decode_age(source, at, value)?;
        Ok(Some((seq, key)))
    }
}

fn hash(entry: &JournalEntry) -> u128 {
    let mut h = xxhash_rust::xxh3::Xxh3::new();
    h.update(&entry.records.to_le_bytes());
    h.update(&xxh3_128(entry.format.as_bytes()).to_le_bytes());
    h.update(&entry.payload);
    h.digest128()
}

fn subject(source: &str) -> String {
    format!("the journal of `{source}`")
}

fn head(tag: u8, source: &str) -> Vec<u8> {
    let mut key = Vec::with_capacity(source.len() + 10);
    key.push(tag);
    key.extend_from_slice(source.as_bytes());
    key.push(0);
    key
}

/// The first key behind all of a source's with a tag.
fn after(tag: u8, source: &str) -> Vec<u8> {
    let mut key = head(tag, source);
    *key.last_mut().expect("never empty") = 1;
    key
}

fn numbered(tag: u8, source: &str, seq: u64) -> Vec<u8> {
    let mut key = head(tag, source);
    key.extend_from_slice(&seq.to_be_bytes());
    key
}

fn keyed(source: &str, idempotency_key: &str) -> Vec<u8> {
    let mut key = head(KEY, source);
    key.extend_from_slice(idempotency_key.as_bytes());
    key
}

fn source_of(key: &[u8]) -> Result<String, Error> {
    let name = key.get(1..).and_then(|k| k.split(|b| *b == 0).next()).and_then(|n| std::str::from_utf8(n).ok());
    name.map(str::to_owned).ok_or_else(|| Error::damaged("the journal", "a key names no source"))
}

fn seq_of(source: &str, key: &[u8]) -> Result<u64, Error> {
    key.split_last_chunk::<8>()
        .map(|(_, seq)| u64::from_be_bytes(*seq))
        .ok_or_else(|| Error::damaged(subject(source), "a key is too short"))
}

fn encode_entry(key: &[u8], entry: &JournalEntry) -> Vec<u8> {
    let mut value = Vec::with_capacity(entry.payload.len() + entry.format.len() + 24);
    value.extend_from_slice(&[0; 4]);
    value.extend_from_slice(&entry.records.to_le_bytes());
    format::put_varint(&mut value, entry.format.len() as u64);
    value.extend_from_slice(entry.format.as_bytes());
    value.extend_from_slice(&entry.payload);
    format::seal(key, &mut value);
    value
}

fn decode_entry(source: &str, key: &[u8], value: &[u8]) -> Result<Journaled, Error> {
    let first_seq = seq_of(source, key)?;
    let subject = || format!("the entry of record {first_seq} in the journal of `{source}`");
    let body = format::open(key, value, subject)?;
    let parsed = (|| {
        let (records, body) = body.split_first_chunk::<8>()?;
        let mut at = 0;
        let length = usize::try_from(format::take_varint(body, &mut at)?).ok()?;
        let (format, payload) = body[at..].split_at_checked(length)?;
        let records = u64::from_le_bytes(*records);
        first_seq.checked_add(records)?;
        Some(JournalEntry { format: String::from_utf8(format.to_vec()).ok()?, payload: payload.to_vec(), records })
    })();
    let entry = parsed.ok_or_else(|| Error::damaged(subject(), "it cannot be read"))?;
    Ok(Journaled { first_seq, entry })
}

fn encode_known(key: &[u8], known: Known) -> Vec<u8> {
    let mut value = vec![0; 4];
    value.extend_from_slice(&known.first_seq.to_le_bytes());
    value.extend_from_slice(&known.records.to_le_bytes());
    value.extend_from_slice(&known.hash.to_le_bytes());
    value.extend_from_slice(&known.epoch.to_le_bytes());
    format::seal(key, &mut value);
    value
}

fn decode_known(source: &str, key: &[u8], value: &[u8]) -> Result<Known, Error> {
    let subject = || format!("an idempotency key in the journal of `{source}`");
    let body = format::open(key, value, subject)?;
    let parsed = (|| {
        let (first_seq, body) = body.split_first_chunk::<8>()?;
        let (records, body) = body.split_first_chunk::<8>()?;
        let (hash, body) = body.split_first_chunk::<16>()?;
        let epoch: [u8; 8] = body.try_into().ok()?;
        Some(Known {
            first_seq: u64::from_le_bytes(*first_seq),
            records: u64::from_le_bytes(*records),
            hash: u128::from_le_bytes(*hash),
            epoch: u64::from_le_bytes(epoch),
        })
    })();
    parsed.ok_or_else(|| Error::damaged(subject(), "it cannot be read"))
}

fn decode_age(source: &str, key: &[u8], value: &[u8]) -> Result<(u64, String), Error> {
    let seq = seq_of(source, key)?;
    let body = format::open(key, value, || subject(source))?;
    let name = String::from_utf8(body.to_vec()).map_err(|e| Error::damaged(subject(source), e.to_string()))?;
    Ok((seq, name))
}

/// Checks one record of the journal, for `verify`.
pub(crate) fn check(key: &[u8], value: &[u8]) -> Result<(), Error> {
    let source = source_of(key)?;
    match key.first() {
        Some(&ENTRY) => decode_entry(&source, key, value).map(drop),
        Some(&KEY) => decode_known(&source, key, value).map(drop),
        Some(&AGE) => decode_age(&source, key, value).map(drop),
        Some(&NEXT) => format::open(key, value, || subject(&source)).map(drop),
        _ => Err(Error::damaged("the journal", "a key is of no kind we know")),
    }
}
