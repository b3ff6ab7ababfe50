//! What no dispatcher can exceed, not even one who knew the day beforehand: an upper bound that knows distances.
//!
//! **Relaxation.** What a driver completes in a day is a chain of orders. Of a chain we ask only what must be true of it
//! whoever dispatches: the first order is matched after the shift begins, each next one after the driver came free, all
//! before the shift ends, each while the order is open; a driver drives at most at 3 m/s between a destination and the
//! next pickup (towards it already while idle, as if it knew); at the match no farther from the pickup than 2 km or than
//! where this passenger, whose luck is known, would cancel; and it takes the trip's time. Each order is in one chain at
//! most, and pays its fee. A passenger who cancels costs nobody anything.
//!
//! What is relaxed, beside that: how late a driver is at a pickup is rounded down to two minutes (a chain's state is
//! its last order and that lateness); a driver may wait anywhere and be anywhere in time; policies are told no luck and no
//! future. Every relaxation lets chains in and none out, so every day that can be lived is a choice of chains here.
//!
//! **Bound.** With prices π ≥ 0 of the orders, weak Lagrangian duality: Σ π + Σ over drivers of the best chain at fees less
//! prices, for any π. A driver's best chain is a longest path through its shift, found backwards in time. Prices are found
//! by incremental subgradient steps (Nedić and Bertsekas 2001), a driver after the other: what its chain takes becomes
//! dearer, all becomes a little cheaper. Values are bounds whether or not prices have converged.

use crate::calibration as numbers;
use crate::demand::{City, Order, Shift};
use operators::dispatch::candidates::Point;

/// Lateness is rounded down to multiples of this many seconds.
const LATE_SECS: f32 = 120.0;
/// By how much an order that is taken becomes dearer in the first pass.
const FIRST_STEP: f64 = 3.0;
/// What a second of a driver's time is worth, to begin with.
const FEES_PER_SEC: f64 = 0.0012;
const NONE: u32 = u32::MAX;

/// An order as a chain sees it.
struct Job {
    fee: f64,
    /// The round it is offered in first, in seconds.
    opens: f32,
    /// The last round it can be matched in.
    closes: f32,
    /// How far a driver may be at the match, in metres.
    reach_m: f32,
    trip_secs: f32,
    from: Point,
    to: Point,
}

/// A way from a job's destination to a later one.
struct Way {
    to: u32,
    secs: f32,
}

/// The best continuation from a state.
#[derive(Clone, Copy)]
struct Best {
    worth: f64,
    job: u32,
    late: u32,
}

const STOP: Best = Best { worth: 0.0, job: NONE, late: 0 };

struct Chains {
    jobs: Vec<Job>,
    /// Of each job, jobs whose lateness depends on where and when it ended; those from `all_from` on are always in time.
    ways: Vec<Vec<Way>>,
    all_from: Vec<u32>,
    lates: usize,
    // Of the driver under way: by job and lateness, what the chain from there on is worth; and the best at or after a job.
    worth: Vec<f64>,
    in_time: Vec<Best>,
}

/// A day's bound.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bound {
    /// What no total income exceeds.
    pub above: f64,
    /// What chains earn that drivers take one after the other at the last prices: no more than the relaxation's optimum,
    /// so the bound is at most so far from it. Not what a dispatcher would earn: chains are relaxed.
    pub taken: f64,
}

/// An upper bound of a day's total income. `passes` is how often all drivers are gone through; more is tighter.
///
/// # Panics
/// If orders stay open for two minutes or longer: trips that short could then be chained against the order of time.
pub fn upper_bound(city: &City, orders: &[Order], shifts: &[Shift], patience_secs: u32, passes: usize) -> Bound {
    let mut chains = Chains::new(city, orders, patience_secs);
    let count = chains.jobs.len();
    // Whatever is left over for the time it takes, pickup included.
    let guess = |job: &Job| (job.fee - FEES_PER_SEC * (f64::from(job.trip_secs) + 200.0)).max(0.0);
    let mut prices: Vec<f64> = chains.jobs.iter().map(guess).collect();
    let mut mean = vec![0.0f64; count];
    let mut above = chains.jobs.iter().map(|job| job.fee).sum::<f64>();
    if shifts.is_empty() {
        return Bound { above: 0.0, taken: 0.0 };
    }
    let mut path = Vec::new();
    for pass in 0..passes {
        let step = FIRST_STEP / (1.0 + pass as f64);
        let share = step / shifts.len() as f64;
        mean.fill(0.0);
        for at in 0..shifts.len() {
            chains.best(&shifts[at], &prices, &mut path);
            for price in &mut prices {
                *price = (*price - share).max(0.0);
            }
            for job in &path {
                prices[*job as usize] += step;
            }
            for (mean, price) in mean.iter_mut().zip(&prices) {
                *mean += price / shifts.len() as f64;
            }
        }
        if pass % 4 == 3 || pass + 1 == passes {
            above = above.min(chains.bound(shifts, &mean));
        }
    }
    let mut taken = 0.0;
    for shift in shifts {
        chains.best(shift, &mean, &mut path);
        for job in &path {
            taken += chains.jobs[*job as usize].fee;
            mean[*job as usize] = f64::INFINITY;
        }
    }
    Bound { above, taken }
}

