//! From a step's section to a model that cannot be wrong: which columns say what, and how it is built and learns.

use std::sync::Arc;

use engine::catalogue::Relations;
use engine::pipeline::Section;
use types::{SEQ, Schema, Type};

use super::design::{Design, Pruning};
use super::labels::{Rule, Unit};
use super::warm::Artefact;

use crate::options::or;

/// A model that has been checked.
#[derive(Clone, Debug)]
pub struct OnlineModel {
    /// What says which features are active, if something does.
    pub changes: Option<Changes>,
    /// What is learned from.
    pub vectors: Vectors,
    /// What the network is, and how it learns.
    pub design: Arc<Design>,
    /// What every instrument begins with, if not with nothing.
    pub warm: Option<Arc<Artefact>>,
}

/// Where vectors stand.
#[derive(Clone, Debug)]
pub struct Vectors {
    /// The relation.
    pub relation: String,
    /// Its schema.
    pub schema: Schema,
    /// The columns of the instrument.
    pub instrument: Vec<usize>,
    /// The features.
    pub features: Vec<usize>,
    /// The price.
    pub price: usize,
    /// The spread.
    pub spread: usize,
    /// The event time.
    pub at: usize,
    /// The number of the record.
    pub seq: usize,
}

impl Vectors {
    /// The names of the features.
    pub fn names(&self) -> Vec<String> {
        self.features.iter().map(|f| self.schema.columns[*f].name.clone()).collect()
    }
}

/// Where changes of the active set stand.
#[derive(Clone, Debug)]
pub struct Changes {
    /// The relation.
    pub relation: String,
    /// Its schema.
    pub schema: Schema,
    /// The columns of the instrument, named as those of the vectors.
    pub instrument: Vec<usize>,
    /// The feature's name.
    pub feature: usize,
    /// Whether it enters.
    pub entered: usize,
    /// The number of the selection.
    pub selection: usize,
}

/// Horizons, at most.
pub const HORIZONS_MAX: usize = 16;
/// Parameters of a network, at most.
pub const PARAMETERS_MAX: usize = 1_000_000;

/// Reads a step's section.
pub fn read(section: &mut Section<'_>, relations: &Relations<'_>) -> Option<OnlineModel> {
    let input = relations.input(section, "input");
    let changes_input =
        if section.has("changes_input") { relations.input(section, "changes_input").map(Some) } else { Some(None) };
    let vectors = input.and_then(|(relation, schema)| read_vectors(section, relation, schema));
    let is_selected = section.has("changes_input");
    let design = read_design(section, vectors.as_ref().map(|v| v.features.len()), is_selected);
    let (vectors, changes_input) = (vectors?, changes_input?);
    let changes = match changes_input {
        None => None,
        Some((relation, schema)) => Some(read_changes(section, relation, schema, &vectors)?),
    };
    let design = design?;
    let warm = match section.string("warm_start") {
        None if section.has("warm_start") => return None,
        None => None,
        Some(path) => match Artefact::load(std::path::Path::new(&path), &design, &vectors.names()) {
            Ok(artefact) => Some(Arc::new(artefact)),
            Err(message) => {
                section.problem("warm_start", format!("`{path}`: {message}"));
                return None;
            }
        },
    };
    Some(OnlineModel { changes, vectors, design: Arc::new(design), warm })
}

