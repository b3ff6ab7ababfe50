//! The sinks: everything a sink's `type` can be.
//!
//! They share how a change becomes text ([`encode`]); what makes each exactly once is its own: a Kafka transaction that
//! holds the records and the mark, a file that is whole or absent and carries the mark in its name.

mod encode;
mod file;
mod file_options;
mod kafka;
mod kafka_options;
#[cfg(test)]
mod tests;

use engine::SinkDef;

/// Every sink.
pub fn sinks() -> Vec<SinkDef> {
    vec![kafka_options::DEF, file_options::DEF]
}
