//! Reads a `kafka` source: batches that were journalled before a crash first, exactly as they were, then new ones.
//!
//! **New batches.** What the partitions give is merged by the messages' timestamps, a tie by topic and partition. A
//! partition that has more but gives nothing for `merge_wait_secs` is not waited for. What came out, offset by offset,
//! is journalled with the offsets at which the partitions go on; then the batch is delivered.
//!
//! **Journalled batches.** The offsets they name are fetched again. One that is gone since is the end of the run, or
//! with `lost = "skip"` a fault in its place, so that the numbers of the records after it stay what they were.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded};
use engine::clock::Clock;
use engine::connector::{Connector, ConnectorError, Next, SourceEnv};
use rdkafka::Message as _;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::{Offset, TopicPartitionList};
use storage::JournalEntry;
use types::Position;

use super::super::cells::{Bad, Rows};
use super::client::{self, Watch};
use super::log::{Batch, FORMAT, Part, Place, Run};
use super::options::{KafkaOptions, Start};
use super::partition::Partition;
use super::record::Decoder;

/// Records of a batch, at most, and bytes of memory, about.
const BATCH_RECORDS: u64 = 16_384;
const BATCH_BYTES: usize = 16 << 20;
/// Text that the messages of a batch become, at most: some formats say much with few bytes.
const TEXT_BYTES: usize = 64 << 20;
/// How long messages are waited for before the engine is asked whether to go on.
const PATIENCE: Duration = Duration::from_millis(20);
/// How often the client is asked in a row whether it has something to say.
const POLLS: usize = 32;
/// How long the client has to stop fetching before it is told to fetch elsewhere.
const STOPPING: Duration = Duration::from_millis(200);
/// How often the cluster is tried while nothing of it is known.
const RETRY: Duration = Duration::from_millis(500);
/// After so long without a broker it is told.
const UNREACHED: Duration = Duration::from_secs(3);
/// How often the consumer group is told how far committed epochs are.
const GROUP_EVERY: Duration = Duration::from_secs(1);
/// Bytes taken from the journal at once.
const JOURNAL_BYTES: usize = 4 << 20;

/// An open `kafka` source.
pub(super) struct Reader {
    options: KafkaOptions,
    env: SourceEnv,
    clock: Clock,
    /// Before the consumer: their queues are the client's, and must not outlive it.
    parts: BTreeMap<Part, Partition>,
    consumer: Arc<BaseConsumer<Watch>>,
    assigned: bool,
    /// The client's queues say through it that something has come.
    woken: (Sender<()>, Receiver<()>),
    decoder: Decoder,
    rows: Rows,
    /// Where the next batch begins.
    place: Place,
    /// Batches that are journalled and not delivered yet.
    journalled: VecDeque<Batch>,
    /// How far the first of them has been fetched.
    fetched: Fetched,
    /// No partition has ever been begun: `start` says where.
    fresh: bool,
    /// It was found out where partitions begin, and the engine has not been told.
    begun: bool,
    discover_at: Duration,
    tell_group_at: Duration,
    /// What the group was told last.
    told_group: BTreeMap<Part, i64>,
    /// Since when a partition is waited for.
    waiting_since: Option<Duration>,
    reached_at: Duration,
    told_unreached: bool,
    /// What the schema registry's trouble was when it was last told; empty if it had none.
    told_registry: String,
    told_missing: Vec<String>,
}

/// How far a journalled batch has been fetched.
#[derive(Default)]
struct Fetched {
    run: usize,
    /// The offset in the run; `None`: its first.
    offset: Option<i64>,
    /// How many messages of the batch are decoded.
    messages: usize,
}

