//! The options the operators of a fleet share: which columns say what of drivers, places and values.

use std::collections::BTreeMap;

use engine::catalogue::Relations;
use engine::pipeline::Section;
use types::{Schema, Type};

use super::drivers::Report;
use super::place::{Coding, Metric};
use crate::h3;

/// An input and its columns that every event has.
#[derive(Clone, Debug)]
pub struct Input {
    /// The relation.
    pub relation: String,
    /// Its schema.
    pub schema: Schema,
    /// The event time.
    pub at: usize,
    /// The columns of the market.
    pub market: Vec<usize>,
}

/// The events of drivers.
#[derive(Clone, Debug)]
pub struct Drivers {
    /// The stream.
    pub input: Input,
    /// Who.
    pub driver: usize,
    /// What it reports.
    pub event: usize,
    /// What its words mean.
    pub words: BTreeMap<String, Report>,
    /// The coordinates.
    pub place: [usize; 2],
    /// The key of the cell; empty without.
    pub cell: Vec<usize>,
}

/// The stream of values.
#[derive(Clone, Debug)]
pub struct ValuesInput {
    /// The stream.
    pub input: Input,
    /// The column of the cell.
    pub cell: usize,
    /// The column of its value.
    pub value: usize,
}

/// Reads an option that has a default.
pub fn or<T>(
    section: &mut Section<'_>,
    key: &'static str,
    default: T,
    read: impl FnOnce(&mut Section<'_>, &'static str) -> Option<T>,
) -> Option<T> {
    if section.has(key) { read(section, key) } else { Some(default) }
}

/// A number above 0.
pub fn positive(section: &mut Section<'_>, key: &'static str, default: f64) -> Option<f64> {
    let value = or(section, key, default, |s, key| s.float_in(key, 0.0..=1e12))?;
    if value > 0.0 {
        return Some(value);
    }
    section.problem(key, format!("`{key}` must be above 0"));
    None
}

/// A time above 0 that has microseconds.
pub fn period(section: &mut Section<'_>, key: &'static str, default: i64) -> Option<i64> {
    let period = or(section, key, default, |s, key| s.secs(key))?;
    if period > 0 {
        return Some(period);
    }
    section.problem(key, format!("`{key}` must be at least 0.000001"));
    None
}

/// A stream with an event time, and its columns of the market, which are named alike in all inputs.
pub fn input(
    section: &mut Section<'_>,
    relations: &Relations<'_>,
    key: &'static str,
    markets: &[String],
) -> Option<Input> {
    let (relation, schema) = relations.input(section, key)?;
    let Some(at) = schema.event_time.filter(|_| schema.append_only) else {
        section.problem(key, format!("`{relation}` is no stream with an event time, and history needs one"));
        return None;
    };
    let mut market = Vec::new();
    for name in markets {
        match schema.index_of(name) {
            Some(column) => market.push(column),
            None => section.problem("market", format!("`{relation}` has no column `{name}`")),
        }
    }
    (market.len() == markets.len()).then(|| Input { relation, schema: schema.clone(), at, market })
}

/// The names of the columns of the market.
pub fn markets(section: &mut Section<'_>) -> Option<Vec<String>> {
    or(section, "market", Vec::new(), |s, key| s.strings(key))
}

/// Whether the markets of two inputs have the same types.
pub fn same_markets(section: &mut Section<'_>, a: &Input, b: &Input) -> Option<()> {
    let types = |input: &Input| -> Vec<Type> { input.market.iter().map(|c| input.schema.columns[*c].ty).collect() };
    if types(a) == types(b) {
        return Some(());
    }
    section.problem("market", format!("its columns have other types in `{}` than in `{}`", a.relation, b.relation));
    None
}

/// A required column of one of these types.
pub fn typed(section: &mut Section<'_>, key: &'static str, schema: &Schema, types: &[Type]) -> Option<usize> {
    let column = section.column(key, schema)?;
    let shape = &schema.columns[column];
    if types.contains(&shape.ty) {
        return Some(column);
    }
    let names: Vec<&str> = types.iter().map(|ty| ty.name()).collect();
    section.problem(key, format!("`{}` has the type {}, and must have {}", shape.name, shape.ty, names.join(" or ")));
    None
}

/// A required column of numbers.
pub fn number(section: &mut Section<'_>, key: &'static str, schema: &Schema) -> Option<usize> {
    typed(section, key, schema, &[Type::Float64, Type::Int64])
}

