//! A message's key: what the source's section says of it, and how it fills its columns.

use std::sync::Arc;

use engine::OptionDef;
use engine::pipeline::Section;
use engine::plan::SourceShape;

use super::super::cells::{Bad, RowSpec, Rows};
use super::super::ndjson::NdjsonDecoder;
use super::super::paths::Paths;
use super::super::{avro, nearest, protobuf};
use super::by_id::ById;
use super::format::{avro_schema, protobuf_message};
use super::options::option;
use super::record::{Messages, Schemas};
use super::wire::framed;

pub(super) const KEY_FORMAT_OPTION: OptionDef = option(
    "key_format",
    "one of text, json, avro, protobuf",
    Some("\"text\""),
    "What a message's key is: the text of one column; a JSON object with a member for each; one Avro value, a record with a field for each or, for one column, anything else; one Protobuf message with a field for each.",
);
pub(super) const KEY_SCHEMA_OPTION: OptionDef = option(
    "key_schema",
    "string",
    Some("none"),
    "Keys that are Protobuf: the `.proto` file. Keys that are Avro, without ids of schemas in the `schema_registry` before them: the `.avsc` file. Both as `schema` has them.",
);
pub(super) const KEY_MESSAGE_OPTION: OptionDef = option(
    "key_message",
    "string",
    Some("none"),
    "Keys that are Protobuf: which message of the schema a key is, as `package.Name`.",
);
pub(super) const KEY_COLUMNS_OPTION: OptionDef = option(
    "key_columns",
    "column or list of columns",
    Some("none"),
    "The columns that come from the message's key. A table needs them to know what a tombstone, which has no value, deletes.",
);

/// What [`KeyFormat`] is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum KeyKind {
    Text,
    Json,
    Avro,
    Protobuf,
}

pub(super) const KEY_KINDS: [(&str, KeyKind); 4] =
    [("text", KeyKind::Text), ("json", KeyKind::Json), ("avro", KeyKind::Avro), ("protobuf", KeyKind::Protobuf)];

/// How a message's key is written.
#[derive(Clone, Debug)]
pub(super) enum KeyFormat {
    Text,
    Json,
    Avro(Schemas),
    Protobuf(Messages),
}

impl KeyFormat {
    /// What of it changes rows, as text.
    pub fn describe(&self) -> String {
        match self {
            KeyFormat::Text => "text".to_owned(),
            KeyFormat::Json => "JSON".to_owned(),
            KeyFormat::Avro(schemas) => schemas.describe(),
            KeyFormat::Protobuf(messages) => messages.describe(),
        }
    }
}

/// Reads what the section says of the message's key, which fills `columns`.
pub(super) fn key_format(
    section: &mut Section<'_>,
    shape: &SourceShape,
    spec: &RowSpec,
    kind: KeyKind,
    columns: &[usize],
    framed: bool,
) -> Option<KeyFormat> {
    match kind {
        KeyKind::Text if columns.len() > 1 => {
            section.problem("key_columns", "a key that is text fills one column; several need another `key_format`");
            None
        }
        KeyKind::Text => Some(KeyFormat::Text),
        KeyKind::Json => Some(KeyFormat::Json),
        KeyKind::Avro | KeyKind::Protobuf if columns.is_empty() => {
            section.problem("key_format", "a key that is Avro or Protobuf needs `key_columns`");
            None
        }
        KeyKind::Avro if section.has("key_schema") => {
            let (schema, file) = avro_schema(section, shape, "key_schema")?;
            let missing = if schema.is_record() { avro::missing(&schema, &by_name(columns, spec)) } else { Vec::new() };
            for (path, there, _) in &missing {
                let near = nearest(path, there.iter().map(String::as_str));
                section.problem("key_columns", format!("there is no field `{path}` in `{file}`{near}"));
            }
            match avro_reader(schema.clone(), columns, spec) {
                Ok(reader) if missing.is_empty() => Some(KeyFormat::Avro(Schemas::One(schema, reader))),
                Ok(_) => None,
                Err(bad) => {
                    section.problem("key_columns", bad.detail);
                    None
                }
            }
        }
        KeyKind::Avro => Some(KeyFormat::Avro(Schemas::ById)),
        KeyKind::Protobuf => {
            let message = protobuf_message(section, shape, "key_schema", "key_message")?;
            match protobuf::Reader::new(message, &by_name(columns, spec), spec) {
                Ok(reader) => Some(KeyFormat::Protobuf(Messages { reader, framed })),
                Err(wrong) => {
                    for (column, why) in wrong {
                        section.problem("key_columns", format!("column `{}`: {why}", spec.columns[column].name));
                    }
                    None
                }
            }
        }
    }
}