impl Reader {
    pub fn open(options: KafkaOptions, position: &Position, env: &SourceEnv) -> Result<Reader, ConnectorError> {
        let fresh = position.anchor.is_null();
        let place: Place = if fresh {
            Place::default()
        } else {
            serde_json::from_value(position.anchor.clone())
                .map_err(|e| ConnectorError::new(format!("a position that is not of a kafka source: {e}")))?
        };
        let (first_seq, journalled) = read_journal(position.seq, env)?;
        // Where to begin: as the anchor says, and a partition it does not know, with its first journalled message.
        let mut next = place.next.clone();
        for batch in &journalled {
            for run in &batch.runs {
                next.entry(run.part.clone()).and_modify(|offset| *offset = run.from.min(*offset)).or_insert(run.from);
            }
            for (part, offset) in &batch.place.next {
                next.entry(part.clone()).or_insert(*offset);
            }
        }
        let consumer = client::connect(&options, &env.source).map_err(ConnectorError::new)?;
        Ok(Reader {
            decoder: Decoder::new(&options.layout),
            rows: Rows::new(&env.source, options.layout.spec.clone(), first_seq),
            parts: next.into_iter().map(|(part, offset)| (part, Partition::new(offset))).collect(),
            assigned: false,
            woken: bounded(1),
            fresh: fresh && journalled.is_empty(),
            begun: false,
            place: Place {
                cluster: journalled.back().map_or(place.cluster, |b| b.place.cluster.clone()),
                next: place.next,
            },
            journalled,
            fetched: Fetched::default(),
            discover_at: Duration::ZERO,
            tell_group_at: Duration::ZERO,
            told_group: BTreeMap::new(),
            waiting_since: None,
            reached_at: Duration::ZERO,
            told_unreached: false,
            told_registry: String::new(),
            told_missing: Vec::new(),
            clock: Clock::system(),
            env: env.clone(),
            options,
            consumer,
        })
    }

    /// Lets the client do its business: calls back, and brings what is in no partition's queue.
    fn serve(&mut self) -> Result<(), ConnectorError> {
        // An answer of nothing may also mean that something was called back.
        for came in (0..POLLS).filter_map(|_| self.consumer.poll(Duration::ZERO)) {
            match came {
                Ok(message) => {
                    let part = Part { topic: message.topic().to_owned(), id: message.partition() };
                    if let Some(partition) = self.parts.get_mut(&part) {
                        partition.hold(&message, &self.options.layout.headers);
                    }
                }
                Err(KafkaError::PartitionEOF(_)) => {}
                Err(e @ KafkaError::MessageConsumptionFatal(_)) => return Err(ConnectorError::new(e.to_string())),
                Err(e) => tracing::debug!(source = self.env.source, "kafka client: {e}"),
            }
        }
        Ok(())
    }

    /// Looks for partitions that are not read yet, when it is time to.
    fn discover(&mut self) -> Result<(), ConnectorError> {
        let now = self.clock.elapsed();
        if now < self.discover_at {
            return Ok(());
        }
        self.discover_at = now + if self.assigned { self.options.discover } else { RETRY };
        let cluster = match client::discover(&self.consumer, &self.options) {
            Ok(cluster) => cluster,
            Err(e) => {
                let why = format!("asking for the topics: {e}");
                if self.consumer.client().context().is_connected() && !self.told_missing.contains(&why) {
                    tracing::warn!(source = self.env.source, "{why}; the source waits");
                    self.told_missing.push(why);
                }
                return Ok(());
            }
        };
        if !self.place.cluster.is_empty() && !cluster.id.is_empty() && self.place.cluster != cluster.id {
            return Err(ConnectorError::new(format!(
                "these brokers are of the cluster {}, and the store was filled from the cluster {}: its offsets mean \
                 nothing here",
                cluster.id, self.place.cluster
            )));
        }
        for missing in cluster.missing.iter().filter(|t| !self.told_missing.contains(t)) {
            tracing::warn!(source = self.env.source, "{missing}; the source waits for it");
        }
        let waited = std::mem::replace(&mut self.told_missing, cluster.missing);
        // What was told of partitions stays told while it is so.
        self.told_missing.extend(waited.into_iter().filter(|told| told.starts_with("asking where ")));
        // A partition that came later is read from its beginning, for all of it came later.
        let start = match &self.options.start {
            Start::Earliest | Start::Latest | Start::Timestamp(_) if !self.fresh => &Start::Earliest,
            start => start,
        };
        let mut added = Vec::new();
        for part in cluster.parts.into_iter().filter(|p| !self.parts.contains_key(p)) {
            match client::begin(&self.consumer, &part, start) {
                Ok(offset) => added.push((part, offset)),
                // All or none, for none is fresh afterwards.
                Err(e) => {
                    let why = format!("asking where {part} begins: {e}");
                    if !self.told_missing.contains(&why) {
                        tracing::warn!(source = self.env.source, "{why}; the source waits for it");
                        self.told_missing.push(why);
                    }
                    return Ok(());
                }
            }
        }
        if !cluster.id.is_empty() {
            self.place.cluster = cluster.id;
        }
        self.begun |= std::mem::take(&mut self.fresh);
        let is_new = !added.is_empty();
        for (part, offset) in added {
            tracing::info!(source = self.env.source, "reading {part} from offset {offset} on");
            self.parts.insert(part, Partition::new(offset));
        }
        if is_new || (!self.assigned && !self.parts.is_empty()) { self.assign() } else { Ok(()) }
    }

