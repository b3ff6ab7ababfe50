//! The selection of one instrument's features, vector by vector.

use super::clusters::Clusters;
use super::drift::Detector;
use super::forget::Forgetting;
use super::labels::{Queue, Quote};
use super::persistence::{Overlap, Persistence};
use super::ranking::{Evidence, Verdict, decide};
use super::referee::{ALL, CHOSEN, FIRST, Opinions, Referee};
use super::relevance::{Bins, Counts, Relevance, count, relevance, sum};
use super::rules::Rules;
use super::scale::{Scale, Scaled, varies};

/// A vector of features with the price at it.
#[derive(Clone, Copy, Debug)]
pub struct Vector<'a> {
    /// The features; what is no number is missing.
    pub x: &'a [f64],
    /// The price.
    pub quote: Quote,
    /// Its event time.
    pub at: i64,
}

/// What is known of a feature since the last selection, and what came of it.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Standing {
    /// Its forgotten variance, in its own units; NaN if it never was there.
    pub variance: f64,
    /// One less the share of its variance within clusters; none if it does not vary.
    pub one_minus_v: Option<f64>,
    /// As above.
    pub weight: Option<f64>,
    /// What it tells of the label.
    pub relevance: Relevance,
    /// What came of it.
    pub verdict: Verdict,
    /// The event time since which it is in the set.
    pub since: i64,
}

/// A feature that came into the set or went.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Change {
    /// The feature.
    pub feature: usize,
    /// Whether it came.
    pub entered: bool,
    /// Why.
    pub reason: Reason,
}

/// Why a feature came or went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The selection is the first.
    First,
    /// By its rank.
    Score,
    /// Another says the same.
    Redundant,
    /// The loss had risen, and the selection was made for that.
    Drift,
}

impl Reason {
    /// Its name in `changes`.
    pub fn name(self) -> &'static str {
        match self {
            Reason::First => "first",
            Reason::Score => "score",
            Reason::Redundant => "redundant",
            Reason::Drift => "drift",
        }
    }
}

/// Drift found so far.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Drifts {
    /// How often.
    pub count: u64,
    /// The event time of the last.
    pub last_at: i64,
}

/// What is kept of an instrument.
#[derive(Clone, Debug)]
pub struct Selector {
    pub(super) rules: Rules,
    /// How many vectors have come.
    pub(super) count: u64,
    /// The vectors of the warm-up, features and then price and spread, as long as it lasts.
    early: Vec<f64>,
    pub(super) forgetting: Forgetting,
    pub(super) scale: Scale,
    pub(super) clusters: Clusters,
    pub(super) counts: Counts,
    pub(super) persistence: Persistence,
    pub(super) queue: Queue,
    pub(super) referee: Referee,
    pub(super) detector: Detector,
    /// The sum of the losses that are not in a mean yet, and how many they are.
    pub(super) unseen: (f64, u64),
    pub(super) drifts: Drifts,
    /// How many selections were made.
    pub(super) selections: u64,
    pub(super) standings: Vec<Standing>,
    changes: Vec<Change>,
    tamed: Vec<f64>,
    scaled: Scaled,
    bins: Bins,
}

impl Selector {
    /// No vectors yet.
    pub fn new(rules: &Rules) -> Selector {
        let n = rules.features;
        Selector {
            count: 0,
            early: Vec::new(),
            forgetting: Forgetting::new(rules.half_life),
            scale: Scale::new(rules),
            clusters: Clusters::new(rules.stride()),
            counts: Counts::new(n),
            persistence: Persistence::new(rules.stride()),
            queue: Queue::default(),
            referee: Referee::new(n, rules.bins),
            detector: Detector::new(rules.watch, rules.label.overlap()),
            unseen: (0.0, 0),
            drifts: Drifts::default(),
            selections: 0,
            standings: vec![Standing { variance: f64::NAN, ..Standing::default() }; n],
            changes: Vec::new(),
            tamed: Vec::with_capacity(n),
            scaled: Scaled::new(n, rules.stride()),
            bins: Bins::default(),
            rules: rules.clone(),
        }
    }

