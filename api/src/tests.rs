//! The read side as clients see it, over a store whose epochs are made by hand.

#![allow(clippy::disallowed_methods, reason = "tests are their own edge")]

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::http::{HeaderMap, Request};
use engine::query::{self, Query, Running, Sink};
use http_body_util::BodyExt;
use hyper::service::Service as _;
use prometheus::Registry;
use serde_json::{Value as Json, json};
use storage::{EpochCommit, RelationKind, RelationSpec, Snapshot, Store};
use tokio::sync::watch;
use types::{ChangeSet, Column, Epoch, Fault, Remap, RowCodec, Schema, Type, Value, fault_schema};

use crate::metrics::Metrics;
use crate::read::Read;
use crate::{CODES, Options, ROUTES, router};

/// A store with a view `orders` keyed by (city, id), an append-only one `log`, faults, and operator state.
struct Fixture {
    store: Store,
    service: router::Service,
    closing: watch::Sender<bool>,
    registry: Registry,
    _folder: tempfile::TempDir,
}

struct Answer {
    status: u16,
    headers: HeaderMap,
    body: String,
}

impl Answer {
    fn json(&self) -> Json {
        serde_json::from_str(&self.body).unwrap_or_else(|e| panic!("{e}: {}", self.body))
    }

    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |v| v.to_str().unwrap())
    }

    fn code(&self) -> String {
        let json = self.json();
        let code = json["code"].as_str().expect("a refusal has a code").to_owned();
        let listed = CODES.iter().find(|c| c.name == code).expect("the code is listed");
        assert_eq!(listed.status, self.status);
        assert_eq!(self.header("content-type"), "application/problem+json");
        code
    }
}

fn column(name: &str, ty: Type) -> Column {
    Column { name: name.into(), ty, nullable: true }
}

fn orders() -> Schema {
    let columns = vec![column("city", Type::String), column("id", Type::Int64), column("price", Type::Float64)];
    Schema { columns, key: vec![0, 1], event_time: None, append_only: false }
}

fn log() -> Schema {
    Schema {
        columns: vec![column("line", Type::String), column("_seq", Type::Int64)],
        key: vec![1],
        event_time: None,
        append_only: true,
    }
}

/// A row of `orders`; without a price, the removal of one.
type Order<'a> = (&'a str, i64, Option<f64>);

