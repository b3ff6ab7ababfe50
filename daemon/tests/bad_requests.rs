//! Bad requests, whole: whatever comes over HTTP, the daemon answers with a 4xx and a stable code, or takes the records
//! and makes a fault of each bad one; records in = rows applied + faults, and it goes on.

mod support;

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{ArrayRef, DictionaryArray, Int8Array, Int64Array, LargeStringArray, NullArray, RecordBatch};
use arrow::ipc::writer::StreamWriter;
use serde_json::Value;
use support::{Daemon, dump, get};

const PIPELINE: &str = r#"
name = "pushed"

[epoch]
interval_ms = 2

[sources.events]
type = "http"
[sources.events.columns]
k = "int64"
v = "string"

[sources.files]
type = "file"
path = "none"
format = "csv"
follow = true
[sources.files.columns]
k = "int64"

[steps.rows]
operator = "select"
input = "events"

[steps.counts]
operator = "aggregate"
input = "events"
by = "v"
[steps.counts.compute]
rows = "count"
"#;

fn pipeline(dir: &Path) -> PathBuf {
    let file = dir.join("pipeline.toml");
    std::fs::write(&file, PIPELINE).unwrap();
    file
}

/// A daemon that is ready, spoken to byte by byte.
struct Peer {
    daemon: Daemon,
}

/// An answer: status and body, empty if the connection was closed without one.
#[derive(Debug)]
struct Answer {
    status: u16,
    head: String,
    body: String,
}

impl Answer {
    /// The code of a refusal.
    #[track_caller]
    fn code(&self) -> String {
        assert!(self.head.to_ascii_lowercase().contains("content-type: application/problem+json"), "{self:?}");
        let body: Value = serde_json::from_str(&self.body).unwrap_or_else(|e| panic!("{e}: {self:?}"));
        assert_eq!(body["status"], self.status, "{body}");
        assert!(body["message"].as_str().is_some_and(|m| m.len() > 5), "{body}");
        body["code"].as_str().unwrap().to_owned()
    }
}

impl Peer {
    fn start(file: &Path, data: &Path, workers: usize) -> Peer {
        let daemon = Daemon::start(file, data, workers, &[]);
        daemon.ready();
        Peer { daemon }
    }

    /// Sends bytes as they are and reads what comes until the daemon closes.
    fn raw(&self, request: &[u8]) -> Answer {
        self.send(request, false)
    }

    /// Sends bytes and no more, whether more was to come or not.
    fn cut(&self, request: &[u8]) -> Answer {
        self.send(request, true)
    }

    fn send(&self, request: &[u8], ends: bool) -> Answer {
        let mut stream = TcpStream::connect(self.daemon.url.strip_prefix("http://").unwrap()).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        // The daemon may have answered and closed before everything is sent.
        let _ = stream.write_all(request);
        if ends {
            let _ = stream.shutdown(Shutdown::Write);
        }
        let mut bytes = Vec::new();
        let _ = stream.read_to_end(&mut bytes);
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
        let status = head.split(' ').nth(1).and_then(|s| s.parse().ok()).unwrap_or(0);
        Answer { status, head: head.to_owned(), body: body.to_owned() }
    }

    /// A request without a body and with these header lines.
    fn ask(&self, method: &str, path: &str, headers: &str) -> Answer {
        self.raw(format!("{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{headers}\r\n").as_bytes())
    }

