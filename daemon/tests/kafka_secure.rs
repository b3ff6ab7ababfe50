//! A cluster that is reached by SASL over TLS alone: with the right password, with a wrong one, with an authority it was
//! not signed by. Passwords are shown nowhere.

#[path = "support/broker.rs"]
mod broker;
#[path = "support/certificates.rs"]
mod certificates;
mod support;

use std::fs::read_to_string;
use std::path::{Path, PathBuf};
use std::process::Command;

use broker::{Broker, Message};
use support::{Daemon, THALWEG, get, text, until};

const PASSWORD: &str = "open-sesame-31415";
const WRONG: &str = "shut-sesame-27182";

/// Writes an authority's certificate, and a broker's with its key and the password beside it. Gives the former.
fn issue(dir: &Path) -> PathBuf {
    let issued = certificates::issue();
    std::fs::write(dir.join("ca.pem"), issued.ca).unwrap();
    std::fs::write(dir.join("broker.pem"), issued.key + &issued.certificate).unwrap();
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
fn start(file: &Path, dir: &Path, password: &str) -> (Daemon, PathBuf) {
    let log = dir.join("log");
    let envs = [("PASSWORD", password), ("THALWEG_LOG", "info")];
    (Daemon::start_logged(file, &dir.join("data"), 1, &envs, &log), log)
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
    let (mut daemon, log) = start(&file, dir.path(), PASSWORD);
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
        let (mut daemon, log) = start(&file, dir.path(), password);
        until(&format!("{name}: the trouble is told"), || read_to_string(&log).unwrap().contains(why));
        let (_, metrics) = get(&format!("{}/metrics", daemon.url)).unwrap();
        assert!(metrics.contains("thalweg_source_connected{source=\"s\"} 0"), "{name}");
        assert!(daemon.is_alive(), "{name}");
        daemon.kill();
        assert!(!read_to_string(&log).unwrap().contains(password), "{name}: the log shows the password");
    }
}
