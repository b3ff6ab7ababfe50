//! Turns a pipeline into a running dataflow whose every epoch is durable. Names no operator.
//!
//! A pipeline file is read and checked once ([`pipeline`]) against a [`Catalogue`] of what it may name, which gives
//! a [`Plan`] that cannot be wrong. [`Engine::start`] runs a plan over a store; everything else reaches the running
//! engine through its [`Handle`].

pub mod catalogue;
pub mod clock;
pub mod connector;
mod handle;
pub mod manual;
pub mod metrics;
pub mod operator;
pub mod pipeline;
pub mod plan;
pub mod query;
mod runtime;
pub mod script;
pub mod sink;
pub mod testing;

pub use catalogue::{Catalogue, ConnectorDef, OperatorDef, OptionDef, SinkDef};
pub use handle::{Handle, Phase, Push, PushError, PushFormat, Pushed, SinkStatus, SourceStatus, Status};
pub use plan::Plan;
pub use runtime::{Engine, FAULTS, Hook, Options, relation_specs, store_options};
