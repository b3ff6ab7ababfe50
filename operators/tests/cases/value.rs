//! The cases of `td_value`: keys, tiles and hexagons, with change points and drawn to offline functions.

use operators::td_value::Grid;
use operators::td_value::artefact::{Artefact, fits};

use super::*;

/// A value function as a pipeline file says it.
fn learning(name: &'static str, ty: Type, options: &str) -> Case {
    fn cell(random: &mut Random, schema: &Schema, column: usize) -> Value {
        match (schema.columns[column].name.as_str(), random.below(12)) {
            ("secs" | "reward", 1..) => Value::Float(random.below(100) as f64 / 8.0),
            ("secs", 0) => Value::Float(random.of(&[f64::NAN, -1.0, 1e9, f64::INFINITY, 0.0])),
            ("reward", 0) => Value::Float(random.of(&[f64::NAN, f64::MAX, f64::MIN, f64::NEG_INFINITY])),
            ("x" | "y" | "x2" | "y2", 1..) => Value::Float(random.below(30) as f64 / 7.0 - 2.0),
            _ => any_cell(random, schema, column),
        }
    }
    let columns = [
        ("from", ty),
        ("to", ty),
        ("reward", Type::Float64),
        ("secs", Type::Float64),
        ("at", Type::Timestamp),
        ("name", Type::String),
        ("ok", Type::Bool),
        ("from2", Type::String),
        ("to2", Type::String),
        ("x", Type::Float64),
        ("y", Type::Float64),
        ("x2", Type::Float64),
        ("y2", Type::Float64),
    ];
    let mut schema = schema(&columns, &[], true);
    schema.columns[4].nullable = false;
    let rates = "reward = \"reward\"\ngamma = 0.9\ninitial = 1.0\nduration_unit_secs = 2.0";
    let mut text = format!("input = \"a\"\n{rates}\n");
    let is_hexagonal = options.contains("h3 =");
    for (option, default) in [("alpha", "0.3"), ("state", "\"from\""), ("next_state", "\"to\"")] {
        if is_hexagonal && option != "alpha" {
            continue;
        }
        if !options.lines().any(|l| l.starts_with(&format!("{option} ="))) {
            text += &format!("{option} = {default}\n");
        }
    }
    /// Degrees, few of them near, some nowhere; and ends of episodes.
    fn degrees(random: &mut Random, schema: &Schema, column: usize) -> Value {
        match (schema.columns[column].name.as_str(), random.below(24)) {
            ("x2" | "y2", ..8) => Value::Null,
            ("x" | "y" | "x2" | "y2", 8) => Value::Float(random.of(&[91.0, -90.5, 180.5, f64::NAN, f64::INFINITY])),
            ("x" | "y" | "x2" | "y2", 9) => Value::Float(random.of(&[90.0, -90.0, 0.0])),
            ("x" | "y" | "x2" | "y2", _) => Value::Float(random.below(6) as f64 * 0.7 - 2.0),
            _ => cell(random, schema, column),
        }
    }
    let step = planned("td_value", &(text + options), &[&schema]);
    let cell = if is_hexagonal { degrees } else { cell };
    Case { name, step, inputs: vec![InputShape { schema, cell }] }
}

const BY_NAME: &str = "partition = [\"name\", \"ok\"]\n";
const TOLD: &str = "errors = true\nchanges = true\n";
const LASTING: &str = "duration = \"secs\"\n";
const TWO: &str = "state = [\"from\", \"from2\"]\nnext_state = [\"to\", \"to2\"]\n";
const HEXAGONAL: &str = "h3 = [4, 2, 0]\nplace = [\"x\", \"y\"]\nnext_place = [\"x2\", \"y2\"]\n";
const TILED: &str = "tile_size = 1\nplace = [\"x\", \"y\"]\nnext_place = [\"x2\", \"y2\"]\n";

/// Events of epoch n have times from n to n + 0.02 ms after midnight.
const MOVED: &str = "change_points = [{ times = [\"00:00:00.001010\", \"00:00:00.002\", \"00:00:00.003500\"], keep = 0.25 }, \
     { times = [\"08:00:00.000005\", \"08:00:00.002\", \"08:00:00.005001\"], keep = 0, days = [\"mon\", \"thu\", \"1970-01-02\"] }, \
     { times = [\"00:00:00.002012\"], keep = 0.5, days = \"fri\" }]\n";

