//! Broken disks, and hands that should not have touched a file: an error with a name, never a wrong answer.

mod common;

use std::path::{Path, PathBuf};

use common::*;
use storage::{Consequence, Error, JournalEntry, Options, Store};

/// A store with `epochs` epochs, closed as a crash leaves it: the log is not flushed into files.
fn made(path: &Path, epochs: u64, change: impl Fn(&mut Options)) -> Model {
    let mut options = options(path);
    change(&mut options);
    let store = Store::open(options).unwrap();
    let mut model = Model::new(epochs, 150, 120);
    for epoch in 1..=epochs {
        let sets = model.changes(epoch);
        commit(&store, epoch, sets);
    }
    store
        .journal_append("s", JournalEntry { format: "x".into(), payload: b"payload".to_vec(), records: 1 }, Some("k"))
        .unwrap();
    model
}

/// What a damaged store may do: refuse, or answer rightly. Says whether it answered everything.
fn never_wrong(path: &Path, model: &Model, subject: &str) -> bool {
    let store = match Store::open(options(path)) {
        Ok(store) => store,
        Err(e) => {
            assert!(
                matches!(e.consequence(), Consequence::Damaged)
                    || matches!(e, Error::Failed { .. } | Error::NotAStore { .. }),
                "{subject}: {e}"
            );
            return false;
        }
    };
    assert_eq!(store.committed(), model.newest(), "{subject}: an acknowledged epoch is lost, and nobody says so");
    let mut whole = true;
    for epoch in [store.since(), store.committed()] {
        let snapshot = store.snapshot(Some(epoch)).unwrap();
        for relation in ALL {
            if relation == STATE && epoch < store.committed() {
                continue;
            }
            let mut found = Rows::new();
            let mut failed = false;
            for row in snapshot.scan_prefix(relation, b"") {
                match row {
                    Ok((k, v)) => drop(found.insert(k, v)),
                    Err(_) => failed = true,
                }
            }
            whole &= !failed;
            if !failed {
                assert_eq!(&found, model.rows(relation, epoch), "{subject}: a wrong answer");
            }
            for key in model.rows(relation, epoch).keys().take(20) {
                match snapshot.get(relation, key) {
                    Ok(row) => {
                        assert_eq!(row.as_ref(), model.rows(relation, epoch).get(key), "{subject}: a wrong answer")
                    }
                    Err(_) => whole = false,
                }
            }
        }
    }
    for item in store.changes(VIEW, store.since(), store.committed()).unwrap() {
        whole &= item.is_ok();
    }
    whole
}

fn flip(file: &Path, at: u64) {
    let mut bytes = std::fs::read(file).unwrap();
    bytes[at as usize] ^= 0x10;
    std::fs::write(file, bytes).unwrap();
}

fn cut(file: &Path, length: u64) {
    std::fs::File::options().write(true).open(file).unwrap().set_len(length).unwrap();
}

fn length(file: &Path) -> u64 {
    std::fs::metadata(file).unwrap().len()
}