    /// Tells the client what to fetch, from where on.
    fn assign(&mut self) -> Result<(), ConnectorError> {
        let failed = |e: KafkaError| ConnectorError::new(format!("partitions cannot be assigned: {e}"));
        if self.assigned {
            // librdkafka 2.12 ends the process (an assertion, `rktp_started`) if it is told to stop a partition that
            // it is stopping: so it gets the time to have done so.
            self.consumer.unassign().map_err(failed)?;
            std::thread::sleep(STOPPING);
        }
        let mut list = TopicPartitionList::new();
        for (part, partition) in &mut self.parts {
            partition.reset();
            let from = Offset::Offset(partition.next.max(partition.low));
            list.add_partition_offset(&part.topic, part.id, from).map_err(failed)?;
        }
        // Before they are assigned: a message that comes first would otherwise go to the client's common queue, and
        // those behind it not.
        for (part, partition) in &mut self.parts {
            let mut queue = self
                .consumer
                .split_partition_queue(&part.topic, part.id)
                .ok_or_else(|| ConnectorError::new(format!("the client does not know {part}")))?;
            let wake = self.woken.0.clone();
            queue.set_nonempty_callback(move || {
                let _ = wake.try_send(());
            });
            partition.queue = Some(queue);
        }
        self.consumer.assign(&list).map_err(failed)?;
        self.assigned = true;
        Ok(())
    }

    /// Finds out what became of offsets the brokers no longer have.
    fn check_ranges(&mut self) -> Result<(), ConnectorError> {
        let mut again = false;
        for (part, partition) in self.parts.iter_mut().filter(|(_, p)| p.out_of_range) {
            let Ok((low, high)) = client::bounds(&self.consumer, part) else { return Ok(()) };
            if partition.next > high {
                return Err(ends_before(part, high, partition.next));
            }
            partition.low = partition.low.max(low);
            partition.out_of_range = false;
            if self.journalled.is_empty() && !self.options.skip_lost && partition.next < partition.low {
                return Err(expired(part, partition));
            }
            again = true;
        }
        if again { self.assign() } else { Ok(()) }
    }

    /// Says whether the cluster is reached, and the registry if there is one, and how much waits there.
    fn tell(&mut self) {
        let (now, watch) = (self.clock.elapsed(), self.consumer.client().context());
        let source = self.env.source.as_str();
        let is_connected = watch.is_connected();
        let next = self.next_offsets();
        let trouble = self.decoder.trouble().unwrap_or_default();
        self.env.metrics.set_source(source, is_connected && trouble.is_empty(), watch.lag(&next));
        if self.told_registry != trouble {
            match trouble {
                "" => tracing::info!(source, "the schema registry answers again"),
                why => tracing::warn!(source, "the schema registry does not answer ({why}); the source waits"),
            }
            self.told_registry = trouble.to_owned();
        }
        if is_connected {
            if std::mem::take(&mut self.told_unreached) {
                tracing::info!(source, "the Kafka cluster is reached again");
            }
            self.reached_at = now;
        } else if !self.told_unreached && now - self.reached_at > UNREACHED {
            self.told_unreached = true;
            tracing::warn!(source, "no Kafka broker is reached ({}); the source waits", watch.trouble());
        }
    }

