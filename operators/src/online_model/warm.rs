//! Warm start: a model learned from a recorded history, as a file every instrument can begin with.
//!
//! [`train`] runs the same code over vectors that a live run goes through, and gives the bytes of an artefact: parameters
//! with what is known of their gradients, pruning, means and variances, and which feature stood where. What was judged
//! and the newest vectors are not in it: a live run is judged for itself.
//!
//! The format: `THALWEGM`, the version, the length of what follows before the checksum, the shape of the design and the
//! features' names as text, the steps made, moments, slots, parameters; and last the checksum, 64 bits FNV-1a of all
//! before it.

use std::path::Path;
use std::sync::Arc;

use super::design::Design;
use super::labels::Quote;
use super::learner::Learner;
use super::moments::Moments;
use super::slots::EMPTY;
use super::state::{Reader, Writer, restore_weights, weights};

const MAGIC: &[u8; 8] = b"THALWEGM";
const VERSION: u64 = 1;

/// An artefact that has been checked.
#[derive(Clone, Debug)]
pub struct Artefact {
    /// Of all its bytes.
    pub checksum: u64,
    steps: u64,
    moments: Moments,
    slots: Vec<u32>,
    weights: Vec<u8>,
}

/// A vector of a recorded history; features that are missing are NaN.
#[derive(Clone, Debug, PartialEq)]
pub struct Recorded {
    /// The features, as the design has them.
    pub features: Vec<f64>,
    /// Price and spread.
    pub quote: Quote,
    /// The changes of the active set that come before it: selection, feature, whether it enters.
    pub changes: Vec<(i64, usize, bool)>,
}

/// Learns from recorded vectors of one instrument, which are to be such as a step would not refuse, and gives the bytes
/// of an artefact.
pub fn train(design: &Design, names: &[String], vectors: impl IntoIterator<Item = Recorded>) -> Vec<u8> {
    let mut learner = Learner::new(&Arc::new(design.clone()));
    for vector in vectors {
        for (selection, feature, entered) in vector.changes {
            learner.change(selection, feature, entered);
        }
        learner.vector(&vector.features, vector.quote);
    }
    artefact(&learner, names)
}

/// The bytes of an artefact of a learner as it is.
pub fn artefact(learner: &Learner, names: &[String]) -> Vec<u8> {
    let mut body = Writer::default();
    let shape = shape(&learner.design, names);
    body.ints(&[shape.len() as u64]);
    body.0.extend_from_slice(shape.as_bytes());
    body.ints(&[learner.steps]);
    body.ints(&learner.moments.counts);
    body.floats(&learner.moments.means);
    body.floats(&learner.moments.variances);
    body.ints(&learner.slots.features.iter().map(|f| u64::from(*f)).collect::<Vec<u64>>());
    body.0.extend_from_slice(&weights(learner));
    let mut out = Writer(MAGIC.to_vec());
    out.ints(&[VERSION, body.0.len() as u64]);
    out.0.extend_from_slice(&body.0);
    let sum = checksum(&out.0);
    out.ints(&[sum]);
    out.0
}

/// What of a design must be the same for an artefact to fit.
fn shape(design: &Design, names: &[String]) -> String {
    let Design { slots, filters, is_selected, horizons, window, kernel, dilation, channels, blocks, .. } = design;
    format!(
        "slots {slots}, selected {is_selected}, filters {filters}, horizons {horizons:?}, {:?}, window {window}, kernel \
         {kernel}, dilation {dilation}, channels {channels}, blocks {blocks}, features {}",
        design.rule,
        names.join(", ")
    )
}

/// FNV-1a (Fowler, Noll and Vo 1991).
fn checksum(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |h, b| (h ^ u64::from(*b)).wrapping_mul(0x0100_0000_01b3))
}

impl Artefact {
    /// Reads a file. The error says what is wrong with it.
    pub fn load(path: &Path, design: &Design, names: &[String]) -> Result<Artefact, String> {
        let bytes = std::fs::read(path).map_err(|e| format!("the artefact cannot be read: {e}"))?;
        Artefact::parse(&bytes, design, names)
    }

    /// From the bytes of an artefact, for a design and its features.
    pub fn parse(bytes: &[u8], design: &Design, names: &[String]) -> Result<Artefact, String> {
        let Some(rest) = bytes.strip_prefix(MAGIC) else { return Err("it is no artefact of a model".to_owned()) };
        let damaged = || "the artefact is damaged".to_owned();
        if rest.len() < 24 {
            return Err(damaged());
        }
        let [version, len] = Reader(rest).ints();
        if version != VERSION {
            return Err(format!("the artefact has version {version}, and this is version {VERSION}"));
        }
        let (whole, sum) = bytes.split_at(bytes.len() - 8);
        if len != (rest.len() - 24) as u64 || Reader(sum).int() != checksum(whole) {
            return Err(damaged());
        }
        let mut body = Reader(&rest[16..rest.len() - 8]);
        let own = shape(design, names);
        let length = body.int() as usize;
        let told = body.0.get(..length).ok_or_else(damaged)?;
        if told != own.as_bytes() {
            return Err(format!(
                "the artefact is of another model: {}; this one: {own}",
                String::from_utf8_lossy(told)
            ));
        }
        body.0 = &body.0[length..];
        let mut learner = Learner::new(&Arc::new(design.clone()));
        if body.0.len() != 8 * (1 + 3 * design.features + design.slots) + weights(&learner).len() {
            return Err(damaged());
        }
        let steps = body.int();
        let mut moments = Moments::new(design.features, design.half_life);
        moments.counts.iter_mut().for_each(|c| *c = body.int());
        moments.means.iter_mut().for_each(|m| *m = body.float());
        moments.variances.iter_mut().for_each(|v| *v = body.float());
        let slots: Vec<u32> = (0..design.slots).map(|_| body.int() as u32).collect();
        if slots.iter().any(|f| *f != EMPTY && *f as usize >= design.features)
            || !restore_weights(&mut learner, body.0)
            || moments.means.iter().chain(&moments.variances).any(|m| !m.is_finite())
        {
            return Err(damaged());
        }
        Ok(Artefact { checksum: checksum(bytes), steps, moments, slots, weights: body.0.to_vec() })
    }

    /// Gives a new learner what is in it.
    pub fn give(&self, learner: &mut Learner) {
        learner.steps = self.steps;
        learner.moments = self.moments.clone();
        learner.slots.features.clone_from(&self.slots);
        learner.slots.is_given = learner.design.is_selected;
        let is_whole = restore_weights(learner, &self.weights);
        assert!(is_whole, "it was tried when it was read");
        learner.restored();
    }
}
