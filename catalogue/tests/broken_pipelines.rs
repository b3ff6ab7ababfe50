//! Pipeline files broken at random: each is a plan, or every mistake in it with its line; nothing panics.
//!
//! The seed is printed; `THALWEG_SEED` gives it back.

use std::path::Path;

use engine::pipeline::load;

/// A fixed sequence from a seed (splitmix64).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: usize) -> usize {
        (self.next() % n.max(1) as u64) as usize
    }
}

/// What a hand, a merge or an attacker may put into a file.
const PIECES: &[&str] = &[
    "\"",
    "'",
    "'''",
    "[",
    "]]",
    "{",
    "}",
    "=",
    ".",
    ",",
    "#",
    "\n",
    "\r\n",
    "\\",
    "\\u0000",
    "\u{0}",
    "\u{feff}",
    "é",
    "${",
    "${X}",
    "${THE_KEY",
    "$",
    "-",
    "1e400",
    "nan",
    "-inf",
    "9223372036854775808",
    "0x",
    "1979-05-27",
    "true",
    "\"\"",
    "[]",
    "{}",
    "[sources]",
    "[steps]\n",
    "[[tests]]\n",
    "[sources.é]\n",
    "name = 1\n",
    "key = [\"\"]\n",
    "(((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((",
    "NOT NOT NOT - - - CASE WHEN",
    "a + b * (c",
    "int64",
    "float64",
    "string",
    "count",
    "sum(",
];

/// Breaks a text in a few places: by characters, by words, by lines.
fn broken(text: &str, other: &str, random: &mut Random) -> String {
    let mut out: Vec<char> = text.chars().collect();
    let places = random.below(4);
    for _ in 0..1 + random.below(1 + places) {
        let at = random.below(out.len() + 1);
        let end = (at + 1 + random.below(30)).min(out.len());
        match random.below(7) {
            0 if random.below(4) == 0 => out.truncate(at),
            1 => drop(out.drain(at..end)),
            2 => drop(out.splice(at..at, PIECES[random.below(PIECES.len())].chars())),
            3 => drop(out.splice(at..end, PIECES[random.below(PIECES.len())].chars())),
            4 => {
                let piece = out[at..end].to_vec();
                let to = random.below(out.len() + 1);
                out.splice(to..to, piece);
            }
            _ => {
                // A line of this file or of another, put somewhere or in another's place.
                let text: String = out.iter().collect();
                let mut lines: Vec<&str> = text.split('\n').collect();
                let from: Vec<&str> = if random.below(2) == 0 { lines.clone() } else { other.split('\n').collect() };
                let line = from[random.below(from.len())];
                let to = random.below(lines.len());
                match random.below(3) {
                    0 => drop(lines.remove(to)),
                    1 => lines.insert(to, line),
                    _ => lines[to] = line,
                }
                out = lines.join("\n").chars().collect();
            }
        }
    }
    out.into_iter().collect()
}

#[test]
fn a_broken_pipeline_is_a_plan_or_mistakes_with_their_lines() {
    #[allow(clippy::disallowed_methods)]
    let seed = std::env::var("THALWEG_SEED").ok().and_then(|s| s.parse().ok()).unwrap_or(20_261_126);
    println!("seed {seed} (set THALWEG_SEED to give it back)");
    let mut random = Random(seed);
    let catalogue = catalogue::all();
    let mut samples: Vec<String> = catalogue.operators.iter().map(|o| o.example.to_owned()).collect();
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples");
    for name in ["city/pipeline.toml", "recorded/google_jobs.toml", "recorded/nyc_taxi.toml"] {
        samples.push(std::fs::read_to_string(examples.join(name)).unwrap());
    }
    let env = |name: &str| (name == "THE_KEY" || name == "THALWEG_DATA").then(|| "value".to_owned());
    let (mut plans, mut mistakes) = (0, 0);
    for turn in 0..4_000 {
        let sample = &samples[turn % samples.len()];
        let text = broken(sample, &samples[random.below(samples.len())], &mut random);
        match load(Path::new("p.toml"), &text, &env, &catalogue) {
            Ok(plan) => {
                plans += 1;
                let again = load(Path::new("p.toml"), &text, &env, &catalogue).expect("it was a plan");
                assert_eq!(plan.fingerprint(), again.fingerprint(), "turn {turn}:\n{text}");
                let _ = (engine::pipeline::explain::text(&plan), engine::pipeline::explain::mermaid(&plan));
            }
            Err(problems) => {
                mistakes += 1;
                let lines = text.split('\n').count();
                for problem in problems.iter() {
                    assert!((1..=lines).contains(&problem.line), "turn {turn}: {problem}\n{text}");
                    assert!(problem.column >= 1 && !problem.message.is_empty(), "turn {turn}: {problem}\n{text}");
                }
            }
        }
    }
    assert!(plans > 200 && mistakes > 1_000, "{plans} plans, {mistakes} with mistakes");
}

/// What nests is bounded: a stack is not endless.
#[test]
fn a_pipeline_that_nests_without_end_is_a_mistake() {
    let many = 100_000;
    let steps = |expression: &str| {
        format!(
            "name = 'p'\n[sources.s]\ntype = 'http'\ncolumns = {{ a = 'int64' }}\n[steps.v]\noperator = 'select'\ninput = 's'\nfilter = '''{expression}'''\n"
        )
    };
    for (n, text) in [
        format!("name = {}", "[".repeat(many)),
        format!("name = {}", "{a=".repeat(many)),
        format!("[{}]", "a.".repeat(many)),
        format!("{}a = 1", "a.".repeat(many)),
        steps(&"(".repeat(many)),
        steps(&format!("{}a > 0{}", "(".repeat(many), ")".repeat(many))),
        steps(&format!("{}true", "NOT ".repeat(many))),
        steps(&format!("a > {}1", "- ".repeat(many))),
        steps(&format!("a > 0{}", " AND a > 0".repeat(many / 4))),
        steps(&format!("a{} > 0", " + a".repeat(many / 4))),
        steps(&format!("{}a{} > 0", "abs(".repeat(many / 4), ")".repeat(many / 4))),
        steps(&format!("{}a{} > 0", "CASE WHEN a > 0 THEN ".repeat(many / 8), " END".repeat(many / 8))),
    ]
    .into_iter()
    .enumerate()
    {
        // An overflow ends the process: the last line tells which.
        println!("text {n}");
        let _ = load(Path::new("p.toml"), &text, &|_| None, &catalogue::all());
    }
}
