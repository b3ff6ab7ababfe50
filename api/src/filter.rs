//! The filter of a scan: `column op literal [and column op literal]…`.
//!
//! ```text
//! filter     = comparison { "and" comparison }
//! comparison = column op literal
//! column     = letter { letter | digit | "_" } | '"' any '"'       (a quote inside is doubled)
//! op         = "=" | "!=" | "<" | "<=" | ">" | ">="
//! literal    = "null" | "true" | "false" | number | "'" any "'"    (a quote inside is doubled)
//! ```
//!
//! Timestamps are quoted RFC 3339 or bare microseconds. `= null` and `!= null` ask whether a cell is there; every other
//! comparison with an absent cell is false, as in SQL. Floats compare as they are ordered: NaN above all.

use std::cmp::Ordering;

use arrow::array::{BooleanArray, RecordBatch};
use types::{Schema, Value};

use crate::cells;
use crate::problem::{BAD_FILTER, Problem, suggestion};

/// Comparisons that must all hold.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Filter {
    comparisons: Vec<Comparison>,
}

#[derive(Clone, Debug, PartialEq)]
struct Comparison {
    column: usize,
    op: Op,
    literal: Value,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Op {
    Eq,
    Ne,
    Lt,
    Le,
    Gt,
    Ge,
}

impl Filter {
    /// Reads a filter over a relation.
    pub(crate) fn parse(text: &str, schema: &Schema) -> Result<Filter, Problem> {
        let mut tokens = Tokens { rest: text };
        let mut filter = Filter::default();
        loop {
            filter.comparisons.push(comparison(&mut tokens, schema)?);
            match tokens.next()? {
                None => return Ok(filter),
                Some(Token::Word(word)) if word.eq_ignore_ascii_case("and") => {}
                Some(other) => return Err(bad(format!("expected `and` or the end, found {}", other.show()))),
            }
        }
    }

    /// Adds the comparison `column = value`.
    pub(crate) fn and_equal(&mut self, column: usize, value: Value) {
        self.comparisons.push(Comparison { column, op: Op::Eq, literal: value });
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.comparisons.is_empty()
    }

    /// Which rows hold.
    pub(crate) fn mask(&self, rows: &RecordBatch) -> BooleanArray {
        (0..rows.num_rows()).map(|row| Some(self.comparisons.iter().all(|c| c.holds(rows, row)))).collect()
    }
}

impl Comparison {
    fn holds(&self, rows: &RecordBatch, row: usize) -> bool {
        let cell = Value::at(rows.column(self.column), row);
        let order = match (&cell, &self.literal) {
            (Value::Null, Value::Null) => return self.op == Op::Eq,
            (_, Value::Null) => return self.op == Op::Ne,
            (Value::Null, _) => return false,
            (cell, literal) => cell.cmp(literal),
        };
        match self.op {
            Op::Eq => order == Ordering::Equal,
            Op::Ne => order != Ordering::Equal,
            Op::Lt => order == Ordering::Less,
            Op::Le => order != Ordering::Greater,
            Op::Gt => order == Ordering::Greater,
            Op::Ge => order != Ordering::Less,
        }
    }
}

fn bad(message: impl Into<String>) -> Problem {
    Problem::new(BAD_FILTER, message)
}

fn comparison(tokens: &mut Tokens<'_>, schema: &Schema) -> Result<Comparison, Problem> {
    let name = match tokens.next()? {
        Some(Token::Word(name)) => name.to_owned(),
        Some(Token::Quoted('"', name)) => name,
        other => return Err(bad(format!("expected a column, found {}", show(other)))),
    };
    let names = || schema.columns.iter().map(|c| c.name.as_str());
    let column = schema
        .index_of(&name)
        .ok_or_else(|| bad(format!("there is no column `{name}`{}", suggestion(&name, names()))))?;
    let op = match tokens.next()? {
        Some(Token::Op(op)) => op,
        other => return Err(bad(format!("expected one of = != < <= > >= after `{name}`, found {}", show(other)))),
    };
    let literal = match tokens.next()? {
        Some(Token::Word("null")) if matches!(op, Op::Eq | Op::Ne) => Value::Null,
        Some(Token::Word("null")) => return Err(bad("null is compared by = and != only")),
        Some(Token::Quoted('\'', text)) => typed(schema, column, &text)?,
        Some(Token::Word(word)) if schema.columns[column].ty != types::Type::String => typed(schema, column, word)?,
        other => {
            return Err(bad(format!("expected a value for `{name}`, found {}: a string stands in '…'", show(other))));
        }
    };
    Ok(Comparison { column, op, literal })
}

fn typed(schema: &Schema, column: usize, text: &str) -> Result<Value, Problem> {
    let column = &schema.columns[column];
    cells::cell(column.ty, text).map_err(|e| bad(format!("column `{}`: {e}", column.name)))
}

#[derive(Debug)]
enum Token<'a> {
    /// A name, a keyword or a number.
    Word(&'a str),
    /// The quote and what stands in it.
    Quoted(char, String),
    Op(Op),
}

impl Token<'_> {
    fn show(&self) -> String {
        match self {
            Token::Word(word) => format!("`{word}`"),
            Token::Quoted(quote, text) => format!("{quote}{text}{quote}"),
            Token::Op(op) => format!("`{}`", OPS.iter().find(|(_, o)| o == op).expect("every operator is listed").0),
        }
    }
}

