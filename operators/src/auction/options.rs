//! From a step's section to an auction that cannot be wrong: which columns say what, and by which rules it is held.

use engine::catalogue::Relations;
use engine::pipeline::Section;
use types::{Micros, Schema, Type};

use super::score::{Form, Metric, Scale, WEIGHT_MAX, Weights};
use crate::expression::Expression;
use crate::options::or;

/// An auction that has been checked.
#[derive(Clone, Debug)]
pub struct Auction {
    /// The requests.
    pub requests: Requests,
    /// The resources.
    pub resources: Resources,
    /// The form of scores.
    pub form: Form,
    /// The fixed point of demands and capacities.
    pub scale: Scale,
    /// Who gets what.
    pub mechanism: Mechanism,
    /// What winners pay.
    pub payments: Payments,
    /// How prices move.
    pub prices: Prices,
    /// Into how many clusters resources are put, if they are.
    pub clusters: Option<usize>,
    /// Rounds of the dual of `optimal`.
    pub dual_rounds: usize,
    /// When the auction is held.
    pub life: Life,
}

/// A side of the auction: a relation and the columns that identify its rows.
#[derive(Clone, Debug)]
pub struct Side {
    /// The relation read.
    pub relation: String,
    /// Its schema.
    pub schema: Schema,
    /// The columns of the key of a request or resource.
    pub key: Vec<usize>,
    /// The columns that must be equal on both sides: each value is a market of its own.
    pub types: Vec<usize>,
}

/// Where what is asked for stands.
#[derive(Clone, Debug)]
pub struct Requests {
    /// The relation.
    pub side: Side,
    /// What each takes; 1 without it.
    pub demand: Option<usize>,
    /// The most each pays.
    pub budget: usize,
    /// How much each matters; 0 without it.
    pub priority: Option<usize>,
    /// How often its requester was served before; 0 without it.
    pub served: Option<usize>,
    /// Who asks; every request for itself without it.
    pub requester: Option<usize>,
    /// Needs, where there are columns for them.
    pub reliability_min: Option<usize>,
    /// As above.
    pub availability_min: Option<usize>,
    /// As above.
    pub latency_max: Option<usize>,
    /// The two coordinates.
    pub place: Option<[usize; 2]>,
}

/// Where what there is stands.
#[derive(Clone, Debug)]
pub struct Resources {
    /// The relation.
    pub side: Side,
    /// How much each holds.
    pub capacity: usize,
    /// What a unit costs.
    pub cost: usize,
    /// Shares of 1, 1 without a column.
    pub reliability: Option<usize>,
    /// As above.
    pub availability: Option<usize>,
    /// As above.
    pub energy: Option<usize>,
    /// The two coordinates.
    pub place: Option<[usize; 2]>,
}

/// Who gets what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mechanism {
    /// Pairs in the order of their scores, capacity shared.
    Greedy,
    /// The same, each resource for one request: the published run.
    OneToOne,
    /// The greatest sum of scores, as near as it can be shown, capacity shared.
    Optimal,
    /// The greatest sum of scores, each resource for one request.
    OptimalExclusive,
    /// The greatest sum of scores where every request takes 1.
    OptimalUnits,
}

impl Mechanism {
    /// Whether a resource serves one request at a time.
    pub fn is_exclusive(self) -> bool {
        matches!(self, Mechanism::OneToOne | Mechanism::OptimalExclusive)
    }

    /// Whether it is the greedy.
    pub fn is_greedy(self) -> bool {
        matches!(self, Mechanism::Greedy | Mechanism::OneToOne)
    }
}

/// What winners pay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Payments {
    /// What they are asked.
    FirstPrice,
    /// The smallest bid with which the greedy would still have served them.
    CriticalValue,
    /// The smallest bid that still outweighs what the others lose by them.
    Vcg,
}

/// How prices move: `ρ ← clip(ρ + step · (utilisation − target))`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Prices {
    /// How many rounds of allocation and update stand before the one that counts.
    pub rounds: usize,
    /// η.
    pub step: f64,
    /// τ.
    pub target: f64,
    /// ρ_min.
    pub min: f64,
    /// ρ_max.
    pub max: f64,
    /// In a life of events: the event time between two updates; none without it.
    pub every: Option<Micros>,
}

