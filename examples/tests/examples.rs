//! Every example pipeline: its own tests pass, and run to its end it leaves what is committed beside it, on any number
//! of workers and in epochs of any size.

use std::fmt::Write as _;
use std::ops::Bound::Unbounded;
use std::path::{Path, PathBuf};

use engine::pipeline::load;
use engine::{Plan, testing};
use testkit::{compare_with_committed, recorded_data};
use types::{RowCodec, fault_schema};

/// The example pipelines, from `examples/`.
const PIPELINES: [&str; 9] = [
    "city/pipeline.toml",
    "cluster_auction/google_trace.toml",
    "cluster_auction/pipeline.toml",
    "dispatch/pipeline.toml",
    "market_features/binance.toml",
    "market_features/lobster.toml",
    "market_features/pipeline.toml",
    "recorded/google_jobs.toml",
    "recorded/nyc_taxi.toml",
];

/// Those that load what is not committed: `daemon/tests/closed_loop.rs` makes it, and runs them.
const TRAINED: [&str; 1] = ["dispatch/ensemble.toml"];

/// (workers, rows of an epoch at most)
const RUNS: [(usize, usize); 2] = [(1, 10_000), (2, 700)];

fn examples() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn plan(file: &Path, text: &str, data: &Path) -> Plan {
    let env = |_: &str| Some(data.display().to_string());
    load(file, text, &env, &catalogue::all()).unwrap_or_else(|problems| panic!("{problems}"))
}

/// Runs the tests in a file: there are some, and all pass.
fn check_tests(file: &str, text: &str) {
    let plan = plan(Path::new(file), text, Path::new("/nowhere"));
    let folder = tempfile::tempdir().unwrap();
    let outcomes = testing::run(&plan, folder.path());
    assert!(!outcomes.is_empty(), "{file} has no tests");
    let said: String = outcomes.iter().map(|outcome| outcome.text(file)).collect();
    assert!(said.is_empty(), "\n{said}");
}

#[test]
fn every_folder_and_every_pipeline_is_here() {
    let mut found = Vec::new();
    let folders = std::fs::read_dir(examples()).unwrap().map(|e| e.unwrap().path());
    for folder in folders.filter(|p| p.is_dir() && !p.ends_with("src") && !p.ends_with("tests")) {
        assert!(folder.join("README.md").exists(), "{} has no README.md", folder.display());
        let files = std::fs::read_dir(&folder).unwrap().map(|e| e.unwrap().path());
        found.extend(files.filter(|f| f.extension().is_some_and(|e| e == "toml")));
    }
    found.sort();
    let mut expected: Vec<PathBuf> = PIPELINES.iter().chain(&TRAINED).map(|p| examples().join(p)).collect();
    expected.sort();
    assert_eq!(found, expected);
}

#[test]
fn the_tests_in_the_examples_pass() {
    for file in PIPELINES {
        check_tests(file, &std::fs::read_to_string(examples().join(file)).unwrap());
    }
}

#[test]
fn the_tests_in_the_manual_pass() {
    let manual = std::fs::read_to_string(examples().join("../docs/pipeline.md")).unwrap();
    // A whole pipeline, and a test more where tests are explained.
    let blocks = manual.split("```toml\n").skip(1).map(|block| block.split_once("```").unwrap().0);
    let text: Vec<&str> = blocks.collect();
    assert_eq!(text.len(), 2);
    check_tests("docs/pipeline.md", &text.join("\n"));
}

/// Runs a pipeline to its end in several ways and compares what it leaves with the committed file. Of some relations
/// the first rows are shown too.
fn check(file: &str, change: impl Fn(String) -> String, data: &Path, expected: &str, shown: &[(&str, usize)]) {
    let path = examples().join(file);
    let text = change(std::fs::read_to_string(&path).unwrap());
    let folder = tempfile::tempdir().unwrap();
    let mut first: Option<String> = None;
    for (workers, epoch_rows_max) in RUNS {
        let mut plan = plan(&path, &text, data);
        plan.settings.epoch_rows_max = epoch_rows_max;
        let left = left(plan, workers, folder.path(), shown);
        let title =
            format!("What examples/{file} leaves: every relation's rows and digest, and the first rows of some.");
        let left = format!("{title}\n\n{left}");
        match &first {
            None => {
                compare_with_committed(&examples().join(expected), &left);
                first = Some(left);
            }
            Some(first) => assert_eq!(&left, first, "on {workers} workers in epochs of {epoch_rows_max} rows"),
        }
    }
}

