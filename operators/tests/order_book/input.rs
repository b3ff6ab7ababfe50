//! Bad input of every kind: it is told, and no wrong book is.

use engine::catalogue::Row;
use types::{SEQ, Type, Value};

use crate::run::{batch, pipeline, planned, run};

const SCRIPT: [(&str, Type); 11] = [
    ("at", Type::Timestamp),
    ("symbol", Type::String),
    ("kind", Type::String),
    ("message", Type::Int64),
    ("first", Type::Int64),
    ("last", Type::Int64),
    ("side", Type::String),
    ("price", Type::Float64),
    ("size", Type::Float64),
    ("id", Type::Int64),
    ("status", Type::String),
];

/// Runs a script of records, one a line: time in seconds, symbol, kind, message, first, last, side, price, size, id,
/// status; a dash or nothing is null. Says each tick in short, then the faults, then the states of the books.
fn say(options: &str, lines: &str) -> String {
    let row = |(seq, line): (usize, &str)| -> Row {
        let words: Vec<&str> = line.split_whitespace().collect();
        let cell = |(i, (_, ty)): (usize, &(&str, Type))| match (words.get(i).filter(|w| **w != "-"), ty) {
            (None, _) => Value::Null,
            (Some(word), Type::Timestamp) => Value::Time(word.parse::<i64>().unwrap() * 1_000_000),
            (Some(word), Type::Int64) => Value::Int(word.parse().unwrap()),
            (Some(word), Type::Float64) => Value::Float(word.parse().unwrap()),
            (Some(word), _) => Value::Str((*word).to_owned()),
        };
        SCRIPT.iter().enumerate().map(cell).chain([Value::Int(seq as i64)]).collect()
    };
    let rows: Vec<Row> = lines.trim().lines().enumerate().map(row).collect();
    let l3 = r#"
        kinds = { snapshot = "s", add = "a", reduce = "-r", delete = "x", execute = "e", execute_hidden = "v", set_remaining = "m", trade = "t", status = "st" }
        status = "status"
        statuses = { halt = "stop", resume = "go" }
        order = "id"
    "#;
    let l2 = r#"
        format = "l2"
        kinds = { snapshot = "s", depth = "d", quote = "q", trade = "t", halt = "h", resume = "r" }
        trade_id = "id"
    "#;
    let common = r#"
        instrument = "symbol"
        kind = "kind"
        message = "message"
        first_update = "first"
        last_update = "last"
        side = "side"
        price = "price"
        size = "size"
        levels = 1
    "#;
    let form = if options.contains("l3") { l3 } else { l2 };
    let plan = planned(&SCRIPT, &format!("{common}{form}{options}"));
    let told = run(&plan, &batch(&SCRIPT, &rows), 1_000, |_| false);
    let mut out = Vec::new();
    let mut ticks = told.tick_rows();
    let place = |output: usize, name: &str| plan.outputs[output].schema.index_of(name).unwrap();
    ticks.sort_by_key(|row| row[place(3, SEQ)].clone());
    let text = |value: &Value| match value {
        Value::Str(text) => text.clone(),
        Value::Float(f) => f.to_string(),
        Value::Int(i) => i.to_string(),
        _ => "-".to_owned(),
    };
    for row in ticks {
        let get = |name: &str| text(&row[place(3, name)]);
        let book = match row[place(3, "healthy")] {
            Value::Bool(true) => {
                let [bid, bids, ask, asks] = ["bid_price_1", "bid_size_1", "ask_price_1", "ask_size_1"].map(get);
                format!("{bid}x{bids} {ask}x{asks}")
            }
            _ => "unhealthy".to_owned(),
        };
        out.push(format!("{} {} {book}", get(SEQ), get("kind")));
    }
    out.extend(told.faults.iter().map(|fault| format!("fault {} {}", fault.seq, fault.reason)));
    for row in told.views[2].keys() {
        let [symbol, state, reason] = ["symbol", "state", "reason"].map(|name| text(&row[place(2, name)]));
        out.push(format!("book {symbol} {state} {reason}"));
    }
    out.join("\n")
}

#[track_caller]
fn check(options: &str, lines: &str, expected: &str) {
    let said = say(options, lines);
    let expected: Vec<&str> = expected.trim().lines().map(str::trim).filter(|l| !l.is_empty()).collect();
    assert_eq!(said, expected.join("\n"), "\n{said}");
}

