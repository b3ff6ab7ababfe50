//! The process is killed, with a real signal, at every crash point; what was acknowledged is there, whole, and once.

mod common;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use common::*;
use storage::{CrashPoint, JournalEntry, Options, Store};

const EPOCHS: u64 = 90;
const ORDER: &str = "THALWEG_TEST_STORE_CRASH";

/// What a child is told: where, from which seed, and at which passing of which point to die.
fn order(path: &Path, seed: u64, point: CrashPoint, passing: u64) -> String {
    format!("{seed} {} {passing} {}", point.name(), path.display())
}

/// Not a test but the child of one: works on a store until it is killed or done.
#[test]
#[ignore = "the child of the tests below"]
#[allow(clippy::disallowed_methods)]
fn child() {
    let Ok(order) = std::env::var(ORDER) else { return };
    let mut words = order.splitn(4, ' ');
    let mut word = || words.next().unwrap();
    let seed: u64 = word().parse().unwrap();
    let point = CrashPoint::parse(word()).unwrap();
    let passing: u64 = word().parse().unwrap();
    work(&PathBuf::from(word()), seed, point, passing);
}

fn crash_options(path: &Path, seed: u64) -> Options {
    Options {
        // Small and large epochs, applied often: every point is passed.
        stage_rows: [60, 100, 1_000][seed as usize % 3],
        apply_rows: [150, 1, 400][seed as usize % 3],
        retain_epochs: 12,
        ..options(path.join("store"))
    }
}

fn model(seed: u64) -> Model {
    Model::new(seed, 120, 90)
}

fn journal_entry(n: u64) -> JournalEntry {
    JournalEntry { format: "ndjson".to_owned(), payload: format!("entry {n}").into_bytes(), records: 1 + n % 3 }
}

fn journal_seq(n: u64) -> u64 {
    (0..n).map(|i| 1 + i % 3).sum()
}

fn work(path: &Path, seed: u64, point: CrashPoint, passing: u64) {
    let passed = AtomicU64::new(0);
    let mut options = crash_options(path, seed);
    options.hook = Arc::new(move |at| {
        if at == point && passed.fetch_add(1, Ordering::SeqCst) + 1 == passing {
            // The shell's own `kill`: not every machine has a program of that name.
            let kill = format!("kill -KILL {}", std::process::id());
            assert!(Command::new("sh").args(["-c", &kill]).status().unwrap().success());
            loop {
                std::thread::park();
            }
        }
    });
    let store = Store::open(options).unwrap();
    let mut model = model(seed);
    model.reach(store.committed());
    // What is said here was acknowledged, and must be found at the next start.
    let mut said = std::fs::File::options().append(true).create(true).open(path.join("said")).unwrap();
    check(&store, &model, path);
    writeln!(said, "epoch {}", store.committed()).unwrap();
    if let Some(n) = entries(&store).checked_sub(1) {
        writeln!(said, "entry {n}").unwrap();
    }
    while store.committed() < EPOCHS {
        let epoch = store.committed() + 1;
        let n = entries(&store);
        let appended = store.journal_append("s", journal_entry(n), Some(&format!("key {n}"))).unwrap();
        assert_eq!(appended.first_seq, journal_seq(n));
        writeln!(said, "entry {n}").unwrap();
        if n > 4 {
            store.journal_trim("s", journal_seq(n - 4)).unwrap();
        }
        let sets = model.changes(epoch);
        store.log_remap(&remap(epoch)).unwrap();
        // One epoch is sealed ahead, as the engine does.
        store.log_remap(&remap(epoch + 1)).unwrap();
        store.commit(storage::EpochCommit { epoch, relations: sets }).unwrap();
        writeln!(said, "epoch {epoch}").unwrap();
        store.publish(epoch);
        if epoch.is_multiple_of(20) {
            store.compact();
        }
    }
}

/// How many entries were ever journalled.
fn entries(store: &Store) -> u64 {
    let next = store.journal_next_seq("s");
    (0..).find(|n| journal_seq(*n) >= next).unwrap()
}

