//! CSV, decoded from blocks of bytes straight into columns.
//!
//! Two ways lead to a row. The fast one reads the fields of a plain line one after the other, each by its column's
//! type, and gives up at anything unusual: a quote, blanks, an exponent, a mistake. The exact one then looks at the
//! same record again and either finds the same kind of row or says what is wrong. What the rows and faults are does
//! not depend on how the input is cut into blocks.
//!
//! Rules: RFC 4180 with `\n` or `\r\n`. Blank lines are no records. A quote opens a quoted field only at the
//! field's start; further on it is an ordinary character. An empty unquoted field is null, a quoted one (`""`) is an
//! empty string. A quoted field may hold line ends. A record whose quoting is broken (text after the closing quote,
//! a quote still open at the end or after `record_bytes_max`) is the *line* on which it begins, so that a stray quote
//! costs one line and not the rest of the file.

use std::ops::Range;

use types::{Fault, Type};

use super::cells::{Bad, Cells, RowSpec, Rows};

/// What became of a block.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Decoded {
    /// So many of its bytes are done with.
    pub consumed: usize,
    /// The rest is a record that is not all there. False: the row limit was reached.
    pub starved: bool,
}

/// Decodes CSV records. Holds no bytes: what is not consumed is given again, with more behind it.
#[derive(Clone, Debug)]
pub(crate) struct CsvDecoder {
    file: String,
    delimiter: u8,
    null: Option<Vec<u8>>,
    layout: Vec<Field>,
    /// The line on which the next record begins, from 1.
    pub line: u64,
    /// True after the beginning of a bad record whose line has not ended yet: all up to its end is passed over.
    pub skipping: bool,
    /// Why no record of the file is a row, if its header is not as declared.
    pub misfit: Option<Bad>,
    /// Whether the fast way may be tried; tests hold it against the exact one.
    fast: bool,
    fields: Vec<Piece>,
    unescaped: Vec<u8>,
}

/// What to do with a field of the file.
#[derive(Clone, Copy, Debug)]
struct Field {
    column: Option<usize>,
    ty: Type,
}

/// A field found by [`split`].
#[derive(Clone, Debug)]
pub(crate) struct Piece {
    range: Range<usize>,
    /// The text is in the scratch space: it had doubled quotes.
    scratch: bool,
    quoted: bool,
}

impl Piece {
    /// Whether it stands in quotes: then it is not null, even if empty.
    pub fn is_quoted(&self) -> bool {
        self.quoted
    }

    pub fn text<'a>(&self, window: &'a [u8], scratch: &'a [u8]) -> &'a [u8] {
        if self.scratch { &scratch[self.range.clone()] } else { &window[self.range.clone()] }
    }
}

/// What [`split`] found.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Split {
    /// A record that ends before `end`; the next one begins at `next`, so many lines further on.
    Record { end: usize, next: usize, lines: u64 },
    /// The end of the record is not there.
    More,
    /// Its quoting is broken.
    Broken(&'static str),
}

