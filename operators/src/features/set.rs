//! The features of one instrument, tick after tick.
//!
//! [`FeatureSet::update`] takes a tick and gives the features; NaN is one that is not defined. [`FeatureSet::break_off`] ends
//! a history: what comes after knows nothing of what was before.

use std::sync::Arc;

use super::graph::{Graph, Node};
use super::market::{BP, Fact, Market, Tick, log_return};
use super::ring::{Extreme, Ring, Sum, Window};
use super::save::{Reader, Writer};
use super::span::Span;

/// The features of one instrument.
#[derive(Clone, Debug)]
pub struct FeatureSet {
    graph: Arc<Graph>,
    market: Market,
    /// The number of the next tick; it never goes back.
    next: u64,
    /// The number and time of the first tick since the last break.
    born: u64,
    first_at: i64,
    last_at: i64,
    windows: Vec<Window>,
    forgets: Vec<Forget>,
    rings: Vec<Ring>,
    /// When the ticks were, as long as a window of time looks at one.
    times: Vec<i64>,
    cells: Vec<Cell>,
    /// The numbers of the last tick.
    values: Vec<f64>,
    outputs: Vec<f64>,
    /// Everything up to here, exclusive, has been saved.
    saved: u64,
    /// Pieces of ticks that are stored.
    stored: std::ops::Range<u64>,
}

/// How much is left of what was there a tick ago.
#[derive(Clone, Copy, Debug)]
struct Forget {
    share: f64,
    /// By which a forgotten sum becomes a rate per second: ln 2 / h.
    per_sec: f64,
    /// Whether the past is as long as the half-life.
    is_warm: bool,
}

/// What a node keeps.
#[derive(Clone, Debug)]
enum Cell {
    Nothing,
    Sum(Box<Sum>),
    Extreme(Extreme),
    /// The forgotten sum and weight.
    Mean([f64; 2]),
    /// The forgotten sum.
    Rate(f64),
    /// Weight, mean, sum of squares.
    Zscore([f64; 3]),
    /// Weight, means of y and x, sums of squares of x and of products.
    Beta([f64; 5]),
}

/// So many ticks are stored together.
const PIECE: u64 = 32;

/// A mean whose newest value weighs less than this is forgotten.
const FORGOTTEN: f64 = 1.0 / 1_048_576.0;

/// A variance below this share of the squared mean is rounding and no variance.
const FLAT: f64 = 1e-20;

impl FeatureSet {
    /// Before the first tick.
    pub fn new(graph: Arc<Graph>) -> FeatureSet {
        let rings = graph.rings.iter().map(|r| Ring::new(r.reach, r.windows.clone())).collect();
        let mut set = FeatureSet {
            market: Market::new(graph.levels),
            next: 0,
            born: 0,
            first_at: 0,
            last_at: 0,
            windows: vec![Window::default(); graph.windows.len()],
            forgets: Vec::new(),
            rings,
            times: vec![0; PIECE as usize * 2],
            cells: Vec::new(),
            values: vec![f64::NAN; graph.nodes.len()],
            outputs: vec![f64::NAN; graph.outputs.len()],
            saved: 0,
            stored: 0..0,
            graph,
        };
        set.break_off();
        set
    }

    /// Ends a history: the next tick is the first.
    pub fn break_off(&mut self) {
        self.market = Market::new(self.graph.levels);
        self.born = self.next;
        for window in &mut self.windows {
            *window = Window { start: self.next, is_full: false, before: None };
        }
        let next = self.next;
        self.cells = self.graph.nodes.iter().map(|node| Cell::new(*node, next)).collect();
        self.forgets = vec![Forget { share: 1.0, per_sec: 0.0, is_warm: false }; self.graph.half_lives.len()];
        for (forget, span) in self.forgets.iter_mut().zip(&self.graph.half_lives) {
            match span {
                Span::Ticks(ticks) => forget.share = libm::exp2(-1.0 / *ticks as f64),
                Span::Micros(micros) => forget.per_sec = std::f64::consts::LN_2 / (*micros as f64 / 1e6),
            }
        }
        self.values.fill(f64::NAN);
        self.outputs.fill(f64::NAN);
    }

