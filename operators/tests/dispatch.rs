//! The promises of `dispatch` and `reposition`, by hand: who serves whom, why, what is refused, and the closed loop.

use std::collections::BTreeMap;

use engine::catalogue::Row;
use engine::operator::{Context, HistoryOperator, StepKind};
use engine::plan::StepPlan;
use types::{Delta, RowCodec, SEQ, Schema, Value};

const SOURCES: [(&str, &str); 5] = [
    (
        "drivers",
        "at = \"timestamp\", driver = \"string\", event = \"string\", x = \"float64\", y = \"float64\", zone = \"string\"",
    ),
    (
        "orders",
        "at = \"timestamp\", order = \"string\", event = \"string\", x = \"float64\", y = \"float64\", zone = \"string\", \
         reward = \"float64\", secs = \"float64\", patience = \"float64\"",
    ),
    ("values", "at = \"timestamp\", cell = \"string\", value = \"float64\""),
    ("cells", "at = \"timestamp\", zone = \"string\", x = \"float64\", y = \"float64\""),
    ("trips", "at = \"timestamp\", zone = \"string\", to = \"string\", reward = \"float64\", secs = \"float64\""),
];
const DISPATCH: &str = "operator = \"dispatch\"\ndrivers = \"drivers\"\norders = \"orders\"\ndriver = \"driver\"\n\
     driver_event = \"event\"\ndriver_x = \"x\"\ndriver_y = \"y\"\norder = \"order\"\norder_event = \"event\"\npickup_x = \"x\"\n\
     pickup_y = \"y\"\nreward = \"reward\"\ntrip_secs = \"secs\"\npatience_secs = \"patience\"\n";
const VALUED: &str = "values_input = \"values\"\ndriver_cell = \"zone\"\ndestination_cell = \"zone\"\n";
const REPOSITION: &str = "operator = \"reposition\"\ncells = \"cells\"\ncell = \"zone\"\ncell_x = \"x\"\ncell_y = \"y\"\n\
     drivers = \"drivers\"\ndriver = \"driver\"\ndriver_event = \"event\"\ndriver_x = \"x\"\ndriver_y = \"y\"\ndriver_cell = \"zone\"\n\
     values_input = \"values\"\nidle_secs = 60\nevery_secs = 10\n";
const TD: &str = "operator = \"td_value\"\ninput = \"trips\"\nstate = \"zone\"\nnext_state = \"to\"\nreward = \"reward\"\n\
     duration = \"secs\"\nduration_unit_secs = 600.0\nalpha = 0.5\ngamma = 0.9\n";

/// A step at work, with the sums of its views.
struct Step {
    plan: StepPlan,
    operator: Box<dyn HistoryOperator>,
    schemas: BTreeMap<String, Schema>,
    views: Vec<BTreeMap<Row, i64>>,
    faults: Vec<String>,
    seq: i64,
}

impl Step {
    fn new(options: &str) -> Step {
        let text = format!("{}[steps.it]\n{options}", sources());
        let plan = engine::pipeline::load(std::path::Path::new("p.toml"), &text, &|_| None, &catalogue::all());
        let mut plan = plan.unwrap_or_else(|problems| panic!("{problems}\n{text}"));
        let schemas = plan.sources.iter().map(|s| (s.name.clone(), s.schema.clone())).collect();
        let plan = plan.steps.remove(0).plan;
        let StepKind::History(new) = &plan.kind else { panic!("a function of history") };
        let (operator, views) = (new(), vec![BTreeMap::new(); plan.outputs.len()]);
        Step { operator, plan, schemas, views, faults: Vec::new(), seq: 0 }
    }

