//! The obvious function: the whole history kept, every prediction made from its whole window, every minibatch's gradient
//! straight from the definition, everything judged at the end.
//!
//! What it shares with the operator is plain already: the layout of parameters, moments, slots, the step along a
//! gradient, pruning, the formulas of scores.

use std::collections::BTreeMap;
use std::sync::Arc;

use engine::catalogue::{Model, Row};
use types::Value;

use super::design::Design;
use super::labels::{FLAT, NAMES, Quote, earned, greatest};
use super::learner::MODELS;
use super::logistic::Logistic;
use super::moments::{MAGNITUDE_MAX, Moments};
use super::network::{Network, passes, softmax};
use super::options::OnlineModel;
use super::past::Told;
use super::prune::{mask, prune};
use super::score::Score;
use super::slots::{EMPTY, Settled, Slots};
use super::views::probabilities;
use super::{adam::Adam, job::LIKELIHOOD_MIN};

/// The function of a checked model.
pub fn of(model: &Arc<OnlineModel>) -> Model {
    let model = model.clone();
    Arc::new(move |inputs| outputs(&model, inputs))
}

/// One instrument with all it ever saw.
struct Whole {
    design: Design,
    network: Network,
    adam: Adam,
    logistic: Logistic,
    moments: Moments,
    slots: Slots,
    zs: Vec<Vec<f32>>,
    quotes: Vec<Quote>,
    marks: Vec<(i64, i64)>,
    told: Vec<Option<Vec<Told>>>,
    /// By horizon the classes that matured.
    matured: Vec<Vec<usize>>,
    steps: u64,
    refused: u64,
    losses: [f64; 2],
}

fn outputs(model: &OnlineModel, inputs: &[Vec<Row>]) -> Vec<Vec<Row>> {
    let v = &model.vectors;
    let names = v.names();
    let vectors = inputs.len() - 1;
    let mut events: Vec<(i64, usize, &Row)> = Vec::new();
    for (input, rows) in inputs.iter().enumerate() {
        let at = match &model.changes {
            Some(changes) if input < vectors => changes.schema.event_time.expect("a stream"),
            _ => v.at,
        };
        events.extend(rows.iter().map(|row| (time(&row[at]), input, row)));
    }
    events.sort_by_key(|(at, input, _)| (*at, *input));
    let mut wholes: BTreeMap<Row, Whole> = BTreeMap::new();
    let cells = |row: &Row, columns: &[usize]| -> Row { columns.iter().map(|c| row[*c].clone()).collect() };
    for (at, input, row) in events {
        let is_change = input < vectors;
        let columns = if is_change { &model.changes.as_ref().expect("changes").instrument } else { &v.instrument };
        let whole = wholes.entry(cells(row, columns)).or_insert_with(|| Whole::new(model));
        if let (true, Some(c)) = (is_change, &model.changes) {
            if let (Value::Str(feature), Value::Bool(entered), Value::Int(selection)) =
                (&row[c.feature], &row[c.entered], &row[c.selection])
                && let Some(feature) = names.iter().position(|name| name == feature)
                && let Some(settled) = whole.slots.tell(*selection, feature as u32, *entered)
            {
                whole.seat(&settled);
            }
            continue;
        }
        let good = |value: &Value| number(value).filter(|n| n.abs() <= MAGNITUDE_MAX);
        let (price, spread) = (good(&row[v.price]).filter(|p| *p > 0.0), good(&row[v.spread]).filter(|s| *s >= 0.0));
        let features: Option<Vec<f64>> =
            v.features.iter().map(|f| if row[*f] == Value::Null { Some(f64::NAN) } else { good(&row[*f]) }).collect();
        if let (Some(price), Some(spread), Some(features)) = (price, spread, features) {
            let Value::Int(seq) = row[v.seq] else { panic!("a record without a number") };
            whole.vector(&features, Quote { price, spread }, (at, seq));
        }
    }
    let mut views = vec![Vec::new(); super::views::OUTPUTS];
    for (instrument, whole) in &wholes {
        whole.show(instrument, &names, &mut views);
    }
    views
}

fn time(value: &Value) -> i64 {
    match value {
        Value::Time(at) => *at,
        other => panic!("{other:?} is no time"),
    }
}

fn number(value: &Value) -> Option<f64> {
    match value {
        Value::Float(f) => Some(*f),
        Value::Int(i) => Some(*i as f64),
        _ => None,
    }
}

