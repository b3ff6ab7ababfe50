//! What a store promises, one promise a test.

mod common;

use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use common::*;
use storage::{Consequence, CrashPoint, EpochCommit, Error, Options, RelationId, RelationKind, RelationSpec, Store};
use types::ChangeSet;

fn fresh() -> (tempfile::TempDir, Store) {
    let dir = tempdir();
    let store = Store::open(options(dir.path().join("store"))).unwrap();
    (dir, store)
}

#[test]
fn what_is_committed_is_read_back_at_its_epoch_and_later() {
    let (dir, store) = fresh();
    commit(&store, 1, put("a", None, Some("1")));
    commit(&store, 2, put("a", Some("1"), Some("2")));
    commit(&store, 3, put("a", Some("2"), None));
    let check = |store: &Store| {
        let get = |e| store.snapshot(Some(e)).unwrap().get(TABLE, b"a").unwrap();
        assert_eq!(get(0), None);
        assert_eq!(get(1).as_deref(), Some(b"1".as_slice()));
        assert_eq!(get(2).as_deref(), Some(b"2".as_slice()));
        assert_eq!(get(3), None);
        assert_eq!(store.snapshot(Some(2)).unwrap().version(TABLE, b"a").unwrap(), Some(2));
        assert_eq!(store.snapshot(Some(2)).unwrap().row(TABLE, b"a").unwrap(), Some((b"2".to_vec(), 2)));
        assert_eq!(store.digest_at(TABLE, 2).unwrap().rows, 1);
        assert_eq!(store.digest(TABLE).rows, 0);
    };
    check(&store);
    drop(store);
    let store = Store::open(options(dir.path().join("store"))).unwrap();
    assert_eq!((store.committed(), store.published()), (3, 3));
    check(&store);
    assert_eq!(store.snapshot(Some(4)).unwrap_err(), Error::NotYet { epoch: 4, newest: 3 });
}

#[test]
fn an_epoch_is_seen_when_it_is_published_and_not_before() {
    let (_dir, store) = fresh();
    let told = Arc::new(AtomicU64::new(0));
    let t = told.clone();
    store.on_publish(Box::new(move |e| t.store(e, Ordering::SeqCst)));
    store.log_remap(&remap(1)).unwrap();
    store.commit(EpochCommit { epoch: 1, relations: put("a", None, Some("1")) }).unwrap();
    assert_eq!(store.published(), 0);
    assert_eq!(store.snapshot(None).unwrap().get(TABLE, b"a").unwrap(), None);
    assert!(!store.wait_published(1, Duration::from_millis(1)));
    let waiter = {
        let store = store.clone();
        std::thread::spawn(move || store.wait_published(1, Duration::from_secs(60)))
    };
    store.publish(1);
    assert!(waiter.join().unwrap());
    assert_eq!(told.load(Ordering::SeqCst), 1);
    assert!(store.snapshot(None).unwrap().get(TABLE, b"a").unwrap().is_some());
}

#[test]
fn only_the_next_epoch_is_committed_and_only_once_it_is_sealed() {
    let (_dir, store) = fresh();
    let commit_of = |epoch| store.commit(EpochCommit { epoch, relations: Vec::new() });
    assert!(matches!(commit_of(1), Err(Error::Refused { .. })), "not sealed");
    assert!(matches!(store.log_remap(&remap(2)), Err(Error::Refused { .. })));
    store.log_remap(&remap(1)).unwrap();
    store.log_remap(&remap(1)).unwrap();
    let mut other = remap(1);
    other.clock_ms += 1;
    assert!(matches!(store.log_remap(&other), Err(Error::Refused { .. })), "sealed otherwise");
    store.log_remap(&remap(2)).unwrap();
    assert!(matches!(commit_of(2), Err(Error::Refused { .. })));
    commit_of(1).unwrap();
    assert!(matches!(commit_of(1), Err(Error::Refused { .. })));
    assert_eq!(store.sealed_after(1).unwrap(), vec![remap(2)]);
    let unknown = EpochCommit { epoch: 2, relations: vec![(RelationId(9), ChangeSet::new())] };
    assert_eq!(store.commit(unknown).unwrap_err(), Error::UnknownRelation { relation: RelationId(9) });
    commit_of(2).unwrap();
    assert_eq!(store.sealed_after(2).unwrap(), vec![]);
}