    fn push(&self, content_type: &str, body: &[u8]) -> Answer {
        let head = format!(
            "POST /v1/sources/events/records HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: {content_type}\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        self.raw(&[head.as_bytes(), body].concat())
    }

    /// The numbers of records and faults of the source, as the daemon counts them.
    fn records(&self) -> u64 {
        let (status, body) = get(&format!("{}/v1/sources/events", self.daemon.url)).unwrap();
        assert_eq!(status, 200, "{body}");
        serde_json::from_str::<Value>(&body).unwrap()["records"].as_u64().unwrap()
    }
}

fn stream(batch: &RecordBatch) -> Vec<u8> {
    let mut writer = StreamWriter::try_new(Vec::new(), &batch.schema()).unwrap();
    writer.write(batch).unwrap();
    writer.into_inner().unwrap()
}

/// Keys and a dictionary of one long text, to which every key points.
fn bomb(rows: usize, bytes: usize) -> Vec<u8> {
    let text: ArrayRef = Arc::new(LargeStringArray::from(vec!["x".repeat(bytes)]));
    let texts: ArrayRef = Arc::new(DictionaryArray::new(Int8Array::from(vec![0; rows]), text));
    let keys: ArrayRef = Arc::new(Int64Array::from_iter_values(0..rows as i64));
    stream(&RecordBatch::try_from_iter([("k", keys), ("v", texts)]).unwrap())
}

const JSON: &str = "application/json";
const NDJSON: &str = "application/x-ndjson";
const ARROW: &str = "application/vnd.apache.arrow.stream";

/// A payload, and how many rows and faults it is; or the code with which it is refused.
type Payload = (&'static str, Vec<u8>, Result<(u64, u64), &'static str>);

fn payloads() -> Vec<Payload> {
    let b = |text: &str| text.as_bytes().to_vec();
    let deep = "[".repeat(100_000);
    let shut = "]".repeat(100_000);
    let blank = " ".repeat((1 << 20) + 1);
    let long = "x".repeat((1 << 20) + 1);
    let sound = RecordBatch::try_from_iter([
        ("k", Arc::new(Int64Array::from(vec![1, 2, 3])) as ArrayRef),
        ("v", Arc::new(LargeStringArray::from(vec!["a", "b", "c"]))),
    ])
    .unwrap();
    let nulls = |rows| {
        let column = || Arc::new(NullArray::new(rows)) as ArrayRef;
        stream(&RecordBatch::try_from_iter([("k", column()), ("v", column())]).unwrap())
    };
    let arrow = stream(&sound);
    // The last number 3 is the length of the batch's body's first buffer or the batch itself; each is made to lie.
    let lying = |number: u64, by: i64| {
        let mut bytes = arrow.clone();
        let at: Vec<usize> = (0..bytes.len() - 8).filter(|i| bytes[*i..i + 8] == number.to_le_bytes()).collect();
        at.iter().for_each(|at| bytes[*at..at + 8].copy_from_slice(&by.to_le_bytes()));
        assert!(!at.is_empty());
        bytes
    };
    vec![
        (JSON, b("{\"k\":1,\"v\":\"a\"}"), Ok((1, 0))),
        (JSON, b("\u{feff} [ {\"k\":2}\r\n, {\"k\":3,\"zz\":[[]]} ]\n"), Ok((2, 0))),
        (
            JSON,
            b("[{\"k\":4}, 5, null, \"x\", [], {}, {\"k\":\"4\"}, {\"k\":1e400}, {\"k\":9223372036854775808}]"),
            Ok((2, 7)),
        ),
        (JSON, b("[[{\"k\":6}]]"), Ok((0, 1))),
        (JSON, b("[[], {\"k\":7}]"), Ok((1, 1))),
        (JSON, b("[[]]"), Ok((0, 1))),
        (JSON, b("[]"), Ok((0, 0))),
        (
            JSON,
            b(&format!("[{{\"k\":8}}, {{\"k\":{deep}1{shut}}}, {{\"zz\":{deep}1{shut}}}, {{\"k\":9}}]")),
            Ok((2, 2)),
        ),
        (JSON, b(&format!("{deep}{shut}")), Ok((0, 1))),
        (JSON, b(&deep), Err("bad_payload")),
        (JSON, b(""), Err("bad_payload")),
        (JSON, b("nonsense"), Err("bad_payload")),
        (JSON, b("{\"k\":1} {\"k\":2}"), Err("bad_payload")),
        (JSON, b("[{\"k\":1},]"), Err("bad_payload")),
        (JSON, b("{\"k\":1"), Err("bad_payload")),
        (JSON, b"\xff\xfe{\0}\0".to_vec(), Err("bad_payload")),
        (JSON, b"[{\"v\":\"\xff\"}, {\"v\":\"\0\"}, {\"v\":\"\\u0000\"}]".to_vec(), Ok((1, 2))),
        (NDJSON, b("{\"k\":10}\r\n\n{\"k\":11}"), Ok((2, 0))),
        (NDJSON, b("{\"k\":12}\nrubbish\n{\"k\":13,\"k\":14}\n[1]\n{\"k\":15}\n"), Ok((2, 3))),
        // Brackets that happen to match over lines do not make one of them.
        (NDJSON, b("{\"k\":16\n{\"k\":17}\n{\"k\":18}\n}\n"), Ok((2, 2))),
        (NDJSON, b("{\n\"k\": 19\n}\n{\n\"k\": 20\n}\n"), Ok((2, 0))),
        // A blank line is none, however long.
        (NDJSON, b(&format!("{{\"k\":21}}\n{blank}\n{{\"k\":22}}\n{blank}")), Ok((2, 0))),
        (NDJSON, b(&format!("{{\"k\":23}}\n{{\"v\":\"{long}\"}}\n{{\"k\":24}}\n")), Ok((2, 1))),
        (NDJSON, b("\n \n"), Ok((0, 0))),
        (NDJSON, b("no object at all"), Err("bad_payload")),
        (ARROW, arrow.clone(), Ok((3, 0))),
        (ARROW, arrow[..arrow.len() - 20].to_vec(), Err("bad_payload")),
        (ARROW, b("ARROW1 and nothing else"), Err("bad_payload")),
        (ARROW, Vec::new(), Err("bad_payload")),
        (ARROW, lying(3, 1 << 60), Err("bad_payload")),
        (ARROW, lying(3, -1), Err("bad_payload")),
        (ARROW, nulls(4), Ok((4, 0))),
        // No machine has room for these.
        (ARROW, nulls(1 << 40), Err("bad_payload")),
        (ARROW, bomb(5_000, 1 << 20), Ok((0, 5_000))),
        (ARROW, stream(&RecordBatch::try_from_iter([("kk", sound.column(0).clone())]).unwrap()), Err("bad_payload")),
    ]
}

#[test]
fn a_push_is_refused_whole_or_each_of_its_records_is_a_row_or_a_fault() {
    let dir = tempfile::tempdir().unwrap();
    let file = pipeline(dir.path());
    let stores = [1, 2].map(|workers| {
        let data = dir.path().join(format!("store-{workers}"));
        let mut peer = Peer::start(&file, &data, workers);
        let (mut rows, mut faults) = (0, 0);
        for (n, (content_type, body, expected)) in payloads().into_iter().enumerate() {
            let what = format!("payload {n} ({content_type}): {:.80}", String::from_utf8_lossy(&body));
            let answer = peer.push(content_type, &body);
            match expected {
                Err(code) => {
                    assert_eq!((answer.status, answer.code().as_str()), (400, code), "{what}");
                }
                Ok((good, bad)) => {
                    assert_eq!(answer.status, 200, "{what}: {answer:?}");
                    let pushed: Value = serde_json::from_str(&answer.body).unwrap();
                    assert_eq!(pushed["records"], good + bad, "{what}");
                    (rows, faults) = (rows + good, faults + bad);
                    let of = |path: &str| {
                        let (status, body) =
                            get(&format!("{}{path}min_epoch={}", peer.daemon.url, pushed["epoch"])).unwrap();
                        assert_eq!(status, 200, "{what}: {body}");
                        serde_json::from_str::<Value>(&body).unwrap()
                    };
                    let views = of("/v1/views?");
                    let count = |name: &str| {
                        let view = views["views"].as_array().unwrap().iter().find(|v| v["name"] == name).unwrap();
                        view["rows"].as_u64().unwrap()
                    };
                    assert_eq!((count("rows"), count("faults")), (rows, faults), "{what}");
                    assert_eq!(peer.records(), rows + faults, "{what}");
                }
            }
        }
        // A push that was taken is still there, and read again, after a restart.
        peer.daemon.kill();
        let peer = Peer::start(&file, &data, 3 - workers);
        let answer = peer.push(JSON, b"{\"k\":-1,\"v\":\"last\"}");
        assert_eq!(answer.status, 200);
        // It is sealed; a dump of the stopped store shows what is committed.
        let pushed: Value = serde_json::from_str(&answer.body).unwrap();
        let seen = get(&format!("{}/v1/views?min_epoch={}", peer.daemon.url, pushed["epoch"])).unwrap();
        assert_eq!(seen.0, 200, "{}", seen.1);
        assert_eq!(peer.records(), rows + faults + 1);
        drop(peer);
        let faults_seen = dump(&data, "faults").lines().count() as u64;
        assert_eq!((dump(&data, "rows").lines().count() as u64, faults_seen), (rows + 1, faults));
        for fault in dump(&data, "faults").lines().map(|l| serde_json::from_str::<Value>(l).unwrap()) {
            let place = fault["provenance"].as_str().unwrap();
            assert!(place.starts_with("push@") && fault["source"] == "events", "{fault}");
        }
        data
    });
    for view in ["rows", "counts", "faults"] {
        assert!(dump(&stores[0], view) == dump(&stores[1], view), "`{view}` differs between one worker and two");
    }
}

#[test]
fn a_request_that_cannot_be_meant_is_refused_with_a_code() {
    let dir = tempfile::tempdir().unwrap();
    let file = pipeline(dir.path());
    let peer = Peer::start(&file, &dir.path().join("store"), 1);
    assert_eq!(peer.push(JSON, b"[{\"k\":1,\"v\":\"a\"},{\"k\":2,\"v\":\"b\"}]").status, 200);
    let far = u64::MAX;
    let long = "x".repeat(20_000);
    let gets: &[(&str, u16, &str)] = &[
        ("/nothing", 404, "no_such_route"),
        ("/v1/view", 404, "no_such_route"),
        ("//v1/views", 404, "no_such_route"),
        ("/v1/views/nope", 404, "no_such_view"),
        ("/v1/views/../views", 404, "no_such_view"),
        ("/v1/views/%2e%2e/x", 404, "no_such_view"),
        ("/v1/views/%ff", 400, "bad_parameter"),
        ("/v1/views/%zz", 404, "no_such_view"),
        ("/v1/views/%00", 404, "no_such_view"),
        ("/v1/views/counts/%ff", 400, "bad_key"),
        ("/v1/views/counts/a/b", 400, "bad_key"),
        ("/v1/views/counts/nobody", 404, "row_not_found"),
        ("/v1/views/rows/x", 400, "bad_key"),
        ("/v1/views?lmit=1", 400, "unknown_parameter"),
        ("/v1/views/rows?zz=1", 400, "unknown_parameter"),
        ("/v1/views/rows?limit=0", 400, "bad_parameter"),
        ("/v1/views/rows?limit=1&limit=2", 400, "bad_parameter"),
        ("/v1/views/rows?limit=99999999999999999999", 400, "bad_parameter"),
        ("/v1/views/rows?as_of=-1", 400, "bad_parameter"),
        ("/v1/views/rows?as_of=18446744073709551616", 400, "bad_parameter"),
        ("/v1/views/rows?as_of=1.5", 400, "bad_parameter"),
        ("/v1/views/rows?as_of=", 400, "bad_parameter"),
        ("/v1/views/rows?as_of=1&min_epoch=2", 400, "bad_parameter"),
        ("/v1/views/rows?min_epoch=soon", 400, "bad_parameter"),
        ("/v1/views/rows?wait_ms=-1", 400, "bad_parameter"),
        ("/v1/views/rows?cursor=zz", 400, "bad_cursor"),
        ("/v1/views/rows?cursor=", 400, "bad_cursor"),
        ("/v1/views/rows?cursor=00000000", 400, "bad_cursor"),
        ("/v1/views/rows?cursor=ffffffff0000000000000001", 400, "bad_cursor"),
        ("/v1/views/rows?cursor=%C3%A9%C3%A9", 400, "bad_cursor"),
        ("/v1/views/rows?filter=k", 400, "bad_filter"),
        ("/v1/views/rows?filter=k%3D1+or+1%3D1", 400, "bad_filter"),
        ("/v1/views/rows?filter=%27", 400, "bad_filter"),
        ("/v1/views/rows?filter=%f0", 400, "bad_parameter"),
        ("/v1/views/rows?key=%5B%5B%5B", 400, "bad_key"),
        ("/v1/views/rows?key=%5B1%2C2%2C3%5D", 400, "bad_key"),
        ("/v1/views/rows/changes?from=then", 400, "bad_parameter"),
        ("/v1/views/rows/changes?after=x", 400, "bad_event_id"),
        ("/v1/views/rows/changes?after=99999999:end", 409, "ahead_of_store"),
        ("/v1/views/nope/changes", 404, "no_such_view"),
        ("/v1/read", 400, "bad_parameter"),
        ("/v1/read?views=rows,rows", 400, "bad_parameter"),
        ("/v1/read?views=rows,nope", 404, "no_such_view"),
        ("/v1/faults?sauce=x", 400, "unknown_parameter"),
        ("/v1/sources/nope", 404, "no_such_source"),
        ("/v1/sources/%ff", 400, "bad_parameter"),
        ("/v1/sources/events/records", 405, "method_not_allowed"),
        ("/v1/epochs/x", 400, "bad_parameter"),
        ("/v1/epochs/-1", 400, "bad_parameter"),
        ("/v1/epochs/999999", 404, "no_such_epoch"),
        // Not there yet, as far as anyone can know: ask again.
        ("/v1/views/rows?as_of=999999", 503, "epoch_not_published"),
        ("/v1/views/rows?min_epoch=999999&wait_ms=1", 503, "epoch_not_published"),
    ];
    let code = |answer: &Answer| (answer.status, answer.code());
    for (path, status, expected) in gets {
        assert_eq!(code(&peer.ask("GET", path, "")), (*status, (*expected).to_owned()), "{path}");
    }
    let (views, rows) = ("/v1/views", "/v1/views/rows");
    let future = format!("{rows}?cursor={:08x}{far:016x}", 0);
    assert_eq!(code(&peer.ask("GET", &future, "")), (400, "bad_cursor".to_owned()));
    assert_eq!(code(&peer.ask("GET", &format!("{rows}?filter={long}"), "")), (400, "bad_filter".to_owned()));
    for method in ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "BREW"] {
        assert_eq!(code(&peer.ask(method, views, "Content-Length: 0\r\n")), (405, "method_not_allowed".to_owned()));
    }
    assert_eq!(code(&peer.ask("GET", rows, "Accept: image/png\r\n")), (406, "not_acceptable".to_owned()));
    for id in ["x", "1:", ":1", "1:2:3", "-1:end", "1:@zz", "0:0", "99999999999999999999:end", "\u{e9}", "1:end, 2:end"]
    {
        let answer = peer.ask("GET", &format!("{rows}/changes"), &format!("Last-Event-ID: {id}\r\n"));
        assert_eq!(code(&answer), (400, "bad_event_id".to_owned()), "{id}");
    }

