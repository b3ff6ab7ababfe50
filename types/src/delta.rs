//! What travels between steps: a batch of rows of one epoch, each with a difference.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Float64Array, Int64Array, RecordBatch, UInt32Array};
use arrow::compute::{concat_batches, take_record_batch};
use arrow::datatypes::{DataType, Float64Type, SchemaRef};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::value::canonical;

/// Rows with differences: +1 says the row is there now, −1 that it is there no more.
///
/// Within one epoch the same row may come and go; only the sum counts. Batches share their columns:
/// cloning one is cheap.
#[derive(Clone, Debug)]
pub struct Delta {
    /// The rows.
    pub rows: RecordBatch,
    /// One difference a row; `None` when every one is +1 (the common case on the way in).
    diffs: Option<Arc<[i64]>>,
}

impl Delta {
    /// Rows that are all inserted.
    pub fn insert(rows: RecordBatch) -> Delta {
        Delta { rows, diffs: None }
    }

    /// Rows that are all taken back.
    pub fn delete(rows: RecordBatch) -> Delta {
        let diffs = vec![-1; rows.num_rows()];
        Delta::new(rows, diffs)
    }

    /// Rows with their differences. Panics if the lengths differ.
    pub fn new(rows: RecordBatch, diffs: Vec<i64>) -> Delta {
        assert_eq!(rows.num_rows(), diffs.len(), "one difference a row");
        if diffs.iter().all(|d| *d == 1) {
            Delta { rows, diffs: None }
        } else {
            Delta { rows, diffs: Some(diffs.into()) }
        }
    }

    /// How many rows there are, of either sign.
    #[inline]
    pub fn len(&self) -> usize {
        self.rows.num_rows()
    }

    /// Whether there are none.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The difference of a row.
    #[inline]
    pub fn diff(&self, row: usize) -> i64 {
        self.diffs.as_ref().map_or(1, |d| d[row])
    }

    /// True if every difference is +1.
    #[inline]
    pub fn is_insert_only(&self) -> bool {
        self.diffs.is_none()
    }

    /// The differences as a vector.
    pub fn diffs(&self) -> Vec<i64> {
        (0..self.len()).map(|i| self.diff(i)).collect()
    }

    /// A column by position.
    #[inline]
    pub fn column(&self, index: usize) -> &ArrayRef {
        self.rows.column(index)
    }

    /// The rows at these positions, in this order.
    pub fn take(&self, rows: &[u32]) -> Delta {
        let taken = take_record_batch(&self.rows, &UInt32Array::from(rows.to_vec())).expect("positions are in range");
        match &self.diffs {
            None => Delta::insert(taken),
            Some(d) => Delta::new(taken, rows.iter().map(|r| d[*r as usize]).collect()),
        }
    }

    /// The same differences over other columns (a projection). Panics if the lengths differ.
    pub fn with_rows(&self, rows: RecordBatch) -> Delta {
        assert_eq!(rows.num_rows(), self.len(), "a projection keeps the rows");
        Delta { rows, diffs: self.diffs.clone() }
    }

    /// All of them in one, in order. Returns `None` for an empty list.
    pub fn concat(deltas: &[Delta]) -> Option<Delta> {
        let first = deltas.first()?;
        if deltas.len() == 1 {
            return Some(first.clone());
        }
        let rows = concat_batches(&first.rows.schema(), deltas.iter().map(|d| &d.rows)).expect("one schema");
        if deltas.iter().all(|d| d.is_insert_only()) {
            return Some(Delta::insert(rows));
        }
        Some(Delta::new(rows, deltas.iter().flat_map(|d| d.diffs()).collect()))
    }

    /// The same rows with every float in its one stored form (one NaN, no negative zero).
    pub fn canonical(self) -> Delta {
        Delta { rows: canonical_batch(self.rows), diffs: self.diffs }
    }
}

/// A batch with every float in its one stored form (one NaN, no negative zero).
fn canonical_batch(rows: RecordBatch) -> RecordBatch {
    let odd = |a: &ArrayRef| {
        a.data_type() == &DataType::Float64
            && a.as_primitive::<Float64Type>().values().iter().any(|v| canonical(*v).to_bits() != v.to_bits())
    };
    if !rows.columns().iter().any(odd) {
        return rows;
    }
    let schema: SchemaRef = rows.schema();
    let columns = rows
        .columns()
        .iter()
        .map(|a| {
            if odd(a) {
                let clean: Float64Array = a.as_primitive::<Float64Type>().unary(canonical);
                Arc::new(clean) as ArrayRef
            } else {
                a.clone()
            }
        })
        .collect();
    RecordBatch::try_new(schema, columns).expect("the same shape")
}

// Serialisation exists for timely's exchange between processes; inside a process batches move by reference.
impl Serialize for Delta {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::Error;
        let diffs = Arc::new(Int64Array::from(self.diffs())) as ArrayRef;
        let mut fields: Vec<_> = self.rows.schema().fields().iter().cloned().collect();
        fields.push(Arc::new(arrow::datatypes::Field::new("_diff", DataType::Int64, false)));
        let mut columns = self.rows.columns().to_vec();
        columns.push(diffs);
        let schema = Arc::new(arrow::datatypes::Schema::new(fields));
        let batch = RecordBatch::try_new(schema.clone(), columns).map_err(S::Error::custom)?;
        let mut bytes = Vec::new();
        let mut writer = arrow::ipc::writer::StreamWriter::try_new(&mut bytes, &schema).map_err(S::Error::custom)?;
        writer.write(&batch).and_then(|()| writer.finish()).map_err(S::Error::custom)?;
        drop(writer);
        bytes.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Delta {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        use serde::de::Error;
        let bytes = Vec::<u8>::deserialize(deserializer)?;
        let mut reader = arrow::ipc::reader::StreamReader::try_new(bytes.as_slice(), None).map_err(D::Error::custom)?;
        let batch = reader.next().ok_or_else(|| D::Error::custom("no batch"))?.map_err(D::Error::custom)?;
        let last = batch.num_columns() - 1;
        let diffs = batch.column(last).as_primitive::<arrow::datatypes::Int64Type>().values().to_vec();
        let rows = batch.project(&(0..last).collect::<Vec<_>>()).map_err(D::Error::custom)?;
        Ok(Delta::new(rows, diffs))
    }
}
