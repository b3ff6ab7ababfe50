//! The value function at work: transitions in, changed values out.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, Float64Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray,
    UInt32Array,
};
use arrow::compute::{cast, take};
use arrow::datatypes::{DataType, Float64Type, Int64Type, SchemaRef, TimestampMicrosecondType};
use arrow::row::{RowConverter, SortField};
use engine::metrics::TD_ERROR;
use engine::operator::{Context, HistoryOperator};
use h3o::CellIndex;
use hashbrown::HashMap;
use rustc_hash::FxBuildHasher;
use types::{Delta, Micros, Type, Value};

use super::calendar::{Anchor, Change};
use super::options::{Grid, Places, TdValue, cell_name};
use super::views;
use crate::dispatch::tiles::{TILED_CELLS, tile_name, tiles};
use crate::groups::Groups;
use crate::refusal::Refusal;

/// The value function of a worker's partitions.
pub struct Learner {
    td: Arc<TdValue>,
    refusal: Refusal,
    schemas: Vec<SchemaRef>,
    /// The columns of the partition, whose bytes say which shard owns an entry.
    partition: Option<RowConverter>,
    /// Partitions by number; not numbered where nothing is kept of them.
    partitions: Groups,
    parts: Vec<Part>,
    /// Keys by partition and state; also those only reached so far.
    keys: Groups,
    /// Without tiles a cell is a key and has its number; else the cells of keys.
    key_cells: Vec<u32>,
    tile_cells: HashMap<(u32, i64, i64), u32, FxBuildHasher>,
    hexagons: HashMap<(u32, CellIndex), u32, FxBuildHasher>,
    cells: Cells,
    /// What is known of cells beside their values, if that is needed.
    facts: Vec<Fact>,
    told: Told,
    figures: Figures,
}

/// The table, in columns, and which of its cells were touched by this call.
#[derive(Default)]
struct Cells {
    values: Vec<f64>,
    /// Cells without visits are not in the view, and not stored.
    visits: Vec<i64>,
    updated_at: Vec<i64>,
    /// For each cell whether it is among the touched.
    is_touched: Vec<bool>,
    touched: Vec<u32>,
    /// What the touched cells were before: value, visits, time.
    before: Vec<(f64, i64, i64)>,
}

impl Cells {
    #[inline]
    fn touch(&mut self, cell: u32) {
        let at = cell as usize;
        if !self.is_touched[at] {
            self.is_touched[at] = true;
            self.touched.push(cell);
            self.before.push((self.values[at], self.visits[at], self.updated_at[at]));
        }
    }

    #[inline]
    fn learn(&mut self, cell: u32, value: f64, at: Micros) {
        self.touch(cell);
        let cell = cell as usize;
        self.values[cell] = value + 0.0;
        self.visits[cell] += 1;
        self.updated_at[cell] = at;
    }

    fn push(&mut self, value: f64) {
        self.values.push(value);
        self.visits.push(0);
        self.updated_at.push(0);
        self.is_touched.push(false);
    }

    fn grow(&mut self, len: usize, initial: f64) {
        self.values.resize(len, initial);
        self.visits.resize(len, 0);
        self.updated_at.resize(len, 0);
        self.is_touched.resize(len, false);
    }
}

/// What is known of a cell.
struct Fact {
    part: u32,
    kind: Kind,
    name: String,
    /// Its number in the offline value function.
    offline: Option<usize>,
}

/// What a cell is.
#[derive(Clone, Copy)]
enum Kind {
    Key(u32),
    Tile(i64, i64),
    Hexagon(CellIndex),
}

/// A partition.
#[derive(Default)]
struct Part {
    /// The change points up to here are behind it; none are before its first event.
    through: Option<Micros>,
    next_change: Micros,
    /// The values of the offline function's cells, as long as nobody was in them.
    unvisited: Vec<f64>,
    is_moved: bool,
    /// The weight the last change point gave the offline function.
    offline_weight: Option<f64>,
    members: Vec<u32>,
    errors: Errors,
    /// What the errors were before this call, and a row of the partition's, if it was touched.
    touched: Option<(Errors, u32)>,
}

