//! What a `kafka` sink's section says, and what is wrong with it.

use std::sync::Arc;

use engine::pipeline::Section;
use engine::plan::SinkShape;
use engine::sink::{Sink, SinkEnv, SinkError, SinkFactory};
use engine::{OptionDef, SinkDef};
use types::Type;

use super::encode::{Key, Mode};
use super::kafka::KafkaSink;
use crate::source::kafka::settings::{BROKERS_OPTION, LIBRDKAFKA_OPTION, Settings, is_topic};

pub(super) const DEF: SinkDef = SinkDef {
    name: "kafka",
    summary: "Writes a view to a topic of an Apache Kafka cluster, each change exactly once for readers that read committed messages.",
    options: &[
        BROKERS_OPTION,
        option("topic", "string", None, "The topic. One that does not exist yet is waited for."),
        option(
            "mode",
            "one of changelog, append",
            Some("\"changelog\", for a stream \"append\""),
            "`changelog`: a message's key is the row's key and its value the row, or none when the row is gone, as a compacted topic wants it. `append`: each row that is new or changed, and nothing of deletions: decisions as they are made.",
        ),
        option(
            "key_format",
            "one of text, json",
            Some("\"text\" for one column, \"json\" for several"),
            "What a message's key is: the text of one column, or a JSON object with a member for each.",
        ),
        option(
            "key_columns",
            "column or list of columns",
            Some("the view's key; none for a stream"),
            "With `append`: the columns of a message's key.",
        ),
        option(
            "timestamp_column",
            "timestamp column",
            Some("none"),
            "The column whose time is the message's timestamp; otherwise it is when the message was sent.",
        ),
        option(
            "format",
            "one of json, dead_letter",
            Some("\"json\""),
            "What a message's value is: the row as a JSON object; or, of the view `faults`, the record that could not be processed, as far as it is kept (4 KiB), with why and from where in headers.",
        ),
        option("of_source", "string", Some("all"), "With `dead_letter`: only the records of this source."),
        option(
            "delivery",
            "one of exactly_once, at_least_once",
            Some("\"exactly_once\""),
            "`exactly_once`: transactions; whoever reads committed messages sees the changes of an epoch all at once, and each once. `at_least_once`: without transactions; after a crash the last changes may come again.",
        ),
        option(
            "transactional_id",
            "string",
            Some("\"thalweg-PIPELINE-SINK\""),
            "Names the sink to the cluster: as the transactional id, and as the group whose committed offset holds how far the sink is. Two daemons must not use the same.",
        ),
        LIBRDKAFKA_OPTION,
    ],
    plan,
};

const fn option(
    name: &'static str,
    shape: &'static str,
    default: Option<&'static str>,
    doc: &'static str,
) -> OptionDef {
    OptionDef { name, shape, default, doc }
}

/// Settings the sink makes itself, since its promises rest on them.
const OURS: &[(&str, &str)] =
    &[("enable.idempotence", "true"), ("enable.auto.commit", "false"), ("isolation.level", "read_committed")];

/// Settings a pipeline may change.
const USUAL: &[(&str, &str)] = &[
    // Keys go to the partitions Java's clients send them to.
    ("partitioner", "murmur2_random"),
    ("linger.ms", "2"),
    ("batch.num.messages", "100000"),
    ("queue.buffering.max.messages", "200000"),
    ("queue.buffering.max.kbytes", "131072"),
];

/// A `kafka` sink, checked.
#[derive(Clone, Debug)]
pub(super) struct KafkaSinkOptions {
    pub client: Settings,
    pub topic: String,
    pub mode: Mode,
    pub key: Key,
    pub time: Option<usize>,
    /// The records that could not be processed instead of rows: of one source, or of all.
    pub dead_letters: Option<Option<String>>,
    pub exactly_once: bool,
    pub transactional_id: Option<String>,
}

