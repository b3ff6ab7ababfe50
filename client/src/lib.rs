//! A typed client of a running daemon: its views as Rust values, what changes in them, records pushed, SQL.
//!
//! ```no_run
//! # #[derive(serde::Deserialize)]
//! # struct Zone { zone: String, open: u64 }
//! # #[derive(serde::Serialize)]
//! # struct Order { order: u64, zone: String }
//! # fn main() -> Result<(), client::Error> {
//! let daemon = client::Client::new("http://127.0.0.1:8080", None)?;
//! let pushed = daemon.push("orders", &[Order { order: 1, zone: "west".into() }], Some("order-1"))?;
//! // Reads its own write: the epoch the push took effect in.
//! let west: Option<Zone> = daemon.row("by_zone", &["west"], client::At::NotBefore(pushed.epoch))?;
//! for change in daemon.changes::<Zone>("by_zone", client::From::Snapshot) {
//!     let change = change?;
//!     println!("epoch {}: {:?} is now {:?}", change.epoch, change.key, change.row.map(|zone| zone.open));
//! }
//! # Ok(()) }
//! ```
//!
//! Every call blocks. A daemon is named as `[http[s]://]HOST:PORT`; refusals are [`Error::Refused`] with the stable code of
//! `docs/api.md`.

mod changes;

use std::io::Read;
use std::marker::PhantomData;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use ureq::http::Response;
use ureq::tls::{PemItem, RootCerts, TlsConfig, parse_pem};
use ureq::{Agent, RequestBuilder};

pub use changes::{Change, Changes, Event, Events, From};

/// The number of an epoch.
pub type Epoch = u64;

/// Rows asked for at a time.
const PAGE_ROWS: u32 = 10_000;
/// How long an answer is waited for, longer than any is to take; what follows its head may come as slowly as it likes.
const ANSWER: Duration = Duration::from_secs(90);
/// How long a read waits for the epoch it asks for.
const WAIT_MS: u32 = 60_000;
const NDJSON: &str = "application/x-ndjson";

/// Why nothing came.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// What the client was made with cannot be used: a token of strange characters, a file without certificates.
    #[error("{0}")]
    Settings(String),
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
        /// The HTTP status; 0 where a stream of changes was ended with the code.
        status: u16,
        /// What it says.
        message: String,
    },
    /// It answered something else than is expected: a row that is not of the type, no JSON.
    #[error("the daemon at {base} answers what cannot be read: {reason}")]
    Unexpected {
        /// Which daemon.
        base: String,
        /// What is wrong with it.
        reason: String,
    },
}

impl Error {
    /// Whether the same may be asked again and be answered: nobody was reached, or it cannot just now.
    pub fn is_passing(&self) -> bool {
        match self {
            Error::Unreachable { .. } => true,
            Error::Refused { status, .. } => *status >= 500 || *status == 429,
            _ => false,
        }
    }
}

/// The epoch a read is of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum At {
    /// The newest there is.
    #[default]
    Newest,
    /// Exactly this one.
    Exactly(Epoch),
    /// The newest, once it is this one or later.
    NotBefore(Epoch),
}

impl At {
    fn query(self) -> Option<String> {
        match self {
            At::Newest => None,
            At::Exactly(epoch) => Some(format!("as_of={epoch}")),
            At::NotBefore(epoch) => Some(format!("min_epoch={epoch}&wait_ms={WAIT_MS}")),
        }
    }
}

/// Which rows of a view are read.
#[derive(Clone, Debug, Default)]
pub struct Scan {
    /// As of which epoch.
    pub at: At,
    /// Those whose first key columns have these values.
    pub prefix: Vec<String>,
    /// Those for which this holds: `column op literal [and …]`.
    pub filter: Option<String>,
}

/// A stored relation.
#[derive(Clone, Debug, PartialEq, Eq, serde::Deserialize)]
pub struct View {
    /// Its name.
    pub name: String,
    /// `view`, `table` or `faults`.
    pub kind: String,
    /// Its key columns.
    pub key: Vec<String>,
    /// How many rows it has.
    pub rows: u64,
    /// Two relations of one digest hold the same rows.
    pub digest: String,
}

/// All stored relations as of one epoch.
#[derive(Clone, Debug, PartialEq, Eq, serde::Deserialize)]
pub struct Views {
    /// The epoch.
    pub epoch: Epoch,
    /// The relations.
    pub views: Vec<View>,
}

/// How far the engine is.
#[derive(Clone, Debug, PartialEq, Eq, serde::Deserialize)]
pub struct Epochs {
    /// What it does: `rehydrating`, `live`, `ended` or `failed`.
    pub phase: String,
    /// The last epoch whose records are fixed.
    pub sealed: Epoch,
    /// The last that readers see.
    pub published: Epoch,
    /// The oldest that can be read.
    pub since: Epoch,
}

