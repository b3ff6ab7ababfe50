//! What a `kafka` source's section says, and what is wrong with it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use engine::connector::ConnectorFactory;
use engine::pipeline::Section;
use engine::plan::SourceShape;
use engine::{ConnectorDef, OptionDef};
use types::Type;
use types::time::TimeFormat;

use super::super::{RECORD_BYTES_OPTION, TIMESTAMP_FORMAT_OPTION, TIMESTAMP_UNIT_OPTION, row_spec};
use super::format::{
    FORMAT_OPTION, KINDS, Kind, MESSAGE_OPTION, PATHS_OPTION, SCHEMA_OPTION, SCHEMA_REGISTRY_CA_OPTION,
    SCHEMA_REGISTRY_OPTION, WIRE_OPTION, avro_format, is_framed, protobuf_format, registry,
};
use super::key::{
    KEY_COLUMNS_OPTION, KEY_FORMAT_OPTION, KEY_KINDS, KEY_MESSAGE_OPTION, KEY_SCHEMA_OPTION, KeyKind, key_format,
};
use super::log::Part;
use super::record::{Format, Layout};
use super::settings::{BROKERS_OPTION, LIBRDKAFKA_OPTION, Settings};
use super::topics::Topics;

pub(crate) const DEF: ConnectorDef = ConnectorDef {
    name: "kafka",
    summary: "Reads topics of an Apache Kafka cluster, each message exactly once, for ever.",
    options: &[
        BROKERS_OPTION,
        option(
            "topics",
            "string or list of strings",
            None,
            "The topics. One that does not exist yet is waited for. A name with `*`, `?` or `[…]` in it is a pattern: all topics that match, those that come later included; one that begins with `__` only if the pattern does.",
        ),
        option(
            "partitions",
            "int64 or list of int64",
            Some("all"),
            "Only these partitions of each topic. Without it, partitions that are added later are read too, from their beginning.",
        ),
        option(
            "start",
            "one of earliest, latest, timestamp, offsets",
            Some("\"earliest\""),
            "Where reading begins the first time. What it comes to is kept with the first epoch, before anything is read; afterwards the store knows.",
        ),
        option(
            "start_timestamp",
            "string",
            Some("none"),
            "For `start = \"timestamp\"`: the first message of each partition that is not older, as RFC 3339.",
        ),
        option(
            "start_offsets",
            "table of strings",
            Some("none"),
            "For `start = \"offsets\"`: `\"topic/partition\" = \"offset\"`. Partitions that are not named are read from their beginning.",
        ),
        FORMAT_OPTION,
        option("delimiter", "string", Some("\",\""), "CSV: the one byte between fields."),
        option("null", "string", Some("none"), "CSV: an unquoted field of this text is null, beside an empty one."),
        SCHEMA_REGISTRY_OPTION,
        SCHEMA_REGISTRY_CA_OPTION,
        SCHEMA_OPTION,
        MESSAGE_OPTION,
        WIRE_OPTION,
        PATHS_OPTION,
        KEY_FORMAT_OPTION,
        KEY_COLUMNS_OPTION,
        KEY_SCHEMA_OPTION,
        KEY_MESSAGE_OPTION,
        option(
            "timestamp_column",
            "timestamp column",
            Some("none"),
            "The column for the message's timestamp; it can be the source's `event_time`.",
        ),
        option("topic_column", "string column", Some("none"), "The column for the message's topic."),
        option("partition_column", "int64 column", Some("none"), "The column for the message's partition."),
        option("offset_column", "int64 column", Some("none"), "The column for the message's offset."),
        option(
            "header_columns",
            "table of strings",
            Some("none"),
            "`column = \"header\"`: columns that come from headers, the last of a name, as text of the column's type.",
        ),
        option(
            "lost",
            "one of stop, skip",
            Some("\"stop\""),
            "What to do when messages have expired before they were read: stop and say which, or go on behind them with a fault (`offsets_expired`).",
        ),
        option(
            "group",
            "string",
            Some("none"),
            "A consumer group that is told, once a second, up to where committed epochs have read, so that Kafka's own tools show how far behind the source is. It is never joined, and what it says is never read.",
        ),
        option(
            "discover_secs",
            "float",
            Some("10"),
            "How often the cluster is asked for new partitions and topics; from 0.1 to 3600.",
        ),
        option(
            "merge_wait_secs",
            "float",
            Some("1"),
            "Partitions are read side by side in the order of their messages' timestamps. For how long one that has more, but gives nothing, is waited for; from 0 to 60.",
        ),
        LIBRDKAFKA_OPTION,
        TIMESTAMP_FORMAT_OPTION,
        TIMESTAMP_UNIT_OPTION,
        RECORD_BYTES_OPTION,
    ],
    plan,
};

