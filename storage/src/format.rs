//! The bytes on disk: keys, chunks of changes, commit records, journal entries. Everything here is the store's format.
//!
//! Integers in keys are big-endian, so that byte order is number order; in values they are little-endian. Every
//! value written by us and read by us alone begins with a crc32 of its key and itself: RocksDB's own checksums
//! guard its blocks, ours guard against a block that is whole and in the wrong place.

use types::{Digest, Epoch};

use crate::{Error, RelationId};

/// The store's format. One more whenever anything in this file changes its meaning.
pub(crate) const FORMAT: u32 = 2;

/// The column families.
pub(crate) const META: &str = "meta";
pub(crate) const REMAP: &str = "remap";
pub(crate) const COMMIT: &str = "commit";
pub(crate) const CHANGES: &str = "changes";
pub(crate) const ROWS: &str = "rows";
pub(crate) const JOURNAL: &str = "journal";
pub(crate) const FAMILIES: [&str; 6] = [META, REMAP, COMMIT, CHANGES, ROWS, JOURNAL];

/// Whether changes are kept as history or only until they are applied: the first byte of their keys, so that each
/// sort is trimmed by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Class {
    History = 0,
    State = 1,
}

impl Class {
    pub(crate) const ALL: [Class; 2] = [Class::History, Class::State];
}

/// Chunks are closed when they reach this size.
pub(crate) const CHUNK_BYTES: usize = 256 << 10;
/// At the head of a chunk stand its crc and its length, both in four bytes.
pub(crate) const CHUNK_HEADER: usize = 8;

pub(crate) fn epoch_key(epoch: Epoch) -> [u8; 8] {
    epoch.to_be_bytes()
}

pub(crate) fn epoch_of(key: &[u8]) -> Result<Epoch, Error> {
    key.try_into()
        .map(Epoch::from_be_bytes)
        .map_err(|_| Error::damaged("an epoch's key", format!("{} bytes instead of 8", key.len())))
}

pub(crate) fn change_key(class: Class, epoch: Epoch, relation: RelationId, chunk: u32) -> [u8; 17] {
    let mut key = [0; 17];
    key[0] = class as u8;
    key[1..9].copy_from_slice(&epoch.to_be_bytes());
    key[9..13].copy_from_slice(&relation.0.to_be_bytes());
    key[13..].copy_from_slice(&chunk.to_be_bytes());
    key
}

/// The first key of an epoch's changes of a class.
pub(crate) fn change_prefix(class: Class, epoch: Epoch) -> [u8; 9] {
    let mut key = [0; 9];
    key[0] = class as u8;
    key[1..].copy_from_slice(&epoch.to_be_bytes());
    key
}

pub(crate) fn crc(key: &[u8], rest: &[u8]) -> u32 {
    let mut h = crc32fast::Hasher::new();
    h.update(key);
    h.update(rest);
    h.finalize()
}

/// Puts the crc at the head of a value whose first four bytes were left free.
pub(crate) fn seal(key: &[u8], value: &mut [u8]) {
    let sum = crc(key, &value[4..]);
    value[..4].copy_from_slice(&sum.to_le_bytes());
}

/// The value of a record of `meta` that is numbers.
pub(crate) fn numbers(key: &[u8], numbers: &[u64]) -> Vec<u8> {
    let mut value = vec![0; 4];
    for n in numbers {
        value.extend_from_slice(&n.to_le_bytes());
    }
    seal(key, &mut value);
    value
}

/// Puts length and crc at the head of a chunk, where room was left for them.
pub(crate) fn seal_chunk(key: &[u8], chunk: &mut [u8]) {
    let length = u32::try_from(chunk.len()).expect("a chunk under 4 GiB");
    chunk[4..CHUNK_HEADER].copy_from_slice(&length.to_le_bytes());
    seal(key, chunk);
}

/// The length of a chunk, head and all, by its head. At least that of the head.
pub(crate) fn chunk_length(head: &[u8; CHUNK_HEADER]) -> usize {
    let length = u32::from_le_bytes(head[4..].try_into().expect("four bytes")) as usize;
    length.max(CHUNK_HEADER)
}

/// The value behind its crc, if the crc is right.
pub(crate) fn open<'a>(key: &[u8], value: &'a [u8], subject: impl FnOnce() -> String) -> Result<&'a [u8], Error> {
    let Some((head, rest)) = value.split_first_chunk::<4>() else {
        return Err(Error::damaged(subject(), "too short for a checksum"));
    };
    let (found, expected) = (crc(key, rest), u32::from_le_bytes(*head));
    if found == expected {
        Ok(rest)
    } else {
        Err(Error::damaged(subject(), format!("its checksum is {found:08x}, and {expected:08x} was written")))
    }
}

/// Appends an integer in 7-bit groups, least first.
#[inline]
pub(crate) fn put_varint(out: &mut Vec<u8>, mut v: u64) {
    while v >= 0x80 {
        out.push(v as u8 | 0x80);
        v >>= 7;
    }
    out.push(v as u8);
}

