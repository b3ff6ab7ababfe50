//! One cell as order-preserving bytes, written and read without arrays: what a single row needs.
//!
//! The bytes are arrow-row's, ascending, nulls first; a test holds both to each other. A byte says whether the cell is
//! there (0 or 1). Then numbers are big-endian with the sign bit turned; floats first in the order of `total_cmp`. A
//! string's first byte is 0 (absent), 1 (empty) or 2; then come blocks of 8 bytes (the first four) or 32, padded with
//! zeros, each followed by 255 if there is another and else by the number of its bytes that count.

use crate::{Type, Value};

const SMALL: usize = 8;
const LARGE: usize = 32;
const MORE: u8 = 255;

/// Appends a cell's bytes. A cell of another type is a bug of the caller and panics.
pub(crate) fn write(out: &mut Vec<u8>, ty: Type, cell: &Value) {
    match (ty, cell) {
        (Type::String, Value::Null) => out.push(0),
        (Type::String, Value::Str(text)) => write_string(out, text.as_bytes()),
        (_, Value::Null) => out.resize(out.len() + 1 + width(ty), 0),
        (Type::Bool, Value::Bool(v)) => out.extend_from_slice(&[1, u8::from(*v)]),
        (Type::Int64, Value::Int(v)) | (Type::Timestamp, Value::Time(v)) => write_int(out, *v),
        (Type::Float64, Value::Float(v)) => write_int(out, total_order(v.to_bits() as i64)),
        (Type::Decimal, Value::Decimal(v)) => {
            out.push(1);
            out.extend_from_slice(&(v ^ i128::MIN).to_be_bytes());
        }
        (ty, cell) => panic!("{cell:?} in a column of type {ty}"),
    }
}

/// Reads a cell and moves past it. `None`: these are no bytes of such a cell.
pub(crate) fn read(bytes: &mut &[u8], ty: Type) -> Option<Value> {
    let there = *bytes.split_off_first()?;
    if ty == Type::String {
        return match there {
            0 => Some(Value::Null),
            1 => Some(Value::Str(String::new())),
            2 => read_string(bytes),
            _ => None,
        };
    }
    let number = bytes.split_off(..width(ty))?;
    match there {
        0 => return Some(Value::Null),
        1 => {}
        _ => return None,
    }
    let int = || Some(i64::from_be_bytes(number.try_into().ok()?) ^ i64::MIN);
    Some(match ty {
        Type::Bool => Value::Bool(number[0] != 0),
        Type::Int64 => Value::Int(int()?),
        Type::Timestamp => Value::Time(int()?),
        Type::Float64 => Value::Float(f64::from_bits(total_order(int()?) as u64)),
        Type::Decimal => Value::Decimal(i128::from_be_bytes(number.try_into().ok()?) ^ i128::MIN),
        Type::String => return None,
    })
}

/// Moves past a cell.
pub(crate) fn skip(bytes: &mut &[u8], ty: Type) -> Option<()> {
    if ty != Type::String {
        bytes.split_off(..1 + width(ty))?;
        return Some(());
    }
    if *bytes.split_off_first()? == 2 {
        blocks(bytes, |_| ())?;
    }
    Some(())
}

/// The bytes of a cell that is not a string, without the first.
fn width(ty: Type) -> usize {
    match ty {
        Type::Bool => 1,
        Type::Int64 | Type::Float64 | Type::Timestamp => 8,
        Type::Decimal => 16,
        Type::String => 0,
    }
}

fn write_int(out: &mut Vec<u8>, v: i64) {
    out.push(1);
    out.extend_from_slice(&(v ^ i64::MIN).to_be_bytes());
}

/// A float's bits as an integer of the same order, and back (`f64::total_cmp`).
fn total_order(bits: i64) -> i64 {
    bits ^ (((bits >> 63) as u64) >> 1) as i64
}

fn write_string(out: &mut Vec<u8>, text: &[u8]) {
    if text.is_empty() {
        return out.push(1);
    }
    out.push(2);
    let (small, large) = text.split_at(text.len().min(LARGE));
    let parts = small.chunks(SMALL).map(|b| (b, SMALL)).chain(large.chunks(LARGE).map(|b| (b, LARGE)));
    let mut left = text.len();
    for (block, size) in parts {
        left -= block.len();
        out.extend_from_slice(block);
        out.resize(out.len() + size - block.len(), 0);
        out.push(if left > 0 { MORE } else { block.len() as u8 });
    }
}

fn read_string(bytes: &mut &[u8]) -> Option<Value> {
    let mut text = Vec::with_capacity(LARGE);
    blocks(bytes, |block| text.extend_from_slice(block))?;
    String::from_utf8(text).ok().map(Value::Str)
}

/// Gives the blocks of a string that is neither absent nor empty, without their padding, and moves past them.
fn blocks<'a>(bytes: &mut &'a [u8], mut each: impl FnMut(&'a [u8])) -> Option<()> {
    for count in 0.. {
        let size = if count < LARGE / SMALL { SMALL } else { LARGE };
        let block = bytes.split_off(..size)?;
        match *bytes.split_off_first()? {
            MORE => each(block),
            used => return block.get(..usize::from(used)).map(each),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::row::{RowConverter, SortField};

    fn check(ty: Type, value: &Value) {
        let converter = RowConverter::new(vec![SortField::new(ty.arrow())]).unwrap();
        let rows = converter.convert_columns(&[Value::array(ty, [value])]).unwrap();
        let mut bytes = Vec::new();
        write(&mut bytes, ty, value);
        assert_eq!(bytes, rows.row(0).data(), "{value:?}");
        bytes.push(42);
        let mut rest = bytes.as_slice();
        assert_eq!(read(&mut rest, ty).as_ref(), Some(value));
        assert_eq!(rest, [42]);
        let mut rest = bytes.as_slice();
        assert_eq!((skip(&mut rest, ty), rest), (Some(()), &[42][..]));
        for cut in 0..bytes.len() - 1 {
            assert_eq!(read(&mut &bytes[..cut], ty), None, "{value:?} cut at {cut}");
        }
    }

    #[test]
    fn cells_are_the_bytes_of_arrow_row() {
        for ty in Type::NAMES.map(|(_, ty)| ty) {
            check(ty, &Value::Null);
        }
        check(Type::Bool, &Value::Bool(true));
        check(Type::Bool, &Value::Bool(false));
        for v in [0, 1, -1, 7, i64::MAX, i64::MIN] {
            check(Type::Int64, &Value::Int(v));
            check(Type::Timestamp, &Value::Time(v));
            check(Type::Decimal, &Value::Decimal(i128::from(v) * 1_000_000_007));
        }
        for v in [0.0, 1.5, -1.5, f64::NAN, f64::INFINITY, f64::NEG_INFINITY, f64::MIN_POSITIVE, 1e300] {
            check(Type::Float64, &Value::Float(v));
        }
        for len in (0..70).chain([95, 96, 97, 128, 1_000]) {
            check(Type::String, &Value::Str("x".repeat(len)));
        }
        check(Type::String, &Value::Str("\0äöü\u{10ffff}".into()));
    }
}