/// A move smaller than this is none: the paper's condition of convergence.
pub const PRICE_STILL: f64 = 1e-6;

impl Prices {
    /// The price after `ticks` updates at this utilisation.
    pub fn moved(&self, price: f64, utilisation: f64, ticks: f64) -> f64 {
        let step = self.step * (utilisation - self.target);
        let moved = (price + ticks * step).clamp(self.min, self.max);
        if step.abs() < PRICE_STILL || (moved - price).abs() < PRICE_STILL { price } else { moved }
    }
}

/// When the auction is held.
#[derive(Clone, Debug)]
pub enum Life {
    /// At every epoch, over the tables as they are.
    Tables,
    /// After every event, in the order of event time.
    Events(Events),
}

/// How a life of events goes.
#[derive(Clone, Debug)]
pub struct Events {
    /// By how much another allocation must be better than the one there is, in units of score.
    pub switching_cost: i64,
    /// What happens to the requests of a resource that leaves.
    pub on_conflict: OnConflict,
    /// A request's event after which it is gone.
    pub request_ends: Option<Expression>,
    /// A resource's event after which it is gone.
    pub resource_ends: Option<Expression>,
}

/// What happens to the requests of a resource that leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnConflict {
    /// They compete again at once.
    Requeue,
    /// They are rejected until their next event.
    Reject,
    /// They wait until it is back.
    Wait,
}

/// Reads a step's section.
pub fn read(section: &mut Section<'_>, relations: &Relations<'_>) -> Option<Auction> {
    let requests = relations.input(section, "requests");
    let resources = relations.input(section, "resources");
    let is_events = section.choice_or("clear", &[("tables", false), ("events", true)], false);
    let mechanism = mechanism(section);
    let as_published = or(section, "as_published", false, |s, key| s.boolean(key));
    let weights = weights(section, as_published == Some(true));
    let distance_scale = positive(section, "distance_scale", 200.0);
    let priority_max = if as_published == Some(true) { Some(10.0) } else { positive(section, "priority_max", 10.0) };
    let scale = match section.float("scale").map(Scale::new) {
        None if section.has("scale") => None,
        None => Some(Scale::default()),
        Some(Ok(scale)) => Some(scale),
        Some(Err(message)) => {
            section.problem("scale", message);
            None
        }
    };
    let prices = prices(section, is_events == Some(true));
    let clusters = or(section, "clusters", None, |s, key| s.int_in(key, 1..=1_000_000).map(|n| Some(n as usize)));
    let payments = section.choice_or(
        "payments",
        &[("first_price", Payments::FirstPrice), ("critical_value", Payments::CriticalValue), ("vcg", Payments::Vcg)],
        Payments::FirstPrice,
    );
    let (requests, resources, is_events) = (requests?, resources?, is_events?);
    let sides = sides(section, requests, resources, is_events);
    let (request_side, resource_side) = sides?;
    let metric = metric(section);
    let latency_max = number_column(section, "request_latency_max", &request_side.schema);
    let latency_per_distance = match latency_max {
        Some(Some(_)) => positive(section, "latency_per_distance", 1.0),
        _ => Some(1.0),
    };
    let metric = metric?;
    if matches!(latency_max, Some(Some(_))) && metric == Metric::Nowhere {
        section.problem("request_latency_max", "a latency is one of a distance: name the places of both sides too");
        return None;
    }
    let requests = read_requests(section, request_side, metric, latency_max, as_published?);
    let resources = read_resources(section, resource_side, metric);
    let life = if is_events { events(section, &requests, &resources).map(Life::Events) } else { Some(Life::Tables) };
    let (requests, resources) = (requests?, resources?);
    let (mechanism, exclusive) = mechanism?;
    let mechanism = match (mechanism, exclusive, requests.demand) {
        (Mechanism::Optimal, true, _) => Mechanism::OptimalExclusive,
        (Mechanism::Optimal, false, None) => Mechanism::OptimalUnits,
        (mechanism, ..) => mechanism,
    };
    let dual_rounds = if mechanism == Mechanism::Optimal {
        or(section, "dual_rounds", 300, |s, key| s.int_in(key, 1..=100_000).map(|n| n as usize))
    } else {
        Some(300)
    };
    let form = Form {
        weights: weights?,
        as_published: as_published?,
        metric,
        distance_scale: distance_scale?,
        latency_per_distance: latency_per_distance?,
        priority_max: priority_max?,
    };
    let auction = Auction {
        requests,
        resources,
        form,
        scale: scale?,
        mechanism,
        payments: payments?,
        prices: prices?,
        clusters: clusters?,
        dual_rounds: dual_rounds?,
        life: life?,
    };
    let contradictions = contradictions(&auction);
    contradictions.iter().for_each(|(key, message)| section.problem(key, *message));
    contradictions.is_empty().then_some(auction)
}

