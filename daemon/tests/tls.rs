//! A daemon that speaks TLS: with a certificate of a private authority, with files that change, are broken and are mended
//! while it runs, and with clients that speak something else or nothing at all.

#[path = "support/certificates.rs"]
mod certificates;
mod support;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use certificates::{Issued, issue};
use client::Client;
use daemon::online;
use support::{Daemon, THALWEG, free_port, until};
use ureq::tls::{Certificate, RootCerts, TlsConfig};

const PIPELINE: &str = r#"
name = "encrypted"

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

struct Encrypted {
    dir: tempfile::TempDir,
    _daemon: Daemon,
    port: u16,
}

impl Encrypted {
    fn start(issued: &Issued) -> Encrypted {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("pipeline.toml"), PIPELINE).unwrap();
        let port = free_port();
        let encrypted = Encrypted { _daemon: daemon(dir.path(), issued, port), dir, port };
        until("it answers", || encrypted.get(&issued.ca, "/healthz/ready").is_ok());
        encrypted
    }

    fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn url(&self) -> String {
        format!("https://127.0.0.1:{}", self.port)
    }

    /// What a client that trusts an authority is answered.
    fn get(&self, ca: &str, path: &str) -> Result<String, String> {
        let ca = Certificate::from_pem(ca.as_bytes()).unwrap();
        let roots = RootCerts::Specific(Arc::new(vec![ca]));
        let agent = ureq::Agent::config_builder()
            .timeout_global(Some(Duration::from_secs(10)))
            .tls_config(TlsConfig::builder().root_certs(roots).build())
            .build()
            .new_agent();
        let mut response = agent.get(format!("{}{path}", self.url())).call().map_err(|e| e.to_string())?;
        response.body_mut().read_to_string().map_err(|e| e.to_string())
    }

    fn is_broken(&self, ca: &str) -> bool {
        let metrics = self.get(ca, "/metrics").unwrap();
        metrics.lines().any(|l| l == "thalweg_tls_files_broken 1")
    }

    fn thalweg(&self, arguments: &[&str]) -> Output {
        Command::new(THALWEG).args(arguments).args(["--url", &self.url()]).stdin(Stdio::null()).output().unwrap()
    }
}

fn command(dir: &Path, port: u16) -> Command {
    let mut command = Command::new(THALWEG);
    command.arg("run").arg(dir.join("pipeline.toml")).arg("--data").arg(dir.join("store"));
    command.args(["--listen", &format!("127.0.0.1:{port}")]).env("THALWEG_LOG", "warn").stdin(Stdio::null());
    command
}

fn daemon(dir: &Path, issued: &Issued, port: u16) -> Daemon {
    std::fs::write(dir.join("cert.pem"), &issued.certificate).unwrap();
    std::fs::write(dir.join("key.pem"), &issued.key).unwrap();
    let mut command = command(dir, port);
    command.arg("--tls-cert").arg(dir.join("cert.pem")).arg("--tls-key").arg(dir.join("key.pem"));
    let log = std::fs::File::create(dir.join("log")).unwrap();
    Daemon { child: command.stderr(log).spawn().unwrap(), url: format!("https://127.0.0.1:{port}") }
}

