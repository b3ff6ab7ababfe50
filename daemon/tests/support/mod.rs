//! What the tests of the whole program share: seeded input files, a pipeline with every operator, runs of the binary.

#![allow(dead_code, reason = "each test file uses its part")]
#![allow(clippy::disallowed_methods, reason = "tests wait by the clock")]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::File;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// The program under test.
pub const THALWEG: &str = env!("CARGO_BIN_EXE_thalweg");

/// Every view of [`pipeline`], and the tables and faults.
pub const VIEWS: &[&str] = &[
    "drivers",
    "orders",
    "open_orders",
    "by_zone",
    "trip_stats",
    "order_drivers",
    "orders_with_zone",
    "best_orders",
    "zone_match",
    "zone_match.prices",
    "zone_match.certificate",
    "near_match",
    "near_match.prices",
    "near_match.certificate",
    "values",
    "clean_trips",
    "faults",
];

/// A generator of test input: a fixed sequence from a seed.
pub struct Seeded(u64);

impl Seeded {
    /// The sequence of a seed.
    pub fn new(seed: u64) -> Seeded {
        Seeded(seed)
    }

    /// The next number (splitmix64).
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `n`.
    pub fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }
}

/// The header and the lines of the three input files, with bad and late rows among them.
pub type Input = BTreeMap<&'static str, (&'static str, Vec<String>)>;

/// Input from a seed.
pub fn input(seed: u64, rows: usize) -> Input {
    let mut rng = Seeded::new(seed);
    let mut drivers = Vec::new();
    let mut orders = Vec::new();
    let mut trips = Vec::new();
    for i in 0..rows as u64 {
        let (lat, lon) = (30.0 + rng.below(4000) as f64 / 1e5, 104.0 + rng.below(4000) as f64 / 1e5);
        let gone = rng.below(12) == 0;
        drivers.push(format!("{},z{},{lat:.5},{lon:.5},{}.5,{gone}", rng.below(60), rng.below(5), rng.below(9)));
        let (lat, lon) = (30.0 + rng.below(4000) as f64 / 1e5, 104.0 + rng.below(4000) as f64 / 1e5);
        let served = rng.below(3) == 0;
        orders.push(format!(
            "{},z{},{lat:.5},{lon:.5},{}.{:02},{served}",
            rng.below(80),
            rng.below(5),
            rng.below(40),
            rng.below(100)
        ));
        let jitter = rng.below(4_000);
        let late = if rng.below(50) == 0 { 60_000 } else { 0 };
        let ms = 1_480_000_000_000 + i * 500 + 5_000 - jitter - late;
        let reward =
            if rng.below(200) == 0 { "NaN".to_owned() } else { format!("{}.{:03}", rng.below(20), rng.below(1000)) };
        trips.push(format!("{ms},c{},c{},{reward},{}", rng.below(30), rng.below(30), 60 + rng.below(2000)));
        match rng.below(60) {
            0 => drivers.push("not a number,z,1,2,3,false".to_owned()),
            1 => orders.push("7,too,few".to_owned()),
            2 => trips.push("yesterday,c1,c2,1.0,60".to_owned()),
            _ => {}
        }
    }
    BTreeMap::from([
        ("drivers", ("driver_id,zone,lat,lon,rating,gone", drivers)),
        ("orders", ("order_id,zone,lat,lon,fare,served", orders)),
        ("trips", ("at,from_cell,to_cell,reward,duration_s", trips)),
    ])
}

/// Writes the input files of [`input`] into `dir`, each source's lines split over `files` files.
pub fn write_input(dir: &Path, input: &Input, files: usize) {
    for (name, (header, lines)) in input {
        let folder = dir.join(name);
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(&folder).unwrap();
        for (n, part) in lines.chunks(lines.len().div_ceil(files)).enumerate() {
            let mut text = format!("{header}\n");
            for line in part {
                let _ = writeln!(text, "{line}");
            }
            std::fs::write(folder.join(format!("part-{n:03}.csv")), text).unwrap();
        }
    }
}

