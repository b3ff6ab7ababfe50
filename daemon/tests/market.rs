//! The market family as a whole: messages of several instruments, some of them wrong, become books, features, choices
//! and predictions that are the same bytes in epochs of any size, on any number of workers, and after any kill.

mod support;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};

use support::{Seeded, dump, run_command, run_to_end, text};

/// Every relation that is stored.
const VIEWS: [&str; 16] = [
    "book",
    "book.depth",
    "book.health",
    "features",
    "trusted",
    "trusted.scores",
    "trusted.changes",
    "trusted.regret",
    "trusted.drift",
    "direction",
    "direction.predictions",
    "direction.evaluation",
    "direction.network",
    "direction.slots",
    "direction.stability",
    "faults",
];

const PIPELINE: &str = r#"
name = "market"

[epoch]
rows_max = ROWS_MAX
interval_ms = 5

[store]
stage_rows = 400
apply_rows = 2000

[sources.feed]
type = "file"
path = "feed"
format = "csv"
event_time = "at"
timestamp_unit = "ms"
[sources.feed.columns]
at = "timestamp"
symbol = "string"
event = "string"
message = "int64"
first = "int64"
last = "int64"
side = "string"
price = "float64"
size = "float64"
trade = "int64"
maker = "bool"

[steps.book]
operator = "order_book"
keep_streams = false
input = "feed"
format = "l2"
instrument = ["symbol"]
kind = "event"
kinds = { snapshot = "snapshot", depth = "depth", trade = "trade", halt = "halt", resume = "resume" }
side = "side"
price = "price"
size = "size"
message = "message"
first_update = "first"
last_update = "last"
sequence = "contiguous"
trade_id = "trade"
trade_ids = "increasing"
buyer_is_maker = "maker"
levels = 3

[steps.features]
operator = "features"
keep_streams = false
input = "book.ticks"
instrument = ["symbol"]
features = [
  "relative_spread", "imbalance(1)", "imbalance(3)", "depth(bid, 2)", "ofi(1, 4)", "ofi(2, 9)", "ew_ofi(1, 100ms)",
  "return(1)", "return(5)", "volatility(6)", "range(200ms)", "since(trade)", "price_run", "trade_flow(3)",
]

[steps.trusted]
operator = "feature_selection"
input = "features.vectors"
instrument = ["symbol"]
horizon_events = 5
half_life_events = 300
warmup_events = 60
reselect_every_events = 50
features_max = 5
hysteresis = 1

[steps.direction]
operator = "online_model"
input = "features.vectors"
changes_input = "trusted.changes"
instrument = ["symbol"]
horizons = [3, 8]
slots = 6
window = 8
channels = 8
batch = 16
train_every = 16
prune_after = 3
prune_until = 12
prune_every = 2
"#;

/// Messages of three instruments from a seed; now and then one is lost, repeated, crossed or nonsense, and a snapshot
/// makes the book whole.
fn feed(seed: u64, messages: usize) -> Vec<String> {
    let mut random = Seeded::new(seed);
    let mut lines = Vec::new();
    let mut state = [(0i64, 100.0f64, 0i64); 3];
    let snapshot = |lines: &mut Vec<String>, at: u64, n: usize, symbol: usize, last: i64, mid: f64| {
        for i in 1..=6 {
            for (side, sign) in [("bid", -1.0), ("ask", 1.0)] {
                let price = mid + sign * (f64::from(i) - 0.5) * 0.5;
                let _ = writeln!(
                    lines.last_mut().expect("begun"),
                    "{at},S{symbol},snapshot,{n},,{last},{side},{price},{}.5,,",
                    i + 1
                );
            }
        }
    };
    for n in 0..messages {
        let at = 1_700_000_000_000 + n as u64 * 7 + random.below(5);
        let symbol = random.below(3) as usize;
        let (last, mid, trade) = &mut state[symbol];
        lines.push(String::new());
        let mut say = |text: String| {
            let line = lines.last_mut().expect("begun");
            let _ = writeln!(line, "{text}");
        };
        if *last == 0 || random.below(40) == 0 {
            *last = (*last).max(1);
            snapshot(&mut lines, at, n, symbol, *last, *mid);
            continue;
        }
        let drift = [-0.5, 0.0, 0.0, 0.0, 0.5][random.below(5) as usize];
        match random.below(120) {
            // Lost: the numbers go on, and nobody says what with.
            0 => *last += 1,
            1 => say(format!("{at},S{symbol},depth,{n},{last},{last},bid,{},1.5,,", *mid - 0.25)),
            2 => say(format!("{at},S{symbol},depth,{n},{},{},bid,{},NaN,,", *last + 1, *last + 1, *mid)),
            3 => say(format!("{at},S{symbol},depth,{n},{},{},bid,{},2.5,,", *last + 1, *last + 1, *mid + 2.25)),
            4 => say(format!("{at},S{symbol},depth,{n},x,1,bid,1,1,,")),
            5 => say(format!("{},S{symbol},trade,{n},,,,{},1.0,{},true", at - 60_000, *mid, *trade + 1)),
            6 => {
                say(format!("{at},S{symbol},halt,{n},,,,,,,"));
                say(format!("{},S{symbol},resume,{n},,,,,,,", at + 1));
            }
            7..30 => {
                *trade += 1;
                say(format!("{at},S{symbol},trade,{n},,,,{},{}.25,{trade},{}", *mid, random.below(4), drift < 0.0));
            }
            _ => {
                let first = *last + 1;
                *last += 1 + random.below(3) as i64;
                // What is left behind the mid goes, and some levels change.
                let moved = *mid + drift;
                for (side, sign) in [("bid", -1.0), ("ask", 1.0)] {
                    for i in 1..=3 {
                        let price = moved + sign * (f64::from(i) - 0.5) * 0.5;
                        let size = 1 + random.below(9);
                        say(format!("{at},S{symbol},depth,{n},{first},{last},{side},{price},{size}.5,,"));
                    }
                }
                if drift != 0.0 {
                    let (side, sign) = if drift > 0.0 { ("ask", 1.0) } else { ("bid", -1.0) };
                    let gone = *mid + sign * 0.25;
                    say(format!("{at},S{symbol},depth,{n},{first},{last},{side},{gone},0,,"));
                }
                *mid = moved;
            }
        }
    }
    lines.iter().flat_map(|message| message.lines().map(str::to_owned)).collect()
}

