//! Who may ask the daemon what: every route of the list, with every kind of credentials that do not suffice; tokens that
//! come, change and go while it runs; and that no token is ever seen where it does not belong.

mod support;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use api::{ROUTES, Role};
use serde_json::Value as Json;
use support::{Daemon, THALWEG, free_port};

const PIPELINE: &str = r#"
name = "guarded"

[epoch]
interval_ms = 2

[sources.events]
type = "http"
[sources.events.columns]
bucket = "string"

[steps.totals]
operator = "aggregate"
input = "events"
by = "bucket"
[steps.totals.compute]
events = "count"
"#;

const RECORD: &str = r#"{"bucket": "a"}"#;

/// A folder with a pipeline, a file of tokens, and the tokens.
struct Guarded {
    dir: tempfile::TempDir,
    tokens: BTreeMap<Role, String>,
}

impl Guarded {
    fn new() -> Guarded {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("pipeline.toml"), PIPELINE).unwrap();
        let drawn: Vec<(Role, (String, String))> = Role::ALL.map(|role| (role, draw(role.name(), role))).into();
        let lines: Vec<&str> = drawn.iter().map(|(_, (_, line))| line.as_str()).collect();
        std::fs::write(dir.path().join("tokens"), lines.join("\n")).unwrap();
        Guarded { tokens: drawn.into_iter().map(|(role, (token, _))| (role, token)).collect(), dir }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn command(&self, listen: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(THALWEG);
        command.arg("run").arg(self.file("pipeline.toml")).arg("--data").arg(self.file("store"));
        command.args(["--listen", listen]).args(arguments).stdin(Stdio::null());
        command
    }

    /// A daemon that asks for tokens, its log in the file `log`, as talkative as it can be.
    fn start(&self) -> Daemon {
        let listen = format!("127.0.0.1:{}", free_port());
        let tokens = self.file("tokens");
        let log = File::create(self.file("log")).unwrap();
        let mut command = self.command(&listen, &["--tokens", tokens.to_str().unwrap()]);
        let child = command.env("THALWEG_LOG", "trace").stderr(log).spawn().unwrap();
        let daemon = Daemon { child, url: format!("http://{listen}") };
        daemon.ready_for(Some(&self.tokens[&Role::Read]));
        daemon
    }
}

/// What `thalweg token` prints: the token, and its line for the file.
fn draw(name: &str, role: Role) -> (String, String) {
    let output = Command::new(THALWEG).args(["token", "--name", name, "--role", role.name()]).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    let (token, line) = text.trim_end().split_once('\n').unwrap();
    assert!(!line.contains(token) && !line.contains(&token[4..]), "the file must not hold the token");
    (token.to_owned(), line.to_owned())
}

struct Answer {
    status: u16,
    headers: BTreeMap<String, String>,
    body: String,
    /// The connection, for what comes after the head where no length was given.
    rest: BufReader<TcpStream>,
}

/// Sends a request as it is written here, with a good record as its body, and reads the answer; its body only if it has a
/// length.
fn ask(daemon: &Daemon, method: &str, path: &str, headers: &[String]) -> Answer {
    let address = daemon.url.strip_prefix("http://").unwrap();
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let headers: String = headers.iter().map(|h| format!("{h}\r\n")).collect();
    let length = if ["GET", "HEAD"].contains(&method) { 0 } else { RECORD.len() };
    let head = format!("{method} {path} HTTP/1.1\r\nHost: {address}\r\nContent-Length: {length}\r\n");
    let body = &RECORD[..length];
    // In one piece: an answer to the head alone, and the end of the connection, must not meet the rest of it.
    let request = format!("{head}Content-Type: application/json\r\n{headers}Connection: close\r\n\r\n{body}");
    stream.write_all(request.as_bytes()).unwrap();
    let mut rest = BufReader::new(stream);
    let mut line = String::new();
    rest.read_line(&mut line).unwrap();
    let status = line.split(' ').nth(1).unwrap_or_else(|| panic!("{method} {path}: {line:?}")).parse().unwrap();
    let mut headers = BTreeMap::new();
    loop {
        line.clear();
        rest.read_line(&mut line).unwrap();
        let Some((name, value)) = line.trim_end().split_once(": ") else { break };
        headers.insert(name.to_ascii_lowercase(), value.to_owned());
    }
    let length = if method == "HEAD" { None } else { headers.get("content-length") };
    let mut body = vec![0; length.map_or(0, |l| l.parse().unwrap())];
    rest.read_exact(&mut body).unwrap();
    Answer { status, headers, body: String::from_utf8(body).unwrap(), rest }
}