    let post = "/v1/sources/events/records";
    let posts: &[(&str, &str, &str, u16, &str)] = &[
        (post, "", "{}", 415, "unsupported_media_type"),
        (post, "Content-Type: text/csv\r\n", "{}", 415, "unsupported_media_type"),
        (post, "Content-Type: \u{e9}\r\n", "{}", 415, "unsupported_media_type"),
        (post, "Content-Type: application/json\r\nContent-Encoding: gzip\r\n", "{}", 415, "unsupported_media_type"),
        (post, "Content-Type: application/json\r\nIdempotency-Key: a b\r\n", "{}", 400, "bad_idempotency_key"),
        ("/v1/sources/files/records", "Content-Type: application/json\r\n", "{}", 409, "source_not_pushed"),
        ("/v1/sources/nope/records", "Content-Type: application/json\r\n", "{}", 404, "no_such_source"),
        ("/v1/sources/%ff/records", "Content-Type: application/json\r\n", "{}", 400, "bad_parameter"),
        ("/v1/sources/events/records?force=1", "Content-Type: application/json\r\n", "{}", 400, "unknown_parameter"),
    ];
    let body = |path: &str, headers: &str, body: &str| {
        let length = body.len();
        peer.ask("POST", path, &format!("{headers}Content-Length: {length}\r\n\r\n{body}"))
    };
    for (path, headers, text, status, expected) in posts {
        let answer = body(path, headers, text);
        assert_eq!(code(&answer), (*status, (*expected).to_owned()), "{path} {headers:?}");
    }
    // None of that took a record, and the daemon is well.
    assert_eq!((peer.records(), peer.ask("GET", rows, "").status), (2, 200));
}

