//! From a step's section to a dispatch that cannot be wrong: which columns say what, and by which policy it decides.

use std::collections::BTreeMap;

use engine::catalogue::Relations;
use engine::pipeline::Section;
use types::Micros;

use crate::dispatch::policy::{Completion, Discounting, Earned, Policy};
use crate::fleet::options as shared;
use crate::fleet::options::{Drivers, Input, ValuesInput, or, positive};
use crate::fleet::place::{Coding, Metric};

/// A dispatch that has been checked.
#[derive(Clone, Debug)]
pub struct Dispatch {
    /// The drivers.
    pub drivers: Drivers,
    /// The orders.
    pub orders: Orders,
    /// What places are worth.
    pub values: Option<ValuesInput>,
    /// What a cell is worth before it is told.
    pub values_initial: f64,
    /// How places are told.
    pub metric: Metric,
    /// Which cells they have.
    pub coding: Coding,
    /// The event time between two rounds.
    pub round: Micros,
    /// How far a driver may be.
    pub radius_m: f64,
    /// How many drivers an order is offered to.
    pub nearest: usize,
    /// How fast a driver drives to the pickup.
    pub speed_m_per_sec: f64,
    /// What a pair is worth.
    pub policy: Policy,
    /// The event time for which a decision that is over is kept; for ever without it.
    pub keep: Option<Micros>,
}

/// The events of orders.
#[derive(Clone, Debug)]
pub struct Orders {
    /// The stream.
    pub input: Input,
    /// Which.
    pub order: usize,
    /// What happens.
    pub event: usize,
    /// What its words mean.
    pub words: BTreeMap<String, OrderEvent>,
    /// Where it begins.
    pub pickup: [usize; 2],
    /// Where it ends, with tiles and with hexagons.
    pub destination: Option<[usize; 2]>,
    /// The key of the cell where it ends, if values count and cells have one.
    pub cell: Vec<usize>,
    /// What it earns; 0 without it.
    pub reward: Option<usize>,
    /// How long it takes from pickup to destination; 0 without it.
    pub trip_secs: Option<usize>,
    /// How long it waits; for ever without it.
    pub patience_secs: Option<usize>,
}

/// What happens to an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OrderEvent {
    /// It comes.
    Created,
    /// Its passenger does not want it any more.
    Cancelled,
    /// It has waited too long.
    Expired,
}

const ORDER_WORDS: [(&str, OrderEvent); 3] =
    [("created", OrderEvent::Created), ("cancelled", OrderEvent::Cancelled), ("expired", OrderEvent::Expired)];

/// Reads a step's section.
pub fn read(section: &mut Section<'_>, relations: &Relations<'_>) -> Option<Dispatch> {
    let markets = shared::markets(section);
    let policy = policy(section);
    let round = shared::period(section, "round_secs", 2_000_000);
    let radius_m = positive(section, "radius_m", 2_000.0);
    let nearest = or(section, "nearest", 11, |s, key| s.int_in(key, 1..=100_000));
    let speed = positive(section, "speed_m_per_sec", 3.0);
    let metric = shared::metric(section);
    let keep = if section.has("keep_secs") { shared::period(section, "keep_secs", 1).map(Some) } else { Some(None) };
    let (markets, policy) = (markets?, policy?);
    let drivers = shared::input(section, relations, "drivers", &markets);
    let orders = shared::input(section, relations, "orders", &markets);
    let is_far_sighted = policy.is_far_sighted;
    if is_far_sighted && !section.has("values_input") {
        section.problem(
            "values_input",
            "`values_input` is missing: this policy weighs what places are worth (`policy = \"myopic\"` does not)",
        );
        return None;
    }
    let (values, coding, initial) = if is_far_sighted {
        let input = shared::input(section, relations, "values_input", &markets);
        let coding = shared::coding(section, metric);
        let initial = or(section, "values_initial", 0.0, |s, key| s.float_in(key, -1e9..=1e9));
        (Some(shared::values(section, input?)?), coding?, initial?)
    } else {
        (None, Coding::Nothing, 0.0)
    };
    let (drivers, orders, metric) = (drivers?, orders?, metric?);
    shared::same_markets(section, &drivers, &orders)?;
    if let Some(values) = &values {
        shared::same_markets(section, &drivers, &values.input)?;
    }
    let drivers = shared::drivers(section, drivers, metric, coding);
    let orders = read_orders(section, orders, metric, coding, &policy);
    Some(Dispatch {
        drivers: drivers?,
        orders: orders?,
        values,
        values_initial: initial,
        metric,
        coding,
        round: round?,
        radius_m: radius_m?,
        nearest: nearest? as usize,
        speed_m_per_sec: speed?,
        policy,
        keep: keep?,
    })
}

