//! A day's orders and shifts, drawn from a seed before anything is dispatched, so that all policies meet the same day.

use operators::dispatch::candidates::Point;
use operators::dispatch::policy::curve;
use operators::dispatch::random;

use crate::calibration as numbers;
use crate::hexagon::Hexagons;
use crate::random::Draws;

/// Seconds a day.
pub const DAY_SECS: u32 = 86_400;
/// What draws are for.
const ORDERS: u64 = 1;
const SHIFTS: u64 = 2;
const SHOCK: u64 = 3;
const MOMENTS: u64 = 4;
/// The seed of what is a property of the city, not of a day.
const CITY: u64 = 0x5ced;
/// How many orders the moments are taken of.
const SAMPLES: usize = 100_000;

/// An order of the day.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Order {
    /// When it is placed, in seconds of the day.
    pub at: f64,
    /// Where it starts.
    pub from: Point,
    /// Where it ends.
    pub to: Point,
    /// The fee.
    pub reward: f64,
    /// How long the trip takes, in seconds.
    pub trip_secs: f64,
    /// Its own factor of the curve of cancellations.
    pub temper: f64,
    /// It is cancelled if this is below the probability at its pickup distance.
    pub luck: f64,
}

/// A driver's day.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Shift {
    /// When it begins, in seconds of the day.
    pub from: u32,
    /// When it ends: no order is taken after that.
    pub until: u32,
    /// Where it begins.
    pub start: Point,
}

/// A crowd that wants to leave one place.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Shock {
    /// When it begins, in seconds of the day.
    pub at: f64,
    /// How long it lasts, in seconds.
    pub secs: f64,
    /// How many orders more.
    pub orders: usize,
    /// Where, in metres of the full plane.
    pub place: Point,
}

/// The city: what is the same every day.
#[derive(Clone, Debug)]
pub struct City {
    /// Its part of the full city's orders, drivers and area.
    pub scale: f64,
    /// Its hexagons.
    pub hexagons: Hexagons,
    /// How many orders a day.
    pub orders: usize,
    /// How many drivers a day.
    pub drivers: usize,
    /// The mean length of a shift, in seconds.
    pub shift_secs: f64,
    /// Expected orders by hour and hexagon.
    pub demand: Vec<Vec<f64>>,
    /// By hour and hexagon where an idle driver left to itself turns, with the cumulative probability.
    pub turns: Vec<Vec<Vec<(u32, f64)>>>,
    /// The curve of cancellations before the greatest probability cuts it.
    cancels: Vec<f64>,
    length: f64,
    reward: Linear,
    trip: Linear,
}

/// What brings raw figures to the published mean and deviation.
#[derive(Clone, Copy, Debug)]
struct Linear {
    base: f64,
    slope: f64,
    least: f64,
}

impl Linear {
    fn fit(raw: &[f64], (mean, deviation): (f64, f64), least: f64) -> Linear {
        let mut fit = Linear { base: 0.0, slope: 1.0, least };
        // The floor moves both moments a little: a few rounds bring them back.
        for _ in 0..20 {
            let (m, d) = moments(raw.iter().map(|raw| fit.of(*raw)));
            fit.slope *= deviation / d;
            let (m2, _) = moments(raw.iter().map(|raw| fit.of(*raw)));
            fit.base += mean - if m2.is_finite() { m2 } else { m };
        }
        fit
    }

    fn of(&self, raw: f64) -> f64 {
        (self.base + self.slope * raw).max(self.least)
    }
}

/// The factor of an order's temper with which the mean of the cut probabilities is this.
fn uncut(mean: f64) -> f64 {
    let normal = |x: f64| 0.5 * libm::erfc(-x / std::f64::consts::SQRT_2);
    let (skew, most) = (numbers::CANCEL_SKEW, numbers::CANCEL_MAX);
    let cut_mean = |factor: f64| {
        let cut = (libm::log(most / factor) + skew * skew / 2.0) / skew;
        factor * normal(cut - skew) + most * (1.0 - normal(cut))
    };
    let (mut low, mut high) = (mean, 10.0 * mean);
    for _ in 0..60 {
        let middle = (low + high) / 2.0;
        if cut_mean(middle) < mean { low = middle } else { high = middle }
    }
    low
}

fn moments(values: impl Iterator<Item = f64>) -> (f64, f64) {
    let (mut n, mut sum, mut squares) = (0.0, 0.0, 0.0);
    for v in values {
        n += 1.0;
        sum += v;
        squares += v * v;
    }
    let mean = sum / n;
    (mean, (squares / n - mean * mean).max(0.0).sqrt())
}

