//! Parquet and Arrow IPC: batches as they lie in the file, their columns matched by name and cast to the declared types.
//!
//! A cell its declared type cannot hold makes its row a fault. A file without a declared column, or with one that can
//! never be read as declared, is a *misfit*: sound, and every row of it a fault, unless the caller takes that for the
//! source's error. Numbers are never rounded into integers, times never overflow silently.

use std::fs::File;
use std::io::{BufReader, Cursor, Read};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, Float64Array, Int64Array, RecordBatch, RecordBatchOptions, TimestampMicrosecondArray,
    new_null_array,
};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{
    DataType, Decimal128Type, Float64Type, Int64Type, SchemaRef, TimeUnit, TimestampMicrosecondType,
};
use arrow::error::ArrowError;
use arrow::ipc::reader::{FileReader, StreamReader};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use bytes::Bytes;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder,
};
use types::time::{TimeFormat, Unit, in_range};
use types::{Column, Fault, Type};

use super::cells::{Bad, RowSpec, Rows};
use super::lengths::{Messages, check_expansion, check_ipc_file, check_parquet};
use super::nearest;

/// Rows of a batch read at once from Parquet.
const BATCH_ROWS: usize = 16_384;

/// An open columnar file.
pub(crate) struct ColumnarReader {
    inner: Inner,
    misfit: Option<Bad>,
}

enum Inner {
    Parquet {
        data: Data,
        metadata: ArrowReaderMetadata,
        roots: Vec<usize>,
        group: usize,
        reader: Option<ParquetRecordBatchReader>,
        /// Rows of the group that are still to come, as its metadata has it. Anchors count with that.
        left: u64,
    },
    Ipc(Box<dyn Iterator<Item = Result<RecordBatch, ArrowError>> + Send>),
}

enum Data {
    File(File),
    Memory(Bytes),
}

// The error of opening says that the file is damaged or not of the format.
impl ColumnarReader {
    /// Opens a Parquet file, uncompressed, from one of its row groups on.
    pub fn parquet(mut file: File, spec: &RowSpec, group: usize) -> Result<ColumnarReader, String> {
        check_parquet(&mut file)?;
        let metadata =
            guarded(|| ArrowReaderMetadata::load(&file, ArrowReaderOptions::new()).map_err(|e| e.to_string()))?;
        Ok(ColumnarReader::parquet_of(Data::File(file), metadata, spec, group))
    }

    /// Opens Parquet bytes that were unpacked, from one of their row groups on.
    pub fn parquet_bytes(bytes: Vec<u8>, spec: &RowSpec, group: usize) -> Result<ColumnarReader, String> {
        let bytes = Bytes::from(bytes);
        check_parquet(&mut Cursor::new(&bytes))?;
        let metadata =
            guarded(|| ArrowReaderMetadata::load(&bytes, ArrowReaderOptions::new()).map_err(|e| e.to_string()))?;
        Ok(ColumnarReader::parquet_of(Data::Memory(bytes), metadata, spec, group))
    }

    fn parquet_of(data: Data, metadata: ArrowReaderMetadata, spec: &RowSpec, group: usize) -> ColumnarReader {
        let schema = metadata.schema().clone();
        let misfit = misfit_of(&schema, spec);
        // Of a misfit every column is read: all of it that is known is the fault's text.
        let roots = match &misfit {
            None => spec.columns.iter().map(|c| schema.index_of(&c.name).expect("it fits")).collect(),
            Some(_) => (0..schema.fields().len()).collect(),
        };
        ColumnarReader { inner: Inner::Parquet { data, metadata, roots, group, reader: None, left: 0 }, misfit }
    }

