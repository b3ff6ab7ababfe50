//! The list of everything a pipeline file can name, from which the parser, the manual and the errors all come.
//!
//! The engine is given a catalogue as a value; it names no connector and no operator itself.

use std::sync::Arc;

use types::{Schema, Value};

use crate::connector::ConnectorFactory;
use crate::pipeline::Section;
use crate::plan::{SinkShape, SourceShape, StepPlan};
use crate::sink::SinkFactory;

/// Everything a pipeline file can name.
#[derive(Clone, Debug, Default)]
pub struct Catalogue {
    /// What a source's `type` can be.
    pub connectors: Vec<ConnectorDef>,
    /// What a step's `operator` can be.
    pub operators: Vec<OperatorDef>,
    /// What a sink's `type` can be.
    pub sinks: Vec<SinkDef>,
}

impl Catalogue {
    /// The connector of that name.
    pub fn connector(&self, name: &str) -> Option<&ConnectorDef> {
        self.connectors.iter().find(|c| c.name == name)
    }

    /// The operator of that name.
    pub fn operator(&self, name: &str) -> Option<&OperatorDef> {
        self.operators.iter().find(|o| o.name == name)
    }

    /// The sink of that name.
    pub fn sink(&self, name: &str) -> Option<&SinkDef> {
        self.sinks.iter().find(|s| s.name == name)
    }
}

/// One option of a connector or an operator, for the manual.
#[derive(Clone, Copy, Debug)]
pub struct OptionDef {
    /// The key in the pipeline file.
    pub name: &'static str,
    /// The shape of its value, as text: `string`, `int64`, `list of column names`, …
    pub shape: &'static str,
    /// Its default as it would be written, or `None` if it must be given.
    pub default: Option<&'static str>,
    /// One or two sentences: what it does, its unit, its range.
    pub doc: &'static str,
}

/// A kind of source.
#[derive(Clone, Copy, Debug)]
pub struct ConnectorDef {
    /// The name in the pipeline file.
    pub name: &'static str,
    /// One sentence.
    pub summary: &'static str,
    /// Its own options, beside those every source has.
    pub options: &'static [OptionDef],
    /// Reads the connector's own options from the source's section. Problems are reported to the section;
    /// `None` means that there were some. The shape is what the section said of columns and keys.
    pub plan: fn(&mut Section<'_>, &mut SourceShape) -> Option<Arc<dyn ConnectorFactory>>,
}

/// A kind of sink.
#[derive(Clone, Copy, Debug)]
pub struct SinkDef {
    /// The name in the pipeline file.
    pub name: &'static str,
    /// One sentence.
    pub summary: &'static str,
    /// Its own options, beside those every sink has.
    pub options: &'static [OptionDef],
    /// Reads the sink's own options from its section. Problems are reported to the section; `None` means that there
    /// were some.
    pub plan: fn(&mut Section<'_>, &SinkShape) -> Option<Arc<dyn SinkFactory>>,
}

/// A kind of step.
#[derive(Clone, Copy, Debug)]
pub struct OperatorDef {
    /// The name in the pipeline file.
    pub name: &'static str,
    /// One sentence.
    pub summary: &'static str,
    /// A page for the manual, in Markdown: what it maintains, its views, ties, faults, source of formulas.
    pub doc: &'static str,
    /// Its own options, `operator` excepted.
    pub options: &'static [OptionDef],
    /// A complete small pipeline that uses it, for the manual and for a test that plans it.
    pub example: &'static str,
    /// Reads the step's section. Problems are reported to the section; `None` means that there were some.
    pub plan: fn(&mut Section<'_>, &Relations<'_>) -> Option<StepPlan>,
}

/// The relations a step may read: the sources and the steps above it.
#[derive(Clone, Copy, Debug)]
pub struct Relations<'a> {
    /// Names with their schemas, in pipeline order. A step's further outputs are named `step.output`.
    pub known: &'a [(String, Schema)],
}

impl<'a> Relations<'a> {
    /// The schema of a relation.
    pub fn schema(&self, name: &str) -> Option<&'a Schema> {
        self.known.iter().find(|(n, _)| n == name).map(|(_, s)| s)
    }

    /// Reads the section's key (usually `input`) as the name of a relation, reporting what is wrong with it.
    pub fn input(&self, section: &mut Section<'_>, key: &'static str) -> Option<(String, &'a Schema)> {
        let name = section.required_string(key)?;
        match self.schema(&name) {
            Some(schema) => Some((name, schema)),
            None => {
                section.unknown_name(key, "relation", &name, self.known.iter().map(|(n, _)| n.as_str()));
                None
            }
        }
    }
}

/// A row as cells, in schema order: what models work on.
pub type Row = Vec<Value>;

/// The obvious function a step maintains, on whole inputs: for functions of tables the rows of each input, for
/// functions of history the events of each input in event-time order. Gives the rows of each output, in any order.
pub type Model = Arc<dyn Fn(&[Vec<Row>]) -> Vec<Vec<Row>> + Send + Sync>;
