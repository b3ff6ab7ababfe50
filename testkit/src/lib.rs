//! What tests of several crates share: a source that delivers what the test says, and runs of whole pipelines.

pub mod script;

pub use script::Script;
