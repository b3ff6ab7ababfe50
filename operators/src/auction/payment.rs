//! What winners pay: what they are asked, or the smallest bid with which they would still have won.

use super::book::{Book, Position, Stage};
use super::greedy::Greedy;

/// The smallest bid with which a winner of the greedy would still win, all others' bids as they are.
///
/// With the request out of the market, every resource has for it a first position from which on it would be refused: a
/// bid wins if it lifts the pair with some resource before that. A greater bid lifts every pair and never bars one, so
/// the winning bids are all those from the smallest on (Lehmann, O'Callaghan and Shoham 2002).
pub fn critical_bid(book: &Book, greedy: &mut Greedy, request: u32) -> f64 {
    let budget = book.request(request).expect("a winner").budget;
    greedy.without(book, request, |others| {
        let wins = |resource: u32, bid: f64| {
            if book.stage_at_bid(request, resource, others.price(resource), bid) != Stage::Feasible
                || !others.admits(book, request, resource)
            {
                return false;
            }
            let score = book.score_at_bid(request, resource, bid);
            others.would_take(book, &Position { score, request, resource })
        };
        let mut least = budget;
        for resource in 0..book.resources.len() as u32 {
            // Only a resource with which less would do is searched.
            if least > 0.0 && book.resource(resource).is_some() && wins(resource, least.next_down()) {
                least = smallest_bid(least.next_down(), |bid| wins(resource, bid));
            }
        }
        debug_assert!(least < budget || (0..book.resources.len() as u32).any(|j| wins(j, budget)), "no bid wins");
        least
    })
}

/// The smallest bid for which a monotone condition holds; it holds for `bid`. Halves the floats in between.
pub fn smallest_bid(bid: f64, holds: impl Fn(f64) -> bool) -> f64 {
    smallest_bid_above(0.0, bid, &mut |bid| holds(bid))
}

/// The same, if it is at least `least`.
pub fn smallest_bid_above(least: f64, bid: f64, holds: &mut dyn FnMut(f64) -> bool) -> f64 {
    // Positive floats are ordered as their bits.
    let (mut low, mut high) = (least.max(0.0).to_bits(), bid.to_bits());
    while low < high {
        let middle = low + (high - low) / 2;
        if holds(f64::from_bits(middle)) {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    f64::from_bits(high)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_smallest_bid_is_found_to_the_last_bit() {
        for edge in [0.0, f64::MIN_POSITIVE, 1e-300, 0.1, 1.0, 59.999, 60.0] {
            assert_eq!(smallest_bid(60.0, |bid| bid >= edge), edge);
        }
        let mut asked = 0;
        let found = smallest_bid_above(1.0, 2.0, &mut |bid| {
            asked += 1;
            bid > 1.5
        });
        assert_eq!(found, 1.5f64.next_up());
        assert!(asked <= 53);
    }
}
