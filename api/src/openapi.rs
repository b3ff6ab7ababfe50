//! The OpenAPI document, made from the lists of routes and codes, and from what each route answers when all is well.
//!
//! `scripts/test-openapi` holds a running daemon to it: every status, content type and body it answers is one of those
//! described here.

use serde_json::{Map, Value, json};

use crate::auth::Role;
use crate::format::FORMATS;
use crate::params::LIMIT_MAX;
use crate::problem::{
    BAD_PARAMETER, CODES, Code, FORBIDDEN, INTERNAL, NO_SUCH_ROUTE, NOT_READY, UNAUTHENTICATED, UNKNOWN_PARAMETER,
};
use crate::query;
use crate::routes::{self as r, ROUTES, Route};
use crate::views::{CURSOR_HEADER, EPOCH_HEADER};

/// What OpenAPI calls the way tokens come.
const BEARER: &str = "bearer";

/// The API as an OpenAPI 3.1 document: what `GET /openapi.json` answers and `docs/openapi.json` holds.
pub fn openapi() -> Value {
    let mut paths = Map::new();
    for route in ROUTES {
        let path = route.path.replace("{*", "{");
        paths.insert(path.clone(), json!({ route.method.to_ascii_lowercase(): operation(route, &path) }));
    }
    json!({
        "openapi": "3.1.0",
        "info": {"title": "Thalweg", "version": env!("CARGO_PKG_VERSION")},
        "paths": paths,
        "components": {
            "securitySchemes": {BEARER: {
                "type": "http",
                "scheme": "bearer",
                "description": "Needed where the daemon was given tokens (`--tokens`).",
            }},
            "schemas": schemas(),
        },
    })
}

fn operation(route: &Route, path: &str) -> Value {
    let mut parameters: Vec<Value> = path
        .split('{')
        .skip(1)
        .map(|p| {
            let name = p.split('}').next().unwrap_or_default();
            json!({"name": name, "in": "path", "required": true, "schema": schema_of_segment(name)})
        })
        .collect();
    parameters.extend(route.params.iter().map(|p| {
        let mut parameter = json!({"name": p.name, "in": "query", "description": p.doc, "schema": schema_of(p.name)});
        if route.path == r::READ.path && p.name == "views" {
            parameter["required"] = json!(true);
        }
        parameter
    }));
    if route.path == r::PUSH.path {
        let schema = json!({"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[!-~]+$"});
        let doc = "Makes the request repeatable: under one key records are applied once.";
        parameters.push(json!({"name": "Idempotency-Key", "in": "header", "description": doc, "schema": schema}));
    }
    if route.path == r::CHANGES.path {
        let doc = "The id of the last event that was received: `epoch:seq` or `epoch:end`.";
        parameters
            .push(json!({"name": "Last-Event-ID", "in": "header", "description": doc, "schema": {"type": "string"}}));
    }
    let mut operation = json!({"summary": route.summary, "parameters": parameters, "responses": responses(route)});
    operation["security"] = match route.role {
        None => json!([]),
        // OpenAPI 3.1 lets roles stand beside any scheme.
        Some(role) => json!([{ BEARER: [Role::name(role)] }]),
    };
    if let Some(body) = body(route) {
        operation["requestBody"] = json!({"required": true, "content": body});
    }
    operation
}

