//! A day in closed loop: every two seconds orders come, drivers come free, someone decides, and time goes on.
//!
//! The competition's rules hold: an order is offered in its round (or as long as its patience lasts, if the scenario has
//! any), a driver within 2 km may be sent, it drives to the pickup at 3 m/s and takes the trip's time. A passenger who is
//! told the distance may cancel; then the driver stays where it is. Ours: drivers on their way to where they will wait are
//! available, and stand where they are each minute; an idle driver left to itself turns every five minutes.
//!
//! Who decides is an agent in here ([`run`]), or somebody outside who is told all that happens ([`run_by`]).

use operators::dispatch::candidates::{Candidate, Idle, Point};
use operators::dispatch::matching::{self, Edge};
use operators::dispatch::offline::{Offline, Recorded, spread};
use operators::dispatch::policy::{Pair, Weight};
use operators::dispatch::random;
use operators::dispatch::reposition::Choice;
use operators::dispatch::tiles::{Cells, Coding, Place};
use operators::dispatch::value::{Anchor, Change, StepSize, Transition, Value};

use crate::agent::{Agent, Believed, Matched, Population};
use crate::calibration as numbers;
use crate::day::Day;
use crate::demand::{City, DAY_SECS, Order, Shift};
use crate::outside::{Decisions, Dispatcher, News, What as Told};

/// Seconds a slot of offline value functions.
pub const SLOT_SECS: u32 = 600;
/// Slots a day.
pub const SLOTS: u32 = DAY_SECS / SLOT_SECS;
const ROUND: u32 = numbers::ROUND_SECS;
const ROUNDS: u32 = DAY_SECS / ROUND;
/// Seconds from one position of a driver on its way to the next.
const LEG_SECS: u32 = 60;

/// What is given, whatever the policy.
#[derive(Clone, Debug)]
pub struct Scenario<'a> {
    /// The city.
    pub city: &'a City,
    /// All cells of its value tables, by [`atlas`].
    pub cells: &'a Cells,
    /// The day's orders, by time.
    pub orders: &'a [Order],
    /// The day's shifts.
    pub shifts: &'a [Shift],
    /// The drivers the agent may reposition; they do not turn by themselves. Ascending.
    pub controlled: &'a [u32],
    /// How long an order stays open, in seconds; 2 by the competition's rules.
    pub patience_secs: u32,
    /// Expected orders by hour and hexagon, for agents that want to know.
    pub forecast: &'a [Vec<f64>],
    /// The seed of what happens during the day.
    pub seed: u64,
}

/// Every cell of a city's value tables, numbered the same in all runs: a table that was learned on one day can be used on
/// another.
pub fn atlas(city: &City, coding: Coding) -> Cells {
    let mut cells = Cells::new(coding);
    for hexagon in 0..city.hexagons.len() as u32 {
        let centre = city.hexagons.centre(hexagon);
        cells.place(u64::from(hexagon), centre.x, centre.y);
    }
    if let Coding::Tiles { size } = coding {
        let side = city.hexagons.side_m();
        let steps = (10.0 * side / size).ceil() as u32;
        let at = |step: u32| (f64::from(step) * size / 10.0).min(side);
        for (x, y) in (0..=steps).flat_map(|x| (0..=steps).map(move |y| (x, y))) {
            let point = Point { x: at(x), y: at(y) };
            cells.place(u64::from(city.hexagons.at(&point)), point.x, point.y);
        }
    }
    cells
}

/// What a driver went through, from when it came free, or a slot began, to the end of its next trip or of the slot.
#[derive(Clone, Copy, Debug)]
pub struct Lived {
    /// Where it waited first.
    pub from: Place,
    /// Since when, in seconds of the day.
    pub since: u32,
    /// For how long, in seconds.
    pub waited_secs: f64,
    /// What the trip took, pickup included, in seconds; 0 without a trip.
    pub busy_secs: f64,
    /// The fee.
    pub reward: f64,
    /// Where it was then.
    pub to: Place,
}

