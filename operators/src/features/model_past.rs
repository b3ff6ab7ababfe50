//! The past, plainly: windows, what was so far back, and forgetting, over a whole run of ticks at once.

use super::feature::What;
use super::model::{Run, clean, mid};
use super::span::Span;
use crate::exact_sum::ExactSum;

/// What is said of series over windows and with forgetting.
pub(super) struct Past<'a> {
    pub run: &'a Run,
}

impl Past<'_> {
    /// The ticks of the window that ends with k, if the past is as long.
    fn window(&self, k: usize, span: Span) -> Option<std::ops::Range<usize>> {
        let ticks = &self.run.ticks;
        match span {
            Span::Ticks(n) => (k + 1).checked_sub(n as usize).map(|first| first..k + 1),
            Span::Micros(micros) => {
                let from = ticks[k].at.saturating_sub(micros);
                (ticks[0].at <= from).then(|| ticks.partition_point(|t| t.at <= from)..k + 1)
            }
        }
    }

    fn each(&self, f: impl Fn(usize) -> f64) -> Vec<f64> {
        (0..self.run.ticks.len()).map(|k| clean(f(k))).collect()
    }

    pub fn windows(&self, values: &[f64], span: Span, f: &dyn Fn(&[f64]) -> f64) -> Vec<f64> {
        self.each(|k| match self.window(k, span) {
            Some(window) if values[window.clone()].iter().all(|v| !v.is_nan()) => f(&values[window]),
            _ => f64::NAN,
        })
    }

    pub fn sums(&self, values: &[f64], span: Span) -> Vec<f64> {
        self.windows(values, span, &|window| {
            let mut sum = ExactSum::new();
            window.iter().for_each(|v| sum.add(*v));
            sum.value()
        })
    }

    pub fn counts(&self, span: Span) -> Vec<f64> {
        self.each(|k| self.window(k, span).map_or(f64::NAN, |window| window.len() as f64))
    }

    pub fn before(&self, values: &[f64], span: Span) -> Vec<f64> {
        let ticks = &self.run.ticks;
        self.each(|k| {
            let before = match span {
                Span::Ticks(n) => k.checked_sub(n as usize),
                Span::Micros(micros) => ticks.iter().rposition(|t| t.at <= ticks[k].at.saturating_sub(micros)),
            };
            before.map_or(f64::NAN, |before| values[before])
        })
    }

    pub fn happened(&self, what: What) -> Vec<f64> {
        let ticks = &self.run.ticks;
        let sign = |k: usize| ticks[k].trade.map_or(0.0, |t| t.2);
        self.each(|k| {
            let happened = match what {
                What::Tick => true,
                What::Quote => {
                    let before = k.checked_sub(1).map(|b| &ticks[b]);
                    before.is_some_and(|b| {
                        (b.bids.first(), b.asks.first()) != (ticks[k].bids.first(), ticks[k].asks.first())
                    })
                }
                What::Trade => ticks[k].trade.is_some(),
                What::Buy => sign(k) > 0.0,
                What::Sell => sign(k) < 0.0,
                What::Arrival => ticks[k].added[0] + ticks[k].added[1] > 0.0,
                What::Cancel => ticks[k].removed[0] + ticks[k].removed[1] > 0.0,
                What::Move => {
                    k > 0 && {
                        let (now, before) = (mid(&ticks[k]), mid(&ticks[k - 1]));
                        now > before || now < before
                    }
                }
            };
            f64::from(u8::from(happened))
        })
    }

    /// How much of what was there at the tick before is left, and whether the past is as long as the half-life.
    fn forget(&self, k: usize, span: Span) -> (f64, bool) {
        let ticks = &self.run.ticks;
        let passed = if k == 0 { 0 } else { ticks[k].at - ticks[k - 1].at };
        match span {
            Span::Ticks(n) => (libm::exp2(-1.0 / n as f64), k as u64 + 1 >= n),
            Span::Micros(micros) => (libm::exp2(-(passed as f64 / micros as f64)), ticks[k].at - ticks[0].at >= micros),
        }
    }

    /// The mean a tick, or by time the rate.
    pub fn forgotten(&self, values: &[f64], span: Span) -> Vec<f64> {
        let Span::Micros(micros) = span else { return self.means(values, span) };
        let mut sum = 0.0;
        let mut rate = |k: usize| {
            let (share, is_warm) = self.forget(k, span);
            sum = sum * share + if values[k].is_nan() { 0.0 } else { values[k] };
            let rate = sum * (std::f64::consts::LN_2 / (micros as f64 / 1e6));
            if is_warm { clean(rate) } else { f64::NAN }
        };
        (0..values.len()).map(&mut rate).collect()
    }

    pub fn means(&self, values: &[f64], span: Span) -> Vec<f64> {
        let (mut sum, mut weight) = (0.0, 0.0);
        let mut mean = |k: usize| {
            let (share, is_warm) = self.forget(k, span);
            (sum, weight) = (sum * share, weight * share);
            if !values[k].is_nan() {
                (sum, weight) = (sum + values[k], weight + 1.0);
            }
            let is_told = is_warm && weight >= libm::exp2(-20.0);
            if is_told { clean(sum / weight) } else { f64::NAN }
        };
        (0..values.len()).map(&mut mean).collect()
    }

    pub fn zscores(&self, values: &[f64], span: Span) -> Vec<f64> {
        let (mut weight, mut mean, mut square) = (0.0, 0.0, 0.0);
        let mut zscore = |k: usize| {
            let (share, is_warm) = self.forget(k, span);
            (weight, square) = (weight * share, square * share);
            if values[k].is_nan() {
                return f64::NAN;
            }
            weight += 1.0;
            let deviation = values[k] - mean;
            mean += deviation / weight;
            square += deviation * (values[k] - mean);
            let variance = square / weight;
            let is_told = is_warm && variance > 1e-20 * mean * mean;
            if is_told { clean((values[k] - mean) / variance.sqrt()) } else { f64::NAN }
        };
        (0..values.len()).map(&mut zscore).collect()
    }

    pub fn slopes(&self, y: &[f64], x: &[f64], span: Span) -> Vec<f64> {
        let (mut weight, mut mean_x, mut mean_y, mut square, mut product) = (0.0, 0.0, 0.0, 0.0, 0.0);
        let mut slope = |k: usize| {
            let (share, is_warm) = self.forget(k, span);
            (weight, square, product) = (weight * share, square * share, product * share);
            if !x[k].is_nan() && !y[k].is_nan() {
                weight += 1.0;
                let (from_x, from_y): (f64, f64) = (x[k] - mean_x, y[k] - mean_y);
                mean_x += from_x / weight;
                mean_y += from_y / weight;
                square += from_x * (x[k] - mean_x);
                product += from_x * (y[k] - mean_y);
            }
            let varies = square > 1e-20 * mean_x * mean_x * weight;
            if is_warm && weight >= libm::exp2(-20.0) && varies { clean(product / square) } else { f64::NAN }
        };
        (0..y.len()).map(&mut slope).collect()
    }
}
