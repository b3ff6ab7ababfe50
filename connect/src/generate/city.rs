//! The city: a fleet on shifts, orders that wait for a while, a dispatcher that sends the nearest driver.
//!
//! A synthetic twin of published aggregates of the Chengdu month of November 2016 (GAIA, KDD Cup 2020): orders by hour
//! of day, mean reward 4.22, trip duration mean 1,327 s with standard deviation 848, pickups at 3 m/s within 2 km, a
//! round of matching every 2 s. The plane is 24 by 24 km in cells of 1 km.
//!
//! Time moves in steps of a second. A step's rows are in event-time order. Randomness is a hash of (seed, what for,
//! who, which time), so that nothing depends on the order in which it is drawn; all arithmetic is on integers.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};

use types::random::{STEP, mix};
use types::{Micros, Type};

use crate::source::{Cells, Rows};

/// The plane, metres a side, and its cells.
const SIDE_M: i32 = 24_000;
const CELL_M: i32 = 1_000;
const CELLS: i32 = SIDE_M / CELL_M;
/// The south-west corner, in millionths of a degree.
const LAT_E6: i64 = 30_550_000;
const LON_E6: i64 = 103_940_000;
/// Metres a degree of latitude, and of longitude at that latitude.
const LAT_M: i64 = 111_195;
const LON_M: i64 = 95_660;
/// Millimetres a millisecond.
const PICKUP_SPEED: i64 = 3;
const RADIUS_M: i64 = 2_000;
const ROUND_S: i64 = 2;
const REPORT_S: i64 = 30;
const DAY_MS: i64 = 86_400_000;
/// A shift: nine hours.
const SHIFT_MS: i64 = 9 * 3_600_000;
/// An order's chance is drawn so often a second.
const SLOTS: u64 = 8;

/// Orders by hour of day in the published month.
const PROFILE: [u64; 24] = [
    122_710, 80_986, 53_864, 34_233, 32_091, 29_507, 53_975, 216_931, 316_360, 371_745, 346_841, 340_028, 342_238,
    409_667, 409_136, 376_956, 367_832, 386_099, 370_574, 349_175, 327_661, 312_905, 266_716, 182_781,
];

/// Where people are: centre (metres), spread, weight by day and by night.
const PLACES: [(i32, i32, i32, u32, u32); 7] = [
    (12_000, 12_000, 2_000, 34, 14),
    (15_000, 9_500, 1_500, 16, 8),
    (8_500, 14_500, 1_800, 10, 16),
    (6_000, 7_000, 2_200, 8, 18),
    (17_500, 16_500, 2_200, 8, 18),
    (11_500, 19_500, 1_600, 6, 14),
    (12_000, 12_000, 6_500, 18, 12),
];

/// One of the scenario's tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Table {
    Drivers,
    Orders,
    Trips,
}

impl Table {
    pub fn name(self) -> &'static str {
        match self {
            Table::Drivers => "drivers",
            Table::Orders => "orders",
            Table::Trips => "trips",
        }
    }

    pub fn columns(self) -> &'static [(&'static str, Type)] {
        match self {
            Table::Drivers => &[
                ("driver_id", Type::Int64),
                ("lat", Type::Float64),
                ("lon", Type::Float64),
                ("cell", Type::String),
                ("status", Type::String),
                ("updated_at", Type::Timestamp),
                ("deleted", Type::Bool),
            ],
            Table::Orders => &[
                ("order_id", Type::Int64),
                ("cell", Type::String),
                ("lat", Type::Float64),
                ("lon", Type::Float64),
                ("to_cell", Type::String),
                ("to_lat", Type::Float64),
                ("to_lon", Type::Float64),
                ("fare", Type::Float64),
                ("duration_s", Type::Int64),
                ("patience_s", Type::Int64),
                ("created_at", Type::Timestamp),
                ("updated_at", Type::Timestamp),
                ("deleted", Type::Bool),
            ],
            Table::Trips => &[
                ("driver_id", Type::Int64),
                ("from_cell", Type::String),
                ("to_cell", Type::String),
                ("reward", Type::Float64),
                ("duration_s", Type::Int64),
                ("finished_at", Type::Timestamp),
            ],
        }
    }

    pub fn key(self) -> Option<&'static str> {
        match self {
            Table::Drivers => Some("driver_id"),
            Table::Orders => Some("order_id"),
            Table::Trips => None,
        }
    }

    pub fn event_time(self) -> &'static str {
        match self {
            Table::Drivers | Table::Orders => "updated_at",
            Table::Trips => "finished_at",
        }
    }
}

