//! `order_book`: from a venue's messages to a book that is the venue's or says that it is not.
//!
//! The kernel knows nothing of columns: a [`course`] is fed [`record`]s and keeps a [`book`] of two [`ladder`]s, by
//! [`rules`], by its [`levels`] or by its [`orders`], looking at how messages follow each other
//! ([`sequence`]) and at [`quotes`]. Around it [`options`] say what a step may say, [`rows`] make records, [`views`] tell of what comes
//! up, [`state`] keeps it. [`model`] says it all again, plainly.

pub mod book;
pub mod course;
mod history;
pub mod ladder;
mod levels;
mod manual;
mod model;
mod model_orders;
mod options;
pub mod orders;
pub mod quotes;
pub mod record;
mod rows;
pub mod rules;
pub mod sequence;
mod state;
pub mod tally;
pub mod tick;
mod unit;
mod views;
mod words;

use std::sync::Arc;

use engine::catalogue::{OperatorDef, Relations};
use engine::operator::{HistoryOperator, StepKind};
use engine::pipeline::Section;
use engine::plan::{Route, StepInput, StepPlan};

/// The catalogue's entry.
pub(crate) const DEF: OperatorDef = OperatorDef {
    name: "order_book",
    summary: "Keeps the order book of each instrument from a venue's messages, and tells when it cannot be trusted.",
    doc: manual::DOC,
    options: manual::OPTIONS,
    example: manual::EXAMPLE,
    plan,
};

fn plan(section: &mut Section<'_>, relations: &Relations<'_>) -> Option<StepPlan> {
    let shape = Arc::new(options::read(section, relations)?);
    let made = shape.clone();
    let route = match shape.instrument.is_empty() {
        true => Route::One,
        false => Route::Columns(shape.instrument.clone()),
    };
    let new = move || Box::new(history::Keeper::new(made.clone())) as Box<dyn HistoryOperator>;
    Some(StepPlan {
        inputs: vec![StepInput { relation: shape.relation.clone(), route }],
        outputs: views::outputs(&shape),
        kind: StepKind::History(Arc::new(new)),
        persistent: true,
        detail: shape.detail(),
        model: model::of(&shape),
    })
}
