//! One table of a pipeline file while it is being read: it knows which keys were asked for and collects what is wrong.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::ops::RangeInclusive;

use types::{Micros, SEQ, Schema, Type};

use super::Problem;
use super::problem::Problems;
use super::tree::{self, Entry, Node, Reading, Table, Value};

/// One table of a pipeline file while it is being read.
///
/// Readers return `None` both when a key is absent and when its value is of the wrong shape; the latter has then
/// been reported. When the section is done, every key nobody asked for is reported with the nearest name that is known.
#[derive(Debug)]
pub struct Section<'a> {
    reading: &'a Reading,
    name: String,
    at: usize,
    table: &'a Table,
    asked: RefCell<BTreeSet<String>>,
    failed: Cell<bool>,
    /// A section opened by a reader: looks after its unknown keys itself.
    inner: bool,
    /// Every key has been asked for, mistakes or not.
    whole: bool,
}

impl<'a> Section<'a> {
    pub(super) fn new(reading: &'a Reading, name: String, at: usize, table: &'a Table) -> Section<'a> {
        Section {
            reading,
            name,
            at,
            table,
            asked: RefCell::default(),
            failed: Cell::new(false),
            inner: false,
            whole: false,
        }
    }

    /// The dotted name, e.g. `steps.match`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Says that every key this reader knows has been asked for, so that any other is unknown even if mistakes were found.
    pub fn asked_for_all(&mut self) {
        self.whole = true;
    }

    /// Whether the key is there, whatever it has.
    pub fn has(&self, key: &str) -> bool {
        self.node(key).is_some()
    }

    /// Whether the key is there and has a sub-table.
    pub fn is_table(&self, key: &str) -> bool {
        self.node(key).is_some_and(|n| matches!(n.value, Value::Table(_)))
    }

    /// A string.
    pub fn string(&mut self, key: &'static str) -> Option<String> {
        let node = self.node(key)?;
        match &node.value {
            Value::String(text) => Some(text.clone()),
            _ => self.wrong(key, node, "a string"),
        }
    }

    /// A string that must be there.
    pub fn required_string(&mut self, key: &'static str) -> Option<String> {
        self.required(key, "a string")?;
        self.string(key)
    }

    /// An integer.
    pub fn int(&mut self, key: &'static str) -> Option<i64> {
        let node = self.node(key)?;
        match node.value {
            Value::Int(v) => Some(v),
            _ => self.wrong(key, node, "an integer"),
        }
    }

    /// An integer of a range.
    pub fn int_in(&mut self, key: &'static str, range: RangeInclusive<i64>) -> Option<i64> {
        let v = self.int(key)?;
        if range.contains(&v) {
            return Some(v);
        }
        let (low, high) = (range.start(), range.end());
        let bounds = if *high == i64::MAX { format!("at least {low}") } else { format!("between {low} and {high}") };
        self.problem(key, format!("`{key}` must be {bounds}, found {v}"));
        None
    }

    /// A list of integers of a range, or one alone.
    pub fn ints_in(&mut self, key: &'static str, range: RangeInclusive<i64>) -> Option<Vec<i64>> {
        let node = self.node(key)?;
        let list = match &node.value {
            Value::Int(_) => std::slice::from_ref(node),
            Value::List(list) => list.as_slice(),
            _ => return self.wrong(key, node, "a list of integers"),
        };
        let (low, high) = (range.start(), range.end());
        let mut ints = Vec::new();
        for item in list {
            match &item.value {
                Value::Int(v) if range.contains(v) => ints.push(*v),
                Value::Int(v) => {
                    self.report(item.at, &format!("`{key}` must hold integers between {low} and {high}, found {v}"));
                }
                Value::Broken => self.pass_over(),
                other => {
                    let shape = other.shape();
                    self.report(item.at, &format!("`{key}` must be a list of integers, found {shape} in it"));
                }
            }
        }
        (ints.len() == list.len()).then_some(ints)
    }

    /// A list of floats of a range, or one alone; integers will do.
    pub fn floats_in(&mut self, key: &'static str, range: RangeInclusive<f64>) -> Option<Vec<f64>> {
        let node = self.node(key)?;
        let list = match &node.value {
            Value::Int(_) | Value::Float(_) => std::slice::from_ref(node),
            Value::List(list) => list.as_slice(),
            _ => return self.wrong(key, node, "a list of numbers"),
        };
        let (low, high) = (range.start(), range.end());
        let mut floats = Vec::new();
        for item in list {
            let number = match &item.value {
                Value::Int(v) => *v as f64,
                Value::Float(v) => *v,
                Value::Broken => {
                    self.pass_over();
                    continue;
                }
                other => {
                    let shape = other.shape();
                    self.report(item.at, &format!("`{key}` must be a list of numbers, found {shape} in it"));
                    continue;
                }
            };
            if range.contains(&number) {
                floats.push(number);
            } else {
                self.report(item.at, &format!("`{key}` must hold numbers between {low} and {high}, found {number}"));
            }
        }
        (floats.len() == list.len()).then_some(floats)
    }

    /// A finite float; an integer will do.
    pub fn float(&mut self, key: &'static str) -> Option<f64> {
        let node = self.node(key)?;
        match node.value {
            Value::Float(v) if v.is_finite() => Some(v),
            Value::Float(v) => {
                self.problem(key, format!("`{key}` must be a finite number, found {v}"));
                None
            }
            Value::Int(v) => Some(v as f64),
            _ => self.wrong(key, node, "a number"),
        }
    }

    /// A finite float of a range.
    pub fn float_in(&mut self, key: &'static str, range: RangeInclusive<f64>) -> Option<f64> {
        let v = self.float(key)?;
        if range.contains(&v) {
            return Some(v);
        }
        let (low, high) = (range.start(), range.end());
        let bounds =
            if *high == f64::INFINITY { format!("at least {low}") } else { format!("between {low} and {high}") };
        self.problem(key, format!("`{key}` must be {bounds}, found {v}"));
        None
    }

    /// Seconds, not negative, fractions allowed (so the key should end in `_secs`); given in microseconds.
    pub fn secs(&mut self, key: &'static str) -> Option<Micros> {
        // Centuries, and microseconds are still exact.
        const SECS_MAX: f64 = 9e9;
        self.float_in(key, 0.0..=SECS_MAX).map(|secs| (secs * 1e6).round() as Micros)
    }

    /// A truth value.
    pub fn boolean(&mut self, key: &'static str) -> Option<bool> {
        let node = self.node(key)?;
        match node.value {
            Value::Bool(v) => Some(v),
            _ => self.wrong(key, node, "true or false"),
        }
    }

    /// A list of strings, or one string alone.
    pub fn strings(&mut self, key: &'static str) -> Option<Vec<String>> {
        Some(self.items(key)?.into_iter().map(|(text, _)| text).collect())
    }

    /// A list of strings, or one string alone, that must be there.
    pub fn required_strings(&mut self, key: &'static str) -> Option<Vec<String>> {
        self.required(key, "a list of strings")?;
        self.strings(key)
    }

    /// A sub-table of strings, in file order.
    pub fn string_map(&mut self, key: &'static str) -> Option<Vec<(String, String)>> {
        let node = self.node(key)?;
        let Value::Table(table) = &node.value else { return self.wrong(key, node, "a table of strings") };
        let mut map = Vec::new();
        for entry in &table.0 {
            match &entry.node.value {
                Value::String(text) => map.push((entry.key.clone(), text.clone())),
                Value::Broken => self.pass_over(),
                other => {
                    let message = format!("`{key}.{}` must be a string, found {}", entry.key, other.shape());
                    self.report(entry.node.at, &message);
                }
            }
        }
        (map.len() == table.0.len()).then_some(map)
    }

    /// A sub-table.
    pub fn section(&mut self, key: &'static str) -> Option<Section<'a>> {
        let entry = self.entry(key)?;
        match &entry.node.value {
            Value::Table(table) => Some(self.inner(format!("{}.{key}", self.name), entry.at, table)),
            _ => self.wrong(key, &entry.node, "a table"),
        }
    }

    /// The sub-tables of a sub-table, in file order, each with its key; or those of a list, numbered from 1.
    pub fn sections(&mut self, key: &'static str) -> Option<Vec<(String, Section<'a>)>> {
        let entry = self.entry(key)?;
        let listed: Vec<(String, usize, &'a Node)> = match &entry.node.value {
            Value::Table(table) => table.0.iter().map(|e| (e.key.clone(), e.at, &e.node)).collect(),
            Value::List(list) => list.iter().enumerate().map(|(i, n)| ((i + 1).to_string(), n.at, n)).collect(),
            _ => return self.wrong(key, &entry.node, "a table of tables"),
        };
        let mut sections = Vec::new();
        let count = listed.len();
        for (name, at, node) in listed {
            match &node.value {
                Value::Table(table) => {
                    let section = self.inner(format!("{}.{key}.{name}", self.name), at, table);
                    sections.push((name, section));
                }
                Value::Broken => self.pass_over(),
                other => self.report(node.at, &format!("`{key}.{name}` must be a table, found {}", other.shape())),
            }
        }
        (sections.len() == count).then_some(sections)
    }

    /// Reports something wrong with the value of a key (at its line; at the section's line if the key is absent). A
    /// dotted key leads into sub-tables.
    pub fn problem(&mut self, key: &str, message: impl Into<String>) {
        self.report(self.place(key), &message.into());
    }

    /// Reports a name that is not known, with the nearest that is.
    pub fn unknown_name<'n>(&mut self, key: &str, what: &str, got: &str, known: impl IntoIterator<Item = &'n str>) {
        let at = self.place_of_item(key, got);
        self.unknown(at, what, got, &known.into_iter().collect::<Vec<_>>());
    }

    /// Required: a column of `schema`.
    pub fn column(&mut self, key: &'static str, schema: &Schema) -> Option<usize> {
        let name = self.required_string(key)?;
        self.known_column(&name, self.place(key), schema)
    }

    /// Optional: a column of `schema`.
    pub fn optional_column(&mut self, key: &'static str, schema: &Schema) -> Option<usize> {
        let name = self.string(key)?;
        self.known_column(&name, self.place(key), schema)
    }

    /// Optional: a list of columns of `schema` (or one alone), each once.
    pub fn columns(&mut self, key: &'static str, schema: &Schema) -> Option<Vec<usize>> {
        let items = self.items(key)?;
        let mut columns = Vec::new();
        let count = items.len();
        for (name, at) in items {
            match self.known_column(&name, at, schema) {
                Some(column) if columns.contains(&column) => {
                    self.report(at, &format!("the column `{name}` is named twice"));
                }
                Some(column) => columns.push(column),
                None => {}
            }
        }
        (columns.len() == count).then_some(columns)
    }

    /// A required choice among names.
    pub fn choice<T: Copy>(&mut self, key: &'static str, choices: &[(&'static str, T)]) -> Option<T> {
        self.required(key, "a string")?;
        self.choice_given(key, choices)
    }

    /// A choice among names that has a default. `None` only if something else was written.
    pub fn choice_or<T: Copy>(&mut self, key: &'static str, choices: &[(&'static str, T)], default: T) -> Option<T> {
        if self.has(key) { self.choice_given(key, choices) } else { Some(default) }
    }

    fn choice_given<T: Copy>(&mut self, key: &'static str, choices: &[(&'static str, T)]) -> Option<T> {
        let got = self.string(key)?;
        let found = choices.iter().find(|(name, _)| *name == got).map(|(_, v)| *v);
        if found.is_none() {
            let names: Vec<&str> = choices.iter().map(|(name, _)| *name).collect();
            self.unknown(self.place(key), &format!("`{key}`"), &got, &names);
        }
        found
    }

    fn known_column(&mut self, name: &str, at: usize, schema: &Schema) -> Option<usize> {
        let found = schema.index_of(name);
        if found.is_none() {
            let names: Vec<&str> = schema.columns.iter().map(|c| c.name.as_str()).filter(|n| *n != SEQ).collect();
            self.unknown(at, "column", name, &names);
        }
        found
    }

    /// Whether a mistake was found in this section itself.
    pub(super) fn failed(&self) -> bool {
        self.failed.get()
    }

    /// The strings of a list, or one alone, each with its place.
    pub(super) fn items(&mut self, key: &str) -> Option<Vec<(String, usize)>> {
        let node = self.node(key)?;
        let list = match &node.value {
            Value::String(text) => return Some(vec![(text.clone(), node.at)]),
            Value::List(list) => list,
            _ => return self.wrong(key, node, "a list of strings"),
        };
        let mut items = Vec::new();
        for item in list {
            match &item.value {
                Value::String(text) => items.push((text.clone(), item.at)),
                Value::Broken => self.pass_over(),
                other => {
                    self.report(item.at, &format!("`{key}` must be a list of strings, found {} in it", other.shape()))
                }
            }
        }
        (items.len() == list.len()).then_some(items)
    }

    pub(super) fn report(&self, at: usize, message: &str) {
        self.failed.set(true);
        self.reading.problem(&self.name, at, message);
    }

    pub(super) fn unknown(&self, at: usize, what: &str, got: &str, known: &[&str]) {
        self.failed.set(true);
        if what == "relation" && self.reading.mute(got) {
            return;
        }
        let (message, none) = if what.starts_with('`') {
            (format!("{what} cannot be `{got}`"), "")
        } else {
            (format!("there is no {what} `{got}`"), " (there are none yet)")
        };
        let none = if known.is_empty() { none } else { "" };
        self.reading.unknown(&self.name, at, &format!("{message}{none}"), got, known);
    }

    /// The line of a place.
    pub(super) fn line(&self, at: usize) -> usize {
        self.reading.line(at)
    }

    /// Where a key's value stands; the section's place if it is absent.
    pub(super) fn place(&self, key: &str) -> usize {
        let stands = |e: &Entry| if matches!(e.node.value, Value::Table(_)) { e.at } else { e.node.at };
        let (mut at, mut table, mut rest) = (self.at, self.table, key);
        loop {
            let (entry, below) = match (table.get(rest), rest.split_once('.')) {
                (Some(entry), _) => (entry, None),
                (None, Some((first, below))) => match table.get(first) {
                    Some(entry) => (entry, Some(below)),
                    None => return at,
                },
                (None, None) => return at,
            };
            at = stands(entry);
            match (&entry.node.value, below) {
                (Value::Table(inner), Some(below)) => (table, rest) = (inner, below),
                _ => return at,
            }
        }
    }

    /// Where that text stands in a key's list; otherwise where the key's value stands.
    fn place_of_item(&self, key: &str, text: &str) -> usize {
        match self.table.get(key).map(|e| &e.node.value) {
            Some(Value::List(list)) => {
                list.iter().find(|n| matches!(&n.value, Value::String(t) if t == text)).map(|n| n.at)
            }
            _ => None,
        }
        .unwrap_or_else(|| self.place(key))
    }

    /// Reports the keys that nobody asked for, when the section is done. `listed` are those that its kind knows:
    /// when the reader gave up early it has not asked for all of them, and when it did not, one it did not ask for is
    /// one it makes no use of.
    pub(super) fn finish(&mut self, listed: &[&str], complete: bool) {
        let asked = self.asked.take();
        let first = |name: &str| name.split('.').next().unwrap_or_default().to_owned();
        let mut known: Vec<String> = listed.iter().map(|n| first(n)).collect();
        known.extend(asked.iter().cloned());
        let mut seen = BTreeSet::new();
        known.retain(|name| seen.insert(name.clone()));
        for entry in self.table.0.iter().filter(|e| !asked.contains(&e.key)) {
            if !known.contains(&entry.key) {
                let names: Vec<&str> = known.iter().map(String::as_str).collect();
                self.failed.set(true);
                self.reading.unknown(&self.name, entry.at, &format!("unknown key `{}`", entry.key), &entry.key, &names);
            } else if complete {
                self.report(entry.at, &format!("`{}` has no effect together with the other keys here", entry.key));
            }
        }
        self.asked.replace(asked);
    }

    fn inner(&self, name: String, at: usize, table: &'a Table) -> Section<'a> {
        let name = name.trim_start_matches('.').to_owned();
        let mut section = Section::new(self.reading, name, at, table);
        section.inner = true;
        section
    }

    fn entry(&self, key: &str) -> Option<&'a Entry> {
        self.asked.borrow_mut().insert(key.to_owned());
        self.table.get(key)
    }

    pub(super) fn node(&self, key: &str) -> Option<&'a Node> {
        self.entry(key).map(|e| &e.node)
    }

    fn required(&mut self, key: &'static str, shape: &str) -> Option<()> {
        if self.has(key) {
            return Some(());
        }
        self.report(self.at, &format!("`{key}` is missing: expected {shape}"));
        None
    }

    pub(super) fn wrong<T>(&self, key: &str, node: &Node, shape: &str) -> Option<T> {
        match node.value {
            Value::Broken => self.pass_over(),
            _ => self.report(node.at, &format!("`{key}` must be {shape}, found {}", node.value.shape())),
        }
        None
    }

    /// Meets a value that has been reported already.
    fn pass_over(&self) {
        self.failed.set(true);
        self.reading.pass_over();
    }

    /// Reports a key of a test that names no relation, unless only another mistake keeps it from being one.
    pub(super) fn unknown_relation<'n>(&mut self, entry: &Entry, what: &str, known: impl IntoIterator<Item = &'n str>) {
        if !self.reading.mute(&entry.key) {
            self.unknown(entry.at, what, &entry.key, &known.into_iter().collect::<Vec<_>>());
        }
    }

    /// The type of that name, if sources may have it.
    pub(super) fn source_type(&mut self, column: &str, name: &str) -> Option<Type> {
        let key = format!("columns.{column}");
        match Type::parse(name) {
            Some(Type::Decimal) => {
                self.problem(&key, format!("`{column}` cannot be a decimal: sums are, and sources have none"));
                None
            }
            Some(ty) => Some(ty),
            None => {
                let names: Vec<&str> =
                    Type::NAMES.iter().filter(|(_, t)| *t != Type::Decimal).map(|(n, _)| *n).collect();
                self.unknown(self.place(&key), "type", name, &names);
                None
            }
        }
    }
}