/// A pipeline with every operator over the files of [`write_input`]; `extra` is further TOML after `[epoch]`.
pub fn pipeline(dir: &Path, rows_max: usize, extra: &str) -> PathBuf {
    let text = PIPELINE.replace("ROWS_MAX", &rows_max.to_string()).replace("#EXTRA", extra);
    let file = dir.join("pipeline.toml");
    std::fs::write(&file, text).unwrap();
    file
}

const PIPELINE: &str = r#"
name = "everything"

[epoch]
rows_max = ROWS_MAX
interval_ms = 5
#EXTRA

[sources.drivers]
type = "file"
path = "drivers"
format = "csv"
key = "driver_id"
tombstone = "gone"
[sources.drivers.columns]
driver_id = "int64"
zone = "string"
lat = "float64"
lon = "float64"
rating = "float64"
gone = "bool"

[sources.orders]
type = "file"
path = "orders"
format = "csv"
key = "order_id"
tombstone = "served"
[sources.orders.columns]
order_id = "int64"
zone = "string"
lat = "float64"
lon = "float64"
fare = "float64"
served = "bool"

[sources.trips]
type = "file"
path = "trips"
format = "csv"
event_time = "at"
out_of_orderness_secs = 4.0
timestamp_unit = "ms"
[sources.trips.columns]
at = "timestamp"
from_cell = "string"
to_cell = "string"
reward = "float64"
duration_s = "int64"

[steps.open_orders]
operator = "select"
input = "orders"
filter = "fare > 2"
[steps.open_orders.columns]
order_id = "order_id"
zone = "zone"
lat = "lat"
lon = "lon"
fare = "fare"
fare_with_tax = "fare * 1.07"

[steps.by_zone]
operator = "aggregate"
input = "open_orders"
by = "zone"
[steps.by_zone.compute]
orders = "count"
total = "sum(fare_with_tax)"
least = "min(fare)"
most = "max(fare)"
mean = "avg(fare)"
id_sum = "sum(order_id)"

[steps.clean_trips]
operator = "select"
input = "trips"
filter = "duration_s < 1900"

[steps.trip_stats]
operator = "aggregate"
input = "clean_trips"
by = "from_cell"
[steps.trip_stats.compute]
trips = "count"
reward = "sum(reward)"
longest = "max(duration_s)"

[steps.order_drivers]
operator = "join"
left = "open_orders"
right = "drivers"
on = "zone"

[steps.orders_with_zone]
operator = "join"
left = "open_orders"
right = "by_zone"
on = "zone"
kind = "left"

[steps.best_orders]
operator = "top"
input = "open_orders"
by = "zone"
order = ["fare desc"]
k = 3

[steps.zone_match]
operator = "assignment"
tasks = "open_orders"
workers = "drivers"
candidates = "group"
task_group = "zone"
worker_group = "zone"
weight = "task_fare + worker_rating"

[steps.near_match]
operator = "assignment"
tasks = "open_orders"
workers = "drivers"
candidates = "spatial"
task_lat = "lat"
task_lon = "lon"
worker_lat = "lat"
worker_lon = "lon"
radius_m = 1500
nearest = 4
weight = "task_fare - distance_m / 1000"

[steps.values]
operator = "td_value"
input = "clean_trips"
state = "from_cell"
next_state = "to_cell"
reward = "reward"
duration = "duration_s"
duration_unit_secs = 600
alpha = 0.025
gamma = 0.9
"#;

/// A `thalweg run` over a pipeline file, without API, that ends with its input.
pub fn run_command(file: &Path, data: &Path, workers: usize) -> Command {
    let mut command = Command::new(THALWEG);
    command
        .arg("run")
        .arg(file)
        .arg("--data")
        .arg(data)
        .args(["--workers", &workers.to_string(), "--exit-at-end", "--listen", "none"])
        .env("THALWEG_LOG", "warn")
        .stdin(Stdio::null());
    command
}

