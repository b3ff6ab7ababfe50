//! What a `kafka` source's section says of its values: the format, its schema, and which field fills which column.

use std::sync::Arc;

use engine::OptionDef;
use engine::pipeline::Section;
use engine::plan::SourceShape;
use prost_reflect::MessageDescriptor;

use super::super::cells::RowSpec;
use super::super::paths::Paths;
use super::super::{avro, nearest, protobuf};
use super::options::option;
use super::record::{Format, Messages, Schemas};
use super::registry::{Address, authorities};

pub(super) const FORMAT_OPTION: OptionDef = option(
    "format",
    "one of json, csv, raw, avro, protobuf, arrow",
    Some("\"json\""),
    "What a message's value is: one JSON object; one CSV line, its fields the declared columns in order but for those that come from beside the value; text, the whole of which goes into the one column that is left; one Avro value; one Protobuf message; an Arrow IPC stream, each row of which is a record.",
);
pub(super) const SCHEMA_OPTION: OptionDef = option(
    "schema",
    "string",
    Some("none"),
    "Protobuf: the `.proto` file; what it imports is looked for from the pipeline file's folder on, and beside it. Avro without a registry: the `.avsc` file of the schema that all values were written with. From the pipeline file's folder on.",
);
pub(super) const MESSAGE_OPTION: OptionDef =
    option("message", "string", Some("none"), "Protobuf: which message of the schema a value is, as `package.Name`.");
pub(super) const SCHEMA_REGISTRY_OPTION: OptionDef = option(
    "schema_registry",
    "string",
    Some("none"),
    "Avro: the registry that knows the schemas by whose ids messages name theirs, as `http[s]://[user:password@]host[:port][/path]`. It is waited for as a cluster is. The password is never shown.",
);
pub(super) const SCHEMA_REGISTRY_CA_OPTION: OptionDef = option(
    "schema_registry_ca",
    "string",
    Some("none"),
    "For a `schema_registry` with `https`: a PEM file of the authorities by which it is known, from the pipeline file's folder on. Without it they are Mozilla's, as they were when the daemon was built.",
);
pub(super) const WIRE_OPTION: OptionDef = option(
    "wire",
    "one of plain, confluent",
    Some("\"plain\""),
    "JSON, Protobuf: what stands before a value: nothing, or what serializers of schema registries put there, which is passed over. Before a key, too, if it is Protobuf. Avro has it where its schema is in the `schema_registry`.",
);
pub(super) const PATHS_OPTION: OptionDef = option(
    "paths",
    "table of strings",
    Some("none"),
    "Avro, Protobuf: `column = \"field\"` or `column = \"field.field\"`: columns that take another field than that of their name, or one of a nested value.",
);

/// What [`Format`] is made of, before it is known which columns are left for the value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Json,
    Csv,
    Raw,
    Avro,
    Protobuf,
    Arrow,
}

pub(super) const KINDS: [(&str, Kind); 6] = [
    ("json", Kind::Json),
    ("csv", Kind::Csv),
    ("raw", Kind::Raw),
    ("avro", Kind::Avro),
    ("protobuf", Kind::Protobuf),
    ("arrow", Kind::Arrow),
];

/// Whether what registries' serializers put before a value is there.
pub(super) fn is_framed(section: &mut Section<'_>) -> Option<bool> {
    section.choice_or("wire", &[("plain", false), ("confluent", true)], false)
}

/// Reads where the registry is.
pub(super) fn registry(section: &mut Section<'_>, shape: &SourceShape) -> Option<Address> {
    let url = section.string("schema_registry");
    let ca = if section.has("schema_registry_ca") {
        let file = section.string("schema_registry_ca")?;
        match authorities(&shape.base_dir.join(&file)) {
            Ok(ca) => Some(ca),
            Err(why) => {
                section.problem("schema_registry_ca", format!("`{file}` cannot be read: {why}"));
                return None;
            }
        }
    } else {
        None
    };
    match Address::parse(&url?, ca) {
        Ok(address) => Some(address),
        Err(why) => {
            section.problem("schema_registry", format!("`schema_registry`: {why}"));
            None
        }
    }
}

/// Reads the Avro schema whose file stands at a key; gives the file's name, too.
pub(super) fn avro_schema(
    section: &mut Section<'_>,
    shape: &SourceShape,
    key: &'static str,
) -> Option<(Arc<avro::Schema>, String)> {
    let file = section.required_string(key)?;
    let text = std::fs::read_to_string(shape.base_dir.join(&file)).map_err(|e| e.to_string());
    match text.and_then(|text| avro::Schema::parse(&text)) {
        Ok(schema) => Some((Arc::new(schema), file)),
        Err(why) => {
            section.problem(key, format!("the schema `{file}` cannot be read: {why}"));
            None
        }
    }
}

/// Reads the Protobuf message whose file and name stand at two keys.
pub(super) fn protobuf_message(
    section: &mut Section<'_>,
    shape: &SourceShape,
    file_key: &'static str,
    name_key: &'static str,
) -> Option<MessageDescriptor> {
    let (file, name) = (section.required_string(file_key), section.required_string(name_key));
    match protobuf::message(&shape.base_dir, &file?, &name?) {
        Ok(message) => Some(message),
        Err((what, why)) => {
            section.problem(if what == "schema" { file_key } else { name_key }, why);
            None
        }
    }
}

