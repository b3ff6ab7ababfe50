//! The process: arguments, configuration, telemetry, exit codes.

mod arguments;
mod check;
mod checkpoint;
mod crash;
mod progress;
mod run;
mod telemetry;
mod token;
mod train;

use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::process::ExitCode;

use clap::Parser;
use daemon::client::{self, Client};
use daemon::offline;

use crate::arguments::{Arguments, Command};

/// Epochs allocate and free in large pieces, on several threads. glibc's allocator keeps much of what was freed, and is
/// slower at it.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

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

    fn asking(error: client::Error) -> Failure {
        match error {
            client::Error::Output(e) => Failure::output(&e),
            e => Failure::broken(e),
        }
    }

    /// What was printed cannot be written. Whoever closed the pipe has seen enough, and is not told: no message.
    fn output(error: &io::Error) -> Failure {
        let message = if error.kind() == io::ErrorKind::BrokenPipe { String::new() } else { error.to_string() };
        Failure { code: 1, message }
    }

    fn unless_closed(self) -> Result<(), Failure> {
        if self.message.is_empty() { Ok(()) } else { Err(self) }
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let result = match arguments.command {
        Command::Check(a) => check::check(&a),
        Command::Explain(a) => check::explain(&a),
        Command::Infer(a) => check::infer(&a),
        Command::Run(a) => run::run(&a),
        Command::Views(a) => read(&a.store, client::views, offline::views),
        Command::Get(a) => read(
            &a.store,
            |daemon, out| client::get(daemon, &a.view, &a.key, a.as_of, out),
            |data, out| offline::get(data, &a.view, &a.key, a.as_of, out),
        ),
        Command::Dump(a) => read(
            &a.store,
            |daemon, out| client::dump(daemon, &a.view, a.as_of, out).map(drop),
            |data, out| offline::dump(data, &a.view, a.as_of, out).map(drop),
        ),
        Command::Sql(a) => read(
            &a.store,
            |daemon, out| client::sql(daemon, &a.query, a.as_of, a.format.media_type(), out),
            |data, out| offline::sql(data, &a.query, a.as_of, a.format.media_type(), out),
        ),
        Command::Tail(a) => tail(&a),
        Command::Faults(a) => read(
            &a.store,
            |daemon, out| client::faults(daemon, a.source.as_deref(), a.reason.as_deref(), out).map(drop),
            |data, out| offline::faults(data, a.source.as_deref(), a.reason.as_deref(), out).map(drop),
        ),
        Command::Verify(a) => check::verify(&a),
        Command::Checkpoint(a) => checkpoint::checkpoint(&a),
        Command::Restore(a) => checkpoint::restore(&a),
        Command::Token(a) => token::token(&a),
        Command::Train(a) => train::train(&a),
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

/// A command that prints what a running daemon or a stopped store has.
fn read(
    from: &arguments::From,
    online: impl Fn(&Client, &mut dyn Write) -> Result<(), client::Error>,
    offline: impl Fn(&Path, &mut dyn Write) -> Result<(), offline::Error>,
) -> Result<(), Failure> {
    let mut out = BufWriter::new(io::stdout().lock());
    let result = match &from.data {
        Some(data) => offline(data, &mut out).map_err(|e| match e {
            offline::Error::Output(e) => Failure::output(&e),
            e => Failure::broken(e),
        }),
        None => asked(&from.server).and_then(|daemon| online(&daemon, &mut out).map_err(Failure::asking)),
    };
    result.and_then(|()| out.flush().map_err(|e| Failure::output(&e))).or_else(Failure::unless_closed)
}

/// A daemon, asked with the token of the environment.
fn asked(server: &arguments::Server) -> Result<Client, Failure> {
    let token = run::variable("THALWEG_TOKEN");
    Client::trusting(&server.url, token.as_deref(), server.ca.as_deref()).map_err(Failure::usage)
}

fn tail(arguments: &arguments::Tail) -> Result<(), Failure> {
    let start = match &arguments.after {
        Some(id) => client::TailFrom::After(id.clone()),
        None if arguments.snapshot => client::TailFrom::Snapshot,
        None => client::TailFrom::Now,
    };
    let daemon = asked(&arguments.server)?;
    let mut out = io::stdout().lock();
    let result = client::tail(&daemon, &arguments.view, start, arguments.changes, &mut out);
    result.map_err(Failure::asking).or_else(Failure::unless_closed)
}