/// Runs to the end, which must be a success.
pub fn run_to_end(file: &Path, data: &Path, workers: usize) {
    let output = run_command(file, data, workers).output().unwrap();
    assert!(output.status.success(), "{}", text(&output));
}

/// What a process printed.
pub fn text(output: &Output) -> String {
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    format!("{:?}\n{out}\n{err}", output.status)
}

/// The dump of a view of a stopped store.
pub fn dump(data: &Path, view: &str) -> String {
    let output = Command::new(THALWEG).args(["dump", "--view", view, "--data"]).arg(data).output().unwrap();
    assert!(output.status.success(), "dump of {view}: {}", text(&output));
    String::from_utf8(output.stdout).unwrap()
}

/// The dumps of every view.
pub fn dumps(data: &Path) -> BTreeMap<&'static str, String> {
    VIEWS.iter().map(|view| (*view, dump(data, view))).collect()
}

/// Compares dumps view by view, showing the first line that differs.
pub fn assert_same(got: &BTreeMap<&'static str, String>, expected: &BTreeMap<&'static str, String>, what: &str) {
    for (view, expected) in expected {
        let got = &got[view];
        if got == expected {
            continue;
        }
        let pair = got.lines().zip(expected.lines()).find(|(g, e)| g != e);
        let (lines, wanted) = (got.lines().count(), expected.lines().count());
        panic!("{what}: `{view}` differs: {lines} lines, expected {wanted}; first difference: {pair:?}");
    }
}

