//! Where drivers and orders are, and of which cells the value of such a place is the mean.

use types::Value;

use super::Wrong;
use super::bytes::{Reader, Writer};
use crate::dispatch::candidates::Point;
use crate::dispatch::tiles::{tile_name, tiles};
use crate::h3::Levels;

/// How places are told.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Metric {
    /// Metres to the east and to the north.
    Plane,
    /// Degrees, latitude first, on a map that is true at this latitude.
    Globe(f64),
}

/// Which cells a place has.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Coding {
    /// None: values do not count.
    Nothing,
    /// That of its key.
    Tabular,
    /// That and five tiles of this size, in the unit of the coordinates.
    Tiles(f64),
    /// Hexagons of H3, of several resolutions; there is no key. Places are on the globe.
    H3(Levels),
}

impl Coding {
    /// The name of the cell by which a place is known: that of its key, or its finest hexagon.
    pub fn cell(self, told: [f64; 2], key: impl FnOnce() -> Result<String, Wrong>) -> Result<String, Wrong> {
        match self {
            Coding::Nothing => Ok(String::new()),
            Coding::Tabular | Coding::Tiles(_) => key(),
            Coding::H3(levels) => match levels.cell(told[0], told[1]) {
                Some(cell) => Ok(cell.to_string()),
                None => Err(("bad_place", "the place has no hexagon".to_owned())),
            },
        }
    }
}

/// A place as it was told.
#[derive(Clone, Debug, PartialEq)]
pub struct Spot {
    /// The coordinates: `x`, `y` or latitude, longitude.
    pub told: [f64; 2],
    /// The name of the cell by which it is known; empty if values do not count.
    pub cell: String,
}

/// Metres beyond which nobody is.
const FAR_M: f64 = 1e9;

impl Metric {
    /// The point of coordinates.
    pub fn point(self, told: [f64; 2]) -> Point {
        match self {
            Metric::Plane => Point { x: told[0], y: told[1] },
            Metric::Globe(latitude) => Point::of_degrees(told[0], told[1], latitude),
        }
    }

    /// Coordinates that are on the map.
    pub fn check(self, told: [Option<f64>; 2]) -> Result<[f64; 2], Wrong> {
        let wrong = |what: &str| ("bad_place", format!("the place is {what}"));
        let [Some(a), Some(b)] = told else { return Err(wrong("null")) };
        let limits = match self {
            Metric::Plane => [FAR_M, FAR_M],
            Metric::Globe(_) => [90.0, 180.0],
        };
        let is_good = a.abs() <= limits[0] && b.abs() <= limits[1];
        if is_good { Ok([a + 0.0, b + 0.0]) } else { Err(wrong(&format!("({a}, {b}), which is nowhere"))) }
    }

    /// The names of the coordinates.
    pub fn names(self) -> [&'static str; 2] {
        match self {
            Metric::Plane => ["x", "y"],
            Metric::Globe(_) => ["lat", "lon"],
        }
    }
}

impl Spot {
    /// The names of all its cells, that by which it is known first.
    pub fn cells(&self, metric: Metric, coding: Coding) -> Vec<String> {
        match coding {
            Coding::Nothing => Vec::new(),
            Coding::Tabular => vec![self.cell.clone()],
            Coding::H3(levels) => {
                let finest = self.cell.parse().expect("it is the name of a hexagon");
                levels.with_parents(finest).map(|cell| cell.to_string()).collect()
            }
            Coding::Tiles(size) => {
                let [x, y] = match metric {
                    Metric::Plane => self.told,
                    Metric::Globe(_) => [self.told[1], self.told[0]],
                };
                let tiles = tiles(size, x, y).into_iter().flatten().map(|(x, y)| tile_name(x, y));
                [self.cell.clone()].into_iter().chain(tiles).collect()
            }
        }
    }

    /// Writes it.
    pub fn write(&self, out: &mut Writer) {
        out.floats(&self.told);
        out.bytes(self.cell.as_bytes());
    }

    /// Reads it.
    pub fn read(bytes: &mut Reader<'_>) -> Spot {
        Spot { told: bytes.floats(), cell: bytes.text() }
    }
}

/// The name of a key's cell: its columns as text, joined by `|`. None if one is null.
pub fn cell_name<'a>(cells: impl Iterator<Item = &'a Value>) -> Option<String> {
    let mut name = String::new();
    for (at, cell) in cells.enumerate() {
        if at > 0 {
            name.push('|');
        }
        match cell {
            Value::Str(text) => name.push_str(text),
            Value::Int(number) => name.push_str(&number.to_string()),
            Value::Bool(truth) => name.push_str(if *truth { "true" } else { "false" }),
            _ => return None,
        }
    }
    Some(name)
}
