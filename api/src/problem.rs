//! What a caller is told when a request is refused: a stable code to act on, a sentence to read, and nothing of our insides.
//!
//! The client's message and the log's message are kept apart: whatever names a file, a thread or a library goes to the
//! log only.

use axum::http::{HeaderValue, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};

/// A stable code of a refusal. The status says what the caller will do: mend the request (4xx), ask again later (503).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Code {
    /// The code, `snake_case`, in the answer's `code`.
    pub name: &'static str,
    /// The HTTP status it comes with.
    pub status: u16,
    /// When it is given and what may be done next.
    pub doc: &'static str,
}

impl Code {
    /// Where its page is: the `type` of RFC 9457, relative to the server.
    pub(crate) fn page(&self) -> String {
        format!("/docs/codes/{}", self.name)
    }
}

macro_rules! codes {
    ($($constant:ident $name:literal $status:literal $doc:literal)*) => {
        $(pub(crate) const $constant: Code = Code { name: $name, status: $status, doc: $doc };)*
        /// Every code an answer may carry.
        pub const CODES: &[Code] = &[$($constant),*];
    };
}

codes! {
    BAD_PARAMETER "bad_parameter" 400 "A query parameter's value cannot be read, is out of range, or contradicts another."
    UNKNOWN_PARAMETER "unknown_parameter" 400 "The route has no such query parameter; the message names the nearest one it has."
    BAD_FILTER "bad_filter" 400 "The filter is not of the grammar `column op literal [and …]`, or names a column that is not there."
    BAD_KEY "bad_key" 400 "A key has too many or too few cells, or a cell is not of its column's type."
    BAD_CURSOR "bad_cursor" 400 "The cursor was not given out for this view."
    BAD_EVENT_ID "bad_event_id" 400 "`Last-Event-ID` (or `after`) is not an id this route has sent."
    BAD_PAYLOAD "bad_payload" 400 "The body as a whole cannot be read; no record of it was taken."
    BAD_SQL "bad_sql" 400 "The text is no query that is answered: it cannot be read, is not one `SELECT`, `WITH`, `VALUES` or `EXPLAIN`, or names what is not there."
    BAD_IDEMPOTENCY_KEY "bad_idempotency_key" 400 "`Idempotency-Key` is not 1 to 255 visible ASCII characters."
    TLS_REQUIRED "tls_required" 400 "The port speaks TLS and the request came without: ask at `https://`."
    UNAUTHENTICATED "unauthenticated" 401 "The daemon has tokens and the request has none of them: it needs `Authorization: Bearer TOKEN`."
    FORBIDDEN "forbidden" 403 "The token's role may not do this; the message names the role that may."
    NO_SUCH_ROUTE "no_such_route" 404 "Nothing is served at this path; `GET /` lists what is."
    NO_SUCH_VIEW "no_such_view" 404 "The pipeline has no stored relation of that name."
    NO_SUCH_SOURCE "no_such_source" 404 "The pipeline has no source of that name."
    NO_SUCH_EPOCH "no_such_epoch" 404 "No record of that epoch is kept."
    ROW_NOT_FOUND "row_not_found" 404 "The view has no row of that key at the epoch read."
    METHOD_NOT_ALLOWED "method_not_allowed" 405 "The path takes other methods; `Allow` names them."
    NOT_ACCEPTABLE "not_acceptable" 406 "`Accept` names no format the route can give."
    REQUEST_TIMEOUT "request_timeout" 408 "The body did not arrive in time; no record of it was taken."
    SOURCE_NOT_PUSHED "source_not_pushed" 409 "The source fetches its records itself and takes none by POST."
    AHEAD_OF_STORE "ahead_of_store" 409 "The event id is of an epoch this store has not reached: it comes from another store. Start again from a snapshot."
    IDEMPOTENCY_CONFLICT "idempotency_conflict" 409 "The `Idempotency-Key` was used for other records. Nothing was taken."
    CHECKPOINT_EXISTS "checkpoint_exists" 409 "There is a checkpoint of that name; nothing was done."
    COMPACTED "compacted" 410 "The epoch is older than what is retained. Start again from the newest (`from=snapshot`)."
    BODY_TOO_LARGE "body_too_large" 413 "The body is longer than the limit; send it in parts."
    UNSUPPORTED_MEDIA_TYPE "unsupported_media_type" 415 "`Content-Type` (or `Content-Encoding`) is none of those taken."
    QUERY_FAILED "query_failed" 422 "The query met values it cannot compute with: a division by zero, an overflow, text that is no number."
    QUERY_TOO_LARGE "query_too_large" 422 "The query gathers or answers more than the limit. Add a condition or `LIMIT`, or read the view in pages."
    QUERY_TIMEOUT "query_timeout" 422 "The query took longer than the limit and was cancelled. Ask for less."
    INTERNAL "internal" 500 "Something is broken here; the daemon's log says what."
    EPOCH_NOT_PUBLISHED "epoch_not_published" 503 "The epoch asked for is not readable yet (within `wait_ms`). Ask again."
    NOT_TAKING_RECORDS "not_taking_records" 503 "The engine is starting, ending or has failed; no record was taken. Ask again."
    PUSH_OUTCOME_UNKNOWN "push_outcome_unknown" 503 "The records may have been taken. Repeat the request with the same `Idempotency-Key`."
    NOT_READY "not_ready" 503 "The engine is rebuilding its dataflow or has failed; the body says which. Committed views are served."
    BUSY "busy" 503 "Too many requests of this kind at once; nothing was done. Ask again."
}

