//! SQL over views: against the same answer computed by hand from rows, over every type, at older epochs, and with
//! everything that is refused. The store's epochs are made by hand; the edge is in `sql_http.rs`.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value as Json, json};
use storage::{EpochCommit, RelationKind, RelationSpec, Store};
use types::{ChangeSet, Column, Epoch, Remap, RowCodec, Schema, Type, Value, fault_schema};

fn schema(columns: &[(&str, Type)], key: &[usize]) -> Schema {
    let column = |(name, ty): &(&str, Type)| Column { name: (*name).into(), ty: *ty, nullable: true };
    Schema { columns: columns.iter().map(column).collect(), key: key.to_vec(), event_time: None, append_only: false }
}

fn orders() -> Schema {
    schema(&[("city", Type::String), ("id", Type::Int64), ("price", Type::Float64)], &[0, 1])
}

fn cities() -> Schema {
    schema(&[("name", Type::String), ("Region", Type::String), ("factor", Type::Int64)], &[0])
}

fn kinds() -> Schema {
    schema(
        &[
            ("n", Type::Int64),
            ("i", Type::Int64),
            ("f", Type::Float64),
            ("s", Type::String),
            ("b", Type::Bool),
            ("t", Type::Timestamp),
            ("d", Type::Decimal),
        ],
        &[0],
    )
}

/// A store with `orders`, `cities`, `step.kinds`, faults, and an operator's state.
struct Fixture {
    store: Store,
    _folder: tempfile::TempDir,
}

/// Upserts, in any order.
fn changes(schema: &Schema, rows: &[Vec<Value>]) -> ChangeSet {
    let codec = RowCodec::new(schema);
    let mut changes: Vec<(Vec<u8>, Vec<u8>)> = rows
        .iter()
        .map(|row| {
            let batch = codec.batch(std::slice::from_ref(row));
            (codec.keys(&batch).row(0).data().to_vec(), codec.values(&batch).row(0).data().to_vec())
        })
        .collect();
    changes.sort();
    let mut set = ChangeSet::new();
    for (key, after) in &changes {
        set.push(key, None, Some(after));
    }
    set
}

fn order(city: &str, id: i64, price: f64) -> Vec<Value> {
    vec![Value::Str(city.into()), Value::Int(id), Value::Float(price)]
}

fn city(name: &str, region: &str, factor: i64) -> Vec<Value> {
    vec![Value::Str(name.into()), Value::Str(region.into()), Value::Int(factor)]
}

impl Fixture {
    fn empty() -> Fixture {
        let folder = tempfile::tempdir().unwrap();
        let spec = |name: &str, kind, schema: &Schema| RelationSpec {
            name: name.into(),
            kind,
            schema: serde_json::to_string(schema).unwrap(),
        };
        let store = Store::open(storage::Options {
            plan: "test".into(),
            relations: vec![
                spec("orders", RelationKind::View, &orders()),
                spec("cities", RelationKind::Table, &cities()),
                spec("step.kinds", RelationKind::View, &kinds()),
                spec("faults", RelationKind::Faults, &fault_schema()),
                spec("step.state", RelationKind::State, &cities()),
            ],
            retain_epochs: 1_000,
            ..storage::Options::new(folder.path())
        });
        Fixture { store: store.unwrap(), _folder: folder }
    }

    /// With some rows of each, in epoch 1.
    fn new() -> Fixture {
        let fixture = Fixture::empty();
        let rows: Vec<Vec<Value>> = (0..300)
            .map(|i| order(["ams", "ber", "cph", "nowhere"][i as usize % 4], i * 7 % 100, i as f64 / 4.0))
            .collect();
        let by_key: BTreeMap<(Value, Value), Vec<Value>> =
            rows.into_iter().map(|r| ((r[0].clone(), r[1].clone()), r)).collect();
        let rows: Vec<Vec<Value>> = by_key.into_values().collect();
        let extremes = vec![
            vec![
                Value::Int(1),
                Value::Int(i64::MAX),
                Value::Float(f64::NAN),
                Value::Str("a \"b\" ä\n".into()),
                Value::Bool(true),
                Value::Time(1_480_000_000_123_456),
                Value::Decimal(10_i128.pow(37)),
            ],
            vec![
                Value::Int(2),
                Value::Int(i64::MIN),
                Value::Float(f64::NEG_INFINITY),
                Value::Str(String::new()),
                Value::Bool(false),
                Value::Time(-1),
                Value::Decimal(-5),
            ],
            vec![Value::Int(3), Value::Null, Value::Null, Value::Null, Value::Null, Value::Null, Value::Null],
        ];
        fixture.commit(vec![
            ("orders", changes(&orders(), &rows)),
            ("cities", changes(&cities(), &[city("ams", "west", 1), city("ber", "east", 2), city("cph", "north", 3)])),
            ("step.kinds", changes(&kinds(), &extremes)),
        ]);
        fixture
    }

