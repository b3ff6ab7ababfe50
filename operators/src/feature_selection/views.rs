//! What readers see: the rows of an instrument, and their changes as batches.

use arrow::array::RecordBatch;
use engine::catalogue::Row;
use engine::plan::StepOutput;
use types::{Column, SEQ, Schema, Type, Value};

use super::drift::Watch;
use super::options::Selection;
use super::referee::{CHOSEN, FIXED, SETS};
use super::selector::{Change, Selector, Standing};

/// The place of `changes` among the outputs, which are the active set, `scores`, `changes`, `regret` and `drift`.
pub const CHANGES: usize = 2;

/// The rows of an instrument in the views, without its columns: for each place in a view a row, or none.
pub type Rows = [Vec<Option<Row>>; 5];

/// An instrument's rows. Those of features change with each selection only.
pub fn rows(selection: &Selection, selector: &Selector) -> Rows {
    if selector.selections() == 0 {
        return Rows::default();
    }
    let name = |j: usize| Value::Str(selection.schema.columns[selection.features[j]].name.clone());
    let (mut set, mut scores) = (Vec::new(), Vec::new());
    for (j, standing) in selector.standings().iter().enumerate() {
        set.push(standing.verdict.is_active.then(|| set_row(name(j), standing)));
        let partner = standing.verdict.redundant_with.map_or(Value::Null, |k| name(k as usize));
        scores.push(Some(score_row(name(j), standing, partner, selector.selections())));
    }
    let referee = selector.referee();
    let row = |set: usize| regret_row(set, referee.sets[set].len(), &referee.losses, referee.judged);
    let regret = (0..SETS).map(|set| Some(row(set))).collect();
    let (detector, drifts) = selector.watch();
    let test = match selection.rules.watch {
        Watch::Never => None,
        Watch::Adwin { .. } => Some("adwin"),
        Watch::PageHinkley { .. } => Some("page_hinkley"),
    };
    let drift = test.map(|test| {
        vec![
            Value::Str(test.to_owned()),
            Value::Int(drifts.count as i64),
            if drifts.count > 0 { Value::Time(drifts.last_at) } else { Value::Null },
            Value::Float(detector.statistic() + 0.0),
            Value::Int(detector.window() as i64),
            detector.mean().map_or(Value::Null, |m| Value::Float(m + 0.0)),
        ]
    });
    [set, scores, Vec::new(), regret, vec![drift]]
}

fn set_row(name: Value, standing: &Standing) -> Row {
    let rank = standing.verdict.rank.map_or(Value::Null, |r| Value::Int(r.into()));
    vec![name, rank, float(standing.verdict.score), Value::Time(standing.since)]
}

fn score_row(name: Value, standing: &Standing, partner: Value, selection: u64) -> Row {
    let Standing { variance, one_minus_v, weight, relevance, verdict, .. } = standing;
    vec![
        name,
        float(verdict.score),
        float(*weight),
        float(*one_minus_v),
        Value::Float(relevance.corrected()),
        Value::Float(relevance.plug_in),
        Value::Float(relevance.bias + 0.0),
        Value::Float(relevance.deviations() + 0.0),
        Value::Int(relevance.bins as i64),
        if variance.is_nan() { Value::Null } else { Value::Float(variance + 0.0) },
        partner,
        verdict.rank.map_or(Value::Null, |r| Value::Int(r.into())),
        Value::Bool(verdict.is_active),
        Value::Int(selection as i64),
    ]
}

/// The row of a set in `regret`.
pub fn regret_row(set: usize, features: usize, losses: &[f64; SETS], judged: u64) -> Row {
    let name = if set == CHOSEN { "selection" } else { FIXED[set] };
    // The selection is measured against the best of those that stay, each of those against the selection.
    let other = if set == CHOSEN { losses[..CHOSEN].iter().fold(f64::INFINITY, |a, b| a.min(*b)) } else { losses[set] };
    vec![
        Value::Str(name.to_owned()),
        Value::Int(features as i64),
        Value::Int(judged as i64),
        Value::Float(losses[set] + 0.0),
        if judged > 0 { Value::Float(losses[set] / judged as f64) } else { Value::Null },
        Value::Float(losses[CHOSEN] - other + 0.0),
    ]
}

