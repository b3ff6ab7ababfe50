//! Every metric of the engine, listed once: name, unit and help. The API exposes the registry.

use prometheus::{
    GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
    core::Collector,
};

/// The metrics of one process. Cheap to clone; clones count together.
#[derive(Clone, Debug)]
pub struct Metrics {
    /// Where they are registered.
    pub registry: Registry,
    /// `thalweg_component_received_events_total{component}`.
    pub received: IntCounterVec,
    /// `thalweg_component_sent_events_total{component}`.
    pub sent: IntCounterVec,
    /// `thalweg_component_errors_total{component}`.
    pub errors: IntCounterVec,
    /// `thalweg_component_discarded_events_total{component}`.
    pub discarded: IntCounterVec,
    /// `thalweg_source_lag_records{source}`.
    pub source_lag: IntGaugeVec,
    /// `thalweg_source_connected{source}`.
    pub source_connected: IntGaugeVec,
    /// `thalweg_sink_connected{sink}`.
    pub sink_connected: IntGaugeVec,
    /// `thalweg_sink_epoch{sink}`.
    pub sink_epoch: IntGaugeVec,
    /// `thalweg_sink_lag_epochs{sink}`.
    pub sink_lag: IntGaugeVec,
    /// `thalweg_sink_records_total{sink}`.
    pub sink_records: IntCounterVec,
    /// `thalweg_source_watermark_seconds{source}`.
    pub source_watermark: GaugeVec,
    /// `thalweg_freshness_seconds{view}`.
    pub freshness: GaugeVec,
    /// `thalweg_epoch_sealed`.
    pub sealed: IntGauge,
    /// `thalweg_epoch_computed`.
    pub computed: IntGauge,
    /// `thalweg_epoch_durable`.
    pub durable: IntGauge,
    /// `thalweg_epoch_published`.
    pub published: IntGauge,
    /// `thalweg_epoch_latency_seconds{stage}`: `compute`, `commit`, `total`.
    pub epoch_latency: HistogramVec,
    /// `thalweg_epoch_rows`.
    pub epoch_rows: Histogram,
    /// `thalweg_faults_total{source,reason}`.
    pub faults: IntCounterVec,
    /// `thalweg_late_events_total{source}`.
    pub late: IntCounterVec,
    /// `thalweg_rehydration_progress_ratio`.
    pub rehydration: prometheus::Gauge,
    /// `thalweg_pipeline_file_refused`.
    pub pipeline_refused: IntGauge,
    /// `thalweg_view_rows{view}`.
    pub view_rows: IntGaugeVec,
    /// `thalweg_view_changes_total{view}`.
    pub view_changes: IntCounterVec,
    /// `thalweg_optimality_gap_ratio{step}`.
    pub optimality_gap: GaugeVec,
    /// `thalweg_td_error{step}`.
    pub td_error: GaugeVec,
    /// `thalweg_step_value{step,name}`: what else a step measures of itself.
    pub step_value: GaugeVec,
}

/// The gauge an `assignment` step sets: (dual − primal) / dual.
pub const OPTIMALITY_GAP: &str = "thalweg_optimality_gap_ratio";
/// The gauge a `td_value` step sets: the mean absolute TD error of the last epoch with events.
pub const TD_ERROR: &str = "thalweg_td_error";

impl Default for Metrics {
    fn default() -> Self {
        Metrics::new()
    }
}