    /// Opens an Arrow IPC file or stream, told apart by the file's first bytes.
    pub fn ipc(mut input: Box<dyn Read + Send>, spec: &RowSpec) -> Result<ColumnarReader, String> {
        let mut head = Vec::new();
        let unreadable = |e: std::io::Error| e.to_string();
        input.by_ref().take(6).read_to_end(&mut head).map_err(unreadable)?;
        let is_file = head == b"ARROW1";
        let mut input: Box<dyn Read + Send> = Box::new(Cursor::new(head).chain(input));
        let (schema, batches) = if is_file {
            let mut bytes = Vec::new();
            input.read_to_end(&mut bytes).map_err(unreadable)?;
            guarded(|| check_ipc_file(&bytes))?;
            let reader = guarded(|| FileReader::try_new(Cursor::new(bytes), None).map_err(|e| e.to_string()))?;
            (reader.schema(), Box::new(reader) as Box<dyn Iterator<Item = _> + Send>)
        } else {
            let messages = Messages::new(BufReader::new(input));
            let reader = guarded(|| StreamReader::try_new(messages, None).map_err(|e| e.to_string()))?;
            (reader.schema(), Box::new(reader) as Box<dyn Iterator<Item = _> + Send>)
        };
        Ok(ColumnarReader { inner: Inner::Ipc(batches), misfit: misfit_of(&schema, spec) })
    }

    /// Why no row of the file is one of the source, if that is so.
    pub fn misfit(&self) -> Option<&Bad> {
        self.misfit.as_ref()
    }

    /// The row group the next batch comes from; 0 for Arrow IPC.
    pub fn group(&self) -> usize {
        match &self.inner {
            Inner::Parquet { group, .. } => *group,
            Inner::Ipc(_) => 0,
        }
    }

    /// The rows before a row group.
    pub fn rows_before(&self, group: usize) -> u64 {
        match &self.inner {
            Inner::Parquet { metadata, .. } => {
                let groups = metadata.metadata().row_groups();
                groups.iter().take(group).map(rows_of).fold(0, u64::saturating_add)
            }
            Inner::Ipc(_) => 0,
        }
    }

    /// The next batch. An error says that the rest of the file is damaged.
    pub fn next(&mut self, spec: &RowSpec) -> Option<Result<Converted, String>> {
        let batch = match self.next_batch()? {
            Ok(batch) => batch,
            Err(e) => return Some(Err(e)),
        };
        let converted = guarded(|| match &self.misfit {
            None => convert(&batch, spec),
            Some(why) => Ok(refuse(&batch, why, spec)),
        });
        if converted.is_err() {
            self.end();
        }
        Some(converted)
    }

    /// Gives up what follows.
    fn end(&mut self) {
        match &mut self.inner {
            Inner::Parquet { group, .. } => *group = usize::MAX,
            Inner::Ipc(batches) => *batches = Box::new(std::iter::empty()),
        }
    }

    /// The next batch, of the file's own types.
    fn next_batch(&mut self) -> Option<Result<RecordBatch, String>> {
        match &mut self.inner {
            Inner::Ipc(batches) => match guarded(|| batches.next().transpose().map_err(|e| e.to_string())) {
                Ok(batch) => batch.map(Ok),
                Err(e) => {
                    self.end();
                    Some(Err(e))
                }
            },
            Inner::Parquet { data, metadata, roots, group, reader, left } => loop {
                if *group >= metadata.metadata().num_row_groups() {
                    return None;
                }
                let next = guarded(|| -> Result<Option<RecordBatch>, String> {
                    if reader.is_none() {
                        *reader = Some(open_group(data, metadata, roots, *group)?);
                        *left = rows_of(metadata.metadata().row_group(*group));
                    }
                    let batch = reader.as_mut().expect("just opened").next().transpose().map_err(|e| e.to_string())?;
                    let rows = batch.as_ref().map_or(*left, |b| b.num_rows() as u64);
                    match left.checked_sub(rows) {
                        Some(rest) if batch.is_some() || rows == 0 => *left = rest,
                        _ => return Err(format!("row group {group} has not as many rows as its metadata says")),
                    }
                    Ok(batch)
                });
                match next {
                    Ok(Some(batch)) => return Some(Ok(batch)),
                    Err(e) => {
                        *group = usize::MAX;
                        return Some(Err(e));
                    }
                    Ok(None) => {
                        *reader = None;
                        *group += 1;
                    }
                }
            },
        }
    }
}

