//! From a plan to a timely dataflow: inputs, table folds, steps, recorders, and one probe behind them all.

use std::collections::BTreeMap;
use std::ops::Bound;

use timely::container::CapacityContainerBuilder;
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::generic::Operator;
use timely::dataflow::operators::probe::Handle as ProbeHandle;
use timely::dataflow::operators::{Concat, Input};
use timely::dataflow::{InputHandle, Scope};
use timely::progress::frontier::MutableAntichain;
use types::{Column, Delta, Epoch, SHARDS, Schema};

use super::history::Ordered;
use super::outbox::Outbox;
use super::recorder::{AtRestore, record};
use super::relations::Relations;
use super::route::{owner, route};
use super::step::{Logic, Shape};
use super::table::TableFold;
use super::{Start, step};
use crate::operator::{DeltaStream, StepKind};
use crate::plan::{Origin, PlannedSource, PlannedStep, Route};

/// A way into the dataflow.
pub(super) type DeltaInput = InputHandle<Epoch, CapacityContainerBuilder<Vec<Delta>>>;

/// What the worker holds of its dataflow.
pub(super) struct Dataflow {
    /// One a source.
    pub sources: Vec<DeltaInput>,
    /// One for each relation that comes back from the store after a restart.
    pub restores: Vec<(usize, DeltaInput)>,
    /// Passed by an epoch once all of it is in the outbox.
    pub probe: ProbeHandle<Epoch>,
}

/// Builds the dataflow of one worker.
pub(super) fn build(
    scope: Scope<'_, Epoch>,
    start: &Start,
    relations: &Relations,
    outbox: &Outbox,
) -> Result<Dataflow, String> {
    let mut dataflow = Dataflow { sources: Vec::new(), restores: Vec::new(), probe: ProbeHandle::new() };
    let mut streams: BTreeMap<String, (DeltaStream<'_>, Schema)> = BTreeMap::new();
    for source in &start.plan.sources {
        let (input, stream) = scope.new_input::<Vec<Delta>>();
        dataflow.sources.push(input);
        let relation = relations.position(&source.name);
        let stream = if source.is_keyed() {
            let relation = relation.expect("a table is stored");
            let (restore, restored) = scope.new_input::<Vec<Delta>>();
            dataflow.restores.push((relation, restore));
            let stored = start.store.digest(relations.readable[relation].id).rows as usize;
            fold(stream, restored, source, relation, stored / scope.peers(), start, outbox, &dataflow.probe)
        } else if let Some(relation) = relation {
            let (restore, restored) = scope.new_input::<Vec<Delta>>();
            dataflow.restores.push((relation, restore));
            let stream = stream.concat(restored);
            let at_restore = start.at_restore(relation, AtRestore::Digest);
            record(
                stream.clone(),
                &source.schema,
                relation,
                start.epoch(),
                at_restore,
                outbox.clone(),
                &dataflow.probe,
            );
            stream
        } else {
            stream
        };
        streams.insert(source.name.clone(), (stream, source.schema.clone()));
    }
    for (index, planned) in start.plan.steps.iter().enumerate() {
        let outputs = self::step(scope, index, planned, &streams, start, relations, outbox)?;
        for ((name, schema), stream) in planned.relations().zip(outputs) {
            let Some(relation) = relations.position(&name) else {
                streams.insert(name, (stream, schema.clone()));
                continue;
            };
            let (stream, at_restore) = match planned.origin {
                Origin::Stored => {
                    let (restore, restored) = scope.new_input::<Vec<Delta>>();
                    dataflow.restores.push((relation, restore));
                    (stream.concat(restored), AtRestore::Digest)
                }
                Origin::Recomputed => (stream, AtRestore::Digest),
                Origin::Passing => (stream, AtRestore::Ignore),
            };
            let at_restore = start.at_restore(relation, at_restore);
            record(stream.clone(), schema, relation, start.epoch(), at_restore, outbox.clone(), &dataflow.probe);
            streams.insert(name, (stream, schema.clone()));
        }
    }
    Ok(dataflow)
}

/// One step: its inputs routed, its state restored, its operator built.
fn step<'scope>(
    scope: Scope<'scope, Epoch>,
    index: usize,
    planned: &PlannedStep,
    streams: &BTreeMap<String, (DeltaStream<'scope>, Schema)>,
    start: &Start,
    relations: &Relations,
    outbox: &Outbox,
) -> Result<Vec<DeltaStream<'scope>>, String> {
    let mut inputs = Vec::new();
    let mut shapes = Vec::new();
    for input in &planned.plan.inputs {
        let (stream, schema) = &streams[&input.relation];
        inputs.push(route(stream.clone(), &input.route, schema));
        shapes.push((schema, &input.route));
    }
    let outputs = planned.plan.outputs.len();
    let mut logic = match &planned.plan.kind {
        StepKind::Dataflow(build) => return Ok(vec![build(scope, inputs)]),
        StepKind::Table(new) => Logic::Table(new()),
        StepKind::History(new) => Logic::History(Ordered::new(new(), &shapes, outputs)),
    };
    if let Some(state) = relations.state(index)
        && start.epoch() > 0
    {
        restore(&mut logic, state, scope.index(), scope.peers(), start)
            .map_err(|e| format!("restoring step `{}`: {e}", planned.name))?;
    }
    let shape = Shape {
        index,
        name: planned.name.clone(),
        input_names: planned.plan.inputs.iter().map(|i| i.relation.clone()).collect(),
        outputs,
        restored_at: start.epoch(),
        persistent: relations.state(index).is_some(),
    };
    Ok(step::build(scope, inputs, shape, logic, outbox.clone()))
}

