//! The venue's own best quotes beside the book: where their numbers allow it, each must say the same.
//!
//! A quote has the number of the update that made it. The book, put to number L, is compared with the quote of number L;
//! or, if there is none, with the last quote before L once a later one shows that the best had not changed in between.
//! The first proves a book wrong. The second is a strong hint only, for a stream of quotes may leave some out.

use std::collections::VecDeque;

use super::book::Book;
use super::rules::Side;

/// The best of each side, as (key, size).
pub type Best = [Option<(u64, f64)>; 2];

/// A best quote of the venue.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Quote {
    /// Its number.
    pub number: i64,
    /// What it says.
    pub best: Best,
}

/// Quotes that wait for the book, or that the book waits for.
#[derive(Clone, Debug, Default)]
pub struct Quotes {
    /// In the order of their numbers.
    pub held: VecDeque<Quote>,
    /// Whether the book's present number has still to be compared.
    pub is_open: bool,
    /// Whether they are to be stored again.
    pub is_dirty: bool,
}

/// What a comparison gave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Compared {
    /// Whether both have one number.
    pub is_exact: bool,
    /// Whether they say the same.
    pub agrees: bool,
}

/// How many quotes are kept: more than ever came between two messages of depth.
const HELD_MAX: usize = 1024;

impl Quotes {
    /// The number of the last quote.
    pub fn last(&self) -> Option<i64> {
        self.held.back().map(|quote| quote.number)
    }

    /// A later quote comes.
    pub fn push(&mut self, quote: Quote) {
        if self.held.len() == HELD_MAX {
            self.held.pop_front();
        }
        self.held.push_back(quote);
        self.is_dirty = true;
    }

    /// Compares the book at this number, once, if that is possible by now.
    pub fn settle(&mut self, book: &Book, number: i64) -> Option<Compared> {
        while self.held.get(1).is_some_and(|second| second.number <= number) {
            self.held.pop_front();
            self.is_dirty = true;
        }
        if !self.is_open {
            return None;
        }
        let quote = *self.held.front()?;
        let is_exact = quote.number == number;
        if quote.number > number || (!is_exact && self.held.len() < 2) {
            return None;
        }
        self.is_open = false;
        Some(Compared { is_exact, agrees: quote.best == best(book) })
    }
}

/// The best of a book.
pub fn best(book: &Book) -> Best {
    Side::BOTH.map(|side| book.side(side).best().map(|level| (level.key, level.size)))
}
