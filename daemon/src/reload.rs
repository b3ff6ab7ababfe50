//! SIGHUP: the pipeline file is read again, and taken over whole at the end of an epoch, or refused whole.
//!
//! What may change is what changes no result: epochs, retention, sinks, how a source is reached. `${…}` keep the values they
//! had when the process began. A file that would compute something else is refused, for the store holds what the one before
//! it computed. Taking over is an orderly end and a beginning in one: what is sealed is committed and delivered, then the
//! process executes itself anew, with its number and its arguments. A signal to end that comes meanwhile ends it.

use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use engine::Handle;
use engine::metrics::Metrics;
use tokio::signal::unix::Signal;
use tokio::sync::Notify;

use crate::Failure;
use crate::check::load;

/// How often a file that was spoilt while it was being taken over is looked at again.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// What is to come after everything has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
enum Next {
    /// Nothing was asked.
    Unsaid = 0,
    /// The file is to be taken over.
    Anew = 1,
    /// The process ends, whatever was asked before.
    End = 2,
}

/// Whether the file is to be taken over once everything has ended.
pub struct Reload {
    file: PathBuf,
    metrics: Metrics,
    next: AtomicU8,
    notify: Notify,
}

impl Reload {
    pub fn new(file: PathBuf, metrics: Metrics) -> Reload {
        Reload { file, metrics, next: AtomicU8::new(Next::Unsaid as u8), notify: Notify::new() }
    }

    /// Waits for signals, for ever.
    pub async fn listen(&self, mut hangup: Signal, handle: &Handle) {
        while hangup.recv().await.is_some() {
            match self.check(&handle.plan().fingerprint()) {
                Ok(()) => {
                    let from = Next::Unsaid as u8;
                    let set = self.next.compare_exchange(from, Next::Anew as u8, Ordering::AcqRel, Ordering::Acquire);
                    if set.is_ok() {
                        tracing::info!("the pipeline file is taken over: what is sealed is committed first");
                        self.notify.notify_one();
                        handle.stop();
                    }
                    return;
                }
                Err(why) => {
                    self.metrics.pipeline_refused.set(1);
                    tracing::error!("the pipeline file is not taken over, and all goes on as it was: {why}");
                }
            }
        }
    }

    fn check(&self, runs: &str) -> Result<(), String> {
        let wanted = load(&self.file).map_err(|failure| failure.message)?.fingerprint();
        if runs == wanted {
            return Ok(());
        }
        Err(format!(
            "it computes something else (its fingerprint is {wanted}, and {runs} runs): run it over a new store"
        ))
    }

    /// The process is to end.
    pub fn end(&self) {
        self.next.store(Next::End as u8, Ordering::Release);
    }

    /// Waits until the file is to be taken over.
    pub async fn wanted(&self) {
        self.notify.notified().await;
    }

    /// Waits while the file that is to be taken over is spoilt by now, since the one before it is gone.
    pub async fn settled(&self, runs: &str) {
        let mut told = String::new();
        while self.is_anew() {
            let Err(why) = self.check(runs) else { return };
            if why != told {
                tracing::error!("the pipeline file was changed while it was taken over, and is waited for: {why}");
                told = why;
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    fn is_anew(&self) -> bool {
        self.next.load(Ordering::Acquire) == Next::Anew as u8
    }

    /// If the file is to be taken over, begins the process anew: comes back only if it is not, or cannot be.
    #[allow(clippy::disallowed_methods, reason = "the binary is the edge")]
    pub fn begin_anew(&self) -> Result<(), Failure> {
        if !self.is_anew() {
            return Ok(());
        }
        let mut words = std::env::args_os();
        let program = words.next().unwrap_or_default();
        Err(Failure::broken(format!("beginning anew: {}", Command::new(program).args(words).exec())))
    }
}
