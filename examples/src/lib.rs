//! The example pipelines: each is a folder of its own beside `src`, and each is run by this crate's tests.
