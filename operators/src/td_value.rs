//! `td_value`: what a state is worth, learned from transitions one after the other (tabular TD(0)).

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Float64Array, Int64Array, RecordBatch, TimestampMicrosecondArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type, SchemaRef, TimestampMicrosecondType};
use arrow::row::{RowConverter, SortField};
use engine::catalogue::{Model, OperatorDef, OptionDef, Relations, Row};
use engine::metrics::TD_ERROR;
use engine::operator::{Context, HistoryOperator, StepKind};
use engine::pipeline::Section;
use engine::plan::{Route, StepInput, StepOutput, StepPlan};
use types::{Column, Delta, Epoch, Schema, Type, Value};

use crate::groups::Groups;
use crate::refusal::Refusal;

/// The catalogue's entry.
pub(crate) const DEF: OperatorDef = OperatorDef {
    name: "td_value",
    summary: "Learns the value of states from a stream of transitions, by tabular TD(0).",
    doc: "\
A function of history: each transition from `state` to `next_state` with `reward`, in the order of event time, moves
the value of its state by

    V(s) ← V(s) + α · (r + γ^(Δt / unit) · V(s′) − V(s))

where Δt is `duration` in seconds (without it the exponent is 1). A null `next_state` ends the episode: its value is 0.
A state never left before has the value `initial`. With Δt this is the update of a semi-Markov process, as in
R. Sutton and A. Barto, *Reinforcement Learning*, 2nd ed., section 6.1; Bradtke and Duff 1994.

The output has a row for each state that was left: the `partition` columns, the state, its `value`, how many transitions
moved it (`visits`) and the event time of the last (`updated_at`). The key is the partition and the state. Partitions
learn apart from each other.

Transitions of equal event time follow each other in the order of the source.

**Faults**, which leave V as it was: `null_state`, `bad_reward` (null, NaN or infinite), `bad_duration` (null, NaN,
infinite or negative), `not_finite` (the new value would be none).",
    options: &[
        OptionDef { name: "input", shape: "relation", default: None, doc: "A stream with an event time." },
        OptionDef { name: "state", shape: "column name", default: None, doc: "The state that is left; of any type." },
        OptionDef {
            name: "next_state",
            shape: "column name",
            default: None,
            doc: "The state that is reached, of the same type; null ends the episode.",
        },
        OptionDef {
            name: "reward",
            shape: "column name",
            default: None,
            doc: "What was earned on the way: float64 or int64.",
        },
        OptionDef {
            name: "duration",
            shape: "column name",
            default: Some("every transition takes one unit"),
            doc: "How long it took, in seconds: float64 or int64.",
        },
        OptionDef {
            name: "duration_unit_secs",
            shape: "float64",
            default: Some("1.0"),
            doc: "The time over which `gamma` discounts once, in seconds; more than 0.",
        },
        OptionDef { name: "alpha", shape: "float64", default: None, doc: "The step size α, above 0 and at most 1." },
        OptionDef { name: "gamma", shape: "float64", default: None, doc: "The discount γ, from 0 to 1." },
        OptionDef {
            name: "initial",
            shape: "float64",
            default: Some("0.0"),
            doc: "The value of a state before it is left for the first time.",
        },
        OptionDef {
            name: "partition",
            shape: "list of column names",
            default: Some("one table"),
            doc: "Each combination of these learns for itself; they also spread the work over the workers.",
        },
    ],
    example: "\
name = \"zones\"

[sources.trips]
type = \"file\"
path = \"trips.csv\"
format = \"csv\"
columns = { at = \"timestamp\", zone = \"int64\", to_zone = \"int64\", fare = \"float64\", secs = \"float64\" }
event_time = \"at\"

[steps.zone_value]
operator = \"td_value\"
input = \"trips\"
state = \"zone\"
next_state = \"to_zone\"
reward = \"fare\"
duration = \"secs\"
duration_unit_secs = 60.0
alpha = 0.05
gamma = 0.99
",
    plan,
};

fn plan(section: &mut Section<'_>, relations: &Relations<'_>) -> Option<StepPlan> {
    let (relation, schema) = relations.input(section, "input")?;
    let state = section.column("state", schema);
    let next_state = section.column("next_state", schema);
    let reward = section.column("reward", schema);
    let duration = if section.has("duration") { section.column("duration", schema).map(Some) } else { Some(None) };
    let partition = if section.has("partition") { section.columns("partition", schema) } else { Some(Vec::new()) };
    let mut number = |key: &'static str, default: Option<f64>| {
        if section.has(key) {
            return section.float(key);
        }
        if default.is_none() {
            section.problem(key, format!("`{key}` is missing: expected a number"));
        }
        default
    };
    let alpha = number("alpha", None);
    let gamma = number("gamma", None);
    let initial = number("initial", Some(0.0));
    let duration_unit_secs = number("duration_unit_secs", Some(1.0));
    let td = TdValue::new(
        &relation,
        schema,
        Transition {
            state: state?,
            next_state: next_state?,
            reward: reward?,
            duration: duration?,
            partition: partition?,
        },
        Rates { alpha: alpha?, gamma: gamma?, initial: initial?, duration_unit_secs: duration_unit_secs? },
    );
    match td {
        Ok(td) => Some(td.plan()),
        Err((key, message)) => {
            section.problem(key, message);
            None
        }
    }
}

