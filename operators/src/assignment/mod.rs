//! Assignment.
pub mod model;
pub mod solver;
