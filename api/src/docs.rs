//! The manual of the API as a page for a browser, made from the same lists as the Markdown and the OpenAPI document. No
//! script; the dashboard's style.

use axum::http::Uri;
use axum::response::Response;

use crate::auth::Role;
use crate::dashboard;
use crate::metrics::METRICS;
use crate::params::Params;
use crate::problem::{CODES, Problem};
use crate::routes::{self, ROUTES};

/// `GET /docs`
pub(crate) async fn docs(uri: Uri) -> Result<Response, Problem> {
    Params::parse(&routes::DOCS, &uri)?;
    Ok(dashboard::html(page()))
}

fn page() -> String {
    let mut out = String::from(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<title>Thalweg: the HTTP API</title>\n\
         <link rel=\"icon\" href=\"/dashboard/icon.svg\">\n<link rel=\"stylesheet\" href=\"/dashboard/style.css\">\n</head>\n\
         <body>\n<header><h1>The HTTP API</h1></header>\n<nav><a href=\"/\">Dashboard</a> \
         <a href=\"/openapi.json\">OpenAPI</a> <a href=\"#codes\">Codes</a> <a href=\"#metrics\">Metrics</a></nav>\n<main>\n\
         <section><table>\n<thead><tr><th>route</th><th>role</th><th></th></tr></thead>\n<tbody>\n",
    );
    for (n, route) in ROUTES.iter().enumerate() {
        out.push_str(&format!(
            "<tr><td><a href=\"#r{n}\"><code>{} {}</code></a></td><td>{}</td><td>{}</td></tr>\n",
            route.method,
            escape(route.path),
            route.role.map_or("open", Role::name),
            prose(route.summary)
        ));
    }
    out.push_str("</tbody></table></section>\n");
    for (n, route) in ROUTES.iter().enumerate() {
        let path = escape(route.path);
        out.push_str(&format!(
            "<section id=\"r{n}\"><h2><code>{} {path}</code></h2>\n<p>{} {}</p>\n",
            route.method,
            prose(route.summary),
            prose(route.doc)
        ));
        if !route.params.is_empty() {
            out.push_str("<table>\n<tbody>\n");
            for param in route.params {
                out.push_str(&format!("<tr><td><code>{}</code></td><td>{}</td></tr>\n", param.name, prose(param.doc)));
            }
            out.push_str("</tbody></table>\n");
        }
        if !route.codes.is_empty() {
            let codes: Vec<String> = route.codes.iter().map(|c| format!("<code>{}</code>", c.name)).collect();
            out.push_str(&format!("<p class=\"quiet\">May refuse with {}.</p>\n", codes.join(", ")));
        }
        out.push_str("</section>\n");
    }
    out.push_str("<section id=\"codes\"><h2>Codes</h2>\n<table>\n<tbody>\n");
    for code in CODES {
        let cells = format!("<td><code>{}</code></td><td>{}</td><td>{}</td>", code.name, code.status, prose(code.doc));
        out.push_str(&format!("<tr>{cells}</tr>\n"));
    }
    out.push_str("</tbody></table></section>\n<section id=\"metrics\"><h2>Metrics of the API</h2>\n<table>\n<tbody>\n");
    for metric in METRICS {
        let labels = metric.labels.join(", ");
        let cells = format!("<td><code>{}</code></td><td>{}</td><td>{labels}</td>", metric.name, metric.kind);
        out.push_str(&format!("<tr>{cells}<td>{}</td></tr>\n", prose(metric.help)));
    }
    out.push_str("</tbody></table></section>\n</main>\n</body>\n</html>\n");
    out
}

/// Text of the lists: what stands in backquotes is code.
fn prose(text: &str) -> String {
    let parts = text.split('`').enumerate();
    parts.map(|(i, part)| if i % 2 == 1 { format!("<code>{}</code>", escape(part)) } else { escape(part) }).collect()
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_route_and_code_is_on_the_page_and_every_bracket_is_ours() {
        let page = page();
        assert!(ROUTES.iter().all(|r| page.contains(&format!("{} {}</code></h2>", r.method, escape(r.path)))));
        assert!(CODES.iter().all(|c| page.contains(&format!("<code>{}</code>", c.name))));
        assert!(!page.contains('`') && !page.contains("<script") && !page.contains("style="));
        for tag in ["code", "td", "tr", "section", "table", "p", "a"] {
            let (opened, closed) = (format!("<{tag}"), format!("</{tag}>"));
            let opens = page.match_indices(&opened).filter(|(at, _)| page[at + opened.len()..].starts_with(['>', ' ']));
            assert_eq!(opens.count(), page.matches(&closed).count(), "{tag}");
        }
    }
}