    /// The mid and the spread after the last tick.
    pub fn mid_and_spread(&self) -> [f64; 2] {
        [Fact::Mid, Fact::Spread].map(|fact| clean(self.market.fact(fact)))
    }

    /// The features after the last tick; NaN is one that is not defined.
    pub fn features(&self) -> &[f64] {
        &self.outputs
    }

    /// When the last tick was, if there was one.
    pub fn last_at(&self) -> Option<i64> {
        (self.next > 0).then_some(self.last_at)
    }

    /// Takes the next tick, not before the last. `leader` are the leader's mid and what is asked of it.
    pub fn update(&mut self, tick: &Tick, leader: &[f64]) -> &[f64] {
        let is_first = self.born == self.next;
        let number = self.next;
        self.next += 1;
        if is_first {
            self.first_at = tick.at;
        }
        self.pass_time(number, tick.at, is_first);
        self.last_at = tick.at;
        self.market.take(tick);
        let FeatureSet { graph, market, windows, forgets, rings, cells, values, outputs, born, .. } = self;
        for (at, fact) in &graph.facts {
            values[*at] = clean(market.fact(*fact));
            keep(graph, rings, windows, (*at, values[*at]), number, *born);
        }
        for at in &graph.steps {
            let at = *at;
            let now = Now { graph, values, rings, windows, forgets, number, leader };
            values[at] = clean(now.compute(graph.nodes[at], &mut cells[at]));
            keep(graph, rings, windows, (at, values[at]), number, *born);
        }
        for (output, at) in outputs.iter_mut().zip(&graph.outputs) {
            *output = values[*at];
        }
        &self.outputs
    }

    /// Moves windows and half-lives on to a tick.
    fn pass_time(&mut self, number: u64, at: i64, is_first: bool) {
        if self.graph.is_timed() {
            self.put_time(number, at);
        }
        let graph = &self.graph;
        let mask = self.times.len() as u64 - 1;
        for (window, span) in self.windows.iter_mut().zip(&graph.windows) {
            match span {
                Span::Ticks(ticks) => {
                    window.start = self.born.max((number + 1).saturating_sub(*ticks));
                    window.is_full = number + 1 - self.born >= *ticks;
                    window.before = number.checked_sub(*ticks).filter(|before| *before >= self.born);
                }
                Span::Micros(micros) => {
                    // The window is (at − span, at].
                    let from = at.saturating_sub(*micros);
                    while self.times[(window.start & mask) as usize] <= from {
                        window.start += 1;
                    }
                    window.is_full = window.start > self.born;
                    window.before = window.start.checked_sub(1).filter(|before| *before >= self.born);
                }
            }
        }
        let passed = if is_first { 0 } else { at.saturating_sub(self.last_at) };
        for (forget, span) in self.forgets.iter_mut().zip(&graph.half_lives) {
            match span {
                Span::Ticks(ticks) => forget.is_warm = number + 1 - self.born >= *ticks,
                Span::Micros(micros) => {
                    forget.share = if passed == 0 { 1.0 } else { libm::exp2(-(passed as f64 / *micros as f64)) };
                    forget.is_warm = at.saturating_sub(self.first_at) >= *micros;
                }
            }
        }
    }

    fn put_time(&mut self, number: u64, at: i64) {
        let needs = self.needs(number);
        if number - needs >= self.times.len() as u64 {
            let old = std::mem::take(&mut self.times);
            self.times = vec![0; (number - needs + 1).next_power_of_two() as usize];
            let (mask, old_mask) = (self.times.len() as u64 - 1, old.len() as u64 - 1);
            for tick in needs..number {
                self.times[(tick & mask) as usize] = old[(tick & old_mask) as usize];
            }
        }
        let mask = self.times.len() as u64 - 1;
        self.times[(number & mask) as usize] = at;
    }

    /// The first tick whose time or values a window still looks at when `number` is the newest.
    fn needs(&self, number: u64) -> u64 {
        let timed = self.graph.windows.iter().zip(&self.windows).filter(|(span, _)| matches!(span, Span::Micros(_)));
        let first = timed.map(|(_, window)| window.start.saturating_sub(1)).fold(number, u64::min);
        first.max(self.born)
    }

