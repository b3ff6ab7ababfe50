//! Whether a loss has risen: ADWIN or the test of Page and Hinkley, over losses from 0 to 1.

/// Which test, with its constants.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Watch {
    /// None.
    Never,
    /// The adaptive window of A. Bifet and R. Gavaldà (2007).
    Adwin {
        /// The confidence δ: how likely a false alarm may be.
        delta: f64,
    },
    /// E. Page (1954), D. Hinkley (1971).
    PageHinkley {
        /// How much a loss may rise unpunished, each time.
        tolerance: f64,
        /// The sum of rises that is drift.
        threshold: f64,
    },
}

/// A test at work.
#[derive(Clone, Debug, PartialEq)]
pub enum Detector {
    /// None.
    Never,
    /// ADWIN.
    Adwin(Adwin),
    /// Page and Hinkley's.
    PageHinkley(PageHinkley),
}

impl Detector {
    /// As it begins, for means of so many losses. Losses of labels that overlap go together, which both tests would
    /// take for change; means over as many as overlap hardly do.
    pub fn new(watch: Watch, overlap: u64) -> Detector {
        match watch {
            Watch::Never => Detector::Never,
            Watch::Adwin { delta } => Detector::Adwin(Adwin::new(delta, (CLOCK / overlap).max(1))),
            Watch::PageHinkley { tolerance, threshold } => {
                Detector::PageHinkley(PageHinkley::new(tolerance, threshold))
            }
        }
    }

    /// Takes the next loss; true on drift.
    pub fn push(&mut self, loss: f64) -> bool {
        match self {
            Detector::Never => false,
            Detector::Adwin(adwin) => adwin.push(loss),
            Detector::PageHinkley(test) => test.push(loss),
        }
    }

    /// How far it is from drift, at which it is 1.
    pub fn statistic(&self) -> f64 {
        match self {
            Detector::Never => 0.0,
            Detector::Adwin(adwin) => adwin.statistic,
            Detector::PageHinkley(test) => test.statistic(),
        }
    }

    /// How many losses it looks at.
    pub fn window(&self) -> u64 {
        match self {
            Detector::Never => 0,
            Detector::Adwin(adwin) => adwin.width,
            Detector::PageHinkley(test) => test.count,
        }
    }

    /// Their mean; none of none.
    pub fn mean(&self) -> Option<f64> {
        match self {
            Detector::Never => None,
            Detector::Adwin(adwin) => (adwin.width > 0).then(|| adwin.total / adwin.width as f64),
            Detector::PageHinkley(test) => (test.count > 0).then_some(test.mean),
        }
    }

    /// Everything, as numbers.
    pub fn save(&self, out: &mut Vec<u8>) {
        let mut word = |word: u64| out.extend_from_slice(&word.to_le_bytes());
        match self {
            Detector::Never => {}
            Detector::PageHinkley(test) => {
                word(test.count);
                [test.mean, test.sum, test.least].iter().for_each(|f| word(f.to_bits()));
            }
            Detector::Adwin(adwin) => {
                word(adwin.width);
                word(adwin.ticks);
                [adwin.total, adwin.variance, adwin.statistic].iter().for_each(|f| word(f.to_bits()));
                word(adwin.rows.len() as u64);
                for row in &adwin.rows {
                    word(row.len() as u64);
                    row.iter().flat_map(|b| [b.total, b.variance]).for_each(|f| word(f.to_bits()));
                }
            }
        }
    }

    /// What [`Detector::save`] wrote.
    pub fn restore(&mut self, bytes: &mut &[u8]) -> Option<()> {
        let mut word = || {
            let (first, rest) = bytes.split_first_chunk::<8>()?;
            *bytes = rest;
            Some(u64::from_le_bytes(*first))
        };
        match self {
            Detector::Never => {}
            Detector::PageHinkley(test) => {
                test.count = word()?;
                for float in [&mut test.mean, &mut test.sum, &mut test.least] {
                    *float = f64::from_bits(word()?);
                }
            }
            Detector::Adwin(adwin) => {
                (adwin.width, adwin.ticks) = (word()?, word()?);
                for float in [&mut adwin.total, &mut adwin.variance, &mut adwin.statistic] {
                    *float = f64::from_bits(word()?);
                }
                adwin.rows.clear();
                for _ in 0..word()? {
                    let mut row = Vec::with_capacity(BUCKETS + 1);
                    for _ in 0..word()? {
                        let (total, variance) = (f64::from_bits(word()?), f64::from_bits(word()?));
                        row.push(Bucket { total, variance });
                    }
                    adwin.rows.push(row);
                }
            }
        }
        Some(())
    }
}

/// So many buckets of a size; one more and two become one of twice the size.
const BUCKETS: usize = 5;
/// The window is looked at after so many labels.
const CLOCK: u64 = 32;
/// A part of the window has at least so many losses.
const PART: u64 = 5;

/// A window that is cut where its older part has another mean than its newer one.
#[derive(Clone, Debug, PartialEq)]
pub struct Adwin {
    delta: f64,
    clock: u64,
    /// Row i has buckets of 2^i losses, the oldest first.
    rows: Vec<Vec<Bucket>>,
    width: u64,
    total: f64,
    /// The sum of squares about the mean.
    variance: f64,
    ticks: u64,
    statistic: f64,
}

