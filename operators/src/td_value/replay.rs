//! Trains for a step of a pipeline: runs what comes before it on recorded sources, and takes what reaches it.
//!
//! So rewards and durations are counted as the pipeline counts them, whatever its steps make of its records, and cells,
//! discount and local time are the step's. The step's own offline function, which may not be there yet, is not looked at.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use arrow::array::{Array, AsArray, Float64Array, RecordBatch, TimestampMicrosecondArray};
use arrow::datatypes::TimestampMicrosecondType;
use engine::connector::ConnectorFactory;
use engine::operator::{Context, HistoryOperator, StepKind};
use engine::plan::{PlannedSource, Settings};
use engine::{Catalogue, FAULTS, Plan, pipeline, testing};
use types::{Type, Value};

use super::learner::floats;
use super::options::{TdValue, cell_name, read_to_train};
use super::train::{Record, Trainer, Training};

/// A step that is to be trained for, with what comes before it.
#[derive(Debug)]
pub struct Step {
    name: String,
    plan: Plan,
    td: Arc<TdValue>,
    /// The column of the time that passes after the event time, if that is not the duration.
    elapsed: Option<usize>,
}

/// What puts a file in the place of a source.
pub type Recorded<'a> = &'a dyn Fn(&PlannedSource, &Path) -> Result<Arc<dyn ConnectorFactory>, String>;

/// What came of a replay.
#[derive(Debug)]
pub struct Replayed {
    /// With all transitions.
    pub trainer: Trainer,
    /// Transitions that were refused, by reason.
    pub refused: BTreeMap<&'static str, u64>,
    /// Records that were faults before the step.
    pub faults: u64,
}

impl Step {
    /// The step of a name in a pipeline file of this text. The error is for a person.
    pub fn find(
        file: &Path,
        text: &str,
        env: &dyn Fn(&str) -> Option<String>,
        catalogue: &Catalogue,
        name: &str,
        elapsed: Option<&str>,
    ) -> Result<Step, String> {
        let found: RefCell<Option<Arc<TdValue>>> = RefCell::new(None);
        let mut plan = pipeline::load_with(file, text, env, catalogue, &|step, def, section, relations| {
            if step != name || def.name != super::DEF.name {
                return (def.plan)(section, relations);
            }
            let td = Arc::new(read_to_train(section, relations)?);
            found.replace(Some(td.clone()));
            Some(super::step_plan(&td))
        })
        .map_err(|problems| problems.to_string())?;
        let Some(td) = found.into_inner() else {
            let steps = plan.steps.iter().filter(|step| step.operator == super::DEF.name);
            let names: Vec<String> = steps.map(|step| format!("`{}`", step.name)).collect();
            let there = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
            return Err(format!("{}: `{name}` is no step of `td_value`; there is {there}", file.display()));
        };
        let elapsed = elapsed.map(|column| {
            let of_type = |c: &usize| matches!(td.input.columns[*c].ty, Type::Float64 | Type::Int64);
            td.input
                .index_of(column)
                .filter(of_type)
                .ok_or_else(|| format!("--elapsed: `{}` has no column `{column}` of float64 or int64", td.relation))
        });
        prune(&mut plan, name);
        Ok(Step { name: name.to_owned(), plan, td, elapsed: elapsed.transpose()? })
    }

    /// How the step learns, for a training.
    pub fn training(&self, slot_secs: u32, spread: bool, sweeps: usize) -> Training {
        let td = &self.td;
        let grid = td.places.map(|places| places.grid);
        let (gamma, unit_secs, offset) = (td.rates.gamma, td.rates.duration_unit_secs, td.calendar.offset);
        Training { grid, gamma, unit_secs, slot_secs, offset, spread, sweeps }
    }

    /// Runs what comes before the step on files of what its sources brought, each read as `recorded` says. A file without a
    /// name is the only source's. The store is made under `folder`, and thrown away.
    pub fn replay(
        mut self,
        histories: &[(Option<String>, PathBuf)],
        recorded: Recorded<'_>,
        folder: &Path,
        trainer: Trainer,
    ) -> Result<Replayed, String> {
        let names: Vec<String> = self.plan.sources.iter().map(|source| format!("`{}`", source.name)).collect();
        let names = names.join(", ");
        for (name, _) in histories {
            let is_known = match name {
                Some(name) => self.plan.sources.iter().any(|source| source.name == *name),
                None => self.plan.sources.len() == 1 && histories.len() == 1,
            };
            if !is_known {
                let given = name.as_ref().map_or("a history without a name".to_owned(), |name| format!("`{name}`"));
                return Err(format!(
                    "--history: {given} is no source of `{}`, which has {names}: NAME=FILE",
                    self.name
                ));
            }
        }
        for source in &mut self.plan.sources {
            let history = histories.iter().find(|(name, _)| name.as_ref().is_none_or(|name| *name == source.name));
            let Some((_, path)) = history else {
                return Err(format!(
                    "--history: none is given of `{}`; `{}` has the sources {names}",
                    source.name, self.name
                ));
            };
            source.connector = recorded(source, path)?;
            source.idle_after_ms = None;
        }
        let taken = Arc::new(Mutex::new(Some((trainer, BTreeMap::new()))));
        let step = self.plan.steps.iter_mut().find(|step| step.name == self.name).expect("it was found");
        let (td, elapsed, to) = (self.td, self.elapsed, taken.clone());
        let new = move || Box::new(Taker { td: td.clone(), elapsed, taken: to.clone() }) as Box<dyn HistoryOperator>;
        step.plan.kind = StepKind::History(Arc::new(new));
        self.plan.settings = Settings { epoch_interval_ms: 60_000, ..Settings::default() };
        // One worker: transitions come in the order of history, partitions together.
        let ended = testing::to_end(self.plan, 1, folder)?;
        let faults = ended.store().relation(FAULTS).map_or(0, |faults| ended.store().digest(faults).rows);
        drop(ended);
        let (trainer, refused) = taken.lock().expect("nobody panicked").take().expect("it is taken once");
        Ok(Replayed { trainer, refused, faults })
    }
}

