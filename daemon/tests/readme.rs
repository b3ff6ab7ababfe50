//! README's commands, run as they stand: a reader who copies them gets what README says.
//!
//! A fenced block is part of the test if the line above its fence says so:
//!
//! | line above the fence | the block |
//! |---|---|
//! | `<!-- file: NAME -->` | is written to NAME |
//! | `<!-- test -->` | is run by bash, all such blocks in one shell, one after the other |
//! | `<!-- prints -->` | is what the block before it prints |
//!
//! Those of the Kafka quick start have `kafka ` before the word. They run in an empty folder with the program on the PATH
//! and the scripts in `scripts`; the ports in them are exchanged for free ones, `/tmp/kafka` for a folder of the test.

use std::fmt::Write as _;
use std::fs;
use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// For all commands together. They take seconds; who waits for a daemon that never answers would wait for ever.
const SECONDS_MAX: u64 = 180;

/// The ports in README's commands: the daemon's, the broker's.
const PORTS: [&str; 2] = ["8080", "9092"];
/// The broker's folder in them.
const BROKER: &str = "/tmp/kafka";

/// What README wants done with a block.
#[derive(Debug, PartialEq)]
enum Block {
    File(String, String),
    Run(String),
    Prints(String),
}

#[test]
fn the_commands_in_readme_do_what_it_says() {
    try_out("");
}

#[test]
fn the_kafka_quick_start_does_what_it_says() {
    let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("scripts");
    let installed = Command::new(scripts.join("kafka")).arg("install").output().unwrap();
    if !installed.status.success() {
        let said = String::from_utf8_lossy(&installed.stderr);
        assert!(std::env::var_os("CI").is_none(), "Kafka cannot be had: {said}");
        eprintln!("skipped: Kafka cannot be had: {said}");
        return;
    }
    let broker = tempfile::tempdir().unwrap();
    let folder = broker.path().join("broker");
    try_out_with("kafka ", &[(BROKER, folder.to_str().unwrap())]);
    let _ = Command::new(scripts.join("kafka")).arg("kill").arg(&folder).status();
}

/// Runs the blocks with this word before theirs.
fn try_out(prefix: &str) {
    try_out_with(prefix, &[]);
}

