//! The numbers the city is made of: published aggregates of the Chengdu month, and what we chose where none is.
//!
//! Published: GAIA / KDD Cup 2020, Chengdu, November 2016, as reported by participants and the competition's rules.
//! Measured: aggregates of a published sample of 10,000 driver transitions of the same month. Ours: the rest.

/// Orders on 1 November. Published.
pub const ORDERS: usize = 209_423;
/// Drivers seen on 1 November. Published (start list of that day: 20,187).
pub const DRIVERS: usize = 20_187;
/// Orders by hour of the day, of the month. Published.
pub const ORDERS_BY_HOUR: [f64; 24] = [
    122_710.0, 80_986.0, 53_864.0, 34_233.0, 32_091.0, 29_507.0, 53_975.0, 216_931.0, 316_360.0, 371_745.0, 346_841.0,
    340_028.0, 342_238.0, 409_667.0, 409_136.0, 376_956.0, 367_832.0, 386_099.0, 370_574.0, 349_175.0, 327_661.0,
    312_905.0, 266_716.0, 182_781.0,
];
/// Reward: mean and deviation. Published.
pub const REWARD: (f64, f64) = (4.22, 2.8);
/// Trip duration in seconds: mean and deviation. Published.
pub const TRIP_SECS: (f64, f64) = (1_327.0, 848.0);
/// Mean probability of a cancellation at pickup distances of 200, 400, … 2,000 m. Published.
pub const CANCELS: [f64; 10] = [0.0349, 0.0387, 0.0418, 0.0501, 0.0592, 0.0746, 0.0857, 0.0985, 0.1123, 0.1272];
/// Metres between the points of [`CANCELS`].
pub const CANCEL_STEP_M: f64 = 200.0;
/// The greatest probability of a cancellation. Published.
pub const CANCEL_MAX: f64 = 0.83;
/// How skew cancellations are between orders: the deviation of the logarithm of an order's own factor. Fitted to the
/// published median of 1.1 % at 200 to 600 m, where the mean is 3.5 to 4.2 %.
pub const CANCEL_SKEW: f64 = 1.55;
/// Metres a second, to the pickup and when repositioned. Published rules.
pub const SPEED: f64 = 3.0;
/// Seconds a round. Published rules.
pub const ROUND_SECS: u32 = 2;
/// How far a driver may be from the pickup, in metres. Published rules.
pub const RADIUS_M: f64 = 2_000.0;
/// Seconds until an idle driver may be repositioned. Published rules.
pub const IDLE_SECS: u32 = 300;
/// Mean length of a shift, in seconds; exponential between the bounds below. Fitted so that drivers who are sent by nearness
/// complete 2.24 orders an hour online. Measured: 2.24, if more than half an hour between two records counts as offline.
pub const SHIFT_SECS: f64 = 3.7 * 3_600.0;
/// Mean length of a shift on a day with more drivers than orders. Ours: drivers have a passenger half of the time.
pub const EASY_SHIFT_SECS: f64 = 9.0 * 3_600.0;
/// The shortest and the longest shift, in seconds.
pub const SHIFT_BOUNDS_SECS: (f64, f64) = (1_200.0, 14.0 * 3_600.0);
/// Kilometres an hour by hour of the day. Measured, smoothed.
pub const SPEED_BY_HOUR: [f64; 24] = [
    24.5, 24.5, 25.5, 26.0, 26.0, 27.0, 26.0, 19.5, 16.8, 16.6, 16.8, 17.8, 18.2, 17.2, 16.4, 16.4, 16.0, 14.6, 14.4,
    16.6, 18.2, 19.2, 21.4, 24.5,
];
/// How the fee goes with the distance: a base, the fee a kilometre, the deviation of the rest. Measured.
pub const FEE: (f64, f64, f64) = (0.57, 0.56, 1.0);
/// The side of the square plane, in metres. Ours: half of the published box, which holds nearly all orders.
pub const SIDE_M: f64 = 30_000.0;

/// A part of town.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Quarter {
    /// Where, in metres of the full plane.
    pub x: f64,
    /// Where, in metres of the full plane.
    pub y: f64,
    /// The deviation of its places, in metres.
    pub spread: f64,
    /// How many people live there, relative to the others.
    pub homes: f64,
    /// How many work there.
    pub work: f64,
    /// How many go out there.
    pub leisure: f64,
}

const fn quarter(x: f64, y: f64, spread: f64, homes: f64, work: f64, leisure: f64) -> Quarter {
    Quarter { x, y, spread, homes, work, leisure }
}

/// The parts of town. Ours, such that orders are as concentrated as measured (of all pickups 19 % in ten hexagons, 52 % in
/// fifty, 83 % in two hundred; a deviation of 4 to 5.5 km) and drift between homes, work and leisure by hour.
pub const QUARTERS: [Quarter; 14] = [
    quarter(15_000.0, 15_000.0, 700.0, 4.0, 14.0, 16.0),
    quarter(16_300.0, 14_200.0, 600.0, 3.0, 12.0, 12.0),
    quarter(13_800.0, 16_300.0, 800.0, 6.0, 8.0, 8.0),
    quarter(16_000.0, 18_600.0, 700.0, 3.0, 6.0, 7.0),
    quarter(17_200.0, 10_200.0, 900.0, 4.0, 16.0, 4.0),
    quarter(18_800.0, 16_600.0, 900.0, 8.0, 4.0, 5.0),
    quarter(11_000.0, 13_000.0, 1_100.0, 9.0, 3.0, 3.0),
    quarter(12_200.0, 19_600.0, 1_100.0, 9.0, 3.0, 3.0),
    quarter(18_600.0, 20_400.0, 1_300.0, 9.0, 2.0, 2.0),
    quarter(9_200.0, 17_200.0, 1_300.0, 8.0, 2.0, 2.0),
    quarter(13_200.0, 8_800.0, 1_300.0, 9.0, 3.0, 2.0),
    quarter(21_600.0, 12_800.0, 1_400.0, 8.0, 2.0, 2.0),
    quarter(9_500.0, 4_800.0, 900.0, 1.0, 3.0, 2.0),
    quarter(15_000.0, 15_000.0, 6_000.0, 19.0, 12.0, 10.0),
];

/// What people want: the parts of homes, work and leisure among origins and among destinations, by hour of the day.
pub const ERRANDS: [([f64; 3], [f64; 3]); 24] = {
    let night = ([0.2, 0.2, 0.6], [0.8, 0.1, 0.1]);
    let dawn = ([0.7, 0.1, 0.2], [0.2, 0.6, 0.2]);
    let morning = ([0.8, 0.1, 0.1], [0.1, 0.8, 0.1]);
    let day = ([0.4, 0.35, 0.25], [0.3, 0.4, 0.3]);
    let afternoon = ([0.35, 0.4, 0.25], [0.4, 0.3, 0.3]);
    let evening = ([0.15, 0.7, 0.15], [0.6, 0.1, 0.3]);
    let late = ([0.15, 0.25, 0.6], [0.75, 0.05, 0.2]);
    [
        night, night, night, night, dawn, dawn, morning, morning, morning, morning, day, day, day, day, afternoon,
        afternoon, afternoon, evening, evening, evening, late, late, late, late,
    ]
};
/// How attraction falls with distance: by e every so many metres. Ours, to a mean trip of 6.4 km in a straight line.
pub const GRAVITY_M: f64 = 7_000.0;
