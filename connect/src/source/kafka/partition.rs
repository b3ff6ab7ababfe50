//! One partition while it is being read: what was fetched and not taken, and what is known of its ends.

use std::collections::BTreeMap;

use rdkafka::Message as _;
use rdkafka::consumer::base_consumer::PartitionQueue;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Headers as _};

use super::client::Watch;
use super::record::Message;

/// Messages and bytes held of a partition, about; the client holds more behind them.
const HELD_MESSAGES: usize = 4096;
const HELD_BYTES: usize = 4 << 20;

/// A partition that is being read.
pub(super) struct Partition {
    /// The offset of the next message to take.
    pub next: i64,
    /// Fetched and not taken, by offset.
    held: BTreeMap<i64, Message>,
    held_bytes: usize,
    /// Where the client puts its messages; `None` until it is assigned.
    pub queue: Option<PartitionQueue<Watch>>,
    /// Its end has been seen since it was assigned, and it has not fallen far behind since. What was in it when it was
    /// assigned has then been fetched.
    pub at_end: bool,
    /// It was waited for in vain; it is not waited for again until it gives something.
    pub silent: bool,
    /// The client says that `next` is not there.
    pub out_of_range: bool,
    /// The first offset it still has, once `next` turned out to be below it.
    pub low: i64,
}

impl Partition {
    pub fn new(next: i64) -> Partition {
        Partition {
            next,
            held: BTreeMap::new(),
            held_bytes: 0,
            queue: None,
            at_end: false,
            silent: false,
            out_of_range: false,
            low: 0,
        }
    }

    /// Forgets what was fetched: it will be fetched again.
    pub fn reset(&mut self) {
        (self.held, self.held_bytes, self.queue) = (BTreeMap::new(), 0, None);
        (self.at_end, self.silent, self.out_of_range) = (false, false, false);
    }

    /// Moves what the client has fetched over here, until enough is held. An error is a trouble to be told, no more.
    pub fn fill(&mut self, headers: &[(usize, String)]) -> Result<(), KafkaError> {
        let Some(queue) = self.queue.take() else { return Ok(()) };
        let mut result = Ok(());
        while self.held.len() < HELD_MESSAGES && self.held_bytes < HELD_BYTES {
            match queue.poll(std::time::Duration::ZERO) {
                None => break,
                Some(Ok(message)) => self.hold(&message, headers),
                Some(Err(e)) => {
                    if let Some(e) = self.heard(e) {
                        result = Err(e);
                        break;
                    }
                }
            }
        }
        if self.held.len() >= HELD_MESSAGES || self.held_bytes >= HELD_BYTES {
            self.at_end = false;
        }
        self.queue = Some(queue);
        result
    }

    /// Takes note of an error that is about this partition; gives back one that is not.
    fn heard(&mut self, error: KafkaError) -> Option<KafkaError> {
        match error {
            KafkaError::PartitionEOF(_) => self.at_end = true,
            e if is_out_of_range(&e) => self.out_of_range = true,
            e => return Some(e),
        }
        None
    }

    /// Holds a message; one that was taken already is passed over.
    pub fn hold(&mut self, message: &BorrowedMessage<'_>, headers: &[(usize, String)]) {
        self.silent = false;
        if message.offset() < self.next.max(self.low) {
            return;
        }
        let header = |name: &String| {
            let all = message.headers()?;
            // The last of a name is the newest.
            all.iter().filter(|h| h.key == *name).last()?.value.map(<[u8]>::to_vec)
        };
        let held = Message {
            offset: message.offset(),
            timestamp_ms: message.timestamp().to_millis(),
            key: message.key().map(<[u8]>::to_vec),
            value: message.payload().map(<[u8]>::to_vec),
            headers: headers.iter().map(|(_, name)| header(name)).collect(),
        };
        self.held_bytes += held.bytes();
        if let Some(before) = self.held.insert(held.offset, held) {
            self.held_bytes -= before.bytes();
        }
    }

    /// The next message, if it has been fetched.
    pub fn head(&self) -> Option<&Message> {
        self.held.first_key_value().map(|(_, m)| m)
    }

    /// Takes the next message.
    pub fn take(&mut self) -> Option<Message> {
        let (offset, message) = self.held.pop_first()?;
        self.held_bytes -= message.bytes();
        self.next = offset + 1;
        Some(message)
    }
}

fn is_out_of_range(error: &KafkaError) -> bool {
    matches!(error.rdkafka_error_code(), Some(RDKafkaErrorCode::AutoOffsetReset | RDKafkaErrorCode::OffsetOutOfRange))
}
