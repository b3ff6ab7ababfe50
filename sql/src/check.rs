//! What is refused before it is planned: text too large to plan, statements that are no query, tables there are not.

use std::sync::Arc;

use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::execution::SessionState;
use datafusion::logical_expr::LogicalPlan;
use datafusion::sql::parser::{DFParserBuilder, Statement};
use datafusion::sql::sqlparser::ast;
use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::tokenizer::{Token, Tokenizer};
use engine::query::Error;

use super::catalog::{CATALOG, Relation, SCHEMA};
use super::failure::planning;
use super::growth;

/// Bytes of a query.
const BYTES_MAX: usize = 64 << 10;
/// Operators, brackets and keywords of a query: what it is as deep as. The stack is measured against it.
const OPERATORS_MAX: usize = 400;
/// Signs of arithmetic. Planning takes time in more than the square of their number.
const SIGNS_MAX: usize = 100;
/// How deep expressions and subqueries may be nested, as the parser counts. Where it gives up inside of brackets it tries
/// what else each of them might be, so it must give up soon: its work doubles with each level.
const NESTING_MAX: usize = 20;
/// Nodes of a plan. A query that names another several times, which names another several times, doubles each time.
const NODES_MAX: usize = 4_000;
/// Scans of relations.
const SCANS_MAX: usize = 100;

/// Refuses text whose plan would be deeper than the stack it is planned on: a chain of operators is as deep as it is
/// long. Names, literals and commas only make it wide.
pub(super) fn size(sql: &str) -> Result<(), Error> {
    if sql.len() > BYTES_MAX {
        return Err(Error::Bad(format!("the query has {} bytes; at most {BYTES_MAX} are taken", sql.len())));
    }
    let tokens = Tokenizer::new(&GenericDialect {}, sql).tokenize();
    let tokens = tokens.map_err(|e| Error::Bad(e.to_string()))?;
    let signs = tokens.iter().filter(|t| matches!(t, Token::Plus | Token::Minus | Token::Mul)).count();
    if signs > SIGNS_MAX {
        return Err(Error::Bad(format!("the query has {signs} of the operators + - *; at most {SIGNS_MAX} are taken")));
    }
    let operators = tokens.iter().filter(|token| match token {
        Token::Word(word) => word.quote_style.is_none() && word.keyword != Keyword::NoKeyword,
        Token::Whitespace(_) | Token::Comma | Token::Number(..) | Token::SingleQuotedString(_) => false,
        _ => true,
    });
    match operators.count() {
        0..=OPERATORS_MAX => Ok(()),
        count => Err(Error::Bad(format!(
            "the query has {count} operators, brackets and keywords; at most {OPERATORS_MAX} are taken"
        ))),
    }
}

/// The one query of a text.
pub(super) fn statement(sql: &str) -> Result<Statement, Error> {
    let parser = DFParserBuilder::new(sql).with_dialect(&GenericDialect {}).with_recursion_limit(NESTING_MAX).build();
    let mut statements = parser.and_then(|mut p| p.parse_statements()).map_err(planning)?;
    let Some(statement) = statements.pop_front() else {
        return Err(Error::Bad("there is no query in the text".into()));
    };
    if !statements.is_empty() {
        return Err(Error::Bad("there are several statements: one is answered at a time".into()));
    }
    if let Some(query) = query(&statement) {
        growth::check(query)?;
        return Ok(statement);
    }
    Err(Error::Bad("only SELECT, WITH, VALUES and EXPLAIN are answered: views can be read here, nothing else".into()))
}

/// The query that is asked or explained.
fn query(statement: &Statement) -> Option<&ast::Query> {
    let inner = match statement {
        Statement::Statement(s) => s,
        Statement::Explain(e) => match &*e.statement {
            Statement::Statement(s) => s,
            _ => return None,
        },
        _ => return None,
    };
    match &**inner {
        ast::Statement::Query(query) => Some(query),
        _ => None,
    }
}

/// Refuses tables that are none, with the nearest that is one.
pub(super) fn tables(state: &SessionState, statement: &Statement, known: &[Arc<Relation>]) -> Result<(), Error> {
    for table in state.resolve_table_references(statement).map_err(planning)? {
        let full = table.clone().resolve(CATALOG, SCHEMA);
        let schema = state.catalog_list().catalog(&full.catalog).and_then(|c| c.schema(&full.schema));
        if &*full.schema == "information_schema" || schema.is_some_and(|s| s.table_exist(&full.table)) {
            continue;
        }
        // As it was written: with dots or without.
        let got = table.to_string();
        let near = known
            .iter()
            .map(|r| (strsim::damerau_levenshtein(&r.name.to_lowercase(), &got.to_lowercase()), &r.name))
            .filter(|(distance, name)| *distance <= 1 + name.len().max(got.len()) / 3)
            .min();
        let near = near.map_or_else(String::new, |(_, name)| format!("; did you mean `{}`?", written(name)));
        return Err(Error::Bad(format!("there is no view `{got}`{near}")));
    }
    Ok(())
}

