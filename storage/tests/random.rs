//! A store driven at random, reopened at random, against a map of versions.

mod common;

use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use common::*;
use storage::{Options, Snapshot, Store};
use types::{ChangeSet, Epoch};

#[test]
fn a_store_answers_as_a_map_of_versions() {
    for seed in 0..12 {
        run(seed);
    }
}

fn open(path: &std::path::Path, random: &mut Random) -> Store {
    let pick = |random: &mut Random, all: &[usize]| all[random.below(all.len() as u64) as usize];
    let options = Options {
        stage_rows: pick(random, &[1, 40, usize::MAX]),
        apply_rows: pick(random, &[1, 50, 400, usize::MAX]),
        retain_epochs: 20,
        sync: false,
        ..options(path)
    };
    Store::open(options).unwrap()
}

fn run(seed: u64) {
    let dir = tempdir();
    let path = dir.path().join("store");
    let mut random = Random(seed);
    let mut model = Model::new(seed, 200, if seed % 3 == 0 { 400 } else { 40 });
    let mut store = open(&path, &mut random);
    let mut held: Vec<Snapshot> = Vec::new();
    let mut since = 0;
    for _ in 0..260 {
        match random.below(20) {
            0 => {
                held.clear();
                drop(store);
                store = open(&path, &mut random);
                assert_eq!(store.committed(), model.newest(), "seed {seed}");
                assert!(store.since() >= since, "seed {seed}: what was forgotten is not promised again");
            }
            1 => store.compact(),
            2 => held.push(store.snapshot(Some(any_epoch(&store, &mut random))).unwrap()),
            3 if !held.is_empty() => {
                let old = held.swap_remove(random.below(held.len() as u64) as usize);
                model.check(&old);
            }
            4 => model.check(&store.snapshot(Some(any_epoch(&store, &mut random))).unwrap()),
            5 => gets(&model, &store, &mut random),
            6 => scans(&model, &store, &mut random),
            7 => changes(&model, &store, &mut random),
            _ => {
                let epoch = model.newest() + 1;
                let sets = model.changes(epoch);
                commit(&store, epoch, sets);
            }
        }
        since = store.since();
        assert!(model.newest() - store.committed() == 0);
    }
    for old in held {
        model.check(&old);
    }
    for epoch in store.since()..=store.committed() {
        model.check(&store.snapshot(Some(epoch)).unwrap());
    }
    drop(store);
    let report = Store::verify(&path).unwrap();
    assert!(report.is_ok(), "seed {seed}: {report:#?}");
    assert_eq!(report.committed, model.newest());
}

fn any_epoch(store: &Store, random: &mut Random) -> Epoch {
    let since = store.since();
    since + random.below(store.published() - since + 1)
}

fn any_key(relation: storage::RelationId, random: &mut Random) -> Vec<u8> {
    let n = random.below(210);
    if relation == STATE { state_key(n) } else { format!("key-{n:06}").into_bytes() }
}

fn gets(model: &Model, store: &Store, random: &mut Random) {
    let snapshot = store.snapshot(Some(any_epoch(store, random))).unwrap();
    for relation in ALL {
        if relation == STATE && snapshot.get(STATE, b"").is_err() {
            continue;
        }
        for _ in 0..40 {
            let key = any_key(relation, random);
            let found = snapshot.row(relation, &key).unwrap();
            let epoch = snapshot.epoch();
            assert_eq!(found.as_ref().map(|r| &r.0), model.rows(relation, epoch).get(&key), "seed {}", model.seed);
            if let Some((row, version)) = found {
                assert!(version <= epoch);
                // The row has been what it is since the epoch that is said to have written it.
                for e in version.max(store.since())..=epoch {
                    assert_eq!(model.rows(relation, e).get(&key), Some(&row), "seed {}", model.seed);
                }
            }
        }
    }
}

fn scans(model: &Model, store: &Store, random: &mut Random) {
    let snapshot = store.snapshot(Some(any_epoch(store, random))).unwrap();
    for relation in ALL {
        if relation == STATE && snapshot.get(STATE, b"").is_err() {
            continue;
        }
        let bound = |random: &mut Random| match random.below(3) {
            0 => Bound::Unbounded,
            1 => Bound::Included(any_key(relation, random)),
            _ => Bound::Excluded(any_key(relation, random)),
        };
        let (from, to) = (bound(random), bound(random));
        let within = |k: &[u8]| {
            (match &from {
                Bound::Unbounded => true,
                Bound::Included(f) => k >= f.as_slice(),
                Bound::Excluded(f) => k > f.as_slice(),
            }) && (match &to {
                Bound::Unbounded => true,
                Bound::Included(t) => k <= t.as_slice(),
                Bound::Excluded(t) => k < t.as_slice(),
            })
        };
        let as_slice = |b: &Bound<Vec<u8>>| b.clone();
        let (f, t) = (as_slice(&from), as_slice(&to));
        let found: Vec<_> = snapshot
            .scan(relation, f.as_ref().map(Vec::as_slice), t.as_ref().map(Vec::as_slice))
            .map(Result::unwrap)
            .collect();
        let expected: Vec<_> = model
            .rows(relation, snapshot.epoch())
            .iter()
            .filter(|(k, _)| within(k))
            .map(|(k, v)| (k.clone(), v.clone()))
            .collect();
        assert_eq!(found, expected, "seed {} {from:?} {to:?}", model.seed);
    }
}