fn read_vectors(section: &mut Section<'_>, relation: String, schema: &Schema) -> Option<Vectors> {
    let instrument = if section.has("instrument") { section.columns("instrument", schema) } else { Some(Vec::new()) };
    let price = number(section, "price", "mid", schema);
    let spread = number(section, "spread", "spread", schema);
    let at = schema.event_time.filter(|_| schema.append_only);
    if at.is_none() {
        section.problem("input", format!("`{relation}` is no stream with an event time, and history needs one"));
    }
    let seq = schema.index_of(SEQ).filter(|c| schema.columns[*c].ty == Type::Int64);
    if seq.is_none() {
        section.problem("input", format!("`{relation}` has no column `{SEQ}`, which numbers the records"));
    }
    let features = if section.has("features") { section.columns("features", schema).map(Some) } else { Some(None) };
    let (instrument, price, spread, at, seq) = (instrument?, price?, spread?, at?, seq?);
    let features = features?.unwrap_or_else(|| {
        let is_feature = |c: &usize| {
            schema.columns[*c].ty == Type::Float64 && ![price, spread].contains(c) && !instrument.contains(c)
        };
        (0..schema.columns.len()).filter(is_feature).collect()
    });
    let wrong = features.iter().find(|f| !matches!(schema.columns[**f].ty, Type::Float64 | Type::Int64));
    if let Some(wrong) = wrong {
        let column = &schema.columns[*wrong];
        section.problem(
            "features",
            format!("`{}` has the type {}, and must have float64 or int64", column.name, column.ty),
        );
        return None;
    }
    if features.is_empty() {
        section.problem("features", format!("`{relation}` has no columns of features"));
        return None;
    }
    for column in &instrument {
        let name = &schema.columns[*column].name;
        if super::views::OWN_COLUMNS.contains(&name.as_str()) {
            let message = format!("the views have a column `{name}` of their own: rename it in a `select` step");
            section.problem("instrument", message);
            return None;
        }
    }
    Some(Vectors { relation, schema: schema.clone(), instrument, features, price, spread, at, seq })
}

fn read_changes(section: &mut Section<'_>, relation: String, schema: &Schema, vectors: &Vectors) -> Option<Changes> {
    let mut column = |name: &str, ty: Type| {
        let found = schema.index_of(name).filter(|c| schema.columns[*c].ty == ty);
        if found.is_none() {
            section.problem("changes_input", format!("`{relation}` has no column `{name}` of type {ty}"));
        }
        found
    };
    let instrument: Vec<Option<usize>> = vectors
        .instrument
        .iter()
        .map(|c| column(&vectors.schema.columns[*c].name, vectors.schema.columns[*c].ty))
        .collect();
    let feature = column("feature", Type::String);
    let entered = column("entered", Type::Bool);
    let selection = column("selection", Type::Int64);
    Some(Changes {
        instrument: instrument.into_iter().collect::<Option<Vec<usize>>>()?,
        feature: feature?,
        entered: entered?,
        selection: selection?,
        relation,
        schema: schema.clone(),
    })
}

