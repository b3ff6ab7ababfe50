//! The list of everything the API serves, from which the router, the checks of queries, the manual and the OpenAPI
//! document all come.

use crate::auth::Role;
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
    /// The least role whose token is let in, where the daemon has tokens; `None`: whoever reaches the port.
    pub role: Option<Role>,
    /// One sentence.
    pub summary: &'static str,
    /// What it answers and how, in Markdown.
    pub doc: &'static str,
    /// The query parameters it takes. Any other is refused.
    pub params: &'static [Param],
    /// The codes of refusal it may answer with, besides `internal`.
    pub codes: &'static [Code],
}

/// Open to whoever reaches the port. Only for what tells a stranger nothing.
const OPEN: Option<Role> = None;
const READ_ROLE: Option<Role> = Some(Role::Read);
const INGEST_ROLE: Option<Role> = Some(Role::Ingest);
const ADMIN_ROLE: Option<Role> = Some(Role::Admin);

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
    ($($constant:ident $method:literal $path:literal $role:ident $summary:literal $doc:literal [$($param:expr),*] [$($code:ident),*])*) => {
        $(pub(crate) const $constant: Route = Route {
            method: $method, path: $path, role: $role, summary: $summary, doc: $doc, params: &[$($param),*], codes: &[$(p::$code),*],
        };)*
        /// Every route.
        pub const ROUTES: &[Route] = &[$($constant),*];
    };
}

