//! The `kafka` sink: a transaction holds the messages of whole epochs and how far the sink then is.
//!
//! How far it is stands as the committed offset of a group named like the transactional id: the epoch as the offset, the
//! mark as its metadata. It is committed in the transaction of the messages, so both are there or neither. Whoever
//! begins (a new process, or one whose client broke) first ends what is left of the transactions of whoever came before
//! and shuts it out, then reads the mark back. So what became of a commit that got no answer is never guessed.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use engine::sink::{Committed, Mark, Resume, Sink, SinkEnv, SinkError};
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, DeliveryResult, Producer, ProducerContext};
use rdkafka::{Offset, TopicPartitionList};
use types::{Change, Epoch, Value, fault_schema};

use super::encode::{Encoded, Encoder, Mode};
use super::kafka_options::KafkaSinkOptions;

/// How long an answer is waited for at once: the sink must hear when the engine stops.
const PATIENCE: Duration = Duration::from_millis(500);
/// A cluster that has not answered for so long is away.
const AWAY_AFTER: Duration = Duration::from_secs(3);
/// How often a cluster that is away is asked for while there is nothing to deliver.
const ASK_EVERY: Duration = Duration::from_secs(1);
/// How long to wait before something is tried again.
const PAUSE: Duration = Duration::from_millis(200);

/// An open sink.
pub(super) struct KafkaSink {
    options: KafkaSinkOptions,
    env: SinkEnv,
    encoder: Encoder,
    encoded: Encoded,
    /// The name of the transactions and of the group.
    name: String,
    client: Client,
    /// When the cluster was last asked whether it is there again.
    asked: Instant,
    /// True between the first message of a commit and its end.
    in_transaction: bool,
    /// What went wrong since then: the commit is then given up.
    failed: Option<String>,
    /// The mark on the other side, as far as known.
    mark: Option<Mark>,
    /// Whether it is said already that the cluster is away.
    is_away: bool,
}

/// What is thrown away when it breaks.
struct Client {
    producer: BaseProducer<Watch>,
    /// Reads and writes the group's offset. It joins nothing and fetches nothing.
    group: BaseConsumer<Watch>,
}

/// What a client tells of itself.
#[derive(Debug)]
struct Watch {
    sink: String,
    is_down: AtomicBool,
    trouble: Mutex<String>,
    /// The first message that could not be delivered, and whether that can ever be otherwise.
    undelivered: Mutex<Option<(RDKafkaErrorCode, String)>>,
}

impl Watch {
    fn new(sink: &str) -> Watch {
        Watch {
            sink: sink.to_owned(),
            is_down: AtomicBool::new(false),
            trouble: Mutex::default(),
            undelivered: Mutex::default(),
        }
    }

    fn take_undelivered(&self) -> Option<(RDKafkaErrorCode, String)> {
        self.undelivered.lock().expect("no holder panics").take()
    }

    fn trouble(&self) -> String {
        let trouble = self.trouble.lock().expect("no holder panics");
        if trouble.is_empty() { "no answer".to_owned() } else { trouble.clone() }
    }
}

impl ClientContext for Watch {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        match level {
            RDKafkaLogLevel::Emerg | RDKafkaLogLevel::Alert | RDKafkaLogLevel::Critical => {
                tracing::warn!(sink = self.sink, facility, "kafka client: {message}");
            }
            // What matters of it is told by `error`, once.
            _ => tracing::debug!(sink = self.sink, facility, "kafka client: {message}"),
        }
    }

    fn error(&self, error: KafkaError, reason: &str) {
        if error.rdkafka_error_code() == Some(RDKafkaErrorCode::AllBrokersDown) {
            self.is_down.store(true, Ordering::Relaxed);
        }
        *self.trouble.lock().expect("no holder panics") = reason.to_owned();
    }
}

impl ConsumerContext for Watch {}

impl ProducerContext for Watch {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        if let Err((error, _)) = result {
            let code = error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Fail);
            self.undelivered.lock().expect("no holder panics").get_or_insert((code, error.to_string()));
        }
    }
}

/// Whether a message that is refused for this reason is refused again.
fn is_permanent(code: RDKafkaErrorCode) -> bool {
    use RDKafkaErrorCode as Code;
    [
        Code::MessageSizeTooLarge,
        Code::InvalidMessageSize,
        Code::MessageBatchTooLarge,
        Code::TopicAuthorizationFailed,
        Code::ClusterAuthorizationFailed,
        Code::TransactionalIdAuthorizationFailed,
        Code::GroupAuthorizationFailed,
        Code::PolicyViolation,
        Code::InvalidRecord,
        Code::InvalidTopic,
        Code::InvalidTransactionTimeout,
        Code::UnsupportedVersion,
    ]
    .contains(&code)
}