/// A refusal.
#[derive(Debug)]
pub(crate) struct Problem {
    pub(crate) code: Code,
    pub(crate) message: String,
    /// What the log is told beside; the client is not.
    log: Option<String>,
}

impl Problem {
    pub(crate) fn new(code: Code, message: impl Into<String>) -> Problem {
        Problem { code, message: message.into(), log: None }
    }

    /// The answer's body.
    pub(crate) fn body(&self) -> String {
        serde_json::json!({
            "type": self.code.page(),
            "code": self.code.name,
            "status": self.code.status,
            "message": self.message,
        })
        .to_string()
    }

    /// Nothing is served at a path; the nearest of those where something is may be named.
    pub(crate) fn no_such_route<'a>(
        method: &Method,
        uri: &Uri,
        got: &str,
        known: impl IntoIterator<Item = &'a str>,
    ) -> Problem {
        let near = suggestion(got, known);
        Problem::new(NO_SUCH_ROUTE, format!("nothing is served at {method} {}{near}", uri.path()))
    }

    /// A broken invariant: the text is for the log alone.
    pub(crate) fn internal(log: impl std::fmt::Display) -> Problem {
        Problem {
            code: INTERNAL,
            message: "something is broken here; the daemon's log says what".into(),
            log: Some(log.to_string()),
        }
    }
}

impl From<storage::Error> for Problem {
    fn from(error: storage::Error) -> Problem {
        match error {
            storage::Error::Compacted { since, .. } => {
                Problem::new(COMPACTED, format!("that epoch is no longer kept: the oldest readable one is {since}"))
            }
            storage::Error::NotYet { newest, .. } => {
                Problem::new(EPOCH_NOT_PUBLISHED, format!("that epoch is not published yet: the newest is {newest}"))
            }
            other => Problem::internal(format!("the store: {other}")),
        }
    }
}

impl From<types::CodecError> for Problem {
    fn from(error: types::CodecError) -> Problem {
        Problem::internal(error)
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        if let Some(log) = &self.log {
            tracing::error!(code = self.code.name, "{log}");
        }
        let body = self.body();
        let status = StatusCode::from_u16(self.code.status).expect("a status of the list");
        let mut response = (status, body).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if self.code.status == 503 {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}

/// The one of `known` nearest to `got`, if any is near enough to be what was meant.
pub(crate) fn nearest<'a>(got: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    known
        .into_iter()
        .map(|name| (strsim::damerau_levenshtein(got, name), name))
        .filter(|(distance, name)| *distance <= name.chars().count().max(got.chars().count()) / 2)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, name)| name)
}

/// `; did you mean …?`, or nothing.
pub(crate) fn suggestion<'a>(got: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    nearest(got, known).map_or_else(String::new, |name| format!("; did you mean `{name}`?"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_stable_names_each_once() {
        let mut names: Vec<&str> = CODES.iter().map(|c| c.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), CODES.len());
        assert!(CODES.iter().all(|c| (400..600).contains(&c.status) && c.doc.ends_with('.')));
    }

    #[test]
    fn the_log_is_told_more_than_the_client() {
        let problem = Problem::internal("/secret/path broke");
        assert!(!problem.message.contains("secret"));
    }

    #[test]
    fn a_near_name_is_suggested_and_a_far_one_is_not() {
        assert_eq!(suggestion("limt", ["limit", "cursor"]), "; did you mean `limit`?");
        assert_eq!(suggestion("zzzzzz", ["limit", "cursor"]), "");
    }
}
