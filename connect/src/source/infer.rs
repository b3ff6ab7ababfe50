//! Writes the section of a source for a data file, from what its first records hold.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs::File;
use std::io::{Cursor, Read};
use std::path::Path;

use arrow::datatypes::{DataType, SchemaRef};
use engine::connector::ConnectorError;
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions};
use types::time::TimeFormat;
use types::{Column, Type};

use super::bytes::Packing;
use super::csv::{Split, split};
use super::file::{Format, is_tsv};

/// So many records are looked at.
const SAMPLE_RECORDS: usize = 10_000;
/// And no more bytes than this.
const SAMPLE_BYTES: u64 = 16 << 20;

/// The text of a `[sources.NAME]` section for a data file of any supported format, packed or not.
///
/// A column's type is the first of `int64`, `float64`, `bool`, `timestamp` that all its values in the sample are of,
/// else `string`. Event time and key are suggested in comments: they are for a person to decide.
///
/// # Errors
/// The file cannot be read, its format is not told by its extension, or it holds nothing.
pub fn infer(path: &Path) -> Result<String, ConnectorError> {
    let shown = path.to_string_lossy();
    let failed = |what: &dyn std::fmt::Display| ConnectorError::new(format!("`{shown}`: {what}"));
    let format = Format::of_name(&shown).ok_or_else(|| failed(&"the extension tells no format: expected .csv, .tsv, .ndjson, .parquet or .arrow, perhaps with .gz or .zst"))?;
    let mut file = File::open(path).map_err(|e| failed(&e))?;
    let packing = Packing::of(&mut file).map_err(|e| failed(&e))?;
    let sample = match format {
        Format::Csv => csv(&head(packing, file).map_err(|e| failed(&e))?, if is_tsv(&shown) { b'\t' } else { b',' }),
        Format::Ndjson => ndjson(&head(packing, file).map_err(|e| failed(&e))?),
        Format::Parquet => parquet(packing, file),
        Format::Arrow => ipc(packing, file),
    }
    .map_err(|e| failed(&e))?;
    Ok(section(path, &sample))
}

/// What a sample tells.
#[derive(Debug, Default)]
struct Sample {
    columns: Vec<Column>,
    /// Columns whose values are all there and differ.
    unique: Vec<String>,
    records: usize,
    header: Option<bool>,
    delimiter: Option<char>,
}

fn head(packing: Packing, file: File) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut input = packing.unpack(file)?.take(SAMPLE_BYTES);
    match input.read_to_end(&mut bytes) {
        // A packed file that breaks off still has a beginning.
        Err(_) if !bytes.is_empty() => {}
        other => drop(other?),
    }
    if bytes.starts_with(b"\xef\xbb\xbf") {
        bytes.drain(..3);
    }
    Ok(bytes)
}

/// The types the values of a column could all be of.
#[derive(Clone, Debug)]
struct Guess {
    int: bool,
    float: bool,
    boolean: bool,
    time: bool,
    any: bool,
    nulls: bool,
    seen: BTreeSet<Vec<u8>>,
    repeats: bool,
}

impl Guess {
    fn new() -> Guess {
        Guess {
            int: true,
            float: true,
            boolean: true,
            time: true,
            any: false,
            nulls: false,
            seen: BTreeSet::new(),
            repeats: false,
        }
    }

    fn text(&mut self, text: &[u8]) {
        self.any = true;
        let word = std::str::from_utf8(text.trim_ascii()).unwrap_or("?");
        self.int &= word.parse::<i64>().is_ok();
        self.float &= word.parse::<f64>().is_ok() && !word.ends_with(|c: char| c.is_ascii_alphabetic());
        self.boolean &= word.eq_ignore_ascii_case("true") || word.eq_ignore_ascii_case("false");
        self.time &= TimeFormat::Auto.parse(word.as_bytes()).is_ok();
        self.distinct(text);
    }

    fn distinct(&mut self, text: &[u8]) {
        if !self.repeats && !self.seen.insert(text.to_vec()) {
            self.repeats = true;
            self.seen = BTreeSet::new();
        }
    }

    fn is_unique(&self) -> bool {
        self.any && !self.nulls && !self.repeats
    }

    fn ty(&self) -> Type {
        match self {
            Guess { any: false, .. } => Type::String,
            Guess { int: true, .. } => Type::Int64,
            Guess { float: true, .. } => Type::Float64,
            Guess { boolean: true, .. } => Type::Bool,
            Guess { time: true, .. } => Type::Timestamp,
            _ => Type::String,
        }
    }
}