/// What makes a city.
#[derive(Clone, Debug)]
pub(crate) struct CityOptions {
    pub seed: u64,
    pub drivers: u32,
    pub orders_per_day: u64,
    pub start: Micros,
    pub duration_s: Option<i64>,
}

/// A place, in metres from the south-west corner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Point {
    x: i32,
    y: i32,
}

impl Point {
    fn cell(self) -> i32 {
        (self.y / CELL_M).clamp(0, CELLS - 1) * CELLS + (self.x / CELL_M).clamp(0, CELLS - 1)
    }

    fn distance_m(self, to: Point) -> i64 {
        let (dx, dy) = (i64::from(self.x - to.x), i64::from(self.y - to.y));
        ((dx * dx + dy * dy) as u64).isqrt() as i64
    }

    fn lat(self) -> f64 {
        (LAT_E6 + i64::from(self.y) * 1_000_000 / LAT_M) as f64 / 1e6
    }

    fn lon(self) -> f64 {
        (LON_E6 + i64::from(self.x) * 1_000_000 / LON_M) as f64 / 1e6
    }
}

/// A row of a table.
#[derive(Clone, Debug)]
pub(crate) enum Row {
    Driver { id: u32, at: Point, status: Status, time: Micros, deleted: bool },
    Order { order: Order, time: Micros, deleted: bool },
    Trip { driver: u32, from: i32, to: i32, reward_cents: u32, duration_s: i64, time: Micros },
}

impl Row {
    pub fn time(&self) -> Micros {
        match self {
            Row::Driver { time, .. } | Row::Order { time, .. } | Row::Trip { time, .. } => *time,
        }
    }

    /// Appends the row; `columns` are the positions in the table of the columns wanted.
    pub fn append(&self, rows: &mut Rows, columns: &[usize]) {
        for (to, from) in columns.iter().enumerate() {
            let value = match self {
                Row::Driver { id, at, status, time, deleted } => match from {
                    0 => Item::Int(i64::from(*id)),
                    1 => Item::Float(at.lat()),
                    2 => Item::Float(at.lon()),
                    3 => Item::Cell(at.cell()),
                    4 => Item::Str(status.name()),
                    5 => Item::Time(*time),
                    _ => Item::Bool(*deleted),
                },
                Row::Order { order, time, deleted } => match from {
                    0 => Item::Int(order.id),
                    1 => Item::Cell(order.from.cell()),
                    2 => Item::Float(order.from.lat()),
                    3 => Item::Float(order.from.lon()),
                    4 => Item::Cell(order.to.cell()),
                    5 => Item::Float(order.to.lat()),
                    6 => Item::Float(order.to.lon()),
                    7 => Item::Float(f64::from(order.fare_cents) / 100.0),
                    8 => Item::Int(order.duration_ms / 1_000),
                    9 => Item::Int(order.patience_ms / 1_000),
                    10 => Item::Time(order.created),
                    11 => Item::Time(*time),
                    _ => Item::Bool(*deleted),
                },
                Row::Trip { driver, from: origin, to: goal, reward_cents, duration_s, time } => match from {
                    0 => Item::Int(i64::from(*driver)),
                    1 => Item::Cell(*origin),
                    2 => Item::Cell(*goal),
                    3 => Item::Float(f64::from(*reward_cents) / 100.0),
                    4 => Item::Int(*duration_s),
                    _ => Item::Time(*time),
                },
            };
            let builder = &mut rows.columns[to];
            match (value, &mut builder.cells) {
                (Item::Int(v), Cells::Int(out)) | (Item::Time(v), Cells::Time(out)) => out.push(v),
                (Item::Float(v), Cells::Float(out)) => out.push(v),
                (Item::Bool(v), Cells::Bool(out)) => out.push(v),
                (Item::Str(text), Cells::Str { .. }) => builder.push_str(text.as_bytes()),
                (Item::Cell(cell), Cells::Str { .. }) => builder.push_str(&cell_name(cell)),
                _ => unreachable!("columns were checked when planned"),
            }
        }
        rows.commit().expect("no cell is null");
    }
}

