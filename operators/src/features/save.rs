//! Bytes of what is kept: integers and floats, eight little-endian bytes each, bit for bit.

/// Writes.
#[derive(Clone, Debug, Default)]
pub struct Writer(pub Vec<u8>);

impl Writer {
    /// An integer.
    pub fn int(&mut self, value: i64) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    /// A float.
    pub fn float(&mut self, value: f64) {
        self.0.extend_from_slice(&value.to_bits().to_le_bytes());
    }

    /// Floats.
    pub fn floats(&mut self, values: &[f64]) {
        values.iter().for_each(|value| self.float(*value));
    }

    /// Bytes with their length before them.
    pub fn bytes(&mut self, value: &[u8]) {
        self.int(value.len() as i64);
        self.0.extend_from_slice(value);
    }
}

/// Reads what [`Writer`] wrote. It panics at the end: damage is found earlier, by the store's checksums.
#[derive(Clone, Copy, Debug)]
pub struct Reader<'a>(pub &'a [u8]);

impl<'a> Reader<'a> {
    /// An integer.
    pub fn int(&mut self) -> i64 {
        let (first, rest) = self.0.split_first_chunk().expect("eight bytes of our own");
        self.0 = rest;
        i64::from_le_bytes(*first)
    }

    /// A float.
    pub fn float(&mut self) -> f64 {
        f64::from_bits(self.int() as u64)
    }

    /// Bytes with their length before them.
    pub fn bytes(&mut self) -> &'a [u8] {
        let len = self.int() as usize;
        let (bytes, rest) = self.0.split_at(len);
        self.0 = rest;
        bytes
    }
}
