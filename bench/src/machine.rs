//! What a bench asks of the machine: a folder of its own, and what a process takes of memory.

use std::fs;
use std::path::{Path, PathBuf};

/// A folder for what a bench writes; removed with everything in it when the bench is over.
#[derive(Debug)]
pub struct Scratch {
    path: PathBuf,
}

impl Scratch {
    /// Makes the folder, or the error with its name. It must not exist, or be left over from a bench: what is in it goes.
    pub fn new(path: &Path) -> Result<Scratch, String> {
        const MARK: &str = ".thalweg-bench";
        let failed = |e: std::io::Error| format!("{}: {e}", path.display());
        if path.exists() {
            if !path.join(MARK).exists() {
                return Err(format!("{} exists and is not a bench's: give another --dir", path.display()));
            }
            fs::remove_dir_all(path).map_err(failed)?;
        }
        fs::create_dir_all(path).map_err(failed)?;
        fs::write(path.join(MARK), "").map_err(failed)?;
        Ok(Scratch { path: path.to_owned() })
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A name in it at which nothing is (any more).
    pub fn fresh(&self, name: &str) -> Result<PathBuf, String> {
        let path = self.path.join(name);
        self.remove(name)?;
        Ok(path)
    }

    /// Removes a file or folder in it, if it is there.
    pub fn remove(&self, name: &str) -> Result<(), String> {
        let path = self.path.join(name);
        let removed = if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
        match removed {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(format!("{}: {e}", path.display())),
            _ => Ok(()),
        }
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(e) = fs::remove_dir_all(&self.path) {
            eprintln!("{} is left over: {e}", self.path.display());
        }
    }
}

/// The memory a process has resident, in bytes.
pub fn resident_bytes(process: u32) -> Result<u64, String> {
    status_bytes(process, "VmRSS:")
}

/// The most memory a process ever had resident, in bytes.
pub fn peak_bytes(process: u32) -> Result<u64, String> {
    status_bytes(process, "VmHWM:")
}

fn status_bytes(process: u32, field: &str) -> Result<u64, String> {
    let path = format!("/proc/{process}/status");
    let text = fs::read_to_string(&path).map_err(|e| format!("{path}: {e}"))?;
    let line = text.lines().find_map(|l| l.strip_prefix(field));
    let kib = line.and_then(|l| l.trim().strip_suffix(" kB")).and_then(|n| n.trim().parse::<u64>().ok());
    kib.map(|k| k << 10).ok_or_else(|| format!("{path} does not say {field}"))
}

/// The bytes of all files under a folder.
pub fn folder_bytes(folder: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(folder) else { return 0 };
    let size = |entry: fs::DirEntry| match entry.metadata() {
        Ok(m) if m.is_dir() => folder_bytes(&entry.path()),
        Ok(m) => m.len(),
        // Files come and go while a store works.
        Err(_) => 0,
    };
    entries.flatten().map(size).sum()
}
