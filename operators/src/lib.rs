//! Everything a pipeline file can name: its connectors.

pub mod connect;
pub mod generate;
