//! The `generate` connector: seeded scenarios shipped with the project. First the [`city`].
//!
//! A scenario is one simulation; each source shows one of its tables. Sources with the same options show the same
//! world. Everything follows from the options by integer arithmetic alone, so that rows are the same on every machine.

mod city;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use engine::connector::{Connector, ConnectorError, ConnectorFactory, Next, SourceEnv};
use engine::pipeline::Section;
use engine::plan::SourceShape;
use engine::{ConnectorDef, OptionDef};
use types::{Column, Position};

use crate::connect::{RowSpec, Rows, TimeFormat};
use city::{City, CityOptions, Table};

pub(crate) const DEF: ConnectorDef = ConnectorDef {
    name: "generate",
    summary: "A seeded scenario: a city with drivers that move, orders with origin, destination, fare and patience, and the trips they become.",
    options: &[
        OptionDef { name: "scenario", shape: "one of city", default: Some("\"city\""), doc: "Which world." },
        OptionDef {
            name: "table",
            shape: "one of drivers, orders, trips",
            default: None,
            doc: "Which of its tables: `drivers` (keyed: place and status), `orders` (keyed: those that are open), `trips` (append-only: what every driver did, idle moves too). It brings its own columns, key, event time and tombstone.",
        },
        OptionDef { name: "seed", shape: "int64", default: Some("1"), doc: "Another seed is another world." },
        OptionDef {
            name: "drivers",
            shape: "int64",
            default: Some("1000"),
            doc: "The size of the fleet, on shift and off; 1 to 1000000.",
        },
        OptionDef {
            name: "orders_per_day",
            shape: "int64",
            default: Some("20000"),
            doc: "Orders of a day on average, spread over its hours by the profile of a real month; up to 50000000.",
        },
        OptionDef {
            name: "start",
            shape: "timestamp",
            default: Some("\"2016-11-01T00:00:00Z\""),
            doc: "The event time at which the world begins.",
        },
        OptionDef {
            name: "hours",
            shape: "float64",
            default: Some("none"),
            doc: "How long the world lasts in event time. Without `hours` and `days` it is endless.",
        },
        OptionDef { name: "days", shape: "float64", default: Some("none"), doc: "As `hours`, in days." },
        OptionDef {
            name: "rate",
            shape: "float64",
            default: Some("none"),
            doc: "Rows a second of wall clock; without `rate` and `speed`, as fast as possible.",
        },
        OptionDef {
            name: "speed",
            shape: "float64",
            default: Some("none"),
            doc: "Seconds of event time a second of wall clock.",
        },
    ],
    plan,
};

/// Rows of a batch, at most.
const BATCH_ROWS: usize = 16_384;
/// How long a call to `next` waits for the pace.
const WAIT: Duration = Duration::from_millis(5);
/// Rows made before the engine is answered, on the way to a position.
const SKIP_ROWS: u64 = 1 << 18;
/// Seconds of event time simulated before the engine is answered, rows or none.
const STEPS_MAX: usize = 50_000;

