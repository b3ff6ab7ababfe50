//! What the manual says of `td_value`.

use engine::catalogue::OptionDef;

pub const DOC: &str = "\
A function of history: each transition from `state` to `next_state` with `reward`, in the order of event time, moves
the value of its state by

    V(s) ← V(s) + α · (r + γ^(Δt / unit) · V(s′) − V(s))

where Δt is `duration` in seconds (without it the exponent is 1). A null `next_state` ends the episode: its value is 0.
A state never left before has the value `initial`. With Δt this is the update of a semi-Markov process, as in
R. Sutton and A. Barto, *Reinforcement Learning*, 2nd ed., section 6.1; Bradtke and Duff 1994.

**States** are the values of one column or of several. With `tile_size` a state is a place as well, and its value the mean
of six cells: that of its key, and the five square tiles of shifted grids that hold its coordinates; an error moves all
six. This is the coding of the winner of the KDD Cup 2020 dispatch track (team Polar Bear).

With `h3` a state is a place on the globe alone, `place` and `next_place` are its latitude and longitude, and its value is the
mean of hexagons of H3 of the resolutions listed, from fine to coarse, say `h3 = [8, 7, 6]`: the finest holds the place, the
others are its parents, and an error moves all of them. So where little was learned the coarse ones speak. Where both
coordinates of `next_place` are null the episode ends. A hexagon's name is its H3 number, as in `87283472bffffff`.

