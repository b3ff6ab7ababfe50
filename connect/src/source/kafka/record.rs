//! One message, decoded into a row (of Arrow IPC, rows): its value by the source's format, and what stands beside it.

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
use super::by_id::ById;
use super::key::{KeyDecoder, KeyFormat};
use super::log::Part;
use super::registry::Address;
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

    /// Whether its key or its value is longer than so many bytes.
    fn is_longer(&self, bytes_max: usize) -> bool {
        [&self.key, &self.value].into_iter().flatten().any(|bytes| bytes.len() > bytes_max)
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
    Protobuf(Messages),
    /// An Arrow IPC stream, of which each row is a record.
    Arrow,
}

/// Where the schemas of Avro values come from, or of keys.
#[derive(Clone, Debug)]
pub(super) enum Schemas {
    /// All are of this one, with its reader.
    One(Arc<avro::Schema>, avro::Reader),
    /// Each says the id of its own.
    ById,
}

impl Schemas {
    /// What of them changes rows, as text. Where the registry is may change; what it says of an id may not.
    pub fn describe(&self) -> String {
        match self {
            Schemas::One(schema, _) => format!("Avro of the schema {}", schema.fingerprint()),
            Schemas::ById => "Avro by schema ids".to_owned(),
        }
    }
}

/// Protobuf messages of one type.
#[derive(Clone, Debug)]
pub(super) struct Messages {
    pub reader: protobuf::Reader,
    /// Behind the number of a schema, which is not looked at, and the message's place in it.
    pub framed: bool,
}

impl Messages {
    /// What of them changes rows, as text.
    pub fn describe(&self) -> String {
        let behind = if self.framed { " behind a schema's id" } else { "" };
        format!("Protobuf {} of the schema {}{behind}", self.reader.name(), self.reader.fingerprint())
    }

    /// The bytes of the message alone.
    pub fn of<'v>(&self, value: &'v [u8]) -> Result<&'v [u8], Bad> {
        if self.framed { self.reader.of_its_type(indexes(framed(value)?.1)?) } else { Ok(value) }
    }
}

/// Which column comes from where.
#[derive(Clone, Debug)]
pub(super) struct Layout {
    pub spec: Arc<RowSpec>,
    pub format: Format,
    pub key_format: KeyFormat,
    /// What knows the schemas that values or keys say the ids of.
    pub registry: Option<Address>,
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
            Format::Avro { schemas, routes, .. } => format!(", {}{routes}", schemas.describe()),
            Format::Protobuf(messages) => format!(", {}", messages.describe()),
            Format::Arrow => ", Arrow IPC".to_owned(),
        };
        if !self.key.is_empty() {
            let columns: Vec<&str> = self.key.iter().map(|c| name(*c)).collect();
            out.push_str(&format!(", keys as {} in {}", self.key_format.describe(), columns.join(", ")));
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
    key: KeyDecoder,
    /// What is known of schemas, if there is a registry.
    schemas: Option<ById>,
    beside: Vec<bool>,
}

#[derive(Debug)]
enum ValueDecoder {
    Json(NdjsonDecoder, bool),
    Csv(CsvDecoder),
    Raw(usize),
    Avro(avro::Reader),
    AvroById,
    Protobuf(Messages),
    Arrow,
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
            Format::Avro { schemas: Schemas::ById, .. } => ValueDecoder::AvroById,
            Format::Protobuf(messages) => ValueDecoder::Protobuf(messages.clone()),
            Format::Arrow => ValueDecoder::Arrow,
        };
        let key = KeyDecoder::new(&layout.key_format, &layout.key, &layout.spec);
        let paths = match &layout.format {
            Format::Avro { paths, .. } => paths.clone(),
            _ => Paths::default(),
        };
        let schemas = layout.registry.as_ref().map(|address| ById::new(address.clone(), paths, layout.key.clone()));
        Decoder { layout: layout.clone(), value, key, schemas, beside }
    }

    /// Whether all is there that is needed to decode a message. If not, it has been asked for.
    pub fn is_ready(&mut self, message: &Message, now: Duration) -> bool {
        let spec = &self.layout.spec;
        let Some(schemas) = &mut self.schemas else { return true };
        if message.is_longer(spec.record_bytes_max) {
            // It will be a fault, as is one that says no id.
            return true;
        }
        let value = message.value.as_deref().filter(|_| matches!(self.value, ValueDecoder::AvroById));
        let key = message.key.as_deref().filter(|_| self.key.is_by_id());
        let mut ids = [value, key].into_iter().flatten().filter_map(|bytes| Some(framed(bytes).ok()?.0));
        ids.all(|id| schemas.knows(id, spec, now))
    }

    /// A batch begins that was made before: with these schemas unknown, and no others. `None`: a new one.
    pub fn begin(&mut self, replayed: Option<&[u32]>) {
        if let Some(schemas) = &mut self.schemas {
            schemas.begin(replayed);
        }
    }

    /// The schemas that messages of the batch named and that were unknown.
    pub fn unknown(&self) -> Vec<u32> {
        self.schemas.as_ref().map(ById::unknown).unwrap_or_default()
    }

    /// Why the registry does not answer, if that is so.
    pub fn trouble(&self) -> Option<&str> {
        self.schemas.as_ref()?.trouble()
    }

    /// Appends the message's rows, or faults, and says how many records that is: of Arrow IPC any number from 1 on, of
    /// all else one.
    pub fn decode(&mut self, part: &Part, message: &Message, rows: &mut Rows) -> u64 {
        let max = rows.spec.record_bytes_max;
        let result = if message.is_longer(max) {
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
            ValueDecoder::AvroById => {
                let (id, value) = framed(value)?;
                self.schemas.as_ref().expect("ids have a registry").value(id)?.row(value, rows)
            }
            ValueDecoder::Protobuf(messages) => messages.reader.row(messages.of(value)?, rows),
            ValueDecoder::Arrow => unreachable!("it is read as a stream"),
        }
    }

    /// Appends the cells that come from elsewhere than the message's value.
    fn beside(&mut self, part: &Part, message: &Message, rows: &mut Rows) -> Result<(), Bad> {
        self.key.decode(message.key.as_deref(), self.schemas.as_ref(), rows)?;
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
