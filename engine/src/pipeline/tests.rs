//! Pipeline files and what is said of them, against a small catalogue of their own.

use std::path::Path;
use std::sync::Arc;

use proptest::prelude::*;
use types::{Column, Position, Schema, Type, Value};

use super::{Problems, explain, load, test_section};
use crate::catalogue::{Catalogue, ConnectorDef, OperatorDef, OptionDef, Relations, SinkDef};
use crate::connector::{Connector, ConnectorError, ConnectorFactory, SourceEnv};
use crate::operator::{Context, HistoryOperator, StepKind, TableOperator};
use crate::pipeline::Section;
use crate::plan::{Origin, Plan, Route, SinkShape, SourceShape, StepInput, StepOutput, StepPlan};
use crate::sink::{Sink, SinkEnv, SinkError, SinkFactory};

#[derive(Debug)]
struct Fake(String);

impl ConnectorFactory for Fake {
    fn open(&self, _: &Position, _: &SourceEnv) -> Result<Box<dyn Connector>, ConnectorError> {
        Err(ConnectorError::new("nothing to open"))
    }

    fn describe(&self) -> String {
        self.0.clone()
    }
}

struct Nothing;

impl TableOperator for Nothing {
    fn step(&mut self, _: Vec<Vec<types::Delta>>, _: &mut Context) {}
}

impl HistoryOperator for Nothing {
    fn restore(&mut self, _: &[u8], _: &[u8]) {}
    fn apply(&mut self, _: usize, _: &arrow::array::RecordBatch, _: &mut Context) {}
}

const fn option(name: &'static str) -> OptionDef {
    OptionDef { name, shape: "", default: None, doc: "" }
}

/// `file`: a path. `clock`: knows its own columns.
fn file(section: &mut Section<'_>, _: &mut SourceShape) -> Option<Arc<dyn ConnectorFactory>> {
    let path = section.required_string("path")?;
    if path.contains("bad") {
        section.problem("path", format!("cannot read `{path}`"));
        return None;
    }
    Some(Arc::new(Fake(path)))
}

fn clock(_: &mut Section<'_>, shape: &mut SourceShape) -> Option<Arc<dyn ConnectorFactory>> {
    shape.columns = vec![Column { name: "at".into(), ty: Type::Timestamp, nullable: true }];
    shape.event_time = Some("at".into());
    Some(Arc::new(Fake("ticks".into())))
}

impl SinkFactory for Fake {
    fn open(&self, _: SinkEnv) -> Result<Box<dyn Sink>, SinkError> {
        Err(SinkError::broken("nothing to open"))
    }

    fn describe(&self) -> String {
        self.0.clone()
    }
}

fn paper(section: &mut Section<'_>, _: &SinkShape) -> Option<Arc<dyn SinkFactory>> {
    Some(Arc::new(Fake(section.required_string("path")?)))
}

fn step(inputs: Vec<(String, Route)>, outputs: Vec<Schema>, kind: StepKind, detail: String) -> StepPlan {
    StepPlan {
        inputs: inputs.into_iter().map(|(relation, route)| StepInput { relation, route }).collect(),
        outputs: outputs
            .into_iter()
            .enumerate()
            .map(|(i, schema)| StepOutput { suffix: (i > 0).then_some("rest"), schema })
            .collect(),
        kind,
        persistent: false,
        detail,
        model: Arc::new(|_| Vec::new()),
    }
}

fn table_kind() -> StepKind {
    StepKind::Table(Arc::new(|| Box::new(Nothing)))
}

/// Rows singly: a stream stays one.
fn pick(section: &mut Section<'_>, relations: &Relations<'_>) -> Option<StepPlan> {
    let (name, schema) = relations.input(section, "input")?;
    let filter = section.string("filter").unwrap_or_default();
    Some(step(vec![(name, Route::Stay)], vec![schema.clone()], table_kind(), format!("where {filter}")))
}

/// Rows by key: needs them whole.
fn count(section: &mut Section<'_>, relations: &Relations<'_>) -> Option<StepPlan> {
    let (name, schema) = relations.input(section, "input")?;
    let by = section.columns("by", schema)?;
    let mode = section.choice_or("mode", &[("exact", 0), ("rough", 1)], 0)?;
    if mode == 1 {
        section.float_in("error", 0.0..=1.0);
    }
    let columns: Vec<Column> = by.iter().map(|i| schema.columns[*i].clone()).collect();
    let output = Schema { key: (0..columns.len()).collect(), columns, event_time: None, append_only: false };
    let detail = format!("by {by:?} {mode}");
    Some(step(vec![(name, Route::Columns(by))], vec![output.clone(), output], table_kind(), detail))
}

