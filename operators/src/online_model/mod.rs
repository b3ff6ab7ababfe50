//! `online_model`: predicts where a price goes, at several horizons, and goes on learning from what came of it.
//!
//! [`options`] is what a step may say; [`learner`] is one instrument's model: [`moments`] standardise, [`slots`] seat the
//! active features, a [`window`] runs the [`network`], a [`job`] learns, [`prune`] makes it small, [`score`] judges.
//! [`history`] feeds it events and keeps its [`state`] and [`views`]; [`warm`] begins it with a recorded history. [`model`]
//! says it all again, plainly.

pub mod adam;
pub mod design;
mod history;
pub mod job;
pub mod labels;
pub mod layer;
pub mod learner;
pub mod logistic;
mod manual;
mod model;
pub mod moments;
pub mod network;
mod options;
pub mod past;
pub mod prune;
pub mod score;
pub mod slots;
mod state;
mod views;
pub mod warm;
pub mod window;

use std::sync::Arc;

use engine::catalogue::{OperatorDef, Relations};
use engine::operator::{HistoryOperator, StepKind};
use engine::pipeline::Section;
use engine::plan::{Route, StepInput, StepPlan};

/// The catalogue's entry.
pub(crate) const DEF: OperatorDef = OperatorDef {
    name: "online_model",
    summary: "Predicts up, flat or down at several horizons with a small pruned network that learns as labels mature.",
    doc: manual::DOC,
    options: manual::OPTIONS,
    example: manual::EXAMPLE,
    plan,
};

fn plan(section: &mut Section<'_>, relations: &Relations<'_>) -> Option<StepPlan> {
    let model = Arc::new(options::read(section, relations)?);
    let route = |columns: &[usize]| if columns.is_empty() { Route::One } else { Route::Columns(columns.to_vec()) };
    // Of one time a change counts before the vector.
    let mut inputs = Vec::new();
    if let Some(changes) = &model.changes {
        inputs.push(StepInput { relation: changes.relation.clone(), route: route(&changes.instrument) });
    }
    let vectors = &model.vectors;
    inputs.push(StepInput { relation: vectors.relation.clone(), route: route(&vectors.instrument) });
    let made = model.clone();
    let new = move || Box::new(history::Predictor::new(made.clone())) as Box<dyn HistoryOperator>;
    Some(StepPlan {
        inputs,
        outputs: views::outputs(&model),
        kind: StepKind::History(Arc::new(new)),
        persistent: true,
        detail: model.detail(),
        model: model::of(&model),
    })
}
