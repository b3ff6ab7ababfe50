//! The commands that ask a running daemon: `views`, `get`, `dump`, `sql`, `tail`, `faults` over HTTP.
//!
//! What is printed for a view is the same, byte for byte, as [`crate::offline`] prints from a stopped daemon's store.

use std::io::{self, BufRead, BufReader, Write};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use types::Epoch;
use ureq::http::Response;
use ureq::tls::{PemItem, RootCerts, TlsConfig, parse_pem};
use ureq::{Agent, RequestBuilder};

/// Rows asked for at a time.
const PAGE_ROWS: u32 = 10_000;
/// How long to wait before a broken subscription is taken up again.
const RECONNECT: Duration = Duration::from_secs(1);

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The daemon was not reached, or the connection broke.
    #[error("the daemon at {base} cannot be asked: {reason}")]
    Unreachable {
        /// Where it was looked for.
        base: String,
        /// What happened.
        reason: String,
    },
    /// It refused.
    #[error("{message} ({code})")]
    Refused {
        /// The stable code.
        code: String,
        /// The HTTP status.
        status: u16,
        /// What it says.
        message: String,
    },
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
pub fn views(client: &Client, out: &mut dyn Write) -> Result<(), Error> {
    let mut response = client.get("/v1/views", &[])?;
    let list: serde_json::Value =
        serde_json::from_reader(response.body_mut().as_reader()).map_err(|e| client.broken(e))?;
    let text = |v: &serde_json::Value| v.as_str().unwrap_or_default().to_owned();
    let lines: Vec<ViewLine> = list["views"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|v| ViewLine {
            name: text(&v["name"]),
            kind: text(&v["kind"]),
            rows: v["rows"].as_u64().unwrap_or_default(),
            digest: text(&v["digest"]),
            key: v["key"].as_array().into_iter().flatten().map(text).collect(),
        })
        .collect();
    Ok(print_views(list["epoch"].as_u64().unwrap_or_default(), &lines, out)?)
}

/// `thalweg get VIEW KEY…`: one row as a JSON object on a line.
pub fn get(
    client: &Client,
    view: &str,
    key: &[String],
    as_of: Option<Epoch>,
    out: &mut dyn Write,
) -> Result<(), Error> {
    // As JSON, so that no cell can be taken for something else.
    let cells = serde_json::to_string(key).expect("strings are JSON");
    let mut query = format!("?key={}", encode(&cells));
    if let Some(epoch) = as_of {
        query.push_str(&format!("&as_of={epoch}"));
    }
    let mut response = client.get(&format!("/v1/views/{}{query}", encode(view)), &[("accept", NDJSON)])?;
    let copied = io::copy(&mut response.body_mut().as_reader(), out)?;
    if copied == 0 {
        return Err(Error::NoRow { view: view.to_owned() });
    }
    Ok(())
}

/// `thalweg dump`: every row of a view at one epoch, in key order, one JSON object a line. Gives the epoch.
pub fn dump(client: &Client, view: &str, as_of: Option<Epoch>, out: &mut dyn Write) -> Result<Epoch, Error> {
    let as_of = as_of.map(|e| format!("&as_of={e}")).unwrap_or_default();
    client.pages(&format!("/v1/views/{}?limit={PAGE_ROWS}{as_of}", encode(view)), out)
}

/// `thalweg faults`: every fault, one JSON object a line. Gives the epoch.
pub fn faults(
    client: &Client,
    source: Option<&str>,
    reason: Option<&str>,
    out: &mut dyn Write,
) -> Result<Epoch, Error> {
    let mut path = format!("/v1/faults?limit={PAGE_ROWS}");
    for (name, value) in [("source", source), ("reason", reason)] {
        if let Some(value) = value {
            path.push_str(&format!("&{name}={}", encode(value)));
        }
    }
    client.pages(&path, out)
}

/// `thalweg checkpoint NAME`: has the daemon copy its store. Gives an epoch the copy surely has.
pub fn checkpoint(client: &Client, name: &str) -> Result<Epoch, Error> {
    let mut response = client.post(&format!("/v1/checkpoints/{}", encode(name)))?;
    let answer = response.body_mut().read_to_vec().map_err(|e| client.broken(e))?;
    let answer: serde_json::Value = serde_json::from_slice(&answer).unwrap_or_default();
    Ok(answer["epoch"].as_u64().unwrap_or_default())
}

/// `thalweg sql QUERY`: the answer of an SQL query, in a format by its media type.
pub fn sql(client: &Client, query: &str, as_of: Option<Epoch>, accept: &str, out: &mut dyn Write) -> Result<(), Error> {
    let as_of = as_of.map(|e| format!("?as_of={e}")).unwrap_or_default();
    let request = client.agent.post(format!("{}/v1/query{as_of}", client.base));
    let request = client.with_token(request).header("accept", accept).header("content-type", "application/sql");
    let mut response = client.unless_refused(request.send(query))?;
    let mut body = Vec::new();
    io::Read::read_to_end(&mut response.body_mut().as_reader(), &mut body).map_err(|e| client.broken(e))?;
    Ok(out.write_all(&body)?)
}