#[test]
fn a_lost_message_breaks_the_book_and_a_snapshot_makes_it_whole() {
    check(
        "sequence = \"binance_spot\"",
        "
        1 x d 1 1 2 bid 10 1
        2 x d 2 3 5 bid 10 2
        3 x s 3 - 4 bid 10 7
        3 x s 3 - 4 ask 12 1
        4 x d 4 6 6 ask 11 1
        5 x d 5 8 9 ask 11 0
        6 x d 6 10 12 bid 9 4
        7 x s 7 - 7 bid 10 1
        7 x s 7 - 7 ask 12 1
        8 x d 8 13 13 bid 10 5
        9 x s 9 - 6 bid 10 3
        ",
        "
        0 depth unhealthy
        1 depth unhealthy
        3 snapshot 10x2 12x1
        4 depth 10x2 11x1
        5 depth unhealthy
        6 depth unhealthy
        8 snapshot 10x1 12x1
        9 depth 10x5 12x1
        10 snapshot 10x5 12x1
        fault 5 gap
        fault 10 stale
        book x live -
        ",
    );
}

#[test]
fn a_snapshot_that_the_messages_kept_do_not_reach_is_too_old() {
    check(
        "sequence = \"binance_spot\"\nbuffer = 2",
        "
        1 x d 1 5 6 bid 10 1
        2 x d 2 7 7 bid 10 2
        3 x d 3 8 8 bid 10 3
        4 x s 4 - 4 bid 9 9
        5 x s 5 - 6 bid 9 9
        6 x d 6 12 12 bid 10 4
        ",
        "
        0 depth unhealthy
        1 depth unhealthy
        2 depth unhealthy
        3 snapshot unhealthy
        4 snapshot 10x3 -x-
        5 depth unhealthy
        fault 3 stale
        fault 5 gap
        book x broken gap
        ",
    );
}

#[test]
fn repeated_and_old_messages_are_refused_and_do_no_harm() {
    check(
        "sequence = \"binance_spot\"",
        "
        1 x s 1 - 4 bid 10 7
        1 x s 1 - 4 ask 12 1
        2 x d 2 5 6 bid 10 2
        3 x d 3 7 7 bid 10 3
        4 x d 4 7 7 bid 10 3
        5 x d 5 5 6 bid 10 2
        6 x d 6 8 8 bid 10 4
        6 x d 6 8 8 bid 10 4
        7 x d 7 9 9 bid 10 5
        7 x d 7 9 9 bid 10 6
        ",
        "
        1 snapshot 10x7 12x1
        2 depth 10x2 12x1
        3 depth 10x3 12x1
        7 depth 10x4 12x1
        9 depth unhealthy
        fault 4 duplicate
        fault 5 stale
        fault 7 duplicate
        fault 9 conflict
        book x broken conflict
        ",
    );
}

#[test]
fn what_makes_no_sense_is_refused_and_breaks_the_book() {
    for (bad, reason) in [
        ("2 x d 2 5 6 bid NaN 2", "bad_price"),
        ("2 x d 2 5 6 bid - 2", "bad_price"),
        ("2 x d 2 5 6 bid -3 2", "bad_price"),
        ("2 x d 2 5 6 bid 10.125 2", "bad_price"),
        ("2 x d 2 5 6 bid inf 2", "bad_price"),
        ("2 x d 2 5 6 bid 10 -1", "bad_size"),
        ("2 x d 2 5 6 bid 10 NaN", "bad_size"),
        ("2 x d 2 5 6 bid 10 -", "bad_size"),
        ("2 x d 2 5 6 middle 10 1", "bad_side"),
        ("2 x d 2 5 6 - 10 1", "bad_side"),
        ("2 x d 2 - 6 bid 10 1", "bad_number"),
        ("2 x d 2 5 - bid 10 1", "bad_number"),
        ("2 x d 2 7 6 bid 10 1", "bad_number"),
        ("2 x d 2 5 6 bid 12 1", "crossed"),
        ("2 x d 2 5 6 bid 13 1", "crossed"),
        ("2 x d 2 6 7 bid 10 1", "gap"),
        ("2 x mystery 2 5 6 bid 10 1", "unknown_kind"),
        ("2 x - 2 5 6 bid 10 1", "unknown_kind"),
        ("0 x d 2 5 6 bid 10 1", "time_backwards"),
    ] {
        let said = say(
            "sequence = \"binance_spot\"\ntick = 0.5",
            &format!("1 x s 1 - 4 bid 10 7\n1 x s 1 - 4 ask 12 1\n{bad}\n3 x t 3 - - - 11 1"),
        );
        let lines: Vec<&str> = said.lines().collect();
        assert_eq!(lines[0], "1 snapshot 10x7 12x1", "{bad}: {said}");
        assert!(lines.contains(&format!("fault 2 {reason}").as_str()), "{bad}: {said}");
        assert!(lines.contains(&"3 trade unhealthy"), "{bad}: {said}");
        assert!(lines.last().unwrap().starts_with("book x broken"), "{bad}: {said}");
    }
}

