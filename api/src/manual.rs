//! The manual, made from the lists of routes, codes and metrics.

use crate::auth::Role;
use crate::format::FORMATS;
use crate::metrics::METRICS;
use crate::problem::CODES;
use crate::routes::ROUTES;

/// The manual of the API, in Markdown: what `docs/api.md` holds.
pub fn manual() -> String {
    let mut text = String::from(
        "<!-- Made from the lists in `api/src`; a test compares it. Do not edit. -->\n\
         # The HTTP API\n\n\
         Everything is served by `thalweg run … --listen ADDR` over HTTP/1.1. Every read names an epoch: the newest published\n\
         by default, an exact one with `as_of`, or one not before `min_epoch`. The header `Thalweg-Epoch` says which it was.\n\
         A refusal is `{\"type\", \"code\", \"status\", \"message\"}` (`application/problem+json`, RFC 9457); codes are stable,\n\
         messages are not, and `type` is the path of the code's page.\n\n\
         ## Tokens\n\n\
         Where the daemon was given tokens (`--tokens`, [operations](operations.md#tokens)), a request needs one whose role is\n\
         that of the route or a greater one (`read` < `ingest` < `admin`), in the header `Authorization: Bearer TOKEN`: else it\n\
         is refused with `unauthenticated` or `forbidden`, before anything else is looked at. A path or method that is not\n\
         served needs `read`, or what its path needs. A stream of changes ends when its token is taken back.\n\n\
         ## Routes\n\n| route | role | |\n|---|---|---|\n",
    );
    for route in ROUTES {
        let role = route.role.map_or("open", Role::name);
        text.push_str(&format!("| `{} {}` | {role} | {} |\n", route.method, route.path, route.summary));
    }
    for route in ROUTES {
        text.push_str(&format!("\n### `{} {}`\n\n{} {}\n", route.method, route.path, route.summary, route.doc));
        if !route.params.is_empty() {
            text.push('\n');
        }
        for param in route.params {
            text.push_str(&format!("- `{}` — {}\n", param.name, param.doc));
        }
        if !route.codes.is_empty() {
            let codes: Vec<String> = route.codes.iter().map(|c| format!("`{}`", c.name)).collect();
            text.push_str(&format!("\nMay refuse with {}.\n", codes.join(", ")));
        }
    }
    text.push_str(
        "\n## Rows\n\nA row is a JSON object with its columns in the order of the schema. Floats print shortest-round-trip; NaN and the\n\
         infinities are the strings `\"NaN\"`, `\"Infinity\"`, `\"-Infinity\"`; timestamps are RFC 3339 in UTC; decimals are bare\n\
         integers. Formats by `Accept`: ",
    );
    let formats: Vec<String> = FORMATS.iter().map(|(_, media)| format!("`{media}`")).collect();
    text.push_str(&formats.join(", "));
    text.push_str(
        ".\n\n## Filters\n\n```text\n\
         filter     = comparison { \"and\" comparison }\n\
         comparison = column op literal\n\
         column     = name | '\"' any '\"'          (a quote inside is doubled)\n\
         op         = \"=\" | \"!=\" | \"<\" | \"<=\" | \">\" | \">=\"\n\
         literal    = \"null\" | \"true\" | \"false\" | number | \"'\" any \"'\"\n```\n\n\
         Timestamps are quoted RFC 3339 or bare microseconds. `= null` and `!= null` ask whether a cell is there; any other\n\
         comparison with an absent cell is false. Floats compare as they are ordered: NaN above all.\n\n\
         ## Codes\n\n| code | status | |\n|---|---|---|\n",
    );
    for code in CODES {
        text.push_str(&format!("| `{}` | {} | {} |\n", code.name, code.status, code.doc));
    }
    text.push_str("\n## Metrics of the API\n\n| metric | kind | labels | |\n|---|---|---|---|\n");
    for metric in METRICS {
        let labels: Vec<String> = metric.labels.iter().map(|l| format!("`{l}`")).collect();
        text.push_str(&format!("| `{}` | {} | {} | {} |\n", metric.name, metric.kind, labels.join(", "), metric.help));
    }
    text
}