/// All that cannot be had together, each with the option to change and a sentence that says why.
fn contradictions(auction: &Auction) -> Vec<(&'static str, &'static str)> {
    let Auction { mechanism, payments, prices, clusters, life, requests, resources, scale, .. } = auction;
    let is_events = matches!(life, Life::Events(_));
    let told: [(bool, &'static str, &'static str); 11] = [
        (
            *payments == Payments::Vcg && mechanism.is_greedy(),
            "payments",
            "`vcg` charges what an optimum loses by a winner, and the greedy is none: with it, `critical_value` is the \
             payment that makes bidding the truth best",
        ),
        (
            *payments == Payments::Vcg && *mechanism == Mechanism::Optimal,
            "payments",
            "`vcg` needs the exact optimum: where requests of different demands share capacity that is hard, and with \
             anything less the payments are not truthful. Leave `demand` out, so that every request takes 1, or set \
             `exclusive = true`",
        ),
        (
            *payments == Payments::CriticalValue && !mechanism.is_greedy(),
            "payments",
            "`critical_value` is the payment of the greedy, where a greater bid never loses: with `optimal` it is not \
             sure of that, and where the optimum is exact `vcg` charges the same by another way",
        ),
        (
            *payments != Payments::FirstPrice && prices.rounds > 0,
            "price_rounds",
            "prices that answer to the allocation answer to the bids, and then no payment makes bidding the truth best: \
             `critical_value` and `vcg` need `price_rounds = 0`",
        ),
        (
            *payments != Payments::FirstPrice && is_events,
            "payments",
            "in a life of events an earlier win weighs in later rounds, so a payment by one round is not truthful: \
             `clear = \"events\"` has `first_price` alone",
        ),
        (
            prices.rounds > 0 && !mechanism.is_greedy(),
            "price_rounds",
            "every round of prices needs an allocation, which only the greedy mechanisms keep for each round",
        ),
        (
            is_events && !mechanism.is_greedy(),
            "mechanism",
            "`optimal` is found for whole tables: after every event only the greedy mechanisms are held. Give tables and \
             `clear = \"tables\"`",
        ),
        (
            is_events && clusters.is_some(),
            "clusters",
            "clusters are those of the whole table of resources, and change with it: they need `clear = \"tables\"`",
        ),
        (
            *payments != Payments::FirstPrice && clusters.is_some(),
            "clusters",
            "a request's bid has a say in which cluster it is sent to, and then no payment makes bidding the truth best: \
             `critical_value` and `vcg` need auctions without clusters",
        ),
        (
            is_events
                && !(requests.side.types.iter().all(|c| requests.side.key.contains(c))
                    && resources.side.types.iter().all(|c| resources.side.key.contains(c))),
            "request_type",
            "in a life of events a type is a part of the key, on both sides: else an event could move a request to \
             another market, which knows nothing of it",
        ),
        (
            requests.demand.is_none() && scale.fixed(1.0) == Some(0),
            "scale",
            "without `demand` every request takes 1, which in this scale is nothing",
        ),
    ];
    told.into_iter().filter(|(is_so, ..)| *is_so).map(|(_, key, message)| (key, message)).collect()
}

fn positive(section: &mut Section<'_>, key: &'static str, default: f64) -> Option<f64> {
    let value = or(section, key, default, |s, key| s.float(key))?;
    if value > 0.0 {
        return Some(value);
    }
    section.problem(key, format!("`{key}` must be above 0, found {value}"));
    None
}

