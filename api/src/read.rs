//! What the read side knows: the store, the relations in it, and the newest epoch published. Nothing of the engine,
//! so that committed views are served while the dataflow is rebuilt.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::http::{HeaderMap, header};
use engine::pipeline::Concealed;
use storage::{RelationId, RelationKind, Snapshot, Store};
use tokio::sync::{Semaphore, SemaphorePermit, watch};
use types::{Epoch, RowCodec, Schema};

use crate::Options;
use crate::metrics::Metrics;
use crate::params::At;
use crate::problem::{BUSY, EPOCH_NOT_PUBLISHED, NO_SUCH_VIEW, Problem, suggestion};

/// A relation that can be read.
#[derive(Debug)]
pub(crate) struct Relation {
    pub(crate) name: String,
    pub(crate) id: RelationId,
    pub(crate) kind: &'static str,
    pub(crate) schema: Schema,
    /// Rows.
    pub(crate) codec: RowCodec,
    /// Keys alone: a relation of the key columns, all of them key.
    pub(crate) keys: RowCodec,
}

impl Relation {
    fn new(name: String, id: RelationId, kind: &'static str, schema: Schema) -> Relation {
        let columns: Vec<_> = schema.key.iter().map(|i| schema.columns[*i].clone()).collect();
        let key = (0..columns.len()).collect();
        let keys = RowCodec::new(&Schema { columns, key, event_time: None, append_only: schema.append_only });
        Relation { codec: RowCodec::new(&schema), keys, name, id, kind, schema }
    }
}

/// What every reading handler shares.
#[derive(Debug)]
pub(crate) struct Read {
    pub(crate) store: Store,
    /// What must not be shown of where sources stand.
    pub(crate) concealed: Concealed,
    relations: BTreeMap<String, Arc<Relation>>,
    pub(crate) published: watch::Receiver<Epoch>,
    /// True when the server is ending: streams end.
    pub(crate) closing: watch::Receiver<bool>,
    pub(crate) options: Options,
    pub(crate) metrics: Metrics,
    scans: Semaphore,
    pub(crate) queries: Arc<Semaphore>,
    pub(crate) subscriptions: Arc<Semaphore>,
}

impl Read {
    /// The read side of a store. The error is a relation whose schema cannot be read: the store is another program's.
    pub(crate) fn new(
        store: Store,
        metrics: Metrics,
        closing: watch::Receiver<bool>,
        options: Options,
    ) -> Result<Read, serde_json::Error> {
        let mut relations = BTreeMap::new();
        for info in store.relations() {
            let kind = match info.kind {
                RelationKind::Table => "table",
                RelationKind::View => "view",
                RelationKind::Faults => "faults",
                RelationKind::State => continue,
            };
            let schema = serde_json::from_str(&info.schema)?;
            relations.insert(info.name.clone(), Arc::new(Relation::new(info.name, info.id, kind, schema)));
        }
        let (sender, published) = watch::channel(store.published());
        store.on_publish(Box::new(move |epoch| {
            sender.send_if_modified(|newest| {
                let newer = epoch > *newest;
                *newest = epoch.max(*newest);
                newer
            });
        }));
        Ok(Read {
            concealed: Concealed::NOTHING,
            relations,
            published,
            closing,
            metrics,
            scans: Semaphore::new(options.scans_max),
            queries: Arc::new(Semaphore::new(options.queries_max)),
            subscriptions: Arc::new(Semaphore::new(options.subscribers_max)),
            options,
            store,
        })
    }

    /// The same, with texts that are not shown.
    pub(crate) fn concealing(self, concealed: Concealed) -> Read {
        Read { concealed, ..self }
    }

    /// The relation of that name.
    pub(crate) fn relation(&self, name: &str) -> Result<&Arc<Relation>, Problem> {
        self.relations.get(name).ok_or_else(|| {
            let near = suggestion(name, self.relations.keys().map(String::as_str));
            Problem::new(NO_SUCH_VIEW, format!("there is no view `{name}`{near}"))
        })
    }

    /// The relation of faults.
    pub(crate) fn faults(&self) -> Result<&Arc<Relation>, Problem> {
        let faults = self.relations.values().find(|r| r.kind == "faults");
        faults.ok_or_else(|| Problem::new(NO_SUCH_VIEW, "this store keeps no faults"))
    }

    /// Every relation, by name.
    pub(crate) fn relations(&self) -> impl Iterator<Item = &Arc<Relation>> {
        self.relations.values()
    }

    /// The epoch asked for, once it is published.
    pub(crate) async fn snapshot(&self, at: At) -> Result<Snapshot, Problem> {
        if let Some(min) = at.min_epoch
            && self.store.published() < min
        {
            let mut published = self.published.clone();
            let waited = tokio::time::timeout(at.wait, published.wait_for(|newest| *newest >= min)).await;
            if !matches!(waited, Ok(Ok(_))) {
                let newest = self.store.published();
                return Err(Problem::new(
                    EPOCH_NOT_PUBLISHED,
                    format!("epoch {min} is not published yet: the newest is {newest}"),
                ));
            }
        }
        Ok(self.store.snapshot(at.as_of)?)
    }

    /// A place among the scans that run at once, waiting a while for one.
    pub(crate) async fn scan_permit(&self) -> Result<SemaphorePermit<'_>, Problem> {
        match tokio::time::timeout(self.options.request_timeout, self.scans.acquire()).await {
            Ok(Ok(permit)) => Ok(permit),
            _ => Err(Problem::new(BUSY, "too many scans at once")),
        }
    }
}

/// The text of the `Accept` header.
pub(crate) fn accept(headers: &HeaderMap) -> Option<&str> {
    headers.get(header::ACCEPT).and_then(|v| v.to_str().ok())
}

/// Work that may take long or block, on a thread for that.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Problem> + Send + 'static,
) -> Result<T, Problem> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|e| Err(Problem::internal(e)))
}
