//! One table of a pipeline file while it is being read: it knows which keys were asked for and collects what is wrong.

use types::Schema;

/// One table of a pipeline file while it is being read.
///
/// Readers return `None` both when a key is absent and when its value is of the wrong shape; the latter has then
/// been reported. When the section is done, every key nobody asked for is reported with the nearest name that is known.
#[derive(Debug)]
pub struct Section<'a> {
    marker: std::marker::PhantomData<&'a ()>,
}

#[allow(unused_variables, clippy::missing_panics_doc, missing_docs)]
impl<'a> Section<'a> {
    /// The dotted name, e.g. `steps.match`.
    pub fn name(&self) -> &str { unreachable!() }
    pub fn has(&self, key: &str) -> bool { unreachable!() }
    /// Whether the value of a key is a sub-table (rather than a list or a string).
    pub fn is_table(&self, key: &str) -> bool { unreachable!() }
    pub fn string(&mut self, key: &'static str) -> Option<String> { unreachable!() }
    pub fn required_string(&mut self, key: &'static str) -> Option<String> { unreachable!() }
    pub fn int(&mut self, key: &'static str) -> Option<i64> { unreachable!() }
    pub fn float(&mut self, key: &'static str) -> Option<f64> { unreachable!() }
    pub fn boolean(&mut self, key: &'static str) -> Option<bool> { unreachable!() }
    /// A list of strings, or one string alone.
    pub fn strings(&mut self, key: &'static str) -> Option<Vec<String>> { unreachable!() }
    pub fn required_strings(&mut self, key: &'static str) -> Option<Vec<String>> { unreachable!() }
    /// A sub-table of strings, in file order.
    pub fn string_map(&mut self, key: &'static str) -> Option<Vec<(String, String)>> { unreachable!() }
    /// A sub-table.
    pub fn section(&mut self, key: &'static str) -> Option<Section<'_>> { unreachable!() }
    /// Reports something wrong with the value of a key (at its line; at the section's line if the key is absent).
    pub fn problem(&mut self, key: &str, message: impl Into<String>) { unreachable!() }
    /// Reports a name that is not known, with the nearest that is.
    pub fn unknown_name<'n>(&mut self, key: &str, what: &str, got: &str, known: impl IntoIterator<Item = &'n str>) { unreachable!() }
    /// Required: a column of `schema`.
    pub fn column(&mut self, key: &'static str, schema: &Schema) -> Option<usize> { unreachable!() }
    /// Optional: a list of columns of `schema` (or one alone).
    pub fn columns(&mut self, key: &'static str, schema: &Schema) -> Option<Vec<usize>> { unreachable!() }
    /// A required choice among names.
    pub fn choice<T: Copy>(&mut self, key: &'static str, choices: &[(&'static str, T)]) -> Option<T> { unreachable!() }
}
