//! From a step's section to a selection that cannot be wrong: which columns are features, and by which rules they are
//! chosen.

use engine::catalogue::Relations;
use engine::pipeline::Section;
use types::{SEQ, Schema, Type};

use super::drift::Watch;
use super::labels::{Label, Unit};
use super::rules::{Rules, Score};

use crate::options::or;

/// A selection that has been checked.
#[derive(Clone, Debug)]
pub struct Selection {
    /// The relation read.
    pub relation: String,
    /// Its schema.
    pub schema: Schema,
    /// Each combination of these is an instrument, which selects for itself.
    pub instrument: Vec<usize>,
    /// The columns that are features.
    pub features: Vec<usize>,
    /// The column of the price.
    pub price: usize,
    /// The column of the spread, where labels need it.
    pub spread: Option<usize>,
    /// The column of the event time.
    pub at: usize,
    /// The column of the record's number.
    pub seq: usize,
    /// The rules.
    pub rules: Rules,
}

/// No more features than this: co-moments grow with the square.
const FEATURES_MAX: usize = 2048;

/// The names the outputs have for themselves.
const OWN: &[&str] = &[
    "active",
    "at",
    "bias",
    "bins",
    "deviations",
    "drifts",
    "entered",
    "feature",
    "features",
    "labels",
    "last_at",
    "loss",
    "mean_loss",
    "one_minus_v",
    "plug_in",
    "rank",
    "reason",
    "redundant_with",
    "regret",
    "relevance",
    "score",
    "selection",
    "set",
    "since",
    "statistic",
    "test",
    "variance",
    "weight",
    "window",
];

/// Reads a step's section.
pub fn read(section: &mut Section<'_>, relations: &Relations<'_>) -> Option<Selection> {
    let input = relations.input(section, "input");
    let rules = rules(section);
    let (relation, schema) = input?;
    let instrument = if section.has("instrument") { section.columns("instrument", schema) } else { Some(Vec::new()) };
    let price = if section.has("price") {
        number(section, "price", schema)
    } else {
        let mid = schema.index_of("mid");
        if mid.is_none() {
            section.problem("price", format!("`price` is missing, and `{relation}` has no column `mid`"));
        }
        mid
    };
    let units = [("half_spreads", Unit::HalfSpreads), ("relative", Unit::Relative)];
    let unit = section.choice_or("threshold_unit", &units, Unit::HalfSpreads);
    let spread = match unit {
        Some(Unit::HalfSpreads) if !section.has("spread") => {
            let spread = schema.index_of("spread");
            if spread.is_none() {
                section.problem(
                    "spread",
                    format!("`spread` is missing: a threshold in halves of it needs one, and `{relation}` has no column `spread`"),
                );
            }
            spread.map(Some)
        }
        Some(Unit::HalfSpreads) => number(section, "spread", schema).map(Some),
        _ => Some(None),
    };
    let (Some(at), Some(seq)) = (schema.event_time, schema.index_of(SEQ).filter(|_| schema.append_only)) else {
        section.problem("input", format!("`{relation}` is no stream with an event time, and history needs one"));
        return None;
    };
    let (instrument, price, spread) = (instrument?, price?, spread?);
    let features = features(section, schema, &relation, &instrument, [Some(price), spread, Some(at), Some(seq)])?;
    let clash = instrument.iter().map(|i| schema.columns[*i].name.as_str());
    if let Some(name) = clash.into_iter().find(|name| OWN.contains(name)) {
        section.problem(
            "instrument",
            format!("the outputs have a column `{name}` of their own: rename that of `{relation}` in a `select` step"),
        );
        return None;
    }
    let mut rules = rules?;
    rules.features = features.len();
    rules.label.unit = unit?;
    Some(Selection { relation, schema: schema.clone(), instrument, features, price, spread, at, seq, rules })
}

fn number(section: &mut Section<'_>, key: &'static str, schema: &Schema) -> Option<usize> {
    let column = section.column(key, schema)?;
    let (Type::Float64 | Type::Int64) = schema.columns[column].ty else {
        let (name, ty) = (&schema.columns[column].name, schema.columns[column].ty);
        section.problem(key, format!("`{name}` has the type {ty}, and must have float64 or int64"));
        return None;
    };
    Some(column)
}

fn features(
    section: &mut Section<'_>,
    schema: &Schema,
    relation: &str,
    instrument: &[usize],
    others: [Option<usize>; 4],
) -> Option<Vec<usize>> {
    let of_no_use = |i: &usize| instrument.contains(i) || others.contains(&Some(*i));
    let features = if section.has("features") {
        let features = section.columns("features", schema)?;
        for i in &features {
            let column = &schema.columns[*i];
            if !matches!(column.ty, Type::Float64 | Type::Int64)
                || of_no_use(i) && Some(*i) != others[0] && Some(*i) != others[1]
            {
                section.problem("features", format!("`{}` is no feature: one is a float64 or int64", column.name));
                return None;
            }
        }
        features
    } else {
        // A spread is a feature only where it is named, like the price.
        let is_one =
            |i: &usize| schema.columns[*i].ty == Type::Float64 && !of_no_use(i) && schema.columns[*i].name != "spread";
        (0..schema.columns.len()).filter(is_one).collect()
    };
    if features.is_empty() || features.len() > FEATURES_MAX {
        section.problem(
            "features",
            format!("there are {} features in `{relation}`, and must be from 1 to {FEATURES_MAX}", features.len()),
        );
        return None;
    }
    Some(features)
}

