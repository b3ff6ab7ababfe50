//! A running engine behind its HTTP edge, as its clients meet it: pushes, status, refusals, and the commands that print
//! the same bytes whether the daemon runs or not.

use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use daemon::{offline, online};
use engine::connector::{Connector, ConnectorError, ConnectorFactory, Next, SourceEnv, SourceRows};
use engine::operator::{Context, StepKind, TableOperator};
use engine::plan::{Origin, PlannedSource, PlannedStep, Route, Settings, StepInput, StepOutput, StepPlan};
use engine::{Engine, Plan, PushFormat, relation_specs};
use serde_json::{Value as Json, json};
use storage::Store;
use types::{Column, Delta, Fault, Position, RowCodec, Schema, Type, Value};
use ureq::Agent;

/// A source of pushed lines `{"id": int, "v": string}`.
#[derive(Debug)]
struct Inbox;

impl ConnectorFactory for Inbox {
    fn open(&self, position: &Position, env: &SourceEnv) -> Result<Box<dyn Connector>, ConnectorError> {
        Ok(Box::new(OpenInbox { env: env.clone(), at: position.anchor.as_u64().unwrap_or(0) }))
    }

    fn describe(&self) -> String {
        "what is pushed".into()
    }

    fn is_push(&self) -> bool {
        true
    }

    fn prepare_push(&self, format: PushFormat, payload: Vec<u8>) -> Result<(Vec<u8>, u64), String> {
        if format != PushFormat::Ndjson {
            return Err("only lines here".into());
        }
        let records = payload.split(|b| *b == b'\n').filter(|l| !l.is_empty()).count();
        Ok((payload, records as u64))
    }
}

struct OpenInbox {
    env: SourceEnv,
    at: u64,
}

impl Connector for OpenInbox {
    fn next(&mut self) -> Result<Next, ConnectorError> {
        let journaled = self
            .env
            .store
            .journal_read(&self.env.source, self.at, 1)
            .map_err(|e| ConnectorError::new(e.to_string()))?;
        let Some(journaled) = journaled.first() else {
            std::thread::sleep(Duration::from_millis(1));
            return Ok(Next::Waiting);
        };
        let (mut rows, mut seqs, mut faults) = (Vec::new(), Vec::new(), Vec::new());
        let lines = journaled.entry.payload.split(|b| *b == b'\n').filter(|l| !l.is_empty());
        for (seq, line) in (journaled.first_seq..).zip(lines) {
            let record: Json = serde_json::from_slice(line).unwrap_or_default();
            match (record["id"].as_i64(), record["v"].as_str()) {
                (Some(id), Some(v)) => {
                    rows.push(vec![Value::Int(id), Value::Str(v.into())]);
                    seqs.push(seq);
                }
                _ => faults.push(Fault {
                    source: self.env.source.clone(),
                    seq,
                    at: self.env.source.clone(),
                    reason: "bad_value".into(),
                    detail: "no id or no v".into(),
                    provenance: "pushed".into(),
                    raw: Fault::raw_text(line),
                }),
            }
        }
        let first_seq = journaled.first_seq;
        self.at = first_seq + journaled.entry.records;
        let schema = Schema { columns: items().columns, key: vec![], event_time: None, append_only: true };
        Ok(Next::Rows(SourceRows {
            start: first_seq.into(),
            end: self.at.into(),
            first_seq,
            next_seq: self.at,
            rows: RowCodec::new(&schema).batch(&rows),
            seqs: Some(seqs),
            faults,
        }))
    }
}

/// Passes its input on.
struct Pass;

impl TableOperator for Pass {
    fn step(&mut self, inputs: Vec<Vec<Delta>>, context: &mut Context) {
        inputs.into_iter().flatten().for_each(|d| context.emit(0, d));
    }
}

fn items() -> Schema {
    let column = |name: &str, ty| Column { name: name.into(), ty, nullable: false };
    Schema {
        columns: vec![column("id", Type::Int64), column("v", Type::String)],
        key: vec![0],
        event_time: None,
        append_only: false,
    }
}

fn plan() -> Plan {
    let step = StepPlan {
        inputs: vec![StepInput { relation: "items".into(), route: Route::One }],
        outputs: vec![StepOutput { suffix: None, schema: items() }],
        kind: StepKind::Table(Arc::new(|| Box::new(Pass))),
        persistent: false,
        detail: "as it is".into(),
        model: Arc::new(|inputs| vec![inputs[0].clone()]),
    };
    Plan {
        name: "inbox".into(),
        base_dir: PathBuf::from("."),
        settings: Settings { epoch_interval_ms: 1, ..Settings::default() },
        sources: vec![PlannedSource {
            name: "items".into(),
            connector_name: "inbox".into(),
            connector: Arc::new(Inbox),
            delivered: items().columns,
            tombstone: None,
            schema: items(),
            out_of_orderness: 0,
            idle_after_ms: None,
            stored: true,
        }],
        sinks: Vec::new(),
        steps: vec![PlannedStep {
            name: "copy".into(),
            operator: "pass".into(),
            plan: step,
            origin: Origin::Recomputed,
            keeps_streams: true,
        }],
        tests: Vec::new(),
        concealed: engine::pipeline::Concealed::default(),
    }
}

