//! The order book as a function of history: gives each row to the course of its instrument, tells of what comes up, and
//! keeps what changed.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch};
use engine::operator::{Context, HistoryOperator};

use super::book::{Book, Change};
use super::course::Course;
use super::options::Shape;
use super::record::Record;
use super::rows::Rows;
use super::rules::Reason;
use super::state::{self, Stored};
use super::tick::{Listener, Tick};
use super::views::{Changes, Shown, Ticks, Views};
use crate::groups::Groups;
use crate::refusal::Refusal;

/// The books of one worker.
pub struct Keeper {
    shape: Arc<Shape>,
    refusal: Refusal,
    views: Views,
    /// From an instrument to the number of its seat; without instruments there is one seat.
    groups: Option<Groups>,
    seats: Vec<Seat>,
    /// The seats that had records since the last call of `advance`.
    touched: Vec<u32>,
    ticks: Ticks,
    is_restoring: bool,
}

/// A course with what is known of it outside.
struct Seat {
    course: Course,
    stored: Stored,
    shown: Shown,
    is_touched: bool,
    /// The last row of the message that is being gathered, when its batch is gone.
    kept: Option<RecordBatch>,
}

/// The place of a row that stands in [`Seat::kept`].
const KEPT: u32 = u32::MAX;

/// Takes what comes up of one book.
struct Told<'a> {
    shape: &'a Shape,
    refusal: &'a Refusal,
    ticks: &'a mut Ticks,
    context: &'a mut Context,
    seat: u32,
    events: Option<&'a RecordBatch>,
    kept: Option<&'a RecordBatch>,
}

impl Listener for Told<'_> {
    fn tick(&mut self, tick: &Tick, book: &Book) {
        self.ticks.push(self.shape, self.seat, tick, book);
    }

    fn fault(&mut self, place: u32, reason: Reason, detail: String) {
        let (rows, row) = if place == KEPT { (self.kept, 0) } else { (self.events, place as usize) };
        let rows = rows.expect("the row was kept");
        self.refusal.refuse(self.context, rows, row, 1, reason.name(), detail);
    }
}

impl Keeper {
    /// Before the first event.
    pub fn new(shape: Arc<Shape>) -> Keeper {
        let types: Vec<types::Type> = shape.instrument.iter().map(|c| shape.schema.columns[*c].ty).collect();
        Keeper {
            refusal: Refusal::new(&shape.relation, &shape.schema),
            views: Views::new(&shape),
            groups: (!types.is_empty()).then(|| Groups::new(&types)),
            seats: Vec::new(),
            touched: Vec::new(),
            ticks: Ticks::default(),
            is_restoring: false,
            shape,
        }
    }

    /// Makes seats for the instruments there are.
    fn grow(&mut self) {
        let len = self.groups.as_ref().map_or(1, Groups::len);
        let shape = &self.shape;
        self.seats.resize_with(len, || {
            let course = Course::new(&shape.rules);
            let shown = Shown::default();
            Seat { course, stored: Stored::default(), shown, is_touched: false, kept: None }
        });
    }

    /// Everything stored has been given back: what was shown is what would be.
    fn put_back(&mut self) {
        if std::mem::take(&mut self.is_restoring) {
            for seat in &mut self.seats {
                state::restored(&mut seat.course, &mut seat.stored);
                seat.shown = Shown::of(&self.shape, &seat.course);
            }
        }
    }

    fn tell(&mut self, context: &mut Context) {
        let groups = &self.groups;
        self.views.tell(&mut self.ticks, &|seats| names(groups, seats), context);
    }
}

/// The columns of some seats' instruments.
fn names(groups: &Option<Groups>, seats: &[u32]) -> Vec<ArrayRef> {
    groups.as_ref().map_or(Vec::new(), |groups| groups.columns(seats))
}

impl HistoryOperator for Keeper {
    fn restore(&mut self, key: &[u8], value: &[u8]) {
        self.is_restoring = true;
        let (length, value) = value.split_at(2);
        let length = usize::from(u16::from_le_bytes([length[0], length[1]]));
        let (instrument, entry) = key.split_at(length);
        let seat = self.groups.as_mut().map_or(0, |groups| groups.number_of_key(instrument));
        self.grow();
        let seat = &mut self.seats[seat as usize];
        state::restore(&mut seat.course, &mut seat.stored, entry, value);
    }

    fn apply(&mut self, _input: usize, events: &RecordBatch, context: &mut Context) {
        self.put_back();
        let mut numbers = Vec::new();
        match &mut self.groups {
            Some(groups) => {
                let columns: Vec<ArrayRef> = self.shape.instrument.iter().map(|c| events.column(*c).clone()).collect();
                groups.number(&columns, &mut numbers);
            }
            None => numbers.resize(events.num_rows(), 0),
        }
        self.grow();
        let shape = self.shape.clone();
        let rows = Rows::new(&shape, events);
        let mut recorded: Vec<Change> = Vec::new();
        for (row, number) in numbers.iter().enumerate() {
            if rows.is_nameless(row) {
                let detail = "a column that says whose book it is is null".to_owned();
                self.refusal.refuse(context, events, row, 1, Reason::NullInstrument.name(), detail);
                continue;
            }
            let seat = &mut self.seats[*number as usize];
            if !std::mem::replace(&mut seat.is_touched, true) {
                self.touched.push(*number);
            }
            let record: Record = rows.record(row);
            if shape.rules.recorded.is_some() {
                rows.recorded(row, &mut recorded);
            }
            let mut told = Told {
                shape: &shape,
                refusal: &self.refusal,
                ticks: &mut self.ticks,
                context,
                seat: *number,
                events: Some(events),
                kept: seat.kept.as_ref(),
            };
            seat.course.feed(&shape.rules, &record, &recorded, row as u32, &mut told);
        }
        // What a message still to be completed may be blamed for is its last row.
        for number in &self.touched {
            let seat = &mut self.seats[*number as usize];
            match &mut seat.course.pending {
                Some(message) if message.place != KEPT => {
                    seat.kept = Some(events.slice(message.place as usize, 1));
                    message.place = KEPT;
                }
                Some(_) => {}
                None => seat.kept = None,
            }
        }
        self.tell(context);
    }

    fn advance(&mut self, context: &mut Context) {
        // Every event that was given lies before the watermark, so no record can be missing of any message.
        let mut changes = Changes::new();
        let mut key = Vec::new();
        for number in std::mem::take(&mut self.touched) {
            let seat = &mut self.seats[number as usize];
            let mut told = Told {
                shape: &self.shape,
                refusal: &self.refusal,
                ticks: &mut self.ticks,
                context,
                seat: number,
                events: None,
                kept: seat.kept.as_ref(),
            };
            seat.course.complete(&self.shape.rules, &mut told);
            seat.kept = None;
            seat.is_touched = false;
            let shown = Shown::of(&self.shape, &seat.course);
            changes.note(&self.shape, number, &seat.shown, &shown);
            seat.shown = shown;
            key.clear();
            if let Some(groups) = &self.groups {
                groups.key(number, &mut key);
            }
            let length = (key.len() as u16).to_le_bytes();
            let mut bytes = Vec::new();
            state::store(&mut seat.course, &mut seat.stored, &mut |entry, value| {
                let value = value.map(|value| {
                    bytes.clear();
                    bytes.extend_from_slice(&length);
                    bytes.extend_from_slice(value);
                    &bytes[..]
                });
                context.put_state(&key, entry, value);
            });
        }
        self.tell(context);
        let groups = &self.groups;
        self.views.emit(changes, &|seats| names(groups, seats), context);
    }
}
