//! From the columns that make a group to its number: what is kept of groups stands in plain vectors.
//!
//! The hash table is never iterated, so no order comes from it.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int64Array};
use arrow::buffer::NullBuffer;
use arrow::datatypes::Int64Type;
use arrow::row::{RowConverter, SortField};
use hashbrown::HashTable;
use types::Type;

/// The groups: from the `by` columns of a row to a number. Numbers of groups that went are given again.
pub(crate) struct Groups {
    converter: RowConverter,
    table: Table,
    free: Vec<u32>,
}

enum Table {
    /// One int64 column, which is the common case: no bytes are made. The null group has a place of its own.
    Int { numbers: HashTable<(i64, u32)>, keys: Vec<i64>, null: Option<u32> },
    /// The bytes of any columns.
    Bytes { numbers: HashTable<u32>, keys: Vec<Box<[u8]>> },
}

fn hash_int(key: i64) -> u64 {
    let h = (key as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    h ^ h >> 32
}

fn hash_bytes(key: &[u8]) -> u64 {
    use std::hash::Hasher;
    let mut hasher = rustc_hash::FxHasher::default();
    hasher.write(key);
    hasher.finish()
}

impl Groups {
    /// No groups of rows with columns of these types.
    pub fn new(by: &[Type]) -> Groups {
        let fields = by.iter().map(|ty| SortField::new(ty.arrow())).collect();
        Groups {
            converter: RowConverter::new(fields).expect("every type is supported"),
            table: if by == [Type::Int64] {
                Table::Int { numbers: HashTable::new(), keys: Vec::new(), null: None }
            } else {
                Table::Bytes { numbers: HashTable::new(), keys: Vec::new() }
            },
            free: Vec::new(),
        }
    }

    /// One more than the greatest number given.
    pub fn len(&self) -> usize {
        match &self.table {
            Table::Int { keys, .. } => keys.len(),
            Table::Bytes { keys, .. } => keys.len(),
        }
    }

    /// The number of every row's group, new ones made.
    pub fn number(&mut self, by: &[ArrayRef], numbers: &mut Vec<u32>) {
        numbers.clear();
        let free = &mut self.free;
        match &mut self.table {
            Table::Int { numbers: table, keys, null } => {
                let array = by[0].as_primitive::<Int64Type>();
                if array.null_count() == 0 {
                    numbers.extend(array.values().iter().map(|k| int_number(table, keys, free, *k)));
                } else {
                    numbers.extend(array.iter().map(|k| match k {
                        Some(k) => int_number(table, keys, free, k),
                        None => *null.get_or_insert_with(|| place(keys, free, 0)),
                    }));
                }
            }
            Table::Bytes { numbers: table, keys } => {
                let rows = self.converter.convert_columns(by).expect("columns of the planned types");
                numbers.extend(rows.iter().map(|row| bytes_number(table, keys, free, row.data())));
            }
        }
    }

    /// The order of groups by their keys' bytes, as positions in the slice.
    pub fn order(&self, groups: &[u32]) -> Vec<u32> {
        let places = 0..groups.len() as u32;
        match &self.table {
            Table::Int { keys, null, .. } => {
                let mut order: Vec<(i64, u32)> = groups.iter().map(|g| keys[*g as usize]).zip(places).collect();
                order.sort_unstable_by_key(|(key, _)| *key);
                let mut order: Vec<u32> = order.into_iter().map(|(_, place)| place).collect();
                // The null group stands among the zeros by now.
                let is_null = |place: &u32| Some(groups[*place as usize]) == *null;
                if let Some(at) = null.and_then(|_| order.iter().position(is_null)) {
                    order[..=at].rotate_right(1);
                }
                order
            }
            Table::Bytes { keys, .. } => {
                let key = |place: u32| &keys[groups[place as usize] as usize];
                let mut order: Vec<u32> = places.collect();
                order.sort_unstable_by(|a, b| key(*a).cmp(key(*b)));
                order
            }
        }
    }

    /// The number of the group with these key bytes.
    pub fn number_of_key(&mut self, key: &[u8]) -> u32 {
        let free = &mut self.free;
        match &mut self.table {
            Table::Int { numbers, keys, null } => match key[0] {
                0 => *null.get_or_insert_with(|| place(keys, free, 0)),
                _ => {
                    let bits = u64::from_be_bytes(key[1..9].try_into().expect("eight bytes")) ^ 1 << 63;
                    int_number(numbers, keys, free, bits as i64)
                }
            },
            Table::Bytes { numbers, keys } => bytes_number(numbers, keys, free, key),
        }
    }

    /// A group's key bytes: those arrow-row gives the `by` columns.
    pub fn key(&self, group: u32, out: &mut Vec<u8>) {
        match &self.table {
            Table::Int { null: Some(null), .. } if *null == group => out.extend_from_slice(&[0; 9]),
            Table::Int { keys, .. } => {
                out.push(1);
                out.extend_from_slice(&(keys[group as usize] as u64 ^ 1 << 63).to_be_bytes());
            }
            Table::Bytes { keys, .. } => out.extend_from_slice(&keys[group as usize]),
        }
    }

    /// The `by` columns of some groups.
    pub fn columns(&self, groups: &[u32]) -> Vec<ArrayRef> {
        match &self.table {
            Table::Int { keys, null, .. } => {
                let values: Vec<i64> = groups.iter().map(|g| keys[*g as usize]).collect();
                let valid =
                    null.filter(|n| groups.contains(n)).map(|n| groups.iter().map(|g| *g != n).collect::<NullBuffer>());
                vec![Arc::new(Int64Array::new(values.into(), valid))]
            }
            Table::Bytes { keys, .. } => {
                let parser = self.converter.parser();
                let rows = groups.iter().map(|g| parser.parse(&keys[*g as usize]));
                self.converter.convert_rows(rows).expect("bytes of the planned columns")
            }
        }
    }

    /// Lets go of a group; its number may be given to another.
    pub fn remove(&mut self, group: u32) {
        match &mut self.table {
            Table::Int { null, .. } if *null == Some(group) => *null = None,
            Table::Int { numbers, keys, .. } => {
                let key = keys[group as usize];
                if let Ok(entry) = numbers.find_entry(hash_int(key), |(k, _)| *k == key) {
                    entry.remove();
                }
            }
            Table::Bytes { numbers, keys } => {
                let key = std::mem::take(&mut keys[group as usize]);
                if let Ok(entry) = numbers.find_entry(hash_bytes(&key), |g| *g == group) {
                    entry.remove();
                }
            }
        }
        self.free.push(group);
    }
}

#[inline]
fn int_number(table: &mut HashTable<(i64, u32)>, keys: &mut Vec<i64>, free: &mut Vec<u32>, key: i64) -> u32 {
    if let Some((_, number)) = table.find(hash_int(key), |(k, _)| *k == key) {
        return *number;
    }
    let number = place(keys, free, key);
    table.insert_unique(hash_int(key), (key, number), |(k, _)| hash_int(*k));
    number
}

#[inline]
fn bytes_number(table: &mut HashTable<u32>, keys: &mut Vec<Box<[u8]>>, free: &mut Vec<u32>, key: &[u8]) -> u32 {
    let hash = hash_bytes(key);
    if let Some(number) = table.find(hash, |n| *keys[*n as usize] == *key) {
        return *number;
    }
    let number = place(keys, free, key.into());
    table.insert_unique(hash, number, |n| hash_bytes(&keys[*n as usize]));
    number
}

fn place<K>(keys: &mut Vec<K>, free: &mut Vec<u32>, key: K) -> u32 {
    match free.pop() {
        Some(number) => {
            keys[number as usize] = key;
            number
        }
        None => {
            keys.push(key);
            u32::try_from(keys.len() - 1).expect("fewer than four thousand million groups")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_int_key_has_the_bytes_arrow_row_gives_it() {
        let mut fast = Groups::new(&[Type::Int64]);
        let keys =
            Arc::new(Int64Array::from(vec![Some(i64::MIN), None, Some(-1), Some(0), Some(i64::MAX)])) as ArrayRef;
        let mut numbers = Vec::new();
        fast.number(std::slice::from_ref(&keys), &mut numbers);
        let rows = fast.converter.convert_columns(&[keys]).unwrap();
        for (i, number) in numbers.clone().into_iter().enumerate() {
            let mut key = Vec::new();
            fast.key(number, &mut key);
            assert_eq!(key, rows.row(i).data());
            assert_eq!(fast.number_of_key(&key), number);
        }
    }

    #[test]
    fn the_order_of_groups_is_that_of_their_bytes() {
        for types in [&[Type::Int64][..], &[Type::Int64, Type::Int64]] {
            let mut groups = Groups::new(types);
            let column = Arc::new(Int64Array::from(vec![Some(7), Some(0), None, Some(-3), Some(i64::MIN)])) as ArrayRef;
            let mut numbers = Vec::new();
            groups.number(&vec![column; types.len()], &mut numbers);
            let key = |place: u32| {
                let mut key = Vec::new();
                groups.key(numbers[place as usize], &mut key);
                key
            };
            let keys: Vec<Vec<u8>> = groups.order(&numbers).into_iter().map(key).collect();
            assert!(keys.len() == 5 && keys.is_sorted(), "{keys:?}");
        }
    }
}
