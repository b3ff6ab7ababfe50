//! Holds a step to its model: random scripts of changes, compared at every epoch, on several workers, in other
//! epochs, and across restarts.
//!
//! [`check`] is the door. A [`Case`] is a planned step and the shapes of its inputs; everything else is drawn from a
//! seed, which a failure prints.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use arrow::array::{ArrayRef, RecordBatch};
use arrow::row::{RowConverter, SortField};
use engine::catalogue::Row;
use engine::operator::{Context, HistoryOperator, StepKind, TableOperator};
use engine::plan::{Route, StepPlan};
use timely::dataflow::operators::{Input, Inspect, Probe};
use types::{Delta, Fault, RowCodec, SEQ, Schema, Type, Value, shard_of};

/// A step to be held to its model.
pub struct Case {
    /// What the failure says.
    pub name: &'static str,
    /// The step.
    pub step: StepPlan,
    /// Its inputs, in its order.
    pub inputs: Vec<InputShape>,
}

/// An input of a case.
#[derive(Clone)]
pub struct InputShape {
    /// The relation's schema: an append-only one is a stream, any other a table.
    pub schema: Schema,
    /// Draws a cell of a column; [`any_cell`] does for most.
    pub cell: fn(&mut Random, &Schema, usize) -> Value,
}

/// A counter-based generator.
pub struct Random(u64);

impl Random {
    /// From a seed.
    pub fn new(seed: u64) -> Random {
        Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x1234_5678_9abc_def0)
    }

    /// Any number.
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    /// A number below `n`.
    pub fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }

    /// One of these.
    pub fn of<T: Clone>(&mut self, items: &[T]) -> T {
        items[self.below(items.len())].clone()
    }

    fn shuffle<T>(&mut self, items: &mut [T]) {
        for i in (1..items.len()).rev() {
            items.swap(i, self.below(i + 1));
        }
    }
}

/// Cells that make trouble: nulls where allowed, extremes, NaN, infinities, and few enough values to collide.
pub fn any_cell(random: &mut Random, schema: &Schema, column: usize) -> Value {
    let shape = &schema.columns[column];
    if shape.nullable && random.below(6) == 0 {
        return Value::Null;
    }
    let common = random.below(4) > 0;
    match shape.ty {
        Type::Bool => Value::Bool(random.below(2) == 0),
        Type::Int64 if common => Value::Int(random.below(7) as i64 - 2),
        Type::Int64 => Value::Int(random.of(&[i64::MIN, i64::MAX, i64::MAX - 1, 1 << 40, -1])),
        Type::Float64 if common => Value::Float(random.of(&[0.0, -0.0, 1.5, -2.25, 0.1, 0.2, 0.3, 1e16, 3.0])),
        Type::Float64 => Value::Float(random.of(&[
            f64::NAN,
            f64::INFINITY,
            f64::NEG_INFINITY,
            f64::MAX,
            f64::MIN,
            f64::MIN_POSITIVE,
            -f64::from_bits(1),
            1e300,
            -1e300,
        ])),
        Type::String => Value::Str(random.of(&["", "a", "ab", "b", "ä", "\0", "zz"]).to_owned()),
        Type::Timestamp => Value::Time(random.of(&[0, 1_000_000, -1, 1_480_000_000_000_000])),
        Type::Decimal if common => Value::Decimal(random.below(9) as i128 - 4),
        Type::Decimal => Value::Decimal(random.of(&[10i128.pow(38) - 1, 1 - 10i128.pow(38), 1 << 100, -(1 << 64)])),
    }
}

/// Changes of each input in one epoch, in no order.
type Epoch = Vec<Vec<(Row, i64)>>;

/// Holds a step to its model over these seeds.
pub fn check(case: &Case, seeds: std::ops::Range<u64>) {
    for seed in seeds {
        let mut random = Random::new(seed);
        let script = script(case, &mut random);
        let merged = merged(&script, &mut random);
        let mut faults = None;
        for workers in [1, 2, 4] {
            for (cut, script) in [("as drawn", &script), ("in fewer epochs", &merged)] {
                let at = format!("{}: seed {seed}, {workers} workers, {cut}", case.name);
                let found = match &case.step.kind {
                    StepKind::Dataflow(_) => dataflow(case, script, workers, &at),
                    _ => instances(case, script, workers, seed, &at),
                };
                let expected = faults.get_or_insert_with(|| found.clone());
                assert_eq!(&found, expected, "{at}: the faults differ from those of the first run");
            }
        }
    }
}

