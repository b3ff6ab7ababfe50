//! Everything a pipeline can name: connectors and operators.

pub mod aggregate;
pub mod assignment;
pub mod auction;
pub mod connect;
pub mod dispatch;
mod dispatcher;
mod exact_sum;
pub mod expression;
mod fleet;
pub mod generate;
mod grid;
mod groups;
pub mod join;
pub mod manual;
mod multiset;
mod refusal;
mod reposition;
pub mod select;
pub mod td_value;
pub mod top;

/// Everything a pipeline can name, from which the parser, the manual and the errors come.
pub fn catalogue() -> engine::Catalogue {
    engine::Catalogue {
        connectors: connect::connectors(),
        operators: vec![
            select::DEF,
            aggregate::DEF,
            join::DEF,
            top::DEF,
            assignment::DEF,
            auction::DEF,
            td_value::DEF,
            dispatcher::DEF,
            reposition::DEF,
        ],
    }
}