/// TD errors of a partition.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Errors {
    count: u64,
    refused: u64,
    sum: f64,
    sum_absolute: f64,
    greatest: f64,
}

impl Errors {
    fn add(&mut self, error: f64) {
        // What would be infinite stays at the end of the floats.
        let finite = |sum: f64| sum.clamp(f64::MIN, f64::MAX);
        self.count += 1;
        self.sum = finite(self.sum + error);
        self.sum_absolute = finite(self.sum_absolute + error.abs());
        self.greatest = self.greatest.max(error.abs());
    }
}

/// What gauges are of; no part of the state.
#[derive(Default)]
struct Figures {
    /// The absolute TD errors of this epoch.
    error: f64,
    errors: u64,
    /// Cells that were left once, and transitions that were learned from, ever.
    visited: u64,
    updates: u64,
    /// The weights of the offline function in the partitions, summed up, and how many these are.
    offline: (f64, u64),
}

impl Figures {
    /// Counts a partition, by the last change point that it has passed.
    fn weigh(&mut self, part: &mut Part, change: Option<&Change>) {
        let before = part.offline_weight;
        let weight = match change {
            Some(Change { anchor: Anchor::Offline, keep, .. }) => 1.0 - keep,
            Some(_) => 0.0,
            None => before.unwrap_or(0.0),
        };
        self.offline.1 += u64::from(before.is_none());
        self.offline.0 += weight - before.unwrap_or(0.0);
        part.offline_weight = Some(weight);
    }
}

/// Rows of `changes`: for each the row of the event that moved or showed it, and the cell's name, value and number.
#[derive(Default)]
struct Told {
    rows: Vec<u32>,
    names: Vec<u8>,
    ends: Vec<i32>,
    values: Vec<f64>,
    seqs: Vec<i64>,
}

impl Told {
    fn tell(&mut self, row: usize, name: &str, value: f64, seq: i64) {
        self.rows.push(row as u32);
        self.names.extend_from_slice(name.as_bytes());
        self.ends.push(self.names.len() as i32);
        self.values.push(value);
        self.seqs.push(seq);
    }
}

/// The cells of a place; of them so many count as places have.
type Place = [u32; TILED_CELLS];

/// The suffixes of the stored state that are not a state's own bytes, which begin with less: of a partition; with a byte
/// more of its unvisited cells, with two numbers more of a tile, with one of a hexagon. The entry of each has another length.
const OWN: u8 = 0xff;
/// How long entries are: of a key's cell, of a tile's, of a hexagon's, and a partition's own. That of its unvisited cells has
/// two bytes more than some numbers.
const KEY_BYTES: usize = 24;
const TILE_BYTES: usize = 25;
const HEXAGON_BYTES: usize = 27;
const PART_BYTES: usize = 48;

impl Learner {
    /// Nothing learned yet.
    pub fn new(td: Arc<TdValue>) -> Learner {
        let t = &td.transition;
        let types = |columns: &[usize]| -> Vec<Type> { columns.iter().map(|i| td.input.columns[*i].ty).collect() };
        let partition = types(&t.partition);
        let fields: Vec<SortField> = partition.iter().map(|ty| SortField::new(ty.arrow())).collect();
        let key: Vec<Type> = partition.iter().copied().chain(types(&t.state)).collect();
        let part = Part { unvisited: unvisited(&td), next_change: Micros::MAX, ..Part::default() };
        Learner {
            refusal: Refusal::new(&td.relation, &td.input),
            schemas: views::outputs(&td).iter().map(|o| o.schema.arrow()).collect(),
            partition: (!fields.is_empty()).then(|| RowConverter::new(fields).expect("every type is supported")),
            partitions: Groups::new(&partition),
            // Where there are no partitions, or they need not be told apart, there is one.
            parts: vec![part],
            keys: Groups::new(&key),
            key_cells: Vec::new(),
            tile_cells: HashMap::default(),
            hexagons: HashMap::default(),
            cells: Cells::default(),
            facts: Vec::new(),
            told: Told::default(),
            figures: Figures::default(),
            td,
        }
    }

    /// Whether something is kept of partitions.
    fn keeps_parts(&self) -> bool {
        self.td.has_errors || self.has_points()
    }

    fn has_points(&self) -> bool {
        !self.td.calendar.points().is_empty()
    }

