//! From a step's section to a set of features that cannot be wrong: which columns say what, and what is computed of them.

use std::sync::Arc;

use arrow::row::{RowConverter, SortField};
use engine::catalogue::Relations;
use engine::pipeline::Section;
use types::{Column, SEQ, Schema, Type, Value};

use super::clock::Clock;
use super::feature::{Argument, Feature, What, Wrong};
use super::graph::Graph;
use super::kinds::{KINDS, Kind};
use super::standard::standard;

/// A step that has been checked.
#[derive(Clone, Debug)]
pub struct Features {
    /// The stream of ticks.
    pub relation: String,
    /// Its schema.
    pub input: Schema,
    /// The columns of the instrument.
    pub instrument: Vec<usize>,
    /// The columns of a tick.
    pub columns: TickColumns,
    /// The features with the names of their columns.
    pub features: Vec<(String, Feature)>,
    /// What is computed for each instrument.
    pub graph: Arc<Graph>,
    /// When a vector is told.
    pub clock: Clock,
    /// The leader, if there is one.
    pub leader: Option<Leader>,
    /// The latest vectors.
    pub latest: Schema,
    /// All vectors.
    pub vectors: Schema,
}

/// Where the parts of a tick stand.
#[derive(Clone, Debug, PartialEq)]
pub struct TickColumns {
    /// The event time.
    pub at: usize,
    /// Whether the book is to be trusted; always without it.
    pub healthy: Option<usize>,
    /// Prices and sizes of the bids, from the best.
    pub bids: Vec<[usize; 2]>,
    /// Of the asks.
    pub asks: Vec<[usize; 2]>,
    /// Price, size and side of the trade, where there are columns for it.
    pub trade: Option<[usize; 3]>,
    /// What came and went: bids added, bids removed, asks added, asks removed.
    pub flows: Option<[usize; 4]>,
}

/// The instrument that others follow.
#[derive(Clone, Debug)]
pub struct Leader {
    /// Its name, as it is written.
    pub name: Vec<String>,
    /// Its instrument's columns, and the bytes of them.
    pub cells: Vec<Value>,
    /// As above.
    pub key: Vec<u8>,
    /// What is asked of it.
    pub graph: Arc<Graph>,
}

/// Reads a step's section.
pub fn read(section: &mut Section<'_>, relations: &Relations<'_>) -> Option<Features> {
    let input = relations.input(section, "input");
    let clock = clock(section);
    let (relation, schema) = input?;
    let Some(at) = schema.event_time.filter(|_| schema.append_only) else {
        section.problem("input", format!("`{relation}` is no stream with an event time, and history needs one"));
        return None;
    };
    let instrument = if section.has("instrument") {
        section.columns("instrument", schema)
    } else {
        section.problem("instrument", "`instrument` is missing: the columns that say whose tick it is");
        None
    };
    let columns = tick_columns(section, schema, at);
    let leader = match &instrument {
        Some(instrument) if section.has("leader") => leader(section, schema, instrument).map(Some),
        _ => Some(None),
    };
    let columns = columns?;
    if matches!(clock, Some(Clock::Trade(_) | Clock::Volume(_))) && columns.trade.is_none() {
        section.problem("clock", "a clock of trades needs the columns `trade_price`, `trade_size` and `trade_side`");
        return None;
    }
    let features = features(section, &columns, matches!(leader, Some(Some(_))));
    let (instrument, features) = (instrument?, features?);
    if instrument.is_empty() {
        section.problem("instrument", "`instrument` must name one column at least");
        return None;
    }
    let list: Vec<Feature> = features.iter().map(|(_, feature)| feature.clone()).collect();
    let graph = Graph::new(&list);
    let leader = leader?.map(|(name, cells, key)| {
        let graph = Graph::new(&graph.leader);
        Leader { name, cells, key, graph: Arc::new(graph) }
    });
    if leader.is_some() && !graph.has_leader() {
        section.problem("leader", "no feature is of the leader: name `leader(…)` or `basis` in `features`");
        return None;
    }
    let mut shown: Vec<Column> = instrument.iter().map(|i| schema.columns[*i].clone()).collect();
    let told = |name: &str, ty, nullable| Column { name: name.to_owned(), ty, nullable };
    let mut own = vec![told("at", Type::Timestamp, false)];
    own.extend(["mid", "spread"].map(|name| told(name, Type::Float64, true)));
    own.extend(features.iter().map(|(name, _)| told(name, Type::Float64, true)));
    for column in &own {
        if let Some(taken) = shown.iter().find(|c| c.name == column.name) {
            let (key, what) = match column.name.as_str() {
                "at" | "mid" | "spread" => ("instrument", "rename it in a `select` step"),
                _ => ("features", "give the feature another name"),
            };
            section.problem(key, format!("the output has a column `{}` already: {what}", taken.name));
            return None;
        }
    }
    shown.extend(own);
    let latest =
        Schema { columns: shown.clone(), key: (0..instrument.len()).collect(), event_time: None, append_only: false };
    shown.push(told(SEQ, Type::Int64, false));
    let vectors =
        Schema { key: vec![shown.len() - 1], event_time: Some(instrument.len()), append_only: true, columns: shown };
    Some(Features {
        relation,
        input: schema.clone(),
        instrument,
        columns,
        features,
        graph: Arc::new(graph),
        clock: clock?,
        leader,
        latest,
        vectors,
    })
}

