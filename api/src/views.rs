//! Reading views: the list, scans, single rows, several views at one epoch.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{self, HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use prometheus::HistogramTimer;
use serde_json::json;
use storage::Snapshot;
use types::{Epoch, Schema, Value};

use crate::cells;
use crate::cursor::Cursor;
use crate::filter::Filter;
use crate::format::{self, Format};
use crate::page::{self, Page, Range, Scan};
use crate::params::{Params, Segment, decode};
use crate::problem::{BAD_CURSOR, BAD_KEY, BAD_PARAMETER, Problem, ROW_NOT_FOUND};
use crate::read::{Read, Relation, accept, blocking};
use crate::routes;

/// The header that names the epoch an answer is of.
pub const EPOCH_HEADER: &str = "thalweg-epoch";
/// The header with which the next page is asked for.
pub const CURSOR_HEADER: &str = "thalweg-cursor";
static EPOCH_NAME: HeaderName = HeaderName::from_static(EPOCH_HEADER);

/// What the path of a single row begins with.
const PREFIX: &str = "/v1/views/";
/// What in the place of a key is none: the view's changes are there.
const CHANGES: &str = "changes";

/// `GET /v1/views`
pub(crate) async fn list(State(read): State<Arc<Read>>, uri: Uri) -> Result<Response, Problem> {
    let at = Params::parse(&routes::VIEWS, &uri)?.at()?;
    let snapshot = read.snapshot(at).await?;
    let mut views = Vec::new();
    for relation in read.relations() {
        let digest = snapshot.digest(relation.id)?;
        let mut view = describe(&relation.schema);
        view["name"] = json!(relation.name);
        view["kind"] = json!(relation.kind);
        view["rows"] = json!(digest.rows);
        view["digest"] = json!(format!("{:032x}", digest.sum));
        views.push(view);
    }
    Ok(with_epoch(axum::Json(json!({"epoch": snapshot.epoch(), "views": views})).into_response(), snapshot.epoch()))
}

/// A schema as it is shown: key and event time by name.
pub(crate) fn describe(schema: &Schema) -> serde_json::Value {
    json!({
        "columns": schema.columns,
        "key": schema.key_names(),
        "event_time": schema.event_time.map(|i| &schema.columns[i].name),
        "append_only": schema.append_only,
    })
}

/// `GET /v1/views/{view}`
pub(crate) async fn scan(
    State(read): State<Arc<Read>>,
    Segment(view): Segment,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let params = Params::parse(&routes::SCAN, &uri)?;
    let relation = Arc::clone(read.relation(&view)?);
    let (key, prefix) = (params.all("key"), params.all("prefix"));
    let range = match (key.is_empty(), prefix.is_empty()) {
        (true, true) => Range::all(),
        (false, true) => {
            let cells = cells::key_cells(&relation.schema, &key)?;
            cells::check_whole(&relation.schema, &cells)?;
            Range::key(relation.codec.key_of(&cells))
        }
        (true, false) => Range::prefix(relation.codec.prefix_of(&cells::key_cells(&relation.schema, &prefix)?)),
        (false, false) => return Err(Problem::new(BAD_PARAMETER, "`key` and `prefix` cannot both be given")),
    };
    let filter = match params.one("filter")? {
        Some(text) => Filter::parse(text, &relation.schema)?,
        None => Filter::default(),
    };
    page(&read, relation, range, filter, &params, &headers).await
}

/// `GET /v1/faults`
pub(crate) async fn faults(State(read): State<Arc<Read>>, uri: Uri, headers: HeaderMap) -> Result<Response, Problem> {
    let params = Params::parse(&routes::FAULTS, &uri)?;
    let relation = Arc::clone(read.faults()?);
    let range = match params.one("source")? {
        Some(source) => Range::prefix(relation.codec.prefix_of(&[Value::Str(source.to_owned())])),
        None => Range::all(),
    };
    let mut filter = Filter::default();
    if let Some(reason) = params.one("reason")? {
        let column = relation.schema.index_of("reason").expect("faults have a reason");
        filter.and_equal(column, Value::Str(reason.to_owned()));
    }
    page(&read, relation, range, filter, &params, &headers).await
}

