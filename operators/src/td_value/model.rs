//! The obvious function `td_value` maintains: all events one by one over whole tables, every change point at once.

use std::collections::BTreeMap;
use std::sync::Arc;

use engine::catalogue::{Model, Row};
use types::Value;

use super::calendar::Anchor;
use super::options::{Grid, TdValue, cell_name};

/// A cell of a partition's table.
#[derive(Clone, Default)]
struct Cell {
    /// As the main view shows it.
    shown: Row,
    value: f64,
    visits: i64,
    at: i64,
}

/// What is known of a partition.
#[derive(Default)]
struct Part {
    cells: BTreeMap<String, Cell>,
    last_at: i64,
    errors: Vec<f64>,
    refused: i64,
}

/// The model of a step.
pub fn of(td: &Arc<TdValue>) -> Model {
    let td = td.clone();
    Arc::new(move |inputs: &[Vec<Row>]| {
        let mut parts: BTreeMap<Row, Part> = BTreeMap::new();
        let mut told = Vec::new();
        for event in &inputs[0] {
            let partition: Row = td.transition.partition.iter().map(|i| event[*i].clone()).collect();
            let Value::Time(at) = event[td.at] else { panic!("an event without a time") };
            let part = parts.entry(partition.clone()).or_insert_with(|| first(&td, at));
            let before: Vec<(String, f64)> = part.cells.iter().map(|(name, cell)| (name.clone(), cell.value)).collect();
            change(&td, part, at);
            let mut tell = |name: &str, value: f64, seq: Value| {
                let own = [Value::Time(at), Value::Str(name.to_owned()), Value::Float(value), seq];
                told.push(partition.iter().cloned().chain(own).collect::<Row>());
            };
            for (name, old) in before {
                let now = part.cells[&name].value;
                if now.to_bits() != old.to_bits() {
                    tell(&name, now, Value::Int(-1));
                }
            }
            match learn(&td, part, event, at) {
                Some(moved) => {
                    for (name, value) in moved {
                        tell(&name, value, td.seq.map_or(Value::Null, |seq| event[seq].clone()));
                    }
                }
                None => part.refused += 1,
            }
        }
        let mut outputs = vec![Vec::new()];
        let mut errors = Vec::new();
        for (partition, part) in parts {
            let with = |own: Row| partition.iter().cloned().chain(own).collect::<Row>();
            errors.push(with(error_row(&part)));
            for cell in part.cells.into_values().filter(|c| c.visits > 0) {
                let own = [Value::Float(cell.value), Value::Int(cell.visits), Value::Time(cell.at)];
                outputs[0].push(with(cell.shown.into_iter().chain(own).collect()));
            }
        }
        if td.has_errors {
            outputs.push(errors);
        }
        if td.has_changes {
            outputs.push(told);
        }
        outputs
    })
}

/// A partition at its first event: what the offline function knows is worth as much as anything.
fn first(td: &TdValue, at: i64) -> Part {
    let names = td.offline.iter().flat_map(|o| o.names.iter().cloned());
    let cells = names.map(|name| (name, Cell { value: td.rates.initial, ..Cell::default() })).collect();
    Part { cells, last_at: at, ..Part::default() }
}

/// Lets change points pass.
fn change(td: &TdValue, part: &mut Part, at: i64) {
    for change in td.calendar.between(part.last_at, at) {
        for (name, cell) in &mut part.cells {
            let anchor = match change.anchor {
                Anchor::Initial => Some(td.rates.initial),
                Anchor::Offline => {
                    td.offline.as_ref().and_then(|o| o.value(change.time, o.names.iter().position(|n| n == name)?))
                }
            };
            if let Some(anchor) = anchor.filter(|anchor| *anchor != cell.value) {
                cell.value = change.keep * cell.value + (1.0 - change.keep) * anchor + 0.0;
            }
        }
    }
    part.last_at = at;
}

