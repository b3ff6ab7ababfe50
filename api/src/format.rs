//! The formats rows are answered in, and which of them an `Accept` header asks for.

use arrow::array::RecordBatch;
use arrow::ipc::writer::StreamWriter;
use types::{RowCodec, Schema, Value, json};

use crate::page::RowBytes;
use crate::problem::{NOT_ACCEPTABLE, Problem};

/// A format of rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    /// One object around the rows.
    Json,
    /// One row a line.
    Ndjson,
    /// RFC 4180 with a header line; absent cells are empty, empty strings are `""`.
    Csv,
    /// An Arrow IPC stream.
    Arrow,
}

/// Every format: the one preferred among equals first.
pub(crate) const FORMATS: [(Format, &str); 4] = [
    (Format::Json, "application/json"),
    (Format::Ndjson, "application/x-ndjson"),
    (Format::Csv, "text/csv"),
    (Format::Arrow, "application/vnd.apache.arrow.stream"),
];

impl Format {
    /// Its media type.
    pub(crate) fn media_type(self) -> &'static str {
        FORMATS.iter().find(|(f, _)| *f == self).expect("every format is listed").1
    }

    /// The format an `Accept` header asks for, by quality, then by our order. No header: JSON.
    pub(crate) fn accepted(accept: Option<&str>) -> Result<Format, Problem> {
        let Some(accept) = accept else { return Ok(Format::Json) };
        let mut best: Option<(Format, f32)> = None;
        for (format, media) in FORMATS {
            let quality = quality(accept, media);
            if quality > 0.0 && best.is_none_or(|(_, q)| quality > q) {
                best = Some((format, quality));
            }
        }
        best.map(|(format, _)| format).ok_or_else(|| {
            let known: Vec<&str> = FORMATS.iter().map(|(_, m)| *m).collect();
            Problem::new(NOT_ACCEPTABLE, format!("rows come as {}", known.join(", ")))
        })
    }
}

/// The quality an `Accept` header gives a media type: that of the most specific range that covers it.
pub(crate) fn quality(accept: &str, media: &str) -> f32 {
    let (kind, _) = media.split_once('/').expect("a media type");
    let mut best = (0, 0.0);
    for range in accept.split(',') {
        let mut parts = range.split(';').map(str::trim);
        let name = parts.next().unwrap_or_default().to_ascii_lowercase();
        let specific = match name.strip_suffix("/*") {
            _ if name == media => 3,
            Some("*") => 1,
            Some(k) if k == kind => 2,
            _ => continue,
        };
        let q = parts.find_map(|p| p.strip_prefix("q=")).map_or(1.0, |q| q.parse().unwrap_or(0.0));
        if specific > best.0 {
            best = (specific, q);
        }
    }
    best.1
}

/// Appends rows as JSON objects with `between` between them and, if there are any, `last` after them.
pub(crate) fn write_json(
    out: &mut Vec<u8>,
    codec: &RowCodec,
    rows: &[RowBytes],
    between: u8,
    last: &[u8],
) -> Result<(), Problem> {
    for (i, (key, value)) in rows.iter().enumerate() {
        if i > 0 {
            out.push(between);
        }
        codec.write_json(out, key, value)?;
    }
    if !rows.is_empty() {
        out.extend_from_slice(last);
    }
    Ok(())
}

/// Rows as CSV with a header line.
pub(crate) fn csv(schema: &Schema, rows: &RecordBatch) -> Vec<u8> {
    let mut out = Vec::new();
    csv_header(&mut out, schema);
    csv_rows(&mut out, schema, rows);
    out
}

/// Appends the header line of a CSV.
pub(crate) fn csv_header(out: &mut Vec<u8>, schema: &Schema) {
    for (i, column) in schema.columns.iter().enumerate() {
        if i > 0 {
            out.push(b',');
        }
        write_field(out, &column.name);
    }
    out.extend_from_slice(b"\r\n");
}

/// Appends the lines of rows.
pub(crate) fn csv_rows(out: &mut Vec<u8>, schema: &Schema, rows: &RecordBatch) {
    let mut cell = Vec::new();
    for row in 0..rows.num_rows() {
        for i in 0..schema.columns.len() {
            if i > 0 {
                out.push(b',');
            }
            match Value::at(rows.column(i), row) {
                Value::Null => {}
                Value::Str(text) => write_field(out, &text),
                Value::Time(t) => out.extend_from_slice(json::rfc3339(t).as_bytes()),
                other => {
                    cell.clear();
                    json::write_value(&mut cell, &other);
                    // NaN and the infinities are strings in JSON.
                    out.extend(cell.iter().filter(|b| **b != b'"'));
                }
            }
        }
        out.extend_from_slice(b"\r\n");
    }
}

fn write_field(out: &mut Vec<u8>, text: &str) {
    if !text.is_empty() && !text.contains([',', '"', '\n', '\r']) {
        out.extend_from_slice(text.as_bytes());
        return;
    }
    out.push(b'"');
    out.extend_from_slice(text.replace('"', "\"\"").as_bytes());
    out.push(b'"');
}

/// Rows as an Arrow IPC stream.
pub(crate) fn arrow(rows: &RecordBatch) -> Result<Vec<u8>, Problem> {
    let write = || {
        let mut writer = StreamWriter::try_new(Vec::new(), &rows.schema())?;
        writer.write(rows)?;
        writer.into_inner()
    };
    write().map_err(Problem::internal)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cells::tests::schema;

    #[test]
    fn the_best_accepted_format_is_given() {
        for (accept, format) in [
            (None, Format::Json),
            (Some("*/*"), Format::Json),
            (Some("text/html, text/*;q=0.5"), Format::Csv),
            (Some("application/x-ndjson"), Format::Ndjson),
            (Some("application/json;q=0.1, TEXT/CSV"), Format::Csv),
            (Some("*/*, application/json;q=0"), Format::Ndjson),
            (Some("application/vnd.apache.arrow.stream;q=0.9, application/*;q=0.2"), Format::Arrow),
        ] {
            assert_eq!(Format::accepted(accept).unwrap(), format, "{accept:?}");
        }
        assert_eq!(Format::accepted(Some("image/png")).unwrap_err().code, NOT_ACCEPTABLE);
    }

    fn batch() -> RecordBatch {
        RowCodec::new(&schema()).batch(&[
            vec![
                Value::Str("a,\"b\"".into()),
                Value::Int(1),
                Value::Float(f64::NAN),
                Value::Bool(true),
                Value::Time(0),
                Value::Decimal(5),
            ],
            vec![Value::Str(String::new()), Value::Null, Value::Null, Value::Null, Value::Null, Value::Null],
        ])
    }

    #[test]
    fn csv_tells_empty_from_absent() {
        let text = String::from_utf8(csv(&schema(), &batch())).unwrap();
        assert_eq!(text, "s,i,f,b,t,d\r\n\"a,\"\"b\"\"\",1,NaN,true,1970-01-01T00:00:00Z,5\r\n\"\",,,,,\r\n");
    }

    #[test]
    fn arrow_streams_read_back() {
        let bytes = arrow(&batch()).unwrap();
        let read: Vec<RecordBatch> =
            arrow::ipc::reader::StreamReader::try_new(bytes.as_slice(), None).unwrap().map(Result::unwrap).collect();
        assert_eq!(read, [batch()]);
    }
}