fn pair(section: &mut Section<'_>, relations: &Relations<'_>) -> Option<StepPlan> {
    let (left, right) = (relations.input(section, "left"), relations.input(section, "right"));
    let ((left, schema), (right, _)) = (left?, right?);
    let output = Schema { append_only: false, ..schema.clone() };
    Some(step(vec![(left, Route::One), (right, Route::One)], vec![output], table_kind(), String::new()))
}

fn learn(section: &mut Section<'_>, relations: &Relations<'_>) -> Option<StepPlan> {
    let (name, schema) = relations.input(section, "input")?;
    let output = Schema { append_only: false, ..schema.clone() };
    let kind = StepKind::History(Arc::new(|| Box::new(Nothing)));
    Some(step(vec![(name, Route::One)], vec![output], kind, String::new()))
}

/// A state, and a stream beside it.
fn tell(section: &mut Section<'_>, relations: &Relations<'_>) -> Option<StepPlan> {
    let (name, schema) = relations.input(section, "input")?;
    let output = Schema { append_only: false, ..schema.clone() };
    let kind = StepKind::History(Arc::new(|| Box::new(Nothing)));
    Some(step(vec![(name, Route::One)], vec![output, schema.clone()], kind, String::new()))
}

fn catalogue() -> Catalogue {
    const INPUT: OptionDef = option("input");
    let operator = |name, options, plan| OperatorDef { name, summary: "", doc: "", options, example: "", plan };
    Catalogue {
        connectors: vec![
            ConnectorDef { name: "file", summary: "", options: const { &[option("path")] }, plan: file },
            ConnectorDef { name: "clock", summary: "", options: &[], plan: clock },
        ],
        operators: vec![
            operator("pick", const { &[INPUT, option("filter")] }, pick),
            operator("count", const { &[INPUT, option("by"), option("mode"), option("error")] }, count),
            operator("pair", const { &[option("left"), option("right")] }, pair),
            operator("learn", const { &[INPUT] }, learn),
            operator("tell", const { &[INPUT] }, tell),
        ],
        sinks: vec![SinkDef { name: "paper", summary: "", options: const { &[option("path")] }, plan: paper }],
    }
}

fn try_load(text: &str) -> Result<Plan, Problems> {
    let env = |name: &str| match name {
        "PASSWORD" => Some("hunter2".to_owned()),
        "BAD" => Some("bad-hunter2".to_owned()),
        _ => None,
    };
    load(Path::new("p.toml"), text, &env, &catalogue())
}

fn plan(text: &str) -> Plan {
    try_load(text).unwrap_or_else(|p| panic!("{p}"))
}

/// The problems of a text, one a line without the file's name.
#[track_caller]
fn check(text: &str, expected: &str) {
    let found = try_load(text).expect_err("mistakes").to_string().replace("p.toml:", "");
    let expected: Vec<&str> = expected.trim().lines().map(str::trim).collect();
    assert_eq!(found, expected.join("\n"), "\n{found}\n");
}

/// Two sources to stand on: a stream on lines 2 to 6, a table on lines 7 to 11. What is added begins on line 12.
const GOOD: &str = r#"name = "city"
[sources.trips]
type = "file"
path = "trips.csv"
event_time = "at"
columns = { id = "int64", at = "timestamp", fare = "float64" }
[sources.drivers]
type = "file"
path = "drivers.csv"
key = "driver"
columns = { driver = "string", area = "int64" }
"#;

#[track_caller]
fn check_added(added: &str, expected: &str) {
    check(&format!("{GOOD}{added}"), expected);
}

#[test]
fn a_misspelt_key_is_named_with_its_line_and_the_right_one() {
    check_added(
        "[steps.s]\noperator = \"pick\"\ninput = \"trips\"\nfliter = \"x\"\n",
        "15: [steps.s] unknown key `fliter`; did you mean `filter`?",
    );
    check_added("[epoch]\nrows_mx = 3\n", "13: [epoch] unknown key `rows_mx`; did you mean `rows_max`?");
    check_added(
        "[zzz]\n",
        "12: unknown key `zzz`; expected one of `name`, `epoch`, `retain`, `store`, `sources`, `steps`, `sinks`, `tests`",
    );
}

#[test]
fn wrong_shapes_and_ranges_are_told() {
    check_added(
        "[epoch]\nrows_max = \"many\"\ninterval_ms = 0\n",
        "
        13: [epoch] `rows_max` must be an integer, found a string
        14: [epoch] `interval_ms` must be between 1 and 60000, found 0",
    );
    check_added("[retain]\nepochs = 0\n", "13: [retain] `epochs` must be at least 1, found 0");
    check_added(
        "[steps.s]\noperator = \"pick\"\ninput = [1]\n",
        "14: [steps.s] `input` must be a string, found a list",
    );
    check_added(
        "[steps.s]\noperator = \"count\"\ninput = \"trips\"\nby = [\"id\",\n  3]\n",
        "16: [steps.s] `by` must be a list of strings, found an integer in it",
    );
    check(
        "name = \"p\"\nsources = 3\nsteps = []\n",
        "
        2: `sources` must be a table of tables, found an integer
        3: `steps` must be a table of tables, found a list",
    );
}