/// What a run knows of its inputs and outputs so far.
struct Sums {
    inputs: Vec<BTreeMap<Row, i64>>,
    /// Streams in order of arrival, for functions of history.
    events: Vec<Vec<Row>>,
    outputs: Vec<BTreeMap<Row, i64>>,
    faults: BTreeMap<Row, i64>,
}

impl Sums {
    fn new(case: &Case) -> Sums {
        Sums {
            inputs: vec![BTreeMap::new(); case.inputs.len()],
            events: vec![Vec::new(); case.inputs.len()],
            outputs: vec![BTreeMap::new(); case.step.outputs.len()],
            faults: BTreeMap::new(),
        }
    }

    fn take(&mut self, case: &Case, epoch: &Epoch) {
        for (i, changes) in epoch.iter().enumerate() {
            changes.iter().for_each(|(row, diff)| add(&mut self.inputs[i], row, *diff));
        }
        if let StepKind::History(_) = case.step.kind {
            for (i, changes) in epoch.iter().enumerate() {
                self.events[i].extend(ordered(case, i, changes));
            }
        }
    }

    fn compare(&self, case: &Case, at: &str) {
        let rows: Vec<Vec<Row>> = match case.step.kind {
            StepKind::History(_) => self.events.clone(),
            _ => self
                .inputs
                .iter()
                .map(|rows| rows.iter().flat_map(|(r, n)| (0..*n).map(|_| r.clone())).collect())
                .collect(),
        };
        for (i, (expected, got)) in (case.step.model)(&rows).into_iter().zip(&self.outputs).enumerate() {
            let mut wanted = BTreeMap::new();
            expected.iter().for_each(|row| add(&mut wanted, row, 1));
            if *got != wanted {
                let missing: Vec<_> = wanted.iter().filter(|(r, n)| got.get(*r) != Some(n)).collect();
                let extra: Vec<_> = got.iter().filter(|(r, n)| wanted.get(*r) != Some(n)).collect();
                panic!(
                    "{at}: output {i} differs from its model\nmissing: {missing:?}\nextra: {extra:?}\ninputs: {rows:?}"
                );
            }
            let schema = &case.step.outputs[i].schema;
            let mut keys: Vec<Row> = got.keys().map(|r| schema.key.iter().map(|k| r[*k].clone()).collect()).collect();
            keys.dedup();
            assert_eq!(keys.len(), got.len(), "{at}: two rows of output {i} have one key");
            for (row, _) in got {
                let null = schema.columns.iter().zip(row).find(|(c, v)| !c.nullable && **v == Value::Null);
                assert!(null.is_none(), "{at}: a null in column {:?} of output {i}", null);
            }
        }
    }
}

/// Runs a function of tables or of history, restarting it in the middle. Gives the faults that stand at the end.
fn instances(case: &Case, script: &[Epoch], workers: usize, seed: u64, at: &str) -> BTreeMap<Row, i64> {
    let mut random = Random::new(seed ^ 77);
    let restart = random.below(script.len());
    let mut workers = workers;
    let mut sums = Sums::new(case);
    let mut state: BTreeMap<Vec<u8>, Vec<u8>> = BTreeMap::new();
    let mut running = start(case, workers);
    for (number, epoch) in script.iter().enumerate() {
        let at = format!("{at}, epoch {number}");
        if number == restart {
            workers = random.of(&[1, 2, 3]);
            running = start(case, workers);
            if case.step.persistent {
                for (key, value) in &state {
                    let shard = u16::from_be_bytes([key[0], key[1]]);
                    running[usize::from(shard) % workers].restore(&key[2..], value);
                }
            } else {
                // Everything comes again, and the output has to come out the same.
                let whole: Epoch =
                    sums.inputs.iter().map(|rows| rows.iter().map(|(r, n)| (r.clone(), *n)).collect()).collect();
                let mut again = Sums::new(case);
                again.inputs.clone_from(&sums.inputs);
                apply(case, &mut running, &whole, number as u64, &mut random, &mut again, &mut BTreeMap::new());
                assert_eq!(again.outputs, sums.outputs, "{at}: another output after a restart");
                assert_eq!(again.faults, sums.faults, "{at}: other faults after a restart");
            }
        }
        sums.take(case, epoch);
        apply(case, &mut running, epoch, number as u64 + 1, &mut random, &mut sums, &mut state);
        sums.compare(case, &at);
    }
    sums.faults
}

