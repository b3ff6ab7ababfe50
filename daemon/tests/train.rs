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
