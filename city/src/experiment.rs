//! The experiments: the same days for every agent, and figures with intervals.

use std::collections::BTreeMap;
use std::sync::Arc;

use operators::dispatch::candidates::Point;
use operators::dispatch::offline::{Offline, Recorded};
use operators::dispatch::policy::Policy;
use operators::dispatch::tiles::{Cells, Coding};

use crate::agent::{Agent, Believed, TILE_M, Tuned};
use crate::bound::upper_bound;
use crate::calibration as numbers;
use crate::day::Day;
use crate::demand::{City, Order, Shift, Shock};
use crate::statistics::{Estimate, estimate, paired_gain};
use crate::toy;
use crate::world::{self, Discounts, Lived, SLOTS, Scenario};

/// The seeds of days that history is recorded of, and of those that are tuned on. Tests have 0, 1, ….
const HISTORY: u64 = 1_000;
const TUNING: u64 = 500;

/// What an experiment can be told.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// The part of the full city.
    pub scale: f64,
    /// How many test days.
    pub seeds: u64,
    /// How long an order stays open, in seconds.
    pub patience_secs: u32,
    /// The mean length of a shift, in seconds.
    pub shift_secs: f64,
    /// How many days of history the offline functions are learned of.
    pub history_days: u64,
    /// V1D3's parameters.
    pub tuned: Tuned,
    /// Those of values that say where to wait.
    pub waiting: Tuned,
}

impl Settings {
    /// Settings by name; the error says which is unknown.
    pub fn new(given: &BTreeMap<String, f64>) -> Result<Settings, String> {
        let tuned = Tuned::default();
        let mut settings = Settings {
            scale: 1.0,
            seeds: 10,
            patience_secs: 60,
            shift_secs: numbers::SHIFT_SECS,
            history_days: 3,
            tuned,
            waiting: Tuned::waiting(),
        };
        for (name, value) in given {
            if !(value.is_finite() && *value >= 0.0) || (name == "scale" && !(0.001..=4.0).contains(value)) {
                return Err(format!("{name} is {value}: out of range"));
            }
            match name.as_str() {
                "scale" => settings.scale = *value,
                "seeds" => settings.seeds = *value as u64,
                "patience_secs" => settings.patience_secs = *value as u32,
                "shift_secs" => settings.shift_secs = *value,
                "history_days" => settings.history_days = *value as u64,
                "alpha" => settings.tuned.alpha = *value,
                "gamma" => settings.tuned.gamma = *value,
                "omega" => settings.tuned.omega = *value,
                "ensemble_secs" => settings.tuned.ensemble_secs = *value as u32,
                "waiting_alpha" => settings.waiting.alpha = *value,
                "waiting_gamma" => settings.waiting.gamma = *value,
                "waiting_idle_weight" => settings.waiting.idle_weight = *value,
                "temperature" => settings.waiting.temperature = *value,
                "horizon_secs" => settings.waiting.horizon_secs = *value,
                "rings" => settings.waiting.rings = *value as u32,
                "idle_weight" => settings.tuned.idle_weight = *value,
                other => return Err(format!("no setting `{other}`")),
            }
        }
        Ok(settings)
    }
}

/// A city with its history.
pub struct Market {
    settings: Settings,
    city: City,
    cells: Cells,
    forecast: Vec<Vec<f64>>,
    history: Vec<Lived>,
}

/// A day that was drawn.
pub struct Drawn {
    seed: u64,
    orders: Vec<Order>,
    shifts: Vec<Shift>,
}

impl Market {
    /// Builds the city and lives through its history, dispatched by Polar Bear.
    pub fn new(settings: &Settings) -> Market {
        Market::dispatched_by(settings, &Agent::polar_bear())
    }

    /// Builds the city and lives through its history, dispatched by an agent.
    pub fn dispatched_by(settings: &Settings, agent: &Agent) -> Market {
        let mut city = City::new(settings.scale);
        city.shift_secs = settings.shift_secs;
        let cells = world::atlas(&city, Coding::Tiles { size: TILE_M });
        let forecast = vec![vec![0.0; city.hexagons.len()]; 24];
        let mut market = Market { settings: settings.clone(), city, cells, forecast, history: Vec::new() };
        for seed in HISTORY..HISTORY + settings.history_days {
            let day = market.draw(seed, None);
            market.history.extend(market.run(&day, agent, &[], true).1);
            for order in &day.orders {
                let hexagon = market.city.hexagons.at(&order.from) as usize;
                market.forecast[(order.at / 3_600.0) as usize][hexagon] += 1.0 / settings.history_days as f64;
            }
        }
        market
    }

