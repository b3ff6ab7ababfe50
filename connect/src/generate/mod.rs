//! The `generate` connector: seeded scenarios shipped with the project. The [`city`], and the [`exchange`] with the
//! [`market`] behind it.
//!
//! A scenario is one simulation; each source shows one of its tables. Sources with the same options show the same
//! world. Everything follows from the options by integer arithmetic alone, so that rows are the same on every machine.

mod city;
mod exchange;
mod market;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use engine::connector::{Connector, ConnectorError, ConnectorFactory, Next, SourceEnv};
use engine::pipeline::Section;
use engine::plan::SourceShape;
use engine::{ConnectorDef, OptionDef};
use types::time::TimeFormat;
use types::{Column, Position, Type};

use crate::source::{RowSpec, Rows};
use city::{City, CityOptions, Table};
use market::{Market, MarketOptions};

pub(crate) const DEF: ConnectorDef = ConnectorDef {
    name: "generate",
    summary: "A seeded scenario. `city`: drivers that move, orders with origin, destination, fare and patience, and the trips they become. `exchange`: the messages of a venue, of which what drives prices changes at known times.",
    options: &[
        OptionDef { name: "scenario", shape: "one of city, exchange", default: Some("\"city\""), doc: "Which world." },
        OptionDef {
            name: "table",
            shape: "one of drivers, orders, trips; messages",
            default: None,
            doc: "Which of its tables. Of the city: `drivers` (keyed: place and status), `orders` (keyed: those that are open), `trips` (append-only: what every driver did, idle moves too). Of the exchange: `messages` (append-only: snapshots, depth and trades, as `order_book` reads them with `sequence = \"binance_spot\"`). It brings its own columns, key, event time and tombstone.",
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
            name: "instruments",
            shape: "int64",
            default: Some("3"),
            doc: "Exchange: how many instruments there are, `S01`, `S02`, …; 1 to 99.",
        },
        OptionDef {
            name: "messages_per_sec",
            shape: "int64",
            default: Some("20"),
            doc: "Exchange: messages of depth a second and an instrument; 1 to 10000.",
        },
        OptionDef {
            name: "regime_secs",
            shape: "int64",
            default: Some("600"),
            doc: "Exchange: how long each regime lasts, in seconds. In the first what makers add and remove tells where prices go, in the second who takes in trades, in the third the moves of `S01` just before; then the first again.",
        },
        OptionDef {
            name: "signal",
            shape: "float64",
            default: Some("0.8"),
            doc: "Exchange: from 0, where nothing tells anything, to 1: how far what drives prices decides their direction.",
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
    scenario: Scenario,
    spec: Arc<RowSpec>,
    pace: Pace,
}

/// A world with its options, and which of its tables is shown.
#[derive(Clone, Debug)]
enum Scenario {
    City(CityOptions, Table),
    Exchange(MarketOptions),
}

/// What a source's rows are.
struct TableShape {
    columns: &'static [(&'static str, Type)],
    key: Option<&'static str>,
    event_time: &'static str,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Pace {
    Free,
    RowsPerSecond(f64),
    EventSecondsPerSecond(f64),
}