/// Gives a step the stored state of the shards this worker owns.
fn restore(
    logic: &mut Logic,
    state: storage::RelationId,
    worker: usize,
    peers: usize,
    start: &Start,
) -> Result<(), storage::Error> {
    let snapshot = start.store.snapshot(Some(start.epoch()))?;
    for shard in (0..SHARDS).filter(|s| owner(*s, peers) == worker) {
        let (from, to) = (shard.to_be_bytes(), (shard + 1).to_be_bytes());
        for entry in snapshot.scan(state, Bound::Included(&from), Bound::Excluded(&to)) {
            let (key, value) = entry?;
            match logic {
                Logic::Table(operator) => operator.restore(&key[2..], &value),
                Logic::History(ordered) => ordered.restore(&key, &value),
            }
        }
    }
    Ok(())
}

/// The fold of a keyed source into its table, and the table's recorder in one: the fold has the bytes already. Of the stored
/// table this worker expects about so many rows.
#[allow(clippy::too_many_arguments)]
fn fold<'scope>(
    rows: DeltaStream<'scope>,
    restored: DeltaStream<'scope>,
    source: &PlannedSource,
    relation: usize,
    rows_expected: usize,
    start: &Start,
    outbox: &Outbox,
    probe: &ProbeHandle<Epoch>,
) -> DeltaStream<'scope> {
    use timely::dataflow::operators::Probe;

    let delivered = delivered_schema(source);
    let by_key = |schema: &Schema| {
        let position = |name: &str| schema.index_of(name).expect("keys are delivered");
        Route::Columns(source.schema.key_names().into_iter().map(position).collect())
    };
    let rows = route(rows, &by_key(&delivered), &delivered);
    let restored = route(restored, &by_key(&source.schema), &source.schema);
    let restored_at = start.epoch();
    let keep = start.at_restore(relation, AtRestore::Digest) == AtRestore::Keep;
    let mut fold = TableFold::new(source, rows_expected);
    let outbox = outbox.clone();
    let mut waiting: BTreeMap<Epoch, Vec<Delta>> = BTreeMap::new();
    rows.binary_frontier::<_, CapacityContainerBuilder<Vec<Delta>>, _, _, _, _>(
        restored,
        Pipeline,
        Pipeline,
        &source.name,
        move |capability, _| {
            let mut capability = Some(capability);
            move |(rows, rows_frontier): (&mut _, &MutableAntichain<Epoch>),
                  (restored, restored_frontier): (&mut _, &MutableAntichain<Epoch>),
                  output| {
                let rows: &mut timely::dataflow::operators::generic::InputHandleCore<_, Vec<Delta>, _> = rows;
                let restored: &mut timely::dataflow::operators::generic::InputHandleCore<_, Vec<Delta>, _> = restored;
                // Stored rows are one a key, and come before all others: they need not wait for each other.
                restored.for_each(|c, data| {
                    outbox.with(restored_at, |part| {
                        if keep {
                            let changes = part.relations.entry(relation).or_default();
                            fold.restore(data, |key, value| changes.push(key, None, Some(value)));
                        } else {
                            let digest = part.digests.entry(relation).or_default();
                            fold.restore(data, |key, value| digest.add(key, value));
                        }
                    });
                    output.session(&c).give_iterator(data.drain(..));
                });
                rows.for_each(|c, data| {
                    waiting.entry(*c.least().expect("a message has a time")).or_default().append(data);
                });
                let frontiers = [rows_frontier, restored_frontier];
                let frontier = frontiers.iter().filter_map(|f| f.frontier().first().copied()).min();
                while let Some(entry) = waiting.first_entry() {
                    if frontier.is_some_and(|f| f <= *entry.key()) {
                        break;
                    }
                    let (epoch, rows) = entry.remove_entry();
                    let at = capability.as_ref().expect("held while input may come").delayed(&epoch);
                    let (changes, deltas) = fold.fold(&rows);
                    if !changes.is_empty() {
                        outbox.with(epoch, |part| part.relations.insert(relation, changes));
                    }
                    output.session(&at).give_iterator(deltas.into_iter());
                }
                match (frontier, &mut capability) {
                    (Some(frontier), Some(capability)) => capability.downgrade(&frontier),
                    _ => capability = None,
                }
            }
        },
    )
    .probe_with(probe)
}

/// The shape of the rows a keyed source delivers: its declared columns and the number.
fn delivered_schema(source: &PlannedSource) -> Schema {
    let mut columns = source.delivered.clone();
    columns.push(Column { name: types::SEQ.to_owned(), ty: types::Type::Int64, nullable: false });
    Schema { columns, key: Vec::new(), event_time: None, append_only: true }
}