    /// Draws a day.
    pub fn draw(&self, seed: u64, shock: Option<&Shock>) -> Drawn {
        Drawn { seed, orders: self.city.orders(seed, shock), shifts: self.city.shifts(seed) }
    }

    /// Runs a day.
    pub fn run(&self, day: &Drawn, agent: &Agent, controlled: &[u32], record: bool) -> (Day, Vec<Lived>) {
        let scenario = Scenario {
            city: &self.city,
            cells: &self.cells,
            orders: &day.orders,
            shifts: &day.shifts,
            controlled,
            patience_secs: self.settings.patience_secs,
            forecast: &self.forecast,
            seed: day.seed,
        };
        world::run(&scenario, agent, record)
    }

    /// The offline value function of the history, discounted so.
    pub fn offline(&self, how: &Discounts) -> Arc<Offline> {
        let recorded: Vec<Recorded> = self.history.iter().map(|lived| lived.recorded(how)).collect();
        Arc::new(Offline::learn(self.cells.coding(), self.cells.len(), SLOTS, &recorded))
    }

    /// V1D3 as it is set.
    pub fn v1d3(&self) -> Agent {
        self.v1d3_with(self.settings.tuned)
    }

    fn v1d3_with(&self, tuned: Tuned) -> Agent {
        let how = Discounts { gamma: tuned.gamma, idle_weight: tuned.idle_weight, is_spread: false };
        Agent::v1d3(Some(self.offline(&how)), tuned)
    }

    fn xu(&self) -> Agent {
        Agent::xu(self.offline(&Discounts { gamma: 0.9, idle_weight: 1.0, is_spread: true }))
    }
}

/// A figure as the benches print it.
pub fn line(bench: &str, metric: &str, value: f64, half_width: Option<f64>, unit: &str) -> String {
    let interval = half_width.map_or(String::new(), |half| format!(",\"half_width_95\":{half:.6}"));
    format!("{{\"bench\":\"{bench}\",\"metric\":\"{metric}\",\"value\":{value:.6}{interval},\"unit\":\"{unit}\"}}")
}

fn print_estimate(print: &mut dyn FnMut(String), bench: &str, metric: &str, values: &[f64], unit: &str) {
    let Estimate { mean, half_width } = estimate(values);
    print(line(bench, metric, mean, Some(half_width), unit));
}

fn print_gain(print: &mut dyn FnMut(String), bench: &str, metric: &str, a: &[f64], b: &[f64]) {
    let Estimate { mean, half_width } = paired_gain(a, b);
    print(line(bench, metric, mean, Some(half_width), "ratio"));
}

