//! The city as a client of a running daemon: tells it what happens by HTTP, and does what it decides.
//!
//! One source takes everything (`examples/dispatch/pipeline.toml`): a line a thing, with its `at`, its `kind` (`cell`,
//! `order`, `driver`, `transition`, `tick`) and what that kind has. After each second that decisions are wanted for comes
//! a `tick` a microsecond later: it shows that the second has passed, so that its round is held.
//!
//! Nothing is kept here. What a day brings follows from its seed and from what was decided, and what was decided is in
//! the daemon's views: a client that starts again lives through the day once more, reads the decisions that were made,
//! and goes on where they end. Posts carry a key and are repeated until they are answered, so a daemon that dies in between
//! loses nothing and hears nothing twice.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use client::Client;
use serde_json::{Value, json};

use crate::day::Day;
use crate::demand::{City, DAY_SECS};
use crate::outside::{Decisions, Dispatcher, News, What};
use crate::world::{self, Scenario};
use operators::dispatch::candidates::Point;
use operators::dispatch::tiles::{Cells, Coding};

/// Midnight before the first day, in microseconds: 1 November 2016.
const FIRST_DAY: i64 = 1_477_958_400_000_000;
/// Orders of a day have numbers below this.
const ORDERS_A_DAY: u32 = 1_000_000;
/// How often an unanswered request is repeated.
const PAUSE: Duration = Duration::from_millis(20);

/// The city that is driven, and how.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// The part of the full city.
    pub scale: f64,
    /// The seed of the first day; others follow.
    pub seed: u64,
    /// The hour of the first day at which it begins.
    pub from_hour: f64,
    /// The hour of the last day at which it stops.
    pub until_hour: f64,
    /// How many days.
    pub days: u32,
    /// How often decisions are wanted, in seconds: the `round_secs` of the pipeline.
    pub every_secs: u32,
    /// How long an order stays open, in seconds.
    pub patience_secs: u32,
    /// How many seconds of the city pass in one of ours at most; 0: as many as can be.
    pub speed: f64,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            scale: 0.03,
            seed: 0,
            from_hour: 0.0,
            until_hour: 24.0,
            days: 1,
            every_secs: 10,
            patience_secs: 60,
            speed: 0.0,
        }
    }
}

impl Settings {
    /// Sets one by name; the error says what is wrong.
    pub fn set(&mut self, name: &str, value: f64) -> Result<(), String> {
        let is_in_range = match name {
            "scale" => (0.001..=4.0).contains(&value),
            "from_hour" => (0.0..24.0).contains(&value),
            "every_secs" => value >= 2.0 && DAY_SECS.is_multiple_of(value as u32) && (value as u32).is_multiple_of(2),
            "until_hour" => value > 0.0 && value <= 24.0,
            "days" | "patience_secs" => (1.0..=100_000.0).contains(&value),
            "seed" | "speed" => value.is_finite() && value >= 0.0,
            _ => return Err(format!("no setting `{name}`")),
        };
        if !is_in_range {
            return Err(format!("{name} is {value}: out of range"));
        }
        match name {
            "scale" => self.scale = value,
            "seed" => self.seed = value as u64,
            "from_hour" => self.from_hour = value,
            "until_hour" => self.until_hour = value,
            "days" => self.days = value as u32,
            "every_secs" => self.every_secs = value as u32,
            "patience_secs" => self.patience_secs = value as u32,
            _ => self.speed = value,
        }
        Ok(())
    }
}