fn rows_of(group: &parquet::file::metadata::RowGroupMetaData) -> u64 {
    u64::try_from(group.num_rows()).unwrap_or(0)
}

fn open_group(
    data: &Data,
    metadata: &ArrowReaderMetadata,
    roots: &[usize],
    group: usize,
) -> Result<ParquetRecordBatchReader, String> {
    let mask = || ProjectionMask::roots(metadata.parquet_schema(), roots.iter().copied());
    match data {
        Data::File(file) => {
            let file = file.try_clone().map_err(|e| e.to_string())?;
            let builder = ParquetRecordBatchReaderBuilder::new_with_metadata(file, metadata.clone());
            builder.with_projection(mask()).with_row_groups(vec![group]).with_batch_size(BATCH_ROWS).build()
        }
        Data::Memory(bytes) => {
            let builder = ParquetRecordBatchReaderBuilder::new_with_metadata(bytes.clone(), metadata.clone());
            builder.with_projection(mask()).with_row_groups(vec![group]).with_batch_size(BATCH_ROWS).build()
        }
    }
    .map_err(|e| e.to_string())
}

/// The readers are not proof against hostile bytes: a panic in them is a damaged file, not the end of the process.
fn guarded<T>(read: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(read)).unwrap_or_else(|_| Err("the reader gave up on malformed bytes".into()))
}

/// Counts the rows of an Arrow IPC stream, reading it whole.
pub(crate) fn count_ipc_rows(payload: &[u8]) -> Result<u64, String> {
    guarded(|| {
        let reader = StreamReader::try_new(Messages::new(payload), None).map_err(|e| e.to_string())?;
        let mut rows = 0;
        for batch in reader {
            rows += batch.map_err(|e| e.to_string())?.num_rows() as u64;
        }
        Ok(rows)
    })
}

/// The columns of an Arrow IPC stream.
pub(crate) fn ipc_columns(payload: &[u8]) -> Result<Vec<String>, String> {
    guarded(|| {
        let reader = StreamReader::try_new(Messages::new(payload), None).map_err(|e| e.to_string())?;
        Ok(reader.schema().fields().iter().map(|f| f.name().clone()).collect())
    })
}

/// Which declared column the file lacks, or has with a type that can never be read as declared.
fn misfit_of(schema: &SchemaRef, spec: &RowSpec) -> Option<Bad> {
    spec.columns.iter().find_map(|column| {
        let Ok(field) = schema.field_with_name(&column.name) else {
            let names = schema.fields().iter().map(|f| f.name().as_str());
            let why = format!("there is no column `{}`{}", column.name, nearest(&column.name, names));
            return Some(Bad::new("missing_column", why));
        };
        // Nothing that a file says of its columns may end the process.
        let cast = guarded(|| cast(&new_null_array(field.data_type(), 0), column.ty, &spec.time).map(drop));
        let why = cast.err()?;
        let (name, is, ty) = (&column.name, field.data_type(), column.ty);
        Some(Bad::new("wrong_type", format!("column `{name}` is {is} and cannot be read as {ty}: {why}")))
    })
}

/// A batch of declared columns.
pub(crate) struct Converted {
    pub batch: RecordBatch,
    /// Rows not to be kept, ascending: position, why, the row as text.
    pub bad: Vec<(usize, Bad, String)>,
}

/// A batch of a misfit: every row is bad.
fn refuse(batch: &RecordBatch, why: &Bad, spec: &RowSpec) -> Converted {
    let rows = batch.num_rows();
    let columns = spec.columns.iter().map(|c| new_null_array(&c.ty.arrow(), rows)).collect();
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    let names: Vec<&str> = batch.schema_ref().fields().iter().map(|f| f.name().as_str()).collect();
    Converted {
        batch: RecordBatch::try_new_with_options(spec.arrow.clone(), columns, &options).expect("columns of the spec"),
        bad: (0..rows).map(|row| (row, why.clone(), text(batch, row, names.iter().copied()))).collect(),
    }
}

