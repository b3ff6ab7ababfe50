//! Taking records: a body by its content type, handed to the engine, answered when it is durable.

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, HttpBody as _};
use axum::extract::State;
use axum::http::{HeaderMap, Uri, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use engine::{Push, PushError, PushFormat};
use http_body_util::LengthLimitError;

use crate::control::Control;
use crate::params::{Params, Segment};
use crate::problem::{
    BAD_IDEMPOTENCY_KEY, BAD_PAYLOAD, BODY_TOO_LARGE, BUSY, IDEMPOTENCY_CONFLICT, NO_SUCH_SOURCE, NOT_TAKING_RECORDS,
    PUSH_OUTCOME_UNKNOWN, Problem, REQUEST_TIMEOUT, SOURCE_NOT_PUSHED, UNSUPPORTED_MEDIA_TYPE, suggestion,
};
use crate::routes;

/// What a body is by its `Content-Type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Json,
    Ndjson,
    Arrow,
}

const KINDS: [(&str, Kind); 3] = [
    ("application/json", Kind::Json),
    ("application/x-ndjson", Kind::Ndjson),
    ("application/vnd.apache.arrow.stream", Kind::Arrow),
];

/// `POST /v1/sources/{source}/records`
pub(crate) async fn push(
    State(control): State<Arc<Control>>,
    Segment(source): Segment,
    uri: Uri,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    Params::parse(&routes::PUSH, &uri)?;
    // Refused before the body is read: what is wrong with the source costs no transfer.
    let planned = control.handle.plan().sources.iter().find(|s| s.name == source);
    match planned {
        None => return Err(no_such_source(&control, &source)),
        Some(s) if !s.connector.is_push() => return Err(refused(PushError::NotPushed(source), &control)),
        Some(_) => {}
    }
    let kind = kind(&headers)?;
    let idempotency_key = idempotency_key(&headers)?;
    let limits = &control.read.options;
    if body.size_hint().lower() > limits.body_bytes_max as u64 {
        return Err(too_large(limits.body_bytes_max));
    }
    let Ok(_permit) = tokio::time::timeout(limits.request_timeout, control.pushes.acquire()).await else {
        return Err(Problem::new(BUSY, "too many pushes at once"));
    };
    let too_large = || too_large(limits.body_bytes_max);
    let body = read_body(body, limits.body_bytes_max, limits.request_timeout, too_large).await?;
    let (format, payload) = match kind {
        Kind::Ndjson => (PushFormat::Ndjson, body.to_vec()),
        Kind::Arrow => (PushFormat::Arrow, body.to_vec()),
        Kind::Json => {
            let lines = lines(&body).map_err(|e| Problem::new(BAD_PAYLOAD, e))?;
            // A first line that is itself an array would be taken for an array of records: then the array goes on as
            // it came, and that element is a fault like any other.
            let nested = lines.trim_ascii_start().starts_with(b"[");
            (PushFormat::Ndjson, if nested { body.to_vec() } else { lines })
        }
    };
    let handle = control.handle.clone();
    let push = Push { format, payload, idempotency_key };
    let pushing = tokio::task::spawn_blocking(move || handle.push(&source, push));
    match tokio::time::timeout(limits.push_timeout, pushing).await {
        Ok(Ok(Ok(pushed))) => Ok(axum::Json(pushed).into_response()),
        Ok(Ok(Err(error))) => Err(refused(error, &control)),
        Ok(Err(panicked)) => Err(Problem::internal(panicked)),
        Err(_) => {
            Err(Problem::new(PUSH_OUTCOME_UNKNOWN, "the records may have been taken: the engine has not said yet"))
        }
    }
}

/// The whole of a body, if it arrives in time and is not longer than the limit.
pub(crate) async fn read_body(
    body: Body,
    bytes_max: usize,
    within: Duration,
    too_large: impl Fn() -> Problem,
) -> Result<Bytes, Problem> {
    match tokio::time::timeout(within, axum::body::to_bytes(body, bytes_max)).await {
        Err(_) => Err(Problem::new(REQUEST_TIMEOUT, "the body did not arrive in time")),
        Ok(Err(error)) => Err(match error.into_inner().is::<LengthLimitError>() {
            true => too_large(),
            false => Problem::new(BAD_PAYLOAD, "the body ended before it was whole"),
        }),
        Ok(Ok(bytes)) => Ok(bytes),
    }
}

