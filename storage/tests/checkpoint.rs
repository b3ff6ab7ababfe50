//! A copy of a store is a store: as the first was at some epoch, whatever happens to the first meanwhile and after.

mod common;

use std::sync::atomic::{AtomicBool, Ordering};

use common::*;
use storage::{EpochCommit, Error, Store};

#[test]
fn a_copy_made_between_commits_has_all_of_them_and_lives_its_own_life() {
    let dir = tempdir();
    let (path, copy) = (dir.path().join("store"), dir.path().join("copy"));
    let store = Store::open(options(&path)).unwrap();
    // Large epochs too, so that there are segments.
    let mut model = Model::new(3, 4_000, 3_000);
    for epoch in 1..=40 {
        commit(&store, epoch, model.changes(epoch));
    }
    assert_eq!(store.checkpoint(&copy).unwrap(), 40);
    let mut other = model.clone();
    for epoch in 41..=60 {
        commit(&store, epoch, model.changes(epoch));
    }
    drop(store);
    std::fs::remove_dir_all(&path).unwrap();
    let report = Store::verify(&copy).unwrap();
    assert!(report.problems.is_empty(), "{report:?}");
    let store = Store::open(options(&copy)).unwrap();
    assert_eq!(store.committed(), 40);
    other.check(&store.snapshot(Some(40)).unwrap());
    for epoch in 41..=50 {
        commit(&store, epoch, other.changes(epoch));
        other.check(&store.snapshot(None).unwrap());
    }
}

#[test]
fn copies_made_while_a_store_is_written_are_whole() {
    let dir = tempdir();
    let store = Store::open(options(dir.path().join("store"))).unwrap();
    let mut model = Model::new(5, 2_000, 2_000);
    let over = AtomicBool::new(false);
    let copies = std::thread::scope(|scope| {
        let copier = scope.spawn(|| {
            let mut copies = Vec::new();
            while !over.load(Ordering::SeqCst) && copies.len() < 8 {
                let copy = dir.path().join(format!("copy-{}", copies.len()));
                let epoch = store.checkpoint(&copy).unwrap();
                copies.push((copy, epoch));
            }
            copies
        });
        for epoch in 1..=150 {
            let relations = model.changes(epoch);
            store.log_remap(&remap(epoch)).unwrap();
            store.commit(EpochCommit { epoch, relations }).unwrap();
            store.publish(epoch);
        }
        over.store(true, Ordering::SeqCst);
        copier.join().unwrap()
    });
    assert!(copies.len() > 1);
    for (copy, epoch) in copies {
        let report = Store::verify(&copy).unwrap();
        assert!(report.problems.is_empty(), "{report:?}");
        let copied = Store::open(options(&copy)).unwrap();
        assert!(copied.committed() >= epoch);
        for relation in copied.relations() {
            let expected = store.digest_at(relation.id, copied.committed());
            // The first may have forgotten that epoch; it has not forgotten all.
            if let Ok(expected) = expected {
                assert_eq!(copied.digest(relation.id), expected, "{}", relation.name);
            }
        }
    }
}

#[test]
fn a_copy_over_something_is_refused() {
    let dir = tempdir();
    let store = Store::open(options(dir.path().join("store"))).unwrap();
    let there = dir.path().join("there");
    std::fs::write(&there, "mine").unwrap();
    assert!(matches!(store.checkpoint(&there).unwrap_err(), Error::Refused { .. }));
    assert_eq!(std::fs::read_to_string(&there).unwrap(), "mine");
    // What a copy that was cut off left is no obstacle.
    std::fs::create_dir(dir.path().join(".copy.unfinished")).unwrap();
    store.checkpoint(&dir.path().join("copy")).unwrap();
    assert!(!dir.path().join(".copy.unfinished").exists());
}