#[test]
fn a_message_with_one_bad_record_is_not_applied_at_all() {
    check(
        "sequence = \"binance_spot\"",
        "
        1 x s 1 - 4 bid 10 7
        1 x s 1 - 4 ask 12 1
        2 x d 2 5 6 bid 10 2
        2 x d 2 5 6 bid 9 NaN
        2 x d 2 5 6 bid 8 1
        3 x s 3 - 6 bid 10 2
        4 x d 4 7 7 bid 10 3
        ",
        "
        1 snapshot 10x7 12x1
        4 depth unhealthy
        5 snapshot 10x2 -x-
        6 depth 10x3 -x-
        fault 3 bad_size
        fault 4 damaged
        book x live -
        ",
    );
}

#[test]
fn a_bad_snapshot_is_none() {
    for (bad, reason) in [
        ("1 x s 1 - 4 bid 10 NaN", "bad_size"),
        ("1 x s 1 - 4 bid 12 1", "crossed"),
        ("1 x s 1 - 4 bid 11 1\n1 x s 1 - 4 bid 11 2", "conflict"),
    ] {
        let said = say("sequence = \"binance_spot\"", &format!("1 x s 1 - 4 ask 12 1\n{bad}\n2 x d 2 5 5 bid 11 1"));
        assert!(said.contains(reason) && said.contains("snapshot unhealthy"), "{bad}: {said}");
        assert!(said.contains("depth unhealthy") && !said.contains("live"), "{bad}: {said}");
    }
}

#[test]
fn nothing_is_shown_while_trading_is_halted() {
    check(
        "start = \"empty\"",
        "
        1 x d - - - bid 10 7
        2 x h
        3 x d - - - ask 12 1
        4 x t - - - - 11 1
        5 x r
        6 - d - - - bid 10 1
        7 y d - - - bid 3 1
        8 z q - - - bid 3 1
        ",
        "
        0 depth 10x7 -x-
        1 status unhealthy
        2 depth unhealthy
        3 trade unhealthy
        4 status 10x7 12x1
        6 depth 3x1 -x-
        7 quote -x- -x-
        fault 3 halted
        fault 5 null_instrument
        book x live -
        book y live -
        book z live -
        ",
    );
}

#[test]
fn an_instrument_without_a_snapshot_waits() {
    check(
        "",
        "
        1 x s 1 - - bid 10 7
        2 what d 1 - - bid 10 7
        3 x d 1 - - bid 10 8
        ",
        "
        0 snapshot 10x7 -x-
        1 depth unhealthy
        2 depth 10x8 -x-
        book what waiting -
        book x live -
        ",
    );
}

#[test]
fn a_quote_of_the_books_number_that_disagrees_breaks_it() {
    let book = "1 x s 1 - 4 bid 10 7\n1 x s 1 - 4 ask 12 1\n";
    check(
        "sequence = \"binance_spot\"",
        &format!("{book}2 x q 2 - 4 bid 10 7\n2 x q 2 - 4 ask 12 1\n3 x q 3 - 4 bid 10 7\n3 x q 3 - 4 ask 12 1"),
        "
        1 snapshot 10x7 12x1
        3 quote 10x7 12x1
        fault 5 duplicate
        book x live -
        ",
    );
    check(
        "sequence = \"binance_spot\"",
        &format!("{book}2 x q 2 - 5 bid 10 8\n2 x q 2 - 5 ask 12 1\n3 x d 3 5 5 bid 10 9"),
        "
        1 snapshot 10x7 12x1
        3 quote 10x7 12x1
        4 depth unhealthy
        fault 4 quote_disagrees
        book x broken quote_disagrees
        ",
    );
}

#[test]
fn trades_have_numbers_too() {
    check(
        "start = \"empty\"\ntrade_ids = \"contiguous\"",
        "
        1 x t - - - - 10 1 7
        2 x t - - - - 10 1 8
        3 x t - - - - 10 1 8
        4 x t - - - - 10 1 6
        5 x t - - - - 10 1 11
        6 x t - - - - 10 0 12
        7 x t - - - - - 1 12
        ",
        "
        0 trade -x- -x-
        1 trade -x- -x-
        4 trade -x- -x-
        fault 2 duplicate
        fault 3 stale
        fault 4 trade_gap
        fault 5 bad_size
        fault 6 bad_price
        book x live -
        ",
    );
}