impl Features {
    /// The step in one line: everything that changes its results.
    pub fn detail(&self) -> String {
        let name = |i: &usize| self.input.columns[*i].name.as_str();
        let list = |columns: &[usize]| columns.iter().map(name).collect::<Vec<_>>().join(", ");
        let levels = |levels: &[[usize; 2]]| list(levels.as_flattened());
        let features: Vec<String> = self
            .features
            .iter()
            .map(|(name, f)| if *name == f.column() { f.to_string() } else { format!("{name} = {f}") })
            .collect();
        let mut text = format!("{} by {}", features.join(", "), list(&self.instrument));
        text += &match self.clock {
            Clock::Event(every) => format!("; every {every} ticks"),
            Clock::Trade(every) => format!("; every {every} trades"),
            Clock::Volume(volume) => format!("; every {volume} traded"),
            Clock::Time(micros) => format!("; every {} s", micros as f64 / 1e6),
        };
        if let Some(leader) = &self.leader {
            text += &format!("; behind {}", leader.name.join(", "));
        }
        text += &format!("; bids {}; asks {}", levels(&self.columns.bids), levels(&self.columns.asks));
        text += &format!("; healthy {}", list(self.columns.healthy.as_slice()));
        text += &format!("; trades {}", list(self.columns.trade.as_ref().map_or(&[], |t| t)));
        text + &format!("; flows {}", list(self.columns.flows.as_ref().map_or(&[], |t| t)))
    }
}

fn clock(section: &mut Section<'_>) -> Option<Clock> {
    let name = section.choice_or("clock", &[("event", 'e'), ("trade", 't'), ("volume", 'v'), ("time", 's')], 'e')?;
    let has_every = section.has("clock_every");
    if !has_every && matches!(name, 'v' | 's') {
        let what = if name == 'v' { "how much is traded" } else { "how many seconds lie" };
        section.problem("clock_every", format!("`clock_every` is missing: {what} between two vectors"));
        return None;
    }
    let count = |section: &mut Section<'_>| {
        if has_every { section.int_in("clock_every", 1..=1_000_000_000).map(|n| n as u64) } else { Some(1) }
    };
    match name {
        'e' => count(section).map(Clock::Event),
        't' => count(section).map(Clock::Trade),
        'v' => match section.float("clock_every")? {
            volume if volume > 0.0 && volume.is_finite() => Some(Clock::Volume(volume)),
            volume => {
                section.problem("clock_every", format!("`clock_every` is {volume}, and must be above 0 and finite"));
                None
            }
        },
        _ => match section.secs("clock_every")? {
            micros if micros > 0 => Some(Clock::Time(micros)),
            _ => {
                section.problem("clock_every", "`clock_every` must be a microsecond at least");
                None
            }
        },
    }
}

