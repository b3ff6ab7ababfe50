//! `thalweg train value` from files to a running pipeline: what it learns, what it refuses, and that a kill changes nothing.

mod support;

use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use support::{Seeded, THALWEG, dump, run_command, text};

const COLUMNS: &[&str] = &[
    "--at",
    "at",
    "--state",
    "zone",
    "--next-state",
    "to",
    "--reward",
    "fare",
    "--duration",
    "secs",
    "--gamma",
    "0.9",
    "--slot-secs",
    "3600",
];

/// A history in which zone a is worth 6 at noon, with rows that are none; and a pipeline that draws to it at noon.
fn write_files(dir: &Path) -> PathBuf {
    let history = "at,zone,to,fare,secs\n2024-05-01T12:10:00Z,a,,5,60\n2024-05-02T12:50:00Z,a,,7,60\n\
                   2024-05-02T11:00:00Z,b,a,1,3600\nyesterday,a,,7,60\n2024-05-02T12:50:00Z,,,7,60\n\
                   2024-05-02T12:50:00Z,a,,much,60\n2024-05-02T12:50:00Z,a,,7,-1\n";
    std::fs::write(dir.join("history.csv"), history).unwrap();
    let trips = "at,zone,to,fare,secs\n2024-06-01T11:00:00Z,b,,4,60\n2024-06-01T12:30:00Z,a,,16,60\n";
    std::fs::write(dir.join("trips.csv"), trips).unwrap();
    let pipeline = format!(
        "name = \"p\"\n[sources.trips]\ntype = \"file\"\npath = {:?}\nformat = \"csv\"\nevent_time = \"at\"\n\
         columns = {{ at = \"timestamp\", zone = \"string\", to = \"string\", fare = \"float64\", secs = \"float64\" }}\n\
         [steps.worth]\noperator = \"td_value\"\ninput = \"trips\"\nstate = \"zone\"\nnext_state = \"to\"\nreward = \"fare\"\n\
         duration = \"secs\"\nduration_unit_secs = 600.0\nalpha = 0.5\ngamma = 0.9\noffline = {:?}\n\
         change_points = [{{ times = \"12:00\", keep = 0.0, to = \"offline\" }}]\n",
        dir.join("trips.csv").display().to_string(),
        dir.join("values").display().to_string(),
    );
    let file = dir.join("p.toml");
    std::fs::write(&file, pipeline).unwrap();
    file
}

fn train(dir: &Path, input: &str, more: &[&str], crash: &str) -> Output {
    let mut command = Command::new(THALWEG);
    command.args(["train", "value"]).arg(dir.join(input)).arg("--out").arg(dir.join("values")).args(COLUMNS).args(more);
    if !crash.is_empty() {
        command.env("THALWEG_CRASH", crash);
    }
    command.output().unwrap()
}

#[test]
fn a_pipeline_loads_what_was_trained() {
    let dir = tempfile::tempdir().unwrap();
    let file = write_files(dir.path());
    let trained = train(dir.path(), "history.csv", &[], "");
    let told = text(&trained);
    assert!(trained.status.success(), "{told}");
    for part in ["24 slots of 2 cells from 3 transitions, 4 refused", "bad_time 1", "null_state 1", "bad_reward 1"] {
        assert!(told.contains(part), "{part} is not in\n{told}");
    }
    let data = dir.path().join("data");
    let ran = run_command(&file, &data, 2).output().unwrap();
    assert!(ran.status.success(), "{}", text(&ran));
    // At noon a is worth 6, b stays as it is; then 16 are earned in a.
    let values = dump(&data, "worth");
    assert!(values.contains("\"zone\":\"a\",\"value\":11.0"), "{values}");
    assert!(values.contains("\"zone\":\"b\",\"value\":2.0"), "{values}");

    let whole = std::fs::read(dir.path().join("values")).unwrap();
    let refused = |bytes: Option<&[u8]>, reason: &str| {
        let values = dir.path().join("values");
        bytes.map_or_else(|| std::fs::remove_file(&values), |bytes| std::fs::write(&values, bytes)).unwrap();
        let ran = run_command(&file, &dir.path().join("other"), 1).output().unwrap();
        let told = text(&ran);
        assert!(!ran.status.success() && told.contains(reason) && told.contains("p.toml:"), "not `{reason}`:\n{told}");
    };
    refused(Some(&whole[..whole.len() - 1]), "the offline value function is damaged");
    let mut flipped = whole.clone();
    flipped[60] ^= 1;
    refused(Some(&flipped), "the offline value function is damaged");
    refused(Some(b"values"), "it is no offline value function");
    let mut newer = whole.clone();
    newer[8] += 1;
    refused(Some(&newer), "has version 3, and this is version 2");
    assert!(train(dir.path(), "history.csv", &["--unit-secs", "60"], "").status.success());
    refused(Some(&std::fs::read(dir.path().join("values")).unwrap()), "gamma 0.9 a 60 s; this step has");
    refused(None, "cannot be read");
}

