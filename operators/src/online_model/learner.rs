//! One instrument's model at work: standardise, judge what has matured, predict, learn.

use std::sync::Arc;

use super::adam::Adam;
use super::design::Design;
use super::job::Job;
use super::labels::{DOWN, FLAT, Quote, UP, earned, greatest};
use super::logistic::Logistic;
use super::moments::Moments;
use super::network::{Network, softmax};
use super::past::{Past, Told};
use super::prune::{mask, prune};
use super::score::Score;
use super::slots::{EMPTY, Settled, Slots};
use super::window::Window;

/// The models that are judged, in the order of their rows.
pub const MODELS: [&str; 4] = ["network", "logistic", "persistence", "majority"];

/// A model of one instrument.
#[derive(Clone, Debug)]
pub struct Learner {
    /// What it is.
    pub design: Arc<Design>,
    /// The network.
    pub network: Network,
    /// The moments of its gradients.
    pub adam: Adam,
    /// The control.
    pub logistic: Logistic,
    /// Means and variances.
    pub moments: Moments,
    /// Which feature stands where.
    pub slots: Slots,
    /// The newest vectors.
    pub past: Past,
    /// By horizon, how many labels of each class have matured, and the class of the last.
    pub matured: Vec<([u64; 3], Option<u8>)>,
    /// By horizon, of each of [`MODELS`].
    pub scores: Vec<[Score; 4]>,
    /// Steps of learning made, and refused because a gradient was not finite.
    pub steps: u64,
    /// As above.
    pub refused: u64,
    /// The losses of the last minibatch: of the network and of the control.
    pub losses: [f64; 2],
    /// Whether parameters changed since this was last set to false: they are stored apart.
    pub is_changed: bool,
    window: Window,
    /// Whether the window is to be computed anew.
    is_stale: bool,
    job: Job,
    logits: Vec<f32>,
    column: Vec<f32>,
}

impl Learner {
    /// Before the first vector.
    pub fn new(design: &Arc<Design>) -> Learner {
        let (network, logistic) = (Network::new(design), Logistic::new(design));
        let horizons = design.horizons.len();
        Learner {
            adam: Adam::new(network.parameters.len()),
            moments: Moments::new(design.features, design.half_life),
            slots: Slots::new(design.slots, design.is_selected),
            past: Past::new(design),
            matured: vec![([0; 3], None); horizons],
            scores: vec![Default::default(); horizons],
            steps: 0,
            refused: 0,
            losses: [0.0; 2],
            is_changed: true,
            window: Window::new(design),
            is_stale: false,
            job: Job::new(design, &network, &logistic),
            logits: vec![0.0; 4 * horizons],
            column: vec![0.0; design.slots],
            network,
            logistic,
            design: design.clone(),
        }
    }

    /// A feature enters or leaves the active set by a selection; it counts when the selection is whole.
    pub fn change(&mut self, selection: i64, feature: usize, entered: bool) {
        if let Some(settled) = self.slots.tell(selection, feature as u32, entered) {
            self.seat(settled);
        }
    }

    /// The next vector: features (NaN where there is none) and its quote, all checked. Gives what is predicted by
    /// horizon, or nothing while fewer vectors have come than a prediction depends on.
    pub fn vector(&mut self, features: &[f64], quote: Quote) -> Option<&[Told]> {
        if let Some(settled) = self.slots.settle() {
            self.seat(settled);
        }
        let inputs = self.design.inputs(0);
        let z = self.past.push(quote);
        self.moments.standardise(features, z);
        let n = self.past.count - 1;
        self.judge(n);
        if std::mem::take(&mut self.is_stale) {
            self.refresh();
        } else {
            self.past.gather(n, &self.slots.features, &mut self.window.next()[..inputs]);
            self.window.advance(&self.network);
        }
        let is_told = self.past.count >= self.design.span() as u64;
        if is_told {
            self.predict();
        }
        self.learn(n);
        if is_told { self.past.told(n) } else { None }
    }

    /// After a restart: everything but what is computed from the rest has been put back.
    pub fn restored(&mut self) {
        self.network.make();
        self.logistic.make();
        self.begin();
        self.is_stale = true;
    }

    /// Newcomers find their slot as it was in the beginning, with all its blocks.
    fn seat(&mut self, settled: Settled) {
        for slot in &settled.came {
            let (taps, fed) = self.network.layout.of_slot(&self.design, *slot);
            let weights = fed.iter().flat_map(|(matrix, b)| matrix.block(*b));
            for at in taps.into_iter().chain(weights) {
                self.network.parameters[at] = self.network.layout.initial(&self.design, at);
                self.adam.forget(at);
            }
            fed.iter().for_each(|(matrix, b)| self.network.kept[matrix.first + b] = true);
            self.logistic.forget(*slot);
        }
        if !settled.came.is_empty() {
            self.network.make();
            self.logistic.make();
            self.is_changed = true;
        }
        if !settled.came.is_empty() || !settled.left.is_empty() {
            self.begin();
            self.is_stale = true;
        }
    }

