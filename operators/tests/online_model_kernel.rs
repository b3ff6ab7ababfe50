//! The promises of the network itself: gradients that are gradients, the same bytes whichever way they are computed,
//! patterns it learns and others it must not, what pruning costs, scores as others compute them.

use std::sync::Arc;

use operators::online_model::design::{Design, Pruning, uniform};
use operators::online_model::job::Job;
use operators::online_model::labels::{DOWN, Quote, Rule, UP, Unit, earned};
use operators::online_model::learner::Learner;
use operators::online_model::logistic::Logistic;
use operators::online_model::network::{Network, softmax};
use operators::online_model::past::Past;
use operators::online_model::prune::prune;
use operators::online_model::score::Score;
use operators::online_model::slots::Slots;
use operators::online_model::window::Window;

/// Numbers from a seed, one after the other.
struct Random(u64, u64);

impl Random {
    fn new(seed: u64) -> Random {
        Random(seed, 0)
    }

    /// From −1 to 1.
    fn next(&mut self) -> f64 {
        self.1 += 1;
        2.0 * uniform(self.0, 99, self.1) - 1.0
    }

    fn sign(&mut self) -> f64 {
        self.next().signum()
    }

    /// About normal: the sum of twelve.
    fn normal(&mut self) -> f64 {
        (0..12).map(|_| self.next() / 2.0).sum()
    }
}

fn design(features: usize, horizons: &[usize]) -> Design {
    Design {
        features,
        slots: features,
        filters: 1,
        is_selected: false,
        horizons: horizons.to_vec(),
        rule: Rule { threshold: 1.0, unit: Unit::HalfSpreads },
        window: 8,
        kernel: 3,
        dilation: 2,
        channels: 16,
        blocks: 2,
        half_life: 20_000.0,
        batch: 32,
        train_every: 32,
        learning_rate: 0.01,
        clip: 1.0,
        pruning: Pruning { sparsity: 0.0, after: 100, until: 400, every: 20, regrow: 0.1 },
        trade_probability: 0.5,
        seed: 1,
    }
}

fn small() -> Design {
    Design {
        window: 3,
        kernel: 2,
        channels: 4,
        batch: 5,
        train_every: 3,
        rule: Rule { threshold: 0.3, unit: Unit::Relative },
        ..design(5, &[1, 3])
    }
}

/// Vectors of noise, with prices that go all three ways.
fn past(design: &Design, vectors: usize, random: &mut Random) -> Past {
    let mut past = Past::new(design);
    for _ in 0..vectors {
        let quote = Quote { price: 1.0 + 0.4 * random.next(), spread: 0.01 };
        past.push(quote).iter_mut().for_each(|z| *z = (2.0 * random.next()) as f32);
    }
    past
}