impl Metrics {
    /// Metrics in a registry of their own.
    pub fn new() -> Metrics {
        let registry = Registry::new();
        let counters = |name: &str, help: &str, labels: &[&str]| {
            register(&registry, IntCounterVec::new(Opts::new(name, help), labels))
        };
        let gauges =
            |name: &str, help: &str, labels: &[&str]| register(&registry, GaugeVec::new(Opts::new(name, help), labels));
        let int_gauges = |name: &str, help: &str, labels: &[&str]| {
            register(&registry, IntGaugeVec::new(Opts::new(name, help), labels))
        };
        let epoch = |name: &str, help: &str| register(&registry, IntGauge::new(name, help));
        Metrics {
            received: counters(
                "thalweg_component_received_events_total",
                "Records or changes a source or step has taken in.",
                &["component"],
            ),
            sent: counters(
                "thalweg_component_sent_events_total",
                "Records or changes a source or step has passed on.",
                &["component"],
            ),
            errors: counters("thalweg_component_errors_total", "Errors of a source or step.", &["component"]),
            discarded: counters(
                "thalweg_component_discarded_events_total",
                "Records a source or step refused; each is a fault row.",
                &["component"],
            ),
            source_lag: int_gauges(
                "thalweg_source_lag_records",
                "Records known to wait in a source and not yet sealed into an epoch.",
                &["source"],
            ),
            source_connected: int_gauges(
                "thalweg_source_connected",
                "1 while a source that reads over the network reaches the other side, else 0.",
                &["source"],
            ),
            sink_connected: int_gauges(
                "thalweg_sink_connected",
                "1 while a sink that writes over the network reaches the other side, else 0.",
                &["sink"],
            ),
            sink_epoch: int_gauges(
                "thalweg_sink_epoch",
                "The last epoch whose changes a sink has delivered, whatever crashes.",
                &["sink"],
            ),
            sink_lag: int_gauges(
                "thalweg_sink_lag_epochs",
                "Epochs that readers see and that a sink has not delivered yet.",
                &["sink"],
            ),
            sink_records: counters("thalweg_sink_records_total", "Records a sink has delivered.", &["sink"]),
            source_watermark: gauges(
                "thalweg_source_watermark_seconds",
                "The source's watermark, seconds since 1970 UTC.",
                &["source"],
            ),
            freshness: gauges(
                "thalweg_freshness_seconds",
                "Time from sealing an epoch to its being readable in the view, for the newest epoch that changed it.",
                &["view"],
            ),
            sealed: epoch("thalweg_epoch_sealed", "The last epoch whose membership is fixed."),
            computed: epoch("thalweg_epoch_computed", "The last epoch every worker has computed."),
            durable: epoch("thalweg_epoch_durable", "The last epoch on disk."),
            published: epoch("thalweg_epoch_published", "The last epoch readers see."),
            epoch_latency: register(
                &registry,
                HistogramVec::new(
                    HistogramOpts::new("thalweg_epoch_latency_seconds", "How long a stage of an epoch took.")
                        .buckets(vec![0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0]),
                    &["stage"],
                ),
            ),
            epoch_rows: register(
                &registry,
                Histogram::with_opts(
                    HistogramOpts::new("thalweg_epoch_rows", "Records sealed into an epoch.").buckets(vec![
                        1.0,
                        10.0,
                        100.0,
                        1_000.0,
                        10_000.0,
                        100_000.0,
                        1_000_000.0,
                    ]),
                ),
            ),
            faults: counters("thalweg_faults_total", "Fault rows written.", &["source", "reason"]),
            late: counters("thalweg_late_events_total", "Records that came after their watermark.", &["source"]),
            rehydration: register(
                &registry,
                prometheus::Gauge::new("thalweg_rehydration_progress_ratio", "Share of the restart's rebuilding done."),
            ),
            pipeline_refused: epoch(
                "thalweg_pipeline_file_refused",
                "1 once a changed pipeline file was to be taken over and was refused; the one before it goes on.",
            ),
            view_rows: int_gauges("thalweg_view_rows", "Rows in a view or table.", &["view"]),
            view_changes: counters("thalweg_view_changes_total", "Changed keys of a view or table.", &["view"]),
            optimality_gap: gauges(
                OPTIMALITY_GAP,
                "How far a step's decision may be from the optimum: (bound - value) / bound.",
                &["step"],
            ),
            td_error: gauges(TD_ERROR, "Mean absolute TD error of the last epoch with events.", &["step"]),
            step_value: gauges("thalweg_step_value", "Other figures a step reports of itself.", &["step", "name"]),
            registry,
        }
    }

    /// Sets how a source fares that reads over the network: whether it reaches the other side, and how many records
    /// it knows to wait there.
    pub fn set_source(&self, source: &str, is_connected: bool, lag_records: i64) {
        self.source_connected.with_label_values(&[source]).set(i64::from(is_connected));
        self.source_lag.with_label_values(&[source]).set(lag_records);
    }

    /// Sets a gauge a step reported.
    pub fn set_step_gauge(&self, step: &str, name: &str, value: f64) {
        match name {
            OPTIMALITY_GAP => self.optimality_gap.with_label_values(&[step]).set(value),
            TD_ERROR => self.td_error.with_label_values(&[step]).set(value),
            other => self.step_value.with_label_values(&[step, other]).set(value),
        }
    }
}

fn register<C: Collector + Clone + 'static>(registry: &Registry, collector: prometheus::Result<C>) -> C {
    let collector = collector.expect("the metric is well formed");
    registry.register(Box::new(collector.clone())).expect("each metric is registered once");
    collector
}
