//! What `aggregate` keeps of its groups: a column of everything, under the groups' numbers. Sums cancel exactly when rows
//! go; extremes are the ends alone where nothing goes, and all values where something may.

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::{Decimal128Type, Float64Type, Int64Type, TimestampMicrosecondType};
use types::{Delta, Type};

use super::cells::Cells;
use super::{Argument, Batch, Output, Shape};
use crate::exact_sum::ExactSum;
use crate::multiset::Multiset;

/// Everything kept of groups, in columns: of all of them, or of those an epoch touches.
pub(crate) struct State {
    /// How many rows each has.
    pub rows: Vec<i64>,
    /// By argument.
    kept: Vec<Kept>,
}

impl State {
    pub fn new(shape: &Shape) -> State {
        let kept = shape.arguments.iter().map(|a| Kept::new(a, shape.input.append_only)).collect();
        State { rows: Vec::new(), kept }
    }

    pub fn resize(&mut self, len: usize) {
        self.rows.resize(len, 0);
        self.kept.iter_mut().for_each(|k| k.resize(len));
    }

    /// Takes some groups out, in this order. Nothing of them is left until they are put back.
    pub fn take(&mut self, groups: &[u32]) -> State {
        let kept = self.kept.iter_mut().map(|k| k.take(groups)).collect();
        State { rows: take_at(&mut self.rows, groups), kept }
    }

    /// Puts back what was taken out.
    pub fn put(&mut self, groups: &[u32], taken: State) {
        put_at(&mut self.rows, groups, taken.rows);
        self.kept.iter_mut().zip(taken.kept).for_each(|(k, taken)| k.put(groups, taken));
    }

    /// Adds an epoch's rows.
    pub fn add(&mut self, batches: &[Batch]) {
        for Batch { delta, places, values } in batches {
            if delta.is_insert_only() {
                places.iter().for_each(|p| self.rows[*p as usize] += 1);
            } else {
                places.iter().enumerate().for_each(|(row, p)| self.rows[*p as usize] += delta.diff(row));
            }
            self.kept.iter_mut().zip(values).for_each(|(kept, array)| kept.add(places, array, delta));
        }
        // Within an epoch a row may go before it comes; extremes want it the other way round.
        for Batch { delta, places, values } in batches.iter().filter(|b| !b.delta.is_insert_only()) {
            self.kept.iter_mut().zip(values).for_each(|(kept, array)| kept.extremes.take_away(places, array, delta));
        }
    }

    /// Appends what the output shows of the groups now to its columns.
    pub fn show(&self, shape: &Shape, cells: &mut [Cells]) {
        let counts = |a: usize| self.kept[a].counts.as_ref().unwrap_or(&self.rows);
        let ty = |a: usize| shape.arguments[a].expression.ty;
        for (output, cells) in shape.outputs.iter().zip(cells) {
            match *output {
                Output::Rows => cells.ints(&self.rows),
                Output::Count(a) => cells.ints(counts(a)),
                Output::Sum(a) => self.kept[a].sum.show(counts(a), cells),
                Output::Avg(a) => self.kept[a].sum.show_mean(counts(a), cells),
                Output::Min(a) => self.kept[a].extremes.show(true, ty(a), cells),
                Output::Max(a) => self.kept[a].extremes.show(false, ty(a), cells),
            }
        }
    }

    pub fn clear(&mut self, group: usize) {
        self.rows[group] = 0;
        self.kept.iter_mut().for_each(|k| k.clear(group));
    }

    pub fn encode(&self, group: usize, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.rows[group].to_le_bytes());
        self.kept.iter().for_each(|k| k.encode(group, out));
    }

    pub fn decode(&mut self, group: usize, mut bytes: &[u8]) {
        self.rows[group] = i64::from_le_bytes(take(&mut bytes, 8).try_into().expect("eight bytes"));
        self.kept.iter_mut().for_each(|k| k.decode(group, &mut bytes));
    }
}

/// Takes values out of a column.
fn take_at<T: Default>(column: &mut [T], groups: &[u32]) -> Vec<T> {
    groups.iter().map(|g| std::mem::take(&mut column[*g as usize])).collect()
}

/// Puts values back into a column.
fn put_at<T>(column: &mut [T], groups: &[u32], values: Vec<T>) {
    groups.iter().zip(values).for_each(|(g, value)| column[*g as usize] = value);
}

fn take<'a>(bytes: &mut &'a [u8], n: usize) -> &'a [u8] {
    let (front, rest) = bytes.split_at(n);
    *bytes = rest;
    front
}

