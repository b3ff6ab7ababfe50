//! Places on the globe, the distance between two, and a grid that finds those near one.
//!
//! Trigonometry is `libm`'s, so that every machine finds the same distances to the last bit. The grid is of cubes
//! in space around points of the unit sphere: poles and the date line are places like any other.

use hashbrown::HashMap;
use rustc_hash::FxBuildHasher;

/// The mean radius of the earth in metres (IUGG, R₁).
pub const EARTH_RADIUS_M: f64 = 6_371_008.8;

/// A place: latitude and longitude in degrees.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Place {
    latitude: f64,
    longitude: f64,
}

impl Place {
    /// A place, if there is one: latitude in ±90, longitude in ±180, neither NaN.
    pub fn new(latitude: f64, longitude: f64) -> Option<Place> {
        let good = (-90.0..=90.0).contains(&latitude) && (-180.0..=180.0).contains(&longitude);
        good.then_some(Place { latitude, longitude })
    }

    /// The great-circle distance in metres, by the haversine formula (Sinnott 1984) on a sphere of the mean radius.
    pub fn distance_m(&self, other: &Place) -> f64 {
        let (a, b) = (self.latitude.to_radians(), other.latitude.to_radians());
        let across = libm::sin((b - a) / 2.0);
        let along = libm::sin((other.longitude - self.longitude).to_radians() / 2.0);
        let h = across * across + libm::cos(a) * libm::cos(b) * along * along;
        2.0 * EARTH_RADIUS_M * libm::asin(h.sqrt().min(1.0))
    }

    fn on_unit_sphere(&self) -> [f64; 3] {
        let (lat, lon) = (self.latitude.to_radians(), self.longitude.to_radians());
        let cos = libm::cos(lat);
        [cos * libm::cos(lon), cos * libm::sin(lon), libm::sin(lat)]
    }
}

/// Things by slot at places, in cells no smaller than a radius: what lies within it is in a cell next door.
#[derive(Debug)]
pub struct Grid {
    cell: f64,
    cells: HashMap<[i32; 3], Vec<u32>, FxBuildHasher>,
}

impl Grid {
    /// A grid for a radius in metres.
    pub fn new(radius_m: f64) -> Grid {
        let half_angle = (radius_m / EARTH_RADIUS_M / 2.0).min(std::f64::consts::FRAC_PI_2);
        // A little more than the chord: rounding must not put a neighbour two cells away.
        let cell = (2.0 * libm::sin(half_angle) * (1.0 + 1e-9) + 1e-12).max(1e-8);
        Grid { cell, cells: HashMap::default() }
    }

    /// Puts a thing at a place.
    pub fn insert(&mut self, slot: u32, place: &Place) {
        self.cells.entry(self.cell_of(place)).or_default().push(slot);
    }

    /// Takes a thing away from where it was put.
    pub fn remove(&mut self, slot: u32, place: &Place) {
        let cell = self.cell_of(place);
        let there = self.cells.get_mut(&cell).expect("it was put there");
        let at = there.iter().position(|s| *s == slot).expect("it was put there");
        there.swap_remove(at);
        if there.is_empty() {
            self.cells.remove(&cell);
        }
    }

    /// Adds all things that may be within the radius of a place, and some that are not, in no particular order.
    pub fn near(&self, place: &Place, out: &mut Vec<u32>) {
        let [x, y, z] = self.cell_of(place);
        for i in x - 1..=x + 1 {
            for j in y - 1..=y + 1 {
                for k in z - 1..=z + 1 {
                    out.extend(self.cells.get(&[i, j, k]).into_iter().flatten());
                }
            }
        }
    }

    fn cell_of(&self, place: &Place) -> [i32; 3] {
        place.on_unit_sphere().map(|c| (c / self.cell).floor() as i32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_are_those_of_the_globe() {
        let place = |lat, lon| Place::new(lat, lon).unwrap();
        let quarter = EARTH_RADIUS_M * std::f64::consts::FRAC_PI_2;
        assert!((place(0.0, 0.0).distance_m(&place(0.0, 90.0)) - quarter).abs() < 1e-6);
        assert!((place(90.0, 0.0).distance_m(&place(-90.0, 77.0)) - 2.0 * quarter).abs() < 1e-6);
        assert!(place(10.0, 180.0).distance_m(&place(10.0, -180.0)) < 1e-6);
        assert!(place(90.0, 12.0).distance_m(&place(90.0, -120.0)) < 1e-6);
        // Paris to New York.
        let d = place(48.8566, 2.3522).distance_m(&place(40.7128, -74.0060));
        assert!((d - 5_837_000.0).abs() < 2_000.0, "{d}");
        assert_eq!(Place::new(f64::NAN, 0.0), None);
        assert_eq!(Place::new(90.1, 0.0), None);
        assert_eq!(Place::new(0.0, f64::INFINITY), None);
    }

    #[test]
    fn the_grid_misses_nobody() {
        let mut state = 7u64;
        let mut draw = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 11) as f64 / (1u64 << 53) as f64
        };
        for radius_m in [1.0, 2_000.0, 300_000.0, 9_000_000.0, 1e9] {
            let mut grid = Grid::new(radius_m);
            let spread = (radius_m / 100_000.0).min(180.0);
            let mut places = Vec::new();
            for n in 0..400 {
                // Crowds at a pole, on the date line, and in the middle.
                let (lat, lon) = match n % 3 {
                    0 => (90.0 - draw() * spread.min(90.0), draw() * 360.0 - 180.0),
                    1 => (draw() * spread / 2.0 - 20.0, 180.0 - draw() * spread),
                    _ => (draw() * spread / 2.0 - 20.0, -180.0 + draw() * spread),
                };
                let place = Place::new(lat, lon).unwrap();
                grid.insert(n, &place);
                places.push(place);
            }
            for a in &places {
                let mut near = Vec::new();
                grid.near(a, &mut near);
                near.sort_unstable();
                for (n, b) in places.iter().enumerate() {
                    assert!(a.distance_m(b) > radius_m || near.binary_search(&(n as u32)).is_ok(), "{a:?} {b:?}");
                }
            }
        }
    }
}
