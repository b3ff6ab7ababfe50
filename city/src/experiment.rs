//! The experiments: the same days for every agent, and figures with intervals.

use std::collections::BTreeMap;
use std::sync::Arc;

use operators::dispatch::offline::{Offline, Recorded};
use operators::dispatch::policy::Policy;
use operators::dispatch::tiles::{Cells, Coding};

use crate::agent::{Agent, Repositioning, TILE_M, Thinning, Tuned};
use crate::bound::upper_bound;
use crate::calibration as numbers;
use crate::chains;
use crate::day::Day;
use crate::demand::{City, Order, Shift, Shock};
use crate::shock::Shocked;
use crate::statistics::{Estimate, estimate, paired_gain};
use crate::toy;
use crate::world::{self, Discounts, Lived, SLOTS, Scenario};

/// The seeds of days that history is recorded of, and of those that are tuned on. Tests have 0, 1, ….
const HISTORY: u64 = 1_000;
pub(crate) const TUNING: u64 = 500;

/// What an experiment can be told.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// The part of the full city.
    pub scale: f64,
    /// The seed of the first test day.
    pub first_seed: u64,
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
    /// How often the bound goes through all drivers.
    pub passes: usize,
    /// The shock.
    pub shock: Shocked,
    /// The fleet that grows.
    pub growth: Growth,
}

/// How a fleet grows from 100 to 2,000.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Growth {
    /// 0: it stays; 1: it does not look at itself; 2: as the rule is; 3: by the part that gets an order; 4: by what it gains as a
    /// whole.
    pub rule: u32,
    /// How many of the twenty hundreds are looked at alone.
    pub parts: usize,
}

impl Settings {
    /// Settings by name; the error says which is unknown.
    pub fn new(given: &BTreeMap<String, f64>) -> Result<Settings, String> {
        let tuned = Tuned::default();
        let mut settings = Settings {
            scale: 1.0,
            first_seed: 0,
            seeds: 10,
            patience_secs: 60,
            shift_secs: numbers::SHIFT_SECS,
            history_days: 3,
            tuned,
            waiting: Tuned::waiting(),
            passes: 40,
            shock: Shocked::default(),
            growth: Growth { rule: 2, parts: 20 },
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
                "shock_orders" => settings.shock.orders = *value as usize,
                "shock_secs" => settings.shock.secs = *value as u32,
                "shock_at" => settings.shock.at = *value as u32,
                "shock_patience_secs" => settings.shock.patience_secs = *value as u32,
                "shock_ensemble_secs" => settings.shock.ensemble_secs = *value as u32,
                "shock_fleet" => settings.shock.fleet = *value,
                "shock_aware" => settings.shock.is_fleet_aware = *value > 0.0,
                "growth_rule" => settings.growth.rule = *value as u32,
                "growth_parts" => settings.growth.parts = *value as usize,
                "passes" => settings.passes = *value as usize,
                "first_seed" => settings.first_seed = *value as u64,
                "rings" => settings.waiting.rings = *value as u32,
                "idle_weight" => settings.tuned.idle_weight = *value,
                other => return Err(format!("no setting `{other}`")),
            }
        }
        Ok(settings)
    }

    /// The seeds of the test days.
    pub fn days(&self) -> std::ops::Range<u64> {
        self.first_seed..self.first_seed + self.seeds
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

impl Drawn {
    /// The shifts.
    pub fn shifts(&self) -> &[Shift] {
        &self.shifts
    }

    /// The sum of all fares.
    pub fn fares(&self) -> f64 {
        self.orders.iter().map(|order| order.reward).sum()
    }
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
        world::run(&self.scenario(day, controlled), agent, record)
    }

    fn scenario<'a>(&'a self, day: &'a Drawn, controlled: &'a [u32]) -> Scenario<'a> {
        Scenario {
            city: &self.city,
            cells: &self.cells,
            orders: &day.orders,
            shifts: &day.shifts,
            controlled,
            patience_secs: self.settings.patience_secs,
            forecast: &self.forecast,
            seed: day.seed,
        }
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

    /// V1D3 with other parameters.
    pub fn v1d3_with(&self, tuned: Tuned) -> Agent {
        let how = Discounts { gamma: tuned.gamma, idle_weight: tuned.idle_weight, is_spread: false };
        Agent::v1d3(Some(self.offline(&how)), tuned)
    }

    /// The city.
    pub fn city(&self) -> &City {
        &self.city
    }

    /// The policies that are compared: nearest, myopic, Xu's, Polar Bear's, V1D3's online values alone, and V1D3.
    pub fn agents(&self) -> [Agent; 6] {
        let online = Agent { name: "v1d3_online_only", ..Agent::v1d3(None, self.settings.tuned) };
        [Agent::nearest(), Agent::myopic(), self.xu(), Agent::polar_bear(), online, self.v1d3()]
    }

    /// What the centres of all hexagons are worth to an agent at some times of a day, by time.
    pub fn values(&self, day: &Drawn, agent: &Agent, at_secs: &[u32]) -> Vec<Vec<f64>> {
        world::values(&self.scenario(day, &[]), agent, at_secs)
    }

    fn xu(&self) -> Agent {
        Agent::xu(self.offline(&Discounts { gamma: 0.9, idle_weight: 1.0, is_spread: true }))
    }
}

