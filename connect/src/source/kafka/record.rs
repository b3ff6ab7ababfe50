//! One message, decoded into a row (of Arrow IPC, rows): its value by the source's format, and what stands beside it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use types::time::in_range;

use super::super::avro;
use super::super::cells::{Bad, Cells, RowSpec, Rows};
use super::super::columnar;
use super::super::csv::{CsvDecoder, too_large};
use super::super::ndjson::NdjsonDecoder;
use super::super::paths::Paths;
use super::super::protobuf;
use super::arrow;
use super::log::Part;
use super::registry::{Address, Answer, Registry, unknown_until};
use super::wire::{framed, indexes};

/// A message, out of the client's hands.
#[derive(Clone, Debug)]
pub(super) struct Message {
    pub offset: i64,
    /// Milliseconds since 1970 UTC, if the topic has times.
    pub timestamp_ms: Option<i64>,
    pub key: Option<Vec<u8>>,
    /// `None`: a tombstone.
    pub value: Option<Vec<u8>>,
    /// Only those the source asks for, in its order.
    pub headers: Vec<Option<Vec<u8>>>,
}

impl Message {
    /// About how many bytes of memory it takes.
    pub fn bytes(&self) -> usize {
        let long = |bytes: &Option<Vec<u8>>| bytes.as_ref().map_or(0, Vec::len);
        128 + long(&self.key) + long(&self.value) + self.headers.iter().map(|header| 24 + long(header)).sum::<usize>()
    }
}

/// How a value is written.
#[derive(Clone, Debug)]
pub(super) enum Format {
    Json {
        /// Behind the number of a schema, which is not looked at.
        framed: bool,
    },
    Csv {
        delimiter: u8,
        null: Option<String>,
    },
    /// The whole value is the text of this column.
    Raw(usize),
    Avro {
        schemas: Schemas,
        /// Which field fills which column.
        paths: Paths,
        /// Columns with paths of their own, as text.
        routes: String,
    },
    Protobuf {
        reader: protobuf::Reader,
        framed: bool,
    },
    /// An Arrow IPC stream, of which each row is a record.
    Arrow,
}

/// Where the schemas of Avro values come from.
#[derive(Clone, Debug)]
pub(super) enum Schemas {
    /// All values are of this one, with its reader.
    One(Arc<avro::Schema>, avro::Reader),
    /// Each value says the id of its own.
    Registry(Address),
}

/// How a message's key is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum KeyFormat {
    Text,
    Json,
}

/// Which column comes from where.
#[derive(Clone, Debug)]
pub(super) struct Layout {
    pub spec: Arc<RowSpec>,
    pub format: Format,
    pub key_format: KeyFormat,
    pub key: Vec<usize>,
    pub timestamp: Option<usize>,
    pub topic: Option<usize>,
    pub partition: Option<usize>,
    pub offset: Option<usize>,
    /// Columns with the headers that fill them.
    pub headers: Vec<(usize, String)>,
    pub tombstone: Option<usize>,
}

impl Layout {
    /// What of it changes rows, as text: part of the plan's fingerprint.
    pub fn describe(&self) -> String {
        let name = |c: usize| self.spec.columns[c].name.as_str();
        let mut out = match &self.format {
            Format::Json { framed: false } => ", JSON".to_owned(),
            Format::Json { framed: true } => ", JSON behind a schema's id".to_owned(),
            Format::Csv { delimiter, null } => {
                let null = null.as_ref().map_or(String::new(), |n| format!(", null {n:?}"));
                format!(", CSV, delimiter {:?}{null}", char::from(*delimiter))
            }
            Format::Raw(column) => format!(", values whole in {}", name(*column)),
            // Where the registry is may change; what it says of an id may not.
            Format::Avro { schemas: Schemas::Registry(_), routes, .. } => format!(", Avro by schema ids{routes}"),
            Format::Avro { schemas: Schemas::One(schema, _), routes, .. } => {
                format!(", Avro of the schema {}{routes}", schema.fingerprint())
            }
            Format::Protobuf { reader, framed } => {
                let behind = if *framed { " behind a schema's id" } else { "" };
                format!(", Protobuf {} of the schema {}{behind}", reader.name(), reader.fingerprint())
            }
            Format::Arrow => ", Arrow IPC".to_owned(),
        };
        if !self.key.is_empty() {
            let columns: Vec<&str> = self.key.iter().map(|c| name(*c)).collect();
            let form = if self.key_format == KeyFormat::Json { "JSON" } else { "text" };
            out.push_str(&format!(", keys as {form} in {}", columns.join(", ")));
        }
        let beside = [
            ("times", self.timestamp),
            ("topics", self.topic),
            ("partitions", self.partition),
            ("offsets", self.offset),
        ];
        for (what, column) in beside {
            if let Some(column) = column {
                out.push_str(&format!(", {what} in {}", name(column)));
            }
        }
        for (column, header) in &self.headers {
            out.push_str(&format!(", header {header:?} in {}", name(*column)));
        }
        out + &self.spec.describe()
    }

