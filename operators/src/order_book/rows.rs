//! From rows to records: reads the columns, and says what is wrong with a row before the kernel sees it.

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Float64Array, Int64Array, RecordBatch, StringArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type, Int64Type, TimestampMicrosecondType};

use super::book::Change;
use super::options::Shape;
use super::record::Record;
use super::rules::{Kind, Reason, Side};
use super::sequence::Numbers;
use super::words::Words;

/// The rows of a batch.
pub struct Rows<'a> {
    shape: &'a Shape,
    at: &'a [i64],
    seq: &'a [i64],
    kind: WordColumn,
    side: WordColumn,
    price: Float64Array,
    size: Float64Array,
    message: Option<Int64Array>,
    first: Option<Int64Array>,
    last: Option<Int64Array>,
    previous: Option<Int64Array>,
    trade: Option<Int64Array>,
    order: Option<Int64Array>,
    maker: Option<FlagColumn>,
    status: Option<WordColumn>,
    recorded: Vec<(Side, Float64Array, Float64Array)>,
    instrument: Vec<&'a ArrayRef>,
}

enum WordColumn {
    Text(StringArray),
    Int(Int64Array),
}

enum FlagColumn {
    Bool(BooleanArray),
    Int(Int64Array),
}

impl<'a> Rows<'a> {
    /// The rows of a batch.
    pub fn new(shape: &'a Shape, batch: &'a RecordBatch) -> Rows<'a> {
        let columns = &shape.columns;
        let ints = |column: Option<usize>| column.map(|c| batch.column(c).as_primitive::<Int64Type>().clone());
        let recorded = shape.recorded.iter().flat_map(|sides| {
            Side::BOTH.into_iter().flat_map(|side| sides[side as usize].iter().map(move |pair| (side, *pair)))
        });
        Rows {
            shape,
            at: batch.column(columns.at).as_primitive::<TimestampMicrosecondType>().values(),
            seq: batch.column(columns.seq).as_primitive::<Int64Type>().values(),
            kind: WordColumn::of(batch.column(columns.kind)),
            side: WordColumn::of(batch.column(columns.side)),
            price: floats(batch.column(columns.price)),
            size: floats(batch.column(columns.size)),
            message: ints(columns.message),
            first: ints(columns.first),
            last: ints(columns.last),
            previous: ints(columns.previous),
            trade: ints(columns.trade),
            order: ints(columns.order),
            maker: columns.buyer_is_maker.map(|c| FlagColumn::of(batch.column(c))),
            status: columns.status.map(|c| WordColumn::of(batch.column(c))),
            recorded: recorded
                .map(|(side, (price, size))| (side, floats(batch.column(price)), floats(batch.column(size))))
                .collect(),
            instrument: shape.instrument.iter().map(|c| batch.column(*c)).collect(),
        }
    }

    /// Whether the row does not say whose book it is of.
    pub fn is_nameless(&self, row: usize) -> bool {
        self.instrument.iter().any(|column| column.is_null(row))
    }

    /// A row as a record.
    pub fn record(&self, row: usize) -> Record {
        let words = &self.shape.words;
        let kind = match self.kind.meaning(&words.kinds, row) {
            Some(Some(kind)) => kind,
            Some(None) => self.status.as_ref().and_then(|s| s.meaning(&words.statuses, row)).unwrap_or(Kind::Unknown),
            None => Kind::Unknown,
        };
        let record = Record {
            at: self.at[row],
            seq: self.seq[row],
            kind,
            message: int(&self.message, row),
            numbers: Numbers {
                first: int(&self.first, row),
                last: int(&self.last, row),
                previous: int(&self.previous, row),
            },
            side: self.side.meaning(&words.sides, row),
            price: float(&self.price, row),
            size: float(&self.size, row),
            id: int(if kind == Kind::Trade { &self.trade } else { &self.order }, row),
            taker: self.maker.as_ref().and_then(|m| m.at(row)).map(|seller_took| if seller_took { -1 } else { 1 }),
            wrong: None,
        };
        self.checked(record)
    }

    /// The levels the venue has after the row, the best first.
    pub fn recorded(&self, row: usize, out: &mut Vec<Change>) {
        out.clear();
        for (side, prices, sizes) in &self.recorded {
            let (price, size) = (float(prices, row), float(sizes, row));
            let lots = self.shape.lot.map_or(Some(size), |lot| lot.count(size)).filter(|lots| *lots > 0.0);
            if let Some(lots) = lots
                && price.is_finite()
            {
                out.push(Change::new(*side, price, lots));
            }
        }
    }

    /// Looks whether a record has what its kind needs, and turns its size into lots.
    fn checked(&self, mut record: Record) -> Record {
        let by_order = self.shape.rules.by_order;
        let of_order = by_order
            && matches!(
                record.kind,
                Kind::Snapshot | Kind::Add | Kind::Reduce | Kind::Delete | Kind::Execute | Kind::SetRemaining
            );
        let (side, price, size) = match record.kind {
            Kind::Ignore | Kind::Halt | Kind::Resume => return record,
            Kind::Unknown => {
                record.wrong = Some(Reason::UnknownKind);
                return record;
            }
            Kind::Snapshot | Kind::Depth | Kind::Quote | Kind::Add | Kind::SetRemaining => (true, true, true),
            Kind::Trade | Kind::ExecuteHidden => (false, true, true),
            Kind::Reduce | Kind::Execute => (!by_order, !by_order, true),
            Kind::Delete => (!by_order, !by_order, !by_order),
        };
        // A level or an order may be set to nothing; nothing else is of nothing.
        let may_be_zero = match record.kind {
            Kind::Depth | Kind::Quote | Kind::SetRemaining => true,
            Kind::Snapshot => !by_order,
            _ => false,
        };
        let is_amount = record.size.is_finite() && (record.size > 0.0 || (may_be_zero && record.size == 0.0));
        let lots = self.shape.lot.map_or(Some(record.size), |lot| lot.count(record.size)).filter(|_| is_amount);
        record.wrong = if of_order && record.id.is_none() {
            Some(Reason::BadOrder)
        } else if side && record.side.is_none() {
            Some(Reason::BadSide)
        } else if price && !self.is_price(record.price) {
            Some(Reason::BadPrice)
        } else if size && lots.is_none() {
            Some(Reason::BadSize)
        } else {
            None
        };
        record.size = lots.unwrap_or(record.size) + 0.0;
        record.price += 0.0;
        record
    }

    fn is_price(&self, price: f64) -> bool {
        price.is_finite() && price > 0.0 && self.shape.tick.is_none_or(|tick| tick.count(price).is_some())
    }
}

