//! `commit`: durable epochs of rows of 100 bytes, against raw RocksDB and against a file appended to and synced.
//!
//! All three are given the same rows in the same order, keys at random, every key once. Ours sorts an epoch's rows as
//! the engine would, logs its remap, commits and publishes it. Opening and closing are not counted.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;

use rocksdb::{DB, WriteBatch, WriteOptions};
use storage::{EpochCommit, RelationKind, RelationSpec, Store};
use types::{ChangeSet, Remap};

use crate::Options;
use crate::machine::Scratch;
use crate::measure::{Rng, Samples, quantile, timed};
use crate::report::Report;

const KEY_BYTES: usize = 16;
const ROW_BYTES: usize = 100;
const RAW: &str = "raw RocksDB, a synced WriteBatch an epoch";
const FSYNC: &str = "append and fsync of the same bytes";

pub fn run(options: &Options, scratch: &Scratch, report: &mut Report) -> Result<(), String> {
    let rows = random_rows(options.pick(2_000_000, 200_000));
    let count = rows.len() / ROW_BYTES;
    for (epoch_rows, name) in [(1_000, "1k"), (10_000, "10k"), (100_000, "100k")] {
        report.progress(&format!("{count} rows in epochs of {epoch_rows}"));
        let epochs: Vec<&[u8]> = rows.chunks(epoch_rows * ROW_BYTES).collect();
        let (mut ours, mut raw, mut file) = (Runs::default(), Runs::default(), Runs::default());
        for _ in 0..options.repetitions() {
            file.push(append(&scratch.fresh("file")?, &epochs)?);
            raw.push(raw_rocksdb(&scratch.fresh("raw")?, &epochs)?);
            ours.push(store(&scratch.fresh("store")?, &epochs)?);
        }
        for left in ["file", "raw", "store"] {
            scratch.remove(left)?;
        }
        let rate = |runs: &Runs| runs.seconds.map(|s| count as f64 / s);
        report.against(&format!("rows_per_s_epoch_{name}"), "rows/s", &rate(&ours), RAW, &rate(&raw));
        report.figure(&format!("file_rows_per_s_{name}"), "rows/s", &rate(&file));
        let metric = if epoch_rows == 1_000 { "epoch_p50_ms".to_owned() } else { format!("epoch_p50_ms_{name}") };
        report.against(&metric, "ms", &ours.p50_ms, FSYNC, &file.p50_ms);
    }
    Ok(())
}

/// What the repetitions of one writer took: all of it, and the median epoch of each.
#[derive(Default)]
struct Runs {
    seconds: Samples,
    p50_ms: Samples,
}

impl Runs {
    fn push(&mut self, mut epochs: Vec<f64>) {
        self.seconds.push(epochs.iter().sum());
        epochs.sort_unstable_by(f64::total_cmp);
        self.p50_ms.push(quantile(&epochs, 0.5) * 1e3);
    }
}

/// Rows of 100 bytes end to end; the first 16 of each are its key. Keys do not repeat: the last 8 bytes are its number.
fn random_rows(count: usize) -> Vec<u8> {
    let mut rng = Rng::new(3);
    let mut rows = Vec::with_capacity(count * ROW_BYTES);
    for number in 0..count as u64 {
        rows.extend_from_slice(&rng.next().to_be_bytes());
        rows.extend_from_slice(&number.to_be_bytes());
        while rows.len() % ROW_BYTES != 0 {
            let bytes = rng.next().to_le_bytes();
            let left = ROW_BYTES - rows.len() % ROW_BYTES;
            rows.extend_from_slice(&bytes[..left.min(bytes.len())]);
        }
    }
    rows
}

/// The floor: seconds for each epoch.
fn append(path: &Path, epochs: &[&[u8]]) -> Result<Vec<f64>, String> {
    let failed = |e: std::io::Error| format!("{}: {e}", path.display());
    let mut file = File::create(path).map_err(failed)?;
    let write = |epoch: &&[u8]| {
        let (written, seconds) = timed(|| file.write_all(epoch).and_then(|()| file.sync_data()));
        written.map(|()| seconds).map_err(failed)
    };
    epochs.iter().map(write).collect()
}

/// The limit: seconds for each epoch.
fn raw_rocksdb(path: &Path, epochs: &[&[u8]]) -> Result<Vec<f64>, String> {
    let mut options = rocksdb::Options::default();
    options.create_if_missing(true);
    let db = DB::open(&options, path).map_err(|e| e.to_string())?;
    let mut synced = WriteOptions::default();
    synced.set_sync(true);
    let write = |epoch: &&[u8]| {
        let (written, seconds) = timed(|| {
            let mut batch = WriteBatch::default();
            for row in epoch.chunks_exact(ROW_BYTES) {
                batch.put(&row[..KEY_BYTES], &row[KEY_BYTES..]);
            }
            db.write_opt(batch, &synced)
        });
        written.map(|()| seconds).map_err(|e| e.to_string())
    };
    epochs.iter().map(write).collect()
}

/// Ours: seconds for each epoch.
fn store(path: &Path, epochs: &[&[u8]]) -> Result<Vec<f64>, String> {
    let mut options = storage::Options::new(path);
    let spec = RelationSpec { name: "rows".to_owned(), kind: RelationKind::View, schema: "{}".to_owned() };
    options.relations = vec![spec];
    let store = Store::open(options).map_err(|e| e.to_string())?;
    let relation = store.relation("rows").ok_or("the store has no `rows`")?;
    let mut epoch = 0;
    let write = |rows: &&[u8]| {
        epoch += 1;
        let (written, seconds) = timed(|| {
            let mut sorted: Vec<&[u8]> = rows.chunks_exact(ROW_BYTES).collect();
            sorted.sort_unstable_by(|a, b| a[..KEY_BYTES].cmp(&b[..KEY_BYTES]));
            let mut changes = ChangeSet::with_capacity(sorted.len(), rows.len());
            for row in sorted {
                changes.push(&row[..KEY_BYTES], None, Some(&row[KEY_BYTES..]));
            }
            store.log_remap(&Remap { epoch, ..Remap::default() })?;
            store.commit(EpochCommit { epoch, relations: vec![(relation, changes)] })?;
            store.publish(epoch);
            Ok::<(), storage::Error>(())
        });
        written.map(|()| seconds).map_err(|e| e.to_string())
    };
    let seconds: Result<Vec<f64>, String> = epochs.iter().map(write).collect();
    let rows = store.digest(relation).rows;
    store.close();
    let expected: usize = epochs.iter().map(|e| e.len() / ROW_BYTES).sum();
    if rows == expected as u64 { seconds } else { Err(format!("{rows} of {expected} rows are in the store")) }
}
