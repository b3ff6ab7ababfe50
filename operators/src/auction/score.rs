//! What a pair of request and resource is worth, and whether it may be at all.
//!
//! Scores are fixed point: multiples of 10⁻¹² in 64 bits, so that they compare and add exactly. Everything before the
//! rounding is elementwise floating point in a stated order, the same on every machine; and each operation is
//! monotone, so a greater budget never gives a smaller score, which is what makes a critical bid well defined.

use crate::grid::EARTH_RADIUS_M;

/// Multiples of the unit of a score in 1.
pub const SCORE_ONE: f64 = 1e12;
/// The greatest weight of a component: a score stays below 2⁵¹ units, where rounding by addition is exact.
pub const WEIGHT_MAX: f64 = 100.0;
/// Adding and subtracting this rounds to an integer, half to even, without a call.
const ROUND: f64 = 1.5 * (1u64 << 52) as f64;

/// How much each component counts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Weights {
    /// What the request's budget leaves.
    pub cost: f64,
    /// Reliability, availability and nearness.
    pub qos: f64,
    /// The resource's energy efficiency.
    pub energy: f64,
    /// The request's priority, less what its requester has had.
    pub fairness: f64,
}

impl Default for Weights {
    /// Those of the paper's Eq. 22.
    fn default() -> Weights {
        Weights { cost: 0.4, qos: 0.3, energy: 0.1, fairness: 0.2 }
    }
}

/// How places are told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Metric {
    /// There are no places: every distance is 0.
    Nowhere,
    /// Two coordinates in one unit, which is also that of distances.
    Plane,
    /// Latitude and longitude in degrees; distances are great circles in metres.
    Globe,
}

/// The form of the score.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Form {
    /// The weights.
    pub weights: Weights,
    /// The components as the authors' code computes them, instead of each in [0, 1].
    pub as_published: bool,
    /// How places are told apart.
    pub metric: Metric,
    /// The distance from which on nearness is worth nothing.
    pub distance_scale: f64,
    /// Latency of a unit of distance.
    pub latency_per_distance: f64,
    /// The priority that counts as 1.
    pub priority_max: f64,
}

/// What is known of a request. All numbers are finite and not negative.
#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    /// How much capacity it takes.
    pub demand: f64,
    /// The same in fixed point.
    pub take: i64,
    /// The most it pays: its bid.
    pub budget: f64,
    /// What of its score no resource changes.
    pub fair: f64,
    /// Where it is: coordinates in the plane, or on the unit sphere.
    pub place: [f64; 3],
    /// The least reliability.
    pub reliability_min: f64,
    /// The least availability.
    pub availability_min: f64,
    /// The greatest latency; infinite if there is no limit.
    pub latency_max: f64,
    /// Who asks, as bytes.
    pub requester: Box<[u8]>,
}

/// What is known of a resource. All numbers are finite and not negative.
#[derive(Clone, Debug, PartialEq)]
pub struct Resource {
    /// How much it holds.
    pub capacity: f64,
    /// The same in fixed point.
    pub room: i64,
    /// What a unit of demand costs: the base of its price.
    pub cost: f64,
    /// A share of 1.
    pub reliability: f64,
    /// A share of 1.
    pub availability: f64,
    /// A share of 1: the more, the less it wastes.
    pub energy: f64,
    /// Where it is: coordinates in the plane, or on the unit sphere.
    pub place: [f64; 3],
}

impl Form {
    /// What of a request's score no resource changes: the weighted fairness component.
    ///
    /// Normalised: `p / p_max − ½ · h / (1 + h)`, kept in [0, 1]; as published: `p / 10 − ½ · h` with h = 0,
    /// where a priority above 100 counts as 100.
    pub fn fair(&self, priority: f64, served: f64) -> f64 {
        let component = if self.as_published {
            (priority / 10.0).min(10.0)
        } else {
            ((priority / self.priority_max).min(1.0) - 0.5 * (served / (1.0 + served))).max(0.0)
        };
        self.weights.fairness * component
    }

