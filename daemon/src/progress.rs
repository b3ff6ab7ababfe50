//! What the terminal shows while a pipeline runs: one line that is kept current, or a log line now and then.

use std::io::{IsTerminal, Write};
use std::time::Duration;

use engine::{Handle, Phase};

/// Shows progress until the phase is final. Runs on a thread of its own.
pub fn show(handle: &Handle, quiet: bool) {
    let terminal = std::io::stderr().is_terminal() && !quiet;
    let every = if terminal { Duration::from_millis(500) } else { Duration::from_secs(10) };
    let mut last: Option<u64> = None;
    loop {
        std::thread::sleep(every);
        let status = handle.status();
        let records: u64 = status.sources.iter().map(|s| s.records).sum();
        let rate = last.map_or(0.0, |l| records.saturating_sub(l) as f64 / every.as_secs_f64());
        let faults: u64 = status.sources.iter().map(|s| s.faults).sum();
        let phase = match &status.phase {
            Phase::Rehydrating => format!("rebuilding {:.0} %", status.rehydrated * 100.0),
            Phase::Live => "live".to_owned(),
            Phase::Ended => "ended".to_owned(),
            Phase::Failed(_) => "failed".to_owned(),
        };
        let rows: Vec<String> = handle
            .plan()
            .steps
            .iter()
            .filter_map(|s| Some((&s.name, handle.store().relation(&s.name)?)))
            .map(|(name, id)| format!("{name} {}", handle.store().digest(id).rows))
            .collect();
        let line = format!(
            "{phase} │ epoch {} │ {records} records, {rate:.0}/s │ {faults} faults │ {}",
            status.published,
            rows.join(" · ")
        );
        if terminal {
            let mut err = std::io::stderr().lock();
            let _ = write!(err, "\r\x1b[2K{line}");
            let _ = err.flush();
        } else if last.is_none_or(|l| l != records) {
            tracing::info!(
                phase,
                epoch = status.published,
                records,
                records_per_second = rate.round(),
                faults,
                rows = rows.join(" "),
                "progress"
            );
        }
        last = Some(records);
        if matches!(status.phase, Phase::Ended | Phase::Failed(_)) {
            if terminal {
                eprintln!();
            }
            return;
        }
    }
}
