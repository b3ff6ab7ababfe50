//! `auction`: who gets which share of what, by many aims at once, at what price, and how fair that was (MOHAF).
//!
//! [`options`] is what a step may say; [`rows`] become requests and resources of a [`book`]; a [`mechanism`] says who gets
//! what: [`greedy`], [`components`] of packings ([`optimal`]), or [`exact`]; a [`market`] makes views of it. The auction
//! is held over [`tables`], or event by event. [`model`] says it all again, plainly.

mod book;
mod cluster;
mod clusters;
mod components;
mod exact;
mod greedy;
mod market;
mod mechanism;
mod model;
mod optimal;
mod options;
mod payment;
mod rows;
mod score;
mod tables;
mod totals;
mod views;

use std::sync::Arc;

use engine::catalogue::{OperatorDef, Relations};
use engine::operator::{StepKind, TableOperator};
use engine::pipeline::Section;
use engine::plan::{Route, StepInput, StepPlan};

use options::Side;

/// The catalogue's entry.
pub(crate) const DEF: OperatorDef = OperatorDef {
    name: "auction",
    summary: "Allocates shares of resources to requests by a multi-objective auction, with prices, payments and fairness.",
    doc: "TODO",
    options: &[],
    example: "",
    plan,
};

fn plan(section: &mut Section<'_>, relations: &Relations<'_>) -> Option<StepPlan> {
    let auction = Arc::new(options::read(section, relations)?);
    let route = |side: &Side| if side.types.is_empty() { Route::One } else { Route::Columns(side.types.clone()) };
    let input = |side: &Side| StepInput { relation: side.relation.clone(), route: route(side) };
    let made = auction.clone();
    Some(StepPlan {
        inputs: vec![input(&auction.requests.side), input(&auction.resources.side)],
        outputs: views::outputs(&auction),
        kind: StepKind::Table(Arc::new(move || {
            Box::new(tables::Auctioneer::new(made.clone())) as Box<dyn TableOperator>
        })),
        persistent: false,
        detail: auction.detail(),
        model: model::of(&auction),
    })
}