#[derive(Clone, Debug)]
struct Generate {
    city: CityOptions,
    table: Table,
    spec: Arc<RowSpec>,
    pace: Pace,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Pace {
    Free,
    RowsPerSecond(f64),
    EventSecondsPerSecond(f64),
}

fn plan(section: &mut Section<'_>, shape: &mut SourceShape) -> Option<Arc<dyn ConnectorFactory>> {
    if section.has("scenario") {
        section.choice("scenario", &[("city", ())])?;
    }
    let table =
        section.choice("table", &[("drivers", Table::Drivers), ("orders", Table::Orders), ("trips", Table::Trips)]);
    let seed = int(section, "seed", 1, i64::MIN, i64::MAX);
    let drivers = int(section, "drivers", 1_000, 1, 1_000_000);
    let orders = int(section, "orders_per_day", 20_000, 0, 50_000_000);
    let (hours, days) = (positive(section, "hours"), positive(section, "days"));
    let (rate, speed) = (positive(section, "rate"), positive(section, "speed"));
    let (mut hours_or_days, mut pace) = (None, Some(Pace::Free));
    match (hours?, days?) {
        (Some(_), Some(_)) => section.problem("days", "give `hours` or `days`, not both"),
        (hours, days) => {
            hours_or_days = Some(hours.map(|h| (h * 3_600.0) as i64).or(days.map(|d| (d * 86_400.0) as i64)))
        }
    }
    match (rate?, speed?) {
        (Some(_), Some(_)) => {
            section.problem("speed", "give `rate` or `speed`, not both");
            pace = None;
        }
        (Some(rate), None) => pace = Some(Pace::RowsPerSecond(rate)),
        (None, Some(speed)) => pace = Some(Pace::EventSecondsPerSecond(speed)),
        (None, None) => {}
    }
    let start_text = section.string("start").unwrap_or_else(|| "2016-11-01T00:00:00Z".into());
    let start = TimeFormat::Auto.parse(start_text.as_bytes()).ok();
    if start.is_none() {
        section.problem("start", format!("expected a timestamp like 2016-11-01T00:00:00Z, found `{start_text}`"));
    }
    let table = table?;
    shape_of(section, shape, table)?;
    let city = CityOptions {
        seed: seed? as u64,
        drivers: drivers? as u32,
        orders_per_day: orders? as u64,
        start: start?,
        duration_s: hours_or_days?,
    };
    let spec = RowSpec::new(shape.columns.clone(), &[], None, TimeFormat::Auto, usize::MAX);
    Some(Arc::new(Generate { city, table, spec: Arc::new(spec), pace: pace? }))
}

/// An integer option; `None` if it is wrong, which has been reported.
fn int(section: &mut Section<'_>, key: &'static str, default: i64, min: i64, max: i64) -> Option<i64> {
    match section.int_in(key, min..=max) {
        None if !section.has(key) => Some(default),
        other => other,
    }
}

/// A positive option, if given; `None` if it is not positive, which has been reported.
fn positive(section: &mut Section<'_>, key: &'static str) -> Option<Option<f64>> {
    match section.float(key) {
        Some(v) if v > 0.0 && v <= 1e9 => Some(Some(v)),
        Some(v) => {
            section.problem(key, format!("`{key}` must be above 0 and at most 1e9, found {v}"));
            None
        }
        None if section.has(key) => None,
        None => Some(None),
    }
}

/// Fills in what the section did not say of the rows, and checks what it did.
fn shape_of(section: &mut Section<'_>, shape: &mut SourceShape, table: Table) -> Option<()> {
    let known = table.columns();
    if shape.columns.is_empty() {
        shape.columns =
            known.iter().map(|(name, ty)| Column { name: (*name).into(), ty: *ty, nullable: false }).collect();
    }
    let mut good = true;
    for column in &shape.columns {
        match known.iter().find(|(n, _)| *n == column.name) {
            None => {
                section.unknown_name("columns", "column", &column.name, known.iter().map(|(n, _)| *n));
                good = false;
            }
            Some((_, ty)) if *ty != column.ty => {
                section
                    .problem("columns", format!("column `{}` of this table is {ty}, not {}", column.name, column.ty));
                good = false;
            }
            Some(_) => {}
        }
    }
    let there = |name: &str| shape.columns.iter().any(|c| c.name == name);
    let key = table.key().filter(|k| there(k));
    let (tombstone, event_time) = (there("deleted"), there(table.event_time()));
    if shape.key.is_empty() && shape.tombstone.is_none() {
        shape.key = key.into_iter().map(str::to_owned).collect();
    }
    if shape.tombstone.is_none() && tombstone && !shape.key.is_empty() {
        shape.tombstone = Some("deleted".into());
    }
    if shape.event_time.is_none() && event_time {
        shape.event_time = Some(table.event_time().into());
    }
    good.then_some(())
}

impl ConnectorFactory for Generate {
    fn open(&self, position: &Position, env: &SourceEnv) -> Result<Box<dyn Connector>, ConnectorError> {
        Ok(Box::new(Generator::open(self, &env.source, position.seq)))
    }