/// Cuts the record at the start of the window into fields. `whole`: nothing follows the window.
pub(crate) fn split(
    window: &[u8],
    delimiter: u8,
    whole: bool,
    fields: &mut Vec<Piece>,
    scratch: &mut Vec<u8>,
) -> Split {
    fields.clear();
    scratch.clear();
    let mut lines = 0;
    let mut p = 0;
    loop {
        let after = if window.get(p) == Some(&b'"') {
            let (start, scratch_start) = (p + 1, scratch.len());
            let mut from = start;
            let close = loop {
                match memchr::memchr(b'"', &window[from..]) {
                    None if whole => return Split::Broken("a quote that opens on this line is never closed"),
                    None => return Split::More,
                    Some(i) => {
                        let at = from + i;
                        if window.get(at + 1) == Some(&b'"') {
                            // Doubled: a quote that belongs to the text, which from here on is a copy.
                            scratch.extend_from_slice(&window[from..=at]);
                            from = at + 2;
                        } else {
                            break at;
                        }
                    }
                }
            };
            lines += memchr::memchr_iter(b'\n', &window[start..close]).count() as u64;
            if from == start {
                fields.push(Piece { range: start..close, scratch: false, quoted: true });
            } else {
                scratch.extend_from_slice(&window[from..close]);
                fields.push(Piece { range: scratch_start..scratch.len(), scratch: true, quoted: true });
            }
            close + 1
        } else {
            let Some(i) = memchr::memchr2(delimiter, b'\n', &window[p..]) else {
                if !whole {
                    return Split::More;
                }
                fields.push(Piece { range: p..window.len(), scratch: false, quoted: false });
                return Split::Record { end: window.len(), next: window.len(), lines };
            };
            let end = p + i;
            if window[end] == b'\n' {
                let text_end = if end > p && window[end - 1] == b'\r' { end - 1 } else { end };
                fields.push(Piece { range: p..text_end, scratch: false, quoted: false });
                return Split::Record { end, next: end + 1, lines: lines + 1 };
            }
            fields.push(Piece { range: p..end, scratch: false, quoted: false });
            p = end + 1;
            continue;
        };
        match (window.get(after), window.get(after + 1)) {
            (Some(b), _) if *b == delimiter => p = after + 1,
            (Some(b'\n'), _) => return Split::Record { end: after, next: after + 1, lines: lines + 1 },
            (Some(b'\r'), Some(b'\n')) => return Split::Record { end: after + 1, next: after + 2, lines: lines + 1 },
            (None, _) | (Some(b'\r'), None) if !whole => return Split::More,
            (None, _) => return Split::Record { end: after, next: after, lines },
            _ => return Split::Broken("text follows a closing quote"),
        }
    }
}

impl CsvDecoder {
    /// A decoder for a file whose fields are, in order, these columns (or none of ours).
    pub fn new(file: &str, delimiter: u8, null: Option<&str>, fields: &[Option<usize>], spec: &RowSpec) -> CsvDecoder {
        CsvDecoder {
            file: file.to_owned(),
            delimiter,
            null: null.map(|n| n.as_bytes().to_vec()),
            layout: fields
                .iter()
                .map(|c| Field { column: *c, ty: c.map_or(Type::String, |c| spec.columns[c].ty) })
                .collect(),
            line: 1,
            skipping: false,
            misfit: None,
            // The fast way takes digits for a number before it asks whether they mean null.
            fast: !null.is_some_and(|n| n.starts_with(|c: char| c.is_ascii_digit() || c == '-' || c == '.')),
            fields: Vec::new(),
            unescaped: Vec::new(),
        }
    }

    /// Decodes the records of a block into `rows` until it has `records_max`. `last`: the input ends with this block.
    pub fn decode(&mut self, block: &[u8], last: bool, rows: &mut Rows, records_max: usize) -> Decoded {
        let mut p = 0;
        // Every line that begins before this is all there, unless a quote makes it longer.
        let complete = memchr::memrchr(b'\n', block).map_or(0, |i| i + 1);
        loop {
            if self.skipping {
                match memchr::memchr(b'\n', &block[p..]) {
                    Some(i) => (p, self.line, self.skipping) = (p + i + 1, self.line + 1, false),
                    None => return Decoded { consumed: block.len(), starved: true },
                }
            }
            if self.fast && self.misfit.is_none() {
                while p < complete && rows.records() < records_max {
                    let Some(next) = self.fast_row(&block[..complete], p, rows) else { break };
                    // An error leaves the row to be taken back below.
                    if next - p > rows.spec.record_bytes_max || rows.commit().is_err() {
                        break;
                    }
                    p = next;
                    self.line += 1;
                }
                rows.rollback();
            }
            match &block[p..] {
                [b'\n', ..] => (p, self.line) = (p + 1, self.line + 1),
                [b'\r', b'\n', ..] => (p, self.line) = (p + 2, self.line + 1),
                [] => return Decoded { consumed: p, starved: true },
                [b'\r'] if !last => return Decoded { consumed: p, starved: true },
                [b'\r'] => return Decoded { consumed: p + 1, starved: true },
                _ if rows.records() >= records_max => return Decoded { consumed: p, starved: false },
                _ => match self.exact(block, p, last, rows) {
                    Some(next) => p = next,
                    None => return Decoded { consumed: p, starved: true },
                },
            }
        }
    }

