//! `features`: a vector of numbers for every tick of a market, each defined by a formula, all computed in one pass.
//!
//! A [`feature`] is one of the [`kinds`] with its arguments; a [`graph`] says what has to be computed for a list of them,
//! every number once; a [`set`] computes it, of the facts of a [`market`] and [`ring`]s of the past. [`options`], [`rows`]
//! and [`history`] put that into a step, and [`model`] says it all again, plainly.

pub mod clock;
pub mod feature;
pub mod graph;
mod history;
pub mod kinds;
mod manual;
pub mod market;
mod model;
mod model_past;
mod options;
mod ring;
mod rows;
mod save;
pub mod set;
pub mod span;
pub mod standard;

use std::sync::Arc;

use engine::catalogue::{OperatorDef, Relations};
use engine::operator::{HistoryOperator, StepKind};
use engine::pipeline::Section;
use engine::plan::{Route, StepInput, StepOutput, StepPlan};

/// The catalogue's entry.
pub(crate) const DEF: OperatorDef = OperatorDef {
    name: "features",
    summary: "Computes features of a market's book, order flow, trades and prices, tick by tick.",
    doc: manual::DOC,
    options: manual::OPTIONS,
    example: manual::EXAMPLE,
    plan,
};

fn plan(section: &mut Section<'_>, relations: &Relations<'_>) -> Option<StepPlan> {
    let features = Arc::new(options::read(section, relations)?);
    // A leader and those behind it must meet.
    let route = if features.leader.is_some() { Route::One } else { Route::Columns(features.instrument.clone()) };
    let made = features.clone();
    Some(StepPlan {
        inputs: vec![StepInput { relation: features.relation.clone(), route }],
        outputs: vec![
            StepOutput { suffix: None, schema: features.latest.clone() },
            StepOutput { suffix: Some("vectors"), schema: features.vectors.clone() },
        ],
        kind: StepKind::History(Arc::new(move || {
            Box::new(history::Watcher::new(made.clone())) as Box<dyn HistoryOperator>
        })),
        persistent: true,
        detail: features.detail(),
        model: model::of(&features),
    })
}
