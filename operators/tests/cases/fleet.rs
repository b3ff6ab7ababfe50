//! The cases of `dispatch` and `reposition`: a small fleet, in which everything meets.

use super::*;

/// The events of a small fleet: few drivers, orders, places and cells, so that everything meets.
fn fleet_cell(random: &mut Random, schema: &Schema, column: usize) -> Value {
    let odd = random.below(16);
    match (schema.columns[column].name.as_str(), odd) {
        ("at", _) => any_cell(random, schema, column),
        ("city", _) => Value::Int(random.below(2) as i64),
        ("driver" | "order" | "event" | "cell" | "zone" | "x", 0) => Value::Null,
        ("driver" | "order", _) => Value::Int(random.below(4) as i64),
        ("event", 1) => Value::Str("?".to_owned()),
        ("event", _) if schema.index_of("order").is_some() => {
            Value::Str(random.of(&["created", "created", "created", "created", "cancelled", "expired"]).to_owned())
        }
        ("event", _) => Value::Str(random.of(&["online", "online", "free", "busy", "offline", "position"]).to_owned()),
        ("zone", _) => Value::Int(random.below(4) as i64),
        ("cell", _) => Value::Str(random.of(&["0", "1", "2", "3", "~0,0", "~1,0", "~0,1"]).to_owned()),
        ("x" | "y", _) => Value::Float(random.of(&[0.0, 0.0, 50.0, 100.0, 350.0])),
        ("reward" | "value" | "demand", 0) => Value::Float(random.of(&[f64::NAN, f64::INFINITY, 1e308, -1e9, -1e308])),
        ("reward" | "value", _) => Value::Float(random.of(&[0.0, 1.0, 1.0, 2.5, 4.0, -1.0])),
        ("demand", _) => Value::Float(random.of(&[0.0, 1.0, 3.0])),
        (_, 0) => Value::Float(random.of(&[f64::NAN, -1.0, f64::INFINITY, 1e10])),
        ("patience", _) => Value::Float(random.of(&[0.0, 0.000_003, 0.000_01, 0.000_2])),
        (_, _) => Value::Float(random.of(&[0.0, 100.0, 700.0])),
    }
}

/// As [`fleet_cell`], on the globe: places in few hexagons, or nowhere, and values of their cells.
fn globe_cell(random: &mut Random, schema: &Schema, column: usize) -> Value {
    let degrees = |random: &mut Random| random.of(&[0.0, 0.0, 0.01, 0.02, 0.05, 0.5]);
    match (schema.columns[column].name.as_str(), random.below(16)) {
        ("lat" | "lon", 0) => {
            random.of(&[Value::Null, Value::Float(f64::NAN), Value::Float(91.0), Value::Float(-180.5)])
        }
        ("lat" | "lon", _) => Value::Float(degrees(random)),
        ("cell", 1..) => {
            let resolution = random.of(&[h3o::Resolution::Seven, h3o::Resolution::Six, h3o::Resolution::Four]);
            let place = h3o::LatLng::new(degrees(random), degrees(random)).unwrap();
            Value::Str(place.to_cell(resolution).to_string())
        }
        _ => fleet_cell(random, schema, column),
    }
}

/// A case whose streams have `lat` and `lon` for `x` and `y`.
fn globe(name: &'static str, operator: &str, options: &str, streams: &[&[(&'static str, Type)]]) -> Case {
    let degrees = |(name, ty): &(&'static str, Type)| match *name {
        "x" => ("lat", *ty),
        "y" => ("lon", *ty),
        other => (other, *ty),
    };
    let streams: Vec<Vec<(&str, Type)>> = streams.iter().map(|columns| columns.iter().map(degrees).collect()).collect();
    let streams: Vec<&[(&str, Type)]> = streams.iter().map(Vec::as_slice).collect();
    let mut case = fleet(name, operator, options, &streams);
    case.inputs.iter_mut().for_each(|input| input.cell = globe_cell);
    case
}

/// A step over the streams of a fleet; which of them it reads it says itself.
fn fleet(name: &'static str, operator: &str, options: &str, streams: &[&[(&str, Type)]]) -> Case {
    let mut schemas: Vec<Schema> = streams.iter().map(|columns| schema(columns, &[], true)).collect();
    for schema in &mut schemas {
        let time = schema.event_time.expect("a stream");
        schema.columns[time].nullable = false;
    }
    let step = planned(operator, options, &schemas.iter().collect::<Vec<_>>());
    Case { name, step, inputs: schemas.into_iter().map(|schema| InputShape { schema, cell: fleet_cell }).collect() }
}

const FLEET_DRIVERS: &[(&str, Type)] = &[
    ("at", Type::Timestamp),
    ("city", Type::Int64),
    ("driver", Type::Int64),
    ("event", Type::String),
    ("x", Type::Float64),
    ("y", Type::Float64),
    ("zone", Type::Int64),
];
const FLEET_ORDERS: &[(&str, Type)] = &[
    ("at", Type::Timestamp),
    ("city", Type::Int64),
    ("order", Type::Int64),
    ("event", Type::String),
    ("x", Type::Float64),
    ("y", Type::Float64),
    ("zone", Type::Int64),
    ("reward", Type::Float64),
    ("secs", Type::Float64),
    ("patience", Type::Float64),
];
const FLEET_VALUES: &[(&str, Type)] =
    &[("at", Type::Timestamp), ("city", Type::Int64), ("cell", Type::String), ("value", Type::Float64)];
