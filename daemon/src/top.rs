//! `thalweg top`: how a running daemon fares, on one page that is kept current.

use std::io::{self, IsTerminal as _, Write};
use std::time::{Duration, Instant};

use client::Client;
use serde_json::Value;

use crate::exposition::Scrape;
use crate::online::Error;

/// What is known of a daemon at one time.
struct Sample {
    at: Instant,
    pipeline: Value,
    epochs: client::Epochs,
    sources: Value,
    sinks: Value,
    views: client::Views,
    scrape: Scrape,
}

impl Sample {
    #[allow(clippy::disallowed_methods, reason = "rates are by the reader's clock")]
    fn take(daemon: &Client) -> Result<Sample, Error> {
        let json = |path: &str, part: &str| -> Result<Value, Error> {
            let mut answer: Value = daemon.get(path, &[])?.json()?;
            Ok(answer.pointer_mut(part).map(Value::take).unwrap_or_default())
        };
        let metrics = daemon.get("/metrics", &[])?.bytes()?;
        Ok(Sample {
            at: Instant::now(),
            pipeline: json("/v1/pipelines", "/pipelines/0")?,
            epochs: daemon.epochs()?,
            sources: json("/v1/sources", "/sources")?,
            sinks: json("/v1/sinks", "/sinks")?,
            views: daemon.views()?,
            scrape: Scrape::parse(&String::from_utf8_lossy(&metrics)),
        })
    }
}

/// Shows a page every so often; once alone if asked. Ends with an error only, if not.
pub fn top(daemon: &Client, every: Duration, once: bool, out: &mut dyn Write) -> Result<(), Error> {
    let is_terminal = io::stdout().is_terminal() && !once;
    let mut before = Sample::take(daemon)?;
    loop {
        std::thread::sleep(every);
        let now = match Sample::take(daemon) {
            Err(Error::Daemon(e)) if e.is_passing() && !once => {
                writeln!(out, "{e}")?;
                continue;
            }
            now => now?,
        };
        let page = page(daemon.base(), &before, &now);
        if is_terminal {
            // Over what was there, without wrapping; what was there below is taken away.
            let page = page.replace('\n', "\x1b[K\n");
            write!(out, "\x1b[H\x1b[?7l{page}\x1b[J\x1b[?7h")?;
        } else {
            writeln!(out, "{page}")?;
        }
        out.flush()?;
        if once {
            return Ok(());
        }
        before = now;
    }
}

