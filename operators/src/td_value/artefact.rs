//! An offline value function as a file: what a cell is worth at a time of day, learned from a recorded history.
//!
//! The format, whole numbers with 64 bits, little-endian: `THALWEGV`, the version, the length of what follows before the
//! checksum; what it fits (coding, discount and its unit) and how it was made, as texts; the length of a slot in microseconds; how many slots
//! and cells there are; the cells' names, ascending; their values, slot by slot, NaN where nothing is known; and last the
//! checksum, 64 bits FNV-1a of all before it.

use std::path::Path;

use super::options::Grid;

const MAGIC: &[u8; 8] = b"THALWEGV";
const VERSION: u64 = 2;

/// An offline value function that has been checked.
#[derive(Clone, Debug, PartialEq)]
pub struct Artefact {
    /// What it fits: see [`fits`].
    pub fits: String,
    /// How it was made: for people; a step does not care.
    pub made: String,
    /// How long a slot is, in microseconds. The first begins with the local day.
    pub slot: i64,
    /// How many slots there are; times beyond the last are in it.
    pub slots: usize,
    /// The cells' names, ascending.
    pub names: Vec<String>,
    /// By slot and cell; NaN where nothing is known.
    pub values: Vec<f64>,
}

/// What a step and an artefact must agree in: how cells are named, and what time does to value.
pub fn fits(grid: Option<Grid>, gamma: f64, unit_secs: f64) -> String {
    let coding = match grid {
        None => "cells by key".to_owned(),
        Some(Grid::Tiles(size)) => format!("tiles of {size}"),
        Some(Grid::H3(levels)) => format!("h3 cells of {levels:?}"),
    };
    format!("{coding}, gamma {gamma} a {unit_secs} s")
}

/// FNV-1a (Fowler, Noll and Vo 1991).
pub(super) fn fnv(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |h, b| (h ^ u64::from(*b)).wrapping_mul(0x0100_0000_01b3))
}

impl Artefact {
    /// The value of a cell at a local time of day, if it is known.
    pub fn value(&self, time: i64, cell: usize) -> Option<f64> {
        let slot = ((time / self.slot) as usize).min(self.slots - 1);
        Some(self.values[slot * self.names.len() + cell]).filter(|v| !v.is_nan())
    }

    /// The number of the cell of that name.
    pub fn cell(&self, name: &str) -> Option<usize> {
        self.names.binary_search_by(|n| n.as_str().cmp(name)).ok()
    }

    /// The file's bytes.
    pub fn bytes(&self) -> Vec<u8> {
        let mut body = Vec::new();
        let text = |body: &mut Vec<u8>, text: &str| {
            body.extend_from_slice(&(text.len() as u64).to_le_bytes());
            body.extend_from_slice(text.as_bytes());
        };
        text(&mut body, &self.fits);
        text(&mut body, &self.made);
        for number in [self.slot as u64, self.slots as u64, self.names.len() as u64] {
            body.extend_from_slice(&number.to_le_bytes());
        }
        self.names.iter().for_each(|name| text(&mut body, name));
        self.values.iter().for_each(|value| body.extend_from_slice(&value.to_bits().to_le_bytes()));
        let mut out = MAGIC.to_vec();
        out.extend_from_slice(&VERSION.to_le_bytes());
        out.extend_from_slice(&(body.len() as u64).to_le_bytes());
        out.extend_from_slice(&body);
        let sum = fnv(&out);
        out.extend_from_slice(&sum.to_le_bytes());
        out
    }

    /// The checksum in the file.
    pub fn checksum(&self) -> u64 {
        let bytes = self.bytes();
        fnv(&bytes[..bytes.len() - 8])
    }

    /// Reads a file for a step that wants one that [`fits`]. The error says what is wrong with it.
    pub fn load(path: &Path, fits: &str) -> Result<Artefact, String> {
        let bytes = std::fs::read(path).map_err(|e| format!("the offline value function cannot be read: {e}"))?;
        let artefact = Artefact::parse(&bytes)?;
        if artefact.fits != fits {
            return Err(format!("the offline value function is for {}; this step has {fits}", artefact.fits));
        }
        Ok(artefact)
    }