fn show(token: Option<Token<'_>>) -> String {
    token.map_or_else(|| "the end".into(), |t| t.show())
}

/// Longest first, so that `<=` is not read as `<`.
const OPS: [(&str, Op); 6] =
    [("!=", Op::Ne), ("<=", Op::Le), (">=", Op::Ge), ("=", Op::Eq), ("<", Op::Lt), (">", Op::Gt)];

struct Tokens<'a> {
    rest: &'a str,
}

impl<'a> Tokens<'a> {
    fn next(&mut self) -> Result<Option<Token<'a>>, Problem> {
        self.rest = self.rest.trim_start();
        let Some(first) = self.rest.chars().next() else { return Ok(None) };
        if let Some((text, op)) = OPS.iter().find(|(text, _)| self.rest.starts_with(text)) {
            self.rest = &self.rest[text.len()..];
            return Ok(Some(Token::Op(*op)));
        }
        if first == '\'' || first == '"' {
            return self.quoted(first).map(Some);
        }
        let word = |c: char| c.is_alphanumeric() || matches!(c, '_' | '.' | '+' | '-');
        let end = self.rest.find(|c| !word(c)).unwrap_or(self.rest.len());
        if end == 0 {
            return Err(bad(format!("`{first}` means nothing here")));
        }
        let (word, rest) = self.rest.split_at(end);
        self.rest = rest;
        Ok(Some(Token::Word(word)))
    }

    fn quoted(&mut self, quote: char) -> Result<Token<'a>, Problem> {
        let mut text = String::new();
        let mut chars = self.rest.char_indices().skip(1).peekable();
        while let Some((at, c)) = chars.next() {
            if c != quote {
                text.push(c);
            } else if chars.next_if(|(_, next)| *next == quote).is_some() {
                text.push(quote);
            } else {
                self.rest = &self.rest[at + 1..];
                return Ok(Token::Quoted(quote, text));
            }
        }
        Err(bad(format!("a {quote} is not closed")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cells::tests::schema;
    use types::RowCodec;

    fn rows() -> RecordBatch {
        let text = |s: &str| Value::Str(s.into());
        let row = |s: Value, i: i64, f: f64, t: i64| {
            vec![s, Value::Int(i), Value::Float(f), Value::Null, Value::Time(t), Value::Null]
        };
        RowCodec::new(&schema()).batch(&[
            row(text("open"), 1, 0.5, 0),
            row(text("it's"), 2, f64::NAN, 1_000_000),
            row(Value::Null, 3, -1.0, -5),
        ])
    }

    fn check(filter: &str, expected: &[usize]) {
        let mask = Filter::parse(filter, &schema()).unwrap_or_else(|p| panic!("{filter}: {}", p.message)).mask(&rows());
        let got: Vec<usize> = (0..3).filter(|i| mask.value(*i)).collect();
        assert_eq!(got, expected, "{filter}");
    }

    #[test]
    fn comparisons_hold_as_in_sql() {
        check("s = 'open'", &[0]);
        check("s='it''s'", &[1]);
        check("\"s\" != 'open'", &[1]);
        check("s = null", &[2]);
        check("s != null AND i>=2", &[1]);
        check("i > 1 and i < 3", &[1]);
        check("f <= -1", &[2]);
        check("f > 1e300", &[1]);
        check("f = 'NaN'", &[1]);
        check("t = '1970-01-01T00:00:01Z'", &[1]);
        check("t < 0", &[2]);
        check("b = true", &[]);
        check("b = null and d = null", &[0, 1, 2]);
    }

    #[test]
    fn a_bad_filter_says_what_was_expected() {
        for (filter, says) in [
            ("", "expected a column"),
            ("zz = 1", "no column `zz`"),
            ("i == 1", "expected a value"),
            ("i 1", "expected one of"),
            ("i = 'x'", "not of type int64"),
            ("i = 1 or i = 2", "expected `and`"),
            ("s = open", "a string stands in"),
            ("s = 'open", "not closed"),
            ("i < null", "= and != only"),
            ("i = 1 and", "found the end"),
            ("(i = 1)", "means nothing"),
        ] {
            let problem = Filter::parse(filter, &schema()).unwrap_err();
            assert_eq!(problem.code, BAD_FILTER);
            assert!(problem.message.contains(says), "{filter}: {}", problem.message);
        }
    }
}
