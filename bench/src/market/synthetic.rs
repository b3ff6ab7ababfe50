//! The example's exchange, where what tells changes at known times: predictions with all features, with a set chosen
//! once, and with one that is chosen anew, over many seeds.

use std::collections::BTreeMap;

use engine::{Plan, testing};
use storage::Store;
use types::{RowCodec, Value};

use crate::Options;
use crate::machine::Scratch;
use crate::measure::Samples;
use crate::report::Report;
use crate::subject;

/// Three regimes of ten minutes, three instruments.
pub const PIPELINE: &str = include_str!("../../../examples/market_features/pipeline.toml");

/// The ways, as figures name them, and the example's steps that go them.
const WAYS: [(&str, &str); 3] = [("dynamic", "direction"), ("static", "direction_static"), ("all", "direction_all")];

pub fn run(options: &Options, scratch: &Scratch, report: &mut Report) -> Result<(), String> {
    let mut losses: BTreeMap<String, Vec<f64>> = BTreeMap::new();
    for seed in 1..=options.pick(20, 2) {
        report.progress(&format!("exchange of seed {seed}"));
        let text = PIPELINE.replace("\nseed = 1\n", &format!("\nseed = {seed}\n"));
        let plan = subject::plan(scratch.path(), &text)?;
        let mut whole = (*plan).clone();
        whole.settings.epoch_rows_max = 50_000;
        let ended = testing::to_end(whole, 1, scratch.path()).map_err(|e| e.to_string())?;
        for (way, step) in WAYS {
            for (model, loss) in log_losses(&plan, ended.store(), step)? {
                losses.entry(format!("{way}_{model}")).or_default().push(loss);
            }
        }
    }
    for (who, losses) in &losses {
        let name = if who.ends_with("_logistic") {
            format!("logloss_{}", who.trim_end_matches("_logistic"))
        } else {
            format!("logloss_{who}")
        };
        report.figure(&name, "nats", &samples(losses));
    }
    // What a choice made anew gains, seed by seed: the mean, and half the width of its interval of 95 %.
    for model in ["logistic", "network"] {
        for other in ["static", "all"] {
            let (ours, theirs) = (&losses[&format!("dynamic_{model}")], &losses[&format!("{other}_{model}")]);
            let gains: Vec<f64> = theirs.iter().zip(ours).map(|(theirs, ours)| theirs - ours).collect();
            let n = gains.len() as f64;
            let mean = gains.iter().sum::<f64>() / n;
            let variance = gains.iter().map(|g| (g - mean).powi(2)).sum::<f64>() / (n - 1.0);
            report.figure(&format!("gain_over_{other}_{model}"), "nats", &samples(&[mean]));
            report.figure(
                &format!("gain_over_{other}_{model}_ci95"),
                "nats",
                &samples(&[1.96 * (variance / n).sqrt()]),
            );
        }
    }
    Ok(())
}

fn samples(values: &[f64]) -> Samples {
    let mut samples = Samples::default();
    values.iter().for_each(|value| samples.push(*value));
    samples
}

/// The mean log-loss over instruments and horizons, of the network and of its control.
fn log_losses(plan: &Plan, store: &Store, step: &str) -> Result<BTreeMap<String, f64>, String> {
    let view = &format!("{step}.evaluation");
    let schema = plan.schema(view).expect("a view of the pipeline");
    let id = store.relation(view).ok_or("the store has no evaluation")?;
    let snapshot = store.snapshot(None).map_err(|e| e.to_string())?;
    let mut rows = Vec::new();
    let mut scan = snapshot.scan_prefix(id, &[]);
    while let Some(row) = scan.next_row() {
        let row = row.map_err(|e| e.to_string())?;
        rows.push((row.key.to_vec(), row.value.to_vec()));
    }
    let codec = RowCodec::new(schema);
    let batch = codec.decode(rows.iter().map(|(k, v)| (k.as_slice(), v.as_slice()))).map_err(|e| e.to_string())?;
    let column = |name: &str| batch.column_by_name(name).expect("a column of the view");
    let mut sums: BTreeMap<String, (f64, f64)> = BTreeMap::new();
    for row in 0..batch.num_rows() {
        if let (Value::Str(model), Value::Float(loss)) =
            (Value::at(column("model"), row), Value::at(column("log_loss"), row))
        {
            let sum = sums.entry(model).or_default();
            *sum = (sum.0 + loss, sum.1 + 1.0);
        }
    }
    Ok(sums.into_iter().map(|(model, (sum, n))| (model, sum / n)).collect())
}