fn check(store: &Store, model: &Model, path: &Path) {
    let said = std::fs::read_to_string(path.join("said")).unwrap_or_default();
    let most = |what: &str| said.lines().filter_map(|l| l.strip_prefix(what)?.trim().parse::<u64>().ok()).max();
    let committed = store.committed();
    let acknowledged = most("epoch").unwrap_or(0);
    assert!(committed == acknowledged || committed == acknowledged + 1, "{committed} committed, {acknowledged} said");
    let n = entries(store);
    assert_eq!(store.journal_next_seq("s"), journal_seq(n), "entries are whole");
    let acknowledged = most("entry").map_or(0, |n| n + 1);
    assert!(n == acknowledged || n == acknowledged + 1, "{n} entries, {acknowledged} said");
    if n > 0 {
        let again = store.journal_append("s", journal_entry(n - 1), Some(&format!("key {}", n - 1))).unwrap();
        assert!(again.repeated);
        let last = store.journal_read("s", journal_seq(n - 1), usize::MAX).unwrap();
        assert_eq!(last.len(), 1);
        assert_eq!(last[0].entry, journal_entry(n - 1));
    }
    for sealed in store.sealed_after(committed).unwrap() {
        assert_eq!(sealed, remap(sealed.epoch));
        assert!(sealed.epoch <= committed + 2);
    }
    for epoch in store.since()..=committed {
        model.check(&store.snapshot(Some(epoch)).unwrap());
    }
    if committed > 0 {
        assert_eq!(store.remap(committed).unwrap(), Some(remap(committed)));
    }
    let mut rows = model.rows(VIEW, store.since()).clone();
    for item in store.changes(VIEW, store.since(), committed).unwrap() {
        let (epoch, set) = item.unwrap();
        for c in set.iter() {
            match c.after {
                Some(row) => rows.insert(c.key.to_vec(), row.to_vec()),
                None => rows.remove(c.key),
            };
        }
        assert_eq!(&rows, model.rows(VIEW, epoch));
    }
}

/// Runs a child; true if it was killed, false if it came to its end.
#[allow(clippy::disallowed_methods)]
fn child_is_killed(order: &str) -> bool {
    use std::os::unix::process::ExitStatusExt;
    let out = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child", "--ignored", "--nocapture", "--test-threads=1"])
        .env(ORDER, order)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    if out.status.signal() == Some(9) {
        return true;
    }
    let text = [out.stdout, out.stderr].concat();
    assert!(out.status.success(), "`{order}`:\n{}", String::from_utf8_lossy(&text));
    false
}

#[test]
fn a_store_killed_at_any_point_has_what_was_acknowledged() {
    let mut kills = std::collections::BTreeMap::new();
    for seed in 0..4_u64 {
        let dir = tempdir();
        let mut random = Random(seed);
        let mut turn = seed as usize;
        // Each life is cut off at the next point in turn, at a random passing of it.
        for _ in 0..34 {
            let point = CrashPoint::ALL[turn % CrashPoint::ALL.len()];
            turn += 1;
            let passing = 1 + random.below(4);
            if child_is_killed(&order(dir.path(), seed, point, passing)) {
                *kills.entry(point).or_insert(0) += 1;
            }
        }
        // And at last it is let run to its end.
        assert!(!child_is_killed(&order(dir.path(), seed, CrashPoint::Remap, u64::MAX)));
        let mut model = model(seed);
        model.reach(EPOCHS);
        let store = Store::open(crash_options(dir.path(), seed)).unwrap();
        assert_eq!(store.committed(), EPOCHS);
        check(&store, &model, dir.path());
        drop(store);
        let report = Store::verify(dir.path().join("store")).unwrap();
        assert!(report.is_ok(), "seed {seed}: {report:#?}");
    }
    for point in CrashPoint::ALL {
        assert!(kills.get(&point).copied().unwrap_or(0) > 0, "nobody died at {}: {kills:?}", point.name());
    }
}
