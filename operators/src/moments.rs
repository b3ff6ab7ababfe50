//! Exponentially forgotten means and co-moments of a vector of numbers, one vector at a time.
//!
//! With `λ = 2^(−1/h)` for a half-life of `h` vectors, and over the vectors in which a number is there, the weight, mean
//! and co-moment of numbers i and j after the vector t are
//!
//! ```text
//! W_i = Σ λ^(t−s)      m_i = Σ λ^(t−s) x_i(s) / W_i      S_ij ← λ S_ij + (x_i − m_i before) (x_j − m_j after),   i ≤ j
//! ```
//!
//! which is Welford's update with weights (D. West, "Updating mean and variance estimates", 1979): with no numbers missing
//! S_ij is exactly the weighted sum of products of deviations from the means, and S_ii is so always. The covariance is
//! S_ij / W_ij, where W_ij is the weight of the vectors that have both: moments of the weighted sample, not corrected for
//! its size.
//!
//! **Missing**: a number that is NaN, infinite or of a magnitude above [`GREATEST`] is missing. It leaves the mean of its
//! number and its products as they are, while their weights go on to be forgotten.
//!
//! Instead of multiplying everything by λ at each vector, the newest vector's weight grows by 1/λ; when it passes 2⁶⁴ all is
//! divided by it, which as a power of two is exact. An update is then one multiplication and one addition an entry, over
//! the upper triangle, in an order that is the same on every machine; no two entries depend on each other, so the compiler
//! may use whatever registers there are and the bits stay the same.

/// The greatest magnitude of a number that counts: squares and their sums stay finite.
pub const GREATEST: f64 = 1e120;

/// The matrix is kept in tiles of so many rows and columns.
const LANES: usize = 4;
/// The weight of the newest vector beyond which everything is scaled down.
const RESCALE: f64 = 18_446_744_073_709_551_616.0;
/// Weights that differ by less than this share are made one when everything is scaled down.
const SAME: f64 = 1e-12;

/// A piece of a matrix: rows of columns.
type Tile = [[f64; LANES]; LANES];

/// Forgotten moments of `n` numbers.
#[derive(Clone, Debug, PartialEq)]
pub struct Moments {
    n: usize,
    /// How many tiles n numbers need in a row.
    wide: usize,
    half_life_events: f64,
    growth: f64,
    /// The weight of the newest vector; all weights and co-moments are in this unit's scale.
    newest: f64,
    count: u64,
    /// Of all vectors, and for each number of those that have it.
    weight: f64,
    weights: Vec<f64>,
    /// Whether all of `weights` are `weight`.
    is_uniform: bool,
    means: Vec<f64>,
    /// The co-moments (i, j): tiles of the upper triangle, row after row. In the tiles of the diagonal what stands below
    /// it is no one's.
    products: Vec<Tile>,
    /// For each pair the weight of the vectors in which one of the two was missing. Empty as long as none ever was.
    absent: Vec<Tile>,
    /// Room for one update: deviations from the means before, and after.
    before: Vec<f64>,
    after: Vec<f64>,
}

impl Moments {
    /// No vectors yet, of `n` numbers, each vector counting half as much after `half_life_events` more. A half-life of
    /// infinity forgets nothing.
    ///
    /// # Panics
    /// If the half-life is below 1 or no number.
    pub fn new(n: usize, half_life_events: f64) -> Moments {
        assert!(half_life_events >= 1.0, "a half-life of {half_life_events} vectors");
        let wide = n.div_ceil(LANES);
        let stride = wide * LANES;
        Moments {
            n,
            wide,
            half_life_events,
            growth: libm::exp2(1.0 / half_life_events),
            newest: 1.0,
            count: 0,
            weight: 0.0,
            weights: vec![0.0; stride],
            is_uniform: true,
            means: vec![0.0; stride],
            products: vec![Tile::default(); wide * (wide + 1) / 2],
            absent: Vec::new(),
            before: vec![0.0; stride],
            after: vec![0.0; stride],
        }
    }

