//! Avro values: single datums in the binary encoding, read by the schema they were written with, their fields matched
//! by name with the declared columns (Avro specification 1.12, "Binary Encoding").
//!
//! A column whose field the schema lacks is null, a field without a column is passed over, and numbers widen as the
//! specification promotes them: so values of older and newer schemas lie in one table. What a schema can never give a
//! column is found when the schema is first met, not value by value.

mod schema;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::sync::Arc;

use serde_json::Value as Json;

use super::cells::{Bad, RowSpec, Rows};
use super::paths::Paths;
use super::scalar::{Scalar, Shape, json_text};
pub(crate) use schema::Schema;
use schema::{Kind, Logical};
use types::time::Unit;

/// How deep values may be nested.
const DEPTH_MAX: usize = 64;
/// Types that may be visited in a value, beside some for each of its bytes: types without bytes, such as nulls and
/// empty records, could otherwise be counted up without end by a few bytes.
const VISITS_MIN: usize = 65_536;
const VISITS_A_BYTE: usize = 4;

/// Reads values of one schema.
#[derive(Clone, Debug)]
pub(crate) struct Reader {
    schema: Arc<Schema>,
    site: Site,
}

/// What is done with the value at one place.
#[derive(Clone, Debug)]
enum Site {
    Skip(usize),
    /// These columns take the value; a structure as JSON.
    Take(usize, Vec<usize>),
    /// A record of which fields are asked for; columns that take it whole stand first.
    Record(usize, Vec<usize>, Vec<Site>),
    Union(Vec<Site>),
    /// No value of this branch of a union can go where it is asked for.
    Refuse(Bad),
}

impl Reader {
    /// A reader for values of this schema, of which `paths` are asked for. The error says which column can never be
    /// filled by it.
    pub fn new(schema: Arc<Schema>, paths: &Paths, spec: &RowSpec) -> Result<Reader, Bad> {
        let site = site(&schema, schema.root, Some(paths), spec, &mut Vec::new())?;
        Ok(Reader { schema, site })
    }

    /// Appends the cells of one datum. Columns it does not fill are null.
    pub fn row(&self, bytes: &[u8], rows: &mut Rows) -> Result<(), Bad> {
        self.cells(bytes, rows)?;
        rows.fill();
        Ok(())
    }

    /// Appends the cells of one datum, and none for columns it does not fill.
    pub fn cells(&self, bytes: &[u8], rows: &mut Rows) -> Result<(), Bad> {
        let visits = VISITS_MIN + VISITS_A_BYTE * bytes.len();
        let mut cursor = Cursor { schema: &self.schema, bytes, at: 0, visits };
        cursor.take(&self.site, rows, 0)?;
        if cursor.at < bytes.len() {
            return Err(bad(format!("{} bytes follow the value, of {} in all", bytes.len() - cursor.at, bytes.len())));
        }
        Ok(())
    }
}

/// Names of `paths` that a schema lacks, with those that are there instead and the column that asks.
pub(crate) fn missing(schema: &Schema, paths: &Paths) -> Vec<(String, Vec<String>, usize)> {
    let mut missing = Vec::new();
    missing_below(schema, schema.root, paths, "", &mut missing);
    missing
}

fn missing_below(
    schema: &Schema,
    node: usize,
    paths: &Paths,
    prefix: &str,
    missing: &mut Vec<(String, Vec<String>, usize)>,
) {
    // Of a union, the record that may be in it.
    let records: Vec<usize> = match &schema.types[node].kind {
        Kind::Union(branches) => branches.clone(),
        _ => vec![node],
    };
    let fields: Vec<&(String, usize)> = records.iter().flat_map(|r| schema.fields(*r)).collect();
    for (name, below) in paths.below() {
        match fields.iter().find(|(n, _)| n == name) {
            Some((_, node)) => missing_below(schema, *node, below, &format!("{prefix}{name}."), missing),
            None => {
                let there = fields.iter().map(|(n, _)| format!("{prefix}{n}")).collect();
                missing.extend(below.any_column().map(|column| (format!("{prefix}{name}"), there, column)));
            }
        }
    }
}

