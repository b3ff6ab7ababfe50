//! The `kafka` connector: records of Kafka topics, each taken exactly once.
//!
//! Partitions are assigned by hand, and where to read on stands in the engine's own log, not in a consumer group.
//! Which messages make a batch, and in which order, is no function of the topics: it depends on what had arrived. So
//! it is decided once and journalled before the engine sees the batch ([`log`]); after a crash the very same messages
//! are fetched again in the very same order ([`reader`]). See docs/design/0010-kafka.md.

mod arrow;
mod by_id;
mod client;
mod format;
mod key;
mod log;
mod options;
mod partition;
mod reader;
mod record;
mod registry;
pub(crate) mod settings;
#[cfg(test)]
mod tests;
mod topics;
mod wire;

use engine::connector::{Connector, ConnectorError, ConnectorFactory, SourceEnv};
use types::Position;

pub(crate) use options::DEF;
use options::{KafkaOptions, Start};

impl ConnectorFactory for KafkaOptions {
    fn open(&self, position: &Position, env: &SourceEnv) -> Result<Box<dyn Connector>, ConnectorError> {
        Ok(Box::new(reader::Reader::open(self.clone(), position, env)?))
    }

    // Brokers and the client's settings are not part of it: they may change while the store stays what it is, and they
    // may hold secrets.
    fn describe(&self) -> String {
        let mut out = format!("kafka {}", self.topics.describe());
        if let Some(partitions) = &self.partitions {
            let list: Vec<String> = partitions.iter().map(i32::to_string).collect();
            out.push_str(&format!(", partitions {}", list.join(", ")));
        }
        match &self.start {
            Start::Earliest => {}
            Start::Latest => out.push_str(", from its end on"),
            Start::Timestamp(ms) => out.push_str(&format!(", from {ms} ms on")),
            Start::Offsets(offsets) => {
                let list: Vec<String> = offsets.iter().map(|(p, o)| format!("{p}@{o}")).collect();
                out.push_str(&format!(", from {} on", list.join(", ")));
            }
        }
        out + &self.layout.describe()
    }

    fn is_journalled(&self) -> bool {
        true
    }
}
