//! The house rules a compiler does not know: who may name whom, who owns which heavy library, how files begin and how
//! long they are. The rules and their reasons stand in ARCHITECTURE.md.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

/// Crates of the workspace with those they may name. Those of [`FOR_TESTS`] may be named by all tests besides.
const ARROWS: &[(&str, &[&str])] = &[
    ("types", &[]),
    ("storage", &["types"]),
    ("engine", &["types", "storage"]),
    ("connect", &["types", "storage", "engine"]),
    ("operators", &["types", "engine"]),
    ("catalogue", &["engine", "connect", "operators"]),
    ("sql", &["types", "storage", "engine"]),
    ("api", &["types", "storage", "engine"]),
    ("client", &[]),
    (
        "daemon",
        &["types", "storage", "engine", "connect", "operators", "catalogue", "sql", "api", "client", "bench", "city"],
    ),
    ("examples", &["types", "storage", "engine", "operators", "catalogue", "api"]),
    ("testkit", &["types", "storage", "engine"]),
    ("bench", &["types", "storage", "engine", "operators", "catalogue", "api", "examples", "city"]),
    ("city", &["operators", "client"]),
];

/// What whole pipelines are made of, and what tests share.
const FOR_TESTS: &[&str] = &["testkit", "catalogue", "connect", "operators"];

/// Libraries that take long to compile or shape what is built on them, with the crates that may use them. A name ending
/// in `*` is a prefix. `bench` measures its limits with the bare libraries.
const OWNERS: &[(&str, &[&str])] = &[
    ("rocksdb", &["storage", "bench"]),
    ("timely*", &["engine", "operators", "bench"]),
    ("differential-dataflow", &["engine", "operators", "bench"]),
    ("datafusion*", &["operators", "sql"]),
    ("parquet", &["connect", "bench"]),
    ("rdkafka", &["connect", "bench"]),
    ("axum", &["api", "daemon", "bench"]),
    ("tokio*", &["api", "daemon", "bench"]),
    ("hyper*", &["api", "daemon", "bench"]),
    ("tower*", &["api", "daemon", "bench"]),
    ("clap", &["daemon"]),
    ("tikv-jemallocator", &["daemon"]),
    ("toml*", &["engine"]),
    ("prometheus", &["engine", "api", "daemon"]),
    ("tracing-subscriber", &["daemon"]),
];

/// Longer files are several things.
const LINES_MAX: usize = 900;

/// What no finished code contains. Written in two halves, so that this file does not contain it either.
const UNFINISHED: &[(&str, &str)] =
    &[("todo", "!("), ("unimplemented", "!("), ("#[ig", "nore"), ("FIX", "ME"), ("dbg", "!(")];

/// Paths that exist on one machine only.
const MACHINE_PATHS: &[(&str, &str)] = &[("/work", "/"), ("/root", "/"), ("/home", "/")];

#[test]
fn crates_name_only_those_they_may() {
    let mut wrong = String::new();
    let arrows: BTreeMap<&str, &[&str]> = ARROWS.iter().copied().collect();
    for (name, allowed) in ARROWS {
        for (section, dependency, _) in manifest(name) {
            let is_crate = arrows.contains_key(dependency.as_str());
            let for_tests = section == "dev-dependencies";
            let allowed =
                allowed.contains(&dependency.as_str()) || (for_tests && FOR_TESTS.contains(&dependency.as_str()));
            if is_crate && !allowed {
                let _ =
                    writeln!(wrong, "{name}/Cargo.toml: [{section}] names `{dependency}`, which {name} may not know");
            }
        }
    }
    assert!(wrong.is_empty(), "\n{wrong}");
}

#[test]
fn heavy_libraries_have_their_owners() {
    let mut wrong = String::new();
    for (name, _) in ARROWS {
        for (section, dependency, _) in manifest(name) {
            let owned = OWNERS.iter().find(|(library, _)| match library.strip_suffix('*') {
                Some(prefix) => dependency.starts_with(prefix),
                None => dependency == *library,
            });
            // Tests may reach for a library to compare with or to drive.
            if let Some((_, owners)) =
                owned.filter(|(_, owners)| section != "dev-dependencies" && !owners.contains(name))
            {
                let owners = owners.join(", ");
                let _ = writeln!(wrong, "{name}/Cargo.toml: `{dependency}` belongs to {owners}");
            }
        }
    }
    assert!(wrong.is_empty(), "\n{wrong}");
}

#[test]
fn versions_and_lints_stand_at_the_root_alone() {
    let mut wrong = String::new();
    for (name, _) in ARROWS {
        let text = read(&root().join(name).join("Cargo.toml"));
        if !text.contains("[lints]\nworkspace = true") {
            let _ = writeln!(wrong, "{name}/Cargo.toml: the workspace's lints are not taken over");
        }
        if !text.contains(&format!("name = \"thalweg-{name}\"")) {
            let _ = writeln!(wrong, "{name}/Cargo.toml: the package is not called `thalweg-{name}`");
        }
        for (section, dependency, line) in manifest(name) {
            if !line.contains("workspace = true") {
                let _ = writeln!(wrong, "{name}/Cargo.toml: [{section}] `{dependency}` has a version of its own");
            }
        }
    }
    let workspace = read(&root().join("Cargo.toml"));
    for (name, _) in ARROWS {
        assert!(workspace.contains(&format!("\"{name}\"")), "Cargo.toml: `{name}` is no member");
    }
    let members = folders_with_manifest();
    let known: BTreeSet<String> = ARROWS.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(members, known, "a crate stands at the root, and its arrows in this test");
    assert!(workspace.contains("unsafe_code = \"forbid\""), "Cargo.toml: unsafe code is not forbidden");
    assert!(wrong.is_empty(), "\n{wrong}");
}