/// What is done with values of a type, of which `paths` are asked for. `names` lead there, for what is wrong.
fn site(
    schema: &Schema,
    node: usize,
    paths: Option<&Paths>,
    spec: &RowSpec,
    names: &mut Vec<String>,
) -> Result<Site, Bad> {
    let Some(paths) = paths else { return Ok(Site::Skip(node)) };
    let shape = match &schema.types[node].kind {
        Kind::Null => return Ok(Site::Skip(node)),
        Kind::Union(branches) => {
            let sites: Vec<Result<Site, Bad>> =
                branches.iter().map(|b| site(schema, *b, Some(paths), spec, names)).collect();
            let is_null = |b: &usize| matches!(schema.types[*b].kind, Kind::Null);
            let fits = branches.iter().zip(&sites).any(|(b, s)| !is_null(b) && s.is_ok());
            if !fits && let Some(Err(why)) = sites.iter().find(|s| s.is_err()) {
                return Err(why.clone());
            }
            return Ok(Site::Union(sites.into_iter().map(|s| s.unwrap_or_else(Site::Refuse)).collect()));
        }
        _ => shape(schema, node),
    };
    for column in &paths.columns {
        let column = &spec.columns[*column];
        if !shape.fits(column.ty, &spec.time) {
            let is = described(schema, node);
            let mut why = format!("{} is {is} and cannot be read as {}", called(names), column.ty);
            if column.ty == types::Type::Timestamp && shape == Shape::Int {
                why.push_str(": numbers are times only with a `timestamp_unit`");
            }
            return Err(Bad::new("wrong_type", format!("column `{}`: {why}", column.name)));
        }
    }
    let Kind::Record(fields) = &schema.types[node].kind else {
        if let Some(column) = paths.below().find_map(|(_, p)| p.any_column()) {
            let (column, is) = (&spec.columns[column].name, described(schema, node));
            let why = format!("column `{column}`: {} is {is} and has no fields of its own", called(names));
            return Err(Bad::new("wrong_type", why));
        }
        return Ok(Site::Take(node, paths.columns.clone()));
    };
    if !paths.is_inner() && !names.is_empty() {
        return Ok(Site::Take(node, paths.columns.clone()));
    }
    let mut sites = Vec::with_capacity(fields.len());
    for (name, field) in fields {
        names.push(name.clone());
        sites.push(site(schema, *field, paths.get(name), spec, names)?);
        names.pop();
    }
    Ok(Site::Record(node, paths.columns.clone(), sites))
}

/// The value to which names lead, for a sentence.
fn called(names: &[String]) -> String {
    if names.is_empty() { "it".to_owned() } else { format!("the field `{}`", names.join(".")) }
}

fn shape(schema: &Schema, node: usize) -> Shape {
    let typed = &schema.types[node];
    match (&typed.kind, typed.logical) {
        (_, Logical::Date | Logical::Timestamp(_)) => Shape::Time,
        (_, Logical::Decimal(scale)) => Shape::Decimal(scale),
        (Kind::Boolean, _) => Shape::Bool,
        (Kind::Int | Kind::Long, _) => Shape::Int,
        (Kind::Float | Kind::Double, _) => Shape::Float,
        (Kind::Bytes | Kind::String | Kind::Fixed(_) | Kind::Enum(_) | Kind::Null, _) => Shape::Text,
        (Kind::Array(_) | Kind::Map(_) | Kind::Record(_) | Kind::Union(_), _) => Shape::Structure,
    }
}