/// What a push was answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize)]
pub struct Pushed {
    /// The epoch in which the records take effect: see [`At::NotBefore`].
    pub epoch: Epoch,
    /// How many records there were, bad ones counted.
    pub records: u64,
    /// They had been taken before, under the same idempotency key.
    #[serde(default)]
    pub repeated: bool,
}

/// Rows of an SQL query.
#[derive(Clone, Debug, PartialEq, serde::Deserialize)]
pub struct Answer<T> {
    /// The epoch they are of.
    pub epoch: Epoch,
    /// The rows.
    pub rows: Vec<T>,
}

/// An answer whose body is still to be read.
pub struct Body {
    /// The epoch it is of, where it is of one.
    pub epoch: Option<Epoch>,
    /// Where the next page begins; none after the last.
    pub cursor: Option<String>,
    response: Response<ureq::Body>,
    base: String,
}

impl Body {
    /// All of it.
    pub fn bytes(mut self) -> Result<Vec<u8>, Error> {
        let mut bytes = Vec::new();
        // Without the bound that the library has by default: a page may be long.
        match self.response.body_mut().as_reader().read_to_end(&mut bytes) {
            Ok(_) => Ok(bytes),
            Err(e) => Err(Error::Unreachable { base: self.base, reason: e.to_string() }),
        }
    }

    /// As JSON of a type.
    pub fn json<T: DeserializeOwned>(self) -> Result<T, Error> {
        let base = self.base.clone();
        serde_json::from_slice(&self.bytes()?).map_err(|e| Error::Unexpected { base, reason: e.to_string() })
    }

    /// As it comes.
    pub fn reader(self) -> impl Read {
        self.response.into_body().into_reader()
    }
}

/// A running daemon, to be asked.
#[derive(Clone, Debug)]
pub struct Client {
    base: String,
    agent: Agent,
    /// The header `Authorization`.
    authorization: Option<String>,
}

impl Client {
    /// The daemon at `base`, which is sent the token with every request. The error says that the token cannot be sent, and
    /// does not repeat it.
    pub fn new(base: &str, token: Option<&str>) -> Result<Client, Error> {
        Client::trusting(base, token, None)
    }

    /// The same, and for https the certificates of a PEM file vouch for it, instead of those browsers trust.
    pub fn trusting(base: &str, token: Option<&str>, ca: Option<&Path>) -> Result<Client, Error> {
        if token.is_some_and(|t| t.is_empty() || !t.bytes().all(|b| b.is_ascii_graphic())) {
            return Err(Error::Settings("the token is empty or has characters other than visible ASCII".into()));
        }
        let base = base.trim_end_matches('/');
        let base = if base.contains("://") { base.to_owned() } else { format!("http://{base}") };
        if base.contains('@') {
            return Err(Error::Settings("the address holds a name or a password; give a token instead".into()));
        }
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .timeout_connect(Some(Duration::from_secs(5)))
            .timeout_recv_response(Some(ANSWER));
        let config = match ca {
            Some(file) => config.tls_config(TlsConfig::builder().root_certs(certificates(file)?).build()),
            None => config,
        };
        let authorization = token.map(|t| format!("Bearer {t}"));
        Ok(Client { base, agent: config.build().new_agent(), authorization })
    }

    /// Where it is.
    pub fn base(&self) -> &str {
        &self.base
    }

    /// Every stored relation.
    pub fn views(&self) -> Result<Views, Error> {
        self.get("/v1/views", &[])?.json()
    }

    /// How far the engine is.
    pub fn epochs(&self) -> Result<Epochs, Error> {
        self.get("/v1/epochs", &[])?.json()
    }

    /// The row of a key, whose cells are given in key order as text.
    pub fn row<T: DeserializeOwned>(&self, view: &str, key: &[impl AsRef<str>], at: At) -> Result<Option<T>, Error> {
        let body = self.row_body(view, key, at)?;
        let (base, bytes) = (body.base.clone(), body.bytes()?);
        if bytes.is_empty() {
            return Ok(None);
        }
        serde_json::from_slice(&bytes).map(Some).map_err(|e| Error::Unexpected { base, reason: e.to_string() })
    }

    /// The same as it comes: a JSON object, or nothing.
    pub fn row_body(&self, view: &str, key: &[impl AsRef<str>], at: At) -> Result<Body, Error> {
        // As JSON, so that no cell can be taken for something else.
        let cells: Vec<&str> = key.iter().map(AsRef::as_ref).collect();
        let cells = format!("key={}", encode(&json!(cells).to_string()));
        self.get(&path(&["v1", "views", view], [Some(cells), at.query()]), &[("accept", NDJSON)])
    }