/// How history is discounted for offline learning.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Discounts {
    /// γ of ten minutes of work.
    pub gamma: f64,
    /// How many seconds of work a second of waiting counts as.
    pub idle_weight: f64,
    /// Whether fees are spread over the trip.
    pub is_spread: bool,
}

impl Lived {
    /// As offline learning takes it.
    pub fn recorded(&self, how: &Discounts) -> Recorded {
        let slot_secs = f64::from(SLOT_SECS);
        let decay = |secs: f64| libm::pow(how.gamma, secs / slot_secs);
        let waited = decay(self.waited_secs * how.idle_weight);
        let units = (self.busy_secs / slot_secs).ceil();
        let fee = if how.is_spread { spread(self.reward, how.gamma, units as u32) } else { self.reward };
        let ends = self.since + (self.waited_secs + self.busy_secs) as u32;
        Recorded {
            from: self.from,
            slot: self.since / SLOT_SECS,
            reward: waited * fee,
            discount: waited * decay(self.busy_secs),
            to: (ends < DAY_SECS).then_some((self.to, ends / SLOT_SECS)),
        }
    }
}

/// Runs a day. If `record`, what all drivers went through comes with it, for offline learning.
pub fn run(scenario: &Scenario<'_>, agent: &Agent, record: bool) -> (Day, Vec<Lived>) {
    let mut world = World::new(scenario, agent, record, None);
    for round in 0..ROUNDS {
        world.round(round);
    }
    world.finish()
}

/// What the centres of all hexagons are worth to an agent at the end of the rounds that begin at these times, ascending.
pub fn values(scenario: &Scenario<'_>, agent: &Agent, at_secs: &[u32]) -> Vec<Vec<f64>> {
    let mut world = World::new(scenario, agent, false, None);
    let mut seen = Vec::new();
    for round in 0..ROUNDS {
        world.round(round);
        if at_secs.contains(&(round * ROUND)) {
            let worth = |hexagon: u32| {
                let place = place_of(&mut world.cells, hexagon, &scenario.city.hexagons.centre(hexagon));
                world.worth(&place, round * ROUND)
            };
            seen.push((0..scenario.city.hexagons.len() as u32).map(worth).collect());
        }
    }
    seen
}

