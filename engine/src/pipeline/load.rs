//! The file as a whole: what stands at its top, sources before steps, steps before tests.

use std::collections::BTreeMap;
use std::path::Path;

use super::section::Section;
use super::tree::{self, Entry, Reading, Table, Value};
use super::{Problems, cases, origin, sink, source, step};
use crate::catalogue::{Catalogue, OperatorDef, OptionDef, Relations};
use crate::plan::{Plan, Settings, StepPlan};

/// The keys of `[epoch]`.
pub const EPOCH_OPTIONS: [OptionDef; 3] = [
    OptionDef {
        name: "rows_max",
        shape: "int64",
        default: Some("10000"),
        doc: "An epoch is closed when it has this many rows.",
    },
    OptionDef {
        name: "interval_ms",
        shape: "int64",
        default: Some("20"),
        doc: "An epoch that has rows is closed after this many milliseconds at most.",
    },
    OptionDef {
        name: "in_flight_max",
        shape: "int64",
        default: Some("4"),
        doc: "How many epochs may be closed and not yet readable. Sources wait when there are as many.",
    },
];

/// The keys of `[retain]`.
pub const RETAIN_OPTIONS: [OptionDef; 1] = [OptionDef {
    name: "epochs",
    shape: "int64",
    default: Some("1000"),
    doc: "How many epochs back can be read with `as_of`, and how far back changes can be subscribed to.",
}];

/// The keys of `[store]`.
pub const STORE_OPTIONS: [OptionDef; 2] = [
    OptionDef {
        name: "stage_rows",
        shape: "int64",
        default: Some("50000"),
        doc: "An epoch that changes at least this many rows, or 256 KiB, is appended to a file of its own instead of going through RocksDB's log.",
    },
    OptionDef {
        name: "apply_rows",
        shape: "int64",
        default: Some("2000000"),
        doc: "When this many changed rows of a relation, or 64 MiB of them, are not yet in sorted files, they are moved there.",
    },
];

const TOP_KEYS: [&str; 8] = ["name", "epoch", "retain", "store", "sources", "steps", "sinks", "tests"];

/// Plans the step of a name, of an operator, from its section.
pub type Planner<'p> = &'p dyn Fn(&str, &OperatorDef, &mut Section<'_>, &Relations<'_>) -> Option<StepPlan>;

/// Reads a pipeline file. `path` is what the file is called and where relative paths start from; it is not opened.
/// `env` gives the value of an environment variable.
///
/// # Errors
/// Every mistake in it, each with its place.
pub fn load(
    path: &Path,
    text: &str,
    env: &dyn Fn(&str) -> Option<String>,
    catalogue: &Catalogue,
) -> Result<Plan, Problems> {
    load_with(path, text, env, catalogue, &|_, def, section, relations| (def.plan)(section, relations))
}

/// As [`load`], with steps planned otherwise than their operators do it, as long as that reads the same options and makes the
/// same outputs: for who wants to know what a pipeline says of a step without running it.
///
/// # Errors
/// As [`load`].
pub fn load_with(
    path: &Path,
    text: &str,
    env: &dyn Fn(&str) -> Option<String>,
    catalogue: &Catalogue,
    planner: Planner<'_>,
) -> Result<Plan, Problems> {
    let (reading, table) = tree::parse(path.display().to_string(), text, env);
    let plan = table.and_then(|table| file(&reading, path, &table, catalogue, planner));
    let (problems, concealed) = reading.into_problems();
    match plan {
        Some(plan) if problems.is_empty() => Ok(Plan { concealed, ..plan }),
        _ => Err(Problems::new(problems)),
    }
}

