//! `thalweg train value`: an offline value function from a recorded history.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufReader, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::csv::ReaderBuilder;
use arrow::csv::reader::Format;
use arrow::datatypes::{DataType, Field, Schema};
use operators::td_value::artefact::Artefact;
use operators::td_value::calendar;
use operators::td_value::fit::Fitting;
use operators::td_value::replay::{Replayed, Step};
use operators::td_value::train::{Record, Trainer, Training};
use operators::td_value::{Grid, cell_name};
use types::Value;

use crate::Failure;
use crate::arguments::{Train, TrainColumns, TrainValue};
use crate::crash::Crash;
use crate::run::variable;

/// Rows between two progress lines.
const ROWS: usize = 65_536;

/// `thalweg train`.
pub fn train(arguments: &Train) -> Result<(), Failure> {
    let Train::Value(value) = arguments;
    let crash = Crash::parse(variable("THALWEG_CRASH").as_deref()).map_err(Failure::usage)?;
    train_value(value, &crash)
}

fn train_value(a: &TrainValue, crash: &Crash) -> Result<(), Failure> {
    if !(1..=86_400).contains(&a.slot_secs) {
        return Err(Failure::usage("--slot-secs is from 1 to 86400"));
    }
    let Taken { trainer, refused } = match &a.pipeline {
        Some(file) => replayed(a, file)?,
        None => read(a)?,
    };
    let artefact = if a.network {
        learn(a, &trainer, crash)?
    } else {
        progress(&format!("{} transitions: dynamic programming over slots of {} s", trainer.len(), a.slot_secs));
        trainer.learn()
    };
    write(&a.out, &artefact.bytes(), || ())?;
    crash.pass("artefact");
    if a.network && checkpoint(a).exists() {
        std::fs::remove_file(checkpoint(a))
            .map_err(|e| Failure::broken(format!("{}: {e}", checkpoint(a).display())))?;
    }
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

/// What was read: transitions, and by reason how many rows are none.
struct Taken {
    trainer: Trainer,
    refused: BTreeMap<&'static str, u64>,
}

/// What reaches a step of a pipeline.
fn replayed(a: &TrainValue, file: &Path) -> Result<Taken, Failure> {
    let text = std::fs::read_to_string(file).map_err(|e| Failure::usage(format!("{}: {e}", file.display())))?;
    let name = a.step.as_deref().expect("clap wants it with --pipeline");
    let step =
        Step::find(file, &text, &variable, &catalogue::all(), name, a.elapsed.as_deref()).map_err(Failure::usage)?;
    let training = step.training(a.slot_secs, a.spread, usize::from(a.sweeps));
    let has_places = Some(training.grid.is_some());
    let trainer = trainer(a, training, has_places)?;
    progress("running the pipeline on what was recorded");
    let Replayed { trainer, mut refused, faults } =
        step.replay(&a.history, &connect::recorded, &std::env::temp_dir(), trainer).map_err(Failure::usage)?;
    if faults > 0 {
        refused.insert("fault", faults);
    }
    Ok(Taken { trainer, refused })
}

/// What a CSV file has.
fn read(a: &TrainValue) -> Result<Taken, Failure> {
    let (Some(input), Some(c)) = (&a.input, &a.columns) else {
        return Err(Failure::usage("a CSV file is wanted, and columns that say what is in it, or --pipeline"));
    };
    let (utc_offset, unit_secs) = (c.utc_offset.as_deref().unwrap_or("+00:00"), c.unit_secs.unwrap_or(600.0));
    let gamma = c.gamma.expect("clap wants it");
    let offset = calendar::utc_offset(utc_offset)
        .ok_or_else(|| Failure::usage(format!("--utc-offset: `{utc_offset}` is neither +HH:MM nor -HH:MM")))?;
    let is_rate = (0.0..=1.0).contains(&gamma) && unit_secs > 0.0 && unit_secs.is_finite();
    if !is_rate || c.tile_size.is_some_and(|s| !(s > 0.0 && s.is_finite())) {
        return Err(Failure::usage("--gamma is from 0 to 1, other sizes are more than 0"));
    }
    let grid = match (c.tile_size, c.h3.as_slice()) {
        (Some(size), _) => Some(Grid::Tiles(size)),
        (None, []) => None,
        (None, list) => {
            let wrong = "--h3 has from 1 to 6 resolutions from 15 to 0, each coarser than the one before";
            Some(Grid::h3(list).ok_or_else(|| Failure::usage(wrong))?)
        }
    };
    if c.state.len() != c.next_state.len() || (grid.is_some() && (c.place.len(), c.next_place.len()) != (2, 2)) {
        return Err(Failure::usage(
            "--state and --next-state name as many columns; with --tile-size and with --h3 places name two each",
        ));
    }
    let training = Training {
        grid,
        gamma,
        unit_secs,
        slot_secs: a.slot_secs,
        offset,
        spread: a.spread,
        sweeps: usize::from(a.sweeps),
    };
    let has_places = match (c.place.len(), c.next_place.len()) {
        (0, 0) => Some(false),
        (2, 2) => Some(true),
        _ => None,
    };
    let mut trainer = trainer(a, training, has_places)?;
    let mut refused: BTreeMap<&'static str, u64> = BTreeMap::new();
    let failed = |e: &dyn std::fmt::Display| Failure::usage(format!("{}: {e}", input.display()));
    let open = || File::open(input).map_err(|e| failed(&e));
    let size = open()?.metadata().map_err(|e| failed(&e))?.len();
    let (header, _) = Format::default().with_header(true).infer_schema(open()?, Some(0)).map_err(|e| failed(&e))?;
    let fields: Vec<Field> = header.fields().iter().map(|f| Field::new(f.name(), DataType::Utf8, true)).collect();
    let columns = Columns::find(input, c, &header)?;
    let reader = ReaderBuilder::new(Arc::new(Schema::new(fields))).with_header(true).with_batch_size(ROWS);
    let mut read = 0u64;
    let file = BufReader::new(open()?);
    for rows in reader.build_buffered(file).map_err(|e| failed(&e))? {
        let rows = rows.map_err(|e| failed(&e))?;
        for row in 0..rows.num_rows() {
            let taken = columns.record(&rows, row, grid).and_then(|record| trainer.record(&record));
            if let Err(reason) = taken {
                *refused.entry(reason).or_default() += 1;
            }
        }
        read += rows.num_rows() as u64;
        progress(&format!("{read} rows of {size} bytes read, {} transitions", trainer.len()));
    }
    Ok(Taken { trainer, refused })
}

/// Takes transitions, for a network if one is wanted.
fn trainer(a: &TrainValue, training: Training, has_places: Option<bool>) -> Result<Trainer, Failure> {
    Ok(match fitting(a, training.grid, has_places)? {
        Some(fitting) => Trainer::of_network(training, fitting),
        None => Trainer::new(training),
    })
}

/// How a network is to be learned, if one is.
fn fitting(a: &TrainValue, grid: Option<Grid>, has_places: Option<bool>) -> Result<Option<Fitting>, Failure> {
    if !a.network {
        let is_idle = a.network_tiles.is_empty();
        return if is_idle { Ok(None) } else { Err(Failure::usage("--network-tiles is for --network")) };
    }
    let sizes = match grid {
        Some(Grid::H3(_)) if a.network_tiles.is_empty() => {
            return Err(Failure::usage("with hexagons --network needs --network-tiles, in degrees"));
        }
        Some(Grid::Tiles(size)) if a.network_tiles.is_empty() => [1.0, 3.0, 9.0].map(|times| times * size).to_vec(),
        _ => a.network_tiles.clone(),
    };
    if has_places != Some(!sizes.is_empty()) {
        let message =
            "--network-tiles needs --place and --next-place, of two columns each, and these need it (or --tile-size)";
        return Err(Failure::usage(message));
    }
    let is_good = sizes.len() <= 16 && sizes.iter().all(|s| *s > 0.0 && s.is_finite());
    if !is_good || !(0.0..=1e6).contains(&a.lipschitz) || a.steps == 0 || a.checkpoint_steps == 0 {
        return Err(Failure::usage(
            "--network-tiles are at most 16 and more than 0, as are --steps and --checkpoint-steps; --lipschitz is from 0 on",
        ));
    }
    Ok(Some(Fitting { sizes, steps: a.steps, lipschitz: a.lipschitz, seed: a.seed }))
}

/// Learns by a network, from the last checkpoint on.
fn learn(a: &TrainValue, trainer: &Trainer, crash: &Crash) -> Result<Artefact, Failure> {
    let mut fit = trainer.fit().expect("it was made for a network");
    let at = checkpoint(a);
    match std::fs::read(&at) {
        Ok(bytes) => {
            let resumed = fit.resume(&bytes);
            resumed.map_err(|e| Failure::usage(format!("{}: {e}; remove it to begin anew", at.display())))?;
            progress(&format!("going on from step {} of {}", fit.step(), a.steps));
        }
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
        Err(e) => return Err(Failure::usage(format!("{}: {e}", at.display()))),
    }
    while !fit.is_over() {
        fit.run(a.checkpoint_steps - fit.step() % a.checkpoint_steps);
        write(&at, &fit.checkpoint(), || crash.pass("checkpoint_written"))?;
        crash.pass("checkpoint");
        let (error, bound) = fit.figures();
        progress(&format!(
            "{} step {} of {}, mean squared error {error:.4}, Lipschitz bound {bound:.4}",
            bar(fit.step(), a.steps),
            fit.step(),
            a.steps
        ));
    }
    Ok(trainer.learned(&fit))
}

fn bar(done: u64, of: u64) -> String {
    let full = (20 * done / of.max(1)) as usize;
    format!("[{}{}] {:3} %", "#".repeat(full), " ".repeat(20 - full), 100 * done / of.max(1))
}

/// The checkpoint stands beside what it is for.
fn checkpoint(a: &TrainValue) -> PathBuf {
    beside(&a.out, ".checkpoint")
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// Writes a file whole or not at all: one that is half written would be refused, but would have replaced a good one.
fn write(path: &Path, bytes: &[u8], before_it_counts: impl FnOnce()) -> Result<(), Failure> {
    let part = beside(path, ".part");
    let written =
        File::create(&part).and_then(|mut file| file.write_all(bytes).and_then(|()| file.sync_all())).and_then(|()| {
            before_it_counts();
            std::fs::rename(&part, path)
        });
    written.map_err(|e| Failure::broken(format!("{}: {e}", path.display())))
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
    counted: Option<usize>,
    places: [Vec<usize>; 2],
}

impl Columns {
    fn find(input: &Path, c: &TrainColumns, header: &Schema) -> Result<Columns, Failure> {
        let one = |name: &String| {
            header.index_of(name).map_err(|_| {
                let names: Vec<&str> = header.fields().iter().map(|f| f.name().as_str()).collect();
                Failure::usage(format!("{} has no column `{name}`; it has {}", input.display(), names.join(", ")))
            })
        };
        let all = |names: &[String]| names.iter().map(one).collect::<Result<Vec<usize>, Failure>>();
        let wanted = |name: &Option<String>| one(name.as_ref().expect("clap wants it"));
        Ok(Columns {
            at: wanted(&c.at)?,
            state: all(&c.state)?,
            next_state: all(&c.next_state)?,
            reward: wanted(&c.reward)?,
            duration: wanted(&c.duration)?,
            counted: c.counted.as_ref().map(one).transpose()?,
            places: [all(&c.place)?, all(&c.next_place)?],
        })
    }

    fn record(&self, rows: &RecordBatch, row: usize, grid: Option<Grid>) -> Result<Record, &'static str> {
        let text = |column: usize| {
            let column = rows.column(column).as_string::<i32>();
            Some(column.value(row)).filter(|text| !column.is_null(row) && !text.is_empty())
        };
        let key = |columns: &[usize]| -> Option<String> {
            let parts = columns.iter().map(|c| text(*c).map(|t| Value::Str(t.to_owned())));
            parts.collect::<Option<Vec<Value>>>().map(|parts| cell_name(&parts, grid.is_some()))
        };
        let is_over = match grid {
            Some(Grid::H3(_)) => self.places[1].iter().all(|c| text(*c).is_none()),
            _ => false,
        };
        let number = |column: usize| text(column).and_then(|t| t.parse::<f64>().ok());
        let place = |columns: &[usize]| match columns {
            [x, y] => (number(*x).unwrap_or(f64::NAN), number(*y).unwrap_or(f64::NAN)),
            _ => (0.0, 0.0),
        };
        Ok(Record {
            at: text(self.at).and_then(calendar::event_time).ok_or("bad_time")?,
            from: key(&self.state).ok_or("null_state")?,
            to: key(&self.next_state).filter(|_| !is_over),
            places: [place(&self.places[0]), place(&self.places[1])],
            reward: number(self.reward).ok_or("bad_reward")?,
            secs: number(self.duration).ok_or("bad_duration")?,
            counted_secs: number(self.counted.unwrap_or(self.duration)).ok_or("bad_duration")?,
        })
    }
}
