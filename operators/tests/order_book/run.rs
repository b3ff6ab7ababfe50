//! Runs a planned step over a history, and reads recorded markets.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, AsArray, Float64Builder, Int64Array, Int64Builder, RecordBatch, StringBuilder, TimestampMicrosecondArray,
};
use arrow::datatypes::{Float64Type, Int64Type, TimestampMicrosecondType};
use engine::catalogue::Row;
use engine::operator::{Context, HistoryOperator, StepKind};
use engine::plan::StepPlan;
use types::{Column, Fault, RowCodec, SEQ, Schema, Type, Value};

/// The text of a pipeline with a step over a stream of these columns, whose event time is `at`.
pub fn pipeline(columns: &[(&str, Type)], options: &str) -> String {
    let listed: Vec<String> = columns.iter().map(|(name, ty)| format!("{name} = \"{ty}\"")).collect();
    format!(
        "name = \"p\"\n[sources.a]\ntype = \"file\"\npath = \"x.csv\"\nformat = \"csv\"\nevent_time = \"at\"\n\
         columns = {{ {} }}\n[steps.it]\noperator = \"order_book\"\ninput = \"a\"\n{options}",
        listed.join(", ")
    )
}

/// The plan of that step.
pub fn planned(columns: &[(&str, Type)], options: &str) -> StepPlan {
    let text = pipeline(columns, options);
    engine::pipeline::load(Path::new("p.toml"), &text, &|_| None, &catalogue::all())
        .unwrap_or_else(|problems| panic!("{problems}\n{text}"))
        .steps
        .remove(0)
        .plan
}

/// The schema of that stream.
pub fn schema(columns: &[(&str, Type)]) -> Schema {
    let column = |(name, ty): &(&str, Type)| Column { name: (*name).to_owned(), ty: *ty, nullable: true };
    let columns: Vec<Column> = columns.iter().chain(&[(SEQ, Type::Int64)]).map(column).collect();
    Schema { key: vec![columns.len() - 1], event_time: Some(0), append_only: true, columns }
}

/// What a run told.
#[derive(Default)]
pub struct Told {
    pub views: Vec<BTreeMap<Row, i64>>,
    pub ticks: Vec<RecordBatch>,
    pub faults: Vec<Fault>,
    pub state: BTreeMap<Vec<u8>, Vec<u8>>,
}

/// Runs a step over a history in epochs of about so many rows, cut where time moves on; made anew from its state after
/// some of them.
pub fn run(plan: &StepPlan, events: &RecordBatch, epoch_rows: usize, restart: impl Fn(usize) -> bool) -> Told {
    let StepKind::History(new) = &plan.kind else { panic!("a function of history") };
    let mut operator: Box<dyn HistoryOperator> = new();
    let mut told = Told { views: vec![BTreeMap::new(); 3], ..Told::default() };
    let at = times(events);
    let (mut from, mut epoch) = (0, 0);
    while from < at.len() {
        let mut to = (from + epoch_rows).min(at.len());
        while to < at.len() && at[to] == at[to - 1] {
            to += 1;
        }
        epoch += 1;
        let mut context = Context::new(epoch as u64, at[to - 1] + 1, plan.outputs.len());
        // Not all at once, and not in pieces of one size.
        let (mut piece, mut size) = (from, 1);
        while piece < to {
            let rows = size.min(to - piece);
            operator.apply(0, &events.slice(piece, rows), &mut context);
            piece += rows;
            size = (size * 3) % 8191 + 1;
        }
        operator.advance(&mut context);
        from = to;
        told.take(context);
        if restart(epoch) {
            operator = new();
            told.state.iter().for_each(|(key, value)| operator.restore(&key[2..], value));
        }
    }
    let seqs: BTreeSet<u64> = told.faults.iter().map(|f| f.seq).collect();
    assert_eq!(seqs.len(), told.faults.len(), "a record has two faults");
    told
}

pub fn times(events: &RecordBatch) -> Vec<i64> {
    events.column(0).as_primitive::<TimestampMicrosecondType>().values().to_vec()
}

/// The rows of a batch as cells.
pub fn cells(batch: &RecordBatch) -> impl Iterator<Item = Row> + '_ {
    (0..batch.num_rows()).map(|row| batch.columns().iter().map(|c| Value::at(c, row)).collect())
}

