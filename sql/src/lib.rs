//! SQL over the stored relations of one snapshot: read, planned and computed by DataFusion, which reads nothing else.
//!
//! **What is taken**: one `SELECT`, `WITH`, `VALUES` or `EXPLAIN`. Everything else is refused before it is planned, and
//! once more by the plan; there are no files, no object stores and no temporary files behind it.
//!
//! **Tables** are the relations by their names, in the schema `views`. The second outputs of steps, whose names have a
//! dot, are there twice: as `"step.output"` and, the prefix being a schema, as `step.output`. Names are case-sensitive,
//! as they are in pipeline files; `information_schema` tells what there is.
//!
//! **Differences to DataFusion as it comes**, so that a wrong number is never answered silently: `+`, `-` and `*` of
//! integers fail on overflow instead of wrapping around, `sum` of integers is exact (a decimal), and nulls sort first,
//! as in the store. `repeat`, `lpad` and `rpad`, with which one row of text takes any amount of memory, are not there.

mod answer;
mod arithmetic;
mod cancel;
mod catalog;
mod check;
mod failure;
mod growth;
mod keys;
mod scan;

use std::future::poll_fn;
use std::sync::{Arc, OnceLock};

use datafusion::common::ScalarValue;
use datafusion::execution::context::SQLOptions;
use datafusion::execution::disk_manager::{DiskManagerBuilder, DiskManagerMode};
use datafusion::execution::memory_pool::GreedyMemoryPool;
use datafusion::execution::object_store::ObjectStoreUrl;
use datafusion::execution::runtime_env::{RuntimeEnv, RuntimeEnvBuilder};
use datafusion::execution::{SessionState, SessionStateBuilder, SessionStateDefaults};
use datafusion::optimizer::analyzer::Analyzer;
use datafusion::physical_plan::execute_stream;
use datafusion::prelude::SessionConfig;
use engine::query::{Error, Param, Query, Running, Sink};
use storage::Snapshot;

use answer::Answer;
use cancel::Cancelled;
use failure::{computing, planning};

/// Functions that make much text of little.
const LEFT_OUT: [&str; 3] = ["repeat", "lpad", "rpad"];

/// Rows in a batch: what an expression makes of one is not accounted for, so it is not large.
const BATCH_ROWS: usize = 4096;

/// Runs SQL over a snapshot: an [`engine::query::Runner`].
pub fn run<'a>(snapshot: Snapshot, query: Query, sink: &'a mut dyn Sink) -> Running<'a> {
    Box::pin(answer(snapshot, query, sink))
}

async fn answer(snapshot: Snapshot, query: Query, sink: &mut dyn Sink) -> Result<(), Error> {
    let cancelled = Cancelled(query.cancelled);
    check::size(&query.sql)?;
    let statement = check::statement(&query.sql)?;
    let relations = catalog::relations(&snapshot)?;
    let state = state(catalog::catalog(&relations, &snapshot, &cancelled), query.memory_bytes_max)?;
    check::tables(&state, &statement, &relations)?;
    let plan = state.statement_to_plan(statement).await.map_err(planning)?;
    check::plan(&plan)?;
    let params: Vec<ScalarValue> = query.params.into_iter().map(value).collect();
    let plan = plan.with_param_values(params).map_err(planning)?;
    let read_only = SQLOptions::new().with_allow_ddl(false).with_allow_dml(false).with_allow_statements(false);
    read_only.verify_plan(&plan).map_err(planning)?;
    let plan = state.create_physical_plan(&plan).await.map_err(planning)?;
    let plan = cancel::cancellable(plan, &cancelled).map_err(planning)?;

    let answer = Answer::new(&plan.schema())?;
    sink.columns(answer.columns())?;
    let mut batches = execute_stream(plan, state.task_ctx()).map_err(computing)?;
    while let Some(batch) = poll_fn(|context| batches.as_mut().poll_next(context)).await {
        sink.rows(&answer.rows(&batch.map_err(computing)?)?)?;
    }
    Ok(())
}

/// What one query is planned and run in.
fn state(catalogs: Arc<dyn datafusion::catalog::CatalogProviderList>, memory: usize) -> Result<SessionState, Error> {
    static TEMPLATE: OnceLock<SessionState> = OnceLock::new();
    let template = TEMPLATE.get_or_init(template).clone();
    let environment = environment(memory).map_err(planning)?;
    let mut state = SessionStateBuilder::new_from_existing(template)
        .with_catalog_list(catalogs)
        .with_runtime_env(environment)
        .with_session_id(String::new())
        .build();
    // What `now()` is, for the whole query.
    state.mark_start_execution();
    Ok(state)
}

/// What all queries have in common: functions, rules, settings.
fn template() -> SessionState {
    let mut config = SessionConfig::new()
        .with_target_partitions(1)
        .with_batch_size(BATCH_ROWS)
        .with_information_schema(true)
        .with_create_default_catalog_and_schema(false)
        .with_default_catalog_and_schema(catalog::CATALOG, catalog::SCHEMA);
    let options = config.options_mut();
    options.sql_parser.enable_ident_normalization = false;
    options.sql_parser.map_string_types_to_utf8view = false;
    options.sql_parser.default_null_ordering = "nulls_min".to_owned();
    let mut functions = SessionStateDefaults::default_scalar_functions();
    functions.retain(|f| !LEFT_OUT.contains(&f.name()));
    let mut planners = SessionStateDefaults::default_expr_planners();
    planners.insert(0, Arc::new(arithmetic::Checked));
    let mut analyzer = Analyzer::new();
    analyzer.rules.insert(0, Arc::new(arithmetic::ExactSums));
    SessionStateBuilder::new()
        .with_config(config)
        .with_scalar_functions(functions)
        .with_aggregate_functions(SessionStateDefaults::default_aggregate_functions())
        .with_window_functions(SessionStateDefaults::default_window_functions())
        .with_expr_planners(planners)
        .with_analyzer_rules(analyzer.rules)
        .build()
}

/// Memory of its own, no disk, and no store of objects: not even the machine's files.
fn environment(memory: usize) -> datafusion::common::Result<Arc<RuntimeEnv>> {
    let environment = RuntimeEnvBuilder::new()
        .with_memory_pool(Arc::new(GreedyMemoryPool::new(memory)))
        .with_disk_manager_builder(DiskManagerBuilder::default().with_mode(DiskManagerMode::Disabled))
        .build_arc()?;
    environment.deregister_object_store(ObjectStoreUrl::local_filesystem().as_ref())?;
    Ok(environment)
}

fn value(param: Param) -> ScalarValue {
    match param {
        Param::Null => ScalarValue::Null,
        Param::Bool(v) => ScalarValue::Boolean(Some(v)),
        Param::Int(v) => ScalarValue::Int64(Some(v)),
        Param::Float(v) => ScalarValue::Float64(Some(v)),
        Param::Str(v) => ScalarValue::Utf8(Some(v)),
    }
}
