//! Means with intervals, and how unequal incomes are.

/// A mean and the half width of its 95 % interval.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Estimate {
    /// The mean.
    pub mean: f64,
    /// Half the width of the interval: Student's t for the number of values.
    pub half_width: f64,
}

/// Student's t, two-sided 95 %, for 1 to 30 degrees of freedom.
const STUDENT: [f64; 30] = [
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131, 2.120,
    2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042,
];

/// The mean of values and its 95 % interval; the interval of a single value is infinite.
pub fn estimate(values: &[f64]) -> Estimate {
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    if values.len() < 2 {
        return Estimate { mean, half_width: f64::INFINITY };
    }
    let variance = values.iter().map(|v| (v - mean) * (v - mean)).sum::<f64>() / (n - 1.0);
    let t = STUDENT.get(values.len() - 2).copied().unwrap_or(1.96);
    Estimate { mean, half_width: t * (variance / n).sqrt() }
}

/// The mean of the relative differences (a − b) / b of pairs, with its interval.
pub fn paired_gain(a: &[f64], b: &[f64]) -> Estimate {
    let gains: Vec<f64> = a.iter().zip(b).map(|(a, b)| (a - b) / b).collect();
    estimate(&gains)
}

/// The Gini coefficient of amounts that are not negative: 0 if all are equal, towards 1 if one has all.
pub fn gini(amounts: &[f64]) -> f64 {
    let mut sorted = amounts.to_vec();
    sorted.sort_by(f64::total_cmp);
    let n = sorted.len() as f64;
    let total: f64 = sorted.iter().sum();
    if total <= 0.0 {
        return 0.0;
    }
    let ranked: f64 = sorted.iter().enumerate().map(|(at, v)| (at as f64 + 1.0) * v).sum();
    2.0 * ranked / (n * total) - (n + 1.0) / n
}
