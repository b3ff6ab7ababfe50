//! The process: what the `thalweg` binary does, command by command.

pub mod client;
pub mod offline;
