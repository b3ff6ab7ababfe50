//! What the manual says of `auction`.

use engine::catalogue::OptionDef;

use crate::options::option;

/// The page.
pub const DOC: &str = "\
The multi-objective auction of MOHAF (afrilab/MOHAF-Resource-Allocation, commit 2e0174d), with its constraints enforced:
a request has one resource or none, a resource is never filled beyond its capacity, and a pair is feasible only if the
resource meets the request's needs, is large enough, and costs no more than the request's budget: price × demand ≤
budget.

**Score.** `U = w_cost · max(0, 1 − cost · demand / budget) + w_qos · qos + w_energy · energy + w_fairness · fair`, every
component in [0, 1]:
`qos = ½ · (reliability + availability) / 2 + ½ · max(0, 1 − distance / distance_scale)`, without places
`(reliability + availability) / 2`; `fair = max(0, min(1, priority / priority_max) − ½ · h / (1 + h))` with h the number
of times the requester was served before. With `as_published` the form of the authors' code: `qos` is
`½ · (reliability + availability) + ½ · max(0, 1 − distance / distance_scale)`, which reaches 1.5; `fair` is
`priority / 10` (priorities above 100 count as 100), h is 0; a unit's price is `cost · (1 − price_step · price_target)`;
and a budget bounds what is paid, not who is served. A score is rounded to 10⁻¹² and from then on an integer; so are
demands and capacities, in multiples of `scale`, to the nearest, halves to the even one: what a demand takes may so be
half a `scale` off what is written, and a demand of half a `scale` or less takes nothing.

**Mechanisms.** `greedy`: pairs in the order of their scores, each taken if its request is free and its resource has
room; maintained incrementally and equal to the sorted run at every epoch. `one_to_one`: the same, one request a
resource, which is what the published table ran. `optimal`: the greatest sum of scores, as near as it can be shown.
Where requests of different demands share capacity that is hard: every connected component of feasible pairs is packed
by a Lagrangian heuristic with ejection chains, and `fairness` states what no allocation can exceed. What the chains
begin with is what the resources choose at the dual's prices, and for a component of up to 4,000 pairs, or where it is
worth more, also the greedy; the best of what comes out counts, which is never worth less than the greedy of that
component, and the best of several proofs is published. The chains end after a number of steps, not of seconds. With
`exclusive = true` (one request a resource), or without `demand` (every request takes 1), the optimum is exact.

**Ties.** Equal scores go by the request's key, then the resource's key, ascending. An exact optimum is the one that is
lexicographically greatest in the order of (resource key, request key), as in `assignment`.