/// Orders that come, shrink, trade, move, and a halt.
const ORDERS: &str = "1 x a - - - bid 10 2 1
2 x a - - - bid 10 0.3 2
3 x a - - - ask 11 1 3
4 x -r - - - - - 0.1 2
5 x e - - - - - 2 1
6 x m - - - bid 9 0.7 2
7 x st - - - - - - - stop
8 x st - - - - - - - go
9 x v - - - - 10.5 3";

#[test]
fn orders_come_and_go() {
    check(
        "format = \"l3\"",
        ORDERS,
        "
        0 depth 10x2 -x-
        1 depth 10x2.3 -x-
        2 depth 10x2.3 11x1
        3 depth 10x2.2 11x1
        4 trade 10x0.2 11x1
        5 depth 9x0.7 11x1
        6 status unhealthy
        7 status 9x0.7 11x1
        8 trade 9x0.7 11x1
        book x live -
        ",
    );
}

#[test]
fn an_order_that_cannot_be_breaks_the_book_and_a_snapshot_of_orders_makes_it_whole() {
    for (bad, reason) in [
        ("10 x x - - - - - - 1", "unknown_order"),
        ("10 x m - - - bid 9 1 8", "unknown_order"),
        ("10 x a - - - bid 9 1 2", "known_order"),
        ("10 x e - - - - - 0.8 2", "overfill"),
        ("10 x a - - - bid 9 0.000000001 9", "bad_size"),
        ("10 x a - - - bid 9 0 9", "bad_size"),
        ("10 x a - - - bid 9 1", "bad_order"),
        ("10 x a - - - bid 11 1 9", "crossed"),
        ("10 x ? - - - bid 11 1 9", "unknown_kind"),
    ] {
        let said = say("format = \"l3\"", &format!("{ORDERS}\n{bad}"));
        assert!(said.contains(&format!("fault 9 {reason}\nbook x broken {reason}")), "{bad}: {said}");
    }
    let snapshot = "10 x x - - - - - - 1\n11 x s 5 - - bid 8 1 20\n11 x s 5 - - bid 8 2 21\n12 x x - - - - - - 20";
    let said = say("format = \"l3\"", &format!("{ORDERS}\n{snapshot}"));
    assert!(said.contains("9 depth unhealthy\n11 snapshot 8x3 -x-\n12 depth 8x2 -x-"), "{said}");
}

#[test]
fn mistakes_in_a_step_are_told() {
    let problems = |options: &str| {
        let text = pipeline(&SCRIPT, options);
        let path = std::path::Path::new("p.toml");
        match engine::pipeline::load(path, &text, &|_| None, &catalogue::all()) {
            Ok(_) => String::new(),
            Err(problems) => problems.to_string(),
        }
    };
    let good = "side = \"side\"\nprice = \"price\"\nsize = \"size\"\nkind = \"kind\"\n";
    let l2 = format!("{good}format = \"l2\"\nkinds = {{ depth = \"d\" }}\n");
    assert_eq!(problems(&l2), "");
    for (options, expected) in [
        ("sequence = \"binance_spot\"", "last_update"),
        ("sequence = \"binance_spot\"\nlast_update = \"last\"", "first_update"),
        ("sequence = \"binance_futures\"\nlast_update = \"last\"", "previous_update"),
        ("trade_ids = \"contiguous\"", "trade_id"),
        ("levels = 0", "between 1 and 100"),
        ("tick = -1", "above 0"),
        ("message = \"symbol\"", "must have int64"),
        ("buffer = 1000000", "between 0 and 100000"),
        ("sides = { bid = \"b\", offer = \"a\" }", "offer"),
        ("sides = { bid = \"b\", ask = \"b\" }", "two meanings"),
        ("strict = false", "strict"),
        ("instrument = \"at\"", "a column `at` already"),
    ] {
        let said = problems(&format!("{l2}{options}"));
        assert!(said.contains(expected), "{options}: {said}");
    }
    for (options, expected) in [
        ("kinds = { set_remaining = \"m\" }", "order"),
        ("kinds = { depth = \"m\" }", "depth"),
        ("kinds = { add = \"m\" }\nstrict = false", "without `order`"),
        ("kinds = { status = \"m\" }", "status"),
        ("", "`kinds` is missing"),
        ("kinds = { add = \"m\" }\nrecorded = { bid_price = [\"price\"] }", "bid_size"),
    ] {
        let said = problems(&format!("{good}format = \"l3\"\n{options}"));
        assert!(said.contains(expected), "{options}: {said}");
    }
}
