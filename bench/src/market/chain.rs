//! The four kernels, one after the other: a message makes ticks, a tick a vector, a vector a choice and a prediction.

use std::sync::Arc;

use operators::feature_selection::kernel as selection;
use operators::features::graph::Graph;
use operators::features::market::{Level, Tick, Trade};
use operators::features::set::FeatureSet;
use operators::features::standard::standard;
use operators::online_model::design::{Design, Pruning};
use operators::online_model::labels::{Quote, Rule, Unit};
use operators::online_model::learner::Learner;
use operators::online_model::score::Score;
use operators::order_book::book::Book;
use operators::order_book::course::Course;
use operators::order_book::rules::{Reason, Rules, Side};
use operators::order_book::tick::{Listener, Tick as BookTick};

use super::feed::{Message, Venue};

const LEVELS: usize = 5;
/// A feature enters at this rank and leaves this many later; the model has a slot for each.
const RANK_MAX: usize = 16;
const HYSTERESIS: usize = 4;
const HORIZONS: [usize; 4] = [10, 20, 50, 100];

/// Which features the model has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Chosen {
    /// All.
    All,
    /// The first selection, for good.
    Once,
    /// The selection as it stands.
    Anew,
}

impl Chosen {
    /// As figures name it.
    pub fn name(self) -> &'static str {
        match self {
            Chosen::All => "all",
            Chosen::Once => "static",
            Chosen::Anew => "dynamic",
        }
    }
}

/// One instrument's kernels.
pub struct Chain {
    rules: Rules,
    course: Course,
    rest: Rest,
}

/// What comes after the book.
struct Rest {
    chosen: Chosen,
    features: FeatureSet,
    tick: Tick,
    selector: selection::Selector,
    learner: Learner,
    predictions: u64,
}

impl Chain {
    pub fn new(venue: Venue, chosen: Chosen) -> Chain {
        Chain::with(venue, chosen, Pruning { sparsity: 0.7, after: 2_000, until: 4_000, every: 50, regrow: 0.05 })
    }

    /// With pruning as it is given.
    pub fn with(venue: Venue, chosen: Chosen, pruning: Pruning) -> Chain {
        let features = standard(LEVELS);
        let count = features.len();
        let rest = Rest {
            chosen,
            features: FeatureSet::new(Arc::new(Graph::new(&features))),
            tick: Tick { at: 0, bids: Vec::new(), asks: Vec::new(), trade: None, added: [0.0; 2], removed: [0.0; 2] },
            selector: selection::Selector::new(&selecting(count)),
            learner: Learner::new(&Arc::new(Design { pruning, ..learning(count, chosen != Chosen::All) })),
            predictions: 0,
        };
        let rules = venue.rules();
        Chain { course: Course::new(&rules), rules, rest }
    }

    /// A whole message.
    pub fn take(&mut self, message: &Message) {
        for record in &message.records {
            self.course.feed(&self.rules, record, &message.recorded, 0, &mut self.rest);
        }
        self.course.complete(&self.rules, &mut self.rest);
        // What a store would be told.
        self.course.book.touched.clear();
    }

    /// How many there were, of all horizons at once.
    pub fn predictions(&self) -> u64 {
        self.rest.predictions
    }

    /// The model as it stands.
    pub fn learner(&self) -> &Learner {
        &self.rest.learner
    }

    /// By horizon, of each model.
    pub fn scores(&self) -> impl Iterator<Item = (usize, &[Score; 4])> {
        HORIZONS.into_iter().zip(&self.rest.learner.scores)
    }
}

