//! From the text of a pipeline file to a [`crate::Plan`], or to every mistake in it at once.

mod section;

pub use section::Section;
