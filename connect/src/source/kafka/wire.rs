//! What Confluent's serializers put before a value: a byte 0, the schema's id, and for Protobuf which message of the
//! schema it is.

use super::super::cells::Bad;

/// The schema's id, and what follows it.
pub(super) fn framed(value: &[u8]) -> Result<(u32, &[u8]), Bad> {
    match value {
        [0, a, b, c, d, rest @ ..] => Ok((u32::from_be_bytes([*a, *b, *c, *d]), rest)),
        _ => {
            let what = "it does not begin with a byte 0 and a schema's id of four bytes: it is not of the wire format of \
                        schema registries";
            Err(Bad::new("bad_wire_format", what))
        }
    }
}

/// The numbers that say which message of its schema a Protobuf value is, the outermost first, and what follows them.
pub(super) fn indexes(value: &[u8]) -> Result<(Vec<i64>, &[u8]), Bad> {
    let broken = || Bad::new("bad_wire_format", "the numbers of its message type within its schema are broken");
    let (count, mut rest) = number(value).ok_or_else(broken)?;
    // Messages are nested in messages no deeper than this. A count of 0 means the first message.
    if !(0..=64).contains(&count) {
        return Err(broken());
    }
    let mut indexes = Vec::new();
    for _ in 0..count {
        let (index, behind) = number(rest).ok_or_else(broken)?;
        if index < 0 {
            return Err(broken());
        }
        rest = behind;
        indexes.push(index);
    }
    Ok((if count == 0 { vec![0] } else { indexes }, rest))
}

/// A number in zigzag, seven bits a byte, of five bytes at most.
fn number(bytes: &[u8]) -> Option<(i64, &[u8])> {
    let mut bits: u64 = 0;
    for (i, byte) in bytes.iter().take(5).enumerate() {
        bits |= u64::from(byte & 0x7f) << (7 * i);
        if byte & 0x80 == 0 {
            return Some(((bits >> 1) as i64 ^ -((bits & 1) as i64), &bytes[i + 1..]));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stands_before_a_value_is_taken_off() {
        assert_eq!(framed(b"\0\0\0\x01\x02rest"), Ok((258, &b"rest"[..])));
        assert_eq!(framed(b"\0\0\0\0\x01"), Ok((1, &b""[..])));
        for wrong in [&b""[..], b"\0\0\0\0", b"{\"a\":1}", b"\x01\0\0\0\x01x"] {
            assert_eq!(framed(wrong).unwrap_err().reason, "bad_wire_format");
        }
        // The first message; the second message's third; one of two bytes.
        for (value, path, rest) in
            [(&b"\0x"[..], vec![0], "x"), (b"\x04\x02\x04x", vec![1, 2], "x"), (b"\x02\x80\x02", vec![128], "")]
        {
            assert_eq!(indexes(value), Ok((path, rest.as_bytes())));
        }
        for wrong in [&b""[..], b"\x01x", b"\x04\x02", b"\x02\x01", b"\xff\xff\xff\xff\x0f", b"\x80"] {
            assert_eq!(indexes(wrong).unwrap_err().reason, "bad_wire_format", "{wrong:?}");
        }
    }
}