/// Which columns describe a transition.
#[derive(Clone, Debug)]
pub struct Transition {
    /// The state that is left.
    pub state: usize,
    /// The state that is reached.
    pub next_state: usize,
    /// What was earned.
    pub reward: usize,
    /// How long it took, in seconds.
    pub duration: Option<usize>,
    /// What learns for itself.
    pub partition: Vec<usize>,
}

/// How it is learned.
#[derive(Clone, Copy, Debug)]
pub struct Rates {
    /// The step size.
    pub alpha: f64,
    /// The discount of one unit of time.
    pub gamma: f64,
    /// The value of an unknown state.
    pub initial: f64,
    /// The unit of time.
    pub duration_unit_secs: f64,
}

impl Rates {
    /// γ^(Δt / unit). The power is libm's own, the same on every machine.
    fn discount(&self, duration_secs: f64) -> f64 {
        libm::pow(self.gamma, duration_secs / self.duration_unit_secs)
    }
}

/// A value function that has been checked.
#[derive(Clone, Debug)]
pub struct TdValue {
    relation: String,
    input: Schema,
    at: usize,
    transition: Transition,
    rates: Rates,
    schema: Schema,
}

impl TdValue {
    /// A value function of a stream. The error names the option and says what is wrong with it.
    pub fn new(
        relation: &str,
        input: &Schema,
        transition: Transition,
        rates: Rates,
    ) -> Result<TdValue, (&'static str, String)> {
        let column = |i: usize| &input.columns[i];
        let Some(at) = input.event_time.filter(|_| input.append_only) else {
            return Err(("input", format!("`{relation}` is no stream with an event time, and history needs one")));
        };
        let (state, next) = (column(transition.state), column(transition.next_state));
        if state.ty != next.ty {
            return Err((
                "next_state",
                format!(
                    "`{}` has the type {} and `{}` the type {}: they must be the same",
                    next.name, next.ty, state.name, state.ty
                ),
            ));
        }
        let numbers = [("reward", Some(transition.reward)), ("duration", transition.duration)];
        for (key, i) in numbers.into_iter().filter_map(|(key, i)| Some((key, i?))) {
            if !matches!(column(i).ty, Type::Float64 | Type::Int64) {
                return Err((
                    key,
                    format!("`{}` has the type {}, and must have float64 or int64", column(i).name, column(i).ty),
                ));
            }
        }
        let range = |key, value: f64, good: bool, expected: &str| {
            if good { Ok(()) } else { Err((key, format!("`{key}` is {value}, and must be {expected}"))) }
        };
        range("alpha", rates.alpha, rates.alpha > 0.0 && rates.alpha <= 1.0, "above 0 and at most 1")?;
        range("gamma", rates.gamma, (0.0..=1.0).contains(&rates.gamma), "from 0 to 1")?;
        range("initial", rates.initial, rates.initial.is_finite(), "finite")?;
        let unit = rates.duration_unit_secs;
        range("duration_unit_secs", unit, unit > 0.0 && unit.is_finite(), "above 0 and finite")?;

        let mut key_columns = transition.partition.clone();
        if key_columns.contains(&transition.state) {
            return Err(("partition", format!("`{}` is the state itself", state.name)));
        }
        key_columns.push(transition.state);
        let mut columns: Vec<Column> = key_columns.iter().map(|i| column(*i).clone()).collect();
        for (name, ty) in [("value", Type::Float64), ("visits", Type::Int64), ("updated_at", Type::Timestamp)] {
            if columns.iter().any(|c| c.name == name) {
                return Err((
                    "state",
                    format!(
                        "the output has a column `{name}` of its own: rename that of `{relation}` in a `select` step"
                    ),
                ));
            }
            columns.push(Column { name: name.to_owned(), ty, nullable: false });
        }
        let key = (0..key_columns.len()).collect();
        let schema = Schema { columns, key, event_time: None, append_only: false };
        Ok(TdValue { relation: relation.to_owned(), input: input.clone(), at, transition, rates, schema })
    }