    /// Appends the cells of a record that stands alone, with or without a line end behind it.
    pub fn message(&mut self, text: &[u8], rows: &mut Rows) -> Result<(), Bad> {
        let mut fields = std::mem::take(&mut self.fields);
        let mut unescaped = std::mem::take(&mut self.unescaped);
        let row = match split(text, self.delimiter, true, &mut fields, &mut unescaped) {
            Split::Record { next, .. } if next == text.len() => self.row(text, &fields, &unescaped, rows),
            Split::Record { .. } => Err(Bad::new("several_records", "the message holds more than one line")),
            Split::Broken(what) => Err(Bad::new("broken_quotes", what)),
            Split::More => unreachable!("nothing follows the text"),
        };
        (self.fields, self.unescaped) = (fields, unescaped);
        row
    }

    /// Appends the cells of a plain line and gives the start of the next; `None` at anything unusual.
    /// `block` ends with a line end.
    #[inline]
    fn fast_row(&self, block: &[u8], start: usize, rows: &mut Rows) -> Option<usize> {
        let last = self.layout.len() - 1;
        if last == 0 && matches!(block[start], b'\n' | b'\r') {
            return None;
        }
        let mut p = start;
        for (i, field) in self.layout.iter().enumerate() {
            let first = *block.get(p)?;
            if first == b'"' {
                return None;
            }
            let end = match field.column {
                None => p + self.field_end(block, p, i == last)?,
                Some(column) => {
                    let builder = &mut rows.columns[column];
                    match &mut builder.cells {
                        Cells::Int(v) if first.wrapping_sub(b'-') < 13 => {
                            let (value, end) = fast_int(block, p)?;
                            v.push(value);
                            end
                        }
                        Cells::Float(v) if first.wrapping_sub(b'-') < 13 => {
                            let (value, end) = fast_float(block, p)?;
                            v.push(value);
                            end
                        }
                        _ => {
                            let found = p + self.field_end(block, p, i == last)?;
                            let end =
                                if i == last && found > p && block[found - 1] == b'\r' { found - 1 } else { found };
                            let text = &block[p..end];
                            if text.is_empty() || self.null.as_deref() == Some(text) {
                                builder.push_null();
                            } else if field.ty == Type::String {
                                if !plain(text) {
                                    return None;
                                }
                                builder.push_str(text);
                            } else {
                                let spec = &rows.spec;
                                builder.push_text(text, &spec.columns[column], &spec.time).ok()?;
                            }
                            end
                        }
                    }
                }
            };
            match *block.get(end)? {
                b if b == self.delimiter && i < last => p = end + 1,
                b'\n' if i == last => return Some(end + 1),
                b'\r' if i == last && block.get(end + 1) == Some(&b'\n') => return Some(end + 2),
                _ => return None,
            }
        }
        None
    }

    #[inline]
    fn field_end(&self, block: &[u8], p: usize, last: bool) -> Option<usize> {
        if last {
            memchr::memchr2(b'\n', self.delimiter, &block[p..])
        } else {
            memchr::memchr2(self.delimiter, b'\n', &block[p..])
        }
    }

    /// Decodes one record, good or bad, and gives the start of the next; `None` if it is not all there.
    fn exact(&mut self, block: &[u8], p: usize, last: bool, rows: &mut Rows) -> Option<usize> {
        // Only so much of the record is ever looked at, so that what is said of it does not depend on the block.
        let max = rows.spec.record_bytes_max;
        let window = &block[p..block.len().min(p + max + 1)];
        let full = window.len() > max;
        let whole = last && !full;
        let mut fields = std::mem::take(&mut self.fields);
        let mut unescaped = std::mem::take(&mut self.unescaped);
        let found = split(window, self.delimiter, whole, &mut fields, &mut unescaped);
        let next = match found {
            Split::Record { end, .. } if end > max => self.bad_line(block, p, last, rows, too_large(max)),
            Split::More if full => self.bad_line(block, p, last, rows, too_large(max)),
            Split::More => None,
            Split::Broken(what) => self.bad_line(block, p, last, rows, Bad::new("broken_quotes", what)),
            Split::Record { end, next, lines } => {
                let row = self.row(window, &fields, &unescaped, rows).and_then(|()| rows.commit());
                if let Err(bad) = row {
                    let raw = window[..end].strip_suffix(b"\r").unwrap_or(&window[..end]);
                    rows.reject(bad, format!("{}:{}", self.file, self.line), raw);
                }
                self.line += lines;
                Some(p + next)
            }
        };
        (self.fields, self.unescaped) = (fields, unescaped);
        next
    }

