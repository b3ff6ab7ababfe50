//! What the journal promises: numbers without gaps, nothing lost, nothing twice.

mod common;

use std::sync::Arc;
use std::time::Duration;

use common::*;
use storage::{Appended, Error, JournalEntry, Store};

fn entry(text: &str, records: u64) -> JournalEntry {
    JournalEntry { format: "ndjson".to_owned(), payload: text.as_bytes().to_vec(), records }
}

fn texts(store: &Store, source: &str, from: u64, bytes_max: usize) -> Vec<(u64, String)> {
    let all = store.journal_read(source, from, bytes_max).unwrap();
    all.into_iter().map(|j| (j.first_seq, String::from_utf8(j.entry.payload).unwrap())).collect()
}

#[test]
fn records_are_numbered_without_a_gap_and_read_from_any_of_them() {
    let dir = tempdir();
    let path = dir.path().join("store");
    let store = Store::open(options(&path)).unwrap();
    let first = |s, e| store.journal_append(s, e, None).unwrap().first_seq;
    assert_eq!(first("a", entry("x", 3)), 0);
    assert_eq!(first("a", entry("y", 2)), 3);
    assert_eq!(first("ab", entry("other", 9)), 0);
    assert_eq!(first("a", entry("z", 1)), 5);
    assert_eq!(store.journal_append("a", entry("none", 0), Some("k")).unwrap().records, 0);
    let pair = |n, t: &str| (n, t.to_owned());
    let check = |store: &Store| {
        assert_eq!(store.journal_next_seq("a"), 6);
        assert_eq!(store.journal_next_seq("nobody"), 0);
        assert_eq!(texts(store, "a", 0, 1 << 20), [pair(0, "x"), pair(3, "y"), pair(5, "z")]);
        assert_eq!(texts(store, "a", 2, 1 << 20), [pair(0, "x"), pair(3, "y"), pair(5, "z")]);
        assert_eq!(texts(store, "a", 4, 1 << 20), [pair(3, "y"), pair(5, "z")]);
        assert_eq!(texts(store, "a", 3, 1), [pair(3, "y")]);
        assert_eq!(texts(store, "a", 0, 0), [pair(0, "x")], "one at least");
        assert_eq!(texts(store, "a", 6, 1 << 20), []);
        assert_eq!(texts(store, "nobody", 0, 1 << 20), []);
    };
    check(&store);
    drop(store);
    let store = Store::open(options(&path)).unwrap();
    check(&store);
    store.journal_trim("a", 4).unwrap();
    assert_eq!(texts(&store, "a", 0, 1 << 20), [pair(3, "y"), pair(5, "z")]);
    store.journal_trim("a", 6).unwrap();
    assert_eq!(texts(&store, "a", 0, 1 << 20), []);
    assert_eq!(texts(&store, "ab", 0, 1 << 20), [pair(0, "other")]);
    drop(store);
    let store = Store::open(options(&path)).unwrap();
    assert_eq!(store.journal_next_seq("a"), 6, "numbers go on behind what was trimmed");
    assert_eq!(store.journal_append("a", entry("w", 1), None).unwrap().first_seq, 6);
    drop(store);
    assert!(Store::verify(&path).unwrap().is_ok());
}

#[test]
fn a_repetition_is_answered_as_the_first_was() {
    let dir = tempdir();
    let path = dir.path().join("store");
    let mut store = Store::open(options(&path)).unwrap();
    let append = |store: &Store, text: &str, key: &str| store.journal_append("s", entry(text, 2), Some(key));
    let first = append(&store, "x", "k1").unwrap();
    assert_eq!(first, Appended { first_seq: 0, records: 2, repeated: false, epoch: None });
    append(&store, "y", "k2").unwrap();
    for reopened in [false, true] {
        if reopened {
            drop(store);
            store = Store::open(options(&path)).unwrap();
        }
        assert_eq!(
            append(&store, "x", "k1").unwrap(),
            Appended { repeated: true, epoch: reopened.then_some(9), ..first }
        );
        let conflict = append(&store, "z", "k1").unwrap_err();
        assert_eq!(conflict, Error::IdempotencyConflict { name: "s".to_owned(), key: "k1".to_owned() });
        store.journal_set_epoch("s", "k1", 9).unwrap();
        store.journal_set_epoch("s", "unknown", 9).unwrap();
        assert_eq!(append(&store, "x", "k1").unwrap().epoch, Some(9));
        store.journal_trim("s", 100).unwrap();
    }
    assert_eq!(store.journal_next_seq("s"), 4);
    // Keys are a source's own.
    assert!(!store.journal_append("t", entry("z", 1), Some("k1")).unwrap().repeated);
}

#[test]
fn concurrent_callers_get_their_own_numbers_and_one_of_each_key_wins() {
    let dir = tempdir();
    let path = dir.path().join("store");
    let store = Store::open(options(&path)).unwrap();
    let barrier = Arc::new(std::sync::Barrier::new(8));
    let threads: Vec<_> = (0..8)
        .map(|t| {
            let (store, barrier) = (store.clone(), barrier.clone());
            std::thread::spawn(move || {
                barrier.wait();
                let mut out = Vec::new();
                for i in 0..40 {
                    // Half the keys are shared by all.
                    let text = if i % 2 == 0 { format!("shared-{i}") } else { format!("own-{t}-{i}") };
                    let a = store.journal_append("s", entry(&text, 1 + i % 3), Some(&text)).unwrap();
                    out.push((text, a));
                }
                out
            })
        })
        .collect();
    let mut all = Vec::new();
    for t in threads {
        all.extend(t.join().unwrap());
    }
    let journal = store.journal_read("s", 0, usize::MAX).unwrap();
    let mut next = 0;
    for j in &journal {
        assert_eq!(j.first_seq, next);
        next += j.entry.records;
    }
    assert_eq!(next, store.journal_next_seq("s"));
    assert_eq!(journal.len(), 20 + 8 * 20);
    for (text, a) in &all {
        let stands = journal.iter().filter(|j| j.entry.payload == text.as_bytes()).collect::<Vec<_>>();
        assert_eq!(stands.len(), 1);
        assert_eq!((stands[0].first_seq, stands[0].entry.records), (a.first_seq, a.records));
    }
    assert_eq!(all.iter().filter(|(_, a)| !a.repeated).count(), journal.len());
}

#[test]
fn who_waits_for_a_record_is_told_when_it_is_on_disk() {
    let dir = tempdir();
    let path = dir.path().join("store");
    let store = Store::open(options(&path)).unwrap();
    let (now, for_ever) = (Duration::ZERO, Duration::from_secs(600));
    assert!(!store.journal_wait("s", 0, now), "a source nobody has heard of");
    let waiting = {
        let store = store.clone();
        std::thread::spawn(move || store.journal_wait("s", 1, for_ever))
    };
    store.journal_append("other", entry("x", 5), None).unwrap();
    store.journal_append("s", entry("a", 2), None).unwrap();
    assert!(waiting.join().unwrap());
    assert!(store.journal_wait("s", 0, for_ever) && store.journal_wait("s", 1, for_ever));
    assert!(!store.journal_wait("s", 2, now));
    drop(store);
    let store = Store::open(options(&path)).unwrap();
    assert!(store.journal_wait("s", 1, for_ever) && !store.journal_wait("s", 2, now), "after a restart too");
}