/// What comes of driving.
#[derive(Clone, Copy, Debug)]
pub enum Seen<'a> {
    /// Lines that the daemon is told, or was told when this day was lived through before.
    Told(&'a str),
    /// A day is over: its number, from 0.
    Day(u32, &'a Day),
}

/// Lives through days whose decisions a daemon makes.
pub fn drive(daemon: Client, settings: &Settings, watch: &mut dyn FnMut(Seen<'_>)) -> Result<(), String> {
    let mut daemon = Daemon::reach(daemon, settings, watch)?;
    live(settings, &mut daemon, &mut |daemon, moment| match moment {
        Moment::Begins(number, from) => daemon.begin(number, from),
        Moment::Ended(number, day) => (daemon.watch)(Seen::Day(number, day)),
    })
}

/// When a day begins, and when it is over.
pub(crate) enum Moment<'a> {
    /// Its number, and the second.
    Begins(u32, u32),
    /// Its number.
    Ended(u32, &'a Day),
}

/// Lives through days in which somebody decides.
pub(crate) fn live<D: Dispatcher>(
    settings: &Settings,
    dispatcher: &mut D,
    at: &mut dyn FnMut(&mut D, Moment<'_>),
) -> Result<(), String> {
    let city = City::new(settings.scale);
    let cells: Cells = world::atlas(&city, Coding::Tabular);
    for number in 0..settings.days {
        let seed = settings.seed + u64::from(number);
        let (orders, shifts) = (city.orders(seed, None), city.shifts(seed));
        let controlled: Vec<u32> = (0..shifts.len() as u32).collect();
        let scenario = Scenario {
            city: &city,
            cells: &cells,
            orders: &orders,
            shifts: &shifts,
            controlled: &controlled,
            patience_secs: settings.patience_secs,
            forecast: &city.demand,
            seed,
        };
        let from = if number == 0 { (settings.from_hour * 3_600.0) as u32 } else { 0 };
        at(dispatcher, Moment::Begins(number, from));
        let is_last = number + 1 == settings.days;
        let until = if is_last { (settings.until_hour * 3_600.0) as u32 } else { DAY_SECS };
        let day = world::run_by(&scenario, dispatcher, (from, until))?;
        at(dispatcher, Moment::Ended(number, &day));
    }
    Ok(())
}

/// The daemon as the city sees it.
struct Daemon<'w> {
    watch: &'w mut dyn FnMut(Seen<'_>),
    client: Client,
    teller: Teller,
    speed: f64,
    /// Its clock when this run began, and the day's second then.
    began: (Instant, i64),
    /// Before this it has been told everything, in microseconds.
    told: i64,
}

impl<'w> Daemon<'w> {
    #[allow(clippy::disallowed_methods, reason = "a client that keeps pace; what it does does not depend on it")]
    fn reach(client: Client, settings: &Settings, watch: &'w mut dyn FnMut(Seen<'_>)) -> Result<Daemon<'w>, String> {
        let mut daemon = Daemon {
            watch,
            client,
            teller: Teller::new(settings),
            speed: settings.speed,
            began: (Instant::now(), 0),
            told: i64::MIN,
        };
        let source = daemon.get("/v1/sources/events")?;
        daemon.told = source["progress"]["watermark"].as_i64().unwrap_or(i64::MIN);
        // What it was told must be decided before it is read.
        loop {
            let epochs = daemon.get("/v1/epochs")?;
            if epochs["published"] == epochs["sealed"] {
                return Ok(daemon);
            }
            std::thread::sleep(PAUSE);
        }
    }

    #[allow(clippy::disallowed_methods, reason = "as above")]
    fn begin(&mut self, day: u32, from: u32) {
        if day == 0 {
            self.began = (Instant::now(), micros(day, f64::from(from)).max(self.told));
        }
        self.teller.begin(day);
    }

    /// Not faster than the city's clock.
    fn keep_pace(&self, at: i64) {
        if self.speed > 0.0 && at > self.began.1 {
            let due = Duration::from_secs_f64((at - self.began.1) as f64 / 1e6 / self.speed);
            std::thread::sleep(due.saturating_sub(self.began.0.elapsed()));
        }
    }

    fn get(&self, path: &str) -> Result<Value, String> {
        until_answered(|| self.client.get(path, &[])?.json())
    }

    fn post(&self, key: &str, body: &str) -> Result<u64, String> {
        until_answered(|| self.client.push_lines("events", body.as_bytes(), Some(key))).map(|pushed| pushed.epoch)
    }

    /// The rows of a stream of decisions that were made at a time, in order.
    fn decided(&self, view: &str, at: i64, epoch: Option<u64>) -> Result<Vec<Value>, String> {
        let mut path = format!("/v1/views/{view}?limit=10000&prefix={}", stamp(at));
        if let Some(epoch) = epoch {
            write!(path, "&min_epoch={epoch}&wait_ms=60000").expect("a string takes all");
        }
        let (mut rows, mut next) = (Vec::new(), path.clone());
        loop {
            let mut page = self.get(&next)?;
            rows.append(page["rows"].as_array_mut().ok_or_else(|| format!("{next}: no rows"))?);
            match page["cursor"].as_str() {
                Some(cursor) => next = format!("{path}&cursor={cursor}"),
                None => return Ok(rows),
            }
        }
    }
}

/// Repeats a request as long as nobody answers, or somebody who cannot just now.
fn until_answered<T>(request: impl Fn() -> Result<T, client::Error>) -> Result<T, String> {
    loop {
        match request() {
            Ok(answer) => return Ok(answer),
            Err(e) if e.is_passing() => std::thread::sleep(PAUSE),
            Err(e) => return Err(e.to_string()),
        }
    }
}

/// Says what happens in the words of the pipeline.
#[derive(Clone, Debug)]
pub struct Teller {
    /// The day, from 0.
    pub day: u32,
    /// How often decisions are wanted, in seconds.
    pub every_secs: u32,
    /// How long an order stays open, in seconds.
    pub patience_secs: u32,
    /// The hour of which the cells were told.
    hour: Option<u32>,
}

