//! A store that is gone when it is dropped: for what must run through a real store and leave nothing behind.

use std::fs::DirBuilder;
use std::io::ErrorKind;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use crate::{Error, Options, Store};

/// An empty store in a folder of its own, which goes with it. No write waits for the disk.
///
/// A clone of its [`Store`] must not outlive it. A process that is killed leaves the folder behind.
pub struct Temporary {
    /// `None` only while it is being dropped.
    store: Option<Store>,
    path: PathBuf,
}

impl Temporary {
    /// Opens one in a new folder under `parent`, which must be there. Of the options, `path` and `sync` are not read.
    pub fn open(parent: &Path, options: Options) -> Result<Temporary, Error> {
        let path = folder(parent)?;
        let mut temporary = Temporary { store: None, path: path.clone() };
        temporary.store = Some(Store::open(Options { path, sync: false, ..options })?);
        Ok(temporary)
    }

    /// The store.
    pub fn store(&self) -> &Store {
        self.store.as_ref().expect("it is there until it is dropped")
    }
}

impl std::fmt::Debug for Temporary {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Temporary").field("path", &self.path).finish_non_exhaustive()
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        // Closed before its files go. What cannot be removed does no harm but take room.
        self.store = None;
        let _ = std::fs::remove_dir_all(&self.path);
    }
}

/// Makes a folder that nobody else has and nobody else may read: rows may be secret.
fn folder(parent: &Path) -> Result<PathBuf, Error> {
    let process = std::process::id();
    for n in 0u64.. {
        let path = parent.join(format!("thalweg-{process}-{n}"));
        match DirBuilder::new().mode(0o700).create(&path) {
            Ok(()) => return Ok(path),
            Err(e) if e.kind() == ErrorKind::AlreadyExists => {}
            Err(e) => return Err(Error::failed("make the folder", path.display().to_string(), e)),
        }
    }
    unreachable!("some number is free")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn temporary_stores_leave_nothing_and_do_not_meet() {
        let parent = tempfile::tempdir().unwrap();
        let open = || Temporary::open(parent.path(), Options::new("elsewhere")).unwrap();
        let (a, b) = (open(), open());
        assert_ne!(a.path, b.path);
        assert_eq!((a.store().committed(), b.store().committed()), (0, 0));
        assert_eq!(std::fs::read_dir(parent.path()).unwrap().count(), 2);
        drop((a, b));
        assert_eq!(std::fs::read_dir(parent.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_folder_that_cannot_be_made_is_named() {
        let parent = tempfile::tempdir().unwrap();
        let gone = parent.path().join("gone");
        let error = Temporary::open(&gone, Options::new("")).unwrap_err().to_string();
        assert!(error.contains("gone/thalweg-"), "{error}");
    }
}
