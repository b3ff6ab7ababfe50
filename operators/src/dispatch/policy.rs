//! What it is worth that a driver serves an order: one formula, of which the known policies are configurations.
//!
//! weight = c · (r + γ^Δt · V(destination) − V(origin)), with c the probability that the passenger does not cancel, Δt the
//! time until the driver is free at the destination. If the passenger cancels, the driver stays where it is, worth V(origin):
//! so that is by how much the match changes the expected sum, the advantage of serving over staying.

use super::offline::spread;

/// How likely it is that a passenger who is told the pickup distance stays.
#[derive(Clone, Debug, PartialEq)]
pub enum Completion {
    /// Nobody cancels.
    Certain,
    /// Cancels with probability first · e^(growth·d), at most 1; d in metres. Polar Bear: 0.01 · e^(ln 20 / 2000 · d).
    Exponential {
        /// The probability at the passenger's door.
        first: f64,
        /// Its growth a metre.
        growth: f64,
    },
    /// Cancels with these probabilities at `step_m`, 2·`step_m`, …; in between linear, before the first and beyond the
    /// last constant.
    Curve {
        /// Metres from point to point.
        step_m: f64,
        /// The probabilities.
        cancels: Vec<f64>,
    },
    /// Cancels with these probabilities at these distances; in between linear, before the first and beyond the last
    /// constant.
    Points {
        /// Metres, ascending.
        at_m: Vec<f64>,
        /// The probabilities, as many.
        cancels: Vec<f64>,
    },
}

/// How γ^Δt is taken.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Discounting {
    /// γ^(Δt / unit).
    Continuous,
    /// γ^k with k = max(1, ⌊Δt / unit⌋): Polar Bear, with units of 600 s.
    Whole,
}

/// What counts as earned.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Earned {
    /// The fee.
    Fee,
    /// The fee spread over the trip's units of time and discounted (Xu 2018).
    Spread,
    /// Nothing; instead each pair is worth this less its distance in metres. If that is more than any sum of distances,
    /// the matching is the largest there is and, among those, the one of the least total distance.
    Nearness(f64),
}

/// A policy: what of the formula counts.
#[derive(Clone, Debug, PartialEq)]
pub struct Policy {
    /// The probability c.
    pub completion: Completion,
    /// The reward r.
    pub earned: Earned,
    /// Whether values count at all. Without them the weight is c · r: myopic.
    pub is_far_sighted: bool,
    /// The discount γ of a unit of time.
    pub gamma: f64,
    /// The unit of time, in seconds.
    pub unit_secs: f64,
    /// How γ^Δt is taken.
    pub discounting: Discounting,
    /// Whether the time to the pickup counts in Δt. READING for V1D3: yes, eta + trip.
    pub counts_pickup: bool,
}

/// A driver and an order, as the formula sees them.
#[derive(Clone, Copy, Debug)]
pub struct Pair {
    /// From the driver to the pickup, in metres.
    pub distance_m: f64,
    /// From the driver to the pickup, in seconds.
    pub pickup_secs: f64,
    /// From pickup to destination, in seconds.
    pub trip_secs: f64,
    /// The fee.
    pub reward: f64,
    /// V where the order ends.
    pub value_destination: f64,
    /// V where the driver is.
    pub value_origin: f64,
}

/// A weight with its parts: why this driver was sent.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Weight {
    /// c.
    pub completion: f64,
    /// r.
    pub reward: f64,
    /// γ^Δt.
    pub discount: f64,
    /// V(destination).
    pub value_destination: f64,
    /// V(origin).
    pub value_origin: f64,
    /// c · (r + γ^Δt · V(destination) − V(origin)).
    pub total: f64,
}

impl Completion {
    /// Polar Bear's curve: 1 % at the door, 20 % at 2 km.
    pub fn polar_bear() -> Completion {
        // ln 20 / 2000
        Completion::Exponential { first: 0.01, growth: 2.995_732_273_553_991 / 2_000.0 }
    }

