//! What the auction's options do, by scores and outcomes reckoned by hand, and what cannot be had together.

use std::path::Path;

use engine::pipeline::load;
use engine::testing;

/// Requests and resources with everything an option may name: as tables, and as streams of events.
const SOURCES: &str = r#"
[sources.asks]
type = "http"
key = "q"
columns = { q = "int64", user = "string", demand = "float64", budget = "float64", priority = "int64", served = "int64", up_min = "float64", near_min = "float64", a = "float64", b = "float64", zone = "string", tier = "int64" }
[sources.offers]
type = "http"
key = "r"
columns = { r = "int64", capacity = "float64", cost = "float64", up = "float64", energy = "float64", a = "float64", b = "float64", area = "string", level = "int64", zone = "string", tier = "int64" }
[sources.ask_events]
type = "file"
path = "/nowhere/*.csv"
event_time = "at"
columns = { at = "timestamp", q = "int64", budget = "float64", zone = "string" }
[sources.offer_events]
type = "file"
path = "/nowhere/*.csv"
event_time = "at"
columns = { at = "timestamp", r = "int64", capacity = "float64", cost = "float64", zone = "string" }
"#;

const OVER_TABLES: &str = "requests = \"asks\"\nresources = \"offers\"";
const OVER_EVENTS: &str = "requests = \"ask_events\"\nresources = \"offer_events\"\nclear = \"events\"\n\
                           request_key = [\"q\"]\nresource_key = [\"r\"]";

fn pipeline(over: &str, options: &str, test: &str) -> String {
    let step = "[steps.it]\noperator = \"auction\"\nbudget = \"budget\"\ncapacity = \"capacity\"\ncost = \"cost\"";
    format!("name = \"p\"\n{SOURCES}\n{step}\n{over}\n{options}\n{test}")
}

/// Holds an auction over these rows to what is expected of it, on several workers and in several epochs.
#[track_caller]
fn check(options: &str, asks: &str, offers: &str, expected: &str) {
    let test = format!(
        "[[tests]]\nname = \"it\"\n[tests.given]\nasks = [\n{asks}\n]\noffers = [\n{offers}\n]\n[tests.expect]\n\
         {expected}\nfaults = []"
    );
    let text = pipeline(OVER_TABLES, options, &test);
    let plan = load(Path::new("p.toml"), &text, &|_| None, &catalogue::all()).unwrap_or_else(|p| panic!("{p}"));
    let folder = tempfile::tempdir().unwrap();
    let said: String = testing::run(&plan, folder.path()).iter().map(|outcome| outcome.text("p")).collect();
    assert!(said.is_empty(), "{said}");
}

/// Everything that is said of options that cannot be had together.
fn refusals(over: &str, options: &str) -> String {
    let text = pipeline(over, options, "");
    match load(Path::new("p.toml"), &text, &|_| None, &catalogue::all()) {
        Ok(_) => String::new(),
        Err(problems) => problems.to_string(),
    }
}

#[test]
fn who_was_served_often_counts_for_less() {
    // 0.4 · (1 − 0.25 / 0.5) + 0.3 + 0.1 = 0.6, and 0.2 · max(0, priority / 10 − ½ · h / (1 + h)).
    check(
        "priority = \"priority\"\nserved = \"served\"",
        "{ q = 1, budget = 0.5, priority = 10, served = 0 },
         { q = 2, budget = 0.5, priority = 10, served = 1 },
         { q = 3, budget = 0.5, priority = 10, served = 3 },
         { q = 4, budget = 0.5, priority = 2, served = 9 },
         { q = 5, budget = 0.5, priority = 25, served = 1 }",
        "{ r = 1, capacity = 5, cost = 0.25 }",
        "it = [
           { request_q = 1, score = 0.8 }, { request_q = 2, score = 0.75 }, { request_q = 3, score = 0.725 },
           { request_q = 4, score = 0.6 }, { request_q = 5, score = 0.75 },
         ]",
    );
}

#[test]
fn who_needs_availability_gets_no_less() {
    check(
        "request_availability_min = \"up_min\"\navailability = \"up\"",
        "{ q = 1, budget = 1, up_min = 0.95 }, { q = 2, budget = 1, up_min = 0.999 }, { q = 3, budget = 1, up_min = 0.9 },
         { q = 4, budget = 1 }",
        "{ r = 1, capacity = 2, cost = 0.25, up = 0.9 }, { r = 2, capacity = 2, cost = 0.75, up = 0.99 }",
        "it = [
           { request_q = 1, resource_r = 2, score = 0.4985 }, { request_q = 3, resource_r = 1, score = 0.685 },
           { request_q = 4, resource_r = 1, score = 0.685 },
         ]
         \"it.rejections\" = [{ request_q = 2, reason = \"qos\" }]",
    );
}

