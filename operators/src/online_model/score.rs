//! How good predictions were, each judged once when its label matured and before it was learned from (prequential
//! evaluation, Dawid 1984; Gama, Sebastião and Rodrigues 2013).

use super::job::LIKELIHOOD_MIN;

/// Bins of confidence.
pub const BINS: usize = 10;

/// What is counted of one model at one horizon.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Score {
    /// By true class, then predicted class.
    pub confusion: [[u64; 3]; 3],
    /// The sum of −ln of the true class's probability.
    pub log_losses: f64,
    /// By bin of the greatest probability: predictions, and how many were right.
    pub bins: [[u64; 2]; BINS],
    /// By bin the sum of the greatest probabilities.
    pub confidences: [f64; BINS],
    /// Trades entered.
    pub trades: u64,
    /// The sum of what they earned.
    pub earned: f64,
}

impl Score {
    /// Judges a prediction; one without probabilities gives a class alone.
    pub fn judge(&mut self, truth: usize, predicted: usize, probabilities: Option<[f32; 3]>) {
        self.confusion[truth][predicted] += 1;
        if let Some(p) = probabilities {
            self.log_losses -= libm::log(f64::from(p[truth]).max(LIKELIHOOD_MIN));
            let confidence = f64::from(p[predicted]);
            let bin = ((confidence * BINS as f64) as usize).min(BINS - 1);
            self.bins[bin][0] += 1;
            self.bins[bin][1] += u64::from(truth == predicted);
            self.confidences[bin] += confidence;
        }
    }

    /// Counts a trade.
    pub fn trade(&mut self, earned: f64) {
        self.trades += 1;
        self.earned += earned;
    }

    /// Predictions judged.
    pub fn count(&self) -> u64 {
        self.confusion.iter().flatten().sum()
    }

    /// The share that was right.
    pub fn accuracy(&self) -> f64 {
        (0..3).map(|c| self.confusion[c][c]).sum::<u64>() as f64 / self.count() as f64
    }

    fn truths(&self, class: usize) -> u64 {
        self.confusion[class].iter().sum()
    }

    fn predictions(&self, class: usize) -> u64 {
        (0..3).map(|truth| self.confusion[truth][class]).sum()
    }

    /// The mean over classes of 2 · right / (true + predicted); a class that neither occurred nor was predicted does not
    /// count.
    pub fn f1_macro(&self) -> f64 {
        let (mut sum, mut classes) = (0.0, 0.0);
        for class in 0..3 {
            let all = self.truths(class) + self.predictions(class);
            if all > 0 {
                sum += 2.0 * self.confusion[class][class] as f64 / all as f64;
                classes += 1.0;
            }
        }
        sum / classes
    }

    /// Matthews's correlation coefficient for several classes (Gorodkin 2004); 0 where it is not defined.
    pub fn mcc(&self) -> f64 {
        let n = self.count() as f64;
        let (mut right, mut both, mut truths, mut predictions) = (0.0, 0.0, 0.0, 0.0);
        for class in 0..3 {
            let (t, p) = (self.truths(class) as f64, self.predictions(class) as f64);
            right += self.confusion[class][class] as f64;
            both += t * p;
            truths += t * t;
            predictions += p * p;
        }
        let scale = ((n * n - predictions) * (n * n - truths)).sqrt();
        if scale > 0.0 { (right * n - both) / scale } else { 0.0 }
    }

    /// The mean of −ln of the true class's probability.
    pub fn log_loss(&self) -> f64 {
        self.log_losses / self.count() as f64
    }

    /// The expected calibration error: the mean, over predictions, of |accuracy − mean confidence| of their bin (Naeini
    /// et al. 2015; Guo et al. 2017). Bin i holds confidences from i / 10 to below (i + 1) / 10.
    pub fn ece(&self) -> f64 {
        let gap = |i: usize| (self.bins[i][1] as f64 - self.confidences[i]).abs();
        (0..BINS).map(gap).sum::<f64>() / self.count() as f64
    }
}
