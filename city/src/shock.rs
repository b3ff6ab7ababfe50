//! A stadium empties in the afternoon: how much of the crowd's fares is won, and what is lost afterwards, by where values come
//! from: learned online, learned offline, or the ensemble of both.
//!
//! A crowd can only be served by who can come. So there are more drivers than orders, half of them are repositioned, by the
//! values alone (a forecast knows of no crowd), and people wait for five minutes. Ensemble and online differ at change
//! points only: one every two hours was the best on the seeds that are tuned on.

use operators::dispatch::candidates::Point;

use crate::agent::{Agent, Believed, Tuned};
use crate::calibration as numbers;
use crate::demand::Shock;
use crate::experiment::{Figure, Found, Market, Settings, fleet, give_estimate, give_gain};
use crate::statistics::estimate;
use crate::world::{Discounts, SLOT_SECS, SLOTS};

/// How great the shock is, and who may be sent there.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Shocked {
    /// How many orders more, in the full city.
    pub orders: usize,
    /// When it begins, in seconds of the day: a whole slot.
    pub at: u32,
    /// In how many seconds.
    pub secs: u32,
    /// The part of the drivers that is repositioned.
    pub fleet: f64,
    /// Whether repositioning looks at the fleet, and at the forecast, which knows of no crowd.
    pub is_fleet_aware: bool,
    /// How long an order stays open, in seconds.
    pub patience_secs: u32,
    /// Seconds from change point to change point.
    pub ensemble_secs: u32,
}

impl Default for Shocked {
    fn default() -> Shocked {
        Shocked {
            orders: 8_000,
            at: 15 * 3_600,
            secs: 3_600,
            fleet: 0.5,
            is_fleet_aware: false,
            patience_secs: 300,
            ensemble_secs: 7_200,
        }
    }
}

/// What an agent made of the crowd.
pub struct Answer {
    /// The agent's name.
    pub name: &'static str,
    /// By seed and slot: income of the shocked day less that of the calm one, as a part of the crowd's fares.
    pub won: Vec<Vec<f64>>,
    /// By seed and slot: the income of the shocked day.
    pub income: Vec<Vec<f64>>,
}

/// The same days, calm and shocked, for the ensemble, online values alone and offline values alone.
pub fn answers(settings: &Settings) -> Vec<Answer> {
    let Shocked { orders, at, secs, fleet: part, is_fleet_aware, patience_secs, ensemble_secs } = settings.shock;
    let mut settings = Settings { patience_secs, ..settings.clone() };
    if settings.shift_secs == numbers::SHIFT_SECS {
        settings.shift_secs = numbers::EASY_SHIFT_SECS;
    }
    let market = Market::new(&settings);
    let tuned = Tuned { ensemble_secs, ..settings.tuned };
    let how = Discounts { gamma: tuned.gamma, idle_weight: tuned.idle_weight, is_spread: false };
    let repositioning = Some(settings.waiting.repositioning(is_fleet_aware));
    let online = Agent { repositioning, ..Agent::v1d3(None, tuned) };
    let offline = Agent { believed: Believed::Offline(market.offline(&how)), ..online.clone() };
    let ensemble = Agent { repositioning, ..market.v1d3_with(tuned) };
    let agents = [("ensemble", ensemble), ("online", online), ("offline", offline)];
    let orders = (orders as f64 * settings.scale).round() as usize;
    let place = Point { x: 9_500.0, y: 4_800.0 };
    let shock = Shock { at: f64::from(at), secs: f64::from(secs), orders, place };
    let mut answers = agents.each_ref().map(|(name, _)| Answer { name, won: Vec::new(), income: Vec::new() });
    for seed in settings.days() {
        let (calm, shocked) = (market.draw(seed, None), market.draw(seed, Some(&shock)));
        let fares = shocked.fares() - calm.fares();
        let controlled = fleet(calm.shifts(), (part * calm.shifts().len() as f64) as usize);
        for (answer, (_, agent)) in answers.iter_mut().zip(&agents) {
            let before = market.run(&calm, agent, &controlled, false).0.income_by_slot;
            let after = market.run(&shocked, agent, &controlled, false).0.income_by_slot;
            answer.won.push(after.iter().zip(&before).map(|(after, before)| (after - before) / fares).collect());
            answer.income.push(after);
        }
    }
    answers.into()
}

/// The crowd's fares that are won, net of what is lost elsewhere, and by how much the ensemble's income is greater.
pub fn shock(settings: &Settings, found: Found<'_>) {
    const BENCH: &str = "shock";
    let answers = answers(settings);
    let slot = |secs: u32| (secs.div_ceil(SLOT_SECS) as usize).min(SLOTS as usize);
    let (begins, ends) = (slot(settings.shock.at), slot(settings.shock.at + settings.shock.secs));
    let later = |hours: usize| (ends + 6 * hours).min(SLOTS as usize);
    let windows = [
        ("first_20_min", begins..begins + 2),
        ("during", begins..ends),
        ("hour_after", ends..later(1)),
        ("2_hours_after_that", later(1)..later(3)),
        ("in_all", begins..later(3)),
    ];
    let sums = |days: &[Vec<f64>], slots: &std::ops::Range<usize>| -> Vec<f64> {
        days.iter().map(|day| day[slots.clone()].iter().sum()).collect()
    };
    for answer in &answers {
        let name = answer.name;
        for (window, slots) in &windows {
            let won = sums(&answer.won, slots);
            give_estimate(found, BENCH, &format!("won_{window}_{name}"), &won, "ratio");
            if name != "ensemble" {
                let best = sums(&answers[0].won, slots);
                let more: Vec<f64> = best.iter().zip(&won).map(|(a, b)| a - b).collect();
                give_estimate(found, BENCH, &format!("won_{window}_ensemble_less_{name}"), &more, "ratio");
                let (ensemble, other) = (sums(&answers[0].income, slots), sums(&answer.income, slots));
                give_gain(found, BENCH, &format!("gain_{window}_ensemble_over_{name}"), &ensemble, &other);
            }
        }
        for slot in begins..later(3) {
            let value = estimate(&sums(&answer.won, &(slot..slot + 1))).mean;
            let metric = format!("won_slot_{slot}_{name}");
            found(Figure { bench: BENCH, metric, value, half_width: None, unit: "ratio" });
        }
    }
}