    /// Takes the next vector. Gives what came into the set and went, by feature.
    pub fn push(&mut self, vector: Vector<'_>) -> &[Change] {
        self.changes.clear();
        self.count += 1;
        self.scale.tame(vector.x, &mut self.tamed);
        self.scale.count(&self.tamed);
        if self.count > self.rules.warmup {
            let is_drift = self.mature(self.count, vector);
            if self.count.is_multiple_of(super::scale::RESCALE_EVERY) {
                self.scale.look_up(self.rules.variance_min);
            }
            self.learn();
            if is_drift {
                self.drifts.count += 1;
                self.drifts.last_at = vector.at;
                self.counts.age(self.rules.drift_ages);
            }
            self.select_if_due(is_drift, vector.at);
            self.wait(self.count, vector.quote);
        } else {
            self.early.extend_from_slice(&self.tamed);
            self.early.extend([vector.quote.price, vector.quote.spread]);
            if self.count == self.rules.warmup {
                self.warm_up(vector.at);
            }
        }
        &self.changes
    }

    /// Looks at the vectors of the warm-up again, one after the other, now that there is a scale and centres can be
    /// drawn.
    fn warm_up(&mut self, at: i64) {
        let (n, stride) = (self.rules.features, self.rules.stride());
        let early = std::mem::take(&mut self.early);
        self.scale.look_up(self.rules.variance_min);
        let mut scaled = Vec::with_capacity(stride * self.count as usize);
        for vector in early.chunks_exact(n + 2) {
            self.scale.scale(&vector[..n], &mut self.scaled);
            scaled.extend_from_slice(&self.scaled.z);
        }
        self.clusters.seed(&scaled, self.rules.clusters, self.rules.seed);
        for (number, vector) in (1..).zip(early.chunks_exact(n + 2)) {
            let quote = Quote { price: vector[n], spread: vector[n + 1] };
            self.tamed.clear();
            self.tamed.extend_from_slice(&vector[..n]);
            self.mature(number, Vector { x: &vector[..n], quote, at });
            self.learn();
            if number == self.count {
                self.select_if_due(false, at);
            }
            self.wait(number, quote);
        }
    }

    /// Time goes on by a vector, whose price makes a label known. True if the loss has risen.
    fn mature(&mut self, number: u64, vector: Vector<'_>) -> bool {
        if self.forgetting.next() {
            self.clusters.halve();
            self.counts.halve();
            self.persistence.halve();
        }
        let Some(waiting) = self.queue.ripe(number, self.rules.label.horizon) else { return false };
        let mut is_drift = false;
        if let Some(class) = self.rules.label.class(waiting.quote, vector.quote) {
            if let Some(opinions) = &waiting.opinions {
                let loss = self.referee.judge(opinions, class);
                self.unseen = (self.unseen.0 + loss, self.unseen.1 + 1);
                if self.unseen.1 == self.rules.label.overlap() {
                    let (sum, count) = std::mem::take(&mut self.unseen);
                    is_drift = self.detector.push(sum / count as f64);
                }
            }
            self.counts.take(&waiting.cells, class, self.forgetting.weight());
        }
        self.queue.reuse(waiting);
        is_drift
    }

    /// Scales the vector and moves its cluster.
    fn learn(&mut self) {
        self.scale.scale(&self.tamed, &mut self.scaled);
        self.clusters.take(&self.scaled.z, &self.scaled.there, self.forgetting.weight());
    }

    /// Lets the vector wait for its label, with what is predicted of it.
    fn wait(&mut self, number: u64, quote: Quote) {
        if number.is_multiple_of(self.rules.label.every) {
            let opinions: Option<Opinions> = (self.selections > 0).then(|| self.referee.opinions(&self.scaled.cells));
            self.queue.push(number, quote, &self.scaled.cells, opinions);
            if self.rules.label.overlap() > 1 {
                self.persistence.take(&self.scaled.z, self.forgetting.weight());
            }
        }
    }

