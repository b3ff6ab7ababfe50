//! Durable history of collections: one RocksDB behind one door. Knows no dataflow.

/// An open store. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Store;
