//! Recorded markets told order by order: NASDAQ's as LOBSTER has them, and Bitstamp's.

use arrow::array::AsArray;
use arrow::datatypes::Int64Type;
use engine::plan::StepPlan;
use types::Type;

use crate::binance::resent;
use crate::run::{equals_model, planned, recorded, run};

fn lobster_columns(levels: usize) -> Vec<(&'static str, Type)> {
    const LEVELS: [[&str; 4]; 5] = [
        ["ask1_px_e4", "ask1_sz", "bid1_px_e4", "bid1_sz"],
        ["ask2_px_e4", "ask2_sz", "bid2_px_e4", "bid2_sz"],
        ["ask3_px_e4", "ask3_sz", "bid3_px_e4", "bid3_sz"],
        ["ask4_px_e4", "ask4_sz", "bid4_px_e4", "bid4_sz"],
        ["ask5_px_e4", "ask5_sz", "bid5_px_e4", "bid5_sz"],
    ];
    let mut columns = vec![("at", Type::Timestamp)];
    columns.extend(["type", "order_id", "size", "price_e4", "direction"].map(|name| (name, Type::Int64)));
    columns.extend(LEVELS[..levels].iter().flatten().map(|name| (*name, Type::Int64)));
    columns
}

fn lobster(levels: usize) -> StepPlan {
    let list = |form: &str| {
        let names: Vec<String> = (1..=levels).map(|i| format!("\"{}\"", form.replace('#', &i.to_string()))).collect();
        names.join(", ")
    };
    let options = r#"
        format = "l3"
        kind = "type"
        kinds = { add = "1", reduce = "2", delete = "3", execute = "4", execute_hidden = "5", trade = "6", status = "7" }
        status = "price_e4"
        statuses = { halt = "-1", ignore = "0", resume = "1" }
        side = "direction"
        sides = { bid = "1", ask = "-1" }
        price = "price_e4"
        size = "size"
        lot = 1.0
    "#;
    let recorded = format!(
        "recorded = {{ bid_price = [{}], bid_size = [{}], ask_price = [{}], ask_size = [{}] }}\n",
        list("bid#_px_e4"),
        list("bid#_sz"),
        list("ask#_px_e4"),
        list("ask#_sz"),
    );
    planned(&lobster_columns(levels), &format!("{options}\nlevels = {levels}\n{recorded}"))
}

#[test]
fn lobster_books_are_those_recorded_wherever_the_messages_can_tell() {
    for (levels, equal, beyond) in [(1, 43_561, 13_953), (5, 122_094, 33_840)] {
        let file = format!("lobster_amzn_2012-06-21_L{levels}.csv.zst");
        let Some(events) = recorded(&[file], &lobster_columns(levels), |nanos| nanos.div_euclid(1000)) else { return };
        let plan = lobster(levels);
        let told = run(&plan, &events, 10_000, |epoch| epoch % 4 == 1);
        let counts =
            ["recorded_equal", "recorded_beyond", "recorded_different", "trades"].map(|n| told.count(&plan, n));
        println!("L{levels}: {} records; equal, beyond, different, trades: {counts:?}", events.num_rows());
        assert!(told.faults.is_empty(), "{:?}", told.reasons());
        assert_eq!(counts[..3], [equal, beyond, 0]);
        // All but the first, which is where the book begins.
        assert_eq!(equal + beyond + 1, events.num_rows() as i64);
        assert_eq!(told.sound_ticks(), events.num_rows());
        // Every tick is the recorded row.
        for level in 1..=levels {
            for (side, ours, theirs) in
                [("bid", "price", "px_e4"), ("bid", "size", "sz"), ("ask", "price", "px_e4"), ("ask", "size", "sz")]
            {
                let theirs = events.column_by_name(&format!("{side}{level}_{theirs}")).unwrap();
                let theirs = theirs.as_primitive::<Int64Type>().values().iter().map(|v| Some(*v as f64));
                assert!(told.tick_floats(&format!("{side}_{ours}_{level}")).into_iter().eq(theirs));
            }
        }
        equals_model(&plan, &events.slice(0, 6_000));
        // A record lost: the book is not what is recorded next, which is seen, and then it is made whole. What leaves no
        // trace is a hidden trade, or a level that was leaving the levels recorded.
        let (mut missed, mut tried) = (0, 0);
        for lost in (100..6_000).step_by(59) {
            let (events, _) = resent(&events, &[0..lost, lost + 1..6_000]);
            let told = run(&plan, &events, 6_000, |_| false);
            let different = told.count(&plan, "recorded_different");
            assert_eq!(different, told.faults.len() as i64);
            assert!(different <= 1 && told.state(&plan) == "live");
            missed += usize::from(different == 0);
            tried += 1;
        }
        println!("L{levels}: of {tried} records lost one at a time {missed} left no trace");
        assert!(missed * 5 < tried * 2, "{missed}");
    }
}

const BITSTAMP: [(&str, Type); 7] = [
    ("at", Type::Timestamp),
    ("event", Type::String),
    ("price", Type::Float64),
    ("amount_btc", Type::Float64),
    ("id", Type::Int64),
    ("side", Type::String),
    ("exchange_ts_s", Type::Int64),
];

#[test]
fn bitstamp_orders_make_a_book() {
    let file = "bitstamp_btcusd_l3_2015-05-01.csv.zst".to_owned();
    let Some(events) = recorded(&[file], &BITSTAMP, |millis| millis * 1000) else { return };
    let options = r#"
        format = "l3"
        kind = "event"
        kinds = { add = "order_created", set_remaining = "order_changed", delete = "order_deleted", trade = "trade" }
        side = "side"
        price = "price"
        size = "amount_btc"
        order = "id"
        strict = false
        crossed = "heal"
        levels = 5
    "#;
    let plan = planned(&BITSTAMP, options);
    let told = run(&plan, &events, 5_000, |epoch| epoch == 4);
    let names = ["messages", "applied", "trades", "unknown_orders", "crossed", "refused"];
    let counts = names.map(|name| told.count(&plan, name));
    let healthy = told.sound_ticks();
    println!("{names:?}: {counts:?}; faults {:?}; {healthy} ticks healthy; {}", told.reasons(), told.state(&plan));
    // What is told of an order after its end is refused; nothing else is.
    assert_eq!(told.reasons().into_iter().collect::<Vec<_>>(), [("late_order", 6)]);
    // Of the book before the first record 182 orders are told of, and 26 of those after it twice or late.
    assert_eq!(counts, [50_989, 50_408, 575, 208, 381, 6]);
    assert_eq!((healthy, told.state(&plan).as_str()), (49_804, "live"));
    equals_model(&plan, &events.slice(0, 4_000));
}
