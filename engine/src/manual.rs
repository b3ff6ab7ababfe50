//! The manual's pages about what a pipeline can name, written from the catalogue so that they cannot differ from it.

use std::fmt::Write;

use crate::Catalogue;
use crate::catalogue::OptionDef;

/// The page about operators, in Markdown.
pub fn operators(catalogue: &Catalogue) -> String {
    let mut page = String::from(
        "# Operators\n\n<!-- Generated from the catalogue: `UPDATE=1 cargo test -p thalweg-catalogue --test manual`. -->\n\n\
         A step of a pipeline names one of these as its `operator`.\n\n| operator | what it maintains |\n|---|---|\n",
    );
    for operator in &catalogue.operators {
        writeln!(page, "| [`{0}`](#{0}) | {1} |", operator.name, operator.summary).expect("memory does not fail");
    }
    for operator in &catalogue.operators {
        write!(page, "\n## {}\n\n{}\n\n{}\n\n", operator.name, operator.summary, operator.doc.trim())
            .expect("memory does not fail");
        page.push_str(&options(operator.options));
        write!(page, "\n```toml\n{}\n```\n", operator.example.trim()).expect("memory does not fail");
    }
    page
}

/// A table of options, in Markdown.
pub fn options(options: &[OptionDef]) -> String {
    let mut table = String::from("| option | value | default | |\n|---|---|---|---|\n");
    for option in options {
        let default = option.default.unwrap_or("required");
        writeln!(table, "| `{}` | {} | {default} | {} |", option.name, option.shape, option.doc)
            .expect("memory does not fail");
    }
    table
}