/// J of every policy, the gains from each to the next, side effects, and the bound.
pub fn dispatch_day(settings: &Settings, print: &mut dyn FnMut(String)) {
    const BENCH: &str = "dispatch_day";
    let market = Market::new(settings);
    let online = Agent { name: "v1d3_online_only", ..Agent::v1d3(None, settings.tuned) };
    let agents = [Agent::nearest(), Agent::myopic(), market.xu(), Agent::polar_bear(), online, market.v1d3()];
    let mut days: Vec<Vec<Day>> = vec![Vec::new(); agents.len()];
    let mut bounds = Vec::new();
    let mut everybody = Vec::new();
    for seed in 0..settings.seeds {
        let drawn = market.draw(seed, None);
        for (days, agent) in days.iter_mut().zip(&agents) {
            days.push(market.run(&drawn, agent, &[], false).0);
        }
        let (bound, served) = upper_bound(&market.city, &drawn.orders, &drawn.shifts, settings.patience_secs);
        bounds.push(bound);
        everybody.push(served);
    }
    let total = |at: usize| days[at].iter().map(Day::total).collect::<Vec<f64>>();
    for (days, agent) in days.iter().zip(&agents) {
        let mut figure = |metric: &str, of: fn(&Day) -> f64, unit: &str| {
            let values: Vec<f64> = days.iter().map(of).collect();
            print_estimate(print, BENCH, &format!("{metric}_{}", agent.name), &values, unit);
        };
        figure("J", Day::total, "fees");
        figure("answer_rate", Day::answer_rate, "ratio");
        figure("completed", |day| day.completed() as f64, "orders");
        figure("cancelled", |day| day.cancelled as f64, "orders");
        figure("pickup", Day::pickup_mean_m, "m");
        figure("waiting", Day::waiting_mean_secs, "s");
        figure("gini", Day::gini, "ratio");
        figure("utilisation", Day::utilisation, "ratio");
        figure("orders_per_hour_online", Day::completed_per_hour, "1/h");
    }
    for (better, worse) in [(1, 0), (3, 1), (5, 3), (5, 2), (4, 3), (5, 4), (5, 1)] {
        let metric = format!("gain_{}_over_{}", agents[better].name, agents[worse].name);
        print_gain(print, BENCH, &metric, &total(better), &total(worse));
    }
    print_estimate(print, BENCH, "J_upper_bound", &bounds, "fees");
    print_estimate(print, BENCH, "J_if_everybody_were_served", &everybody, "fees");
    print_gain(print, BENCH, "gain_upper_bound_over_v1d3", &bounds, &total(5));
}

/// G of fleets of several sizes that stay, that are repositioned, and that are repositioned knowing of each other.
///
/// As on the competition's other track, orders are dispatched by the environment (the nearest driver), and values only say
/// where to wait. Without `shift_secs` there are more drivers than orders, as there must be for waiting to matter. The
/// smaller fleets are parts of the largest, so that G of the same drivers can be compared, in company and alone.
pub fn reposition(settings: &Settings, print: &mut dyn FnMut(String)) {
    const BENCH: &str = "dispatch_day";
    let mut settings = settings.clone();
    if settings.shift_secs == numbers::SHIFT_SECS {
        settings.shift_secs = numbers::EASY_SHIFT_SECS;
    }
    let market = Market::dispatched_by(&settings, &Agent::nearest());
    let stay = Agent { policy: Policy::nearest(), ..market.v1d3_with(settings.waiting) };
    let plain = Agent { repositioning: Some(settings.waiting.repositioning(false)), ..stay.clone() };
    let aware = Agent { repositioning: Some(settings.waiting.repositioning(true)), ..stay.clone() };
    let agents = [("stay", stay), ("v1d3_plain", plain), ("v1d3", aware)];
    let sizes = [100usize, 500, 2_000];
    let mut rates = vec![vec![Vec::new(); sizes.len()]; agents.len()];
    let mut of_first = rates.clone();
    let mut used = Vec::new();
    for seed in 0..settings.seeds {
        let drawn = market.draw(seed, None);
        let all = fleet(&drawn.shifts, scaled(sizes[2], settings.scale));
        for (at, size) in sizes.iter().enumerate() {
            let every = sizes[2] / size;
            let controlled: Vec<u32> = all.iter().copied().step_by(every).collect();
            let first: Vec<u32> = all.iter().copied().step_by(sizes[2] / sizes[0]).collect();
            for (way, (_, agent)) in agents.iter().enumerate() {
                let day = market.run(&drawn, agent, &controlled, false).0;
                rates[way][at].push(day.income_per_hour(&controlled));
                of_first[way][at].push(day.income_per_hour(&first));
                if way == 0 && at == 0 {
                    used.push(day.utilisation());
                }
            }
        }
    }
    print_estimate(print, BENCH, "reposition_utilisation", &used, "ratio");
    for (way, (name, _)) in agents.iter().enumerate() {
        for (at, size) in sizes.iter().enumerate() {
            print_estimate(print, BENCH, &format!("G_{name}_{size}"), &rates[way][at], "fees/h");
            if way > 0 {
                let metric = format!("gain_G_{name}_over_stay_{size}");
                print_gain(print, BENCH, &metric, &rates[way][at], &rates[0][at]);
            }
        }
        let metric = format!("G_{name}_of_the_same_100_among_2000_over_alone");
        print_gain(print, BENCH, &metric, &of_first[way][2], &of_first[way][0]);
    }
}