#[test]
#[should_panic(expected = "not sorted")]
fn an_unsorted_change_set_is_a_bug() {
    let (_dir, store) = fresh();
    let mut set = ChangeSet::new();
    set.push(b"b", None, Some(b"1"));
    set.push(b"a", None, Some(b"1"));
    commit(&store, 1, vec![(TABLE, set)]);
}

#[test]
fn sealed_epochs_survive_and_are_to_be_redone_as_they_were() {
    let (dir, store) = fresh();
    commit(&store, 1, put("a", None, Some("1")));
    store.log_remap(&remap(2)).unwrap();
    store.log_remap(&remap(3)).unwrap();
    drop(store);
    let store = Store::open(options(dir.path().join("store"))).unwrap();
    assert_eq!(store.committed(), 1);
    assert_eq!(store.sealed_after(store.committed()).unwrap(), vec![remap(2), remap(3)]);
    assert_eq!(store.remap(1).unwrap(), Some(remap(1)));
    assert_eq!(store.remap(9).unwrap(), None);
}

#[test]
fn one_store_has_one_process() {
    let (dir, store) = fresh();
    let path = dir.path().join("store");
    let second = Store::open(options(&path)).unwrap_err();
    assert!(matches!(second, Error::Locked { .. }), "{second}");
    assert_eq!(second.consequence(), Consequence::NotDone);
    assert!(second.to_string().contains(path.to_str().unwrap()), "{second}");
    assert!(second.to_string().contains(&std::process::id().to_string()), "{second}");
    assert!(matches!(Store::open_read_only(&path), Err(Error::Locked { .. })));
    assert!(matches!(Store::verify(&path), Err(Error::Locked { .. })));
    let snapshot = store.snapshot(None).unwrap();
    drop(store);
    assert!(matches!(Store::open(options(&path)), Err(Error::Locked { .. })), "a snapshot keeps the store open");
    drop(snapshot);
    Store::open(options(&path)).unwrap();
}

#[test]
fn another_format_and_another_plan_are_refused_with_a_sentence() {
    let (dir, store) = fresh();
    let path = dir.path().join("store");
    drop(store);
    let with = |change: fn(&mut Options)| {
        let mut o = options(&path);
        change(&mut o);
        match Store::open(o) {
            Err(Error::ForeignPlan { reason, .. }) => reason,
            other => panic!("{other:?}"),
        }
    };
    assert!(with(|o| o.plan = "beef".to_owned()).contains("beef"));
    assert!(with(|o| o.relations[0].schema = "{}".to_owned()).contains("`orders`"));
    assert!(with(|o| o.relations[0].kind = RelationKind::View).contains("`orders` is a table there and a view here"));
    assert!(with(|o| drop(o.relations.remove(1))).contains("`match`"));
    assert!(
        with(|o| o.relations.push(RelationSpec {
            name: "new".into(),
            kind: RelationKind::View,
            schema: String::new()
        }))
        .contains("`new`")
    );
    // The order of declaration is of no consequence: ids are the store's.
    let mut o = options(&path);
    o.relations.reverse();
    let store = Store::open(o).unwrap();
    assert_eq!(store.relation("orders"), Some(TABLE));
    assert_eq!(store.relations().len(), 3);
    drop(store);

    for (other, what) in [("1", "an older one"), ("3", "a newer one")] {
        std::fs::write(path.join("format"), format!("thalweg store {other}\n")).unwrap();
        for refused in [Store::open(options(&path)), Store::open_read_only(&path)] {
            let e = refused.unwrap_err();
            assert!(matches!(&e, Error::Format { found, .. } if found == other), "{what}: {e}");
            assert!(e.to_string().contains("open it with the program that wrote it"), "{what}: {e}");
        }
        assert!(matches!(Store::verify(&path), Err(Error::Format { .. })), "{what}");
    }
    std::fs::write(path.join("format"), "something else").unwrap();
    assert!(matches!(Store::open(options(&path)), Err(Error::NotAStore { .. })));
    std::fs::remove_file(path.join("format")).unwrap();
    assert!(matches!(Store::open(options(&path)), Err(Error::NotAStore { .. })));
    let elsewhere = dir.path().join("elsewhere");
    std::fs::create_dir(&elsewhere).unwrap();
    std::fs::write(elsewhere.join("thesis.tex"), "").unwrap();
    let stranger = Store::open(options(&elsewhere)).unwrap_err();
    assert!(matches!(&stranger, Error::NotAStore { reason, .. } if reason.contains("thesis.tex")), "{stranger}");
    assert_eq!(files(&elsewhere, "").len(), 1, "nothing was written there");
}

