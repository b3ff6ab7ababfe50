//! Rows as order-preserving bytes and back: comparable without decoding, and the very keys of the store.
//!
//! The bytes are arrow-row's: a key's bytes are never a proper prefix of another's in the same schema, so an
//! epoch may be appended. They are part of the store's format; a test pins them.

use std::sync::Arc;

use arrow::array::{ArrayRef, BinaryArray, RecordBatch, RecordBatchOptions};
use arrow::row::{RowConverter, Rows, SortField};
use smallvec::SmallVec;

use crate::{Column, Schema, Value, cell, json};

/// Bytes that are not rows of this schema.
#[derive(Debug, thiserror::Error)]
#[error("these bytes are no row of this relation: {0}")]
pub struct CodecError(String);

/// Encodes a relation's rows into (key bytes, value bytes) and back.
#[derive(Debug)]
pub struct RowCodec {
    schema: Schema,
    arrow: arrow::datatypes::SchemaRef,
    non_key: Vec<usize>,
    keys: RowConverter,
    values: RowConverter,
    /// What stands before each column's cell in JSON: `{"name":`, `,"name":`.
    names: Vec<Vec<u8>>,
}

impl RowCodec {
    /// A codec for a relation.
    pub fn new(schema: &Schema) -> RowCodec {
        let converter = |columns: &[usize]| {
            RowConverter::new(columns.iter().map(|i| SortField::new(schema.columns[*i].ty.arrow())).collect())
                .expect("every type is supported")
        };
        let non_key = schema.non_key();
        let name = |(i, c): (usize, &Column)| {
            let before = if i == 0 { '{' } else { ',' };
            format!("{before}{}:", serde_json::Value::from(c.name.as_str())).into_bytes()
        };
        RowCodec {
            names: schema.columns.iter().enumerate().map(name).collect(),
            arrow: schema.arrow(),
            keys: converter(&schema.key),
            values: converter(&non_key),
            non_key,
            schema: schema.clone(),
        }
    }

    /// The relation's schema.
    pub fn schema(&self) -> &Schema {
        &self.schema
    }

    /// The key bytes of every row.
    pub fn keys(&self, rows: &RecordBatch) -> Rows {
        self.convert(&self.keys, &self.schema.key, rows)
    }

    /// The bytes of every row's other columns. Without other columns every row has none.
    pub fn values(&self, rows: &RecordBatch) -> Rows {
        self.convert(&self.values, &self.non_key, rows)
    }

    /// A key's bytes from its cells, in key order.
    pub fn key_of(&self, cells: &[Value]) -> Vec<u8> {
        assert_eq!(cells.len(), self.schema.key.len(), "one cell a key column");
        self.prefix_of(cells)
    }