/// Casts a batch of the file to the declared columns.
fn convert(batch: &RecordBatch, spec: &RowSpec) -> Result<Converted, String> {
    let mut columns = Vec::with_capacity(spec.columns.len());
    let mut bad: std::collections::BTreeMap<usize, Bad> = std::collections::BTreeMap::new();
    for column in &spec.columns {
        let from = batch.column_by_name(&column.name).ok_or_else(|| format!("there is no column `{}`", column.name))?;
        check_expansion(from).map_err(|e| format!("column `{}`: {e}", column.name))?;
        let to = cast(from, column.ty, &spec.time).map_err(|e| format!("column `{}`: {e}", column.name))?;
        // `logical`: a dictionary or run-end array may have its nulls elsewhere than in its own bitmap.
        let nulls = from.logical_nulls();
        if to.null_count() > nulls.as_ref().map_or(0, |n| n.null_count()) {
            for row in (0..to.len()).filter(|r| to.is_null(*r) && !nulls.as_ref().is_some_and(|n| n.is_null(*r))) {
                bad.entry(row).or_insert_with(|| misfit(from, row, column));
            }
        }
        columns.push(to);
    }
    if columns.iter().any(|c| c.null_count() > 0) {
        for row in 0..batch.num_rows() {
            if let Some(fault) = spec.null_fault(|c| columns[c].is_null(row)) {
                bad.entry(row).or_insert(fault);
            }
        }
    }
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    let names = || spec.columns.iter().map(|c| c.name.as_str());
    let bad = bad.into_iter().map(|(row, why)| (row, why, text(batch, row, names()))).collect();
    let batch = RecordBatch::try_new_with_options(spec.arrow.clone(), columns, &options).map_err(|e| e.to_string())?;
    Ok(Converted { batch, bad })
}

/// The next batch as rows and faults, provenance `file:row` with rows counted from 1.
pub(crate) fn gather(
    converted: Converted,
    rows: &mut Rows,
    file: &str,
    rows_before: u64,
    start: serde_json::Value,
    end: serde_json::Value,
) -> engine::connector::SourceRows {
    let bad = converted
        .bad
        .into_iter()
        .map(|(row, why, raw)| (row, why, format!("{file}:{}", rows_before + row as u64 + 1), raw))
        .collect();
    rows.whole(&converted.batch, bad, start, end)
}

fn misfit(from: &ArrayRef, row: usize, column: &Column) -> Bad {
    let shown = cell(from, row);
    let fraction = matches!(
        from.data_type(),
        DataType::Float16 | DataType::Float32 | DataType::Float64 | DataType::Decimal128(..) | DataType::Decimal256(..)
    ) && shown.parse::<f64>().is_ok_and(|v| v.is_finite() && v.fract() != 0.0);
    let numeric = from.data_type().is_numeric() || from.data_type().is_temporal();
    if numeric && !fraction { Bad::range(column, &shown) } else { Bad::value(column, &shown) }
}

fn cell(array: &ArrayRef, row: usize) -> String {
    let options = FormatOptions::default().with_display_error(true).with_null("null");
    ArrayFormatter::try_new(array.as_ref(), &options).map_or_else(|_| "?".into(), |f| f.value(row).to_string())
}

/// A row as text, as much of it as a fault keeps.
pub(crate) fn text<'n>(batch: &RecordBatch, row: usize, names: impl Iterator<Item = &'n str>) -> String {
    let mut text = String::new();
    for (name, column) in names.filter_map(|name| Some((name, batch.column_by_name(name)?))) {
        if text.len() >= Fault::RAW_BYTES_MAX {
            break;
        }
        let comma = if text.is_empty() { "" } else { ", " };
        text.push_str(&format!("{comma}{name}={}", cell(column, row)));
    }
    text
}