#[test]
fn missing_keys_are_told_at_their_section() {
    check(
        "[sources.a]\ntype = \"file\"\n[steps.s]\n",
        "
        1: `name` is missing: expected a string
        1: [sources.a] `path` is missing: expected a string
        3: [steps.s] `operator` is missing: expected a string",
    );
    check(
        "name = \"p\"\n[sources.a]\ntype = \"file\"\npath = \"x\"\n",
        "2: [sources.a] `columns` is missing: expected a table of name = type",
    );
    check("name = \"p\"\n", "1: there is no source: expected at least one `[sources.NAME]`");
}

#[test]
fn unknown_names_are_told_with_the_nearest() {
    check_added(
        "[steps.s]\noperator = \"pcik\"\ninput = \"trips\"\n",
        "13: [steps.s] there is no operator `pcik`; did you mean `pick`?",
    );
    check_added(
        "[steps.s]\noperator = \"pick\"\ninput = \"trip\"\n",
        "14: [steps.s] there is no relation `trip`; did you mean `trips`?",
    );
    check_added(
        "[steps.s]\noperator = \"count\"\ninput = \"trips\"\nby = [\"id\",\n  \"fair\"]\n",
        "16: [steps.s] there is no column `fair`; did you mean `fare`?",
    );
    check_added(
        "[steps.s]\noperator = \"count\"\ninput = \"trips\"\nby = \"id\"\nmode = \"rogh\"\n",
        "16: [steps.s] `mode` cannot be `rogh`; did you mean `rough`?",
    );
    check_added(
        "[sources.x]\ntype = \"fil\"\npath = \"x\"\n[sources.x.columns]\na = \"int46\"\nb = \"decimal\"\n",
        "
        13: [sources.x] there is no source type `fil`; did you mean `file`?
        16: [sources.x] there is no type `int46`; did you mean `int64`?
        17: [sources.x] `b` cannot be a decimal: sums are, and sources have none",
    );
    check_added(
        "[sinks.out]\ntype = \"kafka\"\n",
        "
        12: [sinks.out] `view` is missing: expected a string
        13: [sinks.out] there is no sink type `kafka`; expected `paper`",
    );
}

#[test]
fn a_key_that_does_nothing_is_told() {
    check_added(
        "[steps.s]\noperator = \"count\"\ninput = \"trips\"\nby = \"id\"\nerror = 0.5\n",
        "16: [steps.s] `error` has no effect together with the other keys here",
    );
}

#[test]
fn an_operator_that_gives_up_silently_is_a_problem_all_the_same() {
    check_added(
        "[steps.s]\noperator = \"count\"\ninput = \"trips\"\n",
        "13: [steps.s] `count` cannot be planned from these keys, and does not say why",
    );
}

#[test]
fn sources_must_agree_with_their_columns() {
    check(
        "name = \"p\"\n[sources.a]\ntype = \"file\"\npath = \"x\"\nkey = [\"id\", \"zone\"]\nevent_time = \"idd\"\ntombstone = \"id\"\n[sources.a.columns]\nid = \"int64\"\n_x = \"bool\"\nzones = \"string\"\n",
        "
        5: [sources.a] there is no column `zone`; did you mean `zones`?
        6: [sources.a] there is no column `idd`; did you mean `id`?
        7: [sources.a] `tombstone` must be a bool column, and `id` is int64
        7: [sources.a] `id` cannot be tombstone and key
        10: [sources.a] the column name `_x` is reserved: it begins with an underscore",
    );
    check(
        "name = \"p\"\n[sources.a]\ntype = \"file\"\npath = \"x\"\nkey = []\nevent_time = \"id\"\ntombstone = \"gone\"\nout_of_orderness_secs = -1\ncolumns = { id = \"int64\", gone = \"bool\" }\n",
        "
        5: [sources.a] `key` must name at least one column; a stream without a key leaves it out
        6: [sources.a] `event_time` must be a timestamp column, and `id` is int64
        7: [sources.a] `tombstone` needs a `key`: a stream has no rows to delete
        8: [sources.a] `out_of_orderness_secs` must be between 0 and 9000000000, found -1",
    );
    check(
        "name = \"p\"\n[sources.a]\ntype = \"file\"\npath = \"x\"\nkey = [\"id\",\n\"id\"]\ncolumns = { id = \"int64\" }\n",
        "6: [sources.a] the column `id` is named twice",
    );
    check(
        "name = \"p\"\n[sources.a]\ntype = \"file\"\npath = \"x\"\nidle_secs = 1\ncolumns = { id = \"int64\" }\n",
        "5: [sources.a] `idle_secs` says nothing without an `event_time`",
    );
}