    /// One event; cells that are not given are null. Gives what came into the views.
    fn event(&mut self, relation: &str, secs: f64, cells: &[(&str, Value)]) -> Vec<(usize, Row)> {
        let Some(input) = self.plan.inputs.iter().position(|i| i.relation == relation) else { return Vec::new() };
        let schema = &self.schemas[relation];
        self.seq += 1;
        let cell = |name: &str| match name {
            "at" => Value::Time((secs * 1e6) as i64),
            SEQ => Value::Int(self.seq),
            name => cells.iter().find(|(n, _)| *n == name).map_or(Value::Null, |(_, value)| value.clone()),
        };
        let row: Row = schema.columns.iter().map(|c| cell(&c.name)).collect();
        let batch = RowCodec::new(schema).batch(&[row]);
        let mut context = Context::new(1, i64::MIN, self.plan.outputs.len());
        self.operator.apply(input, &batch, &mut context);
        self.take(context)
    }

    fn pass(&mut self, secs: f64) -> Vec<(usize, Row)> {
        let mut context = Context::new(1, (secs * 1e6) as i64, self.plan.outputs.len());
        self.operator.advance(&mut context);
        self.take(context)
    }

    fn take(&mut self, context: Context) -> Vec<(usize, Row)> {
        let (outputs, _, faults, _) = context.into_parts();
        self.faults.extend(faults.into_iter().map(|(fault, _)| fault.reason));
        let mut come = Vec::new();
        for (output, delta) in outputs.iter().enumerate().flat_map(|(i, ds)| ds.iter().map(move |d: &Delta| (i, d))) {
            for i in 0..delta.len() {
                let row: Row = delta.rows.columns().iter().map(|c| Value::at(c, i)).collect();
                let count = self.views[output].entry(row.clone()).or_insert(0);
                *count += delta.diff(i);
                if *count == 0 {
                    self.views[output].remove(&row);
                }
                if delta.diff(i) > 0 {
                    come.push((output, row));
                }
            }
        }
        come
    }

    fn driver(&mut self, secs: f64, driver: &str, event: &str, x: f64, zone: &str) -> Vec<(usize, Row)> {
        let cells = [("driver", s(driver)), ("event", s(event)), ("x", f(x)), ("y", f(0.0)), ("zone", s(zone))];
        self.event("drivers", secs, &cells)
    }

    fn order(&mut self, secs: f64, order: &str, x: f64, zone: &str, [reward, trip, patience]: [f64; 3]) {
        let cells = [("order", s(order)), ("event", s("created")), ("x", f(x)), ("y", f(0.0)), ("zone", s(zone))];
        let amounts = [("reward", f(reward)), ("secs", f(trip)), ("patience", f(patience))];
        self.event("orders", secs, &[&cells[..], &amounts].concat());
    }

    fn value(&mut self, secs: f64, cell: &str, value: f64) {
        self.event("values", secs, &[("cell", s(cell)), ("value", f(value))]);
    }

    /// Order, driver and weight of all decisions.
    fn decisions(&self) -> Vec<(String, String, f64)> {
        self.views[0].keys().map(|row| (text(&row[0]), text(&row[1]), float(&row[3]))).collect()
    }
}

/// A pipeline without steps.
fn sources() -> String {
    let mut text = "name = \"p\"\n".to_owned();
    for (name, columns) in SOURCES {
        text += &format!(
            "[sources.{name}]\ntype = \"file\"\npath = \"x.csv\"\nformat = \"csv\"\nevent_time = \"at\"\ncolumns = {{ {columns} }}\n"
        );
    }
    text
}

fn s(text: &str) -> Value {
    Value::Str(text.to_owned())
}

fn f(number: f64) -> Value {
    Value::Float(number)
}

fn text(value: &Value) -> String {
    if let Value::Str(text) = value { text.clone() } else { panic!("{value:?} is no text") }
}

fn float(value: &Value) -> f64 {
    if let Value::Float(number) = value { *number } else { panic!("{value:?} is no float") }
}

fn near(a: f64, b: f64) {
    assert!((a - b).abs() < 1e-9, "{a} is not {b}");
}

/// One driver 300 m away in zone a (worth 2), an order of 6 that takes 1200 s to zone b (worth 5).
fn weight(policy: &str, values: &str) -> f64 {
    let mut step = Step::new(&format!("{DISPATCH}{values}{policy}"));
    step.value(0.0, "a", 2.0);
    step.value(0.0, "b", 5.0);
    step.driver(1.0, "d", "online", 300.0, "a");
    step.order(1.0, "o", 0.0, "b", [6.0, 1200.0, 60.0]);
    step.pass(10.0);
    let decisions = step.decisions();
    assert_eq!(decisions.len(), 1, "{policy}");
    decisions[0].2
}