    /// Rows of a view in key order, all as of one epoch; they are fetched a page at a time.
    pub fn rows<T: DeserializeOwned>(&self, view: &str, scan: &Scan) -> Rows<'_, T> {
        let prefix = (!scan.prefix.is_empty()).then(|| format!("prefix={}", encode(&json!(scan.prefix).to_string())));
        let filter = scan.filter.as_ref().map(|filter| format!("filter={}", encode(filter)));
        Rows {
            pages: self.pages(&path(&["v1", "views", view], [scan.at.query(), prefix, filter])),
            lines: Vec::new().into_iter(),
            row: PhantomData,
        }
    }

    /// Pages of rows, a JSON object a line, of a path of the API that has them.
    pub fn pages(&self, path: &str) -> Pages<'_> {
        let sign = if path.contains('?') { '&' } else { '?' };
        Pages {
            client: self,
            path: format!("{path}{sign}limit={PAGE_ROWS}"),
            cursor: None,
            epoch: None,
            is_over: false,
        }
    }

    /// What changes in a view: a stream that is taken up again where it breaks.
    pub fn changes<T: DeserializeOwned>(&self, view: &str, from: From) -> Changes<'_, T> {
        Changes::new(self.events(view, from))
    }

    /// The same with the rows as they come.
    pub fn events(&self, view: &str, from: From) -> Events<'_> {
        Events::new(self, path(&["v1", "views", view, "changes"], [from.query()]), from)
    }

    /// Gives records to a source; they are durable when it is answered. With an idempotency key the same can be repeated,
    /// until it is answered, and is taken once.
    pub fn push<T: Serialize>(&self, source: &str, records: &[T], key: Option<&str>) -> Result<Pushed, Error> {
        let mut body = Vec::new();
        for record in records {
            serde_json::to_writer(&mut body, record).map_err(|e| Error::Settings(format!("a record: {e}")))?;
            body.push(b'\n');
        }
        self.push_lines(source, &body, key)
    }

    /// The same of records that are JSON already, a line each.
    pub fn push_lines(&self, source: &str, lines: &[u8], key: Option<&str>) -> Result<Pushed, Error> {
        let mut headers = vec![("content-type", NDJSON)];
        headers.extend(key.map(|key| ("idempotency-key", key)));
        self.post(&path(&["v1", "sources", source, "records"], [None]), &headers, lines)?.json()
    }

    /// Answers an SQL query over the views; the parameters stand for `$1`, `$2`, ….
    pub fn sql<T: DeserializeOwned>(&self, query: &str, parameters: &[Value], at: At) -> Result<Answer<T>, Error> {
        let body = json!({"sql": query, "params": parameters}).to_string();
        let headers = [("content-type", "application/json"), ("accept", "application/json")];
        self.post(&path(&["v1", "query"], [at.query()]), &headers, body.as_bytes())?.json()
    }

    /// Has the daemon copy its store. Gives an epoch the copy surely has.
    pub fn checkpoint(&self, name: &str) -> Result<Epoch, Error> {
        let answer: Value = self.post(&path(&["v1", "checkpoints", name], [None]), &[], b"")?.json()?;
        Ok(answer["epoch"].as_u64().unwrap_or_default())
    }

    /// Any path of the API. `/v1/sources` and `/v1/sinks` as they stand, `/metrics`, ….
    pub fn get(&self, path: &str, headers: &[(&str, &str)]) -> Result<Body, Error> {
        let request = self.agent.get(format!("{}{path}", self.base));
        self.unless_refused(self.with_headers(request, headers).call())
    }

    /// Gives a body to any path of the API.
    pub fn post(&self, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Result<Body, Error> {
        let request = self.agent.post(format!("{}{path}", self.base));
        self.unless_refused(self.with_headers(request, headers).send(body))
    }

    fn with_headers<B>(&self, mut request: RequestBuilder<B>, headers: &[(&str, &str)]) -> RequestBuilder<B> {
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        match &self.authorization {
            Some(value) => request.header("authorization", value),
            None => request,
        }
    }

    fn unless_refused(&self, answer: Result<Response<ureq::Body>, ureq::Error>) -> Result<Body, Error> {
        let unreachable = |reason: String| Error::Unreachable { base: self.base.clone(), reason };
        let mut response = answer.map_err(|e| unreachable(e.to_string()))?;
        if !response.status().is_success() {
            let status = response.status().as_u16();
            let body = response.body_mut().read_to_vec().unwrap_or_default();
            return Err(refusal(status, &body));
        }
        let header = |name| response.headers().get(name).and_then(|v| v.to_str().ok()).map(str::to_owned);
        let epoch = header("thalweg-epoch").and_then(|e| e.parse().ok());
        Ok(Body { epoch, cursor: header("thalweg-cursor"), response, base: self.base.clone() })
    }
}