#[test]
fn what_cannot_be_trained_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    write_files(dir.path());
    let refused = |input: &str, more: &[&str], reason: &str| {
        let output = train(dir.path(), input, more, "");
        let told = text(&output);
        assert!(!output.status.success() && told.contains(reason), "not `{reason}`:\n{told}");
        assert!(!dir.path().join("values").exists());
    };
    refused("nothing.csv", &[], "nothing.csv");
    refused("trips.csv", &["--place", "area"], "has no column `area`");
    refused("history.csv", &["--utc-offset", "8"], "--utc-offset");
    refused("history.csv", &["--network", "--network-tiles", "1"], "--place");
    refused("history.csv", &["--network", "--steps", "0"], "--steps");
    refused("history.csv", &["--network-tiles", "1"], "--network");
    for option in ["--steps", "--lipschitz", "--seed", "--checkpoint-steps"] {
        refused("history.csv", &[option, "1"], "--network");
    }
}

/// A pipeline that counts waiting double, and a step whose value function is still to be made.
const COUNTING: &str = "name = \"p\"\n[sources.told]\ntype = \"http\"\nevent_time = \"at\"\n\
     columns = { at = \"timestamp\", kind = \"string\", zone = \"int64\", to = \"int64\", fare = \"float64\", secs = \"float64\" }\n\
     [steps.trips]\noperator = \"select\"\ninput = \"told\"\nfilter = \"kind = 'trip'\"\nkeep_streams = false\n\
     [steps.trips.columns]\nat = \"at\"\nzone = \"zone\"\nto = \"to\"\nfare = \"fare\"\nsecs = \"secs\"\n\
     counted = \"CASE WHEN fare > 0 THEN secs ELSE 2 * secs END\"\n\
     [steps.worth]\noperator = \"td_value\"\ninput = \"trips\"\nstate = \"zone\"\nnext_state = \"to\"\nreward = \"fare\"\n\
     duration = \"counted\"\nduration_unit_secs = 600.0\nalpha = 0.5\ngamma = 0.9\noffline = \"OFFLINE\"\nutc_offset = \"+01:00\"\n\
     change_points = [{ times = \"12:00\", keep = 0.0, to = \"offline\" }]\n\
     [steps.others]\noperator = \"aggregate\"\ninput = \"told\"\nby = \"kind\"\ncompute = { n = \"count()\" }\n";

/// The value function is of the step's cells, discount and local time, learned from what its pipeline makes of a history.
#[test]
fn a_value_function_is_counted_as_the_pipeline_counts() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("values");
    let file = dir.path().join("p.toml");
    std::fs::write(&file, COUNTING.replace("OFFLINE", &out.display().to_string())).unwrap();
    let mut told = String::new();
    for (at, kind, rest) in [
        ("10:00", "trip", "\"zone\":1,\"to\":2,\"fare\":0,\"secs\":600"),
        ("10:30", "trip", "\"zone\":2,\"fare\":10,\"secs\":600"),
        ("10:30", "rumour", "\"zone\":2,\"fare\":1000,\"secs\":600"),
        ("10:40", "trip", "\"zone\":2,\"fare\":1,\"secs\":-1"),
        ("10:40", "trip", "\"zone\":\"nowhere\",\"fare\":1,\"secs\":1"),
    ] {
        told += &format!("{{\"at\":\"2024-05-01T{at}:00Z\",\"kind\":\"{kind}\",{rest}}}\n");
    }
    std::fs::write(dir.path().join("told.ndjson"), told).unwrap();
    let history = dir.path().join("told.ndjson");
    let train = |more: &[&str]| {
        let mut command = Command::new(THALWEG);
        command.args(["train", "value", "--pipeline"]).arg(&file).arg("--out").arg(&out).args(more);
        command.output().unwrap()
    };
    let named = format!("told={}", history.display());
    let whole = ["--step", "worth", "--history", &named, "--slot-secs", "1800"];
    let trained = train(&whole);
    let said = text(&trained);
    assert!(trained.status.success(), "{said}");
    for part in ["48 slots of 2 cells from 2 transitions, 2 refused", "bad_duration 1", "fault 1"] {
        assert!(said.contains(part), "{part} is not in\n{said}");
    }
    let bytes = std::fs::read(&out).unwrap();
    let artefact = operators::td_value::artefact::Artefact::parse(&bytes).unwrap();
    let value = |minute: i64, name: &str| artefact.value(minute * 60_000_000, artefact.cell(name).unwrap());
    // Local time is an hour later. Twice 600 s of waiting count as two units, and end in the slot they began in: there zone
    // 2 is unknown.
    assert_eq!((value(11 * 60, "1"), value(11 * 60 + 30, "2"), value(11 * 60, "2")), (Some(0.0), Some(10.0), None));
    // Its waiting takes half an hour, by another column, as the trip's 600 s do.
    let elapsed = COUNTING.replace("OFFLINE", &out.display().to_string());
    std::fs::write(&file, elapsed.replace("secs = \"secs\"\ncounted", "secs = \"3 * secs\"\ncounted")).unwrap();
    let trained = train(&[&whole[..], &["--elapsed", "secs"]].concat());
    assert!(trained.status.success(), "{}", text(&trained));
    let artefact = operators::td_value::artefact::Artefact::parse(&std::fs::read(&out).unwrap()).unwrap();
    let value = artefact.value(11 * 60 * 60_000_000, artefact.cell("1").unwrap()).unwrap();
    assert!((value - 10.0 * 0.9f64.powi(2)).abs() < 1e-12, "{value}");
    // It fits the step it is for, and the same command gives the same bytes.
    let checked = Command::new(THALWEG).arg("check").arg(&file).output().unwrap();
    assert!(checked.status.success(), "{}", text(&checked));
    let first = std::fs::read(&out).unwrap();
    assert!(train(&[&whole[..], &["--elapsed", "secs"]].concat()).status.success());
    assert_eq!(std::fs::read(&out).unwrap(), first);

    let refused = |more: &[&str], reason: &str| {
        let output = train(more);
        let said = text(&output);
        assert!(!output.status.success() && said.contains(reason), "not `{reason}`:\n{said}");
        assert_eq!(std::fs::read(&out).unwrap(), first, "what was there stays");
    };
    let history = history.display().to_string();
    refused(&["--history", &history], "--step");
    refused(&["--step", "worth"], "--history");
    refused(&["--step", "others", "--history", &history], "`others` is no step of `td_value`; there is `worth`");
    refused(&["--step", "worth", "--history", "other=x.csv"], "`other` is no source of `worth`, which has `told`");
    refused(&["--step", "worth", "--history", "nothing.csv"], "nothing.csv");
    refused(&["--step", "worth", "--history", "history.txt"], "tells no format");
    refused(&["--step", "worth", "--history", &history, "--elapsed", "kind"], "has no column `kind`");
    refused(&["--step", "worth", "--history", &history, "--gamma", "0.5"], "cannot be used with");
    refused(&["--step", "worth", "--history", &history, "more.csv"], "cannot be used with");
}