fn mechanism(section: &mut Section<'_>) -> Option<(Mechanism, bool)> {
    let choices = [("greedy", Mechanism::Greedy), ("one_to_one", Mechanism::OneToOne), ("optimal", Mechanism::Optimal)];
    let mechanism = section.choice_or("mechanism", &choices, Mechanism::Greedy)?;
    let exclusive =
        if mechanism == Mechanism::Optimal { or(section, "exclusive", false, |s, key| s.boolean(key))? } else { false };
    Some((mechanism, exclusive))
}

fn weights(section: &mut Section<'_>, as_published: bool) -> Option<Weights> {
    if !section.has("weights") {
        // The published table was made with other weights than the paper states.
        let published = Weights { cost: 0.3, qos: 0.3, energy: 0.2, fairness: 0.2 };
        return Some(if as_published { published } else { Weights::default() });
    }
    let mut inner = section.section("weights")?;
    let mut weight = |key| or(&mut inner, key, 0.0, |s, key| s.float_in(key, 0.0..=WEIGHT_MAX));
    let (cost, qos, energy, fairness) = (weight("cost"), weight("qos"), weight("energy"), weight("fairness"));
    let weights = Weights { cost: cost?, qos: qos?, energy: energy?, fairness: fairness? };
    if weights.cost + weights.qos + weights.energy + weights.fairness == 0.0 {
        section.problem("weights", "one weight at least must be above 0");
        return None;
    }
    Some(weights)
}

fn prices(section: &mut Section<'_>, is_events: bool) -> Option<Prices> {
    let (rounds, every) = if is_events {
        let every = or(section, "price_every_secs", None, |s, key| s.secs(key).map(Some))?;
        if every == Some(0) {
            section.problem("price_every_secs", "prices move after some time: `price_every_secs` must be above 0");
            return None;
        }
        (0, every)
    } else {
        (or(section, "price_rounds", 0, |s, key| s.int_in(key, 0..=1000))? as usize, None)
    };
    let step = or(section, "price_step", 0.01, |s, key| s.float_in(key, 0.0..=1e9));
    let target = or(section, "price_target", 0.8, |s, key| s.float_in(key, 0.0..=1.0));
    let min = or(section, "price_min", 0.0, |s, key| s.float_in(key, 0.0..=f64::MAX));
    let max = or(section, "price_max", f64::MAX, |s, key| s.float_in(key, 0.0..=f64::MAX));
    let (min, max) = (min?, max?);
    if min > max {
        section.problem("price_min", format!("`price_min` is {min}, which is above `price_max`, {max}"));
        return None;
    }
    Some(Prices { rounds, step: step?, target: target?, min, max, every })
}

fn sides(
    section: &mut Section<'_>,
    requests: (String, &Schema),
    resources: (String, &Schema),
    is_events: bool,
) -> Option<(Side, Side)> {
    let mut keys = |key: &'static str, schema: &Schema| {
        if !is_events {
            return Some(schema.key.clone());
        }
        if !section.has(key) {
            section.problem(key, format!("`{key}` is missing: the columns of an event that say whose it is"));
        }
        section.columns(key, schema).filter(|columns| !columns.is_empty())
    };
    let (request_key, resource_key) = (keys("request_key", requests.1), keys("resource_key", resources.1));
    let types = types(section, requests.1, resources.1);
    let (request_types, resource_types) = types?;
    Some((
        Side { relation: requests.0, schema: requests.1.clone(), key: request_key?, types: request_types },
        Side { relation: resources.0, schema: resources.1.clone(), key: resource_key?, types: resource_types },
    ))
}

