//! SQL scalar expressions over the rows of one relation: parsed and planned by DataFusion, evaluated on Arrow batches.
//!
//! An expression is a pure function of one row. Everything that would make it more than that (a clock, a random
//! number, a subquery, an aggregate) is refused when the pipeline file is read, so that a row gives the same value
//! in every batch, on every worker, at every time. A row the expression cannot be computed for (division by zero,
//! overflow, a cast of bad text) fails alone; the others of its batch do not notice.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, OnceLock};

use arrow::array::{Array, ArrayRef, AsArray, Float64Array, RecordBatch, new_null_array};
use arrow::compute::concat;
use arrow::datatypes::{DataType, Field, Float64Type, Schema as ArrowSchema};
use datafusion_common::config::ConfigOptions;
use datafusion_common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion_common::{DFSchema, DataFusionError, ScalarValue, TableReference};
use datafusion_expr::execution_props::ExecutionProps;
use datafusion_expr::physical_planning_context::PhysicalPlanningContext;
use datafusion_expr::planner::{ContextProvider, ExprPlanner};
use datafusion_expr::simplify::SimplifyContext;
use datafusion_expr::{
    AggregateUDF, Expr, ExprSchemable, HigherOrderUDF, Operator, ScalarUDF, TableSource, Volatility, WindowUDF,
};
use datafusion_optimizer::simplify_expressions::ExprSimplifier;
use datafusion_physical_expr::expressions::{BinaryExpr, Literal, NegativeExpr, cast};
use datafusion_physical_expr::{PhysicalExpr, create_physical_expr};
use datafusion_sql::parser::DFParser;
use datafusion_sql::planner::{ParserOptions, PlannerContext, SqlToRel};
use datafusion_sql::sqlparser::ast::{self, visit_expressions};
use datafusion_sql::sqlparser::dialect::GenericDialect;
use datafusion_sql::sqlparser::keywords::Keyword;
use datafusion_sql::sqlparser::tokenizer::{Token, Tokenizer};
use types::{RowCodec, Schema, Type, Value};

/// Operators, brackets and keywords in one expression.
const OPERATORS_MAX: usize = 400;

/// A scalar expression over the columns of one relation.
#[derive(Clone, Debug)]
pub struct Expression {
    /// The type of its values.
    pub ty: Type,
    /// Whether it may give null.
    pub nullable: bool,
    /// As it was written.
    pub text: String,
    /// The positions of the columns it reads, ascending.
    pub columns: Vec<usize>,
    /// The column it is, if it is nothing but a column.
    column: Option<usize>,
    physical: Arc<dyn PhysicalExpr>,
}

/// The rows for which an expression could not be computed, ascending, each with what went wrong.
pub type RowErrors = Vec<(usize, String)>;