routes! {
    INDEX "GET" "/" READ_ROLE "Lists the routes, as text; browsers get the dashboard."
        "One line a route. Where `Accept` would rather have `text/html` than `text/plain`, as browsers say, it is the page of the dashboard."
        [] []
    DASHBOARD "GET" "/dashboard/{file}" READ_ROLE "The files the dashboard is made of."
        "Scripts, styles and an icon, with a `Content-Security-Policy` that lets the page speak to this server alone."
        [] [NO_SUCH_ROUTE, BAD_PARAMETER]
    DOCS "GET" "/docs" READ_ROLE "This API's manual, for a browser."
        "Made from the same lists as the OpenAPI document; without scripts, and with the dashboard's `Content-Security-Policy`."
        [] []
    CODE_PAGE "GET" "/docs/codes/{code}" READ_ROLE "What a code of refusal means, and what to do next."
        "For a browser. It is what the `type` of a refusal points to."
        [] [NO_SUCH_ROUTE, BAD_PARAMETER]
    PIPELINES "GET" "/v1/pipelines" READ_ROLE "The pipeline that runs."
        "`{\"pipelines\": [{name, fingerprint, sources, steps, sinks, text, mermaid}]}`: its sources, steps and sinks with what they read, maintain and deliver, and the plan as text and as a Mermaid graph."
        [] []
    SOURCES "GET" "/v1/sources" READ_ROLE "Every source as it stands."
        "`{\"sources\": [{name, type, pushed, keyed, columns, key, event_time, records, faults, progress}]}`."
        [] []
    SOURCE "GET" "/v1/sources/{source}" READ_ROLE "One source as it stands."
        "An element of `/v1/sources`."
        [] [NO_SUCH_SOURCE, BAD_PARAMETER]
    SINKS "GET" "/v1/sinks" READ_ROLE "Every sink as it stands."
        "`{published, sinks: [{name, type, view, delivered, lag_epochs, records}]}`: `delivered` is the last epoch whose changes are on the other side whatever crashes, null until that side has said how far it is; `records` counts since the start of the process."
        [] []
    PUSH "POST" "/v1/sources/{source}/records" INGEST_ROLE "Takes records, durably."
        "The body is records by `Content-Type`: `application/json` (an object, or an array of objects), `application/x-ndjson` (an object a line), `application/vnd.apache.arrow.stream`. Answered `{epoch, records, repeated}` after they are on disk; a read with `min_epoch` = that epoch sees them. Each bad record becomes a fault, the others are taken. With an `Idempotency-Key` header a repetition is answered as the first was and applies nothing."
        [] [NO_SUCH_SOURCE, BAD_PARAMETER, SOURCE_NOT_PUSHED, BAD_PAYLOAD, BAD_IDEMPOTENCY_KEY, IDEMPOTENCY_CONFLICT, UNSUPPORTED_MEDIA_TYPE, BODY_TOO_LARGE, REQUEST_TIMEOUT, NOT_TAKING_RECORDS, PUSH_OUTCOME_UNKNOWN, BUSY]
    VIEWS "GET" "/v1/views" READ_ROLE "Every stored relation: views, tables, faults."
        "`{\"epoch\", \"views\": [{name, kind, columns, key, event_time, append_only, rows, digest}]}`, all as of one epoch. Two relations with the same digest hold the same rows."
        [AS_OF, MIN_EPOCH, WAIT_MS] [COMPACTED, EPOCH_NOT_PUBLISHED]
    SCAN "GET" "/v1/views/{view}" READ_ROLE "Rows of a view in key order, a page at a time."
        "By `Accept`: `application/json` gives `{view, epoch, rows, cursor}`; `application/x-ndjson`, `text/csv` and `application/vnd.apache.arrow.stream` give the rows alone. The headers `Thalweg-Epoch` and `Thalweg-Cursor` (absent after the last page) say the rest. A page may have fewer rows than `limit`, even none, and still not be the last: only an absent cursor says so."
        [Param { name: "key", doc: "The row of this key alone: one `key` a key column in order, or one JSON array of all cells." },
         Param { name: "prefix", doc: "Rows whose first key columns have these values; given as `key` is." },
         Param { name: "filter", doc: "`column op literal [and …]` with op one of `= != < <= > >=`; strings and RFC 3339 timestamps in `'…'`, `null` with `=` and `!=`." },
         LIMIT, CURSOR, AS_OF, MIN_EPOCH, WAIT_MS]
        [NO_SUCH_VIEW, BAD_PARAMETER, UNKNOWN_PARAMETER, BAD_KEY, BAD_FILTER, BAD_CURSOR, NOT_ACCEPTABLE, COMPACTED, EPOCH_NOT_PUBLISHED, BUSY]
    GET_ROW "GET" "/v1/views/{view}/{*key}" READ_ROLE "One row by its key."
        "The key's cells are the segments of the path, each percent-encoded. Answers the row as an object (or in another format by `Accept`); the epoch is in `Thalweg-Epoch`. A null cell, or the key `changes`, is asked for by `?key=` of the view."
        [AS_OF, MIN_EPOCH, WAIT_MS]
        [NO_SUCH_VIEW, ROW_NOT_FOUND, BAD_KEY, NOT_ACCEPTABLE, COMPACTED, EPOCH_NOT_PUBLISHED]
    CHANGES "GET" "/v1/views/{view}/changes" READ_ROLE "Every change of a view, as server-sent events."
        "Events `change`: id `epoch:seq`, data `{epoch, seq, op, key, row}` with op `upsert` or `delete` (row null); `seq` counts an epoch's changes in key order. After an epoch's changes comes `epoch`: id `epoch:end`, data `{epoch, changes}`; it also comes now and then with no changes, so that the id keeps up. Starts after the newest epoch, or with `from=snapshot` first sends the rows as events `snapshot` (data as `change`). Reconnecting with `Last-Event-ID` goes on right after that event: every change comes once. An event `error` with data `{code, message}` says why a stream ended. Comments keep it alive."
        [Param { name: "from", doc: "`now` (the default) or `snapshot`." },
         Param { name: "after", doc: "As `Last-Event-ID`, for clients that cannot set it: `epoch:seq`, `epoch:end` or an epoch alone. The header wins." }]
        [NO_SUCH_VIEW, BAD_EVENT_ID, BAD_PARAMETER, AHEAD_OF_STORE, COMPACTED, BUSY]
    READ "GET" "/v1/read" READ_ROLE "Several views at one epoch."
        "`{epoch, views: {name: {rows, cursor}}}`, each view cut at `limit` rows; its cursor goes on at the same epoch through `/v1/views/{view}`."
        [Param { name: "views", doc: "The names, separated by commas." }, LIMIT, AS_OF, MIN_EPOCH, WAIT_MS]
        [NO_SUCH_VIEW, BAD_PARAMETER, COMPACTED, EPOCH_NOT_PUBLISHED, BUSY]
    QUERY "POST" "/v1/query" READ_ROLE "Answers SQL over the views at one epoch."
        "The body is the query by `Content-Type`: `application/json` (`{\"sql\": \"SELECT …\", \"params\": [1, \"a\"]}`, the parameters standing for `$1`, `$2`, …), `application/sql` or `text/plain` (the SQL alone). One `SELECT`, `WITH`, `VALUES` or `EXPLAIN`, in the dialect of Apache DataFusion; it reads and changes nothing. Tables are all that `/v1/views` lists, by name; names are case-sensitive, and `step.output` may be written with quotes or without. `information_schema.tables` and `.columns` list them too. Answered by `Accept` as views are: JSON is `{epoch, columns, rows}` with rows as objects, so columns need different names. Integer `+`, `-`, `*` fail on overflow and `sum` of integers is exact; nulls sort first; dates come as timestamps, decimals with a fraction as floats, everything else that is no column type as text. At most 100000 rows and 64 MiB are answered, within 30 seconds, four queries at once: what goes beyond is refused whole, never cut. A client that goes away cancels its query."
        [AS_OF, MIN_EPOCH, WAIT_MS]
        [BAD_SQL, BAD_PAYLOAD, BAD_PARAMETER, NOT_ACCEPTABLE, UNSUPPORTED_MEDIA_TYPE, BODY_TOO_LARGE, REQUEST_TIMEOUT, QUERY_FAILED, QUERY_TOO_LARGE, QUERY_TIMEOUT, COMPACTED, EPOCH_NOT_PUBLISHED, BUSY]
    FAULTS "GET" "/v1/faults" READ_ROLE "Records that could not be processed."
        "As `/v1/views/{view}` of the relation `faults`: formats, paging and epochs are the same."
        [Param { name: "source", doc: "Of this source alone." }, Param { name: "reason", doc: "With this reason alone." },
         LIMIT, CURSOR, AS_OF, MIN_EPOCH, WAIT_MS]
        [BAD_PARAMETER, BAD_CURSOR, NOT_ACCEPTABLE, COMPACTED, EPOCH_NOT_PUBLISHED, BUSY]
    FAULTS_SUMMARY "GET" "/v1/faults/summary" READ_ROLE "How many faults there are, by source, place and reason."
        "`{epoch, total, faults: [{source, at, reason, count}]}`."
        [AS_OF, MIN_EPOCH, WAIT_MS] [COMPACTED, EPOCH_NOT_PUBLISHED, BUSY]
    EPOCHS "GET" "/v1/epochs" READ_ROLE "How far the engine is."
        "`{phase, sealed, computed, durable, published, since}`: `since` is the oldest epoch that can be read."
        [] []
    EPOCH "GET" "/v1/epochs/{epoch}" READ_ROLE "The record of an epoch: how far each source was read, and what the clock said."
        "`{epoch, clock_ms, sources}`, written before anything of the epoch was computed."
        [] [NO_SUCH_EPOCH, BAD_PARAMETER]
    CHECKPOINT "POST" "/v1/checkpoints/{name}" ADMIN_ROLE "Copies the store as it is now, while it goes on."
        "Into the folder `checkpoints/NAME` of the store's own, by hard links: it takes next to no time and no room until the two differ. The name is 1 to 100 letters, digits, `.`, `_` or `-`, and begins with none of the last three. Answered `{name, epoch}`, an epoch the copy surely has, when it is on disk. `thalweg restore` makes a store of it."
        [] [BAD_PARAMETER, CHECKPOINT_EXISTS, BUSY]
    LIVE "GET" "/healthz/live" OPEN "200 while the process answers."
        "`{\"live\": true}`. Open even where tokens are needed: a supervisor must be able to ask, and a stranger learns no more than from the port's being open."
        [] []
    READY "GET" "/healthz/ready" READ_ROLE "200 when records are taken, or were all taken."
        "`{phase, rehydrated}`; 503 while the dataflow is rebuilt (`rehydrated` is the share done), after a failure, and where an epoch is sealed and none was published for a minute. Views are served all the while."
        [] [NOT_READY]
    METRICS "GET" "/metrics" READ_ROLE "Metrics in the Prometheus text format."
        "See the list of metrics."
        [] []
    OPENAPI "GET" "/openapi.json" READ_ROLE "This API as an OpenAPI 3.1 document."
        "Made from the same list as this page."
        [] []
}