    /// Takes the next vector.
    ///
    /// # Panics
    /// If it has not `n` numbers.
    pub fn update(&mut self, x: &[f64]) {
        assert_eq!(x.len(), self.n, "the number of numbers");
        if self.count > 0 {
            self.newest *= self.growth;
            if self.newest >= RESCALE {
                self.rescale();
            }
        }
        self.count += 1;
        self.weight += self.newest;
        if x.iter().all(|x| x.abs() <= GREATEST) {
            self.whole(x)
        } else {
            self.partial(x)
        }
        let (before, _) = self.before.as_chunks::<LANES>();
        let (after, _) = self.after.as_chunks::<LANES>();
        add_products(&mut self.products, before, after);
    }

    /// Deviations of a vector with nothing missing.
    fn whole(&mut self, x: &[f64]) {
        let newest = self.newest;
        if self.is_uniform {
            let share = newest / self.weight;
            let rest = 1.0 - share;
            for (i, x) in x.iter().enumerate() {
                let deviation = x - self.means[i];
                self.weights[i] = self.weight;
                self.means[i] += deviation * share;
                self.before[i] = deviation * newest;
                self.after[i] = deviation * rest;
            }
        } else {
            for (i, x) in x.iter().enumerate() {
                self.weights[i] += newest;
                let share = newest / self.weights[i];
                let deviation = x - self.means[i];
                self.means[i] += deviation * share;
                self.before[i] = deviation * newest;
                self.after[i] = deviation * (1.0 - share);
            }
        }
    }

    /// Deviations of a vector with something missing, which has none.
    fn partial(&mut self, x: &[f64]) {
        let (n, newest) = (self.n, self.newest);
        self.is_uniform = false;
        if self.absent.is_empty() {
            self.absent = vec![Tile::default(); self.products.len()];
        }
        let is_missing = |i: usize| x[i].is_nan() || x[i].abs() > GREATEST;
        for (i, x) in x.iter().enumerate() {
            if is_missing(i) {
                (self.before[i], self.after[i]) = (0.0, 0.0);
                // Of a pair both of which are missing, one counts it.
                for j in (0..n).filter(|j| *j >= i || !is_missing(*j)) {
                    let (tile, row, column) = self.place(i, j);
                    self.absent[tile][row][column] += newest;
                }
                continue;
            }
            self.weights[i] += newest;
            let share = newest / self.weights[i];
            let deviation = x - self.means[i];
            self.means[i] += deviation * share;
            self.before[i] = deviation * newest;
            self.after[i] = deviation * (1.0 - share);
        }
    }

    /// Where a pair stands: its tile, and the row and column in it.
    fn place(&self, i: usize, j: usize) -> (usize, usize, usize) {
        let (i, j) = (i.min(j), i.max(j));
        let above = i / LANES;
        (above * (2 * self.wide + 1 - above) / 2 + j / LANES - above, i % LANES, j % LANES)
    }

    /// Divides all weights by 2⁶⁴. Pairs and numbers whose gaps are forgotten count as whole again.
    fn rescale(&mut self) {
        self.newest /= RESCALE;
        self.weight /= RESCALE;
        let tiles = self.products.iter_mut().chain(&mut self.absent);
        for scaled in self.weights.iter_mut().chain(tiles.flatten().flatten()) {
            *scaled /= RESCALE;
        }
        let (weight, n) = (self.weight, self.n);
        if !self.is_uniform && self.weights[..n].iter().all(|w| (w - weight).abs() <= SAME * weight) {
            self.is_uniform = true;
            self.weights[..n].fill(weight);
            self.absent = Vec::new();
        }
    }

    /// How many numbers a vector has.
    pub fn n(&self) -> usize {
        self.n
    }

    /// How many vectors were taken.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The weight of the vectors that have the number, where the newest weighs 1: how many vectors the moments are worth.
    pub fn weight(&self, i: usize) -> f64 {
        if self.is_uniform { self.weight / self.newest } else { self.weights[i] / self.newest }
    }

