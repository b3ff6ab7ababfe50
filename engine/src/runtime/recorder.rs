//! The end of a stored relation's stream: its changes as bytes in the worker's outbox.

use timely::container::CapacityContainerBuilder;
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::Probe;
use timely::dataflow::operators::generic::Operator;
use timely::dataflow::operators::probe::Handle as ProbeHandle;
use types::{ChangeSet, Delta, Digest, Epoch, RowCodec, Schema};

use super::outbox::Outbox;
use crate::operator::DeltaStream;

/// What to do with the changes of the epoch at which the dataflow is rebuilt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AtRestore {
    /// Digest them, to be compared with the store's.
    Digest,
    /// Keep them whole, to find where they differ.
    Keep,
    /// Ignore them: they are not the whole relation.
    Ignore,
}

/// Writes a stream's changes to the outbox as relation `relation`.
pub(super) fn record<'scope>(
    stream: DeltaStream<'scope>,
    schema: &Schema,
    relation: usize,
    restored_at: Epoch,
    at_restore: AtRestore,
    outbox: Outbox,
    probe: &ProbeHandle<Epoch>,
) {
    let codec = RowCodec::new(schema);
    stream
        .unary::<CapacityContainerBuilder<Vec<Delta>>, _, _, _>(Pipeline, "Record", |_, _| {
            move |input, _output| {
                input.for_each(|capability, data| {
                    let epoch = *capability.least().expect("a message has a time");
                    for delta in data.drain(..) {
                        write(&codec, &delta, epoch, relation, restored_at, at_restore, &outbox);
                    }
                });
            }
        })
        .probe_with(probe);
}

fn write(
    codec: &RowCodec,
    delta: &Delta,
    epoch: Epoch,
    relation: usize,
    restored_at: Epoch,
    at_restore: AtRestore,
    outbox: &Outbox,
) {
    let restoring = epoch == restored_at && restored_at > 0;
    if restoring && at_restore == AtRestore::Ignore {
        return;
    }
    let (keys, values) = (codec.keys(&delta.rows), codec.values(&delta.rows));
    outbox.with(epoch, |part| {
        if restoring && at_restore == AtRestore::Digest {
            digest(part.digests.entry(relation).or_default(), delta, &keys, &values);
            return;
        }
        let changes = part.relations.entry(relation).or_insert_with(|| {
            let row_bytes = if delta.is_empty() { 0 } else { keys.row(0).data().len() + values.row(0).data().len() };
            ChangeSet::with_capacity(delta.len(), delta.len() * row_bytes)
        });
        for i in 0..delta.len() {
            let (key, value) = (keys.row(i).data(), values.row(i).data());
            let diff = delta.diff(i);
            for _ in 0..diff {
                changes.push_after(key, value);
            }
            for _ in diff..0 {
                changes.push(key, Some(value), None);
            }
        }
    });
}

fn digest(digest: &mut Digest, delta: &Delta, keys: &arrow::row::Rows, values: &arrow::row::Rows) {
    for i in 0..delta.len() {
        let (key, value) = (keys.row(i).data(), values.row(i).data());
        let diff = delta.diff(i);
        for _ in 0..diff {
            digest.add(key, value);
        }
        for _ in diff..0 {
            digest.remove(key, value);
        }
    }
}
