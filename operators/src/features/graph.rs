//! From a list of features to what is computed for each tick: every number once, however many features need it.

use std::collections::BTreeMap;

use super::feature::{Feature, Side};
use super::kinds::Kind;
use super::market::Fact;
use super::span::Span;

/// A number that each tick has anew; it is computed of numbers that stand before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Node {
    /// A fact of the tick.
    Fact(Fact),
    /// A feature of the leader, by number; the first is its mid.
    Leader(usize),
    /// The sum of a number over a window.
    Sum(usize, usize),
    /// Its greatest (1) or least (−1) value in a window.
    Extreme(usize, usize, i8),
    /// What it was before a window.
    Before(usize, usize),
    /// How many ticks are in a window.
    Ticks(usize),
    /// Its forgotten mean.
    Mean(usize, usize),
    /// Its forgotten rate per second.
    Rate(usize, usize),
    /// Its distance from its forgotten mean by its forgotten deviation.
    Zscore(usize, usize),
    /// The slope of the first on the second, with forgetting.
    Beta(usize, usize, usize),
    /// The first by the second.
    Ratio(usize, usize),
    /// The first times the second.
    Product(usize, usize),
    /// The first and the second.
    Plus(usize, usize),
    /// The first less the second.
    Difference(usize, usize),
    /// The return from the first to the second, in basis points.
    LogReturn(usize, usize),
    /// The square root.
    Root(usize),
    /// √(π/2 · x).
    BipowerRoot(usize),
    /// max(0, 1 − π/2 · the first / the second).
    JumpShare(usize, usize),
    /// (the first − the second by the third) / the first, in basis points.
    Deviation(usize, usize, usize),
    /// (the first − the second) / the third, in basis points.
    Range(usize, usize, usize),
    /// (the first − the second) / (the third − the second).
    Position(usize, usize, usize),
    /// The first by the mean of the second over that many ticks (the third) and so many (the fourth).
    Normalised(usize, usize, usize, usize),
    /// 2·√max(0, −the first) / the second, in basis points.
    Roll(usize, usize),
}

impl Node {
    /// The numbers it is of.
    fn inputs(&self) -> impl Iterator<Item = usize> {
        let inputs = match *self {
            Node::Fact(_) | Node::Leader(_) | Node::Ticks(_) => [None; 3],
            Node::Sum(a, _) | Node::Extreme(a, _, _) | Node::Before(a, _) => [Some(a), None, None],
            Node::Mean(a, _) | Node::Rate(a, _) | Node::Zscore(a, _) => [Some(a), None, None],
            Node::Root(a) | Node::BipowerRoot(a) => [Some(a), None, None],
            Node::Beta(a, b, _) | Node::Ratio(a, b) | Node::Product(a, b) => [Some(a), Some(b), None],
            Node::Plus(a, b) | Node::Difference(a, b) | Node::LogReturn(a, b) => [Some(a), Some(b), None],
            Node::JumpShare(a, b) | Node::Roll(a, b) => [Some(a), Some(b), None],
            Node::Deviation(a, b, c) | Node::Range(a, b, c) => [Some(a), Some(b), Some(c)],
            Node::Position(a, b, c) | Node::Normalised(a, b, c, _) => [Some(a), Some(b), Some(c)],
        };
        inputs.into_iter().flatten()
    }
}

/// What is computed for each tick.
#[derive(Clone, Debug, Default)]
pub struct Graph {
    /// The numbers, each after those it is of.
    pub nodes: Vec<Node>,
    /// Those that are facts of the tick.
    pub facts: Vec<(usize, Fact)>,
    /// The others in the order in which they are computed: after what they are of, and like by like, for a processor
    /// guesses well what it has just done.
    pub steps: Vec<usize>,
    /// Windows of ticks or time.
    pub windows: Vec<Span>,
    /// Half-lives of ticks or time.
    pub half_lives: Vec<Span>,
    /// Numbers whose past is kept, with how many ticks back and which windows of time look at it.
    pub rings: Vec<RingPlan>,
    /// For each number its ring, if it has one.
    pub ring_of: Vec<Option<usize>>,
    /// For each feature its number.
    pub outputs: Vec<usize>,
    /// How many levels of the book are looked at.
    pub levels: usize,
    /// Features of the leader, in the order of [`Node::Leader`] from 1.
    pub leader: Vec<Feature>,
    known: BTreeMap<Node, usize>,
}

