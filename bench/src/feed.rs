//! A file that grows at a steady rate, whoever reads it: the open-loop input of `latency` and `lookup`.
//!
//! Events are due at even intervals. A thread wakes every millisecond and appends those that have become due, so an
//! event is at most about a millisecond late at the file, and its latency counts from when it was due: a reader that
//! falls behind cannot slow its own input down.

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

    /// Appends until the time is over; gives the number after the last event.
    pub fn run(&self, path: &Path, start: Instant, time: Duration) -> Result<u64, String> {
        const TICK: Duration = Duration::from_millis(1);
        let failed = |e: std::io::Error| format!("{}: {e}", path.display());
        let mut file = OpenOptions::new().append(true).open(path).map_err(failed)?;
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
            file.write_all(&text).map_err(failed)?;
            if now >= time {
                return Ok(next);
            }
            std::thread::sleep(TICK);
        }
    }

    /// Makes the file, with its header and one event of every key (numbered from 0 if they are).
    pub fn create(path: &Path, lines: Lines, keys: u64) -> Result<(), String> {
        let feed = Feed { lines, keys, rate: 1, first: 0 };
        let mut rng = Rng::new(0);
        let mut text = match lines {
            Lines::Plain => b"key,value\n".to_vec(),
            Lines::Numbered => b"id,lane,key,value\n".to_vec(),
        };
        for key in 0..keys {
            feed.push_key(&mut text, key, key, &mut rng);
        }
        File::create(path).and_then(|mut f| f.write_all(&text)).map_err(|e| format!("{}: {e}", path.display()))
    }

    fn push(&self, text: &mut Vec<u8>, number: u64, rng: &mut Rng) {
        let key = rng.below(self.keys);
        self.push_key(text, number, key, rng);
    }

    fn push_key(&self, text: &mut Vec<u8>, number: u64, key: u64, rng: &mut Rng) {
        if let Lines::Numbered = self.lines {
            push_number(text, number);
            text.extend_from_slice(b",0,");
        }
        push_event(text, key, rng.below(100_000));
    }
}
