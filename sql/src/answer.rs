//! The rows of an answer as rows of this engine: whatever a query computes comes as one of the six types.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions, StringArray};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{DataType, SchemaRef};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use engine::query::Error;
use types::{Column, Schema, Type};

use super::failure::converting;

/// How the rows that come are made rows of ours.
#[derive(Debug)]
pub(super) struct Answer {
    columns: Vec<Column>,
    schema: SchemaRef,
}

impl Answer {
    /// Of rows of a schema. Rows are objects in most formats, so two columns of one name are refused.
    pub(super) fn new(schema: &SchemaRef) -> Result<Answer, Error> {
        let mut columns: Vec<Column> = Vec::with_capacity(schema.fields().len());
        for field in schema.fields() {
            if columns.iter().any(|c| c.name == *field.name()) {
                return Err(Error::Bad(format!(
                    "the answer has two columns `{0}`: give one of them another name with AS",
                    field.name()
                )));
            }
            let ty = of(field.data_type());
            columns.push(Column { name: field.name().clone(), ty, nullable: field.is_nullable() });
        }
        let schema = Schema { columns, key: Vec::new(), event_time: None, append_only: false };
        Ok(Answer { schema: schema.arrow(), columns: schema.columns })
    }

    pub(super) fn columns(&self) -> &[Column] {
        &self.columns
    }

    pub(super) fn rows(&self, rows: &RecordBatch) -> Result<RecordBatch, Error> {
        let columns =
            rows.columns().iter().zip(&self.columns).map(|(a, c)| convert(a, c.ty)).collect::<Result<Vec<_>, _>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(rows.num_rows()));
        RecordBatch::try_new_with_options(Arc::clone(&self.schema), columns, &options)
            .map_err(|e| Error::Broken(e.to_string()))
    }
}

/// The type values of an arrow type come in. What none of ours can carry comes as text.
fn of(data_type: &DataType) -> Type {
    match data_type {
        DataType::Boolean => Type::Bool,
        DataType::Int8 | DataType::Int16 | DataType::Int32 | DataType::Int64 => Type::Int64,
        DataType::UInt8 | DataType::UInt16 | DataType::UInt32 => Type::Int64,
        DataType::UInt64 | DataType::Decimal128(_, 0) => Type::Decimal,
        DataType::Float16 | DataType::Float32 | DataType::Float64 | DataType::Decimal128(_, _) => Type::Float64,
        DataType::Date32 | DataType::Date64 | DataType::Timestamp(_, _) => Type::Timestamp,
        DataType::Dictionary(_, value) => of(value),
        _ => Type::String,
    }
}

fn convert(array: &ArrayRef, ty: Type) -> Result<ArrayRef, Error> {
    let wanted = ty.arrow();
    if *array.data_type() == wanted {
        return Ok(Arc::clone(array));
    }
    let text = matches!(
        array.data_type(),
        DataType::Utf8View | DataType::LargeUtf8 | DataType::Null | DataType::Dictionary(_, _)
    );
    if ty == Type::String && !text {
        return shown(array);
    }
    let options = CastOptions { safe: false, ..CastOptions::default() };
    cast_with_options(array, &wanted, &options).map_err(|e| converting(&e))
}

/// Every value as text.
fn shown(array: &ArrayRef) -> Result<ArrayRef, Error> {
    let options = FormatOptions::new().with_null("");
    let formatter = ArrayFormatter::try_new(array, &options).map_err(|e| converting(&e))?;
    let texts: Vec<Option<String>> = (0..array.len())
        .map(|i| {
            if array.is_null(i) {
                return Ok(None);
            }
            formatter.value(i).try_to_string().map(Some)
        })
        .collect::<Result<_, _>>()
        .map_err(|e| converting(&e))?;
    Ok(Arc::new(StringArray::from(texts)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{
        Date32Array, Decimal128Array, Float32Array, Int32Array, IntervalMonthDayNanoArray, TimestampSecondArray,
        UInt64Array,
    };
    use arrow::datatypes::{Field, IntervalMonthDayNanoType, Schema as ArrowSchema};
    use types::Value;

    fn values(array: ArrayRef) -> Result<(Type, Vec<Value>), Error> {
        let schema = Arc::new(ArrowSchema::new(vec![Field::new("x", array.data_type().clone(), true)]));
        let answer = Answer::new(&schema)?;
        let rows = answer.rows(&RecordBatch::try_new(schema, vec![array]).unwrap())?;
        Ok((answer.columns()[0].ty, (0..rows.num_rows()).map(|i| Value::at(rows.column(0), i)).collect()))
    }

    #[test]
    fn what_no_column_can_have_comes_as_what_carries_it() {
        let check = |array: ArrayRef, ty, want: Vec<Value>| {
            assert_eq!(values(array).unwrap(), (ty, want));
        };
        check(Arc::new(Int32Array::from(vec![Some(1), None])), Type::Int64, vec![Value::Int(1), Value::Null]);
        let great = i128::from(u64::MAX);
        check(Arc::new(UInt64Array::from(vec![u64::MAX])), Type::Decimal, vec![Value::Decimal(great)]);
        check(Arc::new(Float32Array::from(vec![0.5])), Type::Float64, vec![Value::Float(0.5)]);
        check(Arc::new(Date32Array::from(vec![1])), Type::Timestamp, vec![Value::Time(86_400_000_000)]);
        check(Arc::new(TimestampSecondArray::from(vec![-1])), Type::Timestamp, vec![Value::Time(-1_000_000)]);
        let cents = Decimal128Array::from(vec![150]).with_precision_and_scale(10, 2).unwrap();
        check(Arc::new(cents), Type::Float64, vec![Value::Float(1.5)]);
        let month = IntervalMonthDayNanoType::make_value(1, 0, 0);
        let month = IntervalMonthDayNanoArray::from(vec![Some(month), None]);
        check(Arc::new(month), Type::String, vec![Value::Str("1 mons".into()), Value::Null]);
        check(arrow::array::new_null_array(&DataType::Null, 1), Type::String, vec![Value::Null]);
    }

    #[test]
    fn a_value_that_does_not_fit_is_an_error_and_no_null() {
        let far = TimestampSecondArray::from(vec![i64::MAX]);
        assert!(matches!(values(Arc::new(far)), Err(Error::Failed(_))));
    }

    #[test]
    fn columns_have_different_names() {
        let field = || Field::new("x", DataType::Int64, true);
        let schema = Arc::new(ArrowSchema::new(vec![field(), field()]));
        assert!(matches!(Answer::new(&schema), Err(Error::Bad(m)) if m.contains("two columns `x`")));
    }
}
