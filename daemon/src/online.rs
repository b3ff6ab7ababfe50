//! The commands that ask a running daemon: `views`, `get`, `dump`, `sql`, `tail`, `faults` over HTTP.
//!
//! What is printed for a view is the same, byte for byte, as [`crate::offline`] prints from a stopped daemon's store.

use std::io::{self, Write};

use client::{At, Client, From};
use types::Epoch;

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The daemon was not reached, or refused.
    #[error(transparent)]
    Daemon(#[from] client::Error),
    /// There is no such row.
    #[error("`{view}` has no row of that key")]
    NoRow {
        /// The view.
        view: String,
    },
    /// The output cannot be written.
    #[error("the output cannot be written: {0}")]
    Output(#[from] io::Error),
}

/// One line of `views`.
#[derive(Clone, Debug)]
pub struct ViewLine {
    /// Its name.
    pub name: String,
    /// `view`, `table` or `faults`.
    pub kind: String,
    /// How many rows it has.
    pub rows: u64,
    /// Its digest.
    pub digest: String,
    /// Its key columns.
    pub key: Vec<String>,
}

/// Prints the list of views.
pub fn print_views(epoch: Epoch, views: &[ViewLine], out: &mut dyn Write) -> io::Result<()> {
    let width = views.iter().map(|v| v.name.len()).max().unwrap_or(0).max(4);
    writeln!(out, "epoch {epoch}")?;
    writeln!(out, "{:<width$}  {:<6}  {:>12}  {:<32}  key", "name", "kind", "rows", "digest")?;
    for v in views {
        writeln!(out, "{:<width$}  {:<6}  {:>12}  {:<32}  {}", v.name, v.kind, v.rows, v.digest, v.key.join(", "))?;
    }
    Ok(())
}

/// `thalweg views`: every view with its rows and digest.
pub fn views(daemon: &Client, out: &mut dyn Write) -> Result<(), Error> {
    let list = daemon.views()?;
    let line = |v: client::View| ViewLine { name: v.name, kind: v.kind, rows: v.rows, digest: v.digest, key: v.key };
    let lines: Vec<ViewLine> = list.views.into_iter().map(line).collect();
    Ok(print_views(list.epoch, &lines, out)?)
}

/// `thalweg get VIEW KEY…`: one row as a JSON object on a line.
pub fn get(
    daemon: &Client,
    view: &str,
    key: &[String],
    as_of: Option<Epoch>,
    out: &mut dyn Write,
) -> Result<(), Error> {
    let row = daemon.row_body(view, key, at(as_of))?.bytes()?;
    if row.is_empty() {
        return Err(Error::NoRow { view: view.to_owned() });
    }
    Ok(out.write_all(&row)?)
}

/// `thalweg dump`: every row of a view at one epoch, in key order, one JSON object a line. Gives the epoch.
pub fn dump(daemon: &Client, view: &str, as_of: Option<Epoch>, out: &mut dyn Write) -> Result<Epoch, Error> {
    let as_of = as_of.map(|e| format!("?as_of={e}")).unwrap_or_default();
    print_pages(daemon, &format!("/v1/views/{}{as_of}", client::encode(view)), out)
}

/// `thalweg faults`: every fault, one JSON object a line. Gives the epoch.
pub fn faults(
    daemon: &Client,
    source: Option<&str>,
    reason: Option<&str>,
    out: &mut dyn Write,
) -> Result<Epoch, Error> {
    let given = [("source", source), ("reason", reason)].into_iter().filter_map(|(name, value)| Some((name, value?)));
    let query: Vec<String> = given.map(|(name, value)| format!("{name}={}", client::encode(value))).collect();
    let sign = if query.is_empty() { "" } else { "?" };
    print_pages(daemon, &format!("/v1/faults{sign}{}", query.join("&")), out)
}

fn print_pages(daemon: &Client, path: &str, out: &mut dyn Write) -> Result<Epoch, Error> {
    let mut pages = daemon.pages(path);
    for page in pages.by_ref() {
        out.write_all(&page?)?;
    }
    Ok(pages.epoch().unwrap_or_default())
}

/// `thalweg sql QUERY`: the answer of an SQL query, in a format by its media type.
pub fn sql(daemon: &Client, query: &str, as_of: Option<Epoch>, accept: &str, out: &mut dyn Write) -> Result<(), Error> {
    let as_of = as_of.map(|e| format!("?as_of={e}")).unwrap_or_default();
    let headers = [("accept", accept), ("content-type", "application/sql")];
    let answer = daemon.post(&format!("/v1/query{as_of}"), &headers, query.as_bytes())?;
    Ok(out.write_all(&answer.bytes()?)?)
}

/// `thalweg tail`: a view's changes as they are published, one JSON object a line.
///
/// A connection that breaks is taken up again where it broke: no change is missed or printed twice. Ends after
/// `changes_max` of them; without it, only with an error: the daemon refuses, or the output is closed.
pub fn tail(
    daemon: &Client,
    view: &str,
    from: From,
    changes_max: Option<u64>,
    out: &mut dyn Write,
) -> Result<(), Error> {
    for event in daemon.events(view, from).take(changes_max.map_or(usize::MAX, |n| n as usize)) {
        writeln!(out, "{}", event?.data)?;
        out.flush()?;
    }
    Ok(())
}

fn at(as_of: Option<Epoch>) -> At {
    as_of.map_or(At::Newest, At::Exactly)
}
