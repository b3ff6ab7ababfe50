//! Events at a steady rate, whoever takes them: the open-loop input of `latency` and `lookup`.
//!
//! Events are due at even intervals. A thread wakes every millisecond and hands on those that have become due, so an
//! event is at most about a millisecond late, and its latency counts from when it was due: whoever takes events
//! slowly cannot slow their input down.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::csv::{push_event, push_number};
use crate::measure::Rng;

/// How the lines look.
#[derive(Clone, Copy, Debug)]
pub enum Lines {
    /// `key,value`.
    Plain,
    /// `id,lane,key,value`: the event's number, and a lane that is always 0.
    Numbered,
    /// The same as JSON objects.
    Json,
}

/// What is appended.
#[derive(Clone, Copy, Debug)]
pub struct Feed {
    /// How the lines look.
    pub lines: Lines,
    /// Keys are uniform below this.
    pub keys: u64,
    /// Events a second.
    pub rate: u64,
    /// The number of the first event.
    pub first: u64,
}

impl Feed {
    /// When an event is due, counted from the start of the feed.
    pub fn due(&self, number: u64) -> Duration {
        Duration::from_nanos((number - self.first) * 1_000_000_000 / self.rate)
    }

    /// Hands on what is due until the time is over; gives the number after the last event.
    pub fn run(
        &self,
        start: Instant,
        time: Duration,
        mut take: impl FnMut(&[u8]) -> Result<(), String>,
    ) -> Result<u64, String> {
        const TICK: Duration = Duration::from_millis(1);
        let mut rng = Rng::new(self.first);
        let mut next = self.first;
        let mut text = Vec::new();
        loop {
            let now = start.elapsed();
            text.clear();
            while self.due(next) <= now.min(time) {
                self.push(&mut text, next, &mut rng);
                next += 1;
            }
            if !text.is_empty() {
                take(&text)?;
            }
            if now >= time {
                return Ok(next);
            }
            std::thread::sleep(TICK);
        }
    }

    /// One event of every key (numbered from 0 if they are), with the header if there is one.
    pub fn first_lines(lines: Lines, keys: u64) -> Vec<u8> {
        let feed = Feed { lines, keys, rate: 1, first: 0 };
        let mut rng = Rng::new(0);
        let mut text = match lines {
            Lines::Plain => b"key,value\n".to_vec(),
            Lines::Numbered => b"id,lane,key,value\n".to_vec(),
            Lines::Json => Vec::new(),
        };
        for key in 0..keys {
            feed.push_key(&mut text, key, key, &mut rng);
        }
        text
    }

    /// Makes a file of [`Feed::first_lines`].
    pub fn create(path: &Path, lines: Lines, keys: u64) -> Result<(), String> {
        let text = Feed::first_lines(lines, keys);
        File::create(path).and_then(|mut f| f.write_all(&text)).map_err(|e| format!("{}: {e}", path.display()))
    }

    fn push(&self, text: &mut Vec<u8>, number: u64, rng: &mut Rng) {
        let key = rng.below(self.keys);
        self.push_key(text, number, key, rng);
    }

    fn push_key(&self, text: &mut Vec<u8>, number: u64, key: u64, rng: &mut Rng) {
        let hundredths = rng.below(100_000);
        match self.lines {
            Lines::Plain => push_event(text, key, hundredths),
            Lines::Numbered => {
                push_number(text, number);
                text.extend_from_slice(b",0,");
                push_event(text, key, hundredths);
            }
            Lines::Json => {
                let (whole, rest) = (hundredths / 100, hundredths % 100);
                let line = format!("{{\"id\":{number},\"lane\":0,\"key\":{key},\"value\":{whole}.{rest:02}}}\n");
                text.extend_from_slice(line.as_bytes());
            }
        }
    }
}

/// Appends to a file what it is given.
pub fn appending(path: &Path) -> Result<impl FnMut(&[u8]) -> Result<(), String> + use<>, String> {
    let failed = |e: std::io::Error| format!("appending events: {e}");
    let mut file = OpenOptions::new().append(true).open(path).map_err(failed)?;
    Ok(move |text: &[u8]| file.write_all(text).map_err(failed))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_event_is_due_once_and_numbered() {
        let feed = Feed { lines: Lines::Json, keys: 3, rate: 1_000, first: 5 };
        assert_eq!(feed.due(6), Duration::from_millis(1));
        let mut text = Vec::new();
        let take = |t: &[u8]| {
            text.extend_from_slice(t);
            Ok(())
        };
        // The start lies far back, so everything is due at once.
        let start = Instant::now().checked_sub(Duration::from_secs(5)).unwrap();
        assert_eq!(feed.run(start, Duration::from_millis(3), take).unwrap(), 9);
        let ids: Vec<u64> = String::from_utf8(text)
            .unwrap()
            .lines()
            .map(|l| serde_json::from_str::<serde_json::Value>(l).unwrap()["id"].as_u64().unwrap())
            .collect();
        assert_eq!(ids, [5, 6, 7, 8]);
    }
}
