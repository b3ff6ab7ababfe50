//! `thalweg train value`: an offline value function from a recorded history.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufReader, IsTerminal, Write};
use std::sync::Arc;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::csv::ReaderBuilder;
use arrow::csv::reader::Format;
use arrow::datatypes::{DataType, Field, Schema};
use operators::td_value::calendar;
use operators::td_value::cell_name;
use operators::td_value::train::{Record, Trainer, Training};
use types::Value;

use crate::Failure;
use crate::arguments::{Train, TrainValue};

/// Rows between two progress lines.
const ROWS: usize = 65_536;

/// `thalweg train`.
pub fn train(arguments: &Train) -> Result<(), Failure> {
    let Train::Value(value) = arguments;
    train_value(value)
}

fn train_value(a: &TrainValue) -> Result<(), Failure> {
    let offset = calendar::utc_offset(&a.utc_offset)
        .ok_or_else(|| Failure::usage(format!("--utc-offset: `{}` is neither +HH:MM nor -HH:MM", a.utc_offset)))?;
    let is_rate = (0.0..=1.0).contains(&a.gamma) && a.unit_secs > 0.0 && a.unit_secs.is_finite();
    if !is_rate || !(1..=86_400).contains(&a.slot_secs) || a.tile_size.is_some_and(|s| !(s > 0.0 && s.is_finite())) {
        return Err(Failure::usage("--gamma is from 0 to 1, --slot-secs from 1 to 86400, other sizes are more than 0"));
    }
    if a.state.len() != a.next_state.len() || (a.tile_size.is_some() && (a.place.len(), a.next_place.len()) != (2, 2)) {
        return Err(Failure::usage(
            "--state and --next-state name as many columns; with --tile-size places name two each",
        ));
    }
    let training = Training {
        tile: a.tile_size,
        gamma: a.gamma,
        unit_secs: a.unit_secs,
        slot_secs: a.slot_secs,
        offset,
        spread: a.spread,
    };
    let mut trainer = Trainer::new(training);
    let mut refused: BTreeMap<&'static str, u64> = BTreeMap::new();
    let failed = |e: &dyn std::fmt::Display| Failure::usage(format!("{}: {e}", a.input.display()));
    let open = || File::open(&a.input).map_err(|e| failed(&e));
    let size = open()?.metadata().map_err(|e| failed(&e))?.len();
    let (header, _) = Format::default().with_header(true).infer_schema(open()?, Some(0)).map_err(|e| failed(&e))?;
    let fields: Vec<Field> = header.fields().iter().map(|f| Field::new(f.name(), DataType::Utf8, true)).collect();
    let columns = Columns::find(a, &header)?;
    let reader = ReaderBuilder::new(Arc::new(Schema::new(fields))).with_header(true).with_batch_size(ROWS);
    let mut read = 0u64;
    let file = BufReader::new(open()?);
    for rows in reader.build_buffered(file).map_err(|e| failed(&e))? {
        let rows = rows.map_err(|e| failed(&e))?;
        for row in 0..rows.num_rows() {
            let taken = columns.record(&rows, row, a.tile_size.is_some()).and_then(|record| trainer.record(&record));
            if let Err(reason) = taken {
                *refused.entry(reason).or_default() += 1;
            }
        }
        read += rows.num_rows() as u64;
        progress(&format!("{read} rows of {size} bytes read, {} transitions", trainer.len()));
    }
    progress(&format!("{} transitions: dynamic programming over slots of {} s", trainer.len(), a.slot_secs));
    let artefact = trainer.learn();
    let bytes = artefact.bytes();
    // Whole or not at all: a file that is half written would be refused, but would have replaced a good one.
    let part = a.out.with_extension("part");
    let written = File::create(&part)
        .and_then(|mut file| file.write_all(&bytes).and_then(|()| file.sync_all()))
        .and_then(|()| std::fs::rename(&part, &a.out));
    written.map_err(|e| Failure::broken(format!("{}: {e}", a.out.display())))?;
    if std::io::stderr().is_terminal() {
        eprintln!();
    }
    println!(
        "{}: {} slots of {} cells from {} transitions, {} refused, checksum {:016x}",
        a.out.display(),
        artefact.slots,
        artefact.names.len(),
        trainer.len(),
        refused.values().sum::<u64>(),
        artefact.checksum()
    );
    refused.iter().for_each(|(reason, count)| println!("refused: {reason} {count}"));
    Ok(())
}

fn progress(line: &str) {
    if std::io::stderr().is_terminal() {
        eprint!("\r\x1b[2K\x1b[?7l{line}\x1b[?7h");
    } else {
        eprintln!("{line}");
    }
}

/// Which columns of the file say what.
struct Columns {
    at: usize,
    state: Vec<usize>,
    next_state: Vec<usize>,
    reward: usize,
    duration: usize,
    places: [Vec<usize>; 2],
}

impl Columns {
    fn find(a: &TrainValue, header: &Schema) -> Result<Columns, Failure> {
        let one = |name: &String| {
            header.index_of(name).map_err(|_| {
                let names: Vec<&str> = header.fields().iter().map(|f| f.name().as_str()).collect();
                Failure::usage(format!("{} has no column `{name}`; it has {}", a.input.display(), names.join(", ")))
            })
        };
        let all = |names: &[String]| names.iter().map(one).collect::<Result<Vec<usize>, Failure>>();
        Ok(Columns {
            at: one(&a.at)?,
            state: all(&a.state)?,
            next_state: all(&a.next_state)?,
            reward: one(&a.reward)?,
            duration: one(&a.duration)?,
            places: [all(&a.place)?, all(&a.next_place)?],
        })
    }

    fn record(&self, rows: &RecordBatch, row: usize, has_tiles: bool) -> Result<Record, &'static str> {
        let text = |column: usize| {
            let column = rows.column(column).as_string::<i32>();
            Some(column.value(row)).filter(|text| !column.is_null(row) && !text.is_empty())
        };
        let key = |columns: &[usize]| -> Option<String> {
            let parts = columns.iter().map(|c| text(*c).map(|t| Value::Str(t.to_owned())));
            parts.collect::<Option<Vec<Value>>>().map(|parts| cell_name(&parts, has_tiles))
        };
        let number = |column: usize| text(column).and_then(|t| t.parse::<f64>().ok());
        let place = |columns: &[usize]| match columns {
            [x, y] => (number(*x).unwrap_or(f64::NAN), number(*y).unwrap_or(f64::NAN)),
            _ => (0.0, 0.0),
        };
        Ok(Record {
            at: text(self.at).and_then(calendar::event_time).ok_or("bad_time")?,
            from: key(&self.state).ok_or("null_state")?,
            to: key(&self.next_state),
            places: [place(&self.places[0]), place(&self.places[1])],
            reward: number(self.reward).ok_or("bad_reward")?,
            secs: number(self.duration).ok_or("bad_duration")?,
        })
    }
}