/// The row of `changes` for a change, without the instrument's columns.
pub fn change_row(selection: &Selection, selector: &Selector, change: &Change, at: i64, seq: i64) -> Row {
    let standing = &selector.standings()[change.feature];
    vec![
        Value::Time(at),
        Value::Str(selection.schema.columns[selection.features[change.feature]].name.clone()),
        Value::Bool(change.entered),
        float(standing.verdict.score),
        Value::Float(standing.relevance.corrected()),
        float(standing.weight),
        Value::Str(change.reason.name().to_owned()),
        Value::Int(selector.selections() as i64),
        Value::Int(seq),
    ]
}

fn float(value: Option<f64>) -> Value {
    value.map_or(Value::Null, |v| Value::Float(v + 0.0))
}

/// The step's outputs.
pub fn outputs(selection: &Selection) -> Vec<StepOutput> {
    let instrument: Vec<Column> = selection.instrument.iter().map(|i| selection.schema.columns[*i].clone()).collect();
    let view = |suffix, own: &[(&str, Type, bool)]| {
        let own = own.iter().map(|(name, ty, nullable)| Column { name: (*name).into(), ty: *ty, nullable: *nullable });
        let columns = instrument.iter().cloned().chain(own).collect();
        let key = (0..=instrument.len()).collect();
        StepOutput { suffix, schema: Schema { columns, key, event_time: None, append_only: false } }
    };
    let mut changes = view(
        Some("changes"),
        &[
            ("at", Type::Timestamp, false),
            ("feature", Type::String, false),
            ("entered", Type::Bool, false),
            ("score", Type::Float64, true),
            ("relevance", Type::Float64, false),
            ("weight", Type::Float64, true),
            ("reason", Type::String, false),
            ("selection", Type::Int64, false),
            (SEQ, Type::Int64, false),
        ],
    );
    let own = instrument.len();
    changes.schema.key = vec![own + 8, own + 1];
    (changes.schema.event_time, changes.schema.append_only) = (Some(own), true);
    vec![
        view(
            None,
            &[
                ("feature", Type::String, false),
                ("rank", Type::Int64, false),
                ("score", Type::Float64, false),
                ("since", Type::Timestamp, false),
            ],
        ),
        view(
            Some("scores"),
            &[
                ("feature", Type::String, false),
                ("score", Type::Float64, true),
                ("weight", Type::Float64, true),
                ("one_minus_v", Type::Float64, true),
                ("relevance", Type::Float64, false),
                ("plug_in", Type::Float64, false),
                ("bias", Type::Float64, false),
                ("deviations", Type::Float64, false),
                ("bins", Type::Int64, false),
                ("variance", Type::Float64, true),
                ("redundant_with", Type::String, true),
                ("rank", Type::Int64, true),
                ("active", Type::Bool, false),
                ("selection", Type::Int64, false),
            ],
        ),
        changes,
        view(
            Some("regret"),
            &[
                ("set", Type::String, false),
                ("features", Type::Int64, false),
                ("labels", Type::Int64, false),
                ("loss", Type::Float64, false),
                ("mean_loss", Type::Float64, true),
                ("regret", Type::Float64, false),
            ],
        ),
        view(
            Some("drift"),
            &[
                ("test", Type::String, false),
                ("drifts", Type::Int64, false),
                ("last_at", Type::Timestamp, true),
                ("statistic", Type::Float64, false),
                ("window", Type::Int64, false),
                ("mean_loss", Type::Float64, true),
            ],
        ),
    ]
}

/// Rows without the instrument's columns, and those columns, as a batch of an output.
pub fn batch(output: &StepOutput, instruments: Vec<arrow::array::ArrayRef>, rows: &[Row]) -> RecordBatch {
    let own = &output.schema.columns[instruments.len()..];
    let cells = own.iter().enumerate().map(|(i, c)| Value::array(c.ty, rows.iter().map(|r| &r[i])));
    let columns = instruments.into_iter().chain(cells).collect();
    RecordBatch::try_new(output.schema.arrow(), columns).expect("the planned columns")
}