    fn commit(&self, relations: Vec<(&str, ChangeSet)>) -> Epoch {
        let epoch = self.store.committed() + 1;
        self.store.log_remap(&Remap { epoch, clock_ms: 5, ..Remap::default() }).unwrap();
        let relations = relations.into_iter().map(|(name, set)| (self.store.relation(name).unwrap(), set)).collect();
        self.store.commit(EpochCommit { epoch, relations }).unwrap();
        self.store.publish(epoch);
        epoch
    }

    fn ask_as(&self, sql: &str, accept: &str, as_of: Option<Epoch>) -> Result<Vec<u8>, (&'static str, String)> {
        self.ask_within(sql, accept, as_of, &api::Options::default())
    }

    fn ask_within(
        &self,
        sql: &str,
        accept: &str,
        as_of: Option<Epoch>,
        options: &api::Options,
    ) -> Result<Vec<u8>, (&'static str, String)> {
        let snapshot = self.store.snapshot(as_of).unwrap();
        api::run_query(sql::run, snapshot, sql, Some(accept), options).map_err(|(code, message)| (code.name, message))
    }

    fn ask(&self, sql: &str) -> Json {
        match self.ask_as(sql, "application/json", None) {
            Ok(bytes) => serde_json::from_slice(&bytes).unwrap(),
            Err((code, message)) => panic!("{sql}: {code}: {message}"),
        }
    }

    fn rows(&self, sql: &str) -> Json {
        self.ask(sql)["rows"].take()
    }

    fn refusal(&self, sql: &str) -> (&'static str, String) {
        match self.ask_as(sql, "application/json", None) {
            Ok(bytes) => panic!("{sql} was answered: {}", String::from_utf8_lossy(&bytes)),
            Err(refusal) => refusal,
        }
    }

    /// Every row of `orders`, read without SQL.
    fn orders(&self) -> Vec<(String, i64, f64)> {
        let codec = RowCodec::new(&orders());
        let snapshot = self.store.snapshot(None).unwrap();
        let all = std::ops::Bound::Unbounded;
        let rows: Vec<_> =
            snapshot.scan(self.store.relation("orders").unwrap(), all, all).collect::<Result<_, _>>().unwrap();
        let batch = codec.decode(rows.iter().map(|(k, v)| (k.as_slice(), v.as_slice()))).unwrap();
        (0..batch.num_rows())
            .map(|i| match [0, 1, 2].map(|c| Value::at(batch.column(c), i)) {
                [Value::Str(city), Value::Int(id), Value::Float(price)] => (city, id, price),
                other => panic!("{other:?}"),
            })
            .collect()
    }
}

#[test]
fn an_answer_is_its_epoch_its_columns_and_its_rows() {
    let fixture = Fixture::new();
    assert_eq!(
        fixture.ask("SELECT name, factor AS f FROM cities ORDER BY name LIMIT 2"),
        json!({
            "epoch": 1,
            "columns": [
                {"name": "name", "type": "string", "nullable": true},
                {"name": "f", "type": "int64", "nullable": true},
            ],
            "rows": [{"name": "ams", "f": 1}, {"name": "ber", "f": 2}],
        })
    );
    assert_eq!(fixture.rows("SELECT * FROM orders WHERE id < 0"), json!([]));
    let text = |accept| String::from_utf8(fixture.ask_as("SELECT 1 AS a, NULL AS b", accept, None).unwrap()).unwrap();
    assert_eq!(text("application/x-ndjson"), "{\"a\":1,\"b\":null}\n");
    assert_eq!(text("text/csv"), "a,b\r\n1,\r\n");
    let bytes = fixture.ask_as("SELECT name FROM cities", "application/vnd.apache.arrow.stream", None).unwrap();
    let read = arrow::ipc::reader::StreamReader::try_new(bytes.as_slice(), None).unwrap();
    assert_eq!(read.map(|b| b.unwrap().num_rows()).sum::<usize>(), 3);
}