/// A figure that an experiment found.
#[derive(Clone, Debug, PartialEq)]
pub struct Figure {
    /// The experiment.
    pub bench: &'static str,
    /// What was measured, and of whom.
    pub metric: String,
    /// The figure; a mean if it has an interval.
    pub value: f64,
    /// Half the width of its 95 % interval over days.
    pub half_width: Option<f64>,
    /// Its unit.
    pub unit: &'static str,
}

impl Figure {
    /// As a line of JSON.
    pub fn json(&self) -> String {
        let Figure { bench, metric, value, half_width, unit } = self;
        let interval = half_width.map_or(String::new(), |half| format!(",\"half_width_95\":{half:.6}"));
        format!("{{\"bench\":\"{bench}\",\"metric\":\"{metric}\",\"value\":{value:.6}{interval},\"unit\":\"{unit}\"}}")
    }
}

/// Where an experiment's figures go, as they are found.
pub type Found<'a> = &'a mut dyn FnMut(Figure);

pub(crate) fn give_estimate(found: Found<'_>, bench: &'static str, metric: &str, values: &[f64], unit: &'static str) {
    let Estimate { mean, half_width } = estimate(values);
    found(Figure { bench, metric: metric.to_owned(), value: mean, half_width: Some(half_width), unit });
}

pub(crate) fn give_gain(found: Found<'_>, bench: &'static str, metric: &str, a: &[f64], b: &[f64]) {
    let Estimate { mean, half_width } = paired_gain(a, b);
    found(Figure { bench, metric: metric.to_owned(), value: mean, half_width: Some(half_width), unit: "ratio" });
}

/// J of every policy, the gains from each to the next, side effects, and the bound.
pub fn dispatch_day(settings: &Settings, found: Found<'_>) {
    const BENCH: &str = "dispatch_day";
    let market = Market::new(settings);
    let agents = market.agents();
    let mut days: Vec<Vec<Day>> = vec![Vec::new(); agents.len()];
    let mut bounds = Vec::new();
    let mut everybody = Vec::new();
    for seed in settings.days() {
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
        let mut figure = |metric: &str, of: fn(&Day) -> f64, unit: &'static str| {
            let values: Vec<f64> = days.iter().map(of).collect();
            give_estimate(found, BENCH, &format!("{metric}_{}", agent.name), &values, unit);
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
        give_gain(found, BENCH, &metric, &total(better), &total(worse));
    }
    give_estimate(found, BENCH, "J_upper_bound", &bounds, "fees");
    give_estimate(found, BENCH, "J_if_everybody_were_served", &everybody, "fees");
    give_gain(found, BENCH, "gain_upper_bound_over_v1d3", &bounds, &total(5));
}

