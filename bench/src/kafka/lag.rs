//! The second half of `kafka`: from a message's being due at a producer to its being seen behind Thalweg.
//!
//! Messages are due at a fixed rate ([`RATE`]) and spread over the partitions in turn; a latency counts from when its
//! message was due. In: until a reader has it in a published view, which is synced by then. Its limit is a bare consumer
//! that sees the message and keeps nothing. Through: until a `read_committed` consumer has it from the topic of a sink. Its
//! limit is the bare loop of consumer and transactional producer, which commits offsets with what it sends, as often as
//! it can.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use arrow::array::AsArray as _;
use arrow::datatypes::Int64Type;
use engine::Plan;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::message::Message as _;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use rdkafka::{Offset, TopicPartitionList};
use storage::Store;

use super::{CONSUMER, PARTITIONS, PRODUCER, config, fresh_topic, send, settings_toml, text};
use crate::machine::Scratch;
use crate::measure::{Samples, quantile};
use crate::report::Report;
use crate::{Options, subject};

const RATE: u64 = 10_000;
/// Left out at the start: connections are made, caches fill.
const WARM_UP: Duration = Duration::from_secs(2);
const PATIENCE: Duration = Duration::from_secs(60);

pub(super) fn run(options: &Options, brokers: &str, scratch: &Scratch, report: &mut Report) -> Result<(), String> {
    let time = WARM_UP + Duration::from_secs(options.pick(8, 2));
    type Way = fn(&Course, &Scratch) -> Result<Vec<Instant>, String>;
    let ways: [(&str, Way, &str, Way); 2] = [
        ("in", view, "bare librdkafka consumer", bare_consumer),
        ("through", sink, "bare transactional loop", bare_loop),
    ];
    for (name, ours, baseline, bare) in ways {
        report.progress(&format!("{RATE} messages/s {name}, for {time:?}"));
        let (mut p50, mut p99) = ([Samples::default(), Samples::default()], [Samples::default(), Samples::default()]);
        for _ in 0..options.repetitions() {
            for (i, way) in [ours, bare].into_iter().enumerate() {
                let mut latencies = latencies(brokers, time, scratch, way)?;
                latencies.sort_unstable_by(f64::total_cmp);
                p50[i].push(quantile(&latencies, 0.5) * 1e3);
                p99[i].push(quantile(&latencies, 0.99) * 1e3);
            }
        }
        report.against(&format!("p50_ms_{name}"), "ms", &p50[0], baseline, &p50[1]);
        report.against(&format!("p99_ms_{name}"), "ms", &p99[0], baseline, &p99[1]);
    }
    Ok(())
}

/// What is sent, and where.
struct Course<'a> {
    brokers: &'a str,
    topic: String,
    messages: u64,
    /// Set once whoever reads is ready, so that the start of neither is measured.
    is_ready: AtomicBool,
}

impl Course<'_> {
    fn consumer(&self, topic: &str, further: &[(&str, &str)]) -> Result<BaseConsumer, String> {
        let settings = [CONSUMER, &[("group.id", topic), ("enable.auto.commit", "false")], further].concat();
        let consumer: BaseConsumer = config(self.brokers, &settings).create().map_err(text)?;
        let mut list = TopicPartitionList::new();
        for partition in 0..PARTITIONS {
            list.add_partition_offset(topic, partition, Offset::Beginning).map_err(text)?;
        }
        consumer.assign(&list).map_err(text)?;
        Ok(consumer)
    }

    /// Reads a topic until every message was seen; gives when.
    fn watch(
        &self,
        consumer: &BaseConsumer,
        mut each: impl FnMut(&[u8]) -> Option<u64>,
    ) -> Result<Vec<Instant>, String> {
        let mut seen = vec![None; self.messages as usize];
        let (mut left, mut quiet) = (self.messages, Instant::now());
        while left > 0 {
            let Some(message) = consumer.poll(Duration::from_millis(100)) else {
                if quiet.elapsed() > PATIENCE {
                    return Err(format!("{left} messages were never seen"));
                }
                continue;
            };
            let message = message.map_err(text)?;
            quiet = Instant::now();
            let id = message.payload().and_then(&mut each).ok_or("a message that is none of ours")?;
            if seen[id as usize].replace(quiet).is_some() {
                return Err(format!("message {id} was seen twice"));
            }
            left -= 1;
        }
        Ok(seen.into_iter().flatten().collect())
    }
}

