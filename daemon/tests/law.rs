//! The law of the house: final views depend on the recorded input alone, not on epoch sizes, the number of workers or
//! the way the input is split into files.

mod support;

use support::{assert_same, dumps, input, pipeline, run_to_end, write_input};

#[test]
fn final_views_do_not_depend_on_epochs_workers_or_files() {
    let input = input(20_261_123, 1_200);
    let mut expected = None;
    for files in [1, 3] {
        let dir = tempfile::tempdir().unwrap();
        write_input(dir.path(), &input, files);
        for rows_max in [10_000, 100, 1] {
            for workers in [1, 2, 4] {
                let file = pipeline(dir.path(), rows_max, "");
                let data = dir.path().join(format!("store-{rows_max}-{workers}"));
                run_to_end(&file, &data, workers);
                let mut dumps = dumps(&data);
                // A fault says in which file it stands: that is no result but where the record is.
                let faults = strip_provenance(&dumps["faults"]);
                dumps.insert("faults", faults);
                let expected = expected.get_or_insert_with(|| dumps.clone());
                assert_same(&dumps, expected, &format!("epochs of {rows_max}, {workers} workers, {files} files"));
            }
        }
    }
    let expected = expected.unwrap();
    for (view, text) in &expected {
        assert!(!text.is_empty(), "`{view}` is empty: the test shows nothing");
    }
    assert!(expected["faults"].contains("\"reason\":\"late\""));
}

#[test]
fn a_run_over_a_finished_store_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    write_input(dir.path(), &input(7, 300), 2);
    let file = pipeline(dir.path(), 50, "");
    let data = dir.path().join("store");
    run_to_end(&file, &data, 2);
    let before = dumps(&data);
    run_to_end(&file, &data, 3);
    assert_same(&dumps(&data), &before, "a second run");
}

fn strip_provenance(faults: &str) -> String {
    let strip = |line: &str| {
        let from = line.find("\"provenance\":").expect("every fault has one");
        let to = line[from..].find("\",\"raw\"").expect("raw comes next") + from;
        format!("{}{}\n", &line[..from], &line[to + 2..])
    };
    faults.lines().map(strip).collect()
}
