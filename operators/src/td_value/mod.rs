//! `td_value`: what a state is worth, learned from transitions one after the other (TD(0), tabular or with tiles).
//!
//! [`options`] is what a step may say; [`learner`] learns, moved by the change points of a [`calendar`] towards an
//! [`artefact`], which [`train`] makes of a recorded history, by dynamic programming or by [`fit`]ting a [`network`], and
//! which a [`replay`] of the pipeline on what its sources brought may tell;
//! [`views`] is what readers see. [`model`] says it all again, plainly.

pub mod artefact;
pub mod calendar;
pub mod fit;
mod learner;
mod manual;
mod model;
mod network;
mod options;
pub mod replay;
pub mod train;
mod views;

use std::sync::Arc;

use engine::catalogue::{OperatorDef, Relations};
use engine::operator::{HistoryOperator, StepKind};
use engine::pipeline::Section;
use engine::plan::{Route, StepInput, StepPlan};

use options::TdValue;
pub use options::{Grid, cell_name};

/// The catalogue's entry.
pub(crate) const DEF: OperatorDef = OperatorDef {
    name: "td_value",
    summary: "Learns the value of states from a stream of transitions, by TD(0), tabular or with tiles.",
    doc: manual::DOC,
    options: manual::OPTIONS,
    example: manual::EXAMPLE,
    plan,
};

fn plan(section: &mut Section<'_>, relations: &Relations<'_>) -> Option<StepPlan> {
    Some(step_plan(&Arc::new(options::read(section, relations)?)))
}

fn step_plan(td: &Arc<TdValue>) -> StepPlan {
    let partition = td.transition.partition.clone();
    let route = if partition.is_empty() { Route::One } else { Route::Columns(partition) };
    let made = td.clone();
    let new = move || Box::new(learner::Learner::new(made.clone())) as Box<dyn HistoryOperator>;
    StepPlan {
        inputs: vec![StepInput { relation: td.relation.clone(), route }],
        outputs: views::outputs(td),
        kind: StepKind::History(Arc::new(new)),
        persistent: true,
        detail: td.detail(),
        model: model::of(td),
    }
}