fn responses(route: &Route) -> Value {
    let mut responses = Map::new();
    let (content, headers) = success(route);
    responses.insert("200".into(), json!({"description": route.doc, "headers": headers, "content": content}));
    if [r::SCAN.path, r::GET_ROW.path, r::FAULTS.path].contains(&route.path) {
        let doc = "The client has this epoch's answer: `If-None-Match` names its `ETag`.";
        responses.insert("304".into(), json!({"description": doc, "headers": headers}));
    }
    // What the gate before the routes answers is no route's own, and what every query and every path may meet is not
    // listed with each route.
    let gate: &[Code] = if route.role.is_some() { &[UNAUTHENTICATED, FORBIDDEN] } else { &[] };
    let paths: &[Code] = if route.path.contains('{') { &[NO_SUCH_ROUTE, BAD_PARAMETER] } else { &[] };
    let every = gate.iter().chain(paths).chain(&[UNKNOWN_PARAMETER, INTERNAL]);
    let mut codes: Vec<Code> = every.chain(route.codes).copied().collect();
    codes.sort_by_key(|c| (c.status, c.name));
    codes.dedup();
    let mut statuses: Vec<u16> = codes.iter().map(|c| c.status).collect();
    statuses.dedup();
    for status in statuses {
        let of_status: Vec<&Code> = codes.iter().filter(|c| c.status == status).collect();
        let names: Vec<&str> = of_status.iter().map(|c| c.name).collect();
        let mut content = json!({"application/problem+json": {"schema": reference("Problem")}});
        if of_status.contains(&&NOT_READY) {
            content = json!({"application/json": {"schema": reference("NotReady")}});
        }
        let mut headers = Map::new();
        if [401, 403].contains(&status) {
            headers.insert("WWW-Authenticate".into(), header("The challenge of RFC 6750.", &json!({"type": "string"})));
        }
        if status == 503 {
            headers.insert("Retry-After".into(), header("Seconds to wait.", &json!({"type": "integer"})));
        }
        responses.insert(
            status.to_string(),
            json!({"description": names.join(", "), "headers": headers, "content": content}),
        );
    }
    responses.into()
}

/// The schema of a parameter of the path.
fn schema_of_segment(name: &str) -> Value {
    match name {
        "epoch" => whole(),
        "name" => json!({"type": "string", "pattern": "^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$"}),
        _ => json!({"type": "string", "minLength": 1}),
    }
}

/// The schema of a query parameter. Texts with a grammar of their own are strings here.
fn schema_of(name: &str) -> Value {
    match name {
        "as_of" | "min_epoch" => whole(),
        "wait_ms" => json!({"type": "integer", "minimum": 0, "maximum": 60_000, "default": 10_000}),
        "limit" => json!({"type": "integer", "minimum": 1, "maximum": LIMIT_MAX, "default": 1_000}),
        "from" => json!({"type": "string", "enum": ["now", "snapshot"]}),
        "key" | "prefix" => json!({"type": "array", "items": {"type": "string"}}),
        _ => json!({"type": "string"}),
    }
}

/// What a request's body may be, by content type.
fn body(route: &Route) -> Option<Value> {
    let binary = || json!({"schema": {"type": "string", "contentMediaType": "application/octet-stream"}});
    let text = || json!({"schema": {"type": "string"}});
    if route.path == r::PUSH.path {
        // What is no record is a fault, and no reason to refuse the others.
        return Some(json!({
            "application/json": {"schema": {"type": ["object", "array"]}},
            "application/x-ndjson": text(),
            "application/vnd.apache.arrow.stream": binary(),
        }));
    }
    if route.path == r::QUERY.path {
        let param = json!({"type": ["null", "boolean", "number", "string"]});
        let query = json!({
            "type": "object",
            "required": ["sql"],
            "additionalProperties": false,
            "properties": {
                "sql": {"type": "string", "description": "One SELECT, WITH, VALUES or EXPLAIN."},
                "params": {"type": "array", "items": param, "description": "What stands for $1, $2, …."},
            },
        });
        let example =
            json!({"sql": "SELECT * FROM information_schema.tables WHERE table_type = $1", "params": ["VIEW"]});
        let [as_json, as_sql, as_text] = query::KINDS;
        return Some(json!({
            as_json: {"schema": query, "example": example},
            as_sql: text(),
            as_text: text(),
        }));
    }
    None
}

