//! SQL over the views at one epoch: a query is run on a thread of its own, within limits, and its answer written in the
//! format asked for.
//!
//! What runs a query is a value this crate is given ([`engine::query::Runner`]). The thread has a stack deep enough for
//! any text that is taken and a runtime of its own, so that a query that computes for long takes nothing from those who
//! look up a row. A query whose client has gone, whose time is up, or whose server is ending, is cancelled: its client, if
//! there is one, waits no longer, and its thread ends where the query next gives way.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::ipc::writer::StreamWriter;
use axum::body::{Body, HttpBody as _};
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, Uri, header};
use axum::response::Response;
use engine::query::{Error, Param, Query, Runner, STACK_BYTES, Sink};
use serde_json::Value as Json;
use storage::Snapshot;
use tokio::sync::watch;
use types::{Column, Epoch, Schema, json};

use crate::Options;
use crate::format::{self, Format};
use crate::ingest::{read_body, refuse_encoding};
use crate::params::Params;
use crate::problem::{
    BAD_PAYLOAD, BAD_SQL, BODY_TOO_LARGE, BUSY, Code, NO_SUCH_ROUTE, Problem, QUERY_FAILED, QUERY_TIMEOUT,
    QUERY_TOO_LARGE, UNSUPPORTED_MEDIA_TYPE,
};
use crate::read::{Read, accept, blocking};
use crate::routes;
use crate::views::EPOCH_HEADER;

/// The longest body: as much as the longest query, with its parameters and as JSON, can need.
const BODY_BYTES_MAX: usize = 1 << 20;

/// What a body is by its `Content-Type`.
pub(crate) const KINDS: [&str; 3] = ["application/json", "application/sql", "text/plain"];

/// `POST /v1/query`
pub(crate) async fn query(
    State(read): State<Arc<Read>>,
    uri: Uri,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let at = Params::parse(&routes::QUERY, &uri)?.at()?;
    let Some(runner) = read.options.queries else {
        return Err(Problem::new(NO_SUCH_ROUTE, "this server was built without a query engine"));
    };
    let format = Format::accepted(accept(&headers))?;
    let is_json = is_json(&headers)?;
    if body.size_hint().lower() > BODY_BYTES_MAX as u64 {
        return Err(too_large());
    }
    let body = read_body(body, BODY_BYTES_MAX, read.options.request_timeout, too_large).await?;
    let query = parse(&body, is_json, &read.options)?;
    let snapshot = read.snapshot(at).await?;
    let epoch = snapshot.epoch();
    let waiting = tokio::time::timeout(read.options.request_timeout, Arc::clone(&read.queries).acquire_owned());
    let Ok(Ok(permit)) = waiting.await else {
        return Err(Problem::new(BUSY, "too many queries at once"));
    };
    // Set when this future is dropped: it is done, or the client has gone.
    let _cancel = Cancel(Arc::clone(&query.cancelled));
    let options = read.options.clone();
    let running = read.metrics.queries.clone();
    let answer = blocking(move || {
        running.inc();
        let answer = run(runner, snapshot, query, format, &options);
        running.dec();
        drop(permit);
        answer
    });
    let body = tokio::select! {
        answer = answer => answer?,
        () = tokio::time::sleep(read.options.query_timeout) => return Err(timed_out(&read.options)),
        () = ended(read.closing.clone()) => {
            return Err(Problem::new(BUSY, "the query was cancelled: the server is ending"));
        }
    };
    let mut response = Response::new(Body::from(body));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(format.media_type()));
    headers.insert(EPOCH_HEADER, HeaderValue::from(epoch));
    headers.insert(header::VARY, HeaderValue::from_static("accept"));
    Ok(response)
}

/// Cancels a query when it is dropped.
struct Cancel(Arc<AtomicBool>);