impl WordColumn {
    fn of(column: &ArrayRef) -> WordColumn {
        match column.data_type() {
            DataType::Int64 => WordColumn::Int(column.as_primitive::<Int64Type>().clone()),
            _ => WordColumn::Text(column.as_string::<i32>().clone()),
        }
    }

    #[inline]
    fn meaning<T: Copy>(&self, words: &Words<T>, row: usize) -> Option<T> {
        match self {
            WordColumn::Text(column) if column.is_valid(row) => words.of_text(column.value(row)),
            WordColumn::Int(column) if column.is_valid(row) => words.of_int(column.value(row)),
            _ => None,
        }
    }
}

impl FlagColumn {
    fn of(column: &ArrayRef) -> FlagColumn {
        match column.data_type() {
            DataType::Boolean => FlagColumn::Bool(column.as_boolean().clone()),
            _ => FlagColumn::Int(column.as_primitive::<Int64Type>().clone()),
        }
    }

    fn at(&self, row: usize) -> Option<bool> {
        match self {
            FlagColumn::Bool(column) => column.is_valid(row).then(|| column.value(row)),
            FlagColumn::Int(column) => column.is_valid(row).then(|| column.value(row) != 0),
        }
    }
}

#[inline]
fn int(column: &Option<Int64Array>, row: usize) -> Option<i64> {
    column.as_ref().and_then(|c| c.is_valid(row).then(|| c.value(row)))
}

#[inline]
fn float(column: &Float64Array, row: usize) -> f64 {
    if column.is_valid(row) { column.value(row) } else { f64::NAN }
}

/// A column of numbers as floats.
fn floats(column: &ArrayRef) -> Float64Array {
    let column = cast(column, &DataType::Float64).expect("int64 and float64 are floats");
    column.as_primitive::<Float64Type>().clone()
}