enum Item {
    Int(i64),
    Float(f64),
    Bool(bool),
    Time(Micros),
    Str(&'static str),
    Cell(i32),
}

/// `r07c11`: row from the south, column from the west.
fn cell_name(cell: i32) -> [u8; 6] {
    let two = |n: i32| [b'0' + (n / 10) as u8, b'0' + (n % 10) as u8];
    let ([a, b], [c, d]) = (two(cell / CELLS), two(cell % CELLS));
    [b'r', a, b, b'c', c, d]
}

/// What a driver is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Status {
    Offline,
    Idle,
    Pickup,
    Trip,
}

impl Status {
    fn name(self) -> &'static str {
        match self {
            Status::Offline => "offline",
            Status::Idle => "idle",
            Status::Pickup => "pickup",
            Status::Trip => "trip",
        }
    }
}

/// A driver under way from one place to another.
#[derive(Clone, Debug)]
struct Driver {
    status: Status,
    from: Point,
    to: Point,
    /// Milliseconds since the start of the world.
    depart: i64,
    arrive: i64,
    /// Where and when what will be reported as a trip began.
    began: i64,
    began_cell: i32,
    shift_end: i64,
    order: Option<Order>,
    /// Counts the driver's legs: what is random about a leg is drawn by it, and outdated events are known by it.
    leg: u32,
    /// The cell under which an idle driver is found.
    listed: i32,
}

impl Driver {
    fn at(&self, now: i64) -> Point {
        if now >= self.arrive || self.arrive == self.depart {
            return self.to;
        }
        let (done, all) = (now - self.depart, self.arrive - self.depart);
        let between = |a: i32, b: i32| a + (i64::from(b - a) * done / all) as i32;
        Point { x: between(self.from.x, self.to.x), y: between(self.from.y, self.to.y) }
    }
}

/// An order.
#[derive(Clone, Debug)]
pub(crate) struct Order {
    id: i64,
    from: Point,
    to: Point,
    fare_cents: u32,
    duration_ms: i64,
    patience_ms: i64,
    created: Micros,
}

/// What randomness is for.
#[derive(Clone, Copy)]
enum For {
    Shift,
    Home,
    Cruise,
    Arrival,
    Order,
}

/// The world.
pub(crate) struct City {
    options: CityOptions,
    table: Table,
    /// Milliseconds since the start.
    now: i64,
    drivers: Vec<Driver>,
    /// Arrivals and shifts: (time, driver, leg).
    events: BinaryHeap<Reverse<(i64, u32, u32)>>,
    /// Idle drivers by cell, in the order in which they came.
    idle: Vec<Vec<u32>>,
    /// Open orders by number: the age is the order.
    open: BTreeMap<i64, Order>,
    next_order: i64,
    profile_sum: u64,
}

impl City {
    /// The world at its start: drivers whose shift covers it are on.
    pub fn new(options: &CityOptions, table: Table) -> City {
        let mut city = City {
            options: options.clone(),
            table,
            now: 0,
            drivers: Vec::with_capacity(options.drivers as usize),
            events: BinaryHeap::new(),
            idle: vec![Vec::new(); (CELLS * CELLS) as usize],
            open: BTreeMap::new(),
            next_order: 0,
            profile_sum: PROFILE.iter().sum(),
        };
        for id in 0..options.drivers {
            // Shifts begin between 05:00 and 20:00, so that some drive at every hour and most by day.
            let day = city.millis_of_day(0);
            let begin = 5 * 3_600_000 + city.draw(For::Shift, u64::from(id), 0) as i64 % (15 * 3_600_000);
            let since = (day - begin).rem_euclid(DAY_MS);
            let home = city.place(For::Home, u64::from(id), 0, false);
            let mut driver = Driver {
                status: Status::Offline,
                from: home,
                to: home,
                depart: 0,
                arrive: 0,
                began: 0,
                began_cell: home.cell(),
                shift_end: 0,
                order: None,
                leg: 0,
                listed: -1,
            };
            if since < SHIFT_MS {
                driver.shift_end = SHIFT_MS - since;
            } else {
                driver.arrive = DAY_MS - since;
            }
            city.events.push(Reverse((driver.arrive, id, 0)));
            city.drivers.push(driver);
        }
        city
    }

    /// The event time up to which the world has been simulated.
    pub fn now(&self) -> Micros {
        self.options.start + self.now * 1_000
    }