/// The mean cross-entropy of a minibatch in double precision, straight from the definition.
fn loss(design: &Design, network: &Network, parameters: &[f64], past: &Past, first: u64) -> f64 {
    let mut sum = 0.0;
    for e in 0..design.batch as u64 {
        let n = first + e;
        let inputs: Vec<Vec<f64>> = (0..design.span() as u64)
            .map(|back| {
                let mut x = vec![0.0; design.inputs(0)];
                past.gather(n + 1 + back - design.span() as u64, &Slots::new(design.slots, false).features, &mut x);
                x.into_iter().map(f64::from).collect()
            })
            .collect();
        let mut columns = inputs.clone();
        for block in &network.layout.blocks {
            let matrix = block.matrix;
            columns = (block.reach()..columns.len())
                .map(|t| {
                    let tapped = |c: usize| -> f64 {
                        (0..block.kernel)
                            .map(|j| parameters[block.taps + j * block.lanes + c] * columns[t - j * block.stride][c])
                            .sum()
                    };
                    let tapped: Vec<f64> = (0..matrix.inputs).map(tapped).collect();
                    let output = |o: usize| -> f64 {
                        let weight = |c| parameters[matrix.weights + 4 * ((o / 4) * matrix.inputs + c) + o % 4];
                        let terms = tapped.iter().enumerate().map(|(c, x)| weight(c) * x);
                        (parameters[matrix.bias + o] + terms.sum::<f64>()).max(0.0)
                    };
                    (0..4 * matrix.groups).map(output).collect()
                })
                .collect();
        }
        assert_eq!(columns.len(), design.window);
        let average = |c: usize| columns.iter().map(|column| column[c]).sum::<f64>() / design.window as f64;
        let mut z: Vec<f64> = (0..design.channels).map(average).collect();
        z.extend(&columns[design.window - 1]);
        z.extend(&inputs[design.span() - 1][..design.slots]);
        let head = network.layout.head;
        for (i, h) in design.horizons.iter().enumerate() {
            let logit = |k: usize| -> f64 {
                let weight = |c| parameters[head.weights + 4 * (i * head.inputs + c) + k];
                parameters[head.bias + 4 * i + k] + z.iter().enumerate().map(|(c, z)| weight(c) * z).sum::<f64>()
            };
            let logits = [logit(0), logit(1), logit(2)];
            let class = design.rule.class(past.quote(n), past.quote(n + *h as u64));
            let all: f64 = logits.iter().map(|l| l.exp()).sum();
            sum -= logits[class] - all.ln();
        }
    }
    sum / (design.batch * design.horizons.len()) as f64
}

#[test]
fn the_gradient_is_that_of_the_loss() {
    for (seed, blocks, kernel, dilation, filters) in
        [(1, 1, 2, 1, 1), (2, 2, 2, 2, 3), (3, 2, 3, 1, 2), (4, 3, 2, 2, 1)]
    {
        let design = Design { blocks, kernel, dilation, filters, seed, ..small() };
        let mut random = Random::new(seed);
        let past = past(&design, design.kept(), &mut random);
        let (mut network, logistic) = (Network::new(&design), Logistic::new(&design));
        for block in network.layout.blocks.clone() {
            // Away from the places where a rectifier bends, and with biases that count.
            let bias = block.matrix.bias..block.matrix.bias + 4 * block.matrix.groups;
            network.parameters[bias].iter_mut().for_each(|b| *b = (0.5 + 0.5 * random.next()) as f32);
        }
        let head = network.layout.head;
        for at in (head.weights..head.bias).filter(|at| (at - head.weights) % 4 < 3) {
            network.parameters[at] = (0.5 * random.next()) as f32;
        }
        network.make();
        let mut job = Job::new(&design, &network, &logistic);
        let first = design.span() as u64 + 3;
        job.advance(usize::MAX, first, &past, &Slots::new(5, false).features, &network, &logistic);
        let parameters: Vec<f64> = network.parameters.iter().map(|p| f64::from(*p)).collect();
        let exact = loss(&design, &network, &parameters, &past, first);
        assert!((job.losses[0] - exact).abs() < 1e-5, "loss {} against {exact}", job.losses[0]);
        let greatest = job.gradient.iter().fold(0.0f32, |a, g| a.max(g.abs()));
        let mut moving = 0;
        for at in 0..parameters.len() {
            let mut moved = parameters.clone();
            let step = 1e-6;
            moved[at] += step;
            let up = loss(&design, &network, &moved, &past, first);
            moved[at] -= 2.0 * step;
            let slope = (up - loss(&design, &network, &moved, &past, first)) / (2.0 * step);
            let gradient = f64::from(job.gradient[at]);
            let error = (gradient - slope).abs();
            assert!(error < 1e-4 * f64::from(greatest), "parameter {at}: {gradient} against {slope}, seed {seed}");
            moving += usize::from(slope.abs() > 1e-6);
        }
        assert!(moving > parameters.len() / 2, "{moving} of {} parameters have a gradient", parameters.len());
    }
}

