//! The dashboard: a page of our own files that shows what the other routes tell. It asks nobody but this server.

use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};

use crate::format::quality;
use crate::params::{Params, Segment};
use crate::problem::Problem;
use crate::read::accept;
use crate::routes::{self, ROUTES};

const PAGE: &str = include_str!("index.html");

/// The files the page is made of, with their media types.
const FILES: [(&str, &str, &str); 6] = [
    ("app.js", "text/javascript; charset=utf-8", include_str!("app.js")),
    ("graph.js", "text/javascript; charset=utf-8", include_str!("graph.js")),
    ("lib.js", "text/javascript; charset=utf-8", include_str!("lib.js")),
    ("pictures.js", "text/javascript; charset=utf-8", include_str!("pictures.js")),
    ("style.css", "text/css; charset=utf-8", include_str!("style.css")),
    ("icon.svg", "image/svg+xml", include_str!("icon.svg")),
];

/// Scripts, styles, pictures and requests of this server alone, nothing inline, and in nobody's frame.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// `GET /`
pub(crate) async fn index(headers: HeaderMap) -> Response {
    let mut response = if prefers_html(accept(&headers)) {
        file("text/html; charset=utf-8", PAGE)
    } else {
        let lines = ROUTES.iter().map(|r| format!("{:<5}{:<34}{}\n", r.method, r.path, r.summary));
        format!("Thalweg\n\n{}", lines.collect::<String>()).into_response()
    };
    response.headers_mut().insert(header::VARY, HeaderValue::from_static("accept"));
    response
}

/// `GET /dashboard/{file}`
pub(crate) async fn part(Segment(name): Segment, method: Method, uri: Uri) -> Result<Response, Problem> {
    Params::parse(&routes::DASHBOARD, &uri)?;
    match FILES.iter().find(|(known, ..)| *known == name) {
        Some((_, media, text)) => Ok(file(media, *text)),
        None => Err(Problem::no_such_route(&method, &uri, &name, FILES.iter().map(|(known, ..)| *known))),
    }
}

/// Browsers say that they would rather have HTML than text; `curl` takes anything, and gets text.
pub(crate) fn prefers_html(accept: Option<&str>) -> bool {
    accept.is_some_and(|accept| quality(accept, "text/html") > quality(accept, "text/plain"))
}

/// A page of our own in the dashboard's style, under its policy.
pub(crate) fn html(page: String) -> Response {
    file("text/html; charset=utf-8", page)
}

fn file(media: &'static str, text: impl IntoResponse) -> Response {
    let headers: [(HeaderName, &'static str); 6] = [
        (header::CONTENT_TYPE, media),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
        // Another version of the program is another page.
        (header::CACHE_CONTROL, "no-cache"),
    ];
    (StatusCode::OK, headers, text).into_response()
}
