//! Everything a pipeline can name: connectors and operators.

pub mod expression;