fn order_changes(orders_: &[Order<'_>]) -> ChangeSet {
    let codec = RowCodec::new(&orders());
    let mut changes: Vec<(Vec<u8>, Option<Vec<u8>>)> = orders_
        .iter()
        .map(|(city, id, price)| {
            let row = vec![Value::Str((*city).into()), Value::Int(*id), price.map_or(Value::Null, Value::Float)];
            let batch = codec.batch(&[row]);
            let (key, value) = (codec.keys(&batch), codec.values(&batch));
            (key.row(0).data().to_vec(), price.map(|_| value.row(0).data().to_vec()))
        })
        .collect();
    changes.sort();
    let mut set = ChangeSet::new();
    for (key, after) in &changes {
        // What stood there before is the committer's to know; a removal must have taken something away.
        let before: Option<&[u8]> = if after.is_none() { Some(&[]) } else { None };
        set.push(key, before, after.as_deref());
    }
    set
}

impl Fixture {
    fn new() -> Fixture {
        Fixture::with(1_000, Options::default())
    }

    fn with(retain_epochs: u64, options: Options) -> Fixture {
        let folder = tempfile::tempdir().unwrap();
        let spec = |name: &str, kind, schema: &Schema| RelationSpec {
            name: name.into(),
            kind,
            schema: serde_json::to_string(schema).unwrap(),
        };
        let store = Store::open(storage::Options {
            plan: "test".into(),
            relations: vec![
                spec("orders", RelationKind::View, &orders()),
                spec("log", RelationKind::View, &log()),
                spec("faults", RelationKind::Faults, &fault_schema()),
                spec("orders.state", RelationKind::State, &log()),
            ],
            retain_epochs,
            ..storage::Options::new(folder.path())
        })
        .unwrap();
        let (closing, closed) = watch::channel(false);
        let registry = Registry::new();
        let metrics = Metrics::register(&registry).unwrap();
        let read = Arc::new(Read::new(store.clone(), metrics, closed, options).unwrap());
        Fixture {
            service: router::Service::new(read.clone(), router::read_side(&read)),
            store,
            closing,
            registry,
            _folder: folder,
        }
    }

    /// Commits and publishes the next epoch with these orders.
    fn epoch(&self, orders: &[Order<'_>]) -> Epoch {
        self.commit(vec![("orders", order_changes(orders))])
    }

    fn commit(&self, relations: Vec<(&str, ChangeSet)>) -> Epoch {
        let epoch = self.store.committed() + 1;
        let remap = Remap { epoch, clock_ms: 5, ..Remap::default() };
        self.store.log_remap(&remap).unwrap();
        let relations = relations.into_iter().map(|(name, set)| (self.store.relation(name).unwrap(), set)).collect();
        self.store.commit(EpochCommit { epoch, relations }).unwrap();
        self.store.publish(epoch);
        epoch
    }

    async fn send(&self, request: Request<Body>) -> Answer {
        let response = self.service.call(request).await.unwrap();
        let (head, body) = response.into_parts();
        let body = to_bytes(body, usize::MAX).await.unwrap();
        Answer {
            status: head.status.as_u16(),
            headers: head.headers,
            body: String::from_utf8_lossy(&body).into_owned(),
        }
    }

    async fn get(&self, uri: &str) -> Answer {
        self.get_as(uri, "*/*").await
    }

    async fn get_as(&self, uri: &str, accept: &str) -> Answer {
        self.send(Request::get(uri).header("accept", accept).body(Body::empty()).unwrap()).await
    }

    /// Subscribes, and reads that many events (`retry` and comments left out).
    async fn events(&self, uri: &str, last_id: Option<&str>, count: usize) -> Vec<Event> {
        let mut request = Request::get(uri);
        if let Some(id) = last_id {
            request = request.header("last-event-id", id);
        }
        let response = self.service.call(request.body(Body::empty()).unwrap()).await.unwrap();
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        let mut body = response.into_body();
        let mut text = String::new();
        loop {
            let events: Vec<Event> = text.split_inclusive("\n\n").filter_map(Event::parse).collect();
            if events.len() >= count {
                return events.into_iter().take(count).collect();
            }
            let frame = tokio::time::timeout(Duration::from_secs(20), body.frame()).await.expect("an event");
            match frame {
                Some(frame) => text.push_str(std::str::from_utf8(frame.unwrap().data_ref().unwrap()).unwrap()),
                None => return events,
            }
        }
    }
}

#[derive(Clone, Debug, PartialEq)]
struct Event {
    id: String,
    event: String,
    data: Json,
}

impl Event {
    fn parse(text: &str) -> Option<Event> {
        let field = |name: &str| text.lines().find_map(|l| l.strip_prefix(name)).map(str::to_owned);
        let complete = text.ends_with("\n\n");
        let data = field("data: ").filter(|_| complete)?;
        Some(Event {
            id: field("id: ").unwrap_or_default(),
            event: field("event: ")?,
            data: serde_json::from_str(&data).unwrap(),
        })
    }
}

#[tokio::test]
async fn a_point_lookup_gives_the_row_and_its_epoch() {
    let f = Fixture::new();
    f.epoch(&[("a/b", 1, Some(2.5)), ("", -7, Some(f64::NAN))]);
    let found = f.get("/v1/views/orders/a%2Fb/1").await;
    assert_eq!((found.status, found.body.as_str()), (200, r#"{"city":"a/b","id":1,"price":2.5}"#));
    assert_eq!((found.header("thalweg-epoch"), found.header("etag")), ("1", "\"1-json\""));
    assert_eq!(found.header("content-type"), "application/json");
    assert_eq!(f.get("/v1/views/orders//-7").await.body, r#"{"city":"","id":-7,"price":"NaN"}"#);
    assert_eq!(f.get_as("/v1/views/orders/a%2Fb/1", "text/csv").await.body, "city,id,price\r\na/b,1,2.5\r\n");
    for (uri, code) in [
        ("/v1/views/orders/a/1", "row_not_found"),
        ("/v1/views/orders/a", "bad_key"),
        ("/v1/views/orders/a/b/1", "bad_key"),
        ("/v1/views/orders/a/x", "bad_key"),
        ("/v1/views/orders/%ff/1", "bad_key"),
        ("/v1/views/%ff", "bad_parameter"),
        ("/v1/views/%ff/changes", "bad_parameter"),
        ("/v1/epochs/%ff", "bad_parameter"),
        ("/v1/views/ordrs/a/1", "no_such_view"),
        ("/v1/views/orders.state/1", "no_such_view"),
        ("/v1/views/orders/a/1?as_off=1", "unknown_parameter"),
        ("/v1/views/orders/a/1?as_of=2", "epoch_not_published"),
    ] {
        assert_eq!(f.get(uri).await.code(), code, "{uri}");
    }
    assert!(f.get("/v1/views/ordrs/a/1").await.body.contains("did you mean `orders`?"));
}

#[tokio::test]
async fn an_unchanged_epoch_is_not_sent_again() {
    let f = Fixture::new();
    f.epoch(&[("a", 1, Some(1.0))]);
    for uri in ["/v1/views/orders/a/1", "/v1/views/orders"] {
        let ask = || Request::get(uri).header("if-none-match", "\"1-json\"").body(Body::empty()).unwrap();
        let answer = f.send(ask()).await;
        assert_eq!((answer.status, answer.body.as_str()), (304, ""));
    }
    f.epoch(&[]);
    let again = Request::get("/v1/views/orders/a/1").header("if-none-match", "\"1-json\"").body(Body::empty()).unwrap();
    assert_eq!(f.send(again).await.status, 200);
}

#[tokio::test]
async fn pages_are_of_one_epoch_however_the_view_moves_on() {
    let f = Fixture::new();
    let rows: Vec<Order<'_>> = (0..2_500).map(|i| ("x", i, Some(i as f64))).collect();
    f.epoch(&rows);
    let (mut seen, mut uri, mut pages) = (Vec::new(), "/v1/views/orders?limit=1000".to_owned(), 0);
    loop {
        let page = f.get(&uri).await.json();
        assert_eq!((page["view"].as_str(), page["epoch"].as_u64()), (Some("orders"), Some(1)));
        seen.extend(page["rows"].as_array().unwrap().iter().map(|r| r["id"].as_i64().unwrap()));
        pages += 1;
        // Every row the scan has not reached yet goes away.
        f.epoch(&rows.iter().map(|(c, i, _)| (*c, *i, None)).collect::<Vec<_>>());
        f.epoch(&[("x", 9_999, Some(0.0))]);
        let Some(cursor) = page["cursor"].as_str() else { break };
        uri = format!("/v1/views/orders?limit=1000&cursor={cursor}");
    }
    assert_eq!((pages, seen), (3, (0..2_500).collect::<Vec<i64>>()));
}

#[tokio::test]
async fn scans_take_key_prefix_filter_and_limit() {
    let f = Fixture::new();
    f.epoch(&[("a", 1, Some(1.0)), ("a", 2, Some(2.0)), ("ab", 1, Some(3.0)), ("b", 1, Some(4.0))]);
    let ids = |answer: Answer| {
        let rows = answer.json()["rows"].as_array().unwrap().clone();
        rows.iter().map(|r| format!("{}{}", r["city"].as_str().unwrap(), r["id"])).collect::<Vec<_>>()
    };
    assert_eq!(ids(f.get("/v1/views/orders?prefix=a").await), ["a1", "a2"]);
    assert_eq!(ids(f.get("/v1/views/orders?key=a&key=2").await), ["a2"]);
    assert_eq!(ids(f.get("/v1/views/orders?key=%5B%22b%22%2C1%5D").await), ["b1"]);
    assert_eq!(ids(f.get("/v1/views/orders?filter=price%3E1.5+and+city!%3D'b'").await), ["a2", "ab1"]);
    assert_eq!(ids(f.get("/v1/views/orders?limit=1").await), ["a1"]);
    let page = f.get("/v1/views/orders?filter=id%3D1&limit=2").await.json();
    let rest =
        f.get(&format!("/v1/views/orders?filter=id%3D1&limit=2&cursor={}", page["cursor"].as_str().unwrap())).await;
    assert_eq!(rest.header("thalweg-cursor"), "");
    assert_eq!(ids(rest), ["b1"]);
    for (query, code) in [
        ("key=a", "bad_key"),
        ("key=a&key=1&prefix=a", "bad_parameter"),
        ("filter=nope%3D1", "bad_filter"),
        ("cursor=zz", "bad_cursor"),
        ("cursor=00000000ffffffffffffffff", "bad_cursor"),
        ("limit=0", "bad_parameter"),
        ("lmit=1", "unknown_parameter"),
    ] {
        assert_eq!(f.get(&format!("/v1/views/orders?{query}")).await.code(), code, "{query}");
    }
    assert_eq!(f.get_as("/v1/views/orders", "image/png").await.code(), "not_acceptable");
}

#[tokio::test]
async fn a_filter_nothing_passes_still_ends() {
    let f = Fixture::with(1_000, Options { rows_read_max: 1_024, ..Options::default() });
    f.epoch(&(0..3_000).map(|i| ("x", i, Some(i as f64))).collect::<Vec<_>>());
    let (mut uri, mut pages, mut rows) = ("/v1/views/orders?filter=id%3D2900".to_owned(), 0, 0);
    loop {
        let page = f.get(&uri).await.json();
        (pages, rows) = (pages + 1, rows + page["rows"].as_array().unwrap().len());
        let Some(cursor) = page["cursor"].as_str() else { break };
        uri = format!("/v1/views/orders?filter=id%3D2900&cursor={cursor}");
    }
    assert_eq!((pages, rows), (3, 1));
}

#[tokio::test]
async fn rows_come_in_the_format_asked_for() {
    let f = Fixture::new();
    f.epoch(&[("a", 1, Some(1.0)), ("b", 2, Some(2.0))]);
    let ndjson = f.get_as("/v1/views/orders?limit=1", "application/x-ndjson").await;
    assert_eq!(ndjson.body, "{\"city\":\"a\",\"id\":1,\"price\":1.0}\n");
    assert!(!ndjson.header("thalweg-cursor").is_empty());
    let csv = f.get_as("/v1/views/orders", "text/csv").await;
    assert_eq!(csv.body, "city,id,price\r\na,1,1.0\r\nb,2,2.0\r\n");
    assert_eq!(csv.header("thalweg-epoch"), "1");
    let arrow = f.get_as("/v1/views/orders", "application/vnd.apache.arrow.stream").await;
    assert_eq!(arrow.header("content-type"), "application/vnd.apache.arrow.stream");
    assert_eq!(arrow.status, 200);
}

#[tokio::test]
async fn every_read_names_its_epoch() {
    let f = Arc::new(Fixture::with(2, Options::default()));
    for price in 1..=5 {
        f.epoch(&[("a", 1, Some(f64::from(price)))]);
    }
    assert_eq!(f.get("/v1/views/orders/a/1?as_of=4").await.body, r#"{"city":"a","id":1,"price":4.0}"#);
    assert_eq!(f.get("/v1/views/orders/a/1?as_of=1").await.code(), "compacted");
    assert_eq!(f.get("/v1/views/orders?min_epoch=6&wait_ms=1").await.code(), "epoch_not_published");
    let waiting = {
        let f = Arc::clone(&f);
        tokio::spawn(async move { f.get("/v1/views/orders/a/1?min_epoch=7").await })
    };
    tokio::task::yield_now().await;
    f.epoch(&[("a", 1, Some(6.0))]);
    f.epoch(&[("a", 1, Some(7.0))]);
    let answer = waiting.await.unwrap();
    assert_eq!((answer.body.as_str(), answer.header("thalweg-epoch")), (r#"{"city":"a","id":1,"price":7.0}"#, "7"));
    assert_eq!(f.get("/v1/epochs/7").await.json()["clock_ms"], 5);
    assert_eq!(f.get("/v1/epochs/99").await.code(), "no_such_epoch");
    assert_eq!(f.get("/v1/epochs/x").await.code(), "bad_parameter");
}

#[tokio::test]
async fn several_views_are_read_at_one_epoch() {
    let f = Fixture::new();
    f.epoch(&[("a", 1, Some(1.0)), ("b", 1, Some(1.0))]);
    let answer = f.get("/v1/read?views=log,orders&limit=1").await.json();
    assert_eq!(answer["epoch"], 1);
    assert_eq!(answer["views"]["log"], json!({"rows": [], "cursor": null}));
    assert_eq!(answer["views"]["orders"]["rows"].as_array().unwrap().len(), 1);
    let cursor = answer["views"]["orders"]["cursor"].as_str().unwrap();
    assert_eq!(f.get(&format!("/v1/views/orders?cursor={cursor}")).await.json()["rows"][0]["city"], "b");
    assert_eq!(f.get(&format!("/v1/views/log?cursor={cursor}")).await.code(), "bad_cursor");
    assert_eq!(f.get("/v1/read").await.code(), "bad_parameter");
    assert_eq!(f.get("/v1/read?views=orders,orders").await.code(), "bad_parameter");
    assert_eq!(f.get("/v1/read?views=nope").await.code(), "no_such_view");
}

#[tokio::test]
async fn the_list_of_views_has_rows_and_digests_but_no_operator_state() {
    let f = Fixture::new();
    f.epoch(&[("a", 1, Some(1.0))]);
    let list = f.get("/v1/views").await.json();
    let views = list["views"].as_array().unwrap();
    let names: Vec<&str> = views.iter().map(|v| v["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["faults", "log", "orders"]);
    assert_eq!(
        (&views[2]["rows"], &views[2]["key"], &views[2]["kind"]),
        (&json!(1), &json!(["city", "id"]), &json!("view"))
    );
    assert_eq!(views[2]["digest"].as_str().unwrap().len(), 32);
    assert_eq!(views[2]["columns"][1], json!({"name": "id", "type": "int64", "nullable": true}));
}

#[tokio::test]
async fn faults_are_scanned_and_counted() {
    let f = Fixture::new();
    let codec = RowCodec::new(&fault_schema());
    let mut set = ChangeSet::new();
    for (source, seq, reason) in [("a", 0, "late"), ("a", 1, "bad_value"), ("a", 2, "late"), ("b", 0, "late")] {
        let text = |s: &str| s.to_owned();
        let fault = Fault {
            source: text(source),
            seq,
            at: text(source),
            reason: text(reason),
            detail: text("d"),
            provenance: text("p"),
            raw: text("r"),
        };
        let batch = codec.batch(&[fault.row()]);
        set.push(codec.keys(&batch).row(0).data(), None, Some(codec.values(&batch).row(0).data()));
    }
    f.commit(vec![("faults", set)]);
    let count = |answer: Answer| answer.json()["rows"].as_array().unwrap().len();
    assert_eq!(count(f.get("/v1/faults").await), 4);
    assert_eq!(count(f.get("/v1/faults?source=a&reason=late").await), 2);
    assert_eq!(count(f.get("/v1/faults?source=c").await), 0);
    let summary = f.get("/v1/faults/summary").await.json();
    assert_eq!(summary["total"], 4);
    assert_eq!(summary["faults"][1], json!({"source": "a", "at": "a", "reason": "late", "count": 2}));
}

#[tokio::test]
async fn whatever_event_a_client_saw_last_it_sees_every_later_change_once() {
    let f = Fixture::new();
    f.epoch(&[("old", 0, Some(0.0))]);
    f.epoch(&[("a", 1, Some(1.0)), ("b", 2, Some(2.0)), ("c", 3, Some(3.0))]);
    f.epoch(&[]);
    f.epoch(&[("a", 1, None), ("b", 2, Some(2.5))]);
    // More than one piece of the stream.
    f.epoch(&(0..1_300).map(|i| ("many", i, Some(0.5))).collect::<Vec<_>>());
    f.epoch(&[("c", 3, None)]);
    let total = 4 + 3 + 1_301 + 2;
    let all = f.events("/v1/views/orders/changes?after=1", None, total).await;
    assert_eq!(all.len(), total);
    assert_eq!(
        all[0].data,
        json!({"epoch": 2, "seq": 0, "op": "upsert", "key": {"city": "a", "id": 1}, "row": {"city": "a", "id": 1, "price": 1.0}})
    );
    assert_eq!(
        (all[3].event.as_str(), all[3].id.as_str(), &all[3].data),
        ("epoch", "2:end", &json!({"epoch": 2, "changes": 3}))
    );
    assert_eq!(all[4].data, json!({"epoch": 4, "seq": 0, "op": "delete", "key": {"city": "a", "id": 1}, "row": null}));
    for seen in (0..12).chain([500, 511, 512, 513, 1_306, 1_307, 1_308]) {
        let rest = f.events("/v1/views/orders/changes", Some(&all[seen].id), total - seen - 1).await;
        assert_eq!(rest, all[seen + 1..], "after {}", all[seen].id);
    }
}

#[tokio::test]
async fn a_subscription_starts_now_and_is_woken_by_publication() {
    let f = Arc::new(Fixture::new());
    f.epoch(&[("a", 1, Some(1.0))]);
    let reading = {
        let f = Arc::clone(&f);
        tokio::spawn(async move { f.events("/v1/views/orders/changes", None, 3).await })
    };
    // The gauge says that the subscription stands; changes before that are not promised to be seen.
    while !f.metric("thalweg_subscribers{view=\"orders\"} 1") {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    f.epoch(&[("b", 1, Some(1.0))]);
    let events = reading.await.unwrap();
    assert_eq!(events[0].id, "1:end");
    assert_eq!((events[1].id.as_str(), events[2].id.as_str()), ("2:0", "2:end"));
    assert!(f.metric("thalweg_subscribers{view=\"orders\"} 0"));
}

impl Fixture {
    fn metric(&self, line: &str) -> bool {
        prometheus::TextEncoder::new().encode_to_string(&self.registry.gather()).unwrap().contains(line)
    }
}

#[tokio::test]
async fn a_subscription_from_a_snapshot_has_the_rows_first_and_can_be_cut_anywhere() {
    let f = Fixture::new();
    f.epoch(&(0..700).map(|i| ("x", i, Some(0.5))).collect::<Vec<_>>());
    let uri = "/v1/views/orders/changes?from=snapshot";
    let all = f.events(uri, None, 701).await;
    assert_eq!(
        (all[0].event.as_str(), &all[0].data["op"], &all[0].data["row"]["id"]),
        ("snapshot", &json!("upsert"), &json!(0))
    );
    assert_eq!(all[700].id, "1:end");
    f.epoch(&[("x", 3, None), ("y", 0, Some(1.0))]);
    for seen in [0, 511, 512, 699, 700] {
        let rest = f.events(uri, Some(&all[seen].id), 700 - seen + 3).await;
        assert_eq!(rest[..700 - seen], all[seen + 1..]);
        assert_eq!(rest[700 - seen].id, "2:0");
    }
}

#[tokio::test]
async fn a_quiet_view_still_moves_its_clients_on() {
    let f = Fixture::with(1_000, Options { heartbeat: Duration::from_millis(5), ..Options::default() });
    f.epoch(&[("a", 1, Some(1.0))]);
    f.commit(vec![]);
    let events = f.events("/v1/views/orders/changes?after=1", None, 1).await;
    assert_eq!((events[0].id.as_str(), &events[0].data), ("2:end", &json!({"epoch": 2, "changes": 0})));
}

#[tokio::test]
async fn a_resume_point_that_cannot_be_served_is_refused() {
    let f = Fixture::with(2, Options { subscribers_max: 0, ..Options::default() });
    for _ in 0..5 {
        f.epoch(&[("a", 1, Some(1.0))]);
    }
    for (id, code) in [
        ("1:0", "compacted"),
        ("2:end", "compacted"),
        ("9:0", "ahead_of_store"),
        ("x", "bad_event_id"),
        ("5:end", "busy"),
    ] {
        let request = Request::get("/v1/views/orders/changes").header("last-event-id", id).body(Body::empty()).unwrap();
        assert_eq!(f.send(request).await.code(), code, "{id}");
    }
    assert_eq!(f.get("/v1/views/orders/changes?from=then").await.code(), "bad_parameter");
    assert_eq!(f.get("/v1/views/nope/changes").await.code(), "no_such_view");
}

#[tokio::test]
async fn streams_end_when_the_server_does() {
    let f = Fixture::new();
    f.epoch(&[]);
    let response = f.service.call(Request::get("/v1/views/orders/changes").body(Body::empty()).unwrap()).await.unwrap();
    let mut body = response.into_body();
    assert!(body.frame().await.is_some());
    f.closing.send_replace(true);
    while body.frame().await.is_some() {}
}

#[tokio::test]
async fn what_is_not_served_is_said_with_a_code() {
    let f = Fixture::new();
    assert_eq!(f.get("/v1/nothing").await.code(), "no_such_route");
    assert!(f.get("/v1/view").await.body.contains("did you mean `/v1/views`?"));
    for uri in ["/v1/views", "/v1/views/orders/a/1", "/v1/views/orders/changes"] {
        let answer = f.send(Request::post(uri).body(Body::empty()).unwrap()).await;
        assert_eq!((answer.code().as_str(), answer.header("allow")), ("method_not_allowed", "GET, HEAD"));
    }
    assert!(f.metric("thalweg_http_requests_total{route=\"none\",status=\"404\"} 2"));
}

#[tokio::test]
async fn routes_of_the_read_side_are_served_and_refuse_what_they_do_not_take() {
    let f = Fixture::new();
    f.epoch(&[]);
    let of_the_engine = ["/v1/pipelines", "/v1/sources", "/v1/sinks", "/v1/epochs", "/healthz/ready", "/metrics"];
    for route in ROUTES.iter().filter(|r| r.method == "GET" && !r.path.starts_with("/v1/sources/")) {
        if of_the_engine.contains(&route.path) {
            continue;
        }
        let path = route.path.replace("{view}", "orders").replace("{*key}", "a/1").replace("{epoch}", "1");
        let path = path.replace("{file}", "app.js").replace("{code}", "bad_key");
        if !route.params.is_empty() {
            assert_eq!(f.get(&format!("{path}?zzz=1")).await.code(), "unknown_parameter", "{path}");
        }
        if route.path.ends_with("/changes") {
            continue;
        }
        let answer = f.get(&path).await;
        assert!(answer.status != 404 || answer.code() != "no_such_route", "{path}");
        assert!(answer.status < 500, "{path}: {}", answer.body);
    }
}

/// Compares a file under `docs/` with what the lists give. With `UPDATE` set, writes it.
fn check_fresh(name: &str, text: &str) {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs").join(name);
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&path, text).unwrap();
    }
    let stored = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(stored == text, "docs/{name} is stale: UPDATE=1 cargo test --release -p thalweg-api writes it");
}

#[test]
fn the_manual_is_fresh() {
    check_fresh("api.md", &crate::manual());
    check_fresh("openapi.json", &(serde_json::to_string_pretty(&crate::openapi()).unwrap() + "\n"));
}

#[tokio::test]
async fn a_row_is_the_same_before_the_routes_and_by_them() {
    let f = Fixture::new();
    f.epoch(&[("a/b", 1, Some(1.5)), ("changes", 2, Some(2.5))]);
    for path in [
        "orders/a%2Fb/1",
        "orders/changes/2",
        "orders/a%2Fb/9",
        "orders/a%2Fb",
        "orders/a%2Fb/1/",
        "orders/a%2Fb/x",
        "orders/%ff/1",
        "orders//1",
        "orders/",
        "orders",
        "/a/1",
        "order/a/1",
        "log/7",
        "orders.state/7",
    ] {
        for accept in ["*/*", "text/csv", "image/png"] {
            let direct = f.get_as(&format!("/v1/views/{path}"), accept).await;
            let routed = f.get_as(&format!("/v1/views/{path}?"), accept).await;
            // The server adds the length where it is missing; `daemon/tests/serve.rs` sees that either has it.
            let of = |a: &Answer| {
                let mut headers = a.headers.clone();
                headers.remove("content-length");
                (a.status, headers, a.body.clone())
            };
            assert_eq!(of(&direct), of(&routed), "{path} as {accept}");
        }
    }
    assert_eq!(f.get("/v1/views/orders/a%2Fb/1").await.json()["price"], 1.5);
}

#[tokio::test]
async fn a_browser_gets_the_dashboard_and_its_files_and_curl_the_routes() {
    let f = Fixture::new();
    let browser = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8";
    for (accept, is_page) in [(browser, true), ("text/html", true), ("*/*", false), ("text/plain", false), ("", false)]
    {
        let answer = f.get_as("/", accept).await;
        assert_eq!((answer.status, answer.header("vary")), (200, "accept"));
        assert_eq!(answer.header("content-type").starts_with("text/html"), is_page, "{accept}");
        assert_eq!(answer.body.contains("GET  /v1/views/{view}/{*key}"), !is_page, "{accept}");
    }
    let page = f.get_as("/", browser).await;
    let named: Vec<&str> = page.body.match_indices("/dashboard/").map(|(at, _)| quoted(&page.body[at..])).collect();
    assert_eq!(named, ["/dashboard/icon.svg", "/dashboard/style.css", "/dashboard/app.js"]);
    let modules = ["/dashboard/graph.js", "/dashboard/lib.js", "/dashboard/pictures.js"];
    for uri in [&["/"], &named[..], &modules].concat() {
        let answer = f.get_as(uri, browser).await;
        let media = match uri.rsplit_once('.') {
            Some((_, "js")) => "text/javascript; charset=utf-8",
            Some((_, "css")) => "text/css; charset=utf-8",
            Some(_) => "image/svg+xml",
            None => "text/html; charset=utf-8",
        };
        assert_eq!((answer.status, answer.header("content-type")), (200, media), "{uri}");
        assert_eq!(answer.header("x-content-type-options"), "nosniff", "{uri}");
        let policy = answer.header("content-security-policy");
        assert!(policy.starts_with("default-src 'none'; ") && !policy.contains("unsafe"), "{uri}: {policy}");
        // Nothing that the policy would refuse, and nothing of another server's.
        let body = answer.body.replace("http://www.w3.org/", "");
        for refused in ["://", "innerHTML", "outerHTML", "insertAdjacent", " style=", " onclick=", "eval("] {
            assert!(!body.contains(refused), "{uri} has `{refused}`");
        }
    }
    for (uri, code) in [("/dashboard/ap.js", "no_such_route"), ("/dashboard/app.js?v=1", "unknown_parameter")] {
        assert_eq!(f.get(uri).await.code(), code, "{uri}");
    }
}

/// What the dashboard asks for is served: a path it names is one of the routes', perhaps with a name put in.
#[tokio::test]
async fn the_dashboard_asks_for_routes_there_are() {
    let f = Fixture::new();
    let mut asked = Vec::new();
    for file in ["/dashboard/app.js", "/dashboard/lib.js", "/dashboard/pictures.js", "/dashboard/graph.js"] {
        let text = f.get(file).await.body;
        for quote in ["'/", "`/"] {
            asked.extend(text.match_indices(quote).map(|(at, _)| quoted(&text[at + 1..]).to_owned()));
        }
    }
    assert!(asked.iter().any(|path| path == "/v1/epochs"), "{asked:?}");
    for path in asked {
        let path = path.split('?').next().unwrap_or_default().replace("${encodeURIComponent(name)}", "{view}");
        let path = path.replace("${encodeURIComponent(source)}", "{source}");
        assert!(ROUTES.iter().any(|r| r.path == path), "{path}");
    }
}

/// The text up to the quote that ends it.
fn quoted(text: &str) -> &str {
    text.split(['"', '\'', '`']).next().unwrap_or_default()
}

/// What `sql` stands behind: answers `rows N` with N rows, and can wait, panic and refuse.
fn fake(snapshot: Snapshot, query: Query, sink: &mut dyn Sink) -> Running<'_> {
    Box::pin(async move {
        let (word, count) = query.sql.split_once(' ').unwrap_or((&query.sql, "0"));
        sink.columns(&[column("n", Type::Int64)])?;
        let schema =
            Schema { columns: vec![column("n", Type::Int64)], key: vec![], event_time: None, append_only: true };
        let batch = RowCodec::new(&schema).batch(&[vec![Value::Int(snapshot.epoch() as i64)]]);
        for _ in 0..count.parse().unwrap_or(0) {
            sink.rows(&batch)?;
        }
        match word {
            "wait" => std::future::pending().await,
            "panic" => panic!("as it was told to"),
            "bad" => Err(query::Error::Bad("what would be right".into())),
            "broken" => Err(query::Error::Broken("of our insides".into())),
            _ => Ok(()),
        }
    })
}

impl Fixture {
    fn asked(options: Options) -> Fixture {
        let f = Fixture::with(1_000, Options { queries: Some(fake), ..options });
        f.epoch(&[("a", 1, Some(1.0))]);
        f
    }

    async fn query_as(&self, sql: &str, accept: &str) -> Answer {
        let request = Request::post("/v1/query").header("accept", accept).header("content-type", "application/sql");
        self.send(request.body(Body::from(sql.to_owned())).unwrap()).await
    }

    async fn query(&self, sql: &str) -> Answer {
        self.query_as(sql, "*/*").await
    }

    fn queries(&self) -> f64 {
        let families = self.registry.gather();
        let family = families.iter().find(|f| f.name() == "thalweg_queries").expect("it is registered");
        family.get_metric()[0].get_gauge().get_value()
    }

    async fn until_queries(&self, count: f64) {
        for _ in 0..500 {
            if self.queries() == count {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("{} queries, expected {count}", self.queries());
    }
}

#[tokio::test]
async fn an_answer_comes_in_the_format_asked_for_with_its_epoch() {
    let f = Fixture::asked(Options::default());
    let answer = f.query("rows 2").await;
    let columns = json!([{"name": "n", "type": "int64", "nullable": true}]);
    assert_eq!(answer.json(), json!({"epoch": 1, "columns": columns, "rows": [{"n": 1}, {"n": 1}]}));
    assert_eq!((answer.status, answer.header("thalweg-epoch"), answer.header("vary")), (200, "1", "accept"));
    assert_eq!(f.query("rows 0").await.json()["rows"], json!([]));
    assert_eq!(f.query_as("rows 2", "application/x-ndjson").await.body, "{\"n\":1}\n{\"n\":1}\n");
    assert_eq!(f.query_as("rows 1", "text/csv").await.body, "n\r\n1\r\n");
    let arrow = f.query_as("rows 0", "application/vnd.apache.arrow.stream").await;
    assert_eq!(arrow.header("content-type"), "application/vnd.apache.arrow.stream");
    assert_eq!(f.query_as("rows 2", "image/png").await.code(), "not_acceptable");
    let without = Fixture::new();
    assert_eq!(without.query("rows 1").await.code(), "no_such_route");
}

#[tokio::test]
async fn queries_have_limits_and_their_failures_have_codes() {
    let limits = Options { query_rows_max: 3, query_timeout: Duration::from_secs(3), ..Options::default() };
    let f = Fixture::asked(Options { query_bytes_max: 100, ..limits });
    for (sql, code) in [
        ("rows 4", "query_too_large"),
        ("wait", "query_timeout"),
        ("panic", "query_failed"),
        ("bad 2", "bad_sql"),
        ("broken", "query_failed"),
    ] {
        let answer = f.query(sql).await;
        assert_eq!(answer.code(), code, "{sql}");
        assert!(!answer.body.contains("insides"), "{}", answer.body);
        f.until_queries(0.0).await;
    }
    assert_eq!(f.query_as("rows 3", "text/csv").await.status, 200);
    let f = Fixture::asked(Options { query_bytes_max: 70, ..Options::default() });
    assert_eq!(f.query("rows 9").await.code(), "query_too_large");
}

#[tokio::test(flavor = "multi_thread")]
async fn queries_wait_for_their_turn_and_end_with_their_clients() {
    let options = Options { queries_max: 1, request_timeout: Duration::from_millis(200), ..Options::default() };
    let f = Arc::new(Fixture::asked(options));
    let waiting = {
        let f = Arc::clone(&f);
        tokio::spawn(async move { f.query("wait").await })
    };
    f.until_queries(1.0).await;
    assert_eq!(f.query("rows 1").await.code(), "busy");
    waiting.abort();
    f.until_queries(0.0).await;
    assert_eq!(f.query("rows 1").await.status, 200);
    // And with the server.
    let waiting = {
        let f = Arc::clone(&f);
        tokio::spawn(async move { f.query("wait").await })
    };
    f.until_queries(1.0).await;
    f.closing.send_replace(true);
    assert_eq!(waiting.await.unwrap().code(), "busy");
}
