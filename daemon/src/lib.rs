//! The process: what the `thalweg` binary does, command by command.

pub mod bundle;
mod exposition;
pub mod offline;
pub mod online;
pub mod top;