/// A past that is kept.
#[derive(Clone, Debug)]
pub struct RingPlan {
    /// The number.
    pub node: usize,
    /// How many ticks back windows of ticks look, the newest counted.
    pub reach: u64,
    /// Windows of time, by number.
    pub windows: Vec<usize>,
}

impl Graph {
    /// Of these features.
    pub fn new(features: &[Feature]) -> Graph {
        let mut graph = Graph { levels: 1, ..Graph::default() };
        graph.outputs = features.iter().map(|feature| graph.feature(feature)).collect();
        let mut levels: Vec<usize> = Vec::new();
        for (at, node) in graph.nodes.iter().enumerate() {
            levels.push(node.inputs().map(|input| levels[input] + 1).max().unwrap_or(0));
            match node {
                Node::Fact(fact) => graph.facts.push((at, *fact)),
                _ => graph.steps.push(at),
            }
        }
        graph.facts.sort_by_key(|(_, fact)| *fact);
        let nodes = &graph.nodes;
        graph.steps.sort_by_key(|at| (levels[*at], nodes[*at]));
        graph
    }

    fn add(&mut self, node: Node) -> usize {
        if let Some(at) = self.known.get(&node) {
            return *at;
        }
        self.nodes.push(node);
        self.ring_of.push(None);
        let at = self.nodes.len() - 1;
        self.known.insert(node, at);
        at
    }

    fn fact(&mut self, fact: Fact) -> usize {
        self.add(Node::Fact(fact))
    }

    fn window(&mut self, span: Span) -> usize {
        number_of(&mut self.windows, span)
    }

    fn half_life(&mut self, span: Span) -> usize {
        number_of(&mut self.half_lives, span)
    }

    /// Keeps a number's past for a window, and what was before it.
    fn keep(&mut self, node: usize, span: Span) -> usize {
        let window = self.window(span);
        let ring = match self.ring_of[node] {
            Some(ring) => ring,
            None => {
                self.rings.push(RingPlan { node, reach: 1, windows: Vec::new() });
                self.ring_of[node] = Some(self.rings.len() - 1);
                self.rings.len() - 1
            }
        };
        match span {
            Span::Ticks(ticks) => self.rings[ring].reach = self.rings[ring].reach.max(ticks + 1),
            Span::Micros(_) if self.rings[ring].windows.contains(&window) => {}
            Span::Micros(_) => self.rings[ring].windows.push(window),
        }
        window
    }

    fn sum(&mut self, node: usize, span: Span) -> usize {
        let window = self.keep(node, span);
        self.add(Node::Sum(node, window))
    }

    fn sum_of(&mut self, fact: Fact, span: Span) -> usize {
        let node = self.fact(fact);
        self.sum(node, span)
    }

    fn before(&mut self, node: usize, span: Span) -> usize {
        let window = self.keep(node, span);
        self.add(Node::Before(node, window))
    }

    fn extreme(&mut self, node: usize, span: Span, sign: i8) -> usize {
        let window = self.keep(node, span);
        self.add(Node::Extreme(node, window, sign))
    }

    fn ticks(&mut self, span: Span) -> usize {
        let window = self.window(span);
        self.add(Node::Ticks(window))
    }

    fn mean(&mut self, node: usize, span: Span) -> usize {
        let half_life = self.half_life(span);
        self.add(Node::Mean(node, half_life))
    }

    fn mean_of(&mut self, fact: Fact, span: Span) -> usize {
        let node = self.fact(fact);
        self.mean(node, span)
    }

    /// Forgotten: the mean a tick, or by time the rate.
    fn forgotten(&mut self, fact: Fact, span: Span) -> usize {
        let (node, half_life) = (self.fact(fact), self.half_life(span));
        match span {
            Span::Ticks(_) => self.add(Node::Mean(node, half_life)),
            Span::Micros(_) => self.add(Node::Rate(node, half_life)),
        }
    }

    fn returned(&mut self, span: Span) -> usize {
        let mid = self.fact(Fact::Mid);
        let before = self.before(mid, span);
        self.add(Node::LogReturn(before, mid))
    }

