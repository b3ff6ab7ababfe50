//! Tests in pipeline files: those that hold pass, those that do not say in what, and both do so on any number of
//! workers.

use std::path::Path;

use engine::pipeline::load;
use engine::testing;

/// A table, a stream with a time and a stream without, and a step of each kind over them.
const PIPELINE: &str = r#"
[sources.drivers]
type = "http"
key = "driver"
tombstone = "gone"
columns = { driver = "string", zone = "string", rating = "float64", gone = "bool" }
[sources.orders]
type = "http"
key = "order"
columns = { order = "int64", zone = "string", fare = "float64", note = "string" }
[sources.trips]
type = "file"
path = "/nowhere/*.csv"
event_time = "at"
out_of_orderness_secs = 10
idle_secs = 0.001
columns = { at = "timestamp", from = "string", to = "string", fare = "float64", secs = "int64" }
[sources.clicks]
type = "generate"
table = "trips"
[steps.good]
operator = "select"
input = "drivers"
filter = "rating > 3"
[steps.by_zone]
operator = "aggregate"
input = "orders"
by = "zone"
[steps.by_zone.compute]
orders = "count"
fares = "sum(fare)"
ids = "sum(order)"
[steps.dispatch]
operator = "assignment"
tasks = "orders"
workers = "good"
candidates = "group"
task_group = "zone"
worker_group = "zone"
weight = "task_fare * worker_rating"
[steps.ratio]
operator = "select"
input = "orders"
columns = { order = "order", per = "100 / cast(fare as bigint)" }
[steps.rides]
operator = "select"
input = "trips"
columns = { at = "at", from = "from", minutes = "secs / 60" }
[steps.values]
operator = "td_value"
input = "trips"
state = "from"
next_state = "to"
reward = "fare"
duration = "secs"
duration_unit_secs = 60
alpha = 0.5
gamma = 1
[steps.last]
operator = "aggregate"
input = "clicks"
by = "from_cell"
compute = { last = "max(finished_at)", longest = "max(duration_s)" }
"#;

/// Runs tests and compares what is said of those that fail. Their first line is line 2 of the file.
#[track_caller]
fn check(tests: &str, expected: &str) {
    let text = format!("name = \"p\"\n{}\n{PIPELINE}", tests.trim_start());
    let plan = load(Path::new("p.toml"), &text, &secret, &catalogue::all()).unwrap_or_else(|p| panic!("{p}"));
    let folder = tempfile::tempdir().unwrap();
    let said: String = testing::run(&plan, folder.path()).iter().map(|outcome| outcome.text("p")).collect();
    let expected: Vec<&str> = expected.trim().lines().map(|l| l.strip_prefix("        ").unwrap_or(l)).collect();
    assert_eq!(said.trim_end(), expected.join("\n"), "\n{said}");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "nothing is left behind");
}

fn secret(name: &str) -> Option<String> {
    (name == "SECRET").then(|| "hunter2".to_owned())
}

#[test]
fn rows_go_through_tables_steps_and_matchings() {
    check(
        r#"[[tests]]
        name = "the better driver takes the dearer order"
        [tests.given]
        drivers = [
          { driver = "ada", zone = "w", rating = 4.5 },
          { driver = "bo", zone = "w", rating = 3.5 },
          { driver = "cy", zone = "e", rating = 1 },
          { driver = "di", zone = "w", rating = 5 },
          { driver = "di", gone = true },
        ]
        orders = [
          { order = 1, zone = "w", fare = 9 },
          { order = 2, zone = "w", fare = 1 },
          { order = 2, zone = "w", fare = 20 },
          { order = 3, zone = "e", fare = 7 },
        ]
        [tests.expect]
        drivers = [{ driver = "cy" }, { driver = "bo" }, { driver = "ada" }]
        good = [{ driver = "ada", rating = 4.5 }, { driver = "bo", rating = 3.5 }]
        by_zone = [{ zone = "w", orders = 2, fares = 29.0, ids = 3 }, { zone = "e", orders = 1, fares = 7, ids = "3" }]
        dispatch = [{ task_order = 1, worker_driver = "bo", weight = 31.5 }, { task_order = 2, worker_driver = "ada", weight = 90 }]
        "dispatch.certificate" = [{}]
        faults = []
        "#,
        "",
    );
}

