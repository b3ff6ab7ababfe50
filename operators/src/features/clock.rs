//! When a vector is told: at every so many ticks or trades, after so much volume, or once in so much time.

use super::market::Tick;
use super::save::{Reader, Writer};

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Clock {
    /// Every so many ticks.
    Event(u64),
    /// Every so many trades.
    Trade(u64),
    /// As soon as so much was traded since the last vector.
    Volume(f64),
    /// At the first tick of each interval of so many microseconds, the one in which the history began excepted.
    Time(i64),
}

/// Where the clock stands.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Pace {
    count: u64,
    volume: f64,
    last_at: Option<i64>,
}

impl Pace {
    /// Takes the next tick. Gives whether a vector is due.
    pub fn take(&mut self, clock: Clock, tick: &Tick) -> bool {
        match clock {
            Clock::Event(every) => self.count(every),
            Clock::Trade(every) => tick.trade.is_some() && self.count(every),
            Clock::Volume(volume) => {
                self.volume += tick.trade.map_or(0.0, |t| t.size);
                let is_due = self.volume >= volume;
                if is_due {
                    self.volume = 0.0;
                }
                is_due
            }
            Clock::Time(micros) => {
                let last = self.last_at.replace(tick.at);
                last.is_some_and(|last| last.div_euclid(micros) < tick.at.div_euclid(micros))
            }
        }
    }

    fn count(&mut self, every: u64) -> bool {
        self.count = (self.count + 1) % every;
        self.count == 0
    }

    /// Its bytes.
    pub fn save(&self, out: &mut Writer) {
        out.int(self.count as i64);
        out.float(self.volume);
        out.int(self.last_at.unwrap_or(i64::MIN));
    }

    /// What [`Pace::save`] wrote.
    pub fn restore(bytes: &mut Reader<'_>) -> Pace {
        let (count, volume, last_at) = (bytes.int() as u64, bytes.float(), bytes.int());
        Pace { count, volume, last_at: (last_at != i64::MIN).then_some(last_at) }
    }
}