    /// Tells the consumer group how far committed epochs have read. Whatever comes of it changes nothing here.
    fn tell_group(&mut self) {
        let now = self.clock.elapsed();
        if self.options.group.is_none() || now < self.tell_group_at || !self.assigned {
            return;
        }
        self.tell_group_at = now + GROUP_EVERY;
        let store = &self.env.store;
        let Ok(Some(remap)) = store.remap(store.committed()) else { return };
        let Some(progress) = remap.sources.get(&self.env.source) else { return };
        let Ok(place) = serde_json::from_value::<Place>(progress.position.anchor.clone()) else { return };
        if self.consumer.client().context().group_refused() {
            self.told_group.clear();
        }
        if place.next == self.told_group {
            return;
        }
        let mut list = TopicPartitionList::new();
        for (part, next) in &place.next {
            if list.add_partition_offset(&part.topic, part.id, Offset::Offset(*next)).is_err() {
                return;
            }
        }
        match self.consumer.commit(&list, CommitMode::Async) {
            Ok(()) => self.told_group = place.next,
            Err(e) => tracing::debug!(source = self.env.source, "telling the consumer group: {e}"),
        }
    }

    fn fill(&mut self) {
        let headers = &self.options.layout.headers;
        for (part, partition) in &mut self.parts {
            if let Err(e) = partition.fill(headers) {
                tracing::debug!(source = self.env.source, "{part}: {e}");
            }
        }
    }

    /// Waits a little for something to come.
    fn wait(&mut self) -> Next {
        self.tell();
        let _ = self.woken.1.recv_timeout(PATIENCE);
        Next::Waiting
    }

    /// Delivers the first journalled batch as it was.
    fn again(&mut self) -> Result<Next, ConnectorError> {
        let batch = self.journalled.front().expect("the caller has seen it").clone();
        self.decoder.begin(Some(&batch.unknown));
        while let Some(run) = batch.runs.get(self.fetched.run) {
            let part = &run.part;
            let partition = self.parts.get_mut(part).expect("every journalled partition is read");
            if run.lost {
                partition.next = partition.next.max(run.to);
                reject_expired(run, &mut self.rows);
                (self.fetched.run, self.fetched.offset) = (self.fetched.run + 1, None);
                continue;
            }
            let mut offset = self.fetched.offset.unwrap_or(run.from);
            while offset < run.to {
                partition.next = partition.next.max(offset);
                let head = partition.head().map(|m| m.offset);
                match head {
                    Some(head) if head < offset => {
                        partition.take();
                        continue;
                    }
                    Some(head) if head == offset => {
                        let now = self.clock.elapsed();
                        if !partition.head().is_some_and(|m| self.decoder.is_ready(m, now)) {
                            self.fetched.offset = Some(offset);
                            return Ok(self.wait());
                        }
                        let message = partition.take().expect("it was seen");
                        let records = self.decoder.decode(part, &message, &mut self.rows);
                        let expected = batch.count(self.fetched.messages);
                        if records != expected {
                            return Err(ConnectorError::new(format!(
                                "the message {part}@{offset} holds {records} records, and held {expected} when it was \
                                 read before: was the topic deleted and made anew?"
                            )));
                        }
                        self.fetched.messages += 1;
                        offset += 1;
                        continue;
                    }
                    None if offset >= partition.low && !partition.at_end => {
                        self.fetched.offset = Some(offset);
                        return Ok(self.wait());
                    }
                    None if offset >= partition.low => {
                        let Ok((_, high)) = client::bounds(&self.consumer, part) else {
                            self.fetched.offset = Some(offset);
                            return Ok(self.wait());
                        };
                        if high <= offset {
                            return Err(ends_before(part, high, offset + 1));
                        }
                    }
                    _ => {}
                }
                if !self.options.skip_lost {
                    return Err(ConnectorError::new(format!(
                        "the message {part}@{offset} belongs to an epoch that is sealed, and is gone since (expired or \
                         compacted away); `lost = \"skip\"` makes a fault of it"
                    )));
                }
                // Each of its records keeps its number.
                for _ in 0..batch.count(self.fetched.messages) {
                    let bad = Bad::new("message_gone", "it belongs to a sealed epoch, and is gone since");
                    self.rows.reject(bad, format!("{part}@{offset}"), b"");
                }
                self.fetched.messages += 1;
                offset += 1;
                partition.next = offset;
            }
            (self.fetched.run, self.fetched.offset) = (self.fetched.run + 1, None);
        }
        self.journalled.pop_front();
        self.fetched = Fetched::default();
        for (part, next) in &batch.place.next {
            let partition = self.parts.get_mut(part).expect("every journalled partition is read");
            partition.next = partition.next.max(*next);
        }
        Ok(self.deliver(batch.place))
    }

