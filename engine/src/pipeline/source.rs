//! `[sources.NAME]`: what every source says, what its connector makes of the rest, and whether the two agree.

use std::path::Path;

use types::{Column, SEQ, Schema, Type};

use super::section::Section;
use super::tree::{Entry, Reading, Value};
use crate::catalogue::{Catalogue, OptionDef};
use crate::plan::{PlannedSource, SourceShape};

/// The keys every source has, beside those of its connector.
pub const SOURCE_OPTIONS: [OptionDef; 7] = [
    OptionDef { name: "type", shape: "string", default: None, doc: "The connector." },
    OptionDef {
        name: "columns",
        shape: "table of name = type",
        default: Some("what the connector knows"),
        doc: "The columns in order. Types: `bool`, `int64`, `float64`, `string`, `timestamp`. Names beginning with an underscore are reserved.",
    },
    OptionDef {
        name: "key",
        shape: "column or list of columns",
        default: Some("none"),
        doc: "With a key the source is a table: a row replaces the one of its key. Without, it is a stream that only grows.",
    },
    OptionDef {
        name: "event_time",
        shape: "timestamp column",
        default: Some("none"),
        doc: "When a row happened. Functions of history need it.",
    },
    OptionDef {
        name: "out_of_orderness_secs",
        shape: "float",
        default: Some("0"),
        doc: "By how much a row may lag behind the greatest event time seen. A row that lags more is late and becomes a fault.",
    },
    OptionDef {
        name: "idle_secs",
        shape: "float",
        default: Some("never"),
        doc: "After this much silence of the source, event time goes on without it.",
    },
    OptionDef {
        name: "tombstone",
        shape: "bool column",
        default: Some("none"),
        doc: "A row in which it is true deletes its key's row. The column itself is not kept.",
    },
];

/// Whether a name is one of a source or a step.
pub(super) fn is_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_lowercase() || c == '_')
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
}

/// Reads a source. `None` if something is wrong with it.
pub(super) fn read(reading: &Reading, entry: &Entry, base_dir: &Path, catalogue: &Catalogue) -> Option<PlannedSource> {
    let Value::Table(table) = &entry.node.value else {
        reading.problem(
            "sources",
            entry.at,
            &format!("`{}` must be a table, found {}", entry.key, entry.node.value.shape()),
        );
        return None;
    };
    let before = reading.mistakes();
    let section = &mut Section::new(reading, format!("sources.{}", entry.key), entry.at, table);
    let connector_name = section.required_string("type");
    let def = connector_name.as_deref().and_then(|name| {
        let found = catalogue.connector(name);
        if found.is_none() {
            section.unknown_name("type", "source type", name, catalogue.connectors.iter().map(|c| c.name));
        }
        found
    });

    let mut shape = SourceShape {
        name: entry.key.clone(),
        base_dir: base_dir.to_owned(),
        columns: columns(section),
        key: key(section),
        event_time: section.string("event_time"),
        tombstone: section.string("tombstone"),
    };
    for column in &mut shape.columns {
        // A row without its key or its time can be put nowhere.
        column.nullable = !shape.key.contains(&column.name) && shape.event_time.as_ref() != Some(&column.name);
    }
    let out_of_orderness = section.secs("out_of_orderness_secs");
    let idle = section.secs("idle_secs");

    let good_so_far = reading.mistakes() == before;
    let connector = def.and_then(|def| (def.plan)(section, &mut shape));
    if !shape.columns.is_empty() || (good_so_far && connector.is_some()) {
        check_shape(section, &shape);
    }
    if shape.event_time.is_none() && good_so_far {
        for (key, given) in [("out_of_orderness_secs", out_of_orderness), ("idle_secs", idle)] {
            if given.is_some() {
                section.problem(key, format!("`{key}` says nothing without an `event_time`"));
            }
        }
    }
    if let Some(def) = def {
        let listed: Vec<&str> = SOURCE_OPTIONS.iter().chain(def.options).map(|o| o.name).collect();
        section.finish(&listed, connector.is_some());
    }
    if reading.mistakes() > before {
        return None;
    }

    let names: Vec<String> = shape.columns.iter().map(|c| c.name.clone()).collect();
    let position = |name: &String| names.iter().position(|n| n == name).expect("checked");
    for name in &shape.key {
        shape.columns[position(name)].nullable = false;
    }
    Some(PlannedSource {
        name: shape.name.clone(),
        connector_name: connector_name?,
        connector: connector?,
        tombstone: shape.tombstone.as_ref().map(position),
        schema: schema(&shape),
        out_of_orderness: out_of_orderness.unwrap_or(0),
        idle_after_ms: idle.map(|micros| (micros as u64).div_ceil(1000)),
        stored: !shape.key.is_empty(),
        delivered: shape.columns,
    })
}

