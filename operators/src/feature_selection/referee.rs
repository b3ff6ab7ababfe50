//! The judge of selections: a naive Bayes classifier that predicts the label from any set of features, and what that
//! costs.
//!
//! It is not meant to predict well but to be the same for every set: sets are compared by it, and its loss is watched.
//! Features are not independent, as naive Bayes has it, and what they say in common it hears many times. So the
//! evidence of a set is trusted by a share only, the classes' probabilities are in proportion to share · exp(trust ·
//! evidence), and the trust is learned as labels mature.

use super::labels::CLASSES;
use super::relevance::{Bins, sum};
use super::scale::CELLS;

/// The sets that are judged.
pub const SETS: usize = 4;
/// No feature at all: the shares of the classes.
pub const NONE: usize = 0;
/// All features that vary.
pub const ALL: usize = 1;
/// The first selection, kept for good.
pub const FIRST: usize = 2;
/// The selection of the time.
pub const CHOSEN: usize = 3;
/// The names of the sets that stay as they are.
pub const FIXED: [&str; CHOSEN] = ["none", "all", "first"];

/// What a set of features says of a vector.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Opinion {
    /// Logarithms of how likely its bins are, class by class.
    pub evidence: [f64; CLASSES],
    /// The probabilities of the classes.
    pub shares: [f64; CLASSES],
}

/// What each set says.
pub type Opinions = [Opinion; SETS];

/// By how much trust moves with a label, in standard deviations of the slope.
pub const STEP: f64 = 0.005;
/// The slope's mean square is one over so many labels.
pub const SLOPES: u64 = 1000;

/// How much a set's evidence is trusted, from 0 to 1.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Trust {
    /// The factor of the evidence.
    pub factor: f64,
    /// The mean square of the slope of the logarithmic loss by the factor.
    pub square: f64,
}

impl Trust {
    /// Learns from a label, the one numbered `count` from 1.
    pub fn learn(&mut self, opinion: &Opinion, class: usize, count: u64) {
        let mut slope = 0.0;
        for c in 0..CLASSES {
            let miss = if c == class { opinion.shares[c] - 1.0 } else { opinion.shares[c] };
            slope += miss * opinion.evidence[c];
        }
        self.square += (slope * slope - self.square) / count.min(SLOPES) as f64;
        if self.square > 0.0 {
            self.factor = (self.factor - STEP * slope / self.square.sqrt()).clamp(0.0, 1.0);
        }
    }
}

/// What the classifier has learned by the last selection.
#[derive(Clone, Debug, PartialEq)]
pub struct Referee {
    bins: usize,
    shares: [f64; CLASSES],
    /// Logarithms of the shares.
    priors: [f64; CLASSES],
    /// Of each feature, the bin of each cell; what is missing has one of its own.
    of_cell: Vec<[u8; CELLS + 1]>,
    /// Of each feature and bin, logarithms of the probability of the bin given the class; 0 for what is missing.
    tables: Vec<[f64; CLASSES]>,
    /// The features of each set.
    pub sets: [Vec<u32>; SETS],
    /// How far each is trusted.
    trust: [Trust; SETS],
    /// The sum of losses of each set, and of how many labels.
    pub losses: [f64; SETS],
    /// As above.
    pub judged: u64,
}

impl Referee {
    /// Knows nothing.
    pub fn new(features: usize, bins: usize) -> Referee {
        Referee {
            bins,
            shares: [0.0; CLASSES],
            priors: [0.0; CLASSES],
            of_cell: vec![[bins as u8; CELLS + 1]; features],
            tables: vec![[0.0; CLASSES]; features * (bins + 1)],
            sets: Default::default(),
            trust: Default::default(),
            losses: [0.0; SETS],
            judged: 0,
        }
    }

    /// Learns how often the classes are; `newest` is what the newest label weighs. One more of each is thought of
    /// (Laplace).
    pub fn learn_classes(&mut self, classes: [f64; CLASSES], newest: f64) {
        let total = sum(&classes) / newest + CLASSES as f64;
        self.shares = classes.map(|class| (class / newest + 1.0) / total);
        self.priors = self.shares.map(libm::log);
    }

    /// Learns a feature's bins. Half a label more is thought of in each (H. Jeffreys).
    pub fn learn(&mut self, feature: usize, bins: &Bins, newest: f64) {
        self.of_cell[feature][..CELLS].copy_from_slice(&bins.of_cell);
        let mut totals = [0.0; CLASSES];
        bins.weights.iter().flat_map(|bin| bin.iter().enumerate()).for_each(|(class, weight)| totals[class] += weight);
        let room = 0.5 * bins.weights.len() as f64;
        let table = &mut self.tables[feature * (self.bins + 1)..][..bins.weights.len()];
        for (row, weights) in table.iter_mut().zip(&bins.weights) {
            for ((log, weight), total) in row.iter_mut().zip(weights).zip(&totals) {
                *log = libm::log((weight / newest + 0.5) / (total / newest + room));
            }
        }
    }