/// Runs a part of a day, from a second to another, in which somebody outside decides. Shifts that began before begin with it;
/// at the end of the day all drivers are offline.
pub fn run_by(
    scenario: &Scenario<'_>,
    dispatcher: &mut dyn Dispatcher,
    (from, until): (u32, u32),
) -> Result<Day, String> {
    let agent = Agent::nearest();
    let mut world = World::new(scenario, &agent, false, Some(Outside { dispatcher, news: Vec::new(), failed: None }));
    world.skip(from);
    for round in from.div_ceil(ROUND)..until.min(DAY_SECS) / ROUND {
        world.round(round);
        if let Some(why) = world.outside.as_mut().and_then(|outside| outside.failed.take()) {
            return Err(why);
        }
    }
    Ok(world.finish().0)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum What {
    Begin,
    End,
    Free,
    Leg,
    Turn,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Event {
    driver: u32,
    what: What,
    /// Void if the driver has another by now.
    stamp: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Status {
    Offline,
    Idle,
    Busy,
}

#[derive(Clone, Debug)]
struct Driver {
    status: Status,
    at: Point,
    place: Place,
    hexagon: u32,
    /// Where it is on its way to, if idle and not staying.
    target: Option<(Point, u32)>,
    stamp: u32,
    is_controlled: bool,
    online_since: u32,
    /// Where and when what is recorded next began.
    entry: (Place, u32),
    /// Where it stood when those outside were last told, and when that was.
    told: (Point, u32),
}

/// Who decides, if it is not the agent, and what there is to tell.
struct Outside<'a> {
    dispatcher: &'a mut dyn Dispatcher,
    news: Vec<News>,
    failed: Option<String>,
}

#[derive(Clone, Copy, Debug)]
struct Open {
    order: u32,
    until: u32,
    to: Place,
}

struct World<'a> {
    scenario: &'a Scenario<'a>,
    agent: &'a Agent,
    cells: Cells,
    value: Value,
    drivers: Vec<Driver>,
    wheel: Vec<Vec<Event>>,
    idle: Idle,
    /// The idle drivers in order, and their places beside them: gone through every round.
    idle_ids: Vec<u32>,
    idle_places: Vec<Place>,
    /// Idle drivers by the hexagon they are in or on their way to.
    supply: Vec<u32>,
    open: Vec<Open>,
    next_order: usize,
    /// The round in which a driver was last a candidate.
    seen: Vec<u32>,
    record: bool,
    history: Vec<Lived>,
    day: Day,
    outside: Option<Outside<'a>>,
    // Scratch.
    candidates: Vec<Candidate>,
    edges: Vec<Edge>,
    parts: Vec<(Weight, f64, u32)>,
    moves: Vec<(u32, Transition)>,
}

impl<'a> World<'a> {
    fn new(scenario: &'a Scenario<'a>, agent: &'a Agent, record: bool, outside: Option<Outside<'a>>) -> World<'a> {
        let mut cells = scenario.cells.clone();
        let step = match agent.believed {
            Believed::Online(learning, _) => learning.step,
            _ => StepSize::Constant(1.0),
        };
        let mut value = Value::new(agent.coding, step, 0.0);
        value.grow(cells.len());
        if let Believed::Online(_, Some((offline, _))) = &agent.believed {
            value.set_offline(offline.clone());
        }
        let city = scenario.city;
        let mut wheel = vec![Vec::new(); ROUNDS as usize + 1];
        let mut drivers = Vec::with_capacity(scenario.shifts.len());
        for (number, shift) in scenario.shifts.iter().enumerate() {
            let hexagon = city.hexagons.at(&shift.start);
            let place = place_of(&mut cells, hexagon, &shift.start);
            let driver = number as u32;
            let is_controlled = scenario.controlled.binary_search(&driver).is_ok();
            wheel[(shift.from / ROUND) as usize].push(Event { driver, what: What::Begin, stamp: 0 });
            drivers.push(Driver {
                status: Status::Offline,
                at: shift.start,
                place,
                hexagon,
                target: None,
                stamp: 0,
                is_controlled,
                online_since: 0,
                entry: (place, 0),
                told: (shift.start, 0),
            });
        }
        let count = drivers.len();
        World {
            scenario,
            agent,
            cells,
            value,
            drivers,
            wheel,
            idle: Idle::new(numbers::RADIUS_M),
            idle_ids: Vec::new(),
            idle_places: Vec::new(),
            supply: vec![0; city.hexagons.len()],
            open: Vec::new(),
            next_order: 0,
            seen: vec![u32::MAX; count],
            record,
            history: Vec::new(),
            day: Day {
                orders: scenario.orders.len(),
                answered: 0,
                cancelled: 0,
                pickup_m: 0.0,
                waiting_secs: 0.0,
                trip_secs: 0.0,
                income: vec![0.0; count],
                online_secs: vec![0.0; count],
                income_by_slot: vec![0.0; SLOTS as usize],
                updates: 0,
            },
            outside,
            candidates: Vec::new(),
            edges: Vec::new(),
            parts: Vec::new(),
            moves: Vec::new(),
        }
    }

    fn round(&mut self, round: u32) {
        let now = round * ROUND;
        self.change_point(now);
        if self.record && now.is_multiple_of(SLOT_SECS) {
            self.record_slot(now);
        }
        let mut events = std::mem::take(&mut self.wheel[round as usize]);
        events.sort_unstable();
        for event in events {
            self.happen(event, now);
        }
        self.take_orders(now);
        if self.outside.is_some() {
            self.ask(now);
            return;
        }
        self.weigh(round, now);
        let matched = matching::best(&self.edges);
        self.serve(&matched, now);
        self.learn(round);
        self.open.retain(|open| open.until > now + ROUND);
    }

    fn finish(mut self) -> (Day, Vec<Lived>) {
        for driver in 0..self.drivers.len() {
            if self.drivers[driver].status != Status::Offline {
                self.day.online_secs[driver] += f64::from(DAY_SECS - self.drivers[driver].online_since.min(DAY_SECS));
            }
        }
        (self.day, self.history)
    }

    fn change_point(&mut self, now: u32) {
        let Believed::Online(_, Some((_, ensemble))) = &self.agent.believed else { return };
        if now.is_multiple_of(ensemble.every_secs) {
            let keep = if now == 0 { 0.0 } else { ensemble.keep };
            self.value.change(Change { keep, anchor: Anchor::Offline(now / SLOT_SECS) });
        }
    }

    fn happen(&mut self, event: Event, now: u32) {
        let Event { driver, what, stamp } = event;
        let is_void = self.drivers[driver as usize].stamp != stamp;
        match what {
            What::Begin => {
                self.drivers[driver as usize].online_since = now;
                let until = self.scenario.shifts[driver as usize].until;
                self.at(until, Event { driver, what: What::End, stamp: 0 });
                self.become_idle(driver, now);
                self.tell_driver(driver, "online", now);
            }
            What::End => {
                if self.drivers[driver as usize].status == Status::Idle {
                    self.leave_idle(driver);
                    self.tell_waited(driver, now);
                    self.go_offline(driver, now);
                }
            }
            What::Free => {
                if now >= self.scenario.shifts[driver as usize].until {
                    self.go_offline(driver, now);
                } else {
                    self.become_idle(driver, now);
                    self.tell_driver(driver, "free", now);
                }
            }
            What::Leg if !is_void => self.leg(driver, now),
            What::Turn if !is_void => self.turn(driver, now),
            What::Leg | What::Turn => {}
        }
    }

    fn at(&mut self, secs: u32, event: Event) {
        let round = secs.div_ceil(ROUND);
        if round < ROUNDS {
            self.wheel[round as usize].push(event);
        }
    }

    fn become_idle(&mut self, driver: u32, now: u32) {
        let d = &mut self.drivers[driver as usize];
        d.status = Status::Idle;
        d.target = None;
        d.stamp += 1;
        d.entry = (d.place, now);
        d.told = (d.at, now);
        let stamp = d.stamp;
        let (at, place, hexagon) = (d.at, d.place, d.hexagon);
        self.idle.insert(driver, at);
        let slot = self.idle_ids.binary_search(&driver).expect_err("it was not idle");
        self.idle_ids.insert(slot, driver);
        self.idle_places.insert(slot, place);
        self.supply[hexagon as usize] += 1;
        self.at(now + numbers::IDLE_SECS, Event { driver, what: What::Turn, stamp });
    }

    fn leave_idle(&mut self, driver: u32) {
        let d = &mut self.drivers[driver as usize];
        d.stamp += 1;
        let hexagon = d.target.map_or(d.hexagon, |(_, hexagon)| hexagon);
        let at = d.at;
        let was_there = self.idle.remove(driver, at);
        debug_assert!(was_there);
        let slot = self.idle_ids.binary_search(&driver).expect("it is idle");
        self.idle_ids.remove(slot);
        self.idle_places.remove(slot);
        self.supply[hexagon as usize] -= 1;
    }

    fn go_offline(&mut self, driver: u32, now: u32) {
        let d = &mut self.drivers[driver as usize];
        d.status = Status::Offline;
        self.day.online_secs[driver as usize] += f64::from(now - d.online_since);
        self.tell_driver(driver, "offline", now);
    }

    /// One more minute on the way to where it will wait.
    fn leg(&mut self, driver: u32, now: u32) {
        let d = &self.drivers[driver as usize];
        let Some((target, heading)) = d.target else { return };
        let (from, before) = (d.at, d.place);
        let left = from.distance_m(&target);
        let leg = numbers::SPEED * f64::from(LEG_SECS);
        let at = if left <= leg {
            target
        } else {
            Point { x: from.x + (target.x - from.x) * leg / left, y: from.y + (target.y - from.y) * leg / left }
        };
        let hexagon = self.scenario.city.hexagons.at(&at);
        let place = place_of(&mut self.cells, hexagon, &at);
        let d = &mut self.drivers[driver as usize];
        (d.at, d.place, d.hexagon) = (at, place, hexagon);
        let stamp = d.stamp;
        self.idle.remove(driver, from);
        self.idle.insert(driver, at);
        let slot = self.idle_ids.binary_search(&driver).expect("it is idle");
        self.idle_places[slot] = place;
        self.tell_waited(driver, now);
        self.tell_driver(driver, "position", now);
        if matches!(&self.agent.believed, Believed::Online(l, _) if l.population == Population::Fleet) {
            // The round's time is discounted with the round: here only the place changes.
            let step = Transition { from: before, to: Some(place), reward: 0.0, discount: 1.0 };
            self.day.updates += u64::from(self.value.learn(&step).is_ok());
        }
        if at == target {
            let d = &mut self.drivers[driver as usize];
            d.target = None;
            self.supply[heading as usize] -= 1;
            self.supply[hexagon as usize] += 1;
            // Its idle time has gone on: who is controlled may be sent on at once.
            let pause = if self.drivers[driver as usize].is_controlled { ROUND } else { numbers::IDLE_SECS };
            self.at(now + pause, Event { driver, what: What::Turn, stamp });
        } else {
            self.at(now + LEG_SECS, Event { driver, what: What::Leg, stamp });
        }
    }

    /// An idle driver decides where to wait, or is told.
    fn turn(&mut self, driver: u32, now: u32) {
        let d = &self.drivers[driver as usize];
        if d.is_controlled && self.outside.is_some() {
            // It is sent when those outside send it.
            return;
        }
        let (hexagon, stamp, seed) = (d.hexagon, d.stamp, self.scenario.seed);
        let city = self.scenario.city;
        let to = if d.is_controlled {
            self.reposition(driver, now)
        } else {
            let luck = random::uniform(seed ^ 0x7075, u64::from(driver), u64::from(now));
            city.turn((now / 3_600) as usize, hexagon, luck)
        };
        match to.filter(|to| *to != hexagon) {
            Some(to) => self.go(driver, to, now),
            None => self.at(now + numbers::IDLE_SECS, Event { driver, what: What::Turn, stamp }),
        }
    }

    /// Sends an idle driver to a hexagon; one that is on its way already changes its mind.
    fn go(&mut self, driver: u32, to: u32, now: u32) {
        let target = self.scenario.city.point_in(to, self.scenario.seed, u64::from(driver), u64::from(now));
        let d = &mut self.drivers[driver as usize];
        let (before, stamp) = (d.target.replace((target, to)), d.stamp);
        self.supply[before.map_or(d.hexagon, |(_, heading)| heading) as usize] -= 1;
        self.supply[to as usize] += 1;
        if before.is_none() {
            self.at(now + LEG_SECS, Event { driver, what: What::Leg, stamp });
        }
    }

    fn reposition(&mut self, driver: u32, now: u32) -> Option<u32> {
        let how = self.agent.repositioning?;
        let city = self.scenario.city;
        let d = &self.drivers[driver as usize];
        let (here, at, place) = (d.hexagon, d.at, d.place);
        let around = city.hexagons.around(here, how.rings);
        let hour = (now / 3_600) as usize;
        let choices: Vec<Choice> = around
            .iter()
            .map(|hexagon| {
                let is_here = *hexagon == here;
                let centre = city.hexagons.centre(*hexagon);
                let there = if is_here { place } else { place_of(&mut self.cells, *hexagon, &centre) };
                let secs = if is_here { 0.0 } else { at.distance_m(&centre) / numbers::SPEED };
                let value = self.worth(&there, now + secs as u32);
                let discount = libm::pow(how.gamma, secs / 600.0);
                // It is in the supply of where it is itself.
                let supply = f64::from(self.supply[*hexagon as usize] - u32::from(is_here));
                let demand = self.scenario.forecast[hour][*hexagon as usize] * how.horizon_secs / 3_600.0;
                Choice { value: value * how.thinning.factor(supply, demand), discount, supply, demand }
            })
            .collect();
        let seed = self.scenario.seed ^ 0x7265_706f;
        how.rule.choose(&choices, seed, u64::from(driver), u64::from(now)).map(|at| around[at])
    }

    /// What a place is believed to be worth at a time.
    fn worth(&self, place: &Place, secs: u32) -> f64 {
        match &self.agent.believed {
            Believed::Nothing => 0.0,
            Believed::Offline(offline) => offline_at(offline, place, secs),
            Believed::Online(..) => self.value.of(place),
        }
    }

    fn take_orders(&mut self, now: u32) {
        while let Some(order) = self.scenario.orders.get(self.next_order).filter(|o| o.at < f64::from(now + ROUND)) {
            let hexagon = self.scenario.city.hexagons.at(&order.to);
            let to = place_of(&mut self.cells, hexagon, &order.to);
            let until = now + self.scenario.patience_secs.max(ROUND);
            let at = order.at.max(moment(now));
            match &mut self.outside {
                Some(outside) => outside.news.push(News { at, what: Told::Order(self.next_order as u32) }),
                None => self.open.push(Open { order: self.next_order as u32, until, to }),
            }
            self.next_order += 1;
        }
    }

    /// Begins in the middle of the day: the shifts of the time before begin now, its orders are gone.
    fn skip(&mut self, until: u32) {
        let round = until.div_ceil(ROUND);
        let begins: Vec<Event> = self.wheel[..round as usize].iter_mut().flat_map(std::mem::take).collect();
        let shifts = &self.scenario.shifts;
        let on = |event: &Event| shifts[event.driver as usize].until > until;
        self.wheel[round as usize].extend(begins.into_iter().filter(on));
        self.next_order = self.scenario.orders.partition_point(|order| order.at < f64::from(until));
    }

    /// Tells those outside what happened, and does what they say.
    fn ask(&mut self, now: u32) {
        let then = now + ROUND;
        if then == DAY_SECS {
            for driver in 0..self.drivers.len() as u32 {
                if self.drivers[driver as usize].status != Status::Offline {
                    self.tell_driver(driver, "offline", now);
                }
            }
        }
        let Some(outside) = self.outside.as_mut().filter(|o| then.is_multiple_of(o.dispatcher.every_secs())) else {
            return;
        };
        let mut news = std::mem::take(&mut outside.news);
        news.sort_by(|a, b| a.at.total_cmp(&b.at));
        let Decisions { matches, moves } = match outside.dispatcher.ask(self.scenario, then, &news) {
            Ok(decisions) => decisions,
            Err(why) => return self.fail(why),
        };
        for (order, driver) in matches {
            let of = self.scenario.orders.get(order as usize).copied();
            let d = self.drivers.get(driver as usize).filter(|d| d.status == Status::Idle);
            let (Some(of), Some(d)) = (of, d) else {
                let why =
                    format!("driver {driver} is sent to order {order} at {then}: one is not of the day, or not idle");
                return self.fail(why);
            };
            let distance_m = d.at.distance_m(&of.from);
            let hexagon = self.scenario.city.hexagons.at(&of.to);
            let to = place_of(&mut self.cells, hexagon, &of.to);
            self.day.answered += 1;
            self.day.pickup_m += distance_m;
            self.send(order, driver, distance_m, to, now);
        }
        for (driver, to) in moves {
            let known = (to as usize) < self.scenario.city.hexagons.len();
            let Some(d) = self.drivers.get(driver as usize).filter(|_| known) else {
                return self.fail(format!("driver {driver} is sent to wait in {to} at {then}: one is not of the city"));
            };
            let (is_idle, here) = (d.status == Status::Idle && d.is_controlled, d.hexagon);
            if is_idle && (to != here || d.target.is_some()) {
                self.go(driver, to, then);
            } else if is_idle {
                self.tell_waited(driver, then);
                self.tell_driver(driver, "position", then);
            }
        }
    }

    /// Ends the day before its time.
    fn fail(&mut self, why: String) {
        if let Some(outside) = &mut self.outside {
            outside.failed = Some(why);
        }
    }

    /// What a driver does.
    fn tell_driver(&mut self, driver: u32, event: &'static str, now: u32) {
        let place = self.drivers[driver as usize].at;
        if let Some(outside) = &mut self.outside {
            outside.news.push(News { at: moment(now), what: Told::Driver { driver, event, place } });
        }
    }

    /// What a driver has been through since those outside were last told: it waited.
    fn tell_waited(&mut self, driver: u32, now: u32) {
        let d = &mut self.drivers[driver as usize];
        let (to, secs) = (d.at, now.saturating_sub(d.told.1));
        let (from, _) = std::mem::replace(&mut d.told, (to, now));
        if let Some(outside) = self.outside.as_mut().filter(|_| secs > 0) {
            let what = Told::Transition { driver, from, to, reward: 0.0, secs: f64::from(secs) };
            outside.news.push(News { at: moment(now), what });
        }
    }

    /// All pairs of the round, with what they are worth.
    fn weigh(&mut self, round: u32, now: u32) {
        let mut edges = std::mem::take(&mut self.edges);
        let mut parts = std::mem::take(&mut self.parts);
        let mut near = std::mem::take(&mut self.candidates);
        edges.clear();
        parts.clear();
        let wants_all =
            matches!(&self.agent.believed, Believed::Online(l, _) if l.population == Population::Candidates);
        let policy = &self.agent.policy;
        for (at, open) in self.open.iter().enumerate() {
            let order = &self.scenario.orders[open.order as usize];
            if wants_all {
                let seen = &mut self.seen;
                self.idle.each_within(&order.from, |candidate| seen[candidate.driver as usize] = round);
            }
            self.idle.nearest(&order.from, self.agent.candidates, &mut near);
            for candidate in &near {
                let pickup_secs = candidate.distance_m / numbers::SPEED;
                let ends = now + (pickup_secs + order.trip_secs) as u32;
                let value = |place: &Place, secs: u32| self.worth(place, secs);
                let (value_destination, value_origin) = if policy.is_far_sighted {
                    (value(&open.to, ends), value(&self.drivers[candidate.driver as usize].place, now))
                } else {
                    (0.0, 0.0)
                };
                let pair = Pair {
                    distance_m: candidate.distance_m,
                    pickup_secs,
                    trip_secs: order.trip_secs,
                    reward: order.reward,
                    value_destination,
                    value_origin,
                };
                let weight = policy.weigh(&pair);
                edges.push(Edge { order: open.order, driver: candidate.driver, weight: weight.total });
                parts.push((weight, candidate.distance_m, at as u32));
            }
        }
        (self.edges, self.parts, self.candidates) = (edges, parts, near);
    }

    /// Sends the matched drivers.
    fn serve(&mut self, matched: &[u32], now: u32) {
        self.moves.clear();
        for at in matched {
            let edge = self.edges[*at as usize];
            let (weight, distance_m, open) = self.parts[*at as usize];
            let open = &mut self.open[open as usize];
            let to = open.to;
            // It is answered, whatever comes of it.
            open.until = 0;
            self.day.answered += 1;
            self.day.pickup_m += distance_m;
            if self.learns_of(Matched::Weight) {
                // Matched: not idle, and the place moves by the weight.
                let from = self.drivers[edge.driver as usize].place;
                self.seen[edge.driver as usize] = u32::MAX;
                self.day.updates += u64::from(self.value.shift(&from, weight.total).is_ok());
            }
            self.send(edge.order, edge.driver, distance_m, to, now);
        }
    }

    fn learns_of(&self, matched: Matched) -> bool {
        matches!(&self.agent.believed, Believed::Online(learning, _) if learning.matched == matched)
    }

    /// Sends a driver to an order, unless the passenger cancels.
    fn send(&mut self, order: u32, driver: u32, distance_m: f64, to: Place, now: u32) {
        let order = self.scenario.orders[order as usize];
        if order.luck < self.scenario.city.cancels(&order, distance_m) {
            self.day.cancelled += 1;
            self.tell_driver(driver, "busy", now + ROUND);
            self.tell_driver(driver, "free", now + ROUND);
            return;
        }
        let from = self.drivers[driver as usize].place;
        let pickup_secs = distance_m / numbers::SPEED;
        let busy_secs = pickup_secs + order.trip_secs;
        self.day.income[driver as usize] += order.reward;
        self.day.trip_secs += order.trip_secs;
        self.day.waiting_secs += f64::from(now + ROUND) - order.at + pickup_secs;
        self.day.income_by_slot[(now / SLOT_SECS) as usize] += order.reward;
        let ends = now + busy_secs as u32;
        if self.record {
            let (from, since) = self.drivers[driver as usize].entry;
            let waited_secs = f64::from(now - since);
            self.history.push(Lived { from, since, waited_secs, busy_secs, reward: order.reward, to });
        }
        self.tell_waited(driver, now + ROUND);
        self.tell_driver(driver, "busy", now + ROUND);
        self.leave_idle(driver);
        if self.learns_of(Matched::Trip) {
            let discount = self.agent.policy.discount(pickup_secs, order.trip_secs);
            let trip = Transition { from, to: Some(to), reward: order.reward, discount };
            self.moves.push((driver, trip));
        }
        if let Some(outside) = &mut self.outside {
            let from = self.drivers[driver as usize].at;
            let what = Told::Transition { driver, from, to: order.to, reward: order.reward, secs: busy_secs };
            outside.news.push(News { at: moment(now + ROUND), what });
        }
        let d = &mut self.drivers[driver as usize];
        d.status = Status::Busy;
        d.target = None;
        d.at = order.to;
        d.place = to;
        d.hexagon = self.scenario.city.hexagons.at(&order.to);
        let stamp = d.stamp;
        self.at(ends.max(now + ROUND), Event { driver, what: What::Free, stamp });
    }

    /// The round's transitions, dispatched and idle, in the order of the drivers.
    fn learn(&mut self, round: u32) {
        let Believed::Online(learning, _) = &self.agent.believed else { return };
        self.moves.sort_unstable_by_key(|(driver, _)| *driver);
        let mut trips = self.moves.iter().peekable();
        let discount = learning.idle_discount;
        let mut updates = 0;
        for (driver, place) in self.idle_ids.iter().zip(&self.idle_places) {
            while let Some((_, trip)) = trips.next_if(|(other, _)| other < driver) {
                updates += u64::from(self.value.learn(trip).is_ok());
            }
            if learning.population == Population::Fleet || self.seen[*driver as usize] == round {
                updates += u64::from(self.value.learn_idle(place, discount).is_ok());
            }
        }
        for (_, trip) in trips {
            updates += u64::from(self.value.learn(trip).is_ok());
        }
        self.day.updates += updates;
    }

    /// A slot begins: who waits has waited, and begins anew.
    fn record_slot(&mut self, now: u32) {
        for driver in &self.idle_ids {
            let d = &mut self.drivers[*driver as usize];
            let (from, since) = std::mem::replace(&mut d.entry, (d.place, now));
            if since < now {
                let waited_secs = f64::from(now - since);
                self.history.push(Lived { from, since, waited_secs, busy_secs: 0.0, reward: 0.0, to: d.place });
            }
        }
    }
}

fn offline_at(offline: &Offline, place: &Place, secs: u32) -> f64 {
    if secs >= DAY_SECS { 0.0 } else { offline.of(secs / SLOT_SECS, place) }
}

/// What is told of a round is told a little after it, so that the decisions of its second have been made.
fn moment(now: u32) -> f64 {
    f64::from(now) + 0.001
}

fn place_of(cells: &mut Cells, hexagon: u32, at: &Point) -> Place {
    cells.place(u64::from(hexagon), at.x, at.y).expect("the plane is finite")
}