    /// Writes everything but the rings. They are told by [`FeatureSet::pieces`].
    pub fn save(&self, out: &mut Writer) {
        out.int(self.next as i64);
        out.int(self.born as i64);
        out.int(self.first_at);
        out.int(self.last_at);
        self.market.save(out);
        for window in &self.windows {
            out.int(window.start as i64);
        }
        for cell in &self.cells {
            match cell {
                Cell::Nothing | Cell::Sum(_) | Cell::Extreme(_) => {}
                Cell::Mean(kept) => out.floats(kept),
                Cell::Rate(kept) => out.float(*kept),
                Cell::Zscore(kept) => out.floats(kept),
                Cell::Beta(kept) => out.floats(kept),
            }
        }
        out.floats(&self.outputs);
    }

    /// The past that windows look at, in pieces of so many ticks, by number: those that are new or changed since the last
    /// call with their bytes, and those that are needed no more without.
    pub fn pieces(&mut self) -> Vec<(u64, Option<Vec<u8>>)> {
        let first = match self.next.checked_sub(1) {
            Some(last) if self.next > self.born => {
                let rings = self.rings.iter().map(|r| r.needs(last, &self.windows)).min().unwrap_or(self.next);
                rings.min(self.needs(last)).max(self.born)
            }
            _ => self.next,
        };
        // No piece is needed where no window looks back.
        let is_needed = !self.rings.is_empty() && first < self.next;
        let live = if is_needed { first / PIECE..self.next.div_ceil(PIECE) } else { 0..0 };
        let mut pieces = Vec::new();
        for piece in self.stored.clone().filter(|piece| !live.contains(piece)) {
            pieces.push((piece, None));
        }
        for piece in live.clone().filter(|piece| (piece + 1) * PIECE > self.saved || !self.stored.contains(piece)) {
            let (from, to) = ((piece * PIECE).max(first), ((piece + 1) * PIECE).min(self.next));
            let mut out = Writer::default();
            out.int(from as i64);
            out.int(to as i64);
            for tick in from..to {
                out.int(self.times[(tick & (self.times.len() as u64 - 1)) as usize]);
                for ring in &self.rings {
                    // What this ring has let go of it does not need.
                    out.float(if tick + ring.capacity() >= self.next { ring.at(tick) } else { f64::NAN });
                }
            }
            pieces.push((piece, Some(out.0)));
        }
        (self.saved, self.stored) = (self.next, live);
        pieces
    }

    /// What [`FeatureSet::save`] and [`FeatureSet::pieces`] wrote.
    pub fn restore(graph: Arc<Graph>, bytes: &mut Reader<'_>, pieces: &[(u64, Vec<u8>)]) -> FeatureSet {
        let mut set = FeatureSet::new(graph);
        (set.next, set.born) = (bytes.int() as u64, bytes.int() as u64);
        (set.first_at, set.last_at) = (bytes.int(), bytes.int());
        set.market = Market::restore(set.graph.levels, bytes);
        for window in &mut set.windows {
            window.start = bytes.int() as u64;
        }
        for cell in &mut set.cells {
            let mut fill = |kept: &mut [f64]| kept.iter_mut().for_each(|value| *value = bytes.float());
            match cell {
                Cell::Nothing | Cell::Sum(_) | Cell::Extreme(_) => {}
                Cell::Mean(kept) => fill(kept),
                Cell::Rate(kept) => fill(std::slice::from_mut(kept)),
                Cell::Zscore(kept) => fill(kept),
                Cell::Beta(kept) => fill(kept),
            }
        }
        set.outputs.iter_mut().for_each(|output| *output = bytes.float());
        set.refill(pieces);
        set
    }

