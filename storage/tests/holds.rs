//! Holds: history that somebody needs is kept, whatever is retained otherwise, through restarts.

mod common;

use common::*;
use storage::{Error, Store};
use types::Epoch;

fn open(dir: &tempfile::TempDir) -> Store {
    let mut options = options(dir.path().join("store"));
    options.retain_epochs = 3;
    Store::open(options).unwrap()
}

fn fill(store: &Store, epochs: std::ops::RangeInclusive<Epoch>) {
    for epoch in epochs {
        let (before, after) = ((epoch - 1).to_string(), epoch.to_string());
        let before = (epoch > 1).then_some(before.as_str());
        commit(store, epoch, put("a", before, Some(&after)));
        store.publish(epoch);
    }
}

/// The epochs whose changes after an epoch can be read.
fn kept(store: &Store, after: Epoch) -> Result<Vec<Epoch>, Error> {
    store.changes(TABLE, after, store.committed())?.map(|item| item.map(|(epoch, _)| epoch)).collect()
}

#[test]
fn what_is_held_is_kept_through_restarts_and_let_go_afterwards() {
    let dir = tempdir();
    let store = open(&dir);
    fill(&store, 1..=10);
    assert!(matches!(store.hold("late", 2), Err(Error::Compacted { .. })));
    assert!(store.holds().is_empty());
    store.hold("sink", 8).unwrap();
    store.hold("other", 9).unwrap();
    fill(&store, 11..=2_000);
    assert_eq!(kept(&store, 8).unwrap(), (9..=2_000).collect::<Vec<_>>());
    assert_eq!(store.digest_at(TABLE, 8).unwrap().rows, 1);
    drop(store);

    let store = open(&dir);
    assert_eq!(store.holds().into_iter().collect::<Vec<_>>(), [("other".to_owned(), 9), ("sink".to_owned(), 8)]);
    fill(&store, 2_001..=2_500);
    store.compact();
    assert_eq!(kept(&store, 8).unwrap(), (9..=2_500).collect::<Vec<_>>());
    // The oldest of them counts, and each moves on for itself.
    store.hold("sink", 2_400).unwrap();
    assert_eq!(store.since(), 8);
    store.release_hold("other").unwrap();
    fill(&store, 2_501..=2_501);
    assert_eq!(store.since(), 2_400);
    assert!(matches!(kept(&store, 9), Err(Error::Compacted { .. })));
    assert_eq!(kept(&store, 2_400).unwrap().len(), 101);
    drop(store);

    let store = open(&dir);
    assert_eq!(store.holds().into_iter().collect::<Vec<_>>(), [("sink".to_owned(), 2_400)]);
    store.release_hold("sink").unwrap();
    fill(&store, 2_502..=2_502);
    assert_eq!(store.since(), 2_499);
    drop(store);
    let report = Store::verify(dir.path().join("store")).unwrap();
    assert!(report.problems.is_empty(), "{:?}", report.problems);
}
