//! Keeps what came from the environment out of everything that is shown: it may be a password.

/// The texts that came from the environment, each with what is shown in its place.
///
/// Values under four bytes are not concealed: they hide nothing, and replacing them would garble what is shown.
#[derive(Clone, Default)]
pub struct Concealed {
    /// (text, what is shown), longest text first.
    texts: Vec<(String, String)>,
}

impl std::fmt::Debug for Concealed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.texts.iter().map(|(_, shown)| shown)).finish()
    }
}

impl Concealed {
    /// Nothing is concealed.
    pub const NOTHING: Concealed = Concealed { texts: Vec::new() };
    const BYTES_MIN: usize = 4;

    /// From now on shows one text instead of another, also where it stands escaped.
    pub(super) fn conceal(&mut self, text: &str, shown: &str) {
        let escaped = text.escape_debug().to_string();
        for text in [escaped, text.to_owned()] {
            if text.len() >= Concealed::BYTES_MIN && !self.texts.iter().any(|(t, _)| *t == text) {
                self.texts.push((text, shown.to_owned()));
            }
        }
        // A whole string before the variables in it: its own text says more.
        self.texts.sort_by_key(|(t, _)| std::cmp::Reverse(t.len()));
    }

    /// The text as it may be shown.
    pub fn hide(&self, text: &str) -> String {
        let mut out = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(next) = rest.chars().next() {
            match self.texts.iter().find(|(t, _)| rest.starts_with(t.as_str())) {
                Some((found, shown)) => {
                    out.push_str(shown);
                    rest = &rest[found.len()..];
                }
                None => {
                    out.push(next);
                    rest = &rest[next.len_utf8()..];
                }
            }
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_came_from_the_environment_is_not_shown() {
        let mut concealed = Concealed::default();
        concealed.conceal("hunter2", "${PASSWORD}");
        concealed.conceal("user:hunter2@host", "user:${PASSWORD}@host");
        concealed.conceal("a\"b\n", "${QUOTED}");
        concealed.conceal("5", "${SHORT}");
        assert_eq!(
            concealed.hide("hunter2 in user:hunter2@host, \"a\\\"b\\n\" 5é"),
            "${PASSWORD} in user:${PASSWORD}@host, \"${QUOTED}\" 5é"
        );
        assert!(!format!("{concealed:?}").contains("hunter2"));
    }
}
