//! The bytes of a model's state, in three kinds of entry: what changes with every vector, the parameters, which change
//! with every step of learning, and the newest vectors by chunks.

use super::adam::Adam;
use super::learner::Learner;
use super::score::{BINS, Score};

/// What an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tag {
    /// What changes with every vector.
    Core,
    /// Parameters, and what is known of their gradients.
    Weights,
    /// A chunk of the newest vectors.
    Past(u16),
}

impl Tag {
    /// The key of the entry within its instrument.
    pub fn key(self) -> Vec<u8> {
        match self {
            Tag::Core => vec![b'c'],
            Tag::Weights => vec![b'w'],
            Tag::Past(chunk) => [&[b'p'][..], &chunk.to_be_bytes()].concat(),
        }
    }

    /// From such a key.
    pub fn of(key: &[u8]) -> Tag {
        match key {
            [b'c'] => Tag::Core,
            [b'w'] => Tag::Weights,
            [b'p', high, low] => Tag::Past(u16::from_be_bytes([*high, *low])),
            _ => panic!("no key of ours: {key:?}"),
        }
    }
}

/// When an instrument's last vector came.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Last {
    /// Its event time.
    pub at: i64,
    /// Its record's number.
    pub seq: i64,
}

/// The entry of what changes with every vector.
pub fn core(learner: &Learner, last: Option<Last>) -> Vec<u8> {
    let mut out = Writer(Vec::new());
    out.ints(&[learner.past.count, learner.steps, learner.refused]);
    out.ints(&[u64::from(last.is_some())]);
    let last = last.unwrap_or_default();
    out.ints(&[last.at as u64, last.seq as u64]);
    out.floats(&learner.losses);
    out.ints(&learner.moments.counts);
    out.floats(&learner.moments.means);
    out.floats(&learner.moments.variances);
    let slots = &learner.slots;
    let wide = |features: &[u32]| -> Vec<u64> { features.iter().map(|f| u64::from(*f)).collect() };
    out.ints(&wide(&slots.features));
    out.ints(&[slots.waiting.len() as u64]);
    out.ints(&wide(&slots.waiting));
    out.ints(&[slots.pending.len() as u64]);
    slots.pending.iter().for_each(|(f, entered)| out.ints(&[u64::from(*f), u64::from(*entered)]));
    out.ints(&[slots.selection as u64, u64::from(slots.is_given), slots.selections]);
    out.floats(&[slots.overlaps, slots.overlap_last]);
    for (counts, last) in &learner.matured {
        out.ints(counts);
        out.ints(&[last.map_or(3, u64::from)]);
    }
    for score in learner.scores.iter().flatten() {
        score.confusion.iter().for_each(|row| out.ints(row));
        score.bins.iter().for_each(|bin| out.ints(bin));
        out.floats(&score.confidences);
        out.ints(&[score.trades]);
        out.floats(&[score.log_losses, score.earned]);
    }
    out.0
}

/// Puts such an entry back.
pub fn restore_core(learner: &mut Learner, bytes: &[u8]) -> Option<Last> {
    let mut bytes = Reader(bytes);
    [learner.past.count, learner.steps, learner.refused] = bytes.ints();
    let [is_some, at, seq] = bytes.ints();
    let last = (is_some == 1).then_some(Last { at: at as i64, seq: seq as i64 });
    learner.losses = bytes.floats();
    learner.moments.counts.iter_mut().for_each(|c| *c = bytes.int());
    learner.moments.means.iter_mut().for_each(|m| *m = bytes.float());
    learner.moments.variances.iter_mut().for_each(|v| *v = bytes.float());
    let slots = &mut learner.slots;
    slots.features.iter_mut().for_each(|f| *f = bytes.int() as u32);
    slots.waiting = (0..bytes.int()).map(|_| bytes.int() as u32).collect();
    slots.pending = (0..bytes.int()).map(|_| (bytes.int() as u32, bytes.int() == 1)).collect();
    let [selection, is_given, selections] = bytes.ints();
    (slots.selection, slots.is_given, slots.selections) = (selection as i64, is_given == 1, selections);
    [slots.overlaps, slots.overlap_last] = bytes.floats();
    for (counts, last) in &mut learner.matured {
        *counts = bytes.ints();
        *last = Some(bytes.int() as u8).filter(|class| *class < 3);
    }
    for score in learner.scores.iter_mut().flatten() {
        *score = Score {
            confusion: [bytes.ints(), bytes.ints(), bytes.ints()],
            bins: std::array::from_fn::<_, BINS, _>(|_| bytes.ints()),
            confidences: bytes.floats(),
            trades: bytes.int(),
            log_losses: bytes.float(),
            earned: bytes.float(),
        };
    }
    last
}

