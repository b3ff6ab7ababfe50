//! `auction`: the published run of MOHAF and what its problem really allows, on the recorded instance; and what a request
//! that comes and one that goes cost, against holding the greedy anew.
//!
//! The instance is the paper's: 3,553 jobs of a Google cell and 888 drawn resources, in `cluster/mohaf` of the folder
//! that `THALWEG_DATA` names. The limit lists all feasible pairs, sorts them by score and takes what fits: what one would
//! write by hand. In the end both have taken the same pairs' worth.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use engine::catalogue::Row;
use engine::operator::{Context, StepKind, TableOperator};
use engine::plan::StepPlan;
use types::{Delta, RowCodec, Schema, Value};

use crate::Options;
use crate::machine::Scratch;
use crate::measure::{Rng, Samples, timed};
use crate::report::Report;
use crate::subject;

/// Requests and resources as the step reads them; the step's options follow.
pub const PIPELINE: &str = r#"
name = "auction"

[sources.requests]
type = "file"
path = "requests.csv"
key = "request"
columns = { request = "int64", user = "string", demand = "float64", budget = "float64", priority = "float64", x = "float64", y = "float64" }

[sources.resources]
type = "file"
path = "resources.csv"
key = "resource"
columns = { resource = "int64", capacity = "float64", cost = "float64", x = "float64", y = "float64", availability = "float64", reliability = "float64", energy = "float64" }

[steps.auction]
operator = "auction"
requests = "requests"
resources = "resources"
demand = "demand"
budget = "budget"
priority = "priority"
requester = "user"
capacity = "capacity"
cost = "cost"
availability = "availability"
reliability = "reliability"
energy = "energy"
request_x = "x"
request_y = "y"
resource_x = "x"
resource_y = "y"
"#;

const ANEW: &str = "all pairs sorted anew";

pub fn run(options: &Options, _: &Scratch, report: &mut Report) -> Result<(), String> {
    let instance = Instance::read()?;
    let once = |report: &mut Report, metric: &str, unit: &str, value: f64| {
        let mut samples = Samples::default();
        samples.push(value);
        report.figure(metric, unit, &samples);
    };
    report.progress("the published run");
    let published = Auction::held("as_published = true\nmechanism = \"one_to_one\"", &instance)?;
    once(report, "mohaf_pairs", "pairs", published.fairness("feasible_pairs")?);
    once(report, "mohaf_allocations", "requests", published.fairness("allocated")?);
    once(report, "mohaf_efficiency", "score", published.fairness("efficiency")?);
    once(report, "mohaf_revenue", "price", published.fairness("revenue_published")?);
    for (form, text) in [("published", "as_published = true\n"), ("normalised", "")] {
        report.progress(&format!("shared capacity, scores {form}"));
        let greedy = Auction::held(text, &instance)?;
        once(report, &format!("{form}_greedy"), "score", greedy.fairness("efficiency")?);
        let (optimal, seconds) = timed(|| Auction::held(&format!("{text}mechanism = \"optimal\""), &instance));
        let optimal = optimal?;
        once(report, &format!("{form}_optimal"), "score", optimal.fairness("efficiency")?);
        once(report, &format!("{form}_bound"), "score", optimal.fairness("efficiency_bound")?);
        once(report, &format!("{form}_optimal_s"), "s", seconds);
    }
    let (mut ours, mut anew) = (Samples::default(), Samples::default());
    for repetition in 0..options.repetitions() {
        report.progress(&format!("requests that come and go, repetition {}", repetition + 1));
        let (us, us_anew) = replaced(&instance, repetition as u64, options.pick(300, 30))?;
        ours.push(us);
        anew.push(us_anew);
    }
    report.against("us_per_request", "us", &ours, ANEW, &anew);
    Ok(())
}

/// The recorded rows.
struct Instance {
    requests: Vec<Row>,
    resources: Vec<Row>,
}