#[test]
fn weights_are_those_computed_by_hand() {
    // 1 − 0.01 · 20^(300 / 2000) = 0.9843272…; 300 m at 3 m/s are 100 s, 1300 s in all.
    let c = 1.0 - 0.01 * 20f64.powf(0.15);
    near(weight("policy = \"nearest\"", ""), 999_700.0);
    near(weight("policy = \"myopic\"", ""), c * 6.0);
    near(weight("policy = \"v1d3\"", VALUED), c * (6.0 + 0.9f64.powf(13.0 / 6.0) * 5.0 - 2.0));
    // Two whole units of 600 s.
    near(weight("policy = \"polar_bear\"", VALUED), c * (6.0 + 0.81 * 5.0 - 2.0));
    // The fee over three units begun: 2 + 1.8 + 1.62.
    near(weight("policy = \"xu\"", VALUED), c * (5.42 + 0.9f64.powf(13.0 / 6.0) * 5.0 - 2.0));
    let bare =
        "policy = \"v1d3\"\ncompletion = \"certain\"\ngamma = 0.5\ncounts_pickup = false\ndiscount_unit_secs = 1200";
    near(weight(bare, VALUED), 6.0 + 0.5 * 5.0 - 2.0);
    // 300 m are two thirds of the way from 100 m to 400 m; before the first point and beyond the last it is theirs.
    let curve = |at: &str, cancels: &str| {
        let bare = "policy = \"myopic\"\ncompletion = \"curve\"\n";
        weight(&format!("{bare}cancel_at_m = {at}\ncancel_probability = {cancels}"), "")
    };
    near(curve("[100, 400, 500]", "[0.1, 0.4, 1]"), 0.7 * 6.0);
    near(curve("[300.5, 400]", "[0.1, 0.4]"), 0.9 * 6.0);
    near(curve("[0, 300]", "[0.1, 0.4]"), 0.6 * 6.0);
    near(curve("[5]", "[0.25]"), 0.75 * 6.0);
}

#[test]
fn hexagons_are_on_the_globe_and_have_no_key() {
    let told = |step: &str, more: &str| {
        let text = format!("{}[steps.s]\n{step}{more}", sources());
        let plan = engine::pipeline::load(std::path::Path::new("p.toml"), &text, &|_| None, &catalogue::all());
        plan.unwrap_err().to_string()
    };
    let (dispatch, reposition) = (format!("{DISPATCH}{VALUED}"), REPOSITION);
    assert!(told(&dispatch, "h3 = 7").contains("hexagons are on the globe"));
    assert!(told(reposition, "h3 = 7").contains("hexagons are on the globe"));
    assert!(told(reposition, "rings = 1").contains("`rings` are of hexagons"));
    let globe = |step: &str| {
        let degrees = step.replace("_x = ", "_lat = ").replace("_y = ", "_lon = ");
        format!("{degrees}latitude = 0.0\ndestination_lat = \"x\"\ndestination_lon = \"y\"\n")
    };
    let of_dispatch = told(&globe(&dispatch), "h3 = [7, 6]");
    assert!(of_dispatch.contains("there is no `driver_cell`"), "{of_dispatch}");
    assert!(of_dispatch.contains("there is no `destination_cell`"), "{of_dispatch}");
    assert!(told(&globe(&dispatch), "h3 = [7, 7]").contains("coarser"));
    assert!(told(&globe(&dispatch), "h3 = 7\ntile_size = 2.0").contains("not both"));
    assert!(told(&globe(reposition), "h3 = 7\nreach_m = 100").contains("there is no `reach_m`"));
}

