//! The features a step has if it names none.

use super::feature::{Argument, Feature};

/// The standard set, of a book of five levels or more.
pub const STANDARD: [&str; 40] = [
    "relative_spread",
    "weighted_mid_deviation(1)",
    "imbalance(1)",
    "imbalance(3)",
    "imbalance(5)",
    "depth(bid, 5)",
    "depth(ask, 5)",
    "slope_imbalance(5)",
    "gap(bid, 1)",
    "gap(ask, 1)",
    "depletion(bid)",
    "depletion(ask)",
    "ofi(1, 20)",
    "ofi(1, 100)",
    "ofi(5, 20)",
    "normalised_ofi(5, 100)",
    "ew_ofi(1, 1s)",
    "ew_ofi(5, 50)",
    "trade_flow(100)",
    "trade_imbalance(200)",
    "ew_trade_flow(10s)",
    "vwap_deviation(500)",
    "flow_imbalance(50)",
    "flow_imbalance(200)",
    "intensity(quote, 1s)",
    "intensity(trade, 10s)",
    "intensity(arrival, 1s)",
    "intensity(cancel, 1s)",
    "since(trade)",
    "since(move)",
    "price_run",
    "trade_run",
    "return(1)",
    "return(10)",
    "return(100)",
    "volatility(100)",
    "ew_volatility(1000)",
    "jump_share(500)",
    "range(200)",
    "kyle_lambda(20, 1000)",
];

/// The standard set of a book of so many levels: deeper ones are cut to it, and what becomes the same stands once.
pub fn standard(levels: usize) -> Vec<Feature> {
    let mut features: Vec<Feature> = Vec::new();
    for text in STANDARD {
        let mut feature = Feature::parse(text).expect("a feature of the catalogue");
        let named = feature.to_string();
        if named.starts_with("gap") && levels < 2 {
            continue;
        }
        for argument in &mut feature.arguments {
            if let Argument::Levels(named) = argument {
                *named = (*named).min(levels);
            }
        }
        if !features.contains(&feature) {
            features.push(feature);
        }
    }
    features
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_standard_set_fits_every_book() {
        assert_eq!(standard(5).len(), STANDARD.len());
        assert_eq!(standard(10), standard(5));
        for levels in 1..5 {
            assert!(standard(levels).iter().all(|f| f.levels() <= levels));
        }
    }
}
