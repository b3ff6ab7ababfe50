//! Protobuf messages: read by a message type of a `.proto` file, their fields matched by name with the declared columns.
//!
//! The file is compiled when the pipeline is planned, so what it can never give a column is a mistake in the pipeline.
//! Fields that the file does not know are passed over. A field that is not there is null where its schema can tell
//! (`optional`, a message, a member of a `oneof`), and otherwise its type's default, which is what its sender meant.
//! Text that is no UTF-8 is a fault where a column asks for it, and nowhere else.

#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use prost_reflect::prost_types::field_descriptor_proto::Type as FieldType;
use prost_reflect::prost_types::{DescriptorProto, FileDescriptorProto};
use prost_reflect::{
    DescriptorPool, DynamicMessage, FieldDescriptor, Kind, MapKey, MessageDescriptor, ReflectMessage, Value,
};
use serde_json::Value as Json;
use types::time::in_range;

use super::cells::{Bad, RowSpec, Rows};
use super::nearest;
use super::paths::Paths;
use super::scalar::{Scalar, Shape, json_text};

/// Reads messages of one type.
#[derive(Clone)]
pub(crate) struct Reader {
    message: MessageDescriptor,
    fields: Vec<Field>,
}

// By hand: what the library prints of a type has the types of its fields in it, without end where a type has itself.
impl std::fmt::Debug for Reader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reader").field("message", &self.name()).finish_non_exhaustive()
    }
}

/// A field that is asked for.
#[derive(Clone)]
struct Field {
    field: FieldDescriptor,
    /// The columns that take its value; a structure as JSON.
    columns: Vec<usize>,
    /// Fields of the message that is its value.
    below: Vec<Field>,
}

/// Compiles a `.proto` file and finds a message type in it. What it imports is looked for from `base` on, and beside it.
pub(crate) fn message(base: &Path, file: &str, name: &str) -> Result<MessageDescriptor, (&'static str, String)> {
    let path = base.join(file);
    // In this form the compiler's errors say where in which file they stand.
    let refused = |e: protox::Error| ("schema", format!("the schema `{file}` cannot be read: {e:?}"));
    // A file that is not there is said so in words of the system.
    std::fs::metadata(&path).map_err(|e| ("schema", format!("the schema `{file}` cannot be read: {e}")))?;
    let base = if base.as_os_str().is_empty() { Path::new(".") } else { base };
    let beside = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut includes = vec![base];
    if beside != base {
        includes.push(beside);
    }
    let mut compiler = protox::Compiler::new(includes).map_err(refused)?;
    compiler.open_file(&path).map_err(refused)?;
    let pool = compiler.descriptor_pool();
    pool.get_message_by_name(name).ok_or_else(|| {
        let known: Vec<String> = pool
            .all_messages()
            .filter(|m| !m.is_map_entry() && m.package_name() != "google.protobuf")
            .map(|m| m.full_name().to_owned())
            .collect();
        let near = nearest(name, known.iter().map(String::as_str));
        ("message", format!("there is no message `{name}` in `{file}`{near}"))
    })
}

impl Reader {
    /// A reader for messages of this type. The error says which columns can never be filled by it, and why.
    pub fn new(message: MessageDescriptor, paths: &Paths, spec: &RowSpec) -> Result<Reader, Vec<(usize, String)>> {
        let mut wrong = Vec::new();
        let asked = fields(&message, paths, spec, "", &mut wrong);
        if !wrong.is_empty() {
            return Err(wrong);
        }
        let message = without_text(&message, &Asked::of(&asked)).unwrap_or(message);
        let fields = fields(&message, paths, spec, "", &mut wrong);
        Ok(Reader { message, fields })
    }

    /// All of the schema that changes rows, as a hash: fields that are not asked for may come and go.
    pub fn fingerprint(&self) -> String {
        let mut text = String::new();
        self.fields.iter().for_each(|f| write_field(f, &mut text));
        let mut digest = types::Digest::default();
        digest.add(b"", text.as_bytes());
        format!("{:032x}", digest.sum)
    }

    /// The message type's full name.
    pub fn name(&self) -> &str {
        self.message.full_name()
    }