impl Listener for Rest {
    fn tick(&mut self, told: &BookTick, book: &Book) {
        if !told.is_healthy {
            self.features.break_off();
            return;
        }
        let side = |levels: &mut Vec<Level>, side: Side| {
            levels.clear();
            levels.extend(book.top(side, LEVELS).map(|(price, size, _)| Level { price, size }));
        };
        side(&mut self.tick.bids, Side::Bid);
        side(&mut self.tick.asks, Side::Ask);
        self.tick.at = told.at;
        self.tick.trade =
            told.trade.map(|t| Trade { price: t.price, size: t.size, sign: t.taker.map_or(0.0, |taker| taker as f64) });
        (self.tick.added, self.tick.removed) = (told.flow.added, told.flow.removed);
        self.features.update(&self.tick, &[]);
        let [price, spread] = self.features.mid_and_spread();
        if !(price > 0.0 && spread >= 0.0) {
            return;
        }
        let x = self.features.features();
        if self.chosen != Chosen::All {
            let quote = selection::Quote { price, spread };
            let changes = self.selector.push(selection::Vector { x, quote, at: told.at });
            let (is_told, changes) = (!changes.is_empty(), changes.iter());
            let changes: Vec<(usize, bool)> = changes.map(|c| (c.feature, c.entered)).collect();
            let number = self.selector.selections();
            if is_told && (self.chosen == Chosen::Anew || number == 1) {
                for (feature, entered) in changes {
                    self.learner.change(number as i64, feature, entered);
                }
            }
        }
        self.predictions += u64::from(self.learner.vector(x, Quote { price, spread }).is_some());
    }

    fn fault(&mut self, _: u32, reason: Reason, detail: String) {
        panic!("a recorded market has no faults: {} ({detail})", reason.name());
    }
}

/// A book that nobody looks at.
pub struct BookOnly {
    rules: Rules,
    course: Course,
    ticks: Ticks,
}

struct Ticks(u64);

impl BookOnly {
    pub fn new(venue: Venue) -> BookOnly {
        let rules = venue.rules();
        BookOnly { course: Course::new(&rules), rules, ticks: Ticks(0) }
    }

    pub fn take(&mut self, message: &Message) {
        for record in &message.records {
            self.course.feed(&self.rules, record, &message.recorded, 0, &mut self.ticks);
        }
        self.course.complete(&self.rules, &mut self.ticks);
        self.course.book.touched.clear();
    }
}

impl Listener for Ticks {
    fn tick(&mut self, _: &BookTick, _: &Book) {
        self.0 += 1;
    }

    fn fault(&mut self, _: u32, reason: Reason, detail: String) {
        panic!("a recorded market has no faults: {} ({detail})", reason.name());
    }
}

/// The defaults of `feature_selection`, but for markets of minutes.
fn selecting(features: usize) -> selection::Rules {
    selection::Rules {
        features,
        half_life: 5_000,
        clusters: 8,
        warmup: 2_000,
        bins: 10,
        size: RANK_MAX,
        hysteresis: HYSTERESIS,
        reselect_every: 1_000,
        correlation_max: 0.95,
        variance_min: 1e-18,
        label: selection::Label { horizon: 20, every: 1, threshold: 1.0, unit: selection::Unit::HalfSpreads },
        score: selection::Score::Product,
        significance: 3.0,
        watch: selection::Watch::Adwin { delta: 0.002 },
        drift_ages: 3,
        seed: 0,
    }
}

/// The defaults of `online_model`.
fn learning(features: usize, is_selected: bool) -> Design {
    Design {
        features,
        slots: if is_selected { RANK_MAX + HYSTERESIS } else { features },
        filters: 2,
        is_selected,
        horizons: HORIZONS.to_vec(),
        rule: Rule { threshold: 1.0, unit: Unit::HalfSpreads },
        window: 64,
        kernel: 3,
        dilation: 2,
        channels: 16,
        blocks: 2,
        half_life: 20_000.0,
        batch: 64,
        train_every: 64,
        learning_rate: 0.003,
        clip: 1.0,
        pruning: Pruning { sparsity: 0.7, after: 2_000, until: 4_000, every: 50, regrow: 0.05 },
        trade_probability: 0.5,
        seed: 0,
    }
}
