//! Avro schemas that messages name by their ids: asked of the registry, and what is read by them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::super::avro;
use super::super::cells::{Bad, RowSpec};
use super::super::paths::Paths;
use super::key;
use super::registry::{Address, Answer, Registry, unknown_until};

/// What is known of schemas.
#[derive(Debug)]
pub(super) struct ById {
    registry: Registry,
    /// Which field of a value fills which column.
    paths: Paths,
    /// The columns that a key fills.
    key: Vec<usize>,
    known: BTreeMap<u32, Known>,
    /// The ids that were not known when a batch was made, while it is made again.
    replayed: Option<BTreeSet<u32>>,
    /// The ids that messages of the batch named and the registry did not know.
    unknown: BTreeSet<u32>,
}

/// A schema's readers, or what is wrong with every value, or key, of the schema.
#[derive(Debug)]
struct Known {
    value: Result<avro::Reader, Bad>,
    key: Result<avro::Reader, Bad>,
    /// Until when that is so, of the source's clock; `None`: for ever.
    until: Option<Duration>,
}

impl ById {
    /// Nothing is known yet.
    pub fn new(address: Address, paths: Paths, key: Vec<usize>) -> ById {
        ById {
            registry: Registry::new(address),
            paths,
            key,
            known: BTreeMap::new(),
            replayed: None,
            unknown: BTreeSet::new(),
        }
    }

    /// A batch begins that was made before: with these schemas unknown, and no others. `None`: a new one.
    pub fn begin(&mut self, replayed: Option<&[u32]>) {
        self.replayed = replayed.map(|ids| ids.iter().copied().collect());
        self.unknown.clear();
    }

    /// The schemas that messages of the batch named and that were unknown.
    pub fn unknown(&self) -> Vec<u32> {
        self.unknown.iter().copied().collect()
    }

    /// Why the registry does not answer, if that is so.
    pub fn trouble(&self) -> Option<&str> {
        self.registry.trouble()
    }

    /// Reads values of a schema, which is known by now; the error is what each of them is.
    pub fn value(&self, id: u32) -> Result<&avro::Reader, Bad> {
        self.known(id)?.value.as_ref().map_err(Clone::clone)
    }

    /// The same of keys.
    pub fn key(&self, id: u32) -> Result<&avro::Reader, Bad> {
        self.known(id)?.key.as_ref().map_err(Clone::clone)
    }

    fn known(&self, id: u32) -> Result<&Known, Bad> {
        if self.replayed.as_ref().is_some_and(|unknown| unknown.contains(&id)) {
            return Err(unknown_schema(id));
        }
        Ok(self.known.get(&id).expect("nothing is decoded that is not ready"))
    }

    /// Whether it is known what values and keys of this schema are. If not, the registry has been asked.
    pub fn knows(&mut self, id: u32, spec: &RowSpec, now: Duration) -> bool {
        let was_unknown = self.replayed.as_ref().map(|unknown| unknown.contains(&id));
        if was_unknown == Some(true) {
            return true;
        }
        // What was known when a batch was made is asked for until it is known again: the registry lags, or has lost it.
        let is_known = |known: &Known| known.until.is_none_or(|until| was_unknown.is_none() && now < until);
        if !self.known.get(&id).is_some_and(is_known) {
            let Some(answer) = self.registry.schema(id, now) else { return false };
            if answer == Answer::Unknown && was_unknown == Some(false) {
                self.registry.wait(format!("it no longer knows the schema {id}, of which it knew"), now);
                return false;
            }
            self.known.retain(|_, known| known.until.is_none_or(|until| now < until));
            let known = self.read(id, answer, spec, now);
            self.known.insert(id, known);
        }
        // Whether or not it is then asked for: a message may be a fault for another reason.
        if self.known[&id].until.is_some() {
            self.unknown.insert(id);
        }
        true
    }

    fn read(&self, id: u32, answer: Answer, spec: &RowSpec, now: Duration) -> Known {
        let unusable =
            |why: String| Bad::new("bad_schema", format!("the schema with the id {id} cannot be used: {why}"));
        let until = (answer == Answer::Unknown).then(|| unknown_until(now));
        let schema = match answer {
            Answer::Schema(texts) => avro::Schema::parse_last(&texts).map(Arc::new).map_err(unusable),
            Answer::Unusable(why) => Err(unusable(why)),
            Answer::Unknown => Err(unknown_schema(id)),
        };
        let (value, key) = match schema {
            Ok(schema) => {
                let key = key::avro_reader(schema.clone(), &self.key, spec);
                let value = if schema.is_record() {
                    avro::Reader::new(schema, &self.paths, spec)
                } else {
                    Err(unusable("it is no record".to_owned()))
                };
                (value, key)
            }
            Err(bad) => (Err(bad.clone()), Err(bad)),
        };
        Known { value, key, until }
    }
}

fn unknown_schema(id: u32) -> Bad {
    Bad::new("unknown_schema", format!("the registry has no schema with the id {id}"))
}
