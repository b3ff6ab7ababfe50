//! `[steps.NAME]`: every step planned after what it reads, whatever the order in the file.

use std::collections::BTreeSet;

use types::Schema;

use super::load::Planner;
use super::section::Section;
use super::tree::{Entry, Node, Reading, Value};
use crate::catalogue::{Catalogue, Relations};
use crate::operator::StepKind;
use crate::plan::{Origin, PlannedStep, Route, StepPlan};

/// Keys that name relations, alone or after an underscore (`left`, `task_input`): by these the order of planning is
/// found. Every operator's keys keep to them.
const INPUT_KEYS: [&str; 10] =
    ["input", "inputs", "left", "right", "tasks", "workers", "edges", "values", "requests", "resources"];

/// Plans the steps. `known` has the sources and gets the steps' outputs; steps with mistakes are noted as unavailable.
pub(super) fn read<'t>(
    reading: &Reading,
    entries: &[&'t Entry],
    catalogue: &Catalogue,
    planner: Planner<'_>,
    known: &mut Vec<(String, Schema)>,
) -> Vec<PlannedStep> {
    let names: BTreeSet<&str> = entries.iter().map(|e| e.key.as_str()).collect();
    let mut pending: Vec<Pending<'t>> = entries.iter().map(|entry| Pending::new(entry, &names)).collect();
    let mut steps = Vec::new();
    while !pending.is_empty() {
        let waits = |p: &Pending<'t>, names: &BTreeSet<&'t str>| {
            pending.iter().any(|other| other.entry.key != p.entry.key && names.contains(other.entry.key.as_str()))
        };
        // First those that name no step still to be planned under any key, then those that name none as an input.
        let next = pending
            .iter()
            .position(|p| !p.inputs.contains(p.entry.key.as_str()) && !waits(p, &p.mentions))
            .or_else(|| pending.iter().position(|p| !p.inputs.contains(p.entry.key.as_str()) && !waits(p, &p.inputs)));
        let Some(next) = next else {
            for on_circle in circle(reading, &pending) {
                pending.retain(|p| p.entry.key != on_circle);
                reading.unavailable.borrow_mut().insert(on_circle);
            }
            continue;
        };
        let entry = pending.remove(next).entry;
        match plan(reading, entry, catalogue, planner, known) {
            Some(step) => {
                known.extend(step.relations().map(|(name, schema)| (name, schema.clone())));
                steps.push(step);
            }
            None => {
                reading.unavailable.borrow_mut().insert(entry.key.clone());
            }
        }
    }
    steps
}

/// A step not yet planned.
struct Pending<'t> {
    entry: &'t Entry,
    /// The steps it names under a key for inputs.
    inputs: BTreeSet<&'t str>,
    /// The steps it names anywhere.
    mentions: BTreeSet<&'t str>,
}

