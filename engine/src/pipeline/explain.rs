//! A plan as text and as a graph: what is read, what each step does, how rows travel, what is kept.

use std::fmt::Write as _;

use types::{Micros, SEQ, Schema};

use crate::FAULTS;
use crate::plan::{Origin, Plan, PlannedSink, PlannedSource, PlannedStep, Route, StepInput};

/// The plan as text, a paragraph for every source and step.
pub fn text(plan: &Plan) -> String {
    let mut out = format!("pipeline {}\nfingerprint {}\n", plan.name, plan.fingerprint());
    for source in &plan.sources {
        let _ = write!(out, "\nsource {}: {}\n", source.name, source.connector_name);
        line(&mut out, "reads", &plan.concealed.hide(&source.connector.describe()));
        line(&mut out, "columns", &columns(&source.schema));
        line(&mut out, "key", &key(&source.schema));
        if let Some(tombstone) = source.tombstone {
            line(&mut out, "tombstone", &source.delivered[tombstone].name);
        }
        if let Some(time) = event_time(source) {
            line(&mut out, "event time", &time);
        }
        line(&mut out, "rows", rows(source));
    }
    for step in &plan.steps {
        let _ = write!(out, "\nstep {}: {}\n", step.name, step.operator);
        if !step.plan.detail.is_empty() {
            line(&mut out, "does", &plan.concealed.hide(&step.plan.detail));
        }
        for input in &step.plan.inputs {
            line(&mut out, "reads", &format!("{}, {}", input.relation, route(plan, input)));
        }
        for (name, schema) in step.relations() {
            let kept = if schema.append_only && !step.keeps_streams { ", passing by" } else { "" };
            line(&mut out, "maintains", &format!("{name} ({}), key {}{kept}", columns(schema), key(schema)));
        }
        line(&mut out, "at restart", at_restart(step.origin));
    }
    for sink in &plan.sinks {
        let _ = write!(out, "\nsink {}: {}\n", sink.name, sink.type_name);
        line(&mut out, "delivers", &sink.relation);
        line(&mut out, "writes", &plan.concealed.hide(&sink.sink.describe()));
    }
    out
}

/// The plan as a graph in Graphviz's language.
pub fn graphviz(plan: &Plan) -> String {
    let escape = |t: &str| t.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', " ");
    let label = |lines: &[String]| lines.iter().map(|l| escape(l)).collect::<Vec<_>>().join("\\n");
    let mut out = format!("digraph \"{}\" {{\n  rankdir=LR;\n  node [fontname=\"sans-serif\"];\n", escape(&plan.name));
    for source in &plan.sources {
        let shape = if source.is_keyed() { "cylinder" } else { "cds" };
        let _ =
            writeln!(out, "  \"{}\" [shape={shape}, label=\"{}\"];", source.name, label(&source_label(plan, source)));
    }
    for step in &plan.steps {
        let _ = writeln!(out, "  \"{}\" [shape=box, label=\"{}\"];", step.name, label(&step_label(plan, step)));
    }
    for step in &plan.steps {
        for input in &step.plan.inputs {
            let told = escape(&edge_label(plan, input));
            let _ = writeln!(out, "  \"{}\" -> \"{}\" [label=\"{told}\"];", giver(&input.relation), step.name);
        }
    }
    for sink in &plan.sinks {
        let told = label(&sink_label(plan, sink));
        let _ = writeln!(out, "  \"sink {}\" [shape=cds, label=\"{told}\"];", sink.name);
        if sink.relation != FAULTS {
            let (from, told) = (giver(&sink.relation), escape(&sink.relation));
            let _ = writeln!(out, "  \"{from}\" -> \"sink {}\" [label=\"{told}\"];", sink.name);
        }
    }
    out.push_str("}\n");
    out
}