#[test]
fn names_are_checked_and_shared() {
    check_added(
        "[steps.trips]\noperator = \"pick\"\ninput = \"drivers\"\n[steps.faults]\noperator = \"pick\"\ninput = \"drivers\"\n[steps.Big]\noperator = \"pick\"\ninput = \"drivers\"\n",
        "
        12: [steps.trips] there is a source `trips` already, on line 2
        15: [steps.faults] `faults` is reserved: it is the view of what could not be processed
        18: [steps.Big] \"Big\" is no name for a step: expected a-z, 0-9 and `_`, no digit first",
    );
    check(
        &GOOD.replace("\"city\"", "\"My City\""),
        "1: `My City` is no name for a pipeline: expected a-z, 0-9, `_` and `-`",
    );
}

#[test]
fn circles_are_told_once() {
    let step = |name: &str, input: &str| format!("[steps.{name}]\noperator = \"pick\"\ninput = \"{input}\"\n");
    check_added(
        &[step("after", "b"), step("b", "c"), step("c", "b"), step("me", "me")].concat(),
        "
        15: [steps.b] steps read each other in a circle: `b` reads `c` reads `b`
        21: [steps.me] the step `me` reads itself",
    );
}

#[test]
fn what_follows_from_a_mistake_is_not_told() {
    check_added(
        "[steps.a]\noperator = \"pick\"\ninput = \"trip\"\n[steps.b]\noperator = \"pick\"\ninput = \"a\"\nfliter = \"x\"\n[steps.c]\noperator = \"pair\"\nleft = \"b\"\nright = \"a\"\n[[tests]]\nname = \"t\"\ngiven = {}\nexpect = { a = [] }\n",
        "
        14: [steps.a] there is no relation `trip`; did you mean `trips`?
        18: [steps.b] unknown key `fliter`; did you mean `filter`?",
    );
}

#[test]
fn broken_toml_is_told_with_its_line() {
    check("name = \"p\"\n[sources.a\ntype = 3\n", "2: this is not TOML: unclosed table, expected `]`");
    check(
        "name = \"p\"\nx = \n[sources]\ny = 1 2\n",
        "
        2: this is not TOML: string values must be quoted, expected literal string
        4: this is not TOML: string values must be quoted, expected literal string",
    );
    check_added(
        "[steps.s]\noperator = \"pick\"\ninput = \"trips\"\n[steps.s]\nfilter = \"pick\"\n",
        "15: `s` is given twice",
    );
    check_added(
        "[epoch]\nrows_max = 99999999999999999999\n",
        "13: [epoch] 99999999999999999999 is no signed integer of 64 bits",
    );
}

#[test]
fn several_mistakes_come_in_the_order_of_lines() {
    let problems =
        try_load("nmae = \"p\"\n[steps.s]\noperator = \"pick\"\ninput = \"a\"\nx = 1\n[sources.a]\ntype = \"clok\"\n")
            .unwrap_err();
    let lines: Vec<usize> = problems.iter().map(|p| p.line).collect();
    assert_eq!(lines, [1, 1, 5, 7], "{problems}");
    let json = serde_json::to_value(&problems).unwrap();
    assert_eq!(json[3]["column"], 8);
    assert_eq!(json[3]["suggestion"], "clock");
    assert_eq!(json[3]["section"], "sources.a");
    assert_eq!(json[3]["expected"][0], "file");
}

#[test]
fn the_environment_fills_strings_and_is_never_shown() {
    let with = |path: &str| GOOD.replace("trips.csv", path);
    let good = plan(&with("kafka://me:${PASSWORD}@h/$${x}"));
    assert_eq!(good.sources[0].connector.describe(), "kafka://me:hunter2@h/${x}");
    for shown in
        [explain::text(&good), explain::graphviz(&good), explain::mermaid(&good), format!("{:?}", good.concealed)]
    {
        assert!(!shown.contains("hunter2"), "{shown}");
    }
    assert!(explain::text(&good).contains("kafka://me:${PASSWORD}@h/"));
    check(&with("${BAD}/x"), "4: [sources.trips] cannot read `${BAD}/x`");
    check(&with("${NONE}"), "4: [sources.trips] the environment variable `NONE` is not set");
    check(&with("a${b"), "4: [sources.trips] `a${b` opens `${` and does not close it; write `$${` for a plain `${`");
    check(&with("${a-b}"), "4: [sources.trips] `${a-b}` names no environment variable; write `$${` for a plain `${`");
    assert_eq!(good.fingerprint(), {
        let env = |_: &str| Some("another".to_owned());
        load(Path::new("p.toml"), &with("kafka://me:${PASSWORD}@h/$${x}"), &env, &catalogue()).unwrap().fingerprint()
    });
}