#[test]
fn what_differs_is_told_in_the_order_of_the_view() {
    check(
        r#"[[tests]]
        name = "wrong in three ways"
        given.orders = [
          { order = 5, zone = "e", fare = 2.5 },
          { order = 4, zone = "w" },
          { order = 3, zone = "w", fare = nan },
          { order = 2, zone = "n", fare = -0.0 },
        ]
        given.drivers = []
        [tests.expect]
        orders = [{ order = 9 }, { order = 5 }, { order = 1 }]
        good = [{ driver = "ada" }]
        by_zone = [
          { zone = "w", fares = nan, orders = 2 },
          { zone = "n", fares = 0, orders = 2 },
          { zone = "a", orders = 0 },
          { zone = "e", fares = 2.5, orders = 1 },
        ]
        dispatch = []
        [[tests]]
        name = "right"
        given = {}
        expect.orders = []
        [[tests]]
        name = "a row too many, and whole where no column is named"
        given.orders = [{ order = 1, note = "x" }]
        expect.orders = []
        "#,
        r#"
        p:2: the test `wrong in three ways` failed
        p:12: `orders` has other rows than expected
          missing    {"order":1}
          missing    {"order":9}
          unexpected {"order":2}
          unexpected {"order":3}
          unexpected {"order":4}
        p:13: `good` has other rows than expected
          missing    {"driver":"ada"}
        p:14: `by_zone` has other rows than expected
          missing    {"zone":"a","orders":0,"fares":null}
          missing    {"zone":"n","orders":2,"fares":0.0}
          unexpected {"zone":"n","orders":1,"fares":0.0}
        p:25: the test `a row too many, and whole where no column is named` failed
        p:28: `orders` has other rows than expected
          unexpected {"order":1,"zone":null,"fare":null,"note":"x"}
        "#,
    );
}