/// An engine that is served, in a folder of its own.
struct Daemon {
    folder: tempfile::TempDir,
    running: Option<Running>,
}

struct Running {
    base: String,
    engine: Engine,
    shutdown: tokio::sync::oneshot::Sender<()>,
    server: JoinHandle<std::io::Result<()>>,
}

impl Daemon {
    fn start(options: api::Options) -> Daemon {
        let mut daemon = Daemon { folder: tempfile::tempdir().unwrap(), running: None };
        daemon.run(options, 0);
        daemon
    }

    fn run(&mut self, options: api::Options, port: u16) {
        let plan = plan();
        let relations = relation_specs(&plan);
        let store = Store::open(storage::Options {
            plan: "inbox".into(),
            relations,
            ..storage::Options::new(self.folder.path())
        });
        let engine = Engine::start(Arc::new(plan), store.unwrap(), engine::Options::default());
        let handle = engine.handle().clone();
        let (shutdown, stopped) = tokio::sync::oneshot::channel::<()>();
        let listener = std::net::TcpListener::bind(("127.0.0.1", port)).unwrap();
        listener.set_nonblocking(true).unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let server = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
            runtime.block_on(async {
                let listener = tokio::net::TcpListener::from_std(listener)?;
                let shutdown = async {
                    let _ = stopped.await;
                };
                api::serve(handle, listener, shutdown, options).await
            })
        });
        self.running = Some(Running { base, engine, shutdown, server });
    }

    fn running(&self) -> &Running {
        self.running.as_ref().unwrap()
    }

    fn base(&self) -> &str {
        &self.running().base
    }

    /// Ends the server and the engine, and gives up the store.
    fn stop(&mut self) {
        let running = self.running.take().unwrap();
        running.shutdown.send(()).unwrap();
        running.server.join().unwrap().unwrap();
        running.engine.handle().stop();
        running.engine.wait().unwrap();
    }

    fn get(&self, path: &str) -> (u16, Json) {
        let mut response = agent().get(format!("{}{path}", self.base())).call().unwrap();
        let text = response.body_mut().read_to_string().unwrap();
        (response.status().as_u16(), serde_json::from_str(&text).unwrap_or(Json::String(text)))
    }

    fn push(&self, source: &str, headers: &[(&str, &str)], body: &str) -> (u16, Json) {
        let mut request = agent().post(format!("{}/v1/sources/{source}/records", self.base()));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let mut response = request.send(body).unwrap();
        let status = response.status().as_u16();
        (status, serde_json::from_reader(response.body_mut().as_reader()).unwrap())
    }
}

fn agent() -> Agent {
    Agent::config_builder().http_status_as_error(false).build().new_agent()
}

const JSON: (&str, &str) = ("content-type", "application/json");
const NDJSON: (&str, &str) = ("content-type", "application/x-ndjson");

