//! One page of a scan: rows of a range in key order, filtered, as many as asked for, and where to go on.

use std::ops::Bound;
use std::sync::Arc;

use arrow::array::RecordBatch;
use storage::Snapshot;
use types::Epoch;

use crate::cursor::Cursor;
use crate::filter::Filter;
use crate::problem::Problem;
use crate::read::Relation;

/// What to read.
#[derive(Clone, Debug)]
pub(crate) struct Scan {
    pub(crate) relation: Arc<Relation>,
    pub(crate) range: Range,
    pub(crate) filter: Filter,
    pub(crate) limit: usize,
}

/// Keys in order, from and to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Range {
    from: Bound<Vec<u8>>,
    to: Bound<Vec<u8>>,
}

impl Range {
    /// Every key.
    pub(crate) fn all() -> Range {
        Range { from: Bound::Unbounded, to: Bound::Unbounded }
    }

    /// One key.
    pub(crate) fn key(key: Vec<u8>) -> Range {
        Range { from: Bound::Included(key.clone()), to: Bound::Included(key) }
    }

    /// The keys that begin with these bytes.
    pub(crate) fn prefix(prefix: Vec<u8>) -> Range {
        let mut end = prefix.clone();
        while end.pop_if(|last| *last == u8::MAX).is_some() {}
        let to = match end.last_mut() {
            None => Bound::Unbounded,
            Some(last) => {
                *last += 1;
                Bound::Excluded(end)
            }
        };
        Range { from: Bound::Included(prefix), to }
    }

    /// What of this range comes after a key.
    pub(crate) fn after(mut self, key: Vec<u8>) -> Range {
        let later = match &self.from {
            Bound::Unbounded => true,
            Bound::Included(from) | Bound::Excluded(from) => key >= *from,
        };
        if later {
            self.from = Bound::Excluded(key);
        }
        self
    }

    /// Whether no key can be in it. The store need not be asked then.
    fn is_empty(&self) -> bool {
        let (Bound::Included(from) | Bound::Excluded(from)) = &self.from else { return false };
        match &self.to {
            Bound::Unbounded => false,
            Bound::Included(to) => from > to || (from == to && matches!(self.from, Bound::Excluded(_))),
            Bound::Excluded(to) => from >= to,
        }
    }
}

/// A row's key and other columns, as bytes.
pub(crate) type RowBytes = (Vec<u8>, Vec<u8>);

/// Rows, and where to go on.
#[derive(Debug)]
pub(crate) struct Page {
    pub(crate) epoch: Epoch,
    pub(crate) rows: Vec<RowBytes>,
    /// The last key looked at, absent after the last page.
    pub(crate) end: Option<Vec<u8>>,
}

/// Rows decoded at a time for a filter.
const CHUNK_ROWS: usize = 1024;

/// Reads a page. At most `rows_read_max` rows are looked at, so that a filter nothing passes does not hold a thread
/// for long: the page is then short, and its cursor goes on.
pub(crate) fn read(snapshot: &Snapshot, scan: &Scan, rows_read_max: usize) -> Result<Page, Problem> {
    let mut page = Page { epoch: snapshot.epoch(), rows: Vec::new(), end: None };
    if scan.range.is_empty() {
        return Ok(page);
    }
    let (from, to) = (scan.range.from.as_ref().map(Vec::as_slice), scan.range.to.as_ref().map(Vec::as_slice));
    let mut rows = snapshot.scan(scan.relation.id, from, to).peekable();
    if scan.filter.is_empty() {
        page.rows = rows.by_ref().take(scan.limit).collect::<Result<_, _>>()?;
        page.end = rows.peek().and(page.rows.last()).map(|(key, _)| key.clone());
        return Ok(page);
    }
    let mut read = 0;
    loop {
        let chunk: Vec<RowBytes> = rows.by_ref().take(CHUNK_ROWS).collect::<Result<_, _>>()?;
        let Some((last, _)) = chunk.last() else { return Ok(page) };
        let last = last.clone();
        read += chunk.len();
        let mask = scan.filter.mask(&decode(&scan.relation, &chunk)?);
        let mut chunk = chunk.into_iter().zip(&mask);
        for (row, _) in chunk.by_ref().filter(|(_, passes)| *passes == Some(true)) {
            page.rows.push(row);
            if page.rows.len() == scan.limit {
                let more = chunk.next().is_some() || rows.peek().is_some();
                page.end = page.rows.last().filter(|_| more).map(|(key, _)| key.clone());
                return Ok(page);
            }
        }
        if read >= rows_read_max {
            page.end = rows.peek().map(|_| last);
            return Ok(page);
        }
    }
}

/// Rows as a batch.
pub(crate) fn decode(relation: &Relation, rows: &[RowBytes]) -> Result<RecordBatch, Problem> {
    Ok(relation.codec.decode(rows.iter().map(|(k, v)| (k.as_slice(), v.as_slice())))?)
}

impl Page {
    /// With what the next page is asked for; absent after the last page.
    pub(crate) fn cursor(&self, relation: &Relation) -> Option<String> {
        self.end.as_ref().map(|key| Cursor { epoch: self.epoch, key: key.clone() }.encode(relation.id))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_is_the_range_up_to_its_successor() {
        assert_eq!(Range::prefix(vec![1, 2]).to, Bound::Excluded(vec![1, 3]));
        assert_eq!(Range::prefix(vec![1, 255]).to, Bound::Excluded(vec![2]));
        assert_eq!(Range::prefix(vec![255]).to, Bound::Unbounded);
        assert_eq!(Range::prefix(vec![]).to, Bound::Unbounded);
    }

    #[test]
    fn a_range_after_a_key_outside_it_is_empty_or_whole() {
        let range = Range::prefix(vec![5]);
        assert!(range.clone().after(vec![6]).is_empty());
        assert_eq!(range.clone().after(vec![4]), range);
        assert!(!range.clone().after(vec![5, 1]).is_empty());
        assert!(Range::key(vec![5]).after(vec![5]).is_empty());
        assert!(!Range::all().is_empty());
    }
}
