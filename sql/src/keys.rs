//! Which part of a relation's keys a query's conditions leave: so that a key is looked up, and not looked for.
//!
//! Every range is at least what the conditions leave, never less; the conditions are still applied to what is read.

use std::collections::BTreeSet;

use datafusion::common::ScalarValue;
use datafusion::logical_expr::expr::InList;
use datafusion::logical_expr::{Between, BinaryExpr, Expr, Operator};
use types::{RowCodec, Schema, Type, Value};

/// Keys that are looked up at most; more are a scan.
const RANGES_MAX: usize = 1_024;

/// A part of the keys, in the bytes of the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Keys {
    /// One.
    One(Vec<u8>),
    /// Those from, included, to, excluded; `None`: to the end.
    Span(Vec<u8>, Option<Vec<u8>>),
}

/// What a condition says of a column.
#[derive(Clone, Debug, PartialEq)]
enum Condition {
    /// It is one of these.
    In(BTreeSet<Value>),
    /// It is not below and not above. Nulls are neither.
    Within(Option<Value>, Option<Value>),
}

/// Whether a condition may leave a part of the keys out.
pub(super) fn is_useful(schema: &Schema, condition: &Expr) -> bool {
    read(schema, condition).is_some_and(|(column, _)| schema.key.contains(&column))
}

/// The parts of the keys, ascending and apart from each other; `None`: all of them.
pub(super) fn ranges(codec: &RowCodec, conditions: &[Expr]) -> Option<Vec<Keys>> {
    let schema = codec.schema();
    let conditions: Vec<(usize, Condition)> = conditions.iter().filter_map(|c| read(schema, c)).collect();
    let mut prefixes: Vec<Vec<Value>> = vec![Vec::new()];
    let mut within = None;
    let mut used = 0;
    for column in &schema.key {
        let of_column = conditions.iter().filter(|(c, _)| c == column).map(|(_, condition)| condition.clone());
        let Some(condition) = of_column.reduce(both) else { break };
        match condition {
            Condition::In(values) if prefixes.len() * values.len() <= RANGES_MAX => {
                prefixes = prefixes
                    .iter()
                    .flat_map(|p| values.iter().map(move |v| p.iter().cloned().chain([v.clone()]).collect()))
                    .collect();
                used += 1;
            }
            Condition::In(_) => break,
            Condition::Within(from, to) => {
                within = Some((from, to));
                break;
            }
        }
    }
    if used == 0 && within.is_none() {
        return None;
    }
    let whole = used == schema.key.len();
    let range = |prefix: &Vec<Value>| {
        let bytes = codec.prefix_of(prefix);
        if whole {
            return Some(Keys::One(bytes));
        }
        let with = |value: &Value| codec.prefix_of(&prefix.iter().cloned().chain([value.clone()]).collect::<Vec<_>>());
        let (from, to) = within.as_ref().map_or((None, None), |(from, to)| (from.as_ref(), to.as_ref()));
        let to = after(to.map_or_else(|| bytes.clone(), with));
        let from = from.map_or(bytes, with);
        let empty = to.as_ref().is_some_and(|to| from >= *to);
        (!empty).then_some(Keys::Span(from, to))
    };
    Some(prefixes.iter().filter_map(range).collect())
}

/// The first bytes behind all that begin with these.
fn after(mut prefix: Vec<u8>) -> Option<Vec<u8>> {
    while prefix.pop_if(|last| *last == u8::MAX).is_some() {}
    *prefix.last_mut()? += 1;
    Some(prefix)
}

/// Two conditions of one column at once, or the tighter one.
fn both(a: Condition, b: Condition) -> Condition {
    match (a, b) {
        (Condition::In(a), Condition::In(b)) => Condition::In(a.intersection(&b).cloned().collect()),
        (Condition::In(a), Condition::Within(..)) | (Condition::Within(..), Condition::In(a)) => Condition::In(a),
        (Condition::Within(a, b), Condition::Within(c, d)) => {
            let tighter = |x: Option<Value>, y: Option<Value>, pick: fn(Value, Value) -> Value| match (x, y) {
                (Some(x), Some(y)) => Some(pick(x, y)),
                (x, y) => x.or(y),
            };
            Condition::Within(tighter(a, c, Ord::max), tighter(b, d, Ord::min))
        }
    }
}

