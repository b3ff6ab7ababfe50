//! The manual of the API as pages for a browser, one of it all and one of each code, made from the same lists as the
//! Markdown and the OpenAPI document. No script; the dashboard's style.

use axum::http::{Method, Uri};
use axum::response::Response;

use crate::auth::Role;
use crate::dashboard;
use crate::metrics::METRICS;
use crate::params::{Params, Segment};
use crate::problem::{CODES, Code, Problem};
use crate::routes::{self, ROUTES, Route};

/// `GET /docs`
pub(crate) async fn docs(uri: Uri) -> Result<Response, Problem> {
    Params::parse(&routes::DOCS, &uri)?;
    Ok(dashboard::html(page()))
}

/// `GET /docs/codes/{code}`
pub(crate) async fn code(Segment(name): Segment, method: Method, uri: Uri) -> Result<Response, Problem> {
    Params::parse(&routes::CODE_PAGE, &uri)?;
    match CODES.iter().find(|code| code.name == name) {
        Some(code) => Ok(dashboard::html(code_page(code))),
        None => Err(Problem::no_such_route(&method, &uri, &name, CODES.iter().map(|code| code.name))),
    }
}

fn head(title: &str, links: &str) -> String {
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<title>Thalweg: {title}</title>\n\
         <link rel=\"icon\" href=\"/dashboard/icon.svg\">\n<link rel=\"stylesheet\" href=\"/dashboard/style.css\">\n</head>\n\
         <body>\n<header><h1>{title}</h1></header>\n<nav><a href=\"/\">Dashboard</a> {links}</nav>\n<main>\n"
    )
}

const FOOT: &str = "</main>\n</body>\n</html>\n";

fn code_page(code: &Code) -> String {
    let mut out = head(code.name, "<a href=\"/docs\">The HTTP API</a> <a href=\"/docs#codes\">Codes</a>");
    let again = match code.status {
        500 => "Repeating the request will hardly help before the cause is mended.",
        503 => {
            "Repeat the request after the seconds of `Retry-After`; one that is repeated with its `Idempotency-Key` counts once."
        }
        408 => "The request may be repeated as it is.",
        _ => "Repeating the request as it is gets the same answer: change it first, or what it asks of.",
    };
    let example = Problem::new(*code, "…").body();
    out.push_str(&format!(
        "<section><p>HTTP status {}. {}</p>\n<p>{}</p>\n<pre>{}</pre>\n</section>\n",
        code.status,
        prose(code.doc),
        prose(again),
        escape(&example)
    ));
    out.push_str("<section><h2>Routes that may give it</h2>\n");
    let given: Vec<(usize, &Route)> = ROUTES.iter().enumerate().filter(|(_, r)| r.codes.contains(code)).collect();
    if given.is_empty() {
        out.push_str("<p>Any: it is said before a route is looked at, or beside all of them.</p>\n");
    } else {
        out.push_str("<ul>\n");
        for (n, route) in given {
            let path = escape(route.path);
            out.push_str(&format!("<li><a href=\"/docs#r{n}\"><code>{} {path}</code></a></li>\n", route.method));
        }
        out.push_str("</ul>\n");
    }
    out.push_str("</section>\n");
    out.push_str(FOOT);
    out
}

fn page() -> String {
    let links = "<a href=\"/openapi.json\">OpenAPI</a> <a href=\"#codes\">Codes</a> <a href=\"#metrics\">Metrics</a>";
    let mut out = head("The HTTP API", links);
    out.push_str("<section><table>\n<thead><tr><th>route</th><th>role</th><th></th></tr></thead>\n<tbody>\n");
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
            let link = |c: &Code| format!("<a href=\"{}\"><code>{}</code></a>", c.page(), c.name);
            let codes: Vec<String> = route.codes.iter().map(link).collect();
            out.push_str(&format!("<p class=\"quiet\">May refuse with {}.</p>\n", codes.join(", ")));
        }
        out.push_str("</section>\n");
    }
    out.push_str("<section id=\"codes\"><h2>Codes</h2>\n<table>\n<tbody>\n");
    for code in CODES {
        let name = format!("<a href=\"{}\"><code>{}</code></a>", code.page(), code.name);
        out.push_str(&format!("<tr><td>{name}</td><td>{}</td><td>{}</td></tr>\n", code.status, prose(code.doc)));
    }
    out.push_str("</tbody></table></section>\n<section id=\"metrics\"><h2>Metrics of the API</h2>\n<table>\n<tbody>\n");
    for metric in METRICS {
        let labels = metric.labels.join(", ");
        let cells = format!("<td><code>{}</code></td><td>{}</td><td>{labels}</td>", metric.name, metric.kind);
        out.push_str(&format!("<tr>{cells}<td>{}</td></tr>\n", prose(metric.help)));
    }
    out.push_str("</tbody></table></section>\n");
    out.push_str(FOOT);
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
        assert!(CODES.iter().all(|c| page.contains(&format!("<a href=\"/docs/codes/{}\">", c.name))));
        sound(&page);
        for code in CODES {
            let page = code_page(code);
            assert!(page.contains(&format!("HTTP status {}. {}", code.status, prose(code.doc))), "{page}");
            sound(&page);
        }
    }

    fn sound(page: &str) {
        assert!(!page.contains('`') && !page.contains("<script") && !page.contains("style="));
        for tag in ["code", "td", "tr", "section", "table", "p", "a", "ul", "li", "pre"] {
            let (opened, closed) = (format!("<{tag}"), format!("</{tag}>"));
            let opens = page.match_indices(&opened).filter(|(at, _)| page[at + opened.len()..].starts_with(['>', ' ']));
            assert_eq!(opens.count(), page.matches(&closed).count(), "{tag}");
        }
    }
}
