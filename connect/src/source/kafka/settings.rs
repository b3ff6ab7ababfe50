//! The settings of a Kafka client: those the pipeline file gives, and those a connector makes itself. They are never
//! shown, since there may be passwords among them.

use std::fmt;

use engine::OptionDef;
use engine::pipeline::Section;
use rdkafka::ClientConfig;
use rdkafka::error::KafkaError;

pub(crate) const BROKERS_OPTION: OptionDef = OptionDef {
    name: "brokers",
    shape: "string or list of strings",
    default: None,
    doc: "Where to ask for the cluster, as `host:port`.",
};

pub(crate) const LIBRDKAFKA_OPTION: OptionDef = OptionDef {
    name: "librdkafka",
    shape: "table of strings",
    default: Some("none"),
    doc: "Further settings of the client library, e.g. `\"security.protocol\" = \"SASL_SSL\"`, `\"sasl.password\" = \"${PASSWORD}\"`. Their values are never shown.",
};

/// Settings of a client.
#[derive(Clone)]
pub(crate) struct Settings(ClientConfig);

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Settings")
    }
}

impl Settings {
    /// Reads `brokers` and `librdkafka`: what is given there goes before `usual`, and may not touch `ours`.
    pub fn read(section: &mut Section<'_>, usual: &[(&str, &str)], ours: &[(&str, &str)]) -> Option<Settings> {
        let brokers = section.required_strings("brokers");
        let further = section.string_map("librdkafka");
        let brokers = brokers?;
        if brokers.is_empty() || brokers.iter().any(String::is_empty) {
            section.problem("brokers", "`brokers` must name at least one, and none may be empty");
            return None;
        }
        let further = if section.has("librdkafka") { further? } else { Vec::new() };
        let is_ours = |name: &str| OURS.contains(&name) || ours.iter().any(|(setting, _)| *setting == name);
        if let Some((name, _)) = further.iter().find(|(name, _)| is_ours(name)) {
            section.problem("librdkafka", format!("`{name}` is set by the connector itself"));
            return None;
        }
        let mut config = ClientConfig::new();
        let pairs = further.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        for (name, value) in usual.iter().copied().chain(pairs).chain(ours.iter().copied()) {
            config.set(name, value);
        }
        config.set("bootstrap.servers", brokers.join(","));
        if let Err(e) = config.create_native_config() {
            // Not in the library's words: they repeat the value.
            let what = match &e {
                KafkaError::ClientConfig(_, _, name, _) => {
                    format!("there is no `{name}`, or it cannot have this value")
                }
                _ => "they cannot be read".to_owned(),
            };
            section.problem("librdkafka", format!("the client library refuses its settings: {what}"));
            return None;
        }
        Some(Settings(config))
    }

    /// The settings, with further ones.
    pub fn with(&self, further: &[(&str, &str)]) -> ClientConfig {
        let mut config = self.0.clone();
        for (name, value) in further {
            config.set(*name, *value);
        }
        config
    }
}

/// Settings that are always the connector's, whatever it sets them to.
const OURS: [&str; 3] = ["bootstrap.servers", "metadata.broker.list", "group.id"];

/// Whether a topic can have this name.
pub(crate) fn is_topic(name: &str) -> bool {
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    (1..=249).contains(&name.len()) && name.chars().all(legal)
}
