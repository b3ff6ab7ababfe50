//! A stadium empties in the afternoon: how much of the crowd's fares is won, and what is lost afterwards, by where values come
//! from: learned online, learned offline, or the ensemble of both.

use operators::dispatch::candidates::Point;

use crate::agent::{Agent, Believed};
use crate::demand::Shock;
use crate::experiment::{Figure, Found, Market, Settings, fleet, give_estimate, give_gain};
use crate::statistics::estimate;
use crate::world::{Discounts, SLOTS};

/// How great the shock is, and who may be sent there.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Shocked {
    /// How many orders more, in the full city.
    pub orders: usize,
    /// In how many seconds.
    pub secs: f64,
    /// The part of the drivers that is repositioned.
    pub fleet: f64,
    /// Whether repositioning looks at the fleet, and at the forecast, which knows of no crowd.
    pub is_fleet_aware: bool,
}

impl Default for Shocked {
    fn default() -> Shocked {
        Shocked { orders: 8_000, secs: 3_600.0, fleet: 0.1, is_fleet_aware: true }
    }
}

/// The slot the crowd comes in.
const BEGINS: usize = 90;

/// The crowd's fares that are won, net of what is lost elsewhere: income of the shocked day less that of the calm one.
pub fn shock(settings: &Settings, found: Found<'_>) {
    const BENCH: &str = "shock";
    let market = Market::new(settings);
    let tuned = settings.tuned;
    let how = Discounts { gamma: tuned.gamma, idle_weight: tuned.idle_weight, is_spread: false };
    let repositioning = Some(settings.waiting.repositioning(settings.shock.is_fleet_aware));
    let online = Agent { repositioning, ..Agent::v1d3(None, tuned) };
    let offline = Agent { believed: Believed::Offline(market.offline(&how)), ..online.clone() };
    let both = Agent { repositioning, ..market.v1d3() };
    let agents = [("ensemble", both), ("online", online), ("offline", offline)];
    let orders = (settings.shock.orders as f64 * settings.scale).round() as usize;
    let at = BEGINS as f64 * 600.0;
    let shock = Shock { at, secs: settings.shock.secs, orders, place: Point { x: 9_500.0, y: 4_800.0 } };
    let ends = BEGINS + (settings.shock.secs / 600.0).ceil() as usize;
    let windows = [
        ("first_20_min", BEGINS, BEGINS + 2),
        ("during", BEGINS, ends),
        ("hour_after", ends, ends + 6),
        ("2nd_3rd_hour_after", ends + 6, ends + 18),
        ("in_all", BEGINS, ends + 18),
    ];
    let mut won = vec![vec![Vec::new(); windows.len()]; agents.len()];
    let mut incomes = won.clone();
    let mut totals = vec![Vec::new(); agents.len()];
    let mut slots = vec![vec![0.0; SLOTS as usize]; agents.len()];
    for seed in settings.days() {
        let (calm, shocked) = (market.draw(seed, None), market.draw(seed, Some(&shock)));
        let fares = shocked.fares() - calm.fares();
        let controlled = fleet(calm.shifts(), (settings.shock.fleet * calm.shifts().len() as f64) as usize);
        for (way, (_, agent)) in agents.iter().enumerate() {
            let before = market.run(&calm, agent, &controlled, false).0;
            let after = market.run(&shocked, agent, &controlled, false).0;
            totals[way].push((after.total(), before.total()));
            for (at, (_, from, until)) in windows.iter().enumerate() {
                let sum = |income: &[f64]| income[*from..(*until).min(SLOTS as usize)].iter().sum::<f64>();
                incomes[way][at].push(sum(&after.income_by_slot));
                won[way][at].push((sum(&after.income_by_slot) - sum(&before.income_by_slot)) / fares);
            }
            for (slot, more) in slots[way].iter_mut().enumerate() {
                *more += (after.income_by_slot[slot] - before.income_by_slot[slot]) / fares / settings.seeds as f64;
            }
        }
    }
    for (way, (name, _)) in agents.iter().enumerate() {
        for (at, (window, ..)) in windows.iter().enumerate() {
            give_estimate(found, BENCH, &format!("won_{window}_{name}"), &won[way][at], "ratio");
            if way > 0 {
                let more: Vec<f64> = won[0][at].iter().zip(&won[way][at]).map(|(a, b)| a - b).collect();
                give_estimate(found, BENCH, &format!("won_{window}_ensemble_less_{name}"), &more, "ratio");
                let metric = format!("income_{window}_gain_ensemble_over_{name}");
                give_gain(found, BENCH, &metric, &incomes[0][at], &incomes[way][at]);
            }
        }
        let calm = estimate(&totals[way].iter().map(|(_, calm)| *calm).collect::<Vec<f64>>()).mean;
        let shocked = estimate(&totals[way].iter().map(|(shocked, _)| *shocked).collect::<Vec<f64>>()).mean;
        eprintln!("{name} calm {calm:.0} shocked {shocked:.0}");
        let line: Vec<String> = slots[way][BEGINS - 1..ends + 18].iter().map(|s| format!("{:.1}", s * 100.0)).collect();
        eprintln!("{name} {}", line.join(" "));
        for (slot, more) in slots[way].iter().enumerate().skip(BEGINS).take(ends + 18 - BEGINS) {
            let metric = format!("won_slot_{slot}_{name}");
            found(Figure { bench: BENCH, metric, value: *more, half_width: None, unit: "ratio" });
        }
    }
}