    /// Columns that are not filled from the value.
    pub fn beside(&self) -> Vec<bool> {
        let mut beside = vec![false; self.spec.columns.len()];
        let single = [self.timestamp, self.topic, self.partition, self.offset];
        let all = self.key.iter().copied().chain(single.into_iter().flatten()).chain(self.headers.iter().map(|h| h.0));
        all.for_each(|c| beside[c] = true);
        beside
    }
}

/// Decodes messages one after the other. Keeps nothing from one to the next.
#[derive(Debug)]
pub(super) struct Decoder {
    layout: Layout,
    value: ValueDecoder,
    key: NdjsonDecoder,
    /// Columns the message's key fills, of a key that is JSON.
    not_key: Vec<bool>,
    beside: Vec<bool>,
}

#[derive(Debug)]
enum ValueDecoder {
    Json(NdjsonDecoder, bool),
    Csv(CsvDecoder),
    Raw(usize),
    Avro(avro::Reader),
    AvroById(ById),
    Protobuf(protobuf::Reader, bool),
    Arrow,
}

/// Avro values that say the id of their schema.
#[derive(Debug)]
struct ById {
    registry: Registry,
    paths: Paths,
    known: BTreeMap<u32, Known>,
    /// The ids that were not known when a batch was made, while it is made again.
    replayed: Option<BTreeSet<u32>>,
    /// The ids that messages named and the registry did not know, since it was last asked which.
    unknown: BTreeSet<u32>,
}

/// A schema's reader, or what is wrong with every value of the schema.
#[derive(Debug)]
struct Known {
    reader: Result<avro::Reader, Bad>,
    /// Until when that is so, of the source's clock; `None`: for ever.
    until: Option<Duration>,
}

impl Decoder {
    pub fn new(layout: &Layout) -> Decoder {
        let beside = layout.beside();
        let value = match &layout.format {
            Format::Json { framed } => ValueDecoder::Json(NdjsonDecoder::new(""), *framed),
            Format::Csv { delimiter, null } => {
                let fields: Vec<Option<usize>> = (0..beside.len()).filter(|c| !beside[*c]).map(Some).collect();
                ValueDecoder::Csv(CsvDecoder::new("", *delimiter, null.as_deref(), &fields, &layout.spec))
            }
            Format::Raw(column) => ValueDecoder::Raw(*column),
            Format::Avro { schemas: Schemas::One(_, reader), .. } => ValueDecoder::Avro(reader.clone()),
            Format::Avro { schemas: Schemas::Registry(address), paths, .. } => ValueDecoder::AvroById(ById {
                registry: Registry::new(address.clone()),
                paths: paths.clone(),
                known: BTreeMap::new(),
                replayed: None,
                unknown: BTreeSet::new(),
            }),
            Format::Protobuf { reader, framed } => ValueDecoder::Protobuf(reader.clone(), *framed),
            Format::Arrow => ValueDecoder::Arrow,
        };
        let not_key = (0..beside.len()).map(|c| !layout.key.contains(&c)).collect();
        Decoder { layout: layout.clone(), value, key: NdjsonDecoder::new(""), not_key, beside }
    }

    /// Whether all is there that is needed to decode a message. If not, it has been asked for.
    pub fn is_ready(&mut self, message: &Message, now: Duration) -> bool {
        let (ValueDecoder::AvroById(by_id), Some(value)) = (&mut self.value, &message.value) else { return true };
        match framed(value) {
            Ok((id, _)) if value.len() <= self.layout.spec.record_bytes_max => by_id.knows(id, &self.layout.spec, now),
            // It will be a fault.
            _ => true,
        }
    }

    /// From now on decodes a batch that was made before: with these schemas unknown, and no others. `None`: new ones.
    pub fn replay(&mut self, unknown: Option<&[u32]>) {
        if let ValueDecoder::AvroById(by_id) = &mut self.value {
            by_id.replayed = unknown.map(|ids| ids.iter().copied().collect());
        }
    }

    /// The schemas that were unknown since this was asked last.
    pub fn take_unknown(&mut self) -> Vec<u32> {
        match &mut self.value {
            ValueDecoder::AvroById(by_id) => std::mem::take(&mut by_id.unknown).into_iter().collect(),
            _ => Vec::new(),
        }
    }

