//! The kernels of dispatch against slow and obvious versions of themselves.

use operators::dispatch::candidates::{Candidate, Idle, Point};
use operators::dispatch::matching::{Edge, best};
use operators::dispatch::offline::{Offline, Recorded, spread};
use operators::dispatch::policy::{Completion, Pair, Policy, curve};
use operators::dispatch::random;
use operators::dispatch::reposition::{Choice, Rule};
use operators::dispatch::tiles::{Cells, Coding, Place, TILED_CELLS};
use operators::dispatch::value::{Anchor, Change, ENDS, StepSize, Transition, Value};
use std::sync::Arc;

use city::random::Draws;

#[test]
fn matching_is_the_first_of_the_best_by_brute_force() {
    let mut draws = Draws::new(1, 0);
    for _ in 0..2_000 {
        let (orders, drivers) = (1 + draws.below(5), 1 + draws.below(5));
        let mut edges = Vec::new();
        for (order, driver) in (0..orders).flat_map(|order| (0..drivers).map(move |driver| (order, driver))) {
            if draws.uniform() < 0.6 {
                // Few different weights, so that there are many ties, and some not worth having.
                let weight = draws.below(6) as f64 - 2.0;
                edges.push(Edge { order: order as u32, driver: driver as u32, weight });
            }
        }
        assert_eq!(best(&edges), brute_force(&edges), "{edges:?}");
    }
}

/// Of all matchings of the greatest weight, without pairs worth nothing, the lexicographically greatest.
fn brute_force(edges: &[Edge]) -> Vec<u32> {
    let mut found: (f64, Vec<bool>) = (0.0, vec![false; edges.len()]);
    for mask in 0u32..1 << edges.len().min(25) {
        let chosen: Vec<bool> = (0..edges.len()).map(|at| mask >> at & 1 == 1).collect();
        let picked = || edges.iter().zip(&chosen).filter(|(_, chosen)| **chosen).map(|(edge, _)| edge);
        let distinct = |of: fn(&Edge) -> u32| {
            let mut ids: Vec<u32> = picked().map(of).collect();
            ids.sort_unstable();
            ids.windows(2).all(|pair| pair[0] != pair[1])
        };
        if picked().any(|e| e.weight <= 0.0) || !distinct(|e| e.order) || !distinct(|e| e.driver) {
            continue;
        }
        let sum: f64 = picked().map(|e| e.weight).sum();
        if sum > found.0 || (sum == found.0 && chosen > found.1) {
            found = (sum, chosen);
        }
    }
    (0..edges.len() as u32).filter(|at| found.1[*at as usize]).collect()
}

#[test]
fn nothing_is_matched_for_less_than_nothing_or_for_no_number() {
    let edge = |order, driver, weight| Edge { order, driver, weight };
    assert_eq!(best(&[]), Vec::<u32>::new());
    assert_eq!(best(&[edge(0, 0, -1.0), edge(1, 1, 0.0), edge(2, 2, f64::NAN)]), Vec::<u32>::new());
    assert_eq!(best(&[edge(0, 0, f64::INFINITY), edge(1, 1, f64::NEG_INFINITY)]), vec![0]);
    // Two orders want one driver; the dearer gets it, although the other then has a worthless one only.
    assert_eq!(best(&[edge(0, 0, 2.0), edge(0, 1, -5.0), edge(1, 0, 3.0)]), vec![2]);
}