/// Leaves of a plan what a step is made of.
fn prune(plan: &mut Plan, name: &str) {
    let mut wanted: BTreeSet<String> = BTreeSet::new();
    // Steps stand after what they read.
    for step in plan.steps.iter().rev() {
        if step.name == name || step.relations().any(|(relation, _)| wanted.contains(&relation)) {
            wanted.insert(step.name.clone());
            wanted.extend(step.plan.inputs.iter().map(|input| input.relation.clone()));
        }
    }
    plan.steps.retain(|step| wanted.contains(&step.name));
    plan.sources.retain(|source| wanted.contains(&source.name));
    plan.sinks.clear();
    plan.tests.clear();
}

/// The trainer, and what it refused.
type Taken = (Trainer, BTreeMap<&'static str, u64>);

/// In the place of the step: hands its transitions to a trainer.
struct Taker {
    td: Arc<TdValue>,
    elapsed: Option<usize>,
    taken: Arc<Mutex<Option<Taken>>>,
}

impl HistoryOperator for Taker {
    fn restore(&mut self, _: &[u8], _: &[u8]) {}

    fn apply(&mut self, _input: usize, events: &RecordBatch, _: &mut Context) {
        let rows = Rows::new(&self.td, self.elapsed, events);
        let mut taken = self.taken.lock().expect("nobody panicked");
        let Some((trainer, refused)) = &mut *taken else { return };
        for row in 0..events.num_rows() {
            let record = rows.record(&self.td, events, row);
            if let Err(reason) = record.and_then(|record| trainer.record(&record)) {
                *refused.entry(reason).or_default() += 1;
            }
        }
    }
}

/// The columns of a batch of transitions.
struct Rows {
    times: TimestampMicrosecondArray,
    reward: Float64Array,
    counted: Option<Float64Array>,
    elapsed: Option<Float64Array>,
    places: Option<[[Float64Array; 2]; 2]>,
}

impl Rows {
    fn new(td: &TdValue, elapsed: Option<usize>, events: &RecordBatch) -> Rows {
        let column = |c: usize| floats(events.column(c));
        let pair = |columns: [usize; 2]| columns.map(column);
        Rows {
            times: events.column(td.at).as_primitive::<TimestampMicrosecondType>().clone(),
            reward: column(td.transition.reward),
            counted: td.transition.duration.map(column),
            elapsed: elapsed.map(column),
            places: td.places.map(|places| [pair(places.place), pair(places.next_place)]),
        }
    }

    fn record(&self, td: &TdValue, events: &RecordBatch, row: usize) -> Result<Record, &'static str> {
        let number = |column: &Float64Array| if column.is_valid(row) { column.value(row) } else { f64::NAN };
        let key = |columns: &[usize]| columns.iter().map(|c| Value::at(events.column(*c), row)).collect::<Vec<Value>>();
        let (from, to, ending) = (key(&td.transition.state), key(&td.transition.next_state), key(td.ending()));
        if from.contains(&Value::Null) {
            return Err("null_state");
        }
        let nulls = ending.iter().filter(|value| **value == Value::Null).count();
        if nulls > 0 && nulls < ending.len() {
            return Err("null_next_state");
        }
        let name = |key: &[Value]| cell_name(key, td.places.is_some());
        let place = |at: usize| match &self.places {
            Some(places) => (number(&places[at][0]), number(&places[at][1])),
            None => (0.0, 0.0),
        };
        let counted_secs = self.counted.as_ref().map_or(td.rates.duration_unit_secs, number);
        Ok(Record {
            at: self.times.value(row),
            from: name(&from),
            to: (nulls == 0).then(|| name(&to)),
            places: [place(0), place(1)],
            reward: number(&self.reward),
            secs: self.elapsed.as_ref().map_or(counted_secs, number),
            counted_secs,
        })
    }
}