#[test]
fn a_minibatch_may_be_computed_in_pieces() {
    let design = small();
    let mut random = Random::new(5);
    let past = past(&design, design.kept(), &mut random);
    let (network, logistic) = (Network::new(&design), Logistic::new(&design));
    let slots = Slots::new(5, false).features;
    let first = design.span() as u64;
    let mut whole = Job::new(&design, &network, &logistic);
    whole.advance(usize::MAX, first, &past, &slots, &network, &logistic);
    let mut pieces = Job::new(&design, &network, &logistic);
    for units in 0..=pieces.units() {
        if units == 20 {
            pieces.begin(true);
        }
        pieces.advance(units, first, &past, &slots, &network, &logistic);
    }
    let bits =
        |job: &Job| -> Vec<u32> { job.gradient.iter().chain(&job.logistic_gradient).map(|g| g.to_bits()).collect() };
    assert_eq!(bits(&whole), bits(&pieces));
    assert_eq!(whole.losses, pieces.losses);
    assert!(whole.logistic_gradient.iter().any(|g| *g != 0.0));
}

/// A network of which this share of the blocks is pruned.
fn pruned(design: &Design, sparsity: f64) -> Network {
    let mut network = Network::new(design);
    let mut random = Random::new(8);
    network.parameters.iter_mut().for_each(|p| *p += (0.1 * random.next()) as f32);
    let gradient = vec![0.0; network.parameters.len()];
    let mut adam = operators::online_model::adam::Adam::new(gradient.len());
    prune(&mut network, &mut adam, &gradient, sparsity, 0.0);
    network.make();
    network
}

#[test]
fn one_column_an_event_gives_the_bytes_of_the_whole_window() {
    for (blocks, kernel, dilation, window) in [(1, 2, 1, 4), (2, 3, 2, 8), (2, 5, 1, 64), (3, 3, 3, 5)] {
        let design = Design { blocks, kernel, dilation, window, ..design(6, &[1, 3]) };
        let mut random = Random::new(6);
        for network in [pruned(&design, 0.0), pruned(&design, 0.7)] {
            let (mut running, mut columns) = (Window::new(&design), Vec::new());
            for n in 0..500 {
                let scale = if n % 100 < 50 { 1.0 } else { 1e-3 };
                columns.push(std::array::from_fn::<f32, 6, _>(|_| (scale * 3.0 * random.next()) as f32));
                running.next()[..6].copy_from_slice(&columns[n]);
                running.advance(&network);
                if n + 1 < design.span() {
                    continue;
                }
                let mut anew = Window::new(&design);
                for column in &columns[n + 1 - design.span()..] {
                    anew.next()[..6].copy_from_slice(column);
                    anew.advance(&network);
                }
                let mut logits = [[0.0f32; 8]; 2];
                running.logits(&network, &mut logits[0]);
                anew.logits(&network, &mut logits[1]);
                assert_eq!(logits[0].map(f32::to_bits), logits[1].map(f32::to_bits), "at {n}");
            }
        }
    }
}

#[test]
fn a_list_of_blocks_gives_the_bytes_of_the_whole_matrix() {
    let design = design(6, &[1, 3]);
    let listed = pruned(&design, 0.7);
    let mut whole = listed.clone();
    whole.kept.fill(true);
    whole.make();
    let mut random = Random::new(7);
    let mut windows = [Window::new(&design), Window::new(&design)];
    for _ in 0..300 {
        let column: [f32; 6] = std::array::from_fn(|_| (3.0 * random.next()) as f32);
        let mut logits = [[0.0f32; 8]; 2];
        for ((window, network), logits) in windows.iter_mut().zip([&listed, &whole]).zip(&mut logits) {
            window.next()[..6].copy_from_slice(&column);
            window.advance(network);
            window.logits(network, logits);
        }
        assert_eq!(logits[0].map(f32::to_bits), logits[1].map(f32::to_bits));
    }
    // 70 % of the blocks are gone, the taps stay: 2 · 3 taps on 6 and 16 inputs.
    let ((sparse, sparse_bytes), (dense, dense_bytes)) = (listed.cost(), whole.cost());
    assert_eq!(dense, 3 * (6 + 16) + 4 * (4 * 6 + 4 * 16) + 3 * 2 * (32 + 6));
    assert_eq!(sparse, 3 * (6 + 16) + 4 * (7 + 19) + 3 * 23);
    assert!(sparse_bytes < dense_bytes);
    assert_eq!(whole.counts().0, listed.counts().0);
}

