//! What the options of several operators are listed and read with.

use engine::catalogue::OptionDef;
use engine::pipeline::Section;

/// An option of the catalogue.
pub const fn option(
    name: &'static str,
    shape: &'static str,
    default: Option<&'static str>,
    doc: &'static str,
) -> OptionDef {
    OptionDef { name, shape, default, doc }
}

/// The value of a key, or a default if it is absent; `None` if something else was written.
pub fn or<T>(
    section: &mut Section<'_>,
    key: &'static str,
    default: T,
    read: impl FnOnce(&mut Section<'_>, &'static str) -> Option<T>,
) -> Option<T> {
    if section.has(key) { read(section, key) } else { Some(default) }
}