/// What a type is, for a sentence.
fn described(schema: &Schema, node: usize) -> &'static str {
    let typed = &schema.types[node];
    match (&typed.kind, typed.logical) {
        (_, Logical::Date) => "a date",
        (_, Logical::Timestamp(_)) => "a timestamp",
        (_, Logical::Decimal(_)) => "a decimal",
        (_, Logical::Uuid) => "a uuid",
        (Kind::Null, _) => "null",
        (Kind::Boolean, _) => "a boolean",
        (Kind::Int, _) => "an int",
        (Kind::Long, _) => "a long",
        (Kind::Float, _) => "a float",
        (Kind::Double, _) => "a double",
        (Kind::Bytes, _) => "bytes",
        (Kind::String, _) => "a string",
        (Kind::Fixed(_), _) => "a fixed",
        (Kind::Enum(_), _) => "an enum",
        (Kind::Array(_), _) => "an array",
        (Kind::Map(_), _) => "a map",
        (Kind::Record(_), _) => "a record",
        (Kind::Union(_), _) => "a union",
    }
}

fn bad(detail: impl Into<String>) -> Bad {
    Bad::new("bad_avro", detail)
}

/// A place in a datum. Nothing is allocated by what a length says, only by what is there.
struct Cursor<'a> {
    schema: &'a Schema,
    bytes: &'a [u8],
    at: usize,
    visits: usize,
}

impl<'a> Cursor<'a> {
    /// Reads the value at a site into its columns.
    fn take(&mut self, site: &Site, rows: &mut Rows, depth: usize) -> Result<(), Bad> {
        match site {
            Site::Skip(node) => self.skip(*node, depth),
            Site::Refuse(bad) => Err(bad.clone()),
            Site::Union(sites) => {
                self.visit(depth)?;
                let branch = self.branch(sites.len())?;
                self.take(&sites[branch], rows, depth + 1)
            }
            Site::Take(node, columns) => {
                if let Some(scalar) = self.scalar(*node, depth)? {
                    return push(&scalar, columns, rows);
                }
                if matches!(self.schema.types[*node].kind, Kind::Null) {
                    return Ok(());
                }
                let json = self.json(*node, depth)?;
                push(&json_text(&json, rows)?, columns, rows)
            }
            Site::Record(node, columns, fields) => {
                self.visit(depth)?;
                if !columns.is_empty() {
                    let start = self.at;
                    let json = self.json(*node, depth)?;
                    push(&json_text(&json, rows)?, columns, rows)?;
                    self.at = start;
                }
                fields.iter().try_for_each(|field| self.take(field, rows, depth + 1))
            }
        }
    }

