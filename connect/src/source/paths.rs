//! Which field of a nested value fills which column: a tree of names, walked together with the value's schema.

/// What is asked for at a place of a value, and below it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Paths {
    /// The columns that take what is here.
    pub columns: Vec<usize>,
    below: Vec<(String, Paths)>,
}

impl Paths {
    /// A tree of columns with the names that lead to each, outermost first.
    pub fn new<'n>(columns: impl IntoIterator<Item = (usize, Vec<&'n str>)>) -> Paths {
        let mut root = Paths::default();
        for (column, names) in columns {
            let mut at = &mut root;
            for name in names {
                let known = at.below.iter().position(|(n, _)| n == name).unwrap_or_else(|| {
                    at.below.push((name.to_owned(), Paths::default()));
                    at.below.len() - 1
                });
                at = &mut at.below[known].1;
            }
            at.columns.push(column);
        }
        root
    }

    /// What is asked for in the field of that name.
    pub fn get(&self, name: &str) -> Option<&Paths> {
        self.below.iter().find(|(n, _)| n == name).map(|(_, p)| p)
    }

    /// The names that are asked for, each with what is below it.
    pub fn below(&self) -> impl Iterator<Item = (&str, &Paths)> {
        self.below.iter().map(|(n, p)| (n.as_str(), p))
    }

    /// Whether any field of it is asked for.
    pub fn is_inner(&self) -> bool {
        !self.below.is_empty()
    }

    /// Some column that is asked for here or below.
    pub fn any_column(&self) -> Option<usize> {
        self.columns.first().copied().or_else(|| self.below.iter().find_map(|(_, p)| p.any_column()))
    }
}
