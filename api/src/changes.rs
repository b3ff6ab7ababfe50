//! A view's changes as server-sent events, each with an id from which a client that reconnects goes on.
//!
//! A subscriber reads the change log from the store at its own pace and is only *woken* by publication: a slow one
//! holds nothing and nobody. An event's id depends on the log alone (epoch, and position in the epoch's key order),
//! so whoever goes on after an id sees every later change once, whichever process serves it.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;

use axum::Extension;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, Uri, header};
use axum::response::Response;
use prometheus::IntGauge;
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio::time::Interval;
use types::{ChangeSet, Epoch};

use crate::auth::Grant;
use crate::cursor::{hex, unhex};
use crate::params::{Params, Segment};
use crate::problem::{AHEAD_OF_STORE, BAD_EVENT_ID, BAD_PARAMETER, BUSY, COMPACTED, Problem, UNAUTHENTICATED};
use crate::read::{Read, Relation, blocking};
use crate::routes;

/// How far a client has seen a view.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Seen {
    /// This many changes of the epoch, and every epoch before it.
    Changes(Epoch, usize),
    /// The epoch and every one before it.
    Whole(Epoch),
    /// Of the rows as of the epoch, those up to the key; all to come if there is no key.
    Rows(Epoch, Option<Vec<u8>>),
}

impl Seen {
    /// Reads an id as this route writes it, or an epoch alone.
    fn parse(id: &str) -> Option<Seen> {
        let (epoch, rest) = id.split_once(':').unwrap_or((id, "end"));
        let epoch = epoch.parse().ok()?;
        if rest == "end" {
            return Some(Seen::Whole(epoch));
        }
        if let Some(key) = rest.strip_prefix('@') {
            return Some(Seen::Rows(epoch, Some(unhex(key)?)));
        }
        let seq: u32 = rest.parse().ok()?;
        Some(Seen::Changes(epoch.checked_sub(1)? + 1, seq as usize + 1))
    }

    fn epoch(&self) -> Epoch {
        match self {
            Seen::Changes(epoch, _) | Seen::Whole(epoch) | Seen::Rows(epoch, _) => *epoch,
        }
    }

    /// The oldest epoch that must be readable to go on from here.
    fn needs(&self) -> Epoch {
        match self {
            Seen::Changes(epoch, _) => epoch.saturating_sub(1),
            Seen::Whole(epoch) | Seen::Rows(epoch, _) => *epoch,
        }
    }
}

/// `GET /v1/views/{view}/changes`
pub(crate) async fn subscribe(
    State(read): State<Arc<Read>>,
    Segment(view): Segment,
    uri: Uri,
    headers: HeaderMap,
    grant: Option<Extension<Grant>>,
) -> Result<Response, Problem> {
    let params = Params::parse(&routes::CHANGES, &uri)?;
    let relation = Arc::clone(read.relation(&view)?);
    let published = read.store.published();
    let start = match params.one("from")? {
        None | Some("now") => Seen::Whole(published),
        Some("snapshot") => Seen::Rows(published, None),
        Some(other) => {
            return Err(Problem::new(BAD_PARAMETER, format!("`from` is `now` or `snapshot`, not `{other}`")));
        }
    };
    let last_id = headers.get("last-event-id").map(|v| v.to_str().unwrap_or("?"));
    let id = last_id.filter(|id| !id.is_empty()).or(params.one("after")?);
    let resumed = match id {
        None => None,
        Some(id) => Some(Seen::parse(id).ok_or_else(|| {
            Problem::new(BAD_EVENT_ID, format!("`{id}` is no event id: they are `epoch:seq` or `epoch:end`"))
        })?),
    };
    if let Some(seen) = &resumed {
        check_resumable(&read, seen, published)?;
    }
    let subscription = Subscription::open(&read, &relation)?;
    let mut heart = tokio::time::interval(read.options.heartbeat);
    heart.reset();
    let feed = Feed {
        grant: grant.map(|Extension(grant)| grant),
        greeting: resumed.is_none(),
        seen: resumed.unwrap_or(start),
        relation,
        published: read.published.clone(),
        closing: read.closing.clone(),
        read,
        pending: VecDeque::new(),
        told: 0,
        over: false,
        heart,
        _subscription: subscription,
    };
    let stream = futures_util::stream::unfold(feed, |mut feed| async move {
        let bytes = feed.next().await?;
        Some((Ok::<Bytes, Infallible>(bytes), feed))
    });
    let mut response = Response::new(Body::from_stream(stream));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    // Proxies that buffer would hold events back.
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    Ok(response)
}

fn check_resumable(read: &Read, seen: &Seen, published: Epoch) -> Result<(), Problem> {
    if seen.epoch() > published {
        let message = format!("epoch {} is ahead of this store, whose newest epoch is {published}", seen.epoch());
        return Err(Problem::new(AHEAD_OF_STORE, message));
    }
    let since = read.store.since();
    if seen.needs() < since {
        let message = format!(
            "the changes after epoch {} are no longer kept: the oldest readable epoch is {since}",
            seen.needs()
        );
        return Err(Problem::new(COMPACTED, message));
    }
    Ok(())
}