/// Which field fills which column.
struct Routes {
    /// Columns that are left for the value, with the names that lead to each, outermost first.
    columns: Vec<(usize, Vec<String>)>,
    /// Those of them that `paths` names.
    named: Vec<usize>,
}

impl Routes {
    /// Reads `paths`; a column that is not named there takes the field of its name.
    fn read(section: &mut Section<'_>, spec: &RowSpec, left: &[usize]) -> Option<Routes> {
        let given = section.string_map("paths").unwrap_or_default();
        let (mut good, mut named) = (true, Vec::new());
        let mut columns: Vec<(usize, Vec<String>)> =
            left.iter().map(|c| (*c, vec![spec.columns[*c].name.clone()])).collect();
        for (name, path) in given {
            let names: Vec<String> = path.split('.').map(str::to_owned).collect();
            let Some(column) = spec.columns.iter().position(|c| c.name == name) else {
                section.unknown_name("paths", "column", &name, spec.columns.iter().map(|c| c.name.as_str()));
                good = false;
                continue;
            };
            match columns.iter_mut().find(|(c, _)| *c == column) {
                _ if names.iter().any(String::is_empty) => {
                    section.problem("paths", format!("`{path}` is no path: expected names with points between them"));
                    good = false;
                }
                Some(route) => {
                    named.push(column);
                    route.1 = names;
                }
                None => {
                    section.problem("paths", format!("the column `{name}` is filled twice"));
                    good = false;
                }
            }
        }
        good.then_some(Routes { columns, named })
    }

    fn paths(&self) -> Paths {
        Paths::new(self.columns.iter().map(|(c, names)| (*c, names.iter().map(String::as_str).collect())))
    }

    fn describe(&self, spec: &RowSpec) -> String {
        let named = self.columns.iter().filter(|(c, _)| self.named.contains(c));
        named.map(|(c, names)| format!(", {} from {}", spec.columns[*c].name, names.join("."))).collect()
    }

    /// The key of the section that says of a column where it comes from.
    fn key(&self, column: usize, spec: &RowSpec) -> String {
        let table = if self.named.contains(&column) { "paths" } else { "columns" };
        format!("{table}.{}", spec.columns[column].name)
    }
}

/// Reads the keys of Avro. The tombstone need not be in a schema.
pub(super) fn avro_format(
    section: &mut Section<'_>,
    shape: &SourceShape,
    spec: &RowSpec,
    left: &[usize],
    tombstone: Option<usize>,
) -> Option<Format> {
    let routes = Routes::read(section, spec, left);
    let schema = if section.has("schema") { Some(avro_schema(section, shape, "schema")?) } else { None };
    let routes = routes?;
    let paths = routes.paths();
    let Some((schema, file)) = schema else {
        return Some(Format::Avro { schemas: Schemas::ById, routes: routes.describe(spec), paths });
    };
    if !schema.is_record() {
        section.problem("schema", format!("the schema `{file}` cannot be read: it is no record"));
        return None;
    }
    let mut good = true;
    for (path, there, column) in avro::missing(&schema, &paths) {
        if Some(column) != tombstone || routes.named.contains(&column) {
            let near = nearest(&path, there.iter().map(String::as_str));
            section.problem(&routes.key(column, spec), format!("there is no field `{path}` in `{file}`{near}"));
            good = false;
        }
    }
    match avro::Reader::new(schema.clone(), &paths, spec) {
        Ok(reader) if good => {
            Some(Format::Avro { schemas: Schemas::One(schema, reader), routes: routes.describe(spec), paths })
        }
        Ok(_) => None,
        Err(bad) => {
            section.problem("columns", bad.detail);
            None
        }
    }
}

/// Reads the keys of Protobuf. The tombstone need not be in a message.
pub(super) fn protobuf_format(
    section: &mut Section<'_>,
    shape: &SourceShape,
    spec: &RowSpec,
    left: &[usize],
    tombstone: Option<usize>,
    framed: bool,
) -> Option<Format> {
    let routes = Routes::read(section, spec, left);
    let message = protobuf_message(section, shape, "schema", "message");
    let (mut routes, message) = (routes?, message?);
    let is_there = |column: usize| {
        let name = &spec.columns[column].name;
        message.get_field_by_name(name).is_some() || message.get_field_by_json_name(name).is_some()
    };
    if let Some(tombstone) = tombstone.filter(|t| !routes.named.contains(t) && !is_there(*t)) {
        routes.columns.retain(|(c, _)| *c != tombstone);
    }
    match protobuf::Reader::new(message, &routes.paths(), spec) {
        Ok(reader) => Some(Format::Protobuf(Messages { reader, framed })),
        Err(wrong) => {
            for (column, why) in wrong {
                let name = &spec.columns[column].name;
                section.problem(&routes.key(column, spec), format!("column `{name}`: {why}"));
            }
            None
        }
    }
}
