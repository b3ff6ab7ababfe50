//! Runs the city and the toy market, and prints what came out: a JSON line a figure.
//!
//! `city COMMAND [name=value …]`: `dispatch_day`, `bound`, `reposition`, `growth`, `shock`, `plots`, `toy_market`, `tune`,
//! `tune_waiting`; `drive URL [name=value …]`, the closed loop with a running daemon, which is sent the token in
//! THALWEG_TOKEN; and `record FILE [name=value …]`, a history as that daemon would be told it. Test days have the seeds
//! 0, 1, …; history is of the seeds from 1,000 on, tuning of those from 500 on.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use city::experiment::{self, Figure, Settings};
use city::{driver, plots, recorder, shock, tuning};

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let command = arguments.next().unwrap_or_default();
    match command.as_str() {
        "drive" => return drive(arguments),
        "record" => return record(arguments),
        _ => {}
    }
    let mut given = BTreeMap::new();
    let mut out = PathBuf::from("docs/plots");
    for argument in arguments {
        if let Some(folder) = argument.strip_prefix("out=") {
            out = PathBuf::from(folder);
            continue;
        }
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
    let mut found = |figure: Figure| println!("{}", figure.json());
    match command.as_str() {
        "dispatch_day" => experiment::dispatch_day(&settings, &mut found),
        "reposition" => experiment::reposition(&settings, &mut found),
        "growth" => experiment::growth(&settings, &mut found),
        "bound" => experiment::bound(&settings, &mut found),
        "shock" => shock::shock(&settings, &mut found),
        "plots" => {
            if let Err(message) = write_plots(&settings, &out) {
                eprintln!("{message}");
                return ExitCode::FAILURE;
            }
        }
        "toy_market" => experiment::toy_market(&settings, &mut found),
        "tune" => tuning::tune(&settings, &mut print),
        "tune_waiting" => tuning::tune_waiting(&settings, &mut print),
        other => return refuse(&format!("no command `{other}`")),
    }
    ExitCode::SUCCESS
}

/// The closed loop: days whose decisions a running daemon makes.
fn drive(mut arguments: impl Iterator<Item = String>) -> ExitCode {
    let Some(base) = arguments.next().filter(|base| base.starts_with("http")) else {
        return refuse("where is the daemon? city drive http://127.0.0.1:8080 [name=number …]");
    };
    let settings = match driver_settings(arguments) {
        Ok(settings) => settings,
        Err(message) => return refuse(&message),
    };
    let token = std::env::var("THALWEG_TOKEN").ok();
    let daemon = match client::Client::new(&base, token.as_deref()) {
        Ok(daemon) => daemon,
        Err(e) => return refuse(&e.to_string()),
    };
    let outcome = driver::drive(daemon, &settings, &mut |seen| {
        let driver::Seen::Day(number, day) = seen else { return };
        let figure = |metric: &str, value: f64, unit: &'static str| {
            let metric = format!("{metric}_day_{number}");
            println!("{}", Figure { bench: "drive", metric, value, half_width: None, unit }.json());
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

/// A history: days of which is written what a daemon would be told of them.
fn record(mut arguments: impl Iterator<Item = String>) -> ExitCode {
    let Some(file) = arguments.next().filter(|file| !file.contains('=')) else {
        return refuse("into which file? city record FILE.ndjson [name=number …]");
    };
    let settings = match driver_settings(arguments) {
        Ok(settings) => settings,
        Err(message) => return refuse(&message),
    };
    let written = std::fs::File::create(&file).map_err(|e| e.to_string()).and_then(|to| {
        let (mut to, mut failed) = (std::io::BufWriter::new(to), Ok(()));
        recorder::record(&settings, &mut |lines| {
            if failed.is_ok() {
                failed = to.write_all(lines.as_bytes());
            }
        })?;
        failed.and_then(|()| to.flush()).map_err(|e| e.to_string())
    });
    match written {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("{file}: {why}");
            ExitCode::FAILURE
        }
    }
}

fn driver_settings(arguments: impl Iterator<Item = String>) -> Result<driver::Settings, String> {
    let mut settings = driver::Settings::default();
    for argument in arguments {
        let set = argument.split_once('=').and_then(|(name, value)| Some((name, value.parse().ok()?)));
        let (name, value): (&str, f64) = set.ok_or_else(|| format!("`{argument}`: expected name=number"))?;
        settings.set(name, value)?;
    }
    Ok(settings)
}

fn write_plots(settings: &Settings, folder: &Path) -> Result<(), String> {
    std::fs::create_dir_all(folder).map_err(|e| format!("{}: {e}", folder.display()))?;
    for (name, svg) in plots::plots(settings) {
        let path = folder.join(name);
        std::fs::write(&path, svg).map_err(|e| format!("{}: {e}", path.display()))?;
    }
    Ok(())
}

fn refuse(message: &str) -> ExitCode {
    eprintln!(
        "{message}\nusage: city dispatch_day|bound|reposition|growth|shock|plots|toy_market|tune|tune_waiting|drive URL|record FILE [name=number …]"
    );
    ExitCode::from(2)
}