/// Where a tail begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TailFrom {
    /// With what changes from now on.
    Now,
    /// With the rows there are.
    Snapshot,
    /// After the change of this id, `epoch:seq`.
    After(String),
}

/// `thalweg tail`: a view's changes as they are published, one JSON object a line.
///
/// A connection that breaks is taken up again where it broke: no change is missed or printed twice. Ends after
/// `changes_max` of them; without it, only with an error: the daemon refuses, or the output is closed.
pub fn tail(
    client: &Client,
    view: &str,
    from: TailFrom,
    changes_max: Option<u64>,
    out: &mut dyn Write,
) -> Result<(), Error> {
    let (query, last_id) = match from {
        TailFrom::Now => ("", None),
        TailFrom::Snapshot => ("?from=snapshot", None),
        TailFrom::After(id) => ("", Some(id)),
    };
    let path = format!("/v1/views/{}/changes{query}", encode(view));
    let mut tail = Tail { last_id, left: changes_max };
    while tail.left != Some(0) {
        let mut headers = vec![("accept", "text/event-stream")];
        if let Some(id) = &tail.last_id {
            headers.push(("last-event-id", id));
        }
        match client.get(&path, &headers) {
            Ok(mut response) => tail.read(BufReader::new(response.body_mut().as_reader()), out)?,
            // Not reached yet, or not ready: it may be starting again.
            Err(Error::Unreachable { .. } | Error::Refused { status: 503, .. }) if tail.last_id.is_some() => {}
            Err(error) => return Err(error),
        }
        if tail.left != Some(0) {
            std::thread::sleep(RECONNECT);
        }
    }
    Ok(())
}

/// How far a tail is.
struct Tail {
    /// The id of the last event that has been printed.
    last_id: Option<String>,
    /// How many changes are still wanted; `None`: all.
    left: Option<u64>,
}

impl Tail {
    /// Prints the changes of one connection until it ends, or no more are wanted.
    fn read(&mut self, mut stream: impl BufRead, out: &mut dyn Write) -> Result<(), Error> {
        let (mut id, mut event, mut data) = (None, String::new(), String::new());
        let mut line = String::new();
        while self.left != Some(0) {
            line.clear();
            match stream.read_line(&mut line) {
                // A broken connection and an ended one are the same: both are taken up again.
                Ok(0) | Err(_) => return Ok(()),
                Ok(_) => {}
            }
            let Some(text) = line.strip_suffix('\n') else { return Ok(()) };
            if let Some(value) = text.strip_prefix("id: ") {
                id = Some(value.to_owned());
            } else if let Some(value) = text.strip_prefix("event: ") {
                value.clone_into(&mut event);
            } else if let Some(value) = text.strip_prefix("data: ") {
                value.clone_into(&mut data);
            } else if text.is_empty() {
                match event.as_str() {
                    "change" | "snapshot" => {
                        writeln!(out, "{data}")?;
                        out.flush()?;
                        self.left = self.left.map(|n| n - 1);
                    }
                    "error" => return Err(refusal(0, data.as_bytes())),
                    _ => {}
                }
                if id.is_some() {
                    self.last_id = id.take();
                }
                event.clear();
                data.clear();
            }
        }
        Ok(())
    }
}

const NDJSON: &str = "application/x-ndjson";

/// A running daemon, to be asked.
pub struct Client {
    base: String,
    agent: Agent,
    /// The header `Authorization`.
    authorization: Option<String>,
}

impl Client {
    /// The daemon at `base`, `[http[s]://]HOST:PORT`, which is sent the token with every request. The error says that the
    /// token cannot be sent, and does not repeat it.
    pub fn new(base: &str, token: Option<&str>) -> Result<Client, String> {
        Client::trusting(base, token, None)
    }

    /// The same, and for https the certificates of a file vouch for it, instead of those browsers trust.
    pub fn trusting(base: &str, token: Option<&str>, ca: Option<&Path>) -> Result<Client, String> {
        if token.is_some_and(|t| t.is_empty() || !t.bytes().all(|b| b.is_ascii_graphic())) {
            return Err("the token is empty or has characters other than visible ASCII".into());
        }
        let base = base.trim_end_matches('/');
        let base = if base.contains("://") { base.to_owned() } else { format!("http://{base}") };
        let config = Agent::config_builder().http_status_as_error(false).timeout_connect(Some(Duration::from_secs(5)));
        let config = match ca {
            Some(file) => config.tls_config(TlsConfig::builder().root_certs(certificates(file)?).build()),
            None => config,
        };
        let authorization = token.map(|t| format!("Bearer {t}"));
        Ok(Client { base, agent: config.build().new_agent(), authorization })
    }

