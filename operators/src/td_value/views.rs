//! What readers see of a value function: the schemas of its outputs.

use engine::plan::StepOutput;
use types::{Column, SEQ, Schema, Type};

use super::options::TdValue;

/// The outputs, in order: the values, and then what is asked for of `errors` and `changes`.
pub fn outputs(td: &TdValue) -> Vec<StepOutput> {
    let t = &td.transition;
    let column = |i: &usize| td.input.columns[*i].clone();
    let own = |(name, ty): (&str, Type)| Column { name: name.to_owned(), ty, nullable: false };
    let partition: Vec<Column> = t.partition.iter().map(column).collect();
    let view = |suffix, key: usize, columns: Vec<Column>| StepOutput {
        suffix,
        schema: Schema { columns, key: (0..key).collect(), event_time: None, append_only: false },
    };

    let mut columns = partition.clone();
    match td.places {
        None => columns.extend(t.state.iter().map(column)),
        Some(_) => columns.push(own(("cell", Type::String))),
    }
    let key = columns.len();
    columns.extend([("value", Type::Float64), ("visits", Type::Int64), ("updated_at", Type::Timestamp)].map(own));
    let mut outputs = vec![view(None, key, columns)];
    if td.has_errors {
        let mut columns = partition.clone();
        let floats = ["mean", "mean_absolute", "greatest"].map(|name| (name, Type::Float64));
        columns.push(own(("count", Type::Int64)));
        columns.extend(floats.map(own));
        columns.push(own(("refused", Type::Int64)));
        outputs.push(view(Some("errors"), partition.len(), columns));
    }
    if td.has_changes {
        let n = partition.len();
        let mut columns = partition;
        columns.extend(
            [("at", Type::Timestamp), ("cell", Type::String), ("value", Type::Float64), (SEQ, Type::Int64)].map(own),
        );
        let key = [n, n + 3].into_iter().chain(0..n).chain([n + 1]).collect();
        let schema = Schema { columns, key, event_time: Some(n), append_only: true };
        outputs.push(StepOutput { suffix: Some("changes"), schema });
    }
    outputs
}