/// The content and the headers of an answer when all is well.
fn success(route: &Route) -> (Value, Value) {
    let as_json = |schema: Value| json!({"application/json": {"schema": schema}});
    let text = json!({"schema": {"type": "string"}});
    let epoch = json!({EPOCH_HEADER: header("The epoch the answer is of.", &whole())});
    let mut tagged = epoch.clone();
    tagged["ETag"] = header("Names the epoch and the format.", &json!({"type": "string"}));
    tagged["Vary"] = header("The answer's format is that of `Accept`.", &json!({"type": "string"}));
    let mut paged = tagged.clone();
    paged[CURSOR_HEADER] =
        header("What the next page is asked with; absent after the last.", &json!({"type": "string"}));
    // Rows alone, in the formats that are not JSON.
    let rows = |schema: Value| {
        let mut content = Map::new();
        for (_, media) in FORMATS {
            content.insert(media.to_owned(), text.clone());
        }
        content["application/json"] = json!({"schema": schema});
        Value::from(content)
    };
    let none = json!({});
    match route.path {
        p if p == r::INDEX.path => (json!({"text/plain": text, "text/html": text}), none),
        p if p == r::DOCS.path || p == r::CODE_PAGE.path => (json!({"text/html": text}), none),
        p if p == r::DASHBOARD.path => {
            (json!({"text/javascript": text, "text/css": text, "image/svg+xml": text}), none)
        }
        p if p == r::METRICS.path => (json!({"text/plain": text}), none),
        p if p == r::CHANGES.path => (json!({"text/event-stream": text}), none),
        p if p == r::OPENAPI.path => (as_json(json!({"type": "object"})), none),
        p if p == r::PIPELINES.path => (as_json(object(&[("pipelines", list("Pipeline"))], &[])), none),
        p if p == r::SOURCES.path => (as_json(object(&[("sources", list("Source"))], &[])), none),
        p if p == r::SOURCE.path => (as_json(reference("Source")), none),
        p if p == r::SINKS.path => {
            let text = || json!({"type": "string"});
            let lag = json!({"type": ["integer", "null"], "minimum": 0});
            let fields = [
                ("name", text()),
                ("type", text()),
                ("view", text()),
                ("delivered", lag.clone()),
                ("lag_epochs", lag),
                ("records", whole()),
            ];
            let sinks = json!({"type": "array", "items": object(&fields, &[])});
            (as_json(object(&[("published", whole()), ("sinks", sinks)], &[])), none)
        }
        p if p == r::PUSH.path => (as_json(reference("Pushed")), none),
        p if p == r::VIEWS.path => (as_json(object(&[("epoch", whole()), ("views", list("View"))], &[])), epoch),
        p if p == r::SCAN.path || p == r::FAULTS.path => (rows(reference("Page")), paged),
        p if p == r::GET_ROW.path => (rows(reference("Row")), tagged),
        p if p == r::READ.path => {
            let view = object(&[("rows", list("Row")), ("cursor", nullable("string"))], &[]);
            let views = json!({"type": "object", "additionalProperties": view});
            (as_json(object(&[("epoch", whole()), ("views", views)], &[])), tagged)
        }
        p if p == r::QUERY.path => {
            let answer = object(&[("epoch", whole()), ("columns", list("Column")), ("rows", list("Row"))], &[]);
            (rows(answer), epoch)
        }
        p if p == r::FAULTS_SUMMARY.path => {
            let string = || json!({"type": "string"});
            let of = [("source", string()), ("at", string()), ("reason", string()), ("count", whole())];
            let faults = json!({"type": "array", "items": object(&of, &[])});
            (as_json(object(&[("epoch", whole()), ("total", whole()), ("faults", faults)], &[])), epoch)
        }
        p if p == r::EPOCHS.path => {
            let names = ["sealed", "computed", "durable", "published", "since"];
            let fields: Vec<_> = std::iter::once(("phase", phase())).chain(names.map(|n| (n, whole()))).collect();
            (as_json(object(&fields, &[])), none)
        }
        p if p == r::EPOCH.path => {
            let sources = json!({"type": "object", "additionalProperties": reference("SourceProgress")});
            let fields = [("epoch", whole()), ("clock_ms", json!({"type": "integer"})), ("sources", sources)];
            (as_json(object(&fields, &[])), none)
        }
        p if p == r::CHECKPOINT.path => {
            (as_json(object(&[("name", json!({"type": "string"})), ("epoch", whole())], &[])), none)
        }
        p if p == r::LIVE.path => (as_json(object(&[("live", json!({"const": true}))], &[])), none),
        p if p == r::READY.path => (as_json(object(&[("phase", phase()), ("rehydrated", share())], &[])), none),
        other => unreachable!("what {other} answers is not described"),
    }
}