#[test]
fn a_join_of_two_views_is_what_a_loop_over_their_rows_gives() {
    let fixture = Fixture::new();
    let got = fixture.rows(
        "SELECT c.\"Region\" AS region, count(*) AS orders, sum(o.id * c.factor) AS weighted, max(o.price) AS most
         FROM orders o JOIN cities c ON c.name = o.city WHERE o.price > 3 GROUP BY c.\"Region\" ORDER BY region",
    );
    let regions = BTreeMap::from([("ams", ("west", 1)), ("ber", ("east", 2)), ("cph", ("north", 3))]);
    let mut want: BTreeMap<&str, (i64, i64, f64)> = BTreeMap::new();
    for (city, id, price) in fixture.orders() {
        let Some((region, factor)) = regions.get(city.as_str()) else { continue };
        if price > 3.0 {
            let row = want.entry(region).or_insert((0, 0, f64::NEG_INFINITY));
            *row = (row.0 + 1, row.1 + id * factor, row.2.max(price));
        }
    }
    assert_eq!(want.len(), 3);
    let want: Vec<Json> =
        want.iter().map(|(region, r)| json!({"region": region, "orders": r.0, "weighted": r.1, "most": r.2})).collect();
    assert_eq!(got, Json::from(want));
}

#[test]
fn conditions_on_the_key_are_looked_up_and_change_no_answer() {
    let fixture = Fixture::new();
    let all = fixture.orders();
    for (condition, holds) in [
        ("city = 'ber'", (|c, _, _| c == "ber") as fn(&str, i64, f64) -> bool),
        ("city = 'ber' AND id = 7", |c, i, _| c == "ber" && i == 7),
        ("city IN ('ber', 'ams', 'x') AND id BETWEEN 10 AND 20", |c, i, _| c < "c" && (10..=20).contains(&i)),
        ("city = 'ams' OR city = 'cph'", |c, _, _| c == "ams" || c == "cph"),
        ("city >= 'ber' AND city < 'nowhere' AND price > 20", |c, _, p| c >= "ber" && c < "nowhere" && p > 20.0),
        ("city > 'cph'", |c, _, _| c > "cph"),
        ("city = 'ber' AND id > 50 AND id <= 60", |c, i, _| c == "ber" && i > 50 && i <= 60),
        ("city = 'ber' AND id <> 7", |c, i, _| c == "ber" && i != 7),
        ("city LIKE 'b%'", |c, _, _| c.starts_with('b')),
        ("city = 'ber' AND city = 'ams'", |_, _, _| false),
        ("id = 14", |_, i, _| i == 14),
        ("city IS NULL", |_, _, _| false),
        ("'ber' < city", |c, _, _| c > "ber"),
        ("price = 2.5", |_, _, p| p == 2.5),
    ] {
        let got = fixture.rows(&format!("SELECT city, id, price FROM orders WHERE {condition} ORDER BY city, id"));
        let want: Vec<Json> = all
            .iter()
            .filter(|(c, i, p)| holds(c, *i, *p))
            .map(|(c, i, p)| json!({"city": c, "id": i, "price": p}))
            .collect();
        assert_eq!(got, Json::from(want), "{condition}");
        let count = all.iter().filter(|(c, i, p)| holds(c, *i, *p)).count();
        let got = fixture.rows(&format!("SELECT count(*) AS n FROM orders WHERE {condition}"));
        assert_eq!(got, json!([{"n": count}]), "{condition}");
    }
    let plan = fixture.rows("EXPLAIN SELECT price FROM orders WHERE city = 'ber' AND id = 7").to_string();
    assert!(plan.contains("keys=1, ranges=0"), "{plan}");
    let plan = fixture.rows("EXPLAIN SELECT price FROM orders WHERE city = 'ber'").to_string();
    assert!(plan.contains("keys=0, ranges=1"), "{plan}");
    // Rows come in key order: the first ten are read, not all of them sorted.
    let plan = fixture.rows("EXPLAIN SELECT * FROM orders ORDER BY city, id LIMIT 10").to_string();
    assert!(plan.contains("fetch=10") && !plan.contains("SortExec"), "{plan}");
}

