//! One page of a scan: rows of a range in key order, filtered, as many as asked for, and where to go on.

use std::ops::Bound;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::compute::filter_record_batch;
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

/// Rows, and where to go on.
#[derive(Debug)]
pub(crate) struct Page {
    pub(crate) epoch: Epoch,
    pub(crate) batches: Vec<RecordBatch>,
    /// Absent after the last page.
    pub(crate) cursor: Option<String>,
}

/// Rows decoded at a time.
const CHUNK_ROWS: usize = 1024;

/// Reads a page. At most `rows_read_max` rows are looked at, so that a filter nothing passes does not hold a thread
/// for long: the page is then short, and its cursor goes on.
pub(crate) fn read(snapshot: &Snapshot, scan: &Scan, rows_read_max: usize) -> Result<Page, Problem> {
    let epoch = snapshot.epoch();
    let mut page = Page { epoch, batches: Vec::new(), cursor: None };
    if scan.range.is_empty() {
        return Ok(page);
    }
    let bound = |b: &Bound<Vec<u8>>| b.clone();
    let (from, to) = (bound(&scan.range.from), bound(&scan.range.to));
    let mut rows = snapshot.scan(scan.relation.id, from.as_ref().map(Vec::as_slice), to.as_ref().map(Vec::as_slice)).peekable();
    let (mut wanted, mut read) = (scan.limit, 0);
    while wanted > 0 && read < rows_read_max {
        let size = if scan.filter.is_empty() { wanted.min(CHUNK_ROWS) } else { CHUNK_ROWS };
        let chunk: Vec<(Vec<u8>, Vec<u8>)> = rows.by_ref().take(size).collect::<Result<_, _>>()?;
        let Some((last_read, _)) = chunk.last() else { break };
        read += chunk.len();
        let batch = scan.relation.codec.decode(chunk.iter().map(|(k, v)| (k.as_slice(), v.as_slice())))?;
        // The key after which the next page begins: the last one of this page, or the last one looked at.
        let mut last = last_read;
        let mut kept = batch;
        let mut cut = false;
        if !scan.filter.is_empty() {
            let mask = scan.filter.mask(&kept);
            let passing: Vec<usize> = (0..chunk.len()).filter(|i| mask.value(*i)).take(wanted + 1).collect();
            kept = filter_record_batch(&kept, &mask).map_err(Problem::internal)?;
            if passing.len() >= wanted {
                last = &chunk[passing[wanted - 1]].0;
                cut = passing[wanted - 1] + 1 < chunk.len();
                kept = kept.slice(0, wanted);
            }
        }
        wanted -= kept.num_rows();
        if kept.num_rows() > 0 {
            page.batches.push(kept);
        }
        let ends = wanted == 0 || read >= rows_read_max;
        if ends && (cut || rows.peek().is_some()) {
            page.cursor = Some(Cursor { epoch, key: last.clone() }.encode(scan.relation.id));
        }
    }
    Ok(page)
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
