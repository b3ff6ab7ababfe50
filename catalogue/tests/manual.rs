//! The manual says what the catalogue says.

use std::path::Path;

#[test]
fn operators_page_is_fresh() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/operators.md");
    let page = engine::manual::operators(&catalogue::all());
    #[allow(clippy::disallowed_methods, reason = "a switch of the test, not of the program")]
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&path, &page).unwrap();
    }
    let stored = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(stored == page, "docs/operators.md is stale: run `UPDATE=1 cargo test -p thalweg-catalogue --test manual`");
}
