//! placeholder
pub mod assignment;
