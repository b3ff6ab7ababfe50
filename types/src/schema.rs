//! The shape of a relation: its columns, which of them identify a row, and whether rows are ever taken back.

use std::sync::Arc;

use arrow::datatypes::{Field, SchemaRef};

use crate::Type;

/// One column of a relation.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Column {
    /// Its name, unique in the relation.
    pub name: String,
    /// Its type.
    #[serde(rename = "type")]
    pub ty: Type,
    /// Whether it may be null.
    pub nullable: bool,
}

/// The shape of a relation. Every relation is keyed: at the end of an epoch a key has at most one row.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Schema {
    /// The columns, in the order in which they are shown.
    pub columns: Vec<Column>,
    /// The positions of the key columns, in key order.
    pub key: Vec<usize>,
    /// The position of the column that holds the event time, if the relation has one.
    pub event_time: Option<usize>,
    /// True if no row of this relation is ever taken back or replaced.
    pub append_only: bool,
}

impl Schema {
    /// The position of the column of that name.
    pub fn index_of(&self, name: &str) -> Option<usize> {
        self.columns.iter().position(|c| c.name == name)
    }

    /// The positions of the columns that are not in the key, in column order.
    pub fn non_key(&self) -> Vec<usize> {
        (0..self.columns.len()).filter(|i| !self.key.contains(i)).collect()
    }

    /// The names of the key columns, in key order.
    pub fn key_names(&self) -> Vec<&str> {
        self.key.iter().map(|i| self.columns[*i].name.as_str()).collect()
    }

    /// The arrow schema of a batch of this relation's rows. Every field is nullable: whether a null is
    /// allowed is checked where rows enter, not by arrow.
    pub fn arrow(&self) -> SchemaRef {
        let fields: Vec<Field> = self.columns.iter().map(|c| Field::new(&c.name, c.ty.arrow(), true)).collect();
        Arc::new(arrow::datatypes::Schema::new(fields))
    }
}
