//! What readers see: the top of each book, its depth, its health, and the stream of ticks.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanArray, Float64Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray,
};
use arrow::datatypes::SchemaRef;
use engine::operator::Context;
use engine::plan::StepOutput;
use types::{Column, Delta, SEQ, Schema, Type};

use super::book::Book;
use super::course::{Course, Head, Phase};
use super::ladder::price_of;
use super::options::Shape;
use super::rules::Side;
use super::tally;
use super::tick::Tick;

/// The outputs, in order.
pub const TOP: usize = 0;
/// As above.
pub const DEPTH: usize = 1;
/// As above.
pub const HEALTH: usize = 2;
/// As above.
pub const TICKS: usize = 3;

/// The column that names the book where there is one only, and its value.
const ONE: &str = "instrument";
/// As above.
pub const ALL: &str = "all";

const TOP_COLUMNS: [(&str, Type, bool); 9] = [
    ("at", Type::Timestamp, false),
    ("healthy", Type::Bool, false),
    ("bid_price", Type::Float64, true),
    ("bid_size", Type::Float64, true),
    ("ask_price", Type::Float64, true),
    ("ask_size", Type::Float64, true),
    ("mid", Type::Float64, true),
    ("spread", Type::Float64, true),
    (SEQ, Type::Int64, false),
];

const DEPTH_COLUMNS: [(&str, Type, bool); 5] = [
    ("side", Type::String, false),
    ("level", Type::Int64, false),
    ("price", Type::Float64, false),
    ("size", Type::Float64, false),
    ("orders", Type::Int64, false),
];

const HEALTH_COLUMNS: [(&str, Type, bool); 5] = [
    ("at", Type::Timestamp, false),
    ("state", Type::String, false),
    ("reason", Type::String, true),
    ("halted", Type::Bool, false),
    ("last_update", Type::Int64, true),
];

/// Whether a name is that of a column of our own.
pub fn is_taken(name: &str) -> bool {
    let fixed = TOP_COLUMNS.iter().chain(&DEPTH_COLUMNS).chain(&HEALTH_COLUMNS).any(|(n, ..)| *n == name);
    fixed || tally::NAMES.contains(&name) || tick_names(100).any(|(n, ..)| n == name)
}

/// The columns of ticks after those of the instrument.
fn tick_names(levels: usize) -> impl Iterator<Item = (String, Type, bool)> {
    let column = |name: &str, ty, nullable| (name.to_owned(), ty, nullable);
    let first = [
        column("at", Type::Timestamp, false),
        column("kind", Type::String, false),
        column("healthy", Type::Bool, false),
    ];
    let levels = (1..=levels).flat_map(|level| {
        ["bid_price", "bid_size", "ask_price", "ask_size"].map(|n| (format!("{n}_{level}"), Type::Float64, true))
    });
    let trade = [
        column("trade_price", Type::Float64, true),
        column("trade_size", Type::Float64, true),
        column("trade_side", Type::Int64, true),
    ];
    let flow = ["bid_added", "bid_removed", "ask_added", "ask_removed"].map(|n| column(n, Type::Float64, false));
    first.into_iter().chain(levels).chain(trade).chain(flow).chain([column(SEQ, Type::Int64, false)])
}

/// The schemas of the outputs.
pub fn outputs(shape: &Shape) -> Vec<StepOutput> {
    let own = |c: &usize| Column { nullable: false, ..shape.schema.columns[*c].clone() };
    let instrument: Vec<Column> = shape.instrument.iter().map(own).collect();
    let one = Column { name: ONE.to_owned(), ty: Type::String, nullable: false };
    let named = if instrument.is_empty() { vec![one] } else { instrument.clone() };
    let column = |name: &str, ty, nullable| Column { name: name.to_owned(), ty, nullable };
    let view = |suffix, columns: Vec<Column>, more_key: usize| {
        let columns: Vec<Column> = named.iter().cloned().chain(columns).collect();
        let key = (0..named.len() + more_key).collect();
        StepOutput { suffix, schema: Schema { columns, key, event_time: None, append_only: false } }
    };
    let of = |columns: &[(&str, Type, bool)]| columns.iter().map(|(n, t, null)| column(n, *t, *null)).collect();
    let depth = if shape.rules.by_order { &DEPTH_COLUMNS[..] } else { &DEPTH_COLUMNS[..4] };
    let counts = tally::NAMES.iter().map(|name| column(name, Type::Int64, false));
    let health: Vec<Column> = HEALTH_COLUMNS.iter().map(|(n, t, null)| column(n, *t, *null)).chain(counts).collect();
    let ticks = tick_names(shape.rules.levels).map(|(n, t, null)| column(&n, t, null));
    let ticks: Vec<Column> = instrument.iter().cloned().chain(ticks).collect();
    let ticks =
        Schema { key: vec![ticks.len() - 1], event_time: Some(instrument.len()), append_only: true, columns: ticks };
    vec![
        view(None, of(&TOP_COLUMNS), 0),
        view(Some("depth"), of(depth), 2),
        view(Some("health"), health, 0),
        StepOutput { suffix: Some("ticks"), schema: ticks },
    ]
}

