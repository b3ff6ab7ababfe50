//! What a network learns of a history: what dynamic programming does where there is enough of it, and more where there is not.

use operators::dispatch::random::uniform;
use operators::td_value::Grid;
use operators::td_value::artefact::Artefact;
use operators::td_value::fit::Fitting;
use operators::td_value::train::{Record, Trainer, Training};

const HOUR: i64 = 3_600_000_000;
const TRAINING: Training =
    Training { grid: None, gamma: 0.9, unit_secs: 3_600.0, slot_secs: 3_600, offset: 0, spread: false, sweeps: 4 };

fn fitting(sizes: &[f64], steps: u64) -> Fitting {
    Fitting { sizes: sizes.to_vec(), steps, lipschitz: 1e-6, seed: 1 }
}

/// What both methods learn of the same records.
fn both(training: Training, fitting: Fitting, records: &[Record]) -> [Artefact; 2] {
    let mut trainer = Trainer::of_network(training, fitting);
    records.iter().for_each(|record| trainer.record(record).unwrap());
    let mut fit = trainer.fit().unwrap();
    fit.run(u64::MAX);
    [trainer.learn(), trainer.learned(&fit)]
}

/// Five states, six slots, hundreds of transitions each: on to the next in an hour or to the one after in two; rewards
/// depend on state and hour. The tolerance, stated: 2 % of the greatest value, at every slot and state.
#[test]
fn a_network_comes_near_the_solution_of_dynamic_programming() {
    let mut records = Vec::new();
    for i in 0..12_000u64 {
        let draw = |purpose| uniform(7, i, purpose);
        let (state, hour) = ((draw(0) * 5.0) as i64, 18 + (draw(1) * 6.0) as i64);
        let hop = 1 + (draw(2) * 2.0) as i64;
        records.push(Record {
            at: hour * HOUR,
            from: format!("s{state}"),
            to: Some(format!("s{}", (state + hop) % 5)),
            places: [(0.0, 0.0); 2],
            reward: (state + 1) as f64 * (1.0 + 0.2 * (hour - 18) as f64),
            secs: 3_600.0 * hop as f64,
            counted_secs: 3_600.0 * hop as f64,
        });
    }
    let [exact, network] = both(TRAINING, fitting(&[], 6_000), &records);
    let known: Vec<(f64, f64)> =
        exact.values.iter().copied().zip(network.values.iter().copied()).filter(|(v, _)| !v.is_nan()).collect();
    assert_eq!(known.len(), 30);
    let greatest = known.iter().fold(0.0f64, |most, (v, _)| most.max(v.abs()));
    let worst = known.iter().fold(0.0f64, |most, (v, n)| most.max((v - n).abs()));
    assert!(worst < 0.02 * greatest, "{worst} off, the greatest value is {greatest}");
    assert!(network.made.contains("network after 6000") && exact.made.contains("dynamic programming"));
    assert_eq!(network.fits, exact.fits);
    assert!(network.values.iter().all(|v| v.is_finite()), "it knows every cell in every slot");
}

/// A smooth surface of values over a grid of 14 by 14 cells, told by noisy rewards: in most cells often, in some twice, in
/// some never, of which only the names are known.
#[test]
fn a_network_says_more_of_sparse_cells_than_a_table() {
    // Sparse and unseen cells: a table, a network, one without the Lipschitz penalty. Means over four histories.
    let mut means = [[0.0; 2]; 3];
    for seed in [3, 13, 23, 33] {
        let [table, network] = errors_on_a_surface(seed, 1e-4);
        let [_, free] = errors_on_a_surface(seed, 0.0);
        for (mean, errors) in means.iter_mut().zip([table, network, free]) {
            mean.iter_mut().zip(errors).for_each(|(mean, error)| *mean += error / 4.0);
        }
    }
    let [table, network, free] = means;
    eprintln!("sparse, unseen cells: table {table:?}, network {network:?}, without penalty {free:?}");
    assert!(network[0] < 0.65 * table[0] && network[1] < 0.33 * table[1], "{network:?} against {table:?}");
    assert!(network[0] < 0.9 * free[0], "the penalty: {network:?} against {free:?}");
}