**Steps** are `alpha`, or with `alpha_power` fall with the visits n of the state (of its key's cell):
max(alpha / (1 + n)^power, alpha_least). With alpha 1 and power 1 a value is the mean of its targets; powers above 1/2 and
at most 1 meet the conditions of Robbins and Monro (1951).

**Change points.** At given local times of day the whole table moves, V ← keep · V + (1 − keep) · anchor, where the anchor
is `initial` or an offline value function at that time of day. With `to = \"offline\"` and keep 0.2 this is the periodic
ensemble of V1D3 (Tang et al. 2021, arXiv 2105.08791); with `to = \"initial\"` it clears a table (keep 0) or carries a part
of it over. A change point shows when the first transition of a partition at or after it comes, and is before that
transition; what comes before a partition's first transition does not count, nor does what lies more than 3,660 days back.
A cell the offline function does not know stays as it is; one that it knows and nobody was in has `initial` before the
first change point. `thalweg train value` makes offline value functions: tables by dynamic programming (Xu et al. 2018), or
with `--network` tables that a small network fills (after CVNet, Tang et al. 2019), every cell in every slot. With
`--pipeline` and `--step` they are made for a step as its pipeline counts rewards and durations, of files of what its sources
brought. A path is as it stands, from the working folder.

The output has a row for each state that was left: the `partition` columns, the state, its `value`, how many transitions
moved it (`visits`) and the event time of the last (`updated_at`). The key is the partition and the state. With tiles and with
hexagons the rows are of cells, by name (`cell`). `updated_at` says nothing of change points. Partitions
learn apart from each other.

Transitions of equal event time follow each other in the order of the source.

Two more relations, if they are asked for:

- `errors`: for each partition the TD errors so far: `count`, `mean`, `mean_absolute`, `greatest` (of their sizes), and how
  many transitions were `refused`.
- `changes`, a stream with event time `at`: the partition, `at`, `cell` (its name), `value` and `_seq`. A transition tells the
  cells it moved, with its own time and `_seq`. Change points tell every cell they moved, with the time of the transition
  that showed them and `_seq` −1. The key is all but the value.

A cell's name is its key as text, of several columns joined by `|`, or `~X,Y` for a tile, its coordinates in tiles. Where
there are several columns or tiles, `\\` stands before a `|`, `~` or `\\` of the key's own.

**Gauges.** `thalweg_td_error` is the mean absolute TD error of the last epoch with transitions; `thalweg_step_value` has
`states_visited` (rows of the view), `updates` (transitions learned from so far) and, with `offline`, `offline_weight`: what the
last change point gave the offline function, 1 − keep, and 0 if it drew to `initial`; the mean over partitions.

**Faults**, which leave V as it was: `null_state`, `null_next_state` (null in some of several columns, with `h3` in one coordinate),
`bad_place` (a coordinate that is null, NaN or not in range: with `h3` ±90 and ±180), `bad_reward` (null, NaN or infinite), `bad_duration` (null, NaN, infinite or
negative), `not_finite` (the new value would be none).";

pub const OPTIONS: &[OptionDef] = &[
    OptionDef { name: "input", shape: "relation", default: None, doc: "A stream with an event time." },
    OptionDef {
        name: "state",
        shape: "column name, or a list",
        default: Some("needed without `h3`"),
        doc: "The state that is left; of any type.",
    },
    OptionDef {
        name: "next_state",
        shape: "column name, or a list",
        default: Some("needed without `h3`"),
        doc: "The state that is reached, of the same type; null ends the episode.",
    },
    OptionDef {
        name: "reward",
        shape: "column name",
        default: None,
        doc: "What was earned on the way: float64 or int64.",
    },
    OptionDef {
        name: "duration",
        shape: "column name",
        default: Some("every transition takes one unit"),
        doc: "How long it took, in seconds: float64 or int64.",
    },
    OptionDef {
        name: "duration_unit_secs",
        shape: "float64",
        default: Some("1.0"),
        doc: "The time over which `gamma` discounts once, in seconds; more than 0.",
    },
    OptionDef { name: "alpha", shape: "float64", default: None, doc: "The step size α, above 0 and at most 1." },
    OptionDef { name: "gamma", shape: "float64", default: None, doc: "The discount γ, from 0 to 1." },
    OptionDef {
        name: "initial",
        shape: "float64",
        default: Some("0.0"),
        doc: "The value of a state before it is left for the first time.",
    },
    OptionDef {
        name: "partition",
        shape: "list of column names",
        default: Some("one table"),
        doc: "Each combination of these learns for itself; they also spread the work over the workers.",
    },
    OptionDef {
        name: "alpha_power",
        shape: "float64",
        default: Some("0.0"),
        doc: "How fast steps fall with the visits of a state, from 0, which is constant steps, to 1.",
    },
    OptionDef {
        name: "alpha_least",
        shape: "float64",
        default: Some("0.0"),
        doc: "Steps fall no further than this; from 0 to `alpha`.",
    },
    OptionDef {
        name: "tile_size",
        shape: "float64",
        default: Some("states are keys alone"),
        doc: "The side of a tile, in the unit of the coordinates; more than 0.",
    },
    OptionDef {
        name: "place",
        shape: "list of two column names",
        default: Some("none"),
        doc: "With `tile_size` or `h3`: the coordinates of the state, float64 or int64.",
    },
    OptionDef {
        name: "next_place",
        shape: "list of two column names",
        default: Some("none"),
        doc: "With `tile_size` or `h3`: those of the next state.",
    },
    OptionDef {
        name: "h3",
        shape: "int64, or a list",
        default: Some("states are keys"),
        doc: "The resolutions of hexagons, from fine (15) to coarse (0), at most six; places are latitude and longitude in degrees.",
    },
    OptionDef {
        name: "change_points",
        shape: "list of tables",
        default: Some("none"),
        doc: "Each has `times`, a list of local times of day (`HH:MM`, `HH:MM:SS` or with a fraction); `keep`, from 0 to 1; `to`, `initial` (the default) or `offline`; and if it is not every day, `days`, a list of `mon` … `sun` and dates `YYYY-MM-DD`.",
    },
    OptionDef {
        name: "utc_offset",
        shape: "string",
        default: Some("+00:00"),
        doc: "Local time less UTC, `+HH:MM` or `-HH:MM`.",
    },
    OptionDef {
        name: "offline",
        shape: "path",
        default: Some("none"),
        doc: "The offline value function that change points draw to. Its checksum is part of the plan.",
    },
    OptionDef { name: "errors", shape: "bool", default: Some("false"), doc: "Whether there is the view `errors`." },
    OptionDef { name: "changes", shape: "bool", default: Some("false"), doc: "Whether there is the stream `changes`." },
];

pub const EXAMPLE: &str = "\
name = \"zones\"

[sources.trips]
type = \"file\"
path = \"trips.csv\"
format = \"csv\"
columns = { at = \"timestamp\", zone = \"int64\", to_zone = \"int64\", fare = \"float64\", secs = \"float64\" }
event_time = \"at\"

[steps.zone_value]
operator = \"td_value\"
input = \"trips\"
state = \"zone\"
next_state = \"to_zone\"
reward = \"fare\"
duration = \"secs\"
duration_unit_secs = 60.0
alpha = 0.05
gamma = 0.99
";