impl Instance {
    fn read() -> Result<Instance, String> {
        let data = std::env::var_os("THALWEG_DATA").map(PathBuf::from);
        let data = data.ok_or("the instance is recorded data: set THALWEG_DATA to its folder")?;
        let rows = |file: &str, columns: &[usize]| -> Result<Vec<Row>, String> {
            let file = data.join("cluster/mohaf").join(file);
            let text = std::fs::read_to_string(&file).map_err(|e| format!("{}: {e}", file.display()))?;
            let row = |line: &str| -> Option<Row> {
                let cells: Vec<&str> = line.split(',').collect();
                let cell = |at: &usize| match (*at, cells.get(*at)?) {
                    (0, text) => text.parse().ok().map(Value::Int),
                    (_, text) => Some(text.parse().map_or_else(|_| Value::Str((*text).to_owned()), Value::Float)),
                };
                columns.iter().map(cell).collect()
            };
            let rows = text.lines().skip(1).map(row).collect::<Option<Vec<Row>>>();
            rows.ok_or(format!("{}: not the rows that were expected", file.display()))
        };
        let requests = rows("requests.csv", &[0, 2, 3, 4, 5, 6, 7])?;
        Ok(Instance { requests, resources: rows("resources.csv", &[0, 1, 2, 3, 4, 5, 6, 7])? })
    }
}

/// A step at work, with the last row of its view `fairness`.
struct Auction {
    plan: StepPlan,
    operator: Box<dyn TableOperator>,
    schemas: [Schema; 2],
    epoch: u64,
    fairness: BTreeMap<String, Value>,
}

impl Auction {
    fn new(options: &str) -> Result<Auction, String> {
        let plan = subject::plan(Path::new(""), &format!("{PIPELINE}{options}"))?;
        let schemas = ["requests", "resources"].map(|name| {
            let found = plan.relations().into_iter().find(|r| r.name == name);
            found.expect("a source of the pipeline").schema.clone()
        });
        let plan = plan.steps[0].plan.clone();
        let StepKind::Table(new) = &plan.kind else { return Err("not a function of tables".to_owned()) };
        Ok(Auction { operator: new(), schemas, epoch: 0, fairness: BTreeMap::new(), plan })
    }

    fn held(options: &str, instance: &Instance) -> Result<Auction, String> {
        let mut auction = Auction::new(options)?;
        let all = |rows: &[Row]| -> Vec<(Row, i64)> { rows.iter().map(|row| (row.clone(), 1)).collect() };
        auction.step(&all(&instance.requests), &all(&instance.resources));
        Ok(auction)
    }

    /// Rows that come and go in one epoch. Gives the seconds it took.
    fn step(&mut self, requests: &[(Row, i64)], resources: &[(Row, i64)]) -> f64 {
        let delta = |schema: &Schema, rows: &[(Row, i64)]| {
            let cells: Vec<Row> = rows.iter().map(|(row, _)| row.clone()).collect();
            vec![Delta::new(RowCodec::new(schema).batch(&cells), rows.iter().map(|(_, diff)| *diff).collect())]
        };
        let inputs = vec![delta(&self.schemas[0], requests), delta(&self.schemas[1], resources)];
        self.epoch += 1;
        let mut context = Context::new(self.epoch, 0, self.plan.outputs.len());
        let ((), seconds) = timed(|| self.operator.step(inputs, &mut context));
        let (outputs, ..) = context.into_parts();
        let at = self.plan.outputs.iter().position(|o| o.suffix == Some("fairness")).expect("it has one");
        for delta in &outputs[at] {
            for row in (0..delta.len()).filter(|row| delta.diff(*row) > 0) {
                let names = self.plan.outputs[at].schema.columns.iter().map(|c| c.name.clone());
                let cells = delta.rows.columns().iter().map(|column| Value::at(column, row));
                self.fairness = names.zip(cells).collect();
            }
        }
        seconds
    }

    fn fairness(&self, column: &str) -> Result<f64, String> {
        self.fairness.get(column).and_then(number).ok_or(format!("the view `fairness` says nothing of {column}"))
    }
}

fn number(value: &Value) -> Option<f64> {
    match value {
        Value::Float(v) => Some(*v),
        Value::Int(v) => Some(*v as f64),
        _ => None,
    }
}

