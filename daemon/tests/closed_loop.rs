//! The closed loop: a fleet that lives through a day, tells the daemon by HTTP and does what it decides, while the daemon is
//! killed again and again. Same decisions, same day, same bytes as without.

mod support;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use city::day::Day;
use city::driver::{Seen, Settings, drive};
use city::recorder::record;
use client::Client;
use serde_json::Value;
use support::{Daemon, Seeded, THALWEG, dump, free_port, get, post, run_to_end};

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
    live_and_record(url, settings).0
}

/// The day, and all that was told of it.
fn live_and_record(url: &str, settings: &Settings) -> (Day, String) {
    let (mut lived, mut told) = (None, String::new());
    drive(Client::new(url, None).unwrap(), settings, &mut |seen| match seen {
        Seen::Told(lines) => told.push_str(lines),
        Seen::Day(_, day) => lived = Some(day.clone()),
    })
    .unwrap();
    (lived.expect("a day was lived"), told)
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

/// What the steps say of themselves, by step and name.
fn gauges(daemon: &Daemon) -> BTreeMap<(String, String), f64> {
    let (_, body) = get(&format!("{}/metrics", daemon.url)).unwrap();
    let gauge = |line: &str| {
        let (labels, figure) = line.strip_prefix("thalweg_step_value{")?.split_once("} ")?;
        let label = |name: &str| Some(labels.split_once(&format!("{name}=\""))?.1.split('"').next()?.to_owned());
        Some(((label("step")?, label("name")?), figure.parse().ok()?))
    };
    body.lines().filter_map(gauge).collect()
}

/// Gauges agree with the views, whichever workers have which share, and after a restart as before.
#[test]
fn steps_say_how_they_fare() {
    let dir = tempfile::tempdir().unwrap();
    let (file, data) = (pipeline(dir.path()), dir.path().join("store"));
    let check = |daemon: &Daemon, answered: usize| {
        // They are set a moment after the epoch can be read.
        let matches = ("dispatch".to_owned(), "matches".to_owned());
        for _ in 0..500 {
            std::thread::sleep(Duration::from_millis(20));
            if gauges(daemon).get(&matches) == Some(&(answered as f64)) {
                break;
            }
        }
        std::thread::sleep(Duration::from_millis(100));
        let (told, seen) = (gauges(daemon), views(daemon));
        let gauge = |step: &str, name: &str| told[&(step.to_owned(), name.to_owned())];
        let rows = |name: &str| seen.iter().find(|(view, ..)| view == name).unwrap().1 as f64;
        let row = |name: &str| -> Value {
            let (_, body) = get(&format!("{}/v1/views/{name}?limit=2", daemon.url)).unwrap();
            serde_json::from_str::<Value>(&body).unwrap()["rows"][0].clone()
        };
        let (rounds, errors) = (row("dispatch.rounds"), row("values.errors"));
        assert_eq!(gauge("dispatch", "open_orders"), rows("dispatch.waiting"));
        assert_eq!(gauge("dispatch", "idle_drivers"), rows("dispatch.idle"));
        assert_eq!(gauge("dispatch", "matches"), answered as f64);
        assert_eq!(gauge("dispatch", "mean_pickup_m"), rounds["mean_distance_m"].as_f64().unwrap());
        let asked = rounds["orders"].as_f64().unwrap();
        assert!(gauge("dispatch", "answer_ratio") == answered as f64 / asked && asked > 50.0, "{rounds}");
        assert_eq!(gauge("values", "states_visited"), rows("values"));
        assert_eq!(gauge("values", "updates"), errors["count"].as_f64().unwrap());
        let stay = gauge("reposition", "stay_ratio");
        assert!(stay > 0.0 && stay < 1.0, "{told:?}");
        let later = gauge("reposition", "moves");
        assert!(later > 0.0 && later <= rows("reposition.moves"), "{told:?}");
    };
    let morning = Settings { from_hour: 7.0, until_hour: 8.0, ..settings() };
    let daemon = Daemon::start(&file, &data, 4, &[]);
    let answered = live(&daemon.url, &morning).answered;
    check(&daemon, answered);
    drop(daemon);
    let daemon = Daemon::start(&file, &data, 2, &[]);
    let answered = live(&daemon.url, &Settings { until_hour: 8.5, ..morning }).answered;
    check(&daemon, answered);
}

/// The ensemble's pipeline is the example's, but for what it says of the offline function.
#[test]
fn the_ensemble_is_the_example_with_an_offline_function() {
    let [example, ensemble] =
        [include_str!("../../examples/dispatch/pipeline.toml"), include_str!("../../examples/dispatch/ensemble.toml")];
    let example: Vec<&str> = example.split("# What this pipeline decides").next().unwrap().lines().collect();
    let ensemble: Vec<&str> = ensemble.lines().collect();
    let without = |a: &[&str], b: &[&str]| -> Vec<String> {
        let only = a.iter().filter(|line| !line.starts_with('#') && !b.contains(line));
        only.map(|line| line.trim().to_owned()).collect()
    };
    assert_eq!(without(&example, &ensemble), ["change_points = [{ times = [\"00:00\"], keep = 0.2 }]"]);
    let more = without(&ensemble, &example);
    let begins = |word: &str| more.iter().filter(|line| line.starts_with(word)).count();
    assert_eq!((begins("elapsed_secs ="), begins("offline ="), begins("[[steps.values.change_points]]")), (1, 1, 2));
    let times: usize = more.iter().map(|line| line.matches(":00\"").count() + line.matches(":30\"").count()).sum();
    assert_eq!(times, 48);
}

/// As `make demo` does it: a history is recorded, a value function learned from it as the pipeline counts, and the fleet lives
/// with the ensemble.
#[test]
fn the_ensemble_is_trained_for_its_own_pipeline() {
    let dir = tempfile::tempdir().unwrap();
    let values = dir.path().join("dispatch.values");
    let file = dir.path().join("ensemble.toml");
    let example = include_str!("../../examples/dispatch/ensemble.toml");
    let text = example.replace(".thalweg/dispatch.values", &values.display().to_string());
    let text = text.replace("round_secs = 10.0", "round_secs = 20.0").replace("every_secs = 10.0", "every_secs = 20.0");
    std::fs::write(&file, text).unwrap();
    let mut history = String::new();
    let days = Settings { seed: 1_000, scale: 0.02, ..settings() };
    record(&days, &mut |lines| history.push_str(lines)).unwrap();
    let mut again = String::new();
    record(&days, &mut |lines| again.push_str(lines)).unwrap();
    assert!(history == again && history.lines().count() > 10_000, "{} lines", history.lines().count());
    std::fs::write(dir.path().join("history.ndjson"), history).unwrap();
    let trained = Command::new(THALWEG)
        .args(["train", "value", "--step", "values", "--elapsed", "elapsed_secs", "--sweeps", "32", "--pipeline"])
        .arg(&file)
        .arg("--history")
        .arg(dir.path().join("history.ndjson"))
        .arg("--out")
        .arg(&values)
        .output()
        .unwrap();
    let said = support::text(&trained);
    assert!(trained.status.success() && said.contains("144 slots") && said.contains(" 0 refused"), "{said}");

    let morning = Settings { from_hour: 7.0, until_hour: 9.0, ..settings() };
    let run = |store: &str, workers: usize| {
        let daemon = Daemon::start(&file, &dir.path().join(store), workers, &[]);
        let day = live(&daemon.url, &morning);
        let weight = gauges(&daemon)[&("values".to_owned(), "offline_weight".to_owned())];
        assert!((weight - 0.8).abs() < 1e-12, "{weight}");
        (day, views(&daemon))
    };
    let (day, seen) = run("one", 1);
    assert!(day.answered > 50, "{day:?}");
    assert_eq!(run("four", 4), (day, seen.clone()));
    assert_eq!(seen.iter().find(|(view, ..)| view == "faults").unwrap().1, 0);
}

#[test]
fn a_night_passes_into_the_next_day() {
    let dir = tempfile::tempdir().unwrap();
    let file = pipeline(dir.path());
    let night = Settings { from_hour: 23.0, until_hour: 1.0, days: 2, scale: 0.05, ..settings() };
    let daemon = Daemon::start(&file, &dir.path().join("store"), 1, &[]);
    let mut answered = Vec::new();
    drive(Client::new(&daemon.url, None).unwrap(), &night, &mut |seen| {
        if let Seen::Day(_, day) = seen {
            answered.push(day.answered);
        }
    })
    .unwrap();
    assert!(answered.len() == 2 && answered.iter().all(|orders| *orders > 50), "{answered:?}");
    let seen = views(&daemon);
    let rows = |name: &str| seen.iter().find(|(view, ..)| view == name).unwrap().1;
    assert_eq!((rows("faults"), rows("dispatch.matches")), (0, answered.iter().sum::<usize>() as u64));
}

/// The law, over the whole pipeline: what was told, read from a file, in epochs of any size on any number of workers.
#[test]
fn a_recorded_morning_is_decided_as_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let file = pipeline(dir.path());
    let morning = Settings { from_hour: 7.0, until_hour: 9.0, ..settings() };
    let (lived, told) = {
        let daemon = Daemon::start(&file, &dir.path().join("lived"), 2, &[]);
        live_and_record(&daemon.url, &morning)
    };
    std::fs::write(dir.path().join("told.ndjson"), told).unwrap();
    let pushed = std::fs::read_to_string(&file).unwrap();
    let decided = dump(&dir.path().join("lived"), "dispatch.matches");
    assert_eq!(decided.lines().count(), lived.answered);
    let mut expected: Option<Vec<String>> = None;
    for (rows, workers) in [(37, 1), (1_000, 2), (100_000, 4), (100, 4), (100_000, 1)] {
        let of_a_file = "type = \"file\"\npath = \"told.ndjson\"\nformat = \"ndjson\"";
        let text = pushed.replace("type = \"http\"", of_a_file);
        let text = text.replace("interval_ms = 5", &format!("interval_ms = 5\nrows_max = {rows}"));
        assert!(text.contains("told.ndjson") && text.contains("rows_max"));
        std::fs::write(&file, text).unwrap();
        let data = dir.path().join(format!("{rows}-{workers}"));
        run_to_end(&file, &data, workers);
        let views = [
            "values",
            "values.errors",
            "dispatch",
            "dispatch.matches",
            "dispatch.waiting",
            "dispatch.idle",
            "dispatch.rounds",
            "reposition",
            "reposition.moves",
            "income_by_cell",
            "unknown",
            "faults",
        ];
        let dumps: Vec<String> = views.iter().map(|view| dump(&data, view)).collect();
        // The record ends where the morning did; rounds after it were never asked for.
        assert!(dumps[3].starts_with(&decided), "the matches are others");
        assert!(dumps[11].is_empty(), "{}", dumps[11]);
        for ((view, dump), expected) in views.iter().zip(&dumps).zip(expected.iter().flatten()) {
            assert!(dump == expected, "`{view}` differs in epochs of {rows} rows on {workers} workers");
        }
        expected = Some(dumps);
    }
}