    /// Whether cells must be known by more than their number.
    fn keeps_facts(&self) -> bool {
        self.td.places.is_some() || self.td.has_changes || self.has_points()
    }

    /// The partition of every event.
    fn number_parts(&mut self, events: &RecordBatch) -> Vec<u32> {
        let columns: Vec<ArrayRef> = self.td.transition.partition.iter().map(|i| events.column(*i).clone()).collect();
        if columns.is_empty() || !(self.keeps_parts() || self.keeps_facts()) {
            return vec![0; events.num_rows()];
        }
        let mut numbers = Vec::with_capacity(events.num_rows());
        self.partitions.number(&columns, &mut numbers);
        self.grow_parts();
        numbers
    }

    fn grow_parts(&mut self) {
        while self.parts.len() < self.partitions.len() {
            let unvisited = unvisited(&self.td);
            self.parts.push(Part { unvisited, next_change: Micros::MAX, ..Part::default() });
        }
    }

    /// The cell of every event's key.
    fn number_keys(&mut self, events: &RecordBatch, parts: &[u32], states: &[usize]) -> Vec<u32> {
        let partition = &self.td.transition.partition;
        let columns: Vec<ArrayRef> = partition.iter().chain(states).map(|i| events.column(*i).clone()).collect();
        if states.is_empty() {
            // With hexagons there are no keys.
            return vec![0; events.num_rows()];
        }
        let mut numbers = Vec::with_capacity(events.num_rows());
        self.keys.number(&columns, &mut numbers);
        if !self.keeps_facts() {
            self.cells.grow(self.keys.len(), self.td.rates.initial);
            return numbers;
        }
        for (row, number) in numbers.iter_mut().enumerate() {
            // Keys are numbered as they are first seen.
            if *number as usize == self.key_cells.len() {
                let key: Vec<Value> = states.iter().map(|i| Value::at(events.column(*i), row)).collect();
                let name = cell_name(&key, self.td.places.is_some());
                let cell = self.new_cell(parts[row], Kind::Key(*number), name);
                self.key_cells.push(cell);
            }
            *number = self.key_cells[*number as usize];
        }
        numbers
    }

    fn new_cell(&mut self, part: u32, kind: Kind, name: String) -> u32 {
        let cell = self.facts.len() as u32;
        let offline = self.td.offline.as_ref().and_then(|o| o.cell(&name));
        let members = &mut self.parts[part as usize];
        self.cells.push(offline.map_or(self.td.rates.initial, |at| members.unvisited[at]));
        members.members.push(cell);
        self.facts.push(Fact { part, kind, name, offline });
        cell
    }

    fn tile_cell(&mut self, part: u32, x: i64, y: i64) -> u32 {
        if let Some(cell) = self.tile_cells.get(&(part, x, y)) {
            return *cell;
        }
        let cell = self.new_cell(part, Kind::Tile(x, y), tile_name(x, y));
        self.tile_cells.insert((part, x, y), cell);
        cell
    }

    fn hexagon(&mut self, part: u32, hexagon: CellIndex) -> u32 {
        if let Some(cell) = self.hexagons.get(&(part, hexagon)) {
            return *cell;
        }
        let cell = self.new_cell(part, Kind::Hexagon(hexagon), hexagon.to_string());
        self.hexagons.insert((part, hexagon), cell);
        cell
    }

    /// The cells of a key at coordinates, or none if these are wanted and are nowhere.
    fn place(&mut self, part: u32, key: u32, at: Option<&[Float64Array; 2]>, row: usize) -> Option<Place> {
        let mut place = [key; TILED_CELLS];
        if let (Some([x, y]), Some(Places { grid, .. })) = (at, self.td.places) {
            if x.is_null(row) || y.is_null(row) {
                return None;
            }
            match grid {
                Grid::Tiles(size) => {
                    let tiles = tiles(size, x.value(row), y.value(row))?;
                    for (cell, (x, y)) in place[1..].iter_mut().zip(tiles) {
                        *cell = self.tile_cell(part, x, y);
                    }
                }
                Grid::H3(levels) => {
                    let finest = levels.cell(x.value(row), y.value(row))?;
                    for (cell, hexagon) in place.iter_mut().zip(levels.with_parents(finest)) {
                        *cell = self.hexagon(part, hexagon);
                    }
                }
            }
        }
        Some(place)
    }