enum Running {
    Table(Box<dyn TableOperator>),
    History(Box<dyn HistoryOperator>),
}

impl Running {
    fn restore(&mut self, key: &[u8], value: &[u8]) {
        match self {
            Running::Table(operator) => operator.restore(key, value),
            Running::History(operator) => operator.restore(key, value),
        }
    }
}

fn start(case: &Case, workers: usize) -> Vec<Running> {
    (0..workers)
        .map(|_| match &case.step.kind {
            StepKind::Table(new) => Running::Table(new()),
            StepKind::History(new) => Running::History(new()),
            StepKind::Dataflow(_) => unreachable!("run as a dataflow"),
        })
        .collect()
}

fn apply(
    case: &Case,
    running: &mut [Running],
    epoch: &Epoch,
    number: u64,
    random: &mut Random,
    sums: &mut Sums,
    state: &mut BTreeMap<Vec<u8>, Vec<u8>>,
) {
    let workers = running.len();
    for (worker, operator) in running.iter_mut().enumerate() {
        let mine: Epoch = (0..epoch.len()).map(|i| owned(case, i, &epoch[i], worker, workers)).collect();
        let mut context = Context::new(number, watermark(case, sums), case.step.outputs.len());
        if mine.iter().all(Vec::is_empty) && matches!(operator, Running::Table(_)) {
            continue;
        }
        match operator {
            Running::Table(operator) => {
                let deltas = (0..mine.len()).map(|i| deltas(&case.inputs[i].schema, &mine[i], random)).collect();
                operator.step(deltas, &mut context);
            }
            Running::History(operator) => {
                let mut events: Vec<(i64, usize, Row)> = Vec::new();
                for (i, changes) in mine.iter().enumerate() {
                    let time = case.inputs[i].schema.event_time.expect("history has event times");
                    for row in ordered(case, i, changes) {
                        let Value::Time(t) = row[time] else { panic!("an event without a time") };
                        events.push((t, i, row));
                    }
                }
                events.sort_by_key(|e| (e.0, e.1));
                for run in events.chunk_by(|a, b| a.1 == b.1) {
                    for piece in run.chunks(1 + random.below(5)) {
                        let rows: Vec<Row> = piece.iter().map(|e| e.2.clone()).collect();
                        let batch = RowCodec::new(&case.inputs[piece[0].1].schema).batch(&rows);
                        operator.apply(piece[0].1, &Delta::insert(batch).canonical().rows, &mut context);
                    }
                }
                operator.advance(&mut context);
            }
        }
        let (outputs, writes, faults, _) = context.into_parts();
        for (i, delta) in outputs.iter().enumerate().flat_map(|(i, ds)| ds.iter().map(move |d| (i, d))) {
            assert_eq!(delta.rows.schema(), case.step.outputs[i].schema.arrow(), "a batch of another schema");
            rows(delta).for_each(|(row, diff)| add(&mut sums.outputs[i], &row, diff));
        }
        for (fault, diff) in faults {
            add(&mut sums.faults, &Fault::row(&fault), diff);
        }
        for write in writes.iter() {
            match write.after {
                Some(value) => state.insert(write.key.to_vec(), value.to_vec()),
                None => state.remove(write.key),
            };
        }
    }
}

/// Time has passed all events so far, by far: see [`event`]. What an operator does when it has is done by then.
fn watermark(case: &Case, sums: &Sums) -> i64 {
    let times = sums.events.iter().zip(&case.inputs).flat_map(|(rows, input)| {
        // What is no function of history may have none.
        let column = input.schema.event_time;
        rows.iter().filter_map(move |row| if let Value::Time(t) = row[column?] { Some(t) } else { None })
    });
    times.max().map_or(0, |last| (last.div_euclid(1000) + 1) * 1000)
}