    /// The value behind the numbers that say which message of its file it is, if that is this one.
    pub fn of_its_type<'v>(&self, (indexes, value): (Vec<i64>, &'v [u8])) -> Result<&'v [u8], Bad> {
        // In the file's own description a message stands under the numbers of its lists and its places in them.
        let path: Vec<i64> = self.message.path().iter().skip(1).step_by(2).map(|i| i64::from(*i)).collect();
        if path == indexes {
            return Ok(value);
        }
        let what = format!(
            "it is the message {indexes:?} of its schema, and `{}` is {path:?} of its file",
            self.message.full_name()
        );
        Err(Bad::new("wrong_type", what))
    }

    /// Appends the cells of one message. Columns it does not fill are null.
    pub fn row(&self, bytes: &[u8], rows: &mut Rows) -> Result<(), Bad> {
        self.cells(bytes, rows)?;
        rows.fill();
        Ok(())
    }

    /// Appends the cells of one message, and none for columns it does not fill.
    pub fn cells(&self, bytes: &[u8], rows: &mut Rows) -> Result<(), Bad> {
        let message =
            DynamicMessage::decode(self.message.clone(), bytes).map_err(|e| Bad::new("bad_protobuf", e.to_string()))?;
        take(&message, &self.fields, rows)
    }
}

/// The fields of a message type that are asked for.
fn fields(
    message: &MessageDescriptor,
    paths: &Paths,
    spec: &RowSpec,
    prefix: &str,
    wrong: &mut Vec<(usize, String)>,
) -> Vec<Field> {
    let mut found = Vec::new();
    for (name, paths) in paths.below() {
        let path = format!("{prefix}{name}");
        let field = message.get_field_by_name(name).or_else(|| message.get_field_by_json_name(name));
        let Some(field) = field else {
            let known: Vec<String> = message.fields().map(|f| format!("{prefix}{}", f.name())).collect();
            let near = nearest(&path, known.iter().map(String::as_str));
            let column = paths.any_column().expect("every path leads to a column");
            wrong.push((column, format!("there is no field `{path}` in `{}`{near}", message.full_name())));
            continue;
        };
        let (shape, is) = shape(&field);
        for column in &paths.columns {
            let ty = spec.columns[*column].ty;
            // A timestamp is two numbers here: none of them is it.
            if !shape.fits(ty, &spec.time) || (shape, ty) == (Shape::Time, types::Type::Int64) {
                let mut why = format!("the field `{path}` is {is} and cannot be read as {ty}");
                if ty == types::Type::Timestamp && shape == Shape::Int {
                    why.push_str(": numbers are times only with a `timestamp_unit`");
                }
                wrong.push((*column, why));
            }
        }
        let mut below = Vec::new();
        if paths.is_inner() {
            match field.kind() {
                Kind::Message(inner) if !field.is_list() && !field.is_map() => {
                    below = fields(&inner, paths, spec, &format!("{path}."), wrong);
                }
                _ => {
                    let column = paths.below().find_map(|(_, p)| p.any_column()).expect("every path leads to a column");
                    wrong.push((column, format!("the field `{path}` is {is} and has no fields of its own")));
                }
            }
        }
        found.push(Field { field, columns: paths.columns.clone(), below });
    }
    found
}

/// Fields whose values go into columns, by the full names of their messages and their numbers.
#[derive(Default)]
struct Asked {
    fields: BTreeSet<(String, u32)>,
    /// Messages that are asked for whole.
    whole: BTreeSet<String>,
}

impl Asked {
    fn of(fields: &[Field]) -> Asked {
        let mut asked = Asked::default();
        asked.add(fields);
        asked
    }

    fn add(&mut self, fields: &[Field]) {
        for Field { field, columns, below } in fields {
            self.fields.insert((field.parent_message().full_name().to_owned(), field.number()));
            if !columns.is_empty() {
                self.add_whole(field);
            }
            self.add(below);
        }
    }

    fn add_whole(&mut self, field: &FieldDescriptor) {
        if let Kind::Message(message) = field.kind()
            && self.whole.insert(message.full_name().to_owned())
        {
            message.fields().for_each(|inner| self.add_whole(&inner));
        }
    }

    fn has(&self, message: &str, field: u32) -> bool {
        self.whole.contains(message) || self.fields.contains(&(message.to_owned(), field))
    }
}

/// The same message type, but that text which is not asked for is bytes: the library refuses a whole message for text
/// that is no UTF-8. On the wire both are the same.
fn without_text(message: &MessageDescriptor, asked: &Asked) -> Option<MessageDescriptor> {
    let mut files: Vec<FileDescriptorProto> = message.parent_pool().file_descriptor_protos().cloned().collect();
    for file in &mut files {
        let package = file.package().to_owned();
        file.message_type.iter_mut().for_each(|message| text_to_bytes(message, &package, asked));
    }
    let mut pool = DescriptorPool::new();
    pool.add_file_descriptor_protos(files).ok()?;
    pool.get_message_by_name(message.full_name())
}

