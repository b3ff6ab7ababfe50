//! Where a page ended: the epoch it was read at and its last key, so that the next page is of the same epoch.
//!
//! Opaque to clients: hexadecimal of relation (4 bytes), epoch (8 bytes), key.

use storage::RelationId;
use types::Epoch;

use crate::problem::{BAD_CURSOR, Problem};

/// Where a page ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Cursor {
    /// The epoch of every page of this scan.
    pub(crate) epoch: Epoch,
    /// The key after which the next page begins.
    pub(crate) key: Vec<u8>,
}

impl Cursor {
    /// The text a client gives back.
    pub(crate) fn encode(&self, relation: RelationId) -> String {
        let mut text = format!("{:08x}{:016x}", relation.0, self.epoch);
        text.push_str(&hex(&self.key));
        text
    }

    /// Reads what a client gave back for this relation.
    pub(crate) fn decode(text: &str, relation: RelationId) -> Result<Cursor, Problem> {
        let bad = || Problem::new(BAD_CURSOR, "this cursor was not given out for this view");
        let bytes = unhex(text).ok_or_else(bad)?;
        let (id, rest) = bytes.split_first_chunk::<4>().ok_or_else(bad)?;
        let (epoch, key) = rest.split_first_chunk::<8>().ok_or_else(bad)?;
        if u32::from_be_bytes(*id) != relation.0 {
            return Err(bad());
        }
        Ok(Cursor { epoch: Epoch::from_be_bytes(*epoch), key: key.to_vec() })
    }
}

/// Bytes as lower-case hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    bytes.iter().flat_map(|b| [b >> 4, b & 15]).map(|d| char::from(DIGITS[usize::from(d)])).collect()
}

/// Bytes from hexadecimal.
pub(crate) fn unhex(text: &str) -> Option<Vec<u8>> {
    if !text.len().is_multiple_of(2) {
        return None;
    }
    let digit = |b: u8| char::from(b).to_digit(16).map(|d| d as u8);
    text.as_bytes().chunks_exact(2).map(|pair| Some(digit(pair[0])? << 4 | digit(pair[1])?)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    proptest::proptest! {
        #[test]
        fn cursors_come_back_as_they_went(epoch: u64, key: Vec<u8>) {
            let cursor = Cursor { epoch, key };
            proptest::prop_assert_eq!(Cursor::decode(&cursor.encode(RelationId(3)), RelationId(3)).unwrap(), cursor);
        }

        #[test]
        fn no_text_is_anything_but_a_cursor_or_a_refusal(text: String) {
            let _ = Cursor::decode(&text, RelationId(0));
        }
    }

    #[test]
    fn a_cursor_of_another_view_is_refused() {
        let cursor = Cursor { epoch: 1, key: vec![1] };
        assert_eq!(Cursor::decode(&cursor.encode(RelationId(3)), RelationId(4)).unwrap_err().code, BAD_CURSOR);
    }
}