pub(super) const fn option(
    name: &'static str,
    shape: &'static str,
    default: Option<&'static str>,
    doc: &'static str,
) -> OptionDef {
    OptionDef { name, shape, default, doc }
}

/// Settings that the connector makes itself, since its promises rest on them.
const OURS: &[(&str, &str)] = &[
    ("enable.auto.commit", "false"),
    ("enable.auto.offset.store", "false"),
    ("auto.offset.reset", "error"),
    ("enable.partition.eof", "true"),
    ("statistics.interval.ms", "1000"),
];

/// Settings a pipeline may change, where messages of up to so many bytes are to be fetched.
fn usual(record_bytes_max: usize) -> Vec<(&'static str, String)> {
    // What a fetch may bring of a partition, and in all; the client's own defaults at least. A message that is longer
    // comes nevertheless, alone: it is then a fault, and must not be what the client breaks off its connection for.
    let of_partition = (record_bytes_max + MESSAGE_OVERHEAD).max(FETCH_BYTES);
    let mut settings = vec![
        // A topic that does not exist must stay so.
        ("allow.auto.create.topics", "false".to_owned()),
        // A fetch that waits for messages keeps every other question to the same broker waiting.
        ("fetch.wait.max.ms", "100".to_owned()),
        ("fetch.message.max.bytes", of_partition.to_string()),
        ("receive.message.max.bytes", RESPONSE_BYTES_MAX.to_string()),
    ];
    if of_partition > FETCH_ALL_BYTES {
        settings.push(("fetch.max.bytes", of_partition.to_string()));
    }
    settings
}

/// What the client fetches by itself of a partition, and in all.
const FETCH_BYTES: usize = 1 << 20;
const FETCH_ALL_BYTES: usize = 50 << 20;
/// What a message may have beside its value: key, headers, framing.
const MESSAGE_OVERHEAD: usize = 64 << 10;
/// What the client takes for an answer gone wild.
const RESPONSE_BYTES_MAX: usize = 1 << 30;

/// A `kafka` source, checked.
#[derive(Clone, Debug)]
pub(super) struct KafkaOptions {
    pub client: Settings,
    pub topics: Topics,
    pub partitions: Option<Vec<i32>>,
    pub start: Start,
    pub layout: Layout,
    pub skip_lost: bool,
    pub group: Option<String>,
    pub discover: Duration,
    pub merge_wait: Duration,
}

/// Where reading begins the first time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Start {
    Earliest,
    Latest,
    /// Milliseconds since 1970 UTC.
    Timestamp(i64),
    Offsets(BTreeMap<Part, i64>),
}

