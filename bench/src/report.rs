//! Figures as they come: a table for people, or one JSON object a line for scripts.

use std::io::Write as _;

use serde_json::json;

use crate::Options;
use crate::measure::Samples;

/// Where a bench says what it found.
#[derive(Debug)]
pub struct Report {
    bench: String,
    json: bool,
    rows: usize,
}

impl Report {
    /// For a bench of this name. The table's first line says on what it was measured.
    pub fn new(bench: &str, options: &Options) -> Report {
        let report = Report { bench: bench.to_owned(), json: options.json, rows: 0 };
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let quick = if options.quick { ", quick: not to be quoted" } else { "" };
        report.progress(&format!("{bench}: {cores} cores, medians of {} repetitions{quick}", options.repetitions()));
        report
    }

    /// Says on standard error what is under way: some benches take minutes.
    pub fn progress(&self, text: &str) {
        eprintln!("{text}");
    }

    /// A figure without a limit.
    pub fn figure(&mut self, metric: &str, unit: &str, ours: &Samples) {
        self.line(metric, unit, ours, None);
    }

    /// A figure beside its limit, which is in the same unit. The ratio is ours over the limit.
    pub fn against(&mut self, metric: &str, unit: &str, ours: &Samples, baseline: &str, limit: &Samples) {
        self.line(metric, unit, ours, Some((baseline, limit)));
    }

    /// A mean with half the width of its 95 % interval, if it has one: what was found, not how long it took.
    pub fn mean(&mut self, metric: &str, unit: &str, value: f64, half_width: Option<f64>) {
        let half_width = half_width.filter(|half| half.is_finite());
        let mut out = std::io::stdout().lock();
        let _ = if self.json {
            let line = json!({
                "bench": self.bench,
                "metric": metric,
                "value": rounded(value),
                "unit": unit,
                "half_width_95": half_width.map(rounded),
            });
            writeln!(out, "{line}")
        } else {
            let half = half_width.map_or_else(String::new, |half| format!("± {}", plain(half)));
            writeln!(out, "{metric:44} {:>12} {unit:9} {half}", plain(value))
        };
        let _ = out.flush();
    }

    fn line(&mut self, metric: &str, unit: &str, ours: &Samples, baseline: Option<(&str, &Samples)>) {
        let value = ours.median();
        let (least, greatest) = ours.spread();
        let limit = baseline.map(|(name, samples)| (name, samples.median()));
        let mut out = std::io::stdout().lock();
        // A reader that has gone away is no reason to lose the rest of a long run.
        let _ = if self.json {
            let line = json!({
                "bench": self.bench,
                "metric": metric,
                "value": rounded(value),
                "unit": unit,
                "baseline": limit.map(|(name, _)| name),
                "baseline_value": limit.map(|(_, limit)| rounded(limit)),
                "ratio": limit.map(|(_, limit)| rounded(value / limit)),
                "spread": [rounded(least), rounded(greatest)],
            });
            writeln!(out, "{line}")
        } else {
            if self.rows == 0 {
                let _ =
                    writeln!(out, "{:26} {:>12} {:9} {:>25}  limit", "metric", "median", "unit", "least … greatest");
            }
            let spread = format!("{} … {}", plain(least), plain(greatest));
            let limit = limit.map_or_else(String::new, |(name, limit)| {
                format!("{:.3} × {} {unit} ({name})", value / limit, plain(limit))
            });
            writeln!(out, "{metric:26} {:>12} {unit:9} {spread:>25}  {limit}", plain(value))
        };
        let _ = out.flush();
        self.rows += 1;
    }
}

/// Six significant digits: more would be noise.
fn rounded(value: f64) -> f64 {
    if !value.is_finite() || value == 0.0 {
        return value;
    }
    format!("{value:.5e}").parse().expect("a number as it was printed")
}

fn plain(value: f64) -> String {
    match value.abs() {
        v if v >= 1000.0 => format!("{value:.0}"),
        v if v >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.3}"),
    }
}