#[test]
fn every_mistake_of_a_curve_is_told() {
    let told = |options: &str| {
        let text = format!("{}[steps.it]\n{DISPATCH}policy = \"myopic\"\n{options}", sources());
        let plan = engine::pipeline::load(std::path::Path::new("p.toml"), &text, &|_| None, &catalogue::all());
        plan.map(|_| ()).unwrap_err().to_string()
    };
    let all = told("completion = \"curve\"\ncancel_at_m = [-1, \"x\", nan]\ncancel_probability = 1.5\nkeep_secs = 0");
    for part in ["found -1", "found a string", "found NaN", "found 1.5", "`keep_secs` must be"] {
        assert!(all.contains(part), "{part} is not in\n{all}");
    }
    assert!(told("completion = \"curve\"\ncancel_at_m = [1]").contains("`cancel_probability` is missing"));
    assert!(told("completion = \"curve\"\ncancel_at_m = [1]\ncancel_probability = []").contains("as many"));
    assert!(told("completion = \"curve\"\ncancel_at_m = [2, 2]\ncancel_probability = [0, 0]").contains("ascend"));
    assert!(told("cancel_at_m = [1]\ncancel_probability = [0]").contains("is for `completion = \"curve\"`"));
}

#[test]
fn decisions_that_are_over_go_when_their_time_has_passed() {
    let mut step = Step::new(&format!("{DISPATCH}policy = \"nearest\"\nkeep_secs = 100"));
    step.driver(1.0, "d", "online", 0.0, "a");
    step.driver(1.0, "e", "online", 1000.0, "a");
    step.order(1.0, "short", 5.0, "b", [1.0, 60.0, 5.0]);
    step.order(1.0, "long", 1005.0, "b", [1.0, 60.0, 5.0]);
    step.pass(3.0);
    step.driver(50.0, "d", "free", 0.0, "a");
    step.driver(102.0, "d", "position", 0.0, "a");
    assert_eq!(step.decisions().len(), 2, "decided at 2 s, it is 100 s old and no older");
    step.driver(102.5, "d", "position", 0.0, "a");
    assert_eq!(step.decisions().iter().map(|d| d.0.as_str()).collect::<Vec<_>>(), ["long"], "that one is served still");
    step.driver(200.0, "e", "offline", 0.0, "a");
    assert_eq!(step.decisions().len(), 1);
    // An event that is refused passes time as well.
    step.driver(200.1, "e", "busy", 0.0, "a");
    assert!(step.decisions().is_empty());
    assert_eq!(step.views[1].len(), 2, "the stream keeps them");
    step.order(300.0, "short", 5.0, "b", [1.0, 60.0, 5.0]);
    step.driver(303.0, "d", "free", 0.0, "a");
    step.pass(1e6);
    assert_eq!(step.decisions().len(), 1, "time alone takes nothing: the market's events do");
}

#[test]
fn a_round_sees_its_own_time_and_drivers_leave_until_they_are_free() {
    let mut step = Step::new(&format!("{DISPATCH}policy = \"nearest\""));
    step.driver(1.0, "d", "online", 0.0, "a");
    step.order(2.0, "first", 10.0, "b", [1.0, 60.0, 5.0]);
    step.order(2.0, "second", 5.0, "b", [1.0, 60.0, 5.0]);
    step.pass(2.0);
    assert!(step.decisions().is_empty(), "events of the round's time may still come");
    step.pass(2.1);
    assert_eq!(step.decisions()[0].0, "second");
    assert!(step.views[3].is_empty(), "the pool is empty");
    // The other order's last moment is 7 s.
    step.driver(7.0, "d", "position", 0.0, "a");
    step.pass(100.0);
    assert!(step.views[2].is_empty(), "it expired");
    step.order(101.0, "third", 5.0, "b", [1.0, 60.0, 50.0]);
    step.driver(103.0, "d", "free", 0.0, "a");
    step.pass(1000.0);
    assert_eq!(step.decisions().len(), 2);
    let totals: Vec<Value> = step.views[4].keys().next().unwrap()[..5].to_vec();
    assert_eq!(totals, [2, 3, 2, 1, 0].map(Value::Int));
}