#[test]
fn whoever_trusts_the_authority_is_served_and_nobody_else_is() {
    let issued = issue();
    let encrypted = Encrypted::start(&issued);
    let ca = encrypted.file("ca.pem");
    std::fs::write(&ca, &issued.ca).unwrap();
    let ca = ca.to_str().unwrap();
    let output = encrypted.thalweg(&["views", "--ca", ca]);
    assert!(output.status.success(), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stdout).contains("totals"), "{output:?}");
    let output = encrypted.thalweg(&["sql", "--ca", ca, "SELECT 1 AS x"]);
    assert_eq!(String::from_utf8_lossy(&output.stdout), "{\"x\":1}\n", "{output:?}");
    // Without the authority, and with another.
    for arguments in [vec!["views"], vec!["dump", "--view", "totals"]] {
        let output = encrypted.thalweg(&arguments);
        assert_eq!(output.status.code(), Some(1));
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(said.contains("cannot be asked") && said.to_lowercase().contains("certificate"), "{said}");
    }
    let other = encrypted.file("other.pem");
    std::fs::write(&other, issue().ca).unwrap();
    assert_eq!(encrypted.thalweg(&["views", "--ca", other.to_str().unwrap()]).status.code(), Some(1));
    let output = encrypted.thalweg(&["views", "--ca", encrypted.file("pipeline.toml").to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("BEGIN CERTIFICATE"), "{output:?}");
    // A name the certificate is not for.
    let Ok(output) = Command::new("curl").arg("--version").output() else {
        eprintln!("skipped: there is no curl");
        return;
    };
    assert!(output.status.success());
    for (arguments, works) in [
        (vec!["--cacert", ca], true),
        (vec!["--cacert", ca, "--tls-max", "1.2"], true),
        (vec!["--cacert", ca, "--tlsv1.3"], true),
        (vec!["--cacert", ca, "--http1.1"], true),
        (vec!["--cacert", ca, "--tls-max", "1.1"], false),
        (vec![], false),
    ] {
        let url = format!("{}/v1/views", encrypted.url());
        let output = Command::new("curl").args(["-sSf", "--noproxy", "*"]).args(&arguments).arg(url).output().unwrap();
        assert_eq!(output.status.success(), works, "{arguments:?}: {output:?}");
    }
    let post =
        ["-sSf", "--noproxy", "*", "--cacert", ca, "-H", "content-type: application/json", "-d", "{\"bucket\":\"a\"}"];
    let url = format!("{}/v1/sources/events/records", encrypted.url());
    let output = Command::new("curl").args(post).arg(url).output().unwrap();
    assert!(String::from_utf8_lossy(&output.stdout).contains("\"records\":1"), "{output:?}");
}

#[test]
fn a_new_certificate_is_taken_over_and_a_bad_one_is_not() {
    let (first, second) = (issue(), issue());
    let encrypted = Encrypted::start(&first);
    let write = |name: &str, text: &str| {
        // As it is done: a file is replaced by another, whole.
        std::fs::write(encrypted.file("new"), text).unwrap();
        std::fs::rename(encrypted.file("new"), encrypted.file(name)).unwrap();
    };
    assert!(!encrypted.is_broken(&first.ca));
    // A connection from before goes on.
    let kept = Client::trusting(
        &encrypted.url(),
        None,
        Some(&{
            write("ca.pem", &first.ca);
            encrypted.file("ca.pem")
        }),
    )
    .unwrap();
    online::views(&kept, &mut Vec::new()).unwrap();

    for (name, text) in [("cert.pem", "nonsense"), ("key.pem", ""), ("cert.pem", &second.certificate[..40])] {
        write(name, text);
        until("the metric tells of it", || encrypted.is_broken(&first.ca));
        assert!(encrypted.get(&first.ca, "/healthz/ready").is_ok(), "the old certificate is in use");
        write("cert.pem", &first.certificate);
        write("key.pem", &first.key);
        until("the metric tells that it is mended", || !encrypted.is_broken(&first.ca));
    }
    // One of the two alone is no pair; with the other it is.
    write("cert.pem", &second.certificate);
    until("the metric tells of it", || encrypted.is_broken(&first.ca));
    assert!(encrypted.get(&second.ca, "/healthz/ready").is_err());
    write("key.pem", &second.key);
    until("the new certificate is shown", || encrypted.get(&second.ca, "/healthz/ready").is_ok());
    assert!(encrypted.get(&first.ca, "/healthz/ready").is_err());
    assert!(!encrypted.is_broken(&second.ca));
    online::views(&kept, &mut Vec::new()).unwrap();
    std::fs::remove_file(encrypted.file("key.pem")).unwrap();
    until("the metric tells of it", || encrypted.is_broken(&second.ca));
    let log = std::fs::read_to_string(encrypted.file("log")).unwrap();
    assert!(log.contains("is not the key of"), "{log}");
    let secret = second.key.lines().nth(1).unwrap();
    assert!(!log.contains(secret) && !log.contains("PRIVATE KEY"), "the log has a key");
}

