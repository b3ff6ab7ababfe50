//! The process: arguments, configuration, telemetry, exit codes.

mod arguments;
mod check;
mod client;
mod crash;
mod offline;
mod progress;
mod run;
mod telemetry;

use std::process::ExitCode;

use clap::Parser;

use crate::arguments::{Arguments, Command};

/// What went wrong, for the last line on standard error, and with which exit code.
struct Failure {
    code: u8,
    message: String,
}

impl Failure {
    /// The pipeline file or the arguments are wrong: nothing was started.
    fn usage(message: impl ToString) -> Failure {
        Failure { code: 2, message: message.to_string() }
    }

    /// It was started and broke.
    fn broken(message: impl ToString) -> Failure {
        Failure { code: 1, message: message.to_string() }
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let result = match arguments.command {
        Command::Check(a) => check::check(&a),
        Command::Explain(a) => check::explain(&a),
        Command::Infer(a) => check::infer(&a),
        Command::Run(a) => run::run(&a),
        Command::Views(a) => reader(&a.store, client::views, offline::views),
        Command::Get(a) => match &a.store.data {
            Some(data) => offline::get(data, &a.view, &a.key).map_err(Failure::broken),
            None => client::get(&a.store.url, &a.view, &a.key).map_err(Failure::broken),
        },
        Command::Dump(a) => match &a.store.data {
            Some(data) => offline::dump(data, &a.view).map_err(Failure::broken),
            None => client::dump(&a.store.url, &a.view).map_err(Failure::broken),
        },
        Command::Tail(a) => client::tail(&a.url, &a.view, a.after.as_deref()).map_err(Failure::broken),
        Command::Faults(a) => reader(&a.store, client::faults, offline::faults),
        Command::Verify(a) => check::verify(&a),
        Command::Bench(a) => check::bench(&a),
        Command::Manual(a) => check::manual(&a),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("{}", failure.message);
            ExitCode::from(failure.code)
        }
    }
}

/// A command that reads a running daemon or a stopped store.
fn reader(
    from: &arguments::From,
    online: impl Fn(&str) -> Result<(), String>,
    offline: impl Fn(&std::path::Path) -> Result<(), String>,
) -> Result<(), Failure> {
    match &from.data {
        Some(data) => offline(data),
        None => online(&from.url),
    }
    .map_err(Failure::broken)
}
