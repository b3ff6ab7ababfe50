//! What drivers report, and what follows from it.

use std::collections::BTreeMap;

use super::Wrong;

/// What a driver reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Report {
    /// It begins its shift, free.
    Online,
    /// It ends its shift.
    Offline,
    /// It has done what it was sent to do, or need not do it.
    Free,
    /// It does what it was sent to do.
    Busy,
    /// It is there.
    Position,
}

impl Report {
    /// All, by the words that stand for them unless others are given.
    pub const WORDS: [(&'static str, Report); 5] = [
        ("online", Report::Online),
        ("offline", Report::Offline),
        ("free", Report::Free),
        ("busy", Report::Busy),
        ("position", Report::Position),
    ];

    /// Whether the place counts.
    pub fn has_place(self) -> bool {
        matches!(self, Report::Online | Report::Free | Report::Position)
    }
}

/// What a driver does who is online.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Duty {
    /// It waits.
    Idle = 0,
    /// It was sent and has not said that it obeys.
    Sent = 1,
    /// It is busy.
    Busy = 2,
}

impl Duty {
    /// As it was stored.
    pub fn of(byte: i64) -> Duty {
        [Duty::Idle, Duty::Sent, Duty::Busy][byte as usize]
    }
}

/// What a driver does after a report; `None` is offline. With `is_sent` a driver is busy only if it was sent.
pub fn next(duty: Option<Duty>, report: Report, is_sent: bool) -> Result<Option<Duty>, Wrong> {
    let wrong = |reason: &'static str, detail: &str| Err((reason, detail.to_owned()));
    match (duty, report) {
        (None, Report::Online) => Ok(Some(Duty::Idle)),
        (None, Report::Offline) => wrong("duplicate_event", "the driver is offline already"),
        (None, _) => wrong("driver_offline", "the driver is offline"),
        (Some(_), Report::Online) => wrong("duplicate_event", "the driver is online already"),
        (Some(_), Report::Offline) => Ok(None),
        (Some(duty), Report::Position) => Ok(Some(duty)),
        (Some(Duty::Idle), Report::Free) if is_sent => wrong("not_matched", "the driver was matched with no order"),
        (Some(Duty::Idle), Report::Free) => wrong("duplicate_event", "the driver is free already"),
        (Some(_), Report::Free) => Ok(Some(Duty::Idle)),
        (Some(Duty::Idle), Report::Busy) if is_sent => wrong("not_matched", "the driver was matched with no order"),
        (Some(Duty::Busy), Report::Busy) => wrong("duplicate_event", "the driver is busy already"),
        (Some(_), Report::Busy) => Ok(Some(Duty::Busy)),
    }
}

/// The meaning of a word.
pub fn meaning<T: Copy>(words: &BTreeMap<String, T>, word: Option<&str>) -> Result<T, Wrong> {
    let word = word.ok_or_else(|| ("unknown_word", "the event is null".to_owned()))?;
    words.get(word).copied().ok_or_else(|| ("unknown_word", format!("`{word}` is no event")))
}
