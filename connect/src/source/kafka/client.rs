//! The Kafka client, as far as it is needed: its state, told by itself, and the few questions it is asked.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::metadata::{MetadataPartition, MetadataTopic};
use rdkafka::statistics::Broker;
use rdkafka::{Offset, Statistics, TopicPartitionList};

use super::log::Part;
use super::options::{KafkaOptions, Start};

/// How long an answer of the cluster is waited for: the source's thread must hear when the engine stops.
const PATIENCE: Duration = Duration::from_millis(500);
/// A broker that has been asked, and for so long has said nothing, is as good as away: asked for messages, it answers
/// within `fetch.wait.max.ms` whether there are any or not. In the statistics it is up as long as its connection is.
const SILENCE_MS: i64 = 2_000;

/// What the client tells of itself.
#[derive(Debug)]
pub(super) struct Watch {
    source: String,
    /// Whether any broker is reached.
    connected: AtomicBool,
    /// What kept it from being so, last.
    trouble: Mutex<String>,
    /// A broker that is asked and silent for longer is as good as away.
    silence_us: i64,
    /// Brokers that were so when the statistics last came. A question may have been asked just before they did.
    silent: Mutex<BTreeSet<String>>,
    /// What the group was last told was not taken.
    group_refused: AtomicBool,
    /// The end of each partition, as the brokers said with the last messages.
    ends: Mutex<BTreeMap<Part, i64>>,
}

impl ClientContext for Watch {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        match level {
            RDKafkaLogLevel::Emerg | RDKafkaLogLevel::Alert | RDKafkaLogLevel::Critical => {
                tracing::warn!(source = self.source, facility, "kafka client: {message}");
            }
            // What matters of it is told by `error`, once.
            _ => tracing::debug!(source = self.source, facility, "kafka client: {message}"),
        }
    }

    fn error(&self, error: KafkaError, reason: &str) {
        match error.rdkafka_error_code() {
            Some(RDKafkaErrorCode::AllBrokersDown) => self.connected.store(false, Ordering::Relaxed),
            // The reader hears of these with the partition they are about.
            Some(RDKafkaErrorCode::PartitionEOF | RDKafkaErrorCode::AutoOffsetReset) => {}
            _ => *self.trouble.lock().expect("no holder panics") = reason.to_owned(),
        }
    }

    fn stats(&self, statistics: Statistics) {
        let up: Vec<_> = statistics.brokers.values().filter(|b| b.state == "UP").collect();
        let is_silent = |b: &&&Broker| b.waitresp_cnt > 0 && b.rxidle > self.silence_us;
        let silent: BTreeSet<String> = up.iter().filter(is_silent).map(|b| b.name.clone()).collect();
        let before = std::mem::replace(&mut *self.silent.lock().expect("no holder panics"), silent.clone());
        // One that is not asked anything says nothing for that reason.
        let answers = up.iter().any(|b| (0..=self.silence_us).contains(&b.rxidle));
        let is_away = !answers && silent.iter().any(|name| before.contains(name));
        if is_away {
            *self.trouble.lock().expect("no holder panics") = "a broker is connected and does not answer".to_owned();
        }
        self.connected.store(!up.is_empty() && !is_away, Ordering::Relaxed);
        let mut ends = self.ends.lock().expect("no holder panics");
        for (topic, told) in statistics.topics {
            for (id, partition) in told.partitions {
                if id >= 0 && partition.hi_offset >= 0 {
                    ends.insert(Part { topic: topic.clone(), id }, partition.hi_offset);
                }
            }
        }
    }
}

impl ConsumerContext for Watch {
    fn commit_callback(&self, result: Result<(), KafkaError>, _: &TopicPartitionList) {
        if let Err(e) = result {
            self.group_refused.store(true, Ordering::Relaxed);
            tracing::debug!(source = self.source, "telling the consumer group: {e}");
        }
    }
}

impl Watch {
    pub fn is_connected(&self) -> bool {
        self.connected.load(Ordering::Relaxed)
    }

    /// Whether what the group was told since this was asked was not taken.
    pub fn group_refused(&self) -> bool {
        self.group_refused.swap(false, Ordering::Relaxed)
    }

    /// The last trouble, in the client's words.
    pub fn trouble(&self) -> String {
        let trouble = self.trouble.lock().expect("no holder panics");
        if trouble.is_empty() { "no answer".to_owned() } else { trouble.clone() }
    }

    /// How many messages wait behind these offsets, as far as known.
    pub fn lag(&self, next: &BTreeMap<Part, i64>) -> i64 {
        let ends = self.ends.lock().expect("no holder panics");
        next.iter().map(|(part, next)| ends.get(part).map_or(0, |end| (end - next).max(0))).sum()
    }
}