impl Expression {
    /// Reads an expression over a relation's columns. Column names are case-sensitive; function names are not.
    ///
    /// # Errors
    /// A sentence for the author of the pipeline file, with the nearest column or function name where one is unknown.
    pub fn parse(text: &str, schema: &Schema) -> Result<Expression, String> {
        check_size(text)?;
        let parsed = DFParser::parse_sql_into_expr(text).map_err(|e| format!("cannot read `{text}`: {}", plain(&e)))?;
        if let Some(alias) = parsed.alias {
            return Err(format!("`{text}` ends in the alias `{alias}`: the name of the column is the key before `=`"));
        }
        check_names(&parsed.expr, schema)?;

        let fields: Vec<Field> = schema.columns.iter().map(|c| Field::new(&c.name, c.ty.arrow(), c.nullable)).collect();
        let arrow = ArrowSchema::new(fields);
        let df = Arc::new(DFSchema::try_from(arrow.clone()).map_err(|e| plain(&e))?);
        let functions = Functions::get();
        let options =
            ParserOptions::new().with_enable_ident_normalization(false).with_map_string_types_to_utf8view(false);
        let planned = SqlToRel::new_with_options(functions, options)
            .sql_to_expr(parsed.expr, &df, &mut PlannerContext::new())
            .map_err(|e| format!("`{text}`: {}", plain(&e)))?;
        check_scalar(&planned)?;

        let context = SimplifyContext::builder().with_schema(df.clone()).build();
        let simplifier = ExprSimplifier::new(context);
        let logical = simplifier
            .coerce(planned, &df)
            .and_then(|e| simplifier.simplify(e))
            .map_err(|e| format!("`{text}`: {}", plain(&e)))?;
        check_scalar(&logical)?;
        let nullable = logical.nullable(df.as_ref()).map_err(|e| format!("`{text}`: {}", plain(&e)))?;
        let physical = create_physical_expr(&logical, &df, &ExecutionProps::new(), &PhysicalPlanningContext::default())
            .and_then(|e| checked_arithmetic(e, &arrow))
            .map_err(|e| format!("`{text}`: {}", plain(&e)))?;

        let data_type = physical.data_type(&arrow).map_err(|e| format!("`{text}`: {}", plain(&e)))?;
        let ty = normal_type(&data_type).ok_or_else(|| {
            format!(
                "`{text}` has the type {data_type}, which no column can have: cast it, e.g. `CAST({text} AS DOUBLE)`"
            )
        })?;
        let physical = cast(physical, &arrow, ty.arrow()).map_err(|e| format!("`{text}`: {}", plain(&e)))?;

        let names: BTreeSet<String> = logical.column_refs().into_iter().map(|c| c.name.clone()).collect();
        let columns: Vec<usize> =
            (0..schema.columns.len()).filter(|i| names.contains(&schema.columns[*i].name)).collect();
        let column = match &logical {
            Expr::Column(c) => schema.index_of(&c.name),
            _ => None,
        };
        Ok(Expression { ty, nullable, text: text.to_owned(), columns, column, physical })
    }

    /// The expression that is nothing but a column.
    pub fn column(schema: &Schema, index: usize) -> Expression {
        let c = &schema.columns[index];
        Expression {
            ty: c.ty,
            nullable: c.nullable,
            text: c.name.clone(),
            columns: vec![index],
            column: Some(index),
            physical: Arc::new(datafusion_physical_expr::expressions::Column::new(&c.name, index)),
        }
    }

    /// The position of the column it is, if it is nothing but a column.
    pub fn as_column(&self) -> Option<usize> {
        self.column
    }

    /// Its value for every row, of its type, floats in their one stored form. A row that fails has null and its error.
    pub fn evaluate(&self, rows: &RecordBatch) -> (ArrayRef, RowErrors) {
        if let Some(i) = self.column {
            return (rows.column(i).clone(), Vec::new());
        }
        match self.try_evaluate(rows) {
            Ok(array) => (array, Vec::new()),
            Err(_) => self.evaluate_apart(rows),
        }
    }

    /// Halves the batch until the rows that fail stand alone. Arrow kernels give a row the same value in any batch,
    /// and an `AND` or `CASE` that spares a row a failing branch does so at the latest when the row is alone.
    fn evaluate_apart(&self, rows: &RecordBatch) -> (ArrayRef, RowErrors) {
        let mut parts: Vec<ArrayRef> = Vec::new();
        let mut errors = Vec::new();
        let mut todo = vec![(0, rows.num_rows())];
        while let Some((start, len)) = todo.pop() {
            match self.try_evaluate(&rows.slice(start, len)) {
                Ok(array) => parts.push(array),
                Err(error) if len <= 1 => {
                    parts.push(new_null_array(&self.ty.arrow(), len));
                    errors.push((start, error));
                }
                Err(_) => {
                    let half = len / 2;
                    todo.push((start + half, len - half));
                    todo.push((start, half));
                }
            }
        }
        let parts: Vec<&dyn Array> = parts.iter().map(AsRef::as_ref).collect();
        (concat(&parts).expect("parts of one type"), errors)
    }

    fn try_evaluate(&self, rows: &RecordBatch) -> Result<ArrayRef, String> {
        // A library function that panics on a strange value must cost the row, not the engine.
        let computed =
            catch_unwind(AssertUnwindSafe(|| self.physical.evaluate(rows).and_then(|v| v.into_array(rows.num_rows()))));
        match computed {
            Ok(Ok(array)) => Ok(canonical(array)),
            Ok(Err(e)) => Err(plain(&e)),
            Err(_) => Err("the function has no answer for these values".to_owned()),
        }
    }
}

