//! The city keeps its promises: the same rows every time, in event-time order, near the published figures.

use super::*;
use types::Value;

fn generate(table: Table, seed: u64, hours: i64) -> Generate {
    let city = CityOptions {
        seed,
        drivers: 300,
        orders_per_day: 6_000,
        start: 1_477_958_400_000_000,
        duration_s: Some(hours * 3_600),
    };
    of(Scenario::City(city, table))
}

fn of(scenario: Scenario) -> Generate {
    let column = |(name, ty): &(&str, Type)| Column { name: (*name).into(), ty: *ty, nullable: false };
    let columns = scenario.table().columns.iter().map(column).collect();
    let spec = Arc::new(RowSpec::new(columns, &[], None, TimeFormat::Auto, usize::MAX));
    Generate { scenario, spec, pace: Pace::Free }
}

fn exchange(seed: u64, signal: i64, duration_s: i64) -> MarketOptions {
    MarketOptions {
        seed,
        instruments: 3,
        messages_per_sec: 20,
        regime_s: 200,
        signal,
        start: 1_477_958_400_000_000,
        duration_s: Some(duration_s),
    }
}

fn rows(options: &Generate, seq: u64) -> Vec<(u64, Vec<Value>)> {
    let mut connector = Generator::open(options, "s", seq);
    let mut out = Vec::new();
    loop {
        match connector.next().unwrap() {
            Next::End => return out,
            Next::Waiting => {}
            Next::Rows(rows) => {
                assert!(rows.faults.is_empty() && rows.seqs.is_none());
                for r in 0..rows.rows.num_rows() {
                    out.push((
                        rows.first_seq + r as u64,
                        rows.rows.columns().iter().map(|c| Value::at(c, r)).collect(),
                    ));
                }
            }
        }
    }
}

const TABLES: [Table; 3] = [Table::Drivers, Table::Orders, Table::Trips];

#[test]
fn a_world_is_the_same_every_time_and_from_every_row_on() {
    for table in TABLES {
        let options = generate(table, 7, 3);
        let all = rows(&options, 0);
        assert!(all.len() > 100, "{} {}", table.name(), all.len());
        for seq in [0, 1, 2, all.len() / 2, all.len() - 1, all.len()] {
            assert_eq!(rows(&options, seq as u64), all[seq..], "{} from {seq}", table.name());
        }
        assert_ne!(rows(&generate(table, 8, 3), 0), all, "another seed is another world");
    }
}

#[test]
fn an_exchange_is_the_same_every_time_and_from_every_row_on() {
    let options = of(Scenario::Exchange(exchange(7, 80, 60)));
    let all = rows(&options, 0);
    assert!(all.len() > 5_000, "{}", all.len());
    assert!(all.windows(2).all(|w| w[0].1[0] <= w[1].1[0]), "event times do not go back");
    for seq in [0, 1, 59, 60, all.len() / 2, all.len() - 1, all.len()] {
        assert_eq!(rows(&options, seq as u64), all[seq..], "from {seq}");
    }
    assert_ne!(rows(&of(Scenario::Exchange(exchange(8, 80, 60))), 0), all, "another seed is another world");
}

