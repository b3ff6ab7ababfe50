//! Which idle drivers may serve an order: the k nearest within a radius.
//!
//! Places are on a plane, in metres: a city is small enough ([`Point::of_degrees`] projects). Drivers stand in square
//! buckets of the radius, so that whoever is near is in one of nine.

use std::cmp::Ordering;

use hashbrown::HashMap;
use rustc_hash::FxBuildHasher;

/// Metres a degree of latitude, on a sphere of the earth's mean radius.
const DEGREE_M: f64 = 111_195.080_233_532_9;

/// A point of the plane, in metres.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Point {
    /// Metres to the east.
    pub x: f64,
    /// Metres to the north.
    pub y: f64,
}

impl Point {
    /// A place on the globe, seen from a latitude near it (equirectangular). 50 km from there distances are wrong by less
    /// than 1 % at latitudes below 45°.
    pub fn of_degrees(latitude: f64, longitude: f64, seen_from_latitude: f64) -> Point {
        Point { x: longitude * DEGREE_M * libm::cos(seen_from_latitude.to_radians()), y: latitude * DEGREE_M }
    }

    /// How far it is, in metres.
    pub fn distance_m(&self, other: &Point) -> f64 {
        let (x, y) = (self.x - other.x, self.y - other.y);
        (x * x + y * y).sqrt()
    }
}

/// A driver near an order.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Candidate {
    /// How far it is, in metres.
    pub distance_m: f64,
    /// Who.
    pub driver: u32,
}

impl Candidate {
    /// Nearest first; of equally near ones the least number.
    fn order(&self, other: &Candidate) -> Ordering {
        self.distance_m.total_cmp(&other.distance_m).then(self.driver.cmp(&other.driver))
    }
}

/// Drivers by where they are. Drivers are numbers whose order is that of their ids.
#[derive(Clone, Debug)]
pub struct Idle {
    radius_m: f64,
    buckets: HashMap<(i32, i32), Vec<(u32, Point)>, FxBuildHasher>,
    len: usize,
}

impl Idle {
    /// Nobody is anywhere. The radius is above 0.
    pub fn new(radius_m: f64) -> Idle {
        Idle { radius_m, buckets: HashMap::default(), len: 0 }
    }

    /// A driver is there. It must not be here already.
    pub fn insert(&mut self, driver: u32, at: Point) {
        let bucket = self.bucket(&at);
        self.buckets.entry(bucket).or_default().push((driver, at));
        self.len += 1;
    }

    /// A driver who was inserted at this point is gone. Whether it was there.
    pub fn remove(&mut self, driver: u32, at: Point) -> bool {
        let bucket = self.bucket(&at);
        let Some(members) = self.buckets.get_mut(&bucket) else { return false };
        let Some(found) = members.iter().position(|(other, _)| *other == driver) else { return false };
        members.swap_remove(found);
        self.len -= 1;
        true
    }

    /// How many drivers there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The `count` nearest drivers within the radius, nearest first, of equally near ones the least number first. How
    /// many are within the radius at all.
    pub fn nearest(&self, at: &Point, count: usize, out: &mut Vec<Candidate>) -> usize {
        out.clear();
        let mut within = 0;
        self.each_within(at, |candidate| {
            within += 1;
            if out.len() == count {
                if out.last().is_none_or(|last| candidate.order(last) != Ordering::Less) {
                    return;
                }
                out.pop();
            }
            let place = out.partition_point(|other| other.order(&candidate) == Ordering::Less);
            out.insert(place, candidate);
        });
        within
    }

    /// All drivers within the radius, in no particular order.
    pub fn each_within(&self, at: &Point, mut each: impl FnMut(Candidate)) {
        let (x, y) = self.bucket(at);
        let radius_squared = self.radius_m * self.radius_m;
        for bucket_x in x.saturating_sub(1)..=x.saturating_add(1) {
            for bucket_y in y.saturating_sub(1)..=y.saturating_add(1) {
                let Some(members) = self.buckets.get(&(bucket_x, bucket_y)) else { continue };
                for (driver, there) in members {
                    let (dx, dy) = (there.x - at.x, there.y - at.y);
                    let squared = dx * dx + dy * dy;
                    if squared <= radius_squared {
                        each(Candidate { distance_m: squared.sqrt(), driver: *driver });
                    }
                }
            }
        }
    }

    fn bucket(&self, at: &Point) -> (i32, i32) {
        // Saturates: what is that far away is near nobody.
        let side = |v: f64| libm::floor(v / self.radius_m) as i32;
        (side(at.x), side(at.y))
    }
}