    fn beta(&mut self, y: usize, x: usize, span: Span) -> usize {
        let half_life = self.half_life(span);
        self.add(Node::Beta(y, x, half_life))
    }

    fn leading(&mut self, feature: &Feature) -> usize {
        let at = match self.leader.iter().position(|f| f == feature) {
            Some(at) => at,
            None => {
                self.leader.push(feature.clone());
                self.leader.len() - 1
            }
        };
        self.add(Node::Leader(at + 1))
    }

    /// The number of a feature.
    fn feature(&mut self, feature: &Feature) -> usize {
        let (levels, span) = (feature.levels(), |at| feature.span(at));
        if feature.kind != Kind::Leader {
            // Of a level and the next.
            let also_next = usize::from(feature.kind == Kind::Gap);
            self.levels = self.levels.max(levels + also_next);
        }
        match feature.kind {
            Kind::MidPrice => self.fact(Fact::Mid),
            Kind::QuotedSpread => self.fact(Fact::Spread),
            Kind::RelativeSpread => self.fact(Fact::RelativeSpread),
            Kind::WeightedMid => self.fact(Fact::WeightedMid(levels)),
            Kind::WeightedMidDeviation => self.fact(Fact::WeightedMidDeviation(levels)),
            Kind::Imbalance => self.fact(Fact::Imbalance(levels)),
            Kind::LevelImbalance => self.fact(Fact::LevelImbalance(levels)),
            Kind::Pressure => self.fact(Fact::Pressure(levels)),
            Kind::Depth => self.fact(Fact::Depth(feature.side(), levels)),
            Kind::Slope => self.fact(Fact::Slope(feature.side(), levels)),
            Kind::SlopeImbalance => {
                let bid = self.fact(Fact::Slope(Side::Bid, levels));
                let ask = self.fact(Fact::Slope(Side::Ask, levels));
                let (less, plus) = (self.add(Node::Difference(bid, ask)), self.add(Node::Plus(bid, ask)));
                self.add(Node::Ratio(less, plus))
            }
            Kind::Gap => self.fact(Fact::Gap(feature.side(), levels)),
            Kind::Depletion => self.fact(Fact::Depletion(feature.side())),
            Kind::Ofi => self.sum_of(Fact::Ofi(levels), span(0)),
            Kind::LevelOfi => self.sum_of(Fact::LevelOfi(levels), span(0)),
            Kind::NormalisedOfi => {
                let ofi = self.sum_of(Fact::Ofi(levels), span(0));
                let depths = self.sum_of(Fact::BothDepths(levels), span(0));
                let ticks = self.ticks(span(0));
                self.add(Node::Normalised(ofi, depths, ticks, 2 * levels))
            }
            Kind::EwOfi => self.forgotten(Fact::Ofi(levels), span(0)),
            Kind::TradeFlow => self.sum_of(Fact::SignedVolume, span(0)),
            Kind::TradeVolume => self.sum_of(Fact::Volume, span(0)),
            Kind::TradeImbalance => {
                let (signed, all) = (self.sum_of(Fact::SignedVolume, span(0)), self.sum_of(Fact::Volume, span(0)));
                self.add(Node::Ratio(signed, all))
            }
            Kind::EwTradeFlow => self.forgotten(Fact::SignedVolume, span(0)),
            Kind::VwapDeviation => {
                let mid = self.fact(Fact::Mid);
                let (notional, volume) = (self.sum_of(Fact::Notional, span(0)), self.sum_of(Fact::Volume, span(0)));
                self.add(Node::Deviation(mid, notional, volume))
            }
            Kind::Added => self.sum_of(Fact::Added(feature.side()), span(0)),
            Kind::Removed => self.sum_of(Fact::Removed(feature.side()), span(0)),
            Kind::FlowImbalance => {
                let (net, gross) = (self.sum_of(Fact::NetFlow, span(0)), self.sum_of(Fact::GrossFlow, span(0)));
                self.add(Node::Ratio(net, gross))
            }
            Kind::Count => self.sum_of(Fact::Happened(feature.what()), span(0)),
            Kind::Intensity => self.forgotten(Fact::Happened(feature.what()), span(0)),
            Kind::Since => self.fact(Fact::Since(feature.what())),
            Kind::PriceRun => self.fact(Fact::PriceRun),
            Kind::TradeRun => self.fact(Fact::TradeRun),
            Kind::Return => self.returned(span(0)),
            Kind::Volatility => {
                let sum = self.sum_of(Fact::SquaredReturn, span(0));
                self.add(Node::Root(sum))
            }
            Kind::EwVolatility => {
                let mean = self.forgotten(Fact::SquaredReturn, span(0));
                self.add(Node::Root(mean))
            }
            Kind::Bipower => {
                let sum = self.sum_of(Fact::ReturnProduct, span(0));
                self.add(Node::BipowerRoot(sum))
            }
            Kind::JumpShare => {
                let products = self.sum_of(Fact::ReturnProduct, span(0));
                let squares = self.sum_of(Fact::SquaredReturn, span(0));
                self.add(Node::JumpShare(products, squares))
            }
            Kind::Range => {
                let mid = self.fact(Fact::Mid);
                let (most, least) = (self.extreme(mid, span(0), 1), self.extreme(mid, span(0), -1));
                self.add(Node::Range(most, least, mid))
            }
            Kind::Position => {
                let mid = self.fact(Fact::Mid);
                let (most, least) = (self.extreme(mid, span(0), 1), self.extreme(mid, span(0), -1));
                self.add(Node::Position(mid, least, most))
            }
            Kind::KyleLambda => {
                let (y, x) = (self.returned(span(0)), self.sum_of(Fact::SignedVolume, span(0)));
                self.beta(y, x, span(1))
            }
            Kind::OfiLambda => {
                let (y, x) = (self.returned(span(0)), self.sum_of(Fact::Ofi(levels), span(0)));
                self.beta(y, x, span(1))
            }
            Kind::RollSpread => {
                let (mean, mid) = (self.mean_of(Fact::ChangeProduct, span(0)), self.fact(Fact::Mid));
                self.add(Node::Roll(mean, mid))
            }
            Kind::EffectiveSpread => self.mean_of(Fact::EffectiveSpread, span(0)),
            Kind::Autocorrelation => {
                let returned = self.fact(Fact::Return);
                let before = self.before(returned, span(0));
                let product = self.add(Node::Product(returned, before));
                let (product, square) = (self.mean(product, span(1)), self.mean_of(Fact::SquaredReturn, span(1)));
                self.add(Node::Ratio(product, square))
            }
            Kind::SignAutocorrelation => self.mean_of(Fact::SignProduct, span(0)),
            Kind::Mean => {
                let inner = self.feature(feature.inner().expect("it has one"));
                let (sum, ticks) = (self.sum(inner, span(0)), self.ticks(span(0)));
                self.add(Node::Ratio(sum, ticks))
            }
            Kind::Ew => {
                let inner = self.feature(feature.inner().expect("it has one"));
                self.mean(inner, span(0))
            }
            Kind::Zscore => {
                let inner = self.feature(feature.inner().expect("it has one"));
                let half_life = self.half_life(span(0));
                self.add(Node::Zscore(inner, half_life))
            }
            Kind::Change => {
                let inner = self.feature(feature.inner().expect("it has one"));
                let before = self.before(inner, span(0));
                self.add(Node::Difference(inner, before))
            }
            Kind::Leader => self.leading(feature.inner().expect("it has one")),
            Kind::Basis => {
                let (leader, mid) = (self.add(Node::Leader(0)), self.fact(Fact::Mid));
                self.add(Node::LogReturn(leader, mid))
            }
        }
    }

    /// Whether a window is one of time.
    pub fn is_timed(&self) -> bool {
        self.windows.iter().any(|w| matches!(w, Span::Micros(_)))
    }

    /// Whether anything is asked of a leader.
    pub fn has_leader(&self) -> bool {
        self.nodes.iter().any(|n| matches!(n, Node::Leader(_)))
    }
}

/// The number of an item in a list, which is lengthened by it if it is new.
fn number_of(list: &mut Vec<Span>, item: Span) -> usize {
    list.iter().position(|i| *i == item).unwrap_or_else(|| {
        list.push(item);
        list.len() - 1
    })
}