#[test]
fn an_older_epoch_is_read_as_it_was() {
    let fixture = Fixture::new();
    let epoch =
        fixture.commit(vec![("cities", changes(&cities(), &[city("dub", "west", 4), city("oslo", "north", 5)]))]);
    let names = |as_of| {
        let bytes = fixture.ask_as("SELECT name FROM cities ORDER BY name DESC", "text/csv", as_of).unwrap();
        String::from_utf8(bytes).unwrap().replace("\r\n", " ")
    };
    assert_eq!(names(Some(epoch)), "name oslo dub cph ber ams ");
    assert_eq!(names(None), "name oslo dub cph ber ams ");
    assert_eq!(names(Some(1)), "name cph ber ams ");
    assert_eq!(names(Some(0)), "name ");
}

#[test]
fn every_type_comes_and_goes() {
    let fixture = Fixture::new();
    let rows = fixture.rows("SELECT * FROM step.kinds ORDER BY n");
    assert_eq!(
        rows[0],
        json!({
            "n": 1, "i": i64::MAX, "f": "NaN", "s": "a \"b\" ä\n", "b": true, "t": "2016-11-24T15:06:40.123456Z",
            "d": serde_json::from_str::<Json>("10000000000000000000000000000000000000").unwrap(),
        })
    );
    assert_eq!(rows[1]["f"], "-Infinity");
    assert_eq!(rows[1]["t"], "1969-12-31T23:59:59.999999Z");
    assert_eq!(rows[2], json!({"n": 3, "i": null, "f": null, "s": null, "b": null, "t": null, "d": null}));
    // By its whole name, in quotes, too.
    assert_eq!(fixture.rows("SELECT * FROM \"step.kinds\" ORDER BY n"), rows);
    assert_eq!(fixture.rows("SELECT k.n FROM views.\"step.kinds\" AS k WHERE k.b"), json!([{"n": 1}]));
    assert_eq!(fixture.rows("SELECT n FROM step.kinds WHERE t = '2016-11-24T15:06:40.123456Z'"), json!([{"n": 1}]));
    assert_eq!(fixture.rows("SELECT n FROM step.kinds WHERE isnan(f)"), json!([{"n": 1}]));
    assert_eq!(fixture.rows("SELECT n FROM step.kinds WHERE d = -5"), json!([{"n": 2}]));
    // Nulls first, as in the store.
    assert_eq!(fixture.rows("SELECT n FROM step.kinds ORDER BY i"), json!([{"n": 3}, {"n": 2}, {"n": 1}]));
    assert_eq!(
        fixture
            .rows("SELECT date_trunc('year', t) AS y, CAST(t AS DATE) AS d, t - t AS none FROM step.kinds WHERE n = 1"),
        json!([{"y": "2016-01-01T00:00:00Z", "d": "2016-11-24T00:00:00Z", "none": "P0D"}])
    );
    assert_eq!(
        fixture.rows("SELECT 1.5 AS a, CAST(1.5 AS DECIMAL(10, 2)) AS b, 'x' || 1 AS c, length('äb') AS d, -0.0 AS e"),
        json!([{"a": 1.5, "b": 1.5, "c": "x1", "d": 2, "e": -0.0}])
    );
    assert_eq!(
        fixture.rows("SELECT count(*) AS n, count(i) AS i, count(DISTINCT b) AS b FROM step.kinds"),
        json!([{"n": 3, "i": 2, "b": 2}])
    );
}