fn read_orders(
    section: &mut Section<'_>,
    input: Input,
    metric: Metric,
    coding: Coding,
    policy: &Policy,
) -> Option<Orders> {
    let schema = &input.schema;
    let order = section.column("order", schema);
    let event = shared::typed(section, "order_event", schema, &[types::Type::String]);
    let words = shared::words(section, "order_words", &ORDER_WORDS);
    let pickup = shared::place(section, metric, ["pickup_x", "pickup_y"], ["pickup_lat", "pickup_lon"], schema);
    let destination = match coding {
        Coding::Tiles(_) | Coding::H3(_) => shared::place(
            section,
            metric,
            ["destination_x", "destination_y"],
            ["destination_lat", "destination_lon"],
            schema,
        )
        .map(Some),
        _ => Some(None),
    };
    let counts_time = policy.is_far_sighted || policy.earned == Earned::Spread;
    let cell = shared::cell(section, "destination_cell", schema, coding);
    let mut wanted = |key: &'static str, is_needed: bool| {
        if section.has(key) || is_needed { shared::number(section, key, schema).map(Some) } else { Some(None) }
    };
    let reward = wanted("reward", !matches!(policy.earned, Earned::Nearness(_)));
    let trip_secs = wanted("trip_secs", counts_time);
    let patience_secs = wanted("patience_secs", false);
    let (order, event, words, pickup) = (order?, event?, words?, pickup?);
    let (destination, cell) = (destination?, cell?);
    let (reward, trip_secs, patience_secs) = (reward?, trip_secs?, patience_secs?);
    Some(Orders { input, order, event, words, pickup, destination, cell, reward, trip_secs, patience_secs })
}

/// A preset, and what the section says otherwise.
fn policy(section: &mut Section<'_>) -> Option<Policy> {
    #[derive(Clone, Copy)]
    enum Preset {
        Nearest,
        Myopic,
        Xu,
        PolarBear,
        V1d3,
    }
    let presets = [
        ("nearest", Preset::Nearest),
        ("myopic", Preset::Myopic),
        ("xu", Preset::Xu),
        ("polar_bear", Preset::PolarBear),
        ("v1d3", Preset::V1d3),
    ];
    let mut policy = match section.choice_or("policy", &presets, Preset::V1d3)? {
        Preset::Nearest => Policy::nearest(),
        Preset::Myopic => Policy::myopic(),
        Preset::Xu => Policy::xu(),
        Preset::PolarBear => Policy::polar_bear(),
        Preset::V1d3 => Policy::v1d3(0.9),
    };
    if matches!(policy.earned, Earned::Nearness(_)) {
        // Where only distances count there is nothing to discount.
        policy.gamma = 0.9;
    }
    let gamma = or(section, "gamma", policy.gamma, |s, key| s.float_in(key, 1e-9..=1.0));
    let unit_secs = positive(section, "discount_unit_secs", policy.unit_secs);
    let discounting = section.choice_or(
        "discounting",
        &[("continuous", Discounting::Continuous), ("whole", Discounting::Whole)],
        policy.discounting,
    );
    let counts_pickup = or(section, "counts_pickup", policy.counts_pickup, |s, key| s.boolean(key));
    let is_far_sighted = or(section, "far_sighted", policy.is_far_sighted, |s, key| s.boolean(key));
    let nearness = Earned::Nearness(1e6);
    let earned = section.choice_or(
        "earned",
        &[("fee", Earned::Fee), ("spread", Earned::Spread), ("nearness", nearness)],
        policy.earned,
    );
    let completion = completion(section, &policy.completion);
    policy.completion = completion?;
    policy.gamma = gamma?;
    policy.unit_secs = unit_secs?;
    policy.discounting = discounting?;
    policy.counts_pickup = counts_pickup?;
    policy.is_far_sighted = is_far_sighted?;
    policy.earned = earned?;
    Some(policy)
}

