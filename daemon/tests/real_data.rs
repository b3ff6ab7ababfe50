//! Pipelines over recorded data end with the views another engine (DuckDB) computes from the same files.

mod support;

use std::collections::BTreeMap;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use support::{THALWEG, dump, run_command, text};
use testkit::recorded_data;

/// Runs a recorded example and compares its views with what `real_data.py` computes.
fn check(example: &str, records: usize) {
    let Some(data) = recorded_data() else { return };
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let dir = tempfile::tempdir().unwrap();
    let store = dir.path().join("store");
    let output = Command::new(THALWEG)
        .arg("run")
        .arg(root.join(format!("examples/recorded/{example}.toml")))
        .arg("--data")
        .arg(&store)
        .args(["--workers", "2", "--exit-at-end", "--listen", "none"])
        .env("THALWEG_DATA", &data)
        .env("THALWEG_LOG", "warn")
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", text(&output));
    assert_eq!(dump(&store, "faults"), "", "recorded data has no bad rows");

    let output =
        Command::new(python()).arg(root.join("daemon/tests/real_data.py")).arg(example).arg(&data).output().unwrap();
    assert!(output.status.success(), "the independent computation failed: {}", text(&output));
    let expected: BTreeMap<String, Vec<Value>> = serde_json::from_slice(&output.stdout).unwrap();
    let read = expected["_records"][0].as_u64().unwrap() as usize;
    assert_eq!(read, records, "the files hold other rows than they did");
    for (view, expected) in expected.iter().filter(|(view, _)| *view != "_records") {
        let mut got: Vec<Value> = dump(&store, view).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let mut expected = expected.clone();
        let sort = |rows: &mut Vec<Value>, names: &[&str]| {
            rows.sort_by_key(|row| names.iter().map(|n| row[*n].to_string()).collect::<Vec<_>>());
        };
        let first = expected.first().expect("every view has rows").as_object().unwrap();
        let names: Vec<&str> = first.keys().map(String::as_str).take(2).collect();
        let names: Vec<String> = names.into_iter().map(str::to_owned).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        sort(&mut got, &names);
        sort(&mut expected, &names);
        assert_eq!(got.len(), expected.len(), "rows of `{view}`");
        for (got, expected) in got.iter().zip(&expected) {
            for (column, value) in expected.as_object().unwrap() {
                assert!(
                    same(&got[column], value),
                    "`{view}`: {column} is {} in {got}, expected {expected}",
                    got[column]
                );
            }
        }
    }
}

/// Equal, floats to 1e-9 relative: the other engine does not sum exactly.
fn same(got: &Value, expected: &Value) -> bool {
    match (got.as_f64(), expected.as_f64()) {
        (Some(g), Some(e)) if got.is_f64() || expected.is_f64() => {
            (g - e).abs() <= 1e-9 * g.abs().max(e.abs()).max(1e-9)
        }
        _ => got == expected,
    }
}

/// A Python with DuckDB: `THALWEG_PYTHON`, or what `scripts/setup-python` finds or makes.
fn python() -> PathBuf {
    if let Some(python) = std::env::var_os("THALWEG_PYTHON") {
        return python.into();
    }
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts/setup-python");
    let output = Command::new(&script).output().unwrap_or_else(|e| panic!("{}: {e}", script.display()));
    assert!(output.status.success(), "no Python with DuckDB: {}", text(&output));
    PathBuf::from(String::from_utf8_lossy(&output.stdout).trim())
}

#[test]
fn nyc_taxi_equals_duckdb() {
    check("nyc_taxi", 10_004);
}

#[test]
fn google_jobs_equal_duckdb() {
    check("google_jobs", 98_561);
}

/// What the auction over the trace is held over and what comes of it.
const AUCTION: [&str; 12] = [
    "requests",
    "placement",
    "placement.rejections",
    "placement.payments",
    "placement.fairness",
    "task_placement",
    "task_placement.rejections",
    "task_placement.payments",
    "task_placement.fairness",
    "running",
    "running.payments",
    "running.fairness",
];

#[test]
fn the_auction_over_the_trace_ends_with_the_same_bytes_after_kills_at_other_widths() {
    let Some(data) = recorded_data() else { return };
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/cluster_auction/google_trace.toml");
    let dir = tempfile::tempdir().unwrap();
    let run = |store: &Path, workers: usize, crash: Option<&str>| {
        let mut command = run_command(&file, store, workers);
        command.env("THALWEG_DATA", &data);
        if let Some(crash) = crash {
            command.env("THALWEG_CRASH", crash);
        }
        let output = command.output().unwrap();
        let is_killed = output.status.signal() == Some(9);
        assert_eq!(is_killed, crash.is_some(), "{crash:?}: {}", text(&output));
        assert!(is_killed || output.status.success(), "{}", text(&output));
    };
    let (whole, killed) = (dir.path().join("whole"), dir.path().join("killed"));
    run(&whole, 1, None);
    for (workers, crash) in [(1, "commit:9"), (2, "compute:17"), (4, "committed:13"), (2, "publish:21"), (1, "seal:5")]
    {
        run(&killed, workers, Some(crash));
    }
    run(&killed, 4, None);
    for view in AUCTION {
        let (got, expected) = (dump(&killed, view), dump(&whole, view));
        assert!(!expected.is_empty(), "`{view}` is empty");
        assert!(got == expected, "`{view}` is not what it was without kills");
    }
    assert_eq!(dump(&killed, "faults"), "", "the trace has no bad rows");
}