#[test]
fn a_store_opened_for_reading_takes_no_writes() {
    let (dir, store) = fresh();
    let path = dir.path().join("store");
    commit(&store, 1, put("a", None, Some("1")));
    drop(store);
    let store = Store::open_read_only(&path).unwrap();
    assert_eq!(store.snapshot(None).unwrap().get(TABLE, b"a").unwrap().as_deref(), Some(b"1".as_slice()));
    assert_eq!(store.log_remap(&remap(2)).unwrap_err(), Error::ReadOnly);
    assert_eq!(store.journal_trim("s", 1).unwrap_err(), Error::ReadOnly);
    drop(store);
    assert!(matches!(Store::open_read_only(dir.path().join("nowhere")), Err(Error::NotAStore { .. })));
    assert!(!dir.path().join("nowhere").exists());
}

#[test]
fn a_closed_store_is_read_and_not_written() {
    let (_dir, store) = fresh();
    commit(&store, 1, put("a", None, Some("1")));
    store.close();
    assert!(store.snapshot(None).unwrap().get(TABLE, b"a").unwrap().is_some());
    assert!(matches!(store.log_remap(&remap(2)), Err(Error::Refused { .. })));
}

#[test]
fn a_path_that_cannot_be_a_folder_is_named() {
    let dir = tempdir();
    let file = dir.path().join("file");
    std::fs::write(&file, "").unwrap();
    let e = Store::open(options(&file)).unwrap_err();
    assert!(matches!(e, Error::NotAStore { .. }) && e.to_string().contains(file.to_str().unwrap()), "{e}");
    let e = Store::open(options(file.join("below"))).unwrap_err();
    assert!(matches!(e, Error::Failed { .. }) && e.to_string().contains("below"), "{e}");
    let e = Store::open(options("/proc/thalweg")).unwrap_err();
    assert!(matches!(e, Error::Failed { .. }) && e.to_string().contains("/proc/thalweg"), "{e}");
}

#[test]
fn a_snapshot_holds_its_epoch_against_retention() {
    let (_dir, store) = fresh();
    commit(&store, 1, put("a", None, Some("1")));
    let old = store.snapshot(None).unwrap();
    let text = |n: u64| n.to_string();
    for e in 2..300 {
        commit(&store, e, put("a", Some(&text(e - 1)), Some(&text(e))));
    }
    assert_eq!(store.since(), 1);
    assert_eq!(old.get(TABLE, b"a").unwrap().as_deref(), Some(b"1".as_slice()));
    assert_eq!(old.clone().scan_prefix(TABLE, b"").count(), 1);
    drop(old);
    commit(&store, 300, put("a", Some(&text(299)), Some(&text(300))));
    assert_eq!(store.since(), 250);
    assert_eq!(store.snapshot(Some(249)).unwrap_err(), Error::Compacted { epoch: 249, since: 250 });
    assert_eq!(store.changes(TABLE, 249, 300).unwrap_err(), Error::Compacted { epoch: 249, since: 250 });
    assert_eq!(store.digest_at(TABLE, 249).unwrap_err(), Error::Compacted { epoch: 249, since: 250 });
    for e in 250..=300 {
        let found = store.snapshot(Some(e)).unwrap().get(TABLE, b"a").unwrap();
        assert_eq!(found, Some(text(e).into_bytes()));
    }
    let seen: Vec<_> = store.changes(TABLE, 250, 300).unwrap().map(|c| c.unwrap().0).collect();
    assert_eq!(seen, (251..=300).collect::<Vec<_>>());
}

