//! Avro schemas: read from their JSON into a list of types that refer to each other by number, so that a record may
//! hold itself (Avro specification 1.12, "Schema Declaration").

use std::collections::BTreeMap;

use serde_json::Value as Json;
use types::time::Unit;

/// Types of one schema, at most, and how deep they may be nested.
const TYPES_MAX: usize = 100_000;
const DEPTH_MAX: usize = 64;

/// A schema.
#[derive(Clone, Debug)]
pub(crate) struct Schema {
    pub types: Vec<Typed>,
    /// The outermost type.
    pub root: usize,
    /// The schema's text, behind those of the schemas it refers to, without what does not matter for reading.
    text: String,
}

/// A type, with what it stands for.
#[derive(Clone, Debug)]
pub(crate) struct Typed {
    pub kind: Kind,
    pub logical: Logical,
}

/// The types of the specification; others are named by their number in [`Schema::types`].
#[derive(Clone, Debug)]
pub(crate) enum Kind {
    Null,
    Boolean,
    Int,
    Long,
    Float,
    Double,
    Bytes,
    String,
    Fixed(usize),
    Enum(Vec<String>),
    Array(usize),
    Map(usize),
    Record(Vec<(String, usize)>),
    Union(Vec<usize>),
}

/// The logical types that change how a value is read. A logical type that is not known is, as the specification
/// demands, as if it were not there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Logical {
    None,
    Date,
    Timestamp(Unit),
    Decimal(u32),
    Uuid,
}

impl Schema {
    /// Reads a schema's JSON text.
    pub fn parse(text: &str) -> Result<Schema, String> {
        Schema::parse_last(&[text])
    }

    /// Reads the last of these schemas, each of which may name types of those before it.
    pub fn parse_last(texts: &[impl AsRef<str>]) -> Result<Schema, String> {
        let mut reading = Reading { types: Vec::new(), named: BTreeMap::new() };
        let (mut root, mut stripped) = (None, String::new());
        for text in texts {
            let mut json: Json = serde_json::from_str(text.as_ref()).map_err(|e| format!("it is no JSON: {e}"))?;
            root = Some(reading.read(&json, "", 0)?);
            strip(&mut json);
            stripped.push_str(&json.to_string());
        }
        let root = root.ok_or("there is none")?;
        Ok(Schema { types: reading.types, root, text: stripped })
    }

    /// Whether its values are records.
    pub fn is_record(&self) -> bool {
        matches!(self.types[self.root].kind, Kind::Record(_))
    }

    /// The fields of a record.
    pub fn fields(&self, node: usize) -> &[(String, usize)] {
        match &self.types[node].kind {
            Kind::Record(fields) => fields,
            _ => &[],
        }
    }

    /// A hash of all that matters for reading.
    pub fn fingerprint(&self) -> String {
        let mut digest = types::Digest::default();
        digest.add(b"", self.text.as_bytes());
        format!("{:032x}", digest.sum)
    }
}

/// Removes what changes no value that is read.
fn strip(json: &mut Json) {
    match json {
        Json::Object(members) => {
            members.retain(|name, _| !matches!(name.as_str(), "doc" | "default" | "aliases" | "order"));
            members.values_mut().for_each(strip);
        }
        Json::Array(items) => items.iter_mut().for_each(strip),
        _ => {}
    }
}

struct Reading {
    types: Vec<Typed>,
    named: BTreeMap<String, usize>,
}

impl Reading {
    /// Reads a type and gives its number.
    fn read(&mut self, json: &Json, space: &str, depth: usize) -> Result<usize, String> {
        if depth > DEPTH_MAX {
            return Err(format!("it is nested deeper than {DEPTH_MAX}"));
        }
        match json {
            Json::String(name) => self.by_name(name, space),
            Json::Array(branches) => {
                let mut union = Vec::new();
                for branch in branches {
                    let branch = self.read(branch, space, depth + 1)?;
                    if matches!(self.types[branch].kind, Kind::Union(_)) {
                        return Err("a union holds a union".into());
                    }
                    union.push(branch);
                }
                self.add(Kind::Union(union), Logical::None)
            }
            Json::Object(members) => match members.get("type") {
                Some(Json::String(ty)) => self.object(ty, json, space, depth),
                Some(inner) => self.read(inner, space, depth + 1),
                None => Err("a type has no `type`".into()),
            },
            other => Err(format!("`{other}` is no type")),
        }
    }