    /// Fills rings with what is stored, and windows from them.
    fn refill(&mut self, pieces: &[(u64, Vec<u8>)]) {
        self.saved = self.next;
        if let (Some((first, _)), Some((last, _))) = (pieces.first(), pieces.last()) {
            self.stored = *first..last + 1;
        }
        for (_, piece) in pieces {
            let mut bytes = Reader(piece);
            let (from, to) = (bytes.int() as u64, bytes.int() as u64);
            for tick in from..to {
                let at = bytes.int();
                // Room for everything that is stored: what windows need lies within it.
                self.put_stored_time(tick, at);
                for ring in &mut self.rings {
                    let value = bytes.float();
                    let windows = &self.windows;
                    let needs =
                        if ring.windows.is_empty() { tick } else { ring.needs(self.next - 1, windows).min(tick) };
                    ring.put(tick, value, needs.max(self.born));
                }
            }
        }
        if self.born == self.next {
            let next = self.next;
            self.windows.iter_mut().for_each(|w| *w = Window { start: next, ..Window::default() });
            self.cells = self.graph.nodes.iter().map(|node| Cell::new(*node, next)).collect();
            return;
        }
        let last = self.next - 1;
        for (at, node) in self.graph.nodes.iter().enumerate() {
            let ring = |of: usize| &self.rings[self.graph.ring_of[of].expect("it is kept")];
            match (node, &mut self.cells[at]) {
                (Node::Sum(of, window), Cell::Sum(sum)) => **sum = Sum::restore(ring(*of), last, self.windows[*window]),
                (Node::Extreme(of, window, sign), Cell::Extreme(extreme)) => {
                    *extreme = Extreme::restore(f64::from(*sign), ring(*of), last, self.windows[*window]);
                }
                _ => {}
            }
        }
    }

    fn put_stored_time(&mut self, tick: u64, at: i64) {
        let needs = self.needs(self.next - 1).min(tick);
        while tick - needs >= self.times.len() as u64 {
            let old = std::mem::take(&mut self.times);
            self.times = vec![0; old.len() * 2];
            for tick in needs..tick {
                let (slot, old_slot) = (tick & (self.times.len() as u64 - 1), tick & (old.len() as u64 - 1));
                self.times[slot as usize] = old[old_slot as usize];
            }
        }
        let mask = self.times.len() as u64 - 1;
        self.times[(tick & mask) as usize] = at;
    }
}

/// Keeps a number's value, if a window looks back at it.
#[inline]
fn keep(graph: &Graph, rings: &mut [Ring], windows: &[Window], (at, value): (usize, f64), number: u64, born: u64) {
    if let Some(ring) = graph.ring_of[at] {
        let ring = &mut rings[ring];
        let needs = if ring.windows.is_empty() { number } else { ring.needs(number, windows).max(born) };
        ring.put(number, value, needs);
    }
}

/// What a number is computed of.
struct Now<'a> {
    graph: &'a Graph,
    values: &'a [f64],
    rings: &'a [Ring],
    windows: &'a [Window],
    forgets: &'a [Forget],
    number: u64,
    leader: &'a [f64],
}

impl Now<'_> {
    fn ring(&self, of: usize) -> &Ring {
        &self.rings[self.graph.ring_of[of].expect("it is kept")]
    }

    #[inline]
    fn compute(&self, node: Node, cell: &mut Cell) -> f64 {
        let (values, half_pi) = (self.values, std::f64::consts::FRAC_PI_2);
        match (node, cell) {
            (Node::Leader(at), _) => self.leader.get(at).copied().unwrap_or(f64::NAN),
            (Node::Sum(of, window), Cell::Sum(sum)) => sum.take(self.ring(of), self.number, self.windows[window]),
            (Node::Extreme(of, window, _), Cell::Extreme(extreme)) => {
                extreme.take(values[of], self.number, self.windows[window])
            }
            (Node::Before(of, window), _) => {
                self.windows[window].before.map_or(f64::NAN, |before| self.ring(of).at(before))
            }
            (Node::Ticks(window), _) => (self.number + 1 - self.windows[window].start) as f64,
            (Node::Mean(of, half_life), Cell::Mean(kept)) => mean(kept, values[of], self.forgets[half_life]),
            (Node::Rate(of, half_life), Cell::Rate(kept)) => rate(kept, values[of], self.forgets[half_life]),
            (Node::Zscore(of, half_life), Cell::Zscore(kept)) => zscore(kept, values[of], self.forgets[half_life]),
            (Node::Beta(y, x, half_life), Cell::Beta(kept)) => {
                beta(kept, values[y], values[x], self.forgets[half_life])
            }
            (Node::Ratio(a, b), _) => values[a] / values[b],
            (Node::Product(a, b), _) => values[a] * values[b],
            (Node::Plus(a, b), _) => values[a] + values[b],
            (Node::Difference(a, b), _) => values[a] - values[b],
            (Node::LogReturn(from, to), _) => log_return(values[from], values[to]),
            (Node::Root(of), _) => values[of].sqrt(),
            (Node::BipowerRoot(of), _) => (half_pi * values[of]).sqrt(),
            (Node::JumpShare(products, squares), _) => {
                let share = 1.0 - half_pi * values[products] / values[squares];
                if share.is_nan() { share } else { share.max(0.0) }
            }
            (Node::Deviation(mid, notional, volume), _) => {
                (values[mid] - values[notional] / values[volume]) / values[mid] * BP
            }
            (Node::Range(most, least, mid), _) => (values[most] - values[least]) / values[mid] * BP,
            (Node::Position(mid, least, most), _) => (values[mid] - values[least]) / (values[most] - values[least]),
            (Node::Normalised(sum, sizes, ticks, levels), _) => {
                values[sum] / (values[sizes] / (values[ticks] * levels as f64))
            }
            (Node::Roll(mean, mid), _) => {
                let mean = values[mean];
                if mean.is_nan() { mean } else { 2.0 * (-mean).max(0.0).sqrt() / values[mid] * BP }
            }
            (_, _) => unreachable!("facts are not computed, and every other node has its cell"),
        }
    }
}