    fn value(&self, place: &[u32]) -> f64 {
        match place {
            [one] => self.cells.values[*one as usize],
            _ => place.iter().fold(0.0, |sum, cell| sum + self.cells.values[*cell as usize]) / place.len() as f64,
        }
    }

    /// Lets the change points up to a time pass that an event of a partition shows.
    #[cold]
    fn cross(&mut self, part: u32, at: Micros, row: usize) {
        let td = self.td.clone();
        let part = &mut self.parts[part as usize];
        let changes = td.calendar.between(part.through.unwrap_or(at), at);
        part.through = Some(at);
        part.next_change = td.calendar.next(at);
        self.figures.weigh(part, changes.last());
        if changes.is_empty() {
            return;
        }
        part.is_moved = true;
        let old = part.unvisited.clone();
        for (at, value) in part.unvisited.iter_mut().enumerate() {
            *value = changes.iter().fold(*value, |value, change| moved(&td, value, change, Some(at)));
        }
        let mut is_visited = vec![false; old.len()];
        for cell in &part.members {
            let fact = &self.facts[*cell as usize];
            let at = *cell as usize;
            if self.cells.visits[at] == 0 {
                self.cells.values[at] = fact.offline.map_or(td.rates.initial, |o| part.unvisited[o]);
                continue;
            }
            if let Some(offline) = fact.offline {
                is_visited[offline] = true;
            }
            let value = self.cells.values[at];
            let now = changes.iter().fold(value, |value, change| moved(&td, value, change, fact.offline));
            if now.to_bits() != value.to_bits() {
                self.cells.touch(*cell);
                self.cells.values[at] = now;
                if td.has_changes {
                    self.told.tell(row, &fact.name, now, -1);
                }
            }
        }
        if let (Some(offline), true) = (&td.offline, td.has_changes) {
            for (at, now) in part.unvisited.iter().enumerate() {
                if !is_visited[at] && now.to_bits() != old[at].to_bits() {
                    self.told.tell(row, &offline.names[at], *now, -1);
                }
            }
        }
    }

    fn touch_part(&mut self, part: u32, row: usize) {
        let part = &mut self.parts[part as usize];
        part.touched.get_or_insert((part.errors, row as u32));
    }

    /// Emits and stores what the events of this call changed.
    fn finish(&mut self, events: &RecordBatch, parts: &[u32], context: &mut Context) {
        self.finish_values(context);
        let mut output = 1;
        if self.keeps_parts() {
            self.finish_parts(events, parts, context);
        }
        output += usize::from(self.td.has_errors);
        if self.td.has_changes {
            self.finish_told(output, events, context);
        }
    }

    fn finish_values(&mut self, context: &mut Context) {
        let cells = &self.cells;
        let old: Vec<usize> = (0..cells.touched.len()).filter(|i| cells.before[*i].1 > 0).collect();
        let old_cells: Vec<u32> = old.iter().map(|i| cells.touched[*i]).collect();
        let old_values = old.iter().map(|i| cells.before[*i]);
        context.emit(0, Delta::delete(self.batch(&old_cells, old_values.collect())));
        let at = |c: &u32| *c as usize;
        let now = cells.touched.iter().map(at).map(|c| (cells.values[c], cells.visits[c], cells.updated_at[c]));
        let now: Vec<(f64, i64, i64)> = now.collect();
        let rows = self.batch(&cells.touched, now.clone());
        let partitions = self.partition.as_ref().map(|converter| {
            let columns = &rows.columns()[..self.td.transition.partition.len()];
            converter.convert_columns(columns).expect("columns of the planned types")
        });
        context.emit(0, Delta::insert(rows));
        let mut key = Vec::new();
        for (i, (value, visits, at)) in now.into_iter().enumerate() {
            let partition = partitions.as_ref().map_or(&[][..], |p| p.row(i).data());
            let cell = cells.touched[i];
            let mut entry = [0; HEXAGON_BYTES];
            entry[..8].copy_from_slice(&value.to_bits().to_le_bytes());
            entry[8..16].copy_from_slice(&visits.to_le_bytes());
            entry[16..24].copy_from_slice(&at.to_le_bytes());
            key.clear();
            match self.facts.get(cell as usize).map(|f| f.kind) {
                Some(Kind::Tile(x, y)) => {
                    key.push(OWN);
                    key.extend_from_slice(&x.to_be_bytes());
                    key.extend_from_slice(&y.to_be_bytes());
                    context.put_state(partition, &key, Some(&entry[..TILE_BYTES]));
                }
                Some(Kind::Hexagon(hexagon)) => {
                    key.push(OWN);
                    key.extend_from_slice(&u64::from(hexagon).to_be_bytes());
                    context.put_state(partition, &key, Some(&entry));
                }
                kind => {
                    let number = if let Some(Kind::Key(number)) = kind { number } else { cell };
                    self.keys.key(number, &mut key);
                    context.put_state(partition, &key[partition.len()..], Some(&entry[..KEY_BYTES]));
                }
            }
        }
        for cell in self.cells.touched.drain(..) {
            self.cells.is_touched[cell as usize] = false;
        }
        self.cells.before.clear();
    }