/// Waits for a minute, at most, until something is so.
#[track_caller]
pub fn until(what: &str, mut is: impl FnMut() -> bool) {
    let started = Instant::now();
    while !is() {
        assert!(started.elapsed() < Duration::from_secs(60), "it never is so that {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// A `thalweg run` that serves its API at a port, with words before the program.
fn serve_command(
    words: &[&str],
    file: &Path,
    data: &Path,
    workers: usize,
    envs: &[(&str, &str)],
    port: u16,
) -> Command {
    let words = [words, &[THALWEG]].concat();
    let mut command = Command::new(words[0]);
    command
        .args(&words[1..])
        .arg("run")
        .arg(file)
        .arg("--data")
        .arg(data)
        .args(["--workers", &workers.to_string(), "--listen", &format!("127.0.0.1:{port}")])
        .env("THALWEG_LOG", "warn")
        .envs(envs.iter().copied())
        .stdin(Stdio::null());
    command
}

/// A daemon with its API on a free port, killed when dropped.
pub struct Daemon {
    /// The process.
    pub child: Child,
    /// `http://127.0.0.1:PORT`.
    pub url: String,
}

impl Daemon {
    /// Starts one and waits until it answers, or is dead.
    pub fn start(file: &Path, data: &Path, workers: usize, envs: &[(&str, &str)]) -> Daemon {
        Daemon::start_at(file, data, workers, envs, free_port())
    }

    /// The same on a given port.
    pub fn start_at(file: &Path, data: &Path, workers: usize, envs: &[(&str, &str)], port: u16) -> Daemon {
        Daemon::start_behind(&[], file, data, workers, envs, port)
    }

    /// The same with words before the program.
    pub fn start_behind(
        words: &[&str],
        file: &Path,
        data: &Path,
        workers: usize,
        envs: &[(&str, &str)],
        port: u16,
    ) -> Daemon {
        let mut daemon = Daemon::of(&mut serve_command(words, file, data, workers, envs, port), port);
        for _ in 0..1000 {
            if get(&format!("{}/healthz/live", daemon.url)).is_ok() || !daemon.is_alive() {
                return daemon;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("the daemon does not answer at {}", daemon.url);
    }

    /// Starts one that may be dead before it answers, and does not wait for that.
    pub fn spawn(file: &Path, data: &Path, workers: usize, envs: &[(&str, &str)]) -> Daemon {
        let port = free_port();
        Daemon::of(&mut serve_command(&[], file, data, workers, envs, port), port)
    }

    /// Starts one whose log goes to a file, and waits until it answers.
    pub fn start_logged(file: &Path, data: &Path, workers: usize, envs: &[(&str, &str)], log: &Path) -> Daemon {
        let port = free_port();
        let mut command = serve_command(&[], file, data, workers, envs, port);
        let daemon = Daemon::of(command.stderr(File::create(log).unwrap()), port);
        until("it answers", || get(&format!("{}/healthz/live", daemon.url)).is_ok());
        daemon
    }

    fn of(command: &mut Command, port: u16) -> Daemon {
        Daemon { child: command.spawn().unwrap(), url: format!("http://127.0.0.1:{port}") }
    }

    /// Whether the process runs.
    pub fn is_alive(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Waits until it takes records.
    pub fn ready(&self) {
        self.ready_for(None);
    }

    /// The same, asked with a token.
    pub fn ready_for(&self, token: Option<&str>) {
        for _ in 0..1000 {
            if get_with(&format!("{}/healthz/ready", self.url), token).is_ok_and(|(status, _)| status == 200) {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("the daemon is not ready");
    }

    /// Kills it with SIGKILL.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A port nobody listens on.
pub fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// A GET: status and body.
pub fn get(url: &str) -> Result<(u16, String), String> {
    get_with(url, None)
}

/// The same with a token.
pub fn get_with(url: &str, token: Option<&str>) -> Result<(u16, String), String> {
    let request = agent().get(url);
    let request = match token {
        Some(token) => request.header("Authorization", format!("Bearer {token}")),
        None => request,
    };
    answer(request.call())
}

/// A POST of a body with headers: status and body.
pub fn post(url: &str, content_type: &str, key: Option<&str>, body: &[u8]) -> Result<(u16, String), String> {
    let mut request = agent().post(url).header("Content-Type", content_type);
    if let Some(key) = key {
        request = request.header("Idempotency-Key", key);
    }
    answer(request.send(body))
}

fn agent() -> ureq::Agent {
    ureq::Agent::config_builder()
        .http_status_as_error(false)
        .timeout_global(Some(Duration::from_secs(20)))
        .build()
        .into()
}

fn answer(result: Result<ureq::http::Response<ureq::Body>, ureq::Error>) -> Result<(u16, String), String> {
    let mut response = result.map_err(|e| e.to_string())?;
    let body = response.body_mut().with_config().limit(1 << 30).read_to_string().map_err(|e| e.to_string())?;
    Ok((response.status().as_u16(), body))
}

/// The words before a command that have permission bits bind it. They do not bind root, except in a user namespace
/// that does not know the files' owner. `None`, with a printed reason, where that cannot be had.
pub fn bound_by_permissions(dir: &Path) -> Option<Vec<&'static str>> {
    let file = dir.join("unreadable");
    std::fs::write(&file, "x").unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0)).unwrap();
    let script = format!("! cat '{}'", file.display());
    let found = [vec!["env"], vec!["unshare", "-U"]].into_iter().find(|way| succeeds(way, &script));
    if found.is_none() {
        eprintln!("skipped: permission bits bind nobody here");
    }
    found
}

/// The words before a command that let it mount what nobody else sees; `None`, with a printed reason, where nobody may.
pub fn may_mount(dir: &Path) -> Option<Vec<&'static str>> {
    let script = format!("mount -t tmpfs -o size=1m tmpfs '{}'", dir.display());
    let ways = [vec!["unshare", "-m"], vec!["unshare", "-Urm"]];
    let found = ways.into_iter().find(|way| succeeds(way, &script));
    if found.is_none() {
        eprintln!("skipped: nothing can be mounted here, not even in a namespace");
    }
    found
}

/// Whether a script succeeds behind these words.
fn succeeds(words: &[&str], script: &str) -> bool {
    let mut command = Command::new(words[0]);
    command.args(&words[1..]).args(["sh", "-c", script]);
    let silent = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    silent.status().is_ok_and(|s| s.success())
}
