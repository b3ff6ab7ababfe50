//! What the machine may do to a store: no room left, no permission, no reading, another process. An error with a name,
//! never a wrong answer, and once the machine is well again everything goes on.
//!
//! Each case needs a process of its own (`child`), because of what is done to it. What a machine does not allow (to
//! mount, to be bound by permission bits as root, to trace) is skipped with a printed reason.

mod common;

use std::fs::Permissions;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use common::*;
use storage::{Consequence, EpochCommit, Error, Options, Store};

const ORDER: &str = "THALWEG_TEST_STORE_MACHINE";

/// A command that runs the child with an order, behind some words of prefix.
#[allow(clippy::disallowed_methods)]
fn command(prefix: &[&str], order: &str, path: &Path) -> Command {
    let exe = std::env::current_exe().unwrap().display().to_string();
    let words = [exe.as_str(), "--exact", "child", "--ignored", "--nocapture", "--test-threads=1"];
    let words: Vec<&str> = prefix.iter().copied().chain(words).collect();
    let mut command = Command::new(words[0]);
    command.args(&words[1..]).env(ORDER, format!("{order} {}", path.display())).stdin(Stdio::null());
    command
}

/// What the child printed; it must have come to its end.
#[track_caller]
fn run(prefix: &[&str], order: &str, path: &Path) -> String {
    let out = command(prefix, order, path).output().unwrap();
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    let errors = String::from_utf8_lossy(&out.stderr).into_owned();
    assert!(out.status.success() && text.contains("child done"), "{order}: {:?}\n{text}\n{errors}", out.status);
    text
}

fn succeeds(words: &[&str]) -> bool {
    let mut command = Command::new(words[0]);
    let silent = command.args(&words[1..]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    silent.status().is_ok_and(|s| s.success())
}

/// The words before a command that let it mount what nobody else sees.
fn may_mount(dir: &Path) -> Option<Vec<&'static str>> {
    let ways = [vec!["unshare", "-m"], vec!["unshare", "-Urm"]];
    let script = format!("mount -t tmpfs -o size=1m tmpfs '{}'", dir.display());
    let found = ways.into_iter().find(|way| succeeds(&[way.as_slice(), &["sh", "-c", &script]].concat()));
    if found.is_none() {
        eprintln!("skipped: nothing can be mounted here, not even in a namespace");
    }
    found
}

/// The words before a command that have permission bits bind it. They do not bind root, except in a user namespace
/// that does not know the files' owner.
fn bound_by_permissions(dir: &Path) -> Option<Vec<&'static str>> {
    let file = dir.join("unreadable");
    std::fs::write(&file, "x").unwrap();
    std::fs::set_permissions(&file, Permissions::from_mode(0)).unwrap();
    let script = format!("! cat '{}'", file.display());
    let ways = [vec!["env"], vec!["unshare", "-U"]];
    let found = ways.into_iter().find(|way| succeeds(&[way.as_slice(), &["sh", "-c", &script]].concat()));
    if found.is_none() {
        eprintln!("skipped: permission bits bind nobody here");
    }
    found
}

/// The row of an epoch in the tests that fill a disk: large, and another each time.
fn large_row(epoch: u64) -> Vec<u8> {
    let mut random = Random(epoch);
    (0..20_000).flat_map(|_| random.next().to_le_bytes()).collect()
}

fn large(epoch: u64) -> EpochCommit {
    let mut set = types::ChangeSet::new();
    set.push(format!("key-{epoch:06}").as_bytes(), None, Some(&large_row(epoch)));
    EpochCommit { epoch, relations: vec![(TABLE, set)] }
}

/// Compares every row with what its epoch wrote.
fn check_large(store: &Store, epochs: u64) {
    let snapshot = store.snapshot(None).unwrap();
    assert_eq!(snapshot.epoch(), epochs);
    for epoch in 1..=epochs {
        let found = snapshot.get(TABLE, format!("key-{epoch:06}").as_bytes()).unwrap();
        assert!(found == Some(large_row(epoch)), "the row of epoch {epoch} is not what was acknowledged");
    }
    assert_eq!(snapshot.scan_prefix(TABLE, b"").count() as u64, epochs);
}