/// Root mean square errors in sparse and in unseen cells, of a table and of a network.
fn errors_on_a_surface(seed: u64, lipschitz: f64) -> [[f64; 2]; 2] {
    let surface = |x: f64, y: f64| 10.0 + 5.0 * libm::sin(x / 3.0) + 4.0 * libm::cos(y / 4.0);
    let (mut records, mut sparse, mut unseen) = (Vec::new(), Vec::new(), Vec::new());
    for (x, y) in (0..14u64).flat_map(|x| (0..14u64).map(move |y| (x, y))) {
        let cell = x * 14 + y;
        let (name, place) = (format!("{x},{y}"), (x as f64, y as f64));
        let count = match uniform(seed, cell, 0) {
            u if u < 0.15 => 0,
            u if u < 0.35 => 2,
            _ => 30,
        };
        for i in 0..count {
            let noise = 6.0 * (uniform(seed + 2, cell, i) + uniform(seed + 3, cell, i) - 1.0);
            let reward = surface(place.0, place.1) + noise;
            let (from, places) = (name.clone(), [place, place]);
            records.push(Record { at: 12 * HOUR, from, to: None, places, reward, secs: 600.0, counted_secs: 600.0 });
        }
        match count {
            0 => unseen.push((name, place)),
            2 => sparse.push((name, place)),
            _ => {}
        }
    }
    // The names of unseen cells come in as where transitions from far away end.
    for (name, place) in &unseen {
        let (from, to, places) = ("far".to_owned(), Some(name.clone()), [(100.0, 100.0), *place]);
        records.push(Record {
            at: 2 * HOUR,
            from,
            to,
            places,
            reward: 0.0,
            secs: 10.0 * 3_600.0,
            counted_secs: 10.0 * 3_600.0,
        });
    }
    let fitting = Fitting { lipschitz, ..fitting(&[2.0, 4.0, 8.0], 4_000) };
    both(TRAINING, fitting, &records).map(|artefact| {
        [&sparse, &unseen].map(|cells| {
            let of = |(name, (x, y)): &(String, (f64, f64))| {
                // A cell a table does not know is given the mean of the surface: more than a table says.
                let value = artefact.value(12 * HOUR, artefact.cell(name).unwrap()).unwrap_or(10.0);
                (value - surface(*x, *y)).powi(2)
            };
            (cells.iter().map(of).sum::<f64>() / cells.len() as f64).sqrt()
        })
    })
}

/// The same history and options, the same bytes, tiles and all; another seed, others.
#[test]
fn a_network_is_a_function_of_history_and_seed() {
    let training = Training { grid: Some(Grid::Tiles(1.0)), ..TRAINING };
    let record = |i: u64| {
        let place = |purpose| (9.0 * uniform(1, i, purpose), 9.0 * uniform(2, i, purpose));
        let (from, to) = (format!("{}", i % 9), (i % 3 > 0).then(|| format!("{}", i % 7)));
        let (places, reward) = ([place(0), place(1)], 5.0 * uniform(3, i, 0));
        Record { at: (i % 24) as i64 * HOUR, from, to, places, reward, secs: 900.0, counted_secs: 900.0 }
    };
    let records: Vec<Record> = (0..500).map(record).collect();
    let learned = |seed| {
        let [_, network] = both(training, Fitting { seed, ..fitting(&[1.0, 3.0], 300) }, &records);
        network.bytes()
    };
    let bytes = learned(1);
    assert_eq!(bytes, learned(1));
    assert_ne!(bytes, learned(2));
    let network = Artefact::parse(&bytes).unwrap();
    assert!(network.names.iter().any(|name| name.starts_with('~')) && network.values.iter().all(|v| v.is_finite()));
    let mut trainer = Trainer::of_network(training, fitting(&[1.0], 1));
    let lost = Record { places: [(f64::NAN, 0.0); 2], ..record(1) };
    assert_eq!(trainer.record(&lost), Err("bad_place"));
    assert!(trainer.learned(&trainer.fit().unwrap()).names.is_empty(), "nothing learned of nothing");
}
