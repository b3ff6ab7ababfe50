//! The API's own metrics, registered beside the engine's.

use prometheus::{
    Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
};

use crate::routes::GET_ROW;

/// One metric of the API.
#[derive(Clone, Copy, Debug)]
pub struct MetricDef {
    /// Its name.
    pub name: &'static str,
    /// `counter`, `gauge` or `histogram`.
    pub kind: &'static str,
    /// Its labels.
    pub labels: &'static [&'static str],
    /// What it counts, with its unit.
    pub help: &'static str,
}

const REQUESTS: MetricDef = MetricDef {
    name: "thalweg_http_requests_total",
    kind: "counter",
    labels: &["route", "status"],
    help: "Requests answered, by route and HTTP status.",
};
const SECONDS: MetricDef = MetricDef {
    name: "thalweg_http_request_seconds",
    kind: "histogram",
    labels: &["route"],
    help: "Seconds from a request's head to the head of its answer.",
};
const SUBSCRIBERS: MetricDef = MetricDef {
    name: "thalweg_subscribers",
    kind: "gauge",
    labels: &["view"],
    help: "Open subscriptions to a view's changes.",
};
const CONNECTIONS: MetricDef =
    MetricDef { name: "thalweg_http_connections", kind: "gauge", labels: &[], help: "Open connections." };
const QUERIES: MetricDef =
    MetricDef { name: "thalweg_queries", kind: "gauge", labels: &[], help: "SQL queries under way." };
const READY: MetricDef = MetricDef {
    name: "thalweg_ready",
    kind: "gauge",
    labels: &[],
    help: "1 when records are taken or were all taken; 0 while the dataflow is rebuilt and after a failure.",
};
const TOKENS_BROKEN: MetricDef = MetricDef {
    name: "thalweg_tokens_file_broken",
    kind: "gauge",
    labels: &[],
    help: "1 while the file of tokens cannot be taken and the tokens before it are in force.",
};
const TLS_BROKEN: MetricDef = MetricDef {
    name: "thalweg_tls_files_broken",
    kind: "gauge",
    labels: &[],
    help: "1 while the files of the certificate cannot be taken and the certificate before them is in use.",
};

/// Every metric of the API.
pub const METRICS: &[MetricDef] =
    &[REQUESTS, SECONDS, SUBSCRIBERS, CONNECTIONS, QUERIES, READY, TOKENS_BROKEN, TLS_BROKEN];

/// The metrics as they are counted.
#[derive(Clone, Debug)]
pub(crate) struct Metrics {
    requests: IntCounterVec,
    seconds: HistogramVec,
    pub(crate) subscribers: IntGaugeVec,
    pub(crate) connections: IntGauge,
    pub(crate) queries: IntGauge,
    pub(crate) ready: IntGauge,
    pub(crate) tokens_broken: IntGauge,
    pub(crate) tls_broken: IntGauge,
    /// The point lookup's own, looked up once: it is served at the speed of the machine.
    pub(crate) rows_found: IntCounter,
    pub(crate) row_seconds: Histogram,
}

impl Metrics {
    /// Registers them. The error says that the registry has some of them already.
    pub(crate) fn register(registry: &Registry) -> prometheus::Result<Metrics> {
        let requests = IntCounterVec::new(Opts::new(REQUESTS.name, REQUESTS.help), REQUESTS.labels)?;
        let buckets = vec![0.000_1, 0.000_3, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0];
        let seconds =
            HistogramVec::new(HistogramOpts::new(SECONDS.name, SECONDS.help).buckets(buckets), SECONDS.labels)?;
        let subscribers = IntGaugeVec::new(Opts::new(SUBSCRIBERS.name, SUBSCRIBERS.help), SUBSCRIBERS.labels)?;
        let connections = IntGauge::with_opts(Opts::new(CONNECTIONS.name, CONNECTIONS.help))?;
        let queries = IntGauge::with_opts(Opts::new(QUERIES.name, QUERIES.help))?;
        registry.register(Box::new(queries.clone()))?;
        let ready = IntGauge::with_opts(Opts::new(READY.name, READY.help))?;
        let tokens_broken = IntGauge::with_opts(Opts::new(TOKENS_BROKEN.name, TOKENS_BROKEN.help))?;
        let tls_broken = IntGauge::with_opts(Opts::new(TLS_BROKEN.name, TLS_BROKEN.help))?;
        registry.register(Box::new(tls_broken.clone()))?;
        registry.register(Box::new(ready.clone()))?;
        registry.register(Box::new(tokens_broken.clone()))?;
        registry.register(Box::new(requests.clone()))?;
        registry.register(Box::new(seconds.clone()))?;
        registry.register(Box::new(subscribers.clone()))?;
        registry.register(Box::new(connections.clone()))?;
        Ok(Metrics {
            rows_found: requests.with_label_values(&[GET_ROW.path, "200"]),
            row_seconds: seconds.with_label_values(&[GET_ROW.path]),
            requests,
            seconds,
            subscribers,
            connections,
            queries,
            ready,
            tokens_broken,
            tls_broken,
        })
    }

    /// Counts an answer.
    pub(crate) fn answered(&self, route: &str, status: u16) {
        self.requests.with_label_values(&[route, &status.to_string()]).inc();
    }

    /// The histogram of a route.
    pub(crate) fn seconds(&self, route: &str) -> Histogram {
        self.seconds.with_label_values(&[route])
    }
}