/// The columns of a segment as they go through the blocks.
struct Passed {
    /// By block its inputs, and last the outputs of the last.
    values: Vec<Vec<Vec<f32>>>,
    /// By block the inputs after their taps.
    tapped: Vec<Vec<Vec<f32>>>,
}

impl Whole {
    fn new(model: &OnlineModel) -> Whole {
        let design = &*model.design;
        let mut learner = super::learner::Learner::new(&model.design);
        if let Some(warm) = &model.warm {
            warm.give(&mut learner);
        }
        Whole {
            network: learner.network,
            adam: learner.adam,
            logistic: learner.logistic,
            moments: learner.moments,
            slots: learner.slots,
            zs: Vec::new(),
            quotes: Vec::new(),
            marks: Vec::new(),
            told: Vec::new(),
            matured: vec![Vec::new(); design.horizons.len()],
            steps: learner.steps,
            refused: 0,
            losses: [0.0; 2],
            design: design.clone(),
        }
    }

    fn seat(&mut self, settled: &Settled) {
        let design = &self.design;
        let fresh = Network::new(design);
        for slot in &settled.came {
            let (mut places, fed) = self.network.layout.of_slot(design, *slot);
            places.extend(fed.iter().flat_map(|(matrix, b)| matrix.block(*b)));
            for at in places {
                self.network.parameters[at] = fresh.parameters[at];
                (self.adam.means[at], self.adam.squares[at]) = (0.0, 0.0);
            }
            fed.iter().for_each(|(matrix, b)| self.network.kept[matrix.first + b] = true);
            self.logistic.forget(*slot);
        }
    }

    fn vector(&mut self, features: &[f64], quote: Quote, mark: (i64, i64)) {
        if let Some(settled) = self.slots.settle() {
            self.seat(&settled);
        }
        let mut z = vec![0.0; features.len()];
        self.moments.standardise(features, &mut z);
        self.zs.push(z);
        self.quotes.push(quote);
        self.marks.push(mark);
        let n = self.zs.len() - 1;
        for (matured, h) in self.matured.iter_mut().zip(&self.design.horizons) {
            if n >= *h {
                matured.push(self.design.rule.class(self.quotes[n - h], quote));
            }
        }
        let told = (n + 1 >= self.design.span()).then(|| self.predict(n));
        self.told.push(told);
        let Design { train_every, batch, .. } = self.design;
        if (n + 1) % train_every == 0 {
            let back = train_every + self.design.horizon_max() + batch - 1;
            if n + 1 >= back + self.design.span() {
                self.step(n - back);
            }
        }
    }

    /// The input column at vector n, under the slots as they are.
    fn column(&self, n: usize) -> Vec<f32> {
        let slot = |feature: &u32| if *feature == EMPTY { 0.0 } else { self.zs[n][*feature as usize] };
        let once: Vec<f32> = self.slots.features.iter().map(slot).collect();
        once.repeat(self.design.filters)
    }

    /// Takes columns through the blocks; each block's output is shorter by what it looks back.
    fn pass(&self, columns: Vec<Vec<f32>>) -> Passed {
        let p = &self.network.parameters;
        let (mut values, mut all_tapped) = (vec![columns], Vec::new());
        for (b, block) in self.network.layout.blocks.iter().enumerate() {
            let (input, matrix) = (&values[b], block.matrix);
            let (mut tapped, mut output) = (Vec::new(), Vec::new());
            for t in block.reach()..input.len() {
                let of = |c: usize| {
                    let term = |j: usize| p[block.taps + j * block.lanes + c] * input[t - j * block.stride][c];
                    (1..block.kernel).fold(term(0), |sum, j| sum + term(j))
                };
                let x: Vec<f32> = (0..matrix.inputs).map(of).collect();
                let out = |o: usize| {
                    let a = x.iter().enumerate().fold(p[matrix.bias + o], |sum, (c, x)| {
                        sum + p[matrix.weights + 4 * (o / 4 * matrix.inputs + c) + o % 4] * x
                    });
                    let a = if a > 0.0 { a.min(super::network::ACTIVATION_MAX) } else { 0.0 };
                    let is_last = b + 1 == self.design.blocks;
                    if is_last { ((f64::from(a) * 1048576.0).round_ties_even() / 1048576.0) as f32 } else { a }
                };
                output.push((0..4 * matrix.groups).map(out).collect());
                tapped.push(x);
            }
            values.push(output);
            all_tapped.push(tapped);
        }
        Passed { values, tapped: all_tapped }
    }