impl Told {
    fn take(&mut self, context: Context) {
        let (outputs, writes, faults, _) = context.into_parts();
        for (i, delta) in outputs.iter().enumerate().flat_map(|(i, ds)| ds.iter().map(move |d| (i, d))) {
            if i == 3 {
                self.ticks.push(delta.rows.clone());
                continue;
            }
            for (row, cells) in cells(&delta.rows).enumerate() {
                let count = self.views[i].entry(cells.clone()).or_insert(0);
                *count += delta.diff(row);
                if *count == 0 {
                    self.views[i].remove(&cells);
                }
            }
        }
        for write in writes.iter() {
            match write.after {
                Some(value) => self.state.insert(write.key.to_vec(), value.to_vec()),
                None => self.state.remove(write.key),
            };
        }
        for (fault, diff) in faults {
            assert_eq!(diff, 1);
            self.faults.push(fault);
        }
    }

    /// A cell of the only row of a view.
    pub fn cell(&self, plan: &StepPlan, view: usize, column: &str) -> Value {
        let at = plan.outputs[view].schema.index_of(column).unwrap_or_else(|| panic!("no column {column}"));
        assert_eq!(self.views[view].len(), 1);
        self.views[view].keys().next().expect("one row")[at].clone()
    }

    /// A count of the only book.
    pub fn count(&self, plan: &StepPlan, name: &str) -> i64 {
        match self.cell(plan, 2, name) {
            Value::Int(count) => count,
            other => panic!("{name} is {other:?}"),
        }
    }

    /// The state of the only book, and why.
    pub fn state(&self, plan: &StepPlan) -> String {
        match (self.cell(plan, 2, "state"), self.cell(plan, 2, "reason")) {
            (Value::Str(state), Value::Null) => state,
            (Value::Str(state), Value::Str(reason)) => format!("{state}: {reason}"),
            other => panic!("{other:?}"),
        }
    }

    /// How many faults there are, by reason.
    pub fn reasons(&self) -> BTreeMap<&str, usize> {
        let mut reasons = BTreeMap::new();
        self.faults.iter().for_each(|fault| *reasons.entry(fault.reason.as_str()).or_insert(0) += 1);
        reasons
    }

    fn tick_column(&self, name: &str) -> Vec<ArrayRef> {
        self.ticks.iter().map(|batch| batch.column_by_name(name).expect("a column of ticks").clone()).collect()
    }

    pub fn tick_floats(&self, name: &str) -> Vec<Option<f64>> {
        self.tick_column(name).iter().flat_map(|c| c.as_primitive::<Float64Type>().iter().collect::<Vec<_>>()).collect()
    }

    pub fn tick_seqs(&self) -> Vec<i64> {
        self.tick_column(SEQ).iter().flat_map(|c| c.as_primitive::<Int64Type>().values().to_vec()).collect()
    }

    pub fn tick_health(&self) -> Vec<bool> {
        self.tick_column("healthy").iter().flat_map(|c| c.as_boolean().values().iter().collect::<Vec<_>>()).collect()
    }

    pub fn tick_kinds(&self) -> Vec<String> {
        let texts = |c: &ArrayRef| c.as_string::<i32>().iter().flatten().map(str::to_owned).collect::<Vec<_>>();
        self.tick_column("kind").iter().flat_map(texts).collect()
    }

    /// Every tick as cells.
    pub fn tick_rows(&self) -> Vec<Row> {
        self.ticks.iter().flat_map(cells).collect()
    }

    /// No healthy tick is of a crossed book, and none of an unhealthy one has levels. Gives how many are healthy.
    pub fn sound_ticks(&self) -> usize {
        let (bids, asks) = (self.tick_floats("bid_price_1"), self.tick_floats("ask_price_1"));
        let mut healthy = 0;
        for ((is_healthy, bid), ask) in self.tick_health().into_iter().zip(bids).zip(asks) {
            if is_healthy {
                healthy += 1;
                assert!(!matches!((bid, ask), (Some(bid), Some(ask)) if bid >= ask), "{bid:?} {ask:?}");
            } else {
                assert_eq!((bid, ask), (None, None));
            }
        }
        healthy
    }
}