fn csv(bytes: &[u8], delimiter: u8) -> Result<Sample, String> {
    let mut records: Vec<Vec<(Vec<u8>, bool)>> = Vec::new();
    let (mut fields, mut scratch) = (Vec::new(), Vec::new());
    let mut rest = bytes;
    while !rest.is_empty() && records.len() <= SAMPLE_RECORDS {
        let whole = (bytes.len() as u64) < SAMPLE_BYTES;
        match split(rest, delimiter, whole, &mut fields, &mut scratch) {
            Split::Record { end, next, .. } => {
                let blank = rest[..end].trim_ascii().is_empty();
                if !blank {
                    records.push(fields.iter().map(|f| (f.text(rest, &scratch).to_vec(), f.is_quoted())).collect());
                }
                rest = &rest[next..];
            }
            Split::More => break,
            Split::Broken(_) => rest = memchr::memchr(b'\n', rest).map_or(&[], |i| &rest[i + 1..]),
        }
    }
    let Some(first) = records.first() else { return Err("it holds no records".into()) };
    let width = first.len();
    let guess = |records: &[Vec<(Vec<u8>, bool)>]| {
        let mut guesses = vec![Guess::new(); width];
        for record in records.iter().filter(|r| r.len() == width) {
            for (guess, (text, quoted)) in guesses.iter_mut().zip(record) {
                if text.is_empty() && !quoted { guess.nulls = true } else { guess.text(text) }
            }
        }
        guesses
    };
    let body = guess(&records[1..]);
    let names: Vec<String> = first.iter().map(|(t, _)| String::from_utf8_lossy(t).trim().to_owned()).collect();
    let distinct = names.iter().collect::<BTreeSet<_>>().len() == names.len();
    let named =
        distinct && names.iter().all(|n| n.starts_with(|c: char| c.is_alphabetic() || c == '_') && n.len() <= 100);
    // A header's names are text where the values below are something else; all text throughout, and it must look like names.
    let header = named
        && (records.len() == 1
            || body.iter().zip(&names).any(|(g, n)| {
                g.ty() != Type::String && {
                    let mut alone = Guess::new();
                    alone.text(n.as_bytes());
                    alone.ty() == Type::String
                }
            })
            || names.iter().all(|n| n.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')));
    let guesses = if header { body } else { guess(&records) };
    let columns: Vec<Column> = guesses
        .iter()
        .enumerate()
        .map(|(i, g)| Column {
            name: if header { names[i].clone() } else { format!("column_{}", i + 1) },
            ty: g.ty(),
            nullable: true,
        })
        .collect();
    let unique = columns.iter().zip(&guesses).filter(|(_, g)| g.is_unique()).map(|(c, _)| c.name.clone()).collect();
    Ok(Sample {
        columns,
        unique,
        records: records.len() - usize::from(header),
        header: Some(header),
        delimiter: (delimiter == b'\t').then_some('\t'),
    })
}

fn ndjson(bytes: &[u8]) -> Result<Sample, String> {
    let mut names: Vec<String> = Vec::new();
    let mut guesses: Vec<Guess> = Vec::new();
    let mut records = 0;
    for line in bytes.split(|b| *b == b'\n').map(<[u8]>::trim_ascii).filter(|l| !l.is_empty()).take(SAMPLE_RECORDS) {
        let Ok(serde_json::Value::Object(object)) = serde_json::from_slice(line) else { continue };
        let mut there = vec![false; names.len()];
        for (name, value) in &object {
            let index = names.iter().position(|n| n == name).unwrap_or_else(|| {
                names.push(name.clone());
                let mut guess = Guess::new();
                // Not in the records before.
                guess.nulls = records > 0;
                guesses.push(guess);
                there.push(false);
                names.len() - 1
            });
            there[index] = true;
            let guess = &mut guesses[index];
            match value {
                serde_json::Value::Null => guess.nulls = true,
                serde_json::Value::Bool(b) => {
                    guess.text(b.to_string().as_bytes());
                    guess.time = false;
                }
                serde_json::Value::Number(n) => {
                    guess.text(n.to_string().as_bytes());
                    (guess.boolean, guess.time) = (false, false);
                }
                serde_json::Value::String(s) => {
                    guess.text(s.as_bytes());
                    (guess.int, guess.float, guess.boolean) = (false, false, false);
                }
                // Nested values cannot be columns: never a type, and left out below.
                serde_json::Value::Array(_) | serde_json::Value::Object(_) => guess.repeats = true,
            }
        }
        guesses.iter_mut().zip(there).filter(|(_, there)| !there).for_each(|(g, _)| g.nulls = true);
        records += 1;
    }
    if records == 0 {
        return Err("it holds no JSON objects, one a line".into());
    }
    let pairs = || names.iter().zip(&guesses).filter(|(_, g)| g.any);
    Ok(Sample {
        columns: pairs().map(|(n, g)| Column { name: n.clone(), ty: g.ty(), nullable: true }).collect(),
        unique: pairs().filter(|(_, g)| g.is_unique()).map(|(n, _)| n.clone()).collect(),
        records,
        ..Sample::default()
    })
}

fn parquet(packing: Packing, file: File) -> Result<Sample, String> {
    let metadata = if packing == Packing::Plain {
        ArrowReaderMetadata::load(&file, ArrowReaderOptions::new())
    } else {
        let mut bytes = Vec::new();
        packing.unpack(file).and_then(|mut r| r.read_to_end(&mut bytes)).map_err(|e| e.to_string())?;
        ArrowReaderMetadata::load(&bytes::Bytes::from(bytes), ArrowReaderOptions::new())
    }
    .map_err(|e| e.to_string())?;
    Ok(of_schema(metadata.schema()))
}

fn ipc(packing: Packing, file: File) -> Result<Sample, String> {
    let mut bytes = Vec::new();
    packing.unpack(file).and_then(|mut r| r.read_to_end(&mut bytes)).map_err(|e| e.to_string())?;
    let schema = if bytes.starts_with(b"ARROW1") {
        arrow::ipc::reader::FileReader::try_new(Cursor::new(bytes), None).map(|r| r.schema())
    } else {
        arrow::ipc::reader::StreamReader::try_new(bytes.as_slice(), None).map(|r| r.schema())
    };
    Ok(of_schema(&schema.map_err(|e| e.to_string())?))
}

fn of_schema(schema: &SchemaRef) -> Sample {
    let ty = |d: &DataType| {
        Some(match d {
            DataType::Dictionary(_, v) if matches!(**v, DataType::Utf8 | DataType::LargeUtf8) => Type::String,
            DataType::Boolean => Type::Bool,
            DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => Type::String,
            DataType::Timestamp(..) | DataType::Date32 | DataType::Date64 => Type::Timestamp,
            DataType::Decimal128(_, 0) => Type::Decimal,
            d if d.is_integer() => Type::Int64,
            d if d.is_numeric() => Type::Float64,
            _ => return None,
        })
    };
    let columns = schema
        .fields()
        .iter()
        .filter_map(|f| Some(Column { name: f.name().clone(), ty: ty(f.data_type())?, nullable: true }));
    Sample { columns: columns.collect(), ..Sample::default() }
}

fn section(path: &Path, sample: &Sample) -> String {
    let file = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    let stem = file.split('.').next().unwrap_or_default();
    let mut name: String =
        stem.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '_' }).collect();
    if !name.starts_with(|c: char| c.is_ascii_lowercase()) {
        name.insert_str(0, "s_");
    }
    let mut out = format!("[sources.{name}]\ntype = \"file\"\npath = {}\n", quoted(&path.to_string_lossy()));
    if sample.header == Some(false) {
        out.push_str("header = false   # the first line looks like a record: give the columns names\n");
    }
    if let Some(delimiter) = sample.delimiter {
        let _ = writeln!(out, "delimiter = {}", quoted(&delimiter.to_string()));
    }
    if let Some(time) = sample.columns.iter().find(|c| c.ty == Type::Timestamp) {
        let _ = writeln!(out, "# event_time = {}", quoted(&time.name));
    }
    if let Some(key) = sample.unique.first() {
        let _ = writeln!(out, "# key = {}   # unique in the first {} records", quoted(key), sample.records);
    }
    let _ = writeln!(out, "\n[sources.{name}.columns]");
    for column in &sample.columns {
        let bare =
            !column.name.is_empty() && column.name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-');
        let key = if bare { column.name.clone() } else { quoted(&column.name) };
        // Such a name is reserved: the column stays out until a person has thought of it.
        let reserved = if column.name.starts_with('_') { "# " } else { "" };
        let _ = writeln!(out, "{reserved}{key} = \"{}\"", column.ty);
    }
    out
}

