//! What a worker has made of each epoch and not yet handed to the committer.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

use types::{ChangeSet, Digest, Epoch, Fault, Micros};

use crate::operator::Gauge;

/// One worker's share of an epoch. Relations and steps are named by their positions in the plan's lists.
#[derive(Debug, Default)]
pub(super) struct Part {
    /// Changes of stored relations, as they came.
    pub relations: BTreeMap<usize, ChangeSet>,
    /// What rehydration gave, when only its digest is wanted.
    pub digests: BTreeMap<usize, Digest>,
    /// State writes of steps, in order.
    pub state: BTreeMap<usize, Vec<ChangeSet>>,
    /// Faults found by steps.
    pub faults: Vec<(Fault, i64)>,
    /// What steps report of themselves.
    pub gauges: Vec<(usize, &'static str, Gauge)>,
    /// Changes each step took in and gave out.
    pub traffic: BTreeMap<usize, (u64, u64)>,
}

/// What the operators of one worker share: where they put what they make, and what the sealer said of each epoch.
#[derive(Clone, Debug, Default)]
pub(super) struct Outbox {
    parts: Rc<RefCell<BTreeMap<Epoch, Part>>>,
    watermarks: Rc<RefCell<BTreeMap<Epoch, Arc<Vec<Micros>>>>>,
}

impl Outbox {
    /// Works on the part of an epoch.
    pub fn with<R>(&self, epoch: Epoch, f: impl FnOnce(&mut Part) -> R) -> R {
        f(self.parts.borrow_mut().entry(epoch).or_default())
    }

    /// Takes the part of an epoch that is complete.
    pub fn take(&self, epoch: Epoch) -> Part {
        self.watermarks.borrow_mut().retain(|e, _| *e >= epoch);
        self.parts.borrow_mut().remove(&epoch).unwrap_or_default()
    }

    /// Notes the watermarks of the steps at an epoch.
    pub fn set_watermarks(&self, epoch: Epoch, watermarks: Arc<Vec<Micros>>) {
        self.watermarks.borrow_mut().insert(epoch, watermarks);
    }

    /// The watermark of a step at an epoch.
    pub fn watermark(&self, epoch: Epoch, step: usize) -> Micros {
        self.watermarks.borrow().get(&epoch).map_or(types::WATERMARK_START, |w| w[step])
    }
}