/// The entry of the parameters.
pub fn weights(learner: &Learner) -> Vec<u8> {
    let mut out = Writer(Vec::new());
    out.singles(&learner.network.parameters);
    out.0.extend(learner.network.kept.iter().map(|k| u8::from(*k)));
    out.singles(&learner.logistic.parameters);
    for adam in [&learner.adam, &learner.logistic.adam] {
        out.singles(&adam.means);
        out.singles(&adam.squares);
        out.singles(&adam.powers);
    }
    out.0
}

/// Puts such an entry back. False if it has another length, and then the learner is of no use any more.
pub fn restore_weights(learner: &mut Learner, bytes: &[u8]) -> bool {
    let singles = |n: usize| 4 * n;
    let (network, logistic) = (learner.network.parameters.len(), learner.logistic.parameters.len());
    if bytes.len() != singles(3 * network + 3 * logistic + 4) + learner.network.kept.len() {
        return false;
    }
    let mut bytes = Reader(bytes);
    bytes.singles(&mut learner.network.parameters);
    learner.network.kept.iter_mut().for_each(|k| *k = bytes.byte() == 1);
    bytes.singles(&mut learner.logistic.parameters);
    for Adam { means, squares, powers } in [&mut learner.adam, &mut learner.logistic.adam] {
        bytes.singles(means);
        bytes.singles(squares);
        bytes.singles(powers);
    }
    true
}

/// Writes numbers as bytes, the least significant first.
#[derive(Debug, Default)]
pub struct Writer(pub Vec<u8>);

impl Writer {
    /// Integers.
    pub fn ints(&mut self, values: &[u64]) {
        values.iter().for_each(|v| self.0.extend_from_slice(&v.to_le_bytes()));
    }

    /// Floats of double precision.
    pub fn floats(&mut self, values: &[f64]) {
        values.iter().for_each(|v| self.0.extend_from_slice(&v.to_bits().to_le_bytes()));
    }

    /// Floats of single precision.
    pub fn singles(&mut self, values: &[f32]) {
        values.iter().for_each(|v| self.0.extend_from_slice(&v.to_bits().to_le_bytes()));
    }
}

/// Reads them back. Panics where there are no more: the store's checksums make damage an error found earlier.
#[derive(Debug)]
pub struct Reader<'a>(pub &'a [u8]);

impl Reader<'_> {
    /// A byte.
    pub fn byte(&mut self) -> u8 {
        let (byte, rest) = self.0.split_first().expect("a byte");
        self.0 = rest;
        *byte
    }

    /// An integer.
    pub fn int(&mut self) -> u64 {
        let (eight, rest) = self.0.split_at(8);
        self.0 = rest;
        u64::from_le_bytes(eight.try_into().expect("eight bytes"))
    }

    /// Integers.
    pub fn ints<const N: usize>(&mut self) -> [u64; N] {
        std::array::from_fn(|_| self.int())
    }

    /// A float of double precision.
    pub fn float(&mut self) -> f64 {
        f64::from_bits(self.int())
    }

    /// Floats of double precision.
    pub fn floats<const N: usize>(&mut self) -> [f64; N] {
        std::array::from_fn(|_| self.float())
    }

    /// Floats of single precision.
    pub fn singles(&mut self, out: &mut [f32]) {
        for value in out {
            let (four, rest) = self.0.split_at(4);
            self.0 = rest;
            *value = f32::from_bits(u32::from_le_bytes(four.try_into().expect("four bytes")));
        }
    }
}
