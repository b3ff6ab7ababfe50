//! What needs the running engine: the pipeline, its sources, how far it is, whether it is ready, its metrics.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use engine::clock::Clock;
use engine::pipeline::{Concealed, explain};
use engine::{Handle, Phase, Status};
use prometheus::{Encoder, TextEncoder};
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use crate::ingest::no_such_source;
use crate::params::{Params, Segment};
use crate::problem::{BAD_PARAMETER, BUSY, CHECKPOINT_EXISTS, NO_SUCH_EPOCH, NOT_READY, Problem};
use crate::read::{Read, blocking};
use crate::routes;
use crate::views::describe;

/// For how long an epoch may be sealed and none be published: then something is stuck.
const STUCK: Duration = Duration::from_secs(60);

/// What every handler that speaks to the engine shares.
#[derive(Debug)]
pub(crate) struct Control {
    pub(crate) handle: Handle,
    pub(crate) read: Arc<Read>,
    pub(crate) pushes: Semaphore,
    /// One at a time.
    pub(crate) checkpoints: Semaphore,
    pub(crate) advance: Advance,
    pub(crate) clock: Clock,
}

/// `GET /v1/pipelines`
pub(crate) async fn pipelines(State(control): State<Arc<Control>>, uri: Uri) -> Result<Response, Problem> {
    Params::parse(&routes::PIPELINES, &uri)?;
    let plan = control.handle.plan();
    let sources: Vec<Value> = plan
        .sources
        .iter()
        .map(|s| {
            let mut source = describe(&s.schema);
            source["name"] = json!(s.name);
            source["type"] = json!(s.connector_name);
            source["reads"] = json!(plan.concealed.hide(&s.connector.describe()));
            source
        })
        .collect();
    let steps: Vec<Value> = plan
        .steps
        .iter()
        .map(|s| {
            let outputs: Vec<Value> = s
                .relations()
                .map(|(name, schema)| {
                    let mut output = describe(schema);
                    output["name"] = json!(name);
                    output
                })
                .collect();
            let inputs: Vec<&str> = s.plan.inputs.iter().map(|i| i.relation.as_str()).collect();
            json!({"name": s.name, "operator": s.operator, "inputs": inputs, "detail": plan.concealed.hide(&s.plan.detail), "outputs": outputs})
        })
        .collect();
    let sinks: Vec<Value> = plan
        .sinks
        .iter()
        .map(|s| json!({"name": s.name, "type": s.type_name, "view": s.relation, "writes": plan.concealed.hide(&s.sink.describe())}))
        .collect();
    let pipeline = json!({
        "name": plan.name,
        "fingerprint": plan.fingerprint(),
        "sources": sources,
        "steps": steps,
        "sinks": sinks,
        "text": explain::text(plan),
        "mermaid": explain::mermaid(plan),
    });
    Ok(axum::Json(json!({"pipelines": [pipeline]})).into_response())
}

/// `GET /v1/sources`
pub(crate) async fn sources(State(control): State<Arc<Control>>, uri: Uri) -> Result<Response, Problem> {
    Params::parse(&routes::SOURCES, &uri)?;
    let sources = all_sources(&control)?;
    Ok(axum::Json(json!({"sources": sources})).into_response())
}

/// `GET /v1/sources/{source}`
pub(crate) async fn source(
    State(control): State<Arc<Control>>,
    Segment(name): Segment,
    uri: Uri,
) -> Result<Response, Problem> {
    Params::parse(&routes::SOURCE, &uri)?;
    let found = all_sources(&control)?.into_iter().find(|s| s["name"] == name.as_str());
    found.map(|s| axum::Json(s).into_response()).ok_or_else(|| no_such_source(&control, &name))
}