    /// Simulates a second more and appends the table's rows of it, in event-time order. False: the world has ended.
    pub fn step(&mut self, out: &mut VecDeque<Row>) -> bool {
        if self.options.duration_s.is_some_and(|d| self.now >= d * 1_000) {
            return false;
        }
        let from = self.now;
        self.now += 1_000;
        self.new_orders(from, out);
        while let Some(Reverse((time, id, leg))) = self.events.peek().copied()
            && time <= self.now
        {
            self.events.pop();
            if self.drivers[id as usize].leg == leg {
                self.arrival(id, time, out);
            }
        }
        if self.now / 1_000 % ROUND_S == 0 {
            self.round(out);
        }
        if self.table == Table::Drivers {
            self.reports(out);
        }
        true
    }

    fn millis_of_day(&self, at: i64) -> i64 {
        (self.options.start.div_euclid(1_000) + at).rem_euclid(DAY_MS)
    }

    fn micros(&self, at: i64) -> Micros {
        self.options.start + at * 1_000
    }

    /// A random number for one purpose of one entity at one time (SplitMix64's finaliser over the four).
    fn draw(&self, purpose: For, who: u64, which: u64) -> u64 {
        let z = mix(self.options.seed.wrapping_add(STEP).wrapping_add((purpose as u64) << 56));
        let z = mix(z.wrapping_add(who.wrapping_mul(STEP)));
        mix(z.wrapping_add(which.wrapping_mul(STEP)).wrapping_add(STEP))
    }

    /// Somewhere people are, by day or by night.
    fn place(&self, purpose: For, who: u64, which: u64, day: bool) -> Point {
        let r = self.draw(purpose, who, which);
        let mut pick = (r % 100) as u32;
        let place = PLACES
            .iter()
            .find(|p| {
                let weight = if day { p.3 } else { p.4 };
                let found = pick < weight;
                pick = pick.wrapping_sub(weight);
                found
            })
            .unwrap_or(&PLACES[0]);
        // The sum of four uniform numbers is near enough to a normal one, and exact everywhere.
        let spread = |r: u64| {
            let sum = (0..4).map(|i| (r >> (i * 16) & 0xffff) as i64).sum::<i64>() - 2 * 0xffff;
            // A sum of four has the standard deviation 0xffff / √3.
            sum * 1_732 * i64::from(place.2) / (0xffff * 1_000)
        };
        let clamp = |v: i64| v.clamp(0, i64::from(SIDE_M) - 1) as i32;
        let x = clamp(i64::from(place.0) + spread(self.draw(purpose, who, which ^ 1 << 62)));
        let y = clamp(i64::from(place.1) + spread(self.draw(purpose, who, which ^ 1 << 61)));
        Point { x, y }
    }

    fn new_orders(&mut self, from: i64, out: &mut VecDeque<Row>) {
        let hour = (self.millis_of_day(from) / 3_600_000) as usize;
        // Orders a slot, in 2⁻³² of one.
        let chance = ((u128::from(self.options.orders_per_day) * u128::from(PROFILE[hour])) << 32)
            / (u128::from(self.profile_sum) * 3_600 * u128::from(SLOTS));
        let slot_ms = 1_000 / SLOTS as i64;
        for slot in 0..SLOTS {
            let which = from as u64 / 1_000 * SLOTS + slot;
            let r = self.draw(For::Arrival, which, 0);
            let count = (chance >> 32) as u64 + u64::from((r & 0xffff_ffff) < (chance as u64 & 0xffff_ffff));
            let base = from + slot as i64 * slot_ms;
            for i in 0..count {
                // Spread over the slot, in order.
                let created = base
                    + (i * slot_ms as u64 / count) as i64
                    + (r >> 40) as i64 % (slot_ms / count.min(slot_ms as u64) as i64).max(1);
                let order = self.order(self.next_order, created.min(base + slot_ms - 1), hour);
                self.next_order += 1;
                if self.table == Table::Orders {
                    out.push_back(Row::Order { order: order.clone(), time: order.created, deleted: false });
                }
                self.open.insert(order.id, order);
            }
        }
    }