/// What is kept of one argument's values, for every group.
struct Kept {
    /// How many are not null; `None` if all are, which the group's row count says.
    counts: Option<Vec<i64>>,
    sum: Sums,
    extremes: Extremes,
}

impl Kept {
    fn new(argument: &Argument, append_only: bool) -> Kept {
        let ty = argument.expression.ty;
        Kept {
            counts: argument.expression.nullable.then(Vec::new),
            sum: if argument.sum { Sums::new(ty) } else { Sums::None },
            extremes: if argument.extremes { Extremes::new(ty, append_only) } else { Extremes::None },
        }
    }

    fn resize(&mut self, len: usize) {
        if let Some(counts) = &mut self.counts {
            counts.resize(len, 0);
        }
        match &mut self.sum {
            Sums::None => {}
            Sums::Int(s) => s.resize(len, 0),
            Sums::Decimal(s) => s.resize(len, (0, 0)),
            Sums::Float(s) => s.resize_with(len, ExactSum::new),
        }
        match &mut self.extremes {
            Extremes::None => {}
            Extremes::Small(e) => e.resize(len),
            Extremes::Large(e) => e.resize(len),
            Extremes::Text(e) => e.resize(len),
        }
    }

    fn take(&mut self, groups: &[u32]) -> Kept {
        Kept {
            counts: self.counts.as_mut().map(|c| take_at(c, groups)),
            sum: match &mut self.sum {
                Sums::None => Sums::None,
                Sums::Int(s) => Sums::Int(take_at(s, groups)),
                Sums::Decimal(s) => Sums::Decimal(take_at(s, groups)),
                Sums::Float(s) => Sums::Float(take_at(s, groups)),
            },
            extremes: match &mut self.extremes {
                Extremes::None => Extremes::None,
                Extremes::Small(e) => Extremes::Small(e.take(groups)),
                Extremes::Large(e) => Extremes::Large(e.take(groups)),
                Extremes::Text(e) => Extremes::Text(e.take(groups)),
            },
        }
    }

    fn put(&mut self, groups: &[u32], taken: Kept) {
        if let (Some(counts), Some(taken)) = (&mut self.counts, taken.counts) {
            put_at(counts, groups, taken);
        }
        match (&mut self.sum, taken.sum) {
            (Sums::Int(s), Sums::Int(taken)) => put_at(s, groups, taken),
            (Sums::Decimal(s), Sums::Decimal(taken)) => put_at(s, groups, taken),
            (Sums::Float(s), Sums::Float(taken)) => put_at(s, groups, taken),
            _ => {}
        }
        match (&mut self.extremes, taken.extremes) {
            (Extremes::Small(e), Extremes::Small(taken)) => e.put(groups, taken),
            (Extremes::Large(e), Extremes::Large(taken)) => e.put(groups, taken),
            (Extremes::Text(e), Extremes::Text(taken)) => e.put(groups, taken),
            _ => {}
        }
    }

    /// Adds a batch: sums and counts take both signs, extremes only what comes.
    fn add(&mut self, places: &[u32], array: &ArrayRef, delta: &Delta) {
        if let Some(counts) = &mut self.counts {
            for (row, place) in places.iter().enumerate() {
                counts[*place as usize] += if array.is_null(row) { 0 } else { delta.diff(row) };
            }
        }
        self.sum.add(places, array, delta);
        self.extremes.add(places, array, delta);
    }

    fn clear(&mut self, group: usize) {
        if let Some(counts) = &mut self.counts {
            counts[group] = 0;
        }
        match &mut self.sum {
            Sums::None => {}
            Sums::Int(s) => s[group] = 0,
            Sums::Decimal(s) => s[group] = (0, 0),
            Sums::Float(s) => s[group] = ExactSum::new(),
        }
        match &mut self.extremes {
            Extremes::None => {}
            Extremes::Small(e) => e.clear(group),
            Extremes::Large(e) => e.clear(group),
            Extremes::Text(e) => e.clear(group),
        }
    }

