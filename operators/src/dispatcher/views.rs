//! What readers see: decisions, matches, who waits on either side, and totals.

use engine::operator::Context;
use engine::plan::StepOutput;
use types::{Column, RowCodec, Type, Value};

use super::course::{Decision, Driver, Order, Totals, Touched};
use super::options::Dispatch;
use crate::fleet::drivers::Duty;
use crate::fleet::ids::Ids;
use crate::fleet::options::Input;
use crate::fleet::views::{Row, column, emit, stream, table};

/// The outputs, in the order of the step's.
pub const DECISIONS: usize = 0;
/// As above.
pub const MATCHES: usize = 1;
/// As above.
pub const WAITING: usize = 2;
/// As above.
pub const IDLE: usize = 3;
/// As above.
pub const ROUNDS: usize = 4;

/// The step's outputs.
pub fn outputs(dispatch: &Dispatch) -> Vec<StepOutput> {
    let of = |input: &Input, name: &str, c: usize| Column {
        name: name.to_owned(),
        ty: input.schema.columns[c].ty,
        nullable: false,
    };
    let (d, o) = (&dispatch.drivers, &dispatch.orders);
    let markets = || -> Vec<Column> { d.input.market.iter().map(|c| d.input.schema.columns[*c].clone()).collect() };
    let with = |column: Column| markets().into_iter().chain([column]).collect::<Vec<_>>();
    let order = || with(of(&o.input, "order", o.order));
    let driver = of(&d.input, "driver", d.driver);
    let float = |name| column(name, Type::Float64);
    let int = |name| column(name, Type::Int64);
    let time = |name| column(name, Type::Timestamp);
    let parts = ["weight", "completion", "reward", "discount", "value_destination", "value_origin", "distance_m"];
    let decisions = table(None, order(), [driver.clone(), time("at")].into_iter().chain(parts.map(float)).collect());
    let matches = stream("matches", &decisions);
    let until = Column { nullable: true, ..time("until") };
    let places = dispatch.metric.names().map(float);
    let pickup = dispatch.metric.names().map(|name| column(&format!("pickup_{name}"), Type::Float64));
    let of_order = [time("since"), until, float("reward"), float("trip_secs")];
    let waiting = table(Some("waiting"), order(), of_order.into_iter().chain(pickup).collect());
    let idle = table(Some("idle"), with(driver), [time("since")].into_iter().chain(places).collect());
    let counts = ["rounds", "orders", "matched", "expired", "cancelled"].map(int);
    let mean = Column { nullable: true, ..float("mean_distance_m") };
    let others = counts.into_iter().chain([mean, float("total_weight")]).collect();
    vec![decisions, matches, waiting, idle, table(Some("rounds"), markets(), others)]
}

/// A decision's cells after those of the order and its market.
pub fn decision_cells(driver: Value, decision: &Decision) -> Row {
    let w = &decision.weight;
    let parts = [w.total, w.completion, w.reward, w.discount, w.value_destination, w.value_origin, decision.distance_m];
    [driver, Value::Time(decision.at)].into_iter().chain(parts.map(|part| Value::Float(part + 0.0))).collect()
}

/// The cells of totals after those of the market.
pub fn totals_cells(t: &Totals) -> Row {
    let mean = if t.matched > 0 { Value::Float(t.distance_m / t.matched as f64) } else { Value::Null };
    let counts = [t.rounds, t.orders, t.matched, t.expired, t.cancelled].map(Value::Int);
    counts.into_iter().chain([mean, Value::Float(t.weight + 0.0)]).collect()
}

/// Tells what has changed.
pub struct Views {
    codecs: Vec<RowCodec>,
    market: Ids,
    driver: Ids,
    order: Ids,
}

impl Views {
    /// Of a dispatch.
    pub fn new(dispatch: &Dispatch) -> Views {
        let (d, o) = (&dispatch.drivers, &dispatch.orders);
        Views {
            codecs: outputs(dispatch).iter().map(|output| RowCodec::new(&output.schema)).collect(),
            market: Ids::new(&d.input.schema, &d.input.market),
            driver: Ids::new(&d.input.schema, &[d.driver]),
            order: Ids::new(&o.input.schema, &[o.order]),
        }
    }

    /// Tells what has changed in a market.
    pub fn tell(&self, market: &[u8], course: &super::course::Course, touched: &Touched, context: &mut Context) {
        let market = self.market.cells(market);
        let row = |id: Vec<Value>, cells: Row| -> Row { market.iter().cloned().chain(id).chain(cells).collect() };
        let decided = |id: &[u8], decision: &Decision| {
            let driver = self.driver.cells(&decision.driver).remove(0);
            row(self.order.cells(id), decision_cells(driver, decision))
        };
        let open = |id: &[u8], order: &Order| {
            let until = if order.until == i64::MAX { Value::Null } else { Value::Time(order.until) };
            let [a, b] = order.pickup.told;
            let numbers = [order.reward, order.trip_secs, a, b].map(Value::Float);
            row(self.order.cells(id), [Value::Time(order.since), until].into_iter().chain(numbers).collect())
        };
        let idle = |id: &[u8], driver: &Driver| {
            let places = driver.spot.told.map(Value::Float);
            row(self.driver.cells(id), [Value::Time(driver.since)].into_iter().chain(places).collect())
        };
        let mut changes = Changes::default();
        for (id, before) in &touched.decisions {
            changes.note(before.as_ref().map(|d| decided(id, d)), course.decisions.get(id).map(|d| decided(id, d)));
        }
        changes.emit(context, DECISIONS, &self.codecs);
        let matches: Vec<Row> = touched.matches.iter().map(|(id, decision)| decided(id, decision)).collect();
        emit(context, MATCHES, &self.codecs[MATCHES], &[], &matches);
        for (id, before) in &touched.orders {
            changes.note(before.as_ref().map(|o| open(id, o)), course.orders.get(id).map(|o| open(id, o)));
        }
        changes.emit(context, WAITING, &self.codecs);
        let is_idle = |d: &&Driver| d.duty == Duty::Idle;
        for (id, before) in &touched.drivers {
            let now = course.drivers.get(id).filter(is_idle);
            changes.note(before.as_ref().filter(is_idle).map(|d| idle(id, d)), now.map(|d| idle(id, d)));
        }
        changes.emit(context, IDLE, &self.codecs);
        if let Some(before) = &touched.totals {
            let totals = |t: &Totals| row(Vec::new(), totals_cells(t));
            changes.note(before.as_ref().map(totals), course.totals.as_ref().map(totals));
        }
        changes.emit(context, ROUNDS, &self.codecs);
    }
}

/// The rows of one view that go and come.
#[derive(Default)]
struct Changes {
    gone: Vec<Row>,
    come: Vec<Row>,
}

impl Changes {
    fn note(&mut self, before: Option<Row>, now: Option<Row>) {
        if before != now {
            self.gone.extend(before);
            self.come.extend(now);
        }
    }

    fn emit(&mut self, context: &mut Context, output: usize, codecs: &[RowCodec]) {
        emit(context, output, &codecs[output], &self.gone, &self.come);
        self.gone.clear();
        self.come.clear();
    }
}
