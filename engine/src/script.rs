//! A source that delivers rows it was given: for tests, those in pipeline files and those of the engine.

use std::sync::Arc;

use types::{Column, Position, RowCodec, Schema};

use crate::catalogue::Row;
use crate::connector::{Connector, ConnectorError, ConnectorFactory, Next, SourceEnv, SourceRows};

/// Rows to be delivered, in order, in chunks of a given size; then the source ends.
#[derive(Clone, Debug)]
pub struct Script {
    columns: Vec<Column>,
    rows: Arc<Vec<Row>>,
    chunk_rows: usize,
}

impl Script {
    /// A source of these rows: a cell for each of the columns, of its type or null.
    pub fn new(columns: Vec<Column>, rows: Vec<Row>, chunk_rows: usize) -> Script {
        Script { columns, rows: Arc::new(rows), chunk_rows: chunk_rows.max(1) }
    }
}

impl ConnectorFactory for Script {
    fn open(&self, position: &Position, _env: &SourceEnv) -> Result<Box<dyn Connector>, ConnectorError> {
        let at = position.anchor.as_u64().unwrap_or(0) as usize;
        Ok(Box::new(Open { script: self.clone(), at }))
    }

    fn describe(&self) -> String {
        format!("{} scripted rows", self.rows.len())
    }
}

struct Open {
    script: Script,
    at: usize,
}

impl Connector for Open {
    fn next(&mut self) -> Result<Next, ConnectorError> {
        let rows = &self.script.rows;
        if self.at >= rows.len() {
            return Ok(Next::End);
        }
        let end = rows.len().min(self.at.saturating_add(self.script.chunk_rows));
        let columns = self.script.columns.clone();
        let schema = Schema { columns, key: Vec::new(), event_time: None, append_only: true };
        let batch = RowCodec::new(&schema).batch(&rows[self.at..end]);
        let next = SourceRows {
            start: (self.at as u64).into(),
            end: (end as u64).into(),
            first_seq: self.at as u64,
            next_seq: end as u64,
            rows: batch,
            seqs: None,
            faults: Vec::new(),
        };
        self.at = end;
        Ok(Next::Rows(next))
    }
}
