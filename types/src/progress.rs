//! What is logged about an epoch before it is computed: how far each source was read, and every decision the clock made.

use std::collections::BTreeMap;

use crate::{Epoch, Micros, WATERMARK_START};

/// A place in a source from which reading can go on.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Position {
    /// The connector's own note (a file and a byte offset, a journal key): where to open. Its row number is
    /// at most `seq`; rows between the two are read and skipped.
    pub anchor: serde_json::Value,
    /// The number of the next row to deliver.
    pub seq: u64,
}

/// One source at the end of an epoch.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct SourceProgress {
    /// Where to go on.
    pub position: Position,
    /// The greatest event time seen.
    pub event_time_max: Micros,
    /// Rows below this are late whatever the source's own rows say: others went on while it was idle.
    pub floor: Micros,
    /// The event time below which the source delivers nothing any more.
    pub watermark: Micros,
    /// True if the source was left out of the watermark because it had been silent too long.
    pub idle: bool,
    /// True if the source has ended for good.
    pub ended: bool,
}

impl Default for SourceProgress {
    fn default() -> Self {
        SourceProgress {
            position: Position::default(),
            event_time_max: WATERMARK_START,
            floor: WATERMARK_START,
            watermark: WATERMARK_START,
            idle: false,
            ended: false,
        }
    }
}

/// The record of an epoch: `remap[e]`. Replaying the inputs it names gives the epoch again.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Remap {
    /// The epoch.
    pub epoch: Epoch,
    /// The wall clock when it was sealed, milliseconds since 1970 UTC.
    pub clock_ms: i64,
    /// Every source at its end.
    pub sources: BTreeMap<String, SourceProgress>,
}

impl Remap {
    /// The watermark over some sources: the least of theirs, those that are idle left out. All idle: no advance
    /// is known, and the answer is the greatest floor.
    pub fn watermark<'a>(&self, sources: impl IntoIterator<Item = &'a str>) -> Micros {
        let mut least: Option<Micros> = None;
        let mut floor = WATERMARK_START;
        for name in sources {
            let Some(s) = self.sources.get(name) else { return WATERMARK_START };
            floor = floor.max(s.floor);
            if !s.idle {
                least = Some(least.map_or(s.watermark, |l| l.min(s.watermark)));
            }
        }
        least.unwrap_or(floor)
    }
}