fn changes(model: &Model, store: &Store, random: &mut Random) {
    let after = any_epoch(store, random);
    for relation in [TABLE, VIEW] {
        let mut rows = model.rows(relation, after).clone();
        let mut last = after;
        for item in store.changes(relation, after, store.committed()).unwrap() {
            let (epoch, set) = item.unwrap();
            assert!(epoch > last && set.is_sorted() && !set.is_empty());
            assert_eq!(&rows, model.rows(relation, epoch - 1), "epochs left out changed nothing");
            last = epoch;
            for change in set.iter() {
                assert_eq!(change.before, None);
                match change.after {
                    Some(row) => rows.insert(change.key.to_vec(), row.to_vec()),
                    None => rows.remove(change.key),
                };
            }
            assert_eq!(&rows, model.rows(relation, epoch), "seed {} epoch {epoch}", model.seed);
        }
        assert_eq!(&rows, model.rows(relation, store.committed()));
    }
}

/// Every epoch moves a little from one account to another: whoever reads while it is written, applied, merged and
/// compacted must find the same sum.
#[test]
fn readers_see_whole_epochs_while_everything_moves() {
    const ACCOUNTS: u64 = 300;
    let dir = tempdir();
    let options = Options {
        apply_rows: 200,
        stage_rows: 120,
        retain_epochs: 10,
        sync: false,
        ..options(dir.path().join("store"))
    };
    let store = Store::open(options).unwrap();
    let key = |n: u64| format!("account-{n:05}").into_bytes();
    let mut balance = vec![1_000_i64; ACCOUNTS as usize];
    let mut first = ChangeSet::new();
    for n in 0..ACCOUNTS {
        first.push(&key(n), None, Some(&1_000_i64.to_le_bytes()));
    }
    commit(&store, 1, vec![(TABLE, first)]);
    let done = Arc::new(AtomicBool::new(false));
    let scans = Arc::new(AtomicU64::new(0));
    let readers: Vec<_> = (0..2)
        .map(|reader| {
            let (store, done, scans) = (store.clone(), done.clone(), scans.clone());
            std::thread::spawn(move || {
                let mut random = Random(reader);
                while !done.load(Ordering::Relaxed) {
                    let snapshot = store.snapshot(None).unwrap();
                    let number = |row: &[u8]| i64::from_le_bytes(row.try_into().unwrap());
                    let (mut sum, mut rows) = (0, 0);
                    let mut scan = snapshot.scan(TABLE, Bound::Unbounded, Bound::Unbounded);
                    while let Some(row) = scan.next_row() {
                        sum += number(row.unwrap().value);
                        rows += 1;
                    }
                    assert_eq!((rows, sum), (ACCOUNTS, 1_000 * ACCOUNTS as i64), "epoch {}", snapshot.epoch());
                    for _ in 0..20 {
                        let n = random.below(ACCOUNTS);
                        assert!(snapshot.get(TABLE, format!("account-{n:05}").as_bytes()).unwrap().is_some());
                    }
                    scans.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    let mut random = Random(7);
    let mut epoch = 1;
    while epoch < 1_500 || scans.load(Ordering::Relaxed) < 50 {
        epoch += 1;
        let before = balance.clone();
        for _ in 0..random.below(150) {
            let (a, b) = (random.below(ACCOUNTS) as usize, random.below(ACCOUNTS) as usize);
            balance[a] -= 1;
            balance[b] += 1;
        }
        let mut set = ChangeSet::new();
        for n in 0..ACCOUNTS as usize {
            if before[n] != balance[n] {
                set.push(&key(n as u64), Some(&before[n].to_le_bytes()), Some(&balance[n].to_le_bytes()));
            }
        }
        commit(&store, epoch, vec![(TABLE, set)]);
        if epoch % 200 == 0 {
            store.compact();
        }
        if readers.iter().any(|r| r.is_finished()) {
            break;
        }
    }
    done.store(true, Ordering::Relaxed);
    for reader in readers {
        reader.join().unwrap();
    }
    drop(store);
    let report = Store::verify(dir.path().join("store")).unwrap();
    assert!(report.is_ok(), "{report:#?}");
}

/// A relation that hardly changes must neither hold back what others may forget nor be forgotten.
#[test]
fn thousands_of_small_epochs_are_trimmed_and_reopened() {
    let dir = tempdir();
    let open = || Store::open(Options { sync: false, retain_epochs: 30, ..options(dir.path().join("store")) }).unwrap();
    let store = open();
    let mut set = ChangeSet::new();
    set.push(b"lonely", None, Some(b"row"));
    commit(&store, 1, vec![(VIEW, set)]);
    let step = |e: u64| {
        let mut state = ChangeSet::new();
        state.push(b"k", None, Some(&e.to_le_bytes()));
        let mut sets = put("a", (e > 2).then(|| (e - 1).to_string()).as_deref(), Some(&e.to_string()));
        sets.push((STATE, state));
        commit(&store, e, sets);
    };
    (2..=3_000).for_each(step);
    // The log is kept back to where rows were last moved before the oldest epoch that can be read. However far the
    // background work is behind, it catches up while epochs go on slowly.
    let mut last = 3_000;
    while store.remap(2_900).unwrap().is_some() {
        assert!(last < 20_000, "the background work never got there");
        last += 1;
        step(last);
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    let check = |store: &Store| {
        let snapshot = store.snapshot(None).unwrap();
        assert_eq!(snapshot.get(VIEW, b"lonely").unwrap().as_deref(), Some(b"row".as_slice()));
        assert_eq!(snapshot.get(TABLE, b"a").unwrap().as_deref(), Some(last.to_string().as_bytes()));
        assert_eq!(snapshot.get(STATE, b"k").unwrap().as_deref(), Some(last.to_le_bytes().as_slice()));
        assert_eq!(store.remap(last).unwrap(), Some(remap(last)));
    };
    check(&store);
    drop(store);
    let store = open();
    check(&store);
    assert_eq!(store.since(), last - 30);
    drop(store);
    let report = Store::verify(dir.path().join("store")).unwrap();
    assert!(report.is_ok(), "{report:#?}");
}