fn write(dir: &Path, lines: &[String], files: usize) {
    let folder = dir.join("feed");
    std::fs::create_dir_all(&folder).unwrap();
    for (n, part) in lines.chunks(lines.len().div_ceil(files)).enumerate() {
        let header = "at,symbol,event,message,first,last,side,price,size,trade,maker";
        std::fs::write(folder.join(format!("part-{n:03}.csv")), format!("{header}\n{}\n", part.join("\n"))).unwrap();
    }
}

fn pipeline(dir: &Path, rows_max: usize) -> PathBuf {
    let file = dir.join("pipeline.toml");
    std::fs::write(&file, PIPELINE.replace("ROWS_MAX", &rows_max.to_string())).unwrap();
    file
}

fn dumps(data: &Path) -> BTreeMap<&'static str, String> {
    VIEWS.into_iter().map(|view| (view, dump(data, view))).collect()
}

#[track_caller]
fn assert_same(got: &BTreeMap<&'static str, String>, expected: &BTreeMap<&'static str, String>, what: &str) {
    for (view, expected) in expected {
        let got = &got[view];
        let pair = got.lines().zip(expected.lines()).find(|(g, e)| g != e);
        assert!(got == expected, "{what}: `{view}` differs; first difference: {pair:?}");
    }
}

#[test]
fn books_choices_and_predictions_do_not_depend_on_epochs_or_workers() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), &feed(20_261_127, 3_000), 3);
    let mut expected = None;
    for (rows_max, widths) in [(10_000, &[1, 2, 4][..]), (300, &[2, 4]), (7, &[1, 2])] {
        for workers in widths {
            let file = pipeline(dir.path(), rows_max);
            let data = dir.path().join(format!("store-{rows_max}-{workers}"));
            run_to_end(&file, &data, *workers);
            let dumps = dumps(&data);
            let expected = expected.get_or_insert_with(|| dumps.clone());
            assert_same(&dumps, expected, &format!("epochs of {rows_max}, {workers} workers"));
        }
    }
    let expected = expected.unwrap();
    for (view, text) in &expected {
        assert!(!text.is_empty(), "`{view}` is empty: the test shows nothing");
    }
    assert_eq!(expected["book"].lines().count(), 3);
    for reason in ["gap", "duplicate", "bad_size", "crossed", "late", "bad_value"] {
        assert!(expected["faults"].contains(&format!("\"reason\":\"{reason}\"")), "nothing is refused as `{reason}`");
    }
}

#[test]
fn killed_anywhere_the_market_ends_with_the_same_bytes() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), &feed(7, 2_000), 2);
    let file = pipeline(dir.path(), 120);
    let base = dir.path().join("base");
    run_to_end(&file, &base, 1);
    let expected = dumps(&base);
    let mut random = Seeded::new(11);
    let (mut kills, mut life) = (0, 0);
    while kills < 60 {
        let data = dir.path().join(format!("life-{life}"));
        let mut width = 1 << random.below(3);
        loop {
            let point = ["seal", "compute", "commit", "committed", "publish", "stage_written"][(kills + life) % 6];
            let output = run_command(&file, &data, width)
                .env("THALWEG_CRASH", format!("{point}:{}", 1 + random.below(20)))
                .output()
                .unwrap();
            if output.status.signal() != Some(9) {
                assert!(output.status.success(), "{}", text(&output));
                break;
            }
            kills += 1;
            width = [2, 4, 1][random.below(3) as usize];
        }
        assert_same(&dumps(&data), &expected, &format!("life {life}, after {kills} kills"));
        life += 1;
    }
}
