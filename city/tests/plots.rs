//! Plots are files of numbers and names, the same for the same settings.

use city::experiment::Settings;
use city::plots::plots;

#[test]
fn plots_are_whole_and_the_same_again() {
    let settings = Settings { scale: 0.01, seeds: 2, history_days: 1, ..Settings::new(&Default::default()).unwrap() };
    let files = plots(&settings);
    assert_eq!(files.iter().map(|(name, _)| *name).collect::<Vec<_>>(), ["values.svg", "income.svg", "shock.svg"]);
    for (name, svg) in &files {
        assert!(svg.starts_with("<svg ") && svg.ends_with("</svg>\n"), "{name}");
        assert!(!svg.contains("NaN") && !svg.contains("inf"), "{name}: {svg}");
        assert_eq!(svg.matches('<').count(), svg.matches('>').count(), "{name}");
    }
    assert!(files[1].1.contains("v1d3 online only") && files[2].1.contains("ensemble"));
    assert_eq!(files, plots(&settings));
}
