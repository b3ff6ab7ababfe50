//! The commands that run no pipeline: check, explain, infer, verify, bench, manual.

use std::path::Path;

use engine::Plan;
use engine::pipeline::{self, explain};

use crate::Failure;
use crate::arguments::{Bench, Check, Explain, ExplainFormat, Infer, Manual, Page, Verify};
use crate::run::variable;

/// Reads and checks a pipeline file.
pub fn load(file: &Path) -> Result<Plan, Failure> {
    let text = std::fs::read_to_string(file).map_err(|e| Failure::usage(format!("{}: {e}", file.display())))?;
    pipeline::load(file, &text, &variable, &operators::catalogue()).map_err(Failure::usage)
}

/// `thalweg check`.
pub fn check(arguments: &Check) -> Result<(), Failure> {
    if arguments.json {
        let text = std::fs::read_to_string(&arguments.file)
            .map_err(|e| Failure::usage(format!("{}: {e}", arguments.file.display())))?;
        let problems = match pipeline::load(&arguments.file, &text, &variable, &operators::catalogue()) {
            Ok(_) => serde_json::json!([]),
            Err(problems) => serde_json::to_value(&problems).expect("problems are JSON"),
        };
        println!("{problems}");
        return Ok(());
    }
    let plan = load(&arguments.file)?;
    println!(
        "{}: pipeline `{}` is fine: {} sources, {} steps",
        arguments.file.display(),
        plan.name,
        plan.sources.len(),
        plan.steps.len()
    );
    Ok(())
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
    let text = operators::connect::infer(&arguments.file).map_err(Failure::broken)?;
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
    let options = bench::Options { json: arguments.json, quick: arguments.quick, dir, thalweg };
    bench::run(name, &options).map_err(Failure::broken)
}

/// `thalweg manual`.
pub fn manual(arguments: &Manual) -> Result<(), Failure> {
    match arguments.page {
        Page::Operators => print!("{}", operators::manual::operators(&operators::catalogue())),
        Page::Api => print!("{}", api::manual()),
    }
    Ok(())
}
