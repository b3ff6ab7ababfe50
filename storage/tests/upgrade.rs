//! Stores that older builds wrote, kept in `tests/stores`: each is opened, holds what it held, and goes on.
//!
//! A store's contents follow from its seed ([`Model`]), so nothing but the store itself is kept. `UPDATE_STORE=NAME` adds
//! one as this build writes it; those that are there are never written again.

#![allow(clippy::disallowed_methods, reason = "tests are switched by the environment")]

mod common;

use std::path::{Path, PathBuf};
use std::process::Command;

use common::*;
use storage::{JournalEntry, Options, Store};

const SEED: u64 = 4_242;
const EPOCHS: u64 = 60;
/// The epoch of the hold in stores since there are holds.
const HELD: u64 = 20;

fn stores() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/stores")
}

fn model() -> Model {
    Model::new(SEED, 120, 60)
}

fn options_of(path: &Path, stage_rows: usize, apply_rows: usize) -> Options {
    Options { retain_epochs: 12, stage_rows, apply_rows, sync: false, ..options(path) }
}

/// A store with everything in it: epochs in RocksDB's log and in segments, sorted files and runs, versions that are
/// forgotten, a journal, a hold, and a sealed epoch that is not committed.
fn write(path: &Path) {
    let mut model = model();
    let lives = [("a", 1..=25, usize::MAX, 200), ("b", 26..=45, 20, 400), ("c", 46..=EPOCHS, 30, usize::MAX)];
    for (key, epochs, stage_rows, apply_rows) in lives {
        let store = Store::open(options_of(path, stage_rows, apply_rows)).unwrap();
        for epoch in epochs {
            let sets = model.changes(epoch);
            commit(&store, epoch, sets);
            if epoch == HELD {
                store.hold("sink", HELD).unwrap();
            }
        }
        store.journal_append("pushed", entry(), Some(key)).unwrap();
    }
    let store = Store::open(options_of(path, usize::MAX, usize::MAX)).unwrap();
    store.log_remap(&remap(EPOCHS + 1)).unwrap();
}

fn entry() -> JournalEntry {
    JournalEntry { format: "ndjson".into(), payload: b"{\"a\":1}\n".to_vec(), records: 1 }
}

#[test]
fn a_store_of_an_older_build_is_read_and_goes_on() {
    let dir = tempdir();
    if let Some(name) = std::env::var_os("UPDATE_STORE") {
        let path = dir.path().join("new");
        write(&path);
        let file = stores().join(name).with_extension("tar.gz");
        assert!(!file.exists(), "{} is there already", file.display());
        std::fs::create_dir_all(stores()).unwrap();
        // RocksDB's log for people is no part of the store.
        let tar = ["-C", path.to_str().unwrap(), "--exclude=db/LOG*", "--sort=name", "--mtime=@0", "-czf"];
        assert!(Command::new("tar").args(tar).arg(&file).arg(".").status().unwrap().success());
    }
    let kept = files(&stores(), ".tar.gz");
    assert!(!kept.is_empty(), "no store is kept");
    for archive in kept {
        let name = archive.file_name().unwrap().to_str().unwrap().to_owned();
        let path = dir.path().join(&name);
        std::fs::create_dir(&path).unwrap();
        assert!(Command::new("tar").arg("-xzf").arg(&archive).arg("-C").arg(&path).status().unwrap().success());
        let mut model = model();
        model.reach(EPOCHS);
        let report = Store::verify(&path).unwrap();
        assert!(report.is_ok(), "{name}: {report:#?}");

        let store = Store::open(options_of(&path, 20, 300)).unwrap();
        assert_eq!(store.committed(), EPOCHS, "{name}");
        for epoch in store.since()..=EPOCHS {
            model.check(&store.snapshot(Some(epoch)).unwrap());
        }
        assert_eq!(store.holds().get("sink"), Some(&HELD), "{name}");
        assert_eq!(store.since(), HELD, "{name}");
        let pushed = store.journal_read("pushed", 0, 1 << 20).unwrap();
        assert_eq!(pushed.len(), 3, "{name}");
        assert!(store.journal_append("pushed", entry(), Some("b")).unwrap().repeated, "{name}");
        assert_eq!(store.sealed_after(EPOCHS).unwrap(), [remap(EPOCHS + 1)], "{name}");
        // It goes on, and is as whole after that.
        for epoch in EPOCHS + 1..=EPOCHS + 40 {
            let sets = model.changes(epoch);
            commit(&store, epoch, sets);
        }
        store.release_hold("sink").unwrap();
        store.compact();
        drop(store);
        let store = Store::open(options_of(&path, 20, 300)).unwrap();
        for epoch in store.since()..=store.committed() {
            model.check(&store.snapshot(Some(epoch)).unwrap());
        }
        drop(store);
        let report = Store::verify(&path).unwrap();
        assert!(report.is_ok(), "{name}: {report:#?}");
    }
}
