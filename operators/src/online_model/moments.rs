//! Exponentially forgotten mean and variance of every feature, and what a value is in units of them.

/// A value further from the mean than this many deviations counts as that many.
pub const Z_MAX: f32 = 8.0;
/// Numbers whose magnitude is beyond this are refused, so that squares stay finite in single precision.
pub const MAGNITUDE_MAX: f64 = 1e15;
/// A feature with a smaller variance counts as constant, and is 0.
pub const VARIANCE_MIN: f32 = 1e-30;

/// The moments of all features.
#[derive(Clone, Debug, PartialEq)]
pub struct Moments {
    /// The weight of a new value when many have come.
    share: f64,
    /// By feature, how many values came.
    pub counts: Vec<u64>,
    /// By feature.
    pub means: Vec<f64>,
    /// By feature.
    pub variances: Vec<f64>,
}

impl Moments {
    /// Before the first value.
    pub fn new(features: usize, half_life: f64) -> Moments {
        Moments {
            share: 1.0 - libm::exp2(-1.0 / half_life),
            counts: vec![0; features],
            means: vec![0.0; features],
            variances: vec![0.0; features],
        }
    }

    /// Takes in a vector and gives it standardised by the moments with it: while fewer values have come than would be
    /// remembered they all count alike. NaN is a value that is missing: it changes nothing and is 0.
    pub fn standardise(&mut self, values: &[f64], out: &mut [f32]) {
        let share_max = 1.0 / self.share;
        let moments = self.counts.iter_mut().zip(&mut self.means).zip(&mut self.variances);
        for ((value, out), ((count, mean), variance)) in values.iter().zip(out).zip(moments) {
            if value.is_nan() {
                *out = 0.0;
                continue;
            }
            *count += 1;
            let n = *count as f64;
            let share = if n < share_max { 1.0 / n } else { self.share };
            let apart = value - *mean;
            let step = share * apart;
            *mean += step;
            *variance = (1.0 - share) * (*variance + step * apart);
            *out = standard(value - *mean, *variance);
        }
    }
}

#[inline]
fn standard(apart: f64, variance: f64) -> f32 {
    let variance = variance as f32;
    if variance < VARIANCE_MIN {
        return 0.0;
    }
    let z = apart as f32 / variance.sqrt();
    (if z > Z_MAX {
        Z_MAX
    } else if z < -Z_MAX {
        -Z_MAX
    } else {
        z
    }) + 0.0
}