/// Runs a piece of dataflow on timely workers.
fn dataflow(case: &Case, script: &[Epoch], workers: usize, at: &str) -> BTreeMap<Row, i64> {
    let StepKind::Dataflow(build) = &case.step.kind else { unreachable!("a dataflow") };
    let made: Arc<Mutex<BTreeMap<u64, Vec<(Row, i64)>>>> = Arc::default();
    // A worker thread owns what it is given.
    let (build, to) = (build.clone(), made.clone());
    let mut shares: Vec<Vec<Vec<Vec<Delta>>>> = Vec::new();
    for worker in 0..workers {
        let mut random = Random::new(worker as u64);
        let mut share = |epoch: &Epoch| -> Vec<Vec<Delta>> {
            (0..epoch.len())
                .map(|i| deltas(&case.inputs[i].schema, &owned(case, i, &epoch[i], worker, workers), &mut random))
                .collect()
        };
        shares.push(script.iter().map(&mut share).collect());
    }
    let inputs = case.inputs.len();
    let shares = Arc::new(shares);
    timely::execute(timely::Config::process(workers), move |worker| {
        let to = to.clone();
        let (mut handles, probe) = worker.dataflow::<u64, _, _>(|scope| {
            let (handles, streams): (Vec<_>, Vec<_>) = (0..inputs).map(|_| scope.new_input::<Vec<Delta>>()).unzip();
            let (probe, _) = build(scope, streams)
                .inspect_core(move |event| {
                    if let Ok((stamp, deltas)) = event {
                        let epoch = *stamp.least().expect("a message has a time");
                        to.lock().expect("no panic").entry(epoch).or_default().extend(deltas.iter().flat_map(rows));
                    }
                })
                .probe();
            (handles, probe)
        });
        for (number, epoch) in shares[worker.index()].iter().enumerate() {
            for (handle, deltas) in handles.iter_mut().zip(epoch) {
                deltas.iter().for_each(|delta| handle.send(delta.clone()));
                handle.advance_to(number as u64 + 1);
            }
            // Some epochs are computed alone and some together.
            if number % 3 > 0 {
                worker.step_while(|| probe.less_than(&(number as u64 + 1)));
            }
        }
    })
    .expect("timely starts");
    let made = made.lock().expect("no panic");
    let mut sums = Sums::new(case);
    for (number, epoch) in script.iter().enumerate() {
        sums.take(case, epoch);
        for (row, diff) in made.get(&(number as u64)).into_iter().flatten() {
            add(&mut sums.outputs[0], row, *diff);
        }
        sums.compare(case, &format!("{at}, epoch {number}"));
    }
    assert!(made.keys().all(|e| *e < script.len() as u64));
    sums.faults
}

/// A random script: tables with inserts, updates, deletes, rows that come and go at once; streams that grow.
fn script(case: &Case, random: &mut Random) -> Vec<Epoch> {
    let mut tables: Vec<BTreeMap<Row, Row>> = vec![BTreeMap::new(); case.inputs.len()];
    let mut seqs = vec![0; case.inputs.len()];
    let epochs = 2 + random.below(7);
    let busy = random.of(&[3, 10, 40]);
    (0..epochs)
        .map(|number| {
            let mut epoch = Vec::new();
            for (i, input) in case.inputs.iter().enumerate() {
                let mut changes = Vec::new();
                for _ in 0..random.below(busy) {
                    if input.schema.append_only {
                        changes.push((event(input, random, number, &mut seqs[i]), 1));
                    } else {
                        change(input, random, &mut tables[i], &mut changes);
                    }
                }
                random.shuffle(&mut changes);
                epoch.push(changes);
            }
            epoch
        })
        .collect()
}

fn event(input: &InputShape, random: &mut Random, epoch: usize, seq: &mut i64) -> Row {
    let mut row: Row =
        (0..input.schema.columns.len()).map(|c| canonical((input.cell)(random, &input.schema, c))).collect();
    if let Some(time) = input.schema.event_time {
        // Within an epoch in any order; one epoch after the other, as behind a watermark.
        row[time] = Value::Time(epoch as i64 * 1000 + random.below(20) as i64);
    }
    if let Some(column) = input.schema.index_of(SEQ) {
        row[column] = Value::Int(*seq);
        *seq += 1;
    }
    row
}

