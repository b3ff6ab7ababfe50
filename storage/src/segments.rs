//! The files to which large epochs' changes are appended: written once, past RocksDB's log and memtable.
//!
//! A segment is named by the first epoch in it and reaches to the next segment's. In it stand chunks, end to end, each
//! with its length at its head. The commit record of an epoch is written after its chunks are on disk, and says where
//! they begin; what no record names was never committed. So nothing is ever repaired: an open begins a new segment,
//! and those that begin behind the last commit are removed.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use types::Epoch;

use crate::format::{self, CHUNK_HEADER};
use crate::{Error, lock, open};

/// A segment that has grown to this is followed by another, so that old ones can go.
const SEGMENT_BYTES: u64 = 64 << 20;

/// Every segment of a store.
#[derive(Debug)]
pub(crate) struct Segments {
    folder: PathBuf,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// The segments by their first epoch.
    files: BTreeMap<Epoch, PathBuf>,
    /// The last of them, if it may be appended to, and its length.
    current: Option<(File, u64)>,
}

impl Segments {
    /// Finds the segments in a folder. Those of epochs that were not committed are passed over, and removed if the store
    /// may be written: when it is only looked at, and perhaps damaged, they are none of the onlooker's business.
    pub(crate) fn open(folder: PathBuf, committed: Epoch, read_only: bool) -> Result<Segments, Error> {
        let failed = |e: io::Error| Error::failed("read", folder.display().to_string(), e);
        let mut files = BTreeMap::new();
        for entry in fs::read_dir(&folder).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            let Some(first) = path.file_name().and_then(|n| n.to_str()?.parse().ok()) else { continue };
            if first <= committed {
                files.insert(first, path);
            } else if !read_only {
                remove(&path)?;
            }
        }
        Ok(Segments { folder, state: Mutex::new(State { files, current: None }) })
    }

    /// Appends an epoch's chunks. They are on disk when this returns, and begin at the offset it gives. After a failure
    /// nothing has happened.
    pub(crate) fn append<'a>(&self, epoch: Epoch, blocks: impl Iterator<Item = &'a [u8]>) -> Result<u64, Error> {
        // Taken, so that a segment that could not be written or synced is not appended to again: nobody knows what of
        // it is on disk. Commits come one at a time; who reads meanwhile need not wait.
        let current = lock(&self.state).current.take();
        let (mut file, start) = match current {
            Some(current) => current,
            None => (self.begin(epoch)?, 0),
        };
        match write(&mut file, blocks) {
            Ok(bytes) => {
                let end = start + bytes;
                lock(&self.state).current = (end < SEGMENT_BYTES).then_some((file, end));
                Ok(start)
            }
            Err(e) => {
                // A disk that is full gets its room back; if that fails too, the bytes are in nobody's way.
                let mut state = lock(&self.state);
                let last = state.files.last_entry().expect("the one that was written to");
                let subject = last.get().display().to_string();
                if *last.key() == epoch {
                    let _ = fs::remove_file(last.remove());
                } else {
                    let _ = file.set_len(start);
                }
                Err(Error::failed("write", subject, e))
            }
        }
    }

    /// Makes the segment that begins with an epoch.
    fn begin(&self, epoch: Epoch) -> Result<File, Error> {
        let path = self.folder.join(format!("{epoch:020}"));
        let failed = |e: io::Error| Error::failed("make", path.display().to_string(), e);
        let file = File::create(&path).map_err(failed)?;
        open::sync_dir(&self.folder).map_err(failed)?;
        lock(&self.state).files.insert(epoch, path);
        Ok(file)
    }

    /// Reads chunks of an epoch whose chunks begin at an offset: passes over `skip` of them and gives the `take` that
    /// follow. They are not checked.
    pub(crate) fn read(&self, epoch: Epoch, offset: u64, skip: u32, take: u32) -> Result<Vec<Vec<u8>>, Error> {
        let path = lock(&self.state).files.range(..=epoch).next_back().map(|(_, path)| path.clone());
        let Some(path) = path else {
            return Err(Error::damaged(format!("the segment of epoch {epoch}"), "it is missing"));
        };
        let subject = || path.display().to_string();
        let failed = |e: io::Error| match e.kind() {
            ErrorKind::NotFound => Error::damaged(subject(), "it is missing"),
            ErrorKind::UnexpectedEof => {
                Error::damaged(subject(), format!("it ends before the changes of epoch {epoch}"))
            }
            _ => Error::failed("read", subject(), e),
        };
        let file = File::open(&path).map_err(failed)?;
        let size = file.metadata().map_err(failed)?.len();
        let mut chunks = Vec::with_capacity(take as usize);
        let mut at = offset;
        for number in 0..skip + take {
            let mut head = [0; CHUNK_HEADER];
            file.read_exact_at(&mut head, at).map_err(failed)?;
            let length = format::chunk_length(&head);
            if at + length as u64 > size {
                return Err(failed(ErrorKind::UnexpectedEof.into()));
            }
            if number >= skip {
                let mut chunk = vec![0; length];
                file.read_exact_at(&mut chunk, at).map_err(failed)?;
                chunks.push(chunk);
            }
            at += length as u64;
        }
        Ok(chunks)
    }

    /// Whether the segment an epoch's chunks went to, if they went to one, has not been removed as too old.
    pub(crate) fn has(&self, epoch: Epoch) -> bool {
        lock(&self.state).files.keys().next().is_some_and(|first| *first <= epoch)
    }

    /// Removes the segments in which there is no epoch above this one.
    pub(crate) fn trim(&self, up_to: Epoch) -> Result<(), Error> {
        let mut state = lock(&self.state);
        loop {
            let mut firsts = state.files.keys();
            let (Some(first), Some(next)) = (firsts.next().copied(), firsts.next().copied()) else { return Ok(()) };
            if next > up_to + 1 {
                return Ok(());
            }
            remove(&state.files[&first])?;
            state.files.remove(&first);
        }
    }
}