#[test]
fn whoever_speaks_no_tls_is_told_so_and_served_nothing() {
    let issued = issue();
    let encrypted = Encrypted::start(&issued);
    let told = |sent: &[u8]| {
        let mut stream = TcpStream::connect(("127.0.0.1", encrypted.port)).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let _ = stream.write_all(sent);
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        String::from_utf8_lossy(&answer).into_owned()
    };
    for request in ["GET /v1/views HTTP/1.1\r\nhost: x\r\n\r\n", "POST /v1/query HTTP/1.1\r\n\r\n", "\r\n", "nonsense"]
    {
        let answer = told(request.as_bytes());
        assert!(answer.starts_with("HTTP/1.1 400 ") && answer.contains("\"tls_required\""), "{request:?}: {answer:?}");
        assert!(answer.contains("connection: close") && !answer.contains("totals"), "{answer:?}");
    }
    let long =
        format!("POST /v1/sources/events/records HTTP/1.1\r\ncontent-length: 40000\r\n\r\n{}", "x".repeat(40_000));
    assert!(told(long.as_bytes()).contains("\"tls_required\""));
    // What begins like TLS and goes on like nothing.
    let answer = told(b"\x16\x03\x01\x00\x05hello");
    assert!(!answer.contains("HTTP"), "{answer:?}");
    let output =
        Command::new(THALWEG).args(["views", "--url", &format!("http://127.0.0.1:{}", encrypted.port)]).output();
    let output = output.unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("tls_required"), "{said}");
}

#[test]
fn who_dawdles_in_a_handshake_is_cut_and_keeps_nobody_waiting() {
    let issued = issue();
    let encrypted = Encrypted::start(&issued);
    let silent = || TcpStream::connect(("127.0.0.1", encrypted.port)).unwrap();
    let mut waiting: Vec<TcpStream> = (0..200).map(|_| silent()).collect();
    for stream in &mut waiting[100..] {
        // The head of a record of 512 bytes, of which no more comes.
        stream.write_all(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03").unwrap();
    }
    let began = Instant::now();
    for _ in 0..20 {
        encrypted.get(&issued.ca, "/healthz/ready").unwrap();
    }
    // Behind those that dawdle each would wait ten seconds.
    assert!(began.elapsed() < Duration::from_secs(60), "twenty requests took {:?}", began.elapsed());
    for mut stream in waiting {
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        let mut rest = Vec::new();
        // Closed, with an alert or without: whatever ends it, it ends.
        match stream.read_to_end(&mut rest) {
            Ok(_) => {}
            Err(e) => assert_eq!(e.kind(), std::io::ErrorKind::ConnectionReset, "{e}"),
        }
    }
    assert!(began.elapsed() < Duration::from_secs(30), "they were cut after {:?}", began.elapsed());
}

#[test]
fn a_daemon_does_not_start_with_what_is_no_certificate() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("pipeline.toml"), PIPELINE).unwrap();
    let (one, other) = (issue(), issue());
    for (name, text) in [("cert", &one.certificate), ("key", &one.key), ("other", &other.key)] {
        std::fs::write(dir.path().join(name), text).unwrap();
    }
    std::fs::write(dir.path().join("nothing"), "").unwrap();
    for (arguments, said) in [
        (vec![("--tls-cert", "cert")], "--tls-key"),
        (vec![("--tls-key", "key")], "--tls-cert"),
        (vec![("--tls-cert", "gone"), ("--tls-key", "key")], "gone"),
        (vec![("--tls-cert", "nothing"), ("--tls-key", "key")], "BEGIN CERTIFICATE"),
        (vec![("--tls-cert", "key"), ("--tls-key", "key")], "BEGIN CERTIFICATE"),
        (vec![("--tls-cert", "cert"), ("--tls-key", "cert")], "private key"),
        (vec![("--tls-cert", "cert"), ("--tls-key", "other")], "is not the key of"),
    ] {
        let mut command = command(dir.path(), free_port());
        for (option, file) in &arguments {
            command.arg(option).arg(dir.path().join(file));
        }
        let output = command.output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {output:?}");
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(error.contains(said) && !error.contains("BEGIN PRIVATE"), "{arguments:?}: {error}");
    }
    assert!(!dir.path().join("store").exists(), "nothing was started");
}
