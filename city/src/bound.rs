//! What no dispatcher can exceed, not even one who knew the day beforehand.
//!
//! **Relaxation.** With hindsight, and with drivers who are wherever they are wanted at once, a day is this: choose orders
//! and drivers such that nobody serves two at a time. An order needs a driver from when it is taken, at most its patience
//! after it was placed, for at least the trip's time; a pickup takes no time. Orders that would be cancelled even by a
//! passenger whose driver is at the door earn nothing. Whatever a dispatcher does is feasible here and earns as much.
//!
//! Nobody serves two at a time: at each of the instants we look at, no more orders are served by drivers on shift than
//! there are drivers on shift; and of the drivers whose shift ends within a span, each serves at most one order beyond it.
//!
//! **Bound.** For any prices λ ≥ 0 of the instants and ν ≥ 0 of the spans, weak Lagrangian duality gives
//! Σ λ·drivers + Σ ν·ends + Σ over orders of max(0, fee − the least an order must pay). Subgradient steps make it small;
//! each step's value is a bound, whether or not they have converged.
//!
//! It is valid and loose: without pickups there are nearly enough drivers for everybody, and it lies within 1 % of serving
//! all who would not cancel. It is quick: a full day takes seconds. [`crate::chains`] knows distances, and takes longer.

use crate::demand::{City, DAY_SECS, Order, Shift};

/// Seconds between the instants.
const INSTANT_SECS: f64 = 120.0;
const INSTANTS: usize = (DAY_SECS as f64 / INSTANT_SECS) as usize;
/// Seconds of a span of shift ends.
const SPAN_SECS: f64 = 600.0;
const SPANS: usize = (DAY_SECS as f64 / SPAN_SECS) as usize + 1;
const STEPS: usize = 400;

/// An order as the relaxation sees it.
struct Job {
    fee: f64,
    at: f64,
    /// The instants it must be served at: first, and one past the last.
    first: usize,
    end: usize,
}

/// An upper bound of the total income of a day, and that of serving everybody who would not cancel at the door.
pub fn upper_bound(city: &City, orders: &[Order], shifts: &[Shift], patience_secs: u32) -> (f64, f64) {
    let instant = |secs: f64| ((secs / INSTANT_SECS).ceil() as usize).min(INSTANTS);
    let jobs: Vec<Job> = orders
        .iter()
        .filter(|order| order.luck >= city.cancels(order, 0.0))
        .map(|order| {
            let first = instant(order.at + f64::from(patience_secs) + 2.0);
            let end = instant(order.at + order.trip_secs - 2.0).max(first);
            Job { fee: order.reward, at: order.at, first, end }
        })
        .collect();
    let served: f64 = jobs.iter().map(|job| job.fee).sum();

    let mut on_shift = vec![0.0; INSTANTS + 1];
    let mut ends = vec![0.0; SPANS];
    for shift in shifts {
        // A shift counts from the round it begins in, and to the round it ends in.
        let from = instant(f64::from(shift.from) - 2.0);
        let until = instant(f64::from(shift.until) + 2.0);
        on_shift[from..until].iter_mut().for_each(|drivers| *drivers += 1.0);
        ends[(f64::from(shift.until) / SPAN_SECS) as usize] += 1.0;
    }

    let mut prices = vec![0.0f64; INSTANTS];
    let mut end_prices = vec![0.0f64; SPANS];
    let mut best = served;
    let mut sums = vec![0.0; INSTANTS + 1];
    let mut usage = vec![0.0; INSTANTS + 1];
    let mut end_usage = vec![0.0; SPANS];
    for step in 0..STEPS {
        for at in 0..INSTANTS {
            sums[at + 1] = sums[at] + prices[at];
        }
        usage.fill(0.0);
        end_usage.fill(0.0);
        let mut bound = 0.0;
        for job in &jobs {
            // Served by someone whose shift goes on; or the last of someone whose shift ends in a span.
            let mut least = (sums[job.end] - sums[job.first], job.end, None);
            for (span, end_price) in end_prices.iter().enumerate().skip((job.at / SPAN_SECS) as usize) {
                let until = instant(span as f64 * SPAN_SECS).clamp(job.first, job.end);
                if until == job.end && job.first < job.end {
                    break;
                }
                let price = end_price + sums[until] - sums[job.first];
                if price < least.0 {
                    least = (price, until, Some(span));
                }
                if job.first == job.end {
                    break;
                }
            }
            let (price, until, span) = least;
            if job.fee > price {
                bound += job.fee - price;
                usage[job.first] += 1.0;
                usage[until] -= 1.0;
                if let Some(span) = span {
                    end_usage[span] += 1.0;
                }
            }
        }
        let rate = 0.3 / (1.0 + step as f64 / 20.0);
        // Too many or too few, by at most all of them: a price that overshoots takes long to come back.
        let missing = |wanted: f64, there: f64| ((wanted - there) / there.max(1.0)).clamp(-1.0, 1.0);
        let mut serving = 0.0;
        for ((price, wanted), drivers) in prices.iter_mut().zip(&usage).zip(&on_shift) {
            bound += *price * drivers;
            serving += wanted;
            *price = (*price + rate * missing(serving, *drivers)).max(0.0);
        }
        for ((price, wanted), drivers) in end_prices.iter_mut().zip(&end_usage).zip(&ends) {
            bound += *price * drivers;
            *price = (*price + 2.0 * rate * missing(*wanted, *drivers)).max(0.0);
        }
        best = best.min(bound);
    }
    (best, served)
}