/// An open subscription: counted while it lives.
#[derive(Debug)]
struct Subscription {
    gauge: IntGauge,
    _permit: OwnedSemaphorePermit,
}

impl Subscription {
    fn open(read: &Arc<Read>, relation: &Relation) -> Result<Subscription, Problem> {
        let permit = Arc::clone(&read.subscriptions).try_acquire_owned();
        let permit = permit.map_err(|_| Problem::new(BUSY, "too many subscribers"))?;
        let gauge = read.metrics.subscribers.with_label_values(&[relation.name.as_str()]);
        gauge.inc();
        Ok(Subscription { gauge, _permit: permit })
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.gauge.dec();
    }
}

/// The events of one client.
struct Feed {
    read: Arc<Read>,
    relation: Arc<Relation>,
    published: watch::Receiver<Epoch>,
    closing: watch::Receiver<bool>,
    /// By which token it was opened; `None`: nobody needs one.
    grant: Option<Grant>,
    seen: Seen,
    /// Epochs read from the log and not sent yet.
    pending: VecDeque<(Epoch, Arc<ChangeSet>)>,
    /// The epoch of the last id sent.
    told: Epoch,
    /// True before the first event of a stream that does not go on from an id.
    greeting: bool,
    over: bool,
    /// Ticks when nothing has been sent for a while.
    heart: Interval,
    _subscription: Subscription,
}

/// Changes or rows in one piece of the stream: what a client holds of memory here.
const PIECE_ROWS: usize = 512;
/// Changes read from the log at once.
const READ_CHANGES: usize = 16_384;

async fn until_revoked(grant: &mut Option<Grant>) {
    match grant {
        Some(grant) => grant.revoked().await,
        None => std::future::pending().await,
    }
}

fn revoked() -> Problem {
    Problem::new(UNAUTHENTICATED, "the token this was opened with was taken back")
}

impl Feed {
    /// The next piece of the stream; `None` at its end.
    async fn next(&mut self) -> Option<Bytes> {
        if self.over || *self.closing.borrow() {
            return None;
        }
        match self.piece().await {
            Ok(bytes) => {
                self.heart.reset();
                Some(bytes.into())
            }
            Err(problem) => {
                self.over = true;
                let data = serde_json::json!({"code": problem.code.name, "message": problem.message});
                if ![COMPACTED, UNAUTHENTICATED].contains(&problem.code) {
                    tracing::error!(view = self.relation.name, ?problem, "a subscription ends");
                }
                Some(format!("event: error\ndata: {data}\n\n").into())
            }
        }
    }

    async fn piece(&mut self) -> Result<Vec<u8>, Problem> {
        if self.grant.as_ref().is_some_and(|grant| !grant.holds()) {
            return Err(revoked());
        }
        if std::mem::take(&mut self.greeting) {
            let mut out = b"retry: 1000\n\n".to_vec();
            // The first id, so that even a client that is cut off at once goes on from where it began.
            if let Seen::Whole(epoch) = self.seen {
                self.tell_epoch(&mut out, epoch, 0);
            }
            return Ok(out);
        }
        loop {
            if let Seen::Rows(epoch, after) = &self.seen {
                let (epoch, after) = (*epoch, after.clone());
                return self.rows(epoch, after).await;
            }
            if let Some((epoch, set)) = self.pending.front().cloned() {
                return self.changes(epoch, set).await;
            }
            self.fill().await?;
            if !self.pending.is_empty() {
                continue;
            }
            tokio::select! {
                woken = self.published.changed() => {
                    if woken.is_err() {
                        self.over = true;
                        return Ok(Vec::new());
                    }
                }
                _ = self.closing.changed() => {
                    self.over = true;
                    return Ok(Vec::new());
                }
                () = until_revoked(&mut self.grant) => return Err(revoked()),
                _ = self.heart.tick() => return Ok(self.heartbeat()),
            }
        }
    }

    /// The next rows of the snapshot a subscription begins with.
    async fn rows(&mut self, epoch: Epoch, after: Option<Vec<u8>>) -> Result<Vec<u8>, Problem> {
        let (read, relation) = (Arc::clone(&self.read), Arc::clone(&self.relation));
        let (mut out, last) = blocking(move || {
            let snapshot = read.store.snapshot(Some(epoch))?;
            let from = after.as_deref().map_or(std::ops::Bound::Unbounded, std::ops::Bound::Excluded);
            let rows = snapshot.scan(relation.id, from, std::ops::Bound::Unbounded).take(PIECE_ROWS);
            let rows: Vec<(Vec<u8>, Vec<u8>)> = rows.collect::<Result<_, _>>()?;
            let mut out = Vec::new();
            for (key, value) in &rows {
                out.extend_from_slice(format!("id: {epoch}:@{}\nevent: snapshot\ndata: ", hex(key)).as_bytes());
                out.extend_from_slice(
                    format!("{{\"epoch\":{epoch},\"seq\":null,\"op\":\"upsert\",\"key\":").as_bytes(),
                );
                relation.keys.write_json(&mut out, key, &[])?;
                out.extend_from_slice(b",\"row\":");
                relation.codec.write_json(&mut out, key, value)?;
                out.extend_from_slice(b"}\n\n");
            }
            let last = (rows.len() == PIECE_ROWS).then(|| rows.last().expect("a full piece").0.clone());
            Ok((out, last))
        })
        .await?;
        match last {
            Some(key) => self.seen = Seen::Rows(epoch, Some(key)),
            None => {
                self.seen = Seen::Whole(epoch);
                self.tell_epoch(&mut out, epoch, 0);
            }
        }
        self.told = epoch;
        Ok(out)
    }

