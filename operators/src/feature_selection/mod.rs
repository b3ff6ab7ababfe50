//! `feature_selection`: which features of a stream of vectors to trust now, and why.
//!
//! [`options`] is what a step may say, [`rules`] what the kernel has to know of it. A [`selector`] takes one
//! instrument's vectors: a [`scale`] makes z-scores and cells of them, [`clusters`] say how tightly a feature clusters,
//! [`labels`] mature and are counted for [`relevance`], [`ranking`] decides, a [`referee`] judges the decision and
//! [`drift`] watches its loss; [`forget`] is how all of it forgets. [`history`] is the operator about it, [`views`]
//! what readers see, [`model`] says it all again, plainly.

mod clusters;
mod drift;
mod forget;
mod history;
mod labels;
mod manual;
mod model;
mod options;
mod persistence;
mod random;
mod ranking;
mod referee;
mod relevance;
mod rules;
mod scale;
mod selector;
mod state;
mod views;

pub mod kernel;

use std::sync::Arc;

use engine::catalogue::{OperatorDef, Relations};
use engine::operator::{HistoryOperator, StepKind};
use engine::pipeline::Section;
use engine::plan::{Route, StepInput, StepPlan};

/// The catalogue's entry.
pub(crate) const DEF: OperatorDef = OperatorDef {
    name: "feature_selection",
    summary: "Keeps the set of features that tell most of where a price goes, with every part of the reason.",
    doc: manual::DOC,
    options: manual::OPTIONS,
    example: manual::EXAMPLE,
    plan,
};

fn plan(section: &mut Section<'_>, relations: &Relations<'_>) -> Option<StepPlan> {
    let selection = Arc::new(options::read(section, relations)?);
    let instrument = selection.instrument.clone();
    let route = if instrument.is_empty() { Route::One } else { Route::Columns(instrument) };
    let made = selection.clone();
    let new = move || Box::new(history::Chronicle::new(made.clone())) as Box<dyn HistoryOperator>;
    Some(StepPlan {
        inputs: vec![StepInput { relation: selection.relation.clone(), route }],
        outputs: views::outputs(&selection),
        kind: StepKind::History(Arc::new(new)),
        persistent: true,
        detail: selection.detail(),
        model: model::of(&selection),
    })
}
