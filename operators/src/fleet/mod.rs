//! What the two operators of a fleet share: drivers' events, places, and what places are worth.
//!
//! [`drivers`] reads what drivers report and says what follows from it, [`ids`] tells markets, drivers and orders apart,
//! [`place`] reads places and names their cells, [`values`] follows what cells are worth, [`bytes`] keeps things.

pub mod bytes;
pub mod drivers;
pub mod ids;
pub mod options;
pub mod place;
pub mod values;
pub mod views;

/// Why a row is refused: the reason and a sentence.
pub type Wrong = (&'static str, String);