/// Waits until every change is in `rows` or cannot be: the runs are empty.
fn settle(store: &Store) {
    while store.stats().runs > 0 {
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
}

#[test]
fn a_damaged_sorted_file_is_named() {
    let dir = tempdir();
    let path = dir.path().join("store");
    let model = made(&path, 30, |o| (o.apply_rows, o.stage_rows) = (1, 1));
    let store = Store::open(Options { apply_rows: 1, ..options(&path) }).unwrap();
    settle(&store);
    drop(store);
    assert!(Store::verify(&path).unwrap().is_ok());
    let all = files(&path.join("db"), ".sst");
    assert!(all.len() > 3);
    let mut random = Random(1);
    let mut noticed = 0;
    for turn in 0..60 {
        let copy = dir.path().join("copy");
        copy_dir(&path, &copy);
        let files = files(&copy.join("db"), ".sst");
        let file = &files[random.below(files.len() as u64) as usize];
        let at = random.below(length(file));
        let subject = format!("turn {turn}: {} at {at} of {}", file.display(), length(file));
        match turn % 6 {
            0 => cut(file, at),
            1 => std::fs::remove_file(file).unwrap(),
            _ => flip(file, at),
        }
        let report = Store::verify(&copy).unwrap();
        let whole = never_wrong(&copy, &model, &subject);
        if turn % 6 < 2 {
            assert!(!report.is_ok() && !whole, "{subject}: {report:?}");
            let name = file.file_name().unwrap().to_str().unwrap();
            assert!(report.problems.iter().any(|p| p.detail.contains(name)), "{subject}: {report:?}");
        }
        noticed += u64::from(!report.is_ok());
        // A flipped bit that verify does not see may stand only where nothing is read.
        assert!(!report.is_ok() || whole, "{subject}: reading fails, and verify found nothing");
        std::fs::remove_dir_all(&copy).unwrap();
    }
    assert!(noticed > 40, "{noticed}");
}

/// A store as `kill -9` leaves it: copied while it is open and idle.
fn killed(dir: &Path, epochs: u64) -> (PathBuf, Model) {
    let path = dir.join("live");
    let store = Store::open(Options { apply_rows: usize::MAX, stage_rows: usize::MAX, ..options(&path) }).unwrap();
    let mut model = Model::new(epochs, 150, 120);
    for epoch in 1..=epochs {
        let sets = model.changes(epoch);
        commit(&store, epoch, sets);
    }
    let copy = dir.join("killed");
    copy_dir(&path, &copy);
    (copy, model)
}

fn log_of(path: &Path) -> PathBuf {
    files(&path.join("db"), ".log").pop().unwrap()
}

#[test]
fn a_log_cut_short_below_what_was_acknowledged_is_noticed() {
    let dir = tempdir();
    let (path, model) = killed(dir.path(), 20);
    let size = length(&log_of(&path));
    assert!(never_wrong_copy(&path, &model, "untouched", |_| {}));
    let mut random = Random(2);
    for turn in 0..24 {
        // Anywhere, and just at the end.
        let at = if turn < 12 { random.below(size) } else { size - 1 - random.below(300) };
        let whole = never_wrong_copy(&path, &model, &format!("cut at {at} of {size}"), |p| cut(&log_of(p), at));
        assert!(!whole, "cut at {at} of {size}");
    }
    assert!(!never_wrong_copy(&path, &model, "no log", |p| std::fs::remove_file(log_of(p)).unwrap()));
    assert!(!never_wrong_copy(&path, &model, "no database", |p| std::fs::remove_dir_all(p.join("db")).unwrap()));
}

#[test]
fn a_flipped_bit_in_the_log_is_noticed_or_harmless() {
    let dir = tempdir();
    let (path, model) = killed(dir.path(), 20);
    let size = length(&log_of(&path));
    let mut random = Random(3);
    for turn in 0..40 {
        let at = if turn < 30 { random.below(size) } else { size - 1 - random.below(300) };
        never_wrong_copy(&path, &model, &format!("bit at {at} of {size}"), |p| flip(&log_of(p), at));
    }
}

fn never_wrong_copy(path: &Path, model: &Model, subject: &str, damage: impl FnOnce(&Path)) -> bool {
    let copy = path.with_extension("copy");
    copy_dir(path, &copy);
    damage(&copy);
    let whole = never_wrong(&copy, model, subject);
    std::fs::remove_dir_all(&copy).unwrap();
    whole
}

#[test]
fn a_torn_end_of_what_was_never_acknowledged_is_no_damage() {
    let dir = tempdir();
    let path = dir.path().join("live");
    let store = Store::open(options(&path)).unwrap();
    commit(&store, 1, put("a", None, Some("1")));
    let before = length(&log_of(&path));
    store.log_remap(&remap(2)).unwrap();
    let after = length(&log_of(&path));
    assert!(after > before);
    for at in before..after {
        let copy = dir.path().join("copy");
        copy_dir(&path, &copy);
        cut(&log_of(&copy), at);
        let torn = Store::open(options(&copy)).unwrap();
        assert_eq!(torn.committed(), 1);
        assert_eq!(torn.sealed_after(1).unwrap(), vec![]);
        commit(&torn, 2, put("a", Some("1"), Some("2")));
        drop(torn);
        std::fs::remove_dir_all(&copy).unwrap();
    }
    // Nor is a witness that is missing, as in a store copied without it, or that was torn itself.
    let copy = dir.path().join("copy");
    copy_dir(&path, &copy);
    std::fs::remove_file(copy.join("high-water")).unwrap();
    assert_eq!(Store::open(options(&copy)).unwrap().committed(), 1);
}

/// Writes into RocksDB directly, so that its own checksums are right and only ours can notice.
fn tamper(path: &Path, family: &str, change: impl Fn(&[u8], &mut Vec<u8>) -> bool) -> usize {
    let o = rocksdb::Options::default();
    let families = rocksdb::DB::list_cf(&o, path.join("db")).unwrap();
    let db = rocksdb::DB::open_cf(&o, path.join("db"), families).unwrap();
    let cf = db.cf_handle(family).unwrap();
    let mut changed = 0;
    let mut batch = rocksdb::WriteBatch::default();
    for item in db.iterator_cf(cf, rocksdb::IteratorMode::Start) {
        let (key, value) = item.unwrap();
        let mut value = value.to_vec();
        if change(&key, &mut value) {
            batch.put_cf(cf, &key, value);
            changed += 1;
        }
    }
    db.write(batch).unwrap();
    changed
}

#[test]
fn a_wrong_byte_under_right_checksums_of_rocksdb_is_noticed_by_ours() {
    let dir = tempdir();
    let path = dir.path().join("store");
    let model = made(&path, 12, |o| o.apply_rows = usize::MAX);
    let last = |_: &[u8], value: &mut Vec<u8>| {
        if let Some(b) = value.last_mut() {
            *b ^= 1;
        }
        true
    };
    for (family, subject) in [
        ("changes", "changes of `"),
        ("commit", "commit record of epoch"),
        ("journal", "journal of `s`"),
        ("meta", "identity"),
    ] {
        let copy = dir.path().join(family);
        copy_dir(&path, &copy);
        assert!(tamper(&copy, family, last) > 0);
        let e = Store::open(options(&copy)).unwrap_err();
        assert!(e.consequence() == Consequence::Damaged && e.to_string().contains(subject), "{family}: {e}");
        let report = Store::verify(&copy).unwrap();
        assert!(report.problems.iter().any(|p| p.subject.contains(subject)), "{family}: {report:?}");
        if family == "changes" {
            let found = report.problems.iter().filter(|p| p.subject.starts_with("chunk")).count();
            assert!(found > 12, "all of them are found, not the first alone: {report:?}");
            assert!(report.relations.iter().all(|r| r.matches.is_none()), "and nothing is said of what cannot be read");
        }
    }
    // A remap is read when it is asked for.
    let copy = dir.path().join("remap");
    copy_dir(&path, &copy);
    tamper(&copy, "remap", last);
    let store = Store::open(options(&copy)).unwrap();
    assert!(matches!(store.remap(3), Err(Error::Damaged { subject, .. }) if subject == "the remap of epoch 3"));
    drop(store);
    assert!(Store::verify(&copy).unwrap().problems.iter().any(|p| p.subject == "the remap of epoch 3"));

    // Rows have no checksum of ours: the digest is.
    let store = Store::open(Options { apply_rows: 1, ..options(&path) }).unwrap();
    let sets = {
        let mut m = model.clone();
        m.changes(13)
    };
    commit(&store, 13, sets);
    settle(&store);
    drop(store);
    assert!(Store::verify(&path).unwrap().is_ok());
    assert!(
        tamper(&path, "rows", |key, value| key[..4] == TABLE.0.to_be_bytes() && value.len() > 1 && last(key, value))
            > 0
    );
    let report = Store::verify(&path).unwrap();
    assert!(report.problems.iter().any(|p| p.subject == "`orders`" && p.detail.contains("digest")), "{report:?}");
    assert_eq!(report.relations.iter().map(|r| r.matches).collect::<Vec<_>>(), [Some(false), Some(true), None]);
}

#[test]
fn a_missing_chunk_or_commit_record_is_noticed() {
    let dir = tempdir();
    let path = dir.path().join("store");
    made(&path, 12, |o| o.apply_rows = usize::MAX);
    for family in ["changes", "commit"] {
        let copy = dir.path().join(family);
        copy_dir(&path, &copy);
        {
            let o = rocksdb::Options::default();
            let families = rocksdb::DB::list_cf(&o, copy.join("db")).unwrap();
            let db = rocksdb::DB::open_cf(&o, copy.join("db"), families).unwrap();
            let cf = db.cf_handle(family).unwrap();
            let (key, _) = db.iterator_cf(cf, rocksdb::IteratorMode::Start).nth(3).unwrap().unwrap();
            db.delete_cf(cf, key).unwrap();
        }
        let e = Store::open(options(&copy)).unwrap_err();
        assert_eq!(e.consequence(), Consequence::Damaged, "{family}: {e}");
        assert!(!Store::verify(&copy).unwrap().is_ok());
    }
}

#[test]
fn a_segment_lost_or_damaged_is_noticed() {
    let dir = tempdir();
    let (path, copy) = (dir.path().join("live"), dir.path().join("copy"));
    let store = Store::open(Options { stage_rows: 1, apply_rows: usize::MAX, ..options(&path) }).unwrap();
    commit(&store, 1, put("a", None, Some("1")));
    commit(&store, 2, put("a", Some("1"), Some("2")));
    copy_dir(&path, &copy);
    let segments = files(&copy.join("changes"), "");
    assert_eq!(segments.len(), 1);
    let segment = &segments[0];
    let bytes = std::fs::read(segment).unwrap();
    let open = |prepare: &dyn Fn()| {
        let again = dir.path().join("again");
        let _ = std::fs::remove_dir_all(&again);
        prepare();
        copy_dir(&copy, &again);
        std::fs::write(segment, &bytes).unwrap();
        Store::open(options(&again)).map(|s| (s.committed(), s.snapshot(None).unwrap().get(TABLE, b"a").unwrap()))
    };
    assert_eq!(open(&|| {}).unwrap(), (2, Some(b"2".to_vec())));
    let is_damage = |e: Error| assert_eq!(e.consequence(), Consequence::Damaged, "{e}");
    is_damage(open(&|| std::fs::remove_file(segment).unwrap()).unwrap_err());
    for at in 0..bytes.len() {
        is_damage(open(&|| cut(segment, at as u64)).unwrap_err());
        is_damage(open(&|| flip(segment, at as u64)).unwrap_err());
    }
}

#[test]
fn history_in_a_lost_or_damaged_segment_is_missed_when_it_is_asked_for() {
    let dir = tempdir();
    let path = dir.path().join("store");
    let model = made(&path, 30, |o| (o.apply_rows, o.stage_rows) = (1, 1));
    let store = Store::open(Options { apply_rows: 1, ..options(&path) }).unwrap();
    settle(&store);
    drop(store);
    assert!(Store::verify(&path).unwrap().is_ok());
    let segments = files(&path.join("changes"), "");
    let mut random = Random(4);
    for turn in 0..24 {
        let file = &segments[random.below(segments.len() as u64) as usize];
        let at = random.below(length(file));
        let subject = format!("turn {turn}: {} at {at} of {}", file.display(), length(file));
        let copy = dir.path().join("copy");
        copy_dir(&path, &copy);
        let file = copy.join("changes").join(file.file_name().unwrap());
        match turn % 4 {
            0 => cut(&file, at),
            1 => std::fs::remove_file(&file).unwrap(),
            _ => flip(&file, at),
        }
        let report = Store::verify(&copy).unwrap();
        assert!(!report.is_ok(), "{subject}");
        // The rows themselves are elsewhere, and whole.
        never_wrong(&copy, &model, &subject);
        std::fs::remove_dir_all(&copy).unwrap();
    }
}
