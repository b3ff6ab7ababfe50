//! `[[tests]]`: rows in, rows expected, checked against the schemas they are rows of. [`crate::testing`] runs them.

use std::collections::BTreeSet;

use toml::value::{Datetime, Offset};
use types::{Column, Micros, Schema, Type, Value as Cell, fault_schema};

use super::section::Section;
use super::tree::{Entry, Node, Reading, Table, Value};
use crate::FAULTS;
use crate::catalogue::Row;
use crate::plan::{ExpectedRows, PlanTest, PlannedSource};

/// Reads the tests. A relation that is missing because of another mistake is passed over. Of the sources it is known
/// whether they are stored, unless there is such a mistake.
pub(super) fn read(
    reading: &Reading,
    top: &mut Section<'_>,
    sources: &[PlannedSource],
    known: &[(String, Schema)],
) -> Vec<PlanTest> {
    let Some(node) = top.node("tests") else { return Vec::new() };
    let Value::List(list) = &node.value else {
        return top.wrong("tests", node, "a list of tables: `[[tests]]`").unwrap_or_default();
    };
    let whole = reading.mistakes() == 0;
    let mut tests: Vec<PlanTest> = Vec::new();
    for (i, node) in list.iter().enumerate() {
        let Value::Table(table) = &node.value else {
            top.wrong::<()>("tests", node, "a list of tables: `[[tests]]`");
            continue;
        };
        let section = &mut Section::new(reading, format!("tests.{}", i + 1), node.at, table);
        let name = section.required_string("name");
        let test = one(section, sources, known, whole);
        section.finish(&[], true);
        let Some(name) = name else { continue };
        if let Some(other) = tests.iter().find(|t| t.name == name) {
            section.problem("name", format!("there is a test `{name}` already, on line {}", other.line));
        } else if name.trim().is_empty() || name.contains(char::is_control) {
            section.problem("name", format!("{name:?} is no name for a test: expected some words on one line"));
        }
        tests.push(PlanTest { name, line: reading.line(node.at), ..test });
    }
    tests
}

fn one(section: &mut Section<'_>, sources: &[PlannedSource], known: &[(String, Schema)], whole: bool) -> PlanTest {
    let mut given = Vec::new();
    for entry in relations(section, "given") {
        let Some(source) = sources.iter().find(|s| s.name == entry.key) else {
            section.unknown_relation(entry, "source", sources.iter().map(|s| s.name.as_str()));
            continue;
        };
        let rows = rows(section, entry)
            .into_iter()
            .map(|(_, table)| {
                let cells = cells(section, table, &source.delivered);
                source.delivered.iter().map(|c| cell_of(&cells, c)).collect()
            })
            .collect();
        given.push((source.name.clone(), rows));
    }
    let mut expect = Vec::new();
    let faults = fault_schema();
    for entry in relations(section, "expect") {
        let found = known.iter().find(|(n, _)| *n == entry.key).map(|(_, s)| s);
        let Some(schema) = found.or((entry.key == FAULTS).then_some(&faults)) else {
            section.unknown_relation(entry, "relation", known.iter().map(|(n, _)| n.as_str()).chain([FAULTS]));
            continue;
        };
        if whole && sources.iter().any(|s| s.name == entry.key && !s.stored) {
            let name = &entry.key;
            section.report(entry.at, &format!("`{name}` is a stream whose rows pass by: it has none in the end"));
        }
        let listed = rows(section, entry);
        let rows: Vec<Vec<(&str, Cell)>> =
            listed.iter().map(|(_, table)| cells(section, table, &schema.columns)).collect();
        let named: BTreeSet<&str> = rows.iter().flatten().map(|(n, _)| *n).collect();
        let columns: Vec<usize> =
            (0..schema.columns.len()).filter(|i| named.contains(schema.columns[*i].name.as_str())).collect();
        let rows: Vec<Row> =
            rows.iter().map(|cells| columns.iter().map(|i| cell_of(cells, &schema.columns[*i])).collect()).collect();
        one_row_a_key(section, entry, schema, &columns, &rows, &listed);
        expect.push(ExpectedRows { relation: entry.key.clone(), line: section.line(entry.at), columns, rows });
    }
    PlanTest { name: String::new(), line: 0, given, expect }
}

/// Where the whole key is named, no two rows may have the same one.
fn one_row_a_key(
    section: &mut Section<'_>,
    entry: &Entry,
    schema: &Schema,
    columns: &[usize],
    rows: &[Row],
    listed: &[(usize, &Table)],
) {
    let key: Option<Vec<usize>> = schema.key.iter().map(|k| columns.iter().position(|c| c == k)).collect();
    let Some(key) = key else { return };
    let mut seen = BTreeSet::new();
    for (row, (at, _)) in rows.iter().zip(listed) {
        if !seen.insert(key.iter().map(|k| &row[*k]).collect::<Vec<_>>()) && !section.failed() {
            section
                .report(*at, &format!("`{}` has one row for each key, and this key stands above already", entry.key));
        }
    }
}