fn file(reading: &Reading, path: &Path, table: &Table, catalogue: &Catalogue, planner: Planner<'_>) -> Option<Plan> {
    let base_dir = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        _ => Path::new(".").to_owned(),
    };
    let mut top = Section::new(reading, String::new(), 0, table);
    let name = top.required_string("name");
    if let Some(name) = &name
        && (name.is_empty()
            || !name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"_-".contains(&b)))
    {
        top.problem("name", format!("`{name}` is no name for a pipeline: expected a-z, 0-9, `_` and `-`"));
    }
    let settings = settings(&mut top);

    let source_entries = entries(&mut top, "sources");
    let step_entries = entries(&mut top, "steps");
    if source_entries.as_ref().is_some_and(Vec::is_empty) {
        top.problem("sources", "there is no source: expected at least one `[sources.NAME]`");
    }
    let sink_entries = entries(&mut top, "sinks").unwrap_or_default();
    let (source_entries, step_entries) = (source_entries.unwrap_or_default(), step_entries.unwrap_or_default());
    let mut taken: BTreeMap<&str, (&str, usize)> = BTreeMap::new();
    let mut all: Vec<(&str, &Entry)> = source_entries.iter().map(|e| ("source", *e)).collect();
    all.extend(step_entries.iter().map(|e| ("step", *e)));
    all.sort_by_key(|(_, e)| e.at);
    for (what, entry) in all {
        check_name(reading, what, entry, &mut taken);
    }
    // Sinks have a space of names of their own: nothing reads them.
    let mut taken = BTreeMap::new();
    for entry in &sink_entries {
        check_name(reading, "sink", entry, &mut taken);
    }

    let mut sources = Vec::new();
    let mut known = Vec::new();
    for entry in source_entries {
        match source::read(reading, entry, &base_dir, catalogue) {
            Some(source) => {
                known.push((source.name.clone(), source.schema.clone()));
                sources.push(source);
            }
            None => {
                reading.unavailable.borrow_mut().insert(entry.key.clone());
            }
        }
    }
    let mut steps = step::read(reading, &step_entries, catalogue, planner, &mut known);
    origin::derive(&mut sources, &mut steps);
    let sinks = sink_entries.iter().filter_map(|e| sink::read(reading, e, catalogue, &sources, &steps)).collect();
    let tests = cases::read(reading, &mut top, &sources, &known);
    top.finish(&TOP_KEYS, true);
    Some(Plan {
        name: name?,
        base_dir,
        settings: settings?,
        sources,
        steps,
        sinks,
        tests,
        concealed: super::Concealed::NOTHING,
    })
}

/// The entries of a table of tables; `None` if it is none.
fn entries<'t>(top: &mut Section<'t>, key: &'static str) -> Option<Vec<&'t Entry>> {
    match top.node(key) {
        None => Some(Vec::new()),
        Some(node) => match &node.value {
            Value::Table(table) => Some(table.0.iter().collect()),
            _ => top.wrong(key, node, "a table of tables"),
        },
    }
}

fn settings(top: &mut Section<'_>) -> Option<Settings> {
    let defaults = Settings::default();
    let (rows, interval, in_flight) = match top.section("epoch") {
        Some(mut epoch) => (
            epoch.int_in("rows_max", 1..=10_000_000),
            epoch.int_in("interval_ms", 1..=60_000),
            epoch.int_in("in_flight_max", 1..=1_000),
        ),
        None => (None, None, None),
    };
    let epochs = top.section("retain").and_then(|mut retain| retain.int_in("epochs", 1..=i64::MAX));
    let (stage, apply) = match top.section("store") {
        Some(mut store) => {
            (store.int_in("stage_rows", 1..=1_000_000_000), store.int_in("apply_rows", 1..=1_000_000_000))
        }
        None => (None, None),
    };
    Some(Settings {
        epoch_rows_max: rows.map_or(defaults.epoch_rows_max, |v| v as usize),
        epoch_interval_ms: interval.map_or(defaults.epoch_interval_ms, |v| v as u64),
        epochs_in_flight_max: in_flight.map_or(defaults.epochs_in_flight_max, |v| v as usize),
        retain_epochs: epochs.map_or(defaults.retain_epochs, |v| v as u64),
        stage_rows: stage.map_or(defaults.stage_rows, |v| v as usize),
        apply_rows: apply.map_or(defaults.apply_rows, |v| v as usize),
    })
}

/// Sources and steps share one space of names.
fn check_name<'t>(reading: &Reading, what: &'t str, entry: &'t Entry, taken: &mut BTreeMap<&'t str, (&'t str, usize)>) {
    let name = entry.key.as_str();
    let section = format!("{what}s.{name}");
    if !source::is_name(name) {
        reading.problem(
            &section,
            entry.at,
            &format!("{name:?} is no name for a {what}: expected a-z, 0-9 and `_`, no digit first"),
        );
    } else if name == crate::FAULTS {
        reading.problem(
            &section,
            entry.at,
            &format!("`{name}` is reserved: it is the view of what could not be processed"),
        );
    } else if let Some((other, at)) = taken.get(name) {
        let line = reading.line(*at);
        reading.problem(&section, entry.at, &format!("there is a {other} `{name}` already, on line {line}"));
    } else {
        taken.insert(name, (what, entry.at));
    }
}