/// The value of an expression for one row of cells: for models.
pub fn evaluate_row(expression: &Expression, codec: &RowCodec, row: &[Value]) -> Result<Value, String> {
    let (value, errors) = expression.evaluate(&codec.batch(&[row.to_vec()]));
    match errors.into_iter().next() {
        Some((_, error)) => Err(error),
        None => Ok(Value::at(&value, 0)),
    }
}

/// The type a column has that carries values of an arrow type, if there is one.
fn normal_type(data_type: &DataType) -> Option<Type> {
    Some(match data_type {
        DataType::Boolean => Type::Bool,
        DataType::Int8 | DataType::Int16 | DataType::Int32 | DataType::Int64 => Type::Int64,
        DataType::UInt8 | DataType::UInt16 | DataType::UInt32 | DataType::UInt64 => Type::Int64,
        DataType::Float16 | DataType::Float32 | DataType::Float64 => Type::Float64,
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => Type::String,
        DataType::Date32 | DataType::Date64 | DataType::Timestamp(_, _) => Type::Timestamp,
        DataType::Decimal128(_, 0) => Type::Decimal,
        DataType::Decimal128(_, _) => Type::Float64,
        _ => return None,
    })
}

fn canonical(array: ArrayRef) -> ArrayRef {
    if array.data_type() != &DataType::Float64 {
        return array;
    }
    let one_form = |v: f64| if v.is_nan() { f64::NAN } else { v + 0.0 };
    let floats = array.as_primitive::<Float64Type>();
    if floats.values().iter().all(|v| one_form(*v).to_bits() == v.to_bits()) {
        return array;
    }
    let clean: Float64Array = floats.unary(one_form);
    Arc::new(clean)
}

/// Makes `+ - *` and the sign of integers fail on overflow, where DataFusion would wrap around.
fn checked_arithmetic(
    expr: Arc<dyn PhysicalExpr>,
    schema: &ArrowSchema,
) -> Result<Arc<dyn PhysicalExpr>, DataFusionError> {
    expr.transform_up(|e| {
        if let Some(binary) = e.downcast_ref::<BinaryExpr>() {
            return Ok(Transformed::yes(Arc::new(binary.clone().with_fail_on_overflow(true)) as Arc<dyn PhysicalExpr>));
        }
        if let Some(negative) = e.downcast_ref::<NegativeExpr>()
            && negative.arg().data_type(schema)?.is_signed_integer()
        {
            let zero = Literal::new(ScalarValue::new_zero(&negative.arg().data_type(schema)?)?);
            let minus = BinaryExpr::new(Arc::new(zero), Operator::Minus, negative.arg().clone());
            return Ok(Transformed::yes(Arc::new(minus.with_fail_on_overflow(true)) as Arc<dyn PhysicalExpr>));
        }
        Ok(Transformed::no(e))
    })
    .map(|t| t.data)
}

/// The first line of an error, without the library's own preamble.
fn plain(error: &DataFusionError) -> String {
    let text = error.strip_backtrace();
    let line = text.lines().next().unwrap_or_default();
    let mut line = line;
    for preamble in [
        "Error during planning: ",
        "SQL error: ",
        "Arrow error: ",
        "Execution error: ",
        "Schema error: ",
        "External error: ",
    ] {
        line = line.strip_prefix(preamble).unwrap_or(line);
    }
    line.trim_end_matches('.').to_owned()
}

/// Refuses what is deeper than the stack of a thread that plans or computes it: a chain of operators is as deep as it
/// is long. Names, literals and commas only make it wide.
fn check_size(text: &str) -> Result<(), String> {
    let tokens = Tokenizer::new(&GenericDialect {}, text).tokenize();
    let tokens = tokens.map_err(|e| format!("cannot read `{text}`: {e}"))?;
    let operators = tokens.iter().filter(|token| match token {
        Token::Word(word) => {
            use Keyword::{AND, BETWEEN, CASE, CAST, ELSE, IN, IS, LIKE, NOT, OR, THEN, WHEN};
            matches!(word.keyword, AND | BETWEEN | CASE | CAST | ELSE | IN | IS | LIKE | NOT | OR | THEN | WHEN)
        }
        Token::Whitespace(_) | Token::Comma | Token::Number(..) | Token::SingleQuotedString(_) => false,
        _ => true,
    });
    match operators.count() {
        0..=OPERATORS_MAX => Ok(()),
        count => {
            let start: String = text.chars().take(40).collect();
            Err(format!("`{start}…` has {count} operators and brackets; an expression has at most {OPERATORS_MAX}"))
        }
    }
}