#[test]
fn sources_become_tables_and_streams() {
    let plan = plan(
        "name = \"p\"\n[sources.t]\ntype = \"file\"\npath = \"x\"\nkey = [\"b\", \"a\"]\ntombstone = \"gone\"\nevent_time = \"at\"\nout_of_orderness_secs = 1.5\nidle_secs = 0.0001\ncolumns = { gone = \"bool\", a = \"int64\", at = \"timestamp\", b = \"string\" }\n[sources.s]\ntype = \"clock\"\n",
    );
    let [t, s] = plan.sources.as_slice() else { panic!() };
    assert_eq!(t.delivered.len(), 4);
    assert_eq!(t.tombstone, Some(0));
    let names: Vec<&str> = t.schema.columns.iter().map(|c| c.name.as_str()).collect();
    assert_eq!(
        (names, t.schema.key.as_slice(), t.schema.event_time),
        (vec!["a", "at", "b"], [2, 0].as_slice(), Some(1))
    );
    assert_eq!((t.out_of_orderness, t.idle_after_ms, t.stored, t.is_keyed()), (1_500_000, Some(1), true, true));
    let names: Vec<&str> = s.schema.columns.iter().map(|c| c.name.as_str()).collect();
    assert_eq!((names, s.schema.key.as_slice(), s.schema.event_time), (vec!["at", "_seq"], [1].as_slice(), Some(0)));
    assert_eq!((s.out_of_orderness, s.idle_after_ms, s.stored, s.is_keyed()), (0, None, false, false));
    let nullable: Vec<bool> = t.delivered.iter().map(|c| c.nullable).collect();
    assert_eq!(nullable, [true, false, false, false]);
}

/// Steps in the order of the plan, with their origins.
fn origins(plan: &Plan) -> Vec<(&str, Origin)> {
    plan.steps.iter().map(|s| (s.name.as_str(), s.origin)).collect()
}

#[test]
fn steps_are_planned_after_what_they_read() {
    let plan = plan(&format!(
        "{GOOD}[steps.z]\noperator = \"pair\"\nleft = \"y.rest\"\nright = \"x\"\n[steps.y]\noperator = \"count\"\ninput = \"x\"\nby = \"area\"\n[steps.x]\noperator = \"pick\"\ninput = \"drivers\"\nfilter = \"z\"\n"
    ));
    assert_eq!(origins(&plan), [("x", Origin::Recomputed), ("y", Origin::Recomputed), ("z", Origin::Recomputed)]);
    let relations: Vec<String> = plan.relations().into_iter().map(|r| r.name).collect();
    assert_eq!(relations, ["drivers", "x", "y", "y.rest", "z"]);
}

#[test]
fn a_stream_is_stored_when_a_step_needs_it_whole() {
    let chain = "[steps.a]\noperator = \"pick\"\ninput = \"trips\"\n[steps.b]\noperator = \"pick\"\ninput = \"a\"\n";
    let learn = "[steps.c]\noperator = \"learn\"\ninput = \"b\"\n";
    let passing = plan(&format!("{GOOD}{chain}{learn}"));
    assert!(!passing.sources[0].stored);
    assert_eq!(origins(&passing), [("a", Origin::Passing), ("b", Origin::Passing), ("c", Origin::Stored)]);
    assert!(passing.steps[2].plan.persistent);

    let count = "[steps.d]\noperator = \"count\"\ninput = \"b\"\nby = \"id\"\n";
    let whole = plan(&format!("{GOOD}{chain}{learn}{count}"));
    assert!(whole.sources[0].stored);
    assert_eq!(
        origins(&whole),
        [("a", Origin::Recomputed), ("b", Origin::Recomputed), ("c", Origin::Stored), ("d", Origin::Recomputed)]
    );
}

#[test]
fn a_stream_a_step_makes_passes_by_when_told_to_unless_it_is_needed_whole() {
    let tell = "[steps.a]\noperator = \"tell\"\ninput = \"trips\"\n";
    let learn = "[steps.b]\noperator = \"learn\"\ninput = \"a.rest\"\n";
    let stored = |text: &str| -> Vec<String> { plan(text).relations().into_iter().map(|r| r.name).collect() };
    assert_eq!(stored(&format!("{GOOD}{tell}{learn}")), ["drivers", "a", "a.rest", "b"]);
    let passing = format!("{GOOD}{tell}keep_streams = false\n{learn}");
    assert_eq!(stored(&passing), ["drivers", "a", "b"]);
    assert_ne!(plan(&passing).fingerprint(), plan(&format!("{GOOD}{tell}{learn}")).fingerprint());
    let count = "[steps.d]\noperator = \"count\"\ninput = \"a.rest\"\nby = \"id\"\n";
    assert_eq!(stored(&format!("{passing}{count}")), ["drivers", "a", "a.rest", "b", "d", "d.rest"]);
    check_added(
        "[steps.a]\noperator = \"count\"\ninput = \"drivers\"\nby = \"area\"\nkeep_streams = false\n",
        "16: [steps.a] `count` makes no streams here",
    );
}

