//! `dispatch_day` and `toy_market`: what policies of dispatch earn in the simulated city and in the toy market of Xu et al.,
//! and how fast and in how much memory a day goes by.
//!
//! A day is run on one core, orders and shifts drawn beforehand. `times_real_time_1w` is 86,400 s over the time it takes, by
//! policy; `peak_bytes` is the most memory the process ever had after a day of the whole city was learned of, dispatched and
//! let go, the program itself included. Income and its gains are means over days with the half width of a 95 % interval,
//! gains paired by day. `J` is the total income of all drivers.

use city::agent::Agent;
use city::experiment::{self, Market, Settings};

use crate::Options;
use crate::machine::{Scratch, peak_bytes};
use crate::measure::{Samples, timed};
use crate::report::Report;

const DAY_SECS: f64 = 86_400.0;

pub fn day(options: &Options, _: &Scratch, report: &mut Report) -> Result<(), String> {
    let settings = Settings { scale: options.pick(1.0, 0.1), seeds: options.pick(10, 2), ..settings()? };
    report.progress(&format!("{} of the full city, {} days", settings.scale, settings.seeds));
    speed(options, &settings, report)?;
    experiment::dispatch_day(&settings, &mut |figure| {
        report.mean(&figure.metric, figure.unit, figure.value, figure.half_width)
    });
    Ok(())
}

pub fn toy(options: &Options, _: &Scratch, report: &mut Report) -> Result<(), String> {
    let settings = Settings { seeds: options.pick(8, 1), ..settings()? };
    experiment::toy_market(&settings, &mut |figure| {
        report.mean(&figure.metric, figure.unit, figure.value, figure.half_width)
    });
    Ok(())
}

fn settings() -> Result<Settings, String> {
    Settings::new(&Default::default())
}

/// Days by the clock, in turn by every policy.
fn speed(options: &Options, settings: &Settings, report: &mut Report) -> Result<(), String> {
    let market = Market::new(settings);
    let agents = [Agent::nearest(), Agent::myopic(), Agent::polar_bear(), market.v1d3()];
    let mut times = vec![Samples::default(); agents.len()];
    let mut updates = Samples::default();
    for repetition in 0..options.repetitions() {
        let drawn = market.draw(repetition as u64, None);
        for (agent, times) in agents.iter().zip(&mut times) {
            let ((outcome, _), seconds) = timed(|| market.run(&drawn, agent, &[], false));
            if outcome.completed() == 0 || outcome.answered > outcome.orders {
                return Err(format!("a day of {} makes no sense: {} answered", agent.name, outcome.answered));
            }
            times.push(DAY_SECS / seconds);
            if agent.name == "v1d3" {
                updates.push(outcome.updates as f64);
            }
        }
    }
    for (agent, times) in agents.iter().zip(&times) {
        report.figure(&format!("times_real_time_1w_{}", agent.name), "ratio", times);
    }
    report.figure("td_updates_per_day", "updates", &updates);
    let mut peak = Samples::default();
    peak.push(peak_bytes(std::process::id())? as f64);
    report.figure("peak_bytes", "bytes", &peak);
    Ok(())
}
