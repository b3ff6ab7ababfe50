//! `dispatch`: who serves whom, round by round, by what it is worth now and later.
//!
//! [`options`] is what a step may say; [`history`] reads rows and feeds the [`course`] of each market, which runs the
//! kernels of [`crate::dispatch`]; [`views`] tell what came of it, [`state`] keeps it. [`model`] says it again, plainly.

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
use engine::plan::{Route, StepInput, StepPlan};

use crate::fleet::options::Input;
pub(crate) use history::{cell, floats, text};

/// The catalogue's entry.
pub(crate) const DEF: OperatorDef = OperatorDef {
    name: "dispatch",
    summary: "Matches waiting orders with idle drivers in rounds of event time, by what a match is worth now and later.",
    doc: manual::DOC,
    options: manual::OPTIONS,
    example: manual::EXAMPLE,
    plan,
};

fn plan(section: &mut Section<'_>, relations: &Relations<'_>) -> Option<StepPlan> {
    let dispatch = Arc::new(options::read(section, relations)?);
    let values = dispatch.values.as_ref().map(|v| &v.input);
    let inputs = [Some(&dispatch.drivers.input), Some(&dispatch.orders.input), values];
    let made = dispatch.clone();
    let new = move || Box::new(history::Dispatcher::new(made.clone())) as Box<dyn HistoryOperator>;
    Some(StepPlan {
        inputs: inputs.into_iter().flatten().map(step_input).collect(),
        outputs: views::outputs(&dispatch),
        kind: StepKind::History(Arc::new(new)),
        persistent: true,
        detail: dispatch.detail(),
        model: model::of(&dispatch),
    })
}

/// An input that goes where its market is.
pub(crate) fn step_input(input: &Input) -> StepInput {
    let route = if input.market.is_empty() { Route::One } else { Route::Columns(input.market.clone()) };
    StepInput { relation: input.relation.clone(), route }
}