/// Writes blocks at the end of a file and waits until they are on disk. Gives how many bytes they are.
fn write<'a>(file: &mut File, blocks: impl Iterator<Item = &'a [u8]>) -> io::Result<u64> {
    let mut bytes = 0;
    for block in blocks {
        file.write_all(block)?;
        bytes += block.len() as u64;
    }
    file.sync_data().map(|()| bytes)
}

fn remove(path: &Path) -> Result<(), Error> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != ErrorKind::NotFound => Err(Error::failed("remove", path.display().to_string(), e)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chunk(byte: u8, length: usize) -> Vec<u8> {
        let mut chunk = vec![byte; CHUNK_HEADER + length];
        format::seal_chunk(b"key", &mut chunk);
        chunk
    }

    #[test]
    fn an_epochs_chunks_come_back_and_old_segments_go() {
        let dir = tempfile::tempdir().unwrap();
        let segments = Segments::open(dir.path().to_owned(), 0, false).unwrap();
        let large = chunk(9, SEGMENT_BYTES as usize / 2);
        let mut offsets = Vec::new();
        for epoch in 1..=6_u64 {
            let (a, b) = (chunk(epoch as u8, 100 + epoch as usize), chunk(0, 0));
            offsets.push(segments.append(epoch, [a.as_slice(), &b, &large].into_iter()).unwrap());
        }
        let again = Segments::open(dir.path().to_owned(), 6, false).unwrap();
        for segments in [&segments, &again] {
            for epoch in 1..=6_u64 {
                let offset = offsets[epoch as usize - 1];
                let two = segments.read(epoch, offset, 0, 2).unwrap();
                assert_eq!(two, [chunk(epoch as u8, 100 + epoch as usize), chunk(0, 0)]);
                assert_eq!(segments.read(epoch, offset, 1, 1).unwrap(), [chunk(0, 0)]);
            }
        }
        let files = || fs::read_dir(dir.path()).unwrap().count();
        assert_eq!(files(), 3);
        segments.trim(2).unwrap();
        assert_eq!(files(), 2);
        assert!(segments.read(2, offsets[1], 0, 1).is_err());
        segments.trim(100).unwrap();
        assert_eq!(files(), 1, "the last one is kept");
        segments.read(6, offsets[5], 0, 3).unwrap();
        Segments::open(dir.path().to_owned(), 4, true).unwrap();
        assert_eq!(files(), 1, "who only looks removes nothing");
        Segments::open(dir.path().to_owned(), 4, false).unwrap();
        assert_eq!(files(), 0, "what was not committed goes at the next open");
    }
}