#[test]
fn what_is_no_such_daemon_is_said() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("pipeline.toml");
    let other = "name = \"other\"\n[sources.others]\ntype = \"http\"\ncolumns = { x = \"int64\" }\n";
    std::fs::write(&file, format!("{other}[steps.all]\noperator = \"select\"\ninput = \"others\"\n")).unwrap();
    let daemon = Daemon::start(&file, &dir.path().join("store"), 1, &[]);
    let refused = drive(Client::new(&daemon.url, None).unwrap(), &settings(), &mut |_| {}).unwrap_err();
    assert!(refused.contains("no_such_source"), "{refused}");
}

/// Three drivers, five orders and four transitions, as they should be.
const GOOD: [&str; 12] = [
    r#""kind":"driver","driver":1,"event":"online","cell":1,"x":0,"y":0"#,
    r#""kind":"driver","driver":2,"event":"online","cell":1,"x":500,"y":0"#,
    r#""kind":"driver","driver":3,"event":"online","cell":2,"x":3000,"y":0"#,
    r#""kind":"transition","driver":4,"cell":1,"x":0,"y":0,"to_cell":2,"to_x":3000,"to_y":0,"reward":5,"secs":600"#,
    r#""kind":"order","order":1,"event":"created","x":100,"y":0,"to_cell":2,"to_x":3000,"to_y":0,"reward":4,"secs":600,"patience":600"#,
    r#""kind":"transition","driver":4,"cell":2,"x":3000,"y":0,"to_cell":2,"to_x":3000,"to_y":9,"reward":0,"secs":60"#,
    r#""kind":"order","order":2,"event":"created","x":2900,"y":0,"to_cell":1,"to_x":0,"to_y":0,"reward":3,"secs":600,"patience":600"#,
    r#""kind":"transition","driver":1,"cell":1,"x":0,"y":0,"to_cell":2,"to_x":3000,"to_y":0,"reward":4,"secs":633"#,
    r#""kind":"order","order":3,"event":"created","x":600,"y":0,"to_cell":1,"to_x":0,"to_y":0,"reward":3,"secs":300,"patience":600"#,
    r#""kind":"driver","driver":1,"event":"busy""#,
    r#""kind":"driver","driver":1,"event":"free","cell":2,"x":3000,"y":0"#,
    r#""kind":"order","order":4,"event":"created","x":3000,"y":90,"to_cell":1,"to_x":0,"to_y":0,"reward":3,"secs":300,"patience":600"#,
];