/// Sends at the rate while `way` watches. Gives seconds a message.
fn latencies(
    brokers: &str,
    time: Duration,
    scratch: &Scratch,
    way: fn(&Course, &Scratch) -> Result<Vec<Instant>, String>,
) -> Result<Vec<f64>, String> {
    let messages = time.as_millis() as u64 * RATE / 1_000;
    let due = |id: u64| Duration::from_nanos(id * 1_000_000_000 / RATE);
    let course = Course { brokers, topic: fresh_topic(brokers)?, messages, is_ready: AtomicBool::new(false) };
    let producer: BaseProducer = config(brokers, PRODUCER).create().map_err(text)?;
    let (start, seen) = std::thread::scope(|scope| {
        let watching = scope.spawn(|| way(&course, scratch));
        while !course.is_ready.load(Ordering::Acquire) && !watching.is_finished() {
            std::thread::sleep(Duration::from_millis(1));
        }
        let start = Instant::now();
        let sent = (0..messages).try_for_each(|id| {
            while start.elapsed() < due(id) {
                producer.poll(Duration::from_millis(1));
            }
            let value = format!("{},{id},{}", id % PARTITIONS as u64, id % 1_000);
            let record = BaseRecord::to(&course.topic).partition((id % PARTITIONS as u64) as i32);
            send(&producer, record.key("").payload(value.as_str()))
        });
        let sent = sent.and_then(|()| producer.flush(PATIENCE).map_err(text));
        let seen = watching.join().map_err(|_| "whoever watches broke".to_owned());
        Ok::<_, String>((start, sent.and(seen)??))
    })?;
    let all = (0..messages).zip(seen);
    Ok(all
        .filter(|(id, _)| due(*id) >= WARM_UP)
        .map(|(id, seen)| seen.duration_since(start).saturating_sub(due(id)).as_secs_f64())
        .collect())
}

/// The number in a message: the second of its three.
fn number(payload: &[u8]) -> Option<u64> {
    std::str::from_utf8(payload).ok()?.split(',').nth(1)?.parse().ok()
}

fn bare_consumer(course: &Course, _: &Scratch) -> Result<Vec<Instant>, String> {
    let consumer = course.consumer(&course.topic, &[])?;
    course.is_ready.store(true, Ordering::Release);
    course.watch(&consumer, number)
}

fn pipeline(course: &Course) -> String {
    format!(
        "name = \"bench_kafka_lag\"\n[sources.events]\ntype = \"kafka\"\nbrokers = \"{}\"\ntopics = \"{}\"\nformat = \
         \"csv\"\nlibrdkafka = {}\ncolumns = {{ lane = \"int64\", id = \"int64\", key = \"int64\" }}\n",
        course.brokers,
        course.topic,
        settings_toml(CONSUMER)
    )
}

/// Runs a pipeline over a fresh store while somebody watches.
fn running(
    course: &Course,
    text: &str,
    scratch: &Scratch,
    watch: impl FnOnce(&Arc<Plan>, &Store) -> Result<Vec<Instant>, String>,
) -> Result<Vec<Instant>, String> {
    let plan = subject::plan(scratch.path(), text)?;
    let store = subject::open(&plan, &scratch.fresh("store")?)?;
    let engine = subject::start(&plan, &store, 1);
    course.is_ready.store(true, Ordering::Release);
    let seen = watch(&plan, &store);
    engine.handle().stop();
    let ended = engine.wait();
    store.close();
    drop(store);
    scratch.remove("store")?;
    let seen = seen?;
    ended.map(|()| seen)
}

