//! Everything a pipeline can name: connectors and operators.

pub mod aggregate;
mod exact_sum;
pub mod expression;
mod multiset;
mod refusal;
pub mod select;

/// Everything a pipeline can name.
pub fn catalogue() -> engine::Catalogue {
    engine::Catalogue { connectors: Vec::new(), operators: vec![aggregate::DEF, select::DEF] }
}
