//! Runs the tests of a pipeline file: the rows given go through the real engine into a store that is thrown away, and
//! what the relations then have is compared with the rows expected.
//!
//! A test is run several times ([`RUNS`]): on one worker and on two, in epochs of one row and of as many as there are.
//! The first run is compared with what is expected, and the others with the first, whole: by the law they are equal.

use std::fmt::Write as _;
use std::ops::Bound::Unbounded;
use std::path::Path;
use std::sync::Arc;

use storage::Temporary;
use types::{RowCodec, Schema, Value, fault_schema, json};

use crate::catalogue::Row;
use crate::pipeline::Concealed;
use crate::plan::{ExpectedRows, Plan, PlanTest, Settings};
use crate::script::Script;
use crate::{Engine, FAULTS, Options, store_options};

/// A way to run a test, on which no result may depend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// Timely workers.
    pub workers: usize,
    /// Rows of an epoch, at most.
    pub epoch_rows_max: usize,
}

/// How every test is run, in this order.
pub const RUNS: [Run; 4] = [
    Run { workers: 1, epoch_rows_max: EPOCH_ROWS_MANY },
    Run { workers: 1, epoch_rows_max: 1 },
    Run { workers: 2, epoch_rows_max: 1 },
    Run { workers: 2, epoch_rows_max: EPOCH_ROWS_MANY },
];

const EPOCH_ROWS_MANY: usize = 10_000;

/// How a test went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Its name.
    pub name: String,
    /// The line on which it begins.
    pub line: usize,
    /// What was not as it should be; nothing if it passed.
    pub failures: Vec<Failure>,
}

/// What was not as it should be. Rows are JSON objects, in the order of the relation's key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// A relation has other rows than expected.
    Rows {
        /// The relation.
        relation: String,
        /// The line on which its rows are expected.
        line: usize,
        /// Expected, and not there.
        missing: Vec<String>,
        /// There, and not expected.
        unexpected: Vec<String>,
    },
    /// A relation ends otherwise in another run: a bug of an operator or of the engine, whatever was expected.
    Unlawful {
        /// The relation.
        relation: String,
        /// The run that ended otherwise than the first.
        run: Run,
        /// The rows it lacks.
        missing: Vec<String>,
        /// The rows it has and the first has not.
        unexpected: Vec<String>,
    },
    /// A run broke off: the engine stopped, or there was no store to run in.
    Broken {
        /// In which run.
        run: Run,
        /// Why.
        reason: String,
    },
}

/// Runs every test of a plan, in file order. Stores are made under `folder` and removed again.
pub fn run(plan: &Plan, folder: &Path) -> Vec<Outcome> {
    plan.tests.iter().map(|test| outcome(plan, test, folder)).collect()
}

/// Runs a plan to the end of its input, in an empty store under `folder`. Nothing is delivered. The error says what
/// broke.
pub fn to_end(mut plan: Plan, workers: usize, folder: &Path) -> Result<Temporary, String> {
    plan.sinks.clear();
    let temporary = Temporary::open(folder, store_options(&plan, folder)).map_err(|e| e.to_string())?;
    let options = Options { workers, ..Options::default() };
    Engine::start(Arc::new(plan), temporary.store().clone(), options).wait()?;
    Ok(temporary)
}

fn outcome(plan: &Plan, test: &PlanTest, folder: &Path) -> Outcome {
    let mut failures = Vec::new();
    let mut first: Option<Vec<Contents>> = None;
    for run in RUNS {
        let ended = to_end(substituted(plan, test, run), run.workers, folder)
            .and_then(|temporary| contents(plan, temporary.store()));
        match (ended, &first) {
            (Err(reason), _) => {
                failures.push(Failure::Broken { run, reason: plan.concealed.hide(&reason) });
                // What breaks one run breaks the others.
                break;
            }
            (Ok(ended), None) => {
                failures.extend(test.expect.iter().filter_map(|e| compare(e, &ended, &plan.concealed)));
                first = Some(ended);
            }
            (Ok(ended), Some(first)) => failures.extend(unlawful(run, first, &ended, &plan.concealed)),
        }
    }
    Outcome { name: plan.concealed.hide(&test.name), line: test.line, failures }
}