    /// The forgotten mean; NaN of a number never there.
    pub fn mean(&self, i: usize) -> f64 {
        if self.weight(i) > 0.0 { self.means[i] } else { f64::NAN }
    }

    /// The forgotten variance about the forgotten mean; NaN of a number never there.
    pub fn variance(&self, i: usize) -> f64 {
        let weight = if self.is_uniform { self.weight } else { self.weights[i] };
        let (tile, row, column) = self.place(i, i);
        // A sum of products of two deviations of one sign is never below zero.
        if weight > 0.0 { self.products[tile][row][column] / weight + 0.0 } else { f64::NAN }
    }

    /// The forgotten covariance, over the vectors that have both; NaN if none (that is still worth anything) has.
    pub fn covariance(&self, i: usize, j: usize) -> f64 {
        if i == j {
            return self.variance(i);
        }
        let (tile, row, column) = self.place(i, j);
        let weight = self.weight - self.absent.get(tile).map_or(0.0, |tile| tile[row][column]);
        // The difference of two sums has the rounding of the sums.
        if weight > SAME * self.weight { self.products[tile][row][column] / weight + 0.0 } else { f64::NAN }
    }

    /// The forgotten correlation, from −1 to 1; NaN where it is not defined or one of the two does not vary.
    pub fn correlation(&self, i: usize, j: usize) -> f64 {
        let of_both = self.variance(i).sqrt() * self.variance(j).sqrt();
        if of_both > 0.0 { (self.covariance(i, j) / of_both).clamp(-1.0, 1.0) } else { f64::NAN }
    }

    /// Everything, as bytes from which it goes on exactly as it would have.
    pub fn save(&self, out: &mut Vec<u8>) {
        let flags = u64::from(self.is_uniform) | u64::from(!self.absent.is_empty()) << 1;
        for int in [self.n as u64, self.count, flags] {
            out.extend_from_slice(&int.to_le_bytes());
        }
        let mut float = |f: &f64| out.extend_from_slice(&f.to_bits().to_le_bytes());
        [self.half_life_events, self.newest, self.weight].iter().for_each(&mut float);
        self.weights[..self.n].iter().chain(&self.means[..self.n]).for_each(&mut float);
        for matrix in [&self.products, &self.absent].into_iter().filter(|m| !m.is_empty()) {
            for (i, j) in pairs(self.n) {
                let (tile, row, column) = self.place(i, j);
                float(&matrix[tile][row][column]);
            }
        }
    }

    /// What [`Moments::save`] wrote, read from the front of the bytes. None if they are no such bytes.
    pub fn restore(bytes: &mut &[u8]) -> Option<Moments> {
        let n = usize::try_from(int(bytes)?).ok().filter(|n| *n < 1 << 16)?;
        let (count, flags) = (int(bytes)?, int(bytes)?);
        let half_life_events = f64::from_bits(int(bytes)?);
        if half_life_events.is_nan() || half_life_events < 1.0 {
            return None;
        }
        let mut moments = Moments::new(n, half_life_events);
        (moments.count, moments.is_uniform) = (count, flags & 1 == 1);
        moments.newest = f64::from_bits(int(bytes)?);
        moments.weight = f64::from_bits(int(bytes)?);
        for values in [&mut moments.weights, &mut moments.means] {
            for value in &mut values[..n] {
                *value = f64::from_bits(int(bytes)?);
            }
        }
        for (i, j) in pairs(n) {
            let (tile, row, column) = moments.place(i, j);
            moments.products[tile][row][column] = f64::from_bits(int(bytes)?);
        }
        if flags & 2 == 2 {
            moments.absent = vec![Tile::default(); moments.products.len()];
            for (i, j) in pairs(n) {
                let (tile, row, column) = moments.place(i, j);
                moments.absent[tile][row][column] = f64::from_bits(int(bytes)?);
            }
        }
        Some(moments)
    }
}