/// The correlation of what is seen in the last second with the move of the next, for one instrument in each regime: of
/// what makers add and remove, of who takes in trades, and of the moves of the first instrument.
fn told(signal: i64, instrument: u32) -> [[f64; 3]; 3] {
    let (mut market, mut steps) = (Market::new(&exchange(3, signal, 3_600)), Vec::new());
    loop {
        let mut records: Vec<market::Record> = Vec::new();
        if !market.step(&mut records) {
            break;
        }
        steps.push(records);
    }
    let mut books = vec![[std::collections::BTreeMap::new(), std::collections::BTreeMap::new()]; 3];
    let (mut bids, mut flows, mut takers) = (vec![Vec::new(); 3], vec![Vec::new(); 3], vec![Vec::new(); 3]);
    for records in &steps {
        let (mut flow, mut taker) = ([0; 3], [0; 3]);
        for record in records {
            let (who, sign) = (record.instrument as usize, if record.is_bid { 1 } else { -1 });
            if record.kind == market::Kind::Trade {
                taker[who] -= sign * record.lots;
                continue;
            }
            let side = &mut books[who][usize::from(!record.is_bid)];
            let before = side.insert(record.ticks, record.lots).unwrap_or(0);
            if record.lots == 0 {
                side.remove(&record.ticks);
            }
            flow[who] += sign * (record.lots - before);
        }
        for (who, [bid, ask]) in books.iter().enumerate() {
            let (best_bid, best_ask) = (bid.last_key_value().unwrap().0, ask.first_key_value().unwrap().0);
            assert_eq!((best_bid + 1, bid.len(), ask.len()), (*best_ask, market::LEVELS, market::LEVELS));
            bids[who].push(*best_bid);
            flows[who].push(flow[who]);
            takers[who].push(taker[who]);
        }
    }
    let (who, second) = (instrument as usize, 20);
    [0, 1, 2].map(|regime| {
        let at: Vec<usize> = (second..steps.len() - second).filter(|k| k * 50 / 200_000 % 3 == regime).collect();
        let sum = |of: &[i64], k: usize| of[k + 1 - second..=k].iter().sum::<i64>() as f64;
        let correlation = |x: &dyn Fn(usize) -> f64| {
            let y = |k: usize| (bids[who][k + second] - bids[who][k]) as f64;
            let mean = |of: &dyn Fn(usize) -> f64| at.iter().map(|k| of(*k)).sum::<f64>() / at.len() as f64;
            let (x_mean, y_mean) = (mean(x), mean(&y));
            let xy = mean(&|k| (x(k) - x_mean) * (y(k) - y_mean));
            xy / (mean(&|k| (x(k) - x_mean).powi(2)) * mean(&|k| (y(k) - y_mean).powi(2))).sqrt()
        };
        [
            correlation(&|k| sum(&flows[who], k)),
            correlation(&|k| sum(&takers[who], k)),
            correlation(&|k| (bids[0][k] - bids[0][k - second]) as f64),
        ]
    })
}

#[test]
fn what_tells_where_prices_go_changes_with_the_regime() {
    for instrument in [1, 2] {
        for (regime, seen) in told(80, instrument).into_iter().enumerate() {
            for (feature, correlation) in seen.into_iter().enumerate() {
                let expected = if feature == regime { correlation > 0.15 } else { correlation.abs() < 0.1 };
                assert!(expected, "S0{}: regime {regime}, {seen:?}", instrument + 1);
            }
        }
        for seen in told(0, instrument) {
            assert!(seen.iter().all(|c| c.abs() < 0.1), "without a signal: {seen:?}");
        }
    }
}

#[test]
fn rows_come_in_event_time_order_and_keys_are_folded_right() {
    for table in TABLES {
        let all = rows(&generate(table, 3, 30), 0);
        let time = table.columns().iter().position(|(n, _)| *n == table.event_time()).unwrap();
        assert!(all.windows(2).all(|w| w[0].1[time] <= w[1].1[time]), "{}", table.name());
        let Some(deleted) = table.columns().iter().position(|(n, _)| *n == "deleted") else { continue };
        let mut alive = std::collections::BTreeSet::new();
        for (_, row) in &all {
            if row[deleted] == Value::Bool(true) {
                assert!(alive.remove(&row[0]), "{}: only what is there goes: {row:?}", table.name());
            } else {
                alive.insert(row[0].clone());
            }
        }
        assert!(!alive.is_empty());
    }
}

#[test]
fn figures_are_near_the_published_ones() {
    let float = |v: &Value| match v {
        Value::Float(f) => *f,
        Value::Int(i) => *i as f64,
        other => panic!("{other:?}"),
    };
    let moments = |values: &[f64]| {
        let mean = values.iter().sum::<f64>() / values.len() as f64;
        (mean, (values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / values.len() as f64).sqrt())
    };
    let orders: Vec<_> = rows(&generate(Table::Orders, 1, 24), 0)
        .into_iter()
        .map(|(_, r)| r)
        .filter(|r| r[12] == Value::Bool(false))
        .collect();
    assert!((5_700..6_300).contains(&orders.len()), "{}", orders.len());
    let (fare, fare_sd) = moments(&orders.iter().map(|r| float(&r[7])).collect::<Vec<_>>());
    let (duration, duration_sd) = moments(&orders.iter().map(|r| float(&r[8])).collect::<Vec<_>>());
    assert!((fare - 4.22).abs() < 0.25 && (1.5..3.2).contains(&fare_sd), "fare {fare} ± {fare_sd}");
    assert!(
        (duration - 1_327.0).abs() < 80.0 && (duration_sd - 848.0).abs() < 170.0,
        "duration {duration} ± {duration_sd}"
    );
    let trips = rows(&generate(Table::Trips, 1, 24), 0);
    let served = trips.iter().filter(|(_, r)| float(&r[3]) > 0.0).count();
    assert!(served * 10 > orders.len() * 5, "{served} of {} orders were served", orders.len());
}
