//! Six recorded markets of Binance: the books are those the venue quotes, and what is lost on the way is seen.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use arrow::array::{AsArray, Int64Array, RecordBatch, TimestampMicrosecondArray, UInt32Array};
use arrow::compute::take_record_batch;
use arrow::datatypes::Int64Type;
use engine::plan::StepPlan;
use types::Type;

use crate::run::{Told, equals_model, planned, recorded, run, times};

pub const COLUMNS: [(&str, Type); 11] = [
    ("at", Type::Timestamp),
    ("msg_no", Type::Int64),
    ("event", Type::String),
    ("first_u", Type::Int64),
    ("last_u", Type::Int64),
    ("prev_u", Type::Int64),
    ("side", Type::String),
    ("price", Type::Float64),
    ("qty", Type::Float64),
    ("trade_id", Type::Int64),
    ("buyer_is_maker", Type::Int64),
];

pub fn plan(sequence: &str, levels: usize) -> StepPlan {
    let options = r#"
        format = "l2"
        kind = "event"
        kinds = { snapshot = "snapshot", depth = "depthUpdate", quote = "bookTicker", trade = "trade" }
        side = "side"
        price = "price"
        size = "qty"
        message = "msg_no"
        first_update = "first_u"
        last_update = "last_u"
        previous_update = "prev_u"
        trade_id = "trade_id"
        trade_ids = "contiguous"
        buyer_is_maker = "buyer_is_maker"
    "#;
    planned(&COLUMNS, &format!("{options}\nsequence = \"{sequence}\"\nlevels = {levels}\n"))
}

pub fn rows(market: &str, days: &[&str]) -> Option<RecordBatch> {
    let files: Vec<String> = days.iter().map(|day| format!("binance_{market}_2024-08-{day}.csv.zst")).collect();
    recorded(&files, &COLUMNS, |nanos| nanos.div_euclid(1000))
}

#[test]
fn recorded_books_are_what_the_venue_quotes_and_never_cross() {
    // For each market: messages applied, and those the snapshot said already; quotes of the book's number, all of which
    // agree; the last quotes before it that agree, and those that do not: the spot market's stream leaves some out.
    let markets = [
        ("spot_btcusdt", &["08", "09"][..], "binance_spot", [6_493, 2, 1_072, 4_778, 2]),
        ("spot_ethusdt", &["08", "09"], "binance_spot", [6_468, 2, 1_056, 4_473, 0]),
        ("usdm_btcusdt", &["08"], "binance_futures", [6_547, 4, 629, 5_118, 0]),
        ("usdm_ethusdt", &["08"], "binance_futures", [6_581, 5, 551, 5_096, 0]),
        ("coinm_btcusd-perp", &["08", "09"], "binance_futures", [44_772, 23, 1_885, 12_682, 0]),
        ("coinm_ethusd-perp", &["08", "09"], "binance_futures", [39_133, 22, 2_278, 9_977, 0]),
    ];
    let (mut agree, mut records, mut healthy) = (0, 0, 0);
    for (market, days, sequence, expected) in markets {
        let Some(events) = rows(market, days) else { return };
        let plan = plan(sequence, 10);
        let told = run(&plan, &events, 20_000, |epoch| epoch == 3);
        let names = ["applied", "covered", "quotes_agree", "quotes_held_agree", "quotes_held_disagree"];
        let counts = names.map(|name| told.count(&plan, name));
        let well = told.sound_ticks();
        println!(
            "{market}: {} records, {} messages, {well} ticks of a healthy book, none crossed; of {} quotes of the book's \
             number all agree; of {} held {} agree",
            events.num_rows(),
            told.count(&plan, "messages"),
            counts[2],
            counts[3] + counts[4],
            counts[3],
        );
        assert!(told.faults.is_empty(), "{market}: {:?}", told.reasons());
        assert_eq!(told.state(&plan), "live", "{market}");
        assert_eq!(counts, expected, "{market}: {names:?}");
        for none in ["quotes_disagree", "gaps", "duplicates", "stale", "crossed", "refused", "trade_gaps", "dropped"] {
            assert_eq!(told.count(&plan, none), 0, "{market}: {none}");
        }
        agree += counts[2];
        records += events.num_rows();
        healthy += well;
    }
    println!("all: {records} records, {healthy} healthy ticks, {agree} quotes agree, none disagrees");
    assert_eq!(agree, 7_471);
}

/// The rows of each message of a slice, with its kind.
pub fn messages(events: &RecordBatch) -> Vec<(String, Range<usize>)> {
    let numbers = events.column(1).as_primitive::<Int64Type>();
    let kinds = events.column(2).as_string::<i32>();
    let mut out: Vec<(String, Range<usize>)> = Vec::new();
    for row in 0..events.num_rows() {
        match out.last_mut() {
            Some((kind, rows)) if numbers.value(rows.start) == numbers.value(row) && kind == kinds.value(row) => {
                rows.end = row + 1;
            }
            _ => out.push((kinds.value(row).to_owned(), row..row + 1)),
        }
    }
    out
}