/// The plan with the given rows for sources, cut as the run wants it.
fn substituted(plan: &Plan, test: &PlanTest, run: Run) -> Plan {
    let mut plan = plan.clone();
    for source in &mut plan.sources {
        let rows = test.given.iter().find(|(name, _)| *name == source.name).map(|(_, rows)| rows.clone());
        source.connector = Arc::new(Script::new(source.delivered.clone(), rows.unwrap_or_default(), usize::MAX));
        // Rows given come at once: a clock has no say in a test.
        source.idle_after_ms = None;
    }
    // The interval is for sources that make one wait. An epoch of many rows shall be one, however busy the machine.
    plan.settings = Settings { epoch_rows_max: run.epoch_rows_max, epoch_interval_ms: 60_000, ..Settings::default() };
    plan
}

/// What a relation has in the end, in the order of its key.
struct Contents {
    name: String,
    schema: Schema,
    rows: Vec<Row>,
}

/// Every relation that readers see.
fn contents(plan: &Plan, store: &storage::Store) -> Result<Vec<Contents>, String> {
    let schemas = plan.relations().into_iter().map(|r| (r.name, r.schema.clone()));
    let snapshot = store.snapshot(None).map_err(|e| e.to_string())?;
    let mut all = Vec::new();
    for (name, schema) in schemas.chain([(FAULTS.to_owned(), fault_schema())]) {
        let id = store.relation(&name).expect("the store was opened with the plan's relations");
        let stored: Vec<_> =
            snapshot.scan(id, Unbounded, Unbounded).collect::<Result<_, _>>().map_err(|e| e.to_string())?;
        let codec = RowCodec::new(&schema);
        let batch =
            codec.decode(stored.iter().map(|(k, v)| (k.as_slice(), v.as_slice()))).map_err(|e| e.to_string())?;
        let row = |row| batch.columns().iter().map(|column| Value::at(column, row)).collect();
        let rows = (0..batch.num_rows()).map(row).collect();
        all.push(Contents { name, schema, rows });
    }
    Ok(all)
}

fn compare(expected: &ExpectedRows, ended: &[Contents], concealed: &Concealed) -> Option<Failure> {
    let found = ended.iter().find(|c| c.name == expected.relation).expect("checked when the file was read");
    let columns = &expected.columns;
    let narrow = |row: &Row| -> Row { columns.iter().map(|i| row[*i].clone()).collect() };
    // Expected rows are taken from these one by one: a row that is expected twice must be there twice.
    let mut left: Vec<(Row, &Row)> = found.rows.iter().map(|row| (narrow(row), row)).collect();
    let mut missing: Vec<&Row> = Vec::new();
    for row in &expected.rows {
        match left.iter().position(|(narrow, _)| narrow == row) {
            Some(at) => drop(left.remove(at)),
            None => missing.push(row),
        }
    }
    if missing.is_empty() && left.is_empty() {
        return None;
    }
    // The view's order, as far as its key is among the columns; then that of the other columns.
    let key = found.schema.key.iter().filter_map(|k| columns.iter().position(|c| c == k));
    let order: Vec<usize> = key.collect();
    missing.sort_by(|a, b| order.iter().map(|i| a[*i].cmp(&b[*i])).find(|o| o.is_ne()).unwrap_or_else(|| a.cmp(b)));
    let all: Vec<usize> = (0..found.schema.columns.len()).collect();
    let unexpected = left.iter().map(|(narrow, whole)| {
        // No column is named where no row is expected: then the whole row tells which it is.
        if columns.is_empty() {
            shown(&found.schema, &all, whole, concealed)
        } else {
            shown(&found.schema, columns, narrow, concealed)
        }
    });
    Some(Failure::Rows {
        relation: expected.relation.clone(),
        line: expected.line,
        unexpected: unexpected.collect(),
        missing: missing.iter().map(|row| shown(&found.schema, columns, row, concealed)).collect(),
    })
}

fn unlawful(run: Run, first: &[Contents], other: &[Contents], concealed: &Concealed) -> Vec<Failure> {
    let mut failures = Vec::new();
    for (first, other) in first.iter().zip(other).filter(|(a, b)| a.rows != b.rows) {
        let all: Vec<usize> = (0..first.schema.columns.len()).collect();
        let without = |a: &Contents, b: &Contents| -> Vec<String> {
            let rows = a.rows.iter().filter(|row| !b.rows.contains(row));
            rows.map(|row| shown(&a.schema, &all, row, concealed)).collect()
        };
        failures.push(Failure::Unlawful {
            relation: first.name.clone(),
            run,
            missing: without(first, other),
            unexpected: without(other, first),
        });
    }
    failures
}

