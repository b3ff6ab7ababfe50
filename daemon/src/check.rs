//! The commands that start no daemon: check, explain, infer, verify, bench, manual.

use std::path::Path;

use engine::pipeline::{self, Problems, explain};
use engine::{Plan, testing};

use crate::Failure;
use crate::arguments::{Bench, Check, Explain, ExplainFormat, Infer, Manual, Page, Verify};
use crate::run::variable;

/// Reads and checks a pipeline file.
pub fn load(file: &Path) -> Result<Plan, Failure> {
    read(file)?.map_err(Failure::usage)
}

/// Reads and checks a pipeline file. The outer error says that it cannot be read.
fn read(file: &Path) -> Result<Result<Plan, Problems>, Failure> {
    let text = std::fs::read_to_string(file).map_err(|e| Failure::usage(format!("{}: {e}", file.display())))?;
    Ok(pipeline::load(file, &text, &variable, &catalogue::all()))
}

/// `thalweg check`.
pub fn check(arguments: &Check) -> Result<(), Failure> {
    let file = arguments.file.display().to_string();
    let plan = match read(&arguments.file)? {
        Ok(plan) => plan,
        Err(problems) if arguments.json => {
            let told = serde_json::to_string(&problems).expect("problems are JSON");
            println!("{{\"problems\":{told},\"tests\":[]}}");
            return Err(Failure::usage(format!("{file}: {}", counted(problems.iter().len(), "mistake"))));
        }
        Err(problems) => return Err(Failure::usage(problems)),
    };
    let outcomes = if arguments.no_tests { Vec::new() } else { testing::run(&plan, &std::env::temp_dir()) };
    let failed = outcomes.iter().filter(|o| !o.passed()).count();
    if arguments.json {
        let tests: Vec<String> = outcomes.iter().map(testing::Outcome::json).collect();
        println!("{{\"problems\":[],\"tests\":[{}]}}", tests.join(","));
    } else {
        outcomes.iter().for_each(|outcome| print!("{}", outcome.text(&file)));
        let (sources, steps) = (counted(plan.sources.len(), "source"), counted(plan.steps.len(), "step"));
        let tests = match plan.tests.len() {
            0 => "no tests".to_owned(),
            n if arguments.no_tests => format!("{} not run", counted(n, "test")),
            n if failed > 0 => format!("{failed} of {} failed", counted(n, "test")),
            n => format!("{} passed", counted(n, "test")),
        };
        println!("{file}: pipeline `{}` has no mistakes: {sources}, {steps}, {tests}", plan.name);
    }
    if failed > 0 { Err(Failure::broken(format!("{file}: {} failed", counted(failed, "test")))) } else { Ok(()) }
}

fn counted(n: usize, what: &str) -> String {
    format!("{n} {what}{}", if n == 1 { "" } else { "s" })
}

/// `thalweg explain`.
pub fn explain(arguments: &Explain) -> Result<(), Failure> {
    let plan = load(&arguments.file)?;
    let text = match arguments.format {
        ExplainFormat::Text => explain::text(&plan),
        ExplainFormat::Dot => explain::graphviz(&plan),
        ExplainFormat::Mermaid => explain::mermaid(&plan),
    };
    print!("{text}");
    Ok(())
}

/// `thalweg infer`.
pub fn infer(arguments: &Infer) -> Result<(), Failure> {
    let text = connect::infer(&arguments.file).map_err(Failure::broken)?;
    print!("{text}");
    Ok(())
}

/// `thalweg verify`.
pub fn verify(arguments: &Verify) -> Result<(), Failure> {
    let report = storage::Store::verify(&arguments.data).map_err(Failure::broken)?;
    println!(
        "epochs {} to {}, {} records, {} bytes read",
        report.since, report.committed, report.records, report.bytes
    );
    for relation in &report.relations {
        let verdict = match relation.matches {
            Some(true) => "as committed",
            Some(false) => "NOT AS COMMITTED",
            None => "not compared",
        };
        println!("{:<32} {:>12} rows  {:032x}  {verdict}", relation.name, relation.digest.rows, relation.digest.sum);
    }
    for problem in &report.problems {
        println!("damage: {}: {}", problem.subject, problem.detail);
    }
    if report.problems_unlisted > 0 {
        println!("damage: and {} more", report.problems_unlisted);
    }
    if report.is_ok() { Ok(()) } else { Err(Failure::broken("the store is damaged")) }
}

/// `thalweg bench`.
pub fn bench(arguments: &Bench) -> Result<(), Failure> {
    let Some(name) = &arguments.name else {
        for (name, what) in bench::BENCHES {
            println!("{name:12} {what}");
        }
        return Ok(());
    };
    let dir = arguments.dir.clone().unwrap_or_else(|| std::env::temp_dir().join("thalweg-bench"));
    let thalweg = std::env::current_exe().map_err(Failure::broken)?;
    let brokers = arguments.brokers.clone();
    let options = bench::Options { json: arguments.json, quick: arguments.quick, dir, brokers, thalweg };
    bench::run(name, &options).map_err(Failure::broken)
}

/// `thalweg manual`.
pub fn manual(arguments: &Manual) -> Result<(), Failure> {
    match arguments.page {
        Page::Operators => print!("{}", engine::manual::operators(&catalogue::all())),
        Page::Api => print!("{}", api::manual()),
    }
    Ok(())
}
