//! Learns an offline value function by a [`Network`]: minibatches of recorded transitions, a target network, Adam.
//!
//! What is made small is the mean over the history of (R + γ^Δt · V̂(s′, t′) − V(s, t))², plus λ times the bound of the
//! network's Lipschitz constant (CVNet: [`super::network`]). V̂ is the network as it was at the last refresh (Mnih et al.
//! 2015), and what comes after a transition that ends the day or the episode is 0, as in dynamic programming.
//!
//! Every draw is a function of the seed and the number of the step, and everything runs on one thread. So a run that goes on
//! from a checkpoint ends with the bytes of one that was never broken off.

use std::collections::BTreeMap;

use super::artefact::{Reader, fnv};
use super::network::{Network, Pass};
use crate::dispatch::random::draw;

/// Transitions a step.
const BATCH: u64 = 64;
/// Steps between two refreshes of the target network.
const REFRESH: u64 = 200;
/// The first step size; steps fall to 0 in a straight line.
const RATE: f64 = 2e-3;
/// Adam's (Kingma and Ba 2015), as they give them.
const DECAYS: [f64; 2] = [0.9, 0.999];
const EPSILON: f64 = 1e-8;
/// Tiles of time, in slots.
const SPANS: [i64; 3] = [1, 4, 16];

const MAGIC: &[u8; 8] = b"THALWEGC";
const VERSION: u64 = 1;

/// How a network is learned.
#[derive(Clone, Debug, PartialEq)]
pub struct Fitting {
    /// The sides of the tiles; none: states are keys alone.
    pub sizes: Vec<f64>,
    /// How many steps.
    pub steps: u64,
    /// λ, the weight of the Lipschitz bound.
    pub lipschitz: f64,
    /// What draws depend on.
    pub seed: u64,
}

/// A tile of a place or a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Tile {
    Key(u32),
    Square(u8, i64, i64),
    Span(u8, i64),
}

/// The history as a network sees it.
#[derive(Debug)]
pub struct Examples {
    sizes: Vec<f64>,
    numbers: BTreeMap<Tile, u32>,
    /// Tiles of where each transition began, one after the other; all states have as many.
    from: Vec<u32>,
    /// Of where it ended; any where nothing comes after.
    to: Vec<u32>,
    rewards: Vec<f64>,
    /// 0 where nothing comes after.
    discounts: Vec<f64>,
}

/// A state: the number of its key's cell, its place and its slot.
#[derive(Clone, Copy, Debug)]
pub struct State {
    /// The cell of the key.
    pub cell: u32,
    /// The coordinates; without tiles they do not count.
    pub place: (f64, f64),
    /// The slot of the day.
    pub slot: u32,
}

impl Examples {
    /// None yet.
    pub fn new(sizes: Vec<f64>) -> Examples {
        let (from, to, rewards, discounts) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        Examples { sizes, numbers: BTreeMap::new(), from, to, rewards, discounts }
    }

    /// One more.
    pub fn push(&mut self, from: State, reward: f64, discount: f64, to: Option<State>) {
        let on = self.number(from);
        self.from.extend(&on);
        let next = to.map_or(on, |to| self.number(to));
        self.to.extend(&next);
        self.rewards.push(reward);
        self.discounts.push(if to.is_some() { discount } else { 0.0 });
    }

    /// Which of the tiles that are known a state is on.
    fn on(&self, state: State) -> Vec<u32> {
        self.tiles(state).iter().filter_map(|tile| self.numbers.get(tile).copied()).collect()
    }

    fn number(&mut self, state: State) -> Vec<u32> {
        let tiles = self.tiles(state);
        let mut number = |tile| {
            let next = self.numbers.len() as u32;
            *self.numbers.entry(tile).or_insert(next)
        };
        tiles.into_iter().map(&mut number).collect()
    }

    /// Two grids of each size, the second shifted by half a tile; and the spans of time.
    fn tiles(&self, state: State) -> Vec<Tile> {
        let mut tiles = Vec::with_capacity(2 * self.sizes.len() + SPANS.len() + 1);
        if self.sizes.is_empty() {
            tiles.push(Tile::Key(state.cell));
        }
        for (level, size) in self.sizes.iter().enumerate() {
            let (x, y) = (state.place.0 / size, state.place.1 / size);
            for (grid, shift) in [0.0, 0.5].into_iter().enumerate() {
                let level = (2 * level + grid) as u8;
                tiles.push(Tile::Square(level, libm::floor(x + shift) as i64, libm::floor(y + shift) as i64));
            }
        }
        let spans = SPANS.iter().zip(0..).map(|(span, level)| Tile::Span(level, i64::from(state.slot) / span));
        tiles.extend(spans);
        tiles
    }

    fn width(&self) -> usize {
        self.from.len().checked_div(self.rewards.len()).unwrap_or(0)
    }

