//! From what is known of each feature to the active set: scores, ranks, redundancy, and a set that does not flap.

use super::rules::{Rules, Score};

/// What is known of a feature that varies.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Evidence {
    /// One over the share of its variance within clusters, as a share of the sum of all.
    pub weight: f64,
    /// Its information on the label, in nats.
    pub relevance: f64,
    /// By how many standard deviations that is above chance.
    pub deviations: f64,
}

/// What comes of a feature.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Verdict {
    /// Its score from 0 to 1; none if it does not vary.
    pub score: Option<f64>,
    /// Its rank among those that are not redundant, from 1.
    pub rank: Option<u32>,
    /// The feature that makes it redundant.
    pub redundant_with: Option<u32>,
    /// Whether it is in the set.
    pub is_active: bool,
}

/// Decides. `active` says what was in the set before, `correlation` is asked of pairs of features that vary.
pub fn decide(
    evidence: &[Option<Evidence>],
    active: &[bool],
    correlation: impl Fn(usize, usize) -> f64,
    rules: &Rules,
) -> Vec<Verdict> {
    let mut verdicts = vec![Verdict::default(); evidence.len()];
    let varying: Vec<usize> = (0..evidence.len()).filter(|j| evidence[*j].is_some()).collect();
    let parts: Vec<Evidence> = evidence.iter().flatten().copied().collect();
    for (j, score) in varying.iter().zip(scores(&parts, rules.score)) {
        verdicts[*j].score = Some(score);
    }
    // The best first; of equals the one that stands first.
    let mut order = varying;
    order
        .sort_by(|a, b| verdicts[*b].score.unwrap_or(0.0).total_cmp(&verdicts[*a].score.unwrap_or(0.0)).then(a.cmp(b)));

    // Of two that say the same the better stays, where one in the set counts as `hysteresis` places better.
    let mut places: Vec<(i64, bool, usize)> = order
        .iter()
        .enumerate()
        .map(|(place, j)| (place as i64 - if active[*j] { rules.hysteresis as i64 } else { 0 }, !active[*j], *j))
        .collect();
    places.sort_unstable();
    let mut kept: Vec<usize> = Vec::with_capacity(places.len());
    for (_, _, j) in places {
        // A correlation that is not defined is NaN, and above nothing.
        match kept.iter().find(|k| correlation(j, **k).abs() > rules.correlation_max) {
            Some(k) => verdicts[j].redundant_with = Some(*k as u32),
            None => kept.push(j),
        }
    }
    let mut rank = 0;
    for j in order {
        if verdicts[j].redundant_with.is_none() {
            rank += 1;
            verdicts[j].rank = Some(rank as u32);
            let part = evidence[j].expect("what is ranked varies");
            let (most, least) = if active[j] {
                (rules.size + rules.hysteresis, 0.5 * rules.significance)
            } else {
                (rules.size, rules.significance)
            };
            verdicts[j].is_active = rank <= most && (rules.significance == 0.0 || part.deviations > least);
        }
    }
    verdicts
}

fn scores(parts: &[Evidence], score: Score) -> Vec<f64> {
    match score {
        Score::Product => {
            let (mut weight, mut relevance) = (0.0_f64, 0.0_f64);
            for part in parts {
                (weight, relevance) = (weight.max(part.weight), relevance.max(part.relevance));
            }
            let share = |of: f64, most: f64| if of > 0.0 { of / most } else { 0.0 };
            parts.iter().map(|p| share(p.weight, weight) * share(p.relevance, relevance)).collect()
        }
        Score::RankAverage => {
            let weights = beaten(parts.iter().map(|p| p.weight).collect());
            let relevances = beaten(parts.iter().map(|p| p.relevance).collect());
            weights.iter().zip(relevances).map(|(w, r)| 0.5 * (w + r)).collect()
        }
    }
}