/// Losses in a bucket: their sum, and the sum of squares about their mean.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Bucket {
    total: f64,
    variance: f64,
}

impl Adwin {
    /// An empty window that is looked at after so many losses.
    pub fn new(delta: f64, clock: u64) -> Adwin {
        Adwin { delta, clock, rows: vec![Vec::new()], width: 0, total: 0.0, variance: 0.0, ticks: 0, statistic: 0.0 }
    }

    /// Takes the next loss. True on drift, which is where the window is cut because its newer part has the greater
    /// mean: what comes is another matter then, and the window begins anew. Where the newer part has the smaller mean
    /// the older is cut off without a word.
    pub fn push(&mut self, loss: f64) -> bool {
        self.rows[0].push(Bucket { total: loss, variance: 0.0 });
        if self.width > 0 {
            let width = self.width as f64;
            let deviation = loss - self.total / width;
            self.variance += width * deviation * deviation / (width + 1.0);
        }
        self.width += 1;
        self.total += loss;
        self.compress();
        self.ticks += 1;
        let is_drift = self.ticks.is_multiple_of(self.clock) && self.width > 2 * PART && self.cut();
        if is_drift {
            *self = Adwin::new(self.delta, self.clock);
        }
        is_drift
    }

    fn compress(&mut self) {
        let mut row = 0;
        while self.rows[row].len() > BUCKETS {
            if row + 1 == self.rows.len() {
                self.rows.push(Vec::with_capacity(BUCKETS + 1));
            }
            let (a, b) = (self.rows[row][0], self.rows[row][1]);
            self.rows[row].drain(..2);
            let size = (1_u64 << row) as f64;
            let apart = (a.total - b.total) / size;
            let variance = a.variance + b.variance + 0.5 * size * apart * apart;
            self.rows[row + 1].push(Bucket { total: a.total + b.total, variance });
            row += 1;
        }
    }

    /// Cuts off the oldest bucket as long as some two parts of the window differ; true if the newer has the greater
    /// mean.
    fn cut(&mut self) -> bool {
        while let Some(has_risen) = self.differs() {
            if has_risen {
                return true;
            }
            self.drop_oldest();
        }
        false
    }

    /// Whether two parts differ, and if so whether the newer has the greater mean.
    fn differs(&mut self) -> Option<bool> {
        let width = self.width as f64;
        // ln(2 / δ′) with δ′ = δ / ln n.
        let doubt = libm::log(2.0 * libm::log(width) / self.delta);
        let spread = 2.0 * self.variance / width * doubt;
        let (mut old, mut old_total, mut greatest) = (0, 0.0, 0.0_f64);
        for row in (0..self.rows.len()).rev() {
            for bucket in &self.rows[row] {
                old += 1 << row;
                old_total += bucket.total;
                let new = self.width - old;
                if old < PART || new < PART {
                    continue;
                }
                let harmonic = 1.0 / (old - PART + 1) as f64 + 1.0 / (new - PART + 1) as f64;
                let bound = (spread * harmonic).sqrt() + 2.0 / 3.0 * doubt * harmonic;
                let rise = (self.total - old_total) / new as f64 - old_total / old as f64;
                greatest = greatest.max(rise / bound);
                if rise.abs() > bound {
                    self.statistic = greatest;
                    return Some(rise > 0.0);
                }
            }
        }
        self.statistic = greatest;
        None
    }

    fn drop_oldest(&mut self) {
        let row = self.rows.len() - 1;
        let bucket = self.rows[row].remove(0);
        let size = (1_u64 << row) as f64;
        self.width -= 1 << row;
        self.total -= bucket.total;
        let width = self.width as f64;
        let apart = bucket.total / size - self.total / width;
        let variance = self.variance - bucket.variance - size * width * apart * apart / (size + width);
        self.variance = variance.max(0.0);
        while self.rows.len() > 1 && self.rows.last().is_some_and(Vec::is_empty) {
            self.rows.pop();
        }
    }
}

/// A running sum of how far losses lie above their mean, against its least.
#[derive(Clone, Debug, PartialEq)]
pub struct PageHinkley {
    tolerance: f64,
    threshold: f64,
    count: u64,
    mean: f64,
    sum: f64,
    least: f64,
}

/// So many losses are taken before there can be drift.
const COUNT_MIN: u64 = 30;
/// By how much the sum is forgotten with each.
const FORGET: f64 = 0.9999;

impl PageHinkley {
    /// No losses yet.
    pub fn new(tolerance: f64, threshold: f64) -> PageHinkley {
        PageHinkley { tolerance, threshold, count: 0, mean: 0.0, sum: 0.0, least: 0.0 }
    }

    /// Takes the next loss. On drift it begins anew.
    pub fn push(&mut self, loss: f64) -> bool {
        self.count += 1;
        self.mean += (loss - self.mean) / self.count as f64;
        self.sum = FORGET * self.sum + (loss - self.mean - self.tolerance);
        self.least = if self.count == 1 { self.sum } else { self.least.min(self.sum) };
        let is_drift = self.count >= COUNT_MIN && self.sum - self.least > self.threshold;
        if is_drift {
            *self = PageHinkley::new(self.tolerance, self.threshold);
        }
        is_drift
    }

    fn statistic(&self) -> f64 {
        (self.sum - self.least) / self.threshold
    }
}