#[test]
fn state_is_kept_as_of_the_newest_epochs_only() {
    let (_dir, store) = fresh();
    let mut set = ChangeSet::new();
    set.push(b"k", None, Some(b"1"));
    commit(&store, 1, vec![(STATE, set.clone())]);
    let held = store.snapshot(None).unwrap();
    commit(&store, 2, vec![(STATE, set)]);
    assert_eq!(held.get(STATE, b"k").unwrap().as_deref(), Some(b"1".as_slice()));
    drop(held);
    commit(&store, 3, Vec::new());
    let old = store.snapshot(Some(1)).unwrap();
    assert!(matches!(old.get(STATE, b"k"), Err(Error::Compacted { .. })));
    assert!(matches!(old.scan_prefix(STATE, b"").next(), Some(Err(Error::Compacted { .. }))));
    assert_eq!(old.get(TABLE, b"k").unwrap(), None);
    assert!(matches!(store.changes(STATE, 0, 3), Err(Error::Refused { .. })));
}

#[test]
fn bounds_are_bytes_and_need_not_be_keys() {
    let dir = tempdir();
    // Half in runs, half in `rows`.
    for apply_rows in [1, usize::MAX] {
        let path = dir.path().join(apply_rows.to_string());
        let store = Store::open(Options { apply_rows, ..options(&path) }).unwrap();
        let keys: Vec<String> = (0..200).map(|n| format!("k{:03}!", n)).collect();
        let (mut table, mut state) = (ChangeSet::new(), ChangeSet::new());
        for k in &keys {
            table.push(k.as_bytes(), None, Some(k.as_bytes()));
            state.push(k.as_bytes(), None, Some(k.as_bytes()));
        }
        commit(&store, 1, vec![(TABLE, table), (STATE, state)]);
        wait_applied(&store, if apply_rows == 1 { 2 } else { 0 });
        let snapshot = store.snapshot(None).unwrap();
        for relation in [TABLE, STATE] {
            let scan = |from: Bound<&str>, to: Bound<&str>| -> Vec<String> {
                let (from, to) = (from.map(str::as_bytes), to.map(str::as_bytes));
                snapshot.scan(relation, from, to).map(|r| String::from_utf8(r.unwrap().0).unwrap()).collect()
            };
            use Bound::*;
            assert_eq!(scan(Unbounded, Unbounded), keys);
            assert_eq!(scan(Included("k05"), Excluded("k06")), keys[50..60]);
            assert_eq!(scan(Included("k050!"), Included("k060!")), keys[50..=60]);
            assert_eq!(scan(Excluded("k050!"), Excluded("k060!")), keys[51..60]);
            assert_eq!(scan(Excluded("k050"), Included("k060")), keys[50..60]);
            assert_eq!(scan(Included("z"), Unbounded), Vec::<String>::new());
            assert_eq!(scan(Unbounded, Excluded("a")), Vec::<String>::new());
            assert_eq!(scan(Included("k1"), Included("k0")), Vec::<String>::new());
            assert_eq!(snapshot.scan_prefix(relation, b"k19").count(), 10);
            assert_eq!(snapshot.scan_prefix(relation, b"\xff\xff").count(), 0);
        }
    }
}

/// Waits until the background has moved that many relations.
fn wait_applied(store: &Store, times: u64) {
    wait_until(|| store.stats().applied >= times);
}

/// One more version of an operator's state.
fn state(epoch: u64) -> Vec<(RelationId, ChangeSet)> {
    let mut set = ChangeSet::new();
    set.push(b"k", None, Some(&epoch.to_le_bytes()));
    vec![(STATE, set)]
}

