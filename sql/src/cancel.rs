//! Ends queries that nobody waits for any more, also where DataFusion would compute on without ever looking up.
//!
//! A query is cancelled by dropping its future, which takes that the future is given back. Joins do not see to that: one
//! with a condition that few rows meet computes for as long as it takes to find some. So joins give way after each batch,
//! and their conditions fail once the query is cancelled.

use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arrow::datatypes::{DataType, Field};
use datafusion::common::Result;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility};
use datafusion::physical_expr::ScalarFunctionExpr;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::coop::CooperativeExec;
use datafusion::physical_plan::joins::utils::JoinFilter;
use datafusion::physical_plan::joins::{HashJoinExec, NestedLoopJoinExec};
use engine::query::Error;

use super::failure::Carried;

/// Whether nobody waits for the query any more.
#[derive(Clone, Debug)]
pub(super) struct Cancelled(pub(super) Arc<AtomicBool>);

impl Cancelled {
    /// The error with which it ends then.
    pub(super) fn check(&self) -> Result<(), Error> {
        if self.0.load(Ordering::Relaxed) {
            return Err(Error::Failed("the query was cancelled".to_owned()));
        }
        Ok(())
    }
}

/// The same plan, which ends soon after the query is cancelled.
pub(super) fn cancellable(plan: Arc<dyn ExecutionPlan>, cancelled: &Cancelled) -> Result<Arc<dyn ExecutionPlan>> {
    plan.transform_up(|node| {
        let watched = watched(&node, cancelled)?;
        let changed = watched.is_some();
        let node = watched.unwrap_or(node);
        if node.children().len() < 2 {
            return Ok(if changed { Transformed::yes(node) } else { Transformed::no(node) });
        }
        Ok(Transformed::yes(Arc::new(CooperativeExec::new(node)) as Arc<dyn ExecutionPlan>))
    })
    .data()
}

/// A join whose condition is watched; `None`: it is no such join.
fn watched(node: &Arc<dyn ExecutionPlan>, cancelled: &Cancelled) -> Result<Option<Arc<dyn ExecutionPlan>>> {
    if let Some(join) = node.downcast_ref::<NestedLoopJoinExec>()
        && let Some(filter) = join.filter()
    {
        let projection = join.projection().as_deref().map(<[usize]>::to_vec);
        let (left, right) = (Arc::clone(join.left()), Arc::clone(join.right()));
        let filter = Some(watch(filter, cancelled)?);
        let join = NestedLoopJoinExec::try_new(left, right, filter, join.join_type(), projection)?;
        return Ok(Some(Arc::new(join)));
    }
    if let Some(join) = node.downcast_ref::<HashJoinExec>()
        && let Some(filter) = join.filter()
    {
        return join.builder().with_filter(Some(watch(filter, cancelled)?)).build_exec().map(Some);
    }
    Ok(None)
}

fn watch(filter: &JoinFilter, cancelled: &Cancelled) -> Result<JoinFilter> {
    let expression = Arc::clone(filter.expression());
    let field = Arc::new(Field::new("watched", DataType::Boolean, expression.nullable(filter.schema())?));
    let function = Arc::new(ScalarUDF::new_from_impl(Watched::new(cancelled.clone())));
    let options = Arc::new(ConfigOptions::default());
    let expression = Arc::new(ScalarFunctionExpr::new("watched", function, vec![expression], field, options));
    Ok(JoinFilter::new(expression, filter.column_indices().to_vec(), Arc::clone(filter.schema())))
}

/// Its argument, until the query is cancelled.
#[derive(Debug)]
struct Watched {
    cancelled: Cancelled,
    signature: Signature,
}

impl Watched {
    fn new(cancelled: Cancelled) -> Watched {
        Watched { cancelled, signature: Signature::exact(vec![DataType::Boolean], Volatility::Volatile) }
    }
}

impl PartialEq for Watched {
    fn eq(&self, other: &Watched) -> bool {
        Arc::ptr_eq(&self.cancelled.0, &other.cancelled.0)
    }
}

impl Eq for Watched {}

impl Hash for Watched {
    fn hash<H: Hasher>(&self, state: &mut H) {
        "watched".hash(state);
    }
}

impl ScalarUDFImpl for Watched {
    fn name(&self) -> &str {
        "watched"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Boolean)
    }

    fn invoke_with_args(&self, mut args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        self.cancelled.check().map_err(Carried::new)?;
        Ok(args.args.swap_remove(0))
    }
}