/// The words of events.
pub fn words<T: Copy>(
    section: &mut Section<'_>,
    key: &'static str,
    known: &[(&'static str, T)],
) -> Option<BTreeMap<String, T>> {
    if !section.has(key) {
        return Some(known.iter().map(|(word, meaning)| ((*word).to_owned(), *meaning)).collect());
    }
    let mut words = BTreeMap::new();
    let mut is_good = true;
    for (word, meaning) in section.string_map(key)? {
        match known.iter().find(|(name, _)| *name == meaning) {
            Some((_, meaning)) => {
                words.insert(word, *meaning);
            }
            None => {
                section.unknown_name(key, "event", &meaning, known.iter().map(|(name, _)| *name));
                is_good = false;
            }
        }
    }
    is_good.then_some(words)
}

/// How places are told: by the coordinates of drivers.
pub fn metric(section: &mut Section<'_>) -> Option<Metric> {
    let is_plane = section.has("driver_x") || section.has("driver_y");
    let is_globe = section.has("driver_lat") || section.has("driver_lon");
    match (is_plane, is_globe) {
        (true, false) => Some(Metric::Plane),
        (false, true) if !section.has("latitude") => {
            section.problem("latitude", "`latitude` is missing: that of the middle of the map, in degrees");
            None
        }
        (false, true) => section.float_in("latitude", -89.0..=89.0).map(Metric::Globe),
        _ => {
            section.problem(
                "driver_x",
                "places are on the plane (`driver_x`, `driver_y`) or on the globe (`driver_lat`, `driver_lon`): one of \
                 the two",
            );
            None
        }
    }
}

/// The columns of coordinates.
pub fn place(
    section: &mut Section<'_>,
    metric: Metric,
    plane: [&'static str; 2],
    globe: [&'static str; 2],
    schema: &Schema,
) -> Option<[usize; 2]> {
    let keys = if metric == Metric::Plane { plane } else { globe };
    let [a, b] = keys.map(|key| number(section, key, schema));
    Some([a?, b?])
}

/// The columns of a cell's key, where cells have one.
pub fn cell(section: &mut Section<'_>, key: &'static str, schema: &Schema, coding: Coding) -> Option<Vec<usize>> {
    match coding {
        Coding::Nothing => return Some(Vec::new()),
        Coding::H3(_) if section.has(key) => {
            section.problem(key, format!("with `h3` a place's cell is its hexagon: there is no `{key}`"));
            return None;
        }
        Coding::H3(_) => return Some(Vec::new()),
        Coding::Tabular | Coding::Tiles(_) => {}
    }
    if !section.has(key) {
        section.problem(key, format!("`{key}` is missing: the columns by which values are learned"));
        return None;
    }
    let columns = section.columns(key, schema)?;
    let is_good = |c: &usize| matches!(schema.columns[*c].ty, Type::String | Type::Int64 | Type::Bool);
    if columns.is_empty() || !columns.iter().all(is_good) {
        section.problem(key, format!("`{key}` must name columns of string, int64 or bool"));
        return None;
    }
    Some(columns)
}

/// Which cells places have, if values count.
pub fn coding(section: &mut Section<'_>, metric: Option<Metric>) -> Option<Coding> {
    match (section.has("tile_size"), section.has("h3")) {
        (false, false) => Some(Coding::Tabular),
        (true, false) => positive(section, "tile_size", 1.0).map(Coding::Tiles),
        (true, true) => {
            section.problem("h3", "places have tiles or hexagons: `tile_size` or `h3`, not both");
            None
        }
        (false, true) if metric == Some(Metric::Plane) => {
            section.problem("h3", "hexagons are on the globe: places are wanted as `…_lat` and `…_lon`");
            None
        }
        (false, true) => h3::read(section).map(Coding::H3),
    }
}

/// The events of drivers.
pub fn drivers(section: &mut Section<'_>, input: Input, metric: Metric, coding: Coding) -> Option<Drivers> {
    let schema = &input.schema;
    let driver = section.column("driver", schema);
    let event = typed(section, "driver_event", schema, &[Type::String]);
    let words = words(section, "driver_words", &Report::WORDS);
    let place = place(section, metric, ["driver_x", "driver_y"], ["driver_lat", "driver_lon"], schema);
    let cell = cell(section, "driver_cell", schema, coding);
    let (driver, event, words, place, cell) = (driver?, event?, words?, place?, cell?);
    Some(Drivers { input, driver, event, words, place, cell })
}

/// The stream of values.
pub fn values(section: &mut Section<'_>, input: Input) -> Option<ValuesInput> {
    let mut column = |name: &str, ty: Type| {
        let found = input.schema.index_of(name).filter(|c| input.schema.columns[*c].ty == ty);
        if found.is_none() {
            section.problem("values_input", format!("`{}` has no column `{name}` of {ty}", input.relation));
        }
        found
    };
    let (cell, value) = (column("cell", Type::String), column("value", Type::Float64));
    let (cell, value) = (cell?, value?);
    Some(ValuesInput { input, cell, value })
}
