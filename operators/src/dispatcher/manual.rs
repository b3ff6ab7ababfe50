//! What the manual says of `dispatch`.

use engine::catalogue::OptionDef;

use crate::options::option;

/// The page.
pub const DOC: &str = "\
A function of history. Drivers report what they do and orders come; at every multiple of `round_secs` of event time those
that wait on both sides are matched. A round sees all events up to and including its own time, and is held when an event
or the watermark shows that this time has passed. Of events at one time those of drivers come first, then orders, then
values. With `market` every combination of these columns, which all inputs have under the same names, is a market of its
own; markets run in parallel.

**Drivers** report `online` (with a place: they wait), `position` (with a place), `busy` (what they were sent to do, they
do), `free` (with a place: they have done it, or need not do it, and wait) and `offline`. Other words are given their
meaning by `driver_words`: `driver_words = { login = \"online\", logout = \"offline\" }`. A driver that is matched leaves the
pool until an event of its own says that it is free. **Orders** are `created`, and may be `cancelled` or `expired`
(`order_words`); an order that waits longer than `patience_secs` expires by itself: its last moment is that of its
creation and its patience. Once served (its driver reports `free` or `offline`, or it was cancelled) an order may be
created again.

**Candidates** of an order are the `nearest` idle drivers within `radius_m`, of equally near ones the least. **Weight** of
a pair: `c · (r + γ^(Δt / unit) · V(destination) − V(origin))` with c the probability that the passenger does not cancel,
r the reward, Δt the time to the pickup at `speed_m_per_sec` (if `counts_pickup`) and from there to the destination, V
what a place is worth. **Matching**: that of the greatest total weight, found apart for each connected component of the
graph of candidates; pairs whose weight is 0 or less are never matched. Weights count in millionths; of equally good
matchings the one counts that matches the least order with the least driver, and so on.

**Policies** are settings of this formula, every part of which can be set otherwise:

| `policy` | `completion` | `earned` | `far_sighted` | `discounting` | source |
|---|---|---|---|---|---|
| `nearest` | certain | nearness: 1000000 − distance in metres | false | - | as many matches as can be, of least total distance |
| `myopic` | exponential | fee | false | - | the greatest expected fees |
| `xu` | exponential | spread: Σ_{t<T} γ^t · r / T over the T units of the trip | true | continuous | Xu et al., KDD 2018; theirs has no c |
| `polar_bear` | exponential | fee | true | whole units, at least 1 | winner of KDD Cup 2020, dispatch: published code |
| `v1d3` | exponential | fee | true | continuous | Tang et al. 2021, arXiv 2105.08791; c is the winner's |

Exponential: cancelled with probability min(1, `cancel_first` · e^(`cancel_growth_per_m` · d)), d the distance in metres; the
defaults, 1 % at the door and 20 % at 2 km, are Polar Bear's, as are γ = 0.9 for 600 s. Curve: cancelled with the
`cancel_probability` of the same place in the list as the distance in `cancel_at_m`, in between linear, before the first and
beyond the last constant.

**Values** come as a stream with columns `cell` (string) and `value` (float64), such as `td_value` makes. A place's cell is
called by the columns of `driver_cell` (`destination_cell`) as text, joined by `|`. With `tile_size` the value of a place is
the mean of that cell and of five square tiles of shifted grids, called `~X,Y` (`~LON,LAT` on the globe) by their number
in tiles, rounded from the coordinates over `tile_size` plus 0.3 · (3, 1), (1, −3), (−3, −1), (−1, 3) and (0, 0). With `h3`,
on the globe, there are no keys: a place's cells are the H3 hexagons of the resolutions listed, as of `td_value`. A cell
not told of is worth `values_initial`.

**Views.** The step's own: for each order (`market`, `order`) the last decision: `driver`, `at`, the `weight` and its parts
`completion`, `reward`, `discount`, `value_destination`, `value_origin`, and `distance_m`. `matches`: the same as a stream, of
all decisions, with event time `at`. `waiting`: open orders, since when, until when and from where. `idle`: drivers in the
pool, since when and where. `rounds`: for each market how many rounds matched somebody, `orders` that came, were
`matched`, `expired` and `cancelled`, `mean_distance_m` to the pickup and `total_weight`. Decisions are kept for ever, or with
`keep_secs` until that much event time has passed and their order is no longer served: they go from the view and the state
with the next event of the market, whichever it is, that is later than `at` by more. `matches` keeps them all.

**Gauges**, over all markets: `thalweg_step_value` has `open_orders`, `idle_drivers`, `matches` so far, `answer_ratio` (matches
an order that came, so far) and `mean_pickup_m`, the mean distance to the pickup of all matches.

**Faults**, which change nothing: `null_driver`, `null_order`, `unknown_word`, `bad_place` (null, NaN or off the map),
`bad_cell` (null), `bad_reward` (null, NaN or beyond ±10⁹), `bad_duration` and `bad_patience` (null, NaN, negative or above
10⁹), `bad_value` (null, NaN or beyond ±10⁹), `driver_offline` (anything but `online` of a driver who is not), `not_matched`
(`busy` or `free` of a driver who was sent to no order), `duplicate_event` (`online`, `offline`, `busy` or `created` again),
`unknown_order` (the end of an order that neither waits nor is served).";

const NUMBER: &str = "column of int64 or float64";
const KEY: &str = "list of columns of string, int64 or bool";

