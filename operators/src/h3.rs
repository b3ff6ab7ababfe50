//! Places on the globe as cells of H3: hexagons in 16 sizes, each within one of seven times its area.
//!
//! A place has a cell of every resolution asked for: the finest holds it, the others are that one's parents, so that a place's
//! cells follow from its finest (parents are only about where the places of their children are). The grid and its numbers are
//! Uber's H3 (<https://h3geo.org>), computed by `h3o`, whose trigonometry is the platform's: on another platform a place
//! within rounding of a border may be in the cell beyond it.

use std::fmt;

use engine::pipeline::Section;
use h3o::{CellIndex, LatLng, Resolution};

/// So many resolutions count at most.
pub const LEVELS_MAX: usize = 6;

/// Of which resolutions a place has cells, from fine to coarse.
#[derive(Clone, Copy, PartialEq)]
pub struct Levels {
    resolutions: [Resolution; LEVELS_MAX],
    count: usize,
}

impl Levels {
    /// Of these resolutions, from fine to coarse; `None` if that is not what they are.
    pub fn new(list: &[i64]) -> Option<Levels> {
        if list.is_empty() || list.len() > LEVELS_MAX || !list.is_sorted_by(|a, b| a > b) {
            return None;
        }
        let mut resolutions = [Resolution::Zero; LEVELS_MAX];
        for (to, from) in resolutions.iter_mut().zip(list) {
            *to = Resolution::try_from(u8::try_from(*from).ok()?).ok()?;
        }
        Some(Levels { resolutions, count: list.len() })
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.count
    }

    /// The finest.
    pub fn finest(&self) -> Resolution {
        self.resolutions[0]
    }

    /// The finest cell of a place, in degrees; `None` off the globe.
    pub fn cell(&self, latitude: f64, longitude: f64) -> Option<CellIndex> {
        let is_there = (-90.0..=90.0).contains(&latitude) && (-180.0..=180.0).contains(&longitude);
        let place = LatLng::new(latitude, longitude).ok().filter(|_| is_there)?;
        Some(place.to_cell(self.finest()))
    }

    /// A finest cell and its parents, from fine to coarse.
    pub fn with_parents(&self, cell: CellIndex) -> impl Iterator<Item = CellIndex> + '_ {
        let coarser = self.resolutions[..self.count].iter();
        coarser.map(move |resolution| cell.parent(*resolution).expect("it is coarser"))
    }
}

impl fmt::Debug for Levels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list: Vec<String> = self.resolutions[..self.count].iter().map(|r| u8::from(*r).to_string()).collect();
        f.write_str(&list.join(", "))
    }
}

/// The middle of a cell: latitude and longitude in degrees.
pub fn middle(cell: CellIndex) -> (f64, f64) {
    let middle = LatLng::from(cell);
    (middle.lat(), middle.lng())
}

/// Reads the option `h3`, which is there.
pub fn read(section: &mut Section<'_>) -> Option<Levels> {
    let list = section.ints_in("h3", 0..=15)?;
    let levels = Levels::new(&list);
    if levels.is_none() {
        section.problem("h3", format!("`h3` has from 1 to {LEVELS_MAX} resolutions, each coarser than the one before"));
    }
    levels
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(levels: &[i64], latitude: f64, longitude: f64) -> Vec<String> {
        let levels = Levels::new(levels).unwrap();
        levels.with_parents(levels.cell(latitude, longitude).unwrap()).map(|cell| cell.to_string()).collect()
    }

    /// As published: the first place is the example of h3-js, the second that of Snowflake's `h3_latlng_to_cell_string`.
    #[test]
    fn cells_are_those_of_h3() {
        assert_eq!(name(&[7], 37.3615593, -122.0553238), ["87283472bffffff"]);
        assert_eq!(name(&[8], 52.516262, 13.377704), ["881f1d4887fffff"]);
        assert_eq!(name(&[7, 5], 37.3615593, -122.0553238), ["87283472bffffff", "85283473fffffff"]);
        let near: Vec<CellIndex> = "87283472bffffff".parse::<CellIndex>().unwrap().grid_disk(1);
        let mut near: Vec<String> = near.iter().map(CellIndex::to_string).collect();
        near.sort();
        let mut around = [
            "87283472bffffff",
            "87283472affffff",
            "87283470cffffff",
            "87283470dffffff",
            "872834776ffffff",
            "872834729ffffff",
            "872834728ffffff",
        ];
        around.sort();
        assert_eq!(near, around);
        let (latitude, longitude) = middle("87283472bffffff".parse().unwrap());
        assert!((latitude - 37.351_718_201_832_72).abs() < 1e-9 && (longitude + 122.050_325_652_639_46).abs() < 1e-9);
    }

    #[test]
    fn what_is_nowhere_has_no_cell() {
        let levels = Levels::new(&[15, 3, 0]).unwrap();
        for place in [(91.0, 0.0), (-90.1, 0.0), (0.0, 180.5), (f64::NAN, 0.0), (0.0, f64::NAN), (0.0, f64::INFINITY)] {
            assert_eq!(levels.cell(place.0, place.1), None, "{place:?}");
        }
        for place in [(90.0, 0.0), (-90.0, 180.0), (0.0, -180.0)] {
            assert_eq!(levels.with_parents(levels.cell(place.0, place.1).unwrap()).count(), 3, "{place:?}");
        }
    }

    #[test]
    fn resolutions_come_from_fine_to_coarse() {
        assert!(
            [&[][..], &[16], &[-1], &[5, 5], &[5, 7], &[9, 8, 7, 6, 5, 4, 3]].iter().all(|l| Levels::new(l).is_none())
        );
        assert_eq!(format!("{:?}", Levels::new(&[9, 7, 0]).unwrap()), "9, 7, 0");
    }
}