#[test]
fn weights_left_out_count_nothing_and_need_not_sum_to_one() {
    // 2 · (1 − 1 / 4) + 50 · 0.5.
    check(
        "energy = \"energy\"\nweights = { cost = 2.0, energy = 50.0 }",
        "{ q = 1, budget = 4 }",
        "{ r = 1, capacity = 1, cost = 1, energy = 0.5 }",
        "it = [{ request_q = 1, score = 26.5 }]",
    );
    check(
        "priority = \"priority\"\npriority_max = 4.0\nweights = { fairness = 1.0 }",
        "{ q = 1, budget = 4, priority = 3 }, { q = 2, budget = 4, priority = 8 }",
        "{ r = 1, capacity = 2, cost = 1 }",
        "it = [{ request_q = 1, score = 0.75 }, { request_q = 2, score = 1.0 }]",
    );
}

const ON_PLANE: &str = "request_x = \"a\"\nrequest_y = \"b\"\nresource_x = \"a\"\nresource_y = \"b\"\n\
                        weights = { qos = 1.0 }";
const ON_GLOBE: &str = "request_lat = \"a\"\nrequest_lon = \"b\"\nresource_lat = \"a\"\nresource_lon = \"b\"\n\
                        weights = { qos = 1.0 }";

#[test]
fn nearness_and_latency_are_those_of_the_plane() {
    // Five apart: ½ + ½ · max(0, 1 − 5 / 10); ten apart: nothing is left of nearness.
    check(
        &format!("{ON_PLANE}\ndistance_scale = 10.0"),
        "{ q = 1, budget = 1, a = 3, b = 4 }, { q = 2, budget = 1, a = -6, b = 8 }, { q = 3, budget = 1, a = 60, b = 0 }",
        "{ r = 1, capacity = 3, cost = 0, a = 0, b = 0 }",
        "it = [{ request_q = 1, score = 0.75 }, { request_q = 2, score = 0.5 }, { request_q = 3, score = 0.5 }]",
    );
    check(
        &format!("{ON_PLANE}\nrequest_latency_max = \"near_min\"\nlatency_per_distance = 2.0"),
        "{ q = 1, budget = 1, a = 3, b = 4, near_min = 10 }, { q = 2, budget = 1, a = 3, b = 4, near_min = 9.9 },
         { q = 3, budget = 1, a = 3, b = 4 }",
        "{ r = 1, capacity = 3, cost = 0, a = 0, b = 0 }",
        "it = [{ request_q = 1 }, { request_q = 3 }]
         \"it.rejections\" = [{ request_q = 2, reason = \"qos\" }]",
    );
}

#[test]
fn nearness_and_latency_are_those_of_the_globe() {
    // With one radius of the earth as scale, nearness is 1 less the angle: π/6 along the equator and to the pole, and
    // π/90 across the date line, which is 222.39 km.
    check(
        &format!("{ON_GLOBE}\ndistance_scale = 6371008.8"),
        "{ q = 1, budget = 1, a = 0, b = -149 }, { q = 2, budget = 1, a = 0, b = 179 }, { q = 3, budget = 1, a = 0, b = 1 }",
        "{ r = 1, capacity = 3, cost = 0, a = 0, b = -179 }",
        "it = [
           { request_q = 1, score = 0.738200612201 }, { request_q = 2, score = 0.98254670748 },
           { request_q = 3, score = 0.5 },
         ]",
    );
    check(
        &format!("{ON_GLOBE}\ndistance_scale = 6371008.8"),
        "{ q = 1, budget = 1, a = 60, b = 123 }, { q = 2, budget = 1, a = 60, b = -5 }",
        "{ r = 1, capacity = 2, cost = 0, a = 90, b = 0 }",
        "it = [{ request_q = 1, score = 0.738200612201 }, { request_q = 2, score = 0.738200612201 }]",
    );
    check(
        &format!("{ON_GLOBE}\nrequest_latency_max = \"near_min\"\nlatency_per_distance = 0.001"),
        "{ q = 1, budget = 1, a = 0, b = 179, near_min = 222.4 }, { q = 2, budget = 1, a = 0, b = 179, near_min = 222.38 }",
        "{ r = 1, capacity = 2, cost = 0, a = 0, b = -179 }",
        "it = [{ request_q = 1 }]
         \"it.rejections\" = [{ request_q = 2, reason = \"qos\" }]",
    );
}