/// A stream of vectors whose next move is a function of what has been seen.
struct Task {
    design: Design,
    vectors: usize,
    /// Of which the last so many are judged.
    judged: usize,
    /// From features seen so far (newest last) and noise, the way the price goes next.
    moves: fn(&[Vec<f64>], &mut Random) -> f64,
    features: fn(&mut Random) -> f64,
}

/// Runs it, and gives the scores of the last part: of the network and of the control.
fn learn(task: &Task, seed: u64) -> (Learner, [Score; 2]) {
    let mut learner = Learner::new(&Arc::new(Design { seed, ..task.design.clone() }));
    let (mut random, mut seen, mut price) = (Random::new(1000 + seed), Vec::new(), 100.0);
    for n in 0..task.vectors {
        if n == task.vectors - task.judged {
            learner.scores.iter_mut().for_each(|s| *s = Default::default());
        }
        seen.push((0..task.design.features).map(|_| (task.features)(&mut random)).collect::<Vec<f64>>());
        learner.vector(&seen[n], Quote { price, spread: 0.01 });
        price += 0.01 * (task.moves)(&seen, &mut random);
    }
    let scores = [learner.scores[0][0].clone(), learner.scores[0][1].clone()];
    (learner, scores)
}

/// The product of two lagged signs: no sum of features tells it.
fn exclusive_or(seen: &[Vec<f64>], _: &mut Random) -> f64 {
    let n = seen.len();
    if n < 3 { 0.0 } else { seen[n - 1][0] * seen[n - 3][0] }
}

#[test]
fn a_pattern_over_time_is_learned_that_the_control_cannot_learn() {
    let task = Task {
        design: design(4, &[1]),
        vectors: 30_000,
        judged: 15_000,
        moves: exclusive_or,
        features: |random| random.sign(),
    };
    for seed in 0..3 {
        let (learner, [network, logistic]) = learn(&task, seed);
        println!("exclusive or, seed {seed}: {} against {}", network.accuracy(), logistic.accuracy());
        assert!(network.accuracy() > 0.98, "seed {seed}: {}", network.accuracy());
        assert!((logistic.accuracy() - 0.5).abs() < 0.02, "seed {seed}: {}", logistic.accuracy());
        // Every move is two half-spreads, and crossing takes two.
        assert!(network.trades > 14_000 && (network.earned / network.trades as f64).abs() < 1e-5);
        assert_eq!(learner.refused, 0);
    }
}

#[test]
fn labels_without_a_pattern_give_chance() {
    fn by_chance(_: &[Vec<f64>], random: &mut Random) -> f64 {
        (1.5 * random.next()).round()
    }
    let task = Task {
        design: design(4, &[1]),
        vectors: 30_000,
        judged: 15_000,
        moves: by_chance,
        features: |random| random.sign(),
    };
    for seed in 0..3 {
        let (_, scores) = learn(&task, seed);
        for score in scores {
            println!("chance, seed {seed}: accuracy {} mcc {}", score.accuracy(), score.mcc());
            // Three standard deviations of a coefficient over 15,000 are 0.025.
            assert!(score.mcc().abs() < 0.025, "seed {seed}: {}", score.mcc());
            assert!((score.accuracy() - 1.0 / 3.0).abs() < 0.013, "seed {seed}: {}", score.accuracy());
            assert!(score.log_loss() < 1.12 && score.ece() < 0.05, "{} {}", score.log_loss(), score.ece());
        }
    }
}

