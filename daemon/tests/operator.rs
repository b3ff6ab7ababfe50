//! What an operator does to a running daemon: has a changed pipeline file taken over, looks at `top`, takes a bundle. And
//! what a program does with it, through the typed client.

#![allow(clippy::disallowed_methods, reason = "tests wait by the clock")]

mod support;

use std::collections::BTreeMap;
use std::fs::{File, read_to_string};
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use client::{At, Client, Error, From, Scan};
use serde::{Deserialize, Serialize};
use support::{Daemon, THALWEG, free_port, get, text, until};

const SECRET: &str = "hush-27182818";

const PIPELINE: &str = r#"
name = "asked"

[epoch]
interval_ms = 2

[sources.orders]
type = "http"
key = "order"
tombstone = "done"
[sources.orders.columns]
order = "int64"
zone = "string"
fare = "float64"
done = "bool"

[sources.notes]
type = "file"
path = "${FOLDER}/notes.csv"
[sources.notes.columns]
note = "string"

[steps.by_zone]
operator = "aggregate"
input = "orders"
by = "zone"
compute = { open = "count", fares = "sum(fare)" }

[steps.heard]
operator = "select"
input = "notes"
"#;

fn write(dir: &Path, text: &str) -> PathBuf {
    let file = dir.join("pipeline.toml");
    std::fs::create_dir_all(dir.join(SECRET)).unwrap();
    std::fs::write(dir.join(SECRET).join("notes.csv"), "note\nhello\n").unwrap();
    std::fs::write(&file, text).unwrap();
    file
}

/// A daemon whose log goes to a file.
fn start(file: &Path, dir: &Path) -> (Daemon, PathBuf) {
    let log = dir.join("log");
    let envs = [("FOLDER", SECRET), ("THALWEG_LOG", "info")];
    let daemon = Daemon::start_logged(file, &dir.join("data"), 2, &envs, &log);
    daemon.ready();
    (daemon, log)
}

#[derive(Clone, Debug, PartialEq, Serialize)]
struct Order {
    order: i64,
    zone: Option<String>,
    fare: f64,
    done: bool,
}

fn order(order: i64, zone: &str, fare: f64) -> Order {
    Order { order, zone: Some(zone.to_owned()), fare, done: false }
}

#[derive(Clone, Debug, PartialEq, Deserialize)]
struct Zone {
    zone: Option<String>,
    open: u64,
    fares: f64,
}

fn zone(zone: &str, open: u64, fares: f64) -> Zone {
    Zone { zone: Some(zone.to_owned()), open, fares }
}

fn hang_up(daemon: &Daemon) {
    let status = Command::new("kill").args(["-HUP", &daemon.child.id().to_string()]).status().unwrap();
    assert!(status.success());
}

#[test]
fn a_changed_file_is_taken_over_between_two_epochs_or_refused_whole() {
    let dir = tempfile::tempdir().unwrap();
    let file = write(dir.path(), PIPELINE);
    let (mut daemon, log) = start(&file, dir.path());
    let asked = Client::new(&daemon.url, None).unwrap();
    let pushed = asked.push("orders", &[order(1, "west", 2.0)], None).unwrap();
    assert_eq!(asked.row("by_zone", &["west"], At::NotBefore(pushed.epoch)).unwrap(), Some(zone("west", 1, 2.0)));

    // One with mistakes, one that computes something else, one that is gone.
    let broken = PIPELINE.replace("operator = \"select\"", "operator = \"selct\"");
    let other = PIPELINE.replace("sum(fare)", "max(fare)");
    for (pipeline, why) in
        [(Some(&broken), "did you mean `select`?"), (Some(&other), "computes something else"), (None, "No such file")]
    {
        match pipeline {
            Some(pipeline) => std::fs::write(&file, pipeline).unwrap(),
            None => std::fs::remove_file(&file).unwrap(),
        }
        hang_up(&daemon);
        until(why, || read_to_string(&log).unwrap().contains(why));
        let (_, metrics) = get(&format!("{}/metrics", daemon.url)).unwrap();
        assert!(metrics.contains("thalweg_pipeline_file_refused 1"), "{why}");
        let pushed = asked.push("orders", &[order(2, "west", 3.0)], None).unwrap();
        assert_eq!(asked.row("by_zone", &["west"], At::NotBefore(pushed.epoch)).unwrap(), Some(zone("west", 2, 5.0)));
    }

    // One that is taken over while records come and somebody listens: each is there once, none is missed.
    let with_sink = format!(
        "{}\n[retain]\nepochs = 5000\n[sinks.out]\ntype = \"file\"\nview = \"by_zone\"\npath = \"out\"\nroll_secs = 0.01\n",
        PIPELINE.replace("interval_ms = 2", "interval_ms = 3")
    );
    // A thread of its own: it must not be waited for where something fails.
    let changes = Client::new(&daemon.url, None).unwrap();
    let listening = std::thread::spawn(move || {
        let mut seen = Vec::new();
        for change in changes.changes::<Zone>("by_zone", From::Now) {
            let Some(row) = change.unwrap().row else { continue };
            if row.zone.as_deref() == Some("end") {
                return seen;
            }
            seen.extend((row.zone.as_deref() == Some("east")).then_some(row.open));
        }
        unreachable!("a stream ends with an error only")
    });
    until("somebody listens", || {
        get(&format!("{}/metrics", daemon.url)).unwrap().1.contains("thalweg_subscribers{view=\"by_zone\"} 1")
    });
    let push = |orders: &[Order], key: &str| {
        until("the push is answered", || match asked.push("orders", orders, Some(key)) {
            Ok(_) => true,
            Err(e) => {
                assert!(e.is_passing(), "{e}");
                false
            }
        });
    };
    for id in 10..40 {
        push(&[order(id, "east", 1.0)], &format!("order-{id}"));
        if id == 20 {
            std::fs::write(&file, &with_sink).unwrap();
            hang_up(&daemon);
        }
    }
    until("the sink delivers", || {
        get(&format!("{}/v1/sinks", daemon.url)).is_ok_and(|(_, b)| b.contains("\"lag_epochs\":0"))
    });
    push(&[order(99, "end", 0.0)], "the-end");
    let heard = listening.join().unwrap();
    assert_eq!(heard, (1..=30).collect::<Vec<_>>(), "each order changes its zone once");
    assert!(daemon.is_alive(), "it is another process");
    assert!(get(&format!("{}/metrics", daemon.url)).unwrap().1.contains("thalweg_pipeline_file_refused 0"));
    assert!(std::fs::read_dir(dir.path().join("out")).unwrap().count() > 0, "nothing was delivered");
    daemon.kill();
}