    fn batch(&self, cells: &[u32], rows: Vec<(f64, i64, i64)>) -> RecordBatch {
        if cells.is_empty() {
            return RecordBatch::new_empty(self.schemas[0].clone());
        }
        let facts = |c: &u32| &self.facts[*c as usize];
        let mut columns = if self.td.places.is_none() {
            self.keys.columns(cells)
        } else {
            let parts: Vec<u32> = cells.iter().map(|c| facts(c).part).collect();
            let mut columns = if self.partition.is_some() { self.partitions.columns(&parts) } else { Vec::new() };
            columns.push(Arc::new(StringArray::from_iter_values(cells.iter().map(|c| &facts(c).name))));
            columns
        };
        columns.push(Arc::new(Float64Array::from_iter_values(rows.iter().map(|c| c.0))));
        columns.push(Arc::new(Int64Array::from_iter_values(rows.iter().map(|c| c.1))));
        columns.push(times(rows.iter().map(|c| c.2)));
        RecordBatch::try_new(self.schemas[0].clone(), columns).expect("the planned columns")
    }

    fn finish_parts(&mut self, events: &RecordBatch, parts: &[u32], context: &mut Context) {
        let mut touched = Vec::new();
        for part in parts {
            if let Some((before, row)) = self.parts[*part as usize].touched.take() {
                touched.push((*part, before, row));
            }
        }
        let partition: Vec<ArrayRef> = self.td.transition.partition.iter().map(|i| events.column(*i).clone()).collect();
        if self.td.has_errors {
            let batch = |of: &[(Errors, u32)]| {
                let rows = UInt32Array::from_iter_values(of.iter().map(|e| e.1));
                let mut columns: Vec<ArrayRef> =
                    partition.iter().map(|c| take(c, &rows, None).expect("rows of the batch")).collect();
                let ints = |f: fn(&Errors) -> u64| Int64Array::from_iter_values(of.iter().map(|e| f(&e.0) as i64));
                let floats = |f: fn(&Errors) -> f64| Float64Array::from_iter_values(of.iter().map(|e| f(&e.0) + 0.0));
                columns.push(Arc::new(ints(|e| e.count)));
                columns.push(Arc::new(floats(|e| e.sum / e.count.max(1) as f64)));
                columns.push(Arc::new(floats(|e| e.sum_absolute / e.count.max(1) as f64)));
                columns.push(Arc::new(floats(|e| e.greatest)));
                columns.push(Arc::new(ints(|e| e.refused)));
                RecordBatch::try_new(self.schemas[1].clone(), columns).expect("the planned columns")
            };
            let was_seen = |e: &Errors| e.count + e.refused > 0;
            let old: Vec<_> = touched.iter().filter(|t| was_seen(&t.1)).map(|t| (t.1, t.2)).collect();
            let new: Vec<_> = touched.iter().map(|t| (self.parts[t.0 as usize].errors, t.2)).collect();
            context.emit(1, Delta::delete(batch(&old)));
            context.emit(1, Delta::insert(batch(&new)));
        }
        for (part, ..) in touched {
            let mut key = Vec::new();
            if self.partition.is_some() {
                self.partitions.key(part, &mut key);
            }
            let part = &mut self.parts[part as usize];
            let e = part.errors;
            let floats = [e.sum, e.sum_absolute, e.greatest].map(f64::to_bits);
            let numbers = [part.through.unwrap_or(Micros::MIN) as u64, e.count, e.refused].into_iter().chain(floats);
            let entry: Vec<u8> = numbers.flat_map(u64::to_le_bytes).collect();
            context.put_state(&key, &[OWN], Some(&entry));
            if std::mem::take(&mut part.is_moved) && !part.unvisited.is_empty() {
                let values = part.unvisited.iter().flat_map(|v| v.to_bits().to_le_bytes());
                let entry: Vec<u8> = values.chain([0, 0]).collect();
                context.put_state(&key, &[OWN, 0], Some(&entry));
            }
        }
    }

