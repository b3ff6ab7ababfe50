//! Xu's toy market in small: the order of the policies, and the same figures from the same seed.

use city::statistics::estimate;
use city::toy::{Policy, run};

#[test]
fn value_serves_more_than_myopic_and_nearest() {
    for drivers in [25, 50] {
        let served = |policy| estimate(&run(1, 1, drivers, policy, 150, 150).served);
        let [nearest, myopic, value] = Policy::ALL.map(served);
        assert!(value.mean > myopic.mean + 0.005, "{drivers}: {value:?} {myopic:?}");
        assert!(value.mean > nearest.mean + 0.02, "{drivers}: {value:?} {nearest:?}");
    }
}

#[test]
fn a_seed_gives_the_same_figures() {
    let served = || run(3, 1, 25, Policy::Value, 20, 20).served;
    assert_eq!(served(), served());
}
