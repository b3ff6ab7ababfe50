//! Runs the city and the toy market, and prints what came out: a JSON line a figure.
//!
//! `city COMMAND [name=value …]`: `dispatch_day`, `reposition`, `shock`, `toy_market`, `tune`,
//! `tune_waiting`, `speed`, `td`; and `drive URL [name=value …]`, the closed loop with a running daemon. Test days have the
//! seeds 0, 1, …; history is of the seeds from 1,000 on, tuning of those from 500 on.

use std::collections::BTreeMap;
use std::process::ExitCode;

use city::client;
use city::experiment::{self, Settings};
use operators::dispatch::random;
use operators::dispatch::tiles::Coding;
use operators::dispatch::value::{StepSize, Value};

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let command = arguments.next().unwrap_or_default();
    if command == "drive" {
        return drive(arguments);
    }
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
        "tune_waiting" => experiment::tune_waiting(&settings, &mut print),
        "td" => td(&mut print),
        "speed" => speed(&settings, &mut print),
        other => return refuse(&format!("no command `{other}`")),
    }
    ExitCode::SUCCESS
}

/// The closed loop: days whose decisions a running daemon makes.
fn drive(mut arguments: impl Iterator<Item = String>) -> ExitCode {
    let Some(base) = arguments.next().filter(|base| base.starts_with("http")) else {
        return refuse("where is the daemon? city drive http://127.0.0.1:8080 [name=number …]");
    };
    let mut settings = client::Settings::default();
    for argument in arguments {
        let set = argument.split_once('=').and_then(|(name, value)| Some((name, value.parse().ok()?)));
        let set = set.ok_or_else(|| format!("`{argument}`: expected name=number"));
        if let Err(message) = set.and_then(|(name, value): (&str, f64)| settings.set(name, value)) {
            return refuse(&message);
        }
    }
    let outcome = client::drive(&base, &settings, &mut |seen| {
        let client::Seen::Day(number, day) = seen else { return };
        let figure = |metric: &str, value: f64, unit: &str| {
            println!("{}", experiment::line("drive", &format!("{metric}_day_{number}"), value, None, unit));
        };
        figure("J", day.total(), "fees");
        figure("answer_rate", day.answer_rate(), "ratio");
        figure("cancelled", day.cancelled as f64, "orders");
        figure("pickup", day.pickup_mean_m(), "m");
        figure("waiting", day.waiting_mean_secs(), "s");
        figure("gini", day.gini(), "ratio");
        figure("income_per_hour", day.total() * 3_600.0 / day.online_secs.iter().sum::<f64>(), "fees/h");
    });
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("{why}");
            ExitCode::FAILURE
        }
    }
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

/// Updates of a table of 10,000 states, beside the bare loop that does nothing else: the median of seven runs each.
#[allow(clippy::disallowed_methods, reason = "a measurement of time; nothing that is computed depends on it")]
fn td(print: &mut dyn FnMut(String)) {
    const STATES: u64 = 10_000;
    const COUNT: u64 = 4_000_000;
    let state = |n, what| (random::draw(1, n, what) % STATES) as u32;
    let from: Vec<u32> = (0..COUNT).map(|n| state(n, 0)).collect();
    let to: Vec<u32> = (0..COUNT).map(|n| state(n, 1)).collect();
    let rewards: Vec<f64> = (0..COUNT).map(|n| random::uniform(2, n, 0)).collect();
    let discounts = vec![0.9; COUNT as usize];
    let mut secs = [Vec::new(), Vec::new()];
    let mut checks = [0.0; 2];
    for _ in 0..7 {
        let mut bare = vec![0.0f64; STATES as usize];
        let start = std::time::Instant::now();
        for (((from, to), reward), discount) in from.iter().zip(&to).zip(&rewards).zip(&discounts) {
            bare[*from as usize] += 0.1 * (reward + discount * bare[*to as usize] - bare[*from as usize]);
        }
        secs[0].push(start.elapsed().as_secs_f64());
        let mut table = Value::new(Coding::Tabular, StepSize::Constant(0.1), 0.0);
        table.grow(STATES as usize);
        let start = std::time::Instant::now();
        assert_eq!(table.learn_columns(&from, &to, &rewards, &discounts), 0);
        secs[1].push(start.elapsed().as_secs_f64());
        checks = [bare.iter().sum(), (0..STATES).map(|cell| table.current(cell as u32)).sum()];
    }
    let nanos = secs.map(|mut secs| {
        secs.sort_by(f64::total_cmp);
        secs[3] * 1e9 / COUNT as f64
    });
    print(experiment::line("td", "bare_loop", nanos[0], None, "ns"));
    print(experiment::line("td", "kernel", nanos[1], None, "ns"));
    print(experiment::line("td", "kernel_over_bare_loop", nanos[1] / nanos[0], None, "ratio"));
    print(experiment::line("td", "difference", checks[1] - checks[0], None, "value"));
}

fn refuse(message: &str) -> ExitCode {
    eprintln!(
        "{message}\nusage: city dispatch_day|reposition|shock|toy_market|tune|tune_waiting|speed|td [name=number …]"
    );
    ExitCode::from(2)
}