/// For each the share of the others that are less, an equal one counting half; 1 if there are no others.
fn beaten(values: Vec<f64>) -> Vec<f64> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|a, b| values[*a].total_cmp(&values[*b]));
    let mut shares = vec![1.0; values.len()];
    if values.len() < 2 {
        return shares;
    }
    let mut less = 0;
    for equal in order.chunk_by(|a, b| values[*a] == values[*b]) {
        let share = (2 * less + equal.len() - 1) as f64 / (2 * (values.len() - 1)) as f64;
        equal.iter().for_each(|j| shares[*j] = share);
        less += equal.len();
    }
    shares
}

#[cfg(test)]
mod tests {
    use super::super::rules::tests::rules;
    use super::*;

    fn ranked(relevances: &[f64], active: &[usize], twins: &[(usize, usize)], change: fn(&mut Rules)) -> Vec<Verdict> {
        let mut rules = Rules { size: 2, hysteresis: 1, ..rules(relevances.len()) };
        change(&mut rules);
        let evidence: Vec<_> =
            relevances.iter().map(|r| Some(Evidence { weight: 1.0, relevance: *r, deviations: *r })).collect();
        let before: Vec<bool> = (0..relevances.len()).map(|j| active.contains(&j)).collect();
        decide(&evidence, &before, |a, b| if twins.contains(&(a.min(b), a.max(b))) { -1.0 } else { 0.1 }, &rules)
    }

    fn set(verdicts: &[Verdict]) -> Vec<usize> {
        (0..verdicts.len()).filter(|j| verdicts[*j].is_active).collect()
    }

    #[test]
    fn a_feature_enters_at_the_size_and_leaves_beyond_the_hysteresis() {
        assert_eq!(set(&ranked(&[4.0, 3.0, 2.0, 1.0], &[], &[], |_| {})), [0, 1]);
        assert_eq!(set(&ranked(&[4.0, 2.0, 3.0, 1.0], &[0, 1], &[], |_| {})), [0, 1, 2]);
        assert_eq!(set(&ranked(&[4.0, 1.0, 3.0, 2.0], &[0, 1], &[], |_| {})), [0, 2]);
        assert_eq!(set(&ranked(&[1.0], &[], &[], |r| r.score = Score::RankAverage)), [0]);
    }

    #[test]
    fn significance_keeps_chance_out() {
        let strict = |r: &mut Rules| r.significance = 3.0;
        assert_eq!(set(&ranked(&[4.0, 2.0, 1.0], &[], &[], strict)), [0]);
        assert_eq!(set(&ranked(&[4.0, 2.0, 1.0], &[1, 2], &[], strict)), [0, 1]);
    }

    #[test]
    fn of_twins_one_stays_and_it_is_the_one_that_was_there() {
        let fresh = ranked(&[4.0, 3.9, 2.0], &[], &[(0, 1)], |_| {});
        assert_eq!((set(&fresh), fresh[1].redundant_with, fresh[1].rank), (vec![0, 2], Some(0), None));
        let held = ranked(&[4.0, 3.9, 2.0], &[1], &[(0, 1)], |_| {});
        assert_eq!((set(&held), held[0].redundant_with), (vec![1, 2], Some(1)));
        // Two places better is more than the hysteresis.
        let beaten = ranked(&[4.0, 2.0, 3.0], &[1], &[(0, 1)], |_| {});
        assert_eq!((set(&beaten), beaten[1].redundant_with), (vec![0, 2], Some(0)));
    }

    #[test]
    fn ties_go_by_half_and_what_does_not_vary_is_out() {
        assert_eq!(beaten(vec![1.0, 2.0, 2.0, 3.0]), [0.0, 0.5, 0.5, 1.0]);
        let rules = rules(2);
        let one = Evidence { weight: 1.0, relevance: -0.1, deviations: -1.0 };
        let verdicts = decide(&[None, Some(one)], &[true, false], |_, _| f64::NAN, &rules);
        assert_eq!((verdicts[0], verdicts[1].rank, verdicts[1].score), (Verdict::default(), Some(1), Some(0.0)));
    }
}
