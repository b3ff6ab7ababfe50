//! What the manual says of `reposition`.

use engine::catalogue::OptionDef;

use crate::options::option;

/// The page.
pub const DOC: &str = "\
A function of history. Drivers report what they do, as to `dispatch`; at every multiple of `every_secs` of event time
each driver that has been idle for `idle_secs` or longer is sent to a cell, perhaps the one where it is. Afterwards it
must have reported something (`position` will do), and have been idle for as long again, before it is sent on: so a
record that ends has no moves without end. A round sees all events up to and including its own time; of events at one
time those of cells come first, then drivers, then values. Drivers of one round are sent in the order of their ids.

**Cells** come as a stream, one event for each that says where its middle is (and `cell_demand`, how many orders are
expected there in the time one driver takes to be asked again); a later event of the same cell replaces it. They are a
stream, not a file beside the pipeline or a grid by arithmetic, so that any shape of cells will do, that what they were
is recorded with all else, and that demand may follow the day. **Candidates** of a driver are the `nearest` cells whose
middle is within `reach_m` (18: two rings of hexagons), of equally near ones the least name first, and its own cell. With
`h3` a cell is the finest hexagon of its place, there is no key, and candidates are the cells told of that are within
`rings` steps from hexagon to hexagon; how far they are is told by their places.

**Draw** (V1D3, Tang et al. 2021, arXiv 2105.08791): cell k with probability proportional to
`exp(γ^(Δt_k / unit) · V(k) / temperature)`, Δt_k the time to its middle at `speed_m_per_sec`, 0 for the driver's own cell.
The paper has no temperature, which is 1 in units of the reward. The number drawn is a function of (`seed`, market,
driver, time). With `fleet_aware` (not of the paper) V(k) counts as V(k) · demand / (demand + supply), where supply are
the idle drivers in the cell or sent there, and the one who is asked: so that a large fleet does not herd.

**Values**, `driver_cell`, `tile_size` and `h3` are those of `dispatch`: a cell's name is its key as text, joined by `|`.

**Views.** The step's own: for each driver (`market`, `driver`) that is online where it was sent last: `at`, `cell`,
`from_cell`, the `probability` with which it was drawn, the `value` and `discount` of the place and its `distance_m`.
`moves`: the same as a stream, of all moves, with event time `at`.

**Gauges**, over all markets: `thalweg_step_value` has `moves`, how many were decided since the process began, and
`stay_ratio`, of the drivers in the view the part that was sent to where it was.

**Faults**, which change nothing: `null_driver`, `unknown_word`, `bad_place` (null, NaN or off the map), `bad_cell` (null),
`bad_demand` (null, NaN, negative or above 10⁹), `bad_value` (null, NaN or beyond ±10⁹), `driver_offline` (anything but
`online` of a driver who is not), `duplicate_event` (`online`, `offline`, `busy` or `free` again).";

const NUMBER: &str = "column of int64 or float64";
const KEY: &str = "list of columns of string, int64 or bool";

/// The options.
pub const OPTIONS: &[OptionDef] = &[
    option("cells", "relation", None, "The stream of cells."),
    option("drivers", "relation", None, "The stream of drivers' events."),
    option("values_input", "relation", None, "The stream of values."),
    option("values_initial", "float64", Some("0.0"), "What a cell is worth before it is told of."),
    option("market", "list of column names", Some("one market"), "What is decided for itself."),
    option("cell", KEY, Some("needed without `h3`"), "The key of a cell."),
    option("cell_x", NUMBER, Some("none"), "The middle of a cell, on the plane, in metres to the east."),
    option("cell_y", NUMBER, Some("none"), "To the north."),
    option("cell_lat", NUMBER, Some("none"), "The middle of a cell, on the globe, in degrees."),
    option("cell_lon", NUMBER, Some("none"), "As above."),
    option("cell_demand", NUMBER, Some("0; needed if `fleet_aware`"), "How many orders are expected there."),
    option("driver", "column name", None, "Which driver."),
    option("driver_event", "column of string", None, "What a driver reports."),
    option("driver_words", "table of strings", Some("the words of `dispatch`"), "From words to events."),
    option("driver_x", NUMBER, Some("none"), "Where a driver is, on the plane, in metres to the east."),
    option("driver_y", NUMBER, Some("none"), "To the north."),
    option("driver_lat", NUMBER, Some("none"), "Where a driver is, on the globe, in degrees."),
    option("driver_lon", NUMBER, Some("none"), "As above."),
    option("latitude", "float64", Some("none"), "On the globe: the latitude at which distances are true, in degrees."),
    option("driver_cell", KEY, Some("needed without `h3`"), "The key of the cell where a driver is."),
    option("tile_size", "float64", Some("no tiles"), "The side of a tile, in degrees or metres; above 0."),
    option(
        "h3",
        "int64, or a list",
        Some("no hexagons"),
        "The resolutions of hexagons, from fine to coarse, at most six.",
    ),
    option("rings", "int64", Some("2"), "With `h3`: how many hexagons away a driver may be sent; at most 50."),
    option("every_secs", "float64", Some("2.0"), "The event time between two rounds; above 0."),
    option("idle_secs", "float64", Some("300.0"), "How long a driver has been idle when it is sent."),
    option("reach_m", "float64", Some("2100.0"), "How far it may be sent; above 0."),
    option("nearest", "int64", Some("18"), "To how many cells but its own it may be sent."),
    option("speed_m_per_sec", "float64", Some("3.0"), "How fast it drives; above 0."),
    option("gamma", "float64", Some("0.9"), "The discount γ of a unit of time, above 0 and at most 1."),
    option("discount_unit_secs", "float64", Some("600.0"), "The unit of time; above 0."),
    option("temperature", "float64", Some("1.0"), "By how much more a place must be worth to be e times as likely."),
    option("fleet_aware", "bool", Some("false"), "Whether supply lowers the value."),
    option("seed", "int64", Some("0"), "What the numbers drawn are of."),
];

/// A pipeline with it.
pub const EXAMPLE: &str = "\
name = \"waiting\"

[sources.cells]
type = \"file\"
path = \"cells.csv\"
format = \"csv\"
columns = { at = \"timestamp\", zone = \"int64\", lat = \"float64\", lon = \"float64\", demand = \"float64\" }
event_time = \"at\"

[sources.drivers]
type = \"file\"
path = \"drivers.csv\"
format = \"csv\"
columns = { at = \"timestamp\", driver = \"int64\", event = \"string\", lat = \"float64\", lon = \"float64\", zone = \"int64\" }
event_time = \"at\"

[sources.values]
type = \"file\"
path = \"values.csv\"
format = \"csv\"
columns = { at = \"timestamp\", cell = \"string\", value = \"float64\" }
event_time = \"at\"

[steps.waiting_places]
operator = \"reposition\"
cells = \"cells\"
cell = \"zone\"
cell_lat = \"lat\"
cell_lon = \"lon\"
cell_demand = \"demand\"
drivers = \"drivers\"
driver = \"driver\"
driver_event = \"event\"
driver_lat = \"lat\"
driver_lon = \"lon\"
driver_cell = \"zone\"
latitude = 30.7
values_input = \"values\"
fleet_aware = true
temperature = 0.5
";
