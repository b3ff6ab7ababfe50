//! Which handler serves which route of the list, and what is said where nothing is served.

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{self, HeaderValue, Method, Uri, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, any, get, post};
use futures_util::future::Either;
use hyper::service::Service as HyperService;
use hyper_util::service::TowerToHyperService;

use crate::auth::Tokens;
use crate::control::{self, Control};
use crate::problem::{METHOD_NOT_ALLOWED, Problem};
use crate::read::Read;
use crate::routes::{self as r, ROUTES, Route};
use crate::{changes, dashboard, docs, ingest, openapi, query, views};

/// Answers requests of those who may ask: by the routes, and what is asked most, the newest row of a key, before them. Routing, with the boxes
/// and layers it takes, costs as much as such a lookup.
#[derive(Clone, Debug)]
pub(crate) struct Service {
    read: Arc<Read>,
    /// Who is let in; `None`: everyone.
    tokens: Option<Arc<Tokens>>,
    routes: TowerToHyperService<Router>,
}

impl Service {
    pub(crate) fn new(read: Arc<Read>, routes: Router) -> Service {
        let tokens = read.options.tokens.clone();
        Service { read, tokens, routes: TowerToHyperService::new(routes) }
    }
}

impl<B> HyperService<http::Request<B>> for Service
where
    TowerToHyperService<Router>: HyperService<http::Request<B>, Response = Response, Error = Infallible>,
{
    type Response = Response;
    type Error = Infallible;
    type Future = Either<
        Ready<Result<Response, Infallible>>,
        <TowerToHyperService<Router> as HyperService<http::Request<B>>>::Future,
    >;

    fn call(&self, mut request: http::Request<B>) -> Self::Future {
        if let Some(tokens) = &self.tokens {
            match tokens.admit(request.method(), request.uri().path(), request.headers()) {
                Ok(Some(grant)) => drop(request.extensions_mut().insert(grant)),
                Ok(None) => {}
                Err((label, response)) => {
                    self.read.metrics.answered(label, response.status().as_u16());
                    return Either::Left(ready(Ok(response)));
                }
            }
        }
        match views::get_newest_row(&self.read, &request) {
            Some(response) => Either::Left(ready(Ok(response))),
            None => Either::Right(self.routes.call(request)),
        }
    }
}

/// What needs the store alone.
pub(crate) fn read_side(read: &Arc<Read>) -> Router {
    let on = |route: &Route, handlers: MethodRouter<Arc<Read>>| (route.path, observed(read, route.path, handlers));
    let served = [
        on(&r::INDEX, get(dashboard::index)),
        on(&r::DASHBOARD, get(dashboard::part)),
        on(&r::DOCS, get(docs::docs)),
        on(&r::CODE_PAGE, get(docs::code)),
        on(&r::VIEWS, get(views::list)),
        on(&r::SCAN, get(views::scan)),
        on(&r::CHANGES, get(changes::subscribe)),
        on(&r::READ, get(views::several)),
        on(&r::QUERY, post(query::query)),
        on(&r::FAULTS, get(views::faults)),
        on(&r::FAULTS_SUMMARY, get(views::faults_summary)),
        on(&r::EPOCH, get(control::epoch)),
        on(&r::LIVE, get(control::live)),
        on(&r::OPENAPI, get(description)),
        // Counts itself, here and where it is answered before the routes.
        (r::GET_ROW.path, get(views::get_row)),
    ];
    let router = served.into_iter().fold(Router::new(), |router, (path, handlers)| router.route(path, handlers));
    // A path that is no route must not become a label: there are endlessly many.
    let nowhere = middleware::from_fn_with_state((Arc::clone(read), "none"), observe);
    router
        .fallback_service(any(no_such_route).layer(nowhere))
        .method_not_allowed_fallback(method_not_allowed)
        .with_state(Arc::clone(read))
}

/// What needs the running engine.
pub(crate) fn control_side(control: &Arc<Control>) -> Router {
    let on = |route: &Route, handlers: MethodRouter<Arc<Control>>| {
        (route.path, observed(&control.read, route.path, handlers))
    };
    let served = [
        on(&r::PIPELINES, get(control::pipelines)),
        on(&r::SOURCES, get(control::sources)),
        on(&r::SOURCE, get(control::source)),
        on(&r::SINKS, get(control::sinks)),
        on(&r::PUSH, post(ingest::push)),
        on(&r::EPOCHS, get(control::epochs)),
        on(&r::CHECKPOINT, post(control::checkpoint)),
        on(&r::READY, get(control::ready)),
        on(&r::METRICS, get(control::metrics)),
    ];
    let router = served.into_iter().fold(Router::new(), |router, (path, handlers)| router.route(path, handlers));
    router.method_not_allowed_fallback(method_not_allowed).with_state(Arc::clone(control))
}

fn observed<S: Clone + Send + Sync + 'static>(
    read: &Arc<Read>,
    label: &'static str,
    handlers: MethodRouter<S>,
) -> MethodRouter<S> {
    handlers.layer(middleware::from_fn_with_state((Arc::clone(read), label), observe))
}

/// Counts and times a request under its route.
async fn observe(State((read, label)): State<(Arc<Read>, &'static str)>, request: Request, next: Next) -> Response {
    let timer = read.metrics.seconds(label).start_timer();
    let response = next.run(request).await;
    timer.observe_duration();
    read.metrics.answered(label, response.status().as_u16());
    response
}

async fn description() -> Response {
    axum::Json(openapi::openapi()).into_response()
}

async fn no_such_route(method: Method, uri: Uri) -> Problem {
    let plain = ROUTES.iter().filter(|r| !r.path.contains('{')).map(|r| r.path);
    Problem::no_such_route(&method, &uri, uri.path(), plain)
}

async fn method_not_allowed(method: Method, uri: Uri) -> Response {
    let path = uri.path();
    let mut response = Problem::new(METHOD_NOT_ALLOWED, format!("{path} does not take {method}")).into_response();
    let posts = (path.starts_with("/v1/sources/") && path.ends_with("/records"))
        || path.starts_with("/v1/checkpoints/")
        || path == r::QUERY.path;
    response.headers_mut().insert(header::ALLOW, HeaderValue::from_static(if posts { "POST" } else { "GET, HEAD" }));
    response
}
