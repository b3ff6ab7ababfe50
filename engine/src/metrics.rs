//! Every metric, listed once: names, units and help. The API exposes the registry; the manual is generated from it.

/// The metrics of one process.
#[derive(Clone, Debug)]
pub struct Metrics {
    /// Where they are registered.
    pub registry: prometheus::Registry,
}