#[test]
fn what_an_operator_looks_at_has_everything_but_secrets() {
    let dir = tempfile::tempdir().unwrap();
    let file = write(dir.path(), PIPELINE);
    let (mut daemon, log) = start(&file, dir.path());
    let asked = Client::new(&daemon.url, None).unwrap();
    asked
        .push_lines("orders", b"{\"order\":1,\"zone\":\"west\"}\n{\"order\":\"raw-text-of-a-fault\"}\n", None)
        .unwrap();
    until("all is published", || asked.epochs().is_ok_and(|e| e.published == e.sealed && e.published > 0));

    let top = Command::new(THALWEG).args(["top", "--once", "--every", "0.2", "--url", &daemon.url]).output().unwrap();
    let page = text(&top);
    assert!(top.status.success(), "{page}");
    for part in
        ["asked at http", "SOURCE", "orders", "http", "STEP", "aggregate", "VIEW", "by_zone", "FAULTS OF", "bad_"]
    {
        assert!(page.contains(part), "no `{part}` in\n{page}");
    }

    let (out, url) = (dir.path().join("bundle.tar.gz"), daemon.url.clone());
    let bundle = || {
        let mut command = Command::new(THALWEG);
        command.args(["bundle", "--url", &url, "--data"]).arg(dir.path().join("data"));
        command.arg("--log").arg(&log).arg("--out").arg(&out).output().unwrap()
    };
    let made = bundle();
    assert!(made.status.success(), "{}", text(&made));
    let again = bundle();
    assert!(!again.status.success() && text(&again).contains("exists"), "{}", text(&again));
    let mut parts = BTreeMap::new();
    let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(File::open(&out).unwrap()));
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).unwrap();
        parts.insert(entry.path().unwrap().display().to_string(), String::from_utf8_lossy(&bytes).into_owned());
    }
    for (name, part) in [
        ("version.txt", "thalweg "),
        ("pipelines.json", "by_zone"),
        ("sources.json", "orders"),
        ("faults.json", "\"total\":1"),
        ("metrics.txt", "thalweg_epoch_published"),
        ("ready.json", "rehydrated"),
        ("machine/meminfo", "MemTotal"),
        ("store/files.txt", "CURRENT"),
        ("store/LOG", "RocksDB"),
        ("log", "serving"),
    ] {
        let text =
            parts.get(&format!("thalweg-bundle/{name}")).unwrap_or_else(|| panic!("no {name} in {:?}", parts.keys()));
        assert!(text.contains(part), "no `{part}` in {name}:\n{text}");
    }
    for (name, text) in &parts {
        assert!(!text.contains("raw-text-of-a-fault"), "{name} shows a record");
        assert!(!text.contains(SECRET), "{name} shows a value of the environment");
    }
    assert!(!page.contains(SECRET));

    // Of a daemon that is away there is the machine, and why there is not more.
    daemon.kill();
    std::fs::remove_file(&out).unwrap();
    assert!(bundle().status.success());
    let top = Command::new(THALWEG).args(["top", "--once", "--url", &daemon.url]).output().unwrap();
    assert!(!top.status.success() && text(&top).contains("cannot be asked"), "{}", text(&top));
}