impl Drop for Cancel {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Runs a query to its end and gives the bytes of its answer, as `POST /v1/query` with this `Accept` would. The error is
/// the code and the message of the refusal. Must not be called on a thread of an asynchronous runtime.
pub fn run_query(
    runner: Runner,
    snapshot: Snapshot,
    sql: &str,
    accept: Option<&str>,
    options: &Options,
) -> Result<Vec<u8>, (Code, String)> {
    let refused = |p: Problem| (p.code, p.message);
    let format = Format::accepted(accept).map_err(refused)?;
    let query = new_query(sql.to_owned(), Vec::new(), options);
    let (cancelled, answered, timeout) =
        (Cancel(Arc::clone(&query.cancelled)), mpsc::channel::<()>(), options.query_timeout);
    std::thread::scope(|scope| {
        // Sets an alarm, which goes off unless the answer is there before.
        let (done, waiting) = answered;
        scope.spawn(move || {
            let _ = waiting.recv_timeout(timeout);
            drop(cancelled);
        });
        let answer = run(runner, snapshot, query, format, options);
        drop(done);
        answer.map_err(refused)
    })
}

/// Runs a query on a thread for that, and waits for it.
fn run(
    runner: Runner,
    snapshot: Snapshot,
    query: Query,
    format: Format,
    options: &Options,
) -> Result<Vec<u8>, Problem> {
    let mut rendering = Rendering::new(format, snapshot.epoch(), options);
    let (limits, cancelled) = (options.clone(), Arc::clone(&query.cancelled));
    let work = move || {
        // Its threads for reading the store end with it.
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().map_err(Problem::internal)?;
        runtime.block_on(async move {
            let running = runner(snapshot, query, &mut rendering);
            let answered = tokio::select! {
                biased;
                () = set(&cancelled) => Err(timed_out(&limits)),
                answered = running => answered.map_err(refused),
            };
            // What was cancelled while it computed fails with an error of its own.
            if answered.is_err() && cancelled.load(Ordering::Relaxed) {
                return Err(timed_out(&limits));
            }
            answered?;
            rendering.end().map_err(refused)
        })
    };
    let thread = std::thread::Builder::new().name("query".to_owned()).stack_size(STACK_BYTES).spawn(work);
    let thread = thread.map_err(|e| {
        tracing::error!(error = %e, "no thread for a query");
        Problem::new(BUSY, "there is no thread for the query")
    })?;
    thread.join().unwrap_or_else(|_| {
        tracing::warn!("a query panicked");
        Err(Problem::new(
            QUERY_FAILED,
            "the query engine gave up on this query: it is written in a way it cannot compute",
        ))
    })
}

/// Done once a flag is set, looked at now and then.
async fn set(flag: &AtomicBool) {
    let mut tick = tokio::time::interval(Duration::from_millis(20));
    while !flag.load(Ordering::Relaxed) {
        tick.tick().await;
    }
}

/// A query as it begins.
fn new_query(sql: String, params: Vec<Param>, options: &Options) -> Query {
    let memory_bytes_max = options.query_memory_bytes_max;
    Query { sql, params, memory_bytes_max, cancelled: Arc::new(AtomicBool::new(false)) }
}

/// Done when the server is ending.
async fn ended(mut closing: watch::Receiver<bool>) {
    if closing.wait_for(|c| *c).await.is_err() {
        std::future::pending().await
    }
}

fn timed_out(options: &Options) -> Problem {
    let seconds = options.query_timeout.as_secs_f64();
    Problem::new(QUERY_TIMEOUT, format!("the query took longer than {seconds} s and was cancelled"))
}

fn too_large() -> Problem {
    Problem::new(BODY_TOO_LARGE, format!("the body of a query has at most {BODY_BYTES_MAX} bytes"))
}

fn refused(error: Error) -> Problem {
    match error {
        Error::Bad(message) => Problem::new(BAD_SQL, message),
        Error::Failed(message) => Problem::new(QUERY_FAILED, message),
        Error::TooLarge(message) => Problem::new(QUERY_TOO_LARGE, message),
        Error::Store(error) => Problem::from(error),
        Error::Broken(log) => {
            tracing::warn!(error = log, "a query broke");
            Problem::new(QUERY_FAILED, "the query engine cannot compute this query; the daemon's log says more")
        }
    }
}

fn is_json(headers: &HeaderMap) -> Result<bool, Problem> {
    refuse_encoding(headers)?;
    let Some(given) = headers.get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()) else {
        let message = format!("`Content-Type` says how the query is written: {}", KINDS.join(", "));
        return Err(Problem::new(UNSUPPORTED_MEDIA_TYPE, message));
    };
    let name = given.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    if !KINDS.contains(&name.as_str()) {
        let message = format!("queries come as {}, not `{name}`", KINDS.join(", "));
        return Err(Problem::new(UNSUPPORTED_MEDIA_TYPE, message));
    }
    Ok(name == KINDS[0])
}