fn bearing(token: &str) -> Vec<String> {
    vec![format!("Authorization: Bearer {token}")]
}

/// That an answer is a refusal of that status, and tells nothing else.
fn assert_refused(answer: &Answer, status: u16, what: &str) {
    let code = if status == 401 { "unauthenticated" } else { "forbidden" };
    assert_eq!(answer.status, status, "{what}: {}", answer.body);
    assert_eq!(answer.headers["content-type"], "application/problem+json", "{what}");
    assert!(answer.headers["www-authenticate"].starts_with("Bearer "), "{what}");
    let told = ["content-type", "www-authenticate", "content-length", "date", "connection", "cache-control"];
    assert!(answer.headers.keys().all(|name| told.contains(&name.as_str())), "{what}: {:?}", answer.headers);
    if !what.starts_with("HEAD") {
        let body: Json = serde_json::from_str(&answer.body).unwrap();
        assert_eq!(body["code"], code, "{what}");
        assert_eq!(
            body.as_object().unwrap().keys().collect::<Vec<_>>(),
            ["type", "code", "status", "message"],
            "{what}"
        );
    }
}

#[test]
fn without_a_sufficient_token_there_is_nothing_at_any_route() {
    let guarded = Guarded::new();
    let daemon = guarded.start();
    let admin = &guarded.tokens[&Role::Admin];
    let hash = std::fs::read_to_string(guarded.file("tokens")).unwrap();
    let hash = hash.split_ascii_whitespace().last().unwrap();
    let insufficient: Vec<Vec<String>> = vec![
        vec![],
        bearing(""),
        bearing(&draw("stranger", Role::Admin).0),
        bearing(&admin[..admin.len() - 1]),
        bearing(&format!("{admin}0")),
        bearing(hash),
        bearing(&hash["sha256:".len()..]),
        vec![format!("Authorization: Basic {admin}")],
        vec![format!("Authorization: {admin}")],
        vec![format!("Cookie: token={admin}"), format!("X-Api-Key: {admin}")],
        [bearing(admin), bearing(admin)].concat(),
    ];
    let routes = ROUTES.iter().map(|r| (r.path, r.role));
    let nowhere =
        ["/v2", "/v1/views/", "//", "/healthz", "/healthz/live/", "/healthz/./live", "/metrics/x", "/%2e%2e/v1"];
    // Where nothing is, nobody is told so who may not read.
    let nowhere = nowhere.into_iter().map(|path| (path, Some(Role::Read)));
    let mut asked = 0;
    for (route, needed) in routes.chain(nowhere) {
        let path = route
            .replace("{source}", "events")
            .replace("{view}", "totals")
            .replace("{*key}", "a")
            .replace("{name}", "a");
        let path = path.replace("{epoch}", "1");
        // Whether or not the route takes the method.
        for method in ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "BREW"] {
            let queries = [path.clone(), format!("{path}?access_token={admin}&token={admin}")];
            for (path, headers) in queries.iter().flat_map(|p| insufficient.iter().map(move |h| (p, h))) {
                let answer = ask(&daemon, method, path, headers);
                match needed {
                    Some(_) => assert_refused(&answer, 401, &format!("{method} {route} with {headers:?}")),
                    None => assert!(![401, 403].contains(&answer.status), "{method} {route} is open"),
                }
                asked += 1;
            }
            for role in Role::ALL {
                if method == "POST" && Some(role) >= needed {
                    continue;
                }
                let what = format!("{method} {route} as {role}");
                let answer = ask(&daemon, method, &path, &bearing(&guarded.tokens[&role]));
                match needed {
                    Some(needed) if role < needed => assert_refused(&answer, 403, &what),
                    _ => assert!(![401, 403].contains(&answer.status), "{what}: {}", answer.status),
                }
                asked += 1;
            }
        }
    }
    eprintln!("{asked} requests");
    // None of the records that came with them was taken, and one that comes with a sufficient token is.
    let read = bearing(&guarded.tokens[&Role::Read]);
    let records = || {
        let body = ask(&daemon, "GET", "/v1/sources/events", &read).body;
        serde_json::from_str::<Json>(&body).unwrap()["records"].as_u64()
    };
    assert_eq!(records(), Some(0));
    assert!(!guarded.file("store/checkpoints").exists(), "a checkpoint was made");
    let pushed = ask(&daemon, "POST", "/v1/sources/events/records", &bearing(&guarded.tokens[&Role::Ingest]));
    assert_eq!((pushed.status, records()), (200, Some(1)), "{}", pushed.body);
    let refused = ask(&daemon, "GET", "/metrics", &read).body;
    assert!(refused.contains("thalweg_http_requests_total{route=\"/metrics\",status=\"401\"}"), "{refused}");
    assert!(refused.contains("thalweg_http_requests_total{route=\"none\",status=\"401\"}"), "{refused}");
}