#[test]
fn the_nearest_are_those_of_a_sorted_list() {
    let mut draws = Draws::new(2, 0);
    for _ in 0..200 {
        let mut idle = Idle::new(500.0);
        let mut there: Vec<(u32, Point)> = Vec::new();
        for driver in 0..60 {
            // On a grid: many are equally near.
            let at = Point { x: 100.0 * draws.below(20) as f64 - 1_000.0, y: 100.0 * draws.below(20) as f64 - 1_000.0 };
            idle.insert(driver, at);
            there.push((driver, at));
        }
        for _ in 0..20 {
            let (driver, at) = there.swap_remove(draws.below(there.len()));
            assert!(idle.remove(driver, at));
            assert!(!idle.remove(driver, at));
        }
        let from = Point { x: 50.0, y: 100.0 };
        let mut sorted: Vec<Candidate> = there
            .iter()
            .map(|(driver, at)| Candidate { distance_m: at.distance_m(&from), driver: *driver })
            .filter(|candidate| candidate.distance_m <= 500.0)
            .collect();
        sorted.sort_by(|a, b| a.distance_m.total_cmp(&b.distance_m).then(a.driver.cmp(&b.driver)));
        let mut found = Vec::new();
        let within = idle.nearest(&from, 11, &mut found);
        assert_eq!(within, sorted.len());
        sorted.truncate(11);
        assert_eq!(found, sorted);
    }
}

#[test]
fn td_on_a_small_process_converges_to_dynamic_programming() {
    const STATES: usize = 6;
    let mut draws = Draws::new(3, 0);
    // From each state two ways, each with its reward, its time and its probability.
    let ways: Vec<[(usize, f64, f64); 2]> = (0..STATES)
        .map(|_| [0; 2].map(|_| (draws.below(STATES), 4.0 * draws.uniform(), 0.5 + 2.0 * draws.uniform())))
        .collect();
    let gamma = |time: f64| libm::pow(0.8, time);
    let mut exact = [0.0; STATES];
    for _ in 0..500 {
        let value = |(to, reward, time): &(usize, f64, f64), v: &[f64]| reward + gamma(*time) * v[*to];
        let next: Vec<f64> = ways.iter().map(|w| 0.3 * value(&w[0], &exact) + 0.7 * value(&w[1], &exact)).collect();
        exact.copy_from_slice(&next);
    }
    let step = StepSize::Falling { first: 1.0, power: 0.8, least: 0.0 };
    let mut table = Value::new(Coding::Tabular, step, 0.0);
    table.grow(STATES);
    let place = |state: usize| Place { cells: [state as u32; TILED_CELLS] };
    for n in 0..600_000 {
        let state = n % STATES;
        let (to, reward, time) = ways[state][usize::from(draws.uniform() >= 0.3)];
        let transition = Transition { from: place(state), to: Some(place(to)), reward, discount: gamma(time) };
        table.learn(&transition).unwrap();
    }
    for (state, exact) in exact.iter().enumerate() {
        let learned = table.of(&place(state));
        assert!((learned - exact).abs() < 0.01 * exact, "state {state}: {learned} for {exact}");
    }
    assert_eq!(table.take_errors().count, 600_000);
    assert_eq!(table.take_errors().count, 0);
}

#[test]
fn a_lazy_ensemble_is_an_eager_one_to_the_last_bit() {
    let (places, cells) = tiled_places(400.0);
    let offline = Arc::new(random_offline(&places, cells));
    let step = StepSize::Constant(0.05);
    let table = || {
        let mut table = Value::new(Coding::Tiles { size: 1.0 }, step, 0.5);
        table.set_offline(offline.clone());
        table.grow(cells);
        table
    };
    let (mut lazy, mut eager) = (table(), table());
    let mut draws = Draws::new(4, 0);
    for n in 0..20_000 {
        if n % 997 == 0 {
            let anchor =
                if n % 2 == 0 { Anchor::Offline(draws.below(8) as u32) } else { Anchor::Constant(draws.uniform()) };
            let change = Change { keep: if n % 3 == 0 { 0.2 } else { 0.7 }, anchor };
            lazy.change(change);
            eager.change(change);
            // Eager: every cell catches up now.
            let version = eager.changes().len() as u32;
            let caught_up = (0..cells as u32)
                .map(|at| {
                    let cell = eager.cells()[at as usize];
                    operators::dispatch::value::Cell { value: eager.current(at), version, ..cell }
                })
                .collect();
            let changes = eager.changes().to_vec();
            eager.restore(caught_up, changes);
        }
        // Most places are rare.
        let mut place = || places[(draws.uniform() * draws.uniform() * places.len() as f64) as usize];
        let (from, to) = (place(), place());
        let transition = Transition { from, to: Some(to), reward: draws.uniform(), discount: 0.9 };
        assert_eq!(lazy.learn(&transition), eager.learn(&transition));
    }
    for cell in 0..cells as u32 {
        assert_eq!(lazy.current(cell).to_bits(), eager.current(cell).to_bits());
    }
}

