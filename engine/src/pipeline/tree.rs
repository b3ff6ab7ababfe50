//! A pipeline file as a tree that knows where everything stands, with the environment's values filled in.

use std::cell::RefCell;
use std::collections::BTreeSet;

use toml::Spanned;
use toml::de::{DeTable, DeValue};
use toml::value::Datetime;

use super::concealed::Concealed;
use super::problem::{Problem, nearest};

/// A table: its entries in file order.
#[derive(Debug)]
pub(super) struct Table(pub Vec<Entry>);

/// A key and what it has.
#[derive(Debug)]
pub(super) struct Entry {
    pub key: String,
    /// Where the key stands, in bytes.
    pub at: usize,
    pub node: Node,
}

/// A value and where it stands, in bytes.
#[derive(Debug)]
pub(super) struct Node {
    pub at: usize,
    pub value: Value,
}

/// A value.
#[derive(Debug)]
pub(super) enum Value {
    String(String),
    Int(i64),
    Float(f64),
    Bool(bool),
    Time(Datetime),
    List(Vec<Node>),
    Table(Table),
    /// Something that has been reported already.
    Broken,
}

impl Value {
    /// What it is, in words.
    pub fn shape(&self) -> &'static str {
        match self {
            Value::String(_) => "a string",
            Value::Int(_) => "an integer",
            Value::Float(_) => "a float",
            Value::Bool(_) => "a truth value",
            Value::Time(_) => "a date or time",
            Value::List(_) => "a list",
            Value::Table(_) => "a table",
            Value::Broken => "something broken",
        }
    }
}

impl Table {
    pub fn get(&self, key: &str) -> Option<&Entry> {
        self.0.iter().find(|e| e.key == key)
    }
}

/// A file while it is being read: where its lines are, what is wrong with it, what must not be shown.
#[derive(Debug)]
pub(super) struct Reading {
    file: String,
    text: String,
    line_starts: Vec<usize>,
    problems: RefCell<Vec<Problem>>,
    pub concealed: Concealed,
    /// Relations that would exist but for a mistake already reported: that they are unknown is not reported.
    pub unavailable: RefCell<BTreeSet<String>>,
    /// How many times something was not reported for that reason.
    muted: RefCell<usize>,
}

impl Reading {
    fn new(file: String, text: &str) -> Reading {
        let line_starts = std::iter::once(0).chain(text.match_indices('\n').map(|(i, _)| i + 1)).collect();
        Reading {
            file,
            text: text.to_owned(),
            line_starts,
            problems: RefCell::default(),
            concealed: Concealed::default(),
            unavailable: RefCell::default(),
            muted: RefCell::default(),
        }
    }

    /// The line of a position, from 1.
    pub fn line(&self, at: usize) -> usize {
        self.line_starts.partition_point(|start| *start <= at)
    }

    pub fn problem(&self, section: &str, at: usize, message: &str) {
        self.report(section, at, message, None, Vec::new());
    }

    /// Reports a name that is not among the known ones. The message does not yet say so.
    pub fn unknown(&self, section: &str, at: usize, message: &str, got: &str, known: &[&str]) {
        let suggestion = nearest(got, known.iter().copied()).map(str::to_owned);
        self.report(section, at, message, suggestion, known.iter().map(|k| (*k).to_owned()).collect());
    }

    fn report(&self, section: &str, at: usize, message: &str, suggestion: Option<String>, expected: Vec<String>) {
        let line = self.line(at);
        let start = self.line_starts[line - 1];
        let column = self.text.get(start..at.min(self.text.len())).map_or(1, |before| before.chars().count() + 1);
        self.problems.borrow_mut().push(Problem {
            file: self.file.clone(),
            line,
            column,
            section: section.to_owned(),
            message: self.concealed.hide(message),
            suggestion,
            expected,
        });
    }

    /// Whether a relation is missing only because of a mistake already reported; noted as not reported again.
    pub fn mute(&self, relation: &str) -> bool {
        let base = relation.split('.').next().unwrap_or(relation);
        let mute = self.unavailable.borrow().contains(base);
        *self.muted.borrow_mut() += usize::from(mute);
        mute
    }

    /// Grows with every mistake, reported or muted.
    pub fn mistakes(&self) -> usize {
        self.problems.borrow().len() + *self.muted.borrow()
    }

    pub fn into_problems(self) -> (Vec<Problem>, Concealed) {
        (self.problems.into_inner(), self.concealed)
    }
}