fn connect(options: &KafkaSinkOptions, sink: &str, name: &str) -> Result<Client, SinkError> {
    let broken = |e: KafkaError| SinkError::broken(format!("the Kafka client cannot be made: {e}"));
    let settings: &[(&str, &str)] = match options.exactly_once {
        true => &[("transactional.id", name)],
        // A message is tried for as long as it takes.
        false => &[("message.timeout.ms", "0")],
    };
    let producer = options.client.with(settings).create_with_context(Watch::new(sink)).map_err(broken)?;
    let group = options.client.with(&[("group.id", name)]).create_with_context(Watch::new(sink)).map_err(broken)?;
    Ok(Client { producer, group })
}

impl KafkaSink {
    pub fn open(options: KafkaSinkOptions, env: SinkEnv) -> Result<KafkaSink, SinkError> {
        let name = options.transactional_id.clone().unwrap_or_else(|| format!("thalweg-{}-{}", env.pipeline, env.sink));
        Ok(KafkaSink {
            client: connect(&options, &env.sink, &name)?,
            encoder: Encoder::new(&env.schema, options.key.clone(), options.time),
            encoded: Encoded::default(),
            asked: Instant::now(),
            in_transaction: false,
            failed: None,
            mark: None,
            is_away: false,
            name,
            env,
            options,
        })
    }

    /// Says whether the cluster is reached, once each time that changes.
    fn tell(&mut self, is_away: bool, why: &str) {
        self.env.metrics.sink_connected.with_label_values(&[&self.env.sink]).set(i64::from(!is_away));
        if is_away && !self.is_away {
            tracing::warn!(sink = self.env.sink, "waiting for the Kafka cluster: {why}");
        } else if !is_away && self.is_away {
            tracing::info!(sink = self.env.sink, "the Kafka cluster is there again");
        }
        self.is_away = is_away;
    }

    /// Asks until there is an answer. An error that will not pass is given back.
    fn insist<T>(
        &mut self,
        mut ask: impl FnMut(&Client) -> Result<T, KafkaError>,
    ) -> Result<Result<T, KafkaError>, SinkError> {
        let begun = Instant::now();
        loop {
            let error = match ask(&self.client) {
                Ok(answer) => {
                    self.tell(false, "");
                    return Ok(Ok(answer));
                }
                Err(error) => error,
            };
            let passes = match &error {
                KafkaError::Transaction(e) if e.txn_requires_abort() || e.is_fatal() => false,
                KafkaError::Transaction(e) => e.is_retriable() || e.code() == RDKafkaErrorCode::OperationTimedOut,
                other => !other.rdkafka_error_code().is_some_and(is_permanent),
            };
            if !passes {
                return Ok(Err(error));
            }
            self.client.producer.poll(Duration::ZERO);
            if begun.elapsed() >= AWAY_AFTER {
                let trouble = self.client.producer.context().trouble();
                self.tell(true, &format!("{error} ({trouble})"));
            }
            self.env.patience.check()?;
            std::thread::sleep(PAUSE);
        }
    }

    /// Waits until the topic is there.
    fn await_topic(&mut self) -> Result<(), SinkError> {
        let topic = self.options.topic.clone();
        let mut told = false;
        loop {
            let asked = topic.clone();
            let metadata =
                self.insist(move |client| client.producer.client().fetch_metadata(Some(&asked), PATIENCE))?;
            let metadata = metadata.map_err(|e| self.refused("looking for the topic", &e))?;
            if metadata.topics().iter().any(|t| t.name() == topic && !t.partitions().is_empty()) {
                return Ok(());
            }
            if !told {
                tracing::warn!(sink = self.env.sink, topic, "waiting for the topic to be created");
                told = true;
            }
            self.env.patience.check()?;
            std::thread::sleep(PAUSE);
        }
    }

    fn refused(&self, doing: &str, error: &KafkaError) -> SinkError {
        SinkError::broken(format!("{doing} (topic `{}`, id `{}`): {error}", self.options.topic, self.name))
    }

    /// Ends the transactions of whoever came before under this name, and shuts it out.
    fn begin_life(&mut self) -> Result<(), SinkError> {
        if self.options.exactly_once {
            let begun = self.insist(|client| client.producer.init_transactions(PATIENCE))?;
            begun.map_err(|e| self.refused("beginning transactions", &e))?;
        }
        Ok(())
    }