fn all_sources(control: &Control) -> Result<Vec<Value>, Problem> {
    let status = control.handle.status();
    let plan = control.handle.plan();
    let mut sources = Vec::new();
    for planned in &plan.sources {
        let mut source = describe(&planned.schema);
        source["name"] = json!(planned.name);
        source["type"] = json!(planned.connector_name);
        source["pushed"] = json!(planned.connector.is_push());
        source["keyed"] = json!(planned.is_keyed());
        if let Some(s) = status.sources.iter().find(|s| s.name == planned.name) {
            source["records"] = json!(s.records);
            source["faults"] = json!(s.faults);
            source["progress"] = shown(&plan.concealed, &s.progress)?;
        }
        sources.push(source);
    }
    Ok(sources)
}

/// Where a source stands, without what came from the environment: a folder's name, a topic's.
fn shown(concealed: &Concealed, stands: &impl serde::Serialize) -> Result<Value, Problem> {
    fn hide(concealed: &Concealed, value: Value) -> Value {
        match value {
            Value::String(text) => Value::String(concealed.hide(&text)),
            Value::Array(all) => all.into_iter().map(|v| hide(concealed, v)).collect(),
            Value::Object(all) => all.into_iter().map(|(k, v)| (concealed.hide(&k), hide(concealed, v))).collect(),
            other => other,
        }
    }
    Ok(hide(concealed, serde_json::to_value(stands).map_err(Problem::internal)?))
}

/// `GET /v1/sinks`
pub(crate) async fn sinks(State(control): State<Arc<Control>>, uri: Uri) -> Result<Response, Problem> {
    Params::parse(&routes::SINKS, &uri)?;
    let status = control.handle.status();
    let sinks: Vec<Value> = status
        .sinks
        .iter()
        .map(|s| {
            let lag = s.delivered.map(|epoch| status.published.saturating_sub(epoch));
            json!({"name": s.name, "type": s.type_name, "view": s.view, "delivered": s.delivered, "lag_epochs": lag, "records": s.records})
        })
        .collect();
    Ok(axum::Json(json!({"published": status.published, "sinks": sinks})).into_response())
}

/// `GET /v1/epochs`
pub(crate) async fn epochs(State(control): State<Arc<Control>>, uri: Uri) -> Result<Response, Problem> {
    Params::parse(&routes::EPOCHS, &uri)?;
    let status = control.handle.status();
    let mut body = phase(&status.phase)?;
    body["sealed"] = json!(status.sealed);
    body["computed"] = json!(status.computed);
    body["durable"] = json!(status.durable);
    body["published"] = json!(status.published);
    body["since"] = json!(control.read.store.since());
    Ok(axum::Json(body).into_response())
}

/// `GET /v1/epochs/{epoch}`
pub(crate) async fn epoch(
    State(read): State<Arc<Read>>,
    Segment(epoch): Segment,
    uri: Uri,
) -> Result<Response, Problem> {
    Params::parse(&routes::EPOCH, &uri)?;
    let epoch: types::Epoch =
        epoch.parse().map_err(|_| Problem::new(BAD_PARAMETER, format!("an epoch is a whole number, not `{epoch}`")))?;
    let hiding = Arc::clone(&read);
    let remap = blocking(move || Ok(read.store.remap(epoch)?)).await?;
    match remap {
        Some(remap) => Ok(axum::Json(shown(&hiding.concealed, &remap)?).into_response()),
        None => Err(Problem::new(NO_SUCH_EPOCH, format!("there is no record of epoch {epoch}"))),
    }
}