/// Reads one and moves past it. `None` if the bytes end or it does not fit.
#[inline]
pub(crate) fn take_varint(bytes: &[u8], at: &mut usize) -> Option<u64> {
    let first = *bytes.get(*at)?;
    *at += 1;
    if first < 0x80 {
        return Some(u64::from(first));
    }
    let mut v = u64::from(first & 0x7f);
    for shift in (7..64).step_by(7) {
        let b = *bytes.get(*at)?;
        *at += 1;
        v |= u64::from(b & 0x7f) << shift;
        if b < 0x80 {
            return Some(v);
        }
    }
    None
}

/// What a commit record says of one relation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RelationCommit {
    /// Its digest after the epoch (nothing for state).
    pub digest: Digest,
    /// How many rows the epoch changed.
    pub changes: u64,
    /// In how many chunks.
    pub chunks: u32,
}

/// The record that makes an epoch committed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CommitRecord {
    /// The crc of the record before: the records are a chain.
    pub previous: u32,
    /// The oldest epoch that may still be read once this one is durable. Compaction never goes beyond what the
    /// newest durable record allows, so a store opened with a longer retention knows what it does not have.
    pub horizon: Epoch,
    /// Where the changes begin in their segment, if that is where they went.
    pub staged: Option<u64>,
    /// Every relation, by number, changed or not: any one record tells all digests.
    pub relations: Vec<RelationCommit>,
}

impl CommitRecord {
    /// The record's bytes and its crc.
    pub(crate) fn encode(&self, epoch: Epoch) -> (Vec<u8>, u32) {
        let mut out = vec![0; 4];
        out.extend_from_slice(&self.previous.to_le_bytes());
        out.extend_from_slice(&self.horizon.to_le_bytes());
        out.push(u8::from(self.staged.is_some()));
        out.extend_from_slice(&self.staged.unwrap_or_default().to_le_bytes());
        for r in &self.relations {
            out.extend_from_slice(&r.digest.sum.to_le_bytes());
            out.extend_from_slice(&r.digest.rows.to_le_bytes());
            put_varint(&mut out, r.changes);
            put_varint(&mut out, u64::from(r.chunks));
        }
        seal(&epoch_key(epoch), &mut out);
        let crc = u32::from_le_bytes(out[..4].try_into().expect("four bytes"));
        (out, crc)
    }

    /// The record and its crc from its bytes.
    pub(crate) fn decode(epoch: Epoch, value: &[u8], relations: usize) -> Result<(CommitRecord, u32), Error> {
        let subject = || format!("the commit record of epoch {epoch}");
        let body = open(&epoch_key(epoch), value, subject)?;
        let crc = u32::from_le_bytes(value[..4].try_into().expect("four bytes"));
        let parsed = (|| {
            let (previous, body) = body.split_first_chunk::<4>()?;
            let (horizon, body) = body.split_first_chunk::<8>()?;
            let (staged, body) = body.split_first()?;
            let (offset, mut body) = body.split_first_chunk::<8>()?;
            let mut list = Vec::with_capacity(relations);
            while !body.is_empty() {
                let (sum, rest) = body.split_first_chunk::<16>()?;
                let (rows, rest) = rest.split_first_chunk::<8>()?;
                let mut at = 0;
                let changes = take_varint(rest, &mut at)?;
                let chunks = u32::try_from(take_varint(rest, &mut at)?).ok()?;
                let digest = Digest { sum: u128::from_le_bytes(*sum), rows: u64::from_le_bytes(*rows) };
                list.push(RelationCommit { digest, changes, chunks });
                body = &rest[at..];
            }
            (list.len() == relations).then(|| CommitRecord {
                previous: u32::from_le_bytes(*previous),
                horizon: u64::from_le_bytes(*horizon),
                staged: (*staged != 0).then(|| u64::from_le_bytes(*offset)),
                relations: list,
            })
        })();
        parsed.map(|r| (r, crc)).ok_or_else(|| Error::damaged(subject(), "it cannot be read"))
    }
}

/// Builds the keys of `rows`: relation ‖ key ‖ !epoch.
///
/// Keys of tables and views are arrow-row's, none a proper prefix of another, so the epoch may follow at once. An
/// operator's state keys are its own business: they are escaped (0x00 becomes 0x00 0xff) and ended (0x00 0x01),
/// which keeps their order and keeps all versions of one key together.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RowKeys {
    pub relation: RelationId,
    pub escaped: bool,
}

impl RowKeys {
    /// Clears `out` and writes the key of a row's version.
    pub(crate) fn write(self, out: &mut Vec<u8>, key: &[u8], epoch: Epoch) {
        self.write_prefix(out, key);
        if self.escaped {
            out.extend_from_slice(&[0, 1]);
        }
        out.extend_from_slice(&(!epoch).to_be_bytes());
    }

    /// Clears `out` and writes what the keys of all rows at or after `from` are not less than.
    pub(crate) fn write_prefix(self, out: &mut Vec<u8>, from: &[u8]) {
        out.clear();
        out.extend_from_slice(&self.relation.0.to_be_bytes());
        if !self.escaped {
            return out.extend_from_slice(from);
        }
        for b in from {
            out.push(*b);
            if *b == 0 {
                out.push(0xff);
            }
        }
    }