#[test]
fn a_push_is_answered_with_the_epoch_in_which_it_can_be_read() {
    let mut daemon = Daemon::start(api::Options::default());
    let (status, pushed) = daemon.push("items", &[JSON], r#"[{"id":1,"v":"one"},{"id":2,"v":"two"}]"#);
    assert_eq!((status, &pushed["records"], &pushed["repeated"]), (200, &json!(2), &json!(false)), "{pushed}");
    let (status, row) = daemon.get(&format!("/v1/views/copy/2?min_epoch={}", pushed["epoch"]));
    assert_eq!((status, row), (200, json!({"id": 2, "v": "two"})));
    daemon.stop();
}

#[test]
fn a_repeated_push_is_applied_once() {
    let mut daemon = Daemon::start(api::Options::default());
    let key = ("idempotency-key", "k1");
    let (_, first) = daemon.push("items", &[NDJSON, key], "{\"id\":1,\"v\":\"a\"}\n");
    let (_, other) = daemon.push("items", &[JSON], r#"{"id":1,"v":"b"}"#);
    let (status, second) = daemon.push("items", &[NDJSON, key], "{\"id\":1,\"v\":\"a\"}\n");
    assert_eq!((status, &second["repeated"], &second["epoch"]), (200, &json!(true), &first["epoch"]));
    assert_eq!(daemon.get(&format!("/v1/views/copy/1?min_epoch={}", other["epoch"])).1["v"], "b");
    let (status, conflict) = daemon.push("items", &[NDJSON, key], "{\"id\":9,\"v\":\"z\"}\n");
    assert_eq!((status, &conflict["code"]), (409, &json!("idempotency_conflict")));
    daemon.stop();
}

#[test]
fn a_row_comes_with_its_length_whichever_way_it_is_answered() {
    let mut daemon = Daemon::start(api::Options::default());
    let (_, pushed) = daemon.push("items", &[JSON], r#"[{"id":1,"v":"one"}]"#);
    daemon.get(&format!("/v1/views/copy/1?min_epoch={}", pushed["epoch"]));
    for key in ["1", "9"] {
        // With a query, if only an empty one, the request goes by the routes.
        let answers = ["", "?"].map(|query| {
            let url = format!("{}/v1/views/copy/{key}{query}", daemon.base());
            let mut response = agent().get(url).call().unwrap();
            let length = response.headers()["content-length"].to_str().unwrap().parse::<usize>().unwrap();
            let text = response.body_mut().read_to_string().unwrap();
            assert_eq!(length, text.len());
            (response.status(), text)
        });
        assert_eq!(answers[0], answers[1]);
    }
    daemon.stop();
}

#[test]
fn records_in_are_rows_and_faults_out() {
    let mut daemon = Daemon::start(api::Options::default());
    let deep = format!("{{\"id\":{}1{}}}", "[".repeat(100_000), "]".repeat(100_000));
    let body = format!("[{{\"id\":1,\"v\":\"a\"}}, 5, {deep}, nonsense]");
    let (status, pushed) = daemon.push("items", &[JSON], &body);
    assert_eq!((status, &pushed["records"]), (200, &json!(4)), "{pushed}");
    let at = format!("?min_epoch={}", pushed["epoch"]);
    assert_eq!(daemon.get(&format!("/v1/faults{at}")).1["rows"].as_array().unwrap().len(), 3);
    let summary = daemon.get(&format!("/v1/faults/summary{at}")).1;
    assert_eq!(summary["faults"], json!([{"source": "items", "at": "items", "reason": "bad_value", "count": 3}]));
    let (_, source) = daemon.get("/v1/sources/items");
    assert_eq!((&source["records"], &source["faults"], &source["pushed"]), (&json!(4), &json!(3), &json!(true)));
    daemon.stop();
}

#[test]
fn what_is_wrong_with_a_push_is_said_with_a_code() {
    let mut daemon = Daemon::start(api::Options { body_bytes_max: 1_000, ..api::Options::default() });
    let large = format!("{{\"id\":1,\"v\":\"{}\"}}", "x".repeat(2_000));
    let cases: &[(&str, &[(&str, &str)], &str, u16, &str)] = &[
        ("itms", &[JSON], "{}", 404, "no_such_source"),
        ("items", &[("content-type", "text/plain")], "{}", 415, "unsupported_media_type"),
        ("items", &[JSON, ("content-encoding", "gzip")], "{}", 415, "unsupported_media_type"),
        ("items", &[JSON], &large, 413, "body_too_large"),
        ("items", &[JSON], "[{}", 400, "bad_payload"),
        ("items", &[("content-type", "application/vnd.apache.arrow.stream")], "x", 400, "bad_payload"),
        ("items", &[JSON, ("idempotency-key", "a b")], "{}", 400, "bad_idempotency_key"),
    ];
    for (source, headers, body, status, code) in cases {
        let answer = daemon.push(source, headers, body);
        assert_eq!((answer.0, &answer.1["code"]), (*status, &json!(code)), "{}", answer.1);
    }
    assert_eq!(daemon.get("/v1/sources/items/records").1["code"], "method_not_allowed");
    assert_eq!(daemon.get("/v1/sources/itms").1["message"], "there is no source `itms`; did you mean `items`?");
    daemon.stop();
}

#[test]
fn the_engine_says_how_it_is() {
    let mut daemon = Daemon::start(api::Options::default());
    daemon.running().engine.handle().wait(|p| *p == engine::Phase::Live);
    let pushed = daemon.push("items", &[JSON], r#"{"id":1,"v":"a"}"#).1;
    assert_eq!(daemon.get("/healthz/live"), (200, json!({"live": true})));
    assert_eq!(daemon.get("/healthz/ready"), (200, json!({"phase": "live", "rehydrated": 1.0})));
    let (_, epochs) = daemon.get("/v1/epochs");
    assert!(epochs["sealed"].as_u64() >= pushed["epoch"].as_u64(), "{epochs}");
    let (status, epoch) = daemon.get(&format!("/v1/epochs/{}", pushed["epoch"]));
    assert_eq!((status, &epoch["sources"]["items"]["position"]["seq"]), (200, &json!(1)), "{epoch}");
    let (_, pipelines) = daemon.get("/v1/pipelines");
    assert_eq!(pipelines["pipelines"][0]["steps"][0]["inputs"], json!(["items"]));
    let (_, metrics) = daemon.get("/metrics");
    let metrics = metrics.as_str().unwrap();
    assert!(
        metrics.contains("thalweg_epoch_published ") && metrics.contains("thalweg_http_requests_total{"),
        "{metrics}"
    );
    daemon.stop();
}

#[test]
fn commands_print_the_same_whether_the_daemon_runs_or_not() {
    let mut daemon = Daemon::start(api::Options::default());
    let lines: String = (0..12_345).map(|i| format!("{{\"id\":{},\"v\":\"v\\\"{i}\"}}\n", i * 7919 % 20_000)).collect();
    let pushed = daemon.push("items", &[NDJSON], &format!("{lines}bad\n")).1;
    daemon.get(&format!("/v1/views/copy?limit=1&min_epoch={}", pushed["epoch"]));
    let asked = client::Client::new(daemon.base(), None).unwrap();
    let printed = |print: &dyn Fn(&mut Vec<u8>)| {
        let mut out = Vec::new();
        print(&mut out);
        String::from_utf8(out).unwrap()
    };
    let key = ["7919".to_owned()];
    let running = [
        printed(&|out| _ = online::dump(&asked, "copy", None, out).unwrap()),
        printed(&|out| online::get(&asked, "copy", &key, None, out).unwrap()),
        printed(&|out| _ = online::faults(&asked, Some("items"), None, out).unwrap()),
    ];
    let views = printed(&|out| online::views(&asked, out).unwrap());
    assert_eq!(running[0].lines().count(), 12_345);
    assert_eq!(running[1], "{\"id\":7919,\"v\":\"v\\\"1\"}\n");
    assert_eq!(running[2].lines().count(), 1);
    assert!(matches!(
        online::get(&asked, "copy", &["-1".to_owned()], None, &mut Vec::new()),
        Err(online::Error::NoRow { .. })
    ));
    assert!(
        online::dump(&asked, "cpy", None, &mut Vec::new()).unwrap_err().to_string().contains("did you mean `copy`?")
    );
    assert!(offline::views(daemon.folder.path(), &mut Vec::new()).unwrap_err().to_string().contains("in use"));
    daemon.stop();
    let data = daemon.folder.path();
    let stopped = [
        printed(&|out| _ = offline::dump(data, "copy", None, out).unwrap()),
        printed(&|out| offline::get(data, "copy", &key, None, out).unwrap()),
        printed(&|out| _ = offline::faults(data, Some("items"), None, out).unwrap()),
    ];
    assert!(running == stopped, "the bytes differ");
    // The engine may have sealed empty epochs since; what the views hold is the same.
    let bare = |text: &str| text.lines().skip(1).map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(bare(&views), bare(&printed(&|out| offline::views(data, out).unwrap())));
    assert!(matches!(offline::dump(data, "nope", None, &mut Vec::new()), Err(offline::Error::NoSuchView { .. })));
}

#[test]
fn a_tail_prints_every_change_once_though_the_daemon_restarts() {
    let mut daemon = Daemon::start(api::Options::default());
    let port = daemon.base().rsplit(':').next().unwrap().parse::<u16>().unwrap();
    daemon.push("items", &[NDJSON], "{\"id\":1,\"v\":\"a\"}\n{\"id\":2,\"v\":\"b\"}\n");
    let asked = client::Client::new(daemon.base(), None).unwrap();
    let tail = std::thread::spawn(move || {
        let mut out = Vec::new();
        online::tail(&asked, "copy", client::From::Snapshot, Some(4), &mut out)
            .map(|()| String::from_utf8(out).unwrap())
    });
    // The first two must have been seen before the daemon goes: the subscription stands.
    while !daemon.get("/metrics").1.as_str().unwrap().contains("thalweg_subscribers{view=\"copy\"} 1") {
        std::thread::sleep(Duration::from_millis(5));
    }
    daemon.push("items", &[NDJSON], "{\"id\":3,\"v\":\"c\"}\n");
    daemon.stop();
    daemon.run(api::Options::default(), port);
    daemon.push("items", &[NDJSON], "{\"id\":4,\"v\":\"d\"}\n");
    let printed = tail.join().unwrap().unwrap();
    let seen: Vec<Json> =
        printed.lines().map(|l| serde_json::from_str::<Json>(l).unwrap()["row"]["id"].clone()).collect();
    assert_eq!(seen, [json!(1), json!(2), json!(3), json!(4)]);
    daemon.stop();
}