impl SinkFactory for KafkaSinkOptions {
    fn open(&self, env: SinkEnv) -> Result<Box<dyn Sink>, SinkError> {
        Ok(Box::new(KafkaSink::open(self.clone(), env)?))
    }

    fn describe(&self) -> String {
        let what = match (&self.dead_letters, self.mode) {
            (Some(None), _) => "dead letters".to_owned(),
            (Some(Some(source)), _) => format!("dead letters of {source}"),
            (None, Mode::Changelog) => "changelog".to_owned(),
            (None, Mode::Append) => "append".to_owned(),
        };
        let how = if self.exactly_once { "exactly once" } else { "at least once" };
        format!("topic {}, {what}, {how}", self.topic)
    }
}

fn plan(section: &mut Section<'_>, shape: &SinkShape) -> Option<Arc<dyn SinkFactory>> {
    let client = Settings::read(section, USUAL, OURS);
    let topic = section.required_string("topic");
    let schema = &shape.schema;
    let usual_mode = if schema.append_only { Mode::Append } else { Mode::Changelog };
    let mode = section.choice_or("mode", &[("changelog", Mode::Changelog), ("append", Mode::Append)], usual_mode);
    let is_letters = section.choice_or("format", &[("json", false), ("dead_letter", true)], false);
    let exactly_once = section.choice_or("delivery", &[("exactly_once", true), ("at_least_once", false)], true);
    let of_source = section.string("of_source");
    let transactional_id = section.string("transactional_id");
    let formats = [("text", false), ("json", true)];
    let json_key = if section.has("key_format") { Some(section.choice("key_format", &formats)?) } else { None };
    let time = section.optional_column("timestamp_column", schema);
    let columns = if section.has("key_columns") { Some(section.columns("key_columns", schema)?) } else { None };
    let (client, topic, mode, is_letters, exactly_once) = (client?, topic?, mode?, is_letters?, exactly_once?);
    if !is_topic(&topic) {
        section.problem("topic", format!("`{topic}` cannot be the name of a topic"));
        return None;
    }
    if transactional_id.as_ref().is_some_and(String::is_empty) {
        section.problem("transactional_id", "`transactional_id` must not be empty");
        return None;
    }
    if mode == Mode::Changelog && schema.append_only {
        section
            .problem("mode", format!("`{}` is a stream, whose rows have no key: `mode = \"append\"`", shape.relation));
        return None;
    }
    if mode == Mode::Changelog && columns.is_some() {
        section.problem(
            "key_columns",
            "a changelog's messages have the key of the view: `key_columns` is for `mode = \"append\"`",
        );
        return None;
    }
    if let Some(column) = time.filter(|c| schema.columns[*c].ty != Type::Timestamp) {
        let column = &schema.columns[column];
        section.problem(
            "timestamp_column",
            format!("`timestamp_column` must be a timestamp column, and `{}` is {}", column.name, column.ty),
        );
        return None;
    }
    if is_letters && shape.relation != engine::FAULTS {
        section.problem("format", "`format = \"dead_letter\"` is for `view = \"faults\"`");
        return None;
    }
    if of_source.is_some() && !is_letters {
        section.problem("of_source", "`of_source` is for `format = \"dead_letter\"`");
        return None;
    }
    let columns = columns.unwrap_or_else(|| if schema.append_only { Vec::new() } else { schema.key.clone() });
    let key = match (columns.as_slice(), json_key) {
        ([], None) => Key::None,
        ([], Some(_)) => {
            section.problem("key_format", "there is no key: `key_columns` says of which columns it is made");
            return None;
        }
        ([column], None | Some(false)) => Key::Text(*column),
        (_, Some(false)) => {
            section.problem("key_format", "a key that is text has one column; several need `key_format = \"json\"`");
            return None;
        }
        (columns, _) => Key::Json(columns.to_vec()),
    };
    Some(Arc::new(KafkaSinkOptions {
        client,
        topic,
        mode,
        key,
        time,
        dead_letters: is_letters.then_some(of_source),
        exactly_once,
        transactional_id,
    }))
}