/// A consumer that belongs to no group's assignment.
pub(super) fn connect(options: &KafkaOptions, source: &str) -> Result<Arc<BaseConsumer<Watch>>, String> {
    // The group is never joined. Unless the pipeline names it, it is a name for the cluster's logs, no more.
    let group = options.group.clone().unwrap_or_else(|| format!("thalweg-{source}"));
    let config = options.client.with(&[("group.id", &group)]);
    let wait_ms = config.get("fetch.wait.max.ms").and_then(|ms| ms.parse::<i64>().ok()).unwrap_or(500);
    let watch = Watch {
        source: source.to_owned(),
        connected: AtomicBool::new(false),
        trouble: Mutex::default(),
        silence_us: (SILENCE_MS + wait_ms) * 1000,
        silent: Mutex::default(),
        group_refused: AtomicBool::new(false),
        ends: Mutex::default(),
    };
    let consumer = config.create_with_context(watch);
    Ok(Arc::new(consumer.map_err(|e: KafkaError| format!("the Kafka client cannot be made: {e}"))?))
}

/// What the cluster says of the topics.
pub(super) struct Cluster {
    /// Its id; empty if it has none.
    pub id: String,
    pub parts: Vec<Part>,
    /// What is asked for and not there, as sentences.
    pub missing: Vec<String>,
}

/// Asks for the partitions of the source.
pub(super) fn discover(consumer: &BaseConsumer<Watch>, options: &KafkaOptions) -> Result<Cluster, KafkaError> {
    let mut cluster = Cluster { id: String::new(), parts: Vec::new(), missing: Vec::new() };
    let add = |topic: &str, partitions: &[MetadataPartition], parts: &mut Vec<Part>| {
        for partition in partitions {
            if options.partitions.as_ref().is_none_or(|only| only.contains(&partition.id())) {
                parts.push(Part { topic: topic.to_owned(), id: partition.id() });
            }
        }
    };
    for topic in &options.topics.names {
        let metadata = consumer.fetch_metadata(Some(topic), PATIENCE)?;
        let found = metadata.topics().iter().find(|t| t.name() == topic);
        let partitions = match found.and_then(MetadataTopic::error).map(RDKafkaErrorCode::from) {
            None | Some(RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic) => {
                found.map_or(&[][..], MetadataTopic::partitions)
            }
            // Whether it exists is not known: nothing may be begun as if it did not.
            Some(other) => return Err(KafkaError::MetadataFetch(other)),
        };
        if partitions.is_empty() {
            cluster.missing.push(format!("the topic `{topic}` does not exist"));
        }
        for id in options.partitions.iter().flatten() {
            if !partitions.is_empty() && !partitions.iter().any(|p| p.id() == *id) {
                cluster.missing.push(format!("the topic `{topic}` has no partition {id}"));
            }
        }
        add(topic, partitions, &mut cluster.parts);
    }
    if !options.topics.patterns.is_empty() {
        let metadata = consumer.fetch_metadata(None, PATIENCE)?;
        let (mut matched, topics) = (false, &options.topics);
        for topic in metadata.topics().iter().filter(|t| topics.matches(t.name())) {
            matched = true;
            add(topic.name(), topic.partitions(), &mut cluster.parts);
        }
        if !matched {
            cluster.missing.push(format!("no topic matches `{}`", topics.describe()));
        }
    }
    cluster.id = consumer.client().fetch_cluster_id(PATIENCE).unwrap_or_default();
    cluster.parts.sort();
    // One may be named, and match as well.
    cluster.parts.dedup();
    Ok(cluster)
}

/// The first offset a partition still has, and the one after its last.
pub(super) fn bounds(consumer: &BaseConsumer<Watch>, part: &Part) -> Result<(i64, i64), KafkaError> {
    consumer.fetch_watermarks(&part.topic, part.id, PATIENCE)
}

/// The offset at which a partition begins for the source.
pub(super) fn begin(consumer: &BaseConsumer<Watch>, part: &Part, start: &Start) -> Result<i64, KafkaError> {
    let (low, high) = bounds(consumer, part)?;
    match start {
        Start::Earliest => Ok(low),
        Start::Latest => Ok(high),
        Start::Offsets(offsets) => Ok(offsets.get(part).copied().unwrap_or(low)),
        Start::Timestamp(ms) => {
            let mut asked = TopicPartitionList::new();
            asked.add_partition_offset(&part.topic, part.id, Offset::Offset(*ms))?;
            let found = consumer.offsets_for_times(asked, PATIENCE)?;
            let found = found.find_partition(&part.topic, part.id);
            if let Some(found) = &found {
                found.error()?;
            }
            match found.map(|p| p.offset()) {
                Some(Offset::Offset(offset)) => Ok(offset),
                Some(Offset::End) => Ok(high),
                _ => Err(KafkaError::OffsetFetch(RDKafkaErrorCode::NoOffset)),
            }
        }
    }
}
