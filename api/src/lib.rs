//! The HTTP edge: reads from the store, control through the engine's handle, and every answer with the epoch it is of.
//!
//! Two sides that share a server: the **read side** knows the store alone, so committed views are served from the
//! first moment, while the dataflow is still being rebuilt; the **control side** speaks to the engine. Routes, codes
//! and metrics are lists ([`ROUTES`], [`CODES`], [`METRICS`]) from which the manual is made. What is *not* here: any
//! access to the dataflow, and any state of a client's between two requests.

mod auth;
mod cells;
mod changes;
mod control;
mod cursor;
mod dashboard;
mod docs;
mod filter;
mod format;
mod ingest;
mod manual;
mod metrics;
mod openapi;
mod page;
mod params;
mod problem;
mod query;
mod read;
mod router;
mod routes;
mod server;
#[cfg(test)]
mod tests;
mod tls;
mod views;

use std::future::{Future, pending};
use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};

pub use auth::{Role, Tokens, token, token_line};
pub use cells::parse_key;
pub use manual::manual;
pub use metrics::{METRICS, MetricDef};
pub use openapi::openapi;
pub use problem::{CODES, Code};
pub use query::run_query;
pub use routes::{Param, ROUTES, Route};
pub use tls::Tls;
pub use views::{CURSOR_HEADER, EPOCH_HEADER};

/// How much the server takes on, and for how long.
#[derive(Clone, Debug)]
pub struct Options {
    /// The longest body taken.
    pub body_bytes_max: usize,
    /// Open connections at most; more wait to be accepted.
    pub connections_max: usize,
    /// Scans that run at once; more wait.
    pub scans_max: usize,
    /// Pushes that wait for their epoch at once; more wait before their body is read. Each blocks a thread.
    pub pushes_max: usize,
    /// Subscriptions at once; more are refused.
    pub subscribers_max: usize,
    /// What answers SQL; `None`: nothing does.
    pub queries: Option<engine::query::Runner>,
    /// Queries that run at once; more wait. Each has a thread of its own.
    pub queries_max: usize,
    /// Rows of an answer. A query with more is refused.
    pub query_rows_max: usize,
    /// Bytes of an answer. A query with more is refused.
    pub query_bytes_max: usize,
    /// Bytes of the rows a query gathers to sort, group or join them.
    pub query_memory_bytes_max: usize,
    /// How long a query may take.
    pub query_timeout: Duration,
    /// Rows a page may look at when its filter lets few pass.
    pub rows_read_max: usize,
    /// How long a body may take to arrive, and a request may wait for its turn.
    pub request_timeout: Duration,
    /// How long a push may wait for its epoch.
    pub push_timeout: Duration,
    /// How long a connection may take to send a request's head, or stay idle.
    pub idle_timeout: Duration,
    /// How long a TLS handshake may take.
    pub handshake_timeout: Duration,
    /// How often a quiet subscription is sent something.
    pub heartbeat: Duration,
    /// How long requests under way may take to end once the server is ending.
    pub drain: Duration,
    /// With which certificate; `None`: connections are not encrypted.
    pub tls: Option<Arc<Tls>>,
    /// Who may ask; `None`: everyone who reaches the port.
    pub tokens: Option<Arc<Tokens>>,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            body_bytes_max: 32 << 20,
            connections_max: 4096,
            scans_max: 64,
            pushes_max: 384,
            subscribers_max: 1024,
            queries: None,
            queries_max: 4,
            query_rows_max: 100_000,
            query_bytes_max: 64 << 20,
            query_memory_bytes_max: 256 << 20,
            query_timeout: Duration::from_secs(30),
            rows_read_max: 1_000_000,
            request_timeout: Duration::from_secs(30),
            push_timeout: Duration::from_secs(60),
            idle_timeout: Duration::from_secs(75),
            handshake_timeout: Duration::from_secs(10),
            heartbeat: Duration::from_secs(10),
            drain: Duration::from_secs(3),
            tls: None,
            tokens: None,
        }
    }
}

/// Serves an engine over HTTP until `shutdown` is done.
///
/// # Errors
/// The store's schemas cannot be read, or the engine's registry has metrics of these names already (an engine is
/// served once).
pub async fn serve(
    handle: engine::Handle,
    listener: TcpListener,
    shutdown: impl Future<Output = ()>,
    options: Options,
) -> io::Result<()> {
    let metrics = metrics::Metrics::register(&handle.metrics().registry).map_err(io::Error::other)?;
    let connections = metrics.connections.clone();
    let (tokens_broken, tls_broken) = (metrics.tokens_broken.clone(), metrics.tls_broken.clone());
    let (closing, closed) = watch::channel(false);
    let read = read::Read::new(handle.store().clone(), metrics, closed, options.clone()).map_err(io::Error::other)?;
    let read = read.concealing(handle.plan().concealed.clone());
    let read = Arc::new(read);
    let pushes = Semaphore::new(options.pushes_max);
    let control = Arc::new(control::Control {
        handle,
        read: Arc::clone(&read),
        pushes,
        checkpoints: Semaphore::new(1),
        advance: control::Advance::default(),
        clock: engine::clock::Clock::system(),
    });
    let routes = router::read_side(&read).merge(router::control_side(&control));
    let served = server::run(listener, router::Service::new(read, routes), shutdown, closing, connections, &options);
    let tokens = async {
        match &options.tokens {
            Some(tokens) => tokens.follow(&tokens_broken).await,
            None => pending().await,
        }
    };
    let tls = async {
        match &options.tls {
            Some(tls) => tls.follow(&tls_broken).await,
            None => pending().await,
        }
    };
    tokio::select! {
        result = served => result,
        never = tokens => match never {},
        never = tls => match never {},
    }
}
