//! One cell: its type and its value, for the places where a row is handled alone (models, tests, JSON).

use std::cmp::Ordering;
use std::fmt;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanBuilder, Decimal128Builder, Float64Builder, Int64Builder, StringBuilder,
    TimestampMicrosecondBuilder,
};
use arrow::datatypes::{DataType, Decimal128Type, Float64Type, Int64Type, TimeUnit, TimestampMicrosecondType};

/// The types a column may have. Everything a source delivers or an expression computes is one of these.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Type {
    /// `bool`.
    Bool,
    /// `int64`: signed, 64 bits.
    Int64,
    /// `float64`: IEEE 754, ordered by `total_cmp`, one NaN, one zero.
    Float64,
    /// `string`: UTF-8.
    String,
    /// `timestamp`: microseconds since 1970 UTC.
    Timestamp,
    /// `decimal`: 38 digits, scale 0; what an exact sum of integers needs.
    Decimal,
}

impl Type {
    /// Every type with the name a pipeline file uses.
    pub const NAMES: [(&'static str, Type); 6] = [
        ("bool", Type::Bool),
        ("int64", Type::Int64),
        ("float64", Type::Float64),
        ("string", Type::String),
        ("timestamp", Type::Timestamp),
        ("decimal", Type::Decimal),
    ];

    /// The name a pipeline file uses.
    pub fn name(self) -> &'static str {
        Self::NAMES.iter().find(|(_, t)| *t == self).expect("every type is named").0
    }

    /// The type of that name.
    pub fn parse(name: &str) -> Option<Type> {
        Self::NAMES.iter().find(|(n, _)| *n == name).map(|(_, t)| *t)
    }

    /// The arrow type that carries it.
    pub fn arrow(self) -> DataType {
        match self {
            Type::Bool => DataType::Boolean,
            Type::Int64 => DataType::Int64,
            Type::Float64 => DataType::Float64,
            Type::String => DataType::Utf8,
            Type::Timestamp => DataType::Timestamp(TimeUnit::Microsecond, Some(Arc::from("UTC"))),
            Type::Decimal => DataType::Decimal128(38, 0),
        }
    }

    /// The type an arrow column already has, if it is exactly one of ours.
    pub fn from_arrow(data_type: &DataType) -> Option<Type> {
        Self::NAMES.iter().map(|(_, t)| *t).find(|t| t.arrow() == *data_type)
    }
}

impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// One cell. Equality and order are those of the stored bytes: nulls first, floats by `total_cmp`.
#[derive(Clone, Debug)]
pub enum Value {
    /// Absent.
    Null,
    /// A truth value.
    Bool(bool),
    /// An integer.
    Int(i64),
    /// A float.
    Float(f64),
    /// A string.
    Str(String),
    /// Microseconds since 1970 UTC.
    Time(i64),
    /// An exact integer of up to 38 digits.
    Decimal(i128),
}

impl Value {
    /// The cell of an array. Panics if the array is not of a [`Type`].
    pub fn at(array: &dyn Array, row: usize) -> Value {
        if array.is_null(row) {
            return Value::Null;
        }
        match Type::from_arrow(array.data_type()).expect("a column of a known type") {
            Type::Bool => Value::Bool(array.as_boolean().value(row)),
            Type::Int64 => Value::Int(array.as_primitive::<Int64Type>().value(row)),
            Type::Float64 => Value::Float(array.as_primitive::<Float64Type>().value(row)),
            Type::String => Value::Str(array.as_string::<i32>().value(row).to_owned()),
            Type::Timestamp => Value::Time(array.as_primitive::<TimestampMicrosecondType>().value(row)),
            Type::Decimal => Value::Decimal(array.as_primitive::<Decimal128Type>().value(row)),
        }
    }

    /// An array of one type from cells. A cell of another type is a bug of the caller and panics.
    pub fn array<'a>(ty: Type, cells: impl IntoIterator<Item = &'a Value>) -> ArrayRef {
        macro_rules! build {
            ($builder:expr, $variant:ident) => {{
                let mut builder = $builder;
                for cell in cells {
                    match cell {
                        Value::Null => builder.append_null(),
                        Value::$variant(v) => builder.append_value(v.clone()),
                        other => panic!("{other:?} in a column of type {ty}"),
                    }
                }
                Arc::new(builder.finish()) as ArrayRef
            }};
        }
        match ty {
            Type::Bool => build!(BooleanBuilder::new(), Bool),
            Type::Int64 => build!(Int64Builder::new(), Int),
            Type::Float64 => build!(Float64Builder::new(), Float),
            Type::String => build!(StringBuilder::new(), Str),
            Type::Timestamp => build!(TimestampMicrosecondBuilder::new().with_timezone("UTC"), Time),
            Type::Decimal => build!(Decimal128Builder::new().with_data_type(ty.arrow()), Decimal),
        }
    }

    fn rank(&self) -> u8 {
        match self {
            Value::Null => 0,
            Value::Bool(_) => 1,
            Value::Int(_) => 2,
            Value::Float(_) => 3,
            Value::Str(_) => 4,
            Value::Time(_) => 5,
            Value::Decimal(_) => 6,
        }
    }
}

impl Ord for Value {
    fn cmp(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Value::Bool(a), Value::Bool(b)) => a.cmp(b),
            (Value::Int(a), Value::Int(b)) => a.cmp(b),
            (Value::Float(a), Value::Float(b)) => a.total_cmp(b),
            (Value::Str(a), Value::Str(b)) => a.as_bytes().cmp(b.as_bytes()),
            (Value::Time(a), Value::Time(b)) => a.cmp(b),
            (Value::Decimal(a), Value::Decimal(b)) => a.cmp(b),
            _ => self.rank().cmp(&other.rank()),
        }
    }
}

impl PartialOrd for Value {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Value {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Value {}

/// The one form of a float that is stored: one NaN, no negative zero.
pub(crate) fn canonical(v: f64) -> f64 {
    if v.is_nan() {
        f64::NAN
    } else if v == 0.0 {
        0.0
    } else {
        v
    }
}
