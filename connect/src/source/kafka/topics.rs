//! Which topics a source reads: by name, or all that match a pattern, those that come later included.

use glob::{MatchOptions, Pattern};

use super::settings::is_topic;

/// Topics, by name or by pattern.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Topics {
    /// Each once, in order.
    pub names: Vec<String>,
    pub patterns: Vec<Pattern>,
}

impl Topics {
    /// Reads what a section lists. A name of a topic has no `*`, `?` or bracket in it, so one that has is a pattern.
    pub fn new(mut listed: Vec<String>) -> Result<Topics, String> {
        listed.sort();
        listed.dedup();
        let mut topics = Topics::default();
        for name in listed {
            if name.contains(['*', '?', '[', ']']) {
                let legal = |c: char| is_topic(c.encode_utf8(&mut [0; 4])) || matches!(c, '*' | '?' | '[' | ']' | '!');
                let pattern = Pattern::new(&name).map_err(|e| e.msg.to_owned());
                match pattern {
                    Ok(pattern) if name.chars().all(legal) => topics.patterns.push(pattern),
                    Ok(_) => return Err(format!("`{name}` can match no topic")),
                    Err(e) => return Err(format!("`{name}` is no pattern: {e}")),
                }
            } else if is_topic(&name) {
                topics.names.push(name);
            } else {
                return Err(format!("`{name}` cannot be the name of a topic"));
            }
        }
        Ok(topics)
    }

    /// Whether a pattern takes this topic. Those of the cluster itself, `__…`, only one that begins so.
    pub fn matches(&self, topic: &str) -> bool {
        let options = MatchOptions::new();
        let is_own = |p: &Pattern| !topic.starts_with("__") || p.as_str().starts_with("__");
        self.patterns.iter().any(|p| is_own(p) && p.matches_with(topic, options))
    }

    /// As they were listed, in order.
    pub fn describe(&self) -> String {
        let patterns = self.patterns.iter().map(Pattern::as_str);
        self.names.iter().map(String::as_str).chain(patterns).collect::<Vec<_>>().join(", ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_patterns_are_told_apart() {
        let listed = ["u", "orders-*", "t.1", "[ab]?", "u"].map(str::to_owned).to_vec();
        let topics = Topics::new(listed).unwrap();
        assert_eq!(topics.names, ["t.1", "u"]);
        assert_eq!(topics.describe(), "t.1, u, [ab]?, orders-*");
        for (topic, is) in [("orders-eu", true), ("orders-", true), ("orders", false), ("a1", true), ("c1", false)] {
            assert_eq!(topics.matches(topic), is, "{topic}");
        }
        let all = Topics::new(vec!["*".into()]).unwrap();
        assert!(all.matches("x") && !all.matches("__consumer_offsets"));
        assert!(Topics::new(vec!["__c*".into()]).unwrap().matches("__consumer_offsets"));
        for wrong in ["a topic", "", "a***b", "[a", "é*", "a/*"] {
            assert!(Topics::new(vec![wrong.into()]).is_err(), "{wrong}");
        }
    }
}