#[test]
fn tokens_come_and_go_while_the_daemon_runs_and_are_seen_nowhere() {
    let guarded = Guarded::new();
    let daemon = guarded.start();
    let (old, admin) = (guarded.tokens[&Role::Read].clone(), guarded.tokens[&Role::Admin].clone());
    let (new, new_line) = draw("new", Role::Read);
    let status = |token: &str| ask(&daemon, "GET", "/v1/views", &bearing(token)).status;
    let log = || std::fs::read_to_string(guarded.file("log")).unwrap();
    let metrics = |token: &str| ask(&daemon, "GET", "/metrics", &bearing(token)).body;
    let write = |text: &str| {
        std::fs::write(guarded.file("next"), text).unwrap();
        std::fs::rename(guarded.file("next"), guarded.file("tokens")).unwrap();
    };
    let until = |what: &str, done: &dyn Fn() -> bool| {
        for _ in 0..6000 {
            if done() {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("{what}: {}", log());
    };
    let before = std::fs::read_to_string(guarded.file("tokens")).unwrap();
    let subscribed = ask(&daemon, "GET", "/v1/views/totals/changes", &bearing(&old));
    assert_eq!(subscribed.status, 200);

    // A token where its hash belongs: refused, said, and not repeated.
    let (secret, _) = draw("oops", Role::Admin);
    write(&format!("{before}\noops admin {secret}\n"));
    until("a broken file is said", &|| log().contains("the tokens were not reloaded"));
    until("a broken file is counted", &|| metrics(&old).contains("thalweg_tokens_file_broken 1"));
    assert!(log().contains("line 4: expected `sha256:` and 64 hexadecimal digits"));
    assert_eq!((status(&old), status(&new), status(&secret)), (200, 401, 401));
    write("");
    until("an empty file is said", &|| log().contains("the file names no token"));
    std::fs::remove_file(guarded.file("tokens")).unwrap();
    until("a missing file is said", &|| log().contains("No such file"));
    assert_eq!((status(&old), status(&admin)), (200, 200));

    write(&format!("{before}\n{new_line}\n"));
    until("a new token", &|| status(&new) == 200);
    assert!(metrics(&new).contains("thalweg_tokens_file_broken 0"));
    assert_eq!(status(&old), 200);

    write(&new_line);
    until("a token taken back", &|| status(&old) == 401);
    assert_eq!((status(&new), status(&admin)), (200, 401));
    // Its stream of changes ends too, and says why.
    let mut stream = String::new();
    let mut rest = subscribed.rest;
    while rest.read_line(&mut stream).unwrap() > 0 && !stream.contains("event: error") {}
    let mut reason = String::new();
    rest.read_line(&mut reason).unwrap();
    assert!(reason.contains("\"unauthenticated\""), "{stream}{reason}");

    let explained = ask(&daemon, "GET", "/v1/pipelines", &bearing(&new)).body;
    let words = std::fs::read(format!("/proc/{}/cmdline", daemon.child.id())).unwrap();
    let words = String::from_utf8_lossy(&words).into_owned();
    let told = ask(&daemon, "GET", "/v1/views", &bearing(&draw("stranger", Role::Read).0)).body;
    for token in [&old, &admin, &new, &secret] {
        for (place, text) in [
            ("log", &log()),
            ("metrics", &metrics(&new)),
            ("explain", &explained),
            ("arguments", &words),
            ("refusal", &told),
        ] {
            assert!(!text.contains(&token[4..]), "a token is in the {place}");
        }
    }
}

#[test]
fn the_commands_send_the_token_of_the_environment() {
    let guarded = Guarded::new();
    let daemon = guarded.start();
    let pushed = ask(&daemon, "POST", "/v1/sources/events/records", &bearing(&guarded.tokens[&Role::Ingest]));
    let epoch = serde_json::from_str::<Json>(&pushed.body).unwrap()["epoch"].as_u64().unwrap();
    let read = bearing(&guarded.tokens[&Role::Read]);
    assert_eq!(ask(&daemon, "GET", &format!("/v1/views/totals?min_epoch={epoch}"), &read).status, 200);
    let run = |words: &[&str], token: Option<&str>| {
        let mut command = Command::new(THALWEG);
        command.args(words).args(["--url", &daemon.url]).env_remove("THALWEG_TOKEN");
        command.envs(token.map(|t| ("THALWEG_TOKEN", t))).output().unwrap()
    };
    let refused = run(&["checkpoint", "c"], Some(&guarded.tokens[&Role::Ingest]));
    assert_eq!((refused.status.code(), refused.stdout.len()), (Some(1), 0));
    assert!(said(&refused).contains("(forbidden)"), "{}", said(&refused));
    let made = run(&["checkpoint", "c"], Some(&guarded.tokens[&Role::Admin]));
    assert!(made.status.success() && guarded.file("store/checkpoints/c").exists(), "{}", said(&made));
    let commands: [(&[&str], &str); 5] = [
        (&["views"], "totals"),
        (&["get", "totals", "a"], "{\"bucket\":\"a\",\"events\":1}\n"),
        (&["dump", "--view", "totals"], "{\"bucket\":\"a\",\"events\":1}\n"),
        (&["tail", "totals", "--snapshot", "--changes", "1"], "\"events\":1"),
        (&["faults"], ""),
    ];
    for (words, printed) in commands {
        let output = run(words, Some(&guarded.tokens[&Role::Read]));
        assert!(output.status.success(), "{words:?}: {}", said(&output));
        assert!(String::from_utf8(output.stdout).unwrap().contains(printed), "{words:?}");
        for token in [None, Some("thw_none")] {
            let output = run(words, token);
            assert_eq!((output.status.code(), output.stdout.len()), (Some(1), 0), "{words:?}");
            assert!(said(&output).contains("(unauthenticated)"), "{words:?}: {}", said(&output));
        }
        for unsendable in ["", "two words", "line\nX-Header: y"] {
            let output = run(words, Some(unsendable));
            assert_eq!(output.status.code(), Some(2), "{words:?}");
            assert!(said(&output).contains("visible ASCII") && !said(&output).contains("words"), "{}", said(&output));
        }
    }
}

#[test]
fn a_daemon_that_others_reach_does_not_start_without_tokens() {
    let guarded = Guarded::new();
    let port = free_port();
    for address in [format!("0.0.0.0:{port}"), format!("[::]:{port}"), format!("[::ffff:127.0.0.1]:{port}")] {
        let output = guarded.command(&address, &[]).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{address}");
        assert!(said(&output).contains("--listen-without-auth") && said(&output).contains("--tokens"), "{address}");
    }
    let line = draw("a", Role::Read).1;
    for (text, why) in [
        ("", "the file names no token"),
        ("a read thw_0123", "line 1: expected"),
        (&format!("{line}\n{line}"), "line 2: "),
    ] {
        std::fs::write(guarded.file("broken"), text).unwrap();
        let output = guarded.command("127.0.0.1:0", &["--tokens", path(&guarded.file("broken"))]).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{text}");
        assert!(said(&output).contains(why) && !said(&output).contains("0123"), "{}", said(&output));
    }
    let missing = guarded.command("127.0.0.1:0", &["--tokens", path(&guarded.file("missing"))]).output().unwrap();
    assert_eq!(missing.status.code(), Some(2));
    let tokens = guarded.file("tokens");
    let both = ["--listen-without-auth", "--tokens", path(&tokens)];
    assert_eq!(guarded.command("127.0.0.1:0", &both).output().unwrap().status.code(), Some(2));
    assert!(!guarded.file("store").exists(), "nothing was started");

    // Told so, it serves whoever comes.
    let child = guarded.command(&format!("0.0.0.0:{port}"), &["--listen-without-auth"]).spawn().unwrap();
    let daemon = Daemon { child, url: format!("http://127.0.0.1:{port}") };
    daemon.ready();
    assert_eq!(ask(&daemon, "GET", "/v1/views", &[]).status, 200);
    for words in
        [["--name", "a b", "--role", "read"], ["--name", "a", "--role", "root"], ["--name", "", "--role", "read"]]
    {
        let output = Command::new(THALWEG).arg("token").args(words).output().unwrap();
        assert_eq!((output.status.code(), output.stdout.len()), (Some(2), 0), "{words:?}");
    }
}

fn path(file: &Path) -> &str {
    file.to_str().unwrap()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}