/// The state of a book in one word.
pub fn state_name(head: &Head) -> &'static str {
    match head.phase {
        Phase::Waiting => "waiting",
        Phase::Broken => "broken",
        Phase::Live if head.is_halted => "halted",
        Phase::Live if head.is_crossed => "crossed",
        Phase::Live => "live",
    }
}

/// What is shown of a book.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Shown {
    /// What `top` and `health` are made of; none before the first message.
    head: Option<Head>,
    /// The levels of each side: key, size, orders.
    levels: [Vec<(u64, f64, u32)>; 2],
}

impl Shown {
    /// What is to be shown.
    pub fn of(shape: &Shape, course: &Course) -> Shown {
        let levels = if course.is_healthy() { shape.rules.levels } else { 0 };
        let side = |side| course.book.side(side).best_first().take(levels).map(|l| (l.key, l.size, l.orders)).collect();
        Shown { head: course.head.at.map(|_| course.head), levels: Side::BOTH.map(side) }
    }

    fn is_healthy(head: &Head) -> bool {
        head.phase == Phase::Live && !head.is_halted && !head.is_crossed
    }

    /// The best of a side as it is told.
    fn best(&self, shape: &Shape, side: Side) -> Option<(f64, f64)> {
        self.levels[side as usize].first().map(|(key, size, _)| (price_of(side, *key), shape.told(*size)))
    }
}

/// Rows of one output that go or come, with the number of the book each is of.
#[derive(Debug, Default)]
struct Moved<T> {
    gone: Vec<(u32, T)>,
    come: Vec<(u32, T)>,
}

impl<T> Moved<T> {
    fn new() -> Moved<T> {
        Moved { gone: Vec::new(), come: Vec::new() }
    }
}

type DepthRow = (Side, i64, f64, f64, i64);
type Tops = Vec<(u32, (Head, [Option<(f64, f64)>; 2]))>;

/// Changes of the views of several books.
#[derive(Debug)]
pub struct Changes {
    tops: Moved<(Head, [Option<(f64, f64)>; 2])>,
    depths: Moved<DepthRow>,
}

impl Changes {
    /// No changes.
    pub fn new() -> Changes {
        Changes { tops: Moved::new(), depths: Moved::new() }
    }

    /// A book was shown as the first, and is now as the second.
    pub fn note(&mut self, shape: &Shape, seat: u32, before: &Shown, after: &Shown) {
        if before.head != after.head || Side::BOTH.iter().any(|s| before.best(shape, *s) != after.best(shape, *s)) {
            let top = |shown: &Shown| shown.head.map(|h| (seat, (h, Side::BOTH.map(|s| shown.best(shape, s)))));
            self.tops.gone.extend(top(before));
            self.tops.come.extend(top(after));
        }
        for side in Side::BOTH {
            let (old, new) = (&before.levels[side as usize], &after.levels[side as usize]);
            for at in 0..old.len().max(new.len()) {
                let row = |levels: &[(u64, f64, u32)]| {
                    let (key, size, orders) = *levels.get(at)?;
                    Some((seat, (side, at as i64 + 1, price_of(side, key), shape.told(size), i64::from(orders))))
                };
                let (old, new) = (row(old), row(new));
                if old != new {
                    self.depths.gone.extend(old);
                    self.depths.come.extend(new);
                }
            }
        }
    }
}

