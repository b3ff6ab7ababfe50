//! The bytes of a file, looking through gzip and zstd.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};

/// How a file's bytes are packed. Its first bytes decide, whatever its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Packing {
    Plain,
    Gzip,
    Zstd,
}

impl Packing {
    /// Looks at the first bytes and goes back to them.
    pub fn of(file: &mut File) -> io::Result<Packing> {
        let mut head = Vec::new();
        file.by_ref().take(4).read_to_end(&mut head)?;
        file.seek(SeekFrom::Start(0))?;
        Ok(match head.as_slice() {
            [0x1f, 0x8b, ..] => Packing::Gzip,
            [0x28, 0xb5, 0x2f, 0xfd] | [0x50..=0x5f, 0x2a, 0x4d, 0x18] => Packing::Zstd,
            _ => Packing::Plain,
        })
    }

    /// The file's bytes unpacked.
    pub fn unpack(self, file: File) -> io::Result<Box<dyn Read + Send>> {
        Ok(match self {
            Packing::Plain => Box::new(file),
            Packing::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(BufReader::with_capacity(128 << 10, file))),
            Packing::Zstd => Box::new(zstd::stream::read::Decoder::new(file)?),
        })
    }
}

/// What a failed read of unpacked bytes means: `Some(reason)` that the file is damaged, `None` that reading failed.
pub(crate) fn damage(packing: Packing, error: &io::Error) -> Option<&'static str> {
    if packing == Packing::Plain || error.raw_os_error().is_some() {
        return None;
    }
    Some(if error.kind() == io::ErrorKind::UnexpectedEof { "truncated_file" } else { "corrupt_file" })
}