/// `POST /v1/checkpoints/{name}`
pub(crate) async fn checkpoint(
    State(control): State<Arc<Control>>,
    Segment(name): Segment,
    uri: Uri,
) -> Result<Response, Problem> {
    Params::parse(&routes::CHECKPOINT, &uri)?;
    let is_name = (1..=100).contains(&name.len())
        && name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c));
    if !is_name {
        let message = "a checkpoint's name is 1 to 100 letters, digits, `.`, `_` or `-`, a letter or digit first";
        return Err(Problem::new(BAD_PARAMETER, message));
    }
    let Ok(_only) = control.checkpoints.try_acquire() else {
        return Err(Problem::new(BUSY, "a checkpoint is being made"));
    };
    let store = control.read.store.clone();
    let to = store.path().join("checkpoints").join(&name);
    if std::fs::symlink_metadata(&to).is_ok() {
        return Err(Problem::new(CHECKPOINT_EXISTS, format!("there is a checkpoint `{name}`")));
    }
    let epoch = blocking(move || Ok(store.checkpoint(&to)?)).await?;
    Ok(axum::Json(json!({"name": name, "epoch": epoch})).into_response())
}

/// `GET /healthz/live`
pub(crate) async fn live() -> Response {
    axum::Json(json!({"live": true})).into_response()
}

/// `GET /healthz/ready`
pub(crate) async fn ready(State(control): State<Arc<Control>>) -> Result<Response, Problem> {
    let status = control.handle.status();
    let mut body = phase(&status.phase)?;
    body["rehydrated"] = json!(status.rehydrated);
    if control.is_ready(&status) {
        return Ok(axum::Json(body).into_response());
    }
    body["code"] = json!(NOT_READY.name);
    Ok((StatusCode::SERVICE_UNAVAILABLE, [(header::RETRY_AFTER, "1")], axum::Json(body)).into_response())
}

/// Since when the newest published epoch is that, while another one is sealed.
#[derive(Debug, Default)]
pub(crate) struct Advance(Mutex<Option<(types::Epoch, Duration)>>);

impl Advance {
    /// Whether epochs go on: none is sealed that is not published, or one was published lately.
    fn goes_on(&self, sealed: types::Epoch, published: types::Epoch, now: Duration) -> bool {
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *waiting = match *waiting {
            _ if sealed <= published => None,
            Some((epoch, since)) if epoch == published => Some((epoch, since)),
            _ => Some((published, now)),
        };
        waiting.is_none_or(|(_, since)| now.saturating_sub(since) < STUCK)
    }
}

impl Control {
    /// Whether records are taken, and become readable.
    fn is_ready(&self, status: &Status) -> bool {
        let goes_on = self.advance.goes_on(status.sealed, status.published, self.clock.elapsed());
        matches!(status.phase, Phase::Live | Phase::Ended) && goes_on
    }
}

/// The phase, without the reason of a failure: that is for the log and the operator of the daemon.
fn phase(phase: &Phase) -> Result<Value, Problem> {
    let named = serde_json::to_value(phase).map_err(Problem::internal)?;
    Ok(json!({"phase": named["phase"]}))
}

/// `GET /metrics`
pub(crate) async fn metrics(State(control): State<Arc<Control>>) -> Result<Response, Problem> {
    let mut body = Vec::new();
    control.read.metrics.ready.set(i64::from(control.is_ready(&control.handle.status())));
    let families = control.handle.metrics().registry.gather();
    TextEncoder::new().encode(&families, &mut body).map_err(Problem::internal)?;
    let mut response = body.into_response();
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(prometheus::TEXT_FORMAT));
    Ok(response)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn epochs_that_are_sealed_and_never_published_are_told() {
        let (advance, secs) = (Advance::default(), Duration::from_secs);
        assert!(advance.goes_on(5, 5, secs(0)) && advance.goes_on(5, 5, secs(1_000)));
        // One waits, and is published; the next waits for ever.
        assert!(advance.goes_on(6, 5, secs(1_001)) && advance.goes_on(9, 6, secs(1_059)));
        assert!(advance.goes_on(9, 6, secs(1_118)) && !advance.goes_on(9, 6, secs(1_119)));
        assert!(!advance.goes_on(12, 6, secs(2_000)) && advance.goes_on(12, 7, secs(2_001)));
        assert!(advance.goes_on(12, 12, secs(9_000)));
    }
}
