//! The city: its numbers are the published ones, a seed is a day, and those who look ahead earn more.

use city::agent::{Agent, TILE_M};
use city::bound::upper_bound;
use city::calibration as numbers;
use city::demand::{City, Order, Shock};
use city::experiment::{Market, Settings};
use operators::dispatch::candidates::Point;
use operators::dispatch::tiles::Coding;

fn settings(scale: f64) -> Settings {
    Settings { scale, ..Settings::new(&Default::default()).unwrap() }
}

fn within(what: &str, value: f64, expected: f64, tolerance: f64) {
    let off = (value - expected).abs() / expected;
    assert!(off <= tolerance, "{what}: {value} is {:.1} % off {expected}", 100.0 * off);
}

fn mean_and_deviation(values: &[f64]) -> (f64, f64) {
    let mean = values.iter().sum::<f64>() / values.len() as f64;
    let variance = values.iter().map(|v| (v - mean) * (v - mean)).sum::<f64>() / values.len() as f64;
    (mean, variance.sqrt())
}

#[test]
fn a_day_has_the_published_numbers() {
    let city = City::new(1.0);
    let orders = city.orders(11, None);
    assert_eq!(orders.len(), numbers::ORDERS);
    let shifts = city.shifts(11);
    assert_eq!(shifts.len(), numbers::DRIVERS);
    assert!(shifts.iter().all(|shift| shift.from < shift.until && shift.until <= 86_400));

    let of = |what: fn(&Order) -> f64| orders.iter().map(what).collect::<Vec<f64>>();
    let (mean, deviation) = mean_and_deviation(&of(|o| o.reward));
    within("mean reward", mean, numbers::REWARD.0, 0.02);
    within("deviation of rewards", deviation, numbers::REWARD.1, 0.05);
    let (mean, deviation) = mean_and_deviation(&of(|o| o.trip_secs));
    within("mean trip", mean, numbers::TRIP_SECS.0, 0.02);
    within("deviation of trips", deviation, numbers::TRIP_SECS.1, 0.05);

    let all: f64 = numbers::ORDERS_BY_HOUR.iter().sum();
    for (hour, expected) in numbers::ORDERS_BY_HOUR.iter().enumerate() {
        let count = orders.iter().filter(|o| (o.at / 3_600.0) as usize == hour).count();
        within(&format!("hour {hour}"), count as f64, orders.len() as f64 * expected / all, 0.08);
    }
    for (at, expected) in numbers::CANCELS.iter().enumerate() {
        let distance = numbers::CANCEL_STEP_M * (at + 1) as f64;
        let cancels: Vec<f64> = orders.iter().map(|o| city.cancels(o, distance)).collect();
        within(&format!("cancelled at {distance} m"), mean_and_deviation(&cancels).0, *expected, 0.03);
        assert!(cancels.iter().all(|p| *p <= numbers::CANCEL_MAX));
        if distance == 400.0 {
            let mut sorted = cancels;
            sorted.sort_by(f64::total_cmp);
            let median = sorted[sorted.len() / 2];
            assert!((0.009..0.014).contains(&median), "the median at 400 m is {median}, published is 1.1 %");
        }
    }
}

#[test]
fn orders_are_as_concentrated_as_measured() {
    let city = City::new(1.0);
    let mut counts = vec![0usize; city.hexagons.len()];
    let orders = city.orders(12, None);
    for order in &orders {
        counts[city.hexagons.at(&order.from) as usize] += 1;
    }
    counts.sort_unstable_by(|a, b| b.cmp(a));
    let share = |cells: usize| counts[..cells].iter().sum::<usize>() as f64 / orders.len() as f64;
    for (cells, measured) in [(10, 0.19), (50, 0.52), (200, 0.83)] {
        assert!(
            (share(cells) - measured).abs() < 0.08,
            "{cells} hexagons have {:.3}, measured {measured}",
            share(cells)
        );
    }
}

#[test]
fn where_people_go_changes_over_the_day() {
    let city = City::new(1.0);
    let orders = city.orders(13, None);
    // The business quarter in the south draws people in the morning and lets them go in the evening.
    let business = Point { x: 17_200.0, y: 10_200.0 };
    let balance = |from: f64, until: f64| {
        let of_time = orders.iter().filter(|o| (from..until).contains(&(o.at / 3_600.0)));
        let (mut comes, mut goes) = (0.0, 0.0);
        for order in of_time {
            comes += f64::from(u8::from(order.to.distance_m(&business) < 1_500.0));
            goes += f64::from(u8::from(order.from.distance_m(&business) < 1_500.0));
        }
        comes / goes
    };
    assert!(balance(7.0, 10.0) > 2.0, "{}", balance(7.0, 10.0));
    assert!(balance(17.0, 20.0) < 0.5, "{}", balance(17.0, 20.0));
}

#[test]
fn a_seed_is_a_day() {
    let market = Market::new(&settings(0.03));
    let day = market.draw(5, None);
    let controlled: Vec<u32> = (0..40).map(|at| at * 10).collect();
    let mut agent = market.v1d3();
    agent.repositioning = Some(settings(0.03).waiting.repositioning(true));
    let first = market.run(&day, &agent, &controlled, false).0;
    assert_eq!(first, market.run(&day, &agent, &controlled, true).0, "recording changes nothing");
    assert_eq!(first, Market::new(&settings(0.03)).run(&day, &agent, &controlled, false).0);
    assert_ne!(first, market.run(&market.draw(6, None), &agent, &controlled, false).0);
}

