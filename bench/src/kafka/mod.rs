//! `kafka`: a million messages from a topic to a durable view, and a million changes from a store to a topic.
//!
//! The way in ends in a view of count and sum by key, exactly once: the order of the messages is journalled, every epoch
//! synced. Its limit is a bare librdkafka consumer with the same settings that parses the same messages into a hash map
//! and keeps nothing. The way out is a changelog in transactions. Its limit is a bare transactional producer that sends
//! the same bytes with the same settings, as many a transaction. How long a message takes, is measured in [`lag`].

mod lag;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use engine::{Engine, Phase, Plan};
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::Message as _;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};

use crate::machine::Scratch;
use crate::measure::{Rng, Samples, timed};
use crate::report::Report;
use crate::{Options, subject};

/// Partitions of every topic.
const PARTITIONS: i32 = 4;
const KEYS: u64 = 10_000;
/// Messages a transaction of the bare producer, as many as a commit of the sink takes.
const TRANSACTION: usize = 50_000;
/// What both consumers are told, beside the addresses.
const CONSUMER: &[(&str, &str)] =
    &[("fetch.queue.backoff.ms", "5"), ("queued.min.messages", "1000000"), ("queued.max.messages.kbytes", "262144")];
/// What both producers are told: the sink's own settings.
const PRODUCER: &[(&str, &str)] = &[
    ("enable.idempotence", "true"),
    ("partitioner", "murmur2_random"),
    ("linger.ms", "2"),
    ("batch.num.messages", "100000"),
    ("queue.buffering.max.messages", "200000"),
    ("queue.buffering.max.kbytes", "131072"),
];

pub fn run(options: &Options, scratch: &Scratch, report: &mut Report) -> Result<(), String> {
    let brokers = options
        .brokers
        .as_deref()
        .ok_or("this bench needs a broker: `--brokers HOST:PORT`; `scripts/bench kafka` starts one of its own")?;
    let messages = options.pick(1_000_000, 50_000);
    let (mut bare, mut ours) = (Samples::default(), Samples::default());
    let topic = fresh_topic(brokers)?;
    report.progress(&format!("{messages} messages of {KEYS} keys in {PARTITIONS} partitions"));
    fill(brokers, &topic, messages)?;
    for _ in 0..options.repetitions() {
        let (groups, seconds) = timed(|| bare_aggregate(brokers, &topic, messages));
        let groups = groups?;
        bare.push(messages as f64 / seconds);
        ours.push(messages as f64 / aggregate(brokers, &topic, scratch, messages, groups.len())?);
    }
    report.against("messages_per_s_in", "msg/s", &ours, "bare librdkafka consumer", &bare);

    report.progress(&format!("{messages} changes to a topic of {PARTITIONS} partitions"));
    let (mut bare, mut ours) = (Samples::default(), Samples::default());
    for _ in 0..options.repetitions() {
        let (sent, seconds) = timed(|| bare_producer(brokers, &fresh_topic(brokers)?, messages));
        sent?;
        bare.push(messages as f64 / seconds);
        ours.push(messages as f64 / deliver(brokers, scratch, messages)?);
    }
    report.against("messages_per_s_out", "msg/s", &ours, "bare transactional producer", &bare);
    lag::run(options, brokers, scratch, report)
}

fn config(brokers: &str, settings: &[(&str, &str)]) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", brokers);
    for (name, value) in settings {
        config.set(*name, *value);
    }
    config
}

fn text(e: KafkaError) -> String {
    format!("kafka: {e}")
}

/// Makes a topic that was not there.
fn fresh_topic(brokers: &str) -> Result<String, String> {
    let name = format!("bench-{:016x}", std::time::UNIX_EPOCH.elapsed().map_or(0, |d| d.as_nanos() as u64));
    let admin: AdminClient<DefaultClientContext> = config(brokers, &[]).create().map_err(text)?;
    let topic = NewTopic::new(&name, PARTITIONS, TopicReplication::Fixed(1)).set("retention.ms", "-1");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|e| e.to_string())?;
    let made = runtime.block_on(admin.create_topics([&topic], &AdminOptions::new())).map_err(text)?;
    made.into_iter().try_for_each(|topic| topic.map(drop).map_err(|(name, e)| format!("making `{name}`: {e}")))?;
    Ok(name)
}

