//! `memory`: what a daemon has resident for each row of a table and of a view of it, against the bytes of the row.
//!
//! The difference between a daemon with a million rows and one with a single row, so what every daemon needs does not
//! count. The row's bytes are those of its cells: an integer, a float and 84 letters.

use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::Path;
use std::time::Duration;

use crate::Options;
use crate::machine::{Scratch, folder_bytes, resident_bytes};
use crate::measure::{Rng, Samples};
use crate::report::Report;
use crate::subject::Daemon;

pub const PIPELINE: &str = r#"
name = "bench_memory"

[sources.items]
type = "file"
path = "items.csv"
columns = { id = "int64", name = "string", value = "float64" }
key = ["id"]

[steps.copy]
operator = "select"
input = "items"
"#;

const NAME_BYTES: usize = 84;
const ROW_BYTES: usize = 8 + 8 + NAME_BYTES;
const PATIENCE: Duration = Duration::from_secs(300);
/// How long background work may take to settle before memory is read.
const SETTLE: Duration = Duration::from_secs(2);

pub fn run(options: &Options, scratch: &Scratch, report: &mut Report) -> Result<(), String> {
    let rows: u64 = options.pick(1_000_000, 200_000);
    let pipeline = scratch.path().join("pipeline.toml");
    std::fs::write(&pipeline, PIPELINE).map_err(|e| format!("{}: {e}", pipeline.display()))?;
    let mut per_row = Samples::default();
    let mut on_disk = Samples::default();
    let mut row = Samples::default();
    for repetition in 0..options.repetitions() {
        report.progress(&format!("{rows} rows, repetition {}", repetition + 1));
        let (empty, _) = resident(options, scratch, &pipeline, 1)?;
        let (full, disk) = resident(options, scratch, &pipeline, rows)?;
        per_row.push(full.saturating_sub(empty) as f64 / rows as f64);
        on_disk.push(disk as f64 / rows as f64);
        row.push(ROW_BYTES as f64);
    }
    report.against("bytes_per_row", "bytes", &per_row, "bytes of the row", &row);
    report.against("disk_bytes_per_row", "bytes", &on_disk, "bytes of the row", &row);
    Ok(())
}

/// Bytes in memory and on disk of a daemon with that many rows.
fn resident(options: &Options, scratch: &Scratch, pipeline: &Path, rows: u64) -> Result<(u64, u64), String> {
    write_items(&scratch.path().join("items.csv"), rows)?;
    let data = scratch.fresh("store")?;
    let mut daemon = Daemon::start(&options.thalweg, pipeline, &data)?;
    daemon.wait_for("/healthz/ready", Duration::from_millis(5), PATIENCE)?;
    daemon.wait_for_records("items", rows, PATIENCE)?;
    std::thread::sleep(SETTLE);
    let bytes = resident_bytes(daemon.process())?;
    let disk = folder_bytes(&data);
    daemon.kill()?;
    scratch.remove("store")?;
    Ok((bytes, disk))
}

fn write_items(path: &Path, rows: u64) -> Result<(), String> {
    let mut rng = Rng::new(6);
    let mut write = || {
        let mut out = BufWriter::with_capacity(1 << 20, File::create(path)?);
        out.write_all(b"id,name,value\n")?;
        for id in 0..rows {
            let name: String = (0..NAME_BYTES).map(|_| char::from(b'a' + rng.below(26) as u8)).collect();
            writeln!(out, "{id},{name},{}.5", rng.below(1_000))?;
        }
        out.flush()
    };
    write().map_err(|e: std::io::Error| format!("{}: {e}", path.display()))
}