    fn order(&self, id: i64, created: i64, hour: usize) -> Order {
        let who = id as u64;
        // In the morning people go where the day is, in the evening back.
        let (from_day, to_day) = match hour {
            5..=10 => (false, true),
            11..=16 => (true, true),
            17..=22 => (true, false),
            _ => (false, false),
        };
        let from = self.place(For::Order, who, 1, from_day);
        let mut to = self.place(For::Order, who, 2, to_day);
        if from.distance_m(to) < 500 {
            to = Point { x: (from.x + 900) % SIDE_M, y: (from.y + 700) % SIDE_M };
        }
        let metres = from.distance_m(to);
        let r = self.draw(For::Order, who, 3);
        // Traffic: 60 to 180 s, and 0.088 to 0.285 s a metre, mostly near the lower end. The fare is mostly time. The
        // constants are fitted to the published means and deviations.
        let jam = (((r & 0xffff) * (r & 0xffff)) >> 16) as i64;
        let duration_ms =
            60_000 + (r >> 16 & 0xffff) as i64 * 120_000 / 0xffff + metres * (88_000 + jam * 197_000 / 0xffff) / 1_000;
        let fare_cents = 13 + metres * (64 + (r >> 32 & 0xff) as i64 * 32 / 0xff) / 10_000 + duration_ms * 26 / 100_000;
        let patience_ms = 60_000 + (((r >> 40 & 0xffff) * (r >> 40 & 0xffff)) >> 16) as i64 * 540_000 / 0xffff;
        Order { id, from, to, fare_cents: fare_cents as u32, duration_ms, patience_ms, created: self.micros(created) }
    }

    /// A driver's leg or break ends.
    fn arrival(&mut self, id: u32, time: i64, out: &mut VecDeque<Row>) {
        let driver = &mut self.drivers[id as usize];
        match driver.status {
            Status::Offline => {
                if driver.shift_end <= time {
                    driver.shift_end = time + SHIFT_MS;
                }
                driver.status = Status::Idle;
                (driver.began, driver.began_cell) = (time, driver.to.cell());
                self.cruise(id, time);
                self.show(id, self.now, false, out);
            }
            Status::Idle => {
                self.unlist(id);
                self.trip_row(id, time, 0, out);
                self.free(id, time, out);
            }
            Status::Pickup => {
                let order = driver.order.clone().expect("a driver who picks up has an order");
                driver.status = Status::Trip;
                (driver.from, driver.to) = (order.from, order.to);
                (driver.depart, driver.arrive) = (time, time + order.duration_ms);
                driver.leg += 1;
                let event = (driver.arrive, id, driver.leg);
                self.events.push(Reverse(event));
                self.show(id, self.now, false, out);
            }
            Status::Trip => {
                let fare = driver.order.take().expect("a driver on a trip has an order").fare_cents;
                self.trip_row(id, time, fare, out);
                self.free(id, time, out);
                self.show(id, self.now, self.drivers[id as usize].status == Status::Offline, out);
            }
        }
    }

    /// The driver has nothing to do: goes home if the shift is over, else cruises.
    fn free(&mut self, id: u32, time: i64, out: &mut VecDeque<Row>) {
        let driver = &mut self.drivers[id as usize];
        let was = std::mem::replace(&mut driver.status, Status::Idle);
        (driver.began, driver.began_cell) = (time, driver.to.cell());
        if driver.shift_end > time {
            self.cruise(id, time);
            return;
        }
        driver.status = Status::Offline;
        driver.from = driver.to;
        // A shift begins at the same time every day, however late the last one ended.
        let mut begin = driver.shift_end - SHIFT_MS + DAY_MS;
        while begin <= time {
            begin += DAY_MS;
        }
        driver.shift_end = begin + SHIFT_MS;
        (driver.depart, driver.arrive) = (time, begin);
        driver.leg += 1;
        let event = (begin, id, driver.leg);
        self.events.push(Reverse(event));
        if was == Status::Idle {
            self.show(id, self.now, true, out);
        }
    }

    /// An idle driver moves a little, towards where orders are likely.
    fn cruise(&mut self, id: u32, time: i64) {
        let at = self.drivers[id as usize].to;
        let leg = self.drivers[id as usize].leg + 1;
        let hour = self.millis_of_day(time) / 3_600_000;
        let goal = self.place(For::Cruise, u64::from(id), u64::from(leg), (8..18).contains(&hour));
        let metres = at.distance_m(goal).max(1);
        let step = metres.min(300 + (self.draw(For::Cruise, u64::from(id), u64::from(leg) | 1 << 60) % 1_200) as i64);
        let towards = |a: i32, b: i32| a + (i64::from(b - a) * step / metres) as i32;
        let to = Point { x: towards(at.x, goal.x), y: towards(at.y, goal.y) };
        let driver = &mut self.drivers[id as usize];
        (driver.from, driver.to, driver.leg) = (at, to, leg);
        // Never no time at all: an idle driver waits half a minute at least.
        (driver.depart, driver.arrive) = (time, time + (step * 1_000 / PICKUP_SPEED).max(30_000));
        driver.listed = at.cell();
        let event = (driver.arrive, id, leg);
        self.idle[at.cell() as usize].push(id);
        self.events.push(Reverse(event));
    }