    /// A resource's part of the QoS component: half of it, or as published all that reaches 1.
    pub fn quality(&self, resource: &Resource) -> f64 {
        match (self.as_published, self.metric) {
            (true, _) | (false, Metric::Nowhere) => 0.5 * (resource.reliability + resource.availability),
            (false, _) => 0.25 * (resource.reliability + resource.availability),
        }
    }

    /// The nearness of a pair at this distance, at most ½.
    fn near(&self, distance: f64) -> f64 {
        if self.metric == Metric::Nowhere && !self.as_published {
            return 0.0;
        }
        0.5 * (1.0 - distance / self.distance_scale).max(0.0)
    }

    /// The distance of two places.
    #[inline]
    pub fn distance(&self, a: &[f64; 3], b: &[f64; 3]) -> f64 {
        match self.metric {
            Metric::Nowhere => 0.0,
            Metric::Plane => plane(a, b),
            Metric::Globe => globe(a, b),
        }
    }

    /// The score of a pair, in units of fixed point: a request of this demand and bid, and `fair`, with a resource of
    /// this cost, `quality` and `energy`, at this distance.
    #[inline]
    pub fn score(&self, request: [f64; 3], resource: [f64; 3], distance: f64) -> i64 {
        let ([demand, bid, fair], [cost, quality, energy]) = (request, resource);
        // Without a bid the share is NaN or infinite, and the component 0.
        let left = (1.0 - cost * demand / bid).max(0.0);
        let w = &self.weights;
        let score = w.cost * left + w.qos * (quality + self.near(distance)) + w.energy * energy + fair;
        fixed_score(score)
    }
}

/// A score in fixed point, half to even.
#[inline]
fn fixed_score(score: f64) -> i64 {
    (score * SCORE_ONE + ROUND).to_bits() as i64 - ROUND.to_bits() as i64
}

/// What a score in fixed point stands for.
pub fn float_score(score: i128) -> f64 {
    score as f64 / SCORE_ONE
}

#[inline]
fn plane(a: &[f64; 3], b: &[f64; 3]) -> f64 {
    let (x, y) = (a[0] - b[0], a[1] - b[1]);
    (x * x + y * y).sqrt()
}

/// The great circle by its chord, which is exact for near places too.
#[inline]
fn globe(a: &[f64; 3], b: &[f64; 3]) -> f64 {
    let (x, y, z) = (a[0] - b[0], a[1] - b[1], a[2] - b[2]);
    2.0 * EARTH_RADIUS_M * libm::asin((0.5 * (x * x + y * y + z * z).sqrt()).min(1.0))
}

/// The fixed point of demands and capacities.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Scale {
    parts: f64,
    units: f64,
}

/// The greatest quantity in units of fixed point.
const QUANTITY_MAX: f64 = (1u64 << 60) as f64;

impl Default for Scale {
    fn default() -> Scale {
        Scale { parts: 1e9, units: 1.0 }
    }
}

impl Scale {
    /// A scale; the error says what it may be.
    pub fn new(scale: f64) -> Result<Scale, String> {
        let whole = |v: f64| (1.0..=1e15).contains(&v) && (v - v.round()).abs() <= v * 1e-9;
        if whole(scale) {
            Ok(Scale { parts: 1.0, units: scale.round() })
        } else if scale > 0.0 && whole(1.0 / scale) {
            Ok(Scale { parts: (1.0 / scale).round(), units: 1.0 })
        } else {
            Err(format!("a scale must be a whole number or one over a whole number, such as 0.000000001, not {scale}"))
        }
    }

    /// A quantity in fixed point, half to even; `None` if it is negative, no number, or beyond 2⁶⁰ units.
    pub fn fixed(self, quantity: f64) -> Option<i64> {
        let fixed = (quantity * self.parts / self.units).round_ties_even();
        (quantity >= 0.0 && fixed <= QUANTITY_MAX).then_some(fixed as i64)
    }

    /// What a quantity in fixed point stands for.
    pub fn float(self, fixed: i128) -> f64 {
        fixed as f64 * self.units / self.parts
    }
}

impl std::fmt::Display for Scale {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.units, self.parts)
    }
}