    fn finish_told(&mut self, output: usize, events: &RecordBatch, context: &mut Context) {
        let told = std::mem::take(&mut self.told);
        if told.rows.is_empty() {
            return;
        }
        let at = events.column(self.td.at).as_primitive::<TimestampMicrosecondType>();
        let at = times(told.rows.iter().map(|row| at.value(*row as usize)));
        let rows = UInt32Array::from(told.rows);
        let partition = self.td.transition.partition.iter();
        let mut columns: Vec<ArrayRef> =
            partition.map(|i| take(events.column(*i), &rows, None).expect("rows of the batch")).collect();
        columns.push(at);
        let offsets: Vec<i32> = std::iter::once(0).chain(told.ends).collect();
        let names = StringArray::try_new(arrow::buffer::OffsetBuffer::new(offsets.into()), told.names.into(), None);
        columns.push(Arc::new(names.expect("names are text")));
        columns.push(Arc::new(Float64Array::from(told.values)));
        columns.push(Arc::new(Int64Array::from(told.seqs)));
        let batch = RecordBatch::try_new(self.schemas[output].clone(), columns).expect("the planned columns");
        context.emit(output, Delta::insert(batch));
    }
}

/// A value after a change point. What the offline function does not know it says nothing of.
fn moved(td: &TdValue, value: f64, change: &Change, offline: Option<usize>) -> f64 {
    let anchor = match (change.anchor, &td.offline, offline) {
        (Anchor::Initial, ..) => Some(td.rates.initial),
        (Anchor::Offline, Some(function), Some(cell)) => function.value(change.time, cell),
        (Anchor::Offline, ..) => None,
    };
    match anchor {
        Some(anchor) if anchor != value => change.keep * value + (1.0 - change.keep) * anchor + 0.0,
        _ => value,
    }
}

/// What the cells of the offline function are worth before the first change point.
fn unvisited(td: &TdValue) -> Vec<f64> {
    vec![td.rates.initial; td.offline.as_ref().map_or(0, |o| o.names.len())]
}