    /// Makes a new batch of what there is, journals it, and delivers it.
    fn new_batch(&mut self) -> Result<Next, ConnectorError> {
        let mut batch = Batch::default();
        self.decoder.begin(None);
        for (part, partition) in self.parts.iter_mut().filter(|(_, p)| p.low > p.next) {
            let run = Run { part: part.clone(), from: partition.next, to: partition.low, lost: true };
            if !self.options.skip_lost {
                return Err(expired(part, partition));
            }
            tracing::warn!(source = self.env.source, "the messages {part}@{} to {} have expired", run.from, run.to - 1);
            partition.next = run.to;
            reject_expired(&run, &mut self.rows);
            batch.runs.push(run);
        }
        let (mut records, mut bytes) = (batch.records(), 0);
        let now = self.clock.elapsed();
        let mut ready = true;
        while ready && records < BATCH_RECORDS && bytes < BATCH_BYTES && self.rows.text_bytes() < TEXT_BYTES {
            let Some((part, until)) = self.pick(records > 0) else { break };
            let partition = self.parts.get_mut(&part).expect("it was picked");
            while let Some(message) = partition.head().filter(|m| m.timestamp_ms <= until)
                && records < BATCH_RECORDS
                && bytes < BATCH_BYTES
                && self.rows.text_bytes() < TEXT_BYTES
            {
                // What cannot be decoded yet is waited for, and all that comes behind it.
                ready = self.decoder.is_ready(message, now);
                if !ready {
                    break;
                }
                bytes += message.bytes();
                let message = partition.take().expect("it was seen");
                let decoded = self.decoder.decode(&part, &message, &mut self.rows);
                batch.push(&part, message.offset, decoded);
                records += decoded;
            }
            if partition.head().is_none()
                && let Err(e) = partition.fill(&self.options.layout.headers)
            {
                tracing::debug!(source = self.env.source, "{part}: {e}");
            }
        }
        if batch.runs.is_empty() {
            return Ok(self.wait());
        }
        batch.unknown = self.decoder.unknown();
        batch.place = Place { cluster: self.place.cluster.clone(), next: self.next_offsets() };
        let first_seq = self.rows.next_seq() - records;
        let entry = JournalEntry { format: FORMAT.to_owned(), payload: batch.to_bytes(), records };
        let source = &self.env.source;
        let appended = self
            .env
            .store
            .journal_append(source, entry, None)
            .map_err(|e| ConnectorError::new(format!("the journal of `{source}` cannot be written: {e}")))?;
        if appended.first_seq != first_seq {
            return Err(ConnectorError::new(format!(
                "the journal of `{source}` goes on with record {} where {first_seq} was expected",
                appended.first_seq
            )));
        }
        self.tell();
        Ok(self.deliver(batch.place))
    }

    /// The partition whose next message is the oldest, and the time up to which it may go on before another's turn
    /// comes. `None`: nothing is there, or (unless there is `enough` already) it is better to wait for more.
    fn pick(&mut self, enough: bool) -> Option<(Part, Option<i64>)> {
        let is_missing = |p: &Partition| p.head().is_none() && !p.at_end && !p.silent;
        if self.parts.values().all(|p| p.head().is_none()) {
            self.waiting_since = None;
            return None;
        }
        if self.parts.values().any(is_missing) {
            let now = self.clock.elapsed();
            let since = *self.waiting_since.get_or_insert(now);
            if enough || now - since < self.options.merge_wait {
                return None;
            }
            for (part, partition) in self.parts.iter_mut().filter(|(_, p)| is_missing(p)) {
                tracing::debug!(source = self.env.source, "{part} gives nothing; the others go on without it");
                partition.silent = true;
            }
        }
        self.waiting_since = None;
        // A message without a time comes first.
        let mut heads = self.parts.iter().filter_map(|(part, p)| Some((p.head()?.timestamp_ms, part)));
        let mut first = heads.next()?;
        let mut second: Option<Option<i64>> = None;
        for head in heads {
            let later = if head < first { std::mem::replace(&mut first, head) } else { head };
            second = Some(second.map_or(later.0, |s| s.min(later.0)));
        }
        Some((first.1.clone(), second.unwrap_or(Some(i64::MAX))))
    }

