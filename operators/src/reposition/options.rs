//! From a step's section to a repositioning that cannot be wrong.

use engine::catalogue::Relations;
use engine::pipeline::Section;
use types::Micros;

use crate::dispatch::reposition::Rule;
use crate::fleet::options as shared;
use crate::fleet::options::{Drivers, Input, ValuesInput, or, positive};
use crate::fleet::place::{Coding, Metric};

/// So many rings at most.
const RINGS_MAX: i64 = 50;

/// A repositioning that has been checked.
#[derive(Clone, Debug)]
pub struct Reposition {
    /// Where drivers may be sent.
    pub cells: Cells,
    /// The drivers.
    pub drivers: Drivers,
    /// What cells are worth.
    pub values: ValuesInput,
    /// What a cell is worth before it is told.
    pub values_initial: f64,
    /// How places are told.
    pub metric: Metric,
    /// Which cells they have.
    pub coding: Coding,
    /// The event time between two rounds.
    pub every: Micros,
    /// How long a driver has been idle when it is sent.
    pub idle: Micros,
    /// How far it may be sent.
    pub around: Around,
    /// How fast it drives.
    pub speed_m_per_sec: f64,
    /// The discount of a unit of time.
    pub gamma: f64,
    /// The unit, in seconds.
    pub unit_secs: f64,
    /// How cells are drawn.
    pub rule: Rule,
    /// What the numbers drawn are of.
    pub seed: u64,
}

/// To which cells but its own a driver may be sent.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Around {
    /// The nearest.
    Nearest {
        /// How far they are at most.
        reach_m: f64,
        /// How many.
        count: usize,
    },
    /// With hexagons: those so many steps away or less.
    Rings(u32),
}

/// The stream of cells.
#[derive(Clone, Debug)]
pub struct Cells {
    /// The stream.
    pub input: Input,
    /// The key of the cell; empty with hexagons.
    pub cell: Vec<usize>,
    /// Its middle; with hexagons any place in it.
    pub place: [usize; 2],
    /// How many orders are expected there.
    pub demand: Option<usize>,
}

/// Reads a step's section.
pub fn read(section: &mut Section<'_>, relations: &Relations<'_>) -> Option<Reposition> {
    let markets = shared::markets(section);
    let every = shared::period(section, "every_secs", 2_000_000);
    let idle = or(section, "idle_secs", 300_000_000, |s, key| s.secs(key));
    let around = around(section);
    let speed = positive(section, "speed_m_per_sec", 3.0);
    let gamma = or(section, "gamma", 0.9, |s, key| s.float_in(key, 1e-9..=1.0));
    let unit_secs = positive(section, "discount_unit_secs", 600.0);
    let temperature = positive(section, "temperature", 1.0);
    let is_fleet_aware = or(section, "fleet_aware", false, |s, key| s.boolean(key));
    let seed = or(section, "seed", 0, |s, key| s.int(key));
    let initial = or(section, "values_initial", 0.0, |s, key| s.float_in(key, -1e9..=1e9));
    let metric = shared::metric(section);
    let coding = shared::coding(section, metric);
    let markets = markets?;
    let cells = shared::input(section, relations, "cells", &markets);
    let drivers = shared::input(section, relations, "drivers", &markets);
    let values = shared::input(section, relations, "values_input", &markets);
    let (metric, coding, cells, drivers, values) = (metric?, coding?, cells?, drivers?, values?);
    shared::same_markets(section, &drivers, &cells)?;
    shared::same_markets(section, &drivers, &values)?;
    let drivers = shared::drivers(section, drivers, metric, coding);
    let values = shared::values(section, values);
    let cell = shared::cell(section, "cell", &cells.schema, coding);
    let place = shared::place(section, metric, ["cell_x", "cell_y"], ["cell_lat", "cell_lon"], &cells.schema);
    let demand = if section.has("cell_demand") || is_fleet_aware == Some(true) {
        shared::number(section, "cell_demand", &cells.schema).map(Some)
    } else {
        Some(None)
    };
    Some(Reposition {
        cells: Cells { cell: cell?, place: place?, demand: demand?, input: cells },
        drivers: drivers?,
        values: values?,
        values_initial: initial?,
        metric,
        coding,
        every: every?,
        idle: idle?,
        around: around?,
        speed_m_per_sec: speed?,
        gamma: gamma?,
        unit_secs: unit_secs?,
        rule: Rule { temperature: temperature?, is_fleet_aware: is_fleet_aware? },
        seed: seed? as u64,
    })
}

fn around(section: &mut Section<'_>) -> Option<Around> {
    if section.has("h3") {
        for key in ["reach_m", "nearest"] {
            if section.has(key) {
                section.problem(key, format!("with `h3` neighbours are told by `rings`: there is no `{key}`"));
                return None;
            }
        }
        return or(section, "rings", 2, |s, key| s.int_in(key, 0..=RINGS_MAX)).map(|rings| Around::Rings(rings as u32));
    }
    if section.has("rings") {
        section.problem("rings", "`rings` are of hexagons, and there is no `h3`");
        return None;
    }
    let reach_m = positive(section, "reach_m", 2_100.0);
    let count = or(section, "nearest", 18, |s, key| s.int_in(key, 0..=10_000));
    Some(Around::Nearest { reach_m: reach_m?, count: count? as usize })
}

impl Reposition {
    /// γ^Δt of a way.
    pub fn discount(&self, distance_m: f64) -> f64 {
        let units = distance_m / self.speed_m_per_sec / self.unit_secs;
        libm::exp(units * libm::log(self.gamma))
    }

    /// The repositioning in one line, with every option that changes the result.
    pub fn detail(&self) -> String {
        let name = |input: &Input, columns: &[usize]| -> String {
            columns.iter().map(|c| input.schema.columns[*c].name.as_str()).collect::<Vec<_>>().join(", ")
        };
        let (c, d) = (&self.cells, &self.drivers);
        let (reached, within) = match self.around {
            Around::Nearest { reach_m, count } => {
                (format!("the {count} nearest cells"), format!(" within {reach_m} m"))
            }
            Around::Rings(rings) => (format!("the cells in {rings} rings"), String::new()),
        };
        format!(
            "drivers of {} ({}: {} {:?}) at {} in {} idle for {} µs, by {}; to {} of {} ({} at {}, demand \
             {}){} at {} m/s; values of {} (initial {}), {:?}, {:?}; gamma {} a {} s, {:?}; every {} µs, seed {}",
            d.input.relation,
            name(&d.input, &[d.driver]),
            name(&d.input, &[d.event]),
            d.words,
            name(&d.input, &d.place),
            name(&d.input, &d.cell),
            self.idle,
            name(&d.input, &d.input.market),
            reached,
            c.input.relation,
            name(&c.input, &c.cell),
            name(&c.input, &c.place),
            c.demand.map_or("unknown".to_owned(), |d| name(&c.input, &[d])),
            within,
            self.speed_m_per_sec,
            self.values.input.relation,
            self.values_initial,
            self.metric,
            self.coding,
            self.gamma,
            self.unit_secs,
            self.rule,
            self.every,
            self.seed,
        )
    }
}