/// Not a test but the child of those below.
#[test]
#[ignore = "the child of the tests below"]
#[allow(clippy::disallowed_methods)]
fn child() {
    let Ok(order) = std::env::var(ORDER) else { return };
    let (what, path) = order.split_once(' ').unwrap();
    let path = Path::new(path);
    // The test harness has begun a line.
    println!();
    match what {
        "fill" | "fill-staged" => fill(path, what == "fill-staged"),
        "open" => {
            let say = |what: &str, e: Option<Error>| match e {
                None => println!("{what} opened"),
                Some(e) => println!("{what} {:?} {e}", e.consequence()),
            };
            say("open", Store::open(options(path)).err());
            say("read", Store::open_read_only(path).err());
            match Store::verify(path) {
                Ok(report) if report.is_ok() => println!("verify found nothing"),
                Ok(report) => println!("verify found {:?}", report.problems),
                Err(e) => say("verify", Some(e)),
            }
        }
        "closed-door" => closed_door(path),
        "read" => read_all(path),
        _ => panic!("an unknown order"),
    }
    println!("child done");
}

/// Fills a filesystem of its own, makes room, and goes on.
fn fill(path: &Path, staged: bool) {
    let ballast = path.with_extension("ballast");
    std::fs::write(&ballast, vec![1; 40 << 20]).unwrap();
    let stage_rows = if staged { 1 } else { usize::MAX };
    let open = || Store::open(Options { stage_rows, apply_rows: 30, ..options(path) });
    let mut store = open().unwrap();
    let next = |store: &Store| {
        let epoch = store.committed() + 1;
        store.log_remap(&remap(epoch))?;
        store.commit(large(epoch))?;
        store.publish(epoch);
        Ok(epoch)
    };
    let mut said = 0;
    let failure = loop {
        assert!(said < 2_000, "the disk never filled");
        match next(&store) {
            Ok(epoch) => said = epoch,
            Err(e) => break e,
        }
    };
    let failure: Error = failure;
    println!("failure {:?} {failure}", failure.consequence());
    assert!(failure.to_string().contains("No space left on device"), "{failure}");
    check_large(&store, said);
    // Work in the background may be the first to meet the full disk: then this call was refused for that.
    if failure.consequence() == Consequence::Unknown || matches!(failure, Error::Poisoned { .. }) {
        assert!(matches!(store.log_remap(&remap(said + 2)), Err(Error::Poisoned { .. })));
        drop(store);
        // Still full: opening may fail, and then says so; it loses nothing.
        match open() {
            Ok(store) => drop(store),
            Err(e) => assert_eq!(e.consequence(), Consequence::NotDone, "{e}"),
        }
        std::fs::remove_file(&ballast).unwrap();
        store = open().unwrap();
    } else {
        // It did not happen: the very same call succeeds once there is room.
        std::fs::remove_file(&ballast).unwrap();
    }
    let committed = store.committed();
    assert!(committed == said || committed == said + 1, "{committed} committed, {said} said");
    store.publish(committed);
    check_large(&store, committed);
    for _ in 0..40 {
        next(&store).unwrap();
    }
    check_large(&store, committed + 40);
    drop(store);
    check_large(&open().unwrap(), committed + 40);
    let report = Store::verify(path).unwrap();
    assert!(report.is_ok(), "{report:?}");
}

#[test]
fn a_full_filesystem_is_an_error_and_with_room_again_everything_goes_on() {
    let dir = tempdir();
    let Some(way) = may_mount(dir.path()) else { return };
    for order in ["fill", "fill-staged"] {
        let script = format!("mount -t tmpfs -o size=80m tmpfs '{}' && exec \"$0\" \"$@\"", dir.path().display());
        let text = run(&[way.as_slice(), &["sh", "-c", &script]].concat(), order, &dir.path().join("store"));
        // The commit's own log, or now and then the background's file that was being written beside it.
        let expected =
            if order == "fill" { ["failure Unknown", "takes no more writes since one failed"] } else { ["failure"; 2] };
        assert!(expected.iter().any(|e| text.contains(e)), "{text}");
    }
}