/// What should not be, with where it is told and why.
const BAD: [(&str, &[(&str, &str)]); 20] = [
    (
        r#""kind":"transition","driver":1,"cell":1,"x":0,"y":0,"to_cell":2,"to_x":0,"to_y":0,"reward":1,"secs":-5"#,
        &[("values", "bad_duration")],
    ),
    (
        r#""kind":"transition","driver":1,"cell":1,"x":0,"y":0,"to_cell":2,"to_x":0,"to_y":0,"reward":"NaN","secs":5"#,
        &[("values", "bad_reward")],
    ),
    (
        r#""kind":"transition","driver":1,"x":0,"y":0,"to_cell":2,"to_x":0,"to_y":0,"reward":1,"secs":5"#,
        &[("values", "null_state")],
    ),
    (
        r#""kind":"transition","driver":1,"cell":1,"y":0,"to_cell":2,"to_x":0,"to_y":0,"reward":1,"secs":5"#,
        &[("values", "bad_place")],
    ),
    (
        r#""kind":"driver","driver":9,"event":"free","cell":1,"x":0,"y":0"#,
        &[("dispatch", "driver_offline"), ("reposition", "driver_offline")],
    ),
    (
        r#""kind":"driver","driver":3,"event":"online","cell":1,"x":0,"y":0"#,
        &[("dispatch", "duplicate_event"), ("reposition", "duplicate_event")],
    ),
    (
        r#""kind":"driver","driver":3,"event":"flies","cell":1,"x":0,"y":0"#,
        &[("dispatch", "unknown_word"), ("reposition", "unknown_word")],
    ),
    (
        r#""kind":"driver","driver":3,"event":"position","cell":1,"x":null,"y":0"#,
        &[("dispatch", "bad_place"), ("reposition", "bad_place")],
    ),
    (
        r#""kind":"driver","driver":3,"event":"position","x":3000,"y":0"#,
        &[("dispatch", "bad_cell"), ("reposition", "bad_cell")],
    ),
    (
        r#""kind":"driver","event":"online","cell":1,"x":0,"y":0"#,
        &[("dispatch", "null_driver"), ("reposition", "null_driver")],
    ),
    (
        r#""kind":"order","event":"created","x":0,"y":0,"to_cell":2,"to_x":0,"to_y":0,"reward":4,"secs":6,"patience":6"#,
        &[("dispatch", "null_order")],
    ),
    (
        r#""kind":"order","order":5,"event":"created","x":0,"y":0,"to_cell":2,"to_x":0,"to_y":0,"reward":1e308,"secs":6,"patience":6"#,
        &[("dispatch", "bad_reward")],
    ),
    (
        r#""kind":"order","order":5,"event":"created","x":0,"y":0,"to_cell":2,"to_x":0,"to_y":0,"reward":4,"secs":-6,"patience":6"#,
        &[("dispatch", "bad_duration")],
    ),
    (
        r#""kind":"order","order":5,"event":"created","x":0,"y":0,"to_cell":2,"to_x":0,"to_y":0,"reward":4,"secs":6,"patience":-1"#,
        &[("dispatch", "bad_patience")],
    ),
    (
        r#""kind":"order","order":5,"event":"created","x":0,"y":0,"to_x":0,"to_y":0,"reward":4,"secs":6,"patience":6"#,
        &[("dispatch", "bad_cell")],
    ),
    (r#""kind":"order","order":5,"event":"cancelled""#, &[("dispatch", "unknown_order")]),
    (r#""kind":"cell","cell":7,"x":0,"y":0,"demand":-1"#, &[("reposition", "bad_demand")]),
    (r#""kind":"driver","driver":"one""#, &[("events", "bad_value")]),
    (r#""kind":"driver","driver":"#, &[("events", "bad_json")]),
    (r#""kind":"ship","driver":1"#, &[]),
];

#[test]
fn what_is_wrong_is_told_and_changes_no_decision() {
    let dir = tempfile::tempdir().unwrap();
    let file = pipeline(dir.path());
    let run = |store: &str, bad: bool| {
        let daemon = Daemon::start(&file, &dir.path().join(store), 2, &[]);
        let mut body = String::new();
        for n in 0..40 {
            let at = format!("2016-11-01T07:{:02}:{:02}Z", n / 2, n % 2 * 30);
            let mut line = |fields: &str| body.push_str(&format!("{{\"at\":\"{at}\",{fields}}}\n"));
            if let Some(good) = GOOD.get(n) {
                line(good);
            }
            for (fields, _) in BAD.iter().skip(n / 2).take(usize::from(bad && n % 2 == 0)) {
                line(fields);
            }
            line(r#""kind":"tick""#);
        }
        if bad {
            body.push_str("{\"at\":\"2016-11-01T06:00:00Z\",\"kind\":\"tick\"}\n");
        }
        let path = format!("{}/v1/sources/events/records", daemon.url);
        let (status, answer) = post(&path, "application/x-ndjson", None, body.as_bytes()).unwrap();
        assert_eq!(status, 200, "{answer}");
        let epoch = serde_json::from_str::<Value>(&answer).unwrap()["epoch"].as_u64().unwrap();
        let get = |path: &str| -> Value {
            let (status, body) = get(&format!("{}{path}min_epoch={epoch}", daemon.url)).unwrap();
            assert_eq!(status, 200, "{body}");
            serde_json::from_str(&body).unwrap()
        };
        let mut told = BTreeMap::new();
        for fault in get("/v1/faults?limit=1000&")["rows"].as_array().unwrap() {
            let key = [&fault["at"], &fault["reason"]].map(|cell| cell.as_str().unwrap().to_owned());
            *told.entry(key.into()).or_insert(0) += 1;
        }
        let values = get("/v1/views/values?");
        for row in values["rows"].as_array().unwrap() {
            assert!(row["value"].as_f64().is_some_and(|v| v.is_finite() && v.abs() < 1e3), "{row}");
        }
        let decided = ["dispatch", "dispatch.matches", "dispatch.waiting", "dispatch.idle", "reposition.moves"];
        (
            decided.map(|view| get(&format!("/v1/views/{view}?"))["rows"].clone()),
            values["rows"].clone(),
            told,
            get("/v1/views/unknown?")["rows"].as_array().unwrap().len(),
        )
    };
    let (decided, values, none, _): (_, _, BTreeMap<(String, String), usize>, _) = run("good", false);
    assert!(none.is_empty(), "{none:?}");
    assert!(decided[1].as_array().unwrap().len() >= 3, "{decided:?}");
    let (as_decided, as_values, told, unknown) = run("bad", true);
    assert_eq!((as_decided, as_values), (decided, values));
    let mut expected = BTreeMap::from([(("events".to_owned(), "late".to_owned()), 1)]);
    for (at, reason) in BAD.iter().flat_map(|(_, told)| told.iter()) {
        *expected.entry(((*at).to_owned(), (*reason).to_owned())).or_insert(0) += 1;
    }
    assert_eq!(told, expected);
    assert_eq!(unknown, 1);
}
