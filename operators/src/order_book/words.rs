//! The words of a column and what they mean.

/// Words with their meanings.
#[derive(Clone, Debug)]
pub struct Words<T> {
    words: Vec<(String, Option<i64>, T)>,
}

impl<T> Default for Words<T> {
    fn default() -> Words<T> {
        Words { words: Vec::new() }
    }
}

impl<T: Copy> Words<T> {
    /// A word more. False if it is there already.
    pub fn add(&mut self, word: &str, meaning: T) -> bool {
        let is_new = self.words.iter().all(|(known, ..)| known != word);
        if is_new {
            self.words.push((word.to_owned(), word.parse().ok(), meaning));
        }
        is_new
    }

    /// What a word means.
    #[inline]
    pub fn of_text(&self, word: &str) -> Option<T> {
        self.words.iter().find(|(known, ..)| known == word).map(|(.., meaning)| *meaning)
    }

    /// What a number means.
    #[inline]
    pub fn of_int(&self, word: i64) -> Option<T> {
        self.words.iter().find(|(_, known, _)| *known == Some(word)).map(|(.., meaning)| *meaning)
    }

    /// Whether some word means this.
    pub fn has(&self, meaning: &T) -> bool
    where
        T: PartialEq,
    {
        self.words.iter().any(|(.., known)| known == meaning)
    }

    /// The words as text.
    pub fn text(&self) -> String
    where
        T: std::fmt::Debug,
    {
        let words: Vec<String> = self.words.iter().map(|(word, _, meaning)| format!("{word} {meaning:?}")).collect();
        words.join(", ")
    }
}
