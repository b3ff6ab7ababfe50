//! How large a query's plan becomes, told from its text: so that what would take for ever to plan is refused before.
//!
//! Two things grow with the depth of a query in powers, in a few lines of text, while it is planned and cannot be
//! cancelled: a query of `WITH` that is named twice is planned twice, and a condition on a column that is computed of
//! another is rewritten into a condition on that other, as often as it is named.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    Expr, ObjectName, Query, SelectItem, SetExpr, Visit, Visitor, visit_expressions,
};
use engine::query::Error;

/// Tables that are read, each as often as it would be planned.
const READ_MAX: u64 = 1_000;
/// How often the columns of tables are named in the columns of the answer, written out.
const NAMED_MAX: u64 = 2_000;

/// Refuses a query whose plan grows too much.
pub(super) fn check(statement: &impl Visit) -> Result<(), Error> {
    let mut measure = Measure { levels: vec![Level::default()] };
    match statement.visit(&mut measure) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(message) => Err(Error::Bad(message)),
    }
}

/// How large a query is.
#[derive(Clone, Copy, Debug)]
struct Size {
    read: u64,
    named: u64,
}

/// A query that is being looked at.
#[derive(Default)]
struct Level {
    /// The queries of its `WITH` by the place where they stand, with their names.
    names: Vec<(*const Query, String)>,
    /// Those that have been looked at.
    known: BTreeMap<String, Size>,
    read: u64,
    named: u64,
}

struct Measure {
    levels: Vec<Level>,
}

impl Measure {
    fn add(&mut self, size: Size) -> ControlFlow<String> {
        if size.read > READ_MAX {
            return ControlFlow::Break(format!(
                "the query would read views more than {READ_MAX} times: it names queries of WITH again and again"
            ));
        }
        if size.named > NAMED_MAX {
            return ControlFlow::Break(format!(
                "written out, a column of the query would name others more than {NAMED_MAX} times: compute it in fewer steps"
            ));
        }
        if let Some(level) = self.levels.last_mut() {
            level.read = level.read.saturating_add(size.read);
            level.named = level.named.max(size.named);
        }
        ControlFlow::Continue(())
    }
}

impl Visitor for Measure {
    type Break = String;

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<String> {
        let ctes = query.with.iter().flat_map(|with| &with.cte_tables);
        let names = ctes.map(|cte| (std::ptr::from_ref(&*cte.query), cte.alias.name.value.clone())).collect();
        self.levels.push(Level { names, ..Level::default() });
        ControlFlow::Continue(())
    }

    fn pre_visit_relation(&mut self, name: &ObjectName) -> ControlFlow<String> {
        let name = name.0.last().map(|part| part.to_string().trim_matches('"').to_owned()).unwrap_or_default();
        let known = self.levels.iter().rev().find_map(|level| level.known.get(&name));
        let size = known.copied().unwrap_or(Size { read: 1, named: 1 });
        self.add(size)
    }

    fn post_visit_query(&mut self, query: &Query) -> ControlFlow<String> {
        let level = self.levels.pop().unwrap_or_default();
        let named = level.named.max(1).saturating_mul(spread(&query.body));
        let size = Size { read: level.read.max(1), named };
        let above = self.levels.last_mut();
        let name = above.as_ref().and_then(|l| l.names.iter().find(|(at, _)| std::ptr::eq(*at, query)));
        match (name.map(|(_, name)| name.clone()), above) {
            // Counted where it is named.
            (Some(name), Some(above)) => {
                above.known.insert(name, size);
                ControlFlow::Continue(())
            }
            _ => self.add(size),
        }
    }
}

/// How often the columns of a select name columns, at most.
fn spread(body: &SetExpr) -> u64 {
    match body {
        SetExpr::Select(select) => select.projection.iter().map(names).max().unwrap_or(1).max(1),
        SetExpr::SetOperation { left, right, .. } => spread(left).max(spread(right)),
        // Queries are looked at by themselves.
        _ => 1,
    }
}

fn names(item: &SelectItem) -> u64 {
    let mut count = 0;
    let _ = visit_expressions(item, |e| {
        count += u64::from(matches!(e, Expr::Identifier(_) | Expr::CompoundIdentifier(_)));
        ControlFlow::<()>::Continue(())
    });
    count
}

#[cfg(test)]
mod tests {
    use super::*;
    use datafusion::sql::sqlparser::dialect::GenericDialect;
    use datafusion::sql::sqlparser::parser::Parser;

    fn refusal(sql: &str) -> Option<String> {
        let statements = Parser::parse_sql(&GenericDialect {}, sql).unwrap();
        check(&statements[0]).err().map(|e| e.to_string())
    }

    fn chain(count: usize, step: &str) -> String {
        let steps: Vec<String> =
            (1..=count).map(|i| format!("c{i} AS ({})", step.replace('#', &(i - 1).to_string()))).collect();
        format!("WITH c0 AS (SELECT id AS x FROM orders), {} SELECT * FROM c{count} WHERE x > 0", steps.join(", "))
    }

    #[test]
    fn what_doubles_with_every_line_is_refused() {
        for (step, why) in [
            ("SELECT * FROM c# UNION ALL SELECT * FROM c#", "views more than"),
            ("SELECT a.x FROM c# a, c# b", "views more than"),
            ("SELECT x FROM c# WHERE x IN (SELECT x FROM c#)", "views more than"),
            ("SELECT x + x AS x FROM c#", "name others"),
            ("SELECT x FROM (SELECT x * x AS x FROM c#) AS y", "name others"),
        ] {
            let message = refusal(&chain(40, step)).unwrap_or_else(|| panic!("{step} is taken"));
            assert!(message.contains(why), "{step}: {message}");
            assert_eq!(refusal(&chain(4, step)), None, "{step}");
        }
        let inner = format!("SELECT * FROM ({}) AS y", chain(40, "SELECT a.x FROM c# a, c# b"));
        assert!(refusal(&inner).is_some());
        let nested = (0..12).fold("orders".to_owned(), |from, _| format!("(SELECT id + id AS id FROM {from}) AS y"));
        assert!(refusal(&format!("SELECT id FROM {nested}")).is_some());
    }

    #[test]
    fn long_queries_that_do_not_grow_are_taken() {
        assert_eq!(refusal(&chain(200, "SELECT x FROM c#")), None);
        assert_eq!(refusal(&chain(200, "SELECT x + 1 AS x FROM c#")), None);
        assert_eq!(
            refusal("WITH RECURSIVE n AS (SELECT 1 AS i UNION ALL SELECT i + 1 FROM n WHERE i < 9) SELECT * FROM n"),
            None
        );
        let wide: Vec<String> = (0..300).map(|i| format!("SELECT a + b + {i} AS x FROM orders")).collect();
        assert_eq!(refusal(&wide.join(" UNION ALL ")), None);
        // The name of a table is not that of a query elsewhere.
        assert_eq!(refusal("SELECT * FROM (WITH a AS (SELECT 1) SELECT * FROM a) AS x, a"), None);
    }
}