    /// Reads the mark the group holds.
    fn read_mark(&mut self) -> Result<Option<Mark>, SinkError> {
        let asked = self.place();
        let answer = self.insist(|client| {
            let answer = client.group.committed_offsets(asked.clone(), PATIENCE)?;
            answer.elements().into_iter().try_for_each(|place| place.error())?;
            Ok(answer)
        })?;
        let answer = answer.map_err(|e| self.refused("reading how far the sink is", &e))?;
        let Some(place) = answer.find_partition(&self.options.topic, 0) else { return Ok(None) };
        let Offset::Offset(_) = place.offset() else { return Ok(None) };
        serde_json::from_str(place.metadata()).map(Some).map_err(|_| {
            SinkError::broken(format!(
                "the group `{}` has a committed offset for `{}` that this sink did not write: something else uses the \
                 same name. Give this sink a `transactional_id` of its own",
                self.name, self.options.topic
            ))
        })
    }

    /// The partition under which the mark stands.
    fn place(&self) -> TopicPartitionList {
        let mut list = TopicPartitionList::new();
        list.add_partition(&self.options.topic, 0);
        list
    }

    /// The mark as an offset that is committed.
    fn marked(&self, mark: &Mark) -> Result<TopicPartitionList, SinkError> {
        let list = self.place();
        let mut place = list.find_partition(&self.options.topic, 0).expect("just added");
        place.set_offset(Offset::Offset(mark.epoch as i64)).map_err(|e| self.refused("marking", &e))?;
        place.set_metadata(serde_json::to_string(mark).expect("a mark is JSON"));
        Ok(list)
    }

    /// A commit did not go as it should: ends it for good, and finds out what became of it.
    fn resolve(&mut self, mark: Option<&Mark>, why: &str) -> Result<Committed, SinkError> {
        tracing::warn!(sink = self.env.sink, "a delivery was broken off and is looked into: {why}");
        if let Some((code, reason)) = self.client.producer.context().take_undelivered()
            && is_permanent(code)
        {
            let help = match code {
                RDKafkaErrorCode::MessageSizeTooLarge => {
                    "; raise `max.message.bytes` of the topic and `librdkafka = { \"message.max.bytes\" = … }`"
                }
                _ => "",
            };
            return Err(SinkError::broken(format!(
                "the topic `{}` refuses a message: {reason}{help}",
                self.options.topic
            )));
        }
        std::thread::sleep(PAUSE);
        // A new client under the old name: whatever the old one has under way is ended by the cluster.
        self.client = connect(&self.options, &self.env.sink, &self.name)?;
        (self.in_transaction, self.failed) = (false, None);
        self.begin_life()?;
        let found = self.read_mark()?;
        if found.is_some() && found.as_ref() == mark {
            self.mark = found;
            return Ok(Committed::Safe);
        }
        if found == self.mark {
            return Ok(Committed::Again);
        }
        Err(SinkError::broken(format!(
            "another process delivers under the name `{}`: it has got to epoch {}. Two daemons must not use the same \
             `transactional_id`",
            self.name,
            found.map_or(0, |m| m.epoch)
        )))
    }

    fn send(&mut self, epoch: Epoch, headers: Option<OwnedHeaders>) -> Result<(), SinkError> {
        let epoch_text = epoch.to_string();
        let headers = headers.unwrap_or_else(|| OwnedHeaders::new_with_capacity(1));
        let mut headers = Some(headers.insert(Header { key: "thalweg-epoch", value: Some(&epoch_text) }));
        let mut waited = false;
        loop {
            let encoded = &self.encoded;
            let mut record = BaseRecord::<[u8], [u8]>::to(&self.options.topic);
            if !encoded.key.is_empty() || self.options.mode == Mode::Changelog {
                record = record.key(&encoded.key);
            }
            if encoded.has_value {
                record = record.payload(&encoded.value);
            }
            if let Some(ms) = encoded.time_ms {
                record = record.timestamp(ms);
            }
            let record = record.headers(headers.take().expect("given back by a full queue"));
            match self.client.producer.send(record) {
                Ok(()) => return Ok(()),
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), record)) => {
                    headers = record.headers;
                    self.client.producer.poll(Duration::from_millis(10));
                    if waited {
                        self.env.patience.check()?;
                    }
                    waited = true;
                }
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::MessageSizeTooLarge), _)) => {
                    return Err(SinkError::broken(format!(
                        "a message of {} bytes is longer than the client sends: raise `librdkafka = {{ \
                         \"message.max.bytes\" = … }}`, and `max.message.bytes` of the topic `{}`",
                        self.encoded.value.len(),
                        self.options.topic
                    )));
                }
                Err((error, _)) => {
                    self.failed.get_or_insert(error.to_string());
                    return Ok(());
                }
            }
        }
    }

    /// What a fault becomes: the record as it came, and in headers why it is here. `None` if it is not asked for.
    fn dead_letter(&mut self, change: &Change<'_>, of: Option<&str>) -> Result<Option<OwnedHeaders>, SinkError> {
        let Some(row) = change.after else { return Ok(None) };
        let cells = self.encoder.cells(change.key, row)?;
        let schema = fault_schema();
        let mut headers = OwnedHeaders::new_with_capacity(cells.len());
        for (column, cell) in schema.columns.iter().zip(&cells) {
            let mut text = Vec::new();
            super::encode::write_text(&mut text, cell);
            match column.name.as_str() {
                "source" if of.is_some_and(|of| of.as_bytes() != text) => return Ok(None),
                "raw" => self.encoded.value = text,
                name => {
                    let name = format!("thalweg-{name}");
                    headers = headers.insert(Header { key: &name, value: Some(&text) });
                }
            }
            if let ("provenance", Value::Str(text)) = (column.name.as_str(), cell) {
                self.encoded.key = text.clone().into_bytes();
            }
        }
        self.encoded.has_value = true;
        Ok(Some(headers))
    }
}

