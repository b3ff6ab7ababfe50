//! The example pipelines stand in folders beside `src`; this crate's tests run each of them.