#[test]
fn a_function_of_history_reads_streams_with_a_time() {
    check_added(
        "[steps.a]\noperator = \"learn\"\ninput = \"drivers\"\n",
        "14: [steps.a] `learn` is a function of history and reads streams with an event time; `drivers` is none: its rows are replaced and taken back",
    );
    check(
        &format!("{}[steps.a]\noperator = \"learn\"\ninput = \"trips\"\n", GOOD.replace("event_time = \"at\"\n", "\n")),
        "14: [steps.a] `learn` is a function of history and reads streams with an event time; `trips` is none: it has no `event_time`",
    );
}

#[test]
fn the_fingerprint_is_of_what_changes_results() {
    let steps = "[steps.a]\noperator = \"pick\"\ninput = \"trips\"\nfilter = \"x\"\n";
    let base = format!("{GOOD}{steps}");
    let of = |text: &str| plan(text).fingerprint();
    let same = of(&base);
    assert_eq!(same, of(&format!("# a comment\n{base}[epoch]\nrows_max = 7\n[retain]\nepochs = 3\n")));
    let other = "[steps.z]\noperator = \"pick\"\ninput = \"drivers\"\n";
    assert_eq!(of(&format!("{GOOD}{steps}{other}")), of(&format!("{GOOD}{other}{steps}")));
    let changes = [
        ("filter = \"x\"", "filter = \"y\""),
        ("trips.csv", "trops.csv"),
        ("event_time = \"at\"", "event_time = \"at\"\nout_of_orderness_secs = 1"),
        ("fare = \"float64\"", "fare = \"int64\""),
        ("key = \"driver\"", "key = [\"driver\", \"area\"]"),
        ("input = \"trips\"", "input = \"drivers\""),
    ];
    for (from, to) in changes {
        assert_ne!(same, of(&base.replace(from, to)), "{to}");
    }
    // Stores carry it: it may not move from one version to the next.
    assert_eq!(same, "4d4b7697ec82e75ed9136f2d8de39a37");
}

#[test]
fn tests_in_the_file_become_rows() {
    let plan = plan(&format!(
        "{GOOD}[steps.n]\noperator = \"count\"\ninput = \"trips\"\nby = [\"id\", \"fare\"]\n[[tests]]\nname = \"two\"\n[tests.given]\ntrips = [\n  {{ id = 1, at = 1970-01-01T00:00:01Z, fare = 2 }},\n  {{ at = \"1970-01-01T01:00:00+01:00\" }},\n]\n[tests.expect]\nn = [{{ fare = 2.0 }}, {{}}]\n\"n.rest\" = []\n"
    ));
    let [test] = plan.tests.as_slice() else { panic!() };
    assert_eq!((test.name.as_str(), test.line), ("two", 16));
    assert_eq!(
        test.given,
        [(
            "trips".to_owned(),
            vec![
                vec![Value::Int(1), Value::Time(1_000_000), Value::Float(2.0)],
                vec![Value::Null, Value::Time(0), Value::Null],
            ]
        )]
    );
    let [n, rest] = test.expect.as_slice() else { panic!() };
    assert_eq!((n.relation.as_str(), n.columns.as_slice()), ("n", [1].as_slice()));
    assert_eq!(n.rows, [vec![Value::Float(2.0)], vec![Value::Null]]);
    assert_eq!((n.line, rest.line), (24, 25));
    assert_eq!((rest.relation.as_str(), rest.rows.len()), ("n.rest", 0));
}

#[test]
fn mistakes_in_tests_are_told() {
    check_added(
        "[[tests]]\nname = \"t\"\ngiven.trips = [{ id = \"one\" }, { fair = 1 },\n  4]\ngiven.tripz = []\nexpect.driver = []\nexpect.trips = 3\n[[tests]]\nname = \"t\"\nexpcet = {}\n",
        "
        14: [tests.1] `id` must be of type int64, found a string
        14: [tests.1] there is no column `fair`; did you mean `fare`?
        15: [tests.1] `trips` must be a list of rows, each a table of column = value, found an integer
        16: [tests.1] there is no source `tripz`; did you mean `trips`?
        17: [tests.1] there is no relation `driver`; did you mean `drivers`?
        18: [tests.1] `trips` is a stream whose rows pass by: it has none in the end
        18: [tests.1] `trips` must be a list of rows, found an integer
        19: [tests.2] `given` is missing: expected a table of relations with their rows
        19: [tests.2] `expect` is missing: expected a table of relations with their rows
        20: [tests.2] there is a test `t` already, on line 12
        21: [tests.2] unknown key `expcet`; did you mean `expect`?",
    );
}