/// Ticks as they come up, to be told together.
#[derive(Debug, Default)]
pub struct Ticks {
    seats: Vec<u32>,
    ticks: Vec<Tick>,
    /// Four numbers for each level of each tick; NaN where there is none.
    levels: Vec<f64>,
}

impl Ticks {
    /// Another tick, of this book.
    pub fn push(&mut self, shape: &Shape, seat: u32, tick: &Tick, book: &Book) {
        self.seats.push(seat);
        self.ticks.push(*tick);
        let from = self.levels.len();
        self.levels.resize(from + 4 * shape.rules.levels, f64::NAN);
        if tick.is_healthy {
            let levels = &mut self.levels[from..];
            for side in Side::BOTH {
                for (at, (price, size, _)) in book.top(side, shape.rules.levels).enumerate() {
                    levels[4 * at + 2 * side as usize] = price;
                    levels[4 * at + 2 * side as usize + 1] = shape.told(size);
                }
            }
        }
    }
}

/// The views of a step.
pub struct Views {
    shape: Arc<Shape>,
    schemas: Vec<SchemaRef>,
}

impl Views {
    /// Of a step.
    pub fn new(shape: &Arc<Shape>) -> Views {
        let schemas = outputs(shape).iter().map(|output| output.schema.arrow()).collect();
        Views { shape: shape.clone(), schemas }
    }

    /// Tells the ticks there are. `names` gives the columns of some books' instruments.
    pub fn tell(&self, ticks: &mut Ticks, names: &dyn Fn(&[u32]) -> Vec<ArrayRef>, context: &mut Context) {
        if ticks.ticks.is_empty() {
            return;
        }
        let rows = std::mem::take(ticks);
        let (all, stride) = (&rows.ticks, 4 * self.shape.rules.levels);
        let optional = |of: &dyn Fn(&Tick) -> Option<f64>| Arc::new(all.iter().map(of).collect::<Float64Array>());
        let float = |of: &dyn Fn(&Tick) -> f64| {
            Arc::new(Float64Array::from_iter_values(all.iter().map(|t| self.shape.told(of(t)))))
        };
        let mut columns = names(&rows.seats);
        columns.push(times(all.iter().map(|t| t.at)));
        columns.push(Arc::new(StringArray::from_iter_values(all.iter().map(|t| t.kind.name()))));
        columns.push(Arc::new(all.iter().map(|t| Some(t.is_healthy)).collect::<BooleanArray>()));
        for at in 0..stride {
            let cells = rows.levels.iter().skip(at).step_by(stride);
            columns.push(Arc::new(cells.map(|v| (!v.is_nan()).then_some(*v)).collect::<Float64Array>()));
        }
        columns.push(optional(&|t| t.trade.map(|trade| trade.price)));
        columns.push(optional(&|t| t.trade.map(|trade| self.shape.told(trade.size))));
        columns.push(Arc::new(all.iter().map(|t| t.trade.and_then(|trade| trade.taker)).collect::<Int64Array>()));
        columns.push(float(&|t| t.flow.added[0]));
        columns.push(float(&|t| t.flow.removed[0]));
        columns.push(float(&|t| t.flow.added[1]));
        columns.push(float(&|t| t.flow.removed[1]));
        columns.push(Arc::new(Int64Array::from_iter_values(all.iter().map(|t| t.seq))));
        let batch = RecordBatch::try_new(self.schemas[TICKS].clone(), columns).expect("the planned columns");
        context.emit(TICKS, Delta::insert(batch));
    }

    /// Emits changes.
    pub fn emit(&self, changes: Changes, names: &dyn Fn(&[u32]) -> Vec<ArrayRef>, context: &mut Context) {
        let names = |seats: &[u32]| match self.shape.instrument.is_empty() {
            true => vec![Arc::new(StringArray::from_iter_values(seats.iter().map(|_| ALL))) as ArrayRef],
            false => names(seats),
        };
        let Changes { tops, depths } = changes;
        for (rows, is_gone) in [(tops.gone, true), (tops.come, false)] {
            if rows.is_empty() {
                continue;
            }
            let seats: Vec<u32> = rows.iter().map(|(seat, _)| *seat).collect();
            for (output, more) in [(TOP, top_columns(&rows)), (HEALTH, health_columns(&rows))] {
                self.send(output, names(&seats), more, is_gone, context);
            }
        }
        for (rows, is_gone) in [(depths.gone, true), (depths.come, false)] {
            if rows.is_empty() {
                continue;
            }
            let seats: Vec<u32> = rows.iter().map(|(seat, _)| *seat).collect();
            let more = depth_columns(&rows, self.shape.rules.by_order);
            self.send(DEPTH, names(&seats), more, is_gone, context);
        }
    }