fn scaled(count: usize, scale: f64) -> usize {
    (count as f64 * scale).round().max(1.0) as usize
}

/// So many drivers with shifts of at least two hours, evenly taken from all of them.
fn fleet(shifts: &[Shift], count: usize) -> Vec<u32> {
    let long: Vec<u32> = (0..shifts.len() as u32)
        .filter(|driver| shifts[*driver as usize].until - shifts[*driver as usize].from >= 7_200)
        .collect();
    let count = count.min(long.len());
    (0..count).map(|at| long[at * long.len() / count]).collect()
}

/// A stadium empties in the afternoon: how much of the crowd's fares do online, offline and both of them earn, and what is
/// lost afterwards? A tenth of the drivers is repositioned, by the values of whoever dispatches.
pub fn shock(settings: &Settings, print: &mut dyn FnMut(String)) {
    const BENCH: &str = "dispatch_day";
    let market = Market::new(settings);
    let tuned = settings.tuned;
    let how = Discounts { gamma: tuned.gamma, idle_weight: tuned.idle_weight, is_spread: false };
    let repositioning = Some(settings.waiting.repositioning(true));
    let online = Agent { repositioning, ..Agent::v1d3(None, tuned) };
    let offline = Agent { believed: Believed::Offline(market.offline(&how)), ..online.clone() };
    let both = Agent { repositioning, ..market.v1d3() };
    let agents = [("ensemble", both), ("online", online), ("offline", offline)];
    let orders = scaled(8_000, settings.scale);
    let shock = Shock { at: 15.0 * 3_600.0, secs: 3_600.0, orders, place: Point { x: 9_500.0, y: 4_800.0 } };
    // Income with the crowd less income without it, by slot: the first hour, the two hours after, and both.
    let windows = [("during", 90, 96), ("after", 96, 108), ("in_all", 90, 108)];
    let mut more = vec![vec![Vec::new(); windows.len()]; agents.len()];
    let mut slots = vec![vec![0.0; SLOTS as usize]; agents.len()];
    for seed in 0..settings.seeds {
        let (calm, shocked) = (market.draw(seed, None), market.draw(seed, Some(&shock)));
        let controlled = fleet(&calm.shifts, scaled(2_000, settings.scale));
        for (way, (_, agent)) in agents.iter().enumerate() {
            let before = market.run(&calm, agent, &controlled, false).0.income_by_slot;
            let after = market.run(&shocked, agent, &controlled, false).0.income_by_slot;
            for (at, (_, from, until)) in windows.iter().enumerate() {
                let sum = |income: &[f64]| income[*from..*until].iter().sum::<f64>();
                more[way][at].push(sum(&after) - sum(&before));
            }
            for (slot, more) in slots[way].iter_mut().enumerate() {
                *more += (after[slot] - before[slot]) / settings.seeds as f64;
            }
        }
    }
    for (way, (name, _)) in agents.iter().enumerate() {
        for (at, (window, ..)) in windows.iter().enumerate() {
            print_estimate(print, BENCH, &format!("shock_more_{window}_{name}"), &more[way][at], "fees");
            if way > 0 {
                let gain: Vec<f64> = more[0][at].iter().zip(&more[way][at]).map(|(a, b)| a - b).collect();
                print_estimate(print, BENCH, &format!("shock_ensemble_less_{name}_{window}"), &gain, "fees");
            }
        }
        for (slot, more) in slots[way].iter().enumerate().take(112).skip(88) {
            print(line(BENCH, &format!("shock_more_slot_{slot}_{name}"), *more, None, "fees"));
        }
    }
}

/// The toy market, with the interval of one draw of waiting times and that of many.
pub fn toy_market(settings: &Settings, print: &mut dyn FnMut(String)) {
    const BENCH: &str = "toy_market";
    for drivers in [25, 50, 75] {
        for policy in toy::Policy::ALL.into_iter().chain([toy::Policy::Largest]) {
            let runs: Vec<toy::Outcome> =
                (0..settings.seeds).map(|seed| toy::run(seed, seed, drivers, policy, 500, 500)).collect();
            let name = format!("{}_{drivers}", policy.name());
            print_estimate(print, BENCH, &format!("served_{name}"), &runs[0].served, "ratio");
            let means: Vec<f64> = runs.iter().map(|run| estimate(&run.served).mean).collect();
            print_estimate(print, BENCH, &format!("served_over_draws_{name}"), &means, "ratio");
            print_estimate(print, BENCH, &format!("pickup_{name}"), &runs[0].distance, "cells");
        }
    }
}