impl Sink for KafkaSink {
    fn resume(&mut self) -> Result<Resume, SinkError> {
        self.await_topic()?;
        self.begin_life()?;
        self.mark = self.read_mark()?;
        Ok(self.mark.map_or(Resume::Nothing, Resume::At))
    }

    fn write(&mut self, epoch: Epoch, change: Change<'_>) -> Result<(), SinkError> {
        if self.failed.is_some() {
            return Ok(());
        }
        if self.options.mode == Mode::Append && change.after.is_none() {
            return Ok(());
        }
        self.encoder.encode(&change, &mut self.encoded)?;
        let headers = match self.options.dead_letters.clone() {
            None => None,
            Some(of) => match self.dead_letter(&change, of.as_deref())? {
                None => return Ok(()),
                headers => headers,
            },
        };
        self.begin()?;
        self.send(epoch, headers)
    }

    fn commit(&mut self, mark: &Mark) -> Result<Committed, SinkError> {
        self.begin()?;
        if let Some(why) = self.failed.take() {
            return self.resolve(None, &why);
        }
        let offsets = self.marked(mark)?;
        let done = if self.options.exactly_once {
            let metadata = self.client.group.group_metadata();
            let metadata = metadata.ok_or_else(|| SinkError::broken("the Kafka client has no group"))?;
            let sent =
                self.insist(|client| client.producer.send_offsets_to_transaction(&offsets, &metadata, PATIENCE))?;
            match sent {
                Ok(()) => self.insist(|client| client.producer.commit_transaction(PATIENCE))?,
                broken => broken,
            }
        } else {
            let flushed = self.insist(|client| client.producer.flush(PATIENCE))?;
            let undelivered = self.client.producer.context().undelivered.lock().expect("no holder panics").clone();
            if let Some((_, why)) = undelivered {
                return self.resolve(None, &why);
            }
            match flushed {
                Ok(()) => self.insist(|client| client.group.commit(&offsets, CommitMode::Sync))?,
                broken => broken,
            }
        };
        match done {
            Ok(()) => {
                self.in_transaction = false;
                self.mark = Some(*mark);
                Ok(Committed::Safe)
            }
            Err(error) => self.resolve(Some(mark), &error.to_string()),
        }
    }

    fn idle(&mut self) -> Result<Option<Epoch>, SinkError> {
        self.client.producer.poll(Duration::ZERO);
        if self.client.producer.context().is_down.swap(false, Ordering::Relaxed) {
            let trouble = self.client.producer.context().trouble();
            self.tell(true, &trouble);
        }
        if self.is_away && self.asked.elapsed() >= ASK_EVERY {
            self.asked = Instant::now();
            let topic = Some(self.options.topic.as_str());
            if self.client.producer.client().fetch_metadata(topic, Duration::from_millis(100)).is_ok() {
                self.tell(false, "");
            }
        }
        Ok(None)
    }
}

impl KafkaSink {
    /// Begins a transaction, if none is under way.
    fn begin(&mut self) -> Result<(), SinkError> {
        if !self.in_transaction {
            self.in_transaction = true;
            if self.options.exactly_once
                && let Err(e) = self.client.producer.begin_transaction()
            {
                self.failed = Some(e.to_string());
            }
        }
        Ok(())
    }
}