fn change(input: &InputShape, random: &mut Random, table: &mut BTreeMap<Row, Row>, out: &mut Vec<(Row, i64)>) {
    let draw = |random: &mut Random| -> Row {
        (0..input.schema.columns.len()).map(|c| canonical((input.cell)(random, &input.schema, c))).collect()
    };
    let key_of = |row: &Row| -> Row { input.schema.key.iter().map(|k| row[*k].clone()).collect() };
    let row = draw(random);
    let key = key_of(&row);
    let old = table.get(&key).cloned();
    match (old, random.below(10)) {
        (Some(old), 0..4) => {
            out.push((old, -1));
            table.remove(&key);
        }
        (Some(old), _) => {
            out.push((old, -1));
            out.push((row.clone(), 1));
            table.insert(key, row);
        }
        (None, 0) => out.extend([(row.clone(), 1), (row, -1)]),
        (None, _) => {
            out.push((row.clone(), 1));
            table.insert(key, row);
        }
    }
}

fn canonical(value: Value) -> Value {
    match value {
        Value::Float(f) if f.is_nan() => Value::Float(f64::NAN),
        Value::Float(f) => Value::Float(f + 0.0),
        other => other,
    }
}

/// The same changes in fewer epochs.
fn merged(script: &[Epoch], random: &mut Random) -> Vec<Epoch> {
    let mut out: Vec<Epoch> = Vec::new();
    for epoch in script {
        match out.last_mut() {
            Some(last) if random.below(2) == 0 => {
                last.iter_mut().zip(epoch).for_each(|(l, e)| l.extend(e.iter().cloned()));
                last.iter_mut().for_each(|l| random.shuffle(l));
            }
            _ => out.push(epoch.clone()),
        }
    }
    out
}

/// Events of one epoch in the order of history.
fn ordered(case: &Case, input: usize, changes: &[(Row, i64)]) -> Vec<Row> {
    let schema = &case.inputs[input].schema;
    let mut rows: Vec<Row> = changes.iter().map(|(row, _)| row.clone()).collect();
    rows.sort_by_key(|row| {
        let time = schema.event_time.map(|t| row[t].clone());
        (time, schema.key.iter().map(|k| row[*k].clone()).collect::<Row>())
    });
    rows
}

/// The changes of the shards a worker owns.
fn owned(case: &Case, input: usize, changes: &[(Row, i64)], worker: usize, workers: usize) -> Vec<(Row, i64)> {
    let schema = &case.inputs[input].schema;
    let columns = match &case.step.inputs[input].route {
        Route::Columns(columns) => columns.clone(),
        Route::One => Vec::new(),
        // A row is where its key is.
        Route::Stay => schema.key.clone(),
    };
    let fields: Vec<SortField> = columns.iter().map(|c| SortField::new(schema.columns[*c].ty.arrow())).collect();
    let shard = |row: &Row| {
        if columns.is_empty() {
            return shard_of(&[]);
        }
        let arrays: Vec<ArrayRef> = columns.iter().map(|c| Value::array(schema.columns[*c].ty, [&row[*c]])).collect();
        let rows = RowConverter::new(fields.clone()).and_then(|c| c.convert_columns(&arrays)).expect("supported types");
        shard_of(rows.row(0).data())
    };
    changes.iter().filter(|(row, _)| usize::from(shard(row)) % workers == worker).cloned().collect()
}

/// Changes as batches of random sizes.
fn deltas(schema: &Schema, changes: &[(Row, i64)], random: &mut Random) -> Vec<Delta> {
    let codec = RowCodec::new(schema);
    changes
        .chunks(1 + random.below(12))
        .map(|piece| {
            let rows: Vec<Row> = piece.iter().map(|(row, _)| row.clone()).collect();
            Delta::new(codec.batch(&rows), piece.iter().map(|(_, diff)| *diff).collect())
        })
        .collect()
}

fn rows(delta: &Delta) -> impl Iterator<Item = (Row, i64)> + '_ {
    let batch: &RecordBatch = &delta.rows;
    (0..delta.len()).map(move |i| (batch.columns().iter().map(|c| Value::at(c, i)).collect(), delta.diff(i)))
}

fn add(sum: &mut BTreeMap<Row, i64>, row: &Row, diff: i64) {
    let count = sum.entry(row.clone()).or_insert(0);
    *count += diff;
    if *count == 0 {
        sum.remove(row);
    }
}