    /// The step's plan.
    pub fn plan(self) -> StepPlan {
        let td = Arc::new(self);
        let made = td.clone();
        let partition = td.transition.partition.clone();
        let route = if partition.is_empty() { Route::One } else { Route::Columns(partition) };
        StepPlan {
            inputs: vec![StepInput { relation: td.relation.clone(), route }],
            outputs: vec![StepOutput { suffix: None, schema: td.schema.clone() }],
            kind: StepKind::History(Arc::new(move || Box::new(Learner::new(made.clone())) as Box<dyn HistoryOperator>)),
            persistent: true,
            detail: td.detail(),
            model: td.model(),
        }
    }

    fn detail(&self) -> String {
        let name = |i: &usize| self.input.columns[*i].name.as_str();
        let t = &self.transition;
        let duration = t.duration.as_ref().map_or(String::new(), |d| format!(" in {}", name(d)));
        let partition: Vec<&str> = t.partition.iter().map(name).collect();
        let partition = if partition.is_empty() { String::new() } else { format!(" by {}", partition.join(", ")) };
        let Rates { alpha, gamma, initial, duration_unit_secs } = self.rates;
        format!(
            "{} → {} earning {}{duration} of {}{partition}; alpha {alpha}, gamma {gamma} a {duration_unit_secs} s, initial {initial}",
            name(&t.state),
            name(&t.next_state),
            name(&t.reward),
            self.relation,
        )
    }

    fn model(&self) -> Model {
        let td = self.clone();
        Arc::new(move |inputs: &[Vec<Row>]| {
            let t = &td.transition;
            let number = |v: &Value| match v {
                Value::Float(f) => Some(*f).filter(|f| f.is_finite()),
                Value::Int(i) => Some(*i as f64),
                _ => None,
            };
            let mut table: BTreeMap<(Row, Value), (f64, i64, Value)> = BTreeMap::new();
            for event in &inputs[0] {
                let partition: Row = t.partition.iter().map(|i| event[*i].clone()).collect();
                let (state, next) = (event[t.state].clone(), event[t.next_state].clone());
                let Some(reward) = number(&event[t.reward]).filter(|_| state != Value::Null) else { continue };
                let secs = match t.duration {
                    None => td.rates.duration_unit_secs,
                    Some(d) => match number(&event[d]) {
                        Some(secs) if secs >= 0.0 => secs,
                        _ => continue,
                    },
                };
                let value_of = |state: Value| table.get(&(partition.clone(), state)).map_or(td.rates.initial, |e| e.0);
                let value_next = if next == Value::Null { 0.0 } else { value_of(next) };
                let value = value_of(state.clone());
                let moved = value + td.rates.alpha * (reward + td.rates.discount(secs) * value_next - value);
                if moved.is_finite() {
                    let visits = table.get(&(partition.clone(), state.clone())).map_or(0, |e| e.1);
                    table.insert((partition, state), (moved + 0.0, visits + 1, event[td.at].clone()));
                }
            }
            let row = |((partition, state), (value, visits, at)): ((Row, Value), (f64, i64, Value))| {
                partition.into_iter().chain([state, Value::Float(value), Value::Int(visits), at]).collect()
            };
            vec![table.into_iter().map(row).collect()]
        })
    }
}