/// The column a condition is about, and what it says of it; `None`: nothing that could be used.
fn read(schema: &Schema, condition: &Expr) -> Option<(usize, Condition)> {
    match condition {
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::Or, right }) => {
            let ((a, Condition::In(mut x)), (b, Condition::In(y))) = (read(schema, left)?, read(schema, right)?) else {
                return None;
            };
            x.extend(y);
            (a == b).then_some((a, Condition::In(x)))
        }
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::And, right }) => {
            let ((a, x), (b, y)) = (read(schema, left)?, read(schema, right)?);
            (a == b).then(|| (a, both(x, y)))
        }
        Expr::BinaryExpr(BinaryExpr { left, op, right }) => {
            let (column, op, literal) = match (column(schema, left), column(schema, right)) {
                (Some(c), None) => (c, *op, right),
                (None, Some(c)) => (c, op.swap()?, left),
                _ => return None,
            };
            let value = literal_of(schema, column, literal)?;
            let condition = match op {
                Operator::Eq => Condition::In(BTreeSet::from([value])),
                Operator::Gt | Operator::GtEq => Condition::Within(Some(value), None),
                Operator::Lt | Operator::LtEq => Condition::Within(None, Some(value)),
                _ => return None,
            };
            Some((column, condition))
        }
        Expr::InList(InList { expr, list, negated: false }) => {
            let column = column(schema, expr)?;
            let values = list.iter().map(|e| literal_of(schema, column, e)).collect::<Option<_>>()?;
            Some((column, Condition::In(values)))
        }
        Expr::Between(Between { expr, negated: false, low, high }) => {
            let column = column(schema, expr)?;
            let (low, high) = (literal_of(schema, column, low)?, literal_of(schema, column, high)?);
            Some((column, Condition::Within(Some(low), Some(high))))
        }
        Expr::IsNull(expr) => Some((column(schema, expr)?, Condition::In(BTreeSet::from([Value::Null])))),
        _ => None,
    }
}

fn column(schema: &Schema, expr: &Expr) -> Option<usize> {
    match expr {
        Expr::Column(c) => schema.index_of(&c.name),
        _ => None,
    }
}