/// How much of what nobody could exceed each policy earns: the bound that knows distances, in a small city.
pub fn bound(settings: &Settings, found: Found<'_>) {
    const BENCH: &str = "bound";
    let market = Market::new(settings);
    let agents = [Agent::nearest(), Agent::myopic(), Agent::polar_bear(), market.v1d3()];
    let mut totals = vec![Vec::new(); agents.len()];
    let (mut bounds, mut taken, mut loose) = (Vec::new(), Vec::new(), Vec::new());
    for seed in settings.days() {
        let drawn = market.draw(seed, None);
        for (totals, agent) in totals.iter_mut().zip(&agents) {
            totals.push(market.run(&drawn, agent, &[], false).0.total());
        }
        let patience_secs = settings.patience_secs;
        let bound = chains::upper_bound(&market.city, &drawn.orders, &drawn.shifts, patience_secs, settings.passes);
        bounds.push(bound.above);
        taken.push(bound.taken);
        loose.push(upper_bound(&market.city, &drawn.orders, &drawn.shifts, patience_secs).0);
    }
    give_estimate(found, BENCH, "J_upper_bound", &bounds, "fees");
    give_estimate(found, BENCH, "J_of_relaxed_chains", &taken, "fees");
    give_estimate(found, BENCH, "J_upper_bound_without_distances", &loose, "fees");
    for (agent, totals) in agents.iter().zip(&totals) {
        give_estimate(found, BENCH, &format!("J_{}", agent.name), totals, "fees");
        let shares: Vec<f64> = totals.iter().zip(&bounds).map(|(total, bound)| total / bound).collect();
        give_estimate(found, BENCH, &format!("share_of_bound_{}", agent.name), &shares, "ratio");
    }
    give_gain(found, BENCH, "gain_upper_bound_over_v1d3", &bounds, &totals[3]);
    give_gain(found, BENCH, "gain_upper_bound_without_distances_over_v1d3", &loose, &totals[3]);
}

/// G of fleets of several sizes that stay, that are repositioned, and that are repositioned knowing of each other.
///
/// As on the competition's other track, orders are dispatched by the environment (the nearest driver), and values only say
/// where to wait. Without `shift_secs` there are more drivers than orders, as there must be for waiting to matter. The
/// smaller fleets are parts of the largest, so that G of the same drivers can be compared, in company and alone.
pub fn reposition(settings: &Settings, found: Found<'_>) {
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
    // G of the 100 and of the 500, in whatever company.
    let mut of_same = vec![vec![[Vec::new(), Vec::new()]; sizes.len()]; agents.len()];
    let mut used = Vec::new();
    for seed in settings.days() {
        let drawn = market.draw(seed, None);
        let all = fleet(&drawn.shifts, scaled(sizes[2], settings.scale));
        let part = |size: usize| all.iter().copied().step_by(sizes[2] / size).collect::<Vec<u32>>();
        let same = [part(sizes[0]), part(sizes[1])];
        for (at, size) in sizes.iter().enumerate() {
            let controlled = part(*size);
            for (way, (_, agent)) in agents.iter().enumerate() {
                let day = market.run(&drawn, agent, &controlled, false).0;
                rates[way][at].push(day.income_per_hour(&controlled));
                for (of_same, same) in of_same[way][at].iter_mut().zip(&same) {
                    of_same.push(day.income_per_hour(same));
                }
                if way == 0 && at == 0 {
                    used.push(day.utilisation());
                }
            }
        }
    }
    give_estimate(found, BENCH, "reposition_utilisation", &used, "ratio");
    for (way, (name, _)) in agents.iter().enumerate() {
        for (at, size) in sizes.iter().enumerate() {
            give_estimate(found, BENCH, &format!("G_{name}_{size}"), &rates[way][at], "fees/h");
            if way > 0 {
                let metric = format!("gain_G_{name}_over_stay_{size}");
                give_gain(found, BENCH, &metric, &rates[way][at], &rates[0][at]);
            }
        }
        for (at, size) in sizes.iter().enumerate().take(2) {
            let metric = format!("G_{name}_of_the_same_{size}_among_2000_over_alone");
            give_gain(found, BENCH, &metric, &of_same[way][2][at], &of_same[way][at][at]);
        }
    }
}