#[test]
fn integers_never_wrap_around() {
    let fixture = Fixture::new();
    for sql in [
        "SELECT 9223372036854775807 + 1",
        "SELECT i + 1 FROM step.kinds",
        "SELECT i - 1 FROM step.kinds",
        "SELECT i * 2 FROM step.kinds",
        "SELECT n FROM step.kinds WHERE i + n > 0",
        "SELECT max(i + n) FROM step.kinds GROUP BY b",
    ] {
        let (code, message) = fixture.refusal(sql);
        assert_eq!(code, "query_failed", "{sql}: {message}");
        assert!(message.contains("verflow"), "{sql}: {message}");
    }
    for sql in ["SELECT 1 / 0", "SELECT n / (n - 1) FROM step.kinds", "SELECT n % (n - 2) FROM step.kinds"] {
        assert_eq!(fixture.refusal(sql), ("query_failed", "division by zero".to_owned()), "{sql}");
    }
    assert_eq!(fixture.rows("SELECT 1.0 / 0 AS x"), json!([{"x": "Infinity"}]));
    // Sums are as exact as those of `aggregate`.
    let sum = serde_json::from_str::<Json>("18446744073709551614").unwrap();
    assert_eq!(
        fixture
            .rows("SELECT sum(i) AS s FROM (SELECT i FROM step.kinds UNION ALL SELECT i FROM step.kinds) WHERE i > 0"),
        json!([{"s": sum}])
    );
    assert_eq!(
        fixture.ask("SELECT sum(n) FROM step.kinds HAVING sum(n) > 5")["columns"][0]["name"],
        json!("sum(step.kinds.n)")
    );
    assert_eq!(
        fixture.rows("SELECT n, sum(n) OVER (ORDER BY n) AS s FROM step.kinds ORDER BY n"),
        json!([{"n": 1, "s": 1}, {"n": 2, "s": 3}, {"n": 3, "s": 6}])
    );
    assert_eq!(fixture.rows("SELECT n + 1 FROM step.kinds WHERE n * 2 = 4"), json!([{"step.kinds.n + Int64(1)": 3}]));
    let (code, message) = fixture.refusal("SELECT CAST(s AS BIGINT) FROM step.kinds");
    assert_eq!(code, "query_failed", "{message}");
}

#[test]
fn what_is_no_query_is_refused_with_what_would_be_right() {
    let fixture = Fixture::new();
    for (sql, want) in [
        ("SELECT * FROM ordrs", "there is no view `ordrs`; did you mean `orders`?"),
        ("SELECT * FROM step.kind", "there is no view `step.kind`; did you mean `step.kinds`?"),
        ("SELECT * FROM Orders", "there is no view `Orders`; did you mean `orders`?"),
        ("SELECT pric FROM orders", "there is no column `pric`; did you mean `price`?"),
        ("SELECT o.pric FROM orders o", "there is no column `o.pric`; did you mean `o.price`?"),
        ("SELECT region FROM cities", "there is no column `region`; did you mean `Region`?"),
        ("SELECT suum(id) FROM orders", "Did you mean 'sum'?"),
        ("SELECT * FROM \"step.state\"", "there is no view `step.state`"),
        ("SELECT * FROM step.state", "there is no view"),
        ("SELECT city FROM orders WHERE", "xpected"),
        ("SELECT 'open", "nterminated"),
        ("SELECT 1; DROP TABLE orders", "several statements"),
        ("SELECT city, city FROM orders", "unique expression names"),
        ("SELECT o.id, c.id FROM orders o, orders c", "the answer has two columns `id`"),
        ("SELECT $1", "$1"),
        ("SELECT city, id FROM orders GROUP BY city", "id"),
        ("SELECT * FROM '/etc/passwd'", "there is no view"),
        ("SELECT * FROM 'x.csv'", "there is no view"),
        ("SELECT * FROM read_csv('x.csv')", ""),
        ("SELECT * FROM generate_series(1, 10)", ""),
        ("SELECT repeat('x', 1000000000)", "repeat"),
        ("SELECT lpad('x', 1000000000)", "lpad"),
        ("CREATE TABLE t AS SELECT 1", "only SELECT"),
        ("CREATE EXTERNAL TABLE t STORED AS CSV LOCATION '/etc/passwd'", "only SELECT"),
        ("COPY orders TO '/tmp/stolen.csv'", "only SELECT"),
        ("INSERT INTO orders VALUES ('a', 1, 1.0)", "only SELECT"),
        ("DELETE FROM orders", "only SELECT"),
        ("DROP TABLE orders", "only SELECT"),
        ("SET datafusion.sql_parser.dialect = 'x'", "only SELECT"),
        ("EXPLAIN COPY orders TO 'x'", "only SELECT"),
        ("SHOW TABLES", "only SELECT"),
        ("SELECT * INTO t FROM orders", ""),
        ("WITH x AS (INSERT INTO orders VALUES ('a', 1, 1.0) RETURNING id) SELECT * FROM x", ""),
    ] {
        let (code, message) = fixture.refusal(sql);
        assert_eq!(code, "bad_sql", "{sql}: {message}");
        assert!(message.contains(want), "{sql}: {message}");
        let inside = ["DataFusion", "datafusion", "panicked", "Error during", "bug"];
        assert!(!inside.iter().any(|w| message.contains(w)) || message.contains("only"), "{sql}: {message}");
    }
}

