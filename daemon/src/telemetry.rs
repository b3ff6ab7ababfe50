//! Logs on standard error, as text or JSON. `THALWEG_LOG` sets the filter (default `info`).

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

use crate::arguments::LogFormat;

/// Starts logging, in colour on a terminal. Called once.
pub fn start(format: LogFormat, filter: Option<String>) {
    let filter = EnvFilter::new(filter.unwrap_or_else(|| "info".to_owned()));
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match format {
        LogFormat::Text => builder.with_target(false).with_ansi(std::io::stderr().is_terminal()).compact().init(),
        LogFormat::Json => builder.json().init(),
    }
}