fn set_modes(path: &Path, folders: u32, files: u32) {
    for entry in std::fs::read_dir(path).unwrap().map(|e| e.unwrap().path()) {
        if entry.is_dir() {
            set_modes(&entry, folders, files);
        } else {
            std::fs::set_permissions(&entry, Permissions::from_mode(files)).unwrap();
        }
    }
    std::fs::set_permissions(path, Permissions::from_mode(folders)).unwrap();
}

#[test]
fn a_folder_that_cannot_be_written_is_named_and_left_as_it_was() {
    let dir = tempdir();
    let Some(way) = bound_by_permissions(dir.path()) else { return };
    let path = dir.path().join("store");
    let store = Store::open(options(&path)).unwrap();
    commit(&store, 1, put("a", None, Some("1")));
    drop(store);
    set_modes(&path, 0o555, 0o444);
    let text = run(&way, "open", &path);
    for what in ["open", "read", "verify"] {
        let line = text.lines().find(|l| l.starts_with(&format!("{what} "))).unwrap();
        assert!(line.contains("Permission denied") && line.contains(path.to_str().unwrap()), "{text}");
        assert!(what == "verify" || line.contains("NotDone"), "{text}");
    }
    set_modes(&path, 0o755, 0o644);
    // A folder in which no store can be made.
    let closed = dir.path().join("closed");
    std::fs::create_dir(&closed).unwrap();
    std::fs::set_permissions(&closed, Permissions::from_mode(0o555)).unwrap();
    let text = run(&way, "open", &closed);
    assert!(text.contains("open NotDone") && text.contains("closed"), "{text}");
    std::fs::set_permissions(&closed, Permissions::from_mode(0o755)).unwrap();

    let store = opened_again(|| options(&path));
    assert_eq!(store.snapshot(None).unwrap().get(TABLE, b"a").unwrap().as_deref(), Some(b"1".as_slice()));
    drop(store);
    run(&way, "closed-door", &path);
}

/// The folders are closed while the store is open.
fn closed_door(path: &Path) {
    let mode = |folder: &str, mode| std::fs::set_permissions(path.join(folder), Permissions::from_mode(mode)).unwrap();
    let open = || Store::open(Options { stage_rows: 2, ..options(path) }).unwrap();
    let store = open();
    let mut two = types::ChangeSet::new();
    two.push(b"b", None, Some(b"1"));
    two.push(b"c", None, Some(b"1"));
    let second = || EpochCommit { epoch: 2, relations: vec![(TABLE, two.clone())] };
    store.log_remap(&remap(2)).unwrap();
    mode("changes", 0o555);
    let e = store.commit(second()).unwrap_err();
    assert!(e.consequence() == Consequence::NotDone && e.to_string().contains("changes"), "{e}");
    // It did not happen: the very same call succeeds once the folder is open.
    mode("changes", 0o755);
    store.commit(second()).unwrap();
    store.publish(2);
    // RocksDB cannot make a file. That is no damage, and nothing acknowledged is lost.
    mode("db", 0o555);
    commit(&store, 3, put("d", None, Some("1")));
    store.compact();
    let mut said = 3;
    let failure = loop {
        let epoch = said + 1;
        let relations = put("d", Some(&(epoch - 3).to_string()), Some(&(epoch - 2).to_string()));
        match store.log_remap(&remap(epoch)).and_then(|()| store.commit(EpochCommit { epoch, relations })) {
            Ok(_) => said = epoch,
            Err(e) => break Some(e),
        }
        if said > 20 {
            break None;
        }
    };
    if let Some(e) = failure {
        println!("{e}");
        assert!(e.consequence() == Consequence::Unknown && e.to_string().contains("Permission denied"), "{e}");
    }
    drop(store);
    mode("db", 0o755);
    let store = open();
    assert!(store.committed() == said || store.committed() == said + 1);
    let found = store.snapshot(Some(said)).unwrap().scan_prefix(TABLE, b"").map(Result::unwrap).collect::<Rows>();
    let row = |k: &str, v: String| (k.as_bytes().to_vec(), v.into_bytes());
    let expected = [row("a", "1".into()), row("b", "1".into()), row("c", "1".into()), row("d", (said - 2).to_string())];
    assert_eq!(found, Rows::from(expected));
    drop(store);
    assert!(Store::verify(path).unwrap().is_ok());
}