/// G of 2,000 controlled drivers, and of each hundred of them alone: by how much it falls as a fleet grows twentyfold. All
/// drivers are looked at both ways, so the drivers' own luck is paired. And what part of that by which the 2,000 exceed
/// those who stay is taken from the others of the city, instead of won from orders that nobody would have served.
pub fn growth(settings: &Settings, found: Found<'_>) {
    const BENCH: &str = "growth";
    let mut settings = settings.clone();
    if settings.shift_secs == numbers::SHIFT_SECS {
        settings.shift_secs = numbers::EASY_SHIFT_SECS;
    }
    let Growth { rule, parts } = settings.growth;
    let market = Market::dispatched_by(&settings, &Agent::nearest());
    let stay = Agent { policy: Policy::nearest(), ..market.v1d3_with(settings.waiting) };
    let thinning = [Thinning::None, Thinning::None, Thinning::None, Thinning::Filled, Thinning::Marginal];
    let moving =
        Repositioning { thinning: thinning[rule.min(4) as usize], ..settings.waiting.repositioning(rule == 2) };
    let agent = Agent { repositioning: (rule > 0).then_some(moving), ..stay.clone() };
    let (mut alone, mut together) = (Vec::new(), Vec::new());
    let (mut staying, mut moved, mut taken) = (Vec::new(), Vec::new(), Vec::new());
    for seed in settings.days() {
        let drawn = market.draw(seed, None);
        let all = fleet(&drawn.shifts, scaled(2_000, settings.scale));
        let rate = |controlled: &[u32], of: &[u32]| market.run(&drawn, &agent, controlled, false).0.income_per_hour(of);
        let hundreds: Vec<Vec<u32>> =
            (0..parts).map(|part| all.iter().copied().skip(part).step_by(20).collect()).collect();
        let day = market.run(&drawn, &agent, &all, false).0;
        let of_parts: Vec<f64> = hundreds.iter().map(|hundred| day.income_per_hour(hundred)).collect();
        together.push(estimate(&of_parts).mean);
        let still = market.run(&drawn, &stay, &all, false).0;
        let income = |day: &Day| all.iter().map(|driver| day.income[*driver as usize]).sum::<f64>();
        staying.push(still.income_per_hour(&all));
        moved.push(day.income_per_hour(&all));
        taken.push(1.0 - (day.total() - still.total()) / (income(&day) - income(&still)));
        alone.push(estimate(&hundreds.iter().map(|hundred| rate(hundred, hundred)).collect::<Vec<f64>>()).mean);
        let figure =
            |metric: String, value: f64| Figure { bench: BENCH, metric, value, half_width: None, unit: "fees/h" };
        found(figure(format!("G_together_day_{seed}"), together[together.len() - 1]));
        found(figure(format!("G_alone_day_{seed}"), alone[alone.len() - 1]));
    }
    give_estimate(found, BENCH, "G_alone", &alone, "fees/h");
    give_estimate(found, BENCH, "G_together", &together, "fees/h");
    give_gain(found, BENCH, "G_together_over_alone", &together, &alone);
    if rule > 0 {
        give_gain(found, BENCH, "G_of_2000_over_staying", &moved, &staying);
        give_estimate(found, BENCH, "taken_from_others", &taken, "ratio");
    }
}

pub(crate) fn scaled(count: usize, scale: f64) -> usize {
    (count as f64 * scale).round().max(1.0) as usize
}

/// So many drivers with shifts of at least two hours, evenly taken from all of them.
pub(crate) fn fleet(shifts: &[Shift], count: usize) -> Vec<u32> {
    let long: Vec<u32> = (0..shifts.len() as u32)
        .filter(|driver| shifts[*driver as usize].until - shifts[*driver as usize].from >= 7_200)
        .collect();
    let count = count.min(long.len());
    (0..count).map(|at| long[at * long.len() / count]).collect()
}

/// The toy market, with the interval of one draw of waiting times and that of many.
pub fn toy_market(settings: &Settings, found: Found<'_>) {
    const BENCH: &str = "toy_market";
    for drivers in [25, 50, 75] {
        for policy in toy::Policy::ALL.into_iter().chain([toy::Policy::Largest]) {
            let runs: Vec<toy::Outcome> =
                (0..settings.seeds).map(|seed| toy::run(seed, seed, drivers, policy, 500, 500)).collect();
            let name = format!("{}_{drivers}", policy.name());
            give_estimate(found, BENCH, &format!("served_{name}"), &runs[0].served, "ratio");
            let means: Vec<f64> = runs.iter().map(|run| estimate(&run.served).mean).collect();
            give_estimate(found, BENCH, &format!("served_over_draws_{name}"), &means, "ratio");
            give_estimate(found, BENCH, &format!("pickup_{name}"), &runs[0].distance, "cells");
        }
    }
}
