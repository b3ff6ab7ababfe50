//! Integer arithmetic that never wraps around: `+`, `-` and `*` fail on overflow, and sums are exact.

use std::sync::Arc;

use arrow::compute::kernels::numeric;
use arrow::datatypes::DataType;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::common::{DFSchema, Result, ScalarValue};
use datafusion::logical_expr::expr::{AggregateFunction, WindowFunctionDefinition};
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::planner::{ExprPlanner, PlannerResult, RawBinaryExpr};
use datafusion::logical_expr::{
    ColumnarValue, Expr, ExprSchemable, LogicalPlan, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
    Volatility,
};
use datafusion::optimizer::AnalyzerRule;
use datafusion::sql::sqlparser::ast::BinaryOperator;

/// Plans `+`, `-` and `*` of two integers as functions that check.
#[derive(Debug)]
pub(super) struct Checked;

impl ExprPlanner for Checked {
    fn plan_binary_op(&self, expr: RawBinaryExpr, schema: &DFSchema) -> Result<PlannerResult<RawBinaryExpr>> {
        let op = match expr.op {
            BinaryOperator::Plus => Op::Add,
            BinaryOperator::Minus => Op::Subtract,
            BinaryOperator::Multiply => Op::Multiply,
            _ => return Ok(PlannerResult::Original(expr)),
        };
        // What has no type yet, a parameter for one, is left as it is.
        let is_integer = |e: &Expr| e.get_type(schema).is_ok_and(|t| fits(&t));
        if !is_integer(&expr.left) || !is_integer(&expr.right) {
            return Ok(PlannerResult::Original(expr));
        }
        let function = ScalarUDF::new_from_impl(Arithmetic::new(op));
        Ok(PlannerResult::Planned(function.call(vec![expr.left, expr.right])))
    }
}

/// Whether it is an integer an int64 can hold.
fn fits(data_type: &DataType) -> bool {
    data_type.is_integer() && *data_type != DataType::UInt64
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Op {
    Add,
    Subtract,
    Multiply,
}

/// One of the operators on two int64.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Arithmetic {
    op: Op,
    signature: Signature,
}

impl Arithmetic {
    fn new(op: Op) -> Arithmetic {
        let signature = Signature::exact(vec![DataType::Int64, DataType::Int64], Volatility::Immutable);
        Arithmetic { op, signature }
    }

    fn sign(&self) -> char {
        match self.op {
            Op::Add => '+',
            Op::Subtract => '-',
            Op::Multiply => '*',
        }
    }
}

impl ScalarUDFImpl for Arithmetic {
    fn name(&self) -> &str {
        match self.op {
            Op::Add => "add",
            Op::Subtract => "subtract",
            Op::Multiply => "multiply",
        }
    }

    /// As the operator would be called, which is how the column of an answer is called.
    fn schema_name(&self, args: &[Expr]) -> Result<String> {
        let names: Vec<String> = args.iter().map(|a| a.schema_name().to_string()).collect();
        Ok(names.join(&format!(" {} ", self.sign())))
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Int64)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let scalars = args.args.iter().all(|a| matches!(a, ColumnarValue::Scalar(_)));
        let arrays = ColumnarValue::values_to_arrays(&args.args)?;
        let (a, b) = (&arrays[0], &arrays[1]);
        let array = match self.op {
            Op::Add => numeric::add(a, b)?,
            Op::Subtract => numeric::sub(a, b)?,
            Op::Multiply => numeric::mul(a, b)?,
        };
        if scalars {
            return Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&array, 0)?));
        }
        Ok(ColumnarValue::Array(array))
    }
}

/// Sums integers as decimals of 38 digits, which no number of rows makes overflow.
#[derive(Debug)]
pub(super) struct ExactSums;

impl AnalyzerRule for ExactSums {
    fn name(&self) -> &str {
        "exact_sums"
    }

    fn analyze(&self, plan: LogicalPlan, _: &ConfigOptions) -> Result<LogicalPlan> {
        plan.transform_up_with_subqueries(exact_sums).data()
    }
}

fn exact_sums(plan: LogicalPlan) -> Result<Transformed<LogicalPlan>> {
    let (LogicalPlan::Aggregate(_) | LogicalPlan::Window(_)) = &plan else {
        // What reads a sum has its type anew.
        return plan.recompute_schema().map(Transformed::yes);
    };
    let inputs = plan.inputs();
    let Some(schema) = inputs.first().map(|p| Arc::clone(p.schema())) else { return Ok(Transformed::no(plan)) };
    let names = NamePreserver::new_for_projection();
    let changed = plan.map_expressions(|expr| {
        let name = names.save(&expr);
        let exact = expr.transform_up(|e| exact_sum(e, &schema))?;
        Ok(exact.update_data(|e| name.restore(e)))
    })?;
    changed.data.recompute_schema().map(Transformed::yes)
}

fn exact_sum(expr: Expr, schema: &DFSchema) -> Result<Transformed<Expr>> {
    let is_integer = |args: &[Expr]| args.len() == 1 && args[0].get_type(schema).is_ok_and(|t| fits(&t));
    let exact = |args: &mut Vec<Expr>| {
        let arg = args.pop().expect("there is one");
        args.push(datafusion::logical_expr::cast(arg, DataType::Decimal128(20, 0)));
    };
    match expr {
        Expr::AggregateFunction(AggregateFunction { func, mut params })
            if func.name() == "sum" && is_integer(&params.args) =>
        {
            exact(&mut params.args);
            Ok(Transformed::yes(Expr::AggregateFunction(AggregateFunction { func, params })))
        }
        Expr::WindowFunction(mut window)
            if matches!(&window.fun, WindowFunctionDefinition::AggregateUDF(f) if f.name() == "sum")
                && is_integer(&window.params.args) =>
        {
            exact(&mut window.params.args);
            Ok(Transformed::yes(Expr::WindowFunction(window)))
        }
        other => Ok(Transformed::no(other)),
    }
}
