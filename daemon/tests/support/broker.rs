//! A real Kafka broker for tests, started by `scripts/kafka`, a producer that says which partition, and a consumer of what
//! is committed.

#![allow(dead_code, reason = "each test file uses its part")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::KafkaError;
use rdkafka::message::{Header, Headers as _, Message as _, OwnedHeaders};
use rdkafka::producer::{BaseRecord, Producer as _, ThreadedProducer};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};

/// A broker of its own, with its data in a temporary folder; ended when dropped.
pub struct Broker {
    dir: tempfile::TempDir,
    /// `127.0.0.1:PORT`; stays the same over restarts.
    pub address: String,
    /// What it is reached by SASL_SSL with.
    certificates: Option<PathBuf>,
}

/// A message to be sent.
#[derive(Clone, Debug, Default)]
pub struct Message {
    /// Its partition.
    pub partition: i32,
    /// Its timestamp, milliseconds since 1970 UTC.
    pub at_ms: i64,
    /// Its key.
    pub key: String,
    /// Its value; `None` is a tombstone.
    pub value: Option<String>,
    /// A header named `kind`.
    pub kind: Option<&'static str>,
}

/// A message that was read.
#[derive(Clone, Debug)]
pub struct Received {
    /// Its partition.
    pub partition: i32,
    /// Its offset in it.
    pub offset: i64,
    /// Its timestamp, milliseconds since 1970 UTC.
    pub at_ms: i64,
    /// Its key.
    pub key: Option<String>,
    /// Its value; `None` is a tombstone.
    pub value: Option<String>,
    /// Its headers.
    pub headers: Vec<(String, String)>,
}

impl Received {
    /// The value of a header.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str())
    }
}

impl Broker {
    /// Starts one. `None`, with a printed reason, where Kafka cannot be had, which is a failure under CI.
    pub fn start() -> Option<Broker> {
        Broker::start_with(None)
    }

    /// Starts one that is also reached by SASL_SSL, at [`Broker::secure_address`]: see `scripts/kafka`.
    pub fn start_secure(certificates: &Path) -> Option<Broker> {
        Broker::start_with(Some(certificates.to_owned()))
    }

    fn start_with(certificates: Option<PathBuf>) -> Option<Broker> {
        let installed = script(&["install".into()]);
        if !installed.status.success() {
            assert!(std::env::var_os("CI").is_none(), "Kafka cannot be had: {}", crate::support::text(&installed));
            eprintln!("skipped: Kafka cannot be had: {}", crate::support::text(&installed));
            return None;
        }
        let mut broker = Broker { dir: tempfile::tempdir().unwrap(), address: String::new(), certificates };
        broker.address = broker.again();
        Some(broker)
    }

    /// Where it is reached by SASL_SSL.
    pub fn secure_address(&self) -> String {
        let (host, port) = self.address.rsplit_once(':').unwrap();
        format!("{host}:{}", port.parse::<u16>().unwrap() + 2)
    }

    /// Starts it where it was.
    pub fn again(&self) -> String {
        // What it prints goes to a pipe that the broker must not hold open; the script sees to that.
        let mut command = command(&["start".into(), self.folder()]);
        if let Some(certificates) = &self.certificates {
            command.env("THALWEG_KAFKA_SECURE", certificates);
        }
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}", crate::support::text(&output));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    /// Ends it as a crash would.
    pub fn kill(&self) {
        script(&["kill".into(), self.folder()]);
    }

    /// Kafka's topic tool.
    pub fn topics(&self, words: &[&str]) {
        let words =
            [&["topics".into(), self.folder()], &words.iter().map(PathBuf::from).collect::<Vec<_>>()[..]].concat();
        // On a busy machine a broker loses its lease for moments.
        let output = (0..20).map(|_| script(&words)).find(|output| {
            let is_fenced = String::from_utf8_lossy(&output.stdout).contains("currently fenced");
            output.status.success() || !is_fenced
        });
        let output = output.expect("the broker has no lease");
        assert!(output.status.success(), "{}", crate::support::text(&output));
    }

    /// Changes a setting of a topic.
    pub fn configure(&self, topic: &str, setting: &str) {
        let words = ["--alter", "--entity-type", "topics", "--entity-name", topic, "--add-config", setting];
        let words = [&["configs".into(), self.folder()], &words.map(PathBuf::from)[..]].concat();
        let output = script(&words);
        assert!(output.status.success(), "{}", crate::support::text(&output));
    }

    /// Makes a topic that keeps messages however old their timestamps are.
    pub fn create(&self, topic: &str, partitions: usize) {
        let partitions = partitions.to_string();
        self.topics(&["--create", "--topic", topic, "--partitions", &partitions, "--config", "retention.ms=-1"]);
    }

