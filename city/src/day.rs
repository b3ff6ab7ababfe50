//! What came of a day.

use crate::statistics::gini;

/// The figures of a day.
#[derive(Clone, Debug, PartialEq)]
pub struct Day {
    /// Orders placed.
    pub orders: usize,
    /// Orders a driver was sent for.
    pub answered: usize,
    /// Of these, those cancelled by the passenger.
    pub cancelled: usize,
    /// The sum of pickup distances of the answered, in metres.
    pub pickup_m: f64,
    /// The sum of the times from order to pickup of the completed, in seconds.
    pub waiting_secs: f64,
    /// The sum of the trips' times, without pickups, in seconds.
    pub trip_secs: f64,
    /// Income by driver.
    pub income: Vec<f64>,
    /// Seconds online by driver, overtime included.
    pub online_secs: Vec<f64>,
    /// Income by slot of ten minutes in which the driver was sent.
    pub income_by_slot: Vec<f64>,
    /// TD updates made.
    pub updates: u64,
}

impl Day {
    /// J: the income of all drivers.
    pub fn total(&self) -> f64 {
        self.income.iter().sum()
    }

    /// G: the mean over drivers of income per online hour, as the competition has it.
    pub fn income_per_hour(&self, drivers: &[u32]) -> f64 {
        let rate = |driver: &u32| {
            let (income, secs) = (self.income[*driver as usize], self.online_secs[*driver as usize]);
            if secs > 0.0 { income / (secs / 3_600.0) } else { 0.0 }
        };
        drivers.iter().map(rate).sum::<f64>() / drivers.len() as f64
    }

    /// The part of the orders a driver was sent for.
    pub fn answer_rate(&self) -> f64 {
        self.answered as f64 / self.orders as f64
    }

    /// Orders that came to an end with a fee.
    pub fn completed(&self) -> usize {
        self.answered - self.cancelled
    }

    /// The mean pickup distance, in metres.
    pub fn pickup_mean_m(&self) -> f64 {
        self.pickup_m / self.answered.max(1) as f64
    }

    /// The mean time from order to pickup, in seconds.
    pub fn waiting_mean_secs(&self) -> f64 {
        self.waiting_secs / self.completed().max(1) as f64
    }

    /// Orders completed an hour online.
    pub fn completed_per_hour(&self) -> f64 {
        self.completed() as f64 * 3_600.0 / self.online_secs.iter().sum::<f64>()
    }

    /// The part of the time online that was spent with a passenger.
    pub fn utilisation(&self) -> f64 {
        self.trip_secs / self.online_secs.iter().sum::<f64>()
    }

    /// How unequal the drivers' incomes per online hour are.
    pub fn gini(&self) -> f64 {
        let rate = |(income, secs): (&f64, &f64)| if *secs > 0.0 { income / secs } else { 0.0 };
        gini(&self.income.iter().zip(&self.online_secs).map(rate).collect::<Vec<f64>>())
    }
}