/// The columns of a tick: those that are named, or those of the contract that are there.
fn tick_columns(section: &mut Section<'_>, schema: &Schema, at: usize) -> Option<TickColumns> {
    let healthy = match section.has("healthy") {
        true => section.column("healthy", schema).map(Some),
        false => Some(schema.index_of("healthy")),
    };
    if let Some(Some(healthy)) = healthy
        && schema.columns[healthy].ty != Type::Bool
    {
        section.problem("healthy", format!("`{}` has no type bool", schema.columns[healthy].name));
        return None;
    }
    let mut levels = |key: &'static str| {
        if section.has(key) {
            return section.columns(key, schema);
        }
        Some((1..).map_while(|i| schema.index_of(&format!("{key}_{i}"))).collect::<Vec<usize>>())
    };
    let keys = ["bid_price", "bid_size", "ask_price", "ask_size"];
    let found = keys.map(&mut levels);
    let [bid_price, bid_size, ask_price, ask_size] = found;
    let sides = [bid_price?, bid_size?, ask_price?, ask_size?];
    for (key, columns) in keys.iter().zip(&sides) {
        if columns.len() != sides[0].len() || columns.is_empty() {
            let message = format!(
                "`{key}` names {} columns and `bid_price` {}: name one for each level, from the best, on both sides",
                columns.len(),
                sides[0].len()
            );
            section.problem(key, message);
            return None;
        }
    }
    let optional = |section: &mut Section<'_>, key: &'static str| {
        if section.has(key) { section.column(key, schema).map(Some) } else { Some(schema.index_of(key)) }
    };
    let mut all = |keys: &[&'static str]| -> Option<Vec<usize>> {
        let found: Vec<Option<Option<usize>>> = keys.iter().map(|key| optional(section, key)).collect();
        let found = found.into_iter().collect::<Option<Vec<Option<usize>>>>()?;
        if let (Some(missing), true) = (found.iter().position(Option::is_none), found.iter().any(Option::is_some)) {
            let key = keys[missing];
            section.problem(key, format!("`{key}` is missing: it goes with {}", keys.join(", ")));
            return None;
        }
        Some(found.into_iter().flatten().collect())
    };
    let trade = all(&["trade_price", "trade_size", "trade_side"]);
    let flows = all(&["bid_added", "bid_removed", "ask_added", "ask_removed"]);
    let (trade, flows) = (trade?, flows?);
    let numbers = sides.iter().flatten().chain(&trade).chain(&flows);
    for column in numbers.map(|i| &schema.columns[*i]) {
        if !matches!(column.ty, Type::Float64 | Type::Int64) {
            let message = format!("`{}` has the type {}, and must have float64 or int64", column.name, column.ty);
            section.problem("input", message);
            return None;
        }
    }
    let pairs = |prices: &[usize], sizes: &[usize]| prices.iter().zip(sizes).map(|(p, s)| [*p, *s]).collect();
    Some(TickColumns {
        at,
        healthy: healthy?,
        bids: pairs(&sides[0], &sides[1]),
        asks: pairs(&sides[2], &sides[3]),
        trade: trade.try_into().ok(),
        flows: flows.try_into().ok(),
    })
}

type Named = (Vec<String>, Vec<Value>, Vec<u8>);

/// The leader by the values of its instrument's columns.
fn leader(section: &mut Section<'_>, schema: &Schema, instrument: &[usize]) -> Option<Named> {
    let name = section.strings("leader")?;
    if name.len() != instrument.len() {
        let message = format!("`leader` has {} values, and `instrument` {} columns", name.len(), instrument.len());
        section.problem("leader", message);
        return None;
    }
    let mut cells = Vec::new();
    for (text, column) in name.iter().zip(instrument.iter().map(|i| &schema.columns[*i])) {
        match (column.ty, text.parse()) {
            (Type::String, _) => cells.push(Value::Str(text.clone())),
            (Type::Int64, Ok(int)) => cells.push(Value::Int(int)),
            (ty, _) => {
                section
                    .problem("leader", format!("`{text}` is no value of `{}`, which has the type {ty}", column.name));
                return None;
            }
        }
    }
    let fields = instrument.iter().map(|i| SortField::new(schema.columns[*i].ty.arrow())).collect();
    let arrays: Vec<_> =
        instrument.iter().zip(&cells).map(|(i, cell)| Value::array(schema.columns[*i].ty, [cell])).collect();
    let converter = RowConverter::new(fields).expect("every type is supported");
    let key = converter.convert_columns(&arrays).expect("cells of these types").row(0).data().to_vec();
    Some((name, cells, key))
}

