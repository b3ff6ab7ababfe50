//! What is written down about a batch before the engine sees it: which messages it is made of, in which order.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use engine::connector::ConnectorError;

/// A partition of a topic, written `topic/3`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(into = "String", try_from = "String")]
pub(super) struct Part {
    pub topic: String,
    pub id: i32,
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.topic, self.id)
    }
}

impl FromStr for Part {
    type Err = String;
    fn from_str(text: &str) -> Result<Part, String> {
        let parsed = text.rsplit_once('/').and_then(|(topic, id)| Some((topic, id.parse::<i32>().ok()?)));
        match parsed {
            Some((topic, id)) if !topic.is_empty() && id >= 0 => Ok(Part { topic: topic.to_owned(), id }),
            _ => Err(format!("expected `topic/partition`, found `{text}`")),
        }
    }
}

impl TryFrom<String> for Part {
    type Error = String;
    fn try_from(text: String) -> Result<Part, String> {
        text.parse()
    }
}

impl From<Part> for String {
    fn from(part: Part) -> String {
        part.to_string()
    }
}

/// Where every partition is to be read on, and in which cluster that is.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(super) struct Place {
    /// The id the cluster gives itself; empty if it gave none.
    #[serde(default)]
    pub cluster: String,
    /// The offset of the next message of each partition.
    pub next: BTreeMap<Part, i64>,
}

/// Consecutive messages of one partition, or offsets of it that are gone.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(into = "(Part, i64, i64, bool)", from = "(Part, i64, i64, bool)")]
pub(super) struct Run {
    pub part: Part,
    /// The first offset, and the one after the last.
    pub from: i64,
    pub to: i64,
    /// They had expired before they were read: one record, a fault, stands for all of them.
    pub lost: bool,
}

impl From<Run> for (Part, i64, i64, bool) {
    fn from(run: Run) -> Self {
        (run.part, run.from, run.to, run.lost)
    }
}

impl From<(Part, i64, i64, bool)> for Run {
    fn from((part, from, to, lost): (Part, i64, i64, bool)) -> Self {
        Run { part, from, to, lost }
    }
}

/// A batch: its runs in order, and where it leaves the partitions.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(super) struct Batch {
    pub place: Place,
    pub runs: Vec<Run>,
    /// How many records each message is, in the order of the runs, those that are lost left out. Empty: one each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub counts: Vec<u64>,
    /// Schemas that messages named and the registry did not know: they stay unknown when the batch is made again.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unknown: Vec<u32>,
}

/// How the journal calls the payload of a batch.
pub(super) const FORMAT: &str = "kafka batch";

impl Batch {
    /// Adds a message behind the last, of so many records.
    pub fn push(&mut self, part: &Part, offset: i64, records: u64) {
        if records != 1 && self.counts.is_empty() {
            self.counts = vec![1; self.messages()];
        }
        if records != 1 || !self.counts.is_empty() {
            self.counts.push(records);
        }
        match self.runs.last_mut() {
            Some(run) if !run.lost && run.to == offset && run.part == *part => run.to += 1,
            _ => self.runs.push(Run { part: part.clone(), from: offset, to: offset + 1, lost: false }),
        }
    }

    /// How many records it has.
    pub fn records(&self) -> u64 {
        let lost = self.runs.iter().filter(|r| r.lost).count() as u64;
        lost + if self.counts.is_empty() { self.messages() as u64 } else { self.counts.iter().sum() }
    }

    /// How many records the message of that place in the batch is.
    pub fn count(&self, message: usize) -> u64 {
        self.counts.get(message).copied().unwrap_or(1)
    }

    /// How many messages it has.
    fn messages(&self) -> usize {
        self.runs.iter().filter(|r| !r.lost).map(|r| (r.to - r.from).unsigned_abs() as usize).sum()
    }

    pub fn to_bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("a batch is JSON")
    }

    /// Reads back what [`Batch::to_bytes`] wrote; `source` is for the error.
    pub fn from_bytes(bytes: &[u8], source: &str) -> Result<Batch, ConnectorError> {
        let broken = |why: String| {
            ConnectorError::new(format!("the journal of `{source}` holds a batch that cannot be read: {why}"))
        };
        let batch: Batch = serde_json::from_slice(bytes).map_err(|e| broken(e.to_string()))?;
        if !batch.counts.is_empty() && batch.counts.len() != batch.messages() {
            return Err(broken("not as many counts as messages".to_owned()));
        }
        Ok(batch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_is_written_and_read_back() {
        let (a, b) = (Part { topic: "t".into(), id: 0 }, Part { topic: "t.x-y".into(), id: 12 });
        let mut batch = Batch::default();
        for (part, offset) in [(&a, 5), (&a, 6), (&b, 0), (&a, 7), (&a, 9)] {
            batch.push(part, offset, 1);
        }
        batch.runs.push(Run { part: b.clone(), from: 1, to: 40, lost: true });
        batch.push(&b, 40, 1);
        batch.place = Place { cluster: "c".into(), next: [(a, 10), (b, 41)].into() };
        let runs: Vec<String> =
            batch.runs.iter().map(|r| format!("{}@{}..{} {}", r.part, r.from, r.to, r.lost)).collect();
        let expected = [
            "t/0@5..7 false",
            "t.x-y/12@0..1 false",
            "t/0@7..8 false",
            "t/0@9..10 false",
            "t.x-y/12@1..40 true",
            "t.x-y/12@40..41 false",
        ];
        assert_eq!(runs, expected);
        assert_eq!(batch.records(), 7);
        assert_eq!(Batch::from_bytes(&batch.to_bytes(), "s").unwrap(), batch);
        assert!(Batch::from_bytes(b"{}", "s").unwrap_err().to_string().contains("journal of `s`"));
    }

    #[test]
    fn messages_of_several_records_are_counted() {
        let a = Part { topic: "t".into(), id: 0 };
        let mut batch = Batch::default();
        batch.push(&a, 0, 1);
        batch.push(&a, 1, 1);
        batch.runs.push(Run { part: a.clone(), from: 2, to: 7, lost: true });
        assert!(!String::from_utf8(batch.to_bytes()).unwrap().contains("counts"));
        batch.push(&a, 7, 5);
        batch.push(&a, 8, 1);
        assert_eq!((batch.counts.as_slice(), batch.records()), (&[1, 1, 5, 1][..], 9));
        assert_eq!((0..4).map(|m| batch.count(m)).collect::<Vec<_>>(), [1, 1, 5, 1]);
        assert_eq!(Batch::from_bytes(&batch.to_bytes(), "s").unwrap(), batch);
        batch.counts.pop();
        assert!(Batch::from_bytes(&batch.to_bytes(), "s").is_err());
    }

    #[test]
    fn a_partition_is_topic_and_number() {
        assert_eq!("a/b/3".parse::<Part>().unwrap(), Part { topic: "a/b".into(), id: 3 });
        for wrong in ["", "3", "/3", "t/", "t/-1", "t/x"] {
            assert!(wrong.parse::<Part>().is_err(), "{wrong}");
        }
    }
}