/// The relations of `given` or `expect`.
fn relations<'t>(section: &mut Section<'t>, key: &'static str) -> &'t [Entry] {
    match section.node(key) {
        Some(Node { value: Value::Table(table), .. }) if table.0.is_empty() && key == "expect" => {
            section.problem(key, "`expect` names no relation: such a test shows nothing");
            &[]
        }
        Some(Node { value: Value::Table(table), .. }) => &table.0,
        Some(node) => section.wrong(key, node, "a table of relations").unwrap_or_default(),
        None => {
            section.problem(key, format!("`{key}` is missing: expected a table of relations with their rows"));
            &[]
        }
    }
}

/// The rows of a relation, each with its place.
fn rows<'t>(section: &mut Section<'_>, entry: &'t Entry) -> Vec<(usize, &'t Table)> {
    let list = match &entry.node.value {
        Value::List(list) => list,
        Value::Table(Table(inner)) if !inner.is_empty() => {
            // `match.prices = […]` is a table `match` in TOML.
            let whole = format!("{}.{}", entry.key, inner[0].key);
            let shape = format!("a list of rows (a name with a dot stands in quotes: `\"{whole}\"`)");
            return section.wrong(&entry.key, &entry.node, &shape).unwrap_or_default();
        }
        _ => return section.wrong(&entry.key, &entry.node, "a list of rows").unwrap_or_default(),
    };
    let mut rows = Vec::new();
    for node in list {
        match &node.value {
            Value::Table(table) => rows.push((node.at, table)),
            _ => section.wrong(&entry.key, node, "a list of rows, each a table of column = value").unwrap_or_default(),
        }
    }
    rows
}

fn cells<'t>(section: &mut Section<'_>, table: &'t Table, columns: &[Column]) -> Vec<(&'t str, Cell)> {
    let mut cells = Vec::new();
    for entry in &table.0 {
        let Some(column) = columns.iter().find(|c| c.name == entry.key) else {
            let names: Vec<&str> = columns.iter().map(|c| c.name.as_str()).filter(|n| *n != types::SEQ).collect();
            section.unknown(entry.at, "column", &entry.key, &names);
            continue;
        };
        match cell(&entry.node.value, column.ty) {
            Some(cell) => cells.push((entry.key.as_str(), cell)),
            None => section.wrong(&entry.key, &entry.node, &format!("of type {}", column.ty)).unwrap_or_default(),
        }
    }
    cells
}

/// A column's cell; null if the row does not name it.
fn cell_of(cells: &[(&str, Cell)], column: &Column) -> Cell {
    cells.iter().find(|(n, _)| *n == column.name).map_or(Cell::Null, |(_, c)| c.clone())
}

fn cell(value: &Value, ty: Type) -> Option<Cell> {
    Some(match (ty, value) {
        (Type::Bool, Value::Bool(v)) => Cell::Bool(*v),
        (Type::Int64, Value::Int(v)) => Cell::Int(*v),
        (Type::Float64, Value::Int(v)) => Cell::Float(*v as f64),
        // One NaN and one zero, as everywhere.
        (Type::Float64, Value::Float(v)) if v.is_nan() => Cell::Float(f64::NAN),
        (Type::Float64, Value::Float(v)) => Cell::Float(*v + 0.0),
        (Type::String, Value::String(v)) => Cell::Str(v.clone()),
        (Type::Decimal, Value::Int(v)) => Cell::Decimal(i128::from(*v)),
        (Type::Decimal, Value::String(v)) => Cell::Decimal(v.parse().ok()?),
        (Type::Timestamp, Value::Time(v)) => Cell::Time(micros(v)?),
        (Type::Timestamp, Value::String(v)) => Cell::Time(micros(&v.parse().ok()?)?),
        _ => return None,
    })
}

/// A date, or a date with a time; in UTC unless it says otherwise.
fn micros(time: &Datetime) -> Option<Micros> {
    let date = time.date?;
    let days = days_from_civil(i64::from(date.year), i64::from(date.month), i64::from(date.day));
    let clock = time.time.map_or(0, |t| {
        let seconds = i64::from(t.hour) * 3600 + i64::from(t.minute) * 60 + i64::from(t.second.unwrap_or(0));
        seconds * 1_000_000 + i64::from(t.nanosecond.unwrap_or(0) / 1000)
    });
    let offset_minutes = match time.offset {
        Some(Offset::Custom { minutes }) => i64::from(minutes),
        Some(Offset::Z) | None => 0,
    };
    Some(days * 86_400_000_000 + clock - offset_minutes * 60_000_000)
}

/// The day number of a civil date (Howard Hinnant, "chrono-compatible low-level date algorithms").
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_they_are_printed() {
        for micros_given in [0, -1, 1_480_000_000_123_000, 951_782_400_000_000] {
            let text = types::json::rfc3339(micros_given);
            assert_eq!(micros(&text.parse().unwrap()), Some(micros_given), "{text}");
        }
        assert_eq!(micros(&"1970-01-01T02:00:00+02:00".parse().unwrap()), Some(0));
        assert_eq!(micros(&"1970-01-02".parse().unwrap()), Some(86_400_000_000));
        assert_eq!(micros(&"12:00:00".parse().unwrap()), None);
    }
}
