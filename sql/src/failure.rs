//! What went wrong in DataFusion, in the words of this engine: what to mend for whoever wrote the query, the rest for
//! the log.

use std::error::Error as StdError;

use arrow::error::ArrowError;
use datafusion::common::{Column, DataFusionError, SchemaError};
use datafusion::sql::sqlparser::parser::ParserError;
use engine::query::Error;

/// An error met before any row was read: the text is wrong.
pub(super) fn planning(error: DataFusionError) -> Error {
    match kind(&error) {
        Kind::Ours(own) => own,
        Kind::Memory => memory(),
        Kind::Broken => Error::Broken(error.strip_backtrace()),
        // Constants are computed while planning.
        Kind::Values(text) => Error::Failed(text),
        Kind::Other => Error::Bad(plain(&error)),
    }
}

/// An error met while rows were computed.
pub(super) fn computing(error: DataFusionError) -> Error {
    match kind(&error) {
        Kind::Ours(own) => own,
        Kind::Memory => memory(),
        Kind::Broken => Error::Broken(error.strip_backtrace()),
        Kind::Values(text) => Error::Failed(text),
        Kind::Other => Error::Failed(plain(&error)),
    }
}

/// Arrow's errors are those of values, wherever they come up.
pub(super) fn converting(error: &ArrowError) -> Error {
    Error::Failed(values(error))
}

enum Kind {
    /// One that came through DataFusion from our own scan.
    Ours(Error),
    Memory,
    Values(String),
    Broken,
    Other,
}

fn kind(error: &DataFusionError) -> Kind {
    let mut at: Option<&(dyn StdError + 'static)> = Some(error);
    let mut kind = Kind::Other;
    while let Some(e) = at {
        if let Some(Carried(own)) = e.downcast_ref::<Carried>() {
            return Kind::Ours(
                own.lock().ok().and_then(|mut e| e.take()).unwrap_or_else(|| Error::Broken(e.to_string())),
            );
        }
        match e.downcast_ref::<DataFusionError>() {
            Some(DataFusionError::ResourcesExhausted(_)) => return Kind::Memory,
            Some(DataFusionError::Internal(_)) => kind = Kind::Broken,
            Some(DataFusionError::ExecutionJoin(_) | DataFusionError::IoError(_)) => kind = Kind::Broken,
            Some(DataFusionError::ArrowError(e, _)) if !matches!(**e, ArrowError::ExternalError(_)) => {
                kind = Kind::Values(values(e));
            }
            _ => {}
        }
        at = e.source();
    }
    kind
}

fn memory() -> Error {
    Error::TooLarge(
        "the query gathers more rows at once than the memory it may take: filter earlier, or group by less".into(),
    )
}

fn values(error: &ArrowError) -> String {
    match error {
        ArrowError::DivideByZero => "division by zero".to_owned(),
        ArrowError::ArithmeticOverflow(text)
        | ArrowError::ComputeError(text)
        | ArrowError::CastError(text)
        | ArrowError::ParseError(text)
        | ArrowError::InvalidArgumentError(text) => line(text),
        other => line(&other.to_string()),
    }
}

/// An error of ours on its way through DataFusion. Taken out where it arrives: it cannot be cloned.
#[derive(Debug)]
pub(super) struct Carried(std::sync::Mutex<Option<Error>>);

impl Carried {
    pub(super) fn new(error: Error) -> DataFusionError {
        DataFusionError::External(Box::new(Carried(std::sync::Mutex::new(Some(error)))))
    }
}

impl std::fmt::Display for Carried {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the rows cannot be read")
    }
}

impl StdError for Carried {}

/// What an error says, in one line.
pub(super) fn plain(error: &DataFusionError) -> String {
    let root = error.find_root();
    match root {
        DataFusionError::SchemaError(schema, _) => match &**schema {
            SchemaError::FieldNotFound { field, valid_fields } => no_column(field, valid_fields),
            other => line(&other.to_string()),
        },
        DataFusionError::SQL(error, _) => match &**error {
            ParserError::TokenizerError(text) | ParserError::ParserError(text) => line(text),
            ParserError::RecursionLimitExceeded => "the query is nested too deeply".to_owned(),
        },
        other => line(&other.message()),
    }
}

fn no_column(field: &Column, known: &[Column]) -> String {
    let got = field.flat_name();
    let shown = |c: &Column| if field.relation.is_some() { c.flat_name() } else { c.name.clone() };
    let near = known
        .iter()
        .map(shown)
        .map(|name| (strsim::damerau_levenshtein(&name.to_lowercase(), &got.to_lowercase()), name))
        .filter(|(distance, name)| *distance <= 1 + name.len().max(got.len()) / 3)
        .min();
    let near = near.map_or_else(String::new, |(_, name)| format!("; did you mean `{name}`?"));
    format!("there is no column `{got}`{near}")
}

/// One line, without the library's advice about itself.
fn line(text: &str) -> String {
    let text = text.split("\nThis issue was likely caused by").next().unwrap_or_default();
    let joined = text.split_whitespace().collect::<Vec<_>>().join(" ");
    joined.trim_end_matches('.').to_owned()
}