    fn digest(&self) -> u64 {
        let mut bytes: Vec<u8> = Vec::new();
        [&self.from, &self.to].iter().for_each(|on| on.iter().for_each(|t| bytes.extend_from_slice(&t.to_le_bytes())));
        let floats = self.rewards.iter().chain(&self.discounts);
        floats.for_each(|f| bytes.extend_from_slice(&f.to_bits().to_le_bytes()));
        fnv(&bytes)
    }
}

/// A network that is being learned.
pub struct Fit<'a> {
    fitting: Fitting,
    examples: &'a Examples,
    /// Of the history and everything that changes the result.
    fingerprint: u64,
    how: String,
    /// What values are divided by while they are learned: the root of the mean square of the rewards.
    scale: f64,
    step: u64,
    network: Network,
    target: Network,
    /// Adam's moments.
    moments: [Vec<f64>; 2],
    gradient: Vec<f64>,
    loss: f64,
}

impl<'a> Fit<'a> {
    /// Before the first step. `how` says whatever else changes the result.
    pub fn new(fitting: &Fitting, examples: &'a Examples, how: &str) -> Fit<'a> {
        let tiles = examples.numbers.len();
        let network = Network::new(tiles, fitting.seed);
        let squares: f64 = examples.rewards.iter().map(|r| r * r).sum();
        let mean = squares / examples.rewards.len().max(1) as f64;
        let Fitting { sizes, steps, lipschitz, seed } = fitting;
        let how = format!("{steps} steps, tiles of {sizes:?}, lipschitz {lipschitz}, seed {seed}; {how}");
        let fingerprint = fnv(format!("{how}; {:016x}", examples.digest()).as_bytes());
        Fit {
            fitting: fitting.clone(),
            examples,
            fingerprint,
            how,
            scale: if mean > 0.0 { mean.sqrt() } else { 1.0 },
            step: 0,
            target: network.clone(),
            moments: [vec![0.0; Network::len(tiles)], vec![0.0; Network::len(tiles)]],
            gradient: vec![0.0; Network::len(tiles)],
            network,
            loss: 0.0,
        }
    }

    /// How many steps were made.
    pub fn step(&self) -> u64 {
        self.step
    }

    /// How it is learned, in one line.
    pub fn how(&self) -> &str {
        &self.how
    }

    /// Whether all were.
    pub fn is_over(&self) -> bool {
        self.step >= self.fitting.steps
    }

    /// The mean squared error of the last step's transitions, in squares of the rewards' unit, and the Lipschitz bound.
    pub fn figures(&self) -> (f64, f64) {
        (self.loss * self.scale * self.scale, self.network.bound())
    }

    /// Makes up to `count` steps.
    pub fn run(&mut self, count: u64) {
        for _ in 0..count.min(self.fitting.steps - self.step) {
            self.batch();
        }
    }

    fn batch(&mut self) {
        let (examples, width) = (self.examples, self.examples.width());
        let count = examples.rewards.len() as u64;
        self.gradient.fill(0.0);
        self.loss = 0.0;
        let mut pass = Pass::default();
        for i in 0..BATCH.min(count.saturating_mul(BATCH)) {
            let at = (draw(self.fitting.seed, self.step, i) % count) as usize;
            let on = &examples.from[at * width..][..width];
            let mut goal = examples.rewards[at] / self.scale;
            if examples.discounts[at] > 0.0 {
                goal += examples.discounts[at] * self.target.value(&examples.to[at * width..][..width]);
            }
            let error = self.network.forward(on, &mut pass) - goal;
            self.loss += error * error / BATCH as f64;
            self.network.backward(on, &pass, 2.0 * error / BATCH as f64, &mut self.gradient);
        }
        self.network.penalize(self.fitting.lipschitz, &mut self.gradient);
        self.adam();
        self.step += 1;
        if self.step.is_multiple_of(REFRESH) {
            self.target.numbers.copy_from_slice(&self.network.numbers);
        }
    }

    fn adam(&mut self) {
        let [b1, b2] = DECAYS;
        let n = (self.step + 1) as f64;
        let rate = RATE * (1.0 - self.step as f64 / self.fitting.steps as f64) / (1.0 - libm::pow(b1, n));
        let spread = 1.0 / (1.0 - libm::pow(b2, n));
        let [mean, square] = &mut self.moments;
        let numbers = self.network.numbers.iter_mut().zip(&self.gradient);
        for ((number, g), (m, v)) in numbers.zip(mean.iter_mut().zip(square.iter_mut())) {
            *m = b1 * *m + (1.0 - b1) * g;
            *v = b2 * *v + (1.0 - b2) * g * g;
            *number -= rate * *m / ((*v * spread).sqrt() + EPSILON);
        }
    }

    /// V of a state. A tile no transition was on says nothing.
    pub fn value(&self, state: State) -> f64 {
        self.scale * self.network.value(&self.examples.on(state))
    }

    /// Everything from which the run can go on: `THALWEGC`, the version, the fingerprint, the step, how many numbers there
    /// are, the network's, the target's and Adam's; and the checksum, 64 bits FNV-1a of all before it.
    pub fn checkpoint(&self) -> Vec<u8> {
        let mut out = MAGIC.to_vec();
        for number in [VERSION, self.fingerprint, self.step, self.network.numbers.len() as u64] {
            out.extend_from_slice(&number.to_le_bytes());
        }
        for numbers in [&self.network.numbers, &self.target.numbers, &self.moments[0], &self.moments[1]] {
            numbers.iter().for_each(|v| out.extend_from_slice(&v.to_bits().to_le_bytes()));
        }
        let sum = fnv(&out);
        out.extend_from_slice(&sum.to_le_bytes());
        out
    }

    /// Goes on from a checkpoint. The error says what is wrong with it; then nothing has changed.
    pub fn resume(&mut self, bytes: &[u8]) -> Result<(), String> {
        let damaged = || "the checkpoint is damaged".to_owned();
        let whole = bytes.len().checked_sub(8).ok_or_else(damaged)?;
        let (whole, sum) = bytes.split_at(whole);
        let rest = whole.strip_prefix(MAGIC).ok_or_else(|| "it is no checkpoint".to_owned())?;
        if Reader(sum).number() != Some(fnv(whole)) {
            return Err(damaged());
        }
        let mut reader = Reader(rest);
        let mut head = || reader.number().ok_or_else(damaged);
        let [version, fingerprint, step, count] = [head()?, head()?, head()?, head()?];
        if version != VERSION {
            return Err(format!("the checkpoint has version {version}, and this is version {VERSION}"));
        }
        let len = self.network.numbers.len();
        if fingerprint != self.fingerprint || count != len as u64 || step > self.fitting.steps {
            return Err("the checkpoint is of another history or of other options".to_owned());
        }
        let numbers: Option<Vec<f64>> = (0..4 * len).map(|_| reader.number().map(f64::from_bits)).collect();
        let numbers = numbers.filter(|_| reader.0.is_empty()).ok_or_else(damaged)?;
        self.step = step;
        self.network.numbers.copy_from_slice(&numbers[..len]);
        self.target.numbers.copy_from_slice(&numbers[len..2 * len]);
        self.moments[0].copy_from_slice(&numbers[2 * len..3 * len]);
        self.moments[1].copy_from_slice(&numbers[3 * len..]);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn examples() -> Examples {
        let mut examples = Examples::new(vec![1.0, 4.0]);
        for i in 0..200u32 {
            let state = |i: u32| State { cell: i % 7, place: (f64::from(i % 7), f64::from(i % 3)), slot: i % 5 };
            let next = (i % 4 > 0).then(|| state(i + 1));
            examples.push(state(i), f64::from(i % 7), 0.9, next);
        }
        examples
    }

    const FITTING: Fitting = Fitting { sizes: Vec::new(), steps: 900, lipschitz: 1e-4, seed: 5 };

    #[test]
    fn going_on_from_a_checkpoint_is_as_if_never_broken_off() {
        let examples = examples();
        let mut whole = Fit::new(&FITTING, &examples, "");
        whole.run(u64::MAX);
        assert!(whole.is_over() && whole.figures().0.is_finite());
        let mut part = Fit::new(&FITTING, &examples, "");
        part.run(317);
        let bytes = part.checkpoint();
        let mut rest = Fit::new(&FITTING, &examples, "");
        rest.resume(&bytes).unwrap();
        assert_eq!(rest.step(), 317);
        rest.run(200);
        rest.run(u64::MAX);
        assert_eq!(rest.checkpoint(), whole.checkpoint());
    }

    #[test]
    fn a_checkpoint_that_does_not_fit_is_refused() {
        let examples = examples();
        let mut fit = Fit::new(&FITTING, &examples, "");
        fit.run(3);
        let bytes = fit.checkpoint();
        let mut other = Fit::new(&Fitting { seed: 6, ..FITTING }, &examples, "");
        assert!(other.resume(&bytes).unwrap_err().contains("other options"));
        assert!(Fit::new(&FITTING, &examples, "more").resume(&bytes).is_err());
        let before = fit.checkpoint();
        for cut in (0..bytes.len()).step_by(97) {
            assert!(fit.resume(&bytes[..cut]).is_err(), "cut at {cut}");
        }
        for at in (0..bytes.len()).step_by(89) {
            let mut bytes = bytes.clone();
            bytes[at] ^= 4;
            assert!(fit.resume(&bytes).is_err(), "byte {at}");
        }
        assert_eq!(fit.checkpoint(), before);
    }
}
