//! Who decides: a dispatch policy, what it believes places are worth, and where it sends idle drivers.

use std::sync::Arc;

use operators::dispatch::offline::Offline;
use operators::dispatch::policy::Policy;
use operators::dispatch::reposition::Rule;
use operators::dispatch::tiles::Coding;
use operators::dispatch::value::StepSize;

/// The side of a tile, in metres: 0.01 degrees at the latitude of Chengdu is between 960 and 1,110 m.
pub const TILE_M: f64 = 1_000.0;

/// Which drivers count as idle in a round's update.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Population {
    /// Those who were near an open order and were not matched: all that Polar Bear's agent is told of.
    Candidates,
    /// All.
    Fleet,
}

/// What a matched driver's place moves by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Matched {
    /// The weight of its edge, whether or not the passenger cancels then: Polar Bear.
    Weight,
    /// The TD error of the trip. Whose passenger cancels counts as idle: V1D3.
    Trip,
}

/// How values are learned online.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Learning {
    /// The step size.
    pub step: StepSize,
    /// Who counts as idle.
    pub population: Population,
    /// What matched drivers are learned from.
    pub matched: Matched,
    /// γ^Δt of an idle round.
    pub idle_discount: f64,
}

/// When and how far the table is drawn to the offline function.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ensemble {
    /// The weight of the online values, ω.
    pub keep: f64,
    /// Seconds from change point to change point, whole rounds; the first is at midnight, and keeps nothing.
    pub every_secs: u32,
}

/// Where values come from.
#[derive(Clone, Debug)]
pub enum Believed {
    /// There are none.
    Nothing,
    /// An offline function of time and place, as it is.
    Offline(Arc<Offline>),
    /// Learned online, from zero each day, drawn to an offline function now and then if there is one.
    Online(Learning, Option<(Arc<Offline>, Ensemble)>),
}

/// How the supply that will be at a place thins what it is worth, where the rule does not do that itself.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Thinning {
    /// It does not.
    None,
    /// By the expected part of the drivers there who get an order: E\[min(N, s)\] / s, N the orders (Poisson), s the drivers with
    /// the one who is asked.
    Filled,
    /// By the probability that there is an order for one driver more: P(N ≥ s), what the fleet as a whole gains.
    Marginal,
}

impl Thinning {
    /// The factor for a driver more at a place of so many drivers and so many expected orders.
    pub fn factor(self, supply: f64, demand: f64) -> f64 {
        if self == Thinning::None {
            return 1.0;
        }
        let drivers = supply.max(0.0) as u32 + 1;
        if demand > 500.0 {
            return (demand / f64::from(drivers)).min(1.0);
        }
        // P(N ≥ i) for i = 1, …, s, and their sum, which is E[min(N, s)].
        let (mut term, mut at_least, mut sum) = (libm::exp(-demand), 1.0, 0.0);
        for i in 1..=drivers {
            at_least = (at_least - term).max(0.0);
            sum += at_least;
            term *= demand / f64::from(i);
        }
        if self == Thinning::Filled { sum / f64::from(drivers) } else { at_least }
    }
}

/// How controlled drivers are repositioned.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Repositioning {
    /// How a place is chosen.
    pub rule: Rule,
    /// How supply counts before.
    pub thinning: Thinning,
    /// How many rings of hexagons are candidates.
    pub rings: i32,
    /// Over how long expected demand counts, in seconds.
    pub horizon_secs: f64,
    /// γ of ten minutes.
    pub gamma: f64,
}

/// Everything that decides.
#[derive(Clone, Debug)]
pub struct Agent {
    /// As in the names of the metrics.
    pub name: &'static str,
    /// What pairs are worth.
    pub policy: Policy,
    /// How many of the nearest drivers are candidates of an order.
    pub candidates: usize,
    /// The cells of the value table.
    pub coding: Coding,
    /// What places are worth.
    pub believed: Believed,
    /// Where idle drivers are sent; `None`: controlled drivers stay where they are.
    pub repositioning: Option<Repositioning>,
}