/// Parses a file. `None` if its syntax is broken: then the problems say where, and nothing else.
pub(super) fn parse(file: String, text: &str, env: &dyn Fn(&str) -> Option<String>) -> (Reading, Option<Table>) {
    const BYTES_MAX: usize = 4 << 20;
    let mut reading = Reading::new(file, text);
    if text.len() > BYTES_MAX {
        reading.problem("", 0, "a pipeline file has 4 MiB at most");
        return (reading, None);
    }
    let (root, errors) = DeTable::parse_recoverable(text);
    let mut readable = true;
    let mut last_line = 0;
    for error in errors {
        let span = error.span().unwrap_or(0..0);
        let line = reading.line(span.start);
        if error.message() == "duplicate key" {
            let key = text.get(span.clone()).unwrap_or_default();
            reading.problem("", span.start, &format!("`{}` is given twice", key.trim_matches(['[', ']', ' '])));
        } else if line != last_line {
            // What follows an error on its line follows from it.
            reading.problem("", span.start, &format!("this is not TOML: {}", error.message()));
            readable = false;
        }
        last_line = line;
    }
    if !readable {
        return (reading, None);
    }
    let mut broken = Vec::new();
    let mut builder = Builder { env, concealed: &mut reading.concealed, broken: &mut broken, path: Vec::new() };
    let table = builder.table(root.into_inner());
    // Reported only now, when everything to conceal is known.
    for (section, at, message) in broken {
        reading.problem(&section, at, &message);
    }
    (reading, Some(table))
}

struct Builder<'b> {
    env: &'b dyn Fn(&str) -> Option<String>,
    concealed: &'b mut Concealed,
    broken: &'b mut Vec<(String, usize, String)>,
    path: Vec<String>,
}

impl Builder<'_> {
    fn table(&mut self, table: DeTable<'_>) -> Table {
        let mut entries: Vec<Entry> = table
            .into_iter()
            .map(|(key, value)| {
                let at = key.span().start;
                let key = key.into_inner().into_owned();
                self.path.push(key.clone());
                let node = self.node(value);
                self.path.pop();
                Entry { key, at, node }
            })
            .collect();
        entries.sort_by_key(|e| e.at);
        Table(entries)
    }

    fn node(&mut self, value: Spanned<DeValue<'_>>) -> Node {
        let at = value.span().start;
        let value = match value.into_inner() {
            DeValue::String(text) => self.string(&text, at),
            DeValue::Boolean(v) => Value::Bool(v),
            DeValue::Datetime(v) => Value::Time(v),
            DeValue::Integer(v) => match i64::from_str_radix(v.as_str(), v.radix()) {
                Ok(v) => Value::Int(v),
                Err(_) => self.broken(at, format!("{v} is no signed integer of 64 bits")),
            },
            DeValue::Float(v) => match v.as_str().parse::<f64>() {
                Ok(f) if f.is_finite() || v.as_str().contains(['n', 'N']) => Value::Float(f),
                _ => self.broken(at, format!("{v} is no float of 64 bits")),
            },
            DeValue::Array(list) => Value::List(list.into_iter().map(|v| self.node(v)).collect()),
            DeValue::Table(table) => Value::Table(self.table(table)),
        };
        Node { at, value }
    }

    /// A string with every `${NAME}` replaced; `$${` stands for `${`.
    fn string(&mut self, raw: &str, at: usize) -> Value {
        let mut text = String::with_capacity(raw.len());
        let mut variables: Vec<(&str, String)> = Vec::new();
        let mut broken = None;
        let mut rest = raw;
        while let Some(found) = rest.find("${") {
            if rest[..found].ends_with('$') {
                text.push_str(&rest[..found]);
                text.push('{');
                rest = &rest[found + 2..];
                continue;
            }
            text.push_str(&rest[..found]);
            let Some(end) = rest[found..].find('}') else {
                return self
                    .broken(at, format!("`{raw}` opens `${{` and does not close it; write `$${{` for a plain `${{`"));
            };
            let name = &rest[found + 2..found + end];
            let good = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
                && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
            if !good {
                return self.broken(
                    at,
                    format!("`${{{name}}}` names no environment variable; write `$${{` for a plain `${{`"),
                );
            }
            match (self.env)(name) {
                Some(value) => {
                    text.push_str(&value);
                    variables.push((name, value));
                }
                None => broken = Some(self.broken(at, format!("the environment variable `{name}` is not set"))),
            }
            rest = &rest[found + end + 1..];
        }
        text.push_str(rest);
        for (name, value) in &variables {
            self.concealed.conceal(value, &format!("${{{name}}}"));
        }
        if !variables.is_empty() {
            self.concealed.conceal(&text, raw);
        }
        broken.unwrap_or(Value::String(text))
    }

    fn broken(&mut self, at: usize, message: String) -> Value {
        let section = self.path[..self.path.len().saturating_sub(1)].join(".");
        self.broken.push((section, at, message));
        Value::Broken
    }
}
