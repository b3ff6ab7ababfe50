//! Thalweg as the benches start it: in this process, or as a daemon that can be killed.

use std::fs::File;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::RecordBatch;
use engine::{Engine, Plan};
use storage::Store;
use types::{RowCodec, Schema};

use crate::http;

/// Reads and checks a pipeline whose files are in `dir`.
pub fn plan(dir: &Path, text: &str) -> Result<Arc<Plan>, String> {
    let file = dir.join("pipeline.toml");
    let plan = engine::pipeline::load(&file, text, &|_| None, &catalogue::all());
    plan.map(Arc::new).map_err(|problems| problems.to_string())
}

/// Opens a store for a plan, as the daemon does.
pub fn open(plan: &Plan, data: &Path) -> Result<Store, String> {
    Store::open(engine::store_options(plan, data)).map_err(|e| e.to_string())
}

/// Starts a plan over a store.
pub fn start(plan: &Arc<Plan>, store: &Store, workers: usize) -> Engine {
    let options = engine::Options { workers, ..engine::Options::default() };
    Engine::start(plan.clone(), store.clone(), options)
}

/// The schema of a step's first output.
pub fn schema_of<'a>(plan: &'a Plan, step: &str) -> &'a Schema {
    let step = plan.steps.iter().find(|s| s.name == step).expect("a step of the pipeline");
    &step.plan.outputs[0].schema
}

/// All rows of a step's first output, as published.
pub fn rows_of(plan: &Plan, store: &Store, step: &str) -> Result<RecordBatch, String> {
    let id = store.relation(step).ok_or_else(|| format!("the store has no `{step}`"))?;
    let snapshot = store.snapshot(None).map_err(|e| e.to_string())?;
    let mut scan = snapshot.scan_prefix(id, &[]);
    let mut rows = Vec::new();
    while let Some(row) = scan.next_row() {
        let row = row.map_err(|e| e.to_string())?;
        rows.push((row.key.to_vec(), row.value.to_vec()));
    }
    let codec = RowCodec::new(schema_of(plan, step));
    codec.decode(rows.iter().map(|(k, v)| (k.as_slice(), v.as_slice()))).map_err(|e| e.to_string())
}

/// A daemon in a process of its own. Killed when dropped.
#[derive(Debug)]
pub struct Daemon {
    child: Child,
    /// Where it serves.
    pub address: SocketAddr,
    log: PathBuf,
}

impl Daemon {
    /// Starts `thalweg run` on a pipeline file. Returns at once.
    pub fn start(thalweg: &Path, pipeline: &Path, data: &Path) -> Result<Daemon, String> {
        let failed = |e: std::io::Error| format!("starting {}: {e}", thalweg.display());
        // Whoever binds port 0 is told a free one; the daemon gets it a moment later.
        let address = TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).map_err(failed)?;
        let log = data.with_extension("log");
        let file = File::create(&log).map_err(failed)?;
        let child = Command::new(thalweg)
            .arg("run")
            .arg(pipeline)
            .arg("--data")
            .arg(data)
            .arg("--listen")
            .arg(address.to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(file)
            .spawn()
            .map_err(failed)?;
        Ok(Daemon { child, address, log })
    }

    /// Its process.
    pub fn process(&self) -> u32 {
        self.child.id()
    }

    /// Waits until `path` is answered with 200, asking every `every`; gives the answer's body.
    pub fn wait_for(&mut self, path: &str, every: Duration, at_most: Duration) -> Result<Vec<u8>, String> {
        let start = Instant::now();
        loop {
            if let Ok((200, body)) = http::get(self.address, path) {
                return Ok(body);
            }
            if let Ok(Some(status)) = self.child.try_wait() {
                return Err(format!("the daemon ended ({status}): {}", self.last_words()));
            }
            if start.elapsed() > at_most {
                return Err(format!("{path} is not answered after {at_most:?}: {}", self.last_words()));
            }
            std::thread::sleep(every);
        }
    }

    /// Waits until that many records of a source are in published epochs.
    pub fn wait_for_records(&mut self, source: &str, records: u64, at_most: Duration) -> Result<(), String> {
        let start = Instant::now();
        let every = Duration::from_millis(20);
        let path = format!("/v1/sources/{source}");
        loop {
            let status = json(&self.wait_for(&path, every, at_most)?)?;
            if status["records"].as_u64().is_some_and(|r| r >= records) {
                let epochs = json(&self.wait_for("/v1/epochs", every, at_most)?)?;
                if epochs["published"] == epochs["sealed"] {
                    return Ok(());
                }
            }
            if start.elapsed() > at_most {
                return Err(format!("after {at_most:?} `{source}` has not delivered {records} records: {status}"));
            }
            std::thread::sleep(every);
        }
    }

    /// SIGKILL, and waits until the process is gone.
    pub fn kill(mut self) -> Result<(), String> {
        self.child.kill().and_then(|()| self.child.wait()).map(|_| ()).map_err(|e| format!("killing the daemon: {e}"))
    }

    fn last_words(&self) -> String {
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(5)..].join("\n")
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // It may have ended, or been killed, already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn json(body: &[u8]) -> Result<serde_json::Value, String> {
    serde_json::from_slice(body).map_err(|e| format!("the daemon answered no JSON: {e}"))
}