impl HistoryOperator for Learner {
    fn restore(&mut self, key: &[u8], value: &[u8]) {
        let number = |at: usize| u64::from_le_bytes(value[8 * at..8 * at + 8].try_into().expect("eight bytes"));
        let cell = match value.len() {
            KEY_BYTES => {
                let number = self.keys.number_of_key(key);
                if self.keeps_facts() {
                    let columns = self.keys.columns(&[number]);
                    let (partition, state) = columns.split_at(self.td.transition.partition.len());
                    let mut part = vec![0];
                    if !partition.is_empty() {
                        self.partitions.number(partition, &mut part);
                        self.grow_parts();
                    }
                    let state: Vec<Value> = state.iter().map(|c| Value::at(c, 0)).collect();
                    let name = cell_name(&state, self.td.places.is_some());
                    let cell = self.new_cell(part[0], Kind::Key(number), name);
                    self.key_cells.push(cell);
                    cell
                } else {
                    self.cells.grow(self.keys.len(), self.td.rates.initial);
                    number
                }
            }
            HEXAGON_BYTES => {
                let (partition, hexagon) = key.split_at(key.len() - 9);
                let part = self.restored_part(partition);
                let index = u64::from_be_bytes(hexagon[1..].try_into().expect("eight bytes"));
                self.hexagon(part, CellIndex::try_from(index).expect("a cell was written"))
            }
            TILE_BYTES => {
                let (partition, tile) = key.split_at(key.len() - 17);
                let part = self.restored_part(partition);
                let number = |at: usize| i64::from_be_bytes(tile[at..at + 8].try_into().expect("eight bytes"));
                self.tile_cell(part, number(1), number(9))
            }
            PART_BYTES => {
                let part = self.restored_part(&key[..key.len() - 1]) as usize;
                let through = number(0) as i64;
                let next = if self.has_points() { self.td.calendar.next(through) } else { Micros::MAX };
                let part = &mut self.parts[part];
                self.figures.weigh(part, None);
                part.next_change = next;
                part.through = (through != Micros::MIN).then_some(through);
                let [sum, sum_absolute, greatest] = [3, 4, 5].map(|at| f64::from_bits(number(at)));
                part.errors = Errors { count: number(1), refused: number(2), sum, sum_absolute, greatest };
                return;
            }
            len => {
                let part = self.restored_part(&key[..key.len() - 2]) as usize;
                let part = &mut self.parts[part];
                part.unvisited = (0..len / 8).map(|at| f64::from_bits(number(at))).collect();
                // It is stored only if a change point was passed, and comes after the partition's own.
                let passed = part.through.and_then(|through| self.td.calendar.last(through));
                self.figures.weigh(part, passed.as_ref());
                return;
            }
        };
        let at = cell as usize;
        self.figures.visited += 1;
        self.figures.updates += if self.counts(cell, value.len()) { number(1) } else { 0 };
        self.cells.values[at] = f64::from_bits(number(0));
        self.cells.visits[at] = number(1) as i64;
        self.cells.updated_at[at] = number(2) as i64;
    }

