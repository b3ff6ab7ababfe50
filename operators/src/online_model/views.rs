//! What readers see: the shapes of the views, and the rows of an instrument.

use engine::catalogue::Row;
use engine::plan::StepOutput;
use types::{Column, SEQ, Schema, Type, Value};

use super::labels::{DOWN, FLAT, NAMES, UP, greatest};
use super::learner::{Learner, MODELS};
use super::options::OnlineModel;
use super::past::Told;
use super::slots::EMPTY;
use super::state::Last;

/// The outputs, in the order of the step's.
pub const LATEST: usize = 0;
/// As above.
pub const PREDICTIONS: usize = 1;
/// As above.
pub const EVALUATION: usize = 2;
/// As above.
pub const STABILITY: usize = 3;
/// As above.
pub const NETWORK: usize = 4;
/// As above.
pub const SLOTS: usize = 5;
/// How many.
pub const OUTPUTS: usize = 6;

type Shape = &'static [(&'static str, Type, bool)];

const LATEST_COLUMNS: Shape = &[
    ("horizon", Type::Int64, false),
    ("class", Type::String, false),
    ("p_up", Type::Float64, false),
    ("p_flat", Type::Float64, false),
    ("p_down", Type::Float64, false),
    ("logistic_p_up", Type::Float64, false),
    ("logistic_p_flat", Type::Float64, false),
    ("logistic_p_down", Type::Float64, false),
    ("at", Type::Timestamp, false),
    (SEQ, Type::Int64, false),
];
const PREDICTIONS_COLUMNS: Shape = &[
    ("horizon", Type::Int64, false),
    ("at", Type::Timestamp, false),
    ("p_up", Type::Float64, false),
    ("p_flat", Type::Float64, false),
    ("p_down", Type::Float64, false),
    ("logistic_p_up", Type::Float64, false),
    ("logistic_p_flat", Type::Float64, false),
    ("logistic_p_down", Type::Float64, false),
    (SEQ, Type::Int64, false),
];
const EVALUATION_COLUMNS: Shape = &[
    ("horizon", Type::Int64, false),
    ("model", Type::String, false),
    ("n", Type::Int64, false),
    ("accuracy", Type::Float64, false),
    ("f1_macro", Type::Float64, false),
    ("mcc", Type::Float64, false),
    ("log_loss", Type::Float64, true),
    ("ece", Type::Float64, true),
    ("down_as_down", Type::Int64, false),
    ("down_as_flat", Type::Int64, false),
    ("down_as_up", Type::Int64, false),
    ("flat_as_down", Type::Int64, false),
    ("flat_as_flat", Type::Int64, false),
    ("flat_as_up", Type::Int64, false),
    ("up_as_down", Type::Int64, false),
    ("up_as_flat", Type::Int64, false),
    ("up_as_up", Type::Int64, false),
    ("trades", Type::Int64, false),
    ("pnl_per_trade", Type::Float64, true),
];
const STABILITY_COLUMNS: Shape = &[
    ("selections", Type::Int64, false),
    ("jaccard_mean", Type::Float64, true),
    ("jaccard_last", Type::Float64, true),
    ("active", Type::Int64, false),
    ("waiting", Type::Int64, false),
];
const NETWORK_COLUMNS: Shape = &[
    ("vectors", Type::Int64, false),
    ("parameters", Type::Int64, false),
    ("nonzero", Type::Int64, false),
    ("multiply_adds", Type::Int64, false),
    ("bytes", Type::Int64, false),
    ("steps", Type::Int64, false),
    ("refused_steps", Type::Int64, false),
    ("loss", Type::Float64, true),
    ("logistic_loss", Type::Float64, true),
];
const SLOTS_COLUMNS: Shape = &[("slot", Type::Int64, false), ("feature", Type::String, false)];

/// Every column the views add to those of the instrument.
pub const OWN_COLUMNS: [&str; 45] = {
    let shapes: [Shape; OUTPUTS] =
        [LATEST_COLUMNS, PREDICTIONS_COLUMNS, EVALUATION_COLUMNS, STABILITY_COLUMNS, NETWORK_COLUMNS, SLOTS_COLUMNS];
    let (mut out, mut at, mut shape) = ([""; 45], 0, 0);
    while shape < OUTPUTS {
        let mut column = 0;
        while column < shapes[shape].len() {
            // Those of `predictions` are all among those of the first.
            if shape != PREDICTIONS {
                out[at] = shapes[shape][column].0;
                at += 1;
            }
            column += 1;
        }
        shape += 1;
    }
    out
};