/// What [`made`] put into the store.
fn model() -> Model {
    let mut model = Model::new(8, 150, 120);
    model.reach(30);
    model
}

/// Opens a store that this process had open. Another test may just have forked a child, which holds what this process
/// holds until it has become another program.
fn opened_again(options: impl Fn() -> Options) -> Store {
    for _ in 0..2_000 {
        match Store::open(options()) {
            Err(Error::Locked { .. }) => std::thread::sleep(std::time::Duration::from_millis(1)),
            opened => return opened.unwrap(),
        }
    }
    panic!("the store stays locked");
}

/// A store with rows in sorted files and in the log, as `kill -9` leaves it: copied while it is open.
fn made(dir: &Path) -> PathBuf {
    let (path, copy) = (&dir.join("live"), dir.join("made"));
    let store = Store::open(Options { apply_rows: 1, stage_rows: 60, ..options(path) }).unwrap();
    let mut model = Model::new(8, 150, 120);
    for epoch in 1..=28 {
        let sets = model.changes(epoch);
        commit(&store, epoch, sets);
    }
    wait_until(|| store.stats().runs == 0);
    store.compact();
    drop(store);
    let store = opened_again(|| Options { apply_rows: usize::MAX, stage_rows: usize::MAX, ..options(path) });
    for epoch in 29..=30 {
        let sets = model.changes(epoch);
        commit(&store, epoch, sets);
    }
    copy_dir(path, &copy);
    copy
}

/// Opens the store and reads everything: it is as it should be, or an error says what is wrong.
fn read_all(path: &Path) {
    let model = model();
    let store = match Store::open(options(path)) {
        Ok(store) => store,
        Err(e) => return println!("error {:?} {e}", e.consequence()),
    };
    assert_eq!(store.committed(), 30, "an acknowledged epoch is lost, and nobody says so");
    let snapshot = store.snapshot(None).unwrap();
    let mut failure = None;
    for relation in ALL {
        let rows: Result<Rows, Error> = snapshot.scan_prefix(relation, b"").collect();
        match rows {
            Ok(rows) => assert_eq!(&rows, model.rows(relation, 30), "a wrong answer"),
            Err(e) => failure = Some(e),
        }
        for (key, expected) in model.rows(relation, 30) {
            match snapshot.get(relation, key) {
                Ok(row) => assert_eq!(row.as_ref(), Some(expected), "a wrong answer"),
                Err(e) => failure = Some(e),
            }
        }
    }
    match failure {
        None => println!("whole"),
        Some(e) => println!("error {:?} {e}", e.consequence()),
    }
}

/// The files of RocksDB with such an end.
fn files_of(path: &Path, end: &str) -> Vec<PathBuf> {
    files(&path.join("db"), end)
}

#[test]
fn a_file_that_cannot_be_read_is_named_and_read_again_when_it_can() {
    let dir = tempdir();
    let made = made(dir.path());
    let path = dir.path().join("store");
    for end in [".log", ".sst"] {
        let _ = std::fs::remove_dir_all(&path);
        copy_dir(&made, &path);
        let file = files_of(&path, end).pop().unwrap();
        assert!(std::fs::metadata(&file).unwrap().len() > 1_000, "it holds something");
        let name = file.file_name().unwrap().to_str().unwrap().to_owned();
        let aside = dir.path().join("aside");
        std::fs::rename(&file, &aside).unwrap();
        // A process's memory is a file whose first bytes cannot be read: EIO, as from a broken disk.
        symlink("/proc/self/mem", &file).unwrap();
        let text = run(&["env"], "read", &path);
        assert!(text.contains("error") && text.contains(&name), "{name}: {text}");
        assert!(end == ".sst" || text.contains("Input/output error"), "{name}: {text}");
        std::fs::remove_file(&file).unwrap();
        std::fs::rename(&aside, &file).unwrap();
        assert!(run(&["env"], "read", &path).contains("whole"), "{name}");
        let report = Store::verify(&path).unwrap();
        assert!(report.is_ok(), "{name}: {report:?}");
    }
}

