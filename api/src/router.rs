//! Which handler serves which route of the list, and what is said where nothing is served.

use std::sync::Arc;

use axum::Router;
use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderValue, Method, Uri, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};

use crate::control::{self, Control};
use crate::problem::{METHOD_NOT_ALLOWED, NO_SUCH_ROUTE, Problem, suggestion};
use crate::read::Read;
use crate::routes::{self as r, ROUTES};
use crate::{changes, ingest, manual, views};

/// What needs the store alone.
pub(crate) fn read_side(read: &Arc<Read>) -> Router {
    let watched = Router::new()
        .route(r::INDEX.path, get(index))
        .route(r::VIEWS.path, get(views::list))
        .route(r::SCAN.path, get(views::scan))
        .route(r::CHANGES.path, get(changes::subscribe))
        .route(r::READ.path, get(views::several))
        .route(r::FAULTS.path, get(views::faults))
        .route(r::FAULTS_SUMMARY.path, get(views::faults_summary))
        .route(r::EPOCH.path, get(control::epoch))
        .route(r::LIVE.path, get(control::live))
        .route(r::OPENAPI.path, get(openapi))
        .fallback(no_such_route)
        .method_not_allowed_fallback(method_not_allowed)
        .layer(middleware::from_fn_with_state(Arc::clone(read), observe))
        .with_state(Arc::clone(read));
    // Single rows are served without layers: they count themselves.
    let bare = Router::new()
        .route(r::GET_ROW.path, get(views::get_row))
        .method_not_allowed_fallback(method_not_allowed)
        .with_state(Arc::clone(read));
    watched.merge(bare)
}

/// What needs the running engine.
pub(crate) fn control_side(control: &Arc<Control>) -> Router {
    Router::new()
        .route(r::PIPELINES.path, get(control::pipelines))
        .route(r::SOURCES.path, get(control::sources))
        .route(r::SOURCE.path, get(control::source))
        .route(r::PUSH.path, post(ingest::push))
        .route(r::EPOCHS.path, get(control::epochs))
        .route(r::READY.path, get(control::ready))
        .route(r::METRICS.path, get(control::metrics))
        .method_not_allowed_fallback(method_not_allowed)
        .layer(middleware::from_fn_with_state(Arc::clone(&control.read), observe))
        .with_state(Arc::clone(control))
}

/// Counts and times a request under its route.
async fn observe(State(read): State<Arc<Read>>, request: Request, next: Next) -> Response {
    let matched = request.extensions().get::<MatchedPath>().cloned();
    // A path that is no route must not become a label: there are endlessly many.
    let route = matched.as_ref().map_or("none", MatchedPath::as_str);
    let timer = read.metrics.seconds(route).start_timer();
    let response = next.run(request).await;
    timer.observe_duration();
    read.metrics.answered(route, response.status().as_u16());
    response
}

async fn index() -> Response {
    let mut text = String::from("Thalweg\n\n");
    for route in ROUTES {
        text.push_str(&format!("{:<5}{:<34}{}\n", route.method, route.path, route.summary));
    }
    text.into_response()
}

async fn openapi() -> Response {
    axum::Json(manual::openapi()).into_response()
}

async fn no_such_route(method: Method, uri: Uri) -> Problem {
    let near = suggestion(uri.path(), ROUTES.iter().filter(|r| !r.path.contains('{')).map(|r| r.path));
    Problem::new(NO_SUCH_ROUTE, format!("nothing is served at {method} {}{near}", uri.path()))
}

async fn method_not_allowed(method: Method, uri: Uri) -> Response {
    let path = uri.path();
    let mut response = Problem::new(METHOD_NOT_ALLOWED, format!("{path} does not take {method}")).into_response();
    let posts = path.starts_with("/v1/sources/") && path.ends_with("/records");
    response.headers_mut().insert(header::ALLOW, HeaderValue::from_static(if posts { "POST" } else { "GET, HEAD" }));
    response
}
