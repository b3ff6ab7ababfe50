//! A full disk: an error with a consequence, and nothing lost.
//!
//! A file of its own, for it starts processes: between their fork and their exec they hold the locks of whatever stores
//! are open, which other tests open again at once.

mod common;

use std::process::{Command, Stdio};

use common::*;
use storage::{Consequence, EpochCommit, Error, Options, Store};

const ORDER: &str = "THALWEG_TEST_STORE_FULL";

/// With staging the epochs are large, and it is a segment that does not fit; else the log.
fn full_model(stage_rows: usize) -> Model {
    if stage_rows == 1 { Model::new(5, 4_000, 4_000) } else { Model::new(5, 500, 600) }
}

/// Not a test but the child of one: writes until the disk is full, and says what was acknowledged.
#[test]
#[ignore = "the child of the test below"]
#[allow(clippy::disallowed_methods)]
fn child() {
    let Ok(order) = std::env::var(ORDER) else { return };
    let words: Vec<&str> = order.splitn(3, ' ').collect();
    let [stage_rows, apply_rows] = [0, 1].map(|i| words[i].parse().unwrap());
    let store = Store::open(Options { stage_rows, apply_rows, ..options(words[2]) }).unwrap();
    let mut model = full_model(stage_rows);
    let failure = loop {
        let epoch = store.committed() + 1;
        assert!(epoch < 5_000, "the disk never filled");
        let relations = model.changes(epoch);
        let done = store.log_remap(&remap(epoch)).and_then(|()| store.commit(EpochCommit { epoch, relations }));
        if let Err(e) = done {
            break e;
        }
        store.publish(epoch);
        println!("said {epoch}");
    };
    println!("failure {:?} {failure}", failure.consequence());
    // A write that may have happened is followed by no other; one that did not may be tried again.
    if failure.consequence() == Consequence::Unknown {
        let next = store.log_remap(&remap(store.committed() + 2)).unwrap_err();
        assert!(matches!(next, Error::Poisoned { .. }), "{next}");
    }
    model.check(&store.snapshot(None).unwrap());
    println!("read on");
}

#[test]
#[allow(clippy::disallowed_methods)]
fn a_full_disk_is_an_error_with_a_consequence_and_loses_nothing() {
    let cases: [(usize, usize, &[&str]); 3] = [
        (1, 2_000, &["failure NotDone"]),
        (usize::MAX, usize::MAX, &["failure Unknown"]),
        // The background work writes to the log too. If that fails first, commits are refused, and told why.
        (usize::MAX, 2_000, &["failure Unknown", "failure NotDone the store takes no more writes since one failed"]),
    ];
    for (stage_rows, apply_rows, expected) in cases {
        let dir = tempdir();
        let path = dir.path().join("store");
        // No file may grow beyond this, which is how a full disk looks to one that writes to it.
        let blocks = if stage_rows == 1 { 100 } else { 400 };
        let script = format!(
            "trap '' XFSZ; ulimit -f {blocks}; exec \"$0\" --exact child --ignored --nocapture --test-threads=1"
        );
        let out = Command::new("bash")
            .args(["-c", &script])
            .arg(std::env::current_exe().unwrap())
            .env(ORDER, format!("{stage_rows} {apply_rows} {}", path.display()))
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&out.stdout).into_owned();
        let errors = String::from_utf8_lossy(&out.stderr).into_owned();
        assert!(out.status.success() && text.contains("read on"), "{text}\n{errors}");
        assert!(expected.iter().any(|e| text.contains(e)), "{expected:?}\n{text}");
        let said: u64 = text.lines().filter_map(|l| l.strip_prefix("said ")?.parse().ok()).max().unwrap_or(0);
        let mut model = full_model(stage_rows);
        let store = Store::open(options(&path)).unwrap();
        let committed = store.committed();
        assert!(committed == said || committed == said + 1, "{committed} committed, {said} said\n{text}");
        model.reach(committed);
        model.check(&store.snapshot(None).unwrap());
        drop(store);
        let report = Store::verify(&path).unwrap();
        assert!(report.is_ok(), "{report:?}");
    }
}