/// A literal as a cell of a column. Only of the very type: what a cast would change is left to the query.
fn literal_of(schema: &Schema, column: usize, expr: &Expr) -> Option<Value> {
    let Expr::Literal(literal, _) = expr else { return None };
    Some(match (schema.columns[column].ty, literal) {
        (Type::Bool, ScalarValue::Boolean(Some(v))) => Value::Bool(*v),
        (Type::Int64, ScalarValue::Int64(Some(v))) => Value::Int(*v),
        // There are several NaNs in a query and one in the store.
        (Type::Float64, ScalarValue::Float64(Some(v))) if !v.is_nan() => Value::Float(if *v == 0.0 { 0.0 } else { *v }),
        (
            Type::String,
            ScalarValue::Utf8(Some(v)) | ScalarValue::LargeUtf8(Some(v)) | ScalarValue::Utf8View(Some(v)),
        ) => Value::Str(v.clone()),
        (Type::Timestamp, ScalarValue::TimestampMicrosecond(Some(v), Some(zone))) if &**zone == "UTC" => {
            Value::Time(*v)
        }
        (Type::Decimal, ScalarValue::Decimal128(Some(v), _, 0)) => Value::Decimal(*v),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use datafusion::prelude::{col, lit};
    use types::Column;

    fn schema() -> Schema {
        let column = |name: &str, ty| Column { name: name.into(), ty, nullable: true };
        Schema {
            columns: vec![column("price", Type::Float64), column("id", Type::Int64), column("city", Type::String)],
            key: vec![2, 1],
            event_time: None,
            append_only: false,
        }
    }

    /// Keys of a few cities and numbers with what the ranges leave of them, beside what the conditions themselves do.
    fn check(conditions: &[Expr], holds: impl Fn(&str, i64) -> bool, read: usize) {
        let codec = RowCodec::new(&schema());
        let ranges = ranges(&codec, conditions);
        let mut left = 0;
        for city in ["", "a", "ab", "b", "zz\u{10ffff}"] {
            for id in [i64::MIN, -1, 0, 1, 2, 3, i64::MAX] {
                let key = codec.key_of(&[Value::Str(city.into()), Value::Int(id)]);
                let inside = ranges.as_ref().is_none_or(|ranges| {
                    ranges.iter().any(|r| match r {
                        Keys::One(one) => *one == key,
                        Keys::Span(from, to) => *from <= key && to.as_ref().is_none_or(|to| key < *to),
                    })
                });
                assert!(inside || !holds(city, id), "{city} {id} is lost to {conditions:?}");
                left += usize::from(inside);
            }
        }
        assert_eq!(left, read, "{conditions:?}: {ranges:?}");
    }

    #[test]
    fn a_key_is_looked_up_and_a_prefix_is_a_range() {
        let one = [col("id").eq(lit(2_i64)), col("city").eq(lit("ab"))];
        check(&one, |c, i| c == "ab" && i == 2, 1);
        assert!(matches!(ranges(&RowCodec::new(&schema()), &one).unwrap()[..], [Keys::One(_)]));
        check(&[col("city").eq(lit("ab"))], |c, _| c == "ab", 7);
        check(&[lit("ab").eq(col("city"))], |c, _| c == "ab", 7);
        check(&[col("city").in_list(vec![lit("b"), lit("a")], false)], |c, _| c == "a" || c == "b", 14);
        check(&[col("city").eq(lit("a")).or(col("city").eq(lit("b")))], |c, _| c == "a" || c == "b", 14);
        check(&[col("city").eq(lit("none"))], |c, _| c == "none", 0);
    }

    #[test]
    fn bounds_of_the_first_open_column_are_used() {
        let city = || col("city").eq(lit("a"));
        check(&[city(), col("id").gt(lit(0_i64))], |c, i| c == "a" && i > 0, 5);
        check(&[city(), col("id").lt(lit(0_i64))], |c, i| c == "a" && i < 0, 3);
        check(&[city(), col("id").between(lit(0_i64), lit(2_i64))], |c, i| c == "a" && (0..=2).contains(&i), 3);
        check(&[city(), col("id").gt_eq(lit(2_i64)), col("id").lt_eq(lit(1_i64))], |_, _| false, 0);
        check(&[col("city").gt_eq(lit("b"))], |c, _| c >= "b", 14);
        check(&[col("city").lt_eq(lit("a"))], |c, _| c <= "a", 14);
    }

    #[test]
    fn what_cannot_be_used_leaves_everything() {
        check(&[col("id").eq(lit(1_i64))], |_, i| i == 1, 35);
        check(&[col("price").eq(lit(1.0))], |_, _| true, 35);
        check(&[col("city").not_eq(lit("a"))], |c, _| c != "a", 35);
        check(&[col("city").in_list(vec![lit("b")], true)], |c, _| c != "b", 35);
        check(&[col("city").eq(lit("a")).or(col("id").eq(lit(1_i64)))], |c, i| c == "a" || i == 1, 35);
        check(&[col("city").eq(lit(ScalarValue::Utf8(None)))], |_, _| false, 35);
        assert!(!is_useful(&schema(), &col("price").eq(lit(1.0))));
        assert!(is_useful(&schema(), &col("id").eq(lit(1_i64))));
    }

    #[test]
    fn too_many_keys_are_a_scan() {
        let many = (0..2_000).map(|i| lit(format!("c{i}"))).collect();
        check(&[col("city").in_list(many, false)], |_, _| false, 35);
    }
}