impl Drop for Section<'_> {
    fn drop(&mut self) {
        // A reader that met a mistake may have stopped before it asked for everything; one that says it has not is told of
        // unknown keys whatever else is wrong.
        if self.inner && (!self.failed() || self.whole) && !std::thread::panicking() {
            self.finish(&[], true);
        }
    }
}

/// Reads a text as one section, for the tests of connectors and operators. Gives what is wrong with it, keys nobody
/// asked for included. No environment variable is set.
///
/// ```
/// let problems = engine::pipeline::test_section("rate = 'fast'\nrows = 3", |section| {
///     assert_eq!(section.int("rows"), Some(3));
///     assert_eq!(section.float("rate"), None);
/// });
/// assert_eq!(problems[0].to_string(), "test.toml:1: [test] `rate` must be a number, found a string");
/// ```
pub fn test_section(text: &str, read: impl FnOnce(&mut Section<'_>)) -> Vec<Problem> {
    let (reading, table) = tree::parse("test.toml".to_owned(), text, &|_| None);
    if let Some(table) = &table {
        let mut section = Section::new(&reading, "test".to_owned(), 0, table);
        read(&mut section);
        section.finish(&[], true);
    }
    match reading.into_problems().0 {
        none if none.is_empty() => none,
        some => Problems::new(some).iter().cloned().collect(),
    }
}