**Certificate** of `optimal`: with u the column `dual` of `duals` and k the column `bound` of `prices`, k ≥ the greatest
sum of (score − u) over sets of requests that fit the resource, u ≥ 0, and `bound` = Σ u + Σ k. Every allocation's
value is at most that (Lagrangian relaxation of \"one resource a request\"; Geoffrion 1974), which anyone can check in
one pass over the resources.

**Prices.** A unit of a resource costs ρ, at first its `cost`. `price_rounds` rounds of allocation and update
`ρ ← clip(ρ + price_step · (utilisation − price_target), price_min, price_max)` (MOHAF, the unit price update) stand
before the allocation that counts; a move below 10⁻⁶ is none. So prices are a function of the tables.

**Payments.** `first_price`: what the winner is asked, `min(ρ · demand · (0.8 + 0.4 · U), budget)` (MOHAF).
`critical_value`: the smallest budget with which the request would still be served by the greedy, all else as it is,
exact to the last bit; truthful, because a greater budget never loses (Lehmann, O'Callaghan and Shoham 2002). `vcg`, for
an exact optimum: the smallest budget with which its score still outweighs what the others lose by it (Clarke 1971),
which is `externality`, in units of score. Truthful in the budget as what being served is worth; the other columns are
taken as true; and truthful for each request by itself: a requester with several may gain by bidding in concert.
Computed payments are found anew for every winner of a market in which something changed.

**Clusters.** With `clusters` resources are put into so many by Ward's hierarchical clustering of place, cost and quality,
a request goes to the cluster whose mean scores best with it and has a resource that is feasible for it, and only pairs
within a cluster are allowed. `fairness` states what that loses against the same mechanism without clusters.

**Life.** With `clear = \"tables\"` the auction is held over the tables as they are at each epoch: who finishes or is
withdrawn leaves its table, a failed resource's requests compete again. With `clear = \"events\"` both inputs are streams
with an event time, an event brings or changes the request or resource its key names, or ends it where `request_ends` or
`resource_ends` is true, and the auction is held after every event in the order of event time (of one time resources
first). There an allocation is kept unless another is better by more than `switching_cost`: the pairs that hold count for
that much more. `on_conflict` says what becomes of the requests of a resource that ends: `requeue` lets them compete
again at once, `reject` rejects them until their next event, `wait` lets them wait until it is back. What is paid stays
what was asked when the request came to its resource, or when one of the two last changed. h counts a requester's
requests that had been served when the request came. Every `price_every_secs` of event time prices move once (for several
in a gap without events at once, at the utilisation there is); an event of a resource sets its price back to `cost`.

**Views.** The step itself: one row a served request. `rejections`: one row a request that is not, with the `reason`:
`no_resource`, `qos` (none meets its needs), `capacity` (none that does is large enough), `budget` (none of those costs
as little), `cluster` (none in its cluster), `outbid` (others have them), `resource_left`, `waiting`. `prices`: one row a
resource. `payments`: one row a served request. `fairness`: one row a market: `value` is the sum of scores, `efficiency`
value over all requests, `satisfaction` the share served, `utilisation` the share of resources used, `jain_…` Jain's index
(Σx)² / (n Σx²) of the scores, cut to multiples of 10⁻⁶, of all requests (0 if not served), of winners, and of
requesters' sums;
`revenue_published` is Σ payment × demand, as the authors compute it. `clusters` and, with `optimal`, `duals`.

**Zero.** A demand of 0 takes nothing, costs nothing and has its best resource. A budget of 0 scores nothing for cost and
is feasible where the price of the demand is 0. A capacity of 0 serves demands of 0. A null need is none. A capacity
below what is taken pushes the last holders out.

**Faults.** `null_key`, `null_type`, `bad_demand`, `bad_budget`, `bad_priority`, `bad_served`, `bad_capacity`, `bad_cost`
(null, NaN, infinite, negative, or beyond 2^60 multiples of `scale`), `bad_quality` (no share of 1), `bad_need`,
`bad_place`, `expression`; of events also `unknown_request` and `unknown_resource`, which end what is not there.";

const NUMBER: &str = "column of int64 or float64";

/// The options.
pub const OPTIONS: &[OptionDef] = &[
    option("requests", "relation", None, "What is asked for: one row each, or a stream of events."),
    option("resources", "relation", None, "What there is: one row each, or a stream of events."),
    option("budget", NUMBER, None, "The most a request pays: its bid."),
    option("demand", NUMBER, Some("1 each"), "How much capacity a request takes."),
    option("priority", NUMBER, Some("0 each"), "How much a request matters, up to `priority_max`."),
    option("requester", "column", Some("each its own"), "Who asks: fairness is stated for requesters too."),
    option("served", NUMBER, Some("0 each"), "How often the requester was served before; not with `as_published`."),
    option("request_reliability_min", NUMBER, Some("no need"), "The least reliability a request accepts."),
    option("request_availability_min", NUMBER, Some("no need"), "The least availability a request accepts."),
    option("request_latency_max", NUMBER, Some("no need"), "The greatest latency a request accepts."),
    option("latency_per_distance", "float64", Some("1.0"), "The latency of a unit of distance; above 0."),
    option("capacity", NUMBER, None, "How much a resource holds."),
    option("cost", NUMBER, None, "What a unit of demand costs at a resource, before prices move."),
    option("reliability", NUMBER, Some("1 each"), "A share of 1."),
    option("availability", NUMBER, Some("1 each"), "A share of 1."),
    option("energy", NUMBER, Some("1 each"), "Energy efficiency, a share of 1."),
    option(
        "request_x",
        NUMBER,
        Some("no places"),
        "A place on the plane, with `request_y`, `resource_x`, `resource_y`.",
    ),
    option("request_y", NUMBER, Some("no places"), "As above."),
    option("resource_x", NUMBER, Some("no places"), "As above."),
    option("resource_y", NUMBER, Some("no places"), "As above."),
    option(
        "request_lat",
        NUMBER,
        Some("no places"),
        "A place on the globe in degrees, with `request_lon`, `resource_lat`, `resource_lon`; distances are in metres.",
    ),
    option("request_lon", NUMBER, Some("no places"), "As above."),
    option("resource_lat", NUMBER, Some("no places"), "As above."),
    option("resource_lon", NUMBER, Some("no places"), "As above."),
    option(
        "request_type",
        "list of column names",
        Some("one market"),
        "The columns that must equal those of resources: each value is a market of its own, on a worker of its own.",
    ),
    option(
        "resource_type",
        "list of column names",
        Some("as `request_type`"),
        "Those of resources, of the same types.",
    ),
    option(
        "weights",
        "table of `cost`, `qos`, `energy`, `fairness`",
        Some("0.4, 0.3, 0.1, 0.2; as published 0.3, 0.3, 0.2, 0.2"),
        "How much each component counts, from 0 to 100; one left out counts 0.",
    ),
    option("as_published", "bool", Some("false"), "The form of the authors' code instead of the normalised one."),
    option(
        "distance_scale",
        "float64",
        Some("200.0"),
        "The distance from which on nearness is worth nothing; above 0.",
    ),
    option("priority_max", "float64", Some("10.0"), "The priority that counts as 1; above 0."),
    option("mechanism", "`greedy`, `one_to_one` or `optimal`", Some("greedy"), "Who gets what."),
    option("exclusive", "bool", Some("false"), "With `optimal`: a resource serves one request at a time."),
    option(
        "dual_rounds",
        "int64",
        Some("300"),
        "With `optimal` and shared capacity: rounds of the search for the bound.",
    ),
    option("payments", "`first_price`, `critical_value` or `vcg`", Some("first_price"), "What winners pay."),
    option("price_rounds", "int64", Some("0"), "Rounds of allocation and price update before the one that counts."),
    option("price_step", "float64", Some("0.01"), "η of the price update."),
    option("price_target", "float64", Some("0.8"), "τ: the utilisation at which a price stays."),
    option("price_min", "float64", Some("0.0"), "The least price of a unit."),
    option("price_max", "float64", Some("no limit"), "The greatest price of a unit."),
    option("clusters", "int64", Some("none"), "Into how many clusters resources are put."),
    option(
        "scale",
        "float64",
        Some("0.000000001"),
        "The unit of fixed point of demands and capacities: a whole number, or one over a whole number.",
    ),
    option("clear", "`tables` or `events`", Some("tables"), "When the auction is held."),
    option("request_key", "list of column names", Some("none"), "Of events: the columns that say whose it is."),
    option("resource_key", "list of column names", Some("none"), "Of events: the columns that say whose it is."),
    option("request_ends", "expression of type bool", Some("never"), "Of events: whether the request is over."),
    option("resource_ends", "expression of type bool", Some("never"), "Of events: whether the resource is gone."),
    option(
        "switching_cost",
        "float64",
        Some("0.0"),
        "Of events: by how much, in units of score, another allocation must be better than the one there is.",
    ),
    option(
        "on_conflict",
        "`requeue`, `reject` or `wait`",
        Some("requeue"),
        "Of events: what becomes of the requests of a resource that is gone.",
    ),
    option("price_every_secs", "float64", Some("never"), "Of events: the event time between two price updates."),
];

/// A pipeline with it.
pub const EXAMPLE: &str = "\
name = \"cluster\"

[sources.jobs]
type = \"file\"
path = \"jobs.csv\"
format = \"csv\"
columns = { job = \"int64\", user = \"string\", cpus = \"float64\", bid = \"float64\", class = \"int64\", x = \"float64\", y = \"float64\" }
key = [\"job\"]

[sources.machines]
type = \"file\"
path = \"machines.csv\"
format = \"csv\"
columns = { machine = \"int64\", cpus = \"float64\", cost = \"float64\", up = \"float64\", x = \"float64\", y = \"float64\" }
key = [\"machine\"]

[steps.placement]
operator = \"auction\"
requests = \"jobs\"
resources = \"machines\"
demand = \"cpus\"
budget = \"bid\"
priority = \"class\"
requester = \"user\"
capacity = \"cpus\"
cost = \"cost\"
availability = \"up\"
request_x = \"x\"
request_y = \"y\"
resource_x = \"x\"
resource_y = \"y\"
payments = \"critical_value\"
";
