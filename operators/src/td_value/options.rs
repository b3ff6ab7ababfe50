//! From a step's section to a value function that cannot be wrong: which columns say what, and how it is learned.

use std::sync::Arc;

use engine::catalogue::Relations;
use engine::pipeline::Section;
use types::{SEQ, Schema, Type, Value};

use super::artefact::{Artefact, fits};
use super::calendar::{self, Anchor, Calendar, Point};
use crate::dispatch::tiles::TILED_CELLS;
use crate::h3::Levels;

/// A value function that has been checked.
#[derive(Clone, Debug)]
pub struct TdValue {
    /// What is read.
    pub relation: String,
    /// Its schema.
    pub input: Schema,
    /// The column of the event time.
    pub at: usize,
    /// The column that numbers the records.
    pub seq: Option<usize>,
    /// Which columns describe a transition.
    pub transition: Transition,
    /// How it is learned.
    pub rates: Rates,
    /// Where places are, if states have any.
    pub places: Option<Places>,
    /// When the table moves.
    pub calendar: Calendar,
    /// What it is drawn to.
    pub offline: Option<Arc<Artefact>>,
    /// Whether there is the view `errors`.
    pub has_errors: bool,
    /// Whether there is the stream `changes`.
    pub has_changes: bool,
}

/// Which columns describe a transition.
#[derive(Clone, Debug)]
pub struct Transition {
    /// The state that is left.
    pub state: Vec<usize>,
    /// The state that is reached.
    pub next_state: Vec<usize>,
    /// What was earned.
    pub reward: usize,
    /// How long it took, in seconds.
    pub duration: Option<usize>,
    /// What learns for itself.
    pub partition: Vec<usize>,
}

/// How it is learned.
#[derive(Clone, Copy, Debug)]
pub struct Rates {
    /// The step size, or the first.
    pub alpha: f64,
    /// How fast steps fall.
    pub power: f64,
    /// The least step.
    pub least: f64,
    /// The discount of one unit of time.
    pub gamma: f64,
    /// The value of an unknown state.
    pub initial: f64,
    /// The unit of time.
    pub duration_unit_secs: f64,
}

impl Rates {
    /// γ^(Δt / unit). The power is libm's own, the same on every machine.
    pub fn discount(&self, duration_secs: f64) -> f64 {
        libm::pow(self.gamma, duration_secs / self.duration_unit_secs)
    }

    /// The step of a state with so many visits.
    #[inline]
    pub fn step(&self, visits: i64) -> f64 {
        if self.power == 0.0 {
            return self.alpha;
        }
        (self.alpha / libm::pow(1.0 + visits as f64, self.power)).max(self.least)
    }
}

/// By what places have cells.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Grid {
    /// Beside the cell of the key, square tiles of this side in shifted grids.
    Tiles(f64),
    /// The hexagons of H3, of several resolutions; there is no key.
    H3(Levels),
}

/// Where places are.
#[derive(Clone, Copy, Debug)]
pub struct Places {
    /// Their cells.
    pub grid: Grid,
    /// The columns of the coordinates.
    pub place: [usize; 2],
    /// As above.
    pub next_place: [usize; 2],
}

impl Grid {
    /// The hexagons of these resolutions, from fine to coarse; `None` if that is not what they are.
    pub fn h3(resolutions: &[i64]) -> Option<Grid> {
        Levels::new(resolutions).map(Grid::H3)
    }

    /// Of how many cells the value of a place is the mean.
    pub fn width(&self) -> usize {
        match self {
            Grid::Tiles(_) => TILED_CELLS,
            Grid::H3(levels) => levels.count(),
        }
    }
}

/// A cell's name, from the cells of its key. Only where names could be taken for others are they escaped.
pub fn cell_name(key: &[Value], has_tiles: bool) -> String {
    let text = |value: &Value| match value {
        Value::Null => "null".to_owned(),
        Value::Bool(v) => v.to_string(),
        Value::Int(v) | Value::Time(v) => v.to_string(),
        Value::Float(v) => v.to_string(),
        Value::Decimal(v) => v.to_string(),
        Value::Str(v) if key.len() == 1 && !has_tiles => v.clone(),
        Value::Str(v) => v.replace('\\', "\\\\").replace('|', "\\|").replace('~', "\\~"),
    };
    let parts: Vec<String> = key.iter().map(text).collect();
    parts.join("|")
}

/// Reads a step's section, and reports everything that is wrong with it.
pub fn read(section: &mut Section<'_>, relations: &Relations<'_>) -> Option<TdValue> {
    read_with(section, relations, true)
}

