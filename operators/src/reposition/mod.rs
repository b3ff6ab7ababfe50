//! `reposition`: where drivers who have been idle for long should wait.
//!
//! [`options`] is what a step may say; [`history`] reads rows and feeds the [`course`] of each market, which draws by the
//! rule of [`crate::dispatch::reposition`]. [`model`] says it again, plainly.

mod course;
mod history;
mod manual;
mod model;
mod options;
mod state;
mod views;

use std::sync::Arc;

use engine::catalogue::{OperatorDef, Relations};
use engine::operator::{HistoryOperator, StepKind};
use engine::pipeline::Section;
use engine::plan::StepPlan;

use crate::dispatcher::step_input;

/// The catalogue's entry.
pub(crate) const DEF: OperatorDef = OperatorDef {
    name: "reposition",
    summary: "Sends drivers who have been idle for long to places drawn by what they are worth.",
    doc: manual::DOC,
    options: manual::OPTIONS,
    example: manual::EXAMPLE,
    plan,
};

fn plan(section: &mut Section<'_>, relations: &Relations<'_>) -> Option<StepPlan> {
    let shape = Arc::new(options::read(section, relations)?);
    let made = shape.clone();
    let new = move || Box::new(history::Repositioner::new(made.clone())) as Box<dyn HistoryOperator>;
    Some(StepPlan {
        inputs: [&shape.cells.input, &shape.drivers.input, &shape.values.input].map(step_input).into(),
        outputs: views::outputs(&shape),
        kind: StepKind::History(Arc::new(new)),
        persistent: true,
        detail: shape.detail(),
        model: model::of(&shape),
    })
}
