//! The operators: everything a step of a pipeline can be.

pub mod aggregate;
pub mod assignment;
pub mod auction;
pub mod dispatch;
mod dispatcher;
mod exact_sum;
pub mod expression;
pub mod feature_selection;
pub mod features;
mod fleet;
mod grid;
mod groups;
pub mod h3;
pub mod join;
mod key_text;
pub mod moments;
mod multiset;
pub mod online_model;
mod options;
pub mod order_book;
mod refusal;
mod reposition;
pub mod select;
pub mod td_value;
pub mod top;

/// Every operator.
pub fn operators() -> Vec<engine::OperatorDef> {
    vec![
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
    ]
}