#[test]
fn td_value() {
    check(&learning("td by int", Type::Int64, LASTING), 0..60);
    check(&learning("td by string", Type::String, ""), 0..40);
    check(&learning("td by partition", Type::Int64, &format!("{LASTING}{BY_NAME}")), 0..40);
    check(&learning("td told", Type::Int64, &format!("{LASTING}{TOLD}")), 0..40);
    check(&learning("td told by partition", Type::Int64, &format!("{LASTING}{TOLD}{BY_NAME}")), 0..40);
    check(&learning("td by two", Type::Int64, &format!("{TWO}{TOLD}{BY_NAME}")), 0..40);
    check(&learning("td by floats", Type::Float64, TOLD), 0..20);
    let falling = format!("alpha = 1\nalpha_power = 0.7\nalpha_least = 0.2\n{TOLD}");
    check(&learning("td with falling steps", Type::Int64, &falling), 0..40);
}

#[test]
fn td_value_of_tiles() {
    check(&learning("td of tiles", Type::Int64, &format!("{LASTING}{TILED}")), 0..40);
    check(&learning("td of tiles told", Type::String, &format!("{TILED}{TOLD}{BY_NAME}")), 0..40);
    check(&learning("td of tiles by two", Type::Int64, &format!("{TILED}{TWO}{TOLD}")), 0..30);
}

#[test]
fn td_value_of_hexagons() {
    check(&learning("td of hexagons", Type::Int64, &format!("{LASTING}{HEXAGONAL}")), 0..40);
    check(&learning("td of hexagons told", Type::Int64, &format!("{HEXAGONAL}{TOLD}{BY_NAME}")), 0..40);
    check(&learning("td of hexagons moved", Type::Int64, &format!("{HEXAGONAL}{MOVED}{TOLD}{BY_NAME}")), 0..40);
    let alone = HEXAGONAL.replace("[4, 2, 0]", "3");
    check(&learning("td of one hexagon", Type::Int64, &format!("{alone}{MOVED}{TOLD}")), 0..30);
}

#[test]
fn td_value_with_change_points() {
    check(&learning("td moved", Type::Int64, &format!("{LASTING}{MOVED}utc_offset = \"+00:00\"\n")), 0..60);
    check(&learning("td moved and told", Type::Int64, &format!("{MOVED}{TOLD}utc_offset = \"+08:00\"\n")), 0..40);
    check(&learning("td moved by partition", Type::String, &format!("{MOVED}{TOLD}{BY_NAME}")), 0..60);
    check(&learning("td of tiles moved", Type::Int64, &format!("{MOVED}{TILED}{TOLD}{BY_NAME}")), 0..40);
}

#[test]
fn td_value_drawn_to_an_offline_function() {
    let folder = tempfile::tempdir().unwrap();
    let drawn = |name, ty, grid: Option<Grid>, names: &[&str], options: &str| {
        let mut names: Vec<String> = names.iter().map(|n| (*n).to_owned()).collect();
        names.sort();
        let values: Vec<f64> =
            (0..3 * names.len()).map(|i| if i % 5 == 3 { f64::NAN } else { i as f64 * 1.75 - 4.0 }).collect();
        let artefact =
            Artefact { fits: fits(grid, 0.9, 2.0), made: String::new(), slot: 1_500, slots: 3, names, values };
        let path = folder.path().join(name);
        std::fs::write(&path, artefact.bytes()).unwrap();
        let points = "change_points = [{ times = [\"00:00:00.001010\", \"00:00:00.002\", \"00:00:00.003018\"], keep = 0.2, \
             to = \"offline\" }, { times = \"00:00:00.003018\", keep = 0.5 }]\n";
        let options = format!("{options}{points}{TOLD}offline = {:?}\n", path.display().to_string());
        check(&learning(name, ty, &options), 0..40);
    };
    let ints = ["-1", "0", "1", "3", "77"];
    drawn("td drawn", Type::Int64, None, &ints, LASTING);
    drawn("td drawn by partition", Type::Int64, None, &ints, BY_NAME);
    drawn("td drawn by string", Type::String, None, &["", "a", "b", "zz", "no"], "");
    drawn("td drawn by two", Type::Int64, None, &["1|a", "2|b", "0|"], TWO);
    let tiles = ["0", "1", "2", "~0,0", "~1,0", "~0,1", "~-1,2", "~9,9"];
    let hexagon = |resolution: u8, latitude: f64, longitude: f64| {
        let place = h3o::LatLng::new(latitude, longitude).unwrap();
        place.to_cell(h3o::Resolution::try_from(resolution).unwrap()).to_string()
    };
    let hexagons = [
        hexagon(4, -2.0, -2.0),
        hexagon(4, 0.1, 0.8),
        hexagon(2, -2.0, -2.0),
        hexagon(0, 0.1, 0.1),
        hexagon(0, 80.0, 0.0),
    ];
    let hexagons = hexagons.each_ref().map(String::as_str);
    drawn("td drawn of hexagons", Type::Int64, Grid::h3(&[4, 2, 0]), &hexagons, &format!("{HEXAGONAL}{BY_NAME}"));
    drawn("td drawn of tiles", Type::Int64, Some(Grid::Tiles(1.0)), &tiles, &format!("{TILED}{BY_NAME}"));
}
