//! A city that was never there: demand, drivers and time, to run dispatch in closed loop from a seed.

pub mod agent;
pub mod bound;
pub mod calibration;
pub mod day;
pub mod demand;
pub mod experiment;
pub mod hexagon;
pub mod random;
pub mod statistics;
pub mod toy;
pub mod world;
