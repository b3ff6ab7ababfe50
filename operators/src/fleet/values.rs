//! What cells are worth, as the stream of values tells it.

use std::collections::BTreeMap;

use super::Wrong;

/// Values beyond this are refused, so that weights stay exact enough to be compared.
pub const VALUE_MAX: f64 = 1e9;

/// The values of one market.
pub struct Values {
    initial: f64,
    numbers: BTreeMap<String, u32>,
    values: Vec<f64>,
}

impl Values {
    /// Every cell is worth this as yet.
    pub fn new(initial: f64) -> Values {
        Values { initial, numbers: BTreeMap::new(), values: Vec::new() }
    }

    /// The number of a cell.
    pub fn number(&mut self, cell: &str) -> u32 {
        if let Some(number) = self.numbers.get(cell) {
            return *number;
        }
        let number = self.values.len() as u32;
        self.numbers.insert(cell.to_owned(), number);
        self.values.push(self.initial);
        number
    }

    /// A cell is worth something else now.
    pub fn set(&mut self, cell: &str, value: f64) {
        let number = self.number(cell);
        self.values[number as usize] = value + 0.0;
    }

    /// What a place of these cells is worth: their mean, in their order.
    pub fn of(&self, cells: &[u32]) -> f64 {
        if cells.is_empty() {
            return 0.0;
        }
        cells.iter().fold(0.0, |sum, cell| sum + self.values[*cell as usize]) / cells.len() as f64
    }
}

/// A change of a value that may be believed.
pub fn check(cell: Option<&str>, value: Option<f64>) -> Result<(&str, f64), Wrong> {
    let cell = cell.ok_or_else(|| ("bad_cell", "the cell is null".to_owned()))?;
    match value {
        Some(value) if value.abs() <= VALUE_MAX => Ok((cell, value)),
        _ => Err(("bad_value", format!("the value is null, NaN or beyond ±{VALUE_MAX}"))),
    }
}