/// The messages' values: `key,value`.
fn values(count: u64) -> impl Iterator<Item = (u64, String)> {
    let mut rng = Rng::new(7);
    (0..count).map(move |_| {
        let key = rng.below(KEYS);
        (key, format!("{key},{}.25", rng.below(100_000)))
    })
}

fn send(producer: &BaseProducer, mut record: BaseRecord<'_, str, str>) -> Result<(), String> {
    loop {
        match producer.send(record) {
            Ok(()) => return Ok(()),
            Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), back)) => {
                record = back;
                producer.poll(Duration::from_millis(1));
            }
            Err((e, _)) => return Err(text(e)),
        }
    }
}

fn fill(brokers: &str, topic: &str, messages: u64) -> Result<(), String> {
    let producer: BaseProducer = config(brokers, PRODUCER).create().map_err(text)?;
    for (key, value) in values(messages) {
        let record = BaseRecord::to(topic).partition((key % PARTITIONS as u64) as i32);
        send(&producer, record.key(key.to_string().as_str()).payload(value.as_str()))?;
    }
    producer.flush(Duration::from_secs(60)).map_err(text)
}

/// Reads a topic to the end, into a hash map.
fn bare_aggregate(brokers: &str, topic: &str, messages: u64) -> Result<HashMap<i64, (u64, f64)>, String> {
    let settings = [CONSUMER, &[("group.id", "bench-bare"), ("enable.auto.commit", "false")]].concat();
    let consumer: BaseConsumer = config(brokers, &settings).create().map_err(text)?;
    let mut list = TopicPartitionList::new();
    for partition in 0..PARTITIONS {
        list.add_partition_offset(topic, partition, Offset::Beginning).map_err(text)?;
    }
    consumer.assign(&list).map_err(text)?;
    let mut groups: HashMap<i64, (u64, f64)> = HashMap::new();
    for _ in 0..messages {
        let message = consumer.poll(Duration::from_secs(30)).ok_or("the topic does not go on")?.map_err(text)?;
        let value = message.payload().and_then(|p| std::str::from_utf8(p).ok()).ok_or("no text")?;
        let (key, number) = value.split_once(',').ok_or("no comma")?;
        let (key, number) = (key.parse::<i64>(), number.parse::<f64>());
        let (Ok(key), Ok(number)) = (key, number) else { return Err("no number".to_owned()) };
        let group = groups.entry(key).or_default();
        group.0 += 1;
        group.1 += number;
    }
    Ok(groups)
}

fn settings_toml(settings: &[(&str, &str)]) -> String {
    let pairs: Vec<String> = settings.iter().map(|(name, value)| format!("\"{name}\" = \"{value}\"")).collect();
    format!("{{ {} }}", pairs.join(", "))
}

/// Seconds from starting the engine on an empty store until every message is in the published view.
fn aggregate(brokers: &str, topic: &str, scratch: &Scratch, messages: u64, groups: usize) -> Result<f64, String> {
    let pipeline = format!(
        "name = \"bench_kafka\"\n[epoch]\nrows_max = 10_000\n[sources.events]\ntype = \"kafka\"\nbrokers = \
         \"{brokers}\"\ntopics = \"{topic}\"\nformat = \"csv\"\nlibrdkafka = {}\ncolumns = {{ key = \"int64\", value = \
         \"float64\" }}\n[steps.by_key]\noperator = \"aggregate\"\ninput = \"events\"\nby = [\"key\"]\ncompute = {{ events \
         = \"count\", total = \"sum(value)\" }}\n",
        settings_toml(CONSUMER)
    );
    let plan = subject::plan(scratch.path(), &pipeline)?;
    let store = subject::open(&plan, &scratch.fresh("store")?)?;
    let begun = Instant::now();
    let engine = subject::start(&plan, &store, 1);
    let handle = engine.handle();
    let seconds = loop {
        let status = handle.status();
        if let Phase::Failed(reason) = status.phase {
            return Err(reason);
        }
        if status.sources[0].records == messages && status.published == status.sealed {
            break begun.elapsed().as_secs_f64();
        }
        std::thread::sleep(Duration::from_millis(1));
    };
    handle.stop();
    engine.wait()?;
    let rows = store.digest(store.relation("by_key").ok_or("no view")?).rows;
    store.close();
    drop(store);
    scratch.remove("store")?;
    if rows == groups as u64 { Ok(seconds) } else { Err(format!("{rows} rows, and the bare loop found {groups} keys")) }
}

