//! A plane of hexagons: which one a point is in, where its centre is, what lies around it.
//!
//! Pointy-top hexagons in axial coordinates, rounded in cube coordinates (the usual method, see A. Patel, "Hexagonal
//! grids", 2013). The published table of Chengdu has hexagons of about 0.97 km², a side of 610 m.

use operators::dispatch::candidates::Point;

/// The side of a hexagon, in metres.
pub const SIDE_M: f64 = 610.0;
/// From centre to neighbouring centre, in metres.
pub const PITCH_M: f64 = SIDE_M * SQRT_3;

const SQRT_3: f64 = 1.732_050_807_568_877_2;
const NEIGHBOURS: [(i32, i32); 6] = [(1, 0), (1, -1), (0, -1), (-1, 0), (-1, 1), (0, 1)];

/// A square of the plane, covered with hexagons that are numbered row by row.
#[derive(Clone, Debug)]
pub struct Hexagons {
    side_m: f64,
    rows: i32,
    columns: i32,
}

impl Hexagons {
    /// Covers [0, side] × [0, side] metres.
    pub fn new(side_m: f64) -> Hexagons {
        let rows = (side_m / (1.5 * SIDE_M)) as i32 + 2;
        let columns = (side_m / PITCH_M) as i32 + 3;
        Hexagons { side_m, rows, columns }
    }

    /// The side of the square, in metres.
    pub fn side_m(&self) -> f64 {
        self.side_m
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        (self.rows * self.columns) as usize
    }

    /// Whether there are none: never.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The hexagon a point is in. Points outside the square count as at its edge.
    pub fn at(&self, point: &Point) -> u32 {
        let (x, y) = (point.x.clamp(0.0, self.side_m), point.y.clamp(0.0, self.side_m));
        let r = 2.0 / 3.0 * y / SIDE_M;
        let q = x / PITCH_M - r / 2.0;
        let (mut whole_q, mut whole_r) = (q.round(), r.round());
        let whole_s = (-q - r).round();
        let (off_q, off_r, off_s) = ((whole_q - q).abs(), (whole_r - r).abs(), (whole_s + q + r).abs());
        if off_q > off_r && off_q > off_s {
            whole_q = -whole_r - whole_s;
        } else if off_r > off_s {
            whole_r = -whole_q - whole_s;
        }
        self.number(whole_q as i32, whole_r as i32).expect("the square is covered")
    }

    /// The centre of a hexagon, moved into the square if it lies outside.
    pub fn centre(&self, hexagon: u32) -> Point {
        let (q, r) = self.axial(hexagon);
        let x = PITCH_M * (f64::from(q) + f64::from(r) / 2.0);
        let y = 1.5 * SIDE_M * f64::from(r);
        Point { x: x.clamp(0.0, self.side_m), y: y.clamp(0.0, self.side_m) }
    }

    /// The hexagons at most `rings` steps away, the hexagon itself first, the others by number.
    pub fn around(&self, hexagon: u32, rings: i32) -> Vec<u32> {
        let (q, r) = self.axial(hexagon);
        let mut out = Vec::new();
        for dq in -rings..=rings {
            for dr in (-rings).max(-dq - rings)..=rings.min(-dq + rings) {
                if (dq, dr) != (0, 0) {
                    out.extend(self.number(q + dq, r + dr));
                }
            }
        }
        out.sort_unstable();
        out.insert(0, hexagon);
        out
    }

    /// The neighbours of a hexagon, by number.
    pub fn neighbours(&self, hexagon: u32) -> Vec<u32> {
        let (q, r) = self.axial(hexagon);
        let mut out: Vec<u32> = NEIGHBOURS.iter().filter_map(|(dq, dr)| self.number(q + dq, r + dr)).collect();
        out.sort_unstable();
        out
    }

    fn axial(&self, hexagon: u32) -> (i32, i32) {
        let (row, column) = (hexagon as i32 / self.columns, hexagon as i32 % self.columns);
        (column - 1 - row.div_euclid(2), row)
    }

    fn number(&self, q: i32, r: i32) -> Option<u32> {
        let column = q + r.div_euclid(2) + 1;
        let is_inside = (0..self.rows).contains(&r) && (0..self.columns).contains(&column);
        is_inside.then(|| (r * self.columns + column) as u32)
    }
}