/// One page, in the format the client asked for.
async fn page(
    read: &Arc<Read>,
    relation: Arc<Relation>,
    mut range: Range,
    filter: Filter,
    params: &Params,
    headers: &HeaderMap,
) -> Result<Response, Problem> {
    let format = Format::accepted(accept(headers))?;
    let mut at = params.at()?;
    let limit = params.limit()?;
    if let Some(text) = params.one("cursor")? {
        let cursor = Cursor::decode(text, relation.id)?;
        if cursor.epoch > read.store.published() {
            return Err(Problem::new(BAD_CURSOR, "this cursor was not given out: its epoch is still to come"));
        }
        if at.as_of.is_some_and(|e| e != cursor.epoch) || at.min_epoch.is_some_and(|e| e > cursor.epoch) {
            return Err(Problem::new(BAD_CURSOR, format!("the cursor is of epoch {}", cursor.epoch)));
        }
        at.as_of = Some(cursor.epoch);
        range = range.after(cursor.key);
    }
    let snapshot = read.snapshot(at).await?;
    let epoch = snapshot.epoch();
    if let Some(unchanged) = not_modified(headers, epoch, format) {
        return Ok(unchanged);
    }
    let permit = read.scan_permit().await?;
    let rows_read_max = read.options.rows_read_max;
    let scan = Scan { relation, range, filter, limit };
    let (cursor, body) = blocking(move || {
        let page = page::read(&snapshot, &scan, rows_read_max)?;
        let body = render(&scan.relation, &page, format)?;
        Ok((page.cursor(&scan.relation), body))
    })
    .await?;
    drop(permit);
    let mut response = rows_response(body, format, epoch);
    if let Some(cursor) = cursor {
        let value = HeaderValue::from_str(&cursor).expect("a cursor is hexadecimal");
        response.headers_mut().insert(CURSOR_HEADER, value);
    }
    Ok(response)
}

fn render(relation: &Relation, page: &Page, format: Format) -> Result<Vec<u8>, Problem> {
    Ok(match format {
        Format::Json => {
            let mut out = Vec::new();
            out.extend_from_slice(b"{\"view\":");
            types::json::write_value(&mut out, &Value::Str(relation.name.clone()));
            out.extend_from_slice(format!(",\"epoch\":{},", page.epoch).as_bytes());
            write_page(&mut out, relation, page)?;
            out.push(b'}');
            out
        }
        Format::Ndjson => {
            let mut out = Vec::new();
            format::write_json(&mut out, &relation.codec, &page.rows, b'\n', b"\n")?;
            out
        }
        Format::Csv => format::csv(&relation.schema, &page::decode(relation, &page.rows)?),
        Format::Arrow => format::arrow(&page::decode(relation, &page.rows)?)?,
    })
}

/// `"rows":[…],"cursor":…`
fn write_page(out: &mut Vec<u8>, relation: &Relation, page: &Page) -> Result<(), Problem> {
    out.extend_from_slice(b"\"rows\":[");
    format::write_json(out, &relation.codec, &page.rows, b',', b"")?;
    out.extend_from_slice(b"],\"cursor\":");
    match page.cursor(relation) {
        Some(cursor) => out.extend_from_slice(format!("\"{cursor}\"").as_bytes()),
        None => out.extend_from_slice(b"null"),
    }
    Ok(())
}