#[test]
fn what_there_is_is_told_and_nothing_of_the_machine() {
    let fixture = Fixture::new();
    let tables = fixture
        .rows("SELECT table_name AS n FROM information_schema.tables WHERE table_schema = 'views' ORDER BY 1")
        .to_string();
    assert_eq!(tables, r#"[{"n":"cities"},{"n":"faults"},{"n":"orders"},{"n":"step.kinds"}]"#);
    let columns = fixture.rows(
        "SELECT column_name AS n FROM information_schema.columns WHERE table_name = 'cities' AND table_schema = 'views'
         ORDER BY ordinal_position",
    );
    assert_eq!(columns, json!([{"n": "name"}, {"n": "Region"}, {"n": "factor"}]));
    let settings = fixture.ask("SELECT * FROM information_schema.df_settings").to_string();
    let folder = fixture.store.path().display().to_string();
    assert!(!settings.contains(&folder) && !settings.contains("/tmp"), "{settings}");
    assert_eq!(fixture.rows("SELECT count(*) AS n FROM faults"), json!([{"n": 0}]));
}

#[test]
fn limits_refuse_and_never_cut() {
    let fixture = Fixture::new();
    let within = |sql: &str, options: api::Options| {
        let asked = fixture.ask_within(sql, "application/json", None, &options);
        asked.map(|b| serde_json::from_slice::<Json>(&b).unwrap()["rows"].as_array().unwrap().len())
    };
    let few_rows = || api::Options { query_rows_max: 10, ..api::Options::default() };
    assert_eq!(within("SELECT * FROM orders LIMIT 10", few_rows()), Ok(10));
    let (code, message) = within("SELECT * FROM orders LIMIT 11", few_rows()).unwrap_err();
    assert_eq!(code, "query_too_large");
    assert!(message.contains("more than 10 rows"), "{message}");
    let few_bytes = || api::Options { query_bytes_max: 1_000, ..api::Options::default() };
    assert_eq!(within("SELECT * FROM orders", few_bytes()).unwrap_err().0, "query_too_large");
    let little = || api::Options { query_memory_bytes_max: 100_000, ..api::Options::default() };
    let gathers =
        "SELECT a.city, b.id, c.id AS c FROM orders a, orders b, orders c ORDER BY a.price * b.price * c.price";
    assert_eq!(within(&format!("SELECT * FROM ({gathers}) LIMIT 3"), few_rows()), Ok(3));
    let (code, message) =
        within(&format!("SELECT count(*) FROM (SELECT DISTINCT city, id, c FROM ({gathers}))"), little()).unwrap_err();
    assert_eq!(code, "query_too_large", "{message}");
    assert!(message.contains("memory"), "{message}");
    let short = || api::Options { query_timeout: Duration::from_millis(200), ..api::Options::default() };
    let long =
        "SELECT count(*) FROM orders a, orders b, orders c, orders d WHERE a.price + b.price + c.price < d.price";
    let began = std::time::Instant::now();
    let (code, message) = within(long, short()).unwrap_err();
    assert_eq!(code, "query_timeout", "{message}");
    assert!(began.elapsed() < Duration::from_secs(10), "it was cancelled after {:?}", began.elapsed());
    let endless = "WITH RECURSIVE n AS (SELECT 1 AS i UNION ALL SELECT i FROM n) SELECT max(i) FROM n";
    assert!(["query_timeout", "query_too_large"].contains(&within(endless, short()).unwrap_err().0));
}

/// Text as deep as is taken, in every way it can be deep: the process must survive, and say something sensible.
#[test]
fn deep_text_is_answered_or_refused_and_kills_nothing() {
    let fixture = Fixture::new();
    let most = 390;
    let chain = |op: &str, n: usize| format!("SELECT 1{}", format!("{op}1").repeat(n));
    let bools = |op: &str, n: usize| format!("SELECT true{}", format!(" {op} true").repeat(n));
    let mut texts = vec![
        chain("+", most),
        chain("-", most),
        chain("*", most),
        chain("||", most),
        chain(" + id * ", most / 4).replace("SELECT", "SELECT id FROM orders WHERE 0 <"),
        bools("AND", most / 2),
        bools("OR", most / 2),
        format!("SELECT {}1", "- ".repeat(most)),
        format!("SELECT {}true", "NOT ".repeat(most)),
        format!("SELECT {}1{}", "(".repeat(most / 2), ")".repeat(most / 2)),
        format!("SELECT {}1{}", "abs(".repeat(most / 3), ")".repeat(most / 3)),
        format!("SELECT 1{}", "::bigint".repeat(most / 2)),
        format!("SELECT 1{}", " IS NULL".repeat(most / 2)),
        format!("SELECT CASE{} ELSE 0 END", " WHEN 1=2 THEN 1".repeat(most / 4)),
        format!("SELECT {}0{}", "CASE WHEN true THEN ".repeat(most / 4), " END".repeat(most / 4)),
        format!("SELECT {}1{}", "CAST(".repeat(most / 5), " AS BIGINT)".repeat(most / 5)),
        format!("SELECT * FROM {}orders{}", "(SELECT * FROM ".repeat(most / 6), ")".repeat(most / 6)),
        format!("{}SELECT 1{}", "(".repeat(most / 2), ")".repeat(most / 2)),
        format!("SELECT 1{}", " UNION ALL SELECT 1".repeat(most / 4)),
        format!("SELECT 1{}", " UNION SELECT 1".repeat(most / 3)),
        format!("SELECT 1{}", " EXCEPT SELECT 2".repeat(most / 3)),
        format!(
            "SELECT 1 FROM orders a0{}",
            (1..most / 4).map(|i| format!(" JOIN orders a{i} ON true")).collect::<String>()
        ),
        format!("SELECT 1 FROM cities a0{}", (1..90).map(|i| format!(", cities a{i}")).collect::<String>()),
        format!(
            "SELECT 1 FROM cities a0{}",
            (1..90).map(|i| format!(" JOIN cities a{i} USING (name)")).collect::<String>()
        ),
        format!("SELECT {}1{}", "(SELECT ".repeat(most / 4), ")".repeat(most / 4)),
        format!("SELECT 1 IN ({}1)", "1,".repeat(20_000)),
        format!("SELECT {}1", "1,".repeat(20_000)),
        format!("SELECT 1 WHERE 1 IN {}(SELECT 1){}", "(SELECT 1 WHERE 1 IN ".repeat(60), ")".repeat(60)),
        format!("VALUES {}(1)", "(1),".repeat(most / 4)),
        format!("SELECT city FROM orders GROUP BY CUBE({}id)", "city,".repeat(30)),
        format!("SELECT {}", "[".repeat(most)),
        format!("SELECT x{}", "[1]".repeat(most / 3)),
        format!("SELECT x{}", ".y".repeat(most / 2)),
        format!("SELECT '{}'", "x".repeat(60_000)),
        "SELECT 1".to_owned() + &" ".repeat(60_000),
    ];
    // Twice as large with each line: a plan of two to the sixtieth nodes, in two thousand characters.
    let doubling: Vec<String> =
        (1..60).map(|i| format!("c{i} AS (SELECT * FROM c{0} UNION ALL SELECT * FROM c{0})", i - 1)).collect();
    texts.push(format!("WITH c0 AS (SELECT 1), {} SELECT count(*) FROM c59", doubling.join(", ")));
    let doubling: Vec<String> = (1..60).map(|i| format!("c{i} AS (SELECT a.x FROM c{0} a, c{0} b)", i - 1)).collect();
    texts.push(format!("WITH c0 AS (SELECT 1 AS x), {} SELECT count(*) FROM c59", doubling.join(", ")));
    // A condition that doubles on its way to the table.
    let doubling: Vec<String> = (1..60).map(|i| format!("c{i} AS (SELECT x + x AS x FROM c{})", i - 1)).collect();
    texts.push(format!(
        "WITH c0 AS (SELECT price AS x FROM orders), {} SELECT * FROM c59 WHERE x > 0",
        doubling.join(", ")
    ));
    let options = api::Options { query_timeout: Duration::from_secs(20), ..api::Options::default() };
    for text in texts {
        let began = std::time::Instant::now();
        let answer = fixture.ask_within(&text, "application/json", None, &options);
        let shown: String = text.chars().take(50).collect();
        let said = match &answer {
            Ok(bytes) => format!("{} bytes", bytes.len()),
            Err((code, message)) => format!("{code}: {}", message.chars().take(100).collect::<String>()),
        };
        println!("{:>8.3} s {shown} … {said}", began.elapsed().as_secs_f64());
        if let Err((code, _)) = answer {
            assert!(["bad_sql", "query_failed", "query_too_large", "query_timeout"].contains(&code), "{shown}: {code}");
        }
        assert!(began.elapsed() < Duration::from_secs(60), "{shown} took {:?}", began.elapsed());
    }
}

/// Queries put together at random from words that mean something: whatever comes of it is an answer or a refusal.
#[test]
fn random_queries_are_answered_or_refused() {
    let fixture = Fixture::new();
    const WORDS: &[&str] = &[
        "SELECT",
        "FROM",
        "WHERE",
        "GROUP BY",
        "ORDER BY",
        "LIMIT",
        "HAVING",
        "JOIN",
        "LEFT JOIN",
        "ON",
        "USING",
        "UNION ALL",
        "WITH",
        "AS",
        "(",
        ")",
        ",",
        "*",
        "+",
        "-",
        "/",
        "%",
        "=",
        "<",
        ">",
        "<>",
        "AND",
        "OR",
        "NOT",
        "IN",
        "BETWEEN",
        "IS NULL",
        "CASE WHEN",
        "THEN",
        "ELSE",
        "END",
        "orders",
        "cities",
        "step.kinds",
        "faults",
        "city",
        "id",
        "price",
        "name",
        "i",
        "f",
        "s",
        "b",
        "t",
        "d",
        "n",
        "count(*)",
        "sum(",
        "avg(",
        "max(",
        "min(",
        "array_agg(",
        "first_value(",
        "row_number() OVER (",
        "1",
        "0",
        "-1",
        "1.5",
        "'a'",
        "''",
        "NULL",
        "true",
        "'2020-01-01'",
        "INTERVAL '1 day'",
        "9223372036854775807",
        "CAST(",
        "AS BIGINT)",
        "::text",
        "::timestamp",
        "abs(",
        "concat(",
        "substr(",
        "date_trunc('day',",
        "now()",
        "random()",
        "EXISTS (",
        "ANY(",
        "LATERAL",
        "VALUES",
        "UNNEST(",
        "EXPLAIN",
        "DISTINCT",
        "FILTER (WHERE",
        "OVER ()",
        "$1",
        "@@version",
        "[1]",
        "{'a': 1}",
        "||",
        "~",
        "LIKE",
        "SIMILAR TO",
        "COLLATE",
        "AT TIME ZONE 'UTC'",
        "GROUPING SETS ((city), ())",
        "PIVOT",
        "QUALIFY",
        "TABLESAMPLE",
        "FOR UPDATE",
        "OFFSET",
        "FETCH FIRST 1 ROWS ONLY",
        ";",
        "--",
        "/*",
        "\"",
    ];
    const SHAPES: &[&str] = &[
        "SELECT ? FROM ? WHERE ?",
        "SELECT ?, ? FROM orders ?",
        "SELECT ? FROM step.kinds GROUP BY ?",
        "SELECT ? ? ? FROM orders o JOIN cities c ON ? ? ?",
        "SELECT ? ? ?",
        "? ? ? ? ? ? ? ?",
        "SELECT * FROM step.kinds WHERE ? ? ? ORDER BY ?",
        "SELECT f ? f, i ? i, s ? s, t ? t, d ? d FROM step.kinds",
        "SELECT ? ?) FROM step.kinds",
        "SELECT ? f), ? i), ? t), ? d) FROM step.kinds",
    ];
    let mut state: u64 = 20_260_101;
    let mut below = move |n: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % n
    };
    let options = api::Options {
        query_timeout: Duration::from_secs(10),
        query_memory_bytes_max: 64 << 20,
        ..api::Options::default()
    };
    let mut answered = 0;
    for round in 0..2_000 {
        let mut sql = String::new();
        for part in SHAPES[below(SHAPES.len())].split_inclusive('?') {
            sql.push_str(part.strip_suffix('?').unwrap_or(part));
            if part.ends_with('?') {
                sql.push_str(WORDS[below(WORDS.len())]);
            }
        }
        match fixture.ask_within(&sql, "application/json", None, &options) {
            Ok(bytes) => {
                serde_json::from_slice::<Json>(&bytes).unwrap_or_else(|e| panic!("{sql}: {e}"));
                answered += 1;
            }
            Err((code, message)) => {
                assert!(code.starts_with("query_") || code == "bad_sql", "{round} {sql}: {code}: {message}");
                assert!(!message.is_empty() && !message.contains('\n'), "{round} {sql}: {message:?}");
            }
        }
    }
    assert!(answered > 5, "of 2000 only {answered} were answered");
}
