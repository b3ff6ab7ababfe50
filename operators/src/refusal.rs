//! How an operator refuses a row: the one way rows become faults of a step.

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::Int64Type;
use engine::operator::Context;
use types::{Fault, RowCodec, SEQ, Schema, fault_seq, json};

/// Names the rows of one input relation in faults.
#[derive(Debug)]
pub(crate) struct Refusal {
    relation: String,
    schema: Schema,
    codec: RowCodec,
    seq: Option<usize>,
}

impl Refusal {
    /// For the rows of a relation.
    pub fn new(relation: &str, schema: &Schema) -> Refusal {
        Refusal {
            relation: relation.to_owned(),
            codec: RowCodec::new(schema),
            seq: if schema.append_only { schema.index_of(SEQ) } else { None },
            schema: schema.clone(),
        }
    }

    /// Reports a row of the relation (with its diff: −1 takes the report back).
    pub fn refuse(
        &self,
        context: &mut Context,
        rows: &RecordBatch,
        row: usize,
        diff: i64,
        reason: &str,
        detail: String,
    ) {
        let one = rows.slice(row, 1);
        let seq = match self.seq {
            Some(i) if one.column(i).is_valid(0) => one.column(i).as_primitive::<Int64Type>().value(0) as u64,
            _ => fault_seq(self.codec.keys(&one).row(0).data()),
        };
        let mut raw = Vec::new();
        json::write_row(&mut raw, &self.schema, &one, 0);
        let fault = Fault {
            source: self.relation.clone(),
            seq,
            at: String::new(),
            reason: reason.to_owned(),
            detail,
            provenance: String::new(),
            raw: Fault::raw_text(&raw),
        };
        context.fault(fault, diff);
    }
}

/// The reason of a fault whose row an expression has no value for.
pub(crate) const EXPRESSION: &str = "expression";