    fn describe(&self) -> String {
        let CityOptions { seed, drivers, orders_per_day, start, duration_s } = &self.city;
        let length = duration_s.map_or("endless".into(), |s| format!("for {s} s"));
        let start = types::json::rfc3339(*start);
        format!(
            "generate city {} seed {seed}, {drivers} drivers, {orders_per_day} orders a day, from {start}, {length}",
            self.table.name()
        )
    }
}

/// An open `generate` source. Its position is the number of a row alone: the world is simulated again up to there.
struct Generator {
    city: City,
    rows: Rows,
    /// Rows still to be passed over.
    skip: u64,
    pace: Pace,
    /// When rows began to flow: the wall clock, the row's number, the event time.
    began: Option<(Instant, u64, i64)>,
    /// Rows simulated and not delivered.
    ready: VecDeque<city::Row>,
    /// The positions in the table of the columns wanted.
    columns: Vec<usize>,
}

impl Generator {
    fn open(options: &Generate, source: &str, seq: u64) -> Generator {
        let known = options.table.columns();
        let position = |name: &str| known.iter().position(|(n, _)| *n == name).expect("checked when planned");
        Generator {
            city: City::new(&options.city, options.table),
            rows: Rows::new(source, options.spec.clone(), seq),
            skip: seq,
            pace: options.pace,
            began: None,
            ready: VecDeque::new(),
            columns: options.spec.columns.iter().map(|c| position(&c.name)).collect(),
        }
    }

    /// How many more rows the pace allows now, and up to which event time.
    fn allowed(&mut self) -> (u64, i64) {
        if self.pace == Pace::Free {
            return (u64::MAX, i64::MAX);
        }
        #[allow(clippy::disallowed_methods, reason = "the clock decides when a row comes, never what is in it")]
        let now = Instant::now();
        let first = self.ready.front().map_or(self.city.now(), city::Row::time);
        let (began, seq, time) = *self.began.get_or_insert((now, self.rows.next_seq(), first));
        let seconds = now.duration_since(began).as_secs_f64();
        match self.pace {
            Pace::Free => (u64::MAX, i64::MAX),
            Pace::RowsPerSecond(rate) => {
                ((seq + (seconds * rate) as u64).saturating_sub(self.rows.next_seq()), i64::MAX)
            }
            Pace::EventSecondsPerSecond(speed) => (u64::MAX, time.saturating_add((seconds * speed * 1e6) as i64)),
        }
    }

    /// Passes over the rows before the position. `Some`: what to answer before that is done.
    fn skip(&mut self) -> Option<Next> {
        let mut made = 0;
        while self.skip > 0 {
            if self.ready.is_empty() && !self.city.step(&mut self.ready) {
                return Some(Next::End);
            }
            let count = self.skip.min(self.ready.len() as u64);
            self.ready.drain(..count as usize);
            self.skip -= count;
            // A step without rows is work too.
            made += count.max(4);
            if made >= SKIP_ROWS {
                return Some(Next::Waiting);
            }
        }
        None
    }
}

impl Connector for Generator {
    fn next(&mut self) -> Result<Next, ConnectorError> {
        if let Some(next) = self.skip() {
            return Ok(next);
        }
        let (mut rows_max, time_max) = self.allowed();
        let (mut steps, mut ended) = (0, false);
        while rows_max > 0 && self.rows.records() < BATCH_ROWS {
            match self.ready.front() {
                Some(row) if row.time() > time_max => break,
                Some(row) => {
                    row.append(&mut self.rows, &self.columns);
                    self.ready.pop_front();
                    rows_max -= 1;
                }
                None if self.city.now() > time_max || steps >= STEPS_MAX => break,
                None => {
                    steps += 1;
                    if !self.city.step(&mut self.ready) {
                        ended = true;
                        break;
                    }
                }
            }
        }
        if self.rows.records() > 0 {
            return Ok(Next::Rows(self.rows.take(serde_json::Value::Null, serde_json::Value::Null)));
        }
        if ended {
            return Ok(Next::End);
        }
        if self.pace != Pace::Free {
            std::thread::sleep(WAIT);
        }
        Ok(Next::Waiting)
    }
}

#[cfg(test)]
mod tests;
