//! Everything a pipeline can name, from which the parser, the manual and the errors come.

/// Every connector, sink and operator there is.
pub fn all() -> engine::Catalogue {
    engine::Catalogue { connectors: connect::connectors(), sinks: connect::sinks(), operators: operators::operators() }
}
