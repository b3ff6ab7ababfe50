//! How the numbers of messages follow each other, and what of it shows that one is missing, came before, or is old.

use super::rules::Sequence;

/// The numbers of a message, as far as they are given.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Numbers {
    /// The first change in it (Binance's U).
    pub first: Option<i64>,
    /// The last change in it (u).
    pub last: Option<i64>,
    /// The last change in the message before (pu).
    pub previous: Option<i64>,
}

/// A message's changes: those after `after`, up to and with `last`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// The number before its first.
    pub after: i64,
    /// Its last.
    pub last: i64,
}

/// How a message follows the one before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Follows {
    /// It is the next, or the first of all.
    Next,
    /// It ends where the last did.
    Duplicate,
    /// It ends before the last did.
    Stale,
    /// Something between is missing.
    Gap,
}

impl Sequence {
    /// What a message covers, or what is wrong with its numbers. Not to be asked of [`Sequence::None`].
    pub fn span(self, numbers: Numbers) -> Result<Span, String> {
        let Numbers { first, last, previous } = numbers;
        let last = last.filter(|n| *n >= 0).ok_or("the number of the last update is null or negative")?;
        let after = match self {
            Sequence::None | Sequence::Contiguous => first.unwrap_or(last) - 1,
            Sequence::BinanceSpot => {
                first.filter(|n| *n >= 0).ok_or("the number of the first update is null or negative")? - 1
            }
            Sequence::BinanceFutures => {
                previous.filter(|n| *n >= 0).ok_or("the number of the previous update is null or negative")?
            }
        };
        if after >= last {
            return Err(format!("the updates after {after} up to {last} are none"));
        }
        Ok(Span { after, last })
    }

    /// How a message follows the one that ended with `before`.
    pub fn follows(self, before: Option<i64>, span: Span) -> Follows {
        match before {
            None => Follows::Next,
            Some(before) if span.last == before => Follows::Duplicate,
            Some(before) if span.last < before => Follows::Stale,
            Some(before) if span.after == before => Follows::Next,
            Some(_) => Follows::Gap,
        }
    }

    /// Whether a message says nothing that a snapshot of this number does not say. Binance's futures let the message
    /// that ends with the snapshot's number count: it may reach further from the best than the snapshot does.
    pub fn is_covered(self, span: Span, snapshot: i64) -> bool {
        match self {
            Sequence::BinanceFutures => span.last < snapshot,
            _ => span.last <= snapshot,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(sequence: Sequence, numbers: [Option<i64>; 3]) -> Option<(i64, i64)> {
        let numbers = Numbers { first: numbers[0], last: numbers[1], previous: numbers[2] };
        sequence.span(numbers).ok().map(|s| (s.after, s.last))
    }

    #[test]
    fn numbers_say_what_a_message_covers() {
        assert_eq!(span(Sequence::BinanceSpot, [Some(5), Some(9), None]), Some((4, 9)));
        assert_eq!(span(Sequence::BinanceSpot, [None, Some(9), None]), None);
        assert_eq!(span(Sequence::BinanceSpot, [Some(10), Some(9), None]), None);
        assert_eq!(span(Sequence::BinanceFutures, [Some(7), Some(9), Some(3)]), Some((3, 9)));
        assert_eq!(span(Sequence::BinanceFutures, [Some(7), Some(9), None]), None);
        assert_eq!(span(Sequence::Contiguous, [None, Some(9), None]), Some((8, 9)));
        assert_eq!(span(Sequence::Contiguous, [None, Some(-1), None]), None);
    }

    #[test]
    fn what_is_missing_repeated_or_old_is_seen() {
        let rule = Sequence::BinanceSpot;
        let follows = |before, after, last| rule.follows(before, Span { after, last });
        assert_eq!(follows(None, 4, 9), Follows::Next);
        assert_eq!(follows(Some(4), 4, 9), Follows::Next);
        assert_eq!(follows(Some(9), 4, 9), Follows::Duplicate);
        assert_eq!(follows(Some(10), 4, 9), Follows::Stale);
        assert_eq!(follows(Some(3), 4, 9), Follows::Gap);
        assert_eq!(follows(Some(6), 4, 9), Follows::Gap);
    }
}
