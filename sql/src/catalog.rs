//! The relations of a store as the tables of a query.

use std::collections::BTreeMap;
use std::sync::Arc;

use datafusion::catalog::{
    CatalogProvider, CatalogProviderList, MemoryCatalogProvider, MemoryCatalogProviderList, MemorySchemaProvider,
    SchemaProvider,
};
use engine::query::Error;
use storage::{RelationId, RelationKind, Snapshot};
use types::{RowCodec, Schema};

use super::cancel::Cancelled;
use super::scan::Table;

/// The one catalog.
pub(super) const CATALOG: &str = "thalweg";
/// The schema that has every relation by its whole name.
pub(super) const SCHEMA: &str = "views";

/// A relation that can be read.
#[derive(Debug)]
pub(super) struct Relation {
    pub(super) name: String,
    pub(super) id: RelationId,
    /// Whether a step maintains it.
    pub(super) is_view: bool,
    pub(super) schema: Schema,
    /// Rows.
    pub(super) codec: RowCodec,
    /// Keys alone: a relation of the key columns, all of them key.
    pub(super) keys: RowCodec,
}

impl Relation {
    pub(super) fn new(name: String, id: RelationId, is_view: bool, schema: Schema) -> Relation {
        let columns: Vec<_> = schema.key.iter().map(|i| schema.columns[*i].clone()).collect();
        let key = (0..columns.len()).collect();
        let keys = RowCodec::new(&Schema { columns, key, event_time: None, append_only: schema.append_only });
        Relation { codec: RowCodec::new(&schema), keys, name, id, is_view, schema }
    }
}

/// Every relation of a snapshot's store but operators' state.
pub(super) fn relations(snapshot: &Snapshot) -> Result<Vec<Arc<Relation>>, Error> {
    let stored = snapshot.store().relations().into_iter().filter(|r| r.kind != RelationKind::State);
    stored
        .map(|info| {
            let schema: Schema = serde_json::from_str(&info.schema)
                .map_err(|e| Error::Broken(format!("the schema of `{}` cannot be read: {e}", info.name)))?;
            Ok(Arc::new(Relation::new(info.name, info.id, info.kind == RelationKind::View, schema)))
        })
        .collect()
}

/// Where a query finds its tables.
pub(super) fn catalog(
    relations: &[Arc<Relation>],
    snapshot: &Snapshot,
    cancelled: &Cancelled,
) -> Arc<dyn CatalogProviderList> {
    let mut schemas: BTreeMap<&str, BTreeMap<&str, Arc<Relation>>> = BTreeMap::new();
    for relation in relations {
        schemas.entry(SCHEMA).or_default().insert(&relation.name, Arc::clone(relation));
    }
    for relation in relations {
        if let Some((step, output)) = relation.name.split_once('.') {
            schemas.entry(step).or_default().entry(output).or_insert_with(|| Arc::clone(relation));
        }
    }
    let catalog = MemoryCatalogProvider::new();
    for (name, tables) in schemas {
        let schema = MemorySchemaProvider::new();
        for (name, relation) in tables {
            let table = Arc::new(Table::new(relation, snapshot.clone(), cancelled.clone()));
            // Such a provider takes any table whose name is new to it.
            let _ = schema.register_table(name.to_owned(), table);
        }
        let _ = catalog.register_schema(name, Arc::new(schema));
    }
    let catalogs = MemoryCatalogProviderList::new();
    catalogs.register_catalog(CATALOG.to_owned(), Arc::new(catalog));
    Arc::new(catalogs)
}