/// As [`read`], for a step whose offline value function is still to be made: `offline` is not looked at.
pub fn read_to_train(section: &mut Section<'_>, relations: &Relations<'_>) -> Option<TdValue> {
    read_with(section, relations, false)
}

fn read_with(section: &mut Section<'_>, relations: &Relations<'_>, loads: bool) -> Option<TdValue> {
    let (relation, schema) = relations.input(section, "input")?;
    let (state, next_state) = if section.has("h3") {
        (no_columns(section, "state"), no_columns(section, "next_state"))
    } else {
        (required_columns(section, "state", schema), required_columns(section, "next_state", schema))
    };
    let reward = section.column("reward", schema);
    let duration = if section.has("duration") { section.column("duration", schema).map(Some) } else { Some(None) };
    let partition = if section.has("partition") { section.columns("partition", schema) } else { Some(Vec::new()) };
    let rates = read_rates(section);
    let places = read_places(section, schema);
    let calendar = read_calendar(section);
    let has_errors = flag(section, "errors");
    let has_changes = flag(section, "changes");
    let offline = match (&rates, &places) {
        _ if !loads => {
            if section.has("offline") {
                section.string("offline").map(|_| None)
            } else {
                Some(None)
            }
        }
        (Some(rates), Some(places)) => read_offline(section, rates, places.map(|p| p.grid)),
        _ => None,
    };
    if let (Some(calendar), Some(offline), true) = (&calendar, &offline, loads) {
        let wants = calendar.points().iter().any(|p| p.anchor == Anchor::Offline);
        match offline {
            None if wants => section.problem("change_points", "`to = \"offline\"` needs the option `offline`"),
            Some(_) if !wants => section.problem("offline", "no change point has `to = \"offline\"`"),
            _ => {}
        }
    }
    let at = schema.event_time.filter(|_| schema.append_only);
    if at.is_none() {
        section.problem("input", format!("`{relation}` is no stream with an event time, and history needs one"));
    }
    let seq = schema.index_of(SEQ).filter(|c| schema.columns[*c].ty == Type::Int64);
    if has_changes == Some(true) && seq.is_none() {
        section.problem("changes", format!("`{relation}` has no column `{SEQ}`, which numbers the records"));
    }
    let td = TdValue {
        relation,
        input: schema.clone(),
        at: at?,
        seq,
        transition: Transition {
            state: state?,
            next_state: next_state?,
            reward: reward?,
            duration: duration?,
            partition: partition?,
        },
        rates: rates?,
        places: places?,
        calendar: calendar?,
        offline: offline?,
        has_errors: has_errors?,
        has_changes: has_changes?,
    };
    match td.check() {
        Ok(()) => Some(td),
        Err((key, message)) => {
            section.problem(key, message);
            None
        }
    }
}

fn required_columns(section: &mut Section<'_>, key: &'static str, schema: &Schema) -> Option<Vec<usize>> {
    section.required_strings(key)?;
    let columns = section.columns(key, schema)?;
    if columns.is_empty() {
        section.problem(key, format!("`{key}` must name a column"));
        return None;
    }
    Some(columns)
}

fn flag(section: &mut Section<'_>, key: &'static str) -> Option<bool> {
    if section.has(key) { section.boolean(key) } else { Some(false) }
}

/// A number, and whether it is as it must be.
fn number(
    section: &mut Section<'_>,
    key: &'static str,
    default: Option<f64>,
    is_good: impl Fn(f64) -> bool,
    expected: &str,
) -> Option<f64> {
    let value = if section.has(key) {
        section.float(key)?
    } else {
        if default.is_none() {
            section.problem(key, format!("`{key}` is missing: expected a number"));
        }
        default?
    };
    if !is_good(value) {
        section.problem(key, format!("`{key}` is {value}, and must be {expected}"));
        return None;
    }
    Some(value)
}

fn read_rates(section: &mut Section<'_>) -> Option<Rates> {
    let alpha = number(section, "alpha", None, |v| v > 0.0 && v <= 1.0, "above 0 and at most 1");
    let power = number(section, "alpha_power", Some(0.0), |v| (0.0..=1.0).contains(&v), "from 0 to 1");
    let most = alpha.unwrap_or(1.0);
    let least = number(section, "alpha_least", Some(0.0), |v| v >= 0.0 && v <= most, "from 0 to `alpha`");
    let gamma = number(section, "gamma", None, |v| (0.0..=1.0).contains(&v), "from 0 to 1");
    let initial = number(section, "initial", Some(0.0), f64::is_finite, "finite");
    let is_unit = |v: f64| v > 0.0 && v.is_finite();
    let unit = number(section, "duration_unit_secs", Some(1.0), is_unit, "above 0 and finite");
    Some(Rates {
        alpha: alpha?,
        power: power?,
        least: least?,
        gamma: gamma?,
        initial: initial? + 0.0,
        duration_unit_secs: unit?,
    })
}