    /// The next changes of an epoch, and its end if they are the last.
    async fn changes(&mut self, epoch: Epoch, set: Arc<ChangeSet>) -> Result<Vec<u8>, Problem> {
        let from = match self.seen {
            Seen::Changes(e, seen) if e == epoch => seen,
            _ => 0,
        };
        let to = set.len().min(from + PIECE_ROWS);
        let mut out = Vec::new();
        if from < to {
            write_changes(&mut out, &self.relation, epoch, &set, from, to)?;
        }
        self.told = epoch;
        if to < set.len() {
            self.seen = Seen::Changes(epoch, to);
        } else {
            self.pending.pop_front();
            self.seen = Seen::Whole(epoch);
            self.tell_epoch(&mut out, epoch, set.len());
        }
        Ok(out)
    }

    /// Reads the log up to the newest epoch, or as much of it as is held at once.
    async fn fill(&mut self) -> Result<(), Problem> {
        let up_to = *self.published.borrow_and_update();
        let after = self.seen.needs();
        if after >= up_to {
            return Ok(());
        }
        let (read, relation) = (Arc::clone(&self.read), Arc::clone(&self.relation));
        let (pending, whole) = blocking(move || {
            let mut pending = VecDeque::new();
            let mut count = 0;
            for item in read.store.changes(relation.id, after, up_to)? {
                let (epoch, set) = item?;
                if set.is_empty() {
                    continue;
                }
                count += set.len();
                pending.push_back((epoch, Arc::new(set)));
                if count >= READ_CHANGES {
                    return Ok((pending, false));
                }
            }
            Ok((pending, true))
        })
        .await?;
        self.pending = pending;
        // Without changes there is nothing left to see up to there.
        if whole && self.pending.is_empty() {
            self.seen = Seen::Whole(up_to);
        }
        Ok(())
    }

    /// Keeps the connection alive; and the client's id up with epochs in which its view did not change, lest the id
    /// become older than what is retained.
    fn heartbeat(&mut self) -> Vec<u8> {
        let mut out = Vec::new();
        match self.seen {
            Seen::Whole(epoch) if epoch > self.told => self.tell_epoch(&mut out, epoch, 0),
            _ => out.extend_from_slice(b": still here\n\n"),
        }
        out
    }

    fn tell_epoch(&mut self, out: &mut Vec<u8>, epoch: Epoch, changes: usize) {
        self.told = epoch;
        let text = format!("id: {epoch}:end\nevent: epoch\ndata: {{\"epoch\":{epoch},\"changes\":{changes}}}\n\n");
        out.extend_from_slice(text.as_bytes());
    }
}

/// Appends an epoch's changes, by position, as events.
fn write_changes(
    out: &mut Vec<u8>,
    relation: &Relation,
    epoch: Epoch,
    set: &ChangeSet,
    from: usize,
    to: usize,
) -> Result<(), Problem> {
    for seq in from..to {
        let change = set.get(seq);
        let op = if change.after.is_some() { "upsert" } else { "delete" };
        out.extend_from_slice(
            format!(
                "id: {epoch}:{seq}\nevent: change\ndata: {{\"epoch\":{epoch},\"seq\":{seq},\"op\":\"{op}\",\"key\":"
            )
            .as_bytes(),
        );
        relation.keys.write_json(out, change.key, &[])?;
        out.extend_from_slice(b",\"row\":");
        match change.after {
            Some(row) => relation.codec.write_json(out, change.key, row)?,
            None => out.extend_from_slice(b"null"),
        }
        out.extend_from_slice(b"}\n\n");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_read_as_they_are_written() {
        assert_eq!(Seen::parse("7:0"), Some(Seen::Changes(7, 1)));
        assert_eq!(Seen::parse("7:end"), Some(Seen::Whole(7)));
        assert_eq!(Seen::parse("7"), Some(Seen::Whole(7)));
        assert_eq!(Seen::parse("7:@01ff"), Some(Seen::Rows(7, Some(vec![1, 255]))));
        for bad in ["", ":", "x:1", "7:", "7:-1", "0:3", "7:@zz", "7:1:2", "99999999999999999999:1"] {
            assert_eq!(Seen::parse(bad), None, "{bad}");
        }
    }
}
