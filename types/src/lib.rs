//! Plain data that two crates which may not know each other must both say: values, schemas, changes, rows as bytes.
//!
//! Nothing here does I/O, knows a dataflow or knows a store.

mod cell;
mod change;
mod codec;
mod delta;
mod fault;
mod hash;
pub mod json;
mod progress;
pub mod random;
mod schema;
pub mod time;
mod value;

pub use change::{Change, ChangeSet};
pub use codec::{CodecError, RowCodec};
pub use delta::Delta;
pub use fault::{Fault, fault_schema, fault_seq};
pub use hash::{Digest, SHARDS, shard_of};
pub use progress::{Position, Remap, SourceProgress};
pub use schema::{Column, Schema};
pub use value::{Type, Value};

/// The unit of atomicity: totally ordered, contiguous, starting at 1. Epoch 0 is the empty store.
pub type Epoch = u64;

/// Microseconds since 1970-01-01T00:00:00Z: the unit of every event time and watermark.
pub type Micros = i64;

/// The watermark of a source that has ended: nothing more will ever come.
pub const WATERMARK_END: Micros = i64::MAX;

/// The watermark of a source that has delivered nothing yet.
pub const WATERMARK_START: Micros = i64::MIN;

/// The hidden column that numbers the rows of a source, from 0, bad rows counted.
pub const SEQ: &str = "_seq";