/// Whether passengers cancel: not at all, exponentially with the distance, or by a curve.
fn completion(section: &mut Section<'_>, default: &Completion) -> Option<Completion> {
    #[derive(Clone, Copy, PartialEq)]
    enum Shape {
        Certain,
        Exponential,
        Curve,
    }
    let default = if *default == Completion::Certain { Shape::Certain } else { Shape::Exponential };
    let shapes = [("certain", Shape::Certain), ("exponential", Shape::Exponential), ("curve", Shape::Curve)];
    let shape = section.choice_or("completion", &shapes, default);
    let Completion::Exponential { first, growth } = Completion::polar_bear() else { unreachable!("it is") };
    let first = or(section, "cancel_first", first, |s, key| s.float_in(key, 0.0..=1.0));
    let growth = or(section, "cancel_growth_per_m", growth, |s, key| s.float_in(key, -1.0..=1.0));
    let mut list = |key: &'static str, range| {
        match (section.has(key), shape) {
            (false, Some(Shape::Curve)) => section.problem(key, format!("`{key}` is missing: a curve needs it")),
            (false, _) => return Some(Vec::new()),
            (true, Some(Shape::Curve) | None) => {}
            (true, Some(_)) => section.problem(key, format!("`{key}` is for `completion = \"curve\"`")),
        }
        section.floats_in(key, range)
    };
    let (at_m, cancels) = (list("cancel_at_m", 0.0..=1e9), list("cancel_probability", 0.0..=1.0));
    if let (Some(Shape::Curve), Some(at_m), Some(cancels)) = (shape, &at_m, &cancels) {
        if at_m.len() != cancels.len() || at_m.is_empty() {
            section.problem("cancel_probability", "a curve has as many probabilities as distances, and at least one");
            return None;
        }
        if !at_m.is_sorted_by(|a, b| a < b) {
            section.problem("cancel_at_m", "the distances of a curve must ascend");
            return None;
        }
    }
    let (first, growth, at_m, cancels) = (first?, growth?, at_m?, cancels?);
    Some(match shape? {
        Shape::Certain => Completion::Certain,
        Shape::Exponential => Completion::Exponential { first, growth },
        Shape::Curve => Completion::Points { at_m, cancels },
    })
}

impl Dispatch {
    /// The dispatch in one line, with every option that changes the result.
    pub fn detail(&self) -> String {
        let name = |input: &Input, columns: &[usize]| -> String {
            columns.iter().map(|c| input.schema.columns[*c].name.as_str()).collect::<Vec<_>>().join(", ")
        };
        let (d, o) = (&self.drivers, &self.orders);
        let values = self.values.as_ref().map_or("no values", |v| v.input.relation.as_str());
        let others: Vec<usize> =
            o.destination.iter().flatten().chain(&o.cell).chain(&o.reward).chain(&o.trip_secs).copied().collect();
        format!(
            "orders of {} ({}: {} {:?}) from {} to {}; patience {}; drivers of {} ({}: {} {:?}) at {} {}; {values} \
             (initial {}), {:?}, {:?}; by {}; every {} µs, the {} nearest within {} m at {} m/s; {:?}; decisions kept {}",
            o.input.relation,
            name(&o.input, &[o.order]),
            name(&o.input, &[o.event]),
            o.words,
            name(&o.input, &o.pickup),
            name(&o.input, &others),
            o.patience_secs.map_or("for ever".to_owned(), |c| name(&o.input, &[c])),
            d.input.relation,
            name(&d.input, &[d.driver]),
            name(&d.input, &[d.event]),
            d.words,
            name(&d.input, &d.place),
            name(&d.input, &d.cell),
            self.values_initial,
            self.metric,
            self.coding,
            name(&d.input, &d.input.market),
            self.round,
            self.nearest,
            self.radius_m,
            self.speed_m_per_sec,
            self.policy,
            self.keep.map_or("for ever".to_owned(), |keep| format!("{keep} µs")),
        )
    }
}