#[test]
fn a_row_is_expected_as_often_as_it_stands() {
    let orders = r#"given.orders = [{ order = 1, zone = "w" }, { order = 2, zone = "w" }, { order = 3 }]"#;
    check(
        &format!("[[tests]]\nname = \"t\"\n{orders}\nexpect.orders = [{{ zone = \"w\" }}, {{ zone = \"w\" }}, {{}}]\n"),
        "",
    );
    check(&format!("[[tests]]\nname = \"t\"\n{orders}\nexpect.orders = [{{}}, {{}}, {{}}]\n"), "");
    check(
        &format!("[[tests]]\nname = \"t\"\n{orders}\nexpect.orders = [{{ zone = \"w\" }}, {{}}, {{}}]\n"),
        "p:2: the test `t` failed
        p:5: `orders` has other rows than expected
          missing    {\"zone\":null}
          unexpected {\"zone\":\"w\"}",
    );
}

#[test]
fn faults_can_be_expected() {
    check(
        r#"[[tests]]
        name = "no key, no time, late, refused by a step"
        [tests.given]
        orders = [{ zone = "w" }, { order = 1, fare = 0 }, { order = 2, fare = 50 }]
        trips = [
          { at = 2016-11-01T07:00:00Z, from = "a", to = "b", fare = 1, secs = 60 },
          { from = "a", to = "b" },
          { at = 2016-11-01T07:01:00Z, from = "b", to = "a", fare = 2, secs = 60 },
          { at = 2016-11-01T07:00:49Z, from = "b", to = "a", fare = 9, secs = 60 },
          { at = 2016-11-01T07:00:50Z, from = "a", to = "b", fare = 3, secs = 60 },
        ]
        [tests.expect]
        faults = [
          { source = "orders", seq = 0, at = "orders", reason = "null_key" },
          { source = "orders", seq = 4693479657948660383, at = "ratio", reason = "expression" },
          { source = "trips", seq = 1, at = "trips", reason = "null_event_time" },
          { source = "trips", seq = 3, at = "trips", reason = "late" },
        ]
        ratio = [{ order = 2, per = 2 }]
        rides = [{ _seq = 0 }, { _seq = 2 }, { _seq = 4 }]
        values = [{ from = "a", value = 1.75 }, { from = "b", value = 1.875 }]
        "#,
        "",
    );
}

#[test]
fn sources_that_are_not_given_are_empty() {
    check(
        r#"[[tests]]
        name = "nothing in, nothing out"
        given = {}
        [tests.expect]
        drivers = []
        dispatch = []
        "dispatch.prices" = []
        values = []
        last = []
        faults = []
        "#,
        "",
    );
}

#[test]
fn cells_of_every_type_are_given_and_expected() {
    check(
        r#"[[tests]]
        name = "times"
        [tests.given]
        clicks = [
          { from_cell = "a", finished_at = 1969-12-31T23:59:59.999999Z, duration_s = 9223372036854775807 },
          { from_cell = "b", finished_at = 2016-02-28, duration_s = -9223372036854775808 },
          { from_cell = "b", finished_at = "2016-02-29T00:00:00.5+01:00" },
          { finished_at = 2016-03-01T00:00:00 },
        ]
        [tests.expect]
        last = [
          { from_cell = "a", last = "1969-12-31T23:59:59.999999Z", longest = 9223372036854775807 },
          { from_cell = "b", last = 2016-02-28T23:00:00.500Z, longest = -9223372036854775808 },
          { last = 2016-03-01 },
        ]
        [[tests]]
        name = "sums"
        [tests.given]
        orders = [
          { order = 9223372036854775807, zone = "", fare = inf },
          { order = 9223372036854775806, zone = "", fare = 1 },
          { order = -3, zone = "\"\n", fare = 1e308 },
          { order = -4, zone = "\"\n", fare = 1e308 },
        ]
        [tests.expect]
        by_zone = [
          { zone = "", ids = "18446744073709551613", fares = inf },
          { zone = "\"\n", ids = -7, fares = inf },
        ]
        [[tests]]
        name = "wrong times and sums"
        [tests.given]
        clicks = [{ from_cell = "a", finished_at = 2016-11-01T00:00:00Z }]
        orders = [{ order = 9223372036854775807, zone = "" }, { order = 9223372036854775806, zone = "" }]
        [tests.expect]
        last = [{ last = 2016-11-01T00:00:00+01:00 }]
        by_zone = [{ ids = 18 }]
        "#,
        r#"
        p:31: the test `wrong times and sums` failed
        p:37: `last` has other rows than expected
          missing    {"last":"2016-10-31T23:00:00Z"}
          unexpected {"last":"2016-11-01T00:00:00Z"}
        p:38: `by_zone` has other rows than expected
          missing    {"ids":18}
          unexpected {"ids":18446744073709551613}
        "#,
    );
}

#[test]
fn what_comes_from_the_environment_is_not_shown() {
    check(
        r#"[[tests]]
        name = "${SECRET} stays secret"
        given.orders = [{ order = 1, note = "${SECRET}!" }, { note = "${SECRET}!" }]
        expect.orders = [{ order = 1, note = "hunter" }]
        expect.faults = [{ raw = "" }]
        "#,
        r#"
        p:2: the test `${SECRET} stays secret` failed
        p:5: `orders` has other rows than expected
          missing    {"order":1,"note":"hunter"}
          unexpected {"order":1,"note":"${SECRET}!"}
        p:6: `faults` has other rows than expected
          missing    {"raw":""}
          unexpected {"raw":"{\"order\":null,\"zone\":null,\"fare\":null,\"note\":\"${SECRET}!\"}"}
        "#,
    );
}

#[test]
fn as_json_everything_is_there() {
    let tests = r#"[[tests]]
name = "\"quoted\""
given.orders = [{ order = 9223372036854775807, zone = "w" }, { order = 9223372036854775806, zone = "w" }]
expect.by_zone = [{ zone = "w", ids = 1 }]
[[tests]]
name = "good"
given = {}
expect.orders = []
"#;
    let text = format!("name = \"p\"\n{tests}\n{PIPELINE}");
    let plan = load(Path::new("p.toml"), &text, &secret, &catalogue::all()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let outcomes = testing::run(&plan, folder.path());
    let passed: Vec<bool> = outcomes.iter().map(testing::Outcome::passed).collect();
    assert_eq!(passed, [false, true]);
    assert_eq!(
        outcomes[0].json(),
        r#"{"name":"\"quoted\"","line":2,"passed":false,"failures":[{"kind":"rows","relation":"by_zone","line":5,"missing":[{"zone":"w","ids":1}],"unexpected":[{"zone":"w","ids":18446744073709551613}]}]}"#
    );
    assert_eq!(outcomes[1].json(), r#"{"name":"good","line":6,"passed":true,"failures":[]}"#);
}
