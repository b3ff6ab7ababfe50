//! The kernel by itself, for benches and tests that want no engine about it.

pub use super::drift::{Detector, Watch};
pub use super::labels::{CLASSES, Label, Quote, Unit};
pub use super::ranking::Verdict;
pub use super::referee::{ALL, CHOSEN, FIRST, NONE, Referee};
pub use super::relevance::Relevance;
pub use super::rules::{Rules, Score};
pub use super::selector::{Change, Drifts, Reason, Selector, Standing, Vector};