/// What a path needs, and the route a refusal there is counted under. Of several routes the path may be, the one that needs
/// most decides, so that this can only be stricter than the router. A path that is none needs what reading does: a stranger
/// does not learn what is served.
pub(crate) fn needs(path: &str) -> (&'static str, Option<Role>) {
    let fitting = ROUTES.iter().filter(|r| fits(r.path, path)).max_by_key(|r| r.role);
    fitting.map_or(("none", READ_ROLE), |r| (r.path, r.role))
}

/// Whether a path, as it came, may be of a route.
fn fits(route: &str, path: &str) -> bool {
    let mut segments = path.split('/');
    for part in route.split('/') {
        match segments.next() {
            Some(_) if part.starts_with("{*") => return true,
            Some(segment) if part.starts_with('{') || part == segment => {}
            _ => return false,
        }
    }
    segments.next().is_none()
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

    #[test]
    fn a_path_needs_what_its_route_does_and_reading_where_there_is_none() {
        for route in ROUTES {
            assert_eq!(needs(route.path), (route.path, route.role), "{}", route.path);
        }
        assert_eq!(needs("/v1/views/a/b/c"), (GET_ROW.path, Some(Role::Read)));
        assert_eq!(needs("/v1/sources//records"), (PUSH.path, Some(Role::Ingest)));
        for nowhere in
            ["", "*", "//", "/healthz/live/", "/healthz//live", "/healthz/%6cive", "/HEALTHZ/LIVE", "/healthz"]
        {
            assert_eq!(needs(nowhere), ("none", Some(Role::Read)), "{nowhere}");
        }
        let open: Vec<&str> = ROUTES.iter().filter(|r| r.role.is_none()).map(|r| r.path).collect();
        assert_eq!(open, ["/healthz/live"], "a route that is open is a decision: its doc says why");
    }
}