#[test]
fn a_day_adds_up_and_nobody_earns_more_than_the_bound() {
    let settings = settings(0.05);
    let market = Market::new(&settings);
    let city = City::new(0.05);
    let (orders, shifts) = (city.orders(3, None), city.shifts(3));
    let (bound, everybody) = upper_bound(&city, &orders, &shifts, settings.patience_secs);
    assert!(bound < everybody);
    for agent in [Agent::nearest(), Agent::myopic(), Agent::polar_bear(), market.v1d3()] {
        let day = market.run(&market.draw(3, None), &agent, &[], false).0;
        assert_eq!(day.orders, orders.len());
        assert!(day.cancelled < day.answered && day.answered <= day.orders);
        assert!(day.pickup_mean_m() > 0.0 && day.pickup_mean_m() <= numbers::RADIUS_M);
        let income: f64 = day.income_by_slot.iter().sum();
        assert!((income - day.total()).abs() < 1e-6 * income);
        assert!(day.total() < bound, "{}: {} for at most {bound}", agent.name, day.total());
        let online: f64 = shifts.iter().map(|shift| f64::from(shift.until - shift.from)).sum();
        assert!(day.online_secs.iter().sum::<f64>() >= 0.99 * online);
    }
}

#[test]
fn who_looks_ahead_earns_more() {
    let market = Market::new(&settings(0.1));
    let totals = |agent: &Agent| -> f64 {
        (0..2).map(|seed| market.run(&market.draw(seed, None), agent, &[], false).0.total()).sum()
    };
    let [nearest, polar_bear, v1d3] = [Agent::nearest(), Agent::polar_bear(), market.v1d3()].map(|a| totals(&a));
    assert!(polar_bear > nearest, "{polar_bear} {nearest}");
    assert!(v1d3 > 1.02 * polar_bear, "{v1d3} {polar_bear}");
}

#[test]
fn a_shock_adds_orders_in_its_place_and_time_and_nothing_else() {
    let city = City::new(0.1);
    let place = Point { x: 9_500.0, y: 4_800.0 };
    let shock = Shock { at: 54_000.0, secs: 3_600.0, orders: 500, place };
    let (calm, shocked) = (city.orders(4, None), city.orders(4, Some(&shock)));
    assert_eq!(shocked.len(), calm.len() + 500);
    let more: Vec<&Order> = shocked.iter().filter(|o| !calm.contains(o)).collect();
    assert_eq!(more.len(), 500);
    let scaled = Point { x: place.x * 0.1f64.sqrt(), y: place.y * 0.1f64.sqrt() };
    assert!(more.iter().all(|o| (54_000.0..57_600.0).contains(&o.at) && o.from.distance_m(&scaled) < 2_000.0));
}

#[test]
fn all_cells_are_known_beforehand() {
    let city = City::new(0.2);
    let mut cells = city::world::atlas(&city, Coding::Tiles { size: TILE_M });
    let known = cells.len();
    for order in city.orders(9, None) {
        cells.place(u64::from(city.hexagons.at(&order.to)), order.to.x, order.to.y).unwrap();
    }
    assert_eq!(cells.len(), known);
}

#[test]
fn hexagons_cover_the_plane() {
    let city = City::new(0.2);
    let hexagons = &city.hexagons;
    // Centres at the edge are moved into the plane.
    let inner = 1_300.0..hexagons.side_m() - 1_300.0;
    let orders = city.orders(9, None);
    for order in orders.iter().filter(|o| inner.contains(&o.from.x) && inner.contains(&o.from.y)).take(5_000) {
        let here = hexagons.at(&order.from);
        let distance = hexagons.centre(here).distance_m(&order.from);
        assert!(distance <= 611.0, "{distance}");
        let around = hexagons.around(here, 1);
        assert_eq!(around[0], here);
        let nearest = around.iter().map(|h| hexagons.centre(*h).distance_m(&order.from)).fold(f64::MAX, f64::min);
        assert!(nearest >= distance - 1e-6);
        let mut neighbours = around[1..].to_vec();
        neighbours.sort_unstable();
        assert_eq!(neighbours, hexagons.neighbours(here));
    }
}

#[test]
fn who_learns_while_a_crowd_comes_wins_more_of_its_fares() {
    let settings = Settings { seeds: 3, history_days: 1, ..settings(0.1) };
    let answers = city::shock::answers(&settings);
    let won = |name: &str| -> f64 {
        let answer = answers.iter().find(|answer| answer.name == name).unwrap();
        // From the crowd's coming to an hour after its end.
        answer.won.iter().map(|day| day[90..102].iter().sum::<f64>()).sum::<f64>() / answer.won.len() as f64
    };
    let (ensemble, online, offline) = (won("ensemble"), won("online"), won("offline"));
    assert!(ensemble > 1.2 * offline && online > 1.2 * offline, "{ensemble} {online} {offline}");
    assert!(ensemble < 1.0);
}