#[test]
fn pruning_by_70_percent_costs_a_point_of_f1_at_most() {
    /// Three classes by two folded sums over time, with a tenth of the labels by chance; fourteen features say nothing.
    fn by_folds(seen: &[Vec<f64>], random: &mut Random) -> f64 {
        let n = seen.len();
        if n < 5 || random.next() > 0.8 {
            return (1.5 * random.next()).round();
        }
        let folded = (seen[n - 1][0] + seen[n - 3][0]).abs() - (seen[n - 2][1] - seen[n - 1][1]).abs();
        if folded > 0.5 {
            1.0
        } else if folded < -0.5 {
            -1.0
        } else {
            0.0
        }
    }
    let task = |sparsity| Task {
        design: Design {
            filters: 2,
            learning_rate: 0.005,
            pruning: Pruning { sparsity, after: 3000, until: 5000, every: 50, regrow: 0.05 },
            ..design(16, &[1])
        },
        vectors: 250_000,
        judged: 50_000,
        moves: by_folds,
        features: |random| random.normal(),
    };
    let (mut lost, seeds) = (0.0, 10..16u64);
    for seed in seeds.clone() {
        let (dense, [whole, control]) = learn(&task(0.0), seed);
        let (sparse, [part, _]) = learn(&task(0.7), seed);
        let (all, kept) = (dense.network.cost().0, sparse.network.cost().0);
        println!(
            "seed {seed}: macro-F1 {:.4} dense, {:.4} pruned, {:.4} control; multiply-adds {all}, {kept}",
            whole.f1_macro(),
            part.f1_macro(),
            control.f1_macro()
        );
        assert!(whole.f1_macro() > control.f1_macro() + 0.3, "the network learns what the control cannot");
        assert!(kept * 2 < all, "{kept} of {all} multiply-adds");
        lost += (whole.f1_macro() - part.f1_macro()) / 6.0;
    }
    println!("lost by pruning: {lost:.4}");
    assert!(lost < 0.01, "pruning costs {lost}");
}

#[test]
fn scores_are_those_of_scikit_learn() {
    let p: [[f32; 3]; 12] = [
        [0.7, 0.2, 0.1],
        [0.1, 0.8, 0.1],
        [0.2, 0.3, 0.5],
        [0.4, 0.35, 0.25],
        [0.05, 0.15, 0.8],
        [0.6, 0.3, 0.1],
        [0.15, 0.7, 0.15],
        [0.3, 0.3, 0.4],
        [0.1, 0.1, 0.8],
        [0.25, 0.5, 0.25],
        [0.55, 0.25, 0.2],
        [0.05, 0.9, 0.05],
    ];
    let truth = [0, 1, 2, 1, 2, 0, 1, 0, 2, 2, 1, 1];
    let mut score = Score::default();
    for (p, truth) in p.iter().zip(truth) {
        let predicted = operators::online_model::labels::greatest(*p);
        score.judge(truth, predicted, Some(*p));
    }
    // scikit-learn 1.9.1, with P the table above as float32 and y the truth:
    //   p = P.argmax(1); confusion_matrix(y, p), accuracy_score(y, p), f1_score(y, p, average="macro"),
    //   matthews_corrcoef(y, p), log_loss(y, P)
    // and with numpy, c = P.max(1), b = minimum((c * 10).astype(int), 9):
    //   sum(abs((p[b == i] == y[b == i]).sum() - c[b == i].sum()) for i in range(10)) / len(y)
    assert_eq!(score.confusion, [[2, 0, 1], [2, 3, 0], [0, 1, 3]]);
    let near = |got: f64, expected: f64| assert!((got - expected).abs() < 1e-7, "{got} against {expected}");
    near(score.accuracy(), 0.6666666666666666);
    near(score.f1_macro(), 0.6626984126984127);
    near(score.mcc(), 0.5052911526399114);
    near(score.log_loss(), 0.6432081221893801);
    near(score.ece(), 0.2541666676600774);
}

