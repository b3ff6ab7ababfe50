//! Fixed hashes: which shard owns a key, and the digest of a relation. Both are part of the store's format.

use xxhash_rust::xxh3::{xxh3_64, xxh3_128_with_seed};

use crate::{Change, ChangeSet};

/// How many virtual partitions keys fall into; owned by workers in turn, never named in stored state by worker.
pub const SHARDS: u16 = 1024;

/// The shard of a key's bytes.
pub fn shard_of(key: &[u8]) -> u16 {
    (xxh3_64(key) % u64::from(SHARDS)) as u16
}

/// A digest of a set of rows that does not depend on their order: the sum of the rows' 128-bit hashes. A row's is that
/// of its value, seeded with its key's: two short hashes are quicker than one over both in pieces.
///
/// Kept incrementally: a change adds the new row's hash and takes away the old one's. It guards against
/// damage and divergence, not against an adversary.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Digest {
    /// The sum, modulo 2^128.
    #[serde(with = "hex")]
    pub sum: u128,
    /// How many rows.
    pub rows: u64,
}

impl Digest {
    /// Adds a row.
    pub fn add(&mut self, key: &[u8], value: &[u8]) {
        self.change(&Change { key, before: None, after: Some(value) });
    }

    /// Takes a row away.
    pub fn remove(&mut self, key: &[u8], value: &[u8]) {
        self.change(&Change { key, before: Some(value), after: None });
    }

    /// Applies one key's change.
    pub fn change(&mut self, change: &Change<'_>) {
        let seed = xxh3_64(change.key);
        if let Some(before) = change.before {
            self.sum = self.sum.wrapping_sub(xxh3_128_with_seed(before, seed));
            self.rows = self.rows.wrapping_sub(1);
        }
        if let Some(after) = change.after {
            self.sum = self.sum.wrapping_add(xxh3_128_with_seed(after, seed));
            self.rows = self.rows.wrapping_add(1);
        }
    }

    /// Applies an epoch's changes.
    pub fn apply(&mut self, changes: &ChangeSet) {
        changes.iter().for_each(|change| self.change(&change));
    }
}

mod hex {
    use serde::{Deserialize, Deserializer, Serializer};

    pub fn serialize<S: Serializer>(v: &u128, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(&format!("{v:032x}"))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<u128, D::Error> {
        let text = String::deserialize(d)?;
        u128::from_str_radix(&text, 16).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_a_format_and_do_not_move() {
        assert_eq!(shard_of(b"thalweg"), 809);
        let mut d = Digest::default();
        d.add(b"k", b"v");
        assert_eq!(format!("{:032x}", d.sum), "bd1ae2ca08845530ad56a59fe3682db7");
        d.add(b"a", b"b");
        d.remove(b"k", b"v");
        let mut alone = Digest::default();
        alone.add(b"a", b"b");
        assert_eq!(d, alone);
    }
}