fn text_to_bytes(message: &mut DescriptorProto, scope: &str, asked: &Asked) {
    let name = if scope.is_empty() { message.name().to_owned() } else { format!("{scope}.{}", message.name()) };
    for field in &mut message.field {
        if field.r#type() == FieldType::String && !asked.has(&name, field.number().unsigned_abs()) {
            field.set_type(FieldType::Bytes);
            field.default_value = None;
        }
    }
    // Keys of maps cannot be bytes; but what is not asked for need not be a map.
    if let Some(options) = &mut message.options
        && !asked.whole.contains(&name)
    {
        options.map_entry = None;
    }
    message.nested_type.iter_mut().for_each(|nested| text_to_bytes(nested, &name, asked));
}

fn shape(field: &FieldDescriptor) -> (Shape, String) {
    if field.is_list() || field.is_map() {
        return (Shape::Structure, "repeated".to_owned());
    }
    match field.kind() {
        Kind::Double | Kind::Float => (Shape::Float, "a float".to_owned()),
        Kind::Bool => (Shape::Bool, "a bool".to_owned()),
        Kind::String => (Shape::Text, "a string".to_owned()),
        Kind::Bytes => (Shape::Text, "bytes".to_owned()),
        Kind::Enum(_) => (Shape::Text, "an enum".to_owned()),
        Kind::Message(message) if message.full_name() == TIMESTAMP => (Shape::Time, "a timestamp".to_owned()),
        Kind::Message(message) => match wrapped(&message) {
            Some(inner) => shape(&inner),
            None => (Shape::Structure, format!("the message `{}`", message.full_name())),
        },
        _ => (Shape::Int, "an integer".to_owned()),
    }
}

const TIMESTAMP: &str = "google.protobuf.Timestamp";

/// The one field of the messages that Google made so that a bare value can be absent.
fn wrapped(message: &MessageDescriptor) -> Option<FieldDescriptor> {
    let name = message.full_name().strip_prefix("google.protobuf.")?.strip_suffix("Value")?;
    let is_wrapper =
        matches!(name, "Double" | "Float" | "Int64" | "UInt64" | "Int32" | "UInt32" | "Bool" | "String" | "Bytes");
    if is_wrapper { message.get_field_by_name("value") } else { None }
}

/// What of a field changes rows, as text.
fn write_field(field: &Field, out: &mut String) {
    out.push_str(&format!("{:?}={}:", field.columns, field.field.number()));
    write_kind(&field.field, !field.columns.is_empty(), &mut BTreeSet::new(), out);
    out.push('{');
    field.below.iter().for_each(|f| write_field(f, out));
    out.push('}');
}

fn write_kind(field: &FieldDescriptor, whole: bool, seen: &mut BTreeSet<String>, out: &mut String) {
    let presence = field.supports_presence();
    // Of the members of a `oneof` the last one that comes takes the place of the others.
    if let Some(oneof) = field.containing_oneof() {
        let members: Vec<String> = oneof.fields().map(|member| member.number().to_string()).collect();
        out.push_str(&format!("one of {} ", members.join(",")));
    }
    let repeated = if field.is_map() {
        "map"
    } else if field.is_list() {
        "list"
    } else {
        ""
    };
    match field.kind() {
        Kind::Enum(of) => {
            let values: Vec<String> = of.values().map(|v| format!("{}={}", v.name(), v.number())).collect();
            out.push_str(&format!("{repeated} {presence} enum {}", values.join(",")));
        }
        Kind::Message(of) => {
            out.push_str(&format!("{repeated} {presence} {}", of.full_name()));
            if whole && seen.insert(of.full_name().to_owned()) {
                for field in of.fields() {
                    out.push_str(&format!(" {}={}:", field.name(), field.number()));
                    write_kind(&field, true, seen, out);
                }
            }
        }
        kind => out.push_str(&format!("{repeated} {presence} {kind:?}")),
    }
    out.push(';');
}

/// Puts what is asked for of a message into its columns.
fn take(message: &DynamicMessage, fields: &[Field], rows: &mut Rows) -> Result<(), Bad> {
    for Field { field, columns, below } in fields {
        if field.supports_presence() && !message.has_field(field) {
            continue;
        }
        let value = message.get_field(field);
        for column in columns {
            let scalar = match scalar(&value, field) {
                Some(scalar) => scalar,
                None => json_text(&json(&value, field), rows)?,
            };
            let (builder, spec) = (&mut rows.columns[*column], &rows.spec);
            builder.push_scalar(&scalar, &spec.columns[*column], &spec.time)?;
        }
        if let (false, Value::Message(inner)) = (below.is_empty(), value.as_ref()) {
            take(inner, below, rows)?;
        }
    }
    Ok(())
}