    /// Average and newest of a window of the last block's outputs, and the input at vector n.
    fn read(&self, window: &[Vec<f32>], n: usize) -> Vec<f32> {
        let share = 1.0 / self.design.window as f64;
        let average = |c: usize| (window.iter().map(|x| f64::from(x[c])).sum::<f64>() * share) as f32;
        let newest = window.last().expect("a column");
        let inputs = self.column(n).into_iter().take(self.design.slots);
        (0..self.design.channels).map(average).chain(newest.iter().copied()).chain(inputs).collect()
    }

    fn logits(&self, z: &[f32]) -> Vec<[f32; 3]> {
        let (head, p) = (self.network.layout.head, &self.network.parameters);
        let of = |h: usize, k: usize| {
            z.iter()
                .enumerate()
                .fold(p[head.bias + 4 * h + k], |sum, (c, z)| sum + p[head.weights + 4 * (h * head.inputs + c) + k] * z)
        };
        (0..head.groups).map(|h| std::array::from_fn(|k| of(h, k))).collect()
    }

    fn logistic_logits(&self, x: &[f32]) -> Vec<[f32; 3]> {
        let (m, p) = (self.design.slots, &self.logistic.parameters);
        let horizons = self.design.horizons.len();
        let of = |h: usize, k: usize| {
            x[..m]
                .iter()
                .enumerate()
                .fold(p[4 * m * horizons + 4 * h + k], |sum, (c, x)| sum + p[4 * (h * m + c) + k] * x)
        };
        (0..horizons).map(|h| std::array::from_fn(|k| of(h, k))).collect()
    }

    fn predict(&self, n: usize) -> Vec<Told> {
        let columns = (n + 1 - self.design.span()..=n).map(|at| self.column(at)).collect();
        let passed = self.pass(columns);
        let network = self.logits(&self.read(passed.values.last().expect("outputs"), n));
        let logistic = self.logistic_logits(&self.column(n));
        let told = |h: usize| {
            let matured = &self.matured[h];
            let counts = std::array::from_fn(|class| matured.iter().filter(|c| **c == class).count());
            Told {
                network: softmax(network[h]),
                logistic: softmax(logistic[h]),
                persistence: matured.last().map(|c| *c as u8),
                majority: (!matured.is_empty()).then(|| greatest(counts) as u8),
            }
        };
        (0..self.design.horizons.len()).map(told).collect()
    }