    fn encode(&self, group: usize, out: &mut Vec<u8>) {
        if let Some(counts) = &self.counts {
            out.extend_from_slice(&counts[group].to_le_bytes());
        }
        match &self.sum {
            Sums::None => {}
            Sums::Int(s) => out.extend_from_slice(&s[group].to_le_bytes()),
            Sums::Decimal(s) => {
                out.extend_from_slice(&s[group].0.to_le_bytes());
                out.extend_from_slice(&s[group].1.to_le_bytes());
            }
            Sums::Float(s) => s[group].encode(out),
        }
        match &self.extremes {
            Extremes::None => {}
            Extremes::Small(e) => e.encode(group, out, |k, out| out.extend_from_slice(&k.to_le_bytes())),
            Extremes::Large(e) => e.encode(group, out, |k, out| out.extend_from_slice(&k.to_le_bytes())),
            Extremes::Text(e) => e.encode(group, out, |k, out| {
                out.extend_from_slice(&(k.len() as u32).to_le_bytes());
                out.extend_from_slice(k);
            }),
        }
    }

    fn decode(&mut self, group: usize, bytes: &mut &[u8]) {
        let int = |bytes: &mut &[u8]| i64::from_le_bytes(take(bytes, 8).try_into().expect("eight bytes"));
        let large = |bytes: &mut &[u8]| i128::from_le_bytes(take(bytes, 16).try_into().expect("sixteen bytes"));
        if let Some(counts) = &mut self.counts {
            counts[group] = int(bytes);
        }
        match &mut self.sum {
            Sums::None => {}
            Sums::Int(s) => s[group] = large(bytes),
            Sums::Decimal(s) => s[group] = (large(bytes), large(bytes)),
            Sums::Float(s) => s[group] = ExactSum::decode(bytes),
        }
        match &mut self.extremes {
            Extremes::None => {}
            Extremes::Small(e) => e.decode(group, bytes, |b| int(b) as u64),
            Extremes::Large(e) => e.decode(group, bytes, large),
            Extremes::Text(e) => e.decode(group, bytes, |b| {
                let len = u32::from_le_bytes(take(b, 4).try_into().expect("four bytes"));
                take(b, len as usize).into()
            }),
        }
    }
}

/// The sums of one argument.
enum Sums {
    None,
    Int(Vec<i128>),
    /// The high and the low 64 bits summed apart, so that neither overflows.
    Decimal(Vec<(i128, i128)>),
    Float(Vec<ExactSum>),
}

impl Sums {
    fn new(ty: Type) -> Sums {
        match ty {
            Type::Float64 => Sums::Float(Vec::new()),
            Type::Decimal => Sums::Decimal(Vec::new()),
            _ => Sums::Int(Vec::new()),
        }
    }

    fn add(&mut self, places: &[u32], array: &ArrayRef, delta: &Delta) {
        let plain = delta.is_insert_only() && array.null_count() == 0;
        match self {
            Sums::None => {}
            Sums::Int(sums) => {
                let values = array.as_primitive::<Int64Type>().values();
                if plain {
                    places.iter().zip(values).for_each(|(g, v)| sums[*g as usize] += i128::from(*v));
                } else {
                    for (row, group) in places.iter().enumerate().filter(|(row, _)| array.is_valid(*row)) {
                        sums[*group as usize] += i128::from(values[row]) * i128::from(delta.diff(row));
                    }
                }
            }
            Sums::Decimal(sums) => {
                let values = array.as_primitive::<Decimal128Type>().values();
                for (row, group) in places.iter().enumerate().filter(|(row, _)| array.is_valid(*row)) {
                    let (high, low) = &mut sums[*group as usize];
                    let times = i128::from(delta.diff(row));
                    *high += (values[row] >> 64) * times;
                    *low += i128::from(values[row] as u64) * times;
                }
            }
            Sums::Float(sums) => {
                let values = array.as_primitive::<Float64Type>().values();
                if plain {
                    places.iter().zip(values).for_each(|(g, v)| sums[*g as usize].add(*v));
                } else {
                    for (row, group) in places.iter().enumerate().filter(|(row, _)| array.is_valid(*row)) {
                        match delta.diff(row) {
                            1 => sums[*group as usize].add(values[row]),
                            -1 if values[row].is_finite() => sums[*group as usize].add(-values[row]),
                            times => sums[*group as usize].add_times(values[row], times),
                        }
                    }
                }
            }
        }
    }

    fn show(&self, counts: &[i64], cells: &mut Cells) {
        match self {
            Sums::Float(sums) => {
                cells.floats(sums.iter().zip(counts).map(|(sum, count)| (*count > 0).then(|| sum.value())));
            }
            _ => cells.decimals(counts.iter().enumerate().map(|(i, count)| self.whole(i).filter(|_| *count > 0))),
        }
    }

