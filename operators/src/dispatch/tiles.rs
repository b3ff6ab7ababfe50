//! From where a driver is to the cells of the value table that make up its value.
//!
//! Tabular: one cell, by a key of the caller's (a hexagon, a zone). Tile coding: that cell and five square tiles of
//! shifted grids, as the winner of the KDD Cup 2020 dispatch track did ("Polar Bear", the published repository and its
//! description): coordinates are rounded to a grid of `size` after a shift of 3/10 `size` times (3, 1), (1, −3),
//! (−3, −1), (−1, 3) and (0, 0), and all five share one table.
//!
//! Cells are numbered in the order in which they are first seen, a function of history.

use hashbrown::HashMap;
use rustc_hash::FxBuildHasher;

/// How many cells the value of a place is the mean of, with tiles.
pub const TILED_CELLS: usize = 6;

/// The shifts of the five grids, in units of 3/10 of their size.
const SHIFTS: [(f64, f64); 5] = [(3.0, 1.0), (1.0, -3.0), (-3.0, -1.0), (-1.0, 3.0), (0.0, 0.0)];

/// Which cells make up a place.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Coding {
    /// One cell: the key.
    Tabular,
    /// The key's cell and five tiles of this size, in the unit of the coordinates. Polar Bear: 0.01 degrees.
    Tiles {
        /// The side of a tile.
        size: f64,
    },
}

/// A place, as the cells that make up its value. Without tiles only the first counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Numbers of cells.
    pub cells: [u32; TILED_CELLS],
}

/// What a cell stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum CellKey {
    /// The caller's key.
    Keyed(u64),
    /// A tile: the coordinates in tiles, shifted and rounded. Tiles of different grids with the same pair are one cell, as
    /// in the original, where the rounded pair is the key.
    Tile(i64, i64),
}

/// The five tiles of a point, of that size; `None` if the coordinates are not finite, or so far out that the number of a
/// tile would not be exact.
pub fn tiles(size: f64, x: f64, y: f64) -> Option<[(i64, i64); 5]> {
    let (x, y) = (x / size, y / size);
    let rounded = |at: f64, shift: f64| libm::round(at + 0.3 * shift) as i64;
    (x.abs() < 1e12 && y.abs() < 1e12).then(|| SHIFTS.map(|(dx, dy)| (rounded(x, dx), rounded(y, dy))))
}

/// A tile's name in streams and views: `~X,Y`, its coordinates in tiles.
pub fn tile_name(x: i64, y: i64) -> String {
    format!("~{x},{y}")
}

/// The numbering of cells.
#[derive(Clone, Debug)]
pub struct Cells {
    coding: Coding,
    numbers: HashMap<CellKey, u32, FxBuildHasher>,
    keys: Vec<CellKey>,
}

impl Cells {
    /// No cells yet.
    pub fn new(coding: Coding) -> Cells {
        Cells { coding, numbers: HashMap::default(), keys: Vec::new() }
    }

    /// The coding.
    pub fn coding(&self) -> Coding {
        self.coding
    }

    /// The place of a key at coordinates; `None` if the coordinates are wanted and are not finite. Numbers new cells.
    pub fn place(&mut self, key: u64, x: f64, y: f64) -> Option<Place> {
        let first = self.number(CellKey::Keyed(key));
        let mut cells = [first; TILED_CELLS];
        if let Coding::Tiles { size } = self.coding {
            for (cell, (x, y)) in cells[1..].iter_mut().zip(tiles(size, x, y)?) {
                *cell = self.number(CellKey::Tile(x, y));
            }
        }
        Some(Place { cells })
    }

    /// How many cells there are.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// What a cell stands for.
    pub fn key(&self, cell: u32) -> CellKey {
        self.keys[cell as usize]
    }

    fn number(&mut self, key: CellKey) -> u32 {
        *self.numbers.entry(key).or_insert_with(|| {
            self.keys.push(key);
            (self.keys.len() - 1) as u32
        })
    }
}