    /// Reads a value that is no structure; `None`, nothing read, if it is one (or null).
    fn scalar(&mut self, node: usize, depth: usize) -> Result<Option<Scalar<'a>>, Bad> {
        let schema = self.schema;
        let typed = &schema.types[node];
        let scalar = match &typed.kind {
            Kind::Null | Kind::Array(_) | Kind::Map(_) | Kind::Record(_) | Kind::Union(_) => return Ok(None),
            Kind::Boolean => match self.raw(1)? {
                [0] => Scalar::Bool(false),
                [1] => Scalar::Bool(true),
                other => return Err(bad(format!("a boolean is the byte {}", other[0]))),
            },
            Kind::Int => {
                let value = self.int()?;
                match typed.logical {
                    Logical::Date => {
                        let days = i64::from(value);
                        Scalar::Time(days.checked_mul(86_400).and_then(|s| Unit::Second.micros(s)), days)
                    }
                    _ => Scalar::Int(value.into()),
                }
            }
            Kind::Long => {
                let value = self.long()?;
                match typed.logical {
                    Logical::Timestamp(unit) => Scalar::Time(unit.micros(value), value),
                    _ => Scalar::Int(value.into()),
                }
            }
            Kind::Float => Scalar::Float(f32::from_le_bytes(self.raw(4)?.try_into().expect("four bytes")).into()),
            Kind::Double => Scalar::Float(f64::from_le_bytes(self.raw(8)?.try_into().expect("eight bytes"))),
            Kind::Enum(symbols) => {
                let symbol = usize::try_from(self.int()?).ok().and_then(|s| symbols.get(s));
                let symbol = symbol.ok_or_else(|| bad("an enum has a symbol that its schema lacks"))?;
                Scalar::Text(Cow::Borrowed(symbol.as_bytes()))
            }
            Kind::String => {
                let text = self.sized()?;
                if std::str::from_utf8(text).is_err() {
                    return Err(Bad::new("invalid_utf8", "a string is not UTF-8"));
                }
                Scalar::Text(Cow::Borrowed(text))
            }
            Kind::Bytes | Kind::Fixed(_) => {
                let bytes = match &typed.kind {
                    Kind::Fixed(size) => self.raw(*size)?,
                    _ => self.sized()?,
                };
                match typed.logical {
                    Logical::Decimal(scale) => Scalar::Decimal(integer(bytes), scale),
                    Logical::Uuid => Scalar::Text(Cow::Owned(uuid(bytes).into_bytes())),
                    _ => Scalar::Text(Cow::Borrowed(bytes)),
                }
            }
        };
        self.visit(depth)?;
        Ok(Some(scalar))
    }

    /// Passes over a value.
    fn skip(&mut self, node: usize, depth: usize) -> Result<(), Bad> {
        if self.scalar(node, depth)?.is_some() {
            return Ok(());
        }
        self.visit(depth)?;
        let schema = self.schema;
        match &schema.types[node].kind {
            Kind::Union(branches) => {
                let branch = self.branch(branches.len())?;
                self.skip(branches[branch], depth + 1)
            }
            Kind::Record(fields) => fields.iter().try_for_each(|(_, field)| self.skip(*field, depth + 1)),
            Kind::Array(items) => self.blocks(|this| this.skip(*items, depth + 1)),
            Kind::Map(values) => self.blocks(|this| {
                this.sized()?;
                this.skip(*values, depth + 1)
            }),
            _ => Ok(()),
        }
    }

    /// A value as JSON: a union is what is in it, bytes are the text of their code points, as the specification has it.
    fn json(&mut self, node: usize, depth: usize) -> Result<Json, Bad> {
        let schema = self.schema;
        let kind = &schema.types[node].kind;
        if let Some(scalar) = self.scalar(node, depth)? {
            if matches!(scalar, Scalar::Decimal(None, _)) {
                return Err(Bad::new("out_of_range", "a number of more than 38 digits"));
            }
            return Ok(match (&scalar, kind) {
                (Scalar::Text(bytes), Kind::Bytes | Kind::Fixed(_)) if schema.types[node].logical == Logical::None => {
                    bytes.iter().map(|b| char::from(*b)).collect::<String>().into()
                }
                _ => scalar.to_json(),
            });
        }
        self.visit(depth)?;
        Ok(match kind {
            Kind::Union(branches) => {
                let branch = self.branch(branches.len())?;
                self.json(branches[branch], depth + 1)?
            }
            Kind::Record(fields) => {
                let mut object = serde_json::Map::new();
                for (name, field) in fields {
                    object.insert(name.clone(), self.json(*field, depth + 1)?);
                }
                Json::Object(object)
            }
            Kind::Array(items) => {
                let mut list = Vec::new();
                self.blocks(|this| {
                    list.push(this.json(*items, depth + 1)?);
                    Ok(())
                })?;
                Json::Array(list)
            }
            Kind::Map(values) => {
                let mut object = serde_json::Map::new();
                self.blocks(|this| {
                    let key = std::str::from_utf8(this.sized()?);
                    let key = key.map_err(|_| Bad::new("invalid_utf8", "a key of a map is not UTF-8"))?;
                    let value = this.json(*values, depth + 1)?;
                    object.insert(key.to_owned(), value);
                    Ok(())
                })?;
                Json::Object(object)
            }
            _ => Json::Null,
        })
    }

    /// The items of an array or a map: blocks of them, each with its count, until one of none.
    fn blocks(&mut self, mut item: impl FnMut(&mut Self) -> Result<(), Bad>) -> Result<(), Bad> {
        loop {
            let count = self.long()?;
            if count == 0 {
                return Ok(());
            }
            // A negative count is followed by the block's size, for those who only pass over it.
            if count < 0 {
                self.long()?;
            }
            for _ in 0..count.unsigned_abs() {
                item(self)?;
            }
        }
    }

    /// Which branch of a union follows.
    fn branch(&mut self, branches: usize) -> Result<usize, Bad> {
        let branch = self.long()?;
        usize::try_from(branch)
            .ok()
            .filter(|b| *b < branches)
            .ok_or_else(|| bad(format!("a union of {branches} types has one numbered {branch}")))
    }

    fn visit(&mut self, depth: usize) -> Result<(), Bad> {
        if depth > DEPTH_MAX {
            return Err(Bad::new("too_deep", format!("nested deeper than {DEPTH_MAX}")));
        }
        self.visits = self.visits.checked_sub(1).ok_or_else(|| bad("it has more items than its bytes can mean"))?;
        Ok(())
    }

    fn raw(&mut self, count: usize) -> Result<&'a [u8], Bad> {
        let bytes = self.bytes.get(self.at..).and_then(|rest| rest.get(..count)).ok_or_else(|| {
            bad(format!(
                "at byte {} it goes on for {count} bytes, and has {} left",
                self.at,
                self.bytes.len() - self.at
            ))
        })?;
        self.at += count;
        Ok(bytes)
    }

    /// Bytes with their length before them.
    fn sized(&mut self) -> Result<&'a [u8], Bad> {
        let at = self.at;
        let length = self.long()?;
        let length = usize::try_from(length).map_err(|_| bad(format!("at byte {at} is a length of {length}")))?;
        self.raw(length)
    }

    fn int(&mut self) -> Result<i32, Bad> {
        let at = self.at;
        i32::try_from(self.long()?).map_err(|_| bad(format!("at byte {at} is an int of more than 32 bits")))
    }

    /// A number in zigzag, seven bits a byte, the low ones first.
    fn long(&mut self) -> Result<i64, Bad> {
        let start = self.at;
        let mut bits: u64 = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.raw(1)?[0];
            // Of the tenth byte one bit is left.
            if shift == 63 && byte > 1 {
                break;
            }
            bits |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok((bits >> 1) as i64 ^ -((bits & 1) as i64));
            }
        }
        Err(bad(format!("at byte {start} is a number of more than 64 bits")))
    }
}