fn tiled_places(side: f64) -> (Vec<Place>, usize) {
    let mut cells = Cells::new(Coding::Tiles { size: 1.0 });
    let mut draws = Draws::new(5, 0);
    let places = (0..2_000)
        .map(|_| {
            let (x, y) = (side * draws.uniform(), side * draws.uniform());
            cells.place((x / 50.0) as u64, x, y).unwrap()
        })
        .collect();
    (places, cells.len())
}

fn random_offline(places: &[Place], cells: usize) -> Offline {
    let mut draws = Draws::new(6, 0);
    let history: Vec<Recorded> = (0..5_000)
        .map(|_| {
            let mut place = || places[draws.below(places.len())];
            let (from, to) = (place(), place());
            let slot = draws.below(8) as u32;
            let to = (slot < 7).then_some((to, slot + 1));
            Recorded { from, slot, reward: draws.uniform(), discount: 0.9, to }
        })
        .collect();
    Offline::learn(Coding::Tiles { size: 1.0 }, cells, 8, &history)
}

#[test]
fn tiles_are_those_of_polar_bear() {
    let mut cells = Cells::new(Coding::Tiles { size: 0.01 });
    let place = cells.place(7, 104.066, 30.657).unwrap();
    let mut table = Value::new(cells.coding(), StepSize::Constant(0.025), 0.0);
    table.grow(cells.len());
    table.shift(&place, 8.0).unwrap();
    // V moves by exactly α times the error, whatever the number of cells.
    assert!((table.of(&place) - 0.2).abs() < 1e-15);
    // A place 300 m on shares some tiles and not others.
    let near = cells.place(7, 104.069, 30.657).unwrap();
    table.grow(cells.len());
    let shared = near.cells.iter().filter(|cell| place.cells.contains(cell)).count();
    assert!((1..6).contains(&shared), "{shared}");
    let far = cells.place(8, 104.3, 30.9).unwrap();
    table.grow(cells.len());
    assert_eq!(table.of(&far), 0.0);
    assert_eq!(cells.place(0, f64::NAN, 0.0), None);
    assert_eq!(cells.place(0, 1e300, 0.0), None);
}

#[test]
fn a_population_learns_in_order_and_values_stay_finite() {
    let mut table = Value::new(Coding::Tabular, StepSize::Constant(0.5), 0.0);
    table.grow(2);
    let place = |cell: u32| Place { cells: [cell; TILED_CELLS] };
    let step = |from, to, reward| Transition { from: place(from), to: Some(place(to)), reward, discount: 1.0 };
    let all = [step(0, 1, 4.0), step(1, 0, 0.0), step(0, 1, f64::NAN), step(1, 1, f64::INFINITY), step(0, 0, 1e308)];
    assert_eq!(table.learn_all(&all), 2);
    // The second sees what the first left: V(0) = 2 and then V(1) = 1.
    assert_eq!(table.of(&place(1)), 1.0);
    for _ in 0..100 {
        let _ = table.learn(&step(0, 0, 1e308));
        let _ = table.learn(&step(0, 1, -1e308));
        let _ = table.learn(&step(1, 0, f64::MAX));
        assert!(table.of(&place(0)).is_finite() && table.of(&place(1)).is_finite());
    }
}

