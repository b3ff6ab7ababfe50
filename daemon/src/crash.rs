//! Kills the process at a chosen moment, for crash tests: `THALWEG_CRASH=point:count` sends SIGKILL when the named
//! point is passed for the count-th time.

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// The moment at which to die, if there is one.
#[derive(Clone, Debug)]
pub struct Crash(Option<Arc<Moment>>);

#[derive(Debug)]
struct Moment {
    point: String,
    left: AtomicU64,
}

impl Crash {
    /// Reads `point:count`; anything else is no moment.
    pub fn parse(text: Option<&str>) -> Result<Crash, String> {
        let Some(text) = text else { return Ok(Crash(None)) };
        let moment = text.split_once(':').and_then(|(point, count)| {
            let left = AtomicU64::new(count.parse().ok()?);
            Some(Moment { point: point.to_owned(), left })
        });
        moment.map(|m| Crash(Some(Arc::new(m)))).ok_or_else(|| format!("THALWEG_CRASH is `{text}`, not `point:count`"))
    }

    /// Says that a point is passed. Does not return if it is the moment.
    pub fn pass(&self, point: &str) {
        let Some(moment) = &self.0 else { return };
        if moment.point == point && moment.left.fetch_sub(1, Ordering::SeqCst) == 1 {
            // The shell's own `kill`: not every machine has a program of that name.
            let kill = format!("kill -KILL {}", std::process::id());
            let sent = Command::new("sh").args(["-c", &kill]).status().is_ok_and(|s| s.success());
            assert!(sent, "`{kill}` failed");
            // The signal may take a moment to arrive; this thread does nothing more.
            loop {
                std::thread::park();
            }
        }
    }
}
