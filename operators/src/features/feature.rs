//! A feature as it is written in a pipeline file: `ofi(5, 20)`, `zscore(depth(bid, 3), 10s)`.

use std::fmt;

use super::kinds::{KINDS, Kind, KindDef, Parameter};
use super::span::Span;

/// A kind with its arguments.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Feature {
    /// The kind.
    pub kind: Kind,
    /// One argument for each of its parameters.
    pub arguments: Vec<Argument>,
}

/// An argument.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Argument {
    /// A number of levels, or of one.
    Levels(usize),
    /// A side.
    Side(Side),
    /// A window, a lag, a half-life.
    Span(Span),
    /// What happens.
    What(What),
    /// Another feature.
    Feature(Box<Feature>),
}

/// A side of the book.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Side {
    /// Who would buy.
    Bid,
    /// Who would sell.
    Ask,
}

/// What can happen at a tick.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum What {
    /// A tick of any kind.
    Tick,
    /// A best price or size is another than before.
    Quote,
    /// A trade.
    Trade,
    /// A trade that a buyer took.
    Buy,
    /// A trade that a seller took.
    Sell,
    /// Size came to the book.
    Arrival,
    /// Size went from the book.
    Cancel,
    /// The mid is another than before.
    Move,
}

impl Side {
    /// Both by their names.
    pub const NAMES: [(&'static str, Side); 2] = [("bid", Side::Bid), ("ask", Side::Ask)];
}

impl What {
    /// All by their names, in the order of [`What`].
    pub const NAMES: [(&'static str, What); 8] = [
        ("tick", What::Tick),
        ("quote", What::Quote),
        ("trade", What::Trade),
        ("buy", What::Buy),
        ("sell", What::Sell),
        ("arrival", What::Arrival),
        ("cancel", What::Cancel),
        ("move", What::Move),
    ];
}

/// What is wrong with a text that should be a feature.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wrong {
    /// There is no kind of this name.
    Unknown(String),
    /// A sentence.
    Other(String),
}

/// The greatest number of levels.
pub const LEVELS_MAX: usize = 100;

/// How deep features may stand in features.
const DEPTH_MAX: usize = 8;

impl Feature {
    /// Reads a feature.
    pub fn parse(text: &str) -> Result<Feature, Wrong> {
        let mut rest = text;
        let feature = read(&mut rest, DEPTH_MAX)?;
        match rest.trim() {
            "" => Ok(feature),
            rest => Err(Wrong::Other(format!("`{text}` goes on after its end: `{rest}`"))),
        }
    }

    /// Its kind with its parameters.
    pub fn def(&self) -> &'static KindDef {
        KINDS.iter().find(|k| k.kind == self.kind).expect("every kind is in the catalogue")
    }

    /// The name of its column: the kind and the arguments, joined by `_`.
    pub fn column(&self) -> String {
        let mut name = self.def().name.to_owned();
        for argument in &self.arguments {
            name.push('_');
            name.push_str(&match argument {
                Argument::Feature(feature) => feature.column(),
                other => other.to_string(),
            });
        }
        name
    }

    /// The number of levels or the level it names; 1 if it names none.
    pub fn levels(&self) -> usize {
        self.arguments.iter().find_map(|a| if let Argument::Levels(n) = a { Some(*n) } else { None }).unwrap_or(1)
    }

    /// The side it names.
    pub fn side(&self) -> Side {
        let side = self.arguments.iter().find_map(|a| if let Argument::Side(s) = a { Some(*s) } else { None });
        side.expect("the parser saw to it")
    }

    /// What it counts.
    pub fn what(&self) -> What {
        let what = self.arguments.iter().find_map(|a| if let Argument::What(w) = a { Some(*w) } else { None });
        what.expect("the parser saw to it")
    }

    /// The first (0) or second (1) span it names.
    pub fn span(&self, at: usize) -> Span {
        let mut spans = self.arguments.iter().filter_map(|a| if let Argument::Span(s) = a { Some(*s) } else { None });
        spans.nth(at).expect("the parser saw to it")
    }

    /// The feature it is of, if it is of one.
    pub fn inner(&self) -> Option<&Feature> {
        self.arguments.iter().find_map(|a| if let Argument::Feature(f) = a { Some(&**f) } else { None })
    }

    /// It and those it is of.
    pub fn chain(&self) -> impl Iterator<Item = &Feature> {
        std::iter::successors(Some(self), |f| f.inner())
    }
}

impl fmt::Display for Feature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.def().name)?;
        for (i, argument) in self.arguments.iter().enumerate() {
            write!(f, "{}{argument}", if i == 0 { "(" } else { ", " })?;
        }
        f.write_str(if self.arguments.is_empty() { "" } else { ")" })
    }
}

impl fmt::Display for Argument {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Argument::Levels(levels) => write!(f, "{levels}"),
            Argument::Side(Side::Bid) => f.write_str("bid"),
            Argument::Side(Side::Ask) => f.write_str("ask"),
            Argument::Span(span) => span.fmt(f),
            Argument::What(what) => f.write_str(What::NAMES[*what as usize].0),
            Argument::Feature(feature) => feature.fmt(f),
        }
    }
}

/// The text up to the next of these, without blanks; the rest begins with it.
fn word<'a>(rest: &mut &'a str) -> &'a str {
    let end = rest.find(['(', ')', ',']).unwrap_or(rest.len());
    let (word, after) = rest.split_at(end);
    *rest = after;
    word.trim()
}