fn read_design(section: &mut Section<'_>, features: Option<usize>, is_selected: bool) -> Option<Design> {
    let mut int = |key: &'static str, default: i64, range: std::ops::RangeInclusive<i64>| {
        or(section, key, default, |s, key| s.int_in(key, range)).map(|n| n as usize)
    };
    let window = int("window", 64, 1..=4096);
    let kernel = int("kernel", 3, 1..=64);
    let dilation = int("dilation", 2, 1..=64);
    let channels = int("channels", 16, 4..=256);
    let blocks = int("blocks", 2, 1..=4);
    let filters = int("filters", 2, 1..=8);
    let batch = int("batch", 64, 1..=4096);
    let train_every = int("train_every", 64, 1..=100_000);
    let slots = int("slots", 16, 1..=1024);
    let prune_after = int("prune_after", 2000, 1..=i64::MAX);
    let prune_until = int("prune_until", 4000, 1..=i64::MAX);
    let prune_every = int("prune_every", 50, 1..=i64::MAX);
    let seed = int("seed", 0, 0..=i64::MAX);
    let mut float = |key: &'static str, default: f64, range: std::ops::RangeInclusive<f64>| {
        or(section, key, default, |s, key| s.float_in(key, range))
    };
    let threshold = float("threshold", 1.0, 0.0..=1e6);
    let half_life = float("half_life_events", 20_000.0, 1.0..=1e12);
    let learning_rate = float("learning_rate", 0.003, 1e-9..=1.0);
    let clip = float("gradient_norm_max", 1.0, 1e-6..=1e6);
    let sparsity = float("sparsity", 0.7, 0.0..=0.99);
    let regrow = float("regrow", 0.05, 0.0..=1.0);
    let trade_probability = float("trade_probability", 0.5, 0.0..=1.0);
    let unit = section.choice_or(
        "threshold_unit",
        &[("half_spreads", Unit::HalfSpreads), ("relative", Unit::Relative)],
        Unit::HalfSpreads,
    );
    let horizons = or(section, "horizons", vec![10, 20, 50, 100], |s, key| s.ints_in(key, 1..=100_000));
    let horizons: Option<Vec<usize>> = horizons.map(|hs| hs.into_iter().map(|h| h as usize).collect());
    if let Some(horizons) = &horizons
        && (horizons.is_empty() || horizons.len() > HORIZONS_MAX || !horizons.is_sorted_by(|a, b| a < b))
    {
        section.problem("horizons", format!("`horizons` must be from 1 to {HORIZONS_MAX}, ascending, each once"));
    }
    if channels.is_some_and(|c| c % 4 != 0) {
        section.problem("channels", "`channels` must be a multiple of 4: weights are pruned by fours");
    }
    if let (Some(after), Some(until)) = (prune_after, prune_until)
        && after > until
    {
        section
            .problem("prune_until", format!("`prune_until` is {until}, and `prune_after` is {after}: the other way"));
    }
    let features = features?;
    let slots = match (is_selected, slots?) {
        (true, slots) if slots > features => {
            section.problem("slots", format!("`slots` is {slots}, and there are {features} features"));
            return None;
        }
        (true, slots) => slots,
        (false, _) if section.has("slots") => {
            section.problem("slots", "`slots` says nothing without `changes_input`: every feature has its own");
            return None;
        }
        (false, _) => features,
    };
    let design = Design {
        features,
        slots,
        filters: filters?,
        is_selected,
        horizons: horizons?,
        rule: Rule { threshold: threshold?, unit: unit? },
        window: window?,
        kernel: kernel?,
        dilation: dilation?,
        channels: channels?,
        blocks: blocks?,
        half_life: half_life?,
        batch: batch?,
        train_every: train_every?,
        learning_rate: learning_rate? as f32,
        clip: clip? as f32,
        pruning: Pruning {
            sparsity: sparsity?,
            after: prune_after? as u64,
            until: prune_until? as u64,
            every: prune_every? as u64,
            regrow: regrow?,
        },
        trade_probability: trade_probability?,
        seed: seed? as u64,
    };
    // What was wrong above has been told; the rest would be told by a panic.
    let is_sound = design.channels % 4 == 0
        && !design.horizons.is_empty()
        && design.horizons.len() <= HORIZONS_MAX
        && design.horizons.is_sorted_by(|a, b| a < b)
        && design.pruning.after <= design.pruning.until;
    if !is_sound {
        return None;
    }
    let inputs = design.inputs(0).max(design.head_inputs());
    let parameters = design.channels * (design.inputs(0) + design.blocks * design.channels)
        + 4 * design.head_inputs() * design.horizons.len();
    let reach = (design.kernel - 1) as f64 * (design.dilation as f64).powi(design.blocks as i32);
    if inputs > usize::from(u16::MAX) || parameters > PARAMETERS_MAX || reach > 100_000.0 {
        let message = "the network is too large: fewer slots, filters, channels, taps or blocks";
        section.problem(if reach > 100_000.0 { "dilation" } else { "channels" }, message);
        return None;
    }
    Some(design)
}

/// A column of numbers that has a usual name.
fn number(section: &mut Section<'_>, key: &'static str, usual: &str, schema: &Schema) -> Option<usize> {
    let column = if section.has(key) {
        section.column(key, schema)?
    } else {
        let found = schema.index_of(usual);
        if found.is_none() {
            section.problem(key, format!("`{key}` is missing, and there is no column `{usual}`"));
        }
        found?
    };
    let shape = &schema.columns[column];
    if !matches!(shape.ty, Type::Float64 | Type::Int64) {
        section.problem(key, format!("`{}` has the type {}, and must have float64 or int64", shape.name, shape.ty));
        return None;
    }
    Some(column)
}

impl OnlineModel {
    /// The model in one line, with every option that changes the result.
    pub fn detail(&self) -> String {
        let names = |columns: &[usize]| -> String {
            columns.iter().map(|c| self.vectors.schema.columns[*c].name.as_str()).collect::<Vec<_>>().join(", ")
        };
        let v = &self.vectors;
        let selected = self.changes.as_ref().map_or(String::new(), |c| format!(" as selected by {}", c.relation));
        let by = if v.instrument.is_empty() { String::new() } else { format!(" by {}", names(&v.instrument)) };
        let warm = self.warm.as_ref().map_or(String::new(), |w| format!("; warm start {:016x}", w.checksum));
        format!(
            "{} of {}{by}{selected}, price {}, spread {}; {:?}{warm}",
            names(&v.features),
            v.relation,
            names(&[v.price]),
            names(&[v.spread]),
            self.design
        )
    }
}