#[test]
fn a_trade_crosses_the_half_spread_both_ways() {
    let (from, to) = (Quote { price: 100.0, spread: 0.02 }, Quote { price: 100.05, spread: 0.04 });
    // Bought at 100.01, sold at 100.03; sold at 99.99, bought back at 100.07.
    assert!((earned(UP, from, to) - 0.0002).abs() < 1e-12);
    assert!((earned(DOWN, from, to) + 0.0008).abs() < 1e-12);
    let rule = |threshold, unit| Rule { threshold, unit }.class(from, to);
    assert_eq!(rule(4.9, Unit::HalfSpreads), UP);
    assert_eq!(rule(5.1, Unit::HalfSpreads), 1);
    assert_eq!(rule(0.0006, Unit::Relative), 1);
    assert_eq!(Rule { threshold: 1.0, unit: Unit::HalfSpreads }.class(to, from), DOWN);
}

#[test]
fn a_gradient_that_is_not_finite_is_refused() {
    let mut learner = Learner::new(&Arc::new(design(4, &[1])));
    let mut random = Random::new(3);
    for n in 0..500 {
        if n == 200 {
            let bias = learner.network.layout.head.bias;
            learner.network.parameters[bias] = f32::INFINITY;
            learner.network.parameters[bias + 1] = f32::INFINITY;
            learner.network.make();
        }
        let features: Vec<f64> = (0..4).map(|_| random.next()).collect();
        learner.vector(&features, Quote { price: 100.0 + random.sign(), spread: 0.01 });
    }
    let steps = learner.steps;
    assert!(steps > 3 && learner.refused > 5, "{steps} {}", learner.refused);
    let others = learner.network.parameters.iter().filter(|p| p.is_finite()).count();
    assert_eq!(others, learner.network.parameters.len() - 2);
    assert!(learner.adam.means.iter().chain(&learner.adam.squares).all(|m| m.is_finite()));
}

#[test]
fn softmax_is_whole_at_extremes() {
    for logits in [[0.0; 3], [1e30, -1e30, 0.0], [-88.0, -89.0, -400.0], [f32::MAX, f32::MAX, f32::MIN]] {
        let p = softmax(logits);
        assert!((p.iter().sum::<f32>() - 1.0).abs() < 1e-6, "{logits:?}: {p:?}");
    }
}

#[test]
fn features_keep_their_slots_and_newcomers_take_the_lowest() {
    let mut slots = Slots::new(3, true);
    for feature in [7, 2, 9, 4] {
        slots.tell(1, feature, true);
    }
    let settled = slots.settle().unwrap();
    assert_eq!((settled.came, slots.features.clone(), slots.waiting.clone()), (vec![0, 1, 2], vec![2, 4, 7], vec![9]));
    // 4 leaves: who waited takes its slot before who comes.
    slots.tell(2, 4, false);
    slots.tell(2, 1, true);
    let settled = slots.settle().unwrap();
    assert_eq!((settled.left, settled.came), (vec![1], vec![1]));
    assert_eq!((slots.features.clone(), slots.waiting.clone()), (vec![2, 9, 7], vec![1]));
    // {2, 4, 7, 9} and {1, 2, 7, 9}: three of five.
    assert_eq!((slots.selections, slots.overlap_last), (2, 0.6));
    // The next selection settles one that was told before it.
    slots.tell(3, 2, false);
    assert!(slots.tell(4, 5, true).is_some());
    assert_eq!(slots.features, vec![1, 9, 7]);
    // What is told twice counts as told last.
    slots.tell(4, 5, false);
    slots.settle();
    assert_eq!((slots.active(), slots.overlap_last), (vec![1, 7, 9], 1.0));
}
