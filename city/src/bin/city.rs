//! Runs the city and the toy market, and prints what came out: a JSON line a figure.
//!
//! `city COMMAND [name=value …]`: `dispatch_day`, `reposition`, `shock`, `toy_market`, `tune`, `speed`. Test days have the
//! seeds 0, 1, …; history is of the seeds from 1,000 on, tuning of those from 500 on.

use std::collections::BTreeMap;
use std::process::ExitCode;

use city::experiment::{self, Settings};

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let command = arguments.next().unwrap_or_default();
    let mut given = BTreeMap::new();
    for argument in arguments {
        match argument.split_once('=').and_then(|(name, value)| Some((name.to_owned(), value.parse().ok()?))) {
            Some((name, value)) => given.insert(name, value),
            None => return refuse(&format!("`{argument}`: expected name=number")),
        };
    }
    let settings = match Settings::new(&given) {
        Ok(settings) => settings,
        Err(message) => return refuse(&message),
    };
    let mut print = |line: String| println!("{line}");
    match command.as_str() {
        "dispatch_day" => experiment::dispatch_day(&settings, &mut print),
        "reposition" => experiment::reposition(&settings, &mut print),
        "shock" => experiment::shock(&settings, &mut print),
        "toy_market" => experiment::toy_market(&settings, &mut print),
        "tune" => experiment::tune(&settings, &mut print),
        "speed" => speed(&settings, &mut print),
        other => return refuse(&format!("no command `{other}`")),
    }
    ExitCode::SUCCESS
}

/// A full day by the clock.
#[allow(clippy::disallowed_methods, reason = "a measurement of time; nothing that is computed depends on it")]
fn speed(settings: &Settings, print: &mut dyn FnMut(String)) {
    let market = experiment::Market::new(settings);
    let agent = market.v1d3();
    for seed in 0..settings.seeds {
        let day = market.draw(seed, None);
        let start = std::time::Instant::now();
        let (outcome, _) = market.run(&day, &agent, &[], false);
        let secs = start.elapsed().as_secs_f64();
        let mut figure = |metric: &str, value: f64, unit: &str| {
            print(experiment::line("dispatch_day", metric, value, None, unit));
        };
        figure("times_real_time_1w", 86_400.0 / secs, "ratio");
        figure("td_updates_per_day", outcome.updates as f64, "updates");
    }
}

fn refuse(message: &str) -> ExitCode {
    eprintln!("{message}\nusage: city dispatch_day|reposition|shock|toy_market|tune|speed [name=number …]");
    ExitCode::from(2)
}
