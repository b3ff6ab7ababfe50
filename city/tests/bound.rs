//! The bound that knows distances holds: against every way there is on tiny days, and against every policy.

use city::agent::Agent;
use city::calibration as numbers;
use city::chains::upper_bound;
use city::demand::{City, Order, Shift};
use city::experiment::{Market, Settings};
use operators::dispatch::candidates::Point;

const PATIENCE_SECS: u32 = 60;

/// When and where a driver is free.
#[derive(Clone, Copy)]
struct Free {
    at: f64,
    place: Point,
    until: f64,
}

/// A driver serves an order as early as it can, by the rules of the world, moving towards it from when it is free; `None`
/// if it cannot.
fn serve(city: &City, driver: &Free, order: &Order) -> Option<Free> {
    let first = (order.at / 2.0).floor() * 2.0;
    let away = driver.place.distance_m(&order.from);
    let mut round = first;
    while round < first + f64::from(PATIENCE_SECS) {
        let left = (away - numbers::SPEED * (round - driver.at).max(0.0)).max(0.0);
        let is_free = round >= driver.at && round < driver.until;
        if is_free && left <= numbers::RADIUS_M && order.luck >= city.cancels(order, left) {
            let at = round + (left / numbers::SPEED + order.trip_secs).floor();
            return Some(Free { at, place: order.to, ..*driver });
        }
        round += 2.0;
    }
    None
}

/// The most any clairvoyant earns: every order of every driver, tried one after the other.
fn exhaustive(city: &City, drivers: &mut [Free], orders: &[Order], is_served: &mut [bool]) -> f64 {
    let mut best = 0.0f64;
    for order in 0..orders.len() {
        if is_served[order] {
            continue;
        }
        for driver in 0..drivers.len() {
            let before = drivers[driver];
            if let Some(after) = serve(city, &before, &orders[order]) {
                (drivers[driver], is_served[order]) = (after, true);
                best = best.max(orders[order].reward + exhaustive(city, drivers, orders, is_served));
                (drivers[driver], is_served[order]) = (before, false);
            }
        }
    }
    best
}

#[test]
fn no_way_of_a_tiny_day_earns_more() {
    let city = City::new(0.05);
    let (mut exact, mut slack) = (0, 0.0);
    for seed in 0..40 {
        // Six orders of one hour, pressed into 40 minutes: two drivers cannot serve all.
        let all = city.orders(seed, None);
        let of_hour = all.iter().filter(|order| (36_000.0..39_600.0).contains(&order.at));
        let mut orders: Vec<Order> = of_hour.step_by(60).take(6).copied().collect();
        for order in &mut orders {
            order.at = 36_000.0 + (order.at - 36_000.0) * 2.0 / 3.0;
        }
        orders.sort_by(|a, b| a.at.total_cmp(&b.at));
        let start = |at: usize| city.shifts(seed)[at].start;
        let until = 36_000 + 1_500 + 100 * (seed as u32 % 10);
        let shifts: Vec<Shift> = (0..2).map(|at| Shift { from: 35_600, until, start: start(at) }).collect();
        let free = |shift: &Shift| Free { at: 35_600.0, place: shift.start, until: f64::from(shift.until) };
        let mut drivers: Vec<Free> = shifts.iter().map(free).collect();
        let most = exhaustive(&city, &mut drivers, &orders, &mut vec![false; orders.len()]);
        let bound = upper_bound(&city, &orders, &shifts, PATIENCE_SECS, 40);
        assert!(bound.above >= most - 1e-9, "seed {seed}: {most} is more than {bound:?}");
        assert!(bound.above >= bound.taken - 1e-9);
        exact += usize::from(bound.above <= 1.02 * most);
        slack += bound.above / most.max(1.0) / 40.0;
    }
    assert!(exact >= 10 && slack < 1.2, "it says something, too: {exact} are tight, mean ratio {slack}");
}

#[test]
fn nobody_earns_more_in_a_city() {
    for patience_secs in [2, 60] {
        let settings =
            Settings { scale: 0.006, history_days: 1, patience_secs, ..Settings::new(&Default::default()).unwrap() };
        let market = Market::new(&settings);
        let city = City::new(settings.scale);
        for seed in 0..2 {
            let (orders, shifts) = (city.orders(seed, None), city.shifts(seed));
            let bound = upper_bound(&city, &orders, &shifts, patience_secs, 12);
            let everybody: f64 = orders.iter().map(|order| order.reward).sum();
            assert!(bound.above < everybody);
            for agent in [Agent::nearest(), Agent::myopic(), Agent::polar_bear(), market.v1d3()] {
                let total = market.run(&market.draw(seed, None), &agent, &[], false).0.total();
                assert!(total < bound.above, "{}: {total} for at most {bound:?}", agent.name);
            }
        }
    }
}

#[test]
fn without_drivers_nothing_is_earned() {
    let city = City::new(0.002);
    assert_eq!(upper_bound(&city, &city.orders(1, None), &[], PATIENCE_SECS, 3).above, 0.0);
}