/// Puts a value into its columns.
fn push(scalar: &Scalar<'_>, columns: &[usize], rows: &mut Rows) -> Result<(), Bad> {
    for column in columns {
        let (builder, spec) = (&mut rows.columns[*column], &rows.spec);
        builder.push_scalar(scalar, &spec.columns[*column], &spec.time)?;
    }
    Ok(())
}

/// A number of any many bytes in two's complement, the high ones first; `None` beyond 38 digits.
fn integer(bytes: &[u8]) -> Option<i128> {
    let is_negative = bytes.first().is_some_and(|b| b & 0x80 != 0);
    let filler = if is_negative { 0xff } else { 0 };
    let significant = &bytes[bytes.iter().take_while(|b| **b == filler).count()..];
    if significant.len() > 16 {
        return None;
    }
    let mut wide = [filler; 17];
    wide[17 - significant.len()..].copy_from_slice(significant);
    let value = i128::from_be_bytes(wide[1..].try_into().expect("sixteen bytes"));
    let fits = (value < 0) == is_negative && value.unsigned_abs() < 10u128.pow(38);
    fits.then_some(value)
}

fn uuid(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(36);
    for (i, byte) in bytes.iter().enumerate() {
        if matches!(i, 4 | 6 | 8 | 10) {
            text.push('-');
        }
        text.push_str(&format!("{byte:02x}"));
    }
    text
}