/// Refuses a body that is compressed.
pub(crate) fn refuse_encoding(headers: &HeaderMap) -> Result<(), Problem> {
    match headers.get(header::CONTENT_ENCODING) {
        Some(encoding) if encoding != "identity" => {
            let message = "bodies are taken uncompressed: `Content-Encoding` may only be `identity`";
            Err(Problem::new(UNSUPPORTED_MEDIA_TYPE, message))
        }
        _ => Ok(()),
    }
}

fn kind(headers: &HeaderMap) -> Result<Kind, Problem> {
    let unsupported = |message| Err(Problem::new(UNSUPPORTED_MEDIA_TYPE, message));
    refuse_encoding(headers)?;
    let known: Vec<&str> = KINDS.iter().map(|(name, _)| *name).collect();
    let Some(given) = headers.get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()) else {
        return unsupported(format!("`Content-Type` says how the records are encoded: {}", known.join(", ")));
    };
    let name = given.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    match KINDS.iter().find(|(known, _)| *known == name) {
        Some((_, kind)) => Ok(*kind),
        None => unsupported(format!("records come as {}, not `{name}`", known.join(", "))),
    }
}

fn idempotency_key(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    let Some(value) = headers.get("idempotency-key") else { return Ok(None) };
    match value.to_str() {
        Ok(key) if (1..=255).contains(&key.len()) && key.bytes().all(|b| b.is_ascii_graphic()) => {
            Ok(Some(key.to_owned()))
        }
        _ => Err(Problem::new(BAD_IDEMPOTENCY_KEY, "`Idempotency-Key` is 1 to 255 visible ASCII characters")),
    }
}

fn too_large(limit: usize) -> Problem {
    Problem::new(BODY_TOO_LARGE, format!("a body has at most {limit} bytes: send it in parts"))
}

pub(crate) fn no_such_source(control: &Control, name: &str) -> Problem {
    let near = suggestion(name, control.handle.plan().sources.iter().map(|s| s.name.as_str()));
    Problem::new(NO_SUCH_SOURCE, format!("there is no source `{name}`{near}"))
}

fn refused(error: PushError, control: &Control) -> Problem {
    let code = match &error {
        PushError::NoSuchSource(name) => return no_such_source(control, name),
        PushError::NotPushed(_) => SOURCE_NOT_PUSHED,
        PushError::BadPayload(_) => BAD_PAYLOAD,
        PushError::IdempotencyConflict(_) => IDEMPOTENCY_CONFLICT,
        PushError::Closed(_) => NOT_TAKING_RECORDS,
        PushError::Unknown(_) => PUSH_OUTCOME_UNKNOWN,
    };
    Problem::new(code, error.to_string())
}