    /// A step along the gradient of the minibatch whose first example ends at vector `first`.
    fn step(&mut self, first: usize) {
        let design = self.design.clone();
        let (batch, window, channels) = (design.batch, design.window, design.channels);
        let horizons = design.horizons.len();
        let columns = (first + 1 - design.span()..first + batch).map(|n| self.column(n)).collect();
        let Passed { values, tapped } = self.pass(columns);
        let pooled = values.last().expect("outputs");
        let p = &self.network.parameters;
        let mut gradient = vec![0.0f32; p.len()];
        let mut logistic = vec![0.0f32; self.logistic.parameters.len()];
        let weight = 1.0 / (batch * horizons) as f32;
        let head = self.network.layout.head;
        let mut gz = vec![vec![0.0f32; design.head_inputs()]; batch];
        let mut losses = [0.0; 2];
        for (e, gz) in gz.iter_mut().enumerate() {
            let n = first + e;
            let class = |h: &usize| design.rule.class(self.quotes[n], self.quotes[n + h]);
            let classes: Vec<usize> = design.horizons.iter().map(class).collect();
            let (z, x) = (self.read(&pooled[e..e + window], n), self.column(n));
            let mut of_examples = [0.0; 2];
            for h in 0..horizons {
                let slope = |logits: [f32; 3], loss: &mut f64| {
                    let q = softmax(logits);
                    *loss -= libm::log(f64::from(q[classes[h]]).max(LIKELIHOOD_MIN)) * f64::from(weight);
                    let one = |k: usize| if k == classes[h] { 1.0 } else { 0.0 };
                    std::array::from_fn::<f32, 3, _>(|k| (q[k] - one(k)) * weight)
                };
                let g = slope(self.logits(&z)[h], &mut of_examples[0]);
                for k in 0..3 {
                    gradient[head.bias + 4 * h + k] += g[k];
                    for (c, z) in z.iter().enumerate() {
                        let at = head.weights + 4 * (h * head.inputs + c) + k;
                        gradient[at] += g[k] * z;
                        gz[c] += p[at] * g[k];
                    }
                }
                let g = slope(self.logistic_logits(&x)[h], &mut of_examples[1]);
                for k in 0..3 {
                    logistic[4 * design.slots * horizons + 4 * h + k] += g[k];
                    for c in 0..design.slots {
                        logistic[4 * (h * design.slots + c) + k] += g[k] * x[c];
                    }
                }
            }
            losses = [losses[0] + of_examples[0], losses[1] + of_examples[1]];
            gz[..channels].iter_mut().for_each(|g| *g *= (1.0 / window as f64) as f32);
        }
        // Of the block after: the gradient of its tapped inputs, by column.
        let mut after: Vec<Vec<f32>> = Vec::new();
        for (b, block) in self.network.layout.blocks.iter().enumerate().rev() {
            let matrix = block.matrix;
            let mut of_tapped = Vec::new();
            for (i, value) in values[b + 1].iter().enumerate() {
                let mut g = vec![0.0f32; channels];
                for (o, g) in g.iter_mut().enumerate() {
                    if b + 1 == design.blocks {
                        for e in (0..batch).filter(|e| (*e..e + window).contains(&i)) {
                            *g += gz[e][o];
                        }
                        if let Some(gz) = (i + 1).checked_sub(window).map(|e| &gz[e]) {
                            *g += gz[channels + o];
                        }
                    } else {
                        let next = &self.network.layout.blocks[b + 1];
                        for j in 0..next.kernel {
                            let column = (i + j * next.stride).checked_sub(next.reach()).and_then(|c| after.get(c));
                            if let Some(column) = column {
                                *g += p[next.taps + j * next.lanes + o] * column[o];
                            }
                        }
                    }
                    *g = if passes(value[o]) { *g } else { 0.0 };
                }
                let mut gx = vec![0.0f32; matrix.inputs];
                for (o, g) in g.iter().enumerate() {
                    gradient[matrix.bias + o] += g;
                    for (c, gx) in gx.iter_mut().enumerate() {
                        let at = matrix.weights + 4 * (o / 4 * matrix.inputs + c) + o % 4;
                        gradient[at] += g * tapped[b][i][c];
                        *gx += p[at] * g;
                    }
                }
                for j in 0..block.kernel {
                    let x = &values[b][i + block.reach() - j * block.stride];
                    for (c, gx) in gx.iter().enumerate() {
                        gradient[block.taps + j * block.lanes + c] += gx * x[c];
                    }
                }
                of_tapped.push(gx);
            }
            after = of_tapped;
        }
        self.move_along(gradient, &logistic, losses);
    }

    fn move_along(&mut self, mut gradient: Vec<f32>, logistic: &[f32], losses: [f64; 2]) {
        let Design { learning_rate, clip, pruning, .. } = self.design;
        self.losses = losses;
        let control = &mut self.logistic;
        let is_learned = control.adam.step(&mut control.parameters, logistic, learning_rate, clip);
        let whole = gradient.clone();
        mask(&self.network, &mut gradient);
        if self.adam.step(&mut self.network.parameters, &gradient, learning_rate, clip) && is_learned {
            self.steps += 1;
            if let Some(sparsity) = pruning.at(self.steps) {
                prune(&mut self.network, &mut self.adam, &whole, sparsity, pruning.regrow);
            }
        } else {
            self.refused += 1;
        }
    }

    /// Judges everything that has matured.
    fn scores(&self, h: usize) -> [Score; 4] {
        let horizon = self.design.horizons[h];
        let mut scores: [Score; 4] = Default::default();
        for (n, truth) in self.matured[h].iter().enumerate() {
            let Some(told) = &self.told[n] else { continue };
            let (from, to) = (self.quotes[n], self.quotes[n + horizon]);
            for (score, p) in scores.iter_mut().zip([told[h].network, told[h].logistic]) {
                let class = greatest(p);
                score.judge(*truth, class, Some(p));
                if class != FLAT && f64::from(p[class]) > self.design.trade_probability {
                    score.trade(earned(class, from, to));
                }
            }
            for (score, class) in scores[2..].iter_mut().zip([told[h].persistence, told[h].majority]) {
                if let Some(class) = class.map(usize::from) {
                    score.judge(*truth, class, None);
                    if class != FLAT {
                        score.trade(earned(class, from, to));
                    }
                }
            }
        }
        scores
    }

