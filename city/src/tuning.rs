//! Tunes V1D3 on days that no figure is reported of: one parameter after the other.

use operators::dispatch::policy::Policy;

use crate::agent::{Agent, Tuned};
use crate::calibration as numbers;
use crate::experiment::{Drawn, Market, Settings, TUNING, fleet, scaled};
use crate::statistics::estimate;

/// Tunes where to wait, on days that no figure is reported of.
pub fn tune_waiting(settings: &Settings, print: &mut dyn FnMut(String)) {
    let mut settings = settings.clone();
    settings.shift_secs = numbers::EASY_SHIFT_SECS;
    let market = Market::dispatched_by(&settings, &Agent::nearest());
    let days: Vec<Drawn> = (TUNING..TUNING + settings.seeds).map(|seed| market.draw(seed, None)).collect();
    let score = |waiting: Tuned, print: &mut dyn FnMut(String)| {
        let agent = Agent { policy: Policy::nearest(), ..market.v1d3_with(waiting) };
        let agent = Agent { repositioning: Some(waiting.repositioning(true)), ..agent };
        let rate = |day: &Drawn| {
            let controlled = fleet(day.shifts(), scaled(2_000, settings.scale));
            market.run(day, &agent, &controlled, false).0.income_per_hour(&controlled)
        };
        let mean = estimate(&days.iter().map(rate).collect::<Vec<f64>>()).mean;
        print(format!("{mean:.4} {waiting:?}"));
        mean
    };
    let mut best = settings.waiting;
    let mut best_score = score(best, print);
    let ways: [(&[f64], fn(&mut Tuned, f64)); 6] = [
        (&[1.0, 2.0, 3.0], |t, v| t.rings = v as u32),
        (&[0.02, 0.05, 0.1, 0.2, 0.4], |t, v| t.temperature = v),
        (&[900.0, 1_800.0, 3_600.0], |t, v| t.horizon_secs = v),
        (&[1.0, 4.0, 12.0], |t, v| t.idle_weight = v),
        (&[0.8, 0.9, 0.95], |t, v| t.gamma = v),
        (&[0.02, 0.05], |t, v| t.alpha = v),
    ];
    for (values, set) in ways {
        for value in values {
            let mut waiting = best;
            set(&mut waiting, *value);
            if waiting != best {
                let found = score(waiting, print);
                if found > best_score {
                    (best, best_score) = (waiting, found);
                }
            }
        }
    }
    print(format!("best {best_score:.4} {best:?}"));
}

/// Tunes V1D3 on days that no figure is reported of: one parameter after the other, twice over.
pub fn tune(settings: &Settings, print: &mut dyn FnMut(String)) {
    let market = Market::new(settings);
    let days: Vec<Drawn> = (TUNING..TUNING + settings.seeds).map(|seed| market.draw(seed, None)).collect();
    let mut score = |tuned: Tuned| {
        let agent = market.v1d3_with(tuned);
        let totals: Vec<f64> = days.iter().map(|day| market.run(day, &agent, &[], false).0.total()).collect();
        let mean = estimate(&totals).mean;
        print(format!("{mean:.0} {tuned:?}"));
        mean
    };
    let mut best = settings.tuned;
    let mut best_score = score(best);
    let ways: [(&[f64], fn(&mut Tuned, f64)); 5] = [
        (&[2.0, 4.0, 8.0, 12.0, 16.0, 24.0], |t, v| t.idle_weight = v),
        (&[0.0125, 0.025, 0.05, 0.1, 0.2], |t, v| t.alpha = v),
        (&[0.7, 0.8, 0.85, 0.9, 0.95], |t, v| t.gamma = v),
        (&[600.0, 1_800.0, 3_600.0, 7_200.0], |t, v| t.ensemble_secs = v as u32),
        (&[0.2, 0.5, 0.8], |t, v| t.omega = v),
    ];
    for _ in 0..2 {
        for (values, set) in ways {
            for value in values {
                let mut tuned = best;
                set(&mut tuned, *value);
                if tuned == best {
                    continue;
                }
                let found = score(tuned);
                if found > best_score {
                    (best, best_score) = (tuned, found);
                }
            }
        }
    }
    print(format!("best {best_score:.0} {best:?}"));
}