    /// Labels of which vector n is the end mature: the predictions are judged, the baselines learn.
    fn judge(&mut self, n: u64) {
        for (i, horizon) in self.design.horizons.iter().enumerate() {
            let Some(start) = n.checked_sub(*horizon as u64) else { break };
            let (from, to) = (self.past.quote(start), self.past.quote(n));
            let truth = self.design.rule.class(from, to);
            if let Some(told) = self.past.told(start) {
                let told = &told[i];
                let scores = &mut self.scores[i];
                for (score, p) in scores.iter_mut().zip([told.network, told.logistic]) {
                    let class = greatest(p);
                    score.judge(truth, class, Some(p));
                    if class != FLAT && f64::from(p[class]) > self.design.trade_probability {
                        score.trade(earned(class, from, to));
                    }
                }
                for (score, class) in scores[2..].iter_mut().zip([told.persistence, told.majority]) {
                    let Some(class) = class.map(usize::from) else { continue };
                    score.judge(truth, class, None);
                    if class == UP || class == DOWN {
                        score.trade(earned(class, from, to));
                    }
                }
            }
            let (counts, last) = &mut self.matured[i];
            counts[truth] += 1;
            *last = Some(truth as u8);
        }
    }

    fn refresh(&mut self) {
        self.window.clear();
        let inputs = self.design.inputs(0);
        for n in self.past.count.saturating_sub(self.design.span() as u64)..self.past.count {
            self.past.gather(n, &self.slots.features, &mut self.window.next()[..inputs]);
            self.window.advance(&self.network);
        }
    }

    fn predict(&mut self) {
        let three = |logits: &[f32; 4]| softmax([logits[0], logits[1], logits[2]]);
        let told = self.past.tell();
        self.window.logits(&self.network, &mut self.logits);
        for (told, logits) in told.iter_mut().zip(self.logits.as_chunks::<4>().0) {
            told.network = three(logits);
        }
        let n = self.past.count - 1;
        self.past.gather(n, &self.slots.features, &mut self.column);
        self.logistic.logits(&self.column, &mut self.logits);
        let told = self.past.tell();
        for ((told, logits), (counts, last)) in told.iter_mut().zip(self.logits.as_chunks::<4>().0).zip(&self.matured) {
            told.logistic = three(logits);
            told.persistence = *last;
            told.majority = last.map(|_| greatest(*counts) as u8);
        }
    }

    /// Every `train_every` vectors a step along the gradient of the minibatch whose labels were all known
    /// `train_every` vectors before. The gradient is computed in the meantime, an equal share at every vector.
    fn learn(&mut self, n: u64) {
        let every = self.design.train_every as u64;
        let part = n % every + 1;
        // The examples' last has its last label at the vector before the first part.
        let lag = part + self.design.horizon_max() as u64 + self.design.batch as u64 - 1;
        let Some(first) = n.checked_sub(lag).filter(|first| first + 1 >= self.design.span() as u64) else { return };
        let units = self.job.units();
        let units = (units as u64 * part).div_ceil(every) as usize;
        self.job.advance(units, first, &self.past, &self.slots.features, &self.network, &self.logistic);
        if part == every {
            self.step();
        }
    }

    /// Begins the next minibatch.
    fn begin(&mut self) {
        self.job.begin(self.design.pruning.at(self.steps + 1).is_some());
    }

    fn step(&mut self) {
        let Design { learning_rate, clip, pruning, .. } = *self.design;
        let logistic = &mut self.logistic;
        let is_learned = logistic.adam.step(&mut logistic.parameters, &self.job.logistic_gradient, learning_rate, clip);
        let sparsity = pruning.at(self.steps + 1);
        let dense = sparsity.map(|_| self.job.gradient.clone());
        mask(&self.network, &mut self.job.gradient);
        let parameters = &mut self.network.parameters;
        if !self.adam.step(parameters, &self.job.gradient, learning_rate, clip) || !is_learned {
            self.refused += 1;
        } else {
            self.steps += 1;
            if let (Some(sparsity), Some(gradient)) = (sparsity, dense) {
                prune(&mut self.network, &mut self.adam, &gradient, sparsity, pruning.regrow);
            }
        }
        self.losses = self.job.losses;
        self.network.make();
        self.logistic.make();
        self.begin();
        self.is_changed = true;
        self.is_stale = true;
    }
}

/// The slots that have a feature.
pub fn taken(slots: &Slots) -> usize {
    slots.features.iter().filter(|f| **f != EMPTY).count()
}
