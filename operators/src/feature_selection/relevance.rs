//! How much a feature tells of the label: mutual information over quantile bins, by labels that have matured.

use super::forget::{age, halve};
use super::labels::CLASSES;
use super::persistence::Overlap;
use super::scale::CELLS;

/// The counters of a feature: its cells, the missing last, by classes.
const OF_ONE: usize = (CELLS + 1) * CLASSES;

/// Forgotten counts of labels by the cells of features.
#[derive(Clone, Debug, PartialEq)]
pub struct Counts {
    cells: Vec<f64>,
    /// The weight of labels of each class, and the sum of the squares of all weights.
    classes: [f64; CLASSES],
    squares: f64,
}

/// A feature's cells put into bins of about equal weight, with the labels in them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Bins {
    /// The bin of each cell.
    pub of_cell: Vec<u8>,
    /// The weight of labels of each class, bin by bin; no bin is empty.
    pub weights: Vec<[f64; CLASSES]>,
}

/// What a feature tells of the label, in nats.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Relevance {
    /// The mutual information of the counts, taken for probabilities.
    pub plug_in: f64,
    /// What that is, about, of a feature that tells nothing.
    pub bias: f64,
    /// The standard deviation of that.
    pub deviation: f64,
    /// Over so many bins.
    pub bins: usize,
}

impl Relevance {
    /// The information without the bias.
    pub fn corrected(&self) -> f64 {
        self.plug_in - self.bias + 0.0
    }

    /// By how many standard deviations it is above chance.
    pub fn deviations(&self) -> f64 {
        if self.deviation > 0.0 { self.corrected() / self.deviation } else { 0.0 }
    }
}

impl Counts {
    /// None yet.
    pub fn new(features: usize) -> Counts {
        Counts { cells: vec![0.0; features * OF_ONE], classes: [0.0; CLASSES], squares: 0.0 }
    }

    /// Counts a label with the cells its vector was in.
    pub fn take(&mut self, cells: &[u8], class: usize, weight: f64) {
        for (counts, cell) in self.cells.as_chunks_mut::<OF_ONE>().0.iter_mut().zip(cells) {
            counts[usize::from(*cell) * CLASSES + class] += weight;
        }
        self.classes[class] += weight;
        self.squares += weight * weight;
    }

    /// Forgets half.
    pub fn halve(&mut self) {
        halve(&mut self.cells);
        halve(&mut self.classes);
        self.squares *= 0.25;
    }

    /// Ages all by so many half-lives.
    pub fn age(&mut self, half_lives: u32) {
        age(&mut self.cells, half_lives);
        age(&mut self.classes, half_lives);
        (0..half_lives).for_each(|_| self.squares *= 0.25);
    }

    /// The weight of labels of each class.
    pub fn classes(&self) -> [f64; CLASSES] {
        self.classes
    }

    /// How many labels of equal weight the counts are worth: (Σw)² / Σw² (L. Kish 1965).
    pub fn worth(&self) -> f64 {
        let total = sum(&self.classes);
        if total > 0.0 { total * total / self.squares } else { 0.0 }
    }

    /// Puts a feature's cells into at most `most` bins: a cell is in the quantile in which its middle is.
    pub fn bins(&self, feature: usize, most: usize, bins: &mut Bins) {
        let counts = &self.cells[feature * OF_ONE..][..CELLS * CLASSES];
        let (cells, _) = counts.as_chunks::<CLASSES>();
        let mut total = 0.0;
        cells.iter().for_each(|c| total += sum(c));
        bins.of_cell.clear();
        bins.weights.clear();
        let (mut below, mut last) = (0.0, usize::MAX);
        for cell in cells {
            let weight = sum(cell);
            if weight > 0.0 {
                let middle = (below + 0.5 * weight) / total;
                let quantile = ((middle * most as f64) as usize).min(most - 1);
                if quantile != last {
                    (last, _) = (quantile, bins.weights.push([0.0; CLASSES]));
                }
                let bin = bins.weights.last_mut().expect("there is one by now");
                bin.iter_mut().zip(cell).for_each(|(b, c)| *b += c);
                below += weight;
            }
            // A cell without labels goes with those below it.
            bins.of_cell.push(bins.weights.len().saturating_sub(1) as u8);
        }
    }

    /// Writes everything down.
    pub fn save(&self, out: &mut Vec<u8>) {
        let floats = self.cells.iter().chain(&self.classes).chain([&self.squares]);
        floats.for_each(|f| out.extend_from_slice(&f.to_bits().to_le_bytes()));
    }