/// A value that is no structure.
fn scalar<'v>(value: &'v Value, field: &FieldDescriptor) -> Option<Scalar<'v>> {
    Some(match value {
        Value::Bool(v) => Scalar::Bool(*v),
        Value::I32(v) => Scalar::Int((*v).into()),
        Value::I64(v) => Scalar::Int((*v).into()),
        Value::U32(v) => Scalar::Int((*v).into()),
        Value::U64(v) => Scalar::Int((*v).into()),
        Value::F32(v) => Scalar::Float((*v).into()),
        Value::F64(v) => Scalar::Float(*v),
        Value::String(v) => Scalar::Text(Cow::Borrowed(v.as_bytes())),
        Value::Bytes(v) => Scalar::Text(Cow::Borrowed(v)),
        Value::EnumNumber(v) => Scalar::Text(Cow::Owned(enum_name(*v, field).into_bytes())),
        Value::Message(message) => {
            let descriptor = message.descriptor();
            if descriptor.full_name() == TIMESTAMP {
                return Some(time(message));
            }
            let inner = wrapped(&descriptor)?;
            let value = message.get_field(&inner);
            return scalar(&value, &inner).map(owned);
        }
        Value::List(_) | Value::Map(_) => return None,
    })
}

fn owned(scalar: Scalar<'_>) -> Scalar<'static> {
    match scalar {
        Scalar::Text(text) => Scalar::Text(Cow::Owned(text.into_owned())),
        Scalar::Bool(v) => Scalar::Bool(v),
        Scalar::Int(v) => Scalar::Int(v),
        Scalar::Float(v) => Scalar::Float(v),
        Scalar::Time(micros, number) => Scalar::Time(micros, number),
        Scalar::Decimal(v, scale) => Scalar::Decimal(v, scale),
    }
}

/// A number that the enum has no name for is its own name: it is of a newer schema.
fn enum_name(number: i32, field: &FieldDescriptor) -> String {
    match field.kind() {
        Kind::Enum(of) => of.get_value(number).map(|v| v.name().to_owned()),
        _ => None,
    }
    .unwrap_or_else(|| number.to_string())
}

/// Seconds and nanoseconds since 1970, to microseconds.
fn time(message: &DynamicMessage) -> Scalar<'static> {
    let number = |n: u32| match message.get_field_by_number(n).as_deref() {
        Some(Value::I64(v)) => *v,
        Some(Value::I32(v)) => i64::from(*v),
        _ => 0,
    };
    let (seconds, nanos) = (number(1), number(2));
    let micros = seconds.checked_mul(1_000_000).and_then(|m| m.checked_add(nanos.div_euclid(1000)));
    Scalar::Time(micros.filter(|m| in_range(*m) && (0..1_000_000_000).contains(&nanos)), seconds)
}

/// A value as JSON: fields by their names in the file, those that are there; bytes in base64.
fn json(value: &Value, field: &FieldDescriptor) -> Json {
    match value {
        Value::List(items) => Json::Array(items.iter().map(|v| json(v, field)).collect()),
        Value::Map(entries) => {
            let entry = match field.kind() {
                Kind::Message(entry) => entry.map_entry_value_field(),
                _ => return Json::Null,
            };
            // Its own order is no function of what is in it.
            let mut sorted: Vec<(String, Json)> =
                entries.iter().map(|(key, value)| (key_text(key), json(value, &entry))).collect();
            sorted.sort_by(|a, b| a.0.cmp(&b.0));
            Json::Object(sorted.into_iter().collect())
        }
        Value::Bytes(bytes) => BASE64.encode(bytes).into(),
        // What is wrapped is itself: bytes, too.
        Value::Message(message) if wrapped(&message.descriptor()).is_some() => {
            let inner = wrapped(&message.descriptor()).expect("just seen");
            json(&message.get_field(&inner), &inner)
        }
        value => match (scalar(value, field), value) {
            (Some(scalar), _) => scalar.to_json(),
            (None, Value::Message(message)) => Json::Object(
                message.fields().map(|(field, value)| (field.name().to_owned(), json(value, &field))).collect(),
            ),
            _ => Json::Null,
        },
    }
}

fn key_text(key: &MapKey) -> String {
    match key {
        MapKey::Bool(v) => v.to_string(),
        MapKey::I32(v) => v.to_string(),
        MapKey::I64(v) => v.to_string(),
        MapKey::U32(v) => v.to_string(),
        MapKey::U64(v) => v.to_string(),
        MapKey::String(v) => v.clone(),
    }
}