    fn select_if_due(&mut self, is_drift: bool, at: i64) {
        let is_due = is_drift || self.count.is_multiple_of(self.rules.reselect_every);
        if is_due && sum(&self.counts.classes()) > 0.0 {
            self.select(is_drift, at);
        }
    }

    fn select(&mut self, is_drift: bool, at: i64) {
        let n = self.rules.features;
        self.selections += 1;
        let (classes, worth, newest) = (self.counts.classes(), self.counts.worth(), self.forgetting.weight());
        let (labels, overlap) = (sum(&classes), Overlap::new(self.rules.label.overlap(), count(&classes)));
        let moments = self.scale.moments();
        self.referee.learn_classes(classes, newest);
        let mut shares: Vec<Option<f64>> = vec![None; n];
        for (j, (standing, share)) in self.standings.iter_mut().zip(&mut shares).enumerate() {
            standing.variance = moments.variance(j);
            self.counts.bins(j, self.rules.bins, &mut self.bins);
            standing.relevance = relevance(&self.bins.weights, labels, worth, self.persistence.of(j), &overlap);
            self.referee.learn(j, &self.bins, newest);
            if varies(moments.mean(j), standing.variance, self.rules.variance_min) {
                *share = self.clusters.within(j);
            }
            standing.one_minus_v = share.map(|share| 1.0 - share);
        }
        let mut total = 0.0;
        shares.iter().flatten().for_each(|share| total += inverse(*share));
        for (standing, share) in self.standings.iter_mut().zip(&shares) {
            standing.weight = share.map(|share| inverse(share) / total);
        }
        let of = |s: &Standing| {
            let (relevance, deviations) = (s.relevance.corrected(), s.relevance.deviations());
            s.weight.map(|weight| Evidence { weight, relevance, deviations })
        };
        let evidence: Vec<Option<Evidence>> = self.standings.iter().map(of).collect();
        let active: Vec<bool> = self.standings.iter().map(|s| s.verdict.is_active).collect();
        let verdicts = decide(&evidence, &active, |a, b| moments.correlation(a, b), &self.rules);
        for (j, (standing, verdict)) in self.standings.iter_mut().zip(verdicts).enumerate() {
            if verdict.is_active != standing.verdict.is_active {
                let reason = if self.selections == 1 {
                    Reason::First
                } else if verdict.redundant_with.is_some() {
                    Reason::Redundant
                } else if is_drift {
                    Reason::Drift
                } else {
                    Reason::Score
                };
                self.changes.push(Change { feature: j, entered: verdict.is_active, reason });
                standing.since = at;
            }
            standing.verdict = verdict;
        }
        let those = |is_in: &dyn Fn(usize) -> bool| (0..n as u32).filter(|j| is_in(*j as usize)).collect::<Vec<u32>>();
        self.referee.sets[CHOSEN] = those(&|j| self.standings[j].verdict.is_active);
        self.referee.sets[ALL] = those(&|j| shares[j].is_some());
        if self.selections == 1 {
            self.referee.sets[FIRST] = self.referee.sets[CHOSEN].clone();
        }
    }

    /// How many vectors have come.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Whether the warm-up is over.
    pub fn is_warm(&self) -> bool {
        self.count >= self.rules.warmup
    }

    /// What is known of each feature.
    pub fn standings(&self) -> &[Standing] {
        &self.standings
    }

    /// How many selections were made.
    pub fn selections(&self) -> u64 {
        self.selections
    }

    /// What the sets have cost.
    pub fn referee(&self) -> &Referee {
        &self.referee
    }

    /// What watches the loss, and what it found.
    pub fn watch(&self) -> (&Detector, Drifts) {
        (&self.detector, self.drifts)
    }
}

/// Kept from dividing by nothing.
const EPSILON: f64 = 1e-6;

fn inverse(share: f64) -> f64 {
    1.0 / (share + EPSILON)
}