/// An order before its figures are brought to the published moments.
struct Raw {
    from: Point,
    to: Point,
    fee: f64,
    secs: f64,
}

impl City {
    /// A city of a part of the full one: so much of its orders, of its drivers and of its area, as dense as it.
    pub fn new(scale: f64) -> City {
        let length = scale.sqrt();
        let hexagons = Hexagons::new(numbers::SIDE_M * length);
        let count = |full: usize| (full as f64 * scale).round() as usize;
        let plain = Linear { base: 0.0, slope: 1.0, least: 0.0 };
        let mut city = City {
            scale,
            orders: count(numbers::ORDERS),
            drivers: count(numbers::DRIVERS),
            shift_secs: numbers::SHIFT_SECS,
            demand: vec![vec![0.0; hexagons.len()]; 24],
            turns: Vec::new(),
            hexagons,
            cancels: numbers::CANCELS.iter().map(|mean| uncut(*mean)).collect(),
            length,
            reward: plain,
            trip: plain,
        };
        let mut draws = Draws::new(CITY, MOMENTS);
        let total: f64 = numbers::ORDERS_BY_HOUR.iter().sum();
        let mut raws = Vec::with_capacity(SAMPLES);
        for _ in 0..SAMPLES {
            let hour = draws.weighted(numbers::ORDERS_BY_HOUR.iter().copied());
            raws.push(city.raw(&mut draws, hour, None));
        }
        let fees: Vec<f64> = raws.iter().map(|raw| raw.fee).collect();
        let secs: Vec<f64> = raws.iter().map(|raw| raw.secs).collect();
        city.reward = Linear::fit(&fees, numbers::REWARD, 1.0);
        city.trip = Linear::fit(&secs, numbers::TRIP_SECS, 120.0);
        // Demand by place: as many samples for each hour, since the nights have few.
        for (hour, of_hour) in numbers::ORDERS_BY_HOUR.iter().enumerate() {
            let samples = SAMPLES / 8;
            let expected = city.orders as f64 * of_hour / total;
            for _ in 0..samples {
                let from = city.place(&mut draws, &numbers::ERRANDS[hour].0);
                city.demand[hour][city.hexagons.at(&from) as usize] += expected / samples as f64;
            }
        }
        city.turns = (0..24).map(|hour| city.turns_of(hour)).collect();
        city
    }

    /// A day's orders, by time.
    pub fn orders(&self, seed: u64, shock: Option<&Shock>) -> Vec<Order> {
        let mut draws = Draws::new(seed, ORDERS);
        let mut orders: Vec<Order> = (0..self.orders)
            .map(|_| {
                let hour = draws.weighted(numbers::ORDERS_BY_HOUR.iter().copied());
                let at = (hour as f64 + draws.uniform()) * 3_600.0;
                let raw = self.raw(&mut draws, hour, None);
                self.order(&mut draws, at, raw)
            })
            .collect();
        if let Some(shock) = shock {
            let mut draws = Draws::new(seed, SHOCK);
            orders.extend((0..shock.orders).map(|_| {
                let at = shock.at + shock.secs * draws.uniform();
                let around = |v: f64, draws: &mut Draws| v * self.length + 250.0 * draws.normal();
                let place = Point { x: around(shock.place.x, &mut draws), y: around(shock.place.y, &mut draws) };
                let raw = self.raw(&mut draws, (at / 3_600.0) as usize % 24, Some(self.inside(place)));
                self.order(&mut draws, at, raw)
            }));
        }
        orders.sort_by(|a, b| a.at.total_cmp(&b.at));
        orders
    }

    /// A day's shifts, by driver.
    pub fn shifts(&self, seed: u64) -> Vec<Shift> {
        let mut draws = Draws::new(seed, SHIFTS);
        let mut shifts = Vec::with_capacity(self.drivers);
        for _ in 0..self.drivers {
            // Supply follows demand. A shift that began the evening before is worked from midnight.
            let hour = draws.weighted(numbers::ORDERS_BY_HOUR.iter().copied());
            let (least, most) = numbers::SHIFT_BOUNDS_SECS;
            let length = loop {
                let length = draws.exponential(self.shift_secs);
                if (least..=most).contains(&length) {
                    break length;
                }
            };
            let middle = (hour as f64 + draws.uniform()) * 3_600.0;
            let (from, until) = (middle - length / 2.0, middle + length / 2.0);
            let start = self.place(&mut draws, &[0.6, 0.2, 0.2]);
            let from = from.max(0.0) as u32;
            shifts.push(Shift { from, until: (until as u32).clamp(from + 1, DAY_SECS), start });
        }
        shifts
    }