    /// The bytes with which every key starts whose first columns are these cells.
    pub fn prefix_of(&self, cells: &[Value]) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(16 * cells.len());
        for (i, c) in self.schema.key[..cells.len()].iter().zip(cells) {
            cell::write(&mut bytes, self.schema.columns[*i].ty, c);
        }
        bytes
    }

    /// Appends a row from its bytes as a JSON object: the same text as [`crate::json::write_row`], without arrays.
    /// The error says that the bytes are damaged or of another schema; what was appended is then to be dropped.
    pub fn write_json(&self, out: &mut Vec<u8>, key: &[u8], value: &[u8]) -> Result<(), CodecError> {
        let damaged = || CodecError("a cell cannot be read".to_owned());
        // Key cells stand in key order, and are printed in column order.
        let mut key_cells: SmallVec<[&[u8]; 4]> = SmallVec::new();
        let mut rest = key;
        for i in &self.schema.key {
            key_cells.push(rest);
            cell::skip(&mut rest, self.schema.columns[*i].ty).ok_or_else(damaged)?;
        }
        let mut value = value;
        for (i, column) in self.schema.columns.iter().enumerate() {
            let cell = match self.schema.key.iter().position(|k| *k == i) {
                Some(at) => cell::read(&mut key_cells[at], column.ty),
                None => cell::read(&mut value, column.ty),
            };
            out.extend_from_slice(&self.names[i]);
            json::write_value(out, &cell.ok_or_else(damaged)?);
        }
        if !rest.is_empty() || !value.is_empty() {
            return Err(CodecError("bytes are left over".to_owned()));
        }
        out.push(b'}');
        Ok(())
    }

    /// The cells of a key, in key order. The error as for [`RowCodec::write_json`].
    pub fn key_cells(&self, key: &[u8]) -> Result<Vec<Value>, CodecError> {
        let mut rest = key;
        let cells = self.schema.key.iter().map(|i| cell::read(&mut rest, self.schema.columns[*i].ty));
        cells.collect::<Option<_>>().ok_or_else(|| CodecError("a cell of the key cannot be read".to_owned()))
    }

    /// The cells of a row, in column order. The error as for [`RowCodec::write_json`].
    pub fn cells(&self, key: &[u8], value: &[u8]) -> Result<Vec<Value>, CodecError> {
        let mut cells = vec![Value::Null; self.schema.columns.len()];
        for (i, cell) in self.schema.key.iter().zip(self.key_cells(key)?) {
            cells[*i] = cell;
        }
        let mut rest = value;
        for i in &self.non_key {
            cells[*i] = cell::read(&mut rest, self.schema.columns[*i].ty)
                .ok_or_else(|| CodecError("a cell cannot be read".to_owned()))?;
        }
        Ok(cells)
    }

    /// Rows from their bytes, in order. The error says that the bytes are damaged or of another schema.
    pub fn decode<'a>(&self, rows: impl IntoIterator<Item = (&'a [u8], &'a [u8])>) -> Result<RecordBatch, CodecError> {
        let (keys, values): (Vec<&[u8]>, Vec<&[u8]>) = rows.into_iter().unzip();
        let count = keys.len();
        let keys = decode(&self.keys, &self.schema.key, keys)?;
        let values = decode(&self.values, &self.non_key, values)?;
        let mut columns: Vec<Option<ArrayRef>> = vec![None; self.schema.columns.len()];
        for (i, array) in self.schema.key.iter().zip(keys).chain(self.non_key.iter().zip(values)) {
            columns[*i] = Some(array);
        }
        let columns = columns.into_iter().map(|c| c.expect("every column is in the key or not")).collect();
        let options = RecordBatchOptions::new().with_row_count(Some(count));
        RecordBatch::try_new_with_options(self.arrow.clone(), columns, &options).map_err(|e| CodecError(e.to_string()))
    }

    /// A batch from rows of cells.
    pub fn batch(&self, rows: &[Vec<Value>]) -> RecordBatch {
        let columns = self
            .schema
            .columns
            .iter()
            .enumerate()
            .map(|(i, c)| Value::array(c.ty, rows.iter().map(|r| &r[i])))
            .collect();
        let options = RecordBatchOptions::new().with_row_count(Some(rows.len()));
        RecordBatch::try_new_with_options(self.arrow.clone(), columns, &options).expect("cells of the schema's types")
    }

    fn convert(&self, converter: &RowConverter, columns: &[usize], rows: &RecordBatch) -> Rows {
        if columns.is_empty() {
            return empty_rows(rows.num_rows());
        }
        let arrays: Vec<ArrayRef> = columns.iter().map(|i| Arc::clone(rows.column(*i))).collect();
        converter.convert_columns(&arrays).expect("a batch of this schema")
    }
}

/// `count` rows of no bytes: arrow-row cannot count rows without columns, so empty bytes stand in.
fn empty_rows(count: usize) -> Rows {
    let converter =
        RowConverter::new(vec![SortField::new(arrow::datatypes::DataType::Null)]).expect("null is supported");
    converter.from_binary(BinaryArray::from_iter_values(std::iter::repeat_n(b"", count)))
}

