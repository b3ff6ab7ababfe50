//! A real Kafka broker for tests, started by `scripts/kafka`, and a producer that says which partition.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseRecord, Producer as _, ThreadedProducer};

/// A broker of its own, with its data in a temporary folder; ended when dropped.
pub struct Broker {
    dir: tempfile::TempDir,
    /// `127.0.0.1:PORT`; stays the same over restarts.
    pub address: String,
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

impl Broker {
    /// Starts one. `None`, with a printed reason, where Kafka cannot be had, which is a failure under CI.
    pub fn start() -> Option<Broker> {
        let installed = script(&["install".into()]);
        if !installed.status.success() {
            assert!(std::env::var_os("CI").is_none(), "Kafka cannot be had: {}", crate::support::text(&installed));
            eprintln!("skipped: Kafka cannot be had: {}", crate::support::text(&installed));
            return None;
        }
        let mut broker = Broker { dir: tempfile::tempdir().unwrap(), address: String::new() };
        broker.address = broker.again();
        Some(broker)
    }

    /// Starts it where it was.
    pub fn again(&self) -> String {
        // What it prints goes to a pipe that the broker must not hold open; the script sees to that.
        let output = script(&["start".into(), self.folder()]);
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
        producer.flush(Duration::from_secs(60)).unwrap();
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
    let kafka = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts/kafka");
    Command::new(kafka).args(words).output().unwrap()
}