fn plan(section: &mut Section<'_>, shape: &mut SourceShape) -> Option<Arc<dyn ConnectorFactory>> {
    let is_exchange = section.choice_or("scenario", &[("city", false), ("exchange", true)], false)?;
    let table = if is_exchange {
        section.choice("table", &[("messages", None)])
    } else {
        let tables = [("drivers", Table::Drivers), ("orders", Table::Orders), ("trips", Table::Trips)];
        section.choice("table", &tables.map(|(name, table)| (name, Some(table))))
    };
    let seed = int(section, "seed", 1, i64::MIN, i64::MAX);
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
    let scenario = if is_exchange {
        let instruments = int(section, "instruments", 3, 1, 99);
        let messages_per_sec = int(section, "messages_per_sec", 20, 1, 10_000);
        let regime_s = int(section, "regime_secs", 600, 1, 1_000_000_000);
        let signal = if section.has("signal") { section.float_in("signal", 0.0..=1.0) } else { Some(0.8) };
        table?;
        Scenario::Exchange(MarketOptions {
            seed: seed? as u64,
            instruments: instruments? as u32,
            messages_per_sec: messages_per_sec? as u32,
            regime_s: regime_s?,
            signal: (signal? * 100.0).round() as i64,
            start: start?,
            duration_s: hours_or_days?,
        })
    } else {
        let drivers = int(section, "drivers", 1_000, 1, 1_000_000);
        let orders = int(section, "orders_per_day", 20_000, 0, 50_000_000);
        let table = table?.expect("a table of the city");
        let city = CityOptions {
            seed: seed? as u64,
            drivers: drivers? as u32,
            orders_per_day: orders? as u64,
            start: start?,
            duration_s: hours_or_days?,
        };
        Scenario::City(city, table)
    };
    shape_of(section, shape, scenario.table())?;
    let spec = RowSpec::new(shape.columns.clone(), &[], None, TimeFormat::Auto, usize::MAX);
    Some(Arc::new(Generate { scenario, spec: Arc::new(spec), pace: pace? }))
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
fn shape_of(section: &mut Section<'_>, shape: &mut SourceShape, table: TableShape) -> Option<()> {
    let known = table.columns;
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
    let key = table.key.filter(|k| there(k));
    let (tombstone, event_time) = (there("deleted"), there(table.event_time));
    if shape.key.is_empty() && shape.tombstone.is_none() {
        shape.key = key.into_iter().map(str::to_owned).collect();
    }
    if shape.tombstone.is_none() && tombstone && !shape.key.is_empty() {
        shape.tombstone = Some("deleted".into());
    }
    if shape.event_time.is_none() && event_time {
        shape.event_time = Some(table.event_time.into());
    }
    good.then_some(())
}

impl ConnectorFactory for Generate {
    fn open(&self, position: &Position, env: &SourceEnv) -> Result<Box<dyn Connector>, ConnectorError> {
        Ok(Box::new(Generator::open(self, &env.source, position.seq)))
    }

    fn describe(&self) -> String {
        let length = |duration_s: &Option<i64>| duration_s.map_or("endless".into(), |s| format!("for {s} s"));
        match &self.scenario {
            Scenario::City(CityOptions { seed, drivers, orders_per_day, start, duration_s }, table) => format!(
                "generate city {} seed {seed}, {drivers} drivers, {orders_per_day} orders a day, from {}, {}",
                table.name(),
                types::json::rfc3339(*start),
                length(duration_s)
            ),
            Scenario::Exchange(options) => format!(
                "generate exchange messages seed {}, {} instruments, {} messages a second, regimes of {} s, signal {} %, from {}, {}",
                options.seed,
                options.instruments,
                options.messages_per_sec,
                options.regime_s,
                options.signal,
                types::json::rfc3339(options.start),
                length(&options.duration_s)
            ),
        }
    }
}

impl Scenario {
    fn table(&self) -> TableShape {
        match self {
            Scenario::City(_, table) => {
                TableShape { columns: table.columns(), key: table.key(), event_time: table.event_time() }
            }
            Scenario::Exchange(_) => {
                TableShape { columns: exchange::COLUMNS, key: None, event_time: exchange::EVENT_TIME }
            }
        }
    }
}

/// A world at work, with the rows that are simulated and not delivered.
enum World {
    City(City, VecDeque<city::Row>),
    Exchange(Market, VecDeque<market::Record>),
}

impl World {
    fn new(scenario: &Scenario) -> World {
        match scenario {
            Scenario::City(options, table) => World::City(City::new(options, *table), VecDeque::new()),
            Scenario::Exchange(options) => World::Exchange(Market::new(options), VecDeque::new()),
        }
    }

    /// The event time up to which it has been simulated.
    fn now(&self) -> i64 {
        match self {
            World::City(city, _) => city.now(),
            World::Exchange(market, _) => market.now(),
        }
    }

    /// Simulates a step more. False: the world has ended.
    fn step(&mut self) -> bool {
        match self {
            World::City(city, ready) => city.step(ready),
            World::Exchange(market, ready) => market.step(ready),
        }
    }

    /// How many rows are ready.
    fn ready(&self) -> usize {
        match self {
            World::City(_, ready) => ready.len(),
            World::Exchange(_, ready) => ready.len(),
        }
    }

    /// The event time of the first row that is ready.
    fn front(&self) -> Option<i64> {
        match self {
            World::City(_, ready) => ready.front().map(city::Row::time),
            World::Exchange(_, ready) => ready.front().map(market::Record::time),
        }
    }

    /// Passes over rows that are ready.
    fn pass_over(&mut self, count: usize) {
        match self {
            World::City(_, ready) => drop(ready.drain(..count)),
            World::Exchange(_, ready) => drop(ready.drain(..count)),
        }
    }

    /// Delivers the first row that is ready.
    fn append(&mut self, rows: &mut Rows, columns: &[usize]) {
        match self {
            World::City(_, ready) => ready.pop_front().expect("one is ready").append(rows, columns),
            World::Exchange(_, ready) => ready.pop_front().expect("one is ready").append(rows, columns),
        }
    }
}

/// An open `generate` source. Its position is the number of a row alone: the world is simulated again up to there.
struct Generator {
    world: World,
    rows: Rows,
    /// Rows still to be passed over.
    skip: u64,
    pace: Pace,
    /// When rows began to flow: the wall clock, the row's number, the event time.
    began: Option<(Instant, u64, i64)>,
    /// The positions in the table of the columns wanted.
    columns: Vec<usize>,
}

impl Generator {
    fn open(options: &Generate, source: &str, seq: u64) -> Generator {
        let known = options.scenario.table().columns;
        let position = |name: &str| known.iter().position(|(n, _)| *n == name).expect("checked when planned");
        Generator {
            world: World::new(&options.scenario),
            rows: Rows::new(source, options.spec.clone(), seq),
            skip: seq,
            pace: options.pace,
            began: None,
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
        let first = self.world.front().unwrap_or(self.world.now());
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
            if self.world.ready() == 0 && !self.world.step() {
                return Some(Next::End);
            }
            let count = self.skip.min(self.world.ready() as u64);
            self.world.pass_over(count as usize);
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
            match self.world.front() {
                Some(time) if time > time_max => break,
                Some(_) => {
                    self.world.append(&mut self.rows, &self.columns);
                    rows_max -= 1;
                }
                None if self.world.now() > time_max || steps >= STEPS_MAX => break,
                None => {
                    steps += 1;
                    if !self.world.step() {
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