/// Learns from an event. The cells it moved, with their new values; `None` if it is refused.
fn learn(td: &TdValue, part: &mut Part, event: &Row, at: i64) -> Option<Vec<(String, f64)>> {
    let t = &td.transition;
    let number = |column: usize| match &event[column] {
        Value::Float(f) => Some(*f).filter(|f| f.is_finite()),
        Value::Int(i) => Some(*i as f64),
        _ => None,
    };
    let key = |columns: &[usize]| -> Row { columns.iter().map(|c| event[*c].clone()).collect() };
    let (state, next) = (key(&t.state), key(&t.next_state));
    let ending = key(td.ending());
    let nulls = ending.iter().filter(|v| **v == Value::Null).count();
    if state.contains(&Value::Null) || (nulls > 0 && nulls < ending.len()) {
        return None;
    }
    let reward = number(t.reward)?;
    let secs = match t.duration {
        None => td.rates.duration_unit_secs,
        Some(d) => number(d).filter(|secs| *secs >= 0.0)?,
    };
    // A place's cells: by name, with how the view shows them.
    let place = |state: &Row, at: Option<[usize; 2]>| -> Option<Vec<(String, Row)>> {
        let name = cell_name(state, td.places.is_some());
        let (Some(places), Some([a, b])) = (&td.places, at) else { return Some(vec![(name, state.clone())]) };
        let (a, b) = (number(a)?, number(b)?);
        let names: Vec<String> = match places.grid {
            Grid::Tiles(size) => {
                let (x, y) = (a / size, b / size);
                if !(x.abs() < 1e12 && y.abs() < 1e12) {
                    return None;
                }
                let tile = |(dx, dy): (f64, f64)| {
                    let (x, y) = (libm::round(x + 0.3 * dx), libm::round(y + 0.3 * dy));
                    format!("~{},{}", x as i64, y as i64)
                };
                let shifts = [(3.0, 1.0), (1.0, -3.0), (-3.0, -1.0), (-1.0, 3.0), (0.0, 0.0)];
                [name].into_iter().chain(shifts.map(tile)).collect()
            }
            Grid::H3(levels) => {
                if a.abs() > 90.0 || b.abs() > 180.0 {
                    return None;
                }
                let mut names = Vec::new();
                let mut cell = Some(h3o::LatLng::new(a, b).ok()?.to_cell(levels.finest()));
                while let Some(one) = cell {
                    // Up one resolution at a time; of those asked for the name counts.
                    let text = format!("{levels:?}");
                    if text.split(", ").any(|level| level == u8::from(one.resolution()).to_string()) {
                        names.push(one.to_string());
                    }
                    cell = one.resolution().pred().and_then(|coarser| one.parent(coarser));
                }
                names
            }
        };
        Some(names.into_iter().map(|name| (name.clone(), vec![Value::Str(name)])).collect())
    };
    let here = place(&state, td.places.map(|p| p.place))?;
    let ends = nulls == ending.len();
    let there = if ends { Vec::new() } else { place(&next, td.places.map(|p| p.next_place))? };
    let value = |part: &Part, name: &str| part.cells.get(name).map_or(td.rates.initial, |c| c.value);
    let mean = |part: &Part, place: &[(String, Row)]| match place {
        [] => 0.0,
        [(one, _)] => value(part, one),
        _ => place.iter().fold(0.0, |sum, (name, _)| sum + value(part, name)) / place.len() as f64,
    };
    let error = reward + td.rates.discount(secs) * mean(part, &there) - mean(part, &here);
    let visits = part.cells.get(&here[0].0).map_or(0, |c| c.visits);
    let step = if td.rates.power == 0.0 {
        td.rates.alpha
    } else {
        (td.rates.alpha / libm::pow(1.0 + visits as f64, td.rates.power)).max(td.rates.least)
    };
    let mut moved: BTreeMap<String, (f64, Row)> = BTreeMap::new();
    for (name, shown) in here {
        moved.insert(name.clone(), (value(part, &name) + step * error, shown));
    }
    if moved.values().any(|(value, _)| !value.is_finite()) {
        return None;
    }
    part.errors.push(error);
    let mut told = Vec::new();
    for (name, (now, shown)) in moved {
        let cell = part.cells.entry(name.clone());
        let cell = cell.or_insert_with(|| Cell { value: td.rates.initial, ..Cell::default() });
        let old = cell.value;
        *cell = Cell { shown, value: now + 0.0, visits: cell.visits + 1, at };
        if old.to_bits() != cell.value.to_bits() {
            told.push((name, cell.value));
        }
    }
    Some(told)
}

fn error_row(part: &Part) -> Row {
    let finite = |sum: f64| sum.clamp(f64::MIN, f64::MAX);
    let (mut sum, mut sum_absolute, mut greatest) = (0.0, 0.0, 0.0f64);
    for error in &part.errors {
        sum = finite(sum + error);
        sum_absolute = finite(sum_absolute + error.abs());
        greatest = greatest.max(error.abs());
    }
    let count = part.errors.len().max(1) as f64;
    vec![
        Value::Int(part.errors.len() as i64),
        Value::Float(sum / count + 0.0),
        Value::Float(sum_absolute / count + 0.0),
        Value::Float(greatest + 0.0),
        Value::Int(part.refused),
    ]
}