/// The plan as a Mermaid flowchart.
pub fn mermaid(plan: &Plan) -> String {
    let escape = |t: &str| {
        let t = t.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
        t.replace('"', "&quot;").replace('`', "&#96;").replace('\n', " ")
    };
    let label = |lines: &[String]| lines.iter().map(|l| escape(l)).collect::<Vec<_>>().join("<br/>");
    let id = |name: &str| {
        let sources = plan.sources.iter().map(|s| &s.name).chain(plan.steps.iter().map(|s| &s.name));
        // Names may be words of Mermaid's own, such as `end`.
        format!("n{}", sources.into_iter().position(|n| n == name).expect("a relation of the plan"))
    };
    let mut out = String::from("flowchart LR\n");
    for source in &plan.sources {
        let (open, close) = if source.is_keyed() { ("[(", ")]") } else { ("([", "])") };
        let _ = writeln!(out, "  {}{open}\"{}\"{close}", id(&source.name), label(&source_label(plan, source)));
    }
    for step in &plan.steps {
        let _ = writeln!(out, "  {}[\"{}\"]", id(&step.name), label(&step_label(plan, step)));
    }
    for step in &plan.steps {
        for input in &step.plan.inputs {
            let told = escape(&edge_label(plan, input));
            let _ = writeln!(out, "  {} -->|\"{told}\"| {}", id(giver(&input.relation)), id(&step.name));
        }
    }
    for (index, sink) in plan.sinks.iter().enumerate() {
        let _ = writeln!(out, "  s{index}>\"{}\"]", label(&sink_label(plan, sink)));
        if sink.relation != FAULTS {
            let _ = writeln!(out, "  {} -->|\"{}\"| s{index}", id(giver(&sink.relation)), escape(&sink.relation));
        }
    }
    out
}

fn line(out: &mut String, what: &str, told: &str) {
    let _ = writeln!(out, "  {what:<11} {}", told.replace('\n', "\n              "));
}

fn columns(schema: &Schema) -> String {
    let shown = schema.columns.iter().filter(|c| c.name != SEQ);
    shown.map(|c| format!("{} {}", c.name, c.ty)).collect::<Vec<_>>().join(", ")
}

fn key(schema: &Schema) -> String {
    match schema.key_names().as_slice() {
        [] => "none: one row at most".to_owned(),
        [one] if *one == SEQ => "none: a stream".to_owned(),
        names => names.join(", "),
    }
}

fn event_time(source: &PlannedSource) -> Option<String> {
    let column = &source.schema.columns[source.schema.event_time?].name;
    let mut told = format!("{column}, {} out of order", secs(source.out_of_orderness));
    if let Some(ms) = source.idle_after_ms {
        let _ = write!(told, ", idle after {}", secs(ms as i64 * 1000));
    }
    Some(told)
}

fn secs(micros: Micros) -> String {
    format!("{} s", micros as f64 / 1e6)
}

fn rows(source: &PlannedSource) -> &'static str {
    match (source.is_keyed(), source.stored) {
        (true, _) => "stored: a table",
        (false, true) => "stored: a stream that a step needs whole",
        (false, false) => "pass by and are not stored",
    }
}

fn at_restart(origin: Origin) -> &'static str {
    match origin {
        Origin::Stored => "its state is read from the store",
        Origin::Recomputed => "computed again from its inputs and compared with the store",
        Origin::Passing => "goes on: its rows pass by once",
    }
}

fn route(plan: &Plan, input: &StepInput) -> String {
    match &input.route {
        Route::Stay => "each row where it is".to_owned(),
        Route::One => "all rows on one worker".to_owned(),
        Route::Columns(columns) => {
            let schema = plan.schema(&input.relation).expect("a relation of the plan");
            let names: Vec<&str> = columns.iter().map(|i| schema.columns[*i].name.as_str()).collect();
            format!("sharded by {}", names.join(", "))
        }
    }
}

/// The source or step whose relation it is.
fn giver(relation: &str) -> &str {
    relation.split('.').next().unwrap_or(relation)
}

fn source_label(plan: &Plan, source: &PlannedSource) -> Vec<String> {
    let mut lines = vec![
        format!("{} ({})", source.name, source.connector_name),
        plan.concealed.hide(&source.connector.describe()),
        format!("key {}", key(&source.schema)),
    ];
    lines.extend(event_time(source).map(|t| format!("event time {t}")));
    lines.push(rows(source).to_owned());
    lines
}

fn step_label(plan: &Plan, step: &PlannedStep) -> Vec<String> {
    let mut lines = vec![format!("{} ({})", step.name, step.operator)];
    if !step.plan.detail.is_empty() {
        lines.push(plan.concealed.hide(&step.plan.detail));
    }
    lines.extend(step.relations().map(|(name, schema)| format!("{name}: key {}", key(schema))));
    let origin = match step.origin {
        Origin::Stored => "stored",
        Origin::Recomputed => "recomputed",
        Origin::Passing => "passing",
    };
    lines.push(origin.to_owned());
    lines
}

fn sink_label(plan: &Plan, sink: &PlannedSink) -> Vec<String> {
    vec![
        format!("{} ({})", sink.name, sink.type_name),
        format!("delivers {}", sink.relation),
        plan.concealed.hide(&sink.sink.describe()),
    ]
}

fn edge_label(plan: &Plan, input: &StepInput) -> String {
    format!("{}: {}", input.relation, route(plan, input))
}