/// `GET /v1/read`
pub(crate) async fn several(State(read): State<Arc<Read>>, uri: Uri) -> Result<Response, Problem> {
    let params = Params::parse(&routes::READ, &uri)?;
    let names = params.one("views")?.unwrap_or_default();
    let mut scans = Vec::new();
    for name in names.split(',').filter(|n| !n.is_empty()) {
        let relation = Arc::clone(read.relation(name)?);
        if scans.iter().any(|s: &Scan| s.relation.id == relation.id) {
            return Err(Problem::new(BAD_PARAMETER, format!("`views` names `{name}` twice")));
        }
        scans.push(Scan { relation, range: Range::all(), filter: Filter::default(), limit: params.limit()? });
    }
    if scans.is_empty() {
        return Err(Problem::new(BAD_PARAMETER, "`views` names the views to read, separated by commas"));
    }
    let snapshot = read.snapshot(params.at()?).await?;
    let epoch = snapshot.epoch();
    let permit = read.scan_permit().await?;
    let rows_read_max = read.options.rows_read_max;
    let body = blocking(move || {
        let mut out = format!("{{\"epoch\":{epoch},\"views\":{{").into_bytes();
        for (i, scan) in scans.iter().enumerate() {
            if i > 0 {
                out.push(b',');
            }
            types::json::write_value(&mut out, &Value::Str(scan.relation.name.clone()));
            out.extend_from_slice(b":{");
            write_page(&mut out, &scan.relation, &page::read(&snapshot, scan, rows_read_max)?)?;
            out.push(b'}');
        }
        out.extend_from_slice(b"}}");
        Ok(out)
    })
    .await?;
    drop(permit);
    Ok(rows_response(body, Format::Json, epoch))
}

/// `GET /v1/faults/summary`
pub(crate) async fn faults_summary(State(read): State<Arc<Read>>, uri: Uri) -> Result<Response, Problem> {
    let at = Params::parse(&routes::FAULTS_SUMMARY, &uri)?.at()?;
    let relation = Arc::clone(read.faults()?);
    let snapshot = read.snapshot(at).await?;
    let epoch = snapshot.epoch();
    let permit = read.scan_permit().await?;
    let counts = blocking(move || {
        let mut counts = std::collections::BTreeMap::<Vec<String>, u64>::new();
        let columns = ["source", "at", "reason"].map(|c| relation.schema.index_of(c).expect("a column of faults"));
        let mut scan = Scan { relation, range: Range::all(), filter: Filter::default(), limit: 1024 };
        loop {
            let page = page::read(&snapshot, &scan, usize::MAX)?;
            let batch = page::decode(&scan.relation, &page.rows)?;
            for row in 0..batch.num_rows() {
                let text = |i: usize| match Value::at(batch.column(i), row) {
                    Value::Str(text) => text,
                    _ => String::new(),
                };
                *counts.entry(columns.map(text).to_vec()).or_default() += 1;
            }
            let Some(end) = page.end else { return Ok(counts) };
            scan.range = Range::all().after(end);
        }
    })
    .await?;
    drop(permit);
    let total: u64 = counts.values().sum();
    let faults: Vec<_> =
        counts.iter().map(|(k, count)| json!({"source": k[0], "at": k[1], "reason": k[2], "count": count})).collect();
    let body = json!({"epoch": epoch, "total": total, "faults": faults});
    Ok(with_epoch(axum::Json(body).into_response(), epoch))
}

/// `GET /v1/views/{view}/{*key}`: read where it arrives. A lookup is shorter than a change of threads.
pub(crate) async fn get_row(State(read): State<Arc<Read>>, request: Request) -> Response {
    let timer = read.metrics.row_seconds.start_timer();
    let (uri, headers) = (request.uri(), request.headers());
    let answer = async {
        let at = Params::parse(&routes::GET_ROW, uri)?.at()?;
        let lookup = Lookup::parse(&read, uri.path(), headers)?;
        lookup.answer(&read.snapshot(at).await?, headers)
    };
    let response = answer.await;
    row_answered(&read, timer, response)
}

/// The same request where it asks for the newest epoch, which is there: answered without routing and without waiting,
/// at the speed of the machine. `None` if the request is another.
pub(crate) fn get_newest_row<B>(read: &Read, request: &http::Request<B>) -> Option<Response> {
    let (uri, headers) = (request.uri(), request.headers());
    let (view, key) = uri.path().strip_prefix(PREFIX)?.split_once('/')?;
    // What the routes would take for something else.
    let other = view.is_empty() || key.is_empty() || key.starts_with('/') || key == CHANGES;
    if request.method() != Method::GET || uri.query().is_some() || other {
        return None;
    }
    let timer = read.metrics.row_seconds.start_timer();
    let answer = || {
        let lookup = Lookup::parse(read, uri.path(), headers)?;
        lookup.answer(&read.store.snapshot(None)?, headers)
    };
    Some(row_answered(read, timer, answer()))
}

