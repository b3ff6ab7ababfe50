//! The list of everything the API serves, from which the router, the checks of queries, the manual and the OpenAPI
//! document all come.

use crate::problem::{self as p, Code};

/// A query parameter.
#[derive(Clone, Copy, Debug)]
pub struct Param {
    /// Its name.
    pub name: &'static str,
    /// What it does, its unit, its default.
    pub doc: &'static str,
}

/// A route.
#[derive(Clone, Copy, Debug)]
pub struct Route {
    /// `GET` or `POST`.
    pub method: &'static str,
    /// The path, with `{parameters}`; `{*key}` is the rest of the path.
    pub path: &'static str,
    /// One sentence.
    pub summary: &'static str,
    /// What it answers and how, in Markdown.
    pub doc: &'static str,
    /// The query parameters it takes. Any other is refused.
    pub params: &'static [Param],
    /// The codes of refusal it may answer with, besides `internal`.
    pub codes: &'static [Code],
}

const AS_OF: Param = Param { name: "as_of", doc: "Read exactly this epoch. Default: the newest published." };
const MIN_EPOCH: Param = Param {
    name: "min_epoch",
    doc: "Do not answer before this epoch is published: the epoch a push was answered with reads your writes.",
};
const WAIT_MS: Param =
    Param { name: "wait_ms", doc: "How long to wait for `min_epoch`, in milliseconds. Default 10000, at most 60000." };
const LIMIT: Param = Param { name: "limit", doc: "Rows in a page at most. Default 1000, at most 10000." };
const CURSOR: Param = Param {
    name: "cursor",
    doc: "Go on where a page ended, at that page's epoch. Keep the other parameters as they were.",
};

macro_rules! routes {
    ($($constant:ident $method:literal $path:literal $summary:literal $doc:literal [$($param:expr),*] [$($code:ident),*])*) => {
        $(pub(crate) const $constant: Route = Route {
            method: $method, path: $path, summary: $summary, doc: $doc, params: &[$($param),*], codes: &[$(p::$code),*],
        };)*
        /// Every route.
        pub const ROUTES: &[Route] = &[$($constant),*];
    };
}