/// Some cells of a row as a JSON object, without what must not be shown.
fn shown(schema: &Schema, columns: &[usize], cells: &[Value], concealed: &Concealed) -> String {
    let mut out = Vec::new();
    for (column, cell) in columns.iter().zip(cells) {
        out.push(if out.is_empty() { b'{' } else { b',' });
        json::write_value(&mut out, &Value::Str(schema.columns[*column].name.clone()));
        out.push(b':');
        match cell {
            Value::Str(text) => json::write_value(&mut out, &Value::Str(concealed.hide(text))),
            other => json::write_value(&mut out, other),
        }
    }
    if out.is_empty() {
        out.push(b'{');
    }
    out.push(b'}');
    String::from_utf8(out).expect("JSON is text")
}

impl Outcome {
    /// Whether all was as expected.
    pub fn passed(&self) -> bool {
        self.failures.is_empty()
    }

    /// What went wrong, for a person: a line for the test, a line for each failure, a line for each row. Nothing if
    /// it passed. `file` is what the pipeline file is called.
    pub fn text(&self, file: &str) -> String {
        let mut out = String::new();
        if self.passed() {
            return out;
        }
        let _ = writeln!(out, "{file}:{}: the test `{}` failed", self.line, self.name);
        for failure in &self.failures {
            match failure {
                Failure::Rows { relation, line, missing, unexpected } => {
                    let _ = writeln!(out, "{file}:{line}: `{relation}` has other rows than expected");
                    write_rows(&mut out, missing, unexpected);
                }
                Failure::Unlawful { relation, run, missing, unexpected } => {
                    let (first, other) = (RUNS[0].text(), run.text());
                    let _ = writeln!(
                        out,
                        "{file}:{}: `{relation}` is not the same {other} as {first}: this is a bug of Thalweg",
                        self.line
                    );
                    write_rows(&mut out, missing, unexpected);
                }
                Failure::Broken { run, reason } => {
                    let _ = writeln!(out, "{file}:{}: the run {} broke: {reason}", self.line, run.text());
                }
            }
        }
        out
    }

    /// The outcome as a JSON object: `name`, `line`, `passed`, and of each failure its `kind` with what it has.
    pub fn json(&self) -> String {
        let failures: Vec<String> = self.failures.iter().map(Failure::json).collect();
        let (name, line, passed) = (quoted(&self.name), self.line, self.passed());
        format!("{{\"name\":{name},\"line\":{line},\"passed\":{passed},\"failures\":[{}]}}", failures.join(","))
    }
}

impl Failure {
    fn json(&self) -> String {
        match self {
            Failure::Rows { relation, line, missing, unexpected } => format!(
                "{{\"kind\":\"rows\",\"relation\":{},\"line\":{line},\"missing\":[{}],\"unexpected\":[{}]}}",
                quoted(relation),
                missing.join(","),
                unexpected.join(",")
            ),
            Failure::Unlawful { relation, run, missing, unexpected } => format!(
                "{{\"kind\":\"unlawful\",\"relation\":{},{},\"missing\":[{}],\"unexpected\":[{}]}}",
                quoted(relation),
                run.json(),
                missing.join(","),
                unexpected.join(",")
            ),
            Failure::Broken { run, reason } => {
                format!("{{\"kind\":\"broken\",{},\"reason\":{}}}", run.json(), quoted(reason))
            }
        }
    }
}

impl Run {
    fn text(self) -> String {
        let plural = |n: usize, what: &str| if n == 1 { format!("1 {what}") } else { format!("{n} {what}s") };
        format!("on {} in epochs of {}", plural(self.workers, "worker"), plural(self.epoch_rows_max, "row"))
    }

    fn json(self) -> String {
        format!("\"workers\":{},\"epoch_rows_max\":{}", self.workers, self.epoch_rows_max)
    }
}

fn write_rows(out: &mut String, missing: &[String], unexpected: &[String]) {
    /// Of one kind; more would bury the rest.
    const ROWS_MAX: usize = 20;
    for (what, rows) in [("missing   ", missing), ("unexpected", unexpected)] {
        for row in rows.iter().take(ROWS_MAX) {
            let _ = writeln!(out, "  {what} {row}");
        }
        if rows.len() > ROWS_MAX {
            let _ = writeln!(out, "  {what} and {} more", rows.len() - ROWS_MAX);
        }
    }
}

fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}