/// Refuses what is no scalar expression, and names that are not known, before the planner meets them: so that the
/// message names what was written.
fn check_names(expr: &ast::Expr, schema: &Schema) -> Result<(), String> {
    let visited = visit_expressions(expr, |e| match check_node(e, schema) {
        Ok(()) => ControlFlow::Continue(()),
        Err(message) => ControlFlow::Break(message),
    });
    match visited {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(message) => Err(message),
    }
}

fn check_node(e: &ast::Expr, schema: &Schema) -> Result<(), String> {
    match e {
        ast::Expr::Identifier(ident) => {
            let known = schema.columns.iter().map(|c| c.name.as_str());
            if ident.value.starts_with('@') {
                return Err(format!("`{ident}` is a variable: an expression reads columns only"));
            }
            match schema.index_of(&ident.value) {
                Some(_) => Ok(()),
                None => Err(unknown("column", &ident.value, known)),
            }
        }
        ast::Expr::CompoundIdentifier(parts) => {
            let name = parts.iter().map(|p| p.value.as_str()).collect::<Vec<_>>().join(".");
            let last = parts.last().map_or("", |p| p.value.as_str());
            Err(format!(
                "`{name}` is written with a dot: an expression reads the columns of one relation, write `{last}`"
            ))
        }
        ast::Expr::Subquery(_) | ast::Expr::InSubquery { .. } | ast::Expr::Exists { .. } => {
            Err("a subquery is no scalar expression: use a `join` step".to_owned())
        }
        ast::Expr::Value(v) if matches!(v.value, ast::Value::Placeholder(_)) => {
            Err(format!("`{v}` is a parameter: an expression reads columns only"))
        }
        ast::Expr::Function(f) => check_function(f),
        _ => Ok(()),
    }
}

fn check_function(f: &ast::Function) -> Result<(), String> {
    let name = f.name.to_string().to_lowercase();
    if f.over.is_some() {
        return Err(format!("`{name} … OVER` is a window function, which is no scalar expression"));
    }
    const AGGREGATES: [&str; 12] = [
        "count",
        "sum",
        "min",
        "max",
        "avg",
        "mean",
        "median",
        "stddev",
        "var",
        "array_agg",
        "first_value",
        "last_value",
    ];
    if AGGREGATES.contains(&name.as_str()) {
        return Err(format!("`{name}` is an aggregate, which is no scalar expression: use an `aggregate` step"));
    }
    let functions = Functions::get();
    match functions.by_name.get(&name) {
        Some(function) if function.signature().volatility != Volatility::Immutable => Err(format!(
            "`{name}` gives another value each time it is asked: a step must be a function of its rows alone"
        )),
        Some(_) => Ok(()),
        None => Err(unknown("function", &name, functions.by_name.keys().map(String::as_str))),
    }
}

