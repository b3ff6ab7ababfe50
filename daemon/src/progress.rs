//! What the terminal shows while a pipeline runs: one line that is kept current, or a log line now and then.

use std::io::{IsTerminal, Write};
use std::time::Duration;

use engine::{Handle, Phase, Status};

/// Shows progress until the phase is final. Runs on a thread of its own.
pub fn show(handle: &Handle) {
    let terminal = std::io::stderr().is_terminal();
    let every = if terminal { Duration::from_millis(500) } else { Duration::from_secs(10) };
    let records_of = |status: &Status| status.sources.iter().map(|s| s.records).sum::<u64>();
    let mut last = records_of(&handle.status());
    loop {
        std::thread::sleep(every);
        let status = handle.status();
        let records = records_of(&status);
        let rate = records.saturating_sub(last) as f64 / every.as_secs_f64();
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
            // Without wrapping: what is longer than the terminal is wide is cut, or the line could not be taken back.
            let _ = write!(err, "\r\x1b[2K\x1b[?7l{line}\x1b[?7h");
            let _ = err.flush();
        } else if records != last {
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
        last = records;
        if matches!(status.phase, Phase::Ended | Phase::Failed(_)) {
            if terminal {
                eprintln!();
            }
            return;
        }
    }
}