    fn apply(&mut self, _input: usize, events: &RecordBatch, context: &mut Context) {
        let td = self.td.clone();
        let t = &td.transition;
        let rates = td.rates;
        let parts = self.number_parts(events);
        let from = self.number_keys(events, &parts, &t.state);
        let to = self.number_keys(events, &parts, &t.next_state);
        let nulls =
            |columns: &[usize]| -> Vec<_> { columns.iter().map(|c| events.column(*c).logical_nulls()).collect() };
        let (from_nulls, to_nulls) = (nulls(&t.state), nulls(td.ending()));
        let count = |nulls: &[Option<arrow::buffer::NullBuffer>], row: usize| {
            nulls.iter().filter(|n| n.as_ref().is_some_and(|n| n.is_null(row))).count()
        };
        let rewards = floats(events.column(t.reward));
        let durations = t.duration.map(|d| floats(events.column(d)));
        let pair = |columns: [usize; 2]| columns.map(|c| floats(events.column(c)));
        let places = td.places.map(|places| [pair(places.place), pair(places.next_place)]);
        let width = td.width();
        let times = events.column(td.at).as_primitive::<TimestampMicrosecondType>();
        let seqs = td.seq.map(|seq| events.column(seq).as_primitive::<Int64Type>());
        let (keeps_parts, has_points) = (self.keeps_parts(), self.has_points());
        let one = rates.discount(rates.duration_unit_secs);
        let (mut last_secs, mut last_discount) = (rates.duration_unit_secs, one);
        for row in 0..events.num_rows() {
            let (part, at) = (parts[row], times.value(row));
            if keeps_parts {
                self.touch_part(part, row);
                let Part { through, next_change, .. } = &self.parts[part as usize];
                if has_points && (through.is_none() || *next_change <= at) {
                    self.cross(part, at, row);
                }
            }
            let mut refuse = |learner: &mut Learner, reason: &str, detail: String| {
                learner.parts[part as usize].errors.refused += 1;
                learner.refusal.refuse(context, events, row, 1, reason, detail);
            };
            if count(&from_nulls, row) > 0 {
                refuse(self, "null_state", "the state is null".to_owned());
                continue;
            }
            let ends = match count(&to_nulls, row) {
                0 => false,
                n if n == to_nulls.len() => true,
                _ => {
                    refuse(self, "null_next_state", "the next state is null in part".to_owned());
                    continue;
                }
            };
            let reward = rewards.value(row);
            if rewards.is_null(row) || !reward.is_finite() {
                refuse(self, "bad_reward", "the reward is null, NaN or infinite".to_owned());
                continue;
            }
            if let Some(durations) = &durations {
                let secs = durations.value(row);
                if durations.is_null(row) || !secs.is_finite() || secs < 0.0 {
                    refuse(self, "bad_duration", "the duration is null, NaN, infinite or negative".to_owned());
                    continue;
                }
                if secs != last_secs {
                    (last_secs, last_discount) = (secs, rates.discount(secs));
                }
            }
            let mut place = [from[row]; TILED_CELLS];
            let mut next = [to[row]; TILED_CELLS];
            if let Some([here, there]) = &places {
                let found = self.place(part, from[row], Some(here), row);
                let found_next = if ends { Some(next) } else { self.place(part, to[row], Some(there), row) };
                let (Some(found), Some(found_next)) = (found, found_next) else {
                    refuse(self, "bad_place", "a coordinate is null, NaN or not in range".to_owned());
                    continue;
                };
                (place, next) = (found, found_next);
            }
            let value = self.value(&place[..width]);
            let value_next = if ends { 0.0 } else { self.value(&next[..width]) };
            let error = reward + last_discount * value_next - value;
            let step = rates.step(self.cells.visits[place[0] as usize]) * error;
            let old = place.map(|cell| self.cells.values[cell as usize]);
            if let Some(at) = (0..width).find(|i| !(old[*i] + step).is_finite()) {
                refuse(self, "not_finite", format!("the value {} would become {}", old[at], old[at] + step));
                continue;
            }
            self.figures.updates += 1;
            for i in 0..width {
                let cell = place[i];
                // Two tiles may be one cell.
                if i > 0 && place[..i].contains(&cell) {
                    continue;
                }
                self.figures.visited += u64::from(self.cells.visits[cell as usize] == 0);
                self.cells.learn(cell, old[i] + step, at);
                if let Some(seqs) = seqs.filter(|_| td.has_changes) {
                    let now = self.cells.values[cell as usize];
                    if now.to_bits() != old[i].to_bits() {
                        self.told.tell(row, &self.facts[cell as usize].name, now, seqs.value(row));
                    }
                }
            }
            if keeps_parts {
                self.parts[part as usize].errors.add(error);
            }
            self.figures.error += error.abs();
            self.figures.errors += 1;
        }
        self.finish(events, &parts, context);
    }

    fn advance(&mut self, context: &mut Context) {
        let figures = &mut self.figures;
        context.gauge_mean(TD_ERROR, std::mem::take(&mut figures.error), std::mem::take(&mut figures.errors) as f64);
        context.gauge_sum("states_visited", figures.visited as f64);
        context.gauge_sum("updates", figures.updates as f64);
        if self.td.offline.is_some() {
            context.gauge_mean("offline_weight", figures.offline.0, figures.offline.1 as f64);
        }
    }
}

impl Learner {
    /// Whether every transition of a place moves this cell alone of those of its kind: that of a key, or a finest hexagon.
    fn counts(&self, cell: u32, entry_bytes: usize) -> bool {
        match (self.facts.get(cell as usize).map(|f| f.kind), self.td.places) {
            (Some(Kind::Hexagon(hexagon)), Some(Places { grid: Grid::H3(levels), .. })) => {
                hexagon.resolution() == levels.finest()
            }
            _ => entry_bytes == KEY_BYTES,
        }
    }

    fn restored_part(&mut self, key: &[u8]) -> u32 {
        if self.partition.is_none() {
            return 0;
        }
        let part = self.partitions.number_of_key(key);
        self.grow_parts();
        part
    }
}

/// A column of numbers as floats.
pub fn floats(column: &ArrayRef) -> Float64Array {
    let column = cast(column, &DataType::Float64).expect("int64 and float64 are floats");
    column.as_primitive::<Float64Type>().clone()
}

/// A column of times.
fn times(micros: impl Iterator<Item = Micros>) -> ArrayRef {
    Arc::new(TimestampMicrosecondArray::from_iter_values(micros).with_timezone("UTC"))
}