    /// Why the registry does not answer, if that is so.
    pub fn trouble(&self) -> Option<&str> {
        match &self.value {
            ValueDecoder::AvroById(by_id) => by_id.registry.trouble(),
            _ => None,
        }
    }

    /// Appends the message's rows, or faults, and says how many records that is: of Arrow IPC any number from 1 on, of
    /// all else one.
    pub fn decode(&mut self, part: &Part, message: &Message, rows: &mut Rows) -> u64 {
        let max = rows.spec.record_bytes_max;
        let too_long = |bytes: &Option<Vec<u8>>| bytes.as_ref().is_some_and(|b| b.len() > max);
        let result = if too_long(&message.value) || too_long(&message.key) {
            Err(too_large(max))
        } else if let (ValueDecoder::Arrow, Some(value)) = (&self.value, &message.value) {
            match arrow::read(value, &rows.spec, &self.beside.iter().map(|b| !b).collect::<Vec<_>>()) {
                Ok(stream) => return self.stream(part, message, &stream, rows),
                Err(bad) => Err(bad),
            }
        } else {
            self.row(part, message, rows).and_then(|()| rows.commit())
        };
        if let Err(bad) = result {
            let raw = message.value.as_deref().or(message.key.as_deref()).unwrap_or_default();
            rows.reject(bad, format!("{part}@{}", message.offset), raw);
        }
        1
    }

    /// Appends the rows of a message that has any number of them; provenance counts them from 1.
    fn stream(&mut self, part: &Part, message: &Message, stream: &arrow::Stream, rows: &mut Rows) -> u64 {
        let mut count = 0;
        for converted in &stream.batches {
            let mut bad = converted.bad.iter().peekable();
            for row in 0..converted.batch.num_rows() {
                count += 1;
                let result = match bad.next_if(|(at, ..)| *at == row) {
                    Some((_, bad, _)) => Err(bad.clone()),
                    None => self
                        .beside(part, message, rows)
                        .and_then(|()| {
                            for (place, column) in stream.columns.iter().enumerate() {
                                let (builder, spec) = (&mut rows.columns[*column], &rows.spec);
                                let column = &spec.columns[*column];
                                arrow::push_cell(builder, &converted.batch, place, row, column, &spec.time)?;
                            }
                            rows.fill();
                            Ok(())
                        })
                        .and_then(|()| rows.commit()),
                };
                if let Err(bad) = result {
                    let names = stream.columns.iter().map(|c| self.layout.spec.columns[*c].name.as_str());
                    let raw = columnar::text(&converted.batch, row, names);
                    rows.reject(bad, format!("{part}@{}:{count}", message.offset), raw.as_bytes());
                }
            }
        }
        count
    }

    fn row(&mut self, part: &Part, message: &Message, rows: &mut Rows) -> Result<(), Bad> {
        self.beside(part, message, rows)?;
        let Some(value) = message.value.as_deref() else { return self.tombstone(rows) };
        match &mut self.value {
            ValueDecoder::Json(json, is_framed) => {
                let value = if *is_framed { framed(value)?.1 } else { value };
                json.message(value, &self.beside, true, rows)
            }
            ValueDecoder::Csv(csv) => csv.message(value, rows),
            ValueDecoder::Raw(column) => {
                let column = *column;
                let (builder, spec) = (&mut rows.columns[column], &rows.spec);
                builder.push_text(value, &spec.columns[column], &spec.time)?;
                rows.fill();
                Ok(())
            }
            ValueDecoder::Avro(reader) => reader.row(value, rows),
            ValueDecoder::AvroById(by_id) => {
                let (id, value) = framed(value)?;
                match by_id.reader(id) {
                    Ok(reader) => reader.row(value, rows),
                    Err(bad) => Err(bad),
                }
            }
            ValueDecoder::Protobuf(reader, is_framed) => {
                let value = if *is_framed { reader.of_its_type(indexes(framed(value)?.1)?)? } else { value };
                reader.row(value, rows)
            }
            ValueDecoder::Arrow => unreachable!("it is read as a stream"),
        }
    }

