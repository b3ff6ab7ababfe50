//! The crash matrix: the program is killed with SIGKILL at seeded moments, started again at another width, and must
//! end with the very bytes of an uninterrupted run.

mod support;

use std::collections::BTreeMap;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::Command;

use support::{Seeded, THALWEG, assert_same, dumps, input, pipeline, run_command, run_to_end, text, write_input};

/// The moments: of the engine, and of the store.
const POINTS: &[&str] = &[
    "seal",
    "compute",
    "prepare",
    "publish",
    "remap",
    "stage_written",
    "commit",
    "committed",
    "apply_written",
    "apply_ingested",
];

/// Kills over all lives of the matrix, at least.
const KILLS: usize = 200;

/// Small thresholds, so that staging and applying happen within a few epochs.
const SMALL_STORE: &str = "\n[store]\nstage_rows = 150\napply_rows = 400\n";

#[test]
fn killed_anywhere_it_ends_with_the_same_bytes() {
    let seed = std::env::var("THALWEG_SEED").ok().and_then(|s| s.parse().ok()).unwrap_or(41);
    eprintln!("seed {seed} (set THALWEG_SEED to give it back)");
    let dir = tempfile::tempdir().unwrap();
    write_input(dir.path(), &input(seed, 1_200), 2);
    let file = pipeline(dir.path(), 60, SMALL_STORE);
    let base = dir.path().join("base");
    run_to_end(&file, &base, 1);
    let expected = dumps(&base);

    let mut rng = Seeded::new(seed);
    let mut kills = 0;
    let mut killed_at = BTreeMap::<&str, usize>::new();
    let mut life = 0;
    while kills < KILLS || POINTS.iter().any(|p| !killed_at.contains_key(p)) {
        assert!(life < 400, "some point is never passed: {killed_at:?}");
        let data = dir.path().join(format!("life-{life}"));
        let mut width = 1 << rng.below(3);
        loop {
            let point = POINTS[(kills + life) % POINTS.len()];
            let count = 1 + rng.below(12);
            if !killed(&file, &data, width, point, count) {
                break;
            }
            kills += 1;
            *killed_at.entry(point).or_default() += 1;
            width = [2, 4, 1][rng.below(3) as usize];
        }
        assert_same(&dumps(&data), &expected, &format!("seed {seed}, life {life}, after {kills} kills"));
        let verified = Command::new(THALWEG).args(["verify", "--data"]).arg(&data).output().unwrap();
        assert!(verified.status.success(), "{}", text(&verified));
        std::fs::remove_dir_all(&data).unwrap();
        life += 1;
    }
    eprintln!("{kills} kills in {life} lives: {killed_at:?}");
}

/// Runs until it is killed at that point (true) or comes to its end before (false).
fn killed(file: &Path, data: &Path, width: usize, point: &str, count: u64) -> bool {
    let output = run_command(file, data, width).env("THALWEG_CRASH", format!("{point}:{count}")).output().unwrap();
    if output.status.signal() == Some(9) {
        return true;
    }
    assert!(output.status.success(), "at {point}:{count} on {width} workers: {}", text(&output));
    false
}