#[test]
fn broken_framing_takes_no_record_and_harms_no_other_connection() {
    let dir = tempfile::tempdir().unwrap();
    let file = pipeline(dir.path());
    let peer = Peer::start(&file, &dir.path().join("store"), 1);
    let head = "POST /v1/sources/events/records HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: application/x-ndjson\r\n";
    let chunked = format!("{head}Transfer-Encoding: chunked\r\n\r\n");
    let good = "9\r\n{\"k\":1}\r\n\r\n";
    assert_eq!(peer.raw(format!("{chunked}{good}0\r\n\r\n").as_bytes()).status, 200);
    for broken in [
        format!("{chunked}{good}zz\r\nrubbish\r\n0\r\n\r\n"),
        format!("{chunked}{good}ffffffffffffffffff\r\n"),
        format!("{chunked}{good}-1\r\nx\r\n0\r\n\r\n"),
        format!("{chunked}8\r\n{{\"k\":1}}\r\n\r\n0\r\n\r\n"),
    ] {
        let answer = peer.raw(broken.as_bytes());
        assert_eq!((answer.status, answer.code()), (400, "bad_payload".to_owned()), "{broken}");
    }
    // A client that is gone in the middle of its body need not be answered.
    for broken in [format!("{chunked}{good}"), format!("{head}Content-Length: 100\r\n\r\n{{\"k\":1}}\n")] {
        let answer = peer.cut(broken.as_bytes());
        assert!([0, 400].contains(&answer.status), "{broken}: {answer:?}");
    }
    // What is no request at all is refused before there is a route: without a body, or without an answer.
    let flood: String = (0..5_000).map(|n| format!("x-{n}: {n}\r\n")).collect();
    let fat = format!("x: {}\r\n", "y".repeat(2 << 20));
    let long = format!("/v1/views/{}", "x".repeat(1 << 20));
    for broken in [
        format!("GET /v1/views HTTP/1.1\r\nHost: x\r\n{flood}\r\n").into_bytes(),
        format!("GET /v1/views HTTP/1.1\r\nHost: x\r\n{fat}\r\n").into_bytes(),
        format!("GET {long} HTTP/1.1\r\nHost: x\r\n\r\n").into_bytes(),
        b"GET / HTTP/9.9\r\n\r\n".to_vec(),
        b"\0\0\0\0\0\0\r\n\r\n".to_vec(),
        b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03 a client that speaks TLS".to_vec(),
        b"GET /v1/views HTTP/1.1\r\nbroken header\r\n\r\n".to_vec(),
        format!("{head}Content-Length: -5\r\n\r\n").into_bytes(),
        format!("{head}Content-Length: 5\r\nContent-Length: 6\r\n\r\n{{}}\n{{}}").into_bytes(),
        format!("{head}Content-Length: 99999999999999999999999\r\n\r\n").into_bytes(),
        format!("{head}Transfer-Encoding: gzip\r\n\r\n").into_bytes(),
        Vec::new(),
    ] {
        let answer = peer.cut(&broken);
        let shown = String::from_utf8_lossy(&broken[..broken.len().min(80)]).into_owned();
        assert!(answer.status == 0 || (400..500).contains(&answer.status), "{shown}: {answer:?}");
    }
    // A body above the limit, announced or not.
    let large = "x".repeat(33 << 20);
    for request in [
        format!("{head}Content-Length: {}\r\n\r\n{large}", large.len()),
        format!("{chunked}{:x}\r\n{large}\r\n0\r\n\r\n", large.len()),
    ] {
        // The daemon need not read on to refuse it: the answer may be lost in the closing of the connection.
        let answer = peer.raw(request.as_bytes());
        assert!(
            answer.status == 0 || (answer.status, answer.code()) == (413, "body_too_large".to_owned()),
            "{answer:?}"
        );
    }
    let mut expecting = TcpStream::connect(peer.daemon.url.strip_prefix("http://").unwrap()).unwrap();
    write!(expecting, "{head}Expect: 100-continue\r\nContent-Length: {}\r\n\r\n", 33 << 20).unwrap();
    let mut answer = [0; 12];
    expecting.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"HTTP/1.1 413", "a body that is announced as too large is not asked for");
    // A connection that sends half a request and then nothing keeps no other from being served.
    let mut idle: Vec<TcpStream> =
        (0..50).map(|_| TcpStream::connect(peer.daemon.url.strip_prefix("http://").unwrap()).unwrap()).collect();
    idle.iter_mut().for_each(|stream| stream.write_all(chunked.as_bytes()).unwrap());
    assert_eq!((peer.records(), peer.push(NDJSON, b"{\"k\":2}").status, peer.records()), (1, 200, 2));
}
