//! A step as a timely operator: gathers the changes of an epoch, calls the operator once the epoch is complete, and
//! puts what it made where it belongs.

use std::collections::BTreeMap;

use timely::container::CapacityContainerBuilder;
use timely::dataflow::Scope;
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::generic::{OutputBuilder, builder_rc::OperatorBuilder};
use timely::progress::frontier::MutableAntichain;
use types::{ChangeSet, Delta, Epoch, Fault};

use super::history::Ordered;
use super::outbox::Outbox;
use crate::operator::{Context, DeltaStream, Gauge, TableOperator};

/// What a step made of an epoch: outputs, state writes, faults, gauges.
pub(super) type Made = (Vec<Vec<Delta>>, ChangeSet, Vec<(Fault, i64)>, Vec<(&'static str, Gauge)>);

/// The operator behind a step.
pub(super) enum Logic {
    Table(Box<dyn TableOperator>),
    History(Ordered),
}

/// What the wrapper needs to know of a step.
pub(super) struct Shape {
    pub index: usize,
    pub name: String,
    pub input_names: Vec<String>,
    pub outputs: usize,
    /// The epoch at which the dataflow is rebuilt; changes of it are not given to a persistent step.
    pub restored_at: Epoch,
    pub persistent: bool,
}

/// Builds the operator. Gives the stream of each output.
pub(super) fn build<'scope>(
    scope: Scope<'scope, Epoch>,
    inputs: Vec<DeltaStream<'scope>>,
    shape: Shape,
    mut logic: Logic,
    outbox: Outbox,
) -> Vec<DeltaStream<'scope>> {
    let mut builder = OperatorBuilder::new(shape.name.clone(), scope);
    let mut handles: Vec<_> = inputs.into_iter().map(|stream| builder.new_input(stream, Pipeline)).collect();
    let mut outputs = Vec::new();
    let mut streams = Vec::new();
    for _ in 0..shape.outputs {
        let (output, stream) = builder.new_output::<Vec<Delta>>();
        outputs.push(OutputBuilder::<_, CapacityContainerBuilder<Vec<Delta>>>::from(output));
        streams.push(stream);
    }
    builder.build(move |mut capabilities| {
        let mut waiting: BTreeMap<Epoch, Vec<Vec<Delta>>> = BTreeMap::new();
        let mut next: Epoch = 0;
        move |frontiers| {
            for (i, handle) in handles.iter_mut().enumerate() {
                handle.for_each(|capability, data| {
                    let epoch = *capability.least().expect("a message has a time");
                    let inputs = waiting.entry(epoch).or_insert_with(|| vec![Vec::new(); frontiers.len()]);
                    inputs[i].append(data);
                });
            }
            // Epochs below the frontier are complete. A function of history runs at each, for the watermark may
            // have moved without rows; a function of tables at those with rows.
            let frontier = complete_below(frontiers);
            let last = frontier.unwrap_or_else(|| waiting.keys().next_back().map_or(next, |e| e + 1));
            while next < last {
                let inputs = waiting.remove(&next);
                let epoch = next;
                next = match &logic {
                    Logic::History(_) => next + 1,
                    Logic::Table(_) => waiting.keys().next().copied().unwrap_or(last).min(last),
                };
                if epoch < shape.restored_at || (epoch == shape.restored_at && shape.persistent) {
                    continue;
                }
                let mut inputs = inputs.unwrap_or_else(|| vec![Vec::new(); frontiers.len()]);
                inputs.iter_mut().for_each(|i| i.retain(|d| !d.is_empty()));
                if matches!(logic, Logic::Table(_)) && inputs.iter().all(Vec::is_empty) {
                    continue;
                }
                let taken = inputs.iter().flatten().map(|d| d.len() as u64).sum::<u64>();
                let watermark = outbox.watermark(epoch, shape.index);
                let (made, state, faults, gauges) = match &mut logic {
                    Logic::Table(operator) => {
                        let mut context = Context::new(epoch, watermark, shape.outputs);
                        operator.step(inputs, &mut context);
                        context.into_parts()
                    }
                    Logic::History(ordered) => ordered.step(inputs, epoch, watermark),
                };
                let given = made.iter().flatten().map(|d| d.len() as u64).sum::<u64>();
                outbox.with(epoch, |part| {
                    if !state.is_empty() {
                        part.state.entry(shape.index).or_default().push(state);
                    }
                    part.faults.extend(faults.into_iter().map(|(mut fault, diff)| {
                        fault.at.clone_from(&shape.name);
                        if fault.source.is_empty() {
                            fault.source.clone_from(&shape.input_names[0]);
                        }
                        (fault, diff)
                    }));
                    part.gauges.extend(gauges.into_iter().map(|(name, value)| (shape.index, name, value)));
                    let traffic = part.traffic.entry(shape.index).or_default();
                    traffic.0 += taken;
                    traffic.1 += given;
                });
                for ((output, capability), deltas) in outputs.iter_mut().zip(&capabilities).zip(made) {
                    if !deltas.is_empty() {
                        let at = capability.delayed(&epoch);
                        output.activate().session(&at).give_iterator(deltas.into_iter());
                    }
                }
            }
            match frontier {
                Some(frontier) => capabilities.iter_mut().for_each(|c| c.downgrade(&frontier)),
                None => capabilities.clear(),
            }
        }
    });
    streams
}

/// The least epoch that may still come; `None` if none will.
fn complete_below(frontiers: &[MutableAntichain<Epoch>]) -> Option<Epoch> {
    frontiers.iter().filter_map(|f| f.frontier().first().copied()).min()
}
