//! The city keeps its promises: the same rows every time, in event-time order, near the published figures.

use super::*;
use types::Value;

fn generate(table: Table, seed: u64, hours: i64) -> Generate {
    let columns = table.columns().iter().map(|(n, t)| Column { name: (*n).into(), ty: *t, nullable: false }).collect();
    Generate {
        city: CityOptions {
            seed,
            drivers: 300,
            orders_per_day: 6_000,
            start: 1_477_958_400_000_000,
            duration_s: Some(hours * 3_600),
        },
        table,
        spec: Arc::new(RowSpec::new(columns, &[], None, TimeFormat::Auto, usize::MAX)),
        pace: Pace::Free,
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