    /// The sum of whole places, if it has at most 38 digits.
    fn whole(&self, group: usize) -> Option<i128> {
        let sum = match self {
            Sums::Int(sums) => sums[group],
            Sums::Decimal(sums) => {
                let (high, low) = sums[group];
                let high = i64::try_from(high + (low >> 64)).ok()?;
                i128::from(high) << 64 | i128::from(low as u64)
            }
            _ => return None,
        };
        (sum.unsigned_abs() < 10u128.pow(38)).then_some(sum)
    }

    fn show_mean(&self, counts: &[i64], cells: &mut Cells) {
        let sum = |group: usize| match self {
            Sums::Float(sums) => Some(sums[group].value()),
            _ => self.whole(group).map(|s| s as f64),
        };
        let mean =
            |(group, count): (usize, &i64)| sum(group).filter(|_| *count > 0).map(|s| one_form(s / *count as f64));
        cells.floats(counts.iter().enumerate().map(mean));
    }
}

fn one_form(v: f64) -> f64 {
    if v.is_nan() { f64::NAN } else { v + 0.0 }
}

/// The extremes of one argument, its values as keys of one of three sorts.
enum Extremes {
    None,
    /// Everything of eight bytes, as an unsigned number of the same order.
    Small(Ends<u64>),
    Large(Ends<i128>),
    Text(Ends<Box<[u8]>>),
}

impl Extremes {
    fn new(ty: Type, append_only: bool) -> Extremes {
        match ty {
            Type::Decimal => Extremes::Large(Ends::new(append_only)),
            Type::String => Extremes::Text(Ends::new(append_only)),
            _ => Extremes::Small(Ends::new(append_only)),
        }
    }

    fn add(&mut self, places: &[u32], array: &ArrayRef, delta: &Delta) {
        self.apply(places, array, delta, true);
    }

    fn take_away(&mut self, places: &[u32], array: &ArrayRef, delta: &Delta) {
        self.apply(places, array, delta, false);
    }

    fn apply(&mut self, places: &[u32], array: &ArrayRef, delta: &Delta, coming: bool) {
        match self {
            Extremes::None => {}
            Extremes::Small(ends) => match Type::from_arrow(array.data_type()) {
                Some(Type::Float64) => {
                    let values = array.as_primitive::<Float64Type>().values();
                    ends.apply(places, array, delta, coming, |i| float_order(values[i]));
                }
                Some(Type::Int64) => {
                    let values = array.as_primitive::<Int64Type>().values();
                    ends.apply(places, array, delta, coming, |i| int_order(values[i]));
                }
                Some(Type::Timestamp) => {
                    let values = array.as_primitive::<TimestampMicrosecondType>().values();
                    ends.apply(places, array, delta, coming, |i| int_order(values[i]));
                }
                _ => {
                    let values = array.as_boolean();
                    ends.apply(places, array, delta, coming, |i| u64::from(values.value(i)));
                }
            },
            Extremes::Large(ends) => {
                let values = array.as_primitive::<Decimal128Type>().values();
                ends.apply(places, array, delta, coming, |i| values[i]);
            }
            Extremes::Text(ends) => {
                let values = array.as_string::<i32>();
                ends.apply(places, array, delta, coming, |i| values.value(i).as_bytes().into());
            }
        }
    }

    fn show(&self, least: bool, ty: Type, cells: &mut Cells) {
        match self {
            Extremes::None => unreachable!("planned with extremes"),
            Extremes::Small(ends) => {
                let keys = ends.iter(least).map(|k| k.copied());
                match ty {
                    Type::Float64 => cells.floats(keys.map(|k| k.map(float_of_order))),
                    Type::Bool => cells.nullable_ints(keys.map(|k| k.map(|k| k as i64))),
                    _ => cells.nullable_ints(keys.map(|k| k.map(|k| (k ^ 1 << 63) as i64))),
                }
            }
            Extremes::Large(ends) => cells.decimals(ends.iter(least).map(|k| k.copied())),
            Extremes::Text(ends) => {
                let text = |k: &Box<[u8]>| String::from_utf8_lossy(k).as_ref().into();
                cells.texts(ends.iter(least).map(|k| k.map(text)));
            }
        }
    }
}

fn int_order(v: i64) -> u64 {
    v as u64 ^ 1 << 63
}

fn float_order(v: f64) -> u64 {
    let bits = v.to_bits();
    if bits >> 63 == 1 { !bits } else { bits | 1 << 63 }
}

fn float_of_order(key: u64) -> f64 {
    f64::from_bits(if key >> 63 == 1 { key ^ 1 << 63 } else { !key })
}