#[test]
fn values_decide_and_negative_pairs_are_not_forced() {
    let mut step = Step::new(&format!("{DISPATCH}{VALUED}completion = \"certain\"\ngamma = 1.0"));
    step.value(0.0, "bad", 0.0);
    step.value(0.0, "good", 10.0);
    step.driver(1.0, "in_good", "online", 0.0, "good");
    step.driver(1.0, "in_bad", "online", 100.0, "bad");
    step.order(1.0, "out", 0.0, "bad", [4.0, 60.0, 600.0]);
    step.order(1.0, "again", 0.0, "bad", [4.0, 60.0, 600.0]);
    step.pass(10.0);
    // The nearer driver would lose 10 to earn 4.
    let [(order, driver, weight)] = &step.decisions()[..] else { panic!("one match") };
    assert_eq!((order.as_str(), driver.as_str()), ("again", "in_bad"));
    near(*weight, 4.0);
    // Once its place is worth less it goes.
    step.value(20.0, "good", 1.0);
    step.pass(30.0);
    near(step.decisions()[1].2, 3.0);
}

#[test]
fn what_cannot_be_is_refused() {
    let mut step = Step::new(&format!("{DISPATCH}{VALUED}"));
    step.driver(1.0, "d", "busy", 0.0, "a");
    step.driver(1.0, "d", "online", 0.0, "a");
    step.driver(1.0, "d", "online", 0.0, "a");
    step.driver(1.0, "d", "free", 0.0, "a");
    step.driver(1.0, "d", "busy", 0.0, "a");
    step.driver(1.0, "d", "sleeping", 0.0, "a");
    step.driver(1.0, "e", "online", f64::NAN, "a");
    for bad in [[f64::NAN, 1.0, 1.0], [1e308, 1.0, 1.0], [1.0, -1.0, 1.0], [1.0, 1.0, f64::NAN]] {
        step.order(1.0, "o", 0.0, "b", bad);
    }
    step.event("orders", 1.0, &[("order", s("o")), ("event", s("cancelled"))]);
    step.value(1.0, "a", f64::INFINITY);
    // Nobody, nothing, nowhere: cells that are not given are null.
    step.event("drivers", 1.0, &[("event", s("online")), ("x", f(0.0)), ("y", f(0.0)), ("zone", s("a"))]);
    step.event("orders", 1.0, &[("event", s("cancelled"))]);
    let here = [("x", f(0.0)), ("y", f(0.0))];
    step.event("drivers", 1.0, &[&here[..], &[("driver", s("e")), ("event", s("online"))]].concat());
    let amounts = [("reward", f(1.0)), ("secs", f(1.0)), ("patience", f(1.0))];
    step.event("orders", 1.0, &[&here[..], &amounts, &[("order", s("o")), ("event", s("created"))]].concat());
    step.event("values", 1.0, &[("value", f(1.0))]);
    let reasons = [
        "driver_offline",
        "duplicate_event",
        "not_matched",
        "not_matched",
        "unknown_word",
        "bad_place",
        "bad_reward",
        "bad_reward",
        "bad_duration",
        "bad_patience",
        "unknown_order",
        "bad_value",
        "null_driver",
        "null_order",
        "bad_cell",
        "bad_cell",
        "bad_cell",
    ];
    assert_eq!(step.faults, reasons);
    assert!(step.views[2].is_empty() && step.views[3].len() == 1, "they change nothing");
}

#[test]
fn idle_drivers_are_sent_once_for_every_report() {
    let mut step = Step::new(&format!("{REPOSITION}temperature = 0.01"));
    for (zone, x) in [("a", 0.0), ("b", 600.0), ("far", 9000.0)] {
        step.event("cells", 0.0, &[("zone", s(zone)), ("x", f(x)), ("y", f(0.0))]);
    }
    step.value(0.0, "b", 5.0);
    step.value(0.0, "far", 50.0);
    step.driver(3.0, "d", "online", 0.0, "a");
    step.pass(70.0);
    assert!(step.views[0].is_empty(), "60 s are over at 63 s, the next round is at 70 s");
    step.pass(1e6);
    let rows: Vec<Row> = step.views[0].keys().cloned().collect();
    assert_eq!(rows[0][1..4], [Value::Time(70_000_000), s("b"), s("a")]);
    near(float(&rows[0][6]), 0.9f64.powf(200.0 / 600.0));
    assert_eq!(step.views[1].len(), 1, "nothing was heard of it since");
    step.driver(1_000_001.0, "d", "position", 600.0, "b");
    step.pass(2e6);
    assert_eq!(step.views[1].len(), 2);
}

