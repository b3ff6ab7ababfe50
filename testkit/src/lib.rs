//! What tests of several crates share: where recorded data is, and results compared with those committed.

#![allow(clippy::disallowed_methods, reason = "tests are switched by the environment")]

pub mod random;

use std::path::{Path, PathBuf};

/// The folder of recorded data: `THALWEG_DATA`, or `../shared/data` beside the repository. `None` where it is missing,
/// which is a failure under CI.
pub fn recorded_data() -> Option<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let dir = match std::env::var_os("THALWEG_DATA") {
        Some(dir) => root.join(dir),
        None => root.join("../shared/data"),
    };
    if dir.join("README.md").exists() {
        return Some(dir.canonicalize().expect("it is there"));
    }
    assert!(std::env::var_os("CI").is_none(), "recorded data is missing at {}", dir.display());
    eprintln!("skipped: no recorded data at {}", dir.display());
    None
}

/// Compares a result with the one committed in `file`; with `UPDATE=1`, writes it there first.
pub fn compare_with_committed(file: &Path, result: &str) {
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(file, result).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
    }
    let committed = std::fs::read_to_string(file).unwrap_or_default();
    let pairs = result.lines().zip(committed.lines()).enumerate();
    let first = pairs.filter(|(_, (a, b))| a != b).map(|(n, (a, b))| format!("line {}: {a}\n  committed: {b}", n + 1));
    let first = first.into_iter().next().unwrap_or_else(|| "one of them ends early".to_owned());
    assert!(result == committed, "{} has other results (UPDATE=1 writes these there)\n{first}", file.display());
}