/// A relation's name as it can stand in a query.
fn written(name: &str) -> String {
    let plain = |part: &str| {
        part.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
            && part.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
    };
    if name.split('.').all(plain) && name.split('.').count() <= 2 { name.to_owned() } else { format!("\"{name}\"") }
}

/// Refuses plans that take too long to look at. Looks at no more of it than it takes to know.
pub(super) fn plan(plan: &LogicalPlan) -> Result<(), Error> {
    let (mut nodes, mut scans) = (0, 0);
    let looked = plan.apply_with_subqueries(|node| {
        nodes += 1;
        scans += usize::from(matches!(node, LogicalPlan::TableScan(_)));
        Ok(if nodes > NODES_MAX || scans > SCANS_MAX { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    });
    looked.map_err(planning)?;
    if scans > SCANS_MAX {
        return Err(Error::Bad(format!("the query reads views more than {SCANS_MAX} times")));
    }
    if nodes > NODES_MAX {
        return Err(Error::Bad(format!("the query's plan has more than {NODES_MAX} nodes")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(sql: &str) -> String {
        match size(sql).and_then(|()| statement(sql)) {
            Ok(_) => panic!("taken: {sql}"),
            Err(e) => e.to_string(),
        }
    }

    #[test]
    fn queries_are_taken_and_nothing_else_is() {
        for sql in [
            "SELECT 1",
            "select 1;",
            "WITH a AS (SELECT 1) SELECT * FROM a",
            "VALUES (1), (2)",
            "EXPLAIN SELECT 1",
            "EXPLAIN ANALYZE SELECT 1",
            "(SELECT 1) UNION ALL (SELECT 2)",
        ] {
            assert!(statement(sql).is_ok(), "{sql}: {}", refusal(sql));
        }
        for sql in [
            "CREATE TABLE t AS SELECT 1",
            "CREATE EXTERNAL TABLE t STORED AS CSV LOCATION '/etc/passwd'",
            "CREATE VIEW v AS SELECT 1",
            "COPY (SELECT 1) TO '/tmp/x'",
            "COPY orders TO 'x.csv'",
            "INSERT INTO orders VALUES (1)",
            "DELETE FROM orders",
            "UPDATE orders SET id = 1",
            "DROP TABLE orders",
            "SET datafusion.execution.batch_size = 1",
            "RESET datafusion.execution.batch_size",
            "SHOW ALL",
            "BEGIN",
            "PREPARE p AS SELECT 1",
            "EXECUTE p",
            "EXPLAIN INSERT INTO orders VALUES (1)",
            "EXPLAIN COPY orders TO 'x.csv'",
            "EXPLAIN EXPLAIN SELECT 1",
            "DESCRIBE orders",
            "TRUNCATE TABLE orders",
            "LOAD DATA INPATH 'x' INTO TABLE t",
        ] {
            let _ = refusal(sql);
        }
        assert!(refusal("SELECT 1; SELECT 2").contains("several statements"));
        assert!(refusal(" ; ").contains("no query"));
        assert!(refusal("").contains("no query"));
    }

    #[test]
    fn what_is_too_deep_or_too_long_is_refused() {
        assert!(refusal(&format!("SELECT {}1{}", "(".repeat(100), ")".repeat(100))).contains("nested"));
        assert!(refusal(&format!("SELECT {}1{}", "(".repeat(1_000), ")".repeat(1_000))).contains("brackets"));
        assert!(refusal(&format!("SELECT 1{}", "+1".repeat(5_000))).contains("operators"));
        assert!(refusal(&format!("SELECT '{}'", "x".repeat(70_000))).contains("bytes"));
        assert!(size(&format!("SELECT 1 IN ({}1)", "1,".repeat(10_000))).is_ok());
    }

    #[test]
    fn names_are_given_as_they_can_be_written() {
        assert_eq!(written("orders"), "orders");
        assert_eq!(written("match.prices"), "match.prices");
        assert_eq!(written("my-view"), "\"my-view\"");
    }
}