/// The declared columns; those of a wrong type are there too, so that nothing else is said of them.
fn columns(section: &mut Section<'_>) -> Vec<Column> {
    let mut columns = Vec::new();
    for (name, ty) in section.string_map("columns").unwrap_or_default() {
        let ty = section.source_type(&name, &ty).unwrap_or(Type::String);
        columns.push(Column { name, ty, nullable: true });
    }
    columns
}

fn key(section: &mut Section<'_>) -> Vec<String> {
    let items = section.items("key").unwrap_or_default();
    if items.is_empty() && !section.failed() && section.has("key") {
        section.problem("key", "`key` must name at least one column; a stream without a key leaves it out");
    }
    let mut names: Vec<String> = Vec::new();
    for (name, at) in items {
        if names.contains(&name) {
            section.report(at, &format!("the column `{name}` is named twice"));
        } else {
            names.push(name);
        }
    }
    names
}

/// Whether names and types agree. The columns may be the connector's.
fn check_shape(section: &mut Section<'_>, shape: &SourceShape) {
    if shape.columns.is_empty() {
        section.problem("columns", "`columns` is missing: expected a table of name = type");
        return;
    }
    for (i, column) in shape.columns.iter().enumerate() {
        let key = format!("columns.{}", column.name);
        if column.name.starts_with('_') {
            section
                .problem(&key, format!("the column name `{}` is reserved: it begins with an underscore", column.name));
        } else if column.name.is_empty() || column.name.chars().any(char::is_control) {
            section.problem(&key, format!("{:?} is no name for a column", column.name));
        } else if shape.columns[..i].iter().any(|c| c.name == column.name) {
            section.problem(&key, format!("the column `{}` is there twice", column.name));
        }
    }
    let known: Vec<&str> = shape.columns.iter().map(|c| c.name.as_str()).collect();
    let find = |section: &mut Section<'_>, key: &str, name: &str| {
        let found = shape.columns.iter().find(|c| c.name == name);
        if found.is_none() {
            section.unknown_name(key, "column", name, known.iter().copied());
        }
        found
    };
    for name in &shape.key {
        find(section, "key", name);
    }
    if let Some(name) = &shape.event_time
        && let Some(column) = find(section, "event_time", name)
        && column.ty != Type::Timestamp
    {
        section
            .problem("event_time", format!("`event_time` must be a timestamp column, and `{name}` is {}", column.ty));
    }
    if let Some(name) = &shape.tombstone {
        if let Some(column) = find(section, "tombstone", name)
            && column.ty != Type::Bool
        {
            section.problem("tombstone", format!("`tombstone` must be a bool column, and `{name}` is {}", column.ty));
        }
        if shape.key.is_empty() {
            section.problem("tombstone", "`tombstone` needs a `key`: a stream has no rows to delete");
        } else if shape.key.contains(name) {
            section.problem("tombstone", format!("`{name}` cannot be tombstone and key"));
        }
    }
}

fn schema(shape: &SourceShape) -> Schema {
    let append_only = shape.key.is_empty();
    let mut columns: Vec<Column> =
        shape.columns.iter().filter(|c| shape.tombstone.as_ref() != Some(&c.name)).cloned().collect();
    let position = |name: &String| columns.iter().position(|c| c.name == *name).expect("checked");
    let event_time = shape.event_time.as_ref().map(position);
    let key = if append_only { vec![columns.len()] } else { shape.key.iter().map(position).collect() };
    if append_only {
        columns.push(Column { name: SEQ.to_owned(), ty: Type::Int64, nullable: false });
    }
    Schema { columns, key, event_time, append_only }
}