    /// What the sets say of a vector with these cells.
    pub fn opinions(&self, cells: &[u8]) -> Opinions {
        let mut opinions = [Opinion { evidence: [0.0; CLASSES], shares: self.shares }; SETS];
        for set in [ALL, FIRST] {
            opinions[set] = self.opinion(set, cells);
        }
        // The first selection is the selection until that changes, and nothing else was learned of it.
        let is_first = self.sets[CHOSEN] == self.sets[FIRST] && self.trust[CHOSEN] == self.trust[FIRST];
        opinions[CHOSEN] = if is_first { opinions[FIRST] } else { self.opinion(CHOSEN, cells) };
        opinions
    }

    fn opinion(&self, set: usize, cells: &[u8]) -> Opinion {
        let mut evidence = [0.0; CLASSES];
        for feature in &self.sets[set] {
            let feature = *feature as usize;
            let bin = self.of_cell[feature][usize::from(cells[feature])];
            let row = &self.tables[feature * (self.bins + 1) + usize::from(bin)];
            (0..CLASSES).for_each(|class| evidence[class] += row[class]);
        }
        let factor = self.trust[set].factor;
        let logs = std::array::from_fn(|class| self.priors[class] + factor * evidence[class]);
        Opinion { evidence, shares: softmax(logs) }
    }

    /// Judges what was said of a label, and learns how far to trust. Gives the loss of the selection, from 0 to 1.
    pub fn judge(&mut self, opinions: &Opinions, class: usize) -> f64 {
        self.judged += 1;
        for set in 0..SETS {
            self.losses[set] += loss(&opinions[set].shares, class);
            self.trust[set].learn(&opinions[set], class, self.judged);
        }
        loss(&opinions[CHOSEN].shares, class)
    }

    /// Writes everything down.
    pub fn save(&self, out: &mut Vec<u8>) {
        self.of_cell.iter().for_each(|cells| out.extend_from_slice(cells));
        let floats = self.shares.iter().chain(&self.priors).chain(self.tables.iter().flatten()).chain(&self.losses);
        let floats = floats.chain(self.trust.iter().flat_map(|t| [&t.factor, &t.square]));
        floats.for_each(|f| out.extend_from_slice(&f.to_bits().to_le_bytes()));
        out.extend_from_slice(&self.judged.to_le_bytes());
        for set in &self.sets {
            out.extend_from_slice(&(set.len() as u64).to_le_bytes());
            set.iter().for_each(|f| out.extend_from_slice(&u64::from(*f).to_le_bytes()));
        }
    }

    /// What [`Referee::save`] wrote.
    pub fn restore(&mut self, bytes: &mut &[u8]) -> Option<()> {
        for cells in &mut self.of_cell {
            let (first, rest) = bytes.split_first_chunk()?;
            (*cells, *bytes) = (*first, rest);
        }
        let mut word = || {
            let (first, rest) = bytes.split_first_chunk::<8>()?;
            *bytes = rest;
            Some(u64::from_le_bytes(*first))
        };
        let tables = self.tables.iter_mut().flatten();
        for float in self.shares.iter_mut().chain(&mut self.priors).chain(tables).chain(&mut self.losses) {
            *float = f64::from_bits(word()?);
        }
        for trust in &mut self.trust {
            (trust.factor, trust.square) = (f64::from_bits(word()?), f64::from_bits(word()?));
        }
        self.judged = word()?;
        for set in &mut self.sets {
            let len = word()?;
            *set = (0..len).map(|_| word().map(|f| f as u32)).collect::<Option<Vec<u32>>>()?;
        }
        Some(())
    }
}

/// Probabilities that go with these logarithms.
pub fn softmax(logs: [f64; CLASSES]) -> [f64; CLASSES] {
    let greatest = logs[0].max(logs[1]).max(logs[2]);
    let powers = logs.map(|log| if log == greatest { 1.0 } else { libm::exp(log - greatest) });
    let total = sum(&powers);
    powers.map(|p| p / total)
}

/// Half the Brier score (G. Brier 1950): a proper loss from 0 to 1.
pub fn loss(opinion: &[f64; CLASSES], class: usize) -> f64 {
    let mut sum = 0.0;
    for (i, p) in opinion.iter().enumerate() {
        let miss = if i == class { 1.0 - p } else { *p };
        sum += miss * miss;
    }
    0.5 * sum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loss_is_proper_and_bounded() {
        assert_eq!([loss(&[1.0, 0.0, 0.0], 0), loss(&[1.0, 0.0, 0.0], 2)], [0.0, 1.0]);
        let truth = [0.2, 0.5, 0.3];
        let expected = |p: [f64; 3]| (0..3).map(|c| truth[c] * loss(&p, c)).sum::<f64>();
        for i in 0..20 {
            for j in 0..20 - i {
                let p = [f64::from(i) / 20.0, f64::from(j) / 20.0, f64::from(20 - i - j) / 20.0];
                assert!(expected(p) >= expected(truth) - 1e-15);
            }
        }
        let p = softmax([-1.0, 2.0, -800.0]);
        assert!((p[0] / p[1] - (-3.0_f64).exp()).abs() < 1e-15 && p[2] == 0.0);
    }
}