/// How often changes were about to be forgotten, counted by the hook.
fn counting_trims(change: &dyn Fn(&mut Options)) -> (tempfile::TempDir, Store, Arc<AtomicU64>) {
    let dir = tempdir();
    let trims = Arc::new(AtomicU64::new(0));
    let t = trims.clone();
    let mut options = options(dir.path().join("store"));
    options.hook = Arc::new(move |at| {
        t.fetch_add(u64::from(at == CrashPoint::Trim), Ordering::SeqCst);
    });
    change(&mut options);
    (dir, Store::open(options).unwrap(), trims)
}

#[test]
fn a_publication_alone_lets_what_it_made_old_be_forgotten() {
    // State is forgotten up to the published epoch, sixteen epochs at a time.
    let (_dir, store, trims) = counting_trims(&|o| o.apply_rows = 1);
    for e in 1..16 {
        commit(&store, e, state(e));
    }
    store.log_remap(&remap(16)).unwrap();
    store.commit(EpochCommit { epoch: 16, relations: state(16) }).unwrap();
    wait_applied(&store, 1);
    wait_until(|| store.stats().runs == 0);
    // The thread has had its last turn; whatever it still does, it is not due yet.
    std::thread::sleep(Duration::from_millis(50));
    assert_eq!(trims.load(Ordering::SeqCst), 0);
    store.publish(16);
    wait_until(|| trims.load(Ordering::SeqCst) > 0);
}

#[test]
fn what_a_reader_held_back_is_forgotten_when_it_goes() {
    let (_dir, store, _) = counting_trims(&|o| o.apply_rows = 1);
    commit(&store, 1, put("a", None, Some("1")));
    let held = store.snapshot(None).unwrap();
    let text = |n: u64| n.to_string();
    for e in 2..=300 {
        commit(&store, e, put("a", Some(&text(e - 1)), Some(&text(e))));
        // Old epochs are read from where the table was moved before them; the log behind that is needed.
        if e % 25 == 0 {
            wait_until(|| store.stats().runs == 0);
        }
    }
    assert_eq!((store.since(), store.remap(2).unwrap().is_some()), (1, true));
    let also = held.clone();
    drop(held);
    assert_eq!(store.since(), 1);
    drop(also);
    // Without another commit.
    assert_eq!(store.since(), 250);
    wait_until(|| store.remap(200).unwrap().is_none());
}

#[test]
fn the_log_is_forgotten_once_the_last_relation_is_moved() {
    let (_dir, store, _) = counting_trims(&|o| o.retain_epochs = 30);
    let both = |e: u64| {
        let mut sets = put("a", (e > 1).then(|| (e - 1).to_string()).as_deref(), Some(&e.to_string()));
        sets.retain(|_| e <= 10);
        sets.extend(state(e).into_iter().filter(|_| e >= 5));
        sets
    };
    // The table's oldest run is due a few epochs before the state's by age, and its changes are forgotten then.
    for e in 1..=66 {
        commit(&store, e, both(e));
    }
    wait_applied(&store, 1);
    for e in 67..=70 {
        commit(&store, e, both(e));
    }
    wait_applied(&store, 2);
    // Nothing more is committed, and the state no longer needs the log.
    wait_until(|| store.remap(30).unwrap().is_none());
    assert!(store.remap(40).unwrap().is_some(), "the horizon's is kept");
}