/// The column as one of our types; cells that do not fit become null. The error says that no cell ever can.
fn cast(from: &ArrayRef, ty: Type, time: &TimeFormat) -> Result<ArrayRef, String> {
    use DataType as D;
    let safe = |array: &ArrayRef, to: &DataType| {
        cast_with_options(array, to, &CastOptions { safe: true, ..CastOptions::default() }).map_err(|e| e.to_string())
    };
    let data_type = from.data_type().clone();
    if data_type == D::Null {
        return Ok(new_null_array(&ty.arrow(), from.len()));
    }
    if let D::Dictionary(_, values) = &data_type {
        return cast(&safe(from, values)?, ty, time);
    }
    let is_text = matches!(data_type, D::Utf8 | D::LargeUtf8 | D::Utf8View);
    match ty {
        Type::Timestamp => match &data_type {
            D::Timestamp(unit, _) => {
                let unit = match unit {
                    TimeUnit::Second => Unit::Second,
                    TimeUnit::Millisecond => Unit::Milli,
                    TimeUnit::Microsecond => Unit::Micro,
                    TimeUnit::Nanosecond => Unit::Nano,
                };
                let counts = safe(from, &D::Int64)?;
                Ok(times(counts.as_primitive::<Int64Type>().iter().map(|c| unit.micros(c?))))
            }
            D::Date32 | D::Date64 => {
                let micros = safe(from, &D::Timestamp(TimeUnit::Microsecond, None))?;
                Ok(times(micros.as_primitive::<TimestampMicrosecondType>().iter().map(|m| m.filter(|m| in_range(*m)))))
            }
            d if d.is_integer() => {
                if !matches!(time, TimeFormat::Epoch(_)) {
                    return Err("numbers are times only with a `timestamp_unit`".into());
                }
                let counts = safe(from, &D::Int64)?;
                Ok(times(counts.as_primitive::<Int64Type>().iter().map(|c| time.number(c?).ok())))
            }
            _ if is_text => {
                let texts = safe(from, &D::Utf8)?;
                Ok(times(texts.as_string::<i32>().iter().map(|t| time.parse(t?.trim_ascii().as_bytes()).ok())))
            }
            _ => Err("it is no time".into()),
        },
        _ if data_type == ty.arrow() => Ok(from.clone()),
        Type::String
            if is_text || matches!(data_type, D::Binary | D::LargeBinary | D::BinaryView | D::FixedSizeBinary(_)) =>
        {
            safe(from, &D::Utf8)
        }
        Type::String if data_type.is_integer() => safe(from, &D::Utf8),
        Type::String => Err("it is no text".into()),
        _ if is_text => {
            let texts = safe(from, &D::Utf8)?;
            let texts = texts.as_string::<i32>();
            match ty {
                Type::Bool => safe(from, &D::Boolean),
                Type::Int64 => Ok(Arc::new(texts.iter().map(|t| t?.trim_ascii().parse().ok()).collect::<Int64Array>())),
                Type::Float64 => {
                    Ok(Arc::new(texts.iter().map(|t| t?.trim_ascii().parse().ok()).collect::<Float64Array>()))
                }
                _ => safe(from, &ty.arrow()),
            }
        }
        Type::Bool => Err("it is neither true nor false".into()),
        Type::Float64 if data_type.is_numeric() => safe(from, &D::Float64),
        Type::Int64 | Type::Decimal if data_type.is_floating() => {
            let floats = safe(from, &D::Float64)?;
            let whole = floats.as_primitive::<Float64Type>().iter().map(|v| {
                let v = v?;
                (v.fract() == 0.0 && v.abs() < 9_223_372_036_854_775_808.0).then_some(v as i64)
            });
            let whole: ArrayRef = Arc::new(whole.collect::<Int64Array>());
            if ty == Type::Int64 { Ok(whole) } else { safe(&whole, &ty.arrow()) }
        }
        Type::Int64 | Type::Decimal
            if matches!(data_type, D::Decimal32(..) | D::Decimal64(..) | D::Decimal128(..) | D::Decimal256(..)) =>
        {
            // A cast rounds; what does not come back was rounded.
            let whole = safe(from, &Type::Decimal.arrow())?;
            let back = safe(&whole, &data_type)?;
            let same = arrow::compute::kernels::cmp::eq(&back, from).map_err(|e| e.to_string())?;
            let kept = whole
                .as_primitive::<Decimal128Type>()
                .iter()
                .zip(same.iter())
                .map(|(v, same)| v.filter(|_| same == Some(true)));
            let kept: arrow::array::Decimal128Array = kept.collect();
            let kept: ArrayRef = Arc::new(kept.with_data_type(Type::Decimal.arrow()));
            if ty == Type::Decimal { Ok(kept) } else { safe(&kept, &D::Int64) }
        }
        Type::Int64 | Type::Decimal if data_type.is_integer() => safe(from, &ty.arrow()),
        _ => Err("it is no number".into()),
    }
}

