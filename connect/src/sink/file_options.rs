//! What a `file` sink's section says, and what is wrong with it.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use engine::pipeline::Section;
use engine::plan::SinkShape;
use engine::sink::{Sink, SinkEnv, SinkError, SinkFactory};
use engine::{OptionDef, SinkDef};

use super::file::FileSink;

pub(super) const DEF: SinkDef = SinkDef {
    name: "file",
    summary: "Writes a view's changes to files of a folder, each complete or absent, each change once.",
    options: &[
        option("path", "string", None, "The folder, made if it is missing; relative to the pipeline file."),
        option("format", "one of ndjson, csv, parquet", Some("\"ndjson\""), "How rows are written."),
        option(
            "roll_mb",
            "float",
            Some("64"),
            "A file is finished when it has this many megabytes (before compression, for Parquet); from 0.001 to 100000.",
        ),
        option(
            "roll_secs",
            "float",
            Some("60"),
            "A file that has rows is finished after this long; from 0.01 to 86400. Until then its rows are not there.",
        ),
    ],
    plan,
};

const fn option(
    name: &'static str,
    shape: &'static str,
    default: Option<&'static str>,
    doc: &'static str,
) -> OptionDef {
    OptionDef { name, shape, default, doc }
}

/// How rows are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    /// A JSON object a line.
    Ndjson,
    /// RFC 4180 with a header line.
    Csv,
    /// Parquet, compressed by zstd.
    Parquet,
}

impl Format {
    /// The end of the files' names.
    pub fn extension(self) -> &'static str {
        match self {
            Format::Ndjson => "ndjson",
            Format::Csv => "csv",
            Format::Parquet => "parquet",
        }
    }
}

/// A `file` sink, checked.
#[derive(Clone, Debug)]
pub(super) struct FileSinkOptions {
    pub path: PathBuf,
    pub format: Format,
    pub roll_bytes: u64,
    pub roll_after: Duration,
}

impl SinkFactory for FileSinkOptions {
    fn open(&self, env: SinkEnv) -> Result<Box<dyn Sink>, SinkError> {
        Ok(Box::new(FileSink::open(self.clone(), &env)?))
    }

    fn describe(&self) -> String {
        format!(
            "{} files in {}, one every {} MB or {} s",
            self.format.extension(),
            self.path.display(),
            self.roll_bytes as f64 / 1e6,
            self.roll_after.as_secs_f64()
        )
    }
}

fn plan(section: &mut Section<'_>, _shape: &SinkShape) -> Option<Arc<dyn SinkFactory>> {
    let path = section.required_string("path");
    let formats = [("ndjson", Format::Ndjson), ("csv", Format::Csv), ("parquet", Format::Parquet)];
    let format = section.choice_or("format", &formats, Format::Ndjson);
    let mut float = |key, default: f64, least, most| {
        if section.has(key) { section.float_in(key, least..=most) } else { Some(default) }
    };
    let (megabytes, secs) = (float("roll_mb", 64.0, 0.001, 100_000.0), float("roll_secs", 60.0, 0.01, 86_400.0));
    let path = path?;
    if path.is_empty() {
        section.problem("path", "`path` must name a folder");
        return None;
    }
    Some(Arc::new(FileSinkOptions {
        path: PathBuf::from(path),
        format: format?,
        roll_bytes: (megabytes? * 1e6) as u64,
        roll_after: Duration::from_secs_f64(secs?),
    }))
}