impl Cell {
    fn new(node: Node, next: u64) -> Cell {
        match node {
            Node::Sum(..) => Cell::Sum(Box::new(Sum::empty(next))),
            Node::Extreme(_, _, sign) => Cell::Extreme(Extreme::new(f64::from(sign))),
            Node::Mean(..) => Cell::Mean([0.0; 2]),
            Node::Rate(..) => Cell::Rate(0.0),
            Node::Zscore(..) => Cell::Zscore([0.0; 3]),
            Node::Beta(..) => Cell::Beta([0.0; 5]),
            _ => Cell::Nothing,
        }
    }
}

/// One zero, and NaN for what is no number.
fn clean(value: f64) -> f64 {
    if value.is_finite() { value + 0.0 } else { f64::NAN }
}

fn mean([sum, weight]: &mut [f64; 2], value: f64, forget: Forget) -> f64 {
    *sum *= forget.share;
    *weight *= forget.share;
    if !value.is_nan() {
        *sum += value;
        *weight += 1.0;
    }
    if forget.is_warm && *weight >= FORGOTTEN { *sum / *weight } else { f64::NAN }
}

fn rate(sum: &mut f64, value: f64, forget: Forget) -> f64 {
    *sum = *sum * forget.share + if value.is_nan() { 0.0 } else { value };
    if forget.is_warm { *sum * forget.per_sec } else { f64::NAN }
}

/// D. West's update of a weighted mean and sum of squares (1979), with forgetting.
fn zscore([weight, mean, square]: &mut [f64; 3], value: f64, forget: Forget) -> f64 {
    *weight *= forget.share;
    *square *= forget.share;
    if value.is_nan() {
        return f64::NAN;
    }
    *weight += 1.0;
    let deviation = value - *mean;
    *mean += deviation / *weight;
    *square += deviation * (value - *mean);
    let variance = *square / *weight;
    if forget.is_warm && variance > FLAT * *mean * *mean { (value - *mean) / variance.sqrt() } else { f64::NAN }
}

/// The same of two numbers: the slope of y on x.
fn beta([weight, mean_y, mean_x, square, product]: &mut [f64; 5], y: f64, x: f64, forget: Forget) -> f64 {
    *weight *= forget.share;
    *square *= forget.share;
    *product *= forget.share;
    if !y.is_nan() && !x.is_nan() {
        *weight += 1.0;
        let (from_x, from_y) = (x - *mean_x, y - *mean_y);
        *mean_x += from_x / *weight;
        *mean_y += from_y / *weight;
        *square += from_x * (x - *mean_x);
        *product += from_x * (y - *mean_y);
    }
    let is_flat = *square <= FLAT * *mean_x * *mean_x * *weight;
    if forget.is_warm && *weight >= FORGOTTEN && !is_flat { *product / *square } else { f64::NAN }
}