/// Three drivers who obey, a zone whose orders pay and one whose orders do not: all three steps fed by what they decide.
#[test]
fn decisions_values_and_places_to_wait_run_in_a_circle_without_faults() {
    let mut dispatch = Step::new(&format!("{DISPATCH}{VALUED}radius_m = 500"));
    let mut reposition = Step::new(&format!("{REPOSITION}temperature = 0.05"));
    let mut td = Step::new(TD);
    let zone = |x: f64| if x < 500.0 { "poor" } else { "rich" };
    for (name, x) in [("poor", 0.0), ("rich", 1000.0)] {
        reposition.event("cells", 0.0, &[("zone", s(name)), ("x", f(x)), ("y", f(0.0))]);
    }
    // One begins where it pays, else nobody would ever hear of it.
    for (driver, x) in [("p", 0.0), ("q", 0.0), ("r", 1000.0)] {
        dispatch.driver(0.0, driver, "online", x, zone(x));
        reposition.driver(0.0, driver, "online", x, zone(x));
    }
    // When who becomes free where.
    let mut trips: BTreeMap<i64, Vec<(String, f64)>> = BTreeMap::new();
    let (mut matches, mut moves_to_rich) = (0, 0);
    for minute in 1..240i64 {
        let at = minute as f64 * 60.0;
        for (driver, x) in trips.remove(&minute).unwrap_or_default() {
            dispatch.driver(at, &driver, "free", x, zone(x));
            reposition.driver(at, &driver, "free", x, zone(x));
        }
        let (x, reward) = if minute % 2 == 0 { (1000.0, 8.0) } else { (0.0, 1.0) };
        dispatch.order(at, &format!("o{minute}"), x, "poor", [reward, 300.0, 120.0]);
        // Before any event shows that time has passed, so that no move is missed.
        let moved = reposition.pass(at + 55.0);
        let mut decided = dispatch.pass(at + 55.0);
        for (_, row) in moved.into_iter().filter(|(output, _)| *output == 1) {
            let to = text(&row[2]);
            moves_to_rich += i64::from(to == "rich" && text(&row[3]) == "poor");
            let x = if to == "rich" { 1000.0 } else { 0.0 };
            dispatch.driver(at + 55.0, &text(&row[0]), "position", x, &to);
            reposition.driver(at + 55.0, &text(&row[0]), "position", x, &to);
        }
        decided.extend(dispatch.pass(at + 59.0));
        let mut learned = Vec::new();
        for (_, row) in decided.into_iter().filter(|(output, _)| *output == 1) {
            matches += 1;
            let from = zone(if float(&row[9]) < 500.0 { x } else { 1000.0 - x });
            let fee = [("zone", s(from)), ("to", s("poor")), ("reward", row[5].clone()), ("secs", f(300.0))];
            learned.extend(td.event("trips", at + 59.0, &fee));
            reposition.driver(at + 59.0, &text(&row[1]), "busy", x, zone(x));
            trips.entry(minute + 6).or_default().push((text(&row[1]), 0.0));
        }
        for (_, row) in learned {
            dispatch.value(at + 59.0, &text(&row[0]), float(&row[1]));
            reposition.value(at + 59.0, &text(&row[0]), float(&row[1]));
        }
    }
    assert!(dispatch.faults.is_empty() && reposition.faults.is_empty() && td.faults.is_empty());
    // That they do, not how well: what a fleet earns is for the city to say (docs/city.md).
    assert!(matches > 30, "{matches} matches");
    // That the circle runs, not how well the fleet does.
    assert!(moves_to_rich > 0, "{moves_to_rich} moves");
}
