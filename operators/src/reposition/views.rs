//! What readers see: where each driver was sent last, and all moves.

use engine::operator::Context;
use engine::plan::StepOutput;
use types::{Column, RowCodec, Type, Value};

use super::course::{Course, Decision, Driver, Touched};
use super::options::Reposition;
use crate::fleet::ids::Ids;
use crate::fleet::views::{Row, column, emit, stream, table};

/// The outputs, in the order of the step's.
pub const DESTINATIONS: usize = 0;
/// As above.
pub const MOVES: usize = 1;

/// The step's outputs.
pub fn outputs(shape: &Reposition) -> Vec<StepOutput> {
    let input = &shape.drivers.input;
    let driver =
        Column { name: "driver".to_owned(), ty: input.schema.columns[shape.drivers.driver].ty, nullable: false };
    let key = input.market.iter().map(|c| input.schema.columns[*c].clone()).chain([driver]).collect();
    let floats = ["probability", "value", "discount", "distance_m"].map(|name| column(name, Type::Float64));
    let texts = ["cell", "from_cell"].map(|name| column(name, Type::String));
    let others = [column("at", Type::Timestamp)].into_iter().chain(texts).chain(floats).collect();
    let destinations = table(None, key, others);
    let moves = stream("moves", &destinations);
    vec![destinations, moves]
}

/// A decision's cells after those of the driver and its market.
pub fn cells(d: &Decision) -> Row {
    let floats = [d.probability, d.value, d.discount, d.distance_m].map(|v| Value::Float(v + 0.0));
    let texts = [&d.cell, &d.from_cell].map(|text| Value::Str(text.clone()));
    [Value::Time(d.at)].into_iter().chain(texts).chain(floats).collect()
}

/// Tells what has changed.
pub struct Views {
    codecs: Vec<RowCodec>,
    market: Ids,
    driver: Ids,
}

impl Views {
    /// Of a repositioning.
    pub fn new(shape: &Reposition) -> Views {
        let d = &shape.drivers;
        Views {
            codecs: outputs(shape).iter().map(|output| RowCodec::new(&output.schema)).collect(),
            market: Ids::new(&d.input.schema, &d.input.market),
            driver: Ids::new(&d.input.schema, &[d.driver]),
        }
    }

    /// Tells what has changed in a market.
    pub fn tell(&self, market: &[u8], course: &Course, touched: &Touched, context: &mut Context) {
        let market = self.market.cells(market);
        let row = |id: &[u8], decision: &Decision| -> Row {
            market.iter().cloned().chain(self.driver.cells(id)).chain(cells(decision)).collect()
        };
        let (mut gone, mut come) = (Vec::new(), Vec::new());
        let sent = |id: &[u8], driver: Option<&Driver>| Some(row(id, driver?.decision.as_ref()?));
        for (id, before) in &touched.drivers {
            let (before, now) = (sent(id, before.as_ref()), sent(id, course.drivers.get(id)));
            if before != now {
                gone.extend(before);
                come.extend(now);
            }
        }
        emit(context, DESTINATIONS, &self.codecs[DESTINATIONS], &gone, &come);
        let moves: Vec<Row> = touched.moves.iter().map(|(id, decision)| row(id, decision)).collect();
        emit(context, MOVES, &self.codecs[MOVES], &[], &moves);
    }
}