    fn show(&self, instrument: &Row, names: &[String], views: &mut [Vec<Row>]) {
        let row = |cells: Vec<Value>| -> Row { instrument.iter().cloned().chain(cells).collect() };
        let int = |n: usize| Value::Int(n as i64);
        let maybe = |f: f64, is_there: bool| if is_there { Value::Float(f + 0.0) } else { Value::Null };
        for (told, (at, seq)) in self.told.iter().zip(&self.marks) {
            for (h, told) in self.design.horizons.iter().zip(told.iter().flatten()) {
                let mut cells = vec![int(*h), Value::Time(*at)];
                cells.extend(probabilities(told).map(Value::Float));
                cells.push(Value::Int(*seq));
                views[1].push(row(cells));
            }
        }
        if let (Some(Some(told)), Some((at, seq))) = (self.told.last(), self.marks.last()) {
            for (h, told) in self.design.horizons.iter().zip(told) {
                let mut cells = vec![int(*h), Value::Str(NAMES[greatest(told.network)].to_owned())];
                cells.extend(probabilities(told).map(Value::Float));
                cells.extend([Value::Time(*at), Value::Int(*seq)]);
                views[0].push(row(cells));
            }
        }
        for (h, horizon) in self.design.horizons.iter().enumerate() {
            for (i, score) in self.scores(h).iter().enumerate().filter(|(_, s)| s.count() > 0) {
                let mut cells = vec![int(*horizon), Value::Str(MODELS[i].to_owned()), int(score.count() as usize)];
                cells.extend([score.accuracy(), score.f1_macro(), score.mcc()].map(|f| maybe(f, true)));
                cells.extend([score.log_loss(), score.ece()].map(|f| maybe(f, i < 2)));
                cells.extend(score.confusion.iter().flatten().map(|n| int(*n as usize)));
                cells.extend([int(score.trades as usize), maybe(score.earned / score.trades as f64, score.trades > 0)]);
                views[2].push(row(cells));
            }
        }
        let slots = &self.slots;
        let compared = slots.selections.saturating_sub(1);
        views[3].push(row(vec![
            int(slots.selections as usize),
            maybe(slots.overlaps / compared as f64, compared > 0),
            maybe(slots.overlap_last, compared > 0),
            int(slots.active().len()),
            int(slots.waiting.len()),
        ]));
        let mut cells = vec![int(self.zs.len())];
        cells.extend(self.size().map(int));
        cells.extend([int(self.steps as usize), int(self.refused as usize)]);
        cells.extend(self.losses.map(|l| maybe(l, self.steps + self.refused > 0 && l.is_finite())));
        views[4].push(row(cells));
        for (slot, feature) in slots.features.iter().enumerate().filter(|(_, f)| **f != EMPTY) {
            views[5].push(row(vec![int(slot), Value::Str(names[*feature as usize].clone())]));
        }
    }

    /// Parameters, those not pruned, multiply-adds, bytes.
    fn size(&self) -> [usize; 4] {
        let mut size = [0; 4];
        for block in &self.network.layout.blocks {
            let taps = block.kernel * block.matrix.inputs;
            let padded = 4 * block.kernel * block.lanes;
            size = [size[0] + taps, size[1] + taps, size[2] + taps, size[3] + padded];
        }
        let head = self.network.layout.head;
        for matrix in self.network.layout.matrices() {
            let kept = (0..matrix.blocks()).filter(|b| self.network.kept[matrix.first + b]).count();
            let used = if matrix.first == head.first { 3 } else { 4 };
            // With more than three quarters of its blocks a matrix is multiplied whole.
            let is_whole = 4 * kept > 3 * matrix.blocks();
            let applied = if is_whole { matrix.blocks() } else { kept };
            size[0] += used * (matrix.blocks() + matrix.groups);
            size[1] += used * (kept + matrix.groups);
            size[2] += used * applied;
            size[3] += 16 * (applied + matrix.groups) + if is_whole { 0 } else { 2 * kept + 4 * matrix.groups };
        }
        size
    }
}