/// The same once more on the planned expression: syntax of its own (`CURRENT_TIMESTAMP`) plans to such functions too.
fn check_scalar(expr: &Expr) -> Result<(), String> {
    let mut problem = None;
    let visited = expr.apply(|e| {
        problem = match e {
            Expr::ScalarFunction(f) if f.func.signature().volatility != Volatility::Immutable => Some(format!(
                "`{}` gives another value each time it is asked: a step must be a function of its rows alone",
                f.func.name()
            )),
            Expr::AggregateFunction(_) => Some("an aggregate is no scalar expression".to_owned()),
            Expr::WindowFunction(_) => Some("a window function is no scalar expression".to_owned()),
            Expr::ScalarSubquery(_) | Expr::InSubquery(_) | Expr::Exists(_) | Expr::OuterReferenceColumn(..) => {
                Some("a subquery is no scalar expression".to_owned())
            }
            Expr::Placeholder(_) | Expr::ScalarVariable(..) => Some("an expression reads columns only".to_owned()),
            _ => None,
        };
        Ok(if problem.is_some() { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    });
    match (visited, problem) {
        (_, Some(message)) => Err(message),
        (Err(e), None) => Err(plain(&e)),
        (Ok(_), None) => Ok(()),
    }
}

/// A sentence about an unknown name, with the nearest known one.
fn unknown<'n>(what: &str, got: &str, known: impl Iterator<Item = &'n str>) -> String {
    let near = known
        .map(|n| (strsim::damerau_levenshtein(&n.to_lowercase(), &got.to_lowercase()), n))
        .filter(|(distance, n)| *distance <= 1 + n.len().max(got.len()) / 3)
        .min();
    match near {
        Some((_, n)) => format!("there is no {what} `{got}`; did you mean `{n}`?"),
        None => format!("there is no {what} `{got}`"),
    }
}

/// The functions an expression may call: DataFusion's own scalar functions.
struct Functions {
    by_name: BTreeMap<String, Arc<ScalarUDF>>,
    planners: Vec<Arc<dyn ExprPlanner>>,
    options: ConfigOptions,
}

impl Functions {
    fn get() -> &'static Functions {
        static FUNCTIONS: OnceLock<Functions> = OnceLock::new();
        FUNCTIONS.get_or_init(|| {
            let mut by_name = BTreeMap::new();
            for function in datafusion_functions::all_default_functions() {
                for alias in function.aliases() {
                    by_name.insert(alias.clone(), function.clone());
                }
                by_name.insert(function.name().to_owned(), function);
            }
            let planners: Vec<Arc<dyn ExprPlanner>> = vec![
                Arc::new(datafusion_functions::core::planner::CoreFunctionPlanner {}),
                Arc::new(datafusion_functions::datetime::planner::DatetimeFunctionPlanner),
                Arc::new(datafusion_functions::unicode::planner::UnicodeFunctionPlanner),
            ];
            Functions { by_name, planners, options: ConfigOptions::default() }
        })
    }
}

impl ContextProvider for Functions {
    fn get_table_source(&self, name: TableReference) -> Result<Arc<dyn TableSource>, DataFusionError> {
        Err(DataFusionError::Plan(format!("an expression cannot read the relation `{name}`")))
    }

    fn get_expr_planners(&self) -> &[Arc<dyn ExprPlanner>] {
        &self.planners
    }

    fn get_function_meta(&self, name: &str) -> Option<Arc<ScalarUDF>> {
        self.by_name.get(name).cloned()
    }

    fn get_higher_order_meta(&self, _name: &str) -> Option<Arc<HigherOrderUDF>> {
        None
    }

    fn get_aggregate_meta(&self, _name: &str) -> Option<Arc<AggregateUDF>> {
        None
    }

    fn get_window_meta(&self, _name: &str) -> Option<Arc<WindowUDF>> {
        None
    }

    fn get_variable_type(&self, _names: &[String]) -> Option<DataType> {
        None
    }

    fn options(&self) -> &ConfigOptions {
        &self.options
    }

    fn udf_names(&self) -> Vec<String> {
        self.by_name.keys().cloned().collect()
    }

    fn higher_order_function_names(&self) -> Vec<String> {
        Vec::new()
    }

    fn udaf_names(&self) -> Vec<String> {
        Vec::new()
    }