#[test]
fn source_files_are_tidy() {
    let mut wrong = String::new();
    for file in files().iter().filter(|f| f.extension().is_some_and(|e| e == "rs")) {
        let text = read(file);
        let mut say = |line: usize, what: &str| {
            let _ = writeln!(wrong, "{}:{line}: {what}", shown(file));
        };
        let first = text.lines().next().unwrap_or_default();
        if first.strip_prefix("//! ").is_none_or(|sentence| sentence.trim().len() < 12) {
            say(1, "the file does not open with a sentence that says what it is for");
        }
        let lines = text.lines().count();
        if lines > LINES_MAX {
            say(lines, &format!("longer than {LINES_MAX} lines"));
        }
        for (n, line) in text.lines().enumerate() {
            if line.contains('\t') {
                say(n + 1, "a tab");
            }
            if line.ends_with([' ', '\r']) {
                say(n + 1, "blanks at the end of the line");
            }
            // A test that is the child process of another one is run by that one alone.
            let is_child = line.trim_start().starts_with("#[") && line.contains(" = \"the child ");
            for (a, b) in UNFINISHED.iter().filter(|(a, b)| !is_child && line.contains(&format!("{a}{b}"))) {
                say(n + 1, &format!("unfinished: {a}{b}"));
            }
        }
        if !text.is_empty() && !text.ends_with('\n') {
            say(lines, "no newline at the end of the file");
        }
    }
    assert!(wrong.is_empty(), "\n{wrong}");
}

#[test]
fn no_file_names_a_path_of_one_machine() {
    let mut wrong = String::new();
    for file in files() {
        // Fixtures may be binary; they name no paths.
        let Ok(text) = fs::read_to_string(&file) else { continue };
        for (n, line) in text.lines().enumerate() {
            for (a, b) in MACHINE_PATHS {
                let path = format!("{a}{b}");
                // Only where a path begins: `network/work/` and an address on the web do not count.
                let begins = |at: usize| {
                    line[..at].chars().next_back().is_none_or(|c| !c.is_alphanumeric() && !"./-_}".contains(c))
                };
                if line.match_indices(&path).any(|(at, _)| begins(at)) {
                    let _ = writeln!(wrong, "{}:{}: {}", shown(&file), n + 1, line.trim());
                }
            }
        }
    }
    assert!(wrong.is_empty(), "\n{wrong}");
}

#[test]
fn designs_are_numbered_and_listed() {
    let folder = root().join("docs/design");
    let index = read(&folder.join("README.md"));
    let mut names: Vec<String> = fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name != "README.md")
        .collect();
    names.sort();
    for (n, name) in names.iter().enumerate() {
        let number = format!("{:04}", n + 1);
        assert!(name.starts_with(&format!("{number}-")), "docs/design/{name}: the next number is {number}");
        let title = read(&folder.join(name));
        assert!(title.starts_with(&format!("# {number} — ")), "docs/design/{name}: begins with `# {number} — Title`");
        assert!(index.contains(&format!("]({name})")), "docs/design/README.md does not list {name}");
    }
}

#[test]
fn links_between_documents_lead_somewhere() {
    let mut wrong = String::new();
    for file in files().iter().filter(|f| f.extension().is_some_and(|e| e == "md")) {
        let text = read(file);
        for (at, _) in text.match_indices("](") {
            let target = text[at + 2..].split([')', '#', ' ']).next().unwrap_or_default();
            if target.is_empty() || target.contains("://") || target.contains(['`', '\n', '*', '{']) {
                continue;
            }
            if !file.parent().expect("a file has a folder").join(target).exists() {
                let _ = writeln!(wrong, "{}: nothing is at {target}", shown(file));
            }
        }
    }
    assert!(wrong.is_empty(), "\n{wrong}");
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("crates stand at the root").to_owned()
}

fn read(file: &Path) -> String {
    fs::read_to_string(file).unwrap_or_else(|e| panic!("{}: {e}", file.display()))
}

fn shown(file: &Path) -> String {
    file.strip_prefix(root()).unwrap_or(file).display().to_string()
}

/// The dependencies of a crate: section, name, line.
fn manifest(name: &str) -> Vec<(String, String, String)> {
    let text = read(&root().join(name).join("Cargo.toml"));
    let mut section = String::new();
    let mut out = Vec::new();
    for line in text.lines().map(str::trim) {
        if let Some(header) = line.strip_prefix('[') {
            section = header.trim_end_matches(']').to_owned();
        } else if section.ends_with("dependencies") && !line.is_empty() && !line.starts_with('#') {
            let dependency = line.split(['.', ' ', '=']).next().expect("split gives at least one");
            out.push((section.clone(), dependency.to_owned(), line.to_owned()));
        }
    }
    out
}

fn folders_with_manifest() -> BTreeSet<String> {
    let entries = fs::read_dir(root()).unwrap().map(|e| e.unwrap().path());
    entries
        .filter(|p| p.join("Cargo.toml").exists())
        .map(|p| p.file_name().expect("a folder has a name").to_string_lossy().into_owned())
        .collect()
}

/// Every file of the repository, in order. Walked rather than asked of git, which refuses a clone of another user's.
fn files() -> Vec<PathBuf> {
    const SKIPPED: &[&str] = &["target", ".git", ".thalweg", "__pycache__", "Cargo.lock"];
    let mut out = Vec::new();
    let mut folders = vec![root()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().expect("an entry has a name").to_string_lossy().into_owned();
            if SKIPPED.contains(&name.as_str()) {
                continue;
            }
            if path.is_dir() { folders.push(path) } else { out.push(path) }
        }
    }
    out.sort();
    out
}