#[test]
fn what_one_relation_needs_of_the_log_is_not_missed_of_another() {
    let (dir, store, trims) = counting_trims(&|o| (o.retain_epochs, o.apply_rows) = (30, 5));
    let five = |relation, epoch: u64| {
        let mut set = ChangeSet::new();
        let text = |e: u64| format!("{relation:?} of {e}").into_bytes();
        let before = (epoch > 3 && relation == VIEW).then(|| text(epoch - 1));
        let before = before.or_else(|| (epoch > 1 && relation == TABLE).then(|| text(1)));
        for n in 0..5 {
            set.push(&[n], before.as_deref(), Some(&text(epoch)));
        }
        vec![(relation, set)]
    };
    commit(&store, 1, five(TABLE, 1));
    wait_applied(&store, 1);
    // Never moved, it holds the commit records back.
    commit(&store, 2, state(2));
    for e in 3..=60 {
        commit(&store, e, five(VIEW, e));
        if e % 5 == 0 {
            wait_until(|| store.stats().runs == 1);
        }
    }
    wait_until(|| trims.load(Ordering::SeqCst) > 0);
    // The table is moved again: until its older state is behind the horizon, it is read from there.
    let applied = store.stats().applied;
    commit(&store, 61, five(TABLE, 61));
    wait_applied(&store, applied + 1);
    wait_until(|| store.stats().runs == 1);
    for e in store.since()..=61 {
        let snapshot = store.snapshot(Some(e)).unwrap();
        let table = format!("{TABLE:?} of {}", if e < 61 { 1 } else { 61 });
        assert_eq!(snapshot.get(TABLE, &[3]).unwrap(), Some(table.into_bytes()), "epoch {e}");
        let view = format!("{VIEW:?} of {}", e.min(60));
        assert_eq!(snapshot.get(VIEW, &[3]).unwrap(), Some(view.into_bytes()), "epoch {e}");
    }
    drop(store);
    let report = Store::verify(dir.path().join("store")).unwrap();
    assert!(report.is_ok(), "{report:?}");
}

#[test]
fn deleted_rows_are_swept_and_stay_deleted() {
    let dir = tempdir();
    let path = dir.path().join("store");
    let open = || Store::open(Options { apply_rows: 1, retain_epochs: 1, ..options(&path) }).unwrap();
    let store = open();
    let key = |n: u64| format!("key-{n:08}").into_bytes();
    let rows = 120_000;
    let (mut all, mut gone) = (ChangeSet::new(), ChangeSet::new());
    for n in 0..rows {
        all.push(&key(n), None, Some(b"row"));
        if n % 2 == 0 {
            gone.push(&key(n), Some(b"row"), None);
        }
    }
    commit(&store, 1, vec![(TABLE, all)]);
    wait_applied(&store, 1);
    commit(&store, 2, vec![(TABLE, gone)]);
    wait_applied(&store, 2);
    for e in 3..40 {
        commit(&store, e, put("other", (e > 3).then_some("x").filter(|_| e % 2 == 0), (e % 2 == 1).then_some("x")));
    }
    assert_eq!(store.snapshot(None).unwrap().scan_prefix(TABLE, b"key").count() as u64, rows / 2);
    drop(store);
    let store = open();
    let snapshot = store.snapshot(None).unwrap();
    assert_eq!(snapshot.scan_prefix(TABLE, b"key").count() as u64, rows / 2);
    for n in (0..rows).step_by(997) {
        assert_eq!(snapshot.get(TABLE, &key(n)).unwrap().is_some(), n % 2 == 1);
    }
    drop(snapshot);
    drop(store);
    assert!(Store::verify(&path).unwrap().is_ok());
}

#[test]
fn deletions_that_a_reader_held_are_swept_when_it_goes() {
    let dir = tempdir();
    let path = dir.path().join("store");
    let store = Store::open(Options { apply_rows: 1, retain_epochs: 1, ..options(&path) }).unwrap();
    let key = |n: u64| format!("key-{n:08}").into_bytes();
    let (mut all, mut gone) = (ChangeSet::new(), ChangeSet::new());
    for n in 0..60_000 {
        all.push(&key(n), None, Some(b"row"));
        gone.push(&key(n), Some(b"row"), None);
    }
    commit(&store, 1, vec![(TABLE, all)]);
    wait_applied(&store, 1);
    let held = store.snapshot(None).unwrap();
    commit(&store, 2, vec![(TABLE, gone)]);
    commit(&store, 3, Vec::new());
    // Moved, swept in vain, and gone through once more.
    wait_applied(&store, 2);
    commit(&store, 4, put("a", None, Some("1")));
    wait_applied(&store, 3);
    assert_eq!(held.scan_prefix(TABLE, b"key").count(), 60_000);
    drop(held);
    // A sweep goes on for a slice after each move.
    for e in 5..8 {
        commit(&store, e, put("a", Some(&(e - 4).to_string()), Some(&(e - 3).to_string())));
        wait_applied(&store, e - 1);
    }
    drop(store);
    assert!(entries(&path, "rows").len() < 10, "they are still there");
}