/// The least and the greatest key of every group.
enum Ends<K> {
    /// Of streams, from which nothing goes: the ends alone.
    Growing(Vec<Option<(K, K)>>),
    /// Of tables: everything.
    Changing(Vec<Multiset<K>>),
}

impl<K: Ord + Clone> Ends<K> {
    fn new(append_only: bool) -> Ends<K> {
        if append_only { Ends::Growing(Vec::new()) } else { Ends::Changing(Vec::new()) }
    }

    fn resize(&mut self, len: usize) {
        match self {
            Ends::Growing(ends) => ends.resize(len, None),
            Ends::Changing(sets) => sets.resize_with(len, Multiset::default),
        }
    }

    fn clear(&mut self, group: usize) {
        match self {
            Ends::Growing(ends) => ends[group] = None,
            Ends::Changing(sets) => sets[group] = Multiset::default(),
        }
    }

    fn take(&mut self, groups: &[u32]) -> Ends<K> {
        match self {
            Ends::Growing(ends) => Ends::Growing(take_at(ends, groups)),
            Ends::Changing(sets) => Ends::Changing(take_at(sets, groups)),
        }
    }

    fn put(&mut self, groups: &[u32], taken: Ends<K>) {
        match (self, taken) {
            (Ends::Growing(ends), Ends::Growing(taken)) => put_at(ends, groups, taken),
            (Ends::Changing(sets), Ends::Changing(taken)) => put_at(sets, groups, taken),
            _ => unreachable!("taken from these"),
        }
    }

    /// The least or the greatest key of each group.
    fn iter(&self, least: bool) -> impl Iterator<Item = Option<&K>> {
        let len = match self {
            Ends::Growing(ends) => ends.len(),
            Ends::Changing(sets) => sets.len(),
        };
        (0..len).map(move |group| {
            let (l, h) = match self {
                Ends::Growing(ends) => ends[group].as_ref().map(|(l, h)| (l, h)),
                Ends::Changing(sets) => sets[group].extremes(),
            }?;
            Some(if least { l } else { h })
        })
    }

    #[inline]
    fn apply(&mut self, places: &[u32], array: &ArrayRef, delta: &Delta, coming: bool, key: impl Fn(usize) -> K) {
        let nulls = array.nulls().filter(|n| n.null_count() > 0);
        let rows = || places.iter().enumerate().filter(|(row, _)| nulls.is_none_or(|n| n.is_valid(*row)));
        match self {
            Ends::Growing(ends) => {
                assert!(delta.is_insert_only() || delta.diffs().iter().all(|d| *d > 0), "nothing goes from a stream");
                rows().for_each(|(row, group)| widen(&mut ends[*group as usize], key(row)));
            }
            Ends::Changing(sets) => {
                for (row, group) in rows() {
                    match delta.diff(row) {
                        diff if coming && diff > 0 => sets[*group as usize].add(key(row), diff),
                        diff if !coming && diff < 0 => sets[*group as usize].take(key(row), -diff),
                        _ => {}
                    }
                }
            }
        }
    }

    fn encode(&self, group: usize, out: &mut Vec<u8>, write: impl Fn(&K, &mut Vec<u8>)) {
        let Ends::Growing(ends) = self else { unreachable!("only streams are stored") };
        out.push(u8::from(ends[group].is_some()));
        if let Some((least, greatest)) = &ends[group] {
            write(least, out);
            write(greatest, out);
        }
    }

    fn decode(&mut self, group: usize, bytes: &mut &[u8], read: impl Fn(&mut &[u8]) -> K) {
        let Ends::Growing(ends) = self else { unreachable!("only streams are stored") };
        ends[group] = (take(bytes, 1)[0] == 1).then(|| (read(bytes), read(bytes)));
    }
}

/// Makes room between two ends for a key.
#[inline]
fn widen<K: Ord + Clone>(ends: &mut Option<(K, K)>, key: K) {
    match ends {
        None => *ends = Some((key.clone(), key)),
        Some((least, greatest)) => {
            if key < *least {
                *least = key;
            } else if key > *greatest {
                *greatest = key;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_of_floats_go_and_come_back() {
        let floats = [f64::NEG_INFINITY, -1.5, -0.0, 0.0, f64::MIN_POSITIVE, 2.0, f64::INFINITY, f64::NAN];
        assert!(floats.windows(2).all(|w| float_order(w[0]) < float_order(w[1])));
        assert!(floats.iter().all(|f| float_of_order(float_order(*f)).to_bits() == f.to_bits()));
    }
}