/// A point of the unit sphere, if the degrees are any.
pub fn on_globe(latitude: f64, longitude: f64) -> Option<[f64; 3]> {
    let good = (-90.0..=90.0).contains(&latitude) && (-180.0..=180.0).contains(&longitude);
    let (lat, lon) = (latitude.to_radians(), longitude.to_radians());
    let cos = libm::cos(lat);
    good.then(|| [cos * libm::cos(lon), cos * libm::sin(lon), libm::sin(lat)])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grid::Place;

    fn form(as_published: bool) -> Form {
        Form {
            weights: Weights::default(),
            as_published,
            metric: Metric::Plane,
            distance_scale: 200.0,
            latency_per_distance: 1.0,
            priority_max: 10.0,
        }
    }

    #[test]
    fn every_component_is_within_one() {
        for as_published in [false, true] {
            let form = form(as_published);
            let resource = Resource {
                capacity: 1.0,
                room: 1,
                cost: 0.0,
                reliability: 1.0,
                availability: 1.0,
                energy: 1.0,
                place: [0.0; 3],
            };
            let (fair, quality) = (form.fair(1e9, 0.0), form.quality(&resource));
            let best = float_score(form.score([1.0, 1.0, fair.min(0.2)], [0.0, quality, 1.0], 0.0).into());
            // As published the QoS component alone reaches 1.5.
            assert!((best - if as_published { 1.15 } else { 1.0 }).abs() < 1e-12, "{best}");
            assert_eq!(form.score([1.0, 0.0, 0.0], [2.0, 0.0, 0.0], 1e9), 0);
            assert_eq!(form.score([0.0, 0.0, 0.0], [2.0, 0.0, 0.0], 1e9), 0, "no demand and no bid");
        }
        assert!(form(false).fair(10.0, 1e12) >= 0.2 * 0.5 - 1e-9);
        assert_eq!(form(false).fair(0.0, 3.0), 0.0);
    }

    #[test]
    fn a_greater_bid_never_scores_less() {
        let form = form(false);
        let mut state = 11u64;
        let mut draw = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 11) as f64 / (1u64 << 53) as f64
        };
        for _ in 0..20_000 {
            let (demand, fair, resource, distance) = (draw(), draw(), [draw(), draw(), draw()], draw() * 300.0);
            let bid = draw();
            let more = if draw() < 0.5 { bid.next_up() } else { bid + draw() };
            assert!(
                form.score([demand, bid, fair], resource, distance)
                    <= form.score([demand, more, fair], resource, distance)
            );
        }
    }

    #[test]
    fn the_globe_is_that_of_the_grid() {
        for (a, b) in [((48.8566, 2.3522), (40.7128, -74.0060)), ((0.0, 179.9), (0.0, -179.9)), ((90.0, 1.0), (-90.0, 0.0))]
        {
            let expected = Place::new(a.0, a.1).unwrap().distance_m(&Place::new(b.0, b.1).unwrap());
            let got = globe(&on_globe(a.0, a.1).unwrap(), &on_globe(b.0, b.1).unwrap());
            assert!((got - expected).abs() < 1e-3, "{got} {expected}");
        }
        assert_eq!(on_globe(f64::NAN, 0.0), None);
    }

    #[test]
    fn quantities_round_to_units() {
        let scale = Scale::default();
        assert_eq!(scale.fixed(1.0 / 3.0), Some(333_333_333));
        assert_eq!(scale.fixed(-0.0), Some(0));
        assert_eq!(scale.fixed(f64::NAN), None);
        assert_eq!(scale.fixed(-1.0), None);
        assert_eq!(scale.fixed(1e300), None);
        assert_eq!(Scale::new(1024.0).unwrap().fixed(2048.0), Some(2));
        assert!(Scale::new(0.3).is_err());
    }

    #[test]
    fn rounding_by_addition_is_half_to_even() {
        for score in [0.0, 0.5, 1.5, 2.5, 3.4999, 1e14 + 0.5, -2.5] {
            assert_eq!(fixed_score(score / SCORE_ONE), (score / SCORE_ONE * SCORE_ONE).round_ties_even() as i64);
        }
    }
}