    fn send(&self, output: usize, names: Vec<ArrayRef>, more: Vec<ArrayRef>, is_gone: bool, context: &mut Context) {
        let columns = names.into_iter().chain(more).collect();
        let batch = RecordBatch::try_new(self.schemas[output].clone(), columns).expect("the planned columns");
        context.emit(output, if is_gone { Delta::delete(batch) } else { Delta::insert(batch) });
    }
}

fn times(values: impl Iterator<Item = i64>) -> ArrayRef {
    Arc::new(TimestampMicrosecondArray::from_iter_values(values).with_timezone("UTC"))
}

fn top_columns(rows: &Tops) -> Vec<ArrayRef> {
    let best = |side: Side| rows.iter().map(move |(_, (_, best))| best[side as usize]);
    let both = |of: &dyn Fn(f64, f64) -> f64| -> ArrayRef {
        let pairs = rows.iter().map(|(_, (_, best))| Some(of(best[0]?.0, best[1]?.0)));
        Arc::new(pairs.collect::<Float64Array>())
    };
    vec![
        times(rows.iter().map(|(_, (head, _))| head.at.unwrap_or(0))),
        Arc::new(rows.iter().map(|(_, (head, _))| Some(Shown::is_healthy(head))).collect::<BooleanArray>()),
        Arc::new(best(Side::Bid).map(|b| b.map(|b| b.0)).collect::<Float64Array>()),
        Arc::new(best(Side::Bid).map(|b| b.map(|b| b.1)).collect::<Float64Array>()),
        Arc::new(best(Side::Ask).map(|b| b.map(|b| b.0)).collect::<Float64Array>()),
        Arc::new(best(Side::Ask).map(|b| b.map(|b| b.1)).collect::<Float64Array>()),
        both(&mid),
        both(&spread),
        Arc::new(Int64Array::from_iter_values(rows.iter().map(|(_, (head, _))| head.seq))),
    ]
}

/// The mean of the best bid and the best ask.
pub fn mid(bid: f64, ask: f64) -> f64 {
    // Halves first: the sum of two large prices would be infinite.
    bid / 2.0 + ask / 2.0
}

/// How far they are apart.
pub fn spread(bid: f64, ask: f64) -> f64 {
    ask - bid
}

fn health_columns(rows: &Tops) -> Vec<ArrayRef> {
    let heads = || rows.iter().map(|(_, (head, _))| head);
    let mut columns: Vec<ArrayRef> = vec![
        times(heads().map(|head| head.at.unwrap_or(0))),
        Arc::new(StringArray::from_iter_values(heads().map(state_name))),
        Arc::new(heads().map(|head| head.reason.map(|r| r.name())).collect::<StringArray>()),
        Arc::new(heads().map(|head| Some(head.is_halted)).collect::<BooleanArray>()),
        Arc::new(heads().map(|head| head.last).collect::<Int64Array>()),
    ];
    let count = |at: usize| Int64Array::from_iter_values(heads().map(|head| head.tally.0[at]));
    columns.extend((0..tally::COUNTS).map(|at| Arc::new(count(at)) as ArrayRef));
    columns
}

fn depth_columns(rows: &[(u32, DepthRow)], with_orders: bool) -> Vec<ArrayRef> {
    let rows = || rows.iter().map(|(_, row)| row);
    let mut columns: Vec<ArrayRef> = vec![
        Arc::new(StringArray::from_iter_values(rows().map(|row| row.0.name()))),
        Arc::new(Int64Array::from_iter_values(rows().map(|row| row.1))),
        Arc::new(Float64Array::from_iter_values(rows().map(|row| row.2))),
        Arc::new(Float64Array::from_iter_values(rows().map(|row| row.3))),
    ];
    if with_orders {
        columns.push(Arc::new(Int64Array::from_iter_values(rows().map(|row| row.4))));
    }
    columns
}
