//! A city that was never there: demand, drivers and time, to run dispatch in closed loop from a seed.
//!
//! A twin of the published aggregates of the Chengdu month of November 2016 ([`calibration`] says which number is
//! published, which is measured and which is ours). A day's orders and shifts are drawn before anything is dispatched
//! ([`demand`]), so that all agents ([`agent`]) meet the same day in [`world`]; [`experiment`] compares them with paired
//! intervals, beside what nobody could exceed ([`bound`]). [`toy`] is the toy market of Xu et al. 2018.
//!
//! The kernels are `operators::dispatch`; nothing here is part of the daemon. Who decides may be outside ([`outside`]): as a
//! [`client`] the city tells a running daemon what happens and does what its views say. The program `city` prints a JSON line a
//! figure, and writes days down as a history to learn from ([`recorder`]):
//!
//! ```text
//! cargo run --release --bin city dispatch_day seeds=10
//! ```

pub mod agent;
pub mod bound;
pub mod calibration;
pub mod chains;
pub mod day;
pub mod demand;
pub mod driver;
pub mod experiment;
pub mod hexagon;
pub mod outside;
pub mod plots;
pub mod random;
pub mod recorder;
pub mod shock;
pub mod statistics;
pub mod toy;
pub mod tuning;
pub mod world;