    fn object(&mut self, ty: &str, json: &Json, space: &str, depth: usize) -> Result<usize, String> {
        let text = |key: &str| json.get(key).and_then(Json::as_str);
        let logical = text("logicalType").unwrap_or_default();
        match ty {
            "record" | "error" => {
                let (name, space) = self.full_name(json, space)?;
                let number = self.add(Kind::Record(Vec::new()), Logical::None)?;
                self.name(name.clone(), number)?;
                let listed = json.get("fields").and_then(Json::as_array);
                let listed = listed.ok_or_else(|| format!("the record `{name}` has no list of `fields`"))?;
                let mut fields: Vec<(String, usize)> = Vec::new();
                for field in listed {
                    let called = field.get("name").and_then(Json::as_str);
                    let called = called.ok_or_else(|| format!("a field of `{name}` has no `name`"))?;
                    let is = field.get("type").ok_or_else(|| format!("the field `{name}.{called}` has no `type`"))?;
                    if fields.iter().any(|(n, _)| n == called) {
                        return Err(format!("the record `{name}` has the field `{called}` twice"));
                    }
                    let is = self.read(is, &space, depth + 1)?;
                    fields.push((called.to_owned(), is));
                }
                self.types[number].kind = Kind::Record(fields);
                Ok(number)
            }
            "enum" => {
                let (name, _) = self.full_name(json, space)?;
                let symbols = json.get("symbols").and_then(Json::as_array);
                let symbols = symbols.ok_or_else(|| format!("the enum `{name}` has no list of `symbols`"))?;
                let symbols = symbols.iter().map(|s| s.as_str().map(str::to_owned)).collect::<Option<Vec<String>>>();
                let symbols = symbols.ok_or_else(|| format!("a symbol of the enum `{name}` is no text"))?;
                let number = self.add(Kind::Enum(symbols), Logical::None)?;
                self.name(name, number)
            }
            "fixed" => {
                let (name, _) = self.full_name(json, space)?;
                let size = json.get("size").and_then(Json::as_u64).and_then(|s| usize::try_from(s).ok());
                let size = size.ok_or_else(|| format!("the fixed `{name}` has no `size`"))?;
                let logical = match logical {
                    "decimal" => decimal(json),
                    "uuid" if size == 16 => Logical::Uuid,
                    _ => Logical::None,
                };
                let number = self.add(Kind::Fixed(size), logical)?;
                self.name(name, number)
            }
            "array" | "map" => {
                let key = if ty == "array" { "items" } else { "values" };
                let inner = json.get(key).ok_or_else(|| format!("a type `{ty}` has no `{key}`"))?;
                let inner = self.read(inner, space, depth + 1)?;
                self.add(if ty == "array" { Kind::Array(inner) } else { Kind::Map(inner) }, Logical::None)
            }
            _ => {
                let Some(kind) = primitive(ty) else { return self.by_name(ty, space) };
                let logical = match (&kind, logical) {
                    (Kind::Int, "date") => Logical::Date,
                    (Kind::Long, "timestamp-millis" | "local-timestamp-millis") => Logical::Timestamp(Unit::Milli),
                    (Kind::Long, "timestamp-micros" | "local-timestamp-micros") => Logical::Timestamp(Unit::Micro),
                    (Kind::Long, "timestamp-nanos" | "local-timestamp-nanos") => Logical::Timestamp(Unit::Nano),
                    (Kind::Bytes, "decimal") => decimal(json),
                    _ => Logical::None,
                };
                self.add(kind, logical)
            }
        }
    }

    fn by_name(&mut self, name: &str, space: &str) -> Result<usize, String> {
        if let Some(kind) = primitive(name) {
            return self.add(kind, Logical::None);
        }
        let full = if name.contains('.') || space.is_empty() { name.to_owned() } else { format!("{space}.{name}") };
        // As Java has it: a name without a space may also be one of none.
        let number = self.named.get(&full).or_else(|| self.named.get(name));
        number.copied().ok_or_else(|| format!("there is no type `{full}` in it, or in what it refers to"))
    }

    /// The full name of a named type, and the name space of what it holds.
    fn full_name(&self, json: &Json, space: &str) -> Result<(String, String), String> {
        let text = |key: &str| json.get(key).and_then(Json::as_str);
        let name = text("name").ok_or("a named type has no `name`")?;
        if let Some((space, _)) = name.rsplit_once('.') {
            return Ok((name.to_owned(), space.to_owned()));
        }
        let space = text("namespace").unwrap_or(space);
        let full = if space.is_empty() { name.to_owned() } else { format!("{space}.{name}") };
        Ok((full, space.to_owned()))
    }

    fn name(&mut self, name: String, number: usize) -> Result<usize, String> {
        match self.named.insert(name.clone(), number) {
            None => Ok(number),
            Some(_) => Err(format!("the type `{name}` is defined twice")),
        }
    }

    fn add(&mut self, kind: Kind, logical: Logical) -> Result<usize, String> {
        if self.types.len() >= TYPES_MAX {
            return Err(format!("it has more than {TYPES_MAX} types"));
        }
        self.types.push(Typed { kind, logical });
        Ok(self.types.len() - 1)
    }
}

fn primitive(name: &str) -> Option<Kind> {
    Some(match name {
        "null" => Kind::Null,
        "boolean" => Kind::Boolean,
        "int" => Kind::Int,
        "long" => Kind::Long,
        "float" => Kind::Float,
        "double" => Kind::Double,
        "bytes" => Kind::Bytes,
        "string" => Kind::String,
        _ => return None,
    })
}

/// A decimal whose scale is not of its precision is, as the specification demands, none.
fn decimal(json: &Json) -> Logical {
    let number = |key: &str| json.get(key).and_then(Json::as_u64);
    match (number("precision"), json.get("scale").map_or(Some(0), Json::as_u64)) {
        (Some(precision @ 1..), Some(scale)) if scale <= precision && scale <= 1000 => Logical::Decimal(scale as u32),
        _ => Logical::None,
    }
}