fn row_answered(read: &Read, timer: HistogramTimer, answer: Result<Response, Problem>) -> Response {
    let response = answer.unwrap_or_else(IntoResponse::into_response);
    timer.observe_duration();
    if response.status() == StatusCode::OK {
        read.metrics.rows_found.inc();
    } else {
        read.metrics.answered(routes::GET_ROW.path, response.status().as_u16());
    }
    response
}

/// A row that is asked for.
struct Lookup<'a> {
    relation: &'a Relation,
    key: Vec<u8>,
    format: Format,
}

impl<'a> Lookup<'a> {
    fn parse(read: &'a Read, path: &str, headers: &HeaderMap) -> Result<Lookup<'a>, Problem> {
        // The path as it came: decoding must not make two segments of one.
        let mut segments = path[PREFIX.len()..].split('/');
        let part = |text| {
            decode(text, false).ok_or_else(|| Problem::new(BAD_KEY, format!("`{text}` is not percent-encoded UTF-8")))
        };
        let relation = read.relation(&part(segments.next().unwrap_or_default())?)?;
        let texts = segments.map(part).collect::<Result<Vec<_>, Problem>>()?;
        let cells = cells::text_cells(&relation.schema, &texts)?;
        cells::check_whole(&relation.schema, &cells)?;
        let format = Format::accepted(accept(headers))?;
        Ok(Lookup { relation, key: relation.codec.key_of(&cells), format })
    }

    fn answer(self, snapshot: &Snapshot, headers: &HeaderMap) -> Result<Response, Problem> {
        let Lookup { relation, key, format } = self;
        let epoch = snapshot.epoch();
        if let Some(unchanged) = not_modified(headers, epoch, format) {
            return Ok(unchanged);
        }
        let Some(value) = snapshot.get(relation.id, &key)? else {
            return Err(Problem::new(
                ROW_NOT_FOUND,
                format!("`{}` has no row of that key at epoch {epoch}", relation.name),
            ));
        };
        let body = match format {
            Format::Json => {
                let mut out = Vec::with_capacity(256);
                relation.codec.write_json(&mut out, &key, &value)?;
                out
            }
            other => render(relation, &Page { epoch, rows: vec![(key, value)], end: None }, other)?,
        };
        Ok(rows_response(body, format, epoch))
    }
}

/// 304, if the client has this epoch's answer already.
fn not_modified(headers: &HeaderMap, epoch: Epoch, format: Format) -> Option<Response> {
    let known = headers.get(header::IF_NONE_MATCH)?.to_str().ok()?;
    let tag = etag(epoch, format);
    known.split(',').any(|t| t.trim() == tag).then(|| {
        let mut response = StatusCode::NOT_MODIFIED.into_response();
        tagged(&mut response, epoch, format);
        response
    })
}

fn etag(epoch: Epoch, format: Format) -> String {
    format!("\"{epoch}-{}\"", ["json", "ndjson", "csv", "arrow"][format as usize])
}

fn tagged(response: &mut Response, epoch: Epoch, format: Format) {
    let headers = response.headers_mut();
    headers.insert(&EPOCH_NAME, HeaderValue::from(epoch));
    let tag = HeaderValue::from_maybe_shared(Bytes::from(etag(epoch, format)));
    headers.insert(header::ETAG, tag.expect("digits and letters"));
    headers.insert(header::VARY, HeaderValue::from_static("accept"));
}

fn rows_response(body: Vec<u8>, format: Format, epoch: Epoch) -> Response {
    let mut response = Response::new(Body::from(body));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(format.media_type()));
    tagged(&mut response, epoch, format);
    response
}

fn with_epoch(mut response: Response, epoch: Epoch) -> Response {
    response.headers_mut().insert(&EPOCH_NAME, HeaderValue::from(epoch));
    response
}