    /// The probability that an order is cancelled at a pickup distance.
    pub fn cancels(&self, order: &Order, distance_m: f64) -> f64 {
        let usual = curve(numbers::CANCEL_STEP_M, &self.cancels, distance_m);
        (usual * order.temper).min(numbers::CANCEL_MAX)
    }

    /// Where an idle driver left to itself goes: a neighbour, or it stays.
    pub fn turn(&self, hour: usize, hexagon: u32, luck: f64) -> Option<u32> {
        let turns = &self.turns[hour % 24][hexagon as usize];
        turns.iter().find(|(_, up_to)| luck < *up_to).map(|(to, _)| *to)
    }

    /// A point in a hexagon, drawn for someone at a time.
    pub fn point_in(&self, hexagon: u32, seed: u64, who: u64, time: u64) -> Point {
        let centre = self.hexagons.centre(hexagon);
        let off = |axis: u64| (random::uniform(seed ^ axis, who, time) - 0.5) * crate::hexagon::SIDE_M;
        self.inside(Point { x: centre.x + off(1), y: centre.y + off(2) })
    }

    fn order(&self, draws: &mut Draws, at: f64, raw: Raw) -> Order {
        let skew = numbers::CANCEL_SKEW;
        // Log-normal with a mean of one.
        let temper = libm::exp(skew * draws.normal() - skew * skew / 2.0);
        let (reward, trip_secs) = (self.reward.of(raw.fee), self.trip.of(raw.secs));
        Order { at, from: raw.from, to: raw.to, reward, trip_secs, temper, luck: draws.uniform() }
    }

    fn raw(&self, draws: &mut Draws, hour: usize, from: Option<Point>) -> Raw {
        let (origins, destinations) = &numbers::ERRANDS[hour];
        let from = from.unwrap_or_else(|| self.place(draws, origins));
        let mut to = self.place(draws, destinations);
        // Near places attract more, and nobody rides for less than half a kilometre.
        for _ in 0..8 {
            let distance = from.distance_m(&to);
            let gravity = libm::exp(-distance / (numbers::GRAVITY_M * self.length));
            if distance > 500.0 * self.length && draws.uniform() < gravity {
                break;
            }
            to = self.place(draws, destinations);
        }
        let km = from.distance_m(&to) / 1_000.0 / self.length;
        let (base, per_km, rest) = numbers::FEE;
        // A long tail: some trips are dearer and slower than their distance says.
        let fee = (base + per_km * km) * libm::exp(0.25 * draws.normal()) + rest * draws.exponential(0.5);
        let secs = (300.0 + km * 3_600.0 / (1.35 * numbers::SPEED_BY_HOUR[hour])) * libm::exp(0.35 * draws.normal());
        Raw { from, to, fee, secs }
    }

    fn place(&self, draws: &mut Draws, errands: &[f64; 3]) -> Point {
        let errand = draws.weighted(errands.iter().copied());
        let weight = |q: &numbers::Quarter| [q.homes, q.work, q.leisure][errand];
        let quarter = &numbers::QUARTERS[draws.weighted(numbers::QUARTERS.iter().map(weight))];
        let mut around = |v: f64| (v + quarter.spread * draws.normal()) * self.length;
        let point = Point { x: around(quarter.x), y: around(quarter.y) };
        self.inside(point)
    }

    fn inside(&self, point: Point) -> Point {
        let side = self.hexagons.side_m();
        Point { x: point.x.clamp(0.0, side), y: point.y.clamp(0.0, side) }
    }

    /// Ours, for the published table of idle transitions: half of the drivers stay, the others turn to where they see
    /// more orders, by the square root of demand.
    fn turns_of(&self, hour: usize) -> Vec<Vec<(u32, f64)>> {
        let drawn = |hexagon: u32| (self.demand[hour][hexagon as usize] + 0.05).sqrt();
        (0..self.hexagons.len() as u32)
            .map(|hexagon| {
                let neighbours = self.hexagons.neighbours(hexagon);
                let all: f64 = neighbours.iter().map(|n| drawn(*n)).sum::<f64>() + drawn(hexagon);
                let mut up_to = 0.0;
                neighbours
                    .into_iter()
                    .map(|n| {
                        up_to += 0.5 * drawn(n) / all;
                        (n, up_to)
                    })
                    .collect()
            })
            .collect()
    }
}