/// The elements of a JSON array, or one object, one a line: cut, not parsed, so that an element that is no good JSON
/// becomes a fault of its own, numbers keep every digit, and depth costs nothing. `Err` is a sentence.
fn lines(body: &[u8]) -> Result<Vec<u8>, String> {
    let body = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body).trim_ascii();
    let array = match body.first() {
        Some(b'[') => true,
        Some(b'{') => false,
        _ => return Err("the body is neither a JSON object nor an array of objects".into()),
    };
    let mut out = Vec::with_capacity(body.len() + 1);
    let (mut depth, mut in_string, mut escaped) = (0usize, false, false);
    let mut start = 0;
    let mut ended = false;
    for (at, &byte) in body.iter().enumerate() {
        if ended {
            return Err(format!("something follows the JSON at byte {at}"));
        }
        if in_string {
            match byte {
                _ if escaped => escaped = false,
                b'\\' => escaped = true,
                b'"' => in_string = false,
                b'\n' => return Err(format!("a string has a raw line break at byte {at}")),
                _ => {}
            }
        } else {
            match byte {
                b'"' => in_string = true,
                b'{' | b'[' => depth += 1,
                b'}' | b']' => {
                    depth = depth
                        .checked_sub(1)
                        .ok_or_else(|| format!("`{}` closes nothing at byte {at}", char::from(byte)))?;
                    ended = depth == 0;
                }
                b',' if array && depth == 1 => {}
                b'\n' | b'\r' => {
                    out.push(b' ');
                    continue;
                }
                _ => {}
            }
        }
        let opens = array && at == 0;
        let closes = array && ended;
        let comma = array && depth == 1 && !in_string && byte == b',';
        if comma || closes {
            let empty = out[start..].trim_ascii().is_empty();
            // Only `[]` may have nothing in it.
            if empty && (comma || start > 0) {
                return Err(format!("an element is missing before byte {at}"));
            }
            if empty {
                out.truncate(start);
            } else {
                out.push(b'\n');
            }
            start = out.len();
        } else if !opens {
            out.push(byte);
        }
    }
    if !ended {
        return Err("the body ends before its JSON does".into());
    }
    if !array {
        out.push(b'\n');
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(body: &str, expected: &str) {
        assert_eq!(String::from_utf8(lines(body.as_bytes()).unwrap()).unwrap(), expected, "{body}");
    }

    #[test]
    fn arrays_become_lines_without_being_parsed() {
        check(r#"{"a":1}"#, "{\"a\":1}\n");
        check(" {\"a\":\r\n [1,\n2]} ", "{\"a\":   [1, 2]}\n");
        check("[]", "");
        check("[ ]", "");
        check(r#"[{"a":"],[\"{"},{"b":[1,{"c":2}]}]"#, "{\"a\":\"],[\\\"{\"}\n{\"b\":[1,{\"c\":2}]}\n");
        check("[123456789012345678901234567890, nonsense]", "123456789012345678901234567890\n nonsense\n");
    }

    #[test]
    fn a_body_that_cannot_be_cut_is_refused() {
        for body in [
            "",
            "  ",
            "1",
            "\"x\"",
            "[",
            "{",
            "[{}",
            "[{},]",
            "[,{}]",
            "[{},,{}]",
            "{}{}",
            "[] x",
            "}",
            "[{\"a\":\"\n\"}]",
            "{]}x",
            "[\"a]",
        ] {
            assert!(lines(body.as_bytes()).is_err(), "{body}: {:?}", lines(body.as_bytes()));
        }
    }

    #[test]
    fn depth_costs_nothing() {
        let deep = format!("[{}{}]", "[".repeat(1_000_000), "]".repeat(1_000_000));
        assert_eq!(lines(deep.as_bytes()).unwrap().len(), 2_000_001);
    }

    #[test]
    fn idempotency_keys_are_short_visible_ascii() {
        let key = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert("idempotency-key", value.parse().unwrap());
            idempotency_key(&headers).map_err(|p| p.code)
        };
        assert_eq!(key("a-1"), Ok(Some("a-1".into())));
        assert_eq!(key(""), Err(BAD_IDEMPOTENCY_KEY));
        assert_eq!(key("a b"), Err(BAD_IDEMPOTENCY_KEY));
        assert_eq!(key(&"x".repeat(256)), Err(BAD_IDEMPOTENCY_KEY));
        assert_eq!(idempotency_key(&HeaderMap::new()).unwrap(), None);
    }

    #[test]
    fn content_types_are_three() {
        let check = |name: &'static str, value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(name, value.parse().unwrap());
            kind(&headers).map_err(|p| p.code)
        };
        assert_eq!(check("content-type", "Application/JSON; charset=utf-8"), Ok(Kind::Json));
        assert_eq!(check("content-type", "application/x-ndjson"), Ok(Kind::Ndjson));
        assert_eq!(check("content-type", "text/plain"), Err(UNSUPPORTED_MEDIA_TYPE));
        assert_eq!(check("content-encoding", "gzip"), Err(UNSUPPORTED_MEDIA_TYPE));
    }
}
