//! A cluster that is reached by SASL over TLS alone: with the right password, with a wrong one, with an authority it was
//! not signed by. Passwords are shown nowhere.

#[path = "support/broker.rs"]
mod broker;
mod support;

use std::fs::{File, read_to_string};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use broker::{Broker, Message};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use support::{Daemon, THALWEG, free_port, get, text};

const PASSWORD: &str = "open-sesame-31415";
const WRONG: &str = "shut-sesame-27182";

/// Writes an authority's certificate, and a broker's with its key and the password beside it. Gives the former.
fn issue(dir: &Path) -> PathBuf {
    let ca_key = KeyPair::generate().unwrap();
    let mut ca = CertificateParams::new(Vec::new()).unwrap();
    ca.distinguished_name.push(DnType::CommonName, "an authority");
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let certificate = ca.self_signed(&ca_key).unwrap();
    std::fs::write(dir.join("ca.pem"), certificate.pem()).unwrap();
    let issuer = Issuer::new(ca, ca_key);
    let key = KeyPair::generate().unwrap();
    let server = CertificateParams::new(vec!["localhost".to_owned(), "127.0.0.1".to_owned()]).unwrap();
    let server = server.signed_by(&key, &issuer).unwrap();
    std::fs::write(dir.join("broker.pem"), key.serialize_pem() + &server.pem()).unwrap();
    std::fs::write(dir.join("password"), PASSWORD).unwrap();
    dir.join("ca.pem")
}

/// What is asked over one mechanism is told over the other.
fn pipeline(dir: &Path, broker: &Broker, ca: &Path) -> PathBuf {
    let client = |mechanism: &str| {
        format!(
            "librdkafka = {{ \"security.protocol\" = \"SASL_SSL\", \"sasl.mechanisms\" = \"{mechanism}\", \"sasl.username\" = \
             \"thalweg\", \"sasl.password\" = \"${{PASSWORD}}\", \"ssl.ca.location\" = \"{}\" }}\n",
            ca.display()
        )
    };
    let address = broker.secure_address();
    let text = format!(
        "name = \"secure\"\n[epoch]\ninterval_ms = 5\n[sources.s]\ntype = \"kafka\"\nbrokers = \"{address}\"\ntopics = \
         \"in\"\n{}[sources.s.columns]\nid = \"int64\"\n[steps.sums]\noperator = \"aggregate\"\ninput = \"s\"\nby = \
         \"id\"\ncompute = {{ n = \"count\" }}\n[sinks.out]\ntype = \"kafka\"\nbrokers = \"{address}\"\ntopic = \"out\"\nview = \
         \"sums\"\n{}",
        client("SCRAM-SHA-256"),
        client("PLAIN")
    );
    let file = dir.join("pipeline.toml");
    std::fs::write(&file, text).unwrap();
    file
}

/// A daemon whose log goes to a file.
fn spawn(file: &Path, dir: &Path, password: &str) -> (Daemon, PathBuf) {
    let (log, port) = (dir.join("log"), free_port());
    let child = Command::new(THALWEG)
        .arg("run")
        .arg(file)
        .arg("--data")
        .arg(dir.join("data"))
        .args(["--listen", &format!("127.0.0.1:{port}")])
        .env("PASSWORD", password)
        .stdin(Stdio::null())
        .stderr(File::create(&log).unwrap())
        .spawn()
        .unwrap();
    let daemon = Daemon { child, url: format!("http://127.0.0.1:{port}") };
    until("it answers", || get(&format!("{}/healthz/live", daemon.url)).is_ok());
    (daemon, log)
}

fn until(what: &str, mut is: impl FnMut() -> bool) {
    let started = Instant::now();
    while !is() {
        assert!(started.elapsed() < Duration::from_secs(60), "it never is so that {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_cluster_is_reached_over_tls_with_a_password_that_is_shown_nowhere() {
    let certificates = tempfile::tempdir().unwrap();
    let ca = issue(certificates.path());
    let Some(broker) = Broker::start_secure(certificates.path()) else { return };
    broker.create("in", 1);
    broker.create("out", 1);
    let message = |id: i64| Message { at_ms: id, value: Some(format!("{{\"id\":{id}}}")), ..Message::default() };
    broker.send("in", &(0..20).map(message).collect::<Vec<_>>());

    let dir = tempfile::tempdir().unwrap();
    let file = pipeline(dir.path(), &broker, &ca);
    let (mut daemon, log) = spawn(&file, dir.path(), PASSWORD);
    until("everything went through", || {
        let sinks = get(&format!("{}/v1/sinks", daemon.url)).map(|(_, body)| body).unwrap_or_default();
        sinks.contains("\"records\":20")
    });
    for path in ["/metrics", "/v1/pipelines", "/v1/sources/s", "/v1/sinks", "/openapi.json"] {
        let (_, body) = get(&format!("{}{path}", daemon.url)).unwrap();
        assert!(!body.contains(PASSWORD), "{path} shows the password");
    }
    daemon.kill();
    assert!(!read_to_string(&log).unwrap().contains(PASSWORD), "the log shows the password");
    assert_eq!(broker.read("out").len(), 20);
    let explained = Command::new(THALWEG).arg("explain").arg(&file).env("PASSWORD", PASSWORD).output().unwrap();
    assert!(explained.status.success() && !text(&explained).contains(PASSWORD), "{}", text(&explained));

    // With what does not fit the daemon waits, and says why.
    let other = tempfile::tempdir().unwrap();
    let stranger = issue(other.path());
    for (name, ca, password, why) in
        [("wrong", &ca, WRONG, "uthentication"), ("stranger", &stranger, PASSWORD, "certificate")]
    {
        let dir = tempfile::tempdir().unwrap();
        let file = pipeline(dir.path(), &broker, ca);
        let (mut daemon, log) = spawn(&file, dir.path(), password);
        until(&format!("{name}: the trouble is told"), || read_to_string(&log).unwrap().contains(why));
        let (_, metrics) = get(&format!("{}/metrics", daemon.url)).unwrap();
        assert!(metrics.contains("thalweg_source_connected{source=\"s\"} 0"), "{name}");
        assert!(daemon.is_alive(), "{name}");
        daemon.kill();
        assert!(!read_to_string(&log).unwrap().contains(password), "{name}: the log shows the password");
    }
}