/// The value function at work.
struct Learner {
    td: Arc<TdValue>,
    refusal: Refusal,
    schema: SchemaRef,
    /// The columns before the state, whose bytes say which shard owns an entry.
    partition: Option<RowConverter>,
    /// States by partition and state; also those only reached so far, which have no visits.
    states: Groups,
    values: Vec<f64>,
    visits: Vec<i64>,
    updated_at: Vec<i64>,
    /// For each state the number of its place among the touched of this call, or none.
    touched_at: Vec<u32>,
    touched: Vec<u32>,
    /// What the touched states were before: value, visits, time.
    before: Vec<(f64, i64, i64)>,
    errors: Errors,
}

/// The mean absolute TD error of an epoch.
#[derive(Default)]
struct Errors {
    epoch: Epoch,
    sum: f64,
    count: u64,
}

const UNTOUCHED: u32 = u32::MAX;

impl Learner {
    fn new(td: Arc<TdValue>) -> Learner {
        let column_type = |i: &usize| td.input.columns[*i].ty;
        let mut key: Vec<Type> = td.transition.partition.iter().map(column_type).collect();
        let fields: Vec<SortField> = key.iter().map(|ty| SortField::new(ty.arrow())).collect();
        key.push(column_type(&td.transition.state));
        Learner {
            refusal: Refusal::new(&td.relation, &td.input),
            schema: td.schema.arrow(),
            partition: (!fields.is_empty()).then(|| RowConverter::new(fields).expect("every type is supported")),
            states: Groups::new(&key),
            values: Vec::new(),
            visits: Vec::new(),
            updated_at: Vec::new(),
            touched_at: Vec::new(),
            touched: Vec::new(),
            before: Vec::new(),
            errors: Errors::default(),
            td,
        }
    }

    fn numbers(&mut self, events: &RecordBatch, state: usize) -> Vec<u32> {
        let columns: Vec<ArrayRef> =
            self.td.transition.partition.iter().chain([&state]).map(|i| events.column(*i).clone()).collect();
        let mut numbers = Vec::with_capacity(events.num_rows());
        self.states.number(&columns, &mut numbers);
        self.grow();
        numbers
    }

    fn grow(&mut self) {
        let len = self.states.len();
        self.values.resize(len, self.td.rates.initial);
        self.visits.resize(len, 0);
        self.updated_at.resize(len, 0);
        self.touched_at.resize(len, UNTOUCHED);
    }

    /// Emits and stores what the events since the last call changed.
    fn finish(&mut self, context: &mut Context) {
        let old: Vec<usize> = (0..self.touched.len()).filter(|i| self.before[*i].1 > 0).collect();
        let old_states: Vec<u32> = old.iter().map(|i| self.touched[*i]).collect();
        let old_cells = old.iter().map(|i| self.before[*i]);
        context.emit(0, Delta::delete(self.batch(&old_states, old_cells.collect())));
        let now =
            self.touched.iter().map(|s| *s as usize).map(|s| (self.values[s], self.visits[s], self.updated_at[s]));
        let now: Vec<(f64, i64, i64)> = now.collect();
        let rows = self.batch(&self.touched, now.clone());
        let partitions = self.partition.as_ref().map(|converter| {
            let columns = &rows.columns()[..self.td.transition.partition.len()];
            converter.convert_columns(columns).expect("columns of the planned types")
        });
        context.emit(0, Delta::insert(rows));
        let mut key = Vec::new();
        for (i, (value, visits, at)) in now.into_iter().enumerate() {
            key.clear();
            self.states.key(self.touched[i], &mut key);
            let partition = partitions.as_ref().map_or(&[][..], |p| p.row(i).data());
            let mut entry = [0; 24];
            entry[..8].copy_from_slice(&value.to_bits().to_le_bytes());
            entry[8..16].copy_from_slice(&visits.to_le_bytes());
            entry[16..].copy_from_slice(&at.to_le_bytes());
            context.put_state(partition, &key[partition.len()..], Some(&entry));
        }
        for state in self.touched.drain(..) {
            self.touched_at[state as usize] = UNTOUCHED;
        }
        self.before.clear();
    }