fn page(base: &str, before: &Sample, now: &Sample) -> String {
    let secs = (now.at - before.at).as_secs_f64();
    let (scrape, earlier) = (&now.scrape, &before.scrape);
    let rate = |metric: &str, label: &str, value: &str| {
        let (now, then) = (scrape.one(metric, label, value), earlier.one(metric, label, value));
        now.map_or_else(String::new, |now| short((now - then.unwrap_or(0.0)).max(0.0) / secs))
    };
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let whole = |value: &Value| value.as_u64().map_or_else(String::new, |n| short(n as f64));
    let epochs = (scrape.sum("thalweg_epoch_published") - earlier.sum("thalweg_epoch_published")) / secs;
    let latency = |stage: &str| {
        let at = scrape.quantile_since(earlier, "thalweg_epoch_latency_seconds", ("stage", stage), 0.99);
        match at {
            None => "–".to_owned(),
            Some(secs) if secs.is_finite() => format!("≤ {} ms", secs * 1e3),
            Some(_) => "longer than is counted".to_owned(),
        }
    };
    let mut page = format!(
        "{} at {base}   {}\nepoch {} published, {} sealed   {} epochs/s   p99 of an epoch {}, of its commit {}\n",
        text(&now.pipeline["name"]),
        now.epochs.phase,
        now.epochs.published,
        now.epochs.sealed,
        short(epochs),
        latency("total"),
        latency("commit"),
    );

    let sources = now.sources.as_array().into_iter().flatten().map(|source| {
        let name = text(&source["name"]);
        let reached = scrape.one("thalweg_source_connected", "source", &name);
        let watermark = source["progress"]["watermark"].as_i64().filter(|w| *w != i64::MIN && *w != i64::MAX);
        vec![
            name.clone(),
            text(&source["type"]),
            whole(&source["records"]),
            rate("thalweg_component_received_events_total", "component", &name),
            scrape.one("thalweg_source_lag_records", "source", &name).map_or_else(String::new, short),
            whole(&source["faults"]),
            watermark.map_or_else(String::new, types::json::rfc3339),
            reached.map_or("", |is| if is > 0.0 { "reached" } else { "NOT REACHED" }).to_owned(),
        ]
    });
    table(&mut page, ["source", "type", "records", "in/s", "waiting", "faults", "watermark", ""], 2..6, sources);

    let steps = now.pipeline["steps"].as_array().into_iter().flatten().map(|step| {
        let name = text(&step["name"]);
        let mut told: Vec<String> = Vec::new();
        for (metric, called) in [("thalweg_optimality_gap_ratio", "gap"), ("thalweg_td_error", "td error")] {
            told.extend(scrape.one(metric, "step", &name).map(|value| format!("{called} {value:.4}")));
        }
        vec![
            name.clone(),
            text(&step["operator"]),
            rate("thalweg_component_received_events_total", "component", &name),
            rate("thalweg_component_sent_events_total", "component", &name),
            told.join(", "),
        ]
    });
    table(&mut page, ["step", "operator", "in/s", "out/s", ""], 2..4, steps);

    let views = now.views.views.iter().map(|view| {
        let freshness = scrape.one("thalweg_freshness_seconds", "view", &view.name);
        let subscribers = scrape.one("thalweg_subscribers", "view", &view.name).filter(|n| *n > 0.0);
        vec![
            view.name.clone(),
            view.kind.clone(),
            short(view.rows as f64),
            rate("thalweg_view_changes_total", "view", &view.name),
            freshness.map_or_else(String::new, |secs| format!("{:.1}", secs * 1e3)),
            subscribers.map_or_else(String::new, short),
        ]
    });
    table(&mut page, ["view", "kind", "rows", "changes/s", "fresh ms", "subscribers"], 2..6, views);

    let sinks = now.sinks.as_array().into_iter().flatten().map(|sink| {
        let name = text(&sink["name"]);
        let reached = scrape.one("thalweg_sink_connected", "sink", &name);
        vec![
            name.clone(),
            text(&sink["type"]),
            text(&sink["view"]),
            whole(&sink["delivered"]),
            whole(&sink["lag_epochs"]),
            rate("thalweg_sink_records_total", "sink", &name),
            reached.map_or("", |is| if is > 0.0 { "reached" } else { "NOT REACHED" }).to_owned(),
        ]
    });
    table(&mut page, ["sink", "type", "view", "epoch", "behind", "out/s", ""], 3..6, sinks);

    let faults = scrape.of("thalweg_faults_total").iter().filter(|(_, count)| *count > 0.0).map(|(labels, count)| {
        let label = |name: &str| labels.get(name).cloned().unwrap_or_default();
        vec![label("source"), label("reason"), short(*count)]
    });
    table(&mut page, ["faults of", "reason", "since start"], 2..3, faults);
    page
}

/// Rows under a heading, none without rows; the columns of `numbers` end, the others begin, at one place.
fn table<const N: usize>(
    page: &mut String,
    heading: [&str; N],
    numbers: std::ops::Range<usize>,
    rows: impl Iterator<Item = Vec<String>>,
) {
    let mut lines: Vec<Vec<String>> = rows.collect();
    if lines.is_empty() {
        return;
    }
    lines.insert(0, heading.iter().map(|word| word.to_uppercase()).collect());
    let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..N).map(width).collect();
    page.push('\n');
    for line in &lines {
        let cells = line.iter().zip(&widths).enumerate().map(|(i, (cell, width))| {
            if numbers.contains(&i) { format!("{cell:>width$}") } else { format!("{cell:<width$}") }
        });
        page.push_str(cells.collect::<Vec<_>>().join("  ").trim_end());
        page.push('\n');
    }
}

/// A number as people read it: whole with its thousands apart, small ones with one digit behind the point.
fn short(value: f64) -> String {
    if value.fract() != 0.0 && value.abs() < 100.0 {
        return format!("{value:.1}");
    }
    let digits = format!("{:.0}", value.abs());
    let mut out = String::from(if value < 0.0 { "-" } else { "" });
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short() {
        for (value, expected) in
            [(0.0, "0"), (3.25, "3.2"), (99.96, "100.0"), (1234.5, "1,234"), (1e6, "1,000,000"), (-12345.0, "-12,345")]
        {
            assert_eq!(short(value), expected);
        }
    }

    #[test]
    fn tables_stand_in_columns() {
        let mut page = String::new();
        table(
            &mut page,
            ["name", "n"],
            1..2,
            [vec!["a".into(), "1".into()], vec!["long one".into(), "22".into()]].into_iter(),
        );
        assert_eq!(page, "\nNAME       N\na          1\nlong one  22\n");
        table(&mut page, ["none"], 0..0, std::iter::empty());
        assert!(page.ends_with("22\n"));
    }
}