/// A TOML basic string: JSON's escapes are TOML's.
fn quoted(text: &str) -> String {
    serde_json::to_string(text).expect("a string is JSON")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(file: &str, text: &str, expected: &str) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(file);
        std::fs::write(&path, text).unwrap();
        let got = infer(&path).unwrap();
        let lines: Vec<&str> =
            got.lines().filter(|l| !l.is_empty() && !l.starts_with("path") && !l.starts_with("type")).collect();
        assert_eq!(lines.join("\n"), expected.trim());
    }

    #[test]
    fn types_header_event_time_and_key_are_read_off_the_data() {
        check(
            "Trips 2020.csv",
            "id,when,fare,ok,na me,gap\n1,2020-01-01 00:00:00,3.50,true,x,\n2,2020-01-02,4,false,\"y,z\",\n",
            "[sources.trips_2020]\n# event_time = \"when\"\n# key = \"id\"   # unique in the first 2 records\n[sources.trips_2020.columns]\nid = \"int64\"\nwhen = \"timestamp\"\nfare = \"float64\"\nok = \"bool\"\n\"na me\" = \"string\"\ngap = \"string\"",
        );
        check(
            "9.tsv",
            "1\ta\n2\tb\n2\tc\n",
            "[sources.s_9]\nheader = false   # the first line looks like a record: give the columns names\ndelimiter = \"\\t\"\n# key = \"column_2\"   # unique in the first 3 records\n[sources.s_9.columns]\ncolumn_1 = \"int64\"\ncolumn_2 = \"string\"",
        );
        check(
            "e.ndjson",
            "{\"a\":1,\"n\":{\"x\":1},\"t\":\"2020-01-01T00:00:00Z\"}\n{\"a\":1.5,\"s\":\"5\"}\n",
            "[sources.e]\n# event_time = \"t\"\n# key = \"a\"   # unique in the first 2 records\n[sources.e.columns]\na = \"float64\"\nt = \"timestamp\"\ns = \"string\"",
        );
    }
}