    /// Appends the cells of a record.
    fn row(&self, window: &[u8], fields: &[Piece], unescaped: &[u8], rows: &mut Rows) -> Result<(), Bad> {
        if let Some(misfit) = &self.misfit {
            return Err(misfit.clone());
        }
        if fields.len() != self.layout.len() {
            return Err(Bad::new(
                "ragged_row",
                format!("expected {} fields, found {}", self.layout.len(), fields.len()),
            ));
        }
        for (piece, field) in fields.iter().zip(&self.layout) {
            let Some(column) = field.column else { continue };
            let text = piece.text(window, unescaped);
            let spec = &rows.spec;
            let builder = &mut rows.columns[column];
            if !piece.quoted && (text.is_empty() || self.null.as_deref() == Some(text)) {
                builder.push_null();
            } else {
                builder.push_text(text, &spec.columns[column], &spec.time)?;
            }
        }
        Ok(())
    }

    /// Makes a fault of the line at `p`, and of no more than the line.
    fn bad_line(&mut self, block: &[u8], p: usize, last: bool, rows: &mut Rows, bad: Bad) -> Option<usize> {
        let next = bad_line(&block[p..], last, rows, bad, &self.file, self.line)?;
        match next {
            Some(next) => {
                self.line += 1;
                Some(p + next)
            }
            None => {
                self.skipping = !last;
                Some(block.len())
            }
        }
    }
}

/// A record that is too large to be looked at.
pub(crate) fn too_large(max: usize) -> Bad {
    Bad::new("record_too_large", format!("the record is longer than {max} bytes"))
}

/// Makes a fault of the line at the start of the block. `Some(Some(n))`: the next line begins at `n`. `Some(None)`:
/// the line's end is not there and the rest of it is to be passed over. `None`: give more first, so that the fault's
/// raw text does not depend on the block.
pub(crate) fn bad_line(
    block: &[u8],
    last: bool,
    rows: &mut Rows,
    bad: Bad,
    file: &str,
    line: u64,
) -> Option<Option<usize>> {
    let max = rows.spec.record_bytes_max;
    let newline = memchr::memchr(b'\n', block);
    if newline.is_none() && !last && block.len() <= max {
        return None;
    }
    let text = &block[..newline.unwrap_or(block.len())];
    let text = text.strip_suffix(b"\r").unwrap_or(text);
    rows.reject(bad, format!("{file}:{line}"), &text[..text.len().min(max).min(Fault::RAW_BYTES_MAX)]);
    Some(newline.map(|n| n + 1))
}

/// Whether text can be kept as it is: UTF-8 without NUL.
#[inline]
fn plain(text: &[u8]) -> bool {
    // Most strings are short and ASCII: one pass over the bytes answers both.
    text.iter().all(|b| b.wrapping_sub(1) < 127)
        || (std::str::from_utf8(text).is_ok() && memchr::memchr(0, text).is_none())
}

/// An integer of at most 18 digits at `p`, and where it ends.
#[inline]
fn fast_int(block: &[u8], p: usize) -> Option<(i64, usize)> {
    let negative = block[p] == b'-';
    let start = p + usize::from(negative);
    let mut value: i64 = 0;
    let mut at = start;
    for b in &block[start..] {
        let digit = b.wrapping_sub(b'0');
        if digit > 9 {
            break;
        }
        value = value.wrapping_mul(10).wrapping_add(i64::from(digit));
        at += 1;
    }
    // More digits may have wrapped around.
    (at > start && at - start <= 18).then_some((if negative { value.wrapping_neg() } else { value }, at))
}

/// Ten to powers a double holds exactly.
const POWERS: [f64; 19] =
    [1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18];

