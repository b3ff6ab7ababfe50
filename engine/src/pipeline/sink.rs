//! `[sinks.NAME]`: which relation is delivered, and what the sink's type makes of the rest.

use types::{Schema, fault_schema};

use super::section::Section;
use super::tree::{Entry, Reading, Value};
use crate::FAULTS;
use crate::catalogue::{Catalogue, OptionDef};
use crate::plan::{PlannedSink, PlannedSource, PlannedStep, SinkShape};

/// The keys every sink has, beside those of its type.
pub const SINK_OPTIONS: [OptionDef; 3] = [
    OptionDef { name: "type", shape: "string", default: None, doc: "Where to." },
    OptionDef {
        name: "view",
        shape: "relation",
        default: None,
        doc: "What is delivered: a step's view (`step` or `step.output`), a table, or `faults`.",
    },
    OptionDef {
        name: "start",
        shape: "one of rows, now",
        default: Some("\"rows\""),
        doc: "What a new sink delivers first: the rows there are, or only what changes from now on.",
    },
];

/// Reads a sink. `None` if something is wrong with it.
pub(super) fn read(
    reading: &Reading,
    entry: &Entry,
    catalogue: &Catalogue,
    sources: &[PlannedSource],
    steps: &[PlannedStep],
) -> Option<PlannedSink> {
    let Value::Table(table) = &entry.node.value else {
        let shape = entry.node.value.shape();
        reading.problem("sinks", entry.at, &format!("`{}` must be a table, found {shape}", entry.key));
        return None;
    };
    let before = reading.mistakes();
    let section = &mut Section::new(reading, format!("sinks.{}", entry.key), entry.at, table);
    let type_name = section.required_string("type");
    let def = type_name.as_deref().and_then(|name| {
        let found = catalogue.sink(name);
        if found.is_none() {
            section.unknown_name("type", "sink type", name, catalogue.sinks.iter().map(|s| s.name));
        }
        found
    });
    let view = section.required_string("view").and_then(|name| relation(section, &name, sources, steps));
    let with_rows = section.choice_or("start", &[("rows", true), ("now", false)], true);
    let planned = match (def, &view) {
        (Some(def), Some((relation, schema))) => {
            let shape = SinkShape { name: entry.key.clone(), relation: relation.clone(), schema: schema.clone() };
            (def.plan)(section, &shape)
        }
        _ => None,
    };
    if let Some(def) = def {
        let listed: Vec<&str> = SINK_OPTIONS.iter().chain(def.options).map(|o| o.name).collect();
        section.finish(&listed, planned.is_some());
    }
    if reading.mistakes() > before {
        return None;
    }
    let (relation, schema) = view?;
    Some(PlannedSink {
        name: entry.key.clone(),
        type_name: type_name?,
        relation,
        schema,
        with_rows: with_rows?,
        sink: planned?,
    })
}

/// A stored relation by its name.
fn relation(
    section: &mut Section<'_>,
    name: &str,
    sources: &[PlannedSource],
    steps: &[PlannedStep],
) -> Option<(String, Schema)> {
    if name == FAULTS {
        return Some((FAULTS.to_owned(), fault_schema()));
    }
    let tables = sources.iter().filter(|s| s.stored).map(|s| (s.name.clone(), &s.schema));
    let stored: Vec<_> = tables.chain(steps.iter().flat_map(PlannedStep::stored_relations)).collect();
    if let Some((name, schema)) = stored.iter().find(|(n, _)| n == name) {
        return Some((name.clone(), (*schema).clone()));
    }
    let passes =
        sources.iter().any(|s| s.name == name) || steps.iter().flat_map(PlannedStep::relations).any(|(n, _)| n == name);
    if passes {
        section
            .problem("view", format!("the rows of `{name}` pass by and are not stored, so they cannot be delivered"));
    } else {
        section.unknown_name("view", "stored relation", name, stored.iter().map(|(n, _)| n.as_str()));
    }
    None
}