/// These messages, in this order, as a venue might have sent them: time does not go back, records are numbered anew.
/// Gives also where each record was.
pub fn resent(events: &RecordBatch, order: &[Range<usize>]) -> (RecordBatch, Vec<usize>) {
    let places: Vec<usize> = order.iter().cloned().flatten().collect();
    let indices = UInt32Array::from_iter_values(places.iter().map(|p| *p as u32));
    let taken = take_record_batch(events, &indices).unwrap();
    let mut last = i64::MIN;
    let at = times(&taken).into_iter().map(|t| {
        last = last.max(t);
        last
    });
    let mut columns = taken.columns().to_vec();
    columns[0] = Arc::new(TimestampMicrosecondArray::from_iter_values(at.collect::<Vec<i64>>()).with_timezone("UTC"));
    *columns.last_mut().unwrap() = Arc::new(Int64Array::from_iter_values(0..places.len() as i64));
    (RecordBatch::try_new(events.schema(), columns).unwrap(), places)
}

/// The levels of each tick.
pub fn levels(told: &Told) -> Vec<Vec<Option<f64>>> {
    let names = (1..=5).flat_map(|i| ["bid_price", "bid_size", "ask_price", "ask_size"].map(|n| format!("{n}_{i}")));
    let columns: Vec<Vec<Option<f64>>> = names.map(|name| told.tick_floats(&name)).collect();
    (0..columns[0].len()).map(|row| columns.iter().map(|c| c[row]).collect()).collect()
}

#[test]
fn every_message_lost_repeated_or_out_of_place_is_seen_and_no_wrong_book_is_told() {
    let mut seen = [0; 3];
    for (market, sequence) in [("spot_ethusdt", "binance_spot"), ("coinm_btcusd-perp", "binance_futures")] {
        let Some(events) = rows(market, &["08"]) else { return };
        let events = events.slice(0, 12_000);
        let plan = plan(sequence, 5);
        let all = messages(&events);
        let order: Vec<Range<usize>> = all.iter().map(|(_, rows)| rows.clone()).collect();
        let (clean, places) = resent(&events, &order);
        let clean = run(&plan, &clean, 5_000, |_| false);
        assert!(clean.faults.is_empty(), "{:?}", clean.reasons());
        // What the book was after each message of depth, by the place of its last record.
        let ticks = clean.tick_seqs().into_iter().zip(clean.tick_kinds()).zip(levels(&clean));
        let right: BTreeMap<usize, Vec<Option<f64>>> = ticks
            .filter(|((_, kind), _)| kind == "depth")
            .map(|((seq, _), levels)| (places[seq as usize], levels))
            .collect();
        let snapshot = all.iter().position(|(kind, _)| kind == "snapshot").unwrap();
        let depth: Vec<usize> = (snapshot + 1..all.len()).filter(|i| all[*i].0 == "depthUpdate").collect();
        let mut random = 7_u64;
        let mut below = |n: usize| {
            random = random.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
            ((random >> 33) % n as u64) as usize
        };
        for round in 0..360 {
            let at = 3 + below(depth.len() - 6);
            let (this, next) = (depth[at], depth[at + 1]);
            let mut order = order.clone();
            let (what, expected, state) = match round % 3 {
                0 => {
                    order.remove(this);
                    (0, &["gap"][..], "broken: gap")
                }
                1 => {
                    // Again at once, or after further messages of depth.
                    let after = depth[at + below(3)];
                    order.insert(after + 1, all[this].1.clone());
                    (1, if after == this { &["duplicate"][..] } else { &["stale"] }, "live")
                }
                _ => {
                    order.swap(this, next);
                    (2, &["gap", "stale"][..], "broken: gap")
                }
            };
            let (events, places) = resent(&events, &order);
            let told = run(&plan, &events, 5_000, |_| false);
            let at = format!("{market}, round {round}: {:?}", told.faults);
            assert_eq!(told.reasons().keys().copied().collect::<Vec<_>>(), expected, "{at}");
            assert!(told.reasons().values().all(|n| *n == 1), "{at}");
            assert_eq!(told.state(&plan), state, "{at}");
            told.sound_ticks();
            let ticks = told.tick_seqs().into_iter().zip(told.tick_kinds()).zip(told.tick_health()).zip(levels(&told));
            let mut compared = 0;
            for (((seq, kind), healthy), levels) in ticks {
                if healthy && kind == "depth" {
                    assert_eq!(Some(&levels), right.get(&places[seq as usize]), "{at}: record {seq}");
                    compared += 1;
                }
            }
            assert!(compared > 0, "{at}");
            seen[what] += 1;
        }
    }
    println!("lost, repeated, out of place: {seen:?}, every one seen");
    assert_eq!(seen, [240; 3]);
}

#[test]
fn a_slice_of_a_market_equals_its_model_through_restarts() {
    for (market, sequence) in [("spot_btcusdt", "binance_spot"), ("usdm_ethusdt", "binance_futures")] {
        let Some(events) = rows(market, &["08"]) else { return };
        equals_model(&plan(sequence, 3), &events.slice(0, 7_000));
    }
}
