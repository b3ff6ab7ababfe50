//! The one place that reads the clock; everything else is told the time.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// A clock. What it says never reaches a view unlogged: it cuts epochs, finds idle sources, measures latency.
#[derive(Clone)]
pub struct Clock {
    wall_ms: Arc<dyn Fn() -> i64 + Send + Sync>,
    start: Instant,
}

impl std::fmt::Debug for Clock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Clock")
    }
}

impl Clock {
    /// The machine's clock.
    #[allow(clippy::disallowed_methods, reason = "this is the clock")]
    pub fn system() -> Clock {
        let wall_ms = || SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis() as i64);
        Clock { wall_ms: Arc::new(wall_ms), start: Instant::now() }
    }

    /// Milliseconds since 1970 UTC.
    pub fn wall_ms(&self) -> i64 {
        (self.wall_ms)()
    }

    /// Time since the clock was made; never goes back.
    #[allow(clippy::disallowed_methods, reason = "this is the clock")]
    pub fn elapsed(&self) -> Duration {
        self.start.elapsed()
    }
}
