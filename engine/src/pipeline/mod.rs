//! From the text of a pipeline file to a [`crate::Plan`], or to every mistake in it at once.
//!
//! The text is parsed once into a tree that knows where everything stands, each table is handed to its reader as a
//! [`Section`], and what is wrong is collected on the way: nothing stops at the first mistake, and nothing complains
//! of what only follows from another one. Nothing here reads a file, the environment or a clock.

mod cases;
mod concealed;
pub mod explain;
mod load;
mod origin;
mod problem;
mod section;
mod sink;
mod source;
mod step;
#[cfg(test)]
mod tests;
mod tree;

pub use concealed::Concealed;
pub use load::{EPOCH_OPTIONS, Planner, RETAIN_OPTIONS, STORE_OPTIONS, load, load_with};
pub use problem::{Problem, Problems};
pub use section::{Section, test_section};
pub use sink::SINK_OPTIONS;
pub use source::SOURCE_OPTIONS;