pub(super) fn plan(section: &mut Section<'_>, shape: &mut SourceShape) -> Option<Arc<dyn ConnectorFactory>> {
    let topics = section.required_strings("topics");
    let partitions = section.ints_in("partitions", 0..=i64::from(i32::MAX));
    let start = start(section);
    let skip_lost = section.choice_or("lost", &[("stop", false), ("skip", true)], false);
    let group = section.string("group");
    let mut secs = |key, default: f64, least, most| {
        if section.has(key) { section.float_in(key, least..=most) } else { Some(default) }.map(Duration::from_secs_f64)
    };
    let (discover, merge_wait) = (secs("discover_secs", 10.0, 0.1, 3600.0), secs("merge_wait_secs", 1.0, 0.0, 60.0));
    let layout = layout(section, shape);
    let record_bytes_max = layout.as_ref().map_or(super::super::RECORD_BYTES_MAX, |l| l.spec.record_bytes_max);
    let usual = usual(record_bytes_max);
    let usual: Vec<(&str, &str)> = usual.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let client = Settings::read(section, &usual, OURS);

    let topics = topics?;
    if topics.is_empty() {
        section.problem("topics", "`topics` must name at least one");
        return None;
    }
    let topics = match Topics::new(topics) {
        Ok(topics) => topics,
        Err(why) => {
            section.problem("topics", why);
            return None;
        }
    };
    if group.as_ref().is_some_and(String::is_empty) {
        section.problem("group", "`group` must not be empty");
        return None;
    }
    let partitions = match partitions {
        Some(list) => Some(list.into_iter().map(|p| i32::try_from(p).expect("in range")).collect()),
        None if section.has("partitions") => return None,
        None => None,
    };
    Some(Arc::new(KafkaOptions {
        client: client?,
        topics,
        partitions,
        start: start?,
        layout: layout?,
        skip_lost: skip_lost?,
        group,
        discover: discover?,
        merge_wait: merge_wait?,
    }))
}

fn start(section: &mut Section<'_>) -> Option<Start> {
    let kinds = [("earliest", 0), ("latest", 1), ("timestamp", 2), ("offsets", 3)];
    let kind = section.choice_or("start", &kinds, 0);
    let time = section.string("start_timestamp");
    let offsets = section.string_map("start_offsets");
    let kind = kind?;
    for (key, needs, word) in [("start_timestamp", 2, "timestamp"), ("start_offsets", 3, "offsets")] {
        if section.has(key) != (kind == needs) {
            let what = if kind == needs { "needs" } else { "alone has" };
            section.problem(key, format!("`start = \"{word}\"` {what} `{key}`"));
            return None;
        }
    }
    match kind {
        0 => Some(Start::Earliest),
        1 => Some(Start::Latest),
        2 => match TimeFormat::Auto.parse(time?.as_bytes()) {
            Ok(micros) => Some(Start::Timestamp(micros.div_euclid(1000))),
            Err(_) => {
                section.problem("start_timestamp", "`start_timestamp` must be a time like `2026-01-31T12:00:00Z`");
                None
            }
        },
        _ => {
            let mut map = BTreeMap::new();
            for (part, offset) in offsets? {
                let parsed = part.parse::<Part>().map_err(|e| format!("`start_offsets`: {e}"));
                let offset = offset.parse::<i64>().ok().filter(|o| *o >= 0);
                match (parsed, offset) {
                    (Ok(part), Some(offset)) => {
                        map.insert(part, offset);
                    }
                    (Err(e), _) => {
                        section.problem("start_offsets", e);
                        return None;
                    }
                    (_, None) => {
                        section.problem("start_offsets", format!("the offset of `{part}` must be a whole number"));
                        return None;
                    }
                }
            }
            Some(Start::Offsets(map))
        }
    }
}