#[test]
fn a_program_reads_pushes_and_listens_in_its_own_types() {
    let dir = tempfile::tempdir().unwrap();
    let (daemon, _) = start(&write(dir.path(), PIPELINE), dir.path());
    let asked = Client::new(&daemon.url, None).unwrap();
    let orders: Vec<Order> = (0..100).map(|i| order(i, ["a/b", "c d", "ä"][i as usize % 3], i as f64)).collect();
    let pushed = asked.push("orders", &orders, Some("all-of-them")).unwrap();
    assert_eq!((pushed.records, pushed.repeated), (100, false));
    assert!(asked.push("orders", &orders, Some("all-of-them")).unwrap().repeated);

    let at = At::NotBefore(pushed.epoch);
    assert_eq!(asked.row("by_zone", &["a/b"], at).unwrap(), Some(zone("a/b", 34, 1683.0)));
    assert_eq!(asked.row::<Zone>("by_zone", &["none"], at).unwrap(), None);
    let rows: Result<Vec<Zone>, Error> = asked.rows("by_zone", &Scan { at, ..Scan::default() }).collect();
    assert_eq!(rows.unwrap(), [zone("a/b", 34, 1683.0), zone("c d", 33, 1617.0), zone("ä", 33, 1650.0)]);
    let filter = Some("open < 34 and fares > 1620".to_owned());
    let rows: Result<Vec<Zone>, Error> = asked.rows("by_zone", &Scan { at, filter, ..Scan::default() }).collect();
    assert_eq!(rows.unwrap(), [zone("ä", 33, 1650.0)]);
    let prefix = vec!["c d".to_owned()];
    assert_eq!(asked.rows::<Zone>("by_zone", &Scan { at, prefix, ..Scan::default() }).count(), 1);

    let answer = asked.sql::<Zone>("SELECT * FROM by_zone WHERE open = $1", &[34.into()], at).unwrap();
    assert_eq!(answer.rows, [zone("a/b", 34, 1683.0)]);
    assert!(answer.epoch >= pushed.epoch);
    assert!(asked.views().unwrap().views.iter().any(|v| v.name == "by_zone" && v.rows == 3 && v.kind == "view"));

    // The rows there are, then what changes: a row that goes, too.
    let mut changes = asked.changes::<Zone>("by_zone", From::Snapshot);
    let snapshot: Vec<_> = changes.by_ref().take(3).map(|c| c.unwrap().row.unwrap().open).collect();
    assert_eq!(snapshot, [34, 33, 33]);
    let gone: Vec<Order> = orders.iter().filter(|o| o.zone.as_deref() == Some("ä")).cloned().collect();
    let gone: Vec<Order> = gone.into_iter().map(|o| Order { done: true, ..o }).collect();
    let after = asked.push("orders", &gone, None).unwrap();
    let change = changes.next().unwrap().unwrap();
    assert_eq!((change.epoch, change.key, change.row), (after.epoch, serde_json::json!({"zone": "ä"}), None));
    // From an id on, by another stream.
    asked.push("orders", &[order(7, "new", 1.0)], None).unwrap();
    let next = asked.changes::<Zone>("by_zone", From::After(change.id)).next().unwrap().unwrap();
    assert_eq!(next.row.map(|row| row.zone), Some(Some("c d".to_owned())), "order 7 left its zone first");

    for (error, code) in [
        (asked.row::<Zone>("by_zon", &["x"], at).unwrap_err(), "no_such_view"),
        (asked.row::<Zone>("by_zone", &["x", "y"], at).unwrap_err(), "bad_key"),
        (asked.push("nobody", &orders, None).unwrap_err(), "no_such_source"),
        (asked.sql::<Zone>("SELEC", &[], at).unwrap_err(), "bad_sql"),
        (
            asked
                .rows::<Zone>("by_zone", &Scan { filter: Some("x".into()), ..Scan::default() })
                .next()
                .unwrap()
                .unwrap_err(),
            "bad_filter",
        ),
        (asked.changes::<Zone>("by_zon", From::Now).next().unwrap().unwrap_err(), "no_such_view"),
    ] {
        assert!(matches!(&error, Error::Refused { code: found, .. } if found == code), "{error}");
    }
    let other = asked.row::<Order2>("by_zone", &["a/b"], at).unwrap_err();
    assert!(matches!(other, Error::Unexpected { .. }), "{other}");
    let nobody = Client::new(&format!("127.0.0.1:{}", free_port()), None).unwrap().views().unwrap_err();
    assert!(nobody.is_passing() && nobody.to_string().contains("cannot be asked"), "{nobody}");
}

/// Not a row of that view.
#[derive(Debug, Deserialize)]
#[allow(dead_code, reason = "never made")]
struct Order2 {
    order: i64,
}
