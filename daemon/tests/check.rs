//! `thalweg check`: mistakes, tests that hold, tests that do not, in words and as JSON, with their exit codes.

use std::path::Path;
use std::process::Command;

const THALWEG: &str = env!("CARGO_BIN_EXE_thalweg");

const PIPELINE: &str = r#"name = "p"
[sources.orders]
type = "http"
key = "order"
columns = { order = "int64", fare = "float64" }
[steps.dear]
operator = "select"
input = "orders"
filter = "fare > 5"
"#;

const GOOD: &str = r#"[[tests]]
name = "dear ones are kept"
given.orders = [{ order = 1, fare = 9 }, { order = 2, fare = 1 }]
expect.dear = [{ order = 1 }]
"#;

const WRONG: &str = r#"[[tests]]
name = "cheap ones too"
given.orders = [{ order = 1, fare = 9 }, { order = 2, fare = 1 }]
expect.dear = [{ order = 2, fare = 1 }]
"#;

/// Checks a file of these parts; what is expected is the exit code, standard output and standard error.
#[track_caller]
fn check(arguments: &[&str], parts: &[&str], code: i32, out: &str, err: &str) {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("p.toml"), parts.concat()).unwrap();
    let temporary = dir.path().join("temporary");
    std::fs::create_dir(&temporary).unwrap();
    let output = Command::new(THALWEG)
        .args(["check", "p.toml"])
        .args(arguments)
        .current_dir(dir.path())
        .env("TMPDIR", &temporary)
        .output()
        .unwrap();
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    assert_eq!((text(&output.stdout).as_str(), text(&output.stderr).as_str()), (out, err));
    assert_eq!(output.status.code(), Some(code));
    assert!(is_empty(&temporary), "a store is left behind");
}

fn is_empty(folder: &Path) -> bool {
    std::fs::read_dir(folder).unwrap().next().is_none()
}

#[test]
fn tests_that_hold_are_counted() {
    check(&[], &[PIPELINE], 0, "p.toml: pipeline `p` has no mistakes: 1 source, 1 step, no tests\n", "");
    check(&[], &[PIPELINE, GOOD], 0, "p.toml: pipeline `p` has no mistakes: 1 source, 1 step, 1 test passed\n", "");
    check(
        &["--json"],
        &[PIPELINE, GOOD],
        0,
        "{\"problems\":[],\"tests\":[{\"name\":\"dear ones are kept\",\"line\":10,\"passed\":true,\"failures\":[]}]}\n",
        "",
    );
}

#[test]
fn a_test_that_fails_is_told_with_its_rows() {
    check(
        &[],
        &[PIPELINE, GOOD, WRONG],
        1,
        "p.toml:14: the test `cheap ones too` failed\n\
         p.toml:17: `dear` has other rows than expected\n\
         \x20 missing    {\"order\":2,\"fare\":1.0}\n\
         \x20 unexpected {\"order\":1,\"fare\":9.0}\n\
         p.toml: pipeline `p` has no mistakes: 1 source, 1 step, 1 of 2 tests failed\n",
        "p.toml: 1 test failed\n",
    );
    check(
        &["--json"],
        &[PIPELINE, WRONG],
        1,
        "{\"problems\":[],\"tests\":[{\"name\":\"cheap ones too\",\"line\":10,\"passed\":false,\"failures\":[\
         {\"kind\":\"rows\",\"relation\":\"dear\",\"line\":13,\"missing\":[{\"order\":2,\"fare\":1.0}],\
         \"unexpected\":[{\"order\":1,\"fare\":9.0}]}]}]}\n",
        "p.toml: 1 test failed\n",
    );
}

#[test]
fn tests_can_be_left_out() {
    check(
        &["--no-tests"],
        &[PIPELINE, GOOD, WRONG],
        0,
        "p.toml: pipeline `p` has no mistakes: 1 source, 1 step, 2 tests not run\n",
        "",
    );
    check(&["--no-tests", "--json"], &[PIPELINE, WRONG], 0, "{\"problems\":[],\"tests\":[]}\n", "");
}

#[test]
fn nothing_runs_while_there_are_mistakes() {
    let wrong = WRONG.replace("expect.dear", "expect.deer");
    let message = "p.toml:13: [tests.1] there is no relation `deer`; did you mean `dear`?\n";
    check(&[], &[PIPELINE, &wrong], 2, "", message);
    check(&["--no-tests"], &[PIPELINE, &wrong], 2, "", message);
    check(
        &["--json"],
        &[PIPELINE, &wrong],
        2,
        "{\"problems\":[{\"file\":\"p.toml\",\"line\":13,\"column\":8,\"section\":\"tests.1\",\
         \"message\":\"there is no relation `deer`\",\"suggestion\":\"dear\",\
         \"expected\":[\"orders\",\"dear\",\"faults\"]}],\"tests\":[]}\n",
        "p.toml: 1 mistake\n",
    );
}