/// A reader for keys of a schema: of a record each column takes the field of its name, of all else one column the whole.
pub(super) fn avro_reader(schema: Arc<avro::Schema>, columns: &[usize], spec: &RowSpec) -> Result<avro::Reader, Bad> {
    let paths = match columns {
        _ if schema.is_record() => by_name(columns, spec),
        [column] => Paths::new([(*column, Vec::new())]),
        _ => {
            return Err(Bad::new(
                "wrong_type",
                "a key that is no record fills one column, and `key_columns` has several",
            ));
        }
    };
    avro::Reader::new(schema, &paths, spec)
}

fn by_name(columns: &[usize], spec: &RowSpec) -> Paths {
    Paths::new(columns.iter().map(|c| (*c, vec![spec.columns[*c].name.as_str()])))
}

/// Decodes keys one after the other.
#[derive(Debug)]
pub(super) struct KeyDecoder {
    format: KeyFormat,
    columns: Vec<usize>,
    json: NdjsonDecoder,
    /// Columns that are filled by someone else.
    taken: Vec<bool>,
}

impl KeyDecoder {
    pub fn new(format: &KeyFormat, columns: &[usize], spec: &RowSpec) -> KeyDecoder {
        KeyDecoder {
            format: format.clone(),
            columns: columns.to_vec(),
            json: NdjsonDecoder::new(""),
            taken: (0..spec.columns.len()).map(|c| !columns.contains(&c)).collect(),
        }
    }

    /// Whether keys say the id of their schema.
    pub fn is_by_id(&self) -> bool {
        matches!(self.format, KeyFormat::Avro(Schemas::ById))
    }

    /// Appends a cell to each of the key's columns: null where nothing comes.
    pub fn decode(&mut self, key: Option<&[u8]>, schemas: Option<&ById>, rows: &mut Rows) -> Result<(), Bad> {
        if let Some(key) = key.filter(|_| !self.columns.is_empty()) {
            let in_key = |bad: Bad| Bad { detail: format!("in the message's key: {}", bad.detail), ..bad };
            self.cells(key, schemas, rows).map_err(in_key)?;
        }
        let good = rows.good();
        for column in &self.columns {
            if rows.columns[*column].len() == good {
                rows.columns[*column].push_null();
            }
        }
        Ok(())
    }

    fn cells(&mut self, key: &[u8], schemas: Option<&ById>, rows: &mut Rows) -> Result<(), Bad> {
        match &self.format {
            KeyFormat::Text => {
                let (column, spec) = (self.columns[0], &rows.spec);
                rows.columns[column].push_text(key, &spec.columns[column], &spec.time)
            }
            KeyFormat::Json => self.json.message(key, &self.taken, false, rows),
            KeyFormat::Avro(Schemas::One(_, reader)) => reader.cells(key, rows),
            KeyFormat::Avro(Schemas::ById) => {
                let (id, key) = framed(key)?;
                schemas.expect("ids have a registry").key(id)?.cells(key, rows)
            }
            KeyFormat::Protobuf(messages) => messages.reader.cells(messages.of(key)?, rows),
        }
    }
}