impl Teller {
    /// At the beginning of the first day.
    pub fn new(settings: &Settings) -> Teller {
        Teller { day: 0, every_secs: settings.every_secs, patience_secs: settings.patience_secs, hour: None }
    }

    /// A day begins.
    pub fn begin(&mut self, day: u32) {
        (self.day, self.hour) = (day, None);
    }

    /// All that is to tell, a line each.
    pub fn lines(&mut self, scenario: &Scenario<'_>, at: u32, news: &[News]) -> String {
        let mut lines = Vec::new();
        let hour = (at - 1) / 3_600;
        let first = micros(self.day, f64::from(at - self.every_secs) + 0.000_5);
        if self.hour != Some(hour) {
            self.hour = Some(hour);
            for (hexagon, orders) in scenario.city.demand[hour as usize].iter().enumerate() {
                let middle = scenario.city.hexagons.centre(hexagon as u32);
                // An idle driver is asked again after some half an hour of waiting and driving.
                let demand = orders / 2.0;
                lines.push(json!({"at": stamp(first), "kind": "cell", "cell": hexagon, "x": middle.x, "y": middle.y, "demand": demand}));
            }
        }
        let cell = |point: &Point| scenario.city.hexagons.at(point);
        for news in news {
            let at = stamp(micros(self.day, news.at));
            lines.push(match &news.what {
                What::Order(number) => {
                    let o = &scenario.orders[*number as usize];
                    let order = self.day * ORDERS_A_DAY + number;
                    // Nobody waits past midnight: the next day knows nothing of it.
                    let patience = f64::from(self.patience_secs).min((f64::from(DAY_SECS) - o.at - 1.0).max(0.0));
                    json!({"at": at, "kind": "order", "order": order, "event": "created", "x": o.from.x, "y": o.from.y,
                        "to_cell": cell(&o.to), "to_x": o.to.x, "to_y": o.to.y, "reward": o.reward,
                        "secs": o.trip_secs, "patience": patience})
                }
                What::Driver { driver, event, place } => json!({"at": at, "kind": "driver", "driver": driver,
                    "event": event, "cell": cell(place), "x": place.x, "y": place.y}),
                What::Transition { driver, from, to, reward, secs } => json!({"at": at, "kind": "transition",
                    "driver": driver, "cell": cell(from), "x": from.x, "y": from.y, "to_cell": cell(to),
                    "to_x": to.x, "to_y": to.y, "reward": reward, "secs": secs}),
            });
        }
        lines.push(json!({"at": stamp(micros(self.day, f64::from(at)) + 1), "kind": "tick"}));
        lines.iter().map(|line| format!("{line}\n")).collect()
    }
}

impl Dispatcher for Daemon<'_> {
    fn every_secs(&self) -> u32 {
        self.teller.every_secs
    }

    fn ask(&mut self, scenario: &Scenario<'_>, at: u32, news: &[News]) -> Result<Decisions, String> {
        let time = micros(self.teller.day, f64::from(at));
        let lines = self.teller.lines(scenario, at, news);
        (self.watch)(Seen::Told(&lines));
        let epoch = if time < self.told {
            None
        } else {
            self.keep_pace(time);
            Some(self.post(&format!("{}-{at}", self.teller.day), &lines)?)
        };
        let number = |row: &Value, column: &str| row[column].as_u64().map(|n| n as u32);
        let matches = self.decided("dispatch.matches", time, epoch)?.into_iter().map(|row| {
            let order = number(&row, "order").and_then(|order| order.checked_sub(self.teller.day * ORDERS_A_DAY));
            order.zip(number(&row, "driver")).ok_or_else(|| format!("no match of the day: {row}"))
        });
        let matches = matches.collect::<Result<_, String>>()?;
        let moves = self.decided("reposition.moves", time, epoch)?.into_iter().map(|row| {
            let cell = row["cell"].as_str().and_then(|cell| cell.parse().ok());
            number(&row, "driver").zip(cell).ok_or_else(|| format!("no move: {row}"))
        });
        let moves = moves.collect::<Result<_, String>>()?;
        Ok(Decisions { matches, moves })
    }
}

/// A second of a day, in microseconds.
fn micros(day: u32, secs: f64) -> i64 {
    FIRST_DAY + i64::from(day) * i64::from(DAY_SECS) * 1_000_000 + (secs * 1e6) as i64
}

/// A time as the API reads and writes it.
fn stamp(micros: i64) -> String {
    jiff::Timestamp::from_microsecond(micros).expect("within some centuries").to_string()
}
