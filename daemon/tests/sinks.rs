//! File sinks through kills at every moment: each change once, every file whole, the last of each key the view's row.

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use parquet::file::reader::{FileReader as _, SerializedFileReader};
use parquet::record::Field;
use serde_json::Value as Json;
use support::{Daemon, Seeded, THALWEG, dump, input, pipeline, run_command, run_to_end, text, write_input};

/// A pipeline with sinks, by name, of relations.
fn with_sinks(dir: &Path, rows_max: usize, sinks: &[(&str, &str, &str)]) -> PathBuf {
    let file = pipeline(dir, rows_max, "[retain]\nepochs = 3");
    let mut text = std::fs::read_to_string(&file).unwrap();
    for (name, view, further) in sinks {
        text.push_str(&format!("\n[sinks.{name}]\ntype = \"file\"\nview = \"{view}\"\npath = \"out\"\n{further}\n"));
    }
    std::fs::write(&file, text).unwrap();
    file
}

/// The rows of a sink's files, in the order of their names.
fn rows(dir: &Path, sink: &str) -> Vec<Json> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(dir.join("out")).unwrap().map(|e| e.unwrap().path()).collect();
    files.retain(|f| f.file_name().unwrap().to_str().unwrap().starts_with(&format!("{sink}.")));
    files.sort();
    let mut rows = Vec::new();
    let mut last = 0;
    for file in files {
        let name = file.file_name().unwrap().to_str().unwrap().to_owned();
        let epochs: Vec<u64> = name.split('.').nth(1).unwrap().split('-').map(|e| e.parse().unwrap()).collect();
        assert!(epochs[0] > last && epochs[0] <= epochs[1], "{name} begins at or before {last}");
        last = epochs[1];
        let before = rows.len();
        match file.extension().unwrap().to_str().unwrap() {
            "ndjson" => {
                let text = std::fs::read_to_string(&file).unwrap();
                assert!(text.ends_with('\n'), "{name} is cut off");
                rows.extend(text.lines().map(|l| serde_json::from_str(l).unwrap()));
            }
            "csv" => {
                let text = std::fs::read_to_string(&file).unwrap();
                assert!(text.ends_with("\r\n"), "{name} is cut off");
                let mut lines = text.lines();
                let header: Vec<&str> = lines.next().unwrap().split(',').collect();
                for line in lines {
                    let cells = line.split(',').map(|c| c.trim_matches('"').into());
                    rows.push(Json::Object(header.iter().map(|h| (*h).to_owned()).zip(cells).collect()));
                }
            }
            _ => {
                let reader = SerializedFileReader::new(std::fs::File::open(&file).unwrap()).unwrap();
                for row in reader.get_row_iter(None).unwrap() {
                    let cells = row.unwrap().get_column_iter().map(|(n, f)| (n.clone(), json(f))).collect();
                    rows.push(Json::Object(cells));
                }
            }
        }
        let inside = |row: &Json| epochs[0] <= epoch(row) && epoch(row) <= epochs[1];
        assert!(rows.len() > before && rows[before..].iter().all(inside), "{name}: rows of other epochs, or none");
    }
    rows
}

fn json(field: &Field) -> Json {
    match field {
        Field::Null => Json::Null,
        Field::Bool(v) => (*v).into(),
        Field::Long(v) => (*v).into(),
        Field::Double(v) if v.is_nan() => "NaN".into(),
        Field::Double(v) => (*v).into(),
        Field::Str(v) => v.as_str().into(),
        other => other.to_string().into(),
    }
}

fn epoch(row: &Json) -> u64 {
    row["_epoch"].as_u64().or_else(|| row["_epoch"].as_str()?.parse().ok()).unwrap()
}

/// Folds changes by the key columns, each of which an epoch may change once.
fn folded(rows: &[Json], key: &[&str], what: &str) -> BTreeMap<String, Json> {
    let mut seen = BTreeSet::new();
    let mut state = BTreeMap::new();
    for row in rows {
        let cells: Vec<String> = key.iter().map(|k| row[*k].to_string()).collect();
        let cells = cells.join(",");
        assert!(seen.insert((epoch(row), cells.clone())), "{what}: delivered twice: {row}");
        let mut own = row.as_object().unwrap().clone();
        own.remove("_epoch");
        match own.remove("_op").as_ref().and_then(Json::as_str) {
            Some("delete") => assert!(state.remove(&cells).is_some(), "{what}: what was not there is deleted: {row}"),
            Some("upsert") | None => drop(state.insert(cells, Json::Object(own))),
            op => panic!("{what}: {op:?}"),
        }
    }
    state
}

fn assert_delivered(dir: &Path, data: &Path, sink: &str, view: &str, key: &[&str], what: &str) {
    let what = format!("{what}: {sink}");
    let state = folded(&rows(dir, sink), key, &what);
    let there: Vec<Json> = dump(data, view).lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    assert!(!there.is_empty(), "{what}: `{view}` is empty");
    assert_eq!(state.len(), there.len(), "{what}");
    for row in there {
        let cells: Vec<String> = key.iter().map(|k| row[*k].to_string()).collect();
        let found = &state[&cells.join(",")];
        for (name, cell) in row.as_object().unwrap() {
            assert_eq!(found[name], *cell, "{what}: {found} is not {row}");
        }
    }
}