/// The rank-one update of the upper triangle. A function of its own, with loops over numbers: so the compiler makes
/// straight vector code of a tile.
#[inline(never)]
#[allow(clippy::needless_range_loop, reason = "with iterators the tile is not kept in registers")]
fn add_products(mut tiles: &mut [Tile], before: &[[f64; LANES]], after: &[[f64; LANES]]) {
    for (at, before) in before.iter().enumerate() {
        let (row, rest) = tiles.split_at_mut(after.len() - at);
        let before = *before;
        for (tile, after) in row.iter_mut().zip(&after[at..]) {
            for i in 0..LANES {
                for j in 0..LANES {
                    tile[i][j] += before[i] * after[j];
                }
            }
        }
        tiles = rest;
    }
}

/// All pairs of the upper triangle, row after row.
fn pairs(n: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..n).flat_map(move |i| (i..n).map(move |j| (i, j)))
}

/// The next eight bytes.
fn int(bytes: &mut &[u8]) -> Option<u64> {
    let (first, rest) = bytes.split_first_chunk::<8>()?;
    *bytes = rest;
    Some(u64::from_le_bytes(*first))
}

#[cfg(test)]
#[allow(clippy::needless_range_loop, reason = "definitions have indices")]
mod tests {
    use super::*;

    /// Numbers that look random, in −1 to 1.
    fn noise(seed: u64) -> impl FnMut() -> f64 {
        let mut state = seed;
        move || {
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut z = state;
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            (z ^ (z >> 31)) as i64 as f64 / i64::MAX as f64
        }
    }

    fn vectors(n: usize, count: usize, missing: bool) -> Vec<Vec<f64>> {
        let mut noise = noise(7);
        let vector = |t: usize| {
            let common = noise();
            let mut x: Vec<f64> = (0..n).map(|i| 1000.0 * i as f64 + common * (i as f64 - 1.5) + noise()).collect();
            if missing {
                // The first is late, the second has gaps; the last two are hardly ever there.
                if t < 20 {
                    x[0] = f64::NAN;
                }
                if n > 1 && noise() > 0.4 {
                    x[1] = f64::INFINITY;
                }
                if n > 4 && t % 7 != 3 {
                    (x[n - 1], x[n - 2]) = (1e200, f64::NAN);
                }
            }
            x
        };
        (0..count).map(vector).collect()
    }

    /// The definition, from scratch: means and variances of what is there; products with both there.
    fn check(moments: &Moments, seen: &[Vec<f64>], half_life: f64) {
        let n = moments.n();
        let there = |x: f64| x.abs() <= GREATEST;
        let weight = |s: usize| libm::pow(2.0, -((seen.len() - 1 - s) as f64) / half_life);
        let close = |a: f64, b: f64, scale: f64, what: &str| {
            assert!((a - b).abs() <= 1e-11 * scale || (a.is_nan() && b.is_nan()), "{what}: {a} is not {b}");
        };
        let whole = seen.iter().flatten().all(|x| there(*x));
        for i in 0..n {
            let of = |f: &dyn Fn(usize) -> f64| (0..seen.len()).filter(|s| there(seen[*s][i])).map(f).sum::<f64>();
            let total = of(&weight);
            close(moments.weight(i), total, total.max(1.0), "weight");
            let mean = of(&|s| weight(s) * seen[s][i]) / total;
            close(moments.mean(i), mean, mean.abs().max(1.0), "mean");
            let variance = of(&|s| weight(s) * (seen[s][i] - mean) * (seen[s][i] - mean)) / total;
            close(moments.variance(i), variance, variance.max(1.0), "variance");
            for j in 0..n {
                if whole {
                    let mean_j = (0..seen.len()).map(|s| weight(s) * seen[s][j]).sum::<f64>() / total;
                    let covariance = of(&|s| weight(s) * (seen[s][i] - mean) * (seen[s][j] - mean_j)) / total;
                    close(moments.covariance(i, j), covariance, covariance.abs().max(1.0), "covariance");
                }
                assert_eq!(moments.covariance(i, j).to_bits(), moments.covariance(j, i).to_bits());
            }
        }
    }