/// Microseconds for a request that goes and another that comes in its place: ours, and all pairs sorted anew.
fn replaced(instance: &Instance, seed: u64, changes: usize) -> Result<(f64, f64), String> {
    let mut auction = Auction::held("", instance)?;
    let mut requests = instance.requests.clone();
    let mut rng = Rng::new(5_000 + seed);
    let mut seconds = 0.0;
    for _ in 0..changes {
        let at = rng.below(requests.len() as u64) as usize;
        let mut new = requests[at].clone();
        new[5] = Value::Float(rng.below(200_000) as f64 / 1_000.0 - 100.0);
        new[6] = Value::Float(rng.below(200_000) as f64 / 1_000.0 - 100.0);
        seconds += auction.step(&[(requests[at].clone(), -1), (new.clone(), 1)], &[]);
        requests[at] = new;
    }
    let (value, anew) = timed(|| sorted_anew(&requests, &instance.resources));
    let (got, value) = (auction.fairness("efficiency")?, value / requests.len() as f64);
    if (got - value).abs() > 1e-9 {
        return Err(format!("the step's efficiency is {got}, that of all pairs sorted anew {value}"));
    }
    Ok((seconds / changes as f64 * 1e6, anew * 1e6))
}

/// The greedy by hand, with the weights of the paper's Eq. 22 and every component in [0, 1]: the sum of scores.
fn sorted_anew(requests: &[Row], resources: &[Row]) -> f64 {
    let floats = |rows: &[Row], from: usize| -> Vec<Vec<f64>> {
        rows.iter().map(|row| row[from..].iter().filter_map(number).collect()).collect()
    };
    // Demand, budget, priority, x, y; capacity, cost, x, y, availability, reliability, energy.
    let (requests, resources) = (floats(requests, 2), floats(resources, 1));
    let mut pairs: Vec<(f64, u32, u32)> = Vec::new();
    for (i, q) in requests.iter().enumerate() {
        for (j, r) in resources.iter().enumerate() {
            if q[0] > r[0] || r[1] * q[0] > q[1] {
                continue;
            }
            let distance = ((q[3] - r[2]).powi(2) + (q[4] - r[3]).powi(2)).sqrt();
            let left = if q[1] > 0.0 { (1.0 - r[1] * q[0] / q[1]).max(0.0) } else { 0.0 };
            let qos = 0.25 * (r[5] + r[4]) + 0.5 * (1.0 - distance / 200.0).max(0.0);
            let score = 0.4 * left + 0.3 * qos + 0.1 * r[6] + 0.2 * (q[2] / 10.0).min(1.0);
            pairs.push((score, i as u32, j as u32));
        }
    }
    pairs.sort_unstable_by(|a, b| b.0.total_cmp(&a.0).then((a.1, a.2).cmp(&(b.1, b.2))));
    let mut is_served = vec![false; requests.len()];
    let mut room: Vec<f64> = resources.iter().map(|r| r[0]).collect();
    let mut sum = 0.0;
    for (score, i, j) in pairs {
        let demand = requests[i as usize][0];
        if !is_served[i as usize] && demand <= room[j as usize] + 1e-9 {
            is_served[i as usize] = true;
            room[j as usize] -= demand;
            sum += score;
        }
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_instance_is_held_as_by_hand() {
        let mut rng = Rng::new(1);
        let mut random = |n: u64| Value::Float(rng.below(n * 1_000) as f64 / 1_000.0);
        let request = |id: i64, random: &mut dyn FnMut(u64) -> Value| {
            let mut row = vec![Value::Int(id), Value::Str(format!("u{}", id % 7))];
            row.extend([random(1), random(20), random(10), random(100), random(100)]);
            row
        };
        let resource = |id: i64, random: &mut dyn FnMut(u64) -> Value| {
            let mut row = vec![Value::Int(id)];
            row.extend([random(1), random(1), random(100), random(100), random(1), random(1), random(1)]);
            row
        };
        let requests = (0..60).map(|id| request(id, &mut random)).collect();
        let resources = (0..20).map(|id| resource(id, &mut random)).collect();
        let (ours, anew) = replaced(&Instance { requests, resources }, 1, 40).unwrap();
        assert!(ours > 0.0 && anew > 0.0);
    }
}
