//! What the machine may do to a running program: no room left, no permission, a damaged store, another process. It stops
//! with a clear message, what was acknowledged is there, and once the machine is well again it goes on with everything.

mod support;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use serde_json::Value;
use support::{
    Daemon, THALWEG, VIEWS, assert_same, bound_by_permissions, dump, dumps, free_port, get, input, may_mount, pipeline,
    post, run_command, run_to_end, text, write_input,
};

/// Small thresholds, so that every kind of file is written.
const SMALL_STORE: &str = "\n[store]\nstage_rows = 150\napply_rows = 400\n";

#[test]
fn a_run_on_a_full_disk_says_so_and_goes_on_where_there_is_room() {
    let dir = tempfile::tempdir().unwrap();
    let Some(way) = may_mount(dir.path()) else { return };
    write_input(dir.path(), &input(3, 1_200), 2);
    let file = pipeline(dir.path(), 60, SMALL_STORE);
    let base = dir.path().join("base");
    run_to_end(&file, &base, 2);
    let expected = dumps(&base);
    // What is mounted is gone with the script: what is looked at later is written elsewhere.
    let (disk, out) = (dir.path().join("disk"), dir.path().join("out"));
    std::fs::create_dir(&disk).unwrap();
    std::fs::create_dir(&out).unwrap();
    let script = format!(
        r#"
        mount -t tmpfs -o size=96m tmpfs '{disk}' && cd '{disk}' || exit 9
        run() {{ '{THALWEG}' run '{file}' --data store --workers $1 --exit-at-end --listen none 2>'{out}'/run-$1; }}
        head -c 88M /dev/zero >ballast
        run 2 && exit 8
        # What the failed run gave back is taken, to the last byte: it fails again, and nothing is worse for it.
        cat /dev/zero >brim
        run 4 && exit 7
        rm ballast brim
        run 1 || exit 6
        '{THALWEG}' verify --data store >'{out}'/verify || exit 5
        for view in {views}; do '{THALWEG}' dump --view $view --data store >'{out}'/$view || exit 4; done
        "#,
        disk = disk.display(),
        out = out.display(),
        file = file.display(),
        views = VIEWS.join(" "),
    );
    let done = Command::new(way[0]).args(&way[1..]).args(["sh", "-c", &script]).output().unwrap();
    let said = |name: &str| std::fs::read_to_string(out.join(name)).unwrap_or_default();
    assert!(done.status.success(), "{}\n{}", text(&done), said("run-1"));
    for run in ["run-2", "run-4"] {
        assert!(said(run).contains("No space left on device"), "{run}: {}", said(run));
        assert!(!said(run).contains("panicked"), "{run}: {}", said(run));
    }
    let got: BTreeMap<&'static str, String> = VIEWS.iter().map(|view| (*view, said(view))).collect();
    assert_same(&got, &expected, "after the disk was full");
}

const PUSHED: &str = r#"
name = "pushed"

[epoch]
interval_ms = 2

[sources.events]
type = "http"
[sources.events.columns]
id = "int64"
v = "string"

[steps.rows]
operator = "select"
input = "events"
"#;

fn pushed(dir: &Path) -> PathBuf {
    let file = dir.join("pipeline.toml");
    std::fs::write(&file, PUSHED).unwrap();
    file
}

