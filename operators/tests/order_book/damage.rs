//! A market damaged again and again, with snapshots now and then, as a venue gives them: whenever the book says that it is
//! well, it is the venue's.

use std::collections::BTreeMap;
use std::ops::Range;

use arrow::compute::concat_batches;
use engine::catalogue::Row;
use types::Value;

use crate::binance::{COLUMNS, levels, messages, plan, resent, rows};
use crate::run::{batch, cells, run};

/// A book as a map from price to size, by side.
type Plain = [BTreeMap<u64, f64>; 2];

const EVENT: usize = 2;
const LAST: usize = 4;
const SIDE: usize = 6;
const PRICE: usize = 7;
const SIZE: usize = 8;

fn apply(book: &mut Plain, rows: &[Row]) {
    for row in rows {
        let (Value::Float(price), Value::Float(size)) = (&row[PRICE], &row[SIZE]) else { panic!("{row:?}") };
        let side = &mut book[usize::from(row[SIDE] == Value::Str("ask".into()))];
        match *size == 0.0 {
            true => side.remove(&price.to_bits()),
            false => side.insert(price.to_bits(), *size),
        };
    }
}

/// The records of a snapshot of a book, like those of the message `like`.
fn snapshot(book: &Plain, like: &Row, number: i64) -> Vec<Row> {
    let mut out = Vec::new();
    for (side, levels) in ["bid", "ask"].into_iter().zip(book) {
        for (price, size) in levels {
            let mut row = like.clone();
            row[EVENT] = Value::Str("snapshot".into());
            row[LAST - 1] = Value::Null;
            row[LAST] = Value::Int(number);
            row[LAST + 1] = Value::Null;
            row[SIDE] = Value::Str(side.into());
            row[PRICE] = Value::Float(f64::from_bits(*price));
            row[SIZE] = Value::Float(*size);
            out.push(row);
        }
    }
    out
}

#[test]
fn a_market_damaged_again_and_again_is_never_told_wrong() {
    for (market, sequence) in [("spot_btcusdt", "binance_spot"), ("coinm_ethusd-perp", "binance_futures")] {
        let Some(events) = rows(market, &["08"]) else { return };
        let events = events.slice(0, 20_000);
        let plan = plan(sequence, 5);
        let all = messages(&events);
        let order: Vec<Range<usize>> = all.iter().map(|(_, rows)| rows.clone()).collect();
        let (clean, places) = resent(&events, &order);
        let clean = run(&plan, &clean, 5_000, |_| false);
        // The book after each message of depth, by the place of its last record, and whether it was told.
        let ticks = clean.tick_seqs().into_iter().zip(clean.tick_health()).zip(levels(&clean));
        let right: BTreeMap<usize, Vec<Option<f64>>> = ticks
            .filter(|((_, healthy), _)| *healthy)
            .map(|((seq, _), levels)| (places[seq as usize], levels))
            .collect();
        let first = all.iter().position(|(kind, _)| kind == "snapshot").unwrap();
        let records: Vec<Row> = cells(&events).collect();
        let (mut sums, mut all_well, mut all_ill) = ([0; 4], 0, 0);
        for seed in 0..20_u64 {
            let mut random = seed * 977 + 5;
            let mut below = |n: usize| {
                random = random.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
                ((random >> 33) % n as u64) as usize
            };
            let (mut book, mut number): (Plain, i64) = (Plain::default(), 0);
            let (mut added, mut order, mut late): (Vec<Row>, Vec<Range<usize>>, Vec<(usize, Range<usize>)>) =
                (Vec::new(), Vec::new(), Vec::new());
            let mut damages = 0;
            for (at, (kind, place)) in all.iter().enumerate() {
                let own = &records[place.clone()];
                let Value::Int(last) = own[0][LAST] else {
                    order.push(place.clone());
                    continue;
                };
                if kind == "snapshot" || (kind == "depthUpdate" && at > first && last > number) {
                    apply(&mut book, own);
                    number = last;
                }
                if kind == "snapshot" {
                    // What came before it and it does not say yet.
                    for (_, place) in all[..at].iter().filter(|(kind, _)| kind == "depthUpdate") {
                        if let Value::Int(last) = records[place.start][LAST]
                            && last > number
                        {
                            apply(&mut book, &records[place.clone()]);
                            number = last;
                        }
                    }
                }
                if kind != "depthUpdate" || at < first + 40 {
                    order.push(place.clone());
                    continue;
                }
                damages += 1;
                match below(60) {
                    0 => {}
                    1 => order.extend([place.clone(), place.clone()]),
                    // Sent again later on.
                    2 => {
                        order.push(place.clone());
                        late.push((at + 1 + below(40), place.clone()));
                    }
                    // Sent late.
                    3 => late.push((at + 1 + below(40), place.clone())),
                    // A price or a size on the way became nothing that makes sense.
                    4 | 5 => {
                        let mut bad = own.to_vec();
                        let which = below(bad.len());
                        bad[which][PRICE + below(2)] =
                            [Value::Null, Value::Float(f64::NAN), Value::Float(-1.0)][below(3)].clone();
                        order.push(events.num_rows() + added.len()..events.num_rows() + added.len() + bad.len());
                        added.extend(bad);
                    }
                    _ => {
                        damages -= 1;
                        order.push(place.clone());
                    }
                }
                // A snapshot is asked for, and comes some messages later.
                if below(15) == 0 {
                    let from = events.num_rows() + added.len();
                    added.extend(snapshot(&book, &own[0], number));
                    late.push((at + below(30), from..events.num_rows() + added.len()));
                }
                let due: Vec<Range<usize>> =
                    late.extract_if(.., |(when, _)| *when <= at).map(|(_, place)| place).collect();
                order.extend(due);
            }
            let extended = concat_batches(&events.schema(), [&events, &batch(&COLUMNS, &added)]).unwrap();
            let (resent, places) = resent(&extended, &order);
            let told = run(&plan, &resent, 3_000, |epoch| epoch % 2 == 0);
            told.sound_ticks();
            let ticks = told.tick_seqs().into_iter().zip(told.tick_kinds()).zip(told.tick_health()).zip(levels(&told));
            let (mut well, mut ill) = (0, 0);
            for (((seq, kind), healthy), levels) in ticks {
                match (healthy, kind.as_str()) {
                    (true, "depth") => {
                        well += 1;
                        let place = places[seq as usize];
                        assert_eq!(Some(&levels), right.get(&place), "{market}, seed {seed}: record {seq}");
                    }
                    (false, "depth") => ill += 1,
                    _ => {}
                }
            }
            let counts = ["resyncs", "gaps", "duplicates", "stale"].map(|name| told.count(&plan, name));
            println!("{market}, seed {seed}: {damages} damages; {well} ticks well, {ill} ill; {counts:?}");
            assert!(damages > 5);
            sums.iter_mut().zip(counts).for_each(|(sum, count)| *sum += count);
            (all_well, all_ill) = (all_well + well, all_ill + ill);
            assert_eq!(told.count(&plan, "quotes_disagree"), 0);
        }
        assert!(sums.iter().all(|n| *n > 10) && all_well * 4 > all_ill, "{sums:?} {all_well} {all_ill}");
    }
}