fn types(section: &mut Section<'_>, requests: &Schema, resources: &Schema) -> Option<(Vec<usize>, Vec<usize>)> {
    let request = or(section, "request_type", Vec::new(), |s, key| s.columns(key, requests))?;
    let resource = if section.has("resource_type") {
        section.columns("resource_type", resources)?
    } else {
        let same = |c: &usize| resources.index_of(&requests.columns[*c].name);
        match request.iter().map(same).collect::<Option<Vec<usize>>>() {
            Some(columns) => columns,
            None => {
                section.problem(
                    "request_type",
                    "resources have no columns of these names: name theirs in `resource_type`",
                );
                return None;
            }
        }
    };
    let types =
        |schema: &Schema, columns: &[usize]| -> Vec<Type> { columns.iter().map(|c| schema.columns[*c].ty).collect() };
    if types(requests, &request) != types(resources, &resource) {
        section.problem(
            "resource_type",
            "the types of requests and resources must be as many columns, and of the same types",
        );
        return None;
    }
    Some((request, resource))
}

fn metric(section: &mut Section<'_>) -> Option<Metric> {
    let plane = ["request_x", "request_y", "resource_x", "resource_y"];
    let globe = ["request_lat", "request_lon", "resource_lat", "resource_lon"];
    let is_plane = plane.iter().any(|key| section.has(key));
    let is_globe = globe.iter().any(|key| section.has(key));
    match (is_plane, is_globe) {
        (false, false) => Some(Metric::Nowhere),
        (true, false) => Some(Metric::Plane),
        (false, true) => Some(Metric::Globe),
        (true, true) => {
            section.problem(
                "request_x",
                "places are on the plane (`_x`, `_y`) or on the globe (`_lat`, `_lon`), not both",
            );
            None
        }
    }
}