/// Tunes where to wait, on days that no figure is reported of.
pub fn tune_waiting(settings: &Settings, print: &mut dyn FnMut(String)) {
    let mut settings = settings.clone();
    settings.shift_secs = numbers::EASY_SHIFT_SECS;
    let market = Market::dispatched_by(&settings, &Agent::nearest());
    let days: Vec<Drawn> = (TUNING..TUNING + settings.seeds).map(|seed| market.draw(seed, None)).collect();
    let score = |waiting: Tuned, print: &mut dyn FnMut(String)| {
        let agent = Agent { policy: Policy::nearest(), ..market.v1d3_with(waiting) };
        let agent = Agent { repositioning: Some(waiting.repositioning(true)), ..agent };
        let rate = |day: &Drawn| {
            let controlled = fleet(&day.shifts, scaled(2_000, settings.scale));
            market.run(day, &agent, &controlled, false).0.income_per_hour(&controlled)
        };
        let mean = estimate(&days.iter().map(rate).collect::<Vec<f64>>()).mean;
        print(format!("{mean:.4} {waiting:?}"));
        mean
    };
    let mut best = settings.waiting;
    let mut best_score = score(best, print);
    let ways: [(&[f64], fn(&mut Tuned, f64)); 6] = [
        (&[1.0, 2.0, 3.0], |t, v| t.rings = v as u32),
        (&[0.02, 0.05, 0.1, 0.2, 0.4], |t, v| t.temperature = v),
        (&[900.0, 1_800.0, 3_600.0], |t, v| t.horizon_secs = v),
        (&[1.0, 4.0, 12.0], |t, v| t.idle_weight = v),
        (&[0.8, 0.9, 0.95], |t, v| t.gamma = v),
        (&[0.02, 0.05], |t, v| t.alpha = v),
    ];
    for (values, set) in ways {
        for value in values {
            let mut waiting = best;
            set(&mut waiting, *value);
            if waiting != best {
                let found = score(waiting, print);
                if found > best_score {
                    (best, best_score) = (waiting, found);
                }
            }
        }
    }
    print(format!("best {best_score:.4} {best:?}"));
}

/// Tunes V1D3 on days that no figure is reported of: one parameter after the other, twice over.
pub fn tune(settings: &Settings, print: &mut dyn FnMut(String)) {
    let market = Market::new(settings);
    let days: Vec<Drawn> = (TUNING..TUNING + settings.seeds).map(|seed| market.draw(seed, None)).collect();
    let mut score = |tuned: Tuned| {
        let agent = market.v1d3_with(tuned);
        let totals: Vec<f64> = days.iter().map(|day| market.run(day, &agent, &[], false).0.total()).collect();
        let mean = estimate(&totals).mean;
        print(format!("{mean:.0} {tuned:?}"));
        mean
    };
    let mut best = settings.tuned;
    let mut best_score = score(best);
    let ways: [(&[f64], fn(&mut Tuned, f64)); 5] = [
        (&[2.0, 4.0, 8.0, 12.0, 16.0, 24.0], |t, v| t.idle_weight = v),
        (&[0.0125, 0.025, 0.05, 0.1, 0.2], |t, v| t.alpha = v),
        (&[0.7, 0.8, 0.85, 0.9, 0.95], |t, v| t.gamma = v),
        (&[600.0, 1_800.0, 3_600.0, 7_200.0], |t, v| t.ensemble_secs = v as u32),
        (&[0.2, 0.5, 0.8], |t, v| t.omega = v),
    ];
    for _ in 0..2 {
        for (values, set) in ways {
            for value in values {
                let mut tuned = best;
                set(&mut tuned, *value);
                if tuned == best {
                    continue;
                }
                let found = score(tuned);
                if found > best_score {
                    (best, best_score) = (tuned, found);
                }
            }
        }
    }
    print(format!("best {best_score:.0} {best:?}"));
}