routes! {
    INDEX "GET" "/" "Lists the routes, as text; browsers get the dashboard."
        "One line a route. Where `Accept` would rather have `text/html` than `text/plain`, as browsers say, it is the page of the dashboard."
        [] []
    DASHBOARD "GET" "/dashboard/{file}" "The files the dashboard is made of."
        "Scripts, styles and an icon, with a `Content-Security-Policy` that lets the page speak to this server alone."
        [] [NO_SUCH_ROUTE, BAD_PARAMETER]
    PIPELINES "GET" "/v1/pipelines" "The pipeline that runs."
        "`{\"pipelines\": [{name, fingerprint, sources, steps, text, mermaid}]}`: its sources and steps with what they read and maintain, and the plan as text and as a Mermaid graph."
        [] []
    SOURCES "GET" "/v1/sources" "Every source as it stands."
        "`{\"sources\": [{name, type, pushed, keyed, columns, key, event_time, records, faults, progress}]}`."
        [] []
    SOURCE "GET" "/v1/sources/{source}" "One source as it stands."
        "An element of `/v1/sources`."
        [] [NO_SUCH_SOURCE, BAD_PARAMETER]
    PUSH "POST" "/v1/sources/{source}/records" "Takes records, durably."
        "The body is records by `Content-Type`: `application/json` (an object, or an array of objects), `application/x-ndjson` (an object a line), `application/vnd.apache.arrow.stream`. Answered `{epoch, records, repeated}` after they are on disk; a read with `min_epoch` = that epoch sees them. Each bad record becomes a fault, the others are taken. With an `Idempotency-Key` header a repetition is answered as the first was and applies nothing."
        [] [NO_SUCH_SOURCE, BAD_PARAMETER, SOURCE_NOT_PUSHED, BAD_PAYLOAD, BAD_IDEMPOTENCY_KEY, IDEMPOTENCY_CONFLICT, UNSUPPORTED_MEDIA_TYPE, BODY_TOO_LARGE, REQUEST_TIMEOUT, NOT_TAKING_RECORDS, PUSH_OUTCOME_UNKNOWN, BUSY]
    VIEWS "GET" "/v1/views" "Every stored relation: views, tables, faults."
        "`{\"epoch\", \"views\": [{name, kind, columns, key, event_time, append_only, rows, digest}]}`, all as of one epoch. Two relations with the same digest hold the same rows."
        [AS_OF, MIN_EPOCH, WAIT_MS] [COMPACTED, EPOCH_NOT_PUBLISHED]
    SCAN "GET" "/v1/views/{view}" "Rows of a view in key order, a page at a time."
        "By `Accept`: `application/json` gives `{view, epoch, rows, cursor}`; `application/x-ndjson`, `text/csv` and `application/vnd.apache.arrow.stream` give the rows alone. The headers `Thalweg-Epoch` and `Thalweg-Cursor` (absent after the last page) say the rest. A page may have fewer rows than `limit`, even none, and still not be the last: only an absent cursor says so."
        [Param { name: "key", doc: "The row of this key alone: one `key` a key column in order, or one JSON array of all cells." },
         Param { name: "prefix", doc: "Rows whose first key columns have these values; given as `key` is." },
         Param { name: "filter", doc: "`column op literal [and …]` with op one of `= != < <= > >=`; strings and RFC 3339 timestamps in `'…'`, `null` with `=` and `!=`." },
         LIMIT, CURSOR, AS_OF, MIN_EPOCH, WAIT_MS]
        [NO_SUCH_VIEW, BAD_PARAMETER, UNKNOWN_PARAMETER, BAD_KEY, BAD_FILTER, BAD_CURSOR, NOT_ACCEPTABLE, COMPACTED, EPOCH_NOT_PUBLISHED, BUSY]
    GET_ROW "GET" "/v1/views/{view}/{*key}" "One row by its key."
        "The key's cells are the segments of the path, each percent-encoded. Answers the row as an object (or in another format by `Accept`); the epoch is in `Thalweg-Epoch`. A null cell, or the key `changes`, is asked for by `?key=` of the view."
        [AS_OF, MIN_EPOCH, WAIT_MS]
        [NO_SUCH_VIEW, ROW_NOT_FOUND, BAD_KEY, NOT_ACCEPTABLE, COMPACTED, EPOCH_NOT_PUBLISHED]
    CHANGES "GET" "/v1/views/{view}/changes" "Every change of a view, as server-sent events."
        "Events `change`: id `epoch:seq`, data `{epoch, seq, op, key, row}` with op `upsert` or `delete` (row null); `seq` counts an epoch's changes in key order. After an epoch's changes comes `epoch`: id `epoch:end`, data `{epoch, changes}`; it also comes now and then with no changes, so that the id keeps up. Starts after the newest epoch, or with `from=snapshot` first sends the rows as events `snapshot` (data as `change`). Reconnecting with `Last-Event-ID` goes on right after that event: every change comes once. An event `error` with data `{code, message}` says why a stream ended. Comments keep it alive."
        [Param { name: "from", doc: "`now` (the default) or `snapshot`." },
         Param { name: "after", doc: "As `Last-Event-ID`, for clients that cannot set it: `epoch:seq`, `epoch:end` or an epoch alone. The header wins." }]
        [NO_SUCH_VIEW, BAD_EVENT_ID, BAD_PARAMETER, AHEAD_OF_STORE, COMPACTED, BUSY]
    READ "GET" "/v1/read" "Several views at one epoch."
        "`{epoch, views: {name: {rows, cursor}}}`, each view cut at `limit` rows; its cursor goes on at the same epoch through `/v1/views/{view}`."
        [Param { name: "views", doc: "The names, separated by commas." }, LIMIT, AS_OF, MIN_EPOCH, WAIT_MS]
        [NO_SUCH_VIEW, BAD_PARAMETER, COMPACTED, EPOCH_NOT_PUBLISHED, BUSY]
    FAULTS "GET" "/v1/faults" "Records that could not be processed."
        "As `/v1/views/{view}` of the relation `faults`: formats, paging and epochs are the same."
        [Param { name: "source", doc: "Of this source alone." }, Param { name: "reason", doc: "With this reason alone." },
         LIMIT, CURSOR, AS_OF, MIN_EPOCH, WAIT_MS]
        [BAD_PARAMETER, BAD_CURSOR, NOT_ACCEPTABLE, COMPACTED, EPOCH_NOT_PUBLISHED, BUSY]
    FAULTS_SUMMARY "GET" "/v1/faults/summary" "How many faults there are, by source, place and reason."
        "`{epoch, total, faults: [{source, at, reason, count}]}`."
        [AS_OF, MIN_EPOCH, WAIT_MS] [COMPACTED, EPOCH_NOT_PUBLISHED, BUSY]
    EPOCHS "GET" "/v1/epochs" "How far the engine is."
        "`{phase, sealed, computed, durable, published, since}`: `since` is the oldest epoch that can be read."
        [] []
    EPOCH "GET" "/v1/epochs/{epoch}" "The record of an epoch: how far each source was read, and what the clock said."
        "`{epoch, clock_ms, sources}`, written before anything of the epoch was computed."
        [] [NO_SUCH_EPOCH, BAD_PARAMETER]
    CHECKPOINT "POST" "/v1/checkpoints/{name}" "Copies the store as it is now, while it goes on."
        "Into the folder `checkpoints/NAME` of the store's own, by hard links: it takes next to no time and no room until the two differ. The name is 1 to 100 letters, digits, `.`, `_` or `-`, and begins with none of the last three. Answered `{name, epoch}`, an epoch the copy surely has, when it is on disk. `thalweg restore` makes a store of it."
        [] [BAD_PARAMETER, CHECKPOINT_EXISTS, BUSY]
    LIVE "GET" "/healthz/live" "200 while the process answers."
        "`{\"live\": true}`."
        [] []
    READY "GET" "/healthz/ready" "200 when records are taken, or were all taken."
        "`{phase, rehydrated}`; 503 while the dataflow is rebuilt (`rehydrated` is the share done) and after a failure. Views are served all the while."
        [] [NOT_READY]
    METRICS "GET" "/metrics" "Metrics in the Prometheus text format."
        "See the list of metrics."
        [] []
    OPENAPI "GET" "/openapi.json" "This API as an OpenAPI 3.1 document."
        "Made from the same list as this page."
        [] []
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn routes_and_parameters_are_listed_once_and_documented() {
        let mut paths: Vec<_> = ROUTES.iter().map(|r| r.path).collect();
        paths.sort_unstable();
        paths.dedup();
        assert_eq!(paths.len(), ROUTES.len());
        for route in ROUTES {
            assert!(route.summary.ends_with('.') && route.doc.ends_with('.'), "{}", route.path);
            for param in route.params {
                assert!(param.doc.ends_with('.'), "{} {}", route.path, param.name);
            }
        }
    }
}
