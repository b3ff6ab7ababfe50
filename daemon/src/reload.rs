//! SIGHUP: the pipeline file is read again, and taken over whole at the end of an epoch, or refused whole.
//!
//! What may change is what does not change results: epochs, retention, sinks, passwords and addresses that come from the
//! environment are the file's `${…}` as they were when the process began. A file that would compute something else is
//! refused, for the store holds what the one before it computed. Taking over is an orderly end and a beginning in one:
//! what is sealed is committed and delivered, then the process executes itself anew, with its number and its arguments.

use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

use engine::Handle;
use engine::metrics::Metrics;
use tokio::sync::Notify;

use crate::Failure;
use crate::check::load;

/// Whether the file is to be taken over once everything has ended.
pub struct Reload {
    file: PathBuf,
    metrics: Metrics,
    wanted: AtomicBool,
    notify: Notify,
}

impl Reload {
    pub fn new(file: PathBuf, metrics: Metrics) -> Reload {
        Reload { file, metrics, wanted: AtomicBool::new(false), notify: Notify::new() }
    }

    /// Waits for signals, for ever.
    pub async fn listen(&self, handle: &Handle) {
        let hangup = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::hangup());
        let Ok(mut hangup) = hangup else { return };
        while hangup.recv().await.is_some() {
            match self.check(handle) {
                Ok(()) => {
                    tracing::info!("the pipeline file is taken over: what is sealed is committed first");
                    self.wanted.store(true, Ordering::Release);
                    self.notify.notify_one();
                    handle.stop();
                    return;
                }
                Err(why) => tracing::error!("the pipeline file is not taken over, and all goes on as it was: {why}"),
            }
            self.metrics.pipeline_refused.set(1);
        }
    }

    fn check(&self, handle: &Handle) -> Result<(), String> {
        let plan = load(&self.file).map_err(|failure| failure.message)?;
        let (runs, wanted) = (handle.plan().fingerprint(), plan.fingerprint());
        if runs != wanted {
            return Err(format!(
                "it computes something else (its fingerprint is {wanted}, and {runs} runs): run it over a new store"
            ));
        }
        Ok(())
    }

    /// Waits until the file is to be taken over.
    pub async fn wanted(&self) {
        self.notify.notified().await;
    }

    /// If the file is to be taken over, begins the process anew: comes back only if it cannot.
    #[allow(clippy::disallowed_methods, reason = "the binary is the edge")]
    pub fn begin_anew(&self) -> Result<(), Failure> {
        if !self.wanted.load(Ordering::Acquire) {
            return Ok(());
        }
        let mut words = std::env::args_os();
        let program = words.next().unwrap_or_default();
        Err(Failure::broken(format!("beginning anew: {}", Command::new(program).args(words).exec())))
    }
}
