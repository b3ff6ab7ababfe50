//! A view's changes as they are published: a stream that, where it breaks, is taken up again after what was seen.

use std::io::{BufRead, BufReader, Read};
use std::marker::PhantomData;
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::{Client, Epoch, Error, refusal};

/// How long to wait before a broken stream is taken up again.
const RECONNECT: Duration = Duration::from_secs(1);

/// Where a stream of changes begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum From {
    /// With what changes from now on.
    Now,
    /// With the rows there are.
    Snapshot,
    /// After the change of this id: see [`Event::id`].
    After(String),
}

impl From {
    pub(crate) fn query(&self) -> Option<String> {
        matches!(self, From::Snapshot).then(|| "from=snapshot".to_owned())
    }
}

/// A change of a row, or of a snapshot a row there is.
#[derive(Clone, Debug, PartialEq)]
pub struct Change<T> {
    /// The epoch that changed it.
    pub epoch: Epoch,
    /// Its key: an object of its columns.
    pub key: Value,
    /// The row it is now; `None`: it is gone.
    pub row: Option<T>,
    /// What to go on after.
    pub id: String,
}

/// A change as it comes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// What to go on after: [`From::After`].
    pub id: String,
    /// `{epoch, seq, op, key, row}`, as JSON.
    pub data: String,
}

/// A stream of changes as they come. Ends with an error only, and after it.
#[derive(Debug)]
pub struct Events<'a> {
    client: &'a Client,
    path: String,
    last_id: Option<String>,
    stream: Option<Stream>,
    is_over: bool,
}

impl<'a> Events<'a> {
    pub(crate) fn new(client: &'a Client, path: String, from: From) -> Events<'a> {
        let last_id = match from {
            From::After(id) => Some(id),
            From::Now | From::Snapshot => None,
        };
        Events { client, path, last_id, stream: None, is_over: false }
    }

    fn one(&mut self) -> Result<Event, Error> {
        loop {
            let Some(stream) = &mut self.stream else {
                self.connect()?;
                continue;
            };
            match stream.next()? {
                Some(Told::Change(event)) => {
                    self.last_id = Some(event.id.clone());
                    return Ok(event);
                }
                Some(Told::Id(id)) => self.last_id = Some(id),
                // A connection that broke and one that was ended are the same.
                None => {
                    self.stream = None;
                    std::thread::sleep(RECONNECT);
                }
            }
        }
    }

    fn connect(&mut self) -> Result<(), Error> {
        let mut headers = vec![("accept", "text/event-stream")];
        headers.extend(self.last_id.as_deref().map(|id| ("last-event-id", id)));
        match self.client.get(&self.path, &headers) {
            Ok(body) => self.stream = Some(Stream::new(body.reader())),
            // Not reached any more, or not ready: it may be starting again.
            Err(error) if error.is_passing() && self.last_id.is_some() => std::thread::sleep(RECONNECT),
            Err(error) => return Err(error),
        }
        Ok(())
    }
}

impl Iterator for Events<'_> {
    type Item = Result<Event, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.is_over {
            return None;
        }
        let one = self.one();
        self.is_over = one.is_err();
        Some(one)
    }
}

/// A stream of changes of rows of a type. Ends with an error only, and after it.
#[derive(Debug)]
pub struct Changes<'a, T> {
    events: Events<'a>,
    row: PhantomData<T>,
}

impl<'a, T> Changes<'a, T> {
    pub(crate) fn new(events: Events<'a>) -> Changes<'a, T> {
        Changes { events, row: PhantomData }
    }
}

impl<T: DeserializeOwned> Iterator for Changes<'_, T> {
    type Item = Result<Change<T>, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        #[derive(serde::Deserialize)]
        struct Data<T> {
            epoch: Epoch,
            key: Value,
            row: Option<T>,
        }
        let change = self.events.next()?.and_then(|event| {
            let data: Data<T> = serde_json::from_str(&event.data)
                .map_err(|e| Error::Unexpected { base: self.events.client.base().to_owned(), reason: e.to_string() })?;
            Ok(Change { epoch: data.epoch, key: data.key, row: data.row, id: event.id })
        });
        Some(change)
    }
}

/// What a connection brings.
enum Told {
    Change(Event),
    /// Everything up to here was told.
    Id(String),
}

/// One connection's server-sent events.
struct Stream(BufReader<Box<dyn Read>>);

impl std::fmt::Debug for Stream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Stream")
    }
}

impl Stream {
    fn new(reader: impl Read + 'static) -> Stream {
        Stream(BufReader::new(Box::new(reader)))
    }

    /// The next event; `None` where the connection ends.
    fn next(&mut self) -> Result<Option<Told>, Error> {
        let (mut id, mut event, mut data) = (None, String::new(), String::new());
        let mut line = String::new();
        loop {
            line.clear();
            let (Ok(1..), Some(text)) = (self.0.read_line(&mut line), line.strip_suffix('\n')) else { return Ok(None) };
            if let Some(value) = text.strip_prefix("id: ") {
                id = Some(value.to_owned());
            } else if let Some(value) = text.strip_prefix("event: ") {
                value.clone_into(&mut event);
            } else if let Some(value) = text.strip_prefix("data: ") {
                value.clone_into(&mut data);
            } else if text.is_empty() {
                match (event.as_str(), id.take()) {
                    ("error", _) => return Err(refusal(0, data.as_bytes())),
                    ("change" | "snapshot", Some(id)) => return Ok(Some(Told::Change(Event { id, data }))),
                    (_, Some(id)) => return Ok(Some(Told::Id(id))),
                    (_, None) => {}
                }
                event.clear();
                data.clear();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_tells_changes_and_how_far_it_is() {
        let text = "retry: 1000\n\nid: 1:end\nevent: epoch\ndata: {}\n\n: still here\n\n\
                    id: 2:0\nevent: change\ndata: {\"a\":1}\n\nid: 2:1\nevent: change\ndata: {\"a\":2}\n\nid: 3:0\nevent: cha";
        let mut stream = Stream::new(text.as_bytes());
        let mut told = Vec::new();
        while let Some(one) = stream.next().unwrap() {
            told.push(match one {
                Told::Change(event) => format!("{} {}", event.id, event.data),
                Told::Id(id) => id,
            });
        }
        assert_eq!(told, ["1:end", "2:0 {\"a\":1}", "2:1 {\"a\":2}"]);
    }

    #[test]
    fn an_error_event_ends_a_stream() {
        let text = "event: error\ndata: {\"code\":\"compacted\",\"message\":\"too old\"}\n\n";
        let error = Stream::new(text.as_bytes()).next().err().unwrap();
        assert_eq!(error.to_string(), "too old (compacted)");
    }
}