    /// Appends the cells that come from elsewhere than the message's value.
    fn beside(&mut self, part: &Part, message: &Message, rows: &mut Rows) -> Result<(), Bad> {
        self.key(message, rows)?;
        let layout = &self.layout;
        let time = match (layout.timestamp, message.timestamp_ms) {
            (Some(column), Some(ms)) => {
                let micros = ms.checked_mul(1000).filter(|micros| in_range(*micros));
                Some(micros.ok_or_else(|| Bad::range(&rows.spec.columns[column], &ms.to_string()))?)
            }
            _ => None,
        };
        let numbers = [
            (layout.timestamp, time),
            (layout.partition, Some(i64::from(part.id))),
            (layout.offset, Some(message.offset)),
        ];
        for (column, number) in numbers {
            let Some(column) = column else { continue };
            let builder = &mut rows.columns[column];
            match (&mut builder.cells, number) {
                (Cells::Int(v) | Cells::Time(v), Some(number)) => v.push(number),
                _ => builder.push_null(),
            }
        }
        if let Some(column) = layout.topic {
            rows.columns[column].push_str(part.topic.as_bytes());
        }
        for ((column, _), text) in layout.headers.iter().zip(&message.headers) {
            let (builder, spec) = (&mut rows.columns[*column], &rows.spec);
            match text {
                Some(text) => builder.push_text(text, &spec.columns[*column], &spec.time)?,
                None => builder.push_null(),
            }
        }
        Ok(())
    }

    /// Appends the cells that come from the message's key.
    fn key(&mut self, message: &Message, rows: &mut Rows) -> Result<(), Bad> {
        let in_key = |bad: Bad| Bad { detail: format!("in the message's key: {}", bad.detail), ..bad };
        match (&message.key, self.layout.key_format) {
            _ if self.layout.key.is_empty() => Ok(()),
            (None, _) => {
                self.layout.key.iter().for_each(|c| rows.columns[*c].push_null());
                Ok(())
            }
            (Some(key), KeyFormat::Json) => {
                let good = rows.good();
                self.key.message(key, &self.not_key, false, rows).map_err(in_key)?;
                for column in &self.layout.key {
                    if rows.columns[*column].len() == good {
                        rows.columns[*column].push_null();
                    }
                }
                Ok(())
            }
            (Some(key), KeyFormat::Text) => {
                let (column, spec) = (self.layout.key[0], &rows.spec);
                rows.columns[column].push_text(key, &spec.columns[column], &spec.time).map_err(in_key)
            }
        }
    }

    /// A message without a value: the row that deletes its key's row.
    fn tombstone(&self, rows: &mut Rows) -> Result<(), Bad> {
        let Some(tombstone) = self.layout.tombstone else {
            return Err(Bad::new("no_value", "the message has no value, and the source has no `tombstone` column"));
        };
        if let Cells::Bool(v) = &mut rows.columns[tombstone].cells {
            v.push(true);
        }
        rows.fill();
        Ok(())
    }
}

impl ById {
    /// Reads values of a schema, which is known by now; the error is what each of them is.
    fn reader(&mut self, id: u32) -> Result<&avro::Reader, Bad> {
        if self.replayed.as_ref().is_some_and(|unknown| unknown.contains(&id)) {
            return Err(unknown_schema(id));
        }
        let known = self.known.get(&id).expect("nothing is decoded that is not ready");
        if known.until.is_some() {
            self.unknown.insert(id);
        }
        known.reader.as_ref().map_err(Clone::clone)
    }

    /// Whether it is known what values of this schema are. If not, the registry has been asked.
    fn knows(&mut self, id: u32, spec: &RowSpec, now: Duration) -> bool {
        let was_unknown = self.replayed.as_ref().map(|unknown| unknown.contains(&id));
        // What was known when a batch was made is asked for until it is known again: the registry lags, or has lost it.
        let is_known = |known: &Known| known.until.is_none_or(|until| was_unknown.is_none() && now < until);
        if was_unknown == Some(true) || self.known.get(&id).is_some_and(is_known) {
            return true;
        }
        let Some(answer) = self.registry.schema(id, now) else { return false };
        if answer == Answer::Unknown && was_unknown == Some(false) {
            self.registry.wait(format!("it no longer knows the schema {id}, of which it knew"), now);
            return false;
        }
        self.known.retain(|_, known| known.until.is_none_or(|until| now < until));
        let until = (answer == Answer::Unknown).then(|| unknown_until(now));
        let unusable =
            |why: String| Bad::new("bad_schema", format!("the schema with the id {id} cannot be used: {why}"));
        let reader = match answer {
            Answer::Schema(text) => avro::Schema::parse(&text)
                .map_err(unusable)
                .and_then(|schema| avro::Reader::new(Arc::new(schema), &self.paths, spec)),
            Answer::Unusable(why) => Err(unusable(why)),
            Answer::Unknown => Err(unknown_schema(id)),
        };
        self.known.insert(id, Known { reader, until });
        true
    }
}

fn unknown_schema(id: u32) -> Bad {
    Bad::new("unknown_schema", format!("the registry has no schema with the id {id}"))
}