/// The view keeps the greatest number of each partition: what is at most that was read.
fn view(course: &Course, scratch: &Scratch) -> Result<Vec<Instant>, String> {
    let text = pipeline(course)
        + "[steps.by_key]\noperator = \"aggregate\"\ninput = \"events\"\nby = [\"key\"]\ncompute = { events = \"count\" \
           }\n[steps.newest]\noperator = \"aggregate\"\ninput = \"events\"\nby = [\"lane\"]\ncompute = { newest = \"max(id)\" }\n";
    running(course, &text, scratch, |plan, store| {
        let mut seen: Vec<Option<Instant>> = vec![None; course.messages as usize];
        // The next number of each partition that was not seen.
        let mut next: Vec<u64> = (0..PARTITIONS as u64).collect();
        let (mut epoch, mut quiet) = (store.published(), Instant::now());
        while next.iter().any(|id| *id < course.messages) {
            if quiet.elapsed() > PATIENCE {
                return Err("the view stands still".to_owned());
            }
            if !store.wait_published(epoch + 1, Duration::from_millis(100)) {
                continue;
            }
            epoch = store.published();
            let rows = subject::rows_of(plan, store, "newest")?;
            let now = Instant::now();
            let column = |name: &str| rows.column_by_name(name).map(|c| c.as_primitive::<Int64Type>().clone());
            let (lanes, newest) = column("lane").zip(column("newest")).ok_or("no such columns")?;
            for (lane, newest) in lanes.iter().zip(&newest) {
                let (Some(lane), Some(newest)) = (lane, newest) else { return Err("a row without numbers".to_owned()) };
                let id = &mut next[lane as usize];
                while *id <= newest as u64 {
                    seen[*id as usize] = Some(now);
                    *id += PARTITIONS as u64;
                    quiet = now;
                }
            }
        }
        Ok(seen.into_iter().flatten().collect())
    })
}

/// Every message goes through the engine to another topic.
fn sink(course: &Course, scratch: &Scratch) -> Result<Vec<Instant>, String> {
    let topic = fresh_topic(course.brokers)?;
    let text = pipeline(course)
        + &format!(
            "key = \"id\"\n[sinks.out]\ntype = \"kafka\"\nbrokers = \"{}\"\ntopic = \"{topic}\"\ntransactional_id = \
             \"{topic}\"\nview = \"events\"\n",
            course.brokers
        );
    let consumer = course.consumer(&topic, &[("isolation.level", "read_committed")])?;
    running(course, &text, scratch, |_, _| {
        course.watch(&consumer, |payload| {
            let row: serde_json::Value = serde_json::from_slice(payload).ok()?;
            row["id"].as_u64()
        })
    })
}

/// What one writes by hand for the same: read what there is, send it, commit offsets and messages in one transaction.
fn bare_loop(course: &Course, _: &Scratch) -> Result<Vec<Instant>, String> {
    let topic = fresh_topic(course.brokers)?;
    let consumer = course.consumer(&course.topic, &[])?;
    let settings = [PRODUCER, &[("transactional.id", topic.as_str())]].concat();
    let producer: BaseProducer = config(course.brokers, &settings).create().map_err(text)?;
    producer.init_transactions(PATIENCE).map_err(text)?;
    let through = || -> Result<(), String> {
        let (mut left, mut heard) = (course.messages, Instant::now());
        while left > 0 {
            if heard.elapsed() > PATIENCE {
                return Err(format!("{left} messages never came"));
            }
            let mut waiting = Duration::from_millis(100);
            let mut offsets = TopicPartitionList::new();
            while let Some(message) = consumer.poll(waiting) {
                let message = message.map_err(text)?;
                if waiting > Duration::ZERO {
                    producer.begin_transaction().map_err(text)?;
                    waiting = Duration::ZERO;
                }
                let value = message.payload().and_then(|p| std::str::from_utf8(p).ok()).ok_or("no text")?;
                send(&producer, BaseRecord::to(&topic).partition(message.partition()).key("").payload(value))?;
                let (partition, next) = (message.partition(), Offset::Offset(message.offset() + 1));
                match offsets.find_partition(&course.topic, partition) {
                    Some(mut known) => known.set_offset(next),
                    None => offsets.add_partition_offset(&course.topic, partition, next),
                }
                .map_err(text)?;
                left -= 1;
            }
            if waiting.is_zero() {
                heard = Instant::now();
                let group = consumer.group_metadata().ok_or("no group")?;
                producer.send_offsets_to_transaction(&offsets, &group, PATIENCE).map_err(text)?;
                producer.commit_transaction(PATIENCE).map_err(text)?;
            }
        }
        Ok(())
    };
    let behind = course.consumer(&topic, &[("isolation.level", "read_committed")])?;
    std::thread::scope(|scope| {
        let working = scope.spawn(through);
        course.is_ready.store(true, Ordering::Release);
        let seen = course.watch(&behind, number);
        working.join().map_err(|_| "the bare loop broke".to_owned())??;
        seen
    })
}