    /// The first key that belongs to a later relation.
    pub(crate) fn end(self) -> Vec<u8> {
        match self.relation.0.checked_add(1) {
            Some(next) => next.to_be_bytes().to_vec(),
            None => vec![0xff; 5],
        }
    }

    /// Puts a key as it was given into `out`, from the stored one without relation and epoch.
    pub(crate) fn read(self, stored: &[u8], out: &mut Vec<u8>) -> Result<(), Error> {
        out.clear();
        if !self.escaped {
            out.extend_from_slice(stored);
            return Ok(());
        }
        let broken = || Error::damaged(format!("a key of relation number {}", self.relation.0), "it is not ended");
        let body = stored.strip_suffix(&[0, 1]).ok_or_else(broken)?;
        let mut at = 0;
        while at < body.len() {
            out.push(body[at]);
            if body[at] == 0 {
                if body.get(at + 1) != Some(&0xff) {
                    return Err(broken());
                }
                at += 1;
            }
            at += 1;
        }
        Ok(())
    }
}

/// A stored key of `rows` as relation ‖ key (the part all versions share) and epoch.
pub(crate) fn split_row_key(key: &[u8]) -> Option<(&[u8], Epoch)> {
    if key.len() < 12 {
        return None;
    }
    let (shared, epoch) = key.split_last_chunk::<8>()?;
    Some((shared, !u64::from_be_bytes(*epoch)))
}

/// The value of a row's version in `rows`.
pub(crate) fn write_row(out: &mut Vec<u8>, row: Option<&[u8]>) {
    out.clear();
    out.push(u8::from(row.is_some()));
    out.extend_from_slice(row.unwrap_or_default());
}

/// A row's version from its value: `Some(None)` says that the row was deleted; `None` that it cannot be read.
pub(crate) fn read_row(value: &[u8]) -> Option<Option<&[u8]>> {
    match value.split_first()? {
        (1, row) => Some(Some(row)),
        (0, []) => Some(None),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn varints_come_back() {
        for v in [0, 1, 127, 128, 300, u64::from(u32::MAX), u64::MAX] {
            let mut out = Vec::new();
            put_varint(&mut out, v);
            let mut at = 0;
            assert_eq!(take_varint(&out, &mut at), Some(v));
            assert_eq!(at, out.len());
            assert_eq!(take_varint(&out[..out.len() - 1], &mut 0), None);
        }
    }

    #[test]
    fn commit_records_come_back_and_notice_any_flipped_bit() {
        let one = RelationCommit { digest: Digest { sum: 7 << 100, rows: 9 }, changes: 300, chunks: 2 };
        let record = CommitRecord { previous: 5, horizon: 3, staged: Some(77), relations: vec![one, one] };
        let (bytes, crc) = record.encode(11);
        assert_eq!(CommitRecord::decode(11, &bytes, 2).unwrap(), (record, crc));
        assert!(CommitRecord::decode(12, &bytes, 2).is_err(), "a record belongs to its epoch");
        for bit in 0..bytes.len() * 8 {
            let mut bad = bytes.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(CommitRecord::decode(11, &bad, 2).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn state_keys_keep_their_order_and_their_versions_together() {
        let keys = RowKeys { relation: RelationId(3), escaped: true };
        let parts: [&[u8]; 5] = [b"", b"\0", b"\x01", b"\xff", b"ab"];
        let mut all: Vec<Vec<u8>> = parts.iter().flat_map(|a| parts.iter().map(|b| [*a, b].concat())).collect();
        all.sort();
        all.dedup();
        let mut stored = Vec::new();
        for key in &all {
            for epoch in [u64::MAX - 1, 300, 1] {
                let mut out = Vec::new();
                keys.write(&mut out, key, epoch);
                let (shared, e) = split_row_key(&out).unwrap();
                assert_eq!(e, epoch);
                let mut back = Vec::new();
                keys.read(&shared[4..], &mut back).unwrap();
                assert_eq!(&back, key);
                stored.push(out);
            }
        }
        assert!(stored.is_sorted());
    }

    #[test]
    fn bytes_are_a_format_and_do_not_move() {
        let hex = |b: &[u8]| b.iter().map(|b| format!("{b:02x}")).collect::<String>();
        assert_eq!(hex(&change_key(Class::State, 5, RelationId(2), 1)), "0100000000000000050000000200000001");
        let mut key = Vec::new();
        RowKeys { relation: RelationId(2), escaped: false }.write(&mut key, b"k", 5);
        assert_eq!(hex(&key), "000000026bfffffffffffffffa");
        let one = RelationCommit { digest: Digest { sum: 1, rows: 1 }, changes: 1, chunks: 1 };
        let record = CommitRecord { previous: 1, horizon: 1, staged: None, relations: vec![one] };
        let (bytes, _) = record.encode(1);
        assert_eq!(
            hex(&bytes[4..]),
            "01000000010000000000000000000000000000000001000000000000000000000000000000010000000000000001\
             01"
        );
    }
}