/// What was tuned of V1D3, by `city tune` on days no figure is reported of (seeds 500 to 503 of a city of 0.3).
///
/// The optimum is flat but for one parameter. With `idle_weight` 1, the plain reading of γ^Δt, V is what the average driver
/// earns, and everybody waits for better orders than there are: V1D3 then earns less than myopic, here. Where many wait,
/// one more driver is worth less than the average one. Waiting that costs more brings V down just there. ω is the paper's.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tuned {
    /// The step size.
    pub alpha: f64,
    /// γ of ten minutes.
    pub gamma: f64,
    /// ω.
    pub omega: f64,
    /// Seconds from change point to change point.
    pub ensemble_secs: u32,
    /// How many seconds of work a second of waiting counts as.
    pub idle_weight: f64,
    /// The temperature of repositioning.
    pub temperature: f64,
    /// Over how long expected demand counts in repositioning, in seconds.
    pub horizon_secs: f64,
    /// How many rings of hexagons a driver may be sent to.
    pub rings: u32,
}

impl Tuned {
    /// For values that only say where to wait: a driver's own income counts, so waiting costs what it takes.
    pub fn waiting() -> Tuned {
        Tuned { gamma: 0.9, idle_weight: 1.0, ..Tuned::default() }
    }

    /// Repositioning as V1D3 is set.
    pub fn repositioning(&self, is_fleet_aware: bool) -> Repositioning {
        let rule = Rule { temperature: self.temperature, is_fleet_aware };
        let (rings, thinning) = (self.rings as i32, Thinning::None);
        Repositioning { rule, thinning, rings, horizon_secs: self.horizon_secs, gamma: self.gamma }
    }
}

impl Default for Tuned {
    fn default() -> Tuned {
        Tuned {
            alpha: 0.05,
            gamma: 0.8,
            omega: 0.2,
            ensemble_secs: 1_800,
            idle_weight: 12.0,
            temperature: 0.2,
            horizon_secs: 1_800.0,
            rings: 2,
        }
    }
}

impl Agent {
    /// The nearest driver.
    pub fn nearest() -> Agent {
        Agent::plain("nearest", Policy::nearest())
    }

    /// The greatest expected fees of the round.
    pub fn myopic() -> Agent {
        Agent::plain("myopic", Policy::myopic())
    }

    /// Xu et al.: a fixed function of time and place.
    pub fn xu(offline: Arc<Offline>) -> Agent {
        Agent { believed: Believed::Offline(offline), ..Agent::plain("xu", Policy::xu()) }
    }

    /// The KDD Cup winner: tiles from zero each day, γ 0.9, α 0.025, candidates decay by 0.9 a round.
    pub fn polar_bear() -> Agent {
        let learning = Learning {
            step: StepSize::Constant(0.025),
            population: Population::Candidates,
            matched: Matched::Weight,
            idle_discount: 0.9,
        };
        Agent { believed: Believed::Online(learning, None), ..Agent::plain("polar_bear", Policy::polar_bear()) }
    }

    /// V1D3: the whole fleet's transitions, and the periodic ensemble.
    pub fn v1d3(offline: Option<Arc<Offline>>, tuned: Tuned) -> Agent {
        let policy = Policy::v1d3(tuned.gamma);
        let learning = Learning {
            step: StepSize::Constant(tuned.alpha),
            population: Population::Fleet,
            matched: Matched::Trip,
            idle_discount: policy.discount_of(tuned.idle_weight * f64::from(crate::calibration::ROUND_SECS)),
        };
        let ensemble = Ensemble { keep: tuned.omega, every_secs: tuned.ensemble_secs };
        let believed = Believed::Online(learning, offline.map(|offline| (offline, ensemble)));
        Agent { believed, ..Agent::plain("v1d3", policy) }
    }

    fn plain(name: &'static str, policy: Policy) -> Agent {
        let coding = Coding::Tiles { size: TILE_M };
        Agent { name, policy, candidates: 11, coding, believed: Believed::Nothing, repositioning: None }
    }
}