/// Whether the rest begins with this, which is then passed.
fn pass(rest: &mut &str, c: char) -> bool {
    match rest.trim_start().strip_prefix(c) {
        Some(after) => {
            *rest = after;
            true
        }
        None => false,
    }
}

fn read(rest: &mut &str, depth: usize) -> Result<Feature, Wrong> {
    if depth == 0 {
        return Err(Wrong::Other(format!("features stand {DEPTH_MAX} deep in each other at most")));
    }
    let name = word(rest);
    let def = KINDS.iter().find(|k| k.name == name).ok_or_else(|| Wrong::Unknown(name.to_owned()))?;
    let mut arguments = Vec::new();
    let shown: Vec<&str> = def.parameters.iter().map(|p| p.name()).collect();
    let shape = if shown.is_empty() { format!("`{name}`") } else { format!("`{name}({})`", shown.join(", ")) };
    if pass(rest, '(') && !pass(rest, ')') {
        loop {
            match def.parameters.get(arguments.len()) {
                None => return Err(Wrong::Other(format!("{shape} has no more parameters"))),
                Some(parameter) => arguments.push(argument(*parameter, rest, &shape, depth)?),
            }
            if pass(rest, ')') {
                break;
            }
            if !pass(rest, ',') {
                return Err(Wrong::Other(format!("{shape}: a `)` is missing")));
            }
        }
    }
    if arguments.len() < def.parameters.len() {
        let missing = shown[arguments.len()];
        return Err(Wrong::Other(format!("the feature is {shape}, and `{missing}` is missing")));
    }
    Ok(Feature { kind: def.kind, arguments })
}

fn argument(parameter: Parameter, rest: &mut &str, shape: &str, depth: usize) -> Result<Argument, Wrong> {
    if parameter == Parameter::Feature {
        return Ok(Argument::Feature(Box::new(read(rest, depth - 1)?)));
    }
    let text = word(rest);
    let expected =
        |what: &str| Err(Wrong::Other(format!("{shape}: `{}` must be {what}, found `{text}`", parameter.name())));
    match parameter {
        Parameter::Feature => unreachable!("read above"),
        Parameter::Levels | Parameter::Level => match text.parse() {
            Ok(levels) if (1..=LEVELS_MAX).contains(&levels) => Ok(Argument::Levels(levels)),
            _ => expected(&format!("a number from 1 to {LEVELS_MAX}")),
        },
        Parameter::Side => match Side::NAMES.iter().find(|(name, _)| *name == text) {
            Some((_, side)) => Ok(Argument::Side(*side)),
            None => expected("`bid` or `ask`"),
        },
        Parameter::What => match What::NAMES.iter().find(|(name, _)| *name == text) {
            Some((_, what)) => Ok(Argument::What(*what)),
            None => expected(&format!("one of {}", What::NAMES.map(|(name, _)| name).join(", "))),
        },
        Parameter::Span | Parameter::HalfLife | Parameter::TimeHalfLife => match Span::parse(text) {
            Some(Span::Ticks(_)) if parameter == Parameter::TimeHalfLife => expected("a time, as `500ms` or `10s`"),
            Some(span) => Ok(Argument::Span(span)),
            None => expected("a number of ticks up to 1000000, or a time up to 24h as `500ms`, `10s`, `5m`"),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn features_are_read_and_written() {
        for (text, column) in [
            ("relative_spread", "relative_spread"),
            ("ofi(5, 20)", "ofi_5_20"),
            ("depth(bid, 3)", "depth_bid_3"),
            ("intensity(buy, 500ms)", "intensity_buy_500ms"),
            ("zscore(change(depth(ask, 1), 1s), 100)", "zscore_change_depth_ask_1_1s_100"),
            ("leader(return(10))", "leader_return_10"),
        ] {
            let feature = Feature::parse(text).unwrap();
            assert_eq!((feature.to_string().as_str(), feature.column().as_str()), (text, column));
            assert_eq!(Feature::parse(&format!(" {} ", text.replace(", ", " , "))), Ok(feature));
        }
        assert_eq!(Feature::parse("price_run()"), Feature::parse("price_run"));
    }

    #[test]
    fn mistakes_are_told() {
        assert_eq!(Feature::parse("spred"), Err(Wrong::Unknown("spred".to_owned())));
        assert_eq!(Feature::parse("zscore(imbalanc(1), 10)"), Err(Wrong::Unknown("imbalanc".to_owned())));
        for (text, part) in [
            ("ofi(5)", "`span` is missing"),
            ("ofi", "`levels` is missing"),
            ("ofi(5, 20, 3)", "no more parameters"),
            ("ofi(0, 20)", "`levels` must be a number from 1"),
            ("ofi(1, 20x)", "`span` must be"),
            ("depth(buy, 1)", "must be `bid` or `ask`"),
            ("since(lunch)", "one of tick, quote"),
            ("intensity(trade, 20)", "must be a time"),
            ("return(3", "`)` is missing"),
            ("return(3) + 1", "goes on"),
            ("price_run(1)", "no more parameters"),
        ] {
            let Err(Wrong::Other(told)) = Feature::parse(text) else { panic!("{text}") };
            assert!(told.contains(part), "{text}: {told}");
        }
    }
}
