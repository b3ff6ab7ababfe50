//! By which rules features are chosen: everything the kernel has to know.

use super::drift::Watch;
use super::labels::Label;

/// The rules, checked.
#[derive(Clone, Debug, PartialEq)]
pub struct Rules {
    /// How many features a vector has.
    pub features: usize,
    /// After so many vectors the past counts half.
    pub half_life: u64,
    /// At most so many clusters.
    pub clusters: usize,
    /// The first so many vectors are looked at whole: centres are drawn among them.
    pub warmup: u64,
    /// At most so many bins of a feature.
    pub bins: usize,
    /// A feature of at most this rank enters.
    pub size: usize,
    /// One of a rank above `size` by more than this leaves.
    pub hysteresis: usize,
    /// A selection is made every so many vectors.
    pub reselect_every: u64,
    /// Of two features more correlated than this, one is redundant.
    pub correlation_max: f64,
    /// A feature of no greater variance is out.
    pub variance_min: f64,
    /// What is to be predicted.
    pub label: Label,
    /// How the parts of a score are put together.
    pub score: Score,
    /// A feature enters only if its relevance is so many standard deviations above that of chance, and leaves at half
    /// as many; 0 asks nothing.
    pub significance: f64,
    /// How the loss is watched.
    pub watch: Watch,
    /// On drift the labels counted so far age by so many half-lives.
    pub drift_ages: u32,
    /// Of the draws.
    pub seed: u64,
}

/// How the parts of a score are put together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Score {
    /// The product of weight and relevance, each over the greatest.
    Product,
    /// The mean of the shares of others that are beaten in weight and in relevance.
    RankAverage,
}

impl Rules {
    /// Features, and room up to a multiple of four.
    pub fn stride(&self) -> usize {
        self.features.next_multiple_of(4)
    }
}

#[cfg(test)]
pub mod tests {
    use super::super::labels::Unit;
    use super::*;

    /// Rules for tests.
    pub fn rules(features: usize) -> Rules {
        Rules {
            features,
            half_life: 1000,
            clusters: 8,
            warmup: 200,
            bins: 10,
            size: 4,
            hysteresis: 1,
            reselect_every: 100,
            correlation_max: 0.95,
            variance_min: 1e-18,
            label: Label { horizon: 1, every: 1, threshold: 0.0, unit: Unit::Relative },
            score: Score::Product,
            significance: 0.0,
            watch: Watch::Adwin { delta: 0.002 },
            drift_ages: 2,
            seed: 1,
        }
    }
}