#[test]
fn a_type_of_several_columns_is_a_market_for_each_of_its_values() {
    let asks = "{ q = 1, budget = 1, zone = \"a\", tier = 1 }, { q = 2, budget = 1, zone = \"a\", tier = 2 },
                { q = 3, budget = 1, zone = \"b\", tier = 1 }, { q = 4, budget = 1, zone = \"a\", tier = 1 }";
    let offers = "{ r = 1, capacity = 1, cost = 0, area = \"a\", level = 1, zone = \"b\", tier = 1 },
                  { r = 2, capacity = 1, cost = 0, area = \"b\", level = 2, zone = \"a\", tier = 2 }";
    check(
        "request_type = [\"zone\", \"tier\"]\nresource_type = [\"area\", \"level\"]",
        asks,
        offers,
        "it = [{ request_q = 1, resource_r = 1 }]
         \"it.rejections\" = [
           { request_q = 2, reason = \"no_resource\" }, { request_q = 3, reason = \"no_resource\" },
           { request_q = 4, reason = \"outbid\" },
         ]
         \"it.fairness\" = [
           { requests = 2, resources = 1, allocated = 1 }, { requests = 1, resources = 0, allocated = 0 },
           { requests = 1, resources = 0, allocated = 0 }, { requests = 0, resources = 1, allocated = 0 },
         ]",
    );
    // Without names of their own, resources have those of requests.
    check(
        "request_type = [\"zone\", \"tier\"]",
        asks,
        offers,
        "it = [{ request_q = 2, resource_r = 2 }, { request_q = 3, resource_r = 1 }]",
    );
}

#[test]
fn prices_begin_within_their_bounds() {
    // The score is 1 − 0.25 / 0.625 = 0.6 by the cost; what is asked is by the price: 0.5 · (0.8 + 0.4 · 0.6).
    check(
        "price_min = 0.5\nweights = { cost = 1.0 }",
        "{ q = 1, budget = 0.625 }, { q = 2, budget = 0.4 }",
        "{ r = 1, capacity = 2, cost = 0.25 }",
        "it = [{ request_q = 1, score = 0.6, payment = 0.52 }]
         \"it.rejections\" = [{ request_q = 2, reason = \"budget\" }]
         \"it.prices\" = [{ resource_r = 1, price = 0.5 }]",
    );
    check(
        "price_max = 1.0",
        "{ q = 1, budget = 1 }",
        "{ r = 1, capacity = 1, cost = 4 }",
        "it = [{ request_q = 1 }]
         \"it.prices\" = [{ resource_r = 1, price = 1.0 }]",
    );
}

#[test]
fn as_published_no_price_is_below_the_least_either() {
    // cost · (1 − price_step · price_target): 1 · (1 − 2 · 0.8) is less than nothing.
    let (asks, offers) =
        ("{ q = 1, budget = 2 }", "{ r = 1, capacity = 1, cost = 1 }, { r = 2, capacity = 0, cost = 0 }");
    check(
        "as_published = true\nprice_step = 2.0",
        asks,
        offers,
        "it = [{ request_q = 1, resource_r = 1, payment = 0.0 }]
         \"it.prices\" = [{ resource_r = 1, price = 0.0 }, { resource_r = 2, price = 0.0 }]
         \"it.fairness\" = [{ revenue = 0.0, revenue_published = 0.0 }]",
    );
    check(
        "as_published = true\nprice_step = 2.0\nprice_min = 0.25",
        asks,
        offers,
        "it = [{ request_q = 1, resource_r = 1 }]
         \"it.prices\" = [{ resource_r = 1, price = 0.25 }, { resource_r = 2, price = 0.25 }]",
    );
    check(
        "as_published = true\nprice_max = 0.75",
        asks,
        offers,
        "\"it.prices\" = [{ resource_r = 1, price = 0.75 }, { resource_r = 2, price = 0.0 }]",
    );
}

#[test]
fn figures_of_fairness_are_those_reckoned_by_hand() {
    // Scores are priorities of 10: 1 and ½ of `u`, ½ of `v`, and `w` goes without.
    let figures = format!(
        "\"it.fairness\" = [{{ requests = 4, allocated = 3, value = 2.0, efficiency = 0.5, satisfaction = 0.75, \
         utilisation = 1.0, used = 3.0, capacity = 3.5, capacity_utilisation = {:?}, energy_mean = {:?}, \
         jain_requests = {:?}, jain_winners = {:?}, requesters = 3, jain_requesters = {:?} }}]",
        3.0 / 3.5,
        2.0 / 3.0,
        4.0 / (4.0 * 1.5),
        4.0 / (3.0 * 1.5),
        4.0 / (3.0 * (1.5 * 1.5 + 0.5 * 0.5)),
    );
    check(
        "priority = \"priority\"\nrequester = \"user\"\nenergy = \"energy\"\nweights = { fairness = 1.0 }",
        "{ q = 1, user = \"u\", budget = 1, priority = 10 }, { q = 2, user = \"u\", budget = 1, priority = 5 },
         { q = 3, user = \"v\", budget = 1, priority = 5 }, { q = 4, user = \"w\", budget = 1, priority = 0 }",
        "{ r = 1, capacity = 2, cost = 0, energy = 0.5 }, { r = 2, capacity = 1.5, cost = 0, energy = 1.0 }",
        &format!(
            "it = [
               {{ request_q = 1, resource_r = 1 }}, {{ request_q = 2, resource_r = 1 }}, {{ request_q = 3, resource_r = 2 }},
             ]
             {figures}"
        ),
    );
}

#[test]
fn what_cannot_be_had_together_is_refused_with_a_reason() {
    let optimal = "mechanism = \"optimal\"";
    let demand = "demand = \"demand\"";
    let cases: [(&str, String, &str, &str); 13] = [
        (OVER_TABLES, "payments = \"vcg\"".to_owned(), "payments", "the greedy is none"),
        (OVER_TABLES, "mechanism = \"one_to_one\"\npayments = \"vcg\"".to_owned(), "payments", "the greedy is none"),
        (OVER_TABLES, format!("{optimal}\n{demand}\npayments = \"vcg\""), "payments", "`vcg` needs the exact optimum"),
        (
            OVER_TABLES,
            format!("{optimal}\npayments = \"critical_value\""),
            "payments",
            "`critical_value` is the payment of the greedy",
        ),
        (
            OVER_TABLES,
            "payments = \"critical_value\"\nprice_rounds = 1".to_owned(),
            "price_rounds",
            "need `price_rounds = 0`",
        ),
        (OVER_TABLES, format!("{optimal}\nprice_rounds = 1"), "price_rounds", "every round of prices needs"),
        (
            OVER_EVENTS,
            "payments = \"critical_value\"".to_owned(),
            "payments",
            "`clear = \"events\"` has `first_price` alone",
        ),
        (OVER_EVENTS, optimal.to_owned(), "mechanism", "`optimal` is found for whole tables"),
        (OVER_EVENTS, "clusters = 2".to_owned(), "clusters", "they need `clear = \"tables\"`"),
        (
            OVER_TABLES,
            "payments = \"critical_value\"\nclusters = 2".to_owned(),
            "clusters",
            "which cluster it is sent to",
        ),
        (OVER_EVENTS, "request_type = [\"zone\"]".to_owned(), "request_type", "a type is a part of the key"),
        (OVER_TABLES, "scale = 1024.0".to_owned(), "scale", "which in this scale is nothing"),
        (
            OVER_TABLES,
            "request_latency_max = \"near_min\"".to_owned(),
            "request_latency_max",
            "a latency is one of a distance",
        ),
    ];
    for (over, options, key, reason) in cases {
        let said = refusals(over, &options);
        assert_eq!(said.matches("p.toml:").count(), 1, "{options}: one reason, not\n{said}");
        assert!(said.contains(reason), "{options}: {said}");
        let line = 1 + pipeline(over, &options, "").lines().position(|line| line.starts_with(key)).unwrap_or(0);
        assert!(
            said.contains(&format!("p.toml:{line}:")),
            "{options}: not of line {line}, where `{key}` stands: {said}"
        );
    }
    // Each is had without what it is refused with.
    for (over, options) in [
        (OVER_TABLES, "payments = \"critical_value\"\nprice_rounds = 0".to_owned()),
        (OVER_TABLES, "mechanism = \"one_to_one\"\npayments = \"critical_value\"".to_owned()),
        (OVER_TABLES, format!("{optimal}\npayments = \"vcg\"")),
        (OVER_TABLES, format!("{optimal}\n{demand}\nexclusive = true\npayments = \"vcg\"")),
        (OVER_TABLES, "price_rounds = 3\nclusters = 2".to_owned()),
        (OVER_TABLES, format!("{demand}\nscale = 1024.0")),
        (OVER_EVENTS, "mechanism = \"one_to_one\"\npayments = \"first_price\"".to_owned()),
    ] {
        assert_eq!(refusals(over, &options), "", "{options}");
    }
}

#[test]
fn all_that_cannot_be_had_together_is_told_at_once() {
    let said = refusals(OVER_TABLES, "payments = \"vcg\"\nprice_rounds = 1\nclusters = 2\nscale = 1024.0");
    let reasons =
        ["the greedy is none", "need `price_rounds = 0`", "which cluster it is sent to", "in this scale is nothing"];
    assert!(reasons.iter().all(|reason| said.contains(reason)), "{said}");
    assert_eq!(said.matches("p.toml:").count(), reasons.len(), "{said}");
}
