//! `thalweg token`: a fresh token, and its line for the file that `thalweg run --tokens` reads.

use std::io::{self, Write};

use crate::Failure;
use crate::arguments::Token;

/// Draws a token from the system's source of randomness and prints it, once.
pub fn token(arguments: &Token) -> Result<(), Failure> {
    let role = arguments.role.parse().map_err(Failure::usage)?;
    let mut random = [0; 32];
    getrandom::fill(&mut random).map_err(|e| Failure::broken(format!("drawing a token: {e}")))?;
    let token = api::token(&random);
    let line = api::token_line(&arguments.name, role, &token).map_err(Failure::usage)?;
    writeln!(io::stdout().lock(), "{token}\n{line}").map_err(|e| Failure::output(&e)).or_else(Failure::unless_closed)
}