    fn get(&self, path: &str, headers: &[(&str, &str)]) -> Result<Response<ureq::Body>, Error> {
        let mut request = self.with_token(self.agent.get(format!("{}{path}", self.base)));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        self.unless_refused(request.call())
    }

    fn post(&self, path: &str) -> Result<Response<ureq::Body>, Error> {
        self.unless_refused(self.with_token(self.agent.post(format!("{}{path}", self.base))).send_empty())
    }

    fn with_token<B>(&self, request: RequestBuilder<B>) -> RequestBuilder<B> {
        match &self.authorization {
            Some(value) => request.header("authorization", value),
            None => request,
        }
    }

    fn unless_refused(&self, answer: Result<Response<ureq::Body>, ureq::Error>) -> Result<Response<ureq::Body>, Error> {
        let mut response = answer.map_err(|e| self.broken(e))?;
        if response.status().is_success() {
            return Ok(response);
        }
        let status = response.status().as_u16();
        let body = response.body_mut().read_to_vec().unwrap_or_default();
        Err(refusal(status, &body))
    }

    /// Prints every page of a scan. Gives its epoch.
    fn pages(&self, path: &str, out: &mut dyn Write) -> Result<Epoch, Error> {
        let mut next = path.to_owned();
        loop {
            let mut response = self.get(&next, &[("accept", NDJSON)])?;
            let header = |name| response.headers().get(name).and_then(|v| v.to_str().ok()).map(str::to_owned);
            let epoch = header(api::EPOCH_HEADER).and_then(|e| e.parse().ok()).unwrap_or_default();
            let cursor = header(api::CURSOR_HEADER);
            // Whole before it is printed: a connection that breaks must not leave half a row.
            let mut body = Vec::new();
            io::Read::read_to_end(&mut response.body_mut().as_reader(), &mut body).map_err(|e| self.broken(e))?;
            out.write_all(&body)?;
            match cursor {
                Some(cursor) => next = format!("{path}&cursor={cursor}"),
                None => return Ok(epoch),
            }
        }
    }

    fn broken(&self, error: impl std::fmt::Display) -> Error {
        Error::Unreachable { base: self.base.clone(), reason: error.to_string() }
    }
}

/// The certificates of a PEM file.
fn certificates(file: &Path) -> Result<RootCerts, String> {
    let named = |e: &dyn std::fmt::Display| format!("{}: {e}", file.display());
    let pem = std::fs::read(file).map_err(|e| named(&e))?;
    let mut certificates = Vec::new();
    for item in parse_pem(&pem) {
        if let PemItem::Certificate(certificate) = item.map_err(|e| named(&e))? {
            certificates.push(certificate);
        }
    }
    if certificates.is_empty() {
        return Err(named(&"there is no `BEGIN CERTIFICATE` in it"));
    }
    Ok(RootCerts::Specific(Arc::new(certificates)))
}

fn refusal(status: u16, body: &[u8]) -> Error {
    let json: serde_json::Value = serde_json::from_slice(body).unwrap_or_default();
    let text = |name: &str| json[name].as_str().map(str::to_owned);
    Error::Refused {
        code: text("code").unwrap_or_else(|| format!("status {status}")),
        status,
        message: text("message").unwrap_or_else(|| "the daemon refused".to_owned()),
    }
}

/// Text for a path or a query: all but letters, digits, `-` and `_` percent-encoded.
fn encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' => out.push(char::from(byte)),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tail_prints_changes_and_remembers_where_it_is() {
        let stream = "retry: 1000\n\nid: 1:end\nevent: epoch\ndata: {}\n\n: still here\n\n\
                      id: 2:0\nevent: change\ndata: {\"a\":1}\n\nid: 2:1\nevent: change\ndata: {\"a\":2}\n\nid: 3:0\nevent: cha";
        let (mut out, mut tail) = (Vec::new(), Tail { last_id: None, left: None });
        tail.read(stream.as_bytes(), &mut out).unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), "{\"a\":1}\n{\"a\":2}\n");
        assert_eq!(tail.last_id.as_deref(), Some("2:1"));
        let (mut out, mut tail) = (Vec::new(), Tail { last_id: None, left: Some(1) });
        tail.read(stream.as_bytes(), &mut out).unwrap();
        assert_eq!((out.as_slice(), tail.last_id.as_deref()), (&b"{\"a\":1}\n"[..], Some("2:0")));
    }

    #[test]
    fn an_error_event_ends_a_tail() {
        let stream = "event: error\ndata: {\"code\":\"compacted\",\"message\":\"too old\"}\n\n";
        let error = Tail { last_id: None, left: None }.read(stream.as_bytes(), &mut Vec::new()).unwrap_err();
        assert_eq!(error.to_string(), "too old (compacted)");
    }

    #[test]
    fn anything_can_stand_in_a_query() {
        assert_eq!(encode("a/b ä&[\".\"]"), "a%2Fb%20%C3%A4%26%5B%22%2E%22%5D");
    }
}
