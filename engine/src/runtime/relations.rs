//! The stored relations of a plan: tables, views, the state of steps, the faults.

use std::collections::BTreeMap;
use std::path::PathBuf;

use storage::{RelationId, RelationKind, RelationSpec, Store};
use types::{Schema, fault_schema};

use crate::operator::StepKind;
use crate::plan::{Plan, PlannedStep};

/// The name of the faults' relation.
pub const FAULTS: &str = "faults";

/// A relation that readers see.
#[derive(Clone, Debug)]
pub(super) struct Relation {
    pub name: String,
    pub id: RelationId,
    pub schema: Schema,
    /// False if after a restart the dataflow does not give its rows again.
    pub compared: bool,
}

/// The stored relations with their ids in a store. Readable ones are named by their position.
#[derive(Clone, Debug)]
pub(super) struct Relations {
    pub readable: Vec<Relation>,
    pub faults: RelationId,
    by_name: BTreeMap<String, usize>,
    states: BTreeMap<usize, RelationId>,
}

/// What a store for this plan holds.
pub fn relation_specs(plan: &Plan) -> Vec<RelationSpec> {
    let json = |schema: &Schema| serde_json::to_string(schema).expect("a schema is JSON");
    let mut specs = Vec::new();
    for source in plan.sources.iter().filter(|s| s.stored) {
        specs.push(RelationSpec { name: source.name.clone(), kind: RelationKind::Table, schema: json(&source.schema) });
    }
    for step in &plan.steps {
        for (name, schema) in step.stored_relations() {
            specs.push(RelationSpec { name, kind: RelationKind::View, schema: json(schema) });
        }
        if keeps_state(step) {
            specs.push(RelationSpec { name: state_name(step), kind: RelationKind::State, schema: String::new() });
        }
    }
    specs.push(RelationSpec { name: FAULTS.to_owned(), kind: RelationKind::Faults, schema: json(&fault_schema()) });
    specs
}

/// How the store of a plan is opened in a folder. Hooks and caches are the caller's.
pub fn store_options(plan: &Plan, path: impl Into<PathBuf>) -> storage::Options {
    storage::Options {
        plan: plan.fingerprint(),
        relations: relation_specs(plan),
        retain_epochs: plan.settings.retain_epochs,
        stage_rows: plan.settings.stage_rows,
        apply_rows: plan.settings.apply_rows,
        ..storage::Options::new(path)
    }
}

fn keeps_state(step: &PlannedStep) -> bool {
    step.plan.persistent || matches!(step.plan.kind, StepKind::History(_))
}

fn state_name(step: &PlannedStep) -> String {
    format!("state:{}", step.name)
}

impl Relations {
    /// Finds the plan's relations in a store that was opened with [`relation_specs`].
    pub fn new(plan: &Plan, store: &Store) -> Relations {
        let id = |name: &str| store.relation(name).expect("the store was opened with the plan's relations");
        let mut readable = Vec::new();
        for source in plan.sources.iter().filter(|s| s.stored) {
            readable.push(Relation {
                name: source.name.clone(),
                id: id(&source.name),
                schema: source.schema.clone(),
                compared: true,
            });
        }
        let mut states = BTreeMap::new();
        for (index, step) in plan.steps.iter().enumerate() {
            for (name, schema) in step.stored_relations() {
                readable.push(Relation {
                    id: id(&name),
                    name,
                    schema: schema.clone(),
                    compared: step.origin != crate::plan::Origin::Passing,
                });
            }
            if keeps_state(step) {
                states.insert(index, id(&state_name(step)));
            }
        }
        let by_name = readable.iter().enumerate().map(|(i, r)| (r.name.clone(), i)).collect();
        Relations { readable, faults: id(FAULTS), by_name, states }
    }

    /// The position of a readable relation.
    pub fn position(&self, name: &str) -> Option<usize> {
        self.by_name.get(name).copied()
    }

    /// Where a step keeps its state, if it does.
    pub fn state(&self, step: usize) -> Option<RelationId> {
        self.states.get(&step).copied()
    }
}
