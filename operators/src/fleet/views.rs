//! How rows of views are made and told.

use engine::operator::Context;
use engine::plan::StepOutput;
use types::{Column, Delta, RowCodec, Schema, Type, Value};

/// A row as cells.
pub type Row = Vec<Value>;

/// A column that is never null.
pub fn column(name: &str, ty: Type) -> Column {
    Column { name: name.to_owned(), ty, nullable: false }
}

/// An output whose key are its first columns.
pub fn table(suffix: Option<&'static str>, key: Vec<Column>, others: Vec<Column>) -> StepOutput {
    let keys = (0..key.len()).collect();
    let columns = key.into_iter().chain(others).collect();
    StepOutput { suffix, schema: Schema { columns, key: keys, event_time: None, append_only: false } }
}

/// A stream of decisions with the columns of a table that has an `at`: its key is that and the table's.
pub fn stream(suffix: &'static str, of: &StepOutput) -> StepOutput {
    let mut schema = of.schema.clone();
    let at = schema.index_of("at").expect("decisions have a time");
    schema.key.insert(0, at);
    schema.event_time = Some(at);
    schema.append_only = true;
    StepOutput { suffix: Some(suffix), schema }
}

/// Tells of changes of one output.
pub fn emit(context: &mut Context, output: usize, codec: &RowCodec, gone: &[Row], come: &[Row]) {
    if !gone.is_empty() {
        context.emit(output, Delta::delete(codec.batch(gone)));
    }
    if !come.is_empty() {
        context.emit(output, Delta::insert(codec.batch(come)));
    }
}