/// The features with their names: those written, or the standard set as far as the columns go.
fn features(section: &mut Section<'_>, columns: &TickColumns, has_leader: bool) -> Option<Vec<(String, Feature)>> {
    let written: Vec<(Option<String>, String)> = if !section.has("features") {
        let standard = standard(columns.bids.len()).into_iter().filter(|f| missing(f, columns, has_leader).is_none());
        return Some(standard.map(|f| (f.column(), f)).collect());
    } else if section.is_table("features") {
        section.string_map("features")?.into_iter().map(|(name, text)| (Some(name), text)).collect()
    } else {
        section.strings("features")?.into_iter().map(|text| (None, text)).collect()
    };
    let mut features: Vec<(String, Feature)> = Vec::new();
    let count = written.len();
    for (name, text) in written {
        let feature = match Feature::parse(&text) {
            Ok(feature) => feature,
            Err(Wrong::Unknown(kind)) => {
                section.unknown_name("features", "feature", &kind, KINDS.iter().map(|k| k.name));
                continue;
            }
            Err(Wrong::Other(message)) => {
                section.problem("features", message);
                continue;
            }
        };
        if let Some(missing) = missing(&feature, columns, has_leader) {
            section.problem("features", format!("`{feature}` {missing}"));
            continue;
        }
        let name = name.unwrap_or_else(|| feature.column());
        if name == SEQ || name.is_empty() {
            section.problem("features", format!("a feature cannot be called `{name}`"));
        } else if features.iter().any(|(taken, _)| *taken == name) {
            section.problem("features", format!("two features are called `{name}`: name them in a table"));
        } else {
            features.push((name, feature));
        }
    }
    if count == 0 {
        section.problem("features", "`features` must name one feature at least");
    }
    (features.len() == count && count > 0).then_some(features)
}

/// What a feature needs and is not there, as the end of a sentence.
fn missing(feature: &Feature, columns: &TickColumns, has_leader: bool) -> Option<String> {
    let mut is_leading = false;
    for feature in feature.chain() {
        let needed = feature.levels() + usize::from(feature.kind == Kind::Gap);
        if needed > columns.bids.len() {
            return Some(format!("needs {needed} levels, and the ticks have {}", columns.bids.len()));
        }
        let is_of_leader = matches!(feature.kind, Kind::Leader | Kind::Basis);
        if is_of_leader && !has_leader {
            return Some("needs a `leader`".to_owned());
        }
        if is_of_leader && is_leading {
            return Some("asks for the leader's leader, and it has none".to_owned());
        }
        is_leading |= feature.kind == Kind::Leader;
        let counts = feature.arguments.iter().find_map(|a| match a {
            Argument::What(what) => Some(*what),
            _ => None,
        });
        let of_trades = matches!(
            feature.kind,
            Kind::TradeFlow
                | Kind::TradeVolume
                | Kind::TradeImbalance
                | Kind::EwTradeFlow
                | Kind::VwapDeviation
                | Kind::TradeRun
                | Kind::KyleLambda
                | Kind::RollSpread
                | Kind::EffectiveSpread
                | Kind::SignAutocorrelation
        ) || matches!(counts, Some(What::Trade | What::Buy | What::Sell));
        if of_trades && columns.trade.is_none() {
            return Some("needs the columns `trade_price`, `trade_size` and `trade_side`".to_owned());
        }
        let of_flows = matches!(feature.kind, Kind::Added | Kind::Removed | Kind::FlowImbalance)
            || matches!(counts, Some(What::Arrival | What::Cancel));
        if of_flows && columns.flows.is_none() {
            return Some("needs the columns `bid_added`, `bid_removed`, `ask_added` and `ask_removed`".to_owned());
        }
    }
    None
}
