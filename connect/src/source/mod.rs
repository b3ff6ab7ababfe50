//! The connectors: everything a source's `type` can be.
//!
//! They share one way from bytes to rows: a decoder ([`csv`], [`ndjson`], [`avro`], [`protobuf`]) appends single rows to
//! typed columns ([`cells`]); a columnar file ([`columnar`]) brings its columns whole. Records are numbered as they come, bad ones
//! included; a bad record is a fault with its place and its text.

mod avro;
mod bytes;
mod cells;
mod columnar;
mod csv;
mod file;
#[cfg(test)]
mod fuzz;
mod http;
mod infer;
pub(crate) mod kafka;
mod lengths;
mod ndjson;
mod paths;
mod protobuf;
#[cfg(test)]
mod samples;
mod scalar;
#[cfg(test)]
mod tests;
mod text;

use std::sync::Arc;

use engine::pipeline::Section;
use engine::plan::SourceShape;
use engine::{ConnectorDef, OptionDef};
use types::time::{TimeFormat, Unit};

pub(crate) use cells::{Cells, RowSpec, Rows};

pub use file::recorded;
pub use infer::infer;

/// Every connector.
pub fn connectors() -> Vec<ConnectorDef> {
    vec![file::DEF, http::DEF, kafka::DEF, crate::generate::DEF]
}

/// The default of `record_bytes_max`.
pub(crate) const RECORD_BYTES_MAX: usize = 1 << 20;

const RECORD_BYTES_OPTION: OptionDef = OptionDef {
    name: "record_bytes_max",
    shape: "int64",
    default: Some("1048576"),
    doc: "A record of more bytes than this is a fault (`record_too_large`); from 64 to 268435456.",
};

const TIMESTAMP_FORMAT_OPTION: OptionDef = OptionDef {
    name: "timestamp_format",
    shape: "string",
    default: Some("\"auto\""),
    doc: "How text says a time: `auto` (RFC 3339, `YYYY-MM-DD HH:MM[:SS[.fraction]]` or `YYYY-MM-DD`) or a strftime pattern. Without an offset it is UTC.",
};

const TIMESTAMP_UNIT_OPTION: OptionDef = OptionDef {
    name: "timestamp_unit",
    shape: "one of s, ms, us, ns",
    default: Some("none"),
    doc: "Timestamp columns are numbers of this unit since 1970 UTC.",
};

/// Reads the options every decoding connector has. Problems are reported to the section.
fn row_spec(section: &mut Section<'_>, shape: &SourceShape) -> Option<Arc<RowSpec>> {
    let unit = if section.has("timestamp_unit") { Some(section.choice("timestamp_unit", &Unit::NAMES)?) } else { None };
    let time = match (section.string("timestamp_format"), unit) {
        (Some(format), Some(_)) if format != "auto" => {
            section.problem(
                "timestamp_format",
                "timestamps are either numbers (`timestamp_unit`) or text (`timestamp_format`), not both",
            );
            return None;
        }
        (_, Some(unit)) => TimeFormat::Epoch(unit),
        (None, None) => TimeFormat::Auto,
        (Some(format), None) if format == "auto" => TimeFormat::Auto,
        (Some(pattern), None) => {
            if let Err(e) = TimeFormat::check_pattern(&pattern) {
                section.problem("timestamp_format", format!("neither `auto` nor a strftime pattern: {e}"));
                return None;
            }
            TimeFormat::Pattern(pattern)
        }
    };
    let max = match section.int_in("record_bytes_max", 64..=0x1000_0000) {
        Some(n) => n as usize,
        None if section.has("record_bytes_max") => return None,
        None => RECORD_BYTES_MAX,
    };
    if shape.columns.is_empty() {
        section.problem(
            "columns",
            "the columns are missing: name = type for each; `thalweg infer FILE` suggests them from a data file",
        );
        return None;
    }
    Some(Arc::new(RowSpec::new(shape.columns.clone(), &shape.key, shape.event_time.as_deref(), time, max)))
}

/// The end of a sentence about a name that is not there: the nearest that is, or if none is near, those there are.
fn nearest<'n>(name: &str, known: impl Iterator<Item = &'n str>) -> String {
    let known: Vec<&str> = known.collect();
    let distance = |k: &str| {
        let (a, b) = (name.to_lowercase(), k.to_lowercase());
        // One that begins with the other is nearer than any slip of the pen.
        if !b.is_empty() && (a.starts_with(&b) || b.starts_with(&a)) { 0 } else { strsim::damerau_levenshtein(&a, &b) }
    };
    let best = known.iter().map(|k| (distance(k), *k)).min();
    match best {
        Some((distance, near)) if distance <= 1 + name.chars().count() / 3 => {
            format!("; the nearest there is `{near}`")
        }
        Some(_) => {
            let mut names: Vec<String> = known.iter().take(20).map(|k| format!("`{k}`")).collect();
            if known.len() > names.len() {
                names.push("…".into());
            }
            format!("; there are {}", names.join(", "))
        }
        None => "; there is none at all".into(),
    }
}
