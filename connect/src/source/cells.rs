//! Rows under construction: typed columns to which decoders append a row at a time, and from which a bad row is taken back.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanArray, Decimal128Array, Float64Array, Int64Array, RecordBatch, RecordBatchOptions, StringArray,
    TimestampMicrosecondArray,
};
use arrow::buffer::{BooleanBuffer, Buffer, NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow::datatypes::{Field, SchemaRef};
use engine::connector::SourceRows;
use types::time::{TimeError, TimeFormat};
use types::{Column, Fault, Type};

/// The rows a source declares: what every decoder decodes into.
#[derive(Clone, Debug)]
pub(crate) struct RowSpec {
    pub columns: Vec<Column>,
    /// The columns without which a row can be put nowhere, and what it is called when they are null.
    required: Vec<(usize, &'static str)>,
    pub time: TimeFormat,
    /// A longer record is a fault, and is not kept in memory whole.
    pub record_bytes_max: usize,
    pub arrow: SchemaRef,
}

impl RowSpec {
    pub fn new(
        columns: Vec<Column>,
        key: &[String],
        event_time: Option<&str>,
        time: TimeFormat,
        record_bytes_max: usize,
    ) -> RowSpec {
        let fields: Vec<Field> = columns.iter().map(|c| Field::new(&c.name, c.ty.arrow(), true)).collect();
        let position = |name: &str| columns.iter().position(|c| c.name == name);
        let keys = key.iter().filter_map(|k| Some((position(k)?, "null_key")));
        let event_time = event_time.and_then(position).map(|i| (i, "null_event_time"));
        RowSpec {
            required: keys.chain(event_time).collect(),
            arrow: Arc::new(arrow::datatypes::Schema::new(fields)),
            columns,
            time,
            record_bytes_max,
        }
    }

    /// The options that change what is decoded, where they are not the defaults: part of a plan's fingerprint.
    pub fn describe(&self) -> String {
        let mut out = match &self.time {
            TimeFormat::Auto => String::new(),
            TimeFormat::Epoch(unit) => format!(", times in {}", unit.name()),
            TimeFormat::Pattern(pattern) => format!(", times like {pattern}"),
        };
        if self.record_bytes_max != super::RECORD_BYTES_MAX {
            out.push_str(&format!(", records up to {} bytes", self.record_bytes_max));
        }
        out
    }

    /// What is wrong with a row of which these columns are null, if anything.
    pub fn null_fault(&self, is_null: impl Fn(usize) -> bool) -> Option<Bad> {
        let (column, reason) = self.required.iter().find(|(c, _)| is_null(*c))?;
        Some(Bad::new(reason, format!("column `{}` must not be null", self.columns[*column].name)))
    }
}

/// Why a record is no row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Bad {
    pub reason: &'static str,
    pub detail: String,
}

impl Bad {
    pub fn new(reason: &'static str, detail: impl Into<String>) -> Bad {
        Bad { reason, detail: detail.into() }
    }

    /// A cell that is not of its column's type.
    pub fn value(column: &Column, found: &str) -> Bad {
        let mut shown: String = found.chars().take(80).collect();
        if shown.len() < found.len() {
            shown.push('…');
        }
        Bad::new("bad_value", format!("column `{}`: expected {}, found `{shown}`", column.name, column.ty))
    }

    /// A cell of the right form that its column's type cannot hold.
    pub fn range(column: &Column, found: &str) -> Bad {
        Bad { reason: "out_of_range", ..Bad::value(column, found) }
    }
}

/// The cells of one column.
#[derive(Debug)]
pub(crate) enum Cells {
    Bool(Vec<bool>),
    Int(Vec<i64>),
    Time(Vec<i64>),
    Float(Vec<f64>),
    Decimal(Vec<i128>),
    Str { ends: Vec<i32>, bytes: Vec<u8> },
}

/// One column under construction. A null has a cell too; which cells are null is a sorted list, nearly always empty.
#[derive(Debug)]
pub(crate) struct Builder {
    pub cells: Cells,
    nulls: Vec<u32>,
}

impl Builder {
    fn new(ty: Type, rows: usize) -> Builder {
        let cells = match ty {
            Type::Bool => Cells::Bool(Vec::with_capacity(rows)),
            Type::Int64 => Cells::Int(Vec::with_capacity(rows)),
            Type::Timestamp => Cells::Time(Vec::with_capacity(rows)),
            Type::Float64 => Cells::Float(Vec::with_capacity(rows)),
            Type::Decimal => Cells::Decimal(Vec::with_capacity(rows)),
            Type::String => {
                let mut ends = Vec::with_capacity(rows + 1);
                ends.push(0);
                Cells::Str { ends, bytes: Vec::with_capacity(rows * 8) }
            }
        };
        Builder { cells, nulls: Vec::new() }
    }

    pub fn len(&self) -> usize {
        match &self.cells {
            Cells::Bool(v) => v.len(),
            Cells::Int(v) | Cells::Time(v) => v.len(),
            Cells::Float(v) => v.len(),
            Cells::Decimal(v) => v.len(),
            Cells::Str { ends, .. } => ends.len() - 1,
        }
    }

    pub fn push_null(&mut self) {
        self.nulls.push(u32::try_from(self.len()).expect("a batch has far fewer rows"));
        match &mut self.cells {
            Cells::Bool(v) => v.push(false),
            Cells::Int(v) | Cells::Time(v) => v.push(0),
            Cells::Float(v) => v.push(0.0),
            Cells::Decimal(v) => v.push(0),
            Cells::Str { ends, .. } => ends.push(*ends.last().expect("starts with 0")),
        }
    }

    pub fn push_str(&mut self, text: &[u8]) {
        let Cells::Str { ends, bytes } = &mut self.cells else { unreachable!("a string for a column of another type") };
        bytes.extend_from_slice(text);
        ends.push(i32::try_from(bytes.len()).expect("a batch is far under 2 GiB"));
    }

    /// Appends a cell given as text, which must be of the column's type exactly (numbers may have blanks around them).
    pub fn push_text(&mut self, text: &[u8], column: &Column, time: &TimeFormat) -> Result<(), Bad> {
        let lossy = || String::from_utf8_lossy(text).into_owned();
        if let Cells::Str { .. } = &self.cells {
            if std::str::from_utf8(text).is_err() {
                return Err(Bad::new("invalid_utf8", format!("column `{}` is not UTF-8", column.name)));
            }
            if memchr::memchr(0, text).is_some() {
                return Err(Bad::new("nul_byte", format!("column `{}` holds a NUL byte", column.name)));
            }
            self.push_str(text);
            return Ok(());
        }
        let trimmed = text.trim_ascii();
        let word = std::str::from_utf8(trimmed)
            .map_err(|_| Bad::new("invalid_utf8", format!("column `{}` is not UTF-8", column.name)))?;
        match &mut self.cells {
            Cells::Bool(v) => v.push(match word {
                "1" => true,
                "0" => false,
                w if w.eq_ignore_ascii_case("true") => true,
                w if w.eq_ignore_ascii_case("false") => false,
                _ => return Err(Bad::value(column, &lossy())),
            }),
            Cells::Int(v) => {
                v.push(word.parse().map_err(|e: std::num::ParseIntError| int_fault(column, &e, &lossy()))?)
            }
            Cells::Decimal(v) => {
                let value: i128 = word.parse().map_err(|e: std::num::ParseIntError| int_fault(column, &e, &lossy()))?;
                if value.unsigned_abs() >= 10u128.pow(38) {
                    return Err(Bad::range(column, &lossy()));
                }
                v.push(value);
            }
            Cells::Float(v) => {
                let value: f64 = word.parse().map_err(|_| Bad::value(column, &lossy()))?;
                if value.is_infinite() && word.bytes().any(|b| b.is_ascii_digit()) {
                    return Err(Bad::range(column, &lossy()));
                }
                v.push(value);
            }
            Cells::Time(v) => v.push(time.parse(trimmed).map_err(|e| match e {
                TimeError::Form => Bad::value(column, &lossy()),
                TimeError::Range => Bad::range(column, &lossy()),
            })?),
            Cells::Str { .. } => unreachable!("handled above"),
        }
        Ok(())
    }

    fn truncate(&mut self, rows: usize) {
        match &mut self.cells {
            Cells::Bool(v) => v.truncate(rows),
            Cells::Int(v) | Cells::Time(v) => v.truncate(rows),
            Cells::Float(v) => v.truncate(rows),
            Cells::Decimal(v) => v.truncate(rows),
            Cells::Str { ends, bytes } => {
                ends.truncate(rows + 1);
                bytes.truncate(ends[ends.len() - 1] as usize);
            }
        }
        while self.nulls.last().is_some_and(|n| *n as usize >= rows) {
            self.nulls.pop();
        }
    }

    fn last_is_null(&self) -> bool {
        self.nulls.last().is_some_and(|n| *n as usize + 1 == self.len())
    }

    fn finish(self) -> ArrayRef {
        let rows = self.len();
        let nulls = (!self.nulls.is_empty()).then(|| {
            let mut valid = vec![true; rows];
            self.nulls.iter().for_each(|n| valid[*n as usize] = false);
            NullBuffer::new(BooleanBuffer::from(valid))
        });
        match self.cells {
            Cells::Bool(v) => Arc::new(BooleanArray::new(BooleanBuffer::from(v), nulls)),
            Cells::Int(v) => Arc::new(Int64Array::new(v.into(), nulls)),
            Cells::Time(v) => Arc::new(TimestampMicrosecondArray::new(v.into(), nulls).with_timezone("UTC")),
            Cells::Float(v) => Arc::new(Float64Array::new(v.into(), nulls)),
            Cells::Decimal(v) => Arc::new(Decimal128Array::new(v.into(), nulls).with_data_type(Type::Decimal.arrow())),
            Cells::Str { ends, bytes } => {
                Arc::new(StringArray::new(OffsetBuffer::new(ScalarBuffer::from(ends)), Buffer::from_vec(bytes), nulls))
            }
        }
    }
}

fn int_fault(column: &Column, error: &std::num::ParseIntError, found: &str) -> Bad {
    match error.kind() {
        std::num::IntErrorKind::PosOverflow | std::num::IntErrorKind::NegOverflow => Bad::range(column, found),
        _ => Bad::value(column, found),
    }
}

/// Good rows and faults of consecutive records, numbered as they come.
#[derive(Debug)]
pub(crate) struct Rows {
    pub spec: Arc<RowSpec>,
    pub columns: Vec<Builder>,
    source: String,
    good: usize,
    first_seq: u64,
    next_seq: u64,
    faults: Vec<Fault>,
}

impl Rows {
    pub fn new(source: &str, spec: Arc<RowSpec>, seq: u64) -> Rows {
        let columns = spec.columns.iter().map(|c| Builder::new(c.ty, 0)).collect();
        Rows { spec, columns, source: source.to_owned(), good: 0, first_seq: seq, next_seq: seq, faults: Vec::new() }
    }

    /// The number of records since the last [`Rows::take`], good and bad.
    pub fn records(&self) -> usize {
        (self.next_seq - self.first_seq) as usize
    }

    pub fn next_seq(&self) -> u64 {
        self.next_seq
    }

    /// Bytes of text in the rows and faults so far.
    pub fn text_bytes(&self) -> usize {
        let of_column = |column: &Builder| match &column.cells {
            Cells::Str { bytes, .. } => bytes.len(),
            _ => 0,
        };
        self.columns.iter().map(of_column).sum::<usize>() + self.faults.len() * Fault::RAW_BYTES_MAX
    }

    /// The number of good rows so far: how long every column is between rows.
    pub fn good(&self) -> usize {
        self.good
    }

    /// Ends a row to which every column has appended a cell. An error leaves the row to be [`Rows::reject`]ed.
    #[inline]
    pub fn commit(&mut self) -> Result<(), Bad> {
        let columns = &self.columns;
        if let Some(bad) = self.spec.null_fault(|c| columns[c].last_is_null()) {
            return Err(bad);
        }
        self.good += 1;
        self.next_seq += 1;
        Ok(())
    }

    /// Ends the columns of a row: where nothing has come, there is null.
    pub fn fill(&mut self) {
        for column in &mut self.columns {
            if column.len() == self.good {
                column.push_null();
            }
        }
    }

    /// Takes back what the unfinished row has appended.
    pub fn rollback(&mut self) {
        self.columns.iter_mut().for_each(|c| c.truncate(self.good));
    }

    /// Ends a record that is no row.
    pub fn reject(&mut self, bad: Bad, provenance: String, raw: &[u8]) {
        self.rollback();
        self.faults.push(Fault {
            source: self.source.clone(),
            seq: self.next_seq,
            at: self.source.clone(),
            reason: bad.reason.to_owned(),
            detail: bad.detail,
            provenance,
            raw: Fault::raw_text(raw),
        });
        self.next_seq += 1;
    }

    /// Appends rows that are columns already; `bad` names those that are not to be kept, with provenance and raw text.
    pub fn whole(
        &mut self,
        batch: &RecordBatch,
        bad: Vec<(usize, Bad, String, String)>,
        start: serde_json::Value,
        end: serde_json::Value,
    ) -> SourceRows {
        assert_eq!(self.records(), 0, "whole batches are not mixed with single rows");
        let mut keep = vec![true; batch.num_rows()];
        for (row, bad, provenance, raw) in bad {
            keep[row] = false;
            self.next_seq = self.first_seq + row as u64;
            self.reject(bad, provenance, raw.as_bytes());
        }
        self.next_seq = self.first_seq + batch.num_rows() as u64;
        let rows = if self.faults.is_empty() {
            batch.clone()
        } else {
            arrow::compute::filter_record_batch(batch, &BooleanArray::from(keep)).expect("one flag a row")
        };
        self.rows(rows, start, end)
    }

    /// Everything since the last time, as the engine takes it.
    pub fn take(&mut self, start: serde_json::Value, end: serde_json::Value) -> SourceRows {
        let good = std::mem::take(&mut self.good);
        let fresh = self.spec.columns.iter().map(|c| Builder::new(c.ty, good)).collect();
        let columns = std::mem::replace(&mut self.columns, fresh).into_iter().map(Builder::finish).collect();
        let options = RecordBatchOptions::new().with_row_count(Some(good));
        let rows = RecordBatch::try_new_with_options(self.spec.arrow.clone(), columns, &options)
            .expect("every column has every row");
        self.rows(rows, start, end)
    }

    fn rows(&mut self, rows: RecordBatch, start: serde_json::Value, end: serde_json::Value) -> SourceRows {
        let faults = std::mem::take(&mut self.faults);
        let (first_seq, next_seq) = (self.first_seq, self.next_seq);
        self.first_seq = next_seq;
        let seqs = (!faults.is_empty()).then(|| {
            let mut bad = faults.iter().map(|f| f.seq).peekable();
            (first_seq..next_seq).filter(|s| bad.next_if_eq(s).is_none()).collect()
        });
        SourceRows { start, end, first_seq, next_seq, rows, seqs, faults }
    }
}
