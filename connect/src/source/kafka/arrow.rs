//! Messages that are Arrow IPC streams: the one format of which a message holds any number of rows.

use std::io::Cursor;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{Decimal128Type, Float64Type, Int64Type, TimestampMicrosecondType};
use types::Column;
use types::time::TimeFormat;

use super::super::cells::{Bad, Builder, Cells, RowSpec};
use super::super::columnar::{ColumnarReader, Converted, ipc_columns};

/// Rows of a message, at most: bytes of a few can say that there are more than memory holds.
const ROWS_MAX: usize = 1 << 16;
/// Bytes of memory a message becomes, at most.
const MEMORY_MAX: usize = 256 << 20;

/// The rows of a message.
pub(super) struct Stream {
    /// The columns of the source that the batches have, in their order.
    pub columns: Vec<usize>,
    pub batches: Vec<Converted>,
}

/// Reads a message whole: it is all rows, good and bad, or one fault. Of the source's columns those count that are
/// `wanted`; one that is not in the stream is null.
pub(super) fn read(bytes: &[u8], spec: &RowSpec, wanted: &[bool]) -> Result<Stream, Bad> {
    let unreadable = |why: String| Bad::new("unreadable_payload", format!("no Arrow IPC stream: {why}"));
    let there = ipc_columns(bytes).map_err(unreadable)?;
    let columns: Vec<usize> =
        (0..wanted.len()).filter(|c| wanted[*c] && there.contains(&spec.columns[*c].name)).collect();
    if columns.is_empty() {
        let there = super::super::nearest(&spec.columns[0].name, there.iter().map(String::as_str));
        return Err(Bad::new("missing_column", format!("the message has no column of the source{there}")));
    }
    let own = columns.iter().map(|c| spec.columns[*c].clone()).collect();
    let own = RowSpec::new(own, &[], None, spec.time.clone(), spec.record_bytes_max);
    let mut reader = ColumnarReader::ipc(Box::new(Cursor::new(bytes.to_vec())), &own).map_err(unreadable)?;
    if let Some(misfit) = reader.misfit() {
        return Err(misfit.clone());
    }
    let (mut batches, mut rows, mut memory) = (Vec::new(), 0, 0);
    while let Some(batch) = reader.next(&own) {
        let batch = batch.map_err(unreadable)?;
        rows += batch.batch.num_rows();
        if rows > ROWS_MAX {
            return Err(Bad::new("record_too_large", format!("the message has more than {ROWS_MAX} rows")));
        }
        memory += batch.batch.get_array_memory_size();
        if memory > MEMORY_MAX {
            return Err(Bad::new("record_too_large", format!("the message becomes more than {MEMORY_MAX} bytes")));
        }
        batches.push(batch);
    }
    if rows == 0 {
        return Err(Bad::new("no_value", "the message is an Arrow IPC stream without rows"));
    }
    Ok(Stream { columns, batches })
}

/// Appends one cell of a batch, which is of the column's type.
pub(super) fn push_cell(
    builder: &mut Builder,
    batch: &RecordBatch,
    place: usize,
    row: usize,
    column: &Column,
    time: &TimeFormat,
) -> Result<(), Bad> {
    let array = batch.column(place);
    if array.is_null(row) {
        builder.push_null();
        return Ok(());
    }
    match &mut builder.cells {
        Cells::Bool(v) => v.push(array.as_boolean().value(row)),
        Cells::Int(v) => v.push(array.as_primitive::<Int64Type>().value(row)),
        Cells::Float(v) => v.push(array.as_primitive::<Float64Type>().value(row)),
        Cells::Time(v) => v.push(array.as_primitive::<TimestampMicrosecondType>().value(row)),
        Cells::Decimal(v) => v.push(array.as_primitive::<Decimal128Type>().value(row)),
        Cells::Str { .. } => builder.push_text(array.as_string::<i32>().value(row).as_bytes(), column, time)?,
    }
    Ok(())
}
