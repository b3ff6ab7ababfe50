//! Everything a pipeline can name: connectors and operators.

pub mod aggregate;
pub mod assignment;
pub mod auction;
pub mod connect;
pub mod deliver;
pub mod dispatch;
mod dispatcher;
mod exact_sum;
pub mod expression;
pub mod feature_selection;
pub mod features;
mod fleet;
pub mod generate;
mod grid;
mod groups;
pub mod h3;
pub mod join;
mod key_text;
pub mod manual;
pub mod moments;
mod multiset;
pub mod online_model;
mod options;
pub mod order_book;
pub mod query;
mod random;
mod refusal;
mod reposition;
pub mod select;
pub mod td_value;
pub mod top;

/// Everything a pipeline can name, from which the parser, the manual and the errors come.
pub fn catalogue() -> engine::Catalogue {
    engine::Catalogue {
        connectors: connect::connectors(),
        sinks: deliver::sinks(),
        operators: vec![
            select::DEF,
            aggregate::DEF,
            join::DEF,
            top::DEF,
            assignment::DEF,
            auction::DEF,
            td_value::DEF,
            order_book::DEF,
            features::DEF,
            feature_selection::DEF,
            online_model::DEF,
            dispatcher::DEF,
            reposition::DEF,
        ],
    }
}