    /// The probability that the passenger stays.
    pub fn at(&self, distance_m: f64) -> f64 {
        match self {
            Completion::Certain => 1.0,
            Completion::Exponential { first, growth } => 1.0 - (first * libm::exp(growth * distance_m)).clamp(0.0, 1.0),
            Completion::Curve { step_m, cancels } => 1.0 - curve(*step_m, cancels, distance_m),
            Completion::Points { at_m, cancels } => 1.0 - polyline(at_m, cancels, distance_m),
        }
    }
}

/// A curve by its points at `step`, 2·`step`, …: in between linear, before the first and beyond the last constant.
pub fn curve(step: f64, points: &[f64], at: f64) -> f64 {
    let Some(last) = points.last() else { return 0.0 };
    let along = (at / step - 1.0).max(0.0);
    let before = along as usize;
    match points.get(before + 1) {
        Some(next) => points[before] + (next - points[before]) * (along - before as f64),
        None => *last,
    }
}

/// A curve by its points at ascending places: in between linear, before the first and beyond the last constant.
fn polyline(places: &[f64], points: &[f64], at: f64) -> f64 {
    let after = places.partition_point(|place| *place <= at);
    let (Some(before), true) = (after.checked_sub(1), after < places.len()) else {
        return points[after.min(points.len() - 1)];
    };
    let along = (at - places[before]) / (places[after] - places[before]);
    points[before] + (points[after] - points[before]) * along
}

impl Policy {
    /// As many orders as possible, of all ways the one with the least pickup distance.
    pub fn nearest() -> Policy {
        let earned = Earned::Nearness(1e6);
        Policy { completion: Completion::Certain, earned, is_far_sighted: false, ..Policy::v1d3(1.0) }
    }

    /// The greatest expected fees of this round.
    pub fn myopic() -> Policy {
        Policy { is_far_sighted: false, ..Policy::v1d3(1.0) }
    }

    /// The advantage of Xu et al. 2018, with fees spread over slots of 10 minutes and γ = 0.9. READING: weighted with the
    /// probability that the passenger stays, which theirs is not.
    pub fn xu() -> Policy {
        Policy { earned: Earned::Spread, ..Policy::v1d3(0.9) }
    }

    /// The KDD Cup winner's.
    pub fn polar_bear() -> Policy {
        Policy { discounting: Discounting::Whole, ..Policy::v1d3(0.9) }
    }

    /// V1D3: ρ = r + γ^Δt · V(destination) − V(origin). READING: with the winner's probability of completion, which the
    /// account of the paper at hand does not mention.
    pub fn v1d3(gamma: f64) -> Policy {
        Policy {
            completion: Completion::polar_bear(),
            earned: Earned::Fee,
            is_far_sighted: true,
            gamma,
            unit_secs: 600.0,
            discounting: Discounting::Continuous,
            counts_pickup: true,
        }
    }

    /// γ^Δt of a pair.
    pub fn discount(&self, pickup_secs: f64, trip_secs: f64) -> f64 {
        let secs = if self.counts_pickup { pickup_secs + trip_secs } else { trip_secs };
        self.discount_of(secs)
    }

    /// γ^Δt of a time.
    pub fn discount_of(&self, secs: f64) -> f64 {
        let units = secs / self.unit_secs;
        let units = match self.discounting {
            Discounting::Continuous => units,
            Discounting::Whole => libm::floor(units).max(1.0),
        };
        libm::exp(units * libm::log(self.gamma))
    }

    /// What a pair is worth.
    pub fn weigh(&self, pair: &Pair) -> Weight {
        let completion = self.completion.at(pair.distance_m);
        let secs = if self.counts_pickup { pair.pickup_secs + pair.trip_secs } else { pair.trip_secs };
        let reward = match self.earned {
            Earned::Fee => pair.reward,
            Earned::Spread => {
                let units = libm::ceil(secs / self.unit_secs).clamp(1.0, 1e6);
                spread(pair.reward, self.gamma, units as u32)
            }
            Earned::Nearness(far) => far - pair.distance_m,
        };
        let (discount, value_destination, value_origin) = if self.is_far_sighted {
            (self.discount_of(secs), pair.value_destination, pair.value_origin)
        } else {
            (0.0, 0.0, 0.0)
        };
        let total = completion * (reward + discount * value_destination - value_origin);
        Weight { completion, reward, discount, value_destination, value_origin, total }
    }
}