#[test]
fn pushes_to_a_daemon_whose_disk_is_full_are_refused_and_none_that_was_taken_is_lost() {
    let dir = tempfile::tempdir().unwrap();
    let file = pushed(dir.path());
    let data = dir.path().join("store");
    let port = free_port();
    // No file may grow beyond this, which is how a full disk looks to one that writes to it.
    let limited = ["bash", "-c", "trap '' XFSZ; ulimit -f 3000; exec \"$0\" \"$@\""];
    let mut daemon = Daemon::start_behind(&limited, &file, &data, 1, &[], port);
    daemon.ready();
    let url = format!("{}/v1/sources/events/records", daemon.url);
    let body = |id: u64| format!("{{\"id\":{id},\"v\":\"{}\"}}\n", format!("{id:07}").repeat(7_000));
    let push = |id: u64| {
        let (status, answer) =
            post(&url, "application/x-ndjson", Some(&format!("key-{id}")), body(id).as_bytes()).unwrap();
        (status, serde_json::from_str::<Value>(&answer).unwrap())
    };
    let mut taken = 0;
    let refused = loop {
        assert!(taken < 500, "the disk never filled");
        let (status, answer) = push(taken);
        if status != 200 {
            break (status, answer);
        }
        taken += 1;
    };
    let code = refused.1["code"].as_str().unwrap().to_owned();
    assert!(taken > 5, "{refused:?}");
    assert_eq!(refused.0, 503, "{refused:?}");
    assert!(["push_outcome_unknown", "not_taking_records"].contains(&code.as_str()), "{refused:?}");
    // It takes nothing more, says that it is not ready, and still answers what was committed.
    let (status, answer) = push(taken + 1);
    assert_eq!(
        (status, answer["code"].as_str().map(|c| c.starts_with("not_") || c.starts_with("push_"))),
        (503, Some(true))
    );
    let ready = || get(&format!("{}/healthz/ready", daemon.url)).unwrap();
    for _ in 0..1_000 {
        if ready().0 == 503 {
            break;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    assert!(ready().0 == 503 && ready().1.contains("\"failed\""), "{:?}", ready());
    assert_eq!(get(&format!("{}/healthz/live", daemon.url)).unwrap().0, 200);
    assert_eq!(get(&format!("{}/v1/views/rows?limit=1", daemon.url)).unwrap().0, 200);
    daemon.kill();

    // With room again: what was taken is there, and what may have been is not doubled by being sent again.
    let mut daemon = Daemon::start_at(&file, &data, 2, &[], port);
    daemon.ready();
    for id in [taken, taken + 1] {
        let (status, answer) = push(id);
        assert_eq!((status, &answer["records"]), (200, &Value::from(1)), "{answer}");
        let epoch = &answer["epoch"];
        assert_eq!(get(&format!("{}/v1/views/rows?limit=1&min_epoch={epoch}", daemon.url)).unwrap().0, 200);
    }
    daemon.kill();
    let ids: Vec<u64> = dump(&data, "rows")
        .lines()
        .map(|line| {
            let row: Value = serde_json::from_str(line).unwrap();
            let id = row["id"].as_u64().unwrap();
            assert!(body(id).contains(row["v"].as_str().unwrap()), "row {id} is not what was sent");
            id
        })
        .collect();
    assert_eq!(ids, (0..taken + 2).collect::<Vec<u64>>());
    let verified = Command::new(THALWEG).args(["verify", "--data"]).arg(&data).output().unwrap();
    assert!(verified.status.success(), "{}", text(&verified));
}

fn failed(output: &Output, with: &[&str]) {
    let said = text(output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(with.iter().all(|w| said.contains(w)) && !said.contains("panicked"), "{said}");
}

#[test]
fn a_second_process_on_a_store_is_told_who_has_it_and_the_first_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let file = pushed(dir.path());
    let data = dir.path().join("store");
    let daemon = Daemon::start(&file, &data, 1, &[]);
    daemon.ready();
    let who = format!("in use by process {}", daemon.child.id());
    failed(&run_command(&file, &data, 1).output().unwrap(), &[&who]);
    for command in [vec!["dump", "--view", "rows", "--data"], vec!["verify", "--data"], vec!["views", "--data"]] {
        failed(&Command::new(THALWEG).args(&command).arg(&data).output().unwrap(), &[&who]);
    }
    let url = format!("{}/v1/sources/events/records", daemon.url);
    assert_eq!(post(&url, "application/json", None, b"{\"id\":1}").unwrap().0, 200);
}

#[test]
fn a_folder_that_cannot_be_written_stops_the_run_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let Some(way) = bound_by_permissions(dir.path()) else { return };
    let file = pushed(dir.path());
    let closed = dir.path().join("closed");
    std::fs::create_dir(&closed).unwrap();
    std::fs::set_permissions(&closed, std::os::unix::fs::PermissionsExt::from_mode(0o555)).unwrap();
    for data in [closed.clone(), closed.join("below")] {
        let run = run_command(&file, &data, 1);
        let output = Command::new(way[0]).args(&way[1..]).arg(run.get_program()).args(run.get_args()).output().unwrap();
        failed(&output, &["cannot open the store", &data.display().to_string(), "Permission denied"]);
    }
}

#[test]
fn a_damaged_store_is_named_and_not_gone_on_with() {
    let dir = tempfile::tempdir().unwrap();
    write_input(dir.path(), &input(5, 200), 1);
    let file = pipeline(dir.path(), 20, SMALL_STORE);
    let data = dir.path().join("store");
    // As a crash leaves it: with a log.
    let killed = run_command(&file, &data, 2).env("THALWEG_CRASH", "publish:20").output().unwrap();
    assert!(!killed.status.success());
    let copy = |name: &str| {
        let copy = dir.path().join(name);
        assert!(Command::new("cp").arg("-r").arg(&data).arg(&copy).status().unwrap().success());
        copy
    };
    let views = |data: &Path| Command::new(THALWEG).args(["views", "--data"]).arg(data).output().unwrap();
    let whole = views(&copy("whole"));
    assert!(whole.status.success(), "{}", text(&whole));
    let mut named = Vec::new();
    for end in [".log", ".sst"] {
        let copy = copy(&end[1..]);
        let files: Vec<PathBuf> = std::fs::read_dir(copy.join("db"))
            .unwrap()
            .map(|e| e.unwrap().path())
            .filter(|p| p.to_string_lossy().ends_with(end))
            .collect();
        for file in &files {
            let length = std::fs::metadata(file).unwrap().len();
            std::fs::File::options().write(true).open(file).unwrap().set_len(length / 2).unwrap();
        }
        let seen = views(&copy);
        if seen.status.success() {
            // None was in use: the log's content had been moved to tables in the background, or no table had been finished.
            assert_eq!(text(&seen), text(&whole));
            continue;
        }
        named.push(end);
        failed(&run_command(&file, &copy, 1).output().unwrap(), &["the store is damaged"]);
        let verified = Command::new(THALWEG).args(["verify", "--data"]).arg(&copy).output().unwrap();
        assert_eq!(verified.status.code(), Some(1), "{}", text(&verified));
    }
    // What was committed is in one of the two.
    assert!(!named.is_empty());
    // What was not touched goes on.
    run_to_end(&file, &data, 1);
}