    /// Sends messages and waits until the broker has them, in the order of each partition.
    pub fn send(&self, topic: &str, messages: &[Message]) {
        let producer: ThreadedProducer<_> = ClientConfig::new()
            .set("bootstrap.servers", &self.address)
            .set("enable.idempotence", "true")
            .set("queue.buffering.max.messages", "1000000")
            .create()
            .unwrap();
        for message in messages {
            let mut record = BaseRecord::<str, str>::to(topic)
                .partition(message.partition)
                .timestamp(message.at_ms)
                .key(&message.key);
            if let Some(value) = &message.value {
                record = record.payload(value);
            }
            if let Some(kind) = message.kind {
                record = record.headers(OwnedHeaders::new().insert(Header { key: "kind", value: Some(kind) }));
            }
            producer.send(record).map_err(|(e, _)| e).unwrap();
        }
        producer.flush(Duration::from_secs(600)).unwrap();
    }

    /// Sends values that are no text: partition, key, value.
    pub fn send_bytes(&self, topic: &str, values: &[(i32, &str, Vec<u8>)]) {
        let producer: ThreadedProducer<_> = ClientConfig::new()
            .set("bootstrap.servers", &self.address)
            .set("enable.idempotence", "true")
            .set("message.max.bytes", "100000000")
            .set("queue.buffering.max.kbytes", "1000000")
            .create()
            .unwrap();
        for (i, (partition, key, value)) in values.iter().enumerate() {
            let record = BaseRecord::<str, [u8]>::to(topic)
                .partition(*partition)
                .timestamp(1_480_000_000_000 + i as i64)
                .key(*key)
                .payload(value);
            producer.send(record).map_err(|(e, _)| e).unwrap();
        }
        producer.flush(Duration::from_secs(60)).unwrap();
    }

    /// Stops it in the middle of what it does, its connections open.
    pub fn pause(&self) {
        self.signal("-STOP");
    }

    /// Lets it go on.
    pub fn resume(&self) {
        self.signal("-CONT");
    }

    fn signal(&self, signal: &str) {
        let pid = std::fs::read_to_string(self.folder().join("pid")).unwrap();
        let status = Command::new("kill").args([signal, pid.trim()]).status().unwrap();
        assert!(status.success());
    }

    /// Every committed message of a topic, partition by partition.
    pub fn read(&self, topic: &str) -> Vec<Received> {
        let mut received = Vec::new();
        self.each(topic, |message| received.push(message));
        received.sort_by_key(|m| (m.partition, m.offset));
        received
    }

    /// Every committed message of a topic, each partition in its order, read as a stranger reads it.
    pub fn each(&self, topic: &str, mut take: impl FnMut(Received)) {
        let consumer: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", &self.address)
            .set("group.id", "a-stranger")
            .set("enable.auto.commit", "false")
            .set("isolation.level", "read_committed")
            .set("enable.partition.eof", "true")
            .create()
            .unwrap();
        let metadata = consumer.fetch_metadata(Some(topic), Duration::from_secs(30)).unwrap();
        let mut list = TopicPartitionList::new();
        for partition in metadata.topics()[0].partitions() {
            list.add_partition_offset(topic, partition.id(), Offset::Beginning).unwrap();
        }
        let mut open = list.count();
        consumer.assign(&list).unwrap();
        while open > 0 {
            let message = match consumer.poll(Duration::from_secs(60)).expect("the topic does not end") {
                Ok(message) => message,
                Err(KafkaError::PartitionEOF(_)) => {
                    open -= 1;
                    continue;
                }
                Err(e) => panic!("reading `{topic}`: {e}"),
            };
            let text = |bytes: Option<&[u8]>| bytes.map(|b| String::from_utf8(b.to_vec()).unwrap());
            let headers = message.headers().map_or_else(Vec::new, |headers| {
                headers.iter().map(|h| (h.key.to_owned(), text(h.value).unwrap_or_default())).collect()
            });
            take(Received {
                partition: message.partition(),
                offset: message.offset(),
                at_ms: message.timestamp().to_millis().unwrap_or(-1),
                key: text(message.key()),
                value: text(message.payload()),
                headers,
            });
        }
    }

    fn folder(&self) -> PathBuf {
        self.dir.path().join("broker")
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.kill();
    }
}

fn script(words: &[PathBuf]) -> Output {
    command(words).output().unwrap()
}

fn command(words: &[PathBuf]) -> Command {
    let mut command = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts/kafka"));
    command.args(words);
    command
}