    fn unlist(&mut self, id: u32) {
        let cell = std::mem::replace(&mut self.drivers[id as usize].listed, -1);
        let list = &mut self.idle[cell as usize];
        let index = list.iter().position(|d| *d == id).expect("an idle driver is listed");
        list.swap_remove(index);
    }

    /// A round of matching: orders in the order of their age, each to the nearest idle driver.
    fn round(&mut self, out: &mut VecDeque<Row>) {
        let (now, time) = (self.now, self.now());
        let orders: Vec<i64> = self.open.keys().copied().collect();
        for id in orders {
            let order = &self.open[&id];
            let expired = order.created + order.patience_ms * 1_000 <= time;
            let nearest = if expired { None } else { self.nearest(order.from) };
            if !expired && nearest.is_none() {
                continue;
            }
            let order = self.open.remove(&id).expect("it is open");
            if self.table == Table::Orders {
                out.push_back(Row::Order { order: order.clone(), time, deleted: true });
            }
            let Some((metres, driver)) = nearest else { continue };
            self.unlist(driver);
            let at = self.drivers[driver as usize].at(now);
            // The idle time so far ends here, as a transition of its own.
            let state = &mut self.drivers[driver as usize];
            (state.from, state.to) = (at, at);
            self.trip_row(driver, now, 0, out);
            let state = &mut self.drivers[driver as usize];
            state.status = Status::Pickup;
            (state.began, state.began_cell) = (now, at.cell());
            state.to = order.from;
            (state.depart, state.arrive) = (now, now + (metres * 1_000 / PICKUP_SPEED).max(1));
            state.order = Some(order);
            state.leg += 1;
            let event = (state.arrive, driver, state.leg);
            self.events.push(Reverse(event));
            self.show(driver, now, false, out);
        }
    }

    /// The nearest idle driver within the radius: (metres, driver), the lower number if two are as near.
    fn nearest(&self, to: Point) -> Option<(i64, u32)> {
        let (row, column) = (to.cell() / CELLS, to.cell() % CELLS);
        let reach = (RADIUS_M / i64::from(CELL_M)) as i32 + 1;
        let mut best = None;
        for r in (row - reach).max(0)..=(row + reach).min(CELLS - 1) {
            for c in (column - reach).max(0)..=(column + reach).min(CELLS - 1) {
                for id in &self.idle[(r * CELLS + c) as usize] {
                    let metres = self.drivers[*id as usize].at(self.now).distance_m(to);
                    if metres <= RADIUS_M && best.is_none_or(|b| (metres, *id) < b) {
                        best = Some((metres, *id));
                    }
                }
            }
        }
        best
    }

    fn trip_row(&self, id: u32, time: i64, reward_cents: u32, out: &mut VecDeque<Row>) {
        let driver = &self.drivers[id as usize];
        if self.table == Table::Trips && time > driver.began {
            let duration_s = (time - driver.began + 999) / 1_000;
            let (from, to) = (driver.began_cell, driver.to.cell());
            out.push_back(Row::Trip { driver: id, from, to, reward_cents, duration_s, time: self.micros(time) });
        }
    }

    fn show(&self, id: u32, at: i64, deleted: bool, out: &mut VecDeque<Row>) {
        if self.table == Table::Drivers {
            let driver = &self.drivers[id as usize];
            out.push_back(Row::Driver { id, at: driver.at(at), status: driver.status, time: self.micros(at), deleted });
        }
    }

    /// Every driver on shift tells its place twice a minute, each at its own second.
    fn reports(&self, out: &mut VecDeque<Row>) {
        let second = self.now / 1_000 % REPORT_S;
        for id in (second as usize..self.drivers.len()).step_by(REPORT_S as usize) {
            if self.drivers[id].status != Status::Offline {
                self.show(id as u32, self.now, false, out);
            }
        }
    }
}
