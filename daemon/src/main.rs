//! The process: arguments, configuration, telemetry, exit codes.

mod arguments;
mod check;
mod checkpoint;
mod crash;
mod progress;
mod reload;
mod run;
mod telemetry;
mod token;
mod train;

use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::process::ExitCode;

use clap::Parser;
use client::Client;
use daemon::{bundle, offline, online, top};

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

    fn asking(error: online::Error) -> Failure {
        match error {
            online::Error::Output(e) => Failure::output(&e),
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
        Command::Views(a) => read(&a.store, online::views, offline::views),
        Command::Get(a) => read(
            &a.store,
            |daemon, out| online::get(daemon, &a.view, &a.key, a.as_of, out),
            |data, out| offline::get(data, &a.view, &a.key, a.as_of, out),
        ),
        Command::Dump(a) => read(
            &a.store,
            |daemon, out| online::dump(daemon, &a.view, a.as_of, out).map(drop),
            |data, out| offline::dump(data, &a.view, a.as_of, out).map(drop),
        ),
        Command::Sql(a) => read(
            &a.store,
            |daemon, out| online::sql(daemon, &a.query, a.as_of, a.format.media_type(), out),
            |data, out| offline::sql(data, &a.query, a.as_of, a.format.media_type(), out),
        ),
        Command::Tail(a) => tail(&a),
        Command::Top(a) => show_top(&a),
        Command::Faults(a) => read(
            &a.store,
            |daemon, out| online::faults(daemon, a.source.as_deref(), a.reason.as_deref(), out).map(drop),
            |data, out| offline::faults(data, a.source.as_deref(), a.reason.as_deref(), out).map(drop),
        ),
        Command::Verify(a) => check::verify(&a),
        Command::Bundle(a) => write_bundle(&a),
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
    online: impl Fn(&Client, &mut dyn Write) -> Result<(), online::Error>,
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

fn show_top(arguments: &arguments::Top) -> Result<(), Failure> {
    let daemon = asked(&arguments.server)?;
    let every = std::time::Duration::from_secs_f64(arguments.every);
    let result = top::top(&daemon, every, arguments.once, &mut io::stdout().lock());
    result.map_err(Failure::asking).or_else(Failure::unless_closed)
}

fn write_bundle(arguments: &arguments::Bundle) -> Result<(), Failure> {
    let daemon = asked(&arguments.server)?;
    let out = arguments.out.display();
    bundle::write(&daemon, arguments.data.as_deref(), arguments.log.as_deref(), &arguments.out)
        .map_err(|e| Failure::broken(format!("{out}: {e}")))?;
    println!("{out}");
    Ok(())
}

fn tail(arguments: &arguments::Tail) -> Result<(), Failure> {
    let start = match &arguments.after {
        Some(id) => client::From::After(id.clone()),
        None if arguments.snapshot => client::From::Snapshot,
        None => client::From::Now,
    };
    let daemon = asked(&arguments.server)?;
    let mut out = io::stdout().lock();
    let result = online::tail(&daemon, &arguments.view, start, arguments.changes, &mut out);
    result.map_err(Failure::asking).or_else(Failure::unless_closed)
}