    fn udwf_names(&self) -> Vec<String> {
        Vec::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use types::Column;

    fn schema() -> Schema {
        let column = |name: &str, ty, nullable| Column { name: name.into(), ty, nullable };
        Schema {
            columns: vec![
                column("id", Type::Int64, false),
                column("Fare", Type::Float64, true),
                column("name", Type::String, true),
                column("at", Type::Timestamp, true),
                column("ok", Type::Bool, true),
                column("total", Type::Decimal, true),
            ],
            key: vec![0],
            event_time: Some(3),
            append_only: false,
        }
    }

    fn row(id: i64, fare: f64, name: &str) -> Vec<Value> {
        vec![
            Value::Int(id),
            Value::Float(fare),
            Value::Str(name.into()),
            Value::Time(1_480_000_000_123_456),
            Value::Bool(id > 1),
            Value::Decimal(i128::from(id) * 7),
        ]
    }

    fn eval(text: &str, rows: &[Vec<Value>]) -> (Type, Vec<Value>, RowErrors) {
        let schema = schema();
        let e = Expression::parse(text, &schema).unwrap_or_else(|m| panic!("{text}: {m}"));
        let (array, errors) = e.evaluate(&RowCodec::new(&schema).batch(rows));
        assert_eq!(array.data_type(), &e.ty.arrow(), "{text}");
        assert_eq!(array.len(), rows.len());
        (e.ty, (0..array.len()).map(|i| Value::at(&array, i)).collect(), errors)
    }

    fn one(text: &str) -> (Type, Value) {
        let (ty, values, errors) = eval(text, &[row(3, 2.5, "Ada")]);
        assert_eq!(errors, [], "{text}");
        (ty, values[0].clone())
    }

    fn refuse(text: &str) -> String {
        Expression::parse(text, &schema()).map(|e| e.ty).expect_err(text)
    }

    #[test]
    fn values_come_in_our_types() {
        use Value::*;
        assert_eq!(one("id + 1"), (Type::Int64, Int(4)));
        assert_eq!(one("id / 2"), (Type::Int64, Int(1)));
        assert_eq!(one("-id"), (Type::Int64, Int(-3)));
        assert_eq!(one("Fare * id"), (Type::Float64, Float(7.5)));
        assert_eq!(one("Fare > 2 AND name = 'Ada'"), (Type::Bool, Bool(true)));
        assert_eq!(one("upper(name) || '!'"), (Type::String, Str("ADA!".into())));
        assert_eq!(one("character_length(name)"), (Type::Int64, Int(3)));
        assert_eq!(one("CAST(Fare AS INT)"), (Type::Int64, Int(2)));
        assert_eq!(one("CAST(name AS VARCHAR)"), (Type::String, Str("Ada".into())));
        assert_eq!(one("coalesce(Fare, 0.0)"), (Type::Float64, Float(2.5)));
        assert_eq!(one("CASE WHEN id > 2 THEN 'big' ELSE 'small' END"), (Type::String, Str("big".into())));
        assert_eq!(one("total + 1"), (Type::Decimal, Decimal(22)));
        assert_eq!(one("substring(name FROM 2 FOR 1)"), (Type::String, Str("d".into())));
        assert_eq!(one("name LIKE 'A%'"), (Type::Bool, Bool(true)));
        assert_eq!(one("id IN (1, 2, 3)"), (Type::Bool, Bool(true)));
        assert_eq!(one("\"Fare\" IS NULL"), (Type::Bool, Bool(false)));
    }

    #[test]
    fn times_are_microseconds_in_utc() {
        assert_eq!(one("at"), (Type::Timestamp, Value::Time(1_480_000_000_123_456)));
        assert_eq!(one("date_trunc('hour', at)"), (Type::Timestamp, Value::Time(1_479_999_600_000_000)));
        assert_eq!(one("at + INTERVAL '1 second'"), (Type::Timestamp, Value::Time(1_480_000_001_123_456)));
        assert_eq!(one("CAST('2016-11-24' AS DATE)"), (Type::Timestamp, Value::Time(1_479_945_600_000_000)));
        assert_eq!(
            one("CAST('2016-11-24T15:06:40Z' AS TIMESTAMP)"),
            (Type::Timestamp, Value::Time(1_480_000_000_000_000))
        );
        assert_eq!(one("at >= '2016-11-24T00:00:00Z'"), (Type::Bool, Value::Bool(true)));
        assert_eq!(one("extract(hour FROM at)"), (Type::Int64, Value::Int(15)));
        assert_eq!(one("extract(epoch FROM at)").0, Type::Float64);
    }

    #[test]
    fn a_row_that_fails_fails_alone() {
        let rows: Vec<_> = (0..100).map(|i| row(i % 10 - 5, 1.0, "7")).collect();
        let (_, values, errors) = eval("100 / id", &rows);
        assert_eq!(errors.len(), 10);
        for (i, v) in values.iter().enumerate() {
            let id = i as i64 % 10 - 5;
            assert_eq!(*v, if id == 0 { Value::Null } else { Value::Int(100 / id) });
            assert_eq!(errors.iter().any(|(r, _)| *r == i), id == 0);
        }
        assert!(errors[0].1.to_lowercase().contains("divide by zero"), "{}", errors[0].1);
    }

    #[test]
    fn a_guarded_row_does_not_fail() {
        let rows: Vec<_> = (0..50).map(|i| row(i % 10 - 5, 1.0, "7")).collect();
        assert_eq!(eval("id <> 0 AND 10 / id > 2", &rows).2, []);
        assert_eq!(eval("CASE WHEN id = 0 THEN 0 ELSE 10 / id END", &rows).2, []);
        assert_eq!(eval("10 / nullif(id, 0)", &rows).2, []);
    }

    #[test]
    fn overflow_and_bad_casts_are_errors_of_their_row() {
        let extremes = [row(i64::MAX, 1e300, "x"), row(i64::MIN, 1.0, "12"), row(1, 2.0, "3")];
        let failing = |text: &str| eval(text, &extremes).2.into_iter().map(|e| e.0).collect::<Vec<_>>();
        assert_eq!(failing("id + 1"), [0]);
        assert_eq!(failing("id - 1"), [1]);
        assert_eq!(failing("id * 2"), [0, 1]);
        assert_eq!(failing("-id"), [1]);
        assert_eq!(failing("abs(id)"), [1]);
        assert_eq!(failing("CAST(name AS BIGINT)"), [0]);
        assert_eq!(failing("CAST(Fare AS BIGINT)"), [0]);
        assert_eq!(failing("id % 0"), [0, 1, 2]);
        assert_eq!(failing("Fare / 0"), [0; 0]);
    }

    #[test]
    fn floats_have_one_nan_and_one_zero() {
        let (_, values, _) = eval("Fare * -1.0", &[row(1, 0.0, "")]);
        assert_eq!(values[0], Value::Float(0.0));
        let (_, values, _) = eval("Fare / Fare", &[row(1, 0.0, "")]);
        assert_eq!(values[0], Value::Float(f64::NAN));
    }

    #[test]
    fn what_is_no_function_of_the_row_is_refused() {
        for text in [
            "now()",
            "random()",
            "uuid()",
            "current_timestamp",
            "current_date",
            "current_time",
            "(SELECT 1)",
            "id IN (SELECT 1)",
            "EXISTS (SELECT 1)",
            "sum(id)",
            "count(*)",
            "row_number() OVER ()",
            "$1",
            "?",
            "sum(id) OVER ()",
            "@x",
            "t.id",
            "id AS x",
            "*",
            "id, id",
            "id;",
            "",
            "id +",
            "INTERVAL '1 second'",
            "NULL",
            "struct(id)",
            "[id]",
            "today()",
        ] {
            refuse(text);
        }
    }

    #[test]
    fn a_chain_as_long_as_it_may_be_is_planned_and_computed() {
        let chain = |n: usize| format!("id{}", " + 1".repeat(n));
        assert_eq!(one(&chain(OPERATORS_MAX)).0, Type::Int64);
        assert_eq!(one(&format!("id > 0{}", " AND id <> 7".repeat(OPERATORS_MAX / 2 - 1))).0, Type::Bool);
        assert_eq!(one(&format!("id IN (0{})", ", 1".repeat(10_000))).0, Type::Bool);
        assert!(refuse(&chain(OPERATORS_MAX + 1)).contains("at most 400"));
    }

    #[test]
    fn a_message_names_the_nearest() {
        assert_eq!(refuse("fare + 1"), "there is no column `fare`; did you mean `Fare`?");
        assert_eq!(refuse("uper(name)"), "there is no function `uper`; did you mean `upper`?");
        assert!(refuse("sum(id)").contains("`aggregate` step"));
        assert!(refuse("now()").contains("another value each time"), "{}", refuse("now()"));
        assert!(refuse("INTERVAL '1 second'").contains("cast it"));
    }

    #[test]
    fn it_knows_its_columns() {
        let e = Expression::parse("Fare + id", &schema()).unwrap();
        assert_eq!((e.columns, e.nullable), (vec![0, 1], true));
        let e = Expression::parse("id", &schema()).unwrap();
        assert_eq!((e.as_column(), e.nullable), (Some(0), false));
        assert_eq!(Expression::parse("id + 0", &schema()).unwrap().columns, [0]);
    }
}