impl Chains {
    fn new(city: &City, orders: &[Order], patience_secs: u32) -> Chains {
        assert!(patience_secs < 118, "an order is open for {patience_secs} s, a trip may be shorter");
        let round = f64::from(numbers::ROUND_SECS);
        let mut jobs: Vec<Job> = orders
            .iter()
            .filter(|order| order.luck >= city.cancels(order, 0.0))
            .map(|order| {
                let opens = (order.at / round).floor() * round;
                Job {
                    fee: order.reward,
                    opens: opens as f32,
                    closes: (opens + f64::from(patience_secs).max(round)) as f32,
                    reach_m: reach_m(city, order) as f32,
                    // A trip's end is cut to whole seconds.
                    trip_secs: (order.trip_secs - 1.0) as f32,
                    from: order.from,
                    to: order.to,
                }
            })
            .collect();
        jobs.sort_by(|a, b| a.opens.total_cmp(&b.opens));
        let open_max = f32::max(patience_secs as f32, 2.0);
        let late_max = open_max + (numbers::RADIUS_M / numbers::SPEED) as f32;
        let lates = (late_max / LATE_SECS) as usize + 1;
        let side = city.hexagons.side_m();
        let across_secs = (side * std::f64::consts::SQRT_2 / numbers::SPEED) as f32;
        let mut ways = Vec::with_capacity(jobs.len());
        let mut all_from = Vec::with_capacity(jobs.len());
        for job in &jobs {
            let free = job.opens + job.trip_secs;
            let first = jobs.partition_point(|next| next.opens < free - open_max);
            let end = jobs.partition_point(|next| next.opens < free + lates as f32 * LATE_SECS + across_secs);
            let mut of_job = Vec::new();
            for (at, next) in jobs.iter().enumerate().take(end).skip(first) {
                let secs = (job.to.distance_m(&next.from) / numbers::SPEED) as f32;
                if next.late(free, secs, f32::INFINITY).is_some() {
                    of_job.push(Way { to: at as u32, secs });
                }
            }
            ways.push(of_job);
            all_from.push(end as u32);
        }
        let count = jobs.len();
        Chains { jobs, ways, all_from, lates, worth: vec![0.0; count * lates], in_time: vec![STOP; count + 1] }
    }

    /// Σ prices + Σ best chains.
    fn bound(&mut self, shifts: &[Shift], prices: &[f64]) -> f64 {
        let mut path = Vec::new();
        prices.iter().sum::<f64>() + shifts.iter().map(|shift| self.best(shift, prices, &mut path)).sum::<f64>()
    }

    /// A driver's best chain at these prices, and what it is worth.
    fn best(&mut self, shift: &Shift, prices: &[f64], path: &mut Vec<u32>) -> f64 {
        // A shift counts from the round it begins in, and to the round it ends in.
        let (begins, ends) = (shift.from as f32 - 2.0, shift.until as f32 + 2.0);
        let low = self.jobs.partition_point(|job| job.closes < begins);
        let high = self.jobs.partition_point(|job| job.opens <= ends);
        self.in_time[high] = STOP;
        for at in (low..high).rev() {
            for late in 0..self.lates {
                let next = self.next(at, late, high, ends);
                self.worth[at * self.lates + late] = self.jobs[at].fee - prices[at] + next.worth;
            }
            let worth = self.worth[at * self.lates];
            let later = self.in_time[at + 1];
            self.in_time[at] = if worth > later.worth { Best { worth, job: at as u32, late: 0 } } else { later };
        }
        // The first order of the shift.
        let mut best = STOP;
        for at in low..high {
            let secs = (shift.start.distance_m(&self.jobs[at].from) / numbers::SPEED) as f32;
            if let Some(late) = self.jobs[at].late(begins, secs, ends) {
                let worth = self.worth[at * self.lates + late];
                if worth > best.worth {
                    best = Best { worth, job: at as u32, late: late as u32 };
                }
            }
        }
        path.clear();
        let worth = best.worth;
        while best.job != NONE {
            path.push(best.job);
            best = self.next(best.job as usize, best.late as usize, high, ends);
        }
        worth
    }

    fn next(&self, at: usize, late: usize, high: usize, ends: f32) -> Best {
        let job = &self.jobs[at];
        let free = job.opens + late as f32 * LATE_SECS + job.trip_secs;
        if free > ends {
            return STOP;
        }
        let mut best = match self.all_from[at] as usize {
            from if from < high => self.in_time[from],
            _ => STOP,
        };
        for way in &self.ways[at] {
            let to = way.to as usize;
            if to >= high {
                break;
            }
            if let Some(late) = self.jobs[to].late(free, way.secs, ends) {
                let worth = self.worth[to * self.lates + late];
                if worth > best.worth {
                    best = Best { worth, job: way.to, late: late as u32 };
                }
            }
        }
        best
    }
}

impl Job {
    /// How late someone is at the pickup at least, in classes, who is free at a time and so many seconds away; `None` if it
    /// cannot be matched any more.
    fn late(&self, free: f32, secs: f32, ends: f32) -> Option<usize> {
        let arrives = free + secs;
        let matched = self.opens.max(free).max(arrives - self.reach_m / numbers::SPEED as f32);
        // Half a second for what is rounded, here and in the world.
        if matched > self.closes.min(ends) + 0.5 {
            return None;
        }
        Some(((arrives - 0.5 - self.opens).max(0.0) / LATE_SECS) as usize)
    }
}

/// How far from the pickup a driver may be such that the passenger stays.
fn reach_m(city: &City, order: &Order) -> f64 {
    let stays = |distance: f64| order.luck >= city.cancels(order, distance);
    if stays(numbers::RADIUS_M) {
        return numbers::RADIUS_M;
    }
    let (mut stays_at, mut cancels_at) = (0.0, numbers::RADIUS_M);
    while cancels_at - stays_at > 0.5 {
        let middle = (stays_at + cancels_at) / 2.0;
        if stays(middle) { stays_at = middle } else { cancels_at = middle }
    }
    cancels_at
}
