//! The events most benches read, and the bare loop they are held against: parse a line, fold it into a hash map.

use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::Path;

use hashbrown::HashMap;
use rustc_hash::FxBuildHasher;

use crate::measure::Rng;

/// What is kept of a key.
#[derive(Clone, Copy, Debug)]
pub struct Group {
    /// Events.
    pub count: u64,
    /// Their sum, in the order of the file.
    pub sum: f64,
    /// Their least value.
    pub min: f64,
    /// Their greatest value.
    pub max: f64,
}

/// Groups by key. Looked into, never iterated.
pub type Groups = HashMap<i64, Group, FxBuildHasher>;

/// Writes `events` events as CSV: `key` uniform below `keys`, `value` with two decimals up to 1,000.
pub fn write_events(path: &Path, events: u64, keys: u64, seed: u64) -> Result<(), String> {
    let write = || {
        let mut out = BufWriter::with_capacity(1 << 20, File::create(path)?);
        out.write_all(b"key,value\n")?;
        let mut rng = Rng::new(seed);
        let mut line = Vec::new();
        for _ in 0..events {
            line.clear();
            push_event(&mut line, rng.below(keys), rng.below(100_000));
            out.write_all(&line)?;
        }
        out.into_inner()?.sync_all()
    };
    write().map_err(|e: std::io::Error| format!("{}: {e}", path.display()))
}

/// Appends the line of one event, its value in hundredths.
pub fn push_event(line: &mut Vec<u8>, key: u64, hundredths: u64) {
    push_number(line, key);
    line.push(b',');
    push_number(line, hundredths / 100);
    line.push(b'.');
    line.push(b'0' + (hundredths / 10 % 10) as u8);
    line.push(b'0' + (hundredths % 10) as u8);
    line.push(b'\n');
}

/// Appends a number in decimal.
pub fn push_number(line: &mut Vec<u8>, number: u64) {
    let mut digits = [0; 20];
    let mut at = digits.len();
    let mut rest = number;
    loop {
        at -= 1;
        digits[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    line.extend_from_slice(&digits[at..]);
}

/// The limit: reads the whole file, parses it, folds it. One thread, nothing kept, nothing checked that need not be.
pub fn bare_aggregate(path: &Path) -> Result<Groups, String> {
    let text = std::fs::read(path).map_err(|e| format!("{}: {e}", path.display()))?;
    let mut groups = Groups::default();
    let start = text.iter().position(|b| *b == b'\n').map_or(text.len(), |i| i + 1);
    fold_lines(&text[start..], &mut groups).ok_or_else(|| format!("{} is no file of ours", path.display()))?;
    Ok(groups)
}

/// Folds whole lines of `key,value`. `None` if they are not such lines.
pub fn fold_lines(text: &[u8], groups: &mut Groups) -> Option<()> {
    let mut at = 0;
    while at < text.len() {
        let mut key = 0;
        while text[at] != b',' {
            key = key * 10 + i64::from(text[at].wrapping_sub(b'0'));
            at += 1;
            if at == text.len() {
                return None;
            }
        }
        at += 1;
        // Digits and a scale: with at most 15 digits the quotient is the nearest double.
        let (mut digits, mut scale, mut fraction) = (0_u64, 1.0, false);
        while at < text.len() && text[at] != b'\n' {
            if text[at] == b'.' {
                fraction = true;
            } else {
                digits = digits * 10 + u64::from(text[at].wrapping_sub(b'0'));
                scale *= if fraction { 10.0 } else { 1.0 };
            }
            at += 1;
        }
        at += 1;
        let value = digits as f64 / scale;
        let group = groups.entry(key).or_insert(Group { count: 0, sum: 0.0, min: value, max: value });
        group.count += 1;
        group.sum += value;
        group.min = group.min.min(value);
        group.max = group.max.max(value);
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bare_loop_reads_what_is_written() {
        let mut text = Vec::new();
        push_event(&mut text, 7, 1_050);
        push_event(&mut text, 12_345, 7);
        push_event(&mut text, 7, 99_999);
        assert_eq!(text, b"7,10.50\n12345,0.07\n7,999.99\n");
        let mut groups = Groups::default();
        fold_lines(&text, &mut groups).unwrap();
        let seven = groups[&7];
        assert_eq!((seven.count, seven.sum, seven.min, seven.max), (2, 10.5 + 999.99, 10.5, 999.99));
        assert_eq!(groups[&12_345].sum, 0.07);
        assert!(fold_lines(b"7", &mut groups).is_none());
    }
}
