//! The bytes in which operators of a fleet keep their state.

/// Writes one entry.
#[derive(Default)]
pub struct Writer(pub Vec<u8>);

impl Writer {
    /// A whole number.
    pub fn int(&mut self, value: i64) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    /// Floats, to the bit.
    pub fn floats(&mut self, values: &[f64]) {
        values.iter().for_each(|v| self.0.extend_from_slice(&v.to_bits().to_le_bytes()));
    }

    /// Bytes.
    pub fn bytes(&mut self, value: &[u8]) {
        self.int(value.len() as i64);
        self.0.extend_from_slice(value);
    }
}

/// Reads one entry. Panics on other bytes: the store's checksums make damage an error found earlier.
pub struct Reader<'a>(pub &'a [u8]);

impl Reader<'_> {
    /// A whole number.
    pub fn int(&mut self) -> i64 {
        let (value, rest) = self.0.split_at(8);
        self.0 = rest;
        i64::from_le_bytes(value.try_into().expect("eight bytes"))
    }

    /// Floats.
    pub fn floats<const N: usize>(&mut self) -> [f64; N] {
        std::array::from_fn(|_| f64::from_bits(self.int() as u64))
    }

    /// Bytes.
    pub fn bytes(&mut self) -> Box<[u8]> {
        let len = self.int() as usize;
        let (value, rest) = self.0.split_at(len);
        self.0 = rest;
        value.into()
    }

    /// A text.
    pub fn text(&mut self) -> String {
        String::from_utf8(self.bytes().into()).expect("a text was written")
    }
}