/// Key and value of a change as the sink writes it.
fn change(id: u64) -> (String, String) {
    (id.to_string(), format!("{{\"id\":{id},\"value\":{id}.25}}"))
}

fn bare_producer(brokers: &str, topic: &str, messages: u64) -> Result<(), String> {
    let settings = [PRODUCER, &[("transactional.id", topic)]].concat();
    let producer: BaseProducer = config(brokers, &settings).create().map_err(text)?;
    let patience = Duration::from_secs(60);
    producer.init_transactions(patience).map_err(text)?;
    for first in (0..messages).step_by(TRANSACTION) {
        producer.begin_transaction().map_err(text)?;
        for id in first..messages.min(first + TRANSACTION as u64) {
            let (key, value) = change(id);
            send(&producer, BaseRecord::to(topic).key(key.as_str()).payload(value.as_str()))?;
        }
        producer.commit_transaction(patience).map_err(text)?;
    }
    Ok(())
}

/// Seconds in which a store delivers changes that it has to a topic, the start of the engine among them.
fn deliver(brokers: &str, scratch: &Scratch, messages: u64) -> Result<f64, String> {
    let topic = fresh_topic(brokers)?;
    let mut csv = String::from("id,value\n");
    for id in 0..messages {
        csv.push_str(&format!("{id},{id}.25\n"));
    }
    std::fs::write(scratch.path().join("items.csv"), csv).map_err(|e| e.to_string())?;
    let without = "name = \"bench_kafka_out\"\n[epoch]\nrows_max = 10_000\n[retain]\nepochs = 1_000_000\n[sources.items]\ntype \
                   = \"file\"\npath = \"items.csv\"\nkey = \"id\"\ncolumns = { id = \"int64\", value = \"float64\" }\n";
    let with = format!(
        "{without}[sinks.out]\ntype = \"kafka\"\nbrokers = \"{brokers}\"\ntopic = \"{topic}\"\ntransactional_id = \
         \"{topic}\"\nview = \"items\"\n"
    );
    let (without, with) = (subject::plan(scratch.path(), without)?, subject::plan(scratch.path(), &with)?);
    let data = scratch.fresh("store")?;
    let to_end = |plan: &Arc<Plan>, hold: bool| -> Result<f64, String> {
        let store = subject::open(plan, &data)?;
        let (ended, seconds) = timed(|| Engine::wait(subject::start(plan, &store, 1)));
        ended?;
        if hold {
            // As if the sink had been there from the beginning, and the cluster away.
            store.hold("out", 0).map_err(|e| e.to_string())?;
        }
        store.close();
        Ok(seconds)
    };
    to_end(&without, true)?;
    let seconds = to_end(&with, false)?;
    scratch.remove("store")?;
    let counted = count(brokers, &topic)?;
    if counted >= messages { Ok(seconds) } else { Err(format!("{counted} of {messages} messages are in the topic")) }
}

/// Offsets taken in a topic: its messages, and the transactions' own records.
fn count(brokers: &str, topic: &str) -> Result<u64, String> {
    let consumer: BaseConsumer = config(brokers, &[("group.id", "bench-count")]).create().map_err(text)?;
    let mut sum = 0;
    for partition in 0..PARTITIONS {
        let (low, high) = consumer.fetch_watermarks(topic, partition, Duration::from_secs(30)).map_err(text)?;
        sum += (high - low).unsigned_abs();
    }
    Ok(sum)
}