fn place(
    section: &mut Section<'_>,
    metric: Metric,
    plane: [&'static str; 2],
    globe: [&'static str; 2],
    schema: &Schema,
) -> Option<Option<[usize; 2]>> {
    let keys = match metric {
        Metric::Nowhere => return Some(None),
        Metric::Plane => plane,
        Metric::Globe => globe,
    };
    let [a, b] = keys.map(|key| required_number(section, key, schema));
    Some(Some([a?, b?]))
}

fn read_requests(
    section: &mut Section<'_>,
    side: Side,
    metric: Metric,
    latency_max: Option<Option<usize>>,
    as_published: bool,
) -> Option<Requests> {
    let schema = &side.schema;
    let demand = number_column(section, "demand", schema);
    let budget = required_number(section, "budget", schema);
    let priority = number_column(section, "priority", schema);
    let served = if as_published { Some(None) } else { number_column(section, "served", schema) };
    let requester = or(section, "requester", None, |s, key| s.column(key, schema).map(Some));
    let reliability_min = number_column(section, "request_reliability_min", schema);
    let availability_min = number_column(section, "request_availability_min", schema);
    let place = place(section, metric, ["request_x", "request_y"], ["request_lat", "request_lon"], schema);
    Some(Requests {
        demand: demand?,
        budget: budget?,
        priority: priority?,
        served: served?,
        requester: requester?,
        reliability_min: reliability_min?,
        availability_min: availability_min?,
        latency_max: latency_max?,
        place: place?,
        side,
    })
}

fn read_resources(section: &mut Section<'_>, side: Side, metric: Metric) -> Option<Resources> {
    let schema = &side.schema;
    let capacity = required_number(section, "capacity", schema);
    let cost = required_number(section, "cost", schema);
    let reliability = number_column(section, "reliability", schema);
    let availability = number_column(section, "availability", schema);
    let energy = number_column(section, "energy", schema);
    let place = place(section, metric, ["resource_x", "resource_y"], ["resource_lat", "resource_lon"], schema);
    Some(Resources {
        capacity: capacity?,
        cost: cost?,
        reliability: reliability?,
        availability: availability?,
        energy: energy?,
        place: place?,
        side,
    })
}

fn required_number(section: &mut Section<'_>, key: &'static str, schema: &Schema) -> Option<usize> {
    let column = section.column(key, schema)?;
    is_number(section, key, schema, column).then_some(column)
}

fn number_column(section: &mut Section<'_>, key: &'static str, schema: &Schema) -> Option<Option<usize>> {
    or(section, key, None, |s, key| required_number(s, key, schema).map(Some))
}

fn is_number(section: &mut Section<'_>, key: &'static str, schema: &Schema, column: usize) -> bool {
    let column = &schema.columns[column];
    let good = matches!(column.ty, Type::Float64 | Type::Int64);
    if !good {
        section.problem(key, format!("`{}` has the type {}, and must have float64 or int64", column.name, column.ty));
    }
    good
}

fn events(section: &mut Section<'_>, requests: &Option<Requests>, resources: &Option<Resources>) -> Option<Events> {
    let switching_cost = or(section, "switching_cost", 0.0, |s, key| s.float_in(key, 0.0..=WEIGHT_MAX));
    let on_conflict = section.choice_or(
        "on_conflict",
        &[("requeue", OnConflict::Requeue), ("reject", OnConflict::Reject), ("wait", OnConflict::Wait)],
        OnConflict::Requeue,
    );
    let mut condition = |key: &'static str, schema: Option<&Schema>| {
        let Some(schema) = schema else { return Some(None) };
        let Some(text) = section.string(key) else { return (!section.has(key)).then_some(None) };
        match Expression::parse(&text, schema) {
            Ok(expression) if expression.ty == Type::Bool => Some(Some(expression)),
            Ok(expression) => {
                section.problem(
                    key,
                    format!("`{text}` has the type {}, and a condition must have the type bool", expression.ty),
                );
                None
            }
            Err(message) => {
                section.problem(key, message);
                None
            }
        }
    };
    let request_ends = condition("request_ends", requests.as_ref().map(|r| &r.side.schema));
    let resource_ends = condition("resource_ends", resources.as_ref().map(|r| &r.side.schema));
    Some(Events {
        switching_cost: (switching_cost? * super::score::SCORE_ONE).round_ties_even() as i64,
        on_conflict: on_conflict?,
        request_ends: request_ends?,
        resource_ends: resource_ends?,
    })
}

impl Auction {
    /// The auction in one line, with every option that changes the result.
    pub fn detail(&self) -> String {
        let names = |side: &Side, columns: &[usize]| -> String {
            columns.iter().map(|c| side.schema.columns[*c].name.as_str()).collect::<Vec<_>>().join(", ")
        };
        let (q, r) = (&self.requests, &self.resources);
        let side = |side: &Side, columns: &[(&str, Option<usize>)]| -> String {
            let mut parts = Vec::new();
            for (what, column) in columns {
                if let Some(column) = column {
                    parts.push(format!("{what} {}", side.schema.columns[*column].name));
                }
            }
            let types = if side.types.is_empty() { String::new() } else { format!(" by {}", names(side, &side.types)) };
            format!("{} ({}){types}: {}", side.relation, names(side, &side.key), parts.join(", "))
        };
        let coordinate = |place: Option<[usize; 2]>, at: usize| place.map(|p| p[at]);
        let requests = side(
            &q.side,
            &[
                ("demand", q.demand),
                ("budget", Some(q.budget)),
                ("priority", q.priority),
                ("served", q.served),
                ("requester", q.requester),
                ("reliability ≥", q.reliability_min),
                ("availability ≥", q.availability_min),
                ("latency ≤", q.latency_max),
                ("at", coordinate(q.place, 0)),
                ("and", coordinate(q.place, 1)),
            ],
        );
        let resources = side(
            &r.side,
            &[
                ("capacity", Some(r.capacity)),
                ("cost", Some(r.cost)),
                ("reliability", r.reliability),
                ("availability", r.availability),
                ("energy", r.energy),
                ("at", coordinate(r.place, 0)),
                ("and", coordinate(r.place, 1)),
            ],
        );
        let life = match &self.life {
            Life::Tables => "at every epoch".to_owned(),
            Life::Events(events) => {
                let ends = |e: &Option<Expression>| e.as_ref().map_or("never", |e| &e.text).to_owned();
                format!(
                    "after every event, kept within {} units, {:?} on conflict, requests end at {}, resources at {}",
                    events.switching_cost,
                    events.on_conflict,
                    ends(&events.request_ends),
                    ends(&events.resource_ends)
                )
            }
        };
        format!(
            "{:?} of {requests}; among {resources}; {:?}; {:?}, {:?}, scale {}, clusters {:?}, dual rounds {}; {life}",
            self.mechanism, self.form, self.payments, self.prices, self.scale, self.clusters, self.dual_rounds
        )
    }
}