fn decode(converter: &RowConverter, columns: &[usize], rows: Vec<&[u8]>) -> Result<Vec<ArrayRef>, CodecError> {
    if columns.is_empty() {
        return Ok(Vec::new());
    }
    let parser = converter.parser();
    // arrow-row panics on bytes it did not write; the store's checksums make that a damage found earlier.
    converter.convert_rows(rows.into_iter().map(|r| parser.parse(r))).map_err(|e| CodecError(e.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Type;

    fn schema() -> Schema {
        let column = |name: &str, ty| Column { name: name.into(), ty, nullable: true };
        Schema {
            columns: vec![
                column("s", Type::String),
                column("i", Type::Int64),
                column("f", Type::Float64),
                column("b", Type::Bool),
                column("t", Type::Timestamp),
                column("d", Type::Decimal),
            ],
            key: vec![1, 0],
            event_time: None,
            append_only: false,
        }
    }

    fn rows() -> Vec<Vec<Value>> {
        vec![
            vec![
                Value::Str("ab".into()),
                Value::Int(-3),
                Value::Float(1.5),
                Value::Bool(true),
                Value::Time(7),
                Value::Decimal(-9),
            ],
            vec![Value::Null, Value::Int(4), Value::Null, Value::Null, Value::Null, Value::Null],
            vec![
                Value::Str(String::new()),
                Value::Null,
                Value::Float(f64::NAN),
                Value::Bool(false),
                Value::Time(i64::MIN),
                Value::Decimal(i128::from(i64::MAX) * 9),
            ],
        ]
    }

    #[test]
    fn rows_come_back_as_they_went() {
        let codec = RowCodec::new(&schema());
        let batch = codec.batch(&rows());
        let (keys, values) = (codec.keys(&batch), codec.values(&batch));
        let pairs: Vec<_> = (0..3).map(|i| (keys.row(i).data(), values.row(i).data())).collect();
        assert_eq!(codec.decode(pairs).unwrap(), batch);
        assert_eq!(codec.key_of(&[Value::Int(-3), Value::Str("ab".into())]), keys.row(0).data());
        assert!(keys.row(0).data().starts_with(&codec.prefix_of(&[Value::Int(-3)])));
    }

    #[test]
    fn json_from_bytes_is_json_from_arrays() {
        let codec = RowCodec::new(&schema());
        let batch = codec.batch(&rows());
        let (keys, values) = (codec.keys(&batch), codec.values(&batch));
        for row in 0..3 {
            let (mut direct, mut by_arrays) = (Vec::new(), Vec::new());
            codec.write_json(&mut direct, keys.row(row).data(), values.row(row).data()).unwrap();
            json::write_row(&mut by_arrays, &schema(), &batch, row);
            assert_eq!(String::from_utf8(direct), String::from_utf8(by_arrays));
        }
        let key = keys.row(0).data();
        assert!(codec.write_json(&mut Vec::new(), key, &values.row(0).data()[1..]).is_err());
        assert!(codec.write_json(&mut Vec::new(), &key[..key.len() - 1], values.row(0).data()).is_err());
    }

    #[test]
    fn bytes_are_a_format_and_do_not_move() {
        let codec = RowCodec::new(&schema());
        let batch = codec.batch(&rows()[..1]);
        let hex = |b: &[u8]| b.iter().map(|b| format!("{b:02x}")).collect::<String>();
        assert_eq!(hex(codec.keys(&batch).row(0).data()), "017ffffffffffffffd02616200000000000002");
        assert_eq!(
            hex(codec.values(&batch).row(0).data()),
            "01bff80000000000000101018000000000000007017ffffffffffffffffffffffffffffff7"
        );
    }

    #[test]
    fn a_relation_of_keys_alone_has_empty_values() {
        let mut schema = schema();
        schema.columns.truncate(2);
        let codec = RowCodec::new(&schema);
        let batch = codec.batch(&[vec![Value::Str("x".into()), Value::Int(1)], vec![Value::Null, Value::Int(2)]]);
        let (keys, values) = (codec.keys(&batch), codec.values(&batch));
        assert_eq!(values.num_rows(), 2);
        assert!(values.row(1).data().is_empty());
        let pairs: Vec<_> = (0..2).map(|i| (keys.row(i).data(), values.row(i).data())).collect();
        assert_eq!(codec.decode(pairs).unwrap(), batch);
    }
}