fn layout(section: &mut Section<'_>, shape: &SourceShape) -> Option<Layout> {
    let kind = section.choice_or("format", &KINDS, Kind::Json);
    let delimiter = section.string("delimiter");
    let null = section.string("null");
    let key_kind = section.choice_or("key_format", &KEY_KINDS, KeyKind::Text);
    let key_names = section.strings("key_columns").unwrap_or_default();
    let mut single = |key: &'static str| section.string(key).map(|name| (key, name));
    let (timestamp, topic) = (single("timestamp_column"), single("topic_column"));
    let (partition, offset) = (single("partition_column"), single("offset_column"));
    let header_names = section.string_map("header_columns").unwrap_or_default();
    let spec = row_spec(section, shape);
    let (kind, key_kind, spec) = (kind?, key_kind?, spec?);

    let mut used: Vec<usize> = Vec::new();
    let mut good = true;
    let mut find = |section: &mut Section<'_>, key: &str, name: &str, ty: Option<Type>| {
        let Some(column) = spec.columns.iter().position(|c| c.name == name) else {
            section.unknown_name(key, "column", name, spec.columns.iter().map(|c| c.name.as_str()));
            good = false;
            return None;
        };
        let is = spec.columns[column].ty;
        if let Some(ty) = ty.filter(|ty| *ty != is) {
            section.problem(key, format!("`{key}` must be a {ty} column, and `{name}` is {is}"));
            good = false;
        }
        if used.contains(&column) || shape.tombstone.as_deref() == Some(name) {
            section.problem(key, format!("the column `{name}` is filled twice"));
            good = false;
        }
        used.push(column);
        Some(column)
    };
    let key: Vec<usize> = key_names.iter().filter_map(|n| find(section, "key_columns", n, None)).collect();
    let mut find_single = |section: &mut Section<'_>, given: Option<(&'static str, String)>, ty: Type| {
        given.and_then(|(key, name)| find(section, key, &name, Some(ty)))
    };
    let timestamp = find_single(section, timestamp, Type::Timestamp);
    let topic = find_single(section, topic, Type::String);
    let partition = find_single(section, partition, Type::Int64);
    let offset = find_single(section, offset, Type::Int64);
    let headers: Vec<(usize, String)> = header_names
        .into_iter()
        .filter_map(|(column, header)| Some((find(section, "header_columns", &column, None)?, header)))
        .collect();
    for (name, given) in [("delimiter", delimiter.is_some()), ("null", null.is_some())] {
        if given && kind != Kind::Csv {
            section.problem(name, format!("`{name}` is for `format = \"csv\"`"));
            good = false;
        }
    }
    let tombstone = shape.tombstone.as_ref().and_then(|t| spec.columns.iter().position(|c| c.name == *t));
    let left: Vec<usize> = (0..spec.columns.len()).filter(|c| !used.contains(c)).collect();
    let has_wire = matches!(kind, Kind::Json | Kind::Protobuf) || key_kind == KeyKind::Protobuf;
    let framed = has_wire && is_framed(section)?;
    let mut by_id = Vec::new();
    if kind == Kind::Avro && !section.has("schema") {
        by_id.push(("format", "schema"));
    }
    if key_kind == KeyKind::Avro && !section.has("key_schema") {
        by_id.push(("key_format", "key_schema"));
    }
    let has_registry = !by_id.is_empty() && section.has("schema_registry");
    let registry = if has_registry { Some(registry(section, shape)?) } else { None };
    for (format, schema) in by_id.into_iter().filter(|_| !has_registry) {
        section.problem(format, format!("`{format} = \"avro\"` needs either `schema_registry` or `{schema}`"));
        good = false;
    }
    // Of columns that are not there it has been told.
    let key_format =
        if key.len() == key_names.len() { key_format(section, shape, &spec, key_kind, &key, framed) } else { None };
    let format = match kind {
        Kind::Json => Format::Json { framed },
        Kind::Avro => avro_format(section, shape, &spec, &left, tombstone)?,
        Kind::Protobuf => protobuf_format(section, shape, &spec, &left, tombstone, framed)?,
        Kind::Arrow => Format::Arrow,
        Kind::Csv => match delimiter.as_deref().unwrap_or(",").as_bytes() {
            [b] if !b.is_ascii_alphanumeric() && !matches!(b, b'"' | b'\n' | b'\r' | b'.' | b'+' | b'-') => {
                Format::Csv { delimiter: *b, null }
            }
            _ => {
                section.problem("delimiter", "expected one byte that is no letter, digit, quote, sign or point");
                return None;
            }
        },
        Kind::Raw => match left.iter().filter(|c| Some(**c) != tombstone).collect::<Vec<_>>()[..] {
            [column] => Format::Raw(*column),
            _ => {
                section.problem("columns", "`format = \"raw\"` needs exactly one column that comes from nowhere else");
                return None;
            }
        },
    };
    if kind != Kind::Json && kind != Kind::Raw && left.is_empty() {
        section.problem("columns", "no column is left for the message's value");
        good = false;
    }
    let key_format = key_format?;
    let layout =
        Layout { spec, format, key_format, registry, key, timestamp, topic, partition, offset, headers, tombstone };
    good.then_some(layout)
}