/// What several routes have in common.
fn schemas() -> Value {
    let string = || json!({"type": "string"});
    let boolean = || json!({"type": "boolean"});
    let strings = || json!({"type": "array", "items": string()});
    let integer = || json!({"type": "integer"});
    let types: Vec<&str> = types::Type::NAMES.iter().map(|(name, _)| *name).collect();
    let shape = [
        ("columns", list("Column")),
        ("key", strings()),
        ("event_time", nullable("string")),
        ("append_only", boolean()),
        ("name", string()),
    ];
    let with = |more: &[(&'static str, Value)]| shape.iter().cloned().chain(more.iter().cloned()).collect::<Vec<_>>();
    let view = [
        ("kind", json!({"type": "string", "enum": ["view", "table", "faults"]})),
        ("rows", whole()),
        ("digest", json!({"type": "string", "pattern": "^[0-9a-f]{32}$"})),
    ];
    let source = [("type", string()), ("pushed", boolean()), ("keyed", boolean())];
    let read = [("records", whole()), ("faults", whole()), ("progress", reference("SourceProgress"))];
    let step = [
        ("name", string()),
        ("operator", string()),
        ("inputs", strings()),
        ("detail", string()),
        ("outputs", json!({"type": "array", "items": object(&with(&[]), &[])})),
    ];
    let planned = json!({"type": "array", "items": object(&with(&[("type", string()), ("reads", string())]), &[])});
    let sink = [("name", string()), ("type", string()), ("view", string()), ("writes", string())];
    let pipeline = [
        ("name", string()),
        ("fingerprint", string()),
        ("sources", planned),
        ("steps", json!({"type": "array", "items": object(&step, &[])})),
        ("sinks", json!({"type": "array", "items": object(&sink, &[])})),
        ("text", string()),
        ("mermaid", string()),
    ];
    let progress = [
        ("position", object(&[("anchor", json!(true)), ("seq", whole())], &[])),
        ("event_time_max", integer()),
        ("floor", integer()),
        ("watermark", integer()),
        ("idle", boolean()),
        ("ended", boolean()),
    ];
    let page = [("view", string()), ("epoch", whole()), ("rows", list("Row")), ("cursor", nullable("string"))];
    let codes: Vec<&str> = CODES.iter().map(|c| c.name).collect();
    json!({
        "Problem": object(
            &[
                ("type", string()),
                ("code", json!({"type": "string", "enum": codes})),
                ("status", integer()),
                ("message", string()),
            ],
            &[],
        ),
        "NotReady": object(
            &[("phase", phase()), ("rehydrated", share()), ("code", json!({"const": NOT_READY.name}))],
            &[],
        ),
        "Column": object(
            &[("name", string()), ("type", json!({"type": "string", "enum": types})), ("nullable", boolean())],
            &[],
        ),
        "Row": {"type": "object", "description": "The columns of the schema by name, in its order."},
        "View": object(&with(&view), &[]),
        "Source": object(&with(&source), &read),
        "SourceProgress": object(&progress, &[]),
        "Pipeline": object(&pipeline, &[]),
        "Pushed": object(&[("epoch", whole()), ("records", whole()), ("repeated", boolean())], &[]),
        "Page": object(&page, &[]),
    })
}

/// An object of these fields and no others; the further ones may be missing.
fn object(fields: &[(&'static str, Value)], further: &[(&'static str, Value)]) -> Value {
    let required: Vec<&str> = fields.iter().map(|(name, _)| *name).collect();
    let properties: Map<String, Value> =
        fields.iter().chain(further).map(|(name, schema)| ((*name).to_owned(), schema.clone())).collect();
    json!({"type": "object", "required": required, "additionalProperties": false, "properties": properties})
}

fn list(of: &str) -> Value {
    json!({"type": "array", "items": reference(of)})
}

fn reference(to: &str) -> Value {
    json!({"$ref": format!("#/components/schemas/{to}")})
}

fn nullable(ty: &str) -> Value {
    json!({"type": [ty, "null"]})
}

/// A number of things, or an epoch.
fn whole() -> Value {
    json!({"type": "integer", "minimum": 0, "maximum": u64::MAX})
}

fn share() -> Value {
    json!({"type": "number", "minimum": 0, "maximum": 1})
}

fn phase() -> Value {
    json!({"type": "string", "enum": ["rehydrating", "live", "ended", "failed"]})
}

fn header(doc: &str, schema: &Value) -> Value {
    json!({"description": doc, "schema": schema})
}
