//! What somebody outside is told of the city, and how they answer: the closed loop with the decisions made elsewhere.

use operators::dispatch::candidates::Point;

use crate::world::Scenario;

/// Something that happened.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct News {
    /// When, in seconds of the day.
    pub at: f64,
    /// What.
    pub what: What,
}

/// What may happen.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum What {
    /// An order is placed: this one of the day's.
    Order(u32),
    /// A driver reports.
    Driver {
        /// Which.
        driver: u32,
        /// `online`, `position`, `busy`, `free` or `offline`, as the step `dispatch` reads them.
        event: &'static str,
        /// Where it is.
        place: Point,
    },
    /// A driver has lived through something: a trip, with its pickup, or a time of waiting.
    Transition {
        /// Which.
        driver: u32,
        /// Where it began.
        from: Point,
        /// Where it ended.
        to: Point,
        /// The fee; 0 for waiting.
        reward: f64,
        /// How long it took, in seconds.
        secs: f64,
    },
}

/// What those outside decide.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Decisions {
    /// Orders, each with the driver that is sent.
    pub matches: Vec<(u32, u32)>,
    /// Idle drivers, each with the hexagon it shall wait in.
    pub moves: Vec<(u32, u32)>,
}

/// Somebody outside who decides.
pub trait Dispatcher {
    /// How often they want to be asked, in seconds: a multiple of the round that divides a day.
    fn every_secs(&self) -> u32;

    /// Told everything that has happened before a second of the day since they were asked last, by time, says what they
    /// decide at that second; an error ends the day.
    fn ask(&mut self, scenario: &Scenario<'_>, at: u32, news: &[News]) -> Result<Decisions, String>;
}