/// A decimal number at `p`, and where it ends. With a mantissa below 2⁵³ and an exact power of ten one division is
/// rounded once and therefore right (Clinger, "How to read floating point numbers accurately", 1990); the rest is
/// left to the standard library, which is right too.
#[inline]
fn fast_float(block: &[u8], p: usize) -> Option<(f64, usize)> {
    let negative = block[p] == b'-';
    let start = p + usize::from(negative);
    let mut mantissa: u64 = 0;
    let mut point = None;
    let mut at = start;
    for b in &block[start..] {
        let digit = b.wrapping_sub(b'0');
        if digit <= 9 {
            mantissa = mantissa.wrapping_mul(10).wrapping_add(u64::from(digit));
        } else if *b == b'.' && point.is_none() {
            point = Some(at);
        } else {
            break;
        }
        at += 1;
    }
    let fraction = point.map_or(0, |q| at - q - 1);
    let digits = at - start - usize::from(point.is_some());
    if matches!(block.get(at), Some(b'e' | b'E')) {
        return None;
    }
    if digits > 0 && digits <= 18 && mantissa < 1 << 53 {
        let value = mantissa as f64 / POWERS[fraction];
        return Some((if negative { -value } else { value }, at));
    }
    let value: f64 = std::str::from_utf8(&block[p..at]).ok()?.parse().ok()?;
    value.is_finite().then_some((value, at))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;
    use types::{Column, Value};

    use super::*;
    use types::time::TimeFormat;

    fn spec(columns: &[(&str, Type)], max: usize) -> Arc<RowSpec> {
        let columns = columns.iter().map(|(n, t)| Column { name: (*n).into(), ty: *t, nullable: true }).collect();
        Arc::new(RowSpec::new(columns, &[], None, TimeFormat::Auto, max))
    }

    /// Rows as values with their seqs, and faults as (seq, reason, provenance, raw).
    type Seen = (Vec<(u64, Vec<Value>)>, Vec<(u64, String, String, String)>);

    fn seen(rows: &mut Rows) -> Seen {
        let got = rows.take(serde_json::Value::Null, serde_json::Value::Null);
        assert_eq!(got.rows.num_rows() + got.faults.len(), (got.next_seq - got.first_seq) as usize);
        let seqs = got.seqs.unwrap_or_else(|| (got.first_seq..got.next_seq).collect());
        let cells = |r| got.rows.columns().iter().map(|c| Value::at(c, r)).collect();
        (
            seqs.iter().enumerate().map(|(r, s)| (*s, cells(r))).collect(),
            got.faults.into_iter().map(|f| (f.seq, f.reason, f.provenance, f.raw)).collect(),
        )
    }

    fn decode(text: &[u8], block: usize, fast: bool, spec: &Arc<RowSpec>, fields: &[Option<usize>]) -> Seen {
        let mut decoder = CsvDecoder::new("f.csv", b',', Some("\\N"), fields, spec);
        decoder.fast = fast;
        let mut rows = Rows::new("s", spec.clone(), 0);
        let (mut start, mut end) = (0, 0);
        loop {
            end = (end + block).min(text.len());
            let last = end == text.len();
            let got = decoder.decode(&text[start..end], last, &mut rows, usize::MAX);
            assert!(got.starved);
            start += got.consumed;
            if last {
                assert_eq!(start, end, "all is consumed at the end");
                return seen(&mut rows);
            }
        }
    }

    /// Decodes in every way and holds them against each other; gives the rows as JSON and the faults' reasons.
    #[track_caller]
    fn check(columns: &[(&str, Type)], text: &[u8], rows: &[&str], faults: &[&str]) {
        let spec = spec(columns, 64);
        let fields: Vec<_> = (0..columns.len()).map(Some).collect();
        let (good, bad) = decode(text, text.len().max(1), true, &spec, &fields);
        for block in 1..=text.len() {
            for fast in [true, false] {
                assert_eq!(
                    decode(text, block, fast, &spec, &fields),
                    (good.clone(), bad.clone()),
                    "block {block}, fast {fast}"
                );
            }
        }
        let shown: Vec<String> = good
            .iter()
            .map(|(seq, cells)| {
                let texts: Vec<String> = cells.iter().map(json).collect();
                format!("{seq} [{}]", texts.join(","))
            })
            .collect();
        assert_eq!(shown, rows);
        let shown: Vec<String> =
            bad.iter().map(|(seq, reason, at, raw)| format!("{seq} {reason} {at} {raw}")).collect();
        assert_eq!(shown, faults);
    }

    fn json(cell: &Value) -> String {
        let mut out = Vec::new();
        types::json::write_value(&mut out, cell);
        String::from_utf8(out).unwrap()
    }

    const ISB: [(&str, Type); 3] = [("i", Type::Int64), ("s", Type::String), ("b", Type::Bool)];

    #[test]
    fn plain_lines_quotes_nulls_and_line_ends() {
        check(
            &ISB,
            b"1,a,true\r\n-2,\"b,\"\"c\"\"\nd\",false\n\n,,\n3,\"\",\\N\n +4 , x ,1\n5,\"q\",0",
            &[
                "0 [1,\"a\",true]",
                "1 [-2,\"b,\\\"c\\\"\\nd\",false]",
                "2 [null,null,null]",
                "3 [3,\"\",null]",
                "4 [4,\" x \",true]",
                "5 [5,\"q\",false]",
            ],
            &[],
        );
    }

    #[test]
    fn every_bad_record_is_one_fault_with_its_line() {
        check(
            &ISB,
            b"1,a,true\nx,a,true\n1,a\n1,a,true,5\n1,\xff,true\n1,\0,true\n9223372036854775808,a,true\n1,a,yes\n\"\",a,true\n2,b,false\n",
            &["0 [1,\"a\",true]", "9 [2,\"b\",false]"],
            &[
                "1 bad_value f.csv:2 x,a,true",
                "2 ragged_row f.csv:3 1,a",
                "3 ragged_row f.csv:4 1,a,true,5",
                "4 invalid_utf8 f.csv:5 1,\u{fffd},true",
                "5 nul_byte f.csv:6 1,\0,true",
                "6 out_of_range f.csv:7 9223372036854775808,a,true",
                "7 bad_value f.csv:8 1,a,yes",
                "8 bad_value f.csv:9 \"\",a,true",
            ],
        );
    }

    #[test]
    fn a_broken_quote_costs_its_line_and_no_more() {
        check(
            &ISB,
            b"1,\"a\"x,true\n2,b,true\n3,\"open,true\n4,c,true\n5,d\"e,true\n",
            &["1 [2,\"b\",true]", "3 [4,\"c\",true]", "4 [5,\"d\\\"e\",true]"],
            &["0 broken_quotes f.csv:1 1,\"a\"x,true", "2 broken_quotes f.csv:3 3,\"open,true"],
        );
    }

    #[test]
    fn a_gigantic_record_is_one_fault_and_reading_goes_on_at_the_next_line() {
        let long = "y".repeat(200);
        let quoted = format!("1,\"{}\n{}\",true", "z".repeat(40), "z".repeat(40));
        let text = format!("1,a,true\n2,{long},true\n3,b,true\n{quoted}\n4,{long}");
        check(
            &ISB,
            text.as_bytes(),
            &["0 [1,\"a\",true]", "2 [3,\"b\",true]"],
            &[
                &format!("1 record_too_large f.csv:2 2,{}", &long[..62]),
                &format!("3 record_too_large f.csv:4 1,\"{}", "z".repeat(40)),
                &format!("4 ragged_row f.csv:5 {}\",true", "z".repeat(40)),
                &format!("5 record_too_large f.csv:6 4,{}", &long[..62]),
            ],
        );
    }

    #[test]
    fn numbers_are_read_as_the_standard_library_reads_them() {
        let texts = [
            "0",
            "-0",
            "1.",
            ".5",
            "1e5",
            "-1E-3",
            "0.1",
            "123456789.987654321",
            "9007199254740993",
            "1.7976931348623157e308",
            "2.2250738585072014e-308",
            "00000000000000000000001.50",
            "NaN",
            "inf",
            "-Infinity",
            "+3.5",
            "12345678901234567890.5",
        ];
        let spec = spec(&[("f", Type::Float64)], 64);
        for text in texts {
            let (rows, faults) = decode(format!("{text}\n").as_bytes(), 100, true, &spec, &[Some(0)]);
            assert!(faults.is_empty(), "{text}");
            assert_eq!(rows[0].1, [Value::Float(text.parse().unwrap())], "{text}");
        }
        check(
            &[("f", Type::Float64)],
            b"1e999\n1.2.3\n.\n-\n1e\n",
            &[],
            &[
                "0 out_of_range f.csv:1 1e999",
                "1 bad_value f.csv:2 1.2.3",
                "2 bad_value f.csv:3 .",
                "3 bad_value f.csv:4 -",
                "4 bad_value f.csv:5 1e",
            ],
        );
        check(
            &[("i", Type::Int64), ("d", Type::Decimal)],
            b"-9223372036854775808,99999999999999999999999999999999999999\n1234567890123456789,-1\n1.0,1\n1,100000000000000000000000000000000000000\n",
            &["0 [-9223372036854775808,99999999999999999999999999999999999999]", "1 [1234567890123456789,-1]"],
            &["2 bad_value f.csv:3 1.0,1", "3 out_of_range f.csv:4 1,100000000000000000000000000000000000000"],
        );
    }

    fn field() -> impl Strategy<Value = String> {
        prop_oneof![
            4 => "[a-z0-9 .é-]{1,6}",
            1 => "[a-z\",\n\r]{0,8}",
            1 => Just(String::new()),
        ]
    }

    proptest! {
        #[test]
        fn well_formed_input_reads_as_the_csv_crate_reads_it(
            table in prop::collection::vec(prop::collection::vec(field(), 3), 0..12),
            crlf in any::<bool>(),
            block in 1usize..40,
        ) {
            let terminator = if crlf { csv::Terminator::CRLF } else { csv::Terminator::Any(b'\n') };
            let mut writer = csv::WriterBuilder::new().terminator(terminator).from_writer(Vec::new());
            table.iter().for_each(|r| writer.write_record(r).unwrap());
            let text = writer.into_inner().unwrap();
            let spec = spec(&[("a", Type::String), ("b", Type::String), ("c", Type::String)], 1 << 20);
            let fields = [Some(0), Some(1), Some(2)];
            let (rows, faults) = decode(&text, block, true, &spec, &fields);
            prop_assert!(faults.is_empty());
            // The csv crate cannot tell an empty field from an empty string: ours is null.
            let expected: Vec<Vec<String>> = csv::ReaderBuilder::new().has_headers(false).from_reader(text.as_slice())
                .records().map(|r| r.unwrap().iter().map(str::to_owned).collect()).collect();
            let got: Vec<Vec<String>> = rows.into_iter().map(|(_, r)| r.into_iter().map(|v| match v {
                Value::Str(s) => s,
                Value::Null => String::new(),
                other => panic!("{other:?}"),
            }).collect()).collect();
            prop_assert_eq!(got, expected);
        }

        #[test]
        fn any_bytes_in_any_blocks_give_the_same_rows_and_faults(
            text in prop::collection::vec(prop_oneof![Just(b','), Just(b'"'), Just(b'\n'), Just(b'\r'), Just(b'1'), Just(b'.'), Just(b'-'), Just(b'a'), Just(0u8), any::<u8>()], 0..200),
            block in 1usize..50,
            max in 1usize..40,
        ) {
            let spec = spec(&[("a", Type::Int64), ("b", Type::String), ("c", Type::Float64)], max);
            let fields = [Some(1), Some(0), None, Some(2)];
            let whole = decode(&text, text.len().max(1), true, &spec, &fields);
            prop_assert_eq!(&decode(&text, block, true, &spec, &fields), &whole);
            prop_assert_eq!(&decode(&text, block, false, &spec, &fields), &whole);
        }

        #[test]
        fn random_numbers_read_exactly(ints in prop::collection::vec(any::<i64>(), 1..20), floats in prop::collection::vec(any::<f64>(), 1..20)) {
            let spec = spec(&[("i", Type::Int64), ("f", Type::Float64)], 1 << 20);
            let text: String = ints.iter().zip(&floats).map(|(i, f)| format!("{i},{f:?}\n")).collect();
            let (rows, faults) = decode(text.as_bytes(), text.len(), true, &spec, &[Some(0), Some(1)]);
            prop_assert!(faults.is_empty());
            for ((i, f), (_, row)) in ints.iter().zip(&floats).zip(rows) {
                prop_assert_eq!(row, vec![Value::Int(*i), Value::Float(if f.is_nan() { f64::NAN } else { *f })]);
            }
        }
    }
}