/// The same with texts exchanged in them.
fn try_out_with(prefix: &str, exchanged: &[(&str, &str)]) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut blocks = blocks(&fs::read_to_string(root.join("README.md")).unwrap(), prefix);
    let runs = blocks.iter().filter(|b| matches!(b, Block::Run(_))).count();
    assert!(runs > 0, "README has no block marked to be tested");

    let dir = tempfile::tempdir().unwrap();
    let ports = PORTS.map(|_| TcpListener::bind("127.0.0.1:0").unwrap());
    let ports = ports.map(|p| p.local_addr().unwrap().port().to_string());
    for block in &mut blocks {
        if let Block::File(_, body) | Block::Run(body) = block {
            let free = PORTS.iter().copied().zip(ports.iter().map(String::as_str));
            *body = free.chain(exchanged.iter().copied()).fold(body.clone(), |body, (a, b)| body.replace(a, b));
        }
    }
    std::os::unix::fs::symlink(root.join("scripts"), dir.path().join("scripts")).unwrap();
    let script = script(&blocks);
    fs::write(dir.path().join(".script"), &script).unwrap();
    let program = Path::new(env!("CARGO_BIN_EXE_thalweg")).parent().unwrap();
    let path = format!("{}:{}", program.display(), std::env::var("PATH").unwrap_or_default());
    // A process group of its own, so that daemons the blocks leave running end with the test.
    let mut shell = Group(
        Command::new("bash")
            .arg(".script")
            .current_dir(dir.path())
            .env("PATH", path)
            .env("THALWEG_LOG", "warn")
            .stdin(Stdio::null())
            .stdout(fs::File::create(dir.path().join(".out")).unwrap())
            .stderr(fs::File::create(dir.path().join(".err")).unwrap())
            .process_group(0)
            .spawn()
            .unwrap(),
    );
    let mut status = None;
    for _ in 0..SECONDS_MAX * 20 {
        status = shell.0.try_wait().unwrap();
        if status.is_some() {
            break;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    let read = |name: &str| fs::read_to_string(dir.path().join(name)).unwrap_or_default();
    let said = || {
        let printed: String = (0..runs).map(|n| format!("--- block {n}\n{}", read(&format!(".out-{n}")))).collect();
        format!("--- script\n{script}\n{printed}\n--- errors\n{}", read(".err"))
    };
    match status {
        None => panic!("README's commands did not end within {SECONDS_MAX} s\n{}", said()),
        Some(status) => assert!(status.success(), "README's commands failed: {status}\n{}", said()),
    }

    let mut run = None;
    for block in &blocks {
        match block {
            Block::Run(_) => run = Some(run.map_or(0, |n| n + 1)),
            Block::Prints(expected) => {
                let n = run.expect("something is run before it prints");
                // CSV ends its lines as its standard says; a terminal does not show it.
                let printed = read(&format!(".out-{n}")).replace(&ports[0], PORTS[0]).replace('\r', "");
                assert_eq!(printed.trim_end(), expected.trim_end(), "README's block {n} prints something else");
            }
            Block::File(..) => {}
        }
    }
}

#[test]
fn marked_blocks_are_found() {
    let text = "a\n<!-- file: x.toml -->\n```toml\nk = 1\n```\n```sh\nnot run\n```\n\n<!-- test -->\n```sh\necho 1\n```\n\
                <!-- prints -->\n```text\n1\n```\n";
    let expected = [
        Block::File("x.toml".to_owned(), "k = 1\n".to_owned()),
        Block::Run("echo 1\n".to_owned()),
        Block::Prints("1\n".to_owned()),
    ];
    assert_eq!(blocks(text, ""), expected);
    assert_eq!(blocks("<!-- kafka test -->\n```sh\necho 2\n```\n", "kafka "), [Block::Run("echo 2\n".to_owned())]);
    assert_eq!(blocks("<!-- kafka test -->\n```sh\necho 2\n```\n", ""), []);
}

/// The blocks of a document that are marked with this before the word, in order.
fn blocks(text: &str, prefix: &str) -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut above = "";
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        if line.starts_with("```") {
            let body: String = lines.by_ref().take_while(|l| !l.starts_with("```")).map(|l| format!("{l}\n")).collect();
            let mark = above.strip_prefix("<!-- ").and_then(|m| m.strip_suffix(" -->"));
            let mark = mark.and_then(|m| m.strip_prefix(prefix));
            match mark {
                Some("test") => blocks.push(Block::Run(body)),
                Some("prints") => blocks.push(Block::Prints(body)),
                Some(mark) => {
                    if let Some(name) = mark.strip_prefix("file: ") {
                        blocks.push(Block::File(name.to_owned(), body));
                    }
                }
                None => {}
            }
        }
        above = line;
    }
    blocks
}

/// One bash script of all blocks; what the n-th prints goes to `.out-n`.
fn script(blocks: &[Block]) -> String {
    let mut script = "set -euo pipefail\n".to_owned();
    let mut runs = 0;
    for block in blocks {
        match block {
            Block::File(name, body) => {
                assert!(!name.contains(['/', '\'', '\\']), "{name}: a plain file name");
                let _ = write!(script, "cat > '{name}' <<'END_OF_FILE'\n{body}END_OF_FILE\n");
            }
            Block::Run(body) => {
                let _ = write!(script, "{{\n{body}}} > .out-{runs}\n");
                runs += 1;
            }
            Block::Prints(_) => {}
        }
    }
    script
}

/// A process with all it started, killed when dropped.
struct Group(Child);

impl Drop for Group {
    fn drop(&mut self) {
        let kill = format!("kill -s KILL -- -{}", self.0.id());
        let _ = Command::new("sh").args(["-c", &kill]).stderr(Stdio::null()).status();
        let _ = self.0.wait();
    }
}