const FLEET_CELLS: &[(&str, Type)] = &[
    ("at", Type::Timestamp),
    ("city", Type::Int64),
    ("zone", Type::Int64),
    ("x", Type::Float64),
    ("y", Type::Float64),
    ("demand", Type::Float64),
];

#[test]
fn dispatch() {
    let all = "drivers = \"a\"\norders = \"b\"\ndriver = \"driver\"\ndriver_event = \"event\"\ndriver_x = \"x\"\n\
         driver_y = \"y\"\norder = \"order\"\norder_event = \"event\"\npickup_x = \"x\"\npickup_y = \"y\"\n\
         round_secs = 0.000004\nradius_m = 300.0\npatience_secs = \"patience\"\n";
    let valued = "values_input = \"c\"\ndriver_cell = \"zone\"\ndestination_cell = [\"zone\"]\n\
         reward = \"reward\"\ntrip_secs = \"secs\"\n";
    let near_sighted = |name, options: &str| {
        let options = format!("{all}{options}");
        check(&fleet(name, "dispatch", &options, &[FLEET_DRIVERS, FLEET_ORDERS]), 0..25);
    };
    let far_sighted = |name, options: &str| {
        let options = format!("{all}{valued}{options}");
        check(&fleet(name, "dispatch", &options, &[FLEET_DRIVERS, FLEET_ORDERS, FLEET_VALUES]), 0..25);
    };
    near_sighted("dispatch to the nearest", "policy = \"nearest\"");
    near_sighted("dispatch by fees", "policy = \"myopic\"\nreward = \"reward\"\nnearest = 2");
    far_sighted("dispatch by v1d3", "");
    far_sighted("dispatch by xu", "policy = \"xu\"\nnearest = 1");
    far_sighted(
        "dispatch by tiles",
        "policy = \"polar_bear\"\ntile_size = 100.0\ndestination_x = \"x\"\ndestination_y = \"y\"\nvalues_initial = 0.5",
    );
    far_sighted("dispatch by cities", "market = \"city\"");
    near_sighted("dispatch that forgets at once", "policy = \"nearest\"\nkeep_secs = 0.000001");
    far_sighted("dispatch that forgets", "market = \"city\"\nkeep_secs = 0.00002");
    let hexagonal = |name, options: &str| {
        let options = format!(
            "drivers = \"a\"\norders = \"b\"\nvalues_input = \"c\"\ndriver = \"driver\"\ndriver_event = \"event\"\n\
             driver_lat = \"lat\"\ndriver_lon = \"lon\"\norder = \"order\"\norder_event = \"event\"\n\
             pickup_lat = \"lat\"\npickup_lon = \"lon\"\ndestination_lat = \"lat\"\ndestination_lon = \"lon\"\n\
             latitude = 0.0\nreward = \"reward\"\ntrip_secs = \"secs\"\npatience_secs = \"patience\"\n\
             round_secs = 0.000004\nradius_m = 3000.0\n{options}"
        );
        check(&globe(name, "dispatch", &options, &[FLEET_DRIVERS, FLEET_ORDERS, FLEET_VALUES]), 0..25);
    };
    hexagonal("dispatch by hexagons", "h3 = [7, 6, 4]\nvalues_initial = 0.5");
    hexagonal("dispatch by hexagons of cities", "h3 = 7\nmarket = \"city\"");
    near_sighted(
        "dispatch by a curve",
        "policy = \"myopic\"\nreward = \"reward\"\ncompletion = \"curve\"\ncancel_at_m = [10, 60.0, 350]\n\
         cancel_probability = [0.0, 0.25, 1]",
    );
}

#[test]
fn reposition() {
    let all = "cells = \"a\"\ndrivers = \"b\"\nvalues_input = \"c\"\ncell = \"zone\"\ncell_x = \"x\"\ncell_y = \"y\"\n\
         cell_demand = \"demand\"\ndriver = \"driver\"\ndriver_event = \"event\"\ndriver_x = \"x\"\ndriver_y = \"y\"\n\
         driver_cell = \"zone\"\nevery_secs = 0.000004\nidle_secs = 0.00001\nreach_m = 300.0\n";
    let moving = |name, options: &str| {
        let options = format!("{all}{options}");
        check(&fleet(name, "reposition", &options, &[FLEET_CELLS, FLEET_DRIVERS, FLEET_VALUES]), 0..25);
    };
    moving("reposition", "");
    moving("reposition of an aware fleet", "fleet_aware = true\ntemperature = 0.3\nseed = 7\nnearest = 2");
    moving("reposition by tiles", "tile_size = 100.0\nvalues_initial = 0.5");
    moving("reposition by cities", "market = [\"city\"]");
    let hexagonal = |name, options: &str| {
        let options = format!(
            "cells = \"a\"\ndrivers = \"b\"\nvalues_input = \"c\"\ncell_lat = \"lat\"\ncell_lon = \"lon\"\nlatitude = 0.0\n\
             cell_demand = \"demand\"\ndriver = \"driver\"\ndriver_event = \"event\"\ndriver_lat = \"lat\"\n\
             driver_lon = \"lon\"\nevery_secs = 0.000004\nidle_secs = 0.00001\n{options}"
        );
        check(&globe(name, "reposition", &options, &[FLEET_CELLS, FLEET_DRIVERS, FLEET_VALUES]), 0..25);
    };
    hexagonal("reposition by hexagons", "h3 = [7, 6, 4]\nvalues_initial = 0.5");
    hexagonal(
        "reposition by near hexagons of an aware fleet",
        "h3 = [7, 6]\nrings = 1\nfleet_aware = true\nmarket = \"city\"",
    );
}