    #[test]
    fn moments_are_those_of_the_definition() {
        for (n, half_life) in [(1, 1.0), (3, 5.5), (4, 100.0), (7, 40.0), (40, 300.0), (5, f64::INFINITY)] {
            let all = vectors(n, 700, false);
            let mut moments = Moments::new(n, half_life);
            assert!(moments.mean(0).is_nan() && moments.covariance(0, 0).is_nan());
            for (t, x) in all.iter().enumerate() {
                moments.update(x);
                if t < 5 || t % 97 == 0 {
                    check(&moments, &all[..=t], half_life);
                }
            }
            check(&moments, &all, half_life);
        }
    }

    #[test]
    fn missing_numbers_leave_means_and_products_as_they_are() {
        let all = vectors(6, 700, true);
        let mut moments = Moments::new(6, 60.0);
        let mut plain: Vec<Vec<f64>> = vec![vec![0.0; 6]; 6];
        let lambda = libm::exp2(-1.0 / 60.0);
        for (t, x) in all.iter().enumerate() {
            let before: Vec<f64> =
                (0..6).map(|i| if moments.weight(i) > 0.0 { moments.mean(i) } else { 0.0 }).collect();
            moments.update(x);
            check(&moments, &all[..=t], 60.0);
            let (mut weight, mut any) = (0.0, false);
            for i in 0..6 {
                for j in i..6 {
                    plain[i][j] *= lambda;
                    if x[i].abs() <= GREATEST && x[j].abs() <= GREATEST {
                        plain[i][j] += (x[i] - before[i]) * (x[j] - moments.mean(j));
                    }
                }
            }
            for (s, y) in all[..=t].iter().enumerate() {
                if y[0].abs() <= GREATEST && y[1].abs() <= GREATEST {
                    (weight, any) = (weight + libm::pow(lambda, (t - s) as f64), true);
                }
            }
            let told = moments.covariance(0, 1);
            if any {
                assert!((told - plain[0][1] / weight).abs() < 1e-9, "{told} at {t}");
            } else {
                assert!(told.is_nan());
            }
        }
        assert!(moments.correlation(4, 5).is_nan() || moments.correlation(4, 5).abs() <= 1.0);
    }

    #[test]
    fn a_gap_that_is_forgotten_costs_nothing_any_more() {
        let mut moments = Moments::new(3, 2.0);
        moments.update(&[f64::NAN, 1.0, 2.0]);
        let all = vectors(3, 400, false);
        for x in &all {
            moments.update(x);
        }
        assert!(moments.is_uniform && moments.absent.is_empty());
        check(&moments, &all, 2.0);
    }

    #[test]
    fn a_constant_does_not_vary_and_correlates_with_nothing() {
        let mut moments = Moments::new(2, 10.0);
        for t in 0..500 {
            moments.update(&[0.1, f64::from(t % 3)]);
        }
        assert_eq!((moments.mean(0), moments.variance(0)), (0.1, 0.0));
        assert!(moments.correlation(0, 1).is_nan());
        assert_eq!(moments.correlation(1, 1), 1.0);
    }

    #[test]
    fn restored_moments_go_on_as_if_nothing_had_happened() {
        for missing in [false, true] {
            let all = vectors(7, 300, missing);
            let mut moments = Moments::new(7, 3.0);
            for x in &all {
                let mut bytes = Vec::new();
                moments.save(&mut bytes);
                let mut rest = bytes.as_slice();
                let mut back = Moments::restore(&mut rest).expect("bytes of our own");
                assert!(rest.is_empty());
                moments.update(x);
                back.update(x);
                let (mut a, mut b) = (Vec::new(), Vec::new());
                moments.save(&mut a);
                back.save(&mut b);
                assert_eq!(a, b);
            }
        }
        assert!(Moments::restore(&mut &[1, 2, 3][..]).is_none());
    }
}