fn times(micros: impl Iterator<Item = Option<i64>>) -> ArrayRef {
    Arc::new(micros.collect::<TimestampMicrosecondArray>().with_timezone("UTC"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{Decimal128Array, Int32Array, StringArray, TimestampNanosecondArray, UInt64Array};
    use types::Value;

    #[track_caller]
    fn check(from: ArrayRef, ty: Type, time: TimeFormat, expected: Result<&[Value], &str>) {
        let got = cast(&from, ty, &time).map(|a| (0..a.len()).map(|r| Value::at(&a, r)).collect::<Vec<_>>());
        match expected {
            Ok(values) => assert_eq!(got.as_deref(), Ok(values)),
            Err(part) => assert!(got.as_ref().is_err_and(|e| e.contains(part)), "{got:?}"),
        }
    }

    #[test]
    fn what_does_not_fit_is_not_bent_until_it_does() {
        use Value::{Decimal, Float, Int, Null, Str, Time};
        let auto = || TimeFormat::Auto;
        check(Arc::new(UInt64Array::from(vec![5, u64::MAX])), Type::Int64, auto(), Ok(&[Int(5), Null]));
        check(
            Arc::new(Float64Array::from(vec![5.0, 5.5, 1e300, f64::NAN])),
            Type::Int64,
            auto(),
            Ok(&[Int(5), Null, Null, Null]),
        );
        check(Arc::new(Int32Array::from(vec![Some(1), None])), Type::Float64, auto(), Ok(&[Float(1.0), Null]));
        check(
            Arc::new(Decimal128Array::from(vec![500, 550]).with_precision_and_scale(10, 2).unwrap()),
            Type::Int64,
            auto(),
            Ok(&[Int(5), Null]),
        );
        check(Arc::new(Int32Array::from(vec![7])), Type::Decimal, auto(), Ok(&[Decimal(7)]));
        check(
            Arc::new(TimestampNanosecondArray::from(vec![-1, 1_500])),
            Type::Timestamp,
            auto(),
            Ok(&[Time(-1), Time(1)]),
        );
        check(Arc::new(TimestampMicrosecondArray::from(vec![i64::MAX])), Type::Timestamp, auto(), Ok(&[Null]));
        check(Arc::new(StringArray::from(vec!["1970-01-01", "x"])), Type::Timestamp, auto(), Ok(&[Time(0), Null]));
        check(
            Arc::new(Int32Array::from(vec![2])),
            Type::Timestamp,
            TimeFormat::Epoch(Unit::Second),
            Ok(&[Time(2_000_000)]),
        );
        check(Arc::new(Int32Array::from(vec![2])), Type::Timestamp, auto(), Err("timestamp_unit"));
        check(Arc::new(Int32Array::from(vec![2])), Type::String, auto(), Ok(&[Str("2".into())]));
        check(Arc::new(Int32Array::from(vec![2])), Type::Bool, auto(), Err("neither"));
        check(Arc::new(StringArray::from(vec!["12", "x"])), Type::Int64, auto(), Ok(&[Int(12), Null]));
    }
}
