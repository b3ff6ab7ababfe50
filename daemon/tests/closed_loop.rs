//! The closed loop: a fleet that lives through a day, tells the daemon by HTTP and does what it decides, while the daemon is
//! killed again and again. Same decisions, same day, same bytes as without.

mod support;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use city::client::{Settings, drive};
use city::day::Day;
use serde_json::Value;
use support::{Daemon, Seeded, THALWEG, dump, free_port, get};

const KILLS: usize = 14;

/// The example's pipeline, with longer rounds: a day of them in a fraction of a minute.
fn pipeline(dir: &Path) -> PathBuf {
    let example = include_str!("../../examples/dispatch/pipeline.toml");
    let text =
        example.replace("round_secs = 10.0", "round_secs = 20.0").replace("every_secs = 10.0", "every_secs = 20.0");
    assert_ne!(text, example);
    let file = dir.join("pipeline.toml");
    std::fs::write(&file, text).unwrap();
    file
}

fn settings() -> Settings {
    Settings { scale: 0.01, seed: 3, every_secs: 20, ..Settings::default() }
}

fn live(url: &str, settings: &Settings) -> Day {
    let mut lived = None;
    drive(url, settings, &mut |_, day| lived = Some(day.clone())).unwrap();
    lived.expect("a day was lived")
}

/// The names of all views with their digests, and how much there is of each.
fn views(daemon: &Daemon) -> Vec<(String, u64, String)> {
    let (status, body) = get(&format!("{}/v1/views", daemon.url)).unwrap();
    assert_eq!(status, 200, "{body}");
    let body: Value = serde_json::from_str(&body).unwrap();
    let view = |v: &Value| {
        (v["name"].as_str().unwrap().to_owned(), v["rows"].as_u64().unwrap(), v["digest"].as_str().unwrap().to_owned())
    };
    body["views"].as_array().unwrap().iter().map(view).collect()
}

#[test]
fn a_day_in_which_the_daemon_is_killed_is_the_day_in_which_it_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let file = pipeline(dir.path());
    let quiet = {
        let (file, data) = (file.clone(), dir.path().join("quiet"));
        std::thread::spawn(move || {
            let daemon = Daemon::start(&file, &data, 1, &[]);
            let day = live(&daemon.url, &settings());
            (day, views(&daemon))
        })
    };
    let data = dir.path().join("killed");
    let port = free_port();
    let fleet = std::thread::spawn(move || live(&format!("http://127.0.0.1:{port}"), &settings()));
    let mut rng = Seeded::new(11);
    let points = ["journal", "seal", "compute", "prepare", "commit", "committed", "publish"];
    for kill in 0..KILLS {
        let at = format!("{}:{}", points[kill % points.len()], 1 + rng.below(250));
        let mut daemon = Daemon::start_at(&file, &data, 1 << rng.below(3), &[("THALWEG_CRASH", &at)], port);
        while daemon.is_alive() {
            assert!(!fleet.is_finished(), "the day was over before kill {kill}");
            std::thread::sleep(Duration::from_millis(2));
        }
    }
    let daemon = Daemon::start_at(&file, &data, 2, &[], port);
    let (killed, seen) = (fleet.join().unwrap(), views(&daemon));
    let (day, expected) = quiet.join().unwrap();
    assert_eq!(killed, day);
    assert_eq!(seen, expected);
    drop(daemon);
    for (view, ..) in &expected {
        let [a, b] = ["quiet", "killed"].map(|store| dump(&dir.path().join(store), view));
        assert!(a == b, "`{view}` differs");
    }
    let verified = Command::new(THALWEG).args(["verify", "--data"]).arg(&data).output().unwrap();
    assert!(verified.status.success(), "{}", support::text(&verified));

    // It was a day worth living: orders were served, drivers sent, and nothing was told wrongly.
    let rows = |name: &str| expected.iter().find(|(view, ..)| view == name).unwrap().1;
    assert_eq!(rows("faults"), 0);
    assert!(rows("dispatch.matches") > 500 && rows("reposition.moves") > 100, "{expected:?}");
    assert!(day.answered as u64 == rows("dispatch.matches") && day.total() > 2_000.0, "{day:?}");
}

#[test]
fn a_fleet_that_begins_again_goes_on_where_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let file = pipeline(dir.path());
    let morning = Settings { from_hour: 7.0, until_hour: 8.0, ..settings() };
    let longer = Settings { until_hour: 9.0, ..morning.clone() };
    let [once, twice] = ["once", "twice"].map(|store| Daemon::start(&file, &dir.path().join(store), 1, &[]));
    let expected = live(&once.url, &longer);
    let first = live(&twice.url, &morning);
    assert!(first.answered > 0 && first.answered < expected.answered);
    assert_eq!(live(&twice.url, &longer), expected);
    assert_eq!(views(&twice), views(&once));
}

#[test]
fn what_is_no_such_daemon_is_said() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("pipeline.toml");
    let other = "name = \"other\"\n[sources.others]\ntype = \"http\"\ncolumns = { x = \"int64\" }\n";
    std::fs::write(&file, format!("{other}[steps.all]\noperator = \"select\"\ninput = \"others\"\n")).unwrap();
    let daemon = Daemon::start(&file, &dir.path().join("store"), 1, &[]);
    let refused = drive(&daemon.url, &settings(), &mut |_, _| {}).unwrap_err();
    assert!(refused.contains("no_such_source"), "{refused}");
}
