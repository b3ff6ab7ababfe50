//! What an output of `aggregate` shows, a column at a time, before it is an array.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanArray, Decimal128Array, Float64Array, Int64Array, StringArray, TimestampMicrosecondArray,
};
use arrow::buffer::{NullBuffer, ScalarBuffer};
use types::Type;

/// A column of an output, before it is an array.
pub(crate) struct Cells {
    data: Data,
    valid: Vec<bool>,
}

enum Data {
    /// int64, timestamp, and bool as 0 and 1.
    Int(Vec<i64>),
    Float(Vec<f64>),
    Decimal(Vec<i128>),
    Text(Vec<Box<str>>),
}

impl Cells {
    pub fn new(ty: Type, capacity: usize) -> Cells {
        let data = match ty {
            Type::Float64 => Data::Float(Vec::with_capacity(capacity)),
            Type::Decimal => Data::Decimal(Vec::with_capacity(capacity)),
            Type::String => Data::Text(Vec::with_capacity(capacity)),
            _ => Data::Int(Vec::with_capacity(capacity)),
        };
        Cells { data, valid: Vec::with_capacity(capacity) }
    }

    pub fn ints(&mut self, values: &[i64]) {
        let Data::Int(data) = &mut self.data else { unreachable!("one column, one type") };
        self.valid.resize(self.valid.len() + values.len(), true);
        data.extend_from_slice(values);
    }

    pub fn nullable_ints(&mut self, values: impl Iterator<Item = Option<i64>>) {
        let Data::Int(data) = &mut self.data else { unreachable!("one column, one type") };
        extend(data, &mut self.valid, values);
    }

    pub fn floats(&mut self, values: impl Iterator<Item = Option<f64>>) {
        let Data::Float(data) = &mut self.data else { unreachable!("one column, one type") };
        extend(data, &mut self.valid, values);
    }

    pub fn decimals(&mut self, values: impl Iterator<Item = Option<i128>>) {
        let Data::Decimal(data) = &mut self.data else { unreachable!("one column, one type") };
        extend(data, &mut self.valid, values);
    }

    pub fn texts(&mut self, values: impl Iterator<Item = Option<Box<str>>>) {
        let Data::Text(data) = &mut self.data else { unreachable!("one column, one type") };
        extend(data, &mut self.valid, values);
    }

    /// Whether two cells are the same.
    #[inline]
    pub fn same(&self, a: usize, b: usize) -> bool {
        if self.valid[a] != self.valid[b] {
            return false;
        }
        !self.valid[a]
            || match &self.data {
                Data::Int(v) => v[a] == v[b],
                Data::Float(v) => v[a].to_bits() == v[b].to_bits(),
                Data::Decimal(v) => v[a] == v[b],
                Data::Text(v) => v[a] == v[b],
            }
    }

    /// The cells at some places as an array.
    pub fn array(&self, places: &[u32], ty: Type) -> ArrayRef {
        let valid: Vec<bool> = places.iter().map(|p| self.valid[*p as usize]).collect();
        let nulls = valid.contains(&false).then(|| NullBuffer::from(valid));
        match &self.data {
            Data::Int(v) => {
                let values = places.iter().map(|p| v[*p as usize]);
                match ty {
                    Type::Bool => Arc::new(BooleanArray::new(values.map(|v| v != 0).collect(), nulls)),
                    Type::Timestamp => {
                        let values: ScalarBuffer<i64> = values.collect();
                        Arc::new(TimestampMicrosecondArray::new(values, nulls).with_timezone("UTC"))
                    }
                    _ => Arc::new(Int64Array::new(values.collect(), nulls)),
                }
            }
            Data::Float(v) => Arc::new(Float64Array::new(places.iter().map(|p| v[*p as usize]).collect(), nulls)),
            Data::Decimal(v) => {
                let values: ScalarBuffer<i128> = places.iter().map(|p| v[*p as usize]).collect();
                Arc::new(Decimal128Array::new(values, nulls).with_data_type(ty.arrow()))
            }
            Data::Text(v) => Arc::new(StringArray::from_iter(
                places.iter().map(|p| self.valid[*p as usize].then(|| &*v[*p as usize])),
            )),
        }
    }
}

#[inline]
fn extend<T: Default>(data: &mut Vec<T>, valid: &mut Vec<bool>, values: impl Iterator<Item = Option<T>>) {
    for value in values {
        valid.push(value.is_some());
        data.push(value.unwrap_or_default());
    }
}