/// With H3 a state is a place and has no key.
fn no_columns(section: &mut Section<'_>, key: &'static str) -> Option<Vec<usize>> {
    if section.has(key) {
        section.problem(key, format!("with `h3` a state is its place alone: there is no `{key}`"));
        return None;
    }
    Some(Vec::new())
}

fn read_places(section: &mut Section<'_>, schema: &Schema) -> Option<Option<Places>> {
    let grid = match (section.has("tile_size"), section.has("h3")) {
        (false, false) => {
            for key in ["place", "next_place"] {
                if section.has(key) {
                    let message = format!("`{key}` is for tiles or hexagons, and there is no `tile_size` and no `h3`");
                    section.problem(key, message);
                    return None;
                }
            }
            return Some(None);
        }
        (true, true) => {
            section.problem("h3", "places have tiles or hexagons: `tile_size` or `h3`, not both");
            return None;
        }
        (true, false) => {
            number(section, "tile_size", None, |v| v > 0.0 && v.is_finite(), "above 0 and finite").map(Grid::Tiles)
        }
        (false, true) => crate::h3::read(section).map(Grid::H3),
    };
    let mut pair = |key: &'static str| {
        let columns = required_columns(section, key, schema)?;
        let Ok(pair) = <[usize; 2]>::try_from(columns) else {
            section.problem(key, format!("`{key}` must name two columns"));
            return None;
        };
        Some(pair)
    };
    let (place, next_place) = (pair("place"), pair("next_place"));
    Some(Some(Places { grid: grid?, place: place?, next_place: next_place? }))
}

fn read_calendar(section: &mut Section<'_>) -> Option<Calendar> {
    let mut is_good = true;
    let mut offset = 0;
    if section.has("utc_offset") {
        let text = section.string("utc_offset")?;
        match calendar::utc_offset(&text) {
            Some(micros) => offset = micros,
            None => {
                section.problem("utc_offset", format!("`{text}` is no offset: expected `+HH:MM` or `-HH:MM`"));
                is_good = false;
            }
        }
    }
    let mut points = Vec::new();
    if section.has("change_points") {
        for (_, mut one) in section.sections("change_points")? {
            let read = read_point(&mut one, &mut points);
            is_good &= read.is_some();
        }
    }
    is_good.then(|| Calendar::new(offset, points))
}

fn read_point(section: &mut Section<'_>, points: &mut Vec<Point>) -> Option<()> {
    let times = section.required_strings("times");
    let days = if section.has("days") { section.strings("days") } else { Some(Vec::new()) };
    let keep = number(section, "keep", None, |v| (0.0..=1.0).contains(&v), "from 0 to 1");
    let anchors = [("initial", Anchor::Initial), ("offline", Anchor::Offline)];
    let anchor = section.choice_or("to", &anchors, Anchor::Initial);
    section.asked_for_all();
    let mut parsed = Vec::new();
    for text in days.iter().flatten() {
        match calendar::day(text) {
            Some(day) => parsed.push(day),
            None => section.problem("days", format!("`{text}` is neither `mon` … `sun` nor a date `YYYY-MM-DD`")),
        }
    }
    let is_whole = parsed.len() == days.as_ref().map_or(0, Vec::len);
    let mut moments = Vec::new();
    for text in times.iter().flatten() {
        match calendar::time_of_day(text) {
            Some(time) => moments.push(time),
            None => section.problem("times", format!("`{text}` is no time of day: expected `HH:MM` or `HH:MM:SS`")),
        }
    }
    // Only now may one mistake hide the point: each has been told.
    let is_whole = is_whole && days.is_some() && moments.len() == times?.len();
    let (keep, anchor) = (keep?, anchor?);
    points.extend(moments.into_iter().map(|time| Point { time, days: parsed.clone(), keep, anchor }));
    is_whole.then_some(())
}

