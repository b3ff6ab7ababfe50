//! Where drivers who have been idle for long should wait: sampled by what the places they can reach are worth.
//!
//! V1D3, section 4.4: a driver idle for longer than L goes to place k of its candidates with probability proportional to
//! exp(γ^Δt_k · V(k)), the place where it is among them with Δt = 0. The temperature, which the paper leaves at 1 in units
//! of the reward, is explicit here. READING: candidates are the caller's, a ring of neighbours or more.
//!
//! Sampling spreads a fleet only as far as the temperature makes it blind to the value. **Fleet-aware** (ours): a value
//! learned from few drivers is no longer true when hundreds follow it. Each candidate comes with the supply that will be
//! there (idle drivers there, and those on their way there) and the demand expected there; its value counts as
//! V · demand / (demand + supply), relative to a fleet in balance: the share of a place's orders one more driver can hope
//! for. Whoever is sent raises the supply of its destination before the next is asked.

use super::random::uniform;

/// A place a driver may go to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Choice {
    /// V of the place.
    pub value: f64,
    /// γ^Δt, with Δt the time to get there; 1 where the driver is.
    pub discount: f64,
    /// How many drivers are or will be idle there. Only if fleet-aware.
    pub supply: f64,
    /// How many orders are expected there in the time one driver takes to be asked again. Only if fleet-aware.
    pub demand: f64,
}

/// How places are chosen.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rule {
    /// By how much a score must be greater for a place to be e times as likely; above 0.
    pub temperature: f64,
    /// Whether expected supply lowers the value.
    pub is_fleet_aware: bool,
}

impl Rule {
    /// What a choice counts for: discounted value, thinned by the supply that is already going there.
    pub fn score(&self, choice: &Choice) -> f64 {
        let value = choice.discount * choice.value;
        if !self.is_fleet_aware {
            return value;
        }
        // One more driver is the one who asks.
        let supply = choice.supply.max(0.0) + 1.0;
        let demand = choice.demand.max(0.0);
        value * (demand / (demand + supply))
    }

    /// The probability of each choice, in `out`. Scores that are not finite are never chosen, unless none is.
    pub fn probabilities(&self, choices: &[Choice], out: &mut Vec<f64>) {
        out.clear();
        out.extend(choices.iter().map(|choice| self.score(choice)));
        let greatest = out.iter().copied().filter(|score| score.is_finite()).fold(f64::NEG_INFINITY, f64::max);
        let mut sum = 0.0;
        for score in out.iter_mut() {
            *score = if score.is_finite() { libm::exp((*score - greatest) / self.temperature) } else { 0.0 };
            sum += *score;
        }
        if sum > 0.0 {
            out.iter_mut().for_each(|p| *p /= sum);
        } else {
            // Nothing is known of any: stay, which is the first.
            out.iter_mut().enumerate().for_each(|(at, p)| *p = if at == 0 { 1.0 } else { 0.0 });
        }
    }

    /// Which choice driver takes at a time: a function of the seed, the driver, the time and the choices alone. The first
    /// choice should be to stay. `None` without choices.
    pub fn choose(&self, choices: &[Choice], seed: u64, driver: u64, time: u64) -> Option<usize> {
        let mut probabilities = Vec::with_capacity(choices.len());
        self.probabilities(choices, &mut probabilities);
        let mut left = uniform(seed, driver, time);
        for (at, p) in probabilities.iter().enumerate() {
            left -= p;
            if left < 0.0 {
                return Some(at);
            }
        }
        // Rounding: the sum of all was a little less than 1.
        probabilities.iter().rposition(|p| *p > 0.0)
    }
}