/// The query in a body.
fn parse(body: &[u8], is_json: bool, options: &Options) -> Result<Query, Problem> {
    let bad = |message: String| Problem::new(BAD_PAYLOAD, message);
    if !is_json {
        let sql = std::str::from_utf8(body).map_err(|e| bad(format!("the query is not UTF-8: {e}")))?;
        return Ok(new_query(sql.to_owned(), Vec::new(), options));
    }
    let body: Json = serde_json::from_slice(body).map_err(|e| bad(format!("the body is not JSON: {e}")))?;
    let Json::Object(fields) = body else {
        return Err(bad("the body is an object: {\"sql\": \"SELECT …\", \"params\": […]}".to_owned()));
    };
    let (mut sql, mut params) = (None, Vec::new());
    for (name, value) in fields {
        match (name.as_str(), value) {
            ("sql", Json::String(text)) => sql = Some(text),
            ("sql", _) => return Err(bad("`sql` is a string".to_owned())),
            ("params", Json::Array(values)) => {
                params = values.into_iter().map(param).collect::<Result<_, _>>().map_err(bad)?;
            }
            ("params", _) => return Err(bad("`params` is an array: its first element stands for `$1`".to_owned())),
            (other, _) => return Err(bad(format!("there is no field `{other}`: a query has `sql` and `params`"))),
        }
    }
    let sql = sql.ok_or_else(|| bad("`sql` is missing: the text of the query".to_owned()))?;
    Ok(new_query(sql, params, options))
}

fn param(value: Json) -> Result<Param, String> {
    Ok(match value {
        Json::Null => Param::Null,
        Json::Bool(v) => Param::Bool(v),
        Json::String(v) => Param::Str(v),
        Json::Number(v) => match (v.as_i64(), v.as_f64()) {
            (Some(int), _) => Param::Int(int),
            (None, Some(float)) if !v.is_u64() => Param::Float(float),
            _ => return Err(format!("the parameter {v} is beyond 64 bits")),
        },
        other => return Err(format!("a parameter is null, a truth value, a number or a string, not {other}")),
    })
}

/// An answer as it is written.
struct Rendering {
    format: Format,
    epoch: Epoch,
    schema: Schema,
    out: Vec<u8>,
    arrow: Option<StreamWriter<Vec<u8>>>,
    rows: usize,
    rows_max: usize,
    bytes_max: usize,
}

impl Rendering {
    fn new(format: Format, epoch: Epoch, options: &Options) -> Rendering {
        Rendering {
            format,
            epoch,
            schema: Schema { columns: Vec::new(), key: Vec::new(), event_time: None, append_only: false },
            out: Vec::new(),
            arrow: None,
            rows: 0,
            rows_max: options.query_rows_max,
            bytes_max: options.query_bytes_max,
        }
    }

    /// The whole answer.
    fn end(mut self) -> Result<Vec<u8>, Error> {
        if let Some(mut writer) = self.arrow {
            writer.finish().map_err(broken)?;
            return writer.into_inner().map_err(broken);
        }
        if self.format == Format::Json {
            self.out.extend_from_slice(b"]}");
        }
        Ok(self.out)
    }
}

impl Sink for Rendering {
    fn columns(&mut self, columns: &[Column]) -> Result<(), Error> {
        self.schema.columns = columns.to_vec();
        match self.format {
            Format::Json => {
                let columns = serde_json::to_string(columns).map_err(broken)?;
                let head = format!("{{\"epoch\":{},\"columns\":{columns},\"rows\":[", self.epoch);
                self.out.extend_from_slice(head.as_bytes());
            }
            Format::Ndjson => {}
            Format::Csv => format::csv_header(&mut self.out, &self.schema),
            Format::Arrow => {
                self.arrow = Some(StreamWriter::try_new(Vec::new(), &self.schema.arrow()).map_err(broken)?);
            }
        }
        Ok(())
    }

    fn rows(&mut self, rows: &RecordBatch) -> Result<(), Error> {
        if self.rows + rows.num_rows() > self.rows_max {
            return Err(Error::TooLarge(format!(
                "the answer has more than {} rows: add LIMIT or a condition, or read the view in pages",
                self.rows_max
            )));
        }
        match self.format {
            Format::Json | Format::Ndjson => {
                for row in 0..rows.num_rows() {
                    if self.format == Format::Json && self.rows + row > 0 {
                        self.out.push(b',');
                    }
                    json::write_row(&mut self.out, &self.schema, rows, row);
                    if self.format == Format::Ndjson {
                        self.out.push(b'\n');
                    }
                    self.check_bytes(self.out.len())?;
                }
            }
            Format::Csv => format::csv_rows(&mut self.out, &self.schema, rows),
            Format::Arrow => {
                if let Some(writer) = &mut self.arrow {
                    writer.write(rows).map_err(broken)?;
                }
            }
        }
        self.rows += rows.num_rows();
        self.check_bytes(self.arrow.as_ref().map_or(self.out.len(), |w| w.get_ref().len()))
    }
}

impl Rendering {
    fn check_bytes(&self, bytes: usize) -> Result<(), Error> {
        if bytes > self.bytes_max {
            return Err(Error::TooLarge(format!(
                "the answer has more than {} bytes: add LIMIT or a condition, or name fewer columns",
                self.bytes_max
            )));
        }
        Ok(())
    }
}

fn broken(error: impl std::fmt::Display) -> Error {
    Error::Broken(error.to_string())
}