/// The run gives what the model does, and so does one that is made anew after every epoch, from equal state.
pub fn equals_model(plan: &StepPlan, events: &RecordBatch) {
    let expected = (plan.model)(&[cells(events).collect()]);
    let first = run(plan, events, 300, |_| false);
    let again = run(plan, events, 300, |_| true);
    let whole = run(plan, events, events.num_rows(), |_| false);
    assert_eq!(first.state, again.state);
    for told in [&first, &again, &whole] {
        for view in 0..3 {
            let got: BTreeSet<Row> = told.views[view].keys().cloned().collect();
            let wanted: BTreeSet<Row> = expected[view].iter().cloned().collect();
            assert_eq!(got, wanted, "output {view}");
        }
        let rows = told.tick_rows();
        let (got, wanted): (BTreeSet<&Row>, BTreeSet<&Row>) = (rows.iter().collect(), expected[3].iter().collect());
        assert_eq!(got.len(), rows.len());
        assert!(got == wanted, "ticks: {:?}", got.symmetric_difference(&wanted).take(4).collect::<Vec<_>>());
        assert_eq!(told.faults, first.faults);
    }
}

/// A batch of rows.
pub fn batch(columns: &[(&str, Type)], rows: &[Row]) -> RecordBatch {
    RowCodec::new(&schema(columns)).batch(rows)
}

/// Recorded files one after the other as a stream of these columns. The first is the file's first column with a time in
/// its name, to microseconds by `micros`. `None` where there are no recorded data.
pub fn recorded(files: &[String], columns: &[(&str, Type)], micros: impl Fn(i64) -> i64) -> Option<RecordBatch> {
    let folder = testkit::recorded_data()?;
    let mut texts: Vec<String> = Vec::new();
    for file in files {
        let bytes = std::fs::read(folder.join("market").join(file)).unwrap_or_else(|e| panic!("{file}: {e}"));
        texts.push(String::from_utf8(zstd::stream::decode_all(&bytes[..]).unwrap()).unwrap());
    }
    let names: Vec<&str> = texts[0].lines().next().unwrap().split(',').collect();
    let place = |(i, (name, _)): (usize, &(&str, Type))| match i {
        0 => names.iter().position(|n| n.contains("ts_")).expect("a time"),
        _ => names.iter().position(|n| n == name).unwrap_or_else(|| panic!("no column {name} in {names:?}")),
    };
    let places: Vec<usize> = columns.iter().enumerate().map(place).collect();
    let mut ints: Vec<Int64Builder> = columns.iter().map(|_| Int64Builder::new()).collect();
    let mut floats: Vec<Float64Builder> = columns.iter().map(|_| Float64Builder::new()).collect();
    let mut strings: Vec<StringBuilder> = columns.iter().map(|_| StringBuilder::new()).collect();
    let mut rows = 0;
    for line in texts.iter().flat_map(|text| text.lines().skip(1)) {
        let cells: Vec<&str> = line.split(',').collect();
        rows += 1;
        for (i, (_, ty)) in columns.iter().enumerate() {
            let cell = Some(cells[places[i]]).filter(|c| !c.is_empty());
            match ty {
                Type::Timestamp => ints[i].append_value(micros(cell.expect("a time").parse().unwrap())),
                Type::Int64 => ints[i].append_option(cell.map(|c| c.parse().unwrap())),
                Type::Float64 => floats[i].append_option(cell.map(|c| c.parse().unwrap())),
                _ => strings[i].append_option(cell),
            }
        }
    }
    let mut arrays: Vec<ArrayRef> = Vec::new();
    for (i, (_, ty)) in columns.iter().enumerate() {
        arrays.push(match ty {
            Type::Timestamp => {
                Arc::new(TimestampMicrosecondArray::new(ints[i].finish().values().clone(), None).with_timezone("UTC"))
            }
            Type::Int64 => Arc::new(ints[i].finish()),
            Type::Float64 => Arc::new(floats[i].finish()),
            _ => Arc::new(strings[i].finish()),
        });
    }
    arrays.push(Arc::new(Int64Array::from_iter_values(0..rows)));
    Some(RecordBatch::try_new(schema(columns).arrow(), arrays).unwrap())
}
