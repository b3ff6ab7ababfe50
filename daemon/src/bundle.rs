//! `thalweg bundle`: what one sends along when asking for help, in one file: how the daemon and its machine fare, no data.
//!
//! Rows, raw text of faults, tokens and the values of `${…}` are not in it: everything comes from answers that do not show
//! them. What cannot be had is in it as the reason why.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom, Write};
use std::path::{Path, PathBuf};

use client::Client;
use flate2::Compression;
use flate2::write::GzEncoder;

/// The end of a log, in bytes.
const LOG_BYTES: u64 = 1 << 20;

/// What is asked of the daemon, and how it is called in the bundle.
const ASKED: [(&str, &str); 9] = [
    ("pipelines.json", "/v1/pipelines"),
    ("epochs.json", "/v1/epochs"),
    ("sources.json", "/v1/sources"),
    ("sinks.json", "/v1/sinks"),
    ("views.json", "/v1/views"),
    ("faults.json", "/v1/faults/summary"),
    ("ready.json", "/healthz/ready"),
    ("routes.txt", "/"),
    ("metrics.txt", "/metrics"),
];
/// What is read of the machine.
const READ: [(&str, &str); 5] = [
    ("machine/os-release", "/etc/os-release"),
    ("machine/kernel", "/proc/version"),
    ("machine/meminfo", "/proc/meminfo"),
    ("machine/loadavg", "/proc/loadavg"),
    ("machine/cpuinfo", "/proc/cpuinfo"),
];

/// Writes a bundle: of a daemon, of the store's own notes if its folder is given, of the end of a log if it is.
pub fn write(daemon: &Client, data: Option<&Path>, log: Option<&Path>, out: &Path) -> io::Result<()> {
    let mut archive = tar::Builder::new(GzEncoder::new(File::create_new(out)?, Compression::default()));
    let mut add = |name: &str, bytes: &[u8]| -> io::Result<()> {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        archive.append_data(&mut header, format!("thalweg-bundle/{name}"), bytes)
    };
    let version = format!("thalweg {}\nasked at {}\n", env!("CARGO_PKG_VERSION"), daemon.base());
    add("version.txt", version.as_bytes())?;
    for (name, path) in ASKED {
        let answer = daemon.get(path, &[("accept", "*/*")]).and_then(client::Body::bytes);
        add(name, &answer.unwrap_or_else(|e| format!("not to be had: {e}\n").into_bytes()))?;
    }
    for (name, path) in READ {
        add(name, &or_why(std::fs::read(path)))?;
    }
    if let Some(log) = log {
        add("log", &or_why(end_of(log)))?;
    }
    if let Some(data) = data {
        let mut files = Vec::new();
        let walked = walk(data, &mut files);
        let mut list: String = files.iter().map(|(path, bytes)| format!("{bytes:>12}  {}\n", path.display())).collect();
        if let Err(e) = walked {
            list.push_str(&format!("not all of it: {e}\n"));
        }
        add("store/files.txt", list.as_bytes())?;
        // RocksDB's own: its log says nothing of keys and values, its options nothing of either.
        for (path, _) in files {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if name == "LOG" || name.starts_with("OPTIONS-") {
                add(&format!("store/{name}"), &or_why(end_of(&data.join(path))))?;
            }
        }
    }
    archive.into_inner()?.finish()?.flush()
}

fn or_why(read: io::Result<Vec<u8>>) -> Vec<u8> {
    read.unwrap_or_else(|e| format!("not to be had: {e}\n").into_bytes())
}

fn end_of(path: &Path) -> io::Result<Vec<u8>> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(LOG_BYTES)))?;
    let mut end = Vec::new();
    file.take(LOG_BYTES).read_to_end(&mut end)?;
    Ok(end)
}

/// The files of a store with their sizes, those of its checkpoints left out.
fn walk(data: &Path, files: &mut Vec<(PathBuf, u64)>) -> io::Result<()> {
    let mut folders = vec![PathBuf::new()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(data.join(&folder))? {
            let entry = entry?;
            let path = folder.join(entry.file_name());
            let metadata = match entry.metadata() {
                // The store goes on meanwhile.
                Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
                metadata => metadata?,
            };
            if !metadata.is_dir() {
                files.push((path, metadata.len()));
            } else if path != Path::new("checkpoints") {
                folders.push(path);
            }
        }
    }
    files.sort();
    Ok(())
}