    /// From the bytes of a file.
    pub fn parse(bytes: &[u8]) -> Result<Artefact, String> {
        let damaged = || "the offline value function is damaged".to_owned();
        let Some(rest) = bytes.strip_prefix(MAGIC) else { return Err("it is no offline value function".to_owned()) };
        let mut reader = Reader(rest);
        let version = reader.number().ok_or_else(damaged)?;
        if version != VERSION {
            return Err(format!("the offline value function has version {version}, and this is version {VERSION}"));
        }
        let len = reader.number().ok_or_else(damaged)?;
        if reader.0.len() as u64 != len.saturating_add(8) {
            return Err(damaged());
        }
        let (whole, sum) = bytes.split_at(bytes.len() - 8);
        if Reader(sum).number() != Some(fnv(whole)) {
            return Err(damaged());
        }
        reader.0 = &reader.0[..len as usize];
        reader.artefact().filter(|a| a.is_sound()).ok_or_else(damaged)
    }

    fn is_sound(&self) -> bool {
        self.slot > 0
            && self.slots > 0
            && self.names.is_sorted_by(|a, b| a < b)
            && self.values.iter().all(|v| !v.is_infinite())
    }
}

/// Reads numbers and texts; `None` where there are none left.
pub(super) struct Reader<'a>(pub &'a [u8]);

impl Reader<'_> {
    pub fn number(&mut self) -> Option<u64> {
        let (number, rest) = self.0.split_first_chunk::<8>()?;
        self.0 = rest;
        Some(u64::from_le_bytes(*number))
    }

    fn text(&mut self) -> Option<String> {
        let len = usize::try_from(self.number()?).ok()?;
        let text = std::str::from_utf8(self.0.get(..len)?).ok()?.to_owned();
        self.0 = &self.0[len..];
        Some(text)
    }

    fn artefact(&mut self) -> Option<Artefact> {
        let (fits, made) = (self.text()?, self.text()?);
        let slot = i64::try_from(self.number()?).ok()?;
        let [slots, cells] = [self.number()?, self.number()?].map(|n| usize::try_from(n).ok());
        let (slots, cells) = (slots?, cells?);
        // Every name takes eight bytes or more: a number that cannot be is no reason to ask for memory.
        if cells > self.0.len() / 8 {
            return None;
        }
        let names = (0..cells).map(|_| self.text()).collect::<Option<Vec<String>>>()?;
        if slots.checked_mul(cells)?.checked_mul(8)? != self.0.len() {
            return None;
        }
        let values = (0..slots * cells).map(|_| self.number().map(f64::from_bits)).collect::<Option<Vec<f64>>>()?;
        Some(Artefact { fits, made, slot, slots, names, values })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_cut_and_every_flipped_bit_is_seen() {
        let whole = Artefact {
            fits: fits(Some(Grid::Tiles(0.01)), 0.9, 600.0),
            made: "by hand".to_owned(),
            slot: 600_000_000,
            slots: 2,
            names: vec!["7".to_owned(), "~1,-2".to_owned()],
            values: vec![1.5, f64::NAN, -0.25, 3.0],
        };
        let bytes = whole.bytes();
        let read = Artefact::parse(&bytes).unwrap();
        assert_eq!(read.bytes(), bytes);
        assert_eq!((read.value(0, 0), read.value(0, 1), read.value(i64::MAX, 1)), (Some(1.5), None, Some(3.0)));
        assert_eq!((read.cell("7"), read.cell("8")), (Some(0), None));
        for cut in 0..bytes.len() {
            assert!(Artefact::parse(&bytes[..cut]).is_err(), "cut at {cut}");
        }
        for bit in 0..bytes.len() * 8 {
            let mut bytes = bytes.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(Artefact::parse(&bytes).is_err(), "bit {bit}");
        }
    }
}