    fn next_offsets(&self) -> BTreeMap<Part, i64> {
        self.parts.iter().map(|(part, p)| (part.clone(), p.next)).collect()
    }

    fn deliver(&mut self, place: Place) -> Next {
        let json = |place: &Place| serde_json::to_value(place).expect("a place is JSON");
        let start = json(&self.place);
        self.place = place;
        Next::Rows(self.rows.take(start, json(&self.place)))
    }
}

impl Connector for Reader {
    fn next(&mut self) -> Result<Next, ConnectorError> {
        self.serve()?;
        self.discover()?;
        self.check_ranges()?;
        self.tell_group();
        if std::mem::take(&mut self.begun) {
            // Kept before anything came: the latest offset, or a time's, may be another one after a restart.
            self.place.next = self.next_offsets();
            let place = serde_json::to_value(&self.place).expect("a place is JSON");
            return Ok(Next::Rows(self.rows.take(serde_json::Value::Null, place)));
        }
        if !self.assigned {
            return Ok(self.wait());
        }
        self.fill();
        if self.journalled.is_empty() { self.new_batch() } else { self.again() }
    }
}

/// The batches that are journalled from a record on, with the number of the first's first record.
fn read_journal(from_seq: u64, env: &SourceEnv) -> Result<(u64, VecDeque<Batch>), ConnectorError> {
    let source = &env.source;
    let (mut batches, mut first_seq, mut seq) = (VecDeque::new(), None, from_seq);
    loop {
        let entries = env
            .store
            .journal_read(source, seq, JOURNAL_BYTES)
            .map_err(|e| ConnectorError::new(format!("the journal of `{source}` cannot be read: {e}")))?;
        if entries.is_empty() {
            break;
        }
        for journalled in entries {
            let follows = match first_seq {
                None => journalled.first_seq <= from_seq,
                Some(_) => journalled.first_seq == seq,
            };
            let batch = Batch::from_bytes(&journalled.entry.payload, source)?;
            if !follows || journalled.entry.format != FORMAT || batch.records() != journalled.entry.records {
                return Err(ConnectorError::new(format!(
                    "the journal of `{source}` is damaged at record {}",
                    journalled.first_seq
                )));
            }
            first_seq.get_or_insert(journalled.first_seq);
            seq = journalled.first_seq + journalled.entry.records;
            batches.push_back(batch);
        }
    }
    let ends = env.store.journal_next_seq(source);
    if ends != seq {
        return Err(ConnectorError::new(format!(
            "the journal of `{source}` ends at record {ends} where {seq} was expected"
        )));
    }
    Ok((first_seq.unwrap_or(from_seq), batches))
}

/// The fault that stands for messages that expired unread.
fn reject_expired(run: &Run, rows: &mut Rows) {
    let count = run.to - run.from;
    let detail = format!("{count} messages had expired before they were read: offsets {} to {}", run.from, run.to - 1);
    rows.reject(Bad::new("offsets_expired", detail), format!("{}@{}", run.part, run.from), b"");
}

fn expired(part: &Part, partition: &Partition) -> ConnectorError {
    ConnectorError::new(format!(
        "the messages {part}@{} to {} have expired before they were read; `lost = \"skip\"` makes a fault of them and \
         goes on behind",
        partition.next,
        partition.low - 1
    ))
}

fn ends_before(part: &Part, high: i64, next: i64) -> ConnectorError {
    ConnectorError::new(format!(
        "the partition {part} ends at offset {high}, where reading was to go on at {next}: was the topic deleted and \
         made anew?"
    ))
}
