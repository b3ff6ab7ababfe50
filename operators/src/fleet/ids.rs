//! Which market, driver or order a row is of: bytes whose order is that of the values.

use arrow::array::{Array, ArrayRef, RecordBatch};
use arrow::row::{RowConverter, Rows, SortField};
use types::{Schema, Type, Value};

/// The bytes of a market, driver or order.
pub type Id = Box<[u8]>;

/// From columns to bytes and back.
pub struct Ids {
    columns: Vec<usize>,
    types: Vec<Type>,
    converter: RowConverter,
}

impl Ids {
    /// For these columns of rows of a schema.
    pub fn new(schema: &Schema, columns: &[usize]) -> Ids {
        let types: Vec<Type> = columns.iter().map(|c| schema.columns[*c].ty).collect();
        let fields = types.iter().map(|ty| SortField::new(ty.arrow())).collect();
        let converter = RowConverter::new(fields).expect("every type is supported");
        Ids { columns: columns.to_vec(), types, converter }
    }

    /// The ids of all rows; `None` without columns, when every id is empty.
    pub fn of(&self, rows: &RecordBatch) -> Option<Rows> {
        if self.columns.is_empty() {
            return None;
        }
        let columns: Vec<ArrayRef> = self.columns.iter().map(|c| rows.column(*c).clone()).collect();
        Some(self.converter.convert_columns(&columns).expect("columns of the planned types"))
    }

    /// Whether a part of a row's id is null.
    pub fn is_null(&self, rows: &RecordBatch, row: usize) -> bool {
        self.columns.iter().any(|c| rows.column(*c).is_null(row))
    }

    /// The bytes of cells.
    pub fn id(&self, cells: &[Value]) -> Id {
        if cells.is_empty() {
            return Id::default();
        }
        let columns: Vec<ArrayRef> = self.types.iter().zip(cells).map(|(ty, cell)| Value::array(*ty, [cell])).collect();
        self.converter.convert_columns(&columns).expect("the planned types").row(0).data().into()
    }

    /// The cells of bytes.
    pub fn cells(&self, id: &[u8]) -> Vec<Value> {
        if self.columns.is_empty() {
            return Vec::new();
        }
        let columns = self.converter.convert_rows([self.converter.parser().parse(id)]).expect("bytes of our own");
        columns.iter().map(|column| Value::at(column, 0)).collect()
    }
}

/// The bytes of one row's id.
pub fn id_at(ids: &Option<Rows>, row: usize) -> Id {
    ids.as_ref().map_or_else(Id::default, |ids| ids.row(row).data().into())
}