fn read_offline(section: &mut Section<'_>, rates: &Rates, grid: Option<Grid>) -> Option<Option<Arc<Artefact>>> {
    if !section.has("offline") {
        return Some(None);
    }
    let path = section.string("offline")?;
    let fits = fits(grid, rates.gamma, rates.duration_unit_secs);
    match Artefact::load(std::path::Path::new(&path), &fits) {
        Ok(artefact) => Some(Some(Arc::new(artefact))),
        Err(message) => {
            section.problem("offline", format!("`{path}`: {message}"));
            None
        }
    }
}

impl TdValue {
    /// Of how many cells the value of a state is the mean.
    pub fn width(&self) -> usize {
        self.places.map_or(1, |places| places.grid.width())
    }

    /// The columns that are null where an episode ends.
    pub fn ending(&self) -> &[usize] {
        match &self.places {
            Some(Places { grid: Grid::H3(_), next_place, .. }) => next_place,
            _ => &self.transition.next_state,
        }
    }

    fn check(&self) -> Result<(), (&'static str, String)> {
        let column = |i: usize| &self.input.columns[i];
        let t = &self.transition;
        if t.state.len() != t.next_state.len() {
            return Err(("next_state", "`next_state` must have as many columns as `state`".to_owned()));
        }
        for (state, next) in t.state.iter().zip(&t.next_state).map(|(s, n)| (column(*s), column(*n))) {
            if state.ty != next.ty {
                return Err((
                    "next_state",
                    format!(
                        "`{}` has the type {} and `{}` the type {}: they must be the same",
                        next.name, next.ty, state.name, state.ty
                    ),
                ));
            }
        }
        let mut numbers = vec![("reward", t.reward)];
        numbers.extend(t.duration.map(|d| ("duration", d)));
        if let Some(places) = &self.places {
            numbers.extend(places.place.map(|c| ("place", c)));
            numbers.extend(places.next_place.map(|c| ("next_place", c)));
        }
        for (key, i) in numbers {
            if !matches!(column(i).ty, Type::Float64 | Type::Int64) {
                return Err((
                    key,
                    format!("`{}` has the type {}, and must have float64 or int64", column(i).name, column(i).ty),
                ));
            }
        }
        if let Some(state) = t.state.iter().find(|s| t.partition.contains(s)) {
            return Err(("partition", format!("`{}` is the state itself", column(*state).name)));
        }
        for (i, output) in super::views::outputs(self).iter().enumerate() {
            let columns = &output.schema.columns;
            let twice = |i: &usize| columns[..*i].iter().any(|c| c.name == columns[*i].name);
            if let Some(at) = (0..columns.len()).find(twice) {
                let relation = &self.relation;
                return Err((
                    if i == 0 { "state" } else { "partition" },
                    format!(
                        "the output has a column `{}` of its own: rename that of `{relation}` in a `select` step",
                        columns[at].name
                    ),
                ));
            }
        }
        Ok(())
    }

    /// What the step does, in one line: every option that changes its results.
    pub fn detail(&self) -> String {
        let name = |i: &usize| self.input.columns[*i].name.as_str();
        let names = |columns: &[usize]| columns.iter().map(name).collect::<Vec<_>>().join(", ");
        let t = &self.transition;
        let duration = t.duration.as_ref().map_or(String::new(), |d| format!(" in {}", name(d)));
        let partition = if t.partition.is_empty() { String::new() } else { format!(" by {}", names(&t.partition)) };
        let Rates { alpha, power, least, gamma, initial, duration_unit_secs } = self.rates;
        let mut detail = format!(
            "{} → {} earning {}{duration} of {}{partition}; alpha {alpha}, gamma {gamma} a {duration_unit_secs} s, initial {initial}",
            names(&t.state),
            names(&t.next_state),
            name(&t.reward),
            self.relation,
        );
        if power > 0.0 {
            detail += &format!("; steps fall by power {power} to {least}");
        }
        if let Some(Places { grid, place, next_place }) = &self.places {
            let what = match grid {
                Grid::Tiles(size) => format!("tiles of {size}"),
                Grid::H3(levels) => format!("h3 cells of {levels:?}"),
            };
            detail += &format!("; {what} at {} → {}", names(place), names(next_place));
        }
        if !self.calendar.points().is_empty() {
            detail += &format!("; local time UTC {:+} s", self.calendar.offset as f64 / 1e6);
        }
        for Point { time, days, keep, anchor } in self.calendar.points() {
            detail += &format!("; at {} s of {days:?} keep {keep} to {anchor:?}", *time as f64 / 1e6);
        }
        if let Some(offline) = &self.offline {
            detail += &format!("; offline {:016x}", offline.checksum());
        }
        detail
    }
}