    fn batch(&self, states: &[u32], cells: Vec<(f64, i64, i64)>) -> RecordBatch {
        if states.is_empty() {
            return RecordBatch::new_empty(self.schema.clone());
        }
        let mut columns = self.states.columns(states);
        columns.push(Arc::new(Float64Array::from_iter_values(cells.iter().map(|c| c.0))));
        columns.push(Arc::new(Int64Array::from_iter_values(cells.iter().map(|c| c.1))));
        let times = TimestampMicrosecondArray::from_iter_values(cells.iter().map(|c| c.2));
        columns.push(Arc::new(times.with_timezone("UTC")));
        RecordBatch::try_new(self.schema.clone(), columns).expect("the planned columns")
    }
}

impl HistoryOperator for Learner {
    fn restore(&mut self, key: &[u8], value: &[u8]) {
        let state = self.states.number_of_key(key) as usize;
        self.grow();
        let part = |from: usize| value[from..from + 8].try_into().expect("eight bytes");
        self.values[state] = f64::from_bits(u64::from_le_bytes(part(0)));
        self.visits[state] = i64::from_le_bytes(part(8));
        self.updated_at[state] = i64::from_le_bytes(part(16));
    }

    fn apply(&mut self, _input: usize, events: &RecordBatch, context: &mut Context) {
        let Transition { state, next_state, reward, duration, .. } = self.td.transition;
        let rates = self.td.rates;
        let from = self.numbers(events, state);
        let to = self.numbers(events, next_state);
        let (from_nulls, to_nulls) = (events.column(state).logical_nulls(), events.column(next_state).logical_nulls());
        let is_null =
            |nulls: &Option<arrow::buffer::NullBuffer>, row: usize| nulls.as_ref().is_some_and(|n| n.is_null(row));
        let rewards = floats(events.column(reward));
        let durations = duration.map(|d| floats(events.column(d)));
        let times = events.column(self.td.at).as_primitive::<TimestampMicrosecondType>();
        if self.errors.epoch != context.epoch {
            self.errors = Errors { epoch: context.epoch, ..Errors::default() };
        }
        let one = rates.discount(rates.duration_unit_secs);
        let (mut last_secs, mut last_discount) = (rates.duration_unit_secs, one);
        for row in 0..events.num_rows() {
            let mut refuse =
                |reason: &str, detail: String| self.refusal.refuse(context, events, row, 1, reason, detail);
            if is_null(&from_nulls, row) {
                refuse("null_state", "the state is null".to_owned());
                continue;
            }
            let reward = rewards.value(row);
            if rewards.is_null(row) || !reward.is_finite() {
                refuse("bad_reward", "the reward is null, NaN or infinite".to_owned());
                continue;
            }
            if let Some(durations) = &durations {
                let secs = durations.value(row);
                if durations.is_null(row) || !secs.is_finite() || secs < 0.0 {
                    refuse("bad_duration", "the duration is null, NaN, infinite or negative".to_owned());
                    continue;
                }
                if secs != last_secs {
                    (last_secs, last_discount) = (secs, rates.discount(secs));
                }
            }
            let s = from[row] as usize;
            let value = self.values[s];
            let value_next = if is_null(&to_nulls, row) { 0.0 } else { self.values[to[row] as usize] };
            let error = reward + last_discount * value_next - value;
            let moved = value + rates.alpha * error;
            if !moved.is_finite() {
                refuse("not_finite", format!("the value {value} would become {moved}"));
                continue;
            }
            if self.touched_at[s] == UNTOUCHED {
                self.touched_at[s] = self.touched.len() as u32;
                self.touched.push(s as u32);
                self.before.push((value, self.visits[s], self.updated_at[s]));
            }
            self.values[s] = moved + 0.0;
            self.visits[s] += 1;
            self.updated_at[s] = times.value(row);
            self.errors.sum += error.abs();
            self.errors.count += 1;
        }
        if self.errors.count > 0 {
            context.gauge(TD_ERROR, self.errors.sum / self.errors.count as f64);
        }
        self.finish(context);
    }
}

/// A column of numbers as floats.
fn floats(column: &ArrayRef) -> Float64Array {
    let column = cast(column, &DataType::Float64).expect("int64 and float64 are floats");
    column.as_primitive::<Float64Type>().clone()
}