/// The options.
pub const OPTIONS: &[OptionDef] = &[
    option("drivers", "relation", None, "The stream of drivers' events."),
    option("orders", "relation", None, "The stream of orders' events."),
    option("values_input", "relation", Some("none"), "The stream of values; needed if `far_sighted`."),
    option("values_initial", "float64", Some("0.0"), "What a cell is worth before it is told of."),
    option("market", "list of column names", Some("one market"), "What is dispatched for itself."),
    option("driver", "column name", None, "Which driver."),
    option("driver_event", "column of string", None, "What a driver reports."),
    option("driver_words", "table of strings", Some("the words above"), "From words to events."),
    option("driver_x", NUMBER, Some("none"), "Where a driver is, on the plane, in metres to the east."),
    option("driver_y", NUMBER, Some("none"), "To the north."),
    option("driver_lat", NUMBER, Some("none"), "Where a driver is, on the globe, in degrees."),
    option("driver_lon", NUMBER, Some("none"), "As above."),
    option("latitude", "float64", Some("none"), "On the globe: the latitude at which distances are true, in degrees."),
    option(
        "driver_cell",
        KEY,
        Some("none"),
        "The key of the cell where a driver is; needed if `far_sighted`, but for `h3`.",
    ),
    option("order", "column name", None, "Which order."),
    option("order_event", "column of string", None, "What happens to an order."),
    option("order_words", "table of strings", Some("the words above"), "From words to events."),
    option("pickup_x", NUMBER, Some("none"), "Where an order begins."),
    option("pickup_y", NUMBER, Some("none"), "As above."),
    option("pickup_lat", NUMBER, Some("none"), "As above, on the globe."),
    option("pickup_lon", NUMBER, Some("none"), "As above."),
    option("destination_x", NUMBER, Some("none"), "Where an order ends; needed with `tile_size` and with `h3`."),
    option("destination_y", NUMBER, Some("none"), "As above."),
    option("destination_lat", NUMBER, Some("none"), "As above, on the globe."),
    option("destination_lon", NUMBER, Some("none"), "As above."),
    option(
        "destination_cell",
        KEY,
        Some("none"),
        "The key of the cell where an order ends; needed if `far_sighted`, but for `h3`.",
    ),
    option("tile_size", "float64", Some("no tiles"), "The side of a tile, in degrees or metres; above 0."),
    option(
        "h3",
        "int64, or a list",
        Some("no hexagons"),
        "The resolutions of hexagons, from fine to coarse, at most six.",
    ),
    option("reward", NUMBER, Some("0; needed unless `earned` is `nearness`"), "What an order earns."),
    option("trip_secs", NUMBER, Some("0; needed if time counts"), "From pickup to destination, in seconds."),
    option("patience_secs", NUMBER, Some("for ever"), "How long an order waits, in seconds."),
    option("round_secs", "float64", Some("2.0"), "The event time between two rounds; above 0."),
    option("radius_m", "float64", Some("2000.0"), "How far a driver may be from the pickup; above 0."),
    option("nearest", "int64", Some("11"), "To how many drivers an order is offered."),
    option("speed_m_per_sec", "float64", Some("3.0"), "How fast a driver drives to the pickup; above 0."),
    option(
        "policy",
        "`nearest`, `myopic`, `xu`, `polar_bear` or `v1d3`",
        Some("v1d3"),
        "What counts, where nothing else is said.",
    ),
    option("completion", "`certain`, `exponential` or `curve`", Some("the policy's"), "Whether passengers cancel."),
    option("cancel_first", "float64", Some("0.01"), "The probability of that at the door."),
    option("cancel_growth_per_m", "float64", Some("ln 20 / 2000"), "Its growth with the distance."),
    option("cancel_at_m", "list of float64", Some("none"), "The distances of a curve, in metres, ascending from 0 on."),
    option(
        "cancel_probability",
        "list of float64",
        Some("none"),
        "The probabilities of a curve, from 0 to 1, as many.",
    ),
    option("earned", "`fee`, `spread` or `nearness`", Some("the policy's"), "What a match earns."),
    option("far_sighted", "bool", Some("the policy's"), "Whether values count."),
    option("gamma", "float64", Some("0.9"), "The discount γ of a unit of time, above 0 and at most 1."),
    option("discount_unit_secs", "float64", Some("600.0"), "The unit of time; above 0."),
    option("discounting", "`continuous` or `whole`", Some("the policy's"), "Whether parts of a unit count."),
    option(
        "keep_secs",
        "float64",
        Some("for ever"),
        "How long a decision that is over is kept, in event time; above 0.",
    ),
    option("counts_pickup", "bool", Some("true"), "Whether the time to the pickup counts in Δt."),
];

/// A pipeline with it.
pub const EXAMPLE: &str = "\
name = \"fleet\"

[sources.drivers]
type = \"file\"
path = \"drivers.csv\"
format = \"csv\"
columns = { at = \"timestamp\", driver = \"int64\", event = \"string\", lat = \"float64\", lon = \"float64\", zone = \"int64\" }
event_time = \"at\"

[sources.orders]
type = \"file\"
path = \"orders.csv\"
format = \"csv\"
columns = { at = \"timestamp\", order = \"int64\", event = \"string\", lat = \"float64\", lon = \"float64\", to_zone = \"int64\", fare = \"float64\", secs = \"float64\", patience = \"float64\" }
event_time = \"at\"

[sources.values]
type = \"file\"
path = \"values.csv\"
format = \"csv\"
columns = { at = \"timestamp\", cell = \"string\", value = \"float64\" }
event_time = \"at\"

[steps.matching]
operator = \"dispatch\"
drivers = \"drivers\"
orders = \"orders\"
values_input = \"values\"
driver = \"driver\"
driver_event = \"event\"
driver_lat = \"lat\"
driver_lon = \"lon\"
driver_cell = \"zone\"
latitude = 30.7
order = \"order\"
order_event = \"event\"
pickup_lat = \"lat\"
pickup_lon = \"lon\"
destination_cell = \"to_zone\"
reward = \"fare\"
trip_secs = \"secs\"
patience_secs = \"patience\"
policy = \"v1d3\"
";
