//! How records come in and results go out: every `type` a pipeline's sources and sinks can have.

mod generate;
mod sink;
mod source;

pub use sink::sinks;
pub use source::{connectors, infer, recorded};