#[test]
fn columns_are_learned_as_one_by_one() {
    for step in [StepSize::Constant(0.1), StepSize::Falling { first: 1.0, power: 0.7, least: 0.01 }] {
        let table = || {
            let mut table = Value::new(Coding::Tabular, step, 0.5);
            table.grow(50);
            table
        };
        let (mut columns, mut single) = (table(), table());
        let mut draws = Draws::new(8, 0);
        for _ in 0..20 {
            let mut column = |_| draws.below(50) as u32;
            let from: Vec<u32> = (0..100).map(&mut column).collect();
            let to: Vec<u32> = (0..100).map(|n| if n % 9 == 0 { ENDS } else { column(n) }).collect();
            let rewards: Vec<f64> =
                (0..100).map(|n| if n % 40 == 7 { f64::NAN } else { 3.0 * draws.uniform() }).collect();
            let discounts: Vec<f64> = (0..100).map(|_| draws.uniform()).collect();
            let mut refused = 0;
            for at in 0..100 {
                let place = |cell: u32| Place { cells: [cell; TILED_CELLS] };
                let to = (to[at] != ENDS).then(|| place(to[at]));
                let (reward, discount) = (rewards[at], discounts[at]);
                refused +=
                    u64::from(single.learn(&Transition { from: place(from[at]), to, reward, discount }).is_err());
            }
            assert_eq!(columns.learn_columns(&from, &to, &rewards, &discounts), refused);
            let change = Change { keep: 0.5, anchor: Anchor::Constant(1.0) };
            columns.change(change);
            single.change(change);
        }
        assert_eq!(columns.cells(), single.cells());
        assert_eq!(columns.take_errors(), single.take_errors());
    }
}

#[test]
fn offline_values_are_those_of_backward_induction() {
    // Xu's example: a fee of 30 over three slots.
    assert!((spread(30.0, 0.9, 3) - 27.1).abs() < 1e-12);
    const CELLS: usize = 5;
    const SLOTS: usize = 12;
    let mut draws = Draws::new(7, 0);
    let mut history = Vec::new();
    let place = |cell: usize| Place { cells: [cell as u32; TILED_CELLS] };
    for _ in 0..3_000 {
        let (slot, takes) = (draws.below(SLOTS), 1 + draws.below(3));
        let to = (slot + takes < SLOTS).then(|| (place(draws.below(CELLS)), (slot + takes) as u32));
        let discount = libm::pow(0.9, takes as f64);
        let reward = draws.uniform();
        history.push(Recorded { from: place(draws.below(CELLS)), slot: slot as u32, reward, discount, to });
    }
    let offline = Offline::learn(Coding::Tabular, CELLS, SLOTS as u32, &history);
    let mut values = vec![[0.0; CELLS]; SLOTS + 1];
    for slot in (0..SLOTS).rev() {
        for cell in 0..CELLS {
            let of_state: Vec<f64> = history
                .iter()
                .filter(|r| r.slot as usize == slot && r.from == place(cell))
                .map(|r| {
                    let next = r.to.map_or(0.0, |(to, at)| values[at as usize][to.cells[0] as usize]);
                    r.reward + r.discount * next
                })
                .collect();
            values[slot][cell] = of_state.iter().sum::<f64>() / of_state.len() as f64;
            assert!((offline.of(slot as u32, &place(cell)) - values[slot][cell]).abs() < 1e-12);
        }
    }
}