/// Killed before and after a checkpoint counts, in the first and in a later life, and before the checkpoint is removed.
#[test]
fn a_network_killed_at_any_moment_ends_with_the_same_bytes() {
    let base = tempfile::tempdir().unwrap();
    write_history(base.path(), 3);
    let whole = train(base.path(), "history.csv", NETWORK, "");
    assert!(whole.status.success() && text(&whole).contains("12 cells from 600 transitions"), "{}", text(&whole));
    let expected = std::fs::read(base.path().join("values")).unwrap();

    let dir = tempfile::tempdir().unwrap();
    write_history(dir.path(), 3);
    let crashes =
        ["checkpoint_written:1", "checkpoint_written:2", "checkpoint:2", "checkpoint_written:1", "artefact:1"];
    for crash in crashes {
        let killed = train(dir.path(), "history.csv", NETWORK, crash);
        assert_eq!(killed.status.signal(), Some(9), "{crash}: {}", text(&killed));
        assert_eq!(dir.path().join("values").exists(), crash == "artefact:1", "{crash}");
    }
    let checkpoint = dir.path().join("values.checkpoint");
    let good = std::fs::read(&checkpoint).unwrap();
    let refused = |more: &[&str], reason: &str| {
        let output = train(dir.path(), "history.csv", &[NETWORK, more].concat(), "");
        assert!(!output.status.success() && text(&output).contains(reason), "not `{reason}`: {}", text(&output));
    };
    refused(&["--seed", "2"], "other options; remove it");
    std::fs::write(&checkpoint, &good[..good.len() / 2]).unwrap();
    refused(&[], "is damaged; remove it");
    std::fs::write(&checkpoint, &good).unwrap();
    let ended = train(dir.path(), "history.csv", NETWORK, "");
    assert!(ended.status.success() && text(&ended).contains("going on from step 350 of 350"), "{}", text(&ended));
    assert!(std::fs::read(dir.path().join("values")).unwrap() == expected, "other bytes");
    let left: Vec<_> = std::fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(left.len(), 2, "{left:?}");
}

const NETWORK: &[&str] = &[
    "--network",
    "--network-tiles",
    "1,3",
    "--place",
    "x,y",
    "--next-place",
    "to_x,to_y",
    "--steps",
    "350",
    "--checkpoint-steps",
    "100",
];

fn write_history(dir: &Path, seed: u64) {
    let mut random = Seeded::new(seed);
    let mut rows = "at,zone,to,fare,secs,x,y,to_x,to_y\n".to_owned();
    for _ in 0..600 {
        let (from, to, hour) = (random.below(12), random.below(12), random.below(24));
        let (fare, secs) = (random.below(100), 60 * random.below(60));
        rows += &format!(
            "2024-05-01T{hour:02}:00:00Z,{from},{to},{fare},{secs},{},{},{},{}\n",
            from % 4,
            from / 4,
            to % 4,
            to / 4
        );
    }
    std::fs::write(dir.join("history.csv"), rows).unwrap();
}