impl<'t> Pending<'t> {
    fn new(entry: &'t Entry, names: &BTreeSet<&str>) -> Pending<'t> {
        let (mut inputs, mut mentions) = (BTreeSet::new(), BTreeSet::new());
        if let Value::Table(table) = &entry.node.value {
            for option in &table.0 {
                let is_input = INPUT_KEYS.iter().any(|k| option.key == *k || option.key.ends_with(&format!("_{k}")));
                strings(&option.node, &mut |text| {
                    let step = text.split('.').next().unwrap_or(text);
                    if names.contains(step) {
                        mentions.insert(step);
                        if is_input {
                            inputs.insert(step);
                        }
                    }
                });
            }
        }
        mentions.remove(entry.key.as_str());
        Pending { entry, inputs, mentions }
    }
}

/// Every string of a value, tables inside it included.
fn strings<'t>(node: &'t Node, visit: &mut impl FnMut(&'t str)) {
    match &node.value {
        Value::String(text) => visit(text),
        Value::List(list) => list.iter().for_each(|n| strings(n, visit)),
        Value::Table(table) => table.0.iter().for_each(|e| strings(&e.node, visit)),
        _ => {}
    }
}

/// Reports a circle among steps each of which waits for another one, and gives the steps on it.
fn circle(reading: &Reading, pending: &[Pending<'_>]) -> Vec<String> {
    let mut path = vec![0];
    loop {
        let at = &pending[*path.last().expect("never empty")];
        let next = pending
            .iter()
            .position(|p| at.inputs.contains(p.entry.key.as_str()))
            .expect("a step that cannot be planned waits for another");
        let Some(start) = path.iter().position(|p| *p == next) else {
            path.push(next);
            continue;
        };
        let mut ring = path.split_off(start);
        // Told from the step that stands first in the file.
        let first = (0..ring.len()).min_by_key(|i| pending[ring[*i]].entry.at).expect("a circle has steps");
        ring.rotate_left(first);
        let names: Vec<String> = ring.iter().map(|i| pending[*i].entry.key.clone()).collect();
        let entry = pending[ring[0]].entry;
        let message = match names.as_slice() {
            [one] => format!("the step `{one}` reads itself"),
            _ => {
                let told: Vec<String> = names.iter().chain(names.first()).map(|n| format!("`{n}`")).collect();
                format!("steps read each other in a circle: {}", told.join(" reads "))
            }
        };
        reading.problem(&format!("steps.{}", entry.key), entry.at, &message);
        return names;
    }
}

fn plan(
    reading: &Reading,
    entry: &Entry,
    catalogue: &Catalogue,
    planner: Planner<'_>,
    known: &[(String, Schema)],
) -> Option<PlannedStep> {
    let Value::Table(table) = &entry.node.value else {
        reading.problem(
            "steps",
            entry.at,
            &format!("`{}` must be a table, found {}", entry.key, entry.node.value.shape()),
        );
        return None;
    };
    let before = reading.mistakes();
    let section = &mut Section::new(reading, format!("steps.{}", entry.key), entry.at, table);
    let operator = section.required_string("operator")?;
    let Some(def) = catalogue.operator(&operator) else {
        section.unknown_name("operator", "operator", &operator, catalogue.operators.iter().map(|o| o.name));
        return None;
    };
    let listed: Vec<&str> =
        ["operator", "keep_streams"].into_iter().chain(def.options.iter().map(|o| o.name)).collect();
    let spoilt = inputs_of(table.0.iter()).any(|input| !known.iter().any(|(n, _)| *n == input) && reading.mute(&input));
    if spoilt {
        section.finish(&listed, false);
        return None;
    }
    let keeps_streams = section.boolean("keep_streams").unwrap_or(true);
    let planned = planner(&entry.key, def, section, &Relations { known });
    if planned.is_none() && reading.mistakes() == before {
        section.problem("operator", format!("`{operator}` cannot be planned from these keys, and does not say why"));
    }
    section.finish(&listed, planned.is_some());
    let mut plan = planned?;
    check(&entry.key, &plan, known);
    if matches!(plan.kind, StepKind::History(_)) {
        plan.persistent = true;
        check_history(section, &operator, &plan, known);
    }
    let has_streams = plan.outputs.iter().any(|o| o.schema.append_only);
    if section.has("keep_streams") && !has_streams {
        section.problem("keep_streams", format!("`{operator}` makes no streams here"));
    }
    (reading.mistakes() == before).then(|| PlannedStep {
        name: entry.key.clone(),
        operator,
        plan,
        // Found out when all steps are known.
        origin: Origin::Recomputed,
        keeps_streams,
    })
}

fn inputs_of<'t>(options: impl Iterator<Item = &'t Entry>) -> impl Iterator<Item = String> {
    let mut inputs = Vec::new();
    for option in options.filter(|o| INPUT_KEYS.iter().any(|k| o.key == *k || o.key.ends_with(&format!("_{k}")))) {
        strings(&option.node, &mut |text| inputs.push(text.to_owned()));
    }
    inputs.into_iter()
}

/// What an operator must keep to. Panics: an operator that does not is wrong, not the file.
fn check(step: &str, plan: &StepPlan, known: &[(String, Schema)]) {
    assert!(!plan.outputs.is_empty(), "step `{step}` has no output");
    for (i, output) in plan.outputs.iter().enumerate() {
        assert!((i == 0) == output.suffix.is_none(), "step `{step}`: the first output alone has no suffix");
        assert!(plan.outputs[..i].iter().all(|o| o.suffix != output.suffix), "step `{step}`: two outputs of one name");
        let Schema { columns, key, event_time, .. } = &output.schema;
        assert!(
            key.iter().chain(event_time).all(|c| *c < columns.len()),
            "step `{step}`: an output's key or event time is not among its columns"
        );
    }
    for input in &plan.inputs {
        let schema = known.iter().find(|(n, _)| *n == input.relation).map(|(_, s)| s);
        let schema = schema.unwrap_or_else(|| panic!("step `{step}` reads `{}`, which is not there", input.relation));
        if let Route::Columns(columns) = &input.route {
            assert!(
                columns.iter().all(|c| *c < schema.columns.len()),
                "step `{step}` routes `{}` by a column it does not have",
                input.relation
            );
        }
    }
}

/// A function of history needs events: rows that stay and have a time.
fn check_history(section: &mut Section<'_>, operator: &str, plan: &StepPlan, known: &[(String, Schema)]) {
    for input in &plan.inputs {
        let schema = known.iter().find(|(n, _)| *n == input.relation).map(|(_, s)| s).expect("checked");
        let lacks = match (schema.append_only, schema.event_time) {
            (true, Some(_)) => continue,
            (true, None) => "it has no `event_time`",
            (false, _) => "its rows are replaced and taken back",
        };
        let key = INPUT_KEYS
            .into_iter()
            .find(|k| section.node(k).is_some_and(|n| matches!(&n.value, Value::String(t) if *t == input.relation)))
            .unwrap_or("input");
        section.problem(
            key,
            format!(
                "`{operator}` is a function of history and reads streams with an event time; `{}` is none: {lacks}",
                input.relation
            ),
        );
    }
}