#[test]
fn what_a_test_cannot_expect_is_told() {
    let steps = "[steps.n]\noperator = \"count\"\ninput = \"drivers\"\nby = \"area\"\n[steps.l]\noperator = \"learn\"\ninput = \"trips\"\n";
    let with = |test: &str, expected: &str| check_added(&format!("{steps}[[tests]]\n{test}"), expected);
    with(
        "name = \"t\"\ngiven = {}\nexpect = {}\n",
        "22: [tests.1] `expect` names no relation: such a test shows nothing",
    );
    with(
        "name = \" \"\ngiven = {}\nexpect.n = []\n[[tests]]\nname = \"a\\nb\"\ngiven = {}\nexpect.n = []\n",
        "
        20: [tests.1] \" \" is no name for a test: expected some words on one line
        24: [tests.2] \"a\\nb\" is no name for a test: expected some words on one line",
    );
    // Streams that pass by leave no rows; a step that needs them whole keeps them.
    with(
        "name = \"t\"\ngiven = {}\nexpect.trips = []\n",
        "22: [tests.1] `trips` is a stream whose rows pass by: it has none in the end",
    );
    let whole = format!(
        "{GOOD}[steps.n]\noperator = \"count\"\ninput = \"trips\"\nby = \"id\"\n[[tests]]\nname = \"t\"\ngiven = {{}}\nexpect.trips = []\n"
    );
    assert_eq!(plan(&whole).tests[0].expect[0].relation, "trips");
    with(
        "name = \"t\"\ngiven = {}\n[tests.expect]\nn.rest = []\n",
        "23: [tests.1] `n` must be a list of rows (a name with a dot stands in quotes: `\"n.rest\"`), found a table",
    );
    with(
        "name = \"t\"\ngiven = {}\n[tests.expect]\ndrivers = [\n  { driver = \"a\", area = 1 },\n  { driver = \"b\" },\n  { driver = \"a\", area = 2 },\n]\n",
        "26: [tests.1] `drivers` has one row for each key, and this key stands above already",
    );
    with(
        "name = \"t\"\ngiven = {}\n[tests.expect]\nfaults = [{ reson = \"late\" }, { seq = \"0\" }]\nfault = []\n",
        "
        23: [tests.1] there is no column `reson`; did you mean `reason`?
        23: [tests.1] `seq` must be of type int64, found a string
        24: [tests.1] there is no relation `fault`; did you mean `faults`?",
    );
    with(
        "name = \"t\"\n[tests.given]\ndrivers = [{ area = 1.5 }, { area = 2000-01-01 }, { driver = 07:00:00 }]\ntrips = [{ at = 07:00:00 }, { at = \"2016-02-30\" }, { at = 1 }, { fare = true }, { _seq = 1 }]\nn = []\n[tests.expect]\nn = []\n",
        "
        22: [tests.1] `area` must be of type int64, found a float
        22: [tests.1] `area` must be of type int64, found a date or time
        22: [tests.1] `driver` must be of type string, found a date or time
        23: [tests.1] `at` must be of type timestamp, found a date or time
        23: [tests.1] `at` must be of type timestamp, found a string
        23: [tests.1] `at` must be of type timestamp, found an integer
        23: [tests.1] `fare` must be of type float64, found a truth value
        23: [tests.1] there is no column `_seq`; expected one of `id`, `at`, `fare`
        24: [tests.1] there is no source `n`; expected one of `trips`, `drivers`",
    );
}

#[test]
fn mistakes_in_tests_are_told_with_the_others() {
    check_added(
        "[steps.n]\noperator = \"count\"\ninput = \"drivers\"\nby = \"aria\"\n[[tests]]\nname = \"t\"\ngiven.drivers = [{ diver = \"a\" }]\nexpect.n = [{ anything = 1 }]\nexpect.trips = [{ fair = 1 }]\n",
        "
        15: [steps.n] there is no column `aria`; did you mean `area`?
        18: [tests.1] there is no column `diver`; did you mean `driver`?
        20: [tests.1] there is no column `fair`; did you mean `fare`?",
    );
}