#[test]
fn a_disk_that_fails_in_the_middle_of_reading_gives_no_wrong_answer() {
    let dir = tempdir();
    let made = made(dir.path());
    let strace = ["strace", "-f", "-qq", "-o", "/dev/null", "-e"];
    if !succeeds(&[strace.as_slice(), &["trace=none", "true"]].concat()) {
        eprintln!("skipped: reads can only be made to fail here with strace, which is missing or may not trace");
        return;
    }
    let path = dir.path().join("store");
    // From the n-th read on the disk gives EIO, until that is too late to be noticed.
    let (mut failed, mut when) = (0, 1);
    loop {
        let _ = std::fs::remove_dir_all(&path);
        copy_dir(&made, &path);
        let files: Vec<String> = files_of(&path, "").iter().map(|f| f.display().to_string()).collect();
        let inject = format!("inject=pread64,read:error=EIO:when={when}+");
        let mut prefix = [strace.as_slice(), &["trace=pread64,read", "-e", &inject]].concat();
        prefix.extend(files.iter().flat_map(|f| ["-P", f.as_str()]));
        let text = run(&prefix, "read", &path);
        if text.contains("whole") {
            break;
        }
        assert!(text.contains("error"), "read {when}: {text}");
        assert!(run(&["env"], "read", &path).contains("whole"), "read {when}: failing to read has changed something");
        (failed, when) = (failed + 1, when + 1 + when / 3);
    }
    assert!(failed > 5, "only {failed} runs failed: the test shows nothing");
}

#[test]
fn a_file_that_breaks_under_an_open_store_gives_no_wrong_answer() {
    let dir = tempdir();
    let path = made(dir.path());
    let model = model();
    for damage in ["zeroed", "cut", "flipped"] {
        let copy = dir.path().join(damage);
        copy_dir(&path, &copy);
        let store = Store::open(Options { apply_rows: usize::MAX, ..options(&copy) }).unwrap();
        for file in files_of(&copy, ".sst") {
            // In place: the open store has the same file.
            let mut bytes = std::fs::read(&file).unwrap();
            let half = bytes.len() / 2;
            let open = std::fs::File::options().write(true).open(&file).unwrap();
            match damage {
                "cut" => open.set_len(10).unwrap(),
                "zeroed" => std::os::unix::fs::FileExt::write_all_at(&open, &vec![0; half], 0).unwrap(),
                _ => {
                    bytes.iter_mut().step_by(97).for_each(|b| *b ^= 4);
                    std::os::unix::fs::FileExt::write_all_at(&open, &bytes, 0).unwrap();
                }
            }
        }
        let snapshot = store.snapshot(None).unwrap();
        let mut failures = 0;
        for relation in ALL {
            match snapshot.scan_prefix(relation, b"").collect::<Result<Rows, Error>>() {
                Ok(rows) => assert_eq!(&rows, model.rows(relation, 30), "{damage}: a wrong answer"),
                Err(e) => {
                    assert_eq!(e.consequence(), Consequence::Damaged, "{damage}: {e}");
                    failures += 1;
                }
            }
            for (key, expected) in model.rows(relation, 30) {
                match snapshot.get(relation, key) {
                    Ok(row) => assert_eq!(row.as_ref(), Some(expected), "{damage}: a wrong answer"),
                    Err(_) => failures += 1,
                }
            }
        }
        assert!(failures > 0, "{damage}: nobody noticed");
        drop(snapshot);
        drop(store);
        assert!(Store::verify(&copy).map_or(true, |report| !report.is_ok()), "{damage}");
    }
}

#[test]
fn a_second_process_is_refused_and_told_who_is_there() {
    let dir = tempdir();
    let path = dir.path().join("store");
    let store = Store::open(options(&path)).unwrap();
    commit(&store, 1, put("a", None, Some("1")));
    let text = run(&["env"], "open", &path);
    let who = format!("in use by process {}", std::process::id());
    for what in ["open", "read", "verify"] {
        let line = text.lines().find(|l| l.starts_with(&format!("{what} "))).unwrap();
        assert!(line.contains("NotDone") && line.contains(&who), "{text}");
    }
    commit(&store, 2, put("a", Some("1"), Some("2")));
    drop(store);
    assert!(run(&["env"], "open", &path).contains("open opened"));
}