    /// What [`Counts::save`] wrote.
    pub fn restore(&mut self, bytes: &mut &[u8]) -> Option<()> {
        for float in self.cells.iter_mut().chain(&mut self.classes).chain([&mut self.squares]) {
            let (first, rest) = bytes.split_first_chunk::<8>()?;
            *float = f64::from_bits(u64::from_le_bytes(*first));
            *bytes = rest;
        }
        Some(())
    }
}

/// The mutual information of bins and labels, and what chance makes of it, where labels worth `worth` weigh `total` in
/// all, over all features. Of a feature that tells nothing, 2n times the information goes as χ² with (bins − 1)(classes
/// − 1) degrees of freedom (S. Wilks 1938), so that its mean is that over 2n (G. Miller 1955); n is less where labels
/// overlap and the feature has the correlation `lasts` from one to the next.
pub fn relevance(bins: &[[f64; CLASSES]], total: f64, worth: f64, lasts: f64, overlap: &Overlap) -> Relevance {
    let mut classes = [0.0; CLASSES];
    let mut all = 0.0;
    for bin in bins {
        classes.iter_mut().zip(bin).for_each(|(c, b)| *c += b);
        all += sum(bin);
    }
    if all <= 0.0 {
        return Relevance::default();
    }
    let mut plug_in = 0.0;
    for bin in bins {
        let weight = sum(bin);
        for (cell, class) in bin.iter().zip(&classes) {
            if *cell > 0.0 {
                plug_in += cell / all * libm::log(cell * all / (weight * class));
            }
        }
    }
    let freedoms = ((bins.len() - 1) * (count(&classes) - 1)) as f64;
    // Where the feature was missing its labels do not count for it.
    let twice = 2.0 * worth * (all / total) / overlap.inflation(lasts, bins.len());
    let (bias, deviation) = (freedoms / twice, (2.0 * freedoms).sqrt() / twice);
    Relevance { plug_in: plug_in + 0.0, bias, deviation, bins: bins.len() }
}

/// How many classes there are labels of.
pub fn count(classes: &[f64; CLASSES]) -> usize {
    classes.iter().filter(|c| **c > 0.0).count()
}

/// The sum of three.
pub fn sum(of: &[f64; CLASSES]) -> f64 {
    of[0] + of[1] + of[2]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn information_is_that_of_theory() {
        // Independent: none. One bin a class: the entropy of the class.
        let told = |bins: &[[f64; 3]]| relevance(bins, 1.0, 1e9, 0.5, &Overlap::new(1, 3)).plug_in;
        assert!(told(&[[0.1, 0.2, 0.1], [0.15, 0.3, 0.15]]).abs() < 1e-15);
        let entropy = -(0.2 * 0.2_f64.ln() + 0.3 * 0.3_f64.ln() + 0.5 * 0.5_f64.ln());
        assert!((told(&[[0.2, 0.0, 0.0], [0.0, 0.3, 0.0], [0.0, 0.0, 0.5]]) - entropy).abs() < 1e-15);
        // A binary symmetric channel with crossover 0.1: ln 2 − H(0.1).
        let channel = std::f64::consts::LN_2 + 0.1 * 0.1_f64.ln() + 0.9 * 0.9_f64.ln();
        assert!((told(&[[0.45, 0.0, 0.05], [0.05, 0.0, 0.45]]) - channel).abs() < 1e-15);
        let told = |lasts, overlap| {
            relevance(&[[1.0, 0.0, 1.0], [0.0, 2.0, 0.0]], 8.0, 100.0, lasts, &Overlap::new(overlap, 3))
        };
        assert_eq!([told(0.3, 1).bias, told(0.0, 5).bias], [2.0 / (2.0 * 50.0); 2]);
        assert_eq!(told(0.0, 5).deviation, 2.0 / (2.0 * 50.0));
        assert!(told(1.0, 5).bias > 2.0 * told(0.0, 5).bias);
    }

    #[test]
    fn bins_have_about_equal_weight() {
        let mut counts = Counts::new(2);
        for i in 0..6400_u32 {
            // The second has half its weight in one cell.
            let second = if i % 2 == 0 { 20 } else { (i % 64) as u8 };
            counts.take(&[(i % 64) as u8, second], 1, 1.0);
        }
        let mut bins = Bins::default();
        counts.bins(0, 10, &mut bins);
        let weights: Vec<f64> = bins.weights.iter().map(sum).collect();
        assert!(weights.len() == 10 && weights.iter().all(|w| (500.0..=800.0).contains(w)), "{weights:?}");
        counts.bins(1, 10, &mut bins);
        assert!(bins.weights.iter().any(|w| w[1] >= 3200.0) && bins.weights.len() > 4);
        assert_eq!(counts.worth(), 6400.0);
    }
}