fn int(section: &mut Section<'_>, key: &'static str, default: i64, least: i64, most: i64) -> Option<u64> {
    or(section, key, default, |s, key| s.int_in(key, least..=most)).map(|v| v as u64)
}

/// A number above 0 and at most `most`.
fn positive(section: &mut Section<'_>, key: &'static str, default: f64, most: f64) -> Option<f64> {
    let value = or(section, key, default, |s, key| s.float(key))?;
    if value > 0.0 && value <= most {
        return Some(value);
    }
    section.problem(key, format!("`{key}` must be above 0 and at most {most}, found {value}"));
    None
}

/// The rules, but for the features and the unit of the threshold.
fn rules(section: &mut Section<'_>) -> Option<Rules> {
    let half_life = int(section, "half_life_events", 20_000, 1, 1_000_000_000);
    let clusters = int(section, "clusters", 8, 1, 256);
    let warmup = int(section, "warmup_events", 2000, 1, 1_000_000);
    let bins = int(section, "bins", 10, 2, 32);
    let size = int(section, "features_max", 16, 1, 2048);
    let hysteresis = int(section, "hysteresis", 4, 0, 2048);
    let reselect_every = int(section, "reselect_every_events", 1000, 1, 1_000_000_000);
    let correlation_max = positive(section, "correlation_max", 0.95, 1.0);
    let variance_min = or(section, "variance_min", 1e-18, |s, key| s.float_in(key, 0.0..=f64::MAX));
    let horizon = int(section, "horizon_events", 10, 1, 1_000_000);
    let every = int(section, "label_every_events", 1, 1, 1_000_000_000);
    let threshold = or(section, "threshold", 1.0, |s, key| s.float_in(key, 0.0..=1e9));
    let score = section.choice_or(
        "score",
        &[("product", Score::Product), ("rank_average", Score::RankAverage)],
        Score::Product,
    );
    let significance = or(section, "significance", 0.0, |s, key| s.float_in(key, 0.0..=1000.0));
    let watch = watch(section);
    let drift_ages = match watch {
        Some(Watch::Never) | None => Some(0),
        _ => int(section, "drift_half_lives", 3, 0, 64).map(|n| n as u32),
    };
    let seed = int(section, "seed", 0, i64::MIN, i64::MAX);
    Some(Rules {
        features: 0,
        half_life: half_life?,
        clusters: clusters? as usize,
        warmup: warmup?,
        bins: bins? as usize,
        size: size? as usize,
        hysteresis: hysteresis? as usize,
        reselect_every: reselect_every?,
        correlation_max: correlation_max?,
        variance_min: variance_min?,
        label: Label { horizon: horizon?, every: every?, threshold: threshold?, unit: Unit::Relative },
        score: score?,
        significance: significance?,
        watch: watch?,
        drift_ages: drift_ages?,
        seed: seed?,
    })
}

fn watch(section: &mut Section<'_>) -> Option<Watch> {
    const ADWIN: u8 = 0;
    const PAGE_HINKLEY: u8 = 1;
    const NONE: u8 = 2;
    match section.choice_or("drift", &[("adwin", ADWIN), ("page_hinkley", PAGE_HINKLEY), ("none", NONE)], ADWIN)? {
        ADWIN => Some(Watch::Adwin { delta: positive(section, "adwin_delta", 0.002, 1.0)? }),
        PAGE_HINKLEY => {
            let tolerance = or(section, "page_hinkley_tolerance", 0.005, |s, key| s.float_in(key, 0.0..=1.0));
            let threshold = positive(section, "page_hinkley_threshold", 50.0, 1e9);
            Some(Watch::PageHinkley { tolerance: tolerance?, threshold: threshold? })
        }
        _ => Some(Watch::Never),
    }
}

impl Selection {
    /// The selection in one line, with every option that changes the result.
    pub fn detail(&self) -> String {
        let name = |i: &usize| self.schema.columns[*i].name.as_str();
        let names = |of: &[usize]| of.iter().map(name).collect::<Vec<_>>().join(", ");
        let by = if self.instrument.is_empty() { String::new() } else { format!(" by {}", names(&self.instrument)) };
        let spread = self.spread.as_ref().map_or(String::new(), |s| format!(", spread {}", name(s)));
        let Rules { label, score, watch, .. } = &self.rules;
        let r = &self.rules;
        format!(
            "up to {} + {} of {} of {}{by} for {} in {} vectors (every {}) beyond {} {:?}{spread}; half-life {}, {} clusters \
             after {}, {} bins, every {}, correlation {}, variance {}, {score:?}, significance {}, {watch:?} aging {}, seed {}",
            r.size,
            r.hysteresis,
            names(&self.features),
            self.relation,
            name(&self.price),
            label.horizon,
            label.every,
            label.threshold,
            label.unit,
            r.half_life,
            r.clusters,
            r.warmup,
            r.bins,
            r.reselect_every,
            r.correlation_max,
            r.variance_min,
            r.significance,
            r.drift_ages,
            r.seed as i64,
        )
    }
}
