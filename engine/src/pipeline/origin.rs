//! Finds out what must be stored: whether a relation's rows, after a restart, come from the store, are computed again,
//! or passed by for good.
//!
//! A step that keeps its own state needs only what is new. Any other step is fed its inputs whole after a restart; so
//! a stream that such a step reads, even through other steps, must be stored. What nobody needs whole is not kept.

use std::collections::{BTreeMap, BTreeSet};

use crate::operator::StepKind;
use crate::plan::{Origin, PlannedSource, PlannedStep, Route};

/// Sets `stored` of append-only sources, `keeps_streams` and the origin of every step. Steps stand after what they read.
pub(super) fn derive(sources: &mut [PlannedSource], steps: &mut [PlannedStep]) {
    loop {
        let needed = pass(sources, steps);
        if needed.is_empty() {
            return;
        }
        for source in sources.iter_mut().filter(|s| needed.contains(&s.name)) {
            source.stored = true;
        }
        for step in steps.iter_mut().filter(|s| s.relations().any(|(name, _)| needed.contains(&name))) {
            step.keeps_streams = true;
        }
    }
}

/// One pass: the origin of every step as the sources stand, and what passes by and is needed whole: sources, and streams
/// that steps with a state of their own make.
fn pass(sources: &[PlannedSource], steps: &mut [PlannedStep]) -> BTreeSet<String> {
    let mut passing: BTreeMap<String, BTreeSet<String>> =
        sources.iter().filter(|s| !s.stored).map(|s| (s.name.clone(), BTreeSet::from([s.name.clone()]))).collect();
    let mut needed = BTreeSet::new();
    for step in steps {
        let inputs = &step.plan.inputs;
        let from: BTreeSet<String> =
            inputs.iter().filter_map(|i| passing.get(&i.relation)).flatten().cloned().collect();
        step.origin = if step.plan.persistent {
            if !step.keeps_streams {
                let streams = step.relations().filter(|(_, schema)| schema.append_only);
                passing.extend(streams.map(|(name, _)| (name.clone(), BTreeSet::from([name]))).collect::<Vec<_>>());
            }
            Origin::Stored
        } else if passes_by(step) && inputs.iter().all(|i| passing.contains_key(&i.relation)) {
            passing.extend(step.relations().map(|(name, _)| (name, from.clone())).collect::<Vec<_>>());
            Origin::Passing
        } else {
            needed.extend(from);
            Origin::Recomputed
        };
    }
    needed
}

/// Whether a step over streams is itself one: each row for itself, none ever taken back.
fn passes_by(step: &PlannedStep) -> bool {
    !matches!(step.plan.kind, StepKind::History(_))
        && !step.plan.inputs.is_empty()
        && step.plan.inputs.iter().all(|i| i.route == Route::Stay)
        && step.plan.outputs.iter().all(|o| o.schema.append_only)
}