#[test]
fn the_formula_has_the_policies_as_its_cases() {
    let pair = Pair {
        distance_m: 1_000.0,
        pickup_secs: 333.0,
        trip_secs: 1_200.0,
        reward: 5.0,
        value_destination: 3.0,
        value_origin: 2.0,
    };
    let stays = 1.0 - 0.01 * libm::pow(20.0, 0.5);
    let near = |a: f64, b: f64| assert!((a - b).abs() < 1e-9, "{a} is not {b}");
    near(Completion::polar_bear().at(0.0), 0.99);
    near(Completion::polar_bear().at(2_000.0), 0.8);
    near(Policy::myopic().weigh(&pair).total, stays * 5.0);
    // 1,533 s are two whole units.
    near(Policy::polar_bear().weigh(&pair).total, stays * (5.0 + 0.81 * 3.0 - 2.0));
    near(Policy::v1d3(0.9).weigh(&pair).total, stays * (5.0 + libm::pow(0.9, 1_533.0 / 600.0) * 3.0 - 2.0));
    near(Policy::xu().weigh(&pair).reward, 5.0 * 2.71 / 3.0);
    let nearer = Pair { distance_m: 999.0, reward: 0.0, ..pair };
    assert!(Policy::nearest().weigh(&nearer).total > Policy::nearest().weigh(&pair).total);
    near(curve(200.0, &[0.1, 0.3], 0.0), 0.1);
    near(curve(200.0, &[0.1, 0.3], 300.0), 0.2);
    near(curve(200.0, &[0.1, 0.3], 9_000.0), 0.3);
}

#[test]
fn places_are_sampled_as_often_as_the_softmax_says() {
    let rule = Rule { temperature: 0.7, is_fleet_aware: false };
    let choice = |value, discount| Choice { value, discount, supply: 0.0, demand: 0.0 };
    let choices = [choice(1.0, 1.0), choice(2.0, 0.9), choice(0.0, 0.9), choice(1.5, 0.8), choice(f64::NAN, 0.9)];
    let mut expected = Vec::new();
    rule.probabilities(&choices, &mut expected);
    let sum: f64 = [1.0, 1.8, 0.0, 1.2].iter().map(|score| libm::exp(score / 0.7)).sum();
    assert!((expected[1] - libm::exp(1.8 / 0.7) / sum).abs() < 1e-12);
    assert_eq!(expected[4], 0.0);
    const DRAWS: u64 = 100_000;
    let mut counts = [0u64; 5];
    for n in 0..DRAWS {
        counts[rule.choose(&choices, 9, n % 1_000, n / 1_000).unwrap()] += 1;
    }
    let squares: f64 = counts[..4]
        .iter()
        .zip(&expected)
        .map(|(n, p)| (*n as f64 - DRAWS as f64 * p).powi(2) / (DRAWS as f64 * p))
        .sum();
    // The 99.9 % point of chi-squared with three degrees of freedom.
    assert!(squares < 16.27, "{counts:?} for {expected:?}");
    assert_eq!(rule.choose(&choices, 9, 5, 6), rule.choose(&choices, 9, 5, 6));
    assert_eq!(rule.choose(&[], 9, 5, 6), None);
}

#[test]
fn a_fleet_that_knows_of_itself_does_not_herd() {
    // Ten places with a little demand each; one seems a little better.
    let spread = |is_fleet_aware: bool| {
        let rule = Rule { temperature: 0.05, is_fleet_aware };
        let mut supply = [0.0; 10];
        for driver in 0..1_000 {
            let choices: Vec<Choice> = (0..10)
                .map(|at| {
                    let value = if at == 3 { 2.2 } else { 2.0 };
                    Choice { value, discount: 0.95, supply: supply[at], demand: 100.0 }
                })
                .collect();
            supply[rule.choose(&choices, 1, driver, 0).unwrap()] += 1.0;
        }
        supply.iter().copied().fold(0.0, f64::max)
    };
    assert!(spread(false) > 500.0);
    assert!(spread(true) < 200.0);
}

#[test]
fn draws_are_uniform_and_named_by_what_they_are_for() {
    let mean = (0..100_000).map(|n| random::uniform(1, n, 2)).sum::<f64>() / 1e5;
    assert!((mean - 0.5).abs() < 0.005, "{mean}");
    assert_ne!(random::draw(1, 2, 3), random::draw(1, 3, 2));
    assert_ne!(random::draw(1, 2, 3), random::draw(2, 2, 3));
}
