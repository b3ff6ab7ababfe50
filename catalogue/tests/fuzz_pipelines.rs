//! Pipeline files broken at random, against everything a pipeline can name: whatever the text, there is a plan or a list of
//! mistakes with lines that exist, and no panic.
//!
//! The seed is printed; `THALWEG_SEED` gives it back. `scripts/fuzz` runs this with new seeds for as long as one likes.

use std::path::{Path, PathBuf};

use testkit::random::Random;

/// Every pipeline file that ships, and the example of every operator.
fn corpus() -> Vec<(String, String)> {
    let mut all: Vec<(String, String)> =
        catalogue::all().operators.iter().map(|o| (o.name.to_owned(), o.example.to_owned())).collect();
    let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples"), "tests/pipelines".into()];
    while let Some(folder) = folders.pop() {
        let Ok(entries) = std::fs::read_dir(&folder) else { continue };
        let mut paths: Vec<PathBuf> = entries.map(|e| e.unwrap().path()).collect();
        paths.sort();
        for path in paths {
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == "toml") && path.file_name() != Some("Cargo.toml".as_ref()) {
                all.push((path.display().to_string(), std::fs::read_to_string(&path).unwrap()));
            }
        }
    }
    all.push(("sinks".to_owned(), SINKS.to_owned()));
    all
}

/// What no example has.
const SINKS: &str = r#"
name = "sinks"
[sources.a]
type = "kafka"
brokers = ["127.0.0.1:1", "${HOST}:2"]
topics = "t"
format = "csv"
start = "offsets"
start_offsets = { "t/0" = "5" }
key_columns = ["k"]
timestamp_column = "at"
header_columns = { h = "x" }
key = "k"
tombstone = "gone"
librdkafka = { "client.id" = "x" }
columns = { k = "int64", at = "timestamp", h = "string", v = "float64", gone = "bool" }
[steps.n]
operator = "aggregate"
input = "a"
by = "h"
compute = { n = "count", s = "sum(v * 2 + abs(v))" }
[sinks.out]
type = "kafka"
brokers = "127.0.0.1:1"
topic = "o"
view = "n"
key_format = "json"
[sinks.files]
type = "file"
view = "faults"
path = "out"
format = "parquet"
roll_secs = 2.5
[[tests]]
name = "t"
given = { a = [{ k = 1, at = "2020-01-01", h = "x", v = 1.5 }] }
expect = { n = [{ h = "x", n = 1 }] }
"#;

/// Changes a text in a few places, by lines and by characters.
fn broken(text: &str, other: &str, random: &mut Random) -> String {
    const PIECES: &[&str] = &[
        "\"",
        "'",
        "[",
        "]",
        "{",
        "}",
        "=",
        ",",
        ".",
        "#",
        "\n",
        "\\u0000",
        "\u{feff}",
        "é",
        "-1",
        "0",
        "1e400",
        "nan",
        "true",
        "9223372036854775808",
        "\"\"\"",
        "${",
        "${HOST}",
        "$${",
        "[[steps]]",
        "[sources]",
        "input = \"faults\"",
        "count(",
        "select 1",
        "((((",
        "/ 0",
        "_seq",
        "\t",
    ];
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    let others: Vec<&str> = other.lines().collect();
    for _ in 0..1 + random.below(4) {
        if lines.is_empty() {
            break;
        }
        let at = random.below(lines.len());
        match random.below(8) {
            0 => drop(lines.remove(at)),
            1 => lines.insert(at, lines[random.below(lines.len())].clone()),
            2 => lines.insert(at, (*others.get(random.below(others.len())).unwrap_or(&"")).to_owned()),
            3 => {
                let to = random.below(lines.len());
                lines.swap(at, to);
            }
            kind => {
                let line = &mut lines[at];
                let cuts: Vec<usize> = line.char_indices().map(|(i, _)| i).chain([line.len()]).collect();
                let from = random.below(cuts.len());
                let to = (from + random.below(6)).min(cuts.len() - 1);
                let piece = if kind == 4 { "" } else { PIECES[random.below(PIECES.len())] };
                line.replace_range(cuts[from]..cuts[to], piece);
            }
        }
    }
    lines.join("\n")
}

#[test]
fn whatever_the_text_there_is_a_plan_or_a_list_of_mistakes() {
    let mut random = Random::seeded();
    let corpus = corpus();
    assert!(corpus.len() > 15, "the corpus is lost");
    let env = |name: &str| (name == "HOST").then(|| "localhost".to_owned());
    let catalogue = catalogue::all();
    let (mut plans, mut mistakes) = (0, 0);
    for turn in 0..4_000 {
        let (name, text) = &corpus[turn % corpus.len()];
        let text = broken(text, &corpus[random.below(corpus.len())].1, &mut random);
        // Lines end as a file's do.
        let count = text.lines().count();
        match engine::pipeline::load(Path::new("p.toml"), &text, &env, &catalogue) {
            Ok(plan) => {
                plans += 1;
                assert!(!plan.explain().is_empty() && !plan.mermaid().is_empty());
                assert_eq!(plan.fingerprint().len(), 32);
            }
            Err(problems) => {
                let mut all = problems.iter().peekable();
                assert!(all.peek().is_some(), "turn {turn}, {name}: refused without a reason:\n{text}");
                for problem in all {
                    assert!(
                        (1..=count + 1).contains(&problem.line) && !problem.message.is_empty(),
                        "turn {turn}, {name}: {problem} in {count} lines:\n{text}"
                    );
                }
                mistakes += 1;
            }
        }
    }
    assert!(plans > 80 && mistakes > 1_000, "{plans} plans, {mistakes} with mistakes");
}