/// Pages of rows, all of one epoch.
#[derive(Debug)]
pub struct Pages<'a> {
    client: &'a Client,
    path: String,
    cursor: Option<String>,
    epoch: Option<Epoch>,
    is_over: bool,
}

impl Pages<'_> {
    /// The epoch, once a page has come.
    pub fn epoch(&self) -> Option<Epoch> {
        self.epoch
    }

    fn page(&mut self) -> Result<Vec<u8>, Error> {
        let cursor = self.cursor.take().map(|cursor| format!("&cursor={cursor}")).unwrap_or_default();
        let body = self.client.get(&format!("{}{cursor}", self.path), &[("accept", NDJSON)])?;
        (self.epoch, self.cursor) = (body.epoch, body.cursor.clone());
        self.is_over = self.cursor.is_none();
        // Whole before it is given: of a connection that breaks nobody shall see half a row.
        body.bytes()
    }
}

impl Iterator for Pages<'_> {
    type Item = Result<Vec<u8>, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.is_over {
            return None;
        }
        let page = self.page();
        self.is_over |= page.is_err();
        Some(page)
    }
}

/// Rows of a view, all of one epoch.
#[derive(Debug)]
pub struct Rows<'a, T> {
    pages: Pages<'a>,
    lines: std::vec::IntoIter<Vec<u8>>,
    row: PhantomData<T>,
}

impl<T> Rows<'_, T> {
    /// The epoch, once a row has come.
    pub fn epoch(&self) -> Option<Epoch> {
        self.pages.epoch()
    }
}

impl<T: DeserializeOwned> Iterator for Rows<'_, T> {
    type Item = Result<T, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(line) = self.lines.next() {
                let unexpected = |e: serde_json::Error| Error::Unexpected {
                    base: self.pages.client.base.clone(),
                    reason: e.to_string(),
                };
                return Some(serde_json::from_slice(&line).map_err(unexpected));
            }
            match self.pages.next()? {
                Ok(page) => {
                    let lines = page.split(|b| *b == b'\n').filter(|line| !line.is_empty());
                    self.lines = lines.map(<[u8]>::to_vec).collect::<Vec<_>>().into_iter();
                }
                Err(e) => return Some(Err(e)),
            }
        }
    }
}

/// The certificates of a PEM file.
fn certificates(file: &Path) -> Result<RootCerts, Error> {
    let named = |e: &dyn std::fmt::Display| Error::Settings(format!("{}: {e}", file.display()));
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

/// What a refusal's body says.
fn refusal(status: u16, body: &[u8]) -> Error {
    let json: Value = serde_json::from_slice(body).unwrap_or_default();
    let text = |name: &str| json[name].as_str().map(str::to_owned);
    Error::Refused {
        code: text("code").unwrap_or_else(|| format!("status {status}")),
        status,
        // An answer that is no refusal by its shape says in itself what it is.
        message: text("message")
            .unwrap_or_else(|| String::from_utf8_lossy(&body[..body.len().min(1_000)]).into_owned()),
    }
}

/// A path of segments and the parts of its query that there are.
fn path<const N: usize>(segments: &[&str], query: [Option<String>; N]) -> String {
    let mut path = String::new();
    for segment in segments {
        path.push('/');
        path.push_str(&encode(segment));
    }
    for (part, sign) in query.into_iter().flatten().zip(std::iter::once('?').chain(std::iter::repeat('&'))) {
        path.push(sign);
        path.push_str(&part);
    }
    path
}

/// Text for a path or a query: all but letters, digits, `-` and `_` percent-encoded.
pub fn encode(text: &str) -> String {
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
    fn anything_can_stand_in_a_path_or_a_query() {
        assert_eq!(encode("a/b ä&[\".\"]"), "a%2Fb%20%C3%A4%26%5B%22%2E%22%5D");
        let at = At::NotBefore(3).query();
        assert_eq!(path(&["v1", "views", "a/b"], [None, at]), "/v1/views/a%2Fb?min_epoch=3&wait_ms=60000");
        assert_eq!(path(&["x"], [Some("a=1".into()), None, Some("b=2".into())]), "/x?a=1&b=2");
    }

    #[test]
    fn a_token_that_cannot_be_sent_is_not_repeated() {
        let error = Client::new("127.0.0.1:1", Some("se cret")).unwrap_err().to_string();
        assert!(!error.contains("cret"), "{error}");
    }
}
