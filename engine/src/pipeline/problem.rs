//! What is wrong with a pipeline file: one mistake with its place, and all of them in the order of their lines.

use std::fmt;

/// One mistake.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Problem {
    /// The file, as it was named.
    pub file: String,
    /// The line, from 1.
    pub line: usize,
    /// The column in characters, from 1.
    pub column: usize,
    /// The dotted name of the table it is in; empty for the top of the file.
    pub section: String,
    /// What is wrong and what was expected, in one sentence.
    pub message: String,
    /// The right name that is nearest to a wrong one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub suggestion: Option<String>,
    /// The names that would have been right, if there is a list of them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub expected: Vec<String>,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const NAMES_MAX: usize = 12;
        write!(f, "{}:{}: ", self.file, self.line)?;
        if !self.section.is_empty() {
            write!(f, "[{}] ", self.section)?;
        }
        f.write_str(&self.message)?;
        if let Some(suggestion) = &self.suggestion {
            write!(f, "; did you mean `{suggestion}`?")
        } else if !self.expected.is_empty() {
            let listed: Vec<String> = self.expected.iter().take(NAMES_MAX).map(|n| format!("`{n}`")).collect();
            write!(f, "; expected {}{}", if self.expected.len() > 1 { "one of " } else { "" }, listed.join(", "))?;
            match self.expected.len().saturating_sub(NAMES_MAX) {
                0 => Ok(()),
                more => write!(f, " and {more} more"),
            }
        } else {
            Ok(())
        }
    }
}

/// Every mistake of a pipeline file, in the order of their lines; never empty. Displayed one a line.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(transparent)]
pub struct Problems(Vec<Problem>);

impl Problems {
    pub(super) fn new(mut problems: Vec<Problem>) -> Problems {
        assert!(!problems.is_empty(), "no problems are no error");
        problems.sort_by_key(|p| (p.line, p.column));
        problems.dedup();
        Problems(problems)
    }

    /// The mistakes.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &Problem> {
        self.0.iter()
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, problem) in self.0.iter().enumerate() {
            if i > 0 {
                f.write_str("\n")?;
            }
            problem.fmt(f)?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}

/// The known name that someone who wrote `got` probably meant: few letters apart, capitals aside.
pub(super) fn nearest<'n>(got: &str, known: impl IntoIterator<Item = &'n str>) -> Option<&'n str> {
    const CHARS_MAX: usize = 64;
    let length = got.chars().count();
    if length > CHARS_MAX {
        return None;
    }
    let lower = got.to_lowercase();
    known
        .into_iter()
        .filter(|k| k.chars().count() <= CHARS_MAX)
        .map(|k| (strsim::damerau_levenshtein(&lower, &k.to_lowercase()), k))
        .filter(|(distance, _)| *distance <= (length / 3).max(2) && *distance < length)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, k)| k)
}
