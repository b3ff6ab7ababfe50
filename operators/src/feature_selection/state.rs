//! The bytes of what is kept of an instrument, from which it goes on exactly as it would have.

use super::labels::{Queue, Quote};
use super::ranking::Verdict;
use super::referee::Opinions;
use super::relevance::Relevance;
use super::rules::Rules;
use super::selector::{Drifts, Selector, Standing};

/// What a vector takes in the log: the features, price, spread and event time.
pub fn entry_len(features: usize) -> usize {
    8 * (features + 3)
}

impl Selector {
    /// Everything that is kept after the warm-up.
    pub fn save(&self) -> Vec<u8> {
        debug_assert!(self.is_warm(), "during the warm-up the vectors themselves are kept");
        let mut out = Vec::new();
        let (phase, weight, is_begun) = self.forgetting.state();
        for word in [
            self.count,
            phase,
            weight.to_bits(),
            is_begun.into(),
            self.drifts.count,
            self.drifts.last_at as u64,
            self.selections,
            self.unseen.0.to_bits(),
            self.unseen.1,
        ] {
            put(&mut out, word);
        }
        self.scale.save(&mut out);
        self.clusters.save(&mut out);
        self.counts.save(&mut out);
        self.persistence.save(&mut out);
        self.referee.save(&mut out);
        self.detector.save(&mut out);
        self.standings.iter().for_each(|s| save_standing(s, &mut out));
        put(&mut out, self.queue.iter().len() as u64);
        for waiting in self.queue.iter() {
            let Quote { price, spread } = waiting.quote;
            [waiting.number, price.to_bits(), spread.to_bits()].iter().for_each(|w| put(&mut out, *w));
            out.extend_from_slice(&waiting.cells);
            put(&mut out, waiting.opinions.is_some().into());
            let floats = waiting.opinions.iter().flatten().flat_map(|o| o.evidence.iter().chain(&o.shares));
            floats.for_each(|p| put(&mut out, p.to_bits()));
        }
        out
    }

    /// What [`Selector::save`] wrote. None of bytes that are none of ours.
    pub fn restore(rules: &Rules, mut bytes: &[u8]) -> Option<Selector> {
        let mut selector = Selector::new(rules);
        let from = &mut bytes;
        selector.count = take(from)?;
        selector.forgetting.restore((take(from)?, f64::from_bits(take(from)?), take(from)? == 1));
        selector.drifts = Drifts { count: take(from)?, last_at: take(from)? as i64 };
        selector.selections = take(from)?;
        selector.unseen = (f64::from_bits(take(from)?), take(from)?);
        selector.scale.restore(from)?;
        selector.clusters.restore(from)?;
        selector.counts.restore(from)?;
        selector.persistence.restore(from)?;
        selector.referee.restore(from)?;
        selector.detector.restore(from)?;
        for standing in &mut selector.standings {
            *standing = restore_standing(from)?;
        }
        let mut queue = Queue::default();
        for _ in 0..take(from)? {
            let number = take(from)?;
            let quote = Quote { price: f64::from_bits(take(from)?), spread: f64::from_bits(take(from)?) };
            let (cells, rest) = from.split_at_checked(rules.features)?;
            *from = rest;
            let opinions = if take(from)? == 1 {
                let mut opinions = Opinions::default();
                for p in opinions.iter_mut().flat_map(|o| o.evidence.iter_mut().chain(&mut o.shares)) {
                    *p = f64::from_bits(take(from)?);
                }
                Some(opinions)
            } else {
                None
            };
            queue.push(number, quote, cells, opinions);
        }
        selector.queue = queue;
        Some(selector)
    }
}

fn save_standing(standing: &Standing, out: &mut Vec<u8>) {
    let Standing { variance, one_minus_v, weight, relevance, verdict, since } = *standing;
    put(out, variance.to_bits());
    [one_minus_v, weight, verdict.score].iter().for_each(|f| put(out, f.map_or(NONE, f64::to_bits)));
    [relevance.plug_in, relevance.bias, relevance.deviation].iter().for_each(|f| put(out, f.to_bits()));
    put(out, relevance.bins as u64);
    [verdict.rank, verdict.redundant_with].iter().for_each(|n| put(out, n.map_or(NONE, u64::from)));
    put(out, verdict.is_active.into());
    put(out, since as u64);
}

fn restore_standing(from: &mut &[u8]) -> Option<Standing> {
    let mut word = || take(from);
    let float = |word: u64| (word != NONE).then(|| f64::from_bits(word));
    let variance = f64::from_bits(word()?);
    let (one_minus_v, weight, score) = (float(word()?), float(word()?), float(word()?));
    let (plug_in, bias) = (f64::from_bits(word()?), f64::from_bits(word()?));
    let relevance = Relevance { plug_in, bias, deviation: f64::from_bits(word()?), bins: word()? as usize };
    let number = |word: u64| (word != NONE).then_some(word as u32);
    let (rank, redundant_with) = (number(word()?), number(word()?));
    let verdict = Verdict { score, rank, redundant_with, is_active: word()? == 1 };
    Some(Standing { variance, one_minus_v, weight, relevance, verdict, since: word()? as i64 })
}

/// No number: a NaN that is never made.
const NONE: u64 = u64::MAX;

fn put(out: &mut Vec<u8>, word: u64) {
    out.extend_from_slice(&word.to_le_bytes());
}

fn take(from: &mut &[u8]) -> Option<u64> {
    let (first, rest) = from.split_first_chunk::<8>()?;
    *from = rest;
    Some(u64::from_le_bytes(*first))
}