/// What a plan leaves at its end.
fn left(plan: Plan, workers: usize, folder: &Path, shown: &[(&str, usize)]) -> String {
    let relations: Vec<_> = plan.relations().into_iter().map(|r| (r.name, r.schema.clone())).collect();
    let relations: Vec<_> = relations.into_iter().chain([(engine::FAULTS.to_owned(), fault_schema())]).collect();
    let ended = testing::to_end(plan, workers, folder).unwrap();
    let store = ended.store();
    let mut out = String::new();
    for (name, _) in &relations {
        let digest = store.digest(store.relation(name).unwrap());
        let _ = writeln!(out, "{name:22} {:>8}  {:032x}", digest.rows, digest.sum);
    }
    let snapshot = store.snapshot(None).unwrap();
    for (name, rows) in shown {
        let _ = writeln!(out, "\n{name}");
        let (_, schema) = relations.iter().find(|(n, _)| n == name).unwrap();
        let codec = RowCodec::new(schema);
        for row in snapshot.scan(store.relation(name).unwrap(), Unbounded, Unbounded).take(*rows) {
            let (key, value) = row.unwrap();
            let mut line = Vec::new();
            codec.write_json(&mut line, &key, &value).unwrap();
            let _ = writeln!(out, "{}", String::from_utf8(line).unwrap());
        }
    }
    out
}

#[test]
fn a_stretch_of_the_city_ends_as_committed() {
    // The city has no end and keeps a pace; here it has one, and none.
    let bounded = |text: String| {
        assert_eq!(text.matches("\nspeed = 60\n").count(), 3, "three sources of one world");
        text.replace("\nspeed = 60\n", "\nhours = 0.5\n")
    };
    let shown = [("dispatch", 8), ("dispatch.certificate", 4), ("best_cells", 10), ("waiting_by_cell", 8)];
    check("city/pipeline.toml", bounded, Path::new(""), "city/expected.txt", &shown);
}

#[test]
fn the_small_cluster_ends_as_committed() {
    let fairness = ["placement", "best", "alone", "running"].map(|step| format!("{step}.fairness"));
    let mut shown: Vec<(&str, usize)> = fairness.iter().map(|view| (view.as_str(), 4)).collect();
    shown.extend([("placement", 8), ("placement.payments", 8), ("placement.rejections", 4), ("running.prices", 4)]);
    check("cluster_auction/pipeline.toml", |text| text, Path::new(""), "cluster_auction/expected.txt", &shown);
}

#[test]
fn the_trace_of_jobs_ends_as_committed() {
    let Some(data) = recorded_data() else { return };
    let shown = [("placement.fairness", 4), ("running.fairness", 4), ("placement", 8)];
    let expected = "cluster_auction/google_trace.expected.txt";
    check("cluster_auction/google_trace.toml", |text| text, &data, expected, &shown);
}

const MARKET: [(&str, usize); 6] = [
    ("book.health", 3),
    ("trusted", 60),
    ("trusted.regret", 12),
    ("direction.evaluation", 36),
    ("direction.network", 3),
    ("direction.stability", 3),
];

#[test]
fn the_exchange_ends_as_committed() {
    let expected = "market_features/expected.txt";
    check("market_features/pipeline.toml", |text| text, Path::new(""), expected, &MARKET);
}

#[test]
fn recorded_markets_end_as_committed() {
    let Some(data) = recorded_data() else { return };
    for market in ["binance", "lobster"] {
        let (file, expected) =
            (format!("market_features/{market}.toml"), format!("market_features/{market}.expected.txt"));
        check(&file, |text| text, &data, &expected, &MARKET);
    }
}

#[test]
fn the_taxi_hour_ends_as_committed() {
    let Some(data) = recorded_data() else { return };
    let shown = [("by_payment", 8), ("busiest", 20), ("cell_values", 5)];
    check("recorded/nyc_taxi.toml", |text| text, &data, "recorded/nyc_taxi.expected.txt", &shown);
}

#[test]
fn the_job_events_end_as_committed() {
    let Some(data) = recorded_data() else { return };
    check("recorded/google_jobs.toml", |text| text, &data, "recorded/google_jobs.expected.txt", &[("by_event", 40)]);
}