#[test]
fn killed_at_every_moment_each_change_is_delivered_once() {
    let seed = 11;
    let mut rng = Seeded::new(seed);
    for workers in [1, 2] {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("data");
        write_input(dir.path(), &input(seed, 3000), 3);
        let file = with_sinks(
            dir.path(),
            25,
            &[
                ("zones", "by_zone", "roll_mb = 0.002\nroll_secs = 0.05"),
                ("pairs", "order_drivers", "roll_mb = 0.05\nroll_secs = 100"),
                ("stream", "trip_stats", "format = \"parquet\"\nroll_mb = 0.01"),
                ("bad", "faults", "roll_secs = 0.02"),
            ],
        );
        let points = ["deliver", "delivered", "commit", "committed", "prepare", "publish", "trim", "seal"];
        let mut kills = 0;
        for n in 0..24 {
            let crash = format!("{}:{}", points[n % points.len()], 1 + rng.below(4));
            let output = run_command(&file, &data, workers).env("THALWEG_CRASH", &crash).output().unwrap();
            if output.status.success() {
                break;
            }
            assert!(output.status.code().is_none(), "{crash}: {}", text(&output));
            kills += 1;
        }
        assert!(kills >= 8, "only {kills} lives ended early");
        run_to_end(&file, &data, workers);
        let what = format!("seed {seed}, {workers} workers, {kills} kills");
        assert_delivered(dir.path(), &data, "zones", "by_zone", &["zone"], &what);
        assert_delivered(dir.path(), &data, "pairs", "order_drivers", &["order_id", "driver_id"], &what);
        assert_delivered(dir.path(), &data, "stream", "trip_stats", &["from_cell"], &what);
        assert_delivered(dir.path(), &data, "bad", "faults", &["source", "seq", "at"], &what);
        let hidden = std::fs::read_dir(dir.path().join("out"))
            .unwrap()
            .filter(|e| e.as_ref().unwrap().file_name().to_str().unwrap().starts_with('.'));
        assert_eq!(hidden.count(), 0);
        let verified = Command::new(THALWEG).args(["verify", "--data"]).arg(&data).output().unwrap();
        assert!(verified.status.success(), "{}", text(&verified));
    }
}

#[test]
fn a_sink_that_comes_later_begins_with_the_rows_or_with_now() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    write_input(dir.path(), &input(3, 400), 1);
    run_to_end(&with_sinks(dir.path(), 50, &[]), &data, 1);
    let sinks = [("rows", "by_zone", "format = \"csv\""), ("now", "by_zone", "start = \"now\"")];
    run_to_end(&with_sinks(dir.path(), 50, &sinks), &data, 1);
    let first = rows(dir.path(), "rows");
    assert_eq!(first.len(), dump(&data, "by_zone").lines().count());
    assert_eq!(rows(dir.path(), "now"), Vec::<Json>::new());
    // Taken out and put in again, it goes on where it was if nothing is missing; and says so if something is.
    run_to_end(&with_sinks(dir.path(), 50, &[]), &data, 1);
    run_to_end(&with_sinks(dir.path(), 50, &sinks), &data, 1);
    assert_eq!(rows(dir.path(), "rows"), first);
}

#[test]
fn a_store_that_did_not_deliver_is_told_from_the_one_that_did() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let sinks = [("zones", "by_zone", "")];
    write_input(dir.path(), &input(5, 400), 1);
    run_to_end(&with_sinks(dir.path(), 50, &sinks), &data, 1);
    // Another store with fewer epochs, and one with as many and other rows.
    for (seed, rows_max, part) in [(5, 5000, "this store has only"), (6, 20, "it then had other rows than here")] {
        write_input(dir.path(), &input(seed, 400), 1);
        let other = dir.path().join(format!("other-{seed}"));
        run_to_end(&with_sinks(dir.path(), rows_max, &[]), &other, 1);
        let output = run_command(&with_sinks(dir.path(), rows_max, &sinks), &other, 1).output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{}", text(&output));
        let said = text(&output);
        assert!(said.contains(part) || said.contains("is not kept"), "{said}");
        assert!(said.contains("sink `zones`"), "{said}");
    }
}

#[test]
fn how_far_a_sink_is_can_be_asked_and_a_folder_that_cannot_be_written_stops_the_run() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    write_input(dir.path(), &input(9, 300), 1);
    let file = with_sinks(dir.path(), 50, &[("zones", "by_zone", "roll_secs = 0.02")]);
    let mut daemon = Daemon::start(&file, &data, 1, &[]);
    let sink = || -> Json {
        let (status, body) = support::get(&format!("{}/v1/sinks", daemon.url)).unwrap();
        assert_eq!(status, 200, "{body}");
        serde_json::from_str::<Json>(&body).unwrap()["sinks"][0].clone()
    };
    let all = |_| {
        std::thread::sleep(std::time::Duration::from_millis(20));
        let sink = sink();
        sink["lag_epochs"] == 0 && sink["records"].as_u64() > Some(0)
    };
    assert!((0..500).any(all), "{}", sink());
    let told = |_| {
        std::thread::sleep(std::time::Duration::from_millis(20));
        let metrics = support::get(&format!("{}/metrics", daemon.url)).unwrap().1;
        metrics.contains("thalweg_sink_lag_epochs{sink=\"zones\"} 0")
    };
    assert!((0..500).any(told), "no metric says that nothing lags");
    let pipelines = support::get(&format!("{}/v1/pipelines", daemon.url)).unwrap().1;
    assert!(pipelines.contains("\"view\":\"by_zone\""), "{pipelines}");
    daemon.kill();
    drop(daemon);

    std::fs::remove_dir_all(dir.path().join("out")).unwrap();
    std::fs::write(dir.path().join("out"), "no folder").unwrap();
    let output = run_command(&file, &dir.path().join("new"), 1).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output).contains("sink `zones`: cannot make the folder"), "{}", text(&output));
}
