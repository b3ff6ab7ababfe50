//! The city beside recorded data of the month it is modelled on: concentration, fees, trips, pace.

use std::collections::BTreeMap;

use city::calibration as numbers;
use city::demand::City;

/// The rows of a recorded file, by column name.
fn rows(name: &str) -> Option<Vec<BTreeMap<String, String>>> {
    let file = testkit::recorded_data()?.join("dispatch").join(name);
    let file = std::fs::File::open(&file).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
    let mut reader = csv::Reader::from_reader(zstd::Decoder::new(file).unwrap());
    Some(reader.deserialize().map(|row| row.unwrap()).collect())
}

fn number(row: &BTreeMap<String, String>, column: &str) -> Option<f64> {
    row[column].parse().ok()
}

#[test]
fn pickups_are_as_concentrated_as_recorded() {
    let Some(rows) = rows("didi_chengdu_pickup_counts.csv.zst") else { return };
    let mut recorded: BTreeMap<String, f64> = BTreeMap::new();
    for row in rows.iter().filter(|row| row["pickup_weekend"] == "0") {
        *recorded.entry(row["pickup_grid"].clone()).or_default() += number(row, "pickup_cnt_avg").unwrap();
    }
    let recorded: Vec<f64> = recorded.into_values().collect();
    let city = City::new(1.0);
    let mut simulated = vec![0.0; city.hexagons.len()];
    for order in city.orders(21, None) {
        simulated[city.hexagons.at(&order.from) as usize] += 1.0;
    }
    for cells in [10, 50, 200] {
        let (recorded, simulated) = (share_of_greatest(&recorded, cells), share_of_greatest(&simulated, cells));
        assert!((recorded - simulated).abs() < 0.08, "{cells} hexagons: {recorded:.3} recorded, {simulated:.3} here");
    }
}

fn share_of_greatest(counts: &[f64], cells: usize) -> f64 {
    let mut sorted = counts.to_vec();
    sorted.sort_by(|a, b| b.total_cmp(a));
    sorted[..cells].iter().sum::<f64>() / sorted.iter().sum::<f64>()
}

#[test]
fn fees_trips_and_pace_are_those_recorded() {
    let Some(rows) = rows("didi_chengdu_transitions_2016-11_a.csv.zst") else { return };
    let (mut fees, mut trips) = (Vec::new(), Vec::new());
    // A driver's rides of a day, as seconds of the day.
    let mut days: BTreeMap<(String, String), Vec<(f64, f64)>> = BTreeMap::new();
    for row in rows.iter().filter(|row| !row["order_id"].is_empty()) {
        let (start, stop) = (&row["ride_start_time"], &row["ride_stop_time"]);
        let (from, until) = (seconds(start), seconds(stop) + if start[..10] < stop[..10] { 86_400.0 } else { 0.0 });
        fees.extend(number(row, "reward"));
        if (0.0..20_000.0).contains(&(until - from)) {
            trips.push(until - from);
            days.entry((row["driver_id"].clone(), start[..10].to_owned())).or_default().push((from, until));
        }
    }
    let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
    assert!((mean(&fees) / numbers::REWARD.0 - 1.0).abs() < 0.03, "mean fee {}", mean(&fees));
    assert!((mean(&trips) / numbers::TRIP_SECS.0 - 1.0).abs() < 0.03, "mean trip {}", mean(&trips));
    // Online is from the first ride to the last, without gaps of more than half an hour.
    let mut online = 0.0;
    for rides in days.values_mut() {
        rides.sort_by(|a, b| a.0.total_cmp(&b.0));
        let mut end = f64::NEG_INFINITY;
        for (from, until) in rides {
            let since = if *from - end > 1_800.0 { *from } else { end };
            online += (*until - since).max(0.0);
            end = end.max(*until);
        }
    }
    let pace = trips.len() as f64 / (online / 3_600.0);
    assert!((2.1..2.4).contains(&pace), "{pace} orders an hour online");
}

/// The seconds of the day of `2016-11-07 10:23:03.000000`.
fn seconds(time: &str) -> f64 {
    let part = |at: usize| time[at..at + 2].parse::<f64>().unwrap();
    part(11) * 3_600.0 + part(14) * 60.0 + part(17)
}