/// The step's outputs.
pub fn outputs(model: &OnlineModel) -> Vec<StepOutput> {
    let vectors = &model.vectors;
    let instrument: Vec<Column> = vectors.instrument.iter().map(|c| vectors.schema.columns[*c].clone()).collect();
    let view = |suffix: Option<&'static str>, shape: Shape, key: &[&str]| {
        let mut columns = instrument.clone();
        let own = |(name, ty, nullable): &(&str, Type, bool)| Column {
            name: (*name).to_owned(),
            ty: *ty,
            nullable: *nullable,
        };
        columns.extend(shape.iter().map(own));
        let is_stream = key.first() == Some(&SEQ);
        let found = |name: &&str| columns.iter().position(|c| c.name == *name).expect("a column of the view");
        let mut keys: Vec<usize> = if is_stream { Vec::new() } else { (0..instrument.len()).collect() };
        keys.extend(key.iter().map(found));
        let event_time = is_stream.then(|| found(&"at"));
        StepOutput { suffix, schema: Schema { key: keys, event_time, append_only: is_stream, columns } }
    };
    vec![
        view(None, LATEST_COLUMNS, &["horizon"]),
        view(Some("predictions"), PREDICTIONS_COLUMNS, &[SEQ, "horizon"]),
        view(Some("evaluation"), EVALUATION_COLUMNS, &["horizon", "model"]),
        view(Some("stability"), STABILITY_COLUMNS, &[]),
        view(Some("network"), NETWORK_COLUMNS, &[]),
        view(Some("slots"), SLOTS_COLUMNS, &["slot"]),
    ]
}

/// The rows of an instrument in every view but the stream of predictions.
pub fn rows(learner: &Learner, instrument: &[Value], names: &[String], last: Option<Last>) -> [Vec<Row>; OUTPUTS] {
    let mut views: [Vec<Row>; OUTPUTS] = Default::default();
    let row = |cells: Vec<Value>| -> Row { instrument.iter().cloned().chain(cells).collect() };
    let int = |n: u64| Value::Int(n as i64);
    let horizons = &learner.design.horizons;
    let newest = learner.past.count.checked_sub(1);
    if let (Some(last), Some(told)) = (last, newest.and_then(|n| learner.past.told(n))) {
        for (horizon, told) in horizons.iter().zip(told) {
            let mut cells = vec![int(*horizon as u64), Value::Str(NAMES[greatest(told.network)].to_owned())];
            cells.extend(probabilities(told).map(Value::Float));
            cells.extend([Value::Time(last.at), Value::Int(last.seq)]);
            views[LATEST].push(row(cells));
        }
    }
    for (horizon, scores) in horizons.iter().zip(&learner.scores) {
        for (model, score) in MODELS.into_iter().zip(scores).filter(|(_, score)| score.count() > 0) {
            let has_probabilities = model == "network" || model == "logistic";
            let float = |f: f64, is_there: bool| if is_there { Value::Float(f + 0.0) } else { Value::Null };
            let mut cells = vec![
                int(*horizon as u64),
                Value::Str(model.to_owned()),
                int(score.count()),
                float(score.accuracy(), true),
                float(score.f1_macro(), true),
                float(score.mcc(), true),
                float(score.log_loss(), has_probabilities),
                float(score.ece(), has_probabilities),
            ];
            cells.extend(score.confusion.iter().flatten().map(|n| int(*n)));
            cells.push(int(score.trades));
            cells.push(float(score.earned / score.trades as f64, score.trades > 0));
            views[EVALUATION].push(row(cells));
        }
    }
    let slots = &learner.slots;
    let overlap = |f: f64| if slots.selections > 1 { Value::Float(f) } else { Value::Null };
    views[STABILITY].push(row(vec![
        int(slots.selections),
        overlap(slots.overlaps / slots.selections.saturating_sub(1) as f64),
        overlap(slots.overlap_last),
        int(slots.active().len() as u64),
        int(slots.waiting.len() as u64),
    ]));
    let (parameters, nonzero) = learner.network.counts();
    let (multiply_adds, bytes) = learner.network.cost();
    let has_learned = learner.steps + learner.refused > 0;
    let loss = |f: f64| if has_learned && f.is_finite() { Value::Float(f + 0.0) } else { Value::Null };
    views[NETWORK].push(row(vec![
        int(learner.past.count),
        int(parameters as u64),
        int(nonzero as u64),
        int(multiply_adds as u64),
        int(bytes as u64),
        int(learner.steps),
        int(learner.refused),
        loss(learner.losses[0]),
        loss(learner.losses[1]),
    ]));
    for (slot, feature) in slots.features.iter().enumerate().filter(|(_, f)| **f != EMPTY) {
        views[SLOTS].push(row(vec![int(slot as u64), Value::Str(names[*feature as usize].clone())]));
    }
    views
}

/// Up, flat, down by the network, then by the control.
pub fn probabilities(told: &Told) -> [f64; 6] {
    let (n, l) = (told.network, told.logistic);
    [n[UP], n[FLAT], n[DOWN], l[UP], l[FLAT], l[DOWN]].map(|p| f64::from(p) + 0.0)
}