#[test]
fn a_plan_is_explained() {
    let plan = plan(&format!(
        "{GOOD}[steps.n]\noperator = \"count\"\ninput = \"drivers\"\nby = \"area\"\n[steps.a]\noperator = \"pick\"\ninput = \"trips\"\nfilter = \"\\\"<x>\\\"\"\n"
    ));
    let text = explain::text(&plan);
    let tail = text.split_once(&plan.fingerprint()).unwrap().1;
    assert_eq!(
        tail,
        "

source trips: file
  reads       trips.csv
  columns     id int64, at timestamp, fare float64
  key         none: a stream
  event time  at, 0 s out of order
  rows        pass by and are not stored

source drivers: file
  reads       drivers.csv
  columns     driver string, area int64
  key         driver
  rows        stored: a table

step n: count
  does        by [1] 0
  reads       drivers, sharded by area
  maintains   n (area int64), key area
  maintains   n.rest (area int64), key area
  at restart  computed again from its inputs and compared with the store

step a: pick
  does        where \"<x>\"
  reads       trips, each row where it is
  maintains   a (id int64, at timestamp, fare float64), key none: a stream
  at restart  goes on: its rows pass by once
"
    );
    let mermaid = explain::mermaid(&plan);
    assert!(mermaid.contains("  n1 -->|\"drivers: sharded by area\"| n2\n"), "{mermaid}");
    assert!(mermaid.contains("where &quot;&lt;x&gt;&quot;"), "{mermaid}");
    let dot = explain::graphviz(&plan);
    assert!(dot.contains("  \"trips\" -> \"a\" [label=\"trips: each row where it is\"];\n"), "{dot}");
    assert!(dot.contains("where \\\"<x>\\\""), "{dot}");
}

#[test]
fn sections_read_every_shape() {
    let text = "s = 'x'\ni = 0xff\nf = 1e3\nb = true\nl = ['a', 'b']\nd = 1.5\n[m]\ny = 'Y'\nx = 'X'\n[sub]\nk = 1\ntypo = 2\n[many.one]\nk = 1\n";
    let problems = test_section(text, |section| {
        assert!(section.has("s") && !section.has("nothing") && section.is_table("m"));
        assert_eq!(section.string("s").as_deref(), Some("x"));
        assert_eq!(section.int("i"), Some(255));
        assert_eq!(section.float("f"), Some(1000.0));
        assert_eq!(section.boolean("b"), Some(true));
        assert_eq!(section.strings("s"), Some(vec!["x".to_owned()]));
        assert_eq!(section.strings("l").unwrap().len(), 2);
        assert_eq!(section.secs("d"), Some(1_500_000));
        let map = section.string_map("m").unwrap();
        assert_eq!(map, [("y".to_owned(), "Y".to_owned()), ("x".to_owned(), "X".to_owned())]);
        section.problem("m.x", "here");
        assert_eq!(section.section("sub").unwrap().int("k"), Some(1));
        for (name, mut one) in section.sections("many").unwrap() {
            assert_eq!((name.as_str(), one.int("k")), ("one", Some(1)));
        }
    });
    let told: Vec<String> = problems.iter().map(ToString::to_string).collect();
    assert_eq!(told, ["test.toml:9: [test] here", "test.toml:12: [test.sub] unknown key `typo`; expected `k`",]);
}

#[test]
fn the_manual_lists_every_key_as_it_is() {
    let manual = include_str!("../../../docs/pipeline.md");
    let lists: [&[OptionDef]; 4] =
        [&super::SOURCE_OPTIONS, &super::EPOCH_OPTIONS, &super::RETAIN_OPTIONS, &super::STORE_OPTIONS];
    for o in lists.into_iter().flatten() {
        let row = format!("| `{}` | {} | {} | {} |", o.name, o.shape, o.default.unwrap_or("required"), o.doc);
        assert!(manual.contains(&row), "docs/pipeline.md lacks: {row}");
    }
}

#[test]
fn long_and_deep_files_are_refused_or_read() {
    let deep = format!("name = \"p\"\nx = {}1{}\n", "[".repeat(5_000), "]".repeat(5_000));
    assert!(try_load(&deep).is_err());
    let long = format!("{GOOD}# {}\n", "x".repeat(5 << 20));
    assert_eq!(try_load(&long).unwrap_err().iter().len(), 1);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_text_gives_a_plan_or_problems(text in "(?s).{0,200}") {
        let _ = try_load(&text);
    }

    /// A good file with a piece of it replaced: closer to what people write.
    #[test]
    fn any_change_gives_a_plan_or_problems(at in 0usize..700, length in 0usize..40, piece in "[\\PC\n\\[\\]{}\"'=.,$#]{0,12}") {
        let text = format!("{GOOD}[steps.n]\noperator = \"count\"\ninput = \"trips\"\nby = \"id\"\n[steps.m]\noperator = \"learn\"\ninput = \"trips\"\n[[tests]]\nname = \"t\"\ngiven = {{ trips = [{{ id = 1 }}] }}\nexpect = {{ n = [{{ id = 1 }}] }}\n");
        let at = at.min(text.len());
        let end = (at + length).min(text.len());
        let changed = format!("{}{piece}{}", &text[..at], &text[end..]);
        if let Err(problems) = try_load(&changed) {
            prop_assert!(problems.iter().all(|p| p.line >= 1 && p.line <= changed.matches('\n').count() + 1));
        }
    }
}
