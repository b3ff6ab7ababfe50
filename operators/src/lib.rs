//! Everything a pipeline can name: connectors and operators.

pub mod assignment;
pub mod expression;
mod grid;
