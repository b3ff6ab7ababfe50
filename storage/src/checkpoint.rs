//! A copy of a store while it is written: by hard links where the disk allows, so that it costs next to nothing.
//!
//! What is linked never changes: RocksDB's sorted files and full segments are written once. The newest segment grows, and
//! the copy shares what it grows by; no commit record of the copy names that, so nobody reads it. The witness
//! `high-water` is copied first: it may say less than the copy has, never more.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::path::Path;

use rocksdb::checkpoint::Checkpoint;
use types::Epoch;

use crate::open::{FORMAT_FILE, HIGH_WATER_FILE, database, segments, staging, sync_dir};
use crate::{Error, Store};

const OPERATION: &str = "copy the store";

impl Store {
    /// Copies the store into a folder that does not exist yet, whole or not at all; reads and writes go on meanwhile. Gives
    /// an epoch that the copy surely has: it may have some more.
    ///
    /// # Errors
    /// [`Error::Refused`]: there is something at that path. [`Error::Failed`]: the machine; then nothing is there.
    pub fn checkpoint(&self, to: &Path) -> Result<Epoch, Error> {
        let failed = |e: io::Error| Error::failed(OPERATION, to.display().to_string(), e);
        if fs::symlink_metadata(to).is_ok() {
            return Err(Error::refused(OPERATION, format!("there is something at {}", to.display())));
        }
        let (Some(name), parent) = (to.file_name(), to.parent().filter(|p| !p.as_os_str().is_empty())) else {
            return Err(Error::refused(OPERATION, format!("{} names no folder", to.display())));
        };
        let parent = parent.unwrap_or(Path::new("."));
        // Hidden, as no checkpoint is named: what is removed here is never somebody's finished copy.
        let mut unfinished = OsString::from(".");
        unfinished.push(name);
        unfinished.push(".unfinished");
        let part = parent.join(unfinished);
        // What an attempt that was cut off has left.
        if part.exists() {
            fs::remove_dir_all(&part).map_err(failed)?;
        }
        fs::create_dir_all(&part).map_err(failed)?;
        let made = self.copy_into(&part).and_then(|epoch| {
            fs::rename(&part, to).and_then(|()| sync_dir(parent)).map_err(failed)?;
            Ok(epoch)
        });
        if made.is_err() {
            let _ = fs::remove_dir_all(&part);
        }
        made
    }

    fn copy_into(&self, part: &Path) -> Result<Epoch, Error> {
        let failed = |e: io::Error| Error::failed(OPERATION, part.display().to_string(), e);
        let from = self.path();
        // As long as a reader holds the newest epoch, no segment goes that the copy needs.
        let held = self.snapshot(None)?;
        for file in [FORMAT_FILE, HIGH_WATER_FILE] {
            fs::copy(from.join(file), part.join(file)).map_err(failed)?;
            File::open(part.join(file)).and_then(|file| file.sync_all()).map_err(failed)?;
        }
        let epoch = self.committed();
        let made = Checkpoint::new(&self.shared().db).and_then(|made| made.create_checkpoint(database(part)));
        made.map_err(|e| Error::failed(OPERATION, part.display().to_string(), e))?;
        fs::create_dir(staging(part)).and_then(|()| link_all(&segments(from), &segments(part))).map_err(failed)?;
        drop(held);
        sync_dir(part).map_err(failed)?;
        Ok(epoch)
    }
}

/// Links every file of a folder into a new one, or copies it where that cannot be.
fn link_all(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir(to)?;
    for entry in fs::read_dir(from)? {
        let path = entry?.path();
        let target = to.join(path.file_name().expect("an entry has a name"));
        match fs::hard_link(&path, &target) {
            Ok(()) => {}
            // It has just been removed: it was not needed any more.
            Err(e) if e.kind() == ErrorKind::NotFound => {}
            Err(_) => {
                fs::copy(&path, &target)?;
                File::open(&target)?.sync_all()?;
            }
        }
    }
    sync_dir(to)
}
